#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
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

  const std::filesystem::path& path() const { return path_; }

  /// Which field has this name.
  std::optional<std::size_t> find(std::string_view name) const;
  /// The same; an absent one throws Error with those there and the nearest name.
  std::size_t place(std::string_view name) const;
  /// Throws Error about a field of the record that next() returned: file, line, column, what was expected,
  /// and what was found.
  [[noreturn]] void refuse(std::size_t field, std::string_view text, const std::string& expected) const;
  /// The field as parse_number reads it; refuses other texts and infinities. -0 becomes 0.
  float number(std::size_t field, std::string_view text) const;

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
  std::vector<char> buffer_;         // with room behind what is read into it, for a sentinel
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

/// `path` itself if it is a file; else the files of that folder whose names match `pattern`, e.g.
/// "log_*.csv", in the order of their names; NAME.csv.gz is matched by the pattern for NAME.csv. Throws Error
/// if there is no such path, if a file is there with and without .gz, or, where they are `required`, if there
/// are none.
std::vector<std::filesystem::path> find_data_files(const std::filesystem::path& path,
                                                   const std::string& pattern, bool required = true);

}  // namespace tonearm
