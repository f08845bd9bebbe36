// Times opening a blob and evaluating rows with it, through the public C API only.
//
// Warm: the same blob over and over, each call on another row, so that branches cannot be learnt by heart;
// the median over rounds of the mean call of a round. Cold: before every single call 96 MB are written, so
// that the blob comes from memory, as it does in a player that predicts once per track; the median call,
// less the clock's own cost.

#include <tonearm/tonearm.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr char usage[] =
    "usage: latency MODEL.tarm... [--json FILE] [--quick]\n"
    "\n"
    "  --json FILE   write the figures as JSON too; - is stdout, then without the table\n"
    "  --quick       few repetitions: shows that it runs, measures nothing\n";

/// Ranges of well-known columns, so that random rows take plausible ways through the trees.
struct Range {
  const char* column;
  double low, high;
};
constexpr Range ranges[] = {
    {"key", 0, 11},           {"loudness", -25, 0},   {"tempo", 60, 200},  {"duration_ms", 100e3, 400e3},
    {"time_signature", 3, 5}, {"chorus_hit", 15, 80}, {"sections", 5, 20}, {"decade", 1960, 2010}};

/// A fixed pseudo-random sequence in [0, 1) (xorshift32, Marsaglia 2003).
class Sequence {
 public:
  double next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_ / 4294967296.0;
  }

 private:
  std::uint32_t state_ = 2463534242;
};

double nanoseconds(Clock::duration time) { return std::chrono::duration<double, std::nano>(time).count(); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// What reading the clock twice costs.
double clock_cost() {
  std::vector<double> times;
  for (int i = 0; i < 10000; ++i) {
    const auto start = Clock::now();
    times.push_back(nanoseconds(Clock::now() - start));
  }
  return median(times);
}

/// Pushes everything else out of the caches.
class Eviction {
 public:
  void operator()() {
    std::memset(bytes_.data(), ++value_, bytes_.size());
    seen_ = bytes_.back();  // so that the writing cannot be left out
  }

 private:
  std::vector<unsigned char> bytes_ = std::vector<unsigned char>(96 << 20);
  int value_ = 0;
  volatile unsigned char seen_ = 0;
};

struct Repetitions {
  int rounds, calls, cold;
};

/// Median time of one `call(i)`, i counting up.
template <typename Call>
double warm(const Repetitions& repetitions, Call call) {
  std::vector<double> times;
  for (int round = -1; round < repetitions.rounds; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < repetitions.calls; ++i) call(i);
    const double time = nanoseconds(Clock::now() - start) / repetitions.calls;
    if (round >= 0) times.push_back(time);  // the first round warms up
  }
  return median(times);
}

template <typename Call>
double cold(const Repetitions& repetitions, Eviction& evict, double overhead, Call call) {
  std::vector<double> times;
  for (int i = 0; i < repetitions.cold; ++i) {
    evict();
    const auto start = Clock::now();
    call(i);
    times.push_back(nanoseconds(Clock::now() - start));
  }
  return std::max(0.0, median(times) - overhead);
}

void check(tonearm_status status, const std::string& what) {
  if (status != TONEARM_OK) throw std::runtime_error(what + ": " + tonearm_status_text(status));
}

/// The file's bytes in words, because a blob wants 4-byte alignment.
std::vector<std::uint32_t> read_blob(const std::string& path, std::size_t& size) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error(path + ": cannot be read");
  size = bytes.size();
  std::vector<std::uint32_t> words(size / 4 + 1);
  if (size > 0) std::memcpy(words.data(), bytes.data(), size);
  return words;
}

constexpr int row_count = 1024;

/// Rows of the model's columns, one after the other: numbers in their range, categories of the vocabulary.
std::vector<float> make_rows(const tonearm_model& model, std::uint32_t columns) {
  Sequence random;
  std::vector<float> rows;
  for (int row = 0; row < row_count; ++row) {
    for (std::uint32_t i = 0; i < columns; ++i) {
      tonearm_column column{};
      column.struct_size = sizeof column;
      check(tonearm_model_column_at(&model, i, &column), "column");
      const auto* range = std::find_if(std::begin(ranges), std::end(ranges), [&](const Range& r) {
        return std::strcmp(r.column, column.name) == 0;
      });
      double value = random.next();
      if (column.categories > 0) {
        value = std::floor(value * column.categories);
      } else if (range != std::end(ranges)) {
        value = range->low + value * (range->high - range->low);
      }
      rows.push_back(static_cast<float>(value));
    }
  }
  return rows;
}

nlohmann::ordered_json measure(const std::string& path, const Repetitions& repetitions, Eviction& evict,
                               double overhead) {
  std::size_t size = 0;
  const auto words = read_blob(path, size);
  tonearm_model model{};
  check(tonearm_model_open(&model, words.data(), size, nullptr, nullptr), path);
  tonearm_info info{};
  info.struct_size = sizeof info;
  check(tonearm_model_info(&model, &info), path);

  const auto rows = make_rows(model, info.columns);
  std::vector<float> scratch(tonearm_scratch_size(&model) / sizeof(float) + 1);
  std::vector<float> out(info.outputs);
  const auto evaluate = [&](int i) {
    tonearm_evaluate(&model, &rows[static_cast<std::size_t>(i % row_count) * info.columns], info.columns,
                     scratch.data(), scratch.size() * sizeof(float), out.data());
  };
  check(tonearm_evaluate(&model, rows.data(), info.columns, scratch.data(), scratch.size() * sizeof(float),
                         out.data()),
        path);

  tonearm_open_options options{};
  options.struct_size = sizeof options;
  tonearm_model again{};
  const auto open = [&](int) { tonearm_model_open(&again, words.data(), size, &options, nullptr); };

  // Opening is some thousand times dearer than a prediction.
  const Repetitions fewer{repetitions.rounds, std::max(1, repetitions.calls / 100), repetitions.cold};
  nlohmann::ordered_json result{{"file", path},
                                {"model", info.name},
                                {"blob_bytes", size},
                                {"evaluate_warm_ns", warm(repetitions, evaluate)},
                                {"evaluate_cold_ns", cold(repetitions, evict, overhead, evaluate)}};
  result["open_warm_ns"] = warm(fewer, open);
  result["open_cold_ns"] = cold(fewer, evict, overhead, open);
  options.skip_crc = 1;
  result["open_without_crc_warm_ns"] = warm(fewer, open);
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> blobs;
  std::string json;
  Repetitions repetitions{101, 2 * row_count, 201};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      std::fputs(usage, stdout);
      return 0;
    } else if (argument == "--quick") {
      repetitions = {1, 100, 1};
    } else if (argument == "--json" && i + 1 < argc) {
      json = argv[++i];
    } else if (argument.starts_with("--")) {
      std::fprintf(stderr, "unknown or incomplete option: %s\n%s", argument.c_str(), usage);
      return 2;
    } else {
      blobs.push_back(argument);
    }
  }
  if (blobs.empty()) {
    std::fputs(usage, stderr);
    return 2;
  }

  Eviction evict;
  const double overhead = clock_cost();
  auto results = nlohmann::ordered_json::array();
  for (const auto& blob : blobs) results.push_back(measure(blob, repetitions, evict, overhead));

  if (json == "-") {
    std::printf("%s\n", results.dump(2).c_str());
    return 0;
  }
  std::printf("%-28s %12s %14s %14s %12s %12s %16s\n", "blob", "bytes", "evaluate ns", "cold ns", "open us",
              "cold us", "without CRC us");
  for (const auto& r : results) {
    std::printf("%-28s %12zu %14.1f %14.0f %12.1f %12.1f %16.1f\n",
                std::filesystem::path(r["file"].get<std::string>()).filename().c_str(),
                r["blob_bytes"].get<std::size_t>(), r["evaluate_warm_ns"].get<double>(),
                r["evaluate_cold_ns"].get<double>(), r["open_warm_ns"].get<double>() / 1000,
                r["open_cold_ns"].get<double>() / 1000, r["open_without_crc_warm_ns"].get<double>() / 1000);
  }
  if (!json.empty()) {
    std::ofstream file(json);
    file << results.dump(2) << '\n';
    if (!file.flush()) throw std::runtime_error(json + ": cannot be written");
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
