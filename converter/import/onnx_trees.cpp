#include "import/onnx_trees.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

namespace tonearm::onnx_import {
namespace {

constexpr std::int64_t most_targets = 65000, most_features = 65535;

template <typename Values>
void require_size(const Values& values, std::size_t expected, const std::string& name) {
  if (values.size() != expected)
    throw Unsupported(name + " has " + std::to_string(values.size()) + " values, and there are " +
                      std::to_string(expected) + " to describe");
}

Branch branch_of(const std::string& mode) {
  if (mode == "LEAF") return Branch::leaf;
  if (mode == "BRANCH_LEQ") return Branch::leq;
  if (mode == "BRANCH_LT") return Branch::lt;
  if (mode == "BRANCH_GTE") return Branch::gte;
  if (mode == "BRANCH_GT") return Branch::gt;
  if (mode == "BRANCH_EQ") return Branch::eq;
  if (mode == "BRANCH_NEQ") return Branch::neq;
  throw Unsupported("nodes_modes has \"" + shown(mode) + "\", which is not known");
}

std::int32_t checked_feature(std::int64_t feature) {
  if (feature < 0 || feature >= most_features)
    throw Unsupported("a node asks for feature " + std::to_string(feature) + ", and there can be " +
                      std::to_string(most_features) + " at most");
  return static_cast<std::int32_t>(feature);
}

std::uint32_t checked_target(std::int64_t target, std::size_t targets) {
  if (target < 0 || static_cast<std::size_t>(target) >= targets)
    throw Unsupported("a leaf has a weight for target " + std::to_string(target) + ", and there are " +
                      std::to_string(targets));
  return static_cast<std::uint32_t>(target);
}

double checked_weight(double weight) {
  if (!std::isfinite(weight) || !std::isfinite(static_cast<float>(weight)))
    throw Unsupported("a leaf has the weight " + number_text(weight));
  return weight;
}

/// Numbers the nodes of one tree so that children come after their parents, and appends them. Children are
/// file positions in `children(position)`; `make(position)` is the node without them. Those that `reached`
/// has a place for can be reached once.
template <typename Children, typename Make>
void append_tree(ParsedTrees& trees, std::vector<std::uint8_t>& reached, std::size_t root,
                 const Children& children, const Make& make) {
  const std::size_t first = trees.nodes.size();
  struct Open {
    std::size_t position;
    std::size_t parent;  // in trees.nodes
    bool if_true;
  };
  std::vector<Open> open = {{root, std::numeric_limits<std::size_t>::max(), false}};
  while (!open.empty()) {
    const Open at = open.back();
    open.pop_back();
    if (at.position < reached.size()) {
      if (reached[at.position] != 0)
        throw Unsupported("tree " + std::to_string(trees.trees()) +
                          " is not a tree: one of its nodes is reached twice");
      reached[at.position] = 1;
    }
    const std::size_t number = trees.nodes.size();
    if (number > first) {
      ParsedNode& parent = trees.nodes[at.parent];
      (at.if_true ? parent.if_true : parent.if_false) = static_cast<std::uint32_t>(number - first);
    }
    trees.nodes.push_back(make(at.position));
    if (trees.nodes.back().branch == Branch::leaf) continue;
    const auto [if_true, if_false] = children(at.position);
    open.push_back({if_false, number, false});
    open.push_back({if_true, number, true});
  }
  trees.tree_begin.push_back(static_cast<std::uint32_t>(trees.nodes.size()));
}

void set_aggregate(ParsedTrees& trees, const std::string& aggregate) {
  if (aggregate == "AVERAGE")
    trees.scale = 1 / static_cast<double>(trees.trees());
  else if (aggregate != "SUM")
    throw Unsupported("aggregate_function is " + shown(aggregate) + ", and only SUM and AVERAGE can be had");
}

}  // namespace

std::int32_t ParsedTrees::largest_feature() const {
  std::int32_t largest = -1;
  for (const ParsedNode& node : nodes)
    if (node.branch != Branch::leaf) largest = std::max(largest, node.feature);
  return largest;
}

bool ParsedTrees::always_scores(std::uint32_t target) const {
  const auto scores = [&](const ParsedNode& node) {
    return node.branch != Branch::leaf ||
           std::any_of(weights.begin() + node.begin, weights.begin() + node.end,
                       [&](const Weight& weight) { return weight.target == target; });
  };
  for (std::size_t t = 0; t < trees(); ++t)
    if (std::all_of(nodes.begin() + tree_begin[t], nodes.begin() + tree_begin[t + 1], scores)) return true;
  return false;
}

bool is_true(const ParsedTrees& trees, const ParsedNode& node, double x) {
  if (std::isnan(x) && node.missing_true) return true;
  switch (node.branch) {
    case Branch::leaf:
      return false;
    case Branch::leq:
      return x <= node.threshold;
    case Branch::lt:
      return x < node.threshold;
    case Branch::gte:
      return x >= node.threshold;
    case Branch::gt:
      return x > node.threshold;
    case Branch::eq:
      return x == node.threshold;
    case Branch::neq:
      return x != node.threshold;
    case Branch::member:
      return std::find(trees.members.begin() + node.begin, trees.members.begin() + node.end, x) !=
             trees.members.begin() + node.end;
  }
  return false;
}

ParsedTrees read_trees(const Attributes& attributes, const std::string& kind, std::size_t targets) {
  if (targets == 0 || targets > static_cast<std::size_t>(most_targets))
    throw Unsupported("it has " + std::to_string(targets) + " outputs, and 1 to " +
                      std::to_string(most_targets) + " can be had");
  const auto tree_ids = attributes.integers("nodes_treeids");
  const std::size_t count = tree_ids.size();
  if (count == 0) throw Unsupported("it has no nodes");
  if (count > std::numeric_limits<std::int32_t>::max() / 4) throw Unsupported("it has too many nodes");
  const auto node_ids = attributes.integers("nodes_nodeids");
  const auto features = attributes.integers("nodes_featureids");
  const auto values = attributes.numbers_or_tensor("nodes_values");
  const auto true_ids = attributes.integers("nodes_truenodeids");
  const auto false_ids = attributes.integers("nodes_falsenodeids");
  const auto missing_true = attributes.integers("nodes_missing_value_tracks_true");
  std::vector<Branch> modes;
  {
    const auto* names = attributes.find("nodes_modes");
    if (names == nullptr) throw Unsupported("nodes_modes is missing");
    modes.reserve(static_cast<std::size_t>(names->strings_size()));
    for (const std::string& name : names->strings()) modes.push_back(branch_of(name));
  }
  require_size(node_ids, count, "nodes_nodeids");
  require_size(features, count, "nodes_featureids");
  require_size(values, count, "nodes_values");
  require_size(modes, count, "nodes_modes");
  require_size(true_ids, count, "nodes_truenodeids");
  require_size(false_ids, count, "nodes_falsenodeids");
  if (!missing_true.empty()) require_size(missing_true, count, "nodes_missing_value_tracks_true");

  // Nodes by their ids, to find children and leaves by.
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  const auto id_of = [&](std::size_t position) { return std::pair(tree_ids[position], node_ids[position]); };
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return id_of(a) < id_of(b); });
  for (std::size_t i = 1; i < count; ++i)
    if (id_of(order[i - 1]) == id_of(order[i]))
      throw Unsupported("tree " + std::to_string(id_of(order[i]).first) + " has two nodes " +
                        std::to_string(id_of(order[i]).second));
  const auto find = [&](std::int64_t tree, std::int64_t node) -> std::size_t {
    const std::pair wanted(tree, node);
    const auto found =
        std::lower_bound(order.begin(), order.end(), wanted,
                         [&](std::uint32_t position, const auto& id) { return id_of(position) < id; });
    if (found == order.end() || id_of(*found) != wanted)
      throw Unsupported("tree " + std::to_string(tree) + " has no node " + std::to_string(node) +
                        ", which it refers to");
    return *found;
  };

  const auto weight_trees = attributes.integers(kind + "_treeids");
  const auto weight_nodes = attributes.integers(kind + "_nodeids");
  const auto weight_targets = attributes.integers(kind + "_ids");
  const auto weight_values = attributes.numbers_or_tensor(kind + "_weights");
  require_size(weight_nodes, weight_trees.size(), kind + "_nodeids");
  require_size(weight_targets, weight_trees.size(), kind + "_ids");
  require_size(weight_values, weight_trees.size(), kind + "_weights");
  struct Placed {
    std::uint32_t position, target;
    double value;
  };
  std::vector<Placed> placed;
  placed.reserve(weight_trees.size());
  for (std::size_t i = 0; i < weight_trees.size(); ++i) {
    const std::size_t position = find(weight_trees[i], weight_nodes[i]);
    if (modes[position] != Branch::leaf)
      continue;  // some converters give weights to tests; nobody reads them
    placed.push_back({static_cast<std::uint32_t>(position), checked_target(weight_targets[i], targets),
                      checked_weight(weight_values[i])});
  }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.position, a.target) < std::tie(b.position, b.target);
  });

  ParsedTrees trees;
  trees.nodes.reserve(count);
  trees.weights.reserve(placed.size());
  for (std::size_t i = 0; i < placed.size(); ++i) {
    if (i > 0 && placed[i].position == placed[i - 1].position && placed[i].target == placed[i - 1].target)
      throw Unsupported("a leaf has two weights for target " + std::to_string(placed[i].target));
    trees.weights.push_back({placed[i].target, placed[i].value});
  }

  // A set of categories comes as a chain of tests for equality that all lead to the same node: one test for
  // the set, since a node can only be reached once. `chain_end`: the last test of such a chain,
  // by the position of its first.
  std::vector<std::uint8_t> reached(count, 0);
  std::map<std::size_t, std::size_t> chain_end;
  const auto is_missing_true = [&](std::size_t position) {
    return !missing_true.empty() && missing_true[position] != 0;
  };
  const auto children = [&](std::size_t position) {
    const auto chain = chain_end.find(position);
    return std::pair(
        find(tree_ids[position], true_ids[position]),
        find(tree_ids[position], false_ids[chain == chain_end.end() ? position : chain->second]));
  };
  const auto make = [&](std::size_t position) {
    ParsedNode node;
    node.branch = modes[position];
    if (node.branch == Branch::leaf) {
      const auto [begin, end] =
          std::equal_range(placed.begin(), placed.end(), Placed{static_cast<std::uint32_t>(position), 0, 0},
                           [](const Placed& a, const Placed& b) { return a.position < b.position; });
      node.begin = static_cast<std::uint32_t>(begin - placed.begin());
      node.end = static_cast<std::uint32_t>(end - placed.begin());
      return node;
    }
    node.feature = checked_feature(features[position]);
    node.threshold = values[position];
    node.missing_true = is_missing_true(position);
    if (node.branch != Branch::eq) return node;
    std::vector<double> set = {node.threshold};
    std::size_t last = position;
    for (;;) {
      const std::size_t next = find(tree_ids[position], false_ids[last]);
      if (modes[next] != Branch::eq || features[next] != features[position] || reached[next] != 0 ||
          true_ids[next] != true_ids[position] || is_missing_true(next) != node.missing_true)
        break;
      reached[next] = 1;
      set.push_back(values[next]);
      last = next;
    }
    if (set.size() == 1) return node;
    chain_end[position] = last;
    node.branch = Branch::member;
    node.begin = static_cast<std::uint32_t>(trees.members.size());
    trees.members.insert(trees.members.end(), set.begin(), set.end());
    node.end = static_cast<std::uint32_t>(trees.members.size());
    return node;
  };
  // A tree begins where its number first appears, and its first node is the root.
  for (std::size_t position = 0; position < count; ++position) {
    if (position > 0 && tree_ids[position] == tree_ids[position - 1]) continue;
    append_tree(trees, reached, position, children, make);
  }
  if (const auto lost = std::find(reached.begin(), reached.end(), 0); lost != reached.end())
    throw Unsupported("node " + std::to_string(node_ids[static_cast<std::size_t>(lost - reached.begin())]) +
                      " of tree " +
                      std::to_string(tree_ids[static_cast<std::size_t>(lost - reached.begin())]) +
                      " is not reached from the first node of its tree");
  trees.base.assign(targets, 0.0);
  set_aggregate(trees, attributes.text("aggregate_function", "SUM"));
  return trees;
}

ParsedTrees read_tree_ensemble(const Attributes& attributes) {
  const std::int64_t targets = attributes.integer("n_targets", 1);
  if (targets < 1 || targets > most_targets)
    throw Unsupported("it has " + std::to_string(targets) + " outputs, and 1 to " +
                      std::to_string(most_targets) + " can be had");
  const auto features = attributes.integers("nodes_featureids");
  const std::vector<double> splits = attributes.tensor("nodes_splits").numbers;
  const std::vector<double> modes = attributes.tensor("nodes_modes").numbers;
  const auto true_ids = attributes.integers("nodes_truenodeids");
  const auto false_ids = attributes.integers("nodes_falsenodeids");
  const auto true_leafs = attributes.integers("nodes_trueleafs");
  const auto false_leafs = attributes.integers("nodes_falseleafs");
  const auto missing_true = attributes.integers("nodes_missing_value_tracks_true");
  const auto roots = attributes.integers("tree_roots");
  const auto leaf_targets = attributes.integers("leaf_targetids");
  const std::vector<double> leaf_weights = attributes.tensor("leaf_weights").numbers;
  const std::size_t count = features.size(), leaves = leaf_targets.size();
  if (count == 0 || roots.empty()) throw Unsupported("it has no trees");
  if (count > std::numeric_limits<std::int32_t>::max() / 8 || leaves > count * 2)
    throw Unsupported("it has " + std::to_string(leaves) + " leaves for " + std::to_string(count) + " nodes");
  require_size(splits, count, "nodes_splits");
  require_size(modes, count, "nodes_modes");
  require_size(true_ids, count, "nodes_truenodeids");
  require_size(false_ids, count, "nodes_falsenodeids");
  require_size(true_leafs, count, "nodes_trueleafs");
  require_size(false_leafs, count, "nodes_falseleafs");
  require_size(leaf_weights, leaves, "leaf_weights");
  if (!missing_true.empty()) require_size(missing_true, count, "nodes_missing_value_tracks_true");

  ParsedTrees trees;
  trees.base.assign(static_cast<std::size_t>(targets), 0.0);
  for (std::size_t i = 0; i < leaves; ++i)
    trees.weights.push_back(
        {checked_target(leaf_targets[i], trees.targets()), checked_weight(leaf_weights[i])});

  // The sets of the member tests, in the order of these tests, each ended by NaN.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sets;
  if (attributes.find("membership_values") != nullptr) {
    trees.members = attributes.tensor("membership_values").numbers;
    std::uint32_t begin = 0;
    for (std::uint32_t i = 0; i < trees.members.size(); ++i)
      if (std::isnan(trees.members[i])) {
        sets.emplace_back(begin, i);
        begin = i + 1;
      }
    if (begin < trees.members.size())
      sets.emplace_back(begin, static_cast<std::uint32_t>(trees.members.size()));
  }
  std::vector<std::size_t> set_of(count, 0);
  std::size_t used_sets = 0;
  constexpr Branch branches[] = {Branch::leq, Branch::lt,  Branch::gte,   Branch::gt,
                                 Branch::eq,  Branch::neq, Branch::member};
  for (std::size_t i = 0; i < count; ++i) {
    if (!(modes[i] >= 0 && modes[i] <= 6))
      throw Unsupported("nodes_modes has " + number_text(modes[i]) + ", and 0 to 6 are known");
    if (branches[static_cast<std::size_t>(modes[i])] != Branch::member) continue;
    if (used_sets == sets.size()) throw Unsupported("membership_values has too few sets");
    set_of[i] = used_sets++;
  }

  // Positions are those of the nodes, then those of the leaves. In this operator's own words a tree that is
  // a lone leaf is a node both of whose children are the same leaf.
  const auto child = [&](std::int64_t id, bool leaf) {
    const std::size_t size = leaf ? leaves : count;
    if (id < 0 || static_cast<std::size_t>(id) >= size)
      throw Unsupported("a node refers to " + std::string(leaf ? "leaf " : "node ") + std::to_string(id) +
                        ", and there are " + std::to_string(size));
    return leaf ? count + static_cast<std::size_t>(id) : static_cast<std::size_t>(id);
  };
  const auto lone_leaf = [&](std::size_t i) {
    return true_leafs[i] != 0 && false_leafs[i] != 0 && true_ids[i] == false_ids[i];
  };
  const auto children = [&](std::size_t i) {
    return std::pair(child(true_ids[i], true_leafs[i] != 0), child(false_ids[i], false_leafs[i] != 0));
  };
  const auto make = [&](std::size_t position) {
    ParsedNode node;
    if (position >= count || lone_leaf(position)) {
      const std::size_t leaf = position >= count ? position - count : child(true_ids[position], true) - count;
      node.begin = static_cast<std::uint32_t>(leaf);
      node.end = node.begin + 1;
      return node;
    }
    node.branch = branches[static_cast<std::size_t>(modes[position])];
    node.feature = checked_feature(features[position]);
    node.threshold = splits[position];
    node.missing_true = !missing_true.empty() && missing_true[position] != 0;
    if (node.branch == Branch::member) std::tie(node.begin, node.end) = sets[set_of[position]];
    return node;
  };
  std::vector<std::uint8_t> reached(count, 0);  // leaves may be shared
  for (const std::int64_t root : roots) append_tree(trees, reached, child(root, false), children, make);
  set_aggregate(trees, [&]() -> std::string {
    switch (attributes.integer("aggregate_function", 1)) {
      case 0:
        return "AVERAGE";
      case 1:
        return "SUM";
      case 2:
        return "MIN";
      default:
        return "MAX";
    }
  }());
  return trees;
}

}  // namespace tonearm::onnx_import
