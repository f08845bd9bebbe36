#pragma once

// Runs the `tonearm` program as a person or a script would: arguments in; exit status, stdout, stderr out.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../unit/folder.h"
#include "base/files.h"

namespace tonearm {

using Arguments = std::vector<std::string>;

inline std::string text_of(const std::filesystem::path& file) {
  const auto bytes = read_file(file);
  return {bytes.begin(), bytes.end()};
}

struct Result {
  int status = -1;  // as a shell sees it: 128 + number for a signal
  std::string out, error;

  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// A running `tonearm`.
class Process {
 public:
  struct Limits {
    rlim_t file_bytes = RLIM_INFINITY;
    const char* out = nullptr;  // where stdout goes, instead of into the Result
  };

  explicit Process(const Arguments& arguments) : Process(arguments, {}) {}
  Process(const Arguments& arguments, const Limits& limits) {
    std::vector<char*> argv = {const_cast<char*>(TONEARM_COMMAND)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const std::filesystem::path out = limits.out ? limits.out : folder_ / "out", error = folder_ / "error";
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), 1);
    ::dup2(::open(error.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), 2);
    ::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit then fails, as on a full disk
    const rlimit files = {limits.file_bytes, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_FSIZE, &files) != 0) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Waits until it has used so much of a processor, or ended.
  void let_work(double seconds) const {
    clockid_t clock;
    timespec used = {};
    while (!ended() &&
           (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &used) != 0 ||
            static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec) < seconds))
      ::usleep(2000);
  }
  void interrupt() const { ::kill(pid_, SIGINT); }
  /// Without reaping it, so that its clock can still be read.
  bool ended() const {
    siginfo_t about = {};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &about, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           about.si_pid == pid_;
  }

  Result wait() {
    int state = 0;
    while (::waitpid(pid_, &state, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    Result result;
    result.status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    if (std::filesystem::exists(folder_ / "out")) result.out = text_of(folder_ / "out");
    if (std::filesystem::exists(folder_ / "error")) result.error = text_of(folder_ / "error");
    return result;
  }

 private:
  Folder folder_;
  pid_t pid_ = 0;
};

inline Result run(const Arguments& arguments, const Process::Limits& limits = {}) {
  return Process(arguments, limits).wait();
}

/// Runs what must succeed.
inline Result run_well(const Arguments& arguments) {
  Result result = run(arguments);
  EXPECT_EQ(result.status, 0) << ::testing::PrintToString(arguments) << "\n" << result.error;
  EXPECT_EQ(result.error, "") << "nothing belongs on stderr where it is no terminal";
  return result;
}

inline std::string recipe(const std::string& name) {
  return TONEARM_SOURCE_DIR "/converter/recipes/" + name + ".toml";
}

inline Arguments operator+(Arguments first, const Arguments& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace tonearm
