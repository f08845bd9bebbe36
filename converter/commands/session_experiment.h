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
#include "data/recipe.h"
#include "data/sessions.h"
#include "evaluate/session_metrics.h"
#include "features/replay.h"
#include "features/session_features.h"

namespace tonearm {

/// Whether the recipe is about listening sessions.
bool is_session_recipe(const Recipe::Section& recipe);

/// Which sessions are trained on, and which are held out.
///
/// [splits.NAME] rule = "group": a share `held_out` of the logs, by a hash of their names and the seed
///               rule = "time": the sessions of the last share `held_out` of all plays, by their start times
///               rule = "date": the sessions from the date `from` (yyyymmdd) on
class SessionSplit {
 public:
  enum class Part { training, validation, held_out };

  SessionSplit(const Recipe::Section& recipe, const LogSource& source, std::uint32_t seed);

  /// The part of the session that begins with this play.
  Part part(const Log& log, const Play& first) const;
  const std::string& rule() const { return rule_; }

 private:
  enum class Rule { group, time, date } kind_ = Rule::group;
  double held_out_ = 0, validation_ = 0;
  std::uint32_t seed_ = 0;
  std::int64_t held_out_from_ = 0, validation_from_ = 0;  // times or dates
  std::string rule_;
};

/// The identity of a session: the same wherever it stands.
std::uint64_t session_identity(const Log& log, const Play& first, std::uint32_t number);

/// Figures of one system on one kind of question.
struct SessionGroup {
  std::string name;  // "started, horizon 1"
  bool playing = false;
  unsigned horizon = 1;
};

/// A report of replayed sessions: the blob beside the baselines, on every kind of question.
class SessionReport {
 public:
  explicit SessionReport(double base_rate);

  /// Takes in what the blob answered to the questions about the sessions of a log for which `counted` says
  /// so. `probability` is that of each example of `replayed`.
  void add(const Log& log, const Replayed& replayed, const std::function<bool(std::uint32_t)>& counted);

  std::string text() const;
  nlohmann::ordered_json json() const;
  /// Of the blob: asked about the playing track if there are such questions, else upcoming at horizon 1.
  const StreamedMetrics& main() const;
  std::size_t sessions() const { return sessions_; }
  std::size_t plays() const { return plays_; }
  const std::string& digest() const { return digest_; }
  void finish();

 private:
  struct Key {
    std::string system;
    bool playing;
    unsigned horizon;
    bool later;  // a track of the session has ended before
    auto operator<=>(const Key&) const = default;
  };
  double base_rate_;
  std::size_t sessions_ = 0, plays_ = 0;
  std::uint64_t identity_sum_ = 0;
  std::string digest_;
  std::map<Key, StreamedMetrics> metrics_;
  struct ByPosition {
    std::size_t rows = 0, right = 0, positives = 0;
  };
  std::map<std::pair<bool, std::uint32_t>, ByPosition> by_position_;  // playing, position
  struct Challenge {
    std::size_t sessions = 0, first_right = 0;
    double average_accuracy = 0;
  };
  std::map<std::string, Challenge> challenge_;  // by system
};

/// Trains, converts and measures a session model.
struct SessionOutcome {
  schema::ModelT model;
  std::vector<unsigned char> blob;
  std::unique_ptr<SessionReport> report;  // of the held-out sessions
  std::size_t training_examples = 0, validation_examples = 0, features = 0;
  std::vector<LogRemark> remarks;
  std::vector<Metrics> folds;
  double largest_change = 0, tolerance = 0, train_seconds = 0;
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
