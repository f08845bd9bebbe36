#pragma once

// Recurrent and quantized layers, evaluated from the words of the schema alone: in float64, and of codes in
// whole numbers. Slow, and nothing like the runtime.

#include <gtest/gtest.h>
#include <tonearm_schema/model_generated.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace tonearm::reference {

using schema::Cell;
using schema::WeightFormat;

using Vector = std::vector<float>;

inline unsigned gates_of(Cell cell) {
  return cell == Cell::Lstm ? 4 : cell == Cell::Rnn || cell == Cell::RnnRelu ? 1 : 3;
}

inline double half_of(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31), digits = static_cast<int>(bits & 1023);
  const double magnitude = exponent == 0 ? std::ldexp(digits, -24) : std::ldexp(1024 + digits, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/// A matrix as it lies in the blob, its rows in tiles.
struct Matrix {
  const std::uint8_t* bytes;
  WeightFormat format;
  std::size_t gates, columns;

  /// Of Int8 the code.
  double at(std::size_t gate, std::size_t unit, std::size_t column) const {
    const std::size_t panel = unit / 16, l = unit % 16;
    if (format == WeightFormat::Int8) {
      const std::size_t fours = (columns + 3) / 4;
      const std::size_t tile = (panel * fours + column / 4) * gates + gate;
      return bytes[(tile * 16 + l) * 4 + column % 4] - 128;
    }
    const std::size_t place = ((panel * columns + column) * gates + gate) * 16 + l;
    if (format == WeightFormat::Float16) return half_of(bytes[2 * place] | bytes[2 * place + 1] << 8);
    float weight;
    std::memcpy(&weight, bytes + 4 * place, 4);
    return static_cast<double>(weight);
  }
};

/// A layer's two matrices; its last gate may have one of its own.
struct Matrices {
  Matrix input, recurrent, of_n;

  Matrices(const schema::RecurrentLayerT& layer, WeightFormat format, std::size_t inputs) {
    const std::size_t gates = gates_of(layer.cell), units = layer.units;
    const bool apart = layer.cell == Cell::GruResetBefore;
    input = {layer.input_weights.data(), format, gates, inputs};
    recurrent = {layer.recurrent_weights.data(), format, apart ? 2 : gates, units};
    of_n = recurrent;
    const std::size_t first = layer.recurrent_weights.size() / 3 * 2;
    if (apart) of_n = {layer.recurrent_weights.data() + first, format, 1, units};
  }
};

/// The place of a gate's unit in vectors that have a number for each row.
inline std::size_t row_of(const schema::RecurrentLayerT& layer, std::size_t gate, std::size_t unit) {
  return (unit / 16 * gates_of(layer.cell) + gate) * 16 + unit % 16;
}

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }

using Numbers = std::vector<std::vector<double>>;

/// h after each step.
inline Numbers run_in_float64(const schema::RecurrentLayerT& layer, WeightFormat format,
                              const Numbers& steps) {
  const std::size_t units = layer.units;
  Numbers states(steps.size());
  if (steps.empty()) return states;
  const Matrices m(layer, format, steps[0].size());
  std::vector<double> h(units), c(units);
  for (std::size_t n = 0; n < steps.size(); ++n) {
    const std::size_t step = layer.backward ? steps.size() - 1 - n : n;
    const auto from = [](const Matrix& matrix, std::size_t gate, std::size_t u, const auto& vector) {
      double sum = 0;
      for (std::size_t j = 0; j < vector.size(); ++j) sum += matrix.at(gate, u, j) * vector[j];
      return sum;
    };
    const auto in = [&](std::size_t gate, std::size_t u) {
      return static_cast<double>(layer.bias[row_of(layer, gate, u)]) + from(m.input, gate, u, steps[step]);
    };
    const auto both = [&](std::size_t gate, std::size_t u) {
      return in(gate, u) + from(m.recurrent, gate, u, h);
    };
    std::vector<double> next(units), reset(units);
    for (std::size_t u = 0; u < units && layer.cell == Cell::GruResetBefore; ++u)
      reset[u] = logistic(both(0, u)) * h[u];
    for (std::size_t u = 0; u < units; ++u) switch (layer.cell) {
        case Cell::Rnn:
          next[u] = std::tanh(both(0, u));
          break;
        case Cell::RnnRelu:
          next[u] = std::clamp(both(0, u), 0.0, 1e6);
          break;
        case Cell::Lstm:
          c[u] = logistic(both(1, u)) * c[u] + logistic(both(0, u)) * std::tanh(both(2, u));
          next[u] = logistic(both(3, u)) * std::tanh(c[u]);
          break;
        case Cell::Gru: {
          const double back = from(m.recurrent, 2, u, h) + static_cast<double>(layer.recurrent_bias[u]);
          const double z = logistic(both(1, u));
          next[u] = (1 - z) * std::tanh(in(2, u) + logistic(both(0, u)) * back) + z * h[u];
          break;
        }
        case Cell::GruResetBefore: {
          const double z = logistic(both(1, u));
          next[u] = (1 - z) * std::tanh(in(2, u) + from(m.of_n, 0, u, reset)) + z * h[u];
          break;
        }
      }
    states[step] = h = next;
  }
  return states;
}

// Codes.

using Codes = std::vector<std::vector<int>>;

/// To the nearest, halves up.
inline std::int64_t shifted(std::int64_t value, unsigned shift) {
  const std::int64_t unit = std::int64_t{1} << shift;
  std::int64_t whole = value / unit, rest = value % unit;
  if (rest < 0) --whole, rest += unit;
  return whole + (2 * rest >= unit ? 1 : 0);
}
inline int product(int a, int b) { return static_cast<int>(shifted(std::int64_t{a} * b, 15)); }
inline int limited(std::int64_t value) {
  return static_cast<int>(std::clamp<std::int64_t>(value, -32768, 32767));
}

/// For each half of the argument: value, slope and curvature. Part of the format: other numbers are another
/// model's.
inline constexpr int sigmoid_table[3][32] = {
    {16384, 20395, 23955, 26791, 28863, 30283, 31215, 31808, 32179, 32408, 32549,
     32635, 32687, 32719, 32738, 32750, 32757, 32761, 32764, 32766, 32767, 32767,
     32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767},
    {4139, 3879, 3227, 2432, 1704, 1134, 727, 458, 283, 174, 106, 64, 39, 23, 15, 8, 6, 4, 2},
    {-125, -317, -392, -362, -285, -204, -135, -88, -54, -33, -20, -12, -7, -4, -3, -1, -2, -1, -1}};

/// Of 2048ths, in 32768ths.
inline int sigmoid_of(int z) {
  if (z < 0) return 32768 - sigmoid_of(std::min(-z, 32767));
  const int part = z / 1024, rest = z % 1024 * 32;
  return sigmoid_table[0][part] +
         product(rest, sigmoid_table[1][part] + product(rest, sigmoid_table[2][part]));
}
inline int tanh_of(int z) { return 2 * (sigmoid_of(limited(2 * z)) - 16384); }

/// The states after a step in 32768ths, and their codes.
struct CodeStates {
  Codes h, codes;
};

inline CodeStates run_in_codes(const schema::RecurrentLayerT& layer, const Codes& steps) {
  const std::size_t units = layer.units;
  CodeStates states{Codes(steps.size()), Codes(steps.size())};
  if (steps.empty()) return states;
  const Matrices m(layer, WeightFormat::Int8, steps[0].size());
  std::vector<int> h(units), c(units), codes(units);
  for (std::size_t n = 0; n < steps.size(); ++n) {
    const std::size_t step = layer.backward ? steps.size() - 1 - n : n;
    const auto sum = [](const Matrix& matrix, std::size_t gate, std::size_t u,
                        const std::vector<int>& vector) {
      std::int64_t total = 0;
      for (std::size_t j = 0; j < vector.size(); ++j)
        total += static_cast<std::int64_t>(matrix.at(gate, u, j)) * vector[j];
      return total;
    };
    const auto in = [&](std::size_t gate, std::size_t u) {
      const std::size_t row = row_of(layer, gate, u);
      return layer.bias_codes[row] +
             shifted(sum(m.input, gate, u, steps[step]) * layer.input_multipliers[row], layer.input_shift);
    };
    const auto back = [&](const Matrix& matrix, std::size_t matrix_gate, std::size_t gate, std::size_t u,
                          const std::vector<int>& vector) {
      return shifted(
          sum(matrix, matrix_gate, u, vector) * layer.recurrent_multipliers[row_of(layer, gate, u)],
          layer.recurrent_shift);
    };
    const auto both = [&](std::size_t gate, std::size_t u) {
      return limited(in(gate, u) + back(m.recurrent, gate, gate, u, codes));
    };
    std::vector<int> next(units), reset(units);
    for (std::size_t u = 0; u < units && layer.cell == Cell::GruResetBefore; ++u)
      reset[u] = product(product(sigmoid_of(both(0, u)), h[u]), 127);
    for (std::size_t u = 0; u < units; ++u) switch (layer.cell) {
        case Cell::Rnn:
          next[u] = tanh_of(both(0, u));
          break;
        case Cell::Lstm: {
          const int added = product(sigmoid_of(both(0, u)), tanh_of(both(2, u)));
          c[u] = limited(product(sigmoid_of(both(1, u)), c[u]) + shifted(added, 4));
          next[u] = product(sigmoid_of(both(3, u)), tanh_of(c[u]));
          break;
        }
        case Cell::Gru: {
          const int r = sigmoid_of(both(0, u)), z = sigmoid_of(both(1, u));
          const int from_state = limited(layer.recurrent_bias_codes[u] + back(m.recurrent, 2, 2, u, codes));
          const int candidate = tanh_of(limited(in(2, u) + product(r, from_state)));
          next[u] = limited(product(32768 - z, candidate) + product(z, h[u]));
          break;
        }
        case Cell::GruResetBefore: {
          const int z = sigmoid_of(both(1, u));
          const int candidate = tanh_of(limited(in(2, u) + back(m.of_n, 0, 2, u, reset)));
          next[u] = limited(product(32768 - z, candidate) + product(z, h[u]));
          break;
        }
        case Cell::RnnRelu:
          ADD_FAILURE() << "relu has no codes";
      }
    h = next;
    for (std::size_t u = 0; u < units; ++u) codes[u] = product(h[u], 127);
    states.h[step] = h;
    states.codes[step] = codes;
  }
  return states;
}

/// The product of two float32 is exact in float64.
inline int code_of(float x, float factor) {
  if (!std::isfinite(x)) return 0;
  const double code = std::round(static_cast<double>(x) * static_cast<double>(factor));
  return static_cast<int>(std::clamp(code, -127.0, 127.0));
}

/// The states of the highest level after each step, of forward units before backward ones.
inline Numbers states_of(const schema::RecurrentT& recurrent, const std::vector<Vector>& steps) {
  const bool codes = recurrent.format == WeightFormat::Int8;
  Numbers below(steps.size()), found(steps.size());
  Codes below_codes(steps.size()), found_codes(steps.size());
  for (std::size_t n = 0; n < steps.size(); ++n)
    for (std::size_t i = 0; i < steps[n].size(); ++i) {
      const float x = steps[n][i];
      below[n].push_back(std::isfinite(x) ? std::clamp(static_cast<double>(x), -1e6, 1e6) : 0.0);
      if (codes) below_codes[n].push_back(code_of(x, recurrent.input_factors[i]));
    }
  for (std::size_t l = 0; l < recurrent.layers.size(); ++l) {
    const schema::RecurrentLayerT& layer = *recurrent.layers[l];
    if (l > 0 && layer.level != recurrent.layers[l - 1]->level) {
      below = std::move(found), below_codes = std::move(found_codes);
      found = Numbers(steps.size()), found_codes = Codes(steps.size());
    }
    if (codes) {
      const CodeStates states = run_in_codes(layer, below_codes);
      for (std::size_t n = 0; n < steps.size(); ++n) {
        for (const int h : states.h[n]) found[n].push_back(h / 32768.0);
        found_codes[n].insert(found_codes[n].end(), states.codes[n].begin(), states.codes[n].end());
      }
    } else {
      const Numbers states = run_in_float64(layer, recurrent.format, below);
      for (std::size_t n = 0; n < steps.size(); ++n)
        found[n].insert(found[n].end(), states[n].begin(), states[n].end());
    }
  }
  return found;
}

/// The outputs after the last step; all 0 without any.
inline std::vector<double> outputs_of(const schema::RecurrentT& recurrent, const std::vector<Vector>& steps) {
  std::vector<double> outputs;
  const Numbers states = states_of(recurrent, steps);
  for (const auto& layer : recurrent.layers) {
    if (layer->level != recurrent.layers.back()->level) continue;
    const std::size_t from = outputs.size();
    outputs.resize(from + layer->units);
    if (steps.empty()) continue;
    const std::vector<double>& last = layer->backward ? states.front() : states.back();
    std::copy_n(last.begin() + static_cast<std::ptrdiff_t>(from), layer->units,
                outputs.begin() + static_cast<std::ptrdiff_t>(from));
  }
  return outputs;
}

/// Of an operator over a row.
inline std::vector<double> row_outputs(const schema::RecurrentT& recurrent, std::span<const float> row) {
  std::size_t count = recurrent.steps;
  if (recurrent.lengths) {
    const float told = row.back();
    count = told >= 1 ? static_cast<std::size_t>(std::min(told, static_cast<float>(count))) : 0;
    row = row.first(row.size() - 1);
  }
  const std::size_t width = row.size() / recurrent.steps;
  std::vector<Vector> steps;
  for (std::size_t n = 0; n < count; ++n)
    steps.emplace_back(row.begin() + static_cast<std::ptrdiff_t>(n * width),
                       row.begin() + static_cast<std::ptrdiff_t>((n + 1) * width));
  std::vector<double> outputs = outputs_of(recurrent, steps);
  if (!recurrent.all_steps) return outputs;
  const std::size_t all = outputs.size() * recurrent.steps;
  outputs.clear();
  for (const std::vector<double>& state : states_of(recurrent, steps))
    outputs.insert(outputs.end(), state.begin(), state.end());
  outputs.resize(all);
  return outputs;
}

/// Of a layer of codes or halves, but for the activation.
inline std::vector<double> affine_outputs(const schema::QuantizedAffineT& affine,
                                          std::span<const float> row) {
  const bool codes = affine.format == WeightFormat::Int8;
  const Matrix matrix = {affine.weights.data(), affine.format, 1, row.size()};
  std::vector<double> outputs;
  for (std::size_t k = 0; k < affine.bias.size(); ++k) {
    double sum = 0;
    for (std::size_t j = 0; j < row.size(); ++j)
      sum += matrix.at(0, k, j) *
             (codes ? code_of(row[j], affine.input_factors[j]) : static_cast<double>(row[j]));
    if (codes) sum *= static_cast<double>(affine.scales[k]);
    outputs.push_back(sum + static_cast<double>(affine.bias[k]));
  }
  return outputs;
}

}  // namespace tonearm::reference
