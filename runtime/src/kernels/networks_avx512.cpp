// Needs AVX-512 F, BW, VL and VNNI.

#include <immintrin.h>

#include "networks.h"

#define TONEARM_ISA avx512

typedef __m512 Floats;
typedef __m512i Ints, Shorts, Weights, Fours;
static const uint32_t lanes = 16, widest = 8, batch_tiles = 4, batch = 4;

// ------------------------------------------------------------------------------------------- float32

TONEARM_INLINE Floats zero_floats(void) { return _mm512_setzero_ps(); }
TONEARM_INLINE Floats spread(float x) { return _mm512_set1_ps(x); }
TONEARM_INLINE Floats load_floats(const float* from) { return _mm512_loadu_ps(from); }
TONEARM_INLINE Floats load_part(const float* from, uint32_t count) {
  return _mm512_maskz_loadu_ps((__mmask16)_bzhi_u32(~0u, count), from);
}
TONEARM_INLINE void store_part(float* to, Floats x, uint32_t count) {
  _mm512_mask_storeu_ps(to, (__mmask16)_bzhi_u32(~0u, count), x);
}
TONEARM_INLINE void store_floats(float* to, Floats x) { _mm512_storeu_ps(to, x); }
TONEARM_INLINE Floats load_halves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
}
TONEARM_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
TONEARM_INLINE Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
TONEARM_INLINE Floats exact_divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
TONEARM_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
TONEARM_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
TONEARM_INLINE Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
TONEARM_INLINE Floats smaller_float(Floats a, Floats b) { return _mm512_min_ps(a, b); }

/// b between 1 and 8: an approximation to 14 bits, and one step of Newton's method.
TONEARM_INLINE Floats divide(Floats a, Floats b) {
  const Floats inverse = _mm512_rcp14_ps(b);
  const Floats error = _mm512_fnmadd_ps(b, inverse, _mm512_set1_ps(1));
  return _mm512_mul_ps(a, _mm512_fmadd_ps(inverse, error, inverse));
}

TONEARM_INLINE Floats negative_magnitude(Floats x) {
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN)));
}
/// A negative number (or 0) with the sign of x.
TONEARM_INLINE Floats with_sign_of(Floats x, Floats negative) {
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(x),
                                                       _mm512_castps_si512(negative), 0xca));
}
TONEARM_INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  return _mm512_mask_mov_ps(otherwise, _mm512_cmplt_ps_mask(x, _mm512_setzero_ps()), then);
}
TONEARM_INLINE Floats where_missing(Floats x, Floats otherwise) {
  return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}
TONEARM_INLINE Ints to_ints(Floats x) { return _mm512_cvttps_epi32(x); }
TONEARM_INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
TONEARM_INLINE Floats power_of_two(Ints n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

// --------------------------------------------------------------------------------------------- codes

TONEARM_INLINE Ints zero_ints(void) { return _mm512_setzero_si512(); }
TONEARM_INLINE Ints load_ints(const int32_t* from) { return _mm512_loadu_si512(from); }
TONEARM_INLINE void store_ints(int32_t* to, Ints x) { _mm512_storeu_si512(to, x); }
TONEARM_INLINE Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
TONEARM_INLINE Weights load_weights(const uint8_t* from) { return _mm512_loadu_si512(from); }
TONEARM_INLINE Fours spread_fours(const int8_t* four) {
  int32_t bits;
  __builtin_memcpy(&bits, four, 4);
  return _mm512_set1_epi32(bits);
}
/// Weights are multiplied with 128 added, which excess_of() takes away.
TONEARM_INLINE Ints add_dots(Ints sums, Weights weights, Fours x) {
  return _mm512_dpbusd_epi32(sums, weights, x);
}
TONEARM_INLINE Ints excess_of(const int8_t* vector, uint32_t bytes) {
  // In vectors no wider than those that were written a moment ago.
  __m128i sum = _mm_setzero_si128();
  const __m128i weights = _mm_set1_epi8((char)128);
  uint32_t at = 0;
  for (; at + 16 <= bytes; at += 16)
    sum = _mm_dpbusd_epi32(sum, weights, _mm_loadu_si128((const __m128i*)(vector + at)));
  const __m128i rest = _mm_maskz_loadu_epi8((__mmask16)_bzhi_u32(~0u, bytes - at), vector + at);
  sum = _mm_dpbusd_epi32(sum, weights, rest);
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_broadcastd_epi32(sum));
}

TONEARM_INLINE Ints scaled(Ints sums, Ints multipliers, uint32_t shift) {
  const __m512i half = _mm512_set1_epi64((long long)(1ull << (shift - 1)));
  const __m128i count = _mm_cvtsi32_si128((int)shift);
  const __m512i even = _mm512_mul_epi32(sums, multipliers);
  const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(sums, 32), _mm512_srli_epi64(multipliers, 32));
  const __m512i low = _mm512_sra_epi64(_mm512_add_epi64(even, half), count);
  const __m512i high = _mm512_sra_epi64(_mm512_add_epi64(odd, half), count);
  return _mm512_mask_shuffle_epi32(low, 0xaaaa, high, _MM_PERM_CCAA);
}

TONEARM_INLINE Shorts pack(Ints a, Ints b) {
  const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b));
}
TONEARM_INLINE Ints low_half(Shorts x) { return _mm512_cvtepi16_epi32(_mm512_castsi512_si256(x)); }
TONEARM_INLINE Ints high_half(Shorts x) { return _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1)); }

TONEARM_INLINE Shorts spread_shorts(int32_t x) { return _mm512_set1_epi16((short)x); }
TONEARM_INLINE Shorts load_shorts(const int16_t* from, uint32_t count) {
  return _mm512_maskz_loadu_epi16(_bzhi_u32(~0u, count), from);
}
/// What is read again soon is not stored with a mask, behind which reading has to wait.
TONEARM_INLINE void store_shorts(int16_t* to, Shorts x, uint32_t count) {
  if (count == 32)
    _mm512_storeu_si512(to, x);
  else
    _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(x));
}
TONEARM_INLINE void store_codes(int8_t* to, Shorts x, uint32_t count) {
  const __m256i codes = _mm512_cvtepi16_epi8(x);
  if (count == 32)
    _mm256_storeu_si256((__m256i*)to, codes);
  else
    _mm_storeu_si128((__m128i*)to, _mm256_castsi256_si128(codes));
}
TONEARM_INLINE Shorts add_shorts(Shorts a, Shorts b) { return _mm512_add_epi16(a, b); }
TONEARM_INLINE Shorts subtract_shorts(Shorts a, Shorts b) { return _mm512_sub_epi16(a, b); }
TONEARM_INLINE Shorts add_limited(Shorts a, Shorts b) { return _mm512_adds_epi16(a, b); }
TONEARM_INLINE Shorts and_shorts(Shorts a, Shorts b) { return _mm512_and_si512(a, b); }
TONEARM_INLINE Shorts shift_left(Shorts a, int bits) { return _mm512_slli_epi16(a, (unsigned)bits); }
TONEARM_INLINE Shorts shift_right(Shorts a, int bits) { return _mm512_srli_epi16(a, (unsigned)bits); }
TONEARM_INLINE Shorts high_product(Shorts a, Shorts b) { return _mm512_mulhrs_epi16(a, b); }
TONEARM_INLINE Shorts magnitude_of(Shorts z) {
  return _mm512_max_epi16(z, _mm512_subs_epi16(_mm512_setzero_si512(), z));
}
/// 32768 - value where z is negative.
TONEARM_INLINE Shorts mirrored(Shorts z, Shorts value) {
  return _mm512_mask_sub_epi16(value, _mm512_movepi16_mask(z), _mm512_set1_epi16(INT16_MIN), value);
}

typedef struct {
  Shorts value[2], slope[2], curvature[2];
} Parts;

typedef struct {
  Shorts value, slope, curvature;
} Table;

TONEARM_INLINE Table load_table(void) {
  const Table table = {_mm512_loadu_si512(tonearm_sigmoid_table),
                       _mm512_loadu_si512(tonearm_sigmoid_table + 32),
                       _mm512_loadu_si512(tonearm_sigmoid_table + 64)};
  return table;
}

TONEARM_INLINE Parts sigmoid_parts(const Table* table, Shorts a, Shorts b) {
  const Parts parts = {
      {_mm512_permutexvar_epi16(a, table->value), _mm512_permutexvar_epi16(b, table->value)},
      {_mm512_permutexvar_epi16(a, table->slope), _mm512_permutexvar_epi16(b, table->slope)},
      {_mm512_permutexvar_epi16(a, table->curvature), _mm512_permutexvar_epi16(b, table->curvature)}};
  return parts;
}

// ------------------------------------------------------------------------------------------ encoding

#define TONEARM_ENCODES

/// Rounded towards 0 whatever the mode, a magnitude is not below k + 1/2 unless it was not before either: all
/// k + 1/2 up to 127 are float32s. Where denormals are flushed, nothing is lost: factors are at most 1e30.
TONEARM_INLINE __m128i encoded(__m512 x, __m512 factors) {
  enum { to_zero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC };
  const __m512 magnitude = _mm512_abs_ps(x);
  const __mmask16 finite = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
  const __m512 product = _mm512_mul_round_ps(magnitude, factors, to_zero);
  const __m512 moved = _mm512_add_round_ps(product, _mm512_set1_ps(0.5f), to_zero);
  const __m512i code = _mm512_cvttps_epi32(_mm512_min_ps(moved, _mm512_set1_ps(127)));
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  const __m512i signed_code = _mm512_mask_sub_epi32(code, negative, _mm512_setzero_si512(), code);
  return _mm512_maskz_cvtepi32_epi8(finite, signed_code);
}

TONEARM_INLINE void encode_tile(const float* numbers, const float* factors, int8_t* codes) {
  _mm_storeu_si128((__m128i*)codes, encoded(_mm512_loadu_ps(numbers), _mm512_loadu_ps(factors)));
}
TONEARM_INLINE void encode_some(const float* numbers, const float* factors, uint32_t count, int8_t* codes) {
  const __m128i some = encoded(load_part(numbers, count), load_part(factors, count));
  _mm_mask_storeu_epi8(codes, (__mmask16)_bzhi_u32(~0u, count), some);
}

// ------------------------------------------------------------------------------------- dense float32

typedef __m512 DenseSums;
static const uint32_t dense_rows = 8;

TONEARM_INLINE DenseSums no_sums(void) { return _mm512_setzero_ps(); }
TONEARM_INLINE DenseSums load_sixteen(const float* from) { return _mm512_loadu_ps(from); }
TONEARM_INLINE DenseSums add_sixteen(DenseSums sums, const float* weights, DenseSums x) {
  return _mm512_add_ps(sums, _mm512_mul_ps(_mm512_loadu_ps(weights), x));
}
TONEARM_INLINE DenseSums load_some(const float* from, uint32_t count) { return load_part(from, count); }
TONEARM_INLINE DenseSums add_some(DenseSums sums, const float* weights, DenseSums x, uint32_t count) {
  const __mmask16 there = (__mmask16)_bzhi_u32(~0u, count);
  return _mm512_mask_add_ps(sums, there, sums, _mm512_mul_ps(_mm512_maskz_loadu_ps(there, weights), x));
}

/// Of two rows: the sums of lanes i and i + 8 of each, the first's in the lower half.
TONEARM_INLINE __m512 fold_8(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
}
/// The same of lanes i and i + 4 of each half.
TONEARM_INLINE __m512 fold_4(__m512 a, __m512 b) {
  const __m512i crossed = _mm512_set_epi32(27, 26, 25, 24, 15, 14, 13, 12, 19, 18, 17, 16, 7, 6, 5, 4);
  return _mm512_add_ps(_mm512_mask_blend_ps(0xf0f0, a, b), _mm512_permutex2var_ps(a, crossed, b));
}
/// And of i and i + 2 of each quarter.
TONEARM_INLINE __m512 fold_2(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, a, b), _mm512_shuffle_ps(a, b, 0x4e));
}

TONEARM_INLINE void reduce_rows(const DenseSums* rows, float* sums) {
  const __m512 low = fold_4(fold_8(rows[0], rows[1]), fold_8(rows[2], rows[3]));
  const __m512 high = fold_4(fold_8(rows[4], rows[5]), fold_8(rows[6], rows[7]));
  const __m512 pairs = fold_2(low, high);
  const __m512 all = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0xb1));
  // The rows' order is 0 4 2 6 in the lower half and 1 5 3 7 in the upper, each twice.
  const __m512i order = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 14, 6, 10, 2, 12, 4, 8, 0);
  _mm256_storeu_ps(sums, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all)));
}

#include "networks.inc"
