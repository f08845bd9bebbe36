#include "commands/session_experiment.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "commands/report.h"
#include "commands/session_networks.h"
#include "data/table.h"
#include "quantize/quantize.h"
#include "train/binning.h"

namespace tonearm {

Questions read_questions(const Recipe::Section& recipe) {
  const Recipe::Section section = recipe.section("examples");
  Questions questions;
  questions.horizons = section.count("horizons", 5, 1, 20);
  questions.thin = section.flag("thin", false);
  if (section.has("moments")) {
    questions.upcoming = questions.started = false;
    for (const std::string& moment : section.texts("moments")) {
      if (moment != "upcoming" && moment != "started")
        section.fail("moments", "names '" + moment + "'; there are upcoming and started");
      (moment == "upcoming" ? questions.upcoming : questions.started) = true;
    }
    if (!questions.upcoming && !questions.started && questions.horizons == 1)
      section.fail("moments", "is empty and horizons is 1, which leaves no question to ask");
  }
  return questions;
}

namespace {

using Part = SessionSplit::Part;

/// The bytes that examples, bins and scores may take.
std::size_t memory_bytes(const Recipe::Section& recipe) {
  return static_cast<std::size_t>(recipe.section("train").number("memory_mb", 1024.0, 16, 1e7) * 1e6);
}

/// Replays logs and hands over the questions about the wanted sessions, batch by batch, in order; with
/// `steps`, a program of steps, these too.
class Replays {
 public:
  Replays(const LogSource& source, const Blob& blob, const Questions& questions, Threads& threads,
          std::string label, const Blob* steps = nullptr)
      : source_(source),
        blob_(blob),
        steps_(steps),
        questions_(questions),
        threads_(threads),
        label_(std::move(label)) {}

  void run(
      const Wanted& wanted,
      const std::function<void(const Log&, const Replayed&, const std::vector<char>& wanted)>& sink) const {
    for_each_batch(source_, label_, [&](const std::vector<Log>& logs) {
      std::vector<Replayed> replayed(logs.size());
      std::vector<std::vector<char>> chosen(logs.size());
      constexpr std::size_t block = 16;
      threads_.run((logs.size() + block - 1) / block, [&](std::size_t b) {
        Replay replay(blob_, source_.columns(), questions_);
        std::optional<Replay> steps;
        if (steps_ != nullptr) steps.emplace(*steps_, source_.columns(), questions_);
        for (std::size_t i = b * block; i < std::min(logs.size(), (b + 1) * block); ++i) {
          replay.outline(logs[i], replayed[i]);
          bool any = false;
          for (std::size_t play = 0; play < logs[i].plays.size(); ++play) {
            const std::uint32_t session = replayed[i].session[play];
            if (session < chosen[i].size()) continue;
            chosen[i].push_back(wanted(logs[i], logs[i].plays[play], session));
            any |= chosen[i].back() != 0;
          }
          if (any) replay.run(logs[i], replayed[i]);
          if (any && steps) steps->steps(logs[i], replayed[i]);
        }
      });
      for (std::size_t i = 0; i < logs.size(); ++i)
        if (std::find(chosen[i].begin(), chosen[i].end(), 1) != chosen[i].end())
          sink(logs[i], replayed[i], chosen[i]);
    });
  }

 private:
  const LogSource& source_;
  const Blob& blob_;
  const Blob* steps_;
  Questions questions_;
  Threads& threads_;
  std::string label_;
};

/// Feature vectors of the wanted sessions, replayed anew in every pass.
class ReplayedRows : public RowSource {
 public:
  ReplayedRows(const Replays& replays, std::size_t features, Wanted wanted)
      : replays_(replays), features_(features), wanted_(std::move(wanted)) {}

  std::size_t features() const override { return features_; }

  void read(const std::function<void(const RowBlock&)>& sink) override {
    std::vector<float> values, target;
    const auto hand_over = [&] {
      if (!target.empty()) sink({target.size(), values, target});
      values.clear();
      target.clear();
    };
    replays_.run(wanted_, [&](const Log&, const Replayed& replayed, const std::vector<char>& wanted) {
      for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
        const Example& example = replayed.examples[i];
        if (!wanted[example.session] || example.challenge) continue;
        const float* row = replayed.outputs.data() + i * features_;
        values.insert(values.end(), row, row + features_);
        target.push_back(example.target);
      }
      if (target.size() >= block_rows) hand_over();
    });
    hand_over();
  }

  /// All rows at once, unless they take more than `bytes`.
  std::optional<Dataset> collect(std::size_t bytes) {
    struct TooMany {};
    Dataset data;
    data.features = features_;
    try {
      read([&](const RowBlock& block) {
        if ((data.values.size() + block.values.size()) * sizeof(float) > bytes) throw TooMany();
        data.rows += block.rows;
        data.values.insert(data.values.end(), block.values.begin(), block.values.end());
        data.target.insert(data.target.end(), block.target.begin(), block.target.end());
      });
    } catch (const TooMany&) {
      return std::nullopt;
    }
    return data;
  }

 private:
  static constexpr std::size_t block_rows = 4096;
  const Replays& replays_;
  std::size_t features_;
  Wanted wanted_;
};

/// Rows in memory where they fit, else replayed.
struct Rows {
  std::optional<Dataset> dataset;
  std::unique_ptr<RowSource> source;

  Rows(const Replays& replays, std::size_t features, const Wanted& wanted, std::size_t bytes) {
    auto replayed = std::make_unique<ReplayedRows>(replays, features, wanted);
    dataset = replayed->collect(bytes);
    if (dataset)
      source = std::make_unique<DatasetRows>(*dataset);
    else
      source = std::move(replayed);
  }
};

struct Preparation {
  Settings settings;
  Questions questions;
  std::unique_ptr<LogSource> logs;
  std::unique_ptr<SessionSplit> split;
  std::unique_ptr<SessionProgram> program;
  std::unique_ptr<Blob> features;  // the program alone: its outputs are the features
  std::unique_ptr<Blob> steps;     // of a network over sessions, if it has branches that read them
  /// Of trees that read encoders, once these have been trained.
  RecurrentNetwork encoder;
  std::optional<SessionRanges> encoder_ranges;
  std::size_t bytes = 0;

  bool network() const { return settings.trainer.trainer == "recurrent"; }

  Wanted part(Part part) const {
    return [this, part](const Log& log, const Play& first, std::uint32_t) {
      return split->part(log, first) == part;
    };
  }
};

/// Branches are parts of a network, and only those over the session are encoders.
void require_fitting_branches(const Recipe::Section& root, const Preparation& made) {
  const TrainerOptions& options = made.settings.trainer;
  const auto& branches = made.program->branches();
  if (made.settings.quantize_epochs > 0)
    for (const auto& branch : branches)
      for (const BranchOptions::Level& level : branch.options.levels)
        if (level.cell == Cell::rnn_relu)
          root.section("blob").fail("quantize_epochs",
                                    "is above 0, but the branch '" + branch.name +
                                        "' has rnn_relu cells, whose states have no bound: use "
                                        "another cell, or set it to 0");
  if (options.trainer == "recurrent") {
    if (branches.empty())
      root.fail(
          "features",
          "have no branch: give the network at least one with encode = \"recurrent\", or let the trainer "
          "be \"network\"");
    return require_given(*made.program);
  }
  const auto over_session = std::count_if(branches.begin(), branches.end(), [](const auto& branch) {
    return branch.options.source == BranchOptions::Source::steps;
  });
  if (options.encoder && over_session == 0)
    root.fail("encoder", "is given, but no feature has encode = \"recurrent\" with source = \"session\"");
  for (const SessionProgram::Branch& branch : branches) {
    if (branch.name.empty()) continue;
    if (!options.encoder)
      root.fail("features", "have the branch '" + branch.name + "', which train.trainer = \"" +
                                options.trainer +
                                "\" cannot train: let it be \"recurrent\", or give "
                                "boosted trees an [encoder]");
    if (branch.options.source != BranchOptions::Source::steps)
      root.fail("features", "have the branch '" + branch.name +
                                "', which does not read the session: trees can only read encoders that do");
  }
}

Preparation prepare(const Recipe& recipe, const std::filesystem::path& folder, std::uint32_t seed,
                    Threads& threads) {
  const Recipe::Section root = recipe.root();
  Preparation made;
  made.settings = read_settings(root);
  if (made.settings.calibration != "none" && made.settings.calibrate_on != "validation")
    root.section("calibration").fail("on", "must be \"validation\" for sessions");
  made.questions = read_questions(root);
  made.bytes = memory_bytes(root);
  (void)root.section("data").text("description", "");
  made.logs = open_logs(root.section("data"), folder, columns_read(root), threads);
  made.split = std::make_unique<SessionSplit>(root, *made.logs, seed);
  const auto fit = [&](schema::ModelT& model) {
    const Blob blob(pack(model), "the feature program");
    Questions started;
    started.upcoming = false;
    started.horizons = 1;
    Moments::Accumulator moments;
    Replays(*made.logs, blob, started, threads, "fitting encoders")
        .run(made.part(Part::training),
             [&](const Log&, const Replayed& replayed, const std::vector<char>& wanted) {
               for (std::size_t i = 0; i < replayed.examples.size(); ++i)
                 if (wanted[replayed.examples[i].session])
                   moments.add(blob.outputs(), replayed.outputs.data() + i * blob.outputs(), 1);
             });
    return moments.finish();
  };
  made.program = std::make_unique<SessionProgram>(root, made.logs->columns(), fit);
  schema::ModelT gathered = made.program->gathered();
  made.features = std::make_unique<Blob>(pack(gathered), "the feature program");
  require_fitting_branches(root, made);
  if (made.program->step_features() > 0) {
    schema::ModelT steps = made.program->steps();
    made.steps = std::make_unique<Blob>(pack(steps), "the program of steps");
  }
  recipe.require_all_known();  // everything has been read: complain now, not after hours of training
  return made;
}

/// Whole sessions with the questions about them, for networks.
SessionData collect_sessions(const Preparation& made, const Replays& replays, const Wanted& wanted,
                             std::size_t bytes) {
  const std::vector<std::string>& tasks = made.settings.trainer.tasks;
  SessionData data = no_sessions(*made.program, tasks);
  replays.run(wanted, [&](const Log& log, const Replayed& replayed, const std::vector<char>& chosen) {
    add_sessions(data, log, replayed, chosen, tasks, false);
    if (bytes_of(data) > bytes)
      throw Error("a recurrent network keeps its sessions in memory, and these take more than " +
                  std::to_string(bytes / 1000000) +
                  " MB, their share of train.memory_mb: raise it, or ask fewer questions ([examples] "
                  "horizons, moments, "
                  "thin)");
  });
  return data;
}

/// With the weights of its networks as the recipe wants them.
schema::ModelT with_weights(const Preparation& made, schema::ModelT model, Threads& threads) {
  if (made.settings.weights == schema::WeightFormat::Float32) return model;
  const QuantizeOptions options{made.settings.weights, false};
  return quantize(model, options, measure_ranges(model, options, [&](schema::ModelT& part) {
                    return largest_outputs(*made.logs, made.questions, made.part(Part::training), part,
                                           threads);
                  }));
}

/// Trained, and then perhaps trained on through the rounding of int8.
RecurrentNetwork train_network_on(const Preparation& made, const SessionData& data,
                                  const SessionData& validation, const SessionRanges& ranges,
                                  Training training) {
  RecurrentOptions options = with_branches(made.settings.trainer.recurrent, *made.program, ranges);
  RecurrentNetwork network = train_recurrent(data, validation, options, training);
  if (made.settings.quantize_epochs == 0) return network;
  options.quantized = true;
  options.batch_normalisation = false;  // it is folded into the weights by now
  options.epochs = made.settings.quantize_epochs;
  options.rate *= 0.1;
  options.schedule = RecurrentOptions::Schedule::cosine;
  options.warmup = 0;
  training.stage += ", quantized";
  training.label += ", quantized";
  return refine_recurrent(network, data, validation, options, training);
}

/// The encoders that trees read: trained with a head of their own, whose rows are scaled for it.
void train_encoder(Preparation& made, SessionData data, SessionData validation, Training training) {
  made.encoder_ranges.emplace(data);
  const RowScale scale(data);
  scale.apply(data);
  scale.apply(validation);
  training.stage = "encoder";
  training.label += ", encoder";
  made.encoder = train_network_on(made, data, validation, *made.encoder_ranges, training);
  schema::ModelT model = made.program->gathered();
  const std::uint16_t first = model.output_offset;
  append_encoders(model, *made.program, made.encoder, *made.encoder_ranges);
  model = with_weights(made, std::move(model), training.threads);
  model.output_offset = first;
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - first);
  made.features =
      std::make_unique<Blob>(pack(model), "the feature program with its encoders", TONEARM_CPU_SCALAR);
}

TrainedModel train_on(const Preparation& made, Rows& rows, Rows& validation, const Training& training,
                      const std::filesystem::path& folder) {
  const TrainerOptions& options = made.settings.trainer;
  if (options.trainer == "boosted") {
    const MemoryLimit limit{made.bytes / 2, folder};
    BoostedOptions boosted = options.boosted;
    const auto& slots = made.program->slots();
    boosted.costly_from = static_cast<std::size_t>(
        std::lower_bound(slots.begin(), slots.end(), made.program->context_end()) - slots.begin());
    boosted.costly_end = slots.size();  // behind them are the states of encoders
    const BinnedRows binned = bin_rows(*rows.source, options.boosted.bins, limit, training.threads);
    const BinnedRows held = bin_rows(*validation.source, binned, {made.bytes / 4, folder}, training.threads);
    return {train_boosted(binned, held.rows > 0 ? &held : nullptr, boosted, training),
            {Calibration::Method::sigmoid, 1, 0, {}, {}}};
  }
  if (!rows.dataset || !validation.dataset)
    throw Error(
        "the trainer '" + options.trainer +
        "' keeps its rows in memory, and they take more than half of train.memory_mb: raise it, or train "
        "boosted trees, which need not keep them");
  require_numbers(*rows.dataset, made.program->names(), options.trainer, "training");
  require_numbers(*validation.dataset, made.program->names(), options.trainer, "validation");
  return fit(options, *rows.dataset, *validation.dataset, training);
}

/// The finished model: trees pick their inputs where the program leaves them, others read them gathered.
schema::ModelT convert(const Preparation& made, const TrainedModel& trained, Threads& threads) {
  const TreeStorage storage = made.settings.storage;
  const SessionProgram& program = *made.program;
  if (const auto* ensemble = std::get_if<TreeEnsemble>(&trained.predictor)) {
    schema::ModelT model = program.scattered();
    if (made.encoder_ranges) {
      append_encoders(model, program, made.encoder, *made.encoder_ranges);
      model = with_weights(made, std::move(model), threads);
    }
    TrainedModel placed{*ensemble, trained.calibration};
    for (Tree& tree : std::get<TreeEnsemble>(placed.predictor).trees)
      for (TreeNode& node : tree.nodes) {
        if (node.feature < 0) continue;
        const auto feature = static_cast<std::size_t>(node.feature), features = program.slots().size();
        node.feature =
            feature < features
                ? program.slots()[feature] - program.first_slot()
                : static_cast<std::int32_t>(program.end_slot() - program.first_slot() + feature - features);
      }
    append_predictor(model, placed, program.first_slot(),
                     static_cast<std::size_t>(next_slot(model) - program.first_slot()), storage,
                     static_cast<std::size_t>(program.context_end() - program.first_slot()));
    return model;
  }
  schema::ModelT model = program.gathered();
  append_predictor(model, trained, model.output_offset, model.output_length, storage);
  return model;
}

/// What was trained, in its own precision: the reference that the blob is compared with.
struct Reference {
  TrainedModel model;                       // of the features
  std::optional<RecurrentNetwork> network;  // instead of it, of whole sessions

  /// The probability of each question about the wanted sessions of a log; `replayed` has the features, and
  /// for a network the steps.
  std::vector<double> probabilities(const Preparation& made, const Log& log, const Replayed& replayed,
                                    const std::vector<char>& wanted) const {
    if (network) {
      SessionData data = no_sessions(*made.program, {});
      add_sessions(data, log, replayed, wanted, {}, true);
      Threads one(1);
      return recurrent_probabilities(*network, data, one);
    }
    std::vector<double> result;
    const std::size_t features = made.features->outputs();
    for (std::size_t e = 0; e < replayed.examples.size(); ++e)
      if (wanted[replayed.examples[e].session])
        result.push_back(
            reference_probability(model, std::span(replayed.outputs).subspan(e * features, features)));
    return result;
  }
};

/// A few sessions as events, for devices to re-check.
void add_golden_events(schema::ModelT& model, const std::vector<Log>& logs,
                       const std::vector<LogColumn>& columns) {
  model.golden = nullptr;
  const Blob blob(pack(model), "the new blob", TONEARM_CPU_SCALAR);
  auto golden = std::make_unique<schema::GoldenT>();
  golden->tolerance = 1e-6f;
  std::vector<float> row(blob.columns());
  std::vector<std::uint32_t> scratch(blob.scratch_elements()),
      memory((tonearm_session_size(&blob.model()) + 3) / 4);
  tonearm_session* session = nullptr;
  tonearm_session_init(&blob.model(), memory.data(), memory.size() * 4, &session);
  const auto seconds = [](std::int64_t time) {
    return time > 0 && time <= UINT32_MAX ? static_cast<std::uint32_t>(time) : 0u;
  };
  const auto add = [&](schema::GoldenEventKind kind, const Play& play, const Play* playing, std::int64_t time,
                       unsigned horizon) {
    const bool end = kind == schema::GoldenEventKind::End;
    const tonearm_start* start = kind == schema::GoldenEventKind::Start ? &play.start
                                 : playing == nullptr                   ? nullptr
                                                                        : &playing->start;
    tonearm_session_row(&blob.model(), &play.track, &play.now, start, end ? &play.end : nullptr, row.data(),
                        static_cast<std::uint32_t>(row.size()));
    golden->rows.insert(golden->rows.end(), row.begin(), row.end());
    auto event = std::make_unique<schema::GoldenEventT>();
    event->kind = kind;
    event->time = seconds(time);
    event->track_id = static_cast<std::uint32_t>(play.track.track_id);
    event->artist_id = static_cast<std::uint32_t>(play.track.artist_id);
    event->horizon = static_cast<std::uint8_t>(horizon);
    golden->events.push_back(std::move(event));
  };
  const auto ask = [&](tonearm_request_kind kind, const Play& play, const Play* playing, unsigned horizon) {
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.kind = kind;
    request.candidates = &play.track;
    request.candidate_count = 1;
    request.now = &play.now;
    float out = 0;
    if (tonearm_predict(&blob.model(), session, &request, scratch.data(), scratch.size() * 4, &out) !=
            TONEARM_OK ||
        !std::isfinite(out))
      return;
    add(schema::GoldenEventKind::Predict, play, playing, play.now.time, horizon);
    golden->outputs.push_back(out);
  };
  for (const Log& log : logs) {
    Replay replay(blob, columns, {});
    Replayed outline;
    replay.outline(log, outline);
    std::vector<Play> plays = replay.plays();
    for (Play& play : plays) {
      // Only as much of ids and times as an event of the blob holds.
      play.track.track_id = static_cast<std::uint32_t>(play.track.track_id);
      play.track.artist_id = static_cast<std::uint32_t>(play.track.artist_id);
      if (seconds(play.now.time) == 0) play.now.time = TONEARM_UNKNOWN_TIME;
      if (seconds(play.end.time) == 0) play.end.time = TONEARM_UNKNOWN_TIME;
      // An unknown end would be estimated from the start.
      if (play.end.time == TONEARM_UNKNOWN_TIME) play.now.time = TONEARM_UNKNOWN_TIME;
    }
    for (const Play& play : plays) {
      ask(TONEARM_QUEUE, play, nullptr, 1);
      add(schema::GoldenEventKind::Start, play, nullptr, play.now.time, 0);
      tonearm_track_start(&blob.model(), session, &play.track, &play.start, &play.now, scratch.data(),
                          scratch.size() * 4);
      ask(TONEARM_PLAYING, play, &play, 0);
      ask(TONEARM_QUEUE, play, &play, 2);
      add(schema::GoldenEventKind::End, play, &play, play.end.time, 0);
      tonearm_track_end(&blob.model(), session, &play.end, scratch.data(), scratch.size() * 4);
    }
  }
  if (!golden->outputs.empty()) model.golden = std::move(golden);
}

/// The first plays of a log, as a log of its own.
Log beginning(const Log& log, std::size_t first, std::size_t count) {
  Log copy = copy_of(log);
  copy.plays.erase(copy.plays.begin(), copy.plays.begin() + static_cast<std::ptrdiff_t>(first));
  if (copy.plays.size() > count) copy.plays.resize(count);
  return copy;
}

}  // namespace

std::vector<float> largest_outputs(const LogSource& logs, const Questions& questions,
                                   const Wanted& wanted_sessions, schema::ModelT& model, Threads& threads) {
  const Blob blob(pack(model), "the model up to an operator", TONEARM_CPU_SCALAR);
  std::vector<float> result(blob.outputs());
  Replays(logs, blob, questions, threads, "measuring ranges")
      .run(wanted_sessions, [&](const Log&, const Replayed& replayed, const std::vector<char>& wanted) {
        for (std::size_t i = 0; i < replayed.examples.size(); ++i)
          for (std::size_t k = 0; wanted[replayed.examples[i].session] && k < result.size(); ++k)
            if (const float value = std::abs(replayed.outputs[i * result.size() + k]); std::isfinite(value))
              result[k] = std::max(result[k], value);
      });
  return result;
}

bool is_session_recipe(const Recipe::Section& recipe) { return recipe.section("data").has("adapter"); }

SessionOutcome run_session_experiment(const Recipe& recipe, const std::filesystem::path& folder,
                                      std::uint32_t seed, Threads& threads,
                                      const std::string& checkpoint_path, bool resume) {
  const Recipe::Section root = recipe.root();
  Preparation made = prepare(recipe, folder, seed, threads);
  const std::filesystem::path temporary = std::filesystem::temp_directory_path();
  SessionOutcome outcome;
  outcome.tolerance = made.settings.tolerance;

  const std::string label = root.text("name") + ", seed " + std::to_string(seed);
  std::optional<Replays> replays(std::in_place, *made.logs, *made.features, made.questions, threads,
                                 label + ", replaying", made.steps.get());
  std::optional<Replays> row_replays;  // which rows that do not fit in memory go back to
  std::unique_ptr<Rows> training, validation;
  std::optional<SessionData> sessions, validation_sessions;
  const auto read_rows = [&] {
    row_replays.emplace(*made.logs, *made.features, made.questions, threads, label + ", replaying");
    outcome.features = made.features->outputs();
    training =
        std::make_unique<Rows>(*row_replays, outcome.features, made.part(Part::training), made.bytes / 2);
    validation =
        std::make_unique<Rows>(*row_replays, outcome.features, made.part(Part::validation), made.bytes / 4);
  };
  if (made.network() || made.settings.trainer.encoder) {
    sessions = collect_sessions(made, *replays, made.part(Part::training), made.bytes / 2);
    validation_sessions = collect_sessions(made, *replays, made.part(Part::validation), made.bytes / 4);
    outcome.features = sessions->step_features + sessions->row_features;
  } else {
    read_rows();
  }

  std::uint64_t digest = hash_text(recipe.merged_text());
  double positives = 0;
  const auto count = [&](float target, std::size_t& examples, bool is_training) {
    ++examples;
    digest = mix64(digest ^ (target > 0.5f ? 1u : 2u));
    if (is_training) positives += target;
  };
  const auto count_all = [&](const std::optional<SessionData>& of_network, const std::unique_ptr<Rows>& rows,
                             std::size_t& examples, bool is_training) {
    if (of_network)
      for (std::size_t i = 0; i < of_network->questions(); ++i)
        count(of_network->targets[i * of_network->tasks], examples, is_training);
    else
      rows->source->read([&](const RowBlock& block) {
        for (const float target : block.target) count(target, examples, is_training);
      });
  };
  count_all(sessions, training, outcome.training_examples, true);
  count_all(validation_sessions, validation, outcome.validation_examples, false);
  if (outcome.training_examples == 0)
    throw Error("no session is left to train on: the split holds out all of them, or no outcome is known");
  const double base_rate = positives / static_cast<double>(outcome.training_examples);
  char fingerprint[64];
  std::snprintf(fingerprint, sizeof fingerprint, "%016llx-%u", static_cast<unsigned long long>(digest), seed);
  outcome.checkpoint =
      checkpoint_path.empty() ? Checkpoint() : Checkpoint(checkpoint_path, fingerprint, resume);

  Training options{threads, seed, label, "final", outcome.checkpoint};
  for (unsigned fold = 0; fold < made.settings.folds; ++fold) {
    const auto in_fold = [&](const Log& log) {
      return mix64(log.identity ^ mix64(seed + 0x666f6c64)) % made.settings.folds == fold;
    };
    const auto wanted = [&](bool test) -> Wanted {
      return [&, test](const Log& log, const Play& first, std::uint32_t) {
        return made.split->part(log, first) == Part::training && in_fold(log) == test;
      };
    };
    options.stage = "fold " + std::to_string(fold + 1);
    options.label = label + ", " + options.stage + " of " + std::to_string(made.settings.folds);
    StreamedMetrics metrics;
    const SessionWeights none;
    if (made.network()) {
      const SessionData fit = collect_sessions(made, *replays, wanted(false), made.bytes / 8);
      const RecurrentNetwork network =
          train_network_on(made, fit, *validation_sessions, SessionRanges(fit), options);
      const SessionData test = collect_sessions(made, *replays, wanted(true), made.bytes / 8);
      const std::vector<double> probabilities = recurrent_probabilities(network, test, threads);
      for (std::size_t i = 0; i < probabilities.size(); ++i)
        metrics.add(probabilities[i], test.targets[i * test.tasks], none);
    } else {
      Rows fit_rows(*replays, outcome.features, wanted(false), made.bytes / 2);
      const TrainedModel model = train_on(made, fit_rows, *validation, options, temporary);
      ReplayedRows(*replays, outcome.features, wanted(true)).read([&](const RowBlock& block) {
        for (std::size_t row = 0; row < block.rows; ++row)
          metrics.add(
              reference_probability(model, block.values.subspan(row * outcome.features, outcome.features)),
              block.target[row], none);
      });
    }
    outcome.folds.push_back(metrics.metrics());
  }
  options.stage = "final";
  options.label = label;
  const auto start = std::chrono::steady_clock::now();
  Reference trained;
  if (made.network()) {
    const SessionRanges ranges(*sessions);
    trained.network = train_network_on(made, *sessions, *validation_sessions, ranges, options);
    outcome.model = made.program->gathered();
    append_network(outcome.model, *made.program, *trained.network, ranges);
    outcome.float_bytes = pack(outcome.model).size();
    outcome.model = with_weights(made, std::move(outcome.model), threads);
    outcome.float_bytes -= pack(outcome.model).size();
  } else {
    if (made.settings.trainer.encoder) {
      replays.reset();  // the program that it replays is replaced
      train_encoder(made, std::move(*sessions), std::move(*validation_sessions), options);
      read_rows();
    }
    trained.model = train_on(made, *training, *validation, options, temporary);
    if (made.settings.calibration != "none") {
      std::vector<double> scores;
      std::vector<float> target;
      validation->source->read([&](const RowBlock& block) {
        for (std::size_t row = 0; row < block.rows; ++row)
          scores.push_back(
              reference_score(trained.model, block.values.subspan(row * outcome.features, outcome.features)));
        target.insert(target.end(), block.target.begin(), block.target.end());
      });
      trained.model.calibration =
          made.settings.calibration == "platt" ? fit_platt(scores, target) : fit_isotonic(scores, target);
    }
    outcome.model = convert(made, trained.model, threads);
  }
  outcome.train_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  schema::CardT& card = *outcome.model.card;
  card.task = "skip";
  fill_card(card, recipe, "the track is skipped");
  card.synthetic = made.logs->synthetic();
  card.leaky = made.program->leaky();
  card.base_rate = static_cast<float>(base_rate);
  const std::string description = root.section("data").text("description", "");
  card.data = (card.synthetic ? "SYNTHETIC: " : "") + description + (description.empty() ? "" : ", ") +
              std::to_string(made.logs->shards()) + (made.logs->shards() == 1 ? " log file" : " log files");

  // The blob as it will ship, against the model as it was trained: both see the same held-out events.
  const Blob blob(pack(outcome.model), "the new blob");
  Questions questions = made.questions;
  questions.thin = false;
  questions.challenge =
      root.section("data").text("adapter") == "mssd" && questions.upcoming && !made.program->leaky();
  // As the card has it, so that `evaluate` finds the same figures to the last digit.
  outcome.report = std::make_unique<SessionReport>(static_cast<double>(card.base_rate));
  StreamedMetrics as_trained;
  std::vector<Log> golden;
  std::size_t golden_plays = 0;
  for_each_batch(*made.logs, label + ", measuring", [&](const std::vector<Log>& logs) {
    struct Work {
      Replayed shipped, features;
      std::vector<char> wanted;
      std::vector<double> reference;
    };
    std::vector<Work> work(logs.size());
    threads.run(logs.size(), [&](std::size_t i) {
      Replay of_blob(blob, made.logs->columns(), questions),
          of_features(*made.features, made.logs->columns(), questions);
      Work& mine = work[i];
      of_blob.outline(logs[i], mine.shipped);
      bool any = false;
      for (std::size_t play = 0; play < logs[i].plays.size(); ++play)
        if (mine.shipped.session[play] >= mine.wanted.size()) {
          mine.wanted.push_back(made.split->part(logs[i], logs[i].plays[play]) == Part::held_out);
          any |= mine.wanted.back() != 0;
        }
      if (!any) return;
      of_blob.run(logs[i], mine.shipped);
      of_features.run(logs[i], mine.features);
      if (trained.network && made.steps)
        Replay(*made.steps, made.logs->columns(), questions).steps(logs[i], mine.features);
      mine.reference = trained.probabilities(made, logs[i], mine.features, mine.wanted);
    });
    for (std::size_t i = 0; i < logs.size(); ++i) {
      const Work& mine = work[i];
      if (mine.reference.empty()) continue;
      outcome.report->add(logs[i], mine.shipped,
                          [&](std::uint32_t session) { return mine.wanted[session] != 0; });
      SessionWeights none;
      auto reference = mine.reference.begin();
      for (std::size_t e = 0; e < mine.shipped.examples.size(); ++e) {
        const Example& example = mine.shipped.examples[e];
        if (!mine.wanted[example.session]) continue;
        const double probability = *reference++;
        const double off = std::abs(probability - static_cast<double>(mine.shipped.outputs[e]));
        // The challenge asks beyond the horizons that were trained, and so beyond the ranges of int8.
        if (example.challenge && made.network() && made.settings.weights == schema::WeightFormat::Int8)
          continue;
        SessionOutcome::Change& change = outcome.changes[std::min(example.position, 21u)];
        ++change.questions;
        change.largest = std::isnan(off) ? 1 : std::max(change.largest, off);
        change.sum += off;
        if (example.horizon == 1 && !example.challenge && example.playing == made.questions.started)
          as_trained.add(probability, example.target, none);
      }
      const std::size_t wanted_plays = made.settings.golden;
      for (std::size_t play = 0; play < logs[i].plays.size() && golden_plays < wanted_plays; ++play)
        if (mine.wanted[mine.shipped.session[play]]) {
          golden.push_back(beginning(logs[i], play, wanted_plays - golden_plays));
          golden_plays += golden.back().plays.size();
          break;
        }
    }
  });
  outcome.report->finish();
  std::size_t compared = 0;
  for (const auto& [position, change] : outcome.changes) {
    outcome.largest_change = std::max(outcome.largest_change, change.largest);
    outcome.mean_change += change.sum;
    compared += change.questions;
  }
  outcome.mean_change /= static_cast<double>(std::max<std::size_t>(1, compared));
  require_tolerance(outcome.largest_change, outcome.tolerance);
  outcome.remarks = made.logs->remarks();

  const Metrics shipped = outcome.report->main().metrics(), reference = as_trained.metrics();
  add_metric(card, "accuracy", reference.accuracy, shipped.accuracy);
  add_metric(card, "auc", reference.auc, shipped.auc);
  add_metric(card, "log_loss", reference.log_loss, shipped.log_loss);
  add_metric(card, "calibration_error", reference.calibration_error, shipped.calibration_error);
  card.conversion = std::make_unique<schema::ConversionT>();
  card.conversion->rows = static_cast<std::uint32_t>(std::min<std::size_t>(shipped.rows, UINT32_MAX));
  card.conversion->largest_change = static_cast<float>(outcome.largest_change);
  card.conversion->mean_change = static_cast<float>(outcome.mean_change);
  card.conversion->tolerance = static_cast<float>(outcome.tolerance);
  card.split = std::make_unique<schema::SplitT>();
  card.split->rule = made.split->rule();
  card.split->seed = seed;
  card.split->train_rows =
      static_cast<std::uint32_t>(std::min<std::size_t>(outcome.training_examples, UINT32_MAX));
  card.split->held_out_rows =
      static_cast<std::uint32_t>(std::min<std::size_t>(outcome.report->plays(), UINT32_MAX));
  card.split->digest = outcome.report->digest();
  if (golden_plays > 0) add_golden_events(outcome.model, golden, made.logs->columns());
  outcome.blob = pack(outcome.model);
  if (made.network()) outcome.float_bytes += outcome.blob.size();
  const Blob finished(outcome.blob, "the new blob");  // whatever is written can be opened
  return outcome;
}

SessionEvaluation evaluate_sessions(const Blob& blob, const schema::ModelT& model, const Recipe& recipe,
                                    const std::filesystem::path& folder, bool all, Threads& threads) {
  const Recipe::Section root = recipe.root();
  SessionEvaluation evaluation;
  // A finished model takes what there is: on a device, too, a catalogue may not know a track.
  const auto logs = open_logs(root.section("data"), folder, columns_read(root), threads, false);
  evaluation.synthetic = logs->synthetic();
  // Whoever was trained on generated sessions has seen none of the real ones.
  const bool imported = model.card->split == nullptr;
  evaluation.foreign = imported || (model.card->synthetic && !evaluation.synthetic);
  std::optional<SessionSplit> split;
  if (!evaluation.foreign) split.emplace(root, *logs, model.card->split->seed);
  evaluation.rule = split      ? split->rule()
                    : imported ? "all sessions; what the imported model was trained on is not known"
                               : "all sessions; the model was trained on generated ones";
  evaluation.in_sample = all && !evaluation.foreign;
  Questions questions = read_questions(root);
  questions.thin = false;
  questions.challenge =
      root.section("data").text("adapter") == "mssd" && questions.upcoming && !model.card->leaky;
  // Of an imported model no base rate is known.
  evaluation.report =
      std::make_unique<SessionReport>(imported ? 0.5 : static_cast<double>(model.card->base_rate));
  Replays(*logs, blob, questions, threads, "replaying")
      .run([&](const Log& log, const Play& first,
               std::uint32_t) { return all || !split || split->part(log, first) == Part::held_out; },
           [&](const Log& log, const Replayed& replayed, const std::vector<char>& wanted) {
             evaluation.report->add(log, replayed,
                                    [&](std::uint32_t session) { return wanted[session] != 0; });
           });
  evaluation.report->finish();
  evaluation.same_data = !imported && evaluation.report->digest() == model.card->split->digest;
  evaluation.remarks = logs->remarks();
  return evaluation;
}

std::string predict_sessions(const Blob& blob, const std::filesystem::path& folder, Threads& threads) {
  schema::ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);
  if (model.card->recipe.empty())
    throw Error("the blob's card has no recipe, so nothing says how its logs are read; use the C API");
  const Recipe recipe = Recipe::from_text(model.card->recipe, "the recipe in the card");
  const auto logs =
      open_logs(recipe.root().section("data"), folder, columns_read(recipe.root()), threads, false);
  Questions questions = read_questions(recipe.root());
  questions.thin = false;
  std::string text = "log,session,position,moment,horizon,skipped,probability\n";
  std::size_t number = 0;
  Replays(*logs, blob, questions, threads, "replaying")
      .run([](const Log&, const Play&, std::uint32_t) { return true; },
           [&](const Log&, const Replayed& replayed, const std::vector<char>&) {
             for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
               const Example& example = replayed.examples[i];
               text += format("%zu,%u,%u,%s,%u,%d,%.9g\n", number, example.session, example.position,
                              moment_name(example.playing, example.horizon), example.horizon,
                              example.target > 0.5f ? 1 : 0, static_cast<double>(replayed.outputs[i]));
             }
             ++number;
           });
  return text;
}

void write_session_features(const Recipe& recipe, const std::filesystem::path& folder, std::uint32_t seed,
                            Threads& threads, const std::filesystem::path& out) {
  const Preparation made = prepare(recipe, folder, seed, threads);
  FileWriter file(out);
  std::string text = "split,session,position,moment,horizon,target";
  for (const std::string& name : made.program->names()) {
    text += ",\"";
    for (const char c : name) text += c == '"' ? "\"\"" : std::string(1, c);
    text += '"';
  }
  text += '\n';
  const auto flush = [&] {
    file.write(text);
    text.clear();
  };
  const std::size_t features = made.features->outputs();
  // Training rows are thinned as the recipe says; held-out ones never are.
  Questions questions = made.questions;
  questions.thin = false;
  Replays(*made.logs, *made.features, questions, threads, "replaying")
      .run(
          [](const Log&, const Play&, std::uint32_t) { return true; },
          [&](const Log& log, const Replayed& replayed, const std::vector<char>&) {
            std::vector<std::size_t> began;
            for (std::size_t play = 0; play < log.plays.size(); ++play)
              if (replayed.session[play] >= began.size()) began.push_back(play);
            for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
              const Example& example = replayed.examples[i];
              const Play& first = log.plays[began[example.session]];
              const Part part = made.split->part(log, first);
              if (made.questions.thin && part != Part::held_out &&
                  (example.position - 1) % example.horizon != 0)
                continue;
              text += part == Part::held_out ? "held_out" : part == Part::validation ? "validation" : "train";
              text += format(",%016llx,%u,%s,%u,%d",
                             static_cast<unsigned long long>(session_identity(log, first, example.session)),
                             example.position, moment_name(example.playing, example.horizon), example.horizon,
                             example.target > 0.5f ? 1 : 0);
              for (std::size_t f = 0; f < features; ++f) {
                text += ',';
                const float value = replayed.outputs[i * features + f];
                if (!std::isnan(value)) text += format("%.9g", static_cast<double>(value));
              }
              text += '\n';
            }
            if (text.size() > 1 << 20) flush();
          });
  flush();
  file.finish();
}

}  // namespace tonearm
