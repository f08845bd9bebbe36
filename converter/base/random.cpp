#include "base/random.h"

#include <bit>
#include <cmath>

namespace tonearm {
namespace {

constexpr std::uint64_t golden_gamma = 0x9e3779b97f4a7c15u;  // SplitMix64's increment, 2^64 / phi

}  // namespace

std::uint64_t mix64(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

Random::Random(std::uint64_t seed, std::uint64_t stream) {
  // Mixing the seed first keeps (seed, stream + 1) apart from (seed + 1, stream).
  std::uint64_t counter = mix64(seed) + stream;
  for (std::uint64_t& word : state_) word = mix64(counter += golden_gamma);
}

std::uint64_t Random::next() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

std::uint32_t Random::below(std::uint32_t bound) {
  std::uint64_t product = (next() >> 32) * bound;
  if (static_cast<std::uint32_t>(product) < bound) {
    // The low half falls into the 2^32 mod bound values that would be drawn once too often: draw again.
    const std::uint32_t surplus = (0u - bound) % bound;
    while (static_cast<std::uint32_t>(product) < surplus) product = (next() >> 32) * bound;
  }
  return static_cast<std::uint32_t>(product >> 32);
}

double Random::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  double x, y, square;
  do {
    x = 2 * uniform() - 1;
    y = 2 * uniform() - 1;
    square = x * x + y * y;
  } while (square >= 1 || square == 0);
  const double factor = std::sqrt(-2 * std::log(square) / square);
  spare_ = y * factor;
  has_spare_ = true;
  return x * factor;
}

}  // namespace tonearm
