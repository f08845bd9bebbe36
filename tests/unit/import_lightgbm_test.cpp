#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "base/files.h"
#include "base/random.h"
#include "data/csv.h"
#include "folder.h"
#include "import/import.h"

namespace tonearm {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float largest = std::numeric_limits<float>::max();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float zero_window = 1e-35f;  // LightGBM's kZeroThreshold

float above(float x) { return std::nextafter(x, infinity); }
float below(float x) { return std::nextafter(x, -infinity); }

/// The lines of a file as LightGBM writes it, to be changed by a test.
struct File {
  std::string version = "v4", objective = "binary sigmoid:1";
  int outputs = 1;
  bool average = false;
  std::string names = "tempo energy genre", infos = "[0:250] [0:1] none";
  std::vector<std::string> trees;
  std::string pandas = "null";

  std::string text() const {
    std::string text =
        "tree\nversion=" + version + "\nnum_class=" + std::to_string(outputs) +
        "\nnum_tree_per_iteration=" + std::to_string(outputs) +
        "\nlabel_index=0\nmax_feature_idx=" + std::to_string(std::count(names.begin(), names.end(), ' '));
    if (!objective.empty()) text += "\nobjective=" + objective;
    if (average) text += "\naverage_output";
    text += "\nfeature_names=" + names + "\nfeature_infos=" + infos + "\ntree_sizes=";
    for (const std::string& tree : trees) text += std::to_string(tree.size()) + " ";
    text += "\n\n";
    for (std::size_t i = 0; i < trees.size(); ++i)
      text += "Tree=" + std::to_string(i) + "\n" + trees[i] + "\n\n";
    return text +
           "end of trees\n\nfeature_importances:\ntempo=2\n\nparameters:\n[boosting: "
           "gbdt]\n[categorical_feature: "
           "2]\n\nend of parameters\n\npandas_categorical:" +
           pandas + "\n";
  }
};

std::string leaf_tree(double value) {
  return "num_leaves=1\nnum_cat=0\nsplit_feature=\nsplit_gain=\nthreshold=\ndecision_type=\nleft_child=\n"
         "right_child=\nleaf_value=" +
         std::to_string(value) + "\nis_linear=0\nshrinkage=1\n";
}

/// One split of the column 0: left is the leaf 1, right the leaf 2. `sets` are lines of category sets.
std::string split_tree(const std::string& threshold, int decision_type, int sets = 0,
                       const std::string& set_lines = {}) {
  return "num_leaves=2\nnum_cat=" + std::to_string(sets) +
         "\nsplit_feature=0\nsplit_gain=1\nthreshold=" + threshold +
         "\ndecision_type=" + std::to_string(decision_type) +
         "\nleft_child=-1\nright_child=-2\nleaf_value=1 2\nleaf_weight=1 1\nleaf_count=1 1\n" + set_lines +
         "is_linear=0\nshrinkage=1\n";
}

/// Five leaves; the second split is numbered after its children, and one split is by category.
const std::string five_leaves =
    "num_leaves=5\nnum_cat=1\nsplit_feature=0 1 0 2\nsplit_gain=4 3 2 1\nthreshold=120.5 0.25 90 0\n"
    "decision_type=2 8 10 1\nleft_child=2 -1 1 -4\nright_child=3 -2 -3 -5\n"
    "leaf_value=0.5 -0.25 0.125 1.5 -2.75\nleaf_weight=1 1 1 1 1\nleaf_count=1 1 1 1 1\n"
    "internal_value=0 0 0 0\ninternal_weight=5 2 3 2\ninternal_count=5 2 3 2\ncat_boundaries=0 1\n"
    "cat_threshold=5\nis_linear=0\nshrinkage=0.1\n";

File small_file() {
  File file;
  file.trees = {five_leaves, leaf_tree(0.25), split_tree("100.5", 2)};
  return file;
}

ImportedModel imported(const std::string& text) { return import_lightgbm(text, "songs.txt"); }
ImportedModel imported(const File& file) { return imported(file.text()); }
const ImportedTrees& trees_of(const ImportedModel& model) { return std::get<ImportedTrees>(model.predictor); }

std::string refusal(const std::string& text) {
  return error_of([&] { imported(text); });
}

/// Whether the only split of the file's only tree sends x left.
class Split {
 public:
  explicit Split(const std::string& tree) {
    File file;
    file.trees = {tree};
    model_ = imported(file);
  }
  bool operator()(float x) const {
    const float row[] = {x, 0, 0};
    return ensemble_scores(trees_of(model_).ensemble, row)[0] == 1;
  }

 private:
  ImportedModel model_;
};

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  if (at == text.npos) throw std::runtime_error("not there: " + what);
  return text.replace(at, what.size(), by);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    lines.push_back(text.substr(at, end - at));
    at = end;
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

const std::vector<std::vector<float>>& some_rows() {
  static const std::vector<std::vector<float>> rows = {
      {100, 0.1f, 0},  {100, 0.5f, 1},    {80, 0.25f, 2},  {130, 0, 0},
      {130, 0, 1},     {nan, nan, 2},     {130, nan, nan}, {120.5f, 1, -0.5},
      {0, -0.f, 31.5}, {infinity, 2, -1}, {90, 0, 3e9f},   {-infinity, 0, 0}};
  return rows;
}

std::vector<double> scores_of(const ImportedModel& model) {
  std::vector<double> scores;
  for (std::vector<float> row : some_rows()) {
    row.resize(model.columns.size(), 0.5f);
    for (const double score : ensemble_scores(trees_of(model).ensemble, row)) scores.push_back(score);
  }
  return scores;
}

/// What every import promises, whatever the file held.
void expect_valid(const ImportedModel& model) {
  const TreeEnsemble& ensemble = trees_of(model).ensemble;
  ASSERT_FALSE(ensemble.base.empty());
  ASSERT_FALSE(ensemble.trees.empty());
  ASSERT_EQ(ensemble.trees.size() % ensemble.base.size(), 0u);
  for (const Tree& tree : ensemble.trees) {
    std::vector<int> parents(tree.nodes.size(), 0);
    for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
      const TreeNode& node = tree.nodes[i];
      if (node.feature < 0) {
        ASSERT_TRUE(std::isfinite(node.value));
        continue;
      }
      ASSERT_LT(static_cast<std::size_t>(node.feature), model.columns.size());
      ASSERT_LT(node.category_split, static_cast<std::int32_t>(ensemble.category_splits.size()));
      for (const std::int32_t child : {node.left, node.right}) {
        ASSERT_GT(child, static_cast<std::int32_t>(i));
        ASSERT_LT(child, static_cast<std::int32_t>(tree.nodes.size()));
        ++parents[static_cast<std::size_t>(child)];
      }
    }
    ASSERT_EQ(std::count(parents.begin() + 1, parents.end(), 1),
              static_cast<std::ptrdiff_t>(parents.size()) - 1);
  }
  for (const double score : scores_of(model)) ASSERT_FALSE(std::isnan(score));
}

TEST(Lightgbm, IsRecognisedByItsFirstLine) {
  EXPECT_TRUE(is_lightgbm(small_file().text()));
  EXPECT_TRUE(is_lightgbm("tree\r\nversion=v3\r\n"));
  EXPECT_FALSE(is_lightgbm(""));
  EXPECT_FALSE(is_lightgbm("trees\n"));
  EXPECT_FALSE(is_lightgbm("{\"learner\": {}}"));
}

TEST(Lightgbm, NamesTaskAndColumnsComeFromTheHeader) {
  const ImportedModel model = imported(small_file());
  EXPECT_EQ(model.format, "LightGBM text v4");
  EXPECT_EQ(model.task, "binary sigmoid:1");
  ASSERT_EQ(model.columns.size(), 3u);
  EXPECT_EQ(model.columns[0].name, "tempo");
  EXPECT_EQ(model.columns[2].name, "genre");
  EXPECT_TRUE(model.columns[2].vocabulary.empty());
  EXPECT_TRUE(model.remarks.empty());
}

TEST(Lightgbm, EveryLeafIsReachedByItsRows) {
  File file;
  file.trees = {five_leaves};
  const ImportedModel model = imported(file);
  expect_valid(model);
  const auto score = [&](float tempo, float energy, float genre) {
    const float row[] = {tempo, energy, genre};
    return ensemble_scores(trees_of(model).ensemble, row)[0];
  };
  EXPECT_EQ(score(90, 0.25f, 9), 0.5);
  EXPECT_EQ(score(90, above(0.25f), 9), -0.25);
  EXPECT_EQ(score(above(90), 0, 9), 0.125);
  EXPECT_EQ(score(120.5f, 0, 9), 0.125);
  EXPECT_EQ(score(above(120.5f), 0, 0), 1.5);
  EXPECT_EQ(score(130, 0, 1), -2.75);
  EXPECT_EQ(score(130, 0, 2), 1.5);
  // tempo: missing type none, so NaN is 0; then tempo again, NaN to the left; energy, NaN to the right.
  EXPECT_EQ(score(nan, nan, nan), -0.25);
}

TEST(Lightgbm, EveryVersionIsRead) {
  const std::vector<double> scores = scores_of(imported(small_file()));
  File file = small_file();
  file.version = "v3";
  EXPECT_EQ(imported(file).format, "LightGBM text v3");
  EXPECT_EQ(scores_of(imported(file)), scores);
  // Version 2 knew no linear leaves, and its first files neither ended their trees nor listed parameters.
  file.version = "v2";
  std::string text = file.text();
  while (text.find("is_linear=0\n") != text.npos) text = replaced(text, "is_linear=0\n", "");
  text = text.substr(0, text.find("end of trees")) + "\nfeature importances:\ntempo=2\n";
  EXPECT_EQ(imported(text).format, "LightGBM text v2");
  EXPECT_EQ(scores_of(imported(text)), scores);
}

TEST(Lightgbm, LineEndsMayBeThoseOfWindows) {
  std::string text;
  for (const char c : small_file().text()) text += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_TRUE(is_lightgbm(text));
  const ImportedModel model = imported(text);
  EXPECT_EQ(model.task, "binary sigmoid:1");
  EXPECT_EQ(model.columns[2].name, "genre");
  EXPECT_EQ(scores_of(model), scores_of(imported(small_file())));
}

TEST(Lightgbm, ThresholdsDecideAsInFloat64) {
  const char* const thresholds[] = {"0.10000000000000001",   // float32 rounds it up
                                    "0.29999999999999999",   // and this one too
                                    "0.33333333333333331",   // also up
                                    "0.69999999999999996",   // down
                                    "-0.10000000000000001",  // away from zero
                                    "16777217",              // between two floats
                                    "-16777217",
                                    "1.5",
                                    "-2.5",
                                    "7.5000000000000009",  // one ulp of float64 above a float
                                    "7.4999999999999991",
                                    "1.0000001e-30",
                                    "3.4028234663852886e+38",  // the largest float32
                                    "3.4028235677973366e+38",  // float32 would round it to infinity
                                    "1e+300",
                                    "-3.4028234663852886e+38",
                                    "-3.4028235e+38",
                                    "-1e+300",
                                    "inf",
                                    "-inf"};
  for (const char* const text : thresholds) {
    const double threshold = std::strtod(text, nullptr);
    const float at = std::abs(threshold) > static_cast<double>(largest)
                         ? std::copysign(largest, static_cast<float>(threshold > 0 ? 1 : -1))
                         : static_cast<float>(threshold);
    for (const int decision_type : {0, 2, 8, 10}) {
      const Split left(split_tree(text, decision_type));
      for (const float x : {below(below(at)), below(at), at, above(at), above(above(at)), -infinity, -largest,
                            -1.0f, 0.0f, -0.0f, 1.0f, largest, infinity})
        EXPECT_EQ(left(x), static_cast<double>(x) <= threshold) << x << " <= " << text;
    }
  }
}

TEST(Lightgbm, WhatIsNearlyZeroIsZero) {
  const float window[] = {-zero_window, above(-zero_window), -1e-40f,    -0.0f, 0.0f, 1e-45f,
                          1e-36f,       below(zero_window),  zero_window};
  const auto expect = [&](const char* threshold, int decision_type, bool window_left) {
    const Split left(split_tree(threshold, decision_type));
    for (const float x : window) EXPECT_EQ(left(x), window_left) << x << " at " << threshold;
    EXPECT_TRUE(left(below(-zero_window))) << threshold;
    EXPECT_FALSE(left(above(zero_window))) << threshold;
  };
  // LightGBM hands a row's tiny numbers on as 0, so they fall to one side of any threshold between them.
  for (const int decision_type : {0, 2, 8, 10}) {
    for (const char* threshold : {"1.0000000180025095e-35", "1e-36", "0", "-0", "4.9406564584124654e-324"})
      expect(threshold, decision_type, true);
    for (const char* threshold : {"-1.0000000180025095e-35", "-1e-36", "-4.9406564584124654e-324"})
      expect(threshold, decision_type, false);
  }
  // Where zero is missing, the default direction takes them.
  for (const char* threshold : {"1.0000000180025095e-35", "1e-36", "0", "-1e-36"}) {
    expect(threshold, 4, false);
    expect(threshold, 6, true);
  }
}

TEST(Lightgbm, MissingValuesGoWhereTheMissingTypeSays) {
  const auto nan_left = [](const char* threshold, int decision_type) {
    return Split(split_tree(threshold, decision_type))(nan);
  };
  for (const int default_left : {0, 2}) {
    // None: NaN is 0, whatever the default direction.
    EXPECT_TRUE(nan_left("1.5", default_left));
    EXPECT_TRUE(nan_left("0", default_left));
    EXPECT_FALSE(nan_left("-1e-40", default_left));
    EXPECT_FALSE(nan_left("-1.5", default_left));
    for (const char* threshold : {"-1.5", "0", "1.5", "inf", "-inf"}) {
      EXPECT_EQ(nan_left(threshold, 4 + default_left), default_left != 0);  // zero
      EXPECT_EQ(nan_left(threshold, 8 + default_left), default_left != 0);  // NaN
    }
  }
  // Zero: what is not zero is compared.
  for (const int decision_type : {4, 6}) {
    const Split left(split_tree("2.5", decision_type));
    EXPECT_TRUE(left(-1));
    EXPECT_TRUE(left(2.5f));
    EXPECT_FALSE(left(above(2.5f)));
    EXPECT_EQ(left(0), decision_type == 6);
  }
}

TEST(Lightgbm, CategoriesAreTruncatedNumbers) {
  // 0, 2, 31; nothing from 32 to 63; 64
  for (const int decision_type : {1, 3, 5, 7, 9, 11}) {
    const Split left(split_tree("0", decision_type, 1, "cat_boundaries=0 3\ncat_threshold=2147483653 0 1\n"));
    for (const float x : {0.0f, -0.0f, 0.75f, -0.25f, above(-1), 1e-40f, 2.0f, 2.9f, 31.0f, 31.99f, 64.0f})
      EXPECT_TRUE(left(x)) << x;
    for (const float x :
         {1.0f,          below(2),      3.0f,    30.0f,    32.0f, below(64), 65.0f, 95.0f, 96.0f,     1e6f,
          2147483648.0f, 4294967296.0f, largest, infinity, -1.0f, -1.5f,     -2.0f, -1e9f, -infinity, nan})
      EXPECT_FALSE(left(x)) << x;
  }
}

TEST(Lightgbm, NegativeFractionsAreCategoryZero) {
  const Split left(split_tree("0", 1, 1, "cat_boundaries=0 1\ncat_threshold=2\n"));
  EXPECT_FALSE(left(-0.5));
  EXPECT_FALSE(left(0));
  EXPECT_TRUE(left(1));
  const Split nothing(split_tree("0", 1, 1, "cat_boundaries=0 1\ncat_threshold=0\n"));
  for (const float x : {-1.0f, -0.5f, 0.0f, 1.0f, nan}) EXPECT_FALSE(nothing(x));
}

TEST(Lightgbm, EachTreeHasItsOwnSets) {
  File file;
  file.trees = {split_tree("1", 1, 2, "cat_boundaries=0 1 3\ncat_threshold=1 4 8\n"),
                split_tree("0", 1, 1, "cat_boundaries=0 1\ncat_threshold=8\n")};
  const ImportedModel model = imported(file);
  const auto score = [&](float x) {
    const float row[] = {x, 0, 0};
    return ensemble_scores(trees_of(model).ensemble, row)[0];
  };
  EXPECT_EQ(score(0), 4);
  EXPECT_EQ(score(2), 3);
  EXPECT_EQ(score(3), 3);
  EXPECT_EQ(score(35), 3);
  EXPECT_EQ(score(36), 4);
}

TEST(Lightgbm, TreesOfOneLeafAddTheirValue) {
  File file;
  file.trees = {leaf_tree(0.5), leaf_tree(-2)};
  for (const double score : scores_of(imported(file))) EXPECT_EQ(score, -1.5);
}

TEST(Lightgbm, ObjectivesBecomeLinks) {
  const auto expect = [](const char* objective, int outputs, Link link, double slope) {
    File file;
    file.objective = objective;
    file.outputs = outputs;
    for (int i = 0; i < outputs; ++i) file.trees.push_back(split_tree("1", 2));
    const ImportedModel model = imported(file);
    EXPECT_EQ(trees_of(model).link, link) << objective;
    EXPECT_EQ(trees_of(model).slope, slope) << objective;
    EXPECT_EQ(trees_of(model).ensemble.base, std::vector<double>(static_cast<std::size_t>(outputs), 0.0));
    return model.remarks;
  };
  for (const char* objective :
       {"regression", "regression_l1", "huber", "fair", "quantile", "quantile alpha:0.9", "mape"})
    EXPECT_TRUE(expect(objective, 1, Link::identity, 1).empty());
  expect("binary sigmoid:1", 1, Link::sigmoid, 1);
  expect("binary sigmoid:0.7", 1, Link::sigmoid, 0.7);
  expect("cross_entropy", 1, Link::sigmoid, 1);
  expect("xentropy", 1, Link::sigmoid, 1);
  expect("multiclass num_class:3", 3, Link::softmax, 1);
  expect("multiclassova num_class:3 sigmoid:2", 3, Link::sigmoid, 2);
  for (const char* objective : {"lambdarank", "rank_xendcg"})
    EXPECT_TRUE(contains(expect(objective, 1, Link::identity, 1).at(0), "rank"));
  for (const char* objective : {"", "none", "custom"})
    EXPECT_TRUE(contains(expect(objective, 2, Link::identity, 1).at(0), "the trees' score"));
}

TEST(Lightgbm, ObjectivesThatCannotBeComputedAreRefused) {
  for (const char* objective :
       {"regression sqrt", "regression_l1 sqrt", "fair sqrt", "poisson", "gamma", "tweedie",
        "tweedie tweedie_variance_power:1.5", "cross_entropy_lambda", "xentlambda", "regression cubed",
        "ordinal", "binary", "binary sigmoid:0", "binary sigmoid:-1", "binary sigmoid:x",
        "binary sigmoid:inf", "multiclass num_class:3", "multiclass"}) {
    File file = small_file();
    file.objective = objective;
    const std::string error = refusal(file.text());
    EXPECT_TRUE(contains(error, "songs.txt, line 7: objective of the header ")) << objective;
  }
  File file = small_file();
  file.objective = "poisson";
  EXPECT_TRUE(contains(refusal(file.text()), "'poisson': its predict() turns a score into exp(score)"));
  file.objective = "binary sigmoid:1";
  file.outputs = 3;
  EXPECT_TRUE(contains(refusal(file.text()), "num_tree_per_iteration of the header is 3; expected 1"));
}

TEST(Lightgbm, TreesOfAnOutputLieTogether) {
  File file;
  file.objective = "multiclass num_class:2";
  file.outputs = 2;
  for (const double value : {1.0, 10.0, 2.0, 20.0, 4.0, 40.0}) file.trees.push_back(leaf_tree(value));
  const float row[] = {0, 0, 0};
  EXPECT_EQ(ensemble_scores(trees_of(imported(file)).ensemble, row), (std::vector<double>{7, 70}));
  file.trees.pop_back();
  EXPECT_TRUE(contains(refusal(file.text()), "is 2, and there are 5 trees"));
}

TEST(Lightgbm, ForestsAreAveraged) {
  File file;
  file.average = true;
  for (const double value : {1.0, -2.0, 4.0, 5.0}) file.trees.push_back(leaf_tree(value));
  const float row[] = {0, 0, 0};
  EXPECT_EQ(ensemble_scores(trees_of(imported(file)).ensemble, row)[0], 2);
  file.objective = "multiclass num_class:2";
  file.outputs = 2;
  EXPECT_EQ(ensemble_scores(trees_of(imported(file)).ensemble, row), (std::vector<double>{2.5, 1.5}));
}

TEST(Lightgbm, OldForestsThatMayHoldProbabilitiesAreRefused) {
  File file;
  file.version = "v2";
  file.average = true;
  file.trees = {leaf_tree(0.25), leaf_tree(1)};
  EXPECT_TRUE(contains(refusal(file.text()), "stored probabilities"));
  file.objective = "regression";
  EXPECT_NO_THROW(imported(file));
  file.objective = "binary sigmoid:1";
  file.trees[1] = leaf_tree(-0.5);
  EXPECT_NO_THROW(imported(file));
}

TEST(Lightgbm, LinearLeavesAreRefused) {
  File file = small_file();
  file.trees[2] = replaced(file.trees[2], "is_linear=0", "is_linear=1");
  EXPECT_TRUE(contains(refusal(file.text()), "Tree=2 has linear models in its leaves"));
}

TEST(Lightgbm, VocabulariesGoToTheCategoricalColumns) {
  File file = small_file();
  file.names = "tempo genre energy year";
  file.infos = "[0:250] -1:2:0:1 [0:1] 1:0";
  file.pandas = R"([["folk", "fünk \"x\"", "rock"], [1999, 2005.5, true]])";
  const ImportedModel model = imported(file);
  EXPECT_TRUE(model.columns[0].vocabulary.empty());
  EXPECT_EQ(model.columns[1].vocabulary, (std::vector<std::string>{"folk", "fünk \"x\"", "rock"}));
  EXPECT_TRUE(model.columns[2].vocabulary.empty());
  EXPECT_EQ(model.columns[3].vocabulary, (std::vector<std::string>{"1999", "2005.5", "True"}));
  ASSERT_EQ(model.remarks.size(), 1u);
  EXPECT_TRUE(contains(model.remarks[0], "in their order: genre, year."));
}

TEST(Lightgbm, VocabulariesThatMayBeAnyonesAreLeftOut) {
  File file = small_file();
  file.names = "tempo genre energy year";
  const auto expect_numbers = [&](const char* infos, const char* pandas) {
    file.infos = infos;
    file.pandas = pandas;
    const ImportedModel model = imported(file);
    for (const ImportedColumn& column : model.columns) EXPECT_TRUE(column.vocabulary.empty());
    ASSERT_EQ(model.remarks.size(), 1u);
    EXPECT_TRUE(contains(model.remarks[0], "does not say of which"));
  };
  expect_numbers("[0:250] -1:2:0:1 [0:1] 1:0", R"([["a", "b", "c"]])");        // one for two columns
  expect_numbers("[0:250] 2:0:1 [0:1] [0:1]", R"([["a", "b", "c"], ["d"]])");  // two for one
  expect_numbers("[0:250] 3:0:1 [0:1] [0:1]", R"([["a", "b", "c"]])");         // a category too many
  expect_numbers("[0:250] 2:-2:1 [0:1] [0:1]", R"([["a", "b", "c"]])");
  expect_numbers("[0:250] what [0:1] [0:1]", R"([["a", "b", "c"]])");
  expect_numbers("[0:250] 2:0:1 [0:1] [0:1]", R"([["1", "b", 1]])");  // a word twice
  for (const char* none : {"null", "[]"}) {
    file.pandas = none;
    EXPECT_TRUE(imported(file).remarks.empty());
  }
}

TEST(Lightgbm, DamagedVocabulariesAreRefused) {
  File file = small_file();
  for (const std::string pandas :
       {"", "[", "[[", "[[\"a\"", "[[\"a\"]", "[[\"a\"]]]", "[[[\"a\"]]]", "[\"a\"]", "{}", "[{}]", "[[{}]]",
        "[[null]]", "1", "\"a\"", "[null]", "[[\"\xff\"]]", "[[1e999]]", "[]tree"}) {
    file.pandas = pandas;
    EXPECT_TRUE(contains(refusal(file.text()), "pandas_categorical is '")) << pandas;
  }
  file.pandas = std::string(10'000'000, '[');  // no recursion, and no tree of values
  EXPECT_TRUE(contains(refusal(file.text()), "pandas_categorical is '[[[["));
  file.pandas = "[]\npandas_categorical:[]";
  EXPECT_TRUE(contains(refusal(file.text()), "a second time"));
}

TEST(Lightgbm, FaultsAreNamed) {
  const std::string good = small_file().text();
  ASSERT_NO_THROW(imported(good));
  const struct {
    const char *what, *by, *expected;
  } faults[] = {
      {"tree\n", "forest\n", "does not begin with the line 'tree'"},
      {"version=v4", "version=v5", "line 2: version of the header is 'v5'; expected v2, v3 or v4"},
      {"version=v4\n", "", "version of the header is missing"},
      {"version=v4", "version=v4\nversion=v4", "line 3: version of the header is there a second time"},
      {"label_index=0", "label_index", "line 5: expected key=value in the header, found 'label_index'"},
      {"max_feature_idx=2", "max_feature_idx=3", "feature_infos of the header has 3 values; expected 4"},
      {"max_feature_idx=2", "max_feature_idx=-1", "expected one integer, 0 or more"},
      {"max_feature_idx=2", "max_feature_idx=99999999999", "expected one integer, 0 or more"},
      {"tempo energy genre", "tempo energy", "feature_names of the header has 2 values; expected 3"},
      {"tempo energy genre", "tempo energy tempo", "line 8: feature_names of the header holds 'tempo' twice"},
      {"tempo energy genre", "tempo energy \xff\xfe", ", no UTF-8 text"},
      {"num_tree_per_iteration=1", "num_tree_per_iteration=0", "expected one integer, 1 or more"},
      {"num_tree_per_iteration=1", "num_tree_per_iteration=1000000000", "there are 3 trees"},
      {"num_tree_per_iteration=1", "num_tree_per_iteration=2", "there are 3 trees"},
      {"tree_sizes=", "tree_sizes=1 ", "tree_sizes of the header announces 4 trees, and there are 3"},
      {"Tree=1", "Tree=2", "found 'Tree=2', expected Tree=1"},
      {"Tree=1", "Tree=", "found 'Tree=', expected Tree=1"},
      {"Tree=1", "Tree=1\nTree=1", "found 'Tree=1' within Tree=1"},
      {"num_leaves=5", "num_leaves=0", "num_leaves of Tree=0 is '0'; expected one integer, 1 or more"},
      {"num_leaves=5", "num_leaves=six", "num_leaves of Tree=0 is 'six'"},
      {"num_leaves=5", "num_leaves=1000000000", "leaf_value of Tree=0 has 5 values; expected 1000000000"},
      {"num_leaves=5\n", "", "line 12: num_leaves of Tree=0 is missing"},
      {"num_leaves=5", "num_leaves=5\nnum_leaves=5", "num_leaves of Tree=0 is there a second time"},
      {"num_cat=1", "num_cat=1000000000", "cat_boundaries of Tree=0 has 2 values; expected 1000000001"},
      {"num_cat=1", "num_cat=0", "no number of a set of categories, of which num_cat announces 0"},
      {"num_cat=1\n", "", "num_cat of Tree=0 is missing"},
      {"split_feature=0 1 0 2", "split_feature=0 1 0 3", "split_feature of Tree=0 holds 3; expected 0 to 2"},
      {"split_feature=0 1 0 2", "split_feature=0 1 0 -1", "split_feature of Tree=0 holds -1"},
      {"split_feature=0 1 0 2", "split_feature=0 1 0", "has 3 values; expected 4, one less than num_leaves"},
      {"split_feature=0 1 0 2", "split_feature=0 1 0 2 1", "has 5 values; expected 4"},
      {"split_feature=0 1 0 2", "split_feature=0 1 0 2.0", "holds '2.0'; expected an integer"},
      {"120.5 0.25", "nan 0.25", "threshold of Tree=0 holds NaN"},
      {"120.5 0.25", "120.5x 0.25", "line 17: threshold of Tree=0 holds '120.5x'; expected a number"},
      {"120.5 0.25", "1e999 0.25", "holds '1e999'; expected a number in the range of float64"},
      {"90 0\n", "90 1\n", "no number of a set of categories"},
      {"90 0\n", "90 0.5\n", "no number of a set of categories"},
      {"90 0\n", "90 nan\n", "no number of a set of categories"},
      {"decision_type=2 8 10 1", "decision_type=2 8 10 12",
       "decision_type of Tree=0 holds 12; expected 0 to 11"},
      {"decision_type=2 8 10 1\n", "", "line 12: decision_type of Tree=0 is missing"},
      {"decision_type=2 8 10 1", "decision_type=2 8 -2 1", "decision_type of Tree=0 holds -2"},
      {"left_child=2 -1 1 -4", "left_child=4 -1 1 -4", "left_child of Tree=0 holds 4; expected -5 to 3"},
      {"left_child=2 -1 1 -4", "left_child=2 -6 1 -4", "left_child of Tree=0 holds -6; expected -5 to 3"},
      {"left_child=2 -1 1 -4", "left_child=2 -2147483648 1 -4", "left_child of Tree=0 holds -2147483648"},
      {"left_child=2 -1 1 -4", "left_child=2 0 1 -4", "holds 0, which is a child elsewhere too, or the root"},
      {"left_child=2 -1 1 -4", "left_child=2 -1 2 -4",
       "left_child of Tree=0 holds 2, which is a child elsewhere"},
      {"left_child=2 -1 1 -4", "left_child=2 -1 3 -4", "holds 3, which is a child elsewhere"},
      {"left_child=2 -1 1 -4", "left_child=2 -2 1 -4", "holds -2, which is a child elsewhere"},
      {"left_child=2 -1 1 -4\nright_child=3 -2 -3 -5", "left_child=-1 2 1 -4\nright_child=-2 -3 -5 3",
       "Tree=0 has nodes that are no children of others"},
      {"leaf_value=0.5 ", "leaf_value=nan ", "no finite number of float32's range"},
      {"leaf_value=0.5 ", "leaf_value=1e300 ", "no finite number of float32's range"},
      {"leaf_value=0.5 ", "leaf_value=", "leaf_value of Tree=0 has 4 values; expected 5"},
      {"cat_boundaries=0 1", "cat_boundaries=1 1", "cat_boundaries of Tree=0 do not rise from 0"},
      {"cat_boundaries=0 1", "cat_boundaries=0 2", "cat_threshold of Tree=0 has 1 values; expected 2"},
      {"cat_boundaries=0 1", "cat_boundaries=0 18446744073709551615",
       "has 1 values; expected 18446744073709551615"},
      {"cat_boundaries=0 1", "cat_boundaries=0 -1",
       "cat_boundaries of Tree=0 holds '-1'; expected an integer"},
      {"num_cat=1", "num_cat=1\ncat_boundaries=0 1", "cat_boundaries of Tree=0 is there a second time"},
      {"cat_threshold=5", "cat_threshold=4294967296", "expected an integer from 0 to 4294967295"},
      {"cat_threshold=5\n", "", "cat_threshold of Tree=0 is missing"},
      {"end of trees", "end", "found 'end' where the trees end, expected Tree=3 or 'end of trees'"},
      {"end of parameters", "pandas_categorical:null", "the file ends among the parameters"},
      {"pandas_categorical:null", "pandas_cat", "the file ends within 'pandas_categorical:'"},
  };
  for (const auto& fault : faults) {
    const std::string error = refusal(replaced(good, fault.what, fault.by));
    EXPECT_TRUE(contains(error, fault.expected)) << fault.what << " -> " << fault.by;
    EXPECT_TRUE(error.starts_with("songs.txt")) << error;
  }
  const std::string three_sets = replaced(good, "num_cat=1", "num_cat=3");
  for (const char* ends : {"0 2 1 1", "0 0 0 1", "1 1 1 1"}) {
    const std::string text =
        replaced(three_sets, "cat_boundaries=0 1", "cat_boundaries=" + std::string(ends));
    EXPECT_TRUE(contains(refusal(text), "cat_boundaries of Tree=0 do not rise from 0"));
  }
}

TEST(Lightgbm, EmptyAndConcatenatedFilesAreRefused) {
  EXPECT_TRUE(contains(refusal(""), "does not begin with the line 'tree'"));
  const std::string good = small_file().text();
  EXPECT_TRUE(contains(refusal(good + good), "a second model begins"));
  EXPECT_TRUE(contains(refusal("tree\n" + good), "line 2: expected key=value in the header, found 'tree'"));
  File file;
  EXPECT_TRUE(contains(refusal(file.text()), "there are 0 trees"));
}

TEST(Lightgbm, AFileThatIsCutOffIsRefusedOrWhole) {
  File file = small_file();
  file.infos = "[0:250] [0:1] 0:1:2";
  file.pandas = R"([["a", "b", "c"]])";
  const std::string text = file.text();
  const std::vector<double> scores = scores_of(imported(text));
  const std::size_t end = text.find("end of trees") + std::string("end of trees").size();
  const std::size_t vocabularies = text.find("\npandas_categorical") + 1;
  for (std::size_t size = 0; size < text.size() - 1; ++size) {
    try {
      const ImportedModel model = imported(text.substr(0, size));
      EXPECT_GE(size, end);
      EXPECT_LE(size, vocabularies);
      EXPECT_EQ(scores_of(model), scores) << size;
    } catch (const Error&) {
    }
  }
  EXPECT_EQ(imported(text.substr(0, text.size() - 1)).columns[2].vocabulary.size(),
            3u);  // but the line's end
}

TEST(Lightgbm, LinesThatAreGoneOrDoubledChangeNoScore) {
  const std::vector<std::string> lines = lines_of(small_file().text());
  const std::vector<double> scores = scores_of(imported(joined(lines)));
  std::size_t refused = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::vector<std::string> fewer = lines, more = lines;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    more.insert(more.begin() + static_cast<std::ptrdiff_t>(i), lines[i]);
    for (const auto& changed : {fewer, more}) {
      try {
        EXPECT_EQ(scores_of(imported(joined(changed))), scores) << lines[i];
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, lines.size() / 2);
}

TEST(Lightgbm, DeepTreesNeedNoRecursion) {
  constexpr int leaves = 100'000;
  std::string features, thresholds, types, lefts, rights, values;
  for (int i = 0; i < leaves - 1; ++i) {
    features += "0 ";
    thresholds += std::to_string(leaves - i) + " ";
    types += "2 ";
    lefts += std::to_string(i + 2 < leaves ? i + 1 : -leaves) + " ";
    rights += std::to_string(-i - 1) + " ";
    values += std::to_string(i) + " ";
  }
  File file;
  file.trees = {"num_leaves=" + std::to_string(leaves) + "\nnum_cat=0\nsplit_feature=" + features +
                "\nthreshold=" + thresholds + "\ndecision_type=" + types + "\nleft_child=" + lefts +
                "\nright_child=" + rights + "\nleaf_value=" + values + "-1\n"};
  const ImportedModel model = imported(file);
  const auto score = [&](float x) {
    const float row[] = {x, 0, 0};
    return ensemble_scores(trees_of(model).ensemble, row)[0];
  };
  EXPECT_EQ(score(leaves + 1), 0);
  EXPECT_EQ(score(leaves), 1);
  EXPECT_EQ(score(3), leaves - 2);
  EXPECT_EQ(score(2), -1);
}

TEST(Lightgbm, MutatedFilesAreRefusedOrValid) {
  File file = small_file();
  file.objective = "multiclass num_class:2";
  file.outputs = 2;
  file.trees.push_back(split_tree("1", 1, 2, "cat_boundaries=0 1 3\ncat_threshold=1 4 8\n"));
  file.infos = "[0:250] [0:1] 0:1:2";
  file.pandas = R"([["a", "b", "c"]])";
  const std::string good = file.text();
  const std::vector<std::string> pieces = {"-",          "0",
                                           "1",          "9",
                                           " ",          "\n",
                                           "=",          "nan",
                                           "1e39",       "inf",
                                           "-1",         "4294967296",
                                           "\r",         "\xff",
                                           "Tree=0\n",   "[",
                                           "]",          "\"",
                                           ":",          ",",
                                           "2147483647", std::string(1, '\0')};
  Random random(1);
  std::size_t valid = 0, refused = 0;
  for (int n = 0; n < 6000; ++n) {
    std::string text = good;
    const std::uint32_t mutations = 1 + random.below(3);
    for (std::uint32_t m = 0; m < mutations; ++m) {
      const std::size_t at = random.below(static_cast<std::uint32_t>(text.size()));
      const std::string& piece = pieces[random.below(static_cast<std::uint32_t>(pieces.size()))];
      switch (random.below(6)) {
        case 0:
          text.erase(at, 1 + random.below(8));
          break;
        case 1:
          text.insert(at, piece);
          break;
        case 2:
          text.replace(at, piece.size(), piece);
          break;
        case 3:
          text[at] = static_cast<char>(text[at] ^ 1 << random.below(8));
          break;
        case 4:  // a digit for another
          if (const std::size_t digit = text.find_first_of("0123456789", at); digit != text.npos)
            text[digit] = static_cast<char>('0' + random.below(10));
          break;
        case 5: {
          std::vector<std::string> lines = lines_of(text);
          const auto count = static_cast<std::uint32_t>(lines.size());
          std::swap(lines[random.below(count)], lines[random.below(count)]);
          text = joined(lines);
          break;
        }
      }
    }
    try {
      const ImportedModel model = imported(text);
      ++valid;
      expect_valid(model);
      if (::testing::Test::HasFatalFailure()) FAIL() << text;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(valid, 500u);
  EXPECT_GT(refused, 500u);
}

class RealLightgbm : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path data = real_data();
    if (data.empty()) GTEST_SKIP() << "TONEARM_DATA is not set";
    models_ = data / "models";
  }

  ImportedModel model(const std::string& name) const {
    const auto bytes = read_file(models_ / name);
    return import_lightgbm({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
  }

  std::filesystem::path models_;
};

TEST_F(RealLightgbm, ModelsAreRead) {
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(models_)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".lightgbm.txt")) continue;
    ++found;
    expect_valid(model(name));
  }
  EXPECT_GT(found, 0u);
}

TEST_F(RealLightgbm, ScoresAreThoseOfAnIndependentEvaluator) {
  const std::pair<const char*, const char*> golden[] = {
      {"apoor_lgbm_0.73TestAcc.lightgbm.txt", "apoor_lgbm_head201.csv"},
      {"puspha22_gbt2.lightgbm.txt", "puspha22_gbt2_head201.csv"}};
  for (const auto& [name, rows] : golden) {
    const ImportedModel model = this->model(name);
    EXPECT_EQ(trees_of(model).link, Link::sigmoid);
    CsvReader reader(models_ / "golden" / rows);
    std::vector<std::string_view> fields;
    std::size_t count = 0;
    while (reader.next(fields)) {
      std::vector<float> row;
      for (const ImportedColumn& column : model.columns) {
        const std::size_t place = reader.place(column.name);
        row.push_back(reader.number(place, fields[place]));
      }
      const double expected = std::stod(std::string(fields[reader.place("raw")]));
      EXPECT_NEAR(ensemble_scores(trees_of(model).ensemble, row)[0], expected, 1e-9) << rows << ' ' << count;
      ++count;
    }
    EXPECT_GT(count, 100u);
  }
}

}  // namespace
}  // namespace tonearm
