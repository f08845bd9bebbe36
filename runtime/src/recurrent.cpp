// Networks that remember: recurrent layers over a session or over a row's columns, in float32 and in whole
// numbers, and dense layers of codes. The inner loops are in network_kernels.cpp.

#include "recurrent.h"

#include <string.h>

#include "evaluate.h"
#include "network_kernels.h"

namespace tonearm::runtime {
namespace {

constexpr uint32_t lanes = panel_units;

constexpr uint32_t in_fours(uint32_t count) { return (count + 3) / 4 * 4; }

template <typename T>
T* as(uint8_t* bytes) {
  return reinterpret_cast<T*>(bytes);
}

/// What is multiplied with so many numbers. Columns of codes are counted in fours.
tonearm_matrix matrix_of(const uint8_t* weights, WeightKind format, uint32_t columns, uint32_t panels,
                         uint32_t gates) {
  return {weights, format == WeightKind::int8 ? (columns + 3) / 4 : columns, panels, gates,
          format == WeightKind::float16};
}

}  // namespace

uint64_t matrix_bytes(WeightKind format, uint32_t gates, uint32_t panels, uint32_t columns) {
  const uint64_t rows = uint64_t{gates} * panels * lanes;
  return format == WeightKind::int8 ? rows * in_fours(columns)
                                    : rows * columns * (format == WeightKind::float16 ? 2 : 4);
}

uint32_t quantized_work_bytes(WeightKind format, uint32_t inputs, uint32_t outputs) {
  return (format == WeightKind::int8 ? in_fours(inputs) : 0) + panels_of(outputs) * lanes * 4;
}

void run_quantized_affine(const OperatorView& op, const float* in, float* out, uint8_t* work) {
  const QuantizedAffineView& affine = op.quantized;
  const NetworkKernels& kernels = network_kernels(affine.cpu);
  const uint32_t panels = panels_of(op.output_count);
  const tonearm_matrix matrix = matrix_of(affine.weights, affine.format, op.input_count, panels, 1);
  if (affine.format == WeightKind::int8) {
    int32_t* sums = as<int32_t>(work);
    int8_t* codes = as<int8_t>(work + size_t{4} * panels * lanes);
    for (uint32_t i = op.input_count; i < in_fours(op.input_count); ++i) codes[i] = 0;
    kernels.encode(in, affine.input_factors, op.input_count, codes);
    kernels.multiply_codes(&matrix, codes, in_fours(op.input_count), 1, sums);
    for (uint32_t i = 0; i < op.output_count; ++i)
      out[i] = static_cast<float>(sums[i]) * affine.scales[i] + affine.bias[i];
  } else {
    float* sums = as<float>(work);
    kernels.multiply(&matrix, nullptr, in, op.input_count, 1, sums);
    for (uint32_t i = 0; i < op.output_count; ++i) out[i] = sums[i] + affine.bias[i];
  }
}

#ifndef TONEARM_WITHOUT_RECURRENT

namespace {

/// Where a layer finds and leaves what it works on. The vectors of a level are `stride` numbers apart, floats
/// or codes; those of units are filled up to whole panels.
struct LayerWork {
  WeightKind format;
  const NetworkKernels& kernels;
  uint8_t* vectors[2];  // of the level, and of the one above
  uint32_t stride;
  uint8_t* input_sums;      // of each step
  uint8_t* recurrent_sums;  // of one
  uint8_t* h;               // float or int16
  uint8_t* c;
  uint8_t* more;  // codes of h; reset-before: r h as well

  /// A view's part of the operator's work.
  LayerWork(const RecurrentView& view, const RecurrentSize& size, uint32_t steps, uint8_t* work)
      : format(view.format), kernels(network_kernels(view.cpu)) {
    const uint32_t widest = size.widest_input > size.widest_level ? size.widest_input : size.widest_level;
    stride = in_fours(widest);
    const size_t vector = size_t{4} * steps * stride;
    vectors[0] = work;
    vectors[1] = work + vector;
    input_sums = work + 2 * vector;
    recurrent_sums = input_sums + size_t{4} * steps * size.most_rows;
    h = recurrent_sums + size_t{4} * size.most_rows;
    c = h + size_t{4} * size.widest_units;
    more = c + size_t{4} * size.widest_units;
    // What fills codes up to fours meets weights of 0, but should be something.
    if (format == WeightKind::int8)
      for (uint8_t* codes : vectors) memset(codes, 0, size_t{steps} * stride);
  }
};

/// Where the last state of a layer goes, and those of all steps, `all_stride` apart.
struct LayerOutputs {
  float* last;
  float* all;
  uint32_t all_stride;
};

/// The sums of reset-before's gate n: (r h) times its own matrix.
tonearm_matrix matrix_of_n(const tonearm_matrix& both, WeightKind format) {
  tonearm_matrix n = both;
  n.weights += matrix_bytes(format, 2, both.panels, both.columns * (format == WeightKind::int8 ? 4 : 1));
  n.gates = 1;
  return n;
}

// Reset-before takes its step in three parts: r h, its product with gate n's own matrix, and what follows.

/// r h of every unit, in work.more.
TONEARM_OWN_FRAME void reset_numbers(const LayerWork& work, uint32_t panels, const float* input_sums) {
  const float* sums = as<float>(work.recurrent_sums);
  const float* h = as<float>(work.h);
  float* reset = as<float>(work.more);
  for (uint32_t unit = 0; unit < panels * lanes; ++unit) {
    const uint32_t p = unit / lanes, l = unit % lanes;
    reset[unit] = sigmoid(input_sums[p * 3 * lanes + l] + sums[p * 2 * lanes + l]) * h[unit];
  }
}

TONEARM_OWN_FRAME void update_reset_numbers(const LayerWork& work, uint32_t panels, const float* input_sums) {
  const float* sums = as<float>(work.recurrent_sums);
  const float* n_sums = sums + panels * 2 * lanes;
  float* h = as<float>(work.h);
  for (uint32_t unit = 0; unit < panels * lanes; ++unit) {
    const uint32_t p = unit / lanes, l = unit % lanes;
    const float* in = input_sums + p * 3 * lanes + l;
    const float z = sigmoid(in[lanes] + sums[p * 2 * lanes + lanes + l]);
    h[unit] = (1 - z) * tanh(in[2 * lanes] + n_sums[unit]) + z * h[unit];
  }
}

/// The argument of a gate. The multipliers of the recurrent matrices are by gate, as those of the input's.
int32_t gate_code(const RecurrentLayerView& layer, const int32_t* input_sums, uint32_t row, int32_t sum) {
  return to_int16(layer.bias_codes[row] +
                  shifted(int64_t{input_sums[row]} * layer.input_multipliers[row], layer.input_shift) +
                  shifted(int64_t{sum} * layer.recurrent_multipliers[row], layer.recurrent_shift));
}

/// The codes of r h, behind those of h.
TONEARM_OWN_FRAME void reset_codes(const LayerWork& work, const RecurrentLayerView& layer, uint32_t panels,
                                   const int32_t* input_sums) {
  const int32_t* sums = as<int32_t>(work.recurrent_sums);
  const int16_t* h = as<int16_t>(work.h);
  int8_t* reset = as<int8_t>(work.more) + panels * lanes;
  for (uint32_t unit = 0; unit < panels * lanes; ++unit) {
    const uint32_t p = unit / lanes, l = unit % lanes;
    const int32_t r = sigmoid_code(gate_code(layer, input_sums, p * 3 * lanes + l, sums[p * 2 * lanes + l]));
    reset[unit] = state_code(product(r, h[unit]));
  }
}

TONEARM_OWN_FRAME void update_reset_codes(const LayerWork& work, const RecurrentLayerView& layer,
                                          uint32_t panels, const int32_t* input_sums) {
  const int32_t* sums = as<int32_t>(work.recurrent_sums);
  const int32_t* n_sums = sums + panels * 2 * lanes;
  int16_t* h = as<int16_t>(work.h);
  int8_t* codes = as<int8_t>(work.more);
  for (uint32_t unit = 0; unit < panels * lanes; ++unit) {
    const uint32_t p = unit / lanes, l = unit % lanes, row = p * 3 * lanes + l;
    const int32_t z =
        sigmoid_code(gate_code(layer, input_sums, row + lanes, sums[p * 2 * lanes + lanes + l]));
    const int32_t n = tanh_code(gate_code(layer, input_sums, row + 2 * lanes, n_sums[unit]));
    h[unit] = to_int16(product(32768 - z, n) + product(z, h[unit]));
    codes[unit] = state_code(h[unit]);
  }
}

/// The sums of gate n, behind those of r and z.
TONEARM_OWN_FRAME void multiply_reset(const LayerWork& work, const tonearm_matrix& back, uint32_t units) {
  const tonearm_matrix of_n = matrix_of_n(back, work.format);
  uint8_t* sums = work.recurrent_sums + size_t{4} * back.panels * 2 * lanes;
  if (work.format == WeightKind::int8)
    work.kernels.multiply_codes(&of_n, as<int8_t>(work.more) + back.panels * lanes, in_fours(units), 1,
                                as<int32_t>(sums));
  else
    work.kernels.multiply(&of_n, nullptr, as<float>(work.more), units, 1, as<float>(sums));
}

TONEARM_OWN_FRAME void update_codes(const LayerWork& work, const RecurrentLayerView& layer, uint32_t panels,
                                    int32_t* input_sums) {
  const tonearm_code_units units = {static_cast<uint32_t>(layer.cell),
                                    panels,
                                    input_sums,
                                    as<int32_t>(work.recurrent_sums),
                                    layer.bias_codes,
                                    layer.recurrent_bias_codes,
                                    layer.input_multipliers,
                                    layer.recurrent_multipliers,
                                    layer.input_shift,
                                    layer.recurrent_shift,
                                    as<int16_t>(work.h),
                                    as<int16_t>(work.c),
                                    as<int8_t>(work.more)};
  work.kernels.update_codes(&units);
}

TONEARM_OWN_FRAME void update_numbers(const LayerWork& work, const RecurrentLayerView& layer, uint32_t panels,
                                      float* input_sums) {
  const tonearm_units units = {static_cast<uint32_t>(layer.cell),
                               panels,
                               input_sums,
                               as<float>(work.recurrent_sums),
                               layer.recurrent_bias,
                               as<float>(work.h),
                               as<float>(work.c)};
  work.kernels.update(&units);
}

/// A step of a layer: its state in work.h (and c) after it, from its sums of the inputs.
void step_codes(const LayerWork& work, const RecurrentLayerView& layer, const tonearm_matrix& from_state,
                int32_t* input_sums) {
  work.kernels.multiply_codes(&from_state, as<int8_t>(work.more), in_fours(layer.units), 1,
                              as<int32_t>(work.recurrent_sums));
  if (layer.cell != CellKind::gru_reset_before)
    return update_codes(work, layer, from_state.panels, input_sums);
  reset_codes(work, layer, from_state.panels, input_sums);
  multiply_reset(work, from_state, layer.units);
  update_reset_codes(work, layer, from_state.panels, input_sums);
}

void step_numbers(const LayerWork& work, const RecurrentLayerView& layer, const tonearm_matrix& from_state,
                  float* input_sums) {
  work.kernels.multiply(&from_state, nullptr, as<float>(work.h), layer.units, 1,
                        as<float>(work.recurrent_sums));
  if (layer.cell != CellKind::gru_reset_before)
    return update_numbers(work, layer, from_state.panels, input_sums);
  reset_numbers(work, from_state.panels, input_sums);
  multiply_reset(work, from_state, layer.units);
  update_reset_numbers(work, from_state.panels, input_sums);
}

/// The products of all steps' inputs at once, so that the weights are read once for them.
TONEARM_OWN_FRAME void multiply_inputs(const LayerWork& work, const RecurrentLayerView& layer,
                                       uint32_t inputs, uint32_t steps, const uint8_t* below) {
  const tonearm_matrix from_input =
      matrix_of(layer.input_weights, work.format, inputs, panels_of(layer.units), gates_of(layer.cell));
  if (work.format == WeightKind::int8)
    work.kernels.multiply_codes(&from_input, reinterpret_cast<const int8_t*>(below), work.stride, steps,
                                as<int32_t>(work.input_sums));
  else
    work.kernels.multiply(&from_input, layer.bias, reinterpret_cast<const float*>(below), work.stride, steps,
                          as<float>(work.input_sums));
}

/// Runs a layer over `steps` vectors of its level, from the state in work.h (and c), and leaves the state
/// after the last of them there. What comes out goes to `outputs`, and from element `offset` on to the
/// vectors of the level above unless it is NULL.
void run_layer(const LayerWork& work, const RecurrentLayerView& layer, uint32_t inputs, uint32_t steps,
               const uint8_t* below, uint8_t* above, uint32_t offset, const LayerOutputs& outputs) {
  const bool whole = work.format == WeightKind::int8;
  const bool reset_before = layer.cell == CellKind::gru_reset_before;
  const uint32_t gates = gates_of(layer.cell), panels = panels_of(layer.units), rows = gates * panels * lanes;
  const uint32_t size = whole ? 1 : 4;
  const tonearm_matrix from_state =
      matrix_of(layer.recurrent_weights, work.format, layer.units, panels, reset_before ? 2 : gates);
  multiply_inputs(work, layer, inputs, steps, below);
  for (uint32_t n = 0; n < steps; ++n) {
    const uint32_t step = layer.backward ? steps - 1 - n : n;
    uint8_t* input_sums = work.input_sums + size_t{4} * step * rows;
    if (whole)
      step_codes(work, layer, from_state, as<int32_t>(input_sums));
    else
      step_numbers(work, layer, from_state, as<float>(input_sums));
    if (above != nullptr)
      memcpy(above + (size_t{step} * work.stride + offset) * size, whole ? work.more : work.h,
             size_t{layer.units} * size);
    const auto give = [&](float* out) {
      for (uint32_t i = 0; i < layer.units; ++i)
        out[i] = whole ? static_cast<float>(as<int16_t>(work.h)[i]) * (1.0f / 32768) : as<float>(work.h)[i];
    };
    if (outputs.all != nullptr) give(outputs.all + size_t{step} * outputs.all_stride + offset);
    if (outputs.last != nullptr && n + 1 == steps) give(outputs.last + offset);
  }
}

void clear_state(const LayerWork& work, const RecurrentSize& size) {
  memset(work.h, 0, size_t{3} * 4 * size.widest_units);
}

/// The codes of h, from h.
void code_state(const LayerWork& work, uint32_t units) {
  for (uint32_t i = 0; i < panels_of(units) * lanes; ++i)
    as<int8_t>(work.more)[i] = state_code(as<int16_t>(work.h)[i]);
}

/// A step's inputs as the first level reads them.
void enter_step(const RecurrentView& view, const float* in, uint8_t* vector) {
  if (view.format == WeightKind::int8)
    return network_kernels(view.cpu).encode(in, view.input_factors, view.width, as<int8_t>(vector));
  for (uint32_t i = 0; i < view.width; ++i) as<float>(vector)[i] = limited(in[i]);
}

/// Runs all layers over the vectors of the first level, each from an empty state. Codes behind a vector's
/// last are multiplied with weights of 0, whatever they are.
void run_layers(const RecurrentView& view, const RecurrentSize& size, const LayerWork& work, uint32_t steps,
                float* out) {
  uint32_t inputs = view.width, offset = 0, level = 0;
  for (uint32_t i = 0; i < view.layers; ++i) {
    const RecurrentLayerView layer = recurrent_layer(view, i);
    if (layer.level != level) {
      inputs = offset;
      offset = 0;
      level = layer.level;
    }
    const bool highest = level + 1 == size.levels;
    clear_state(work, size);
    run_layer(
        work, layer, inputs, steps, work.vectors[level % 2],
        highest ? nullptr : work.vectors[(level + 1) % 2], offset,
        {highest && !view.all_steps ? out : nullptr, highest && view.all_steps ? out : nullptr, size.width});
    offset += layer.units;
  }
}

/// The steps of a session's ring, of which `count` are there, and those before them.
TONEARM_OWN_FRAME void run_ring(const RecurrentView& view, const RecurrentSize& size, const uint32_t* steps,
                                uint32_t count, float* out, uint8_t* bytes) {
  const LayerWork work(view, size, view.steps, bytes);
  const uint32_t missing = view.padded ? view.steps - count : 0,
                 element = view.format == WeightKind::int8 ? 1 : 4;
  for (uint32_t n = 0; n < missing; ++n)
    for (uint32_t i = 0; i < view.width; ++i) {
      uint8_t* vector = work.vectors[0] + size_t{element} * n * work.stride;
      if (view.format == WeightKind::int8)
        as<int8_t>(vector)[i] = code_of(view.padding, view.input_factors[i]);
      else
        as<float>(vector)[i] = limited(view.padding);
    }
  for (uint32_t n = 0; n < count; ++n)
    memcpy(work.vectors[0] + size_t{element} * (missing + n) * work.stride,
           steps + size_t{n} * step_elements(view.format, view.width), size_t{element} * view.width);
  run_layers(view, size, work, missing + count, out);
}

/// One step of all layers, whose states are one after the other in a session.
TONEARM_OWN_FRAME void stream_step(const RecurrentView& view, const RecurrentSize& size, const float* in,
                                   uint32_t* state, uint8_t* bytes) {
  const LayerWork work(view, size, 1, bytes);
  const uint32_t element = view.format == WeightKind::int8 ? 2 : 4;
  enter_step(view, in, work.vectors[0]);
  uint32_t inputs = view.width;
  for (uint32_t i = 0; i < view.layers; ++i) {
    const RecurrentLayerView layer = recurrent_layer(view, i);
    const size_t vector = (size_t{layer.units} * element + 3) / 4;
    const bool lstm = layer.cell == CellKind::lstm;
    clear_state(work, size);
    memcpy(work.h, state, size_t{layer.units} * element);
    if (lstm) memcpy(work.c, state + vector, size_t{layer.units} * element);
    if (view.format == WeightKind::int8) code_state(work, layer.units);
    run_layer(work, layer, inputs, 1, work.vectors[i % 2], work.vectors[(i + 1) % 2], 0,
              {nullptr, nullptr, 0});
    memcpy(state, work.h, size_t{layer.units} * element);
    if (lstm) memcpy(state + vector, work.c, size_t{layer.units} * element);
    state += lstm ? 2 * vector : vector;
    inputs = layer.units;
  }
}

/// A session's bytes may be anything: what is no float becomes one only here.
void copy_floats(const uint32_t* from, uint32_t count, float* to) { memcpy(to, from, size_t{count} * 4); }

/// The state of the highest layer, which is the last.
TONEARM_OWN_FRAME void read_state(const RecurrentView& view, uint32_t count, const uint32_t* state,
                                  float* out) {
  const RecurrentLayerView last = recurrent_layer(view, view.layers - 1);
  const uint32_t element = view.format == WeightKind::int8 ? 2 : 4;
  const uint32_t vector = (last.units * element + 3) / 4;
  const uint32_t* h = state + recurrent_size(view).streamed - (last.cell == CellKind::lstm ? 2 : 1) * vector;
  if (view.format != WeightKind::int8) return copy_floats(h, count, out);
  for (uint32_t i = 0; i < count; ++i) {
    int16_t value;
    memcpy(&value, reinterpret_cast<const uint8_t*>(h) + 2 * size_t{i}, 2);
    out[i] = static_cast<float>(value) * (1.0f / 32768);
  }
}

}  // namespace

RecurrentSize recurrent_size(const RecurrentView& view) {
  RecurrentSize size;
  uint32_t inputs = view.width, below = view.width;
  for (uint32_t i = 0; i < view.layers; ++i) {
    const RecurrentLayerView layer = recurrent_layer(view, i);
    if (i > 0 && layer.level == size.levels) below = size.width;
    inputs = layer.level == 0 ? view.width : below;
    size.add(layer, view.format, inputs);
  }
  return size;
}

void run_recurrent_row(const OperatorView& op, const float* in, float* out, uint8_t* bytes) {
  const RecurrentView& view = op.recurrent;
  const RecurrentSize size = recurrent_size(view);
  const LayerWork work(view, size, view.steps, bytes);
  const uint32_t element = view.format == WeightKind::int8 ? 1 : 4;
  uint32_t steps = view.steps;
  if (view.lengths) {
    const float length = in[op.input_count - 1];
    steps = length >= 1 ? (length < static_cast<float>(steps) ? static_cast<uint32_t>(length) : steps) : 0;
  }
  memset(out, 0, size_t{op.output_count} * sizeof(float));
  for (uint32_t n = 0; n < steps; ++n)
    enter_step(view, in + size_t{n} * view.width, work.vectors[0] + size_t{element} * n * work.stride);
  run_layers(view, size, work, steps, out);
}

void take_step(const RecurrentView& view, const float* in, uint32_t* state, uint8_t* work) {
  const RecurrentSize size = recurrent_size(view);
  if (view.steps == 0) return stream_step(view, size, in, state, work);
  const uint32_t elements = step_elements(view.format, view.width);
  uint32_t* steps = state + 1;
  uint32_t count = state[0] < view.steps ? state[0] : view.steps;
  if (count == view.steps) memmove(steps, steps + elements, size_t{4} * elements * --count);
  uint32_t* place = steps + size_t{count} * elements;
  enter_step(view, in, reinterpret_cast<uint8_t*>(place));
  state[0] = ++count;
  float* out = reinterpret_cast<float*>(steps + size_t{view.steps} * elements);
  run_ring(view, size, steps, count, out, work);
}

void read_outputs(const RecurrentView& view, uint32_t count, const uint32_t* state, float* out,
                  uint8_t* work) {
  if (view.steps == 0 && state != nullptr) return read_state(view, count, state, out);
  const size_t before = 1 + size_t{view.steps} * step_elements(view.format, view.width);
  if (state != nullptr && state[0] > 0) return copy_floats(state + before, count, out);
  // Without steps, states are 0; unless there is always something to look at.
  memset(out, 0, size_t{count} * sizeof(float));
  if (view.padded) run_ring(view, recurrent_size(view), nullptr, 0, out, work);
}

#endif

}  // namespace tonearm::runtime
