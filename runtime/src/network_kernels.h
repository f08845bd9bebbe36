#pragma once

// The inner loops of networks: plain C++, the reference, and the vectorised kernels that a model picked when
// it was opened.

#if defined(__ARM_FEATURE_SAT)
#include <arm_acle.h>
#endif

#include "kernels/networks.h"
#include "numbers.h"

namespace tonearm::runtime {

/// x * factor, rounded to the nearest whole number, halves away from 0, within -127 and 127; 0 where x is not
/// finite. By integers, so that every rounding mode gives the same.
int8_t code_of(float x, float factor);

/// The limit of what enters a network, so that no sum overflows: see the schema.
constexpr float largest_input = 1e6f;

inline float limited(float x) {
  if (!is_finite(x)) return 0;
  return x > largest_input ? largest_input : x < -largest_input ? -largest_input : x;
}

inline int32_t shifted(int64_t value, uint32_t shift) {
  return static_cast<int32_t>((value + (int64_t{1} << (shift - 1))) >> shift);
}
/// Limited to what an int16 holds.
inline int32_t in_int16(int32_t value) {
#if defined(__ARM_FEATURE_SAT)
  return __ssat(value, 16);
#else
  return value > 32767 ? 32767 : value < -32768 ? -32768 : value;
#endif
}
inline int16_t to_int16(int32_t value) { return static_cast<int16_t>(in_int16(value)); }
/// Of 1 / 32768ths by 1 / 32768ths.
inline int32_t product(int32_t a, int32_t b) { return (a * b + (1 << 14)) >> 15; }

/// From 1 / 2048ths to 1 / 32768ths, within 1.5e-4.
int32_t sigmoid_code(int32_t z);
inline int32_t tanh_code(int32_t z) { return 2 * (sigmoid_code(in_int16(2 * z)) - 16384); }
inline int8_t state_code(int32_t h) { return static_cast<int8_t>(product(h, 127)); }

struct NetworkKernels {
  tonearm_multiply_kernel* multiply;
  tonearm_multiply_codes_kernel* multiply_codes;
  tonearm_units_kernel* update;
  tonearm_units_codes_kernel* update_codes;
  tonearm_encode_kernel* encode;
  tonearm_dense_kernel* dense;
  tonearm_activate_kernel* activate;
};

/// Those for a TONEARM_CPU_ bit.
const NetworkKernels& network_kernels(uint32_t cpu);

}  // namespace tonearm::runtime
