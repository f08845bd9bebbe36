// The profiler's C function, by a clock that the test makes: its quantiles are exact, every part of a model
// is there, the bytes are those of the blob's arrays, and wrong arguments are told apart.

#include <gtest/gtest.h>
#include <profiling.h>
#include <tonearm/profile.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "conformance/models.h"

namespace tonearm {
namespace {

/// A clock that stands still but between the two readings of a measurement: there it takes 10 ticks, and of a
/// part what the list has next.
class Clock {
 public:
  explicit Clock(std::vector<std::uint64_t> times) : times_(std::move(times)) {}

  void connect(tonearm_profile_request& request) {
    request.context = this;
    request.now = [](void* context) { return static_cast<Clock*>(context)->now(); };
    request.evict = [](void* context) { static_cast<Clock*>(context)->evict(); };
    request.measured = [](void* context, const tonearm_profile_part* part, std::uint32_t cold,
                          const std::uint64_t* times, std::uint32_t count) {
      static_cast<Clock*>(context)->handed_.emplace_back(part->name, cold,
                                                         std::vector<std::uint64_t>(times, times + count));
    };
    // The clock is tried out first: as often as there are samples, an eighth more, and one; then 101
    // readings.
    calibration_ = 2 * (request.sample_count + request.sample_count / 8 + 1) + 101;
  }

  struct Handed {
    std::string name;
    std::uint32_t cold;
    std::vector<std::uint64_t> times;
    Handed(const char* part, std::uint32_t is_cold, std::vector<std::uint64_t> all)
        : name(part), cold(is_cold), times(std::move(all)) {}
  };
  const std::vector<Handed>& handed() const { return handed_; }
  std::size_t evictions() const { return evictions_; }

 private:
  std::uint64_t now() {
    if (calibration_ > 0) {
      --calibration_;
      return time_ += 10;
    }
    if (evicted_) {  // the reading that warms the clock up
      evicted_ = false;
      return time_;
    }
    if (begun_) time_ += 10 + times_[next_++ % times_.size()];
    begun_ = !begun_;
    return time_;
  }
  void evict() {
    ++evictions_;
    evicted_ = true;
  }

  std::vector<std::uint64_t> times_;
  std::uint64_t time_ = 1000;
  std::size_t calibration_ = 0, next_ = 0, evictions_ = 0;
  bool begun_ = false, evicted_ = false;
  std::vector<Handed> handed_;
};

/// A model, a workload, and all memory that a call takes.
struct Setting {
  SampleModel sample;
  std::vector<unsigned char> blob;
  tonearm_model model{};
  workload made_up{};
  tonearm_profile_request request{};
  tonearm_profile_result result{};
  std::vector<std::uint32_t> memory;
  std::vector<std::uint64_t> samples;
  std::vector<tonearm_profile_part> parts;

  explicit Setting(SampleModel of, std::uint32_t runs = 80)
      : sample(std::move(of)), blob(golden_blob(sample)) {
    EXPECT_EQ(tonearm_model_open(&model, blob.data(), blob.size(), nullptr, nullptr), TONEARM_OK);
    workload_made_up(&made_up);
    request.struct_size = sizeof request;
    request.warm_runs = runs;
    request.cold_runs = runs / 2;
    request.queue = 5;
    request.events = made_up.events;
    request.event_count = made_up.event_count;
    request.tracks = made_up.tracks;
    request.track_count = made_up.track_count;
    samples.resize(runs);
    request.samples = samples.data();
    request.sample_count = runs;
    memory.resize(tonearm_profile_size(&model, request.queue) / 4);
    parts.resize(tonearm_profile_part_count(&model));
    parts.front().struct_size = sizeof parts.front();
    result.struct_size = sizeof result;
    result.parts = parts.data();
    result.part_count = static_cast<std::uint32_t>(parts.size());
  }
  explicit Setting(const char* name, std::uint32_t runs = 80) : Setting(sample_model(name), runs) {}
  Setting(const Setting&) = delete;

  tonearm_status run() {
    result.part_count = static_cast<std::uint32_t>(parts.size());
    return tonearm_profile(&model, &request, memory.data(), memory.size() * 4, &result);
  }
};

std::string any_session_model() { return session_sample_models().front().name; }
std::string any_table_model() {
  for (const SampleModel& sample : sample_models())
    if (sample.events.empty()) return sample.name;
  return "";
}

TEST(Profile, QuantilesAreThoseOfTheClock) {
  Setting setting(any_table_model().c_str());
  Clock clock({500, 100, 800, 300, 700, 200, 600, 400});
  clock.connect(setting.request);
  ASSERT_EQ(setting.run(), TONEARM_OK);
  EXPECT_EQ(setting.result.clock_cost, 10u);
  EXPECT_EQ(setting.result.clock_step, 10u);
  for (std::uint32_t i = 0; i < setting.result.part_count; ++i) {
    const tonearm_profile_times& warm = setting.parts[i].warm;
    EXPECT_EQ(warm.count, 80u);
    EXPECT_EQ(warm.total, 36000u);  // ten times each of the eight
    EXPECT_EQ(warm.minimum, 100u);
    EXPECT_EQ(warm.median, 400u);  // rank 40
    EXPECT_EQ(warm.p90, 800u);     // rank 72
    EXPECT_EQ(warm.p99, 800u);
    EXPECT_EQ(warm.maximum, 800u);
    EXPECT_EQ(setting.parts[i].cold.count, 40u);
    EXPECT_EQ(setting.parts[i].cold.total, 18000u);
  }
  EXPECT_EQ(clock.evictions(), 40u * setting.result.part_count);
}

TEST(Profile, QuantilesAreByNearestRank) {
  std::vector<std::uint64_t> times(997);
  for (std::size_t i = 0; i < times.size(); ++i) times[i] = i * 7919 % 997 + 1;  // 1 to 997 in another order
  for (const std::uint32_t runs : {1u, 2u, 3u, 10u, 99u, 100u, 101u, 997u}) {
    Setting setting(any_table_model().c_str(), runs);
    setting.request.cold_runs = 0;
    Clock clock(times);
    clock.connect(setting.request);
    ASSERT_EQ(setting.run(), TONEARM_OK);
    ASSERT_EQ(clock.handed().size(), setting.result.part_count);
    for (std::size_t i = 0; i < setting.result.part_count; ++i) {
      const std::vector<std::uint64_t>& sorted = clock.handed()[i].times;
      ASSERT_EQ(sorted.size(), runs);
      EXPECT_TRUE(std::is_sorted(sorted.begin(), sorted.end()));
      const auto smallest_covering = [&](double share) {
        for (const std::uint64_t time : sorted)
          if (static_cast<double>(std::upper_bound(sorted.begin(), sorted.end(), time) - sorted.begin()) >=
              share * runs - 1e-9)
            return time;
        return std::uint64_t{0};
      };
      const tonearm_profile_times& warm = setting.parts[i].warm;
      EXPECT_EQ(warm.median, smallest_covering(.5)) << runs;
      EXPECT_EQ(warm.p90, smallest_covering(.9)) << runs;
      EXPECT_EQ(warm.p99, smallest_covering(.99)) << runs;
      EXPECT_EQ(warm.minimum, sorted.front());
      EXPECT_EQ(warm.maximum, sorted.back());
      EXPECT_EQ(warm.total, std::accumulate(sorted.begin(), sorted.end(), std::uint64_t{0}));
    }
  }
}

TEST(Profile, AClockMayWrapAround) {
  struct Narrow {
    std::uint64_t time = 0;
    bool begun = false;
  };
  Setting setting(any_table_model().c_str());
  setting.request.cold_runs = 0;
  Narrow narrow;
  setting.request.context = &narrow;
  setting.request.clock_mask = 0xff;
  // Every second reading comes 100 ticks after the one before, of a counter of eight bits.
  setting.request.now = [](void* context) {
    auto* clock = static_cast<Narrow*>(context);
    clock->time += clock->begun ? 100 : 33;
    clock->begun = !clock->begun;
    return clock->time & 0xff;
  };
  ASSERT_EQ(setting.run(), TONEARM_OK);
  EXPECT_EQ(setting.result.clock_cost, 100u);
  for (std::uint32_t i = 0; i < setting.result.part_count; ++i) {
    // After an odd number of readings to find the step, measurements are of the short times.
    EXPECT_LE(setting.parts[i].warm.maximum, 0u);
    EXPECT_EQ(setting.parts[i].warm.count, 80u);
  }
}

TEST(Profile, AClockThatStandsStillEnds) {
  Setting setting(any_session_model().c_str(), 3);
  setting.request.now = [](void*) { return std::uint64_t{7}; };
  ASSERT_EQ(setting.run(), TONEARM_OK);
  EXPECT_EQ(setting.result.clock_step, 0u);
  for (const tonearm_profile_part& part : setting.parts) EXPECT_EQ(part.warm.maximum, 0u);
}

TEST(Profile, EveryPartOfEveryModelIsMeasured) {
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    const bool sessions = !sample.events.empty();
    Setting setting(sample, 20);
    Clock clock({50});
    clock.connect(setting.request);
    ASSERT_EQ(setting.run(), TONEARM_OK);
    ASSERT_EQ(setting.result.part_count, setting.parts.size());
    std::set<std::uint32_t> calls, operators;
    std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>> all;
    for (const tonearm_profile_part& part : setting.parts) {
      EXPECT_EQ(part.struct_size, sizeof part);
      EXPECT_EQ(part.warm.count, 20u) << part.name;
      EXPECT_EQ(part.cold.count, 10u) << part.name;
      EXPECT_EQ(part.warm.median, 50u) << part.name;
      EXPECT_NE(std::string(part.name), "");
      EXPECT_TRUE(all.insert({part.kind, part.phase, part.index}).second) << "twice: " << part.name;
      if (part.kind < TONEARM_PROFILE_FEATURES) calls.insert(part.kind);
      if (part.kind == TONEARM_PROFILE_OPERATOR) {
        operators.insert(part.index);
        EXPECT_LT(part.touched_bytes, setting.blob.size());
      }
      EXPECT_EQ(part.phase == TONEARM_PHASE_NONE, !sessions || part.kind == TONEARM_PROFILE_START ||
                                                      part.kind == TONEARM_PROFILE_PLAYING ||
                                                      part.kind == TONEARM_PROFILE_QUEUE);
    }
    EXPECT_EQ(operators.size(), sample.model.operators.size());
    EXPECT_EQ(calls, sessions ? (std::set<std::uint32_t>{2, 3, 4, 5, 6}) : (std::set<std::uint32_t>{1}));
  }
}

TEST(Profile, TheSameClockGivesTheSameProfile) {
  const auto profile = [](const std::string& name) {
    Setting setting(name.c_str(), 30);
    Clock clock({3, 1, 4, 1, 5, 9, 2, 6});
    clock.connect(setting.request);
    EXPECT_EQ(setting.run(), TONEARM_OK);
    for (tonearm_profile_part& part : setting.parts) part.name = nullptr;
    std::vector<unsigned char> bytes(setting.parts.size() * sizeof(tonearm_profile_part));
    std::memcpy(bytes.data(), setting.parts.data(), bytes.size());
    return bytes;
  };
  EXPECT_EQ(profile(any_session_model()), profile(any_session_model()));
}

TEST(Profile, NeitherModelNorEventsAreChangedAndMemoryIsKeptTo) {
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    Setting setting(sample, 10);
    Clock clock({1});
    clock.connect(setting.request);
    const std::vector<unsigned char> blob = setting.blob;
    const std::size_t size = setting.memory.size();
    setting.memory.resize(size + 16, 0xabcdef01u);
    ASSERT_EQ(
        tonearm_profile(&setting.model, &setting.request, setting.memory.data(), size * 4, &setting.result),
        TONEARM_OK);
    EXPECT_EQ(setting.blob, blob);
    for (std::size_t i = size; i < setting.memory.size(); ++i) EXPECT_EQ(setting.memory[i], 0xabcdef01u);
  }
}

TEST(Profile, WithoutEvictionNothingIsCold) {
  Setting setting(any_session_model().c_str(), 5);
  Clock clock({1});
  clock.connect(setting.request);
  setting.request.evict = nullptr;
  ASSERT_EQ(setting.run(), TONEARM_OK);
  for (const tonearm_profile_part& part : setting.parts) EXPECT_EQ(part.cold.count, 0u);
}

TEST(Profile, WhatTheEventsDoNotHaveIsNotMeasured) {
  Setting setting(any_session_model().c_str(), 5);
  Clock clock({1});
  clock.connect(setting.request);
  // Starts only: every one ends the track before it, but there is no call that ends one.
  std::vector<tonearm_event> starts;
  for (std::size_t i = 0; i < setting.made_up.event_count; ++i)
    if (setting.made_up.events[i].kind == TONEARM_EVENT_START) starts.push_back(setting.made_up.events[i]);
  setting.request.events = starts.data();
  setting.request.event_count = starts.size();
  setting.request.tracks = nullptr;
  ASSERT_EQ(setting.run(), TONEARM_OK);
  for (const tonearm_profile_part& part : setting.parts) {
    const bool none = part.phase == TONEARM_PHASE_HISTORY || part.kind == TONEARM_PROFILE_QUEUE;
    EXPECT_EQ(part.warm.count, none ? 0u : 5u) << part.name;
  }
}

TEST(Profile, RowsMayBeTheCallers) {
  Setting setting(any_table_model().c_str(), 5);
  Clock clock({1});
  clock.connect(setting.request);
  setting.request.rows = setting.sample.rows.data();
  setting.request.row_count = setting.sample.rows.size() / setting.sample.model.columns.size();
  EXPECT_EQ(setting.run(), TONEARM_OK);
  setting.request.row_count = 0;
  EXPECT_EQ(setting.run(), TONEARM_OUT_OF_RANGE);
}

TEST(Profile, DenseAndRecurrentLayersTouchAllTheirWeights) {
  const auto bytes = [](const auto& values) { return values.size() * sizeof(values[0]); };
  int seen = 0;
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    Setting setting(sample, 3);
    Clock clock({1});
    clock.connect(setting.request);
    ASSERT_EQ(setting.run(), TONEARM_OK);
    for (const tonearm_profile_part& part : setting.parts) {
      if (part.kind != TONEARM_PROFILE_OPERATOR) continue;
      const schema::OperatorT& op = *sample.model.operators[part.index];
      std::size_t expected = 0;
      if (const auto* affine = op.kind.AsAffine()) expected = bytes(affine->weights) + bytes(affine->bias);
      if (const auto* affine = op.kind.AsQuantizedAffine())
        expected = bytes(affine->weights) + bytes(affine->bias) + bytes(affine->input_factors) +
                   bytes(affine->scales);
      if (const auto* recurrent = op.kind.AsRecurrent()) {
        if (recurrent->sequence == schema::Sequence::Session && part.phase == TONEARM_PHASE_CONTEXT &&
            !recurrent->padded)
          continue;  // only read
        if (recurrent->format == schema::WeightFormat::Int8) expected = bytes(recurrent->input_factors);
        for (const auto& layer : recurrent->layers)
          expected += bytes(layer->input_weights) + bytes(layer->recurrent_weights) + bytes(layer->bias) +
                      bytes(layer->recurrent_bias) + bytes(layer->bias_codes) +
                      bytes(layer->recurrent_bias_codes) + bytes(layer->input_multipliers) +
                      bytes(layer->recurrent_multipliers);
      }
      if (expected == 0) continue;
      ++seen;
      EXPECT_EQ(part.touched_bytes, expected) << part.name;
    }
  }
  EXPECT_GT(seen, 10);
}

/// Nodes on the longest way through a tree, by trying them all.
std::size_t longest_way(const schema::BranchingTreesT& trees, std::size_t tree, std::size_t node = 0) {
  const std::size_t bytes = trees.node_format == schema::NodeFormat::Node4   ? 4
                            : trees.node_format == schema::NodeFormat::Node6 ? 6
                            : trees.node_format == schema::NodeFormat::Node8 ? 8
                                                                             : 12;
  const std::size_t wide = bytes == 4 ? 1 : bytes == 12 ? 4 : 2;
  std::size_t longest = 0;
  for (std::size_t side = 0; side < 2; ++side) {
    std::uint32_t child = 0;
    const std::size_t at = (trees.tree_nodes[tree] + node) * bytes + bytes - 2 * wide + side * wide;
    for (std::size_t i = 0; i < wide; ++i) child |= std::uint32_t{trees.nodes[at + i]} << 8 * i;
    if ((child >> (8 * wide - 1) & 1) == 0)
      longest = std::max(longest, longest_way(trees, tree, node + child));
  }
  return longest + 1;
}

TEST(Profile, TreesTouchTheLongestWay) {
  std::set<schema::NodeFormat> seen;
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    Setting wide(sample, 200), narrow(sample, 1);
    for (Setting* each : {&wide, &narrow}) {
      Clock clock({1});
      clock.connect(each->request);
      ASSERT_EQ(each->run(), TONEARM_OK);
    }
    for (std::size_t i = 0; i < wide.parts.size(); ++i) {
      if (wide.parts[i].kind != TONEARM_PROFILE_OPERATOR) continue;
      const auto* trees = sample.model.operators[wide.parts[i].index]->kind.AsBranchingTrees();
      if (trees == nullptr || trees->depth > 0) {  // then all ways are as long
        EXPECT_EQ(wide.parts[i].touched_bytes, narrow.parts[i].touched_bytes);
        continue;
      }
      // Memory for one sample is enough to follow the ways of trees of four nodes; all nodes of others count.
      const bool shared = wide.parts[i].phase == TONEARM_PHASE_CONTEXT;
      const std::size_t count = trees->tree_nodes.size() - 1;
      std::size_t fewer = 0;
      for (std::size_t tree = shared ? 0 : trees->context_trees;
           tree < (shared ? trees->context_trees : count); ++tree) {
        const std::size_t nodes = trees->tree_nodes[tree + 1] - trees->tree_nodes[tree];
        if (nodes > 4) fewer += nodes - longest_way(*trees, tree);
      }
      const std::size_t node_bytes = trees->nodes.size() / trees->tree_nodes.back();
      EXPECT_EQ(narrow.parts[i].touched_bytes - wide.parts[i].touched_bytes, fewer * node_bytes);
      if (fewer > 0) seen.insert(trees->node_format);
    }
  }
  EXPECT_EQ(seen.size(), 4u) << "a format of nodes without a tree that is worth following";
}

TEST(Profile, WrongArgumentsAreToldApart) {
  const auto refused = [](const char* name, auto&& change, tonearm_status expected) {
    Setting setting(name, 5);
    Clock clock({1});
    clock.connect(setting.request);
    change(setting);
    EXPECT_EQ(setting.run(), expected);
  };
  const std::string table = any_table_model(), session = any_session_model();
  for (const std::string& name : {table, session}) {
    const char* model = name.c_str();
    refused(
        model, [](Setting& s) { s.model = {}; }, TONEARM_NOT_OPEN);
    refused(
        model, [](Setting& s) { s.request.struct_size = sizeof s.request - 1; }, TONEARM_BAD_STRUCT_SIZE);
    refused(
        model, [](Setting& s) { s.result.struct_size = 0; }, TONEARM_BAD_STRUCT_SIZE);
    refused(
        model, [](Setting& s) { s.parts.front().struct_size = sizeof s.parts.front() - 8; },
        TONEARM_BAD_STRUCT_SIZE);
    refused(
        model, [](Setting& s) { s.parts.front().struct_size = sizeof s.parts.front() + 1; },
        TONEARM_BAD_STRUCT_SIZE);
    refused(
        model, [](Setting& s) { s.request.now = nullptr; }, TONEARM_NULL_ARGUMENT);
    refused(
        model, [](Setting& s) { s.request.samples = nullptr; }, TONEARM_NULL_ARGUMENT);
    refused(
        model, [](Setting& s) { s.result.parts = nullptr; }, TONEARM_NULL_ARGUMENT);
    refused(
        model, [](Setting& s) { s.request.warm_runs = 0; }, TONEARM_OUT_OF_RANGE);
    refused(
        model, [](Setting& s) { s.request.sample_count = 4; }, TONEARM_OUT_OF_RANGE);
    refused(
        model, [](Setting& s) { s.request.cold_runs = 6; }, TONEARM_OUT_OF_RANGE);
    refused(
        model, [](Setting& s) { s.request.queue = 1001; }, TONEARM_OUT_OF_RANGE);
    refused(
        model, [](Setting& s) { s.memory.pop_back(); }, TONEARM_SCRATCH_TOO_SMALL);

    Setting setting(model, 5);
    Clock clock({1});
    clock.connect(setting.request);
    const std::size_t size = setting.memory.size() * 4;
    void* memory = setting.memory.data();
    EXPECT_EQ(tonearm_profile(nullptr, &setting.request, memory, size, &setting.result),
              TONEARM_NULL_ARGUMENT);
    EXPECT_EQ(tonearm_profile(&setting.model, nullptr, memory, size, &setting.result), TONEARM_NULL_ARGUMENT);
    EXPECT_EQ(tonearm_profile(&setting.model, &setting.request, nullptr, size, &setting.result),
              TONEARM_NULL_ARGUMENT);
    EXPECT_EQ(tonearm_profile(&setting.model, &setting.request, memory, size, nullptr),
              TONEARM_NULL_ARGUMENT);
    EXPECT_EQ(tonearm_profile(&setting.model, &setting.request, static_cast<char*>(memory) + 1, size,
                              &setting.result),
              TONEARM_MISALIGNED);
    --setting.result.part_count;
    EXPECT_EQ(tonearm_profile(&setting.model, &setting.request, memory, size, &setting.result),
              TONEARM_OUT_OF_RANGE);
  }

  const char* model = session.c_str();
  refused(
      model, [](Setting& s) { s.request.events = nullptr; }, TONEARM_NULL_ARGUMENT);
  refused(
      model, [](Setting& s) { s.request.event_count = 0; }, TONEARM_NOTHING_PLAYING);
  refused(
      model, [](Setting& s) { s.request.track_count = 4; }, TONEARM_OUT_OF_RANGE);
  std::vector<tonearm_event> events;
  const auto damaged = [&](auto&& damage, tonearm_status expected) {
    refused(
        model,
        [&](Setting& s) {
          events.assign(s.request.events, s.request.events + s.request.event_count);
          damage(events[6]);
          s.request.events = events.data();
        },
        expected);
  };
  damaged([](tonearm_event& event) { event.kind = 9; }, TONEARM_OUT_OF_RANGE);
  damaged([](tonearm_event& event) { event.struct_size += 8; }, TONEARM_BAD_STRUCT_SIZE);
  damaged([](tonearm_event& event) { event.track.struct_size = 0; }, TONEARM_BAD_STRUCT_SIZE);
  damaged([](tonearm_event& event) { event.start.struct_size = 4000; }, TONEARM_BAD_STRUCT_SIZE);
  damaged([](tonearm_event& event) { event.end.struct_size = 3; }, TONEARM_BAD_STRUCT_SIZE);
  damaged([](tonearm_event& event) { event.track.extra_count = 1; }, TONEARM_NULL_ARGUMENT);
  std::vector<tonearm_track> tracks;
  refused(
      model,
      [&](Setting& s) {
        tracks.assign(s.request.tracks, s.request.tracks + s.request.track_count);
        tracks[1].struct_size += 8;
        s.request.tracks = tracks.data();
      },
      TONEARM_BAD_STRUCT_SIZE);

  EXPECT_EQ(tonearm_profile_part_count(nullptr), 0u);
  EXPECT_EQ(tonearm_profile_size(nullptr, 1), 0u);
  const tonearm_model closed{};
  EXPECT_EQ(tonearm_profile_part_count(&closed), 0u);
  EXPECT_EQ(tonearm_profile_size(&closed, 1), 0u);
}

TEST(Profile, TheSizeOfMemoryIsTheConstant) {
  for (const SampleModel& sample : sample_models()) {
    Setting setting(sample, 1);
    tonearm_info info{};
    info.struct_size = sizeof info;
    tonearm_model_info(&setting.model, &info);
    EXPECT_EQ(tonearm_profile_size(&setting.model, 7),
              TONEARM_PROFILE_BYTES(info.session_bytes, info.scratch_bytes, info.outputs, 7u));
  }
}

}  // namespace
}  // namespace tonearm
