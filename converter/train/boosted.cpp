#include "train/boosted.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <queue>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/random.h"
#include "train/binning.h"

namespace tonearm {
namespace {

constexpr std::size_t block_rows = 4096;
/// Features whose histograms one block of work fills: few, so that they stay in the first cache, but
/// enough to be worth reading a row's derivatives.
constexpr std::size_t group_features = 8;

std::size_t blocks_of(std::size_t rows) { return (rows + block_rows - 1) / block_rows; }

/// First and second derivative of a row's loss with respect to its score, in fixed point.
struct Derivatives {
  std::int32_t gradient;
  std::uint32_t hessian;
};

/// Sums over a set of rows: of the gradients, and of the hessians with the number of rows in the low
/// bits. All are integers, so the order of summation does not matter.
struct Sums {
  std::int64_t gradient = 0;
  std::uint64_t hessian_and_rows = 0;

  Sums& operator+=(const Sums& other) {
    gradient += other.gradient;
    hessian_and_rows += other.hessian_and_rows;
    return *this;
  }
  Sums operator-(const Sums& other) const {
    return {gradient - other.gradient, hessian_and_rows - other.hessian_and_rows};
  }
};

/// What the integers mean.
struct FixedPoint {
  static constexpr double gradient_scale = 0x1p30;
  int row_bits;
  double hessian_scale;

  /// The largest scale of hessians at which the sum over all rows, at most rows / 4, fits beside their
  /// number.
  explicit FixedPoint(std::size_t rows)
      : row_bits(static_cast<int>(std::bit_width(rows))),
        hessian_scale(std::ldexp(1.0, std::min(32, 64 - row_bits - (row_bits - 2)))) {}

  Derivatives round(double gradient, double hessian) const {
    // A hessian is never 0, so that a leaf with rows has a value.
    return {static_cast<std::int32_t>(gradient * gradient_scale + std::copysign(0.5, gradient)),
            std::max(1u, static_cast<std::uint32_t>(hessian * hessian_scale + 0.5))};
  }
  Sums sums(const Derivatives& row) const {
    return {row.gradient, (std::uint64_t{row.hessian} << row_bits) + 1};
  }
  std::uint64_t hessian(const Sums& sums) const { return sums.hessian_and_rows >> row_bits; }
  std::size_t rows(const Sums& sums) const {
    return sums.hessian_and_rows & ((std::uint64_t{1} << row_bits) - 1);
  }
  /// In units of 1 / gradient_scale and 1 / hessian_scale.
  static double raw_gradient(const Sums& sums) { return static_cast<double>(sums.gradient); }
  double raw_hessian(const Sums& sums) const {
    return static_cast<double>(static_cast<std::int64_t>(hessian(sums)));
  }
};

struct Split {
  double gain = 0;
  std::size_t slot = 0;  // of the feature, among those drawn for the tree
  unsigned bin = 0;
  bool missing_left = true;
};

struct Leaf {
  std::size_t begin = 0, end = 0;  // its rows, in Grower::rows_
  Sums sums;
  double score = 0;  // gradient^2 / (hessian + l2), in fixed-point units
  double value = 0;
  std::int32_t node = 0;
  unsigned depth = 0;
  bool searched = false;  // large enough to be split, so it has a histogram
  std::vector<Sums> histogram;
  Split split;

  std::size_t rows() const { return end - begin; }
};

template <std::size_t features>
void accumulate(const BinnedDataset& data, const std::size_t* feature, Sums* const* histogram,
                std::span<const std::uint32_t> rows, const Derivatives* derivatives, const FixedPoint& fixed,
                bool subtract) {
  for (const std::uint32_t row : rows) {
    const std::uint8_t* bins = data.row(row);
    Sums sums = fixed.sums(derivatives[row]);
    if (subtract) sums = Sums{} - sums;
    for (std::size_t k = 0; k < features; ++k) histogram[k][bins[feature[k]]] += sums;
  }
}

template <std::size_t... counts>
constexpr auto accumulators(std::index_sequence<counts...>) {
  return std::array{&accumulate<counts>...};
}

/// Grows one tree on the given derivatives of all rows.
class Grower {
 public:
  Grower(const BinnedDataset& data, const BoostedOptions& options, const FixedPoint& fixed, Threads& threads)
      : data_(data), options_(options), fixed_(fixed), threads_(threads), derivatives_(data.rows) {
    // Integers have their own units of gain and regularisation.
    gain_unit_ = fixed.hessian_scale / (FixedPoint::gradient_scale * FixedPoint::gradient_scale);
    l2_ = options.l2 * fixed.hessian_scale;
    min_hessian_ = static_cast<std::uint64_t>(std::min(
        std::ceil(options.min_leaf_hessian * fixed.hessian_scale), 0x1p62));  // more than all rows have
  }

  std::vector<Derivatives>& derivatives() { return derivatives_; }

  /// A tree without nodes if no split gains anything.
  Tree grow(Random random) {
    draw(random);
    leaves_.clear();
    Leaf& root = leaves_.emplace_back();
    root.end = rows_.size();
    root.sums = sum(rows_);
    root.score = score(root.sums);
    root.value = newton_step(root.sums);
    root.searched = true;
    root.histogram = take_histogram();
    threads_.run(groups_.size(), [&](std::size_t g) { fill_histogram(groups_[g], leaves_[0]); });
    const bool symmetric = options_.growth == BoostedOptions::Growth::symmetric;
    Tree tree = symmetric ? grow_symmetric() : grow_leaf_wise();
    for (Leaf& leaf : leaves_) give_back(leaf);
    return tree;
  }

  /// Adds the values of the leaves of the tree that was grown last to the scores of its rows.
  void add_to(std::vector<double>& scores) const {
    threads_.run(leaves_.size(), [&](std::size_t i) {
      const Leaf& leaf = leaves_[i];
      for (std::size_t at = leaf.begin; at < leaf.end; ++at) scores[rows_[at]] += leaf.value;
    });
  }
  /// The rows that were not drawn for that tree.
  std::span<const std::uint32_t> left_out() const { return left_out_; }

 private:
  struct Group {
    std::size_t first_slot, last_slot;  // [first, last)
  };

  void draw(Random& random) {
    const auto share_of = [](double share, std::size_t count) {
      return std::max<std::size_t>(1,
                                   static_cast<std::size_t>(std::lround(share * static_cast<double>(count))));
    };
    const auto select = [&](std::size_t count, double share, auto take, auto leave) {
      std::size_t wanted = share_of(share, count);
      for (std::size_t i = 0; i < count; ++i) {
        // Selection sampling: each of the rest is as likely to be among the wanted as any other.
        if (wanted == count - i || random.below(static_cast<std::uint32_t>(count - i)) < wanted) {
          take(i);
          --wanted;
        } else {
          leave(i);
        }
      }
    };
    features_.clear();
    select(
        data_.features, options_.feature_share, [&](std::size_t i) { features_.push_back(i); },
        [](std::size_t) {});
    rows_.clear();
    left_out_.clear();
    select(
        data_.rows, options_.row_share,
        [&](std::size_t i) { rows_.push_back(static_cast<std::uint32_t>(i)); },
        [&](std::size_t i) { left_out_.push_back(static_cast<std::uint32_t>(i)); });
    scratch_.resize(rows_.size());

    first_cell_.assign(1, 0);
    for (const std::size_t feature : features_)
      first_cell_.push_back(first_cell_.back() + data_.value_bins(feature) + 1);
    groups_.clear();
    const std::size_t groups = (features_.size() + group_features - 1) / group_features;
    for (std::size_t g = 0; g < groups; ++g)
      groups_.push_back({g * features_.size() / groups, (g + 1) * features_.size() / groups});
  }

  Sums sum(std::span<const std::uint32_t> rows) const {
    std::vector<Sums> partial(blocks_of(rows.size()));
    threads_.run(partial.size(), [&](std::size_t block) {
      const std::size_t begin = block * block_rows, end = std::min(rows.size(), begin + block_rows);
      for (std::size_t i = begin; i < end; ++i) partial[block] += fixed_.sums(derivatives_[rows[i]]);
    });
    Sums total;
    for (const Sums& sums : partial) total += sums;
    return total;
  }

  bool large_enough(const Sums& sums) const {
    return fixed_.rows(sums) >= options_.min_leaf_rows && fixed_.hessian(sums) >= min_hessian_;
  }

  double score(const Sums& sums) const {
    const double gradient = FixedPoint::raw_gradient(sums);
    return gradient * gradient / (fixed_.raw_hessian(sums) + l2_);
  }

  double newton_step(const Sums& sums) const {
    return -(FixedPoint::raw_gradient(sums) / FixedPoint::gradient_scale) /
           ((fixed_.raw_hessian(sums) + l2_) / fixed_.hessian_scale) * options_.rate;
  }

  std::vector<Sums> take_histogram() {
    std::vector<Sums> histogram;
    if (!spare_.empty()) {
      histogram = std::move(spare_.back());
      spare_.pop_back();
    }
    histogram.resize(first_cell_.back());
    return histogram;
  }

  void give_back(Leaf& leaf) {
    if (!leaf.histogram.empty()) spare_.push_back(std::move(leaf.histogram));
    leaf.histogram.clear();
  }

  // ---- histograms

  void add_rows(const Group& group, const Leaf& leaf, std::vector<Sums>& histogram, bool subtract) const {
    static constexpr auto kernels = accumulators(std::make_index_sequence<group_features + 1>());
    std::array<Sums*, group_features> histograms;
    for (std::size_t slot = group.first_slot; slot < group.last_slot; ++slot)
      histograms[slot - group.first_slot] = histogram.data() + first_cell_[slot];
    kernels[group.last_slot - group.first_slot](data_, features_.data() + group.first_slot, histograms.data(),
                                                std::span(rows_).subspan(leaf.begin, leaf.rows()),
                                                derivatives_.data(), fixed_, subtract);
  }

  void fill_histogram(const Group& group, Leaf& leaf) const {
    std::fill(leaf.histogram.begin() + static_cast<std::ptrdiff_t>(first_cell_[group.first_slot]),
              leaf.histogram.begin() + static_cast<std::ptrdiff_t>(first_cell_[group.last_slot]), Sums{});
    add_rows(group, leaf, leaf.histogram, false);
  }

  /// Fills the histograms of siblings after divide(): only the rows of the smaller one are read.
  void fill_siblings(const Group& group, Leaf& left, Leaf& right) const {
    Leaf& small = left.rows() < right.rows() ? left : right;
    Leaf& large = left.rows() < right.rows() ? right : left;
    if (small.searched) fill_histogram(group, small);
    if (!large.searched) return;
    if (!small.searched) return add_rows(group, small, large.histogram, true);
    for (std::size_t i = first_cell_[group.first_slot]; i < first_cell_[group.last_slot]; ++i)
      large.histogram[i] = large.histogram[i] - small.histogram[i];
  }

  // ---- splits

  /// Calls visit(first, last, missing, left) for every way to split `leaf` on the feature: the
  /// thresholds from first to last all send the rows of `left` left.
  template <typename Visit>
  void for_each_split(const Leaf& leaf, std::size_t slot, Visit visit) const {
    const Sums* cells = leaf.histogram.data() + first_cell_[slot];
    const unsigned last_bin = data_.value_bins(features_[slot]) - 1;
    const auto sweep = [&](Sums left, MissingSide missing) {
      unsigned bin = 0;
      while (bin < last_bin && cells[bin].hessian_and_rows == 0) ++bin;
      while (bin < last_bin) {
        left += cells[bin];
        const unsigned first = bin++;
        while (bin < last_bin && cells[bin].hessian_and_rows == 0) ++bin;
        visit(first, bin - 1, missing, left);
      }
    };
    const Sums missing = cells[last_bin + 1];
    if (missing.hessian_and_rows == 0) return sweep({}, MissingSide::absent);
    sweep(missing, MissingSide::left);
    sweep({}, MissingSide::right);
  }

  /// What `leaf` gains by a split that sends `left` left (Chen, Guestrin 2016, equation 7, times 2), or 0
  /// if one of its children would be too small.
  double gain(const Leaf& leaf, const Sums& left) const {
    const Sums right = leaf.sums - left;
    if (!large_enough(left) || !large_enough(right)) return 0;
    const double left_gradient = FixedPoint::raw_gradient(left);
    const double right_gradient = FixedPoint::raw_gradient(right);
    const double left_hessian = fixed_.raw_hessian(left) + l2_;
    const double right_hessian = fixed_.raw_hessian(right) + l2_;
    const double children =
        (left_gradient * left_gradient * right_hessian + right_gradient * right_gradient * left_hessian) /
        (left_hessian * right_hessian);
    const double gained = children - leaf.score;
    // Rows that are all alike gain nothing, give or take the rounding: no reason to split them.
    return std::abs(gained) > children * 0x1p-40 ? gained * gain_unit_ : 0;
  }

  /// The best split of one leaf, on the features of one group.
  Split best_split(const Group& group, const Leaf& leaf) const {
    Split best = none();
    if (!leaf.searched) return best;
    for (std::size_t slot = group.first_slot; slot < group.last_slot; ++slot) {
      const bool never_missing = data_.has_missing[features_[slot]] == 0;
      for_each_split(leaf, slot, [&](unsigned first, unsigned last, MissingSide missing, const Sums& left) {
        const double gained = gain(leaf, left);
        if (gained <= best.gain) return;
        // Blobs need but one direction of a feature that is never missing: left. Otherwise, where no row
        // shows the better direction, it is that of most rows.
        const bool missing_left = missing == MissingSide::left ||
                                  (missing == MissingSide::absent &&
                                   (never_missing || 2 * fixed_.rows(left) > fixed_.rows(leaf.sums)));
        best = {gained, slot, (first + last) / 2, missing_left};
      });
    }
    return best;
  }

  /// The question that gains most when all `leaves` are asked, on the features of one group.
  Split best_common_split(const Group& group, const std::vector<Leaf>& leaves) const {
    Split best = none();
    for (std::size_t slot = group.first_slot; slot < group.last_slot; ++slot) {
      std::array<double, 256> missing_left = {}, missing_right = {};
      for (const Leaf& leaf : leaves)
        if (leaf.searched)
          for_each_split(leaf, slot,
                         [&](unsigned first, unsigned last, MissingSide missing, const Sums& left) {
                           const double gained = gain(leaf, left);
                           for (unsigned bin = first; bin <= last; ++bin) {
                             if (missing != MissingSide::right) missing_left[bin] += gained;
                             if (missing != MissingSide::left) missing_right[bin] += gained;
                           }
                         });
      for (unsigned bin = 0; bin + 1 < data_.value_bins(features_[slot]); ++bin) {
        if (missing_left[bin] > best.gain) best = {missing_left[bin], slot, bin, true};
        if (missing_right[bin] > best.gain) best = {missing_right[bin], slot, bin, false};
      }
    }
    return best;
  }

  Split none() const { return {.gain = options_.min_gain}; }
  bool found(const Split& split) const { return split.gain > options_.min_gain; }

  // ---- growth

  Tree grow_leaf_wise() {
    leaves_.reserve(std::min<std::size_t>(options_.leaves, rows_.size()));
    std::vector<std::pair<Split, Split>> proposals(groups_.size());
    std::priority_queue<std::pair<double, std::size_t>> open;  // gains of leaves worth splitting
    const auto offer = [&](std::size_t i, auto proposal) {
      Split& best = leaves_[i].split;
      for (const auto& proposed : proposals)
        if ((proposed.*proposal).gain > best.gain) best = proposed.*proposal;
      if (found(best)) open.emplace(best.gain, i);
    };
    threads_.run(groups_.size(),
                 [&](std::size_t g) { proposals[g].first = best_split(groups_[g], leaves_[0]); });
    offer(0, &std::pair<Split, Split>::first);
    if (open.empty()) return {};

    Tree tree;
    tree.nodes.emplace_back();
    while (!open.empty() && leaves_.size() < options_.leaves) {
      const std::size_t i = open.top().second;
      open.pop();
      Leaf& left = leaves_[i];
      const auto child = static_cast<std::int32_t>(tree.nodes.size());
      tree.nodes[static_cast<std::size_t>(left.node)] = asking(left.split, child);
      tree.nodes.resize(tree.nodes.size() + 2);
      Leaf& right = leaves_.emplace_back(divide(left, left.split));
      left.node = child;
      right.node = child + 1;
      if (leaves_.size() == options_.leaves || !(left.searched || right.searched)) continue;
      threads_.run(groups_.size(), [&](std::size_t g) {
        fill_siblings(groups_[g], left, right);
        proposals[g] = {best_split(groups_[g], left), best_split(groups_[g], right)};
      });
      offer(i, &std::pair<Split, Split>::first);
      offer(leaves_.size() - 1, &std::pair<Split, Split>::second);
    }
    for (const Leaf& leaf : leaves_) tree.nodes[static_cast<std::size_t>(leaf.node)].value = leaf.value;
    return tree;
  }

  Tree grow_symmetric() {
    std::vector<Split> questions, proposals(groups_.size());
    for (unsigned level = 0; level < options_.depth; ++level) {
      threads_.run(groups_.size(), [&](std::size_t g) {
        for (std::size_t i = 0; i + 1 < leaves_.size(); i += 2)
          fill_siblings(groups_[g], leaves_[i], leaves_[i + 1]);
        proposals[g] = best_common_split(groups_[g], leaves_);
      });
      Split best = none();
      for (const Split& proposed : proposals)
        if (proposed.gain > best.gain) best = proposed;
      if (!found(best)) {
        if (level == 0) return {};
        best = questions.back();  // asking again changes nothing, and the tree stays complete
      }
      questions.push_back(best);
      std::vector<Leaf> children;
      children.reserve(2 * leaves_.size());
      for (Leaf& leaf : leaves_) {
        Leaf right = divide(leaf, best);
        children.push_back(std::move(leaf));
        children.push_back(std::move(right));
      }
      leaves_ = std::move(children);
    }
    Tree tree;
    for (unsigned level = 0; level < options_.depth; ++level)
      for (std::size_t i = 0; i < std::size_t{1} << level; ++i)
        tree.nodes.push_back(asking(questions[level], static_cast<std::int32_t>(2 * tree.nodes.size() + 1)));
    for (const Leaf& leaf : leaves_) tree.nodes.emplace_back().value = leaf.value;
    return tree;
  }

  /// Splits `leaf`: it becomes its own left child, and the right one is returned. The larger of both
  /// has the histogram of their parent.
  Leaf divide(Leaf& leaf, Split split) {
    const Sums left_sums = sums_left(leaf, split);
    const std::uint32_t* others = partition_without_branches(
        rows_.data() + leaf.begin, rows_.data() + leaf.end, scratch_.data(),
        [question = binned(split)](std::uint32_t row) { return question.goes_left(row); });
    const auto middle = static_cast<std::size_t>(others - rows_.data());
    Leaf right;
    right.begin = middle;
    right.end = std::exchange(leaf.end, middle);
    right.sums = leaf.sums - left_sums;
    leaf.sums = left_sums;
    right.depth = ++leaf.depth;
    right.value = leaf.value;
    const unsigned max_depth = options_.depth == 0 ? std::numeric_limits<unsigned>::max() : options_.depth;
    for (Leaf* child : {&leaf, &right}) {
      // Symmetric trees split small leaves as well; what too few rows say is noise.
      if (large_enough(child->sums)) child->value = newton_step(child->sums);
      child->searched = child->depth < max_depth && fixed_.rows(child->sums) / 2 >= options_.min_leaf_rows &&
                        fixed_.hessian(child->sums) / 2 >= min_hessian_;
      child->score = score(child->sums);
      child->split = none();
    }
    Leaf& small = leaf.rows() < right.rows() ? leaf : right;
    Leaf& large = leaf.rows() < right.rows() ? right : leaf;
    if (&large == &right) std::swap(leaf.histogram, right.histogram);
    if (small.searched) small.histogram = take_histogram();
    if (!large.searched) give_back(large);
    return right;
  }

  Sums sums_left(const Leaf& leaf, const Split& split) const {
    Sums sums;
    if (leaf.searched) {
      const Sums* cells = leaf.histogram.data() + first_cell_[split.slot];
      for (unsigned bin = 0; bin <= split.bin; ++bin) sums += cells[bin];
      if (split.missing_left) sums += cells[data_.value_bins(features_[split.slot])];
    } else {
      const BinnedQuestion question = binned(split);
      for (std::size_t i = leaf.begin; i < leaf.end; ++i)
        if (question.goes_left(rows_[i]) != 0) sums += fixed_.sums(derivatives_[rows_[i]]);
    }
    return sums;
  }

  BinnedQuestion binned(const Split& split) const {
    return {data_, features_[split.slot], split.bin, split.missing_left};
  }

  TreeNode asking(const Split& split, std::int32_t left) const {
    const std::size_t feature = features_[split.slot];
    return {static_cast<std::int32_t>(feature),
            data_.thresholds[feature][split.bin],
            split.missing_left,
            left,
            left + 1,
            0};
  }

  const BinnedDataset& data_;
  const BoostedOptions& options_;
  const FixedPoint& fixed_;
  Threads& threads_;
  double gain_unit_, l2_;
  std::uint64_t min_hessian_;
  std::vector<Derivatives> derivatives_;  // of all rows
  std::vector<std::size_t> features_;     // drawn for the tree, ascending
  std::vector<std::size_t> first_cell_;   // of each drawn feature in a histogram, and the total
  std::vector<Group> groups_;
  std::vector<std::uint32_t> rows_, left_out_, scratch_;
  std::vector<Leaf> leaves_;
  std::vector<std::vector<Sums>> spare_;  // histograms to be used again
};

/// -log likelihood of one row, from its score.
double log_loss(double score, float target) {
  return std::log1p(std::exp(-std::abs(score))) + std::max(score, 0.0) - static_cast<double>(target) * score;
}

/// Sums term(row) over all rows, in an order that the number of threads has no part in.
template <typename Term>
double ordered_sum(Threads& threads, std::size_t rows, Term term) {
  std::vector<double> partial(blocks_of(rows));
  threads.run(partial.size(), [&](std::size_t block) {
    const std::size_t end = std::min(rows, (block + 1) * block_rows);
    for (std::size_t row = block * block_rows; row < end; ++row) partial[block] += term(row);
  });
  return std::accumulate(partial.begin(), partial.end(), 0.0);
}

/// Calls body(row) for all rows.
template <typename Body>
void for_each_row(Threads& threads, std::size_t rows, Body body) {
  threads.run(blocks_of(rows), [&](std::size_t block) {
    const std::size_t end = std::min(rows, (block + 1) * block_rows);
    for (std::size_t row = block * block_rows; row < end; ++row) body(row);
  });
}

/// A tree that says 0 and fits the options, for data that teaches nothing.
Tree idle_tree(const BoostedOptions& options) {
  Tree tree;
  const bool symmetric = options.growth == BoostedOptions::Growth::symmetric;
  const std::int32_t questions = symmetric ? (1 << options.depth) - 1 : 0;
  for (std::int32_t node = 0; node < questions; ++node)
    tree.nodes.push_back({0, 0, true, 2 * node + 1, 2 * node + 2, 0});
  tree.nodes.resize(tree.nodes.size() + static_cast<std::size_t>(questions) + 1);
  return tree;
}

void check(const BoostedOptions& options, const Dataset& data, const Dataset& validation) {
  const auto require = [](bool good, const std::string& option, double value, const std::string& expected) {
    if (!good)
      throw Error("boosting option " + option + " is " + std::to_string(value) + "; expected " + expected);
  };
  const auto at_least_0 = [&](const std::string& option, double value) {
    require(value >= 0 && std::isfinite(value), option, value, "0 or more");
  };
  const auto share = [&](const std::string& option, double value) {
    require(value > 0 && value <= 1, option, value, "above 0 and at most 1");
  };
  const bool symmetric = options.growth == BoostedOptions::Growth::symmetric;
  require(options.trees >= 1, "trees", options.trees, "1 or more");
  if (symmetric)
    require(options.depth >= 1 && options.depth <= 16, "depth", options.depth, "1 to 16 for symmetric trees");
  else
    require(options.leaves >= 2, "leaves", options.leaves, "2 or more");
  share("rate", options.rate);
  require(options.min_leaf_rows >= 1, "min_leaf_rows", options.min_leaf_rows, "1 or more");
  at_least_0("min_leaf_hessian", options.min_leaf_hessian);
  at_least_0("l2", options.l2);
  at_least_0("min_gain", options.min_gain);
  share("feature_share", options.feature_share);
  share("row_share", options.row_share);
  require(options.bins >= 2 && options.bins <= 255, "bins", options.bins, "2 to 255");
  if (options.patience > 0 && (validation.rows == 0 || validation.features != data.features))
    throw Error("boosting with patience " + std::to_string(options.patience) +
                " needs validation rows of the same " + std::to_string(data.features) +
                " features, and was given " + std::to_string(validation.rows) + " of " +
                std::to_string(validation.features));
}

}  // namespace

TreeEnsemble train_boosted(const Dataset& data, const Dataset& validation, const BoostedOptions& options,
                           const Training& training) {
  check(options, data, validation);
  Threads& threads = training.threads;
  const BinnedDataset binned = bin_dataset(data, options.bins, threads);
  const auto positive = static_cast<double>(std::count(data.target.begin(), data.target.end(), 1.0f));
  TreeEnsemble ensemble;
  ensemble.base = {std::log(positive / (static_cast<double>(data.rows) - positive))};
  std::vector<Tree>& trees = ensemble.trees;
  std::vector<double> scores(data.rows, ensemble.base[0]);
  std::vector<double> validation_scores(options.patience > 0 ? validation.rows : 0, ensemble.base[0]);

  // Saved trees are not grown but only added to the scores, in the same order as the first time.
  std::vector<Tree> saved;
  if (const auto state = training.checkpoint.load(training.stage))
    saved = trees_from_state(*state, data.features);

  const FixedPoint fixed(data.rows);
  Grower grower(binned, options, fixed, threads);
  Progress progress(training.label, options.trees);
  double best_loss = std::numeric_limits<double>::infinity();
  std::size_t best_count = 0;
  while (trees.size() < options.trees) {
    if (trees.size() < saved.size()) {
      trees.push_back(saved[trees.size()]);
      for_each_row(threads, data.rows,
                   [&](std::size_t row) { scores[row] += tree_value(trees.back(), data.row(row)); });
    } else {
      if (interrupted()) {
        training.checkpoint.save(training.stage, trees_to_state(trees));
        throw Interrupted();
      }
      for_each_row(threads, data.rows, [&](std::size_t row) {
        const double probability = 1 / (1 + std::exp(-scores[row]));
        grower.derivatives()[row] =
            fixed.round(probability - static_cast<double>(data.target[row]), probability * (1 - probability));
      });
      Tree tree = grower.grow(Random(training.seed, trees.size()));
      if (tree.nodes.empty()) break;
      trees.push_back(std::move(tree));
      grower.add_to(scores);
      const std::span<const std::uint32_t> left_out = grower.left_out();
      for_each_row(threads, left_out.size(), [&](std::size_t i) {
        scores[left_out[i]] += tree_value(trees.back(), data.row(left_out[i]));
      });
    }
    if (options.patience == 0) {
      progress.update(trees.size());
      continue;
    }
    const double loss = ordered_sum(threads, validation.rows,
                                    [&](std::size_t row) {
                                      validation_scores[row] += tree_value(trees.back(), validation.row(row));
                                      return log_loss(validation_scores[row], validation.target[row]);
                                    }) /
                        static_cast<double>(validation.rows);
    if (loss < best_loss) {
      best_loss = loss;
      best_count = trees.size();
    }
    if (trees.size() - best_count >= options.patience) break;
    char note[40];
    std::snprintf(note, sizeof note, "log loss %.4f", loss);
    progress.update(trees.size(), note);
  }
  if (options.patience > 0) trees.resize(best_count);
  if (trees.empty()) trees.push_back(idle_tree(options));
  if (options.growth == BoostedOptions::Growth::symmetric)
    ensemble.symmetric_depth = static_cast<int>(options.depth);
  return ensemble;
}

}  // namespace tonearm
