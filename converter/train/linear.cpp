#include "train/linear.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "train/checks.h"

namespace tonearm {
namespace {

/// Rows are summed in blocks of this many; so many blocks are held before they are added up, in order.
constexpr std::size_t block_rows = 4096, wave_blocks = 32;

/// The objective at one point, or one block's share of it. The point is the weights, then the bias.
struct Sums {
  double value = 0;
  Eigen::VectorXd gradient;
  Eigen::MatrixXd hessian;  // the lower triangle

  void add(const Sums& other) {
    value += other.value;
    gradient += other.gradient;
    hessian += other.hessian;
  }
};

/// A row's loss and its first two derivatives by the score. sign is +1 or -1.
struct RowLoss {
  double value, first, second;
};

RowLoss logistic(double score, double sign) {
  const double margin = sign * score;
  const double e = std::exp(-std::abs(margin));
  const double wrong = (margin > 0 ? e : 1) / (1 + e);  // the probability of the other class
  return {std::log1p(e) + std::max(-margin, 0.0), -sign * wrong, wrong * (1 - wrong)};
}

RowLoss squared_hinge(double score, double sign) {
  const double short_of = 1 - sign * score;
  return short_of > 0 ? RowLoss{short_of * short_of, -2 * sign * short_of, 2} : RowLoss{0, 0, 0};
}

enum class Need { value, derivatives };

Sums block_sums(const Dataset& data, const LinearOptions& options, const Eigen::VectorXd& point,
                std::size_t first, std::size_t end, Need need) {
  const auto rows = static_cast<Eigen::Index>(end - first);
  const auto features = static_cast<Eigen::Index>(data.features);
  // One column per row, with a 1 for the bias below.
  Eigen::MatrixXd x(features + 1, rows);
  x.topRows(features) =
      Eigen::Map<const Eigen::MatrixXf>(data.values.data() + first * data.features, features, rows)
          .cast<double>();
  x.row(features).setOnes();
  const Eigen::VectorXd score = x.transpose() * point;

  Sums sums;
  Eigen::VectorXd slope(rows), root_curvature(rows);
  for (Eigen::Index i = 0; i < rows; ++i) {
    const double sign = data.target[first + static_cast<std::size_t>(i)] > 0 ? 1 : -1;
    const RowLoss loss = options.loss == LinearOptions::Loss::logistic ? logistic(score[i], sign)
                                                                       : squared_hinge(score[i], sign);
    sums.value += options.cost * loss.value;
    slope[i] = options.cost * loss.first;
    root_curvature[i] = std::sqrt(options.cost * loss.second);
  }
  if (need == Need::value) return sums;
  sums.gradient = x * slope;
  x.array().rowwise() *= root_curvature.transpose().array();
  sums.hessian = Eigen::MatrixXd::Zero(features + 1, features + 1);
  sums.hessian.selfadjointView<Eigen::Lower>().rankUpdate(x);
  return sums;
}

/// |w|^2 / 2 + cost * sum(loss), with gradient and Hessian if needed.
Sums objective(const Dataset& data, const LinearOptions& options, const Eigen::VectorXd& point, Need need,
               Threads& threads) {
  const Eigen::Index weights = point.size() - 1;
  Sums total;
  total.value = point.head(weights).squaredNorm() / 2;
  if (need == Need::derivatives) {
    total.gradient = point;
    total.gradient[weights] = 0;
    total.hessian = Eigen::MatrixXd::Identity(point.size(), point.size());
    total.hessian(weights, weights) = 0;
  }
  for (std::size_t wave = 0; wave < data.rows; wave += block_rows * wave_blocks) {
    const std::size_t blocks = std::min(wave_blocks, (data.rows - wave + block_rows - 1) / block_rows);
    std::vector<Sums> parts(blocks);
    threads.run(blocks, [&](std::size_t block) {
      const std::size_t first = wave + block * block_rows;
      parts[block] = block_sums(data, options, point, first, std::min(first + block_rows, data.rows), need);
    });
    for (const Sums& part : parts) {
      if (need == Need::derivatives)
        total.add(part);
      else
        total.value += part.value;
    }
  }
  return total;
}

}  // namespace

LinearModel train_linear(const Dataset& data, const LinearOptions& options, const Training& training) {
  const char* const who =
      options.loss == LinearOptions::Loss::logistic ? "logistic regression" : "support vector machine";
  if (!(options.cost > 0 && std::isfinite(options.cost)))
    throw Error(std::string(who) + ": the cost must be above 0 and finite");
  require_both_classes(data.target, who);
  require_finite(data, who);

  const auto weights = static_cast<Eigen::Index>(data.features);
  Eigen::VectorXd point = Eigen::VectorXd::Zero(weights + 1);
  unsigned iteration = 0;
  double start = 0;  // the largest component of the gradient at the start
  if (const auto saved = training.checkpoint.load(training.stage)) {
    const std::vector<double> values = saved->at("point");
    point = Eigen::Map<const Eigen::VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
    iteration = saved->at("iteration");
    start = saved->at("start");
  }

  Progress progress(training.label, options.max_iterations);
  for (; iteration < options.max_iterations; ++iteration) {
    if (interrupted()) {
      training.checkpoint.save(training.stage, {{"point", std::vector<double>(point.begin(), point.end())},
                                                {"iteration", iteration},
                                                {"start", start}});
      throw Interrupted();
    }
    const Sums at = objective(data, options, point, Need::derivatives, training.threads);
    const double steepest = at.gradient.lpNorm<Eigen::Infinity>();
    if (iteration == 0) start = steepest;
    if (steepest <= options.tolerance * start) break;

    // A direction without curvature (no row within the hinge) gets a step of 0 from LDLT.
    const Eigen::VectorXd step = -at.hessian.selfadjointView<Eigen::Lower>().ldlt().solve(at.gradient);
    const double descent = at.gradient.dot(step);
    if (!std::isfinite(at.value) || !std::isfinite(descent))
      throw Error(std::string(who) + ": diverged in iteration " + std::to_string(iteration + 1) +
                  "; scale the features or lower the cost");
    const auto sufficient = [&](double length) {
      const Eigen::VectorXd next = point + length * step;
      return objective(data, options, next, Need::value, training.threads).value <=
             at.value + 1e-4 * length * descent;
    };
    double length = 1;
    while (length > 1e-10 && !sufficient(length)) length /= 2;
    if (length <= 1e-10) break;  // the objective is minimal to within rounding
    point += length * step;
    progress.update(iteration + 1, "objective " + std::to_string(at.value));
  }
  return {point.head(weights), point[weights]};
}

double linear_objective(const Dataset& data, const LinearOptions& options, const LinearModel& model,
                        Eigen::VectorXd* gradient) {
  Eigen::VectorXd point(model.weights.size() + 1);
  point << model.weights, model.bias;
  Threads one(1);
  Sums sums = objective(data, options, point, gradient ? Need::derivatives : Need::value, one);
  if (gradient) *gradient = std::move(sums.gradient);
  return sums.value;
}

}  // namespace tonearm
