#include "kernels.h"

#include <string.h>

#include "kernels/trees.h"
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

}  // namespace

float dot(const float* a, const float* b, uint32_t count) {
  float lanes[lane_count] = {};
  uint32_t i = 0;
  for (; i + lane_count <= count; i += lane_count)
    for (uint32_t lane = 0; lane < lane_count; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  for (uint32_t lane = 0; i + lane < count; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  return reduce(lanes);
}

#ifndef TONEARM_WITHOUT_TREES

namespace {

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

/// 2 number + (a >= b), of bytes.
[[gnu::always_inline]] inline uint32_t with_answer(uint32_t number, uint32_t a, uint32_t b) {
#if defined(__thumb2__)
  // The carry of the comparison is the answer: two instructions instead of five.
  __asm__("cmp %1, %2\n\tadc %0, %0, %0" : "+r"(number) : "r"(a), "r"(b) : "cc");
  return number;
#else
  return 2 * number + (a >= b ? 1 : 0);
#endif
}

/// Of a complete tree in heap order: a child's place follows from its parent's, and at the end it is the
/// leaf's.
[[gnu::always_inline]] inline uint32_t child_of(uint32_t node, const uint8_t* nodes, const uint8_t* slices) {
  const uint32_t bytes = load16(nodes + 2 * static_cast<size_t>(node)), value = slices[bytes & 255];
#if defined(__thumb2__)
  __asm__("cmp %1, %2, lsr #8\n\tadc %0, %0, %0" : "+r"(node) : "r"(value), "r"(bytes) : "cc");
  return node;
#else
  return with_answer(node, value, bytes >> 8);
#endif
}

void descend(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count, uint32_t* leaf) {
  const uint32_t depth = trees.depth, leaves = 1u << depth;
  // Nodes are counted from 1.
  const uint8_t* nodes = trees.nodes + static_cast<size_t>(first) * 2 * (leaves - 1) - 2;
  uint32_t base = (first - 1) * leaves;  // less the place of a tree's first leaf
  for (const uint32_t* const end = leaf + count; leaf != end; nodes += 2 * (leaves - 1), base += leaves) {
    uint32_t node = 1;
    switch (depth) {  // no loop: it would take half as many instructions again
      case 8:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      case 7:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      case 6:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      case 5:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      case 4:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      case 3:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      case 2:
        node = child_of(node, nodes, slices);
        [[fallthrough]];
      default:
        node = child_of(node, nodes, slices);
    }
    *leaf++ = base + node;
  }
}

#ifdef TONEARM_SMALL

// One tree after the other: least code, and fewest instructions where there is one pipeline in order.

/// How many trees are looked for before their leaves are added: as many as there are lanes.
constexpr uint32_t chunk = lane_count;

/// Finds the leaves that `count` trees reach, at most a chunk, numbered within the whole ensemble.
template <typename Node>
inline void walk(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count,
                 uint32_t* leaf) {
  for (uint32_t t = first; t < first + count; ++t) {
    const uint8_t* node = trees.nodes + static_cast<size_t>(trees.tree_nodes[t]) * Node::bytes;
    int32_t child = 0;
    do {
      node += static_cast<size_t>(child) * Node::bytes;
      // By the sign of a difference: here compilers make jumps of comparisons.
      child = Node::child(node, (Node::bin(node) - slices[Node::slice(node)]) >> 31);
    } while (child >= 0);
    *leaf++ = trees.tree_leaves[t] + (static_cast<uint32_t>(child) & Node::leaf_mask);
  }
}

#else

/// How many trees are looked for before their leaves are added: a multiple of the lanes.
constexpr uint32_t chunk = 64;

/// Finds the leaves that `count` trees reach, at most a chunk, numbered within the whole ensemble. Several
/// walks go on side by side, so that their memory accesses overlap. No step branches on a comparison: a child
/// is counted from its parent, and which one it is, is computed. A walk that has arrived, at a leaf, which is
/// negative, makes room for the next tree.
template <typename Node>
inline void walk(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count,
                 uint32_t* leaf) {
  constexpr uint32_t width = 8;
  const uint8_t* node[width];
  uint32_t tree[width];
  int32_t next[width];
  const auto root = [&](uint32_t t) {
    return trees.nodes + static_cast<size_t>(trees.tree_nodes[first + t]) * Node::bytes;
  };
  const auto child = [&](uint32_t i) {
    return Node::child(node[i], slices[Node::slice(node[i])] > Node::bin(node[i]) ? 1 : 0);
  };
  const auto arrive = [&](uint32_t t, int32_t at) {
    leaf[t] = trees.tree_leaves[first + t] + (static_cast<uint32_t>(at) & Node::leaf_mask);
  };
  for (uint32_t i = 0; i < width; ++i) {
    tree[i] = i < count ? i : count - 1;  // the same twice does no harm
    node[i] = root(tree[i]);
  }
  for (uint32_t begun = width; begun < count;) {
    TONEARM_UNROLL
    for (uint32_t i = 0; i < width; ++i) {
      const int32_t at = child(i);
      if (at >= 0) {
        node[i] += static_cast<size_t>(at) * Node::bytes;
      } else {
        arrive(tree[i], at);
        if (begun < count) tree[i] = begun++;
        node[i] = root(tree[i]);
      }
    }
  }
  // The last ones in lockstep: the larger of a child and 0 is the way to the next node, or nowhere.
  int32_t arrived;
  do {
    arrived = -1;
    TONEARM_UNROLL
    for (uint32_t i = 0; i < width; ++i) {
      next[i] = child(i);
      node[i] += static_cast<size_t>(next[i] > 0 ? next[i] : 0) * Node::bytes;
      arrived &= next[i];
    }
  } while (arrived >= 0);
  for (uint32_t i = 0; i < width; ++i) arrive(tree[i], next[i]);
}

#endif

#ifdef TONEARM_SMALL

/// The answers of a symmetric tree, from its highest level down: a bit for each that leads to the left.
uint32_t find_left(const uint8_t* split, uint32_t depth, const uint8_t* slices) {
  uint32_t number = 0;
  const auto ask = [&](uint32_t level) __attribute__((always_inline)) {
    number = with_answer(number, split[2 * level + 1], slices[split[2 * level]]);
  };
  for (; depth > 8; --depth) ask(depth - 1);
  switch (depth) {  // no loop: it would take half as many instructions again
    case 8:
      ask(7);
      [[fallthrough]];
    case 7:
      ask(6);
      [[fallthrough]];
    case 6:
      ask(5);
      [[fallthrough]];
    case 5:
      ask(4);
      [[fallthrough]];
    case 4:
      ask(3);
      [[fallthrough]];
    case 3:
      ask(2);
      [[fallthrough]];
    case 2:
      ask(1);
      [[fallthrough]];
    default:
      ask(0);
  }
  return number;
}

#endif

/// The leaves of symmetric trees first .. first + width - 1: independent comparisons, one bit each. A
/// depth that is known when compiling lets them all be unrolled; 0 stands for any.
template <uint32_t width, uint32_t known_depth>
inline void look_up(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t* leaf) {
  const uint32_t depth = known_depth != 0 ? known_depth : trees.depth;
  const uint8_t* split = trees.nodes + static_cast<size_t>(first) * depth * 2;
  for (uint32_t i = 0; i < width; ++i, split += 2 * depth) {
#ifdef TONEARM_SMALL
    leaf[i] = ((first + i + 1) << depth) - 1 - find_left(split, depth, slices);
#else
    uint32_t number = 0;
    TONEARM_UNROLL
    for (uint32_t level = 0; level < depth; ++level)
      number |= static_cast<uint32_t>(slices[split[2 * level]] > split[2 * level + 1]) << level;
    leaf[i] = ((first + i) << depth) + number;
#endif
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

/// find<8>(), find<4>() and find<1>() for `count` trees; only the last where code is to be small.
template <typename Find>
inline void in_eights(uint32_t first, uint32_t count, uint32_t* leaf, const Find& find) {
  uint32_t found = 0;
#ifndef TONEARM_SMALL
  for (; count - found >= 8; found += 8) find.template operator()<8>(first + found, leaf + found);
  for (; count - found >= 4; found += 4) find.template operator()<4>(first + found, leaf + found);
#endif
  for (; count > found; ++found) find.template operator()<1>(first + found, leaf + found);
}

/// Where the leaves of an ensemble, or of a block, begin, and what their bytes stand for.
struct Leaves {
  const uint8_t* bytes;
  const float* palette;
  LeafKind kind;
};

/// Adds the leaves that trees have reached, at most as many as there are lanes.
void add_reached(const Leaves& leaves, const uint32_t* leaf, uint32_t count, SharedTrees& sums) {
  switch (leaves.kind) {
    case LeafKind::float32:
      for (uint32_t i = 0; i < count; ++i)
        sums.lanes[i] += bits_float(load32(leaves.bytes + static_cast<size_t>(leaf[i]) * 4));
      break;
    case LeafKind::int16:
      for (uint32_t i = 0; i < count; ++i)
        sums.codes += static_cast<int16_t>(load16(leaves.bytes + static_cast<size_t>(leaf[i]) * 2));
      break;
    case LeafKind::palette8:
      for (uint32_t i = 0; i < count; ++i) sums.lanes[i] += leaves.palette[leaves.bytes[leaf[i]]];
      break;
    case LeafKind::palette16:
      for (uint32_t i = 0; i < count; ++i)
        sums.lanes[i] += leaves.palette[load16(leaves.bytes + static_cast<size_t>(leaf[i]) * 2)];
      break;
  }
}

/// Adds the leaves of trees [first, last) to the sums, 16 at a time; `first` begins a block of its output.
/// find(tree, count, leaf) finds the leaves of at most a chunk of trees.
template <typename Find>
inline void add_leaves(const Leaves& leaves, uint32_t first, uint32_t last, SharedTrees& sums,
                       const Find& find) {
  for (uint32_t at = first; at < last; at += chunk) {
    const uint32_t count = last - at < chunk ? last - at : chunk;
    uint32_t found[chunk];
    find(at, count, found);
    for (uint32_t done = 0; done < count; done += lane_count)
      add_reached(leaves, found + done, count - done < lane_count ? count - done : lane_count, sums);
  }
}

Leaves leaves_of(const TreesView& trees) { return {trees.leaves, trees.palette, trees.leaf_kind}; }

float total(const TreesView& trees, SharedTrees& sums) {
  return trees.leaf_kind == LeafKind::int16 ? static_cast<float>(sums.codes) : reduce(sums.lanes);
}

template <typename Node>
void add_walks(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t last,
               SharedTrees& sums) {
  add_leaves(leaves_of(trees), first, last, sums, [&](uint32_t tree, uint32_t count, uint32_t* leaf) {
    walk<Node>(trees, slices, tree, count, leaf);
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
      return add_walks<Node12>(trees, slices, first, last, sums);
    case NodeKind::complete:
      break;
  }
  add_leaves(leaves_of(trees), first, last, sums, [&](uint32_t tree, uint32_t count, uint32_t* leaf) {
    descend(trees, slices, tree, count, leaf);
  });
}

/// Calls add<depth>() with the depth where compiling for it pays, and else with 0.
template <typename Add>
void with_depth(const TreesView& trees, const Add& add) {
#ifndef TONEARM_SMALL
  if (trees.depth == 4) return add.template operator()<4>();
  if (trees.depth == 5) return add.template operator()<5>();
  if (trees.depth == 6) return add.template operator()<6>();
#endif
  (void)trees;
  add.template operator()<0>();
}

void add_symmetric(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t last,
                   SharedTrees& sums) {
  with_depth(trees, [&]<uint32_t depth>() {
    add_leaves(leaves_of(trees), first, last, sums, [&](uint32_t tree, uint32_t count, uint32_t* leaf) {
      in_eights(tree, count, leaf, [&]<uint32_t width>(uint32_t t, uint32_t* found) {
        look_up<width, depth>(trees, slices, t, found);
      });
    });
  });
}

/// Bits of the schema's MissingDirection: Right and ZeroRight; ZeroLeft and ZeroRight; AsZero.
enum Direction : uint32_t { to_right = 1, with_zero = 2, as_zero = 4 };

bool is_missing(float value, uint32_t direction) {
  constexpr uint32_t zero_bits = 0x0554ad2e;  // 1e-35f
  return is_nan(value) || ((direction & with_zero) != 0 && (float_bits(value) & 0x7fffffffu) <= zero_bits);
}

void bin_scalar(const TreesView& trees, const float* input, uint32_t first, uint32_t last, uint8_t* slices) {
  for (uint32_t axis = first; axis < last; ++axis) {
    const uint32_t begin = trees.threshold_begin[axis];
    const uint32_t count = trees.threshold_begin[axis + 1] - begin;
    const uint32_t direction = trees.missing[axis];
    float value = input[trees.slots[axis]];
    if ((direction & as_zero) != 0 && is_nan(value)) value = 0;
    const uint32_t rank = is_missing(value, direction)
                              ? ((direction & to_right) != 0 ? UINT32_MAX : 0)
                              : rank_of(trees.thresholds + begin, count, ordered(float_bits(value)));
    for (uint32_t slice = 0; slice < slices_of(count); ++slice) {
      const uint32_t below = slice * 255;
      const uint32_t bin = rank <= below ? 0 : rank - below;
      *slices++ = static_cast<uint8_t>(bin > 255 ? 255 : bin);
    }
  }
}

/// The row of a category axis's table that a value stands for.
uint32_t category_row(float value, uint32_t count) {
  if (is_nan(value)) return count + 1;
  const int32_t key = ordered(float_bits(value));  // as integers: flushed denormals are numbers below 0, too
  const int32_t minus_one = ordered(0xbf800000u);
  if (key < 0) return key > minus_one ? count + 2 : count;
  return value < static_cast<float>(count) ? static_cast<uint32_t>(value) : count;
}

/// The kernels that were chosen for a model; null for plain C++.
tonearm_bin_kernel* bin_kernel(uint32_t cpu) {
#if defined(TONEARM_SIMD) && (defined(__x86_64__) || defined(__i386__))
  if (cpu == TONEARM_CPU_AVX512) return tonearm_bin_avx512;
  if (cpu == TONEARM_CPU_AVX2) return tonearm_bin_avx2;
  if (cpu == TONEARM_CPU_SSSE3) return tonearm_bin_ssse3;
#elif defined(TONEARM_SIMD) && defined(__aarch64__)
  if (cpu == TONEARM_CPU_NEON || cpu == TONEARM_CPU_NEON_DOT) return tonearm_bin_neon;
#elif defined(TONEARM_SIMD) && defined(__wasm_simd128__)
  if (cpu == TONEARM_CPU_WASM) return tonearm_bin_wasm;
#endif
  (void)cpu;
  return nullptr;
}

/// Where the lookups of one vector take long because there are many slices, walks are faster: of `nodes` a
/// tree, a vectorised kernel asks all, and a walk just those on its way.
tonearm_block_kernel* block_kernel(uint32_t cpu, uint32_t slices, uint32_t nodes) {
  [[maybe_unused]] constexpr uint32_t walk_cost = 80;  // instructions a tree
#if defined(TONEARM_SIMD) && (defined(__x86_64__) || defined(__i386__))
  const uint32_t node_cost = 6 + 4 * ((slices + 15) / 16);
  if (cpu == TONEARM_CPU_AVX512) return tonearm_blocks_avx512;
  if (cpu == TONEARM_CPU_AVX2 && nodes * node_cost < walk_cost * 32) return tonearm_blocks_avx2;
  if (cpu == TONEARM_CPU_SSSE3 && nodes * node_cost < walk_cost * 16) return tonearm_blocks_ssse3;
#elif defined(TONEARM_SIMD) && defined(__aarch64__)
  const uint32_t node_cost = 6 + 3 * ((slices + 63) / 64);
  const bool neon = cpu == TONEARM_CPU_NEON || cpu == TONEARM_CPU_NEON_DOT;
  if (neon && nodes * node_cost < walk_cost * 16) return tonearm_blocks_neon;
#elif defined(TONEARM_SIMD) && defined(__wasm_simd128__)
  const uint32_t node_cost = 6 + 4 * ((slices + 15) / 16);
  if (cpu == TONEARM_CPU_WASM && nodes * node_cost < walk_cost * 16) return tonearm_blocks_wasm;
#endif
  (void)cpu, (void)slices, (void)nodes;
  return nullptr;
}

uint32_t leaf_bytes(LeafKind kind) {
  return kind == LeafKind::float32 ? 4 : kind == LeafKind::palette8 ? 1 : 2;
}

#ifdef TONEARM_SMALL

/// Walks the trees of a branching block from `row`, the slices of its first nodes. Under a node are `under`
/// leaves from `leaf` on; a walk with one leaf has arrived. Where this is inlined, registers are short.
[[gnu::noinline]] void walk_trees(const uint8_t* slices, const uint8_t* node_counts, const uint8_t* row,
                                  uint32_t width, uint8_t* reached) {
  const size_t stride = size_t{4} * width;
  for (uint32_t i = 0; i < width; ++i) {
    const uint8_t* node = row + i;
    uint32_t leaf = 0, under = node_counts[i] + 1u;
    while (under > 1) {
      const uint32_t left_leaves = node[3 * width];
      if (slices[node[0]] > node[width]) {
        leaf += left_leaves;
        under -= left_leaves;
        node += left_leaves * stride;
      } else {
        under = left_leaves;
        node += stride;
      }
    }
    reached[i] = static_cast<uint8_t>(leaf);
  }
}

#else

/// Walks `count` trees of a branching block in lockstep, from `row`, the slice of the first of them in the
/// block's first node. Under a node are `under` leaves from `leaf` on; a walk with one leaf has arrived.
template <uint32_t count>
inline void walk_block(const uint8_t* slices, const uint8_t* node_counts, const uint8_t* row, uint32_t width,
                       uint8_t* reached) {
  const uint8_t* node[count];
  uint32_t leaf[count], under[count];
  for (uint32_t i = 0; i < count; ++i) {
    node[i] = row + i;
    leaf[i] = 0;
    under[i] = node_counts[i] + 1u;
  }
  uint32_t most;
  do {
    most = 0;
    TONEARM_UNROLL
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t on = under[i] > 1 ? UINT32_MAX : 0;
      const uint32_t right = slices[node[i][0]] > node[i][width] ? UINT32_MAX : 0;
      const uint32_t left_leaves = node[i][3 * width];
      leaf[i] += left_leaves & right & on;
      const uint32_t next = (right & (under[i] - left_leaves)) | (~right & left_leaves);
      under[i] = (next & on) | (under[i] & ~on);
      const uint32_t nodes = (right & left_leaves) | (~right & 1);
      node[i] += static_cast<size_t>(under[i] > 1 ? nodes & on : 0) * 4 * width;
      most = under[i] > most ? under[i] : most;
    }
  } while (most > 1);
  for (uint32_t i = 0; i < count; ++i) reached[i] = static_cast<uint8_t>(leaf[i]);
}

void walk_trees(const uint8_t* slices, const uint8_t* node_counts, const uint8_t* row, uint32_t width,
                uint8_t* reached) {
  for (uint32_t i = 0; i < width; i += 8) walk_block<8>(slices, node_counts + i, row + i, width, reached + i);
}

#endif

/// The reached leaves of a symmetric block from `level` on; of what is asked of slices below `limit` only.
void ask_block(const tonearm_tree_blocks& run, uint32_t width, uint32_t level, uint32_t limit,
               uint8_t* reached) {
  if (level == run.depth) return;
  const uint8_t* slices = run.slices;
  const uint8_t* first = run.nodes + size_t{2} * width * level;
  const uint8_t* last = run.nodes + size_t{2} * width * (run.depth - 1u);
  for (uint32_t i = 0; i < width; ++i, ++first, ++last) {
    uint32_t number = 0;
    for (const uint8_t* row = last;; row -= 2 * width) {
      // By the signs of differences: compilers would make jumps of comparisons.
      number = 2 * number + (((row[width] - uint32_t{slices[row[0]]}) & (row[0] - limit)) >> 31);
      if (row == first) break;
    }
    reached[i] = static_cast<uint8_t>(reached[i] | number << level);
  }
}

uint8_t answered_levels(const tonearm_tree_blocks& run, uint32_t width) {
  uint8_t level = 0;
  for (const uint8_t* row = run.nodes; level < run.depth; ++level, row += 2 * static_cast<size_t>(width))
    for (uint32_t i = 0; i < width; ++i)
      if (row[i] >= run.context_slices) return level;
  return level;
}

/// What a block takes of a run's arrays.
struct BlockSize {
  uint32_t width, stride;  // trees, and leaves of each
  size_t node_bytes, leaf_bytes;
};

BlockSize block_size(const tonearm_tree_blocks& run, uint32_t trees_left) {
  const uint32_t width = trees_left < 64 ? trees_left : 64;
  const uint32_t stride = run.depth > 0 ? 1u << run.depth : *run.block_nodes + 1u;
  const size_t nodes = run.depth > 0 ? 2 * run.depth : 1 + 4 * static_cast<size_t>(*run.block_nodes);
  return {width, stride, width * nodes,
          static_cast<size_t>(width) * stride * leaf_bytes(static_cast<LeafKind>(run.leaf_kind))};
}

/// Asks the trees of a run, and unless it only shares, adds them to the sums.
void blocks_scalar(tonearm_tree_blocks run, SharedTrees& sums) {
  const bool sharing = run.context_slices != 0;
  for (uint32_t left = run.trees; left > 0;) {
    const BlockSize block = block_size(run, left);
    uint8_t reached[64] = {};
    if (run.depth == 0) {
      if (*run.block_nodes > 0)
        walk_trees(run.slices, run.nodes, run.nodes + block.width, block.width, reached);
      ++run.block_nodes;
    } else if (sharing) {
      ask_block(run, block.width, 0, run.context_slices, reached);
      memcpy(run.known, reached, block.width);
      *run.levels++ = answered_levels(run, block.width);
      run.known += block.width;
    } else if (run.known != nullptr) {
      memcpy(reached, run.known, block.width);
      run.known += block.width;
      ask_block(run, block.width, *run.levels++, 256, reached);
    } else {
      ask_block(run, block.width, 0, 256, reached);
    }
    if (!sharing)
      add_leaves({run.leaves, run.palette, static_cast<LeafKind>(run.leaf_kind)}, 0, block.width, sums,
                 [&](uint32_t first, uint32_t count, uint32_t* leaf) {
                   for (uint32_t i = first; i < first + count; ++i) *leaf++ = i * block.stride + reached[i];
                 });
    run.nodes += block.node_bytes;
    run.leaves += block.leaf_bytes;
    left -= block.width;
  }
}

void begin_run(const TreesView& trees, const uint8_t* slices, uint32_t count, tonearm_tree_blocks& run) {
  run.slices = slices;
  run.slice_count = trees.slices;
  run.nodes = trees.nodes;
  run.block_nodes = trees.block_nodes;
  run.depth = trees.depth;
  run.trees = count;
  run.leaves = trees.leaves;
  run.palette = trees.palette;
  run.leaf_kind = static_cast<uint32_t>(trees.leaf_kind);
  run.context_slices = 0;
  run.known = nullptr;
}

/// Goes on to the run after a run.
void next_run(tonearm_tree_blocks& run, uint32_t count) {
  for (uint32_t left = run.trees; left > 0;) {
    const BlockSize block = block_size(run, left);
    run.nodes += block.node_bytes;
    run.leaves += block.leaf_bytes;
    if (run.depth == 0) ++run.block_nodes;
    left -= block.width;
  }
  run.trees = count;
}

/// Adds the run's trees to the sums of `before`; `sums` may be the same.
void add_run(const TreesView& trees, tonearm_tree_blocks& run, const SharedTrees& before, SharedTrees& sums) {
  sums.codes = before.codes;
  run.before = before.lanes;
  run.lanes = sums.lanes;
  run.codes = &sums.codes;
  uint32_t nodes = trees.depth;
  for (uint32_t i = 0; trees.depth == 0 && i < blocks_of(run.trees); ++i)
    nodes = run.block_nodes[i] > nodes ? run.block_nodes[i] : nodes;
  if (tonearm_block_kernel* kernel = block_kernel(trees.cpu, trees.slices, nodes)) {
    kernel(&run);
  } else {
    memmove(sums.lanes, before.lanes, sizeof sums.lanes);
    blocks_scalar(run, sums);
  }
}

constexpr SharedTrees no_sums = {};

}  // namespace

void bin_inputs(const TreesView& trees, const float* input, uint32_t first, uint32_t last, uint8_t* slices) {
  tonearm_bin_kernel* kernel = trees.pivot_begin != nullptr ? bin_kernel(trees.cpu) : nullptr;
  if (kernel != nullptr) {
    const tonearm_tree_axes axes = {
        input,        trees.slots, trees.missing, trees.threshold_begin, trees.thresholds, trees.pivot_begin,
        trees.pivots, first,       last};
    kernel(&axes, slices);
  } else {
    bin_scalar(trees, input, first, last, slices);
  }
}

void bin_categories(const TreesView& trees, const float* input, uint8_t* slices) {
  if (trees.category_axes == 0) return;
  for (uint32_t axis = 0; axis < trees.axes; ++axis)
    slices += slices_of(trees.threshold_begin[axis + 1] - trees.threshold_begin[axis]);
  const uint8_t* rows = trees.category_rows;
  for (uint32_t axis = 0; axis < trees.category_axes; ++axis) {
    const uint32_t width = trees.category_slices[axis], count = trees.category_counts[axis];
    const uint32_t row = category_row(input[trees.category_slots[axis]], count);
    memcpy(slices, rows + static_cast<size_t>(row) * width, width);
    rows += static_cast<size_t>(count + 3) * width;
    slices += width;
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
    add_leaves(leaves_of(trees), trees.context_trees, trees.trees, sums,
               [&](uint32_t tree, uint32_t count, uint32_t* leaf) {
                 in_eights(tree, count, leaf, [&]<uint32_t width>(uint32_t t, uint32_t* found) {
                   look_up_rest<width, depth>(trees, slices, numbers, t, found);
                 });
               });
  });
  return total(trees, sums);
}

void sum_blocks(const TreesView& trees, const uint8_t* slices, uint32_t outputs, float* sums) {
  tonearm_tree_blocks run;
  SharedTrees sum;
  if (trees.context_trees > 0) {  // then there is one output
    begin_run(trees, slices, trees.context_trees, run);
    add_run(trees, run, no_sums, sum);
    next_run(run, trees.trees - trees.context_trees);
    add_run(trees, run, sum, sum);
    sums[0] = total(trees, sum);
    return;
  }
  begin_run(trees, slices, trees.trees, run);
  for (uint32_t k = 0; k < outputs; ++k) {
    if (k > 0) next_run(run, trees.trees);
    add_run(trees, run, no_sums, sum);
    sums[k] = total(trees, sum);
  }
}

void share_blocks(const TreesView& trees, const uint8_t* slices, SharedTrees& shared, uint8_t* known) {
  tonearm_tree_blocks run;
  begin_run(trees, slices, trees.context_trees, run);
  add_run(trees, run, no_sums, shared);
  if (trees.depth == 0 || trees.context_slices == 0) return;
  next_run(run, trees.trees - trees.context_trees);
  run.context_slices = trees.context_slices;
  run.known = known;
  run.levels = known + trees.trees;
  SharedTrees nothing;
  add_run(trees, run, no_sums, nothing);
}

float sum_shared_blocks(const TreesView& trees, const uint8_t* slices, const SharedTrees& shared,
                        uint8_t* known) {
  tonearm_tree_blocks run;
  begin_run(trees, slices, trees.context_trees, run);
  next_run(run, trees.trees - trees.context_trees);
  if (trees.depth > 0 && trees.context_slices > 0) {
    run.known = known;
    run.levels = known + trees.trees;
  }
  SharedTrees sums;
  add_run(trees, run, shared, sums);
  return total(trees, sums);
}

#endif

}  // namespace tonearm::runtime
