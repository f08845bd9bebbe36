#include <tonearm/tonearm.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/interrupt.h"
#include "commands/commands.h"

namespace {

/// One line on stderr, whatever cells of damaged files the message quotes: no line feeds, and nothing that
/// a terminal would obey.
void complain(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  std::cerr << "tonearm: " << text << "\n";
}

/// What is wrong with the command line; CLI11 only misses a command where another word stands.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  std::string text = error.what();
  if (!word.empty() && word[0] != '-' &&
      std::find(commands.begin(), commands.end(), word) == commands.end()) {
    const std::string meant = tonearm::nearest(word, commands);
    text = "there is no command '" + word + "'" + (meant.empty() ? "" : "; did you mean '" + meant + "'?");
  }
  return text + " (--help tells more)";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tonearm;
  CLI::App app(
      "Makes, checks and measures Tonearm models: small files that a music player evaluates on the device.");
  app.name("tonearm");
  app.set_version_flag("--version", "tonearm " + std::to_string(TONEARM_VERSION_MAJOR) + "." +
                                        std::to_string(TONEARM_VERSION_MINOR) + "." +
                                        std::to_string(TONEARM_VERSION_PATCH));
  app.require_subcommand(1);
  app.footer("Exit status: 0 done, 1 the input is at fault, 2 wrong usage, 130 interrupted.");
  add_train(app);
  add_compare(app);
  add_import(app);
  add_evaluate(app);
  add_features(app);
  add_predict(app);
  add_inspect(app);
  add_verify(app);
  add_quantize(app);
  add_synth(app);
  add_explore(app);
  add_export(app);
  add_profile(app);
  catch_interrupts();
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    complain(usage_error(app, error, argc, argv));
    return 2;
  } catch (const Interrupted&) {
    complain("interrupted");
    return 130;
  } catch (const std::bad_alloc&) {
    complain("out of memory: use fewer rows or columns, or a machine with more");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return 1;
}
