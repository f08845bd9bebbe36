#pragma once

// What the vectorised kernels of networks share with the code that calls them, as trees.h does for trees:
// plain data and C functions, nothing inline. The plain C++ in network_kernels.cpp (and dot() of
// kernels.h) is the reference: kernels of codes and those of dense float32 layers give its very bits, the
// others may add up in another order and agree to 1e-6.

#include <stddef.h>
#include <stdint.h>

/// Of functions that are inlined wherever they are called, so that constants given there reach into loops.
#define TONEARM_INLINE static inline __attribute__((always_inline))

/// A matrix of the blob; see WeightFormat in the schema. `columns` of codes are the fours.
struct tonearm_matrix {
  const uint8_t* weights;
  uint32_t columns;
  uint32_t panels;
  uint32_t gates;  // tiles of a panel: 1 to 4
  uint32_t half;   // float16
};

/// The products with `count` vectors, one after the other `stride` numbers apart, as so many rows of sums
/// (panels * gates * 16 each), which begin with `start`, or 0 where it is NULL. Vectors of codes have
/// 4 * columns bytes and a stride in bytes.
typedef void tonearm_multiply_kernel(const struct tonearm_matrix* matrix, const float* start,
                                     const float* vectors, uint32_t stride, uint32_t count, float* sums);
typedef void tonearm_multiply_codes_kernel(const struct tonearm_matrix* matrix, const int8_t* vectors,
                                           uint32_t stride, uint32_t count, int32_t* sums);

enum tonearm_cell { tonearm_rnn, tonearm_rnn_relu, tonearm_lstm, tonearm_gru };

/// A layer's units after a step, from the sums of their gates. Every vector is filled up to whole panels.
struct tonearm_units {
  uint32_t cell;
  uint32_t panels;          // of 16 units
  const float* input_sums;  // with the bias
  const float* recurrent_sums;
  const float* recurrent_bias;  // of a Gru: 16 for each panel
  float* h;
  float* c;  // of an LSTM
};
typedef void tonearm_units_kernel(const struct tonearm_units* units);

/// The same in whole numbers.
struct tonearm_code_units {
  uint32_t cell;  // not tonearm_rnn_relu
  uint32_t panels;
  int32_t* input_sums;  // of products only; used up, and the recurrent ones
  int32_t* recurrent_sums;
  const int32_t* bias;
  const int32_t* recurrent_bias;  // of a Gru: 16 for each panel
  const int32_t* input_multipliers;
  const int32_t* recurrent_multipliers;
  uint32_t input_shift, recurrent_shift;
  int16_t* h;
  int16_t* c;
  int8_t* codes;  // of h
};
typedef void tonearm_units_codes_kernel(const struct tonearm_code_units* units);

/// The code of each number; see code_of().
typedef void tonearm_encode_kernel(const float* numbers, const float* factors, uint32_t count, int8_t* codes);

/// Rows of weights times a vector, plus the bias; each row's sum as that of dot().
typedef void tonearm_dense_kernel(const float* weights, const float* bias, const float* vector,
                                  uint32_t columns, uint32_t rows, float* out);

enum tonearm_function { tonearm_sigmoid, tonearm_tanh };
/// The function of each value, to the bits of numbers.h.
typedef void tonearm_activate_kernel(uint32_t function, float* values, uint32_t count);

extern "C" {
/// Of each 1 / 2 of the argument's magnitude below 16: value, slope and curvature of the logistic function in
/// 1 / 32768ths. Rows of 32.
extern const int16_t tonearm_sigmoid_table[96];

tonearm_multiply_kernel tonearm_multiply_ssse3, tonearm_multiply_avx2, tonearm_multiply_avx512,
    tonearm_multiply_neon, tonearm_multiply_wasm;
tonearm_multiply_codes_kernel tonearm_multiply_codes_ssse3, tonearm_multiply_codes_avx2,
    tonearm_multiply_codes_avx512, tonearm_multiply_codes_neon, tonearm_multiply_codes_neon_dot,
    tonearm_multiply_codes_wasm, tonearm_multiply_codes_dsp;
tonearm_units_kernel tonearm_units_ssse3, tonearm_units_avx2, tonearm_units_avx512, tonearm_units_neon,
    tonearm_units_wasm;
tonearm_units_codes_kernel tonearm_units_codes_ssse3, tonearm_units_codes_avx2, tonearm_units_codes_avx512,
    tonearm_units_codes_neon, tonearm_units_codes_wasm;
tonearm_encode_kernel tonearm_encode_avx2, tonearm_encode_avx512, tonearm_encode_neon;
tonearm_dense_kernel tonearm_dense_ssse3, tonearm_dense_avx2, tonearm_dense_avx512, tonearm_dense_neon;
tonearm_activate_kernel tonearm_activate_ssse3, tonearm_activate_avx2, tonearm_activate_avx512,
    tonearm_activate_neon, tonearm_activate_wasm;
}
