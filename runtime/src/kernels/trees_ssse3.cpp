#include <tmmintrin.h>

#include "trees.h"

#define TONEARM_ISA ssse3

typedef __m128i Bytes;
enum { lanes = 16 };

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
  Bytes value =
      _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)from), _mm_adds_epu8(slice, _mm_set1_epi8(0x70)));
  for (uint32_t i = 1; i < groups; ++i) {
    // Slices of other groups end up with their top bit set, for which a shuffle gives 0.
    from += 16;
    slice = _mm_sub_epi8(slice, _mm_set1_epi8(16));
    value = _mm_or_si128(value, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)from),
                                                 _mm_adds_epu8(slice, _mm_set1_epi8(0x70))));
  }
  return value;
}

TONEARM_INLINE Bytes zero(void) { return _mm_setzero_si128(); }

TONEARM_INLINE Bytes load(const uint8_t* from) { return _mm_loadu_si128((const __m128i*)from); }

TONEARM_INLINE void store(uint8_t* to, Bytes bytes) { _mm_storeu_si128((__m128i*)to, bytes); }

/// All ones where value <= bin.
TONEARM_INLINE Bytes goes_left(Bytes value, Bytes bin) {
  return _mm_cmpeq_epi8(_mm_min_epu8(value, bin), value);
}

TONEARM_INLINE Bytes step_right(Bytes leaf, Bytes value, Bytes bin, Bytes first, Bytes left_leaves) {
  const Bytes moves = _mm_andnot_si128(goes_left(value, bin), _mm_cmpeq_epi8(leaf, first));
  return _mm_add_epi8(leaf, _mm_and_si128(moves, left_leaves));
}

TONEARM_INLINE Bytes set_right(Bytes leaf, Bytes value, Bytes bin, Bytes slice, uint32_t limit,
                               uint32_t bit) {
  Bytes stays = goes_left(value, bin);
  if (limit < 256)
    stays = _mm_or_si128(stays, _mm_cmpeq_epi8(_mm_max_epu8(slice, _mm_set1_epi8((char)limit)), slice));
  return _mm_or_si128(leaf, _mm_andnot_si128(stays, _mm_set1_epi8((char)bit)));
}

TONEARM_INLINE uint32_t all_below(const uint8_t* slices, uint32_t limit, uint32_t count) {
  (void)count;  // blocks are multiples of 16 trees wide
  if (limit >= 256) return 1;
  const Bytes slice = load(slices);
  return _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(slice, _mm_set1_epi8((char)limit)), slice)) == 0;
}

TONEARM_INLINE uint32_t below(const int32_t* keys, int32_t key) {
  const __m128i bound = _mm_set1_epi32(key);
  const __m128i* four = (const __m128i*)keys;
  const __m128i low = _mm_packs_epi32(_mm_cmplt_epi32(_mm_loadu_si128(four), bound),
                                      _mm_cmplt_epi32(_mm_loadu_si128(four + 1), bound));
  const __m128i high = _mm_packs_epi32(_mm_cmplt_epi32(_mm_loadu_si128(four + 2), bound),
                                       _mm_cmplt_epi32(_mm_loadu_si128(four + 3), bound));
  return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
}

// SSSE3 has no such instruction, and the compiler would call a function.
TONEARM_INLINE uint32_t count_bits(uint32_t bits) {
  bits -= bits >> 1 & 0x5555;
  bits = (bits & 0x3333) + (bits >> 2 & 0x3333);
  bits = (bits + (bits >> 4)) & 0x0f0f;
  return (bits + (bits >> 8)) & 0x1f;
}

typedef struct {
  __m128 four[4];
} Sums;

TONEARM_INLINE Sums load_sums(const float* from) {
  Sums sums;
  for (uint32_t i = 0; i < 4; ++i) sums.four[i] = _mm_loadu_ps(from + 4 * i);
  return sums;
}
TONEARM_INLINE void store_sums(float* to, Sums sums) {
  for (uint32_t i = 0; i < 4; ++i) _mm_storeu_ps(to + 4 * i, sums.four[i]);
}
TONEARM_INLINE Sums add_values(Sums sums, const float* values) {
  for (uint32_t i = 0; i < 4; ++i) sums.four[i] = _mm_add_ps(sums.four[i], _mm_loadu_ps(values + 4 * i));
  return sums;
}

TONEARM_INLINE float leaf_of(const uint8_t* leaves, size_t place) {
  float value;
  __builtin_memcpy(&value, leaves + 4 * place, 4);
  return value;
}

TONEARM_INLINE Sums add_floats(Sums sums, const uint8_t* leaves, uint32_t stride, const uint8_t* leaf) {
  const size_t next = stride;
  for (uint32_t i = 0; i < 4; ++i, leaf += 4, leaves += 16 * next) {
    // Put together in a register: a vector read back from what was just written in parts would have to wait.
    const __m128 values = _mm_set_ps(leaf_of(leaves, 3 * next + leaf[3]), leaf_of(leaves, 2 * next + leaf[2]),
                                     leaf_of(leaves, next + leaf[1]), leaf_of(leaves, leaf[0]));
    sums.four[i] = _mm_add_ps(sums.four[i], values);
  }
  return sums;
}

#include "trees.inc"
