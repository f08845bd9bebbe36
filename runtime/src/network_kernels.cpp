#include "network_kernels.h"

#include <string.h>
#include <tonearm/tonearm.h>

#include "kernels.h"
#include "program.h"

extern "C" const int16_t tonearm_sigmoid_table[96] = {
    16384, 20395, 23955, 26791, 28863, 30283, 31215, 31808, 32179, 32408, 32549,  //
    32635, 32687, 32719, 32738, 32750, 32757, 32761, 32764, 32766, 32767, 32767,  //
    32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767,         //
    4139,  3879,  3227,  2432,  1704,  1134,  727,   458,   283,   174,   106,    //
    64,    39,    23,    15,    8,     6,     4,     2,     0,     0,     0,      //
    0,     0,     0,     0,     0,     0,     0,     0,     0,     0,             //
    -125,  -317,  -392,  -362,  -285,  -204,  -135,  -88,   -54,   -33,   -20,    //
    -12,   -7,    -4,    -3,    -1,    -2,    -1,    -1,    0,     0,     0,      //
    0,     0,     0,     0,     0,     0,     0,     0,     0,     0};

namespace tonearm::runtime {

int8_t code_of(float x, float factor) {
  if (!is_finite(x)) return 0;
  const uint32_t a = float_bits(x), b = float_bits(factor);
  const uint32_t exponent_a = a >> 23 & 0xff, exponent_b = b >> 23 & 0xff;
  const uint64_t mantissa_a = (a & 0x7fffff) | (exponent_a > 0 ? 0x800000u : 0u);
  const uint64_t mantissa_b = (b & 0x7fffff) | (exponent_b > 0 ? 0x800000u : 0u);
  const uint64_t digits = mantissa_a * mantissa_b;  // below 2^48
  const int32_t exponent =
      static_cast<int32_t>((exponent_a > 0 ? exponent_a : 1) + (exponent_b > 0 ? exponent_b : 1)) - 300;
  uint64_t code = 0;
  if (exponent >= 0)
    code = digits > 0 ? 127 : 0;
  else if (exponent >= -48)
    code = (digits + (uint64_t{1} << (-exponent - 1))) >> -exponent;
  const int32_t limited_code = code > 127 ? 127 : static_cast<int32_t>(code);
  return static_cast<int8_t>(((a ^ b) >> 31) != 0 ? -limited_code : limited_code);
}

int32_t sigmoid_code(int32_t z) {
  const int32_t magnitude = z < 0 ? (z < -32767 ? 32767 : -z) : z;
  const int32_t part = magnitude >> 10, rest = (magnitude & 1023) << 5;
  const int32_t value =
      tonearm_sigmoid_table[part] +
      product(rest, tonearm_sigmoid_table[32 + part] + product(rest, tonearm_sigmoid_table[64 + part]));
  return z < 0 ? 32768 - value : value;
}
namespace {

constexpr uint32_t lanes = panel_units;

float from_half(uint16_t half) {
  const uint32_t magnitude = half & 0x7fffu, sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  if (magnitude >= 0x0400u) return bits_float(sign | ((magnitude << 13) + 0x38000000u));
  // Denormals are exact multiples of 2^-24.
  const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
  return bits_float(float_bits(value) | sign);
}

// ------------------------------------------------------------------------------------------ products

void multiply_plain(const tonearm_matrix* matrix, const float* start, const float* vectors, uint32_t stride,
                    uint32_t count, float* sums) {
  const size_t tile = size_t{matrix->gates} * lanes, bytes = matrix->half != 0 ? 2 : 4;
  for (uint32_t n = 0; n < count; ++n, vectors += stride) {
    const uint8_t* weights = matrix->weights;
    for (uint32_t p = 0; p < matrix->panels; ++p, sums += tile) {
      for (uint32_t r = 0; r < tile; ++r) sums[r] = start != nullptr ? start[p * tile + r] : 0;
      for (uint32_t j = 0; j < matrix->columns; ++j)
        for (uint32_t r = 0; r < tile; ++r, weights += bytes) {
          float weight;
          if (bytes == 2) {
            uint16_t half;
            memcpy(&half, weights, 2);
            weight = from_half(half);
          } else {
            memcpy(&weight, weights, 4);
          }
          sums[r] += weight * vectors[j];
        }
    }
  }
}

void multiply_codes_plain(const tonearm_matrix* matrix, const int8_t* vectors, uint32_t stride,
                          uint32_t count, int32_t* sums) {
  const size_t tile = size_t{matrix->gates} * lanes;
  for (uint32_t n = 0; n < count; ++n, vectors += stride) {
    const uint8_t* weights = matrix->weights;
    for (uint32_t p = 0; p < matrix->panels; ++p, sums += tile) {
      memset(sums, 0, tile * sizeof *sums);
      for (uint32_t q = 0; q < matrix->columns; ++q) {
        const int8_t* four = vectors + 4 * size_t{q};
        for (uint32_t r = 0; r < tile; ++r, weights += 4)
          sums[r] += (weights[0] - 128) * four[0] + (weights[1] - 128) * four[1] +
                     (weights[2] - 128) * four[2] + (weights[3] - 128) * four[3];
      }
    }
  }
}

// ------------------------------------------------------------------------------------------- units

void update_plain(const tonearm_units* all) {
  const tonearm_units& units = *all;
  const auto cell = static_cast<CellKind>(units.cell);
  const uint32_t gates = gates_of(cell);
  for (uint32_t p = 0; p < units.panels; ++p)
    for (uint32_t l = 0; l < lanes; ++l) {
      const float* in = units.input_sums + static_cast<size_t>(p) * gates * lanes + l;
      const float* back = units.recurrent_sums + static_cast<size_t>(p) * gates * lanes + l;
      float& h = units.h[p * lanes + l];
      const float first = in[0] + back[0];
      if (cell == CellKind::rnn) {
        h = tanh(first);
      } else if (cell == CellKind::rnn_relu) {
        h = first > 0 ? limited(first) : 0;
      } else if (cell == CellKind::lstm) {
        float& c = units.c[p * lanes + l];
        c = sigmoid(in[lanes] + back[lanes]) * c + sigmoid(first) * tanh(in[2 * lanes] + back[2 * lanes]);
        h = sigmoid(in[3 * lanes] + back[3 * lanes]) * tanh(c);
      } else {
        const float z = sigmoid(in[lanes] + back[lanes]);
        const float state = back[2 * lanes] + units.recurrent_bias[p * lanes + l];
        h = (1 - z) * tanh(in[2 * lanes] + sigmoid(first) * state) + z * h;
      }
    }
}

void update_codes_plain(const tonearm_code_units* all) {
  const tonearm_code_units& units = *all;
  const auto cell = static_cast<CellKind>(units.cell);
  const uint32_t gates = gates_of(cell);
  for (uint32_t p = 0; p < units.panels; ++p)
    for (uint32_t l = 0; l < lanes; ++l) {
      const uint32_t unit = p * lanes + l;
      const auto from_input = [&](uint32_t row) {
        return shifted(int64_t{units.input_sums[row]} * units.input_multipliers[row], units.input_shift);
      };
      const auto from_state = [&](uint32_t row) {
        return shifted(int64_t{units.recurrent_sums[row]} * units.recurrent_multipliers[row],
                       units.recurrent_shift);
      };
      const auto gate = [&](uint32_t g) {
        const uint32_t row = (p * gates + g) * lanes + l;
        return to_int16(units.bias[row] + from_input(row) + from_state(row));
      };
      int32_t h;
      if (cell == CellKind::rnn) {
        h = tanh_code(gate(0));
      } else if (cell == CellKind::lstm) {
        const int32_t added = product(sigmoid_code(gate(0)), tanh_code(gate(2)));
        const int32_t c = to_int16(product(sigmoid_code(gate(1)), units.c[unit]) + ((added + 8) >> 4));
        units.c[unit] = static_cast<int16_t>(c);
        h = product(sigmoid_code(gate(3)), tanh_code(c));
      } else {
        const int32_t r = sigmoid_code(gate(0)), z = sigmoid_code(gate(1));
        const uint32_t row = (p * gates + 2) * lanes + l;
        const int32_t back = to_int16(units.recurrent_bias[unit] + from_state(row));
        const int32_t n = tanh_code(to_int16(units.bias[row] + from_input(row) + product(r, back)));
        h = to_int16(product(32768 - z, n) + product(z, units.h[unit]));
      }
      units.h[unit] = static_cast<int16_t>(h);
      units.codes[unit] = state_code(h);
    }
}

void encode_plain(const float* numbers, const float* factors, uint32_t count, int8_t* codes) {
  for (uint32_t i = 0; i < count; ++i) codes[i] = code_of(numbers[i], factors[i]);
}

void dense_plain(const float* weights, const float* bias, const float* vector, uint32_t columns,
                 uint32_t rows, float* out) {
  for (uint32_t i = 0; i < rows; ++i) out[i] = dot(weights + size_t{i} * columns, vector, columns) + bias[i];
}

void activate_plain(uint32_t function, float* values, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i)
    values[i] = function == tonearm_sigmoid ? sigmoid(values[i]) : tanh(values[i]);
}

// ---------------------------------------------------------------------------------- choice of kernels

constexpr NetworkKernels plain = {multiply_plain, multiply_codes_plain, update_plain,  update_codes_plain,
                                  encode_plain,   dense_plain,          activate_plain};
#if defined(TONEARM_SIMD) && (defined(__x86_64__) || defined(__i386__))
constexpr NetworkKernels ssse3 = {tonearm_multiply_ssse3, tonearm_multiply_codes_ssse3,
                                  tonearm_units_ssse3,    tonearm_units_codes_ssse3,
                                  encode_plain,           dense_plain,
                                  tonearm_activate_ssse3};
constexpr NetworkKernels avx2 = {tonearm_multiply_avx2,    tonearm_multiply_codes_avx2, tonearm_units_avx2,
                                 tonearm_units_codes_avx2, tonearm_encode_avx2,         tonearm_dense_avx2,
                                 tonearm_activate_avx2};
constexpr NetworkKernels avx512 = {tonearm_multiply_avx512, tonearm_multiply_codes_avx512,
                                   tonearm_units_avx512,    tonearm_units_codes_avx512,
                                   tonearm_encode_avx512,   tonearm_dense_avx512,
                                   tonearm_activate_avx512};
#elif defined(TONEARM_SIMD) && defined(__aarch64__)
constexpr NetworkKernels neon = {tonearm_multiply_neon,    tonearm_multiply_codes_neon, tonearm_units_neon,
                                 tonearm_units_codes_neon, tonearm_encode_neon,         tonearm_dense_neon,
                                 tonearm_activate_neon};
#endif

}  // namespace

const NetworkKernels& network_kernels(uint32_t cpu) {
#if defined(TONEARM_SIMD) && (defined(__x86_64__) || defined(__i386__))
  if (cpu == TONEARM_CPU_AVX512) return avx512;
  if (cpu == TONEARM_CPU_AVX2) return avx2;
  if (cpu == TONEARM_CPU_SSSE3) return ssse3;
#elif defined(TONEARM_SIMD) && defined(__aarch64__)
  if (cpu == TONEARM_CPU_NEON) return neon;
#endif
  (void)cpu;
  return plain;
}

}  // namespace tonearm::runtime
