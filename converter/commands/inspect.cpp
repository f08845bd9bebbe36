#include <algorithm>
#include <cmath>
#include <memory>

#include "base/files.h"
#include "commands/commands.h"
#include "commands/report.h"
#include "emit/emit.h"
#include "emit/networks.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

template <typename T>
std::size_t bytes_of(const std::vector<T>& values) {
  return values.size() * sizeof(T);
}

std::size_t bytes_of(const schema::TreeInputsT& inputs) {
  return bytes_of(inputs.slots) + inputs.missing.size() + bytes_of(inputs.threshold_begin) +
         bytes_of(inputs.thresholds) + bytes_of(inputs.pivot_begin) + bytes_of(inputs.pivots) +
         bytes_of(inputs.category_slots) + bytes_of(inputs.category_counts) +
         bytes_of(inputs.category_slices) + inputs.category_rows.size();
}

struct Part {
  std::string kind, detail;
  std::size_t bytes = 0;
};

Part describe(const schema::FeatureT& feature) {
  Part part{schema::EnumNameEncoder(feature.encoder.type), "", bytes_of(feature.inputs)};
  if (const auto* scale = feature.encoder.AsScale())
    part.bytes += bytes_of(scale->center) + bytes_of(scale->factor);
  if (const auto* ordinal = feature.encoder.AsOrdinal()) part.bytes += bytes_of(ordinal->values);
  if (const auto* bucket = feature.encoder.AsBucket()) {
    part.detail = format("%zu edges", bucket->edges.size());
    part.bytes += bytes_of(bucket->edges);
  }
  if (const auto* projection = feature.encoder.AsProjection())
    part.bytes += bytes_of(projection->mean) + bytes_of(projection->components);
  if (const auto* fact = feature.encoder.AsFact()) part.detail = schema::EnumNameSessionFact(fact->fact);
  bool carries = false;
  if (const auto* lag = feature.encoder.AsLag()) {
    part.detail = format("last %u", lag->count);
    carries = lag->carries;
  }
  if (const auto* mean = feature.encoder.AsMean()) {
    part.detail = (mean->keep == 1 ? std::string("plain") : format("keep %g", mean->keep)) +
                  (mean->weighted ? ", weighted" : "");
    carries = mean->carries;
  }
  if (const auto* window = feature.encoder.AsWindow()) {
    part.detail = format("last %u", window->length);
    carries = window->carries;
  }
  if (const auto* total = feature.encoder.AsTotal()) carries = total->carries;
  if (const auto* streak = feature.encoder.AsStreak()) {
    part.detail = streak->same ? "same value" : "not 0";
    carries = streak->carries;
  }
  if (const auto* repeats = feature.encoder.AsRepeats()) {
    part.detail = format("of the %s, last %u", schema::EnumNameIdentifier(repeats->of), repeats->length);
    carries = repeats->carries;
  }
  if (carries) part.detail += part.detail.empty() ? "carries" : ", carries";
  return part;
}

/// Of an ensemble in a session model: what is asked once per call, and not of each candidate.
template <typename TreesT>
std::string shared_text(const TreesT& trees, std::size_t count) {
  return trees.inputs->context_axes == 0
             ? ""
             : format("; %u of %zu trees and %u of %zu axes of the context", trees.context_trees, count,
                      trees.inputs->context_axes, trees.inputs->slots.size());
}

/// A network's own words: its levels, how its weights are stored, and what an event costs.
std::string recurrent_text(const schema::OperatorT& op, const schema::RecurrentT& recurrent) {
  std::string text;
  for (const auto& layer : recurrent.layers)
    text += format("%s%s %u %s", text.empty() ? "" : ", ", schema::EnumNameCell(layer->cell), layer->units,
                   layer->backward ? "backward" : "forward");
  text += format("; weights %s; ", schema::EnumNameWeightFormat(recurrent.format));
  const std::size_t products = recurrent_products(op, recurrent);
  if (recurrent.sequence == schema::Sequence::Row)
    return text + format("%u steps of one row%s: %zu multiply-adds", recurrent.steps,
                         recurrent.lengths ? " at most" : "", products);
  if (recurrent.steps == 0) return text + format("an event costs one step: %zu multiply-adds", products);
  return text + format("an event costs %u steps%s: %zu multiply-adds", recurrent.steps,
                       recurrent.padded ? format(", padded with %g", recurrent.padding).c_str() : " at most",
                       products);
}

Part describe(const schema::OperatorT& op) {
  Part part{schema::EnumNameOperatorKind(op.kind.type), "", 0};
  if (const auto* affine = op.kind.AsAffine()) {
    part.detail = std::string("activation ") + schema::EnumNameActivation(affine->activation);
    part.bytes = bytes_of(affine->weights) + bytes_of(affine->bias);
  }
  if (const auto* trees = op.kind.AsBranchingTrees()) {
    const bool complete = trees->node_format == schema::NodeFormat::Complete;
    const std::size_t of_tree = (std::size_t{1} << trees->depth) - 1;  // nodes, where all have as many
    const std::size_t nodes = complete ? trees->nodes.size() / 2 : trees->tree_nodes.back();
    const std::size_t count = complete ? nodes / of_tree : trees->tree_nodes.size() - 1;
    const std::size_t leaves = complete ? nodes + count : trees->tree_leaves.back();
    part.detail = format("%zu trees", count);
    if (complete) part.detail += format(" of depth %u", trees->depth);
    part.detail +=
        format(", %zu nodes (%s), %zu leaves (%s), %u thresholds", nodes,
               schema::EnumNameNodeFormat(trees->node_format), leaves,
               schema::EnumNameLeafFormat(trees->leaf_format), trees->inputs->threshold_begin.back()) +
        shared_text(*trees, count);
    part.bytes = bytes_of(*trees->inputs) + bytes_of(trees->nodes) + bytes_of(trees->tree_nodes) +
                 bytes_of(trees->tree_leaves) + bytes_of(trees->leaves) + bytes_of(trees->palette) +
                 bytes_of(trees->base);
  }
  if (const auto* trees = op.kind.AsSymmetricTrees()) {
    part.detail =
        format("%zu trees, depth %u, leaves %s, %zu thresholds", trees->splits.size() / (2u * trees->depth),
               trees->depth, schema::EnumNameLeafFormat(trees->leaf_format),
               std::size_t{trees->inputs->threshold_begin.back()}) +
        shared_text(*trees, trees->splits.size() / (2u * trees->depth));
    part.bytes = bytes_of(*trees->inputs) + bytes_of(trees->splits) + bytes_of(trees->leaves) +
                 bytes_of(trees->palette) + bytes_of(trees->base);
  }
  if (const auto* trees = op.kind.AsBlockTrees()) {
    const std::size_t outputs = trees->base.size();
    part.detail = format("%zu trees in blocks, ", trees->trees * outputs);
    if (trees->depth > 0)
      part.detail += format("symmetric, depth %u", trees->depth);
    else
      part.detail += format("up to %d nodes each",
                            *std::max_element(trees->block_nodes.begin(), trees->block_nodes.end()));
    const auto thresholds = trees->inputs->threshold_begin.back();
    part.detail += format(", leaves %s, %u thresholds in %u slices",
                          schema::EnumNameLeafFormat(trees->leaf_format), thresholds, trees->inputs->slices);
    if (!trees->inputs->category_slots.empty())
      part.detail += format(", %zu category axes", trees->inputs->category_slots.size());
    part.detail += shared_text(*trees, trees->trees);
    part.bytes = bytes_of(*trees->inputs) + trees->block_nodes.size() + bytes_of(trees->nodes) +
                 bytes_of(trees->leaves) + bytes_of(trees->palette) + bytes_of(trees->base);
  }
  if (const auto* affine = op.kind.AsQuantizedAffine()) {
    part.detail = format("activation %s; weights %s", schema::EnumNameActivation(affine->activation),
                         schema::EnumNameWeightFormat(affine->format));
    part.bytes = affine->weights.size() + bytes_of(affine->bias) + bytes_of(affine->input_factors) +
                 bytes_of(affine->scales);
  }
  if (const auto* recurrent = op.kind.AsRecurrent()) {
    part.detail = recurrent_text(op, *recurrent);
    part.bytes = bytes_of(recurrent->input_factors);
    for (const auto& layer : recurrent->layers)
      part.bytes += layer->input_weights.size() + layer->recurrent_weights.size() + bytes_of(layer->bias) +
                    bytes_of(layer->recurrent_bias) + bytes_of(layer->bias_codes) +
                    bytes_of(layer->recurrent_bias_codes) + bytes_of(layer->input_multipliers) +
                    bytes_of(layer->recurrent_multipliers);
  }
  if (const auto* calibrate = op.kind.AsCalibrate()) {
    part.detail = calibrate->method == schema::CalibrationMethod::Sigmoid
                      ? format("Sigmoid, slope %g, intercept %g", calibrate->slope, calibrate->intercept)
                      : format("Isotonic, %zu points", calibrate->x.size());
    part.bytes = bytes_of(calibrate->x) + bytes_of(calibrate->y);
  }
  return part;
}

std::string slots(std::size_t first, std::size_t count) {
  return count == 1 ? format("%zu", first) : format("%zu-%zu", first, first + count - 1);
}

std::string card_text(const schema::CardT& card) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    if (!value.empty()) text += format("  %-12s %s\n", name, value.c_str());
  };
  line("name", card.name + (card.version.empty() ? "" : ", version " + card.version));
  line("task", card.task);
  line("label", card.label + format(" (base rate %.3f)", card.base_rate));
  if (card.synthetic) line("SYNTHETIC", "trained on generated data");
  if (card.leaky) line("LEAKY", "reads what is only known after the fact");
  line("data", card.data);
  line("licence", card.licence);
  line("producer", card.producer);
  if (card.split != nullptr)
    line("split", card.split->rule +
                      format("; trained on %u, held out %u, digest ", card.split->train_rows,
                             card.split->held_out_rows) +
                      card.split->digest);
  for (const auto& metric : card.metrics)
    line(metric->name.c_str(),
         std::isnan(metric->shipped)
             ? format("not measured (%.4f as trained)", metric->trained)
             : format("%.4f held-out (%.4f as trained)", metric->shipped, metric->trained));
  if (card.conversion != nullptr && card.conversion->rows > 0)
    line("conversion",
         format("a probability changed by %.2g at most, %.2g on average, over %u rows",
                card.conversion->largest_change, card.conversion->mean_change, card.conversion->rows));
  if (card.conversion != nullptr && card.conversion->score_bound > 0)
    line("rounding",
         format("a score differs from the imported model's by %.2g at most", card.conversion->score_bound));
  return text;
}

void inspect(const std::string& path, bool show_recipe, const std::string& json_path) {
  const Blob blob(read_file(path), path);
  schema::ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);

  std::string text = "Card\n" + card_text(*model.card) + "\nColumns\n";
  nlohmann::ordered_json json = {{"name", model.card->name}, {"bytes", blob.bytes().size()}};
  std::vector<std::vector<std::string>> rows = {{"slot", "name", "source", "type", "if missing"}};
  for (std::size_t i = 0; i < model.columns.size(); ++i) {
    const schema::ColumnT& column = *model.columns[i];
    rows.push_back(
        {std::to_string(i), column.name, schema::EnumNameSource(column.source),
         column.vocabulary.empty() ? "number" : format("%zu categories", column.vocabulary.size()),
         model.missing_fill[i] == model.missing_fill[i] ? format("%g", model.missing_fill[i]) : "kept"});
    json["columns"].push_back(column.name);
  }
  text += table_text(rows);

  if (model.session != nullptr && model.label != nullptr) {
    text += format("\nSession: a new one after %u idle seconds%s\n", model.session->idle_gap,
                   model.session->cap == 0 ? "" : format(" and after %u tracks", model.session->cap).c_str());
    if (model.session->idle_gap == 0) text += "  (0: no gap ends a session)\n";
    text += format("Skip: level %u or more, or, where the player gives none, reasons %08x",
                   model.label->level, model.label->reasons);
    if (model.label->below_ms > 0) text += format(", before %u ms", model.label->below_ms);
    if (model.label->below_share > 0) text += format(", before %g of the track", model.label->below_share);
    text += "\n";
  }
  std::size_t explained = 0;
  rows = {{"program", "phase", "reads", "writes", "bytes", ""}};
  for (const auto& feature : model.features) {
    const Part part = describe(*feature);
    explained += part.bytes;
    rows.push_back(
        {part.kind, schema::EnumNamePhase(feature->phase), format("%zu slots", feature->inputs.size()),
         slots(feature->output_offset, feature->output_length), std::to_string(part.bytes), part.detail});
    json["features"].push_back(
        {{"encoder", part.kind}, {"outputs", feature->output_length}, {"bytes", part.bytes}});
  }
  for (const auto& op : model.operators) {
    const Part part = describe(*op);
    explained += part.bytes;
    rows.push_back({part.kind, schema::EnumNamePhase(op->phase), slots(op->input_offset, op->input_length),
                    slots(op->output_offset, op->output_length), std::to_string(part.bytes), part.detail});
    json["operators"].push_back({{"kind", part.kind},
                                 {"detail", part.detail},
                                 {"outputs", op->output_length},
                                 {"bytes", part.bytes}});
  }
  text += "\nProgram\n" + table_text(rows);
  text += "  the probability is slot " + slots(model.output_offset, model.output_length) + "\n";

  const std::size_t golden =
      model.golden == nullptr ? 0 : bytes_of(model.golden->rows) + bytes_of(model.golden->outputs);
  text += "\nBytes\n" +
          table_text({{"part", "bytes"},
                      {"features and operators", std::to_string(explained)},
                      {"golden vectors", std::to_string(golden)},
                      {"recipe in the card", std::to_string(model.card->recipe.size())},
                      {"card, names, structure",
                       std::to_string(blob.bytes().size() - explained - golden - model.card->recipe.size())},
                      {"the blob", std::to_string(blob.bytes().size())}});
  text += format(
      "\nMemory: scratch %u bytes, session %u bytes; format %u.%u, needs runtime %u.%u.%u; model id %08x\n",
      model.memory->scratch_bytes, model.memory->session_bytes, model.format_major, model.format_minor,
      model.runtime_minimum / 10000, model.runtime_minimum / 100 % 100, model.runtime_minimum % 100,
      model.crc32);
  if (show_recipe) text += "\nRecipe\n" + model.card->recipe + "\n";
  json["scratch_bytes"] = model.memory->scratch_bytes;
  json["session_bytes"] = model.memory->session_bytes;
  json["golden_rows"] = blob.info().golden_rows;
  json["recipe"] = model.card->recipe;
  print_report(text, json, json_path);
}

}  // namespace

void add_inspect(CLI::App& app) {
  struct Options {
    std::string model, json;
    bool recipe = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "Show a blob: card, columns, program, bytes and memory");
  command->add_option("model", options->model, "The blob, MODEL.tarm")->required();
  command->add_flag("--recipe", options->recipe, "Show the recipe it was made by, too");
  command->add_option("--json", options->json, "Write it as JSON to a file, or - for stdout");
  command->callback([options] { inspect(options->model, options->recipe, options->json); });
}

}  // namespace tonearm
