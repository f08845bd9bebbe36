// What trainers made is what blobs compute: random models packed by emit and evaluated through the C API,
// against the float64 reference, with rows on every kind of edge.

#include "emit/emit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <set>

#include "base/random.h"
#include "evaluate/blob.h"
#include "folder.h"
#include "kernels.h"

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
                        TreeStorage storage = LeafStorage::exact) {
  schema::ModelT model = empty_model(columns);
  append_predictor(model, trained, 0, columns, storage);
  return model;
}

Blob blob_of(const TrainedModel& trained, std::size_t columns, TreeStorage storage = LeafStorage::exact) {
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
  bool exotic = false;                   // sets of categories, zeros that are missing, thresholds below all
  std::size_t deepest = SIZE_MAX;        // no way through a tree is longer
};

constexpr std::size_t set_count = 12;

/// Sets of categories: of none and of many, and two that are the same.
std::vector<CategorySplit> random_sets(Random& random) {
  std::vector<CategorySplit> sets(set_count);
  for (std::size_t i = 0; i < set_count; ++i) {
    for (std::size_t count = i == 0 ? 0 : random.below(40); count > 0; --count)
      sets[i].right.push_back(random.below(2) == 0);
    sets[i].other_right = random.below(2) == 0;
    sets[i].between_right = random.below(2) == 0;
    sets[i].missing_right = random.below(2) == 0;
  }
  sets[5] = sets[3];
  return sets;
}

TreeNode question(Random& random, const Shape& shape, const std::vector<std::vector<float>>& pools) {
  TreeNode node;
  const auto feature = random.below(static_cast<std::uint32_t>(shape.features));
  node.feature = static_cast<std::int32_t>(feature);
  node.threshold = pools[feature][random.below(static_cast<std::uint32_t>(pools[feature].size()))];
  node.missing_left = random.below(2) == 0;
  if (!shape.exotic) return node;
  if (feature % 2 == 1 && random.below(4) != 0)
    node.category_split = static_cast<std::int32_t>(random.below(set_count));
  else if (random.below(8) == 0)
    node.threshold = missing;
  node.zero_is_missing = random.below(3) == 0;
  return node;
}

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
  std::vector<std::size_t> open = {0};   // leaves that may still be split
  std::vector<std::size_t> depth = {0};  // of each node
  for (std::uint32_t i = 1; i < leaves; ++i) {
    const std::size_t pick =
        shape.chain ? open.size() - 1 : random.below(static_cast<std::uint32_t>(open.size()));
    if (depth[open[pick]] == shape.deepest) continue;
    const auto left = static_cast<std::int32_t>(tree.nodes.size());
    TreeNode& node = tree.nodes[open[pick]];
    node = question(random, shape, pools);
    node.left = left;
    node.right = left + 1;
    tree.nodes.resize(tree.nodes.size() + 2);
    depth.insert(depth.end(), 2, depth[open[pick]] + 1);
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
    TreeNode node = question(random, shape, pools);
    for (int i = 0; i < 1 << level; ++i) {
      node.left = static_cast<std::int32_t>(2 * tree.nodes.size() + 1);
      node.right = node.left + 1;
      tree.nodes.push_back(node);
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
  if (shape.exotic) made.ensemble.category_splits = random_sets(random);
  made.ensemble.base.clear();
  for (std::size_t k = 0; k < shape.outputs; ++k)
    made.ensemble.base.push_back(static_cast<double>(random.below(9)) - 4);
  return made;
}

/// On a threshold, one unit to either side of one, missing, infinite, zero, tiny, huge, a category or nearly
/// one, or ordinary.
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
                            static_cast<float>(random.normal() * 100),
                            1e-35f,
                            -1e-35f,
                            std::nextafterf(1e-35f, 1),
                            static_cast<float>(random.below(42)),
                            static_cast<float>(random.below(42)) + 0.5f,
                            -1,
                            -0.5f,
                            1e9f};
    // Edges most of all.
    row.push_back(values[random.below(2) == 0 ? random.below(3) : random.below(std::size(values))]);
  }
  return row;
}

/// Whole numbers, whose sums float32 holds exactly: any other leaf would show.
std::function<double()> whole_leaves(Random& random, std::int32_t largest) {
  return [&random, largest] {
    return static_cast<double>(random.below(static_cast<std::uint32_t>(2 * largest + 1))) - largest;
  };
}

/// Every kernel gives the bits of the first, which is the reference among them; returns those.
std::vector<float> same_of_all_kernels(const std::vector<tonearm_model>& models, std::span<const float> row,
                                       std::size_t outputs) {
  std::vector<float> first(outputs);
  std::vector<std::uint32_t> scratch(tonearm_scratch_size(&models[0]) / 4);
  for (const tonearm_model& model : models) {
    std::vector<float> out(outputs);
    EXPECT_EQ(tonearm_evaluate(&model, row.data(), static_cast<std::uint32_t>(row.size()), scratch.data(),
                               scratch.size() * 4, out.data()),
              TONEARM_OK);
    if (&model == &models[0]) first = out;
    EXPECT_EQ(std::memcmp(first.data(), out.data(), outputs * 4), 0)
        << "the kernel of CPU bit " << all_cpus()[static_cast<std::size_t>(&model - models.data())];
  }
  return first;
}

void expect_same_leaves(const RandomEnsemble& made, const Blob& blob, Random& random, int rows) {
  const std::vector<tonearm_model> models = opened_with_every_kernel(blob.bytes());
  for (int n = 0; n < rows; ++n) {
    const std::vector<float> row = awkward_row(random, made.pools);
    const std::vector<float> out = same_of_all_kernels(models, row, blob.outputs());
    const std::vector<double> expected = ensemble_scores(made.ensemble, row);
    for (std::size_t k = 0; k < out.size(); ++k)
      ASSERT_EQ(static_cast<double>(out[k]), expected[k]) << "row " << n << ", output " << k;
    ASSERT_FALSE(testing::Test::HasNonfatalFailure());
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
    {"every kind of question", 6, 40, 2, 60, 50, false, false, true},
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
        const Blob blob = blob_of({made.ensemble, {}}, shape.features, {storage, TreeLayout::walk});
        ASSERT_EQ(first_operator(blob).kind_type(), schema::OperatorKind::BranchingTrees);
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
        const Shape shape = {"",    7,     1 + random.below(40), 1 + random.below(3), 0, 300,
                             false, false, depth % 2 == 0};
        RandomEnsemble made = random_ensemble(random, shape, depth, whole_leaves(random, largest));
        if (storage == LeafStorage::int16) made.ensemble.trees.back().nodes.back().value = 32767;
        const Blob blob = blob_of({made.ensemble, {}}, shape.features, {storage, TreeLayout::walk});
        ASSERT_EQ(first_operator(blob).kind_type(), schema::OperatorKind::SymmetricTrees);
        leaf_formats.insert(first_operator(blob).kind_as_SymmetricTrees()->leaf_format());
        expect_same_leaves(made, blob, random, 60);
        if (HasFatalFailure()) return;
      }
  EXPECT_EQ(leaf_formats.size(), 4u);
}

TEST(CompleteTrees, EveryDecisionIsThatOfTheReference) {
  Random random(12);
  std::set<schema::LeafFormat> leaf_formats;
  std::set<int> depths;
  bool two_slices = false;
  for (const Shape& shape : {Shape{"stumps", 3, 300, 1, 2, 20},
                             {"lone leaves only", 2, 5, 2, 1, 10},
                             {"the deepest", 5, 20, 1, 9, 50, true, true},
                             {"three levels", 5, 33, 3, 20, 100, false, false, false, 3},
                             {"small, several outputs", 13, 33, 5, 31, 60, false, false, false, 8},
                             {"many features", 40, 100, 1, 31, 300, false, false, false, 6},
                             {"two slices an axis", 4, 60, 2, 200, 400, false, false, false, 8},
                             {"the most slices", 255, 700, 1, 4, 9, true},
                             {"every kind of question", 6, 40, 2, 60, 50, false, false, true, 7}})
    for (const std::int32_t largest : {20, 100, 2000, 30000})
      for (const LeafStorage storage : {LeafStorage::exact, LeafStorage::int16}) {
        SCOPED_TRACE(std::string(shape.name) + ", leaves up to " + std::to_string(largest));
        RandomEnsemble made = random_ensemble(random, shape, 0, whole_leaves(random, largest));
        // Where missing values go is one question of each feature, so that there are not too many.
        if (shape.features == 255)
          for (Tree& tree : made.ensemble.trees)
            for (TreeNode& node : tree.nodes) node.missing_left = true;
        if (storage == LeafStorage::int16) made.ensemble.trees.back().nodes.back().value = 32767;
        const Blob blob = blob_of({made.ensemble, {}}, shape.features, {storage, TreeLayout::complete});
        const schema::BranchingTrees& packed = *first_operator(blob).kind_as_BranchingTrees();
        ASSERT_EQ(packed.node_format(), schema::NodeFormat::Complete);
        leaf_formats.insert(packed.leaf_format());
        depths.insert(packed.depth());
        const auto& begin = *packed.inputs()->threshold_begin();
        for (flatbuffers::uoffset_t axis = 0; axis + 1 < begin.size(); ++axis)
          two_slices |= begin.Get(axis + 1) - begin.Get(axis) > 255;
        expect_same_leaves(made, blob, random, 60);
        if (HasFatalFailure()) return;
      }
  EXPECT_EQ(leaf_formats.size(), 4u);
  EXPECT_TRUE(depths.contains(1) && depths.contains(3) && depths.contains(8));
  EXPECT_TRUE(two_slices);
}

// Also of symmetric trees, which are walked in another order, and of those that are found to be.
TEST(CompleteTrees, GiveTheBitsOfWalks) {
  Random random(13);
  const auto leaf = [&random] { return random.normal(); };
  for (int depth = 0; depth <= 8; ++depth)
    for (const bool says_so : {true, false})
      for (const LeafStorage storage : {LeafStorage::exact, LeafStorage::int16}) {
        SCOPED_TRACE("depth " + std::to_string(depth));
        const Shape shape = {"", 9, 37, 2, 40, 60, false, false, depth % 2 == 0, 8};
        RandomEnsemble made = random_ensemble(random, shape, depth, leaf);
        made.ensemble.scale = 0.1;
        made.ensemble.base = {0.3, -1.7};
        if (!says_so) made.ensemble.symmetric_depth = 0;
        const Blob walk = blob_of({made.ensemble, {}}, shape.features, {storage, TreeLayout::walk});
        const Blob complete = blob_of({made.ensemble, {}}, shape.features, {storage, TreeLayout::complete});
        ASSERT_EQ(first_operator(complete).kind_as_BranchingTrees()->node_format(),
                  schema::NodeFormat::Complete);
        for (int n = 0; n < 200; ++n) {
          const std::vector<float> row = awkward_row(random, made.pools);
          float expected[2], found[2];
          walk.evaluate(row, expected);
          complete.evaluate(row, found);
          ASSERT_EQ(std::memcmp(expected, found, sizeof found), 0) << "row " << n;
        }
      }
}

TEST(CompleteTrees, TreesThatAreTooDeepOrAskTooMuchAreRefused) {
  const auto chain = [](std::int32_t questions) {
    Tree tree;
    for (std::int32_t i = 0; i < questions; ++i) {  // a leaf, and the next question behind it
      tree.nodes.push_back({0, static_cast<float>(i), true, 2 * i + 1, 2 * i + 2, 0});
      tree.nodes.emplace_back();
    }
    tree.nodes.emplace_back();
    return tree;
  };
  const auto append = [](const TreeEnsemble& ensemble, std::size_t columns) {
    schema::ModelT model = empty_model(columns);
    append_predictor(model, {ensemble, {}}, 0, columns, {LeafStorage::exact, TreeLayout::complete});
  };
  const auto refused = [&](const TreeEnsemble& ensemble, std::size_t columns) {
    return error_of([&] { append(ensemble, columns); });
  };
  TreeEnsemble deep;
  deep.trees = {chain(1), chain(8), chain(0)};
  append(deep, 1);
  deep.trees[1] = chain(9);
  EXPECT_EQ(refused(deep, 1),
            "tree 2 of 3 is 9 questions deep, and complete trees are at most 8: limit the depth in training, "
            "or choose the layout walk instead of complete");

  TreeEnsemble wide;
  for (std::int32_t feature = 0; feature < 256; ++feature) {
    wide.trees.push_back(chain(1));
    wide.trees.back().nodes[0].feature = feature;
  }
  append(wide, 257);
  wide.trees.push_back(chain(1));
  wide.trees.back().nodes[0].feature = 256;
  EXPECT_EQ(
      refused(wide, 257),
      "complete trees test at most 256 groups of 255 thresholds, and these take 257: use fewer bins, or "
      "choose the layout walk instead of complete");

  TreeEnsemble many;
  many.trees.assign((std::size_t{1} << 18) + 1, chain(0));
  many.trees[7] = chain(8);
  EXPECT_TRUE(contains(refused(many, 1), "262145 complete trees of depth 8 would have more than 67108864"));
}

TEST(BlockTrees, EveryDecisionIsThatOfTheReference) {
  Random random(4);
  std::set<schema::LeafFormat> leaf_formats[2];
  for (const int depth : {0, 0, 1, 2, 3, 5, 8})
    for (const std::size_t trees : {1u, 15u, 16u, 17u, 63u, 64u, 65u, 130u})
      for (const std::int32_t largest : {100, 300, 30000})
        for (const LeafStorage storage : {LeafStorage::exact, LeafStorage::int16}) {
          constexpr std::uint32_t most_leaves[] = {1, 2, 9, 31, 64};
          const Shape shape = {"",
                               4 + random.below(4),
                               trees,
                               1 + random.below(3),
                               most_leaves[random.below(5)],
                               20 + random.below(300),
                               random.below(4) == 0,
                               random.below(2) == 0,
                               random.below(2) == 0};
          SCOPED_TRACE("depth " + std::to_string(depth) + ", " + std::to_string(trees) + " trees of up to " +
                       std::to_string(shape.leaves) + " leaves up to " + std::to_string(largest));
          RandomEnsemble made = random_ensemble(random, shape, depth, whole_leaves(random, largest));
          if (storage == LeafStorage::int16) made.ensemble.trees.back().nodes.back().value = 32767;
          const Blob blob = blob_of({made.ensemble, {}}, shape.features, storage);
          ASSERT_EQ(first_operator(blob).kind_type(), schema::OperatorKind::BlockTrees);
          const schema::BlockTrees& packed = *first_operator(blob).kind_as_BlockTrees();
          EXPECT_EQ(packed.depth(), depth);
          EXPECT_EQ(packed.trees(), (trees + 15) / 16 * 16);
          leaf_formats[depth > 0].insert(packed.leaf_format());
          expect_same_leaves(made, blob, random, 25);
          if (HasFatalFailure()) return;
        }
  for (const auto& formats : leaf_formats) EXPECT_EQ(formats.size(), 4u);
}

TEST(BlockTrees, WhatDoesNotFitIsWalked) {
  Random random(5);
  struct Case {
    Shape shape;
    int depth;
    schema::OperatorKind kind;
  };
  for (const Case& c :
       {Case{{"64 leaves", 5, 20, 1, 64, 50, false, true}, 0, schema::OperatorKind::BlockTrees},
        {{"65 leaves", 5, 20, 1, 65, 50, false, true}, 0, schema::OperatorKind::BranchingTrees},
        {{"8 levels", 5, 20, 1, 0, 50}, 8, schema::OperatorKind::BlockTrees},
        {{"9 levels", 5, 20, 1, 0, 50}, 9, schema::OperatorKind::SymmetricTrees},
        {{"many slices", 400, 300, 1, 20, 9}, 0, schema::OperatorKind::BranchingTrees}}) {
    SCOPED_TRACE(c.shape.name);
    const RandomEnsemble made = random_ensemble(random, c.shape, c.depth, whole_leaves(random, 100));
    const Blob blob = blob_of({made.ensemble, {}}, c.shape.features);
    EXPECT_EQ(first_operator(blob).kind_type(), c.kind);
    expect_same_leaves(made, blob, random, 100);
  }
}

// A stump for each threshold, whose right leaf is 1: the score is the number of thresholds below the value.
TEST(Trees, AnAxisIsSearchedExactlyWhateverItsLength) {
  Random random(6);
  for (const std::size_t count :
       {1u,   15u,  16u,  17u,  31u,   32u,   33u,   254u,  255u,  256u,   257u,   271u,
        272u, 273u, 510u, 511u, 4095u, 4096u, 4097u, 4353u, 8191u, 65279u, 65280u, 65281u}) {
    SCOPED_TRACE(count);
    TreeEnsemble ensemble;
    std::vector<float> thresholds;
    float threshold = -static_cast<float>(count) / 16;
    for (std::size_t i = 0; i < count; ++i) {
      thresholds.push_back(threshold);
      ensemble.trees.push_back({{{0, threshold, false, 1, 2, 0}, {}, {-1, 0, true, -1, -1, 1}}});
      // Neighbours in float32 as well as far ones.
      threshold = random.below(3) == 0 ? std::nextafterf(threshold, infinity) : threshold + 0.125f;
    }
    const Blob blob = blob_of({ensemble, {}}, 1);
    EXPECT_EQ(first_operator(blob).kind_type(),
              count <= 255 * 256 ? schema::OperatorKind::BlockTrees : schema::OperatorKind::BranchingTrees);
    const std::vector<tonearm_model> models = opened_with_every_kernel(blob.bytes());
    const auto expect_rank = [&](float value, std::size_t expected) {
      ASSERT_EQ(same_of_all_kernels(models, {&value, 1}, 1)[0], static_cast<float>(expected)) << value;
    };
    const std::size_t step = count / 300 + 1;
    for (std::size_t i = 0; i < count; i += count - i <= 20 || i < 20 ? 1 : step) {
      const auto below = [&](float value) {
        return static_cast<std::size_t>(std::lower_bound(thresholds.begin(), thresholds.end(), value) -
                                        thresholds.begin());
      };
      for (const float value : {thresholds[i], std::nextafterf(thresholds[i], infinity),
                                std::nextafterf(thresholds[i], -infinity)})
        expect_rank(value, below(value));
    }
    expect_rank(-infinity, 0);
    expect_rank(infinity, count);
    expect_rank(missing, count);  // goes right everywhere
    if (HasFatalFailure()) return;
  }
}

// --- Questions beyond "at most the threshold" ---------------------------------------------------------

TreeNode leaf_of(double value) {
  TreeNode leaf;
  leaf.value = value;
  return leaf;
}

/// Asks one question in every layout: 1 is left, 2 is right.
class OneQuestion {
 public:
  OneQuestion(TreeNode node, std::vector<CategorySplit> splits = {}) {
    node.left = 1, node.right = 2;
    TreeEnsemble ensemble;
    ensemble.trees.push_back({{node, leaf_of(1), leaf_of(2)}});
    ensemble.category_splits = std::move(splits);
    for (const TreeLayout layout : {TreeLayout::automatic, TreeLayout::walk, TreeLayout::complete})
      blobs_.push_back(
          std::make_unique<Blob>(blob_of_bytes({ensemble, {}}, {LeafStorage::exact, layout}), "a question"));
  }
  float answer(float x) const {
    std::vector<float> answers;
    for (const auto& blob : blobs_)
      answers.push_back(same_of_all_kernels(opened_with_every_kernel(blob->bytes()), {&x, 1}, 1)[0]);
    for (const float answer : answers) EXPECT_EQ(answer, answers[0]) << x;
    return answers[0];
  }

 private:
  static std::vector<unsigned char> blob_of_bytes(const TrainedModel& trained, TreeStorage storage) {
    schema::ModelT model = model_of(trained, 1, storage);
    return pack(model);
  }
  std::vector<std::unique_ptr<Blob>> blobs_;
};

TEST(CategorySplits, ANumberStandsForTheCategoryThatItIsTruncatedTo) {
  for (int bits = 0; bits < 8; ++bits) {
    CategorySplit split;
    split.right = {true, false, false, true, true};
    split.other_right = (bits & 1) != 0;
    split.between_right = (bits & 2) != 0;
    split.missing_right = (bits & 4) != 0;
    TreeNode node;
    node.feature = 0;
    node.category_split = 0;
    node.zero_is_missing = true;  // says nothing of categories
    const OneQuestion question(node, {split});
    const auto side = [](bool right) { return right ? 2.0f : 1.0f; };
    for (std::size_t c = 0; c < split.right.size(); ++c) {
      const auto category = static_cast<float>(c);
      EXPECT_EQ(question.answer(category), side(split.right[c])) << c;
      EXPECT_EQ(question.answer(category + 0.75f), side(split.right[c])) << c;
      EXPECT_EQ(question.answer(std::nextafterf(category + 1, 0)), side(split.right[c])) << c;
    }
    EXPECT_EQ(question.answer(-0.0f), side(true));
    EXPECT_EQ(question.answer(denormal), side(true));
    for (const float between : {-denormal, -1e-35f, -0.5f, std::nextafterf(-1, 0)})
      EXPECT_EQ(question.answer(between), side(split.between_right)) << between;
    for (const float other :
         {5.0f, 5.5f, 1e9f, 3e9f, 1e19f, huge, infinity, -1.0f, -2.0f, -1e10f, -huge, -infinity})
      EXPECT_EQ(question.answer(other), side(split.other_right)) << other;
    for (const float nothing : {missing, -missing})
      EXPECT_EQ(question.answer(nothing), side(split.missing_right));
  }
}

TEST(MissingZeros, NumbersUpToATinyOneAreMissing) {
  for (const bool missing_left : {false, true})
    for (const float threshold : {-infinity, -1.0f, -1e-35f, 0.0f, 1e-35f, 1.0f, infinity}) {
      TreeNode node;
      node.feature = 0;
      node.threshold = threshold;
      node.missing_left = missing_left;
      node.zero_is_missing = true;
      const OneQuestion question(node);
      for (const float x : {0.0f, -0.0f, denormal, -denormal, 1e-35f, -1e-35f, missing})
        EXPECT_EQ(question.answer(x), missing_left ? 1 : 2) << x << " <= " << threshold;
      for (const float x :
           {std::nextafterf(1e-35f, 1), std::nextafterf(-1e-35f, -1), 1.0f, -1.0f, infinity, -infinity})
        EXPECT_EQ(question.answer(x), x <= threshold ? 1 : 2) << x << " <= " << threshold;
    }
}

TEST(NanThresholds, OnlyWhatIsMissingGoesLeft) {
  for (const bool missing_left : {false, true})
    for (const bool zero_is_missing : {false, true}) {
      TreeNode node;
      node.feature = 0;
      node.threshold = missing;
      node.missing_left = missing_left;
      node.zero_is_missing = zero_is_missing;
      const OneQuestion question(node);
      EXPECT_EQ(question.answer(missing), missing_left ? 1 : 2);
      EXPECT_EQ(question.answer(0), missing_left && zero_is_missing ? 1 : 2);
      for (const float x : {-infinity, -huge, -1.0f, 1e-34f, 1.0f, huge, infinity})
        EXPECT_EQ(question.answer(x), 2) << x;
    }
}

// --- Trees that are symmetric without saying so -------------------------------------------------------

/// The same tree with its nodes in another order.
Tree shuffled(Random& random, const Tree& tree) {
  std::vector<std::int32_t> place(tree.nodes.size()), order;
  std::vector<std::int32_t> open = {0};
  while (!open.empty()) {
    std::swap(open[random.below(static_cast<std::uint32_t>(open.size()))], open.back());
    const std::int32_t at = open.back();
    open.pop_back();
    place[static_cast<std::size_t>(at)] = static_cast<std::int32_t>(order.size());
    order.push_back(at);
    const TreeNode& node = tree.nodes[static_cast<std::size_t>(at)];
    if (node.feature >= 0) open.insert(open.end(), {node.left, node.right});
  }
  Tree result;
  for (const std::int32_t at : order) {
    TreeNode node = tree.nodes[static_cast<std::size_t>(at)];
    if (node.feature >= 0) {
      node.left = place[static_cast<std::size_t>(node.left)];
      node.right = place[static_cast<std::size_t>(node.right)];
    }
    result.nodes.push_back(node);
  }
  return result;
}

/// Trees of these depths, in any order of their nodes, that do not say that they are symmetric.
RandomEnsemble disguised(Random& random, const Shape& shape, const std::vector<int>& depths) {
  RandomEnsemble made = random_ensemble(random, shape, 1, whole_leaves(random, 100));
  made.ensemble.symmetric_depth = 0;
  made.ensemble.trees.clear();
  for (std::size_t i = 0; i < shape.trees * shape.outputs; ++i)
    made.ensemble.trees.push_back(shuffled(random, grow_symmetric(random, shape, depths[i % depths.size()],
                                                                  made.pools, whole_leaves(random, 100))));
  return made;
}

TEST(Symmetric, TreesThatAskOneQuestionALevelAreFound) {
  Random random(8);
  struct Case {
    const char* what;
    std::vector<int> depths;
    int found;  // the depth of the symmetric trees; 0: they stay what they are
  };
  for (const Case& c : {Case{"two levels", {2}, 2},
                        {"eight levels", {8}, 8},
                        {"nine levels", {9}, 0},
                        {"of one and two levels", {2, 1, 2}, 2},
                        {"with lone leaves", {3, 3, 0, 3, 2}, 3},
                        {"stumps", {1}, 0},
                        {"lone leaves", {0}, 0},
                        {"mostly shallower, so larger if they were", {5, 2, 2, 2}, 0}})
    for (const bool exotic : {false, true})
      for (const TreeLayout layout : {TreeLayout::automatic, TreeLayout::walk}) {
        SCOPED_TRACE(c.what);
        const Shape shape = {"", 6, 30, 2, 0, 40, false, false, exotic};
        const RandomEnsemble made = disguised(random, shape, c.depths);
        const Blob blob = blob_of({made.ensemble, {}}, shape.features, {LeafStorage::exact, layout});
        const schema::Operator& op = first_operator(blob);
        if (layout == TreeLayout::walk) {
          EXPECT_EQ(op.kind_type(), c.found > 0 ? schema::OperatorKind::SymmetricTrees
                                                : schema::OperatorKind::BranchingTrees);
        } else if (c.depths[0] < 9) {
          ASSERT_EQ(op.kind_type(), schema::OperatorKind::BlockTrees);
          EXPECT_EQ(op.kind_as_BlockTrees()->depth(), c.found);
        }
        expect_same_leaves(made, blob, random, 60);
        if (HasFatalFailure()) return;
      }
}

TEST(Symmetric, OneOtherQuestionIsEnoughToStayBranching) {
  Random random(9);
  const Shape shape = {"", 6, 20, 1, 0, 40};
  RandomEnsemble made = disguised(random, shape, {3});
  for (TreeNode& node : made.ensemble.trees[11].nodes)
    if (node.feature >= 0 && &node != made.ensemble.trees[11].nodes.data()) {
      node.missing_left = !node.missing_left;
      break;
    }
  const Blob blob = blob_of({made.ensemble, {}}, shape.features);
  EXPECT_EQ(first_operator(blob).kind_as_BlockTrees()->depth(), 0);
  expect_same_leaves(made, blob, random, 60);
}

// SymmetricTrees number slices by a byte: those that were found, rather than asked for, are then left as they
// are.
TEST(Symmetric, TreesWithTooManySlicesStayBranching) {
  Random random(10);
  const Shape shape = {"", 400, 300, 1, 0, 9};
  const RandomEnsemble made = disguised(random, shape, {3});
  for (const TreeLayout layout : {TreeLayout::automatic, TreeLayout::walk}) {
    const Blob blob = blob_of({made.ensemble, {}}, shape.features, {LeafStorage::exact, layout});
    EXPECT_EQ(first_operator(blob).kind_type(), schema::OperatorKind::BranchingTrees);
    expect_same_leaves(made, blob, random, 60);
  }
}

// --- Rounding ----------------------------------------------------------------------------------------

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
      const std::vector<tonearm_model> models = opened_with_every_kernel(blob.bytes());
      for (int n = 0; n < 300; ++n) {
        const std::vector<float> row = awkward_row(random, made.pools);
        const std::vector<float> out = same_of_all_kernels(models, row, 2);
        const std::vector<double> expected = ensemble_scores(made.ensemble, row);
        for (std::size_t k = 0; k < 2; ++k) ASSERT_NEAR(out[k], expected[k], bound) << "row " << n;
      }
    }
}

TEST(ScoreRounding, BoundsWhatIsMeasuredAndIsNotFarAboveIt) {
  Random random(11);
  // Leaves of one sign, so that sums are as large as the bound takes them to be.
  const std::pair<const char*, std::function<double()>> kinds[] = {
      {"about one", [&] { return 1 + random.uniform() / 4; }},
      {"rounded down in float32", [&] { return 1 + (random.below(1000) + 0.49) * 0x1p-23; }},
      {"large", [&] { return -3e8 * (1 + random.uniform()); }},
      {"small", [&] { return 1e-6 * (1 + random.uniform()); }}};
  for (const auto& [name, leaf] : kinds)
    for (const std::size_t trees : {1u, 17u, 300u})
      for (const int depth : {0, 4})
        for (const TreeStorage storage : {TreeStorage(LeafStorage::exact), TreeStorage(LeafStorage::int16),
                                          TreeStorage(LeafStorage::exact, TreeLayout::walk)}) {
          const Shape shape = {"", 6, trees, 2, 16, 60, false, true};
          RandomEnsemble made = random_ensemble(random, shape, depth, leaf);
          made.ensemble.scale = 0.3;
          made.ensemble.base = {0.1, -0.7 * leaf()};
          const double bound = score_rounding(made.ensemble, storage.leaves);
          const Blob blob = blob_of({made.ensemble, {}}, shape.features, storage);
          std::vector<float> out(2);
          double largest = 0;
          for (int n = 0; n < 150; ++n) {
            const std::vector<float> row = awkward_row(random, made.pools);
            blob.evaluate(row, out);
            const std::vector<double> expected = ensemble_scores(made.ensemble, row);
            for (std::size_t k = 0; k < 2; ++k)
              largest = std::max(largest, std::abs(static_cast<double>(out[k]) - expected[k]));
          }
          EXPECT_LE(largest, bound) << name << ", " << trees << " trees, depth " << depth;
          EXPECT_GE(50 * largest, bound) << name << ", " << trees << " trees, depth " << depth;
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

TEST(Pack, ModelsNeedNoNewerLibraryThanWhatIsInThem) {
  TreeNode plain, below_all, zero, category;
  for (TreeNode* node : {&plain, &below_all, &zero, &category})
    node->feature = 0, node->left = 1, node->right = 2;
  below_all.threshold = missing;
  zero.zero_is_missing = true;
  category.category_split = 0;
  const auto needed = [](const TreeNode& node, TreeLayout layout) {
    TreeEnsemble ensemble;
    ensemble.trees.push_back({{node, leaf_of(1), leaf_of(2)}});
    ensemble.category_splits.push_back({{true}});
    schema::ModelT model = model_of({ensemble, {}}, 1, {LeafStorage::exact, layout});
    pack(model);
    EXPECT_EQ(model.format_minor, model.runtime_minimum == 100 ? 0 : model.runtime_minimum == 300 ? 2 : 4);
    return model.runtime_minimum;
  };
  EXPECT_EQ(needed(plain, TreeLayout::walk), 100u);
  for (const TreeNode& node : {below_all, zero, category}) EXPECT_EQ(needed(node, TreeLayout::walk), 300u);
  for (const TreeNode& node : {plain, below_all, zero, category})
    EXPECT_EQ(needed(node, TreeLayout::automatic), 300u);
  for (const TreeNode& node : {plain, below_all, zero, category})
    EXPECT_EQ(needed(node, TreeLayout::complete), 500u);
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

TEST(CategorySplits, ATableOfManyHighCategoriesIsRefused) {
  const auto ensemble_of = [](std::size_t sets, std::size_t categories) {
    TreeEnsemble ensemble;
    for (std::size_t i = 0; i < sets; ++i) {
      CategorySplit split;
      split.right.assign(categories, false);
      split.right[i] = true;
      ensemble.category_splits.push_back(std::move(split));
      TreeNode node;
      node.feature = 0;
      node.category_split = static_cast<std::int32_t>(i);
      node.left = 1;
      node.right = 2;
      ensemble.trees.push_back({{node, TreeNode{}, TreeNode{}}});
    }
    return ensemble;
  };
  const auto append = [&](std::size_t sets, std::size_t categories) {
    schema::ModelT model = empty_model(1);
    append_trees(model, ensemble_of(sets, categories), 0, 1, LeafStorage::exact);
  };
  append(100, 80000);
  EXPECT_TRUE(contains(error_of([&] { append(100, 90000); }), "more than 8 MB"));
}

}  // namespace
}  // namespace tonearm
