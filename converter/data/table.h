#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tonearm {

enum class ColumnType { number, category };

struct ColumnSpec {
  std::string name;
  ColumnType type = ColumnType::number;
  /// Of a category: its texts, in the order of their indices; empty means "whatever the files hold".
  std::vector<std::string> vocabulary = {};
};

/// What to read, and from where.
struct TableSpec {
  /// A folder, or one file.
  std::filesystem::path path;
  /// In a folder: which files, by their names, e.g. "*dataset-of-*.csv"; NAME.csv.gz is matched by the
  /// pattern for NAME.csv. Files are read in the order of their names.
  std::string files = "*.csv";

  /// The columns of the table, in this order.
  std::vector<ColumnSpec> columns;
  /// Number columns that are kept beside the table's own, for rules of splits, e.g. "decade".
  std::vector<std::string> extra;
  /// The column of labels, 0 or 1; "" for none.
  std::string target;
  /// When false (prediction), the target column may be absent and its cells may be empty.
  bool target_required = true;
  /// Columns whose texts say which rows belong together, e.g. "uri", "artist". Only hashes are kept.
  std::vector<std::string> groups;

  struct Filter {
    std::string column;
    std::vector<double> allowed;
  };
  /// Only rows are kept whose number in every filter's column is one of the allowed ones.
  std::vector<Filter> filters;
};

struct Column {
  std::string name;
  ColumnType type = ColumnType::number;
  /// Of a category. Found in the files: sorted by text (bytewise), so that the order of rows and files
  /// does not matter.
  std::vector<std::string> vocabulary;
  bool vocabulary_given = false;
  /// One per row; NaN is missing. A category's cell is the index into the vocabulary; NaN if it is empty
  /// or not in a given vocabulary.
  std::vector<float> values;
};

struct Group {
  std::string name;
  std::vector<std::uint64_t> hashes;  // one per row; rows with an empty cell share one
};

/// Rows of CSV files in columns of float32: the one way in which the converter reads a table of features.
struct Table {
  std::size_t rows = 0;
  std::vector<Column> columns;
  std::vector<Column> extra;
  std::string target_name;
  std::vector<float> target;  // 0, 1, or NaN where unknown; empty if no target was asked for
  std::vector<Group> groups;
  /// A hash of every cell read (columns, extra, target, groups) of each row: the same row has the same
  /// identity wherever it stands, whatever the order of columns or vocabularies.
  std::vector<std::uint64_t> identity;
  /// The files read, in order.
  std::vector<std::filesystem::path> files;

  /// The column (or extra column) of that name, or null.
  const Column* find(std::string_view name) const;
};

/// Throws Error naming file, line, column and text wherever a file is not as asked: no file matches, a
/// column is missing (with those there and the nearest name), text or an infinity stands where a number
/// is expected, a target is neither 0 nor 1, no row is left.
Table read_table(const TableSpec& spec);

/// Shrinks each vocabulary that was found in the files, not given, to what occurs in the rows `training`,
/// so that a model never knows categories that only held-out rows show. Other cells become NaN.
void keep_trained_categories(Table& table, std::span<const std::size_t> training);

/// Throws Error if the rows `training` are none or all have the same target. Returns one sentence for
/// each column that has one value only (or none) in them.
std::vector<std::string> require_usable(const Table& table, std::span<const std::size_t> training);

/// FNV-1a (Fowler, Noll, Vo) of the bytes, finished with mix64 because its high bits mix poorly.
std::uint64_t hash_text(std::string_view text);

}  // namespace tonearm
