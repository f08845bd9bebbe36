// The float64 reference of recurrent networks, plain and apart from the code that trains.

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "train/recurrent.h"

namespace tonearm {
namespace {

using Source = BranchOptions::Source;

/// A network in float64. Values of several sequences are the columns of a matrix.
class Reference {
 public:
  explicit Reference(const RecurrentNetwork& network) {
    for (const RecurrentBranch& from : network.branches) {
      branches_.push_back({&from.options, {}, doubled(from.dense), joined_, outputs_of(from)});
      joined_ += branches_.back().outputs;
      for (const RecurrentLayer& layer : from.layers)
        branches_.back().layers.push_back({layer.cell, layer.backward, layer.input.cast<double>(),
                                           layer.recurrent.cast<double>(), layer.bias.cast<double>(),
                                           layer.recurrent_bias.cast<double>()});
    }
    head_ = doubled(network.head);
  }

  std::size_t branches() const { return branches_.size(); }
  /// The size of the head's input, and a branch's part of it.
  Eigen::Index joined() const { return joined_; }
  template <class Vector>
  auto part(std::size_t branch, Vector& joined) const {
    return joined.segment(branches_[branch].joined, branches_[branch].outputs);
  }
  const BranchOptions& options(std::size_t branch) const { return *branches_[branch].options; }

  /// The last level's outputs at every step of sequences of equal length; and the branch's output.
  struct Run {
    std::vector<Eigen::MatrixXd> outputs;
    Eigen::MatrixXd last;
  };
  Run run(std::size_t branch, std::vector<Eigen::MatrixXd> steps) const {
    Run result;
    auto layer = branches_[branch].layers.begin();
    for (const BranchOptions::Level& level : options(branch).levels) {
      const std::size_t directions = level.direction == Direction::both ? 2 : 1;
      std::vector<Eigen::MatrixXd> outputs(steps.size());
      const Eigen::Index units = level.units, columns = steps.front().cols();
      for (Eigen::MatrixXd& output : outputs)
        output.resize(units * static_cast<Eigen::Index>(directions), columns);
      result.last.resize(units * static_cast<Eigen::Index>(directions), columns);
      for (std::size_t d = 0; d < directions; ++d, ++layer) {
        const Eigen::Index row = units * static_cast<Eigen::Index>(d);
        Eigen::MatrixXd h = Eigen::MatrixXd::Zero(units, columns), c = h;
        for (std::size_t i = 0; i < steps.size(); ++i) {
          const std::size_t t = layer->backward ? steps.size() - 1 - i : i;
          step(*layer, steps[t], h, c);
          outputs[t].middleRows(row, units) = h;
        }
        result.last.middleRows(row, units) = h;
      }
      steps = std::move(outputs);
    }
    result.outputs = std::move(steps);
    return result;
  }

  /// The output of a branch that reads no sequence.
  Eigen::VectorXd row(std::size_t branch, Eigen::VectorXd inputs) const {
    return through(branches_[branch].dense, std::move(inputs));
  }

  double probability(Eigen::VectorXd joined) const {
    return 1 / (1 + std::exp(-through(head_, std::move(joined))[0]));
  }

 private:
  struct Layer {
    Cell cell;
    bool backward;
    Eigen::MatrixXd input, recurrent;
    Eigen::VectorXd bias, recurrent_bias;
  };
  struct DenseLayer {
    Eigen::MatrixXd weights;
    Eigen::VectorXd bias;
    NetworkActivation activation;
  };
  struct Branch {
    const BranchOptions* options;
    std::vector<Layer> layers;
    std::vector<DenseLayer> dense;
    Eigen::Index joined, outputs;  // where its output is in the head's input, and its size
  };

  static Eigen::Index outputs_of(const RecurrentBranch& branch) {
    const BranchOptions& options = branch.options;
    if (options.source != Source::row)
      return Eigen::Index{options.levels.back().units} *
             (options.levels.back().direction == Direction::both ? 2 : 1);
    return branch.dense.empty() ? static_cast<Eigen::Index>(options.inputs.size())
                                : branch.dense.back().bias.size();
  }

  static std::vector<DenseLayer> doubled(const std::vector<NetworkLayer>& layers) {
    std::vector<DenseLayer> result;
    for (const NetworkLayer& layer : layers)
      result.push_back({layer.weights.cast<double>(), layer.bias.cast<double>(), layer.activation});
    return result;
  }

  static double logistic(double x) { return 1 / (1 + std::exp(-x)); }

  static void step(const Layer& layer, const Eigen::MatrixXd& x, Eigen::MatrixXd& h, Eigen::MatrixXd& c) {
    const Eigen::Index units = h.rows();
    const auto gate = [&](const Eigen::MatrixXd& sums, Eigen::Index i) {
      return sums.middleRows(i * units, units).unaryExpr(&logistic).eval();
    };
    const auto squash = [](double value) { return std::tanh(value); };
    Eigen::MatrixXd sums = (layer.input * x).colwise() + layer.bias;
    switch (layer.cell) {
      case Cell::rnn:
        h = (sums + layer.recurrent * h).unaryExpr(squash);
        break;
      case Cell::rnn_relu:
        h = (sums + layer.recurrent * h).cwiseMax(0.0);
        break;
      case Cell::lstm:
        sums += layer.recurrent * h;
        c = gate(sums, 1).cwiseProduct(c) +
            gate(sums, 0).cwiseProduct(sums.middleRows(2 * units, units).unaryExpr(squash));
        h = gate(sums, 3).cwiseProduct(c.unaryExpr(squash));
        break;
      case Cell::gru:
      case Cell::gru_reset_before: {
        sums.topRows(2 * units) += layer.recurrent.topRows(2 * units) * h;
        const Eigen::MatrixXd reset = gate(sums, 0), update = gate(sums, 1);
        const auto recurrent = layer.recurrent.bottomRows(units);
        Eigen::MatrixXd candidate = sums.bottomRows(units);
        if (layer.cell == Cell::gru)
          candidate += reset.cwiseProduct((recurrent * h).colwise() + layer.recurrent_bias);
        else
          candidate += recurrent * reset.cwiseProduct(h);
        candidate = candidate.unaryExpr(squash).eval();
        h = candidate + update.cwiseProduct(h - candidate);
        break;
      }
    }
  }

  static Eigen::VectorXd through(const std::vector<DenseLayer>& layers, Eigen::VectorXd values) {
    for (const DenseLayer& layer : layers) {
      values = layer.weights * values + layer.bias;
      switch (layer.activation) {
        case NetworkActivation::relu:
          values = values.cwiseMax(0.0);
          break;
        case NetworkActivation::sigmoid:
          values = values.unaryExpr(&logistic);
          break;
        case NetworkActivation::tanh:
          values = values.unaryExpr([](double x) { return std::tanh(x); });
          break;
        case NetworkActivation::none:
        case NetworkActivation::softmax:  // refused by training
          break;
      }
    }
    return values;
  }

  std::vector<Branch> branches_;
  Eigen::Index joined_ = 0;
  std::vector<DenseLayer> head_;
};

Eigen::VectorXd inputs_of(std::span<const float> features, std::span<const std::uint32_t> inputs) {
  Eigen::VectorXd values(static_cast<Eigen::Index>(inputs.size()));
  for (Eigen::Index i = 0; i < values.size(); ++i) {
    const float value = features[inputs[static_cast<std::size_t>(i)]];
    values[i] = std::isfinite(value) ? double{value} : 0.0;
  }
  return values;
}

/// The sequence that a branch reads for one question.
std::vector<Eigen::VectorXd> sequence_of(const BranchOptions& branch, std::span<const float> steps,
                                         std::size_t step_features, std::size_t ended,
                                         std::span<const float> row) {
  std::vector<Eigen::VectorXd> sequence;
  if (branch.source == Source::row_steps) {
    for (std::size_t t = 0; t < branch.count; ++t)
      sequence.push_back(
          inputs_of(row, std::span(branch.inputs).subspan(t * branch.width(), branch.width())));
    return sequence;
  }
  const std::size_t read = branch.count > 0 ? std::min(branch.count, ended) : ended;
  if (branch.padded)
    sequence.assign(branch.count - read, Eigen::VectorXd::Constant(static_cast<Eigen::Index>(branch.width()),
                                                                   double{branch.padding}));
  for (std::size_t t = ended - read; t < ended; ++t)
    sequence.push_back(inputs_of(steps.subspan(t * step_features, step_features), branch.inputs));
  return sequence;
}

}  // namespace

double recurrent_probability(const RecurrentNetwork& network, std::span<const float> steps, std::size_t ended,
                             std::span<const float> row) {
  const Reference reference(network);
  const std::size_t step_features = ended > 0 ? steps.size() / ended : 0;
  Eigen::VectorXd joined(reference.joined());
  for (std::size_t b = 0; b < reference.branches(); ++b) {
    const BranchOptions& branch = reference.options(b);
    auto output = reference.part(b, joined);
    if (branch.source == Source::row) {
      output = reference.row(b, inputs_of(row, branch.inputs));
      continue;
    }
    const auto sequence = sequence_of(branch, steps, step_features, ended, row);
    if (sequence.empty())
      output.setZero();
    else
      output = reference.run(b, {sequence.begin(), sequence.end()}).last;
  }
  return reference.probability(joined);
}

std::vector<double> recurrent_probabilities(const RecurrentNetwork& network, const SessionData& data,
                                            Threads& threads) {
  constexpr std::size_t sessions_together = 64, windows_together = 64;
  require_consistent(data);
  const Reference reference(network);
  std::vector<double> probabilities(data.questions());
  const auto block = [&](std::size_t number) {
    const std::size_t first = number * sessions_together,
                      end = std::min(first + sessions_together, data.sessions());
    const std::size_t first_question = data.question_begin[first], end_question = data.question_begin[end];
    Eigen::MatrixXd joined =
        Eigen::MatrixXd::Zero(reference.joined(), static_cast<Eigen::Index>(end_question - first_question));
    const auto column = [&](std::size_t q) {
      return joined.col(static_cast<Eigen::Index>(q - first_question));
    };
    const auto row_of = [&](std::size_t q) {
      return std::span(data.rows).subspan(q * data.row_features, data.row_features);
    };
    const auto steps_of = [&](std::size_t s) {
      return std::span(data.steps)
          .subspan(data.step_begin[s] * data.step_features,
                   (data.step_begin[s + 1] - data.step_begin[s]) * data.step_features);
    };
    for (std::size_t b = 0; b < reference.branches(); ++b) {
      const BranchOptions& branch = reference.options(b);
      const auto width = static_cast<Eigen::Index>(branch.width());
      if (branch.source == Source::row) {
        for (std::size_t q = first_question; q < end_question; ++q) {
          auto question = column(q);
          reference.part(b, question) = reference.row(b, inputs_of(row_of(q), branch.inputs));
        }
      } else if (branch.source == Source::steps && branch.count == 0) {
        // All sessions side by side; a shorter one goes on with zeros, and nobody reads what follows.
        std::size_t longest = 0;
        for (std::size_t s = first; s < end; ++s)
          longest = std::max<std::size_t>(longest, data.step_begin[s + 1] - data.step_begin[s]);
        if (longest == 0) continue;
        std::vector<Eigen::MatrixXd> steps(
            longest, Eigen::MatrixXd::Zero(width, static_cast<Eigen::Index>(end - first)));
        for (std::size_t s = first; s < end; ++s) {
          const auto sequence = sequence_of(branch, steps_of(s), data.step_features,
                                            data.step_begin[s + 1] - data.step_begin[s], {});
          for (std::size_t t = 0; t < sequence.size(); ++t)
            steps[t].col(static_cast<Eigen::Index>(s - first)) = sequence[t];
        }
        const auto outputs = reference.run(b, std::move(steps)).outputs;
        for (std::size_t s = first; s < end; ++s)
          for (std::size_t q = data.question_begin[s]; q < data.question_begin[s + 1]; ++q) {
            if (data.ended[q] == 0) continue;
            auto question = column(q);
            reference.part(b, question) =
                outputs[data.ended[q] - 1].col(static_cast<Eigen::Index>(s - first));
          }
      } else {
        std::map<std::size_t, std::vector<std::pair<std::size_t, std::vector<Eigen::VectorXd>>>> by_length;
        const auto run = [&](auto& windows) {
          std::vector<Eigen::MatrixXd> steps(windows[0].second.size(),
                                             {width, static_cast<Eigen::Index>(windows.size())});
          for (std::size_t w = 0; w < windows.size(); ++w)
            for (std::size_t t = 0; t < steps.size(); ++t)
              steps[t].col(static_cast<Eigen::Index>(w)) = windows[w].second[t];
          const Eigen::MatrixXd last = reference.run(b, std::move(steps)).last;
          for (std::size_t w = 0; w < windows.size(); ++w) {
            auto question = column(windows[w].first);
            reference.part(b, question) = last.col(static_cast<Eigen::Index>(w));
          }
          windows.clear();
        };
        for (std::size_t s = first; s < end; ++s)
          for (std::size_t q = data.question_begin[s]; q < data.question_begin[s + 1]; ++q) {
            auto sequence = sequence_of(branch, steps_of(s), data.step_features, data.ended[q], row_of(q));
            if (sequence.empty()) continue;
            auto& windows = by_length[sequence.size()];
            windows.emplace_back(q, std::move(sequence));
            if (windows.size() == windows_together) run(windows);
          }
        for (auto& [length, windows] : by_length)
          if (!windows.empty()) run(windows);
      }
    }
    for (std::size_t q = first_question; q < end_question; ++q)
      probabilities[q] = reference.probability(column(q));
  };
  threads.run((data.sessions() + sessions_together - 1) / sessions_together, block);
  return probabilities;
}

}  // namespace tonearm
