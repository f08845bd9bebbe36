#include "evaluate/session_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace tonearm {
namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

double logit(double p) { return std::log(p / (1 - p)); }

// Published rates of skip_2 in the mini version of the Music Streaming Sessions Dataset.
constexpr double base_rate_of_mssd = 0.517;
constexpr double after_skip = 0.753, after_no_skip = 0.282;

double rate_by_start(std::uint32_t reason) {
  switch (reason) {
    case TONEARM_REASON_FWDBTN:
      return 0.765;
    case TONEARM_REASON_TRACKDONE:
      return 0.165;
    case TONEARM_REASON_CLICKROW:
      return 0.379;
    case TONEARM_REASON_BACKBTN:
      return 0.688;
    case TONEARM_REASON_APPLOAD:
      return 0.461;
    case TONEARM_REASON_PLAYBTN:
      return 0.49;
    case TONEARM_REASON_REMOTE:
      return 0.45;
    case TONEARM_REASON_TRACKERROR:
      return 0.49;
    case TONEARM_REASON_ENDPLAY:
      return 0.40;
    default:
      return base_rate_of_mssd;
  }
}

double rate_by_end(std::uint32_t reason) {
  switch (reason) {
    case TONEARM_REASON_FWDBTN:
      return 0.811;
    case TONEARM_REASON_TRACKDONE:
      return 0.004;
    case TONEARM_REASON_ENDPLAY:
      return 0.578;
    case TONEARM_REASON_BACKBTN:
      return 0.901;
    case TONEARM_REASON_LOGOUT:
      return 0.29;
    case TONEARM_REASON_REMOTE:
      return 0.46;
    case TONEARM_REASON_CLICKROW:
      return 0.99;
    default:
      return base_rate_of_mssd;
  }
}

/// Mann and Whitney's statistic from counts per bin, ascending.
template <typename Count>
double area(const Count& negatives_and_positives, std::size_t bins) {
  double negatives = 0, pairs = 0, positives = 0;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    const double n = negatives_and_positives(bin, 0), p = negatives_and_positives(bin, 1);
    pairs += p * (negatives + n / 2);
    negatives += n;
    positives += p;
  }
  return negatives > 0 && positives > 0 ? pairs / (negatives * positives) : nan_value;
}

std::size_t bin_of_probability(double probability, std::size_t bins) {
  return std::min(bins - 1,
                  static_cast<std::size_t>(std::clamp(probability, 0.0, 1.0) * static_cast<double>(bins)));
}

}  // namespace

void SessionWeights::draw(std::uint64_t session) {
  Random random(session, 0x626f6f74);
  // Each draw of 64 bits serves four replicates: 16 bits are fine enough for Poisson(1).
  static constexpr std::array<double, 7> cumulative = {0.36787944, 0.73575888, 0.91969860, 0.98101184,
                                                       0.99634015, 0.99940582, 0.99991676};
  for (std::size_t i = 0; i < replicates; i += 4) {
    std::uint64_t bits = random.next();
    for (std::size_t k = 0; k < 4; ++k, bits >>= 16) {
      const double uniform = (static_cast<double>(bits & 0xffff) + 0.5) / 65536;
      float weight = 0;
      while (static_cast<std::size_t>(weight) < cumulative.size() &&
             uniform > cumulative[static_cast<std::size_t>(weight)])
        weight += 1;
      weights_[i + k] = weight;
    }
  }
}

void StreamedMetrics::add(double probability, float target, const SessionWeights& weights) {
  constexpr std::size_t count = SessionWeights::replicates;
  if (bins_.empty()) {
    bins_.resize(fine * 2);
    replicate_bins_.resize(coarse * 2 * count);
    replicate_sums_.resize(3 * count);
  }
  const bool positive = target > 0.5f, right = (probability >= 0.5) == positive;
  const double kept = std::clamp(probability, 1e-7, 1 - 1e-7);
  const double loss = -std::log(positive ? kept : 1 - kept);
  ++rows_;
  right_ += right;
  loss_ += loss;
  positives_ += positive;
  ++bins_[bin_of_probability(probability, fine) * 2 + positive];
  auto& bin = calibration_[bin_of_probability(kept, calibration_bins)];
  bin[0] += 1;
  bin[1] += probability;
  bin[2] += positive;

  const auto of_session = weights.of_session();
  float* replicate =
      replicate_bins_.data() + (bin_of_probability(probability, coarse) * 2 + positive) * count;
  double* rows = replicate_sums_.data();
  double* rights = rows + count;
  double* losses = rights + count;
  for (std::size_t i = 0; i < count; ++i) {
    const auto weight = static_cast<double>(of_session[i]);
    replicate[i] += of_session[i];
    rows[i] += weight;
    rights[i] += right ? weight : 0;
    losses[i] += weight * loss;
  }
}

Metrics StreamedMetrics::metrics() const {
  Metrics metrics;
  metrics.rows = rows_;
  metrics.base_rate = metrics.accuracy = metrics.auc = metrics.log_loss = metrics.calibration_error =
      nan_value;
  if (rows_ == 0) return metrics;
  const auto rows = static_cast<double>(rows_);
  metrics.base_rate = positives_ / rows;
  metrics.accuracy = right_ / rows;
  metrics.log_loss = loss_ / rows;
  metrics.auc = area(
      [&](std::size_t bin, std::size_t side) { return static_cast<double>(bins_[bin * 2 + side]); }, fine);
  metrics.calibration_error = 0;
  for (const auto& bin : calibration_) metrics.calibration_error += std::abs(bin[1] - bin[2]) / rows;
  return metrics;
}

std::vector<double> StreamedMetrics::replicates(Figure figure) const {
  constexpr std::size_t count = SessionWeights::replicates;
  std::vector<double> result(count, nan_value);
  if (rows_ == 0) return result;
  for (std::size_t i = 0; i < count; ++i) {
    if (replicate_sums_[i] == 0) continue;
    if (figure == Figure::auc)
      result[i] = area(
          [&](std::size_t bin, std::size_t side) {
            return static_cast<double>(replicate_bins_[(bin * 2 + side) * count + i]);
          },
          coarse);
    else
      result[i] = replicate_sums_[(figure == Figure::accuracy ? count : 2 * count) + i] / replicate_sums_[i];
  }
  return result;
}

Interval interval_of(std::vector<double> replicates) {
  std::erase_if(replicates, [](double value) { return std::isnan(value); });
  if (replicates.size() < 20) return {nan_value, nan_value};
  std::sort(replicates.begin(), replicates.end());
  const auto at = [&](double share) {
    return replicates[static_cast<std::size_t>(share * static_cast<double>(replicates.size() - 1) + 0.5)];
  };
  return {at(0.025), at(0.975)};
}

double baseline_probability(Baseline baseline, const Situation& situation, double base_rate) {
  const std::size_t ended = situation.plays.size();
  const float last = ended == 0 ? std::numeric_limits<float>::quiet_NaN() : situation.skipped[ended - 1];
  const double repeated = std::isnan(last) ? base_rate : last > 0.5f ? after_skip : after_no_skip;
  switch (baseline) {
    case Baseline::majority:
      return base_rate;
    case Baseline::repeat_last:
      return repeated;
    case Baseline::table_rule: {
      const double before = std::isnan(last) ? base_rate_of_mssd : repeated;
      const double start =
          situation.start == nullptr ? base_rate_of_mssd : rate_by_start(situation.start->reason);
      return 1 / (1 + std::exp(-(logit(start) + logit(before) - logit(base_rate_of_mssd))));
    }
    case Baseline::decayed_sum: {
      if (ended == 0) return base_rate;
      double sum = 0, weight = 0;
      for (std::size_t i = 0; i < ended; ++i) {
        sum *= 0.7;
        weight *= 0.7;
        if (std::isnan(situation.skipped[i])) continue;
        sum += situation.skipped[i];
        weight += 1;
      }
      return (rate_by_end(situation.plays[ended - 1].end.reason) + (weight > 0 ? sum / weight : base_rate)) /
             2;
    }
  }
  return base_rate;
}

}  // namespace tonearm
