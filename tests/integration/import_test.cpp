// `tonearm import`, from the trainer's file to predictions: of rows, and of listening sessions.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "command.h"

namespace tonearm {
namespace {

/// Two trees: was the last track skipped, and how far into the session are we? The score is -1, 0, 1 or 2.
const char* const lightgbm_model =
    "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\n"
    "objective=binary sigmoid:1\nfeature_names=previous_skipped session_position\n"
    "feature_infos=[0:1] [1:20]\ntree_sizes=300 300\n\n"
    "Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nsplit_gain=1\nthreshold=0.5\ndecision_type=2\n"
    "left_child=-1\nright_child=-2\nleaf_value=-1 1\nleaf_weight=1 1\nleaf_count=1 1\ninternal_value=0\n"
    "internal_weight=2\ninternal_count=2\nis_linear=0\nshrinkage=1\n\n\n"
    "Tree=1\nnum_leaves=2\nnum_cat=0\nsplit_feature=1\nsplit_gain=1\nthreshold=10\ndecision_type=2\n"
    "left_child=-1\nright_child=-2\nleaf_value=0 1\nleaf_weight=1 1\nleaf_count=1 1\ninternal_value=0\n"
    "internal_weight=2\ninternal_count=2\nis_linear=0\nshrinkage=1\n\n\nend of trees\n\n"
    "feature_importances:\nprevious_skipped=1\nsession_position=1\n\nparameters:\n[boosting: gbdt]\n\n"
    "end of parameters\n\npandas_categorical:null\n";

const char* const session_rules =
    "label = \"skip_2\"\n[data]\nadapter = \"mssd\"\n[session]\nidle_gap = 600\ncap = 20\n"
    "[skip]\nlevel = \"skip_2\"\n";
const char* const session_features =
    "[[features]]\nencode = \"fact\"\nfacts = [\"position\"]\n"
    "[[features]]\nencode = \"lag\"\ncolumns = [\"skipped\"]\nempty = 0\n";
const char* const bound_columns =
    "[columns]\nprevious_skipped = \"lag 1 of skipped\"\nsession_position = \"position\"\n";

double probability(double score) { return 1 / (1 + std::exp(-score)); }

class ImportTest : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    write_file(folder_ / name, text);
    return folder_ / name;
  }
  void expect_refused(const Arguments& arguments, const std::string& part) {
    const Result result = run(Arguments{"import"} + arguments + Arguments{"--out", folder_ / "x.tarm"});
    EXPECT_EQ(result.status, 1);
    EXPECT_TRUE(contains(result.error, part));
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "x.tarm"));
  }

  Folder folder_;
};

TEST_F(ImportTest, RowsGetTheTrainersProbabilities) {
  const std::string file = write("model.txt", lightgbm_model), blob = folder_ / "x.tarm";
  const auto imported = run_well({"import", file, "--out", blob, "--json", "-"}).json();
  EXPECT_EQ(imported["format"], "LightGBM text v4");
  EXPECT_EQ(imported["columns"], (std::vector<std::string>{"previous_skipped", "session_position"}));
  EXPECT_EQ(imported["session"], false);
  EXPECT_GT(imported["score_bound"], 0.0);
  EXPECT_LT(imported["score_bound"], 1e-5);

  const std::string rows =
      write("rows.csv", "session_position,previous_skipped\n10,0.5\n10.000001,0.50000006\n,1\n3,\n1e30,-5\n");
  std::istringstream answers(run_well({"predict", blob, "--rows", rows}).out);
  // A missing value counts as 0, because these trees saw none (missing type None).
  for (const double score : {-1.0, 2.0, 1.0, -1.0, 0.0}) {
    double answer = 0;
    ASSERT_TRUE(answers >> answer);
    EXPECT_NEAR(answer, probability(score), 1e-6);
  }
  EXPECT_TRUE(contains(run_well({"verify", blob}).out, "golden rows agree"));
  EXPECT_TRUE(contains(run_well({"inspect", blob}).out, "LightGBM text v4"));
}

TEST_F(ImportTest, EveryLayoutAndLeafFormatGivesTheSameAnswers) {
  const std::string file = write("model.txt", lightgbm_model);
  const std::string rows = write("rows.csv", "previous_skipped,session_position\n1,20\n0,1\n0,11\n1,2\n");
  std::string expected;
  for (const char* layout : {"auto", "walk", "complete"})
    for (const char* leaves : {"exact", "int16"}) {
      const std::string blob = folder_ / "x.tarm";
      run_well({"import", file, "--layout", layout, "--leaves", leaves, "--out", blob});
      const std::string answers = run_well({"predict", blob, "--rows", rows}).out;
      if (expected.empty()) expected = answers;
      EXPECT_EQ(answers, expected) << layout << " " << leaves;  // these leaves are whole numbers
      EXPECT_EQ(contains(run_well({"inspect", blob}).out, "(Complete)"), layout == std::string("complete"));
    }
  EXPECT_EQ(run({"import", file, "--layout", "x", "--out", folder_ / "y.tarm"}).status, 2);
}

TEST_F(ImportTest, ColumnsCanBeNamedAnew) {
  const std::string file = write("model.txt", lightgbm_model);
  const std::string spec =
      write("spec.toml", "name = \"ours\"\n[columns]\nsession_position = \"position\"\n");
  const auto imported =
      run_well({"import", file, "--columns", spec, "--out", folder_ / "x.tarm", "--json", "-"}).json();
  EXPECT_EQ(imported["session"], false);
  const std::string rows = write("rows.csv", "position,previous_skipped\n11,1\n");
  EXPECT_NEAR(std::stod(run_well({"predict", folder_ / "x.tarm", "--rows", rows}).out), probability(2), 1e-6);
}

TEST_F(ImportTest, BoundToASessionItAnswersWhatTheTrainersRowsWouldHave) {
  const std::string file = write("model.txt", lightgbm_model), blob = folder_ / "x.tarm";
  const std::string spec = write("spec.toml", std::string(session_rules) + session_features + bound_columns);
  EXPECT_EQ(run_well({"import", file, "--columns", spec, "--out", blob, "--json", "-"}).json()["session"],
            true);
  run_well({"synth", "sessions", "--count", "40", "--seed", "3", "--out", folder_ / "logs"});
  std::istringstream lines(run_well({"predict", blob, "--rows", folder_ / "logs"}).out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "log,session,position,moment,horizon,skipped,probability");
  std::map<std::pair<int, int>, int> skipped;  // by log and position
  int answers = 0;
  while (std::getline(lines, line)) {
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream cells(line);
    int log = 0, session = 0, position = 0, horizon = 0, outcome = 0;
    std::string moment;
    double answer = 0;
    ASSERT_TRUE(cells >> log >> session >> position >> moment >> horizon >> outcome >> answer) << line;
    if (horizon != 1) continue;
    const int before = position == 1 ? 0 : skipped.at({log, position - 1});
    EXPECT_NEAR(answer, probability((before == 1 ? 1 : -1) + (position > 10 ? 1 : 0)), 1e-6) << line;
    skipped[{log, position}] = outcome;
    ++answers;
  }
  EXPECT_GT(answers, 800);
  EXPECT_TRUE(contains(run_well({"evaluate", blob, "--data", folder_ / "logs"}).out, "is not known"));
}

TEST_F(ImportTest, WhatDoesNotFitIsRefusedAndNothingIsWritten) {
  const std::string file = write("model.txt", lightgbm_model);
  const auto refuse_spec = [&](const std::string& text, const std::string& part) {
    expect_refused({file, "--columns", write("spec.toml", text)}, part);
  };
  expect_refused({folder_ / "none.txt"}, "none.txt");
  expect_refused({write("empty", "")}, "empty");
  expect_refused({write("text", "hello\n")}, "text");
  expect_refused({write("cut.txt", std::string(lightgbm_model).substr(0, 500))}, "cut.txt");
  refuse_spec("[columns]\nsession_postion = \"x\"\n", "did you mean \"session_position\"?");
  refuse_spec("[colums]\nsession_position = \"x\"\n", "colums");
  refuse_spec("[columns]\nsession_position = 3\n", "session_position");
  refuse_spec(std::string(session_rules) + session_features, "no \"previous_skipped\"");
  refuse_spec(std::string(session_rules) + "[[features]]\nencode = \"scale\"\ncolumns = [\"duration\"]\n" +
                  bound_columns,
              "an import sees none");
  refuse_spec(std::string(session_rules) + "[[features]]\ncolumns = [\"reason_end\"]\n" + bound_columns,
              "leak");
  refuse_spec(std::string(session_rules) + "[examples]\nhorizon = 3\n" + session_features + bound_columns,
              "horizon");
}

// A model that its author trained on the full real data, bound to a session's features, gets its author's
// figures on real sessions.
TEST(RealImport, AModelOfOthersRunsAsASkipPredictor) {
  const std::filesystem::path data = real_data();
  if (data.empty()) GTEST_SKIP() << "TONEARM_DATA is not set";
  const std::filesystem::path model = data / "models" / "apoor_lgbm_0.73TestAcc.lightgbm.txt";
  const std::filesystem::path log = data / "mssd" / "log_mini_head201_with_track_features.csv";
  // The model's columns are facts of the track and, under `previous_`, of the one before it, -9999 where
  // there is none.
  std::istringstream lines(text_of(model));
  std::string line, facts, lags = "\"skipped\"", columns;
  while (std::getline(lines, line) && !line.starts_with("feature_names=")) {
  }
  std::istringstream names(line.substr(line.find('=') + 1));
  for (std::string name; names >> name;) {
    if (name == "session_position" || name == "previous_session_position") continue;
    const bool before = name.starts_with("previous_");
    std::string fact = before ? name.substr(9) : name;
    if (fact == "us_popularity_estimate") fact = "popularity";
    if (before) columns += name + " = \"lag 1 of " + fact + "\"\n";
    if (!before && fact != name) columns += name + " = \"" + fact + "\"\n";
    if (!before) facts += (facts.empty() ? "\"" : ", \"") + fact + "\"", lags += ", \"" + fact + "\"";
  }
  const Folder folder;
  write_file(
      folder / "spec.toml",
      std::string(session_rules) + "[[features]]\nencode = \"fact\"\nfacts = [\"position\"]\n" +
          "[[features]]\ncolumns = [" + facts + "]\n[[features]]\nencode = \"lag\"\ncolumns = [" + lags +
          "]\nempty = -9999\n[[features]]\nname = \"here\"\nencode = \"fact\"\nfacts = [\"position\"]\n" +
          "[[features]]\nname = \"position before\"\nencode = \"scale\"\ninput = \"here\"\n" +
          "method = \"fixed\"\ncenter = 1\nfactor = 1\n[columns]\nsession_position = \"position\"\n" +
          "previous_session_position = \"position before\"\n" + columns);
  const std::string blob = folder / "x.tarm";
  run_well({"import", model, "--columns", folder / "spec.toml", "--out", blob});

  // What the independent evaluator found, row by row: those with a row before them.
  std::ifstream golden(data / "models" / "golden" / "apoor_lgbm_head201.csv");
  std::vector<double> expected;
  std::getline(golden, line);
  while (std::getline(golden, line)) {
    const std::size_t last = line.rfind(','), before = line.rfind(',', last - 1);
    expected.push_back(std::stod(line.substr(before + 1, last - before - 1)));
  }
  std::istringstream answers(run_well({"predict", blob, "--rows", log}).out);
  std::vector<double> found;
  std::getline(answers, line);
  while (std::getline(answers, line)) {
    if (line.find(",upcoming,") == line.npos || line.find(",1,upcoming,") != line.npos) continue;
    found.push_back(std::stod(line.substr(line.rfind(',') + 1)));
  }
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << "row " << i;
}

}  // namespace
}  // namespace tonearm
