#include "base/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace tonearm {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string in_words(double seconds) {
  const auto whole = static_cast<unsigned long long>(seconds + .5);
  char text[48];
  if (whole >= 3600)
    std::snprintf(text, sizeof text, "%llu h %02llu min", whole / 3600, whole / 60 % 60);
  else if (whole >= 60)
    std::snprintf(text, sizeof text, "%llu min %02llu s", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%llu s", whole);
  return text;
}

}  // namespace

Progress::Progress(std::string label, std::size_t total)
    : label_(std::move(label)), total_(total), start_(steady_clock::now()), terminal_(isatty(2) == 1) {}

Progress::~Progress() {
  if (visible_) std::fputs("\r\033[K", stderr);
}

void Progress::update(std::size_t done, const std::string& note) {
  if (!terminal_) return;
  const auto now = steady_clock::now();
  if (now - start_ < milliseconds(500) || (visible_ && now - shown_ < milliseconds(100))) return;
  shown_ = now;
  visible_ = true;
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 0;
  std::string line = "\r" + label_ + " " + std::to_string(static_cast<int>(100 * share)) + " %";
  if (done > 0 && done < total_) {
    const double elapsed = duration<double>(now - start_).count();
    line += ", " + in_words(elapsed * (1 - share) / share) + " left";
  }
  if (!note.empty()) line += ", " + note;
  std::fputs((line + "\033[K").c_str(), stderr);
}

}  // namespace tonearm
