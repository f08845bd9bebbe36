#include "features/pca.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <string>

#include "base/error.h"
#include "train/checks.h"

namespace tonearm {
namespace {

void require_components(std::size_t rows, std::size_t inputs, std::size_t count) {
  if (rows < 2)
    throw Error("principal components: there are " + std::to_string(rows) +
                " rows, but the variance takes at least two");
  if (count > inputs)
    throw Error("principal components: " + std::to_string(count) +
                " components were asked for, but there are only " + std::to_string(inputs) +
                " input features; ask for at most that many");
}

/// The directions of the largest eigenvalues; `scatter` is any multiple of the covariance matrix, of which
/// the lower triangle is read.
Pca components_of(const Eigen::VectorXd& mean, const Eigen::MatrixXd& scatter, std::size_t count) {
  const Eigen::Index inputs = mean.size();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(scatter);
  const double total = scatter.trace();

  Pca pca;
  for (double m : mean) pca.mean.push_back(static_cast<float>(m));
  for (Eigen::Index i = inputs - 1; i >= inputs - static_cast<Eigen::Index>(count); --i) {  // ascending order
    Eigen::VectorXd component = solver.eigenvectors().col(i);
    Eigen::Index largest;
    component.cwiseAbs().maxCoeff(&largest);
    if (component[largest] < 0) component = -component;
    for (double c : component) pca.components.push_back(static_cast<float>(c));
    pca.explained.push_back(total > 0 ? std::max(solver.eigenvalues()[i], 0.0) / total : 0);
  }
  return pca;
}

}  // namespace

Pca fit_pca(const Dataset& data, std::size_t count) {
  require_components(data.rows, data.features, count);
  require_finite(data, "principal components");

  const auto inputs = static_cast<Eigen::Index>(data.features), rows = static_cast<Eigen::Index>(data.rows);
  // One column per row of the data.
  const Eigen::Map<const Eigen::MatrixXf> values(data.values.data(), inputs, rows);
  constexpr Eigen::Index block = 4096;  // rows converted to float64 at a time

  Eigen::VectorXd mean = Eigen::VectorXd::Zero(inputs);
  for (Eigen::Index first = 0; first < rows; first += block)
    mean += values.middleCols(first, std::min(block, rows - first)).cast<double>().rowwise().sum();
  mean /= static_cast<double>(rows);

  Eigen::MatrixXd scatter = Eigen::MatrixXd::Zero(inputs, inputs);
  for (Eigen::Index first = 0; first < rows; first += block) {
    const Eigen::MatrixXd centred =
        values.middleCols(first, std::min(block, rows - first)).cast<double>().colwise() - mean;
    scatter.selfadjointView<Eigen::Lower>().rankUpdate(centred);
  }
  return components_of(mean, scatter, count);
}

Pca fit_pca(const std::vector<double>& mean, const std::vector<double>& covariance, std::size_t rows,
            std::size_t count) {
  require_components(rows, mean.size(), count);
  const auto inputs = static_cast<Eigen::Index>(mean.size());
  return components_of(Eigen::Map<const Eigen::VectorXd>(mean.data(), inputs),
                       Eigen::Map<const Eigen::MatrixXd>(covariance.data(), inputs, inputs), count);
}

}  // namespace tonearm
