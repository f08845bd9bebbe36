#include <cmath>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/files.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

struct Options {
  std::string model, data, json;
  unsigned threads = 0;
  bool all_rows = false;
};

void evaluate_sessions(const Options& options, const Blob& blob, const schema::ModelT& model,
                       const Recipe& recipe, Threads& threads) {
  const SessionEvaluation evaluation =
      evaluate_sessions(blob, model, recipe, options.data, options.all_rows, threads);
  const SessionReport& report = *evaluation.report;
  std::string text = remarks_text(evaluation.remarks);
  text += format("  %s: %s\n", model.card->task.c_str(), model.card->label.c_str());
  text += evaluation.synthetic    ? "  SYNTHETIC data\n"
          : model.card->synthetic ? "  real data; the model was trained on SYNTHETIC data only\n"
                                  : "";
  if (model.card->leaky) text += "  LEAKY: this model reads what is only known after the fact\n";
  if (!evaluation.same_data && !evaluation.foreign && !options.all_rows)
    text += "  these are not the data that the card names: the held-out sessions differ (digest " +
            report.digest() + ", the card says " + model.card->split->digest +
            "), so some may have been trained on\n";
  text += format("  %zu %s, %zu tracks (%s)\n\n", report.sessions(),
                 evaluation.in_sample ? "sessions, IN-SAMPLE"
                 : evaluation.foreign ? "sessions"
                                      : "held-out sessions",
                 report.plays(), evaluation.rule.c_str());
  text += report.text();
  nlohmann::ordered_json json = report.json();
  json["in_sample"] = evaluation.in_sample;
  json["same_data"] = evaluation.same_data;
  json["synthetic"] = evaluation.synthetic;
  print_report(text, json, options.json);
}

void evaluate(const Options& options) {
  Threads threads(options.threads);
  const Blob blob(read_file(options.model), options.model);
  schema::ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);
  const bool bound_to_sessions = model.session != nullptr && !model.card->recipe.empty();
  if (!bound_to_sessions && (model.card->recipe.empty() || model.card->split == nullptr))
    throw Error(options.model +
                ": its card names no recipe and no split, so held-out rows cannot be found; "
                "only blobs made by 'tonearm train', and imports bound to a session's features, can be "
                "evaluated; 'tonearm predict' gives the probabilities of rows");
  if (blob.outputs() != 1)
    throw Error(options.model + ": it has " + std::to_string(blob.outputs()) +
                " outputs; only a single probability can be measured");
  const Recipe recipe = Recipe::from_text(model.card->recipe, options.model + " (recipe in the card)");
  if (model.session != nullptr) return evaluate_sessions(options, blob, model, recipe, threads);
  const Experiment experiment = load_experiment(recipe.root(), options.data, model.card->split->seed, &model);
  const bool same_data = experiment.split.digest == model.card->split->digest;

  std::vector<std::size_t> rows = experiment.split.held_out;
  if (options.all_rows) {
    rows.resize(experiment.table.rows);
    std::iota(rows.begin(), rows.end(), std::size_t{0});
  }
  const Metrics metrics =
      measure(blob_probabilities(blob, experiment.table, rows, threads), targets(experiment.table, rows));

  std::string text = format("  %s: %s\n", model.card->task.c_str(), model.card->label.c_str());
  if (model.card->synthetic || experiment.synthetic) text += "  SYNTHETIC data\n";
  if (model.card->leaky) text += "  LEAKY: this model reads what is only known after the fact\n";
  if (!same_data)
    text += "  these are not the data that the card names: the held-out rows differ (digest " +
            experiment.split.digest + ", the card says " + model.card->split->digest +
            "), so some rows may have been trained on\n";
  text += format("  %zu %s (%s), base rate %.3f\n\n", metrics.rows,
                 options.all_rows ? "rows, IN-SAMPLE" : "held-out rows", experiment.split.rule.c_str(),
                 metrics.base_rate);
  const auto card_figure = [&](const char* name) -> std::string {
    for (const auto& metric : model.card->metrics)
      if (metric->name == name && !options.all_rows && !std::isnan(metric->shipped))
        return format("%.4f", metric->shipped);
    return "";
  };
  text += table_text(
      {{"", "now", "in the card"},
       {"accuracy", format("%.4f", metrics.accuracy), card_figure("accuracy")},
       {"auc", format("%.4f", metrics.auc), card_figure("auc")},
       {"log_loss", format("%.4f", metrics.log_loss), card_figure("log_loss")},
       {"calibration_error", format("%.4f", metrics.calibration_error), card_figure("calibration_error")}});
  nlohmann::ordered_json json = metrics_json(metrics);
  json["in_sample"] = options.all_rows;
  json["same_data"] = same_data;
  json["digest"] = experiment.split.digest;
  print_report(text, json, options.json);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "evaluate", "Measure a blob, through the C API, on the rows that its training held out");
  command->add_option("model", options->model, "The blob, MODEL.tarm")->required();
  command->add_option("--data", options->data, "Folder (or file) with the data")->required();
  command->add_flag("--all-rows", options->all_rows, "Use the training rows too; the result says IN-SAMPLE");
  command->add_option("--threads", options->threads, "0 takes all cores")
      ->check(CLI::Range(0u, 1024u))
      ->capture_default_str();
  command->add_option("--json", options->json, "Write the results as JSON to a file, or - for stdout");
  command->callback([options] { evaluate(*options); });
}

}  // namespace tonearm
