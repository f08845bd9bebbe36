#include "data/sessions.h"

#include <algorithm>

#include "base/error.h"
#include "data/adapter.h"

namespace tonearm {

std::optional<std::uint64_t> parse_whole(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = 10 * value + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

std::vector<LogColumn> columns_with(const std::vector<LogColumn>& extra) {
  using schema::Field;
  using schema::Source;
  std::vector<LogColumn> columns;
  const auto number = [&](Source source, const char* name, Field field) {
    columns.push_back({name, source, field});
  };
  const auto category = [&](Source source, const char* name, Field field, const auto& words) {
    columns.push_back({name, source, field, {words.begin(), words.end()}});
  };
  const auto extras_of = [&](Source source) {
    for (const LogColumn& column : extra)
      if (column.source == source) columns.push_back(column);
  };
  static constexpr std::array<const char*, track_column_count> track_names = {"duration",
                                                                              "release_year",
                                                                              "popularity",
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
  for (std::size_t i = 0; i < track_names.size(); ++i)
    number(Source::Track, track_names[i], static_cast<Field>(i + 1));
  extras_of(Source::Track);
  number(Source::Now, "hour_of_day", Field::HourOfDay);
  number(Source::Now, "is_shuffle", Field::IsShuffle);
  number(Source::Now, "premium", Field::Premium);
  number(Source::Now, "weekday", Field::Weekday);
  number(Source::Now, "year", Field::Year);
  category(Source::Now, "context_type", Field::ContextType, context_words);
  extras_of(Source::Now);
  number(Source::Start, "context_switch", Field::ContextSwitch);
  category(Source::Start, "reason_start", Field::ReasonStart, reason_words);
  category(Source::Start, "pause", Field::Pause, pause_words);
  extras_of(Source::Start);
  number(Source::End, "n_seekfwd", Field::SeekForward);
  number(Source::End, "n_seekback", Field::SeekBack);
  number(Source::End, "ms_played", Field::MsPlayed);
  number(Source::End, "played_share", Field::PlayedShare);
  category(Source::End, "reason_end", Field::ReasonEnd, reason_words);
  number(Source::End, "skip_1", Field::Skip1);
  number(Source::End, "skip_2", Field::Skip2);
  number(Source::End, "skip_3", Field::Skip3);
  number(Source::End, "not_skipped", Field::NotSkipped);
  number(Source::End, "skipped", Field::Skipped);
  number(Source::End, "completed", Field::Completed);
  extras_of(Source::End);
  return columns;
}

void Oddities::add(std::size_t kind, const std::filesystem::path& file, std::size_t place,
                   std::string_view text, const char* separator) {
  Found& found = found_[kind];
  if (found.count++ > 0) return;
  found.example = file.string() + separator + std::to_string(place);
  if (!text.empty()) found.example += " '" + std::string(text.substr(0, 60)) + "'";
}

void Oddities::add(const Oddities& later) {
  for (std::size_t i = 0; i < found_.size(); ++i) {
    if (found_[i].count == 0) found_[i].example = later.found_[i].example;
    found_[i].count += later.found_[i].count;
  }
}

std::vector<LogRemark> Oddities::remarks(std::span<const char* const> words) const {
  std::vector<LogRemark> result;
  for (std::size_t i = 0; i < found_.size(); ++i)
    if (found_[i].count > 0) result.push_back({words[i], found_[i].count, found_[i].example});
  return result;
}

bool any_synthetic(std::span<const std::filesystem::path> files) {
  return std::any_of(files.begin(), files.end(), [](const std::filesystem::path& file) {
    return file.filename().string().find("synthetic") != std::string::npos;
  });
}

std::unique_ptr<LogSource> open_logs(const Recipe::Section& data, const std::filesystem::path& folder,
                                     const std::vector<std::string>& needed, Threads& threads,
                                     bool required) {
  namespace fs = std::filesystem;
  const std::string adapter = data.choice("adapter", "", {"mssd", "history"});
  (void)data.text("description", "");
  fs::path root = folder;
  std::error_code unreadable;
  if (data.has("folder") && fs::is_directory(root / data.text("folder"), unreadable))
    root /= data.text("folder");
  LogFiles files;
  files.logs = data.has("logs") ? root / data.text("logs") : root;
  files.pattern = data.text("files", "");
  if (data.has("tracks")) files.tracks = root / data.text("tracks");
  files.wanted = wanted_tracks(needed);
  files.wanted.named = files.wanted.named && required;
  if (adapter == "mssd") return open_mssd(files, threads);
  const double hours = data.number("utc_offset", 0, -14, 14);
  return open_history(files, static_cast<std::int32_t>(hours * 3600), threads);
}

}  // namespace tonearm
