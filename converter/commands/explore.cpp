#include <memory>

#include "base/parallel.h"
#include "commands/commands.h"
#include "commands/report.h"
#include "data/facts.h"

namespace tonearm {
namespace {

/// Three decimals are more than the sampling error of these figures, except for rates below a hundredth.
std::string figure(double value) {
  return std::abs(value) >= 100  ? format("%.1f", value)
         : std::abs(value) >= 10 ? format("%.2f", value)
         : std::abs(value) < .01 ? format("%.4f", value)
                                 : format("%.3f", value);
}

void explore(const std::string& folder, unsigned thread_count, bool markdown, const std::string& json_path) {
  Threads threads(thread_count);
  const mssd::Measured measured = mssd::measure(folder, threads);
  const std::vector<mssd::Fact> list = mssd::facts(measured.sessions, measured.tracks);

  nlohmann::ordered_json json = {{"sessions", measured.sessions.sessions},
                                 {"rows", measured.sessions.rows},
                                 {"left_out", measured.left_out}};
  std::size_t held = 0;
  std::string text;
  std::vector<std::vector<std::string>> table;
  const auto flush = [&] {
    if (!table.empty()) text += table_text(table) + "\n";
    table.clear();
  };
  std::string group;
  for (const mssd::Fact& fact : list) {
    held += fact.holds();
    json["facts"].push_back({{"group", fact.group},
                             {"name", fact.name},
                             {"published", fact.published},
                             {"here", fact.here},
                             {"tolerance", fact.tolerance},
                             {"holds", fact.holds()},
                             {"source", fact.source}});
    if (fact.group != group) {
      flush();
      group = fact.group;
      if (markdown)
        text += (text.empty() ? "" : "\n") + format("**%s**\n\n", group.c_str()) +
                "| | published | here | tolerance | source |\n|---|--:|--:|--:|---|\n";
      else
        table = {{group, "published", "here", "difference", "tolerance", "", "source"}};
    }
    const std::string published = figure(fact.published), here = figure(fact.here),
                      tolerance = figure(fact.tolerance), source(fact.source);
    if (markdown)
      text += format("| %s | %s | %s | %s | %s |\n", fact.name.c_str(), published.c_str(), here.c_str(),
                     tolerance.c_str(), source.c_str());
    else
      table.push_back({fact.name, published, here, format("%+.4f", fact.here - fact.published), tolerance,
                       fact.holds() ? "" : "outside", source});
  }
  flush();
  json["held"] = held;
  text += format("%s%lld sessions, %lld rows in %zu files: %zu of %zu figures are within their tolerance\n",
                 markdown ? "\n" : "  ", static_cast<long long>(measured.sessions.sessions),
                 static_cast<long long>(measured.sessions.rows), measured.files, held, list.size());
  if (measured.left_out > 0)
    text += format(
        "  %zu sessions have an unknown category or more than %d rows and were left out; the first in %s\n",
        measured.left_out, mssd::longest_session, measured.left_out_example.c_str());
  print_report(text, json, json_path);
}

}  // namespace

void add_explore(CLI::App& app) {
  struct Options {
    std::string folder, json;
    unsigned threads = 0;
    bool markdown = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("explore", "Compare a folder of session logs with what is published about the MSSD");
  command->add_option("folder", options->folder, "Where log_*.csv and tf_*.csv are, .gz or not")->required();
  command->add_flag("--markdown", options->markdown, "Print the tables as markdown");
  command->add_option("--threads", options->threads, "0: one per core")->capture_default_str();
  command->add_option("--json", options->json, "Write it as JSON to a file, or - for stdout");
  command->callback(
      [options] { explore(options->folder, options->threads, options->markdown, options->json); });
}

}  // namespace tonearm
