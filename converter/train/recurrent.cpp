#include "train/recurrent.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/random.h"
#include "train/checks.h"
#include "train/recurrent_passes.h"

namespace tonearm {
namespace {

using recurrent::Passes;
using recurrent::Reading;
using recurrent::Shape;
using recurrent::Work;
using Source = BranchOptions::Source;

/// A batch is cut into blocks of so many sessions, or more if that made too many blocks.
constexpr std::size_t block_sessions = 32, most_blocks = 32;
/// Parameters that one task of an update takes.
constexpr std::size_t update_floats = 16384;

[[noreturn]] void refuse(const std::string& what) { throw Error("recurrent network: " + what); }

// --- networks ------------------------------------------------------------------------------------------

/// Uniform, as Glorot, Bengio 2010.
Eigen::MatrixXf glorot(Eigen::Index outputs, Eigen::Index inputs, double fan_out, Random& random) {
  const double limit = std::sqrt(6.0 / (static_cast<double>(inputs) + fan_out));
  return Eigen::MatrixXf::NullaryExpr(outputs, inputs,
                                      [&] { return static_cast<float>(limit * (2 * random.uniform() - 1)); });
}

/// A random orthogonal matrix: normal columns, orthogonalised in turn (twice is enough: Giraud et al. 2005).
Eigen::MatrixXf orthogonal(Eigen::Index size, Random& random) {
  Eigen::MatrixXd columns(size, size);
  for (Eigen::Index i = 0; i < size; ++i) {
    Eigen::VectorXd column = Eigen::VectorXd::NullaryExpr(size, [&] { return random.normal(); });
    for (int round = 0; round < 2; ++round)
      for (Eigen::Index j = 0; j < i; ++j) column -= columns.col(j).dot(column) * columns.col(j);
    columns.col(i) = column.normalized();
  }
  return columns.cast<float>();
}

RecurrentLayer initial_layer(Cell cell, bool backward, std::size_t unit_count, std::size_t inputs,
                             Random& random) {
  const auto units = static_cast<Eigen::Index>(unit_count);
  const Eigen::Index rows = units * gates(cell);
  RecurrentLayer layer{
      cell,
      backward,
      glorot(rows, static_cast<Eigen::Index>(inputs), static_cast<double>(unit_count), random),
      Eigen::MatrixXf(rows, units),
      Eigen::VectorXf::Zero(rows),
      Eigen::VectorXf::Zero(cell == Cell::gru ? units : 0)};
  for (Eigen::Index gate = 0; gate < gates(cell); ++gate)
    layer.recurrent.middleRows(gate * units, units) = orthogonal(units, random);
  if (cell == Cell::lstm) layer.bias.segment(units, units).setOnes();
  return layer;
}

std::vector<NetworkLayer> initial_dense(std::size_t inputs, const std::vector<unsigned>& units,
                                        NetworkActivation activation, Random& random) {
  std::vector<NetworkLayer> layers;
  for (const unsigned outputs : units) {
    layers.push_back({glorot(outputs, static_cast<Eigen::Index>(inputs), outputs, random),
                      Eigen::VectorXf::Zero(outputs), activation});
    inputs = outputs;
  }
  return layers;
}

/// What training starts from: with one output for each task.
RecurrentNetwork initial_network(const RecurrentOptions& options, std::size_t tasks, std::uint64_t seed) {
  Random random(seed, 0);
  RecurrentNetwork network;
  std::size_t joined = 0;
  for (const BranchOptions& from : options.branches) {
    RecurrentBranch branch{.options = from, .layers = {}, .dense = {}};
    std::size_t inputs = from.width();
    if (from.source == Source::row) {
      branch.dense = initial_dense(inputs, from.hidden, options.activation, random);
      if (!from.hidden.empty()) inputs = from.hidden.back();
    } else {
      for (const BranchOptions::Level& level : from.levels) {
        if (level.direction != Direction::backward)
          branch.layers.push_back(initial_layer(level.cell, false, level.units, inputs, random));
        if (level.direction != Direction::forward)
          branch.layers.push_back(initial_layer(level.cell, true, level.units, inputs, random));
        inputs = level.units * (level.direction == Direction::both ? 2U : 1U);
      }
    }
    joined += inputs;
    network.branches.push_back(std::move(branch));
  }
  network.head = initial_dense(joined, options.hidden, options.activation, random);
  const std::size_t inputs = options.hidden.empty() ? joined : options.hidden.back();
  network.head.push_back(
      initial_dense(inputs, {static_cast<unsigned>(tasks)}, NetworkActivation::none, random)[0]);
  return network;
}

/// Whether the matrices of both have the same sizes, but for the outputs of the last layer.
bool same_architecture(const RecurrentNetwork& a, const RecurrentNetwork& b) {
  const auto same_size = [](const auto& x, const auto& y) {
    return x.rows() == y.rows() && x.cols() == y.cols();
  };
  const auto same_recurrent = [&](const RecurrentLayer& x, const RecurrentLayer& y) {
    return x.cell == y.cell && x.backward == y.backward && same_size(x.input, y.input) &&
           same_size(x.recurrent, y.recurrent) && same_size(x.bias, y.bias) &&
           same_size(x.recurrent_bias, y.recurrent_bias);
  };
  const auto same_dense = [&](const NetworkLayer& x, const NetworkLayer& y) {
    return x.activation == y.activation && same_size(x.weights, y.weights) && same_size(x.bias, y.bias);
  };
  const auto same_branch = [&](const RecurrentBranch& x, const RecurrentBranch& y) {
    return std::equal(x.layers.begin(), x.layers.end(), y.layers.begin(), y.layers.end(), same_recurrent) &&
           std::equal(x.dense.begin(), x.dense.end(), y.dense.begin(), y.dense.end(), same_dense);
  };
  return std::equal(a.branches.begin(), a.branches.end(), b.branches.begin(), b.branches.end(),
                    same_branch) &&
         a.head.size() == b.head.size() && !a.head.empty() &&
         std::equal(a.head.begin(), a.head.end() - 1, b.head.begin(), same_dense) &&
         a.head.back().activation == b.head.back().activation &&
         a.head.back().weights.cols() == b.head.back().weights.cols();
}

/// Sessions with a question, from their first step.
std::vector<Reading> asked(const SessionData& data) {
  std::vector<Reading> sessions;
  for (std::uint32_t s = 0; s < data.sessions(); ++s)
    if (data.question_begin[s] < data.question_begin[s + 1]) sessions.push_back({s, 0});
  return sessions;
}

/// The known targets of one task among the questions that are asked.
std::size_t known_targets(const SessionData& data, std::span<const Reading> sessions, std::size_t task) {
  std::size_t known = 0;
  for (const auto& [session, skipped] : sessions)
    for (std::size_t q = data.question_begin[session]; q < data.question_begin[session + 1]; ++q)
      known += data.ended[q] >= skipped && !std::isnan(data.targets[q * data.tasks + task]);
  return known;
}

// --- checks --------------------------------------------------------------------------------------------

void require_offsets(const std::vector<std::uint32_t>& begin, std::size_t end, const std::string& what) {
  if (begin.empty() ? end > 0 : begin.front() != 0 || begin.back() != end)
    refuse("the sessions' " + what + " must begin at 0 and end at the number of " + what + ", which is " +
           std::to_string(end));
  if (!std::is_sorted(begin.begin(), begin.end()))
    refuse("a session's " + what + " end before they begin; its offsets must not fall");
}

void require_valid(const BranchOptions& branch, std::size_t number, const SessionData& data, bool quantized) {
  const auto refuse_branch = [&](const std::string& what) {
    refuse("branch " + std::to_string(number + 1) + " " + what);
  };
  if (branch.inputs.empty()) refuse_branch("has no inputs; give it at least one");
  const std::size_t features = branch.source == Source::steps ? data.step_features : data.row_features;
  for (const std::uint32_t input : branch.inputs)
    if (input >= features)
      refuse_branch("reads feature " + std::to_string(input) + " (counted from 0), but there are " +
                    std::to_string(features));
  if (!(branch.dropout >= 0 && branch.dropout <= 0.99))
    refuse_branch("drops out a share that is not between 0 and .99");
  if (branch.source == Source::row) {
    if (!branch.levels.empty()) refuse_branch("has recurrent levels, but reads no sequence");
    if (std::count(branch.hidden.begin(), branch.hidden.end(), 0U) > 0)
      refuse_branch("has a layer without units; give every layer at least one");
  } else {
    if (!branch.hidden.empty()) refuse_branch("reads a sequence, so it has levels rather than dense layers");
    if (branch.levels.empty()) refuse_branch("has no recurrent level; give it at least one");
    if (branch.source == Source::row_steps && (branch.count == 0 || branch.inputs.size() % branch.count > 0))
      refuse_branch("reads " + std::to_string(branch.inputs.size()) +
                    " columns, which cannot be divided into " + std::to_string(branch.count) + " steps");
    for (const BranchOptions::Level& level : branch.levels) {
      if (level.units == 0) refuse_branch("has a level without units; give every level at least one");
      if (branch.count == 0 && level.direction != Direction::forward)
        refuse_branch("reads a session backward, again at every event; limit the steps by count");
      if (quantized && level.cell == Cell::rnn_relu)
        refuse_branch("has relu units, whose states have no bound and cannot be quantized; use another cell");
    }
    if (branch.padded && branch.count == 0) refuse_branch("is padded, but to no count of steps");
    if (branch.padded && !std::isfinite(branch.padding))
      refuse_branch("is padded with a value that is not finite");
  }
  if (!branch.input_scales.empty() && branch.input_scales.size() != branch.width())
    refuse_branch("has " + std::to_string(branch.input_scales.size()) + " scales for " +
                  std::to_string(branch.width()) + " inputs");
  for (const float scale : branch.input_scales)
    if (!(scale > 0) || !std::isfinite(scale)) refuse_branch("has an input scale that is not above 0");
}

void require_valid(const RecurrentOptions& options, const SessionData& data, const SessionData& validation) {
  require_consistent(data);
  if (options.branches.empty()) refuse("there are no branches; give at least one");
  for (std::size_t b = 0; b < options.branches.size(); ++b)
    require_valid(options.branches[b], b, data, options.quantized);
  if (std::count(options.hidden.begin(), options.hidden.end(), 0U) > 0)
    refuse("a hidden layer has no units; give every layer at least one");
  if (options.activation == NetworkActivation::softmax)
    refuse("softmax cannot be the activation of hidden layers; use relu, sigmoid or tanh");
  if (options.task_weights.size() >= data.tasks && !options.task_weights.empty())
    refuse("there are " + std::to_string(options.task_weights.size()) + " weights for " +
           std::to_string(data.tasks - 1) + " auxiliary targets");
  for (const double weight : options.task_weights)
    if (!(weight >= 0) || !std::isfinite(weight)) refuse("a target's weight must be 0 or more");
  if (!(options.rate > 0)) refuse("the learning rate must be above 0");
  if (!(options.weight_decay >= 0)) refuse("the weight decay must be 0 or more");
  if (!(options.dropout >= 0 && options.dropout <= 0.99)) refuse("the dropout must be between 0 and .99");
  if (!(options.clip >= 0)) refuse("the largest norm of a gradient must be 0 (any) or more");
  if (!(options.warmup >= 0 && options.warmup <= 1)) refuse("the warm-up must be a share between 0 and 1");
  if (!(options.offset_augmentation >= 0 && options.offset_augmentation <= 1))
    refuse("the share of sessions that begin later must be between 0 and 1");
  if (options.batch == 0) refuse("the batch is 0 sessions; it must be at least 1");
  std::vector<float> known;
  for (std::size_t q = 0; q < data.questions(); ++q)
    if (const float target = data.targets[q * data.tasks]; !std::isnan(target)) known.push_back(target);
  require_both_classes(known, "recurrent network");
  if (options.patience == 0) return;
  require_consistent(validation);
  if (known_targets(validation, asked(validation), 0) == 0)
    refuse("patience needs validation sessions; hold some out, or set patience to 0");
  if (validation.step_features != data.step_features || validation.row_features != data.row_features)
    refuse("the validation sessions do not have the features of the training sessions");
}

// --- training ------------------------------------------------------------------------------------------

/// All that training carries from one epoch to the next.
struct State {
  unsigned epoch = 0, best_epoch = 0;
  bool diverged = false;  // what is best is all there will be
  double best_loss = std::numeric_limits<double>::infinity();
  Floats parameters, best, mean, variance;  // mean and variance: Adam's moments

  explicit State(Floats start)
      : parameters(std::move(start)),
        best(parameters),
        mean(parameters.size()),
        variance(parameters.size()) {}

  explicit State(const nlohmann::json& json)
      : epoch(json.at("epoch")),
        best_epoch(json.at("best_epoch")),
        diverged(json.at("diverged")),
        best_loss(json.at("best_loss")),
        parameters(json.at("parameters")),
        best(json.at("best")),
        mean(json.at("mean")),
        variance(json.at("variance")) {}

  nlohmann::json to_json() const {
    return {{"epoch", epoch},         {"best_epoch", best_epoch}, {"diverged", diverged},
            {"best_loss", best_loss}, {"parameters", parameters}, {"best", best},
            {"mean", mean},           {"variance", variance}};
  }
};

class Trainer {
 public:
  Trainer(RecurrentNetwork start, const SessionData& data, const SessionData& validation,
          const RecurrentOptions& options, const Training& training)
      : network_(std::move(start)),
        shape_(network_, options.dropout, options.batch_normalisation),
        data_(data),
        validation_(validation),
        options_(options),
        training_(training),
        state_(initial()),
        passes_(shape_, state_.parameters, options.truncation, options.quantized),
        sessions_(asked(data)) {
    if (options.patience > 0) held_out_ = asked(validation);
    for (std::size_t i = 0; i < most_blocks; ++i) {
      if (i * block_sessions < options.batch) works_.emplace_back(shape_, true);
      if (i * block_sessions < held_out_.size()) checks_.emplace_back(shape_, false);
    }
    passes_.refresh(training.threads);
  }

  RecurrentNetwork train() {
    Progress progress(training_.label, options_.epochs);
    while (state_.epoch < options_.epochs && !exhausted() && !state_.diverged) {
      const State start = state_;
      const double loss = train_epoch(start);
      std::string note = "log loss " + std::to_string(loss);
      double held_out = std::numeric_limits<double>::quiet_NaN();
      if (options_.patience > 0) {
        held_out = run_blocks(validation_, held_out_, {}, 0, checks_) /
                   static_cast<double>(known_targets(validation_, held_out_, 0));
        require_finite_loss(held_out, start);
        note += ", held out " + std::to_string(held_out);
      }
      if (options_.patience == 0 || held_out < state_.best_loss) {
        state_.best_loss = held_out;
        state_.best_epoch = state_.epoch;
        state_.best = state_.parameters;
      }
      progress.update(state_.epoch, note);
      if (options_.watch) options_.watch(state_.epoch, loss, held_out);
    }
    training_.checkpoint.save(training_.stage, state_.to_json());  // a later stage may be interrupted
    shape_.unflatten(state_.best, network_);
    NetworkLayer& last = network_.head.back();
    last.weights = last.weights.topRows(1).eval();
    last.bias = last.bias.head(1).eval();
    return network_;
  }

 private:
  State initial() const {
    const auto saved = training_.checkpoint.load(training_.stage);
    return saved ? State(*saved) : State(shape_.flatten(network_));
  }

  bool exhausted() const {
    return options_.patience > 0 && state_.epoch - state_.best_epoch >= options_.patience;
  }

  /// `loss`: or what it follows from. `start`: what the epoch began with, which has the best weights so far.
  void require_finite_loss(double loss, const State& start) const {
    if (std::isfinite(loss)) return;
    std::string message = "recurrent network: the loss is no longer finite in epoch " +
                          std::to_string(state_.epoch) + "; lower the learning rate (it is " +
                          nlohmann::json(options_.rate).dump() + "), clip the gradient or scale the features";
    if (start.best_epoch > 0 && training_.checkpoint.is_kept()) {
      State kept = start;
      kept.diverged = true;
      training_.checkpoint.save(training_.stage, kept.to_json());
      message += "; the weights of epoch " + std::to_string(start.best_epoch) +
                 ", the best, are in the checkpoint: --resume ends with them";
    }
    throw Error(message);
  }

  /// The epoch's order of the sessions, and where they begin. Stream 0 initialises the weights, stream e is
  /// this one's of epoch e (from 1), and stream e * 2^32 + b drops out units in its block b.
  std::vector<Reading> order() const {
    Random random(training_.seed, state_.epoch);
    std::vector<Reading> readings;
    for (const std::uint32_t i : shuffled(sessions_.size(), random)) {
      Reading reading = sessions_[i];
      if (options_.offset_augmentation > 0 && random.uniform() < options_.offset_augmentation) {
        const auto ended =
            std::span(data_.ended)
                .subspan(data_.question_begin[reading.session],
                         data_.question_begin[reading.session + 1] - data_.question_begin[reading.session]);
        const std::uint32_t latest = *std::max_element(ended.begin(), ended.end());
        if (latest > 0) reading.skipped = 1 + random.below(latest);
      }
      readings.push_back(reading);
    }
    return readings;
  }

  /// The mean loss while training.
  double train_epoch(const State& start) {
    ++state_.epoch;
    const std::vector<Reading> readings = order();
    const std::size_t batches = (readings.size() + options_.batch - 1) / options_.batch;
    double loss = 0;
    std::size_t known = 0;
    for (std::size_t batch = 0; batch < batches; ++batch) {
      if (interrupted()) {
        training_.checkpoint.save(training_.stage, start.to_json());
        throw Interrupted();
      }
      const std::size_t first = batch * options_.batch;
      const auto sessions =
          std::span(readings).subspan(first, std::min<std::size_t>(options_.batch, readings.size() - first));
      std::vector<float> scales(data_.tasks);
      for (std::size_t task = 0; task < data_.tasks; ++task) {
        const double weight = task == 0                              ? 1
                              : task <= options_.task_weights.size() ? options_.task_weights[task - 1]
                                                                     : 0;
        const std::size_t count = known_targets(data_, sessions, task);
        if (task == 0) known += count;
        if (count > 0) scales[task] = static_cast<float>(weight / static_cast<double>(count));
      }
      loss += run_blocks(data_, sessions, scales, std::uint64_t{state_.epoch} << 32 | batch * most_blocks,
                         works_);
      require_finite_loss(loss, start);
      update(sessions.size(), (state_.epoch - 1) * batches + batch + 1, options_.epochs * batches);
    }
    for (const float parameter : state_.parameters) require_finite_loss(double{parameter}, start);
    return loss / static_cast<double>(std::max<std::size_t>(known, 1));
  }

  static std::size_t block_length(std::size_t sessions) {
    const std::size_t shares = (sessions + block_sessions - 1) / block_sessions;
    return (shares + most_blocks - 1) / most_blocks * block_sessions;
  }

  /// The sum of the main task's losses; each block leaves its share of the gradient in its work.
  double run_blocks(const SessionData& data, std::span<const Reading> sessions, std::span<const float> scales,
                    std::uint64_t stream, std::vector<Work>& works) {
    const std::size_t length = block_length(sessions.size());
    const std::size_t blocks = (sessions.size() + length - 1) / length;
    training_.threads.run(blocks, [&](std::size_t block) {
      const auto part = sessions.subspan(block * length, std::min(length, sessions.size() - block * length));
      passes_.run(data, part, scales, Random(training_.seed, stream + block), works[block]);
    });
    return std::accumulate(works.begin(), works.begin() + static_cast<std::ptrdiff_t>(blocks), 0.0,
                           [](double sum, const Work& work) { return sum + work.loss; });
  }

  double rate(std::size_t step, std::size_t steps) const {
    const double done = static_cast<double>(step) / static_cast<double>(steps);
    if (done < options_.warmup) return options_.rate * done / options_.warmup;
    if (options_.schedule == RecurrentOptions::Schedule::constant) return options_.rate;
    const double share = options_.warmup < 1 ? (done - options_.warmup) / (1 - options_.warmup) : 0;
    return options_.rate * (1 + std::cos(std::numbers::pi * share)) / 2;
  }

  /// One step of Adam on the sum of the blocks' gradients, shortened if it is too long.
  void update(std::size_t sessions, std::size_t step, std::size_t steps) {
    const std::size_t length = block_length(sessions), blocks = (sessions + length - 1) / length;
    const std::size_t parts = (shape_.parameters + update_floats - 1) / update_floats;
    const Dense& kernels = dense();
    Floats& gradient = works_[0].gradient;
    const auto part_of = [&](std::size_t part) {
      const std::size_t first = part * update_floats;
      return std::pair(first, std::min(first + update_floats, shape_.parameters));
    };

    std::vector<double> squares(parts);
    training_.threads.run(parts, [&](std::size_t part) {
      const auto [first, end] = part_of(part);
      for (std::size_t block = 1; block < blocks; ++block)
        kernels.add(end - first, works_[block].gradient.data() + first, gradient.data() + first);
      if (options_.clip == 0) return;
      double sums[dense_lanes] = {};
      for (std::size_t i = first; i < end; i += dense_lanes)
        for (std::size_t j = 0; j < dense_lanes; ++j)
          sums[j] += double{gradient[i + j]} * double{gradient[i + j]};
      squares[part] = std::accumulate(std::begin(sums), std::end(sums), 0.0);
    });
    const double norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
    const float shortened =
        options_.clip > 0 && norm > options_.clip ? static_cast<float>(options_.clip / norm) : 1;

    constexpr double beta1 = 0.9, beta2 = 0.999;
    const Dense::Adam adam{.rate = static_cast<float>(rate(step, steps)),
                           .beta1 = static_cast<float>(beta1),
                           .beta2 = static_cast<float>(beta2),
                           .epsilon = 1e-8F,
                           .decay = static_cast<float>(options_.weight_decay),
                           .mean_scale = static_cast<float>(1 / (1 - std::pow(beta1, step))),
                           .variance_scale = static_cast<float>(1 / (1 - std::pow(beta2, step)))};
    Dense::Adam without_decay = adam;
    without_decay.decay = 0;
    training_.threads.run(parts, [&](std::size_t part) {
      const auto [first, end] = part_of(part);
      if (shortened != 1)
        for (std::size_t i = first; i < end; ++i) gradient[i] *= shortened;
      const std::size_t middle = std::clamp(shape_.weights, first, end);
      const auto step_on = [&](const Dense::Adam& how, std::size_t from, std::size_t to) {
        kernels.adam(how, to - from, gradient.data() + from, state_.parameters.data() + from,
                     state_.mean.data() + from, state_.variance.data() + from);
      };
      step_on(adam, first, middle);
      step_on(without_decay, middle, end);
    });
    if (options_.batch_normalisation) follow_moments(blocks);
    passes_.refresh(training_.threads);
  }

  /// The running means and variances of batch normalisation move a tenth of the way to the batch's.
  void follow_moments(std::size_t blocks) {
    double rows = 0;
    for (std::size_t block = 0; block < blocks; ++block) rows += works_[block].moment_rows;
    if (rows == 0) return;
    for (const auto& layer : shape_.head) {
      if (!layer.normalised) continue;
      for (const std::size_t offset : {layer.mean, layer.variance})
        for (std::size_t i = offset; i < offset + layer.outputs; ++i) {
          double sum = 0;
          for (std::size_t block = 0; block < blocks; ++block)
            sum += double{works_[block].moments[i - shape_.weights]};
          float& running = state_.parameters[i];
          running = static_cast<float>(0.9 * double{running} + 0.1 * sum / rows);
        }
    }
  }

  RecurrentNetwork network_;
  Shape shape_;
  const SessionData& data_;
  const SessionData& validation_;
  const RecurrentOptions& options_;
  const Training& training_;
  State state_;
  Passes passes_;
  std::vector<Reading> sessions_, held_out_;
  std::vector<Work> works_, checks_;  // of the training blocks, and of the validation blocks
};

void append(const std::vector<NetworkLayer>& layers, std::vector<float>& flat) {
  for (const NetworkLayer& layer : layers) {
    flat.insert(flat.end(), layer.weights.data(), layer.weights.data() + layer.weights.size());
    flat.insert(flat.end(), layer.bias.data(), layer.bias.data() + layer.bias.size());
  }
}

}  // namespace

unsigned gates(Cell cell) {
  switch (cell) {
    case Cell::lstm:
      return 4;
    case Cell::gru:
    case Cell::gru_reset_before:
      return 3;
    case Cell::rnn:
    case Cell::rnn_relu:
      break;
  }
  return 1;
}

void require_consistent(const SessionData& data) {
  if (data.tasks == 0) refuse("there is no target; give at least the main one");
  const auto require_size = [](std::size_t found, std::size_t expected, const std::string& what) {
    if (found != expected)
      refuse("there are " + std::to_string(found) + " " + what + "; " + std::to_string(expected) +
             " are expected");
  };
  require_offsets(data.question_begin, data.questions(), "questions");
  require_size(data.question_begin.size(), data.step_begin.size(), "offsets of questions");
  require_offsets(data.step_begin, data.step_begin.empty() ? 0 : data.step_begin.back(), "steps");
  if (!data.step_begin.empty())
    require_size(data.steps.size(), data.step_begin.back() * data.step_features, "numbers of steps");
  require_size(data.rows.size(), data.questions() * data.row_features, "numbers of rows");
  require_size(data.targets.size(), data.questions() * data.tasks, "targets");
  for (std::size_t s = 0; s < data.sessions(); ++s) {
    const std::uint32_t steps = data.step_begin[s + 1] - data.step_begin[s];
    for (std::uint32_t q = data.question_begin[s]; q < data.question_begin[s + 1]; ++q)
      if (data.ended[q] > steps)
        refuse("question " + std::to_string(q) + " (counted from 0) follows " +
               std::to_string(data.ended[q]) + " steps, but its session has " + std::to_string(steps));
  }
  for (std::size_t i = 0; i < data.targets.size(); ++i)
    if (const float target = data.targets[i]; !std::isnan(target) && target != 0 && target != 1)
      refuse("target " + std::to_string(i % data.tasks) + " of question " + std::to_string(i / data.tasks) +
             " (counted from 0) is " + nlohmann::json(target).dump() + "; it must be 0, 1 or missing");
}

RecurrentNetwork train_recurrent(const SessionData& data, const SessionData& validation,
                                 const RecurrentOptions& options, const Training& training) {
  require_valid(options, data, validation);
  return Trainer(initial_network(options, data.tasks, training.seed), data, validation, options, training)
      .train();
}

RecurrentNetwork refine_recurrent(const RecurrentNetwork& start, const SessionData& data,
                                  const SessionData& validation, const RecurrentOptions& options,
                                  const Training& training) {
  require_valid(options, data, validation);
  if (options.batch_normalisation)
    refuse(
        "a trained network has its batch normalisation folded into its weights and cannot have it anew; "
        "set batch normalisation to false");
  RecurrentNetwork network = initial_network(options, data.tasks, training.seed);
  if (!same_architecture(start, network))
    refuse("the network to go on from does not have the layers that the options say");
  for (std::size_t b = 0; b < network.branches.size(); ++b) {
    network.branches[b].layers = start.branches[b].layers;
    network.branches[b].dense = start.branches[b].dense;
  }
  NetworkLayer last = network.head.back();
  network.head = start.head;
  last.weights.row(0) = start.head.back().weights.row(0);
  last.bias[0] = start.head.back().bias[0];
  network.head.back() = std::move(last);
  return Trainer(std::move(network), data, validation, options, training).train();
}

double recurrent_loss(const RecurrentNetwork& network, const SessionData& data, Eigen::VectorXf* gradient) {
  require_consistent(data);
  RecurrentNetwork copy = network;
  for (RecurrentBranch& branch : copy.branches) branch.options.dropout = 0;
  const Shape shape(copy, 0, false);
  const Floats parameters = shape.flatten(copy);
  const std::vector<Reading> sessions = asked(data);
  const auto known = static_cast<double>(std::max<std::size_t>(known_targets(data, sessions, 0), 1));
  std::vector<float> scales(data.tasks);
  scales[0] = static_cast<float>(1 / known);
  Threads threads(1);
  Work work(shape, gradient != nullptr);
  Passes passes(shape, parameters, 0, false);
  passes.refresh(threads);
  passes.run(data, sessions, scales, Random(0), work);
  if (gradient) {
    shape.unflatten(work.gradient, copy);
    std::vector<float> flat;
    for (const RecurrentBranch& branch : copy.branches) {
      for (const RecurrentLayer& layer : branch.layers) {
        flat.insert(flat.end(), layer.input.data(), layer.input.data() + layer.input.size());
        flat.insert(flat.end(), layer.recurrent.data(), layer.recurrent.data() + layer.recurrent.size());
        flat.insert(flat.end(), layer.bias.data(), layer.bias.data() + layer.bias.size());
        flat.insert(flat.end(), layer.recurrent_bias.data(),
                    layer.recurrent_bias.data() + layer.recurrent_bias.size());
      }
      append(branch.dense, flat);
    }
    append(copy.head, flat);
    *gradient = Eigen::Map<Eigen::VectorXf>(flat.data(), static_cast<Eigen::Index>(flat.size()));
  }
  return work.loss / known;
}

}  // namespace tonearm
