#pragma once

// The scalar reference of every operator's inner loop. The order of every summation is fixed: any other
// kernel must give the same bits.

#include "program.h"

namespace tonearm::runtime {

/// 16 partial sums, element i into lane i mod 16, then lane i + lane i+8, i+4, i+2, i+1.
float dot(const float* a, const float* b, uint32_t count);

/// Fills the bytes of all slices of an ensemble from its input values; see TreeInputs in the schema.
void bin_inputs(const TreesView& trees, const float* input, uint8_t* slices);

/// The sums over the trees [first, first + count) of their reached leaves, unscaled.
float sum_branching(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count);
float sum_symmetric(const TreesView& trees, const uint8_t* slices, uint32_t first, uint32_t count);

}  // namespace tonearm::runtime
