#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

namespace tonearm {

/// A node of a decision tree as a trainer or importer makes it. x <= threshold goes left; a missing
/// value (NaN) goes where missing_left says. A leaf has feature < 0 and a value.
struct TreeNode {
  std::int32_t feature = -1;
  /// NaN: below every number, so that only a missing value may go left.
  float threshold = 0;
  bool missing_left = true;
  std::int32_t left = -1, right = -1;
  double value = 0;
  /// Numbers from -1e-35f to 1e-35f are missing too, as LightGBM's zero_as_missing has it.
  bool zero_is_missing = false;
  /// Not negative: an index of TreeEnsemble::category_splits, which decides instead of the threshold.
  std::int32_t category_split = -1;
};

/// Which way categories go: true is right. A number stands for the category that it is, truncated toward 0.
struct CategorySplit {
  std::vector<bool> right;     // of category 0, 1, ...
  bool other_right = false;    // of numbers below -1 or at it, and of those beyond the last category
  bool between_right = false;  // of numbers between -1 and 0, which only some trainers take for category 0
  bool missing_right = false;
};

/// nodes[0] is the root; a child always comes after its parent.
struct Tree {
  std::vector<TreeNode> nodes;
};

/// score[k] = base[k] + scale * (sum of the reached leaves of the trees of output k). The trees of
/// output 0 come first, then as many of output 1, and so on.
struct TreeEnsemble {
  std::vector<Tree> trees;
  std::vector<double> base = {0.0};
  double scale = 1;
  std::vector<CategorySplit> category_splits;
  /// Above 0: every tree is complete with this depth and asks one question per level, so that it can
  /// become SymmetricTrees. Its nodes are in breadth-first order (children of i: 2i+1, 2i+2).
  int symmetric_depth = 0;
};

/// The leaf that a row reaches: the independent float64 reference that blobs are compared with.
/// `splits` are the ensemble's, where it has any.
double tree_value(const Tree& tree, std::span<const float> row, std::span<const CategorySplit> splits = {});
/// All scores of a row, in float64.
std::vector<double> ensemble_scores(const TreeEnsemble& ensemble, std::span<const float> row);

/// Trees as the state of a checkpoint, exact to the bit, and back. A tree may have no nodes yet. Reading
/// throws Error unless the state describes trees whose features are below `features`.
nlohmann::json trees_to_state(std::span<const Tree> trees);
std::vector<Tree> trees_from_state(const nlohmann::json& state, std::size_t features);

}  // namespace tonearm
