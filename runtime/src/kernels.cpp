#include "kernels.h"

#include <string.h>

#include "numbers.h"

// Short loops over trees walked side by side; unrolled, their state stays in registers.
#if defined(__clang__)
#define TONEARM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TONEARM_UNROLL _Pragma("GCC unroll 16")
#else
#define TONEARM_UNROLL
#endif

namespace tonearm::runtime {
namespace {

constexpr uint32_t lane_count = 16;

static_assert(sizeof(SharedTrees::lanes) == lane_count * sizeof(float));

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

/// How many of the ascending thresholds are below key. A mask instead of a choice: compilers would make
/// a jump of it, and the answers are hard to foresee.
uint32_t rank_of(const int32_t* thresholds, uint32_t count, int32_t key) {
  const int32_t* first = thresholds;
  while (count > 1) {
    const uint32_t half = count / 2;
    first += half & (0u - static_cast<uint32_t>(first[half - 1] < key));
    count -= half;
  }
  return static_cast<uint32_t>(first - thresholds) + (count == 1 && *first < key ? 1 : 0);
}

// Reads of a node in each format. A child is read with its sign: a leaf, whose top bit is set, is
// negative.

struct Node4 {
  static constexpr uint32_t bytes = 4;
  static constexpr uint32_t leaf_mask = 0x7f;
  static uint32_t slice(const uint8_t* node) { return node[0]; }
  static uint32_t bin(const uint8_t* node) { return node[1]; }
  static int32_t child(const uint8_t* node, uint32_t right) { return static_cast<int8_t>(node[2 + right]); }
};

struct Node6 {
  static constexpr uint32_t bytes = 6;
  static constexpr uint32_t leaf_mask = 0x7fff;
  static uint32_t slice(const uint8_t* node) { return node[0]; }
  static uint32_t bin(const uint8_t* node) { return node[1]; }
  static int32_t child(const uint8_t* node, uint32_t right) {
    return static_cast<int16_t>(load16(node + 2 + 2 * right));
  }
};

struct Node8 {
  static constexpr uint32_t bytes = 8;
  static constexpr uint32_t leaf_mask = 0x7fff;
  static uint32_t slice(const uint8_t* node) { return load16(node); }
  static uint32_t bin(const uint8_t* node) { return node[2]; }
  static int32_t child(const uint8_t* node, uint32_t right) {
    return static_cast<int16_t>(load16(node + 4 + 2 * right));
  }
};

struct Node12 {
  static constexpr uint32_t bytes = 12;
  static constexpr uint32_t leaf_mask = 0x7fffffff;
  static uint32_t slice(const uint8_t* node) { return load16(node); }
  static uint32_t bin(const uint8_t* node) { return node[2]; }
  static int32_t child(const uint8_t* node, uint32_t right) {
    return static_cast<int32_t>(load32(node + 4 + 4 * right));
  }
};

/// Walks trees first .. first + width - 1 in lockstep, so that their memory accesses overlap. No step
/// branches on a comparison: a child is counted from its parent and a leaf is negative, so the larger of
/// it and 0 is the way to the next node, or nowhere for a walk that has arrived. Writes the reached
/// leaves, numbered within the whole ensemble.
template <typename Node, uint32_t width>
inline void walk(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t* leaf) {
  const uint8_t* node[width];
  int32_t next[width];
  for (uint32_t i = 0; i < width; ++i)
    node[i] = trees.nodes + static_cast<size_t>(trees.tree_nodes[first + i]) * Node::bytes;
  int32_t arrived;  // negative when all walks have
  do {
    arrived = -1;
    TONEARM_UNROLL
    for (uint32_t i = 0; i < width; ++i) {
      next[i] = Node::child(node[i], slices[Node::slice(node[i])] > Node::bin(node[i]) ? 1 : 0);
      node[i] += static_cast<size_t>(next[i] > 0 ? next[i] : 0) * Node::bytes;
      arrived &= next[i];
    }
  } while (arrived >= 0);
  for (uint32_t i = 0; i < width; ++i)
    leaf[i] = trees.tree_leaves[first + i] + (static_cast<uint32_t>(next[i]) & Node::leaf_mask);
}

/// The leaves of symmetric trees first .. first + width - 1: independent comparisons, one bit each. A
/// depth that is known when compiling lets them all be unrolled; 0 stands for any.
template <uint32_t width, uint32_t known_depth>
inline void look_up(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t* leaf) {
  const uint32_t depth = known_depth != 0 ? known_depth : trees.depth;
  const uint8_t* split = trees.nodes + static_cast<size_t>(first) * depth * 2;
  for (uint32_t i = 0; i < width; ++i, split += 2 * depth) {
    uint32_t number = 0;
    TONEARM_UNROLL
    for (uint32_t level = 0; level < depth; ++level)
      number |= static_cast<uint32_t>(slices[split[2 * level]] > split[2 * level + 1]) << level;
    leaf[i] = ((first + i) << depth) + number;
  }
}

/// The leaves of symmetric trees whose first levels, those of the context, have been asked: `numbers` has the
/// answers and how many they are. Trees that are looked up together begin at the lowest level that any of
/// them has left; asking again what is known already gives the same bits.
template <uint32_t width, uint32_t known_depth>
inline void look_up_rest(const TreesView& trees, const uint8_t* slices, const uint8_t* numbers,
                         uint32_t first, uint32_t* leaf) {
  const uint32_t depth = known_depth != 0 ? known_depth : trees.depth;
  const uint8_t* split = trees.nodes + static_cast<size_t>(first) * depth * 2;
  const uint8_t* known = numbers + static_cast<size_t>(first) * 4;
  uint32_t level = depth;
  TONEARM_UNROLL
  for (uint32_t i = 0; i < width; ++i) {
    leaf[i] = ((first + i) << depth) + load16(known + 4 * i);
    level = known[4 * i + 2] < level ? known[4 * i + 2] : level;
  }
  for (; level < depth; ++level) {
    const uint8_t* at = split + 2 * level;
    TONEARM_UNROLL
    for (uint32_t i = 0; i < width; ++i, at += 2 * depth)
      leaf[i] |= static_cast<uint32_t>(slices[at[0]] > at[1]) << level;
  }
}

/// Adds the leaves of trees [first, last) to the sums, 16 at a time; `first` begins a block of its output.
/// find<width>(tree, leaf) finds the leaves of `width` trees at once.
template <typename Find>
inline void add_leaves(const TreesView& trees, uint32_t first, uint32_t last, SharedTrees& sums,
                       const Find& find) {
  for (; first < last; first += lane_count) {
    const uint32_t block = last - first < lane_count ? last - first : lane_count;
    uint32_t leaf[lane_count];
    uint32_t found = 0;
    for (; block - found >= 8; found += 8) find.template operator()<8>(first + found, leaf + found);
    for (; block - found >= 4; found += 4) find.template operator()<4>(first + found, leaf + found);
    for (; block > found; ++found) find.template operator()<1>(first + found, leaf + found);
    switch (trees.leaf_kind) {
      case LeafKind::float32:
        for (uint32_t i = 0; i < block; ++i)
          sums.lanes[i] += bits_float(load32(trees.leaves + static_cast<size_t>(leaf[i]) * 4));
        break;
      case LeafKind::int16:
        for (uint32_t i = 0; i < block; ++i)
          sums.codes += static_cast<int16_t>(load16(trees.leaves + static_cast<size_t>(leaf[i]) * 2));
        break;
      case LeafKind::palette8:
        for (uint32_t i = 0; i < block; ++i) sums.lanes[i] += trees.palette[trees.leaves[leaf[i]]];
        break;
      case LeafKind::palette16:
        for (uint32_t i = 0; i < block; ++i)
          sums.lanes[i] += trees.palette[load16(trees.leaves + static_cast<size_t>(leaf[i]) * 2)];
        break;
    }
  }
}

float total(const TreesView& trees, SharedTrees& sums) {
  return trees.leaf_kind == LeafKind::int16 ? static_cast<float>(sums.codes) : reduce(sums.lanes);
}

template <typename Node>
void add_walks(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t last,
               SharedTrees& sums) {
  add_leaves(trees, first, last, sums, [&]<uint32_t width>(uint32_t tree, uint32_t* leaf) {
    walk<Node, width>(trees, slices, tree, leaf);
  });
}

void add_branching(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t last,
                   SharedTrees& sums) {
  switch (trees.node_kind) {
    case NodeKind::node4:
      return add_walks<Node4>(trees, slices, first, last, sums);
    case NodeKind::node6:
      return add_walks<Node6>(trees, slices, first, last, sums);
    case NodeKind::node8:
      return add_walks<Node8>(trees, slices, first, last, sums);
    case NodeKind::node12:
      break;
  }
  add_walks<Node12>(trees, slices, first, last, sums);
}

/// Calls add<depth>() with the depth where compiling for it pays, and else with 0.
template <typename Add>
void with_depth(const TreesView& trees, const Add& add) {
  switch (trees.depth) {
    case 4:
      return add.template operator()<4>();
    case 5:
      return add.template operator()<5>();
    case 6:
      return add.template operator()<6>();
    default:
      return add.template operator()<0>();
  }
}

void add_symmetric(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t last,
                   SharedTrees& sums) {
  with_depth(trees, [&]<uint32_t depth>() {
    add_leaves(trees, first, last, sums, [&]<uint32_t width>(uint32_t tree, uint32_t* leaf) {
      look_up<width, depth>(trees, slices, tree, leaf);
    });
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

void bin_inputs(const TreesView& trees, const float* input, uint32_t first, uint32_t last, uint8_t* slices) {
  for (uint32_t axis = first; axis < last; ++axis) {
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
  SharedTrees sums = {};
  add_branching(trees, slices, first, first + count, sums);
  return total(trees, sums);
}

float sum_symmetric(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count) {
  SharedTrees sums = {};
  add_symmetric(trees, slices, first, first + count, sums);
  return total(trees, sums);
}

void share_branching(const TreesView& trees, const uint8_t* slices, SharedTrees& shared) {
  shared = {};
  add_branching(trees, slices, 0, trees.context_trees, shared);
}

float sum_shared_branching(const TreesView& trees, const uint8_t* slices, const SharedTrees& shared) {
  SharedTrees sums = shared;
  add_branching(trees, slices, trees.context_trees, trees.trees, sums);
  return total(trees, sums);
}

void share_symmetric(const TreesView& trees, const uint8_t* slices, SharedTrees& shared, uint8_t* numbers) {
  shared = {};
  add_symmetric(trees, slices, 0, trees.context_trees, shared);
  const uint32_t depth = trees.depth;
  const uint8_t* split = trees.nodes + static_cast<size_t>(trees.context_trees) * depth * 2;
  for (uint32_t tree = trees.context_trees; tree < trees.trees; ++tree, split += 2 * depth) {
    uint32_t number = 0, level = 0;
    for (; level < depth && split[2 * level] < trees.context_slices; ++level)
      number |= static_cast<uint32_t>(slices[split[2 * level]] > split[2 * level + 1]) << level;
    uint8_t* known = numbers + static_cast<size_t>(tree) * 4;
    known[0] = static_cast<uint8_t>(number);
    known[1] = static_cast<uint8_t>(number >> 8);
    known[2] = static_cast<uint8_t>(level);
  }
}

float sum_shared_symmetric(const TreesView& trees, const uint8_t* slices, const SharedTrees& shared,
                           const uint8_t* numbers) {
  SharedTrees sums = shared;
  with_depth(trees, [&]<uint32_t depth>() {
    add_leaves(trees, trees.context_trees, trees.trees, sums,
               [&]<uint32_t width>(uint32_t tree, uint32_t* leaf) {
                 look_up_rest<width, depth>(trees, slices, numbers, tree, leaf);
               });
  });
  return total(trees, sums);
}

}  // namespace tonearm::runtime
