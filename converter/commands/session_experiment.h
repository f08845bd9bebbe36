#pragma once

// From a recipe and a folder of listening logs to a measured session model: what `train`, `evaluate`,
// `features` and `compare` do where a recipe's [data] names an adapter.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "commands/experiment.h"
#include "commands/session_report.h"
#include "data/recipe.h"
#include "data/session_split.h"
#include "data/sessions.h"
#include "features/replay.h"
#include "features/session_features.h"

namespace tonearm {

/// Whether the recipe is about listening sessions.
bool is_session_recipe(const Recipe::Section& recipe);

/// What a recipe's [examples] asks about each track.
Questions read_questions(const Recipe::Section& recipe);

/// Which sessions of a log are wanted, by their first play and number.
using Wanted = std::function<bool(const Log&, const Play& first, std::uint32_t number)>;

/// The largest finite magnitude of each output of a model, over the questions about the wanted sessions. By
/// the plain kernels, because blobs are made of it.
std::vector<float> largest_outputs(const LogSource& logs, const Questions& questions, const Wanted& wanted,
                                   schema::ModelT& model, Threads& threads);

/// Trains, converts and measures a session model.
struct SessionOutcome {
  schema::ModelT model;
  std::vector<unsigned char> blob;
  std::unique_ptr<SessionReport> report;  // of the held-out sessions
  std::size_t training_examples = 0, validation_examples = 0, features = 0;
  std::vector<LogRemark> remarks;
  std::vector<Metrics> folds;
  double largest_change = 0, mean_change = 0, tolerance = 0, train_seconds = 0;
  /// Of a recurrent network: the blob's bytes if its weights were float32 (0 for others).
  std::size_t float_bytes = 0;
  /// How far the blob's probabilities are from those of what was trained, by the position in the session from
  /// 1 (21: beyond 20).
  struct Change {
    std::size_t questions = 0;
    double largest = 0, sum = 0;
  };
  std::map<std::uint32_t, Change> changes;
  Checkpoint checkpoint;  // to be removed once the blob is written
};
SessionOutcome run_session_experiment(const Recipe& recipe, const std::filesystem::path& folder,
                                      std::uint32_t seed, Threads& threads, const std::string& checkpoint,
                                      bool resume);

/// Replays the sessions of a folder through a finished blob: its held-out sessions, or all.
struct SessionEvaluation {
  std::unique_ptr<SessionReport> report;
  bool same_data = false, in_sample = false, foreign = false;
  std::string rule;
  bool synthetic = false;
  std::vector<LogRemark> remarks;
};
SessionEvaluation evaluate_sessions(const Blob& blob, const schema::ModelT& model, const Recipe& recipe,
                                    const std::filesystem::path& folder, bool all, Threads& threads);

/// As CSV, a line for every question about the logs that the recipe in the blob's card can read: the log's
/// and the session's number, position, moment, horizon, whether it was skipped, and the probability, printed
/// so that the float32 reads back.
std::string predict_sessions(const Blob& blob, const std::filesystem::path& folder, Threads& threads);

/// Writes the feature vectors that the runtime computes, with label, part and kind of question, as CSV.
void write_session_features(const Recipe& recipe, const std::filesystem::path& folder, std::uint32_t seed,
                            Threads& threads, const std::filesystem::path& out);

}  // namespace tonearm
