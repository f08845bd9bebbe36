// Recurrent networks over listening sessions from the command line: every kind of branch is trained, shipped
// and measured, twice the same; and what cannot be made is refused.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>
#include <tonearm_schema/model_generated.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "command.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// 160 generated sessions; the same for all tests.
fs::path data() {
  static const Folder folder;
  static const bool made =
      run_well({"synth", "sessions", "--count", "160", "--seed", "2", "--out", folder.path()}).status == 0;
  EXPECT_TRUE(made);
  return folder.path();
}

const std::string head = R"(
extends = "mssd.toml"
name = "own"

[validation]
held_out = 0.2

[examples]
horizons = 2
)";

const std::string train_network = R"(
[train]
trainer = "recurrent"
units = 6
hidden = [5]
epochs = 3
patience = 2
batch = 16
rate = 0.01
tasks = ["skip_1", "reason_end=trackdone"]
)";

/// What the head reads of the row.
const std::string row = R"(
[missing]
is_shuffle = 0

[[features]]
encode = "fact"
facts = ["horizon", "playing"]

[[features]]
columns = ["is_shuffle"]

[[features]]
name = "started"
encode = "one-hot"
columns = ["reason_start"]
unknown = true

[[features]]
name = "here"
encode = "identity"
input = "started"
)";

/// How a track has ended.
const std::string told = R"(
[[features]]
name = "levels"
columns = ["skip_1", "skipped", "skip_3", "not_skipped"]

[[features]]
name = "ended"
encode = "one-hot"
columns = ["reason_end"]
)";

const std::string streamed = told + R"(
[[features]]
name = "session"
encode = "recurrent"
inputs = ["levels", "ended", "started"]
)";

const std::string ring = told + R"(
[[features]]
name = "session"
encode = "recurrent"
steps = 4
padding = 9
layers = [{ cell = "lstm", units = 4, direction = "both" }, { cell = "lstm", units = 3, direction = "both" }]
inputs = ["levels", "ended"]
)";

/// Needs with_duration.
const Arguments with_duration = {"--set", "missing.duration=200"};
const std::string joined = streamed + R"(
[[features]]
name = "window"
encode = "recurrent"
cell = "rnn"
steps = 3
inputs = ["ended"]

[[features]]
name = "cells"
encode = "recurrent"
source = "row"
steps = 3
cell = "gru_reset_before"
direction = "both"
columns = ["acoustic_vector_0", "acoustic_vector_1", "acoustic_vector_2", "acoustic_vector_3",
           "acoustic_vector_4", "acoustic_vector_5"]

[[features]]
name = "long"
encode = "scale"
columns = ["duration"]

[[features]]
name = "track"
encode = "dense"
hidden = [4, 3]
inputs = ["long"]
)";

const std::string trees = R"(
[train]
trainer = "boosted"
growth = "symmetric"
trees = 20
depth = 3
costly_share = 0.5

[encoder]
units = 6
hidden = [5]
epochs = 2
batch = 16
rate = 0.01
)";

std::string written(const Folder& folder, const std::string& text) {
  if (!fs::exists(folder / "mssd.toml")) fs::copy(recipe("mssd"), folder / "mssd.toml");
  write_file(folder / "own.toml", text);
  return folder / "own.toml";
}

Arguments train(const std::string& recipe_file, const fs::path& out) {
  return {"train", recipe_file, "--data", data(), "--out", out};
}

schema::ModelT read_blob(const fs::path& file) {
  const std::vector<unsigned char> bytes = read_file(file);
  schema::ModelT model;
  schema::GetModel(bytes.data())->UnPackTo(&model);
  return model;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

void expect_refused(const std::string& text, const std::vector<std::string>& parts,
                    const Arguments& more = {}) {
  const Folder folder;
  const std::string file = written(folder, text);
  const Result result = run(train(file, folder / "x.tarm") + more);
  EXPECT_EQ(result.status, 1) << result.out << result.error;
  EXPECT_TRUE(result.error.starts_with("tonearm: ")) << result.error;
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  for (const std::string& part : parts)
    EXPECT_NE(result.error.find(part), std::string::npos) << part << "\n" << result.error;
  EXPECT_FALSE(fs::exists(folder / "x.tarm"));
}

// ------------------------------------------------------------------------------- what is trained ships

struct Kind {
  const char* name;
  std::string text;
  Arguments more;
  double tolerance;
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class RecurrentRecipeTest : public ::testing::TestWithParam<Kind> {};

TEST_P(RecurrentRecipeTest, TrainsABlobThatIsWhatWasTrainedAndMeasuresTheSame) {
  const Folder folder;
  const std::string file = written(folder, GetParam().text);
  const fs::path blob = folder / "x.tarm";
  const json trained = run_well(train(file, blob) + GetParam().more + Arguments{"--json", "-"}).json();
  EXPECT_LE(trained["largest_change"], GetParam().tolerance);
  EXPECT_LE(trained["mean_change"], trained["largest_change"]);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"mssd.toml", "own.toml", "x.tarm"}));
  const json evaluated = run_well({"evaluate", blob, "--data", data(), "--json", "-"}).json();
  EXPECT_TRUE(evaluated["same_data"]);
  EXPECT_EQ(trained["held_out"]["questions"], evaluated["questions"]);
  EXPECT_NE(run_well({"verify", blob}).out.find("golden rows agree"), std::string::npos);
  EXPECT_NE(run_well({"inspect", blob}).out.find("Recurrent"), std::string::npos);
  const std::string predicted = run_well({"predict", blob, "--rows", data()}).out;
  EXPECT_GT(std::count(predicted.begin(), predicted.end(), '\n'), 160 * 10);
  EXPECT_EQ(predicted.find("nan"), std::string::npos);
}

const Arguments int8 = {"--set", "blob.weights=int8"};

INSTANTIATE_TEST_SUITE_P(
    Kinds, RecurrentRecipeTest,
    ::testing::Values(Kind{"streamed", head + train_network + row + streamed, {}, 1e-5},
                      Kind{"ring", head + train_network + row + ring, {}, 1e-5},
                      Kind{"joined", head + train_network + row + joined, with_duration, 1e-5},
                      Kind{"float16", head + train_network + row + joined,
                           with_duration + Arguments{"--set", "blob.weights=float16"}, 0.01},
                      Kind{"int8", head + train_network + row + streamed, int8, 0.05},
                      Kind{"int8_ring", head + train_network + row + ring, int8, 0.1},
                      Kind{"int8_trained_for", head + train_network + row + streamed,
                           int8 + Arguments{"--set", "blob.quantize_epochs=1"}, 0.05},
                      Kind{"trees", head + trees + row + streamed, {}, 1e-5},
                      Kind{"trees_int8", head + trees + row + streamed, int8, 1e-5}),
    [](const auto& test) { return test.param.name; });

TEST(RecurrentRecipes, ShipTheBranchesThatTheyName) {
  const Folder folder;
  const fs::path blob = folder / "x.tarm";
  run_well(train(written(folder, head + train_network + row + joined), blob) + with_duration);
  std::vector<std::pair<schema::Sequence, unsigned>> found;  // and steps
  for (const auto& op : read_blob(blob).operators)
    if (const auto* recurrent = op->kind.AsRecurrent())
      found.emplace_back(recurrent->sequence, recurrent->steps);
  const std::vector<std::pair<schema::Sequence, unsigned>> expected = {
      {schema::Sequence::Session, 0}, {schema::Sequence::Session, 3}, {schema::Sequence::Row, 3}};
  EXPECT_EQ(found, expected);
}

TEST(RecurrentRecipes, QuantizedOnesSayWhatTheyLost) {
  const Folder folder;
  const std::string file = written(folder, head + train_network + row + streamed);
  const json found = run_well(train(file, folder / "x.tarm") + int8 + Arguments{"--json", "-"}).json();
  EXPECT_LT(found["blob_bytes"], found["float_bytes"]);
  ASSERT_FALSE(found["changes"].empty());
  double largest = 0;
  for (const json& change : found["changes"]) largest = std::max(largest, change["largest"].get<double>());
  EXPECT_EQ(largest, found["largest_change"].get<double>());
  EXPECT_TRUE(found["trained"].contains("log_loss"));
}

TEST(RecurrentRecipes, ThatLookAtOneColumnOnlySeeWhatHasEnded) {
  // With a leak the answer itself is in the row; without, it is refused.
  const std::string leaking = head + train_network + row + streamed +
                              "[[features]]\nencode = 'dense'\nhidden = [3]\ncolumns = ['skipped']\n";
  expect_refused(leaking, {"own.toml:", "features.columns", "'skipped'", "is a leak"});
}

// ------------------------------------------------------------------------------------ the same again

TEST(RecurrentSameBytes, ForAnyNumberOfThreadsAndAfterAnInterrupt) {
  const Folder folder;
  const std::string file = written(folder, head + train_network + row + streamed);
  const fs::path blob = folder / "x.tarm", checkpoint = folder / "x.tarm.checkpoint";
  const Arguments arguments =
      train(file, blob) +
      Arguments{"--set", "train.epochs=120", "--set", "train.patience=0", "--set", "train.units=24"};
  run_well(arguments + Arguments{"--threads", "1"});
  const std::string bytes = text_of(blob);
  run_well(arguments + Arguments{"--threads", "2"});
  EXPECT_TRUE(text_of(blob) == bytes);
  run_well(arguments + Arguments{"--seed", "2"});
  EXPECT_FALSE(text_of(blob) == bytes);

  bool resumed = false;
  for (double seconds = 0.05; !resumed; seconds *= 1.2) {
    ASSERT_LT(seconds, 60);
    fs::remove(blob);
    Process process(arguments + Arguments{"--threads", "1"});
    process.let_work(seconds);
    process.interrupt();
    const Result result = process.wait();
    if (result.status == 0) {  // too late: begin anew, the machine is busy in another way
      seconds = 0.05;
      continue;
    }
    EXPECT_EQ(result.status, 130) << result.error;
    EXPECT_FALSE(fs::exists(blob));
    if (!fs::exists(checkpoint)) continue;  // before training
    run_well(arguments + Arguments{"--resume"});
    EXPECT_TRUE(text_of(blob) == bytes);
    EXPECT_FALSE(fs::exists(checkpoint));
    resumed = true;
  }
}

// ---------------------------------------------------------------------------------------------- compare

TEST(RecurrentCompare, PrintsWhatOneSystemHasOverTheFirstOnTheSameSessions) {
  const Folder folder;
  const std::string network = written(folder, head + train_network + row + streamed);
  std::string text = text_of(network);
  text.replace(text.find("\"own\""), 5, "\"other\"");
  write_file(folder / "other.toml", text);
  const Result result = run_well({"compare", network, folder / "other.toml", "--data", data(), "--seeds", "1",
                                  "--paired", "--json", folder / "x.json"});
  EXPECT_NE(result.out.find("paired bootstrap over sessions"), std::string::npos);
  unsigned pairs = 0;
  for (const json& entry : json::parse(text_of(folder / "x.json"))) {
    if (!entry.contains("paired")) continue;
    ++pairs;  // of the same network: nothing between them
    for (const char* figure : {"log_loss", "auc", "accuracy"}) {
      EXPECT_EQ(entry[figure]["difference"], 0);
      EXPECT_EQ(entry[figure]["interval"], json({0, 0}));
    }
  }
  EXPECT_EQ(pairs, 3u) << "started, upcoming, and the queue at horizon 2";
}

// --------------------------------------------------------------------------------------------- refused

TEST(RecurrentRefusals, SaySoWithFileLineAndKey) {
  const std::string good = head + train_network + row, whole = good + streamed;
  // Where a branch cannot be made.
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\ninputs = []\n",
                 {"own.toml:", "features.inputs", "must name what the branch reads"});
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\ndirection = 'both'\ninputs = ['levels']\n",
                 {"features.steps", "how many of the latest tracks"});
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\npadding = 9\ninputs = ['levels']\n",
                 {"features.steps", "padded"});
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\nsource = 'row'\nsteps = 3\ninput = 'here'\n",
                 {"own.toml:", "features.steps", "does not divide the 16 numbers"});
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\nsource = 'row'\ninput = 'here'\n",
                 {"features.steps", "is missing"});
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\ncell = 'lstn'\ninput = 'levels'\n",
                 {"own.toml:", "features.cell", "'lstn'", "gru, gru_reset_before"});
  expect_refused(whole + "[[features]]\nencode = 'recurrent'\nunit = 3\ninput = 'levels'\n",
                 {"own.toml:", "features.unit ", "did you mean 'units'"});
  expect_refused(whole + "[[features]]\nencode = 'dense'\ninput = 'here'\n",
                 {"features.hidden", "at least one layer"});
  expect_refused(whole + "[[features]]\nencode = 'lag'\ninput = 's'\n" +
                     "[[features]]\nname = 's'\nencode = 'recurrent'\ninput = 'levels'\n",
                 {"features.encode", "a part of the network"});
  expect_refused(whole + "[[features]]\ncolumns = ['tempo']\n", {"'tempo'", "may be missing", "[missing]"});
  expect_refused(good, {"features", "have no branch"});
  expect_refused(head + train_network + "[[features]]\nencode = 'recurrent'\ncolumns = ['skipped']\n",
                 {"features", "nothing of the predicted track"});
  // Where the trainer cannot take it.
  expect_refused(whole, {"train.tasks", "'skip_4'", "skip_1, skip_2"}, {"--set", "train.tasks=['skip_4']"});
  expect_refused(whole, {"train.task_weights", "each of the 2 tasks"}, {"--set", "train.task_weights=[1]"});
  expect_refused(whole, {"train.patience", "[validation] held_out"}, {"--set", "validation.held_out=0"});
  expect_refused(whole, {"calibration.method", "recurrent"}, {"--set", "calibration.method=platt"});
  expect_refused(whole, {"blob.quantize_epochs", "int8"}, {"--set", "blob.quantize_epochs=2"});
  expect_refused(
      whole, {"train.memory_mb"},
      {"--set", "train.memory_mb=16", "--set", "missing.skipped=0", "--set", "examples.horizons=20", "--set",
       "features=[{columns=['is_shuffle']},{name='a',encode='lag',columns=['skipped'],count=900,"
       "empty=0},{encode='recurrent',columns=['skipped']}]"});
  expect_refused(whole, {"conversion changes", "blob.tolerance"},
                 int8 + Arguments{"--set", "blob.tolerance=1e-9"});
  // Where trees meet branches.
  const std::string boosted = "\n[train]\ntrainer = 'boosted'\ntrees = 5\n";
  expect_refused(head + boosted + row + streamed, {"the branch 'session'", "[encoder]"});
  expect_refused(head + trees + row + joined, {"does not read the session"}, with_duration);
  expect_refused(head + trees + row, {"encoder", "encode = \"recurrent\""});
  expect_refused(head + trees + row + streamed, {"cross_validation.folds", "[encoder]"},
                 {"--set", "cross_validation.folds=3"});
}

TEST(RecurrentRefusals, ALossThatExplodesIsSaidWithItsEpoch) {
  expect_refused(head + train_network + "[[features]]\nencode = 'recurrent'\ncolumns = ['skipped']\n",
                 {"features", "nothing of the predicted track"});
}

}  // namespace
}  // namespace tonearm
