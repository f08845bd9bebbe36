#pragma once

// What the evaluator sees of a blob: plain views of arrays that stay where they are. model.cpp, the one
// source that knows FlatBuffers, hands them out; everything in them has been checked when the blob was
// opened.

#include <tonearm/tonearm.h>

namespace tonearm::runtime {

// What the build can run; see TONEARM_OPERATORS and TONEARM_SESSIONS. Code of what is left out does not
// compile.
#ifdef TONEARM_WITHOUT_TREES
constexpr bool with_trees = false;
#else
constexpr bool with_trees = true;
#endif
#ifdef TONEARM_WITHOUT_AFFINE
constexpr bool with_affine = false;
#else
constexpr bool with_affine = true;
#endif
#ifdef TONEARM_WITHOUT_RECURRENT
constexpr bool with_recurrent = false;
#else
constexpr bool with_recurrent = true;
#endif
#ifdef TONEARM_WITHOUT_SESSIONS
constexpr bool with_sessions = false;
#else
constexpr bool with_sessions = true;
#endif

enum class PhaseKind : uint8_t { history, context, candidate };

enum class EncoderKind : uint8_t {
  identity,
  scale,
  one_hot,
  ordinal,
  bucket,
  projection,
  difference,
  distance,
  normalize,
  fact,
  // Aggregates: those with a state in the session.
  lag,
  mean,
  window,
  total,
  streak,
  repeats
};

enum class NormKind : uint8_t { l1, l2, max };

enum class FactKind : uint8_t { horizon, position, gap, elapsed, playing };

struct FeatureView {
  EncoderKind kind;
  PhaseKind phase;
  bool unknown_slot;  // one_hot
  bool weighted;      // mean
  bool same;          // streak
  bool carries;       // aggregates
  bool of_artist;     // repeats
  FactKind fact;
  NormKind norm;
  const uint16_t* inputs;
  uint32_t input_count;
  uint32_t output, output_count;
  const float* first;   // scale: center; ordinal: values; bucket: edges; projection: mean
  const float* second;  // scale: factor; projection: components
  uint32_t first_count;
  float unknown;                    // ordinal; lag: empty
  uint32_t length;                  // lag: count; window, repeats
  float keep, prior, prior_weight;  // mean
};

inline bool is_aggregate(EncoderKind kind) { return kind >= EncoderKind::lag; }

/// Elements (of 4 bytes) that a feature keeps in the session; see the schema.
inline uint32_t state_size(const FeatureView& feature) {
  switch (feature.kind) {
    case EncoderKind::lag:
    case EncoderKind::window:
      return feature.input_count * feature.length;
    case EncoderKind::mean:
      return 2 * feature.output_count;
    case EncoderKind::total:
      return feature.output_count;
    case EncoderKind::streak:
      return feature.output_count * (feature.same ? 2 : 1);
    case EncoderKind::repeats:
      return feature.length;
    default:
      return 0;
  }
}

enum class OperatorType : uint8_t {
  affine,
  branching_trees,
  symmetric_trees,
  calibrate,
  block_trees,
  quantized_affine,
  recurrent
};
enum class ActivationKind : uint8_t { none, relu, sigmoid, tanh, softmax };
enum class NodeKind : uint8_t { node4, node6, node8, node12, complete };
enum class LeafKind : uint8_t { float32, int16, palette8, palette16 };

struct AffineView {
  const float* weights;
  const float* bias;
  ActivationKind activation;
  uint32_t cpu;
};

/// Bulk arrays of the blob are only as aligned as the blob itself, so multi-byte elements of byte arrays
/// are read with memcpy.
struct TreesView {
  const uint16_t* slots;
  const uint8_t* missing;  // the schema's MissingDirection
  const uint32_t* threshold_begin;
  const int32_t* thresholds;
  const uint32_t* pivot_begin;  // null where thresholds are searched by halves
  const int32_t* pivots;
  uint32_t axes;
  uint32_t category_axes;
  const uint16_t* category_slots;
  const uint32_t* category_counts;
  const uint16_t* category_slices;
  const uint8_t* category_rows;
  uint32_t cpu;                                                  // the TONEARM_CPU_ bit of the kernels
  uint32_t context_axes, context_slices, slices, context_trees;  // of a session model
  uint32_t trees;
  uint32_t depth;               // symmetric, complete
  const uint8_t* nodes;         // branching, blocks: nodes; symmetric: splits
  const uint8_t* block_nodes;   // blocks
  const uint32_t* tree_nodes;   // branching
  const uint32_t* tree_leaves;  // branching
  const uint8_t* leaves;
  const float* palette;
  const float* base;
  float scale;
  NodeKind node_kind;  // branching
  LeafKind leaf_kind;
};

struct CalibrateView {
  bool isotonic;
  float slope, intercept;
  const float* x;
  const float* y;
  uint32_t points;
};

enum class WeightKind : uint8_t { float32, float16, int8 };

struct QuantizedAffineView {
  WeightKind format;
  ActivationKind activation;
  uint32_t cpu;
  const uint8_t* weights;
  const float* bias;
  const float* input_factors;  // int8
  const float* scales;         // int8
};

enum class CellKind : uint8_t { rnn, rnn_relu, lstm, gru, gru_reset_before };

inline uint32_t gates_of(CellKind cell) {
  return cell == CellKind::lstm ? 4 : cell == CellKind::rnn || cell == CellKind::rnn_relu ? 1 : 3;
}

/// The units of a panel; see WeightFormat in the schema.
constexpr uint32_t panel_units = 16;
constexpr uint32_t panels_of(uint32_t units) { return (units + panel_units - 1) / panel_units; }

struct RecurrentLayerView {
  uint32_t level;
  bool backward;
  CellKind cell;
  uint32_t units;
  const uint8_t* input_weights;
  const uint8_t* recurrent_weights;
  const float* bias;
  const float* recurrent_bias;
  const int32_t* bias_codes;
  const int32_t* recurrent_bias_codes;
  const int32_t* input_multipliers;
  const int32_t* recurrent_multipliers;
  uint32_t input_shift, recurrent_shift;
};

struct RecurrentView {
  bool session, padded, all_steps, lengths;
  WeightKind format;
  uint32_t steps;  // 0: a session's steps are taken in one at a time
  float padding;
  uint32_t width;  // inputs of a step
  uint32_t layers;
  uint32_t cpu;
  const float* input_factors;
  const void* table;  // for recurrent_layer()
};

struct OperatorView {
  OperatorType type;
  PhaseKind phase;
  uint32_t input, input_count;
  uint32_t output, output_count;
  union {
    AffineView affine;
    TreesView trees;
    CalibrateView calibrate;
    QuantizedAffineView quantized;
    RecurrentView recurrent;
  };
};

/// Layer `index` of a recurrent operator.
RecurrentLayerView recurrent_layer(const RecurrentView& view, uint32_t index);

/// What recurrent layers take, from their widths: counted layer by layer.
struct RecurrentSize {
  uint32_t widest_input = 0, widest_units = 0, most_rows = 0;  // units and rows filled up to panels
  uint32_t width = 0, widest_level = 0;                        // outputs of the level at hand; of any level
  uint32_t levels = 0;
  uint64_t streamed = 0;  // elements of state where steps are taken in one at a time

  void add(const RecurrentLayerView& layer, WeightKind format, uint32_t inputs) {
    if (layer.level + 1 > levels) width = 0;
    levels = layer.level + 1;
    width += layer.units;
    const uint32_t padded = panels_of(layer.units) * panel_units, rows = padded * gates_of(layer.cell);
    const uint32_t vectors = layer.cell == CellKind::lstm ? 2 : 1;
    widest_input = inputs > widest_input ? inputs : widest_input;
    widest_units = padded > widest_units ? padded : widest_units;
    most_rows = rows > most_rows ? rows : most_rows;
    widest_level = width > widest_level ? width : widest_level;
    streamed += vectors * (format == WeightKind::int8 ? (layer.units + 1u) / 2 : layer.units);
  }
};

/// Elements of 4 bytes that a step takes in the ring of a session.
constexpr uint32_t step_elements(WeightKind format, uint32_t width) {
  return format == WeightKind::int8 ? (width + 3) / 4 : width;
}
/// Elements that an operator over the session keeps.
inline uint64_t state_elements(const RecurrentSize& size, WeightKind format, uint32_t steps, uint32_t width) {
  return steps == 0 ? size.streamed : 1 + uint64_t{steps} * step_elements(format, width) + size.width;
}
/// Bytes of work: the steps' inputs, two levels' outputs, sums of the gates for every step, those of the
/// recurrent products, and three vectors of units, all of 4-byte elements.
inline uint64_t recurrent_work_bytes(const RecurrentSize& size, uint32_t steps) {
  const uint64_t count = steps == 0 ? 1 : steps;
  const uint64_t vector = size.widest_input > size.widest_level ? size.widest_input : size.widest_level;
  return 4 * (count * (2 * ((vector + 3) / 4 * 4) + size.most_rows) + size.most_rows +
              uint64_t{3} * size.widest_units);
}

/// Of functions whose frames must not add up where there is little stack.
#ifdef TONEARM_SMALL
#define TONEARM_OWN_FRAME __attribute__((noinline))
#else
#define TONEARM_OWN_FRAME
#endif

/// Of structs that are read where numbers were written.
#if defined(__GNUC__)
#define TONEARM_MAY_ALIAS __attribute__((may_alias))
#else
#define TONEARM_MAY_ALIAS
#endif

/// Counts and places that every evaluation needs, kept in tonearm_model::private_state.
struct TONEARM_MAY_ALIAS Plan {
  uint32_t columns;
  uint32_t category_end;  // behind the last column that is a category
  uint32_t features;
  uint32_t operators;
  uint32_t slots;
  uint32_t output, output_count;
  uint32_t scratch_bytes;
  uint32_t golden_rows;
  // Of a session model. Columns come by source: Track, Now, Start, End; features and operators by phase.
  uint32_t session_bytes;
  uint32_t recurrent_elements;  // of the session: those that recurrent operators keep, its last
  uint32_t model_id;
  uint32_t first_now, first_start, first_end;
  uint32_t first_context_feature, first_candidate_feature, first_candidate_operator;
  uint32_t leaky;
  uint32_t cpu;

  bool has_session() const { return session_bytes != 0; }
};
static_assert(sizeof(Plan) <= sizeof(tonearm_model::private_state) && alignof(Plan) <= alignof(uint32_t));

inline bool is_open(const tonearm_model& model) { return model.private_root != nullptr; }
inline const Plan& plan_of(const tonearm_model& model) {
  return *reinterpret_cast<const Plan*>(model.private_state);
}
const float* missing_fill(const tonearm_model& model);
/// Size of column's vocabulary, 0 for a number.
uint32_t category_count(const tonearm_model& model, uint32_t column);
FeatureView feature_at(const tonearm_model& model, uint32_t index);
OperatorView operator_at(const tonearm_model& model, uint32_t index);
struct GoldenView {
  const float* rows;
  const float* outputs;
  float tolerance;
  uint32_t events;  // of a session model
};
GoldenView golden_of(const tonearm_model& model);

enum class GoldenKind : uint8_t { start, end, predict };
struct GoldenEventView {
  GoldenKind kind;
  uint32_t time, track_id, artist_id, horizon;
};
GoldenEventView golden_event_at(const tonearm_model& model, uint32_t index);

struct RulesView {
  uint32_t idle_gap, cap;
  uint32_t level, reasons, below_ms;
  float below_share;
};
RulesView rules_of(const tonearm_model& model);
/// The schema's Field of each column.
const uint8_t* fields_of(const tonearm_model& model);

/// Bytes of the header that begins every session, and of what a call keeps of an ensemble in a session model:
/// its slices, and of symmetric trees what the context part leaves for the candidates.
constexpr uint32_t session_header_bytes = 80;
struct SharedTrees {
  float lanes[16];
  int32_t codes;
};
constexpr uint64_t tree_scratch_bytes(uint32_t slices, uint64_t symmetric_trees) {
  return sizeof(SharedTrees) + (slices + 3) / 4 * 4 + symmetric_trees * 4;
}

/// Of BlockTrees: kernels read slices 64 at a time. A session's call keeps of symmetric trees a byte each,
/// and one for each block.
constexpr uint32_t padded_slices(uint32_t slices) { return (slices + 63) / 64 * 64; }
constexpr uint32_t blocks_of(uint32_t trees) { return (trees + 63) / 64; }
constexpr uint64_t block_scratch_bytes(uint32_t slices, uint64_t symmetric_trees) {
  return sizeof(SharedTrees) + padded_slices(slices) + symmetric_trees +
         (blocks_of(static_cast<uint32_t>(symmetric_trees)) + 3) / 4 * 4;
}

/// Slices of an axis with that many thresholds; see TreeInputs in the schema.
inline uint32_t slices_of(uint32_t thresholds) { return thresholds <= 255 ? 1 : (thresholds + 254) / 255; }

}  // namespace tonearm::runtime
