// XGBoost models: decisions as XGBoost takes them, and one sentence for whatever is no model.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "import/import.h"

namespace tonearm {
namespace {

using nlohmann::json;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float denormal = std::numeric_limits<float>::denorm_min();

/// A tree with one question, whose leaves are -1 (left) and 1.
json stump(int feature, double threshold, bool default_left) {
  return {{"base_weights", {0.0, 0.0, 0.0}},
          {"categories", json::array()},
          {"categories_nodes", json::array()},
          {"categories_segments", json::array()},
          {"categories_sizes", json::array()},
          {"default_left", {default_left ? 1 : 0, 0, 0}},
          {"id", 0},
          {"left_children", {1, -1, -1}},
          {"loss_changes", {1.0, 0.0, 0.0}},
          {"parents", {2147483647, 0, 0}},
          {"right_children", {2, -1, -1}},
          {"split_conditions", {threshold, -1.0, 1.0}},
          {"split_indices", {feature, 0, 0}},
          {"split_type", {0, 0, 0}},
          {"sum_hessian", {2.0, 1.0, 1.0}},
          {"tree_param",
           {{"num_deleted", "0"}, {"num_feature", "2"}, {"num_nodes", "3"}, {"size_leaf_vector", "1"}}}};
}

/// The categories of the set go right.
json category_stump(int feature, const std::vector<int>& categories, bool default_left) {
  json tree = stump(feature, 0, default_left);
  tree["split_type"][0] = 1;
  tree["categories"] = categories;
  tree["categories_nodes"] = {0};
  tree["categories_segments"] = {0};
  tree["categories_sizes"] = {categories.size()};
  return tree;
}

json model_of(const std::vector<json>& trees, const std::string& objective = "reg:squarederror",
              const std::string& base_score = "0E0") {
  json model = {{"version", {3, 2, 0}}};
  json& learner = model["learner"];
  learner["attributes"] = json::object();
  learner["feature_names"] = json::array();
  learner["feature_types"] = json::array();
  learner["objective"]["name"] = objective;
  learner["learner_model_param"] = {
      {"base_score", base_score}, {"num_class", "0"}, {"num_feature", "2"}, {"num_target", "1"}};
  json& booster = learner["gradient_booster"];
  booster["name"] = "gbtree";
  booster["model"]["trees"] = trees;
  booster["model"]["tree_info"] = std::vector<int>(trees.size(), 0);
  booster["model"]["gbtree_model_param"] = {{"num_parallel_tree", "1"},
                                            {"num_trees", std::to_string(trees.size())}};
  return model;
}

json& booster_of(json& model) { return model["learner"]["gradient_booster"]; }
json& tree_of(json& model, std::size_t index = 0) { return booster_of(model)["model"]["trees"][index]; }

std::string ubjson_of(const json& model) {
  const std::vector<std::uint8_t> bytes = json::to_ubjson(model, true, true);
  return {bytes.begin(), bytes.end()};
}

ImportedModel import_text(const std::string& bytes) {
  EXPECT_TRUE(is_xgboost(bytes));
  return import_xgboost(bytes, "m.json");
}

ImportedModel import_document(const json& model) { return import_text(model.dump()); }

const ImportedTrees& trees_of(const ImportedModel& model) { return std::get<ImportedTrees>(model.predictor); }

std::vector<double> scores_of(const json& model, const std::vector<float>& row) {
  const ImportedModel text = import_document(model), binary = import_text(ubjson_of(model));
  const std::vector<double> scores = ensemble_scores(trees_of(text).ensemble, row);
  EXPECT_EQ(scores, ensemble_scores(trees_of(binary).ensemble, row));
  return scores;
}

double score_of(const json& model, const std::vector<float>& row) { return scores_of(model, row).front(); }

std::string refusal_of(const std::string& bytes) {
  try {
    import_xgboost(bytes, "m.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void expect_refused(const json& model, const std::string& part) {
  EXPECT_NE(refusal_of(model.dump()).find(part), std::string::npos) << refusal_of(model.dump());
  EXPECT_NE(refusal_of(ubjson_of(model)).find(part), std::string::npos) << refusal_of(ubjson_of(model));
}

TEST(ImportXgboost, AsksWhetherFloatsAreBelowTheThreshold) {
  constexpr float largest = std::numeric_limits<float>::max();
  const std::vector<float> thresholds = {0.0f,   0.1f,  -0.1f,   denormal, -denormal,
                                         1e-38f, 1e30f, largest, -largest};
  for (const float threshold : thresholds) {
    const json model = model_of({stump(1, static_cast<double>(threshold), false)});
    for (const float x :
         {threshold, std::nextafter(threshold, infinity), std::nextafter(threshold, -infinity), 0.0f, -0.0f,
          denormal, -denormal, infinity, -infinity, largest, -largest})
      EXPECT_EQ(score_of(model, {5, x}), x < threshold ? -1 : 1) << threshold << ' ' << x;
  }
}

TEST(ImportXgboost, MissingValuesGoTheDefaultWay) {
  EXPECT_EQ(score_of(model_of({stump(0, 1, true)}), {missing, 0}), -1);
  EXPECT_EQ(score_of(model_of({stump(0, 1, false)}), {missing, 0}), 1);
  json flags = model_of({stump(0, 1, true)});
  tree_of(flags)["default_left"] = {true, false, false};
  EXPECT_EQ(score_of(flags, {missing, 0}), -1);
}

TEST(ImportXgboost, NothingIsBelowMinusInfinity) {
  // XGBoost writes infinities bare.
  std::string text = model_of({stump(0, 12345, true)}).dump();
  text.replace(text.find("12345.0"), 7, "-Infinity");
  const ImportedModel model = import_text(text);
  for (const float x : {-infinity, -std::numeric_limits<float>::max(), 0.0f, infinity})
    EXPECT_EQ(ensemble_scores(trees_of(model).ensemble, std::vector{x, 0.0f}), std::vector{1.0}) << x;
  EXPECT_EQ(ensemble_scores(trees_of(model).ensemble, std::vector{missing, 0.0f}), std::vector{-1.0});
  EXPECT_EQ(score_of(model_of({stump(0, static_cast<double>(0), true)}), {-0.0f, 0}), 1);
}

TEST(ImportXgboost, DecimalsAreRoundedToFloatOnce) {
  // Just above the middle of 1 and the next float; as a double, it is the middle itself.
  std::string text = model_of({stump(0, 12345, true)}).dump();
  text.replace(text.find("12345.0"), 7, "1.00000005960464477539062500001");
  const TreeNode root = trees_of(import_text(text)).ensemble.trees[0].nodes[0];
  EXPECT_EQ(root.threshold, 1.0f);  // x < 1.0000001f
}

TEST(ImportXgboost, CategoriesOfTheSetGoRight) {
  for (const bool default_left : {false, true}) {
    const json model = model_of({category_stump(1, {1, 3}, default_left)});
    for (const float x : {0.0f, -0.0f, 2.0f, 2.9f, 0.99f, 4.0f, 31.0f, 32.0f, -1.0f, -0.5f, 16777215.0f,
                          16777216.0f, 1e20f, -1e20f, infinity, -infinity})
      EXPECT_EQ(score_of(model, {0, x}), -1) << x;
    for (const float x : {1.0f, 3.0f, 3.9f}) EXPECT_EQ(score_of(model, {0, x}), 1) << x;
    EXPECT_EQ(score_of(model, {0, missing}), default_left ? -1 : 1);
  }
}

TEST(ImportXgboost, Version16SendsOtherCategoriesTheDefaultWay) {
  for (const bool default_left : {false, true}) {
    json model = model_of({category_stump(1, {1, 3}, default_left)});
    model["version"] = {1, 6, 2};
    for (const float x : {0.0f, 2.0f, 4.0f, 31.9f}) EXPECT_EQ(score_of(model, {0, x}), -1) << x;
    for (const float x : {1.0f, 3.0f}) EXPECT_EQ(score_of(model, {0, x}), 1) << x;
    for (const float x : {32.0f, -0.5f, -1.0f, 1e9f})
      EXPECT_EQ(score_of(model, {0, x}), default_left ? -1 : 1) << x;
  }
}

TEST(ImportXgboost, ANodeOfCategoriesNeedsNoThreshold) {
  std::string text = model_of({category_stump(1, {1}, true)}).dump();
  const std::size_t at = text.find("\"split_conditions\":[0.0");
  ASSERT_NE(at, text.npos);
  text.replace(at + 20, 3, "NaN");
  EXPECT_EQ(ensemble_scores(trees_of(import_text(text)).ensemble, std::vector{0.0f, 1.0f}), std::vector{1.0});
}

TEST(ImportXgboost, PrunedNodesAreLeftOut) {
  json tree = stump(0, 1, true);
  for (const char* list : {"left_children", "right_children"}) tree[list] = {3, 7, 7, -1, 4};
  tree["right_children"][0] = 4;
  tree["left_children"][4] = -1;
  tree["right_children"][4] = -1;
  tree["split_conditions"] = {1.0, 0.0, 0.0, -2.0, 2.0};
  tree["split_indices"] = {0, 2147483647, 2147483647, 0, 0};
  tree["default_left"] = {0, 0, 0, 0, 0};
  tree["split_type"] = {0, 0, 0, 0, 0};
  tree["tree_param"]["num_nodes"] = "5";
  const json model = model_of({tree});
  EXPECT_EQ(score_of(model, {0, 0}), -2);
  EXPECT_EQ(score_of(model, {2, 0}), 2);
  EXPECT_EQ(trees_of(import_document(model)).ensemble.trees[0].nodes.size(), 3u);
}

TEST(ImportXgboost, DartWeighsItsTrees) {
  json model = model_of({stump(0, 1, true), stump(1, 1, true)});
  json& booster = booster_of(model);
  booster["gbtree"] = {{"model", booster["model"]}, {"name", "gbtree"}};
  booster.erase("model");
  booster["name"] = "dart";
  booster["weight_drop"] = {0.5, 0.25};
  EXPECT_EQ(score_of(model, {0, 0}), -0.75);
  EXPECT_EQ(score_of(model, {5, 0}), 0.25);
  booster["weight_drop"] = {0.5};
  expect_refused(model, "learner.gradient_booster.weight_drop holds 1 numbers for 2 trees");
}

TEST(ImportXgboost, TreesOfClassesAreSortedByClass) {
  json model = model_of({stump(0, 1, true), stump(1, 1, true), stump(0, 2, true), stump(1, 2, true)},
                        "multi:softprob", "[1E0,-1E0]");
  model["learner"]["learner_model_param"]["num_class"] = "2";
  booster_of(model)["model"]["tree_info"] = {0, 1, 0, 1};
  EXPECT_EQ(scores_of(model, {0, 5}), (std::vector<double>{1 - 2, -1 + 2}));
  EXPECT_EQ(scores_of(model, {1.5, 0}), (std::vector<double>{1 + 0, -1 - 2}));
  EXPECT_EQ(trees_of(import_document(model)).link, Link::softmax);
  EXPECT_TRUE(import_document(model).remarks.empty());
  model["learner"]["objective"]["name"] = "multi:softmax";
  EXPECT_EQ(import_document(model).remarks.size(), 1u);

  booster_of(model)["model"]["tree_info"] = {0, 1, 0, 0};
  expect_refused(model, "learner.gradient_booster.model.tree_info gives output 0 3 of 4 trees for 2 outputs");
}

TEST(ImportXgboost, BaseScoresOfLogisticObjectivesAreProbabilities) {
  const auto base = [](const std::string& objective, const std::string& score, std::vector<int> version) {
    json model = model_of({stump(0, 1, true)}, objective, score);
    model["version"] = version;
    return score_of(model, {0, 0}) + 1;
  };
  for (const std::vector<int>& version : {std::vector{1, 2, 0}, {2, 1, 4}, {3, 2, 0}}) {
    EXPECT_EQ(base("binary:logistic", "5E-1", version), 0);
    EXPECT_NEAR(base("reg:logistic", "2.5E-1", version), -std::log(3), 1e-7);
    EXPECT_EQ(base("reg:squarederror", "2.5E-1", version), 0.25);
    EXPECT_EQ(base("reg:squarederror", "[2.5E-1]", version), 0.25);
  }
  EXPECT_EQ(base("binary:logitraw", "2.5E-1", {1, 3, 0}), 0.25);
  EXPECT_NEAR(base("binary:logitraw", "2.5E-1", {1, 2, 1}), -std::log(3), 1e-7);
  EXPECT_EQ(trees_of(import_document(model_of({stump(0, 1, true)}, "binary:logistic", "5E-1"))).link,
            Link::sigmoid);
  for (const char* score : {"0E0", "1E0", "2E0", "NaN"})
    expect_refused(model_of({stump(0, 1, true)}, "binary:logistic", score), "base_score");
  for (const char* score : {"", "half", "[", "[]", "[1E0,]", "[1E0,2E0]", "inf", "1E0x"})
    expect_refused(model_of({stump(0, 1, true)}, "reg:squarederror", score),
                   "m.json: learner.learner_model_param.base_score");
}

TEST(ImportXgboost, TheBestIterationCountsAsInTheTrainersPredict) {
  json model = model_of({stump(0, 1, true), stump(0, 1, true), stump(0, 1, true)});
  EXPECT_EQ(score_of(model, {0, 0}), -3);
  json& attributes = model["learner"]["attributes"];
  attributes["best_iteration"] = "2";
  EXPECT_TRUE(import_document(model).remarks.empty());
  attributes["best_iteration"] = "0";
  EXPECT_EQ(score_of(model, {0, 0}), -3);
  EXPECT_EQ(import_document(model).remarks.size(), 1u);
  attributes["scikit_learn"] = "{}";
  EXPECT_EQ(score_of(model, {0, 0}), -1);
  EXPECT_EQ(import_document(model).remarks.size(), 1u);
  booster_of(model)["model"]["iteration_indptr"] = {0, 2, 3};
  EXPECT_EQ(score_of(model, {0, 0}), -2);
  attributes["best_iteration"] = "2";
  expect_refused(model, "learner.attributes.best_iteration");

  json old = model_of({stump(0, 1, true), stump(0, 1, true), stump(0, 1, true), stump(0, 1, true)});
  booster_of(old)["model"]["gbtree_model_param"].erase("num_parallel_tree");
  old["learner"]["attributes"] = {{"best_iteration", "0"}, {"best_ntree_limit", "2"}, {"scikit_learn", "{}"}};
  EXPECT_EQ(score_of(old, {0, 0}), -2);
}

TEST(ImportXgboost, ColumnsHaveNamesAndCategories) {
  json model = model_of({category_stump(1, {1}, true)});
  EXPECT_EQ(import_document(model).columns[1].name, "f1");
  model["learner"]["feature_names"] = {"tempo", "genre"};
  const json enc = {{{"offsets", json::array()}, {"values", json::array()}},
                    {{"offsets", {0, 4, 7}}, {"values", {'r', 'o', 'c', 'k', 'p', 'o', 'p'}}}};
  booster_of(model)["model"]["cats"] = {
      {"enc", enc}, {"feature_segments", {0, 0, 2}}, {"sorted_idx", {1, 0}}};
  const ImportedModel named = import_document(model);
  EXPECT_EQ(named.columns[0].name, "tempo");
  EXPECT_TRUE(named.columns[0].vocabulary.empty());
  EXPECT_EQ(named.columns[1].name, "genre");
  EXPECT_EQ(named.columns[1].vocabulary, (std::vector<std::string>{"rock", "pop"}));
  EXPECT_TRUE(named.remarks.empty());
  EXPECT_EQ(named.format, "XGBoost 3.2.0 JSON");

  json numbers = model;
  booster_of(numbers)["model"]["cats"]["enc"][1] = {{"type", 15}, {"values", {10, 20}}};
  EXPECT_TRUE(import_document(numbers).columns[1].vocabulary.empty());
  EXPECT_EQ(import_document(numbers).remarks.size(), 1u);

  json bad = model;
  booster_of(bad)["model"]["cats"]["enc"][1]["offsets"] = {0, 4, 3};
  expect_refused(bad, "learner.gradient_booster.model.cats.enc[1].offsets[2]");
  bad = model;
  booster_of(bad)["model"]["cats"]["enc"][1]["offsets"] = {0, 4, 8};
  expect_refused(bad, "learner.gradient_booster.model.cats.enc[1].offsets[2]");
  bad = model;
  bad["learner"]["feature_names"] = {"tempo"};
  expect_refused(bad, "learner.feature_names holds 1 names for 2 features");
  bad["learner"]["feature_names"] = {"tempo", "tempo"};
  expect_refused(bad, "learner.feature_names[1]");
}

TEST(ImportXgboost, WhatCannotBeExactIsRefused) {
  for (const char* objective : {"binary:hinge", "count:poisson", "reg:gamma", "reg:tweedie", "survival:cox",
                                "survival:aft", "reg:unheard"})
    expect_refused(
        model_of({stump(0, 1, true)}, objective),
        std::string("learner.objective.name is ") +
            (std::string_view(objective) == "binary:hinge" ? "binary:hinge" : '"' + std::string(objective)));
  json model = model_of({stump(0, 1, true)});
  booster_of(model)["name"] = "gblinear";
  expect_refused(model, "learner.gradient_booster.name is gblinear");
  model = model_of({stump(0, 1, true)});
  tree_of(model)["tree_param"]["size_leaf_vector"] = "3";
  expect_refused(model, "trees[0].tree_param.size_leaf_vector is above 1");
  model = model_of({stump(0, 1, true)});
  model["version"][0] = 4;
  expect_refused(model, "version starts with 4");
  expect_refused(model_of({}), "learner.gradient_booster.model.trees is empty");
}

TEST(ImportXgboost, DamagedTreesAreRefusedWithTheirPlace) {
  const auto refused = [](const char* list, const json& value, const std::string& part) {
    json model = model_of({stump(0, 1, true), stump(0, 1, true)});
    tree_of(model, 1)[list] = value;
    expect_refused(model, "m.json: learner.gradient_booster.model.trees[1]." + part);
  };
  refused("left_children", {3, -1, -1}, "left_children[0] is 3");
  refused("left_children", {0, -1, -1}, "left_children[0] is 0");
  refused("left_children", {-1, -1, -1}, "left_children[0] is -1");
  refused("left_children", {-2, -1, -1}, "left_children[0] is -2");
  refused("left_children", {1.5, -1, -1}, "left_children[0] is 1.5");
  refused("left_children", {18446744073709551615u, -1, -1}, "left_children[0]");
  refused("left_children", {1, 0, -1}, "left_children[1] is 0");
  refused("right_children", {1, -1, -1}, "right_children[0] is 1");
  refused("right_children", {2, -1}, "right_children holds 2 values for 3 nodes");
  refused("right_children", "2", "right_children is");
  refused("split_indices", {2, 0, 0}, "split_indices[0] is 2");
  refused("split_indices", {-1, 0, 0}, "split_indices[0] is -1");
  refused("split_conditions", {"NaN", 0.0, 0.0}, "split_conditions[0] is NaN");
  refused("split_conditions", {1.0, "NaN", 0.0}, "split_conditions[1]");
  refused("split_conditions", {1.0, 1e300, 0.0}, "split_conditions[1]");
  refused("split_conditions", {"one", 1.0, 0.0}, "split_conditions[0] is \"one\"");
  refused("default_left", {2, 0, 0}, "default_left[0] is 2");
  refused("split_type", {1, 0, 0}, "categories_nodes lacks node 0");
  refused("tree_param", {{"num_nodes", "4"}}, "tree_param.num_nodes");
  refused("tree_param", nullptr, "tree_param.num_nodes is missing");

  const auto refused_categories = [](const char* list, const json& value, const std::string& part) {
    json model = model_of({category_stump(0, {1, 2}, true)});
    tree_of(model)[list] = value;
    expect_refused(model, "m.json: learner.gradient_booster.model.trees[0]." + part);
  };
  refused_categories("categories_sizes", {3}, "categories_sizes[0]");
  refused_categories("categories_sizes", {0}, "categories_sizes[0]");
  refused_categories("categories_sizes", {1, 1}, "categories_sizes");
  refused_categories("categories_segments", {1}, "categories_sizes[0]");
  refused_categories("categories_nodes", {3}, "categories_nodes[0]");
  refused_categories("categories", {1, 16777216}, "categories[1]");
  refused_categories("categories", {1, -1}, "categories[1]");

  json model = model_of({stump(0, 1, true)});
  booster_of(model)["model"]["tree_info"] = {0, 0};
  expect_refused(model, "learner.gradient_booster.model.tree_info holds 2 numbers for 1 trees");
  booster_of(model)["model"]["tree_info"] = {1};
  expect_refused(model, "learner.gradient_booster.model.tree_info[0] is 1");
  for (const char* count : {"", "0", "-1", "x", "2 ", "99999999999999999999", "1000000000"}) {
    model = model_of({stump(0, 1, true)});
    model["learner"]["learner_model_param"]["num_feature"] = count;
    expect_refused(model, "learner.learner_model_param.num_feature");
  }
  model = model_of({stump(0, 1, true)});
  model["learner"]["learner_model_param"]["num_class"] = "65535";
  expect_refused(model, "learner.gradient_booster.model.tree_info gives output 0 1 of 1 trees");
}

TEST(ImportXgboost, HighCategoriesCannotTakeAllMemory) {
  EXPECT_EQ(score_of(model_of({category_stump(0, {16777215}, true)}), {16777215, 0}), 1);
  std::vector<json> trees;
  for (int i = 0; i < 20; ++i) trees.push_back(category_stump(0, {16777215}, true));
  expect_refused(model_of(trees), "categories are numbered up to 16777215 with large gaps");
}

TEST(ImportXgboost, OtherFilesOfXgboostAreToldWhatToDo) {
  const auto expect_told = [](const std::string& bytes, const char* part) {
    EXPECT_TRUE(is_xgboost(bytes));
    EXPECT_NE(refusal_of(bytes).find(part), std::string::npos) << refusal_of(bytes);
    EXPECT_NE(refusal_of(bytes).find("save_model('model.json')"), std::string::npos);
  };
  expect_told("booster[0]:\n0:[f2<0.163124084] yes=1,no=2,missing=1\n", "a dump");
  expect_told("[\n  { \"nodeid\": 0, \"depth\": 0, \"split\": \"f2\"", "a dump");
  std::string binary = "binf" + std::string(136, '\0') + '\x0f' + std::string(7, '\0') + "binary:logistic";
  expect_told(binary, "old binary format");
  expect_told(binary.substr(4), "old binary format");
  json config = model_of({stump(0, 1, true)});
  booster_of(config).erase("model");
  booster_of(config)["gbtree_train_param"] = json::object();
  expect_told(config.dump(), "the configuration of a booster");
  const json memory = {{"Config", config}, {"Model", model_of({stump(0, 1, true)})}};
  expect_told(memory.dump(), "the memory of a booster");
  expect_told(ubjson_of(memory), "the memory of a booster");
  for (const char* other :
       {"", "{", "{}", "tree\nversion=v4", "{\"type\": \"GradientBoostingClassifier\"}", "\x08\x07"})
    EXPECT_FALSE(is_xgboost(other)) << other;
}

TEST(ImportXgboost, SizesAndDepthsThatAreOnlyAnnouncedAreRefused) {
  std::string deep = "{\"learner\":";
  deep.append(100000, '[');
  EXPECT_NE(refusal_of(deep).find("more than 64 levels"), std::string::npos) << refusal_of(deep);
  const std::string key = std::string("{i\x07") + "learner";
  deep = key + std::string(100000, '[');
  EXPECT_NE(refusal_of(deep).find("more than 64 levels"), std::string::npos) << refusal_of(deep);
  for (const char type : {'Z', 'T', 'F', 'i', 'U', 'd', 'D', 'S', 'H', '[', '{'}) {
    const std::string sized = key + "[$" + type + "#L" + std::string("\x0d\xe0\xb6\xb3\xa7\x64\x00\x00", 8);
    EXPECT_NE(refusal_of(sized).find("learner"), std::string::npos) << type << refusal_of(sized);
  }
  const std::string long_text = key + "SL" + std::string("\x0d\xe0\xb6\xb3\xa7\x64\x00\x00", 8) + "abc";
  EXPECT_NE(refusal_of(long_text).find("learner"), std::string::npos) << refusal_of(long_text);
  EXPECT_NE(refusal_of("{\"learner\":1,\"learner\":2}").find("learner is there twice"), std::string::npos);
}

/// Two trees with all that a tree can have.
json varied_model() {
  json model =
      model_of({stump(0, 0.5, true), category_stump(1, {1, 5}, false)}, "multi:softprob", "[5E-1,0E0]");
  model["learner"]["learner_model_param"]["num_class"] = "2";
  model["learner"]["feature_names"] = {"tempo", "genre"};
  model["learner"]["attributes"] = {{"best_iteration", "0"}, {"scikit_learn", "{}"}};
  booster_of(model)["model"]["tree_info"] = {0, 1};
  booster_of(model)["model"]["iteration_indptr"] = {0, 2};
  booster_of(model)["model"]["cats"]["enc"] = {{{"offsets", json::array()}, {"values", json::array()}},
                                               {{"offsets", {0, 1, 2}}, {"values", {'a', 'b'}}}};
  return model;
}

TEST(ImportXgboost, EveryTruncationIsRefused) {
  const json model = varied_model();
  for (const std::string& whole : {model.dump(), model.dump(1), ubjson_of(model)}) {
    ASSERT_EQ(refusal_of(whole), "");
    for (std::size_t size = 0; size < whole.size(); ++size) {
      // An object may end by a count: then only what comes after is missing.
      ASSERT_NE(refusal_of(whole.substr(0, size)), "") << size;
    }
    ASSERT_NE(refusal_of(whole + whole), "");
  }
}

TEST(ImportXgboost, MutationsGiveAnErrorOrAModel) {
  const json model = varied_model();
  Random random(1);
  std::size_t models = 0, errors = 0;
  for (const std::string& whole : {model.dump(), ubjson_of(model)}) {
    for (int round = 0; round < 3000; ++round) {
      std::string bytes = whole;
      for (std::size_t changes = 1 + random.below(4); changes > 0; --changes) {
        const std::size_t at = random.below(static_cast<std::uint32_t>(bytes.size()));
        switch (random.below(5)) {
          case 0:
            bytes[at] = static_cast<char>(random.below(256));
            break;
          case 1:
            bytes[at] = whole[random.below(static_cast<std::uint32_t>(whole.size()))];
            break;
          case 2:
            bytes.erase(at, 1 + random.below(8));
            break;
          case 3:
            bytes.insert(at, whole.substr(random.below(static_cast<std::uint32_t>(whole.size())),
                                          1 + random.below(12)));
            break;
          default:
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
        }
        if (bytes.empty()) break;
      }
      try {
        is_xgboost(bytes);
        const ImportedModel imported = import_xgboost(bytes, "m.json");
        const TreeEnsemble& ensemble = trees_of(imported).ensemble;
        for (const float x : {0.0f, 1.0f, 5.0f, -1.0f, 1e9f, missing, infinity, -infinity})
          for (const double score : ensemble_scores(ensemble, std::vector<float>(imported.columns.size(), x)))
            ASSERT_TRUE(std::isfinite(score));
        ++models;
      } catch (const Error& error) {
        ASSERT_TRUE(std::string_view(error.what()).starts_with("m.json: ")) << error.what();
        ++errors;
      }
    }
  }
  EXPECT_GT(models, 100u);
  EXPECT_GT(errors, 1000u);
}

}  // namespace
}  // namespace tonearm
