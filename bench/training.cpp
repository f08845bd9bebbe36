// How long boosted trees take to train under a memory limit, and what memory is used, on synthetic rows
// that are made anew in every pass. Prints one line.

#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <vector>

#include "base/random.h"
#include "train/boosted.h"

namespace {

using namespace tonearm;

/// Counts, shares with spikes and continuous numbers; of some features a tenth is missing.
class Synthetic : public RowSource {
 public:
  Synthetic(std::size_t rows, std::size_t features) : rows_(rows), features_(features) {}
  std::size_t features() const override { return features_; }
  void read(const std::function<void(const RowBlock&)>& sink) override {
    constexpr std::size_t block_rows = 8192;
    std::vector<float> values(block_rows * features_), target(block_rows);
    Random random(1);
    for (std::size_t first = 0; first < rows_; first += block_rows) {
      const std::size_t rows = std::min(block_rows, rows_ - first);
      for (std::size_t row = 0; row < rows; ++row) {
        double score = 0;
        for (std::size_t feature = 0; feature < features_; ++feature) {
          const std::uint64_t bits = random.next();
          const double uniform = static_cast<double>(bits >> 11) * 0x1p-53;
          double x = uniform * uniform * 4 - 1;
          if (feature % 4 == 1) x = static_cast<double>(bits % 24);
          if (feature % 4 == 2 && bits % 3 == 0) x = 0;
          if (feature < 8)
            score += feature % 4 == 1 ? 0.05 * (x - 12) : 0.5 * x * (feature % 3 == 0 ? 1 : -1);
          const bool missing = feature % 5 == 3 && bits % 10 == 7;
          values[row * features_ + feature] =
              missing ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(x);
        }
        target[row] = random.uniform() < 1 / (1 + std::exp(-score)) ? 1.0f : 0.0f;
      }
      sink({rows, {values.data(), rows * features_}, {target.data(), rows}});
    }
  }

 private:
  std::size_t rows_, features_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr,
                 "usage: training ROWS FEATURES LIMIT_MB FOLDER TREES THREADS\n"
                 "       FOLDER holds what exceeds LIMIT_MB, in files without a name\n");
    return 2;
  }
  try {
    const auto number = [&](int i) { return static_cast<unsigned>(std::strtoul(argv[i], nullptr, 10)); };
    const MemoryLimit limit = {std::size_t{number(3)} << 20, argv[4]};
    Threads threads(number(6));
    Synthetic source(number(1), number(2));
    auto start = std::chrono::steady_clock::now();
    const BinnedRows rows = bin_rows(source, 255, limit, threads);
    const double binning = seconds_since(start);
    start = std::chrono::steady_clock::now();
    const Training training = {.threads = threads, .label = "training"};
    const TreeEnsemble ensemble = train_boosted(rows, nullptr, {.trees = number(5)}, training);
    const double growing = seconds_since(start);
    struct rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    std::printf(
        "%u rows x %u features, limit %u MB (%s): binning %.1f s, %zu trees of 31 leaves %.2f s each, "
        "peak RSS %.1f MB\n",
        number(1), number(2), number(3), rows.in_memory ? "in memory" : "on file", binning,
        ensemble.trees.size(), growing / static_cast<double>(ensemble.trees.size()),
        static_cast<double>(usage.ru_maxrss) / 1024);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "training: %s\n", error.what());
    return 1;
  }
}
