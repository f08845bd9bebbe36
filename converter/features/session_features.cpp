#include "features/session_features.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "data/adapter.h"
#include "emit/emit.h"
#include "features/pca.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

bool is_aggregate(const std::string& encode) {
  return encode == "lag" || encode == "mean" || encode == "window" || encode == "total" ||
         encode == "streak" || encode == "repeats";
}

const std::vector<std::string> encodes = {
    "identity", "scale", "one-hot", "ordinal", "bucket", "pca",     "difference", "distance", "fact",
    "lag",      "mean",  "window",  "total",   "streak", "repeats", "recurrent",  "dense"};

/// One that is a part of the network.
bool is_branch(const std::string& encode) { return encode == "recurrent" || encode == "dense"; }

/// A level as it is written, or as `network` has it for all.
BranchOptions::Level read_level(const Recipe::Section& section, const Recipe::Section& network) {
  const std::vector<std::string> cells = {"rnn", "rnn_relu", "lstm", "gru", "gru_reset_before"},
                                 directions = {"forward", "backward", "both"};
  const std::string cell = section.choice("cell", network.choice("cell", "gru", cells), cells),
                    direction = section.choice(
                        "direction", network.choice("direction", "forward", directions), directions);
  return {static_cast<Cell>(std::find(cells.begin(), cells.end(), cell) - cells.begin()),
          section.count("units", network.count("units", 32, 1, 1024), 1, 1024),
          static_cast<Direction>(std::find(directions.begin(), directions.end(), direction) -
                                 directions.begin())};
}

/// What a branch is, but for its inputs.
BranchOptions read_branch(const Recipe::Section& section, const std::string& encode,
                          const Recipe::Section& network) {
  BranchOptions branch;
  branch.dropout = section.number("dropout", 0, 0, 0.95);
  if (encode == "dense") {
    branch.source = BranchOptions::Source::row;
    branch.hidden = section.counts("hidden", 1, 10000);
    if (branch.hidden.empty()) section.fail("hidden", "must hold the units of at least one layer");
    return branch;
  }
  const bool session = section.choice("source", "session", {"session", "row"}) == "session";
  branch.source = session ? BranchOptions::Source::steps : BranchOptions::Source::row_steps;
  for (const Recipe::Section& layer : section.sections("layers"))
    branch.levels.push_back(read_level(layer, network));
  if (!branch.levels.empty()) {
    for (const char* key : {"cell", "units", "direction"})
      if (section.has(key)) section.fail(key, "and layers cannot both be given");
  } else {
    branch.levels.push_back(read_level(section, network));
  }
  if (branch.levels.size() > 8) section.fail("layers", "must be at most 8");
  branch.count =
      section.count("steps", session ? std::optional(network.count("steps", 0, 0, 4096)) : std::nullopt,
                    session ? 0 : 1, 4096);
  const bool backward = std::any_of(branch.levels.begin(), branch.levels.end(),
                                    [](const auto& level) { return level.direction != Direction::forward; });
  if (session && backward && branch.count == 0)
    section.fail("steps",
                 "must say how many of the latest tracks are looked at, because a layer that reads backward "
                 "does it anew whenever a track has ended");
  branch.padded = section.has("padding");
  if (branch.padded) {
    branch.padding = static_cast<float>(section.number("padding", std::nullopt, -1e6, 1e6));
    if (!session) section.fail("padding", "is for source = \"session\": a row has all its steps");
    if (branch.count == 0) section.fail("steps", "must say up to how many steps the sequence is padded");
  }
  return branch;
}

schema::SessionRuleT read_session_rule(const Recipe::Section& recipe) {
  const Recipe::Section section = recipe.section("session");
  schema::SessionRuleT rule;
  rule.idle_gap = section.count("idle_gap", 0, 0, 1u << 30);
  rule.cap = section.count("cap", 0, 0, 1u << 30);
  return rule;
}

schema::LabelRuleT read_label_rule(const Recipe::Section& recipe) {
  const Recipe::Section section = recipe.section("skip");
  const std::vector<std::string> levels = {"skip_1", "skip_2", "skip_3", "not not_skipped"};
  const std::string level = section.choice("level", "skip_2", levels);
  schema::LabelRuleT rule;
  rule.level = level == "skip_1"   ? TONEARM_SKIP_VERY_BRIEFLY
               : level == "skip_2" ? TONEARM_SKIP_BRIEFLY
               : level == "skip_3" ? TONEARM_SKIP_MOSTLY
                                   : TONEARM_SKIP_NEAR_END;
  for (const std::string& name : section.texts("reasons")) {
    const std::uint32_t reason = enumerator(reason_words, name);
    if (reason == TONEARM_REASON_UNKNOWN) {
      const std::string meant = nearest(name, {reason_words.begin(), reason_words.end()});
      section.fail("reasons", "names '" + name + "', which is no reason" +
                                  (meant.empty() ? "" : "; did you mean '" + meant + "'?"));
    }
    rule.reasons |= 1u << reason;
  }
  rule.below_ms = section.count("below_ms", 0, 0, 1u << 30);
  rule.below_share = static_cast<float>(section.number("below_share", 0.0, 0, 10));
  return rule;
}

}  // namespace

// ---------------------------------------------------------------------------------------- moments

void Moments::Accumulator::add(std::size_t width, const float* rows, std::size_t count) {
  if (width_ == 0) {
    width_ = width;
    count_.assign(width, 0);
    mean_ = squares_ = whole_mean_ = count_;
    low_.assign(width, std::numeric_limits<double>::infinity());
    high_.assign(width, -std::numeric_limits<double>::infinity());
    products_.assign(width * width, 0);
  }
  std::vector<double> before(width);
  for (std::size_t n = 0; n < count; ++n, rows += width) {
    ++rows_;
    bool whole = true;
    for (std::size_t i = 0; i < width; ++i) {
      const double value = rows[i];
      if (!std::isfinite(value)) {
        whole = false;
        continue;
      }
      const double change = value - mean_[i];
      mean_[i] += change / ++count_[i];
      squares_[i] += change * (value - mean_[i]);
      low_[i] = std::min(low_[i], value);
      high_[i] = std::max(high_[i], value);
    }
    if (!whole) continue;
    ++whole_;
    for (std::size_t i = 0; i < width; ++i) {
      before[i] = rows[i] - whole_mean_[i];
      whole_mean_[i] += before[i] / static_cast<double>(whole_);
    }
    for (std::size_t i = 0; i < width; ++i)
      for (std::size_t j = 0; j <= i; ++j) products_[i * width + j] += before[i] * (rows[j] - whole_mean_[j]);
  }
}

Moments Moments::Accumulator::finish() const {
  Moments moments;
  moments.rows = rows_;
  moments.mean = mean_;
  for (std::size_t i = 0; i < width_; ++i) {
    moments.deviation.push_back(std::sqrt(squares_[i] / std::max(1.0, count_[i])));
    moments.low.push_back(count_[i] > 0 ? low_[i] : 0);
    moments.high.push_back(count_[i] > 0 ? high_[i] : 0);
  }
  moments.covariance.resize(width_ * width_);
  for (std::size_t i = 0; i < width_; ++i)
    for (std::size_t j = 0; j < width_; ++j)
      moments.covariance[i * width_ + j] = products_[std::max(i, j) * width_ + std::min(i, j)] /
                                           static_cast<double>(std::max<std::size_t>(1, whole_));
  return moments;
}

// ---------------------------------------------------------------------------------------- builder

/// Turns a recipe's [[features]] into planned features, each made when something reads it.
class SessionProgramBuilder {
 public:
  SessionProgramBuilder(SessionProgram& program, const Recipe::Section& recipe,
                        const std::vector<LogColumn>& offered, const SessionProgram::Fit& fit)
      : program_(program), recipe_(recipe), sections_(recipe.sections("features")), fit_(fit) {
    if (sections_.empty())
      recipe.fail("features", "is missing: a session model needs at least one [[features]]");
    allow_leakage_ = recipe.flag("allow_leakage", false);
    of_encoder_ = recipe.has("encoder") && recipe.section("train").text("trainer", "") == "boosted";
    for (std::size_t i = 0; i < sections_.size(); ++i) {
      const std::string name = sections_[i].text("name", "");
      if (name.empty()) continue;
      if (!named_.emplace(name, i).second)
        sections_[i].fail("name", "is '" + name + "', as that of another feature");
    }
    add_columns(offered);
  }

  void build() {
    std::set<std::size_t> read;
    for (const Recipe::Section& section : sections_)
      for (const char* key : {"input", "to"})
        if (section.has(key)) read.insert(named(section, key, section.text(key)));
    for (const Recipe::Section& section : sections_)
      for (const std::string& name : section.texts("inputs")) read.insert(named(section, "inputs", name));
    Output rest;
    std::vector<std::size_t> branches;
    for (std::size_t i = 0; i < sections_.size(); ++i) {
      if (is_branch(sections_[i].choice("encode", "identity", encodes)))
        branches.push_back(i);
      else if (!read.contains(i))
        append(rest, called(sections_[i], make(i, false)));
    }
    for (const std::size_t i : branches) add_branch(sections_[i]);
    // What is made by now is all that the predictor reads. The rest is read by others of the rest: a circle.
    for (std::size_t i = 0; i < sections_.size(); ++i)
      if (!made_.contains({i, false}) && !made_.contains({i, true}) &&
          std::find(branches.begin(), branches.end(), i) == branches.end())
        (void)make(i, false);
    std::stable_sort(planned_branches_.begin(), planned_branches_.end(), [](const auto& a, const auto& b) {
      return a.branch.options.source < b.branch.options.source;
    });
    std::vector<SessionProgram::Branch>& all = program_.branches_;
    if (!branches.empty() && !rest.sources.empty()) {
      all.emplace_back().options.source = BranchOptions::Source::row;
      all.back().width = rest.sources.size();
    }
    for (PlannedBranch& planned : planned_branches_) {
      all.push_back(planned.branch);
      if (planned.branch.options.source == BranchOptions::Source::steps) continue;
      all.back().first = program_.outputs_.size();
      add_outputs(planned.row, planned.branch.options.source);
    }
    if (!branches.empty() && !rest.sources.empty()) all.front().first = program_.outputs_.size();
    // The context part first: what trees ask of it is asked once for all candidates.
    add_outputs(rest, BranchOptions::Source::row);
    if (program_.outputs_.empty())
      recipe_.fail("features",
                   "have nothing of the predicted track: name at least { encode = \"fact\", facts = "
                   "[\"horizon\"] }");
    for (SessionProgram::Branch& branch : all)
      for (std::size_t i = 0; i < branch.width; ++i)
        branch.options.inputs.push_back(static_cast<std::uint32_t>(branch.first + i));
  }

 private:
  struct Output {
    std::vector<SessionProgram::Source> sources;
    std::vector<std::string> names;
  };

  /// A branch of the network; of those over the session, a step's numbers are gathered.
  void add_branch(const Recipe::Section& section) {
    const std::string encode = section.text("encode");
    SessionProgram::Branch branch;
    branch.name = section.text("name", encode + " " + std::to_string(planned_branches_.size() + 1));
    branch.options = read_branch(section, encode, recipe_.section(of_encoder_ ? "encoder" : "train"));
    const bool session = branch.options.source == BranchOptions::Source::steps;
    const Output in = inputs(section, session);
    branch.width = in.sources.size();
    if (branch.width == 0) section.fail("inputs", "must name what the branch reads");
    if (branch.options.source == BranchOptions::Source::row_steps && branch.width % branch.options.count != 0)
      section.fail("steps", "is " + std::to_string(branch.options.count) + ", which does not divide the " +
                                std::to_string(branch.width) + " numbers of the row that the branch reads");
    if (session) {
      schema::EncoderUnion kind;
      kind.Set(schema::IdentityT{});
      const Output gathered = plan(schema::Phase::History, in, branch.width, kind, in.names);
      branch.first = program_.steps_.size();
      program_.steps_.insert(program_.steps_.end(), gathered.sources.begin(), gathered.sources.end());
    }
    planned_branches_.push_back({branch, in});
  }

  /// Columns of a row stay in their order; others come by phase.
  void add_outputs(const Output& outputs, BranchOptions::Source source) {
    std::vector<std::size_t> order(outputs.sources.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    if (source == BranchOptions::Source::row)
      std::stable_partition(order.begin(), order.end(), [&](std::size_t i) {
        return phase_of(outputs.sources[i]) == schema::Phase::Context;
      });
    for (const std::size_t i : order) {
      program_.outputs_.push_back(outputs.sources[i]);
      program_.names_.push_back(outputs.names[i]);
    }
  }

  static void append(Output& to, const Output& from) {
    to.sources.insert(to.sources.end(), from.sources.begin(), from.sources.end());
    to.names.insert(to.names.end(), from.names.begin(), from.names.end());
  }

  std::size_t named(const Recipe::Section& section, const char* key, const std::string& name) const {
    const auto found = named_.find(name);
    if (found != named_.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& entry : named_) names.push_back(entry.first);
    const std::string meant = nearest(name, names);
    section.fail(key, "is '" + name + "', but no feature has that name" +
                          (meant.empty() ? "" : "; did you mean '" + meant + "'?"));
  }

  /// The columns that the features read become the model's, in the order of their sources.
  void add_columns(const std::vector<LogColumn>& offered) {
    std::vector<std::string> known;
    for (const LogColumn& column : offered) known.push_back(column.name);
    std::set<std::string> used;
    for (const Recipe::Section& section : sections_) {
      std::vector<std::pair<const char*, std::string>> names;
      for (const std::string& name : section.texts("columns")) names.emplace_back("columns", name);
      for (const std::string& name : section.texts("minus")) names.emplace_back("minus", name);
      if (section.has("weight")) names.emplace_back("weight", section.text("weight"));
      if (section.choice("encode", "identity", encodes) == "repeats") names.emplace_back("of", "skipped");
      for (const auto& [key, name] : names) {
        if (std::find(known.begin(), known.end(), name) == known.end()) {
          const std::string meant = nearest(name, known);
          section.fail(key, "names '" + name + "', which these data do not have" +
                                (meant.empty() ? "" : "; did you mean '" + meant + "'?"));
        }
        used.insert(name);
      }
    }
    const Recipe::Section fills = recipe_.section("missing");
    for (const schema::Source source :
         {schema::Source::Track, schema::Source::Now, schema::Source::Start, schema::Source::End})
      for (const LogColumn& column : offered) {
        if (column.source != source || !used.contains(column.name)) continue;
        program_.columns_.push_back(column);
        program_.fill_.push_back(
            fills.has(column.name) ? static_cast<float>(fills.number(column.name, std::nullopt, -1e30, 1e30))
                                   : missing);
      }
    if (program_.columns_.empty())  // a model has at least one column, even if its features read none
      program_.columns_.push_back(*std::find_if(
          offered.begin(), offered.end(), [](const LogColumn& column) { return column.name == "skipped"; })),
          program_.fill_.push_back(missing);
  }

  const LogColumn& column_at(std::size_t index) const { return program_.columns_[index]; }

  schema::Phase phase_of(const SessionProgram::Source& source) const {
    if (!source.column) return program_.planned_[source.index].phase;
    const schema::Source from = column_at(source.index).source;
    return from == schema::Source::Now || from == schema::Source::Start ? schema::Phase::Context
                                                                        : schema::Phase::Candidate;
  }

  /// A feature of one number is called by its own name, if it has one.
  static Output called(const Recipe::Section& section, Output made) {
    if (made.names.size() == 1) made.names[0] = section.text("name", made.names[0]);
    return made;
  }

  /// The columns that a key names; `ended`: of the track that has ended.
  Output columns(const Recipe::Section& section, const char* key, const std::vector<std::string>& names,
                 bool ended) {
    Output out;
    for (const std::string& name : names) {
      const auto found = std::find_if(program_.columns_.begin(), program_.columns_.end(),
                                      [&](const LogColumn& column) { return column.name == name; });
      if (found->never_known)
        refuse_leak(section, key, name, "a player never knows it while it listens");
      else if (found->source == schema::Source::End && !ended)
        refuse_leak(section, key, name, "of the predicted track it is known only after that track has ended");
      out.sources.push_back({true, static_cast<std::size_t>(found - program_.columns_.begin()), 0});
      out.names.push_back(name);
    }
    return out;
  }

  void refuse_leak(const Recipe::Section& section, const char* key, const std::string& name,
                   const char* rule) {
    if (!allow_leakage_)
      section.fail(
          key, "names '" + name + "', which is a leak: " + rule +
                   "; use it of ended tracks (lag, mean, streak), or say allow_leakage = true to study it");
    program_.leaky_ = true;
  }

  Output inputs(const Recipe::Section& section, bool ended) {
    if (section.has("inputs")) {
      if (section.has("input") || section.has("columns"))
        section.fail("inputs", "and input or columns cannot both be given");
      Output all;
      for (const std::string& name : section.texts("inputs"))
        append(all, make(named(section, "inputs", name), ended));
      return all;
    }
    if (section.has("input")) {
      if (section.has("columns")) section.fail("input", "and columns cannot both be given");
      return make(named(section, "input", section.text("input")), ended);
    }
    const std::vector<std::string> names = section.texts("columns");
    if (names.empty()) section.fail("columns", "or input must name what the feature reads");
    return columns(section, "columns", names, ended);
  }

  Output plan(schema::Phase phase, const Output& in, std::size_t length, schema::EncoderUnion encoder,
              std::vector<std::string> names) {
    if (length == 0 || length > 65000) recipe_.fail("features", "must each come to 1 to 65000 numbers");
    Output out;
    out.names = std::move(names);
    for (std::size_t i = 0; i < length; ++i) out.sources.push_back({false, program_.planned_.size(), i});
    program_.planned_.push_back({phase, in.sources, length, std::move(encoder)});
    return out;
  }

  /// The later phase of what is read; of ended tracks, all is history.
  schema::Phase reading_phase(const Output& in, bool ended) const {
    if (ended) return schema::Phase::History;
    schema::Phase phase = schema::Phase::Context;
    for (const auto& source : in.sources) phase = std::max(phase, phase_of(source));
    return phase;
  }

  /// The feature of a section; made once for the predicted track and once for ended ones, as needed.
  Output make(std::size_t index, bool ended) {
    const auto key = std::make_pair(index, ended);
    if (const auto found = made_.find(key); found != made_.end()) return found->second;
    const Recipe::Section& section = sections_[index];
    if (!being_made_.insert(key).second) section.fail("input", "leads back to the feature itself");
    const std::string encode = section.choice("encode", "identity", encodes);
    if (is_branch(encode))
      section.fail("encode", "is '" + encode + "', a part of the network, which no other feature can read");
    // These are made when a question is asked, not when a track has ended.
    if (ended && (is_aggregate(encode) || encode == "fact" || encode == "distance"))
      section.fail("encode", "is '" + encode + "', which another aggregate cannot read");
    Output out = is_aggregate(encode) ? aggregate(section, encode) : encoder(section, encode, ended);
    being_made_.erase(key);
    return made_[key] = std::move(out);
  }

  Output encoder(const Recipe::Section& section, const std::string& encode, bool ended) {
    schema::EncoderUnion kind;
    if (encode == "fact") {
      const std::vector<std::string> facts = {"horizon", "position", "gap", "elapsed", "playing"};
      Output out;
      for (const std::string& name : section.texts("facts")) {
        const auto found = std::find(facts.begin(), facts.end(), name);
        if (found == facts.end())
          section.fail("facts",
                       "names '" + name + "'; there are horizon, position, gap, elapsed and playing");
        schema::FactT fact;
        fact.fact = static_cast<schema::SessionFact>(found - facts.begin());
        kind.Set(fact);
        append(out, plan(fact.fact <= schema::SessionFact::Position ? schema::Phase::Candidate
                                                                    : schema::Phase::Context,
                         {}, 1, kind, {name}));
      }
      if (out.sources.empty()) section.fail("facts", "must name at least one fact");
      return out;
    }
    const Output in = inputs(section, ended);
    const schema::Phase phase = reading_phase(in, ended);
    if (encode == "one-hot" || encode == "ordinal") {
      Output out;
      for (std::size_t i = 0; i < in.sources.size(); ++i)
        append(out, category(section, encode, in, i, phase));
      return out;
    }
    if (encode == "identity") {
      kind.Set(schema::IdentityT{});
      return plan(phase, in, in.sources.size(), kind, in.names);
    }
    if (encode == "scale") {
      kind.Set(scale(section, in, ended));
      return plan(phase, in, in.sources.size(), kind, in.names);
    }
    if (encode == "bucket") {
      schema::BucketT bucket;
      bucket.edges = section.floats("edges");
      if (bucket.edges.empty() ||
          !std::is_sorted(bucket.edges.begin(), bucket.edges.end(), std::less_equal<>()))
        section.fail("edges", "must ascend, and there must be at least one");
      kind.Set(std::move(bucket));
      return plan(phase, in, in.sources.size(), kind, in.names);
    }
    if (encode == "pca") {
      const unsigned count = section.count("count", std::nullopt, 1, 65000);
      if (count > in.sources.size())
        section.fail("count", "is " + std::to_string(count) + ", but there are only " +
                                  std::to_string(in.sources.size()) + " inputs");
      const Moments moments = fitted(in, ended);
      const Pca pca = fit_pca(moments.mean, moments.covariance, moments.rows, count);
      schema::ProjectionT projection;
      projection.mean = pca.mean;
      projection.components = pca.components;
      kind.Set(std::move(projection));
      std::vector<std::string> names;
      for (unsigned i = 0; i < count; ++i) names.push_back("pca." + std::to_string(i));
      return plan(phase, in, count, kind, names);
    }
    Output both = in;
    if (encode == "difference") {
      append(both, columns(section, "minus", section.texts("minus"), ended));
      if (both.sources.size() != 2 * in.sources.size())
        section.fail("minus", "must name as many columns as there are inputs");
      std::vector<std::string> names;
      for (std::size_t i = 0; i < in.names.size(); ++i)
        names.push_back(in.names[i] + " - " + both.names[in.names.size() + i]);
      kind.Set(schema::DifferenceT{});
      return plan(reading_phase(both, ended), both, in.sources.size(), kind, names);
    }
    append(both, make(named(section, "to", section.text("to")), false));
    if (both.sources.size() != 2 * in.sources.size())
      section.fail("to", "must name a feature of as many numbers as there are inputs");
    kind.Set(schema::DistanceT{});
    return plan(reading_phase(both, ended), both, 1, kind, {"distance to " + section.text("to")});
  }

  Output category(const Recipe::Section& section, const std::string& encode, const Output& in, std::size_t i,
                  schema::Phase phase) {
    std::vector<std::string> vocabulary;
    if (in.sources[i].column)
      vocabulary = column_at(in.sources[i].index).vocabulary;
    else if (const auto* bucket = program_.planned_[in.sources[i].index].encoder.AsBucket();
             bucket != nullptr && encode == "one-hot")
      for (std::size_t c = 0; c <= bucket->edges.size(); ++c) vocabulary.push_back(std::to_string(c));
    if (vocabulary.empty())
      section.fail("columns", "names '" + in.names[i] + "', which is a number, not a category");
    const Output one{{in.sources[i]}, {in.names[i]}};
    schema::EncoderUnion kind;
    if (encode == "ordinal") {
      schema::OrdinalT ordinal;
      ordinal.values = section.floats("values");
      if (ordinal.values.empty())
        for (std::size_t c = 0; c < vocabulary.size(); ++c) ordinal.values.push_back(static_cast<float>(c));
      if (ordinal.values.size() != vocabulary.size())
        section.fail("values", "must hold one number for each of the " + std::to_string(vocabulary.size()) +
                                   " categories of '" + in.names[i] + "'");
      kind.Set(std::move(ordinal));
      return plan(phase, one, 1, kind, one.names);
    }
    schema::OneHotT one_hot;
    one_hot.unknown_slot = section.flag("unknown", false);
    std::vector<std::string> names;
    for (const std::string& category : vocabulary) names.push_back(in.names[i] + "=" + category);
    if (one_hot.unknown_slot) names.push_back(in.names[i] + "=?");
    kind.Set(one_hot);
    return plan(phase, one, names.size(), kind, names);
  }

  schema::ScaleT scale(const Recipe::Section& section, const Output& in, bool ended) {
    const std::string method = section.choice("method", "standard", {"standard", "min-max", "fixed"});
    schema::ScaleT scale;
    if (method == "fixed") {
      scale.center.assign(in.sources.size(), static_cast<float>(section.number("center", 0.0, -1e30, 1e30)));
      scale.factor.assign(in.sources.size(), static_cast<float>(section.number("factor", 1.0, -1e30, 1e30)));
      return scale;
    }
    const Moments moments = fitted(in, ended);
    for (std::size_t i = 0; i < in.sources.size(); ++i) {
      const double width = method == "standard" ? moments.deviation[i] : moments.high[i] - moments.low[i];
      scale.center.push_back(static_cast<float>(method == "standard" ? moments.mean[i] : moments.low[i]));
      scale.factor.push_back(width > 0 && std::isfinite(width) ? static_cast<float>(1 / width) : 1.0f);
    }
    return scale;
  }

  /// What training rows have in these places: of predicted tracks, also where the feature reads ended ones.
  Moments fitted(const Output& in, bool ended) {
    SessionProgram part;
    part.columns_ = program_.columns_;
    part.fill_ = program_.fill_;
    part.planned_ = program_.planned_;
    part.session_ = program_.session_;
    part.label_ = program_.label_;
    part.leaky_ = program_.leaky_ || ended;  // how they end is then known
    part.outputs_ = in.sources;
    for (const auto& source : in.sources)
      if (!source.column && program_.planned_[source.index].phase == schema::Phase::History)
        recipe_.fail("features",
                     "have an encoder fitted to what another one makes of ended tracks; fit it to columns");
    schema::ModelT model = part.gathered();
    return fit_(model);
  }

  Output aggregate(const Recipe::Section& section, const std::string& encode) {
    const bool carries = section.flag("carries", false);
    schema::EncoderUnion kind;
    if (encode == "repeats") {
      schema::RepeatsT repeats;
      const std::string of = section.choice("of", "track", {"track", "artist"});
      repeats.of = of == "artist" ? schema::Identifier::Artist : schema::Identifier::Track;
      repeats.length = static_cast<std::uint16_t>(section.count("length", 20, 1, 4096));
      repeats.carries = carries;
      kind.Set(repeats);
      return plan(schema::Phase::Candidate, columns(section, "of", {"skipped"}, true), 3, kind,
                  {of + " seen", of + " skipped", of + " last seen"});
    }
    Output in = inputs(section, true);
    const std::size_t count = in.sources.size();
    std::vector<std::string> names;
    const auto name_all = [&](const std::string& prefix) {
      for (const std::string& name : in.names) names.push_back(prefix + name);
    };
    std::size_t length = count;
    if (encode == "lag") {
      schema::LagT lag;
      lag.count = static_cast<std::uint16_t>(section.count("count", 1, 1, 1000));
      lag.empty = section.has("empty")
                      ? static_cast<float>(section.number("empty", std::nullopt, -1e30, 1e30))
                      : missing;
      lag.carries = carries;
      for (unsigned n = 1; n <= lag.count; ++n) name_all("lag " + std::to_string(n) + " of ");
      length = count * lag.count;
      kind.Set(lag);
    } else if (encode == "mean") {
      schema::MeanT mean;
      double keep = section.number("keep", 1.0, 0, 1);
      if (section.has("half_life")) {
        if (section.has("keep")) section.fail("half_life", "and keep cannot both be given");
        keep = std::exp2(-1 / section.number("half_life", std::nullopt, 0.01, 1e6));
      }
      mean.keep = static_cast<float>(keep);
      mean.prior = static_cast<float>(section.number("prior", 0.0, -1e30, 1e30));
      mean.prior_weight = static_cast<float>(section.number("prior_weight", 0.0, 0, 1e6));
      mean.carries = carries;
      mean.weighted = section.has("weight");
      name_all("mean" + (mean.weighted ? " over " + section.text("weight") : "") +
               (keep < 1 ? " keep " + std::to_string(keep).substr(1, 4) : "") + " of ");
      if (mean.weighted) append(in, columns(section, "weight", {section.text("weight")}, true));
      kind.Set(mean);
    } else if (encode == "window") {
      schema::WindowT window;
      window.length = static_cast<std::uint16_t>(section.count("length", std::nullopt, 1, 1000));
      window.carries = carries;
      name_all("window " + std::to_string(window.length) + " of ");
      kind.Set(window);
    } else if (encode == "total") {
      schema::TotalT total;
      total.carries = carries;
      name_all("total of ");
      kind.Set(total);
    } else {
      schema::StreakT streak;
      streak.same = section.flag("same", false);
      streak.carries = carries;
      name_all(streak.same ? "run of " : "streak of ");
      kind.Set(streak);
    }
    return plan(schema::Phase::Context, in, length, kind, names);
  }

  SessionProgram& program_;
  const Recipe::Section& recipe_;
  std::vector<Recipe::Section> sections_;
  const SessionProgram::Fit& fit_;
  std::map<std::string, std::size_t> named_;
  std::map<std::pair<std::size_t, bool>, Output> made_;
  std::set<std::pair<std::size_t, bool>> being_made_;
  struct PlannedBranch {
    SessionProgram::Branch branch;
    Output row;  // what it reads, unless of the session
  };
  std::vector<PlannedBranch> planned_branches_;
  bool allow_leakage_ = false;
  bool of_encoder_ = false;  // branches take what they do not say from [encoder]
};

// ---------------------------------------------------------------------------------------- program

SessionProgram::SessionProgram(const Recipe::Section& recipe, const std::vector<LogColumn>& columns,
                               const Fit& fit) {
  session_ = read_session_rule(recipe);
  label_ = read_label_rule(recipe);
  SessionProgramBuilder(*this, recipe, columns, fit).build();
  // The places of the features in a scattered() model.
  std::vector<std::uint16_t> first(planned_.size());
  std::size_t next = columns_.size();
  for (const schema::Phase phase :
       {schema::Phase::History, schema::Phase::Context, schema::Phase::Candidate}) {
    for (std::size_t i = 0; i < planned_.size(); ++i) {
      if (planned_[i].phase != phase) continue;
      first[i] = static_cast<std::uint16_t>(next);
      next += planned_[i].length;
    }
    if (phase == schema::Phase::History) first_slot_ = static_cast<std::uint16_t>(next);
    if (phase == schema::Phase::Context) context_end_ = static_cast<std::uint16_t>(next);
  }
  end_slot_ = static_cast<std::uint16_t>(next);
  for (const Source& source : outputs_)
    slots_.push_back(source.column ? static_cast<std::uint16_t>(source.index)
                                   : static_cast<std::uint16_t>(first[source.index] + source.offset));
  for (Branch& branch : branches_)
    if (branch.options.source == BranchOptions::Source::steps)
      branch.slot = first[steps_[branch.first].index];
}

SessionProgram::SessionProgram() = default;

schema::ModelT SessionProgram::gathered() const { return assemble(Form::gathered); }
schema::ModelT SessionProgram::scattered() const { return assemble(Form::scattered); }
schema::ModelT SessionProgram::steps() const { return assemble(Form::steps); }

schema::ModelT SessionProgram::assemble(Form form) const {
  schema::ModelT model;
  model.session = std::make_unique<schema::SessionRuleT>(session_);
  model.label = std::make_unique<schema::LabelRuleT>(label_);
  model.card = std::make_unique<schema::CardT>();
  model.card->leaky = leaky_;
  for (const LogColumn& offered : columns_) {
    auto column = std::make_unique<schema::ColumnT>();
    column->name = offered.name;
    column->source = offered.source;
    column->type = offered.vocabulary.empty() ? schema::ColumnType::Number : schema::ColumnType::Category;
    column->vocabulary = offered.vocabulary;
    model.columns.push_back(std::move(column));
    model.fields.push_back(offered.field);
  }
  model.missing_fill = fill_;
  std::vector<std::uint16_t> first(planned_.size());
  const auto slot_of = [&](const Source& source) {
    return static_cast<std::uint16_t>(source.column ? source.index : first[source.index] + source.offset);
  };
  for (const schema::Phase phase : {schema::Phase::History, schema::Phase::Context, schema::Phase::Candidate})
    for (std::size_t i = 0; i < planned_.size(); ++i) {
      if (planned_[i].phase != phase || (form == Form::steps && phase != schema::Phase::History)) continue;
      std::vector<std::uint16_t> inputs;
      for (const Source& source : planned_[i].inputs) inputs.push_back(slot_of(source));
      first[i] = append_feature(model, inputs, planned_[i].length, planned_[i].encoder, phase);
    }
  if (form != Form::scattered) {
    std::vector<std::uint16_t> inputs;
    for (const Source& source : form == Form::steps ? steps_ : outputs_) inputs.push_back(slot_of(source));
    schema::EncoderUnion kind;
    if (form == Form::steps) {
      schema::LagT last;
      last.carries = true;  // also of the last track of a session
      kind.Set(last);
    } else {
      kind.Set(schema::IdentityT{});
    }
    model.output_length = static_cast<std::uint16_t>(inputs.size());
    model.output_offset =
        append_feature(model, inputs, inputs.size(), std::move(kind), schema::Phase::Candidate);
  }
  return model;
}

std::vector<std::string> columns_read(const Recipe::Section& recipe) {
  std::set<std::string> names;
  for (const Recipe::Section& section : recipe.sections("features")) {
    for (const char* key : {"columns", "minus"})
      for (const std::string& name : section.texts(key)) names.insert(name);
    if (section.has("weight")) names.insert(section.text("weight"));
  }
  // A rule about the share that was played needs to know of how much.
  if (recipe.section("skip").number("below_share", 0.0, 0, 10) > 0) names.insert("duration");
  return {names.begin(), names.end()};
}

}  // namespace tonearm
