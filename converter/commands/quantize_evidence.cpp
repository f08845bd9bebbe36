#include "commands/quantize_evidence.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "commands/experiment.h"
#include "commands/session_experiment.h"
#include "evaluate/blob.h"

namespace tonearm {

void Changes::add(float before, float after) {
  const bool was_missing = std::isnan(before);
  appeared += was_missing && !std::isnan(after);
  const double change = was_missing ? 0 : std::abs(static_cast<double>(after) - before);
  ++count;
  sum += change;
  largest = std::isnan(change) ? std::numeric_limits<double>::infinity() : std::max(largest, change);
}

void Comparison::add(float before_output, float after_output, std::uint32_t ended) {
  changes.add(before_output, after_output);
  by_ended[static_cast<unsigned>(std::bit_width(ended))].add(before_output, after_output);
}

namespace {

using schema::ModelT;

// Blobs are evaluated by the plain kernels, because what is found goes into the new blob: on every machine
// the same bytes.

std::string count_text(std::size_t count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

Comparison compare_rows(ModelT& before, ModelT& after, const std::vector<float>& rows, Threads& threads) {
  const Blob old_blob(pack(before), "the given blob", TONEARM_CPU_SCALAR),
      new_blob(pack(after), "the quantized blob", TONEARM_CPU_SCALAR);
  const std::vector<float> was = old_blob.evaluate_rows(rows, threads),
                           is = new_blob.evaluate_rows(rows, threads);
  Comparison comparison;
  for (std::size_t i = 0; i < was.size(); ++i) comparison.changes.add(was[i], is[i]);
  return comparison;
}

// ------------------------------------------------------------------------------------------------- evidence

Evidence golden_evidence(const ModelT& model, const std::string& name, Threads& threads) {
  if (model.golden == nullptr || model.golden->rows.empty())
    throw Error(name + ": it has no golden rows to measure changes on: give " +
                (model.session != nullptr ? "--data" : "--rows or --data"));
  Evidence evidence{"the golden rows", over_golden(model), {}};
  if (model.session == nullptr) {
    evidence.compare = [rows = model.golden->rows, &threads](ModelT& before, ModelT& after) {
      Comparison comparison = compare_rows(before, after, rows, threads);
      comparison.over = count_text(rows.size() / before.columns.size(), "golden row", "golden rows");
      return comparison;
    };
    return evidence;
  }
  evidence.compare = [name](ModelT& before, ModelT& after) {
    refresh_golden(before);
    refresh_golden(after);
    if (before.golden == nullptr || after.golden == nullptr ||
        before.golden->outputs.size() != after.golden->outputs.size())
      throw Error(
          name +
          ": its golden events leave outputs missing, so that changes cannot be measured: give --data");
    Comparison comparison;
    std::uint32_t ended = 0;
    std::size_t n = 0;
    for (const auto& event : before.golden->events) {
      ended += event->kind == schema::GoldenEventKind::End;
      if (event->kind != schema::GoldenEventKind::Predict) continue;
      for (unsigned k = 0; k < before.output_length; ++k, ++n)
        comparison.add(before.golden->outputs[n], after.golden->outputs[n], ended);
    }
    comparison.over = count_text(n / before.output_length, "golden question", "golden questions");
    return comparison;
  };
  return evidence;
}

/// The columns of a blob, to be read from CSV files.
TableSpec columns_spec(const ModelT& model, const std::string& path) {
  TableSpec spec;
  spec.path = path;
  for (const auto& column : model.columns)
    spec.columns.push_back({column->name,
                            column->vocabulary.empty() ? ColumnType::number : ColumnType::category,
                            column->vocabulary});
  return spec;
}

Evidence rows_evidence(const ModelT& model, const std::string& path, Threads& threads) {
  const Table table = read_table(columns_spec(model, path));
  if (table.rows == 0) throw Error(path + ": it has no rows to measure on");
  std::vector<std::size_t> which(table.rows);
  std::iota(which.begin(), which.end(), std::size_t{0});
  const auto rows = std::make_shared<const std::vector<float>>(gather_rows(table, which));
  return {count_text(table.rows, "row", "rows"), over_rows(*rows, threads),
          [rows, &threads](ModelT& before, ModelT& after) {
            Comparison comparison = compare_rows(before, after, *rows, threads);
            comparison.over =
                count_text(rows->size() / before.columns.size(), "row", "rows") + " (no outcomes are read)";
            return comparison;
          }};
}

Evidence table_evidence(const ModelT& model, const std::string& name, const std::string& data,
                        Threads& threads) {
  if (model.card->recipe.empty() || model.card->split == nullptr)
    throw Error(name +
                ": its card names no recipe and no split, so nothing says how --data is read: give --rows");
  const Recipe recipe = Recipe::from_text(model.card->recipe, name + " (recipe in the card)");
  const auto experiment = std::make_shared<const Experiment>(
      load_experiment(recipe.root(), data, model.card->split->seed, &model));
  const Split& split = experiment->split;
  return {count_text(split.training.size(), "training row", "training rows"),
          over_rows(gather_rows(experiment->table, split.training), threads),
          [experiment, digest = model.card->split->digest, &threads](ModelT& before, ModelT& after) {
            const Split& parts = experiment->split;
            Comparison comparison =
                compare_rows(before, after, gather_rows(experiment->table, parts.held_out), threads);
            comparison.over =
                count_text(parts.held_out.size(), "held-out row", "held-out rows") + " (" + parts.rule + ")";
            comparison.same_data = parts.digest == digest;
            if (before.output_length != 1) return comparison;
            const std::vector<float> labels = targets(experiment->table, parts.held_out);
            const auto measured = [&](ModelT& of) {
              const Blob blob(pack(of), "the blob", TONEARM_CPU_SCALAR);
              return measure(blob_probabilities(blob, experiment->table, parts.held_out, threads), labels);
            };
            comparison.before = measured(before);
            comparison.after = measured(after);
            return comparison;
          }};
}

/// Logs as the recipe in the card reads them.
class Sessions {
 public:
  using Part = SessionSplit::Part;
  /// A log's questions, as each of the blobs answered them.
  using Sink = std::function<void(const Log&, const std::vector<Replayed>&, const std::vector<char>& wanted)>;

  Sessions(const ModelT& model, const std::string& name, const std::string& data, Threads& threads)
      : threads_(threads) {
    if (model.card->recipe.empty())
      throw Error(name + ": its card has no recipe, so nothing says how its logs are read; leave out --data");
    const Recipe recipe = Recipe::from_text(model.card->recipe, name + " (recipe in the card)");
    const Recipe::Section root = recipe.root();
    logs_ = open_logs(root.section("data"), data, columns_read(root), threads, false);
    questions_ = read_questions(root);
    questions_.thin = false;
    // Of an import nobody knows what it was trained on; who was trained on generated sessions has seen no
    // real ones.
    if (model.card->split != nullptr && (!model.card->synthetic || logs_->synthetic()))
      split_.emplace(root, *logs_, model.card->split->seed);
  }

  bool has_split() const { return split_.has_value(); }
  std::string rule() const { return split_ ? split_->rule() : "all sessions"; }

  /// Of each output of a model, over the training sessions, or all where there is no split.
  std::vector<float> largest(ModelT& model) const {
    return largest_outputs(
        *logs_, questions_,
        [this](const Log& log, const Play& first, std::uint32_t) {
          return !split_ || split_->part(log, first) == Part::training;
        },
        model, threads_);
  }

  /// Of the sessions of a part, or of all where there is no split.
  void replay(const std::vector<const Blob*>& blobs, Part part, const char* label, const Sink& sink) const {
    for_each_batch(*logs_, label, [&](const std::vector<Log>& logs) {
      std::vector<std::vector<Replayed>> replayed(logs.size());
      std::vector<std::vector<char>> wanted(logs.size());
      threads_.run(logs.size(), [&](std::size_t i) {
        replayed[i].resize(blobs.size());
        for (std::size_t b = 0; b < blobs.size(); ++b) {
          Replay replay(*blobs[b], logs_->columns(), questions_);
          if (b == 0 && !any_of_part(replay, logs[i], part, replayed[i][0], wanted[i])) return;
          replay.run(logs[i], replayed[i][b]);
        }
      });
      for (std::size_t i = 0; i < logs.size(); ++i)
        if (!replayed[i][0].examples.empty()) sink(logs[i], replayed[i], wanted[i]);
    });
  }

 private:
  bool any_of_part(Replay& replay, const Log& log, Part part, Replayed& outline,
                   std::vector<char>& wanted) const {
    replay.outline(log, outline);
    for (std::size_t play = 0; play < log.plays.size(); ++play)
      if (outline.session[play] >= wanted.size())
        wanted.push_back(!split_ || split_->part(log, log.plays[play]) == part);
    return std::find(wanted.begin(), wanted.end(), 1) != wanted.end();
  }

  Threads& threads_;
  std::unique_ptr<LogSource> logs_;
  std::optional<SessionSplit> split_;
  Questions questions_;
};

Comparison compare_sessions(const Sessions& sessions, ModelT& before, ModelT& after) {
  const Blob old_blob(pack(before), "the given blob", TONEARM_CPU_SCALAR),
      new_blob(pack(after), "the quantized blob", TONEARM_CPU_SCALAR);
  const std::size_t outputs = old_blob.outputs();
  const double base_rate = static_cast<double>(before.card->base_rate);
  SessionReport was(base_rate), is(base_rate);
  Comparison comparison;
  sessions.replay(
      {&old_blob, &new_blob}, Sessions::Part::held_out, "comparing",
      [&](const Log& log, const std::vector<Replayed>& replayed, const std::vector<char>& wanted) {
        const std::vector<Example>& examples = replayed[0].examples;
        for (std::size_t e = 0; e < examples.size(); ++e)
          for (std::size_t k = 0; k < outputs && wanted[examples[e].session]; ++k)
            comparison.add(replayed[0].outputs[e * outputs + k], replayed[1].outputs[e * outputs + k],
                           examples[e].ended);
        if (outputs != 1) return;
        const auto counted = [&](std::uint32_t session) { return wanted[session] != 0; };
        was.add(log, replayed[0], counted);
        is.add(log, replayed[1], counted);
      });
  if (comparison.changes.count == 0)
    throw Error("--data holds no question to compare on: the split holds out no session of it");
  comparison.over = count_text(comparison.changes.count / outputs, "question", "questions");
  if (outputs != 1) return comparison;
  was.finish();
  is.finish();
  comparison.over += " about " +
                     count_text(is.sessions(), sessions.has_split() ? "held-out session" : "session",
                                sessions.has_split() ? "held-out sessions" : "sessions") +
                     " (" + sessions.rule() + ")";
  comparison.before = was.main().metrics();
  comparison.after = is.main().metrics();
  comparison.same_data = before.card->split != nullptr && is.digest() == before.card->split->digest;
  return comparison;
}

Evidence session_evidence(const ModelT& model, const std::string& name, const std::string& data,
                          Threads& threads) {
  const auto sessions = std::make_shared<const Sessions>(model, name, data, threads);
  return {sessions->has_split() ? "training sessions" : "all sessions",
          [sessions](ModelT& tapped) { return sessions->largest(tapped); },
          [sessions](ModelT& before, ModelT& after) { return compare_sessions(*sessions, before, after); }};
}

}  // namespace

Evidence find_evidence(const ModelT& model, const std::string& name, const std::string& rows,
                       const std::string& data, Threads& threads) {
  const bool session = model.session != nullptr;
  if (session && !rows.empty())
    throw Error(name +
                ": it is a session model, and rows of a table say nothing of sessions: give --data, a folder "
                "of logs");
  if (!rows.empty()) return rows_evidence(model, rows, threads);
  if (data.empty()) return golden_evidence(model, name, threads);
  return session ? session_evidence(model, name, data, threads) : table_evidence(model, name, data, threads);
}

}  // namespace tonearm
