#include "evaluate.h"

#include <string.h>

#include "columns.h"
#include "kernels.h"
#include "network_kernels.h"
#include "numbers.h"
#include "program.h"
#include "recurrent.h"

namespace tonearm::runtime {

uint32_t category_index(float value, uint32_t count) {
  // Written so that NaN fails the comparison.
  if (!(value >= 0 && value < static_cast<float>(count))) return count;
  const uint32_t index = static_cast<uint32_t>(value);
  // As integers, because a processor that flushes denormals takes 1e-40 for 0.
  return ordered(float_bits(static_cast<float>(index))) == ordered(float_bits(value)) ? index : count;
}

namespace {

float norm_of(const FeatureView& feature, const float* slots) {
  const bool max = feature.norm == NormKind::max;
  float norm = max ? bits_float(0xff7fffffu) : 0;  // the lowest number: a missing value is not the largest
  for (uint32_t i = 0; i < feature.input_count; ++i) {
    const float value = slots[feature.inputs[i]];
    if (max)
      norm = value > norm ? value : norm;
    else
      norm += feature.norm == NormKind::l2 ? value * value : value < 0 ? -value : value;
  }
  return feature.norm == NormKind::l2 ? square_root(norm) : norm;
}

}  // namespace

void run_feature(const FeatureView& feature, float* slots) {
  float* out = slots + feature.output;
  const uint16_t* in = feature.inputs;
  switch (feature.kind) {
    case EncoderKind::identity:
      for (uint32_t i = 0; i < feature.output_count; ++i) out[i] = slots[in[i]];
      break;
    case EncoderKind::scale:
      for (uint32_t i = 0; i < feature.output_count; ++i)
        out[i] = (slots[in[i]] - feature.first[i]) * feature.second[i];
      break;
    case EncoderKind::one_hot: {
      const uint32_t categories = feature.output_count - (feature.unknown_slot ? 1 : 0);
      for (uint32_t i = 0; i < feature.output_count; ++i) out[i] = 0;
      const uint32_t index = category_index(slots[in[0]], categories);
      if (index < feature.output_count) out[index] = 1;
      break;
    }
    case EncoderKind::ordinal: {
      const uint32_t index = category_index(slots[in[0]], feature.first_count);
      out[0] = index < feature.first_count ? feature.first[index] : feature.unknown;
      break;
    }
    case EncoderKind::bucket:
      for (uint32_t i = 0; i < feature.output_count; ++i) {
        const float value = slots[in[i]];
        const int32_t key = ordered(float_bits(value));  // as thresholds of trees are compared
        uint32_t below = 0;
        for (uint32_t edge = 0; edge < feature.first_count; ++edge)
          below += ordered(float_bits(feature.first[edge])) <= key;
        out[i] = is_nan(value) ? value : static_cast<float>(below);
      }
      break;
    case EncoderKind::projection:
      for (uint32_t i = 0; i < feature.output_count; ++i) {
        const float* component = feature.second + static_cast<size_t>(i) * feature.input_count;
        float sum = 0;
        for (uint32_t j = 0; j < feature.input_count; ++j)
          sum += component[j] * (slots[in[j]] - feature.first[j]);
        out[i] = sum;
      }
      break;
    case EncoderKind::difference:
      for (uint32_t i = 0; i < feature.output_count; ++i)
        out[i] = slots[in[i]] - slots[in[feature.output_count + i]];
      break;
    case EncoderKind::distance: {
      const uint32_t pairs = feature.input_count / 2;
      float sum = 0;
      for (uint32_t i = 0; i < pairs; ++i) {
        const float difference = slots[in[i]] - slots[in[pairs + i]];
        sum += difference * difference;
      }
      out[0] = sum / static_cast<float>(pairs);
      break;
    }
    case EncoderKind::normalize: {
      const float norm = norm_of(feature, slots);
      for (uint32_t i = 0; i < feature.output_count; ++i)
        out[i] = norm == 0 ? slots[in[i]] : slots[in[i]] / norm;
      break;
    }
    case EncoderKind::fact:
    case EncoderKind::lag:
    case EncoderKind::mean:
    case EncoderKind::window:
    case EncoderKind::total:
    case EncoderKind::streak:
    case EncoderKind::repeats:
      break;  // a session's business
  }
}

namespace {

[[maybe_unused]] void activate(ActivationKind kind, uint32_t cpu, float* values, uint32_t count) {
  switch (kind) {
    case ActivationKind::none:
      break;
    case ActivationKind::relu:
      // A missing value stays missing: max(0, NaN) would hide it.
      for (uint32_t i = 0; i < count; ++i) values[i] = values[i] < 0 ? 0 : values[i];
      break;
    case ActivationKind::sigmoid:
      if constexpr (with_affine) network_kernels(cpu).activate(tonearm_sigmoid, values, count);
      break;
    case ActivationKind::tanh:
      if constexpr (with_affine) network_kernels(cpu).activate(tonearm_tanh, values, count);
      break;
    case ActivationKind::softmax: {
      float largest = values[0];
      for (uint32_t i = 1; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
      float sum = 0;
      for (uint32_t i = 0; i < count; ++i) sum += values[i] = exp(values[i] - largest);
      for (uint32_t i = 0; i < count; ++i) values[i] /= sum;
      break;
    }
  }
}

/// Linear interpolation between the points, constant beyond the outermost; NaN gives NaN.
float interpolate(const CalibrateView& points, float x) {
  if (is_nan(x) || x <= points.x[0]) return is_nan(x) ? x : points.y[0];
  uint32_t low = 0, high = points.points;  // x[low] < x, and x <= x[high] where there is one
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (points.x[middle] < x ? low : high) = middle;
  }
  if (high == points.points) return points.y[low];
  const float share = (x - points.x[low]) / (points.x[high] - points.x[low]);
  return points.y[low] + share * (points.y[high] - points.y[low]);
}

/// Kernels of blocks look slices up 64 at a time: what is behind the last decides nothing, but is read.
/// Before the slices are filled.
[[maybe_unused]] void clear_padding(const TreesView& trees, uint8_t* slices) {
  memset(slices + padded_slices(trees.slices) - 64, 0, 64);
}

}  // namespace

void run_operator(const OperatorView& op, float* slots, uint8_t* work) {
  const float* in = slots + op.input;
  float* out = slots + op.output;
  switch (op.type) {
    case OperatorType::affine:
      if constexpr (with_affine) {
        network_kernels(op.affine.cpu)
            .dense(op.affine.weights, op.affine.bias, in, op.input_count, op.output_count, out);
        activate(op.affine.activation, op.affine.cpu, out, op.output_count);
      }
      break;
    case OperatorType::branching_trees:
    case OperatorType::symmetric_trees:
      if constexpr (with_trees) {
        const auto sum = op.type == OperatorType::branching_trees ? sum_branching : sum_symmetric;
        const uint32_t trees = op.trees.trees / op.output_count;
        bin_inputs(op.trees, in, 0, op.trees.axes, work);
        bin_categories(op.trees, in, work);
        for (uint32_t k = 0; k < op.output_count; ++k)
          out[k] = op.trees.base[k] + op.trees.scale * sum(op.trees, work, k * trees, trees);
      }
      break;
    case OperatorType::block_trees:
      if constexpr (with_trees) {
        clear_padding(op.trees, work);
        bin_inputs(op.trees, in, 0, op.trees.axes, work);
        bin_categories(op.trees, in, work);
        sum_blocks(op.trees, work, op.output_count, out);
        for (uint32_t k = 0; k < op.output_count; ++k) out[k] = op.trees.base[k] + op.trees.scale * out[k];
      }
      break;
    case OperatorType::quantized_affine:
      if constexpr (with_affine) {
        run_quantized_affine(op, in, out, work);
        activate(op.quantized.activation, op.quantized.cpu, out, op.output_count);
      }
      break;
    case OperatorType::recurrent:
      if constexpr (with_recurrent) run_recurrent_row(op, in, out, work);
      break;
    case OperatorType::calibrate:
      for (uint32_t i = 0; i < op.output_count; ++i)
        out[i] = op.calibrate.isotonic ? interpolate(op.calibrate, in[i])
                                       : sigmoid(op.calibrate.slope * in[i] + op.calibrate.intercept);
      break;
  }
}

namespace {

bool is_ensemble(const OperatorView& op) {
  return op.type == OperatorType::branching_trees || op.type == OperatorType::symmetric_trees ||
         op.type == OperatorType::block_trees;
}

/// Bytes that a call keeps of the context part of symmetric trees; see program.h.
uint32_t known_bytes(const OperatorView& op) {
  if (op.type == OperatorType::symmetric_trees) return op.trees.trees * 4;
  if (op.type == OperatorType::block_trees && op.trees.depth > 0)
    return op.trees.trees + (blocks_of(op.trees.trees) + 3) / 4 * 4;
  return 0;
}

/// Shared memory of an ensemble: the sums of the context part, what is known of symmetric trees, the slices.
struct SharedMemory {
  SharedTrees* sums;
  uint8_t* known;
  uint8_t* slices;

  SharedMemory(const OperatorView& op, uint8_t* bytes)
      : sums(reinterpret_cast<SharedTrees*>(bytes)),
        known(bytes + sizeof(SharedTrees)),
        slices(known + known_bytes(op)) {}
};

/// Sums over all outputs of an ensemble that share nothing, because there are several.
[[maybe_unused]] bool is_shared(const OperatorView& op) { return is_ensemble(op) && op.output_count == 1; }

/// The scratch holds the slots, then the binned inputs of one tree ensemble at a time.
void evaluate(const tonearm_model& model, const Plan& plan, const float* row, void* scratch, float* out) {
  float* slots = static_cast<float*>(scratch);
  uint8_t* slices = static_cast<uint8_t*>(scratch) + static_cast<size_t>(plan.slots) * sizeof(float);
  apply_policy(model, plan, 0, plan.columns, row, slots);
  for (uint32_t i = 0; i < plan.features; ++i) run_feature(feature_at(model, i), slots);
  for (uint32_t i = 0; i < plan.operators; ++i) run_operator(operator_at(model, i), slots, slices);
  for (uint32_t i = 0; i < plan.output_count; ++i) out[i] = slots[plan.output + i];
}

float evaluate_golden(const tonearm_model& model, const Plan& plan, void* scratch) {
  const GoldenView golden = golden_of(model);
  float* slots = static_cast<float*>(scratch);
  float largest = 0;
  for (uint32_t n = 0; n < plan.golden_rows; ++n) {
    // The outputs are read where the program leaves them, so no room is needed for a copy.
    float* outputs = slots + plan.output;
    evaluate(model, plan, golden.rows + static_cast<size_t>(n) * plan.columns, scratch, outputs);
    for (uint32_t i = 0; i < plan.output_count; ++i)
      largest = larger_difference(largest, outputs[i],
                                  golden.outputs[static_cast<size_t>(n) * plan.output_count + i]);
  }
  return largest;
}

}  // namespace

#ifndef TONEARM_WITHOUT_SESSIONS

uint32_t shared_bytes(const OperatorView& op) {
  if constexpr (with_affine)
    if (op.type == OperatorType::quantized_affine)
      return quantized_work_bytes(op.quantized.format, op.input_count, op.output_count);
  if constexpr (with_recurrent)
    if (op.type == OperatorType::recurrent)
      return static_cast<uint32_t>(recurrent_work_bytes(recurrent_size(op.recurrent), op.recurrent.steps));
  if (!with_trees || !is_ensemble(op)) return 0;
  const uint32_t slices =
      op.type == OperatorType::block_trees ? padded_slices(op.trees.slices) : (op.trees.slices + 3) / 4 * 4;
  return static_cast<uint32_t>(sizeof(SharedTrees)) + known_bytes(op) + slices;
}

void share_operator(const OperatorView& op, const float* slots, uint8_t* shared) {
  if (!is_shared(op)) return;
  if constexpr (with_trees) {
    const SharedMemory memory(op, shared);
    if (op.type == OperatorType::block_trees) clear_padding(op.trees, memory.slices);
    bin_inputs(op.trees, slots + op.input, 0, op.trees.context_axes, memory.slices);
    switch (op.type) {
      case OperatorType::block_trees:
        return share_blocks(op.trees, memory.slices, *memory.sums, memory.known);
      case OperatorType::symmetric_trees:
        return share_symmetric(op.trees, memory.slices, *memory.sums, memory.known);
      default:
        return share_branching(op.trees, memory.slices, *memory.sums);
    }
  }
}

void run_shared_operator(const OperatorView& op, float* slots, uint8_t* shared) {
  if (!with_trees || !is_shared(op)) return run_operator(op, slots, shared);
  if constexpr (with_trees) {
    const SharedMemory memory(op, shared);
    bin_inputs(op.trees, slots + op.input, op.trees.context_axes, op.trees.axes,
               memory.slices + op.trees.context_slices);
    bin_categories(op.trees, slots + op.input, memory.slices);
    const float sum = op.type == OperatorType::block_trees
                          ? sum_shared_blocks(op.trees, memory.slices, *memory.sums, memory.known)
                      : op.type == OperatorType::symmetric_trees
                          ? sum_shared_symmetric(op.trees, memory.slices, *memory.sums, memory.known)
                          : sum_shared_branching(op.trees, memory.slices, *memory.sums);
    slots[op.output] = op.trees.base[0] + op.trees.scale * sum;
  }
}

#endif

float larger_difference(float largest, float found, float expected) {
  const float difference = found < expected ? expected - found : found - expected;
  if (is_nan(difference)) return bits_float(0x7f800000u);  // infinitely wrong, and stays so
  return difference > largest ? difference : largest;
}

tonearm_status check_scratch(const Plan& plan, const void* scratch, size_t size) {
  if (reinterpret_cast<uintptr_t>(scratch) % alignof(float) != 0) return TONEARM_MISALIGNED;
  return size < plan.scratch_bytes ? TONEARM_SCRATCH_TOO_SMALL : TONEARM_OK;
}

}  // namespace tonearm::runtime

extern "C" {

using namespace tonearm::runtime;

size_t tonearm_scratch_size(const tonearm_model* model) noexcept {
  return model == nullptr ? 0 : plan_of(*model).scratch_bytes;
}

tonearm_status tonearm_evaluate(const tonearm_model* model, const float* row, uint32_t columns, void* scratch,
                                size_t scratch_size, float* out) noexcept {
  if (model == nullptr || row == nullptr || scratch == nullptr || out == nullptr)
    return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  const Plan& plan = plan_of(*model);
  if (plan.has_session()) return TONEARM_NOT_A_TABLE_MODEL;
  if (columns != plan.columns) return TONEARM_WRONG_COLUMNS;
  if (const tonearm_status status = check_scratch(plan, scratch, scratch_size); status != TONEARM_OK)
    return status;
  evaluate(*model, plan, row, scratch, out);
  return TONEARM_OK;
}

tonearm_status tonearm_model_self_test(const tonearm_model* model, void* scratch, size_t scratch_size,
                                       float* largest_difference) noexcept {
  if (model == nullptr || scratch == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  const Plan& plan = plan_of(*model);
  if (plan.golden_rows == 0) return TONEARM_NO_GOLDEN;
  if (const tonearm_status status = check_scratch(plan, scratch, scratch_size); status != TONEARM_OK)
    return status;
  const float largest = with_sessions && plan.has_session() ? replay_golden(*model, plan, scratch)
                                                            : evaluate_golden(*model, plan, scratch);
  if (largest_difference != nullptr) *largest_difference = largest;
  return largest <= golden_of(*model).tolerance ? TONEARM_OK : TONEARM_SELF_TEST_FAILED;
}

}  // extern "C"
