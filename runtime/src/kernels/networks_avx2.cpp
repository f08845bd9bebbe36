// Needs FMA and F16C, too.

#include <immintrin.h>

#include "networks.h"

#define TONEARM_ISA avx2

typedef __m256 Floats;
typedef __m256i Ints, Shorts, Weights;
static const uint32_t lanes = 8, widest = 4, batch_tiles = 2, batch = 2;

// ------------------------------------------------------------------------------------------- float32

TONEARM_INLINE Floats zero_floats(void) { return _mm256_setzero_ps(); }
TONEARM_INLINE Floats spread(float x) { return _mm256_set1_ps(x); }
TONEARM_INLINE Floats load_floats(const float* from) { return _mm256_loadu_ps(from); }
TONEARM_INLINE Floats load_part(const float* from, uint32_t count) {
  float part[lanes] = {0};
  for (uint32_t i = 0; i < count; ++i) part[i] = from[i];
  return load_floats(part);
}
TONEARM_INLINE void store_floats(float* to, Floats x) { _mm256_storeu_ps(to, x); }
TONEARM_INLINE void store_part(float* to, Floats x, uint32_t count) {
  float part[lanes];
  store_floats(part, x);
  for (uint32_t i = 0; i < count; ++i) to[i] = part[i];
}
TONEARM_INLINE Floats load_halves(const uint8_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
}
TONEARM_INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
TONEARM_INLINE Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
TONEARM_INLINE Floats exact_divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
TONEARM_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
TONEARM_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
TONEARM_INLINE Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
TONEARM_INLINE Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
TONEARM_INLINE Floats smaller_float(Floats a, Floats b) { return _mm256_min_ps(a, b); }

TONEARM_INLINE Floats negative_magnitude(Floats x) { return _mm256_or_ps(x, _mm256_set1_ps(-0.0f)); }
/// A negative number (or 0) with the sign of x.
TONEARM_INLINE Floats with_sign_of(Floats x, Floats negative) {
  return _mm256_xor_ps(negative, _mm256_andnot_ps(x, _mm256_set1_ps(-0.0f)));
}
TONEARM_INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  return _mm256_blendv_ps(otherwise, then, x);
}
TONEARM_INLINE Floats where_missing(Floats x, Floats otherwise) {
  return _mm256_blendv_ps(otherwise, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
TONEARM_INLINE Ints to_ints(Floats x) { return _mm256_cvttps_epi32(x); }
TONEARM_INLINE Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
TONEARM_INLINE Floats power_of_two(Ints n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

// --------------------------------------------------------------------------------------------- codes

TONEARM_INLINE Ints zero_ints(void) { return _mm256_setzero_si256(); }
TONEARM_INLINE Ints load_ints(const int32_t* from) { return _mm256_loadu_si256((const __m256i*)from); }
TONEARM_INLINE void store_ints(int32_t* to, Ints x) { _mm256_storeu_si256((__m256i*)to, x); }
TONEARM_INLINE Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }

/// One operand of a product is without a sign: that of x goes to the weights. Neither is beyond 127 (x only
/// where the weight is 0), so that pairs of products fit.
typedef struct {
  __m256i x, magnitude;
} Fours;

TONEARM_INLINE Weights load_weights(const uint8_t* from) {
  return _mm256_xor_si256(_mm256_loadu_si256((const __m256i*)from), _mm256_set1_epi8((char)128));
}
TONEARM_INLINE Fours spread_fours(const int8_t* four) {
  int32_t bits;
  __builtin_memcpy(&bits, four, 4);
  const __m256i x = _mm256_set1_epi32(bits);
  const Fours fours = {x, _mm256_abs_epi8(x)};
  return fours;
}
TONEARM_INLINE Ints add_dots(Ints sums, Weights weights, Fours fours) {
  const __m256i pairs = _mm256_maddubs_epi16(fours.magnitude, _mm256_sign_epi8(weights, fours.x));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
TONEARM_INLINE Ints excess_of(const int8_t* vector, uint32_t bytes) {
  (void)vector, (void)bytes;
  return _mm256_setzero_si256();
}

/// There is no arithmetic shift: what is shifted is made positive.
TONEARM_INLINE Ints scaled(Ints sums, Ints multipliers, uint32_t shift) {
  const __m256i before = _mm256_set1_epi64x((long long)((1ull << 63) + (1ull << (shift - 1))));
  const __m256i after = _mm256_set1_epi64x((long long)(1ull << (63 - shift)));
  const __m128i count = _mm_cvtsi32_si128((int)shift);
  const __m256i even = _mm256_mul_epi32(sums, multipliers);
  const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(sums, 32), _mm256_srli_epi64(multipliers, 32));
  const __m256i low = _mm256_sub_epi64(_mm256_srl_epi64(_mm256_add_epi64(even, before), count), after);
  const __m256i high = _mm256_sub_epi64(_mm256_srl_epi64(_mm256_add_epi64(odd, before), count), after);
  return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xaa);
}

TONEARM_INLINE Shorts pack(Ints a, Ints b) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}
TONEARM_INLINE Ints low_half(Shorts x) { return _mm256_cvtepi16_epi32(_mm256_castsi256_si128(x)); }
TONEARM_INLINE Ints high_half(Shorts x) { return _mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1)); }

TONEARM_INLINE Shorts spread_shorts(int32_t x) { return _mm256_set1_epi16((short)x); }
TONEARM_INLINE Shorts load_shorts(const int16_t* from, uint32_t count) {
  (void)count;
  return _mm256_loadu_si256((const __m256i*)from);
}
TONEARM_INLINE void store_shorts(int16_t* to, Shorts x, uint32_t count) {
  (void)count;
  _mm256_storeu_si256((__m256i*)to, x);
}
TONEARM_INLINE void store_codes(int8_t* to, Shorts x, uint32_t count) {
  (void)count;
  _mm_storeu_si128((__m128i*)to, _mm_packs_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}
TONEARM_INLINE Shorts add_shorts(Shorts a, Shorts b) { return _mm256_add_epi16(a, b); }
TONEARM_INLINE Shorts subtract_shorts(Shorts a, Shorts b) { return _mm256_sub_epi16(a, b); }
TONEARM_INLINE Shorts add_limited(Shorts a, Shorts b) { return _mm256_adds_epi16(a, b); }
TONEARM_INLINE Shorts and_shorts(Shorts a, Shorts b) { return _mm256_and_si256(a, b); }
TONEARM_INLINE Shorts shift_left(Shorts a, int bits) { return _mm256_slli_epi16(a, bits); }
TONEARM_INLINE Shorts shift_right(Shorts a, int bits) { return _mm256_srli_epi16(a, bits); }
TONEARM_INLINE Shorts high_product(Shorts a, Shorts b) { return _mm256_mulhrs_epi16(a, b); }
TONEARM_INLINE Shorts magnitude_of(Shorts z) {
  return _mm256_max_epi16(z, _mm256_subs_epi16(_mm256_setzero_si256(), z));
}
/// 32768 - value where z is negative.
TONEARM_INLINE Shorts mirrored(Shorts z, Shorts value) {
  const __m256i other = _mm256_sub_epi16(_mm256_set1_epi16(INT16_MIN), value);
  return _mm256_blendv_epi8(value, other, _mm256_srai_epi16(z, 15));
}

typedef struct {
  Shorts value[2], slope[2], curvature[2];
} Parts;

/// The bytes of numbers 0 to 15 and 16 to 31 of a row, the lower ones and the upper ones.
typedef struct {
  __m256i bytes[3][2][2];
} Table;

TONEARM_INLINE Table load_table(void) {
  Table table;
  for (uint32_t i = 0; i < 6; ++i) {
    const __m128i a = _mm_loadu_si128((const __m128i*)(tonearm_sigmoid_table + 16 * i));
    const __m128i b = _mm_loadu_si128((const __m128i*)(tonearm_sigmoid_table + 16 * i + 8));
    const __m128i low = _mm_set1_epi16(255);
    table.bytes[i / 2][0][i % 2] =
        _mm256_broadcastsi128_si256(_mm_packus_epi16(_mm_and_si128(a, low), _mm_and_si128(b, low)));
    table.bytes[i / 2][1][i % 2] =
        _mm256_broadcastsi128_si256(_mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8)));
  }
  return table;
}

TONEARM_INLINE __m256i look_up(const __m256i* halves, __m256i low, __m256i high) {
  return _mm256_or_si256(_mm256_shuffle_epi8(halves[0], low), _mm256_shuffle_epi8(halves[1], high));
}

TONEARM_INLINE Parts sigmoid_parts(const Table* table, Shorts a, Shorts b) {
  // Where the top bit is set, a shuffle gives 0.
  const __m256i part = _mm256_packus_epi16(a, b);
  const __m256i low = _mm256_add_epi8(part, _mm256_set1_epi8(0x70));
  const __m256i high = _mm256_sub_epi8(part, _mm256_set1_epi8(16));
  Shorts rows[3][2];
  for (uint32_t i = 0; i < 3; ++i) {
    const __m256i lower = look_up(table->bytes[i][0], low, high);
    const __m256i upper = look_up(table->bytes[i][1], low, high);
    rows[i][0] = _mm256_unpacklo_epi8(lower, upper);
    rows[i][1] = _mm256_unpackhi_epi8(lower, upper);
  }
  const Parts parts = {{rows[0][0], rows[0][1]}, {rows[1][0], rows[1][1]}, {rows[2][0], rows[2][1]}};
  return parts;
}

// ------------------------------------------------------------------------------------------ encoding

#define TONEARM_ENCODES

/// In doubles, products of float32s are exact, and so are their sums with 1/2 wherever it matters. Where
/// denormals are flushed, nothing is lost: factors are at most 1e30.
TONEARM_INLINE __m128i encode_four(__m128 magnitude, const float* factors) {
  const __m256d product = _mm256_mul_pd(_mm256_cvtps_pd(magnitude), _mm256_cvtps_pd(_mm_loadu_ps(factors)));
  const __m256d moved = _mm256_add_pd(product, _mm256_set1_pd(0.5));
  return _mm256_cvttpd_epi32(_mm256_min_pd(moved, _mm256_set1_pd(127)));
}

TONEARM_INLINE __m256i encode_eight(const float* numbers, const float* factors) {
  const __m256 x = _mm256_loadu_ps(numbers), magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
  const __m256 finite = _mm256_cmp_ps(magnitude, _mm256_set1_ps(__builtin_inff()), _CMP_LT_OQ);
  const __m256i code = _mm256_set_m128i(encode_four(_mm256_extractf128_ps(magnitude, 1), factors + 4),
                                        encode_four(_mm256_castps256_ps128(magnitude), factors));
  const __m256i sign = _mm256_or_si256(_mm256_castps_si256(x), _mm256_set1_epi32(1));
  return _mm256_sign_epi32(_mm256_and_si256(code, _mm256_castps_si256(finite)), sign);
}

TONEARM_INLINE void encode_tile(const float* numbers, const float* factors, int8_t* codes) {
  const __m256i shorts =
      _mm256_packs_epi32(encode_eight(numbers, factors), encode_eight(numbers + 8, factors + 8));
  store_codes(codes, _mm256_permute4x64_epi64(shorts, 0xd8), 16);
}

TONEARM_INLINE void encode_some(const float* numbers, const float* factors, uint32_t count, int8_t* codes) {
  float some[16] = {0}, some_factors[16] = {0};
  int8_t some_codes[16];
  for (uint32_t i = 0; i < count; ++i) {
    some[i] = numbers[i];
    some_factors[i] = factors[i];
  }
  encode_tile(some, some_factors, some_codes);
  for (uint32_t i = 0; i < count; ++i) codes[i] = some_codes[i];
}

// ------------------------------------------------------------------------------------- dense float32

typedef struct {
  __m256 low, high;
} DenseSums;
static const uint32_t dense_rows = 4;

TONEARM_INLINE DenseSums no_sums(void) {
  const DenseSums sums = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  return sums;
}
TONEARM_INLINE DenseSums load_sixteen(const float* from) {
  const DenseSums x = {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  return x;
}
TONEARM_INLINE DenseSums add_products(DenseSums sums, DenseSums weights, DenseSums x) {
  sums.low = _mm256_add_ps(sums.low, _mm256_mul_ps(weights.low, x.low));
  sums.high = _mm256_add_ps(sums.high, _mm256_mul_ps(weights.high, x.high));
  return sums;
}
TONEARM_INLINE DenseSums add_sixteen(DenseSums sums, const float* weights, DenseSums x) {
  return add_products(sums, load_sixteen(weights), x);
}
TONEARM_INLINE DenseSums load_some(const float* from, uint32_t count) {
  const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), there = _mm256_set1_epi32((int)count);
  const __m256i in_high = _mm256_cmpgt_epi32(_mm256_sub_epi32(there, _mm256_set1_epi32(8)), lane);
  const DenseSums x = {_mm256_maskload_ps(from, _mm256_cmpgt_epi32(there, lane)),
                       _mm256_maskload_ps(from + 8, in_high)};
  return x;
}
TONEARM_INLINE DenseSums add_some(DenseSums sums, const float* weights, DenseSums x, uint32_t count) {
  return add_products(sums, load_some(weights, count), x);
}

/// Of two rows: the sums of lanes i and i + 4 of each, the first's in the lower half.
TONEARM_INLINE __m256 fold_4(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_blend_ps(a, b, 0xf0), _mm256_permute2f128_ps(a, b, 0x21));
}
/// The same of lanes i and i + 2 of each half.
TONEARM_INLINE __m256 fold_2(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_blend_ps(a, b, 0xcc), _mm256_shuffle_ps(a, b, 0x4e));
}

TONEARM_INLINE void reduce_rows(const DenseSums* rows, float* sums) {
  __m256 row[4];
  for (uint32_t r = 0; r < 4; ++r) row[r] = _mm256_add_ps(rows[r].low, rows[r].high);
  const __m256 pairs = fold_2(fold_4(row[0], row[1]), fold_4(row[2], row[3]));
  // Rows 0 and 2 in the lower half, 1 and 3 in the upper, each twice.
  const __m256 all = _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0xb1));
  const __m128 even = _mm256_castps256_ps128(all), odd = _mm256_extractf128_ps(all, 1);
  const __m128 mixed = _mm_shuffle_ps(even, odd, 0x88);
  _mm_storeu_ps(sums, _mm_shuffle_ps(mixed, mixed, 0xd8));
}

#include "networks.inc"
