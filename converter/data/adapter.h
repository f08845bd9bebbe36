#pragma once

// What the adapters behind open_logs() share.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.h"
#include "data/csv.h"
#include "data/sessions.h"

namespace tonearm {

// The words of the C API's enumerators, without UNKNOWN.
inline constexpr std::array<std::string_view, 15> reason_words = {
    "trackdone", "fwdbtn", "backbtn",    "clickrow",        "appload",
    "playbtn",   "remote", "trackerror", "endplay",         "logout",
    "clickside", "popup",  "uriopen",    "unexpected-exit", "unexpected-exit-while-paused"};
inline constexpr std::array<std::string_view, 6> context_words = {
    "user_collection", "catalog", "editorial_playlist", "radio", "personalized_playlist", "charts"};
inline constexpr std::array<std::string_view, 3> pause_words = {"none", "short", "long"};

/// The columns of a log of the Music Streaming Sessions Dataset.
inline constexpr std::array<const char*, 21> mssd_log_columns = {"session_id",
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

/// The enumerator for a word; 0, which is UNKNOWN, for any other. Frequent words come first.
template <std::size_t size>
std::uint32_t enumerator(const std::array<std::string_view, size>& words, std::string_view text) {
  for (std::uint32_t i = 0; i < size; ++i)
    if (text == words[i]) return i + 1;
  return 0;
}
/// The logs themselves say that they do not know.
inline bool says_unknown(std::string_view text) { return text.empty() || text == "unknown"; }

/// false, true, 0 or 1, in any case; nothing for other texts.
inline std::optional<bool> parse_flag(std::string_view text) {
  const auto is = [&](std::string_view word) {
    for (std::size_t i = 0; i < word.size(); ++i)
      if ((text[i] | 0x20) != word[i]) return false;
    return true;
  };
  switch (text.size()) {
    case 1:
      if (text[0] == '0' || text[0] == '1') return text[0] == '1';
      break;
    case 3:  // tools that know no missing flags make numbers of all
      if ((text[0] == '0' || text[0] == '1') && text.substr(1) == ".0") return text[0] == '1';
      break;
    case 4:
      if (is("true")) return true;
      break;
    case 5:
      if (is("false")) return false;
      break;
    default:
      break;
  }
  return std::nullopt;
}
/// All digits, and below 10^18.
std::optional<std::uint64_t> parse_whole(std::string_view text);

/// All columns that can be had of a player, and behind those of each source its extra ones.
std::vector<LogColumn> columns_with(const std::vector<LogColumn>& extra);

/// Counts of oddities, each with its first example. The kinds are an adapter's own.
class Oddities {
 public:
  explicit Oddities(std::size_t kinds) : found_(kinds) {}
  /// Where it was: after `separator`, e.g. ":" and the line.
  void add(std::size_t kind, const std::filesystem::path& file, std::size_t place, std::string_view text = {},
           const char* separator = ":");
  /// Adds those of what comes behind.
  void add(const Oddities& later);
  /// Those that occurred, in the words for each kind.
  std::vector<LogRemark> remarks(std::span<const char* const> words) const;

 private:
  struct Found {
    std::size_t count = 0;
    std::string example;
  };
  std::vector<Found> found_;
};

constexpr std::size_t track_column_count = 29;

/// Which of the track columns are wanted: schema::Field less one, ascending.
struct WantedTracks {
  std::vector<std::uint8_t> columns;
  /// They were asked for by name and are required, so they must be in the data.
  bool named = false;
};
std::string track_column_name(std::uint8_t column);
WantedTracks wanted_tracks(const std::vector<std::string>& needed);

/// Sets the number of a track that a column stands for.
inline void set_track_column(tonearm_track& track, std::uint8_t column, float value) {
  // The members from duration to acoustic_vector stand in the order of the schema's fields.
  static_assert(offsetof(tonearm_track, acoustic_vector) + sizeof tonearm_track::acoustic_vector -
                    offsetof(tonearm_track, duration) ==
                track_column_count * sizeof(float));
  static_assert(offsetof(tonearm_track, valence) - offsetof(tonearm_track, duration) ==
                (static_cast<std::size_t>(schema::Field::Valence) - 1) * sizeof(float));
  std::memcpy(reinterpret_cast<char*>(&track) + offsetof(tonearm_track, duration) + column * sizeof(float),
              &value, sizeof value);
}

/// Where the wanted track columns stand in a CSV file, under their names in the MSSD or in Spotify's Web API.
class TrackCells {
 public:
  TrackCells(const CsvReader& reader, const WantedTracks& wanted);

  bool complete() const { return missing_.empty(); }
  /// Places of the wanted columns that the file does not have.
  const std::vector<std::uint8_t>& missing() const { return missing_; }

  /// Calls put(place among the wanted columns, value) for each that is there.
  template <typename Put>
  void read(const CsvReader& reader, std::span<const std::string_view> fields, Put put) const {
    for (const Cell& cell : cells_) put(cell.place, number(reader, cell, fields[cell.field]));
  }

 private:
  enum class Kind : std::uint8_t { number, mode, milliseconds };
  struct Cell {
    std::uint8_t place;
    Kind kind;
    std::size_t field;
  };
  static float number(const CsvReader& reader, const Cell& cell, std::string_view text);

  std::vector<Cell> cells_;
  std::vector<std::uint8_t> missing_;
};

/// The wanted columns of all tracks in memory, by the hash of the track's id.
class TrackTable {
 public:
  /// Several files are read at once. `id_names`: what the column of ids may be called.
  TrackTable(std::vector<std::filesystem::path> files, std::span<const std::string_view> id_names,
             WantedTracks wanted, Threads& threads);

  /// Sets the columns at these places among the wanted ones; false if the table does not have the track.
  bool look_up(tonearm_track& track, std::span<const std::uint8_t> places) const;
  /// The table is larger than any cache. Announce the tracks to be looked up: first some to the one, then
  /// to the other.
  void announce(std::uint64_t id) const { __builtin_prefetch(&slots_[id & (slots_.size() - 1)]); }
  void announce_row(std::uint64_t id) const {
    const std::uint64_t slot = slots_[id & (slots_.size() - 1)];
    if (slot == 0) return;
    const float* const first = row(static_cast<std::uint32_t>(slot) - 1);
    constexpr std::size_t cache_line = 64 / sizeof(float);
    for (std::size_t i = 0; i < stride_; i += cache_line) __builtin_prefetch(first + i);
  }

  const std::vector<std::filesystem::path>& files() const { return files_; }
  /// Rows with the id of an earlier row.
  const LogRemark& repeated() const { return repeated_; }

 private:
  struct Part;
  void read(const std::filesystem::path& file, std::span<const std::string_view> id_names, Part& part) const;
  void enter(std::vector<Part>& parts);
  const float* row(std::uint32_t index) const {
    return blocks_[index / rows_per_block].get() + index % rows_per_block * stride_;
  }

  static constexpr std::size_t rows_per_block = 4096;
  std::vector<std::filesystem::path> files_;
  WantedTracks wanted_;
  /// A row is the id, in the place of two floats, and the wanted columns.
  std::size_t stride_;
  std::vector<std::unique_ptr<float[]>> blocks_;
  /// Open addressing: the upper half of the id, and 1 + the row; 0 is free.
  std::vector<std::uint64_t> slots_;
  LogRemark repeated_{"rows of the track table with the id of an earlier row: passed over"};
};

/// What an adapter is told.
struct LogFiles {
  std::filesystem::path logs;
  std::string pattern;           // "" is the adapter's own
  std::filesystem::path tracks;  // "" if the recipe names none
  WantedTracks wanted;
};

std::unique_ptr<LogSource> open_mssd(const LogFiles& files, Threads& threads);
std::unique_ptr<LogSource> open_history(const LogFiles& files, std::int32_t utc_offset, Threads& threads);

bool any_synthetic(std::span<const std::filesystem::path> files);

}  // namespace tonearm
