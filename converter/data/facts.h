#pragma once

// What has been published about the Music Streaming Sessions Dataset (MSSD), as tables, and the same
// statistics of any folder in its schema. The generator of sessions is built from the tables and judged by
// the statistics.
//
// "mini" is the dataset's published sample, log_mini.csv with tf_mini.csv: 167,880 rows, 10,000 sessions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.h"

namespace tonearm::mssd {

constexpr int shortest_session = 10, longest_session = 20;
constexpr int contexts = 6, starts = 9, ends = 7, pauses = 4;

constexpr std::array<std::string_view, contexts> context_names = {
    "catalog", "charts", "editorial_playlist", "personalized_playlist", "radio", "user_collection"};
constexpr std::array<std::string_view, starts> start_names = {
    "appload", "backbtn", "clickrow", "endplay", "fwdbtn", "playbtn", "remote", "trackdone", "trackerror"};
constexpr std::array<std::string_view, ends> end_names = {"backbtn", "clickrow", "endplay",  "fwdbtn",
                                                          "logout",  "remote",   "trackdone"};

enum Context { catalog, charts, editorial_playlist, personalized_playlist, radio, user_collection };
enum Start {
  start_appload,
  start_backbtn,
  start_clickrow,
  start_endplay,
  start_fwdbtn,
  start_playbtn,
  start_remote,
  start_trackdone,
  start_trackerror
};
enum End { end_backbtn, end_clickrow, end_endplay, end_fwdbtn, end_logout, end_remote, end_trackdone };

/// What the three pause flags say together. No other combination of them occurs: `first` (none of them set)
/// is the session's first row and only that; long_pause is set exactly where no_pause is not, on later rows;
/// short_pause implies long_pause.
enum Pause { first, none, brief, extended };  // 0/0/0, 1/0/0, 0/1/1, 0/0/1

template <std::size_t columns>
using Counts = std::array<std::int64_t, columns>;
template <std::size_t rows, std::size_t columns>
using Counts2 = std::array<Counts<columns>, rows>;

/// Rows of mini, by whatever the name says. Counts of pairs follow from the published means and the published
/// correlation matrix of all columns (two 0/1 columns' correlation and means give their joint count, here to
/// within some 20 rows); they are the facts that a generator of sessions starts from.
namespace mini {
constexpr std::int64_t rows = 167880, sessions = 10000, tracks = 50704;
constexpr std::int64_t skip_1 = 70762, skip_2 = 86824, skip_3 = 108850, not_skipped = 55884;
extern const Counts<longest_session + 1> sessions_of_length;
extern const std::array<double, longest_session + 1> skip_rate_at;  // by position, from 1
extern const Counts<24> at_hour;
extern const std::array<double, 24> skip_rate_at_hour;

extern const Counts2<starts, pauses> start_pause;
extern const Counts2<starts, ends> start_end;
extern const Counts<starts> start_skip, start_switch;
extern const Counts<pauses> pause_skip;
extern const Counts2<ends, pauses> end_pause;
extern const Counts<ends> end_skip;
extern const Counts2<contexts, pauses> context_pause;
extern const Counts2<contexts, starts> context_start;
extern const Counts2<contexts, ends> context_end;
extern const Counts<contexts> context_skip, context_switch, context_premium, context_shuffle;
extern const Counts<ends> premium_end, shuffle_end;
constexpr std::int64_t premium = 136053, shuffle = 51830, shuffle_premium = 45422, switched = 6867;
constexpr std::int64_t premium_skip = 69839, shuffle_skip = 28692, switched_skip = 2324;
constexpr double length_skip_correlation = .0784, length_premium_correlation = .0764;

/// Of 1,000 random rows with their decoded categories: for the four common starts and each pause, how many
/// were not skipped and ended by trackdone, not skipped and ended otherwise, skipped. The pairs above do not
/// hold this interaction: after trackdone, a brief pause announces a skip.
struct Sampled {
  Start start;
  Pause pause;
  int completed, abandoned, skipped;
};
extern const std::array<Sampled, 16> sampled;
}  // namespace mini

/// One row of a log.
struct Row {
  int position = 0, length = 0;
  bool skip_1 = false, skip_2 = false, skip_3 = false, not_skipped = false;
  bool context_switch = false, no_pause = false, short_pause = false, long_pause = false;
  int seeks_forward = 0, seeks_back = 0;
  bool shuffle = false, premium = false;
  int hour = 0, date = 0;  // any numbering of the days
  int context = 0, start = 0, end = 0;
  std::uint64_t track = 0;

  Pause pause() const { return no_pause ? none : short_pause ? brief : long_pause ? extended : first; }
};

/// Statistics of sessions, all of them integers: those of shards can be added in any order. Fixed size.
struct SessionCounts {
  std::int64_t sessions = 0, rows = 0;
  std::int64_t skip_1 = 0, skip_2 = 0, skip_3 = 0, not_skipped = 0, neither = 0;
  /// Rows against a rule that has no exception in the data.
  std::int64_t not_nested = 0, odd_pause = 0;
  Counts<longest_session + 1> sessions_of_length = {};
  Counts2<longest_session + 1, 2> position_skip = {}, length_skip = {}, length_premium = {};
  std::array<std::array<Counts2<2, ends>, pauses>, starts> play = {};  // by start, pause, skip_2, end
  Counts2<contexts, pauses> context_pause = {};
  Counts2<contexts, starts> context_start = {};
  Counts2<contexts, ends> context_end = {};
  Counts2<contexts, 2> context_skip = {}, context_switch = {};
  std::array<Counts2<2, 2>, contexts> context_premium_shuffle = {};
  Counts2<starts, 2> start_switch = {};
  Counts2<2, ends> premium_end = {}, shuffle_end = {};
  Counts2<2, 2> premium_skip = {}, shuffle_skip = {}, switch_skip = {}, clicked_switch_skip = {};
  Counts2<24, 2> hour_skip = {};
  std::int64_t later_rows = 0, start_repeats_end = 0;
  std::int64_t sought_forward = 0, sought_back = 0, seeks_forward = 0, seeks_back = 0;
  std::int64_t all_premium = 0, all_free = 0;
  /// Distinct values of a column within a session, summed over sessions.
  std::int64_t distinct_end = 0, distinct_start = 0, distinct_context = 0, distinct_premium = 0,
               distinct_date = 0, distinct_shuffle = 0, distinct_no_pause = 0, distinct_switch = 0;
  /// Sessions by their share of tracks that were not skipped, in percent.
  Counts<101> sessions_listened = {};
  /// Of all rows in the order of the file, session boundaries included, as the published figures are: what
  /// followed each four labels (the newest is the lowest bit), and pairs of skips at a distance.
  Counts2<16, 2> after_four = {};
  static constexpr std::array<int, 7> lags = {1, 2, 3, 5, 10, 15, 20};
  Counts<lags.size()> both_skipped = {}, pairs = {};

  /// A session of at most 20 rows, after those before it.
  void add(std::span<const Row> session);
  void add(const SessionCounts& other);

 private:
  std::uint64_t recent_ = 0;  // labels of the latest rows, the newest the lowest bit
  std::int64_t seen_ = 0;
};

/// What is published about the audio features, of mini: over rows (so that a track counts as often as it was
/// played), and its correlation with skip_2.
struct FeatureFact {
  std::string_view name;
  double mean, deviation, skip_correlation;
};
constexpr std::size_t audio_features = 26;
extern const std::array<FeatureFact, audio_features> feature_facts;

/// The statistics of tracks, of at most the first 10,000 sessions: figures about repeats only compare for as
/// many sessions as the published ones.
struct TrackCounts {
  std::int64_t sessions = 0, rows = 0, tracks = 0, hottest = 0;
  std::int64_t matched = 0;  // rows whose track is in a table of tracks; the rest is about those
  std::array<double, audio_features> mean = {}, deviation = {}, skip_correlation = {};
};

struct Measured {
  SessionCounts sessions;
  TrackCounts tracks;
  std::size_t files = 0;
  /// Sessions with a category that mini does not have, or more than 20 rows, and where the first one is.
  std::size_t left_out = 0;
  std::string left_out_example;
};

/// Reads all log_*.csv and tf_*.csv (.gz or not) of a folder, the logs as a stream. Throws Error where a file
/// is damaged or is not in the schema, or if there are no logs; throws Interrupted.
Measured measure(const std::filesystem::path& folder, Threads& threads);

/// A published figure beside the same figure of other data.
struct Fact {
  std::string group, name;
  double published = 0, here = 0, tolerance = 0;
  std::string_view source;
  bool holds() const;
};

/// Every published fact. Tolerances hold the sampling error of 10,000 sessions, and what the generator is
/// allowed to differ; for fewer sessions they are wider.
std::vector<Fact> facts(const SessionCounts& counts, const TrackCounts& tracks);

}  // namespace tonearm::mssd
