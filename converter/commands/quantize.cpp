#include "quantize/quantize.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/quantize_evidence.h"
#include "commands/report.h"
#include "emit/emit.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

using schema::ModelT;

struct Options {
  std::string model, out, weights = "int8", leaves = "int16", rows, data, json;
  std::optional<double> tolerance;
  unsigned threads = 0;
  bool missing_as_zero = false;

  QuantizeOptions quantization() const {
    return {weights == "int8"      ? schema::WeightFormat::Int8
            : weights == "float16" ? schema::WeightFormat::Float16
                                   : schema::WeightFormat::Float32,
            leaves == "int16", missing_as_zero};
  }
};

// --------------------------------------------------------------------------------------------------- report

const char* weights_text(schema::WeightFormat format) {
  return format == schema::WeightFormat::Int8      ? "int8"
         : format == schema::WeightFormat::Float16 ? "float16"
                                                   : "float32";
}

/// How an operator's numbers are stored.
std::string storage_text(const schema::OperatorT& op) {
  if (op.kind.AsAffine() != nullptr) return "float32";
  if (const auto* affine = op.kind.AsQuantizedAffine()) return weights_text(affine->format);
  if (const auto* recurrent = op.kind.AsRecurrent()) return weights_text(recurrent->format);
  const auto leaves = [](schema::LeafFormat format) {
    return std::string(schema::EnumNameLeafFormat(format)) + " leaves";
  };
  if (const auto* trees = op.kind.AsBranchingTrees()) return leaves(trees->leaf_format);
  if (const auto* trees = op.kind.AsSymmetricTrees()) return leaves(trees->leaf_format);
  if (const auto* trees = op.kind.AsBlockTrees()) return leaves(trees->leaf_format);
  return "";
}

/// What an operator takes in the file, tables and all.
std::size_t bytes_of(const schema::OperatorT& op) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(schema::Operator::Pack(builder, &op));
  return builder.GetSize();
}

std::string ended_text(unsigned bin) {
  if (bin < 2) return std::to_string(bin);
  return std::to_string(1u << (bin - 1)) + "-" + std::to_string((1u << bin) - 1);
}

struct Result {
  const ModelT &before, &after;
  std::size_t bytes_before, bytes_after;
  std::vector<OperatorPlan> plans;
  std::string ranges_from;  // "" where none were needed
  const Comparison& comparison;
  double tolerance;
};

std::string report_text(const Result& result) {
  std::string text;
  std::vector<std::vector<std::string>> rows = {{"operator", "before", "after", "bytes", "then", ""}};
  for (std::size_t i = 0; i < result.plans.size(); ++i) {
    const auto& was = *result.before.operators[i];
    const auto& is = *result.after.operators[i];
    rows.push_back({format("%zu ", i) + schema::EnumNameOperatorKind(was.kind.type), storage_text(was),
                    storage_text(is), std::to_string(bytes_of(was)), std::to_string(bytes_of(is)),
                    result.plans[i].why});
  }
  text += table_text(rows);
  text += format("  the blob: %zu bytes, was %zu", result.bytes_after, result.bytes_before);
  if (result.before.session != nullptr)
    text += format("; a session: %u bytes, was %u", result.after.memory->session_bytes,
                   result.before.memory->session_bytes);
  text += "\n";
  if (!result.ranges_from.empty()) text += "  ranges of inputs measured on " + result.ranges_from + "\n";
  const Comparison& comparison = result.comparison;
  text += format("  a probability changed by %.3g at most, %.3g on average, over %s (allowed: %.3g)\n",
                 comparison.changes.largest, comparison.changes.mean(), comparison.over.c_str(),
                 result.tolerance);
  if (comparison.changes.appeared > 0)
    text += format("  %zu probabilities were missing and are numbers now\n", comparison.changes.appeared);
  if (comparison.by_ended.size() > 1) {
    rows = {{"tracks ended", "questions", "mean change", "largest"}};
    for (const auto& [bin, changes] : comparison.by_ended)
      rows.push_back({ended_text(bin), std::to_string(changes.count), format("%.3g", changes.mean()),
                      format("%.3g", changes.largest)});
    text += "\n" + table_text(rows);
  }
  if (comparison.before) {
    const Metrics &was = *comparison.before, &is = *comparison.after;
    rows = {{"", "before", "after"}};
    const auto row = [&](const char* name, double old_value, double new_value) {
      rows.push_back({name, format("%.4f", old_value), format("%.4f", new_value)});
    };
    row("accuracy", was.accuracy, is.accuracy);
    row("auc", was.auc, is.auc);
    row("log_loss", was.log_loss, is.log_loss);
    row("calibration_error", was.calibration_error, is.calibration_error);
    text += "\n" + table_text(rows);
  }
  return text;
}

nlohmann::ordered_json report_json(const Result& result) {
  const Comparison& comparison = result.comparison;
  nlohmann::ordered_json json = {{"bytes_before", result.bytes_before},
                                 {"bytes_after", result.bytes_after},
                                 {"session_bytes_before", result.before.memory->session_bytes},
                                 {"session_bytes_after", result.after.memory->session_bytes},
                                 {"operators", nlohmann::json::array()},
                                 {"ranges_from", result.ranges_from},
                                 {"compared_over", comparison.over},
                                 {"outputs", comparison.changes.count},
                                 {"largest_change", comparison.changes.largest},
                                 {"mean_change", comparison.changes.mean()},
                                 {"no_longer_missing", comparison.changes.appeared},
                                 {"tolerance", result.tolerance}};
  for (std::size_t i = 0; i < result.plans.size(); ++i)
    json["operators"].push_back(
        {{"kind", schema::EnumNameOperatorKind(result.before.operators[i]->kind.type)},
         {"before", storage_text(*result.before.operators[i])},
         {"after", storage_text(*result.after.operators[i])},
         {"bytes_before", bytes_of(*result.before.operators[i])},
         {"bytes_after", bytes_of(*result.after.operators[i])},
         {"why", result.plans[i].why}});
  for (const auto& [bin, changes] : comparison.by_ended)
    json["by_tracks_ended"].push_back({{"tracks_ended", ended_text(bin)},
                                       {"outputs", changes.count},
                                       {"mean_change", changes.mean()},
                                       {"largest_change", changes.largest}});
  if (comparison.before) {
    json["before"] = metrics_json(*comparison.before);
    json["after"] = metrics_json(*comparison.after);
    json["same_data"] = comparison.same_data;
  }
  return json;
}

// -------------------------------------------------------------------------------------------------- command

/// The most precise word for what was done: it also becomes part of the version.
std::string name_of(const std::vector<OperatorPlan>& plans) {
  const auto any = [&](OperatorPlan::To to) {
    return std::any_of(plans.begin(), plans.end(), [&](const OperatorPlan& plan) { return plan.to == to; });
  };
  return any(OperatorPlan::To::int8) ? "int8" : any(OperatorPlan::To::float16) ? "float16" : "int16-leaves";
}

/// The bound on a score's error that an import has, after quantization: known where it is one ensemble whose
/// leaves were rounded, else 0.
double score_bound(const ModelT& before, const ModelT& after, const std::vector<OperatorPlan>& plans) {
  const schema::ConversionT* conversion = before.card->conversion.get();
  if (conversion == nullptr || conversion->score_bound == 0) return 0;
  std::vector<std::size_t> changed;
  for (std::size_t i = 0; i < plans.size(); ++i)
    if (plans[i].to != OperatorPlan::To::as_it_is) changed.push_back(i);
  if (changed.size() != 1 || plans[changed[0]].to != OperatorPlan::To::int16_leaves) return 0;
  return static_cast<double>(conversion->score_bound) + leaf_rounding(*after.operators[changed[0]]);
}

/// The card says what was changed, and nothing that was measured on the model before.
void fill_card(schema::CardT& card, const std::string& name, const Comparison& comparison, double tolerance,
               double bound) {
  card.version += (card.version.empty() ? "" : "+") + name;
  card.producer = producer_text();
  card.conversion = std::make_unique<schema::ConversionT>();
  card.conversion->score_bound = static_cast<float>(bound);
  card.conversion->rows =
      static_cast<std::uint32_t>(std::min<std::size_t>(comparison.changes.count, UINT32_MAX));
  card.conversion->largest_change = static_cast<float>(comparison.changes.largest);
  card.conversion->mean_change = static_cast<float>(comparison.changes.mean());
  card.conversion->tolerance = static_cast<float>(tolerance);
  for (const auto& metric : card.metrics) {
    metric->shipped = std::numeric_limits<float>::quiet_NaN();
    if (!comparison.after || !comparison.same_data) continue;
    const Metrics& after = *comparison.after;
    for (const auto& [of, value] : {std::pair{"accuracy", after.accuracy},
                                    {"auc", after.auc},
                                    {"log_loss", after.log_loss},
                                    {"calibration_error", after.calibration_error}})
      if (metric->name == of) metric->shipped = static_cast<float>(value);
  }
}

void require_self_test(const Blob& blob) {
  if (blob.info().golden_rows == 0) return;
  std::vector<float> scratch(blob.scratch_elements());
  float largest = 0;
  if (tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * sizeof(float), &largest) !=
      TONEARM_OK)
    throw Error(format("the quantized blob does not repeat its golden outputs (%.3g off)",
                       largest));  // never, unless we err
}

void quantize_file(const Options& options) {
  Threads threads(options.threads);
  require_writable(options.out);
  const Blob blob(read_file(options.model), options.model);
  ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);
  const QuantizeOptions quantization = options.quantization();
  std::vector<OperatorPlan> plans;
  bool ranges_needed = false;
  for (std::size_t i = 0; i < model.operators.size(); ++i) {
    plans.push_back(plan_operator(model, i, quantization));
    ranges_needed |= needs_ranges(model, i, quantization);
  }
  const auto in_file = [&](const auto& action) {
    try {
      return action();
    } catch (const Error& error) {
      throw Error(options.model + ": " + error.what());
    }
  };
  if (std::all_of(plans.begin(), plans.end(),
                  [](const OperatorPlan& plan) { return plan.to == OperatorPlan::To::as_it_is; }))
    in_file([&] { return quantize(model, quantization, {}); });  // says why not

  const Evidence evidence = find_evidence(model, options.model, options.rows, options.data, threads);
  ModelT quantized = in_file(
      [&] { return quantize(model, quantization, measure_ranges(model, quantization, evidence.measure)); });
  refresh_golden(quantized);
  ModelT before = model;
  const Comparison comparison = evidence.compare(before, quantized);
  const std::string name = name_of(plans);
  const double tolerance = options.tolerance.value_or(name == "int8" ? 0.02 : 1e-3);
  if (!(comparison.changes.largest <= tolerance))
    throw Error(options.model +
                format(": quantization changes a probability by %.3g over %s, more than %g; "
                       "nothing was written: ",
                       comparison.changes.largest, comparison.over.c_str(), tolerance) +
                (name == "int8"
                     ? "use --weights float16, train with quantization in mind, or allow more with "
                       "--tolerance"
                     : "allow more with --tolerance"));
  fill_card(*quantized.card, name, comparison, tolerance, score_bound(model, quantized, plans));
  const std::vector<unsigned char> bytes = pack(quantized);
  require_self_test(Blob(bytes, "the quantized blob"));
  write_file(options.out, bytes);

  const Result result{model,        quantized, blob.bytes().size(),
                      bytes.size(), plans,     ranges_needed ? evidence.ranges_from : "",
                      comparison,   tolerance};
  std::string text = options.model + " -> " + options.out + "\n" + report_text(result);
  if (options.rows.empty() && options.data.empty())
    text += format("  only %s: give --rows or --data to know more\n", comparison.over.c_str());
  if (!model.card->metrics.empty() && !(comparison.after && comparison.same_data))
    text +=
        "  the card's figures of the shipped blob are empty: only the data that the card names fill them\n";
  print_report(text, report_json(result), options.json);
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "quantize",
      "Make a blob smaller and faster, and show what that changes: int8 or float16 weights of "
      "networks, int16 leaves of trees");
  command->add_option("model", options->model, "The blob, MODEL.tarm")->required();
  command->add_option("--out", options->out, "The quantized blob")->required();
  command->add_option("--weights", options->weights, "int8, float16, or keep")
      ->check(CLI::IsMember({"int8", "float16", "keep"}))
      ->capture_default_str();
  command->add_option("--leaves", options->leaves, "int16, or keep")
      ->check(CLI::IsMember({"int16", "keep"}))
      ->capture_default_str();
  command
      ->add_option("--tolerance", options->tolerance,
                   "Write nothing if a probability changes by more [0.02 with int8 weights, else 0.001]")
      ->check(CLI::Range(0.0, 1e9));
  command->add_flag("--missing-as-zero", options->missing_as_zero,
                    "Int8 also for dense layers whose inputs may be missing: such an input then counts as 0, "
                    "and the output is a number where it was missing");
  auto* rows = command->add_option("--rows", options->rows,
                                   "A CSV file to measure on, columns found by name; of a table model");
  command
      ->add_option("--data", options->data,
                   "Folder (or file) with the data that the card's recipe reads: ranges are measured on what "
                   "was trained on, changes on what was held out")
      ->excludes(rows);
  command->add_option("--threads", options->threads, "0 takes all cores")
      ->check(CLI::Range(0u, 1024u))
      ->capture_default_str();
  command->add_option("--json", options->json, "Write the results as JSON to a file, or - for stdout");
  command->callback([options] { quantize_file(*options); });
}

}  // namespace tonearm
