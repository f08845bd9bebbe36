#include "data/facts.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "data/adapter.h"
#include "data/csv.h"

namespace tonearm::mssd {
namespace mini {

// Published as counts, rates and shares [rows per position, skip rate per position and hour: R. McCue's
// notebooks; hours solved exactly from the rates, which are ratios of integers].
const Counts<longest_session + 1> sessions_of_length = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   819,
                                                        752, 646, 547, 459, 435, 339, 320, 303, 314, 5066};
const std::array<double, longest_session + 1> skip_rate_at = {
    0,     .3773, .4760, .5054, .5297, .5315, .5427, .5397, .5405, .5318, .5164,
    .5079, .5295, .5292, .5344, .5293, .5295, .5299, .5325, .5357, .5464};
const Counts<24> at_hour = {5694, 4127,  2964,  2284,  1563,  1303,  1733,  2366, 3397, 5555, 7483, 8320,
                            9696, 10687, 11590, 11443, 11636, 10897, 10319, 9487, 9366, 9918, 8822, 7230};
const std::array<double, 24> skip_rate_at_hour = {.5183, .5207, .5489, .5390, .5189, .5027, .4668, .4996,
                                                  .5013, .4794, .4939, .5162, .5237, .5135, .5135, .5027,
                                                  .5122, .5307, .5258, .5171, .5316, .5244, .5311, .5314};

// Counts of pairs, from the means and the correlation matrix. The columns of pauses: first, none, brief,
// extended.
const Counts2<starts, pauses> start_pause = {{{1394, 239, 137, 172},
                                              {449, 11548, 798, 239},
                                              {2630, 12476, 1694, 714},
                                              {10, 0, 9, 1},
                                              {2568, 70568, 5739, 1037},
                                              {95, 35, 3, 22},
                                              {38, 66, 17, 15},
                                              {2816, 33868, 16199, 2192},
                                              {8, 65, 12, 7}}};
const Counts2<starts, ends> start_end = {{{127, 0, 406, 585, 11, 6, 807},
                                          {7155, 0, 460, 2363, 37, 14, 3000},
                                          {132, 7, 7567, 2737, 79, 67, 6939},
                                          {1, 0, 0, 5, 0, 1, 13},
                                          {3638, 0, 2873, 61422, 131, 51, 11788},
                                          {0, 0, 45, 56, 1, 2, 51},
                                          {6, 0, 36, 24, 2, 22, 47},
                                          {2077, 1, 3448, 14129, 302, 104, 35013},
                                          {5, 0, 4, 46, 0, 0, 37}}};
const Counts<starts> start_skip = {895, 8955, 6639, 8, 61139, 76, 61, 9012, 45};
const Counts<starts> start_switch = {206, 5, 6489, 0, 59, 28, 12, 79, 3};
const Counts<pauses> pause_skip = {3791, 70356, 11736, 941};
const Counts2<ends, pauses> end_pause = {{{654, 10560, 1737, 178},
                                          {1, 7, 0, 0},
                                          {1726, 9113, 3293, 691},
                                          {3627, 62110, 14511, 1141},
                                          {31, 184, 284, 64},
                                          {82, 113, 47, 25},
                                          {3879, 46773, 4748, 2301}}};
const Counts<ends> end_skip = {11826, 8, 8560, 65946, 162, 122, 199};
const Counts2<contexts, pauses> context_pause = {{{2523, 29299, 5298, 1143},
                                                  {133, 1925, 342, 41},
                                                  {2079, 26968, 5656, 960},
                                                  {190, 2224, 495, 67},
                                                  {1105, 15187, 4376, 439},
                                                  {3971, 53263, 8449, 1747}}};
const Counts2<contexts, starts> context_start = {{{513, 3676, 6954, 7, 13460, 52, 47, 13543, 20},
                                                  {16, 121, 183, 1, 1390, 2, 0, 727, 0},
                                                  {645, 1873, 2554, 4, 18239, 65, 34, 12208, 36},
                                                  {36, 148, 245, 1, 1485, 7, 4, 1046, 3},
                                                  {229, 938, 1600, 0, 11926, 9, 7, 6395, 0},
                                                  {503, 6280, 5983, 7, 33403, 19, 44, 21158, 33}}};
const Counts2<contexts, ends> context_end = {{{3711, 8, 5820, 13886, 143, 72, 14629},
                                              {124, 0, 132, 1429, 8, 5, 742},
                                              {1860, 0, 2405, 18537, 119, 71, 12669},
                                              {156, 0, 211, 1511, 4, 6, 1088},
                                              {952, 0, 1350, 12066, 72, 20, 6646},
                                              {6328, 0, 4909, 33952, 216, 93, 21929}}};
const Counts<contexts> context_skip = {17460, 1356, 18126, 1341, 11676, 36861};
const Counts<contexts> context_switch = {3197, 52, 1070, 76, 1257, 1218};
const Counts<contexts> context_premium = {31631, 2135, 28355, 2686, 18445, 52803};
const Counts<contexts> context_shuffle = {9768, 964, 12776, 1316, 0, 27019};
const Counts<ends> premium_end = {9796, 8, 12364, 66294, 465, 229, 46898};
const Counts<ends> shuffle_end = {2244, 1, 3229, 29463, 183, 58, 16650};

const std::array<Sampled, 16> sampled = {{{start_backbtn, first, 1, 2, 2},
                                          {start_backbtn, none, 10, 3, 48},
                                          {start_backbtn, brief, 2, 1, 3},
                                          {start_backbtn, extended, 0, 1, 0},
                                          {start_clickrow, first, 10, 4, 1},
                                          {start_clickrow, none, 40, 11, 29},
                                          {start_clickrow, brief, 0, 1, 9},
                                          {start_clickrow, extended, 3, 0, 2},
                                          {start_fwdbtn, first, 3, 2, 6},
                                          {start_fwdbtn, none, 63, 37, 297},
                                          {start_fwdbtn, brief, 0, 5, 21},
                                          {start_fwdbtn, extended, 2, 5, 4},
                                          {start_trackdone, first, 11, 14, 2},
                                          {start_trackdone, none, 177, 12, 14},
                                          {start_trackdone, brief, 26, 48, 46},
                                          {start_trackdone, extended, 6, 5, 0}}};

}  // namespace mini

const std::array<FeatureFact, audio_features> feature_facts = {{
    {"duration", 215.893, 60.224, .0193},
    {"release_year", 2013.369, 9.740, -.0076},
    {"us_popularity_estimate", 99.7446, .8928, -.0042},
    {"acousticness", .2180, .2461, -.0183},
    {"beat_strength", .5478, .1586, .0008},
    {"bounciness", .5802, .1790, .0058},
    {"danceability", .6690, .1595, .0042},
    {"dyn_range_mean", 9.0980, 2.5404, .0071},
    {"energy", .6265, .1817, .0062},
    {"flatness", 1.0081, .0389, -.0018},
    {"instrumentalness", .0317, .1427, -.0122},
    {"liveness", .1898, .1509, .0041},
    {"loudness", -7.0498, 3.1640, .0057},
    {"mechanism", .5965, .2077, -.0060},
    {"organism", .3482, .1887, -.0056},
    {"speechiness", .1422, .1332, .0194},
    {"tempo", 122.675, 29.822, .0051},
    {"valence", .4593, .2292, -.0009},
    {"acoustic_vector_0", -.5163, .3855, -.0257},
    {"acoustic_vector_1", .2688, .1938, .0109},
    {"acoustic_vector_2", .2063, .1654, .0112},
    {"acoustic_vector_3", -.0164, .2664, .0137},
    {"acoustic_vector_4", -.1400, .3137, -.0156},
    {"acoustic_vector_5", .0479, .1163, -.0164},
    {"acoustic_vector_6", -.2831, .3011, -.0173},
    {"acoustic_vector_7", .0599, .2620, .0102},
}};

void SessionCounts::add(std::span<const Row> session) {
  if (session.empty()) return;
  ++sessions;
  rows += static_cast<std::int64_t>(session.size());
  ++sessions_of_length[session.size()];
  std::uint32_t seen_end = 0, seen_start = 0, seen_context = 0, seen_premium = 0, seen_shuffle = 0,
                seen_no_pause = 0, seen_switch = 0;
  std::int64_t dates = 1, listened = 0;
  for (std::size_t i = 0; i < session.size(); ++i) {
    const Row& row = session[i];
    const auto at = [](int index) { return static_cast<std::size_t>(index); };
    const std::size_t skip = row.skip_2, context = at(row.context), start = at(row.start), end = at(row.end);
    const Pause pause = row.pause();
    skip_1 += row.skip_1;
    skip_2 += row.skip_2;
    skip_3 += row.skip_3;
    not_skipped += row.not_skipped;
    neither += !row.skip_3 && !row.not_skipped;
    not_nested += row.skip_1 > row.skip_2 || row.skip_2 > row.skip_3 || (row.skip_3 && row.not_skipped);
    odd_pause += row.no_pause == row.long_pause ? row.no_pause || row.position != 1
                                                : row.position == 1 || row.short_pause > row.long_pause;
    ++position_skip[i + 1][skip];
    ++length_skip[session.size()][skip];
    ++length_premium[session.size()][row.premium];
    ++play[start][pause][skip][end];
    ++context_pause[context][pause];
    ++context_start[context][start];
    ++context_end[context][end];
    ++context_skip[context][skip];
    ++context_switch[context][row.context_switch];
    ++context_premium_shuffle[context][row.premium][row.shuffle];
    ++start_switch[start][row.context_switch];
    ++premium_end[row.premium][end];
    ++shuffle_end[row.shuffle][end];
    ++premium_skip[row.premium][skip];
    ++shuffle_skip[row.shuffle][skip];
    ++switch_skip[row.context_switch][skip];
    if (start == start_clickrow && pause != first) ++clicked_switch_skip[row.context_switch][skip];
    ++hour_skip[at(row.hour)][skip];
    sought_forward += row.seeks_forward > 0;
    sought_back += row.seeks_back > 0;
    seeks_forward += row.seeks_forward;
    seeks_back += row.seeks_back;
    if (i > 0) {
      ++later_rows;
      start_repeats_end += start_names[start] == end_names[at(session[i - 1].end)];
      dates += row.date != session[i - 1].date;
    }
    seen_end |= 1u << end;
    seen_start |= 1u << start;
    seen_context |= 1u << context;
    seen_premium |= 1u << row.premium;
    seen_shuffle |= 1u << row.shuffle;
    seen_no_pause |= 1u << row.no_pause;
    seen_switch |= 1u << row.context_switch;
    listened += !row.skip_2;

    if (seen_ >= 4) ++after_four[recent_ & 15][skip];
    for (std::size_t k = 0; k < lags.size(); ++k)
      if (seen_ >= lags[k]) {
        ++pairs[k];
        both_skipped[k] += row.skip_2 && (recent_ >> (lags[k] - 1) & 1);
      }
    recent_ = recent_ << 1 | skip;
    ++seen_;
  }
  all_premium += seen_premium == 2;
  all_free += seen_premium == 1;
  distinct_end += std::popcount(seen_end);
  distinct_start += std::popcount(seen_start);
  distinct_context += std::popcount(seen_context);
  distinct_premium += std::popcount(seen_premium);
  distinct_date += dates;
  distinct_shuffle += std::popcount(seen_shuffle);
  distinct_no_pause += std::popcount(seen_no_pause);
  distinct_switch += std::popcount(seen_switch);
  const auto length = static_cast<std::int64_t>(session.size());
  ++sessions_listened[static_cast<std::size_t>((100 * listened + length / 2) / length)];
}

namespace {

void add_all(std::int64_t& to, std::int64_t from) { to += from; }
template <typename T, std::size_t n>
void add_all(std::array<T, n>& to, const std::array<T, n>& from) {
  for (std::size_t i = 0; i < n; ++i) add_all(to[i], from[i]);
}

double ratio(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}
double rate(const Counts<2>& counts) { return ratio(counts[1], counts[0] + counts[1]); }

template <std::size_t n>
std::int64_t total(const Counts<n>& counts) {
  std::int64_t sum = 0;
  for (const std::int64_t count : counts) sum += count;
  return sum;
}

template <std::size_t n, std::size_t m>
std::int64_t total(const Counts2<n, m>& counts) {
  std::int64_t sum = 0;
  for (const auto& row : counts) sum += total(row);
  return sum;
}

template <std::size_t n>
double length_correlation(const std::array<Counts<2>, n>& counts) {
  double rows = 0, x = 0, xx = 0, y = 0, xy = 0;
  for (std::size_t length = 0; length < n; ++length) {
    const auto l = static_cast<double>(length), all = static_cast<double>(total(counts[length])),
               ones = static_cast<double>(counts[length][1]);
    rows += all;
    x += l * all;
    xx += l * l * all;
    y += ones;
    xy += l * ones;
  }
  const double mean = x / rows, p = y / rows;
  return (xy / rows - mean * p) / std::sqrt((xx / rows - mean * mean) * p * (1 - p));
}

/// The share of sessions below which `part` of them lie.
double quantile(const Counts<101>& counts, double part) {
  const double wanted = part * static_cast<double>(total(counts));
  double below = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    below += static_cast<double>(counts[i]);
    if (below >= wanted) return static_cast<double>(i) / 100;
  }
  return 1;
}

}  // namespace

void SessionCounts::add(const SessionCounts& other) {
  for (const auto member : {&SessionCounts::sessions,
                            &SessionCounts::rows,
                            &SessionCounts::skip_1,
                            &SessionCounts::skip_2,
                            &SessionCounts::skip_3,
                            &SessionCounts::not_skipped,
                            &SessionCounts::neither,
                            &SessionCounts::not_nested,
                            &SessionCounts::odd_pause,
                            &SessionCounts::later_rows,
                            &SessionCounts::start_repeats_end,
                            &SessionCounts::sought_forward,
                            &SessionCounts::sought_back,
                            &SessionCounts::seeks_forward,
                            &SessionCounts::seeks_back,
                            &SessionCounts::all_premium,
                            &SessionCounts::all_free,
                            &SessionCounts::distinct_end,
                            &SessionCounts::distinct_start,
                            &SessionCounts::distinct_context,
                            &SessionCounts::distinct_premium,
                            &SessionCounts::distinct_date,
                            &SessionCounts::distinct_shuffle,
                            &SessionCounts::distinct_no_pause,
                            &SessionCounts::distinct_switch})
    this->*member += other.*member;
  add_all(sessions_of_length, other.sessions_of_length);
  add_all(position_skip, other.position_skip);
  add_all(length_skip, other.length_skip);
  add_all(length_premium, other.length_premium);
  add_all(play, other.play);
  add_all(context_pause, other.context_pause);
  add_all(context_start, other.context_start);
  add_all(context_end, other.context_end);
  add_all(context_skip, other.context_skip);
  add_all(context_switch, other.context_switch);
  add_all(context_premium_shuffle, other.context_premium_shuffle);
  add_all(start_switch, other.start_switch);
  add_all(premium_end, other.premium_end);
  add_all(shuffle_end, other.shuffle_end);
  add_all(premium_skip, other.premium_skip);
  add_all(shuffle_skip, other.shuffle_skip);
  add_all(switch_skip, other.switch_skip);
  add_all(clicked_switch_skip, other.clicked_switch_skip);
  add_all(hour_skip, other.hour_skip);
  add_all(sessions_listened, other.sessions_listened);
  add_all(after_four, other.after_four);
  add_all(both_skipped, other.both_skipped);
  add_all(pairs, other.pairs);
}

namespace {

/// The columns of a log, found by their names.
class LogReader {
 public:
  explicit LogReader(const std::filesystem::path& path) : path_(path), reader_(path) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto& header = reader_.header();
      const auto found = std::find(header.begin(), header.end(), columns[i]);
      if (found == header.end())
        throw Error(path.string() + ": there is no column '" + std::string(columns[i]) +
                    "'; expected the 21 columns of the Music Streaming Sessions Dataset");
      at_[i] = static_cast<std::size_t>(found - header.begin());
    }
  }

  /// The next row; false at the end. `known` is false if one of its categories is not mini's.
  bool next(Row& row, std::string& session, bool& known) {
    if (!reader_.next(fields_)) return false;
    session.assign(field(0));
    row.position = number(1);
    row.length = number(2);
    row.track = std::hash<std::string_view>()(field(3));
    row.skip_1 = truth(4);
    row.skip_2 = truth(5);
    row.skip_3 = truth(6);
    row.not_skipped = truth(7);
    row.context_switch = truth(8);
    row.no_pause = truth(9);
    row.short_pause = truth(10);
    row.long_pause = truth(11);
    row.seeks_forward = number(12);
    row.seeks_back = number(13);
    row.shuffle = truth(14);
    row.hour = number(15);
    if (row.hour < 0 || row.hour > 23) fail(15, "an hour from 0 to 23");
    row.date = static_cast<int>(std::hash<std::string_view>()(field(16)));
    row.premium = truth(17);
    row.context = category(18, context_names);
    row.start = category(19, start_names);
    row.end = category(20, end_names);
    known = row.context >= 0 && row.start >= 0 && row.end >= 0;
    return true;
  }

  std::size_t line() const { return reader_.line(); }

 private:
  static constexpr const auto& columns = mssd_log_columns;

  std::string_view field(std::size_t column) const { return fields_[at_[column]]; }
  [[noreturn]] void fail(std::size_t column, const std::string& expected) const {
    throw Error(path_.string() + ", line " + std::to_string(line()) + ", column " +
                std::string(columns[column]) + ": expected " + expected + ", found '" +
                std::string(field(column)) + "'");
  }
  int number(std::size_t column) const {
    const std::string_view text = field(column);
    int value = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size()) fail(column, "a whole number");
    return value;
  }
  bool truth(std::size_t column) const {
    const std::string_view text = field(column);
    if (text == "true" || text == "True" || text == "1") return true;
    if (text == "false" || text == "False" || text == "0") return false;
    fail(column, "true or false");
  }
  template <std::size_t n>
  int category(std::size_t column, const std::array<std::string_view, n>& names) const {
    const auto found = std::find(names.begin(), names.end(), field(column));
    return found == names.end() ? -1 : static_cast<int>(found - names.begin());
  }

  std::filesystem::path path_;
  CsvReader reader_;
  std::array<std::size_t, columns.size()> at_;
  std::vector<std::string_view> fields_;
};

struct LeftOut {
  std::size_t sessions = 0;
  std::string example;
};

/// Calls `sink` for every session of a file until it returns false.
template <typename Sink>
LeftOut read_sessions(const std::filesystem::path& path, Sink&& sink) {
  LogReader reader(path);
  LeftOut left_out;
  std::vector<Row> session;
  std::string id, row_id;
  bool usable = true;
  std::size_t sessions = 0;
  const auto finish = [&] {
    if (session.empty()) return true;
    if (++sessions % 1000 == 0 && interrupted()) throw Interrupted();
    const bool wanted = usable ? sink(std::span<const Row>(session)) : true;
    if (!usable) ++left_out.sessions;
    session.clear();
    usable = true;
    return wanted;
  };
  Row row;
  bool known = true;
  while (reader.next(row, row_id, known)) {
    if (row_id != id) {
      if (!finish()) return left_out;
      id = row_id;
    }
    if (session.size() < longest_session)
      session.push_back(row);
    else
      known = false;
    if (!known && usable) {
      usable = false;
      if (left_out.example.empty())
        left_out.example = path.filename().string() + ", line " + std::to_string(reader.line());
    }
  }
  finish();
  return left_out;
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& folder, std::string_view prefix) {
  std::error_code failure;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && (name.ends_with(".csv") || name.ends_with(".csv.gz")))
      files.push_back(entry.path());
  }
  if (failure) throw Error("cannot read the folder " + folder.string() + ": " + failure.message());
  std::sort(files.begin(), files.end());
  return files;
}

TrackCounts measure_tracks(const std::vector<std::filesystem::path>& logs,
                           const std::vector<std::filesystem::path>& tables) {
  struct Plays {
    std::int64_t plays = 0, skips = 0;
  };
  std::unordered_map<std::uint64_t, Plays> tracks;
  TrackCounts counts;
  for (const auto& log : logs) {
    if (counts.sessions == mini::sessions) break;
    read_sessions(log, [&](std::span<const Row> session) {
      ++counts.sessions;
      for (const Row& row : session) {
        ++counts.rows;
        Plays& track = tracks[row.track];
        ++track.plays;
        track.skips += row.skip_2;
      }
      return counts.sessions < mini::sessions;
    });
  }
  counts.tracks = static_cast<std::int64_t>(tracks.size());
  for (const auto& [id, track] : tracks) counts.hottest = std::max(counts.hottest, track.plays);

  std::array<double, audio_features> sum = {}, squares = {}, of_skipped = {};
  double skips = 0;
  for (const auto& table : tables) {
    CsvReader reader(table);
    const auto column = [&](std::string_view name) {
      const auto found = std::find(reader.header().begin(), reader.header().end(), name);
      if (found == reader.header().end())
        throw Error(table.string() + ": there is no column '" + std::string(name) + "'");
      return static_cast<std::size_t>(found - reader.header().begin());
    };
    const std::size_t id = column("track_id");
    std::array<std::size_t, audio_features> at;
    for (std::size_t f = 0; f < audio_features; ++f) at[f] = column(feature_facts[f].name);
    std::vector<std::string_view> fields;
    while (reader.next(fields)) {
      if (reader.line() % 65536 == 0 && interrupted()) throw Interrupted();
      const auto found = tracks.find(std::hash<std::string_view>()(fields[id]));
      if (found == tracks.end()) continue;
      const auto plays = static_cast<double>(found->second.plays),
                 skipped = static_cast<double>(found->second.skips);
      tracks.erase(found);  // a second row for the same track does not count
      counts.matched += static_cast<std::int64_t>(plays);
      skips += skipped;
      for (std::size_t f = 0; f < audio_features; ++f) {
        float read = 0;
        if (!parse_number(fields[at[f]], read) || !std::isfinite(read))
          throw Error(table.string() + ", line " + std::to_string(reader.line()) + ", column " +
                      std::string(feature_facts[f].name) + ": expected a number, found '" +
                      std::string(fields[at[f]]) + "'");
        // Shifted by the published mean, so that the squares do not cancel.
        const double value = static_cast<double>(read) - feature_facts[f].mean;
        sum[f] += plays * value;
        squares[f] += plays * value * value;
        of_skipped[f] += skipped * value;
      }
    }
  }
  if (counts.matched == 0) return counts;
  const auto rows = static_cast<double>(counts.matched);
  const double rate = skips / rows;
  for (std::size_t f = 0; f < audio_features; ++f) {
    const double mean = sum[f] / rows, variance = squares[f] / rows - mean * mean;
    counts.mean[f] = mean + feature_facts[f].mean;
    counts.deviation[f] = std::sqrt(std::max(variance, 0.0));
    if (variance > 0)
      counts.skip_correlation[f] =
          (of_skipped[f] / rows - mean * rate) / std::sqrt(variance * rate * (1 - rate));
  }
  return counts;
}

}  // namespace

Measured measure(const std::filesystem::path& folder, Threads& threads) {
  const auto logs = files_of(folder, "log_"), tables = files_of(folder, "tf_");
  if (logs.empty())
    throw Error("there are no log_*.csv files in " + folder.string() +
                "; expected the Music Streaming Sessions Dataset, or what `tonearm synth sessions` writes");
  Measured measured;
  measured.files = logs.size() + tables.size();
  std::vector<LeftOut> left_out(logs.size());
  Progress progress("reading", logs.size());
  std::mutex mutex;
  std::size_t done = 0;
  // The tracks, whose order matters, are the first block of work; the others are the logs.
  threads.run(logs.size() + 1, [&](std::size_t block) {
    if (interrupted()) throw Interrupted();
    if (block == 0) {
      measured.tracks = measure_tracks(logs, tables);
      return;
    }
    SessionCounts counts;
    left_out[block - 1] = read_sessions(logs[block - 1], [&](std::span<const Row> session) {
      counts.add(session);
      return true;
    });
    const std::lock_guard lock(mutex);
    measured.sessions.add(counts);
    progress.update(++done);
  });
  for (const LeftOut& some : left_out) {
    measured.left_out += some.sessions;
    if (measured.left_out_example.empty()) measured.left_out_example = some.example;
  }
  return measured;
}

bool Fact::holds() const { return std::abs(here - published) <= tolerance; }

std::vector<Fact> facts(const SessionCounts& counts, const TrackCounts& tracks) {
  // Sources: [R] rachaelmmccue/Capstone, [P] Puspha22/spotify-skip-prediction, [PR] prashik0's EDA,
  // [S] sainathadapa/spotify-sequential-skip-prediction, [DM] DM1122/spotify-skip-prediction.
  constexpr std::string_view eda = "[R] mini", matrix = "[P] mini, means and correlations",
                             labels = "[DM] mini, all labels in row order", full = "[S] a full file",
                             flags = "[PR] mini", rows1000 = "1,000 random rows of mini",
                             deezer = "Deezer DSG17, 11,462 listeners";
  // Sampling error grows as sessions get fewer.
  const double widen =
      std::sqrt(std::max(1.0, static_cast<double>(mini::sessions) / static_cast<double>(counts.sessions)));
  std::vector<Fact> list;
  std::string group;
  const auto add = [&](std::string name, double published, double here, double tolerance,
                       std::string_view source) {
    list.push_back({group, std::move(name), published, here, widen * tolerance, source});
  };
  const auto share = [](std::int64_t count) { return ratio(count, mini::rows); };
  const auto here = [&](std::int64_t count) { return ratio(count, counts.rows); };

  // How the counts of this data add up over what is not asked for.
  Counts2<starts, pauses> start_pause = {};
  Counts2<starts, ends> start_end = {};
  Counts2<starts, 2> start_skip = {};
  Counts2<pauses, 2> pause_skip = {};
  Counts2<ends, 2> end_skip = {};
  Counts2<pauses, 2> done_pause_skip = {};
  for (std::size_t s = 0; s < starts; ++s)
    for (std::size_t p = 0; p < pauses; ++p)
      for (std::size_t k = 0; k < 2; ++k)
        for (std::size_t e = 0; e < ends; ++e) {
          const std::int64_t n = counts.play[s][p][k][e];
          start_pause[s][p] += n;
          start_end[s][e] += n;
          start_skip[s][k] += n;
          pause_skip[p][k] += n;
          end_skip[e][k] += n;
          if (s == start_trackdone) done_pause_skip[p][k] += n;
        }
  const auto pause_total = [&](Pause pause) { return total(pause_skip[pause]); };
  const auto mini_pause = [&](Pause pause) {
    std::int64_t sum = 0;
    for (const auto& row : mini::start_pause) sum += row[pause];
    return sum;
  };

  group = "labels";
  add("skip_1", share(mini::skip_1), here(counts.skip_1), .015, eda);
  add("skip_2", share(mini::skip_2), here(counts.skip_2), .012, eda);
  add("skip_3", share(mini::skip_3), here(counts.skip_3), .015, eda);
  add("not_skipped", share(mini::not_skipped), here(counts.not_skipped), .015, eda);
  add("neither skip_3 nor not_skipped", share(mini::rows - mini::skip_3 - mini::not_skipped),
      here(counts.neither), .004, eda);
  add("rows that are not nested", 0, here(counts.not_nested), 0, "no exception in 1,381 rows");

  group = "sessions";
  for (std::size_t l = shortest_session; l <= longest_session; ++l)
    add("of length " + std::to_string(l), ratio(mini::sessions_of_length[l], mini::sessions),
        ratio(counts.sessions_of_length[l], counts.sessions), l == longest_session ? .02 : .01, eda);
  add("mean length", ratio(mini::rows, mini::sessions), ratio(counts.rows, counts.sessions), .15, eda);
  add("all premium", .8028, ratio(counts.all_premium, counts.sessions), .02, eda);
  add("all free", .1970, ratio(counts.all_free, counts.sessions), .02, eda);
  add("distinct reason_end", 2.92, ratio(counts.distinct_end, counts.sessions), .2, full);
  add("distinct reason_start", 3.11, ratio(counts.distinct_start, counts.sessions), .2, full);
  add("distinct context_type", 1.29, ratio(counts.distinct_context, counts.sessions), .06, full);
  add("distinct premium", 1.0001, ratio(counts.distinct_premium, counts.sessions), .001, full);
  add("distinct date", 1.016, ratio(counts.distinct_date, counts.sessions), .008, full);
  add("distinct shuffle", 1.125, ratio(counts.distinct_shuffle, counts.sessions), .04, full);
  add("distinct no_pause", 2.00, ratio(counts.distinct_no_pause, counts.sessions), .01, full);
  add("distinct context_switch", 1.355, ratio(counts.distinct_switch, counts.sessions), .05, full);
  add("correlation of length and skip_2", mini::length_skip_correlation,
      length_correlation(counts.length_skip), .03, matrix);
  add("correlation of length and premium", mini::length_premium_correlation,
      length_correlation(counts.length_premium), .03, matrix);

  group = "P(skip_2 | position)";
  for (std::size_t i = 1; i <= longest_session; ++i)
    add(std::to_string(i), mini::skip_rate_at[i], rate(counts.position_skip[i]), .025, eda);

  group = "P(skip_2 | the rows before, oldest first)";
  {
    Counts2<2, 2> one = {};
    Counts2<4, 2> two = {};
    for (std::size_t code = 0; code < 16; ++code)
      for (std::size_t k = 0; k < 2; ++k) {
        one[code & 1][k] += counts.after_four[code][k];
        two[code & 3][k] += counts.after_four[code][k];
      }
    constexpr std::array<double, 2> first_order = {.2881, .7303};
    constexpr std::array<double, 4> second_order = {.2527, .6390, .3758, .7641};
    constexpr std::array<double, 16> fourth_order = {.2193, .6178, .3212, .7120, .2993, .5898, .3668, .7526,
                                                     .2669, .6685, .4140, .7401, .3307, .6772, .3953, .7838};
    const auto bits = [](std::size_t code, int digits) {
      std::string text;
      for (int i = digits - 1; i >= 0; --i) text += code >> i & 1 ? '1' : '0';
      return text;
    };
    for (std::size_t c = 0; c < 2; ++c) add(bits(c, 1), first_order[c], rate(one[c]), .02, labels);
    for (std::size_t c = 0; c < 4; ++c) add(bits(c, 2), second_order[c], rate(two[c]), .025, labels);
    for (std::size_t c = 0; c < 16; ++c)
      add(bits(c, 4), fourth_order[c], rate(counts.after_four[c]), .045, labels);
  }
  group = "autocorrelation of skip_2";
  constexpr std::array<double, SessionCounts::lags.size()> published_lags = {.4422, .2954, .2130, .1364,
                                                                             .0556, .0188, .0039};
  const double p = here(counts.skip_2);
  for (std::size_t k = 0; k < SessionCounts::lags.size(); ++k)
    add("lag " + std::to_string(SessionCounts::lags[k]), published_lags[k],
        (ratio(counts.both_skipped[k], counts.pairs[k]) - p * p) / (p * (1 - p)), .025, labels);

  group = "reason_start";
  for (std::size_t s = 0; s < starts; ++s)
    add(std::string(start_names[s]), share(total(mini::start_pause[s])), here(total(start_pause[s])), .012,
        eda);
  add("equal to the previous reason_end", .90, ratio(counts.start_repeats_end, counts.later_rows), .02,
      "about .90; .916 in 190 pairs");
  group = "reason_start of the first row";
  for (std::size_t s = 0; s < starts; ++s)
    add(std::string(start_names[s]), ratio(mini::start_pause[s][first], mini::sessions),
        ratio(start_pause[s][first], counts.sessions), .02, matrix);
  group = "P(skip_2 | reason_start)";
  for (std::size_t s = 0; s < starts; ++s)
    if (total(mini::start_pause[s]) >= 1000)
      add(std::string(start_names[s]), ratio(mini::start_skip[s], total(mini::start_pause[s])),
          rate(start_skip[s]), s == start_appload ? .05 : .02, matrix);
  group = "reason_end";
  for (std::size_t e = 0; e < ends; ++e)
    add(std::string(end_names[e]), share(total(mini::end_pause[e])), here(total(end_skip[e])), .012, eda);
  group = "P(skip_2 | reason_end)";
  for (std::size_t e = 0; e < ends; ++e)
    if (total(mini::end_pause[e]) >= 500)
      add(std::string(end_names[e]), ratio(mini::end_skip[e], total(mini::end_pause[e])), rate(end_skip[e]),
          e == end_logout ? .08 : .03, matrix);
  group = "reason_start, reason_end";
  for (std::size_t s = 0; s < starts; ++s)
    for (std::size_t e = 0; e < ends; ++e)
      if (mini::start_end[s][e] >= 400)
        add(std::string(start_names[s]) + ", " + std::string(end_names[e]), share(mini::start_end[s][e]),
            here(start_end[s][e]), mini::start_end[s][e] > 30000 ? .015 : .006, matrix);

  group = "pauses";
  add("no_pause", ratio(mini_pause(none), mini::rows), here(pause_total(none)), .015, flags);
  add("short_pause", ratio(mini_pause(brief), mini::rows), here(pause_total(brief)), .015, flags);
  add("long_pause", ratio(mini_pause(brief) + mini_pause(extended), mini::rows),
      here(pause_total(brief) + pause_total(extended)), .015, flags);
  add("rows against the structure", 0, here(counts.odd_pause), 0, "[PR] mini, exact");
  const auto mini_rate = [&](Pause pause) { return ratio(mini::pause_skip[pause], mini_pause(pause)); };
  add("P(skip_2 | no_pause)", mini_rate(none), rate(pause_skip[none]), .015, matrix);
  add("P(skip_2 | short_pause)", mini_rate(brief), rate(pause_skip[brief]), .02, matrix);
  add("P(skip_2 | long_pause and not short_pause)", mini_rate(extended), rate(pause_skip[extended]), .04,
      matrix);
  for (const Start s : {start_backbtn, start_clickrow, start_fwdbtn, start_trackdone})
    add("P(short_pause | " + std::string(start_names[s]) + ")",
        ratio(mini::start_pause[s][brief], total(mini::start_pause[s])),
        ratio(start_pause[s][brief], total(start_pause[s])), .025, matrix);
  for (const auto& cell : mini::sampled)
    if (cell.start == start_trackdone && (cell.pause == none || cell.pause == brief))
      add(std::string("P(skip_2 | trackdone, ") + (cell.pause == none ? "no_pause" : "short_pause") + ")",
          ratio(cell.skipped, cell.completed + cell.abandoned + cell.skipped),
          rate(done_pause_skip[cell.pause]), cell.pause == none ? .045 : .07, rows1000);

  group = "context_type";
  const auto mini_context = [](std::size_t c) { return total(mini::context_pause[c]); };
  for (std::size_t c = 0; c < contexts; ++c)
    add(std::string(context_names[c]), share(mini_context(c)), here(total(counts.context_pause[c])), .025,
        eda);
  for (std::size_t c = 0; c < contexts; ++c)
    add("P(skip_2 | " + std::string(context_names[c]) + ")", ratio(mini::context_skip[c], mini_context(c)),
        rate(counts.context_skip[c]), mini_context(c) < 3000 ? .08 : .03, eda);
  for (std::size_t c = 0; c < contexts; ++c)
    add("P(fwdbtn starts | " + std::string(context_names[c]) + ")",
        ratio(mini::context_start[c][start_fwdbtn], mini_context(c)),
        ratio(counts.context_start[c][start_fwdbtn], total(counts.context_start[c])),
        mini_context(c) < 3000 ? .08 : .04, matrix);

  group = "premium, shuffle, context_switch";
  const std::int64_t shuffled = total(counts.shuffle_skip[1]), paid = total(counts.premium_skip[1]);
  std::int64_t paid_shuffled = 0;
  for (const auto& context : counts.context_premium_shuffle) paid_shuffled += context[1][1];
  add("premium", share(mini::premium), here(paid), .02, eda);
  add("shuffle", share(mini::shuffle), here(shuffled), .025, eda);
  add("P(shuffle | premium)", ratio(mini::shuffle_premium, mini::premium), ratio(paid_shuffled, paid), .03,
      matrix);
  add("context_switch", share(mini::switched), here(total(counts.switch_skip[1])), .006, eda);
  add("P(skip_2 | premium)", ratio(mini::premium_skip, mini::premium), rate(counts.premium_skip[1]), .015,
      matrix);
  add("P(skip_2 | free)", ratio(mini::skip_2 - mini::premium_skip, mini::rows - mini::premium),
      rate(counts.premium_skip[0]), .03, matrix);
  add("P(skip_2 | shuffle)", ratio(mini::shuffle_skip, mini::shuffle), rate(counts.shuffle_skip[1]), .025,
      matrix);
  add("P(skip_2 | no shuffle)", ratio(mini::skip_2 - mini::shuffle_skip, mini::rows - mini::shuffle),
      rate(counts.shuffle_skip[0]), .015, matrix);
  add("P(skip_2 | context_switch)", ratio(mini::switched_skip, mini::switched), rate(counts.switch_skip[1]),
      .03, matrix);
  add("P(context_switch | clickrow)",
      ratio(mini::start_switch[start_clickrow], total(mini::start_pause[start_clickrow])),
      rate(counts.start_switch[start_clickrow]), .03, matrix);

  group = "hour_of_day";
  for (std::size_t h = 0; h < 24; ++h)
    add(std::to_string(h), share(mini::at_hour[h]), here(total(counts.hour_skip[h])), .008, eda);
  group = "P(skip_2 | hour_of_day)";
  for (std::size_t h = 0; h < 24; ++h)
    // A session is mostly in one hour, and listeners differ: 3.5 deviations of so many whole sessions.
    add(std::to_string(h), mini::skip_rate_at_hour[h], rate(counts.hour_skip[h]),
        3.5 * .25 * std::sqrt(16.8 / static_cast<double>(mini::at_hour[h])), eda);

  group = "seeks";
  add("forward, of rows", .027782, here(counts.sought_forward), .004, eda);
  add("back, of rows", .030826, here(counts.sought_back), .004, eda);
  add("forward, mean", .0389, here(counts.seeks_forward), .008, eda);
  add("back, mean", .0463, here(counts.seeks_back), .010, eda);

  // Another service with fewer skips (.322), and listeners over a long time instead of sessions of 17 tracks,
  // whose shares chance spreads further: a guide with a wide tolerance.
  group = "spread of the share of tracks not skipped";
  const auto spread = [&](double low, double high) {
    return quantile(counts.sessions_listened, high) - quantile(counts.sessions_listened, low);
  };
  add("from the 25 % to the 75 % quantile of sessions", .850 - .539, spread(.25, .75), .15, deezer);
  add("from the 5 % to the 95 % quantile of sessions", .958 - .275, spread(.05, .95), .25, deezer);

  if (tracks.sessions >= 5000) {
    // Repeats depend on the number of sessions, so these compare for about 10,000 of them.
    const bool comparable = tracks.sessions == mini::sessions;
    group = "tracks";
    if (comparable) {
      add("distinct tracks per row", ratio(mini::tracks, mini::rows), ratio(tracks.tracks, tracks.rows), .04,
          eda);
      add("share of the most played track", ratio(1427, mini::rows), ratio(tracks.hottest, tracks.rows), .005,
          eda);
    }
    if (tracks.matched == 0) return list;
    for (std::size_t f = 0; f < audio_features; ++f) {
      const FeatureFact& fact = feature_facts[f];
      const std::string name(fact.name);
      add("mean of " + name, fact.mean, tracks.mean[f], .15 * fact.deviation, matrix);
      // The popularity is a percentile that all but a few plays have near its upper end.
      add("deviation of " + name, fact.deviation, tracks.deviation[f],
          (name == "us_popularity_estimate" ? .4 : .2) * fact.deviation, matrix);
    }
    group = "correlation with skip_2";
    for (std::size_t f = 0; f < audio_features; ++f)
      add(std::string(feature_facts[f].name), feature_facts[f].skip_correlation, tracks.skip_correlation[f],
          .02, matrix);
  }
  return list;
}

}  // namespace tonearm::mssd
