#pragma once

// From trained models to blobs. FlatBuffers' object API (schema::ModelT) is the intermediate
// representation: trainers' results are appended to it as operators, and pack() writes the bytes.

#include <tonearm_schema/model_generated.h>

#include <span>
#include <string>
#include <variant>
#include <vector>

#include "train/calibration.h"
#include "train/linear.h"
#include "train/network.h"
#include "train/trees.h"

namespace tonearm {

/// What a trainer made, in its own precision: the reference that the blob is compared with.
struct TrainedModel {
  std::variant<LinearModel, Network, TreeEnsemble> predictor;
  /// From the predictor's score to a probability. `none` where the score is one already.
  Calibration calibration;
};

/// The score of the predictor alone, and the calibrated probability, in float64.
double reference_score(const TrainedModel& model, std::span<const float> features);
double reference_probability(const TrainedModel& model, std::span<const float> features);

enum class LeafStorage {
  /// Exact: float32, or an index into the distinct values where that is smaller.
  exact,
  /// int16 with one scale for the ensemble; the sum is exact, each leaf is off by at most scale / 2.
  int16,
};

/// The first slot that no column, feature or operator writes yet.
std::uint16_t next_slot(const schema::ModelT& model);

/// Appends a feature that reads `inputs` and writes `length` new slots; returns the first of them.
std::uint16_t append_feature(schema::ModelT& model, std::vector<std::uint16_t> inputs, std::size_t length,
                             schema::EncoderUnion encoder, schema::Phase phase = schema::Phase::Candidate);

/// Appends the operators that compute the model's probability from the feature slots
/// [first, first + count), and makes it the output. Throws Error where the model does not fit the
/// format (e.g. more than 65535 slots). Of a session model, the first `context` of the feature slots are of
/// the context part: what trees ask of those alone is then asked once per call.
void append_predictor(schema::ModelT& model, const TrainedModel& trained, std::uint16_t first,
                      std::size_t count, LeafStorage leaves, std::size_t context = 0);

/// Stores those of `rows` (whole rows of the columns) for which the runtime computes numbers, and these
/// numbers, to be re-checked on devices.
void add_golden(schema::ModelT& model, const std::vector<float>& rows);

/// Fills in versions, sizes, memory plan and checksum, and returns the bytes of the blob. Same model,
/// same bytes.
std::vector<unsigned char> pack(schema::ModelT& model);

}  // namespace tonearm
