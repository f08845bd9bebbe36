#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace tonearm {
namespace {

[[noreturn]] void fail(const char* action, const std::filesystem::path& path, int reason) {
  throw Error(std::string("cannot ") + action + " " + path.string() + ": " + std::strerror(reason));
}

/// Whether `name` is what a temporary file for `target` is called: with a number between the name and ".tmp".
bool is_temporary_of(std::string_view target, std::string_view name) {
  constexpr std::string_view ending = ".tmp";
  if (name.size() <= target.size() + 1 + ending.size() || !name.starts_with(target) ||
      !name.ends_with(ending))
    return false;
  name.remove_prefix(target.size());
  name.remove_suffix(ending.size());
  return name[0] == '.' && name.find_first_not_of("0123456789", 1) == name.npos;
}

/// Removes the temporary files for `target` that nobody writes any more. What cannot be looked at stays.
void remove_leftovers(const std::filesystem::path& target) {
  std::error_code ignored;
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  std::filesystem::directory_iterator entry(folder, ignored);
  for (; !ignored && entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const std::filesystem::path& path = entry->path();
    if (!is_temporary_of(target.filename().native(), path.filename().native())) continue;
    const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) continue;
    // Meanwhile it may have been finished, and another one have its name.
    struct stat held = {}, named = {};
    if (::flock(file, LOCK_EX | LOCK_NB) == 0 && ::fstat(file, &held) == 0 &&
        ::lstat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino)
      ::unlink(path.c_str());
    ::close(file);
  }
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

FileWriter::FileWriter(const std::filesystem::path& path) : path_(path) {
  struct stat about = {};
  const bool exists = ::stat(path.c_str(), &about) == 0;
  if (exists && S_ISDIR(about.st_mode)) fail("write", path, EISDIR);
  if (exists && !S_ISREG(about.st_mode)) {  // a device or a pipe: renaming would replace it
    file_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) fail("write", path, errno);
    return;
  }
  target_ = exists ? std::filesystem::canonical(path) : path;
  remove_leftovers(target_);
  open_temporary();
}

void FileWriter::open_temporary() {
  // Numbers of processes repeat, also among containers that share a folder.
  for (auto number = static_cast<unsigned long>(::getpid());; ++number) {
    temporary_ = target_.string() + "." + std::to_string(number) + ".tmp";
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file_ < 0) fail("write", path_, errno);
    // File systems without locks answer with another error than EWOULDBLOCK; leftovers stay there.
    const bool taken = ::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    struct stat about = {};
    const bool removed = ::fstat(file_, &about) == 0 && about.st_nlink == 0;  // before the lock was ours
    if (!taken && !removed) break;
    ::close(file_);
  }
  if (::ftruncate(file_, 0) != 0) fail("write", path_, errno);
}

FileWriter::~FileWriter() {
  if (file_ < 0) return;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  ::close(file_);
}

void FileWriter::write(std::span<const unsigned char> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written >= 0)
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    else if (errno != EINTR)
      fail("write", path_, errno);
  }
}

void FileWriter::write(std::string_view text) {
  write({reinterpret_cast<const unsigned char*>(text.data()), text.size()});
}

void FileWriter::finish() {
  if (!temporary_.empty()) {
    if (::fsync(file_) != 0) fail("write", path_, errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("write", path_, errno);
  }
  if (::close(std::exchange(file_, -1)) != 0) fail("write", path_, errno);
}

void write_file(const std::filesystem::path& path, std::span<const unsigned char> bytes) {
  FileWriter file(path);
  file.write(bytes);
  file.finish();
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
