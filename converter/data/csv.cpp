#include "data/csv.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <unistd.h>
#include <zlib.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/error.h"
#include "base/files.h"

namespace tonearm {
namespace {

constexpr const char* zero_byte = "a zero byte stands in the text; is the file UTF-16 or not text at all?";

std::string listed(const std::vector<std::string>& words) {
  constexpr std::size_t most = 30;
  std::string text;
  for (std::size_t i = 0; i < std::min(words.size(), most); ++i) text += (i > 0 ? ", " : "") + words[i];
  if (words.size() > most) text += " and " + std::to_string(words.size() - most) + " more";
  return text;
}

/// How many bytes separators() reads at once, and so may read behind a separator.
constexpr std::size_t separators_block = 16;

/// Bit i is set if byte i ends a field or may not stand in a text at all: comma, line feed, zero.
unsigned separators(const char* at) {
#ifdef __SSE2__
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  const auto equal = [&](char c) { return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(c)); };
  const __m128i found = _mm_or_si128(_mm_or_si128(equal(','), equal('\n')), equal('\0'));
  return static_cast<unsigned>(_mm_movemask_epi8(found));
#else
  unsigned found = 0;
  for (unsigned i = 0; i < separators_block; ++i)
    found |= static_cast<unsigned>(at[i] == ',' || at[i] == '\n' || at[i] == '\0') << i;
  return found;
#endif
}

bool matches(const std::string& pattern, std::string name) {
  if (fnmatch(pattern.c_str(), name.c_str(), FNM_PERIOD) == 0) return true;
  if (!name.ends_with(".gz")) return false;
  name.resize(name.size() - 3);
  return fnmatch(pattern.c_str(), name.c_str(), FNM_PERIOD) == 0;
}

}  // namespace

/// The bytes of a file, inflated if they begin as a gzip stream does. zlib's own gzread() takes a stream
/// cut within its first bytes for plain text and ignores what follows the last member; here both are
/// errors.
class CsvReader::Source {
 public:
  explicit Source(const std::filesystem::path& path) : path_(path), raw_(1 << 16) {
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) fail(std::strerror(errno));
    while (stream_.avail_in < 2 && read_raw()) {
    }
    compressed_ = stream_.avail_in >= 2 && raw_[0] == 0x1f && raw_[1] == 0x8b;
    if (!compressed_ && path.extension() == ".gz")
      fail("its name says gzip, but it does not begin as a gzip file does");
    constexpr int gzip_window = 15 + 16;
    if (compressed_ && inflateInit2(&stream_, gzip_window) != Z_OK) fail("out of memory");
  }

  ~Source() {
    if (compressed_) inflateEnd(&stream_);
    if (file_ >= 0) ::close(file_);
  }

  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  /// Between 1 and `size` bytes; 0 at the end.
  std::size_t read(char* to, std::size_t size) {
    if (compressed_) return read_inflated(to, size);
    if (stream_.avail_in == 0) return read_file(to, size);
    const std::size_t taken = std::min<std::size_t>(size, stream_.avail_in);
    std::memcpy(to, stream_.next_in, taken);
    stream_.next_in += taken;
    stream_.avail_in -= static_cast<uInt>(taken);
    return taken;
  }

 private:
  std::size_t read_inflated(char* to, std::size_t size) {
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out == size) {
      if (stream_.avail_in == 0 && !read_raw()) {
        if (inside_member_) fail("the gzip stream is truncated");
        return 0;
      }
      if (!inside_member_) inflateReset(&stream_);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      inside_member_ = status != Z_STREAM_END;
      if (inside_member_ && status != Z_OK && status != Z_BUF_ERROR)
        fail(std::string("the gzip stream is damaged") + (stream_.msg ? ": " : "") +
             (stream_.msg ? stream_.msg : ""));
    }
    return size - stream_.avail_out;
  }

  /// Reads on behind what raw_ holds, which is nothing or the very first byte of the file.
  bool read_raw() {
    const std::size_t held = stream_.avail_in;
    const std::size_t got = read_file(reinterpret_cast<char*>(raw_.data()) + held, raw_.size() - held);
    stream_.next_in = raw_.data();
    stream_.avail_in = static_cast<uInt>(held + got);
    return got > 0;
  }

  std::size_t read_file(char* to, std::size_t size) {
    for (;;) {
      const ssize_t got = ::read(file_, to, size);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) fail(std::strerror(errno));
    }
  }

  [[noreturn]] void fail(const std::string& reason) {
    throw Error("cannot read " + path_.string() + ": " + reason);
  }

  std::filesystem::path path_;
  int file_ = -1;
  std::vector<Bytef> raw_;
  z_stream stream_ = {};
  bool compressed_ = false;
  bool inside_member_ = false;
};

CsvReader::CsvReader(const std::filesystem::path& path, std::size_t block)
    : path_(path),
      source_(std::make_unique<Source>(path)),
      buffer_(std::clamp<std::size_t>(block, 4, longest_record) + separators_block) {
  while (end_ < 3 && refill()) {
  }
  if (end_ >= 3 && std::memcmp(buffer_.data(), "\xef\xbb\xbf", 3) == 0) begin_ = 3;
  std::vector<std::string_view> names;
  if (!read_record(names)) throw Error(path.string() + " is empty; expected a line of column names");
  header_.assign(names.begin(), names.end());
  std::unordered_set<std::string_view> seen;
  for (const std::string& name : header_)
    if (!seen.insert(name).second) fail(line_, "the header names the column '" + name + "' twice");
}

CsvReader::~CsvReader() = default;

bool CsvReader::next(std::vector<std::string_view>& fields) {
  if (!read_record(fields)) return false;
  if (fields.size() != header_.size())
    fail(line_, "expected " + std::to_string(header_.size()) + " fields, as the header has, but found " +
                    std::to_string(fields.size()));
  return true;
}

bool CsvReader::read_record(std::vector<std::string_view>& fields) {
  while (begin_ < end_ || refill()) {
    switch (scan(fields)) {
      case Scan::record:
        return true;
      case Scan::blank:
        break;
      case Scan::cut:
        if (end_ - begin_ >= longest_record)
          fail(next_line_, "the record that begins here is longer than 1 MiB; is a closing quote missing?");
        refill();
    }
  }
  return false;
}

// One pass over one record. The byte behind the buffer's content is a line feed, so no test for the end
// is needed until a separator is found. A record that the buffer cuts is scanned again once there is more.
CsvReader::Scan CsvReader::scan(std::vector<std::string_view>& fields) {
  doubled_.clear();
  char* const end = buffer_.data() + end_;
  *end = '\n';
  char* at = buffer_.data() + begin_;
  std::size_t line = next_line_;
  std::size_t count = 0;
  const auto add = [&](const char* start, const char* stop) {
    if (count == fields.size()) fields.resize(2 * count + 8);
    fields[count++] = {start, static_cast<std::size_t>(stop - start)};
  };
  for (;; ++at) {
    if (*at == '"') {
      char* const start = at + 1;
      bool doubled = false;
      for (++at;; at += 2) {
        at = static_cast<char*>(std::memchr(at, '"', static_cast<std::size_t>(end - at)));
        if (at == nullptr && source_ended_) fail(line, "a quote that opens here is never closed");
        if (at == nullptr || (at + 1 == end && !source_ended_)) return Scan::cut;
        if (at[1] != '"') break;
        doubled = true;
      }
      if (std::memchr(start, '\0', static_cast<std::size_t>(at - start)) != nullptr) fail(line, zero_byte);
      if (doubled) doubled_.push_back(count);
      add(start, at);
      line += static_cast<std::size_t>(std::count(start, at, '\n'));
      ++at;
      if (*at == '\r' && at[1] == '\n') ++at;
      if (*at != ',' && *at != '\n')
        fail(line, "text follows a closing quote; a quote within a quoted field must be doubled");
    } else {
      // All fields up to the end of the record or a field that is quoted.
      char* start = at;
      char* block = at;
      for (unsigned found = separators(block);; found &= found - 1) {
        while (found == 0) found = separators(block += separators_block);
        at = block + std::countr_zero(found);
        if (*at != ',') break;
        add(start, at);
        start = at + 1;
        if (*start == '"') break;
      }
      if (*at == '\0') fail(line, zero_byte);
      if (*at == '\n') add(start, at > start && at[-1] == '\r' ? at - 1 : at);
    }
    if (*at == '\n') break;
  }
  fields.resize(count);
  if (at == end && !source_ended_) return Scan::cut;

  const bool blank = count == 1 && fields[0].empty() && buffer_[begin_] != '"';
  begin_ = std::min(static_cast<std::size_t>(at - buffer_.data()) + 1, end_);
  line_ = next_line_;
  next_line_ = line + 1;
  if (blank && header_.size() != 1) return Scan::blank;
  for (const std::size_t index : doubled_) {
    char* const text = buffer_.data() + (fields[index].data() - buffer_.data());
    std::size_t size = 0;
    for (std::size_t i = 0; i < fields[index].size(); ++i) {
      text[size++] = text[i];
      if (text[i] == '"') ++i;
    }
    fields[index] = {text, size};
  }
  return Scan::record;
}

bool CsvReader::refill() {
  if (source_ended_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ + separators_block == buffer_.size())
    buffer_.resize(std::min(2 * end_, longest_record) + separators_block);
  const std::size_t got = source_->read(buffer_.data() + end_, buffer_.size() - separators_block - end_);
  end_ += got;
  source_ended_ = got == 0;
  return !source_ended_;
}

void CsvReader::fail(std::size_t line, const std::string& what) const {
  throw Error(path_.string() + ", line " + std::to_string(line) + ": " + what);
}

std::optional<std::size_t> CsvReader::find(std::string_view name) const {
  const auto found = std::find(header_.begin(), header_.end(), name);
  if (found == header_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - header_.begin());
}

std::size_t CsvReader::place(std::string_view name) const {
  if (const auto found = find(name)) return *found;
  const std::string near = nearest(name, header_);
  throw Error(path_.string() + ": there is no column '" + std::string(name) + "'" +
              (near.empty() ? "" : " (did you mean '" + near + "'?)") + "; it has " + listed(header_));
}

void CsvReader::refuse(std::size_t field, std::string_view text, const std::string& expected) const {
  const std::string shown(text.substr(0, 60));
  throw Error(path_.string() + ", line " + std::to_string(line_) + ", column '" + header_[field] +
              "': expected " + expected + ", but found '" + shown +
              (text.size() > shown.size() ? "..." : "") + "'");
}

float CsvReader::number(std::size_t field, std::string_view text) const {
  float value;
  if (!parse_number(text, value)) refuse(field, text, "a number");
  if (std::isinf(value)) refuse(field, text, "a finite number within the range of float32");
  return value == 0 ? 0.0f : value;
}

bool parse_number(std::string_view text, float& value) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  const bool sign = text.starts_with('+') && !text.starts_with("+-");
  const char* const begin = text.data() + sign;
  const char* const end = text.data() + text.size();
  const auto [rest, status] = std::from_chars(begin, end, value);
  if (status == std::errc::result_out_of_range) {
    // Too large or too small for a float32; strtof says which.
    value = std::strtof(std::string(begin, end).c_str(), nullptr);
    return rest == end;
  }
  if (status == std::errc() && rest == end) return true;
  value = std::numeric_limits<float>::quiet_NaN();
  return text.empty() || text == "NA" || text == "null";
}

std::vector<std::filesystem::path> find_data_files(const std::filesystem::path& path,
                                                   const std::string& pattern, bool required) {
  std::error_code failure;
  const std::filesystem::file_status status = std::filesystem::status(path, failure);
  if (!std::filesystem::exists(status)) throw Error("there is no file or folder " + path.string());
  if (!std::filesystem::is_directory(status)) return {path};

  std::vector<std::string> names;
  std::size_t others = 0;
  std::filesystem::directory_iterator entry(path, failure);
  for (; !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
    std::string name = entry->path().filename().string();
    std::error_code unreadable;
    if (!entry->is_directory(unreadable) && matches(pattern, name))
      names.push_back(std::move(name));
    else
      ++others;
  }
  if (failure) throw Error("cannot list the folder " + path.string() + ": " + failure.message());
  if (names.empty() && required)
    throw Error("no file in " + path.string() + " is named like '" + pattern + "' (it holds " +
                std::to_string(others) + " others)");
  std::sort(names.begin(), names.end());
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) {
    if (name.ends_with(".gz") &&
        std::binary_search(names.begin(), names.end(), name.substr(0, name.size() - 3)))
      throw Error(path.string() + " holds the same file twice, as " + name +
                  " and without .gz; remove one of them");
    files.push_back(path / name);
  }
  return files;
}

}  // namespace tonearm
