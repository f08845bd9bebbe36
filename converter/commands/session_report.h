#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "data/sessions.h"
#include "evaluate/session_metrics.h"
#include "features/replay.h"

namespace tonearm {

/// "started", "upcoming" or "queue".
const char* moment_name(bool playing, unsigned horizon);

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
  /// The blob on one kind of question: its figures, and each of them in every bootstrap replicate. Replicate
  /// i draws the same sessions in all reports, so two blobs' differences on the same sessions are paired.
  struct Measured {
    std::string moment;
    unsigned horizon = 1;
    Metrics metrics;
    std::array<std::vector<double>, 3> replicates;  // by Figure
  };
  std::vector<Measured> measured() const;
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

}  // namespace tonearm
