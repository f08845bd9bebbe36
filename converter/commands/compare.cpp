#include <algorithm>
#include <array>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"

namespace tonearm {
namespace {

struct Options {
  std::vector<std::string> recipes, overrides;
  std::string data, beside, json;
  std::vector<std::string> splits = {"random", "artist", "decade"};
  std::vector<unsigned> seeds = {1, 2, 3};
  unsigned threads = 0;
  bool paired = false;
};

/// A recipe or one of its variants, trained with every seed on one kind of split.
struct System {
  std::string split, recipe, variant, title;
  double published = 0;
  std::vector<Outcome> outcomes;
};

std::string four(double value) { return format("%.4f", value).substr(value >= 0 && value < 1 ? 1 : 0); }

std::string mean_text(const System& system, double (*figure)(const Outcome&), bool with_spread) {
  std::vector<double> values;
  for (const Outcome& outcome : system.outcomes) values.push_back(figure(outcome));
  const Spread s = spread(values);
  return four(s.mean) + (with_spread ? " +- " + four(s.deviation) : "");
}

Recipe recipe_of(const std::string& file, const std::string& variant, const std::string& split,
                 const Options& options) {
  Recipe::Choice choice{variant, options.overrides};
  choice.overrides.push_back("split=\"" + split + "\"");
  return {file, choice};
}

System run(const std::string& recipe_file, const std::string& variant, const std::string& split,
           const Options& options, Threads& threads) {
  System system{split, {}, variant, {}, 0, {}};
  const Recipe recipe = recipe_of(recipe_file, variant, split, options);
  system.recipe = recipe.root().text("name");
  system.title = recipe.root().text("title", system.recipe + (variant.empty() ? "" : ", " + variant));
  // What others published was measured on random splits.
  if (split == "random") system.published = recipe.root().section("published").number("accuracy", 0.0, 0, 1);
  for (const unsigned seed : options.seeds) {
    const Experiment experiment = load_experiment(recipe.root(), options.data, seed);
    system.outcomes.push_back(run_experiment(recipe, experiment, seed, threads, {}));
    system.outcomes.back().model = {};  // only the figures are needed
  }
  return system;
}

std::string text_of(const std::vector<System>& systems, const std::string& split, const Options& options) {
  std::vector<std::vector<std::string>> rows = {{"system", "published", "accuracy of the blob", "as trained",
                                                 "AUC", "log loss", "calibration error", "largest change",
                                                 "blob", "training"}};
  for (const System& system : systems) {
    if (system.split != split) continue;
    double bytes = 0, seconds = 0, change = 0;
    for (const Outcome& outcome : system.outcomes) {
      bytes += static_cast<double>(outcome.blob.size()) / static_cast<double>(system.outcomes.size());
      seconds += outcome.train_seconds / static_cast<double>(system.outcomes.size());
      change = std::max(change, outcome.largest_change);
    }
    rows.push_back({system.title, system.published > 0 ? four(system.published) : "",
                    mean_text(
                        system, [](const Outcome& o) { return o.shipped.accuracy; }, true),
                    mean_text(
                        system, [](const Outcome& o) { return o.trained.accuracy; }, false),
                    mean_text(
                        system, [](const Outcome& o) { return o.shipped.auc; }, false),
                    mean_text(
                        system, [](const Outcome& o) { return o.shipped.log_loss; }, false),
                    mean_text(
                        system, [](const Outcome& o) { return o.shipped.calibration_error; }, false),
                    format("%.1e", change), bytes_text(bytes), format("%.2f s", seconds)});
  }
  std::string seeds;
  for (const unsigned seed : options.seeds) seeds += (seeds.empty() ? "" : ", ") + std::to_string(seed);
  return "Split: " + split + "; mean" + (options.seeds.size() > 1 ? " +- deviation" : "") + " over seeds " +
         seeds + "\n\n" + table_text(rows) + "\n";
}

std::string figures_of(const std::vector<Metrics>& metrics, double Metrics::*figure) {
  std::vector<double> values;
  for (const Metrics& one : metrics) values.push_back(one.*figure);
  const Spread s = spread(values);
  return four(s.mean) + (values.size() > 1 ? " +- " + four(s.deviation) : "");
}

/// A session model on the same sessions as the first one: by question, the mean over all seeds of its
/// difference, and the interval of that mean as the sessions are drawn anew.
class PairedDifferences {
 public:
  void add(std::size_t system, const std::string& title, const std::string& data,
           std::vector<SessionReport::Measured> of_seed) {
    if (systems_.size() <= system) systems_.resize(system + 1);
    systems_[system].title = title;
    systems_[system].data = data;
    systems_[system].seeds.push_back(std::move(of_seed));
  }

  std::string text(nlohmann::ordered_json& json) const {
    std::vector<std::vector<std::string>> rows = {
        {"less the first system", "data", "question", "tracks", "log loss", "AUC", "accuracy"}};
    for (std::size_t i = 1; i < systems_.size(); ++i)
      for (std::size_t q = 0; q < systems_[0].seeds[0].size(); ++q) add_question(systems_[i], q, rows, json);
    return rows.size() == 1
               ? ""
               : "Differences on the same sessions, paired bootstrap over sessions\n\n" + table_text(rows);
  }

 private:
  struct Of {
    std::string title, data;
    std::vector<std::vector<SessionReport::Measured>> seeds;
  };

  void add_question(const Of& system, std::size_t q, std::vector<std::vector<std::string>>& rows,
                    nlohmann::ordered_json& json) const {
    const SessionReport::Measured& question = systems_[0].seeds[0][q];
    std::size_t tracks = 0;
    std::array<double, 3> mean{};
    std::array<std::vector<double>, 3> replicates;
    for (std::size_t s = 0; s < system.seeds.size(); ++s) {
      const auto find_in = [&](const std::vector<SessionReport::Measured>& all) {
        return std::find_if(all.begin(), all.end(), [&](const auto& other) {
          return other.moment == question.moment && other.horizon == question.horizon;
        });
      };
      const auto found_first = find_in(systems_[0].seeds[s]), found = find_in(system.seeds[s]);
      // Of other questions, or another label, nothing can be subtracted.
      if (found_first == systems_[0].seeds[s].end() || found == system.seeds[s].end() ||
          found->metrics.rows != found_first->metrics.rows ||
          found->metrics.base_rate != found_first->metrics.base_rate)
        return;
      const SessionReport::Measured& first = *found_first;
      tracks += first.metrics.rows;
      const auto share = 1 / static_cast<double>(system.seeds.size());
      mean[0] += share * (found->metrics.accuracy - first.metrics.accuracy);
      mean[1] += share * (found->metrics.auc - first.metrics.auc);
      mean[2] += share * (found->metrics.log_loss - first.metrics.log_loss);
      for (std::size_t f = 0; f < 3; ++f) {
        replicates[f].resize(first.replicates[f].size());
        for (std::size_t r = 0; r < replicates[f].size(); ++r)
          replicates[f][r] += share * (found->replicates[f][r] - first.replicates[f][r]);
      }
    }
    std::vector<std::string> row = {system.title, system.data,
                                    format("%s, horizon %u", question.moment.c_str(), question.horizon),
                                    std::to_string(tracks)};
    nlohmann::ordered_json entry = {{"paired", system.title},
                                    {"first", systems_[0].title},
                                    {"moment", question.moment},
                                    {"horizon", question.horizon},
                                    {"tracks", tracks}};
    constexpr std::array<const char*, 3> names = {"accuracy", "auc", "log_loss"};
    for (const std::size_t f : {std::size_t{2}, std::size_t{1}, std::size_t{0}}) {
      const Interval interval = interval_of(replicates[f]);
      row.push_back(format("%+.4f [%+.4f, %+.4f]", mean[f], interval.low, interval.high));
      entry[names[f]] = {{"difference", mean[f]}, {"interval", {interval.low, interval.high}}};
    }
    rows.push_back(row);
    json.push_back(entry);
  }

  std::vector<Of> systems_;
};

/// Session models: every variant on every seed, a row for its held-out sessions and, with --beside, one for
/// the same blobs on other data.
void compare_sessions(const Options& options, const std::vector<std::pair<std::string, std::string>>& all,
                      Threads& threads) {
  std::vector<std::vector<std::string>> rows = {
      {"system", "label", "data", "base rate", "claimed", "accuracy", "AUC", "log loss", "blob"}};
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  PairedDifferences paired_here, paired_beside;
  for (std::size_t place = 0; place < all.size(); ++place) {
    const auto& [file, variant] = all[place];
    const Recipe recipe(file, {variant, options.overrides});
    const Recipe::Section root = recipe.root();
    const double published = root.section("published").number("accuracy", 0.0, 0, 1);
    std::vector<Metrics> here, beside;
    SessionOutcome outcome;
    bool beside_synthetic = false;
    for (const unsigned seed : options.seeds) {
      outcome = run_session_experiment(recipe, options.data, seed, threads, "", false);
      here.push_back(outcome.report->main().metrics());
      const std::string name = root.text("title", root.text("name"));
      if (options.paired)
        paired_here.add(place, name, outcome.model.card->synthetic ? "generated" : "real",
                        outcome.report->measured());
      nlohmann::ordered_json entry = {{"system", root.text("name")},
                                      {"variant", variant},
                                      {"seed", seed},
                                      {"published", published},
                                      {"leaky", outcome.model.card->leaky},
                                      {"synthetic", outcome.model.card->synthetic},
                                      {"held_out", outcome.report->json()},
                                      {"largest_change", outcome.largest_change},
                                      {"train_seconds", outcome.train_seconds},
                                      {"session_bytes", outcome.model.memory->session_bytes},
                                      {"blob_bytes", outcome.blob.size()}};
      if (!options.beside.empty()) {
        const Blob blob(outcome.blob, "the new blob");
        const SessionEvaluation other =
            evaluate_sessions(blob, outcome.model, recipe, options.beside, false, threads);
        beside.push_back(other.report->main().metrics());
        beside_synthetic = other.synthetic;
        if (options.paired)
          paired_beside.add(place, name, other.synthetic ? "generated" : "real", other.report->measured());
        entry["beside"] = other.report->json();
      }
      json.push_back(entry);
    }
    const std::string title =
        root.text("title", root.text("name") + (variant.empty() ? "" : ", " + variant)) +
        (outcome.model.card->leaky ? ", LEAKY" : "");
    const std::string label = root.section("skip").text("level", "skip_2");
    const auto add = [&](const std::vector<Metrics>& metrics, bool synthetic) {
      rows.push_back({title, label, synthetic ? "generated" : "real",
                      figures_of(metrics, &Metrics::base_rate), published > 0 ? four(published) : "",
                      figures_of(metrics, &Metrics::accuracy), figures_of(metrics, &Metrics::auc),
                      figures_of(metrics, &Metrics::log_loss),
                      bytes_text(static_cast<double>(outcome.blob.size()))});
    };
    add(here, outcome.model.card->synthetic);
    if (!beside.empty()) add(beside, beside_synthetic);
  }
  std::string text =
      "Playing track (or the next one, where a system is asked before it starts), horizon 1\n\n" +
      table_text(rows);
  for (const PairedDifferences* paired : {&paired_here, &paired_beside})
    if (const std::string differences = options.paired ? paired->text(json) : ""; !differences.empty())
      text += "\n" + differences;
  print_report(text, json, options.json);
}

void compare(const Options& options) {
  Threads threads(options.threads);
  std::vector<std::pair<std::string, std::string>> all;  // recipe file, variant
  for (const std::string& file : options.recipes) {
    all.emplace_back(file, "");
    const Recipe recipe(file, {});
    for (const std::string& variant : recipe.variants()) all.emplace_back(file, variant);
  }
  // A slip in the last recipe shall not be found after hours of training the others.
  if (!options.json.empty() && options.json != "-") require_writable(options.json);
  const auto about_sessions = [&](const auto& one) {
    return is_session_recipe(Recipe(one.first, {one.second, options.overrides}).root());
  };
  const auto sessions = std::count_if(all.begin(), all.end(), about_sessions);
  if (sessions > 0 && sessions < static_cast<std::ptrdiff_t>(all.size()))
    throw Error("some of the recipes are about listening sessions and some about tables: compare them apart");
  if (options.paired && (sessions == 0 || all.size() < 2))
    throw Error(sessions == 0
                    ? "--paired compares predictors of listening sessions, not of tables: leave it out"
                    : "--paired compares systems with the first one: name a second recipe or variant");
  if (sessions == 0 && !options.beside.empty())
    throw Error("--beside is for recipes of listening sessions, not of tables: leave it out");
  if (sessions > 0) return compare_sessions(options, all, threads);
  for (const auto& [file, variant] : all)
    for (const std::string& split : options.splits) {
      const Recipe recipe = recipe_of(file, variant, split, options);
      (void)table_spec(recipe.root(), options.data);
      check_settings(recipe.root());
    }
  std::vector<System> systems;
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const std::string& split : options.splits) {
    for (const auto& [file, variant] : all) {
      systems.push_back(run(file, variant, split, options, threads));
      const System& system = systems.back();
      for (std::size_t i = 0; i < system.outcomes.size(); ++i) {
        const Outcome& outcome = system.outcomes[i];
        json.push_back({{"table", split},
                        {"system", system.recipe},
                        {"variant", variant},
                        {"title", system.title},
                        {"seed", options.seeds[i]},
                        {"published", system.published},
                        {"rows", outcome.shipped.rows},
                        {"base_rate", outcome.shipped.base_rate},
                        {"accuracy", outcome.shipped.accuracy},
                        {"trained_accuracy", outcome.trained.accuracy},
                        {"auc", outcome.shipped.auc},
                        {"log_loss", outcome.shipped.log_loss},
                        {"calibration_error", outcome.shipped.calibration_error},
                        {"largest_change", outcome.largest_change},
                        {"blob_bytes", outcome.blob.size()},
                        {"train_seconds", outcome.train_seconds}});
      }
    }
    if (options.json != "-") std::cout << text_of(systems, split, options) << std::flush;
  }
  print_report("", json, options.json);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "compare",
      "Train every variant of some recipes on several seeds and splits, and print one table per split");
  command->add_option("recipes", options->recipes, "Recipes, TOML files")->required();
  command->add_option("--data", options->data, "Folder (or file) with the data")->required();
  command->add_option(
      "--beside", options->beside,
      "Sessions: score the same blobs on these data too, e.g. real ones beside generated ones");
  command->add_flag("--paired", options->paired,
                    "Sessions: print how each system differs from the first, with intervals");
  command->add_option("--splits", options->splits, "Splits of the recipes, a table each")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--seeds", options->seeds, "Seeds to average over")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--set", options->overrides, "Override a setting in all of them: KEY=VALUE")
      ->expected(1)
      ->take_all();
  command->add_option("--threads", options->threads, "0 takes all cores")
      ->check(CLI::Range(0u, 1024u))
      ->capture_default_str();
  command->add_option("--json", options->json,
                      "Write every single result as JSON to a file, or - for stdout");
  command->callback([options] { compare(*options); });
}

}  // namespace tonearm
