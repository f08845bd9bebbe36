// Every command that writes files is killed while it does: afterwards each file is the old one or the new
// one, whole. First at every call that changes a file, one after the other; then (a long test) at any moment.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <set>

#include "base/random.h"
#include "command.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

/// What commands read: generated once.
struct Inputs {
  Folder folder;
  std::string hits = folder / "hits", sessions = folder / "sessions";
  std::string table = folder / "table.tarm", session = folder / "session.tarm",
              boosted = folder / "boosted.tarm";
  std::string network = folder / "network.tarm";
  Arguments few_trees = {"--set", "train.trees=8", "--set", "train.min_leaf_rows=5"};
  Arguments few_epochs = {"--set", "train.epochs=2"};

  Inputs() {
    run_well({"synth", "hits", "--count", "600", "--out", hits});
    run_well({"synth", "sessions", "--count", "40", "--out", sessions});
    run_well({"train", recipe("hit-logistic"), "--data", hits, "--out", table});
    run_well(Arguments{"train", recipe("hit-boosted"), "--data", hits, "--out", boosted} + few_trees);
    run_well(Arguments{"train", recipe("skip"), "--data", sessions, "--out", session} + few_trees);
  }
};
const Inputs& inputs() {
  static const Inputs once;
  return once;
}

/// When a file is whole: it has the same bytes as ever; or, with times in it, the same members; or it is a
/// page.
enum class Whole { bytes, members, page };

/// A command, and the files that it writes into a folder.
struct Case {
  const char* name;
  std::function<Arguments(const fs::path& folder)> arguments;
  std::vector<std::string> files;
  Whole whole = Whole::bytes;
  /// It makes the folder, and keeps what is complete in it.
  bool is_folder = false;
};

std::ostream& operator<<(std::ostream& out, const Case& tested) { return out << tested.name; }

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"train",
       [](const fs::path& folder) {
         return Arguments{"train", recipe("hit-logistic"), "--data", inputs().hits, "--out", folder / "file"};
       },
       {"file"}},
      {"train_sessions",
       [](const fs::path& folder) {
         return Arguments{"train", recipe("skip"), "--data", inputs().sessions, "--out", folder / "file"} +
                inputs().few_trees;
       },
       {"file"}},
      {"train_json",
       [](const fs::path& folder) {
         return Arguments{"train",  recipe("hit-logistic"), "--data", inputs().hits, "--out", "/dev/null",
                          "--json", folder / "file"};
       },
       {"file"},
       Whole::members},
      {"import",
       [](const fs::path& folder) {
         return Arguments{"import", TONEARM_SOURCE_DIR "/tests/fuzz/corpus/lightgbm/forest", "--out",
                          folder / "file"};
       },
       {"file"}},
      {"quantize",
       [](const fs::path& folder) {
         return Arguments{"quantize", inputs().boosted, "--out",     folder / "file", "--leaves",    "int16",
                          "--data",   inputs().hits,    "--weights", "keep",          "--tolerance", "1"};
       },
       {"file"}},
      {"evaluate",
       [](const fs::path& folder) {
         return Arguments{"evaluate", inputs().table, "--data", inputs().hits, "--json", folder / "file"};
       },
       {"file"},
       Whole::members},
      {"predict",
       [](const fs::path& folder) {
         return Arguments{"predict", inputs().table,
                          "--rows",  inputs().hits + "/synthetic-dataset-of-60s.csv",
                          "--out",   folder / "file"};
       },
       {"file"}},
      {"predict_sessions",
       [](const fs::path& folder) {
         return Arguments{"predict", inputs().session, "--rows", inputs().sessions, "--out", folder / "file"};
       },
       {"file"}},
      {"features",
       [](const fs::path& folder) {
         return Arguments{"features", recipe("hit-logistic"), "--data", inputs().hits,
                          "--out",    folder / "file"};
       },
       {"file"}},
      {"features_sessions",
       [](const fs::path& folder) {
         return Arguments{"features", recipe("skip"), "--data", inputs().sessions, "--out", folder / "file"};
       },
       {"file"}},
      {"inspect",
       [](const fs::path& folder) {
         return Arguments{"inspect", inputs().table, "--json", folder / "file"};
       },
       {"file"},
       Whole::members},
      {"verify",
       [](const fs::path& folder) {
         return Arguments{"verify", inputs().table, "--json", folder / "file"};
       },
       {"file"},
       Whole::members},
      {"export",
       [](const fs::path& folder) {
         return Arguments{"export", inputs().table, "--c-array", folder / "file", "--name", "model"};
       },
       {"file"}},
      {"profile",
       [](const fs::path& folder) {
         return Arguments{"profile",  inputs().table, "--runs", "5",      "--cold-runs",
                          "1",        "--evict",      "1",      "--json", folder / "file",
                          "--report", folder / "page"};
       },
       {"file", "page"},
       Whole::page},
      {"explore",
       [](const fs::path& folder) {
         return Arguments{"explore", inputs().sessions, "--json", folder / "file"};
       },
       {"file"},
       Whole::members},
      {"synth_hits",
       [](const fs::path& folder) {
         return Arguments{"synth", "hits", "--count", "300", "--seed", "7", "--out", folder / "made"};
       },
       {},
       Whole::bytes,
       true},
      {"synth_sessions",
       [](const fs::path& folder) {
         return Arguments{"synth",  "sessions", "--count",   "20", "--shard", "10",           "--gzip",
                          "--seed", "7",        "--threads", "1",  "--out",   folder / "made"};
       },
       {},
       Whole::bytes,
       true},
  };
  return all;
}

bool is_temporary(const fs::path& path) { return path.extension() == ".tmp"; }

/// The files of a folder by their paths in it, but for temporary ones.
std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && !is_temporary(entry.path()))
      found[entry.path().lexically_relative(folder)] = text_of(entry.path());
  return found;
}

std::size_t temporary_files_in(const fs::path& folder) {
  std::size_t count = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    count += is_temporary(entry.path());
  return count;
}

std::set<std::string> members(const std::string& text) {
  std::set<std::string> names;
  const nlohmann::json document = nlohmann::json::parse(text, nullptr, false);
  if (document.is_object())
    for (const auto& [name, value] : document.items()) names.insert(name);
  return names;
}

const std::string old_text(300, 'o');

class KillTest : public testing::TestWithParam<Case> {
 protected:
  KillTest() {
    put_old();
    run_whole();
    expected_ = files_in(folder_.path());
    EXPECT_FALSE(expected_.empty());
    for (const std::string& file : GetParam().files) EXPECT_FALSE(expected_[file] == old_text) << file;
  }

  Arguments arguments() const { return GetParam().arguments(folder_.path()); }

  void put_old() const {
    if (GetParam().is_folder) fs::remove_all(folder_ / "made");
    for (const std::string& file : GetParam().files) write_file(folder_ / file, old_text);
  }

  void run_whole() const {
    const Result result = run(arguments());
    ASSERT_EQ(result.status, 0) << result.error;
  }

  bool is_new(const std::string& file, const std::string& text) const {
    const auto expected = expected_.find(file);
    if (expected == expected_.end()) return false;
    if (GetParam().whole == Whole::bytes) return text == expected->second;
    if (file == "page") return text.starts_with("<!") && text.ends_with("</html>\n");
    return !members(text).empty() && members(text) == members(expected->second);
  }

  /// Every file is whole. Returns whether some are new.
  bool check() const {
    bool any_new = false;
    for (const auto& [file, text] : files_in(folder_.path())) {
      const bool written = is_new(file, text);
      any_new |= written;
      EXPECT_TRUE(written || (!GetParam().is_folder && text == old_text))
          << file << " is neither the old nor the new file: " << text.size() << " bytes";
    }
    for (const std::string& file : GetParam().files) EXPECT_TRUE(fs::exists(folder_ / file)) << file;
    return any_new;
  }

  void finish() {
    run_whole();
    check();
    EXPECT_EQ(files_in(folder_.path()).size(), expected_.size());
    EXPECT_EQ(temporary_files_in(folder_.path()), 0u);
  }

  Folder folder_;
  std::map<std::string, std::string> expected_;
};

#ifdef TONEARM_KILL_AT
/// Runs the command with the environment in which it is killed at call `at`; returns whether it was.
bool killed_at(int at, const Arguments& arguments) {
  ::setenv("LD_PRELOAD", TONEARM_KILL_AT, 1);
  ::setenv("KILL_AT", std::to_string(at).c_str(), 1);
  const Result result = run(arguments);
  ::unsetenv("LD_PRELOAD");
  ::unsetenv("KILL_AT");
  EXPECT_TRUE(result.status == 0 || result.status == 128 + SIGKILL) << result.error;
  return result.status != 0;
}

TEST_P(KillTest, AtEveryCallThatChangesAFile) {
  int killed = 0;
  // Of many files in a folder, each is written alike: now this call, now that.
  for (int at = 1;; at += GetParam().is_folder ? 3 : 1) {
    ASSERT_LT(at, 100);
    put_old();
    if (!killed_at(at, arguments())) break;
    ++killed;
    check();
    put_old();
    if (!killed_at(-at, arguments())) continue;  // the order of threads is another each time
    ++killed;
    check();
    if (HasFailure()) return;
  }
  EXPECT_GE(killed, 4);
  RecordProperty("killed", killed);
  // What a killed run has left behind is gone after one that was not killed.
  put_old();
  EXPECT_TRUE(killed_at(-3, arguments()));
  EXPECT_GT(temporary_files_in(folder_.path()), 0u);
  finish();
}
#endif

TEST_P(KillTest, AtAnyMomentLong) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  run_whole();
  const double whole = std::chrono::duration<double>(Clock::now() - start).count();
  Random random(1);
  int killed = 0, written = 0;
  constexpr int times = 40;
  for (int n = 0; n < times; ++n) {
    put_old();
    // Files are written at the end: half of the moments are there.
    const double share = static_cast<double>(random.below(1000)) / 1000;
    const double seconds = whole * (n % 2 == 0 ? 1.1 * share : 0.7 + 0.5 * share);
    {
      const Process process(arguments());  // which is killed at its end
      ::usleep(static_cast<useconds_t>(seconds * 1e6));
      killed += !process.ended();
    }
    written += check();
    if (HasFailure()) return;
  }
  EXPECT_GT(killed, 0);
  RecordProperty("killed", killed);
  RecordProperty("written", written);
  finish();
}

INSTANTIATE_TEST_SUITE_P(Commands, KillTest, testing::ValuesIn(cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace tonearm
