#pragma once

// Models that others trained. An importer reads one file into an ImportedModel, or throws an Error that names
// the file, the place in it, what was expected there and what to do. Nothing has been written by then.

#include <tonearm_schema/model_generated.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "emit/emit.h"
#include "train/trees.h"

namespace tonearm {

struct ImportedColumn {
  std::string name;
  /// Categories in the order of their numbers; empty for a number.
  std::vector<std::string> vocabulary;
};

/// An ensemble whose features are the columns.
struct ImportedTrees {
  TreeEnsemble ensemble;
  Link link = Link::identity;
  double slope = 1;
};

/// A program: appends its features and operators to a model whose columns lie, in their order, in the slots
/// from `first` on, and sets the model's output.
struct ImportedProgram {
  std::function<void(schema::ModelT& model, std::uint16_t first)> append;
  /// How far a score may be from the exact one, where the program is an ensemble of trees and nothing that
  /// rounds before it; NaN where no bound is known.
  double score_bound = 0;
};

struct ImportedModel {
  /// E.g. "LightGBM text v4" or "ONNX, opset 17 and ai.onnx.ml 3, by skl2onnx 1.19".
  std::string format;
  /// The trainer's own words for what is predicted, e.g. "binary sigmoid:1".
  std::string task;
  std::vector<ImportedColumn> columns;
  std::variant<ImportedTrees, ImportedProgram> predictor;
  /// What a reader should know and no field says, a sentence each: e.g. trees after the best iteration were
  /// left out.
  std::vector<std::string> remarks;
};

/// `bytes` is the whole file and `path` its name, for messages. Memory stays within a small multiple of the
/// file's size, whatever the file announces.
bool is_lightgbm(std::string_view bytes);
ImportedModel import_lightgbm(std::string_view bytes, const std::string& path);

/// XGBoost's JSON and UBJSON.
bool is_xgboost(std::string_view bytes);
ImportedModel import_xgboost(std::string_view bytes, const std::string& path);

/// ONNX, by elimination: it has no magic number. Throws an Error that lists every node that is not supported.
ImportedModel import_onnx(std::string_view bytes, const std::string& path);

/// Recognises the format by content.
ImportedModel import_model(std::string_view bytes, const std::string& path);

/// Appends the predictor, whose column i is in slot slots[i]; slots below `context_end` are of the context
/// part. Trees pick their inputs, and everything else gets them side by side.
void append_imported(schema::ModelT& model, const ImportedModel& imported,
                     const std::vector<std::uint16_t>& slots, std::uint16_t context_end, TreeStorage storage);

/// A model about rows: the columns as the trainer had them, or as `names` calls them anew.
schema::ModelT table_model(const ImportedModel& imported, const std::map<std::string, std::string>& names,
                           TreeStorage storage);

}  // namespace tonearm
