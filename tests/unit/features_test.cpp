#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>

#include "base/random.h"
#include "evaluate/metrics.h"
#include "features/encoders.h"
#include "folder.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

Table small_table() {
  Table table;
  table.rows = 6;
  table.columns = {{"a", ColumnType::number, {}, false, {1, 2, 3, 4, 100, missing}},
                   {"b", ColumnType::number, {}, false, {10, 10, 20, 20, 0, 0}},
                   {"c", ColumnType::category, {"x", "y"}, false, {0, 1, 1, 1, 0, missing}}};
  table.target_name = "t";
  table.target = {0, 1, 0, 1, 0, 1};
  return table;
}

const std::vector<std::size_t> training = {0, 1, 2, 3};
const std::vector<std::size_t> all = {0, 1, 2, 3, 4, 5};

class FeaturesTest : public ::testing::Test {
 protected:
  /// The features of all rows, fitted on the training rows.
  Dataset features(const std::string& toml) {
    const Recipe recipe = Recipe::from_text(toml, "test.toml");
    program_ = fit_features(recipe.root(), table_, training, threads_);
    recipe.require_all_known();
    return collect(program_, table_, all, threads_);
  }
  std::string error(const std::string& toml) {
    return error_of([&] { features(toml); });
  }
  Table table_ = small_table();
  Threads threads_{2};
  FeatureProgram program_;
};

TEST_F(FeaturesTest, WithoutEncodersEveryColumnGoesInAsItIs) {
  const Dataset data = features("");
  ASSERT_EQ(data.features, 3u);
  EXPECT_EQ(program_.names, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(data.row(4)[0], 100);
  EXPECT_TRUE(std::isnan(data.row(5)[0]));
  EXPECT_EQ(data.target, table_.target);
}

TEST_F(FeaturesTest, ScalesAreFittedOnTrainingRowsOnly) {
  const Dataset data =
      features("[[features]]\nencode = \"scale\"\nmethod = \"min-max\"\ncolumns = [\"a\", \"b\"]\n");
  EXPECT_FLOAT_EQ(data.row(0)[0], 0);
  EXPECT_FLOAT_EQ(data.row(3)[0], 1);
  EXPECT_FLOAT_EQ(data.row(4)[0], 33) << "held-out values may lie outside 0 to 1";
  EXPECT_FLOAT_EQ(data.row(4)[1], -1);
  const Dataset standard = features("[[features]]\nencode = \"scale\"\ncolumns = [\"a\"]\n");
  EXPECT_NEAR(standard.row(0)[0], -1.5 / std::sqrt(1.25), 1e-6);
}

TEST_F(FeaturesTest, AConstantColumnScalesToZeroInsteadOfInfinity) {
  table_.columns[1].values = {5, 5, 5, 5, 6, 7};
  const Dataset data = features("[[features]]\nencode = \"scale\"\ncolumns = [\"b\"]\n");
  EXPECT_EQ(data.row(0)[0], 0);
  EXPECT_EQ(data.row(4)[0], 1);
}

TEST_F(FeaturesTest, MissingValuesAreFilledAsThePolicySays) {
  EXPECT_FLOAT_EQ(features("[missing]\npolicy = \"mean\"\n").row(5)[0], 2.5f);
  EXPECT_FLOAT_EQ(features("[missing]\npolicy = \"median\"\n").row(5)[0], 3);
  EXPECT_FLOAT_EQ(features("[missing]\npolicy = \"zero\"\n").row(5)[0], 0);
  EXPECT_FLOAT_EQ(features("[missing]\npolicy = \"mean\"\n").row(5)[2], 1)
      << "a category's most frequent one";
  EXPECT_TRUE(std::isnan(features("[missing]\npolicy = \"mean\"\ncolumns.a = \"keep\"\n").row(5)[0]));
}

TEST_F(FeaturesTest, CategoriesBecomeSlotsOrNumbers) {
  const Dataset one_hot = features("[[features]]\nencode = \"one-hot\"\nunknown = true\ncolumns = [\"c\"]\n");
  ASSERT_EQ(one_hot.features, 3u);
  EXPECT_EQ(program_.names, (std::vector<std::string>{"c=x", "c=y", "c=?"}));
  EXPECT_EQ(std::vector<float>(one_hot.row(1).begin(), one_hot.row(1).end()), (std::vector<float>{0, 1, 0}));
  EXPECT_EQ(std::vector<float>(one_hot.row(5).begin(), one_hot.row(5).end()), (std::vector<float>{0, 0, 1}));
  const Dataset ordinal =
      features("[[features]]\nencode = \"ordinal\"\nvalues = [7, -2]\ncolumns = [\"c\"]\n");
  EXPECT_EQ(ordinal.row(0)[0], 7);
  EXPECT_EQ(ordinal.row(1)[0], -2);
  EXPECT_TRUE(std::isnan(ordinal.row(5)[0]));
}

TEST_F(FeaturesTest, BucketsCountTheEdgesBelow) {
  const Dataset data = features("[[features]]\nencode = \"bucket\"\nedges = [2, 3.5]\ncolumns = [\"a\"]\n");
  EXPECT_EQ(data.row(0)[0], 0);
  EXPECT_EQ(data.row(1)[0], 1) << "a value on an edge is above it";
  EXPECT_EQ(data.row(4)[0], 2);
  EXPECT_TRUE(std::isnan(data.row(5)[0]));
}

TEST_F(FeaturesTest, AnEncoderMayReadAnotherAndThenHidesIt) {
  const Dataset data = features(
      "[missing]\npolicy = \"zero\"\n[[features]]\nname = \"s\"\nencode = \"scale\"\ncolumns = [\"a\", "
      "\"b\"]\n"
      "[[features]]\nencode = \"identity\"\ncolumns = [\"b\"]\n[[features]]\nencode = \"pca\"\ncount = "
      "1\ninput = \"s\"\n");
  ASSERT_EQ(data.features, 2u);
  EXPECT_EQ(program_.names, (std::vector<std::string>{"b", "pca.0"}));
  // Both columns are standardised, so the first component is (1, 1) / sqrt 2 for a positive correlation.
  const double a0 = -1.5 / std::sqrt(1.25), b0 = -1;
  EXPECT_NEAR(data.row(0)[1], (a0 + b0) / std::sqrt(2.0), 1e-5);
}

TEST_F(FeaturesTest, FaultsInTheRecipeAreNamed) {
  EXPECT_TRUE(contains(error("[[features]]\ncolumns = [\"aa\"]\n"), "names 'aa'"));
  EXPECT_TRUE(contains(error("[[features]]\nencode = \"one-hot\"\ncolumns = [\"a\"]\n"), "categories"));
  EXPECT_TRUE(contains(error("[[features]]\nencode = \"pca\"\ncount = 1\ninput = \"zz\"\n"), "'zz'"));
  EXPECT_TRUE(contains(error("[[features]]\nencode = \"bucket\"\ncolumns = [\"a\"]\n"), "edges"));
  EXPECT_TRUE(
      contains(error("[[features]]\nencode = \"bucket\"\nedges = [2, 1]\ncolumns = [\"a\"]\n"), "ascend"));
  EXPECT_TRUE(contains(error("[[features]]\nencode = \"ordinal\"\nvalues = [1]\ncolumns = [\"c\"]\n"),
                       "2 categories"));
  EXPECT_TRUE(contains(error("[missing]\npolicy = \"guess\"\n"), "one of: keep, mean, median, zero"));
  table_.columns[0].values.assign(6, missing);
  EXPECT_TRUE(contains(error("[missing]\npolicy = \"mean\"\n"), "no value in any training row"));
}

TEST(Metrics, AgreeWithHandComputedValues) {
  const std::vector<double> p = {0.9, 0.4, 0.4, 0.1};
  const std::vector<float> t = {1, 1, 0, 0};
  const Metrics m = measure(p, t);
  EXPECT_EQ(m.rows, 4u);
  EXPECT_DOUBLE_EQ(m.base_rate, 0.5);
  EXPECT_DOUBLE_EQ(m.accuracy, 0.75);
  EXPECT_DOUBLE_EQ(m.auc, 3.5 / 4) << "a tie counts half";
  EXPECT_NEAR(m.log_loss, -(std::log(0.9) + std::log(0.4) + std::log(0.6) + std::log(0.9)) / 4, 1e-12);
  EXPECT_NEAR(m.calibration_error, (0.1 + 0.2 + 0.1) / 4, 1e-12);  // bins: .9 -> 1, .4 twice -> .5, .1 -> 0
}

TEST(Metrics, AucEqualsTheShareOfOrderedPairs) {
  Random random(3);
  std::vector<double> p;
  std::vector<float> t;
  for (int i = 0; i < 300; ++i)
    p.push_back(std::round(random.uniform() * 20) / 20), t.push_back(random.uniform() < 0.3);
  double ordered_pairs = 0, pairs = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    for (std::size_t j = 0; j < p.size(); ++j)
      if (t[i] > t[j]) pairs += 1, ordered_pairs += p[i] > p[j] ? 1 : p[i] == p[j] ? 0.5 : 0;
  EXPECT_NEAR(measure(p, t).auc, ordered_pairs / pairs, 1e-12);
}

TEST(Metrics, OneClassHasNoAucAndCertaintyHasAFiniteLoss) {
  const Metrics m = measure(std::vector<double>{0.0, 1.0}, std::vector<float>{1, 1});
  EXPECT_TRUE(std::isnan(m.auc));
  EXPECT_TRUE(std::isfinite(m.log_loss));
  EXPECT_THROW(measure({}, {}), Error);
}

TEST(Metrics, SpreadIsMeanAndSampleDeviation) {
  const Spread s = spread(std::vector<double>{1, 2, 3});
  EXPECT_DOUBLE_EQ(s.mean, 2);
  EXPECT_DOUBLE_EQ(s.deviation, 1);
  EXPECT_DOUBLE_EQ(spread(std::vector<double>{5}).deviation, 0);
}

}  // namespace
}  // namespace tonearm
