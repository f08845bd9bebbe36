// What trainers made is what blobs compute: random models packed by emit and evaluated through the C API,
// against the float64 reference, with rows on every kind of edge.

#include "emit/emit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "base/random.h"
#include "evaluate/blob.h"
#include "folder.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float denormal = std::numeric_limits<float>::denorm_min();
constexpr float huge = std::numeric_limits<float>::max();

schema::ModelT empty_model(std::size_t columns) {
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.card->name = "test";
  for (std::size_t i = 0; i < columns; ++i) {
    model.columns.push_back(std::make_unique<schema::ColumnT>());
    model.columns.back()->name = std::to_string(i);
  }
  model.missing_fill.assign(columns, missing);
  return model;
}

schema::ModelT model_of(const TrainedModel& trained, std::size_t columns,
                        LeafStorage storage = LeafStorage::exact) {
  schema::ModelT model = empty_model(columns);
  append_predictor(model, trained, 0, columns, storage);
  return model;
}

Blob blob_of(const TrainedModel& trained, std::size_t columns, LeafStorage storage = LeafStorage::exact) {
  schema::ModelT model = model_of(trained, columns, storage);
  return Blob(pack(model), "the test's blob");
}

// --- Random ensembles --------------------------------------------------------------------------------

struct Shape {
  const char* name;
  std::size_t features, trees, outputs;  // `trees` of each output
  std::uint32_t leaves;                  // the most that a tree has
  std::uint32_t thresholds;              // different ones of each feature
  bool chain = false;                    // every test follows the one before
  bool full = false;                     // every tree has all `leaves`, and none is a lone leaf
};

/// `count` different thresholds, among them all that could be special.
std::vector<float> threshold_pool(Random& random, std::uint32_t count) {
  std::vector<float> pool = {0.0f, -0.0f, denormal, -denormal, 1e-39f, huge, -huge, infinity, -infinity};
  while (pool.size() < count) pool.push_back(static_cast<float>(random.normal() * 100));
  return pool;
}

Tree grow(Random& random, const Shape& shape, const std::vector<std::vector<float>>& pools,
          const std::function<double()>& leaf_value) {
  const std::uint32_t leaves = shape.full ? shape.leaves : 1 + random.below(shape.leaves);
  Tree tree;
  tree.nodes.emplace_back();
  std::vector<std::size_t> open = {0};  // leaves that may still be split
  for (std::uint32_t i = 1; i < leaves; ++i) {
    const std::size_t pick =
        shape.chain ? open.size() - 1 : random.below(static_cast<std::uint32_t>(open.size()));
    const auto left = static_cast<std::int32_t>(tree.nodes.size());
    TreeNode& node = tree.nodes[open[pick]];
    const auto feature = random.below(static_cast<std::uint32_t>(shape.features));
    node.feature = static_cast<std::int32_t>(feature);
    node.threshold = pools[feature][random.below(static_cast<std::uint32_t>(pools[feature].size()))];
    node.missing_left = random.below(2) == 0;
    node.left = left;
    node.right = left + 1;
    tree.nodes.resize(tree.nodes.size() + 2);
    open[pick] = static_cast<std::size_t>(left);
    open.push_back(static_cast<std::size_t>(left) + 1);
    if (random.below(2) == 0) std::swap(open[pick], open.back());
  }
  for (TreeNode& node : tree.nodes)
    if (node.feature < 0) node.value = leaf_value();
  return tree;
}

/// All trees complete and symmetric, in breadth-first order.
Tree grow_symmetric(Random& random, const Shape& shape, int depth,
                    const std::vector<std::vector<float>>& pools, const std::function<double()>& leaf_value) {
  Tree tree;
  for (int level = 0; level < depth; ++level) {
    TreeNode question;
    const auto feature = random.below(static_cast<std::uint32_t>(shape.features));
    question.feature = static_cast<std::int32_t>(feature);
    question.threshold = pools[feature][random.below(static_cast<std::uint32_t>(pools[feature].size()))];
    question.missing_left = random.below(2) == 0;
    for (int i = 0; i < 1 << level; ++i) {
      question.left = static_cast<std::int32_t>(2 * tree.nodes.size() + 1);
      question.right = question.left + 1;
      tree.nodes.push_back(question);
    }
  }
  for (int i = 0; i < 1 << depth; ++i) {
    TreeNode leaf;
    leaf.value = leaf_value();
    tree.nodes.push_back(leaf);
  }
  return tree;
}

struct RandomEnsemble {
  TreeEnsemble ensemble;
  std::vector<std::vector<float>> pools;
};

/// depth 0: branching trees.
RandomEnsemble random_ensemble(Random& random, const Shape& shape, int depth,
                               const std::function<double()>& leaf_value) {
  RandomEnsemble made;
  for (std::size_t i = 0; i < shape.features; ++i)
    made.pools.push_back(threshold_pool(random, shape.thresholds));
  for (std::size_t i = 0; i < shape.trees * shape.outputs; ++i)
    made.ensemble.trees.push_back(depth > 0 ? grow_symmetric(random, shape, depth, made.pools, leaf_value)
                                            : grow(random, shape, made.pools, leaf_value));
  made.ensemble.symmetric_depth = depth;
  made.ensemble.base.clear();
  for (std::size_t k = 0; k < shape.outputs; ++k)
    made.ensemble.base.push_back(static_cast<double>(random.below(9)) - 4);
  return made;
}

/// On a threshold, one unit to either side of one, missing, infinite, zero, tiny, huge, or ordinary.
std::vector<float> awkward_row(Random& random, const std::vector<std::vector<float>>& pools) {
  std::vector<float> row;
  for (const std::vector<float>& pool : pools) {
    const float threshold = pool[random.below(static_cast<std::uint32_t>(pool.size()))];
    const float values[] = {threshold,
                            std::nextafterf(threshold, infinity),
                            std::nextafterf(threshold, -infinity),
                            missing,
                            infinity,
                            -infinity,
                            0.0f,
                            -0.0f,
                            denormal,
                            -denormal,
                            huge,
                            static_cast<float>(random.normal() * 100)};
    // Edges most of all.
    row.push_back(values[random.below(2) == 0 ? random.below(3) : random.below(12)]);
  }
  return row;
}

/// Whole numbers, whose sums float32 holds exactly: any other leaf would show.
std::function<double()> whole_leaves(Random& random, std::int32_t largest) {
  return [&random, largest] {
    return static_cast<double>(random.below(static_cast<std::uint32_t>(2 * largest + 1))) - largest;
  };
}

void expect_same_leaves(const RandomEnsemble& made, const Blob& blob, Random& random, int rows) {
  std::vector<float> out(blob.outputs());
  for (int n = 0; n < rows; ++n) {
    const std::vector<float> row = awkward_row(random, made.pools);
    blob.evaluate(row, out);
    const std::vector<double> expected = ensemble_scores(made.ensemble, row);
    for (std::size_t k = 0; k < out.size(); ++k)
      ASSERT_EQ(static_cast<double>(out[k]), expected[k]) << "row " << n << ", output " << k;
  }
}

const schema::Operator& first_operator(const Blob& blob) {
  return *schema::GetModel(blob.bytes().data())->operators()->Get(0);
}

const Shape shapes[] = {
    {"stumps", 3, 300, 1, 2, 20},
    {"lone leaves only", 2, 5, 2, 1, 10},
    {"small, several outputs", 13, 33, 5, 31, 60},
    {"many features", 40, 100, 1, 31, 300},
    {"two slices an axis", 4, 60, 2, 100, 400},
    {"chains of depth 127", 5, 17, 1, 128, 50, true, true},
    {"chains of depth 800", 5, 9, 1, 801, 50, true, true},
    {"deep", 8, 24, 1, 5000, 3000},
    {"over 65 thousand thresholds", 2, 4, 1, 30000, 60000, false, true},
    {"over 65 thousand leaves", 3, 2, 1, 70000, 500, false, true},
    {"the most leaves that Node4 numbers", 3, 3, 1, 128, 40, false, true},
    {"one leaf more", 3, 3, 1, 129, 40, false, true},
    {"the most leaves that Node6 numbers", 3, 1, 1, 32768, 200, false, true},
};

TEST(BranchingTrees, EveryDecisionIsThatOfTheReference) {
  Random random(1);
  std::set<schema::NodeFormat> node_formats;
  std::set<schema::LeafFormat> leaf_formats;
  bool two_slices = false;
  for (const Shape& shape : shapes)
    for (const std::int32_t largest : {100, 2000, 30000})
      for (const LeafStorage storage : {LeafStorage::exact, LeafStorage::int16}) {
        SCOPED_TRACE(std::string(shape.name) + ", leaves up to " + std::to_string(largest));
        RandomEnsemble made = random_ensemble(random, shape, 0, whole_leaves(random, largest));
        // One leaf of 32767 makes int16's unit 1, so that these leaves are exact too.
        if (storage == LeafStorage::int16) made.ensemble.trees.back().nodes.back().value = 32767;
        const Blob blob = blob_of({made.ensemble, {}}, shape.features, storage);
        const schema::BranchingTrees& packed = *first_operator(blob).kind_as_BranchingTrees();
        node_formats.insert(packed.node_format());
        leaf_formats.insert(packed.leaf_format());
        const auto& begin = *packed.inputs()->threshold_begin();
        for (flatbuffers::uoffset_t axis = 0; axis + 1 < begin.size(); ++axis)
          two_slices |= begin.Get(axis + 1) - begin.Get(axis) > 255;
        expect_same_leaves(made, blob, random, 60);
        if (HasFatalFailure()) return;
      }
  EXPECT_EQ(node_formats.size(), 4u);
  EXPECT_EQ(leaf_formats.size(), 4u);
  EXPECT_TRUE(two_slices);
}

TEST(SymmetricTrees, EveryDecisionIsThatOfTheReference) {
  Random random(2);
  std::set<schema::LeafFormat> leaf_formats;
  for (int depth = 1; depth <= 10; ++depth)
    for (const std::int32_t largest : {100, 2000, 30000})
      for (const LeafStorage storage : {LeafStorage::exact, LeafStorage::int16}) {
        SCOPED_TRACE("depth " + std::to_string(depth));
        const Shape shape = {"", 7, 1 + random.below(40), 1 + random.below(3), 0, 300};
        RandomEnsemble made = random_ensemble(random, shape, depth, whole_leaves(random, largest));
        if (storage == LeafStorage::int16) made.ensemble.trees.back().nodes.back().value = 32767;
        const Blob blob = blob_of({made.ensemble, {}}, shape.features, storage);
        leaf_formats.insert(first_operator(blob).kind_as_SymmetricTrees()->leaf_format());
        expect_same_leaves(made, blob, random, 60);
        if (HasFatalFailure()) return;
      }
  EXPECT_EQ(leaf_formats.size(), 4u);
}

// Real leaves: every leaf rounds once, its lane once per tree, and the lanes four times.
TEST(Trees, ScoresAreWithinTheRoundingOfFloat32) {
  Random random(3);
  const auto leaf = [&random] { return random.normal(); };
  for (const int depth : {0, 5})
    for (const LeafStorage storage : {LeafStorage::exact, LeafStorage::int16}) {
      const Shape shape = {"", 10, 200, 2, 31, 100};
      RandomEnsemble made = random_ensemble(random, shape, depth, leaf);
      made.ensemble.scale = 0.1;
      made.ensemble.base = {0.3, -1.7};
      double largest = 0;
      for (const Tree& tree : made.ensemble.trees)
        for (const TreeNode& node : tree.nodes) largest = std::max(largest, std::abs(node.value));
      const double unit = storage == LeafStorage::int16 ? 0.1 * largest / 32767 : 0;
      const double rounding = std::numeric_limits<float>::epsilon() / 2;
      const double bound = 200 * unit / 2 + rounding * (200 * 0.1 * largest + 1.7) * (1 + 13 + 4 + 3);
      const Blob blob = blob_of({made.ensemble, {}}, shape.features, storage);
      std::vector<float> out(2);
      for (int n = 0; n < 300; ++n) {
        const std::vector<float> row = awkward_row(random, made.pools);
        blob.evaluate(row, out);
        const std::vector<double> expected = ensemble_scores(made.ensemble, row);
        for (std::size_t k = 0; k < 2; ++k) ASSERT_NEAR(out[k], expected[k], bound) << "row " << n;
      }
    }
}

TEST(Trees, OneThresholdSplitsTheNumbersExactlyBehindIt) {
  for (const float threshold :
       {-infinity, -huge, -1.0f, -denormal, -0.0f, 0.0f, denormal, 0.1f, huge, infinity})
    for (const bool missing_left : {true, false}) {
      TreeEnsemble ensemble;
      ensemble.trees.push_back(
          {{{0, threshold, missing_left, 1, 2, 0}, {-1, 0, true, -1, -1, 1}, {-1, 0, true, -1, -1, 2}}});
      const Blob blob = blob_of({ensemble, {}}, 1);
      const auto answer = [&](float x) {
        float out = 0;
        blob.evaluate({&x, 1}, {&out, 1});
        return out;
      };
      for (const float x :
           {threshold, std::nextafterf(threshold, infinity), std::nextafterf(threshold, -infinity), 0.0f,
            -0.0f, denormal, -denormal, huge, -huge, infinity, -infinity})
        EXPECT_EQ(answer(x), x <= threshold ? 1 : 2) << x << " <= " << threshold;
      EXPECT_EQ(answer(missing), missing_left ? 1 : 2);
      EXPECT_EQ(answer(-missing), missing_left ? 1 : 2);
    }
}

TEST(Trees, ModelsThatDoNotFitTheFormatAreRefused) {
  schema::ModelT model = empty_model(2);
  const auto appending = [&](const TreeEnsemble& ensemble) {
    return error_of([&] { append_predictor(model, {ensemble, {}}, 0, 2, LeafStorage::exact); });
  };
  EXPECT_TRUE(contains(appending({}), "no trees"));
  Tree lone_leaf;
  lone_leaf.nodes.emplace_back();
  TreeEnsemble uneven;
  uneven.trees.assign(5, lone_leaf);
  uneven.base = {0, 0};
  EXPECT_TRUE(contains(appending(uneven), "5 trees for 2 outputs"));
  uneven.trees.resize(1);
  EXPECT_TRUE(contains(appending(uneven), "1 trees for 2 outputs"));

  TreeEnsemble wide;
  wide.symmetric_depth = 1;
  for (int i = 0; i <= 256 * 255; ++i)
    wide.trees.push_back({{{0, static_cast<float>(i), true, 1, 2, 0}, {}, {}}});
  EXPECT_TRUE(contains(appending(wide), "fewer bins"));
  EXPECT_TRUE(model.operators.empty());
}

// --- Networks, linear models, calibration -------------------------------------------------------------

std::vector<float> ordinary_row(Random& random, std::size_t features) {
  std::vector<float> row;
  for (std::size_t i = 0; i < features; ++i) row.push_back(static_cast<float>(random.normal()));
  return row;
}

TEST(Networks, ProbabilitiesAreThoseOfTheReference) {
  Random random(5);
  for (const NetworkActivation activation : {NetworkActivation::none, NetworkActivation::relu,
                                             NetworkActivation::sigmoid, NetworkActivation::tanh}) {
    Network network;
    Eigen::Index inputs = 15;
    for (const Eigen::Index outputs : {14, 120, 80, 2}) {
      NetworkLayer layer;
      layer.activation = outputs == 2 ? NetworkActivation::softmax : activation;
      layer.weights.resize(outputs, inputs);
      layer.bias.resize(outputs);
      const double spread = std::sqrt(2.0 / static_cast<double>(inputs));
      for (float& weight : layer.weights.reshaped()) weight = static_cast<float>(random.normal() * spread);
      for (float& bias : layer.bias) bias = static_cast<float>(random.normal() * 0.1);
      network.layers.push_back(layer);
      inputs = outputs;
    }
    const TrainedModel trained{network, {}};
    const Blob blob = blob_of(trained, 15);
    ASSERT_EQ(blob.outputs(), 1u);
    for (int n = 0; n < 200; ++n) {
      const std::vector<float> row = ordinary_row(random, 15);
      float out = 0;
      blob.evaluate(row, {&out, 1});
      ASSERT_NEAR(out, reference_probability(trained, row), 2e-6);
    }
  }
}

TEST(Calibration, ProbabilitiesAreThoseOfTheReference) {
  Random random(6);
  LinearModel linear;
  linear.weights = Eigen::VectorXd::Zero(70);
  for (double& weight : linear.weights) weight = random.normal();
  linear.bias = -0.7;
  Calibration sigmoid, isotonic;
  sigmoid.method = Calibration::Method::sigmoid;
  sigmoid.slope = 1.3;
  sigmoid.intercept = 0.2;
  isotonic.method = Calibration::Method::isotonic;
  isotonic.x = {-9, -3, -1, 0, 0.5f, 8};
  isotonic.y = {0, 0.1f, 0.1f, 0.6f, 0.8f, 1};
  for (const Calibration& calibration : {Calibration{}, sigmoid, isotonic}) {
    const TrainedModel trained{linear, calibration};
    const Blob blob = blob_of(trained, 70);
    for (int n = 0; n < 500; ++n) {
      const std::vector<float> row = ordinary_row(random, 70);
      float out = 0;
      blob.evaluate(row, {&out, 1});
      const double score = reference_score(trained, row);
      // The score's own rounding, times the steepest slope of the calibration.
      ASSERT_NEAR(out, reference_probability(trained, row), 1e-5) << "score " << score;
    }
  }
}

// --- Packing -----------------------------------------------------------------------------------------

TEST(Pack, TheSameModelGivesTheSameBytes) {
  const auto bytes = [] {
    Random random(7);
    const Shape shape = {"", 6, 20, 2, 40, 300};
    schema::ModelT model =
        model_of({random_ensemble(random, shape, 0, whole_leaves(random, 50)).ensemble, {}}, 6);
    std::vector<float> rows(60);
    for (float& cell : rows) cell = static_cast<float>(random.normal());
    add_golden(model, rows);
    return pack(model);
  };
  EXPECT_EQ(bytes(), bytes());
}

TEST(Pack, GoldenRowsWithoutAFiniteAnswerAreLeftOut) {
  LinearModel linear;
  linear.weights = Eigen::VectorXd::Ones(2);
  schema::ModelT model = model_of({linear, {}}, 2);
  add_golden(model, {1, 2, missing, 2, huge, huge, 3, 4});
  ASSERT_EQ(model.golden->rows, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(model.golden->outputs, (std::vector<float>{3, 7}));
  const Blob blob(pack(model), "the test's blob");
  EXPECT_EQ(blob.info().golden_rows, 2u);
  std::vector<float> scratch(tonearm_scratch_size(&blob.model()) / 4);
  float largest = -1;
  EXPECT_EQ(tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * 4, &largest), TONEARM_OK);
  EXPECT_EQ(largest, 0);
}

TEST(Pack, MoreSlotsThanTheFormatHasAreRefused) {
  schema::ModelT model = empty_model(2);
  const auto identity = [] {
    schema::EncoderUnion encoder;
    encoder.Set(schema::IdentityT{});
    return encoder;
  };
  EXPECT_TRUE(contains(error_of([&] { append_feature(model, {0}, 65000, identity()); }), "65000"));
  append_feature(model, std::vector<std::uint16_t>(64000, 0), 64000, identity());
  NetworkLayer layer;
  layer.weights.resize(1600, 2);
  layer.bias.resize(1600);
  Network network{{layer}};
  EXPECT_TRUE(contains(error_of([&] {
                         append_predictor(model, {network, {}}, 0, 2, LeafStorage::exact);
                       }),
                       "65535"));
}

}  // namespace
}  // namespace tonearm
