#include "features/replay.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

void require(tonearm_status status) {
  if (status != TONEARM_OK)
    throw Error(std::string("replaying a log: ") + tonearm_status_text(status));  // never, unless we err
}

}  // namespace

Replay::Replay(const Blob& blob, const std::vector<LogColumn>& columns, const Questions& questions)
    : blob_(blob), questions_(questions) {
  for (std::uint32_t i = 0; i < blob.columns(); ++i) {
    tonearm_column column{};
    column.struct_size = sizeof column;
    require(tonearm_model_column_at(&blob.model(), i, &column));
    if (column.extra == UINT32_MAX) continue;
    const auto source = static_cast<schema::Source>(column.source);
    std::uint32_t place = 0;
    bool found = false;
    for (const LogColumn& offered : columns) {
      if (offered.source != source || offered.field != schema::Field::Extra) continue;
      if ((found = offered.name == column.name)) break;
      ++place;
    }
    if (!found)
      throw Error(std::string("the model reads the column '") + column.name +
                  "', which these data do not have");
    extra_places_[column.source - 1].push_back(place);
  }
  session_memory_.resize((tonearm_session_size(&blob.model()) + 3) / 4);
  scratch_.resize(blob.scratch_elements());
}

void Replay::take(const Log& log) {
  plays_ = log.plays;
  std::size_t extras = 0;
  for (const auto& places : extra_places_) extras += places.size();
  extra_.assign(extras * plays_.size(), missing);
  float* next = extra_.data();
  const auto move = [&](auto& told, const std::vector<std::uint32_t>& places) {
    const float* given = told.extra;
    const std::uint32_t count = told.extra_count;
    told.extra = places.empty() ? nullptr : next;
    told.extra_count = static_cast<std::uint32_t>(places.size());
    for (const std::uint32_t place : places) *next++ = place < count ? given[place] : missing;
  };
  for (Play& play : plays_) {
    move(play.track, extra_places_[0]);
    move(play.now, extra_places_[1]);
    move(play.start, extra_places_[2]);
    move(play.end, extra_places_[3]);
  }
}

void Replay::outline(const Log& log, Replayed& result) {
  take(log);
  const tonearm_model& model = blob_.model();
  result.examples.clear();
  result.outputs.clear();
  result.skipped.clear();
  result.session.clear();
  tonearm_session* session = nullptr;
  require(tonearm_session_init(&model, session_memory_.data(), session_memory_.size() * 4, &session));
  tonearm_session_info info{};
  info.struct_size = sizeof info;
  std::uint32_t number = 0;
  for (const Play& play : plays_) {
    require(tonearm_track_start(&model, session, &play.track, &play.start, &play.now, scratch_.data(),
                                scratch_.size() * 4));
    require(tonearm_session_describe(&model, session, &info));
    if (info.ended == 0 && !result.session.empty()) ++number;
    result.session.push_back(number);
    require(tonearm_track_end(&model, session, &play.end, scratch_.data(), scratch_.size() * 4));
    require(tonearm_session_describe(&model, session, &info));
    result.skipped.push_back(info.skipped);
  }
}

/// Asks about the plays [first, last), of which `moment` is the one that starts next or has just started.
void Replay::ask(const Replayed& known, tonearm_request& request, std::size_t first, std::size_t last,
                 std::size_t moment, Replayed& into, bool challenge) {
  const std::size_t outputs = blob_.outputs();
  candidates_.clear();
  outcomes_.clear();
  for (std::size_t play = first; play < last; ++play) {
    candidates_.push_back(plays_[play].track);
    outcomes_.push_back(plays_[play].end);
  }
  request.candidates = candidates_.data();
  request.candidate_count = static_cast<std::uint32_t>(candidates_.size());
  request.outcomes = outcomes_.data();
  request.now = &plays_[moment].now;
  answers_.resize((last - first) * outputs);
  require(tonearm_predict(&blob_.model(), reinterpret_cast<const tonearm_session*>(session_memory_.data()),
                          &request, scratch_.data(), scratch_.size() * 4, answers_.data()));
  std::size_t began = moment;  // the first play of the session
  while (began > 0 && known.session[began - 1] == known.session[moment]) --began;
  for (std::size_t play = first; play < last; ++play) {
    const auto horizon = static_cast<std::uint16_t>(play - moment + 1);
    if (std::isnan(known.skipped[play]) || (questions_.thin && !challenge && (play - began) % horizon != 0))
      continue;
    Example example;
    example.play = static_cast<std::uint32_t>(play);
    example.session = known.session[play];
    example.position = static_cast<std::uint32_t>(play - began + 1);
    example.ended = static_cast<std::uint32_t>(moment - began);
    example.horizon = horizon;
    example.playing = request.kind == TONEARM_PLAYING;
    example.challenge = challenge;
    example.target = known.skipped[play];
    into.examples.push_back(example);
    const auto answer = answers_.begin() + static_cast<std::ptrdiff_t>((play - first) * outputs);
    into.outputs.insert(into.outputs.end(), answer, answer + static_cast<std::ptrdiff_t>(outputs));
  }
}

void Replay::run(const Log& log, Replayed& result) {
  outline(log, result);
  const tonearm_model& model = blob_.model();
  tonearm_session* session = nullptr;
  require(tonearm_session_init(&model, session_memory_.data(), session_memory_.size() * 4, &session));
  tonearm_request request;
  tonearm_request_init(&request, sizeof request);
  std::size_t began = 0, ends = 0;  // the plays of the session at hand
  for (std::size_t i = 0; i < plays_.size(); ++i) {
    const Play& play = plays_[i];
    if (i == ends) {
      began = i;
      while (ends < plays_.size() && result.session[ends] == result.session[i]) ++ends;
    }
    if (questions_.upcoming) {
      request.kind = TONEARM_QUEUE;
      ask(result, request, i, i + 1, i, result, false);
    }
    if (questions_.challenge && ends - began >= 10 && i == began + (ends - began) / 2) {
      request.kind = TONEARM_QUEUE;
      ask(result, request, i, ends, i, result, true);
    }
    require(tonearm_track_start(&model, session, &play.track, &play.start, &play.now, scratch_.data(),
                                scratch_.size() * 4));
    if (questions_.started) {
      request.kind = TONEARM_PLAYING;
      ask(result, request, i, i + 1, i, result, false);
    }
    const std::size_t last = std::min(ends, i + questions_.horizons);
    if (i + 1 < last) {
      request.kind = TONEARM_QUEUE;
      ask(result, request, i + 1, last, i, result, false);
    }
    require(tonearm_track_end(&model, session, &play.end, scratch_.data(), scratch_.size() * 4));
  }
}

void Replay::steps(const Log& log, Replayed& result) {
  take(log);
  const tonearm_model& model = blob_.model();
  const std::size_t outputs = blob_.outputs();
  tonearm_session* session = nullptr;
  require(tonearm_session_init(&model, session_memory_.data(), session_memory_.size() * 4, &session));
  tonearm_request request;
  tonearm_request_init(&request, sizeof request);
  tonearm_track unknown;
  tonearm_track_init(&unknown, sizeof unknown);
  request.kind = TONEARM_QUEUE;
  request.candidates = &unknown;
  request.candidate_count = 1;
  result.steps.resize(plays_.size() * outputs);
  for (std::size_t i = 0; i < plays_.size(); ++i) {
    const Play& play = plays_[i];
    require(tonearm_track_start(&model, session, &play.track, &play.start, &play.now, scratch_.data(),
                                scratch_.size() * 4));
    require(tonearm_track_end(&model, session, &play.end, scratch_.data(), scratch_.size() * 4));
    require(tonearm_predict(&model, session, &request, scratch_.data(), scratch_.size() * 4,
                            result.steps.data() + i * outputs));
  }
}

Log copy_of(const Log& log) {
  Log copy = log;
  const auto move = [&](auto& told) {
    if (told.extra != nullptr) told.extra = copy.extra.data() + (told.extra - log.extra.data());
  };
  for (Play& play : copy.plays) {
    move(play.track);
    move(play.now);
    move(play.start);
    move(play.end);
  }
  return copy;
}

void for_each_batch(const LogSource& source, const std::string& label,
                    const std::function<void(const std::vector<Log>& logs)>& batch) {
  constexpr std::size_t batch_plays = 1 << 14, batches_ahead = 2;
  struct Batch {
    std::vector<Log> logs;
    std::size_t shard;
  };
  struct Stop {};
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Batch> ready;
  std::exception_ptr failure;
  bool ended = false, stopped = false;

  std::thread reader([&] {
    try {
      Batch filling;
      std::size_t plays = 0;
      const auto hand_over = [&](std::size_t shard) {
        filling.shard = shard;
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stopped || ready.size() < batches_ahead; });
        if (stopped) throw Stop();
        ready.push_back(std::move(filling));
        changed.notify_all();
        filling = {};
        plays = 0;
      };
      for (std::size_t shard = 0; shard < source.shards(); ++shard)
        source.read(shard, [&](const Log& log) {
          filling.logs.push_back(copy_of(log));
          plays += log.plays.size();
          if (plays >= batch_plays) hand_over(shard);
        });
      if (!filling.logs.empty()) hand_over(source.shards());
    } catch (const Stop&) {
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    ended = true;
    changed.notify_all();
  });
  // Whatever happens below, the reader is told to stop and waited for.
  struct Join {
    std::thread& thread;
    std::mutex& mutex;
    std::condition_variable& changed;
    bool& stopped;
    ~Join() {
      {
        const std::lock_guard lock(mutex);
        stopped = true;
        changed.notify_all();
      }
      thread.join();
    }
  } join{reader, mutex, changed, stopped};

  Progress progress(label, source.shards());
  while (true) {
    Batch next;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return ended || !ready.empty(); });
      if (ready.empty()) {
        if (failure) std::rethrow_exception(failure);
        return;
      }
      next = std::move(ready.front());
      ready.pop_front();
      changed.notify_all();
    }
    if (interrupted()) throw Interrupted();
    batch(next.logs);
    progress.update(next.shard);
  }
}

}  // namespace tonearm
