#include "train/rows.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

namespace tonearm {
namespace {

[[noreturn]] void fail(const char* action, const std::filesystem::path& path, int reason) {
  throw Error(
      std::string("cannot ") + action + " the temporary file " + path.string() + ": " +
      std::strerror(reason) +
      "; rows beyond the memory limit live there, so choose a folder with more room, or a higher limit");
}

}  // namespace

void DatasetRows::read(const std::function<void(const RowBlock&)>& sink) {
  constexpr std::size_t block_rows = 1 << 14;
  for (std::size_t first = 0; first < data_.rows; first += block_rows) {
    const std::size_t rows = std::min(block_rows, data_.rows - first);
    sink({rows, std::span(data_.values).subspan(first * data_.features, rows * data_.features),
          std::span(data_.target).subspan(first, rows)});
  }
}

TemporaryFile::TemporaryFile(const std::filesystem::path& folder) {
  std::string name = (folder / "tonearm-rows-XXXXXX").string();
  file_ = ::mkostemp(name.data(), O_CLOEXEC);
  path_ = name;
  if (file_ < 0) fail("create", path_, errno);
  ::unlink(name.c_str());
}

TemporaryFile::~TemporaryFile() { ::close(file_); }

void TemporaryFile::read(std::size_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail("read", path_, got < 0 ? errno : EIO);
    offset += static_cast<std::size_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

void TemporaryFile::write(std::size_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail("write", path_, put < 0 ? errno : ENOSPC);
    offset += static_cast<std::size_t>(put);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

}  // namespace tonearm
