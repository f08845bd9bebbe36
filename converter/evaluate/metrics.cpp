#include "evaluate/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace tonearm {
namespace {

/// By ranks (Mann, Whitney 1947), equal probabilities sharing their mean rank.
double area_under_curve(std::span<const double> probability, std::span<const float> target) {
  std::vector<std::size_t> order(probability.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return probability[a] < probability[b]; });
  double positives = 0, rank_sum = 0;
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    double positives_here = 0;
    while (last < order.size() && probability[order[last]] == probability[order[first]])
      positives_here += target[order[last++]] > 0.5f;
    const double mean_rank = (static_cast<double>(first + last) + 1) / 2;
    rank_sum += positives_here * mean_rank;
    positives += positives_here;
    first = last;
  }
  const double negatives = static_cast<double>(order.size()) - positives;
  if (positives == 0 || negatives == 0) return std::numeric_limits<double>::quiet_NaN();
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

}  // namespace

Metrics measure(std::span<const double> probability, std::span<const float> target) {
  if (probability.empty()) throw Error("there are no rows to measure on: the split holds out nothing");
  const auto missing =
      std::count_if(probability.begin(), probability.end(), [](double p) { return std::isnan(p); });
  if (missing > 0)
    throw Error("the model gives no number for " + std::to_string(missing) + " of " +
                std::to_string(probability.size()) +
                " rows: they miss a value that its missing-value policy does not fill, or hold one so large "
                "that it overflows");
  constexpr std::size_t bins = 15;
  struct Bin {
    double rows = 0, probability = 0, positives = 0;
  };
  std::array<Bin, bins> bin{};
  Metrics metrics;
  metrics.rows = probability.size();
  double positives = 0, right = 0, loss = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    const double p = probability[i];
    const bool positive = target[i] > 0.5f;
    const double kept = std::clamp(p, 1e-7, 1 - 1e-7);
    positives += positive;
    right += (p >= 0.5) == positive;
    loss -= std::log(positive ? kept : 1 - kept);
    Bin& b = bin[std::min(bins - 1, static_cast<std::size_t>(kept * bins))];
    b.rows += 1;
    b.probability += p;
    b.positives += positive;
  }
  const auto rows = static_cast<double>(metrics.rows);
  metrics.base_rate = positives / rows;
  metrics.accuracy = right / rows;
  metrics.log_loss = loss / rows;
  metrics.auc = area_under_curve(probability, target);
  for (const Bin& b : bin) metrics.calibration_error += std::abs(b.probability - b.positives) / rows;
  return metrics;
}

Spread spread(std::span<const double> values) {
  Spread result;
  if (values.empty()) return result;
  const auto count = static_cast<double>(values.size());
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  if (values.size() < 2) return result;
  double squares = 0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  result.deviation = std::sqrt(squares / (count - 1));
  return result;
}

}  // namespace tonearm
