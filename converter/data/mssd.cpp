// The Music Streaming Sessions Dataset: Brost, Mehrotra, Jehan: The Music Streaming Sessions Dataset, 2019.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "data/adapter.h"
#include "data/table.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_session = 1'000'000;

enum Cell : std::size_t {
  session_id,
  session_position,
  session_length,
  track_id,
  skip_1,
  skip_2,
  skip_3,
  not_skipped,
  context_switch,
  no_pause,
  short_pause,
  long_pause,
  n_seekfwd,
  n_seekback,
  is_shuffle,
  hour_of_day,
  date,
  premium,
  context_type,
  reason_start,
  reason_end,
  cell_count
};
static_assert(mssd_log_columns.size() == cell_count);
constexpr std::array<std::string_view, 2> id_names = {"track_id", "track_id_clean"};

enum Oddity : std::size_t {
  unordered,
  repeated,
  jumps,
  unusual_length,
  no_track,
  broken_nesting,
  broken_pause,
  strange_context,
  strange_reason_start,
  strange_reason_end,
  oddity_count
};
constexpr std::array<const char*, oddity_count> oddity_words = {
    "sessions with rows out of the order of session_position: sorted",
    "rows with the session_position of an earlier row of their session: dropped",
    "sessions in which session_position does not count from 1 without a gap: read as if nothing were missing",
    "sessions with fewer than 10 or more than 20 tracks: kept",
    "rows with a track that the track table does not have: its features are unknown",
    "rows with skip_1, skip_2, skip_3, not_skipped that contradict each other: the highest that is set "
    "counts",
    "rows with pauses that contradict each other: the pause is unknown",
    "rows with a context_type that is none of the known ones: unknown",
    "rows with a hist_user_behavior_reason_start that is none of the known ones: unknown",
    "rows with a hist_user_behavior_reason_end that is none of the known ones: unknown"};

/// 20180715 for 2018-07-15 and 15-07-18; 0 if it is no date.
std::uint32_t parse_date(std::string_view text) {
  const auto digits = [&](std::size_t at, std::size_t count) {
    return static_cast<std::uint32_t>(parse_whole(text.substr(at, count)).value_or(0));
  };
  std::uint32_t year, month, day;
  if (text.size() == 10 && text[4] == '-' && text[7] == '-') {
    year = digits(0, 4), month = digits(5, 2), day = digits(8, 2);
  } else if (text.size() == 8 && text[2] == '-' && text[5] == '-') {
    if (!parse_whole(text.substr(6))) return 0;
    year = 2000 + digits(6, 2), month = digits(3, 2), day = digits(0, 2);
  } else {
    return 0;
  }
  const std::chrono::year_month_day day_of_year{std::chrono::year(static_cast<int>(year)),
                                                std::chrono::month(month), std::chrono::day(day)};
  if (!day_of_year.ok() || year < 1970 || year > 2099) return 0;
  return year * 10000 + month * 100 + day;
}

Play unknown_play() {
  Play play;
  tonearm_track_init(&play.track, sizeof play.track);
  tonearm_now_init(&play.now, sizeof play.now);
  tonearm_start_init(&play.start, sizeof play.start);
  tonearm_end_init(&play.end, sizeof play.end);
  return play;
}

/// Reads one log file, session by session.
class ShardReader {
 public:
  ShardReader(const fs::path& file, const WantedTracks& wanted, const TrackTable* tracks,
              const std::function<void(const Log&)>& sink)
      : reader_(file), own_tracks_(reader_, wanted), wanted_(wanted), tracks_(tracks), sink_(sink) {
    for (std::size_t i = 0; i < cell_count; ++i) places_[i] = reader_.place(mssd_log_columns[i]);
    if (own_tracks_.complete()) tracks_ = nullptr;
  }

  Oddities read() {
    while (reader_.next(fields_)) {
      const std::string_view id = text(session_id);
      if (id != session_ || positions_.empty()) {
        finish_session();
        if (id.empty()) refuse(session_id, "the id of a session");
        session_ = id;
        log_.identity = hash_text(id);
      }
      if (positions_.size() == longest_session)
        throw Error(reader_.path().string() + ", line " + std::to_string(reader_.line()) + ": the session '" +
                    session_ + "' has more than 1,000,000 rows; is session_id the right column?");
      read_row();
    }
    finish_session();
    return std::move(oddities_);
  }

 private:
  std::string_view text(Cell cell) const { return fields_[places_[cell]]; }

  [[noreturn]] void refuse(Cell cell, const std::string& expected) const {
    reader_.refuse(places_[cell], text(cell), expected);
  }

  bool flag(Cell cell) const {
    const auto value = parse_flag(text(cell));
    if (!value) refuse(cell, "true, false, 1 or 0");
    return *value;
  }
  float flag_or_unknown(Cell cell) const {
    const std::string_view cell_text = text(cell);
    if (const auto value = parse_flag(cell_text)) return *value;
    if (!std::isnan(reader_.number(places_[cell], cell_text))) refuse(cell, "true, false, 1 or 0");
    return std::numeric_limits<float>::quiet_NaN();
  }

  /// A count up to `most`, or unknown.
  float count(Cell cell, float most) const {
    const std::string_view cell_text = text(cell);
    if (cell_text.size() == 1 && cell_text[0] >= '0' && cell_text[0] <= '9')
      return static_cast<float>(cell_text[0] - '0');
    const float value = reader_.number(places_[cell], cell_text);
    if (!std::isnan(value) && (value < 0 || value > most || value != std::floor(value)))
      refuse(cell, "a whole number from 0 to " + std::to_string(static_cast<int>(most)));
    return value;
  }

  template <typename Words>
  std::uint32_t word(Cell cell, const Words& words, Oddity strange) {
    const std::string_view cell_text = text(cell);
    const std::uint32_t value = enumerator(words, cell_text);
    if (value == 0 && !says_unknown(cell_text)) note(strange, cell_text);
    return value;
  }

  void note(Oddity oddity, std::string_view example = {}) {
    oddities_.add(oddity, reader_.path(), reader_.line(), example);
  }

  void read_row() {
    const auto position = parse_whole(text(session_position));
    if (!position || *position > longest_session) refuse(session_position, "a whole number up to 1,000,000");
    if (text(track_id).empty()) refuse(track_id, "the id of a track");
    positions_.push_back(static_cast<std::uint32_t>(*position));
    lines_.push_back(reader_.line());
    Play& play = log_.plays.emplace_back(unknown_);
    constexpr float any_count = 1e6f;
    log_.extra.push_back(count(session_length, any_count));

    play.track.track_id = hash_text(text(track_id));
    own_tracks_.read(reader_, fields_, [&](std::uint8_t place, float value) {
      set_track_column(play.track, wanted_.columns[place], value);
    });

    play.now.date = date_of_row();
    play.now.hour_of_day = count(hour_of_day, 23);
    play.now.is_shuffle = flag_or_unknown(is_shuffle);
    play.now.premium = flag_or_unknown(premium);
    play.now.context_type = word(context_type, context_words, strange_context);
    play.start.context_switch = flag_or_unknown(context_switch);
    play.start.reason = word(reason_start, reason_words, strange_reason_start);
    play.start.pause = pause();
    play.end.reason = word(reason_end, reason_words, strange_reason_end);
    play.end.skip = skip_level();
    play.end.n_seekfwd = count(n_seekfwd, any_count);
    play.end.n_seekback = count(n_seekback, any_count);
  }

  std::uint32_t date_of_row() {
    const std::string_view cell_text = text(date);
    if (cell_text == date_text_) return date_;
    const std::uint32_t value = parse_date(cell_text);
    if (value == 0 && !cell_text.empty()) refuse(date, "a date like 2018-07-15 or 15-07-18");
    date_text_ = cell_text;
    date_ = value;
    return value;
  }

  /// A short pause is a long one, too; the first row of a session has no flag.
  std::uint32_t pause() {
    constexpr int none = 4, brief = 2, lasting = 1;
    switch (none * flag(no_pause) + brief * flag(short_pause) + lasting * flag(long_pause)) {
      case 0:
        return TONEARM_PAUSE_UNKNOWN;
      case lasting:
        return TONEARM_PAUSE_LONG;
      case brief:
      case brief + lasting:
        return TONEARM_PAUSE_SHORT;
      case none:
        return TONEARM_PAUSE_NONE;
      default:
        note(broken_pause);
        return TONEARM_PAUSE_UNKNOWN;
    }
  }

  /// skip_1 implies skip_2, and that skip_3, which excludes not_skipped.
  std::uint32_t skip_level() {
    const bool first = flag(skip_1), second = flag(skip_2), third = flag(skip_3), none = flag(not_skipped);
    if (first > second || second > third || (third && none)) note(broken_nesting);
    if (first) return TONEARM_SKIP_VERY_BRIEFLY;
    if (second) return TONEARM_SKIP_BRIEFLY;
    if (third) return TONEARM_SKIP_MOSTLY;
    return none ? TONEARM_SKIP_NOT_SKIPPED : TONEARM_SKIP_NEAR_END;
  }

  void finish_session() {
    if (positions_.empty()) return;
    if (tracks_ != nullptr) look_up_tracks();
    const auto note_line = [&](Oddity oddity, std::size_t line) {
      oddities_.add(oddity, reader_.path(), line);
    };
    if (std::adjacent_find(positions_.begin(), positions_.end(), std::greater_equal<>()) != positions_.end())
      put_in_order(note_line);
    for (std::size_t i = 0; i < positions_.size(); ++i) {
      if (positions_[i] == (i == 0 ? 1 : positions_[i - 1] + 1)) continue;
      note_line(jumps, lines_[i]);
      break;
    }
    if (positions_.size() < 10 || positions_.size() > 20) note_line(unusual_length, lines_[0]);
    for (std::size_t i = 0; i < log_.plays.size(); ++i) {
      log_.plays[i].end.extra = &log_.extra[i];
      log_.plays[i].end.extra_count = 1;
    }
    sink_(log_);
    positions_.clear();
    lines_.clear();
    log_.plays.clear();
    log_.extra.clear();
  }

  void look_up_tracks() {
    constexpr std::size_t at_once = 32;
    for (std::size_t begin = 0; begin < log_.plays.size(); begin += at_once) {
      const std::size_t end = std::min(begin + at_once, log_.plays.size());
      for (std::size_t i = begin; i < end; ++i) tracks_->announce(log_.plays[i].track.track_id);
      for (std::size_t i = begin; i < end; ++i) tracks_->announce_row(log_.plays[i].track.track_id);
      for (std::size_t i = begin; i < end; ++i)
        if (!tracks_->look_up(log_.plays[i].track, own_tracks_.missing()))
          oddities_.add(no_track, reader_.path(), lines_[i]);
    }
  }

  /// Of rows with the same position the first one stays.
  template <typename NoteLine>
  void put_in_order(const NoteLine& note_line) {
    const auto descent = std::is_sorted_until(positions_.begin(), positions_.end());
    if (descent != positions_.end())
      note_line(unordered, lines_[static_cast<std::size_t>(descent - positions_.begin())]);
    std::vector<std::size_t> order(positions_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return positions_[a] < positions_[b]; });
    Log sorted;
    sorted.identity = log_.identity;
    std::vector<std::uint32_t> positions;
    std::vector<std::size_t> lines;
    for (const std::size_t i : order) {
      if (!positions.empty() && positions.back() == positions_[i]) {
        note_line(repeated, lines_[i]);
        continue;
      }
      positions.push_back(positions_[i]);
      lines.push_back(lines_[i]);
      sorted.plays.push_back(log_.plays[i]);
      sorted.extra.push_back(log_.extra[i]);
    }
    log_ = std::move(sorted);
    positions_ = std::move(positions);
    lines_ = std::move(lines);
  }

  CsvReader reader_;
  const TrackCells own_tracks_;
  const WantedTracks& wanted_;
  const TrackTable* tracks_;
  const std::function<void(const Log&)>& sink_;
  const Play unknown_ = unknown_play();
  std::array<std::size_t, cell_count> places_;
  Oddities oddities_{oddity_count};

  std::vector<std::string_view> fields_;
  std::string date_text_;
  std::uint32_t date_ = 0;
  // The session being read; positions and lines of its rows.
  std::string session_;
  Log log_;
  std::vector<std::uint32_t> positions_;
  std::vector<std::size_t> lines_;
};

class Mssd : public LogSource {
 public:
  Mssd(const LogFiles& files, Threads& threads)
      : files_(find_data_files(files.logs, files.pattern.empty() ? "log_*.csv" : files.pattern)),
        wanted_(files.wanted),
        columns_(columns_with(
            {{"session_length", schema::Source::End, schema::Field::Extra, {}, /*never_known=*/true}})) {
    LogRemark lacking{
        "log files without track columns, and no track table beside them: features are unknown"};
    std::string column;  // one that the first of them lacks
    for (const fs::path& file : files_) {
      // The header alone, before hours of reading.
      constexpr std::size_t block = 4096;
      const CsvReader reader(file, block);
      for (const char* name : mssd_log_columns) (void)reader.place(name);
      const TrackCells own(reader, wanted_);
      if (own.complete()) continue;
      if (lacking.count++ > 0) continue;
      lacking.example = file.string() + ":1";
      column = track_column_name(wanted_.columns[own.missing()[0]]);
    }
    if (lacking.count > 0) {
      const bool named = !files.tracks.empty();
      const fs::path folder = named                          ? files.tracks
                              : fs::is_directory(files.logs) ? files.logs
                                                             : files.logs.parent_path();
      auto track_files = find_data_files(folder, "tf_*.csv", named);
      if (!track_files.empty()) {
        tracks_ = std::make_unique<TrackTable>(std::move(track_files), id_names, wanted_, threads);
        if (tracks_->repeated().count > 0) opened_.push_back(tracks_->repeated());
      } else if (wanted_.named) {
        throw Error(lacking.example + ": there is no column '" + column +
                    "', and no track table tf_*.csv in " + folder.string() +
                    "; put one there, or name its folder in data.tracks");
      } else {
        opened_.push_back(lacking);
      }
    }
    found_.resize(files_.size(), Oddities(oddity_count));
  }

  const std::vector<LogColumn>& columns() const override { return columns_; }
  std::size_t shards() const override { return files_.size(); }
  std::string shard_name(std::size_t shard) const override { return files_[shard].filename().string(); }

  void read(std::size_t shard, const std::function<void(const Log&)>& sink) const override {
    Oddities found = ShardReader(files_[shard], wanted_, tracks_.get(), sink).read();
    const std::lock_guard<std::mutex> lock(mutex_);
    found_[shard] = std::move(found);
  }

  std::vector<LogRemark> remarks() const override {
    std::vector<LogRemark> result = opened_;
    Oddities all(oddity_count);
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Oddities& found : found_) all.add(found);
    for (LogRemark& remark : all.remarks(oddity_words)) result.push_back(std::move(remark));
    return result;
  }

  bool synthetic() const override {
    return any_synthetic(files_) || (tracks_ != nullptr && any_synthetic(tracks_->files()));
  }

 private:
  std::vector<fs::path> files_;
  WantedTracks wanted_;
  std::vector<LogColumn> columns_;
  std::unique_ptr<TrackTable> tracks_;
  std::vector<LogRemark> opened_;  // what was odd before any log was read
  mutable std::mutex mutex_;
  mutable std::vector<Oddities> found_;  // in each shard, when it was last read
};

}  // namespace

std::unique_ptr<LogSource> open_mssd(const LogFiles& files, Threads& threads) {
  return std::make_unique<Mssd>(files, threads);
}

}  // namespace tonearm
