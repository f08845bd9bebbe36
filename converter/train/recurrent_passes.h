#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/passes.h"
#include "train/recurrent.h"

// How a recurrent network is trained on: its parameters in one flat array, and blocks of sessions that go
// through it and back.

namespace tonearm::recurrent {

/// A matrix in the flat array: row-major, a row every `stride` floats, all beyond the matrix zero. It stays
/// zero, because it gets no gradient.
struct Matrix {
  std::size_t offset = 0, rows = 0, columns = 0, stride = 0;
};

struct DenseShape {
  std::size_t outputs;
  NetworkActivation activation;
  Matrix weights;      // inputs x outputs
  std::size_t bias;    // offsets in the flat array
  Matrix transposed;   // among the transposed weights
  double dropout = 0;  // of the layer's outputs
  /// Batch normalisation: offsets of gain, shift, and the running mean and variance, which get no gradient.
  bool normalised = false;
  std::size_t gain = 0, shift = 0, mean = 0, variance = 0;
};

struct LayerShape {
  Cell cell;
  bool backward;
  std::size_t units, width;  // width: units padded to dense_lanes; a gate's share of the columns
  Matrix input, recurrent;
  std::size_t bias, recurrent_bias;
  Matrix input_transposed, recurrent_transposed;

  std::size_t columns() const { return gates(cell) * width; }
};

struct LevelShape {
  std::vector<LayerShape> layers;  // the directions
  std::size_t width, row;  // width: of the outputs of all directions; row: floats from one to the next
};

struct BranchShape {
  const BranchOptions* options;
  std::vector<LevelShape> levels;
  std::vector<DenseShape> dense;
  std::size_t joined, width;           // where its output is in the head's input, and its padded width
  std::vector<std::uint32_t> outputs;  // where each output is within that
};

/// Where a network's parameters are. The branches' options must outlive it.
class Shape {
 public:
  /// Of a network with the head's dropout, and batch normalisation of its hidden layers.
  Shape(const RecurrentNetwork& network, double dropout, bool normalised);

  std::vector<BranchShape> branches;
  std::vector<DenseShape> head;
  std::size_t joined = 0;                   // the padded width of the head's input
  std::size_t weights = 0, parameters = 0;  // what decays stands before what does not
  std::size_t transposed = 0;
  bool windows = false;  // whether any branch runs once per question rather than once per session

  /// Batch normalisation begins with gain 1, shift 0, mean 0, variance 1; in a network it is folded.
  Floats flatten(const RecurrentNetwork& network) const;
  /// `network`: of the same shape, whose weights are overwritten.
  void unflatten(const Floats& flat, RecurrentNetwork& network) const;

 private:
  Matrix append(std::size_t rows, std::size_t columns);
  Matrix append_transposed(const Matrix& matrix);
  void append_dense(const std::vector<NetworkLayer>& layers, std::vector<std::uint32_t> inputs,
                    std::size_t width, std::vector<DenseShape>& shapes);
  /// Calls visit(offset in the flat array, number of the network) for every parameter of the network.
  template <class Network, class Visit>
  void each(Network& network, Visit visit) const;

  std::vector<std::vector<std::uint32_t>> rows_;  // of each dense layer and recurrent layer: its inputs' rows
};

/// A session as it is read: without its first steps.
struct Reading {
  std::uint32_t session, skipped;
};

/// The sequences of one branch, longest first, so that those that reach a position are its first rows. Rows
/// are stored by position, then by sequence.
struct Sequences {
  struct Sequence {
    std::size_t first;    // its first step (row_steps: its question)
    std::size_t length;   // positions
    std::size_t missing;  // padding before the first step
  };
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  std::vector<Sequence> sequences;
  std::vector<std::size_t> active, begin;  // of each position; begin has one more
  std::vector<std::size_t> last, first;    // of each question: the rows its output is read from, or none

  std::size_t positions() const { return active.size(); }
  std::size_t rows() const { return begin.back(); }
};

struct LayerWork {
  Floats gates, memory, squashed, inner, carry;
};

struct LevelWork {
  Floats output, delta;
  std::vector<LayerWork> layers;
};

struct DenseWork {
  Floats output, delta, slope, mask;
  Floats normalised, inverse;  // by batch normalisation; and 1 / the deviation of each column
};

struct BranchWork {
  Sequences sequences;
  Floats input, delta, mask;
  std::vector<LevelWork> levels;
  std::vector<DenseWork> dense;
};

/// What one block of sessions needs on its way through the network and back.
struct Work {
  Work(const Shape& shape, bool backward);

  std::vector<std::uint32_t> questions;   // of the sessions together
  std::vector<std::size_t> question_end;  // of each session, in questions
  std::vector<BranchWork> branches;
  std::vector<DenseWork> head;
  Floats joined, delta;
  Floats gradient;
  /// Of batch normalisation, where their parameters are after the weights: the panels' means and variances,
  /// times their questions, of which there are moment_rows.
  Floats moments;
  double moment_rows = 0;
  double loss = 0;  // of the main task, the sum
};

/// A network's parameters with what is made of them once per step.
class Passes {
 public:
  /// truncation and quantized as in RecurrentOptions.
  Passes(const Shape& shape, const Floats& parameters, unsigned truncation, bool quantized);

  /// To be called before the first run and when the parameters have changed.
  void refresh(Threads& threads);

  /// Sets work.loss to the sum of the main task's losses. If work has room for it, work.gradient becomes the
  /// gradient of the sum over tasks of scales[task] times its losses; and this is training: units are
  /// dropped with the numbers of `stream`, and the panels of questions that go through the network together
  /// are normalised by themselves (ghost batch normalisation: Hoffer, Hubara, Soudry 2017).
  void run(const SessionData& data, std::span<const Reading> sessions, std::span<const float> scales,
           const Random& stream, Work& work) const;

 private:
  const float* used() const { return quantized_ ? rounded_.data() : parameters_.data(); }

  // Forward, `random` is null where this is not training.
  void forward(const SessionData& data, std::span<const Reading> sessions, Random* random, Work& work) const;
  void forward_row(const BranchShape& branch, const SessionData& data, Random* random,
                   BranchWork& branch_work, Work& work) const;
  void forward_sequences(const BranchShape& branch, const SessionData& data,
                         std::span<const Reading> sessions, BranchWork& branch_work, Work& work) const;
  void gather(const BranchOptions& options, const float* from, std::span<const std::uint32_t> inputs,
              std::size_t row, float* to) const;
  void forward(const LayerShape& layer, const Sequences& sequences, const float* input, std::size_t input_row,
               float* output, std::size_t output_row, LayerWork& work) const;
  void forward(const std::vector<DenseShape>& layers, std::size_t rows, const float* input,
               std::size_t input_row, Random* random, std::vector<DenseWork>& works, Work& work) const;
  void normalise(const DenseShape& layer, std::size_t rows, bool training, DenseWork& layer_work,
                 Work& work) const;

  double losses(const SessionData& data, std::span<const float> scales, Work& work) const;

  void backward(Work& work) const;
  void backward_sequences(const BranchShape& branch, BranchWork& branch_work, Work& work) const;
  /// input_delta, to which is added, may be null.
  void backward(const LayerShape& layer, const Sequences& sequences, const float* input,
                std::size_t input_row, float* input_delta, const float* output, float* delta,
                std::size_t output_row, LayerWork& work, Floats& gradient) const;
  /// input_delta, which is set, may be null.
  void backward(const std::vector<DenseShape>& layers, std::size_t rows, const float* input,
                std::size_t input_row, float* input_delta, std::vector<DenseWork>& works,
                Floats& gradient) const;
  void normalise_back(const DenseShape& layer, std::size_t rows, DenseWork& work, Floats& gradient) const;
  Dense::CellStep step(const LayerShape& layer, const Sequences& sequences, std::size_t t, std::size_t first,
                       std::size_t end, float* output, std::size_t output_row, LayerWork& work) const;

  const Shape& shape_;
  const Floats& parameters_;
  Floats rounded_;  // of quantized training: the parameters as inference has them
  Floats transposed_;
  unsigned truncation_;
  bool quantized_;
  const Dense& dense_ = dense();
};

}  // namespace tonearm::recurrent
