#pragma once

#include "train/training.h"
#include "train/trees.h"

namespace tonearm {

struct ForestOptions {
  unsigned trees = 200;
  /// Edges from root to deepest leaf.
  unsigned depth = 25;
  /// Features looked at per split; 0 means the square root of all, rounded down.
  unsigned features_per_split = 0;
  /// Different rows in a leaf, however often the bootstrap sample repeats them.
  unsigned min_leaf_rows = 1;
  bool bootstrap = true;
  /// Bins per feature, at most 255.
  unsigned bins = 255;
};

/// Random forest (Breiman 2001): bootstrap samples, Gini impurity, random features at each split; a
/// feature that is constant in the node does not count as looked at. A leaf's value is its share of
/// positive rows; the score (scale = 1 / trees) is their mean, a probability. Missing values as in
/// train_boosted. Throws Error for one class only or options out of range. Restartable per tree.
TreeEnsemble train_forest(const Dataset& data, const ForestOptions& options, const Training& training);

}  // namespace tonearm
