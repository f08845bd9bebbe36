#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "base/random.h"
#include "train/dense.h"

namespace tonearm {

// What the trainers of networks share.

/// The matrices begin on cache lines, so that no vector straddles two.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete (memory, std::align_val_t{64}); }
  bool operator==(const LineAllocator&) const = default;
};
using Floats = std::vector<float, LineAllocator<float>>;

inline std::size_t padded(std::size_t count) { return (count + dense_lanes - 1) / dense_lanes * dense_lanes; }

/// Which units are dropped. A kept one is scaled up, so that nothing changes at prediction.
struct Dropout {
  Random random;
  double share;

  /// count is a multiple of dense_lanes.
  void draw(std::size_t count, float* mask) {
    const auto threshold = static_cast<unsigned>(std::lround(share * 65536));
    const float kept = 65536.0F / static_cast<float>(65536 - threshold);
    for (std::size_t first = 0; first < count; first += dense_lanes) {
      std::uint16_t draws[dense_lanes];
      for (std::size_t i = 0; i < dense_lanes; i += 4) {
        const std::uint64_t bits = random.next();
        for (std::size_t j = 0; j < 4; ++j) draws[i + j] = static_cast<std::uint16_t>(bits >> (16 * j));
      }
      for (std::size_t i = 0; i < dense_lanes; ++i) mask[first + i] = draws[i] < threshold ? 0 : kept;
    }
  }
};

/// The numbers below `count` in a random order.
inline std::vector<std::uint32_t> shuffled(std::size_t count, Random& random) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  for (auto i = static_cast<std::uint32_t>(count); i > 1; --i)
    std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace tonearm
