#pragma once

// Recurrent and quantized layers.

#include "program.h"

namespace tonearm::runtime {

/// The weights that a matrix of so many outputs takes, in bytes; see WeightFormat in the schema.
uint64_t matrix_bytes(WeightKind format, uint32_t gates, uint32_t panels, uint32_t columns);

/// The outputs but for the activation. `work` has quantized_work_bytes().
void run_quantized_affine(const OperatorView& op, const float* in, float* out, uint8_t* work);
uint32_t quantized_work_bytes(WeightKind format, uint32_t inputs, uint32_t outputs);

RecurrentSize recurrent_size(const RecurrentView& view);

/// Runs over the columns of a row. `work`, here and below, has recurrent_work_bytes() and is 4-byte aligned.
void run_recurrent_row(const OperatorView& op, const float* in, float* out, uint8_t* work);

/// Over the session: takes a step in when a track has ended, and gives the `count` outputs; a state of NULL
/// is that of an empty session. Elements of 4 bytes; all zero is the state of an empty session.
void take_step(const RecurrentView& view, const float* in, uint32_t* state, uint8_t* work);
void read_outputs(const RecurrentView& view, uint32_t count, const uint32_t* state, float* out,
                  uint8_t* work);

}  // namespace tonearm::runtime
