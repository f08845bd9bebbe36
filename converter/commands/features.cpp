#include <charconv>
#include <cmath>
#include <memory>

#include "base/files.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"

namespace tonearm {
namespace {

struct Options {
  std::string recipe, data, out;
  Recipe::Choice choice;
  std::string split;
  unsigned seed = 1, threads = 0;
};

void append_name(std::string& text, const std::string& name) {
  text += ",\"";
  for (const char c : name) text += c == '"' ? "\"\"" : std::string(1, c);
  text += '"';
}

void append_number(std::string& text, float value) {
  if (std::isnan(value)) return;  // an empty cell is missing
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  text.append(digits, end);
}

void append_rows(std::string& text, FeatureProgram& program, const Table& table,
                 std::span<const std::size_t> rows, const char* side, Threads& threads) {
  const Dataset data = collect(program, table, rows, threads);
  for (std::size_t row = 0; row < data.rows; ++row) {
    text += side;
    text += data.target[row] > 0.5f ? ",1" : ",0";
    for (const float value : data.row(row)) {
      text += ',';
      append_number(text, value);
    }
    text += '\n';
  }
}

void features(const Options& options) {
  require_writable(options.out);
  const Recipe recipe(options.recipe, options.choice);
  check_settings(recipe.root());
  Threads threads(options.threads);
  if (is_session_recipe(recipe.root()))
    return write_session_features(recipe, options.data, options.seed, threads, options.out);
  const Experiment experiment = load_experiment(recipe.root(), options.data, options.seed);
  FeatureProgram program = fit_features(recipe.root(), experiment.table, experiment.split.training, threads);
  recipe.require_all_known();
  std::string text = "split,target";
  for (const std::string& name : program.names) append_name(text, name);
  text += '\n';
  append_rows(text, program, experiment.table, experiment.split.training, "train", threads);
  append_rows(text, program, experiment.table, experiment.split.validation, "validation", threads);
  append_rows(text, program, experiment.table, experiment.split.held_out, "held_out", threads);
  write_file(options.out, text);
}

}  // namespace

void add_features(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "features",
      "Write the feature vectors that the runtime computes, with label and side of the split, as CSV");
  command->add_option("recipe", options->recipe, "The recipe, a TOML file")->required();
  command->add_option("--data", options->data, "Folder (or file) with the data")->required();
  command->add_option("--out", options->out, "The CSV file to write; numbers read back as the same float32")
      ->required();
  command->add_option("--variant", options->choice.variant, "One of the recipe's [variants]");
  command->add_option("--set", options->choice.overrides, "Override a setting: KEY=VALUE")
      ->expected(1)
      ->take_all();
  command->add_option("--split", options->split, "One of the recipe's [splits]");
  command->add_option("--seed", options->seed, "Decides the split")->capture_default_str();
  command->add_option("--threads", options->threads, "0 takes all cores")
      ->check(CLI::Range(0u, 1024u))
      ->capture_default_str();
  command->callback([options] {
    if (!options->split.empty()) options->choice.overrides.push_back("split=\"" + options->split + "\"");
    features(*options);
  });
}

}  // namespace tonearm
