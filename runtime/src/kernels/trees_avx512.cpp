// Needs AVX-512 F, BW, VL and VBMI.

#include <immintrin.h>

#include "trees.h"

#define TONEARM_ISA avx512

typedef __m512i Bytes;
enum { lanes = 64 };

typedef struct {
  __m512i table[4];
  uint32_t groups;  // of 64
} Tables;

TONEARM_INLINE Tables load_tables(const uint8_t* slices, uint32_t count) {
  Tables tables;
  tables.groups = (count + 63) / 64;
  for (uint32_t i = 0; i < 4; ++i)
    tables.table[i] = i < tables.groups ? _mm512_loadu_si512(slices + 64 * i) : _mm512_setzero_si512();
  return tables;
}

TONEARM_INLINE Bytes look_up(const Tables* tables, uint32_t groups, Bytes slice) {
  if (groups == 1) return _mm512_permutexvar_epi8(slice, tables->table[0]);
  const __m512i low = _mm512_permutex2var_epi8(tables->table[0], slice, tables->table[1]);
  if (groups == 2) return low;
  const __m512i high = _mm512_permutex2var_epi8(tables->table[2], slice, tables->table[3]);
  return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(slice), high);
}

TONEARM_INLINE Bytes zero(void) { return _mm512_setzero_si512(); }

TONEARM_INLINE Bytes load(const uint8_t* from) { return _mm512_loadu_si512(from); }
TONEARM_INLINE void store(uint8_t* to, Bytes bytes) { _mm512_storeu_si512(to, bytes); }

TONEARM_INLINE Bytes step_right(Bytes leaf, Bytes value, Bytes bin, Bytes first, Bytes left_leaves) {
  const __mmask64 right = _mm512_cmpgt_epu8_mask(value, bin);
  return _mm512_mask_add_epi8(leaf, _mm512_mask_cmpeq_epi8_mask(right, leaf, first), leaf, left_leaves);
}

TONEARM_INLINE Bytes set_right(Bytes leaf, Bytes value, Bytes bin, Bytes slice, uint32_t limit,
                               uint32_t bit) {
  __mmask64 right = _mm512_cmpgt_epu8_mask(value, bin);
  if (limit < 256) right = _mm512_mask_cmplt_epu8_mask(right, slice, _mm512_set1_epi8((char)limit));
  return _mm512_or_si512(leaf, _mm512_maskz_mov_epi8(right, _mm512_set1_epi8((char)bit)));
}

TONEARM_INLINE uint32_t all_below(const uint8_t* slices, uint32_t limit, uint32_t count) {
  if (limit >= 256) return 1;
  return _mm512_mask_cmpge_epu8_mask(~0ull >> (64 - count), load(slices), _mm512_set1_epi8((char)limit)) == 0;
}

TONEARM_INLINE uint32_t below(const int32_t* keys, int32_t key) {
  return _mm512_cmplt_epi32_mask(_mm512_loadu_si512(keys), _mm512_set1_epi32(key));
}

TONEARM_INLINE uint32_t count_bits(uint32_t bits) { return (uint32_t)__builtin_popcount(bits); }

typedef __m512 Sums;

TONEARM_INLINE Sums load_sums(const float* from) { return _mm512_loadu_ps(from); }
TONEARM_INLINE void store_sums(float* to, Sums sums) { _mm512_storeu_ps(to, sums); }
TONEARM_INLINE Sums add_values(Sums sums, const float* values) {
  return _mm512_add_ps(sums, _mm512_loadu_ps(values));
}

TONEARM_INLINE Sums add_floats(Sums sums, const uint8_t* leaves, uint32_t stride, const uint8_t* leaf) {
  const __m512i tree = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i place = _mm512_add_epi32(_mm512_mullo_epi32(tree, _mm512_set1_epi32((int)stride)),
                                         _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)leaf)));
  return _mm512_add_ps(sums, _mm512_i32gather_ps(place, leaves, 4));
}

#include "trees.inc"
