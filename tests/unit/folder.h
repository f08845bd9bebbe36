#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "base/error.h"

namespace tonearm {

/// A folder of its own for each test; removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = ::testing::TempDir() + "tonearm-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// The sentence of the Error that `action` throws; fails the test if it throws none.
template <typename Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an Error";
  return {};
}

/// The folder of real data, which are not ours to publish and so are not on every machine; empty where
/// TONEARM_DATA is not set. A test that needs them then says that it is skipped.
inline std::filesystem::path real_data() {
  const char* data = std::getenv("TONEARM_DATA");
  return data == nullptr ? "" : data;
}

inline ::testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != text.npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "'" << part << "' is not in: " << text;
}

}  // namespace tonearm
