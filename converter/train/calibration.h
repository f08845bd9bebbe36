#pragma once

#include <span>
#include <vector>

namespace tonearm {

/// Turns a score into a probability.
struct Calibration {
  enum class Method { none, sigmoid, isotonic };
  Method method = Method::none;
  /// sigmoid: 1 / (1 + exp(-(slope * score + intercept)))
  double slope = 1, intercept = 0;
  /// isotonic: linear interpolation between the points (x ascending), constant outside
  std::vector<float> x, y;
};

/// Platt 1999, with the target smoothing and the Newton method of Lin, Lin, Weng 2007. Throws Error if
/// `target` has one class only.
Calibration fit_platt(std::span<const double> score, std::span<const float> target);

/// Isotonic regression by pool-adjacent-violators (Barlow et al. 1972); equal scores are pooled first
/// and runs of equal values keep only their end points. At most `max_points` points are kept.
Calibration fit_isotonic(std::span<const double> score, std::span<const float> target,
                         std::size_t max_points = 256);

/// In float64: the reference that blobs are compared with.
double calibrated(const Calibration& calibration, double score);

}  // namespace tonearm
