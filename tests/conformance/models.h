#pragma once

// One small model of every operator, encoder and format, made by hand: no trainer, no data. The golden blobs
// of every format version are packed from them, and the tests of the runtime attack them.

#include <tonearm/tonearm.h>
#include <tonearm_schema/model_generated.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"

namespace tonearm {

/// One call of a session model.
struct SampleEvent {
  schema::GoldenEventKind kind;
  /// Of a start: track, start and now; of an end: end; of a prediction: the candidate's track, and now.
  tonearm_event told;
  /// Of a prediction: 0 asks for the playing track, another number for a candidate at that horizon.
  std::uint32_t horizon = 0;
  /// What the `extra` of track, now, start and end lead to.
  std::array<std::vector<float>, 4> extra;
};

struct SampleModel {
  /// Also the name of its golden blob.
  std::string name;
  schema::ModelT model;
  /// Row-major: on edges and beside them, missing, infinite, denormal.
  std::vector<float> rows;
  /// How far outputs may differ between targets; 0 means not by a bit.
  float tolerance = 0;
  /// Of a session model, instead of rows.
  std::vector<SampleEvent> events = {};
};

/// What each minor format added: 0 plain tables, 1 session models, 2 blocks of trees, sets of categories,
/// zeros that are missing, pivots, norms, 3 recurrent layers and quantized ones, 4 complete trees.
std::vector<SampleModel> samples_of_format(std::uint32_t minor);
/// Of all formats.
std::vector<SampleModel> sample_models();
std::vector<SampleModel> session_sample_models();
SampleModel sample_model(std::string_view name);

/// Appends an operator that reads the slots [first, first + count), and makes its outputs the model's.
schema::OperatorT& append_sample_operator(schema::ModelT& model, std::uint16_t first, std::size_t count,
                                          std::size_t outputs, schema::OperatorKindUnion kind);

/// Layers of random weights, for steps of `inputs` numbers: `levels` of them one above the other, each with
/// as many units, forward, backward or both.
struct SampleLayers {
  schema::Cell cell = schema::Cell::Lstm;
  schema::WeightFormat format = schema::WeightFormat::Float32;
  unsigned inputs = 1, units = 1, levels = 1;
  bool forward = true, backward = false;
};
/// The operator, but for where its sequence comes from.
schema::RecurrentT sample_recurrent(const SampleLayers& layers, Random& random);
/// A layer of Float16 or Int8, random too.
schema::QuantizedAffineT sample_quantized(schema::WeightFormat format, unsigned inputs, unsigned outputs,
                                          Random& random);

/// Tells a session of an event, or asks it: `out` then has room for the outputs, and `answered` says so.
tonearm_status perform(const tonearm_model& model, tonearm_session* session, const SampleEvent& event,
                       void* scratch, std::size_t scratch_size, float* out, bool& answered);
/// The outputs of all predictions of the events, one set after the other, from an empty session on.
std::vector<float> replay(const tonearm_model& model, std::span<const SampleEvent> events);

/// Events as they are stored beside a golden blob, a line each; and a line read.
std::string text_of(const SampleEvent& event);
SampleEvent event_of(const std::string& line);

/// The golden blob of a model, and the text file beside it: rows (or events) and outputs as the bits of
/// float32.
std::vector<unsigned char> golden_blob(const SampleModel& sample);
std::string golden_rows(const SampleModel& sample);
std::string golden_events(const SampleModel& sample);

}  // namespace tonearm
