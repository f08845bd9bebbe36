// Quantization, against an evaluation of the same networks in float64 that is written here, and by the
// properties that define it.

#include "quantize/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/random.h"
#include "conformance/models.h"
#include "emit/emit.h"
#include "emit/networks.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

using schema::WeightFormat;
using To = OperatorPlan::To;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
const QuantizeOptions to_int8{WeightFormat::Int8, true, false},
    to_float16{WeightFormat::Float16, true, false};

using Numbers = std::vector<Eigen::VectorXd>;

/// What codes make of a number: a multiple of 1 / factor, at most 127 of them.
double coded(double x, double factor) { return std::clamp(std::round(x * factor), -127.0, 127.0) / factor; }

/// Rows of weights as int8 keeps them, inputs with their factors folded in.
Eigen::MatrixXd coded_rows(const Eigen::MatrixXf& weights, const std::vector<double>& factors) {
  Eigen::MatrixXd rows = weights.cast<double>();
  for (Eigen::Index r = 0; r < rows.rows(); ++r) {
    double largest = 0;
    for (Eigen::Index c = 0; c < rows.cols(); ++c)
      largest = std::max(largest, std::abs(rows(r, c)) / factors[static_cast<std::size_t>(c)]);
    for (Eigen::Index c = 0; c < rows.cols() && largest > 0; ++c) {
      const double factor = factors[static_cast<std::size_t>(c)];
      rows(r, c) = coded(rows(r, c) / factor, 127 / largest) * factor;
    }
  }
  return rows;
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

/// The states of a layer after each step, in float64. `rounded`: weights, inputs and the h that the next step
/// reads are those that int8 keeps, everything between them is exact.
Numbers run_layer(const RecurrentLayer& layer, const Numbers& steps, const std::vector<double>& factors,
                  bool rounded) {
  const auto units = static_cast<Eigen::Index>(layer.units());
  const std::vector<double> of_states(layer.units(), 127);
  const Eigen::MatrixXd input = rounded ? coded_rows(layer.input, factors) : layer.input.cast<double>(),
                        recurrent =
                            rounded ? coded_rows(layer.recurrent, of_states) : layer.recurrent.cast<double>();
  Eigen::VectorXd h = Eigen::VectorXd::Zero(units), c = h;
  Numbers states(steps.size());
  const auto seen = [&](const Eigen::VectorXd& state) -> Eigen::VectorXd {
    return rounded ? state.unaryExpr([](double x) { return coded(x, 127); }) : state;
  };
  for (std::size_t n = 0; n < steps.size(); ++n) {
    const std::size_t step = layer.backward ? steps.size() - 1 - n : n;
    Eigen::VectorXd x = steps[step];
    for (Eigen::Index i = 0; i < x.size() && rounded; ++i)
      x[i] = coded(x[i], factors[static_cast<std::size_t>(i)]);
    const Eigen::VectorXd in = input * x + layer.bias.cast<double>(), back = recurrent * seen(h);
    const auto both = [&](Eigen::Index gate, Eigen::Index u) {
      return in[gate * units + u] + back[gate * units + u];
    };
    Eigen::VectorXd next(units);
    switch (layer.cell) {
      case Cell::rnn:
        for (Eigen::Index u = 0; u < units; ++u) next[u] = std::tanh(both(0, u));
        break;
      case Cell::rnn_relu:
        for (Eigen::Index u = 0; u < units; ++u) next[u] = std::max(0.0, both(0, u));
        break;
      case Cell::lstm:
        for (Eigen::Index u = 0; u < units; ++u) {
          c[u] = logistic(both(1, u)) * c[u] + logistic(both(0, u)) * std::tanh(both(2, u));
          next[u] = logistic(both(3, u)) * std::tanh(c[u]);
        }
        break;
      case Cell::gru:
        for (Eigen::Index u = 0; u < units; ++u) {
          const double of_n = back[2 * units + u] + static_cast<double>(layer.recurrent_bias[u]);
          const double z = logistic(both(1, u));
          next[u] = (1 - z) * std::tanh(in[2 * units + u] + logistic(both(0, u)) * of_n) + z * h[u];
        }
        break;
      case Cell::gru_reset_before: {
        Eigen::VectorXd reset(units);
        for (Eigen::Index u = 0; u < units; ++u) reset[u] = logistic(both(0, u)) * h[u];
        const Eigen::VectorXd of_n = recurrent.bottomRows(units) * seen(reset);
        for (Eigen::Index u = 0; u < units; ++u) {
          const double z = logistic(both(1, u));
          next[u] = (1 - z) * std::tanh(in[2 * units + u] + of_n[u]) + z * h[u];
        }
        break;
      }
    }
    states[step] = h = next;
  }
  return states;
}

/// The states of the highest level after each step.
Numbers run_network(const schema::RecurrentT& recurrent, unsigned width, Numbers steps, bool rounded) {
  const std::vector<unsigned> inputs = layer_inputs(recurrent, width);
  std::vector<double> factors(recurrent.input_factors.begin(), recurrent.input_factors.end());
  for (std::size_t i = 0; i < inputs.size();) {
    const unsigned level = recurrent.layers[i]->level;
    Numbers above(steps.size());
    for (; i < inputs.size() && recurrent.layers[i]->level == level; ++i) {
      const RecurrentLayer layer = unpack_layer(*recurrent.layers[i], inputs[i], WeightFormat::Float32);
      const Numbers states = run_layer(layer, steps, factors, rounded);
      for (std::size_t n = 0; n < steps.size(); ++n) {
        Eigen::VectorXd joined(above[n].size() + states[n].size());
        joined << above[n], states[n];
        above[n] = joined;
      }
    }
    steps = above;
    factors.assign(static_cast<std::size_t>(steps[0].size()), 127);
  }
  return steps;
}

schema::ModelT table_model(std::size_t columns) {
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.card->name = "by hand";
  for (std::size_t i = 0; i < columns; ++i) {
    model.columns.push_back(std::make_unique<schema::ColumnT>());
    model.columns.back()->name = "x" + std::to_string(i);
  }
  model.missing_fill.assign(columns, 0.0f);
  return model;
}

/// A network over the columns of a row, whose outputs are all states of its highest level.
schema::ModelT row_model(const SampleLayers& layers, unsigned steps, Random& random) {
  schema::ModelT model = table_model(std::size_t{layers.inputs} * steps);
  schema::RecurrentT recurrent = sample_recurrent(layers, random);
  recurrent.steps = static_cast<std::uint16_t>(steps);
  recurrent.all_steps = true;
  append_recurrent(model, std::move(recurrent), 0, model.columns.size(), schema::Phase::Candidate);
  return model;
}

std::vector<float> outputs_of(schema::ModelT model, const std::vector<float>& rows) {
  const Blob blob(pack(model), "a test's model");
  Threads one(1);
  return blob.evaluate_rows(rows, one);
}

std::vector<float> random_numbers(std::size_t count, Random& random) {
  std::vector<float> numbers;
  for (std::size_t i = 0; i < count; ++i) numbers.push_back(static_cast<float>(2 * random.uniform() - 1));
  return numbers;
}

/// A network over the session's ended tracks, each told by extra numbers.
schema::ModelT session_model(schema::RecurrentT recurrent, unsigned inputs) {
  schema::ModelT model = table_model(inputs);
  for (auto& column : model.columns) column->source = schema::Source::End;
  model.fields.assign(inputs, schema::Field::Extra);
  model.session = std::make_unique<schema::SessionRuleT>();
  model.label = std::make_unique<schema::LabelRuleT>();
  recurrent.sequence = schema::Sequence::Session;
  append_recurrent(model, std::move(recurrent), 0, inputs, schema::Phase::Context);
  return model;
}

/// Tracks that end, with the numbers given, and a question after each.
std::vector<SampleEvent> session_events(const std::vector<float>& numbers, unsigned inputs) {
  std::vector<SampleEvent> events;
  for (std::size_t first = 0; first < numbers.size(); first += inputs)
    for (const auto kind :
         {schema::GoldenEventKind::Start, schema::GoldenEventKind::End, schema::GoldenEventKind::Predict}) {
      SampleEvent event{};
      event.kind = kind;
      event.horizon = 1;
      tonearm_event& told = event.told;
      told.struct_size = sizeof told;
      tonearm_track_init(&told.track, sizeof told.track);
      tonearm_start_init(&told.start, sizeof told.start);
      tonearm_now_init(&told.now, sizeof told.now);
      tonearm_end_init(&told.end, sizeof told.end);
      event.extra[3].assign(numbers.begin() + static_cast<std::ptrdiff_t>(first),
                            numbers.begin() + static_cast<std::ptrdiff_t>(first + inputs));
      events.push_back(std::move(event));
    }
  return events;
}

std::vector<float> answers_of(schema::ModelT model, const std::vector<SampleEvent>& events) {
  const Blob blob(pack(model), "a test's session model");
  return replay(blob.model(), events);
}

/// Golden events of a session_model(), with outputs of nobody.
std::unique_ptr<schema::GoldenT> golden_events(const std::vector<float>& numbers, unsigned inputs,
                                               std::size_t outputs) {
  auto golden = std::make_unique<schema::GoldenT>();
  golden->tolerance = 1e-6f;
  for (const SampleEvent& event : session_events(numbers, inputs)) {
    golden->events.push_back(std::make_unique<schema::GoldenEventT>());
    golden->events.back()->kind = event.kind;
    golden->events.back()->horizon = 1;
    golden->rows.insert(golden->rows.end(), event.extra[3].begin(), event.extra[3].end());
    if (event.kind == schema::GoldenEventKind::Predict)
      golden->outputs.insert(golden->outputs.end(), outputs, 0.5f);
  }
  return golden;
}

tonearm_status self_test(schema::ModelT model) {
  const Blob blob(pack(model), "a test's model");
  std::vector<float> scratch(blob.scratch_elements());
  float largest = 0;
  return tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * sizeof(float), &largest);
}

std::string error_of(const schema::ModelT& model, const QuantizeOptions& options, const InputRanges& ranges) {
  try {
    quantize(model, options, ranges);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  EXPECT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

// --- Networks of codes -------------------------------------------------------------------------------

struct Case {
  std::string name;
  SampleLayers layers;
};

class EveryCell : public testing::TestWithParam<Case> {};

/// Fixed point adds little to what rounding weights, inputs and states to codes changes by itself: gates are
/// within 1.5e-4, their arguments within 2 / 2048, and a state is made of three gates at most.
TEST_P(EveryCell, CodesComputeTheNetworkOfRoundedWeights) {
  const SampleLayers& layers = GetParam().layers;
  constexpr unsigned steps = 12;
  Random random(7);
  const schema::ModelT model = row_model(layers, steps, random);
  const schema::ModelT quantized = quantize(model, to_int8, {});
  const auto& recurrent = *model.operators[0]->kind.AsRecurrent();
  ASSERT_EQ(quantized.operators[0]->kind.AsRecurrent()->format, WeightFormat::Int8);
  const std::vector<float> rows = random_numbers(20 * model.columns.size(), random);
  const std::vector<float> outputs = outputs_of(quantized, rows);
  double from_rounded = 0, from_exact = 0;
  for (std::size_t row = 0; row < 20; ++row) {
    Numbers in;
    for (unsigned n = 0; n < steps; ++n) {
      in.emplace_back(layers.inputs);
      for (unsigned i = 0; i < layers.inputs; ++i)
        in.back()[i] = static_cast<double>(rows[row * model.columns.size() + n * layers.inputs + i]);
    }
    const Numbers rounded = run_network(recurrent, layers.inputs, in, true),
                  exact = run_network(recurrent, layers.inputs, in, false);
    for (unsigned n = 0; n < steps; ++n)
      for (Eigen::Index u = 0; u < exact[n].size(); ++u) {
        const auto width = static_cast<std::size_t>(exact[n].size());
        const auto output =
            static_cast<double>(outputs[(row * steps + n) * width + static_cast<std::size_t>(u)]);
        from_rounded = std::max(from_rounded, std::abs(output - rounded[n][u]));
        from_exact = std::max(from_exact, std::abs(output - exact[n][u]));
      }
  }
  EXPECT_LT(from_rounded, 0.01);
  EXPECT_LT(from_exact, 0.03);
  EXPECT_GT(from_exact, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Quantize, EveryCell,
    testing::Values(Case{"rnn", {schema::Cell::Rnn, WeightFormat::Float32, 5, 9}},
                    Case{"rnn_backward", {schema::Cell::Rnn, WeightFormat::Float32, 5, 9, 1, false, true}},
                    Case{"lstm", {schema::Cell::Lstm, WeightFormat::Float32, 5, 17}},
                    Case{"lstm_both_stacked",
                         {schema::Cell::Lstm, WeightFormat::Float32, 4, 7, 2, true, true}},
                    Case{"gru", {schema::Cell::Gru, WeightFormat::Float32, 6, 20}},
                    Case{"gru_both_stacked", {schema::Cell::Gru, WeightFormat::Float32, 3, 5, 2, true, true}},
                    Case{"gru_reset_before", {schema::Cell::GruResetBefore, WeightFormat::Float32, 5, 18}},
                    Case{"gru_reset_before_both",
                         {schema::Cell::GruResetBefore, WeightFormat::Float32, 5, 6, 1, true, true}}),
    [](const auto& tested) { return tested.param.name; });

TEST(QuantizeSessions, StreamingGivesTheBitsOfRecomputing) {
  for (const auto cell :
       {schema::Cell::Rnn, schema::Cell::Lstm, schema::Cell::Gru, schema::Cell::GruResetBefore}) {
    Random random(3);
    schema::RecurrentT recurrent = sample_recurrent({cell, WeightFormat::Float32, 4, 11, 2}, random);
    const schema::ModelT streamed = session_model(recurrent, 4);
    recurrent.steps = 40;
    const schema::ModelT ring = session_model(recurrent, 4);
    const std::vector<SampleEvent> events = session_events(random_numbers(std::size_t{4} * 40, random), 4);
    const std::vector<float> a = answers_of(quantize(streamed, to_int8, {}), events);
    ASSERT_EQ(a.size(), 40u * 11);
    EXPECT_EQ(a, answers_of(quantize(ring, to_int8, {}), events)) << schema::EnumNameCell(cell);
  }
}

TEST(QuantizeSessions, ErrorsDoNotGrowAlongASession) {
  for (const auto cell :
       {schema::Cell::Rnn, schema::Cell::Lstm, schema::Cell::Gru, schema::Cell::GruResetBefore}) {
    constexpr std::size_t sessions = 8, tracks = 100, units = 16;
    double first = 0, last = 0;  // mean errors of tracks 1 to 20, and of the last 20
    for (std::size_t n = 0; n < sessions; ++n) {
      Random random(20 + n);
      const schema::ModelT model =
          session_model(sample_recurrent({cell, WeightFormat::Float32, 4, units}, random), 4);
      const std::vector<SampleEvent> events = session_events(random_numbers(4 * tracks, random), 4);
      const std::vector<float> exact = answers_of(model, events),
                               codes = answers_of(quantize(model, to_int8, {}), events);
      ASSERT_EQ(codes.size(), tracks * units);
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const auto error = static_cast<double>(std::abs(codes[i] - exact[i]));
        EXPECT_LT(error, 0.05);
        if (i / units < 20) first += error / (sessions * 20 * units);
        if (i / units >= tracks - 20) last += error / (sessions * 20 * units);
      }
    }
    EXPECT_GT(first, 0);
    EXPECT_LT(last, 1.2 * first) << schema::EnumNameCell(cell);
  }
}

TEST(QuantizeSessions, WhatStandsBeforeTheFirstStepIsInRange) {
  Random random(5);
  schema::RecurrentT recurrent =
      sample_recurrent({schema::Cell::Lstm, WeightFormat::Float32, 3, 6, 1, true, true}, random);
  recurrent.steps = 5;
  recurrent.padded = true;
  recurrent.padding = 9;  // far beyond the inputs' own ranges
  const schema::ModelT model = session_model(recurrent, 3);
  const schema::ModelT quantized = quantize(model, to_int8, {});
  for (const float factor : quantized.operators[0]->kind.AsRecurrent()->input_factors)
    EXPECT_LE(factor, 127.0f / 9);
  const std::vector<SampleEvent> events = session_events(random_numbers(std::size_t{3} * 8, random), 3);
  EXPECT_LT(largest_difference(answers_of(model, events), answers_of(quantized, events)), 0.15f);
}

TEST(QuantizeSessions, GoldenEventsAreAnsweredAgain) {
  Random random(9);
  schema::ModelT model =
      session_model(sample_recurrent({schema::Cell::Gru, WeightFormat::Float32, 3, 5}, random), 3);
  const std::vector<float> numbers = random_numbers(std::size_t{3} * 6, random);
  model.golden = golden_events(numbers, 3, 5);
  EXPECT_EQ(self_test(model), TONEARM_SELF_TEST_FAILED);
  schema::ModelT quantized = quantize(model, to_int8, {});
  refresh_golden(quantized);
  EXPECT_EQ(self_test(quantized), TONEARM_OK);
  // The very numbers that a player gets, negative ones too.
  EXPECT_EQ(quantized.golden->outputs, answers_of(quantized, session_events(numbers, 3)));
  EXPECT_LT(*std::min_element(quantized.golden->outputs.begin(), quantized.golden->outputs.end()), 0);
}

TEST(QuantizeSessions, RangesOfStepsAreMeasuredOnGoldenEvents) {
  Random random(9);
  schema::RecurrentT recurrent = sample_recurrent({schema::Cell::Gru, WeightFormat::Float32, 2, 5}, random);
  recurrent.input_factors.clear();  // as imports leave them
  schema::ModelT model = session_model(recurrent, 2);
  model.golden = golden_events({0.25f, -3, -0.5f, 1, 0.125f, 2}, 2, 5);
  EXPECT_NE(error_of(model, to_int8, {}).find("give --rows or --data"), std::string::npos);
  const InputRanges ranges = measure_ranges(model, to_int8, over_golden(model));
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0], (std::vector<float>{0.5f, 3}));
  const schema::ModelT quantized = quantize(model, to_int8, ranges);
  EXPECT_EQ(quantized.operators[0]->kind.AsRecurrent()->input_factors, (std::vector<float>{254, 127.0f / 3}));
}

TEST(Quantize, Float16IsNearerThanInt8) {
  Random random(4);
  const schema::ModelT model =
      row_model({schema::Cell::Lstm, WeightFormat::Float32, 4, 12, 2, true, true}, 6, random);
  const std::vector<float> rows = random_numbers(30 * model.columns.size(), random);
  const std::vector<float> exact = outputs_of(model, rows);
  const float half = largest_difference(exact, outputs_of(quantize(model, to_float16, {}), rows)),
              codes = largest_difference(exact, outputs_of(quantize(model, to_int8, {}), rows));
  EXPECT_GT(half, 0);
  EXPECT_LT(half, 2e-3f);
  EXPECT_LT(half, codes / 4);
}

TEST(Quantize, ReluCellsBecomeFloat16AndSayWhy) {
  Random random(4);
  const schema::ModelT model = row_model({schema::Cell::RnnRelu, WeightFormat::Float32, 4, 12}, 3, random);
  const OperatorPlan plan = plan_operator(model, 0, to_int8);
  EXPECT_EQ(plan.to, To::float16);
  EXPECT_NE(plan.why.find("no bound"), std::string::npos);
  const schema::ModelT quantized = quantize(model, to_int8, {});
  EXPECT_EQ(quantized.operators[0]->kind.AsRecurrent()->format, WeightFormat::Float16);
}

// --- Dense layers ------------------------------------------------------------------------------------

/// Two layers: inputs -> 16, relu -> 1.
schema::ModelT dense_model(std::size_t inputs, Random& random) {
  schema::ModelT model = table_model(inputs);
  append_affine(model, 0, inputs, random_numbers(16 * inputs, random), random_numbers(16, random),
                schema::Activation::Relu);
  append_affine(model, model.output_offset, 16, random_numbers(16, random), {0.5f}, schema::Activation::None);
  return model;
}

TEST(QuantizeDense, StaysWithinTheRoundingOfInputsAndWeights) {
  constexpr std::size_t inputs = 24;
  Random random(1);
  const schema::ModelT model = dense_model(inputs, random);
  std::vector<float> rows = random_numbers(200 * inputs, random);
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] *= static_cast<float>(1 + i % inputs);  // ranges differ
  Threads one(1);
  const InputRanges ranges = measure_ranges(model, to_int8, over_rows(rows, one));
  ASSERT_EQ(ranges[0].size(), inputs);
  const schema::ModelT quantized = quantize(model, to_int8, ranges);
  ASSERT_NE(quantized.operators[0]->kind.AsQuantizedAffine(), nullptr);
  // The hidden layer alone: each product may be off by half a step of the input and half a step of the
  // weight.
  schema::ModelT before = model, after = quantized;
  before.output_offset = after.output_offset = inputs;
  before.output_length = after.output_length = 16;
  const std::vector<float> exact = outputs_of(before, rows), codes = outputs_of(after, rows);
  const auto& weights = model.operators[0]->kind.AsAffine()->weights;
  for (std::size_t k = 0; k < 16; ++k) {
    double largest = 0, bound = 1e-4;
    for (std::size_t i = 0; i < inputs; ++i)
      largest = std::max(largest, static_cast<double>(std::abs(weights[k * inputs + i]) * ranges[0][i]));
    for (std::size_t i = 0; i < inputs; ++i)
      bound += (static_cast<double>(std::abs(weights[k * inputs + i]) * ranges[0][i]) + 1.01 * largest) / 254;
    for (std::size_t n = 0; n < 200; ++n)
      ASSERT_LE(std::abs(static_cast<double>(codes[n * 16 + k] - exact[n * 16 + k])), bound);
  }
  EXPECT_GT(largest_difference(exact, codes), 0);
}

TEST(QuantizeDense, AMissingInputStaysMissing) {
  constexpr std::size_t inputs = 24;
  Random random(1);
  schema::ModelT model = dense_model(inputs, random);
  model.missing_fill[3] = missing;
  EXPECT_EQ(plan_operator(model, 0, to_int8).to, To::float16);
  EXPECT_NE(plan_operator(model, 0, to_int8).why.find("missing"), std::string::npos);
  const schema::ModelT quantized = quantize(model, to_int8, {});
  std::vector<float> row = random_numbers(inputs, random);
  EXPECT_TRUE(std::isfinite(outputs_of(quantized, row)[0]));
  row[3] = missing;
  EXPECT_TRUE(std::isnan(outputs_of(model, row)[0]));
  EXPECT_TRUE(std::isnan(outputs_of(quantized, row)[0]));

  QuantizeOptions as_zero = to_int8;
  as_zero.missing_as_zero = true;
  EXPECT_EQ(plan_operator(model, 0, as_zero).to, To::int8);
  InputRanges ranges(2);
  ranges[0].assign(inputs, 1.0f);
  const schema::ModelT whole = quantize(model, as_zero, ranges);
  std::vector<float> zero = row;
  zero[3] = 0;
  EXPECT_EQ(outputs_of(whole, row), outputs_of(whole, zero));
}

TEST(QuantizeDense, WhatWouldGrowStaysAsItIs) {
  Random random(1);
  const schema::ModelT model = dense_model(24, random);
  EXPECT_EQ(plan_operator(model, 0, to_int8).to, To::int8);
  EXPECT_EQ(plan_operator(model, 1, to_int8).to, To::as_it_is);  // one row, filled up to sixteen
  EXPECT_NE(plan_operator(model, 1, to_int8).why.find("would become"), std::string::npos);
}

TEST(QuantizeDense, AnInputThatWasAlwaysZeroStillCounts) {
  Random random(1);
  const schema::ModelT model = dense_model(24, random);
  InputRanges ranges(2);
  ranges[0].assign(24, 1.0f);
  ranges[0][5] = 0;
  const schema::ModelT quantized = quantize(model, to_int8, ranges);
  std::vector<float> row(24, 0.0f);
  row[5] = 1;
  EXPECT_LT(largest_difference(outputs_of(model, row), outputs_of(quantized, row)), 0.1f);
  EXPECT_GT(largest_difference(outputs_of(model, row), outputs_of(model, std::vector<float>(24, 0.0f))),
            0.2f);
}

// --- Trees -------------------------------------------------------------------------------------------

TEST(QuantizeTrees, EveryKindOfEnsembleKeepsItsDecisions) {
  std::size_t quantized_samples = 0;
  for (const SampleModel& sample : sample_models()) {
    if (sample.model.session != nullptr || sample.model.operators.size() != 1 ||
        tree_inputs(*sample.model.operators[0]) == nullptr)
      continue;
    const OperatorPlan plan = plan_operator(sample.model, 0, to_int8);
    if (plan.to == To::as_it_is) {
      EXPECT_FALSE(plan.why.empty()) << sample.name;
      EXPECT_NE(error_of(sample.model, to_int8, {}).find("nothing to quantize"), std::string::npos);
      continue;
    }
    ++quantized_samples;
    const schema::ModelT quantized = quantize(sample.model, to_int8, {});
    const std::vector<float> exact = outputs_of(sample.model, sample.rows),
                             codes = outputs_of(quantized, sample.rows);
    const double bound = leaf_rounding(*quantized.operators[0]) + 1e-5;  // and the rounding of float32 sums
    EXPECT_EQ(leaf_rounding(*sample.model.operators[0]), 0);
    EXPECT_LE(static_cast<double>(largest_difference(exact, codes)), bound) << sample.name;
    EXPECT_LT(bound, 0.01) << sample.name;
    schema::ModelT before = sample.model, after = quantized;
    EXPECT_LT(pack(after).size(), pack(before).size()) << sample.name;
  }
  EXPECT_GE(quantized_samples, 4u);
}

// --- The whole ---------------------------------------------------------------------------------------

TEST(Quantize, GivesTheSameBytesAgainAndChangesNothingElse) {
  Random random(2);
  schema::ModelT model = dense_model(24, random);
  model.card->version = "3";
  add_golden(model, random_numbers(std::size_t{24} * 5, random));
  const InputRanges ranges = measure_ranges(model, to_int8, over_golden(model));
  schema::ModelT once = quantize(model, to_int8, ranges), again = quantize(model, to_int8, ranges);
  EXPECT_EQ(self_test(once), TONEARM_SELF_TEST_FAILED);  // the golden outputs are the old ones
  refresh_golden(once);
  refresh_golden(again);
  EXPECT_EQ(self_test(once), TONEARM_OK);
  EXPECT_EQ(once.golden->rows, model.golden->rows);
  EXPECT_EQ(once.card->version, "3");
  EXPECT_EQ(pack(once), pack(again));
}

TEST(Quantize, RefusesWhatItCannotDo) {
  Random random(2);
  const schema::ModelT dense = dense_model(24, random);
  InputRanges ranges(2);
  ranges[0].assign(24, 1.0f);
  const schema::ModelT quantized = quantize(dense, to_int8, ranges);
  EXPECT_NE(error_of(quantized, to_int8, {}).find("its weights are int8 already"), std::string::npos);
  EXPECT_NE(error_of(quantized, to_float16, {}).find("its weights are int8 already"), std::string::npos);
  EXPECT_NE(error_of(dense, {WeightFormat::Float32, true, false}, {}).find("nothing to quantize"),
            std::string::npos);
  EXPECT_NE(error_of(dense, to_int8, {}).find("give --rows or --data"), std::string::npos);
  ranges[0][7] = missing;
  EXPECT_NE(error_of(dense, to_int8, ranges).find("range of input 7 is nan"), std::string::npos);

  const schema::ModelT network = row_model({schema::Cell::Lstm, WeightFormat::Float32, 2, 4}, 3, random);
  const schema::ModelT codes = quantize(network, to_int8, {});
  EXPECT_NE(error_of(codes, to_int8, {}).find("its weights are int8 already"), std::string::npos);
}

TEST(Quantize, RefusesArgumentsBeyondWhatWholeNumbersHold) {
  Random random(2);
  schema::ModelT model = row_model({schema::Cell::Rnn, WeightFormat::Float32, 2, 4}, 3, random);
  schema::RecurrentT& recurrent = *model.operators[0]->kind.AsRecurrent();
  const Eigen::MatrixXf large = Eigen::MatrixXf::Constant(4, 2, 9e5f);
  recurrent.layers[0]->input_weights = pack_matrix(large, 1, WeightFormat::Float32);
  EXPECT_NE(error_of(model, to_int8, {}).find("too large for int8"), std::string::npos);
}

TEST(Quantize, FoldsTheRangesOfStepsIntoOne) {
  Random random(6);
  schema::ModelT model = row_model({schema::Cell::Lstm, WeightFormat::Float32, 2, 4}, 3, random);
  schema::RecurrentT& recurrent = *model.operators[0]->kind.AsRecurrent();
  recurrent.input_factors.clear();
  Threads one(1);
  const std::vector<float> rows = {1, -2, 0.5f, 0, -4, 1, 0, 0, 0, 0, 0, 8};
  EXPECT_EQ(measure_ranges(model, to_int8, over_rows(rows, one))[0], (std::vector<float>{4, 8}));
}

}  // namespace
}  // namespace tonearm
