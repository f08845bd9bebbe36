#include <fstream>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "base/files.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"

namespace tonearm {
namespace {

struct Options {
  std::string recipe, data, out, json;
  Recipe::Choice choice;
  std::string split;
  unsigned seed = 1, threads = 0;
  bool resume = false;
};

std::string text_of(const Experiment& experiment, const Outcome& outcome, const Options& options) {
  const schema::CardT& card = *outcome.model.card;
  std::string text;
  for (const std::string& warning : experiment.warnings) text += "  note: " + warning + "\n";
  if (card.synthetic)
    text += "  SYNTHETIC data: the figures say how well a made-up pattern was found, nothing else\n";
  text += format("  %s: %s\n", card.task.c_str(), card.label.c_str());
  text += format("  data: %s; held out %u (%s), trained on %u", card.data.c_str(), card.split->held_out_rows,
                 card.split->rule.c_str(), card.split->train_rows);
  if (experiment.split.dropped > 0) text += format(", left out %zu", experiment.split.dropped);
  text +=
      format("\n  trained in %.2f s; base rate %.3f\n\n", outcome.train_seconds, outcome.shipped.base_rate);
  std::vector<std::vector<std::string>> rows = {{"held-out rows", "as trained", "the blob"}};
  for (const auto& metric : card.metrics)
    rows.push_back({metric->name, format("%.4f", metric->trained), format("%.4f", metric->shipped)});
  text += table_text(rows);
  if (!outcome.folds.empty()) {
    std::vector<double> accuracy, auc;
    for (const Metrics& fold : outcome.folds) accuracy.push_back(fold.accuracy), auc.push_back(fold.auc);
    text += format(
        "\n  cross-validation, %zu folds of the training rows: accuracy %.4f +- %.4f, AUC %.4f +- %.4f\n",
        accuracy.size(), spread(accuracy).mean, spread(accuracy).deviation, spread(auc).mean,
        spread(auc).deviation);
  }
  text += format("\n  conversion changed a probability by %.2g at most, %.2g on average (allowed: %.2g)\n",
                 outcome.largest_change, outcome.mean_change, outcome.tolerance);
  text +=
      format("  %s: %s\n", options.out.c_str(), bytes_text(static_cast<double>(outcome.blob.size())).c_str());
  return text;
}

/// What quantization did to a network, over whole sessions: errors must not grow along them.
std::string changes_text(const SessionOutcome& outcome) {
  std::vector<std::vector<std::string>> rows = {{"held-out questions", "as trained", "the blob"}};
  for (const auto& metric : outcome.model.card->metrics)
    rows.push_back({metric->name, format("%.4f", metric->trained), format("%.4f", metric->shipped)});
  rows.push_back({"bytes", bytes_text(static_cast<double>(outcome.float_bytes)),
                  bytes_text(static_cast<double>(outcome.blob.size()))});
  std::string text = table_text(rows) + "\n";
  rows = {{"position"}, {"largest change"}, {"mean change"}};
  for (const auto& [position, change] : outcome.changes) {
    rows[0].push_back(position > 20 ? "later" : std::to_string(position));
    rows[1].push_back(format("%.1e", change.largest));
    rows[2].push_back(format("%.1e", change.sum / static_cast<double>(change.questions)));
  }
  return text + table_text(rows) + "\n";
}

/// A model of listening sessions.
void train_sessions(const Recipe& recipe, const Options& options, Threads& threads) {
  const SessionOutcome outcome = run_session_experiment(recipe, options.data, options.seed, threads,
                                                        options.out + ".checkpoint", options.resume);
  write_file(options.out, outcome.blob);
  outcome.checkpoint.remove();
  const schema::CardT& card = *outcome.model.card;
  std::string text = remarks_text(outcome.remarks);
  if (card.synthetic)
    text += "  SYNTHETIC data: the figures say how well generated listeners are predicted, nothing else\n";
  if (card.leaky) text += "  LEAKY: this model reads what is only known after the fact\n";
  text += format("  %s: %s\n", card.task.c_str(), card.label.c_str());
  text +=
      format("  data: %s; held out %zu sessions (%s), trained on %zu examples of %zu features in %.2f s\n\n",
             card.data.c_str(), outcome.report->sessions(), card.split->rule.c_str(),
             outcome.training_examples, outcome.features, outcome.train_seconds);
  text += outcome.report->text();
  if (!outcome.folds.empty()) {
    std::vector<double> accuracy;
    for (const Metrics& fold : outcome.folds) accuracy.push_back(fold.accuracy);
    text += format("  cross-validation, %zu folds of the training sessions: accuracy %.4f +- %.4f\n",
                   accuracy.size(), spread(accuracy).mean, spread(accuracy).deviation);
  }
  if (outcome.float_bytes > 0) text += changes_text(outcome);
  text += format("  conversion changed a probability by %.2g at most, %.2g on average (allowed: %.2g)\n",
                 outcome.largest_change, outcome.mean_change, outcome.tolerance);
  text += format("  %s: %s; a session takes %u bytes\n", options.out.c_str(),
                 bytes_text(static_cast<double>(outcome.blob.size())).c_str(),
                 outcome.model.memory->session_bytes);
  nlohmann::ordered_json json = {{"name", card.name},
                                 {"seed", options.seed},
                                 {"synthetic", card.synthetic},
                                 {"leaky", card.leaky},
                                 {"training_examples", outcome.training_examples},
                                 {"features", outcome.features},
                                 {"held_out", outcome.report->json()},
                                 {"largest_change", outcome.largest_change},
                                 {"mean_change", outcome.mean_change},
                                 {"train_seconds", outcome.train_seconds},
                                 {"session_bytes", outcome.model.memory->session_bytes},
                                 {"blob_bytes", outcome.blob.size()},
                                 {"blob", options.out}};
  for (const Metrics& fold : outcome.folds) json["folds"].push_back(metrics_json(fold));
  if (outcome.float_bytes > 0) {
    json["float_bytes"] = outcome.float_bytes;
    for (const auto& metric : card.metrics) json["trained"][metric->name] = metric->trained;
    for (const auto& [position, change] : outcome.changes)
      json["changes"].push_back({{"position", position},
                                 {"questions", change.questions},
                                 {"largest", change.largest},
                                 {"mean", change.sum / static_cast<double>(change.questions)}});
  }
  print_report(text, json, options.json);
}

void train(const Options& options) {
  require_writable(options.out);
  if (!options.json.empty() && options.json != "-") require_writable(options.json);
  const Recipe recipe(options.recipe, options.choice);
  Threads threads(options.threads);
  if (is_session_recipe(recipe.root())) return train_sessions(recipe, options, threads);
  const Experiment experiment = load_experiment(recipe.root(), options.data, options.seed);
  const Checkpoint checkpoint(options.out + ".checkpoint", fingerprint(recipe, experiment, options.seed),
                              options.resume);
  const Outcome outcome = run_experiment(recipe, experiment, options.seed, threads, checkpoint);
  write_file(options.out, outcome.blob);
  checkpoint.remove();

  nlohmann::ordered_json json = {{"name", outcome.model.card->name},
                                 {"seed", options.seed},
                                 {"train_rows", outcome.model.card->split->train_rows},
                                 {"held_out_rows", outcome.model.card->split->held_out_rows},
                                 {"trained", metrics_json(outcome.trained)},
                                 {"shipped", metrics_json(outcome.shipped)},
                                 {"largest_change", outcome.largest_change},
                                 {"mean_change", outcome.mean_change},
                                 {"train_seconds", outcome.train_seconds},
                                 {"blob_bytes", outcome.blob.size()},
                                 {"blob", options.out}};
  for (const Metrics& fold : outcome.folds) json["folds"].push_back(metrics_json(fold));
  print_report(text_of(experiment, outcome, options), json, options.json);
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "train", "Train a model as a recipe says, convert it, measure the blob on held-out rows");
  command->add_option("recipe", options->recipe, "The recipe, a TOML file")->required();
  command->add_option("--data", options->data, "Folder (or file) with the data")->required();
  command->add_option("--out", options->out, "The blob to write, MODEL.tarm")->required();
  command->add_option("--variant", options->choice.variant, "One of the recipe's [variants]");
  command
      ->add_option("--set", options->choice.overrides, "Override a setting: KEY=VALUE, e.g. train.trees=50")
      ->expected(1)
      ->take_all();
  command->add_option("--split", options->split, "One of the recipe's [splits]");
  command->add_option("--seed", options->seed, "Decides the split and all chance in training")
      ->capture_default_str();
  command->add_option("--threads", options->threads, "0 takes all cores; the blob does not depend on it")
      ->check(CLI::Range(0u, 1024u))

      ->capture_default_str();
  command->add_flag("--resume", options->resume,
                    "Go on where an interrupted run of the same training stopped");
  command->add_option("--json", options->json, "Write the results as JSON to a file, or - for stdout");
  command->callback([options] {
    if (!options->split.empty()) options->choice.overrides.push_back("split=\"" + options->split + "\"");
    train(*options);
  });
}

}  // namespace tonearm
