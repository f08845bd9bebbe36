#pragma once

#include <cstddef>
#include <vector>

#include "train/training.h"

namespace tonearm {

/// Principal components of a dataset's values: out = components * (in - mean).
struct Pca {
  std::vector<float> mean;        // inputs
  std::vector<float> components;  // row-major, count x inputs, orthonormal rows, largest variance first
  std::vector<double> explained;  // share of the variance of each component
};

/// By the eigenvectors of the covariance matrix (float64, Eigen). Signs are fixed so that the largest
/// absolute entry of each component is positive. Throws Error for missing values, fewer than two rows,
/// or more components than inputs.
Pca fit_pca(const Dataset& data, std::size_t count);

/// The same from the mean of the inputs and their covariance matrix, found over `rows` rows.
Pca fit_pca(const std::vector<double>& mean, const std::vector<double>& covariance, std::size_t rows,
            std::size_t count);

}  // namespace tonearm
