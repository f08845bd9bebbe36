#include "train/recurrent_passes.h"

#include <algorithm>
#include <cmath>

namespace tonearm::recurrent {
namespace {

/// Sessions, or questions where a branch runs once per question, that go through the network together: few
/// enough for their activations to stay in the cache.
constexpr std::size_t panel_sessions = 32, panel_questions = 64;
/// Rows that one product takes at a time, for the same reason.
constexpr std::size_t product_rows = 128;
/// Of batch normalisation, within the root of the variance.
constexpr float variance_floor = 1e-5F;

constexpr float one = 1;

/// A row length of an odd number of cache lines: rows whose distance is a power of two share few sets of
/// the cache.
std::size_t row_floats(std::size_t columns) {
  const std::size_t floats = padded(columns);
  return floats / dense_lanes % 2 == 0 ? floats + dense_lanes : floats;
}

void reserve(Floats& floats, std::size_t size) {
  if (floats.size() < size) floats.resize(size);
}

float finite(float value) { return std::isfinite(value) ? value : 0.0F; }

/// The nearest integer, as long as it is below 2^22.
float nearest(float value) {
  constexpr float to_integer = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  return (value + to_integer) - to_integer;
}

float quantized(float value, float scale) {
  return nearest(std::clamp(value / scale, -127.0F, 127.0F)) * scale;
}

/// Rounds each column to max|column| / 127: int8 weights, a scale for each output. Rows that read inputs with
/// scales are rounded as their products with these, because that is what the blob holds.
void round_columns(const Matrix& matrix, const std::vector<float>& input_scales, float* data) {
  const auto input_scale = [&](std::size_t i) { return input_scales.empty() ? 1.0F : input_scales[i]; };
  for (std::size_t j = 0; j < matrix.columns; ++j) {
    float most = 0;
    for (std::size_t i = 0; i < matrix.rows; ++i)
      most = std::max(most, std::abs(data[i * matrix.stride + j]) * input_scale(i));
    if (most == 0) continue;
    const float scale = most / 127;
    for (std::size_t i = 0; i < matrix.rows; ++i) {
      float& value = data[i * matrix.stride + j];
      value = quantized(value, scale / input_scale(i));
    }
  }
}

bool streams(const BranchOptions& options) {
  return options.source == BranchOptions::Source::steps && options.count == 0;
}

/// to (m x n) += the transposed a (rows x m) times b (rows x n).
void accumulate(const Dense& dense, std::size_t rows, const float* a, std::size_t m, std::size_t a_row,
                const float* b, std::size_t n, std::size_t b_row, float* to, std::size_t to_row) {
  for (std::size_t first = 0; first < rows; first += product_rows)
    dense.multiply({.m = m,
                    .n = n,
                    .k = std::min(product_rows, rows - first),
                    .a = a + first * a_row,
                    .a_row = 1,
                    .a_column = a_row,
                    .b = b + first * b_row,
                    .b_row = b_row,
                    .start = to,
                    .start_row = to_row,
                    .c = to,
                    .c_row = to_row});
}

/// to (n) += the sum of the rows of b.
void accumulate_rows(const Dense& dense, std::size_t rows, const float* b, std::size_t n, std::size_t b_row,
                     float* to) {
  dense.multiply({.m = 1,
                  .n = n,
                  .k = rows,
                  .a = &one,
                  .a_row = 0,
                  .a_column = 0,
                  .b = b,
                  .b_row = b_row,
                  .start = to,
                  .start_row = 0,
                  .c = to,
                  .c_row = 0});
}

/// c (rows x n) = start + a (rows x k) times b (k x n).
void product(const Dense& dense, std::size_t rows, const float* a, std::size_t a_row, std::size_t k,
             const float* b, std::size_t n, std::size_t b_row, const float* start, std::size_t start_row,
             float* c, std::size_t c_row) {
  for (std::size_t first = 0; first < rows; first += product_rows)
    dense.multiply({.m = std::min(product_rows, rows - first),
                    .n = n,
                    .k = k,
                    .a = a + first * a_row,
                    .a_row = a_row,
                    .a_column = 1,
                    .b = b,
                    .b_row = b_row,
                    .start = start ? start + first * start_row : nullptr,
                    .start_row = start_row,
                    .c = c + first * c_row,
                    .c_row = c_row});
}

/// Calls use(state row, sums row, rows) for the longest runs of rows whose state before the step, and whose
/// sums, lie one after the other.
template <class Use>
void each_run(const Sequences& sequences, bool backward, Use use) {
  std::size_t state = 0, sums = 0, rows = 0;
  for (std::size_t t = backward ? 0 : 1; t + (backward ? 1 : 0) < sequences.positions(); ++t) {
    const std::size_t before = backward ? t + 1 : t - 1;
    const std::size_t carried = std::min(sequences.active[t], sequences.active[before]);
    if (rows > 0 && state + rows == sequences.begin[before] && sums + rows == sequences.begin[t]) {
      rows += carried;
      continue;
    }
    if (rows > 0) use(state, sums, rows);
    state = sequences.begin[before];
    sums = sequences.begin[t];
    rows = carried;
  }
  if (rows > 0) use(state, sums, rows);
}

/// Sorts the sequences, lays out their rows, and turns what is known of each question - its sequence, and
/// the position after which it is asked - into rows.
void lay_out(std::vector<Sequences::Sequence>& found, std::span<const std::uint32_t> of_question,
             std::span<const std::size_t> position, Sequences& to) {
  std::vector<std::uint32_t> order(found.size()), row(found.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return found[a].length > found[b].length; });
  to.sequences.clear();
  for (const std::uint32_t i : order) {
    row[i] = static_cast<std::uint32_t>(to.sequences.size());
    to.sequences.push_back(found[i]);
  }
  to.active.clear();
  to.begin.assign(1, 0);
  std::size_t active = to.sequences.size();
  for (std::size_t t = 0;; ++t) {
    while (active > 0 && to.sequences[active - 1].length <= t) --active;
    if (active == 0) break;
    to.active.push_back(active);
    to.begin.push_back(to.begin.back() + active);
  }
  to.last.assign(of_question.size(), Sequences::none);
  to.first.assign(of_question.size(), Sequences::none);
  for (std::size_t q = 0; q < of_question.size(); ++q) {
    if (position[q] == 0) continue;
    to.last[q] = to.begin[position[q] - 1] + row[of_question[q]];
    to.first[q] = row[of_question[q]];
  }
}

/// The sequences that a branch needs for the questions of `work`.
void plan(const BranchOptions& branch, const SessionData& data, std::span<const Reading> sessions,
          const Work& work, Sequences& to) {
  std::vector<Sequences::Sequence> found;
  std::vector<std::uint32_t> of_question(work.questions.size());
  std::vector<std::size_t> position(work.questions.size());  // 0: there is no sequence
  std::vector<std::uint32_t> window;                         // by the steps known
  constexpr auto unknown = static_cast<std::uint32_t>(-1);
  std::size_t q = 0;
  for (std::size_t s = 0; s < sessions.size(); ++s) {
    const std::size_t start = data.step_begin[sessions[s].session] + sessions[s].skipped;
    const std::size_t end = work.question_end[s];
    const auto known = [&](std::size_t i) {
      return std::size_t{data.ended[work.questions[i]]} - sessions[s].skipped;
    };
    std::size_t most = 0;
    for (std::size_t i = q; i < end; ++i) most = std::max(most, known(i));
    if (streams(branch)) {
      for (; q < end; ++q) {
        of_question[q] = static_cast<std::uint32_t>(found.size());
        position[q] = known(q);
      }
      if (most > 0) found.push_back({start, most, 0});
      continue;
    }
    window.assign(most + 1, unknown);
    for (; q < end; ++q) {
      if (branch.source == BranchOptions::Source::row_steps) {
        of_question[q] = static_cast<std::uint32_t>(found.size());
        position[q] = branch.count;
        found.push_back({work.questions[q], branch.count, 0});
        continue;
      }
      const std::size_t read = std::min(branch.count, known(q));
      const std::size_t length = branch.padded ? branch.count : read;
      position[q] = length;
      if (length == 0) continue;
      if (window[known(q)] == unknown) {
        window[known(q)] = static_cast<std::uint32_t>(found.size());
        found.push_back({start + known(q) - read, length, length - read});
      }
      of_question[q] = window[known(q)];
    }
  }
  lay_out(found, of_question, position, to);
}

}  // namespace

// --- shapes --------------------------------------------------------------------------------------------

Matrix Shape::append(std::size_t rows, std::size_t columns) {
  const Matrix matrix{weights, rows, columns, row_floats(columns)};
  weights += rows * matrix.stride;
  return matrix;
}

Matrix Shape::append_transposed(const Matrix& matrix) {
  const Matrix result{transposed, matrix.columns, padded(matrix.rows), row_floats(matrix.rows)};
  transposed += result.rows * result.stride;
  return result;
}

void Shape::append_dense(const std::vector<NetworkLayer>& layers, std::vector<std::uint32_t> inputs,
                         std::size_t width, std::vector<DenseShape>& shapes) {
  for (const NetworkLayer& layer : layers) {
    const auto outputs = static_cast<std::size_t>(layer.bias.size());
    DenseShape shape{.outputs = outputs,
                     .activation = layer.activation,
                     .weights = append(width, padded(outputs)),
                     .bias = 0,
                     .transposed = {}};
    shape.transposed = append_transposed(shape.weights);
    shapes.push_back(shape);
    rows_.push_back(std::move(inputs));
    inputs.resize(outputs);
    std::iota(inputs.begin(), inputs.end(), 0U);
    width = padded(outputs);
  }
}

Shape::Shape(const RecurrentNetwork& network, double dropout, bool normalised) {
  std::vector<std::uint32_t> into_head;
  for (const RecurrentBranch& from : network.branches) {
    BranchShape branch{.options = &from.options,
                       .levels = {},
                       .dense = {},
                       .joined = joined,
                       .width = from.options.width(),
                       .outputs = std::vector<std::uint32_t>(from.options.width())};
    std::iota(branch.outputs.begin(), branch.outputs.end(), 0U);
    if (from.options.source == BranchOptions::Source::row) {
      append_dense(from.dense, branch.outputs, branch.width, branch.dense);
      if (!from.dense.empty()) {
        branch.outputs.resize(branch.dense.back().outputs);
        std::iota(branch.outputs.begin(), branch.outputs.end(), 0U);
      }
      branch.width = padded(branch.outputs.size());
    } else {
      windows = windows || !streams(from.options);
      std::size_t at = 0;
      for (const BranchOptions::Level& options : from.options.levels) {
        LevelShape level;
        std::vector<std::uint32_t> outputs;
        for (std::size_t i = 0; i < (options.direction == Direction::both ? 2U : 1U); ++i, ++at) {
          const RecurrentLayer& layer = from.layers[at];
          const std::size_t units = layer.units(), width = padded(units), columns = gates(layer.cell) * width;
          LayerShape shape{.cell = layer.cell,
                           .backward = layer.backward,
                           .units = units,
                           .width = width,
                           .input = append(branch.width, columns),
                           .recurrent = append(units, columns),
                           .bias = 0,
                           .recurrent_bias = 0,
                           .input_transposed = {},
                           .recurrent_transposed = {}};
          if (!branch.levels.empty()) shape.input_transposed = append_transposed(shape.input);
          shape.recurrent_transposed = append_transposed(shape.recurrent);
          for (std::size_t u = 0; u < units; ++u)
            outputs.push_back(static_cast<std::uint32_t>(i * width + u));
          rows_.push_back(branch.outputs);
          level.layers.push_back(shape);
        }
        level.width = level.layers.size() * level.layers[0].width;
        level.row = row_floats(level.width);
        branch.width = level.width;
        branch.outputs = std::move(outputs);
        branch.levels.push_back(std::move(level));
      }
    }
    for (const std::uint32_t output : branch.outputs)
      into_head.push_back(static_cast<std::uint32_t>(joined) + output);
    joined += branch.width;
    branches.push_back(std::move(branch));
  }
  append_dense(network.head, std::move(into_head), joined, head);

  parameters = weights;
  const auto take = [&](std::size_t& offset, std::size_t count) {
    offset = parameters;
    parameters += count;
  };
  const auto take_bias = [&](DenseShape& layer) { take(layer.bias, layer.weights.columns); };
  for (BranchShape& branch : branches) {
    for (LevelShape& level : branch.levels)
      for (LayerShape& layer : level.layers) {
        take(layer.bias, layer.columns());
        if (layer.cell == Cell::gru) take(layer.recurrent_bias, layer.width);
      }
    std::for_each(branch.dense.begin(), branch.dense.end(), take_bias);
  }
  std::for_each(head.begin(), head.end(), take_bias);
  for (std::size_t l = 0; l + 1 < head.size(); ++l) {
    head[l].dropout = dropout;
    head[l].normalised = normalised;
    if (!normalised) continue;
    for (std::size_t* offset : {&head[l].gain, &head[l].shift, &head[l].mean, &head[l].variance})
      take(*offset, head[l].weights.columns);
  }
}

template <class Network, class Visit>
void Shape::each(Network& network, Visit visit) const {
  auto rows = rows_.begin();
  const auto dense = [&](auto& layers, const std::vector<DenseShape>& shapes) {
    for (std::size_t l = 0; l < shapes.size(); ++l, ++rows)
      for (std::size_t o = 0; o < shapes[l].outputs; ++o) {
        const auto output = static_cast<Eigen::Index>(o);
        for (std::size_t i = 0; i < rows->size(); ++i)
          visit(shapes[l].weights.offset + (*rows)[i] * shapes[l].weights.stride + o,
                layers[l].weights(output, static_cast<Eigen::Index>(i)));
        visit(shapes[l].bias + o, layers[l].bias[output]);
      }
  };
  for (std::size_t b = 0; b < branches.size(); ++b) {
    auto layer = network.branches[b].layers.begin();
    for (const LevelShape& level : branches[b].levels)
      for (const LayerShape& shape : level.layers) {
        for (std::size_t g = 0; g < gates(shape.cell); ++g)
          for (std::size_t u = 0; u < shape.units; ++u) {
            const auto output = static_cast<Eigen::Index>(g * shape.units + u);
            const std::size_t column = g * shape.width + u;
            for (std::size_t i = 0; i < rows->size(); ++i)
              visit(shape.input.offset + (*rows)[i] * shape.input.stride + column,
                    layer->input(output, static_cast<Eigen::Index>(i)));
            for (std::size_t i = 0; i < shape.units; ++i)
              visit(shape.recurrent.offset + i * shape.recurrent.stride + column,
                    layer->recurrent(output, static_cast<Eigen::Index>(i)));
            visit(shape.bias + column, layer->bias[output]);
          }
        if (shape.cell == Cell::gru)
          for (std::size_t u = 0; u < shape.units; ++u)
            visit(shape.recurrent_bias + u, layer->recurrent_bias[static_cast<Eigen::Index>(u)]);
        ++layer;
        ++rows;
      }
    dense(network.branches[b].dense, branches[b].dense);
  }
  dense(network.head, head);
}

Floats Shape::flatten(const RecurrentNetwork& network) const {
  Floats flat(parameters);
  each(network, [&](std::size_t at, float value) { flat[at] = value; });
  for (const DenseShape& layer : head)
    if (layer.normalised) {
      std::fill_n(flat.begin() + static_cast<std::ptrdiff_t>(layer.gain), layer.outputs, 1.0F);
      std::fill_n(flat.begin() + static_cast<std::ptrdiff_t>(layer.variance), layer.outputs, 1.0F);
    }
  return flat;
}

void Shape::unflatten(const Floats& flat, RecurrentNetwork& network) const {
  each(network, [&](std::size_t at, float& value) { value = flat[at]; });
  for (std::size_t l = 0; l < head.size(); ++l) {
    if (!head[l].normalised) continue;
    for (std::size_t o = 0; o < head[l].outputs; ++o) {
      const auto output = static_cast<Eigen::Index>(o);
      const float scale = flat[head[l].gain + o] / std::sqrt(flat[head[l].variance + o] + variance_floor);
      network.head[l].weights.row(output) *= scale;
      float& bias = network.head[l].bias[output];
      bias = (bias - flat[head[l].mean + o]) * scale + flat[head[l].shift + o];
    }
  }
}

Work::Work(const Shape& shape, bool backward)
    : head(shape.head.size()), gradient(backward ? shape.parameters : 0) {
  for (const BranchShape& branch : shape.branches) {
    branches.emplace_back();
    branches.back().dense.resize(branch.dense.size());
    for (const LevelShape& level : branch.levels) {
      branches.back().levels.emplace_back();
      branches.back().levels.back().layers.resize(level.layers.size());
    }
  }
  const bool normalised =
      std::any_of(shape.head.begin(), shape.head.end(), [](const auto& layer) { return layer.normalised; });
  if (backward && normalised) moments.resize(shape.parameters - shape.weights);
}

// --- passes --------------------------------------------------------------------------------------------

Passes::Passes(const Shape& shape, const Floats& parameters, unsigned truncation, bool quantized)
    : shape_(shape),
      parameters_(parameters),
      rounded_(quantized ? parameters.size() : 0),
      transposed_(shape.transposed),
      truncation_(truncation),
      quantized_(quantized) {}

void Passes::refresh(Threads& threads) {
  std::vector<std::pair<const Matrix*, const Matrix*>> matrices;
  std::vector<const std::vector<float>*>
      input_scales;  // of those that int8 inference rounds, which come first
  static const std::vector<float> none;
  for (const BranchShape& branch : shape_.branches)
    for (const LevelShape& level : branch.levels)
      for (const LayerShape& layer : level.layers) {
        matrices.emplace_back(&layer.input, &layer.input_transposed);
        input_scales.push_back(&level == branch.levels.data() ? &branch.options->input_scales : &none);
        matrices.emplace_back(&layer.recurrent, &layer.recurrent_transposed);
        input_scales.push_back(&none);
      }
  for (const BranchShape& branch : shape_.branches)
    for (const DenseShape& layer : branch.dense) matrices.emplace_back(&layer.weights, &layer.transposed);
  for (const DenseShape& layer : shape_.head) matrices.emplace_back(&layer.weights, &layer.transposed);
  if (quantized_) std::copy(parameters_.begin(), parameters_.end(), rounded_.begin());
  threads.run(matrices.size(), [&](std::size_t i) {
    const Matrix& matrix = *matrices[i].first;
    if (quantized_ && i < input_scales.size())
      round_columns(matrix, *input_scales[i], rounded_.data() + matrix.offset);
    if (matrices[i].second->rows == 0) return;
    const float* const from = used() + matrix.offset;
    float* const to = transposed_.data() + matrices[i].second->offset;
    const std::size_t stride = matrices[i].second->stride;
    // By tiles: either side's rows are far apart.
    for (std::size_t column = 0; column < matrix.columns; column += dense_lanes)
      for (std::size_t row = 0; row < matrix.rows; ++row)
        for (std::size_t j = column; j < column + dense_lanes; ++j)
          to[j * stride + row] = from[row * matrix.stride + j];
  });
}

void Passes::run(const SessionData& data, std::span<const Reading> sessions, std::span<const float> scales,
                 const Random& stream, Work& work) const {
  work.loss = 0;
  work.moment_rows = 0;
  std::fill(work.gradient.begin(), work.gradient.end(), 0.0F);
  std::fill(work.moments.begin(), work.moments.end(), 0.0F);
  Random random = stream;
  Random* const training = work.gradient.empty() ? nullptr : &random;
  while (!sessions.empty()) {
    work.questions.clear();
    work.question_end.clear();
    std::size_t taken = 0;
    for (; taken < sessions.size() && (shape_.windows || taken < panel_sessions); ++taken) {
      const Reading& reading = sessions[taken];
      const std::uint32_t first = data.question_begin[reading.session],
                          end = data.question_begin[reading.session + 1];
      if (shape_.windows && taken > 0 && work.questions.size() + end - first > panel_questions) break;
      for (std::uint32_t q = first; q < end; ++q)
        if (data.ended[q] >= reading.skipped) work.questions.push_back(q);
      work.question_end.push_back(work.questions.size());
    }
    if (!work.questions.empty()) {
      forward(data, sessions.first(taken), training, work);
      work.loss += losses(data, scales, work);
      if (training) backward(work);
      if (training) work.moment_rows += static_cast<double>(work.questions.size());
    }
    sessions = sessions.subspan(taken);
  }
}

void Passes::forward(const SessionData& data, std::span<const Reading> sessions, Random* random,
                     Work& work) const {
  const std::size_t questions = work.questions.size();
  reserve(work.joined, questions * shape_.joined);
  for (std::size_t b = 0; b < shape_.branches.size(); ++b) {
    const BranchShape& branch = shape_.branches[b];
    BranchWork& branch_work = work.branches[b];
    if (branch.options->source == BranchOptions::Source::row)
      forward_row(branch, data, random, branch_work, work);
    else
      forward_sequences(branch, data, sessions, branch_work, work);
    if (!random || branch.options->dropout == 0) continue;
    reserve(branch_work.mask, questions * branch.width);
    Dropout dropout{*random, branch.options->dropout};
    dropout.draw(questions * branch.width, branch_work.mask.data());
    *random = dropout.random;
    for (std::size_t q = 0; q < questions; ++q)
      dense_.scale(branch.width, branch_work.mask.data() + q * branch.width,
                   work.joined.data() + q * shape_.joined + branch.joined);
  }
  forward(shape_.head, questions, work.joined.data(), shape_.joined, random, work.head, work);
}

void Passes::forward_row(const BranchShape& branch, const SessionData& data, Random* random,
                         BranchWork& branch_work, Work& work) const {
  const BranchOptions& options = *branch.options;
  const std::size_t questions = work.questions.size(), row = padded(options.inputs.size());
  reserve(branch_work.input, questions * row);
  for (std::size_t q = 0; q < questions; ++q)
    gather(options, data.rows.data() + work.questions[q] * data.row_features, options.inputs, row,
           branch_work.input.data() + q * row);
  const float* output = branch_work.input.data();
  if (!branch.dense.empty()) {
    forward(branch.dense, questions, output, row, random, branch_work.dense, work);
    output = branch_work.dense.back().output.data();
  }
  for (std::size_t q = 0; q < questions; ++q)
    std::copy_n(output + q * branch.width, branch.width,
                work.joined.data() + q * shape_.joined + branch.joined);
}

void Passes::forward_sequences(const BranchShape& branch, const SessionData& data,
                               std::span<const Reading> sessions, BranchWork& branch_work, Work& work) const {
  const BranchOptions& options = *branch.options;
  Sequences& sequences = branch_work.sequences;
  plan(options, data, sessions, work, sequences);

  const std::size_t width = options.width(), row = row_floats(width);
  const bool row_steps = options.source == BranchOptions::Source::row_steps;
  const std::vector<float> padding(width, options.padding);
  std::vector<std::uint32_t> every(width);
  std::iota(every.begin(), every.end(), 0U);
  reserve(branch_work.input, sequences.rows() * row);
  for (std::size_t t = 0; t < sequences.positions(); ++t)
    for (std::size_t i = 0; i < sequences.active[t]; ++i) {
      const Sequences::Sequence& sequence = sequences.sequences[i];
      float* const to = branch_work.input.data() + (sequences.begin[t] + i) * row;
      if (row_steps)
        gather(options, data.rows.data() + sequence.first * data.row_features,
               std::span(options.inputs).subspan(t * width, width), row, to);
      else if (t < sequence.missing)
        gather(options, padding.data(), every, row, to);
      else
        gather(options, data.steps.data() + (sequence.first + t - sequence.missing) * data.step_features,
               options.inputs, row, to);
    }

  const float* input = branch_work.input.data();
  std::size_t input_row = row;
  for (std::size_t l = 0; l < branch.levels.size(); ++l) {
    const LevelShape& level = branch.levels[l];
    LevelWork& level_work = branch_work.levels[l];
    reserve(level_work.output, sequences.rows() * level.row);
    for (std::size_t d = 0; d < level.layers.size(); ++d)
      forward(level.layers[d], sequences, input, input_row,
              level_work.output.data() + d * level.layers[0].width, level.row, level_work.layers[d]);
    input = level_work.output.data();
    input_row = level.row;
  }

  const LevelShape& level = branch.levels.back();
  for (std::size_t q = 0; q < work.questions.size(); ++q) {
    float* to = work.joined.data() + q * shape_.joined + branch.joined;
    for (std::size_t d = 0; d < level.layers.size(); ++d) {
      const LayerShape& layer = level.layers[d];
      const std::size_t from = layer.backward ? sequences.first[q] : sequences.last[q];
      if (from == Sequences::none)
        std::fill_n(to, layer.width, 0.0F);
      else
        std::copy_n(input + from * level.row + d * layer.width, layer.width, to);
      to += layer.width;
    }
  }
}

void Passes::gather(const BranchOptions& options, const float* from, std::span<const std::uint32_t> inputs,
                    std::size_t row, float* to) const {
  const bool rounds = quantized_ && !options.input_scales.empty();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const float value = finite(from[inputs[i]]);
    to[i] = rounds ? quantized(value, options.input_scales[i]) : value;
  }
  std::fill(to + inputs.size(), to + row, 0.0F);
}

/// The step at position t of rows [first, end).
Dense::CellStep Passes::step(const LayerShape& layer, const Sequences& sequences, std::size_t t,
                             std::size_t first, std::size_t end, float* output, std::size_t output_row,
                             LayerWork& work) const {
  const std::size_t at = sequences.begin[t] + first, gates_row = row_floats(layer.columns()),
                    inner_row = row_floats(layer.width);
  const auto row_of = [&](Floats& floats) {
    return floats.empty() ? nullptr : floats.data() + at * inner_row;
  };
  return {.rows = end - first,
          .units = layer.width,
          .gates = work.gates.data() + at * gates_row,
          .gates_row = gates_row,
          .previous = nullptr,
          .previous_row = 0,
          .memory = row_of(work.memory),
          .squashed = row_of(work.squashed),
          .inner = row_of(work.inner),
          .inner_row = inner_row,
          .output = output + at * output_row,
          .output_row = output_row,
          .carry = nullptr,
          .carry_row = inner_row};
}

void Passes::forward(const LayerShape& layer, const Sequences& sequences, const float* input,
                     std::size_t input_row, float* output, std::size_t output_row, LayerWork& work) const {
  const std::size_t columns = layer.columns(), gates_row = row_floats(columns), width = layer.width,
                    inner_row = row_floats(width), rows = sequences.rows(), positions = sequences.positions();
  reserve(work.gates, rows * gates_row);
  if (layer.cell == Cell::lstm) {
    reserve(work.memory, rows * inner_row);
    reserve(work.squashed, rows * inner_row);
  } else if (layer.cell == Cell::gru || layer.cell == Cell::gru_reset_before) {
    reserve(work.inner, rows * inner_row);
  }
  product(dense_, rows, input, input_row, layer.input.rows, used() + layer.input.offset, columns,
          layer.input.stride, used() + layer.bias, 0, work.gates.data(), gates_row);

  const float* const recurrent = used() + layer.recurrent.offset;
  const std::size_t stride = layer.recurrent.stride;
  const auto multiply = [&](std::size_t count, const float* state, std::size_t state_row, std::size_t column,
                            std::size_t n, const float* start, std::size_t start_row, float* to,
                            std::size_t to_row) {
    product(dense_, count, state, state_row, layer.units, recurrent + column, n, stride, start, start_row, to,
            to_row);
  };
  for (std::size_t s = 0; s < positions; ++s) {
    const std::size_t t = layer.backward ? positions - 1 - s : s;
    const std::size_t before = layer.backward ? t + 1 : t - 1;
    const std::size_t active = sequences.active[t];
    const std::size_t carried = s == 0 ? 0 : std::min(active, sequences.active[before]);
    const float* const state = carried > 0 ? output + sequences.begin[before] * output_row : nullptr;
    for (const bool continues : {true, false}) {  // rows with a state, and rows that begin here
      const std::size_t first = continues ? 0 : carried, end = continues ? carried : active;
      if (first == end) continue;
      Dense::CellStep now = step(layer, sequences, t, first, end, output, output_row, work);
      if (continues) {
        now.previous = state;
        now.previous_row = output_row;
      }
      switch (layer.cell) {
        case Cell::rnn:
        case Cell::rnn_relu:
          if (continues)
            multiply(now.rows, state, output_row, 0, columns, now.gates, gates_row, now.gates, gates_row);
          for (std::size_t i = 0; i < now.rows; ++i) {
            float* const sums = now.gates + i * gates_row;
            dense_.activate(layer.cell == Cell::rnn ? NetworkActivation::tanh : NetworkActivation::relu,
                            width, sums);
            std::copy_n(sums, width, now.output + i * output_row);
          }
          break;
        case Cell::lstm:
          if (continues) {
            multiply(now.rows, state, output_row, 0, columns, now.gates, gates_row, now.gates, gates_row);
            now.previous = work.memory.data() + sequences.begin[before] * inner_row;
            now.previous_row = inner_row;
          }
          dense_.lstm(now);
          break;
        case Cell::gru: {
          const float* const bias = used() + layer.recurrent_bias;
          if (continues) {
            multiply(now.rows, state, output_row, 0, 2 * width, now.gates, gates_row, now.gates, gates_row);
            multiply(now.rows, state, output_row, 2 * width, width, bias, 0, now.inner, inner_row);
          } else {
            for (std::size_t i = 0; i < now.rows; ++i) std::copy_n(bias, width, now.inner + i * inner_row);
          }
          dense_.gru(now);
          break;
        }
        case Cell::gru_reset_before:
          if (continues)
            multiply(now.rows, state, output_row, 0, 2 * width, now.gates, gates_row, now.gates, gates_row);
          dense_.gru_reset(now);
          if (continues)
            multiply(now.rows, now.inner, inner_row, 2 * width, width, now.gates + 2 * width, gates_row,
                     now.gates + 2 * width, gates_row);
          now.inner = nullptr;
          dense_.gru(now);
          break;
      }
      if (quantized_)
        for (std::size_t i = 0; i < now.rows; ++i) {
          float* const h = now.output + i * output_row;
          for (std::size_t u = 0; u < width; ++u) h[u] = nearest(h[u] * 127) * (1.0F / 127);
        }
    }
  }
}

void Passes::backward(const LayerShape& layer, const Sequences& sequences, const float* input,
                      std::size_t input_row, float* input_delta, const float* output, float* delta,
                      std::size_t output_row, LayerWork& work, Floats& gradient) const {
  const std::size_t columns = layer.columns(), gates_row = row_floats(columns), width = layer.width,
                    inner_row = row_floats(width), rows = sequences.rows(), positions = sequences.positions();
  const bool is_gru = layer.cell == Cell::gru || layer.cell == Cell::gru_reset_before;
  const float* const transposed = transposed_.data() + layer.recurrent_transposed.offset;
  const std::size_t stride = layer.recurrent_transposed.stride;
  reserve(work.carry, sequences.sequences.size() * inner_row);
  std::fill(work.carry.begin(), work.carry.end(), 0.0F);
  // to += from times the transposed recurrent weights of so many columns.
  const auto multiply = [&](std::size_t count, const float* from, std::size_t from_row, std::size_t column,
                            std::size_t n, const float* start, float* to, std::size_t to_row) {
    product(dense_, count, from, from_row, n, transposed + column * stride, width, stride, start, to_row, to,
            to_row);
  };
  for (std::size_t s = positions; s-- > 0;) {
    const std::size_t t = layer.backward ? positions - 1 - s : s;
    const std::size_t before = layer.backward ? t + 1 : t - 1;
    const std::size_t active = sequences.active[t];
    const std::size_t carried = s == 0 ? 0 : std::min(active, sequences.active[before]);
    const bool cut = truncation_ > 0 && std::max(t, before) % truncation_ == 0;
    for (const bool continues : {true, false}) {
      const std::size_t first = continues ? 0 : carried, end = continues ? carried : active;
      if (first == end) continue;
      Dense::CellStep now = step(layer, sequences, t, first, end, delta, output_row, work);
      const bool flows = continues && !cut;
      float* const below = flows ? delta + sequences.begin[before] * output_row : nullptr;
      if (continues) {
        now.previous = output + sequences.begin[before] * output_row;
        now.previous_row = output_row;
      }
      if (is_gru) {
        now.carry = below;
        now.carry_row = output_row;
      }
      switch (layer.cell) {
        case Cell::rnn:
        case Cell::rnn_relu:
          for (std::size_t i = 0; i < now.rows; ++i) {
            float* const by_sums = work.carry.data();
            float* const outputs = now.gates + i * gates_row;
            std::copy_n(now.output + i * output_row, width, by_sums);
            dense_.differentiate(layer.cell == Cell::rnn ? NetworkActivation::tanh : NetworkActivation::relu,
                                 width, outputs, by_sums);
            std::copy_n(by_sums, width, outputs);
          }
          if (flows) multiply(now.rows, now.gates, gates_row, 0, columns, below, below, output_row);
          break;
        case Cell::lstm:
          if (continues) {
            now.previous = work.memory.data() + sequences.begin[before] * inner_row;
            now.previous_row = inner_row;
          }
          now.carry = work.carry.data() + first * inner_row;
          dense_.lstm_back(now);
          if (flows) multiply(now.rows, now.gates, gates_row, 0, columns, below, below, output_row);
          if (continues && cut) std::fill_n(now.carry, now.rows * inner_row, 0.0F);
          break;
        case Cell::gru:
          dense_.gru_back(now);
          if (!flows) break;
          multiply(now.rows, now.gates, gates_row, 0, 2 * width, below, below, output_row);
          multiply(now.rows, now.inner, inner_row, 2 * width, width, below, below, output_row);
          break;
        case Cell::gru_reset_before:
          now.inner = nullptr;
          dense_.gru_back(now);
          now.inner = work.carry.data();
          multiply(now.rows, now.gates + 2 * width, gates_row, 2 * width, width, nullptr, now.inner,
                   inner_row);
          dense_.gru_reset_back(now);
          if (flows) multiply(now.rows, now.gates, gates_row, 0, 2 * width, below, below, output_row);
          break;
      }
    }
  }

  accumulate(dense_, rows, input, layer.input.rows, input_row, work.gates.data(), columns, gates_row,
             gradient.data() + layer.input.offset, layer.input.stride);
  accumulate_rows(dense_, rows, work.gates.data(), columns, gates_row, gradient.data() + layer.bias);
  if (layer.cell == Cell::gru)
    accumulate_rows(dense_, rows, work.inner.data(), width, inner_row,
                    gradient.data() + layer.recurrent_bias);
  each_run(sequences, layer.backward, [&](std::size_t state, std::size_t sums, std::size_t count) {
    const float* const states = output + state * output_row;
    const float* const deltas = work.gates.data() + sums * gates_row;
    float* const to = gradient.data() + layer.recurrent.offset;
    const std::size_t to_row = layer.recurrent.stride;
    accumulate(dense_, count, states, layer.units, output_row, deltas, is_gru ? 2 * width : columns,
               gates_row, to, to_row);
    if (layer.cell == Cell::gru)
      accumulate(dense_, count, states, layer.units, output_row, work.inner.data() + sums * inner_row, width,
                 inner_row, to + 2 * width, to_row);
    if (layer.cell == Cell::gru_reset_before)
      accumulate(dense_, count, work.inner.data() + sums * inner_row, layer.units, inner_row,
                 deltas + 2 * width, width, gates_row, to + 2 * width, to_row);
  });
  if (input_delta)
    product(dense_, rows, work.gates.data(), gates_row, columns,
            transposed_.data() + layer.input_transposed.offset, layer.input_transposed.columns,
            layer.input_transposed.stride, input_delta, input_row, input_delta, input_row);
}

void Passes::forward(const std::vector<DenseShape>& layers, std::size_t rows, const float* input,
                     std::size_t input_row, Random* random, std::vector<DenseWork>& works, Work& work) const {
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const DenseShape& layer = layers[l];
    const std::size_t columns = layer.weights.columns, count = rows * columns;
    DenseWork& now = works[l];
    reserve(now.output, count);
    float* const output = now.output.data();
    product(dense_, rows, input, input_row, layer.weights.rows, used() + layer.weights.offset, columns,
            layer.weights.stride, used() + layer.bias, 0, output, columns);
    if (layer.normalised) normalise(layer, rows, random != nullptr, now, work);
    dense_.activate(layer.activation, count, output);
    if (random && layer.dropout > 0) {
      reserve(now.mask, count);
      reserve(now.slope, count);
      Dropout dropout{*random, layer.dropout};
      dropout.draw(count, now.mask.data());
      *random = dropout.random;
      std::copy_n(now.mask.data(), count, now.slope.data());
      dense_.differentiate(layer.activation, count, output, now.slope.data());
      dense_.scale(count, now.mask.data(), output);
    }
    input = output;
    input_row = columns;
  }
}

void Passes::backward(const std::vector<DenseShape>& layers, std::size_t rows, const float* input,
                      std::size_t input_row, float* input_delta, std::vector<DenseWork>& works,
                      Floats& gradient) const {
  for (std::size_t l = layers.size(); l-- > 0;) {
    const DenseShape& layer = layers[l];
    const std::size_t columns = layer.weights.columns, count = rows * columns;
    DenseWork& now = works[l];
    float* const delta = now.delta.data();
    if (layer.dropout > 0)
      dense_.scale(count, now.slope.data(), delta);
    else
      dense_.differentiate(layer.activation, count, now.output.data(), delta);
    if (layer.normalised) normalise_back(layer, rows, now, gradient);
    const float* const below = l > 0 ? works[l - 1].output.data() : input;
    const std::size_t below_row = l > 0 ? layers[l - 1].weights.columns : input_row;
    accumulate(dense_, rows, below, layer.weights.rows, below_row, delta, columns, columns,
               gradient.data() + layer.weights.offset, layer.weights.stride);
    accumulate_rows(dense_, rows, delta, columns, columns, gradient.data() + layer.bias);
    if (l > 0) reserve(works[l - 1].delta, rows * below_row);
    float* const below_delta = l > 0 ? works[l - 1].delta.data() : input_delta;
    if (below_delta)
      product(dense_, rows, delta, columns, columns, transposed_.data() + layer.transposed.offset,
              layer.transposed.columns, layer.transposed.stride, nullptr, 0, below_delta, below_row);
  }
}

void Passes::normalise(const DenseShape& layer, std::size_t rows, bool training, DenseWork& layer_work,
                       Work& work) const {
  const std::size_t columns = layer.weights.columns;
  float* const values = layer_work.output.data();
  std::vector<float> mean(columns), variance(columns);
  if (training) {
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < columns; ++j) mean[j] += values[i * columns + j];
    for (float& value : mean) value /= static_cast<float>(rows);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < columns; ++j) {
        const float centred = values[i * columns + j] - mean[j];
        variance[j] += centred * centred;
      }
    for (float& value : variance) value /= static_cast<float>(rows);
    float* const means = work.moments.data() + (layer.mean - shape_.weights);
    float* const variances = work.moments.data() + (layer.variance - shape_.weights);
    for (std::size_t j = 0; j < layer.outputs; ++j) {
      means[j] += static_cast<float>(rows) * mean[j];
      variances[j] += static_cast<float>(rows) * variance[j];
    }
  } else {
    std::copy_n(used() + layer.mean, columns, mean.begin());
    std::copy_n(used() + layer.variance, columns, variance.begin());
  }
  reserve(layer_work.normalised, rows * columns);
  reserve(layer_work.inverse, columns);
  for (std::size_t j = 0; j < columns; ++j)
    layer_work.inverse[j] = 1 / std::sqrt(variance[j] + variance_floor);
  const float* const gain = used() + layer.gain;
  const float* const shift = used() + layer.shift;
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) {
      const float value = (values[i * columns + j] - mean[j]) * layer_work.inverse[j];
      layer_work.normalised[i * columns + j] = value;
      values[i * columns + j] = gain[j] * value + shift[j];
    }
}

void Passes::normalise_back(const DenseShape& layer, std::size_t rows, DenseWork& work,
                            Floats& gradient) const {
  const std::size_t columns = layer.weights.columns;
  float* const delta = work.delta.data();
  const float* const normalised = work.normalised.data();
  std::vector<float> by_gain(columns), by_shift(columns);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) {
      by_gain[j] += delta[i * columns + j] * normalised[i * columns + j];
      by_shift[j] += delta[i * columns + j];
    }
  const auto share = 1 / static_cast<float>(rows);
  const float* const gain = used() + layer.gain;
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) {
      float& value = delta[i * columns + j];
      value = gain[j] * work.inverse[j] *
              (value - share * (by_shift[j] + normalised[i * columns + j] * by_gain[j]));
    }
  dense_.add(columns, by_gain.data(), gradient.data() + layer.gain);
  dense_.add(columns, by_shift.data(), gradient.data() + layer.shift);
}

double Passes::losses(const SessionData& data, std::span<const float> scales, Work& work) const {
  const DenseShape& last = shape_.head.back();
  DenseWork& now = work.head.back();
  const std::size_t columns = last.weights.columns, tasks = std::min(last.outputs, data.tasks);
  const std::size_t questions = work.questions.size();
  const bool training = !work.gradient.empty();
  if (training) {
    reserve(now.delta, questions * columns);
    std::fill_n(now.delta.begin(), questions * columns, 0.0F);
  }
  double loss = 0;
  for (std::size_t q = 0; q < questions; ++q)
    for (std::size_t task = 0; task < (training ? tasks : 1); ++task) {
      const float target = data.targets[work.questions[q] * data.tasks + task];
      if (std::isnan(target)) continue;
      const double logit = now.output[q * columns + task];
      const double small = std::exp(-std::abs(logit));
      if (task == 0) loss += std::max(logit, 0.0) - logit * target + std::log1p(small);
      if (training)
        now.delta[q * columns + task] =
            static_cast<float>((logit > 0 ? 1 : small) / (1 + small) - target) * scales[task];
    }
  return loss;
}

void Passes::backward(Work& work) const {
  const std::size_t questions = work.questions.size();
  reserve(work.delta, questions * shape_.joined);
  backward(shape_.head, questions, work.joined.data(), shape_.joined, work.delta.data(), work.head,
           work.gradient);
  for (std::size_t b = 0; b < shape_.branches.size(); ++b) {
    const BranchShape& branch = shape_.branches[b];
    BranchWork& branch_work = work.branches[b];
    if (branch.options->dropout > 0)
      for (std::size_t q = 0; q < questions; ++q)
        dense_.scale(branch.width, branch_work.mask.data() + q * branch.width,
                     work.delta.data() + q * shape_.joined + branch.joined);
    if (branch.options->source != BranchOptions::Source::row) {
      backward_sequences(branch, branch_work, work);
    } else if (!branch.dense.empty()) {
      Floats& delta = branch_work.dense.back().delta;
      reserve(delta, questions * branch.width);
      for (std::size_t q = 0; q < questions; ++q)
        std::copy_n(work.delta.data() + q * shape_.joined + branch.joined, branch.width,
                    delta.data() + q * branch.width);
      backward(branch.dense, questions, branch_work.input.data(), padded(branch.options->inputs.size()),
               nullptr, branch_work.dense, work.gradient);
    }
  }
}

void Passes::backward_sequences(const BranchShape& branch, BranchWork& branch_work, Work& work) const {
  const Sequences& sequences = branch_work.sequences;
  for (std::size_t l = 0; l < branch.levels.size(); ++l) {
    const std::size_t count = sequences.rows() * branch.levels[l].row;
    reserve(branch_work.levels[l].delta, count);
    std::fill_n(branch_work.levels[l].delta.begin(), count, 0.0F);
  }
  const LevelShape& top = branch.levels.back();
  for (std::size_t q = 0; q < work.questions.size(); ++q)
    for (std::size_t d = 0; d < top.layers.size(); ++d) {
      const LayerShape& layer = top.layers[d];
      const std::size_t to = layer.backward ? sequences.first[q] : sequences.last[q];
      if (to == Sequences::none) continue;
      dense_.add(layer.width, work.delta.data() + q * shape_.joined + branch.joined + d * layer.width,
                 branch_work.levels.back().delta.data() + to * top.row + d * layer.width);
    }
  for (std::size_t l = branch.levels.size(); l-- > 0;) {
    const LevelShape& level = branch.levels[l];
    LevelWork& now = branch_work.levels[l];
    LevelWork* const below = l > 0 ? &branch_work.levels[l - 1] : nullptr;
    const std::size_t input_row = below ? branch.levels[l - 1].row : row_floats(branch.options->width());
    for (std::size_t d = 0; d < level.layers.size(); ++d) {
      const std::size_t column = d * level.layers[0].width;
      backward(level.layers[d], sequences, below ? below->output.data() : branch_work.input.data(), input_row,
               below ? below->delta.data() : nullptr, now.output.data() + column, now.delta.data() + column,
               level.row, now.layers[d], work.gradient);
    }
  }
}

}  // namespace tonearm::recurrent
