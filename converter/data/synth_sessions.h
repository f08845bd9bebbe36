#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "base/parallel.h"

namespace tonearm {

struct SynthSessions {
  std::size_t count = 10000;  // sessions
  std::uint64_t seed = 1;
  std::filesystem::path folder;
  std::size_t shard = 20000;  // sessions in a file
  bool gzip = false;
};

struct SynthSessionsResult {
  std::size_t tracks = 0, files = 0;
  std::size_t kept = 0;     // of the files: were there already
  std::uint64_t bytes = 0;  // written now, before compression
};

/// Writes made-up listening sessions to a folder, which is created if needed, in the schema of the Music
/// Streaming Sessions Dataset: log_synthetic_00000.csv, ... and tf_synthetic_00000.csv, ... (.gz with gzip).
/// No row is real; the ids of sessions and tracks say so. The rows reproduce what data/facts.h lists as
/// published.
///
/// The same count, seed and shard give the same bytes for any number of threads. Memory does not grow with
/// `count`. Files appear under their names only when complete. An interrupted call (it throws Interrupted)
/// keeps them, and the same call continues: synthetic.json in the folder holds the parameters. A folder that
/// holds other logs or those of other parameters is refused.
///
/// Throws Error for a count or shard of 0 and for an unwritable folder.
SynthSessionsResult synth_sessions(const SynthSessions& wanted, Threads& threads);

}  // namespace tonearm
