// What the recipes reach on the real hit tracks, where TONEARM_DATA names a folder that holds them in hit/.

#include <gtest/gtest.h>

#include <algorithm>

#include "command.h"
#include "commands/experiment.h"

namespace tonearm {
namespace {

class RealHits : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("TONEARM_DATA");
    if (data == nullptr || *data == '\0') GTEST_SKIP() << "TONEARM_DATA is not set";
    hits_ = std::filesystem::path(data) / "hit";
  }

  nlohmann::json train(const std::string& name, const Arguments& settings = {}) {
    return run_well(Arguments{"train", recipe(name), "--data", hits_, "--out", folder_ / "x.tarm", "--seed",
                              "1", "--json", "-"} +
                    settings)
        .json();
  }

  Folder folder_;
  std::filesystem::path hits_;
};

double figure(const nlohmann::json& trained, const char* name) { return trained["shipped"][name]; }

TEST_F(RealHits, BoostedTrees) {
  const auto leaf_wise = train("hit-boosted");
  EXPECT_GE(figure(leaf_wise, "accuracy"), 0.775);
  EXPECT_GE(figure(leaf_wise, "auc"), 0.855);
  EXPECT_LE(leaf_wise["blob_bytes"], 40'000);
  const auto symmetric = train("hit-boosted", {"--variant", "symmetric"});
  EXPECT_GE(figure(symmetric, "auc"), figure(leaf_wise, "auc"));
  EXPECT_LE(symmetric["blob_bytes"], 32'000);
}

TEST_F(RealHits, Forest) {
  const auto forest = train("hit-forest");
  EXPECT_GE(figure(forest, "accuracy"), 0.775);
  EXPECT_LE(forest["blob_bytes"], 10'000'000);
}

TEST_F(RealHits, LinearModels) {
  EXPECT_GE(figure(train("hit-logistic"), "accuracy"), 0.72);
  EXPECT_GE(figure(train("hit-svm"), "accuracy"), 0.72);
}

TEST_F(RealHits, NoUriStraddlesASplit) {
  for (const char* split : {"random", "artist", "decade"}) {
    const Recipe file(std::filesystem::path(recipe("hit-network")), {"", {"split=" + std::string(split)}});
    const Experiment experiment = load_experiment(file.root(), hits_, 1);
    const auto uri = std::find_if(experiment.table.groups.begin(), experiment.table.groups.end(),
                                  [](const Group& group) { return group.name == "uri"; });
    ASSERT_NE(uri, experiment.table.groups.end()) << split;
    const auto of = [&](const std::vector<std::size_t>& rows) {
      std::vector<std::uint64_t> hashes;
      for (const std::size_t row : rows) hashes.push_back(uri->hashes[row]);
      std::sort(hashes.begin(), hashes.end());
      return hashes;
    };
    const auto held_out = of(experiment.split.held_out);
    const auto& split_ = experiment.split;
    for (const auto& trained : {of(split_.training), of(split_.validation)}) {
      std::vector<std::uint64_t> both;
      std::set_intersection(held_out.begin(), held_out.end(), trained.begin(), trained.end(),
                            std::back_inserter(both));
      EXPECT_TRUE(both.empty()) << both.size() << " on both sides of the split " << split;
    }
    EXPECT_EQ(split_.held_out.size() + split_.training.size() + split_.validation.size() + split_.dropped,
              experiment.table.rows);
  }
}

}  // namespace
}  // namespace tonearm
