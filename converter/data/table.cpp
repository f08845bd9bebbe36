#include "data/table.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/random.h"
#include "data/csv.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

/// Gathers the texts of one category column and their indices.
class Categories {
 public:
  explicit Categories(Column& column) : column_(column) {
    for (const std::string& text : column.vocabulary) add(text);
  }

  float index(std::string_view text) {
    if (text.empty()) return missing;
    const auto found = indices_.find(text);
    if (found != indices_.end()) return static_cast<float>(found->second);
    return column_.vocabulary_given ? missing : static_cast<float>(add(std::string(text)));
  }

  /// Found texts were numbered as they came; from now on they are in the order of the map.
  void sort() {
    if (column_.type != ColumnType::category || column_.vocabulary_given) return;
    std::vector<float> sorted(indices_.size());
    for (const auto& [text, index] : indices_) {
      sorted[index] = static_cast<float>(column_.vocabulary.size());
      column_.vocabulary.push_back(text);
    }
    for (float& cell : column_.values)
      if (!std::isnan(cell)) cell = sorted[static_cast<std::size_t>(cell)];
  }

 private:
  std::size_t add(std::string text) {
    constexpr std::size_t exact_in_float = 1 << 24;
    if (indices_.size() == exact_in_float)
      throw Error("the category column '" + column_.name + "' has more than 2^24 different texts");
    return indices_.emplace(std::move(text), indices_.size()).first->second;
  }

  Column& column_;
  std::map<std::string, std::size_t, std::less<>> indices_;
};

/// Reads the files of one table, one after the other, into it.
class Reader {
 public:
  Reader(const TableSpec& spec, Table& table) : spec_(spec), table_(table) {
    for (const ColumnSpec& column : spec.columns) {
      table.columns.push_back({column.name, column.type, column.vocabulary, !column.vocabulary.empty(), {}});
      name_hashes_.push_back(mix64(hash_text(column.name)));
    }
    for (const std::string& name : spec.extra) {
      table.extra.push_back({name, ColumnType::number, {}, false, {}});
      name_hashes_.push_back(mix64(hash_text(name)));
    }
    for (const std::string& name : spec.groups) {
      table.groups.push_back({name, {}});
      name_hashes_.push_back(mix64(hash_text(name)));
    }
    table.target_name = spec.target;
    for (Column& column : table.columns) categories_.emplace_back(column);
  }

  void read(const fs::path& file) {
    CsvReader reader(file);
    const auto columns = places(spec_.columns, reader);
    const auto extra = places(spec_.extra, reader);
    const auto groups = places(spec_.groups, reader);
    const auto filters = places(spec_.filters, reader);
    std::optional<std::size_t> target;
    if (!spec_.target.empty())
      target = spec_.target_required ? reader.place(spec_.target) : reader.find(spec_.target);

    std::vector<std::string_view> fields;
    while (reader.next(fields)) {
      const auto number = [&](std::size_t at) { return reader.number(at, fields[at]); };
      const auto passes = [&](std::size_t i) {
        const TableSpec::Filter& filter = spec_.filters[i];
        const double value = number(filters[i]);
        return std::any_of(filter.allowed.begin(), filter.allowed.end(),
                           [&](double allowed) { return value == allowed; });
      };
      bool kept = true;
      for (std::size_t i = 0; i < filters.size() && kept; ++i) kept = passes(i);
      if (!kept) continue;

      // A sum, so that the order of columns does not matter; each term is bound to its column's name.
      std::uint64_t identity = 0;
      auto name_hash = name_hashes_.begin();
      const auto identify = [&](std::uint64_t content) { identity += mix64(*name_hash++ ^ content); };
      for (std::size_t i = 0; i < columns.size(); ++i) {
        Column& column = table_.columns[i];
        if (column.type == ColumnType::category) {
          column.values.push_back(categories_[i].index(fields[columns[i]]));
          identify(hash_text(fields[columns[i]]));
        } else {
          column.values.push_back(number(columns[i]));
          identify(bits(column.values.back()));
        }
      }
      for (std::size_t i = 0; i < extra.size(); ++i) {
        table_.extra[i].values.push_back(number(extra[i]));
        identify(bits(table_.extra[i].values.back()));
      }
      for (std::size_t i = 0; i < groups.size(); ++i) {
        table_.groups[i].hashes.push_back(hash_text(fields[groups[i]]));
        identify(table_.groups[i].hashes.back());
      }
      if (!spec_.target.empty()) {
        table_.target.push_back(target ? label(reader, *target, fields[*target]) : missing);
        identity += mix64(bits(table_.target.back()) + 1);
      }
      table_.identity.push_back(mix64(identity));
      ++table_.rows;
    }
  }

  void finish() {
    for (Categories& categories : categories_) categories.sort();
  }

 private:
  static const std::string& name_of(const std::string& name) { return name; }
  static const std::string& name_of(const ColumnSpec& column) { return column.name; }
  static const std::string& name_of(const TableSpec::Filter& filter) { return filter.column; }

  /// All NaNs are one value: missing.
  static std::uint64_t bits(float value) {
    return mix64(std::isnan(value) ? 0x7fc00000u : std::bit_cast<std::uint32_t>(value));
  }

  template <typename Named>
  static std::vector<std::size_t> places(const std::vector<Named>& wanted, const CsvReader& reader) {
    std::vector<std::size_t> result;
    result.reserve(wanted.size());
    for (const Named& item : wanted) result.push_back(reader.place(name_of(item)));
    return result;
  }

  float label(const CsvReader& reader, std::size_t field, std::string_view text) const {
    const float value = reader.number(field, text);
    if (value == 0 || value == 1 || (std::isnan(value) && !spec_.target_required)) return value;
    reader.refuse(field, text, "0 or 1, as in every target");
  }

  const TableSpec& spec_;
  Table& table_;
  std::vector<Categories> categories_;      // one per column; unused for numbers
  std::vector<std::uint64_t> name_hashes_;  // of columns, extra, groups, in this order
};

}  // namespace

const Column* Table::find(std::string_view name) const {
  for (const auto* list : {&columns, &extra})
    for (const Column& column : *list)
      if (column.name == name) return &column;
  return nullptr;
}

Table read_table(const TableSpec& spec) {
  Table table;
  table.files = find_data_files(spec.path, spec.files);
  Reader reader(spec, table);
  for (const fs::path& file : table.files) reader.read(file);
  reader.finish();
  if (table.rows > 0) return table;
  const bool several = table.files.size() > 1;
  throw Error((several ? "the " + std::to_string(table.files.size()) + " files of " : "") +
              spec.path.string() + (several ? " have" : " has") + " no rows" +
              (spec.filters.empty() ? "" : " that pass the filters"));
}

void keep_trained_categories(Table& table, std::span<const std::size_t> training) {
  for (Column& column : table.columns) {
    if (column.type != ColumnType::category || column.vocabulary_given) continue;
    std::vector<bool> seen(column.vocabulary.size());
    for (const std::size_t row : training)
      if (!std::isnan(column.values[row])) seen[static_cast<std::size_t>(column.values[row])] = true;
    std::vector<std::string> kept;
    std::vector<float> renumbered(seen.size(), missing);
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (!seen[i]) continue;
      renumbered[i] = static_cast<float>(kept.size());
      kept.push_back(std::move(column.vocabulary[i]));
    }
    column.vocabulary = std::move(kept);
    for (float& cell : column.values)
      if (!std::isnan(cell)) cell = renumbered[static_cast<std::size_t>(cell)];
  }
}

std::vector<std::string> require_usable(const Table& table, std::span<const std::size_t> training) {
  if (training.empty()) throw Error("there are no rows to train on");
  const auto same = [&](const std::vector<float>& values) {
    const float first = values[training[0]];
    return std::all_of(training.begin(), training.end(), [&](std::size_t row) {
      return values[row] == first || (std::isnan(first) && std::isnan(values[row]));
    });
  };
  if (!table.target.empty() && same(table.target))
    throw Error("the target column '" + table.target_name + "' is " +
                (table.target[training[0]] == 1 ? "1" : "0") + " in all " + std::to_string(training.size()) +
                " training rows; a predictor needs examples of both 0 and 1");
  std::vector<std::string> warnings;
  for (const Column& column : table.columns) {
    if (!same(column.values)) continue;
    const float value = column.values[training[0]];
    std::string text = "missing";
    if (!std::isnan(value)) {
      char digits[32];
      text = column.type == ColumnType::category
                 ? "'" + column.vocabulary[static_cast<std::size_t>(value)] + "'"
                 : std::string(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
    }
    warnings.push_back("the column '" + column.name + "' is " + text + " in all " +
                       std::to_string(training.size()) + " training rows and cannot help the prediction");
  }
  return warnings;
}

std::uint64_t hash_text(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix64(hash);
}

}  // namespace tonearm
