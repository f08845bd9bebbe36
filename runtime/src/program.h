#pragma once

// What the evaluator sees of a blob: plain views of arrays that stay where they are. model.cpp, the one
// source that knows FlatBuffers, hands them out; everything in them has been checked when the blob was
// opened.

#include <tonearm/tonearm.h>

namespace tonearm::runtime {

enum class EncoderKind : uint8_t { identity, scale, one_hot, ordinal, bucket, projection };

struct FeatureView {
  EncoderKind kind;
  bool unknown_slot;  // one_hot
  const uint16_t* inputs;
  uint32_t input_count;
  uint32_t output, output_count;
  const float* first;   // scale: center; ordinal: values; bucket: edges; projection: mean
  const float* second;  // scale: factor; projection: components
  uint32_t first_count;
  float unknown;  // ordinal
};

enum class OperatorType : uint8_t { affine, branching_trees, symmetric_trees, calibrate };
enum class ActivationKind : uint8_t { none, relu, sigmoid, tanh, softmax };
enum class NodeKind : uint8_t { node4, node6, node8, node12 };
enum class LeafKind : uint8_t { float32, int16, palette8, palette16 };

struct AffineView {
  const float* weights;
  const float* bias;
  ActivationKind activation;
};

/// Bulk arrays of the blob are only as aligned as the blob itself, so multi-byte elements of byte arrays
/// are read with memcpy.
struct TreesView {
  const uint16_t* slots;
  const uint8_t* missing_right;
  const uint32_t* threshold_begin;
  const int32_t* thresholds;
  uint32_t axes;
  uint32_t trees;
  uint32_t depth;               // symmetric
  const uint8_t* nodes;         // branching: nodes; symmetric: splits
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

struct OperatorView {
  OperatorType type;
  uint32_t input, input_count;
  uint32_t output, output_count;
  union {
    AffineView affine;
    TreesView trees;
    CalibrateView calibrate;
  };
};

/// Counts and places that every evaluation needs, kept in tonearm_model::private_state.
struct Plan {
  uint32_t blob_bytes;
  uint32_t columns;
  uint32_t has_categories;
  uint32_t features;
  uint32_t operators;
  uint32_t slots;
  uint32_t output, output_count;
  uint32_t scratch_bytes;
  uint32_t golden_rows;
};
static_assert(sizeof(Plan) <= sizeof(tonearm_model::private_state));

inline bool is_open(const tonearm_model& model) { return model.private_root != nullptr; }
Plan plan_of(const tonearm_model& model);
const float* missing_fill(const tonearm_model& model);
/// Size of column's vocabulary, 0 for a number.
uint32_t category_count(const tonearm_model& model, uint32_t column);
FeatureView feature_at(const tonearm_model& model, uint32_t index);
OperatorView operator_at(const tonearm_model& model, uint32_t index);
struct GoldenView {
  const float* rows;
  const float* outputs;
  float tolerance;
};
GoldenView golden_of(const tonearm_model& model);

/// Slices of an axis with that many thresholds; see TreeInputs in the schema.
inline uint32_t slices_of(uint32_t thresholds) { return thresholds <= 255 ? 1 : (thresholds + 254) / 255; }

}  // namespace tonearm::runtime
