#include "train/trees.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace tonearm {
namespace {

template <typename T>
void put(std::vector<std::uint8_t>& bytes, T value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

[[noreturn]] void damaged() {
  throw Error("the checkpoint holds damaged trees; train without --resume, or delete the file");
}

template <typename T>
T take(std::span<const std::uint8_t>& bytes) {
  T value;
  if (bytes.size() < sizeof value) damaged();
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes = bytes.subspan(sizeof value);
  return value;
}

}  // namespace

namespace {

bool goes_right(const CategorySplit& split, double x) {
  if (std::isnan(x)) return split.missing_right;
  if (x < 0 && x > -1) return split.between_right;
  if (x < 0 || x >= static_cast<double>(split.right.size())) return split.other_right;
  return split.right[static_cast<std::size_t>(x)];
}

bool goes_left(std::span<const CategorySplit> splits, const TreeNode& node, double x) {
  if (node.category_split >= 0) return !goes_right(splits[static_cast<std::size_t>(node.category_split)], x);
  const bool missing = std::isnan(x) || (node.zero_is_missing && std::abs(x) <= static_cast<double>(1e-35f));
  return missing ? node.missing_left : x <= static_cast<double>(node.threshold);
}

}  // namespace

double tree_value(const Tree& tree, std::span<const float> row, std::span<const CategorySplit> splits) {
  const TreeNode* node = &tree.nodes.front();
  while (node->feature >= 0) {
    const double x = row[static_cast<std::size_t>(node->feature)];
    node = &tree.nodes[static_cast<std::size_t>(goes_left(splits, *node, x) ? node->left : node->right)];
  }
  return node->value;
}

std::vector<double> ensemble_scores(const TreeEnsemble& ensemble, std::span<const float> row) {
  std::vector<double> scores = ensemble.base;
  const std::size_t per_output = ensemble.trees.size() / scores.size();
  for (std::size_t output = 0; output < scores.size(); ++output) {
    double sum = 0;
    for (std::size_t i = 0; i < per_output; ++i)
      sum += tree_value(ensemble.trees[output * per_output + i], row, ensemble.category_splits);
    scores[output] += ensemble.scale * sum;
  }
  return scores;
}

nlohmann::json trees_to_state(std::span<const Tree> trees) {
  std::vector<std::uint8_t> bytes;
  put(bytes, static_cast<std::uint64_t>(trees.size()));
  for (const Tree& tree : trees) {
    put(bytes, static_cast<std::uint64_t>(tree.nodes.size()));
    for (const TreeNode& node : tree.nodes) {
      put(bytes, node.feature);
      put(bytes, node.threshold);
      put(bytes, static_cast<std::uint8_t>(node.missing_left));
      put(bytes, node.left);
      put(bytes, node.right);
      put(bytes, node.value);
    }
  }
  return {{"trees", nlohmann::json::binary(std::move(bytes))}};
}

std::vector<Tree> trees_from_state(const nlohmann::json& state, std::size_t features) {
  if (!state.is_object() || !state.contains("trees") || !state["trees"].is_binary()) damaged();
  std::span<const std::uint8_t> bytes = state["trees"].get_binary();
  std::vector<Tree> trees;
  const auto tree_count = take<std::uint64_t>(bytes);
  for (std::uint64_t t = 0; t < tree_count; ++t) {
    Tree& tree = trees.emplace_back();
    const auto node_count = take<std::uint64_t>(bytes);
    for (std::uint64_t i = 0; i < node_count; ++i) {
      TreeNode& node = tree.nodes.emplace_back();
      node.feature = take<std::int32_t>(bytes);
      node.threshold = take<float>(bytes);
      node.missing_left = take<std::uint8_t>(bytes) != 0;
      node.left = take<std::int32_t>(bytes);
      node.right = take<std::int32_t>(bytes);
      node.value = take<double>(bytes);
      if (node.feature < 0) continue;
      const auto is_child = [&](std::int32_t child) {
        return child >= 0 && static_cast<std::uint64_t>(child) > i &&
               static_cast<std::uint64_t>(child) < node_count;
      };
      if (static_cast<std::size_t>(node.feature) >= features || !is_child(node.left) || !is_child(node.right))
        damaged();
    }
  }
  if (!bytes.empty()) damaged();
  return trees;
}

}  // namespace tonearm
