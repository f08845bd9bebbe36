#pragma once

#include <cstdint>

namespace tonearm {

/// A small, fast, reproducible random number generator: xoshiro256** (Blackman, Vigna 2018), seeded by
/// SplitMix64. The standard library's distributions differ between implementations; these do not.
class Random {
 public:
  /// Generators with the same seed and different streams are independent: one stream per tree, per epoch.
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0);

  std::uint64_t next();
  /// Uniform in [0, 1), with 53 bits.
  double uniform();
  /// Uniform in [0, bound), without bias (Lemire 2019). bound > 0.
  std::uint32_t below(std::uint32_t bound);
  /// Standard normal (Marsaglia's polar method).
  double normal();

 private:
  std::uint64_t state_[4];
  double spare_ = 0;
  bool has_spare_ = false;
};

/// SplitMix64's finalizer: a good 64-bit mixing of one number.
std::uint64_t mix64(std::uint64_t value);

}  // namespace tonearm
