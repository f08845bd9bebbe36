#pragma once

#include <Eigen/Core>

#include "train/training.h"

namespace tonearm {

/// score = weights . x + bias
struct LinearModel {
  Eigen::VectorXd weights;
  double bias = 0;
};

struct LinearOptions {
  enum class Loss { logistic, squared_hinge };
  Loss loss = Loss::logistic;
  /// Inverse regularisation as in scikit-learn: minimises |w|^2 / 2 + cost * sum(loss). The bias is not
  /// regularised.
  double cost = 1;
  unsigned max_iterations = 100;
  /// Converged when the largest component of the gradient is below this times that at the start.
  double tolerance = 1e-8;
};

/// L2-regularised logistic regression or linear support vector machine (squared hinge), by Newton's
/// method with a line search (IRLS; Keerthi, DeCoste 2005). The score is a logit, or a margin. Throws
/// Error for one class only, missing values, or divergence.
LinearModel train_linear(const Dataset& data, const LinearOptions& options, const Training& training);

/// The objective and its gradient (weights first, bias last), for numerical checks.
double linear_objective(const Dataset& data, const LinearOptions& options, const LinearModel& model,
                        Eigen::VectorXd* gradient);

double linear_score(const LinearModel& model, std::span<const float> row);

}  // namespace tonearm
