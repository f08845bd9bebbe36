// What Spotify sends to a listener who asks for the "extended streaming history".

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <istream>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <streambuf>
#include <unordered_set>

#include "base/error.h"
#include "base/random.h"
#include "data/adapter.h"
#include "data/table.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr double longest_play = 30 * 24 * 3600 * 1000.0;  // milliseconds

enum Field : std::size_t {
  ts,
  ms_played,
  track_uri,
  reason_start,
  reason_end,
  shuffle,
  offline,
  incognito_mode,
  episode_uri,
  kind,
  user,
  artist_hash,
  artist_name,
  field_count
};
constexpr std::array<const char*, field_count> field_names = {"ts",
                                                              "ms_played",
                                                              "spotify_track_uri",
                                                              "reason_start",
                                                              "reason_end",
                                                              "shuffle",
                                                              "offline",
                                                              "incognito_mode",
                                                              "spotify_episode_uri",
                                                              "kind",
                                                              "user",
                                                              "artist_hash",
                                                              "master_metadata_album_artist_name"};
constexpr std::size_t required_fields = 5;  // of a CSV: the first ones
constexpr std::array<std::string_view, 2> id_names = {"uri", "spotify_track_uri"};

enum Oddity : std::size_t {
  not_a_track,
  no_uri,
  repeated,
  no_track,
  strange_reason_start,
  strange_reason_end,
  oddity_count
};
constexpr std::array<const char*, oddity_count> oddity_words = {
    "plays of something else than a track of the catalogue (episodes, local files): left out",
    "plays without a spotify_track_uri: left out",
    "plays that repeat an earlier one in everything that is read: dropped",
    "plays of a track that the track table does not have: its features are unknown",
    "plays with a reason_start that is none of the known ones: unknown",
    "plays with a reason_end that is none of the known ones: unknown"};

/// Milliseconds since 1970 of 2022-05-22T13:01:24Z; nothing if it is no such time.
std::optional<std::int64_t> parse_time(std::string_view text) {
  if (text.ends_with('Z')) text.remove_suffix(1);
  if (text.size() != 19 || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != ' ') ||
      text[13] != ':' || text[16] != ':')
    return std::nullopt;
  bool digits = true;
  const auto part = [&](std::size_t at, std::size_t count) {
    const auto value = parse_whole(text.substr(at, count));
    digits = digits && value;
    return static_cast<unsigned>(value.value_or(0));
  };
  const unsigned year = part(0, 4), month = part(5, 2), day = part(8, 2);
  const unsigned hour = part(11, 2), minute = part(14, 2), second = part(17, 2);
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (!digits || !date.ok() || year < 1970 || year > 2099 || hour > 23 || minute > 59 || second > 60)
    return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return ((days * 24LL + hour) * 60 + minute) * 60'000 + second * 1000LL;
}

/// A field of a JSON object or a CSV record.
struct Value {
  enum class Type { null, flag, number, text } type;
  double number = 0;      // of a flag, too
  std::string_view text;  // as it stands in the file, or nearly so

  /// A CSV tells no types.
  static Value of_text(std::string_view text) { return {text.empty() ? Type::null : Type::text, 0, text}; }
};

/// Where a play stands, to complain about it.
class Place {
 public:
  virtual ~Place() = default;
  [[noreturn]] virtual void refuse(Field field, const std::string& expected,
                                   std::string_view found) const = 0;
  [[noreturn]] virtual void lacks(Field field) const = 0;
  virtual std::uint64_t number() const = 0;  // line, or byte
};

/// A play, in little room.
struct Record {
  std::int64_t start, end;  // milliseconds since 1970
  std::uint64_t track, artist, place;
  std::uint32_t file, listener, ms_played;
  std::uint8_t reason_start, reason_end;
  std::int8_t shuffle, offline, incognito_mode;  // -1: unknown
};

/// Makes records of the plays of all files.
class Collector {
 public:
  explicit Collector(Oddities& oddities) : oddities_(oddities) {}

  /// What follows is in this file; listeners without a name of their own have this one.
  void begin_file(const fs::path& file, const std::string& listener) {
    files_.push_back(file);
    separator_ = file.extension() == ".json" ? ", byte " : ":";
    separators_.push_back(separator_);
    default_listener_ = listener;
  }

  void begin_play() {
    record_ = {};
    record_.shuffle = record_.offline = record_.incognito_mode = -1;
    has_time_ = has_ms_played_ = has_uri_ = other_ = false;
    listener_ = default_listener_;
  }

  void set(Field field, const Value& value, const Place& place) {
    switch (field) {
      case ts: {
        const auto time = value.type == Value::Type::text ? parse_time(value.text) : std::nullopt;
        if (!time) place.refuse(field, "a time in UTC like 2022-05-22T13:01:24Z", value.text);
        record_.end = *time;
        has_time_ = true;
        break;
      }
      case ms_played:
        record_.ms_played = milliseconds(field, value, place);
        has_ms_played_ = true;
        break;
      case track_uri: {
        const std::string_view uri = text(field, value, place);
        has_uri_ = !uri.empty();
        if (has_uri_ && !uri.starts_with("spotify:track:")) other_ = true;
        record_.track = hash_text(uri);
        break;
      }
      case episode_uri:
        if (!text(field, value, place).empty()) other_ = true;
        break;
      case kind: {
        const std::string_view word = text(field, value, place);
        if (!word.empty() && word != "track") other_ = true;
        break;
      }
      case reason_start:
        record_.reason_start = reason(field, value, place, strange_reason_start);
        break;
      case reason_end:
        record_.reason_end = reason(field, value, place, strange_reason_end);
        break;
      case shuffle:
        record_.shuffle = flag(field, value, place);
        break;
      case offline:
        record_.offline = flag(field, value, place);
        break;
      case incognito_mode:
        record_.incognito_mode = flag(field, value, place);
        break;
      case user:
        listener_ = text(field, value, place);
        break;
      case artist_hash:
      case artist_name: {
        const std::string_view name = text(field, value, place);
        if (!name.empty()) record_.artist = hash_text(name);
        break;
      }
      case field_count:
        break;
    }
  }

  void end_play(const Place& place) {
    if (!has_time_) place.lacks(ts);
    if (!has_ms_played_) place.lacks(ms_played);
    if (other_ || !has_uri_) return note(other_ ? not_a_track : no_uri, place);
    record_.start = record_.end - record_.ms_played;
    record_.place = place.number();
    record_.file = static_cast<std::uint32_t>(files_.size() - 1);
    record_.listener = listener_number();
    if (!seen_.insert(content_hash()).second) return note(repeated, place);
    records_.push_back(record_);
  }

  /// The records of one listener after the other, each in the order of the starts.
  std::vector<Record> take_sorted() {
    seen_.clear();
    std::stable_sort(records_.begin(), records_.end(), [](const Record& a, const Record& b) {
      return a.listener != b.listener ? a.listener < b.listener : a.start < b.start;
    });
    return std::move(records_);
  }

  const std::string& listener(std::uint32_t number) const { return listeners_[number]; }
  void note_no_track(const Record& record) {
    oddities_.add(no_track, files_[record.file], record.place, {}, separators_[record.file]);
  }

 private:
  void note(Oddity oddity, const Place& place, std::string_view example = {}) {
    oddities_.add(oddity, files_.back(), place.number(), example, separator_);
  }

  static std::string_view text(Field field, const Value& value, const Place& place) {
    if (value.type == Value::Type::null) return {};
    if (value.type != Value::Type::text) place.refuse(field, "a text", value.text);
    return value.text;
  }

  static std::uint32_t milliseconds(Field field, const Value& value, const Place& place) {
    double number = value.number;
    bool right = value.type == Value::Type::number;
    if (value.type == Value::Type::text) {
      const char* const end = value.text.data() + value.text.size();
      const auto [rest, status] = std::from_chars(value.text.data(), end, number);
      right = status == std::errc() && rest == end;
    }
    if (!right || !(number >= 0 && number <= longest_play) || number != std::floor(number))
      place.refuse(field, "whole milliseconds from 0 to 2592000000 (30 days)", value.text);
    return static_cast<std::uint32_t>(number);
  }

  static std::int8_t flag(Field field, const Value& value, const Place& place) {
    if (value.type == Value::Type::null) return -1;
    if (value.type == Value::Type::flag) return value.number != 0;
    const auto flag = value.type == Value::Type::text || value.number == 0 || value.number == 1
                          ? parse_flag(value.text)
                          : std::nullopt;
    if (!flag) place.refuse(field, "true or false", value.text);
    return *flag;
  }

  std::uint8_t reason(Field field, const Value& value, const Place& place, Oddity strange) {
    const std::string_view word = text(field, value, place);
    const std::uint32_t reason = enumerator(reason_words, word);
    if (reason == 0 && !says_unknown(word)) note(strange, place, word);
    return static_cast<std::uint8_t>(reason);
  }

  std::uint32_t listener_number() {
    if (listeners_.empty() || listeners_[last_listener_] != listener_) {
      const auto [found, fresh] =
          listener_numbers_.try_emplace(listener_, static_cast<std::uint32_t>(listeners_.size()));
      if (fresh) listeners_.push_back(listener_);
      last_listener_ = found->second;
    }
    return last_listener_;
  }

  std::uint64_t content_hash() const {
    std::uint64_t hash = 0;
    const auto mix = [&](auto value) { hash = mix64(hash + static_cast<std::uint64_t>(value)); };
    mix(record_.listener);
    mix(record_.end);
    mix(record_.ms_played);
    mix(record_.track);
    mix(record_.artist);
    mix(record_.reason_start);
    mix(record_.reason_end);
    mix(record_.shuffle);
    mix(record_.offline);
    mix(record_.incognito_mode);
    return hash;
  }

  Oddities& oddities_;
  std::vector<fs::path> files_;
  std::vector<const char*> separators_;
  const char* separator_ = nullptr;
  std::string default_listener_;
  std::vector<std::string> listeners_;
  std::unordered_map<std::string, std::uint32_t> listener_numbers_;
  std::uint32_t last_listener_ = 0;
  std::vector<Record> records_;
  std::unordered_set<std::uint64_t> seen_;
  // The play being read.
  Record record_;
  bool has_time_, has_ms_played_, has_uri_;
  bool other_;  // it is no track
  std::string listener_;
};

/// The bytes of a file for an istream, and how many of them have been taken.
class CountedBytes : public std::streambuf {
 public:
  explicit CountedBytes(const fs::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "rbe")), block_(1 << 16) {
    if (!file_) fail();
  }
  std::uint64_t taken() const { return before_ + static_cast<std::uint64_t>(gptr() - eback()); }

 protected:
  int_type underflow() override {
    before_ += static_cast<std::uint64_t>(egptr() - eback());
    const std::size_t got = std::fread(block_.data(), 1, block_.size(), file_.get());
    if (got == 0 && std::ferror(file_.get())) fail();
    setg(block_.data(), block_.data(), block_.data() + got);
    return got == 0 ? traits_type::eof() : traits_type::to_int_type(block_[0]);
  }

 private:
  [[noreturn]] void fail() const {
    throw Error("cannot read " + path_.string() + ": " + std::strerror(errno));
  }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  fs::path path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::vector<char> block_;
  std::uint64_t before_ = 0;
};

/// Takes the plays from the events of a JSON parser, so that no document is ever in memory.
class JsonPlays : public nlohmann::json_sax<nlohmann::json>, private Place {
 public:
  JsonPlays(const fs::path& path, const CountedBytes& bytes, Collector& plays)
      : path_(path), bytes_(bytes), plays_(plays) {}

  bool null() override { return take({Value::Type::null, 0, "null"}); }
  bool boolean(bool value) override {
    return take({Value::Type::flag, value ? 1.0 : 0.0, value ? "true" : "false"});
  }
  bool number_integer(number_integer_t value) override {
    return take({Value::Type::number, static_cast<double>(value), std::to_string(value)});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return take({Value::Type::number, static_cast<double>(value), std::to_string(value)});
  }
  bool number_float(number_float_t value, const string_t& text) override {
    return take({Value::Type::number, value, text});
  }
  bool string(string_t& value) override { return take({Value::Type::text, 0, value}); }
  bool binary(binary_t&) override { return true; }  // JSON has none

  bool start_object(std::size_t) override {
    if (depth_ == 0) fail("expected an array of plays, but found an object");
    if (depth_ == 1) {
      begin_ = bytes_.taken();
      plays_.begin_play();
    }
    return enter("an object");
  }
  bool key(string_t& name) override {
    if (depth_ != 2) return true;
    const auto found = std::find(field_names.begin(), field_names.end(), name);
    field_ = static_cast<Field>(found - field_names.begin());
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1) plays_.end_play(*this);
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 1) fail("expected a play, which is an object, but found an array");
    return enter("an array");
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    if (bytes_.taken() == 0) throw Error(path_.string() + " is empty; expected a JSON array of plays");
    std::string_view reason = error.what();  // begins with "[json.exception...] "
    reason.remove_prefix(std::min(reason.size(), reason.find(']') + 2));
    fail_at(position, "this is not JSON: " + std::string(reason));
  }

 private:
  bool enter(const char* what) {
    if (depth_ == 2 && field_ != field_count) refuse(field_, "text, number, true, false or null", what);
    ++depth_;
    return true;
  }

  bool take(const Value& value) {
    if (depth_ == 0) fail("expected an array of plays, but found " + std::string(value.text.substr(0, 60)));
    if (depth_ == 1)
      fail("expected a play, which is an object, but found " + std::string(value.text.substr(0, 60)));
    if (depth_ == 2 && field_ != field_count) plays_.set(field_, value, *this);
    return true;
  }

  [[noreturn]] void fail_at(std::uint64_t byte, const std::string& what) const {
    throw Error(path_.string() + ", byte " + std::to_string(byte) + ": " + what);
  }
  [[noreturn]] void fail(const std::string& what) const { fail_at(bytes_.taken(), what); }
  [[noreturn]] void refuse(Field field, const std::string& expected, std::string_view found) const override {
    throw Error(path_.string() + ", byte " + std::to_string(bytes_.taken()) + ", field '" +
                field_names[field] + "': expected " + expected + ", but found '" +
                std::string(found.substr(0, 60)) + (found.size() > 60 ? "..." : "") + "'");
  }
  [[noreturn]] void lacks(Field field) const override {
    fail_at(begin_, "the play that begins here has no field '" + std::string(field_names[field]) + "'");
  }
  std::uint64_t number() const override { return begin_; }

  const fs::path& path_;
  const CountedBytes& bytes_;
  Collector& plays_;
  std::size_t depth_ = 0;  // 1 within the array, 2 within a play, more in what is not read
  Field field_ = field_count;
  std::uint64_t begin_ = 0;  // of the play
};

void read_json(const fs::path& file, Collector& plays) {
  CountedBytes bytes(file);
  std::istream stream(&bytes);
  JsonPlays handler(file, bytes, plays);
  nlohmann::json::sax_parse(stream, &handler);
}

/// Where a CSV record stands.
class CsvPlace : public Place {
 public:
  explicit CsvPlace(const CsvReader& reader) : reader_(reader) {}
  [[noreturn]] void refuse(Field field, const std::string& expected, std::string_view found) const override {
    reader_.refuse(reader_.place(field_names[field]), found, expected);
  }
  [[noreturn]] void lacks(Field field) const override {
    reader_.refuse(reader_.place(field_names[field]), "", "a value");
  }
  std::uint64_t number() const override { return reader_.line(); }

 private:
  const CsvReader& reader_;
};

void read_csv(const fs::path& file, Collector& plays) {
  CsvReader reader(file);
  const CsvPlace place(reader);
  std::vector<std::pair<Field, std::size_t>> cells;
  for (std::size_t i = 0; i < field_count; ++i) {
    const auto field = static_cast<Field>(i);
    if (i < required_fields)
      cells.emplace_back(field, reader.place(field_names[i]));
    else if (const auto at = reader.find(field_names[i]))
      cells.emplace_back(field, *at);
  }
  std::vector<std::string_view> fields;
  while (reader.next(fields)) {
    plays.begin_play();
    for (const auto& [field, at] : cells) plays.set(field, Value::of_text(fields[at]), place);
    plays.end_play(place);
  }
}

float number_of(std::int8_t flag) { return flag < 0 ? missing : static_cast<float>(flag); }

class History : public LogSource {
 public:
  History(const LogFiles& files, std::int32_t utc_offset, Threads& threads)
      : utc_offset_(utc_offset),
        columns_(columns_with({{"offline", schema::Source::Now, schema::Field::Extra},
                               {"incognito_mode", schema::Source::Now, schema::Field::Extra}})) {
    find_files(files.logs, files.pattern);
    for (const HistoryFile& file : files_)
      if (file.path.string().ends_with(".json.gz"))
        throw Error(file.path.string() + ": compressed JSON is not read; unpack it with gunzip");
    all_places_.resize(files.wanted.columns.size());
    std::iota(all_places_.begin(), all_places_.end(), std::uint8_t{0});
    if (files.wanted.columns.empty()) return;
    if (!files.tracks.empty())
      tracks_ = std::make_unique<TrackTable>(find_data_files(files.tracks, "*.csv"), id_names, files.wanted,
                                             threads);
    else if (files.wanted.named)
      throw Error("data.tracks is missing: a streaming history knows nothing of '" +
                  columns_[files.wanted.columns[0]].name +
                  "'; name a table of tracks, or do without that column");
  }

  const std::vector<LogColumn>& columns() const override { return columns_; }
  std::size_t shards() const override { return 1; }
  std::string shard_name(std::size_t) const override { return files_[0].path.filename().string(); }

  void read(std::size_t, const std::function<void(const Log&)>& sink) const override {
    Oddities oddities(oddity_count);
    Collector plays(oddities);
    for (const HistoryFile& file : files_) {
      plays.begin_file(file.path, file.listener);
      file.path.extension() == ".json" ? read_json(file.path, plays) : read_csv(file.path, plays);
    }
    const std::vector<Record> records = plays.take_sorted();
    for (auto begin = records.begin(); begin != records.end();) {
      const auto end = std::find_if(begin, records.end(),
                                    [&](const Record& record) { return record.listener != begin->listener; });
      sink(log_of({begin, end}, plays));
      begin = end;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    oddities_ = std::move(oddities);
  }

  std::vector<LogRemark> remarks() const override {
    std::vector<LogRemark> result;
    if (tracks_ != nullptr && tracks_->repeated().count > 0) result.push_back(tracks_->repeated());
    const std::lock_guard<std::mutex> lock(mutex_);
    for (LogRemark& remark : oddities_.remarks(oddity_words)) result.push_back(std::move(remark));
    return result;
  }

  bool synthetic() const override {
    std::vector<fs::path> paths;
    for (const HistoryFile& file : files_) paths.push_back(file.path);
    return any_synthetic(paths) || (tracks_ != nullptr && any_synthetic(tracks_->files()));
  }

 private:
  struct HistoryFile {
    fs::path path;
    std::string listener;
  };

  /// Files in the folder itself are one listener's, whatever its name: it may be moved. Where there are none,
  /// every subfolder may be a listener's.
  void find_files(const fs::path& logs, const std::string& pattern) {
    const std::vector<std::string> patterns =
        pattern.empty() ? std::vector<std::string>{"Streaming_History_Audio_*.json", "*.csv"}
                        : std::vector<std::string>{pattern};
    for (const std::string& one : patterns) {
      for (fs::path& file : find_data_files(logs, one, false)) files_.push_back({std::move(file), ""});
      if (!files_.empty()) return;
    }
    std::vector<fs::path> folders;
    std::error_code failure;
    for (const fs::directory_entry& entry : fs::directory_iterator(logs, failure))
      if (entry.is_directory(failure)) folders.push_back(entry.path());
    std::sort(folders.begin(), folders.end());
    for (const fs::path& folder : folders)
      for (fs::path& file : find_data_files(folder, patterns[0], false))
        files_.push_back({std::move(file), folder.filename().string()});
    if (files_.empty()) (void)find_data_files(logs, patterns[0]);  // says what is missing
  }

  Log log_of(std::span<const Record> records, Collector& plays) const {
    constexpr std::size_t extra_columns = 2;
    Log log;
    log.identity = hash_text(plays.listener(records[0].listener));
    log.extra.reserve(records.size() * extra_columns);
    log.plays.reserve(records.size());
    for (const Record& record : records) {
      Play& play = log.plays.emplace_back();
      tonearm_track_init(&play.track, sizeof play.track);
      tonearm_now_init(&play.now, sizeof play.now);
      tonearm_start_init(&play.start, sizeof play.start);
      tonearm_end_init(&play.end, sizeof play.end);
      play.track.track_id = record.track;
      play.track.artist_id = record.artist;
      if (tracks_ != nullptr && !tracks_->look_up(play.track, all_places_)) plays.note_no_track(record);
      play.now.time = (record.start - (record.start % 1000 + 1000) % 1000) / 1000;  // rounded down
      play.now.utc_offset = utc_offset_;
      play.now.is_shuffle = number_of(record.shuffle);
      play.now.extra = log.extra.data() + log.extra.size();
      play.now.extra_count = extra_columns;
      log.extra.push_back(number_of(record.offline));
      log.extra.push_back(number_of(record.incognito_mode));
      play.start.reason = record.reason_start;
      play.end.reason = record.reason_end;
      play.end.ms_played = static_cast<float>(record.ms_played);
      play.end.time = record.end / 1000;
    }
    return log;
  }

  std::vector<HistoryFile> files_;
  std::int32_t utc_offset_;
  std::vector<LogColumn> columns_;
  std::unique_ptr<TrackTable> tracks_;
  std::vector<std::uint8_t> all_places_;  // of the wanted track columns
  mutable std::mutex mutex_;
  mutable Oddities oddities_{oddity_count};  // when it was last read
};

}  // namespace

std::unique_ptr<LogSource> open_history(const LogFiles& files, std::int32_t utc_offset, Threads& threads) {
  return std::make_unique<History>(files, utc_offset, threads);
}

}  // namespace tonearm
