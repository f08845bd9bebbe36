#include "features/encoders.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "features/pca.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

/// The value of a column that replaces a missing one.
float fill_of(const Column& column, const std::string& policy, std::span<const std::size_t> training) {
  if (policy == "keep") return missing;
  if (policy == "zero") return 0;
  std::vector<float> present;
  for (const std::size_t row : training)
    if (!std::isnan(column.values[row])) present.push_back(column.values[row]);
  if (present.empty())
    throw Error("column '" + column.name +
                "' has no value in any training row: drop it, or fill it with \"zero\"");
  if (column.type == ColumnType::category) {  // the most frequent category
    std::map<float, std::size_t> counts;
    for (const float value : present) ++counts[value];
    return std::max_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }
  if (policy == "median") {
    const auto middle = present.begin() + static_cast<std::ptrdiff_t>(present.size() / 2);
    std::nth_element(present.begin(), middle, present.end());
    return *middle;
  }
  double sum = 0;
  for (const float value : present) sum += value;
  return static_cast<float>(sum / static_cast<double>(present.size()));
}

void add_columns(schema::ModelT& model, const Recipe::Section& recipe, const Table& table,
                 std::span<const std::size_t> training) {
  const std::vector<std::string> policies = {"keep", "mean", "median", "zero"};
  const Recipe::Section section = recipe.section("missing");
  const std::string policy = section.choice("policy", "keep", policies);
  const Recipe::Section own = section.section("columns");
  for (const Column& source : table.columns) {
    auto column = std::make_unique<schema::ColumnT>();
    column->name = source.name;
    column->type =
        source.type == ColumnType::category ? schema::ColumnType::Category : schema::ColumnType::Number;
    column->vocabulary = source.vocabulary;
    model.columns.push_back(std::move(column));
    model.missing_fill.push_back(fill_of(source, own.choice(source.name, policy, policies), training));
  }
}

/// Runs the program so far on rows of the table and returns the values of some slots, row-major.
Dataset run(schema::ModelT& model, std::vector<std::uint16_t> slots, std::span<const float> rows,
            Threads& threads) {
  Dataset data;
  data.features = slots.size();
  data.rows = rows.size() / model.columns.size();
  schema::EncoderUnion identity;
  identity.Set(schema::IdentityT{});
  model.output_length = static_cast<std::uint16_t>(slots.size());
  model.output_offset = append_feature(model, std::move(slots), data.features, std::move(identity));
  const Blob blob(pack(model), "the feature program");
  model.features.pop_back();
  data.values = blob.evaluate_rows(rows, threads);
  return data;
}

/// Mean and standard deviation, or low and span, of each feature.
schema::ScaleT fit_scale(const Dataset& data, bool standard) {
  schema::ScaleT scale;
  for (std::size_t feature = 0; feature < data.features; ++feature) {
    double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0, squares = 0, count = 0;
    for (std::size_t row = 0; row < data.rows; ++row) {
      const double value = data.values[row * data.features + feature];
      if (std::isnan(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
      sum += value;
      count += 1;
    }
    const double mean = count > 0 ? sum / count : 0;
    for (std::size_t row = 0; row < data.rows; ++row) {
      const double value = data.values[row * data.features + feature];
      if (!std::isnan(value)) squares += (value - mean) * (value - mean);
    }
    const double center = standard ? mean : count > 0 ? low : 0;
    const double width = standard ? std::sqrt(squares / std::max(1.0, count)) : high - low;
    scale.center.push_back(static_cast<float>(center));
    scale.factor.push_back(width > 0 && std::isfinite(width) ? static_cast<float>(1 / width) : 1.0f);
  }
  return scale;
}

std::vector<float> quantile_edges(const Dataset& data, std::size_t count) {
  std::vector<float> sorted;
  for (const float value : data.values)
    if (!std::isnan(value)) sorted.push_back(value);
  std::sort(sorted.begin(), sorted.end());
  std::vector<float> edges;
  for (std::size_t i = 1; i < count && !sorted.empty(); ++i) {
    const float edge = sorted[i * sorted.size() / count];
    if (edge > sorted.front() && (edges.empty() || edge > edges.back())) edges.push_back(edge);
  }
  return edges;
}

/// Builds the encoders one after the other; each may read what those before it write.
class Builder {
 public:
  /// `dropped`: columns that the recipe takes out of every list.
  Builder(schema::ModelT& model, const Table& table, std::vector<std::string> dropped,
          std::span<const float> rows, Threads& threads)
      : model_(model), table_(table), dropped_(std::move(dropped)), rows_(rows), threads_(threads) {}

  struct Output {
    std::vector<std::uint16_t> slots;
    std::vector<std::string> names;
  };

  /// Appends the encoder that the section describes, for one or many inputs.
  Output add(const Recipe::Section& section) {
    const std::string encode =
        section.choice("encode", "identity", {"identity", "scale", "one-hot", "ordinal", "bucket", "pca"});
    const Output in = inputs(section);
    Output out;
    if (encode == "one-hot" || encode == "ordinal") {
      for (std::size_t i = 0; i < in.slots.size(); ++i) append_category(section, encode, in, i, out);
      return out;
    }
    schema::EncoderUnion encoder;
    std::size_t length = in.slots.size();
    out.names = in.names;
    if (encode == "identity") {
      encoder.Set(schema::IdentityT{});
    } else if (encode == "scale") {
      encoder.Set(scale(section, in));
    } else if (encode == "bucket") {
      schema::BucketT bucket;
      bucket.edges = section.floats("edges");
      const unsigned count = section.count("count", 0, 0, 1000);
      if (bucket.edges.empty() == (count == 0)) section.fail("edges", "or count must be given, and not both");
      if (count > 0) {
        if (in.slots.size() != 1) section.fail("count", "finds edges for a single column");
        bucket.edges = quantile_edges(values(in), count);
      }
      if (bucket.edges.empty() ||
          !std::is_sorted(bucket.edges.begin(), bucket.edges.end(), std::less_equal<>()))
        section.fail("edges", "must ascend, and there must be at least one");
      encoder.Set(std::move(bucket));
    } else {
      length = section.count("count", std::nullopt, 1, 65000);
      const Pca pca = fit_pca(values(in), length);
      schema::ProjectionT projection;
      projection.mean = pca.mean;
      projection.components = pca.components;
      encoder.Set(std::move(projection));
      out.names.clear();
      for (std::size_t i = 0; i < length; ++i) out.names.push_back("pca." + std::to_string(i));
    }
    append(in.slots, length, std::move(encoder), out);
    return out;
  }

  void remember(const std::string& name, const Output& output) { named_[name] = output; }

 private:
  Output inputs(const Recipe::Section& section) const {
    Output in;
    if (section.has("input")) {
      const std::string name = section.text("input");
      const auto found = named_.find(name);
      if (found == named_.end())
        section.fail("input", "is '" + name + "'; no encoder before this one has that name");
      return found->second;
    }
    for (const std::string& name : section.texts("columns")) {
      const auto found = std::find_if(table_.columns.begin(), table_.columns.end(),
                                      [&](const auto& c) { return c.name == name; });
      if (found == table_.columns.end()) {
        if (std::find(dropped_.begin(), dropped_.end(), name) != dropped_.end()) continue;
        std::vector<std::string> names;
        for (const Column& column : table_.columns) names.push_back(column.name);
        const std::string meant = nearest(name, names);
        section.fail("columns", "names '" + name + "', which [columns] does not list" +
                                    (meant.empty() ? "" : "; did you mean '" + meant + "'?"));
      }
      in.slots.push_back(static_cast<std::uint16_t>(found - table_.columns.begin()));
      in.names.push_back(name);
    }
    if (in.slots.empty()) section.fail("columns", "or input must name what the encoder reads");
    return in;
  }

  Dataset values(const Output& in) { return run(model_, in.slots, rows_, threads_); }

  void append(std::vector<std::uint16_t> slots, std::size_t length, schema::EncoderUnion encoder,
              Output& out) {
    const std::uint16_t first = append_feature(model_, std::move(slots), length, std::move(encoder));
    for (std::size_t i = 0; i < length; ++i) out.slots.push_back(static_cast<std::uint16_t>(first + i));
  }

  schema::ScaleT scale(const Recipe::Section& section, const Output& in) {
    const std::string method = section.choice("method", "standard", {"standard", "min-max", "fixed"});
    if (method != "fixed") return fit_scale(values(in), method == "standard");
    schema::ScaleT fixed;
    fixed.center.assign(in.slots.size(), static_cast<float>(section.number("center", 0.0, -1e30, 1e30)));
    fixed.factor.assign(in.slots.size(), static_cast<float>(section.number("factor", 1.0, -1e30, 1e30)));
    return fixed;
  }

  void append_category(const Recipe::Section& section, const std::string& encode, const Output& in,
                       std::size_t i, Output& out) {
    if (in.slots[i] >= table_.columns.size() || table_.columns[in.slots[i]].type != ColumnType::category)
      section.fail("columns", "names '" + in.names[i] + "', which is not listed under [columns] categories");
    const auto& vocabulary = table_.columns[in.slots[i]].vocabulary;
    schema::EncoderUnion encoder;
    if (encode == "ordinal") {
      schema::OrdinalT ordinal;
      ordinal.values = section.floats("values");
      if (ordinal.values.empty())
        for (std::size_t c = 0; c < vocabulary.size(); ++c) ordinal.values.push_back(static_cast<float>(c));
      if (ordinal.values.size() != vocabulary.size())
        section.fail("values", "must hold one number for each of the " + std::to_string(vocabulary.size()) +
                                   " categories of '" + in.names[i] + "', in alphabetical order");
      encoder.Set(std::move(ordinal));
      append({in.slots[i]}, 1, std::move(encoder), out);
      out.names.push_back(in.names[i]);
      return;
    }
    schema::OneHotT one_hot;
    one_hot.unknown_slot = section.flag("unknown", false);
    const std::size_t length = vocabulary.size() + (one_hot.unknown_slot ? 1 : 0);
    for (const std::string& category : vocabulary) out.names.push_back(in.names[i] + "=" + category);
    if (one_hot.unknown_slot) out.names.push_back(in.names[i] + "=?");
    encoder.Set(one_hot);
    append({in.slots[i]}, length, std::move(encoder), out);
  }

  schema::ModelT& model_;
  const Table& table_;
  std::vector<std::string> dropped_;
  std::span<const float> rows_;
  Threads& threads_;
  std::map<std::string, Output> named_;
};

}  // namespace

std::vector<float> gather_rows(const Table& table, std::span<const std::size_t> which) {
  std::vector<float> rows(which.size() * table.columns.size());
  for (std::size_t c = 0; c < table.columns.size(); ++c)
    for (std::size_t n = 0; n < which.size(); ++n)
      rows[n * table.columns.size() + c] = table.columns[c].values[which[n]];
  return rows;
}

FeatureProgram fit_features(const Recipe::Section& recipe, const Table& table,
                            std::span<const std::size_t> training, Threads& threads) {
  FeatureProgram program;
  schema::ModelT& model = program.model;
  add_columns(model, recipe, table, training);
  const std::vector<float> rows = gather_rows(table, training);
  Builder builder(model, table, recipe.section("data").texts("drop"), rows, threads);
  const std::vector<Recipe::Section> sections = recipe.sections("features");

  std::vector<std::string> read;  // names of encoders that another one reads
  for (const auto& section : sections)
    if (section.has("input")) read.push_back(section.text("input"));
  Builder::Output outputs;
  for (const auto& section : sections) {
    const std::string name = section.text("name", "");
    const Builder::Output output = builder.add(section);
    if (!name.empty()) builder.remember(name, output);
    if (!name.empty() && std::find(read.begin(), read.end(), name) != read.end()) continue;
    outputs.slots.insert(outputs.slots.end(), output.slots.begin(), output.slots.end());
    outputs.names.insert(outputs.names.end(), output.names.begin(), output.names.end());
  }
  if (sections.empty())
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      outputs.slots.push_back(static_cast<std::uint16_t>(i));
      outputs.names.push_back(table.columns[i].name);
    }
  if (outputs.slots.empty())
    throw Error("the recipe's features come to nothing: no encoder is left for the predictor");

  // A predictor reads one run of slots: gather them where they are not one already.
  program.first = outputs.slots.front();
  program.count = outputs.slots.size();
  program.names = outputs.names;
  for (std::size_t i = 0; i < outputs.slots.size(); ++i)
    if (outputs.slots[i] != program.first + i) {
      schema::EncoderUnion identity;
      identity.Set(schema::IdentityT{});
      program.first = append_feature(model, outputs.slots, outputs.slots.size(), std::move(identity));
      break;
    }
  return program;
}

Dataset collect(FeatureProgram& program, const Table& table, std::span<const std::size_t> which,
                Threads& threads) {
  std::vector<std::uint16_t> slots(program.count);
  for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<std::uint16_t>(program.first + i);
  Dataset data = run(program.model, std::move(slots), gather_rows(table, which), threads);
  data.target.reserve(which.size());
  for (const std::size_t row : which) data.target.push_back(table.target[row]);
  return data;
}

}  // namespace tonearm
