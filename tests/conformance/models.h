#pragma once

// One small model of every operator, encoder and format, made by hand: no trainer, no data. The golden
// blobs of this format version are packed from them, and the tests of the runtime attack them.

#include <tonearm_schema/model_generated.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tonearm {

struct SampleModel {
  /// Also the name of its golden blob.
  std::string name;
  schema::ModelT model;
  /// Row-major: on edges and beside them, missing, infinite, denormal.
  std::vector<float> rows;
  /// How far outputs may differ between targets; 0 means not by a bit.
  float tolerance = 0;
};

std::vector<SampleModel> sample_models();
SampleModel sample_model(std::string_view name);

/// Appends an operator that reads the slots [first, first + count), and makes its outputs the model's.
schema::OperatorT& append_sample_operator(schema::ModelT& model, std::uint16_t first, std::size_t count,
                                          std::size_t outputs, schema::OperatorKindUnion kind);

/// The golden blob of a model, and the text file beside it: rows and outputs as the bits of float32.
std::vector<unsigned char> golden_blob(const SampleModel& sample);
std::string golden_rows(const SampleModel& sample);

}  // namespace tonearm
