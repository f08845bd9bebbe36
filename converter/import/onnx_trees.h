#pragma once

// Tree ensembles of ai.onnx.ml as the file has them, checked: every child exists, is reached once, and comes
// after its parent.

#include <cstdint>
#include <utility>
#include <vector>

#include "import/onnx_graph.h"

namespace tonearm::onnx_import {

enum class Branch : std::uint8_t { leaf, leq, lt, gte, gt, eq, neq, member };

struct ParsedNode {
  Branch branch = Branch::leaf;
  bool missing_true = false;
  std::int32_t feature = 0;
  double threshold = 0;
  std::uint32_t if_true = 0, if_false = 0;
  /// Of a leaf: its part of `weights`; of a member test: of `members`.
  std::uint32_t begin = 0, end = 0;
};

struct ParsedTrees {
  struct Weight {
    std::uint32_t target = 0;
    double value = 0;
  };

  /// Of all trees: those of tree t are nodes[tree_begin[t]] .. nodes[tree_begin[t + 1] - 1]. The first is the
  /// root; children are counted from it.
  std::vector<ParsedNode> nodes;
  std::vector<std::uint32_t> tree_begin = {0};
  /// Of each leaf, by ascending target, one for a target at most.
  std::vector<Weight> weights;
  std::vector<double> members;
  /// score[k] = base[k] + scale * (sum of the weights for k)
  std::vector<double> base;
  double scale = 1;

  std::size_t trees() const { return tree_begin.size() - 1; }
  std::size_t targets() const { return base.size(); }
  std::int32_t largest_feature() const;
  /// Whether some tree gives every row a weight for `target`.
  bool always_scores(std::uint32_t target) const;
};

/// Where x goes, as ONNX Runtime compares; a missing value goes to `if_false` unless the node says otherwise,
/// but is unequal to every number.
bool is_true(const ParsedTrees& trees, const ParsedNode& node, double x);

/// TreeEnsembleRegressor and TreeEnsembleClassifier: `kind` is "target" or "class".
ParsedTrees read_trees(const Attributes& attributes, const std::string& kind, std::size_t targets);
/// TreeEnsemble, of ai.onnx.ml 5.
ParsedTrees read_tree_ensemble(const Attributes& attributes);

}  // namespace tonearm::onnx_import
