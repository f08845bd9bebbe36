#include "network_kernels.h"

#include <string.h>
#include <tonearm/tonearm.h>

#include "kernels.h"
#include "program.h"

// Short loops over what is to be in registers.
#if defined(__clang__)
#define TONEARM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TONEARM_UNROLL _Pragma("GCC unroll 16")
#else
#define TONEARM_UNROLL
#endif

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
  const uint32_t a = float_bits(x), b = float_bits(factor);
  const uint32_t exponent_a = a >> 23 & 0xff, exponent_b = b >> 23 & 0xff;
  const uint32_t hidden_a = exponent_a > 0 ? 1 : 0, hidden_b = exponent_b > 0 ? 1 : 0;
  // The product is digits / 2^shift, with digits below 2^48.
  const int32_t shift = static_cast<int32_t>(298 + hidden_a + hidden_b - exponent_a - exponent_b);
  if (shift > 48 || exponent_a == 255) return 0;
  // Where less is shifted out, neither number is denormal, and there are 2^46 digits or more.
  uint32_t code = 127;
  if (shift > 32) {
    const uint64_t digits = uint64_t{(a & 0x7fffff) | hidden_a << 23} * ((b & 0x7fffff) | hidden_b << 23);
    code = (static_cast<uint32_t>(digits >> 32) + (1u << (shift - 33))) >> (shift - 32);
    if (code > 127) code = 127;
  }
  const int32_t signed_code = static_cast<int32_t>(code);
  return static_cast<int8_t>(((a ^ b) >> 31) != 0 ? -signed_code : signed_code);
}

int32_t sigmoid_code(int32_t z) {
  const int32_t sign = z >> 31;  // -1 below 0
  int32_t magnitude = (z ^ sign) - sign;
  magnitude -= magnitude >> 15;  // at most 32767
  const int16_t* at = tonearm_sigmoid_table + (magnitude >> 10);
  const int32_t rest = magnitude << 5 & 0x7fe0;
  const int32_t value = at[0] + product(rest, at[32] + product(rest, at[64]));
  return ((value ^ sign) - sign) + (z & 32768);  // 32768 - value below 0
}

namespace {

constexpr uint32_t lanes = panel_units;

float weight_of(float weight) { return weight; }
[[gnu::noinline]] float weight_of(uint16_t half) {
  const uint32_t magnitude = half & 0x7fffu, sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  if (magnitude >= 0x0400u) return bits_float(sign | ((magnitude << 13) + 0x38000000u));
  // Denormals are exact multiples of 2^-24.
  const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
  return bits_float(float_bits(value) | sign);
}

// ------------------------------------------------------------------------------------------ products

/// Rows whose sums are in registers at a time.
constexpr uint32_t rows_at_once = 4;

template <typename Weight>
void multiply_vector(const tonearm_matrix& matrix, const float* start, const float* vector, float* sums) {
  const size_t tile = size_t{matrix.gates} * lanes;
  const Weight* panel = reinterpret_cast<const Weight*>(matrix.weights);
  for (uint32_t p = 0; p < matrix.panels; ++p, panel += matrix.columns * tile)
    for (size_t r = 0; r < tile; r += rows_at_once, sums += rows_at_once) {
      float sum[rows_at_once];
      TONEARM_UNROLL
      for (uint32_t i = 0; i < rows_at_once; ++i) sum[i] = start != nullptr ? start[p * tile + r + i] : 0;
      const Weight* weights = panel + r;
      for (uint32_t j = 0; j < matrix.columns; ++j, weights += tile) {
        const float x = vector[j];
        TONEARM_UNROLL
        for (uint32_t i = 0; i < rows_at_once; ++i) sum[i] += weight_of(weights[i]) * x;
      }
      memcpy(sums, sum, sizeof sum);
    }
}

void multiply_plain(const tonearm_matrix* matrix, const float* start, const float* vectors, uint32_t stride,
                    uint32_t count, float* sums) {
  const size_t rows = size_t{matrix->panels} * matrix->gates * lanes;
  for (uint32_t n = 0; n < count; ++n, vectors += stride, sums += rows)
    if (matrix->half != 0)
      multiply_vector<uint16_t>(*matrix, start, vectors, sums);
    else
      multiply_vector<float>(*matrix, start, vectors, sums);
}

/// With the weights' bytes as they are, and what their 128s are too much by taken off in the end. Sums may
/// wrap around in between.
void multiply_codes_plain(const tonearm_matrix* matrix, const int8_t* vectors, uint32_t stride,
                          uint32_t count, int32_t* sums) {
  const size_t tile = size_t{matrix->gates} * lanes;
  const uint32_t columns = matrix->columns;
  for (uint32_t n = 0; n < count; ++n, vectors += stride) {
    int32_t total = 0;
    for (uint32_t j = 0; j < 4 * columns; ++j) total += vectors[j];
    const uint8_t* panel = matrix->weights;
    for (uint32_t p = 0; p < matrix->panels; ++p, panel += columns * tile * 4)
      for (size_t r = 0; r < tile; r += rows_at_once, sums += rows_at_once) {
        uint32_t sum[rows_at_once];
        TONEARM_UNROLL
        for (uint32_t i = 0; i < rows_at_once; ++i) sum[i] = 0;
        const uint8_t* weights = panel + 4 * r;
        const int8_t* four = vectors;
        for (uint32_t q = 0; q < columns; ++q, weights += 4 * tile, four += 4) {
          TONEARM_UNROLL
          for (uint32_t c = 0; c < 4; ++c) {
            const int32_t x = four[c];
            TONEARM_UNROLL
            for (uint32_t i = 0; i < rows_at_once; ++i)
              sum[i] += static_cast<uint32_t>(weights[4 * i + c] * x);
          }
        }
        TONEARM_UNROLL
        for (uint32_t i = 0; i < rows_at_once; ++i)
          sums[i] = static_cast<int32_t>(sum[i] - 128u * static_cast<uint32_t>(total));
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

/// (sum * multiplier) >> shift, rounded, of each sum in place. Where the shift takes away the product's lower
/// half, that has no part in it: 32-bit CPUs have an instruction for the upper one.
void scale(int32_t* sums, const int32_t* multipliers, uint32_t shift, uint32_t count) {
  if (shift > 32) {
    const int32_t half = int32_t{1} << (shift - 33);
    for (uint32_t i = 0; i < count; ++i) {
      const int64_t value = int64_t{sums[i]} * multipliers[i];
      sums[i] = (static_cast<int32_t>(value >> 32) + half) >> (shift - 32);
    }
  } else {
    for (uint32_t i = 0; i < count; ++i) sums[i] = shifted(int64_t{sums[i]} * multipliers[i], shift);
  }
}

void update_codes_plain(const tonearm_code_units* all) {
  const tonearm_code_units units = *all;
  const auto cell = static_cast<CellKind>(units.cell);
  const uint32_t gates = gates_of(cell), rows = units.panels * gates * lanes;
  scale(units.input_sums, units.input_multipliers, units.input_shift, rows);
  scale(units.recurrent_sums, units.recurrent_multipliers, units.recurrent_shift, rows);
  for (uint32_t unit = 0; unit < units.panels * lanes; ++unit) {
    const size_t first = size_t{unit / lanes} * gates * lanes + unit % lanes;
    const int32_t *bias = units.bias + first, *in = units.input_sums + first,
                  *back = units.recurrent_sums + first;
    const auto gate = [&](uint32_t g) { return in_int16(bias[g * lanes] + in[g * lanes] + back[g * lanes]); };
    int32_t h;
    if (cell == CellKind::rnn) {
      h = tanh_code(gate(0));
    } else if (cell == CellKind::lstm) {
      const int32_t added = product(sigmoid_code(gate(0)), tanh_code(gate(2)));
      const int32_t c = in_int16(product(sigmoid_code(gate(1)), units.c[unit]) + ((added + 8) >> 4));
      units.c[unit] = static_cast<int16_t>(c);
      h = product(sigmoid_code(gate(3)), tanh_code(c));
    } else {
      const int32_t r = sigmoid_code(gate(0)), z = sigmoid_code(gate(1));
      const int32_t state = in_int16(units.recurrent_bias[unit] + back[2 * lanes]);
      const int32_t n = tanh_code(in_int16(bias[2 * lanes] + in[2 * lanes] + product(r, state)));
      h = in_int16(product(32768 - z, n) + product(z, units.h[unit]));
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
constexpr NetworkKernels neon_dot = {tonearm_multiply_neon, tonearm_multiply_codes_neon_dot,
                                     tonearm_units_neon,    tonearm_units_codes_neon,
                                     tonearm_encode_neon,   tonearm_dense_neon,
                                     tonearm_activate_neon};
#elif defined(TONEARM_SIMD) && defined(__wasm_simd128__)
constexpr NetworkKernels wasm = {tonearm_multiply_wasm, tonearm_multiply_codes_wasm,
                                 tonearm_units_wasm,    tonearm_units_codes_wasm,
                                 encode_plain,          dense_plain,
                                 tonearm_activate_wasm};
#elif defined(TONEARM_SIMD) && defined(__ARM_FEATURE_SIMD32)
constexpr NetworkKernels dsp = {
    multiply_plain, tonearm_multiply_codes_dsp, update_plain, update_codes_plain, encode_plain, dense_plain,
    activate_plain};
#endif

}  // namespace

const NetworkKernels& network_kernels(uint32_t cpu) {
#if defined(TONEARM_SIMD) && (defined(__x86_64__) || defined(__i386__))
  if (cpu == TONEARM_CPU_AVX512) return avx512;
  if (cpu == TONEARM_CPU_AVX2) return avx2;
  if (cpu == TONEARM_CPU_SSSE3) return ssse3;
#elif defined(TONEARM_SIMD) && defined(__aarch64__)
  if (cpu == TONEARM_CPU_NEON_DOT) return neon_dot;
  if (cpu == TONEARM_CPU_NEON) return neon;
#elif defined(TONEARM_SIMD) && defined(__wasm_simd128__)
  if (cpu == TONEARM_CPU_WASM) return wasm;
#elif defined(TONEARM_SIMD) && defined(__ARM_FEATURE_SIMD32)
  if (cpu == TONEARM_CPU_DSP) return dsp;
#endif
  (void)cpu;
  return plain;
}

}  // namespace tonearm::runtime
