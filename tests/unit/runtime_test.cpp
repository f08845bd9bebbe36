// The runtime through its C API: what it computes, in every floating-point mode, from any address and on
// any number of threads; what it answers to wrong arguments; and that it stays within its memory.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <tonearm/tonearm.h>
#include <unistd.h>
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "base/random.h"
#include "conformance/models.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "kernels.h"
#include "networks_reference.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

template <typename Union, typename Kind>
Union as(Kind kind) {
  Union result;
  result.Set(std::move(kind));
  return result;
}

schema::ModelT model_of_numbers(std::size_t columns) {
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.card->name = "numbers";
  for (std::size_t i = 0; i < columns; ++i) {
    model.columns.push_back(std::make_unique<schema::ColumnT>());
    model.columns.back()->name = std::to_string(i);
  }
  model.missing_fill.assign(columns, missing);
  return model;
}

/// A model that does nothing but encode its columns.
template <typename Encoder>
Blob encoding(schema::ModelT model, Encoder encoder, std::size_t outputs) {
  std::vector<std::uint16_t> inputs;
  for (std::size_t i = 0; i < model.columns.size(); ++i) inputs.push_back(static_cast<std::uint16_t>(i));
  model.output_offset = append_feature(model, inputs, outputs, as<schema::EncoderUnion>(std::move(encoder)));
  model.output_length = static_cast<std::uint16_t>(outputs);
  return Blob(pack(model), "the test's blob");
}

/// A model of one operator over all columns.
template <typename Kind>
Blob operating(std::size_t columns, Kind kind, std::size_t outputs) {
  schema::ModelT model = model_of_numbers(columns);
  append_sample_operator(model, 0, columns, outputs, as<schema::OperatorKindUnion>(std::move(kind)));
  return Blob(pack(model), "the test's blob");
}

std::vector<float> outputs_of(const Blob& blob, std::vector<float> row) {
  std::vector<float> out(blob.outputs());
  blob.evaluate(row, out);
  return out;
}

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// --- What the schema says, a second time -------------------------------------------------------------

// An interpreter of ModelT written from the words of the schema, one value at a time in float64; slots are
// float32 as it says. Slow, and nothing like the runtime.

double at(const std::vector<float>& slots, std::size_t slot) { return slots[slot]; }

/// The category a number stands for, or -1.
int category_of(double value, std::size_t count) {
  for (std::size_t c = 0; c < count; ++c)
    if (value == static_cast<double>(c)) return static_cast<int>(c);
  return -1;
}

std::vector<double> encoded(const schema::FeatureT& feature, const std::vector<float>& slots) {
  std::vector<double> out(feature.output_length, 0);
  const auto in = [&](std::size_t i) { return at(slots, feature.inputs[i]); };
  const schema::EncoderUnion& encoder = feature.encoder;
  double norm = 0;
  if (const auto* normalize = encoder.AsNormalize()) {
    double sum = 0, squares = 0, largest = double{std::numeric_limits<float>::lowest()};
    for (std::size_t i = 0; i < feature.inputs.size(); ++i) {
      sum += std::abs(in(i));
      squares += in(i)*in(i);
      largest = in(i) > largest ? in(i) : largest;
    }
    norm = normalize->norm == schema::Norm::L1   ? sum
           : normalize->norm == schema::Norm::L2 ? std::sqrt(squares)
                                                 : largest;
    if (norm == 0) norm = 1;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (encoder.AsIdentity()) out[i] = in(i);
    if (encoder.AsNormalize()) out[i] = in(i) / norm;
    if (const auto* scale = encoder.AsScale())
      out[i] = (in(i) - static_cast<double>(scale->center[i])) * static_cast<double>(scale->factor[i]);
    if (const auto* bucket = encoder.AsBucket()) {
      for (const float edge : bucket->edges) out[i] += static_cast<double>(edge) <= in(i) ? 1 : 0;
      if (std::isnan(in(i))) out[i] = in(i);
    }
    if (const auto* projection = encoder.AsProjection())
      for (std::size_t j = 0; j < feature.inputs.size(); ++j)
        out[i] += static_cast<double>(projection->components[i * feature.inputs.size() + j]) *
                  (in(j) - static_cast<double>(projection->mean[j]));
  }
  if (const auto* one_hot = encoder.AsOneHot()) {
    const int category = category_of(in(0), out.size() - (one_hot->unknown_slot ? 1 : 0));
    if (category >= 0) out[static_cast<std::size_t>(category)] = 1;
    if (category < 0 && one_hot->unknown_slot) out.back() = 1;
  }
  if (const auto* ordinal = encoder.AsOrdinal()) {
    const int category = category_of(in(0), ordinal->values.size());
    out[0] = category < 0 ? ordinal->unknown : ordinal->values[static_cast<std::size_t>(category)];
  }
  return out;
}

/// The byte of every slice.
std::vector<std::uint8_t> sliced(const schema::TreeInputsT& inputs, const std::vector<float>& slots,
                                 std::size_t first_slot) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t axis = 0; axis < inputs.slots.size(); ++axis) {
    const schema::MissingDirection to = inputs.missing[axis];
    double value = at(slots, first_slot + inputs.slots[axis]);
    if (std::isnan(value) && to == schema::MissingDirection::AsZero) value = 0;
    const std::int64_t begin = inputs.threshold_begin[axis], end = inputs.threshold_begin[axis + 1];
    std::int64_t rank = 0;
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int32_t key = inputs.thresholds[static_cast<std::size_t>(t)];
      rank += static_cast<double>(std::bit_cast<float>(key < 0 ? key ^ 0x7fffffff : key)) < value ? 1 : 0;
    }
    const bool zero_is_missing =
        to == schema::MissingDirection::ZeroLeft || to == schema::MissingDirection::ZeroRight;
    if (std::isnan(value) || (zero_is_missing && std::abs(value) <= static_cast<double>(1e-35f)))
      rank = to == schema::MissingDirection::Right || to == schema::MissingDirection::ZeroRight ? 1 << 30 : 0;
    for (std::int64_t slice = 0; slice == 0 || 255 * slice < end - begin; ++slice)
      bytes.push_back(static_cast<std::uint8_t>(std::clamp<std::int64_t>(rank - 255 * slice, 0, 255)));
  }
  std::size_t table = 0;
  for (std::size_t axis = 0; axis < inputs.category_slots.size(); ++axis) {
    const double value = at(slots, first_slot + inputs.category_slots[axis]);
    const std::size_t count = inputs.category_counts[axis], sets = inputs.category_slices[axis];
    const std::size_t row = std::isnan(value)         ? count + 1
                            : value > -1 && value < 0 ? count + 2
                            : value >= 0 && std::floor(value) < static_cast<double>(count)
                                ? static_cast<std::size_t>(value)
                                : count;
    for (std::size_t set = 0; set < sets; ++set)
      bytes.push_back(inputs.category_rows[table + row * sets + set]);
    table += (count + 3) * sets;
  }
  return bytes;
}

template <typename T>
T read(const std::vector<std::uint8_t>& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename TreesT>
double leaf_of(const TreesT& trees, std::size_t leaf) {
  switch (trees.leaf_format) {
    case schema::LeafFormat::Float32:
      return read<float>(trees.leaves, leaf * 4);
    case schema::LeafFormat::Int16:
      return read<std::int16_t>(trees.leaves, leaf * 2);
    case schema::LeafFormat::Palette8:
      return trees.palette[trees.leaves[leaf]];
    case schema::LeafFormat::Palette16:
      return trees.palette[read<std::uint16_t>(trees.leaves, leaf * 2)];
  }
  return 0;
}

std::size_t reached_leaf(const schema::BranchingTreesT& trees, const std::vector<std::uint8_t>& slices,
                         std::size_t tree) {
  if (trees.node_format == schema::NodeFormat::Complete) {
    const std::size_t leaves = std::size_t{1} << trees.depth;
    std::size_t node = 1;
    while (node < leaves) {
      const std::size_t place = 2 * (tree * (leaves - 1) + node - 1);
      node = 2 * node + (slices[trees.nodes[place]] >= trees.nodes[place + 1] ? 1 : 0);
    }
    return tree * leaves + node - leaves;
  }
  const bool wide = trees.node_format >= schema::NodeFormat::Node8;
  const std::size_t index = trees.node_format == schema::NodeFormat::Node4    ? 1
                            : trees.node_format == schema::NodeFormat::Node12 ? 4
                                                                              : 2;
  const std::size_t bytes = (wide ? 4 : 2) + 2 * index;
  const std::uint64_t flag = 1ull << (8 * index - 1);
  std::uint64_t node = 0, child = 0;
  while (true) {
    const auto place = static_cast<std::size_t>(trees.tree_nodes[tree] + node) * bytes;
    const std::size_t slice = wide ? read<std::uint16_t>(trees.nodes, place) : trees.nodes[place];
    const bool right = slices[slice] > trees.nodes[place + (wide ? 2 : 1)];
    std::memcpy(&child, &trees.nodes[place + (wide ? 4 : 2) + (right ? index : 0)], index);
    if ((child & flag) != 0) return trees.tree_leaves[tree] + static_cast<std::size_t>(child ^ flag);
    node += child;
  }
}

std::size_t reached_leaf(const schema::SymmetricTreesT& trees, const std::vector<std::uint8_t>& slices,
                         std::size_t tree) {
  std::size_t number = 0;
  for (std::size_t level = 0; level < trees.depth; ++level) {
    const std::size_t split = 2 * (tree * trees.depth + level);
    if (slices[trees.splits[split]] > trees.splits[split + 1]) number += std::size_t{1} << level;
  }
  return (tree << trees.depth) + number;
}

template <typename TreesT>
std::vector<double> scored(const TreesT& trees, std::size_t count, const schema::OperatorT& op,
                           const std::vector<float>& slots) {
  const std::vector<std::uint8_t> slices = sliced(*trees.inputs, slots, op.input_offset);
  std::vector<double> out;
  for (std::size_t k = 0; k < op.output_length; ++k) {
    double sum = 0;
    for (std::size_t i = 0; i < count / op.output_length; ++i)
      sum += leaf_of(trees, reached_leaf(trees, slices, k * (count / op.output_length) + i));
    out.push_back(static_cast<double>(trees.base[k]) + static_cast<double>(trees.scale) * sum);
  }
  return out;
}

std::vector<double> scored(const schema::BlockTreesT& trees, const schema::OperatorT& op,
                           const std::vector<float>& slots) {
  const std::vector<std::uint8_t> slices = sliced(*trees.inputs, slots, op.input_offset);
  std::vector<std::size_t> runs(op.output_length, trees.trees);
  if (trees.context_trees > 0) runs = {trees.context_trees, trees.trees - trees.context_trees};
  std::vector<double> sums(op.output_length, 0);
  std::size_t row = 0, first_leaf = 0, block = 0;  // of the block at hand
  for (std::size_t run = 0; run < runs.size(); ++run)
    for (std::size_t first = 0; first < runs[run]; first += 64) {
      const std::size_t width = std::min<std::size_t>(64, runs[run] - first);
      const std::size_t tests = trees.depth > 0 ? trees.depth : trees.block_nodes[block++];
      const std::size_t leaves = trees.depth > 0 ? std::size_t{1} << tests : tests + 1;
      const std::size_t rows = trees.depth > 0 ? 2 : 4, head = trees.depth > 0 ? 0 : width;
      for (std::size_t tree = 0; tree < width; ++tree) {
        std::size_t leaf = 0;
        for (std::size_t test = 0; test < tests; ++test) {
          const auto byte = [&](std::size_t i) {
            return trees.nodes[row + head + (rows * test + i) * width + tree];
          };
          const bool right = slices[byte(0)] > byte(1);
          if (trees.depth > 0)
            leaf += (right ? std::size_t{1} : 0) << test;
          else if (right && leaf == byte(2))
            leaf += byte(3);
        }
        sums[trees.context_trees > 0 ? 0 : run] += leaf_of(trees, first_leaf + tree * leaves + leaf);
      }
      row += head + rows * tests * width;
      first_leaf += width * leaves;
    }
  for (std::size_t k = 0; k < sums.size(); ++k)
    sums[k] = static_cast<double>(trees.base[k]) + static_cast<double>(trees.scale) * sums[k];
  return sums;
}

void activate(std::vector<double>& values, schema::Activation activation) {
  const double largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += std::exp(value - largest);
  for (double& value : values) {
    if (activation == schema::Activation::Relu && value < 0) value = 0;
    if (activation == schema::Activation::Sigmoid) value = 1 / (1 + std::exp(-value));
    if (activation == schema::Activation::Tanh) value = std::tanh(value);
    if (activation == schema::Activation::Softmax) value = std::exp(value - largest) / sum;
  }
}

double calibrated(const schema::CalibrateT& calibrate, double score) {
  if (calibrate.method == schema::CalibrationMethod::Sigmoid)
    return 1 / (1 + std::exp(-(static_cast<double>(calibrate.slope) * score +
                               static_cast<double>(calibrate.intercept))));
  if (!(score > static_cast<double>(calibrate.x.front())))
    return std::isnan(score) ? score : calibrate.y.front();
  for (std::size_t i = 1; i < calibrate.x.size(); ++i) {
    const double x0 = calibrate.x[i - 1], x1 = calibrate.x[i], y0 = calibrate.y[i - 1], y1 = calibrate.y[i];
    if (score <= x1) return y0 + (score - x0) / (x1 - x0) * (y1 - y0);
  }
  return calibrate.y.back();
}

std::vector<double> operated(const schema::OperatorT& op, const std::vector<float>& slots) {
  std::vector<double> out;
  if (const auto* affine = op.kind.AsAffine()) {
    for (std::size_t i = 0; i < op.output_length; ++i) {
      out.push_back(affine->bias[i]);
      for (std::size_t j = 0; j < op.input_length; ++j)
        out[i] +=
            static_cast<double>(affine->weights[i * op.input_length + j]) * at(slots, op.input_offset + j);
    }
    activate(out, affine->activation);
  }
  if (const auto* trees = op.kind.AsBranchingTrees())
    out = scored(*trees,
                 trees->depth > 0 ? trees->nodes.size() / 2 / ((1u << trees->depth) - 1)
                                  : trees->tree_nodes.size() - 1,
                 op, slots);
  if (const auto* trees = op.kind.AsSymmetricTrees())
    out = scored(*trees, trees->splits.size() / 2 / trees->depth, op, slots);
  if (const auto* trees = op.kind.AsBlockTrees()) out = scored(*trees, op, slots);
  if (const auto* calibrate = op.kind.AsCalibrate())
    for (std::size_t i = 0; i < op.output_length; ++i)
      out.push_back(calibrated(*calibrate, at(slots, op.input_offset + i)));
  const auto inputs = std::span(slots).subspan(op.input_offset, op.input_length);
  if (const auto* recurrent = op.kind.AsRecurrent()) out = reference::row_outputs(*recurrent, inputs);
  if (const auto* affine = op.kind.AsQuantizedAffine()) {
    out = reference::affine_outputs(*affine, inputs);
    activate(out, affine->activation);
  }
  return out;
}

std::vector<float> interpreted(const schema::ModelT& model, std::span<const float> row) {
  std::vector<float> slots(row.begin(), row.end());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const schema::ColumnT& column = *model.columns[i];
    const bool unknown = column.type == schema::ColumnType::Category &&
                         category_of(at(slots, i), column.vocabulary.size()) < 0;
    if (unknown || std::isnan(slots[i])) slots[i] = model.missing_fill[i];
  }
  const auto append = [&](const std::vector<double>& values) {
    for (const double value : values) slots.push_back(static_cast<float>(value));
  };
  for (const auto& feature : model.features) append(encoded(*feature, slots));
  for (const auto& op : model.operators) append(operated(*op, slots));
  return {slots.begin() + model.output_offset, slots.begin() + model.output_offset + model.output_length};
}

TEST(Evaluate, EveryOperatorAndEncoderComputesWhatTheSchemaSays) {
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    const Blob blob(golden_blob(sample), sample.name);
    for (std::size_t n = 0; n < sample.rows.size(); n += blob.columns()) {
      const auto row = std::span(sample.rows).subspan(n, blob.columns());
      const std::vector<float> expected = interpreted(sample.model, row);
      const std::vector<float> found = outputs_of(blob, {row.begin(), row.end()});
      for (std::size_t k = 0; k < found.size(); ++k)
        EXPECT_TRUE(same(found[k], expected[k]) ||
                    std::abs(found[k] - expected[k]) <= 2e-6f * (1 + std::abs(expected[k])))
            << found[k] << " for " << expected[k] << " in row " << n / blob.columns() << ", output " << k;
    }
  }
}

// --- Encoders ----------------------------------------------------------------------------------------

const float no_index_of_four[] = {-1,   4,     0.5f, 3.0000002f, 1e-40f,    -1e-40f,
                                  1e9f, -1e9f, 5e9f, infinity,   -infinity, missing};

TEST(OneHot, WhatIsNoIndexOfTheVocabularyIsUnknown) {
  for (const bool unknown_slot : {false, true}) {
    schema::OneHotT one_hot;
    one_hot.unknown_slot = unknown_slot;
    const std::size_t outputs = unknown_slot ? 5 : 4;
    const Blob blob = encoding(model_of_numbers(1), one_hot, outputs);
    for (std::size_t c = 0; c < 4; ++c) {
      std::vector<float> expected(outputs, 0.0f);
      expected[c] = 1;
      EXPECT_EQ(outputs_of(blob, {static_cast<float>(c)}), expected);
    }
    EXPECT_EQ(outputs_of(blob, {-0.0f}), outputs_of(blob, {0.0f}));
    std::vector<float> unknown(outputs, 0.0f);
    if (unknown_slot) unknown[4] = 1;
    for (const float value : no_index_of_four) EXPECT_EQ(outputs_of(blob, {value}), unknown) << value;
  }
}

TEST(Ordinal, WhatIsNoIndexOfTheVocabularyGivesTheUnknownValue) {
  for (const float unknown : {missing, -7.0f}) {
    schema::OrdinalT ordinal;
    ordinal.values = {10, 20, 20, -5};
    ordinal.unknown = unknown;
    const Blob blob = encoding(model_of_numbers(1), ordinal, 1);
    for (std::size_t c = 0; c < 4; ++c)
      EXPECT_EQ(outputs_of(blob, {static_cast<float>(c)})[0], ordinal.values[c]);
    for (const float value : no_index_of_four)
      EXPECT_TRUE(same(outputs_of(blob, {value})[0], unknown)) << value;
  }
}

TEST(Bucket, CountsTheEdgesThatAreNotAbove) {
  schema::BucketT bucket;
  bucket.edges = {-1e-40f, 0, 2.5f, 100};
  const Blob blob = encoding(model_of_numbers(2), bucket, 2);
  const std::pair<float, float> expected[] = {{-infinity, 0},
                                              {-1, 0},
                                              {std::nextafterf(-1e-40f, -1), 0},
                                              {-1e-40f, 1},
                                              {std::nextafterf(0, -1), 1},
                                              {-0.0f, 2},
                                              {0, 2},
                                              {1e-40f, 2},
                                              {std::nextafterf(2.5f, 0), 2},
                                              {2.5f, 3},
                                              {99, 3},
                                              {100, 4},
                                              {infinity, 4}};
  for (const auto& [value, count] : expected) EXPECT_EQ(outputs_of(blob, {value, 3})[0], count) << value;
  EXPECT_TRUE(std::isnan(outputs_of(blob, {missing, 3})[0]));
  EXPECT_EQ(outputs_of(blob, {missing, 3})[1], 3);
}

TEST(MissingFill, ReplacesMissingNumbersAndUnknownCategories) {
  schema::ModelT model = model_of_numbers(3);
  model.columns[1]->type = schema::ColumnType::Category;
  model.columns[1]->vocabulary = {"a", "b"};
  model.missing_fill = {7, 1, missing};
  const Blob blob = encoding(std::move(model), schema::IdentityT{}, 3);
  EXPECT_EQ(outputs_of(blob, {1, 0, 2}), (std::vector<float>{1, 0, 2}));
  EXPECT_EQ(outputs_of(blob, {missing, missing, 2}), (std::vector<float>{7, 1, 2}));
  EXPECT_EQ(outputs_of(blob, {-missing, 2, infinity}), (std::vector<float>{7, 1, infinity}));
  for (const float unknown : {-1.0f, 0.5f, 1e-40f, infinity})
    EXPECT_EQ(outputs_of(blob, {1, unknown, 2})[1], 1) << unknown;
  EXPECT_TRUE(std::isnan(outputs_of(blob, {1, 0, missing})[2]));
}

// --- Operators ---------------------------------------------------------------------------------------

TEST(Affine, AnyNumberOfInputsIsSummedToTheLast) {
  for (std::size_t inputs = 1; inputs <= 70; ++inputs) {
    schema::AffineT affine;
    for (std::size_t i = 0; i < inputs; ++i) affine.weights.push_back(static_cast<float>(i + 1));
    affine.bias = {0.5f};
    const Blob blob = operating(inputs, affine, 1);
    std::vector<float> row(inputs);
    float expected = 0.5f;
    for (std::size_t i = 0; i < inputs; ++i) {
      row[i] = static_cast<float>(i % 7) - 3;
      expected += row[i] * static_cast<float>(i + 1);
    }
    EXPECT_EQ(outputs_of(blob, row)[0], expected) << inputs << " inputs";  // whole numbers: no rounding
  }
}

TEST(Softmax, SumsToOneForAnyScores) {
  schema::AffineT affine;
  affine.activation = schema::Activation::Softmax;
  affine.bias.assign(3, 0.0f);
  affine.weights = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const Blob blob = operating(3, affine, 3);
  for (const std::vector<float>& row : std::vector<std::vector<float>>{
           {0, 0, 0}, {1, 2, 3}, {-1e30f, 0, 1e30f}, {3e38f, 3e38f, -3e38f}, {-90, -91, -300}}) {
    const std::vector<float> out = outputs_of(blob, row);
    EXPECT_NEAR(out[0] + out[1] + out[2], 1, 1e-6);
    for (const float p : out) EXPECT_TRUE(p >= 0 && p <= 1);
  }
  // What has no answer gives none.
  for (const float p : outputs_of(blob, {1, missing, 2})) EXPECT_TRUE(std::isnan(p));
}

TEST(Relu, KeepsMissingValuesMissing) {
  schema::AffineT affine;
  affine.activation = schema::Activation::Relu;
  affine.bias = {0};
  affine.weights = {1};
  const Blob blob = operating(1, affine, 1);
  EXPECT_EQ(outputs_of(blob, {-2})[0], 0);
  EXPECT_EQ(outputs_of(blob, {2})[0], 2);
  EXPECT_TRUE(std::isnan(outputs_of(blob, {missing})[0]));
}

TEST(Calibrate, IsotonicPassesThroughItsPointsAndIsConstantBeyond) {
  for (std::size_t points = 1; points <= 40; ++points) {
    schema::CalibrateT calibrate;
    calibrate.method = schema::CalibrationMethod::Isotonic;
    for (std::size_t i = 0; i < points; ++i) {
      calibrate.x.push_back(static_cast<float>(i * i) - 20);
      calibrate.y.push_back(static_cast<float>(i) / 64);
    }
    const Blob blob = operating(1, calibrate, 1);
    for (std::size_t i = 0; i < points; ++i)
      EXPECT_EQ(outputs_of(blob, {calibrate.x[i]})[0], calibrate.y[i]) << "point " << i << " of " << points;
    for (std::size_t i = 1; i < points; ++i)
      EXPECT_FLOAT_EQ(outputs_of(blob, {(calibrate.x[i - 1] + calibrate.x[i]) / 2})[0],
                      (calibrate.y[i - 1] + calibrate.y[i]) / 2);
    for (const float below : {-20.001f, -1e30f, -infinity})
      EXPECT_EQ(outputs_of(blob, {below})[0], calibrate.y.front());
    for (const float above : {1e30f, infinity}) EXPECT_EQ(outputs_of(blob, {above})[0], calibrate.y.back());
    EXPECT_TRUE(std::isnan(outputs_of(blob, {missing})[0]));
  }
}

TEST(Calibrate, SigmoidNeverLeavesTheUnitInterval) {
  schema::CalibrateT calibrate;
  calibrate.slope = 2;
  calibrate.intercept = -1;
  const Blob blob = operating(1, calibrate, 1);
  EXPECT_EQ(outputs_of(blob, {0.5f})[0], 0.5f);
  for (const float score : {-infinity, -3e38f, -100.0f, -44.0f, 0.0f, 44.0f, 100.0f, 3e38f, infinity}) {
    const float p = outputs_of(blob, {score})[0];
    EXPECT_TRUE(p >= 0 && p <= 1);
    EXPECT_NEAR(p, 1 / (1 + std::exp(1 - 2 * static_cast<double>(score))), 1e-7) << score;
  }
}

// --- Addresses and floating-point modes ---------------------------------------------------------------

/// A copy of some bytes at an address that is `offset` above a multiple of 16.
class Placed {
 public:
  Placed(std::span<const unsigned char> bytes, std::size_t offset)
      : memory_(bytes.size() + 32), size_(bytes.size()) {
    const auto base = reinterpret_cast<std::uintptr_t>(memory_.data());
    start_ = memory_.data() + (16 - base % 16) % 16 + offset;
    std::copy(bytes.begin(), bytes.end(), start_);
  }
  unsigned char* data() { return start_; }
  std::size_t size() const { return size_; }

 private:
  std::vector<unsigned char> memory_;
  std::size_t size_;
  unsigned char* start_;
};

struct Answers {
  tonearm_status opened, tested;
  std::vector<float> outputs;
};

/// Opens with the best kernels of `cpu` (0: of this CPU), self-tests and evaluates all rows of a sample.
Answers answers_of(const SampleModel& sample, Placed& blob, std::uint32_t cpu = 0) {
  tonearm_model model;
  const tonearm_open_options options = {sizeof options, 0, cpu, 0};
  Answers answers{tonearm_model_open(&model, blob.data(), blob.size(), &options, nullptr), {}, {}};
  if (answers.opened != TONEARM_OK) return answers;
  std::vector<std::uint32_t> scratch(tonearm_scratch_size(&model) / 4);
  answers.tested = tonearm_model_self_test(&model, scratch.data(), scratch.size() * 4, nullptr);
  const std::size_t columns = sample.model.columns.size(), outputs = sample.model.output_length;
  answers.outputs.resize(sample.rows.size() / columns * outputs);
  for (std::size_t n = 0; n < sample.rows.size() / columns; ++n)
    tonearm_evaluate(&model, &sample.rows[n * columns], static_cast<std::uint32_t>(columns), scratch.data(),
                     scratch.size() * 4, &answers.outputs[n * outputs]);
  return answers;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

/// Kernels may add up the floats of recurrent and quantized layers in another order; all else is exact.
bool agree(const std::vector<float>& a, const std::vector<float>& b, const SampleModel& sample) {
  if (sample.tolerance == 0) return same_bits(a, b);
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return same(x, y) || std::abs(x - y) <= 1e-6f * std::max(1.0f, std::abs(y));
  });
}

TEST(Evaluate, GivesTheSameBitsAtAnyAlignedAddress) {
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    const std::vector<unsigned char> bytes = golden_blob(sample);
    Placed reference(bytes, 0);
    const Answers expected = answers_of(sample, reference);
    for (const std::size_t offset : {4u, 8u, 12u}) {
      Placed placed(bytes, offset);
      const Answers found = answers_of(sample, placed);
      EXPECT_EQ(found.opened, TONEARM_OK);
      EXPECT_EQ(found.tested, TONEARM_OK);
      EXPECT_TRUE(same_bits(found.outputs, expected.outputs)) << "at offset " << offset;
    }
  }
}

TEST(Evaluate, AgreesInEveryFloatingPointMode) {
  for (const SampleModel& sample : sample_models()) {
    const std::vector<unsigned char> bytes = golden_blob(sample);
    Placed reference(bytes, 0);
    const Answers expected = answers_of(sample, reference);
    for (const int rounding : roundings)
      for (const bool flush : {false, true}) {
        SCOPED_TRACE(sample.name + ", rounding " + std::to_string(rounding) + (flush ? ", flushing" : ""));
        Placed placed(bytes, 4);
        Answers found;
        {
          const FloatMode mode(rounding, flush);
          found = answers_of(sample, placed);
        }
        EXPECT_EQ(found.opened, TONEARM_OK);
        EXPECT_EQ(found.tested, TONEARM_OK);
        ASSERT_EQ(found.outputs.size(), expected.outputs.size());
        for (std::size_t i = 0; i < found.outputs.size(); ++i) {
          const float a = found.outputs[i], b = expected.outputs[i];
          EXPECT_TRUE(same(a, b) || std::abs(a - b) <= 1e-6f * std::max(1.0f, std::abs(b)))
              << a << " for " << b;
        }
      }
  }
}

/// Leaves become whole numbers, whose sums are exact in any mode: one other decision would change a bit.
template <typename TreesT>
void make_whole(TreesT& trees) {
  trees.scale = 1;
  for (float& base : trees.base) base = 0;
  for (std::size_t i = 0; i < trees.palette.size(); ++i) trees.palette[i] = static_cast<float>(i * i) - 20;
  if (trees.leaf_format == schema::LeafFormat::Float32)
    for (std::size_t at = 0; at < trees.leaves.size(); at += 4) {
      const auto whole = static_cast<float>(at % 1013);
      std::memcpy(&trees.leaves[at], &whole, 4);
    }
}

TEST(Evaluate, TreeDecisionsAreTheSameInEveryFloatingPointMode) {
  std::size_t ensembles = 0;
  for (SampleModel& sample : sample_models()) {
    schema::OperatorKindUnion* kind =
        sample.model.operators.size() == 1 ? &sample.model.operators[0]->kind : nullptr;
    if (kind == nullptr || tree_inputs(*sample.model.operators[0]) == nullptr) continue;
    if (auto* trees = kind->AsBranchingTrees()) make_whole(*trees);
    if (auto* trees = kind->AsSymmetricTrees()) make_whole(*trees);
    if (auto* trees = kind->AsBlockTrees()) make_whole(*trees);
    ++ensembles;
    const std::vector<unsigned char> bytes = golden_blob(sample);
    Placed placed(bytes, 12);
    const Answers expected = answers_of(sample, placed, TONEARM_CPU_SCALAR);
    for (const std::uint32_t cpu : all_cpus())
      for (const int rounding : roundings)
        for (const bool flush : {false, true}) {
          Answers found;
          {
            const FloatMode mode(rounding, flush);
            found = answers_of(sample, placed, cpu);
          }
          EXPECT_TRUE(same_bits(found.outputs, expected.outputs))
              << sample.name << ", CPU bit " << cpu << ", rounding " << rounding;
        }
  }
  EXPECT_GE(ensembles, 18u);
}

// --- Kernels -----------------------------------------------------------------------------------------

TEST(Cpu, WhatIsDetectedIsWhatTheCpuHas) {
  std::uint32_t expected = 0;
#if defined(TONEARM_SIMD) && (defined(__x86_64__) || defined(__i386__))
  __builtin_cpu_init();
  if (__builtin_cpu_supports("ssse3")) expected |= TONEARM_CPU_SSSE3;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) expected |= TONEARM_CPU_AVX2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("bmi2") &&
      __builtin_cpu_supports("popcnt"))
    expected |= TONEARM_CPU_AVX512;
#elif defined(TONEARM_SIMD) && defined(__aarch64__)
  expected = TONEARM_CPU_NEON;
#if defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) expected |= TONEARM_CPU_NEON_DOT;
#endif
#elif defined(TONEARM_SIMD) && defined(__wasm_simd128__)
  expected = TONEARM_CPU_WASM;
#elif defined(TONEARM_SIMD) && defined(__ARM_FEATURE_DSP)
  expected = TONEARM_CPU_DSP;
#endif
  EXPECT_EQ(tonearm_cpu_detect(), expected);
}

TEST(Cpu, TheBestKernelsOfThoseAllowedAreChosen) {
  const SampleModel sample = sample_model("blocks-branching-float32");
  Placed blob(golden_blob(sample), 0);
  const auto chosen = [&](const tonearm_open_options* options) {
    tonearm_model model;
    EXPECT_EQ(tonearm_model_open(&model, blob.data(), blob.size(), options, nullptr), TONEARM_OK);
    tonearm_info info{};
    info.struct_size = sizeof info;
    EXPECT_EQ(tonearm_model_info(&model, &info), TONEARM_OK);
    return info.cpu;
  };
  const auto best_of = [](std::uint32_t cpus) -> std::uint32_t {
    for (const std::uint32_t bit :
         {TONEARM_CPU_AVX512, TONEARM_CPU_AVX2, TONEARM_CPU_SSSE3, TONEARM_CPU_NEON_DOT, TONEARM_CPU_NEON,
          TONEARM_CPU_WASM, TONEARM_CPU_DSP})
      if ((cpus & bit) != 0) return bit;
    return TONEARM_CPU_SCALAR;
  };
  EXPECT_EQ(chosen(nullptr), best_of(tonearm_cpu_detect()));
  // Bits that this CPU lacks, or that no version of the library knows yet, are passed over.
  for (const std::uint32_t unheard_of : {0u, 256u, 0x80000000u, 0xffffff00u})
    for (std::uint32_t mask = 0; mask < 256; ++mask) {
      const tonearm_open_options options = {sizeof options, 0, mask | unheard_of, 0};
      const std::uint32_t allowed = options.cpu == 0 ? UINT32_MAX : options.cpu;
      EXPECT_EQ(chosen(&options), best_of(tonearm_cpu_detect() & allowed)) << options.cpu;
    }
  // Options as version 0.2 has them end before the member.
  for (const std::uint32_t size : {8u, 11u}) {
    const tonearm_open_options old = {size, 0, TONEARM_CPU_SCALAR, 0};
    EXPECT_EQ(chosen(&old), best_of(tonearm_cpu_detect()));
  }
}

TEST(Kernels, AgreeWithTheReferenceInEveryFloatingPointMode) {
  for (const SampleModel& sample : sample_models()) {
    Placed blob(golden_blob(sample), 4);
    for (const int rounding : roundings)
      for (const bool flush : {false, true}) {
        std::vector<Answers> answers;
        {
          const FloatMode mode(rounding, flush);
          for (const std::uint32_t cpu : all_cpus()) answers.push_back(answers_of(sample, blob, cpu));
        }
        for (const Answers& found : answers) {
          EXPECT_EQ(found.tested, TONEARM_OK);
          EXPECT_TRUE(agree(found.outputs, answers[0].outputs, sample))
              << sample.name << ", CPU bit " << all_cpus()[static_cast<std::size_t>(&found - answers.data())];
        }
      }
  }
}

TEST(Kernels, AgreeWithTheReferenceInSessions) {
  for (const SampleModel& sample : session_sample_models()) {
    const std::vector<unsigned char> bytes = golden_blob(sample);
    for (const int rounding : roundings)
      for (const bool flush : {false, true}) {
        std::vector<std::vector<float>> answers;
        {
          const FloatMode mode(rounding, flush);
          for (const tonearm_model& model : opened_with_every_kernel(bytes))
            answers.push_back(replay(model, sample.events));
        }
        for (const std::vector<float>& found : answers)
          EXPECT_TRUE(agree(found, answers[0], sample))
              << sample.name << ", CPU bit " << all_cpus()[static_cast<std::size_t>(&found - answers.data())];
      }
  }
}

// --- Threads and memory ------------------------------------------------------------------------------

TEST(Evaluate, ManyThreadsShareOneModel) {
  for (const char* name : {"branching-node8-palette8", "blocks-symmetric-float32", "network", "encoders"}) {
    const SampleModel sample = sample_model(name);
    const Blob blob(golden_blob(sample), name);
    const std::size_t columns = blob.columns(), outputs = blob.outputs();
    const auto work = [&](std::vector<float>& out) {
      std::vector<std::uint32_t> scratch(tonearm_scratch_size(&blob.model()) / 4);
      for (int again = 0; again < 50; ++again)
        for (std::size_t n = 0; n < sample.rows.size() / columns; ++n)
          tonearm_evaluate(&blob.model(), &sample.rows[n * columns], static_cast<std::uint32_t>(columns),
                           scratch.data(), scratch.size() * 4, &out[n * outputs]);
    };
    std::vector<std::vector<float>> results(5, std::vector<float>(sample.rows.size() / columns * outputs));
    work(results[0]);
    std::vector<std::thread> threads;
    for (std::size_t t = 1; t < results.size(); ++t) threads.emplace_back(work, std::ref(results[t]));
    for (std::thread& thread : threads) thread.join();
    for (const std::vector<float>& result : results) EXPECT_TRUE(same_bits(result, results[0])) << name;
  }
}

TEST(Scratch, IsUsedToItsEndButNotBeyondAndMayHoldAnything) {
  for (const SampleModel& sample : sample_models()) {
    const Blob blob(golden_blob(sample), sample.name);
    const std::size_t size = tonearm_scratch_size(&blob.model());
    EXPECT_EQ(size, blob.info().scratch_bytes);
    for (const tonearm_model& model : opened_with_every_kernel(blob.bytes())) {
      std::vector<std::vector<float>> results;
      for (const std::uint8_t filling : std::initializer_list<std::uint8_t>{0x00, 0xff, 0x5a}) {
        std::vector<unsigned char> memory(size + 128, filling);
        unsigned char* scratch = memory.data() + 64;
        auto& out = results.emplace_back(sample.rows.size() / blob.columns() * blob.outputs());
        for (std::size_t n = 0; n < sample.rows.size() / blob.columns(); ++n)
          ASSERT_EQ(tonearm_evaluate(&model, &sample.rows[n * blob.columns()], blob.info().columns, scratch,
                                     size, &out[n * blob.outputs()]),
                    TONEARM_OK);
        ASSERT_EQ(tonearm_model_self_test(&model, scratch, size, nullptr), TONEARM_OK);
        for (std::size_t i = 0; i < 64; ++i) {
          ASSERT_EQ(memory[i], filling) << sample.name << ": wrote before the scratch";
          ASSERT_EQ(memory[64 + size + i], filling) << sample.name << ": wrote beyond the scratch";
        }
      }
      EXPECT_TRUE(same_bits(results[0], results[1]));
      EXPECT_TRUE(same_bits(results[0], results[2]));
    }
  }
}

// The blob ends where an unreadable page begins, and cannot be written.
TEST(Open, ReadsNothingBehindTheBlobAndWritesNothingIntoIt) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (const SampleModel& sample : sample_models()) {
    const std::vector<unsigned char> bytes = golden_blob(sample);
    const std::size_t room = (bytes.size() + page - 1) / page * page;
    void* memory = ::mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    unsigned char* blob = static_cast<unsigned char*>(memory) + room - bytes.size();
    std::memcpy(blob, bytes.data(), bytes.size());
    ASSERT_EQ(::mprotect(memory, room, PROT_READ), 0);
    ASSERT_EQ(::mprotect(static_cast<unsigned char*>(memory) + room, page, PROT_NONE), 0);
    for (const tonearm_model& model : opened_with_every_kernel({blob, bytes.size()})) {
      std::vector<std::uint32_t> scratch(tonearm_scratch_size(&model) / 4);
      EXPECT_EQ(tonearm_model_self_test(&model, scratch.data(), scratch.size() * 4, nullptr), TONEARM_OK);
      std::vector<float> out(sample.model.output_length);
      for (std::size_t n = 0; n < sample.rows.size(); n += sample.model.columns.size())
        tonearm_evaluate(&model, &sample.rows[n], static_cast<std::uint32_t>(sample.model.columns.size()),
                         scratch.data(), scratch.size() * 4, out.data());
    }
    ::munmap(memory, room + page);
  }
}

TEST(SelfTest, FailsWhereOneOutputIsOffByMoreThanTheTolerance) {
  for (const float change : {0.0f, 5e-7f, 1e-5f, -1e-5f}) {
    SampleModel sample = sample_model("calibrate-sigmoid");
    add_golden(sample.model, {sample.rows.begin(), sample.rows.begin() + 40});
    sample.model.golden->outputs.back() += change;
    const Blob blob(pack(sample.model), sample.name);
    std::vector<std::uint32_t> scratch(tonearm_scratch_size(&blob.model()) / 4);
    float largest = -1;
    EXPECT_EQ(tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * 4, &largest),
              std::abs(change) < 1e-6f ? TONEARM_OK : TONEARM_SELF_TEST_FAILED);
    EXPECT_NEAR(largest, std::abs(change), 1e-7f);
  }
}

// --- Look-ups ----------------------------------------------------------------------------------------

TEST(Info, TellsWhatTheModelIs) {
  const SampleModel sample = sample_model("encoders");
  const Blob blob(golden_blob(sample), "encoders");
  const tonearm_info& info = blob.info();
  EXPECT_STREQ(info.name, "encoders");
  EXPECT_STREQ(info.version, "1");
  EXPECT_STREQ(info.task, "hit");
  EXPECT_STREQ(info.label, "none: made by hand");
  EXPECT_EQ(info.columns, 4u);
  EXPECT_EQ(info.outputs, sample.model.output_length);
  EXPECT_EQ(info.session_bytes, 0u);
  EXPECT_EQ(info.blob_bytes, blob.bytes().size());
  EXPECT_EQ(info.format_major, TONEARM_FORMAT_MAJOR);
  EXPECT_EQ(info.format_minor, 0);  // plain tables need nothing newer
  EXPECT_EQ(info.synthetic, 1);
  EXPECT_EQ(info.leaky, 0);
  EXPECT_EQ(tonearm_version(), TONEARM_VERSION);
}

TEST(LookUp, FindsColumnsAndCategoriesByName) {
  const Blob blob(golden_blob(sample_model("encoders")), "encoders");
  const tonearm_model* model = &blob.model();
  std::uint32_t index = 99;
  EXPECT_EQ(tonearm_model_column(model, "key", &index), TONEARM_OK);
  EXPECT_EQ(index, 2u);
  for (const char* other : {"", "ke", "keys", "Key", "C"})
    EXPECT_EQ(tonearm_model_column(model, other, &index), TONEARM_NOT_FOUND) << other;
  EXPECT_EQ(index, 2u);

  tonearm_column column{};
  column.struct_size = sizeof column;
  ASSERT_EQ(tonearm_model_column_at(model, 2, &column), TONEARM_OK);
  EXPECT_STREQ(column.name, "key");
  EXPECT_EQ(column.index, 2u);
  EXPECT_EQ(column.source, TONEARM_SOURCE_ROW);
  EXPECT_EQ(column.categories, 4u);
  EXPECT_EQ(column.struct_size, sizeof column);
  ASSERT_EQ(tonearm_model_column_at(model, 0, &column), TONEARM_OK);
  EXPECT_EQ(column.categories, 0u);

  float value = 99;
  EXPECT_EQ(tonearm_model_category(model, 2, "E", &value), TONEARM_OK);
  EXPECT_EQ(value, 2);
  EXPECT_STREQ(tonearm_model_category_text(model, 2, 2), "E");
  EXPECT_EQ(tonearm_model_category(model, 2, "e", &value), TONEARM_NOT_FOUND);
  EXPECT_EQ(tonearm_model_category(model, 0, "E", &value), TONEARM_NOT_FOUND);
  EXPECT_EQ(value, 2);
}

// --- Wrong arguments ---------------------------------------------------------------------------------

class Arguments : public ::testing::Test {
 protected:
  const SampleModel sample_ = sample_model("branching-node4-float32");
  Placed blob_{golden_blob(sample_), 0};
  tonearm_model model_{};
  const tonearm_model closed_{};
  std::vector<std::uint32_t> scratch_;
  std::vector<float> row_ = std::vector<float>(5), out_ = std::vector<float>(2);

  void SetUp() override {
    ASSERT_EQ(tonearm_model_open(&model_, blob_.data(), blob_.size(), nullptr, nullptr), TONEARM_OK);
    scratch_.resize(tonearm_scratch_size(&model_) / 4 + 1);
  }
  std::size_t scratch_size() const { return tonearm_scratch_size(&model_); }
};

TEST_F(Arguments, Open) {
  tonearm_model model;
  tonearm_diagnostic diagnostic{};
  const auto open = [&](tonearm_model* to, const void* bytes, std::size_t size,
                        const tonearm_open_options* options = nullptr) {
    diagnostic = {};
    diagnostic.struct_size = sizeof diagnostic;
    std::memset(&model, 0x77, sizeof model);
    const tonearm_status status = tonearm_model_open(to, bytes, size, options, &diagnostic);
    EXPECT_EQ(diagnostic.status, status);
    EXPECT_NE(diagnostic.part, nullptr);
    EXPECT_NE(diagnostic.rule, nullptr);
    // A model that did not open is zeroed, so that its use is found out.
    if (to != nullptr && status != TONEARM_OK) {
      EXPECT_EQ(tonearm_scratch_size(to), 0u);
    }
    return status;
  };
  EXPECT_EQ(open(&model, blob_.data(), blob_.size()), TONEARM_OK);
  EXPECT_EQ(open(nullptr, blob_.data(), blob_.size()), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(open(&model, nullptr, blob_.size()), TONEARM_NULL_ARGUMENT);
  tonearm_open_options options{};
  EXPECT_EQ(open(&model, blob_.data(), blob_.size(), &options), TONEARM_BAD_STRUCT_SIZE);
  options.struct_size = 7;  // one less than version 0.1 and 0.2 had
  EXPECT_EQ(open(&model, blob_.data(), blob_.size(), &options), TONEARM_BAD_STRUCT_SIZE);
  options.struct_size = sizeof options;
  EXPECT_EQ(open(&model, blob_.data(), blob_.size(), &options), TONEARM_OK);
  options.struct_size = 4096;  // a newer header
  EXPECT_EQ(open(&model, blob_.data(), blob_.size(), &options), TONEARM_OK);
  for (const std::size_t offset : {1u, 2u, 3u, 5u}) {
    Placed misaligned(golden_blob(sample_), offset);
    EXPECT_EQ(open(&model, misaligned.data(), misaligned.size()), TONEARM_MISALIGNED);
  }
  for (const std::size_t size : {0u, 1u, 4u, 7u, 8u, 15u})
    EXPECT_EQ(open(&model, blob_.data(), size), TONEARM_NOT_A_MODEL);
  EXPECT_EQ(open(&model, blob_.data(), SIZE_MAX), TONEARM_NOT_A_MODEL);

  diagnostic = {};
  for (const std::uint32_t size : {0u, static_cast<std::uint32_t>(offsetof(tonearm_diagnostic, line) - 1)}) {
    diagnostic.struct_size = size;
    EXPECT_EQ(tonearm_model_open(&model, blob_.data(), blob_.size(), nullptr, &diagnostic),
              TONEARM_BAD_STRUCT_SIZE);
    EXPECT_EQ(tonearm_scratch_size(&model), 0u);
  }
}

TEST_F(Arguments, Info) {
  tonearm_info info{};
  info.struct_size = sizeof info;
  EXPECT_EQ(tonearm_model_info(nullptr, &info), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_info(&model_, nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_info(&closed_, &info), TONEARM_NOT_OPEN);
  // As version 0.2 had it, it ends before `cpu`, and stays as it is there.
  constexpr std::uint32_t old_size = offsetof(tonearm_info, cpu);
  for (const std::uint32_t size : {0u, 4u, old_size - 1}) {
    info.struct_size = size;
    EXPECT_EQ(tonearm_model_info(&model_, &info), TONEARM_BAD_STRUCT_SIZE);
  }
  info.cpu = 0x5678;
  info.struct_size = old_size;
  EXPECT_EQ(tonearm_model_info(&model_, &info), TONEARM_OK);
  EXPECT_EQ(info.columns, 4u);
  EXPECT_EQ(info.struct_size, old_size);
  EXPECT_EQ(info.cpu, 0x5678u);
  // A caller with a newer header keeps what this library does not know.
  struct {
    tonearm_info info;
    std::uint64_t newer;
  } grown{{}, 0x1234};
  grown.info.struct_size = sizeof grown;
  EXPECT_EQ(tonearm_model_info(&model_, &grown.info), TONEARM_OK);
  EXPECT_EQ(grown.info.columns, 4u);
  EXPECT_EQ(grown.info.struct_size, sizeof grown);
  EXPECT_EQ(grown.newer, 0x1234u);
}

TEST_F(Arguments, Columns) {
  tonearm_column column{};
  column.struct_size = sizeof column;
  EXPECT_EQ(tonearm_model_column_at(nullptr, 0, &column), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_column_at(&model_, 0, nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_column_at(&closed_, 0, &column), TONEARM_NOT_OPEN);
  EXPECT_EQ(tonearm_model_column_at(&model_, 4, &column), TONEARM_OUT_OF_RANGE);
  EXPECT_EQ(tonearm_model_column_at(&model_, UINT32_MAX, &column), TONEARM_OUT_OF_RANGE);
  for (const std::uint32_t size : {0u, static_cast<std::uint32_t>(offsetof(tonearm_column, extra) - 1)}) {
    column.struct_size = size;
    EXPECT_EQ(tonearm_model_column_at(&model_, 0, &column), TONEARM_BAD_STRUCT_SIZE);
  }
  std::uint32_t index = 0;
  EXPECT_EQ(tonearm_model_column(nullptr, "key", &index), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_column(&model_, nullptr, &index), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_column(&model_, "key", nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_column(&closed_, "key", &index), TONEARM_NOT_OPEN);
}

TEST_F(Arguments, Categories) {
  float value = 0;
  EXPECT_EQ(tonearm_model_category(nullptr, 2, "C", &value), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_category(&model_, 2, nullptr, &value), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_category(&model_, 2, "C", nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_category(&closed_, 2, "C", &value), TONEARM_NOT_OPEN);
  EXPECT_EQ(tonearm_model_category(&model_, 4, "C", &value), TONEARM_OUT_OF_RANGE);
  EXPECT_EQ(tonearm_model_category_text(nullptr, 2, 0), nullptr);
  EXPECT_EQ(tonearm_model_category_text(&closed_, 2, 0), nullptr);
  EXPECT_EQ(tonearm_model_category_text(&model_, 4, 0), nullptr);
  EXPECT_EQ(tonearm_model_category_text(&model_, 2, 4), nullptr);
  EXPECT_EQ(tonearm_model_category_text(&model_, 0, 0), nullptr);
}

TEST_F(Arguments, Evaluate) {
  const auto evaluate = [&](const tonearm_model* model, const float* row, std::uint32_t columns,
                            void* scratch, std::size_t size,
                            float* out) { return tonearm_evaluate(model, row, columns, scratch, size, out); };
  const float* row = row_.data();
  void* scratch = scratch_.data();
  float* out = out_.data();
  EXPECT_EQ(evaluate(&model_, row, 4, scratch, scratch_size(), out), TONEARM_OK);
  EXPECT_EQ(evaluate(nullptr, row, 4, scratch, scratch_size(), out), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(evaluate(&model_, nullptr, 4, scratch, scratch_size(), out), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(evaluate(&model_, row, 4, nullptr, scratch_size(), out), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(evaluate(&model_, row, 4, scratch, scratch_size(), nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(evaluate(&closed_, row, 4, scratch, scratch_size(), out), TONEARM_NOT_OPEN);
  for (const std::uint32_t columns : {0u, 3u, 5u, UINT32_MAX})
    EXPECT_EQ(evaluate(&model_, row, columns, scratch, scratch_size(), out), TONEARM_WRONG_COLUMNS);
  for (const std::size_t offset : {1u, 2u, 3u})
    EXPECT_EQ(evaluate(&model_, row, 4, static_cast<char*>(scratch) + offset, scratch_size(), out),
              TONEARM_MISALIGNED);
  EXPECT_EQ(evaluate(&model_, row, 4, static_cast<char*>(scratch) + 4, scratch_size(), out), TONEARM_OK);
  EXPECT_EQ(evaluate(&model_, row, 4, scratch, scratch_size() - 1, out), TONEARM_SCRATCH_TOO_SMALL);
  EXPECT_EQ(evaluate(&model_, row, 4, scratch, 0, out), TONEARM_SCRATCH_TOO_SMALL);
  EXPECT_EQ(tonearm_scratch_size(nullptr), 0u);
  EXPECT_EQ(tonearm_scratch_size(&closed_), 0u);
}

TEST_F(Arguments, SelfTest) {
  char* scratch = reinterpret_cast<char*>(scratch_.data());
  EXPECT_EQ(tonearm_model_self_test(&model_, scratch, scratch_size(), nullptr), TONEARM_OK);
  EXPECT_EQ(tonearm_model_self_test(nullptr, scratch, scratch_size(), nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_self_test(&model_, nullptr, scratch_size(), nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_model_self_test(&closed_, scratch, scratch_size(), nullptr), TONEARM_NOT_OPEN);
  EXPECT_EQ(tonearm_model_self_test(&model_, scratch + 2, scratch_size(), nullptr), TONEARM_MISALIGNED);
  EXPECT_EQ(tonearm_model_self_test(&model_, scratch, scratch_size() - 1, nullptr),
            TONEARM_SCRATCH_TOO_SMALL);
  schema::ModelT without = sample_.model;
  const Blob blob(pack(without), "without golden vectors");
  EXPECT_EQ(tonearm_model_self_test(&blob.model(), scratch, scratch_size(), nullptr), TONEARM_NO_GOLDEN);
}

// --- Texts -------------------------------------------------------------------------------------------

TEST(StatusText, EveryStatusHasASentenceOfItsOwn) {
  std::vector<std::string> texts;
  for (const int status : {0, 10, 11, 12, 13, 14, 15, 16, 20, 21, 22, 23, 24, 30, 31, 32, 33, 40, 41, 42, 99})
    texts.emplace_back(tonearm_status_text(static_cast<tonearm_status>(status)));
  EXPECT_EQ(texts.back(), "unknown status");
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(std::adjacent_find(texts.begin(), texts.end()), texts.end());
}

TEST(DiagnosticText, IsCutWhereItDoesNotFit) {
  const tonearm_diagnostic diagnostic = {
      sizeof diagnostic, TONEARM_INVALID, "trees.nodes", "a rule", 3, 77, 8, 5, 0, 0};
  const std::string whole = std::string(tonearm_status_text(TONEARM_INVALID)) +
                            " (trees.nodes 3, element 77: a rule; found 8, compared with 5)";
  EXPECT_EQ(tonearm_diagnostic_text(&diagnostic, nullptr, 0), whole.size());
  for (std::size_t capacity = 0; capacity <= whole.size() + 3; ++capacity) {
    std::string text(whole.size() + 8, '#');
    EXPECT_EQ(tonearm_diagnostic_text(&diagnostic, text.data(), capacity), whole.size());
    const std::size_t kept = capacity == 0 ? 0 : std::min(capacity - 1, whole.size());
    EXPECT_EQ(text.substr(0, kept), whole.substr(0, kept));
    if (capacity > 0) {
      EXPECT_EQ(text[kept], '\0');
    }
    EXPECT_EQ(text.find_first_not_of('#', capacity == 0 ? 0 : kept + 1), text.npos) << capacity;
  }
}

TEST(DiagnosticText, LeavesOutWhatHasNoMeaning) {
  char text[200];
  EXPECT_EQ(tonearm_diagnostic_text(nullptr, text, sizeof text), 0u);
  EXPECT_STREQ(text, "");
  EXPECT_EQ(tonearm_diagnostic_text(nullptr, nullptr, 10), 0u);
  tonearm_diagnostic diagnostic = {sizeof diagnostic, TONEARM_OK, "", "", UINT32_MAX, UINT32_MAX, 0, 0, 0, 0};
  tonearm_diagnostic_text(&diagnostic, text, sizeof text);
  EXPECT_STREQ(text, "no error");
  diagnostic = {sizeof diagnostic, TONEARM_CORRUPT, "crc32", "a rule", UINT32_MAX,
                UINT32_MAX,        UINT64_MAX,      0,       0,        0};
  tonearm_diagnostic_text(&diagnostic, text, sizeof text);
  EXPECT_NE(std::string(text).find("(crc32: a rule; found 18446744073709551615, compared with 0)"),
            std::string::npos);
  diagnostic.part = diagnostic.rule = nullptr;
  tonearm_diagnostic_text(&diagnostic, text, sizeof text);
  EXPECT_STREQ(text, tonearm_status_text(TONEARM_CORRUPT));
}

}  // namespace
}  // namespace tonearm
