#pragma once

#include <tonearm/tonearm.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/parallel.h"
#include "data/sessions.h"
#include "evaluate/blob.h"

namespace tonearm {

/// Which questions a replay asks.
struct Questions {
  bool upcoming = true;  // of the next track, between tracks
  bool started = true;   // of the playing track
  /// While a track plays, of those behind it, up to this horizon. 1 asks of none.
  unsigned horizons = 5;
  /// Asks at horizon h only of every h-th track, so that each horizon weighs as its tracks will be asked
  /// about.
  bool thin = false;
  /// Between tracks in the middle of a session of at least ten, of all of its second half: the task of the
  /// Spotify Sequential Skip Prediction Challenge (WSDM Cup 2019).
  bool challenge = false;
};

/// A question and, known afterwards, its answer.
struct Example {
  std::uint32_t play = 0;      // in the log
  std::uint32_t session = 0;   // of the log, from 0
  std::uint32_t position = 0;  // in the session, from 1
  std::uint32_t ended = 0;     // tracks of the session that had ended when the question was asked
  std::uint16_t horizon = 0;
  bool playing = false;    // asked about the playing track
  bool challenge = false;  // asked in the middle of a session
  float target = 0;        // 1: skipped, by the model's label rule
};

/// What the runtime made of a log.
struct Replayed {
  std::vector<Example> examples;
  std::vector<float> outputs;          // of the blob, a row per example
  std::vector<float> skipped;          // of each play: 1, 0, NaN
  std::vector<std::uint32_t> session;  // of each play
  std::vector<float> steps = {};       // of each play, a row: see Replay::steps
};

/// Replays logs through the C API, as a player would have called it. Tracks whose outcome the label rule
/// leaves open are not asked about. Not thread-safe; use one per thread.
class Replay {
 public:
  /// `columns` are those of the source of the logs. The blob must outlive the replay.
  Replay(const Blob& blob, const std::vector<LogColumn>& columns, const Questions& questions);

  void run(const Log& log, Replayed& result);
  /// Only finds sessions and outcomes: no questions.
  void outline(const Log& log, Replayed& result);
  /// For networks over sessions: what the blob knows when each play has ended, whoever comes next. Fills
  /// result.steps alone.
  void steps(const Log& log, Replayed& result);

  /// The plays as the model's structs: with its own extra columns in its own order.
  const std::vector<Play>& plays() const { return plays_; }

 private:
  void take(const Log& log);
  void ask(const Replayed& result, tonearm_request& request, std::size_t first, std::size_t last,
           std::size_t moment, Replayed& into, bool challenge);

  const Blob& blob_;
  Questions questions_;
  std::vector<std::uint32_t> extra_places_[4];  // of each source: the places in a log's arrays
  std::vector<Play> plays_;
  std::vector<float> extra_;
  std::vector<tonearm_track> candidates_;
  std::vector<tonearm_end> outcomes_;
  std::vector<std::uint32_t> session_memory_, scratch_;
  std::vector<float> answers_;
};

/// Calls `batch` with the logs of all shards, some at a time and in order, while a thread of its own reads
/// ahead. Polls interrupted() between batches.
void for_each_batch(const LogSource& source, const std::string& label,
                    const std::function<void(const std::vector<Log>& logs)>& batch);

/// A copy of a log whose plays point into its own arrays.
Log copy_of(const Log& log);

}  // namespace tonearm
