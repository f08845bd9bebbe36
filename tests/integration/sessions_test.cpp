// Models of listening sessions from the command line, on small generated data: what they say, that they say
// the same again, and what goes wrong.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>
#include <tonearm_schema/model_generated.h>

#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "command.h"
#include "emit/emit.h"
#include "evaluate/metrics.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// ------------------------------------------------------------------------------------------- data

/// 300 generated sessions; the same for all tests.
fs::path data() {
  static const Folder folder;
  static const bool made =
      run_well({"synth", "sessions", "--count", "300", "--seed", "1", "--out", folder.path()}).status == 0;
  EXPECT_TRUE(made);
  return folder.path();
}
const char* const log_name = "log_synthetic_00000.csv";
const char* const tracks_name = "tf_synthetic_00000.csv";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  for (std::size_t at = 0; at <= line.size();) {
    const std::size_t end = std::min(line.find(',', at), line.size());
    cells.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return cells;
}

/// A folder with the tracks of data() and with a log whose lines `change` has rewritten.
fs::path changed_data(const Folder& folder, const std::string& name,
                      const std::function<void(std::vector<std::string>&)>& change) {
  fs::create_directory(folder / "data");
  fs::copy(data() / tracks_name, folder / "data");
  auto lines = lines_of(text_of(data() / log_name));
  change(lines);
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  write_file(folder / "data" / name, text);
  return folder / "data";
}

/// A streaming history of one listener: sessions of eight plays, one an hour; a track is skipped if the one
/// before it was not. Reasons are the caller's, if given.
std::string history(std::size_t sessions, const std::string& reason = "") {
  std::string text = "ts,ms_played,spotify_track_uri,reason_start,reason_end,shuffle\n";
  for (std::size_t s = 0; s < sessions; ++s)
    for (std::size_t i = 0; i < 8; ++i) {
      char time[32];
      std::snprintf(time, sizeof time, "2021-%02zu-%02zuT%02zu:%02zu:00Z", 1 + s / 24 / 28, 1 + s / 24 % 28,
                    s % 24, 3 + 3 * i);
      const std::string why = !reason.empty() ? reason : (i + s / 2) % 2 == 0 ? "fwdbtn" : "trackdone";
      text += std::string(time) + ",170000,spotify:track:" + std::string(20, 'a') +
              std::to_string(10 + (s * 7 + i) % 50) + ",trackdone," + why + ",False\n";
    }
  return text;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

// ---------------------------------------------------------------------------------------- commands

const Arguments quick = {"--set", "train.trees=20"};

Arguments train(const std::string& recipe_file, const fs::path& out, const fs::path& folder = data()) {
  return {"train", recipe_file, "--data", folder, "--out", out};
}

schema::ModelT read_blob(const fs::path& file) {
  const std::vector<unsigned char> bytes = read_file(file);
  schema::ModelT model;
  schema::GetModel(bytes.data())->UnPackTo(&model);
  return model;
}

/// A refusal: exit status 1, nothing on stdout, and one line that says what and where.
void expect_refused(const Result& result, const std::vector<std::string>& parts, int status = 1) {
  EXPECT_EQ(result.status, status) << result.out << result.error;
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(result.error.starts_with("tonearm: ")) << result.error;
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  EXPECT_TRUE(result.error.ends_with("\n"));
  for (const std::string& part : parts) EXPECT_TRUE(contains(result.error, part));
}

/// What must be refused and leave nothing behind in the folder.
void expect_nothing_made(const Folder& folder, const Arguments& arguments,
                         const std::vector<std::string>& parts) {
  const auto before = names_in(folder.path());
  expect_refused(run(arguments), parts);
  EXPECT_EQ(names_in(folder.path()), before);
}

/// A recipe of the test's own, beside the one that it extends.
std::string own_recipe(const Folder& folder, const std::string& text, const std::string& base = "mssd") {
  if (!fs::exists(folder / (base + ".toml"))) fs::copy(recipe(base), folder / (base + ".toml"));
  write_file(folder / "own.toml", "extends = \"" + base + ".toml\"\nname = \"own\"\n" + text);
  return folder / "own.toml";
}

/// Features of which none is ever missing, for trainers that need numbers.
const std::string never_missing =
    "[[features]]\nencode = 'fact'\nfacts = ['horizon', 'position']\n"
    "[[features]]\nencode = 'mean'\ncolumns = ['skipped', 'not_skipped']\nkeep = 0.7\nprior = "
    "0.5\nprior_weight = 1\n"
    "[[features]]\nencode = 'lag'\ncolumns = ['skipped']\ncount = 3\nempty = 0.5\n"
    "[[features]]\ncolumns = ['hour_of_day', 'is_shuffle', 'duration']\n"
    "[[features]]\nencode = 'one-hot'\ncolumns = ['reason_start']\nunknown = true\n";

/// Features that are many: the last `count` values of thirty columns.
std::string wide(unsigned count) {
  return "[[features]]\nencode = 'fact'\nfacts = ['horizon', 'position']\n"
         "[[features]]\nencode = 'mean'\ncolumns = ['skipped']\n"
         "[[features]]\nencode = 'ordinal'\ncolumns = ['reason_start']\n"
         "[[features]]\nencode = 'lag'\ncount = " +
         std::to_string(count) +
         "\ncolumns = ['skipped', 'skip_1', 'skip_3', 'not_skipped', 'n_seekfwd', 'n_seekback', 'completed',"
         " 'energy', 'valence', 'tempo', 'duration', 'popularity', 'loudness', 'key', 'mode', 'release_year',"
         " 'liveness', 'flatness', 'speechiness', 'organism', 'mechanism', 'bounciness', 'danceability',"
         " 'hour_of_day', 'is_shuffle', 'premium', 'context_switch', 'acousticness', 'beat_strength',"
         " 'time_signature']\n";
}
const std::string wide_train =
    "[train]\ntrainer = 'boosted'\ngrowth = 'symmetric'\ndepth = 3\nbins = 32\nfeature_share = 0.2\n";

// ---------------------------------------------------------------------------------------- recipes

struct Case {
  std::string recipe, variant;
  bool leaky;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.recipe << " " << c.variant; }

class SessionRecipeTest : public ::testing::TestWithParam<Case> {};

TEST_P(SessionRecipeTest, TrainsABlobThatIsSoundAndMeasuresTheSame) {
  const auto& [name, variant, leaky] = GetParam();
  const Folder folder;
  const fs::path blob = folder / "x.tarm";
  Arguments arguments = train(recipe(name), blob) + quick + Arguments{"--json", folder / "x.json"};
  if (!variant.empty()) arguments = arguments + Arguments{"--variant", variant};
  const std::string said = run_well(arguments).out;
  const json trained = json::parse(text_of(folder / "x.json"));
  EXPECT_TRUE(contains(said, "SYNTHETIC"));
  EXPECT_EQ(trained["leaky"], leaky);
  EXPECT_EQ(trained["blob_bytes"].get<std::size_t>(), fs::file_size(blob));
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"x.tarm", "x.json"}));

  EXPECT_TRUE(contains(run_well({"verify", blob}).out, "golden rows agree"));
  const json evaluated = run_well({"evaluate", blob, "--data", data(), "--json", "-"}).json();
  EXPECT_EQ(evaluated["same_data"], true);
  EXPECT_EQ(evaluated["in_sample"], false);
  EXPECT_EQ(evaluated["synthetic"], true);
  for (const char* key : {"sessions", "plays", "digest", "questions"})
    EXPECT_EQ(evaluated[key], trained["held_out"][key]) << key;
  EXPECT_EQ(evaluated.contains("challenge"), trained["held_out"].contains("challenge"));
  if (evaluated.contains("challenge")) {
    EXPECT_EQ(evaluated["challenge"], trained["held_out"]["challenge"]);
  }
  const json& first = evaluated["questions"][0];
  EXPECT_GT(first["rows"].get<std::size_t>(), 100u);

  const std::string inspected = run_well({"inspect", blob}).out;
  const std::string evaluation = run_well({"evaluate", blob, "--data", data()}).out;
  EXPECT_TRUE(contains(inspected, "SYNTHETIC"));
  for (const std::string* text : {&said, &inspected, &evaluation})
    EXPECT_EQ(text->find("LEAKY") != text->npos, leaky) << *text;
}

INSTANTIATE_TEST_SUITE_P(All, SessionRecipeTest,
                         ::testing::Values(Case{"skip", "", false}, Case{"skip-form", "", true},
                                           Case{"skip-form", "honest", false},
                                           Case{"skip-form", "skip_2", true},
                                           Case{"skip-pca-honest", "", false}),
                         [](const auto& parameter) {
                           std::string name = parameter.param.recipe + "_" + parameter.param.variant;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Leaks, AreRefusedWithFileLineColumnAndRuleBeforeAnythingIsRead) {
  const Folder folder;
  for (const char* name : {"skip_2", "n_seekfwd", "completed"}) {
    const std::string file =
        own_recipe(folder, "[train]\ntrainer = 'boosted'\n[[features]]\ncolumns = ['energy', '" +
                               std::string(name) + "']\n");
    expect_nothing_made(folder, train(file, folder / "x.tarm"),
                        {"own.toml:6:", "'" + std::string(name) + "', which is a leak",
                         "known only after that track has ended", "allow_leakage = true"});
    expect_nothing_made(folder, {"features", file, "--data", data(), "--out", folder / "x.csv"},
                        {"own.toml:6:", "leak"});
    run_well(train(file, folder / "x.tarm") + quick + Arguments{"--set", "allow_leakage=true"});
    EXPECT_TRUE(read_blob(folder / "x.tarm").card->leaky);
    EXPECT_TRUE(contains(run_well({"inspect", folder / "x.tarm"}).out, "LEAKY"));
    fs::remove(folder / "x.tarm");
  }
  const std::string file = own_recipe(
      folder, "[train]\ntrainer = 'boosted'\n[[features]]\nencode = 'lag'\ncolumns = ['session_length']\n");
  expect_nothing_made(folder, train(file, folder / "x.tarm"),
                      {"own.toml:7:", "'session_length'", "a player never knows it"});
}

TEST(Recipes, SlipsAreFoundBeforeTraining) {
  const Folder folder;
  const std::pair<Arguments, const char*> slips[] = {
      {{"--set", "train.tres=3"}, "did you mean 'trees'?"},
      {{"--set", "data.adapter=msd"}, "it must be one of: mssd, history"},
      {{"--set", "examples.horizons=0"}, "from 1 to 20"},
      {{"--set", "examples.moments=['playing']"}, "there are upcoming and started"},
      {{"--set", "examples.moments=[]", "--set", "examples.horizons=1"}, "leaves no question to ask"},
      {{"--set", "examples.thn=true"}, "did you mean 'thin'?"},
      {{"--set", "train.memory_mb=3"}, "memory_mb"},
      {{"--set", "session.cap=-3"}, "session.cap"},
      {{"--set", "splits.sessions.rule=time"}, "the data do not say when every track started"},
      {{"--split", "tomorrow"}, "split"},
      {{"--set", "cross_validation.folds=3", "--set", "calibration.method=platt", "--set",
        "calibration.on=folds"},
       "must be \"validation\" for sessions"},
      {{"--set", "calibration.method=platt"}, "[validation] held_out must be above 0"},
  };
  for (const auto& [settings, said] : slips)
    expect_nothing_made(folder, train(recipe("skip"), folder / "x.tarm") + settings, {said});
}

// ------------------------------------------------------------------------------------------ splits

TEST(Splits, AreTheSameSessionsHoweverTheShardsLie) {
  const Folder folder;
  const std::string whole = text_of(data() / log_name);
  const auto lines = lines_of(whole);
  // The same sessions in three files, the last ones first.
  fs::create_directory(folder / "parts");
  fs::copy(data() / tracks_name, folder / "parts");
  std::map<std::string, std::string> files;
  std::set<std::string> seen;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    seen.insert(cells_of(lines[i])[0]);
    std::string& file = files[seen.size() <= 100   ? "log_synthetic_c.csv"
                              : seen.size() <= 210 ? "log_synthetic_b.csv"
                                                   : "log_synthetic_a.csv"];
    if (file.empty()) file = lines[0] + "\n";
    file += lines[i] + "\n";
  }
  for (const auto& [name, text] : files) write_file(folder / "parts" / name, text);

  const fs::path blob = folder / "x.tarm";
  run_well(train(recipe("skip"), blob) + quick);
  const json one = run_well({"evaluate", blob, "--data", data(), "--json", "-"}).json();
  for (const char* threads : {"1", "2", "3"}) {
    const json parts =
        run_well({"evaluate", blob, "--data", folder / "parts", "--threads", threads, "--json", "-"}).json();
    EXPECT_EQ(parts["digest"], one["digest"]);
    EXPECT_EQ(parts["same_data"], true);
    for (std::size_t i = 0; i < one["questions"].size(); ++i) {
      for (const char* key : {"rows", "accuracy", "auc"})
        EXPECT_EQ(parts["questions"][i][key], one["questions"][i][key]) << key;
      EXPECT_NEAR(parts["questions"][i]["log_loss"].get<double>(),
                  one["questions"][i]["log_loss"].get<double>(), 1e-9);
    }
  }
}

TEST(Splits, ByDateHoldOutWholeSessionsFromThatDayOn) {
  const Folder folder;
  std::map<std::string, std::string> date_of;
  for (const std::string& line : lines_of(text_of(data() / log_name)))
    if (const auto cells = cells_of(line); cells[0] != "session_id") date_of.emplace(cells[0], cells[16]);
  std::vector<std::string> dates;
  for (const auto& [id, date] : date_of) dates.push_back(date);
  std::sort(dates.begin(), dates.end());
  std::string from = dates[dates.size() * 3 / 4];
  const auto held_out =
      std::count_if(dates.begin(), dates.end(), [&](const std::string& date) { return date >= from; });
  std::erase(from, '-');
  const Arguments split = {"--split", "date", "--set", "splits.date.from=" + from};
  const json trained =
      run_well(train(recipe("skip"), folder / "x.tarm") + quick + split + Arguments{"--json", "-"}).json();
  EXPECT_EQ(trained["held_out"]["sessions"], held_out);
  const json evaluated = run_well({"evaluate", folder / "x.tarm", "--data", data(), "--json", "-"}).json();
  EXPECT_EQ(evaluated["questions"], trained["held_out"]["questions"]);
}

TEST(Splits, ByTimeHoldOutTheSessionsAtTheEndOfAHistory) {
  const Folder folder;
  fs::create_directory(folder / "data");
  write_file(folder / "data" / "history.csv", history(300));
  const Arguments options = quick + Arguments{"--set", "data.files='*.csv'", "--json", "-"};
  const json trained =
      run_well(train(recipe("skip-history"), folder / "x.tarm", folder / "data") + options).json();
  EXPECT_EQ(trained["held_out"]["sessions"], 90);
  EXPECT_EQ(trained["held_out"]["plays"], 720);
  EXPECT_EQ(trained["synthetic"], false);
  EXPECT_GT(trained["held_out"]["questions"][0]["rows"].get<int>(), 0);
  const json evaluated =
      run_well({"evaluate", folder / "x.tarm", "--data", folder / "data", "--json", "-"}).json();
  EXPECT_EQ(evaluated["same_data"], true);
  EXPECT_EQ(evaluated["questions"], trained["held_out"]["questions"]);
}

TEST(Evaluate, KnowsHowLongTracksAreWhereOnlyTheLabelRuleAsks) {
  const Folder folder;
  fs::create_directory(folder / "data");
  write_file(folder / "data" / "history.csv", history(100));
  std::string tracks = "uri,duration_ms\n";
  for (int i = 10; i < 60; ++i)
    tracks += "spotify:track:" + std::string(20, 'a') + std::to_string(i) +
              (i % 2 == 0 ? ",400000\n" : ",180000\n");
  write_file(folder / "data" / "tracks.csv", tracks);
  const json trained =
      run_well(train(recipe("skip-history"), folder / "x.tarm", folder / "data") + quick +
               Arguments{"--set", "data.files='history.csv'", "--set", "data.tracks='tracks.csv'", "--set",
                         "skip.reasons=[]", "--set", "skip.below_share=0.5", "--json", "-"})
          .json();
  EXPECT_EQ(trained["held_out"]["questions"][0]["base_rate"], 0.5) << "170 of 400 seconds, 170 of 180";
  const json evaluated =
      run_well({"evaluate", folder / "x.tarm", "--data", folder / "data", "--json", "-"}).json();
  EXPECT_EQ(evaluated["questions"], trained["held_out"]["questions"]);
  EXPECT_EQ(lines_of(run_well({"predict", folder / "x.tarm", "--rows", folder / "data"}).out).size(),
            1 + 100 * (8 + 8 + 7 + 6 + 5 + 4));
}

TEST(Evaluate, SaysWhatOtherDataAre) {
  const Folder folder;
  const fs::path blob = folder / "x.tarm";
  run_well(train(recipe("skip"), blob) + quick);
  run_well({"synth", "sessions", "--count", "100", "--seed", "2", "--out", folder / "other"});
  const std::string other = run_well({"evaluate", blob, "--data", folder / "other"}).out;
  EXPECT_TRUE(contains(other, "these are not the data that the card names"));
  EXPECT_TRUE(contains(other, "some may have been trained on"));
  const std::string all = run_well({"evaluate", blob, "--data", data(), "--all-rows"}).out;
  EXPECT_TRUE(contains(all, "300 sessions, IN-SAMPLE"));

  // Nothing in these says that they were generated: then a model of generated sessions has seen none.
  const fs::path real = changed_data(folder, "log_0.csv", [](auto&) {});
  fs::rename(real / tracks_name, real / "tf_0.csv");
  const std::string foreign = run_well({"evaluate", blob, "--data", real}).out;
  EXPECT_TRUE(contains(foreign, "real data; the model was trained on SYNTHETIC data only"));
  EXPECT_TRUE(contains(foreign, "  300 sessions, "));
  EXPECT_EQ(foreign.find("IN-SAMPLE"), foreign.npos);
  EXPECT_EQ(foreign.find("not the data"), foreign.npos);
  const json figures = run_well({"evaluate", blob, "--data", real, "--json", "-"}).json();
  EXPECT_EQ(figures["sessions"], 300);
  EXPECT_EQ(figures["synthetic"], false);
}

// --------------------------------------------------------------------------------- the same bytes

TEST(SameBytes, ForAnyNumberOfThreadsButNotForAnotherSeed) {
  const Folder folder;
  const auto bytes = [&](const char* seed, const char* threads) {
    run_well(train(recipe("skip"), folder / "x.tarm") + quick +
             Arguments{"--seed", seed, "--threads", threads});
    return text_of(folder / "x.tarm");
  };
  const std::string one = bytes("1", "1");
  EXPECT_EQ(one, bytes("1", "2"));
  EXPECT_EQ(one, bytes("1", "3"));
  EXPECT_NE(one, bytes("2", "1"));
}

TEST(SameBytes, WhetherRowsAreKeptInMemoryOrReplayedAndRead) {
  const Folder folder;
  const std::string file = own_recipe(folder, wide(19) + wide_train);
  const auto model = [&](const char* memory, const char* threads) {
    const json trained = run_well(train(file, folder / "x.tarm") + quick +
                                  Arguments{"--set", std::string("train.memory_mb=") + memory, "--set",
                                            "validation.held_out=0.2", "--set", "calibration.method=platt",
                                            "--threads", threads, "--json", "-"})
                             .json();
    // Beyond half of 16 MB even at a byte for each value, so that this test is about what it says.
    EXPECT_GT(trained["training_examples"].get<double>() * trained["features"].get<double>(), 8e6);
    schema::ModelT made = read_blob(folder / "x.tarm");
    made.card->recipe.clear();  // where the limit stands
    return pack(made);
  };
  EXPECT_TRUE(model("4000", "2") == model("16", "3"));
}

TEST(Memory, TrainersThatKeepTheirRowsSaySoWhereTheyDoNotFit) {
  const Folder folder;
  const std::string file = own_recipe(
      folder, wide(19) + "[missing]\nskipped = 0\n[train]\ntrainer = 'logistic'\nmemory_mb = 16\n");
  expect_nothing_made(folder, train(file, folder / "x.tarm"),
                      {"'logistic'", "train.memory_mb", "train boosted trees"});
}

// ------------------------------------------------------------------------------------- interrupts

TEST(Interrupt, DuringReplayAndDuringTrainingResumesToTheSameBytes) {
  const Folder folder;
  const std::string file = own_recipe(folder, wide(4) + wide_train);
  fs::create_directory(folder / "out");
  const fs::path blob = folder / "out/x.tarm", checkpoint = folder / "out/x.tarm.checkpoint";
  const Arguments arguments = train(file, blob) + Arguments{"--set", "train.trees=150", "--threads", "1"};
  run_well(arguments);
  const std::string uninterrupted = text_of(blob);
  fs::remove(blob);

  bool in_replay = false, in_training = false;
  for (double seconds = 0.1; !(in_replay && in_training); seconds *= 1.25) {
    ASSERT_LT(seconds, 60) << "replay " << in_replay << ", training " << in_training;
    Process process(arguments);
    process.let_work(seconds);
    process.interrupt();
    const Result result = process.wait();
    if (result.status == 0) {  // too late: begin anew, the machine is busy in another way
      fs::remove(blob);
      seconds = 0.1;
      continue;
    }
    expect_refused(result, {"interrupted"}, 130);
    EXPECT_FALSE(fs::exists(blob));
    bool& this_stage = fs::exists(checkpoint) ? in_training : in_replay;
    if (!this_stage) {
      this_stage = true;
      run_well(arguments + Arguments{"--resume"});
      EXPECT_TRUE(text_of(blob) == uninterrupted);
      EXPECT_EQ(names_in(folder / "out"), std::set<std::string>{"x.tarm"});
      fs::remove(blob);
    }
    fs::remove(checkpoint);
  }
}

// ----------------------------------------------------------------------------------------- golden

TEST(Golden, EventsAreReplayedAndAWrongOutputIsFound) {
  const Folder folder;
  const fs::path blob = folder / "x.tarm";
  run_well(train(recipe("skip"), blob) + quick);
  EXPECT_TRUE(contains(run_well({"verify", blob}).out, "golden rows agree (largest difference 0)"));
  const schema::ModelT good = read_blob(blob);
  ASSERT_NE(good.golden, nullptr);
  std::set<schema::GoldenEventKind> kinds;
  for (const auto& event : good.golden->events) kinds.insert(event->kind);
  EXPECT_EQ(kinds.size(), 3u) << "starts, ends and questions";
  for (const std::size_t output :
       {std::size_t{0}, good.golden->outputs.size() / 2, good.golden->outputs.size() - 1}) {
    schema::ModelT wrong = read_blob(blob);
    wrong.golden->outputs[output] += wrong.golden->outputs[output] < 0.5f ? 0.01f : -0.01f;
    write_file(folder / "wrong.tarm", pack(wrong));
    expect_refused(run({"verify", folder / "wrong.tarm"}), {"wrong.tarm", "an output differs by 0.01"});
  }
  schema::ModelT same = read_blob(blob);
  write_file(folder / "same.tarm", pack(same));
  run_well({"verify", folder / "same.tarm"});
}

// ---------------------------------------------------------------------------- features and predict

/// A CSV's rows by the names of its columns; quotes around names are dropped.
struct Csv {
  std::vector<std::string> names;
  std::vector<std::vector<std::string>> rows;

  explicit Csv(const std::string& text) {
    const auto lines = lines_of(text);
    for (std::string name : cells_of(lines.at(0))) {
      std::erase(name, '"');
      names.push_back(name);
    }
    for (std::size_t i = 1; i < lines.size(); ++i) {
      rows.push_back(cells_of(lines[i]));
      EXPECT_EQ(rows.back().size(), names.size()) << lines[i];
    }
  }
  std::size_t at(const std::string& name) const {
    return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  }
};

double number(const std::string& text) {
  double value = NAN;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

TEST(Features, AreWhatTrainingSawAndWhatTheBlobSees) {
  const Folder folder;
  // Logistic regression, so that the test can compute the probability from the features itself.
  const std::string file = own_recipe(folder, "[train]\ntrainer = 'logistic'\n" + never_missing);
  const fs::path blob = folder / "x.tarm";
  const json trained = run_well(train(file, blob) + Arguments{"--json", "-"}).json();
  run_well({"features", file, "--data", data(), "--out", folder / "x.csv"});
  const Csv features(text_of(folder / "x.csv"));
  const Csv predicted(run_well({"predict", blob, "--rows", data()}).out);

  const schema::ModelT model = read_blob(blob);
  const std::size_t first = 6, width = features.names.size() - first;
  EXPECT_EQ(trained["features"], width);
  std::vector<double> weights;
  double bias = 0;
  for (const auto& op : model.operators)
    if (const auto* affine = op->kind.AsAffine()) {
      ASSERT_TRUE(weights.empty()) << "one layer";
      weights.assign(affine->weights.begin(), affine->weights.end());
      bias = static_cast<double>(affine->bias[0]);
    }
  ASSERT_EQ(weights.size(), width);

  std::size_t training = 0;
  double positives = 0;
  ASSERT_EQ(features.rows.size(), predicted.rows.size()) << "one line for every question";
  for (std::size_t i = 0; i < features.rows.size(); ++i) {
    const auto& row = features.rows[i];
    const auto& answer = predicted.rows[i];
    for (const char* key : {"position", "moment", "horizon"})
      ASSERT_EQ(row[features.at(key)], answer[predicted.at(key)]);
    ASSERT_EQ(row[features.at("target")], answer[predicted.at("skipped")]);
    double score = bias;
    for (std::size_t f = 0; f < width; ++f) score += weights[f] * number(row[first + f]);
    ASSERT_NEAR(number(answer[predicted.at("probability")]), 1 / (1 + std::exp(-score)), 2e-6)
        << "line " << i + 2;
    if (row[0] != "train") continue;
    ++training;
    positives += number(row[features.at("target")]);
  }
  EXPECT_EQ(training, trained["training_examples"].get<std::size_t>());
  EXPECT_NEAR(positives / static_cast<double>(training), static_cast<double>(model.card->base_rate), 1e-6);
}

TEST(Features, OfTrainingRowsAreThinnedAsTheRecipeSays) {
  const Folder folder;
  const json trained =
      run_well(train(recipe("skip"), folder / "x.tarm") + quick + Arguments{"--json", "-"}).json();
  run_well({"features", recipe("skip"), "--data", data(), "--out", folder / "x.csv"});
  const Csv features(text_of(folder / "x.csv"));
  EXPECT_EQ(static_cast<std::size_t>(std::count_if(features.rows.begin(), features.rows.end(),
                                                   [](const auto& row) { return row[0] == "train"; })),
            trained["training_examples"].get<std::size_t>());
  std::size_t held_out = 0;
  for (const json& question : trained["held_out"]["questions"])
    if (question["system"] == "model" && question["after_first"] == false)
      held_out += question["rows"].get<std::size_t>();
  EXPECT_EQ(static_cast<std::size_t>(std::count_if(features.rows.begin(), features.rows.end(),
                                                   [](const auto& row) { return row[0] == "held_out"; })),
            held_out)
      << "held-out rows never are";
}

TEST(Features, AreFittedToTrainingSessionsOnly) {
  const Folder folder;
  const std::string file = own_recipe(
      folder,
      "[train]\ntrainer = 'boosted'\ntrees = 5\n"
      "[[features]]\nencode = 'scale'\ncolumns = ['hour_of_day']\n"
      "[[features]]\nname = 'minmax'\nencode = 'scale'\nmethod = 'min-max'\ncolumns = ['hour_of_day']\n"
      "[[features]]\nencode = 'pca'\ncolumns = ['hour_of_day', 'energy', 'is_shuffle']\ncount = 2\n"
      "[[features]]\nencode = 'lag'\ncolumns = ['skipped']\n");
  run_well(train(file, folder / "x.tarm"));
  // Which sessions are held out: the lines of both commands are in the order of the logs.
  run_well({"features", file, "--data", data(), "--out", folder / "x.csv"});
  const Csv features(text_of(folder / "x.csv"));
  const Csv predicted(run_well({"predict", folder / "x.tarm", "--rows", data()}).out);
  ASSERT_EQ(features.rows.size(), predicted.rows.size());
  std::map<std::size_t, bool> held_out;  // of each log
  for (std::size_t i = 0; i < features.rows.size(); ++i)
    held_out[static_cast<std::size_t>(number(predicted.rows[i][0]))] = features.rows[i][0] == "held_out";
  ASSERT_EQ(held_out.size(), 300u);

  const auto blob_of = [&](const char* name, bool change_held_out, bool change_training) {
    const Folder other;
    std::map<std::string, std::size_t> logs;
    const fs::path changed = changed_data(other, log_name, [&](auto& lines) {
      for (std::size_t i = 1; i < lines.size(); ++i) {
        auto cells = cells_of(lines[i]);
        const bool held = held_out.at(logs.emplace(cells[0], logs.size()).first->second);
        if (held ? change_held_out : change_training) cells[15] = "23";  // the hour
        lines[i].clear();
        for (const std::string& cell : cells) lines[i] += (lines[i].empty() ? "" : ",") + cell;
      }
    });
    run_well(train(file, folder / name, changed));
    schema::ModelT model = read_blob(folder / name);
    model.golden.reset();  // held-out sessions
    model.card->metrics.clear();
    model.card->conversion.reset();
    return pack(model);
  };
  const auto as_it_was = blob_of("a.tarm", false, false);
  EXPECT_TRUE(as_it_was == blob_of("b.tarm", true, false));
  EXPECT_FALSE(as_it_was == blob_of("c.tarm", false, true));
}

TEST(Predict, PrintsALineForEveryQuestionAndTheFiguresOfEvaluate) {
  const Folder folder;
  const fs::path blob = folder / "x.tarm";
  run_well(train(recipe("skip"), blob) + quick);
  const std::string text = run_well({"predict", blob, "--rows", data()}).out;
  run_well({"predict", blob, "--rows", data(), "--out", folder / "x.csv", "--threads", "3"});
  EXPECT_TRUE(text == text_of(folder / "x.csv"));
  const Csv predicted(text);
  const json evaluated = run_well({"evaluate", blob, "--data", data(), "--all-rows", "--json", "-"}).json();
  std::size_t questions = 0;
  for (const json& question : evaluated["questions"]) {
    if (question["system"] != "model" || question["after_first"] == true) continue;
    std::vector<double> probability;
    std::vector<float> target;
    for (const auto& row : predicted.rows)
      if (row[predicted.at("moment")] == question["moment"] &&
          number(row[predicted.at("horizon")]) == question["horizon"].get<double>()) {
        probability.push_back(number(row[predicted.at("probability")]));
        target.push_back(static_cast<float>(number(row[predicted.at("skipped")])));
      }
    questions += target.size();
    const Metrics metrics = measure(probability, target);
    EXPECT_EQ(metrics.rows, question["rows"].get<std::size_t>());
    EXPECT_NEAR(metrics.accuracy, question["accuracy"].get<double>(), 1e-9);
    EXPECT_NEAR(metrics.auc, question["auc"].get<double>(), 1e-4);
    EXPECT_NEAR(metrics.log_loss, question["log_loss"].get<double>(), 1e-6);
  }
  EXPECT_EQ(questions, predicted.rows.size());
}

TEST(Features, ReadATrackColumnThatOnlyWeighsAMean) {
  const Folder folder;
  const std::string file = own_recipe(folder,
                                      "[train]\ntrainer = 'logistic'\n[[features]]\nencode = 'mean'\n"
                                      "columns = ['skipped']\nweight = 'popularity'\nprior_weight = 0.001\n");
  run_well({"features", file, "--data", data(), "--out", folder / "x.csv"});
  const Csv features(text_of(folder / "x.csv"));
  std::set<std::string> values;
  for (const auto& row : features.rows) values.insert(row.back());
  EXPECT_GT(values.size(), 100u);
}

// ---------------------------------------------------------------------------------------- compare

TEST(Compare, PrintsARowForEachDataAndRefusesToMix) {
  const Folder folder;
  const fs::path real = changed_data(folder, "log_0.csv", [](auto&) {});
  fs::rename(real / tracks_name, real / "tf_0.csv");
  const std::string text = run_well({"compare", recipe("skip-form"), "--data", data(), "--beside", real,
                                     "--seeds", "1", "--set", "train.trees=3", "--json", folder / "x.json"})
                               .out;
  std::map<std::string, int> rows;
  for (const std::string& line : lines_of(text)) {
    if (line.find("13-field form") == line.npos) continue;
    ++rows[line.find("generated") != line.npos ? "generated"
           : line.find("real") != line.npos    ? "real"
                                               : "neither"];
    EXPECT_EQ(line.find("LEAKY") == line.npos, line.find("honest") != line.npos) << line;
  }
  EXPECT_EQ(rows, (std::map<std::string, int>{{"generated", 3}, {"real", 3}}));
  EXPECT_TRUE(contains(text, "base rate"));
  const json all = json::parse(text_of(folder / "x.json"));
  ASSERT_EQ(all.size(), 3u);
  for (const json& one : all) {
    EXPECT_EQ(one["synthetic"], true);
    EXPECT_EQ(one["beside"]["sessions"], 300);
    EXPECT_LT(one["held_out"]["sessions"], 300);
  }
  expect_refused(run({"compare", recipe("skip"), recipe("hit-svm"), "--data", data()}),
                 {"listening sessions", "tables", "compare them apart"});
}

// --------------------------------------------------------------------------------------- bad input

TEST(BadInput, IsRefusedWithASentenceAndLeavesNothing) {
  struct Bad {
    std::string name;
    std::function<fs::path(const Folder&)> make;
    std::vector<std::string> said;
    std::string recipe = "skip";
  };
  const auto with_history = [](const std::string& text) {
    return [text](const Folder& folder) {
      fs::create_directory(folder / "data");
      write_file(folder / "data" / "history.csv", text);
      return folder / "data";
    };
  };
  const std::vector<Bad> cases = {
      {"empty folder",
       [](const Folder& folder) {
         fs::create_directory(folder / "data");
         return folder / "data";
       },
       {"/data", "log_*.csv"}},
      {"no folder",
       [](const Folder& folder) { return folder / "data"; },
       {"there is no file or folder", "/data"}},
      {"a folder that cannot be read",
       [](const Folder& folder) {
         fs::create_directory_symlink("data", folder / "data");
         return folder / "data";
       },
       {"/data"}},
      {"a log that is a folder",
       [](const Folder& folder) {
         fs::create_directories(folder / "data/log_0.csv");
         return folder / "data";
       },
       {"log_"}},
      {"no tracks table",
       [](const Folder& folder) {
         fs::create_directory(folder / "data");
         fs::copy(data() / log_name, folder / "data");
         return folder / "data";
       },
       {"no track table tf_*.csv", "data.tracks"}},
      {"no rows",
       [](const Folder& folder) {
         return changed_data(folder, "log_0.csv", [](auto& lines) { lines.resize(1); });
       },
       {"no session is left to train on"}},
      {"nothing at all in the log",
       [](const Folder& folder) {
         return changed_data(folder, "log_0.csv", [](auto& lines) { lines.clear(); });
       },
       {"log_0.csv"}},
      {"one class only",
       [](const Folder& folder) {
         return changed_data(folder, "log_0.csv", [](auto& lines) {
           for (std::size_t i = 1; i < lines.size(); ++i) {
             auto cells = cells_of(lines[i]);
             cells[4] = cells[5] = cells[6] = "true";
             cells[7] = "false";
             lines[i].clear();
             for (const std::string& cell : cells) lines[i] += (lines[i].empty() ? "" : ",") + cell;
           }
         });
       },
       {"the label 1", "both classes are needed"}},
      {"outcomes that nobody knows",
       with_history(history(30, "unknown")),
       {"no outcome is known"},
       "skip-history"},
      {"a history without rows", with_history(history(0)), {"data"}, "skip-history"},
      {"a history whose outcomes are all alike",
       with_history(history(30, "trackdone")),
       {"the label 0", "both classes are needed"},
       "skip-history"},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.name);
    const Folder folder;
    const fs::path made = bad.make(folder);
    const Arguments files =
        bad.recipe == "skip-history" ? Arguments{"--set", "data.files='*.csv'"} : Arguments{};
    expect_nothing_made(folder, train(recipe(bad.recipe), folder / "x.tarm", made) + files, bad.said);
  }
  const Folder folder;
  expect_nothing_made(folder, {"synth", "sessions", "--count", "0", "--seed", "1", "--out", folder / "none"},
                      {"0 sessions", "at least 1"});
}

TEST(BadInput, IsRefusedByEvaluatePredictAndFeaturesToo) {
  const Folder folder;
  const fs::path blob = folder / "x.tarm";
  run_well(train(recipe("skip"), blob) + quick);
  fs::create_directory(folder / "empty");
  const fs::path none = changed_data(folder, "log_0.csv", [](auto& lines) { lines.resize(1); });
  for (const fs::path& bad : {folder / "empty", folder / "nowhere"}) {
    expect_nothing_made(folder, {"evaluate", blob, "--data", bad}, {bad});
    expect_nothing_made(folder, {"predict", blob, "--rows", bad, "--out", folder / "p.csv"}, {bad});
    expect_nothing_made(folder, {"features", recipe("skip"), "--data", bad, "--out", folder / "f.csv"},
                        {bad});
  }
  expect_nothing_made(folder, {"evaluate", blob, "--data", none}, {"no question to measure on"});
  EXPECT_EQ(lines_of(run_well({"predict", blob, "--rows", none}).out).size(), 1u) << "no question, no line";
  // A slip in the middle of the logs: what was written so far goes.
  const fs::path log = none / "log_0.csv";
  write_file(log, text_of(data() / log_name) + "1,2,3\n");
  expect_nothing_made(folder, {"features", recipe("skip"), "--data", none, "--out", folder / "f.csv"},
                      {"log_0.csv"});
  expect_nothing_made(folder, {"predict", blob, "--rows", none, "--out", folder / "p.csv"}, {"log_0.csv"});
  expect_nothing_made(folder, train(recipe("skip"), folder / "y.tarm", none), {"log_0.csv"});
}

}  // namespace
}  // namespace tonearm
