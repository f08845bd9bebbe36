// 64-bit Arm with the dot product of bytes. Everything else is as good without it: see networks_neon.cpp.

#include <arm_neon.h>

#include "networks.h"

#define TONEARM_ISA neon_dot

typedef int32x4_t Ints;
typedef int8x16_t Weights, Fours;
static const uint32_t lanes = 4, widest = 4, batch_tiles = 2, batch = 2;

TONEARM_INLINE Ints zero_ints(void) { return vdupq_n_s32(0); }
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
TONEARM_INLINE Ints add_dots(Ints sums, Weights weights, Fours x) { return vdotq_s32(sums, weights, x); }
TONEARM_INLINE Ints excess_of(const int8_t* vector, uint32_t bytes) {
  (void)vector, (void)bytes;
  return vdupq_n_s32(0);
}

#include "codes.inc"
