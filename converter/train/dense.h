#pragma once

#include <cstddef>

namespace tonearm {

enum class NetworkActivation { none, relu, sigmoid, tanh, softmax };

/// The inner loops of network training, on plain float32 arrays. dense_kernels.cpp is compiled once for
/// each of x86-64-v2, -v3 and -v4 (once in all on other architectures) and the best that the processor
/// can run is chosen at start.
///
/// The levels differ in vector width and in the use of fused multiply-add, so their results differ in
/// the last bits; on one processor they are always the same.
///
/// Every matrix is row-major, and the length of its rows in memory (`stride`) is a multiple of
/// `dense_lanes`; columns beyond the matrix are zero wherever that matters.
struct Dense {
  /// c = start + a b, where a is m x k, b is k x n, c is m x n, and n a multiple of dense_lanes. The
  /// entry (i, j) of a is a[i * a_row + j * a_column], so that a may be used transposed. `start` with
  /// start_row = 0 is one row added to all (a bias), with start = c the product is accumulated, and
  /// null is zero.
  struct Product {
    std::size_t m, n, k;
    const float* a;
    std::size_t a_row, a_column;
    const float* b;
    std::size_t b_row;
    const float* start;
    std::size_t start_row;
    float* c;
    std::size_t c_row;
  };
  void (*multiply)(const Product& product);

  /// values = activation(values); not for softmax. Absolute error at most 1e-6.
  void (*activate)(NetworkActivation activation, std::size_t count, float* values);
  /// delta *= the activation's derivative, from its output.
  void (*differentiate)(NetworkActivation activation, std::size_t count, const float* output, float* delta);

  /// Softmax and cross-entropy of `rows` rows of `classes` logits; returns the sum of the losses, and
  /// delta = (softmax - one_hot(target)) * scale, zero beyond the classes. classes^rows must be below
  /// 1e308.
  double (*cross_entropy)(std::size_t rows, std::size_t classes, std::size_t stride, const float* logits,
                          const float* target, float scale, float* delta);

  /// to += from, and to *= by.
  void (*add)(std::size_t count, const float* from, float* to);
  void (*scale)(std::size_t count, const float* by, float* to);

  /// One step of `rows` sequences through a recurrent cell, and back. `units` is a multiple of dense_lanes,
  /// gates stand one after the other, in the order that train/recurrent.h gives; of every array, a row
  /// begins so many floats after the one before as the member beside it says.
  /// Forward, `gates` has the gates' sums on entry and the gates on return; back, it has the gates on
  /// entry and the loss's derivatives by the sums on return.
  struct CellStep {
    std::size_t rows, units;
    float* gates;
    std::size_t gates_row;
    /// The state before the step, which for an LSTM is c and else h; null for zeros.
    const float* previous;
    std::size_t previous_row;
    /// LSTM: c, and tanh(c). Forward sets both.
    float* memory;
    float* squashed;
    /// gru: U h + d of the gate n on entry, and back, on return, the derivatives by it. gru_reset_before:
    /// r h, set by gru_reset; back, on entry to gru_reset_back, the derivatives by it.
    float* inner;
    std::size_t inner_row;  // of memory, squashed and inner
    /// Forward: h. Back: the derivatives by h, not changed.
    float* output;
    std::size_t output_row;
    /// Back. LSTM: the derivatives by c; those by c before the step on return. Others: where those by h
    /// before the step are added, but for what comes through products with U; null for nowhere.
    float* carry;
    std::size_t carry_row;
  };
  void (*lstm)(const CellStep& step);
  void (*lstm_back)(const CellStep& step);
  /// With `inner` null r and z are gates already, and the sums of n are complete (gru_reset_before).
  void (*gru)(const CellStep& step);
  /// With `inner` null r stays as it is, for gru_reset_back.
  void (*gru_back)(const CellStep& step);
  /// Makes r and z of their sums, and inner = r h.
  void (*gru_reset)(const CellStep& step);
  /// The derivatives by the sums of r, from those by r h; adds to `carry`.
  void (*gru_reset_back)(const CellStep& step);

  /// One step of Adam (Kingma, Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov, Hutter
  /// 2019). mean_scale = 1 / (1 - beta1^t), variance_scale = 1 / (1 - beta2^t).
  struct Adam {
    float rate, beta1, beta2, epsilon, decay, mean_scale, variance_scale;
  };
  void (*adam)(const Adam& step, std::size_t count, const float* gradient, float* parameters, float* mean,
               float* variance);
};

/// Rows of matrices are padded to a multiple of this many floats: a cache line, and the widest vector.
inline constexpr std::size_t dense_lanes = 16;

/// The best variant for this processor. `level` = 2, 3, 4 asks for that of x86-64-v2, -v3 or -v4, for
/// tests; null if this processor or this build has no such variant.
const Dense& dense();
const Dense* dense_level(int level);

}  // namespace tonearm
