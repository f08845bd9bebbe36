// Binning, random forests and boosted trees, against brute force on the raw values: every split of a
// trained tree is compared with all splits there are, every leaf with the rows that reach it.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "folder.h"
#include "train/binning.h"
#include "train/boosted.h"
#include "train/forest.h"

namespace {
std::atomic<int> polls_before_interrupt = std::numeric_limits<int>::max();
}

namespace tonearm {

// In place of the one that listens to signals, so that training can be interrupted at an exact point.
bool interrupted() { return polls_before_interrupt.fetch_sub(1) <= 0; }

namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
using Growth = BoostedOptions::Growth;

Dataset make(std::size_t features, std::vector<float> values, std::vector<float> target) {
  return {target.size(), features, std::move(values), std::move(target)};
}

/// Few different values of four features, of which the first two and their product decide, with noise.
/// `missing` is the share of missing values of features 1 and 3; features 0 and 2 are never missing.
Dataset noisy(std::size_t rows, std::uint64_t seed, double missing = 0) {
  Random random(seed);
  Dataset data = make(4, {}, {});
  for (data.rows = 0; data.rows < rows; ++data.rows) {
    const double a = random.below(12), b = random.below(30) - 15.0, c = random.below(2), d = random.normal();
    const bool lacks_b = random.uniform() < missing;
    const double logit = 0.3 * (a - 6) + 0.1 * b + 0.02 * (a - 6) * b + (lacks_b ? 1 : 0);
    data.values.insert(
        data.values.end(),
        {static_cast<float>(a), lacks_b ? nan : static_cast<float>(b) / 3, static_cast<float>(c),
         random.uniform() < missing ? nan : static_cast<float>(std::round(8 * d))});
    data.target.push_back(random.uniform() < 1 / (1 + std::exp(-logit)) ? 1.0F : 0.0F);
  }
  return data;
}

Training with(Threads& threads, std::uint64_t seed = 1) {
  return {.threads = threads, .seed = seed, .label = "test"};
}

TreeEnsemble boosted(const Dataset& data, const BoostedOptions& options) {
  Threads threads(1);
  return train_boosted(data, {}, options, with(threads));
}

TreeEnsemble forest(const Dataset& data, const ForestOptions& options) {
  Threads threads(1);
  return train_forest(data, options, with(threads));
}

bool same(const TreeEnsemble& a, const TreeEnsemble& b) {
  return trees_to_state(a.trees) == trees_to_state(b.trees) && a.base == b.base && a.scale == b.scale &&
         a.symmetric_depth == b.symmetric_depth;
}

using Rows = std::vector<std::size_t>;

Rows all_rows(const Dataset& data) {
  Rows rows(data.rows);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i;
  return rows;
}

struct Question {
  std::size_t feature;
  double threshold;
  bool missing_left;
};

std::pair<Rows, Rows> divided(const Dataset& data, const Rows& rows, const Question& question) {
  std::pair<Rows, Rows> sides;
  for (const std::size_t row : rows) {
    const double x = data.row(row)[question.feature];
    const bool left = std::isnan(x) ? question.missing_left : x <= question.threshold;
    (left ? sides.first : sides.second).push_back(row);
  }
  return sides;
}

Question question_of(const TreeNode& node) {
  return {static_cast<std::size_t>(node.feature), static_cast<double>(node.threshold), node.missing_left};
}

/// The training rows that reach each node.
std::vector<Rows> rows_of_nodes(const Tree& tree, const Dataset& data) {
  std::vector<Rows> rows(tree.nodes.size());
  rows[0] = all_rows(data);
  for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
    const TreeNode& node = tree.nodes[i];
    if (node.feature < 0) continue;
    EXPECT_GT(std::min(node.left, node.right), static_cast<std::int32_t>(i));
    std::tie(rows[static_cast<std::size_t>(node.left)], rows[static_cast<std::size_t>(node.right)]) =
        divided(data, rows[i], question_of(node));
  }
  return rows;
}

/// Missing values that no row of the node has go left on a feature that is never missing, otherwise to the
/// side of most rows.
void expect_default_side(const TreeNode& node, const Dataset& data, const Rows& rows) {
  const auto feature = static_cast<std::size_t>(node.feature);
  const auto missing = [&](std::size_t row) { return std::isnan(data.row(row)[feature]); };
  if (std::any_of(rows.begin(), rows.end(), missing)) return;
  const Rows all = all_rows(data);
  const bool ever = std::any_of(all.begin(), all.end(), missing);
  EXPECT_EQ(node.missing_left,
            !ever || 2 * divided(data, rows, question_of(node)).first.size() > rows.size());
}

/// All questions that divide the data differently.
std::vector<Question> all_questions(const Dataset& data) {
  std::vector<Question> questions;
  for (std::size_t feature = 0; feature < data.features; ++feature) {
    std::set<float> values;
    for (std::size_t row = 0; row < data.rows; ++row)
      if (!std::isnan(data.row(row)[feature])) values.insert(data.row(row)[feature]);
    for (const float value : values)
      for (const bool missing_left : {false, true})
        questions.push_back({feature, static_cast<double>(value), missing_left});
  }
  return questions;
}

// ------------------------------------------------------------------------------------------ binning

TEST(Binning, ThresholdsLieBetweenNeighboursWhateverTheirDistance) {
  const float largest = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
  const float values[] = {-infinity, -largest, -1,      -tiny, 0, tiny, 1, std::nextafter(1.0F, 2.0F),
                          3,         largest,  infinity};
  for (std::size_t i = 0; i < std::size(values); ++i)
    for (std::size_t j = i + 1; j < std::size(values); ++j) {
      const float t = threshold_between(values[i], values[j]);
      EXPECT_LE(values[i], t) << values[i] << ' ' << values[j];
      EXPECT_LT(t, values[j]) << values[i] << ' ' << values[j];
    }
  EXPECT_EQ(threshold_between(1, 3), 2);
}

TEST(Binning, TheBinOfAValueIsTheNumberOfThresholdsBelowIt) {
  Threads threads(2);
  for (const unsigned bins : {2u, 3u, 7u, 64u, 255u})
    for (const std::size_t rows : {2u, 3u, 300u, 5000u}) {
      Random random(rows);
      Dataset data = make(3, {}, {});
      for (std::size_t i = 0; i < rows; ++i) {
        data.values.insert(
            data.values.end(),
            {static_cast<float>(random.normal()), i % 5 == 1 ? nan : static_cast<float>(i % 40),
             random.below(3) == 0 ? static_cast<float>(random.below(900)) : -0.0F});
        data.target.push_back(i % 2 == 0 ? 0.0F : 1.0F);
      }
      data.rows = rows;
      const BinnedDataset binned = bin_dataset(data, bins, threads);
      for (std::size_t feature = 0; feature < 3; ++feature) {
        const std::vector<float>& thresholds = binned.thresholds[feature];
        EXPECT_LE(binned.value_bins(feature), bins);
        EXPECT_TRUE(std::is_sorted(thresholds.begin(), thresholds.end(), std::less_equal<>()));
        const auto expected = [&](float x) {
          return std::count_if(thresholds.begin(), thresholds.end(), [&](float t) { return x > t; });
        };
        for (const float t : thresholds)
          for (const float x :
               {std::nextafter(t, -infinity), t, std::nextafter(t, infinity), -t, -infinity, infinity})
            EXPECT_EQ(bin_of(thresholds, x), expected(x));
        for (std::size_t row = 0; row < rows; ++row) {
          const float x = data.row(row)[feature];
          ASSERT_EQ(binned.row(row)[feature],
                    std::isnan(x) ? static_cast<std::ptrdiff_t>(binned.value_bins(feature)) : expected(x));
        }
      }
    }
}

TEST(Binning, EveryDistinctValueHasItsBinWhereTheySuffice) {
  Threads threads(1);
  const BinnedDataset binned = bin_dataset(make(1, {3, -0.0F, 1, 0, 1, 8}, {0, 1, 0, 1, 0, 1}), 4, threads);
  EXPECT_EQ(binned.thresholds[0], (std::vector<float>{0.5, 2, 5.5}));
}

TEST(Binning, RowsAreSharedOutEvenlyButForValuesThatFillABin) {
  // Half of the rows are 500; the others are different. 10 bins: 1 for 500, 9 for the 1000 others.
  Threads threads(1);
  Dataset data = make(1, {}, {});
  for (int i = 0; i < 2000; ++i) {
    data.values.push_back(i < 1000 ? static_cast<float>(i) : 500);
    data.target.push_back(static_cast<float>(i % 2));
  }
  data.rows = 2000;
  const BinnedDataset binned = bin_dataset(data, 10, threads);
  std::vector<int> rows(10);
  for (const std::uint8_t bin : binned.bins) ++rows.at(bin);
  std::sort(rows.begin(), rows.end());
  EXPECT_EQ(rows.back(), 1001);
  EXPECT_GE(rows.front(), 50);
  EXPECT_LE(rows[8], 150);
}

TEST(Binning, MissingCanBeToldFromPresent) {
  Threads threads(1);
  const BinnedDataset binned = bin_dataset(make(1, {4, nan, 6}, {0, 1, 0}), 255, threads);
  EXPECT_EQ(binned.thresholds[0], (std::vector<float>{5, 6}));
  EXPECT_EQ(binned.bins, (std::vector<std::uint8_t>{0, 3, 1}));
  EXPECT_EQ(bin_dataset(make(1, {nan, nan}, {0, 1}), 2, threads).value_bins(0), 1u);
}

// -------------------------------------------------------------------------------------------- trees

TEST(Trees, AValueOnTheThresholdGoesLeft) {
  Tree tree;
  tree.nodes = {{0, 0.1F, false, 1, 2, 0}, {-1, 0, true, -1, -1, 5}, {-1, 0, true, -1, -1, 7}};
  const auto value = [&](float x) { return tree_value(tree, {&x, 1}); };
  EXPECT_EQ(value(0.1F), 5);
  EXPECT_EQ(value(std::nextafter(0.1F, 0.0F)), 5);
  EXPECT_EQ(value(std::nextafter(0.1F, 1.0F)), 7);
  EXPECT_EQ(value(-infinity), 5);
  EXPECT_EQ(value(infinity), 7);
  EXPECT_EQ(value(nan), 7);
  tree.nodes[0].missing_left = true;
  EXPECT_EQ(value(nan), 5);
  tree.nodes[0].threshold = -0.0F;
  EXPECT_EQ(value(0.0F), 5);
}

TEST(Trees, EveryOutputSumsItsOwnTrees) {
  TreeEnsemble ensemble;
  for (const double value : {1.0, 2.0, 10.0, 20.0})
    ensemble.trees.push_back({{{-1, 0, true, -1, -1, value}}});
  ensemble.base = {100, -100};
  ensemble.scale = 0.5;
  EXPECT_EQ(ensemble_scores(ensemble, {}), (std::vector<double>{101.5, -85}));
}

TEST(Trees, StateIsExactAndDamageIsRefused) {
  std::vector<Tree> trees = forest(noisy(60, 1, 0.1), {.trees = 2}).trees;
  trees.push_back({});
  const nlohmann::json state = trees_to_state(trees);
  EXPECT_EQ(trees_to_state(trees_from_state(nlohmann::json::from_cbor(nlohmann::json::to_cbor(state)), 4)),
            state);

  EXPECT_THROW(trees_from_state(state, 1), Error);  // other data
  EXPECT_THROW(trees_from_state({{"trees", 3}}, 4), Error);
  EXPECT_THROW(trees_from_state(nullptr, 4), Error);
  const std::vector<std::uint8_t> bytes = state["trees"].get_binary();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<std::uint8_t> start(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(trees_from_state({{"trees", nlohmann::json::binary(start)}}, 4), Error) << size;
  }
  trees[0].nodes[1].feature = 0;
  trees[0].nodes[1].left = 0;  // a circle
  EXPECT_THROW(trees_from_state(trees_to_state(trees), 4), Error);
}

// ------------------------------------------------------------------------------------------- forest

double positive_share(const Dataset& data, const Rows& rows) {
  double positive = 0;
  for (const std::size_t row : rows) positive += static_cast<double>(data.target[row]);
  return positive / static_cast<double>(rows.size());
}

/// Gini impurity times the number of rows.
double impurity(const Dataset& data, const Rows& rows) {
  if (rows.empty()) return 0;
  const double share = positive_share(data, rows);
  return 2 * share * (1 - share) * static_cast<double>(rows.size());
}

TEST(Forest, SplitsWhereItIsPurest) {
  const Dataset data = make(2, {0, 1, 1, 2, 2, 1, 3, 2}, {0, 0, 1, 1});
  const TreeEnsemble trained = forest(data, {.trees = 1, .features_per_split = 2, .bootstrap = false});
  ASSERT_EQ(trained.trees[0].nodes.size(), 3u);
  const TreeNode& root = trained.trees[0].nodes[0];
  EXPECT_EQ(root.feature, 0);
  EXPECT_EQ(root.threshold, 1.5F);
  EXPECT_TRUE(root.missing_left);
  EXPECT_EQ(ensemble_scores(trained, data.row(1))[0], 0);
  EXPECT_EQ(ensemble_scores(trained, data.row(2))[0], 1);
}

TEST(Forest, NoOtherQuestionIsBetter) {
  for (const double missing : {0.0, 0.2})
    for (const unsigned min_rows : {1u, 7u}) {
      const Dataset data = noisy(400, 2, missing);
      const std::vector<Question> questions = all_questions(data);
      const TreeEnsemble trained = forest(
          data,
          {.trees = 1, .depth = 6, .features_per_split = 4, .min_leaf_rows = min_rows, .bootstrap = false});
      const Tree& tree = trained.trees[0];
      const std::vector<Rows> rows = rows_of_nodes(tree, data);
      std::vector<int> depth(rows.size());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        double best = infinity;
        for (const Question& question : questions) {
          const auto [left, right] = divided(data, rows[i], question);
          if (std::min(left.size(), right.size()) >= min_rows)
            best = std::min(best, impurity(data, left) + impurity(data, right));
        }
        const TreeNode& node = tree.nodes[i];
        if (node.feature < 0) {
          EXPECT_DOUBLE_EQ(node.value, positive_share(data, rows[i]));
          EXPECT_GE(rows[i].size(), min_rows);
          EXPECT_TRUE(depth[i] == 6 || std::isinf(best) || impurity(data, rows[i]) == 0);
        } else {
          const auto left = static_cast<std::size_t>(node.left), right = static_cast<std::size_t>(node.right);
          EXPECT_NEAR(impurity(data, rows[left]) + impurity(data, rows[right]), best, 1e-9);
          depth[left] = depth[right] = depth[i] + 1;
          EXPECT_LE(depth[left], 6);
          expect_default_side(node, data, rows[i]);
        }
      }
      EXPECT_GT(rows.size(), 15u);
    }
}

TEST(Forest, LooksPastConstantFeatures) {
  Dataset data = make(9, {}, {});
  for (; data.rows < 50; ++data.rows) {
    data.values.insert(data.values.end(), 8, 1.0F);
    data.values.push_back(static_cast<float>(data.rows));
    data.target.push_back(data.rows < 20 ? 0.0F : 1.0F);
  }
  for (const Tree& tree : forest(data, {.trees = 20, .features_per_split = 1, .bootstrap = false}).trees) {
    EXPECT_EQ(tree.nodes.size(), 3u);
    EXPECT_EQ(tree.nodes[0].threshold, 19.5F);
  }
}

TEST(Forest, LooksAtFewFeaturesAtATime) {
  // The first feature tells all; a tree that may look at one feature of four often starts with another.
  Dataset data = make(4, {}, {});
  Random random(3);
  for (; data.rows < 100; ++data.rows) {
    data.target.push_back(static_cast<float>(data.rows % 2));
    data.values.push_back(data.target.back());
    for (int i = 0; i < 3; ++i) data.values.push_back(static_cast<float>(random.normal()));
  }
  const auto starts_with_first = [&](unsigned features_per_split) {
    const TreeEnsemble trained = forest(data, {.trees = 200, .features_per_split = features_per_split});
    return std::count_if(trained.trees.begin(), trained.trees.end(),
                         [](const Tree& tree) { return tree.nodes[0].feature == 0; });
  };
  EXPECT_NEAR(static_cast<double>(starts_with_first(1)), 50, 25);
  EXPECT_NEAR(static_cast<double>(starts_with_first(2)), 100, 28);
  EXPECT_EQ(starts_with_first(0), starts_with_first(2));  // the square root
  EXPECT_EQ(starts_with_first(4), 200);
}

TEST(Forest, BootstrapWeighsRowsByTheirCopies) {
  // Nothing to split: every tree is the share of positive rows among 40 drawn from 40.
  Dataset data = make(1, std::vector<float>(40, 5.0F), std::vector<float>(40, 0.0F));
  std::fill_n(data.target.begin(), 10, 1.0F);
  const TreeEnsemble trained = forest(data, {.trees = 400});
  std::set<double> shares;
  for (const Tree& tree : trained.trees) {
    ASSERT_EQ(tree.nodes.size(), 1u);
    const double positive = 40 * tree.nodes[0].value;
    EXPECT_NEAR(positive, std::round(positive), 1e-9);
    shares.insert(std::round(positive));
  }
  EXPECT_GT(shares.size(), 8u);
  EXPECT_NEAR(ensemble_scores(trained, data.row(0))[0], 0.25, 0.014);  // 4 standard errors
}

TEST(Forest, LearnsEveryRowByHeartWhenAllowed) {
  Dataset data = noisy(500, 4);
  for (std::size_t row = 0; row < data.rows; ++row)  // no two rows alike, and one bin for each
    data.values[4 * row + 3] = static_cast<float>(row % 250),
                          data.values[4 * row] = static_cast<float>(row / 250);
  const TreeEnsemble trained = forest(data, {.trees = 3, .depth = 500, .bootstrap = false});
  for (std::size_t row = 0; row < data.rows; ++row)
    EXPECT_DOUBLE_EQ(ensemble_scores(trained, data.row(row))[0], static_cast<double>(data.target[row]));
}

// ------------------------------------------------------------------------------------------ boosted

/// First and second derivatives of the logistic loss, in float64.
struct Loss {
  const Dataset& data;
  const BoostedOptions& options;
  std::vector<double> gradient, hessian;

  Loss(const Dataset& rows, const BoostedOptions& chosen, const TreeEnsemble& trained, std::size_t trees)
      : data(rows), options(chosen) {
    for (std::size_t row = 0; row < data.rows; ++row) {
      double score = trained.base[0];
      for (std::size_t t = 0; t < trees; ++t) score += tree_value(trained.trees[t], data.row(row));
      const double p = 1 / (1 + std::exp(-score));
      gradient.push_back(p - static_cast<double>(data.target[row]));
      hessian.push_back(p * (1 - p));
    }
  }

  double sum(const std::vector<double>& of, const Rows& rows) const {
    double total = 0;
    for (const std::size_t row : rows) total += of[row];
    return total;
  }
  double score(const Rows& rows) const {
    return std::pow(sum(gradient, rows), 2) / (sum(hessian, rows) + options.l2);
  }
  bool large_enough(const Rows& rows) const {
    return rows.size() >= options.min_leaf_rows && sum(hessian, rows) >= options.min_leaf_hessian;
  }
  double value(const Rows& rows) const {
    return -sum(gradient, rows) / (sum(hessian, rows) + options.l2) * options.rate;
  }
  double gain(const Rows& rows, const Question& question) const {
    const auto [left, right] = divided(data, rows, question);
    if (!large_enough(left) || !large_enough(right)) return 0;
    return score(left) + score(right) - score(rows);
  }
};

constexpr double rounding = 1e-6;  // of the fixed-point numbers, on gains and values of this size

TEST(Boosted, FirstSplitByHand) {
  // Base rate 1/2: gradients are 1/2 for class 0 and -1/2 for class 1, hessians 1/4.
  const Dataset data = make(1, {1, 2, 3, 4, 5, 6}, {0, 0, 1, 0, 1, 1});
  // After the second row: left G = 1, H = 1/2; right G = -1, H = 1; gain = 2 + 1 - 0; so after the fourth.
  BoostedOptions options = {.trees = 1, .leaves = 2, .rate = 0.5, .min_leaf_rows = 1};
  for (const double min_gain : {2.999, 3.001}) {
    options.min_gain = min_gain;
    const TreeEnsemble trained = boosted(data, options);
    EXPECT_EQ(trained.base[0], 0);
    const Tree& tree = trained.trees[0];
    if (min_gain > 3) {
      ASSERT_EQ(tree.nodes.size(), 1u);
      EXPECT_EQ(tree.nodes[0].value, 0);
    } else {
      ASSERT_EQ(tree.nodes.size(), 3u);
      EXPECT_EQ(tree.nodes[0].threshold, 2.5F);
      EXPECT_NEAR(tree_value(tree, data.row(0)), -1, rounding);
      EXPECT_NEAR(tree_value(tree, data.row(5)), 0.5, rounding);
    }
  }
  options.min_gain = 0;
  options.l2 = 0.5;
  EXPECT_NEAR(tree_value(boosted(data, options).trees[0], data.row(0)), -0.5, rounding);
}

TEST(Boosted, NoOtherQuestionGainsMore) {
  for (const double missing : {0.0, 0.2})
    for (const unsigned depth : {0u, 3u}) {
      const Dataset data = noisy(700, 5, missing);
      const std::vector<Question> questions = all_questions(data);
      const BoostedOptions options = {.trees = 3,
                                      .leaves = 9,
                                      .depth = depth,
                                      .rate = 0.4,
                                      .min_leaf_rows = 15,
                                      .min_leaf_hessian = 2,
                                      .l2 = 0.7,
                                      .min_gain = 0.5};
      const TreeEnsemble trained = boosted(data, options);
      ASSERT_EQ(trained.trees.size(), 3u);
      for (std::size_t t = 0; t < 3; ++t) {
        const Tree& tree = trained.trees[t];
        const Loss loss(data, options, trained, t);
        const std::vector<Rows> rows = rows_of_nodes(tree, data);
        const auto best_gain = [&](std::size_t i) {
          double best = 0;
          for (const Question& question : questions) best = std::max(best, loss.gain(rows[i], question));
          return best;
        };
        // Splits in the order in which they were made: that of their children.
        std::vector<std::size_t> splits;
        for (std::size_t i = 0; i < tree.nodes.size(); ++i)
          if (tree.nodes[i].feature >= 0) splits.push_back(i);
        std::sort(splits.begin(), splits.end(),
                  [&](std::size_t a, std::size_t b) { return tree.nodes[a].left < tree.nodes[b].left; });
        std::vector<unsigned> depths(tree.nodes.size());
        std::map<std::size_t, double> open = {{0, best_gain(0)}};
        for (const std::size_t i : splits) {
          const TreeNode& node = tree.nodes[i];
          const double gain = loss.gain(rows[i], question_of(node));
          EXPECT_GT(gain, options.min_gain - rounding);
          for (const auto& [other, best] : open)
            EXPECT_GE(gain, best - rounding) << t << ' ' << i << ' ' << other;
          open.erase(i);
          for (const auto child :
               {static_cast<std::size_t>(node.left), static_cast<std::size_t>(node.right)}) {
            depths[child] = depths[i] + 1;
            if (depth == 0 || depths[child] < depth) open[child] = best_gain(child);
          }
          expect_default_side(node, data, rows[i]);
        }
        for (const auto& [i, best] : open)
          EXPECT_TRUE(splits.size() + 1 == options.leaves || best <= options.min_gain + rounding);
        EXPECT_LE(splits.size() + 1, options.leaves);
        for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
          if (tree.nodes[i].feature >= 0) continue;
          EXPECT_TRUE(loss.large_enough(rows[i]));
          EXPECT_NEAR(tree.nodes[i].value, loss.value(rows[i]), rounding);
        }
      }
    }
}

TEST(Symmetric, NoOtherQuestionGainsMoreOnTheWholeLevel) {
  for (const double missing : {0.0, 0.2}) {
    const Dataset data = noisy(500, 6, missing);
    const std::vector<Question> questions = all_questions(data);
    const BoostedOptions options = {
        .growth = Growth::symmetric, .trees = 3, .depth = 4, .rate = 0.4, .min_leaf_rows = 30, .l2 = 0.7};
    const TreeEnsemble trained = boosted(data, options);
    ASSERT_EQ(trained.trees.size(), 3u);
    EXPECT_EQ(trained.symmetric_depth, 4);
    bool inherited = false;
    for (std::size_t t = 0; t < 3; ++t) {
      const Tree& tree = trained.trees[t];
      const Loss loss(data, options, trained, t);
      ASSERT_EQ(tree.nodes.size(), 31u);
      const std::vector<Rows> rows = rows_of_nodes(tree, data);
      std::vector<double> value = {loss.value(rows[0])};
      for (std::size_t begin = 0; begin < 15; begin = 2 * begin + 1) {
        const auto total = [&](const Question& question) {
          double sum = 0;
          for (std::size_t i = begin; i < 2 * begin + 1; ++i) sum += loss.gain(rows[i], question);
          return sum;
        };
        const TreeNode& asked = tree.nodes[begin];
        double best = 0;
        for (const Question& question : questions) best = std::max(best, total(question));
        EXPECT_NEAR(total(question_of(asked)), best, 10 * rounding);
        for (std::size_t i = begin; i < 2 * begin + 1; ++i) {
          const TreeNode& node = tree.nodes[i];
          EXPECT_EQ(node.feature, asked.feature);
          EXPECT_EQ(node.threshold, asked.threshold);
          EXPECT_EQ(node.missing_left, asked.missing_left);
          EXPECT_EQ(node.left, static_cast<std::int32_t>(2 * i + 1));
          EXPECT_EQ(node.right, static_cast<std::int32_t>(2 * i + 2));
          for (const std::size_t child : {2 * i + 1, 2 * i + 2}) {
            value.push_back(loss.large_enough(rows[child]) ? loss.value(rows[child]) : value[i]);
            if (child >= 15) {
              EXPECT_NEAR(tree.nodes[child].value, value[child], rounding);
            }
            inherited = inherited || !loss.large_enough(rows[child]);
          }
        }
      }
    }
    EXPECT_TRUE(inherited);  // otherwise this data does not test it
  }
}

TEST(Symmetric, StaysCompleteWhereNothingIsLeftToAsk) {
  const Dataset data = make(1, {1, 2, 3, 4}, {0, 0, 1, 1});
  const TreeEnsemble trained =
      boosted(data, {.growth = Growth::symmetric, .trees = 1, .depth = 3, .rate = 1, .min_leaf_rows = 2});
  ASSERT_EQ(trained.trees[0].nodes.size(), 15u);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(trained.trees[0].nodes[i].threshold, 2.5F);
  for (std::size_t row = 0; row < 4; ++row)
    EXPECT_NEAR(tree_value(trained.trees[0], data.row(row)), row < 2 ? -2 : 2, rounding);
}

double log_loss(const TreeEnsemble& trained, const Dataset& data, std::size_t trees) {
  double sum = 0;
  for (std::size_t row = 0; row < data.rows; ++row) {
    double score = trained.base[0];
    for (std::size_t t = 0; t < trees; ++t) score += tree_value(trained.trees[t], data.row(row));
    sum += std::log1p(std::exp(data.target[row] == 1 ? -score : score));
  }
  return sum / static_cast<double>(data.rows);
}

TEST(Boosted, EveryTreeLowersTheTrainingLoss) {
  const Dataset data = noisy(600, 7, 0.1);
  for (const Growth growth : {Growth::leaf_wise, Growth::symmetric}) {
    const TreeEnsemble trained = boosted(data, {.growth = growth, .trees = 30, .depth = 3, .rate = 0.2});
    for (std::size_t trees = 0; trees < 30; ++trees)
      EXPECT_LT(log_loss(trained, data, trees + 1), log_loss(trained, data, trees));
  }
}

TEST(Boosted, LearnsEveryRowByHeartWhenAllowed) {
  Dataset data = noisy(200, 8);
  for (std::size_t row = 0; row < data.rows; ++row) data.values[4 * row + 3] = static_cast<float>(row);
  for (const Growth growth : {Growth::leaf_wise, Growth::symmetric}) {
    const TreeEnsemble trained = boosted(
        data, {.growth = growth, .trees = 300, .leaves = 50, .depth = 6, .rate = 0.3, .min_leaf_rows = 1});
    for (std::size_t row = 0; row < data.rows; ++row)
      EXPECT_EQ(ensemble_scores(trained, data.row(row))[0] > 0, data.target[row] == 1);
  }
}

TEST(Boosted, RowsThatAreAlikeAreNotSplit) {
  // After the first split both leaves are pure, and all their rows have the same derivatives.
  Dataset data = make(2, {}, {});
  for (int i = 0; i < 99; ++i) {
    data.values.insert(data.values.end(), {static_cast<float>(i), static_cast<float>(i * 7 % 31)});
    data.target.push_back(i < 37 ? 0.0F : 1.0F);
  }
  data.rows = 99;
  for (const Tree& tree : boosted(data, {.trees = 20, .min_leaf_rows = 1}).trees)
    EXPECT_EQ(tree.nodes.size(), 3u);
}

TEST(Boosted, PatienceKeepsTheBestNumberOfTrees) {
  const Dataset data = noisy(300, 9), validation = noisy(300, 10);
  Threads threads(1);
  for (const Growth growth : {Growth::leaf_wise, Growth::symmetric}) {
    BoostedOptions options = {.growth = growth, .trees = 200, .depth = 4, .rate = 0.2, .min_leaf_rows = 3};
    const TreeEnsemble all = train_boosted(data, {}, options, with(threads));
    options.patience = 15;
    const TreeEnsemble kept = train_boosted(data, validation, options, with(threads));
    ASSERT_GT(kept.trees.size(), 0u);
    ASSERT_LT(kept.trees.size(), 185u);
    for (std::size_t trees = 0; trees <= kept.trees.size() + 15; ++trees)
      if (trees != kept.trees.size()) {
        EXPECT_LT(log_loss(all, validation, kept.trees.size()), log_loss(all, validation, trees)) << trees;
      }
    const std::vector<Tree> first(all.trees.begin(),
                                  all.trees.begin() + static_cast<std::ptrdiff_t>(kept.trees.size()));
    EXPECT_EQ(trees_to_state(kept.trees), trees_to_state(first));
  }
}

TEST(Boosted, DrawsFeaturesAndRowsForEachTree) {
  const Dataset data = noisy(400, 11);
  const TreeEnsemble trained = boosted(data, {.trees = 40, .min_leaf_rows = 3, .feature_share = 0.5});
  std::set<std::set<int>> drawn;
  for (const Tree& tree : trained.trees) {
    std::set<int> features;
    for (const TreeNode& node : tree.nodes)
      if (node.feature >= 0) features.insert(node.feature);
    EXPECT_LE(features.size(), 2u);
    drawn.insert(features);
  }
  EXPECT_GT(drawn.size(), 4u);

  // With half of the rows, no leaf of the first tree can be the Newton step of all rows that reach it,
  // but no leaf has fewer than the minimum.
  const BoostedOptions half = {.trees = 1, .min_leaf_rows = 20, .row_share = 0.5};
  const TreeEnsemble sampled = boosted(data, half);
  const Loss loss(data, half, sampled, 0);
  const std::vector<Rows> rows = rows_of_nodes(sampled.trees[0], data);
  std::size_t different = 0;
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (sampled.trees[0].nodes[i].feature < 0) {
      EXPECT_GE(rows[i].size(), 20u);
      different += std::abs(sampled.trees[0].nodes[i].value - loss.value(rows[i])) > 1e-4 ? 1 : 0;
    }
  EXPECT_GT(different, 3u);
  EXPECT_LE(rows.size() / 2 + 1, 10u);  // 200 rows / 20
}

TEST(Boosted, MissingGoesWhereItBelongs) {
  // Missing belongs with the large values on feature 0; on feature 1 only being missing matters.
  for (const bool large_is_positive : {false, true})
    for (const Growth growth : {Growth::leaf_wise, Growth::symmetric}) {
      Dataset data = make(1, {}, {});
      for (int i = 0; i < 90; ++i) {
        data.values.push_back(i % 3 == 0 ? nan : static_cast<float>(i % 3));
        data.target.push_back((i % 3 != 1) == large_is_positive ? 1.0F : 0.0F);
      }
      data.rows = 90;
      TreeEnsemble trained = boosted(data, {.growth = growth, .trees = 5, .depth = 1});
      for (const Tree& tree : trained.trees) EXPECT_FALSE(tree.nodes[0].missing_left);
      for (std::size_t row = 0; row < 90; ++row) {
        data.values[row] = -data.values[row];
        EXPECT_EQ(ensemble_scores(trained, make(1, {-data.values[row]}, {0}).row(0))[0] > 0,
                  data.target[row] == 1);
      }
      trained = boosted(data, {.growth = growth, .trees = 5, .depth = 1});
      for (const Tree& tree : trained.trees) EXPECT_TRUE(tree.nodes[0].missing_left);

      for (std::size_t row = 0; row < 90; ++row)  // now only being missing matters
        data.target[row] = std::isnan(data.values[row]) == large_is_positive ? 1.0F : 0.0F;
      trained = boosted(data, {.growth = growth, .trees = 5, .depth = 1});
      const TreeEnsemble grown = forest(data, {.trees = 5});
      for (std::size_t row = 0; row < 90; ++row) {
        EXPECT_EQ(ensemble_scores(trained, data.row(row))[0] > 0, data.target[row] == 1);
        EXPECT_DOUBLE_EQ(ensemble_scores(grown, data.row(row))[0], static_cast<double>(data.target[row]));
      }
    }
}

// ------------------------------------------------------------------------------------- all trainers

struct Trainer {
  const char* name;
  std::function<TreeEnsemble(const Dataset&, const Training&)> train;
};

std::vector<Trainer> trainers() {
  const auto boost = [](BoostedOptions options) {
    return [options](const Dataset& data, const Training& training) {
      Dataset validation = data;  // with other noise
      for (std::size_t row = 0; row < data.rows; row += 3) validation.target[row] = 1 - data.target[row];
      return train_boosted(data, validation, options, training);
    };
  };
  return {
      {"forest", [](const Dataset& data, const Training& t) { return train_forest(data, {.trees = 12}, t); }},
      {"leaf-wise", boost({.trees = 12})},
      {"symmetric", boost({.growth = Growth::symmetric, .trees = 12, .depth = 4})},
      {"with shares", boost({.trees = 12, .feature_share = 0.7, .row_share = 0.6})},
      {"with patience",
       boost({.growth = Growth::symmetric, .trees = 40, .depth = 4, .rate = 0.9, .patience = 5})},
  };
}

/// Copies of the features side by side, so that there are several groups of work and of rows.
Dataset wide() {
  Dataset data = noisy(9000, 12, 0.1);
  std::vector<float> values;
  for (std::size_t row = 0; row < data.rows; ++row)
    for (int copy = 0; copy < 5; ++copy)
      for (const float x : data.row(row))
        values.push_back(copy == 0 ? x : x + static_cast<float>(row * 7919 % 97));
  data.values = std::move(values);
  data.features = 20;
  return data;
}

TEST(TreeTrainers, ThreadsDoNotMatterAndSeedsDo) {
  const Dataset data = wide();
  for (const Trainer& trainer : trainers()) {
    Threads one(1);
    const TreeEnsemble expected = trainer.train(data, with(one));
    for (const unsigned count : {2u, 3u}) {
      Threads threads(count);
      EXPECT_TRUE(same(trainer.train(data, with(threads)), expected)) << trainer.name << ' ' << count;
    }
    const bool draws = std::string(trainer.name) == "forest" || std::string(trainer.name) == "with shares";
    EXPECT_EQ(same(trainer.train(data, with(one, 2)), expected), !draws) << trainer.name;
  }
}

TEST(TreeTrainers, ResumedEndsLikeUninterrupted) {
  const Dataset data = noisy(6000, 12, 0.1);
  for (const Trainer& trainer : trainers()) {
    Threads threads(2);
    const TreeEnsemble expected = trainer.train(data, with(threads));
    EXPECT_LT(expected.trees.size(), 30u);  // patience ends it early
    Folder folder;
    int runs = 0;
    for (bool finished = false; !finished; ++runs) {
      Training training = with(threads);
      training.checkpoint = Checkpoint(folder / "checkpoint", "same", runs > 0);
      polls_before_interrupt = 5;  // each run grows five trees, then is interrupted
      try {
        const TreeEnsemble resumed = trainer.train(data, training);
        finished = true;
        EXPECT_TRUE(same(resumed, expected)) << trainer.name;
      } catch (const Interrupted&) {
      }
      polls_before_interrupt = std::numeric_limits<int>::max();
      ASSERT_LT(runs, 20);
    }
    EXPECT_GT(runs, 1) << trainer.name;
  }
}

TEST(TreeTrainers, ConstantFeaturesGiveTheBaseRate) {
  const Dataset data = make(2, std::vector<float>(20, 3.0F), {1, 0, 0, 0, 1, 0, 0, 0, 0, 0});
  const TreeEnsemble leaf_wise = boosted(data, {}),
                     symmetric = boosted(data, {.growth = Growth::symmetric, .depth = 3});
  EXPECT_EQ(leaf_wise.trees.size(), 1u);
  EXPECT_EQ(symmetric.trees.size(), 1u);
  EXPECT_EQ(symmetric.trees[0].nodes.size(), 15u);
  for (const TreeEnsemble& trained : {leaf_wise, symmetric})
    EXPECT_DOUBLE_EQ(ensemble_scores(trained, data.row(0))[0], std::log(0.25));
  EXPECT_DOUBLE_EQ(ensemble_scores(forest(data, {.trees = 3, .bootstrap = false}), data.row(0))[0], 0.2);
}

TEST(TreeTrainers, RefuseOneClass) {
  for (const float target : {0.0F, 1.0F}) {
    const Dataset data = make(1, {1, 2, 3}, {target, target, target});
    for (const Trainer& trainer : trainers()) {
      Threads threads(1);
      EXPECT_TRUE(contains(error_of([&] { trainer.train(data, with(threads)); }), "both classes"))
          << trainer.name;
    }
  }
  EXPECT_THROW(forest(make(0, {}, {0, 1}), {}), Error);
  EXPECT_THROW(forest({}, {}), Error);
}

TEST(TreeTrainers, RefuseOptionsOutOfRangeByName) {
  const Dataset data = noisy(100, 14);
  const double not_a_number = std::numeric_limits<double>::quiet_NaN();
  const std::pair<const char*, BoostedOptions> bad_boosted[] = {
      {"trees", {.trees = 0}},
      {"leaves", {.leaves = 1}},
      {"depth", {.growth = Growth::symmetric, .depth = 0}},
      {"depth", {.growth = Growth::symmetric, .depth = 17}},
      {"rate", {.rate = 0}},
      {"rate", {.rate = 1.01}},
      {"rate", {.rate = not_a_number}},
      {"min_leaf_rows", {.min_leaf_rows = 0}},
      {"min_leaf_hessian", {.min_leaf_hessian = -1}},
      {"l2", {.l2 = -0.1}},
      {"l2", {.l2 = std::numeric_limits<double>::infinity()}},
      {"min_gain", {.min_gain = not_a_number}},
      {"feature_share", {.feature_share = 0}},
      {"feature_share", {.feature_share = 1.1}},
      {"row_share", {.row_share = -1}},
      {"bins", {.bins = 1}},
      {"bins", {.bins = 256}},
      {"patience", {.patience = 3}},  // without validation rows
  };
  for (const auto& [name, options] : bad_boosted)
    EXPECT_TRUE(contains(error_of([&] { boosted(data, options); }), name));
  const std::pair<const char*, ForestOptions> bad_forest[] = {
      {"trees", {.trees = 0}},
      {"depth", {.depth = 0}},
      {"features_per_split", {.features_per_split = 5}},
      {"min_leaf_rows", {.min_leaf_rows = 0}},
      {"bins", {.bins = 1}},
      {"bins", {.bins = 256}},
  };
  for (const auto& [name, options] : bad_forest)
    EXPECT_TRUE(contains(error_of([&] { forest(data, options); }), name));
}

}  // namespace
}  // namespace tonearm
