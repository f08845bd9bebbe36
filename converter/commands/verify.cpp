#include <memory>

#include "base/error.h"
#include "base/files.h"
#include "commands/commands.h"
#include "commands/report.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

void verify(const std::string& path, const std::string& json_path) {
  const Blob blob(read_file(path), path);
  std::vector<float> scratch((tonearm_scratch_size(&blob.model()) + 3) / 4);
  float largest = 0;
  const tonearm_status status =
      tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * sizeof(float), &largest);
  if (status == TONEARM_SELF_TEST_FAILED)
    throw Error(
        path + ": " + tonearm_status_text(status) +
        format(": an output differs by %.3g; convert the model again on this machine to compare", largest));
  const bool tested = status == TONEARM_OK;
  const std::string text =
      path + ": sound; " +
      (tested ? format("%u golden rows agree (largest difference %.2g)", blob.info().golden_rows, largest)
              : std::string("it holds no golden rows to test against")) +
      "\n";
  print_report(text,
               {{"sound", true}, {"golden_rows", blob.info().golden_rows}, {"largest_difference", largest}},
               json_path);
}

}  // namespace

void add_verify(CLI::App& app) {
  struct Options {
    std::string model, json;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "verify", "Open a blob as a player would, replay its golden rows, or say what is wrong with it");
  command->add_option("model", options->model, "The blob, MODEL.tarm")->required();
  command->add_option("--json", options->json, "Write the result as JSON to a file, or - for stdout");
  command->callback([options] { verify(options->model, options->json); });
}

}  // namespace tonearm
