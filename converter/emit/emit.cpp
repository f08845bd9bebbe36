#include "emit/emit.h"

#include <tonearm/tonearm.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include "base/crc32.h"
#include "base/error.h"
#include "emit/networks.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

using schema::ModelT;

/// The order-preserving int32 of a float; see TreeInputs in the schema.
std::int32_t ordered(float value) {
  const auto bits = std::bit_cast<std::int32_t>(value == 0 ? 0.0f : value);
  return bits ^ (bits >> 31 & 0x7fffffff);
}

template <typename T>
void put(std::vector<std::uint8_t>& bytes, T value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

void append_operator(ModelT& model, std::uint16_t first, std::size_t count, std::size_t outputs,
                     schema::OperatorKindUnion kind) {
  if (next_slot(model) + outputs > 65535)
    throw Error("the model takes more than 65535 numbers: use fewer columns or smaller layers");
  auto op = std::make_unique<schema::OperatorT>();
  op->input_offset = first;
  op->input_length = static_cast<std::uint16_t>(count);
  op->output_offset = next_slot(model);
  op->output_length = static_cast<std::uint16_t>(outputs);
  op->kind = std::move(kind);
  op->phase = schema::Phase::Candidate;
  model.output_offset = op->output_offset;
  model.output_length = op->output_length;
  model.operators.push_back(std::move(op));
}

schema::Activation activation_of(NetworkActivation activation) {
  switch (activation) {
    case NetworkActivation::none:
      return schema::Activation::None;
    case NetworkActivation::relu:
      return schema::Activation::Relu;
    case NetworkActivation::sigmoid:
      return schema::Activation::Sigmoid;
    case NetworkActivation::tanh:
      return schema::Activation::Tanh;
    case NetworkActivation::softmax:
      return schema::Activation::Softmax;
  }
  return schema::Activation::None;
}

void append(ModelT& model, const LinearModel& linear, std::uint16_t first, std::size_t count, TreeStorage,
            std::size_t) {
  std::vector<float> weights;
  for (const double weight : linear.weights) weights.push_back(static_cast<float>(weight));
  append_affine(model, first, count, std::move(weights), {static_cast<float>(linear.bias)},
                schema::Activation::None);
}

void append(ModelT& model, const Network& network, std::uint16_t first, std::size_t count, TreeStorage,
            std::size_t) {
  for (const NetworkLayer& layer : network.layers) {
    std::vector<float> weights;
    for (Eigen::Index row = 0; row < layer.weights.rows(); ++row)
      for (Eigen::Index column = 0; column < layer.weights.cols(); ++column)
        weights.push_back(layer.weights(row, column));
    append_affine(model, first, count, std::move(weights), {layer.bias.begin(), layer.bias.end()},
                  activation_of(layer.activation));
    first = model.output_offset;
    count = model.output_length;
  }
  // Of the two classes only the positive one is an answer.
  model.output_offset = static_cast<std::uint16_t>(model.output_offset + model.output_length - 1);
  model.output_length = 1;
}

/// What a node asks of a missing value; see MissingDirection in the schema.
schema::MissingDirection direction_of(const TreeNode& node) {
  if (node.zero_is_missing)
    return node.missing_left ? schema::MissingDirection::ZeroLeft : schema::MissingDirection::ZeroRight;
  return node.missing_left ? schema::MissingDirection::Left : schema::MissingDirection::Right;
}

/// The upper levels of a search among an axis's thresholds, 16 keys at a time; see TreeInputs in the schema.
std::vector<std::int32_t> pivots_of(const std::vector<std::int32_t>& thresholds) {
  constexpr std::int32_t above_all = std::numeric_limits<std::int32_t>::max();
  std::vector<std::int32_t> pivots, below = thresholds;
  while (below.size() > 16) {
    std::vector<std::int32_t> level;
    for (std::size_t last = 15; last + 1 < below.size(); last += 16) level.push_back(below[last]);
    if (level.size() < (below.size() + 15) / 16) level.push_back(above_all);
    level.back() = above_all;
    below = level;
    level.resize((level.size() + 15) / 16 * 16, above_all);
    pivots.insert(pivots.begin(), level.begin(), level.end());
  }
  return pivots;
}

/// Of the features of an ensemble, those of a candidate: the others are of the context part.
struct CandidateFeatures {
  std::size_t first = 0, end = std::numeric_limits<std::size_t>::max();
  bool contain(std::int32_t feature) const {
    return static_cast<std::size_t>(feature) >= first && static_cast<std::size_t>(feature) < end;
  }
};

/// The axes of an ensemble, and where each threshold and each set of categories went. Those of the context
/// part come first.
class AxisTable {
 public:
  AxisTable(const TreeEnsemble& ensemble, bool session, CandidateFeatures candidate, TreeLayout layout)
      : session_(session), candidate_(candidate), layout_(layout), splits_(ensemble.category_splits) {
    if (layout != TreeLayout::walk) find_as_zero(ensemble);
    for (const Tree& tree : ensemble.trees)
      for (const TreeNode& node : tree.nodes) {
        if (node.feature < 0) continue;
        if (node.category_split >= 0)
          add_split(node);
        else
          axes_[key_of(node)].push_back(threshold_of(node));
      }
    // Where none compares with a threshold:
    if (axes_.empty()) axes_[{candidate_.contain(0), 0, schema::MissingDirection::Left}] = {};
    for (auto& [key, thresholds] : axes_) {
      std::sort(thresholds.begin(), thresholds.end());
      thresholds.erase(std::unique(thresholds.begin(), thresholds.end()), thresholds.end());
      first_slice_[key] = slices_;
      slices_ += std::max<std::size_t>(1, (thresholds.size() + 254) / 255);
      if (!std::get<0>(key)) {
        ++context_axes_;
        context_slices_ = slices_;
      }
    }
    for (const auto& [feature, splits] : categories_) {
      first_category_slice_[feature] = slices_;
      slices_ += splits.size();
    }
    if (slices_ > 65535)
      throw Error("the trees compare with too many different thresholds for one ensemble (" +
                  std::to_string(slices_) + " groups of 255, at most 65535): use fewer bins");
  }

  std::size_t slices() const { return slices_; }
  std::size_t context_slices() const { return context_slices_; }

  bool of_context(const TreeNode& node) const { return place(node).first < context_slices_; }

  std::pair<std::uint16_t, std::uint8_t> place(const TreeNode& node) const {
    if (node.category_split >= 0) {
      const auto& splits = categories_.at(node.feature);
      const auto found = std::find_if(splits.begin(), splits.end(), [&](std::int32_t split) {
        return same(split_at(split), split_at(node.category_split));
      });
      return {static_cast<std::uint16_t>(first_category_slice_.at(node.feature) +
                                         static_cast<std::size_t>(found - splits.begin())),
              std::uint8_t{0}};
    }
    const auto& thresholds = axes_.at(key_of(node));
    const auto rank = static_cast<std::size_t>(
        std::lower_bound(thresholds.begin(), thresholds.end(), threshold_of(node)) - thresholds.begin());
    return {static_cast<std::uint16_t>(first_slice_.at(key_of(node)) + rank / 255),
            static_cast<std::uint8_t>(rank % 255)};
  }

  std::unique_ptr<schema::TreeInputsT> inputs() const {
    auto inputs = std::make_unique<schema::TreeInputsT>();
    for (const auto& [key, thresholds] : axes_) {
      inputs->slots.push_back(static_cast<std::uint16_t>(std::get<1>(key)));
      inputs->missing.push_back(std::get<2>(key));
      inputs->threshold_begin.push_back(static_cast<std::uint32_t>(inputs->thresholds.size()));
      inputs->thresholds.insert(inputs->thresholds.end(), thresholds.begin(), thresholds.end());
      if (layout_ != TreeLayout::automatic) continue;
      inputs->pivot_begin.push_back(static_cast<std::uint32_t>(inputs->pivots.size()));
      const std::vector<std::int32_t> pivots = pivots_of(thresholds);
      inputs->pivots.insert(inputs->pivots.end(), pivots.begin(), pivots.end());
    }
    inputs->threshold_begin.push_back(static_cast<std::uint32_t>(inputs->thresholds.size()));
    if (layout_ == TreeLayout::automatic) {
      inputs->thresholds.insert(inputs->thresholds.end(), 15, std::numeric_limits<std::int32_t>::max());
      inputs->pivot_begin.push_back(static_cast<std::uint32_t>(inputs->pivots.size()));
    }
    for (const auto& [feature, splits] : categories_) add_categories(*inputs, feature, splits);
    if (session_ || layout_ == TreeLayout::automatic) inputs->slices = static_cast<std::uint16_t>(slices_);
    if (session_) {
      inputs->context_axes = static_cast<std::uint16_t>(context_axes_);
      inputs->context_slices = static_cast<std::uint16_t>(context_slices_);
    }
    return inputs;
  }

 private:
  /// Whether it is of a candidate, the feature, where missing values go.
  using Key = std::tuple<bool, std::int32_t, schema::MissingDirection>;
  Key key_of(const TreeNode& node) const {
    return {candidate_.contain(node.feature), node.feature,
            as_zero_.contains(node.feature) ? schema::MissingDirection::AsZero : direction_of(node)};
  }

  /// Of features whose missing values go both ways, those for which they go where 0 goes: one axis then does.
  void find_as_zero(const TreeEnsemble& ensemble) {
    std::set<std::int32_t> left, right, otherwise;
    for (const Tree& tree : ensemble.trees)
      for (const TreeNode& node : tree.nodes) {
        if (node.feature < 0 || node.category_split >= 0) continue;
        (node.missing_left ? left : right).insert(node.feature);
        if (node.zero_is_missing || node.missing_left != (0 <= node.threshold))
          otherwise.insert(node.feature);
      }
    for (const std::int32_t feature : left)
      if (right.contains(feature) && !otherwise.contains(feature)) as_zero_.insert(feature);
  }

  /// One below minus infinity where every number goes right.
  static std::int32_t threshold_of(const TreeNode& node) {
    return std::isnan(node.threshold) ? ordered(-std::numeric_limits<float>::infinity()) - 1
                                      : ordered(node.threshold);
  }

  const CategorySplit& split_at(std::int32_t split) const { return splits_[static_cast<std::size_t>(split)]; }
  static bool same(const CategorySplit& a, const CategorySplit& b) {
    return a.right == b.right && a.other_right == b.other_right && a.between_right == b.between_right &&
           a.missing_right == b.missing_right;
  }
  void add_split(const TreeNode& node) {
    auto& splits = categories_[node.feature];
    if (std::none_of(splits.begin(), splits.end(), [&](std::int32_t split) {
          return same(split_at(split), split_at(node.category_split));
        }))
      splits.push_back(node.category_split);
  }

  void add_categories(schema::TreeInputsT& inputs, std::int32_t feature,
                      const std::vector<std::int32_t>& splits) const {
    std::size_t count = 0;
    for (const std::int32_t split : splits) count = std::max(count, split_at(split).right.size());
    // One set with a high number widens the table for all sets of its column.
    constexpr std::size_t most = std::size_t{8} << 20;
    if ((count + 3) * splits.size() > most - std::min(most, inputs.category_rows.size()))
      throw Error(
          "the trees ask for " + std::to_string(splits.size()) + " sets of the " + std::to_string(count) +
          " categories of a column, and their table takes more than 8 MB: number the categories from 0 "
          "on without gaps, or group the rare ones");
    inputs.category_slots.push_back(static_cast<std::uint16_t>(feature));
    inputs.category_counts.push_back(static_cast<std::uint32_t>(count));
    inputs.category_slices.push_back(static_cast<std::uint16_t>(splits.size()));
    const auto add_row = [&](auto goes_right) {
      for (const std::int32_t split : splits)
        inputs.category_rows.push_back(goes_right(split_at(split)) ? 1 : 0);
    };
    for (std::size_t category = 0; category < count; ++category)
      add_row([&](const CategorySplit& split) {
        return category < split.right.size() ? bool{split.right[category]} : split.other_right;
      });
    add_row([](const CategorySplit& split) { return split.other_right; });
    add_row([](const CategorySplit& split) { return split.missing_right; });
    add_row([](const CategorySplit& split) { return split.between_right; });
  }

  std::set<std::int32_t> as_zero_;
  std::map<Key, std::vector<std::int32_t>> axes_;
  std::map<Key, std::size_t> first_slice_;
  std::map<std::int32_t, std::vector<std::int32_t>> categories_;  // the distinct splits of each feature
  std::map<std::int32_t, std::size_t> first_category_slice_;
  bool session_;
  CandidateFeatures candidate_;
  TreeLayout layout_;
  const std::vector<CategorySplit>& splits_;
  std::size_t slices_ = 0, context_axes_ = 0, context_slices_ = 0;
};

/// How many nodes of a tree ask of a candidate.
std::size_t candidate_nodes(const AxisTable& axes, const Tree& tree) {
  return static_cast<std::size_t>(std::count_if(tree.nodes.begin(), tree.nodes.end(), [&](const auto& node) {
    return node.feature >= 0 && !axes.of_context(node);
  }));
}

/// Of trees in an order that has those first that ask of no candidate: how many the context part may sum.
std::uint32_t context_trees(const AxisTable& axes, const TreeEnsemble& ensemble,
                            const std::vector<std::size_t>& order) {
  // Lone leaves ask of nothing, but have to ask of something.
  if (ensemble.base.size() != 1 || axes.context_slices() == 0) return 0;
  std::size_t count = 0;
  while (count < order.size() && candidate_nodes(axes, ensemble.trees[order[count]]) == 0) ++count;
  return static_cast<std::uint32_t>(count == order.size() ? count : count / 16 * 16);
}

/// Writes the leaves into `trees` (of either kind) in the smallest format that `storage` allows.
template <typename TreesT>
void store_leaves(TreesT& trees, const TreeEnsemble& ensemble, const std::vector<double>& values,
                  LeafStorage storage) {
  for (const double base : ensemble.base) trees.base.push_back(static_cast<float>(base));
  if (storage == LeafStorage::int16) {
    double largest = 0;
    for (const double value : values) largest = std::max(largest, std::abs(value));
    const double step = largest > 0 ? largest / 32767 : 1;
    trees.leaf_format = schema::LeafFormat::Int16;
    trees.scale = static_cast<float>(ensemble.scale * step);
    for (const double value : values) put(trees.leaves, static_cast<std::int16_t>(std::lround(value / step)));
    return;
  }
  trees.scale = static_cast<float>(ensemble.scale);
  std::vector<float> exact(values.begin(), values.end());
  for (float& value : exact) value += 0.0f;  // one zero, so that the palette holds it once
  std::vector<float> palette = exact;
  std::sort(palette.begin(), palette.end());
  palette.erase(std::unique(palette.begin(), palette.end()), palette.end());
  const std::size_t code_bytes = palette.size() <= 256 ? 1 : 2;
  if (palette.size() > 65536 || palette.size() * 4 + exact.size() * code_bytes >= exact.size() * 4) {
    trees.leaf_format = schema::LeafFormat::Float32;
    for (const float value : exact) put(trees.leaves, value);
    return;
  }
  trees.leaf_format = code_bytes == 1 ? schema::LeafFormat::Palette8 : schema::LeafFormat::Palette16;
  for (const float value : exact) {
    const auto code = std::lower_bound(palette.begin(), palette.end(), value) - palette.begin();
    if (code_bytes == 1)
      put(trees.leaves, static_cast<std::uint8_t>(code));
    else
      put(trees.leaves, static_cast<std::uint16_t>(code));
  }
  trees.palette = std::move(palette);
}

/// The question that a symmetric tree asks on a level.
const TreeNode& question(const Tree& tree, unsigned level) {
  return tree.nodes[(std::size_t{1} << level) - 1];
}

/// In a session model, the trees that ask least of the candidates come first.
std::vector<std::size_t> cheapest_first(const TreeEnsemble& ensemble, const AxisTable& axes, bool session) {
  std::vector<std::size_t> order(ensemble.trees.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (!session || ensemble.base.size() != 1) return order;
  std::vector<std::size_t> asked;
  for (const Tree& tree : ensemble.trees) asked.push_back(candidate_nodes(axes, tree));
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return asked[a] < asked[b]; });
  return order;
}

/// The order of a symmetric tree's levels is free; in a session model, those that ask of the context come
/// first.
std::vector<unsigned> level_order(const Tree& tree, unsigned depth, const AxisTable& axes, bool session) {
  std::vector<unsigned> levels(depth);
  std::iota(levels.begin(), levels.end(), 0u);
  if (session)
    std::stable_partition(levels.begin(), levels.end(),
                          [&](unsigned level) { return axes.of_context(question(tree, level)); });
  return levels;
}

/// The leaves of a symmetric tree: bit l of a leaf's number is the answer on levels[l].
void append_leaves(std::vector<double>& leaves, const Tree& tree, const std::vector<unsigned>& levels) {
  for (std::size_t leaf = 0; leaf < std::size_t{1} << levels.size(); ++leaf) {
    std::size_t answers = 0;  // by level of the tree, which is breadth-first with its first answer on top
    for (std::size_t l = 0; l < levels.size(); ++l) answers |= (leaf >> l & 1) << levels[l];
    std::size_t node = 0;
    for (std::size_t level = 0; level < levels.size(); ++level) node = 2 * node + 1 + (answers >> level & 1);
    leaves.push_back(tree.nodes[node].value);
  }
}

schema::OperatorKindUnion symmetric_trees(const TreeEnsemble& ensemble, const AxisTable& axes,
                                          LeafStorage storage, bool session) {
  const auto depth = static_cast<unsigned>(ensemble.symmetric_depth);
  if (axes.slices() > 256)
    throw Error("symmetric trees test at most 256 groups of 255 thresholds: use fewer bins");
  schema::SymmetricTreesT trees;
  trees.inputs = axes.inputs();
  trees.depth = static_cast<std::uint8_t>(depth);
  const std::vector<std::size_t> order = cheapest_first(ensemble, axes, session);
  if (session) trees.context_trees = context_trees(axes, ensemble, order);
  std::vector<double> leaves;
  for (const std::size_t t : order) {
    const std::vector<unsigned> levels = level_order(ensemble.trees[t], depth, axes, session);
    for (const unsigned level : levels) {
      const auto [slice, bin] = axes.place(question(ensemble.trees[t], level));
      trees.splits.push_back(static_cast<std::uint8_t>(slice));
      trees.splits.push_back(bin);
    }
    append_leaves(leaves, ensemble.trees[t], levels);
  }
  store_leaves(trees, ensemble, leaves, storage);
  schema::OperatorKindUnion kind;
  kind.Set(std::move(trees));
  return kind;
}

/// The nodes of a tree in preorder, and the leaves from the left.
struct Preorder {
  struct Node {
    const TreeNode* node;
    std::size_t first_leaf, left_leaves;
  };
  std::vector<Node> nodes;
  std::vector<double> leaves;

  explicit Preorder(const Tree& tree) {
    std::vector<std::size_t> under(tree.nodes.size(), 1);  // leaves; a child comes after its parent
    for (std::size_t i = tree.nodes.size(); i-- > 0;)
      if (tree.nodes[i].feature >= 0)
        under[i] = under[static_cast<std::size_t>(tree.nodes[i].left)] +
                   under[static_cast<std::size_t>(tree.nodes[i].right)];
    std::vector<std::size_t> open = {0};
    while (!open.empty()) {
      const TreeNode& node = tree.nodes[open.back()];
      open.pop_back();
      if (node.feature < 0) {
        leaves.push_back(node.value);
        continue;
      }
      nodes.push_back({&node, leaves.size(), under[static_cast<std::size_t>(node.left)]});
      open.push_back(static_cast<std::size_t>(node.right));
      open.push_back(static_cast<std::size_t>(node.left));
    }
  }
};

/// Appends a block of branching trees; see BlockTrees in the schema.
void append_branching_block(schema::BlockTreesT& trees, std::vector<double>& leaves,
                            std::span<const Preorder* const> block, const AxisTable& axes) {
  std::size_t most = 0;
  for (const Preorder* tree : block) most = std::max(most, tree->nodes.size());
  trees.block_nodes.push_back(static_cast<std::uint8_t>(most));
  for (const Preorder* tree : block) trees.nodes.push_back(static_cast<std::uint8_t>(tree->nodes.size()));
  for (std::size_t n = 0; n < most; ++n) {
    std::array<std::vector<std::uint8_t>, 4> rows;
    for (const Preorder* tree : block) {
      std::array<std::size_t, 4> bytes = {0, 255, 0, 0};
      if (n < tree->nodes.size()) {
        const auto& [node, first_leaf, left_leaves] = tree->nodes[n];
        const auto [slice, bin] = axes.place(*node);
        bytes = {slice, bin, first_leaf, left_leaves};
      }
      for (std::size_t i = 0; i < 4; ++i) rows[i].push_back(static_cast<std::uint8_t>(bytes[i]));
    }
    for (const auto& row : rows) trees.nodes.insert(trees.nodes.end(), row.begin(), row.end());
  }
  for (const Preorder* tree : block) {
    leaves.insert(leaves.end(), tree->leaves.begin(), tree->leaves.end());
    leaves.resize(leaves.size() + most + 1 - tree->leaves.size(), 0.0);
  }
}

/// Trees side by side: runs of the trees of each output, or of the context trees and the others.
schema::OperatorKindUnion block_trees(const TreeEnsemble& ensemble, const AxisTable& axes,
                                      LeafStorage storage, bool session) {
  schema::BlockTreesT trees;
  trees.inputs = axes.inputs();
  trees.depth = static_cast<std::uint8_t>(ensemble.symmetric_depth);
  const auto depth = static_cast<unsigned>(ensemble.symmetric_depth);
  const auto pad = [](std::size_t count) { return (count + 15) / 16 * 16; };

  // Trees of a block should have about as many nodes.
  const std::size_t per_output = ensemble.trees.size() / ensemble.base.size();
  std::vector<std::size_t> order = cheapest_first(ensemble, axes, session);
  std::size_t shared = 0;
  if (session && ensemble.base.size() == 1)
    while (shared < order.size() && candidate_nodes(axes, ensemble.trees[order[shared]]) == 0) ++shared;
  std::vector<std::pair<std::size_t, std::size_t>> runs;  // of `order`
  if (shared > 0) runs.push_back({0, shared});
  if (shared < per_output || shared == 0)
    for (std::size_t first = 0; first < order.size(); first += per_output)
      runs.push_back({first + shared, first + per_output});
  trees.context_trees = static_cast<std::uint32_t>(pad(shared));
  trees.trees = static_cast<std::uint32_t>(pad(shared) + pad(per_output - shared));

  std::vector<double> leaves;
  const Preorder nothing(Tree{{TreeNode{}}});
  for (const auto& [first, last] : runs) {
    if (depth == 0)
      std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(first),
                       order.begin() + static_cast<std::ptrdiff_t>(last), [&](std::size_t a, std::size_t b) {
                         return ensemble.trees[a].nodes.size() < ensemble.trees[b].nodes.size();
                       });
    const std::size_t padded = first + pad(last - first);
    for (std::size_t at = first; at < padded; at += 64) {
      const std::size_t end = std::min(at + 64, padded);
      if (depth == 0) {
        std::vector<Preorder> made;
        std::vector<const Preorder*> block;
        made.reserve(64);
        for (std::size_t t = at; t < end; ++t)
          block.push_back(t < last ? &made.emplace_back(ensemble.trees[order[t]]) : &nothing);
        append_branching_block(trees, leaves, block, axes);
        continue;
      }
      std::vector<std::uint8_t> bytes(2 * depth * (end - at));
      for (std::size_t t = at; t < end; ++t) {
        std::vector<unsigned> levels;
        if (t < last) levels = level_order(ensemble.trees[order[t]], depth, axes, session);
        for (unsigned level = 0; level < depth; ++level) {
          std::uint8_t* row = bytes.data() + std::size_t{2} * level * (end - at) + (t - at);
          row[end - at] = 255;
          if (t >= last) continue;
          const auto [slice, bin] = axes.place(question(ensemble.trees[order[t]], levels[level]));
          row[0] = static_cast<std::uint8_t>(slice);
          row[end - at] = bin;
        }
        if (t < last)
          append_leaves(leaves, ensemble.trees[order[t]], levels);
        else
          leaves.resize(leaves.size() + (std::size_t{1} << depth), 0.0);
      }
      trees.nodes.insert(trees.nodes.end(), bytes.begin(), bytes.end());
    }
  }
  trees.nodes.insert(trees.nodes.end(), 48, 0);  // so that 64 bytes can be read from anywhere
  store_leaves(trees, ensemble, leaves, storage);
  schema::OperatorKindUnion kind;
  kind.Set(std::move(trees));
  return kind;
}

int depth_of(const Tree& tree) {
  std::vector<int> depth(tree.nodes.size(), 0);
  int deepest = 0;
  for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
    const TreeNode& node = tree.nodes[i];
    if (node.feature < 0) continue;
    for (const std::int32_t child : {node.left, node.right}) {
      depth[static_cast<std::size_t>(child)] = depth[i] + 1;
      deepest = std::max(deepest, depth[i] + 1);
    }
  }
  return deepest;
}

/// Trees that are walked in lockstep should be about equally deep; in a session model, those that ask of no
/// candidate come first.
std::vector<std::size_t> shallowest_first(const TreeEnsemble& ensemble, const AxisTable& axes, bool session) {
  std::vector<std::size_t> order(ensemble.trees.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<std::pair<bool, int>> depth;
  for (const Tree& tree : ensemble.trees)
    depth.push_back({session && candidate_nodes(axes, tree) > 0, depth_of(tree)});
  const std::size_t per_output = ensemble.trees.size() / ensemble.base.size();
  for (std::size_t first = 0; first < order.size(); first += per_output)
    std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(first),
                     order.begin() + static_cast<std::ptrdiff_t>(first + per_output),
                     [&](std::size_t a, std::size_t b) { return depth[a] < depth[b]; });
  return order;
}

schema::OperatorKindUnion branching_trees(const TreeEnsemble& ensemble, const AxisTable& axes,
                                          LeafStorage storage, bool session) {
  const std::vector<std::size_t> order = shallowest_first(ensemble, axes, session);
  std::size_t largest = 0;
  for (const Tree& tree : ensemble.trees) largest = std::max(largest, tree.nodes.size() / 2 + 1);
  schema::BranchingTreesT trees;
  trees.inputs = axes.inputs();
  if (session) trees.context_trees = context_trees(axes, ensemble, order);
  trees.node_format = largest > 32768       ? schema::NodeFormat::Node12
                      : axes.slices() > 256 ? schema::NodeFormat::Node8
                      : largest > 128       ? schema::NodeFormat::Node6
                                            : schema::NodeFormat::Node4;
  std::vector<double> leaves;
  std::uint32_t node_total = 0;
  for (const std::size_t t : order) {
    const Tree& tree = ensemble.trees[t];
    trees.tree_nodes.push_back(node_total);
    trees.tree_leaves.push_back(static_cast<std::uint32_t>(leaves.size()));

    // Nodes are numbered in preorder, so that half the steps of a walk go to the next bytes.
    std::vector<std::uint32_t> number(tree.nodes.size());
    std::vector<std::int32_t> preorder, open = {0};
    std::uint32_t leaf_count = 0;
    while (!open.empty()) {
      const std::int32_t at = open.back();
      open.pop_back();
      const TreeNode& node = tree.nodes[static_cast<std::size_t>(at)];
      if (node.feature < 0) {
        number[static_cast<std::size_t>(at)] = leaf_count++;
        leaves.push_back(node.value);
      } else {
        number[static_cast<std::size_t>(at)] = static_cast<std::uint32_t>(preorder.size());
        preorder.push_back(at);
        open.push_back(node.right);
        open.push_back(node.left);
      }
    }
    struct Child {
      std::uint32_t number;  // of the leaf; or how many nodes after its parent the node comes
      bool leaf;
    };
    const auto put_child = [&](Child child) {
      switch (trees.node_format) {
        case schema::NodeFormat::Node4:
          return put(trees.nodes, static_cast<std::uint8_t>(child.number | (child.leaf ? 0x80u : 0)));
        case schema::NodeFormat::Node6:
        case schema::NodeFormat::Node8:
          return put(trees.nodes, static_cast<std::uint16_t>(child.number | (child.leaf ? 0x8000u : 0)));
        case schema::NodeFormat::Node12:
          return put(trees.nodes, child.number | (child.leaf ? 0x80000000u : 0));
        case schema::NodeFormat::Complete:
          return;  // its children have no numbers
      }
    };
    const auto put_node = [&](std::uint16_t slice, std::uint8_t bin, Child left, Child right) {
      const bool wide = trees.node_format >= schema::NodeFormat::Node8;
      if (wide)
        put(trees.nodes, slice);
      else
        put(trees.nodes, static_cast<std::uint8_t>(slice));
      put(trees.nodes, bin);
      if (wide) put(trees.nodes, std::uint8_t{0});
      put_child(left);
      put_child(right);
      ++node_total;
    };
    if (preorder.empty()) put_node(0, 255, {0, true}, {0, true});
    for (std::size_t n = 0; n < preorder.size(); ++n) {
      const TreeNode& node = tree.nodes[static_cast<std::size_t>(preorder[n])];
      const auto [slice, bin] = axes.place(node);
      const auto child = [&](std::int32_t index) {
        const auto i = static_cast<std::size_t>(index);
        const bool leaf = tree.nodes[i].feature < 0;
        return Child{leaf ? number[i] : number[i] - static_cast<std::uint32_t>(n), leaf};
      };
      put_node(slice, bin, child(node.left), child(node.right));
    }
  }
  trees.tree_nodes.push_back(node_total);
  trees.tree_leaves.push_back(static_cast<std::uint32_t>(leaves.size()));
  store_leaves(trees, ensemble, leaves, storage);
  schema::OperatorKindUnion kind;
  kind.Set(std::move(trees));
  return kind;
}

/// Every tree with all nodes of the deepest one, so that a child's place follows from its parent's.
schema::OperatorKindUnion complete_trees(const TreeEnsemble& ensemble, const AxisTable& axes,
                                         LeafStorage storage, bool session) {
  constexpr int most_levels = deepest_complete_tree;
  int depth = 1;
  for (std::size_t t = 0; t < ensemble.trees.size(); ++t) {
    const int levels = depth_of(ensemble.trees[t]);
    if (levels > most_levels)
      throw Error("tree " + std::to_string(t + 1) + " of " + std::to_string(ensemble.trees.size()) + " is " +
                  std::to_string(levels) + " questions deep, and complete trees are at most " +
                  std::to_string(most_levels) +
                  ": limit the depth in training, or choose the layout walk instead of complete");
    depth = std::max(depth, levels);
  }
  constexpr std::size_t most_leaves = std::size_t{1} << 26;
  if (ensemble.trees.size() > most_leaves >> depth)
    throw Error(std::to_string(ensemble.trees.size()) + " complete trees of depth " + std::to_string(depth) +
                " would have more than " + std::to_string(most_leaves) +
                " leaves: limit the depth in training, or choose the layout walk instead of complete");
  if (axes.slices() > 256)
    throw Error("complete trees test at most 256 groups of 255 thresholds, and these take " +
                std::to_string(axes.slices()) +
                ": use fewer bins, or choose the layout walk instead of complete");
  schema::BranchingTreesT trees;
  trees.inputs = axes.inputs();
  trees.node_format = schema::NodeFormat::Complete;
  trees.depth = static_cast<std::uint8_t>(depth);
  // Sums round as in the layout walk.
  const std::vector<std::size_t> order = ensemble.symmetric_depth > 0
                                             ? cheapest_first(ensemble, axes, session)
                                             : shallowest_first(ensemble, axes, session);
  if (session) trees.context_trees = context_trees(axes, ensemble, order);
  std::vector<double> leaves;
  for (const std::size_t t : order) {
    const Tree& tree = ensemble.trees[t];
    std::vector<const TreeNode*> level = {&tree.nodes.front()};
    for (int l = 0; l < depth; ++l) {
      std::vector<const TreeNode*> below;
      for (const TreeNode* node : level) {
        if (node->feature < 0) {  // a leaf above the last level: both ways lead to it
          trees.nodes.insert(trees.nodes.end(), {0, 1});
          below.insert(below.end(), {node, node});
          continue;
        }
        const auto [slice, bin] = axes.place(*node);
        trees.nodes.push_back(static_cast<std::uint8_t>(slice));
        trees.nodes.push_back(static_cast<std::uint8_t>(bin + 1));
        below.push_back(&tree.nodes[static_cast<std::size_t>(node->left)]);
        below.push_back(&tree.nodes[static_cast<std::size_t>(node->right)]);
      }
      level = std::move(below);
    }
    for (const TreeNode* leaf : level) leaves.push_back(leaf->value);
  }
  store_leaves(trees, ensemble, leaves, storage);
  schema::OperatorKindUnion kind;
  kind.Set(std::move(trees));
  return kind;
}

bool same_question(const TreeNode& a, const TreeNode& b) {
  return a.feature == b.feature && a.category_split == b.category_split &&
         (a.category_split >= 0 ||
          (direction_of(a) == direction_of(b) &&
           (a.threshold == b.threshold || (std::isnan(a.threshold) && std::isnan(b.threshold)))));
}

/// The nodes of a complete tree that asks one question on each level, in breadth-first order; else nothing.
std::optional<std::vector<const TreeNode*>> uniform_levels(const Tree& tree, int most_levels) {
  std::vector<const TreeNode*> nodes = {&tree.nodes.front()};
  for (int level = 0;; ++level) {
    const std::size_t first = (std::size_t{1} << level) - 1;
    const bool leaves = nodes[first]->feature < 0;
    if (!leaves && level == most_levels) return std::nullopt;
    for (std::size_t i = first; i < nodes.size(); ++i)
      if ((nodes[i]->feature < 0) != leaves || (!leaves && !same_question(*nodes[i], *nodes[first])))
        return std::nullopt;
    if (leaves) return nodes;
    for (std::size_t i = first, last = nodes.size(); i < last; ++i) {
      nodes.push_back(&tree.nodes[static_cast<std::size_t>(nodes[i]->left)]);
      nodes.push_back(&tree.nodes[static_cast<std::size_t>(nodes[i]->right)]);
    }
  }
}

/// The same ensemble as symmetric trees, if all of its trees are (CatBoost's, for one). Trees with fewer
/// levels than the deepest ask their last question again.
std::optional<TreeEnsemble> as_symmetric(const TreeEnsemble& ensemble) {
  constexpr int most_levels = 8;
  if (ensemble.symmetric_depth > 0) return std::nullopt;
  std::vector<std::vector<const TreeNode*>> levels;
  std::size_t deepest = 0, leaves = 0;
  for (const Tree& tree : ensemble.trees) {
    auto nodes = uniform_levels(tree, most_levels);
    if (!nodes) return std::nullopt;
    leaves += nodes->size() / 2 + 1;
    deepest = std::max(deepest, nodes->size());
    levels.push_back(std::move(*nodes));
  }
  // Not if it takes more room: where most are shallower, they are better off as they are.
  if (deepest < 7 || (deepest / 2 + 1) * ensemble.trees.size() > 2 * leaves) return std::nullopt;
  TreeEnsemble symmetric;
  symmetric.base = ensemble.base;
  symmetric.scale = ensemble.scale;
  symmetric.category_splits = ensemble.category_splits;
  symmetric.symmetric_depth = static_cast<int>(std::bit_width(deepest)) - 1;
  for (const auto& nodes : levels) {
    Tree& tree = symmetric.trees.emplace_back();
    // Beyond its own leaves a tree goes on with the same leaf on both sides.
    std::vector<const TreeNode*> from = {nodes.front()};
    for (std::size_t i = 0; i < deepest; ++i) {
      const TreeNode* own = from[i];
      TreeNode node = *own;
      const bool last = i >= deepest / 2;
      if (own->feature < 0 && !last) node = nodes.size() > 1 ? *nodes[nodes.size() / 2 - 1] : TreeNode{0};
      node.value = own->value;
      if (last) node.feature = -1;
      node.left = last ? -1 : static_cast<std::int32_t>(2 * i + 1);
      node.right = last ? -1 : static_cast<std::int32_t>(2 * i + 2);
      tree.nodes.push_back(node);
      if (last) continue;
      const std::size_t place = i < nodes.size() ? i : nodes.size();
      const bool inner = place < nodes.size() && own->feature >= 0;
      from.push_back(inner ? nodes[2 * place + 1] : own);
      from.push_back(inner ? nodes[2 * place + 2] : own);
    }
  }
  return symmetric;
}

/// Whether trees are better off side by side: beyond 64 leaves a walk asks so few of a tree's nodes that it
/// wins, also where 64 nodes are asked at once.
bool fits_blocks(const TreeEnsemble& ensemble, const AxisTable& axes) {
  constexpr std::size_t most_leaves = 64;
  if (axes.slices() > 256 || ensemble.trees.size() / ensemble.base.size() > (1u << 20) - 64) return false;
  if (ensemble.symmetric_depth > 0) return ensemble.symmetric_depth <= 8;
  return std::all_of(ensemble.trees.begin(), ensemble.trees.end(),
                     [](const Tree& tree) { return tree.nodes.size() < 2 * most_leaves; });
}

void append(ModelT& model, const TreeEnsemble& ensemble, std::uint16_t first, std::size_t count,
            TreeStorage storage, std::size_t context) {
  append_trees(model, ensemble, first, count, storage, context);
}

void append(ModelT& model, const Calibration& calibration) {
  if (calibration.method == Calibration::Method::none) return;
  schema::CalibrateT calibrate;
  calibrate.method = calibration.method == Calibration::Method::isotonic ? schema::CalibrationMethod::Isotonic
                                                                         : schema::CalibrationMethod::Sigmoid;
  calibrate.slope = static_cast<float>(calibration.slope);
  calibrate.intercept = static_cast<float>(calibration.intercept);
  calibrate.x = calibration.x;
  calibrate.y = calibration.y;
  schema::OperatorKindUnion kind;
  kind.Set(std::move(calibrate));
  append_operator(model, model.output_offset, model.output_length, model.output_length, std::move(kind));
}

std::uint32_t slices_of(const schema::TreeInputsT& inputs) {
  std::uint32_t slices = 0;
  for (std::size_t axis = 0; axis + 1 < inputs.threshold_begin.size(); ++axis)
    slices += std::max(1u, (inputs.threshold_begin[axis + 1] - inputs.threshold_begin[axis] + 254) / 255);
  for (const std::uint16_t sets : inputs.category_slices) slices += sets;
  return slices;
}

/// Elements that a feature keeps in a session; see the schema.
std::uint32_t state_elements(const schema::FeatureT& feature) {
  const auto inputs = static_cast<std::uint32_t>(feature.inputs.size());
  switch (feature.encoder.type) {
    case schema::Encoder::Lag:
      return inputs * feature.encoder.AsLag()->count;
    case schema::Encoder::Window:
      return inputs * feature.encoder.AsWindow()->length;
    case schema::Encoder::Mean:
      return 2u * feature.output_length;
    case schema::Encoder::Total:
      return feature.output_length;
    case schema::Encoder::Streak:
      return feature.output_length * (feature.encoder.AsStreak()->same ? 2u : 1u);
    case schema::Encoder::Repeats:
      return feature.encoder.AsRepeats()->length;
    default:
      return 0;
  }
}

/// Whether an operator has something that format 1.1 did not know.
bool is_of_1_2(const schema::OperatorT& op) {
  const schema::TreeInputsT* inputs = tree_inputs(op);
  return inputs != nullptr && (op.kind.AsBlockTrees() != nullptr || !inputs->pivot_begin.empty() ||
                               !inputs->category_slots.empty() ||
                               std::any_of(inputs->missing.begin(), inputs->missing.end(),
                                           [](auto to) { return to > schema::MissingDirection::Right; }) ||
                               std::any_of(inputs->thresholds.begin(), inputs->thresholds.end(),
                                           [](auto bits) { return std::isnan(threshold_value(bits)); }));
}

/// Whether an operator has something that format 1.3 did not know.
bool is_of_1_4(const schema::OperatorT& op) {
  const auto* trees = op.kind.AsBranchingTrees();
  return trees != nullptr && trees->node_format == schema::NodeFormat::Complete;
}

/// What evaluation needs, as the runtime will compute it for itself.
std::unique_ptr<schema::MemoryPlanT> memory_plan(const ModelT& model) {
  constexpr std::uint32_t session_header = 80, shared_sums = 68;
  std::uint32_t most_work = 0, all_work = 0, network_elements = 0;
  const auto up_to = [](std::uint32_t count, std::uint32_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
  };
  for (const auto& op : model.operators) {
    const schema::TreeInputsT* inputs = tree_inputs(*op);
    if (inputs == nullptr) {
      const std::uint32_t work = network_work_bytes(*op);
      most_work = std::max(most_work, work);
      all_work += work;
      network_elements += network_session_elements(*op);
      continue;
    }
    const auto* blocks = op->kind.AsBlockTrees();
    const std::uint32_t slices = up_to(slices_of(*inputs), blocks != nullptr ? 64 : 4);
    std::uint32_t known = 0;  // of symmetric trees, by the context part
    if (blocks != nullptr && blocks->depth > 0)
      known = blocks->trees + up_to(up_to(blocks->trees, 64) / 64, 4);
    if (const auto* symmetric = op->kind.AsSymmetricTrees(); symmetric != nullptr && symmetric->depth > 0)
      known = static_cast<std::uint32_t>(symmetric->splits.size() / (2u * symmetric->depth)) * 4;
    most_work = std::max(most_work, slices);
    all_work += shared_sums + slices + known;
  }
  auto memory = std::make_unique<schema::MemoryPlanT>();
  memory->slots = next_slot(model);
  memory->scratch_bytes = memory->slots * 4;
  if (model.session == nullptr) {
    memory->scratch_bytes += most_work;
  } else {
    memory->session_bytes = session_header + static_cast<std::uint32_t>(model.columns.size()) * 4;
    for (const auto& feature : model.features) memory->session_bytes += state_elements(*feature) * 4;
    memory->session_bytes += network_elements * 4;
    memory->scratch_bytes += all_work + memory->session_bytes;
  }
  return memory;
}

}  // namespace

double reference_score(const TrainedModel& model, std::span<const float> features) {
  struct Score {
    std::span<const float> row;
    double operator()(const LinearModel& linear) const { return linear_score(linear, row); }
    double operator()(const Network& network) const { return network_probability(network, row); }
    double operator()(const TreeEnsemble& ensemble) const { return ensemble_scores(ensemble, row).front(); }
  };
  return std::visit(Score{features}, model.predictor);
}

double reference_probability(const TrainedModel& model, std::span<const float> features) {
  const double score = reference_score(model, features);
  return model.calibration.method == Calibration::Method::none ? score : calibrated(model.calibration, score);
}

std::uint16_t next_slot(const ModelT& model) {
  std::size_t next = model.columns.size();
  if (!model.features.empty())
    next = std::size_t{model.features.back()->output_offset} + model.features.back()->output_length;
  if (!model.operators.empty())
    next = std::size_t{model.operators.back()->output_offset} + model.operators.back()->output_length;
  return static_cast<std::uint16_t>(next);
}

std::uint16_t append_feature(ModelT& model, std::vector<std::uint16_t> inputs, std::size_t length,
                             schema::EncoderUnion encoder, schema::Phase phase) {
  if (next_slot(model) + length > 65000)
    throw Error("the features take more than 65000 numbers: use fewer columns or categories");
  auto feature = std::make_unique<schema::FeatureT>();
  feature->inputs = std::move(inputs);
  feature->output_offset = next_slot(model);
  feature->output_length = static_cast<std::uint16_t>(length);
  feature->encoder = std::move(encoder);
  feature->phase = phase;
  model.features.push_back(std::move(feature));
  return model.features.back()->output_offset;
}

void append_predictor(ModelT& model, const TrainedModel& trained, std::uint16_t first, std::size_t count,
                      TreeStorage storage, std::size_t context) {
  std::visit([&](const auto& predictor) { append(model, predictor, first, count, storage, context); },
             trained.predictor);
  append(model, trained.calibration);
}

void append_trees(ModelT& model, const TreeEnsemble& ensemble, std::uint16_t first, std::size_t count,
                  TreeStorage storage, std::size_t context) {
  if (ensemble.trees.empty()) throw Error("the ensemble has no trees: train at least one");
  if (ensemble.base.empty() || ensemble.trees.size() % ensemble.base.size() != 0)
    throw Error("the ensemble has " + std::to_string(ensemble.trees.size()) + " trees for " +
                std::to_string(ensemble.base.size()) + " outputs: give each output as many trees");
  std::optional<TreeEnsemble> symmetric = as_symmetric(ensemble);
  const bool session = model.session != nullptr;
  CandidateFeatures candidate{context};
  for (const auto& op : model.operators)
    if (op->phase == schema::Phase::Context) {
      candidate.end = std::size_t{op->output_offset} - first;
      break;
    }
  // Symmetric trees number slices by a byte.
  if (symmetric && AxisTable(*symmetric, session, candidate, storage.layout).slices() > 256)
    symmetric.reset();
  const TreeEnsemble& chosen = symmetric ? *symmetric : ensemble;
  const AxisTable axes(chosen, session, candidate, storage.layout);
  const bool blocks = storage.layout == TreeLayout::automatic && fits_blocks(chosen, axes);
  const auto layout = storage.layout == TreeLayout::complete ? complete_trees
                      : blocks                               ? block_trees
                      : chosen.symmetric_depth > 0           ? symmetric_trees
                                                             : branching_trees;
  append_operator(model, first, count, chosen.base.size(), layout(chosen, axes, storage.leaves, session));
}

void append_affine(ModelT& model, std::uint16_t first, std::size_t count, std::vector<float> weights,
                   std::vector<float> bias, schema::Activation activation) {
  const std::size_t outputs = bias.size();
  schema::AffineT affine;
  affine.weights = std::move(weights);
  affine.bias = std::move(bias);
  affine.activation = activation;
  schema::OperatorKindUnion kind;
  kind.Set(std::move(affine));
  append_operator(model, first, count, outputs, std::move(kind));
}

void append_link(ModelT& model, Link link, double slope) {
  const std::size_t outputs = model.output_length;
  if (link == Link::sigmoid) {
    Calibration calibration;
    calibration.method = Calibration::Method::sigmoid;
    calibration.slope = slope;
    append(model, calibration);
  }
  if (link == Link::softmax) {
    std::vector<float> same(outputs * outputs, 0.0f);
    for (std::size_t i = 0; i < outputs; ++i) same[i * outputs + i] = 1;
    append_affine(model, model.output_offset, outputs, std::move(same), std::vector<float>(outputs, 0.0f),
                  schema::Activation::Softmax);
  }
}

const schema::TreeInputsT* tree_inputs(const schema::OperatorT& op) {
  if (const auto* trees = op.kind.AsBranchingTrees()) return trees->inputs.get();
  if (const auto* trees = op.kind.AsSymmetricTrees()) return trees->inputs.get();
  if (const auto* trees = op.kind.AsBlockTrees()) return trees->inputs.get();
  return nullptr;
}

float threshold_value(std::int32_t threshold) {
  return std::bit_cast<float>(threshold ^ (threshold >> 31 & 0x7fffffff));
}

double score_rounding(const TreeEnsemble& ensemble, LeafStorage leaves) {
  double largest_leaf = 0;
  for (const Tree& tree : ensemble.trees)
    for (const TreeNode& node : tree.nodes)
      if (node.feature < 0) largest_leaf = std::max(largest_leaf, std::abs(node.value));
  constexpr double half_ulp = 0x1p-24;
  const std::size_t per_output = ensemble.trees.size() / ensemble.base.size();
  double worst = 0;
  for (std::size_t k = 0; k < ensemble.base.size(); ++k) {
    double magnitude = 0, leaf_error = 0;  // of the sum, and of all roundings of leaves
    for (std::size_t t = k * per_output; t < (k + 1) * per_output; ++t) {
      double largest = 0, error = 0;
      for (const TreeNode& node : ensemble.trees[t].nodes) {
        if (node.feature >= 0) continue;
        largest = std::max(largest, std::abs(node.value));
        error =
            std::max(error, leaves == LeafStorage::int16
                                ? largest_leaf / 32767 / 2
                                : std::abs(node.value - static_cast<double>(static_cast<float>(node.value))));
      }
      magnitude += largest;
      leaf_error += error;
    }
    // Each lane adds a sixteenth of the trees, then the lanes are added; codes add up exactly.
    const double additions =
        leaves == LeafStorage::int16 ? 1 : static_cast<double>((per_output + 15) / 16 + 4);
    const double sum_error = leaf_error + additions * half_ulp * (magnitude + leaf_error);
    // Scale and base are rounded, and so are the product with the one and the sum with the other.
    const double scaled = std::abs(ensemble.scale) * (magnitude + sum_error);
    worst = std::max(worst, std::abs(ensemble.scale) * sum_error +
                                half_ulp * (3 * scaled + 2 * std::abs(ensemble.base[k])));
  }
  return worst * 1.001;  // for the products of roundings that are left out
}

void add_golden(ModelT& model, const std::vector<float>& rows) {
  model.golden = nullptr;
  const Blob blob(pack(model), "the new blob", TONEARM_CPU_SCALAR);
  auto golden = std::make_unique<schema::GoldenT>();
  golden->tolerance = 1e-6f;
  std::vector<float> out(blob.outputs());
  for (std::size_t n = 0; n < rows.size() / blob.columns(); ++n) {
    const auto row = std::span(rows).subspan(n * blob.columns(), blob.columns());
    blob.evaluate(row, out);
    if (!std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); })) continue;
    golden->rows.insert(golden->rows.end(), row.begin(), row.end());
    golden->outputs.insert(golden->outputs.end(), out.begin(), out.end());
  }
  model.golden = std::move(golden);
}

std::vector<unsigned char> pack(ModelT& model) {
  // Each model asks for no newer library than it needs.
  const bool trees = std::any_of(model.operators.begin(), model.operators.end(),
                                 [](const auto& op) { return is_of_1_2(*op); }) ||
                     std::any_of(model.features.begin(), model.features.end(), [](const auto& feature) {
                       return feature->encoder.type == schema::Encoder::Normalize;
                     });
  const bool networks = std::any_of(model.operators.begin(), model.operators.end(), [](const auto& op) {
    return op->kind.AsRecurrent() != nullptr || op->kind.AsQuantizedAffine() != nullptr;
  });
  const bool complete = std::any_of(model.operators.begin(), model.operators.end(),
                                    [](const auto& op) { return is_of_1_4(*op); });
  const bool session = model.session != nullptr;
  model.format_major = TONEARM_FORMAT_MAJOR;
  model.format_minor = complete ? 4 : networks ? 3 : trees ? 2 : session ? 1 : 0;
  model.runtime_minimum = complete ? 500 : networks ? 400 : trees ? 300 : session ? 200 : 100;
  if (model.card == nullptr) model.card = std::make_unique<schema::CardT>();
  model.memory = memory_plan(model);

  // Size and checksum are only known when everything else is in place. Any non-zero value makes the
  // builder store the field instead of leaving out a default.
  model.file_bytes = 1;
  model.crc32 = 1;
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  schema::FinishModelBuffer(builder, schema::Model::Pack(builder, &model));
  std::vector<unsigned char> bytes(builder.GetBufferPointer(),
                                   builder.GetBufferPointer() + builder.GetSize());
  auto* table = flatbuffers::GetMutableRoot<flatbuffers::Table>(bytes.data());
  table->SetField<std::uint32_t>(schema::Model::VT_FILE_BYTES, static_cast<std::uint32_t>(bytes.size()), 0);
  table->SetField<std::uint32_t>(schema::Model::VT_CRC32, 0, 1);
  table->SetField<std::uint32_t>(schema::Model::VT_CRC32, crc32(bytes), 0);
  return bytes;
}

}  // namespace tonearm
