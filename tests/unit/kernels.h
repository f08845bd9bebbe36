#pragma once

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <cfenv>
#include <cstdint>
#include <span>
#include <vector>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace tonearm {

/// TONEARM_CPU_SCALAR, the reference, and the bits of what else this CPU has kernels for.
inline std::vector<std::uint32_t> all_cpus() {
  std::vector<std::uint32_t> cpus = {TONEARM_CPU_SCALAR};
  for (std::uint32_t bit = TONEARM_CPU_SSSE3; bit <= TONEARM_CPU_DSP; bit *= 2)
    if ((tonearm_cpu_detect() & bit) != 0) cpus.push_back(bit);
  return cpus;
}

inline tonearm_model opened_with(std::span<const unsigned char> blob, std::uint32_t cpu) {
  const tonearm_open_options options = {sizeof options, 0, cpu, 0};
  tonearm_model model{};
  EXPECT_EQ(tonearm_model_open(&model, blob.data(), blob.size(), &options, nullptr), TONEARM_OK);
  return model;
}

/// The blob once for each of all_cpus(), in their order.
inline std::vector<tonearm_model> opened_with_every_kernel(std::span<const unsigned char> blob) {
  std::vector<tonearm_model> models;
  for (const std::uint32_t cpu : all_cpus()) models.push_back(opened_with(blob, cpu));
  return models;
}

/// Puts the calling thread into a mode that an audio callback may be in, and back.
class FloatMode {
 public:
  FloatMode(int rounding, bool flush) : rounding_(std::fegetround()) {
    std::fesetround(rounding);
#if defined(__SSE2__)
    flags_ = _mm_getcsr();
    if (flush) _mm_setcsr(flags_ | 0x8040);  // flush to zero, denormals are zero
#else
    (void)flush;
#endif
  }
  ~FloatMode() {
#if defined(__SSE2__)
    _mm_setcsr(flags_);
#endif
    std::fesetround(rounding_);
  }
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
  int rounding_;
  unsigned flags_ = 0;
};

inline constexpr int roundings[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

}  // namespace tonearm
