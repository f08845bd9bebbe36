#include "train/binning.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"

namespace tonearm {
namespace {

constexpr std::size_t row_limit = std::numeric_limits<std::uint32_t>::max();
/// Rows that are handled at a time, whatever the blocks of their source.
constexpr std::size_t piece_rows = 1 << 14;
/// Features that a thread counts together, so that it reads whole cache lines, and rows of them.
constexpr std::size_t group_features = 8, group_rows = 512;
/// What training keeps of a row beside its bins: target, score, derivatives and three row numbers.
constexpr std::size_t state_bytes = 1 + 8 + 8 + 12;

/// Reads the rows in pieces of a size that is worth sharing out among threads.
template <typename Sink>
void read_pieces(RowSource& source, Sink sink) {
  const std::size_t features = source.features();
  std::vector<float> values, target;  // of small blocks, collected
  const auto flush = [&] {
    if (!target.empty()) sink(RowBlock{target.size(), values, target});
    values.clear();
    target.clear();
  };
  source.read([&](const RowBlock& block) {
    for (std::size_t first = 0; first < block.rows;) {
      const std::size_t rows = std::min(block.rows - first, piece_rows - target.size());
      const auto block_values = block.values.subspan(first * features, rows * features);
      const auto block_target = block.target.subspan(first, rows);
      first += rows;
      if (rows == piece_rows) {
        sink(RowBlock{rows, block_values, block_target});
      } else {
        values.insert(values.end(), block_values.begin(), block_values.end());
        target.insert(target.end(), block_target.begin(), block_target.end());
        if (target.size() < piece_rows) continue;
        flush();
      }
      if (interrupted()) throw Interrupted();
    }
  });
  flush();
}

/// An integer that orders like the float; -0 becomes +0.
std::uint32_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

float unordered(std::uint32_t key) {
  return std::bit_cast<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

/// Three passes of 11 bits: several times faster than comparing.
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

// ---- cutting

/// Rows whose key shares all but the last `bits` bits with `first`; with 0 bits, of one value.
struct Cell {
  std::uint32_t first = 0;
  std::uint32_t rows = std::numeric_limits<std::uint32_t>::max();
  std::uint8_t bits = 32;
  std::uint8_t varying = 32;  // at most so many of these bits differ between the rows

  bool one_value() const { return bits == 0; }
};

/// What is known of a feature's cuts. If no cells are wanted, the thresholds are final.
struct Plan {
  std::vector<float> thresholds;
  std::vector<std::size_t> wanted;  // ascending numbers of cells that must be divided to know more
};

/// Cuts the values in `cells` (ascending, none empty, `rows` rows together). Cells of several values need
/// no closer look where no cut can fall into them. Where one can, it is guessed so that the cells
/// after it can be chosen as well.
Plan cut(const std::vector<Cell>& cells, std::size_t rows, std::size_t max_bins, bool last_value) {
  Plan plan;
  std::vector<std::size_t>& wanted = plan.wanted;
  const auto want = [&](std::size_t i) {
    if (!cells[i].one_value()) wanted.push_back(i);
  };
  std::size_t distinct = 0;  // at least
  for (const Cell& cell : cells) distinct += cell.one_value() ? 1 : 2;
  const bool one_each = distinct <= max_bins;
  if (one_each)
    for (std::size_t i = 0; i < cells.size(); ++i) want(i);
  if (!wanted.empty()) return plan;

  const auto fills_a_bin = [&](const Cell& cell) { return one_each || cell.rows * max_bins >= rows; };
  std::size_t shared_rows = rows, shared_bins = max_bins;  // what the small values still have to share out
  for (const Cell& cell : cells) {
    if (!fills_a_bin(cell)) continue;
    shared_rows -= cell.rows;
    --shared_bins;
  }
  const auto cut_after = [&](std::size_t i) {
    want(i);
    want(i + 1);
    if (wanted.empty())
      plan.thresholds.push_back(threshold_between(unordered(cells[i].first), unordered(cells[i + 1].first)));
  };
  std::size_t in_bin = 0, doubt = 0;  // by how many rows a guess may be wrong
  const auto doubted = [&](std::size_t surplus) {
    if (shared_bins > 0)
      doubt = std::min(doubt - doubt / shared_bins + surplus, shared_rows / shared_bins / 8);
  };
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const bool last = i + 1 == cells.size();
    if (fills_a_bin(cells[i])) {
      want(i);  // a guess: it is one value
      in_bin = doubt = 0;
      if (!last) cut_after(i);
      continue;
    }
    std::size_t left = cells[i].rows;
    if (!cells[i].one_value() && shared_bins > 1 && (in_bin + left + doubt) * shared_bins >= shared_rows) {
      want(i);
      // A guess: every bin has the rows that it needs, and half of those of the value that fills it.
      const std::size_t surplus = (cells[i].rows >> cells[i].varying) / 2;
      for (std::size_t need; shared_bins > 1; left -= need) {
        need = (shared_rows + shared_bins - 1) / shared_bins + surplus;
        need -= std::min(need, in_bin);
        if (need > left) break;
        if (need < doubt && left == cells[i].rows && i > 0) want(i - 1);
        shared_rows -= in_bin + need;
        --shared_bins;
        in_bin = 0;
        doubted(surplus);
      }
    }
    if (left < doubt && !last) want(i + 1);
    in_bin += left;
    if (last || shared_bins <= 1) continue;
    if (in_bin * shared_bins < shared_rows && !fills_a_bin(cells[i + 1])) continue;
    if (!wanted.empty() && cells[i].one_value()) doubted(cells[i].rows / 4);
    shared_rows -= in_bin;
    --shared_bins;
    in_bin = 0;
    cut_after(i);
  }
  if (last_value && !cells.empty()) {
    want(cells.size() - 1);
    if (wanted.empty()) plan.thresholds.push_back(unordered(cells.back().first));
  }
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  return plan;
}

// ---- counting

/// Rows of a cell's part, and whether they have one value: the last 16 bits of the first, and the bits
/// among them in which others differ.
struct Counter {
  std::uint32_t rows = 0;
  std::uint16_t low = 0;
  std::uint16_t varies = 0;
};

/// One feature on the way to its cuts.
class FeatureCounter {
 public:
  std::size_t present = 0, missing = 0;
  Plan plan = {{}, {0}};

  std::size_t wanted() const { return plan.wanted.size(); }
  std::size_t wanted_rows() const {
    std::size_t rows = 0;
    for (const std::size_t i : plan.wanted) rows += cells_[i].rows;
    return rows;
  }
  /// Those of all cells of several values, if any cell is wanted.
  std::size_t open_rows() const {
    std::size_t rows = 0;
    for (const Cell& cell : cells_) rows += cell.one_value() || plan.wanted.empty() ? 0 : cell.rows;
    return rows;
  }
  /// Wants all of these.
  void want_all() {
    if (plan.wanted.empty()) return;
    plan.wanted.clear();
    for (std::size_t i = 0; i < cells_.size(); ++i)
      if (!cells_[i].one_value()) plan.wanted.push_back(i);
  }

  /// The next pass divides the first `cells` of the wanted cells into 2^bits parts each, or, with 0 bits,
  /// into their values. The first pass does so as well if there are no more than `max_keys` of them.
  void prepare(std::size_t cells, unsigned bits, std::size_t max_keys) {
    asked_.clear();
    if (cells == 0) return;
    present = missing = 0;
    part_bits_ = bits;
    max_keys_ = max_keys;
    for (std::size_t k = 0; k < cells; ++k) {
      const Cell& cell = cells_[plan.wanted[k]];
      asked_.push_back({cell.first, cell.bits});
    }
    for (std::size_t p = 0, i = 0; p < before_.size(); ++p) {
      while (i < cells && asked_[i].first >> prefix_shift < p) ++i;
      before_[p] = static_cast<std::uint32_t>(i);
    }
    collecting_ = bits == 0 || asked_[0].bits == 32;
    if (bits == 0)
      keys_.reserve(wanted_rows());
    else if (!collecting_)
      counters_.resize(cells << bits);
  }

  /// Every `stride`th of `values`.
  void count(const float* values, std::size_t stride, std::size_t rows) {
    if (asked_.empty()) return;
    for (std::size_t row = 0; row < rows; ++row) {
      const float value = values[row * stride];
      if (std::isnan(value)) {
        ++missing;
        continue;
      }
      ++present;
      count(ordered(value));
    }
  }

  /// Replaces the wanted cells by their parts and plans on.
  void divide(std::size_t max_bins) {
    if (asked_.empty()) return;
    radix_sort(keys_);
    std::size_t parts_with_rows = 0;
    for (std::size_t i = 0; i < keys_.size(); ++i)
      parts_with_rows += i == 0 || keys_[i] != keys_[i - 1] ? 1 : 0;
    for (const Counter& counter : counters_) parts_with_rows += counter.rows > 0 ? 1 : 0;
    std::vector<Cell> cells;
    cells.reserve(cells_.size() + parts_with_rows);
    auto key = keys_.begin();
    std::size_t asked = 0;
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const Cell& whole = cells_[i];
      if (asked == asked_.size() || plan.wanted[asked] != i) {
        cells.push_back(whole);
        continue;
      }
      if (collecting_) {
        for (std::uint32_t left = whole.rows; left > 0 && key != keys_.end(); --left, ++key) {
          if (cells.empty() || !cells.back().one_value() || cells.back().first != *key)
            cells.push_back({*key, 0, 0, 0});
          ++cells.back().rows;
        }
      } else {
        const unsigned parts = std::min<unsigned>(whole.bits, part_bits_), bits = whole.bits - parts;
        const Counter* counter = counters_.data() + (asked << part_bits_);
        for (std::uint32_t part = 0; part < std::uint32_t{1} << parts; ++part) {
          if (counter[part].rows == 0) continue;
          const std::uint32_t first = whole.first + (part << bits);
          const bool one_value = bits == 0 || (bits <= 16 && counter[part].varies == 0);
          cells.push_back(
              {one_value ? (first & 0xffff0000u) | counter[part].low : first, counter[part].rows,
               static_cast<std::uint8_t>(one_value ? 0 : bits),
               static_cast<std::uint8_t>(bits <= 16 ? std::popcount(counter[part].varies) : bits)});
        }
      }
      ++asked;
    }
    cells_ = std::move(cells);
    std::vector<Counter>().swap(counters_);  // gives the memory back
    std::vector<std::uint32_t>().swap(keys_);
    plan = cut(cells_, present, max_bins - (missing > 0 ? 1 : 0), missing > 0);
    if (wanted() == 0) std::vector<Cell>().swap(cells_);
  }

 private:
  static constexpr unsigned prefix_shift = 20;

  void count(std::uint32_t key) {
    std::size_t low = before_[key >> prefix_shift], high = before_[(key >> prefix_shift) + 1];
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (asked_[middle].first <= key)
        low = middle + 1;
      else
        high = middle;
    }
    if (low == 0) return;
    const unsigned bits = asked_[low - 1].bits;
    const std::uint32_t offset = key - asked_[low - 1].first;
    if (bits < 32 && offset >> bits != 0) return;
    if (collecting_) {
      keys_.push_back(key);
      if (part_bits_ == 0 || keys_.size() <= max_keys_) return;
      collecting_ = false;
      counters_.resize(asked_.size() << part_bits_);
      std::vector<std::uint32_t> keys;
      keys.swap(keys_);
      for (const std::uint32_t collected : keys) count(collected);
      return;
    }
    const unsigned parts = std::min(bits, part_bits_);
    Counter& counter = counters_[((low - 1) << part_bits_) + (offset >> (bits - parts))];
    const auto tail = static_cast<std::uint16_t>(key);
    if (counter.rows++ == 0) counter.low = tail;
    counter.varies = static_cast<std::uint16_t>(counter.varies | (counter.low ^ tail));
  }

  struct Asked {
    std::uint32_t first;
    unsigned bits;
  };

  std::vector<Cell> cells_ = {{}};
  // Of the pass: the cells to be divided, and how many of them begin below each prefix.
  std::vector<Asked> asked_;
  std::array<std::uint32_t, (std::size_t{1} << (32 - prefix_shift)) + 1> before_ = {};
  unsigned part_bits_ = 0;
  std::size_t max_keys_ = 0;
  bool collecting_ = false;
  std::vector<Counter> counters_;    // 2^part_bits_ of each of these cells
  std::vector<std::uint32_t> keys_;  // or what lies in them
};

/// Decides what the next pass finds out, in `bytes` of memory; false if everything is known.
bool prepare(std::vector<FeatureCounter>& features, std::size_t bytes) {
  std::size_t open_rows = 0, wanted = 0, wanted_rows = 0;
  for (const FeatureCounter& feature : features) open_rows += feature.open_rows();
  // A key is sorted, which takes room for another, and may become a cell.
  const std::size_t keys = bytes / (2 * sizeof(std::uint32_t) + sizeof(Cell));
  for (FeatureCounter& feature : features) {
    if (open_rows <= keys) feature.want_all();  // then no guess can be wrong
    wanted += feature.wanted();
    wanted_rows += feature.wanted_rows();
  }
  if (wanted == 0) return false;
  if (wanted_rows <= keys) {
    for (FeatureCounter& feature : features) feature.prepare(feature.wanted(), 0, 0);
    return true;
  }
  // A counter may become a cell. With fewer than 4 bits for each cell, some have to wait.
  const std::size_t counters = bytes / (sizeof(Counter) + sizeof(Cell));
  const auto bits = static_cast<unsigned>(
      std::clamp(static_cast<int>(std::bit_width(std::max<std::size_t>(1, counters / wanted))) - 1, 4, 16));
  std::size_t left = counters >> bits;
  for (FeatureCounter& feature : features) {
    const std::size_t cells = std::min(feature.wanted(), left);
    feature.prepare(cells, bits, keys / 2 / features.size());  // half: the vector grows
    left -= cells;
  }
  return true;
}

void check(std::size_t rows, std::size_t positive) {
  if (rows > row_limit)
    throw Error("trees cannot be trained on " + std::to_string(rows) + " rows: at most " +
                std::to_string(row_limit) + " fit, so train on a sample");
  if (positive > 0 && positive < rows) return;
  throw Error("trees: " +
              (rows == 0
                   ? std::string("there are no rows")
                   : "all " + std::to_string(rows) + " rows have the label " + (positive > 0 ? "1" : "0")) +
              ", but both classes are needed; check the label rule and the split");
}

/// Bins the `binned.rows` rows of the source.
void fill(RowSource& source, const MemoryLimit& limit, Threads& threads, BinnedRows& binned) {
  const std::size_t features = binned.features;
  binned.limit = limit;
  binned.in_memory = binned.rows <= limit.bytes / (features + state_bytes);
  binned.bins = binned.in_memory ? RowArray<std::uint8_t>(features, binned.rows)
                                 : RowArray<std::uint8_t>(features, limit.folder);
  binned.target =
      binned.in_memory ? RowArray<std::uint8_t>(1, binned.rows) : RowArray<std::uint8_t>(1, limit.folder);
  std::vector<std::uint8_t> bins_buffer, target_buffer;
  std::size_t done = 0;
  const auto changed = [&] {
    return Error("the data changed while they were read: there were " + std::to_string(binned.rows) +
                 " rows at first; train again when nothing else writes them");
  };
  read_pieces(source, [&](const RowBlock& block) {
    if (block.rows > binned.rows - done) throw changed();
    std::uint8_t* const bins = binned.bins.place(done, block.rows, bins_buffer);
    std::uint8_t* const target = binned.target.place(done, block.rows, target_buffer);
    threads.run((block.rows + group_rows - 1) / group_rows, [&](std::size_t group) {
      const std::size_t begin = group * group_rows, end = std::min(block.rows, begin + group_rows);
      for (std::size_t feature = 0; feature < features; ++feature) {
        const std::span<const float> thresholds = binned.thresholds[feature];
        const auto missing = static_cast<std::uint8_t>(binned.value_bins(feature));
        for (std::size_t row = begin; row < end; ++row) {
          const float value = block.values[row * features + feature];
          bins[row * features + feature] = std::isnan(value) ? missing : bin_of(thresholds, value);
        }
      }
      for (std::size_t row = begin; row < end; ++row) target[row] = block.target[row] == 1 ? 1 : 0;
    });
    binned.bins.write(done, block.rows, bins);
    binned.target.write(done, block.rows, target);
    done += block.rows;
  });
  if (done != binned.rows) throw changed();
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

BinnedRows bin_rows(RowSource& source, unsigned max_bins, const MemoryLimit& limit, Threads& threads) {
  BinnedRows binned;
  binned.features = source.features();
  if (binned.features == 0) throw Error("trees cannot be trained without features: name at least one column");
  std::vector<FeatureCounter> features(binned.features);
  const std::size_t bytes = std::clamp(limit.bytes / 4, std::size_t{1} << 16, std::size_t{1} << 28);
  while (prepare(features, bytes)) {
    std::size_t rows = 0, positive = 0;
    read_pieces(source, [&](const RowBlock& block) {
      rows += block.rows;
      positive += static_cast<std::size_t>(std::count(block.target.begin(), block.target.end(), 1.0f));
      threads.run((binned.features + group_features - 1) / group_features, [&](std::size_t group) {
        const std::size_t end = std::min(binned.features, (group + 1) * group_features);
        for (std::size_t row = 0; row < block.rows; row += group_rows)
          for (std::size_t feature = group * group_features; feature < end; ++feature)
            features[feature].count(block.values.data() + row * binned.features + feature, binned.features,
                                    std::min(group_rows, block.rows - row));
      });
    });
    binned.rows = rows;
    binned.positive = positive;
    check(rows, positive);
    threads.run(binned.features, [&](std::size_t feature) { features[feature].divide(max_bins); });
  }
  for (FeatureCounter& feature : features) {
    binned.thresholds.push_back(std::move(feature.plan.thresholds));
    binned.has_missing.push_back(feature.missing > 0 ? 1 : 0);
  }
  features.clear();
  fill(source, limit, threads, binned);
  return binned;
}

BinnedRows bin_rows(RowSource& source, const Cuts& cuts, const MemoryLimit& limit, Threads& threads) {
  BinnedRows binned;
  static_cast<Cuts&>(binned) = cuts;
  binned.features = source.features();
  read_pieces(source, [&](const RowBlock& block) {
    binned.rows += block.rows;
    binned.positive += static_cast<std::size_t>(std::count(block.target.begin(), block.target.end(), 1.0f));
  });
  fill(source, limit, threads, binned);
  return binned;
}

BinnedDataset bin_dataset(const Dataset& data, unsigned max_bins, Threads& threads) {
  DatasetRows source(data);
  BinnedRows rows = bin_rows(source, max_bins, {}, threads);
  BinnedDataset binned;
  static_cast<Cuts&>(binned) = std::move(rows);
  binned.rows = rows.rows;
  binned.features = rows.features;
  binned.bins = std::move(rows.bins.memory());
  return binned;
}

}  // namespace tonearm
