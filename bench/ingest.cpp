// Times reading listening sessions in the MSSD schema from CSV files to plays in memory, as training does:
// every cell is parsed and checked, every track is looked up in the track table.
//
// Without a folder it writes its own files first: sessions of 10 to 20 rows with made-up content, which has
// the widths of the real one. The files are in the system's cache when they are read; the best of three
// rounds counts.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data/sessions.h"

namespace {

namespace fs = std::filesystem;
using tonearm::Random;

constexpr char usage[] =
    "usage: ingest [FOLDER] [--megabytes N] [--tracks N] [--json FILE]\n"
    "\n"
    "  FOLDER         holds log_*.csv and tf_*.csv, .gz or not; without it, files are generated\n"
    "  --megabytes N  size of the generated logs, in shards of 32 MB (256)\n"
    "  --tracks N     tracks in the generated table, in two files (200000)\n"
    "  --json FILE    write the figures as JSON too; - is stdout, then without the table\n";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

rusage usage_so_far() {
  rusage so_far = {};
  getrusage(RUSAGE_SELF, &so_far);
  return so_far;
}

double peak_megabytes() { return static_cast<double>(usage_so_far().ru_maxrss) / 1024; }

/// Of all threads: other work on the machine does not count.
double processor_seconds() {
  const rusage so_far = usage_so_far();
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(so_far.ru_utime) + seconds(so_far.ru_stime);
}

/// A name of 36 hexadecimal characters and dashes, the same for the same number.
std::string name_of(const char* prefix, std::uint64_t number) {
  const auto high = static_cast<unsigned long long>(tonearm::mix64(2 * number));
  const auto low = static_cast<unsigned long long>(tonearm::mix64(2 * number + 1));
  char text[64];
  std::snprintf(text, sizeof text, "%s%08llx-%04llx-%04llx-%04llx-%012llx", prefix, high >> 32,
                high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffffffffffff);
  return text;
}

void write_tracks(const fs::path& path, std::size_t first, std::size_t count) {
  std::string text =
      "track_id,duration,release_year,us_popularity_estimate,acousticness,beat_strength,bounciness,"
      "danceability,"
      "dyn_range_mean,energy,flatness,instrumentalness,key,liveness,loudness,mechanism,mode,organism,"
      "speechiness,"
      "tempo,time_signature,valence";
  for (int i = 0; i < 8; ++i) text += ",acoustic_vector_" + std::to_string(i);
  text += '\n';
  Random random(1, first);
  for (std::size_t track = first; track < first + count; ++track) {
    text += name_of("t_", track);
    for (int column = 1; column < 30; ++column) {
      char number[40];
      const double value = random.uniform();
      if (column == 2)
        std::snprintf(number, sizeof number, ",%d", 1960 + static_cast<int>(59 * value));
      else if (column == 12 || column == 20)
        std::snprintf(number, sizeof number, ",%d", static_cast<int>(12 * value));
      else if (column == 16)
        std::snprintf(number, sizeof number, ",%s", value < .6 ? "major" : "minor");
      else
        std::snprintf(number, sizeof number, ",%.16g", value * (column == 1 ? 300 : 1));
      text += number;
    }
    text += '\n';
  }
  tonearm::write_file(path, text);
}

void write_log(const fs::path& path, std::uint64_t shard, std::size_t bytes, std::size_t tracks) {
  std::string text =
      "session_id,session_position,session_length,track_id_clean,skip_1,skip_2,skip_3,not_skipped,context_"
      "switch,"
      "no_pause_before_play,short_pause_before_play,long_pause_before_play,hist_user_behavior_n_seekfwd,"
      "hist_user_behavior_n_seekback,hist_user_behavior_is_shuffle,hour_of_day,date,premium,context_type,"
      "hist_user_behavior_reason_start,hist_user_behavior_reason_end\n";
  static constexpr const char* contexts[] = {"user_collection", "catalog", "editorial_playlist", "radio"};
  static constexpr const char* reasons[] = {"fwdbtn", "trackdone", "clickrow", "backbtn"};
  static constexpr const char* levels[] = {"true,true,true,false", "false,true,true,false",
                                           "false,false,true,false", "false,false,false,true"};
  static constexpr const char* pauses[] = {"1,0,0", "0,0,1", "0,1,1", "1,0,0"};
  text.reserve(bytes + 8192);
  Random random(2, shard);
  for (std::uint64_t session = 0; text.size() < bytes; ++session) {
    const std::string name = name_of("0_", shard << 32 | session);
    const unsigned length = 10 + std::min(random.below(21), 10u), hour = random.below(24);
    const bool shuffle = random.below(3) == 0, premium = random.below(5) != 0;
    const char* reason = reasons[2];
    for (unsigned position = 1; position <= length; ++position) {
      const char* const end = reasons[random.below(4)];
      char row[512];
      std::snprintf(
          row, sizeof row, "%s,%u,%u,%s,%s,%d,%s,%d,%d,%s,%u,2018-07-15,%s,%s,%s,%s\n", name.c_str(),
          position, length, name_of("t_", random.below(static_cast<std::uint32_t>(tracks))).c_str(),
          levels[random.below(4)], random.below(25) == 0, position == 1 ? "0,0,0" : pauses[random.below(4)],
          random.below(36) == 0, random.below(32) == 0, shuffle ? "true" : "false", hour,
          premium ? "true" : "false", contexts[session % 4], reason, end);
      text += row;
      reason = end;
    }
  }
  tonearm::write_file(path, text);
}

void write_all(const fs::path& folder, std::size_t megabytes, std::size_t tracks) {
  constexpr std::size_t shard_megabytes = 32;
  write_tracks(folder / "tf_0.csv", 0, tracks / 2);
  write_tracks(folder / "tf_1.csv", tracks / 2, tracks - tracks / 2);
  for (std::size_t shard = 0; shard_megabytes * shard < megabytes; ++shard) {
    char name[32];
    std::snprintf(name, sizeof name, "log_%06zu.csv", shard);
    write_log(folder / name, shard,
              std::min(shard_megabytes, megabytes - shard_megabytes * shard) * 1'000'000, tracks);
  }
}

/// So that its memory does not count as ours.
template <typename Work>
void in_another_process(Work work) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("no process can be started");
  if (child == 0) {
    try {
      work();
      ::_exit(0);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0)
    throw std::runtime_error("the files could not be written");
}

struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = fs::temp_directory_path() / "tonearm-ingest-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error(name + ": cannot be made");
    path = name;
  }
  ~TemporaryFolder() { fs::remove_all(path); }
};

double megabytes_of(const fs::path& folder, const std::string& prefix) {
  double bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with(prefix)) bytes += static_cast<double>(entry.file_size());
  return bytes / 1e6;
}

nlohmann::ordered_json measure(const fs::path& folder, unsigned thread_count) {
  tonearm::Threads threads(thread_count);
  const tonearm::Recipe recipe = tonearm::Recipe::from_text("data.adapter = \"mssd\"", "ingest");
  const auto opening = std::chrono::steady_clock::now();
  const auto logs = tonearm::open_logs(recipe.root().section("data"), folder, {}, threads);
  const double open_seconds = seconds_since(opening);

  double best = 1e300, best_processor = 1e300;
  std::size_t sessions = 0, plays = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::size_t> shard_sessions(logs->shards()), shard_plays(logs->shards());
    const auto start = std::chrono::steady_clock::now();
    const double processor_start = processor_seconds();
    threads.run(logs->shards(), [&](std::size_t shard) {
      logs->read(shard, [&](const tonearm::Log& log) {
        ++shard_sessions[shard];
        shard_plays[shard] += log.plays.size();
      });
    });
    best = std::min(best, seconds_since(start));
    best_processor = std::min(best_processor, processor_seconds() - processor_start);
    sessions = plays = 0;
    for (const std::size_t count : shard_sessions) sessions += count;
    for (const std::size_t count : shard_plays) plays += count;
  }
  const double megabytes = megabytes_of(folder, "log_"), track_megabytes = megabytes_of(folder, "tf_");
  return {{"threads", thread_count},
          {"track_megabytes", track_megabytes},
          {"track_seconds", open_seconds},
          {"megabytes", megabytes},
          {"sessions", sessions},
          {"plays", plays},
          {"seconds", best},
          {"processor_seconds", best_processor},
          {"megabytes_per_second", megabytes / best},
          {"megabytes_per_second_and_core", megabytes / best_processor},
          {"plays_per_second_and_core", static_cast<double>(plays) / best_processor},
          {"peak_megabytes", peak_megabytes()}};
}

}  // namespace

int main(int argc, char** argv) try {
  fs::path folder;
  std::string json;
  std::size_t megabytes = 256, tracks = 200'000;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool more = i + 1 < argc;
    if (argument == "--help") {
      std::fputs(usage, stdout);
      return 0;
    } else if (argument == "--megabytes" && more) {
      megabytes = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--tracks" && more) {
      tracks = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--json" && more) {
      json = argv[++i];
    } else if (argument.starts_with("--") || !folder.empty()) {
      std::fprintf(stderr, "unknown or incomplete option: %s\n%s", argument.c_str(), usage);
      return 2;
    } else {
      folder = argument;
    }
  }
  if (megabytes == 0 || tracks < 2) {
    std::fprintf(stderr, "there must be a megabyte and two tracks\n%s", usage);
    return 2;
  }

  std::optional<TemporaryFolder> generated;
  if (folder.empty()) {
    folder = generated.emplace().path;
    in_another_process([&] { write_all(folder, megabytes, tracks); });
  }
  auto results = nlohmann::ordered_json::array();
  for (const unsigned threads : {1u, 2u}) results.push_back(measure(folder, threads));

  if (json == "-") {
    std::printf("%s\n", results.dump(2).c_str());
    return 0;
  }
  std::printf("%8s %14s %8s %8s %10s %8s %8s %14s %17s %12s\n", "threads", "track table MB", "seconds",
              "logs MB", "plays", "seconds", "MB/s", "MB/s per core", "plays/s per core", "peak RSS MB");
  for (const auto& r : results) {
    const auto figure = [&](const char* name) { return r[name].get<double>(); };
    std::printf("%8.0f %14.1f %8.2f %8.1f %10.0f %8.2f %8.1f %14.1f %17.0f %12.1f\n", figure("threads"),
                figure("track_megabytes"), figure("track_seconds"), figure("megabytes"), figure("plays"),
                figure("seconds"), figure("megabytes_per_second"), figure("megabytes_per_second_and_core"),
                figure("plays_per_second_and_core"), figure("peak_megabytes"));
  }
  if (!json.empty()) tonearm::write_file(json, results.dump(2) + "\n");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
