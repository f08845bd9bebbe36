#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "train/rows.h"
#include "train/training.h"

namespace tonearm {

/// How the values of every feature are cut into bins.
struct Cuts {
  /// Of each feature, strictly ascending, at most 254. The bin of a value is the number of thresholds
  /// below it, so "x <= thresholds[b]" and "bin <= b" are the same question.
  std::vector<std::vector<float>> thresholds;
  /// Of each feature: 1 if a row lacks it.
  std::vector<std::uint8_t> has_missing;

  /// Bins of the feature's values; the next number is the bin of a missing value.
  unsigned value_bins(std::size_t feature) const {
    return static_cast<unsigned>(thresholds[feature].size()) + 1;
  }
};

/// A dataset with each value replaced by the number of its bin, one byte: all that training trees needs.
struct BinnedDataset : Cuts {
  std::size_t rows = 0;
  std::size_t features = 0;
  /// Row-major, rows x features.
  std::vector<std::uint8_t> bins;

  const std::uint8_t* row(std::size_t index) const { return bins.data() + index * features; }
};

/// The same of rows that may be too many for memory, and their labels.
struct BinnedRows : Cuts {
  std::size_t rows = 0;
  std::size_t features = 0;
  /// Rows whose target is 1.
  std::size_t positive = 0;
  /// What training keeps of these rows obeys it, too.
  MemoryLimit limit;
  bool in_memory = true;
  RowArray<std::uint8_t> bins;    // `features` of each row
  RowArray<std::uint8_t> target;  // 0 or 1
};

/// The question of a split, asked of bins.
struct BinnedQuestion {
  const std::uint8_t* bins;  // of row 0; the next row's is `stride` bytes on
  std::size_t stride;
  unsigned last_left;
  unsigned also_left;  // the bin of missing values if they go left, or one that no value has

  BinnedQuestion(const std::uint8_t* rows, const Cuts& cuts, std::size_t feature, unsigned bin,
                 bool missing_left)
      : bins(rows + feature),
        stride(cuts.thresholds.size()),
        last_left(bin),
        also_left(missing_left ? cuts.value_bins(feature) : 256) {}

  /// 1 or 0
  std::size_t goes_left(std::uint32_t row) const {
    const unsigned bin = bins[row * stride];
    return static_cast<std::size_t>(bin <= last_left) | static_cast<std::size_t>(bin == also_left);
  }
};

/// std::stable_partition for answers that no branch predictor can guess: moves the elements of which
/// goes_left says 1 (else 0) before the others and returns where the others begin. `scratch` has room for
/// all.
template <typename T, typename GoesLeft>
T* partition_without_branches(T* begin, T* end, T* scratch, GoesLeft goes_left) {
  T* middle = begin;
  for (T* at = begin; at != end; ++at) {
    const T element = *at;
    *middle = element;
    scratch[at - middle] = element;  // one of both writes counts, the other will be overwritten
    middle += goes_left(element);
  }
  std::copy(scratch, scratch + (end - middle), middle);
  return middle;
}

/// Where the missing values of the rows at hand go; absent if there are none.
enum class MissingSide { absent, left, right };

/// The bin of a value that is not NaN.
std::uint8_t bin_of(std::span<const float> thresholds, float value);

/// A float t with low <= t < high as near as possible to the middle; low < high.
float threshold_between(float low, float high);

/// Cuts every feature into at most `max_bins` bins (2 to 255): one for each distinct value where they
/// suffice; otherwise values that fill a bin have their own and the rest share out the others evenly.
/// -0 and +0 are one value. A feature with missing values has its largest value as last threshold, so
/// that a split can tell missing from present.
///
/// Nothing is sampled, and the limit does not change a bit: values are counted by the leading bits of
/// their floats, and only where a cut must fall between are they looked at more closely, in further
/// passes over the rows (two in all where the values fit into a quarter of the limit, otherwise six to
/// nine). Tables for counting take a quarter of the limit, but at least 64 kB. Throws Error if there are no
/// rows or features, or one class only, or the number of rows changes between passes; Interrupted.
BinnedRows bin_rows(RowSource& source, unsigned max_bins, const MemoryLimit& limit, Threads& threads);

/// Rows to validate with, cut as others were. There may be none.
BinnedRows bin_rows(RowSource& source, const Cuts& cuts, const MemoryLimit& limit, Threads& threads);

/// In memory.
BinnedDataset bin_dataset(const Dataset& data, unsigned max_bins, Threads& threads);

}  // namespace tonearm
