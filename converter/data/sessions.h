#pragma once

#include <tonearm/tonearm.h>
#include <tonearm_schema/model_generated.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "data/recipe.h"

namespace tonearm {

/// One play of a track, in the words in which a player would have reported it.
struct Play {
  tonearm_track track;
  tonearm_now now;  // when it started
  tonearm_start start;
  tonearm_end end;
};

/// What one listener's player reported, in the order of the starts. In the MSSD that is one session, for
/// nothing says who listened; in a streaming history it is everything, and the session rule cuts it.
struct Log {
  std::uint64_t identity = 0;  // a hash of the session's or the listener's name
  std::vector<Play> plays;
  /// Where the `extra` pointers of the plays lead.
  std::vector<float> extra;
};

/// A column that a source of logs offers to recipes.
struct LogColumn {
  std::string name;
  schema::Source source;
  schema::Field field;  // Field::Extra: an extra column of its source
  /// Of a category: the C API's enumerators without UNKNOWN. Of a number: empty.
  std::vector<std::string> vocabulary = {};
  /// What no player ever knows while it listens: "session_length".
  bool never_known = false;
};

/// What was odd about the data and was put right, for reports: each with how often, and an example's file
/// and line.
struct LogRemark {
  std::string what;
  std::size_t count = 0;
  std::string example = {};
};

/// Logs of listening, read as a stream: memory does not grow with their number. The one way in which the
/// converter reads them.
class LogSource {
 public:
  virtual ~LogSource() = default;
  /// All columns on offer, in a fixed order; extra columns of one source in the order of their `extra`
  /// arrays.
  virtual const std::vector<LogColumn>& columns() const = 0;
  /// Files that can be read independently, in the order of their names.
  virtual std::size_t shards() const = 0;
  virtual std::string shard_name(std::size_t shard) const = 0;
  /// Calls `sink` for every log of the shard, in the order of the file; the log is the source's and valid
  /// during the call. Different shards may be read by different threads at once. Throws Error.
  virtual void read(std::size_t shard, const std::function<void(const Log&)>& sink) const = 0;
  /// After reading: the same for any number of threads.
  virtual std::vector<LogRemark> remarks() const = 0;
  /// The data were generated: some file's name has the word "synthetic" in it.
  virtual bool synthetic() const = 0;
};

/// Opens the logs that a recipe's [data] describes. `needed` names the columns that will be read: of the
/// track columns only these are kept in memory, and each must be in the data, unless they are not `required`:
/// then a remark says that they are unknown; other names are passed over.
/// Empty means all track columns that are there. Track tables are read at once, by all threads.
///
/// adapter = "mssd"     Music Streaming Sessions Dataset: log_*.csv and tf_*.csv (either may be
///                      gzip-compressed); every log file is a shard. The track table is read unless the logs
///                      have the needed track columns themselves; without either they are unknown. Nobody
///                      knows when a play started but for its date and hour, or how long it lasted.
///           "history"  a Spotify extended streaming history: Streaming_History_Audio_*.json, or CSV with
///                      the same columns and perhaps `user`. One shard, one log for each listener: each
///                      `user`, or each folder. Neither `skipped` nor pauses are read: the blob's label rule
///                      and its gaps say it better.
/// folder               a subfolder to start from, if it is there
/// logs, tracks         within it: the folder of the logs, the folder or file of the track table; the mssd
/// looks
///                      for tf_*.csv beside the logs, a history is joined with tracks (by URI) only where
///                      named
/// files                which log files, by their names; "log_*.csv" and so on by default
/// utc_offset           history: hours to add for the listener's local time; 0 if not given, for an hour of
/// day
///                      somewhat off is worth more than none
/// description          not read here
std::unique_ptr<LogSource> open_logs(const Recipe::Section& data, const std::filesystem::path& folder,
                                     const std::vector<std::string>& needed, Threads& threads,
                                     bool required = true);

}  // namespace tonearm
