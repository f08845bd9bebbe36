#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "train/network.h"
#include "train/training.h"

namespace tonearm {

/// With W the input weights, U the recurrent weights, b the bias, s the logistic function and all products
/// by element; h, and c of an LSTM, are 0 before the first step:
/// - rnn, rnn_relu: h' = tanh(W x + U h + b), or relu of it (Elman 1990).
/// - lstm: i, f, o = s(W x + U h + b), g = tanh(W x + U h + b); c' = f c + i g, h' = o tanh(c')
///   (Hochreiter, Schmidhuber 1997, with the forget gate of Gers et al. 2000, without peepholes).
/// - gru: r, z = s(W x + U h + b), n = tanh(W x + b + r (U h + d)), h' = (1 - z) n + z h, with d the
///   recurrent bias: what PyTorch computes, and Keras with reset_after.
/// - gru_reset_before: as gru, but n = tanh(W x + b + U (r h)) (Cho et al. 2014).
enum class Cell : std::uint8_t { rnn, rnn_relu, lstm, gru, gru_reset_before };
enum class Direction : std::uint8_t { forward, backward, both };

/// lstm 4, gru and gru_reset_before 3, rnn and rnn_relu 1.
unsigned gates(Cell cell);

/// One direction of one level. Rows by gate, `units` each: lstm i, f, g, o; gru r, z, n.
struct RecurrentLayer {
  Cell cell = Cell::lstm;
  bool backward = false;           // reads the sequence from its end
  Eigen::MatrixXf input;           // gates * units x inputs
  Eigen::MatrixXf recurrent;       // gates * units x units
  Eigen::VectorXf bias;            // gates * units
  Eigen::VectorXf recurrent_bias;  // gru: units, the d above; else empty

  std::size_t units() const { return static_cast<std::size_t>(recurrent.cols()); }
};

/// One part of a network with inputs of its own, whose output joins those of the others.
struct BranchOptions {
  /// steps: a sequence, the session's ended tracks. row_steps: a sequence too, columns of the row; row: no
  /// sequence.
  enum class Source : std::uint8_t { steps, row_steps, row };
  Source source = Source::steps;
  /// Which of the step features (steps) or of the row's features (row) the branch reads; of row_steps
  /// those of the first step, then of the second, ...: `count` times as many as one step has.
  std::vector<std::uint32_t> inputs = {};
  /// row_steps: the number of steps. steps: how many of the latest are read, 0 for all; it must be given
  /// where the steps are padded or any level reads them backward, because that costs it per event.
  std::size_t count = 0;
  /// steps: the sequence always has `count` steps, and missing ones stand at its front with every input
  /// equal to `padding`. Otherwise the sequence has as many steps as there are (at most `count`), and the
  /// output of a session without an ended track is 0.
  bool padded = false;
  float padding = 0;
  struct Level {
    Cell cell = Cell::lstm;
    unsigned units = 32;
    Direction direction = Direction::forward;
  };
  /// Of steps and row_steps, at least one. A level reads at each step the output of the level below at that
  /// step, forward's units before backward's. The branch's output is that of the last level: forward's
  /// state after the last step, then backward's state after the first.
  std::vector<Level> levels = {};
  /// row: units of dense layers; may be empty: the inputs are passed on.
  std::vector<unsigned> hidden = {};
  /// Of the branch's output, while training: the share of units dropped.
  double dropout = 0;
  /// For RecurrentOptions::quantized, one per input of a step (or of the row): a value x enters as
  /// round(x / scale), at least -127 and at most 127, times scale. Empty: inputs are not rounded.
  std::vector<float> input_scales = {};

  /// The inputs of one step, or of the row.
  std::size_t width() const { return source == Source::row_steps ? inputs.size() / count : inputs.size(); }
};

struct RecurrentOptions {
  std::vector<BranchOptions> branches = {};
  /// The head: dense layers over the branches' outputs, before the last layer (which has no activation
  /// and one logit per task); their activation, which the dense layers of branches share; and whether
  /// batch normalisation (Ioffe, Szegedy 2015) stands between products and activation: the result has it
  /// folded into the layers' weights.
  std::vector<unsigned> hidden = {32};
  NetworkActivation activation = NetworkActivation::relu;
  bool batch_normalisation = false;
  /// Of the auxiliary targets (tasks 1, 2, ...); the main one has weight 1. Missing ones are 0.
  std::vector<double> task_weights = {};

  /// AdamW: the rate, decoupled weight decay (biases do not decay), and the share of units dropped in the
  /// head's hidden layers.
  double rate = 0.002;
  double weight_decay = 0;
  double dropout = 0;
  /// The largest Euclidean norm of a step's gradient: longer ones are shortened to it (Pascanu et al.
  /// 2013). 0: none.
  double clip = 1;
  /// cosine: the rate falls to 0 along half a cosine; before either, it rises linearly during the share
  /// `warmup` of all steps.
  enum class Schedule : std::uint8_t { constant, cosine };
  Schedule schedule = Schedule::constant;
  double warmup = 0;
  unsigned batch = 128;  // sessions per step
  unsigned epochs = 20;
  /// Stop when the validation log loss of the main task has not improved for this many epochs and keep the
  /// best weights; 0 trains all epochs and keeps the last.
  unsigned patience = 0;
  /// 0: gradients flow through the whole sequence. Otherwise they do not pass from its positions
  /// `truncation`, 2 * `truncation`, ... (counted from 0) to those before (Williams, Peng 1990), or back.
  unsigned truncation = 0;
  /// The share of the sessions that, in each epoch anew, begin at a random later step, as if the player
  /// had just been installed. Questions asked before it are left out; rows stay as they are.
  double offset_augmentation = 0;
  /// Trains through the rounding of int8 inference, gradients passing straight through (Bengio et al.
  /// 2013): weights of recurrent layers rounded by row to max|row| / 127 (input and recurrent ones apart),
  /// h to 1 / 127, inputs by the branches' input_scales. Not for rnn_relu, whose h has no bound.
  bool quantized = false;
  /// Called after each epoch with its mean training loss of the main task, and that of the validation data
  /// (NaN without patience).
  std::function<void(unsigned epoch, double loss, double held_out)> watch = {};
};

struct RecurrentBranch {
  BranchOptions options;
  std::vector<RecurrentLayer> layers = {};  // by level from the lowest, forward before backward
  std::vector<NetworkLayer> dense = {};     // of row
};

/// The head reads the branches' outputs one after the other; its last layer has one output, the logit of the
/// main task, and no activation.
struct RecurrentNetwork {
  std::vector<RecurrentBranch> branches;
  std::vector<NetworkLayer> head;
};

/// Sessions, and the questions asked about them.
struct SessionData {
  std::size_t step_features = 0, row_features = 0;
  std::size_t tasks = 1;  // the first is the main one
  /// Where each session's steps and questions begin; one entry more than sessions. Both may be none.
  std::vector<std::uint32_t> step_begin = {}, question_begin = {};
  std::vector<float> steps = {};          // steps x step_features; what is not finite enters as 0
  std::vector<std::uint32_t> ended = {};  // of each question: how many of its session's steps are known
  std::vector<float> rows = {};           // questions x row_features; what is not finite enters as 0
  std::vector<float> targets = {};        // questions x tasks: 0, 1 or NaN, unknown: not part of the loss

  std::size_t sessions() const { return step_begin.empty() ? 0 : step_begin.size() - 1; }
  std::size_t questions() const { return ended.size(); }
};

/// Throws Error where sizes or offsets do not fit together, or a target is none of its values.
void require_consistent(const SessionData& data);

/// Trains by mini-batch AdamW on the sum of the tasks' mean cross-entropies, by back-propagation through
/// time. Initialisation: input and dense weights uniform as Glorot, Bengio 2010; recurrent weights of each
/// gate orthogonal (Saxe et al. 2014); biases 0, but 1 for the forget gates (Jozefowicz et al. 2015).
/// `validation` may be empty without patience. Throws Error for data or options that do not fit together,
/// for one class only, or a loss that is no longer finite (naming the epoch; the checkpoint then holds the
/// best weights so far). Restartable per epoch: an interrupted epoch is trained again from its start.
RecurrentNetwork train_recurrent(const SessionData& data, const SessionData& validation,
                                 const RecurrentOptions& options, const Training& training);

/// Goes on from the weights of `start`, whose architecture must be that of the options; where the data have
/// auxiliary tasks, their outputs begin anew.
RecurrentNetwork refine_recurrent(const RecurrentNetwork& start, const SessionData& data,
                                  const SessionData& validation, const RecurrentOptions& options,
                                  const Training& training);

/// The mean cross-entropy of the main task, and its gradient, for numerical checks: by the very code that
/// trains. Order of the gradient: each branch's layers (input, recurrent, bias, recurrent_bias) or dense
/// layers (weights, bias), then the head's; matrices column-major. `gradient` may be null.
double recurrent_loss(const RecurrentNetwork& network, const SessionData& data, Eigen::VectorXf* gradient);

/// The main task's probability, computed in float64 by code of its own: the reference that blobs are
/// compared with. steps: the session's ended ones, all that are known: ended x step_features.
double recurrent_probability(const RecurrentNetwork& network, std::span<const float> steps, std::size_t ended,
                             std::span<const float> row);

/// The same for all questions, in float64 too; a streaming branch runs once along each session.
std::vector<double> recurrent_probabilities(const RecurrentNetwork& network, const SessionData& data,
                                            Threads& threads);

}  // namespace tonearm
