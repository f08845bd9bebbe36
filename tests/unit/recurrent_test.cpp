// Recurrent networks: their gradients against differences of the float64 reference, which is held against
// formulas written here; and the promises of their training.

#include "train/recurrent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "folder.h"
#include "interrupts.h"
#include "train/recurrent_passes.h"

namespace tonearm {
namespace {

using Level = BranchOptions::Level;
using Source = BranchOptions::Source;
constexpr float missing = std::numeric_limits<float>::quiet_NaN();
/// A rate too small to change any weight.
constexpr double no_rate = 1e-30;

#define EXPECT_ERROR_SAYS(words, ...)                                             \
  do {                                                                            \
    const std::string said = error_of([&] { static_cast<void>(__VA_ARGS__); });   \
    EXPECT_NE(said.find(words), std::string::npos) << "the error says: " << said; \
  } while (false)

/// Sessions of up to `longest` steps of 3 features, the first of them empty, then one of a single step, then
/// one about which nothing is asked; elsewhere a question or two after each number of steps. Rows of 6
/// features. A label says whether the first features of the last two steps and of the row add up to more
/// than 0; some are missing, and so are some values.
SessionData sessions(std::size_t count, std::uint32_t longest, std::uint64_t seed, std::size_t tasks = 1) {
  SessionData data{.step_features = 3, .row_features = 6, .tasks = tasks};
  Random random(seed);
  data.step_begin.push_back(0);
  data.question_begin.push_back(0);
  const auto normal = [&] { return static_cast<float>(random.normal()); };
  for (std::size_t s = 0; s < count; ++s) {
    const std::uint32_t steps = s < 2 ? static_cast<std::uint32_t>(s) : 1 + random.below(longest);
    for (std::uint32_t i = 0; i < steps * 3; ++i)
      data.steps.push_back(random.below(20) == 0 ? missing : normal());
    const std::size_t first = data.step_begin.back();
    for (std::uint32_t ended = 0; s != 2 && ended <= steps; ++ended)
      for (std::uint32_t i = 0; i < 1 + random.below(2); ++i) {
        data.ended.push_back(ended);
        for (std::size_t j = 0; j < 6; ++j) data.rows.push_back(random.below(20) == 0 ? missing : normal());
        double sum = data.rows[data.rows.size() - 6];
        for (std::uint32_t t = ended > 2 ? ended - 2 : 0; t < ended; ++t) sum += data.steps[(first + t) * 3];
        for (std::size_t task = 0; task < tasks; ++task)
          data.targets.push_back(random.below(10) == 0             ? missing
                                 : sum + 0.3 * random.normal() > 0 ? 1.0F
                                                                   : 0.0F);
      }
    data.step_begin.push_back(data.step_begin.back() + steps);
    data.question_begin.push_back(static_cast<std::uint32_t>(data.ended.size()));
  }
  return data;
}

BranchOptions over_steps(std::vector<Level> levels) {
  return {.inputs = {0, 2}, .levels = std::move(levels)};
}

RecurrentOptions small(BranchOptions branch) {
  return {.branches = {std::move(branch)}, .hidden = {5}, .batch = 20, .epochs = 1};
}

RecurrentNetwork train(const SessionData& data, const RecurrentOptions& options,
                       const SessionData& validation = {}, unsigned thread_count = 1) {
  Threads threads(thread_count);
  return train_recurrent(data, validation, options, {.threads = threads, .seed = 5, .label = "recurrent"});
}

/// Calls use(parameter) for every one, in the order of recurrent_loss's gradient.
template <class Use>
void each_parameter(RecurrentNetwork& network, Use use) {
  const auto all = [&](auto& values) {
    for (Eigen::Index i = 0; i < values.size(); ++i) use(values.data()[i]);
  };
  for (RecurrentBranch& branch : network.branches) {
    for (RecurrentLayer& layer : branch.layers) {
      all(layer.input);
      all(layer.recurrent);
      all(layer.bias);
      all(layer.recurrent_bias);
    }
    for (NetworkLayer& layer : branch.dense) {
      all(layer.weights);
      all(layer.bias);
    }
  }
  for (NetworkLayer& layer : network.head) {
    all(layer.weights);
    all(layer.bias);
  }
}

std::vector<float> parameters(RecurrentNetwork network) {
  std::vector<float> values;
  each_parameter(network, [&](float value) { values.push_back(value); });
  return values;
}

bool same(const RecurrentNetwork& a, const RecurrentNetwork& b) { return parameters(a) == parameters(b); }

/// A network of the options with random weights and biases.
RecurrentNetwork random_network(const SessionData& data, RecurrentOptions options, std::uint64_t seed) {
  options.rate = no_rate;
  RecurrentNetwork network = train(data, options);
  Random random(seed);
  each_parameter(network, [&](float& value) { value = static_cast<float>(0.5 * random.normal()); });
  return network;
}

std::size_t session_of(const SessionData& data, std::size_t question) {
  const auto after = std::upper_bound(data.question_begin.begin(), data.question_begin.end(), question);
  return static_cast<std::size_t>(after - data.question_begin.begin()) - 1;
}

double probability(const RecurrentNetwork& network, const SessionData& data, std::size_t question) {
  const std::size_t first = data.step_begin[session_of(data, question)] * data.step_features;
  return recurrent_probability(
      network, std::span(data.steps).subspan(first, data.ended[question] * data.step_features),
      data.ended[question], std::span(data.rows).subspan(question * data.row_features, data.row_features));
}

/// The mean cross-entropy of the main task, by the float64 reference.
double reference_loss(const RecurrentNetwork& network, const SessionData& data) {
  double sum = 0;
  std::size_t known = 0;
  for (std::size_t q = 0; q < data.questions(); ++q) {
    const float target = data.targets[q * data.tasks];
    if (std::isnan(target)) continue;
    const double p = probability(network, data, q);
    sum -= std::log(target > 0 ? p : 1 - p);
    ++known;
  }
  return sum / static_cast<double>(known);
}

/// Central differences of the float64 reference beside the float32 gradient under test.
void expect_gradient(RecurrentNetwork network, const SessionData& data) {
  EXPECT_NEAR(recurrent_loss(network, data, nullptr), reference_loss(network, data), 2e-6);
  Eigen::VectorXf gradient;
  recurrent_loss(network, data, &gradient);
  Eigen::Index at = 0;
  each_parameter(network, [&](float& parameter) {
    const float original = parameter, up = original + 1e-4F, down = original - 1e-4F;
    parameter = up;
    const double above = reference_loss(network, data);
    parameter = down;
    const double below = reference_loss(network, data);
    parameter = original;
    ASSERT_LT(at, gradient.size());
    EXPECT_NEAR(gradient[at], (above - below) / (double{up} - double{down}), 3e-5) << "parameter " << at;
    ++at;
  });
  EXPECT_EQ(at, gradient.size());
}

// --- the inner loops -----------------------------------------------------------------------------------

// The gradients below are those of the best level; the others compute the same.
TEST(Recurrent, CellsOfEveryLevelAgree) {
  constexpr std::size_t rows = 3, units = 32;
  const auto run = [](const Dense& kernels) {
    Random random(34);
    const auto normals = [&](std::size_t columns) {
      std::vector<float> values(rows * columns);
      for (float& value : values) value = static_cast<float>(random.normal());
      return values;
    };
    std::vector<float> results;
    for (const bool first : {false, true}) {
      std::vector<float> gates = normals(4 * units), previous = normals(units), memory = normals(units),
                         squashed = normals(units), inner = normals(units), output = normals(units),
                         carry = normals(units);
      const Dense::CellStep step{.rows = rows,
                                 .units = units,
                                 .gates = gates.data(),
                                 .gates_row = 4 * units,
                                 .previous = first ? nullptr : previous.data(),
                                 .previous_row = units,
                                 .memory = memory.data(),
                                 .squashed = squashed.data(),
                                 .inner = inner.data(),
                                 .inner_row = units,
                                 .output = output.data(),
                                 .output_row = units,
                                 .carry = carry.data(),
                                 .carry_row = units};
      for (const auto kernel : {kernels.lstm, kernels.lstm_back, kernels.gru_reset, kernels.gru,
                                kernels.gru_back, kernels.gru_reset_back}) {
        kernel(step);
        for (const auto* values : {&gates, &memory, &squashed, &inner, &output, &carry})
          results.insert(results.end(), values->begin(), values->end());
      }
    }
    return results;
  };
  const std::vector<float> expected = run(dense());
  for (const int level : {2, 3, 4})
    if (const Dense* kernels = dense_level(level)) {
      const std::vector<float> found = run(*kernels);
      for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-5) << level;
    }
}

// --- gradients -----------------------------------------------------------------------------------------

class Cells : public testing::TestWithParam<Cell> {
 protected:
  /// Trains on a branch, and checks the gradient of a random network of it.
  void check(BranchOptions branch) {
    const SessionData data = sessions(7, 4, 1);
    RecurrentOptions options = small(std::move(branch));
    options.activation = NetworkActivation::tanh;
    expect_gradient(random_network(data, options, 2), data);
  }
};
std::string name_of(const testing::TestParamInfo<Cell>& cell) {
  const std::vector<std::string> names = {"Rnn", "RnnRelu", "Lstm", "Gru", "GruResetBefore"};
  return names[static_cast<std::size_t>(cell.param)];
}
INSTANTIATE_TEST_SUITE_P(All, Cells,
                         testing::Values(Cell::rnn, Cell::rnn_relu, Cell::lstm, Cell::gru,
                                         Cell::gru_reset_before),
                         name_of);

TEST_P(Cells, GradientAlongSessions) { check(over_steps({{GetParam(), 3, Direction::forward}})); }

TEST_P(Cells, GradientOfTwoLevelsAlongSessions) {
  check(over_steps({{GetParam(), 3, Direction::forward}, {GetParam(), 2, Direction::forward}}));
}

TEST_P(Cells, GradientOfMaskedWindowsReadForward) {
  BranchOptions branch = over_steps({{GetParam(), 3, Direction::forward}});
  branch.count = 3;
  check(branch);
}

TEST_P(Cells, GradientOfMaskedWindowsReadBackward) {
  BranchOptions branch = over_steps({{GetParam(), 3, Direction::backward}});
  branch.count = 3;
  check(branch);
}

TEST_P(Cells, GradientOfPaddedWindowsReadBothWays) {
  BranchOptions branch = over_steps({{GetParam(), 2, Direction::both}});
  branch.count = 3;
  branch.padded = true;
  branch.padding = 9;
  check(branch);
}

TEST_P(Cells, GradientOfTwoLevelsReadBothWays) {
  BranchOptions branch = over_steps({{GetParam(), 2, Direction::both}, {GetParam(), 3, Direction::both}});
  branch.count = 3;
  check(branch);
}

TEST_P(Cells, GradientAlongTheRow) {
  check({.source = Source::row_steps,
         .inputs = {0, 1, 2, 3, 4, 5},
         .count = 3,
         .levels = {{GetParam(), 3, Direction::both}}});
}

TEST(Recurrent, GradientOfSeveralBranches) {
  const SessionData data = sessions(7, 4, 3);
  RecurrentOptions options = small(over_steps({{Cell::lstm, 3, Direction::forward}}));
  options.activation = NetworkActivation::sigmoid;
  options.branches.push_back({.source = Source::row, .inputs = {1, 3}, .levels = {}, .hidden = {4, 3}});
  options.branches.push_back({.source = Source::row, .inputs = {5, 0, 2}});
  options.branches.push_back({.inputs = {1}, .count = 2, .levels = {{Cell::gru, 17, Direction::both}}});
  expect_gradient(random_network(data, options, 4), data);
  options.hidden = {};
  expect_gradient(random_network(data, options, 4), data);
}

// More sessions than go through the network together, of very unequal lengths.
TEST(Recurrent, LossOfManySessionsAgreesWithFloat64) {
  const SessionData data = sessions(150, 40, 5);
  RecurrentOptions options = small(over_steps({{Cell::gru, 20, Direction::forward}}));
  for (const bool windows : {false, true}) {
    if (windows) options.branches.push_back({.inputs = {1}, .count = 5, .levels = {{Cell::lstm, 4}}});
    const RecurrentNetwork network = random_network(data, options, 6);
    EXPECT_NEAR(recurrent_loss(network, data, nullptr), reference_loss(network, data), 1e-5);
    Threads threads(2);
    const std::vector<double> all = recurrent_probabilities(network, data, threads);
    ASSERT_EQ(all.size(), data.questions());
    for (std::size_t q = 0; q < data.questions(); ++q)
      EXPECT_NEAR(all[q], probability(network, data, q), 1e-12) << "question " << q;
  }
}

// In training, where the questions are normalised by themselves; by differences of the very loss.
TEST(Recurrent, GradientThroughBatchNormalisation) {
  const SessionData data = sessions(12, 4, 32);
  RecurrentOptions options = small(over_steps({{Cell::gru, 3, Direction::forward}}));
  options.hidden = {5, 4};
  options.activation = NetworkActivation::tanh;
  const RecurrentNetwork network = random_network(data, options, 33);
  const recurrent::Shape shape(network, 0, true);
  Floats flat = shape.flatten(network);
  recurrent::Passes passes(shape, flat, 0, false);
  recurrent::Work work(shape, true);
  std::vector<recurrent::Reading> all;
  for (std::uint32_t s = 0; s < 12; ++s) all.push_back({s, 0});
  const std::vector<float> scales = {1};
  Threads threads(1);
  const auto loss = [&] {
    passes.refresh(threads);
    passes.run(data, all, scales, Random(0), work);
    return work.loss;
  };
  loss();
  const Floats gradient = work.gradient;
  std::size_t moved = 0;
  for (std::size_t i = 0; i < flat.size(); ++i) {
    const float original = flat[i];
    if (original == 0 && gradient[i] == 0) continue;  // padding
    flat[i] = original + 0.005F;
    const double above = loss();
    flat[i] = original - 0.005F;
    const double below = loss();
    flat[i] = original;
    EXPECT_NEAR(gradient[i], (above - below) / 0.01, 0.002 * (3 + std::abs(gradient[i])))
        << "parameter " << i;
    moved += std::abs(gradient[i]) > 0.1F;
  }
  EXPECT_GT(moved, 50U);
}

// --- the reference -------------------------------------------------------------------------------------

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// One unit and one input, so that each formula can be written out.
TEST_P(Cells, StepIsTheFormula) {
  const double w[] = {0.7, -1.1, 0.4, 0.9}, u[] = {-0.6, 0.8, 1.3, 0.2}, b[] = {0.1, -0.2, 0.3, 0.05};
  constexpr double d = -0.7;
  const std::vector<float> steps = {0.5F, -1.5F, 2};
  double h = 0, c = 0;
  for (const double x : steps) {
    const auto sum = [&](std::size_t gate, double state) { return w[gate] * x + u[gate] * state + b[gate]; };
    switch (GetParam()) {
      case Cell::rnn:
        h = std::tanh(sum(0, h));
        break;
      case Cell::rnn_relu:
        h = std::max(0.0, sum(0, h));
        break;
      case Cell::lstm:
        c = logistic(sum(1, h)) * c + logistic(sum(0, h)) * std::tanh(sum(2, h));
        h = logistic(sum(3, h)) * std::tanh(c);
        break;
      case Cell::gru: {
        const double r = logistic(sum(0, h)), z = logistic(sum(1, h));
        h = (1 - z) * std::tanh(sum(2, 0) + r * (u[2] * h + d)) + z * h;
        break;
      }
      case Cell::gru_reset_before: {
        const double r = logistic(sum(0, h)), z = logistic(sum(1, h));
        h = (1 - z) * std::tanh(sum(2, r * h)) + z * h;
        break;
      }
    }
  }
  const Eigen::Index rows = gates(GetParam());
  RecurrentLayer layer{
      GetParam(),       false, Eigen::MatrixXf(rows, 1), Eigen::MatrixXf(rows, 1), Eigen::VectorXf(rows),
      Eigen::VectorXf()};
  if (GetParam() == Cell::gru) layer.recurrent_bias = Eigen::VectorXf::Constant(1, static_cast<float>(d));
  for (Eigen::Index i = 0; i < rows; ++i) {
    layer.input(i, 0) = static_cast<float>(w[i]);
    layer.recurrent(i, 0) = static_cast<float>(u[i]);
    layer.bias[i] = static_cast<float>(b[i]);
  }
  const RecurrentNetwork network{
      {{.options = {.inputs = {0}, .levels = {{GetParam(), 1, Direction::forward}}}, .layers = {layer}}},
      {{Eigen::MatrixXf::Constant(1, 1, 2), Eigen::VectorXf::Constant(1, 0.5F), NetworkActivation::none}}};
  EXPECT_NEAR(recurrent_probability(network, steps, 3, {}), logistic(2 * h + 0.5), 1e-7);
  EXPECT_NEAR(recurrent_probability(network, {}, 0, {}), logistic(0.5), 1e-7) << "without any step";
}

TEST(Recurrent, ReadingBackwardIsReadingTheReverse) {
  const SessionData data = sessions(5, 4, 7);
  const BranchOptions branch{.source = Source::row_steps,
                             .inputs = {0, 1, 2, 3, 4, 5},
                             .count = 3,
                             .levels = {{Cell::lstm, 3, Direction::backward}}};
  RecurrentNetwork network = random_network(data, small(branch), 8);
  const std::vector<float> row = {1, 2, 3, 4, 5, 6}, reversed = {5, 6, 3, 4, 1, 2};
  const double backward = recurrent_probability(network, {}, 0, row);
  network.branches[0].options.levels[0].direction = Direction::forward;
  network.branches[0].layers[0].backward = false;
  EXPECT_NEAR(recurrent_probability(network, {}, 0, reversed), backward, 1e-12);
}

// A padded sequence is a longer session that begins with the padding.
TEST(Recurrent, PaddingStandsBeforeTheSteps) {
  const SessionData data = sessions(5, 4, 9);
  BranchOptions branch = over_steps({{Cell::lstm, 3, Direction::forward}});
  const RecurrentNetwork streamed = random_network(data, small(branch), 10);
  branch.count = 4;
  branch.padded = true;
  branch.padding = 9;
  RecurrentNetwork padded_one = streamed;
  padded_one.branches[0].options = branch;
  const std::vector<float> known = {1, 7, 2, -1, 7, 0.5F};
  const std::vector<float> all = {9, 9, 9, 9, 9, 9, 1, 7, 2, -1, 7, 0.5F};
  const double expected = recurrent_probability(streamed, all, 4, {});
  EXPECT_NEAR(recurrent_probability(padded_one, known, 2, {}), expected, 1e-12);
  // Of more than `count` steps the latest are read.
  std::vector<float> more = {5, 5, 5};
  more.insert(more.end(), all.begin(), all.end());
  EXPECT_NEAR(recurrent_probability(padded_one, more, 5, {}), expected, 1e-12);
}

TEST(Recurrent, MissingInputsAreZeros) {
  SessionData data = sessions(30, 5, 11);
  RecurrentOptions options = small(over_steps({{Cell::gru, 3, Direction::forward}}));
  options.branches.push_back({.source = Source::row, .inputs = {0, 1, 2, 3, 4, 5}});
  const RecurrentNetwork network = random_network(data, options, 12);
  std::fill(data.steps.begin(), data.steps.end(), missing);
  std::fill(data.rows.begin(), data.rows.end(), -std::numeric_limits<float>::infinity());
  const double loss = recurrent_loss(network, data, nullptr);
  EXPECT_NEAR(loss, reference_loss(network, data), 1e-6);
  options.epochs = 2;
  EXPECT_TRUE(std::isfinite(recurrent_loss(train(data, options), data, nullptr)));
  std::fill(data.steps.begin(), data.steps.end(), 0.0F);
  std::fill(data.rows.begin(), data.rows.end(), 0.0F);
  EXPECT_EQ(recurrent_loss(network, data, nullptr), loss);
}

// --- training ------------------------------------------------------------------------------------------

/// A network of every kind of branch, with all that draws random numbers.
RecurrentOptions everything() {
  RecurrentOptions options = small(over_steps({{Cell::lstm, 6, Direction::forward}}));
  options.branches[0].dropout = 0.2;
  options.branches.push_back(
      {.inputs = {1}, .count = 3, .padded = true, .padding = 9, .levels = {{Cell::gru, 3, Direction::both}}});
  options.branches.push_back({.source = Source::row, .inputs = {0, 4}, .hidden = {4}});
  options.hidden = {8, 6};
  options.batch_normalisation = true;
  options.task_weights = {0.5};
  options.rate = 0.01;
  options.weight_decay = 0.01;
  options.dropout = 0.2;
  options.clip = 0.5;
  options.schedule = RecurrentOptions::Schedule::cosine;
  options.warmup = 0.2;
  options.batch = 70;
  options.epochs = 5;
  options.patience = 4;
  options.truncation = 2;
  options.offset_augmentation = 0.5;
  return options;
}

TEST(Recurrent, ThreadsDoNotChangeABit) {
  const SessionData data = sessions(200, 6, 13, 2), validation = sessions(100, 6, 14, 2);
  for (const bool quantized : {false, true}) {
    RecurrentOptions options = everything();
    options.quantized = quantized;
    options.branches[0].input_scales = {0.02F, 0.03F};
    const RecurrentNetwork one = train(data, options, validation, 1);
    EXPECT_TRUE(same(one, train(data, options, validation, 2)));
    EXPECT_TRUE(same(one, train(data, options, validation, 3)));
  }
}

/// Trains in as many runs as `interruptions` has entries, plus one; each is interrupted at its so-manieth
/// poll, and the next resumes from its checkpoint.
RecurrentNetwork in_pieces(const std::vector<int>& interruptions, const SessionData& data,
                           const SessionData& validation, const RecurrentOptions& options) {
  const Folder folder;
  const auto path = folder / "checkpoint";
  Threads threads(2);
  const auto run = [&] {
    return train_recurrent(data, validation, options,
                           {.threads = threads,
                            .seed = 5,
                            .label = "recurrent",
                            .checkpoint = Checkpoint(path, "fingerprint", true)});
  };
  for (const int polls : interruptions) {
    polls_before_interrupt = polls;
    EXPECT_THROW(run(), Interrupted);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  polls_before_interrupt = -1;
  return run();
}

TEST(Recurrent, ResumedTrainingEndsWithTheSameBits) {
  const SessionData data = sessions(200, 6, 15, 2), validation = sessions(100, 6, 16, 2);
  RecurrentOptions options = everything();  // three batches to an epoch
  for (const unsigned patience : {0U, 4U}) {
    options.patience = patience;
    EXPECT_TRUE(same(in_pieces({0, 4, 3, 2}, data, validation, options), train(data, options, validation)))
        << "patience " << patience;
  }
}

TEST_P(Cells, LearnWhatHappenedTwoStepsAgo) {
  SessionData data{.step_features = 1};
  Random random(17);
  data.step_begin = data.question_begin = {0};
  for (std::uint32_t s = 0; s < 300; ++s) {
    for (int t = 0; t < 5; ++t) data.steps.push_back(random.below(2) == 0 ? -1.0F : 1.0F);
    data.ended.push_back(5);
    data.targets.push_back(data.steps[data.steps.size() - 3] > 0 ? 1.0F : 0.0F);
    data.step_begin.push_back(5 * (s + 1));
    data.question_begin.push_back(s + 1);
  }
  const RecurrentOptions options{
      .branches = {{.inputs = {0}, .levels = {{GetParam(), 8, Direction::forward}}}},
      .hidden = {},
      .rate = 0.02,
      .batch = 50,
      .epochs = 60};
  EXPECT_LT(recurrent_loss(train(data, options), data, nullptr), 0.05);
}

// With all sessions in one batch, training is Adam on the gradient that is checked above, shortened to
// `clip`.
TEST(Recurrent, TrainingIsAdamOnTheGradient) {
  const SessionData data = sessions(40, 5, 18);
  RecurrentOptions options = small(over_steps({{Cell::lstm, 4, Direction::forward}}));
  options.branches.push_back({.source = Source::row, .inputs = {0, 1}, .hidden = {3}});
  options.batch = 100;
  options.weight_decay = 0.5;
  options.rate = no_rate;
  RecurrentNetwork expected = train(data, options);
  const std::vector<float> start = parameters(expected);
  options.rate = 0.01;
  options.epochs = 30;
  options.schedule = RecurrentOptions::Schedule::cosine;
  options.warmup = 0.2;
  options.clip = 0.05;
  const std::vector<float> trained = parameters(train(data, options));

  std::vector<double> mean(trained.size()), variance(trained.size());
  bool shortened = false;
  for (unsigned t = 1; t <= options.epochs; ++t) {
    Eigen::VectorXf gradient;
    recurrent_loss(expected, data, &gradient);
    const double scale = std::min(1.0, options.clip / gradient.cast<double>().norm());
    shortened = shortened || scale < 1;
    const double rate = t < 6 ? 0.01 * t / 6 : 0.005 * (1 + std::cos(M_PI * (t / 30.0 - 0.2) / 0.8));
    std::size_t i = 0;
    const auto step = [&](auto& values, double decay) {
      for (Eigen::Index j = 0; j < values.size(); ++j, ++i) {
        float& parameter = values.data()[j];
        const double g = scale * double{gradient[static_cast<Eigen::Index>(i)]};
        mean[i] = 0.9 * mean[i] + 0.1 * g;
        variance[i] = 0.999 * variance[i] + 0.001 * g * g;
        const double change =
            mean[i] / (1 - std::pow(0.9, t)) / (std::sqrt(variance[i] / (1 - std::pow(0.999, t))) + 1e-8);
        parameter = static_cast<float>(double{parameter} - rate * (change + decay * double{parameter}));
      }
    };
    RecurrentLayer& layer = expected.branches[0].layers[0];
    step(layer.input, 0.5);
    step(layer.recurrent, 0.5);
    step(layer.bias, 0);
    for (auto* layers : {&expected.branches[1].dense, &expected.head})
      for (NetworkLayer& dense_layer : *layers) {
        step(dense_layer.weights, 0.5);
        step(dense_layer.bias, 0);
      }
  }
  EXPECT_TRUE(shortened);
  const std::vector<float> wanted = parameters(expected);
  double moved = 0, apart = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    moved += std::pow(wanted[i] - start[i], 2);
    apart += std::pow(wanted[i] - trained[i], 2);
  }
  EXPECT_LT(std::sqrt(apart), 0.01 * std::sqrt(moved));
}

TEST(Recurrent, WeightsBeginAsTheLiteratureSays) {
  const SessionData data = sessions(10, 5, 19);
  RecurrentOptions options = small(over_steps({{Cell::lstm, 12, Direction::forward}}));
  options.rate = no_rate;
  const RecurrentLayer layer = train(data, options).branches[0].layers[0];
  for (Eigen::Index gate = 0; gate < 4; ++gate) {
    const Eigen::MatrixXf u = layer.recurrent.middleRows(12 * gate, 12);
    EXPECT_TRUE((u * u.transpose()).isIdentity(1e-5F)) << "gate " << gate;
    const Eigen::VectorXf bias = layer.bias.segment(12 * gate, 12);
    EXPECT_NEAR(bias.minCoeff(), gate == 1, 1e-20);
    EXPECT_NEAR(bias.maxCoeff(), gate == 1, 1e-20);
  }
  const float limit = std::sqrt(6.0F / (2 + 12));
  EXPECT_LE(layer.input.cwiseAbs().maxCoeff(), limit);
  EXPECT_GT(layer.input.cwiseAbs().maxCoeff(), 0.8F * limit);
}

// Without patience the same training, stopped after each number of epochs, shows what patience saw.
TEST(Recurrent, PatienceKeepsTheBestAndStopsInTime) {
  const SessionData data = sessions(12, 4, 20), validation = sessions(60, 4, 21);
  RecurrentOptions options = small(over_steps({{Cell::gru, 16, Direction::forward}}));
  options.branches.push_back({.source = Source::row, .inputs = {0, 1, 2, 3, 4, 5}});
  options.rate = 0.03;
  std::vector<RecurrentNetwork> after;
  std::vector<double> losses;
  for (; options.epochs <= 60; ++options.epochs) {
    after.push_back(train(data, options, validation));
    losses.push_back(recurrent_loss(after.back(), validation, nullptr));
  }
  options.patience = 5;
  std::size_t best = 0, epoch = 1;
  for (; epoch < losses.size() && epoch - best < options.patience; ++epoch)
    if (losses[epoch] < losses[best]) best = epoch;
  ASSERT_LT(epoch, losses.size()) << "this data must overfit for the test to mean anything";
  unsigned epochs = 0;
  options.watch = [&](unsigned at, double, double held_out) {
    epochs = at;
    EXPECT_NEAR(held_out, losses[at - 1], 1e-6);
  };
  EXPECT_TRUE(same(train(data, options, validation), after[best]));
  EXPECT_EQ(epochs, best + 1 + 5);
}

// The label is the first of four steps, the only one whose input is not 0: the input weights learn through
// the gradient that passes every step, or not at all.
TEST(Recurrent, GradientsStopWhereTheyAreTruncated) {
  SessionData data{.step_features = 1};
  data.step_begin = data.question_begin = {0};
  Random random(22);
  for (std::uint32_t s = 0; s < 200; ++s) {
    const float first = random.below(2) == 0 ? -1.0F : 1.0F;
    data.steps.insert(data.steps.end(), {first, 0, 0, 0});
    data.ended.push_back(4);
    data.targets.push_back(first > 0 ? 1.0F : 0.0F);
    data.step_begin.push_back(4 * (s + 1));
    data.question_begin.push_back(s + 1);
  }
  for (const Cell cell : {Cell::rnn, Cell::lstm, Cell::gru, Cell::gru_reset_before}) {
    RecurrentOptions options{.branches = {{.inputs = {0}, .levels = {{cell, 4, Direction::forward}}}},
                             .hidden = {},
                             .rate = no_rate,
                             .batch = 200,
                             .epochs = 1};
    const RecurrentNetwork start = train(data, options);
    options.rate = 0.01;
    const auto learns = [&](unsigned truncation) {
      options.truncation = truncation;
      return train(data, options).branches[0].layers[0].input != start.branches[0].layers[0].input;
    };
    for (const unsigned truncation : {0U, 4U}) EXPECT_TRUE(learns(truncation)) << truncation;
    for (const unsigned truncation : {1U, 2U, 3U}) EXPECT_FALSE(learns(truncation)) << truncation;
  }
}

// An auxiliary target that is the label, where the label itself is hardly known.
TEST(Recurrent, AuxiliaryTargetsTeachTheSharedLayers) {
  SessionData data = sessions(400, 5, 23, 2);
  for (std::size_t q = 0; q < data.questions(); ++q) {
    data.targets[2 * q + 1] = data.targets[2 * q];
    if (q % 200 > 0) data.targets[2 * q] = missing;
  }
  const SessionData held_out = sessions(300, 5, 24);
  RecurrentOptions options = small(over_steps({{Cell::gru, 8, Direction::forward}}));
  options.branches.push_back({.source = Source::row, .inputs = {0, 1, 2, 3, 4, 5}});
  options.batch = 50;
  options.epochs = 40;
  const double alone = recurrent_loss(train(data, options), held_out, nullptr);
  options.task_weights = {1};
  const RecurrentNetwork together = train(data, options);
  EXPECT_LT(recurrent_loss(together, held_out, nullptr), alone - 0.05);
  EXPECT_EQ(together.head.back().weights.rows(), 1);
}

// The label says whether more than three steps are known.
TEST(Recurrent, LaterStartsHideTheBeginningOfSessions) {
  SessionData data{.step_features = 1};
  data.step_begin = data.question_begin = {0};
  for (std::uint32_t s = 0; s < 400; ++s) {
    const std::uint32_t steps = 6;
    data.steps.insert(data.steps.end(), steps, 1.0F);
    for (std::uint32_t ended = 0; ended <= steps; ++ended) {
      data.ended.push_back(ended);
      data.targets.push_back(ended > 3 ? 1.0F : 0.0F);
    }
    data.step_begin.push_back(data.step_begin.back() + steps);
    data.question_begin.push_back(static_cast<std::uint32_t>(data.ended.size()));
  }
  RecurrentOptions options{.branches = {{.inputs = {0}, .levels = {{Cell::lstm, 8, Direction::forward}}}},
                           .rate = 0.01,
                           .batch = 50,
                           .epochs = 30};
  double loss = 0;
  options.watch = [&](unsigned, double now, double) { loss = now; };
  train(data, options);
  EXPECT_LT(loss, 0.05);
  // Then as many known steps come with either label, and no training can tell.
  options.offset_augmentation = 1;
  train(data, options);
  EXPECT_GT(loss, 0.2);
}

TEST(Recurrent, BatchNormalisationIsFolded) {
  const SessionData data = sessions(300, 5, 26);
  RecurrentOptions options = small(over_steps({{Cell::gru, 6, Direction::forward}}));
  options.branches.push_back({.source = Source::row, .inputs = {0, 1, 2, 3, 4, 5}});
  options.hidden = {16, 8};
  options.batch_normalisation = true;
  options.batch = 50;
  options.epochs = 30;
  options.patience = 100;
  double least = 1;
  options.watch = [&](unsigned, double, double held_out) { least = std::min(least, held_out); };
  const RecurrentNetwork network = train(data, options, data);
  EXPECT_NEAR(recurrent_loss(network, data, nullptr), least, 1e-6);
  EXPECT_LT(least, 0.45);
}

TEST(Recurrent, QuantizedTrainingLowersTheLossOfTheRoundedNetwork) {
  const SessionData data = sessions(300, 6, 27);
  RecurrentOptions options = small(over_steps({{Cell::lstm, 8, Direction::forward}}));
  options.branches.push_back({.source = Source::row, .inputs = {0, 1, 2, 3, 4, 5}});
  options.branches[0].input_scales = {1, 1};  // very coarse, so that there is something to win
  options.batch = 50;
  options.epochs = 30;
  const RecurrentNetwork start = train(data, options);
  options.quantized = true;
  options.epochs = 15;
  options.patience = 15;
  std::vector<double> losses;
  options.watch = [&](unsigned, double, double held_out) { losses.push_back(held_out); };
  Threads threads(1);
  const Training training{.threads = threads, .seed = 6, .label = "recurrent"};
  options.rate = no_rate;
  refine_recurrent(start, data, data, options, training);
  const double before = losses.front();
  losses.clear();
  options.rate = 0.002;
  refine_recurrent(start, data, data, options, training);
  EXPECT_GT(before, recurrent_loss(start, data, nullptr) + 0.005);
  EXPECT_LT(*std::min_element(losses.begin(), losses.end()), before - 0.005);
}

TEST(Recurrent, RefiningGoesOnFromTheWeights) {
  const SessionData data = sessions(60, 5, 28);
  RecurrentOptions options = small(over_steps({{Cell::gru, 4, Direction::forward}}));
  options.epochs = 3;
  const RecurrentNetwork start = train(data, options);
  Threads threads(1);
  const Training training{.threads = threads, .seed = 6, .label = "recurrent"};
  options.rate = no_rate;
  EXPECT_TRUE(same(refine_recurrent(start, data, {}, options, training), start));
  options.branches[0].levels[0].units = 5;
  EXPECT_ERROR_SAYS("does not have the layers that the options say",
                    refine_recurrent(start, data, {}, options, training));
  options.branches[0].levels[0].units = 4;
  options.batch_normalisation = true;
  EXPECT_ERROR_SAYS("set batch normalisation to false", refine_recurrent(start, data, {}, options, training));
}

// --- at fault ------------------------------------------------------------------------------------------

TEST(Recurrent, ExplodingLossIsSaidAndTheBestWeightsAreKept) {
  const SessionData data = sessions(40, 5, 29);
  RecurrentOptions options = small(over_steps({{Cell::rnn_relu, 6, Direction::forward}}));
  options.clip = 0;
  options.rate = 1e30;
  options.epochs = 10;
  EXPECT_ERROR_SAYS("the loss is no longer finite in epoch 1; lower the learning rate (it is 1e+30)",
                    train(data, options));

  // Rises with every step, so that there is an epoch before.
  options.rate = 1e12;
  options.warmup = 1;
  options.batch = 100;
  const Folder folder;
  Threads threads(1);
  std::vector<RecurrentNetwork> kept;
  const auto run = [&](bool resume) {
    return train_recurrent(data, {}, options,
                           {.threads = threads,
                            .seed = 5,
                            .label = "recurrent",
                            .checkpoint = Checkpoint(folder / "checkpoint", "fingerprint", resume)});
  };
  unsigned finished = 0;
  options.watch = [&](unsigned epoch, double, double) { finished = epoch; };
  const std::string said = error_of([&] { run(false); });
  ASSERT_GT(finished, 0U) << said;
  EXPECT_NE(said.find("finite in epoch " + std::to_string(finished + 1)), std::string::npos) << said;
  EXPECT_NE(said.find("the weights of epoch " + std::to_string(finished) + ", the best"), std::string::npos);
  options.epochs = 20;  // the schedule is not what it was, and nothing is trained
  for (const float parameter : parameters(run(true))) EXPECT_TRUE(std::isfinite(parameter));
}

TEST(Recurrent, DataAtFaultAreNamed) {
  const RecurrentOptions options = small(over_steps({{Cell::gru, 3, Direction::forward}}));
  SessionData data = sessions(10, 5, 30);
  data.ended[3] = 100;
  EXPECT_ERROR_SAYS("question 3 (counted from 0) follows 100 steps", train(data, options));
  data = sessions(10, 5, 30);
  data.targets[4] = 0.5F;
  EXPECT_ERROR_SAYS("target 0 of question 4 (counted from 0) is 0.5", train(data, options));
  data = sessions(10, 5, 30);
  data.steps.pop_back();
  EXPECT_ERROR_SAYS("numbers of steps", train(data, options));
  data = sessions(10, 5, 30);
  data.step_begin[3] = 1000;
  EXPECT_ERROR_SAYS("its offsets must not fall", train(data, options));
  data = sessions(10, 5, 30);
  for (float& target : data.targets) target = 1;
  EXPECT_ERROR_SAYS("have the label 1", train(data, options));
  EXPECT_ERROR_SAYS("there are no rows", train({.step_features = 3}, options));
}

TEST(Recurrent, OptionsAtFaultAreNamed) {
  const SessionData data = sessions(10, 5, 31);
  const auto refused = [&](auto change, const std::string& words) {
    RecurrentOptions options = small(over_steps({{Cell::gru, 3, Direction::forward}}));
    change(options);
    EXPECT_ERROR_SAYS(words, train(data, options));
  };
  refused([](auto& o) { o.branches.clear(); }, "there are no branches");
  refused([](auto& o) { o.branches[0].inputs = {3}; },
          "branch 1 reads feature 3 (counted from 0), but there are 3");
  refused([](auto& o) { o.branches[0].inputs = {}; }, "branch 1 has no inputs");
  refused([](auto& o) { o.branches[0].levels = {}; }, "branch 1 has no recurrent level");
  refused([](auto& o) { o.branches[0].levels[0].units = 0; }, "has a level without units");
  refused([](auto& o) { o.branches[0].levels[0].direction = Direction::both; }, "limit the steps by count");
  refused([](auto& o) { o.branches[0].padded = true; }, "is padded, but to no count");
  refused([](auto& o) { o.branches[0].hidden = {3}; }, "has levels rather than dense layers");
  refused([](auto& o) { o.branches[0].input_scales = {1}; }, "has 1 scales for 2 inputs");
  refused([](auto& o) { o.branches[0].source = Source::row; }, "has recurrent levels, but reads no sequence");
  refused([](auto& o) { o.branches[0].source = Source::row_steps; }, "cannot be divided into 0 steps");
  refused([](auto& o) { o.hidden = {0}; }, "a hidden layer has no units");
  refused([](auto& o) { o.task_weights = {1}; }, "there are 1 weights for 0 auxiliary targets");
  refused([](auto& o) { o.patience = 1; }, "patience needs validation sessions");
  refused([](auto& o) { o.batch = 0; }, "the batch is 0 sessions");
  refused([](auto& o) { o.rate = 0; }, "the learning rate must be above 0");
  refused(
      [](auto& o) {
        o.quantized = true;
        o.branches[0].levels[0].cell = Cell::rnn_relu;
      },
      "has relu units");
}

}  // namespace
}  // namespace tonearm
