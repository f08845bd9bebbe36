#pragma once

// Post-training quantization: the same model in fewer bytes. Trees get int16 leaves; matrices get weights of
// int8 or float16. A pure map from model to model; what only data can say comes in as ranges.

#include <tonearm_schema/model_generated.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/parallel.h"

namespace tonearm {

struct QuantizeOptions {
  /// Of Affine and Recurrent operators; Float32 leaves them as they are.
  schema::WeightFormat weights = schema::WeightFormat::Int8;
  /// Ensembles of trees: int16 leaves with one scale, each off by at most half of it.
  bool leaves = true;
  /// Int8 although an input may be missing: a missing one then counts as 0, where the output was missing
  /// before.
  bool missing_as_zero = false;
};

/// What becomes of an operator and, where that is less than was asked for, why. Less it is
/// - for an Affine one of whose inputs may be missing: its output is missing then, but codes have no NaN, so
///   that it becomes float16 unless missing_as_zero says otherwise;
/// - for relu cells, whose states have no bound;
/// - where it would take no fewer bytes, or a weight does not fit float16.
struct OperatorPlan {
  enum class To { as_it_is, int16_leaves, float16, int8 } to = To::as_it_is;
  std::string why;
};
OperatorPlan plan_operator(const schema::ModelT& model, std::size_t index, const QuantizeOptions& options);

/// For each slot of a model, whether it may hold NaN when it is asked: by the missing-value policies, and by
/// what encoders and operators make of their inputs.
std::vector<bool> missing_slots(const schema::ModelT& model);

/// By operator: the largest magnitude of each of its inputs; of a Recurrent operator, of a step's inputs.
/// Empty where none are needed: see needs_ranges().
using InputRanges = std::vector<std::vector<float>>;
/// Only int8 does, and not where training left a Recurrent operator its input_factors.
bool needs_ranges(const schema::ModelT& model, std::size_t index, const QuantizeOptions& options);

/// The quantized model. Its golden outputs are still those of the given one: see refresh_golden(). Throws
/// Error where nothing can be quantized, or a range is missing or not finite.
schema::ModelT quantize(const schema::ModelT& model, const QuantizeOptions& options,
                        const InputRanges& ranges);

/// By how much int16 leaves may have moved a score of an ensemble: half their scale for each tree of an
/// output. 0 for operators without such leaves.
double leaf_rounding(const schema::OperatorT& op);

/// Runs a model over data and returns the largest finite magnitude of each of its outputs.
using MeasureOutputs = std::function<std::vector<float>(schema::ModelT& model)>;
/// Measures the ranges that are needed, on copies of the model whose outputs are an operator's inputs.
InputRanges measure_ranges(const schema::ModelT& model, const QuantizeOptions& options,
                           const MeasureOutputs& measure);
/// Over rows of a table model's columns, and over the model's own golden rows or events.
MeasureOutputs over_rows(std::vector<float> rows, Threads& threads);
MeasureOutputs over_golden(const schema::ModelT& model);

/// Replaces the golden outputs by those that the model gives itself, so that a self test on a device passes
/// for its very bits. Inputs for which it gives no number are left out, and so is what follows on the first
/// 256 questions about sessions.
void refresh_golden(schema::ModelT& model);

}  // namespace tonearm
