#include "train/binning.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "train/checks.h"

namespace tonearm {
namespace {

constexpr std::size_t row_limit = std::size_t{1} << 28;
constexpr std::size_t block_rows = 4096;

void check(const Dataset& data) {
  if (data.features == 0) throw Error("trees cannot be trained without features: name at least one column");
  if (data.rows > row_limit)
    throw Error("trees cannot be trained on " + std::to_string(data.rows) + " rows: at most " +
                std::to_string(row_limit) + " fit, so train on a sample");
  require_both_classes(data.target, "trees");
}

/// An integer that orders like the float; -0 becomes +0. Sorting integers is several times faster.
std::uint32_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

float unordered(std::uint32_t key) {
  return std::bit_cast<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

/// Three passes of 11 bits.
void radix_sort(std::vector<std::uint32_t>& keys) {
  std::vector<std::uint32_t> other(keys.size());
  for (unsigned shift = 0; shift < 32; shift += 11) {
    std::size_t begin[2048] = {};
    for (const std::uint32_t key : keys) ++begin[(key >> shift) & 2047];
    std::size_t total = 0;
    for (std::size_t& slot : begin) total += std::exchange(slot, total);
    for (const std::uint32_t key : keys) other[begin[(key >> shift) & 2047]++] = key;
    keys.swap(other);
  }
}

struct Distinct {
  float value;
  std::size_t rows;
};

std::vector<Distinct> distinct_values(const Dataset& data, std::size_t feature) {
  std::vector<std::uint32_t> keys;
  keys.reserve(data.rows);
  for (std::size_t row = 0; row < data.rows; ++row) {
    const float value = data.values[row * data.features + feature];
    if (!std::isnan(value)) keys.push_back(ordered(value));
  }
  radix_sort(keys);
  std::vector<Distinct> distinct;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i == 0 || keys[i] != keys[i - 1]) distinct.push_back({unordered(keys[i]), 0});
    ++distinct.back().rows;
  }
  return distinct;
}

std::vector<float> cut(const std::vector<Distinct>& distinct, std::size_t rows, std::size_t max_bins) {
  const bool one_each = distinct.size() <= max_bins;
  const auto fills_a_bin = [&](const Distinct& value) { return one_each || value.rows * max_bins >= rows; };
  std::size_t shared_rows = rows, shared_bins = max_bins;  // what the small values still have to share out
  for (const Distinct& value : distinct) {
    if (!fills_a_bin(value)) continue;
    shared_rows -= value.rows;
    --shared_bins;
  }
  std::vector<float> thresholds;
  std::size_t in_bin = 0;
  for (std::size_t i = 0; i + 1 < distinct.size(); ++i) {
    const bool own = fills_a_bin(distinct[i]);
    if (!own) {
      in_bin += distinct[i].rows;
      const bool full = in_bin * shared_bins >= shared_rows || fills_a_bin(distinct[i + 1]);
      if (!full || shared_bins <= 1) continue;
      shared_rows -= in_bin;
      --shared_bins;
    }
    in_bin = 0;
    thresholds.push_back(threshold_between(distinct[i].value, distinct[i + 1].value));
  }
  return thresholds;
}

}  // namespace

std::uint8_t bin_of(std::span<const float> thresholds, float value) {
  // A binary search without branches that depend on the value.
  const float* first = thresholds.data();
  std::size_t left = thresholds.size();
  while (left > 1) {
    const std::size_t half = left / 2;
    first += half * static_cast<std::size_t>(first[half - 1] < value);
    left -= half;
  }
  const auto before = static_cast<std::size_t>(first - thresholds.data());
  return static_cast<std::uint8_t>(before + (left == 1 && *first < value ? 1 : 0));
}

float threshold_between(float low, float high) {
  constexpr double largest = std::numeric_limits<float>::max();
  const double middle = (std::max<double>(low, -largest) + std::min<double>(high, largest)) / 2;
  const auto rounded = static_cast<float>(middle);
  return rounded < high ? rounded : std::nextafter(high, low);
}

BinnedDataset bin_dataset(const Dataset& data, unsigned max_bins, Threads& threads) {
  check(data);
  BinnedDataset binned;
  binned.rows = data.rows;
  binned.features = data.features;
  binned.bins.resize(data.rows * data.features);
  binned.thresholds.resize(data.features);
  binned.has_missing.resize(data.features);
  threads.run(data.features, [&](std::size_t feature) {
    const std::vector<Distinct> distinct = distinct_values(data, feature);
    std::size_t present = 0;
    for (const Distinct& value : distinct) present += value.rows;
    const bool missing = present < data.rows;
    std::vector<float>& thresholds = binned.thresholds[feature];
    thresholds = cut(distinct, present, max_bins - (missing ? 1 : 0));
    if (missing && !distinct.empty()) thresholds.push_back(distinct.back().value);
    binned.has_missing[feature] = missing ? 1 : 0;
  });
  threads.run((data.rows + block_rows - 1) / block_rows, [&](std::size_t block) {
    const std::size_t end = std::min(data.rows, (block + 1) * block_rows);
    for (std::size_t feature = 0; feature < data.features; ++feature) {
      const std::span<const float> thresholds = binned.thresholds[feature];
      const auto missing = static_cast<std::uint8_t>(binned.value_bins(feature));
      for (std::size_t row = block * block_rows; row < end; ++row) {
        const float value = data.values[row * data.features + feature];
        binned.bins[row * data.features + feature] = std::isnan(value) ? missing : bin_of(thresholds, value);
      }
    }
  });
  return binned;
}

}  // namespace tonearm
