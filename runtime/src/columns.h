#pragma once

// From the structs of the C API to the columns of a session model.

#include "program.h"

namespace tonearm::runtime {

/// The schema's Source of a named field of the API's structs, and whether it is an enumerator.
uint32_t source_of_field(uint32_t field);
bool is_category_field(uint32_t field);

/// What is told of one play of a track; NULL is nothing.
struct Told {
  const tonearm_track* track;
  const tonearm_now* now;
  const tonearm_start* start;
  const tonearm_end* end;
};

/// Whether an end was a skip, and how early: by the player's own level or by the label rule.
struct Outcome {
  uint32_t level;  // a tonearm_skip
  float skipped;   // 1, 0, or NaN
};
Outcome outcome_of(const RulesView& rules, const tonearm_end* end, float duration);

/// TONEARM_OK, or what is wrong with the struct itself. NULL is right.
tonearm_status check_struct(const tonearm_track* track);
tonearm_status check_struct(const tonearm_now* now);
tonearm_status check_struct(const tonearm_start* start);
tonearm_status check_struct(const tonearm_end* end);

// Each fills the columns of one source in a row; NaN where something is unknown. No policy is applied.
void read_track(const tonearm_model& model, const Plan& plan, const tonearm_track* track, float* row);
void read_now(const tonearm_model& model, const Plan& plan, const tonearm_now* now, float* row);
void read_start(const tonearm_model& model, const Plan& plan, const tonearm_start* start, float* row);
void read_end(const tonearm_model& model, const Plan& plan, const tonearm_end* end, const Outcome& outcome,
              float duration, float* row);

/// Copies the columns [first, last) of what was told to a row, and replaces what is missing, or no index of a
/// vocabulary, as the policy of each column says. Both may be the same.
void apply_policy(const tonearm_model& model, const Plan& plan, uint32_t first, uint32_t last,
                  const float* told, float* row);

}  // namespace tonearm::runtime
