#include "data/csv.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/error.h"

namespace tonearm {
namespace {

constexpr const char* zero_byte = "a zero byte stands in the text; is the file UTF-16 or not text at all?";

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
      buffer_(std::clamp<std::size_t>(block, 4, longest_record) + 1) {
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
  static constexpr auto ends_field = [] {
    std::array<bool, 256> table = {};
    table[','] = table['\n'] = table['\0'] = true;
    return table;
  }();
  fields.clear();
  doubled_.clear();
  char* const end = buffer_.data() + end_;
  *end = '\n';
  char* at = buffer_.data() + begin_;
  std::size_t line = next_line_;
  for (;; ++at) {
    char* const start = at;
    if (*at == '"') {
      bool doubled = false;
      for (++at;; at += 2) {
        at = static_cast<char*>(std::memchr(at, '"', static_cast<std::size_t>(end - at)));
        if (at == nullptr && source_ended_) fail(line, "a quote that opens here is never closed");
        if (at == nullptr || (at + 1 == end && !source_ended_)) return Scan::cut;
        if (at[1] != '"') break;
        doubled = true;
      }
      const std::string_view text(start + 1, static_cast<std::size_t>(at - start - 1));
      if (text.find('\0') != text.npos) fail(line, zero_byte);
      if (doubled) doubled_.push_back(fields.size());
      fields.push_back(text);
      line += static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
      ++at;
      if (*at == '\r' && at[1] == '\n') ++at;
      if (*at != ',' && *at != '\n')
        fail(line, "text follows a closing quote; a quote within a quoted field must be doubled");
    } else {
      while (!ends_field[static_cast<unsigned char>(*at)]) ++at;
      if (*at == '\0') fail(line, zero_byte);
      const bool carriage_return = *at == '\n' && at > start && at[-1] == '\r';
      fields.emplace_back(start, static_cast<std::size_t>(at - start) - carriage_return);
    }
    if (*at == '\n') break;
  }
  if (at == end && !source_ended_) return Scan::cut;

  const bool blank = fields.size() == 1 && fields[0].empty() && buffer_[begin_] != '"';
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
  if (end_ + 1 == buffer_.size()) buffer_.resize(std::min(2 * end_, longest_record) + 1);
  const std::size_t got = source_->read(buffer_.data() + end_, buffer_.size() - 1 - end_);
  end_ += got;
  source_ended_ = got == 0;
  return !source_ended_;
}

void CsvReader::fail(std::size_t line, const std::string& what) const {
  throw Error(path_.string() + ", line " + std::to_string(line) + ": " + what);
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

}  // namespace tonearm
