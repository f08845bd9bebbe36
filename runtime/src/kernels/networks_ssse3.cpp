#include <tmmintrin.h>

#include "networks.h"

#define TONEARM_ISA ssse3

typedef __m128 Floats;
typedef __m128i Ints, Shorts, Weights;
static const uint32_t lanes = 4, widest = 2, batch_tiles = 1, batch = 2;

// ------------------------------------------------------------------------------------------- float32

TONEARM_INLINE Floats zero_floats(void) { return _mm_setzero_ps(); }
TONEARM_INLINE Floats spread(float x) { return _mm_set1_ps(x); }
TONEARM_INLINE Floats load_floats(const float* from) { return _mm_loadu_ps(from); }
TONEARM_INLINE Floats load_part(const float* from, uint32_t count) {
  float part[lanes] = {0};
  for (uint32_t i = 0; i < count; ++i) part[i] = from[i];
  return load_floats(part);
}
TONEARM_INLINE void store_floats(float* to, Floats x) { _mm_storeu_ps(to, x); }
TONEARM_INLINE void store_part(float* to, Floats x, uint32_t count) {
  float part[lanes];
  store_floats(part, x);
  for (uint32_t i = 0; i < count; ++i) to[i] = part[i];
}
TONEARM_INLINE Floats add(Floats a, Floats b) { return _mm_add_ps(a, b); }
TONEARM_INLINE Floats subtract(Floats a, Floats b) { return _mm_sub_ps(a, b); }
TONEARM_INLINE Floats exact_divide(Floats a, Floats b) { return _mm_div_ps(a, b); }
TONEARM_INLINE Floats multiply(Floats a, Floats b) { return _mm_mul_ps(a, b); }
TONEARM_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
TONEARM_INLINE Floats divide(Floats a, Floats b) { return _mm_div_ps(a, b); }
TONEARM_INLINE Floats larger(Floats a, Floats b) { return _mm_max_ps(a, b); }
TONEARM_INLINE Floats smaller_float(Floats a, Floats b) { return _mm_min_ps(a, b); }

/// The exponent and the fraction, moved to where those of a float are, and multiplied by 2^112; denormals are
/// whole multiples of 2^-24.
TONEARM_INLINE Floats load_halves(const uint8_t* from) {
  const __m128i half = _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i*)from), _mm_setzero_si128());
  const __m128i magnitude = _mm_and_si128(half, _mm_set1_epi32(0x7fff));
  const __m128i sign = _mm_slli_epi32(_mm_xor_si128(half, magnitude), 16);
  const __m128i normal = _mm_add_epi32(_mm_slli_epi32(magnitude, 13), _mm_set1_epi32(0x38000000));
  const __m128i denormal =
      _mm_castps_si128(_mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_set1_ps(5.9604644775390625e-8f)));
  const __m128i is_normal = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x3ff));
  return _mm_castsi128_ps(_mm_or_si128(
      sign, _mm_or_si128(_mm_and_si128(is_normal, normal), _mm_andnot_si128(is_normal, denormal))));
}

TONEARM_INLINE Floats negative_magnitude(Floats x) { return _mm_or_ps(x, _mm_set1_ps(-0.0f)); }
/// A negative number (or 0) with the sign of x.
TONEARM_INLINE Floats with_sign_of(Floats x, Floats negative) {
  return _mm_xor_ps(negative, _mm_andnot_ps(x, _mm_set1_ps(-0.0f)));
}
TONEARM_INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  const __m128 negative = _mm_cmplt_ps(x, _mm_setzero_ps());
  return _mm_or_ps(_mm_and_ps(negative, then), _mm_andnot_ps(negative, otherwise));
}
TONEARM_INLINE Floats where_missing(Floats x, Floats otherwise) {
  const __m128 missing = _mm_cmpunord_ps(x, x);
  return _mm_or_ps(_mm_and_ps(missing, x), _mm_andnot_ps(missing, otherwise));
}
TONEARM_INLINE Ints to_ints(Floats x) { return _mm_cvttps_epi32(x); }
TONEARM_INLINE Floats to_floats(Ints x) { return _mm_cvtepi32_ps(x); }
TONEARM_INLINE Floats power_of_two(Ints n) {
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(n, _mm_set1_epi32(127)), 23));
}

// --------------------------------------------------------------------------------------------- codes

TONEARM_INLINE Ints zero_ints(void) { return _mm_setzero_si128(); }
TONEARM_INLINE Ints load_ints(const int32_t* from) { return _mm_loadu_si128((const __m128i*)from); }
TONEARM_INLINE void store_ints(int32_t* to, Ints x) { _mm_storeu_si128((__m128i*)to, x); }
TONEARM_INLINE Ints add_ints(Ints a, Ints b) { return _mm_add_epi32(a, b); }

/// One operand of a product is without a sign: that of x goes to the weights. Neither is beyond 127 (x only
/// where the weight is 0), so that pairs of products fit.
typedef struct {
  __m128i x, magnitude;
} Fours;

TONEARM_INLINE Weights load_weights(const uint8_t* from) {
  return _mm_xor_si128(_mm_loadu_si128((const __m128i*)from), _mm_set1_epi8((char)128));
}
TONEARM_INLINE Fours spread_fours(const int8_t* four) {
  int32_t bits;
  __builtin_memcpy(&bits, four, 4);
  const __m128i x = _mm_set1_epi32(bits);
  const Fours fours = {x, _mm_abs_epi8(x)};
  return fours;
}
TONEARM_INLINE Ints add_dots(Ints sums, Weights weights, Fours fours) {
  const __m128i pairs = _mm_maddubs_epi16(fours.magnitude, _mm_sign_epi8(weights, fours.x));
  return _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}
TONEARM_INLINE Ints excess_of(const int8_t* vector, uint32_t bytes) {
  (void)vector, (void)bytes;
  return _mm_setzero_si128();
}

/// Of the lower halves, which are signed, though there is only a product of what is not.
TONEARM_INLINE __m128i long_product(__m128i a, __m128i b) {
  const __m128i excess =
      _mm_add_epi32(_mm_and_si128(_mm_srai_epi32(a, 31), b), _mm_and_si128(_mm_srai_epi32(b, 31), a));
  return _mm_sub_epi64(_mm_mul_epu32(a, b), _mm_slli_epi64(excess, 32));
}
/// There is no arithmetic shift: what is shifted is made positive.
TONEARM_INLINE Ints scaled(Ints sums, Ints multipliers, uint32_t shift) {
  const __m128i before = _mm_set1_epi64x((long long)((1ull << 63) + (1ull << (shift - 1))));
  const __m128i after = _mm_set1_epi64x((long long)(1ull << (63 - shift)));
  const __m128i count = _mm_cvtsi32_si128((int)shift);
  const __m128i even = long_product(sums, multipliers);
  const __m128i odd = long_product(_mm_srli_epi64(sums, 32), _mm_srli_epi64(multipliers, 32));
  const __m128i low = _mm_sub_epi64(_mm_srl_epi64(_mm_add_epi64(even, before), count), after);
  const __m128i high = _mm_sub_epi64(_mm_srl_epi64(_mm_add_epi64(odd, before), count), after);
  return _mm_or_si128(_mm_and_si128(low, _mm_set1_epi64x(0xffffffff)), _mm_slli_epi64(high, 32));
}

TONEARM_INLINE Shorts pack(Ints a, Ints b) { return _mm_packs_epi32(a, b); }
TONEARM_INLINE Ints low_half(Shorts x) { return _mm_srai_epi32(_mm_unpacklo_epi16(x, x), 16); }
TONEARM_INLINE Ints high_half(Shorts x) { return _mm_srai_epi32(_mm_unpackhi_epi16(x, x), 16); }

TONEARM_INLINE Shorts spread_shorts(int32_t x) { return _mm_set1_epi16((short)x); }
TONEARM_INLINE Shorts load_shorts(const int16_t* from, uint32_t count) {
  (void)count;
  return _mm_loadu_si128((const __m128i*)from);
}
TONEARM_INLINE void store_shorts(int16_t* to, Shorts x, uint32_t count) {
  (void)count;
  _mm_storeu_si128((__m128i*)to, x);
}
TONEARM_INLINE void store_codes(int8_t* to, Shorts x, uint32_t count) {
  (void)count;
  _mm_storel_epi64((__m128i*)to, _mm_packs_epi16(x, x));
}
TONEARM_INLINE Shorts add_shorts(Shorts a, Shorts b) { return _mm_add_epi16(a, b); }
TONEARM_INLINE Shorts subtract_shorts(Shorts a, Shorts b) { return _mm_sub_epi16(a, b); }
TONEARM_INLINE Shorts add_limited(Shorts a, Shorts b) { return _mm_adds_epi16(a, b); }
TONEARM_INLINE Shorts and_shorts(Shorts a, Shorts b) { return _mm_and_si128(a, b); }
TONEARM_INLINE Shorts shift_left(Shorts a, int bits) { return _mm_slli_epi16(a, bits); }
TONEARM_INLINE Shorts shift_right(Shorts a, int bits) { return _mm_srli_epi16(a, bits); }
TONEARM_INLINE Shorts high_product(Shorts a, Shorts b) { return _mm_mulhrs_epi16(a, b); }
TONEARM_INLINE Shorts magnitude_of(Shorts z) {
  return _mm_max_epi16(z, _mm_subs_epi16(_mm_setzero_si128(), z));
}
/// 32768 - value where z is negative.
TONEARM_INLINE Shorts mirrored(Shorts z, Shorts value) {
  const __m128i negative = _mm_srai_epi16(z, 15);
  // The complement, plus one, plus 32768.
  const __m128i added = _mm_and_si128(negative, _mm_set1_epi16(-32767));
  return _mm_add_epi16(_mm_xor_si128(value, negative), added);
}

typedef struct {
  Shorts value[2], slope[2], curvature[2];
} Parts;

/// The bytes of numbers 0 to 15 and 16 to 31 of a row, the lower ones and the upper ones.
typedef struct {
  __m128i bytes[3][2][2];
} Table;

TONEARM_INLINE Table load_table(void) {
  Table table;
  for (uint32_t i = 0; i < 6; ++i) {
    const __m128i a = _mm_loadu_si128((const __m128i*)(tonearm_sigmoid_table + 16 * i));
    const __m128i b = _mm_loadu_si128((const __m128i*)(tonearm_sigmoid_table + 16 * i + 8));
    const __m128i low = _mm_set1_epi16(255);
    table.bytes[i / 2][0][i % 2] = _mm_packus_epi16(_mm_and_si128(a, low), _mm_and_si128(b, low));
    table.bytes[i / 2][1][i % 2] = _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8));
  }
  return table;
}

TONEARM_INLINE __m128i look_up(const __m128i* halves, __m128i low, __m128i high) {
  return _mm_or_si128(_mm_shuffle_epi8(halves[0], low), _mm_shuffle_epi8(halves[1], high));
}

TONEARM_INLINE Parts sigmoid_parts(const Table* table, Shorts a, Shorts b) {
  // Where the top bit is set, a shuffle gives 0.
  const __m128i part = _mm_packus_epi16(a, b);
  const __m128i low = _mm_add_epi8(part, _mm_set1_epi8(0x70));
  const __m128i high = _mm_sub_epi8(part, _mm_set1_epi8(16));
  Shorts rows[3][2];
  for (uint32_t i = 0; i < 3; ++i) {
    const __m128i lower = look_up(table->bytes[i][0], low, high);
    const __m128i upper = look_up(table->bytes[i][1], low, high);
    rows[i][0] = _mm_unpacklo_epi8(lower, upper);
    rows[i][1] = _mm_unpackhi_epi8(lower, upper);
  }
  const Parts parts = {{rows[0][0], rows[0][1]}, {rows[1][0], rows[1][1]}, {rows[2][0], rows[2][1]}};
  return parts;
}

#include "networks.inc"
