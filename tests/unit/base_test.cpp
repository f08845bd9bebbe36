#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "base/checkpoint.h"
#include "base/crc32.h"
#include "base/files.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/random.h"
#include "folder.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// --- CRC-32 ------------------------------------------------------------------------------------------

TEST(Crc32, IsThatOfZlib) {
  const std::string_view check = "123456789";  // whose value the catalogues of CRCs list
  const std::vector<unsigned char> bytes(check.begin(), check.end());
  EXPECT_EQ(crc32(bytes), 0xCBF43926u);
  EXPECT_EQ(crc32({}), 0u);
}

// --- Random ------------------------------------------------------------------------------------------

// What other implementations of xoshiro256** give when SplitMix64 seeds them with 0.
TEST(Random, SeedZeroGivesThePublishedSequence) {
  Random random(0);
  for (const std::uint64_t expected : {11091344671253066420u, 13793997310169335082u, 1900383378846508768u,
                                       7684712102626143532u, 13521403990117723737u})
    EXPECT_EQ(random.next(), expected);
}

// Models are reproducible from their seed only as long as these never change.
TEST(Random, ValuesAreFrozen) {
  Random random(42, 7);
  EXPECT_EQ(random.next(), 0x9bbfa2a52319cf76u);
  EXPECT_EQ(random.uniform(), 0.20988394194845428);
  EXPECT_EQ(random.below(1000), 989u);
  EXPECT_DOUBLE_EQ(random.normal(), -1.9580431160644662);
  EXPECT_DOUBLE_EQ(random.normal(), -0.78398047534854598);
  EXPECT_EQ(mix64(1), 0x5692161d100b05e5u);
}

TEST(Random, UniformCoversTheUnitIntervalEvenly) {
  Random random(3);
  constexpr int draws = 200000, cells = 100;
  std::vector<int> counts(cells);
  for (int i = 0; i < draws; ++i) {
    const double value = random.uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    ++counts[static_cast<std::size_t>(value * cells)];
  }
  double chi_square = 0;
  for (const int count : counts) chi_square += std::pow(count - draws / cells, 2) / (draws / cells);
  EXPECT_LT(chi_square, 160);  // 99 degrees of freedom: exceeded once in 10,000 seeds
  EXPECT_GT(chi_square, 50);   // and too even would be as suspicious
}

TEST(Random, BelowIsUnbiasedForLargeBounds) {
  // For 3 * 2^30, multiplying without rejection would give every third value twice as often.
  Random random(4);
  constexpr int draws = 300000;
  int counts[3] = {};
  for (int i = 0; i < draws; ++i) {
    const std::uint32_t value = random.below(3u << 30);
    ASSERT_LT(value, 3u << 30);
    ++counts[value % 3];
  }
  for (const int count : counts) EXPECT_NEAR(count, draws / 3, 1500);
}

TEST(Random, BelowReachesEveryValueOfASmallBound) {
  Random random(5);
  EXPECT_EQ(random.below(1), 0u);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts[random.below(7)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
}

TEST(Random, NormalHasTheMomentsAndTailsOfANormal) {
  Random random(6);
  constexpr int draws = 400000;
  double sums[5] = {};
  int beyond_two = 0;
  for (int i = 0; i < draws; ++i) {
    const double value = random.normal();
    for (int power = 1; power <= 4; ++power) sums[power] += std::pow(value, power) / draws;
    beyond_two += std::abs(value) > 2;
  }
  EXPECT_NEAR(sums[1], 0, .01);
  EXPECT_NEAR(sums[2], 1, .015);
  EXPECT_NEAR(sums[3], 0, .03);
  EXPECT_NEAR(sums[4], 3, .08);
  EXPECT_NEAR(beyond_two / static_cast<double>(draws), .0455, .002);
}

TEST(Random, StreamsAndSeedsAreUncorrelated) {
  const auto correlation = [](Random a, Random b) {
    constexpr int draws = 20000;
    double sum = 0;
    for (int i = 0; i < draws; ++i) sum += (a.uniform() - .5) * (b.uniform() - .5) * 12;
    return sum / draws;
  };
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_LT(std::abs(correlation(Random(1, i), Random(1, i + 1))), .04) << i;
    EXPECT_LT(std::abs(correlation(Random(i, 0), Random(i + 1, 0))), .04) << i;
    EXPECT_LT(std::abs(correlation(Random(i, 1), Random(i + 1, 0))), .04) << i;
  }
}

TEST(Mix64, EveryInputBitFlipsEveryOutputBitHalfTheTime) {
  Random random(8);
  std::vector<int> flips(64 * 64);
  constexpr int draws = 2000;
  for (int i = 0; i < draws; ++i) {
    const std::uint64_t value = random.next();
    for (unsigned in = 0; in < 64; ++in) {
      const std::uint64_t changed = mix64(value) ^ mix64(value ^ (std::uint64_t{1} << in));
      for (unsigned out = 0; out < 64; ++out) flips[in * 64 + out] += static_cast<int>((changed >> out) & 1);
    }
  }
  const auto [least, most] = std::minmax_element(flips.begin(), flips.end());
  EXPECT_GT(*least, draws * .4);
  EXPECT_LT(*most, draws * .6);
}

// --- Threads -----------------------------------------------------------------------------------------

TEST(Threads, EveryBlockRunsExactlyOnce) {
  for (const unsigned count : {1u, 2u, 3u, 8u}) {
    Threads threads(count);
    EXPECT_EQ(threads.count(), count);
    for (const std::size_t blocks : {0u, 1u, 2u, 7u, 1000u}) {
      std::vector<std::atomic<int>> runs(blocks);
      threads.run(blocks, [&](std::size_t block) { ++runs[block]; });
      for (const auto& run : runs) ASSERT_EQ(run, 1) << count << " threads, " << blocks << " blocks";
    }
  }
}

TEST(Threads, ZeroMeansOnePerCore) {
  EXPECT_EQ(Threads(0).count(), std::max(1u, std::thread::hardware_concurrency()));
}

TEST(Threads, ManyShortRunsSeeTheirOwnData) {
  Threads threads(4);
  std::vector<std::size_t> values(16);
  for (std::size_t round = 1; round <= 5000; ++round) {
    const std::size_t blocks = 1 + round % values.size();
    std::fill(values.begin(), values.end(), 0);
    threads.run(blocks, [&values, round](std::size_t block) { values[block] = round * (block + 1); });
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(values[i], i < blocks ? round * (i + 1) : 0) << "round " << round;
  }
}

TEST(Threads, SleepingWorkersWake) {
  Threads threads(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    // Each block waits for the other: one thread alone would never finish.
    std::atomic<int> arrived = 0;
    threads.run(2, [&](std::size_t) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
  }
}

TEST(Threads, SumsInBlockOrderAreTheSameBitsForAnyCount) {
  Random random(9);
  std::vector<float> data(100000);
  for (float& value : data) value = static_cast<float>(random.normal());
  const auto sum = [&](unsigned count) {
    Threads threads(count);
    std::vector<float> partial(100);
    threads.run(partial.size(), [&](std::size_t block) {
      const auto begin = data.begin() + static_cast<std::ptrdiff_t>(block * 1000);
      partial[block] = std::accumulate(begin, begin + 1000, 0.0f);
    });
    return std::bit_cast<std::uint32_t>(std::accumulate(partial.begin(), partial.end(), 0.0f));
  };
  const std::uint32_t expected = sum(1);
  for (const unsigned count : {2u, 3u, 5u}) EXPECT_EQ(sum(count), expected);
}

TEST(Threads, TheLowestFailingBlockIsReportedAndTheNextRunWorks) {
  for (const unsigned count : {1u, 2u, 4u}) {
    Threads threads(count);
    for (int round = 0; round < 200; ++round) {
      std::string message;
      try {
        threads.run(64, [](std::size_t block) {
          if (block % 10 == 7) throw std::runtime_error("block " + std::to_string(block));
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      ASSERT_EQ(message, "block 7");
      std::atomic<int> runs = 0;
      threads.run(5, [&](std::size_t) { ++runs; });
      ASSERT_EQ(runs, 5);
    }
  }
}

// --- Checkpoint --------------------------------------------------------------------------------------

TEST(Checkpoint, WhatWasSavedIsLoaded) {
  const Folder folder;
  const json state = {{"epoch", 17}, {"weights", {1.5, -0.25, 1e-300}}, {"bytes", json::binary({0, 255, 7})}};
  Checkpoint first(folder / "model.checkpoint", "abc", false);
  EXPECT_FALSE(first.load("final"));
  first.save("fold 1", {{"done", true}});
  first.save("final", 1);
  first.save("final", state);
  EXPECT_FALSE(first.load("final")) << "without resume nothing is loaded";

  const Checkpoint second(folder / "model.checkpoint", "abc", true);
  EXPECT_EQ(second.load("final"), state);
  EXPECT_EQ(second.load("fold 1"), json({{"done", true}}));
  EXPECT_FALSE(second.load("fold 2"));
  second.save("fold 2", 3);
  const Checkpoint third(folder / "model.checkpoint", "abc", true);
  EXPECT_EQ(third.load("final"), state) << "saving one stage keeps the others";
  EXPECT_EQ(third.load("fold 2"), 3);
  third.remove();
  EXPECT_FALSE(fs::exists(folder / "model.checkpoint"));
}

TEST(Checkpoint, WithoutResumeTheFirstSaveForgetsTheOldTraining) {
  const Folder folder;
  Checkpoint(folder / "c", "old", false).save("fold 1", 1);
  Checkpoint(folder / "c", "new", false).save("final", 2);
  const Checkpoint resumed(folder / "c", "new", true);
  EXPECT_FALSE(resumed.load("fold 1"));
  EXPECT_EQ(resumed.load("final"), 2);
}

TEST(Checkpoint, AnotherTrainingIsRefusedWithAdvice) {
  const Folder folder;
  Checkpoint(folder / "c", "one", false).save("final", 1);
  const std::string message = error_of([&] { Checkpoint(folder / "c", "two", true); });
  EXPECT_TRUE(contains(message, (folder / "c").string()));
  EXPECT_TRUE(contains(message, "without --resume, or delete the file"));
}

TEST(Checkpoint, ADamagedFileIsRefusedAtEveryLength) {
  const Folder folder;
  Checkpoint(folder / "c", "one", false).save("final", {{"weights", {1, 2, 3}}});
  const std::vector<unsigned char> whole = read_file(folder / "c");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_file(folder / "c", std::span(whole).first(size));
    const std::string message = error_of([&] { Checkpoint(folder / "c", "one", true); });
    ASSERT_TRUE(contains(message, "damaged; train without --resume, or delete the file")) << size;
  }
}

TEST(Checkpoint, AFlippedBitAnywhereIsRefused) {
  const Folder folder;
  Checkpoint(folder / "c", "one", false).save("final", {{"weights", {1, 2, 3}}});
  const auto bytes = read_file(folder / "c");
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto damaged = bytes;
    damaged[bit / 8] = static_cast<unsigned char>(damaged[bit / 8] ^ 1u << bit % 8);
    write_file(folder / "c", damaged);
    EXPECT_TRUE(contains(error_of([&] { Checkpoint(folder / "c", "one", true); }), "is damaged")) << bit;
  }
}

TEST(Checkpoint, ADefaultOneNeitherSavesNorLoads) {
  const Checkpoint none;
  none.save("final", 1);
  EXPECT_FALSE(none.load("final"));
  none.remove();
}

TEST(Checkpoint, ResumingWithoutAFileStartsAfresh) {
  const Folder folder;
  EXPECT_FALSE(Checkpoint(folder / "c", "one", true).load("final"));
}

// --- Files -------------------------------------------------------------------------------------------

std::string text_of(const fs::path& path) {
  const std::vector<unsigned char> bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Files, WhatIsWrittenIsRead) {
  const Folder folder;
  Random random(1);
  for (const std::size_t size : {0u, 1u, 65536u, 300001u}) {
    std::vector<unsigned char> bytes(size);
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random.next());
    write_file(folder / "file", bytes);
    EXPECT_EQ(read_file(folder / "file"), bytes);
  }
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"file"});
}

TEST(Files, ReadingNamesThePathAndTheReason) {
  const Folder folder;
  const std::string absent = error_of([&] { read_file(folder / "absent"); });
  EXPECT_TRUE(contains(absent, (folder / "absent").string()));
  EXPECT_TRUE(contains(absent, "No such file or directory"));
  EXPECT_TRUE(contains(error_of([&] { read_file(folder.path()); }), "Is a directory"));
}

TEST(Files, AFileThatCannotGrowLeavesTheOldOneAndNothingElse) {
  const Folder folder;
  write_file(folder / "model", "old");
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = error_of([&] { write_file(folder / "model", std::string(100000, 'x')); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(message, "cannot write " + (folder / "model").string() + ": File too large");
  EXPECT_EQ(text_of(folder / "model"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"model"});
}

TEST(Files, AFullDiskIsReportedAndADeviceStaysADevice) {
  if (!fs::is_character_file("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  EXPECT_EQ(error_of([] { write_file("/dev/full", "text"); }),
            "cannot write /dev/full: No space left on device");
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST(Files, UnwritablePlacesAreReported) {
  const Folder folder;
  write_file(folder / "file", "text");
  EXPECT_TRUE(
      contains(error_of([&] { write_file(folder / "absent/model", "x"); }), "No such file or directory"));
  EXPECT_TRUE(contains(error_of([&] { write_file(folder / "file/model", "x"); }), "Not a directory"));
  EXPECT_TRUE(contains(error_of([&] { write_file(folder.path(), "x"); }), "Is a directory"));
  if (::geteuid() != 0) {
    fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_TRUE(contains(error_of([&] { write_file(folder / "model", "x"); }), "Permission denied"));
    fs::permissions(folder.path(), fs::perms::owner_all);
  }
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"file"});
}

// What was killed has left its temporary file; what still writes holds it.
TEST(Files, LeftoversAreRemovedButNotTheFilesOfOthersThatStillWrite) {
  const Folder folder;
  for (const char* name :
       {"model.17.tmp", "model.4194305.tmp", "other.17.tmp", "model.tmp", "model.a.tmp", "model.17.tmp.b"})
    write_file(folder / name, "text");
  FileWriter other(folder / "model");
  other.write("half");
  write_file(folder / "model", "new");
  const std::string running = "model." + std::to_string(::getpid()) + ".tmp";
  std::vector<std::string> expected = {"model",       running,     "model.17.tmp.b",
                                       "model.a.tmp", "model.tmp", "other.17.tmp"};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(names_in(folder.path()), expected);
  EXPECT_EQ(text_of(folder / "model"), "new");
  other.write(" and half");
  other.finish();
  EXPECT_EQ(text_of(folder / "model"), "half and half");
}

TEST(Files, WhatIsNotFinishedIsRemoved) {
  const Folder folder;
  write_file(folder / "model", "old");
  { FileWriter(folder / "model").write("half"); }
  EXPECT_EQ(text_of(folder / "model"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"model"});
}

TEST(Files, ALinkStaysALink) {
  const Folder folder;
  write_file(folder / "target", "old");
  fs::create_symlink("target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(text_of(folder / "target"), "new");
}

TEST(Files, NewFilesObeyTheUmask) {
  const Folder folder;
  const mode_t before = ::umask(027);
  write_file(folder / "file", "text");
  ::umask(before);
  EXPECT_EQ(fs::status(folder / "file").permissions(), static_cast<fs::perms>(0640));
}

TEST(Nearest, FindsTheWordThatWasMeant) {
  const std::vector<std::string> known = {"danceability", "energy", "loudness", "duration_ms", "key"};
  EXPECT_EQ(nearest("danceabilty", known), "danceability");
  EXPECT_EQ(nearest("Energy", known), "energy");
  EXPECT_EQ(nearest("LOUDNES", known), "loudness");
  EXPECT_EQ(nearest("duration", known), "") << "three letters off are more than a third of eight";
  EXPECT_EQ(nearest("duraton_m", known), "duration_ms");
  EXPECT_EQ(nearest("keys", known), "key");
  EXPECT_EQ(nearest("popularity", known), "");
  EXPECT_EQ(nearest("xy", known), "") << "every letter would have to change";
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest("key", {}), "");
}

// --- Interrupts and progress -------------------------------------------------------------------------

TEST(InterruptDeathTest, TheFirstSignalIsNotedAndTheSecondEndsTheProcess) {
  EXPECT_EXIT(
      {
        catch_interrupts();
        if (interrupted()) ::_exit(1);
        ::raise(SIGTERM);
        if (!interrupted()) ::_exit(2);
        ::raise(SIGINT);
        ::_exit(3);
      },
      ::testing::ExitedWithCode(130), "");
}

/// What a Progress writes to `file`, standing in for stderr.
void show_progress_on(int file) {
  const int saved = ::dup(2);
  ::dup2(file, 2);
  {
    Progress progress("training", 200);
    progress.update(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(550));
    progress.update(50, "log loss .4523");
  }
  ::dup2(saved, 2);
  ::close(saved);
}

TEST(Progress, OnATerminalShowsShareTimeLeftAndNoteThenClearsTheLine) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(::grantpt(terminal) | ::unlockpt(terminal), 0);
  const int line = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  ASSERT_GE(line, 0);
  show_progress_on(line);
  char text[1000];
  const ssize_t size = ::read(terminal, text, sizeof text);
  ::close(line);
  ::close(terminal);
  ASSERT_GT(size, 0);
  const std::string shown(text, static_cast<std::size_t>(size));
  EXPECT_TRUE(shown.starts_with("\rtraining 25 %, ")) << shown;
  EXPECT_TRUE(shown.ends_with(" s left, log loss .4523\033[K\r\033[K")) << shown;
}

TEST(Progress, ElsewhereWritesNothing) {
  const Folder folder;
  const int file = ::open((folder / "log").c_str(), O_WRONLY | O_CREAT, 0600);
  show_progress_on(file);
  ::close(file);
  EXPECT_EQ(fs::file_size(folder / "log"), 0u);
}

}  // namespace
}  // namespace tonearm
