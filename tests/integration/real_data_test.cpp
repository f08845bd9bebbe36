// What the recipes reach on real data, where TONEARM_DATA names a folder that holds them: hit tracks in hit/,
// a streaming history in history/, and sessions of the Music Streaming Sessions Dataset in mssd/.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "command.h"
#include "commands/experiment.h"

namespace tonearm {
namespace {

class RealHits : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path data = real_data();
    if (data.empty()) GTEST_SKIP() << "TONEARM_DATA is not set";
    hits_ = data / "hit";
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

class RealSessions : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path data = real_data();
    if (data.empty()) GTEST_SKIP() << "TONEARM_DATA is not set";
    data_ = data;
  }

  Folder folder_;
  std::filesystem::path data_;
};

/// What the model reaches on one kind of question.
const nlohmann::json& answers_to(const nlohmann::json& report, const char* moment, unsigned horizon) {
  for (const auto& entry : report["questions"])
    if (entry["system"] == "model" && entry["moment"] == moment && entry["horizon"] == horizon &&
        entry["after_first"] == false)
      return entry;
  throw std::runtime_error(std::string("nothing was asked: ") + moment);
}

TEST_F(RealSessions, AHistoryIsPredictedAsWellAsByAPlainLearner) {
  constexpr unsigned seeds = 3;
  std::map<std::pair<std::string, unsigned>, std::pair<double, double>> mean;  // accuracy, AUC
  for (unsigned seed = 1; seed <= seeds; ++seed) {
    const auto trained = run_well({"train", recipe("skip-history"), "--data", data_ / "history", "--out",
                                   folder_ / "x.tarm", "--seed", std::to_string(seed), "--json", "-"})
                             .json();
    EXPECT_EQ(trained["leaky"], false);
    EXPECT_EQ(trained["synthetic"], false);
    for (const auto& [moment, horizon] :
         {std::pair{"upcoming", 1u}, {"started", 1u}, {"queue", 2u}, {"queue", 3u}}) {
      const auto& figures = answers_to(trained["held_out"], moment, horizon);
      EXPECT_GT(figures["rows"], 1000);
      mean[{moment, horizon}].first += figures["accuracy"].get<double>() / seeds;
      mean[{moment, horizon}].second += figures["auc"].get<double>() / seeds;
    }
  }
  EXPECT_GE((mean[{"upcoming", 1}].first), 0.847);
  EXPECT_GE((mean[{"upcoming", 1}].second), 0.839);
  EXPECT_GE((mean[{"started", 1}].first), 0.848);
  EXPECT_GE((mean[{"started", 1}].second), 0.841);
  EXPECT_GE((mean[{"queue", 2}].second), 0.796);
  EXPECT_GE((mean[{"queue", 3}].second), 0.745);
}

TEST_F(RealSessions, AreScoredByAModelThatHasSeenGeneratedOnesOnly) {
  run_well({"synth", "sessions", "--count", "2000", "--seed", "1", "--out", folder_ / "made"});
  run_well({"train", recipe("skip"), "--data", folder_ / "made", "--out", folder_ / "x.tarm"});
  const auto scored = run_well({"evaluate", folder_ / "x.tarm", "--data",
                                data_ / "mssd/log_mini_head201_with_track_features.csv", "--json", "-"})
                          .json();
  EXPECT_EQ(scored["sessions"], 11);
  EXPECT_EQ(scored["plays"], 201);
  EXPECT_EQ(scored["synthetic"], false);
  const auto& started = answers_to(scored, "started", 1);
  EXPECT_EQ(started["rows"], 201);
  EXPECT_GT(started["auc"], 0.80);
  EXPECT_GT(answers_to(scored, "upcoming", 1)["auc"], 0.75);
}

}  // namespace
}  // namespace tonearm
