#include "commands/experiment.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "commands/session_networks.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

SplitSpec read_split(const Recipe::Section& section, double validation) {
  SplitSpec spec;
  const std::string rule = section.choice("rule", "group", {"group", "value"});
  spec.group = section.text("group", "");
  if (section.has("guard")) spec.guards = {section.text("guard")};
  if (rule == "group") {
    spec.share = section.number("held_out", 0.25, 0.001, 0.999);
  } else {
    spec.column = section.text("column");
    spec.value = section.number("value", std::nullopt, -1e30, 1e30);
    if (spec.group.empty() && !spec.guards.empty()) spec.group = spec.guards.front();
  }
  spec.validation = validation;
  return spec;
}

/// The split that the recipe chooses; the others are read too, so that none of their keys is unknown.
SplitSpec chosen_split(const Recipe::Section& recipe) {
  const double validation = recipe.section("validation").number("held_out", 0.0, 0, 0.9);
  const Recipe::Section splits = recipe.section("splits");
  const std::vector<std::string> names = splits.keys();
  if (names.empty())
    recipe.fail("splits", "is missing: a table like [splits.random] must say what is held out");
  const std::string chosen = recipe.choice("split", names.front(), names);
  SplitSpec result;
  for (const std::string& name : names) {
    const SplitSpec spec = read_split(splits.section(name), validation);
    if (name == chosen) result = spec;
  }
  return result;
}

void add_unique(std::vector<std::string>& list, const std::string& name) {
  if (!name.empty() && std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
}

/// The units of each hidden layer.
std::vector<unsigned> read_units(const Recipe::Section& section, const std::vector<unsigned>& otherwise) {
  return section.has("hidden") ? section.counts("hidden", 1, 10000) : otherwise;
}

NetworkActivation read_activation(const Recipe::Section& section) {
  const std::string activation = section.choice("activation", "relu", {"relu", "tanh", "sigmoid"});
  return activation == "relu"   ? NetworkActivation::relu
         : activation == "tanh" ? NetworkActivation::tanh
                                : NetworkActivation::sigmoid;
}

/// A network over sessions: [train] of the trainer "recurrent", or [encoder].
void read_recurrent(const Recipe::Section& section, bool validation, TrainerOptions& options) {
  RecurrentOptions& recurrent = options.recurrent;
  recurrent.hidden = read_units(section, recurrent.hidden);
  recurrent.activation = read_activation(section);
  recurrent.batch_normalisation = section.flag("batch_normalisation", false);
  recurrent.rate = section.number("rate", recurrent.rate, 1e-9, 1e3);
  recurrent.weight_decay = section.number("weight_decay", recurrent.weight_decay, 0, 100);
  recurrent.dropout = section.number("dropout", recurrent.dropout, 0, 0.95);
  recurrent.clip = section.number("clip", recurrent.clip, 0, 1e9);
  recurrent.schedule = section.choice("schedule", "constant", {"constant", "cosine"}) == "cosine"
                           ? RecurrentOptions::Schedule::cosine
                           : RecurrentOptions::Schedule::constant;
  recurrent.warmup = section.number("warmup", recurrent.warmup, 0, 1);
  recurrent.batch = section.count("batch", recurrent.batch, 1, 1u << 24);
  recurrent.epochs = section.count("epochs", recurrent.epochs, 1, 1u << 20);
  recurrent.patience = section.count("patience", recurrent.patience, 0, 1u << 20);
  if (recurrent.patience > 0 && !validation)
    section.fail("patience", "needs validation sessions: set [validation] held_out above 0");
  recurrent.truncation = section.count("truncation", recurrent.truncation, 0, 1u << 20);
  recurrent.offset_augmentation = section.number("offset_augmentation", recurrent.offset_augmentation, 0, 1);
  options.tasks = section.texts("tasks");
  recurrent.task_weights = section.numbers("task_weights");
  if (recurrent.task_weights.empty()) recurrent.task_weights.assign(options.tasks.size(), 0.3);
  if (recurrent.task_weights.size() != options.tasks.size())
    section.fail("task_weights",
                 "must hold one number for each of the " + std::to_string(options.tasks.size()) + " tasks");
  for (const std::string& task : options.tasks)
    if (!is_task(task))
      section.fail("tasks", "names '" + task +
                                "'; there are skip_1, skip_2, skip_3, not_skipped and reason_end=REASON, "
                                "e.g. reason_end=trackdone");
}

TrainerOptions read_trainer(const Recipe::Section& recipe) {
  const Recipe::Section train = recipe.section("train");
  TrainerOptions options;
  options.trainer =
      train.choice("trainer", "", {"logistic", "svm", "network", "forest", "boosted", "recurrent"});
  const bool sessions = recipe.section("data").has("adapter");
  const bool validation = recipe.section("validation").number("held_out", 0.0, 0, 0.9) > 0;
  if (options.trainer == "logistic" || options.trainer == "svm") {
    LinearOptions& linear = options.linear;
    linear.loss =
        options.trainer == "svm" ? LinearOptions::Loss::squared_hinge : LinearOptions::Loss::logistic;
    linear.cost = train.number("cost", linear.cost, 1e-9, 1e9);
    linear.max_iterations = train.count("max_iterations", linear.max_iterations, 1, 100000);
    linear.tolerance = train.number("tolerance", linear.tolerance, 1e-14, 0.1);
  } else if (options.trainer == "network") {
    NetworkOptions& network = options.network;
    network.hidden = read_units(train, network.hidden);
    network.activation = read_activation(train);
    network.rate = train.number("rate", network.rate, 1e-9, 1e3);
    network.weight_decay = train.number("weight_decay", network.weight_decay, 0, 100);
    network.dropout = train.number("dropout", network.dropout, 0, 0.95);
    network.batch = train.count("batch", network.batch, 1, 1u << 24);
    network.epochs = train.count("epochs", network.epochs, 1, 1u << 20);
    network.patience = train.count("patience", network.patience, 0, 1u << 20);
  } else if (options.trainer == "forest") {
    ForestOptions& forest = options.forest;
    forest.trees = train.count("trees", forest.trees, 1, 100000);
    forest.depth = train.count("depth", forest.depth, 1, 1000);
    forest.features_per_split = train.count("features_per_split", forest.features_per_split, 0, 65535);
    forest.min_leaf_rows = train.count("min_leaf_rows", forest.min_leaf_rows, 1, 1u << 30);
    forest.bootstrap = train.flag("bootstrap", forest.bootstrap);
    forest.bins = train.count("bins", forest.bins, 2, 255);
  } else if (options.trainer == "recurrent") {
    if (!sessions)
      train.fail("trainer",
                 "is \"recurrent\", which learns from listening sessions: [data] must name an adapter");
    read_recurrent(train, validation, options);
  } else {
    BoostedOptions& boosted = options.boosted;
    boosted.growth = train.choice("growth", "leaf-wise", {"leaf-wise", "symmetric"}) == "symmetric"
                         ? BoostedOptions::Growth::symmetric
                         : BoostedOptions::Growth::leaf_wise;
    boosted.trees = train.count("trees", boosted.trees, 1, 100000);
    boosted.leaves = train.count("leaves", boosted.leaves, 2, 32768);
    boosted.depth = train.count(
        "depth", boosted.growth == BoostedOptions::Growth::symmetric ? 5 : boosted.depth, 0, 1000);
    boosted.rate = train.number("rate", boosted.rate, 1e-6, 10);
    boosted.min_leaf_rows = train.count("min_leaf_rows", boosted.min_leaf_rows, 1, 1u << 30);
    boosted.min_leaf_hessian = train.number("min_leaf_hessian", boosted.min_leaf_hessian, 0, 1e9);
    boosted.l2 = train.number("l2", boosted.l2, 0, 1e9);
    boosted.min_gain = train.number("min_gain", boosted.min_gain, 0, 1e9);
    boosted.feature_share = train.number("feature_share", boosted.feature_share, 0.001, 1);
    boosted.costly_share = train.number("costly_share", boosted.costly_share, 0.001, 1);
    boosted.row_share = train.number("row_share", boosted.row_share, 0.001, 1);
    boosted.bins = train.count("bins", boosted.bins, 2, 255);
    boosted.patience = train.count("patience", boosted.patience, 0, 100000);
    options.encoder = sessions && recipe.has("encoder");
    if (options.encoder) read_recurrent(recipe.section("encoder"), validation, options);
  }
  return options;
}

/// Levels of questions that a tree may have; 0 where no trees are trained.
unsigned deepest_tree(const TrainerOptions& options) {
  const BoostedOptions& boosted = options.boosted;
  if (options.trainer == "forest") return options.forest.depth;
  if (options.trainer != "boosted") return 0;
  if (boosted.growth == BoostedOptions::Growth::symmetric) return boosted.depth;
  const unsigned by_leaves = boosted.leaves - 1;
  return boosted.depth == 0 ? by_leaves : std::min(boosted.depth, by_leaves);
}

}  // namespace

Settings read_settings(const Recipe::Section& recipe) {
  Settings settings;
  settings.trainer = read_trainer(recipe);
  const Recipe::Section calibration = recipe.section("calibration");
  settings.calibration = calibration.choice("method", "none", {"none", "platt", "isotonic"});
  settings.calibrate_on = calibration.choice("on", "validation", {"validation", "folds"});
  settings.folds = recipe.section("cross_validation").count("folds", 0, 0, 1000);
  const Recipe::Section blob = recipe.section("blob");
  const bool int16 = blob.choice("leaves", "exact", {"exact", "int16"}) == "int16";
  settings.storage = {int16 ? LeafStorage::int16 : LeafStorage::exact,
                      tree_layouts.at(blob.choice("layout", "auto", {"auto", "walk", "complete"}))};
  // Trees that are too deep are not found only after training.
  const unsigned deepest = deepest_tree(settings.trainer);
  if (settings.storage.layout == TreeLayout::complete && deepest > deepest_complete_tree)
    blob.fail("layout", "is \"complete\", for trees of at most " + std::to_string(deepest_complete_tree) +
                            " levels, and these may have " + std::to_string(deepest) +
                            ": set train.depth to " + std::to_string(deepest_complete_tree) + " or less");
  settings.golden = blob.count("golden", 8, 0, 10000);
  const bool network = settings.trainer.trainer == "recurrent" || settings.trainer.encoder;
  if (network) {
    const std::string weights = blob.choice("weights", "float32", {"float32", "float16", "int8"});
    settings.weights = weights == "int8"      ? schema::WeightFormat::Int8
                       : weights == "float16" ? schema::WeightFormat::Float16
                                              : schema::WeightFormat::Float32;
    settings.quantize_epochs = blob.count("quantize_epochs", 0, 0, 10000);
    if (settings.quantize_epochs > 0 && settings.weights != schema::WeightFormat::Int8)
      blob.fail("quantize_epochs", "is for weights = \"int8\"");
  }
  // The trees' reference reads the encoder's states as they are shipped.
  const double rounding = settings.trainer.trainer != "recurrent"             ? 0
                          : settings.weights == schema::WeightFormat::Int8    ? 0.1
                          : settings.weights == schema::WeightFormat::Float16 ? 0.01
                                                                              : 0;
  settings.tolerance = blob.number("tolerance", std::max(rounding, int16 ? 1e-3 : 1e-5), 0, 1);
  (void)recipe.text("name");
  for (const char* key : {"title", "version", "task", "label", "licence"}) (void)recipe.text(key, "");
  (void)recipe.section("published").number("accuracy", 0.0, 0, 1);

  if (settings.calibration != "none" && settings.calibrate_on == "folds" && settings.folds < 2)
    calibration.fail("on", "is \"folds\", so [cross_validation] folds must be at least 2");
  if (settings.calibration != "none" && settings.calibrate_on == "validation" &&
      recipe.section("validation").number("held_out", 0.0, 0, 0.9) == 0)
    calibration.fail("on", "is \"validation\", so [validation] held_out must be above 0");
  if (settings.trainer.trainer == "recurrent" && settings.calibration != "none")
    calibration.fail("method", "must be \"none\" for a recurrent network: let it stop early instead");
  if (settings.trainer.encoder && settings.folds > 0)
    recipe.section("cross_validation")
        .fail("folds", "must be 0 with an [encoder], which is trained on all of the training sessions");
  if (settings.trainer.trainer == "svm" && settings.calibration == "none")
    calibration.fail(
        "method",
        "must be \"platt\" or \"isotonic\" for a support vector machine: its margin is no probability");
  return settings;
}

void require_numbers(const Dataset& data, const std::vector<std::string>& names, const std::string& trainer,
                     const char* which) {
  if (trainer == "forest" || trainer == "boosted") return;
  for (std::size_t feature = 0; feature < data.features; ++feature) {
    std::size_t missing = 0, infinite = 0;
    for (std::size_t row = 0; row < data.rows; ++row) {
      missing += std::isnan(data.row(row)[feature]);
      infinite += std::isinf(data.row(row)[feature]);
    }
    if (missing + infinite == 0) continue;
    throw Error("the feature '" + names[feature] + "' is " + (missing > 0 ? "missing" : "infinite") + " in " +
                std::to_string(missing > 0 ? missing : infinite) + " of " + std::to_string(data.rows) + " " +
                which + " rows, but the trainer '" + trainer + "' needs numbers: " +
                (missing > 0 ? "let [missing] policy fill them (mean, median, zero), or train trees"
                             : "mend the data or the encoder's scale"));
  }
}

TrainedModel fit(const TrainerOptions& options, const Dataset& data, const Dataset& validation,
                 const Training& training) {
  if (options.trainer == "network") return {train_network(data, validation, options.network, training), {}};
  if (options.trainer == "forest") return {train_forest(data, options.forest, training), {}};
  const Calibration link{Calibration::Method::sigmoid, 1, 0, {}, {}};
  if (options.trainer == "boosted") return {train_boosted(data, validation, options.boosted, training), link};
  return {train_linear(data, options.linear, training), link};
}

namespace {

std::vector<double> reference_probabilities(const TrainedModel& model, const Dataset& data, Threads& threads,
                                            bool scores_only = false) {
  constexpr std::size_t block_rows = 256;
  std::vector<double> result(data.rows);
  threads.run((data.rows + block_rows - 1) / block_rows, [&](std::size_t block) {
    for (std::size_t row = block * block_rows; row < std::min(data.rows, (block + 1) * block_rows); ++row)
      result[row] =
          scores_only ? reference_score(model, data.row(row)) : reference_probability(model, data.row(row));
  });
  return result;
}

/// Trains on all folds but one and predicts that one, with encoders fitted on the same rows; returns the
/// raw score of every row from the model that did not see it.
std::vector<double> cross_validate(const Recipe::Section& recipe, const Experiment& experiment,
                                   const TrainerOptions& options, unsigned folds, Training training,
                                   std::vector<Metrics>& metrics) {
  const std::vector<std::size_t>& rows = experiment.split.training;
  const std::vector<unsigned> fold_of = assign_folds(experiment.table, rows, experiment.group, folds,
                                                     static_cast<std::uint32_t>(training.seed));
  std::vector<double> scores(rows.size());
  const std::string label = training.label;
  for (unsigned fold = 0; fold < folds; ++fold) {
    std::vector<std::size_t> fit_rows, test_rows, test_places;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (fold_of[i] != fold)
        fit_rows.push_back(rows[i]);
      else
        test_rows.push_back(rows[i]), test_places.push_back(i);
    }
    FeatureProgram program = fit_features(recipe, experiment.table, fit_rows, training.threads);
    const Dataset data = collect(program, experiment.table, fit_rows, training.threads);
    const Dataset test = collect(program, experiment.table, test_rows, training.threads);
    const Dataset validation =
        collect(program, experiment.table, experiment.split.validation, training.threads);
    training.stage = "fold " + std::to_string(fold + 1);
    training.label = label + ", " + training.stage + " of " + std::to_string(folds);
    const TrainedModel model = fit(options, data, validation, training);
    metrics.push_back(measure(reference_probabilities(model, test, training.threads), test.target));
    const std::vector<double> fold_scores = reference_probabilities(model, test, training.threads, true);
    for (std::size_t i = 0; i < test_places.size(); ++i) scores[test_places[i]] = fold_scores[i];
  }
  return scores;
}

}  // namespace

std::string producer_text() {
  return "tonearm " + std::to_string(TONEARM_VERSION_MAJOR) + "." + std::to_string(TONEARM_VERSION_MINOR) +
         "." + std::to_string(TONEARM_VERSION_PATCH);
}

void fill_card(schema::CardT& card, const Recipe& recipe, const std::string& label) {
  const Recipe::Section root = recipe.root();
  card.name = root.text("name");
  card.version = root.text("version", "1");
  card.task = root.text("task", card.task);
  card.label = root.text("label", label);
  card.licence = root.text("licence", "");
  card.producer = producer_text();
  card.recipe = recipe.merged_text();
}

void add_metric(schema::CardT& card, const char* name, double trained, double shipped) {
  auto metric = std::make_unique<schema::MetricT>();
  metric->name = name;
  metric->trained = static_cast<float>(trained);
  metric->shipped = static_cast<float>(shipped);
  card.metrics.push_back(std::move(metric));
}

void require_tolerance(double largest_change, double tolerance) {
  if (largest_change <= tolerance) return;
  char text[200];
  std::snprintf(
      text, sizeof text,
      "conversion changes a held-out probability by %.3g, above the recipe's blob.tolerance of %.3g: "
      "nothing was written; allow more, or store leaves or weights more exactly",
      largest_change, tolerance);
  throw Error(text);
}

namespace {

void fill_card(schema::CardT& card, const Recipe& recipe, const Experiment& experiment, std::uint32_t seed) {
  const std::string target = recipe.root().section("data").text("target");
  card.task = target;
  fill_card(card, recipe, target + " is 1");
  card.synthetic = experiment.synthetic;
  const std::string description = recipe.root().section("data").text("description", "");
  card.data = (experiment.synthetic ? "SYNTHETIC: " : "") + description + (description.empty() ? "" : ", ") +
              std::to_string(experiment.table.rows) + " rows of " +
              std::to_string(experiment.table.files.size()) +
              (experiment.table.files.size() == 1 ? " file" : " files");
  const std::vector<float> labels = targets(experiment.table, experiment.split.training);
  card.base_rate = static_cast<float>(std::accumulate(labels.begin(), labels.end(), 0.0) /
                                      static_cast<double>(labels.size()));
  card.split = std::make_unique<schema::SplitT>();
  card.split->rule = experiment.split.rule;
  card.split->seed = seed;
  card.split->train_rows =
      static_cast<std::uint32_t>(experiment.split.training.size() + experiment.split.validation.size());
  card.split->held_out_rows = static_cast<std::uint32_t>(experiment.split.held_out.size());
  card.split->digest = experiment.split.digest;
}

/// Some held-out rows, spread over all of them, and one with everything missing.
std::vector<float> golden_rows(const Table& table, std::span<const std::size_t> held_out, std::size_t count) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < std::min(count, held_out.size()); ++i)
    chosen.push_back(held_out[i * held_out.size() / std::min(count, held_out.size())]);
  std::vector<float> rows = gather_rows(table, chosen);
  rows.insert(rows.end(), table.columns.size(), std::nanf(""));
  return rows;
}

}  // namespace

TableSpec table_spec(const Recipe::Section& recipe, const std::filesystem::path& folder) {
  const Recipe::Section data = recipe.section("data");
  TableSpec spec;
  spec.path = folder;
  if (data.has("folder") && std::filesystem::is_directory(folder / data.text("folder")))
    spec.path = folder / data.text("folder");
  spec.files = data.text("files", "*.csv");
  spec.target = data.text("target");
  (void)data.text("description", "");
  const Recipe::Section columns = recipe.section("columns");
  const std::vector<std::string> drop = data.texts("drop");
  const auto add = [&](const char* key, ColumnType type) {
    for (const std::string& name : columns.texts(key)) {
      if (std::find(drop.begin(), drop.end(), name) != drop.end()) continue;
      if (name == spec.target)
        columns.fail(key, "lists the target '" + name + "': a model that reads its answer is a leak");
      for (const ColumnSpec& before : spec.columns)
        if (before.name == name) columns.fail(key, "lists '" + name + "', which is listed before");
      spec.columns.push_back({name, type, {}});
    }
  };
  add("numbers", ColumnType::number);
  add("categories", ColumnType::category);
  if (spec.columns.empty()) columns.fail("numbers", "or categories must list at least one column");
  for (const std::string& name : drop) {
    const auto numbers = columns.texts("numbers"), categories = columns.texts("categories");
    if (std::find(numbers.begin(), numbers.end(), name) == numbers.end() &&
        std::find(categories.begin(), categories.end(), name) == categories.end())
      data.fail("drop", "names '" + name + "', which [columns] does not list");
  }
  const Recipe::Section where = data.section("where");
  for (const std::string& name : where.keys()) spec.filters.push_back({name, where.numbers(name)});
  const SplitSpec split = chosen_split(recipe);
  add_unique(spec.extra, split.column);
  add_unique(spec.groups, split.group);
  for (const std::string& guard : split.guards) add_unique(spec.groups, guard);
  return spec;
}

TableSpec table_spec(const Blob& blob, const std::filesystem::path& file) {
  TableSpec spec;
  spec.path = file;
  for (std::uint32_t i = 0; i < blob.info().columns; ++i) {
    tonearm_column column{};
    column.struct_size = sizeof column;
    tonearm_model_column_at(&blob.model(), i, &column);
    ColumnSpec wanted{column.name, column.categories > 0 ? ColumnType::category : ColumnType::number, {}};
    for (std::uint32_t c = 0; c < column.categories; ++c)
      wanted.vocabulary.emplace_back(tonearm_model_category_text(&blob.model(), i, c));
    spec.columns.push_back(std::move(wanted));
  }
  return spec;
}

void check_settings(const Recipe::Section& recipe) { (void)read_settings(recipe); }

Experiment load_experiment(const Recipe::Section& recipe, const std::filesystem::path& folder,
                           std::uint32_t seed, const schema::ModelT* vocabulary_of) {
  TableSpec spec = table_spec(recipe, folder);
  if (vocabulary_of != nullptr) {
    const auto same_name = [](const ColumnSpec& asked, const auto& held) { return asked.name == held->name; };
    if (!std::equal(spec.columns.begin(), spec.columns.end(), vocabulary_of->columns.begin(),
                    vocabulary_of->columns.end(), same_name))
      throw Error(
          "the recipe in the card lists other columns than the blob reads: it was not made by this recipe");
    for (std::size_t i = 0; i < spec.columns.size(); ++i)
      spec.columns[i].vocabulary = vocabulary_of->columns[i]->vocabulary;
  }
  Experiment experiment;
  experiment.table = read_table(spec);
  const SplitSpec split = chosen_split(recipe);
  experiment.group = split.group;
  experiment.split = make_split(experiment.table, split, seed);
  keep_trained_categories(experiment.table, experiment.split.training);
  experiment.warnings = require_usable(experiment.table, experiment.split.training);
  for (const auto& file : experiment.table.files)
    if (file.filename().string().starts_with("synthetic")) experiment.synthetic = true;
  return experiment;
}

std::string fingerprint(const Recipe& recipe, const Experiment& experiment, std::uint32_t seed) {
  std::uint64_t sum = 0;
  for (const std::size_t row : experiment.split.training) sum += mix64(experiment.table.identity[row]);
  char text[64];
  std::snprintf(text, sizeof text, "%016llx-%016llx-%u",
                static_cast<unsigned long long>(hash_text(recipe.merged_text())),
                static_cast<unsigned long long>(sum), seed);
  return text + experiment.split.digest;
}

std::vector<float> targets(const Table& table, std::span<const std::size_t> rows) {
  std::vector<float> result;
  for (const std::size_t row : rows) result.push_back(table.target[row]);
  return result;
}

std::vector<double> blob_probabilities(const Blob& blob, const Table& table,
                                       std::span<const std::size_t> rows, Threads& threads) {
  const std::vector<float> values = blob.evaluate_rows(gather_rows(table, rows), threads);
  return {values.begin(), values.end()};
}

Outcome run_experiment(const Recipe& recipe, const Experiment& experiment, std::uint32_t seed,
                       Threads& threads, const Checkpoint& checkpoint) {
  const Recipe::Section root = recipe.root();
  const Settings settings = read_settings(root);
  Outcome outcome;
  outcome.tolerance = settings.tolerance;
  fill_card(*(outcome.model.card = std::make_unique<schema::CardT>()), recipe, experiment, seed);
  FeatureProgram program = fit_features(root, experiment.table, experiment.split.training, threads);
  recipe.require_all_known();  // everything has been read: complain now, not after hours of training

  Training training{threads, seed, root.text("name") + ", seed " + std::to_string(seed), "final", checkpoint};
  const Dataset data = collect(program, experiment.table, experiment.split.training, threads);
  const Dataset validation = collect(program, experiment.table, experiment.split.validation, threads);
  const Dataset held_out = collect(program, experiment.table, experiment.split.held_out, threads);
  require_numbers(data, program.names, settings.trainer.trainer, "training");
  require_numbers(validation, program.names, settings.trainer.trainer, "validation");
  require_numbers(held_out, program.names, settings.trainer.trainer, "held-out");

  std::vector<double> calibration_scores;
  std::vector<float> calibration_targets;
  if (settings.folds > 0) {
    calibration_scores =
        cross_validate(root, experiment, settings.trainer, settings.folds, training, outcome.folds);
    calibration_targets = targets(experiment.table, experiment.split.training);
  }

  const auto start = std::chrono::steady_clock::now();
  TrainedModel trained = fit(settings.trainer, data, validation, training);
  outcome.train_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (settings.calibration != "none") {
    if (settings.calibrate_on == "validation") {
      calibration_scores = reference_probabilities(trained, validation, threads, true);
      calibration_targets = validation.target;
    }
    trained.calibration = settings.calibration == "platt"
                              ? fit_platt(calibration_scores, calibration_targets)
                              : fit_isotonic(calibration_scores, calibration_targets);
  }

  auto card = std::move(outcome.model.card);
  outcome.model = std::move(program.model);
  outcome.model.card = std::move(card);
  append_predictor(outcome.model, trained, program.first, program.count, settings.storage);

  // The blob as it will ship, against the model as it was trained.
  const std::vector<double> reference = reference_probabilities(trained, held_out, threads);
  const std::vector<double> shipped = blob_probabilities(
      Blob(pack(outcome.model), "the new blob"), experiment.table, experiment.split.held_out, threads);
  for (std::size_t i = 0; i < shipped.size(); ++i) {
    const double change = std::abs(shipped[i] - reference[i]);
    outcome.largest_change = std::isnan(change) ? 1 : std::max(outcome.largest_change, change);
    outcome.mean_change += change / static_cast<double>(shipped.size());
  }
  require_tolerance(outcome.largest_change, outcome.tolerance);
  outcome.trained = measure(reference, held_out.target);
  outcome.shipped = measure(shipped, held_out.target);
  schema::CardT& filled = *outcome.model.card;
  add_metric(filled, "accuracy", outcome.trained.accuracy, outcome.shipped.accuracy);
  add_metric(filled, "auc", outcome.trained.auc, outcome.shipped.auc);
  add_metric(filled, "log_loss", outcome.trained.log_loss, outcome.shipped.log_loss);
  add_metric(filled, "calibration_error", outcome.trained.calibration_error,
             outcome.shipped.calibration_error);
  filled.conversion = std::make_unique<schema::ConversionT>();
  filled.conversion->rows = static_cast<std::uint32_t>(shipped.size());
  filled.conversion->largest_change = static_cast<float>(outcome.largest_change);
  filled.conversion->mean_change = static_cast<float>(outcome.mean_change);
  filled.conversion->tolerance = static_cast<float>(outcome.tolerance);
  if (settings.golden > 0)
    add_golden(outcome.model, golden_rows(experiment.table, experiment.split.held_out, settings.golden));
  outcome.blob = pack(outcome.model);
  const Blob finished(outcome.blob, "the new blob");  // whatever is written can be opened
  return outcome;
}

}  // namespace tonearm
