#pragma once

// The parts of the evaluator that plain tables and sessions share.

#include "numbers.h"
#include "program.h"

namespace tonearm::runtime {

constexpr float missing = __builtin_nanf("");

/// One NaN, so that a session has the same bytes on every target.
inline float stored(float value) { return is_nan(value) ? missing : value; }

/// The index a category value stands for, or `count` if it is unknown.
uint32_t category_index(float value, uint32_t count);

/// Runs an encoder that has no state and needs no session.
void run_feature(const FeatureView& feature, float* slots);

/// Runs an operator that needs no session, in `work`, where trees have their binned inputs and networks their
/// sums: 4-byte aligned, with shared_bytes().
void run_operator(const OperatorView& op, float* slots, uint8_t* work);

/// Of an operator of a session model's candidate part: does what all candidates share, into `shared`, and
/// then what each needs. `shared` has shared_bytes() and is 4-byte aligned.
void share_operator(const OperatorView& op, const float* slots, uint8_t* shared);
void run_shared_operator(const OperatorView& op, float* slots, uint8_t* shared);
/// Bytes of `shared` (or of `work`) that an operator takes.
uint32_t shared_bytes(const OperatorView& op);

tonearm_status check_scratch(const Plan& plan, const void* scratch, size_t size);

/// Replays the golden events of a session model; the largest difference of any output, infinite for NaN.
float replay_golden(const tonearm_model& model, const Plan& plan, void* scratch);

/// The larger of `largest` and the distance of two numbers; infinite if either is NaN.
float larger_difference(float largest, float found, float expected);

}  // namespace tonearm::runtime
