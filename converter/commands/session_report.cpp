#include "commands/session_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <vector>

#include "base/error.h"
#include "commands/report.h"
#include "data/session_split.h"

namespace tonearm {
namespace {

std::string interval_text(double value, Interval interval, const char* pattern = "%.4f") {
  if (std::isnan(value)) return "";
  std::string text = format(pattern, value);
  if (!std::isnan(interval.low))
    text += " [" + format("%.3f", interval.low) + ", " + format("%.3f", interval.high) + "]";
  return text;
}

double figure_of(const Metrics& metrics, Figure figure) {
  return figure == Figure::accuracy ? metrics.accuracy
         : figure == Figure::auc    ? metrics.auc
                                    : metrics.log_loss;
}

/// b - a in each replicate: the sessions are resampled alike for both.
Interval difference(const StreamedMetrics& a, const StreamedMetrics& b, Figure figure) {
  const std::vector<double> of_a = a.replicates(figure);
  std::vector<double> of_b = b.replicates(figure);
  for (std::size_t i = 0; i < of_b.size(); ++i) of_b[i] -= of_a[i];
  return interval_of(std::move(of_b));
}

}  // namespace

const char* moment_name(bool playing, unsigned horizon) {
  return playing ? "started" : horizon == 1 ? "upcoming" : "queue";
}

SessionReport::SessionReport(double base_rate) : base_rate_(base_rate) {}

void SessionReport::add(const Log& log, const Replayed& replayed,
                        const std::function<bool(std::uint32_t)>& counted) {
  SessionWeights weights;
  std::vector<std::size_t> began;  // the first play of each session
  std::vector<std::uint64_t> identity;
  for (std::size_t play = 0; play < log.plays.size(); ++play) {
    const std::uint32_t session = replayed.session[play];
    if (session >= began.size()) {
      began.push_back(play);
      identity.push_back(session_identity(log, log.plays[play], session));
      if (counted(session)) {
        ++sessions_;
        identity_sum_ += identity.back();
      }
    }
    if (counted(session)) ++plays_;
  }
  struct Asked {
    std::vector<char> right;  // of each track of the second half
  };
  std::map<std::string, Asked> second_half;
  const auto end_challenge = [&] {
    for (auto& [system, asked] : second_half) {
      if (asked.right.empty()) continue;
      Challenge& challenge = challenge_[system];
      double right = 0, average = 0;
      for (std::size_t i = 0; i < asked.right.size(); ++i) {
        right += asked.right[i];
        if (asked.right[i]) average += right / static_cast<double>(i + 1);
      }
      ++challenge.sessions;
      challenge.first_right += static_cast<std::size_t>(asked.right.front());
      challenge.average_accuracy += average / static_cast<double>(asked.right.size());
    }
    second_half.clear();
  };
  std::uint32_t drawn = UINT32_MAX;
  for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
    const Example& example = replayed.examples[i];
    if (!counted(example.session)) continue;
    if (example.session != drawn) {
      end_challenge();
      weights.draw(identity[example.session]);
      drawn = example.session;
    }
    const std::size_t first = began[example.session], moment = first + example.ended;
    Situation situation;
    situation.plays = std::span(log.plays).subspan(first, example.ended);
    situation.skipped = std::span(replayed.skipped).subspan(first, example.ended);
    const bool plays = example.playing || (example.horizon > 1 && !example.challenge);
    situation.start = plays ? &log.plays[moment].start : nullptr;
    const auto take = [&](const std::string& system, double probability) {
      if (example.challenge) {
        second_half[system].right.push_back((probability >= 0.5) == (example.target > 0.5f));
        return;
      }
      metrics_[{system, example.playing, example.horizon, false}].add(probability, example.target, weights);
      if (example.horizon == 1 && example.position > 1)
        metrics_[{system, example.playing, example.horizon, true}].add(probability, example.target, weights);
    };
    const double probability = replayed.outputs[i];
    if (std::isnan(probability))
      throw Error(
          "the model gives no number for a track: a feature is missing that its missing-value policy does "
          "not fill");
    take("model", probability);
    for (std::size_t b = 0; b < baseline_names.size(); ++b)
      take(baseline_names[b], baseline_probability(static_cast<Baseline>(b), situation, base_rate_));
    if (example.horizon == 1 && !example.challenge) {
      ByPosition& position = by_position_[{example.playing, std::min(example.position, 21u)}];
      ++position.rows;
      position.right += (probability >= 0.5) == (example.target > 0.5f);
      position.positives += example.target > 0.5f;
    }
  }
  end_challenge();
}

void SessionReport::finish() {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(identity_sum_));
  digest_ = text;
  if (metrics_.empty())
    throw Error(
        "there is no question to measure on: the split holds out no session whose outcomes are known");
}

const StreamedMetrics& SessionReport::main() const {
  if (const auto started = metrics_.find({"model", true, 1, false}); started != metrics_.end())
    return started->second;
  if (const auto upcoming = metrics_.find({"model", false, 1, false}); upcoming != metrics_.end())
    return upcoming->second;
  return metrics_.begin()->second;
}

std::vector<SessionReport::Measured> SessionReport::measured() const {
  std::vector<Measured> all;
  for (const bool playing : {true, false})
    for (const auto& [key, streamed] : metrics_)
      if (key.system == "model" && key.playing == playing && !key.later)
        all.push_back({moment_name(playing, key.horizon),
                       key.horizon,
                       streamed.metrics(),
                       {streamed.replicates(Figure::accuracy), streamed.replicates(Figure::auc),
                        streamed.replicates(Figure::log_loss)}});
  return all;
}

std::string SessionReport::text() const {
  std::string text;
  const auto add_rows = [&](bool playing, unsigned horizon, bool later) {
    const auto model = metrics_.find({"model", playing, horizon, later});
    if (model == metrics_.end()) return;
    const Metrics whole = model->second.metrics();
    text += format("  %s, horizon %u%s: %zu tracks, base rate %.3f\n", moment_name(playing, horizon), horizon,
                   later ? ", after the first of a session" : "", whole.rows, whole.base_rate);
    std::vector<std::vector<std::string>> rows = {
        {"", "accuracy [95 %]", "AUC [95 %]", "log loss [95 %]", "calibration error"}};
    std::vector<std::string> systems = {"model"};
    systems.insert(systems.end(), baseline_names.begin(), baseline_names.end());
    for (const std::string& system : systems) {
      const StreamedMetrics& streamed = metrics_.at({system, playing, horizon, later});
      const Metrics metrics = streamed.metrics();
      rows.push_back({system,
                      interval_text(metrics.accuracy, interval_of(streamed.replicates(Figure::accuracy))),
                      interval_text(metrics.auc, interval_of(streamed.replicates(Figure::auc))),
                      interval_text(metrics.log_loss, interval_of(streamed.replicates(Figure::log_loss))),
                      format("%.4f", metrics.calibration_error)});
    }
    const StreamedMetrics& table = metrics_.at({"table-rule", playing, horizon, later});
    const Metrics of_table = table.metrics();
    std::vector<std::string> row = {"model - table-rule"};
    for (const Figure figure : {Figure::accuracy, Figure::auc, Figure::log_loss})
      row.push_back(interval_text(figure_of(whole, figure) - figure_of(of_table, figure),
                                  difference(table, model->second, figure), "%+.4f"));
    row.push_back("");
    rows.push_back(row);
    text += table_text(rows) + "\n";
  };
  for (const bool later : {false, true})
    for (const bool playing : {true, false}) add_rows(playing, 1, later);
  std::vector<std::vector<std::string>> queue = {{"queue while a track plays", "tracks", "base rate",
                                                  "accuracy [95 %]", "AUC [95 %]", "log loss",
                                                  "repeat-last accuracy", "AUC"}};
  for (const auto& [key, streamed] : metrics_) {
    if (key.system != "model" || key.horizon < 2) continue;
    const Metrics metrics = streamed.metrics(),
                  repeated = metrics_.at({"repeat-last", key.playing, key.horizon, key.later}).metrics();
    queue.push_back(
        {format("horizon %u", key.horizon), std::to_string(metrics.rows), format("%.3f", metrics.base_rate),
         interval_text(metrics.accuracy, interval_of(streamed.replicates(Figure::accuracy))),
         interval_text(metrics.auc, interval_of(streamed.replicates(Figure::auc))),
         format("%.4f", metrics.log_loss), format("%.4f", repeated.accuracy), format("%.4f", repeated.auc)});
  }
  if (queue.size() > 1) text += table_text(queue) + "\n";
  std::vector<std::vector<std::string>> positions = {
      {"position"}, {"started, accuracy"}, {"upcoming, accuracy"}, {"base rate"}};
  for (const auto& [key, position] : by_position_) {
    if (key.first != by_position_.rbegin()->first.first) continue;
    const auto of = [&](bool playing) -> std::string {
      const auto found = by_position_.find({playing, key.second});
      return found == by_position_.end() ? ""
                                         : format("%.3f", static_cast<double>(found->second.right) /
                                                              static_cast<double>(found->second.rows))
                                               .substr(1);
    };
    positions[0].push_back(key.second > 20 ? "later" : std::to_string(key.second));
    positions[1].push_back(of(true));
    positions[2].push_back(of(false));
    positions[3].push_back(
        format("%.3f", static_cast<double>(position.positives) / static_cast<double>(position.rows))
            .substr(1));
  }
  text += table_text(positions) + "\n";
  if (!challenge_.empty()) {
    std::vector<std::vector<std::string>> rows = {
        {"second half of a session from its first", "sessions", "first prediction", "mean average accuracy"}};
    for (const auto& [system, challenge] : challenge_) {
      const auto sessions = static_cast<double>(challenge.sessions);
      rows.push_back({system, std::to_string(challenge.sessions),
                      format("%.4f", static_cast<double>(challenge.first_right) / sessions),
                      format("%.4f", challenge.average_accuracy / sessions)});
    }
    text += table_text(rows) + "\n";
  }
  return text;
}

nlohmann::ordered_json SessionReport::json() const {
  nlohmann::ordered_json json = {{"sessions", sessions_}, {"plays", plays_}, {"digest", digest_}};
  for (const auto& [key, streamed] : metrics_) {
    nlohmann::ordered_json entry = {{"system", key.system},
                                    {"moment", moment_name(key.playing, key.horizon)},
                                    {"horizon", key.horizon},
                                    {"after_first", key.later}};
    entry.update(metrics_json(streamed.metrics()));
    const Interval auc = interval_of(streamed.replicates(Figure::auc));
    if (!std::isnan(auc.low)) entry["auc_interval"] = {auc.low, auc.high};
    if (key.system == "model") {
      const StreamedMetrics& table = metrics_.at({"table-rule", key.playing, key.horizon, key.later});
      for (const auto& [name, figure] :
           {std::pair{"auc_above_table", Figure::auc}, std::pair{"log_loss_above_table", Figure::log_loss}}) {
        const Interval interval = difference(table, streamed, figure);
        if (!std::isnan(interval.low)) entry[name] = {interval.low, interval.high};
      }
    }
    json["questions"].push_back(entry);
  }
  for (const auto& [system, challenge] : challenge_)
    json["challenge"][system] = {
        {"sessions", challenge.sessions},
        {"first_prediction_accuracy",
         static_cast<double>(challenge.first_right) / static_cast<double>(challenge.sessions)},
        {"mean_average_accuracy", challenge.average_accuracy / static_cast<double>(challenge.sessions)}};
  return json;
}

}  // namespace tonearm
