#include "train/dense.h"

namespace tonearm {

#if defined(TONEARM_DENSE_LEVELS)

extern const Dense dense_v2, dense_v3, dense_v4;

const Dense* dense_level(int level) {
  switch (level) {
    case 2:  // every x86-64 processor since 2009
      return &dense_v2;
    case 3:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")
                 ? &dense_v3
                 : nullptr;
    case 4:
      return dense_level(3) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vl")
                 ? &dense_v4
                 : nullptr;
    default:
      return nullptr;
  }
}

const Dense& dense() {
  static const Dense* const best = dense_level(4)   ? dense_level(4)
                                   : dense_level(3) ? dense_level(3)
                                                    : &dense_v2;
  return *best;
}

#else

extern const Dense dense_plain;

const Dense* dense_level(int) { return nullptr; }

const Dense& dense() { return dense_plain; }

#endif

}  // namespace tonearm
