#pragma once

// From a recipe and a folder of data to a measured blob: what `train`, `compare`, `features` and
// `evaluate` share.

#include <filesystem>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "data/recipe.h"
#include "data/split.h"
#include "data/table.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "evaluate/metrics.h"
#include "features/encoders.h"
#include "train/boosted.h"
#include "train/forest.h"
#include "train/linear.h"
#include "train/network.h"
#include "train/recurrent.h"

namespace tonearm {

/// The rows of a recipe, and which of them are trained on.
struct Experiment {
  Table table;
  Split split;
  std::string group;  // the group column that splits and folds keep together
  bool synthetic = false;
  std::vector<std::string> warnings;
};

/// What a recipe's [data] and [columns] ask for, to be read from `folder`, or from its subfolder
/// data.folder where there is one.
TableSpec table_spec(const Recipe::Section& recipe, const std::filesystem::path& folder);
/// What a table model reads, from a CSV file.
TableSpec table_spec(const Blob& blob, const std::filesystem::path& file);

/// What a recipe's [train] asks for.
struct TrainerOptions {
  std::string trainer;
  LinearOptions linear;
  NetworkOptions network;
  ForestOptions forest;
  BoostedOptions boosted;
  /// Of "recurrent", without branches; or of the network whose encoders the boosted trees read.
  RecurrentOptions recurrent;
  std::vector<std::string> tasks;  // beside the main one
  bool encoder = false;
};

/// All that a recipe says but for its data, features and split.
struct Settings {
  TrainerOptions trainer;
  std::string calibration, calibrate_on;
  unsigned folds = 0, golden = 0;
  TreeStorage storage = LeafStorage::exact;
  schema::WeightFormat weights = schema::WeightFormat::Float32;  // of a network over sessions
  unsigned quantize_epochs = 0;                                  // of training through the rounding of int8
  double tolerance = 0;
};
Settings read_settings(const Recipe::Section& recipe);

/// "tonearm 1.2.3": what made a blob, in its card.
std::string producer_text();

/// Trains and gives the score its natural link: a logit becomes a probability, a probability stays one.
TrainedModel fit(const TrainerOptions& options, const Dataset& data, const Dataset& validation,
                 const Training& training);
/// Linear models and networks compute nothing from a missing value: throws Error naming the feature.
void require_numbers(const Dataset& data, const std::vector<std::string>& names, const std::string& trainer,
                     const char* which);
/// What the recipe says of the model, and the converter of itself.
void fill_card(schema::CardT& card, const Recipe& recipe, const std::string& label);
void add_metric(schema::CardT& card, const char* name, double trained, double shipped);
/// Throws Error if conversion changed a probability by more than the recipe allows.
void require_tolerance(double largest_change, double tolerance);

/// Throws Error for a wrong setting of the trainer, calibration, card or blob, without looking at data.
void check_settings(const Recipe::Section& recipe);

/// Reads and splits. `vocabulary_of` (may be null) is a blob whose vocabularies are used instead of those
/// that the files hold.
Experiment load_experiment(const Recipe::Section& recipe, const std::filesystem::path& folder,
                           std::uint32_t seed, const schema::ModelT* vocabulary_of = nullptr);

/// A trained, converted and measured model.
struct Outcome {
  schema::ModelT model;
  std::vector<unsigned char> blob;
  Metrics trained;  // of the model as trained, in float64
  Metrics shipped;  // of the blob, through the C API, on the same held-out rows
  double largest_change = 0, mean_change = 0, tolerance = 0;
  std::vector<Metrics> folds;  // of cross-validation, if the recipe asks for it
  double train_seconds = 0;    // of the final training alone
};

/// Trains as the recipe says, converts, and measures on the held-out rows. Throws Error if the blob's
/// probabilities are farther from the trained model's than the recipe's tolerance.
Outcome run_experiment(const Recipe& recipe, const Experiment& experiment, std::uint32_t seed,
                       Threads& threads, const Checkpoint& checkpoint);

/// Ties a checkpoint to recipe, data and seed.
std::string fingerprint(const Recipe& recipe, const Experiment& experiment, std::uint32_t seed);

/// The blob's probabilities of the given rows, through the C API.
std::vector<double> blob_probabilities(const Blob& blob, const Table& table,
                                       std::span<const std::size_t> rows, Threads& threads);
std::vector<float> targets(const Table& table, std::span<const std::size_t> rows);

}  // namespace tonearm
