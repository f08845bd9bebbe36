#include "train/boosted.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
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

/// Calls body(row) for all rows.
template <typename Body>
void for_each_row(Threads& threads, std::size_t rows, Body body) {
  threads.run(blocks_of(rows), [&](std::size_t block) {
    const std::size_t end = std::min(rows, (block + 1) * block_rows);
    for (std::size_t row = block * block_rows; row < end; ++row) body(row);
  });
}

/// Calls body(worker, first, rows) for all blocks of rows, each with one of `workers`, which hold what a
/// thread needs for itself: buffers, and sums of integers, which do not mind in which order they are added.
template <typename Worker, typename Body>
void for_each_block(Threads& threads, std::vector<Worker>& workers, std::size_t rows, std::size_t at_once,
                    bool in_memory, Body body) {
  workers.resize(threads.count());
  std::atomic<std::size_t> next = 0;
  threads.run(workers.size(), [&](std::size_t worker) {
    for (std::size_t first; (first = next.fetch_add(at_once)) < rows;) {
      if (!in_memory && interrupted()) throw Interrupted();
      body(workers[worker], first, std::min(at_once, rows - first));
    }
  });
}

/// How many rows to read at a time so that all threads together stay within a quarter of the limit.
std::size_t rows_at_once(const MemoryLimit& limit, std::size_t row_bytes, const Threads& threads) {
  const std::size_t rows = limit.bytes / 4 / threads.count() / row_bytes;
  return std::clamp<std::size_t>(rows / block_rows, 1, 16) * block_rows;
}

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

  /// `key` is another for each row and tree.
  Derivatives round(double gradient, double hessian, std::uint64_t key) const {
    const auto rounded = static_cast<std::int32_t>(gradient * gradient_scale + std::copysign(0.5, gradient));
    // A hessian is never 0, so that a leaf with rows has a value.
    if (hessian_scale >= 0x1p16)
      return {rounded, std::max(1u, static_cast<std::uint32_t>(hessian * hessian_scale + 0.5))};
    // Beyond 2^25 rows so few bits are left that rounding to the nearest would shift the sums of rows that
    // are alike; rounding at random does not (Shi et al. 2022).
    const double random = static_cast<double>(mix64(key) >> 11) * 0x1p-53;
    return {rounded, static_cast<std::uint32_t>(hessian * hessian_scale + random)};
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

/// A node of the tree that is being grown.
struct Node {
  Sums sums;
  double score = 0;  // gradient^2 / (hessian + l2), in fixed-point units
  double value = 0;
  unsigned depth = 0;
  bool searched = false;  // large enough to be split, so it has a histogram
  std::vector<Sums> histogram;
  Split split;
  std::int32_t left = -1;          // its left child, if it has any; the right one is the next
  bool divided = false;            // the rows, and what is known of them, have been passed to the children
  bool in_tree = false;            // the split is one of the tree's; otherwise children are a guess
  std::size_t begin = 0, end = 0;  // its rows in memory: InMemory::rows_[begin, end)
};

/// A tree as rows walk it.
struct Step {
  std::uint32_t feature = 0, last_left = 0;
  std::uint32_t also_left = 0;  // as in BinnedQuestion
  std::int32_t left = -1, right = -1;
  double value = 0;

  void ask(const Cuts& cuts, std::size_t asked, unsigned bin, bool missing_left) {
    feature = static_cast<std::uint32_t>(asked);
    last_left = bin;
    also_left = missing_left ? cuts.value_bins(asked) : 256;
  }
};
using Steps = std::vector<Step>;

std::size_t walk(const Steps& steps, const std::uint8_t* bins, std::size_t at) {
  while (steps[at].left >= 0) {
    const Step& step = steps[at];
    const unsigned bin = bins[step.feature];
    at = static_cast<std::size_t>(bin <= step.last_left || bin == step.also_left ? step.left : step.right);
  }
  return at;
}

Steps steps_of(const Tree& tree, const Cuts& cuts) {
  Steps steps;
  for (const TreeNode& node : tree.nodes) {
    Step& step = steps.emplace_back();
    step.value = node.value;
    if (node.feature < 0) continue;
    const auto feature = static_cast<std::size_t>(node.feature);
    step.ask(cuts, feature, bin_of(cuts.thresholds[feature], node.threshold), node.missing_left);
    step.left = node.left;
    step.right = node.right;
  }
  return steps;
}

/// The features drawn for a tree, and where their cells lie in a histogram.
struct Drawn {
  struct Group {
    std::size_t first_slot, last_slot;  // [first, last)
  };
  std::vector<std::size_t> features;    // ascending
  std::vector<std::size_t> first_cell;  // of each, and the total
  std::vector<Group> groups;

  std::size_t cells() const { return first_cell.back(); }
};

/// Selection sampling: each of the rest is as likely to be among the wanted as any other.
struct Selection {
  Random random;
  std::size_t left, wanted;

  Selection(const Random& source, std::size_t count, double share)
      : random(source),
        left(count),
        wanted(std::max<std::size_t>(
            1, static_cast<std::size_t>(std::lround(share * static_cast<double>(count))))) {}

  /// Whether the next one is selected.
  bool next() {
    const bool selected = wanted == left || random.below(static_cast<std::uint32_t>(left)) < wanted;
    --left;
    if (selected) --wanted;
    return selected;
  }
};

template <std::size_t features>
void accumulate(const std::uint8_t* all_bins, std::size_t stride, const std::size_t* feature,
                Sums* const* histogram, std::span<const std::uint32_t> rows, const Derivatives* derivatives,
                const FixedPoint& fixed, bool subtract) {
  for (const std::uint32_t row : rows) {
    const std::uint8_t* bins = all_bins + row * stride;
    Sums sums = fixed.sums(derivatives[row]);
    if (subtract) sums = Sums{} - sums;
    for (std::size_t k = 0; k < features; ++k) histogram[k][bins[feature[k]]] += sums;
  }
}

template <std::size_t... counts>
constexpr auto accumulators(std::index_sequence<counts...>) {
  return std::array{&accumulate<counts>...};
}

/// The rows that trees are grown on, with their scores and derivatives.
class TrainingRows {
 public:
  /// Called for every group of features, from several threads, when its part of histograms is complete.
  using Filled = std::function<void(const Drawn::Group&, std::size_t number)>;

  TrainingRows(const BinnedRows& data, const BoostedOptions& options, const FixedPoint& fixed,
               Threads& threads)
      : data_(data), options_(options), fixed_(fixed), threads_(threads) {}
  virtual ~TrainingRows() = default;

  /// How many nodes to divide at once: more than are known to be split, where that saves passes.
  virtual std::size_t divisions_at_once(const Drawn& drawn) const = 0;
  /// Draws rows for the next tree; the sums of their derivatives.
  virtual Sums start(const Drawn& drawn, const Random& random, std::uint64_t tree) = 0;
  /// Then fills the histogram of all.
  virtual void fill_root(const Drawn& drawn, Node& root, const Filled& filled) = 0;
  /// Divides the rows of `parents` between their children: fills the histograms of those children that are
  /// searched, if any are, and finds the sums of those whose parents were not.
  virtual void divide(const Drawn& drawn, std::vector<Node>& nodes, std::span<const std::size_t> parents,
                      const Filled& filled) = 0;
  /// Adds the values of the tree to the scores of all rows.
  virtual void add(const Drawn& drawn, std::vector<Node>& nodes) = 0;
  virtual void add(const Tree& tree) = 0;

 protected:
  Derivatives derivatives(double score, std::uint8_t target, std::uint64_t tree, std::size_t row) const {
    const double probability = 1 / (1 + std::exp(-score));
    return fixed_.round(probability - static_cast<double>(target), probability * (1 - probability),
                        tree << 32 ^ row);
  }

  /// Adds (or subtracts) rows to the group's part of a histogram. Rows are counted from `bins`.
  void add_rows(const Drawn& drawn, const Drawn::Group& group, const std::uint8_t* bins,
                const Derivatives* derivatives, std::span<const std::uint32_t> rows, Sums* histogram,
                bool subtract) const {
    static constexpr auto kernels = accumulators(std::make_index_sequence<group_features + 1>());
    std::array<Sums*, group_features> histograms;
    for (std::size_t slot = group.first_slot; slot < group.last_slot; ++slot)
      histograms[slot - group.first_slot] = histogram + drawn.first_cell[slot];
    kernels[group.last_slot - group.first_slot](bins, data_.features,
                                                drawn.features.data() + group.first_slot, histograms.data(),
                                                rows, derivatives, fixed_, subtract);
  }

  /// The children of `parent`, the one with fewer rows first.
  std::pair<std::size_t, std::size_t> small_and_large(const std::vector<Node>& nodes,
                                                      const Node& parent) const {
    const auto left = static_cast<std::size_t>(parent.left), right = left + 1;
    if (fixed_.rows(nodes[left].sums) < fixed_.rows(nodes[right].sums)) return {left, right};
    return {right, left};
  }

  /// The tree that was grown, for rows that have reached any of its nodes; those below a leaf were a guess
  /// and have its value.
  Steps steps_of_grown(const Drawn& drawn, const std::vector<Node>& nodes) const {
    Steps steps(nodes.size());
    std::vector<bool> in_tree(nodes.size());
    in_tree[0] = true;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const Node& node = nodes[i];
      if (in_tree[i]) steps[i].value = node.value;
      if (node.left < 0) continue;
      const auto left = static_cast<std::size_t>(node.left);
      in_tree[left] = in_tree[left + 1] = in_tree[i] && node.in_tree;
      if (in_tree[left])
        ask(drawn, node, steps[i]);
      else
        steps[left].value = steps[left + 1].value = steps[i].value;
    }
    return steps;
  }

  void ask(const Drawn& drawn, const Node& node, Step& step) const {
    step.ask(data_, drawn.features[node.split.slot], node.split.bin, node.split.missing_left);
    step.left = node.left;
    step.right = node.left + 1;
  }

  const BinnedRows& data_;
  const BoostedOptions& options_;
  const FixedPoint& fixed_;
  Threads& threads_;
};

/// Everything in memory. The rows of a node are a range of row numbers, so that dividing it touches
/// nothing else.
class InMemory : public TrainingRows {
 public:
  InMemory(const BinnedRows& data, double base, const BoostedOptions& options, const FixedPoint& fixed,
           Threads& threads)
      : TrainingRows(data, options, fixed, threads), scores_(data.rows, base), derivatives_(data.rows) {}

  std::size_t divisions_at_once(const Drawn&) const override { return 1; }

  Sums start(const Drawn&, const Random& random, std::uint64_t tree) override {
    const std::uint8_t* const target = data_.target.memory().data();
    for_each_row(threads_, data_.rows, [&](std::size_t row) {
      derivatives_[row] = derivatives(scores_[row], target[row], tree, row);
    });
    rows_.clear();
    left_out_.clear();
    Selection selection(random, data_.rows, options_.row_share);
    for (std::uint32_t row = 0; row < data_.rows; ++row)
      (selection.next() ? rows_ : left_out_).push_back(row);
    scratch_.resize(rows_.size());

    std::vector<Sums> partial(blocks_of(rows_.size()));
    threads_.run(partial.size(), [&](std::size_t block) {
      const std::size_t begin = block * block_rows, end = std::min(rows_.size(), begin + block_rows);
      for (std::size_t i = begin; i < end; ++i) partial[block] += fixed_.sums(derivatives_[rows_[i]]);
    });
    Sums total;
    for (const Sums& sums : partial) total += sums;
    return total;
  }

  void fill_root(const Drawn& drawn, Node& root, const Filled& filled) override {
    root.end = rows_.size();
    threads_.run(drawn.groups.size(), [&](std::size_t g) {
      fill(drawn, drawn.groups[g], root);
      filled(drawn.groups[g], g);
    });
  }

  void divide(const Drawn& drawn, std::vector<Node>& nodes, std::span<const std::size_t> parents,
              const Filled& filled) override {
    threads_.run(parents.size(), [&](std::size_t k) { partition(drawn, nodes, parents[k]); });
    const bool searched = std::any_of(parents.begin(), parents.end(), [&](std::size_t parent) {
      const auto left = static_cast<std::size_t>(nodes[parent].left);
      return nodes[left].searched || nodes[left + 1].searched;
    });
    if (!searched) return;
    threads_.run(drawn.groups.size(), [&](std::size_t g) {
      for (const std::size_t parent : parents) fill_children(drawn, drawn.groups[g], nodes, nodes[parent]);
      filled(drawn.groups[g], g);
    });
  }

  void add(const Drawn& drawn, std::vector<Node>& nodes) override {
    threads_.run(nodes.size(), [&](std::size_t i) {
      if (nodes[i].in_tree && !nodes[i].divided) partition(drawn, nodes, i);
    });
    threads_.run(nodes.size(), [&](std::size_t i) {
      const Node& node = nodes[i];
      if (node.in_tree) return;
      for (std::size_t at = node.begin; at < node.end; ++at) scores_[rows_[at]] += node.value;
    });
    if (left_out_.empty()) return;
    const Steps steps = steps_of_grown(drawn, nodes);
    for_each_row(threads_, left_out_.size(), [&](std::size_t i) { add(steps, left_out_[i]); });
  }

  void add(const Tree& tree) override {
    const Steps steps = steps_of(tree, data_);
    for_each_row(threads_, data_.rows, [&](std::size_t row) { add(steps, row); });
  }

 private:
  void add(const Steps& steps, std::size_t row) {
    scores_[row] += steps[walk(steps, data_.bins.memory().data() + row * data_.features, 0)].value;
  }

  /// Rows of different nodes do not meet, so several threads may each divide theirs.
  void partition(const Drawn& drawn, std::vector<Node>& nodes, std::size_t number) {
    Node& parent = nodes[number];
    Node& left = nodes[static_cast<std::size_t>(parent.left)];
    Node& right = nodes[static_cast<std::size_t>(parent.left) + 1];
    const BinnedQuestion question(data_.bins.memory().data(), data_, drawn.features[parent.split.slot],
                                  parent.split.bin, parent.split.missing_left);
    const std::uint32_t* others = partition_without_branches(
        rows_.data() + parent.begin, rows_.data() + parent.end, scratch_.data() + parent.begin,
        [question](std::uint32_t row) { return question.goes_left(row); });
    left.begin = parent.begin;
    left.end = right.begin = static_cast<std::size_t>(others - rows_.data());
    right.end = parent.end;
    parent.divided = true;
    if (parent.searched) return;
    for (std::size_t i = left.begin; i < left.end; ++i) left.sums += fixed_.sums(derivatives_[rows_[i]]);
    right.sums = parent.sums - left.sums;
  }

  void add_rows_of(const Drawn& drawn, const Drawn::Group& group, const Node& node,
                   std::vector<Sums>& histogram, bool subtract) const {
    add_rows(drawn, group, data_.bins.memory().data(), derivatives_.data(),
             std::span(rows_).subspan(node.begin, node.end - node.begin), histogram.data(), subtract);
  }

  void fill(const Drawn& drawn, const Drawn::Group& group, Node& node) const {
    std::fill(node.histogram.begin() + static_cast<std::ptrdiff_t>(drawn.first_cell[group.first_slot]),
              node.histogram.begin() + static_cast<std::ptrdiff_t>(drawn.first_cell[group.last_slot]),
              Sums{});
    add_rows_of(drawn, group, node, node.histogram, false);
  }

  /// Only the rows of the smaller child are read.
  void fill_children(const Drawn& drawn, const Drawn::Group& group, std::vector<Node>& nodes,
                     const Node& parent) const {
    const auto [smaller, larger] = small_and_large(nodes, parent);
    Node &small = nodes[smaller], &large = nodes[larger];
    if (small.searched) fill(drawn, group, small);
    if (!large.searched) return;
    if (!small.searched) return add_rows_of(drawn, group, small, large.histogram, true);
    for (std::size_t i = drawn.first_cell[group.first_slot]; i < drawn.first_cell[group.last_slot]; ++i)
      large.histogram[i] = large.histogram[i] - small.histogram[i];
  }

  std::vector<double> scores_;
  std::vector<Derivatives> derivatives_;
  std::vector<std::uint32_t> rows_, left_out_, scratch_;
};

/// In files, read from the first row to the last in every pass. Beside its bins a row has its score, its
/// derivatives and the number of the node that it has reached. A pass divides every node that may be
/// split before the tree is complete, so there are about as many passes as the tree has levels.
class OnFile : public TrainingRows {
 public:
  OnFile(const BinnedRows& data, double base, const BoostedOptions& options, const FixedPoint& fixed,
         Threads& threads)
      : TrainingRows(data, options, fixed, threads),
        base_(base),
        at_once_(rows_at_once(data.limit, data.features + row_bytes, threads)),
        scores_(1, data.limit.folder),
        derivatives_(1, data.limit.folder),
        reached_(1, data.limit.folder) {}

  std::size_t divisions_at_once(const Drawn& drawn) const override {
    // Open leaves have their histograms in any case, so a few more do not count.
    return std::max<std::size_t>(8,
                                 data_.limit.bytes / 8 / (drawn.cells() * sizeof(Sums) * threads_.count()));
  }

  Sums start(const Drawn& drawn, const Random& random, std::uint64_t tree) override {
    // The draw goes from row to row, so every block needs to know how far it had come.
    std::vector<Selection> selections;
    if (options_.row_share < 1) {
      Selection selection(random, data_.rows, options_.row_share);
      for (std::size_t row = 0; row < data_.rows; ++row) {
        if (row % at_once_ == 0) selections.push_back(selection);
        selection.next();
      }
    }
    clear_workers(drawn, 1, 1);
    for_each_block(
        threads_, workers_, data_.rows, at_once_, false,
        [&](Worker& worker, std::size_t first, std::size_t rows) {
          const std::uint8_t* const bins = data_.bins.read(first, rows, worker.bins);
          const std::uint8_t* const target = data_.target.read(first, rows, worker.target);
          double* const scores =
              started_ ? scores_.edit(first, rows, worker.scores) : scores_.place(first, rows, worker.scores);
          if (!started_) std::fill(scores, scores + rows, base_);
          std::uint32_t* const reached = grown_.empty() ? reached_.place(first, rows, worker.reached)
                                                        : reached_.edit(first, rows, worker.reached);
          for (const Steps& steps : saved_)
            for (std::size_t i = 0; i < rows; ++i)
              scores[i] += steps[walk(steps, bins + i * data_.features, 0)].value;
          if (!grown_.empty())
            for (std::size_t i = 0; i < rows; ++i)
              scores[i] += grown_[walk(grown_, bins + i * data_.features, reached[i] & ~left_out)].value;

          Derivatives* const rows_derivatives = derivatives_.place(first, rows, worker.derivatives);
          worker.order.clear();
          for (std::size_t i = 0; i < rows; ++i) {
            rows_derivatives[i] = derivatives(scores[i], target[i], tree, first + i);
            const bool drawn_row = selections.empty() || selections[first / at_once_].next();
            reached[i] = drawn_row ? 0 : left_out;
            if (!drawn_row) continue;
            worker.order.push_back(static_cast<std::uint32_t>(i));
            worker.sums[0] += fixed_.sums(rows_derivatives[i]);
          }
          for (const Drawn::Group& group : drawn.groups)
            add_rows(drawn, group, bins, rows_derivatives, worker.order, worker.histograms.data(), false);
          scores_.write(first, rows, scores);
          reached_.write(first, rows, reached);
          derivatives_.write(first, rows, rows_derivatives);
        });
    started_ = true;
    saved_.clear();
    grown_.clear();
    return total(0);
  }

  void fill_root(const Drawn& drawn, Node& root, const Filled& filled) override {
    threads_.run(drawn.groups.size(), [&](std::size_t g) {
      merge(drawn, drawn.groups[g], 0, root.histogram);
      filled(drawn.groups[g], g);
    });
  }

  void divide(const Drawn& drawn, std::vector<Node>& nodes, std::span<const std::size_t> parents,
              const Filled& filled) override {
    // Which histogram and which sum the rows that arrive at a node are added to, if any.
    std::vector<std::size_t> histogram_of(nodes.size(), none), sum_of(nodes.size(), none);
    std::size_t histograms = 0, sums = 0;
    for (const std::size_t parent : parents) {
      const auto [small, large] = small_and_large(nodes, nodes[parent]);
      if (nodes[small].searched || nodes[large].searched) histogram_of[small] = histograms++;
      if (!nodes[parent].searched) sum_of[static_cast<std::size_t>(nodes[parent].left)] = sums++;
    }
    if (histograms + sums == 0) return;  // the next pass will find the way from where the rows are
    Steps steps(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i)
      if (nodes[i].left >= 0) ask(drawn, nodes[i], steps[i]);
    clear_workers(drawn, histograms, sums);
    for_each_block(
        threads_, workers_, data_.rows, at_once_, false,
        [&](Worker& worker, std::size_t first, std::size_t rows) {
          const std::uint8_t* const bins = data_.bins.read(first, rows, worker.bins);
          const Derivatives* const rows_derivatives = derivatives_.read(first, rows, worker.derivatives);
          std::uint32_t* const reached = reached_.edit(first, rows, worker.reached);
          std::vector<std::uint32_t>& begin = worker.begin;  // of the rows of each histogram, in `order`
          begin.assign(histograms + 2, 0);
          for (std::size_t i = 0; i < rows; ++i) {
            const std::size_t at = walk(steps, bins + i * data_.features, reached[i] & ~left_out);
            reached[i] = static_cast<std::uint32_t>(at) | (reached[i] & left_out);
            if ((reached[i] & left_out) != 0) continue;
            if (histogram_of[at] != none) ++begin[histogram_of[at] + 2];
            if (sum_of[at] != none) worker.sums[sum_of[at]] += fixed_.sums(rows_derivatives[i]);
          }
          reached_.write(first, rows, reached);
          std::partial_sum(begin.begin(), begin.end(), begin.begin());
          worker.order.resize(begin.back());
          for (std::size_t i = 0; i < rows; ++i)
            if ((reached[i] & left_out) == 0 && histogram_of[reached[i]] != none)
              worker.order[begin[histogram_of[reached[i]] + 1]++] = static_cast<std::uint32_t>(i);
          for (std::size_t h = 0; h < histograms; ++h)
            for (const Drawn::Group& group : drawn.groups)
              add_rows(drawn, group, bins, rows_derivatives,
                       std::span(worker.order).subspan(begin[h], begin[h + 1] - begin[h]),
                       worker.histograms.data() + h * drawn.cells(), false);
        });
    for (const std::size_t parent : parents) {
      if (nodes[parent].searched) continue;
      const auto left = static_cast<std::size_t>(nodes[parent].left);
      nodes[left].sums = total(sum_of[left]);
      nodes[left + 1].sums = nodes[parent].sums - nodes[left].sums;
    }
    for (const std::size_t parent : parents) nodes[parent].divided = true;
    if (histograms == 0) return;
    threads_.run(drawn.groups.size(), [&](std::size_t g) {
      std::vector<Sums> merged(drawn.cells());
      for (const std::size_t parent : parents) {
        const auto [smaller, larger] = small_and_large(nodes, nodes[parent]);
        Node &small = nodes[smaller], &large = nodes[larger];
        if (histogram_of[smaller] == none) continue;
        std::vector<Sums>& histogram = small.searched ? small.histogram : merged;
        merge(drawn, drawn.groups[g], histogram_of[smaller], histogram);
        if (!large.searched) continue;
        for (std::size_t i = drawn.first_cell[drawn.groups[g].first_slot];
             i < drawn.first_cell[drawn.groups[g].last_slot]; ++i)
          large.histogram[i] = large.histogram[i] - histogram[i];
      }
      filled(drawn.groups[g], g);
    });
  }

  // The next start() reads all rows anyway.
  void add(const Drawn& drawn, std::vector<Node>& nodes) override { grown_ = steps_of_grown(drawn, nodes); }
  void add(const Tree& tree) override { saved_.push_back(steps_of(tree, data_)); }

 private:
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  static constexpr std::uint32_t left_out = 0x80000000u;       // with the number of the node: was not drawn
  static constexpr std::size_t row_bytes = 1 + 8 + 8 + 4 + 4;  // in a worker, beside the bins

  struct Worker {
    std::vector<std::uint8_t> bins, target;
    std::vector<double> scores;
    std::vector<Derivatives> derivatives;
    std::vector<std::uint32_t> reached, order, begin;
    std::vector<Sums> histograms, sums;
  };

  void clear_workers(const Drawn& drawn, std::size_t histograms, std::size_t sums) {
    workers_.resize(threads_.count());
    for (Worker& worker : workers_) {
      worker.histograms.assign(histograms * drawn.cells(), {});
      worker.sums.assign(sums, {});
    }
  }

  Sums total(std::size_t sum) const {
    Sums result;
    for (const Worker& worker : workers_) result += worker.sums[sum];
    return result;
  }

  void merge(const Drawn& drawn, const Drawn::Group& group, std::size_t number,
             std::vector<Sums>& histogram) const {
    for (std::size_t i = drawn.first_cell[group.first_slot]; i < drawn.first_cell[group.last_slot]; ++i) {
      histogram[i] = {};
      for (const Worker& worker : workers_) histogram[i] += worker.histograms[number * drawn.cells() + i];
    }
  }

  double base_;
  std::size_t at_once_;
  RowArray<double> scores_;
  RowArray<Derivatives> derivatives_;
  RowArray<std::uint32_t> reached_;
  std::vector<Worker> workers_;
  bool started_ = false;
  // What is still to be added to the scores: trees from a checkpoint, and the one that was grown last.
  std::vector<Steps> saved_;
  Steps grown_;
};

/// Grows trees.
class Grower {
 public:
  Grower(const Cuts& cuts, TrainingRows& rows, const BoostedOptions& options, const FixedPoint& fixed)
      : cuts_(cuts), rows_(rows), options_(options), fixed_(fixed) {
    // Integers have their own units of gain and regularisation.
    gain_unit_ = fixed.hessian_scale / (FixedPoint::gradient_scale * FixedPoint::gradient_scale);
    l2_ = options.l2 * fixed.hessian_scale;
    min_hessian_ = static_cast<std::uint64_t>(
        std::clamp(std::ceil(options.min_leaf_hessian * fixed.hessian_scale), 1.0, 0x1p62));  // 2^62: never
  }

  /// A tree without nodes if no split gains anything. Its values are added to the scores of the rows.
  Tree grow(const Random& random, std::uint64_t number) {
    Selection features(random, cuts_.thresholds.size(), options_.feature_share);
    draw(features, number);
    nodes_.clear();
    Node& root = nodes_.emplace_back();
    root.sums = rows_.start(drawn_, features.random, number);
    root.score = score(root.sums);
    root.value = newton_step(root.sums);
    root.searched = true;
    root.split = none();
    root.histogram = take_histogram();
    const bool symmetric = options_.growth == BoostedOptions::Growth::symmetric;
    Tree tree = symmetric ? grow_symmetric() : grow_leaf_wise();
    if (!tree.nodes.empty()) rows_.add(drawn_, nodes_);
    for (Node& node : nodes_) give_back(node);
    return tree;
  }

 private:
  void draw(Selection& selection, std::uint64_t number) {
    drawn_.features.clear();
    for (std::size_t feature = 0; feature < cuts_.thresholds.size(); ++feature)
      if (selection.next()) drawn_.features.push_back(feature);
    const auto costly_before = [&](std::uint64_t trees) {
      return std::floor(static_cast<double>(trees) * options_.costly_share);
    };
    if (costly_before(number + 1) == costly_before(number)) {
      const auto at = [&](std::size_t feature) {
        return std::lower_bound(drawn_.features.begin(), drawn_.features.end(), feature);
      };
      const auto first = at(options_.costly_from), last = at(options_.costly_end);
      if (first != drawn_.features.begin() || last != drawn_.features.end())
        drawn_.features.erase(first, last);
    }
    drawn_.first_cell.assign(1, 0);
    for (const std::size_t feature : drawn_.features)
      drawn_.first_cell.push_back(drawn_.first_cell.back() + cuts_.value_bins(feature) + 1);
    drawn_.groups.clear();
    const std::size_t count = drawn_.features.size(), groups = (count + group_features - 1) / group_features;
    for (std::size_t g = 0; g < groups; ++g)
      drawn_.groups.push_back({g * count / groups, (g + 1) * count / groups});
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
    histogram.resize(drawn_.cells());
    return histogram;
  }

  void give_back(Node& node) {
    if (!node.histogram.empty()) spare_.push_back(std::move(node.histogram));
    node.histogram.clear();
  }

  // ---- splits

  /// Calls visit(first, last, missing, left) for every way to split `node` on the feature: the
  /// thresholds from first to last all send the rows of `left` left.
  template <typename Visit>
  void for_each_split(const Node& node, std::size_t slot, Visit visit) const {
    const Sums* cells = node.histogram.data() + drawn_.first_cell[slot];
    const unsigned last_bin = cuts_.value_bins(drawn_.features[slot]) - 1;
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

  /// What `node` gains by a split that sends `left` left (Chen, Guestrin 2016, equation 7, times 2), or 0
  /// if one of its children would be too small.
  double gain(const Node& node, const Sums& left) const {
    const Sums right = node.sums - left;
    if (!large_enough(left) || !large_enough(right)) return 0;
    const double left_gradient = FixedPoint::raw_gradient(left);
    const double right_gradient = FixedPoint::raw_gradient(right);
    const double left_hessian = fixed_.raw_hessian(left) + l2_;
    const double right_hessian = fixed_.raw_hessian(right) + l2_;
    const double children =
        (left_gradient * left_gradient * right_hessian + right_gradient * right_gradient * left_hessian) /
        (left_hessian * right_hessian);
    const double gained = children - node.score;
    // Rows that are all alike gain nothing, give or take the rounding: no reason to split them.
    return std::abs(gained) > children * 0x1p-40 ? gained * gain_unit_ : 0;
  }

  /// The best split of one node, on the features of one group.
  Split best_split(const Drawn::Group& group, const Node& node) const {
    Split best = none();
    if (!node.searched) return best;
    for (std::size_t slot = group.first_slot; slot < group.last_slot; ++slot) {
      const bool never_missing = cuts_.has_missing[drawn_.features[slot]] == 0;
      for_each_split(node, slot, [&](unsigned first, unsigned last, MissingSide missing, const Sums& left) {
        const double gained = gain(node, left);
        if (gained <= best.gain) return;
        // Blobs need but one direction of a feature that is never missing: left. Otherwise, where no row
        // shows the better direction, it is that of most rows.
        const bool missing_left = missing == MissingSide::left ||
                                  (missing == MissingSide::absent &&
                                   (never_missing || 2 * fixed_.rows(left) > fixed_.rows(node.sums)));
        best = {gained, slot, (first + last) / 2, missing_left};
      });
    }
    return best;
  }

  /// The question that gains most when all nodes of `level` are asked, on the features of one group.
  Split best_common_split(const Drawn::Group& group, std::span<const std::size_t> level) const {
    Split best = none();
    for (std::size_t slot = group.first_slot; slot < group.last_slot; ++slot) {
      std::array<double, 256> missing_left = {}, missing_right = {};
      for (const std::size_t number : level) {
        const Node& node = nodes_[number];
        if (!node.searched) continue;
        for_each_split(node, slot, [&](unsigned first, unsigned last, MissingSide missing, const Sums& left) {
          const double gained = gain(node, left);
          for (unsigned bin = first; bin <= last; ++bin) {
            if (missing != MissingSide::right) missing_left[bin] += gained;
            if (missing != MissingSide::left) missing_right[bin] += gained;
          }
        });
      }
      for (unsigned bin = 0; bin + 1 < cuts_.value_bins(drawn_.features[slot]); ++bin) {
        if (missing_left[bin] > best.gain) best = {missing_left[bin], slot, bin, true};
        if (missing_right[bin] > best.gain) best = {missing_right[bin], slot, bin, false};
      }
    }
    return best;
  }

  Split none() const { return {.gain = options_.min_gain}; }
  bool found(const Split& split) const { return split.gain > options_.min_gain; }

  // ---- growth

  /// Gives a node with a split its children. Of children of a node that was not searched, the sums are
  /// known only when the rows are divided.
  void make_children(std::size_t number) {
    nodes_.resize(nodes_.size() + 2);
    Node &parent = nodes_[number], &left = nodes_[nodes_.size() - 2], &right = nodes_.back();
    parent.left = static_cast<std::int32_t>(nodes_.size() - 2);
    for (Node* child : {&left, &right}) {
      child->depth = parent.depth + 1;
      child->value = parent.value;
      child->split = none();
    }
    if (!parent.searched) return;
    const Sums* cells = parent.histogram.data() + drawn_.first_cell[parent.split.slot];
    for (unsigned bin = 0; bin <= parent.split.bin; ++bin) left.sums += cells[bin];
    if (parent.split.missing_left) left.sums += cells[cuts_.value_bins(drawn_.features[parent.split.slot])];
    right.sums = parent.sums - left.sums;
    settle(left);
    settle(right);
    // The larger child is what the smaller one leaves of their parent.
    const bool left_is_small = fixed_.rows(left.sums) < fixed_.rows(right.sums);
    Node &small = left_is_small ? left : right, &large = left_is_small ? right : left;
    if (large.searched) std::swap(large.histogram, parent.histogram);
    if (small.searched) small.histogram = take_histogram();
    give_back(parent);
  }

  /// What follows from a child's sums.
  void settle(Node& child) const {
    const unsigned max_depth = options_.depth == 0 ? std::numeric_limits<unsigned>::max() : options_.depth;
    // Symmetric trees split small leaves as well; what too few rows say is noise.
    if (large_enough(child.sums)) child.value = newton_step(child.sums);
    child.searched = child.depth < max_depth && fixed_.rows(child.sums) / 2 >= options_.min_leaf_rows &&
                     fixed_.hessian(child.sums) / 2 >= min_hessian_;
    child.score = score(child.sums);
  }

  bool worth_dividing(const Node& node) const {
    const auto left = static_cast<std::size_t>(node.left);
    return !node.divided && (nodes_[left].searched || nodes_[left + 1].searched);
  }

  Tree grow_leaf_wise() {
    std::vector<std::size_t> leaves = {0};          // their numbers in nodes_
    std::vector<std::int32_t> tree_nodes = {0};     // and in the tree
    std::set<std::pair<double, std::size_t>> open;  // gains of leaves worth splitting
    const auto offer = [&](std::size_t leaf) {
      const Split& split = nodes_[leaves[leaf]].split;
      if (found(split)) open.emplace(split.gain, leaf);
    };
    search_root();
    offer(0);
    if (open.empty()) return {};

    Tree tree;
    tree.nodes.emplace_back();
    while (!open.empty() && leaves.size() < options_.leaves) {
      const std::size_t leaf = std::prev(open.end())->second, number = leaves[leaf];
      open.erase(std::prev(open.end()));
      if (nodes_[number].left < 0) make_children(number);
      nodes_[number].in_tree = true;
      const auto child = static_cast<std::int32_t>(tree.nodes.size());
      tree.nodes[static_cast<std::size_t>(tree_nodes[leaf])] = asking(nodes_[number].split, child);
      tree.nodes.resize(tree.nodes.size() + 2);
      leaves[leaf] = static_cast<std::size_t>(nodes_[number].left);
      leaves.push_back(leaves[leaf] + 1);
      tree_nodes[leaf] = child;
      tree_nodes.push_back(child + 1);
      const std::size_t splits_left = options_.leaves - leaves.size();
      if (splits_left == 0) continue;
      if (worth_dividing(nodes_[number])) {
        std::vector<std::size_t> parents = {number};
        const std::size_t at_once = rows_.divisions_at_once(drawn_);
        // Those that gain most may be split as well, and before the last split: divide them on the way.
        std::size_t ahead = splits_left;
        for (auto next = open.rbegin(); next != open.rend() && --ahead > 0 && parents.size() < at_once;
             ++next) {
          const std::size_t other = leaves[next->second];
          if (nodes_[other].left < 0) make_children(other);
          if (worth_dividing(nodes_[other])) parents.push_back(other);
        }
        search_children(parents);
      }
      offer(leaf);
      offer(leaves.size() - 1);
    }
    for (std::size_t leaf = 0; leaf < leaves.size(); ++leaf)
      tree.nodes[static_cast<std::size_t>(tree_nodes[leaf])].value = nodes_[leaves[leaf]].value;
    return tree;
  }

  void search_root() {
    std::vector<Split> proposals(drawn_.groups.size());
    rows_.fill_root(drawn_, nodes_[0], [&](const Drawn::Group& group, std::size_t g) {
      proposals[g] = best_split(group, nodes_[0]);
    });
    for (const Split& proposed : proposals) improve(nodes_[0].split, proposed);
  }

  void search_children(std::span<const std::size_t> parents) {
    std::vector<std::pair<Split, Split>> proposals(drawn_.groups.size() * parents.size());
    rows_.divide(drawn_, nodes_, parents, [&](const Drawn::Group& group, std::size_t g) {
      for (std::size_t k = 0; k < parents.size(); ++k) {
        const auto left = static_cast<std::size_t>(nodes_[parents[k]].left);
        proposals[g * parents.size() + k] = {best_split(group, nodes_[left]),
                                             best_split(group, nodes_[left + 1])};
      }
    });
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      const auto left = static_cast<std::size_t>(nodes_[parents[i % parents.size()]].left);
      improve(nodes_[left].split, proposals[i].first);
      improve(nodes_[left + 1].split, proposals[i].second);
    }
  }

  static void improve(Split& best, const Split& proposed) {
    if (proposed.gain > best.gain) best = proposed;
  }

  Tree grow_symmetric() {
    std::vector<Split> questions, proposals(drawn_.groups.size(), none());
    std::vector<std::size_t> level = {0};
    const auto propose = [&](const Drawn::Group& group, std::size_t g) {
      proposals[g] = best_common_split(group, level);
    };
    rows_.fill_root(drawn_, nodes_[0], propose);
    while (questions.size() < options_.depth) {
      Split best = none();
      for (const Split& proposed : proposals) improve(best, proposed);
      if (!found(best)) {
        if (questions.empty()) return {};
        best = questions.back();  // asking again changes nothing, and the tree stays complete
      }
      questions.push_back(best);
      std::vector<std::size_t> parents;
      parents.swap(level);
      for (const std::size_t parent : parents) {
        nodes_[parent].split = best;
        nodes_[parent].in_tree = true;
        make_children(parent);
        level.push_back(static_cast<std::size_t>(nodes_[parent].left));
        level.push_back(level.back() + 1);
      }
      std::fill(proposals.begin(), proposals.end(), none());
      rows_.divide(drawn_, nodes_, parents, propose);
      for (std::size_t i = 0; i < level.size(); ++i)
        if (!nodes_[parents[i / 2]].searched) settle(nodes_[level[i]]);
    }
    Tree tree;
    for (unsigned depth = 0; depth < options_.depth; ++depth)
      for (std::size_t i = 0; i < std::size_t{1} << depth; ++i)
        tree.nodes.push_back(asking(questions[depth], static_cast<std::int32_t>(2 * tree.nodes.size() + 1)));
    for (const std::size_t leaf : level) tree.nodes.emplace_back().value = nodes_[leaf].value;
    return tree;
  }

  TreeNode asking(const Split& split, std::int32_t left) const {
    const std::size_t feature = drawn_.features[split.slot];
    return {static_cast<std::int32_t>(feature),
            cuts_.thresholds[feature][split.bin],
            split.missing_left,
            left,
            left + 1,
            0};
  }

  const Cuts& cuts_;
  TrainingRows& rows_;
  const BoostedOptions& options_;
  const FixedPoint& fixed_;
  double gain_unit_, l2_;
  std::uint64_t min_hessian_;
  Drawn drawn_;
  std::vector<Node> nodes_;               // of the tree, and guessed ones; a child comes after its parent
  std::vector<std::vector<Sums>> spare_;  // histograms to be used again
};

/// -log likelihood of one row, from its score.
double log_loss(double score, float target) {
  return std::log1p(std::exp(-std::abs(score))) + std::max(score, 0.0) - static_cast<double>(target) * score;
}

/// The rows that decide how many trees are kept, with their scores.
class ValidationRows {
 public:
  ValidationRows(const BinnedRows& data, double base, Threads& threads)
      : data_(data),
        base_(base),
        threads_(threads),
        at_once_(data.in_memory ? block_rows : rows_at_once(data.limit, data.features + 1 + 8, threads)),
        scores_(data.in_memory ? RowArray<double>(1, data.rows) : RowArray<double>(1, data.limit.folder)) {}

  /// Adds the next tree to the scores; the mean log loss after it. The order of summation depends on
  /// neither threads nor blocks.
  double add(const Tree& tree) {
    const Steps steps = steps_of(tree, data_);
    std::vector<double> partial(blocks_of(data_.rows));
    for_each_block(threads_, workers_, data_.rows, at_once_, data_.in_memory,
                   [&](Worker& worker, std::size_t first, std::size_t rows) {
                     const std::uint8_t* const bins = data_.bins.read(first, rows, worker.bins);
                     const std::uint8_t* const target = data_.target.read(first, rows, worker.target);
                     double* const scores = started_ ? scores_.edit(first, rows, worker.scores)
                                                     : scores_.place(first, rows, worker.scores);
                     if (!started_) std::fill(scores, scores + rows, base_);
                     for (std::size_t i = 0; i < rows; ++i) {
                       scores[i] += steps[walk(steps, bins + i * data_.features, 0)].value;
                       partial[(first + i) / block_rows] +=
                           log_loss(scores[i], static_cast<float>(target[i]));
                     }
                     scores_.write(first, rows, scores);
                   });
    started_ = true;
    return std::accumulate(partial.begin(), partial.end(), 0.0) / static_cast<double>(data_.rows);
  }

 private:
  struct Worker {
    std::vector<std::uint8_t> bins, target;
    std::vector<double> scores;
  };

  const BinnedRows& data_;
  double base_;
  Threads& threads_;
  std::size_t at_once_;
  RowArray<double> scores_;
  std::vector<Worker> workers_;
  bool started_ = false;
};

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

void check(const BoostedOptions& options, std::size_t features, std::size_t validation_rows,
           std::size_t validation_features) {
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
  share("costly_share", options.costly_share);
  share("row_share", options.row_share);
  require(options.bins >= 2 && options.bins <= 255, "bins", options.bins, "2 to 255");
  if (options.patience > 0 && (validation_rows == 0 || validation_features != features))
    throw Error("boosting with patience " + std::to_string(options.patience) +
                " needs validation rows of the same " + std::to_string(features) +
                " features, and was given " + std::to_string(validation_rows) + " of " +
                std::to_string(validation_features));
}

}  // namespace

TreeEnsemble train_boosted(const BinnedRows& rows, const BinnedRows* validation,
                           const BoostedOptions& options, const Training& training) {
  check(options, rows.features, validation == nullptr ? 0 : validation->rows,
        validation == nullptr ? 0 : validation->features);
  Threads& threads = training.threads;
  const auto positive = static_cast<double>(rows.positive);
  TreeEnsemble ensemble;
  ensemble.base = {std::log(positive / (static_cast<double>(rows.rows) - positive))};
  std::vector<Tree>& trees = ensemble.trees;

  // Saved trees are not grown but only added to the scores, in the same order as the first time.
  std::vector<Tree> saved;
  if (const auto state = training.checkpoint.load(training.stage))
    saved = trees_from_state(*state, rows.features);

  const FixedPoint fixed(rows.rows);
  const double base = ensemble.base[0];
  std::unique_ptr<TrainingRows> training_rows;
  if (rows.in_memory)
    training_rows = std::make_unique<InMemory>(rows, base, options, fixed, threads);
  else
    training_rows = std::make_unique<OnFile>(rows, base, options, fixed, threads);
  std::optional<ValidationRows> validation_rows;
  if (options.patience > 0) validation_rows.emplace(*validation, base, threads);
  Grower grower(rows, *training_rows, options, fixed);
  Progress progress(training.label, options.trees);
  double best_loss = std::numeric_limits<double>::infinity();
  std::size_t best_count = 0;
  try {
    while (trees.size() < options.trees) {
      if (trees.size() < saved.size()) {
        trees.push_back(saved[trees.size()]);
        training_rows->add(trees.back());
      } else {
        if (interrupted()) throw Interrupted();
        Tree tree = grower.grow(Random(training.seed, trees.size()), trees.size());
        if (tree.nodes.empty()) break;
        trees.push_back(std::move(tree));
      }
      if (options.patience == 0) {
        progress.update(trees.size());
        continue;
      }
      const double loss = validation_rows->add(trees.back());
      if (loss < best_loss) {
        best_loss = loss;
        best_count = trees.size();
      }
      if (trees.size() - best_count >= options.patience) break;
      char note[40];
      std::snprintf(note, sizeof note, "log loss %.4f", loss);
      progress.update(trees.size(), note);
    }
  } catch (const Interrupted&) {
    training.checkpoint.save(training.stage, trees_to_state(trees));
    throw;
  }
  if (options.patience > 0) trees.resize(best_count);
  if (trees.empty()) trees.push_back(idle_tree(options));
  if (options.growth == BoostedOptions::Growth::symmetric)
    ensemble.symmetric_depth = static_cast<int>(options.depth);
  return ensemble;
}

TreeEnsemble train_boosted(const Dataset& data, const Dataset& validation, const BoostedOptions& options,
                           const Training& training) {
  check(options, data.features, validation.rows, validation.features);
  DatasetRows source(data), validation_source(validation);
  const BinnedRows rows = bin_rows(source, options.bins, {}, training.threads);
  if (options.patience == 0) return train_boosted(rows, nullptr, options, training);
  const BinnedRows validation_rows = bin_rows(validation_source, rows, {}, training.threads);
  return train_boosted(rows, &validation_rows, options, training);
}

}  // namespace tonearm
