#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "data/sessions.h"
#include "data/table.h"
#include "folder.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

void save(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  fs::remove(path);  // a file written over may wait for the disk, a new one does not
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

void save_gzip(const fs::path& path, const std::string& text) {
  const gzFile file = gzopen(path.c_str(), "wb1");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

/// Texts of cells by the names of their columns.
using Cells = std::map<std::string, std::string>;

std::string csv(const std::vector<std::string>& names, const std::vector<Cells>& rows) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  for (const Cells& row : rows) {
    text += '\n';
    for (const std::string& name : names) text += (name == names[0] ? "" : ",") + row.at(name);
  }
  return text + '\n';
}

std::unique_ptr<LogSource> open(const std::string& data, const fs::path& folder,
                                const std::vector<std::string>& needed = {}, unsigned thread_count = 1) {
  const Recipe recipe = Recipe::from_text("[data]\n" + data, "recipe.toml");
  Threads threads(thread_count);
  auto source = open_logs(recipe.root().section("data"), folder, needed, threads);
  recipe.require_all_known();
  return source;
}

/// A log whose extra columns are its own.
struct KeptLog {
  explicit KeptLog(const Log& log) : identity(log.identity), plays(log.plays) {
    for (const Play& play : plays) {
      EXPECT_EQ(play.track.extra_count + play.start.extra_count, 0u);
      now_extra.emplace_back(play.now.extra, play.now.extra + play.now.extra_count);
      end_extra.emplace_back(play.end.extra, play.end.extra + play.end.extra_count);
    }
  }
  std::uint64_t identity;
  std::vector<Play> plays;
  std::vector<std::vector<float>> now_extra, end_extra;
};

std::vector<KeptLog> read_all(const LogSource& source, unsigned thread_count = 1) {
  std::vector<std::vector<KeptLog>> shards(source.shards());
  Threads threads(thread_count);
  threads.run(shards.size(), [&](std::size_t shard) {
    source.read(shard, [&](const Log& log) { shards[shard].emplace_back(log); });
  });
  std::vector<KeptLog> logs;
  for (const auto& shard : shards) logs.insert(logs.end(), shard.begin(), shard.end());
  return logs;
}

/// Everything in a log as one text, so that logs can be compared.
std::string text_of(const KeptLog& log) {
  std::ostringstream out;
  out << log.identity;
  for (std::size_t i = 0; i < log.plays.size(); ++i) {
    const auto& [track, now, start, end] = log.plays[i];
    out << "\n" << track.track_id << ' ' << track.artist_id;
    for (const float* value = &track.duration; value <= &track.valence; ++value) out << ' ' << *value;
    for (const float value : track.acoustic_vector) out << ' ' << value;
    out << " | " << now.context_type << ' ' << now.time << ' ' << now.utc_offset << ' ' << now.date << ' '
        << now.hour_of_day << ' ' << now.is_shuffle << ' ' << now.premium << " | " << start.reason << ' '
        << start.pause << ' ' << start.context_switch << " | " << end.reason << ' ' << end.skip << ' '
        << end.n_seekfwd << ' ' << end.n_seekback << ' ' << end.ms_played << ' ' << end.time << " |";
    for (const float value : log.now_extra[i]) out << ' ' << value;
    for (const float value : log.end_extra[i]) out << ' ' << value;
  }
  return out.str();
}

std::string text_of(const std::vector<KeptLog>& logs) {
  std::string text;
  for (const KeptLog& log : logs) text += text_of(log) + "\n";
  return text;
}

std::string text_of(const std::vector<LogRemark>& remarks) {
  std::string text;
  for (const LogRemark& remark : remarks)
    text += std::to_string(remark.count) + " " + remark.what + " (" + remark.example + ")\n";
  return text;
}

/// The only remark there is.
LogRemark only_remark(const LogSource& source) {
  const auto remarks = source.remarks();
  EXPECT_EQ(remarks.size(), 1u) << text_of(remarks);
  return remarks.empty() ? LogRemark{} : remarks[0];
}

// --- what recipes are offered --------------------------------------------------------------------------

TEST(LogColumns, AreNamedOnceAndCarryTheirVocabularies) {
  const Folder folder;
  save(folder / "log_0.csv", csv({"session_id"}, {}));
  save(folder / "history.csv", "ts,ms_played,spotify_track_uri,reason_start,reason_end\n");
  const auto source = open("adapter = 'history'\nfiles = 'history.csv'", folder.path());
  std::map<std::string, LogColumn> columns;
  for (const LogColumn& column : source->columns())
    EXPECT_TRUE(columns.emplace(column.name, column).second) << column.name;
  EXPECT_EQ(columns.at("valence").field, schema::Field::Valence);
  EXPECT_EQ(columns.at("acoustic_vector_7").field, schema::Field::AcousticVector7);
  EXPECT_EQ(columns.at("pause").vocabulary, (std::vector<std::string>{"none", "short", "long"}));
  EXPECT_EQ(columns.at("reason_end").vocabulary[TONEARM_REASON_UNEXPECTED_EXIT_WHILE_PAUSED - 1],
            "unexpected-exit-while-paused");
  EXPECT_EQ(columns.at("context_type").vocabulary[TONEARM_CONTEXT_CHARTS - 1], "charts");
  EXPECT_EQ(columns.at("offline").source, schema::Source::Now);
  EXPECT_EQ(columns.at("offline").field, schema::Field::Extra);
  EXPECT_FALSE(columns.contains("session_length"));
  // Every named field of the schema can be had.
  std::vector<bool> offered(static_cast<std::size_t>(schema::Field::Completed) + 1);
  for (const auto& [name, column] : columns) offered[static_cast<std::size_t>(column.field)] = true;
  EXPECT_EQ(std::count(offered.begin(), offered.end(), false), 0);
}

// --- mssd ----------------------------------------------------------------------------------------------

const std::vector<std::string> log_names = {"session_id",
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
                                            "hist_user_behavior_reason_end"};

const std::vector<std::string> track_names = {"track_id",
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
                                              "acoustic_vector_7"};

Cells log_row(const Cells& changes = {}) {
  Cells row = changes;
  row.merge(Cells{{"session_id", "s"},
                  {"session_position", "1"},
                  {"session_length", "10"},
                  {"track_id_clean", "t_a"},
                  {"skip_1", "false"},
                  {"skip_2", "false"},
                  {"skip_3", "false"},
                  {"not_skipped", "true"},
                  {"context_switch", "0"},
                  {"no_pause_before_play", "1"},
                  {"short_pause_before_play", "0"},
                  {"long_pause_before_play", "0"},
                  {"hist_user_behavior_n_seekfwd", "0"},
                  {"hist_user_behavior_n_seekback", "0"},
                  {"hist_user_behavior_is_shuffle", "false"},
                  {"hour_of_day", "16"},
                  {"date", "2018-07-15"},
                  {"premium", "true"},
                  {"context_type", "catalog"},
                  {"hist_user_behavior_reason_start", "trackdone"},
                  {"hist_user_behavior_reason_end", "trackdone"}});
  return row;
}

/// Rows of one session at positions 1 to `count`.
std::vector<Cells> log_session(const std::string& id, unsigned count = 10, const Cells& changes = {}) {
  std::vector<Cells> rows;
  for (unsigned position = 1; position <= count; ++position) {
    Cells row = changes;
    row.merge(Cells{{"session_id", id}, {"session_position", std::to_string(position)}});
    rows.push_back(log_row(row));
  }
  return rows;
}

/// Column i of track number n is n + i / 100, but for the mode.
Cells track_row(const std::string& id, unsigned number) {
  Cells row;
  for (std::size_t i = 0; i < track_names.size(); ++i) {
    char text[64];
    std::snprintf(text, sizeof text, "%u.%02zu", number, i);
    row[track_names[i]] = text;
  }
  row["track_id"] = id;
  row["mode"] = number % 2 == 0 ? "minor" : "major";
  return row;
}

class Mssd : public ::testing::Test {
 protected:
  void logs(const std::vector<Cells>& rows, const std::vector<std::string>& names = log_names) {
    save(folder_ / "log_0.csv", csv(names, rows));
  }
  void tracks(const std::vector<Cells>& rows) { save(folder_ / "tf_0.csv", csv(track_names, rows)); }

  std::unique_ptr<LogSource> source(const std::vector<std::string>& needed = {"hour_of_day"}) {
    return open("adapter = 'mssd'", folder_.path(), needed);
  }
  /// The first play of a file with this row before nine plain ones.
  Play play(const Cells& changes) {
    std::vector<Cells> rows = log_session("s");
    rows[0] = log_row(changes);
    logs(rows);
    return read_all(*source())[0].plays[0];
  }
  std::string error(const std::vector<std::string>& needed = {"hour_of_day"}) {
    return error_of([&] { read_all(*source(needed)); });
  }

  Folder folder_;
};

TEST_F(Mssd, EveryCellOfARowIsRead) {
  const Play play = this->play({{"track_id_clean", "t_x"},
                                {"skip_2", "TRUE"},
                                {"skip_3", "1"},
                                {"not_skipped", "False"},
                                {"context_switch", "1"},
                                {"no_pause_before_play", "0"},
                                {"long_pause_before_play", "1"},
                                {"hist_user_behavior_n_seekfwd", "12"},
                                {"hist_user_behavior_n_seekback", "3"},
                                {"hist_user_behavior_is_shuffle", "True"},
                                {"hour_of_day", "23"},
                                {"date", "01-02-19"},
                                {"premium", "0"},
                                {"context_type", "charts"},
                                {"hist_user_behavior_reason_start", "playbtn"},
                                {"hist_user_behavior_reason_end", "logout"}});
  EXPECT_EQ(play.track.track_id, hash_text("t_x"));
  EXPECT_EQ(play.track.artist_id, 0u);
  EXPECT_TRUE(std::isnan(play.track.duration));
  EXPECT_EQ(play.now.context_type, unsigned{TONEARM_CONTEXT_CHARTS});
  EXPECT_EQ(play.now.time, TONEARM_UNKNOWN_TIME);
  EXPECT_EQ(play.now.utc_offset, TONEARM_UNKNOWN_OFFSET);
  EXPECT_EQ(play.now.date, 20190201u);
  EXPECT_EQ(play.now.hour_of_day, 23);
  EXPECT_EQ(play.now.is_shuffle, 1);
  EXPECT_EQ(play.now.premium, 0);
  EXPECT_EQ(play.start.reason, unsigned{TONEARM_REASON_PLAYBTN});
  EXPECT_EQ(play.start.pause, unsigned{TONEARM_PAUSE_LONG});
  EXPECT_EQ(play.start.context_switch, 1);
  EXPECT_EQ(play.end.reason, unsigned{TONEARM_REASON_LOGOUT});
  EXPECT_EQ(play.end.skip, unsigned{TONEARM_SKIP_BRIEFLY});
  EXPECT_EQ(play.end.n_seekfwd, 12);
  EXPECT_EQ(play.end.n_seekback, 3);
  EXPECT_TRUE(std::isnan(play.end.ms_played));
  EXPECT_EQ(play.end.time, TONEARM_UNKNOWN_TIME);
}

TEST_F(Mssd, EmptyCellsAreUnknownWhereThatHasAMeaning) {
  const Play play = this->play({{"context_switch", ""},
                                {"hist_user_behavior_n_seekfwd", ""},
                                {"hist_user_behavior_is_shuffle", "NA"},
                                {"hour_of_day", ""},
                                {"date", ""},
                                {"premium", ""},
                                {"context_type", ""},
                                {"hist_user_behavior_reason_start", ""},
                                {"hist_user_behavior_reason_end", "unknown"}});
  EXPECT_TRUE(std::isnan(play.start.context_switch));
  EXPECT_TRUE(std::isnan(play.end.n_seekfwd));
  EXPECT_TRUE(std::isnan(play.now.is_shuffle));
  EXPECT_TRUE(std::isnan(play.now.hour_of_day));
  EXPECT_EQ(play.now.date, 0u);
  EXPECT_TRUE(std::isnan(play.now.premium));
  EXPECT_EQ(play.now.context_type, 0u);
  EXPECT_EQ(play.start.reason, 0u);
  EXPECT_EQ(play.end.reason, 0u);
  EXPECT_TRUE(source()->remarks().empty());
}

TEST_F(Mssd, SessionLengthIsAnExtraColumnThatNobodyKnows) {
  logs(log_session("s", 10, {{"session_length", "17"}}));
  const auto source = this->source();
  for (const KeptLog& log : read_all(*source))
    for (const auto& extra : log.end_extra) EXPECT_EQ(extra, std::vector<float>{17});
  std::vector<std::string> never_known;
  for (const LogColumn& column : source->columns()) {
    if (column.never_known) never_known.push_back(column.name);
    EXPECT_EQ(column.field == schema::Field::Extra, column.name == "session_length") << column.name;
  }
  EXPECT_EQ(never_known, std::vector<std::string>{"session_length"});
}

TEST_F(Mssd, TheOrderOfColumnsDoesNotMatterNorDoOthers) {
  const auto rows = log_session("s", 12, {{"hour_of_day", "7"}, {"more", "?"}});
  logs(rows);
  const std::string expected = text_of(read_all(*source()));
  std::vector<std::string> names(log_names.rbegin(), log_names.rend());
  names.insert(names.begin() + 3, "more");
  logs(rows, names);
  EXPECT_EQ(text_of(read_all(*source())), expected);
}

TEST_F(Mssd, ConsecutiveRowsOfOneIdAreASession) {
  auto rows = log_session("s1", 10);
  for (const std::string id : {"s2", "s1"})
    for (const Cells& row : log_session(id, 11)) rows.push_back(row);
  logs(rows);
  const auto source = this->source();
  const auto read = read_all(*source);
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[0].plays.size(), 10u);
  EXPECT_EQ(read[1].plays.size(), 11u);
  EXPECT_EQ(read[0].identity, hash_text("s1"));
  EXPECT_EQ(read[1].identity, hash_text("s2"));
  EXPECT_EQ(read[2].identity, read[0].identity);
  EXPECT_TRUE(source->remarks().empty()) << text_of(source->remarks());
}

TEST_F(Mssd, TheSkipLevelIsTheHighestFlag) {
  struct Case {
    const char *skip_1, *skip_2, *skip_3, *not_skipped;
    tonearm_skip level;
    bool broken;
  };
  for (const Case& one : {Case{"0", "0", "0", "1", TONEARM_SKIP_NOT_SKIPPED, false},
                          Case{"0", "0", "0", "0", TONEARM_SKIP_NEAR_END, false},
                          Case{"0", "0", "1", "0", TONEARM_SKIP_MOSTLY, false},
                          Case{"0", "1", "1", "0", TONEARM_SKIP_BRIEFLY, false},
                          Case{"1", "1", "1", "0", TONEARM_SKIP_VERY_BRIEFLY, false},
                          Case{"1", "0", "1", "0", TONEARM_SKIP_VERY_BRIEFLY, true},
                          Case{"0", "1", "0", "0", TONEARM_SKIP_BRIEFLY, true},
                          Case{"0", "0", "1", "1", TONEARM_SKIP_MOSTLY, true},
                          Case{"1", "1", "1", "1", TONEARM_SKIP_VERY_BRIEFLY, true},
                          Case{"0", "1", "0", "1", TONEARM_SKIP_BRIEFLY, true}}) {
    auto rows = log_session("s");
    rows[4] = log_row({{"session_position", "5"},
                       {"skip_1", one.skip_1},
                       {"skip_2", one.skip_2},
                       {"skip_3", one.skip_3},
                       {"not_skipped", one.not_skipped}});
    logs(rows);
    const auto source = this->source();
    EXPECT_EQ(read_all(*source)[0].plays[4].end.skip, unsigned{one.level});
    if (!one.broken) {
      EXPECT_TRUE(source->remarks().empty());
      continue;
    }
    const LogRemark remark = only_remark(*source);
    EXPECT_TRUE(contains(remark.what, "contradict each other: the highest"));
    EXPECT_EQ(remark.count, 1u);
    EXPECT_EQ(remark.example, (folder_ / "log_0.csv").string() + ":6");
  }
}

TEST_F(Mssd, AShortPauseIsALongOneToo) {
  const auto pause = [&](const char* none, const char* brief, const char* lasting) {
    return play({{"no_pause_before_play", none},
                 {"short_pause_before_play", brief},
                 {"long_pause_before_play", lasting}})
        .start.pause;
  };
  EXPECT_EQ(pause("0", "0", "0"), unsigned{TONEARM_PAUSE_UNKNOWN});
  EXPECT_EQ(pause("1", "0", "0"), unsigned{TONEARM_PAUSE_NONE});
  EXPECT_EQ(pause("0", "0", "1"), unsigned{TONEARM_PAUSE_LONG});
  EXPECT_EQ(pause("0", "1", "1"), unsigned{TONEARM_PAUSE_SHORT});
  EXPECT_EQ(pause("0", "1", "0"), unsigned{TONEARM_PAUSE_SHORT});
  EXPECT_EQ(pause("1", "1", "0"), unsigned{TONEARM_PAUSE_UNKNOWN});
  const auto source = this->source();
  read_all(*source);
  EXPECT_TRUE(contains(only_remark(*source).what, "pauses that contradict each other"));
}

TEST_F(Mssd, RowsOutOfOrderAreSortedAndRepeatedOnesDropped) {
  auto rows = log_session("s", 12);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i]["track_id_clean"] = "t_" + std::to_string(i + 1);
    rows[i]["session_length"] = std::to_string(i + 1);
  }
  logs(rows);
  const std::string expected = text_of(read_all(*source()));
  std::swap(rows[2], rows[7]);
  std::swap(rows[4], rows[5]);
  Cells again = rows[3];
  again["track_id_clean"] = "another";
  rows.insert(rows.begin() + 9, again);  // line 11
  logs(rows);
  const auto source = this->source();
  EXPECT_EQ(text_of(read_all(*source)), expected);
  const std::string file = (folder_ / "log_0.csv").string();
  EXPECT_EQ(text_of(source->remarks()),
            "1 sessions with rows out of the order of session_position: sorted (" + file +
                ":5)\n1 rows with the session_position of an earlier row of their session: dropped (" + file +
                ":11)\n");
}

TEST_F(Mssd, JumpsAndUnusualLengthsAreKept) {
  std::vector<Cells> rows = log_session("jumps", 13);
  rows.erase(rows.begin() + 4);
  for (const Cells& row : log_session("short", 9)) rows.push_back(row);
  for (const Cells& row : log_session("long", 21)) rows.push_back(row);
  auto late = log_session("late", 11);
  late.erase(late.begin());
  for (const Cells& row : late) rows.push_back(row);
  logs(rows);
  const auto source = this->source();
  std::vector<std::size_t> lengths;
  for (const KeptLog& log : read_all(*source)) lengths.push_back(log.plays.size());
  EXPECT_EQ(lengths, (std::vector<std::size_t>{12, 9, 21, 10}));
  const std::string file = (folder_ / "log_0.csv").string();
  EXPECT_EQ(
      text_of(source->remarks()),
      "2 sessions in which session_position does not count from 1 without a gap: read as if nothing were "
      "missing (" +
          file + ":6)\n2 sessions with fewer than 10 or more than 20 tracks: kept (" + file + ":14)\n");
  // Reading once more does not count twice.
  const std::string before = text_of(source->remarks());
  read_all(*source);
  EXPECT_EQ(text_of(source->remarks()), before);
}

TEST_F(Mssd, StrangeWordsAreUnknownAndSaidSo) {
  auto rows = log_session("s");
  rows[1]["context_type"] = "podcast";
  rows[2]["hist_user_behavior_reason_start"] = "Trackdone";
  rows[3]["hist_user_behavior_reason_end"] = "fwdbt";
  rows[4]["hist_user_behavior_reason_end"] = "other";
  logs(rows);
  const auto source = this->source();
  const auto log = read_all(*source)[0];
  EXPECT_EQ(log.plays[1].now.context_type, 0u);
  EXPECT_EQ(log.plays[2].start.reason, 0u);
  EXPECT_EQ(log.plays[3].end.reason, 0u);
  const auto remarks = source->remarks();
  ASSERT_EQ(remarks.size(), 3u) << text_of(remarks);
  EXPECT_TRUE(contains(remarks[0].what, "context_type"));
  EXPECT_TRUE(contains(remarks[1].what, "reason_start"));
  EXPECT_TRUE(contains(remarks[2].what, "reason_end"));
  EXPECT_EQ(remarks[2].count, 2u);
  EXPECT_EQ(remarks[2].example, (folder_ / "log_0.csv").string() + ":5 'fwdbt'");
}

TEST_F(Mssd, TracksComeFromTheTable) {
  auto rows = log_session("s");
  rows[1]["track_id_clean"] = "t_b";
  rows[2]["track_id_clean"] = "t_absent";
  logs(rows);
  auto repeated = track_row("t_a", 9);
  tracks({track_row("t_a", 3), track_row("t_b", 4), repeated});
  const auto source = this->source({});
  const auto plays = read_all(*source)[0].plays;
  EXPECT_FLOAT_EQ(plays[0].track.duration, 3.01f);
  EXPECT_FLOAT_EQ(plays[0].track.popularity, 3.03f);
  EXPECT_FLOAT_EQ(plays[0].track.valence, 3.21f);
  EXPECT_FLOAT_EQ(plays[0].track.acoustic_vector[7], 3.29f);
  EXPECT_EQ(plays[0].track.mode, 1);
  EXPECT_EQ(plays[1].track.mode, 0);
  EXPECT_FLOAT_EQ(plays[1].track.tempo, 4.19f);
  EXPECT_EQ(plays[2].track.track_id, hash_text("t_absent"));
  EXPECT_TRUE(std::isnan(plays[2].track.duration));
  EXPECT_EQ(text_of(source->remarks()),
            "1 rows of the track table with the id of an earlier row: passed over (" +
                (folder_ / "tf_0.csv").string() +
                ":4)\n1 rows with a track that the track table does not have: its features are unknown (" +
                (folder_ / "log_0.csv").string() + ":4)\n");
}

TEST_F(Mssd, OnlyNeededTrackColumnsAreKept) {
  logs(log_session("s"));
  tracks({track_row("t_a", 3)});
  const Play needed = read_all(*source({"energy", "reason_start", "acoustic_vector_2"}))[0].plays[0];
  EXPECT_FLOAT_EQ(needed.track.energy, 3.09f);
  EXPECT_FLOAT_EQ(needed.track.acoustic_vector[2], 3.24f);
  EXPECT_TRUE(std::isnan(needed.track.duration));
  EXPECT_TRUE(std::isnan(needed.track.valence));
  // The share of a track that was played takes its duration.
  EXPECT_FLOAT_EQ(read_all(*source({"played_share"}))[0].plays[0].track.duration, 3.01f);
}

TEST_F(Mssd, LogsWithTrackColumnsNeedNoTable) {
  std::vector<std::string> names = log_names;
  names.insert(names.end(), track_names.begin() + 1, track_names.end());
  auto rows = log_session("s");
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i].merge(track_row("", static_cast<unsigned>(i)));
  logs(rows, names);
  save(folder_ / "tf_0.csv", "this would not be read");
  const auto source = this->source({});
  const auto plays = read_all(*source)[0].plays;
  EXPECT_FLOAT_EQ(plays[3].track.duration, 3.01f);
  EXPECT_FLOAT_EQ(plays[7].track.acoustic_vector[0], 7.22f);
  EXPECT_TRUE(source->remarks().empty());
  // The log's own numbers win over the table's.
  logs(rows, {names.begin(), names.begin() + 22});
  tracks({track_row("t_a", 20)});
  const auto both = read_all(*this->source({}))[0].plays;
  EXPECT_FLOAT_EQ(both[3].track.duration, 3.01f);
  EXPECT_FLOAT_EQ(both[3].track.release_year, 20.02f);
}

TEST_F(Mssd, WithoutATableFeaturesAreUnknownUnlessTheyAreNeeded) {
  logs(log_session("s"));
  const auto source = this->source({});
  EXPECT_TRUE(std::isnan(read_all(*source)[0].plays[0].track.energy));
  EXPECT_TRUE(contains(only_remark(*source).what, "no track table beside them"));
  EXPECT_TRUE(contains(error({"energy"}), "there is no column 'energy', and no track table tf_*.csv in "));
  save(folder_ / "tf_0.csv", "track_id,energie\nt_a,1\n");
  EXPECT_TRUE(contains(error({"energy"}), "tf_0.csv: there is no column 'energy' (did you mean 'energie'?)"));
}

TEST_F(Mssd, WrongCellsAreRefusedWithTheirPlace) {
  const std::map<std::string, std::vector<std::string>> wrong = {
      {"session_id", {""}},
      {"session_position", {"", "-1", "1.5", "x", "1000001", "99999999999999999999"}},
      {"session_length", {"-1", "1.5", "x", "1e9", "inf"}},
      {"track_id_clean", {""}},
      {"skip_1", {"", "yes", "2", "tru", "truee"}},
      {"skip_2", {"-1"}},
      {"skip_3", {"0.5"}},
      {"not_skipped", {"falsey"}},
      {"context_switch", {"2", "x"}},
      {"no_pause_before_play", {"x"}},
      {"short_pause_before_play", {"x"}},
      {"long_pause_before_play", {""}},
      {"hist_user_behavior_n_seekfwd", {"-1", "0.5", "many", "1e30"}},
      {"hist_user_behavior_n_seekback", {"-0.5"}},
      {"hist_user_behavior_is_shuffle", {"maybe", "3"}},
      {"hour_of_day", {"24", "-1", "12.5", "noon"}},
      {"date",
       {"2018-13-01", "2018-02-29", "29-02-18", "00-01-18", "2018/07/15", "15.07.18", "18-07-2015", "x",
        "1969-01-01", "9999-01-01", "ab-cd-ef"}},
      {"premium", {"gold"}}};
  for (const auto& [column, texts] : wrong) {
    for (const std::string& text : texts) {
      auto rows = log_session("s");
      rows[3][column] = text;
      logs(rows);
      const std::string message = error();
      EXPECT_TRUE(contains(
          message, (folder_ / "log_0.csv").string() + ", line 5, column '" + column + "': expected "));
      EXPECT_TRUE(contains(message, "but found '" + text + "'"));
    }
  }
  logs(log_session("s"));
  for (const auto& [column, text] : Cells{
           {"energy", "loud"}, {"mode", "dorian"}, {"tempo", "1e99"}, {"track_id", ""}, {"valence", "inf"}}) {
    Cells row = track_row("t_b", 2);
    row[column] = text;
    tracks({track_row("t_a", 1), row});
    EXPECT_TRUE(contains(error({}), (folder_ / "tf_0.csv").string() + ", line 3, column '" + column + "'"));
  }
}

TEST_F(Mssd, LeapDaysExist) {
  EXPECT_EQ(play({{"date", "2020-02-29"}}).now.date, 20200229u);
  EXPECT_EQ(play({{"date", "29-02-20"}}).now.date, 20200229u);
}

TEST_F(Mssd, FilesThatAreNoLogsAreRefused) {
  EXPECT_TRUE(contains(error(), "no file in " + folder_.path().string() + " is named like 'log_*.csv'"));
  save(folder_ / "log_0.csv", "");
  EXPECT_TRUE(contains(error(), "log_0.csv is empty"));
  logs(log_session("s"), {log_names.begin(), log_names.end() - 1});
  EXPECT_TRUE(contains(error(), "there is no column 'hist_user_behavior_reason_end'"));
  // All headers are looked at before anything is read.
  logs(log_session("s"));
  save(folder_ / "log_1.csv", "a,b\n");
  EXPECT_TRUE(contains(error_of([&] { source(); }), "log_1.csv: there is no column 'session_id'"));
  fs::remove(folder_ / "log_1.csv");
  logs({});
  EXPECT_TRUE(read_all(*source()).empty());
  EXPECT_TRUE(contains(error_of([&] { open("adapter = 'mssd'", folder_ / "absent"); }),
                       "there is no file or folder"));
}

TEST_F(Mssd, ASessionOfMoreThanAMillionRowsIsRefused) {
  std::string text = csv(log_names, {});
  const std::string row = "s,1,10,t,0,0,0,1,0,0,0,0,0,0,0,0,,1,,,\n";
  for (int i = 0; i < 1'000'001; ++i) text += row;
  save_gzip(folder_ / "log_0.csv.gz", text);
  EXPECT_TRUE(contains(error(), "log_0.csv.gz, line 1000002: the session 's' has more than 1,000,000 rows"));
}

TEST_F(Mssd, ShardsAreTheSameForAnyNumberOfThreadsAndCompressed) {
  const Folder packed;
  for (unsigned shard = 0; shard < 5; ++shard) {
    std::vector<Cells> rows, table;
    for (unsigned session = 0; session < 20; ++session)
      for (Cells& row :
           log_session("s" + std::to_string(shard) + std::to_string(session), 8 + session % 15)) {
        row["track_id_clean"] = "t_" + std::to_string((shard * 31 + session * 7 + rows.size()) % 90);
        if (rows.size() % 50 == 49) row["context_type"] = "strange";
        rows.push_back(row);
      }
    for (unsigned track = 0; track < 20; ++track)
      table.push_back(track_row("t_" + std::to_string(shard * 15 + track), shard + track));
    const std::string log_name = "log_" + std::to_string(shard) + ".csv";
    const std::string table_name = "tf_" + std::to_string(shard) + ".csv";
    save(folder_ / log_name, csv(log_names, rows));
    save(folder_ / table_name, csv(track_names, table));
    save_gzip(packed / (log_name + ".gz"), csv(log_names, rows));
    save_gzip(packed / (table_name + ".gz"), csv(track_names, table));
  }
  const auto one = open("adapter = 'mssd'", folder_.path(), {}, 1);
  const std::string logs_of_one = text_of(read_all(*one, 1));
  ASSERT_EQ(one->shards(), 5u);
  EXPECT_EQ(one->shard_name(3), "log_3.csv");
  EXPECT_EQ(one->remarks().size(), 4u) << text_of(one->remarks());
  const auto three = open("adapter = 'mssd'", folder_.path(), {}, 3);
  EXPECT_EQ(text_of(read_all(*three, 3)), logs_of_one);
  EXPECT_EQ(text_of(three->remarks()), text_of(one->remarks()));
  const auto zipped = open("adapter = 'mssd'", packed.path(), {}, 3);
  EXPECT_EQ(text_of(read_all(*zipped, 3)), logs_of_one);
  EXPECT_EQ(zipped->shard_name(3), "log_3.csv.gz");
  EXPECT_FALSE(zipped->synthetic());
}

TEST_F(Mssd, TheFirstBrokenTrackFileIsReportedWhateverTheThreads) {
  logs(log_session("s"));
  for (int i = 0; i < 6; ++i)
    save(folder_ / ("tf_" + std::to_string(i) + ".csv"),
         i < 2 ? csv(track_names, {track_row("t_" + std::to_string(i), 1)}) : "track_id\nt,more\n");
  for (const unsigned threads : {1u, 3u})
    EXPECT_TRUE(contains(error_of([&] { open("adapter = 'mssd'", folder_.path(), {}, threads); }),
                         "tf_2.csv, line 2"));
}

TEST_F(Mssd, FoldersAreNamedByTheRecipe) {
  save(folder_ / "full/training/log_7_synthetic.csv", csv(log_names, log_session("s")));
  save(folder_ / "full/training/other.csv", csv(log_names, log_session("s", 11)));
  save(folder_ / "full/features/tf_0.csv", csv(track_names, {track_row("t_a", 5)}));
  const std::string data =
      "adapter = 'mssd'\nfolder = 'full'\nlogs = 'training'\ntracks = 'features'\n"
      "description = 'all of it'\n";
  const auto source = open(data, folder_.path());
  const auto read = read_all(*source);
  ASSERT_EQ(read.size(), 1u);
  EXPECT_FLOAT_EQ(read[0].plays[0].track.duration, 5.01f);
  EXPECT_TRUE(source->synthetic());
  // The folder itself may be given, too.
  EXPECT_EQ(read_all(*open(data, folder_ / "full")).size(), 1u);
  const auto other = open(data + "files = 'oth*.csv'", folder_.path());
  EXPECT_EQ(read_all(*other)[0].plays.size(), 11u);
  EXPECT_FALSE(other->synthetic());
  EXPECT_TRUE(contains(
      error_of([&] { open("adapter = 'mssd'\nlogs = 'training'\ntracks = 'absent'", folder_ / "full"); }),
      "there is no file or folder"));
  EXPECT_TRUE(contains(error_of([&] { open("adapter = 'csv'", folder_.path()); }),
                       "recipe.toml:2:11: data.adapter is 'csv'; it must be one of: mssd, history"));
  EXPECT_TRUE(contains(error_of([&] { open(data + "utc_offset = 1", folder_.path()); }),
                       "data.utc_offset is not a setting that is used here"));
}

// --- history -------------------------------------------------------------------------------------------

const std::string history_header =
    "user,ts,kind,platform,ms_played,spotify_track_uri,artist_hash,reason_start,reason_end,shuffle,skipped,"
    "offline,"
    "incognito_mode\n";

class History : public ::testing::Test {
 protected:
  void rows(const std::string& text) { save(folder_ / "h.csv", history_header + text); }
  void json(const std::string& text) { save(folder_ / "Streaming_History_Audio_2020.json", text); }
  std::unique_ptr<LogSource> source(const std::string& more = "",
                                    const std::vector<std::string>& needed = {}) {
    return open("adapter = 'history'\n" + more, folder_.path(), needed);
  }
  std::string error() {
    return error_of([&] { read_all(*source()); });
  }

  Folder folder_;
};

constexpr const char* one_row =
    "u,2022-05-22T13:01:24Z,track,android,68545,spotify:track:a,77,clickrow,fwdbtn,True,False,,False\n";

TEST_F(History, EveryCellOfARowIsRead) {
  rows(one_row);
  const auto log = read_all(*source("utc_offset = 5.5"))[0];
  EXPECT_EQ(log.identity, hash_text("u"));
  ASSERT_EQ(log.plays.size(), 1u);
  const Play& play = log.plays[0];
  EXPECT_EQ(play.track.track_id, hash_text("spotify:track:a"));
  EXPECT_EQ(play.track.artist_id, hash_text("77"));
  EXPECT_EQ(play.end.time, 1653224484);
  EXPECT_EQ(play.now.time, 1653224484 - 69);  // 68.545 s before, rounded down
  EXPECT_EQ(play.now.utc_offset, 19800);
  EXPECT_EQ(play.now.date, 0u);
  EXPECT_TRUE(std::isnan(play.now.hour_of_day));
  EXPECT_EQ(play.now.is_shuffle, 1);
  EXPECT_TRUE(std::isnan(play.now.premium));
  EXPECT_EQ(play.start.reason, unsigned{TONEARM_REASON_CLICKROW});
  EXPECT_EQ(play.start.pause, unsigned{TONEARM_PAUSE_UNKNOWN});
  EXPECT_TRUE(std::isnan(play.start.context_switch));
  EXPECT_EQ(play.end.reason, unsigned{TONEARM_REASON_FWDBTN});
  EXPECT_EQ(play.end.skip, unsigned{TONEARM_SKIP_UNKNOWN});
  EXPECT_EQ(play.end.ms_played, 68545);
  EXPECT_TRUE(std::isnan(play.end.n_seekfwd));
  ASSERT_EQ(log.now_extra[0].size(), 2u);
  EXPECT_TRUE(std::isnan(log.now_extra[0][0]));
  EXPECT_EQ(log.now_extra[0][1], 0);
  EXPECT_EQ(read_all(*source())[0].plays[0].now.utc_offset, 0);
}

TEST_F(History, JsonHasTheSameMeaning) {
  save(folder_ / "h.csv",
       "ts,ms_played,master_metadata_album_artist_name,spotify_track_uri,reason_start,reason_end,shuffle,"
       "offline,"
       "incognito_mode\n"
       "2022-05-22T13:01:24Z,68545,\"Some, one\",spotify:track:a,clickrow,fwdbtn,true,,0\n"
       "2022-05-22T13:05:00Z,0,,spotify:track:b,,unexpected-exit,false,true,1\n");
  const std::string expected = text_of(read_all(*source()));
  json(R"([{"ts": "2022-05-22T13:01:24Z", "username": "x", "platform": null, "ms_played": 68545,
    "master_metadata_track_name": "caf\u00e9 ]}", "master_metadata_album_artist_name": "Some, one",
    "spotify_track_uri": "spotify:track:a", "reason_start": "clickrow", "reason_end": "fwdbtn", "shuffle": true,
    "skipped": null, "offline": null, "incognito_mode": false, "offline_timestamp": 1.5e9,
    "nested": {"ts": [1, {"ms_played": -1}], "spotify_track_uri": "no"}},
   {"ms_played": 0, "spotify_track_uri": "spotify:track:b", "ts": "2022-05-22T13:05:00Z", "reason_start": null,
    "reason_end": "unexpected-exit", "shuffle": false, "offline": true, "incognito_mode": true,
    "master_metadata_album_artist_name": null, "spotify_episode_uri": null}])");
  const auto source = this->source();  // JSON comes before CSV
  EXPECT_EQ(source->shard_name(0), "Streaming_History_Audio_2020.json");
  EXPECT_EQ(text_of(read_all(*source)), expected);
  EXPECT_TRUE(source->remarks().empty()) << text_of(source->remarks());
  json("[]");
  EXPECT_TRUE(read_all(*this->source()).empty());
  json("\xef\xbb\xbf [ ] \n");
  EXPECT_TRUE(read_all(*this->source()).empty());
}

TEST_F(History, PlaysOfAListenerAreInTheOrderOfTheirStarts) {
  const auto row = [](const char* user, const char* time, const char* ms, const char* uri) {
    return std::string(user) + ",2022-05-22T" + time + "Z,track,x," + ms + ",spotify:track:" + uri +
           ",,,,,,,\n";
  };
  rows(row("v", "13:10:00", "60000", "c") + row("u", "13:10:00", "60000", "b") +
       row("v", "13:11:00", "600000", "d") + row("v", "13:09:30", "30000", "e") +
       row("u", "13:09:00", "1", "a") + row("v", "13:09:00", "0", "f"));
  const auto logs = read_all(*source());
  ASSERT_EQ(logs.size(), 2u);
  const auto tracks = [](const KeptLog& log) {
    std::vector<std::uint64_t> ids;
    for (const Play& play : log.plays) ids.push_back(play.track.track_id);
    return ids;
  };
  const auto hashes = [](std::initializer_list<const char*> names) {
    std::vector<std::uint64_t> ids;
    for (const char* name : names) ids.push_back(hash_text(std::string("spotify:track:") + name));
    return ids;
  };
  EXPECT_EQ(logs[0].identity, hash_text("v"));
  EXPECT_EQ(tracks(logs[0]), hashes({"d", "c", "e", "f"}));  // c, e and f start at the same moment
  EXPECT_EQ(logs[1].identity, hash_text("u"));
  EXPECT_EQ(tracks(logs[1]), hashes({"a", "b"}));
}

TEST_F(History, WhatIsOddIsCounted) {
  rows(std::string(one_row) + "u,2022-05-22T14:00:00Z,episode,x,5,,,,,,,,\n" +
       "u,2022-05-22T14:01:00Z,track,x,5,,,,,,,,\n" +
       "u,2022-05-22T14:02:00Z,track,x,5,spotify:local:z,,,,,,,\n" + one_row +
       "u,2022-05-22T14:03:00Z,track,x,5,spotify:track:b,,teleport,vanished,,,,\n" +
       "u,2022-05-22T14:04:00Z,track,x,5,spotify:track:b,,unknown,,,,,\n" +
       "v,2022-05-22T13:01:24Z,track,android,68545,spotify:track:a,77,clickrow,fwdbtn,True,False,,False\n");
  save(folder_ / "tracks/t.csv",
       "uri,duration_ms,energy,mode\nspotify:track:b,200500,.5,1\nspotify:track:b,1,1,0\n");
  const auto source = this->source("tracks = 'tracks/t.csv'", {"duration", "mode"});
  const auto logs = read_all(*source);
  ASSERT_EQ(logs.size(), 2u);
  EXPECT_EQ(logs[0].plays.size(), 3u);
  EXPECT_TRUE(std::isnan(logs[0].plays[0].track.duration));
  EXPECT_EQ(logs[0].plays[1].track.duration, 200.5f);
  EXPECT_EQ(logs[0].plays[1].track.mode, 1);
  EXPECT_TRUE(std::isnan(logs[0].plays[1].track.energy));
  EXPECT_EQ(logs[0].plays[1].start.reason, 0u);
  const std::string file = (folder_ / "h.csv").string();
  EXPECT_EQ(
      text_of(source->remarks()),
      "1 rows of the track table with the id of an earlier row: passed over (" +
          (folder_ / "tracks/t.csv").string() + ":3)\n" +
          "2 plays of something else than a track of the catalogue (episodes, local files): left out (" +
          file + ":3)\n1 plays without a spotify_track_uri: left out (" + file +
          ":4)\n1 plays that repeat an earlier one in everything that is read: dropped (" + file +
          ":6)\n2 plays of a track that the track table does not have: its features are unknown (" + file +
          ":2)\n1 plays with a reason_start that is none of the known ones: unknown (" + file +
          ":7 'teleport')\n1 plays with a reason_end that is none of the known ones: unknown (" + file +
          ":7 'vanished')\n");
  // In JSON a place is a byte.
  json(
      R"([ {"ts": "2022-05-22T13:01:24Z", "ms_played": 1, "spotify_track_uri": null, "spotify_episode_uri": "e"}])");
  const auto episodes = this->source();
  EXPECT_TRUE(read_all(*episodes).empty());
  EXPECT_EQ(only_remark(*episodes).example,
            (folder_ / "Streaming_History_Audio_2020.json").string() + ", byte 3");
}

TEST_F(History, EveryFolderOfJsonFilesIsAListener) {
  const auto play = [](const char* uri) {
    return std::string(
               R"({"ts": "2022-05-22T13:01:24Z", "ms_played": 1, "spotify_track_uri": "spotify:track:)") +
           uri + "\"}";
  };
  save(folder_ / "anna/Streaming_History_Audio_1.json", "[" + play("a") + "," + play("b") + "]");
  save(folder_ / "anna/Streaming_History_Audio_2.json", "[" + play("c") + "," + play("b") + "]");
  save(folder_ / "bela/Streaming_History_Audio_1.json", "[" + play("a") + "]");
  const auto logs = read_all(*source());
  ASSERT_EQ(logs.size(), 2u);
  EXPECT_EQ(logs[0].identity, hash_text("anna"));
  EXPECT_EQ(logs[0].plays.size(), 3u);
  EXPECT_EQ(logs[1].identity, hash_text("bela"));
  // In the folder itself: one listener, wherever the folder lies.
  const auto anna = read_all(*open("adapter = 'history'", folder_ / "anna"));
  const auto bela = read_all(*open("adapter = 'history'", folder_ / "bela"));
  EXPECT_EQ(anna[0].identity, bela[0].identity);
  EXPECT_EQ(read_all(*open("adapter = 'history'\nlogs = 'anna'", folder_.path()))[0].identity,
            anna[0].identity);
  save(folder_ / "bela/Streaming_History_Audio_synthetic.json", "[]");
  EXPECT_TRUE(source()->synthetic());
}

TEST_F(History, MalformedJsonIsRefusedWithItsPlace) {
  const std::string good =
      R"("ts": "2022-05-22T13:01:24Z", "ms_played": 1, "spotify_track_uri": "spotify:track:a")";
  const std::string file = (folder_ / "Streaming_History_Audio_2020.json").string();
  const auto refused = [&](const std::string& text, const std::string& sentence) {
    json(text);
    const std::string message = error();
    EXPECT_TRUE(message.starts_with(file + ", byte ")) << message;
    EXPECT_TRUE(contains(message, sentence)) << text;
    EXPECT_EQ(message.find('\n'), message.npos);
  };
  refused("   ", "this is not JSON");
  refused("ts,ms_played\n", "this is not JSON");
  refused("[{" + good + "}] [", "this is not JSON");
  refused("[{\"a\": \"\xff\"}]", "this is not JSON");
  refused("[{\"a\": 1e999}]", "number overflow");
  refused("{}", "byte 1: expected an array of plays, but found an object");
  refused("null", "expected an array of plays, but found null");
  refused("17", "expected an array of plays, but found 17");
  refused("\"x\"", "expected an array of plays, but found x");
  refused("[1]", "expected a play, which is an object, but found 1");
  refused("[[]]", "expected a play, which is an object, but found an array");
  refused("[{" + good + "}, {}]",
          "byte " + std::to_string(good.size() + 6) + ": the play that begins here has no field 'ts'");
  refused("[{\"ts\": \"2022-05-22T13:01:24Z\"}]",
          "byte 2: the play that begins here has no field 'ms_played'");
  const auto wrong = [&](const std::string& field, const std::string& value, const std::string& sentence) {
    refused("[{" + good + ", \"" + field + "\": " + value + "}]",
            ", field '" + field + "': expected " + sentence);
  };
  for (const char* value :
       {"null", "12", "true", "\"\"", "\"2022-05-22\"", "\"2022-13-22T13:01:24Z\"",
        "\"2022-02-30T13:01:24Z\"", "\"2022-05-22T24:01:24Z\"", "\"2022-05-22T13:60:24Z\"",
        "\"2022-05-22T13:01:61Z\"", "\"1969-12-31T13:01:24Z\"", "\"20x2-05-22T13:01:24Z\"",
        "\"2022-05-22T13:01:24+02:00\""})
    wrong("ts", value, "a time in UTC like 2022-05-22T13:01:24Z, but found '");
  for (const char* value : {"-1", "1.5", "1e12", "2592000001", "18446744073709551615",
                            "99999999999999999999999", "null", "true", "\"\"", "\"x\"", "\"-5\"", "\"nan\""})
    wrong("ms_played", value, "whole milliseconds from 0 to 2592000000 (30 days), but found '");
  wrong("spotify_track_uri", "5", "a text, but found '5'");
  wrong("spotify_track_uri", "[]", "text, number, true, false or null, but found 'an array'");
  wrong("reason_start", "{}", "text, number, true, false or null, but found 'an object'");
  wrong("reason_end", "false", "a text, but found 'false'");
  wrong("master_metadata_album_artist_name", "1", "a text");
  wrong("shuffle", "2", "true or false, but found '2'");
  wrong("offline", "\"perhaps\"", "true or false, but found 'perhaps'");
  json("[{" + good +
       ", \"ms_played\": 2592000000, \"shuffle\": 1, \"offline\": 0, \"spotify_track_uri\": "
       "\"spotify:track:b\"}]");
  EXPECT_EQ(read_all(*source())[0].plays[0].end.ms_played, 2592000000.0f);
}

TEST_F(History, CompressedJsonIsRefusedAndCompressedCsvRead) {
  save_gzip(folder_ / "h.csv.gz", history_header + one_row);
  EXPECT_EQ(read_all(*source()).size(), 1u);
  save_gzip(folder_ / "Streaming_History_Audio_1.json.gz", "[]");
  EXPECT_TRUE(contains(error(), "Streaming_History_Audio_1.json.gz: compressed JSON is not read"));
}

TEST_F(History, TruncatedOrAlteredJsonNeverCrashes) {
  const std::string text =
      R"([{"ts": "2022-05-22T13:01:24Z", "ms_played": 68545, "x": {"y": [1, -2.5e3, null]},)"
      R"( "spotify_track_uri": "spotify:track:a", "shuffle": true}])";
  json(text);
  const auto source = this->source();
  ASSERT_EQ(read_all(*source).size(), 1u);
  for (std::size_t size = 1; size < text.size(); ++size) {
    json(text.substr(0, size));
    EXPECT_TRUE(contains(error_of([&] { read_all(*source); }), "this is not JSON")) << size;
  }
  json("");
  EXPECT_TRUE(contains(error(), "Streaming_History_Audio_2020.json is empty"));
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const char c : {'\0', '"', '}', '9', '\x80'}) {
      std::string altered = text;
      altered[i] = c;
      json(altered);
      try {
        read_all(*source);
      } catch (const Error& error) {
        ASSERT_TRUE(contains(error.what(), ", byte ")) << altered;
      }
    }
  }
}

TEST_F(History, DeepNestingTakesNoStack) {
  const std::size_t depth = 300'000;
  json("[{\"x\": " + std::string(depth, '[') + std::string(depth, ']') + "}]");
  EXPECT_TRUE(contains(error(), "has no field 'ts'"));
}

TEST_F(History, WrongCellsOfACsvAreRefusedWithTheirPlace) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"ts", "u,22.05.2022,track,x,5,spotify:track:a,,,,,,,\n"},
      {"ts", "u,,track,x,5,spotify:track:a,,,,,,,\n"},
      {"ms_played", "u,2022-05-22T13:01:24Z,track,x,-5,spotify:track:a,,,,,,,\n"},
      {"ms_played", "u,2022-05-22T13:01:24Z,track,x,,spotify:track:a,,,,,,,\n"},
      {"ms_played", "u,2022-05-22T13:01:24Z,track,x,1e99,spotify:track:a,,,,,,,\n"},
      {"ms_played", "u,2022-05-22T13:01:24Z,track,x,5s,spotify:track:a,,,,,,,\n"},
      {"shuffle", "u,2022-05-22T13:01:24Z,track,x,5,spotify:track:a,,,,2,,,\n"},
      {"incognito_mode", "u,2022-05-22T13:01:24Z,track,x,5,spotify:track:a,,,,,,,no\n"}};
  for (const auto& [column, row] : wrong) {
    rows(one_row + row);
    EXPECT_TRUE(
        contains(error(), (folder_ / "h.csv").string() + ", line 3, column '" + column + "': expected "))
        << row;
  }
  rows("u,2022-05-22T13:01:24Z\n");
  EXPECT_TRUE(contains(error(), "line 2: expected 13 fields"));
  save(folder_ / "h.csv", "ts,ms_played,spotify_track_uri,reason_start\n");
  EXPECT_TRUE(contains(error(), "there is no column 'reason_end'; it has ts, ms_played"));
  save(folder_ / "h.csv", "");
  EXPECT_TRUE(contains(error(), "h.csv is empty"));
  fs::remove(folder_ / "h.csv");
  EXPECT_TRUE(contains(error(), "is named like 'Streaming_History_Audio_*.json'"));
}

TEST_F(History, ATrackTableMustHaveWhatIsNeeded) {
  rows(one_row);
  EXPECT_TRUE(contains(error_of([&] {
                         source("", {"hour_of_day", "energy"});
                       }),
                       "data.tracks is missing: a streaming history knows nothing of 'energy'"));
  EXPECT_EQ(read_all(*source("", {"hour_of_day"})).size(), 1u);
  save(folder_ / "t/t.csv", "spotify_track_uri,energy\nspotify:track:a,.25\n");
  EXPECT_TRUE(contains(error_of([&] { source("tracks = 't'", {"valence"}); }),
                       "t.csv: there is no column 'valence'"));
  EXPECT_EQ(read_all(*source("tracks = 't'", {"energy"}))[0].plays[0].track.energy, 0.25f);
  EXPECT_EQ(read_all(*source("tracks = 't'"))[0].plays[0].track.energy, 0.25f);
  EXPECT_TRUE(contains(error_of([&] { source("utc_offset = 15"); }),
                       "data.utc_offset is 15; it must be from -14 to 14"));
}

// --- real data -----------------------------------------------------------------------------------------

class RealSessions : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path data = real_data();
    if (data.empty()) GTEST_SKIP() << "TONEARM_DATA is not set";
    data_ = data;
  }
  fs::path data_;
};

TEST_F(RealSessions, TheHeadOfTheMssd) {
  const std::string head = "adapter = 'mssd'\nfolder = 'mssd'\nfiles = ";
  const auto plain = open(head + "'log_mini_head201.csv'", data_, {"hour_of_day"});
  const auto logs = read_all(*plain);
  std::size_t plays = 0;
  for (const KeptLog& log : logs) plays += log.plays.size();
  EXPECT_EQ(logs.size(), 11u);
  EXPECT_EQ(plays, 201u);
  EXPECT_TRUE(plain->remarks().empty()) << text_of(plain->remarks());
  // The same rows with the other way to write dates, and with track columns.
  const std::string with_features = head + "'log_mini_head201_with_track_features.csv'";
  EXPECT_EQ(text_of(read_all(*open(with_features, data_, {"hour_of_day"}))), text_of(logs));
  const auto joined = open(with_features, data_);
  for (const KeptLog& log : read_all(*joined))
    for (const Play& play : log.plays) {
      EXPECT_GT(play.track.duration, 30);
      EXPECT_FALSE(std::isnan(play.track.acoustic_vector[7]));
    }
  EXPECT_TRUE(joined->remarks().empty()) << text_of(joined->remarks());
}

TEST_F(RealSessions, AListenersHistory) {
  const auto source =
      open("adapter = 'history'\nlogs = 'history'\ntracks = 'tracks/audio_features_union.csv'", data_,
           {"duration", "energy"});
  const auto logs = read_all(*source);
  ASSERT_EQ(logs.size(), 1u);
  ASSERT_EQ(logs[0].plays.size(), 6928u);
  std::size_t joined = 0, disordered = 0;
  for (std::size_t i = 0; i < logs[0].plays.size(); ++i) {
    const Play& play = logs[0].plays[i];
    joined += !std::isnan(play.track.energy);
    disordered += i > 0 && play.now.time < logs[0].plays[i - 1].now.time;
  }
  EXPECT_EQ(disordered, 0u);
  EXPECT_EQ(joined, 3154u);  // 45 %
  const auto remarks = source->remarks();
  ASSERT_EQ(remarks.size(), 2u) << text_of(remarks);
  EXPECT_EQ(remarks[0].count, 49u);
  EXPECT_EQ(remarks[1].count, 6928u - joined);
}

}  // namespace
}  // namespace tonearm
