#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "quantize/quantize.h"

namespace tonearm {
namespace {

using schema::GoldenEventKind;
using schema::ModelT;

/// A copy of the model whose outputs are an operator's inputs. Those of a step over the session are seen as
/// the session's last step.
ModelT tapped(const ModelT& model, std::size_t index) {
  ModelT copy = model;
  copy.golden = nullptr;
  const schema::OperatorT& op = *model.operators[index];
  const auto* recurrent = op.kind.AsRecurrent();
  if (recurrent == nullptr || recurrent->sequence == schema::Sequence::Row) {
    copy.operators.resize(index);
    copy.output_offset = op.input_offset;
    copy.output_length = op.input_length;
    return copy;
  }
  copy.operators.clear();
  std::vector<std::uint16_t> slots;
  for (unsigned i = 0; i < op.input_length; ++i)
    slots.push_back(static_cast<std::uint16_t>(op.input_offset + i));
  schema::LagT last;
  last.empty = 0;
  schema::EncoderUnion encoder;
  encoder.Set(std::move(last));
  copy.output_offset = append_feature(copy, slots, slots.size(), std::move(encoder));
  copy.output_length = op.input_length;
  return copy;
}

/// How far the outputs of a session model are from those of its golden events, at most: infinitely where one
/// is missing.
float self_test(ModelT& model) {
  const Blob blob(pack(model), "the model with its golden events", TONEARM_CPU_SCALAR);
  std::vector<float> scratch(blob.scratch_elements());
  float largest = 0;
  tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * sizeof(float), &largest);
  return largest;
}

/// The number that a session model with one output gives for the last of its golden events, the only
/// question; infinity where it is missing. Golden events are rows of columns, which no call of a player
/// takes, but the self test tells how far an answer is from a stored one: from 0 that is its magnitude.
float answer(ModelT& model) {
  std::vector<float>& stored = model.golden->outputs;
  stored = {0};
  const float magnitude = self_test(model);
  if (magnitude == 0 || !std::isfinite(magnitude)) return magnitude;
  stored = {magnitude};
  return self_test(model) == 0 ? magnitude : -magnitude;
}

void refresh_golden_events(ModelT& model) {
  constexpr std::size_t most_questions = 256;
  const schema::GoldenT golden = *model.golden;
  const std::size_t columns = model.columns.size();
  const auto row_of = [&](std::size_t event) {
    const auto begin = golden.rows.begin() + static_cast<std::ptrdiff_t>(event * columns);
    return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(columns));
  };
  const auto append = [&](schema::GoldenT& to, std::size_t event) {
    to.events.push_back(std::make_unique<schema::GoldenEventT>(*golden.events[event]));
    const std::vector<float> row = row_of(event);
    to.rows.insert(to.rows.end(), row.begin(), row.end());
  };
  ModelT asked = model;
  asked.golden = std::make_unique<schema::GoldenT>();  // the events so far, without questions
  auto fresh = std::make_unique<schema::GoldenT>();
  fresh->tolerance = golden.tolerance;
  std::size_t questions = 0, answered = 0;
  for (std::size_t n = 0; n < golden.events.size() && questions < most_questions; ++n) {
    append(*asked.golden, n);
    if (golden.events[n]->kind != GoldenEventKind::Predict) {
      append(*fresh, n);
      continue;
    }
    ++questions;
    std::vector<float> answers;
    for (unsigned k = 0; k < model.output_length; ++k) {
      asked.output_offset = static_cast<std::uint16_t>(model.output_offset + k);
      asked.output_length = 1;
      answers.push_back(answer(asked));
    }
    if (std::all_of(answers.begin(), answers.end(), [](float value) { return std::isfinite(value); })) {
      append(*fresh, n);
      fresh->outputs.insert(fresh->outputs.end(), answers.begin(), answers.end());
      ++answered;
    }
    asked.golden->events.pop_back();
    asked.golden->rows.resize(asked.golden->rows.size() - columns);
  }
  model.golden = answered > 0 ? std::move(fresh) : nullptr;
}

/// The largest magnitude of each output over the golden events.
std::vector<float> measure_golden_events(ModelT& model, const schema::GoldenT& golden) {
  const auto questions = static_cast<std::size_t>(
      std::count_if(golden.events.begin(), golden.events.end(),
                    [](const auto& event) { return event->kind == GoldenEventKind::Predict; }));
  const unsigned first = model.output_offset, count = model.output_length;
  model.golden = std::make_unique<schema::GoldenT>(golden);
  model.golden->outputs.assign(questions, 0.0f);
  std::vector<float> largest;
  for (unsigned k = 0; k < count; ++k) {
    model.output_offset = static_cast<std::uint16_t>(first + k);
    model.output_length = 1;
    largest.push_back(self_test(model));
    if (!std::isfinite(largest.back()))
      throw Error(
          "the golden events leave an operator's input missing, so that its range cannot be measured on "
          "them: "
          "give --data");
  }
  return largest;
}

}  // namespace

InputRanges measure_ranges(const ModelT& model, const QuantizeOptions& options,
                           const MeasureOutputs& measure) {
  InputRanges ranges(model.operators.size());
  for (std::size_t i = 0; i < model.operators.size(); ++i) {
    if (!needs_ranges(model, i, options)) continue;
    ModelT copy = tapped(model, i);
    std::vector<float> largest = measure(copy);
    const auto* recurrent = model.operators[i]->kind.AsRecurrent();
    if (recurrent != nullptr && recurrent->sequence == schema::Sequence::Row) {
      // An input of all steps has one range. The number of steps, which may be behind them, is none.
      const std::size_t width = (largest.size() - (recurrent->lengths ? 1 : 0)) / recurrent->steps;
      for (std::size_t n = width; n < width * recurrent->steps; ++n)
        largest[n % width] = std::max(largest[n % width], largest[n]);
      largest.resize(width);
    }
    ranges[i] = std::move(largest);
  }
  return ranges;
}

MeasureOutputs over_rows(std::vector<float> rows, Threads& threads) {
  return [rows = std::move(rows), &threads](ModelT& model) {
    const Blob blob(pack(model), "the model up to an operator", TONEARM_CPU_SCALAR);
    constexpr std::size_t block_rows = 16384;  // so that inputs of all rows are never kept at once
    std::vector<float> largest(blob.outputs());
    const std::size_t block = block_rows * blob.columns();
    for (std::size_t first = 0; first < rows.size(); first += block) {
      const std::vector<float> outputs =
          blob.evaluate_rows(std::span(rows).subspan(first, std::min(block, rows.size() - first)), threads);
      for (std::size_t i = 0; i < outputs.size(); ++i)
        if (std::isfinite(outputs[i]))
          largest[i % largest.size()] = std::max(largest[i % largest.size()], std::abs(outputs[i]));
    }
    return largest;
  };
}

MeasureOutputs over_golden(const ModelT& model) {
  if (model.golden == nullptr || model.golden->rows.empty())
    throw Error("the blob has no golden rows to measure ranges on: give --rows or --data");
  if (model.session != nullptr)
    return [golden = *model.golden](ModelT& copy) { return measure_golden_events(copy, golden); };
  return [rows = model.golden->rows](ModelT& copy) {
    Threads one(1);
    return over_rows(rows, one)(copy);
  };
}

void refresh_golden(ModelT& model) {
  if (model.golden == nullptr) return;
  if (model.session != nullptr) return refresh_golden_events(model);
  const float tolerance = model.golden->tolerance;
  const std::vector<float> rows = model.golden->rows;
  add_golden(model, rows);
  model.golden->tolerance = tolerance;
}

}  // namespace tonearm
