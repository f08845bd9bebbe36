// WebAssembly with 128-bit vectors; a module with these does not load where there are none.

#if defined(__wasm_simd128__)

#include <wasm_simd128.h>

#include "trees.h"

#define TONEARM_ISA wasm

typedef v128_t Bytes;
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
  Bytes value = wasm_i8x16_swizzle(wasm_v128_load(from), slice);
  for (uint32_t i = 1; i < groups; ++i) {
    // Slices of other groups are beyond 15, for which there is 0.
    from += 16;
    slice = wasm_i8x16_sub(slice, wasm_i8x16_splat(16));
    value = wasm_v128_or(value, wasm_i8x16_swizzle(wasm_v128_load(from), slice));
  }
  return value;
}

TONEARM_INLINE Bytes zero(void) { return wasm_i32x4_splat(0); }

TONEARM_INLINE Bytes load(const uint8_t* from) { return wasm_v128_load(from); }

TONEARM_INLINE void store(uint8_t* to, Bytes bytes) { wasm_v128_store(to, bytes); }

TONEARM_INLINE Bytes step_right(Bytes leaf, Bytes value, Bytes bin, Bytes first, Bytes left_leaves) {
  const Bytes moves = wasm_v128_and(wasm_u8x16_gt(value, bin), wasm_i8x16_eq(leaf, first));
  return wasm_i8x16_add(leaf, wasm_v128_and(moves, left_leaves));
}

TONEARM_INLINE Bytes set_right(Bytes leaf, Bytes value, Bytes bin, Bytes slice, uint32_t limit,
                               uint32_t bit) {
  Bytes right = wasm_u8x16_gt(value, bin);
  if (limit < 256) right = wasm_v128_and(right, wasm_u8x16_lt(slice, wasm_u8x16_splat((uint8_t)limit)));
  return wasm_v128_or(leaf, wasm_v128_and(right, wasm_u8x16_splat((uint8_t)bit)));
}

TONEARM_INLINE uint32_t all_below(const uint8_t* slices, uint32_t limit, uint32_t count) {
  (void)count;  // blocks are multiples of 16 trees wide
  if (limit >= 256) return 1;
  return wasm_i8x16_all_true(wasm_u8x16_lt(load(slices), wasm_u8x16_splat((uint8_t)limit)));
}

TONEARM_INLINE uint32_t below(const int32_t* keys, int32_t key) {
  const v128_t bound = wasm_i32x4_splat(key);
  const v128_t low = wasm_i16x8_narrow_i32x4(wasm_i32x4_lt(wasm_v128_load(keys), bound),
                                             wasm_i32x4_lt(wasm_v128_load(keys + 4), bound));
  const v128_t high = wasm_i16x8_narrow_i32x4(wasm_i32x4_lt(wasm_v128_load(keys + 8), bound),
                                              wasm_i32x4_lt(wasm_v128_load(keys + 12), bound));
  return wasm_i8x16_bitmask(wasm_i8x16_narrow_i16x8(low, high));
}

TONEARM_INLINE uint32_t count_bits(uint32_t bits) { return (uint32_t)__builtin_popcount(bits); }

typedef struct {
  v128_t four[4];
} Sums;

TONEARM_INLINE Sums load_sums(const float* from) {
  Sums sums;
  for (uint32_t i = 0; i < 4; ++i) sums.four[i] = wasm_v128_load(from + 4 * i);
  return sums;
}
TONEARM_INLINE void store_sums(float* to, Sums sums) {
  for (uint32_t i = 0; i < 4; ++i) wasm_v128_store(to + 4 * i, sums.four[i]);
}
TONEARM_INLINE Sums add_values(Sums sums, const float* values) {
  for (uint32_t i = 0; i < 4; ++i)
    sums.four[i] = wasm_f32x4_add(sums.four[i], wasm_v128_load(values + 4 * i));
  return sums;
}

TONEARM_INLINE Sums add_floats(Sums sums, const uint8_t* leaves, uint32_t stride, const uint8_t* leaf) {
  const size_t next = stride;
  for (uint32_t i = 0; i < 4; ++i, leaf += 4, leaves += 16 * next) {
    v128_t values = wasm_v128_load32_zero(leaves + 4 * (size_t)leaf[0]);
    values = wasm_v128_load32_lane(leaves + 4 * (next + leaf[1]), values, 1);
    values = wasm_v128_load32_lane(leaves + 4 * (2 * next + leaf[2]), values, 2);
    values = wasm_v128_load32_lane(leaves + 4 * (3 * next + leaf[3]), values, 3);
    sums.four[i] = wasm_f32x4_add(sums.four[i], values);
  }
  return sums;
}

#include "trees.inc"

#endif
