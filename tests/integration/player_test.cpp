// examples/player, run as a person would: on a generated log, on typed lines, across a restart, on bad input.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <sstream>

#include "command.h"
#include "data/sessions.h"
#include "features/replay.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

// command.h runs one program. Here that is a shell, which becomes the program that is given, with a file as
// its input.
Result run_program(const char* program, const Arguments& arguments, const std::string& input = "/dev/null") {
  return run(Arguments{"-c", "exec \"$@\" < \"$0\"", input, program} + arguments);
}
Result play(const Arguments& arguments) { return run_program(TONEARM_PLAYER, arguments); }

std::string play_well(const Arguments& arguments) {
  const Result result = play(arguments);
  EXPECT_EQ(result.status, 0) << ::testing::PrintToString(arguments);
  EXPECT_EQ(result.error, "");
  return result.out;
}

void run_command(const Arguments& arguments) {
  const Result result = run_program(TONEARM_PROGRAM, arguments);
  ASSERT_EQ(result.status, 0) << result.error;
}

/// Generated sessions and a model of them; the same for all tests.
struct Made {
  Folder folder;
  std::string sessions = folder / "sessions", log = sessions + "/log_synthetic_00000.csv",
              tracks = sessions + "/tf_synthetic_00000.csv";
  std::string model = folder / "model.tarm";

  // Enough trees to read every column: a fact that the player does not pass on changes an answer.
  Made() {
    run_command({"synth", "sessions", "--count", "40", "--seed", "1", "--out", sessions});
    run_command({"train", recipe("skip"), "--data", sessions, "--out", model, "--set", "train.trees=100",
                 "--set", "train.min_leaf_rows=5"});
  }
};
const Made& made() {
  static const Made once;
  return once;
}

const Arguments second = {"--session", "2"}, numbers = {"--numbers"};
Arguments on_log(const std::string& model = made().model) {
  return {model, made().log, "--tracks", made().tracks};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::size_t characters(const std::string& line) {  // of UTF-8
  return static_cast<std::size_t>(
      std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// The probabilities that --numbers prints, by position and horizon.
using Answers = std::map<std::pair<int, int>, float>;
Answers answers_in(const std::string& text) {
  Answers answers;
  for (const std::string& line : lines_of(text)) {
    int position = 0, horizon = 0;
    float probability = -1;
    EXPECT_EQ(std::sscanf(line.c_str(), "%d,%d,%g", &position, &horizon, &probability), 3) << line;
    answers[{position, horizon}] = probability;
  }
  return answers;
}

/// The lines of the tracks after the first `count`.
std::string after(const std::string& text, int count) {
  std::string rest;
  for (const std::string& line : lines_of(text))
    if (std::stoi(line) > count) rest += line + "\n";
  return rest;
}

std::string read_lines(const std::string& file, std::size_t count) {
  const auto lines = lines_of(text_of(file));
  std::string text;
  for (std::size_t i = 0; i < std::min(count, lines.size()); ++i) text += lines[i] + "\n";
  return text;
}

/// One sentence on stderr.
void expect_refused(const Result& result, const std::string& part, int status = 1) {
  EXPECT_EQ(result.status, status) << result.out << result.error;
  EXPECT_TRUE(result.error.starts_with("player: ")) << result.error;
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  EXPECT_TRUE(contains(result.error, part));
}

// ----------------------------------------------------------------------------------------- a log

TEST(PlayerTest, AnswersAsTheConverterMeasures) {
  const Recipe settings = Recipe::from_text("[data]\nadapter = \"mssd\"\n", "recipe.toml");
  Threads threads(1);
  const auto logs = open_logs(settings.root().section("data"), made().sessions, {}, threads);
  const auto bytes = read_file(made().model);
  const Blob blob({bytes.begin(), bytes.end()}, made().model);
  Questions questions;
  questions.upcoming = false;
  Replay replay(blob, logs->columns(), questions);
  int session = 0, compared = 0;
  logs->read(0, [&](const Log& log) {
    ++session;
    const Answers answers =
        answers_in(play_well(on_log() + numbers + Arguments{"--session", std::to_string(session)}));
    Replayed replayed;
    replay.run(log, replayed);
    compared += static_cast<int>(replayed.examples.size());
    for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
      const Example& example = replayed.examples[i];
      const std::pair<int, int> asked = {static_cast<int>(example.ended + 1), example.horizon};
      ASSERT_TRUE(answers.contains(asked));
      EXPECT_EQ(answers.at(asked), replayed.outputs[i]) << asked.first << " " << asked.second;
    }
  });
  EXPECT_EQ(session, 40);
  EXPECT_GT(compared, 40 * 40);
}

TEST(PlayerTest, ReadsFactsOfTracksFromTheLogAsFromTheirTable) {
  std::map<std::string, std::string> facts;  // by track, with the comma before them
  for (const std::string& line : lines_of(text_of(made().tracks)))
    facts[line.substr(0, line.find(','))] = line.substr(line.find(','));
  std::string joined;
  for (const std::string& line : lines_of(read_lines(made().log, 80))) {
    std::istringstream cells(line);
    std::string track;
    for (int i = 0; i < 4; ++i) std::getline(cells, track, ',');
    joined += line + facts.at(track == "track_id_clean" ? "track_id" : track) + "\r\n";
  }
  const Folder folder;
  write_file(folder / "log.csv", joined);
  EXPECT_EQ(play_well({made().model, folder / "log.csv", "--numbers", "--session", "2"}),
            play_well(on_log() + numbers + second));
  EXPECT_NE(play_well({made().model, made().log, "--numbers", "--session", "2"}),
            play_well(on_log() + numbers + second))
      << "the facts should matter";
}

TEST(PlayerTest, DrawsEveryTrackAndItsQueueInAHundredColumns) {
  const std::size_t tracks =
      static_cast<std::size_t>(answers_in(play_well(on_log() + numbers)).rbegin()->first.first);
  const std::string out = play_well(on_log());
  std::size_t drawn = 0;
  for (const std::string& line : lines_of(out)) {
    EXPECT_LE(characters(line), 100u) << line;
    const bool is_track = line.find("right ") != line.npos || line.find("WRONG ") != line.npos;
    drawn += is_track && line.find("█") != line.npos;
  }
  EXPECT_EQ(drawn, tracks) << out;
  EXPECT_TRUE(contains(out, "GENERATED"));
  EXPECT_TRUE(contains(out, std::to_string(tracks) + " tracks of 1 session."));
  EXPECT_TRUE(contains(out, "by P(skip)"));
  EXPECT_EQ(play_well(on_log()), out);

  const std::string stopped = play_well(on_log() + Arguments{"--until", "4"});
  EXPECT_TRUE(contains(stopped, "The queue after track 4\n  next "));
}

/// MB fetched by the policies, in the order they are printed.
std::vector<double> fetched_in(const std::string& out) {
  std::vector<double> fetched;
  for (const char* policy : {"  always: the whole playing and next track ", "  by P(skip) ",
                             "  the same rule, P(skip) = 50 % always ", "  on demand: ten seconds ahead "}) {
    const std::size_t at = out.find(policy);
    EXPECT_NE(at, out.npos) << policy;
    if (at != out.npos) fetched.push_back(std::stod(out.substr(at + std::string(policy).size())));
  }
  return fetched;
}

TEST(PlayerTest, ComparesPoliciesOverAllSessions) {
  const std::string out = play_well(on_log() + Arguments{"--all"});
  EXPECT_TRUE(contains(out, " of 40 sessions"));
  const auto fetched = fetched_in(out);
  ASSERT_EQ(fetched.size(), 4u);
  EXPECT_GT(fetched[0], fetched[1]);
  EXPECT_GT(fetched[1], fetched[3]);
  EXPECT_GT(fetched[3], 0);

  // On a link barely faster than the music nobody can fetch much ahead, and everybody waits longer.
  const auto slow = fetched_in(play_well(on_log() + Arguments{"--all", "--link", "45"}));
  EXPECT_LT(slow.at(0), fetched[0]);
}

TEST(PlayerTest, WhatIsSaidOfATrackDoesNotDependOnHowItEnds) {
  // Two logs that differ only in how the last track ends.
  const Folder folder;
  const auto with_end = [&](const std::string& skips, const std::string& reason) {
    std::string log = read_lines(made().log, 8), cell, last;
    std::istringstream row(lines_of(text_of(made().log))[8]);
    for (int i = 0; std::getline(row, cell, ','); ++i) {
      if (i == 4) last += skips;
      if (i < 4 || (i > 7 && i < 20)) last += cell + ",";
    }
    write_file(folder / "log.csv", log + last + reason + "\n");
    return play_well({made().model, folder / "log.csv", "--tracks", made().tracks, "--numbers"});
  };
  const std::string skipped = with_end("true,true,true,false,", "fwdbtn");
  EXPECT_EQ(skipped, with_end("false,false,false,true,", "trackdone"));
  EXPECT_EQ(answers_in(skipped).rbegin()->first.first, 8);
}

// ------------------------------------------------------------------------------- save and restore

class RestartTest : public ::testing::Test {
 protected:
  /// Plays six tracks, saves, lets `damage` change the file, and goes on in another process.
  Result restart(const std::function<void(std::string&)>& damage = {},
                 const std::string& model = made().model) {
    const std::string before =
        play_well(on_log() + numbers + second + Arguments{"--until", "6", "--save", saved()});
    EXPECT_EQ(before + after(uninterrupted(), 6), uninterrupted());
    EXPECT_FALSE(fs::exists(saved() + ".tmp"));
    std::string bytes = text_of(saved());
    if (damage) {
      damage(bytes);
      write_file(saved(), bytes);
    }
    return play(on_log(model) + numbers + second + Arguments{"--restore", saved()});
  }
  static std::string uninterrupted(const std::string& model = made().model) {
    return play_well(on_log(model) + numbers + second);
  }
  std::string saved() const { return folder_ / "saved"; }

  static constexpr std::size_t image = 112;  // where it begins
  Folder folder_;
};

TEST_F(RestartTest, GoesOnWithTheSameProbabilities) {
  const Result result = restart();
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.out, after(uninterrupted(), 6));
  EXPECT_GT(lines_of(result.out).size(), 10u);
}

TEST_F(RestartTest, SavesAgainOverTheSameFile) {
  const Arguments log = on_log() + second + numbers, save = {"--save", saved()},
                  restore = {"--restore", saved()};
  std::string out = play_well(log + save + Arguments{"--until", "3"});
  out += play_well(log + restore + save + Arguments{"--until", "5"});
  out += play_well(log + restore + save);
  EXPECT_EQ(out, uninterrupted());
  expect_refused(play(log + restore), "no track is left");
}

TEST_F(RestartTest, RebuildsTheSessionForAnotherModel) {
  const std::string other = folder_ / "other.tarm";
  run_command({"train", recipe("skip"), "--data", made().sessions, "--out", other, "--set", "train.trees=9"});
  const Result result = restart({}, other);
  EXPECT_EQ(result.status, 0);
  EXPECT_TRUE(contains(result.error, "rebuilt from the events"));
  EXPECT_EQ(result.out, after(uninterrupted(other), 6));
  EXPECT_NE(result.out, after(uninterrupted(), 6));
}

TEST_F(RestartTest, RebuildsTheSessionFromTheEventsIfTheImageIsDamaged) {
  for (const std::size_t at : {image, image + 40, image + 300}) {
    const Result result = restart([&](std::string& bytes) { bytes[at] = static_cast<char>(bytes[at] ^ 4); });
    EXPECT_EQ(result.status, 0) << at;
    EXPECT_TRUE(contains(result.error, "rebuilt from the events")) << at;
    EXPECT_EQ(result.out, after(uninterrupted(), 6)) << at;
  }
}

TEST_F(RestartTest, NeedsNoEventsIfTheImageIsSound) {
  const Result result =
      restart([](std::string& bytes) { bytes.back() = static_cast<char>(bytes.back() ^ 1); });
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.out, after(uninterrupted(), 6));
}

TEST_F(RestartTest, BeginsAnEmptySessionIfBothAreDamaged) {
  const Result result = restart([](std::string& bytes) { bytes.resize(image + 10); });
  EXPECT_EQ(result.status, 0);
  EXPECT_TRUE(contains(result.error, "an empty session begins"));
  EXPECT_EQ(lines_of(result.out).size(), lines_of(after(uninterrupted(), 6)).size());
  EXPECT_NE(result.out, after(uninterrupted(), 6));
}

TEST_F(RestartTest, RefusesWhatItDidNotSave) {
  expect_refused(restart([](std::string& bytes) { bytes.clear(); }), "not a session that this program saved");
  expect_refused(restart([](std::string& bytes) { bytes[0] = 'X'; }),
                 "not a session that this program saved");
  fs::remove(saved());
  expect_refused(play(on_log() + second + Arguments{"--restore", saved()}), "cannot be opened");
  restart();
  expect_refused(play(on_log() + Arguments{"--session", "3", "--restore", saved()}),
                 "was saved in the session");
  expect_refused(play(on_log() + second + Arguments{"--save", folder_ / "none" / "saved"}),
                 "cannot be written");
}

// ----------------------------------------------------------------------------------- typed events

Result type(const std::string& text, const Arguments& more = {}) {
  const Folder folder;
  write_file(folder / "typed", text);
  return run_program(TONEARM_PLAYER, Arguments{made().model, "--type"} + more, folder / "typed");
}

TEST(TypingTest, AnswersAboutWhatPlaysAndTheQueue) {
  const Result result = type(
      "queue B C\nstart A clickrow 180\nend fwdbtn 12000\nstart B fwdbtn 200\nend trackdone "
      "200000\nquit\nfoo\n");
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.error, "");
  std::vector<std::string> seen;
  for (const std::string& line : lines_of(result.out))
    if (line.starts_with("  ")) seen.push_back(line.substr(0, line.find("  ", 9)));
  const std::vector<std::string> expected = {
      "  next  B", "  2nd   C", "  plays A", "  next  B", "  2nd   C",          "  that was a skip",
      "  next  B", "  2nd   C", "  plays B", "  next  C", "  that was no skip", "  next  C"};
  EXPECT_EQ(seen, expected) << result.out;
}

TEST(TypingTest, AnswersEveryMistakeWithOneSentenceAndGoesOn) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"foo", "'foo' is not known; there are start, end, queue and quit"},
      {"end fwdbtn 100", "nothing plays: start a track first"},
      {"start", "start needs a track and a reason"},
      {"start A", "start needs a track and a reason"},
      {"start A nonsense", "'nonsense' is not a reason"},
      {"start A fwdbtn long", "'long' is not how many seconds a track is long"},
      {"start A fwdbtn -1", "'-1' is not how many seconds a track is long"},
      {"start A fwdbtn 1 more", "'more' is one word too many"},
      {"queue", "the queue is empty"}};
  for (const auto& [line, sentence] : mistakes) {
    const Result result = type(std::string(line) + "\n");
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.error, "");
    const auto lines = lines_of(result.out);
    ASSERT_EQ(lines.size(), 4u) << result.out;  // the model, how to type, and the sentence
    EXPECT_TRUE(contains(lines.back(), sentence));
  }
  const std::string out = type("start A clickrow 180\nend\nend nonsense\nend fwdbtn x\nend fwdbtn 1 2\n" +
                               std::string(3000, 'x') + "\nstart B fwdbtn 180\nend fwdbtn")
                              .out;
  for (const char* sentence :
       {"end needs a reason", "'nonsense' is not a reason", "'x' is not how many milliseconds",
        "'2' is one word too many", "that line is too long", "(the track before ends",
        "whether that was a skip depends"})
    EXPECT_TRUE(contains(out, sentence));
}

TEST(TypingTest, GoesOnAfterARestart) {
  const Folder folder;
  const std::string saved = folder / "saved";
  EXPECT_EQ(type("start A clickrow 180\nend fwdbtn 5000\nstart B fwdbtn 200\n", {"--save", saved}).status, 0);
  const Result result = type("end fwdbtn 9000\n", {"--restore", saved});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.error, "");
  EXPECT_TRUE(contains(result.out, "that was a skip"));
  expect_refused(play(on_log() + Arguments{"--restore", saved}), "was saved in the session (typed)");
}

// -------------------------------------------------------------------------------------- bad input

TEST(PlayerTest, RefusesBrokenFilesWithOneSentence) {
  const Folder folder;
  const std::string good = read_lines(made().log, 30);
  const std::size_t row = good.find('\n') + 1, row_end = good.find('\n', row);
  const auto refuse = [&](const std::string& text, const std::string& part) {
    write_file(folder / "log.csv", text);
    expect_refused(play({made().model, folder / "log.csv", "--all"}), part);
  };
  const auto changed = [&](std::size_t from, const std::string& before, const std::string& now) {
    std::string text = good;
    const std::size_t at = text.find(before, from);
    EXPECT_NE(at, text.npos) << before;
    return text.replace(at, before.size(), now);
  };
  refuse("", "log.csv is empty");
  refuse("\n\n", "log.csv is empty");
  refuse(good.substr(0, row), "has no rows");
  refuse(changed(0, "skip_2", "skip_9"), "has no column skip_2");
  refuse("a,b\n1,2\n", "has no column session_id");
  refuse(good.substr(0, good.rfind(',', row_end)) + "\n",
         "line 2 has 20 columns, but the first line names 21");
  refuse(changed(row, "\n", ",\n"), "line 2 has 22 columns, but the first line names 21");
  refuse(changed(row, ",false,", ",perhaps,"), "line 2, column 5: 'perhaps' is not a number");
  refuse(changed(row, ",false,", ",2,"), "line 2, skip_1: '2' should be true, false, 1 or 0");
  refuse(changed(row, ",2018-", ",yesterday-"), "date: 'yesterday-");
  refuse(good + std::string(9000, 'x'), "line 31 is longer than");
  refuse("\x1f\x8b\x08", "is compressed: run gunzip on it first");
  expect_refused(play({made().model, folder / "none.csv"}), "none.csv cannot be opened");
  expect_refused(play(on_log() + Arguments{"--session", "41"}), "has fewer than 41 sessions");

  const auto refuse_tracks = [&](const std::string& text, const std::string& part) {
    write_file(folder / "tf.csv", text);
    expect_refused(play({made().model, made().log, "--tracks", folder / "tf.csv"}), part);
  };
  refuse_tracks("", "tf.csv is empty");
  refuse_tracks("duration\n3\n", "has no column track_id");
  refuse_tracks("track_id,duration\na,long\n", "line 2, column 2: 'long' is not a number");

  expect_refused(play({made().log, made().log}), "log_synthetic_00000.csv: ");
  expect_refused(play({folder / "none.tarm", made().log}), "none.tarm cannot be opened");
  const std::string golden = TONEARM_SOURCE_DIR "/tests/conformance/";
  expect_refused(play({golden + "format-1.0/network.tarm", made().log}), "is a model of single tracks");
  expect_refused(play({golden + "format-1.1/session-encoders.tarm", made().log}), "one probability");
}

TEST(PlayerTest, WordsThatAreNotKnownAreUnknown) {
  const Folder folder;
  std::string log = read_lines(made().log, 12);
  for (std::size_t at; (at = log.find(",trackdone")) != log.npos;) log.replace(at, 10, ",finished");
  write_file(folder / "log.csv", log);
  EXPECT_TRUE(contains(play_well({made().model, folder / "log.csv"}), " unknown "));
}

TEST(PlayerTest, RefusesWrongUsage) {
  const std::pair<Arguments, const char*> wrong[] = {
      {{}, "a model is missing"},
      {{made().model}, "either a log or --type is needed"},
      {on_log() + Arguments{"--type"}, "either a log or --type is needed"},
      {on_log() + Arguments{"--nonsense"}, "unknown option: --nonsense"},
      {on_log() + Arguments{"more"}, "one argument too many: more"},
      {on_log() + Arguments{"--session"}, "a value is missing after --session"},
      {on_log() + Arguments{"--session", "0"}, "--session should be a number from 1"},
      {on_log() + Arguments{"--link", "fast"}, "--link should be a number from 1 to 1e+06, not 'fast'"},
      {on_log() + Arguments{"--outage", "300"}, "--outage should be a number from 0 to 299"},
      {on_log() + Arguments{"--all", "--until", "3"}, "--all goes with none of"},
      {{made().model, "--type", "--all"}, "--type goes with none of"}};
  for (const auto& [arguments, part] : wrong) expect_refused(play(arguments), part, 2);
  EXPECT_TRUE(contains(play_well({"--help"}), "usage: example_player"));
}

}  // namespace
}  // namespace tonearm
