#pragma once

#include <Eigen/Core>
#include <vector>

#include "train/dense.h"
#include "train/training.h"

namespace tonearm {

struct NetworkLayer {
  Eigen::MatrixXf weights;  // outputs x inputs
  Eigen::VectorXf bias;     // outputs
  NetworkActivation activation = NetworkActivation::relu;
};

/// A multi-layer perceptron. Its last layer has two outputs and softmax; the second is the probability
/// of the positive class.
struct Network {
  std::vector<NetworkLayer> layers;
};

struct NetworkOptions {
  std::vector<unsigned> hidden = {14, 120, 80};
  /// Of the hidden layers; not softmax.
  NetworkActivation activation = NetworkActivation::relu;
  double rate = 0.001;
  /// Decoupled weight decay (AdamW; biases do not decay), 0 for plain Adam; and the share of hidden units
  /// dropped at each step, in multiples of 1 / 65536 (Srivastava et al. 2014). Decay pays: on the hit tracks,
  /// z-scored, 500 epochs overfit without it and do not with .3 to 2.
  double weight_decay = 0;
  double dropout = 0;
  unsigned batch = 2000;
  unsigned epochs = 500;
  /// Stop when the validation log loss has not improved for this many epochs and keep the best
  /// weights; 0 trains all epochs and keeps the last.
  unsigned patience = 0;
};

/// Trains by mini-batch Adam (Kingma, Ba 2015) on cross-entropy; initialisation of Glorot, Bengio 2010,
/// uniform. `validation` may be empty without patience. Throws Error for one class only, missing values,
/// an option out of range, or a loss that is no longer finite (naming the epoch). Restartable per epoch:
/// an interrupted epoch is trained again from its start.
Network train_network(const Dataset& data, const Dataset& validation, const NetworkOptions& options,
                      const Training& training);

/// Mean cross-entropy over the rows, and its gradient in the order of the layers, weights (column-major)
/// then bias, for numerical checks: by the very code that trains. `gradient` may be null.
double network_loss(const Network& network, const Dataset& data, Eigen::VectorXf* gradient);

/// The probability of the positive class, computed in float64: the reference that blobs are compared with.
double network_probability(const Network& network, std::span<const float> row);

}  // namespace tonearm
