#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "evaluate/metrics.h"
#include "features/replay.h"

namespace tonearm {

/// How often each session counts in each bootstrap replicate: Poisson(1), drawn from a hash of the session's
/// identity, so that all systems are resampled alike and nothing has to be kept (Chamandy et al. 2012).
class SessionWeights {
 public:
  static constexpr std::size_t replicates = 200;
  void draw(std::uint64_t session);
  std::span<const float, replicates> of_session() const { return weights_; }

 private:
  std::array<float, replicates> weights_{};
};

enum class Figure { accuracy, auc, log_loss };

/// Metrics of a stream of probabilities with bootstrap replicates over sessions, in constant memory.
/// Probabilities are binned for the area under the curve (65536 bins; 512 in the replicates), pairs in one
/// bin counting half.
class StreamedMetrics {
 public:
  void add(double probability, float target, const SessionWeights& weights);

  std::size_t rows() const { return rows_; }
  /// All NaN but the counts where there are no rows.
  Metrics metrics() const;
  /// One figure in each replicate; NaN where a replicate has no rows or one class only.
  std::vector<double> replicates(Figure figure) const;

 private:
  static constexpr std::size_t fine = 65536, coarse = 512, calibration_bins = 15;
  std::size_t rows_ = 0;
  double right_ = 0, loss_ = 0, positives_ = 0;
  std::array<std::array<double, 3>, calibration_bins> calibration_{};  // rows, probabilities, positives
  std::vector<std::uint64_t> bins_;                                    // fine x 2
  std::vector<float> replicate_bins_;                                  // coarse x 2 x replicates
  std::vector<double> replicate_sums_;                                 // (rows, right, loss) x replicates
};

struct Interval {
  double low = 0, high = 0;
};
/// The middle 95 % of the replicates; NaN if fewer than 20 have a value.
Interval interval_of(std::vector<double> replicates);

/// What a system is told of a question besides what the blob reads: what has happened so far in the session.
struct Situation {
  std::span<const Play> plays;     // that have ended, of this session
  std::span<const float> skipped;  // their outcomes
  const tonearm_start* start;      // of the playing track; null between tracks
};

/// Systems without a trained model, for comparison. None reads what a player would not know.
///
/// majority      the base rate of the training rows, always
/// repeat-last   .75 or .28 (the published probability of a skip after a skip and after none: facts of the
/// MSSD) table-rule    of the previous outcome and reason_start, from published tables, taken as independent
/// evidence:
///               logit p = logit P(skip | reason_start) + logit P(skip | previous) - logit P(skip)
/// decayed-sum   the mean of P(skip_2 | own reason_end) of the previous track and the decayed skip rate
///               (weights .7^k): an untrained sum of two numbers, a ranking more than a probability
enum class Baseline { majority, repeat_last, table_rule, decayed_sum };
constexpr std::array<const char*, 4> baseline_names = {"majority", "repeat-last", "table-rule",
                                                       "decayed-sum"};
double baseline_probability(Baseline baseline, const Situation& situation, double base_rate);

}  // namespace tonearm
