// Times a session model through the public C API: replaying events, asking about the playing track, and about
// a queue of 50; and the same for a model half of whose questions are about the candidate.
//
// Warm: median over rounds of the mean call of a round, each call on another state of a session. Cold: 96 MB
// are written before every call, as in a player that predicts once per track; median call.

#include "data/sessions.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data/recipe.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "features/replay.h"

namespace tonearm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char usage[] =
    "usage: sessions MODEL.tarm LOGS [--quick]\n"
    "\n"
    "  LOGS      logs that the recipe in the blob's card can read\n"
    "  --quick   few repetitions: shows that it runs, measures nothing\n";

constexpr std::uint32_t queue_length = 50;

double nanoseconds(Clock::duration time) { return std::chrono::duration<double, std::nano>(time).count(); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void require(tonearm_status status) {
  if (status != TONEARM_OK) throw Error(tonearm_status_text(status));
}

/// Some sessions of the logs, as raw events.
struct Events {
  std::vector<std::vector<tonearm_event>> sessions;
  std::vector<tonearm_track> tracks;
  std::size_t count = 0;
};

Events load(const Blob& blob, const std::string& folder, std::size_t most_sessions) {
  schema::ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);
  const Recipe recipe = Recipe::from_text(model.card->recipe, "the recipe in the card");
  std::vector<std::string> needed;
  for (const auto& column : model.columns) needed.push_back(column->name);
  Threads threads(1);
  const auto logs = open_logs(recipe.root().section("data"), folder, needed, threads);
  Events events;
  logs->read(0, [&](const Log& log) {
    if (events.sessions.size() >= most_sessions) return;
    auto& session = events.sessions.emplace_back();
    for (const Play& play : log.plays) {
      tonearm_event event{};
      event.struct_size = sizeof event;
      event.kind = TONEARM_EVENT_START;
      event.track = play.track;
      event.start = play.start;
      event.now = play.now;
      event.end = play.end;
      // The extra columns of the data are not this model's.
      event.track.extra_count = event.start.extra_count = event.now.extra_count = event.end.extra_count = 0;
      events.tracks.push_back(event.track);
      session.push_back(event);
      event.kind = TONEARM_EVENT_END;
      session.push_back(event);
    }
    events.count += session.size();
  });
  return events;
}

struct Times {
  double warm = 0, cold = 0;
};

/// A session in the middle of every log, for predictions to be made in.
class Player {
 public:
  Player(const Blob& blob, const Events& events)
      : blob_(blob), events_(events), scratch_(blob.scratch_elements()) {
    const std::size_t size = (tonearm_session_size(&blob.model()) + 3) / 4;
    for (const auto& session : events.sessions) {
      memory_.emplace_back(size);
      tonearm_session* made = nullptr;
      require(tonearm_session_init(&blob.model(), memory_.back().data(), size * 4, &made));
      // An odd number of events leaves a track playing.
      const std::size_t count = session.size() / 4 * 2 + 1;
      require(tonearm_session_replay(&blob.model(), made, session.data(), count, scratch_.data(),
                                     scratch_.size() * 4));
    }
  }

  void ask(std::size_t i, tonearm_request_kind kind, std::uint32_t candidates) {
    const auto* session = reinterpret_cast<const tonearm_session*>(memory_[i % memory_.size()].data());
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.kind = kind;
    request.candidate_count = candidates;
    request.candidates = events_.tracks.data() + i * 7 % (events_.tracks.size() - queue_length);
    float out[queue_length];
    require(tonearm_predict(&blob_.model(), session, &request, scratch_.data(), scratch_.size() * 4, out));
    sink_ = sink_ + out[0];
  }

  Times time(tonearm_request_kind kind, std::uint32_t candidates, bool quick) {
    const int rounds = quick ? 1 : 31, calls = quick ? 10 : 2000, colds = quick ? 3 : 101;
    std::vector<double> warm, cold;
    for (int round = -1; round < rounds; ++round) {
      const auto start = Clock::now();
      for (int i = 0; i < calls; ++i) ask(static_cast<std::size_t>(i), kind, candidates);
      if (round >= 0) warm.push_back(nanoseconds(Clock::now() - start) / calls);
    }
    std::vector<unsigned char> everything(96 << 20);
    for (int i = 0; i < colds; ++i) {
      std::memset(everything.data(), i, everything.size());
      const auto start = Clock::now();
      ask(static_cast<std::size_t>(i), kind, candidates);
      cold.push_back(nanoseconds(Clock::now() - start));
    }
    return {median(warm), median(cold)};
  }

 private:
  const Blob& blob_;
  const Events& events_;
  std::vector<std::uint32_t> scratch_;
  std::vector<std::vector<std::uint32_t>> memory_;
  volatile float sink_ = 0;
};

/// The model with other trees: 100 of depth 5, every second level of which asks about the candidate.
std::vector<unsigned char> half_of_candidate(const Blob& blob) {
  schema::ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);
  model.operators.clear();
  model.golden = nullptr;
  std::uint16_t first = static_cast<std::uint16_t>(model.columns.size());
  std::vector<std::int32_t> context, candidate;
  for (const auto& feature : model.features) {
    if (feature->phase == schema::Phase::History)
      first = static_cast<std::uint16_t>(feature->output_offset + feature->output_length);
    for (std::uint16_t i = 0; i < feature->output_length; ++i) {
      if (feature->phase == schema::Phase::Context) context.push_back(feature->output_offset + i - first);
      if (feature->phase == schema::Phase::Candidate) candidate.push_back(feature->output_offset + i - first);
    }
  }
  if (context.empty() || candidate.empty())
    throw Error("the model has no features of the context, or none of candidates");
  Random random(1);
  TreeEnsemble ensemble;
  ensemble.symmetric_depth = 5;
  for (int t = 0; t < 100; ++t) {
    Tree& tree = ensemble.trees.emplace_back();
    for (std::size_t level = 0; level < 6; ++level) {
      TreeNode question;
      if (level < 5) {
        const auto& from = (level + static_cast<std::size_t>(t)) % 2 == 0 ? context : candidate;
        question.feature = from[random.below(static_cast<std::uint32_t>(from.size()))];
        question.threshold = static_cast<float>(random.uniform() * 4);
      }
      for (std::size_t n = 0; n < std::size_t{1} << level; ++n) {
        TreeNode node = question;
        const auto at = static_cast<std::int32_t>(tree.nodes.size());
        if (level < 5)
          node.left = 2 * at + 1, node.right = 2 * at + 2;
        else
          node.value = random.normal();
        tree.nodes.push_back(node);
      }
    }
  }
  const auto end = static_cast<std::size_t>(next_slot(model) - first);
  append_predictor(model, {ensemble, {Calibration::Method::sigmoid, 1, 0, {}, {}}}, first, end,
                   LeafStorage::int16, context.size());
  return pack(model);
}

void print(const char* name, const Blob& blob, const Events& events, bool quick) {
  Player player(blob, events);
  const Times single = player.time(TONEARM_PLAYING, 1, quick);
  const Times one = player.time(TONEARM_QUEUE, 1, quick);
  const Times queue = player.time(TONEARM_QUEUE, queue_length, quick);
  std::printf("  %-34s %7.0f / %6.0f %7.0f / %6.0f %9.0f / %6.0f %8.1f x\n", name, single.warm, single.cold,
              one.warm, one.cold, queue.warm, queue.cold, queue.warm / single.warm);
}

int run(const std::string& model, const std::string& folder, bool quick) {
  const Blob blob(read_file(model), model);
  if (blob.info().session_bytes == 0) throw Error(model + ": this is no session model");
  const Events events = load(blob, folder, 2000);
  if (events.tracks.size() <= 2 * queue_length) throw Error(folder + ": too few tracks to time anything");

  std::vector<std::uint32_t> scratch(blob.scratch_elements()), memory((blob.info().session_bytes + 3) / 4);
  tonearm_session* session = nullptr;
  require(tonearm_session_init(&blob.model(), memory.data(), memory.size() * 4, &session));
  std::vector<double> seconds;
  for (int round = -1; round < (quick ? 1 : 15); ++round) {
    const auto start = Clock::now();
    for (const auto& one : events.sessions)
      require(tonearm_session_replay(&blob.model(), session, one.data(), one.size(), scratch.data(),
                                     scratch.size() * 4));
    if (round >= 0) seconds.push_back(nanoseconds(Clock::now() - start) / 1e9);
  }
  std::printf("%s: %u bytes, session %u bytes, scratch %u bytes\n", model.c_str(), blob.info().blob_bytes,
              blob.info().session_bytes, blob.info().scratch_bytes);
  std::printf("  replay: %.2f M events per second on one core (%zu events of %zu sessions)\n\n",
              static_cast<double>(events.count) / median(seconds) / 1e6, events.count,
              events.sessions.size());
  std::printf("  %-34s %16s %16s %18s %10s\n", "ns, warm / cold", "playing", "queue of 1", "queue of 50",
              "50 : 1");
  print("the model", blob, events, quick);
  const Blob half(half_of_candidate(blob), "the model with other trees");
  print("half of the levels ask candidates", half, events, quick);
  return 0;
}

}  // namespace
}  // namespace tonearm

int main(int argc, char** argv) {
  const bool quick = argc == 4 && std::string(argv[3]) == "--quick";
  if (argc != 3 && !quick) {
    std::fputs(tonearm::usage, stderr);
    return 2;
  }
  try {
    return tonearm::run(argv[1], argv[2], quick);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sessions: %s\n", error.what());
    return 1;
  }
}
