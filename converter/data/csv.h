#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tonearm {

/// Reads a CSV file (RFC 4180) record by record, plain or gzip-compressed, in bounded memory.
///
/// Understood: quoted fields with doubled quotes, commas and line breaks in them; LF and CRLF; a UTF-8
/// byte order mark; a last line without a line break; several gzip members one after the other. Beyond
/// the RFC: blank lines between records are skipped (in a file of one column they are empty fields), and
/// a quote inside an unquoted field stands for itself.
///
/// Everything else throws Error naming file and line: an unreadable or empty file, a damaged or truncated
/// gzip stream, a record with another number of fields than the header, a header that names a column
/// twice, a zero byte, text behind a closing quote, a quote that is never closed, a record above 1 MiB.
class CsvReader {
 public:
  static constexpr std::size_t longest_record = 1 << 20;

  /// Opens the file and reads its header. `block` is how many bytes are read at a time; the buffer grows
  /// beyond it, up to longest_record, only for a record that needs it.
  explicit CsvReader(const std::filesystem::path& path, std::size_t block = 1 << 18);
  ~CsvReader();
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  const std::vector<std::string>& header() const { return header_; }

  /// Reads the next record, header().size() fields; false at the end of the file. The fields point into
  /// the reader's buffer and are valid until the next call.
  bool next(std::vector<std::string_view>& fields);

  /// The line on which the record that next() returned begins, counted from 1, the header included.
  std::size_t line() const { return line_; }

 private:
  class Source;

  /// What scan() found: a record, a line to be skipped, or the buffer's end before the record's.
  enum class Scan { record, blank, cut };

  bool read_record(std::vector<std::string_view>& fields);
  Scan scan(std::vector<std::string_view>& fields);
  bool refill();
  [[noreturn]] void fail(std::size_t line, const std::string& what) const;

  std::filesystem::path path_;
  std::unique_ptr<Source> source_;
  std::vector<char> buffer_;         // with one byte behind what is read into it, for a sentinel
  std::size_t begin_ = 0, end_ = 0;  // what is in the buffer and not consumed
  bool source_ended_ = false;
  std::size_t line_ = 0, next_line_ = 1;
  std::vector<std::size_t> doubled_;  // fields of the current record that hold doubled quotes
  std::vector<std::string> header_;
};

/// Reads a decimal number, rounded correctly to float32, spaces around it allowed. "", "NA", "NaN", "nan"
/// and "null" mean missing and give NaN. False for any other text. Numbers beyond float32 and "inf" give
/// infinities, which the caller refuses.
bool parse_number(std::string_view text, float& value);

}  // namespace tonearm
