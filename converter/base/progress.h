#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace tonearm {

/// One line on stderr, rewritten in place, with the share done and the time left. Shown only where
/// stderr is a terminal and the work takes longer than half a second.
class Progress {
 public:
  Progress(std::string label, std::size_t total);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` units are finished; `note` is shown behind, e.g. "log loss .4523".
  void update(std::size_t done, const std::string& note = {});

 private:
  std::string label_;
  std::size_t total_;
  std::chrono::steady_clock::time_point start_, shown_;
  bool terminal_, visible_ = false;
};

}  // namespace tonearm
