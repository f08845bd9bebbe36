#include <immintrin.h>

#include "trees.h"

#define TONEARM_ISA avx2

typedef __m256i Bytes;
enum { lanes = 32 };

typedef struct {
  const uint8_t* slices;
  uint32_t groups;  // of 16
} Tables;

TONEARM_INLINE Tables load_tables(const uint8_t* slices, uint32_t count) {
  const Tables tables = {slices, (count + 15) / 16};
  return tables;
}

TONEARM_INLINE Bytes look_up(const Tables* tables, uint32_t groups, Bytes slice) {
  const uint8_t* from = tables->slices;
  Bytes value = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)from)),
                                    _mm256_adds_epu8(slice, _mm256_set1_epi8(0x70)));
  for (uint32_t i = 1; i < groups; ++i) {
    // Slices of other groups end up with their top bit set, for which a shuffle gives 0.
    from += 16;
    slice = _mm256_sub_epi8(slice, _mm256_set1_epi8(16));
    const Bytes group = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)from));
    value =
        _mm256_or_si256(value, _mm256_shuffle_epi8(group, _mm256_adds_epu8(slice, _mm256_set1_epi8(0x70))));
  }
  return value;
}

TONEARM_INLINE Bytes zero(void) { return _mm256_setzero_si256(); }

TONEARM_INLINE Bytes load(const uint8_t* from) { return _mm256_loadu_si256((const __m256i*)from); }
TONEARM_INLINE void store(uint8_t* to, Bytes bytes) { _mm256_storeu_si256((__m256i*)to, bytes); }

/// All ones where value <= bin.
TONEARM_INLINE Bytes goes_left(Bytes value, Bytes bin) {
  return _mm256_cmpeq_epi8(_mm256_min_epu8(value, bin), value);
}

TONEARM_INLINE Bytes step_right(Bytes leaf, Bytes value, Bytes bin, Bytes first, Bytes left_leaves) {
  const Bytes moves = _mm256_andnot_si256(goes_left(value, bin), _mm256_cmpeq_epi8(leaf, first));
  return _mm256_add_epi8(leaf, _mm256_and_si256(moves, left_leaves));
}

TONEARM_INLINE Bytes set_right(Bytes leaf, Bytes value, Bytes bin, Bytes slice, uint32_t limit,
                               uint32_t bit) {
  Bytes stays = goes_left(value, bin);
  if (limit < 256) {
    const Bytes least = _mm256_set1_epi8((char)limit);
    stays = _mm256_or_si256(stays, _mm256_cmpeq_epi8(_mm256_max_epu8(slice, least), slice));
  }
  return _mm256_or_si256(leaf, _mm256_andnot_si256(stays, _mm256_set1_epi8((char)bit)));
}

TONEARM_INLINE uint32_t all_below(const uint8_t* slices, uint32_t limit, uint32_t count) {
  if (limit >= 256) return 1;
  const Bytes slice = load(slices), least = _mm256_set1_epi8((char)limit);
  const uint32_t above =
      (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(slice, least), slice));
  return (count < lanes ? above & 0xffff : above) == 0;
}

TONEARM_INLINE uint32_t below(const int32_t* keys, int32_t key) {
  const __m256i bound = _mm256_set1_epi32(key);
  const __m256i low = _mm256_cmpgt_epi32(bound, _mm256_loadu_si256((const __m256i*)keys));
  const __m256i high = _mm256_cmpgt_epi32(bound, _mm256_loadu_si256((const __m256i*)(keys + 8)));
  return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low)) |
         (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8;
}

TONEARM_INLINE uint32_t count_bits(uint32_t bits) { return (uint32_t)__builtin_popcount(bits); }

typedef struct {
  __m256 low, high;
} Sums;

TONEARM_INLINE Sums load_sums(const float* from) {
  const Sums sums = {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
  return sums;
}
TONEARM_INLINE void store_sums(float* to, Sums sums) {
  _mm256_storeu_ps(to, sums.low);
  _mm256_storeu_ps(to + 8, sums.high);
}
TONEARM_INLINE Sums add_values(Sums sums, const float* values) {
  sums.low = _mm256_add_ps(sums.low, _mm256_loadu_ps(values));
  sums.high = _mm256_add_ps(sums.high, _mm256_loadu_ps(values + 8));
  return sums;
}

TONEARM_INLINE float leaf_of(const uint8_t* leaves, size_t place) {
  float value;
  __builtin_memcpy(&value, leaves + 4 * place, 4);
  return value;
}

/// The leaves of four trees, put together in a register: a vector read back from what was just written in
/// parts would have to wait.
TONEARM_INLINE __m128 four_leaves(const uint8_t* leaves, size_t next, const uint8_t* leaf) {
  return _mm_set_ps(leaf_of(leaves, 3 * next + leaf[3]), leaf_of(leaves, 2 * next + leaf[2]),
                    leaf_of(leaves, next + leaf[1]), leaf_of(leaves, leaf[0]));
}

// Gathers are slow where AVX2 is the newest there is.
TONEARM_INLINE Sums add_floats(Sums sums, const uint8_t* leaves, uint32_t stride, const uint8_t* leaf) {
  const size_t four = 16 * (size_t)stride;
  const __m128 a = four_leaves(leaves, stride, leaf), b = four_leaves(leaves + four, stride, leaf + 4);
  const __m128 c = four_leaves(leaves + 2 * four, stride, leaf + 8);
  const __m128 d = four_leaves(leaves + 3 * four, stride, leaf + 12);
  sums.low = _mm256_add_ps(sums.low, _mm256_set_m128(b, a));
  sums.high = _mm256_add_ps(sums.high, _mm256_set_m128(d, c));
  return sums;
}

#include "trees.inc"
