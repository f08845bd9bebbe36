// The model is replaced while it is used: many sessions and threads share one model; and the example's player
// goes on with another model while it plays, without losing an answer. To be run under the thread sanitizer,
// too.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

extern "C" {
#include "player.h"
}

namespace {

const std::string golden = TONEARM_SOURCE_DIR "/tests/conformance/";
const std::string trees = golden + "format-1.1/session-branching.tarm",
                  symmetric = golden + "format-1.1/session-symmetric.tarm";

/// An open model, and as much scratch as it takes.
struct Model {
  std::vector<std::uint32_t> blob;
  tonearm_model model = {};
  tonearm_info info = {};

  explicit Model(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    blob.resize((bytes.size() + 3) / 4);
    std::memcpy(blob.data(), bytes.data(), bytes.size());
    EXPECT_EQ(tonearm_model_open(&model, blob.data(), bytes.size(), nullptr, nullptr), TONEARM_OK) << path;
    info.struct_size = sizeof info;
    EXPECT_EQ(tonearm_model_info(&model, &info), TONEARM_OK);
  }
};

/// A session, and one thread's calls of it.
class Session {
 public:
  explicit Session(const Model& model)
      : model_(model), memory_(model.info.session_bytes / 4), scratch_(model.info.scratch_bytes / 4) {
    EXPECT_EQ(tonearm_session_init(&model.model, memory_.data(), memory_.size() * 4, &session_), TONEARM_OK);
  }

  void replay(const std::vector<tonearm_event>& events) {
    EXPECT_EQ(tonearm_session_replay(&model_.model, session_, events.data(), events.size(), scratch_.data(),
                                     scratch_.size() * 4),
              TONEARM_OK);
  }

  /// The playing track's, if one plays, and those of the queue.
  std::vector<float> ask(const std::vector<tonearm_track>& queue, const tonearm_now& now,
                         std::vector<std::uint32_t>& scratch) const {
    tonearm_session_info about = {};
    about.struct_size = sizeof about;
    EXPECT_EQ(tonearm_session_describe(&model_.model, session_, &about), TONEARM_OK);
    const std::size_t outputs = model_.info.outputs;
    std::vector<float> out((about.playing + queue.size()) * outputs);
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.now = &now;
    request.kind = TONEARM_PLAYING;
    if (about.playing != 0) {
      EXPECT_EQ(
          tonearm_predict(&model_.model, session_, &request, scratch.data(), scratch.size() * 4, out.data()),
          TONEARM_OK);
    }
    request.kind = TONEARM_QUEUE;
    request.candidates = queue.data();
    request.candidate_count = static_cast<std::uint32_t>(queue.size());
    EXPECT_EQ(tonearm_predict(&model_.model, session_, &request, scratch.data(), scratch.size() * 4,
                              out.data() + about.playing * outputs),
              TONEARM_OK);
    return out;
  }
  std::vector<float> ask(const std::vector<tonearm_track>& queue, const tonearm_now& now) {
    return ask(queue, now, scratch_);
  }

  std::vector<std::uint32_t> scratch() const { return std::vector<std::uint32_t>(scratch_.size()); }

 private:
  const Model& model_;
  std::vector<std::uint32_t> memory_, scratch_;
  tonearm_session* session_ = nullptr;
};

tonearm_event made_event(tonearm_event_kind kind, unsigned number) {
  tonearm_event event = {};
  event.struct_size = sizeof event;
  event.kind = kind;
  tonearm_track_init(&event.track, sizeof event.track);
  tonearm_start_init(&event.start, sizeof event.start);
  tonearm_now_init(&event.now, sizeof event.now);
  tonearm_end_init(&event.end, sizeof event.end);
  event.track.track_id = 1 + number * 7 % 11;
  event.track.duration = static_cast<float>(150 + number * 37 % 100);
  event.track.energy = static_cast<float>(number * 13 % 17) / 17;
  event.track.tempo = static_cast<float>(80 + number * 29 % 90);
  event.start.reason = 1 + number % 4;
  event.now.time = 1530000000 + 200 * std::int64_t{number};
  event.now.is_shuffle = static_cast<float>(number % 2);
  event.end.reason = 1 + number % 3;
  event.end.ms_played = static_cast<float>(number * 7919 % 200000);
  return event;
}

std::vector<tonearm_event> made_events(unsigned tracks) {
  std::vector<tonearm_event> events;
  for (unsigned n = 0; n < tracks; ++n)
    for (const tonearm_event_kind kind : {TONEARM_EVENT_START, TONEARM_EVENT_END})
      events.push_back(made_event(kind, n));
  return events;
}

std::vector<tonearm_track> queue_after(unsigned number) {
  std::vector<tonearm_track> queue;
  for (unsigned n = 1; n <= 3; ++n) queue.push_back(made_event(TONEARM_EVENT_START, number + n).track);
  return queue;
}

constexpr unsigned tracks = 30;  // the player keeps the events of 32

TEST(Threads, ManySessionsOfOneModelAndManyQuestionsOfOneSession) {
  for (const std::string& path : {trees, symmetric, golden + "format-1.3/session-recurrent-int8.tarm"}) {
    const Model model(path);
    Session shared(model);
    shared.replay(made_events(tracks));
    const tonearm_now now = made_event(TONEARM_EVENT_START, tracks).now;
    const std::vector<float> expected = shared.ask(queue_after(tracks), now);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 6; ++t)
      threads.emplace_back([&, t] {
        std::vector<std::uint32_t> scratch = shared.scratch();
        for (int n = 0; n < 60; ++n) {
          if (shared.ask(queue_after(tracks), now, scratch) != expected) ++wrong;
          if (n % 10 != t) continue;
          Session own(model);
          own.replay(made_events(tracks));
          if (own.ask(queue_after(tracks), now) != expected) ++wrong;
        }
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
  }
}

// One thread plays and asks; another offers two models in turn. Whichever answers, it does so as if it had
// been there from the start.
TEST(HotSwap, EveryAnswerIsThatOfASessionOfTheModelRebuiltFromScratch) {
  std::map<std::uint32_t, const Model*> by_id;
  const Model models[] = {Model(trees), Model(symmetric)};
  for (const Model& model : models) by_id[model.info.model_id] = &model;
  ASSERT_EQ(by_id.size(), 2u);
  unsigned swaps = 0, answers = 0;
  for (int life = 0; life < 20; ++life) {
    static player player;
    player = {};
    player_open(&player, trees.c_str());
    std::atomic<bool> over{false};
    std::atomic<unsigned> offered{0};
    std::thread other([&] {
      char text[256];
      for (unsigned n = 0; !over; ++n) {
        EXPECT_EQ(player_offer(&player, (n % 2 == 0 ? symmetric : trees).c_str(), text, sizeof text), 1)
            << text;
        ++offered;
        std::this_thread::yield();
      }
    });
    std::vector<tonearm_event> events;
    std::uint32_t last = player_model_info(&player).model_id;
    const auto ask = [&](unsigned track) {
      const std::vector<tonearm_track> queue = queue_after(track);
      const tonearm_now now = made_event(TONEARM_EVENT_START, track).now;
      float found[4] = {NAN, NAN, NAN, NAN};
      player_ask(&player, queue.data(), queue.size(), &now, found);
      const std::uint32_t id = player_model_info(&player).model_id;
      swaps += id != last;
      last = id;
      Session rebuilt(*by_id.at(id));
      rebuilt.replay(events);
      const std::vector<float> expected = rebuilt.ask(queue, now);
      for (std::size_t i = 0; i < expected.size(); ++i)
        ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]), std::bit_cast<std::uint32_t>(expected[i]));
      ++answers;
    };
    for (unsigned track = 0; track < tracks && !HasFatalFailure(); ++track) {
      // A new offer, so that there are many swaps however the threads are scheduled.
      for (const unsigned before = offered; offered == before;) std::this_thread::yield();
      play play = {};
      const tonearm_event started = made_event(TONEARM_EVENT_START, track);
      play.track = started.track, play.start = started.start, play.now = started.now;
      player_start(&player, &play);
      events.push_back(started);
      ask(track);
      for (const unsigned before = offered; offered == before;) std::this_thread::yield();
      ask(track);
      const tonearm_event ended = made_event(TONEARM_EVENT_END, track);
      player_end(&player, &ended.end);
      events.push_back(ended);
      ask(track);
    }
    over = true;
    other.join();
    player_close(&player);
  }
  EXPECT_EQ(answers, 20 * tracks * 3);
  EXPECT_GE(swaps, 200u);
}

TEST(HotSwap, AModelThatCannotBeUsedChangesNothing) {
  player player = {};
  player_open(&player, trees.c_str());
  const std::uint32_t id = player_model_info(&player).model_id;
  for (const std::string& path :
       {golden + "absent.tarm", golden + "README.md", golden + "format-1.0/network.tarm",
        golden + "format-1.1/session-encoders.tarm"}) {
    char text[512] = "";
    EXPECT_EQ(player_offer(&player, path.c_str(), text, sizeof text), 0) << path;
    EXPECT_EQ(std::string(text).find(path + (path.ends_with("README.md") ? ": " : " ")), 0u) << text;
    const tonearm_now now = made_event(TONEARM_EVENT_START, 0).now;
    float answer[3];
    player_ask(&player, queue_after(0).data(), 3, &now, answer);
    EXPECT_EQ(player_model_info(&player).model_id, id);
  }
  player_close(&player);
}

}  // namespace
