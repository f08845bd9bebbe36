#include <chrono>
#include <memory>

#include "commands/commands.h"
#include "commands/report.h"
#include "data/synth_hits.h"
#include "data/synth_sessions.h"

namespace tonearm {

void add_synth(CLI::App& app) {
  struct Options {
    std::size_t count = 20000;
    std::uint64_t seed = 1;
    std::string out;
  };
  auto options = std::make_shared<Options>();
  CLI::App* synth = app.add_subcommand(
      "synth", "Write made-up data, clearly called so, to try everything without real data");
  synth->require_subcommand(1);
  CLI::App* hits =
      synth->add_subcommand("hits", "Tracks with audio features, half of them hits, a CSV per decade");
  hits->add_option("--count", options->count, "Rows in all")->capture_default_str();
  hits->add_option("--seed", options->seed, "Same seed, same bytes")->capture_default_str();
  hits->add_option("--out", options->out, "Folder to write to")->required();
  hits->callback([options] {
    synth_hits(options->count, options->seed, options->out);
    print_report(format("  %zu synthetic tracks in %s\n", options->count, options->out.c_str()), {}, "");
  });

  struct SessionOptions {
    SynthSessions wanted;
    std::string out;
    unsigned threads = 0;
  };
  auto session_options = std::make_shared<SessionOptions>();
  SynthSessions& wanted = session_options->wanted;
  CLI::App* sessions = synth->add_subcommand(
      "sessions",
      "Listening sessions and their tracks, in the schema of the Music Streaming Sessions Dataset");
  sessions->add_option("--count", wanted.count, "Sessions")->capture_default_str();
  sessions->add_option("--seed", wanted.seed, "Same seed, same bytes")->capture_default_str();
  sessions->add_option("--out", session_options->out, "Folder to write to; what is complete there is kept")
      ->required();
  sessions->add_option("--shard", wanted.shard, "Sessions per file")->capture_default_str();
  sessions->add_flag("--gzip", wanted.gzip, "Compress the files");
  sessions->add_option("--threads", session_options->threads, "0: one per core")->capture_default_str();
  sessions->callback([session_options] {
    SynthSessions& asked = session_options->wanted;
    asked.folder = session_options->out;
    Threads threads(session_options->threads);
    const auto start = std::chrono::steady_clock::now();
    const SynthSessionsResult result = synth_sessions(asked, threads);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    print_report(
        format("  %zu synthetic sessions of %zu synthetic tracks in %s: %zu files, %zu of them kept; "
               "%s written in %.1f s by %u threads\n",
               asked.count, result.tracks, session_options->out.c_str(), result.files, result.kept,
               bytes_text(static_cast<double>(result.bytes)).c_str(), seconds, threads.count()),
        {}, "");
  });
}

}  // namespace tonearm
