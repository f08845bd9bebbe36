#pragma once

#include <cstddef>
#include <limits>

#include "train/binning.h"
#include "train/training.h"
#include "train/trees.h"

namespace tonearm {

struct BoostedOptions {
  enum class Growth { leaf_wise, symmetric };
  Growth growth = Growth::leaf_wise;
  unsigned trees = 100;
  /// Leaf-wise: leaves of a tree at most.
  unsigned leaves = 31;
  /// Symmetric: depth of every tree. Leaf-wise: bound on depth, 0 for none.
  unsigned depth = 0;
  double rate = 0.1;
  unsigned min_leaf_rows = 20;
  double min_leaf_hessian = 1e-3;
  /// L2 regularisation of leaf values.
  double l2 = 0;
  /// A split must gain more than this.
  double min_gain = 0;
  /// Share of features drawn for each tree, and of rows for each tree; 1 takes all.
  double feature_share = 1, row_share = 1;
  /// The features from this one on, up to the other, are costly when the model is used (they differ for every
  /// candidate of a queue): only this share of the trees, evenly spread, may ask about them.
  std::size_t costly_from = std::numeric_limits<std::size_t>::max();
  std::size_t costly_end = std::numeric_limits<std::size_t>::max();
  double costly_share = 1;
  /// Bins per feature, at most 255.
  unsigned bins = 255;
  /// Stop when the validation log loss has not improved for this many trees; 0 never stops.
  unsigned patience = 0;
};

/// Gradient-boosted trees for the logistic loss (Friedman 2001; second-order gains and leaf values as in
/// Chen, Guestrin 2016; histograms and leaf-wise growth as in Ke et al. 2017; symmetric growth as in
/// Prokhorenkova et al. 2018). The score is a logit; base is the logit of the base rate. With patience,
/// `validation` decides how many trees are kept. Gradients are summed in fixed point, so that no order
/// of summation matters. Training ends early when no split gains anything; there is at least one tree.
///
/// A symmetric tree asks on each level what gains most over all its leaves. Leaves too small to be split
/// have no say; they are split anyway, and what becomes too small for min_leaf_rows or min_leaf_hessian,
/// or empty, keeps its parent's value.
///
/// Missing values go to the side where they gain more; where a node has none, to that of most rows; and
/// always left on a feature that is never missing.
///
/// Rows beyond the memory limit of `rows` or `validation` stay in files and are read once for about every
/// level of a tree. The trees are the same, bit for bit, whatever the limit. `validation` (cut as `rows`
/// are) may be null without patience; options.bins has been used when the rows were binned.
///
/// Throws Error for options out of range or files that cannot be read or written. Restartable per tree.
TreeEnsemble train_boosted(const BinnedRows& rows, const BinnedRows* validation,
                           const BoostedOptions& options, const Training& training);

/// The same in memory, with options.bins. Throws Error for one class only.
TreeEnsemble train_boosted(const Dataset& data, const Dataset& validation, const BoostedOptions& options,
                           const Training& training);

}  // namespace tonearm
