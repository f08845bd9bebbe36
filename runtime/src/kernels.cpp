#include "kernels.h"

#include <string.h>

#include "numbers.h"

namespace tonearm::runtime {
namespace {

constexpr uint32_t lane_count = 16;

float reduce(float (&lanes)[lane_count]) {
  for (uint32_t step = lane_count / 2; step > 0; step /= 2)
    for (uint32_t i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  return lanes[0];
}

uint16_t load16(const uint8_t* bytes) {
  uint16_t value;
  memcpy(&value, bytes, 2);
  return value;
}

uint32_t load32(const uint8_t* bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return value;
}

/// How many of the ascending thresholds are below key. The halving never branches on a comparison.
uint32_t rank_of(const int32_t* thresholds, uint32_t count, int32_t key) {
  const int32_t* first = thresholds;
  while (count > 1) {
    const uint32_t half = count / 2;
    first += first[half - 1] < key ? half : 0;
    count -= half;
  }
  return static_cast<uint32_t>(first - thresholds) + (count == 1 && *first < key ? 1 : 0);
}

// Reads of a node in each format; `right` is 0 or 1. All give a child with a flag in the top bit of
// their width.

struct Node4 {
  using Index = uint8_t;
  static constexpr uint32_t bytes = 4;
  static uint32_t slice(const uint8_t* node) { return node[0]; }
  static uint32_t bin(const uint8_t* node) { return node[1]; }
  static uint32_t child(const uint8_t* node, uint32_t right) { return node[2 + right]; }
};

struct Node6 {
  using Index = uint16_t;
  static constexpr uint32_t bytes = 6;
  static uint32_t slice(const uint8_t* node) { return node[0]; }
  static uint32_t bin(const uint8_t* node) { return node[1]; }
  static uint32_t child(const uint8_t* node, uint32_t right) { return load16(node + 2 + 2 * right); }
};

struct Node8 {
  using Index = uint16_t;
  static constexpr uint32_t bytes = 8;
  static uint32_t slice(const uint8_t* node) { return load16(node); }
  static uint32_t bin(const uint8_t* node) { return node[2]; }
  static uint32_t child(const uint8_t* node, uint32_t right) { return load16(node + 4 + 2 * right); }
};

struct Node12 {
  using Index = uint32_t;
  static constexpr uint32_t bytes = 12;
  static uint32_t slice(const uint8_t* node) { return load16(node); }
  static uint32_t bin(const uint8_t* node) { return node[2]; }
  static uint32_t child(const uint8_t* node, uint32_t right) { return load32(node + 4 + 4 * right); }
};

/// Walks trees first .. first + width - 1 in lockstep, so that their memory accesses overlap. No step
/// branches on a comparison: a walk that has arrived repeats its last node until the longest one
/// arrives. Writes the reached leaves, numbered within the whole ensemble.
template <typename Node, uint32_t width>
inline void walk(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t* leaf) {
  constexpr uint32_t top_bit = 8 * sizeof(typename Node::Index) - 1;
  const uint8_t* root[width];
  uint32_t at[width];    // the node a walk stands on
  uint32_t next[width];  // the child it came to
  for (uint32_t i = 0; i < width; ++i) {
    root[i] = trees.nodes + static_cast<size_t>(trees.tree_nodes[first + i]) * Node::bytes;
    at[i] = 0;
  }
  uint32_t walking;
  do {
    walking = 0;
    for (uint32_t i = 0; i < width; ++i) {
      const uint8_t* node = root[i] + static_cast<size_t>(at[i]) * Node::bytes;
      const uint32_t right = slices[Node::slice(node)] > Node::bin(node) ? 1 : 0;
      next[i] = Node::child(node, right);
      const uint32_t arrived = 0u - (next[i] >> top_bit);
      at[i] ^= (at[i] ^ next[i]) & ~arrived;
      walking |= ~next[i];
    }
  } while ((walking >> top_bit & 1) != 0);
  for (uint32_t i = 0; i < width; ++i)
    leaf[i] = trees.tree_leaves[first + i] + (next[i] & ((1u << top_bit) - 1));
}

/// The leaves of symmetric trees first .. first + width - 1: independent comparisons, one bit each.
template <uint32_t width>
inline void look_up(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t* leaf) {
  for (uint32_t i = 0; i < width; ++i) {
    const uint8_t* split = trees.nodes + static_cast<size_t>(first + i) * trees.depth * 2;
    uint32_t number = 0;
    for (uint32_t level = 0; level < trees.depth; ++level, split += 2)
      number |= (slices[split[0]] > split[1] ? 1u : 0u) << level;
    leaf[i] = ((first + i) << trees.depth) + number;
  }
}

/// Adds up the leaves of trees in blocks of 8, then 4, 2, 1; find<width>(first, leaf) finds them.
template <typename Find>
inline float sum_leaves(const TreesView& trees, uint32_t first, uint32_t count, const Find& find) {
  float lanes[lane_count] = {};
  int32_t codes = 0;
  const auto add = [&](uint32_t tree, uint32_t leaf) {
    float& lane = lanes[(tree - first) % lane_count];
    switch (trees.leaf_kind) {
      case LeafKind::float32:
        lane += bits_float(load32(trees.leaves + static_cast<size_t>(leaf) * 4));
        break;
      case LeafKind::int16:
        codes += static_cast<int16_t>(load16(trees.leaves + static_cast<size_t>(leaf) * 2));
        break;
      case LeafKind::palette8:
        lane += trees.palette[trees.leaves[leaf]];
        break;
      case LeafKind::palette16:
        lane += trees.palette[load16(trees.leaves + static_cast<size_t>(leaf) * 2)];
        break;
    }
  };
  const uint32_t end = first + count;
  uint32_t tree = first;
  uint32_t leaf[8];
  const auto block = [&]<uint32_t width>() {
    find.template operator()<width>(tree, leaf);
    for (uint32_t i = 0; i < width; ++i) add(tree + i, leaf[i]);
    tree += width;
  };
  while (end - tree >= 8) block.template operator()<8>();
  if (end - tree >= 4) block.template operator()<4>();
  if (end - tree >= 2) block.template operator()<2>();
  if (end - tree >= 1) block.template operator()<1>();
  return trees.leaf_kind == LeafKind::int16 ? static_cast<float>(codes) : reduce(lanes);
}

template <typename Node>
float sum_walks(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count) {
  return sum_leaves(trees, first, count, [&]<uint32_t width>(uint32_t tree, uint32_t* leaf) {
    walk<Node, width>(trees, slices, tree, leaf);
  });
}

}  // namespace

float dot(const float* a, const float* b, uint32_t count) {
  float lanes[lane_count] = {};
  uint32_t i = 0;
  for (; i + lane_count <= count; i += lane_count)
    for (uint32_t lane = 0; lane < lane_count; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  for (uint32_t lane = 0; i + lane < count; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  return reduce(lanes);
}

void bin_inputs(const TreesView& trees, const float* input, uint8_t* slices) {
  for (uint32_t axis = 0; axis < trees.axes; ++axis) {
    const uint32_t begin = trees.threshold_begin[axis];
    const uint32_t count = trees.threshold_begin[axis + 1] - begin;
    const float value = input[trees.slots[axis]];
    const uint32_t rank = is_nan(value)
                              ? (trees.missing_right[axis] != 0 ? UINT32_MAX : 0)
                              : rank_of(trees.thresholds + begin, count, ordered(float_bits(value)));
    for (uint32_t slice = 0; slice < slices_of(count); ++slice) {
      const uint32_t below = slice * 255;
      const uint32_t bin = rank <= below ? 0 : rank - below;
      *slices++ = static_cast<uint8_t>(bin > 255 ? 255 : bin);
    }
  }
}

float sum_branching(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count) {
  switch (trees.node_kind) {
    case NodeKind::node4:
      return sum_walks<Node4>(trees, slices, first, count);
    case NodeKind::node6:
      return sum_walks<Node6>(trees, slices, first, count);
    case NodeKind::node8:
      return sum_walks<Node8>(trees, slices, first, count);
    case NodeKind::node12:
      break;
  }
  return sum_walks<Node12>(trees, slices, first, count);
}

float sum_symmetric(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count) {
  return sum_leaves(trees, first, count, [&]<uint32_t width>(uint32_t tree, uint32_t* leaf) {
    look_up<width>(trees, slices, tree, leaf);
  });
}

}  // namespace tonearm::runtime
