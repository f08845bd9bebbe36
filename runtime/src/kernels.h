#pragma once

// Every operator's inner loop. What is here is plain C++, and the reference: the order of every summation is
// fixed, and the vectorised kernels that ensembles of trees are handed on to give the same bits.

#include "program.h"

namespace tonearm::runtime {

/// 16 partial sums, element i into lane i mod 16, then lane i + lane i+8, i+4, i+2, i+1.
float dot(const float* a, const float* b, uint32_t count);

/// Fills the bytes of the slices of axes [first, last) from an ensemble's input values; see TreeInputs in the
/// schema. `slices` is where those of axis `first` begin.
void bin_inputs(const TreesView& trees, const float* input, uint32_t first, uint32_t last, uint8_t* slices);

/// The same of all category axes; `slices` is where those of axis 0 begin.
void bin_categories(const TreesView& trees, const float* input, uint8_t* slices);

/// The sums over the trees [first, first + count) of their reached leaves, unscaled.
float sum_branching(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count);
float sum_symmetric(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count);

/// The same in two steps, for many rows with the same values on the context axes: what those alone decide,
/// and then the whole sum, to the same bits. `numbers` has 4 bytes for each symmetric tree.
void share_branching(const TreesView& trees, const uint8_t* slices, SharedTrees& shared);
float sum_shared_branching(const TreesView& trees, const uint8_t* slices, const SharedTrees& shared);
void share_symmetric(const TreesView& trees, const uint8_t* slices, SharedTrees& shared, uint8_t* numbers);
float sum_shared_symmetric(const TreesView& trees, const uint8_t* slices, const SharedTrees& shared,
                           const uint8_t* numbers);

/// The same of BlockTrees; all slices come with room for padded_slices() of them. sum_blocks() writes a sum
/// for each output; `known` has block_scratch_bytes() less SharedTrees and slices.
void sum_blocks(const TreesView& trees, const uint8_t* slices, uint32_t outputs, float* sums);
void share_blocks(const TreesView& trees, const uint8_t* slices, SharedTrees& shared, uint8_t* known);
float sum_shared_blocks(const TreesView& trees, const uint8_t* slices, const SharedTrees& shared,
                        uint8_t* known);

}  // namespace tonearm::runtime
