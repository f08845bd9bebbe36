#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tonearm {

/// How good probabilities of a binary label are.
struct Metrics {
  std::size_t rows = 0;
  double base_rate = 0;  // share of positive labels
  double accuracy = 0;   // share of rows where probability >= .5 agrees with the label
  double auc = 0;        // area under the ROC curve: ties count half; NaN if one class only
  double log_loss = 0;   // mean of -ln(probability of what happened), probabilities kept in [1e-7, 1 - 1e-7]
  /// Expected calibration error (Naeini et al. 2015) over 15 bins of equal width: the mean distance
  /// between the probability and the share of positives, weighted by rows.
  double calibration_error = 0;
};

/// Throws Error for no rows, and where a probability is NaN.
Metrics measure(std::span<const double> probability, std::span<const float> target);

struct Spread {
  double mean = 0;
  double deviation = 0;  // sample standard deviation; 0 for one value
};
Spread spread(std::span<const double> values);

}  // namespace tonearm
