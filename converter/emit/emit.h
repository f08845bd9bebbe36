#pragma once

// From trained models to blobs. FlatBuffers' object API (schema::ModelT) is the intermediate
// representation: trainers' results are appended to it as operators, and pack() writes the bytes.

#include <tonearm_schema/model_generated.h>

#include <map>
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

/// From scores to what the trainer's predict() returns.
enum class Link {
  identity,
  /// 1 / (1 + exp(-slope * score)), of each output by itself
  sigmoid,
  /// exp(score) / sum of the exp(scores) of all outputs
  softmax,
};

enum class TreeLayout {
  /// What is fastest where vectors of bytes are compared at once: mostly BlockTrees. Needs library 0.3.0.
  automatic,
  /// BranchingTrees and SymmetricTrees, of which a walk touches the fewest bytes: for deep trees on
  /// microcontrollers, and for every library since 0.1.0 (unless trees ask for sets of categories, or take
  /// zeros for missing).
  walk,
  /// BranchingTrees that are complete, up to 8 levels deep: the fewest instructions where there are no
  /// vectors,
  /// and of shallow trees, most of whose branches are as long as the longest, also fewer bytes. Gives the
  /// bits
  /// of `walk`. Needs library 0.5.0.
  complete,
};

/// Levels of questions that complete trees have at most.
inline constexpr unsigned deepest_complete_tree = 8;

/// Those that can be asked for, by the names that commands and recipes have for them.
inline const std::map<std::string, TreeLayout> tree_layouts = {
    {"auto", TreeLayout::automatic}, {"walk", TreeLayout::walk}, {"complete", TreeLayout::complete}};

struct TreeStorage {
  TreeStorage(LeafStorage storage, TreeLayout how = TreeLayout::automatic) : leaves(storage), layout(how) {}
  LeafStorage leaves;
  TreeLayout layout;
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
                      std::size_t count, TreeStorage storage, std::size_t context = 0);

/// Append one operator, which reads the slots [first, first + count), and make what it writes the model's
/// output. Trees: as append_predictor. Affine: `weights` are row-major, one row for each of the biases.
void append_trees(schema::ModelT& model, const TreeEnsemble& ensemble, std::uint16_t first, std::size_t count,
                  TreeStorage storage, std::size_t context = 0);
void append_affine(schema::ModelT& model, std::uint16_t first, std::size_t count, std::vector<float> weights,
                   std::vector<float> bias, schema::Activation activation);
/// Applies a link to the model's output; nothing for the identity.
void append_link(schema::ModelT& model, Link link, double slope = 1);

/// How far a score in the blob may be from the ensemble's exact one: leaves are rounded, and so is each
/// addition (Higham 2002, section 4.2).
double score_rounding(const TreeEnsemble& ensemble, LeafStorage leaves);

/// The inputs of an operator that is an ensemble of trees; null for others.
const schema::TreeInputsT* tree_inputs(const schema::OperatorT& op);
/// The float whose ordered bits a threshold is (NaN for the one below every number); see TreeInputs in the
/// schema.
float threshold_value(std::int32_t threshold);

/// Stores those of `rows` (whole rows of the columns) for which the runtime computes numbers, and these
/// numbers, to be re-checked on devices.
void add_golden(schema::ModelT& model, const std::vector<float>& rows);

/// Fills in versions, sizes, memory plan and checksum, and returns the bytes of the blob. Same model,
/// same bytes.
std::vector<unsigned char> pack(schema::ModelT& model);

}  // namespace tonearm
