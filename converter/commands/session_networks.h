#pragma once

// Recurrent networks over listening sessions: from replayed logs to what their trainer takes, and from
// trained networks to the operators of a blob.

#include <tonearm_schema/model_generated.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "features/replay.h"
#include "features/session_features.h"
#include "train/recurrent.h"

namespace tonearm {

/// Whether a recipe's auxiliary task is one: skip_1, skip_2, skip_3, not_skipped, or reason_end=REASON.
bool is_task(const std::string& task);

/// No sessions yet, of as many features and tasks as there will be.
SessionData no_sessions(const SessionProgram& program, const std::vector<std::string>& tasks);

/// Adds those sessions of a log that are wanted and have a question, with their steps and questions in the
/// order of `replayed`; `challenge`: those of the challenge too.
void add_sessions(SessionData& data, const Log& log, const Replayed& replayed, std::span<const char> wanted,
                  const std::vector<std::string>& tasks, bool challenge);

std::size_t bytes_of(const SessionData& data);

/// Of training sessions: the largest finite magnitude of each feature of a step and of a row.
struct SessionRanges {
  std::vector<float> steps, rows;
  explicit SessionRanges(const SessionData& data);
};

/// What the recipe asks for, with the program's branches; `ranges` of the training sessions.
RecurrentOptions with_branches(RecurrentOptions options, const SessionProgram& program,
                               const SessionRanges& ranges);

/// Throws Error naming the first feature that a network computes with and that a player may leave out.
void require_given(const SessionProgram& program);

/// Numbers in 0 +- 1 instead of the rows' own, for a network that is trained for its encoders alone.
struct RowScale {
  std::vector<float> center, factor;
  explicit RowScale(const SessionData& data);
  void apply(SessionData& data) const;
};

/// Appends the operators of the branches over the session. The model is the program's, scattered or gathered.
void append_encoders(schema::ModelT& model, const SessionProgram& program, const RecurrentNetwork& network,
                     const SessionRanges& ranges);
/// Appends all of a network and makes its probability the output. The model is the program's, gathered.
void append_network(schema::ModelT& model, const SessionProgram& program, const RecurrentNetwork& network,
                    const SessionRanges& ranges);

}  // namespace tonearm
