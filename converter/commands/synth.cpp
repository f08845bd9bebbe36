#include <memory>

#include "commands/commands.h"
#include "commands/report.h"
#include "data/synth_hits.h"

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
}

}  // namespace tonearm
