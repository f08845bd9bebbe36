#pragma once

#include <CLI/CLI.hpp>

namespace tonearm {

// Each adds one command to the program. A command prints results for people on stdout, or JSON where
// --json says; it throws Error where the input is at fault.
void add_train(CLI::App& app);
void add_compare(CLI::App& app);
void add_import(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_features(CLI::App& app);
void add_predict(CLI::App& app);
void add_inspect(CLI::App& app);
void add_verify(CLI::App& app);
void add_quantize(CLI::App& app);
void add_synth(CLI::App& app);
void add_explore(CLI::App& app);
void add_export(CLI::App& app);
void add_profile(CLI::App& app);

}  // namespace tonearm
