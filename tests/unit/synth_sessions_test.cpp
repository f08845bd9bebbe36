#include "data/synth_sessions.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "base/files.h"
#include "base/random.h"
#include "data/csv.h"
#include "data/facts.h"
#include "folder.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

SynthSessionsResult generate(const fs::path& folder, std::size_t count, std::uint64_t seed,
                             std::size_t shard = 20000, bool gzip = false, unsigned thread_count = 2) {
  Threads threads(thread_count);
  return synth_sessions({.count = count, .seed = seed, .folder = folder, .shard = shard, .gzip = gzip},
                        threads);
}

using Record = std::map<std::string, std::string>;

std::vector<Record> read(const fs::path& path) {
  CsvReader reader(path);
  std::vector<std::string_view> fields;
  std::vector<Record> records;
  while (reader.next(fields)) {
    Record record;
    for (std::size_t i = 0; i < fields.size(); ++i) record[reader.header()[i]] = fields[i];
    records.push_back(std::move(record));
  }
  return records;
}

std::map<std::string, std::vector<unsigned char>> contents(const fs::path& folder) {
  std::map<std::string, std::vector<unsigned char>> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

void save(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string text_of(const fs::path& path) {
  const auto bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

TEST(SynthSessions, ReproduceEveryPublishedFactWithinItsTolerance) {
  const Folder folder;
  generate(folder.path(), 10000, 42);
  Threads threads(2);
  const mssd::Measured measured = mssd::measure(folder.path(), threads);
  EXPECT_EQ(measured.sessions.sessions, 10000);
  EXPECT_EQ(measured.left_out, 0u);
  const auto list = mssd::facts(measured.sessions, measured.tracks);
  std::map<std::string, int> groups;
  for (const auto& fact : list) {
    ++groups[fact.group];
    EXPECT_TRUE(fact.holds()) << fact.group << ": " << fact.name << " is " << fact.here << ", published "
                              << fact.published << " +- " << fact.tolerance << " (" << fact.source << ")";
  }
  EXPECT_EQ(list.size(), 308u);
  EXPECT_EQ(groups.size(), 20u);
  EXPECT_EQ(groups["P(skip_2 | position)"], 20);
  EXPECT_EQ(groups["P(skip_2 | the rows before, oldest first)"], 2 + 4 + 16);
}

// The comparison must be able to fail: labels of the right rate that nothing depends on.
TEST(SynthSessions, CoinFlipsDoNotPassForListeners) {
  mssd::SessionCounts counts;
  Random random(1);
  for (int session = 0; session < 10000; ++session) {
    std::vector<mssd::Row> rows(17);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i].position = static_cast<int>(i) + 1;
      rows[i].skip_1 = rows[i].skip_2 = rows[i].skip_3 = random.uniform() < .5172;
      rows[i].no_pause = i > 0;
      rows[i].start = random.uniform() < .6 ? mssd::start_fwdbtn : mssd::start_trackdone;
      rows[i].end = random.uniform() < .6 ? mssd::end_fwdbtn : mssd::end_trackdone;
    }
    counts.add(rows);
  }
  std::set<std::string> failed;
  for (const auto& fact : mssd::facts(counts, {}))
    if (!fact.holds()) failed.insert(fact.group);
  for (const char* group :
       {"P(skip_2 | position)", "P(skip_2 | the rows before, oldest first)", "autocorrelation of skip_2",
        "P(skip_2 | reason_start)", "reason_start", "pauses"})
    EXPECT_TRUE(failed.count(group)) << group;
}

TEST(SynthSessions, AreInTheSchemaOfTheDataset) {
  const Folder folder;
  const auto result = generate(folder.path(), 300, 7);
  EXPECT_EQ(result.files, 2u);
  EXPECT_EQ(CsvReader(folder / "log_synthetic_00000.csv").header(),
            (std::vector<std::string>{"session_id",
                                      "session_position",
                                      "session_length",
                                      "track_id_clean",
                                      "skip_1",
                                      "skip_2",
                                      "skip_3",
                                      "not_skipped",
                                      "context_switch",
                                      "no_pause_before_play",
                                      "short_pause_before_play",
                                      "long_pause_before_play",
                                      "hist_user_behavior_n_seekfwd",
                                      "hist_user_behavior_n_seekback",
                                      "hist_user_behavior_is_shuffle",
                                      "hour_of_day",
                                      "date",
                                      "premium",
                                      "context_type",
                                      "hist_user_behavior_reason_start",
                                      "hist_user_behavior_reason_end"}));
  EXPECT_EQ(CsvReader(folder / "tf_synthetic_00000.csv").header(),
            (std::vector<std::string>{"track_id",
                                      "duration",
                                      "release_year",
                                      "us_popularity_estimate",
                                      "acousticness",
                                      "beat_strength",
                                      "bounciness",
                                      "danceability",
                                      "dyn_range_mean",
                                      "energy",
                                      "flatness",
                                      "instrumentalness",
                                      "key",
                                      "liveness",
                                      "loudness",
                                      "mechanism",
                                      "mode",
                                      "organism",
                                      "speechiness",
                                      "tempo",
                                      "time_signature",
                                      "valence",
                                      "acoustic_vector_0",
                                      "acoustic_vector_1",
                                      "acoustic_vector_2",
                                      "acoustic_vector_3",
                                      "acoustic_vector_4",
                                      "acoustic_vector_5",
                                      "acoustic_vector_6",
                                      "acoustic_vector_7"}));

  const auto tracks = read(folder / "tf_synthetic_00000.csv");
  EXPECT_EQ(tracks.size(), result.tracks);
  std::set<std::string> ids;
  for (const auto& track : tracks) {
    ids.insert(track.at("track_id"));
    EXPECT_TRUE(track.at("mode") == "major" || track.at("mode") == "minor");
    const int year = std::stoi(track.at("release_year"));
    EXPECT_TRUE(year >= 1950 && year <= 2019) << year;
    for (const char* column : {"acousticness", "energy", "valence", "us_popularity_estimate"}) {
      const double value = std::stod(track.at(column));
      EXPECT_TRUE(value >= 0 && value <= (std::string(column) == "us_popularity_estimate" ? 100 : 1))
          << column;
    }
  }
  EXPECT_EQ(ids.size(), tracks.size());

  std::string session;
  int position = 0, length = 0, sessions = 0;
  for (const auto& row : read(folder / "log_synthetic_00000.csv")) {
    if (row.at("session_id") != session) {
      EXPECT_EQ(position, length);  // the one before was complete
      EXPECT_GT(row.at("session_id"), session) << "not in order";
      session = row.at("session_id");
      length = std::stoi(row.at("session_length"));
      EXPECT_TRUE(length >= 10 && length <= 20) << length;
      position = 0;
      ++sessions;
    }
    ASSERT_EQ(std::stoi(row.at("session_position")), ++position);
    ASSERT_EQ(std::stoi(row.at("session_length")), length);
    EXPECT_TRUE(contains(row.at("session_id"), "synthetic"));
    EXPECT_TRUE(contains(row.at("track_id_clean"), "synthetic"));
    ASSERT_TRUE(ids.count(row.at("track_id_clean")));
    for (const char* column :
         {"skip_1", "skip_2", "skip_3", "not_skipped", "premium", "hist_user_behavior_is_shuffle"})
      ASSERT_TRUE(row.at(column) == "true" || row.at(column) == "false") << column;
    const auto is = [&](const char* column) { return row.at(column) == "true" || row.at(column) == "1"; };
    ASSERT_LE(is("skip_1"), is("skip_2"));
    ASSERT_LE(is("skip_2"), is("skip_3"));
    ASSERT_FALSE(is("skip_3") && is("not_skipped"));
    // The pause flags: none on the first row, then no_pause or long_pause; short only with long.
    ASSERT_EQ(is("no_pause_before_play") + is("long_pause_before_play"), position == 1 ? 0 : 1);
    ASSERT_LE(is("short_pause_before_play"), is("long_pause_before_play"));
    ASSERT_FALSE(position == 1 && is("context_switch"));
    ASSERT_FALSE(row.at("context_type") == "radio" && is("hist_user_behavior_is_shuffle"));
    ASSERT_LT(std::stoi(row.at("hour_of_day")), 24);
    const std::string& date = row.at("date");
    ASSERT_EQ(date.size(), 10u);
    ASSERT_TRUE(date >= "2018-05-01" && date <= "2018-07-15") << date;
  }
  EXPECT_EQ(position, length);
  EXPECT_EQ(sessions, 300);
}

TEST(SynthSessions, SameSeedSameBytesForAnyNumberOfThreads) {
  const Folder folder;
  for (unsigned threads = 1; threads <= 3; ++threads)
    generate(folder / std::to_string(threads), 250, 5, 100, false, threads);
  generate(folder / "other", 250, 6, 100);
  const auto one = contents(folder / "1");
  EXPECT_EQ(one.size(), 5u);  // three logs, a table of tracks, synthetic.json
  EXPECT_EQ(contents(folder / "2"), one);
  EXPECT_EQ(contents(folder / "3"), one);
  EXPECT_NE(contents(folder / "other").at("log_synthetic_00001.csv"), one.at("log_synthetic_00001.csv"));
}

TEST(SynthSessions, ShardsOnlyCutTheStream) {
  const Folder folder;
  generate(folder / "one", 90, 5, 90);
  generate(folder / "three", 90, 5, 40, true);
  std::vector<Record> joined;
  for (const char* name :
       {"log_synthetic_00000.csv.gz", "log_synthetic_00001.csv.gz", "log_synthetic_00002.csv.gz"})
    for (auto& record : read(folder / "three" / name)) joined.push_back(std::move(record));
  EXPECT_EQ(joined, read(folder / "one" / "log_synthetic_00000.csv"));
  EXPECT_EQ(read(folder / "three" / "tf_synthetic_00000.csv.gz"),
            read(folder / "one" / "tf_synthetic_00000.csv"));
}

TEST(SynthSessions, ContinueWhereTheyWereInterrupted) {
  const Folder folder;
  generate(folder.path(), 120, 5, 40);
  const auto complete = contents(folder.path());
  fs::remove(folder / "log_synthetic_00001.csv");
  const auto result = generate(folder.path(), 120, 5, 40);
  EXPECT_EQ(result.files, 4u);
  EXPECT_EQ(result.kept, 3u);
  EXPECT_EQ(contents(folder.path()), complete);

  const std::string message = error_of([&] { generate(folder.path(), 120, 6, 40); });
  EXPECT_TRUE(contains(message, "other parameters"));
  EXPECT_TRUE(contains(message, folder.path().string()));
  EXPECT_EQ(contents(folder.path()), complete);
}

TEST(SynthSessions, WrongRequestsGetOneSentence) {
  const Folder folder;
  EXPECT_EQ(error_of([&] { generate(folder / "a", 0, 1); }), "cannot make 0 sessions; at least 1 is needed");
  EXPECT_TRUE(contains(error_of([&] { generate(folder / "a", 10, 1, 0); }), "shard of 0 sessions"));
  EXPECT_FALSE(fs::exists(folder / "a"));
  save(folder / "file", "");
  EXPECT_TRUE(
      contains(error_of([&] { generate(folder / "file" / "inside", 10, 1); }), "cannot create the folder"));
  save(folder / "log_real.csv", "x\n");
  EXPECT_TRUE(contains(error_of([&] { generate(folder.path(), 10, 1); }), "log_real.csv"));
}

TEST(Facts, NameFileLineAndColumnOfWhatIsWrong) {
  const Folder folder;
  Threads threads(1);
  const auto error = [&] { return error_of([&] { mssd::measure(folder.path(), threads); }); };
  EXPECT_TRUE(contains(error(), "there are no log_*.csv files"));
  EXPECT_TRUE(
      contains(error_of([&] { mssd::measure(folder / "missing", threads); }), "cannot read the folder"));

  generate(folder.path(), 20, 1);
  const fs::path log = folder / "log_synthetic_00000.csv";
  const std::string good = text_of(log);
  std::string bad = good;
  bad.replace(bad.find("hour_of_day"), 11, "hour");
  save(log, bad);
  EXPECT_TRUE(contains(error(), "there is no column 'hour_of_day'"));

  bad = good;
  const std::size_t line_2 = bad.find('\n') + 1;
  bad.replace(bad.find(",1,", line_2), 3, ",first,");
  save(log, bad);
  EXPECT_TRUE(contains(error(), "line 2, column session_position: expected a whole number, found 'first'"));

  // A category that the published sample does not have is no error: the session is left out, and counted.
  bad = good;
  const std::size_t end = bad.find('\n', line_2), comma = bad.rfind(',', end);
  bad.replace(comma + 1, end - comma - 1, "popup");
  save(log, bad);
  const auto measured = mssd::measure(folder.path(), threads);
  EXPECT_EQ(measured.left_out, 1u);
  EXPECT_EQ(measured.left_out_example, "log_synthetic_00000.csv, line 2");
  EXPECT_EQ(measured.sessions.sessions, 19);
}

}  // namespace
}  // namespace tonearm
