// ONNX graphs become blobs that compute what ONNX Runtime computes: small graphs, one for each operator, with
// numbers found by hand (or, where the specification is silent, with ONNX Runtime 1.31). And whatever the
// bytes are, there is either a model or a sentence.

#include "base/random.h"
#include "import_onnx_graphs.h"

namespace tonearm {
namespace {

// --- Trees ----------------------------------------------------------------------------------------------

/// One test, x <mode> threshold: 1 if true, else 0.
Graph one_test(const std::string& mode, float threshold, bool missing_true) {
  Graph graph;
  graph.ml("TreeEnsembleRegressor", {"X"}, {"Y"})
      .integer("n_targets", 1)
      .ints("nodes_treeids", {0, 0, 0})
      .ints("nodes_nodeids", {0, 1, 2})
      .ints("nodes_featureids", {0, 0, 0})
      .floats("nodes_values", {threshold, 0, 0})
      .texts("nodes_modes", {mode, "LEAF", "LEAF"})
      .ints("nodes_truenodeids", {1, 0, 0})
      .ints("nodes_falsenodeids", {2, 0, 0})
      .ints("nodes_missing_value_tracks_true", {missing_true ? 1 : 0, 0, 0})
      .ints("target_treeids", {0, 0})
      .ints("target_nodeids", {1, 2})
      .ints("target_ids", {0, 0})
      .floats("target_weights", {1, 0});
  return graph;
}

struct Mode {
  const char* name;
  bool (*holds)(float x, float threshold);
};
constexpr Mode modes[] = {{"BRANCH_LEQ", [](float x, float t) { return x <= t; }},
                          {"BRANCH_LT", [](float x, float t) { return x < t; }},
                          {"BRANCH_GTE", [](float x, float t) { return x >= t; }},
                          {"BRANCH_GT", [](float x, float t) { return x > t; }},
                          {"BRANCH_EQ", [](float x, float t) { return x == t; }},
                          {"BRANCH_NEQ", [](float x, float t) { return x != t; }}};

TEST(ImportOnnx, TreesDecideLikeOnnxRuntimeInEveryMode) {
  constexpr float denormal = std::numeric_limits<float>::denorm_min();
  constexpr float most = std::numeric_limits<float>::max();
  for (const Mode& mode : modes)
    for (const bool missing_true : {false, true})
      for (const float t : {1.5f, 0.0f, -0.0f, denormal, -3.0f, infinity, -infinity, missing}) {
        std::vector<Floats> rows;
        Floats expected;
        for (const float x : {t, std::nextafter(t, infinity), std::nextafter(t, -infinity), 0.0f, -0.0f, most,
                              -most, infinity, -infinity, denormal, -denormal}) {
          if (std::isnan(x)) continue;
          rows.push_back({x});
          expected.push_back(mode.holds(x, t) ? 1.0f : 0.0f);
        }
        // NaN is unequal to every number, and otherwise goes where the node says.
        rows.push_back({missing});
        expected.push_back(missing_true || mode.name == std::string("BRANCH_NEQ") ? 1.0f : 0.0f);
        EXPECT_EQ(evaluate(one_test(mode.name, t, missing_true), rows), expected)
            << mode.name << " " << t << " " << missing_true;
      }
}

TEST(ImportOnnx, EqualityWithTheLastFloatIsRefused) {
  expect_error(one_test("BRANCH_EQ", std::numeric_limits<float>::max(), false), "for equality");
}

TEST(ImportOnnx, DoubleThresholdsBecomeTheFloatBelow) {
  for (const double t : {1 + 0x1p-26, 1 - 0x1p-27, 1e300}) {
    Graph graph = one_test("BRANCH_LEQ", 0, false);
    auto& attributes = *graph.graph().mutable_node(0)->mutable_attribute();
    for (int i = 0; i < attributes.size(); ++i)
      if (attributes[i].name() == "nodes_values") attributes.DeleteSubrange(i, 1);
    NodeBuilder{*graph.graph().mutable_node(0)}.doubles("nodes_values_as_tensor", {t, 0, 0});
    const float below_one = std::nextafter(1.0f, 0.0f), above_one = std::nextafter(1.0f, 2.0f);
    Floats expected;
    for (const float x : {below_one, 1.0f, above_one})
      expected.push_back(static_cast<double>(x) <= t ? 1.0f : 0.0f);
    EXPECT_EQ(evaluate(graph, {{below_one}, {1}, {above_one}}), expected) << t;
  }
}

/// One tree: x <= 1 gives `low`, else `high`, each a weight for every class id in `ids`.
Graph classifier(std::int64_t classes, const Ints& ids, const Floats& low, const Floats& high,
                 const std::string& transform, const Floats& base = {}) {
  Graph graph;
  graph.output("L", TensorProto::INT64);
  Ints labels, class_ids, nodes, trees;
  Floats weights;
  for (std::int64_t i = 0; i < classes; ++i) labels.push_back(i);
  for (const std::int64_t leaf : {1, 2})
    for (std::size_t i = 0; i < ids.size(); ++i) {
      class_ids.push_back(ids[i]);
      nodes.push_back(leaf);
      trees.push_back(0);
      weights.push_back((leaf == 1 ? low : high)[i]);
    }
  NodeBuilder node = graph.ml("TreeEnsembleClassifier", {"X"}, {"L", "Y"});
  node.ints("classlabels_int64s", labels)
      .text("post_transform", transform)
      .ints("nodes_treeids", {0, 0, 0})
      .ints("nodes_nodeids", {0, 1, 2})
      .ints("nodes_featureids", {0, 0, 0})
      .floats("nodes_values", {1, 0, 0})
      .texts("nodes_modes", {"BRANCH_LEQ", "LEAF", "LEAF"})
      .ints("nodes_truenodeids", {1, 0, 0})
      .ints("nodes_falsenodeids", {2, 0, 0})
      .ints("class_treeids", trees)
      .ints("class_nodeids", nodes)
      .ints("class_ids", class_ids)
      .floats("class_weights", weights);
  if (!base.empty()) node.floats("base_values", base);
  return graph;
}

TEST(ImportOnnx, TwoClassesGiveTheSecondOne) {
  const std::vector<Floats> rows = {{0}, {2}};
  expect_outputs(classifier(2, {0}, {.3f}, {-.7f}, "NONE"), rows, {.3f, -.7f});
  expect_outputs(classifier(2, {0}, {.3f}, {.7f}, "NONE"), rows, {.3f, .7f});
  expect_outputs(classifier(2, {1}, {.3f}, {-.7f}, "LOGISTIC"), rows, {.5744425f, .33181226f});
  expect_outputs(classifier(2, {0}, {.3f}, {-.7f}, "LOGISTIC", {.25f}), rows, {.6341356f, .3893607f});
  expect_outputs(classifier(2, {0, 1}, {.3f, -.7f}, {.4f, .9f}, "NONE"), rows, {-.7f, .9f});
  expect_outputs(classifier(2, {0, 1}, {.3f, -.7f}, {.4f, .9f}, "SOFTMAX"), rows, {.26894143f, .62245935f});
  expect_error(classifier(2, {0}, {.3f}, {-.7f}, "NONE", {.25f, .5f}), "base_values are for two classes");
  expect_error(classifier(2, {0}, {.3f}, {-.7f}, "SOFTMAX"), "SOFTMAX of a single score");
  expect_error(classifier(1, {0}, {.3f}, {-.7f}, "NONE"), "it has 1 classes");
}

TEST(ImportOnnx, ManyClassesGiveAll) {
  const std::vector<Floats> rows = {{0}, {2}};
  const Floats low = {.1f, .2f, .3f}, high = {.4f, .5f, -.6f};
  expect_outputs(classifier(3, {0, 1, 2}, low, high, "NONE", {.1f, .2f, .3f}), rows,
                 {.2f, .4f, .6f, .5f, .7f, -.3f});
  // Softmax of {.1, .2, .3} and {.4, .5, -.6}.
  expect_outputs(classifier(3, {0, 1, 2}, low, high, "SOFTMAX"), rows,
                 {.30060961f, .33222499f, .36716541f, .40435892f, .4468857f, .14875533f});
  // A class without weights has the score 0.
  expect_outputs(classifier(3, {0, 1}, {.1f, .2f}, {.4f, .5f}, "LOGISTIC"), rows,
                 {logistic(.1f), logistic(.2f), .5f, logistic(.4f), logistic(.5f), .5f});
  for (const char* transform : {"SOFTMAX_ZERO", "PROBIT"})
    expect_error(classifier(3, {0, 1, 2}, low, high, transform),
                 std::string("post_transform is ") + transform);
}

TEST(ImportOnnx, AnEnsembleOverColumnsStaysAnEnsemble) {
  const ImportedModel model = import(classifier(2, {0}, {.3f}, {-.7f}, "LOGISTIC"));
  const auto& trees = std::get<ImportedTrees>(model.predictor);
  EXPECT_EQ(trees.ensemble.trees.size(), 1u);
  EXPECT_EQ(trees.link, Link::sigmoid);
  EXPECT_EQ(model.format, "ONNX, opset 17 and ai.onnx.ml 3");
}

TEST(ImportOnnx, TheSoftmaxOfTwoScoresIsTheSigmoidOfTheirDifference) {
  // Of leaves, and of trees, each with a weight for one class.
  const Graph leaves = classifier(2, {0, 1}, {.3f, -.7f}, {.4f, .9f}, "SOFTMAX");
  Graph trees(1);
  trees.output("L", TensorProto::INT64);
  trees.ml("TreeEnsembleRegressor", {"X"}, {"s"})
      .integer("n_targets", 2)
      .ints("nodes_treeids", {0, 0, 0, 1, 1, 1})
      .ints("nodes_nodeids", {0, 1, 2, 0, 1, 2})
      .ints("nodes_featureids", {0, 0, 0, 0, 0, 0})
      .floats("nodes_values", {1, 0, 0, 3, 0, 0})
      .texts("nodes_modes", {"BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"})
      .ints("nodes_truenodeids", {1, 0, 0, 1, 0, 0})
      .ints("nodes_falsenodeids", {2, 0, 0, 2, 0, 0})
      .ints("target_treeids", {0, 0, 1, 1})
      .ints("target_nodeids", {1, 2, 1, 2})
      .ints("target_ids", {0, 0, 1, 1})
      .floats("target_weights", {.3f, .4f, -.7f, .9f})
      .floats("base_values", {.25f, .5f});
  trees.node("Softmax", {"s"}, {"Y"});
  expect_outputs(leaves, {{0}, {2}}, {logistic(-1), logistic(.5f)});
  expect_outputs(trees, {{0}, {2}, {4}}, {logistic(-.75f), logistic(-.85f), logistic(.75f)});
  for (const Graph& graph : {leaves, trees}) {
    const ImportedModel model = import(graph);
    const auto& found = std::get<ImportedTrees>(model.predictor);
    EXPECT_EQ(found.link, Link::sigmoid);
    EXPECT_EQ(found.ensemble.base.size(), 1u);
    EXPECT_LT(score_rounding(found.ensemble, LeafStorage::exact), 1e-6);
  }
}

TEST(ImportOnnx, RegressorsAddBaseAndAverage) {
  Graph graph = one_test("BRANCH_LEQ", 1, false);
  NodeBuilder{*graph.graph().mutable_node(0)}
      .text("aggregate_function", "AVERAGE")
      .floats("base_values", {.5f});
  expect_outputs(graph, {{0}, {2}}, {1.5f, .5f});
  Graph least = one_test("BRANCH_LEQ", 1, false);
  NodeBuilder{*least.graph().mutable_node(0)}.text("aggregate_function", "MIN");
  expect_error(least, "aggregate_function is MIN");
  Graph logistic_score = one_test("BRANCH_LEQ", 1, false);
  NodeBuilder{*logistic_score.graph().mutable_node(0)}.text("post_transform", "LOGISTIC");
  expect_error(logistic_score, "which ONNX Runtime does not apply");
}

/// x == a or x == b or x == c by a chain of tests that lead to one node, as LightGBM's converter makes them.
TEST(ImportOnnx, AChainOfEqualitiesIsOneTest) {
  Graph graph;
  graph.ml("TreeEnsembleRegressor", {"X"}, {"Y"})
      .integer("n_targets", 1)
      .ints("nodes_treeids", {0, 0, 0, 0, 0})
      .ints("nodes_nodeids", {0, 1, 2, 3, 4})
      .ints("nodes_featureids", {0, 0, 0, 0, 0})
      .floats("nodes_values", {3, 4, 9, 0, 0})
      .texts("nodes_modes", {"BRANCH_EQ", "BRANCH_EQ", "BRANCH_EQ", "LEAF", "LEAF"})
      .ints("nodes_truenodeids", {3, 3, 3, 0, 0})
      .ints("nodes_falsenodeids", {1, 2, 4, 0, 0})
      .ints("target_treeids", {0, 0})
      .ints("target_nodeids", {3, 4})
      .ints("target_ids", {0, 0})
      .floats("target_weights", {1, -1});
  expect_outputs(graph, {{3}, {4}, {9}, {3.5f}, {0}, {missing}, {std::nextafter(3.0f, 4.0f)}},
                 {1, 1, 1, -1, -1, -1, -1});
}

TEST(ImportOnnx, TreeEnsembleOfOpset5) {
  Graph graph;
  NodeBuilder node = graph.ml("TreeEnsemble", {"X"}, {"Y"});
  node.integer("n_targets", 1)
      .ints("nodes_featureids", {0, 0})
      .doubles("nodes_splits", {1, 0})
      .ints("nodes_truenodeids", {1, 0})
      .ints("nodes_falsenodeids", {2, 1})
      .ints("nodes_trueleafs", {0, 1})
      .ints("nodes_falseleafs", {1, 1})
      .ints("tree_roots", {0})
      .ints("leaf_targetids", {0, 0, 0})
      .doubles("leaf_weights", {10, 20, 30})
      .doubles("nodes_modes", {0, 6})
      .doubles("membership_values", {-1, -5, std::nan("")});
  expect_outputs(graph, {{-5}, {-1}, {0}, {2}, {missing}}, {10, 10, 20, 30, 30});
}

TEST(ImportOnnx, TreesAfterAScalerSeeTheRoundedValue) {
  Graph graph = one_test("BRANCH_LEQ", 0.25f, false);
  graph.graph().mutable_node(0)->set_input(0, "S");
  graph.ml("Scaler", {"X"}, {"S"}).floats("offset", {.1f}).floats("scale", {1.7f});
  const float offset = .1f, scale = 1.7f;
  float x = .2f;
  std::vector<Floats> rows;
  Floats expected;
  for (int i = 0; i < 2000; ++i, x = std::nextafter(x, 1.0f)) {
    x += i < 1900 ? 2.5e-5f : 0;
    const float difference = x - offset;
    rows.push_back({x});
    expected.push_back(difference * scale <= 0.25f ? 1.0f : 0.0f);
  }
  EXPECT_EQ(evaluate(graph, rows), expected);
}

TEST(ImportOnnx, TreesSendImputedValuesWhereTheFillGoes) {
  for (const float fill : {0.0f, 5.0f}) {
    Graph graph = one_test("BRANCH_LEQ", 1, false);
    graph.graph().mutable_node(0)->set_input(0, "I");
    graph.ml("Imputer", {"X"}, {"I"})
        .floats("imputed_value_floats", {fill})
        .number("replaced_value_float", missing);
    expect_outputs(graph, {{0}, {2}, {missing}}, {1, 0, fill <= 1 ? 1.0f : 0.0f});
    EXPECT_TRUE(std::holds_alternative<ImportedTrees>(import(graph).predictor));
  }
}

// --- Linear models and layers ---------------------------------------------------------------------------

TEST(ImportOnnx, LinearModels) {
  Graph regressor(2);
  regressor.ml("LinearRegressor", {"X"}, {"Y"})
      .integer("targets", 2)
      .floats("coefficients", {1, 2, 3, 4})
      .floats("intercepts", {.5f, -.5f});
  expect_outputs(regressor, {{1, 10}}, {21.5f, 42.5f});

  const auto linear_classifier = [](const Floats& weights, const Floats& bias, const std::string& transform) {
    Graph graph;
    graph.output("L", TensorProto::INT64);
    graph.ml("LinearClassifier", {"X"}, {"L", "P"})
        .ints("classlabels_ints", {0, 1})
        .floats("coefficients", weights)
        .floats("intercepts", bias)
        .text("post_transform", transform);
    graph.ml("Normalizer", {"P"}, {"N"}).text("norm", "L1");
    graph.ml("ZipMap", {"N"}, {"Y"}).ints("classlabels_int64s", {0, 1});
    return graph;
  };
  expect_outputs(linear_classifier({.5f}, {.1f}, "LOGISTIC"), {{2}}, {logistic(1.1f)});
  expect_outputs(linear_classifier({-.5f, .5f}, {-.1f, .1f}, "LOGISTIC"), {{2}}, {logistic(1.1f)});
  expect_outputs(linear_classifier({-.5f, .5f}, {-.1f, .1f}, "SOFTMAX"), {{2}}, {logistic(2.2f)});
  expect_error(linear_classifier({-.5f, .4f}, {-.1f, .1f}, "LOGISTIC"), "values that a layer computes");
  expect_error(linear_classifier({-.5f, .5f, 3}, {-.1f, .1f}, "NONE"),
               "3 weights for 1 values and 2 outputs");
}

TEST(ImportOnnx, LinearSupportVectors) {
  Graph regressor(2);
  regressor.ml("SVMRegressor", {"X"}, {"Y"})
      .text("kernel_type", "LINEAR")
      .integer("n_supports", 2)
      .floats("support_vectors", {1, 2, 3, 4})
      .floats("coefficients", {.5f, -1})
      .floats("rho", {.25f});
  expect_outputs(regressor, {{1, 1}}, {.5f * 3 - 7 + .25f});

  const auto machine = [](bool probability, const std::string& kernel) {
    Graph graph;
    graph.output("L", TensorProto::INT64);
    NodeBuilder node = graph.ml("SVMClassifier", {"X"}, {"L", "Y"});
    node.text("kernel_type", kernel)
        .ints("classlabels_ints", {0, 1})
        .ints("vectors_per_class", {1, 1})
        .floats("support_vectors", {1, 3})
        .floats("coefficients", {1, -1})
        .floats("rho", {4});
    if (probability) node.floats("prob_a", {-1.5f}).floats("prob_b", {.1f});
    return graph;
  };
  expect_outputs(machine(false, "LINEAR"), {{0}, {3}}, {-4, 2});
  expect_outputs(machine(true, "LINEAR"), {{3}}, {logistic(3 + .1f)});
  expect_error(machine(false, "RBF"), "kernel is RBF");
}

TEST(ImportOnnx, LayersOfPerceptrons) {
  // Gemm, BatchNormalization, Relu, Gemm, Sigmoid: as PyTorch exports them.
  Graph graph(2);
  graph.constant("w1", {2, 2}, {1, 2, -1, 1}).constant("b1", {2}, {.5f, 0});
  graph.constant("s", {2}, {2, 1})
      .constant("t", {2}, {0, 1})
      .constant("m", {2}, {1, 0})
      .constant("v", {2}, {4, 1});
  graph.constant("w2", {1, 2}, {1, -1}).constant("b2", {1}, {.25f});
  graph.node("Gemm", {"X", "w1", "b1"}, {"h"}).integer("transB", 1);
  graph.node("BatchNormalization", {"h", "s", "t", "m", "v"}, {"n"}).number("epsilon", 0);
  graph.node("Relu", {"n"}, {"r"});
  graph.node("Dropout", {"r"}, {"d"});
  graph.node("Gemm", {"d", "w2", "b2"}, {"g"}).integer("transB", 1);
  graph.node("Sigmoid", {"g"}, {"Y"});
  // h = {3 + .5, 0}; n = {(3.5 - 1) / 2 * 2, 1}; g = 2.5 - 1 + .25
  expect_outputs(graph, {{1, 1}}, {logistic(1.75f)});
  const Blob blob = blob_of(import(graph));
  EXPECT_EQ(blob.info().outputs, 1u);

  // MatMul, Add, Tanh, MatMul, Softmax: as Keras does.
  Graph keras(2);
  keras.constant("w1", {2, 3}, {1, 0, 1, 0, 1, 1}).constant("b1", {3}, {0, 0, -1});
  keras.constant("w2", {3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1});
  keras.node("MatMul", {"X", "w1"}, {"a"});
  keras.node("Add", {"a", "b1"}, {"b"});
  keras.node("Tanh", {"b"}, {"c"});
  keras.node("MatMul", {"c", "w2"}, {"d"});
  keras.node("Softmax", {"d"}, {"Y"}).integer("axis", -1);
  const float a = std::exp(std::tanh(.5f)), b = std::exp(std::tanh(-.25f)), c = std::exp(std::tanh(-.75f));
  expect_outputs(keras, {{.5f, -.25f}}, {a / (a + b + c), b / (a + b + c), c / (a + b + c)});
}

TEST(ImportOnnx, ArithmeticWithConstants) {
  Graph graph(2);
  graph.constant("two", {1}, {2}).constant("pair", {1, 2}, {10, 20}).constant("one", {}, {1});
  graph.node("Sub", {"X", "pair"}, {"a"});
  graph.node("Div", {"a", "two"}, {"b"});
  graph.node("Sub", {"one", "b"}, {"c"});
  graph.node("Mul", {"c", "pair"}, {"d"});
  graph.node("Neg", {"d"}, {"Y"});
  expect_outputs(graph, {{12, 10}}, {0, -120});

  Graph sums(2);
  sums.constant("w", {2, 1}, {1, 1});
  sums.node("MatMul", {"X", "w"}, {"a"});
  sums.node("Add", {"a", "X"}, {"Y"});
  expect_outputs(sums, {{1, 2}}, {4, 5});

  Graph product(2);
  product.node("Mul", {"X", "X"}, {"Y"});
  expect_error(product, "by each other");
}

TEST(ImportOnnx, PiecewiseLinearActivations) {
  const auto activation = [](const std::string& op) {
    Graph graph;
    NodeBuilder node = graph.node(op, {"X"}, {"Y"});
    if (op == "LeakyRelu") node.number("alpha", .25f);
    if (op == "Clip") {
      graph.constant("low", {}, {-2}).constant("high", {}, {3});
      node.node.add_input("low");
      node.node.add_input("high");
    }
    return graph;
  };
  const std::vector<Floats> rows = {{-8}, {-1}, {0}, {2}, {1e30f}, {-1e30f}, {missing}};
  expect_outputs(activation("Relu"), rows, {0, 0, 0, 2, 1e30f, 0, missing});
  expect_outputs(activation("LeakyRelu"), rows, {-2, -.25f, 0, 2, 1e30f, -.25e30f, missing});
  expect_outputs(activation("Clip"), rows, {-2, -1, 0, 2, 3, -2, missing});
  expect_outputs(activation("HardSigmoid"), rows, {0, .3f, .5f, .9f, 1, 0, missing});
}

// --- Preprocessing --------------------------------------------------------------------------------------

TEST(ImportOnnx, ScalingAndImputationFoldIntoTheModel) {
  Graph graph(2);
  graph.ml("Imputer", {"X"}, {"I"})
      .floats("imputed_value_floats", {1, 2})
      .number("replaced_value_float", missing);
  graph.ml("Scaler", {"I"}, {"S"}).floats("offset", {1, 1}).floats("scale", {2, 3});
  graph.ml("LinearRegressor", {"S"}, {"Y"}).floats("coefficients", {1, 10}).floats("intercepts", {0});
  expect_outputs(graph, {{2, 2}, {missing, missing}}, {32, 30});

  Graph both(1);  // imputed for one, and as it is for the other
  both.ml("Imputer", {"X"}, {"I"})
      .floats("imputed_value_floats", {1})
      .number("replaced_value_float", missing);
  both.node("Add", {"X", "I"}, {"Y"});
  expect_error(both, "imputed in one place and read as it is in another");

  Graph zero(1);
  zero.ml("Imputer", {"X"}, {"Y"}).floats("imputed_value_floats", {1}).number("replaced_value_float", 0);
  expect_error(zero, "only missing values");
}

TEST(ImportOnnx, NormalizersDivideByTheNormOfTheirInputs) {
  const auto normalizer = [](const std::string& norm) {
    Graph graph(3);
    graph.ml("Normalizer", {"X"}, {"Y"}).text("norm", norm);
    return graph;
  };
  const std::vector<Floats> rows = {{1, 4, -3}, {-1, -2, -4}, {0, 0, 0}, {0, -3, 0}, {2, missing, 1}};
  expect_outputs(
      normalizer("L1"), rows,
      {.125f, .5f, -.375f, -1 / 7.f, -2 / 7.f, -4 / 7.f, 0, 0, 0, 0, -1, 0, missing, missing, missing});
  const float a = std::sqrt(26.f), b = std::sqrt(21.f);
  expect_outputs(
      normalizer("L2"), rows,
      {1 / a, 4 / a, -3 / a, -1 / b, -2 / b, -4 / b, 0, 0, 0, 0, -1, 0, missing, missing, missing});
  // The largest value with its sign; where it is 0, the values stay. A missing one is not the largest.
  expect_outputs(normalizer("MAX"), rows, {.25f, 1, -.75f, 1, 2, 4, 0, 0, 0, 0, -3, 0, 1, missing, .5f});
  expect_error(normalizer("L3"), "its norm is L3, and L1, L2 and MAX are known");
}

TEST(ImportOnnx, NormalizedValuesAreReadLikeColumns) {
  // Between an imputer, a scaler and a linear model, which reads columns beside them.
  Graph graph(2);
  graph.ml("Imputer", {"X"}, {"I"})
      .floats("imputed_value_floats", {3, 4})
      .number("replaced_value_float", missing);
  graph.ml("Scaler", {"I"}, {"S"}).floats("offset", {1, 2}).floats("scale", {2, -2});
  graph.ml("Normalizer", {"S"}, {"N"}).text("norm", "L1");
  graph.node("Concat", {"I", "N"}, {"all"}).integer("axis", 1);
  graph.ml("LinearRegressor", {"all"}, {"Y"})
      .floats("coefficients", {1, 10, 100, 1000})
      .floats("intercepts", {5});
  expect_outputs(graph, {{4, 1}, {missing, missing}}, {4 + 10 + 75 + 250 + 5, 3 + 40 + 50 - 500 + 5});

  // Trees compare what ONNX Runtime rounds otherwise, so there is no bound.
  Graph trees = one_test("BRANCH_LEQ", .5f, true);
  trees.graph().mutable_node(0)->set_input(0, "N");
  trees.input("Z", 1);
  trees.node("Concat", {"X", "Z"}, {"both"}).integer("axis", 1);
  trees.ml("Normalizer", {"both"}, {"N"}).text("norm", "L2");
  expect_outputs(trees, {{3, -4}, {1, 4}, {-3, 0}, {0, 0}, {missing, 1}}, {0, 1, 1, 1, 1});
  const ImportedModel model = import(trees);
  EXPECT_TRUE(std::isnan(std::get<ImportedProgram>(model.predictor).score_bound));
  ASSERT_EQ(model.remarks.size(), 1u);
  EXPECT_NE(model.remarks[0].find("can be decided differently"), std::string::npos) << model.remarks[0];

  Graph after(2);
  after.node("Relu", {"X"}, {"R"});
  after.ml("Normalizer", {"R"}, {"Y"}).text("norm", "L2");
  expect_error(after, "Normalizer \"the Normalizer\": it divides values that a layer computes by their norm");
}

TEST(ImportOnnx, SessionsImputeByTheSpec) {
  Graph graph(1);
  graph.ml("Imputer", {"X"}, {"I"})
      .floats("imputed_value_floats", {7})
      .number("replaced_value_float", missing);
  graph.ml("LinearRegressor", {"I"}, {"Y"}).floats("coefficients", {1}).floats("intercepts", {0});
  const ImportedModel imported = import(graph);
  schema::ModelT model;
  model.session = std::make_unique<schema::SessionRuleT>();
  model.missing_fill = {missing};
  try {
    std::get<ImportedProgram>(imported.predictor).append(model, 0);
    FAIL() << "it should have been refused";
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "the ONNX model replaces missing values of \"X\" with 7, and a session's features keep them: "
        "export it without its imputer, and give the columns that the feature reads a value in the "
        "spec's [missing]");
  }
}

TEST(ImportOnnx, CategoriesGetTheirVocabularies) {
  Graph graph(0);
  graph.input("genre", 1, TensorProto::STRING).input("mode", 1, TensorProto::INT64).input("tempo", 1);
  graph.ml("OneHotEncoder", {"genre"}, {"g3"}).texts("cats_strings", {"jazz", "rock"}).integer("zeros", 1);
  graph.whole("flat", {-1, 2});
  graph.node("Reshape", {"g3", "flat"}, {"g"});
  graph.ml("LabelEncoder", {"mode"}, {"m"})
      .ints("keys_int64s", {7, 2010})
      .floats("values_floats", {100, 200})
      .number("default_float", -1);
  graph.node("Concat", {"tempo", "g", "m"}, {"all"}).integer("axis", 1);
  graph.constant("w", {4, 1}, {1, 10, 20, 1});
  graph.node("MatMul", {"all", "w"}, {"Y"});
  const ImportedModel model = import(graph);
  ASSERT_EQ(model.columns.size(), 3u);
  EXPECT_EQ(model.columns[0].name, "genre");
  EXPECT_EQ(model.columns[0].vocabulary, (Texts{"jazz", "rock"}));
  EXPECT_TRUE(model.columns[1].vocabulary.empty());
  expect_outputs(graph, {{0, 7, .5f}, {1, 2010, .5f}, {missing, 8, .5f}, {1, missing, .5f}},
                 {110.5f, 220.5f, -.5f, 19.5f});

  Graph strings(0);
  strings.input("genre", 1, TensorProto::STRING);
  strings.ml("LabelEncoder", {"genre"}, {"i"})
      .texts("keys_strings", {"rock", "jazz"})
      .ints("values_int64s", {5, 6})
      .integer("default_int64", -2);
  strings.node("Cast", {"i"}, {"f"}).integer("to", TensorProto::FLOAT);
  strings.constant("w", {1, 1}, {1});
  strings.node("MatMul", {"f", "w"}, {"Y"});
  expect_outputs(strings, {{0}, {1}, {missing}}, {5, 6, -2});
}

TEST(ImportOnnx, ShapesThatMoveNothing) {
  // The number of rows travels through Shape, Gather, Concat and Reshape, as in exports of TensorFlow.
  Graph graph(4);
  graph.whole("zero", {0}).whole("two", {2, 2}).whole("axes", {1});
  graph.node("Shape", {"X"}, {"s"});
  graph.node("Gather", {"s", "zero"}, {"n"});
  graph.node("Concat", {"n", "two"}, {"t"}).integer("axis", 0);
  graph.node("Reshape", {"X", "t"}, {"a"});
  graph.node("Transpose", {"a"}, {"b"}).ints("perm", {0, 2, 1});
  graph.node("Flatten", {"b"}, {"c"});
  graph.node("Unsqueeze", {"c", "axes"}, {"d"});
  graph.node("Squeeze", {"d", "axes"}, {"e"});
  graph.constant("one", {1}, {1});
  graph.node("Mul", {"e", "one"}, {"f"});
  graph.node("Identity", {"f"}, {"Y"});
  expect_outputs(graph, {{1, 2, 3, 4}}, {1, 3, 2, 4});

  Graph mixing(4);
  mixing.whole("pairs", {-1, 2});
  mixing.node("Reshape", {"X", "pairs"}, {"Y"});
  expect_error(mixing, "mixes the rows");
}

TEST(ImportOnnx, ColumnsArePickedAndPutTogether) {
  Graph graph(4);
  graph.whole("picked", {3, 1}).whole("from", {2}).whole("to", {9223372036854775807}).whole("axis", {1});
  graph.ml("ArrayFeatureExtractor", {"X", "picked"}, {"a"});
  graph.node("Slice", {"X", "from", "to", "axis"}, {"b"});
  graph.node("Gather", {"X", "from"}, {"c"}).integer("axis", 1);
  graph.node("Split", {"X"}, {"d", "e"}).integer("axis", 1);
  graph.ml("FeatureVectorizer", {"a", "b"}, {"f"}).ints("inputdimensions", {2, 2});
  graph.node("Concat", {"f", "c", "e"}, {"Y"}).integer("axis", 1);
  expect_outputs(graph, {{1, 2, 3, 4}}, {4, 2, 3, 4, 3, 3, 4});
}

TEST(ImportOnnx, ConstantsAreFolded) {
  Graph graph(2);
  graph.constant("v", {2}, {3, 15}).constant("e", {1}, {1}).constant("x", {2}, {2, 2});
  graph.node("Add", {"v", "e"}, {"a"});
  graph.node("Sqrt", {"a"}, {"b"});
  graph.node("Pow", {"b", "x"}, {"c"});
  graph.node("Reciprocal", {"c"}, {"d"});
  graph.node("Mul", {"X", "d"}, {"Y"});
  expect_outputs(graph, {{8, 32}}, {2, 2});
}

TEST(ImportOnnx, ALabelLeadsToItsScores) {
  Graph graph(3);
  graph.graph().mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(TensorProto::INT64);
  graph.constant("w", {3, 3}, {1, 0, 0, 0, 2, 0, 0, 0, 3});
  graph.node("MatMul", {"X", "w"}, {"scores"});
  graph.node("ArgMax", {"scores"}, {"Y"}).integer("axis", 1);
  expect_outputs(graph, {{1, 1, 1}}, {1, 2, 3});
}

// --- What cannot be imported ----------------------------------------------------------------------------

TEST(ImportOnnx, EveryUnsupportedNodeIsNamed) {
  Graph graph(2);
  graph.node("Erf", {"X"}, {"a"});
  graph.node("NonMaxSuppression", {"a"}, {"b"});
  graph.node("Add", {"b", "X"}, {"c"});
  graph.node("Sin", {"X"}, {"d"});
  graph.node("Mul", {"X", "X"}, {"e"});
  graph.node("Concat", {"c", "d", "e"}, {"Y"}).integer("axis", 1);
  graph.node("LSTM", {"X"}, {"unused"});
  const std::string error = error_of(graph);
  EXPECT_EQ(error,
            "m.onnx: cannot be imported because of 4 nodes: Erf \"the Erf\": there is no such operator here; "
            "NonMaxSuppression \"the NonMaxSuppression\": there is no such operator here; Sin \"the Sin\": "
            "there is "
            "no such operator here; Mul \"the Mul\": it multiplies or divides a row's values by each other");
}

TEST(ImportOnnx, MalformedGraphs) {
  EXPECT_NE(error_of("tree\nversion=v9\n").find("nor ONNX"), std::string::npos);
  EXPECT_NE(error_of("").find("nor an ONNX model"), std::string::npos);

  Graph circle;
  circle.node("Relu", {"b"}, {"a"});
  circle.node("Relu", {"a"}, {"b"});
  circle.node("Add", {"X", "b"}, {"Y"});
  expect_error(circle, "goes round in a circle");

  Graph nothing;
  nothing.node("Relu", {"nowhere"}, {"Y"});
  expect_error(nothing, "\"nowhere\", which nothing makes");

  Graph twice;
  twice.node("Relu", {"X"}, {"Y"});
  twice.node("Tanh", {"X"}, {"Y"});
  expect_error(twice, "two nodes make \"Y\"");

  Graph constant;
  constant.constant("c", {1}, {1});
  constant.node("Relu", {"c"}, {"Y"});
  EXPECT_NE(error_of(constant), "");

  Graph broken;
  broken.constant("Y", {3}, {1});
  expect_error(broken, "\"Y\" does not depend on the inputs");

  Graph wide(std::int64_t{1} << 40);
  wide.node("Relu", {"X"}, {"Y"});
  expect_error(wide, "1 to 65000 columns");

  Graph external;
  external.constant("w", {1, 1}, {1});
  external.graph().mutable_initializer(0)->set_data_location(TensorProto::EXTERNAL);
  external.node("MatMul", {"X", "w"}, {"Y"});
  expect_error(external, "are in another file");

  Graph large;
  large.constant("w", {1, 1000000000}, {1});
  large.node("MatMul", {"X", "w"}, {"Y"});
  expect_error(large, "4 bytes of data, and its shape needs 4000000000");

  Graph filled;
  filled.whole("shape", {1000000000});
  filled.node("ConstantOfShape", {"shape"}, {"c"});
  filled.node("Add", {"X", "c"}, {"Y"});
  expect_error(filled, "it would make 1000000000 values");

  Graph chain(1000);  // would be a thousand values in each of many nodes
  std::string last = "X";
  for (int i = 0; i < 20000; ++i) {
    chain.node("Neg", {last}, {"n" + std::to_string(i)});
    last = "n" + std::to_string(i);
  }
  chain.node("Neg", {last}, {"Y"});
  expect_error(chain, "grow far beyond its file");
}

/// Sets one number of an attribute of the first node.
Graph with(Graph graph, const std::string& name, int index, std::int64_t value) {
  for (AttributeProto& attribute : *graph.graph().mutable_node(0)->mutable_attribute())
    if (attribute.name() == name) attribute.set_ints(index, value);
  return graph;
}

TEST(ImportOnnx, MalformedTrees) {
  const Graph sound = one_test("BRANCH_LEQ", 1, false);
  ASSERT_EQ(error_of(sound), "");
  expect_error(with(sound, "nodes_truenodeids", 0, 0), "reached twice");
  expect_error(with(sound, "nodes_truenodeids", 0, 2), "reached twice");
  expect_error(with(sound, "nodes_falsenodeids", 0, 9), "has no node 9");
  expect_error(with(sound, "nodes_nodeids", 2, 1), "two nodes 1");
  expect_error(with(sound, "nodes_featureids", 0, 1), "asks for feature 1");
  expect_error(with(sound, "nodes_featureids", 0, -1), "asks for feature -1");
  expect_error(with(sound, "nodes_treeids", 2, 1), "has no node 2");
  expect_error(with(sound, "target_ids", 0, 1), "weight for target 1");
  expect_error(with(sound, "target_nodeids", 0, 2), "two weights for target 0");
  Graph announced = sound;
  for (AttributeProto& attribute : *announced.graph().mutable_node(0)->mutable_attribute())
    if (attribute.name() == "n_targets") attribute.set_i(1000000000);
  expect_error(announced, "1000000000 outputs");
  for (const char* name : {"nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
                           "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true",
                           "target_nodeids", "target_ids", "target_weights"}) {
    Graph shorter = sound;
    for (AttributeProto& attribute : *shorter.graph().mutable_node(0)->mutable_attribute()) {
      if (attribute.name() != name) continue;
      if (attribute.ints_size() > 0) attribute.mutable_ints()->RemoveLast();
      if (attribute.floats_size() > 0) attribute.mutable_floats()->RemoveLast();
      if (attribute.strings_size() > 0) attribute.mutable_strings()->RemoveLast();
    }
    expect_error(shorter, name);
  }
}

TEST(ImportOnnx, ADeepTreeNeedsNoStack) {
  constexpr std::int64_t depth = 200000;
  Ints tree, node, feature, if_true, if_false, weight_node;
  Floats value, weight;
  Texts mode;
  for (std::int64_t i = 0; i < 2 * depth + 1; ++i) {
    const bool leaf = i % 2 == 1 || i == 2 * depth;
    tree.push_back(0);
    node.push_back(i);
    feature.push_back(0);
    value.push_back(static_cast<float>(i));
    mode.push_back(leaf ? "LEAF" : "BRANCH_LEQ");
    if_true.push_back(leaf ? 0 : i + 1);
    if_false.push_back(leaf ? 0 : i + 2);
    if (!leaf) continue;
    weight_node.push_back(i);
    weight.push_back(static_cast<float>(i));
  }
  Graph graph;
  graph.ml("TreeEnsembleRegressor", {"X"}, {"Y"})
      .ints("nodes_treeids", tree)
      .ints("nodes_nodeids", node)
      .ints("nodes_featureids", feature)
      .floats("nodes_values", value)
      .texts("nodes_modes", mode)
      .ints("nodes_truenodeids", if_true)
      .ints("nodes_falsenodeids", if_false)
      .ints("target_treeids", Ints(weight.size(), 0))
      .ints("target_nodeids", weight_node)
      .ints("target_ids", Ints(weight.size(), 0))
      .floats("target_weights", weight);
  const ImportedModel model = import(graph);
  EXPECT_EQ(ensemble_scores(std::get<ImportedTrees>(model.predictor).ensemble, Floats{1001}).front(), 1003);
}

TEST(ImportOnnx, DeepSubgraphsAreRefused) {
  Graph graph;
  NodeBuilder node = graph.node("If", {"X"}, {"Y"});
  GraphProto* inner = add_attribute(node.node, "then_branch", AttributeProto::GRAPH).mutable_g();
  for (int i = 0; i < 200; ++i) {
    NodeProto& nested = *inner->add_node();
    nested.set_op_type("If");
    inner = add_attribute(nested, "then_branch", AttributeProto::GRAPH).mutable_g();
  }
  EXPECT_NE(error_of(graph), "");
}

/// A graph with a little of everything.
Graph rich() {
  Graph graph = classifier(3, {0, 1, 2}, {.1f, .2f, .3f}, {.4f, .5f, -.6f}, "SOFTMAX");
  graph.graph().mutable_node(0)->set_input(0, "picked");
  graph.graph().mutable_node(0)->set_output(1, "P");
  graph.input("genre", 1, TensorProto::STRING);
  graph.ml("LabelEncoder", {"genre"}, {"g"})
      .texts("keys_strings", {"rock", "jazz"})
      .floats("values_floats", {5, 6})
      .number("default_float", -2);
  graph.node("Concat", {"X", "g"}, {"all"}).integer("axis", 1);
  graph.ml("Scaler", {"all"}, {"S"}).floats("offset", {.1f, 0}).floats("scale", {1.7f, 1});
  graph.ml("Normalizer", {"S"}, {"M"}).text("norm", "L2");
  graph.whole("first", {0}).whole("shape", {-1, 3});
  graph.node("Gather", {"M", "first"}, {"picked"}).integer("axis", 1);
  graph.constant("w", {3, 3}, {1, 0, 0, 0, 2, 0, 0, 0, 3}).constant("b", {3}, {1, 2, 3});
  graph.node("Gemm", {"P", "w", "b"}, {"h"});
  graph.node("Relu", {"h"}, {"r"});
  graph.node("Reshape", {"r", "shape"}, {"Y"});
  return graph;
}

TEST(ImportOnnx, NoTruncatedFileDoesHarm) {
  const std::string bytes = rich().bytes();
  ASSERT_EQ(error_of(bytes), "");
  for (std::size_t size = 0; size < bytes.size(); ++size) (void)error_of(bytes.substr(0, size));
  EXPECT_NE(error_of(bytes.substr(0, bytes.size() / 2)), "");
}

TEST(ImportOnnx, NoMutatedFileDoesHarm) {
  Random random(1);
  std::size_t models = 0, errors = 0;
  const std::string sources[] = {rich().bytes(), one_test("BRANCH_EQ", 1, true).bytes()};
  for (int i = 0; i < 6000; ++i) {
    std::string bytes = sources[i % 2];
    for (std::uint32_t changes = 1 + random.below(3); changes > 0; --changes) {
      const auto at = random.below(static_cast<std::uint32_t>(bytes.size()));
      switch (random.below(3)) {
        case 0:
          bytes[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.below(8));
          break;
        default:
          bytes.insert(at, 1, static_cast<char>(random.below(256)));
      }
    }
    try {
      const Blob blob = blob_of(import(bytes));
      Floats out(blob.outputs());
      blob.evaluate(Floats(blob.columns(), .5f), out);
      ++models;
    } catch (const Error&) {
      ++errors;
    }
  }
  EXPECT_GT(models, 100u);
  EXPECT_GT(errors, 1000u);
}

}  // namespace
}  // namespace tonearm
