// What the CPU can do. An object of its own: it is the only one that asks, and a library for one known device
// can leave it out by opening with a mask.

#include "cpu.h"

#include <tonearm/tonearm.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#if defined(__aarch64__) && defined(__linux__)
// Of the C library, where there is one: the kernel has told the program at its start what the CPU can do, and
// this reads it. User programs on Arm cannot ask the CPU itself.
extern "C" __attribute__((weak)) unsigned long getauxval(unsigned long type);
#endif

namespace tonearm::runtime {

#if (defined(__x86_64__) || defined(__i386__)) && defined(TONEARM_SIMD)

uint32_t detected_cpus() {
  uint32_t a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return 0;
  uint32_t found = (c & bit_SSSE3) != 0 ? TONEARM_CPU_SSSE3 : 0;
  if ((c & bit_OSXSAVE) == 0) return found;
  // Whether the operating system keeps the wider registers when it changes threads.
  uint32_t kept, unused;
  __asm__("xgetbv" : "=a"(kept), "=d"(unused) : "c"(0));
  const bool keeps_ymm = (kept & 0x06) == 0x06, keeps_zmm = (kept & 0xe6) == 0xe6;
  const bool popcnt = (c & bit_POPCNT) != 0, fused = (c & bit_FMA) != 0 && (c & bit_F16C) != 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
  if (keeps_ymm && popcnt && fused && (b & bit_AVX2) != 0) found |= TONEARM_CPU_AVX2;
  const uint32_t wide = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_BMI2;
  const uint32_t narrow = bit_AVX512VBMI | bit_AVX512VNNI;
  if (keeps_zmm && popcnt && (b & wide) == wide && (c & narrow) == narrow) found |= TONEARM_CPU_AVX512;
  return found;
}

#elif defined(__aarch64__) && defined(TONEARM_SIMD)

uint32_t detected_cpus() {
#if defined(__ARM_FEATURE_DOTPROD)
  return TONEARM_CPU_NEON | TONEARM_CPU_NEON_DOT;
#elif defined(__linux__)
  constexpr unsigned long capabilities = 16, dot_product = 1ul << 20;  // AT_HWCAP, HWCAP_ASIMDDP
  const bool found = getauxval != nullptr && (getauxval(capabilities) & dot_product) != 0;
  return found ? TONEARM_CPU_NEON | TONEARM_CPU_NEON_DOT : TONEARM_CPU_NEON;
#else
  return TONEARM_CPU_NEON;
#endif
}

#elif defined(__wasm_simd128__) && defined(TONEARM_SIMD)

uint32_t detected_cpus() { return TONEARM_CPU_WASM; }

#elif defined(__ARM_FEATURE_SIMD32) && defined(TONEARM_SIMD)

uint32_t detected_cpus() { return TONEARM_CPU_DSP; }

#else

uint32_t detected_cpus() { return 0; }

#endif

}  // namespace tonearm::runtime

extern "C" uint32_t tonearm_cpu_detect(void) noexcept { return tonearm::runtime::detected_cpus(); }
