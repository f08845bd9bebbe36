#include "import/import.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"
#include "data/adapter.h"
#include "data/recipe.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "features/session_features.h"

namespace tonearm {
namespace {

struct Options {
  std::string file, spec, out, json;
  LeafStorage leaves = LeafStorage::exact;
  TreeLayout layout = TreeLayout::automatic;

  TreeStorage storage() const { return {leaves, layout}; }
};

/// What [columns] of a spec says: the imported model's column to a name of ours.
std::map<std::string, std::string> bound_names(const Recipe::Section& spec,
                                               const std::vector<ImportedColumn>& columns) {
  std::map<std::string, std::string> names;
  const Recipe::Section bound = spec.section("columns");
  for (const std::string& key : bound.keys()) {
    const auto is_named = [&](const ImportedColumn& column) { return column.name == key; };
    if (std::none_of(columns.begin(), columns.end(), is_named)) {
      std::vector<std::string> known;
      for (const ImportedColumn& column : columns) known.push_back(column.name);
      const std::string meant = nearest(key, known);
      bound.fail(key, "is no column of the imported model" +
                          (meant.empty() ? std::string() : "; did you mean \"" + meant + "\"?"));
    }
    names[key] = bound.text(key);
  }
  return names;
}

/// A model about sessions: the spec's features are the imported model's columns.
schema::ModelT session_model(const Recipe::Section& spec, const ImportedModel& imported,
                             const std::map<std::string, std::string>& names, TreeStorage storage) {
  const auto fit = [&](schema::ModelT&) -> Moments {
    throw Error(
        "the spec asks for a feature that is fitted to data (a scale or pca without numbers of its own), and "
        "an import sees none: give the encoder its numbers");
  };
  const SessionProgram program(spec, columns_with({}), fit);
  if (!program.branches().empty())
    spec.fail("features", "have a branch of a network, which an import cannot train: remove it");
  schema::ModelT model = program.scattered();
  std::vector<std::uint16_t> slots;
  for (const ImportedColumn& column : imported.columns) {
    const auto bound = names.find(column.name);
    const std::string& wanted = bound == names.end() ? column.name : bound->second;
    const auto found = std::find(program.names().begin(), program.names().end(), wanted);
    if (found == program.names().end()) {
      const std::string meant = nearest(wanted, program.names());
      spec.fail("features", "have no \"" + wanted + "\" for the imported model's column \"" + column.name +
                                "\": add a feature of that name, or bind the column to one in [columns]" +
                                (meant.empty() ? "" : "; did you mean \"" + meant + "\"?"));
    }
    slots.push_back(program.slots()[static_cast<std::size_t>(found - program.names().begin())]);
  }
  append_imported(model, imported, slots, program.context_end(), storage);
  model.card = std::make_unique<schema::CardT>();
  model.card->leaky = program.leaky();
  return model;
}

/// Rows on and beside the thresholds of the trees that read the columns, and plain numbers where none does.
std::vector<float> golden_rows(const schema::ModelT& model) {
  constexpr std::size_t rows = 32;
  std::vector<std::vector<float>> candidates(model.columns.size());
  const auto add_thresholds = [&](const schema::OperatorT& op, const schema::TreeInputsT& inputs) {
    for (std::size_t axis = 0; axis < inputs.slots.size(); ++axis) {
      const std::size_t column = std::size_t{op.input_offset} + inputs.slots[axis];
      if (column >= candidates.size()) continue;
      for (std::uint32_t t = inputs.threshold_begin[axis]; t < inputs.threshold_begin[axis + 1]; ++t) {
        const float value = threshold_value(inputs.thresholds[t]);
        if (!std::isfinite(value)) continue;
        candidates[column].push_back(value);
        candidates[column].push_back(std::nextafter(value, std::numeric_limits<float>::infinity()));
      }
    }
  };
  for (const auto& op : model.operators)
    if (const schema::TreeInputsT* inputs = tree_inputs(*op)) add_thresholds(*op, *inputs);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto categories = static_cast<int>(model.columns[i]->vocabulary.size());
    for (int c = 0; c < categories; ++c) candidates[i].push_back(static_cast<float>(c));
    if (candidates[i].empty()) candidates[i] = {-1, -0.25f, 0, 0.5f, 1, 2, 3};
    if (categories == 0) candidates[i].push_back(0);
  }
  Random random(1);
  std::vector<float> golden;
  for (std::size_t n = 0; n < rows; ++n)
    for (const auto& values : candidates)
      // The last rows have holes; where that gives no number, add_golden() leaves them out.
      golden.push_back(n >= rows * 3 / 4 && random.below(3) == 0
                           ? std::numeric_limits<float>::quiet_NaN()
                           : values[random.below(static_cast<std::uint32_t>(values.size()))]);
  return golden;
}

/// What `tonearm evaluate` will read of the spec in the card, to find and replay logs: complain now.
void read_for_evaluation(const Recipe::Section& spec) {
  const Recipe::Section data = spec.section("data");
  for (const char* key : {"adapter", "folder", "logs", "tracks", "description"}) (void)data.text(key, "");
  (void)data.texts("files");
  (void)data.number("utc_offset", 0, -24, 24);
  (void)read_questions(spec);
}

/// The bound on a score's error; 0 where none is known.
double score_bound(const ImportedModel& imported, LeafStorage leaves) {
  if (const auto* trees = std::get_if<ImportedTrees>(&imported.predictor))
    return score_rounding(trees->ensemble, leaves);
  const double bound = std::get<ImportedProgram>(imported.predictor).score_bound;
  return std::isnan(bound) ? 0 : bound;
}

void fill_card(schema::ModelT& model, const Options& options, const ImportedModel& imported,
               const std::optional<Recipe>& spec) {
  if (model.card == nullptr) model.card = std::make_unique<schema::CardT>();
  schema::CardT& card = *model.card;
  card.name = std::filesystem::path(options.file).stem().string();
  card.task = imported.task;
  if (spec) {
    const Recipe::Section root = spec->root();
    card.name = root.text("name", card.name);
    card.version = root.text("version", "");
    card.task = root.text("task", card.task);
    card.label = root.text("label", "");
    card.licence = root.text("licence", "");
    card.recipe = spec->merged_text();
  }
  card.producer = producer_text();
  card.data = "not known: imported from " + imported.format;
  card.conversion = std::make_unique<schema::ConversionT>();
  card.conversion->score_bound = static_cast<float>(score_bound(imported, options.leaves));
}

void import_file(const Options& options) {
  const std::vector<unsigned char> bytes = read_file(options.file);
  const ImportedModel imported =
      import_model({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, options.file);
  if (imported.columns.empty())
    throw Error(options.file + ": the model has no columns, so nothing to predict from");

  std::optional<Recipe> spec;
  std::map<std::string, std::string> names;
  if (!options.spec.empty()) {
    spec.emplace(options.spec, Recipe::Choice{});
    names = bound_names(spec->root(), imported.columns);
  }
  const bool session = spec && !spec->root().sections("features").empty();
  schema::ModelT model = session ? session_model(spec->root(), imported, names, options.storage())
                                 : table_model(imported, names, options.storage());
  fill_card(model, options, imported, spec);
  if (spec) {
    if (session) read_for_evaluation(spec->root());
    spec->require_all_known();
  }
  if (!session) add_golden(model, golden_rows(model));
  const std::vector<unsigned char> blob = pack(model);
  const Blob checked(blob, options.out);
  write_file(options.out, blob);

  const double bound = static_cast<double>(model.card->conversion->score_bound);
  std::string text =
      format("%s: %s, %s\n", options.file.c_str(), imported.format.c_str(), imported.task.c_str());
  text += format("  %zu columns, %u outputs%s\n", imported.columns.size(), model.output_length,
                 session ? ", on the features of a session" : "");
  for (const std::string& remark : imported.remarks) text += "  " + remark + "\n";
  text += bound > 0 ? format(
                          "  decisions are the trainer's; a score is off by %.2g at most (leaves and sums in "
                          "float32)\n",
                          bound)
                    : "  no bound on the rounding of scores is known: measure it with tonearm evaluate\n";
  text += format("  %s: %s, golden rows %u\n", options.out.c_str(),
                 bytes_text(static_cast<double>(blob.size())).c_str(), checked.info().golden_rows);
  nlohmann::ordered_json json = {
      {"format", imported.format},      {"task", imported.task},     {"columns", nlohmann::json::array()},
      {"outputs", model.output_length}, {"session", session},        {"remarks", imported.remarks},
      {"score_bound", bound},           {"blob_bytes", blob.size()}, {"blob", options.out}};
  for (const auto& column : imported.columns) json["columns"].push_back(column.name);
  print_report(text, json, options.json);
}

}  // namespace

void add_import(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "import", "Turn a model that LightGBM, XGBoost or an ONNX exporter wrote into a blob");
  command->add_option("file", options->file, "LightGBM text, XGBoost JSON or UBJSON, or ONNX")->required();
  command->add_option("--columns", options->spec,
                      "A TOML file that names the columns anew, or binds them to a session's features");
  command->add_option("--out", options->out, "The blob to write, MODEL.tarm")->required();
  command
      ->add_option("--leaves", options->leaves,
                   "exact, or int16: smaller, each leaf rounded to 1/65534 of the range")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, LeafStorage>{{"exact", LeafStorage::exact}, {"int16", LeafStorage::int16}}));
  command
      ->add_option("--layout", options->layout,
                   "auto: fastest with vector instructions; complete: fastest without them (Cortex-M, "
                   "small Arm), for shallow trees, up to 8 levels deep; walk: for deep ones there, and for "
                   "libraries before 0.3")
      ->transform(CLI::CheckedTransformer(tree_layouts));
  command->add_option("--json", options->json, "Write the results as JSON to a file, or - for stdout");
  command->callback([options] { import_file(*options); });
}

}  // namespace tonearm
