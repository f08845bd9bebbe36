#pragma once

// What the vectorised tree kernels share with the code that calls them: plain data and C functions. A kernel
// file is compiled for one instruction set and defines nothing but functions named after it, so that no code
// for that set can be linked in where another CPU runs it. That is why nothing here is an inline function.

#include <stddef.h>
#include <stdint.h>

/// Of functions that are inlined wherever they are called, so that constants given there reach into loops.
#define TONEARM_INLINE static inline __attribute__((always_inline))

/// Threshold axes [first, last) of an ensemble and the values they are asked about; see TreeInputs in the
/// schema. Every pointer leads to checked data.
struct tonearm_tree_axes {
  const float* input;
  const uint16_t* slots;
  const uint8_t* missing;
  const uint32_t* threshold_begin;
  const int32_t* thresholds;
  const uint32_t* pivot_begin;
  const int32_t* pivots;
  uint32_t first, last;
};

enum tonearm_leaf_kind {
  tonearm_leaf_float32,
  tonearm_leaf_int16,
  tonearm_leaf_palette8,
  tonearm_leaf_palette16
};

/// A run of blocks; see BlockTrees in the schema.
struct tonearm_tree_blocks {
  const uint8_t* slices;  // 256 bytes may be read from here on, or as many as slice_count, rounded up to 64
  uint32_t slice_count;
  const uint8_t* nodes;        // of the run's first block
  const uint8_t* block_nodes;  // of branching trees
  uint32_t depth;              // of symmetric trees; 0: branching
  uint32_t trees;              // a multiple of 16
  const uint8_t* leaves;       // of the run's first block
  const float* palette;
  uint32_t leaf_kind;
  const float* before;  // 16 sums, which the reached leaves are added to
  float* lanes;         // the new ones; may be the same
  int32_t* codes;       // the sum of int16 leaves, added to in place
  // Symmetric trees of which the context part is asked first:
  uint32_t
      context_slices;  // not 0: answers only what is asked of slices below, into `known`, and adds nothing
  uint8_t* known;      // NULL, or the answers so far: a byte for each tree
  uint8_t* levels;     // of each block, how many levels are answered for all of its trees
};

/// Writes the bytes of the axes' slices; `slices` is where those of the first axis begin.
typedef void tonearm_bin_kernel(const struct tonearm_tree_axes* axes, uint8_t* slices);
/// Adds up the reached leaves of the run.
typedef void tonearm_block_kernel(const struct tonearm_tree_blocks* blocks);

extern "C" {
tonearm_bin_kernel tonearm_bin_ssse3, tonearm_bin_avx2, tonearm_bin_avx512, tonearm_bin_neon,
    tonearm_bin_wasm;
tonearm_block_kernel tonearm_blocks_ssse3, tonearm_blocks_avx2, tonearm_blocks_avx512, tonearm_blocks_neon,
    tonearm_blocks_wasm;
}
