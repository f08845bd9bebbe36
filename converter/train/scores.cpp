// What linear models and networks answer: apart from their training, which what writes blobs can do without.

#include <algorithm>
#include <cmath>

#include "train/linear.h"
#include "train/network.h"

namespace tonearm {

double linear_score(const LinearModel& model, std::span<const float> row) {
  double score = model.bias;
  for (std::size_t i = 0; i < row.size(); ++i)
    score += model.weights[static_cast<Eigen::Index>(i)] * static_cast<double>(row[i]);
  return score;
}

double network_probability(const Network& network, std::span<const float> row) {
  Eigen::VectorXd values(static_cast<Eigen::Index>(row.size()));
  std::copy(row.begin(), row.end(), values.data());
  for (const NetworkLayer& layer : network.layers) {
    values = layer.weights.cast<double>() * values + layer.bias.cast<double>();
    switch (layer.activation) {
      case NetworkActivation::none:
        break;
      case NetworkActivation::relu:
        values = values.cwiseMax(0.0);
        break;
      case NetworkActivation::sigmoid:
        values = values.unaryExpr([](double x) { return 1 / (1 + std::exp(-x)); });
        break;
      case NetworkActivation::tanh:
        values = values.unaryExpr([](double x) { return std::tanh(x); });
        break;
      case NetworkActivation::softmax: {
        const double largest = values.maxCoeff();
        values = values.unaryExpr([largest](double x) { return std::exp(x - largest); });
        values /= values.sum();
        break;
      }
    }
  }
  return values[1];
}

}  // namespace tonearm
