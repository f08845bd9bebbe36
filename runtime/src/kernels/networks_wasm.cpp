// WebAssembly with 128-bit vectors; a module with these does not load where there are none.

#if defined(__wasm_simd128__)

#include <wasm_simd128.h>

#include "networks.h"

#define TONEARM_ISA wasm

typedef v128_t Floats, Ints, Shorts, Weights;
static const uint32_t lanes = 4, widest = 2, batch_tiles = 1, batch = 2;

// ------------------------------------------------------------------------------------------- float32

TONEARM_INLINE Floats zero_floats(void) { return wasm_f32x4_splat(0); }
TONEARM_INLINE Floats spread(float x) { return wasm_f32x4_splat(x); }
TONEARM_INLINE Floats load_floats(const float* from) { return wasm_v128_load(from); }
TONEARM_INLINE Floats load_part(const float* from, uint32_t count) {
  float part[lanes] = {0};
  for (uint32_t i = 0; i < count; ++i) part[i] = from[i];
  return load_floats(part);
}
TONEARM_INLINE void store_floats(float* to, Floats x) { wasm_v128_store(to, x); }
TONEARM_INLINE void store_part(float* to, Floats x, uint32_t count) {
  float part[lanes];
  store_floats(part, x);
  for (uint32_t i = 0; i < count; ++i) to[i] = part[i];
}
TONEARM_INLINE Floats add(Floats a, Floats b) { return wasm_f32x4_add(a, b); }
TONEARM_INLINE Floats subtract(Floats a, Floats b) { return wasm_f32x4_sub(a, b); }
TONEARM_INLINE Floats multiply(Floats a, Floats b) { return wasm_f32x4_mul(a, b); }
TONEARM_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return add(multiply(a, b), c); }
TONEARM_INLINE Floats divide(Floats a, Floats b) { return wasm_f32x4_div(a, b); }
TONEARM_INLINE Floats exact_divide(Floats a, Floats b) { return wasm_f32x4_div(a, b); }
TONEARM_INLINE Floats larger(Floats a, Floats b) { return wasm_f32x4_pmax(a, b); }
TONEARM_INLINE Floats smaller_float(Floats a, Floats b) { return wasm_f32x4_pmin(a, b); }

/// The exponent and the fraction, moved to where those of a float are; denormals are whole multiples of
/// 2^-24.
TONEARM_INLINE Floats load_halves(const uint8_t* from) {
  const v128_t half = wasm_u32x4_load16x4(from);
  const v128_t magnitude = wasm_v128_and(half, wasm_i32x4_splat(0x7fff));
  const v128_t sign = wasm_i32x4_shl(wasm_v128_xor(half, magnitude), 16);
  const v128_t normal = wasm_i32x4_add(wasm_i32x4_shl(magnitude, 13), wasm_i32x4_splat(0x38000000));
  const v128_t denormal = multiply(wasm_f32x4_convert_i32x4(magnitude), spread(5.9604644775390625e-8f));
  const v128_t is_normal = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x3ff));
  return wasm_v128_or(sign, wasm_v128_bitselect(normal, denormal, is_normal));
}

TONEARM_INLINE Floats negative_magnitude(Floats x) { return wasm_v128_or(x, spread(-0.0f)); }
/// A negative number (or 0) with the sign of x.
TONEARM_INLINE Floats with_sign_of(Floats x, Floats negative) {
  return wasm_v128_bitselect(x, negative, spread(-0.0f));
}
TONEARM_INLINE Floats where_negative(Floats x, Floats then, Floats otherwise) {
  return wasm_v128_bitselect(then, otherwise, wasm_f32x4_lt(x, zero_floats()));
}
TONEARM_INLINE Floats where_missing(Floats x, Floats otherwise) {
  return wasm_v128_bitselect(otherwise, x, wasm_f32x4_eq(x, x));
}
TONEARM_INLINE Ints to_ints(Floats x) { return wasm_i32x4_trunc_sat_f32x4(x); }
TONEARM_INLINE Floats to_floats(Ints x) { return wasm_f32x4_convert_i32x4(x); }
TONEARM_INLINE Floats power_of_two(Ints n) {
  return wasm_i32x4_shl(wasm_i32x4_add(n, wasm_i32x4_splat(127)), 23);
}

// --------------------------------------------------------------------------------------------- codes

TONEARM_INLINE Ints zero_ints(void) { return wasm_i32x4_splat(0); }
TONEARM_INLINE Ints load_ints(const int32_t* from) { return wasm_v128_load(from); }
TONEARM_INLINE void store_ints(int32_t* to, Ints x) { wasm_v128_store(to, x); }
TONEARM_INLINE Ints add_ints(Ints a, Ints b) { return wasm_i32x4_add(a, b); }

/// Codes 0 and 2 of the four, and 1 and 3, as int16.
typedef struct {
  v128_t even, odd;
} Fours;

/// The bytes as they are, 128 more than the codes.
TONEARM_INLINE Weights load_weights(const uint8_t* from) { return wasm_v128_load(from); }
TONEARM_INLINE Fours spread_fours(const int8_t* four) {
  const v128_t codes = wasm_v128_load32_splat(four);
  const Fours fours = {wasm_i16x8_shr(wasm_i16x8_shl(codes, 8), 8), wasm_i16x8_shr(codes, 8)};
  return fours;
}
TONEARM_INLINE Ints add_dots(Ints sums, Weights weights, Fours fours) {
  const v128_t even = wasm_i32x4_dot_i16x8(wasm_v128_and(weights, wasm_i16x8_splat(255)), fours.even);
  return add_ints(add_ints(sums, even), wasm_i32x4_dot_i16x8(wasm_u16x8_shr(weights, 8), fours.odd));
}
TONEARM_INLINE Ints excess_of(const int8_t* vector, uint32_t bytes) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < bytes; ++i) sum += vector[i];
  return wasm_i32x4_splat(-128 * sum);
}

TONEARM_INLINE Ints scaled(Ints sums, Ints multipliers, uint32_t shift) {
  const v128_t half = wasm_i64x2_splat((int64_t)1 << (shift - 1));
  const v128_t low = wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(sums, multipliers), half);
  const v128_t high = wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(sums, multipliers), half);
  return wasm_i32x4_shuffle(wasm_i64x2_shr(low, shift), wasm_i64x2_shr(high, shift), 0, 2, 4, 6);
}

TONEARM_INLINE Shorts pack(Ints a, Ints b) { return wasm_i16x8_narrow_i32x4(a, b); }
TONEARM_INLINE Ints low_half(Shorts x) { return wasm_i32x4_extend_low_i16x8(x); }
TONEARM_INLINE Ints high_half(Shorts x) { return wasm_i32x4_extend_high_i16x8(x); }

TONEARM_INLINE Shorts spread_shorts(int32_t x) { return wasm_i16x8_splat((int16_t)x); }
TONEARM_INLINE Shorts load_shorts(const int16_t* from, uint32_t count) {
  (void)count;
  return wasm_v128_load(from);
}
TONEARM_INLINE void store_shorts(int16_t* to, Shorts x, uint32_t count) {
  (void)count;
  wasm_v128_store(to, x);
}
TONEARM_INLINE void store_codes(int8_t* to, Shorts x, uint32_t count) {
  (void)count;
  wasm_v128_store64_lane(to, wasm_i8x16_narrow_i16x8(x, x), 0);
}
TONEARM_INLINE Shorts add_shorts(Shorts a, Shorts b) { return wasm_i16x8_add(a, b); }
TONEARM_INLINE Shorts subtract_shorts(Shorts a, Shorts b) { return wasm_i16x8_sub(a, b); }
TONEARM_INLINE Shorts add_limited(Shorts a, Shorts b) { return wasm_i16x8_add_sat(a, b); }
TONEARM_INLINE Shorts and_shorts(Shorts a, Shorts b) { return wasm_v128_and(a, b); }
TONEARM_INLINE Shorts shift_left(Shorts a, uint32_t bits) { return wasm_i16x8_shl(a, bits); }
TONEARM_INLINE Shorts shift_right(Shorts a, uint32_t bits) { return wasm_u16x8_shr(a, bits); }
TONEARM_INLINE Shorts high_product(Shorts a, Shorts b) { return wasm_i16x8_q15mulr_sat(a, b); }
TONEARM_INLINE Shorts magnitude_of(Shorts z) {
  return wasm_u16x8_min(wasm_i16x8_abs(z), wasm_i16x8_splat(32767));
}
/// 32768 - value where z is negative.
TONEARM_INLINE Shorts mirrored(Shorts z, Shorts value) {
  const v128_t rest = wasm_i16x8_sub(wasm_i16x8_splat(-32768), value);
  return wasm_v128_bitselect(rest, value, wasm_i16x8_shr(z, 15));
}

typedef struct {
  Shorts value[2], slope[2], curvature[2];
} Parts;

/// The bytes of numbers 0 to 15 and 16 to 31 of a row, the lower ones and the upper ones.
typedef struct {
  v128_t bytes[3][2][2];
} Table;

TONEARM_INLINE Table load_table(void) {
  Table table;
  for (uint32_t i = 0; i < 6; ++i) {
    const v128_t a = wasm_v128_load(tonearm_sigmoid_table + 16 * i);
    const v128_t b = wasm_v128_load(tonearm_sigmoid_table + 16 * i + 8);
    const v128_t low = wasm_i16x8_splat(255);
    table.bytes[i / 2][0][i % 2] = wasm_u8x16_narrow_i16x8(wasm_v128_and(a, low), wasm_v128_and(b, low));
    table.bytes[i / 2][1][i % 2] = wasm_u8x16_narrow_i16x8(wasm_u16x8_shr(a, 8), wasm_u16x8_shr(b, 8));
  }
  return table;
}

TONEARM_INLINE Parts sigmoid_parts(const Table* table, Shorts a, Shorts b) {
  // Numbers beyond 15 give 0.
  const v128_t low = wasm_u8x16_narrow_i16x8(a, b), high = wasm_i8x16_sub(low, wasm_i8x16_splat(16));
  Shorts rows[3][2];
  for (uint32_t i = 0; i < 3; ++i) {
    v128_t bytes[2];
    for (uint32_t upper = 0; upper < 2; ++upper)
      bytes[upper] = wasm_v128_or(wasm_i8x16_swizzle(table->bytes[i][upper][0], low),
                                  wasm_i8x16_swizzle(table->bytes[i][upper][1], high));
    rows[i][0] =
        wasm_i8x16_shuffle(bytes[0], bytes[1], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    rows[i][1] =
        wasm_i8x16_shuffle(bytes[0], bytes[1], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
  const Parts parts = {{rows[0][0], rows[0][1]}, {rows[1][0], rows[1][1]}, {rows[2][0], rows[2][1]}};
  return parts;
}

#include "networks.inc"

#endif
