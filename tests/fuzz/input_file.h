#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

/// The input as a file, for what reads files: in memory, under one path for all inputs.
class InputFile {
 public:
  /// `name` is how the file seems to be called: a link to where it is.
  explicit InputFile(const std::string& name)
      : file_(::memfd_create("input", 0)),
        path_(std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + "-" + name)) {
    std::filesystem::remove(path_);
    std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(file_), path_);
  }
  ~InputFile() {
    std::filesystem::remove(path_);
    ::close(file_);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& holding(const std::uint8_t* data, std::size_t size) const {
    if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, data, size, 0) != static_cast<ssize_t>(size))
      std::abort();
    return path_;
  }

 private:
  int file_;
  std::filesystem::path path_;
};
