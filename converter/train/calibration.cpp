#include "train/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"
#include "train/checks.h"

namespace tonearm {
namespace {

void require_scores(std::span<const double> score, std::span<const float> target) {
  require_both_classes(target, "calibration");
  for (std::size_t i = 0; i < score.size(); ++i)
    if (!std::isfinite(score[i]))
      throw Error("calibration: the score of row " + std::to_string(i) +
                  " (counted from 0) is not finite; the model that gave it is at fault");
}

double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : 1 - 1 / (1 + std::exp(x)); }

/// Drops points, each time the one that spans the smallest triangle with its neighbours (Visvalingam,
/// Whyatt 1993), until at most `count` are left. The two ends stay.
void thin(std::vector<float>& x, std::vector<float>& y, std::size_t count) {
  const auto area = [&](std::size_t i) {
    const double x0 = x[i - 1], x1 = x[i], x2 = x[i + 1], y0 = y[i - 1], y1 = y[i], y2 = y[i + 1];
    return std::abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0));
  };
  while (x.size() > count) {
    std::size_t least = 1;
    for (std::size_t i = 2; i + 1 < x.size(); ++i)
      if (area(i) < area(least)) least = i;
    x.erase(x.begin() + static_cast<std::ptrdiff_t>(least));
    y.erase(y.begin() + static_cast<std::ptrdiff_t>(least));
  }
}

}  // namespace

Calibration fit_platt(std::span<const double> score, std::span<const float> target) {
  require_scores(score, target);
  const auto positive = static_cast<double>(std::count(target.begin(), target.end(), 1.0F));
  const double negative = static_cast<double>(target.size()) - positive;
  const double goal[2] = {1 / (negative + 2), (positive + 1) / (positive + 2)};

  const auto loss = [&](double slope, double intercept) {
    double sum = 0;
    for (std::size_t i = 0; i < score.size(); ++i) {
      const double logit = slope * score[i] + intercept;
      // -goal log p - (1 - goal) log(1 - p), without overflow
      sum += std::max(logit, 0.0) - goal[target[i] > 0] * logit + std::log1p(std::exp(-std::abs(logit)));
    }
    return sum;
  };

  Calibration result;
  result.method = Calibration::Method::sigmoid;
  double slope = 0, intercept = std::log((positive + 1) / (negative + 1)), value = loss(slope, intercept);
  for (int iteration = 0; iteration < 100; ++iteration) {
    double g0 = 0, g1 = 0, h00 = 1e-12, h01 = 0, h11 = 1e-12;  // the Hessian is made safely invertible
    for (std::size_t i = 0; i < score.size(); ++i) {
      const double p = logistic(slope * score[i] + intercept);
      const double error = p - goal[target[i] > 0], curvature = p * (1 - p);
      g0 += error * score[i];
      g1 += error;
      h00 += curvature * score[i] * score[i];
      h01 += curvature * score[i];
      h11 += curvature;
    }
    const double determinant = h00 * h11 - h01 * h01;
    const double d0 = -(h11 * g0 - h01 * g1) / determinant, d1 = -(h00 * g1 - h01 * g0) / determinant;
    const double descent = g0 * d0 + g1 * d1;
    const auto along = [&](double length) { return loss(slope + length * d0, intercept + length * d1); };
    double length = 1, next = along(length);
    while (length >= 1e-10 && !(next < value + 1e-4 * length * descent)) {
      length /= 2;
      next = along(length);
    }
    if (length < 1e-10) break;  // minimal to within rounding
    slope += length * d0;
    intercept += length * d1;
    value = next;
  }
  result.slope = slope;
  result.intercept = intercept;
  return result;
}

Calibration fit_isotonic(std::span<const double> score, std::span<const float> target,
                         std::size_t max_points) {
  require_scores(score, target);

  // The runtime computes in float32, so scores that are equal there are one point.
  std::vector<std::size_t> order(score.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return score[a] < score[b]; });

  struct Pool {
    float first, last;  // scores
    double positive, count;

    double mean() const { return positive / count; }
    void take(const Pool& next) {
      last = next.last;
      positive += next.positive;
      count += next.count;
    }
  };
  std::vector<Pool> ties;
  for (std::size_t i : order) {
    const auto x = static_cast<float>(score[i]);
    const Pool one{x, x, static_cast<double>(target[i]), 1};
    if (!ties.empty() && ties.back().last == x)
      ties.back().take(one);
    else
      ties.push_back(one);
  }

  std::vector<Pool> pools;
  for (const Pool& tie : ties) {
    pools.push_back(tie);
    while (pools.size() > 1 && pools[pools.size() - 2].mean() >= pools.back().mean()) {
      const Pool violator = pools.back();
      pools.pop_back();
      pools.back().take(violator);
    }
  }

  Calibration result;
  result.method = Calibration::Method::isotonic;
  for (const Pool& pool : pools) {
    result.x.push_back(pool.first);
    result.y.push_back(static_cast<float>(pool.mean()));
    if (pool.last == pool.first) continue;
    result.x.push_back(pool.last);
    result.y.push_back(result.y.back());
  }
  thin(result.x, result.y, std::max<std::size_t>(max_points, 2));
  return result;
}

double calibrated(const Calibration& calibration, double score) {
  switch (calibration.method) {
    case Calibration::Method::none:
      return score;
    case Calibration::Method::sigmoid:
      return logistic(calibration.slope * score + calibration.intercept);
    case Calibration::Method::isotonic:
      break;
  }
  const std::vector<float>&x = calibration.x, &y = calibration.y;
  if (!(score > x.front())) return y.front();
  if (score >= x.back()) return y.back();
  const auto above = static_cast<std::size_t>(std::upper_bound(x.begin(), x.end(), score) - x.begin());
  const double x0 = x[above - 1], x1 = x[above], y0 = y[above - 1], y1 = y[above];
  return y0 + (score - x0) / (x1 - x0) * (y1 - y0);
}

}  // namespace tonearm
