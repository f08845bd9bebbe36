#include "commands/session_networks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "data/adapter.h"
#include "emit/emit.h"
#include "emit/networks.h"
#include "quantize/quantize.h"

namespace tonearm {
namespace {

constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
const std::string reason_task = "reason_end=";

/// The outcome of a play that a task asks for: 0 or 1, NaN where the log does not say.
float outcome_of(const std::string& task, const tonearm_end& end) {
  if (task.starts_with(reason_task)) {
    const std::uint32_t reason = enumerator(reason_words, std::string_view(task).substr(reason_task.size()));
    return end.reason == TONEARM_REASON_UNKNOWN ? unknown : end.reason == reason ? 1.0f : 0.0f;
  }
  if (end.skip == TONEARM_SKIP_UNKNOWN) return unknown;
  const std::uint32_t level = static_cast<std::uint32_t>(end.skip);
  const bool is = task == "skip_1"   ? level >= TONEARM_SKIP_VERY_BRIEFLY
                  : task == "skip_2" ? level >= TONEARM_SKIP_BRIEFLY
                  : task == "skip_3" ? level >= TONEARM_SKIP_MOSTLY
                                     : level == TONEARM_SKIP_NOT_SKIPPED;
  return is ? 1.0f : 0.0f;
}

std::vector<float> largest(std::span<const float> values, std::size_t features) {
  std::vector<float> result(features);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i])) result[i % features] = std::max(result[i % features], std::abs(values[i]));
  return result;
}

/// The largest magnitude of each input of a branch's step, or of the row; never 0, so that it has a code.
std::vector<float> input_ranges(const BranchOptions& options, const SessionRanges& ranges) {
  constexpr float smallest = 1e-6f, largest_input = 1e6f;  // what enters a network is limited to the latter
  const std::vector<float>& of = options.source == BranchOptions::Source::steps ? ranges.steps : ranges.rows;
  std::vector<float> result(options.width(), smallest);
  for (std::size_t i = 0; i < options.inputs.size(); ++i) {
    float& range = result[i % result.size()];
    range = std::max(range, std::min(of[options.inputs[i]], largest_input));
    if (options.padded) range = std::max(range, std::abs(options.padding));
  }
  return result;
}

schema::RecurrentT recurrent_of(const RecurrentBranch& branch, const SessionRanges& ranges) {
  const BranchOptions& options = branch.options;
  schema::RecurrentT recurrent;
  const bool session = options.source == BranchOptions::Source::steps;
  recurrent.sequence = session ? schema::Sequence::Session : schema::Sequence::Row;
  recurrent.steps = static_cast<std::uint16_t>(options.count);
  recurrent.padded = options.padded;
  recurrent.padding = options.padding;
  for (const float range : input_ranges(options, ranges)) recurrent.input_factors.push_back(127 / range);
  std::size_t layer = 0;
  for (std::size_t level = 0; level < options.levels.size(); ++level) {
    const unsigned layers = options.levels[level].direction == Direction::both ? 2 : 1;
    for (unsigned i = 0; i < layers; ++i)
      recurrent.layers.push_back(pack_layer(branch.layers[layer++], static_cast<unsigned>(level)));
  }
  return recurrent;
}

/// `columns`: the place of each of the layer's inputs among `count`, which the operator reads from `first`
/// on.
void append_dense(schema::ModelT& model, const NetworkLayer& layer, std::uint16_t first, std::size_t count,
                  const std::vector<std::size_t>& columns) {
  const auto outputs = static_cast<std::size_t>(layer.weights.rows());
  std::vector<float> weights(outputs * count);
  for (std::size_t row = 0; row < outputs; ++row)
    for (std::size_t i = 0; i < columns.size(); ++i)
      weights[row * count + columns[i]] =
          layer.weights(static_cast<Eigen::Index>(row), static_cast<Eigen::Index>(i));
  const schema::Activation activation =
      layer.activation == NetworkActivation::relu      ? schema::Activation::Relu
      : layer.activation == NetworkActivation::tanh    ? schema::Activation::Tanh
      : layer.activation == NetworkActivation::sigmoid ? schema::Activation::Sigmoid
                                                       : schema::Activation::None;
  append_affine(model, first, count, std::move(weights), {layer.bias.begin(), layer.bias.end()}, activation);
}

std::vector<std::size_t> counted(std::size_t count) {
  std::vector<std::size_t> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = i;
  return all;
}

}  // namespace

bool is_task(const std::string& task) {
  if (task.starts_with(reason_task))
    return enumerator(reason_words, std::string_view(task).substr(reason_task.size())) != 0;
  return task == "skip_1" || task == "skip_2" || task == "skip_3" || task == "not_skipped";
}

SessionData no_sessions(const SessionProgram& program, const std::vector<std::string>& tasks) {
  SessionData data;
  data.step_features = program.step_features();
  data.row_features = program.names().size();
  data.tasks = 1 + tasks.size();
  data.step_begin = data.question_begin = {0};
  return data;
}

void add_sessions(SessionData& data, const Log& log, const Replayed& replayed, std::span<const char> wanted,
                  const std::vector<std::string>& tasks, bool challenge) {
  std::size_t play = 0;  // the first of the session at hand
  for (std::size_t i = 0; i < replayed.examples.size();) {
    const std::uint32_t session = replayed.examples[i].session;
    std::size_t end = i;
    while (end < replayed.examples.size() && replayed.examples[end].session == session) ++end;
    const std::size_t questions = data.questions();
    std::uint32_t steps = 0;
    for (; i < end; ++i) {
      const Example& example = replayed.examples[i];
      if (!wanted[session] || (example.challenge && !challenge)) continue;
      steps = std::max(steps, example.ended);
      data.ended.push_back(example.ended);
      const float* row = replayed.outputs.data() + i * data.row_features;
      data.rows.insert(data.rows.end(), row, row + data.row_features);
      data.targets.push_back(example.target);
      for (const std::string& task : tasks)
        data.targets.push_back(outcome_of(task, log.plays[example.play].end));
    }
    if (data.questions() == questions) continue;
    while (replayed.session[play] != session) ++play;
    const auto first = replayed.steps.begin() + static_cast<std::ptrdiff_t>(play * data.step_features);
    data.steps.insert(data.steps.end(), first,
                      first + static_cast<std::ptrdiff_t>(steps * data.step_features));
    data.step_begin.push_back(data.step_begin.back() + steps);
    data.question_begin.push_back(static_cast<std::uint32_t>(data.questions()));
  }
}

std::size_t bytes_of(const SessionData& data) {
  return 4 * (data.step_begin.size() + data.question_begin.size() + data.steps.size() + data.ended.size() +
              data.rows.size() + data.targets.size());
}

SessionRanges::SessionRanges(const SessionData& data)
    : steps(largest(data.steps, data.step_features)), rows(largest(data.rows, data.row_features)) {}

RecurrentOptions with_branches(RecurrentOptions options, const SessionProgram& program,
                               const SessionRanges& ranges) {
  for (const SessionProgram::Branch& branch : program.branches()) {
    options.branches.push_back(branch.options);
    if (branch.options.source == BranchOptions::Source::row) continue;
    for (const float range : input_ranges(branch.options, ranges))
      options.branches.back().input_scales.push_back(range / 127);
  }
  return options;
}

void require_given(const SessionProgram& program) {
  const schema::ModelT model = program.gathered();
  const std::vector<bool> missing = missing_slots(model);
  for (const SessionProgram::Branch& branch : program.branches()) {
    if (branch.options.source != BranchOptions::Source::row) continue;
    for (const std::uint32_t feature : branch.options.inputs)
      if (missing[model.output_offset + feature])
        throw Error("the feature '" + program.names()[feature] +
                    "' may be missing when a player asks, and a network computes nothing from that: give its "
                    "column a number under [missing], a lag its empty = 0, a mean a prior_weight, or make it "
                    "one-hot (of numbers: after encode = \"bucket\")");
  }
}

RowScale::RowScale(const SessionData& data) {
  Moments::Accumulator moments;
  moments.add(data.row_features, data.rows.data(), data.questions());
  const Moments found = moments.finish();
  for (std::size_t i = 0; i < data.row_features; ++i) {
    center.push_back(static_cast<float>(found.mean[i]));
    factor.push_back(found.deviation[i] > 0 ? static_cast<float>(1 / found.deviation[i]) : 1.0f);
  }
}

void RowScale::apply(SessionData& data) const {
  for (std::size_t i = 0; i < data.rows.size(); ++i) {
    const std::size_t feature = i % data.row_features;
    data.rows[i] = (data.rows[i] - center[feature]) * factor[feature];
  }
}

void append_encoders(schema::ModelT& model, const SessionProgram& program, const RecurrentNetwork& network,
                     const SessionRanges& ranges) {
  for (std::size_t i = 0; i < program.branches().size(); ++i) {
    const SessionProgram::Branch& branch = program.branches()[i];
    if (branch.options.source == BranchOptions::Source::steps)
      append_recurrent(model, recurrent_of(network.branches[i], ranges), branch.slot, branch.width,
                       schema::Phase::Context);
  }
}

void append_network(schema::ModelT& model, const SessionProgram& program, const RecurrentNetwork& network,
                    const SessionRanges& ranges) {
  const std::uint16_t rows = model.output_offset;
  const std::size_t first_output = next_slot(model);
  append_encoders(model, program, network, ranges);
  // What the head reads begins with what it reads of the row itself, the last of the features. The inner
  // layers of dense branches lie in between and have no weight.
  std::size_t first = first_output, encoder = 0;
  std::vector<std::size_t> read;  // slots
  for (std::size_t i = 0; i < program.branches().size(); ++i) {
    const SessionProgram::Branch& branch = program.branches()[i];
    const RecurrentBranch& trained = network.branches[i];
    const auto place = static_cast<std::uint16_t>(rows + branch.first);
    std::size_t output = next_slot(model), count = 0;
    switch (branch.options.source) {
      case BranchOptions::Source::steps:
        output = model.operators[encoder]->output_offset;
        count = model.operators[encoder++]->output_length;
        break;
      case BranchOptions::Source::row_steps:
        append_recurrent(model, recurrent_of(trained, ranges), place, branch.width, schema::Phase::Candidate);
        count = model.output_length;
        break;
      case BranchOptions::Source::row:
        count = branch.width;
        if (trained.dense.empty()) {
          first = output = place;
          break;
        }
        for (const NetworkLayer& layer : trained.dense) {
          append_dense(model, layer, &layer == &trained.dense.front() ? place : model.output_offset, count,
                       counted(count));
          count = model.output_length;
        }
        output = model.output_offset;
        break;
    }
    for (std::size_t slot = output; slot < output + count; ++slot) read.push_back(slot);
  }
  for (std::size_t& slot : read) slot -= first;
  std::size_t count = next_slot(model) - first;
  for (const NetworkLayer& layer : network.head) {
    const bool lowest = &layer == &network.head.front();
    append_dense(model, layer, lowest ? static_cast<std::uint16_t>(first) : model.output_offset, count,
                 lowest ? read : counted(count));
    count = model.output_length;
  }
  append_link(model, Link::sigmoid);
}

}  // namespace tonearm
