#include "features/pca.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <string>

#include "base/error.h"
#include "train/checks.h"

namespace tonearm {

Pca fit_pca(const Dataset& data, std::size_t count) {
  if (data.rows < 2)
    throw Error("principal components: there are " + std::to_string(data.rows) +
                " rows, but the variance takes at least two");
  if (count > data.features)
    throw Error("principal components: " + std::to_string(count) +
                " components were asked for, but there are only " + std::to_string(data.features) +
                " input features; ask for at most that many");
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
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(scatter);  // reads the lower triangle
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

}  // namespace tonearm
