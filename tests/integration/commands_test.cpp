// The command line on small made-up data: what a newcomer types, what a script reads, and what goes wrong.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>
#include <tonearm_schema/model_generated.h>
#include <zlib.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "command.h"
#include "commands/experiment.h"
#include "data/csv.h"
#include "emit/emit.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// ------------------------------------------------------------------------------------------ data

/// 3000 made-up tracks in six files; the same for all tests.
std::string data() {
  static const Folder folder;
  static const bool made =
      run_well({"synth", "hits", "--count", "3000", "--seed", "1", "--out", folder.path()}).status == 0;
  EXPECT_TRUE(made);
  return folder.path();
}

const std::string one_file = "synthetic-dataset-of-90s.csv";

/// A copy of the data, to be damaged.
fs::path copy_data(const Folder& folder) {
  fs::copy(data(), folder / "data");
  return folder / "data";
}

using Lines = std::vector<std::string>;

/// Lets `change` rewrite the lines of a file; the first one holds the names of the columns.
void edit(const fs::path& file, const std::function<void(Lines&)>& change) {
  Lines lines;
  std::istringstream in(text_of(file));
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  change(lines);
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  write_file(file, text);
}

/// Replaces the cell `from_right` columns before the last one: there, no text holds a comma.
void set_cell(std::string& line, int from_right, const std::string& text) {
  std::size_t end = line.size();
  for (int i = 0; i < from_right; ++i) end = line.rfind(',', end - 1);
  const std::size_t begin = line.rfind(',', end - 1) + 1;
  line.replace(begin, end - begin, text);
}
constexpr int decade_cell = 0, target_cell = 1, key_cell = 14, energy_cell = 15;

void compress(const fs::path& file) {
  const std::string text = text_of(file);
  const gzFile out = gzopen((file.string() + ".gz").c_str(), "wb");
  ASSERT_EQ(gzwrite(out, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  ASSERT_EQ(gzclose(out), Z_OK);
  fs::remove(file);
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

// -------------------------------------------------------------------------------------- commands

/// What makes a recipe of the repository quick on three thousand rows.
Arguments quickly(const std::string& name, const std::string& variant) {
  if (name == "hit-network") return {"--set", "train.epochs=40", "--set", "train.batch=100"};
  if (name == "hit-forest") return {"--set", "train.trees=20"};
  if (name == "hit-boosted") return {"--set", variant == "symmetric" ? "train.trees=60" : "train.trees=20"};
  return {};
}

Arguments train(const std::string& recipe_file, const fs::path& out, const std::string& folder = data()) {
  return {"train", recipe_file, "--data", folder, "--out", out};
}

std::string make_blob(const fs::path& out, const std::string& name = "hit-boosted") {
  run_well(train(recipe(name), out) + quickly(name, ""));
  return out;
}

/// A refusal: exit status 1, nothing on stdout, and one line that says what and where.
void expect_refused(const Result& result, const std::vector<std::string>& parts, int status = 1) {
  EXPECT_EQ(result.status, status) << result.out << result.error;
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(result.error.starts_with("tonearm: ")) << result.error;
  EXPECT_EQ(std::count_if(result.error.begin(), result.error.end(), [](char c) { return c >= 0 && c < ' '; }),
            1)
      << result.error;
  EXPECT_TRUE(result.error.ends_with("\n"));
  for (const std::string& part : parts) EXPECT_TRUE(contains(result.error, part));
}

/// Training that must be refused and leave nothing behind, neither a blob nor a temporary file.
void expect_no_blob(const Folder& folder, const Arguments& arguments, const std::vector<std::string>& parts) {
  const auto before = names_in(folder.path());
  expect_refused(run(arguments), parts);
  EXPECT_EQ(names_in(folder.path()), before);
}

struct Case {
  std::string recipe, variant;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.recipe << " " << c.variant; }

/// Every recipe of the repository with every variant.
std::vector<Case> all_recipes() {
  std::vector<Case> cases;
  for (const char* name : {"hit-boosted", "hit-forest", "hit-logistic", "hit-network", "hit-svm"}) {
    cases.push_back({name, ""});
    const Recipe file(fs::path(recipe(name)), {});
    for (const std::string& variant : file.variants()) cases.push_back({name, variant});
  }
  return cases;
}

class RecipeTest : public ::testing::TestWithParam<Case> {};

TEST_P(RecipeTest, TrainsABlobThatIsSoundAndMeasuresTheSame) {
  const auto& [name, variant] = GetParam();
  const Folder folder;
  const std::string blob = folder / "x.tarm";
  Arguments arguments = train(recipe(name), blob) + quickly(name, variant) + Arguments{"--json", "-"};
  if (!variant.empty()) arguments = arguments + Arguments{"--variant", variant};
  const json trained = run_well(arguments).json();
  const json& shipped = trained["shipped"];
  const double base_rate = shipped["base_rate"];
  EXPECT_GT(shipped["accuracy"].get<double>(), std::max(base_rate, 1 - base_rate) + 0.05);
  EXPECT_EQ(trained["blob_bytes"].get<std::size_t>(), fs::file_size(blob));
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"x.tarm"}) << "no checkpoint, nothing temporary";

  EXPECT_TRUE(contains(run_well({"verify", blob}).out, "golden rows agree"));
  json evaluated = run_well({"evaluate", blob, "--data", data(), "--json", "-"}).json();
  EXPECT_EQ(evaluated["same_data"], true);
  EXPECT_EQ(evaluated["in_sample"], false);
  for (const auto& [figure, value] : shipped.items()) EXPECT_EQ(evaluated[figure], value) << figure;
  EXPECT_TRUE(contains(run_well({"inspect", blob}).out, "SYNTHETIC"));
}

INSTANTIATE_TEST_SUITE_P(All, RecipeTest, ::testing::ValuesIn(all_recipes()), [](const auto& parameter) {
  std::string name = parameter.param.recipe + "_" + parameter.param.variant;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Train, SaysWhatItMadeOfWhatAndThatTheDataAreSynthetic) {
  const Folder folder;
  const std::string text = run_well(train(recipe("hit-svm"), folder / "x.tarm")).out;
  for (const char* part :
       {"SYNTHETIC", "hit: the track was ever in the Billboard Hot 100", "3000 rows of 6 files",
        "grouped by uri, seed 1", "accuracy", "cross-validation, 5 folds", "x.tarm"})
    EXPECT_TRUE(contains(text, part));
}

TEST(Train, KeepsAnOldBlobWhereItFails) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm");
  const std::string before = text_of(blob);
  EXPECT_EQ(run(train(recipe("hit-boosted"), blob) + Arguments{"--set", "train.tres=3"}).status, 1);
  EXPECT_EQ(text_of(blob), before);
}

class SameBytesTest : public ::testing::TestWithParam<Case> {};

TEST_P(SameBytesTest, ForAnyNumberOfThreadsButNotForAnotherSeed) {
  const auto& [name, variant] = GetParam();
  const Folder folder;
  const auto bytes = [&](const char* seed, const char* threads) {
    Arguments arguments = train(recipe(name), folder / "x.tarm") + quickly(name, variant) +
                          Arguments{"--seed", seed, "--threads", threads};
    if (!variant.empty()) arguments = arguments + Arguments{"--variant", variant};
    run_well(arguments);
    return text_of(folder / "x.tarm");
  };
  const std::string one = bytes("1", "1");
  EXPECT_EQ(one, bytes("1", "2"));
  EXPECT_EQ(one, bytes("1", "3"));
  EXPECT_NE(one, bytes("2", "1"));
}

INSTANTIATE_TEST_SUITE_P(All, SameBytesTest,
                         ::testing::Values(Case{"hit-logistic", ""}, Case{"hit-svm", ""},
                                           Case{"hit-network", ""}, Case{"hit-forest", ""},
                                           Case{"hit-boosted", ""}, Case{"hit-boosted", "symmetric"}),
                         [](const auto& parameter) {
                           std::string name = parameter.param.recipe + parameter.param.variant;
                           std::erase(name, '-');
                           return name;
                         });

// ------------------------------------------------------------------------------------- interrupts

struct LongTraining {
  const char* name;
  const char* recipe;
  Arguments settings;
  const char* work;  // the setting that makes it longer
  unsigned units;    // of which so many take at least some tenths of a second
};

void PrintTo(const LongTraining& training, std::ostream* out) { *out << training.name; }

class InterruptTest : public ::testing::TestWithParam<LongTraining> {};

TEST_P(InterruptTest, SavesAndResumesToTheSameBytes) {
  const LongTraining& what = GetParam();
  const Folder folder;
  const fs::path blob = folder / "x.tarm", checkpoint = folder / "x.tarm.checkpoint";
  Arguments arguments;
  // A faster machine gets more to do, until the signal comes before the end.
  for (unsigned units = what.units;; units *= 2) {
    ASSERT_LT(units, 64 * what.units) << "the training never was interrupted";
    arguments = train(recipe(what.recipe), blob) + what.settings +
                Arguments{"--set", what.work + ("=" + std::to_string(units))};
    Process process(arguments);
    process.let_work(0.15);
    process.interrupt();
    const Result result = process.wait();
    if (result.status == 0) {
      fs::remove(blob);
      continue;
    }
    expect_refused(result, {"interrupted"}, 130);
    EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"x.tarm.checkpoint"});
    break;
  }
  const std::string saved = text_of(checkpoint);

  for (const Arguments& change : {Arguments{"--seed", "2"}, Arguments{"--set", "train.bins=100"}}) {
    if (change[0] == "--set" && std::string(what.recipe) == "hit-network") continue;
    const Result refused = run(arguments + change + Arguments{"--resume"});
    expect_refused(refused, {checkpoint, "another recipe, other data or another seed", "--resume"});
    EXPECT_EQ(text_of(checkpoint), saved);
  }
  write_file(checkpoint, saved.substr(0, saved.size() / 2));
  expect_refused(run(arguments + Arguments{"--resume"}), {checkpoint, "damaged"});

  run_well(arguments);  // pays no attention to the damaged one
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"x.tarm"});
  const std::string uninterrupted = text_of(blob);

  fs::remove(blob);
  write_file(checkpoint, saved);
  run_well(arguments + Arguments{"--resume"});
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"x.tarm"});
  EXPECT_TRUE(text_of(blob) == uninterrupted);
}

INSTANTIATE_TEST_SUITE_P(
    All, InterruptTest,
    ::testing::Values(
        LongTraining{"leaf_wise", "hit-boosted", {}, "train.trees", 500},
        LongTraining{"symmetric", "hit-boosted", {"--variant", "symmetric"}, "train.trees", 1000},
        LongTraining{"folds", "hit-boosted", {"--set", "cross_validation.folds=4"}, "train.trees", 150},
        LongTraining{"forest", "hit-forest", {}, "train.trees", 800},
        LongTraining{"network", "hit-network", {"--set", "train.patience=0"}, "train.epochs", 500}),
    [](const auto& parameter) { return parameter.param.name; });

TEST(Interrupt, EndsACompareToo) {
  const Folder folder;
  Process process({"compare", recipe("hit-boosted"), "--data", data(), "--set", "train.trees=100000",
                   "--json", folder / "x.json"});
  process.let_work(0.15);
  process.interrupt();
  expect_refused(process.wait(), {"interrupted"}, 130);
  EXPECT_TRUE(names_in(folder.path()).empty());
}

// -------------------------------------------------------------------------------------- bad data

struct Damage {
  const char* name;
  std::function<void(const fs::path& data)> damage;
  std::vector<std::string> said;
  const char* recipe = "hit-boosted";
  Arguments settings = {};
};

void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }

std::function<void(const fs::path&)> in_one_file(std::function<void(Lines&)> change) {
  return [change](const fs::path& folder) { edit(folder / one_file, change); };
}

std::function<void(const fs::path&)> in_every_file(std::function<void(Lines&)> change) {
  return [change](const fs::path& folder) {
    for (const std::string& name : names_in(folder)) edit(folder / name, change);
  };
}

/// Empties the cell in every tenth row.
std::function<void(Lines&)> emptied(int cell) {
  return [cell](Lines& lines) {
    for (std::size_t i = 1; i < lines.size(); i += 10) set_cell(lines[i], cell, "");
  };
}

std::vector<Damage> damages() {
  const auto nothing = [](const fs::path&) {};
  return {
      {"no_folder", [](const fs::path& folder) { fs::remove_all(folder); }, {"no file or folder", "/data"}},
      {"no_matching_file", nothing, {"/data", "'*.tsv'"}, "hit-boosted", {"--set", "data.files=*.tsv"}},
      {"renamed_column",
       in_one_file([](Lines& lines) { lines[0].replace(lines[0].find("loudness"), 8, "loudnes"); }),
       {one_file, "no column 'loudness'", "did you mean 'loudnes'?"}},
      {"missing_target",
       in_one_file([](Lines& lines) { lines[0].replace(lines[0].find("target"), 6, "label"); }),
       {one_file, "no column 'target'"}},
      {"text_in_a_number",
       in_one_file([](Lines& lines) { set_cell(lines[6], energy_cell, "loud"); }),
       {one_file, "line 7", "column 'energy'", "expected a number", "'loud'"}},
      {"control_characters_in_a_number",
       in_one_file([](Lines& lines) { set_cell(lines[6], energy_cell, "\"lo\n\x1b[31mud\""); }),
       {one_file, "line 7", "column 'energy'", "expected a number"}},
      {"ragged_row",
       in_one_file([](Lines& lines) { lines[6] += ",1"; }),
       {one_file, "line 7", "expected 20 fields", "found 21"}},
      {"open_quote", in_one_file([](Lines& lines) { lines[6].insert(0, "\""); }), {one_file, "line"}},
      {"infinity",
       in_one_file([](Lines& lines) { set_cell(lines[6], energy_cell, "inf"); }),
       {one_file, "line 7", "column 'energy'", "finite"}},
      {"beyond_float32",
       in_one_file([](Lines& lines) { set_cell(lines[6], energy_cell, "1e39"); }),
       {one_file, "line 7", "column 'energy'", "float32"}},
      {"target_of_two",
       in_one_file([](Lines& lines) { set_cell(lines[6], target_cell, "2"); }),
       {one_file, "line 7", "column 'target'", "0 or 1"}},
      {"empty_file", in_one_file([](Lines& lines) { lines.clear(); }), {one_file, "empty"}},
      {"headers_only", in_every_file([](Lines& lines) { lines.resize(1); }), {"no rows"}},
      {"truncated_gz",
       [](const fs::path& folder) {
         compress(folder / one_file);
         fs::resize_file(folder / (one_file + ".gz"), 5000);
       },
       {one_file + ".gz", "truncated"}},
      {"not_gz",
       [](const fs::path& folder) { fs::rename(folder / one_file, folder / (one_file + ".gz")); },
       {one_file + ".gz", "gzip"}},
      {"same_file_twice",
       [](const fs::path& folder) {
         fs::copy(folder / one_file, folder / "copy");
         compress(folder / one_file);
         fs::rename(folder / "copy", folder / one_file);
       },
       {one_file, "twice"}},
      {"one_class",
       in_every_file([](Lines& lines) {
         for (std::size_t i = 1; i < lines.size(); ++i) set_cell(lines[i], target_cell, "1");
       }),
       {"'target' is 1 in all", "both 0 and 1"}},
      {"missing_cells_logistic",
       in_one_file(emptied(key_cell)),
       {"'key' is missing in", "training rows", "'logistic'", "[missing] policy"},
       "hit-logistic"},
      {"missing_cells_svm", in_one_file(emptied(key_cell)), {"'key' is missing in", "'svm'"}, "hit-svm"},
      {"missing_cells_network",
       in_one_file(emptied(key_cell)),
       {"'key' is missing in", "'network'"},
       "hit-network"},
      {"missing_cells_held_out",
       [](const fs::path& folder) { edit(folder / "synthetic-dataset-of-10s.csv", emptied(key_cell)); },
       {"'key' is missing in", "held-out rows"},
       "hit-logistic",
       {"--split", "decade"}},
      {"nothing_to_fill_with",
       in_every_file([](Lines& lines) {
         for (std::size_t i = 1; i < lines.size(); ++i) set_cell(lines[i], key_cell, "");
       }),
       {"'key' has no value"},
       "hit-logistic",
       {"--set", "missing.policy=mean"}},
      {"fewer_groups_than_folds",
       in_every_file([](Lines& lines) { lines.resize(6); }),
       {"1000 folds", "groups by 'uri'", "only"},
       "hit-boosted",
       {"--set", "cross_validation.folds=1000"}},
      {"no_row_passes",
       nothing,
       {"no rows", "filters"},
       "hit-boosted",
       {"--set", "data.where.decade=[1920]"}},
      {"no_held_out_row",
       nothing,
       {"no held-out rows"},
       "hit-boosted",
       {"--split", "decade", "--set", "splits.decade.value=1920"}},
  };
}

class BadDataTest : public ::testing::TestWithParam<Damage> {};

TEST_P(BadDataTest, IsRefusedInOneSentence) {
  const Damage& what = GetParam();
  const Folder folder;
  const fs::path damaged = copy_data(folder);
  what.damage(damaged);
  expect_no_blob(folder, train(recipe(what.recipe), folder / "x.tarm", damaged) + what.settings, what.said);
}

INSTANTIATE_TEST_SUITE_P(All, BadDataTest, ::testing::ValuesIn(damages()),
                         [](const auto& parameter) { return parameter.param.name; });

TEST(OddData, TreesTakeMissingCellsAndAConstantColumnWithANote) {
  const Folder folder;
  const fs::path odd = copy_data(folder);
  in_every_file([](Lines& lines) {
    emptied(energy_cell)(lines);
    for (std::size_t i = 1; i < lines.size(); ++i) set_cell(lines[i], key_cell, "5");
  })(odd);
  for (const char* name : {"hit-boosted", "hit-forest"}) {
    const std::string blob = folder / "x.tarm";
    const Result trained = run_well(train(recipe(name), blob, odd) + quickly(name, ""));
    EXPECT_TRUE(contains(trained.out, "note: the column 'key' is 5 in all"));
    run_well({"verify", blob});
    run_well({"evaluate", blob, "--data", odd});
  }
}

TEST(OddData, ReadsCompressedFilesToTheSameBlob) {
  const Folder folder;
  const std::string plain = text_of(make_blob(folder / "plain.tarm"));
  const fs::path copy = copy_data(folder);
  for (const std::string& name : names_in(copy)) compress(copy / name);
  run_well(train(recipe("hit-boosted"), folder / "x.tarm", copy) + quickly("hit-boosted", ""));
  EXPECT_TRUE(text_of(folder / "x.tarm") == plain);
}

// ----------------------------------------------------------------------------------- bad recipes

struct Slip {
  const char* name;
  Arguments settings;
  std::vector<std::string> said;
};

void PrintTo(const Slip& slip, std::ostream* out) { *out << slip.name; }

class BadSettingTest : public ::testing::TestWithParam<Slip> {};

TEST_P(BadSettingTest, IsRefusedInOneSentence) {
  const Folder folder;
  expect_no_blob(folder, train(recipe("hit-boosted"), folder / "x.tarm") + GetParam().settings,
                 GetParam().said);
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSettingTest,
    ::testing::Values(
        Slip{"unknown_key", {"--set", "train.tres=3"}, {"train.tres", "did you mean 'trees'?"}},
        Slip{"key_of_another_trainer", {"--set", "train.epochs=3"}, {"train.epochs"}},
        Slip{"unknown_table", {"--set", "trian.trees=3"}, {"trian", "did you mean 'train'?"}},
        Slip{"text_for_a_number", {"--set", "train.trees=many"}, {"train.trees must be a number"}},
        Slip{"half_a_tree", {"--set", "train.trees=1.5"}, {"train.trees must be a whole number"}},
        Slip{"no_trees", {"--set", "train.trees=0"}, {"train.trees is 0", "from 1"}},
        Slip{"not_a_number", {"--set", "train.rate=nan"}, {"train.rate"}},
        Slip{"number_for_a_table", {"--set", "train=3"}, {"train must be a table"}},
        Slip{"number_for_a_list", {"--set", "columns.numbers=3"}, {"columns.numbers must be a list"}},
        Slip{"unknown_trainer", {"--set", "train.trainer=magic"}, {"'magic'", "one of: logistic"}},
        Slip{"unknown_variant", {"--variant", "nope"}, {"'nope'", "decade, symmetric"}},
        Slip{"unknown_split", {"--split", "nope"}, {"'nope'", "artist, decade, random"}},
        Slip{"no_equals_sign", {"--set", "train"}, {"--set train", "KEY=VALUE"}},
        Slip{"no_key", {"--set", "=3"}, {"--set =3", "not TOML"}},
        Slip{"leak", {"--set", "columns.numbers=['energy', 'target']"}, {"'target'", "leak"}},
        Slip{
            "column_twice", {"--set", "columns.numbers=['energy', 'energy']"}, {"'energy'", "listed before"}},
        Slip{
            "number_and_category", {"--set", "columns.categories=['energy']"}, {"'energy'", "listed before"}},
        Slip{"unlisted_drop", {"--set", "data.drop=['enrgy']"}, {"'enrgy'", "data.drop"}},
        Slip{"unlisted_feature",
             {"--set", "features=[{columns=['enrgy']}]"},
             {"'enrgy'", "did you mean 'energy'"}},
        Slip{"calibration_without_rows",
             {"--set", "calibration.method=platt"},
             {"calibration.on", "held_out"}},
        Slip{"calibration_without_folds",
             {"--set", "calibration.method=platt", "--set", "calibration.on=folds"},
             {"calibration.on", "at least 2"}},
        Slip{"one_fold", {"--set", "cross_validation.folds=1"}, {"at least 2 folds"}},
        Slip{"ordinal_beyond_float32",
             {"--set", "columns.categories=['artist']", "--set",
              "features=[{encode='ordinal', columns=['artist'], values=[1e300]}]"},
             {"features.values", "float32"}},
        Slip{"complete_trees_too_deep",
             {"--set", "blob.layout=complete"},
             {"blob.layout", "may have 30: set train.depth to 8"}},
        Slip{"too_many_components",
             {"--set", "features=[{encode='pca', count=99, columns=['energy', 'key']}]"},
             {"99 components", "only 2"}},
        Slip{"tolerance_exceeded",
             {"--variant", "symmetric", "--set", "train.trees=30", "--set", "blob.leaves=int16", "--set",
              "blob.tolerance=0"},
             {"blob.tolerance of 0", "nothing was written"}}),
    [](const auto& parameter) { return parameter.param.name; });

TEST(BadRecipe, NamesFileLineAndColumn) {
  const Folder folder;
  const auto refused = [&](const std::string& text, const std::vector<std::string>& said) {
    write_file(folder / "mine.toml", text);
    expect_no_blob(folder, train(folder / "mine.toml", folder / "x.tarm"), said);
  };
  refused("name = \"x\"\ntrainer = [1,\n", {"mine.toml:", "not TOML"});
  refused("extends = \"" + recipe("hit-boosted") + "\"\n[train]\ntres = 3\n",
          {"mine.toml:3:8: train.tres", "did you mean 'trees'?"});
  refused("extends = \"" + recipe("hit-boosted") + "\"\ntrain.trees = \"many\"\n",
          {"mine.toml:2:15: train.trees"});
  refused("extends = \"gone.toml\"\n", {"gone.toml"});
  refused("extends = \"mine.toml\"\n", {"extends", "circle"});
  refused("", {"mine.toml"});
  refused(
      "name = \"x\"\ndata.target = \"target\"\ncolumns.numbers = [\"energy\"]\ntrain.trainer = \"forest\"\n",
      {"mine.toml", "splits is missing"});
  refused("name = \"x\"\ndata.target = \"target\"\ncolumns.numbers = [\"energy\"]\n[splits.random]\n",
          {"mine.toml", "train.trainer is missing", "boosted"});
  refused("name = \"x\"\n\xff\n", {"mine.toml:", "not TOML", "utf-8"});
}

TEST(BadRecipe, NeedsAFile) {
  const Folder folder;
  expect_no_blob(folder, train(folder / "gone.toml", folder / "x.tarm"), {"gone.toml", "No such file"});
  expect_no_blob(folder, train(folder.path(), folder / "x.tarm"), {folder.path(), "directory"});
}

// ----------------------------------------------------------------------------------- bad outputs

TEST(BadOutput, IsFoundBeforeTraining) {
  const Folder folder;
  write_file(folder / "file", "x");
  // A training that would take minutes: the refusal must not wait for it.
  const auto refused = [&](const fs::path& out, const fs::path& json_file, const std::string& said) {
    expect_no_blob(
        folder,
        train(recipe("hit-boosted"), out) + Arguments{"--set", "train.trees=100000", "--json", json_file},
        {said});
  };
  refused(folder / "gone" / "x.tarm", folder / "x.json", "there is no folder");
  refused(folder / "file" / "x.tarm", folder / "x.json", "there is no folder");
  refused(folder.path(), folder / "x.json", "not a folder");
  refused("", folder / "x.json", "not a folder");
  refused(folder / "x.tarm", folder / "gone" / "x.json", "there is no folder");
  refused(folder / "x.tarm", folder.path(), "not a folder");
  if (::geteuid() != 0) {  // root may write anywhere
    fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
    refused(folder / "x.tarm", folder / "x.json", "Permission denied");
    fs::permissions(folder.path(), fs::perms::owner_all);
  }
  expect_refused(run({"compare", recipe("hit-boosted"), "--data", data(), "--set", "train.trees=100000",
                      "--json", folder / "gone" / "x.json"}),
                 {"there is no folder"});
  expect_refused(
      run({"features", recipe("hit-boosted"), "--data", data(), "--out", folder / "gone" / "x.csv"}),
      {"there is no folder"});
  expect_refused(run({"synth", "hits", "--out", folder / "file"}), {"cannot create the folder"});
}

TEST(BadOutput, AFullDiskLeavesTheOldBlobAndNothingElse) {
  const Folder folder;
  const Process::Limits small{8000};
  const Arguments arguments = train(recipe("hit-boosted"), folder / "x.tarm");
  expect_refused(run(arguments, small), {"x.tarm", "File too large"});
  EXPECT_TRUE(names_in(folder.path()).empty());
  make_blob(folder / "x.tarm");
  const std::string before = text_of(folder / "x.tarm");
  expect_refused(run(arguments, small), {"x.tarm", "File too large"});
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"x.tarm"});
  EXPECT_TRUE(text_of(folder / "x.tarm") == before);
  expect_refused(run({"synth", "hits", "--out", folder / "made"}, small), {"File too large"});
  EXPECT_TRUE(names_in(folder / "made").empty());
  expect_refused(run({"features", recipe("hit-boosted"), "--data", data(), "--out", folder / "x.csv"}, small),
                 {"x.csv", "File too large"});
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"made", "x.tarm"}));
}

TEST(BadOutput, AFullStandardOutputIsAnError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm");
  for (const Arguments& arguments :
       {Arguments{"inspect", blob}, Arguments{"verify", blob, "--json", "-"},
        Arguments{"predict", blob, "--rows", data()}, Arguments{"evaluate", blob, "--data", data()}})
    expect_refused(run(arguments, {RLIM_INFINITY, "/dev/full"}), {"standard output"});
}

// ------------------------------------------------------------------------------------- bad blobs

TEST(BadBlob, IsRefusedByEveryCommandThatReadsOne) {
  const Folder folder;
  const std::string good = text_of(make_blob(folder / "good.tarm"));
  const auto refused = [&](const std::vector<std::string>& said) {
    const std::string blob = folder / "bad.tarm";
    for (const Arguments& arguments :
         {Arguments{"verify", blob}, Arguments{"inspect", blob}, Arguments{"predict", blob, "--rows", data()},
          Arguments{"evaluate", blob, "--data", data()}, Arguments{"verify", blob, "--json", "-"}})
      expect_refused(run(arguments), std::vector<std::string>{"bad.tarm"} + said);
  };
  refused({"No such file"});
  write_file(folder / "bad.tarm", "");
  refused({"not a Tonearm blob"});
  write_file(folder / "bad.tarm", text_of(fs::path(data()) / one_file));
  refused({"not a Tonearm blob"});
  write_file(folder / "bad.tarm", good.substr(0, good.size() - 16));
  refused({"not as long as it says"});
  write_file(folder / "bad.tarm", good + "more");
  refused({"not as long as it says"});
  for (const std::size_t place : {good.size() / 3, good.size() / 2, good.size() - 1}) {
    std::string flipped = good;
    flipped[place] = static_cast<char>(flipped[place] ^ 1);
    write_file(folder / "bad.tarm", flipped);
    refused({});
  }
  fs::remove(folder / "bad.tarm");
  fs::create_directory(folder / "bad.tarm");
  refused({"directory"});
}

TEST(BadBlob, ACardThatDoesNotFitIsRefusedWhenEvaluated) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm");
  const auto refused = [&](const std::function<void(schema::ModelT&)>& change, const std::string& said) {
    schema::ModelT model;
    schema::GetModel(read_file(blob).data())->UnPackTo(&model);
    change(model);
    write_file(folder / "changed.tarm", pack(model));
    expect_refused(run({"evaluate", folder / "changed.tarm", "--data", data()}), {said});
    run_well({"verify", folder / "changed.tarm"});
    run_well({"inspect", folder / "changed.tarm", "--json", "-"}).json();
  };
  refused([](auto& model) { model.card->recipe.clear(); }, "names no recipe");
  refused([](auto& model) { model.card->split.reset(); }, "names no recipe and no split");
  refused([](auto& model) { model.card->recipe = "[broken"; }, "not TOML");
  refused(
      [](auto& model) {
        std::string& text = model.card->recipe;
        const std::size_t at = text.find("\"energy\"");
        ASSERT_NE(at, text.npos);
        text.replace(at, 8, "\"energy\", \"decade\"");
      },
      "other columns");
}

TEST(BadBlob, WithoutGoldenRowsIsSoundButSaysSo) {
  const Folder folder;
  run_well(train(recipe("hit-logistic"), folder / "x.tarm") + Arguments{"--set", "blob.golden=0"});
  EXPECT_TRUE(contains(run_well({"verify", folder / "x.tarm"}).out, "no golden rows"));
}

// -------------------------------------------------------------------------------------- evaluate

TEST(Evaluate, SaysWhenTheFiguresAreInSampleOrTheDataAreOthers) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm");
  const std::string held_out = run_well({"evaluate", blob, "--data", data()}).out;
  EXPECT_TRUE(contains(held_out, "SYNTHETIC"));
  EXPECT_TRUE(contains(held_out, "held-out rows"));
  EXPECT_FALSE(contains(held_out, "IN-SAMPLE"));
  EXPECT_FALSE(contains(held_out, "differ"));
  EXPECT_TRUE(
      contains(run_well({"evaluate", blob, "--data", data(), "--all-rows"}).out, "3000 rows, IN-SAMPLE"));

  run_well({"synth", "hits", "--count", "600", "--seed", "2", "--out", folder / "others"});
  EXPECT_TRUE(
      contains(run_well({"evaluate", blob, "--data", folder / "others"}).out, "the held-out rows differ"));
  const json others = run_well({"evaluate", blob, "--data", folder / "others", "--json", "-"}).json();
  EXPECT_EQ(others["same_data"], false);
}

TEST(Evaluate, RefusesRowsForWhichTheModelGivesNoNumber) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm", "hit-logistic");
  const fs::path odd = copy_data(folder);
  in_every_file(emptied(energy_cell))(odd);
  expect_refused(run({"evaluate", blob, "--data", odd}), {"no number for", "missing-value policy"});
}

TEST(Evaluate, FindsTheRecipeAgainWhateverItsTextsHold) {
  const Folder folder;
  write_file(folder / "odd.toml", "extends = \"" + recipe("hit-logistic") + "\"\n" +
                                      R"(name = "a \" b ''' c \\ d \n e \t é \u0001 \"\"\" f ]")" +
                                      "\nlabel = '''two\nlines'''\n");
  const json trained =
      run_well(train(folder / "odd.toml", folder / "x.tarm") + Arguments{"--json", "-"}).json();
  json evaluated = run_well({"evaluate", folder / "x.tarm", "--data", data(), "--json", "-"}).json();
  EXPECT_EQ(evaluated["accuracy"], trained["shipped"]["accuracy"]);
  EXPECT_EQ(evaluated["same_data"], true);
}

// --------------------------------------------------------------------------------------- predict

/// What the C API gives for the rows of a CSV file, columns found by name through the C API.
std::vector<float> by_c_api(const std::string& blob, const fs::path& file) {
  const auto bytes = read_file(blob);
  tonearm_model model;
  EXPECT_EQ(tonearm_model_open(&model, bytes.data(), bytes.size(), nullptr, nullptr), TONEARM_OK);
  tonearm_info info{};
  info.struct_size = sizeof info;
  EXPECT_EQ(tonearm_model_info(&model, &info), TONEARM_OK);
  CsvReader reader(file);
  std::vector<float> outputs, row(info.columns), scratch(info.scratch_bytes / 4);
  std::vector<std::string_view> fields;
  while (reader.next(fields)) {
    for (std::size_t i = 0; i < fields.size(); ++i) {
      std::uint32_t column = 0;
      if (tonearm_model_column(&model, reader.header()[i].c_str(), &column) == TONEARM_OK) {
        EXPECT_TRUE(parse_number(fields[i], row[column]));
      }
    }
    float out = 0;
    EXPECT_EQ(tonearm_evaluate(&model, row.data(), info.columns, scratch.data(), scratch.size() * 4, &out),
              TONEARM_OK);
    outputs.push_back(out);
  }
  return outputs;
}

std::vector<float> numbers_in(const std::string& text) {
  std::vector<float> numbers;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    float value = 0;
    EXPECT_TRUE(parse_number(line, value)) << line;
    numbers.push_back(value);
  }
  return numbers;
}

TEST(Predict, PrintsTheFloatsOfTheCApi) {
  const Folder folder;
  for (const char* name : {"hit-boosted", "hit-forest", "hit-network", "hit-svm"}) {
    const std::string blob = make_blob(folder / "x.tarm", name);
    const fs::path rows = fs::path(data()) / one_file;
    const std::string printed = run_well({"predict", blob, "--rows", rows}).out;
    EXPECT_EQ(numbers_in(printed), by_c_api(blob, rows));
    EXPECT_EQ(numbers_in(printed).size(), 500U);
    run_well({"predict", blob, "--rows", rows, "--out", folder / "out.txt", "--threads", "3"});
    EXPECT_EQ(text_of(folder / "out.txt"), printed);
    fs::remove(folder / "rows.csv.gz");
    fs::copy(rows, folder / "rows.csv");
    compress(folder / "rows.csv");
    EXPECT_EQ(run_well({"predict", blob, "--rows", folder / "rows.csv.gz"}).out, printed);
  }
}

TEST(Predict, FindsColumnsByNameAndNeedsNoLabels) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm");
  const fs::path rows = fs::path(data()) / one_file;
  CsvReader reader(rows);
  std::string reversed;
  const auto append = [&](const auto& cells) {
    for (std::size_t i = cells.size() - 2; i-- > 3;) reversed += std::string(cells[i]) + (i > 3 ? "," : "\n");
  };
  append(reader.header());
  for (std::vector<std::string_view> fields; reader.next(fields);) append(fields);
  write_file(folder / "reversed.csv", reversed);
  EXPECT_EQ(run_well({"predict", blob, "--rows", folder / "reversed.csv"}).out,
            run_well({"predict", blob, "--rows", rows}).out);
}

TEST(Predict, SaysNanWhereALinearModelMissesAValue) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm", "hit-logistic");
  const fs::path odd = copy_data(folder);
  edit(odd / one_file, [](Lines& lines) { set_cell(lines[2], energy_cell, ""); });
  const std::vector<float> numbers = numbers_in(run_well({"predict", blob, "--rows", odd / one_file}).out);
  ASSERT_EQ(numbers.size(), 500U);
  EXPECT_TRUE(std::isnan(numbers[1]));
  EXPECT_EQ(std::count_if(numbers.begin(), numbers.end(), [](float p) { return std::isnan(p); }), 1);
}

TEST(Predict, RefusesRowsThatItCannotRead) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm");
  const fs::path rows = copy_data(folder) / one_file;
  const auto refused = [&](const std::vector<std::string>& said) {
    expect_no_blob(folder, {"predict", blob, "--rows", rows, "--out", folder / "out.txt"}, said);
  };
  edit(rows, [](Lines& lines) { set_cell(lines[3], energy_cell, "loud"); });
  refused({one_file, "line 4", "'energy'"});
  edit(rows, [](Lines& lines) { lines[0].replace(lines[0].find("energy"), 6, "enrgy"); });
  refused({one_file, "no column 'energy'", "'enrgy'"});
  edit(rows, [](Lines& lines) { lines.clear(); });
  refused({one_file, "empty"});
  fs::remove(rows);
  refused({one_file});
}

// -------------------------------------------------------------------------- JSON, compare, features

/// A quick recipe in `folder` that extends one of the repository.
std::string small_recipe(const Folder& folder, const std::string& name, const std::string& settings) {
  const fs::path file = folder / (name + ".toml");
  write_file(file, "extends = \"" + recipe(name) + "\"\n" + settings + "\n");
  return file;
}

TEST(Json, OnStandardOutputStandsAlone) {
  const Folder folder;
  const std::string blob = folder / "x.tarm";
  const Arguments json_only = {"--json", "-"};
  EXPECT_TRUE(run_well(train(recipe("hit-logistic"), blob) + json_only).json().contains("shipped"));
  EXPECT_TRUE(run_well(Arguments{"evaluate", blob, "--data", data()} + json_only).json().contains("auc"));
  EXPECT_TRUE(run_well(Arguments{"inspect", blob} + json_only).json().contains("operators"));
  EXPECT_EQ(run_well(Arguments{"verify", blob} + json_only).json()["sound"], true);
  const json compared = run_well(Arguments{"compare", recipe("hit-logistic"), "--data", data(), "--seeds",
                                           "1", "--splits", "random"} +
                                 json_only)
                            .json();
  EXPECT_EQ(compared.size(), 3U);
}

TEST(Json, InAFileIsTheSame) {
  const Folder folder;
  const std::string blob = make_blob(folder / "x.tarm", "hit-logistic");
  const Result with_text = run_well({"verify", blob, "--json", folder / "x.json"});
  EXPECT_TRUE(contains(with_text.out, "sound"));
  EXPECT_EQ(text_of(folder / "x.json"), run_well({"verify", blob, "--json", "-"}).out);
}

TEST(Json, IsUtf8WhateverTheNameOfTheBlob) {
  const Folder folder;
  const Result result =
      run_well(train(recipe("hit-logistic"), folder / "\xff.tarm") + Arguments{"--json", "-"});
  EXPECT_TRUE(contains(result.json()["blob"].get<std::string>(), "\xef\xbf\xbd.tarm"));
}

TEST(Compare, PrintsATableAndAgreesWithTrain) {
  const Folder folder;
  const std::string linear = small_recipe(folder, "hit-logistic", "");
  const std::string trees = small_recipe(folder, "hit-boosted", "train.trees = 20");
  const Arguments arguments = {"compare", linear,     trees,           "--data", data(),           "--seeds",
                               "1,2",     "--splits", "random,artist", "--json", folder / "x.json"};
  const std::string text = run_well(arguments).out;
  for (const char* part : {"Split: random", "Split: artist", "over seeds 1, 2",
                           "logistic regression, z-score", "boosted trees, 100 x 31 leaves", " +- ", ".7288"})
    EXPECT_TRUE(contains(text, part));
  const json results = json::parse(text_of(folder / "x.json"));
  ASSERT_EQ(results.size(), 8U);
  for (const json& row : results) {
    const std::string file = row["system"] == "hit-logistic" ? linear : trees;
    const json trained = run_well(train(file, folder / "x.tarm") +
                                  Arguments{"--split", row["table"], "--seed",
                                            std::to_string(row["seed"].get<int>()), "--json", "-"})
                             .json();
    for (const char* figure : {"rows", "base_rate", "accuracy", "auc", "log_loss", "calibration_error"})
      EXPECT_EQ(row[figure], trained["shipped"][figure]) << figure;
    EXPECT_EQ(row["trained_accuracy"], trained["trained"]["accuracy"]);
    EXPECT_EQ(row["largest_change"], trained["largest_change"]);
    EXPECT_EQ(row["blob_bytes"], trained["blob_bytes"]);
  }
}

TEST(Compare, FindsASlipInTheLastRecipeBeforeTrainingTheFirst) {
  const Folder folder;
  const std::string endless = small_recipe(folder, "hit-boosted", "train.trees = 100000");
  const std::string wrong = small_recipe(folder, "hit-forest", "train.trees = -1");
  expect_refused(run({"compare", endless, wrong, "--data", data()}), {"hit-forest.toml:2:", "train.trees"});
  expect_refused(run({"compare", endless, "--data", data(), "--splits", "random,nope"}), {"'nope'"});
}

TEST(Features, AreWhatTheRuntimeComputesBitForBit) {
  const Folder folder;
  const std::string blob = folder / "x.tarm";
  const Arguments settings = {"--set", "validation.held_out=0.2", "--split", "artist", "--seed", "3"};
  const json trained =
      run_well(train(recipe("hit-logistic"), blob) + settings + Arguments{"--json", "-"}).json();
  run_well(Arguments{"features", recipe("hit-logistic"), "--data", data(), "--out", folder / "x.csv"} +
           settings);

  // The trained blob without its operators: its features are the output.
  schema::ModelT model;
  schema::GetModel(read_file(blob).data())->UnPackTo(&model);
  model.operators.clear();
  model.golden.reset();
  model.output_offset = model.features.back()->output_offset;
  model.output_length = model.features.back()->output_length;
  const Recipe stored = Recipe::from_text(model.card->recipe, "the card");
  const Blob features(pack(model), "features");
  const Experiment experiment = load_experiment(stored.root(), data(), 3);

  std::map<std::string, std::vector<std::size_t>> sides = {{"train", experiment.split.training},
                                                           {"validation", experiment.split.validation},
                                                           {"held_out", experiment.split.held_out}};
  std::map<std::string, std::size_t> seen;
  CsvReader reader(folder / "x.csv");
  ASSERT_EQ(reader.header().size(), 2 + features.outputs());
  EXPECT_EQ(reader.header()[2], "danceability");
  std::vector<float> expected(features.outputs());
  for (std::vector<std::string_view> fields; reader.next(fields);) {
    const std::string side(fields[0]);
    const std::size_t row = sides.at(side).at(seen[side]++);
    EXPECT_EQ(fields[1], experiment.table.target[row] > 0.5f ? "1" : "0");
    features.evaluate(gather_rows(experiment.table, std::vector<std::size_t>{row}), expected);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      float value = 0;
      ASSERT_TRUE(parse_number(fields[2 + i], value));
      ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected[i]));
    }
  }
  EXPECT_EQ(seen["train"] + seen["validation"], trained["train_rows"].get<std::size_t>());
  EXPECT_GT(seen["validation"], 0U);
  EXPECT_EQ(seen["held_out"], trained["held_out_rows"].get<std::size_t>());
}

TEST(Features, QuoteNamesAndRefuseUnknownKeys) {
  const Folder folder;
  const std::string file = small_recipe(folder, "hit-boosted",
                                        "columns.numbers = []\ncolumns.categories = [\"track\"]\n"
                                        "features = [{ encode = \"one-hot\", columns = [\"track\"] }]\n"
                                        "data.where.decade = [1960]");
  run_well({"features", file, "--data", data(), "--out", folder / "x.csv"});
  const std::vector<std::string> header = CsvReader(folder / "x.csv").header();
  EXPECT_EQ(std::count_if(header.begin(), header.end(),
                          [](const std::string& name) { return name.ends_with(", \"Live\""); }),
            std::count_if(header.begin(), header.end(),
                          [](const std::string& name) { return name.find("Live") != name.npos; }));
  EXPECT_TRUE(std::any_of(header.begin(), header.end(),
                          [](const std::string& name) { return name.ends_with(", \"Live\""); }));
  expect_no_blob(folder,
                 {"features", recipe("hit-boosted"), "--data", data(), "--out", folder / "y.csv", "--set",
                  "train.tres=3"},
                 {"train.tres"});
}

// -------------------------------------------------------------------------- encoders, calibration

constexpr const char* every_encoder = R"(
name = "every encoder"
data.files = "*.csv"
data.target = "target"

[columns]
numbers = ["tempo", "loudness", "energy", "valence", "danceability", "duration_ms"]
categories = ["mode", "key", "time_signature"]

[missing]
policy = "median"
columns.loudness = "mean"
columns.valence = "zero"

[[features]]
encode = "bucket"
columns = ["tempo"]
edges = [90, 110, 130.5]

[[features]]
encode = "bucket"
columns = ["duration_ms"]
count = 8

[[features]]
name = "scaled"
encode = "scale"
columns = ["loudness", "energy", "valence", "danceability"]

[[features]]
encode = "pca"
input = "scaled"
count = 3

[[features]]
encode = "one-hot"
columns = ["key", "mode"]
unknown = true

[[features]]
encode = "ordinal"
columns = ["time_signature"]

[splits.random]
group = "artist"

[validation]
held_out = 0.2
)";

struct Pipeline {
  const char* name;
  const char* settings;
};

void PrintTo(const Pipeline& pipeline, std::ostream* out) { *out << pipeline.name; }

class EncoderTest : public ::testing::TestWithParam<Pipeline> {};

TEST_P(EncoderTest, WorksFromTheRecipeToThePrediction) {
  const Folder folder;
  const fs::path odd = copy_data(folder);
  in_every_file(emptied(energy_cell))(odd);
  in_every_file([](Lines& lines) { set_cell(lines[5], key_cell, ""); })(odd);
  write_file(folder / "mine.toml", std::string(every_encoder) + GetParam().settings);
  const std::string blob = folder / "x.tarm";
  const std::string text =
      run_well(train(folder / "mine.toml", blob, odd) + Arguments{"--json", folder / "x.json"}).out;
  const json trained = json::parse(text_of(folder / "x.json"));
  EXPECT_GT(trained["shipped"]["auc"].get<double>(), 0.6);
  const bool folds = std::string(GetParam().settings).find("folds = 4") != std::string::npos;
  EXPECT_EQ(contains(text, "cross-validation, 4 folds of the training rows"), folds);
  EXPECT_EQ(trained.contains("folds") ? trained["folds"].size() : 0, folds ? 4U : 0U);

  run_well({"verify", blob});
  json evaluated = run_well({"evaluate", blob, "--data", odd, "--json", "-"}).json();
  for (const auto& [figure, value] : trained["shipped"].items())
    EXPECT_EQ(evaluated[figure], value) << figure;
  const json described = run_well({"inspect", blob, "--json", "-"}).json();
  std::set<std::string> encoders;
  for (const json& feature : described["features"]) encoders.insert(feature["encoder"]);
  for (const char* encoder : {"Bucket", "OneHot", "Ordinal", "Projection", "Scale"})
    EXPECT_TRUE(encoders.contains(encoder)) << encoder;

  // A category that training never saw, and every cell missing, still give a probability.
  write_file(folder / "rows.csv",
             "tempo,loudness,energy,valence,danceability,duration_ms,mode,key,time_signature\n"
             "120,-5,.7,.5,.5,200000,1,H,4\n"
             ",,,,,,,,\n");
  const std::vector<float> numbers =
      numbers_in(run_well({"predict", blob, "--rows", folder / "rows.csv"}).out);
  ASSERT_EQ(numbers.size(), 2U);
  for (const float p : numbers) EXPECT_TRUE(p >= 0 && p <= 1) << p;

  run_well({"features", folder / "mine.toml", "--data", odd, "--out", folder / "x.csv"});
  const std::vector<std::string> header = CsvReader(folder / "x.csv").header();
  const std::set<std::string> names(header.begin(), header.end());
  for (const char* name :
       {"tempo", "duration_ms", "pca.0", "pca.2", "key=11", "key=?", "mode=1", "time_signature"})
    EXPECT_TRUE(names.contains(name)) << name;
  EXPECT_FALSE(names.contains("loudness")) << "what another encoder reads is no input of the predictor";
}

INSTANTIATE_TEST_SUITE_P(
    All, EncoderTest,
    ::testing::Values(
        Pipeline{"logistic", "[train]\ntrainer = \"logistic\"\n"},
        Pipeline{"svm_isotonic_on_folds",
                 "[train]\ntrainer = \"svm\"\n[cross_validation]\nfolds = 4\n"
                 "[calibration]\nmethod = \"isotonic\"\non = \"folds\"\n"},
        Pipeline{"network_platt",
                 "[train]\ntrainer = \"network\"\nhidden = [16]\nactivation = \"tanh\"\nbatch = 100\n"
                 "epochs = 40\npatience = 5\n[calibration]\nmethod = \"platt\"\n"},
        Pipeline{"boosted_isotonic",
                 "[train]\ntrainer = \"boosted\"\ntrees = 60\npatience = 10\n"
                 "[calibration]\nmethod = \"isotonic\"\n"},
        Pipeline{"symmetric_folds",
                 "[train]\ntrainer = \"boosted\"\ngrowth = \"symmetric\"\ntrees = 40\n"
                 "[cross_validation]\nfolds = 4\n"},
        Pipeline{"forest_isotonic_on_folds",
                 "[train]\ntrainer = \"forest\"\ntrees = 20\n[cross_validation]\nfolds = 4\n"
                 "[calibration]\nmethod = \"isotonic\"\non = \"folds\"\n"}),
    [](const auto& parameter) { return parameter.param.name; });

// ---------------------------------------------------------------------------------- command line

TEST(CommandLine, HelpsForEveryCommand) {
  EXPECT_TRUE(contains(run_well({"--help"}).out, "130 interrupted"));
  EXPECT_TRUE(run_well({"--version"}).out.starts_with("tonearm 0."));
  for (const char* command :
       {"train", "compare", "evaluate", "features", "predict", "inspect", "verify", "synth"})
    EXPECT_TRUE(contains(run_well({command, "--help"}).out, command));
  EXPECT_TRUE(contains(run_well({"synth", "hits", "--help"}).out, "--count"));
}

TEST(CommandLine, WrongUsageIsTwo) {
  const auto refused = [](const Arguments& arguments, const std::string& said) {
    expect_refused(run(arguments), {said, "--help"}, 2);
  };
  refused({}, "command");
  refused({"trian"}, "did you mean 'train'?");
  refused({"train"}, "recipe is required");
  refused({"train", "x.toml", "--out", "x.tarm"}, "--data is required");
  refused({"train", "x.toml", "--data", "d", "--out", "x", "--seed", "-1"}, "--seed");
  refused({"train", "x.toml", "--data", "d", "--out", "x", "--seed", "5000000000"}, "--seed");
  refused({"train", "x.toml", "--data", "d", "--out", "x", "--threads", "99999"}, "--threads");
  refused({"train", "x.toml", "--data", "d", "--out", "x", "--sed", "1"}, "--sed");
  refused({"verify", "a", "b"}, "b");
  refused({"synth"}, "command");
}

TEST(Synth, GivesTheSameBytesForTheSameSeed) {
  const Folder folder;
  for (const auto& [name, seed] : {std::pair{"a", "1"}, {"b", "1"}, {"c", "2"}})
    run_well({"synth", "hits", "--count", "100", "--seed", seed, "--out", folder / name});
  EXPECT_EQ(names_in(folder / "a").size(), 6U);
  EXPECT_EQ(text_of(folder / "a" / one_file), text_of(folder / "b" / one_file));
  EXPECT_NE(text_of(folder / "a" / one_file), text_of(folder / "c" / one_file));
  expect_refused(run({"synth", "hits", "--count", "3", "--out", folder / "d"}), {"at least 12"});
}

}  // namespace
}  // namespace tonearm
