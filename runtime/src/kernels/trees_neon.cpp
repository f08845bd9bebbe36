// 64-bit Arm, where every CPU has it.

#include <arm_neon.h>

#include "trees.h"

#define TONEARM_ISA neon

typedef uint8x16_t Bytes;
enum { lanes = 16 };

typedef struct {
  const uint8_t* slices;
  uint8x16x4_t first;  // 64 bytes
  uint32_t groups;     // of 64
} Tables;

TONEARM_INLINE Tables load_tables(const uint8_t* slices, uint32_t count) {
  Tables tables;
  tables.slices = slices;
  tables.first = vld1q_u8_x4(slices);
  tables.groups = (count + 63) / 64;
  return tables;
}

TONEARM_INLINE Bytes look_up(const Tables* tables, uint32_t groups, Bytes slice) {
  Bytes value = vqtbl4q_u8(tables->first, slice);
  for (uint32_t i = 1; i < groups; ++i) {
    // Slices of other groups lie outside the table, and keep what was found.
    slice = vsubq_u8(slice, vdupq_n_u8(64));
    value = vqtbx4q_u8(value, vld1q_u8_x4(tables->slices + 64 * i), slice);
  }
  return value;
}

TONEARM_INLINE Bytes zero(void) { return vdupq_n_u8(0); }

TONEARM_INLINE Bytes load(const uint8_t* from) { return vld1q_u8(from); }

TONEARM_INLINE void store(uint8_t* to, Bytes bytes) { vst1q_u8(to, bytes); }

TONEARM_INLINE Bytes step_right(Bytes leaf, Bytes value, Bytes bin, Bytes first, Bytes left_leaves) {
  const Bytes moves = vandq_u8(vcgtq_u8(value, bin), vceqq_u8(leaf, first));
  return vaddq_u8(leaf, vandq_u8(moves, left_leaves));
}

TONEARM_INLINE Bytes set_right(Bytes leaf, Bytes value, Bytes bin, Bytes slice, uint32_t limit,
                               uint32_t bit) {
  Bytes right = vcgtq_u8(value, bin);
  if (limit < 256) right = vandq_u8(right, vcltq_u8(slice, vdupq_n_u8((uint8_t)limit)));
  return vorrq_u8(leaf, vandq_u8(right, vdupq_n_u8((uint8_t)bit)));
}

TONEARM_INLINE uint32_t all_below(const uint8_t* slices, uint32_t limit, uint32_t count) {
  (void)count;
  return vmaxvq_u8(vld1q_u8(slices)) < limit;
}

TONEARM_INLINE uint32_t below(const int32_t* keys, int32_t key) {
  static const uint16_t bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const int32x4_t bound = vdupq_n_s32(key);
  const uint16x8_t weights = vld1q_u16(bits);
  const uint16x8_t low = vcombine_u16(vmovn_u32(vcltq_s32(vld1q_s32(keys), bound)),
                                      vmovn_u32(vcltq_s32(vld1q_s32(keys + 4), bound)));
  const uint16x8_t high = vcombine_u16(vmovn_u32(vcltq_s32(vld1q_s32(keys + 8), bound)),
                                       vmovn_u32(vcltq_s32(vld1q_s32(keys + 12), bound)));
  return (uint32_t)vaddvq_u16(vandq_u16(low, weights)) | (uint32_t)vaddvq_u16(vandq_u16(high, weights)) << 8;
}

TONEARM_INLINE uint32_t count_bits(uint32_t bits) { return (uint32_t)__builtin_popcount(bits); }

typedef struct {
  float32x4_t four[4];
} Sums;

TONEARM_INLINE Sums load_sums(const float* from) {
  Sums sums;
  for (uint32_t i = 0; i < 4; ++i) sums.four[i] = vld1q_f32(from + 4 * i);
  return sums;
}
TONEARM_INLINE void store_sums(float* to, Sums sums) {
  for (uint32_t i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, sums.four[i]);
}
TONEARM_INLINE Sums add_values(Sums sums, const float* values) {
  for (uint32_t i = 0; i < 4; ++i) sums.four[i] = vaddq_f32(sums.four[i], vld1q_f32(values + 4 * i));
  return sums;
}

TONEARM_INLINE Sums add_floats(Sums sums, const uint8_t* leaves, uint32_t stride, const uint8_t* leaf) {
  const size_t next = stride;
  for (uint32_t i = 0; i < 4; ++i, leaf += 4, leaves += 16 * next) {
    float32x4_t values = vdupq_n_f32(0);
    values = vld1q_lane_f32((const float*)(leaves + 4 * (size_t)leaf[0]), values, 0);
    values = vld1q_lane_f32((const float*)(leaves + 4 * (next + leaf[1])), values, 1);
    values = vld1q_lane_f32((const float*)(leaves + 4 * (2 * next + leaf[2])), values, 2);
    values = vld1q_lane_f32((const float*)(leaves + 4 * (3 * next + leaf[3])), values, 3);
    sums.four[i] = vaddq_f32(sums.four[i], values);
  }
  return sums;
}

#include "trees.inc"
