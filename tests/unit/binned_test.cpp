// Rows beyond a memory limit: bins and trees are the same, bit for bit, as with everything in memory, and as
// they were before there was a limit.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "folder.h"
#include "train/binning.h"
#include "train/boosted.h"

namespace {
std::atomic<int> polls_before_interrupt = std::numeric_limits<int>::max();
}

namespace tonearm {

// In place of the one that listens to signals, so that training can be interrupted at an exact point.
bool interrupted() { return polls_before_interrupt.fetch_sub(1) <= 0; }

namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
using Growth = BoostedOptions::Growth;

/// A dataset in blocks of a given size, which counts how often it is read.
class Blocks : public RowSource {
 public:
  Blocks(const Dataset& data, std::size_t block_rows) : data_(data), block_rows_(block_rows) {}
  std::size_t features() const override { return data_.features; }
  void read(const std::function<void(const RowBlock&)>& sink) override {
    ++reads;
    for (std::size_t first = 0; first < data_.rows; first += block_rows_) {
      const std::size_t rows = std::min(block_rows_, data_.rows - first);
      const std::size_t values = rows * data_.features;
      // Copies, so that looking at a block after its call is seen by a sanitizer.
      const std::vector<float> block(data_.values.data() + first * data_.features,
                                     data_.values.data() + first * data_.features + values);
      const std::vector<float> target(data_.target.data() + first, data_.target.data() + first + rows);
      sink({rows, block, target});
    }
  }
  int reads = 0;

 private:
  const Dataset& data_;
  std::size_t block_rows_;
};

constexpr std::size_t kinds = 12;

/// One column of every kind that cutting must tell apart, from integers only. Every third is missing in a
/// tenth of the rows.
Dataset mixed(std::size_t rows, std::uint64_t seed, std::size_t features = kinds) {
  Random random(seed);
  Dataset data = {rows, features, {}, {}};
  for (std::size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (std::size_t feature = 0; feature < features; ++feature) {
      const std::uint32_t a = random.below(1u << 24), b = random.below(10);
      const double uniform = a / 0x1p24;
      double x = 0;
      switch (feature % kinds) {
        case 0:
          x = uniform * uniform * 8 - 2;
          break;  // continuous
        case 1:
          x = a % 12;
          break;  // few values
        case 2:
          x = b < 6 ? 0 : uniform - 0.3;
          break;  // one value fills bins
        case 3:
          x = 200000 + a % 100000;
          break;  // thousands of values
        case 4:
          x = 7;
          break;  // one value
        case 5:
          x = a % 900;
          break;  // some more values than bins
        case 6:
          x = 1e6 + uniform;
          break;  // few floats lie so close
        case 7:
          x = b == 0 ? -0.0 : b == 1 ? 0.0 : (a % 99 - 49.0) * 1e-44;
          break;  // denormals, zeros
        case 8:
          x = b == 0 ? HUGE_VAL : b == 1 ? -HUGE_VAL : uniform;
          break;
        case 9:
          x = std::ldexp(uniform - 0.5, static_cast<int>(a % 200) - 100);
          break;  // all magnitudes
        case 10:
          x = b < 3 ? 1.5 : b < 5 ? -2.25 : b < 6 ? 3.5 : uniform * 4;
          break;  // values among others
        case 11:
          x = (a % 4096) / 4096.0;
          break;
      }
      if (std::abs(x) < 100) sum += feature % 2 == 0 ? x : -x / 4;
      data.values.push_back(feature % 3 == 1 && random.below(10) == 0 ? nan : static_cast<float>(x));
    }
    data.target.push_back(sum + random.below(8) > 3 ? 1.0F : 0.0F);
  }
  return data;
}

/// The rule, read off all values in order.
std::vector<float> cuts_of(const Dataset& data, std::size_t feature, std::size_t max_bins) {
  std::map<float, std::size_t> counts;
  std::size_t present = 0;
  for (std::size_t row = 0; row < data.rows; ++row) {
    const float value = data.row(row)[feature];
    if (std::isnan(value)) continue;
    ++counts[value];  // -0 and 0 are one key
    ++present;
  }
  const bool missing = present < data.rows;
  max_bins -= missing ? 1 : 0;
  const std::vector<std::pair<float, std::size_t>> values(counts.begin(), counts.end());
  const auto own = [&](std::size_t i) {
    return values.size() <= max_bins || values[i].second * max_bins >= present;
  };
  std::size_t rows = present, bins = max_bins, in_bin = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (own(i)) rows -= values[i].second, --bins;
  std::vector<float> thresholds;
  for (std::size_t i = 0; i + 1 < values.size(); ++i) {
    if (!own(i)) {
      in_bin += values[i].second;
      if (bins <= 1 || (in_bin * bins < rows && !own(i + 1))) continue;
      rows -= in_bin;
      --bins;
    }
    in_bin = 0;
    thresholds.push_back(threshold_between(values[i].first + 0.0F, values[i + 1].first + 0.0F));
  }
  if (missing && !values.empty()) thresholds.push_back(values.back().first + 0.0F);
  return thresholds;
}

std::vector<std::uint8_t> all_bins(const BinnedRows& rows) {
  std::vector<std::uint8_t> buffer;
  const std::uint8_t* const bins = rows.bins.read(0, rows.rows, buffer);
  return {bins, bins + rows.rows * rows.features};
}

Training with(Threads& threads, std::uint64_t seed = 1) {
  return {.threads = threads, .seed = seed, .label = "test"};
}

bool same(const TreeEnsemble& a, const TreeEnsemble& b) {
  return trees_to_state(a.trees) == trees_to_state(b.trees) && a.base == b.base && a.scale == b.scale &&
         a.symmetric_depth == b.symmetric_depth;
}

/// Trains beyond a limit that is far too low for the rows.
TreeEnsemble train_on_file(const Dataset& data, const Dataset& validation, const BoostedOptions& options,
                           std::size_t limit_bytes, std::size_t block_rows, const Training& training) {
  const Folder folder;
  const MemoryLimit limit = {limit_bytes, folder.path()};
  Blocks source(data, block_rows), validation_source(validation, block_rows);
  const BinnedRows rows = bin_rows(source, options.bins, limit, training.threads);
  EXPECT_FALSE(rows.in_memory);
  const BinnedRows validation_rows = bin_rows(validation_source, rows, limit, training.threads);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // temporary files have no name
  return train_boosted(rows, &validation_rows, options, training);
}

// ------------------------------------------------------------------------------------------ binning

TEST(BinnedRows, CutsFollowTheRuleWhateverTheLimit) {
  Threads threads(2);
  const Folder folder;
  for (const std::size_t rows : {2u, 40u, 700u, 20000u})
    for (const unsigned bins : {2u, 3u, 16u, 64u, 255u}) {
      Dataset data = mixed(rows, rows + bins);
      data.target[0] = 1 - data.target[1];
      std::vector<std::uint8_t> expected_bins;
      for (const std::size_t bytes : {std::numeric_limits<std::size_t>::max(), std::size_t{3} << 20,
                                      std::size_t{200000}, std::size_t{40000}, std::size_t{0}}) {
        if (bytes < 200000 && rows == 20000 && bins != 64) continue;  // many passes
        Blocks source(data, bytes % 7 == 0 ? 333 : 20000);
        const BinnedRows binned = bin_rows(source, bins, {bytes, folder.path()}, threads);
        EXPECT_EQ(binned.in_memory, rows * (kinds + 29) <= bytes);
        EXPECT_EQ(binned.rows, rows);
        for (std::size_t feature = 0; feature < kinds; ++feature)
          ASSERT_EQ(binned.thresholds[feature], cuts_of(data, feature, bins))
              << "feature " << feature << ", " << rows << " rows, " << bins << " bins, " << bytes;
        if (expected_bins.empty()) expected_bins = all_bins(binned);
        EXPECT_EQ(all_bins(binned), expected_bins);
      }
    }
}

TEST(BinnedRows, TheOrderOfRowsDoesNotMatter) {
  Threads threads(1);
  const Folder folder;
  const Dataset data = mixed(5000, 3);
  Dataset reversed = data;
  for (std::size_t row = 0; row < data.rows; ++row) {
    std::copy_n(data.row(data.rows - 1 - row).data(), kinds, reversed.values.data() + row * kinds);
    reversed.target[row] = data.target[data.rows - 1 - row];
  }
  Blocks source(data, 5000), reversed_source(reversed, 100);
  EXPECT_EQ(bin_rows(source, 64, {}, threads).thresholds,
            bin_rows(reversed_source, 64, {.bytes = 0, .folder = folder.path()}, threads).thresholds);
}

TEST(BinnedRows, ReadsTheRowsFewTimes) {
  // Counting, closer looks, and the bins.
  Threads threads(2);
  const Folder folder;
  const Dataset data = mixed(60000, 5);
  Blocks plenty(data, 8192);
  bin_rows(plenty, 255, {}, threads);
  EXPECT_EQ(plenty.reads, 2);
  Blocks scarce(data, 8192);
  bin_rows(scarce, 255, {std::size_t{4} << 20, folder.path()}, threads);
  EXPECT_LE(scarce.reads, 9);
}

TEST(BinnedRows, ValidationRowsAreCutLikeOthers) {
  Threads threads(1);
  const Folder folder;
  const Dataset data = mixed(3000, 1), other = mixed(500, 2);
  DatasetRows source(data), other_source(other);
  const BinnedRows rows = bin_rows(source, 32, {}, threads);
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1} << 20}) {
    const BinnedRows binned = bin_rows(other_source, rows, {bytes, folder.path()}, threads);
    EXPECT_EQ(binned.thresholds, rows.thresholds);
    EXPECT_EQ(binned.has_missing, rows.has_missing);
    EXPECT_EQ(binned.positive,
              static_cast<std::size_t>(std::count(other.target.begin(), other.target.end(), 1)));
    const std::vector<std::uint8_t> bins = all_bins(binned);
    for (std::size_t i = 0; i < bins.size(); ++i) {
      const float x = other.values[i];
      const std::size_t feature = i % kinds;
      ASSERT_EQ(bins[i], std::isnan(x) ? rows.value_bins(feature) : bin_of(rows.thresholds[feature], x));
    }
  }
}

TEST(BinnedRows, RefusesWhatTreesCannotBeTrainedOn) {
  Threads threads(1);
  const auto refused = [&](const Dataset& data) {
    DatasetRows source(data);
    return error_of([&] { bin_rows(source, 16, {}, threads); });
  };
  EXPECT_TRUE(contains(refused({0, 0, {}, {}}), "without features"));
  EXPECT_TRUE(contains(refused({0, 2, {}, {}}), "there are no rows"));
  EXPECT_TRUE(contains(refused({2, 1, {1, 2}, {1, 1}}), "all 2 rows have the label 1"));
  EXPECT_TRUE(contains(refused({2, 1, {1, 2}, {0, 0}}), "all 2 rows have the label 0"));
}

/// One row more, or less, with every reading.
class Changing : public RowSource {
 public:
  explicit Changing(int step) : step_(step) {}
  std::size_t features() const override { return 1; }
  void read(const std::function<void(const RowBlock&)>& sink) override {
    const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8, 9}, target = {0, 1, 0, 1, 0, 1, 0, 1, 0};
    sink({rows_, std::span(values).first(rows_), std::span(target).first(rows_)});
    rows_ = static_cast<std::size_t>(static_cast<int>(rows_) + step_);
  }

 private:
  std::size_t rows_ = 6;
  int step_;
};

TEST(BinnedRows, SaysThatTheRowsChangedWhileTheyWereRead) {
  Threads threads(1);
  for (const int step : {1, -1}) {
    Changing source(step);
    EXPECT_TRUE(
        contains(error_of([&] { bin_rows(source, 4, {}, threads); }), "changed while they were read"));
  }
}

TEST(BinnedRows, NamesTheFileThatCannotBeWritten) {
  Threads threads(2);
  const Folder folder;
  const Dataset data = mixed(2000, 1);
  DatasetRows source(data);
  const std::string missing = (folder / "missing").string();
  EXPECT_TRUE(contains(error_of([&] { bin_rows(source, 16, {0, missing}, threads); }), missing));

  // A file that may not grow stands for a full disk.
  const BinnedRows rows = bin_rows(source, 16, {0, folder.path()}, threads);
  struct rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  struct rlimit small = before;
  small.rlim_cur = 5000;
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string binning = error_of([&] { bin_rows(source, 16, {0, folder.path()}, threads); });
  const std::string training = error_of([&] { train_boosted(rows, nullptr, {.trees = 2}, with(threads)); });
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_TRUE(contains(binning, "cannot write the temporary file " + folder.path().string()));
  EXPECT_TRUE(contains(training, "cannot write the temporary file " + folder.path().string()));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// ----------------------------------------------------------------------------------------- training

std::vector<std::pair<const char*, BoostedOptions>> ways() {
  return {
      {"leaf-wise", {.trees = 8}},
      {"many leaves", {.trees = 2, .leaves = 120, .min_leaf_rows = 2}},
      {"bounded depth", {.trees = 4, .leaves = 40, .depth = 4, .rate = 0.3, .l2 = 2}},
      {"symmetric", {.growth = Growth::symmetric, .trees = 8, .depth = 5}},
      {"small leaves", {.growth = Growth::symmetric, .trees = 4, .depth = 8, .min_leaf_rows = 300}},
      {"shares", {.trees = 8, .feature_share = 0.6, .row_share = 0.4}},
      {"symmetric with shares",
       {.growth = Growth::symmetric, .trees = 5, .depth = 4, .feature_share = 0.4, .row_share = 0.7}},
      {"few bins", {.trees = 5, .min_gain = 1, .bins = 5}},
      {"patience", {.trees = 60, .rate = 0.4, .patience = 4}},
      {"symmetric with patience",
       {.growth = Growth::symmetric, .trees = 60, .depth = 6, .rate = 0.4, .patience = 4}},
  };
}

/// FNV-1a of questions and leaves; these as floats, so that another C library's exp changes nothing.
std::uint64_t digest(const TreeEnsemble& ensemble) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](auto value) {
    unsigned char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  };
  for (const Tree& tree : ensemble.trees)
    for (const TreeNode& node : tree.nodes) {
      add(node.feature);
      add(node.threshold);
      add(static_cast<std::uint8_t>(node.missing_left));
      add(node.left);
      add(static_cast<float>(node.value));
    }
  return hash;
}

TEST(BoostedRows, TreesAreTheOnesOfTheTrainerThatKnewNoLimit) {
  // Recorded with the trainer that held everything in memory and sorted all values to cut them.
  const std::map<std::string, std::uint64_t> expected = {
      {"leaf-wise", 0x867108cf1fcd0781u},
      {"many leaves", 0x0f9748da962c527au},
      {"bounded depth", 0x9d6c8e2bb30c7ce2u},
      {"symmetric", 0x30d1ec1873161d47u},
      {"small leaves", 0xd524e0533adfdcdau},
      {"shares", 0x47aaa70772a51f9cu},
      {"symmetric with shares", 0xce0a0c7585c752b8u},
      {"few bins", 0x749cd0183a250736u},
      {"patience", 0x8226171c9d483739u},
      {"symmetric with patience", 0xb27569a1a6d0014cu},
  };
  Threads threads(2);
  const Dataset data = mixed(9000, 21, 20), validation = mixed(3000, 22, 20);
  for (const auto& [name, options] : ways())
    EXPECT_EQ(digest(train_boosted(data, validation, options, with(threads))), expected.at(name)) << name;
}

TEST(BoostedRows, TheLimitDoesNotMatter) {
  const Dataset data = mixed(14000, 31, 20), validation = mixed(9000, 32, 20);
  for (const auto& [name, options] : ways()) {
    Threads two(2);
    const TreeEnsemble expected = train_boosted(data, validation, options, with(two));
    EXPECT_LT(expected.trees.size(), 60u);  // patience ends it early
    unsigned count = 0;
    for (const std::size_t bytes : {std::size_t{600000}, std::size_t{100000}, std::size_t{0}}) {
      Threads threads(++count);
      EXPECT_TRUE(
          same(train_on_file(data, validation, options, bytes, bytes == 0 ? 1234 : 20000, with(threads)),
               expected))
          << name << ' ' << bytes;
    }
  }
}

TEST(BoostedRows, NothingToLearnGivesTheBaseRateFromAFile) {
  const Dataset data = {
      20, 2, std::vector<float>(40, 3), {1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}};
  Threads threads(2);
  for (const Growth growth : {Growth::leaf_wise, Growth::symmetric}) {
    const BoostedOptions options = {.growth = growth, .depth = 3};
    const TreeEnsemble trained = train_on_file(data, {0, 2, {}, {}}, options, 0, 7, with(threads));
    EXPECT_TRUE(same(trained, train_boosted(data, {}, options, with(threads))));
    EXPECT_EQ(trained.trees.size(), 1u);
  }
}

TEST(BoostedRows, InterruptedInTheMiddleOfATreeItResumesToTheSame) {
  const Dataset data = mixed(13000, 41), validation = mixed(5000, 42);
  for (const auto& [name, options] : ways()) {
    Threads threads(2);
    const TreeEnsemble expected = train_boosted(data, validation, options, with(threads));
    const Folder folder, checkpoints;
    const MemoryLimit limit = {0, folder.path()};
    DatasetRows source(data), validation_source(validation);
    const BinnedRows rows = bin_rows(source, options.bins, limit, threads);
    const BinnedRows validation_rows = bin_rows(validation_source, rows, limit, threads);
    int runs = 0, patience = 40;  // polls, one for each block
    for (bool finished = false; !finished; ++runs) {
      Training training = with(threads);
      training.checkpoint = Checkpoint(checkpoints / "checkpoint", "same", runs > 0);
      polls_before_interrupt = patience;
      try {
        const TreeEnsemble resumed = train_boosted(rows, &validation_rows, options, training);
        finished = true;
        EXPECT_TRUE(same(resumed, expected)) << name;
      } catch (const Interrupted&) {
        patience += patience / 2;
      }
      polls_before_interrupt = std::numeric_limits<int>::max();
      ASSERT_LT(runs, 20) << name;
    }
    EXPECT_GT(runs, 1) << name;
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  }
}

TEST(BoostedRows, BinningCanBeInterrupted) {
  Threads threads(1);
  const Folder folder;
  const Dataset data = mixed(40000, 1, 3);
  Blocks source(data, 500);
  for (const int polls : {0, 3}) {
    polls_before_interrupt = polls;
    EXPECT_THROW(bin_rows(source, 64, {0, folder.path()}, threads), Interrupted);
    polls_before_interrupt = std::numeric_limits<int>::max();
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace tonearm
