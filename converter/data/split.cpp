#include "data/split.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"

namespace tonearm {
namespace {

// Each kind of decision mixes in a number of its own: otherwise the groups set apart for validation would
// be the upper neighbours of those held out.
constexpr std::uint64_t held_out_salt = 0, validation_salt = 1, fold_salt = 2;

const std::vector<std::uint64_t>& hashes_of(const Table& table, const std::string& group) {
  if (group.empty()) return table.identity;
  std::vector<std::string> names;
  for (const Group& candidate : table.groups) {
    if (candidate.name == group) return candidate.hashes;
    names.push_back(candidate.name);
  }
  const std::string near = nearest(group, names);
  throw Error("the split groups by '" + group + "', which is not among the table's group columns" +
              (near.empty() ? "" : " (did you mean '" + near + "'?)"));
}

std::uint64_t draw(std::uint64_t group_hash, std::uint32_t seed, std::uint64_t salt) {
  return mix64(group_hash ^ mix64(seed + (salt << 32)));
}

/// Whether the group belongs to the drawn share. Only the upper 53 bits count: they are exact in a double.
bool drawn(std::uint64_t group_hash, std::uint32_t seed, std::uint64_t salt, double share) {
  return static_cast<double>(draw(group_hash, seed, salt) >> 11) * 0x1p-53 < share;
}

std::string short_number(double value) {
  char digits[40];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

std::string in_words(const SplitSpec& spec, std::uint32_t seed) {
  const auto percent = [](double share) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g %%", 100 * share);
    return std::string(text);
  };
  const std::string grouped = spec.group.empty() ? "" : ", grouped by " + spec.group;
  std::string rule;
  if (spec.column.empty())
    rule = percent(spec.share) + " of rows" + grouped + ", seed " + std::to_string(seed);
  else
    rule = "rows with " + spec.column + " = " + short_number(spec.value);
  for (const std::string& guard : spec.guards) rule += ", no " + guard + " on both sides";
  if (spec.validation > 0) {
    rule += "; " + percent(spec.validation) + " of the rest for validation";
    if (!spec.column.empty()) rule += grouped + ", seed " + std::to_string(seed);
  }
  return rule;
}

/// Marks the rows that are held out.
std::vector<bool> choose_held_out(const Table& table, const SplitSpec& spec, std::uint32_t seed) {
  std::vector<bool> held_out(table.rows);
  if (!spec.column.empty()) {
    const Column* column = table.find(spec.column);
    if (column == nullptr || column->type != ColumnType::number)
      throw Error("the split holds out rows by '" + spec.column +
                  "', which is not a number column of the table");
    for (std::size_t row = 0; row < table.rows; ++row)
      held_out[row] = column->values[row] == static_cast<float>(spec.value);
    return held_out;
  }
  if (!(spec.share > 0 && spec.share < 1))
    throw Error("the share of held-out rows is " + short_number(spec.share) +
                "; it must lie between 0 and 1");
  const std::vector<std::uint64_t>& groups = hashes_of(table, spec.group);
  for (std::size_t row = 0; row < table.rows; ++row)
    held_out[row] = drawn(groups[row], seed, held_out_salt, spec.share);
  return held_out;
}

/// Marks the rows of the training side that a guard forbids.
std::vector<bool> choose_dropped(const Table& table, const SplitSpec& spec,
                                 const std::vector<bool>& held_out) {
  std::vector<bool> dropped(table.rows);
  for (const std::string& guard : spec.guards) {
    const std::vector<std::uint64_t>& hashes = hashes_of(table, guard);
    std::vector<std::uint64_t> forbidden;
    for (std::size_t row = 0; row < table.rows; ++row)
      if (held_out[row]) forbidden.push_back(hashes[row]);
    std::sort(forbidden.begin(), forbidden.end());
    for (std::size_t row = 0; row < table.rows; ++row)
      if (!held_out[row] && std::binary_search(forbidden.begin(), forbidden.end(), hashes[row]))
        dropped[row] = true;
  }
  return dropped;
}

std::string digest_of(const Table& table, const std::vector<std::size_t>& rows) {
  std::uint64_t sum = 0;
  for (const std::size_t row : rows) sum += mix64(table.identity[row]);
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum));
  return text;
}

}  // namespace

Split make_split(const Table& table, const SplitSpec& spec, std::uint32_t seed) {
  if (!(spec.validation >= 0 && spec.validation < 1))
    throw Error("the share of validation rows is " + short_number(spec.validation) +
                "; it must lie between 0 and 1");
  const std::vector<bool> held_out = choose_held_out(table, spec, seed);
  const std::vector<bool> dropped = choose_dropped(table, spec, held_out);
  const std::vector<std::uint64_t>& groups = hashes_of(table, spec.group);
  Split split;
  split.rule = in_words(spec, seed);
  for (std::size_t row = 0; row < table.rows; ++row) {
    if (held_out[row])
      split.held_out.push_back(row);
    else if (dropped[row])
      ++split.dropped;
    else if (drawn(groups[row], seed, validation_salt, spec.validation))
      split.validation.push_back(row);
    else
      split.training.push_back(row);
  }
  const auto require_some = [&](const std::vector<std::size_t>& rows, const char* what) {
    if (rows.empty())
      throw Error("the split (" + split.rule + ") leaves no " + what + " rows of " +
                  std::to_string(table.rows));
  };
  require_some(split.held_out, "held-out");
  require_some(split.training, "training");
  if (spec.validation > 0) require_some(split.validation, "validation");
  split.digest = digest_of(table, split.held_out);
  return split;
}

std::vector<unsigned> assign_folds(const Table& table, std::span<const std::size_t> rows,
                                   const std::string& group, unsigned folds, std::uint32_t seed) {
  if (folds < 2) throw Error("cross-validation needs at least 2 folds, not " + std::to_string(folds));
  const std::vector<std::uint64_t>& groups = hashes_of(table, group);
  std::vector<std::uint64_t> ranking;
  for (const std::size_t row : rows) ranking.push_back(draw(groups[row], seed, fold_salt));
  std::sort(ranking.begin(), ranking.end());
  ranking.erase(std::unique(ranking.begin(), ranking.end()), ranking.end());
  if (ranking.size() < folds)
    throw Error("cross-validation with " + std::to_string(folds) + " folds needs as many " +
                (group.empty() ? "different rows" : "groups by '" + group + "'") + ", but there are only " +
                std::to_string(ranking.size()));
  std::vector<unsigned> result;
  for (const std::size_t row : rows) {
    const auto rank = std::lower_bound(ranking.begin(), ranking.end(), draw(groups[row], seed, fold_salt));
    result.push_back(static_cast<unsigned>(static_cast<std::size_t>(rank - ranking.begin()) % folds));
  }
  return result;
}

}  // namespace tonearm
