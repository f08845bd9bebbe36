#pragma once

// The few functions of real numbers that models need, as our own code: no libm, the same bits on every
// target, and no dependence on a table. In any rounding mode they stay within the bounds given here
// plus one unit in the last place.

#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "Tonearm must not be compiled with -ffast-math: predictions would no longer be reproducible."
#endif

namespace tonearm::runtime {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

/// By bits, so that no compiler option or processor mode can change the answer.
inline bool is_nan(float value) { return (float_bits(value) & 0x7fffffffu) > 0x7f800000u; }
inline bool is_finite(float value) { return (float_bits(value) & 0x7f800000u) != 0x7f800000u; }

/// Maps the bits of a float (not NaN) to an integer of the same order; -0 and +0 become the same.
inline int32_t ordered(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t negative = 0u - (bits >> 31);  // all ones below zero
  const int32_t key = static_cast<int32_t>(bits ^ (negative >> 1));
  return magnitude == 0 ? 0 : key;
}

/// y -> 2^n and exp(r) - 1 with y = n ln 2 + r, |r| <= ln 2 / 2; for |y| <= 87.
struct SplitExp {
  float power;
  float rest;
};

inline SplitExp split_exp(float y) {
  // Rounding by conversion truncates in every rounding mode.
  const float n = static_cast<float>(static_cast<int32_t>(y * 1.44269504f + (y < 0 ? -0.5f : 0.5f)));
  // ln 2 in two parts, the first short enough for n * part to be exact.
  const float r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
  // Taylor's series; the first term left out is below r * 4e-8.
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  const uint32_t exponent = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  return {bits_float(exponent), r + r * r * series};
}

/// exp(x), relative error below 1e-7; arguments beyond +-87 are taken as +-87. NaN gives NaN.
inline float exp(float x) {
  if (is_nan(x)) return x;
  const float y = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
  const SplitExp e = split_exp(y);
  return e.power + e.power * e.rest;
}

/// 1 / (1 + exp(-x)), relative error below 2e-7 for x >= -87. NaN gives NaN.
inline float sigmoid(float x) {
  const float e = exp(x < 0 ? x : -x);
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/// (exp(2x) - 1) / (exp(2x) + 1), relative error below 2e-7. NaN gives NaN.
inline float tanh(float x) {
  if (is_nan(x)) return x;
  const float magnitude = x < 0 ? -x : x;
  const SplitExp e = split_exp(magnitude > 20.0f ? 40.0f : 2 * magnitude);
  const float above = e.power * e.rest + (e.power - 1.0f);  // exp(2|x|) - 1 without cancellation
  const float result = above / (above + 2.0f);
  return x < 0 ? -result : result;
}

/// The square root of a number that is not negative, relative error below 2e-7. Of others, themselves.
inline float square_root(float x) {
  if (!(x > 0) || !is_finite(x)) return x;
  const bool tiny = float_bits(x) < 0x0c800000u;               // squares of what follows would vanish
  const float value = tiny ? x * 18446744073709551616.0f : x;  // 2^64
  // 1 / sqrt(value): halving the exponent gets within 4 %, and every step of Newton's method squares that.
  float inverse = bits_float(0x5f375a86u - (float_bits(value) >> 1));
  for (int i = 0; i < 3; ++i) inverse *= 1.5f - 0.5f * value * inverse * inverse;
  const float root = value * inverse;
  return tiny ? root * 2.3283064365386963e-10f : root;  // 2^-32
}

}  // namespace tonearm::runtime
