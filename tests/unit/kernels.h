#pragma once

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <cstdint>
#include <span>
#include <vector>

namespace tonearm {

/// TONEARM_CPU_SCALAR, the reference, and the bits of what else this CPU has kernels for.
inline std::vector<std::uint32_t> all_cpus() {
  std::vector<std::uint32_t> cpus = {TONEARM_CPU_SCALAR};
  for (std::uint32_t bit = TONEARM_CPU_SSSE3; bit <= TONEARM_CPU_NEON; bit *= 2)
    if ((tonearm_cpu_detect() & bit) != 0) cpus.push_back(bit);
  return cpus;
}

inline tonearm_model opened_with(std::span<const unsigned char> blob, std::uint32_t cpu) {
  const tonearm_open_options options = {sizeof options, 0, cpu};
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

}  // namespace tonearm
