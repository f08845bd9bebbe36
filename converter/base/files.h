#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tonearm {

/// The whole file. Throws Error naming the path and the system's reason.
std::vector<unsigned char> read_file(const std::filesystem::path& path);

/// A file that is written in pieces and appears under its name when it is finished. Until then it is a
/// temporary file beside it, NAME.NUMBER.tmp, flushed to the disk before it is renamed: at any moment the
/// path holds the old bytes or the new ones. A device or a pipe is written to; a symbolic link stays one.
///
/// What is not finished is removed. What a killed process has left behind is removed by the next that writes
/// the same file: the writer holds a lock on its temporary file, so that nobody takes it for such a leftover.
///
/// All throw Error naming the path and the system's reason (unwritable folder, full disk).
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const unsigned char> bytes);
  void write(std::string_view text);
  void finish();

 private:
  void open_temporary();

  std::filesystem::path path_;
  std::filesystem::path target_, temporary_;  // empty for a device
  int file_ = -1;
};

/// Writes a whole file in this way.
void write_file(const std::filesystem::path& path, std::span<const unsigned char> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

/// The word in `known` that `word` was most likely meant to be (Levenshtein distance at most a third
/// of its length, at least 2; ASCII case ignored), or "" if none comes near.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace tonearm
