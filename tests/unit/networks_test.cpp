// Linear models, networks, their inner loops, calibration and principal components, against float64
// references written here and by the properties that define them.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "features/pca.h"
#include "folder.h"
#include "interrupts.h"
#include "train/calibration.h"
#include "train/dense.h"
#include "train/linear.h"
#include "train/network.h"

namespace tonearm {
namespace {

/// Normal values, and labels that follow a noisy curved rule of the first two features.
Dataset curved(std::size_t rows, std::size_t features, std::uint64_t seed) {
  Dataset data{.rows = rows, .features = features, .values = {}, .target = {}};
  Random random(seed);
  for (std::size_t i = 0; i < rows * features; ++i)
    data.values.push_back(static_cast<float>(random.normal()));
  for (std::size_t i = 0; i < rows; ++i) {
    const double a = data.row(i)[0], b = data.row(i)[features > 1];
    data.target.push_back(a * b + a + random.normal() > 0 ? 1.0F : 0.0F);
  }
  return data;
}

Dataset exclusive_or() {
  Dataset data{.rows = 0, .features = 2, .values = {}, .target = {}};
  for (; data.rows < 400; ++data.rows) {
    const bool a = data.rows % 2 == 0, b = data.rows / 2 % 2 == 0;
    data.values.insert(data.values.end(), {a ? 1.0F : 0.0F, b ? 1.0F : 0.0F});
    data.target.push_back(a != b ? 1.0F : 0.0F);
  }
  return data;
}

#define EXPECT_ERROR_SAYS(words, ...)                                             \
  do {                                                                            \
    const std::string said = error_of([&] { static_cast<void>(__VA_ARGS__); });   \
    EXPECT_NE(said.find(words), std::string::npos) << "the error says: " << said; \
  } while (false)

LinearModel linear(const Dataset& data, LinearOptions options = {}, unsigned thread_count = 1) {
  Threads threads(thread_count);
  return train_linear(data, options, {.threads = threads, .label = "linear"});
}

Network network(const Dataset& data, const NetworkOptions& options, const Dataset& validation = {},
                unsigned thread_count = 1) {
  Threads threads(thread_count);
  return train_network(data, validation, options, {.threads = threads, .seed = 5, .label = "network"});
}

bool same(const LinearModel& a, const LinearModel& b) { return a.weights == b.weights && a.bias == b.bias; }

bool same(const Network& a, const Network& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const NetworkLayer& x, const NetworkLayer& y) {
                      return x.weights == y.weights && x.bias == y.bias && x.activation == y.activation;
                    });
}

/// Mean cross-entropy by the float64 reference.
double reference_loss(const Network& model, const Dataset& data) {
  double sum = 0;
  for (std::size_t i = 0; i < data.rows; ++i) {
    const double p = network_probability(model, data.row(i));
    sum -= std::log(data.target[i] > 0 ? p : 1 - p);
  }
  return sum / static_cast<double>(data.rows);
}

Network random_network(const std::vector<unsigned>& sizes, NetworkActivation activation, std::uint64_t seed) {
  Random random(seed);
  const auto draw = [&] { return static_cast<float>(0.5 * random.normal()); };
  Network model;
  for (std::size_t l = 1; l < sizes.size(); ++l)
    model.layers.push_back({Eigen::MatrixXf::NullaryExpr(sizes[l], sizes[l - 1], draw),
                            Eigen::VectorXf::NullaryExpr(sizes[l], draw),
                            l + 1 < sizes.size() ? activation : NetworkActivation::softmax});
  return model;
}

// --- linear models -------------------------------------------------------------------------------------

class LinearLosses : public testing::TestWithParam<LinearOptions::Loss> {
 protected:
  LinearOptions options{.loss = GetParam(), .cost = 0.7};
};
INSTANTIATE_TEST_SUITE_P(Both, LinearLosses,
                         testing::Values(LinearOptions::Loss::logistic, LinearOptions::Loss::squared_hinge));

TEST_P(LinearLosses, GradientIsThatOfTheObjective) {
  const Dataset data = curved(300, 4, 1);
  const LinearModel at{Eigen::Vector4d(0.3, -1.2, 0.1, 2), -0.4};
  Eigen::VectorXd gradient;
  linear_objective(data, options, at, &gradient);
  ASSERT_EQ(gradient.size(), 5);
  for (Eigen::Index i = 0; i < 5; ++i) {
    const double h = 1e-5;
    LinearModel up = at, down = at;
    (i < 4 ? up.weights[i] : up.bias) += h;
    (i < 4 ? down.weights[i] : down.bias) -= h;
    const double numerical =
        (linear_objective(data, options, up, nullptr) - linear_objective(data, options, down, nullptr)) /
        (2 * h);
    EXPECT_NEAR(gradient[i], numerical, 1e-6 * (1 + std::abs(numerical))) << "component " << i;
  }
}

TEST_P(LinearLosses, ObjectiveIsTheFormula) {
  const Dataset data = curved(50, 3, 2);
  const LinearModel at{Eigen::Vector3d(0.3, -1.2, 0.1), 0.2};
  double expected = at.weights.squaredNorm() / 2;
  for (std::size_t i = 0; i < data.rows; ++i) {
    const double margin = (data.target[i] > 0 ? 1 : -1) * linear_score(at, data.row(i));
    expected +=
        options.cost * (GetParam() == LinearOptions::Loss::logistic ? std::log(1 + std::exp(-margin))
                                                                    : std::pow(std::max(0.0, 1 - margin), 2));
  }
  EXPECT_NEAR(linear_objective(data, options, at, nullptr), expected, 1e-10 * expected);
}

// Both objectives are convex, so a vanishing gradient proves the optimum.
TEST_P(LinearLosses, TrainingEndsAtTheOptimum) {
  for (const double cost : {0.01, 1.0, 1000.0}) {
    options.cost = cost;
    const Dataset data = curved(5000, 6, 3);
    Eigen::VectorXd at_start, at_end;
    linear_objective(data, options, {Eigen::VectorXd::Zero(6), 0}, &at_start);
    linear_objective(data, options, linear(data, options), &at_end);
    EXPECT_LE(at_end.lpNorm<Eigen::Infinity>(), 1e-7 * at_start.lpNorm<Eigen::Infinity>()) << "cost " << cost;
  }
}

TEST_P(LinearLosses, FeaturesOfVeryDifferentScaleDoNoHarm) {
  Dataset data = curved(2000, 3, 4);
  const LinearModel plain = linear(data, {.loss = GetParam(), .cost = 1e6});
  for (std::size_t i = 0; i < data.rows; ++i) data.values[i * 3] *= 65536;
  const LinearModel stretched = linear(data, {.loss = GetParam(), .cost = 1e6});
  EXPECT_NEAR(stretched.weights[0] * 65536, plain.weights[0], 1e-5);
  EXPECT_NEAR(stretched.weights[1], plain.weights[1], 1e-5);
  EXPECT_NEAR(stretched.bias, plain.bias, 1e-5);
}

// Here full Newton steps on the logistic loss run away; only the line search leads to the optimum.
TEST_P(LinearLosses, HeavyTailsDoNoHarm) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Dataset data = curved(500, 2, seed);
    for (float& value : data.values) value = std::exp(4 * value);
    Random noise(seed, 1);
    for (std::size_t i = 0; i < data.rows; ++i)
      data.target[i] = data.row(i)[0] - data.row(i)[1] + 0.1 * noise.normal() > 0 ? 1.0F : 0.0F;
    Eigen::VectorXd at_start, at_end;
    linear_objective(data, options, {Eigen::VectorXd::Zero(2), 0}, &at_start);
    linear_objective(data, options, linear(data, options), &at_end);
    EXPECT_LE(at_end.lpNorm<Eigen::Infinity>(), 1e-7 * at_start.lpNorm<Eigen::Infinity>()) << "seed " << seed;
  }
}

TEST_P(LinearLosses, SeparableClassesAreSeparated) {
  Dataset data = curved(200, 2, 5);
  for (std::size_t i = 0; i < data.rows; ++i) data.target[i] = data.row(i)[0] > 0.1F ? 1.0F : 0.0F;
  const LinearModel model = linear(data, {.loss = GetParam(), .cost = 1e6});
  for (std::size_t i = 0; i < data.rows; ++i)
    EXPECT_EQ(linear_score(model, data.row(i)) > 0, data.target[i] > 0) << "row " << i;
}

TEST_P(LinearLosses, ThreadsDoNotChangeABit) {
  const Dataset data = curved(20000, 5, 6);
  const LinearModel one = linear(data, options, 1);
  EXPECT_TRUE(same(one, linear(data, options, 2)));
  EXPECT_TRUE(same(one, linear(data, options, 3)));
}

TEST_P(LinearLosses, DataAtFaultIsNamed) {
  Dataset data = curved(20, 3, 7);
  data.values[3 * 11 + 2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_ERROR_SAYS("feature 2 of row 11 (counted from 0) is missing", linear(data, options));
  data.values[3 * 11 + 2] = std::numeric_limits<float>::infinity();
  EXPECT_ERROR_SAYS("feature 2 of row 11 (counted from 0) is infinite", linear(data, options));
  data = curved(20, 3, 7);
  std::fill(data.target.begin(), data.target.end(), 1.0F);
  EXPECT_ERROR_SAYS("all 20 rows have the label 1", linear(data, options));
  EXPECT_ERROR_SAYS("there are no rows", linear({}, options));
}

// --- interruption --------------------------------------------------------------------------------------

/// Trains in as many runs as `interruptions` has entries, plus one; each is interrupted at its so-manieth
/// poll, and the next resumes from its checkpoint.
template <class Train>
auto in_pieces(const std::vector<int>& interruptions, Train train) {
  const Folder folder;
  const auto path = folder / "checkpoint";
  for (const int polls : interruptions) {
    polls_before_interrupt = polls;
    EXPECT_THROW(train(Checkpoint(path, "fingerprint", true)), Interrupted);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  polls_before_interrupt = -1;
  const Checkpoint last(path, "fingerprint", true);
  auto model = train(last);
  last.remove();
  return model;
}

TEST_P(LinearLosses, ResumedTrainingEndsWithTheSameBits) {
  const Dataset data = curved(3000, 5, 8);
  Threads threads(2);
  const auto resumed = in_pieces({0, 2, 1}, [&](const Checkpoint& checkpoint) {
    return train_linear(data, options, {.threads = threads, .label = "linear", .checkpoint = checkpoint});
  });
  EXPECT_TRUE(same(resumed, linear(data, options)));
}

TEST(Network, ResumedTrainingEndsWithTheSameBits) {
  const Dataset data = curved(900, 5, 9), validation = curved(300, 5, 10);
  // Three batches to an epoch; interrupted at the start, within and between epochs.
  NetworkOptions options{.hidden = {9, 5}, .weight_decay = 0.01, .dropout = 0.2, .batch = 300, .epochs = 12};
  for (const unsigned patience : {0U, 4U}) {
    options.patience = patience;
    Threads threads(2);
    const auto resumed = in_pieces({0, 4, 3, 8}, [&](const Checkpoint& checkpoint) {
      return train_network(data, validation, options,
                           {.threads = threads, .seed = 5, .label = "network", .checkpoint = checkpoint});
    });
    EXPECT_TRUE(same(resumed, network(data, options, validation))) << "patience " << patience;
  }
}

// --- the inner loops -----------------------------------------------------------------------------------

/// Every variant that this processor runs.
std::vector<const Dense*> variants() {
  std::vector<const Dense*> found = {&dense()};
  for (const int level : {2, 3, 4})
    if (const Dense* variant = dense_level(level); variant && variant != &dense()) found.push_back(variant);
  return found;
}

std::vector<float> normals(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

TEST(Dense, ProductsAgreeWithFloat64) {
  for (const Dense* kernels : variants()) {
    for (const std::size_t n : {16U, 32U, 48U, 64U, 80U, 128U})
      for (const std::size_t m : {1U, 2U, 3U, 7U, 8U, 13U, 33U})
        for (const std::size_t k : {1U, 2U, 15U, 70U})
          for (const bool transposed : {false, true}) {
            const auto a = normals(m * k, 1), b = normals(k * n, 2), start = normals(m * n, 3);
            std::vector<float> c = start;
            kernels->multiply({.m = m,
                               .n = n,
                               .k = k,
                               .a = a.data(),
                               .a_row = transposed ? 1 : k,
                               .a_column = transposed ? m : 1,
                               .b = b.data(),
                               .b_row = n,
                               .start = c.data(),
                               .start_row = n,
                               .c = c.data(),
                               .c_row = n});
            for (std::size_t i = 0; i < m; ++i)
              for (std::size_t j = 0; j < n; ++j) {
                double expected = start[i * n + j];
                for (std::size_t l = 0; l < k; ++l)
                  expected += double{transposed ? a[l * m + i] : a[i * k + l]} * double{b[l * n + j]};
                ASSERT_NEAR(c[i * n + j], expected, 2e-5)
                    << m << " x " << k << " x " << n << ", " << i << ", " << j;
              }
          }
  }
}

TEST(Dense, ProductsStartAtABiasOrAtZero) {
  const auto a = normals(5 * 3, 1), b = normals(3 * 32, 2), bias = normals(32, 3);
  for (const Dense* kernels : variants()) {
    std::vector<float> with(5 * 32), without(5 * 32, 99);
    Dense::Product product{.m = 5,
                           .n = 32,
                           .k = 3,
                           .a = a.data(),
                           .a_row = 3,
                           .a_column = 1,
                           .b = b.data(),
                           .b_row = 32,
                           .start = bias.data(),
                           .start_row = 0,
                           .c = with.data(),
                           .c_row = 32};
    kernels->multiply(product);
    product.start = nullptr;
    product.c = without.data();
    kernels->multiply(product);
    for (std::size_t i = 0; i < with.size(); ++i) EXPECT_NEAR(with[i] - without[i], bias[i % 32], 1e-5);
  }
}

TEST(Dense, ActivationsAndTheirDerivativesAgreeWithTheLibrary) {
  std::vector<float> x;
  for (int i = -16 * 100; i < 16 * 100; ++i) x.push_back(static_cast<float>(i) * 0.0625F);  // -100 to 100
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  for (const Dense* kernels : variants()) {
    auto y = x;
    kernels->activate(NetworkActivation::sigmoid, y.size(), y.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], sigmoid(x[i]), 2e-7) << x[i];
    std::vector<float> delta(x.size(), 3);
    kernels->differentiate(NetworkActivation::sigmoid, y.size(), y.data(), delta.data());
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(delta[i], 3 * sigmoid(x[i]) * sigmoid(-x[i]), 1e-6);

    y = x;
    kernels->activate(NetworkActivation::tanh, y.size(), y.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], std::tanh(x[i]), 3e-7) << x[i];
    std::fill(delta.begin(), delta.end(), 3.0F);
    kernels->differentiate(NetworkActivation::tanh, y.size(), y.data(), delta.data());
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(delta[i], 3 / std::pow(std::cosh(double{x[i]}), 2), 3e-6);

    y = x;
    kernels->activate(NetworkActivation::relu, y.size(), y.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i], std::max(x[i], 0.0F));
    std::fill(delta.begin(), delta.end(), 3.0F);
    kernels->differentiate(NetworkActivation::relu, y.size(), y.data(), delta.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(delta[i], x[i] > 0 ? 3 : 0);
  }
}

TEST(Dense, NothingHidesNaN) {
  for (const Dense* kernels : variants())
    for (const auto activation :
         {NetworkActivation::relu, NetworkActivation::sigmoid, NetworkActivation::tanh}) {
      std::vector<float> values(16, std::numeric_limits<float>::quiet_NaN());
      kernels->activate(activation, values.size(), values.data());
      EXPECT_TRUE(std::isnan(values[0]));
      std::vector<float> logits(16, 1), delta(16);
      logits[1] = std::numeric_limits<float>::quiet_NaN();
      const float target = 0;
      EXPECT_TRUE(std::isnan(kernels->cross_entropy(1, 2, 16, logits.data(), &target, 1, delta.data())));
    }
}

TEST(Dense, CrossEntropyAndItsGradientAgreeWithFloat64) {
  constexpr std::size_t rows = 64, classes = 3;
  auto logits = normals(rows * 16, 4);
  for (float& logit : logits) logit *= 20;
  std::vector<float> target(rows), delta(rows * 16);
  for (std::size_t i = 0; i < rows; ++i) target[i] = static_cast<float>(i % classes);
  for (const Dense* kernels : variants()) {
    const double loss =
        kernels->cross_entropy(rows, classes, 16, logits.data(), target.data(), 0.5F, delta.data());
    double expected = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      const float* const z = logits.data() + i * 16;
      double sum = 0;
      for (std::size_t j = 0; j < classes; ++j) sum += std::exp(double{z[j]});
      expected += std::log(sum) - double{z[i % classes]};
      for (std::size_t j = 0; j < 16; ++j)
        EXPECT_NEAR(delta[i * 16 + j],
                    j < classes ? 0.5 * (std::exp(double{z[j]}) / sum - (j == i % classes)) : 0, 1e-6);
    }
    EXPECT_NEAR(loss, expected, 1e-5 * expected);
  }
}

TEST(Dense, AdamIsTheFormulaOfThePaper) {
  constexpr double rate = 0.01, beta1 = 0.9, beta2 = 0.999, decay = 0.1;
  for (const Dense* kernels : variants()) {
    auto parameters = normals(32, 5);
    std::vector<float> mean(32), variance(32);
    std::vector<double> p(parameters.begin(), parameters.end()), m(32), v(32);
    for (int t = 1; t <= 20; ++t) {
      const auto gradient = normals(32, 100 + static_cast<std::uint64_t>(t));
      kernels->adam({.rate = static_cast<float>(rate),
                     .beta1 = static_cast<float>(beta1),
                     .beta2 = static_cast<float>(beta2),
                     .epsilon = 1e-8F,
                     .decay = static_cast<float>(decay),
                     .mean_scale = static_cast<float>(1 / (1 - std::pow(beta1, t))),
                     .variance_scale = static_cast<float>(1 / (1 - std::pow(beta2, t)))},
                    32, gradient.data(), parameters.data(), mean.data(), variance.data());
      for (std::size_t i = 0; i < 32; ++i) {
        const double g = gradient[i];
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        const double step =
            m[i] / (1 - std::pow(beta1, t)) / (std::sqrt(v[i] / (1 - std::pow(beta2, t))) + 1e-8);
        p[i] -= rate * (step + decay * p[i]);
      }
    }
    for (std::size_t i = 0; i < 32; ++i) EXPECT_NEAR(parameters[i], p[i], 2e-5);
  }
}

// --- networks ------------------------------------------------------------------------------------------

class NetworkActivations : public testing::TestWithParam<NetworkActivation> {};
INSTANTIATE_TEST_SUITE_P(All, NetworkActivations,
                         testing::Values(NetworkActivation::none, NetworkActivation::relu,
                                         NetworkActivation::sigmoid, NetworkActivation::tanh));

TEST_P(NetworkActivations, LossAgreesWithFloat64) {
  const Dataset data = curved(333, 5, 11);
  const Network model = random_network({5, 17, 33, 2}, GetParam(), 12);
  const double expected = reference_loss(model, data);
  EXPECT_NEAR(network_loss(model, data, nullptr), expected, 1e-6 * (1 + expected));
}

// The differences are taken in float64; the gradient under test is float32.
TEST_P(NetworkActivations, GradientIsThatOfTheLoss) {
  const Dataset data = curved(70, 3, 13);
  Network model = random_network({3, 5, 18, 2}, GetParam(), 14);
  Eigen::VectorXf gradient;
  network_loss(model, data, &gradient);
  Eigen::Index at = 0;
  const auto check = [&](float& parameter) {
    const float original = parameter, up = original + 1e-4F, down = original - 1e-4F;
    parameter = up;
    const double above = reference_loss(model, data);
    parameter = down;
    const double below = reference_loss(model, data);
    parameter = original;
    ASSERT_LT(at, gradient.size());
    EXPECT_NEAR(gradient[at], (above - below) / (double{up} - double{down}), 2e-5) << "parameter " << at;
    ++at;
  };
  for (NetworkLayer& layer : model.layers) {
    for (Eigen::Index i = 0; i < layer.weights.size(); ++i) check(layer.weights.data()[i]);
    for (Eigen::Index i = 0; i < layer.bias.size(); ++i) check(layer.bias[i]);
  }
  EXPECT_EQ(at, gradient.size());
}

// A network without activations is linear and cannot.
TEST_P(NetworkActivations, LearnExclusiveOr) {
  const Dataset data = exclusive_or();
  const Network model =
      network(data, {.hidden = {8}, .activation = GetParam(), .rate = 0.05, .batch = 100, .epochs = 300});
  const bool linear_only = GetParam() == NetworkActivation::none;
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(network_probability(model, data.row(i)), linear_only ? 0.5F : data.target[i], 0.05);
}

TEST(Network, NoHiddenLayerIsLogisticRegression) {
  const Dataset data = curved(2000, 4, 15);
  const LinearModel expected = linear(data, {.cost = 1e6});
  const Network model = network(data, {.hidden = {}, .rate = 0.01, .batch = 2000, .epochs = 2000});
  for (std::size_t i = 0; i < 50; ++i)
    EXPECT_NEAR(network_probability(model, data.row(i)),
                1 / (1 + std::exp(-linear_score(expected, data.row(i)))), 1e-3);
}

TEST(Network, ThreadsDoNotChangeABit) {
  const Dataset data = curved(3100, 5, 16), validation = curved(1500, 5, 17);
  const NetworkOptions options{
      .hidden = {14, 30}, .weight_decay = 0.01, .dropout = 0.1, .batch = 1500, .epochs = 5, .patience = 3};
  const Network one = network(data, options, validation, 1);
  EXPECT_TRUE(same(one, network(data, options, validation, 2)));
  EXPECT_TRUE(same(one, network(data, options, validation, 3)));
}

// Without patience the same training, stopped after each number of epochs, shows what patience saw.
TEST(Network, PatienceKeepsTheBestAndStopsInTime) {
  const Dataset data = curved(60, 4, 18), validation = curved(200, 4, 19);
  NetworkOptions options{.hidden = {30}, .rate = 0.02, .batch = 60, .epochs = 1};
  std::vector<Network> after;
  std::vector<double> losses;
  for (; options.epochs <= 60; ++options.epochs) {
    after.push_back(network(data, options, validation));
    losses.push_back(network_loss(after.back(), validation, nullptr));
  }
  options.patience = 5;
  std::size_t best = 0, epoch = 1;
  for (; epoch < losses.size() && epoch - best < options.patience; ++epoch)
    if (losses[epoch] < losses[best]) best = epoch;
  ASSERT_LT(epoch, losses.size()) << "this data must overfit for the test to mean anything";
  EXPECT_TRUE(same(network(data, options, validation), after[best]));
}

TEST(Network, WeightDecayShrinksWeights) {
  const Dataset data = curved(500, 4, 20);
  NetworkOptions options{.hidden = {10}, .rate = 0.01, .batch = 100, .epochs = 100};
  const double free = network(data, options).layers[0].weights.norm();
  options.weight_decay = 1;
  EXPECT_LT(network(data, options).layers[0].weights.norm(), 0.7 * free);
}

/// A rate too small to change any weight.
constexpr double no_rate = 1e-30;

// The batch is all rows, so that shuffling changes nothing but rounding.
TEST(Network, TrainingIsAdamOnTheGradient) {
  const Dataset data = curved(200, 3, 22);
  NetworkOptions options{.hidden = {6},
                         .activation = NetworkActivation::tanh,
                         .rate = no_rate,
                         .weight_decay = 0.5,
                         .batch = 1000,
                         .epochs = 1};
  Network expected = network(data, options);
  options.rate = 0.01;
  options.epochs = 30;
  const Network trained = network(data, options);

  std::vector<double> mean(6 * 3 + 6 + 2 * 6 + 2), variance(mean.size());
  for (unsigned t = 1; t <= options.epochs; ++t) {
    Eigen::VectorXf gradient;
    network_loss(expected, data, &gradient);
    std::size_t i = 0;
    const auto step = [&](float& parameter, double decay) {
      const double g = gradient[static_cast<Eigen::Index>(i)];
      mean[i] = 0.9 * mean[i] + 0.1 * g;
      variance[i] = 0.999 * variance[i] + 0.001 * g * g;
      const double change =
          mean[i] / (1 - std::pow(0.9, t)) / (std::sqrt(variance[i] / (1 - std::pow(0.999, t))) + 1e-8);
      parameter = static_cast<float>(double{parameter} - options.rate * (change + decay * double{parameter}));
      ++i;
    };
    for (NetworkLayer& layer : expected.layers) {
      for (float& weight : layer.weights.reshaped()) step(weight, options.weight_decay);
      for (float& bias : layer.bias) step(bias, 0);
    }
  }
  for (std::size_t l = 0; l < 2; ++l) {
    EXPECT_TRUE(trained.layers[l].weights.isApprox(expected.layers[l].weights, 1e-4F)) << "layer " << l;
    EXPECT_TRUE(trained.layers[l].bias.isApprox(expected.layers[l].bias, 1e-4F)) << "layer " << l;
  }
}

// With one hidden unit, which the generator drops for both rows, nothing but the last bias could learn.
TEST(Network, DroppedUnitsLearnNothing) {
  const Dataset data{.rows = 2, .features = 1, .values = {1, 2}, .target = {0, 1}};
  NetworkOptions options{
      .hidden = {1}, .activation = NetworkActivation::none, .rate = no_rate, .dropout = 0.99, .epochs = 1};
  const Network before = network(data, options);
  options.rate = 0.1;
  const Network dropped = network(data, options);
  EXPECT_EQ(dropped.layers[0].weights, before.layers[0].weights);
  EXPECT_EQ(dropped.layers[1].weights, before.layers[1].weights);
  options.dropout = 0;
  const Network kept = network(data, options);
  EXPECT_NE(kept.layers[0].weights, before.layers[0].weights);
  EXPECT_NE(kept.layers[1].weights, before.layers[1].weights);
}

// Kept units are scaled up, so a linear network trained with dropout predicts without it what a logistic
// regression does.
TEST(Network, DropoutLeavesPredictionsTheirScale) {
  const Dataset data = curved(2000, 4, 23);
  const LinearModel expected = linear(data);
  const Network model = network(data, {.hidden = {64},
                                       .activation = NetworkActivation::none,
                                       .rate = 0.003,
                                       .dropout = 0.5,
                                       .batch = 500,
                                       .epochs = 100});
  double difference = 0;
  for (std::size_t i = 0; i < data.rows; ++i)
    difference += std::abs(network_probability(model, data.row(i)) -
                           1 / (1 + std::exp(-linear_score(expected, data.row(i)))));
  EXPECT_LT(difference / static_cast<double>(data.rows), 0.02);
}

TEST(Network, DataAndOptionsAtFaultAreNamed) {
  Dataset data = curved(20, 3, 21);
  const Dataset good = data;
  EXPECT_ERROR_SAYS("the loss is no longer finite in epoch 2", network(data, {.rate = 1e20, .epochs = 5}));
  EXPECT_ERROR_SAYS("lower the learning rate (it is 1e+20)", network(data, {.rate = 1e20, .epochs = 5}));
  EXPECT_ERROR_SAYS("patience needs validation rows", network(data, {.patience = 3}));
  EXPECT_ERROR_SAYS("softmax cannot be", network(data, {.activation = NetworkActivation::softmax}));
  EXPECT_ERROR_SAYS("hidden layer has no units", network(data, {.hidden = {4, 0}}));
  EXPECT_ERROR_SAYS("batch is 0", network(data, {.batch = 0}));
  EXPECT_ERROR_SAYS("dropout must be", network(data, {.dropout = 1}));
  data.values[3 * 4 + 1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_ERROR_SAYS("feature 1 of row 4 (counted from 0) is missing", network(data, {}));
  EXPECT_ERROR_SAYS("feature 1 of row 4 (counted from 0) is missing", network(good, {.patience = 1}, data));
  std::fill(data.target.begin(), data.target.end(), 0.0F);
  EXPECT_ERROR_SAYS("all 20 rows have the label 0", network(data, {}));
}

// --- calibration ---------------------------------------------------------------------------------------

struct Scored {
  std::vector<double> score;
  std::vector<float> target;
};

Scored scored(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  Scored result;
  for (std::size_t i = 0; i < count; ++i) {
    const double score = 3 * random.normal() + 1;
    result.score.push_back(score);
    result.target.push_back(random.uniform() < 1 / (1 + std::exp(1 - 0.6 * score)) ? 1.0F : 0.0F);
  }
  return result;
}

double smoothed_loss(const Scored& data, double slope, double intercept) {
  const auto positive = static_cast<double>(std::count(data.target.begin(), data.target.end(), 1.0F));
  const double negative = static_cast<double>(data.target.size()) - positive;
  double loss = 0;
  for (std::size_t i = 0; i < data.score.size(); ++i) {
    const double p = 1 / (1 + std::exp(-(slope * data.score[i] + intercept)));
    const double goal = data.target[i] > 0 ? (positive + 1) / (positive + 2) : 1 / (negative + 2);
    loss -= goal * std::log(p) + (1 - goal) * std::log(1 - p);
  }
  return loss;
}

/// Where a convex function of one variable is smallest, by ternary search.
template <class Function>
double smallest(double low, double high, Function function) {
  for (int i = 0; i < 60; ++i) {
    const double a = low + (high - low) / 3, b = high - (high - low) / 3;
    (function(a) < function(b) ? high : low) = function(a) < function(b) ? b : a;
  }
  return low;
}

TEST(Calibration, PlattFindsTheOptimumThatASearchFinds) {
  const Scored data = scored(80, 1);
  const auto best_intercept = [&](double slope) {
    return smallest(-10, 10, [&](double intercept) { return smoothed_loss(data, slope, intercept); });
  };
  const double slope = smallest(-10, 10, [&](double s) { return smoothed_loss(data, s, best_intercept(s)); });
  const Calibration found = fit_platt(data.score, data.target);
  EXPECT_EQ(found.method, Calibration::Method::sigmoid);
  EXPECT_NEAR(found.slope, slope, 1e-5);
  EXPECT_NEAR(found.intercept, best_intercept(slope), 1e-5);
  EXPECT_NEAR(calibrated(found, 0.5), 1 / (1 + std::exp(-(0.5 * found.slope + found.intercept))), 1e-15);
}

TEST(Calibration, PlattStandsSeparableAndHugeScores) {
  const Scored separable{{-2000, -1000, 1000, 2000}, {0, 0, 1, 1}};
  const Calibration found = fit_platt(separable.score, separable.target);
  // The smoothed targets are 1/4 and 3/4.
  EXPECT_NEAR(calibrated(found, -2000) + calibrated(found, 2000), 1, 1e-9);
  EXPECT_GT(calibrated(found, 1000), 0.5);
  EXPECT_LT(calibrated(found, 2000), 1);
}

/// The isotonic fit by its closed form: the largest over j <= i of the smallest over k >= i of mean(j..k).
std::vector<double> isotonic_reference(const std::vector<double>& sorted_targets) {
  const std::size_t n = sorted_targets.size();
  std::vector<double> fit(n, 0);
  for (std::size_t j = 0; j < n; ++j) {
    std::vector<double> mean(n);
    double sum = 0;
    for (std::size_t k = j; k < n; ++k) mean[k] = (sum += sorted_targets[k]) / static_cast<double>(k - j + 1);
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = n; i-- > j;) {
      least = std::min(least, mean[i]);
      fit[i] = std::max(fit[i], least);
    }
  }
  return fit;
}

TEST(Calibration, IsotonicIsTheLeastSquaresFit) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const Scored data = scored(400, seed);
    std::vector<std::size_t> order(data.score.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return data.score[a] < data.score[b]; });
    std::vector<double> sorted;
    for (const std::size_t i : order) sorted.push_back(data.target[i]);
    const auto expected = isotonic_reference(sorted);
    const Calibration found = fit_isotonic(data.score, data.target, 1000);
    for (std::size_t i = 0; i < order.size(); ++i)  // as the runtime sees the score: in float32
      EXPECT_NEAR(calibrated(found, static_cast<float>(data.score[order[i]])), expected[i], 1e-6);
  }
}

TEST(Calibration, IsotonicPoolsEqualScores) {
  const std::vector<double> score = {1, 2, 2, 2, 2, 3};
  const std::vector<float> target = {0, 1, 0, 0, 0, 1};
  const Calibration found = fit_isotonic(score, target);
  EXPECT_EQ(found.x, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(found.y, (std::vector<float>{0, 0.25, 1}));
  EXPECT_EQ(calibrated(found, -5), 0);
  EXPECT_DOUBLE_EQ(calibrated(found, 2.5), 0.625);
  EXPECT_EQ(calibrated(found, 5), 1);
}

TEST(Calibration, IsotonicKeepsAtMostSoManyPointsAndRises) {
  const Scored data = scored(20000, 6);
  const Calibration full = fit_isotonic(data.score, data.target, 100000);
  ASSERT_GT(full.x.size(), 40U);
  const Calibration thinned = fit_isotonic(data.score, data.target, 40);
  EXPECT_EQ(thinned.x.size(), 40U);
  EXPECT_EQ(thinned.x.front(), full.x.front());
  EXPECT_EQ(thinned.x.back(), full.x.back());
  for (std::size_t i = 1; i < thinned.x.size(); ++i) {
    EXPECT_LT(thinned.x[i - 1], thinned.x[i]);
    EXPECT_LE(thinned.y[i - 1], thinned.y[i]);
  }
  double mean_change = 0;
  for (const double score : data.score)
    mean_change += std::abs(calibrated(full, score) - calibrated(thinned, score));
  EXPECT_LT(mean_change / static_cast<double>(data.score.size()), 0.005);
}

TEST(Calibration, ScoresAtFaultAreNamed) {
  Scored data = scored(10, 7);
  data.score[3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_ERROR_SAYS("the score of row 3 (counted from 0) is not finite", fit_platt(data.score, data.target));
  EXPECT_ERROR_SAYS("the score of row 3 (counted from 0) is not finite",
                    fit_isotonic(data.score, data.target));
  std::fill(data.target.begin(), data.target.end(), 1.0F);
  EXPECT_ERROR_SAYS("all 10 rows have the label 1", fit_platt(data.score, data.target));
  EXPECT_ERROR_SAYS("all 10 rows have the label 1", fit_isotonic(data.score, data.target));
}

// --- principal components ------------------------------------------------------------------------------

/// Six correlated features of different scale, far from the origin.
Dataset correlated(std::size_t rows) {
  Dataset data{.rows = rows, .features = 6, .values = {}, .target = std::vector<float>(rows)};
  Random random(3);
  for (std::size_t i = 0; i < rows; ++i) {
    const double a = random.normal(), b = random.normal();
    for (int j = 0; j < 6; ++j)
      data.values.push_back(static_cast<float>(100 + (j + 1) * a - (j - 3) * b + 0.3 * random.normal()));
  }
  return data;
}

double component(const Pca& pca, std::size_t i, std::size_t j) {
  return pca.components[i * pca.mean.size() + j];
}

TEST(Pca, ComponentsAreOrthonormalAndPointUp) {
  const Pca pca = fit_pca(correlated(5000), 6);
  for (std::size_t i = 0; i < 6; ++i) {
    double largest = 0;
    for (std::size_t k = 0; k <= i; ++k) {
      double dot = 0;
      for (std::size_t j = 0; j < 6; ++j) dot += component(pca, i, j) * component(pca, k, j);
      EXPECT_NEAR(dot, i == k, 1e-6);
    }
    for (std::size_t j = 0; j < 6; ++j)
      if (std::abs(component(pca, i, j)) > std::abs(largest)) largest = component(pca, i, j);
    EXPECT_GT(largest, 0);
  }
}

TEST(Pca, ProjectionsAreUncorrelatedAndHaveTheVarianceExplained) {
  const Dataset data = correlated(5000);
  const Pca pca = fit_pca(data, 4);
  ASSERT_EQ(pca.components.size(), 4U * 6U);
  std::vector<double> mean(6), projected(4);
  double total = 0, products[4][4] = {};
  for (std::size_t i = 0; i < data.rows; ++i)
    for (std::size_t j = 0; j < 6; ++j) mean[j] += double{data.row(i)[j]} / static_cast<double>(data.rows);
  for (std::size_t i = 0; i < data.rows; ++i) {
    std::fill(projected.begin(), projected.end(), 0.0);
    for (std::size_t j = 0; j < 6; ++j) {
      const double centred = double{data.row(i)[j]} - mean[j];
      total += centred * centred;
      for (std::size_t c = 0; c < 4; ++c) projected[c] += component(pca, c, j) * centred;
    }
    for (std::size_t c = 0; c < 4; ++c)
      for (std::size_t d = 0; d < 4; ++d) products[c][d] += projected[c] * projected[d];
  }
  for (std::size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(pca.mean[c], mean[c], 1e-5);
    EXPECT_NEAR(pca.explained[c], products[c][c] / total, 1e-6);
    for (std::size_t d = 0; d < c; ++d) {
      EXPECT_NEAR(products[c][d] / total, 0, 1e-6);
      EXPECT_GE(pca.explained[d], pca.explained[c]);
    }
  }
}

TEST(Pca, ConstantColumnsExplainNothing) {
  const Pca pca = fit_pca({.rows = 3, .features = 2, .values = {5, 1, 5, 1, 5, 1}, .target = {0, 1, 0}}, 2);
  EXPECT_EQ(pca.explained, (std::vector<double>{0, 0}));
}

TEST(Pca, DataAtFaultIsNamed) {
  Dataset data = correlated(10);
  EXPECT_ERROR_SAYS("7 components were asked for, but there are only 6", fit_pca(data, 7));
  data.values[6 * 2 + 5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_ERROR_SAYS("feature 5 of row 2 (counted from 0) is missing", fit_pca(data, 2));
  EXPECT_ERROR_SAYS("there are 1 rows", fit_pca({.rows = 1, .features = 1, .values = {1}, .target = {1}}, 1));
}

}  // namespace
}  // namespace tonearm
