#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/table.h"

namespace tonearm {

/// Which rows are held out. Every decision is a function of one row's own cells and the seed, so it does
/// not depend on the order of rows and can be made in one pass over files of any size.
struct SplitSpec {
  /// The group column whose rows stay together; "" for the row itself (then equal rows stay together).
  std::string group;

  /// Rows are held out if their group's hash falls into this share of all hashes. In (0, 1).
  double share = 0.25;
  /// Or, if `column` is set: held out are the rows where this number column equals `value`.
  std::string column;
  double value = 0;

  /// Group columns no value of which may be on both sides: rows of the training side that share one with
  /// a held-out row are dropped.
  std::vector<std::string> guards;

  /// The share of the training rows' groups that is set apart for early stopping and calibration.
  double validation = 0;
};

/// Row numbers of the table, ascending.
struct Split {
  std::vector<std::size_t> training, validation, held_out;
  std::size_t dropped = 0;  // by guards
  /// 16 hex digits: the sum of the held-out rows' mixed identities. It depends on nothing but which rows
  /// are held out.
  std::string digest;
  /// In words, for cards and reports: "25 % of rows, grouped by uri, seed 1".
  std::string rule;
};

/// Throws Error for an unknown column or group, a share outside (0, 1), or a side that is left empty.
Split make_split(const Table& table, const SplitSpec& spec, std::uint32_t seed);

/// The fold, 0 to folds - 1, of each of `rows`. Groups are ranked by a hash and dealt in turn: no group
/// is in two folds, and their numbers of groups differ by at most one. Throws Error for fewer groups than
/// folds, or fewer than 2 folds.
std::vector<unsigned> assign_folds(const Table& table, std::span<const std::size_t> rows,
                                   const std::string& group, unsigned folds, std::uint32_t seed);

}  // namespace tonearm
