// Whatever the bytes, a streaming history is refused with an Error, or gives plays in the order of time.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "base/parallel.h"
#include "data/adapter.h"
#include "input_file.h"
#include "memory_limit.h"

namespace {

using namespace tonearm;

void read(const std::filesystem::path& path) {
  static Threads threads(1);
  try {
    const auto logs = open_history({path, "", "", {}}, 3600, threads);
    logs->read(0, [](const Log& log) {
      std::int64_t before = INT64_MIN;
      for (const Play& play : log.plays) {
        if (play.now.time < before) {
          std::fprintf(stderr, "fuzz: a play starts before the one before it\n");
          std::abort();
        }
        before = play.now.time;
      }
    });
    (void)logs->remarks();
  } catch (const Error&) {
    // The sentence that bad input gets.
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const InputFile json("Streaming_History_Audio_fuzz.json"), csv("history_fuzz.csv");
  const MemoryLimit limit((std::size_t{64} << 20) + 2000 * size);
  // JSON begins with a bracket.
  const bool is_json = size > 0 && data[0] == '[';
  read((is_json ? json : csv).holding(data, size));
  return 0;
}
