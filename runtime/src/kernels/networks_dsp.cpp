// 32-bit Arm with the DSP extension: Cortex-M4 and later, and application cores.

#include "networks.h"

#if defined(__ARM_FEATURE_SIMD32)

// clang-format off
#if defined(__thumb2__)
#define TONEARM_LOAD_TWO(at) "ldrd %[one], %[two], [%[weights], #" at "];"
#else  // where a pair would have to be of neighbouring registers
#define TONEARM_LOAD_TWO(at) "ldr %[one], [%[weights], #" at "]; ldr %[two], [%[weights], #4 + " at "];"
#endif
/// A row's four weights times four codes, of which `even` and `odd` have two each as halves.
#define TONEARM_ADD_ROW(weights, sum)                                 \
  "uxtb16 %[pair], " weights ";"                                      \
  "uxtb16 " weights ", " weights ", ror #8;"                          \
  "smlad " sum ", %[pair], %[even], " sum ";"                         \
  "smlad " sum ", " weights ", %[odd], " sum ";"
// clang-format on

/// The products of four rows with a vector of whole fours, the bytes of the weights as they are, each added
/// to `start`. In assembly because it takes nearly all registers there are: compilers keep sums in memory.
TONEARM_INLINE void multiply_rows(const uint8_t* weights, uint32_t distance, const int8_t* vector,
                                  const int8_t* end, int32_t start, int32_t* sums) {
  int32_t sum0 = start, sum1 = start, sum2 = start, sum3 = start;
  uint32_t one, two, pair, even, odd;
  // clang-format off
  __asm__(
      "1:"
      "ldr %[odd], [%[vector]], #4;"
      "sxtb16 %[even], %[odd];"
      "sxtb16 %[odd], %[odd], ror #8;"
      TONEARM_LOAD_TWO("0")
      TONEARM_ADD_ROW("%[one]", "%[sum0]")
      TONEARM_ADD_ROW("%[two]", "%[sum1]")
      TONEARM_LOAD_TWO("8")
      TONEARM_ADD_ROW("%[one]", "%[sum2]")
      TONEARM_ADD_ROW("%[two]", "%[sum3]")
      "add %[weights], %[weights], %[distance];"
      "cmp %[vector], %[end];"
      "bne 1b"
      : [sum0] "+&r"(sum0), [sum1] "+&r"(sum1), [sum2] "+&r"(sum2), [sum3] "+&r"(sum3),
        [vector] "+&r"(vector), [weights] "+&r"(weights), [one] "=&r"(one), [two] "=&r"(two),
        [pair] "=&r"(pair), [even] "=&r"(even), [odd] "=&r"(odd)
      : [distance] "r"(distance), [end] "r"(end)
      : "cc", "memory");
  // clang-format on
  sums[0] = sum0;
  sums[1] = sum1;
  sums[2] = sum2;
  sums[3] = sum3;
}

TONEARM_INLINE int32_t sum_of(const int8_t* codes, uint32_t count) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) sum += codes[i];
  return sum;
}

/// What the weights' bytes have too much, 128 each, is taken off first; sums may wrap around in between.
void tonearm_multiply_codes_dsp(const struct tonearm_matrix* matrix, const int8_t* vectors, uint32_t stride,
                                uint32_t count, int32_t* sums) {
  const uint32_t distance = matrix->gates * 64, columns = matrix->columns;
  for (uint32_t n = 0; n < count; ++n, vectors += stride) {
    const int32_t start = -128 * sum_of(vectors, 4 * columns);
    const uint8_t* panel = matrix->weights;
    for (uint32_t p = 0; p < matrix->panels; ++p, panel += (size_t)columns * distance)
      for (uint32_t row = 0; row < distance; row += 16, sums += 4)
        multiply_rows(panel + row, distance, vectors, vectors + 4 * (size_t)columns, start, sums);
  }
}

#endif
