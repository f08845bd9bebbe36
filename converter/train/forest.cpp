#include "train/forest.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/random.h"
#include "train/binning.h"

namespace tonearm {
namespace {

/// What is counted of a set of rows: the rows themselves, and their copies in the bootstrap sample.
/// Padded to 16 bytes, so that one vector instruction adds all of it.
struct alignas(16) Tally {
  std::uint32_t rows = 0, weight = 0, positive = 0, unused = 0;

  Tally& operator+=(const Tally& other) {
    rows += other.rows;
    weight += other.weight;
    positive += other.positive;
    unused += other.unused;
    return *this;
  }
  Tally operator-(const Tally& other) const {
    return {rows - other.rows, weight - other.weight, positive - other.positive, 0};
  }
  bool pure() const { return positive == 0 || positive == weight; }
};

/// A row of the bootstrap sample.
struct Sample {
  std::uint32_t row;
  std::uint32_t weight;
  std::uint32_t positive;  // weight or 0
};

struct Split {
  double purity = -1;
  std::size_t feature = 0;
  unsigned bin = 0;
  bool missing_left = true;
  Tally left;
};

/// Grows one tree; all randomness comes from `random`.
class Grower {
 public:
  Grower(const BinnedDataset& data, std::span<const float> target, const ForestOptions& options,
         Random random)
      : data_(data), target_(target), options_(options), random_(random), order_(data.features) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
  }

  Tree grow() {
    draw_samples();
    Tally all;
    for (const Sample& sample : samples_) all += tally_of(sample);
    Tree tree;
    tree.nodes.push_back(leaf(all));
    std::vector<Pending> pending;
    if (splittable(all, 0)) pending.push_back({0, 0, 0, samples_.size(), all});
    while (!pending.empty()) {
      const Pending node = pending.back();
      pending.pop_back();
      const Split split = best_split(node);
      if (split.purity < 0) continue;
      const auto left = static_cast<std::int32_t>(tree.nodes.size());
      tree.nodes[node.index] = {static_cast<std::int32_t>(split.feature),
                                data_.thresholds[split.feature][split.bin],
                                split.missing_left,
                                left,
                                left + 1,
                                0};
      const Tally right_tally = node.tally - split.left;
      tree.nodes.push_back(leaf(split.left));
      tree.nodes.push_back(leaf(right_tally));
      const bool split_left = splittable(split.left, node.depth + 1);
      const bool split_right = splittable(right_tally, node.depth + 1);
      if (!split_left && !split_right) continue;  // nobody will look at these rows again
      const BinnedQuestion question(data_.bins.data(), data_, split.feature, split.bin, split.missing_left);
      const Sample* others = partition_without_branches(
          samples_.data() + node.begin, samples_.data() + node.end, scratch_.data(),
          [&](const Sample& sample) { return question.goes_left(sample.row); });
      const auto middle = static_cast<std::size_t>(others - samples_.data());
      const auto child = static_cast<std::size_t>(left);
      if (split_right) pending.push_back({child + 1, node.depth + 1, middle, node.end, right_tally});
      if (split_left) pending.push_back({child, node.depth + 1, node.begin, middle, split.left});
    }
    return tree;
  }

 private:
  /// A node that may be split: it holds samples_[begin, end).
  struct Pending {
    std::size_t index;
    unsigned depth;
    std::size_t begin, end;
    Tally tally;
  };

  static Tally tally_of(const Sample& sample) { return {1, sample.weight, sample.positive, 0}; }

  static TreeNode leaf(const Tally& tally) {
    TreeNode node;
    node.value = static_cast<double>(tally.positive) / tally.weight;
    return node;
  }

  bool splittable(const Tally& tally, unsigned depth) const {
    return depth < options_.depth && !tally.pure() && tally.rows / 2 >= options_.min_leaf_rows;
  }

  void draw_samples() {
    const auto rows = static_cast<std::uint32_t>(data_.rows);
    std::vector<std::uint32_t> copies(rows, options_.bootstrap ? 0 : 1);
    if (options_.bootstrap)
      for (std::uint32_t i = 0; i < rows; ++i) ++copies[random_.below(rows)];
    samples_.reserve(rows);
    for (std::uint32_t row = 0; row < rows; ++row)
      if (copies[row] > 0) samples_.push_back({row, copies[row], target_[row] == 1 ? copies[row] : 0});
    scratch_.resize(samples_.size());
  }

  /// The purest split on features drawn one after the other, until enough that vary were looked at.
  Split best_split(const Pending& node) {
    Split best;
    unsigned varying = 0;
    for (std::size_t drawn = 0; drawn < order_.size() && varying < options_.features_per_split; ++drawn) {
      const std::size_t last = order_.size() - 1 - drawn;
      std::swap(order_[random_.below(static_cast<std::uint32_t>(last + 1))], order_[last]);
      if (examine(node, order_[last], best)) ++varying;
    }
    return best;
  }

  /// Improves `best` with the splits on `feature`; false if all rows of the node have the same value.
  bool examine(const Pending& node, std::size_t feature, Split& best) {
    const std::uint8_t* bins = data_.bins.data() + feature;
    for (std::size_t i = node.begin; i < node.end; ++i) {
      const Sample& sample = samples_[i];
      const unsigned bin = bins[sample.row * data_.features];
      tallies_[bin] += tally_of(sample);
      touched_[bin / 64] |= std::uint64_t{1} << bin % 64;
    }
    // Most nodes are small and touch few bins: only those are looked at.
    filled_.clear();
    for (unsigned word = 0; word < touched_.size(); ++word)
      for (std::uint64_t left = std::exchange(touched_[word], 0); left != 0; left &= left - 1) {
        const unsigned bin = 64 * word + static_cast<unsigned>(std::countr_zero(left));
        filled_.push_back({bin, std::exchange(tallies_[bin], {})});
      }
    if (filled_.size() == 1) return false;
    std::span<const Filled> values = filled_;
    if (values.back().bin != data_.value_bins(feature)) {
      sweep(node, feature, values, {}, MissingSide::absent, best);
    } else {
      values = values.first(values.size() - 1);
      sweep(node, feature, values, filled_.back().tally, MissingSide::left, best);
      sweep(node, feature, values, {}, MissingSide::right, best);
    }
    return true;
  }

  struct Filled {
    unsigned bin;
    Tally tally;
  };

  /// Improves `best` with the splits between the bins in `values`; `left` is what goes left anyway.
  void sweep(const Pending& node, std::size_t feature, std::span<const Filled> values, Tally left,
             MissingSide missing, Split& best) const {
    for (std::size_t i = 1; i <= values.size(); ++i) {
      left += values[i - 1].tally;
      const Tally right = node.tally - left;
      if (std::min(left.rows, right.rows) < options_.min_leaf_rows) continue;
      // Gini impurity, weighted, is 2 (positive - positive^2 / weight), so this is to be maximised.
      const double left_positive = left.positive, right_positive = right.positive;
      const double left_weight = left.weight, right_weight = right.weight;
      const double purity =
          (left_positive * left_positive * right_weight + right_positive * right_positive * left_weight) /
          (left_weight * right_weight);
      if (purity <= best.purity) continue;
      // All thresholds in a gap split these rows alike; the middle one is fairest to others. After
      // the last value, only missing ones are on the right.
      const unsigned next = i < values.size() ? values[i].bin : data_.value_bins(feature) - 1;
      const unsigned bin = (values[i - 1].bin + next - 1) / 2;
      // A feature that is never missing always says left, so that blobs need but one direction of it;
      // otherwise, where no row shows the better direction, it is that of most rows.
      const bool missing_left = missing == MissingSide::left || data_.has_missing[feature] == 0 ||
                                (missing == MissingSide::absent && left.weight > right.weight);
      best = {purity, feature, bin, missing_left, left};
    }
  }

  const BinnedDataset& data_;
  std::span<const float> target_;
  const ForestOptions& options_;
  Random random_;
  std::vector<Sample> samples_, scratch_;
  std::vector<std::size_t> order_;  // of the features, reshuffled with every draw
  std::array<Tally, 256> tallies_ = {};
  std::array<std::uint64_t, 4> touched_ = {};  // a bit for each bin that is not empty
  std::vector<Filled> filled_;
};

ForestOptions checked(ForestOptions options, std::size_t features) {
  const auto require = [](bool good, const std::string& option, double value, const std::string& expected) {
    if (!good)
      throw Error("forest option " + option + " is " + std::to_string(value) + "; expected " + expected);
  };
  require(options.trees >= 1, "trees", options.trees, "1 or more");
  require(options.depth >= 1, "depth", options.depth, "1 or more");
  require(options.min_leaf_rows >= 1, "min_leaf_rows", options.min_leaf_rows, "1 or more");
  require(options.bins >= 2 && options.bins <= 255, "bins", options.bins, "2 to 255");
  require(options.features_per_split <= features, "features_per_split", options.features_per_split,
          "at most the number of features, " + std::to_string(features) + ", or 0 for its square root");
  if (options.features_per_split == 0)
    options.features_per_split = static_cast<unsigned>(std::sqrt(static_cast<double>(features)));
  return options;
}

}  // namespace

TreeEnsemble train_forest(const Dataset& data, const ForestOptions& options, const Training& training) {
  const ForestOptions chosen = checked(options, data.features);
  const BinnedDataset binned = bin_dataset(data, chosen.bins, training.threads);
  TreeEnsemble forest;
  forest.scale = 1.0 / chosen.trees;
  // A tree without nodes is still to be grown.
  if (const auto saved = training.checkpoint.load(training.stage))
    forest.trees = trees_from_state(*saved, data.features);
  forest.trees.resize(chosen.trees);
  std::size_t done = static_cast<std::size_t>(std::count_if(
      forest.trees.begin(), forest.trees.end(), [](const Tree& tree) { return !tree.nodes.empty(); }));
  Progress progress(training.label, chosen.trees);
  std::mutex mutex;  // guards done and progress
  training.threads.run(chosen.trees, [&](std::size_t t) {
    if (!forest.trees[t].nodes.empty() || interrupted()) return;
    forest.trees[t] = Grower(binned, data.target, chosen, Random(training.seed, t)).grow();
    const std::lock_guard lock(mutex);
    progress.update(++done);
  });
  if (done < chosen.trees) {
    training.checkpoint.save(training.stage, trees_to_state(forest.trees));
    throw Interrupted();
  }
  return forest;
}

}  // namespace tonearm
