#pragma once

#include <tonearm_schema/model_generated.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "data/recipe.h"
#include "data/table.h"
#include "train/training.h"

namespace tonearm {

/// A feature program fitted on training rows: columns, missing-value policy and encoders in `model`, and
/// the slots that a predictor reads.
struct FeatureProgram {
  schema::ModelT model;
  std::uint16_t first = 0;
  std::size_t count = 0;
  std::vector<std::string> names;  // of the `count` slots, e.g. "loudness", "key=7", "pca.0"
};

/// Builds the program that a recipe's [missing] and [[features]] describe.
///
/// Encoders are fitted on the rows `training` of the table only, on values that the runtime computes:
/// an encoder may read columns or, by `input`, an earlier named one. Encoders that another one reads are
/// not inputs of the predictor. Without [[features]] every column goes in as it is.
///
/// encode = "identity"  columns
///          "scale"     columns, method = "standard" (mean 0, deviation 1) | "min-max" (0 to 1) | "fixed"
///                      with center, factor: (value - center) * factor
///          "one-hot"   columns (categories), unknown = true for a slot of its own
///          "ordinal"   columns (categories), values = [one number per category]; default 0, 1, 2, ...
///          "bucket"    columns, edges = [...] or count = N (equal shares of the training rows)
///          "pca"       columns or input, count = N
/// [missing] policy = "keep" | "mean" | "median" | "zero", and `columns` with a policy for some of them.
FeatureProgram fit_features(const Recipe::Section& recipe, const Table& table,
                            std::span<const std::size_t> training, Threads& threads);

/// The rows of the table that `which` names, as the runtime takes them: row-major, one float per column
/// of the model.
std::vector<float> gather_rows(const Table& table, std::span<const std::size_t> which);

/// What the runtime computes into the slots [first, first + count) for the given rows of the table, with
/// their labels: the values that trainers see and that devices will see.
Dataset collect(FeatureProgram& program, const Table& table, std::span<const std::size_t> which,
                Threads& threads);

}  // namespace tonearm
