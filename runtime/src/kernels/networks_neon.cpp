// 64-bit Arm, where every CPU has it.

#include <arm_neon.h>

#include "networks.h"

#define TONEARM_ISA neon

typedef float32x4_t Floats;
typedef int32x4_t Ints;
typedef int16x8_t Shorts;
typedef int8x16_t Weights, Fours;
static const uint32_t lanes = 4, widest = 4, batch_tiles = 2, batch = 2;

// ------------------------------------------------------------------------------------------- float32

TONEARM_INLINE Floats zero_floats(void) { return vdupq_n_f32(0); }
TONEARM_INLINE Floats spread(float x) { return vdupq_n_f32(x); }
TONEARM_INLINE Floats load_floats(const float* from) { return vld1q_f32(from); }
TONEARM_INLINE Floats load_part(const float* from, uint32_t count) {
  float part[lanes] = {0};
  for (uint32_t i = 0; i < count; ++i) part[i] = from[i];
  return load_floats(part);
}
TONEARM_INLINE void store_floats(float* to, Floats x) { vst1q_f32(to, x); }
TONEARM_INLINE void store_part(float* to, Floats x, uint32_t count) {
  float part[lanes];
  store_floats(part, x);
  for (uint32_t i = 0; i < count; ++i) to[i] = part[i];
}
TONEARM_INLINE Floats load_halves(const uint8_t* from) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from)));
}
TONEARM_INLINE Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
TONEARM_INLINE Floats subtract(Floats a, Floats b) { return vsubq_f32(a, b); }
TONEARM_INLINE Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
TONEARM_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
TONEARM_INLINE Floats divide(Floats a, Floats b) { return vdivq_f32(a, b); }
TONEARM_INLINE Floats exact_divide(Floats a, Floats b) { return vdivq_f32(a, b); }
TONEARM_INLINE Floats larger(Floats a, Floats b) { return vmaxq_f32(a, b); }
TONEARM_INLINE Floats smaller_float(Floats a, Floats b) { return vminq_f32(a, b); }

TONEARM_INLINE Floats negative_magnitude(Floats x) { return vnegq_f32(vabsq_f32(x)); }
/// A negative number (or 0) with the sign of x.
TONEARM_INLINE Floats with_sign_of(Floats x, Floats negative) {
  return vbslq_f32(vdupq_n_u32(0x80000000u), x, negative);
}
TONEARM_INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  return vbslq_f32(vcltzq_f32(x), then, otherwise);
}
TONEARM_INLINE Floats where_missing(Floats x, Floats otherwise) {
  return vbslq_f32(vceqq_f32(x, x), otherwise, x);
}
TONEARM_INLINE Ints to_ints(Floats x) { return vcvtq_s32_f32(x); }
TONEARM_INLINE Floats to_floats(Ints x) { return vcvtq_f32_s32(x); }
TONEARM_INLINE Floats power_of_two(Ints n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

// --------------------------------------------------------------------------------------------- codes

TONEARM_INLINE Ints zero_ints(void) { return vdupq_n_s32(0); }
TONEARM_INLINE Ints load_ints(const int32_t* from) { return vld1q_s32(from); }
TONEARM_INLINE void store_ints(int32_t* to, Ints x) { vst1q_s32(to, x); }
TONEARM_INLINE Ints add_ints(Ints a, Ints b) { return vaddq_s32(a, b); }

TONEARM_INLINE Weights load_weights(const uint8_t* from) {
  return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(128)));
}
TONEARM_INLINE Fours spread_fours(const int8_t* four) {
  int32_t bits;
  __builtin_memcpy(&bits, four, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}
/// Neither operand is beyond 127 (x only where the weight is 0), so that pairs of products fit.
TONEARM_INLINE Ints add_dots(Ints sums, Weights weights, Fours x) {
  const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
  return vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(weights, x)));
}
TONEARM_INLINE Ints excess_of(const int8_t* vector, uint32_t bytes) {
  (void)vector, (void)bytes;
  return vdupq_n_s32(0);
}

TONEARM_INLINE Ints scaled(Ints sums, Ints multipliers, uint32_t shift) {
  const int64x2_t right = vdupq_n_s64(-(int64_t)shift);
  const int64x2_t low = vrshlq_s64(vmull_s32(vget_low_s32(sums), vget_low_s32(multipliers)), right);
  const int64x2_t high = vrshlq_s64(vmull_high_s32(sums, multipliers), right);
  return vcombine_s32(vmovn_s64(low), vmovn_s64(high));
}

TONEARM_INLINE Shorts pack(Ints a, Ints b) { return vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)); }
TONEARM_INLINE Ints low_half(Shorts x) { return vmovl_s16(vget_low_s16(x)); }
TONEARM_INLINE Ints high_half(Shorts x) { return vmovl_high_s16(x); }

TONEARM_INLINE Shorts spread_shorts(int32_t x) { return vdupq_n_s16((int16_t)x); }
TONEARM_INLINE Shorts load_shorts(const int16_t* from, uint32_t count) {
  (void)count;
  return vld1q_s16(from);
}
TONEARM_INLINE void store_shorts(int16_t* to, Shorts x, uint32_t count) {
  (void)count;
  vst1q_s16(to, x);
}
TONEARM_INLINE void store_codes(int8_t* to, Shorts x, uint32_t count) {
  (void)count;
  vst1_s8(to, vmovn_s16(x));
}
TONEARM_INLINE Shorts add_shorts(Shorts a, Shorts b) { return vaddq_s16(a, b); }
TONEARM_INLINE Shorts subtract_shorts(Shorts a, Shorts b) { return vsubq_s16(a, b); }
TONEARM_INLINE Shorts add_limited(Shorts a, Shorts b) { return vqaddq_s16(a, b); }
TONEARM_INLINE Shorts and_shorts(Shorts a, Shorts b) { return vandq_s16(a, b); }
TONEARM_INLINE Shorts shift_left(Shorts a, int bits) { return vshlq_s16(a, vdupq_n_s16((int16_t)bits)); }
TONEARM_INLINE Shorts shift_right(Shorts a, int bits) { return vshlq_s16(a, vdupq_n_s16((int16_t)-bits)); }
TONEARM_INLINE Shorts high_product(Shorts a, Shorts b) { return vqrdmulhq_s16(a, b); }
TONEARM_INLINE Shorts magnitude_of(Shorts z) { return vqabsq_s16(z); }
/// 32768 - value where z is negative.
TONEARM_INLINE Shorts mirrored(Shorts z, Shorts value) {
  return vbslq_s16(vcltzq_s16(z), vsubq_s16(vdupq_n_s16(INT16_MIN), value), value);
}

typedef struct {
  Shorts value[2], slope[2], curvature[2];
} Parts;

/// Of each row, the lower and the upper bytes.
typedef struct {
  uint8x16x2_t bytes[3][2];
} Table;

TONEARM_INLINE Table load_table(void) {
  Table table;
  for (uint32_t i = 0; i < 3; ++i) {
    const uint8_t* row = (const uint8_t*)(tonearm_sigmoid_table + 32 * i);
    const uint8x16x2_t first = vld2q_u8(row), second = vld2q_u8(row + 32);
    for (uint32_t upper = 0; upper < 2; ++upper) {
      table.bytes[i][upper].val[0] = first.val[upper];
      table.bytes[i][upper].val[1] = second.val[upper];
    }
  }
  return table;
}

TONEARM_INLINE Parts sigmoid_parts(const Table* table, Shorts a, Shorts b) {
  const uint8x16_t part =
      vcombine_u8(vmovn_u16(vreinterpretq_u16_s16(a)), vmovn_u16(vreinterpretq_u16_s16(b)));
  Shorts rows[3][2];
  for (uint32_t i = 0; i < 3; ++i) {
    const uint8x16_t lower = vqtbl2q_u8(table->bytes[i][0], part);
    const uint8x16_t upper = vqtbl2q_u8(table->bytes[i][1], part);
    rows[i][0] = vreinterpretq_s16_u8(vzip1q_u8(lower, upper));
    rows[i][1] = vreinterpretq_s16_u8(vzip2q_u8(lower, upper));
  }
  const Parts parts = {{rows[0][0], rows[0][1]}, {rows[1][0], rows[1][1]}, {rows[2][0], rows[2][1]}};
  return parts;
}

// ------------------------------------------------------------------------------------------ encoding

#define TONEARM_ENCODES

/// In doubles, products of float32s are exact; halves are rounded away from 0 whatever the mode. Where
/// denormals are flushed, nothing is lost: factors are at most 1e30.
TONEARM_INLINE int32x2_t encode_two(float64x2_t magnitude, float64x2_t factor) {
  const float64x2_t product = vminq_f64(vmulq_f64(magnitude, factor), vdupq_n_f64(127));
  return vmovn_s64(vcvtaq_s64_f64(product));
}

TONEARM_INLINE int32x4_t encode_four(const float* numbers, const float* factors) {
  const float32x4_t x = vld1q_f32(numbers), factor = vld1q_f32(factors), magnitude = vabsq_f32(x);
  const int32x4_t code =
      vcombine_s32(encode_two(vcvt_f64_f32(vget_low_f32(magnitude)), vcvt_f64_f32(vget_low_f32(factor))),
                   encode_two(vcvt_high_f64_f32(magnitude), vcvt_high_f64_f32(factor)));
  const uint32x4_t finite = vcltq_f32(magnitude, vdupq_n_f32(__builtin_inff()));
  return vandq_s32(vbslq_s32(vcltzq_f32(x), vnegq_s32(code), code), vreinterpretq_s32_u32(finite));
}

TONEARM_INLINE void encode_tile(const float* numbers, const float* factors, int8_t* codes) {
  for (uint32_t i = 0; i < 16; i += 8)
    store_codes(codes + i,
                pack(encode_four(numbers + i, factors + i), encode_four(numbers + i + 4, factors + i + 4)),
                8);
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
  float32x4_t four[4];
} DenseSums;
static const uint32_t dense_rows = 4;

TONEARM_INLINE DenseSums load_sixteen(const float* from) {
  DenseSums x;
  for (uint32_t i = 0; i < 4; ++i) x.four[i] = vld1q_f32(from + 4 * i);
  return x;
}
TONEARM_INLINE DenseSums no_sums(void) {
  DenseSums sums;
  for (uint32_t i = 0; i < 4; ++i) sums.four[i] = vdupq_n_f32(0);
  return sums;
}
TONEARM_INLINE DenseSums add_products(DenseSums sums, DenseSums weights, DenseSums x) {
  for (uint32_t i = 0; i < 4; ++i)
    sums.four[i] = vaddq_f32(sums.four[i], vmulq_f32(weights.four[i], x.four[i]));
  return sums;
}
TONEARM_INLINE DenseSums add_sixteen(DenseSums sums, const float* weights, DenseSums x) {
  return add_products(sums, load_sixteen(weights), x);
}
TONEARM_INLINE DenseSums load_some(const float* from, uint32_t count) {
  float some[16] = {0};
  for (uint32_t i = 0; i < count; ++i) some[i] = from[i];
  return load_sixteen(some);
}
TONEARM_INLINE DenseSums add_some(DenseSums sums, const float* weights, DenseSums x, uint32_t count) {
  return add_products(sums, load_some(weights, count), x);
}

TONEARM_INLINE void reduce_rows(const DenseSums* rows, float* sums) {
  float32x4_t row[4], two[2];
  for (uint32_t r = 0; r < 4; ++r) {  // lanes i + 8, then i + 4
    const float32x4_t* four = rows[r].four;
    row[r] = vaddq_f32(vaddq_f32(four[0], four[2]), vaddq_f32(four[1], four[3]));
  }
  for (uint32_t i = 0; i < 2; ++i)  // of two rows, lanes i + 2
    two[i] = vaddq_f32(vcombine_f32(vget_low_f32(row[2 * i]), vget_low_f32(row[2 * i + 1])),
                       vcombine_f32(vget_high_f32(row[2 * i]), vget_high_f32(row[2 * i + 1])));
  vst1q_f32(sums, vpaddq_f32(two[0], two[1]));
}

#include "networks.inc"
