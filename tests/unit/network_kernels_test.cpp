// Every kernel for networks that this CPU has against the plain ones: those of codes and of dense layers to
// the same bits, the others to 1e-6.

#include "network_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace tonearm {
namespace {

using runtime::network_kernels;
using runtime::NetworkKernels;

constexpr std::uint32_t tile = 16;

std::mt19937& random_bits() {
  static std::mt19937 bits(20);
  return bits;
}
int random_int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits()); }
float random_float(float limit) {
  return std::uniform_real_distribution<float>(-limit, limit)(random_bits());
}

std::vector<float> floats(std::size_t count, float limit) {
  std::vector<float> values(count);
  for (float& value : values) value = random_float(limit);
  return values;
}

/// What is random, all of one sign, alternating, or 0.
enum class Values { random, largest, lowest, alternating, zero };
constexpr Values all_values[] = {Values::random, Values::largest, Values::lowest, Values::alternating,
                                 Values::zero};

std::vector<std::int8_t> codes(std::size_t count, Values values) {
  std::vector<std::int8_t> made(count);
  for (std::size_t i = 0; i < count; ++i)
    made[i] = static_cast<std::int8_t>(values == Values::random        ? random_int(-127, 127)
                                       : values == Values::largest     ? 127
                                       : values == Values::lowest      ? -127
                                       : values == Values::alternating ? (i % 2 == 0 ? 127 : -127)
                                                                       : 0);
  return made;
}

std::vector<std::uint8_t> weight_codes(std::size_t count, Values values) {
  std::vector<std::uint8_t> bytes;
  for (const std::int8_t code : codes(count, values)) bytes.push_back(static_cast<std::uint8_t>(code + 128));
  return bytes;
}

/// The bytes of float32 weights, or of the float16 ones with the same upper bits.
std::vector<std::uint8_t> float_weights(std::size_t count, bool half) {
  std::vector<std::uint8_t> bytes(count * (half ? 2 : 4));
  for (std::size_t i = 0; i < count; ++i)
    if (half) {
      const auto bits = static_cast<std::uint16_t>(random_int(0, 0x3bff) | random_int(0, 1) << 15);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    } else {
      const float weight = random_float(1);
      std::memcpy(bytes.data() + 4 * i, &weight, 4);
    }
  return bytes;
}

double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}

double weight_at(const tonearm_matrix& matrix, std::size_t place) {
  if (matrix.half != 0) {
    std::uint16_t bits;
    std::memcpy(&bits, matrix.weights + 2 * place, 2);
    return half_value(bits);
  }
  float weight;
  std::memcpy(&weight, matrix.weights + 4 * place, 4);
  return weight;
}

/// The sum of row `r` of a panel, and how large its terms are.
struct Sum {
  double value, size;
};
Sum exact_sum(const tonearm_matrix& matrix, std::uint32_t panel, std::uint32_t r, const float* vector,
              double start) {
  const std::size_t rows = matrix.gates * tile, first = std::size_t{panel} * matrix.columns * rows + r;
  Sum sum = {start, std::abs(start)};
  for (std::uint32_t j = 0; j < matrix.columns; ++j) {
    const double term = weight_at(matrix, first + j * rows) * vector[j];
    sum.value += term;
    sum.size += std::abs(term);
  }
  return sum;
}

std::string shape(const tonearm_matrix& matrix, std::uint32_t count, std::uint32_t cpu) {
  return "cpu " + std::to_string(cpu) + ", " + std::to_string(matrix.panels) + " panels of " +
         std::to_string(matrix.gates) + " tiles, " + std::to_string(matrix.columns) + " columns, " +
         std::to_string(count) + " vectors";
}

/// The bits of denormals and of the rounding mode for as long as it lives.
class Mode {
 public:
  explicit Mode(int rounding, bool flush = false) {
    std::fesetround(rounding);
#if defined(__SSE__)
    if (flush) _mm_setcsr(_mm_getcsr() | 0x8040);
#else
    (void)flush;
#endif
  }
  Mode(const Mode&) = delete;
  Mode& operator=(const Mode&) = delete;
  ~Mode() {
    std::fesetround(FE_TONEAREST);
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() & ~0x8040u);
#endif
  }
};

template <typename Test>
void in_every_mode(const Test& test) {
  for (const int rounding : {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO})
    for (const bool flush : {false, true}) {
      const Mode mode(rounding, flush);
      test();
    }
}

template <typename T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

TEST(NetworkKernels, ProductsOfFloatsAreWithinAMillionth) {
  for (const std::uint32_t gates : {1u, 2u, 3u, 4u})
    for (const std::uint32_t panels : {1u, 2u, 3u, 5u, 8u})
      for (const std::uint32_t columns : {1u, 2u, 15u, 70u})
        for (const std::uint32_t count : {1u, 2u, 3u, 4u, 7u, 20u})
          for (const bool half : {false, true}) {
            const std::uint32_t stride = columns + 3, rows = panels * gates * tile;
            const std::vector<std::uint8_t> weights = float_weights(std::size_t{rows} * columns, half);
            const tonearm_matrix matrix = {weights.data(), columns, panels, gates, half};
            const std::vector<float> vectors = floats(stride * count, 1), start = floats(rows, 1);
            const bool from_start = random_int(0, 1) == 1;
            for (const std::uint32_t cpu : all_cpus()) {
              std::vector<float> sums(rows * count, std::numeric_limits<float>::quiet_NaN());
              network_kernels(cpu).multiply(&matrix, from_start ? start.data() : nullptr, vectors.data(),
                                            stride, count, sums.data());
              double largest = 0;
              for (std::uint32_t i = 0; i < rows * count; ++i) {
                const std::uint32_t row = i % rows;
                const Sum sum = exact_sum(matrix, row / (gates * tile), row % (gates * tile),
                                          vectors.data() + i / rows * stride, from_start ? start[row] : 0);
                const double error = std::abs(sums[i] - sum.value) / std::max(sum.size, 1e-30);
                largest = error <= largest ? largest : error;
              }
              ASSERT_LE(largest, 1e-6) << shape(matrix, count, cpu) << (half ? " of float16" : "");
            }
          }
}

TEST(NetworkKernels, ProductsOfCodesAreExact) {
  in_every_mode([] {
    for (const std::uint32_t gates : {1u, 2u, 3u, 4u})
      for (const std::uint32_t panels : {1u, 2u, 3u, 5u, 8u})
        for (const std::uint32_t columns : {1u, 2u, 15u, 16u, 33u})
          for (const std::uint32_t count : {1u, 2u, 3u, 5u, 9u}) {
            const Values kind = all_values[random_int(0, 4)], other = all_values[random_int(0, 4)];
            const std::uint32_t stride = 4 * columns + 8, rows = panels * gates * tile;
            const std::vector<std::uint8_t> weights = weight_codes(std::size_t{rows} * columns * 4, kind);
            const std::vector<std::int8_t> vectors = codes(stride * count, other);
            const tonearm_matrix matrix = {weights.data(), columns, panels, gates, 0};
            std::vector<std::int32_t> expected(rows * count, 1);
            network_kernels(TONEARM_CPU_SCALAR)
                .multiply_codes(&matrix, vectors.data(), stride, count, expected.data());
            for (const std::uint32_t cpu : all_cpus()) {
              std::vector<std::int32_t> sums(rows * count, 2);
              network_kernels(cpu).multiply_codes(&matrix, vectors.data(), stride, count, sums.data());
              ASSERT_EQ(sums, expected) << shape(matrix, count, cpu);
            }
          }
  });
}

TEST(NetworkKernels, PlainProductsOfCodesAddUp) {
  for (const Values kind : all_values)
    for (const Values other : all_values) {
      const std::uint32_t columns = 17, rows = 3 * 2 * tile;
      const std::vector<std::uint8_t> weights = weight_codes(std::size_t{rows} * columns * 4, kind);
      const std::vector<std::int8_t> vector = codes(4 * columns, other);
      const tonearm_matrix matrix = {weights.data(), columns, 3, 2, 0};
      std::vector<std::int32_t> sums(rows);
      network_kernels(TONEARM_CPU_SCALAR).multiply_codes(&matrix, vector.data(), 0, 1, sums.data());
      for (std::uint32_t row = 0; row < rows; ++row) {
        const std::size_t panel = row / (2 * tile), in_panel = row % (2 * tile);
        int sum = 0;
        for (std::uint32_t j = 0; j < 4 * columns; ++j)
          sum += (weights[((panel * columns + j / 4) * 2 * tile + in_panel) * 4 + j % 4] - 128) * vector[j];
        ASSERT_EQ(sums[row], sum) << "row " << row;
      }
    }
}

double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Arguments of gates: mostly where something changes, some beyond.
std::vector<float> gate_sums(std::size_t count) {
  std::vector<float> sums = floats(count, 6);
  for (float& sum : sums) {
    const int kind = random_int(0, 19);
    if (kind == 0) sum = 0;
    if (kind == 1) sum *= 20;
    if (kind == 2) sum *= 1e-6f;
    if (kind == 3) sum *= 1e20f;
  }
  return sums;
}

TEST(NetworkKernels, UnitsOfFloatsAreWithinAMillionth) {
  for (const auto cell : {tonearm_rnn, tonearm_rnn_relu, tonearm_lstm, tonearm_gru})
    for (const std::uint32_t panels : {1u, 2u, 3u, 4u, 7u})
      for (int repeat = 0; repeat < 20; ++repeat) {
        const std::uint32_t gates = cell == tonearm_lstm ? 4 : cell == tonearm_gru ? 3 : 1;
        const std::uint32_t count = panels * tile;
        const std::vector<float> in = gate_sums(count * gates), back = gate_sums(count * gates),
                                 bias = floats(count, 1), h_before = floats(count, 1),
                                 c_before = floats(count, 3);
        for (const std::uint32_t cpu : all_cpus()) {
          std::vector<float> h = h_before, c = c_before;
          const tonearm_units units = {static_cast<std::uint32_t>(cell),
                                       panels,
                                       in.data(),
                                       back.data(),
                                       bias.data(),
                                       h.data(),
                                       c.data()};
          network_kernels(cpu).update(&units);
          for (std::uint32_t unit = 0; unit < count; ++unit) {
            const std::size_t row = unit / tile * gates * tile + unit % tile;
            const auto sum = [&](std::uint32_t gate) {
              return double{in[row + gate * tile] + back[row + gate * tile]};
            };
            double expected = 0;
            if (cell == tonearm_rnn) {
              expected = std::tanh(sum(0));
            } else if (cell == tonearm_rnn_relu) {
              expected = std::min(std::max(sum(0), 0.0), 1e6);
            } else if (cell == tonearm_lstm) {
              const double new_c =
                  exact_sigmoid(sum(1)) * c_before[unit] + exact_sigmoid(sum(0)) * std::tanh(sum(2));
              ASSERT_NEAR(c[unit], new_c, 1e-6 * std::max(1.0, std::abs(new_c))) << "cpu " << cpu;
              expected = exact_sigmoid(sum(3)) * std::tanh(double{c[unit]});
            } else {
              const double z = exact_sigmoid(sum(1));
              const double r = exact_sigmoid(sum(0));
              const float state = back[row + 2 * tile] + bias[unit];
              // As large as its parts may be, so wrong may their sum be.
              const double n = in[row + 2 * tile] + r * state;
              if (std::abs(n) < 20 && std::abs(in[row + 2 * tile]) > 1e3f) continue;
              expected = (1 - z) * std::tanh(n) + z * h_before[unit];
            }
            const double scale = std::max(1.0, std::abs(expected));
            ASSERT_NEAR(h[unit], expected, (cell == tonearm_gru ? 4e-6 : 1e-6) * scale)
                << "cpu " << cpu << ", cell " << cell << ", unit " << unit;
          }
        }
      }
}

/// A layer's state after some steps, or what random numbers make of it.
struct CodeUnits {
  std::uint32_t cell, panels;
  std::vector<std::int32_t> in, back, bias, recurrent_bias, in_multipliers, multipliers;
  std::uint32_t in_shift, shift;
  std::vector<std::int16_t> h, c;

  CodeUnits(std::uint32_t cell_kind, std::uint32_t panel_count) : cell(cell_kind), panels(panel_count) {
    const std::uint32_t gates = cell == tonearm_lstm ? 4 : cell == tonearm_gru ? 3 : 1;
    const std::uint32_t units = panels * tile, rows = gates * units;
    in_shift = static_cast<std::uint32_t>(random_int(1, 46));
    shift = static_cast<std::uint32_t>(random_int(1, 46));
    for (std::uint32_t row = 0; row < rows; ++row) {
      // The bits of a product, less those that are shifted out: at most 29, and mostly few.
      in.push_back(random_sum());
      in_multipliers.push_back(multiplier(in.back(), in_shift));
      back.push_back(random_sum());
      multipliers.push_back(multiplier(back.back(), shift));
      bias.push_back(random_int(0, 9) == 0 ? random_int(-(1 << 29), 1 << 29) : random_int(-9000, 9000));
    }
    for (std::uint32_t unit = 0; unit < units; ++unit) {
      recurrent_bias.push_back(random_int(-9000, 9000));
      h.push_back(random_short());
      c.push_back(random_short());
    }
  }

  static int random_sum() {
    const int limit = 1 << random_int(0, 30);
    return random_int(-limit, limit);
  }
  static std::int16_t random_short() {
    constexpr int ends[] = {-32768, -32767, 32767, 0, -1, 1};
    return static_cast<std::int16_t>(random_int(0, 9) == 0 ? ends[random_int(0, 5)]
                                                           : random_int(-32768, 32767));
  }
  static int multiplier(int sum, std::uint32_t shift) {
    const double most = std::ldexp(1, static_cast<int>(shift) + (random_int(0, 4) == 0 ? 28 : 14));
    const double limit = std::min(most / std::max(1.0, std::abs(double(sum))), 2147483647.0);
    const int bound = static_cast<int>(limit);
    return random_int(-bound, bound);
  }

  std::vector<std::int8_t> update(std::uint32_t cpu, std::vector<std::int16_t>& new_h,
                                  std::vector<std::int16_t>& new_c) const {
    std::vector<std::int8_t> new_codes(h.size());
    std::vector<std::int32_t> in_sums = in, back_sums = back;
    new_h = h;
    new_c = c;
    const tonearm_code_units units = {cell,
                                      panels,
                                      in_sums.data(),
                                      back_sums.data(),
                                      bias.data(),
                                      recurrent_bias.data(),
                                      in_multipliers.data(),
                                      multipliers.data(),
                                      in_shift,
                                      shift,
                                      new_h.data(),
                                      new_c.data(),
                                      new_codes.data()};
    network_kernels(cpu).update_codes(&units);
    return new_codes;
  }
};

TEST(NetworkKernels, UnitsOfCodesHaveTheSameBits) {
  in_every_mode([] {
    for (const auto cell : {tonearm_rnn, tonearm_lstm, tonearm_gru})
      for (const std::uint32_t panels : {1u, 2u, 3u, 4u, 7u})
        for (int repeat = 0; repeat < 20; ++repeat) {
          const CodeUnits units(cell, panels);
          std::vector<std::int16_t> expected_h, expected_c, h, c;
          const std::vector<std::int8_t> expected = units.update(TONEARM_CPU_SCALAR, expected_h, expected_c);
          for (const std::uint32_t cpu : all_cpus()) {
            const std::vector<std::int8_t> found = units.update(cpu, h, c);
            ASSERT_EQ(h, expected_h) << "cpu " << cpu << ", cell " << cell << ", " << panels << " panels";
            ASSERT_EQ(c, expected_c) << "cpu " << cpu << ", cell " << cell << ", " << panels << " panels";
            ASSERT_EQ(found, expected) << "cpu " << cpu << ", cell " << cell << ", " << panels << " panels";
          }
        }
  });
}

/// Every argument that a gate can have, through a cell whose only gate is its bias.
TEST(NetworkKernels, EveryCodeHasTheSameTanh) {
  for (int first = -32768; first < 32768; first += 4096) {
    CodeUnits units(tonearm_rnn, 4096 / tile);
    std::fill(units.in.begin(), units.in.end(), 0);
    std::fill(units.back.begin(), units.back.end(), 0);
    for (int i = 0; i < 4096; ++i) units.bias[static_cast<std::size_t>(i)] = first + i;
    std::vector<std::int16_t> expected_h, expected_c, h, c;
    units.update(TONEARM_CPU_SCALAR, expected_h, expected_c);
    for (const std::uint32_t cpu : all_cpus()) {
      units.update(cpu, h, c);
      ASSERT_EQ(h, expected_h) << "cpu " << cpu;
    }
    for (int i = 0; i < 4096; ++i)
      ASSERT_NEAR(expected_h[static_cast<std::size_t>(i)] / 32768.0, std::tanh((first + i) / 2048.0), 4e-4);
  }
}

TEST(NetworkKernels, CodesOfNumbersHaveTheSameBits) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> special = {0,
                                      -0.0f,
                                      infinity,
                                      -infinity,
                                      std::numeric_limits<float>::quiet_NaN(),
                                      3.4e38f,
                                      -3.4e38f,
                                      1e-45f,
                                      -1e-45f,
                                      1.17549435e-38f,
                                      -1.1754942e-38f,
                                      0.5f,
                                      -0.5f,
                                      1.5f,
                                      126.5f,
                                      -126.5f,
                                      127.5f,
                                      0.49999997f,
                                      2.5f};
  in_every_mode([&] {
    std::vector<float> numbers, factors;
    for (const float number : special)
      for (const float factor : {1.0f, 1.17549435e-38f, 1e30f, 127.0f, 0.1f, 8388608.0f}) {
        numbers.push_back(number);
        factors.push_back(factor);
      }
    for (int i = 0; i < 2000; ++i) {
      const auto bits = static_cast<std::uint32_t>(random_bits()());
      float number, factor = std::exp2(static_cast<float>(random_int(-20, 20))) * random_float(1);
      std::memcpy(&number, &bits, 4);
      numbers.push_back(i % 4 == 0 ? number : random_float(100));
      factors.push_back(std::max(std::abs(factor), 1e-30f));
      if (i % 4 == 1) {  // halves
        numbers.back() = static_cast<float>(random_int(-128, 128)) + 0.5f;
        factors.back() = 1;
      }
    }
    for (std::uint32_t count = 0; count <= 40; ++count) {
      std::vector<std::int8_t> some(count + 1, 99);
      for (const std::uint32_t cpu : all_cpus()) {
        network_kernels(cpu).encode(numbers.data(), factors.data(), count, some.data());
        ASSERT_EQ(some[count], 99) << "cpu " << cpu << " writes behind " << count << " codes";
        for (std::uint32_t i = 0; i < count; ++i)
          ASSERT_EQ(some[i], runtime::code_of(numbers[i], factors[i])) << "cpu " << cpu << ", number " << i;
      }
    }
    for (const std::uint32_t cpu : all_cpus()) {
      std::vector<std::int8_t> found(numbers.size());
      network_kernels(cpu).encode(numbers.data(), factors.data(), static_cast<std::uint32_t>(numbers.size()),
                                  found.data());
      for (std::size_t i = 0; i < numbers.size(); ++i)
        ASSERT_EQ(found[i], runtime::code_of(numbers[i], factors[i]))
            << "cpu " << cpu << ", " << numbers[i] << " * " << factors[i];
    }
  });
}

TEST(NetworkKernels, DenseLayersHaveTheSameBits) {
  for (const std::uint32_t columns : {1u, 2u, 7u, 14u, 15u, 16u, 17u, 31u, 80u, 120u, 129u})
    for (std::uint32_t rows = 1; rows <= 20; ++rows) {
      const std::vector<float> weights = floats(std::size_t{rows} * columns, 1), bias = floats(rows, 1);
      std::vector<float> vector = floats(columns, 100), expected(rows);
      if (rows % 5 == 0) vector[columns / 2] = std::numeric_limits<float>::quiet_NaN();
      network_kernels(TONEARM_CPU_SCALAR)
          .dense(weights.data(), bias.data(), vector.data(), columns, rows, expected.data());
      for (const std::uint32_t cpu : all_cpus()) {
        std::vector<float> out(rows + 1, 99.0f);
        network_kernels(cpu).dense(weights.data(), bias.data(), vector.data(), columns, rows, out.data());
        ASSERT_EQ(out[rows], 99) << "cpu " << cpu << " writes behind " << rows << " rows";
        out.pop_back();
        if (rows % 5 == 0)
          for (const float sum : out) ASSERT_TRUE(std::isnan(sum)) << "cpu " << cpu;
        else
          ASSERT_TRUE(same_bytes(out, expected)) << "cpu " << cpu << ", " << rows << " x " << columns;
      }
    }
}

TEST(NetworkKernels, ActivationsHaveTheSameBits) {
  std::vector<float> values = {0, -0.0f, 1e-45f, -1e-45f, 20, -20, 87, -87, 88, -88, 3.4e38f, -3.4e38f};
  values.push_back(std::numeric_limits<float>::infinity());
  values.push_back(-std::numeric_limits<float>::infinity());
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  for (const float limit : {1e-3f, 1.0f, 10.0f, 100.0f})
    for (const float value : floats(3000, limit)) values.push_back(value);
  for (const bool flush : {false, true}) {
    const Mode mode(FE_TONEAREST, flush);
    for (const auto function : {tonearm_sigmoid, tonearm_tanh})
      for (const std::uint32_t cpu : all_cpus()) {
        std::vector<float> expected = values, found = values;
        const auto count = static_cast<std::uint32_t>(values.size());
        network_kernels(TONEARM_CPU_SCALAR).activate(function, expected.data(), count);
        network_kernels(cpu).activate(function, found.data(), count);
        for (std::size_t i = 0; i < values.size(); ++i)
          if (flush && std::abs(values[i]) > 87)
            continue;  // compilers work the plain one's limits out in advance, in their own mode
          else if (!std::isnan(values[i]))
            ASSERT_EQ(runtime::float_bits(found[i]), runtime::float_bits(expected[i]))
                << "cpu " << cpu << ", function " << function << " of " << values[i];
          else
            ASSERT_TRUE(std::isnan(found[i])) << "cpu " << cpu << ", function " << function;
      }
  }
}

}  // namespace
}  // namespace tonearm
