#include <tonearm/tonearm.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <new>

#include "base/error.h"
#include "base/interrupt.h"
#include "commands/commands.h"

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
  add_evaluate(app);
  add_features(app);
  add_predict(app);
  add_inspect(app);
  add_verify(app);
  add_synth(app);
  catch_interrupts();
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return 2;
  } catch (const Interrupted&) {
    std::cerr << "tonearm: interrupted\n";
    return 130;
  } catch (const std::bad_alloc&) {
    std::cerr << "tonearm: out of memory: use fewer rows or columns, or a machine with more\n";
  } catch (const std::exception& error) {
    std::cerr << "tonearm: " << error.what() << "\n";
  }
  return 1;
}
