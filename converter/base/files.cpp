#include "base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace tonearm {
namespace {

[[noreturn]] void fail(const char* action, const std::filesystem::path& path, int reason) {
  throw Error(std::string("cannot ") + action + " " + path.string() + ": " + std::strerror(reason));
}

/// Writes everything and closes `file`; returns 0 or the errno of the first failure.
int write_and_close(int file, std::span<const unsigned char> bytes, bool flush) {
  int reason = 0;
  while (!bytes.empty() && reason == 0) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written >= 0)
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    else if (errno != EINTR)
      reason = errno;
  }
  if (reason == 0 && flush && ::fsync(file) != 0) reason = errno;
  if (::close(file) != 0 && reason == 0) reason = errno;  // network file systems report a full disk here
  return reason;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (lower(a[i]) == lower(b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::vector<unsigned char> read_file(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("read", path, errno);
  struct stat about = {};
  const bool sized = ::fstat(file, &about) == 0 && S_ISREG(about.st_mode);
  // One byte more than the file holds, so that its end is seen without growing the buffer.
  std::vector<unsigned char> bytes(sized ? static_cast<std::size_t>(about.st_size) + 1 : 65536);
  std::size_t size = 0;
  for (;;) {
    if (size == bytes.size()) bytes.resize(2 * size);
    const ssize_t got = ::read(file, bytes.data() + size, bytes.size() - size);
    if (got == 0) break;
    if (got > 0) {
      size += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      const int reason = errno;
      ::close(file);
      fail("read", path, reason);
    }
  }
  ::close(file);
  bytes.resize(size);
  return bytes;
}

void write_file(const std::filesystem::path& path, std::span<const unsigned char> bytes) {
  struct stat about = {};
  const bool exists = ::stat(path.c_str(), &about) == 0;
  if (exists && S_ISDIR(about.st_mode)) fail("write", path, EISDIR);
  if (exists && !S_ISREG(about.st_mode)) {  // a device or a pipe: renaming would replace it
    const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const int reason = file < 0 ? errno : write_and_close(file, bytes, false);
    if (reason != 0) fail("write", path, reason);
    return;
  }
  // A symbolic link stays one: what it points at is replaced.
  const std::filesystem::path target = exists ? std::filesystem::canonical(path) : path;
  const std::filesystem::path temporary = target.string() + "." + std::to_string(::getpid()) + ".tmp";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) fail("write", path, errno);
  int reason = write_and_close(file, bytes, true);
  if (reason == 0 && ::rename(temporary.c_str(), target.c_str()) != 0) reason = errno;
  if (reason != 0) {
    ::unlink(temporary.c_str());
    fail("write", path, reason);
  }
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  write_file(path, {reinterpret_cast<const unsigned char*>(text.data()), text.size()});
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::size_t best = std::max<std::size_t>(word.size() / 3, 2) + 1;
  best = std::min(best, word.size());  // with every letter replaced, nothing is alike
  std::string result;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best) {
      best = distance;
      result = candidate;
    }
  }
  return result;
}

}  // namespace tonearm
