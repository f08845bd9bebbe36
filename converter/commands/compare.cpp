#include <algorithm>
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

/// Session models: every variant on every seed, a row for its held-out sessions and, with --beside, one for
/// the same blobs on other data.
void compare_sessions(const Options& options, const std::vector<std::pair<std::string, std::string>>& all,
                      Threads& threads) {
  std::vector<std::vector<std::string>> rows = {
      {"system", "label", "data", "base rate", "claimed", "accuracy", "AUC", "log loss", "blob"}};
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const auto& [file, variant] : all) {
    const Recipe recipe(file, {variant, options.overrides});
    const Recipe::Section root = recipe.root();
    const double published = root.section("published").number("accuracy", 0.0, 0, 1);
    std::vector<Metrics> here, beside;
    SessionOutcome outcome;
    bool beside_synthetic = false;
    for (const unsigned seed : options.seeds) {
      outcome = run_session_experiment(recipe, options.data, seed, threads, "", false);
      here.push_back(outcome.report->main().metrics());
      nlohmann::ordered_json entry = {{"system", root.text("name")},
                                      {"variant", variant},
                                      {"seed", seed},
                                      {"published", published},
                                      {"leaky", outcome.model.card->leaky},
                                      {"synthetic", outcome.model.card->synthetic},
                                      {"held_out", outcome.report->json()},
                                      {"blob_bytes", outcome.blob.size()}};
      if (!options.beside.empty()) {
        const Blob blob(outcome.blob, "the new blob");
        const SessionEvaluation other =
            evaluate_sessions(blob, outcome.model, recipe, options.beside, false, threads);
        beside.push_back(other.report->main().metrics());
        beside_synthetic = other.synthetic;
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
  print_report("Playing track (or the next one, where a system is asked before it starts), horizon 1\n\n" +
                   table_text(rows),
               json, options.json);
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
