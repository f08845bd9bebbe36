#include <charconv>
#include <cmath>
#include <memory>

#include "base/files.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"
#include "data/table.h"
#include "evaluate/blob.h"
#include "features/encoders.h"

namespace tonearm {
namespace {

struct Options {
  std::string model, rows, out;
  unsigned threads = 0;
};

void predict(const Options& options) {
  Threads threads(options.threads);
  const Blob blob(read_file(options.model), options.model);
  if (blob.info().session_bytes > 0) {
    const std::string text = predict_sessions(blob, options.rows, threads);
    if (options.out.empty())
      print_report(text, {}, "");
    else
      write_file(options.out, text);
    return;
  }
  const Table table = read_table(table_spec(blob, options.rows));
  std::vector<std::size_t> which(table.rows);
  for (std::size_t i = 0; i < which.size(); ++i) which[i] = i;
  const std::vector<float> outputs = blob.evaluate_rows(gather_rows(table, which), threads);

  std::string text;
  for (std::size_t n = 0; n < table.rows; ++n) {
    for (std::size_t k = 0; k < blob.outputs(); ++k) {
      char digits[32];
      const auto end = std::to_chars(digits, digits + sizeof digits, outputs[n * blob.outputs() + k]).ptr;
      if (k > 0) text += ',';
      text.append(digits, end);
    }
    text += '\n';
  }
  if (options.out.empty())
    print_report(text, {}, "");
  else
    write_file(options.out, text);
}

}  // namespace

void add_predict(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("predict",
                                         "Print the probability of every row of a CSV file; of a session "
                                         "model, of every question about the logs");
  command->add_option("model", options->model, "The blob, MODEL.tarm")->required();
  command
      ->add_option("--rows", options->rows,
                   "A CSV file (or .csv.gz), columns found by name; sessions: logs, or a folder of them")
      ->required();
  command->add_option("--out", options->out, "Write to a file instead of stdout");
  command->add_option("--threads", options->threads, "0 takes all cores")
      ->check(CLI::Range(0u, 1024u))
      ->capture_default_str();
  command->callback([options] { predict(*options); });
}

}  // namespace tonearm
