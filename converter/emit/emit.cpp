#include "emit/emit.h"

#include <tonearm/tonearm.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>

#include "base/error.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

using schema::ModelT;

/// The order-preserving int32 of a float; see TreeInputs in the schema.
std::int32_t ordered(float value) {
  const auto bits = std::bit_cast<std::int32_t>(value == 0 ? 0.0f : value);
  return bits ^ (bits >> 31 & 0x7fffffff);
}

template <typename T>
void put(std::vector<std::uint8_t>& bytes, T value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

void append_operator(ModelT& model, std::uint16_t first, std::size_t count, std::size_t outputs,
                     schema::OperatorKindUnion kind) {
  if (next_slot(model) + outputs > 65535)
    throw Error("the model takes more than 65535 numbers: use fewer columns or smaller layers");
  auto op = std::make_unique<schema::OperatorT>();
  op->input_offset = first;
  op->input_length = static_cast<std::uint16_t>(count);
  op->output_offset = next_slot(model);
  op->output_length = static_cast<std::uint16_t>(outputs);
  op->kind = std::move(kind);
  op->phase = schema::Phase::Candidate;
  model.output_offset = op->output_offset;
  model.output_length = op->output_length;
  model.operators.push_back(std::move(op));
}

schema::Activation activation_of(NetworkActivation activation) {
  switch (activation) {
    case NetworkActivation::none:
      return schema::Activation::None;
    case NetworkActivation::relu:
      return schema::Activation::Relu;
    case NetworkActivation::sigmoid:
      return schema::Activation::Sigmoid;
    case NetworkActivation::tanh:
      return schema::Activation::Tanh;
    case NetworkActivation::softmax:
      return schema::Activation::Softmax;
  }
  return schema::Activation::None;
}

void append(ModelT& model, const LinearModel& linear, std::uint16_t first, std::size_t count, LeafStorage,
            std::size_t) {
  schema::AffineT affine;
  for (const double weight : linear.weights) affine.weights.push_back(static_cast<float>(weight));
  affine.bias = {static_cast<float>(linear.bias)};
  schema::OperatorKindUnion kind;
  kind.Set(std::move(affine));
  append_operator(model, first, count, 1, std::move(kind));
}

void append(ModelT& model, const Network& network, std::uint16_t first, std::size_t count, LeafStorage,
            std::size_t) {
  for (const NetworkLayer& layer : network.layers) {
    schema::AffineT affine;
    affine.activation = activation_of(layer.activation);
    for (Eigen::Index row = 0; row < layer.weights.rows(); ++row)
      for (Eigen::Index column = 0; column < layer.weights.cols(); ++column)
        affine.weights.push_back(layer.weights(row, column));
    affine.bias.assign(layer.bias.begin(), layer.bias.end());
    schema::OperatorKindUnion kind;
    kind.Set(std::move(affine));
    append_operator(model, first, count, static_cast<std::size_t>(layer.weights.rows()), std::move(kind));
    first = model.output_offset;
    count = model.output_length;
  }
  // Of the two classes only the positive one is an answer.
  model.output_offset = static_cast<std::uint16_t>(model.output_offset + model.output_length - 1);
  model.output_length = 1;
}

/// The axes of an ensemble, and where each threshold went. The features below `context` are of the context
/// part, so their axes come first.
class AxisTable {
 public:
  AxisTable(const TreeEnsemble& ensemble, bool session, std::size_t context) : session_(session) {
    for (const Tree& tree : ensemble.trees)
      for (const TreeNode& node : tree.nodes)
        if (node.feature >= 0) axes_[{node.feature, !node.missing_left}].push_back(ordered(node.threshold));
    if (axes_.empty()) axes_[{0, false}] = {};  // all trees are lone leaves
    for (auto& [key, thresholds] : axes_) {
      std::sort(thresholds.begin(), thresholds.end());
      thresholds.erase(std::unique(thresholds.begin(), thresholds.end()), thresholds.end());
      first_slice_[key] = slices_;
      slices_ += std::max<std::size_t>(1, (thresholds.size() + 254) / 255);
      if (static_cast<std::size_t>(key.first) < context) {
        ++context_axes_;
        context_slices_ = slices_;
      }
    }
    if (slices_ > 65535)
      throw Error("the trees compare with too many different thresholds for one ensemble (" +
                  std::to_string(slices_) + " groups of 255, at most 65535): use fewer bins");
  }

  std::size_t slices() const { return slices_; }

  bool of_context(const TreeNode& node) const { return place(node).first < context_slices_; }

  std::pair<std::uint16_t, std::uint8_t> place(const TreeNode& node) const {
    const Key key{node.feature, !node.missing_left};
    const auto& thresholds = axes_.at(key);
    const auto rank = static_cast<std::size_t>(
        std::lower_bound(thresholds.begin(), thresholds.end(), ordered(node.threshold)) - thresholds.begin());
    return {static_cast<std::uint16_t>(first_slice_.at(key) + rank / 255),
            static_cast<std::uint8_t>(rank % 255)};
  }

  std::unique_ptr<schema::TreeInputsT> inputs() const {
    auto inputs = std::make_unique<schema::TreeInputsT>();
    for (const auto& [key, thresholds] : axes_) {
      inputs->slots.push_back(static_cast<std::uint16_t>(key.first));
      inputs->missing.push_back(key.second ? schema::MissingDirection::Right
                                           : schema::MissingDirection::Left);
      inputs->threshold_begin.push_back(static_cast<std::uint32_t>(inputs->thresholds.size()));
      inputs->thresholds.insert(inputs->thresholds.end(), thresholds.begin(), thresholds.end());
    }
    inputs->threshold_begin.push_back(static_cast<std::uint32_t>(inputs->thresholds.size()));
    if (session_) {
      inputs->context_axes = static_cast<std::uint16_t>(context_axes_);
      inputs->context_slices = static_cast<std::uint16_t>(context_slices_);
      inputs->slices = static_cast<std::uint16_t>(slices_);
    }
    return inputs;
  }

 private:
  using Key = std::pair<std::int32_t, bool>;  // feature, missing goes right
  std::map<Key, std::vector<std::int32_t>> axes_;
  std::map<Key, std::size_t> first_slice_;
  bool session_;
  std::size_t slices_ = 0, context_axes_ = 0, context_slices_ = 0;
};

/// How many nodes of a tree ask of a candidate.
std::size_t candidate_nodes(const AxisTable& axes, const Tree& tree) {
  return static_cast<std::size_t>(std::count_if(tree.nodes.begin(), tree.nodes.end(), [&](const auto& node) {
    return node.feature >= 0 && !axes.of_context(node);
  }));
}

/// Of trees in an order that has those first that ask of no candidate: how many the context part may sum.
std::uint32_t context_trees(const AxisTable& axes, const TreeEnsemble& ensemble,
                            const std::vector<std::size_t>& order) {
  if (ensemble.base.size() != 1) return 0;
  std::size_t count = 0;
  while (count < order.size() && candidate_nodes(axes, ensemble.trees[order[count]]) == 0) ++count;
  return static_cast<std::uint32_t>(count == order.size() ? count : count / 16 * 16);
}

/// Writes the leaves into `trees` (of either kind) in the smallest format that `storage` allows.
template <typename TreesT>
void store_leaves(TreesT& trees, const TreeEnsemble& ensemble, const std::vector<double>& values,
                  LeafStorage storage) {
  for (const double base : ensemble.base) trees.base.push_back(static_cast<float>(base));
  if (storage == LeafStorage::int16) {
    double largest = 0;
    for (const double value : values) largest = std::max(largest, std::abs(value));
    const double step = largest > 0 ? largest / 32767 : 1;
    trees.leaf_format = schema::LeafFormat::Int16;
    trees.scale = static_cast<float>(ensemble.scale * step);
    for (const double value : values) put(trees.leaves, static_cast<std::int16_t>(std::lround(value / step)));
    return;
  }
  trees.scale = static_cast<float>(ensemble.scale);
  std::vector<float> exact(values.begin(), values.end());
  for (float& value : exact) value += 0.0f;  // one zero, so that the palette holds it once
  std::vector<float> palette = exact;
  std::sort(palette.begin(), palette.end());
  palette.erase(std::unique(palette.begin(), palette.end()), palette.end());
  const std::size_t code_bytes = palette.size() <= 256 ? 1 : 2;
  if (palette.size() > 65536 || palette.size() * 4 + exact.size() * code_bytes >= exact.size() * 4) {
    trees.leaf_format = schema::LeafFormat::Float32;
    for (const float value : exact) put(trees.leaves, value);
    return;
  }
  trees.leaf_format = code_bytes == 1 ? schema::LeafFormat::Palette8 : schema::LeafFormat::Palette16;
  for (const float value : exact) {
    const auto code = std::lower_bound(palette.begin(), palette.end(), value) - palette.begin();
    if (code_bytes == 1)
      put(trees.leaves, static_cast<std::uint8_t>(code));
    else
      put(trees.leaves, static_cast<std::uint16_t>(code));
  }
  trees.palette = std::move(palette);
}

schema::OperatorKindUnion symmetric_trees(const TreeEnsemble& ensemble, LeafStorage storage, bool session,
                                          std::size_t context) {
  const AxisTable axes(ensemble, session, context);
  const auto depth = static_cast<unsigned>(ensemble.symmetric_depth);
  if (axes.slices() > 256)
    throw Error("symmetric trees test at most 256 groups of 255 thresholds: use fewer bins");
  schema::SymmetricTreesT trees;
  trees.inputs = axes.inputs();
  trees.depth = static_cast<std::uint8_t>(depth);
  const auto question = [&](const Tree& tree, unsigned level) -> const TreeNode& {
    return tree.nodes[(std::size_t{1} << level) - 1];
  };

  // In a session model, the trees that ask least of the candidates come first.
  std::vector<std::size_t> order(ensemble.trees.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (session && ensemble.base.size() == 1) {
    std::vector<std::size_t> asked;
    for (const Tree& tree : ensemble.trees) asked.push_back(candidate_nodes(axes, tree));
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return asked[a] < asked[b]; });
    trees.context_trees = context_trees(axes, ensemble, order);
  }

  std::vector<double> leaves;
  for (const std::size_t t : order) {
    const Tree& tree = ensemble.trees[t];
    // The order of levels is free; in a session model, those that ask of the context come first.
    std::vector<unsigned> levels(depth);
    std::iota(levels.begin(), levels.end(), 0u);
    if (session)
      std::stable_partition(levels.begin(), levels.end(),
                            [&](unsigned level) { return axes.of_context(question(tree, level)); });
    for (const unsigned level : levels) {
      const auto [slice, bin] = axes.place(question(tree, level));
      trees.splits.push_back(static_cast<std::uint8_t>(slice));
      trees.splits.push_back(bin);
    }
    // Bit l of a leaf's number is the l-th answer; breadth-first order has the tree's first answer on top.
    for (std::size_t leaf = 0; leaf < std::size_t{1} << depth; ++leaf) {
      std::size_t answers = 0;  // by level of the tree
      for (unsigned l = 0; l < depth; ++l) answers |= (leaf >> l & 1) << levels[l];
      std::size_t node = 0;
      for (unsigned level = 0; level < depth; ++level) node = 2 * node + 1 + (answers >> level & 1);
      leaves.push_back(tree.nodes[node].value);
    }
  }
  store_leaves(trees, ensemble, leaves, storage);
  schema::OperatorKindUnion kind;
  kind.Set(std::move(trees));
  return kind;
}

int depth_of(const Tree& tree) {
  std::vector<int> depth(tree.nodes.size(), 0);
  int deepest = 0;
  for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
    const TreeNode& node = tree.nodes[i];
    if (node.feature < 0) continue;
    for (const std::int32_t child : {node.left, node.right}) {
      depth[static_cast<std::size_t>(child)] = depth[i] + 1;
      deepest = std::max(deepest, depth[i] + 1);
    }
  }
  return deepest;
}

schema::OperatorKindUnion branching_trees(const TreeEnsemble& ensemble, LeafStorage storage, bool session,
                                          std::size_t context) {
  const AxisTable axes(ensemble, session, context);

  // Trees that are walked in lockstep should be about equally deep.
  std::vector<std::size_t> order(ensemble.trees.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<std::pair<bool, int>> depth;  // in a session model, trees that ask of no candidate come first
  for (const Tree& tree : ensemble.trees)
    depth.push_back({session && candidate_nodes(axes, tree) > 0, depth_of(tree)});
  const std::size_t per_output = ensemble.trees.size() / ensemble.base.size();
  for (std::size_t first = 0; first < order.size(); first += per_output)
    std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(first),
                     order.begin() + static_cast<std::ptrdiff_t>(first + per_output),
                     [&](std::size_t a, std::size_t b) { return depth[a] < depth[b]; });

  std::size_t largest = 0;
  for (const Tree& tree : ensemble.trees) largest = std::max(largest, tree.nodes.size() / 2 + 1);
  schema::BranchingTreesT trees;
  trees.inputs = axes.inputs();
  if (session) trees.context_trees = context_trees(axes, ensemble, order);
  trees.node_format = largest > 32768       ? schema::NodeFormat::Node12
                      : axes.slices() > 256 ? schema::NodeFormat::Node8
                      : largest > 128       ? schema::NodeFormat::Node6
                                            : schema::NodeFormat::Node4;
  std::vector<double> leaves;
  std::uint32_t node_total = 0;
  for (const std::size_t t : order) {
    const Tree& tree = ensemble.trees[t];
    trees.tree_nodes.push_back(node_total);
    trees.tree_leaves.push_back(static_cast<std::uint32_t>(leaves.size()));

    // Nodes are numbered in preorder, so that half the steps of a walk go to the next bytes.
    std::vector<std::uint32_t> number(tree.nodes.size());
    std::vector<std::int32_t> preorder, open = {0};
    std::uint32_t leaf_count = 0;
    while (!open.empty()) {
      const std::int32_t at = open.back();
      open.pop_back();
      const TreeNode& node = tree.nodes[static_cast<std::size_t>(at)];
      if (node.feature < 0) {
        number[static_cast<std::size_t>(at)] = leaf_count++;
        leaves.push_back(node.value);
      } else {
        number[static_cast<std::size_t>(at)] = static_cast<std::uint32_t>(preorder.size());
        preorder.push_back(at);
        open.push_back(node.right);
        open.push_back(node.left);
      }
    }
    struct Child {
      std::uint32_t number;  // of the leaf; or how many nodes after its parent the node comes
      bool leaf;
    };
    const auto put_child = [&](Child child) {
      switch (trees.node_format) {
        case schema::NodeFormat::Node4:
          return put(trees.nodes, static_cast<std::uint8_t>(child.number | (child.leaf ? 0x80u : 0)));
        case schema::NodeFormat::Node6:
        case schema::NodeFormat::Node8:
          return put(trees.nodes, static_cast<std::uint16_t>(child.number | (child.leaf ? 0x8000u : 0)));
        case schema::NodeFormat::Node12:
          return put(trees.nodes, child.number | (child.leaf ? 0x80000000u : 0));
      }
    };
    const auto put_node = [&](std::uint16_t slice, std::uint8_t bin, Child left, Child right) {
      const bool wide = trees.node_format >= schema::NodeFormat::Node8;
      if (wide)
        put(trees.nodes, slice);
      else
        put(trees.nodes, static_cast<std::uint8_t>(slice));
      put(trees.nodes, bin);
      if (wide) put(trees.nodes, std::uint8_t{0});
      put_child(left);
      put_child(right);
      ++node_total;
    };
    if (preorder.empty()) put_node(0, 255, {0, true}, {0, true});
    for (std::size_t n = 0; n < preorder.size(); ++n) {
      const TreeNode& node = tree.nodes[static_cast<std::size_t>(preorder[n])];
      const auto [slice, bin] = axes.place(node);
      const auto child = [&](std::int32_t index) {
        const auto i = static_cast<std::size_t>(index);
        const bool leaf = tree.nodes[i].feature < 0;
        return Child{leaf ? number[i] : number[i] - static_cast<std::uint32_t>(n), leaf};
      };
      put_node(slice, bin, child(node.left), child(node.right));
    }
  }
  trees.tree_nodes.push_back(node_total);
  trees.tree_leaves.push_back(static_cast<std::uint32_t>(leaves.size()));
  store_leaves(trees, ensemble, leaves, storage);
  schema::OperatorKindUnion kind;
  kind.Set(std::move(trees));
  return kind;
}

void append(ModelT& model, const TreeEnsemble& ensemble, std::uint16_t first, std::size_t count,
            LeafStorage storage, std::size_t context) {
  if (ensemble.trees.empty()) throw Error("the ensemble has no trees: train at least one");
  if (ensemble.base.empty() || ensemble.trees.size() % ensemble.base.size() != 0)
    throw Error("the ensemble has " + std::to_string(ensemble.trees.size()) + " trees for " +
                std::to_string(ensemble.base.size()) + " outputs: give each output as many trees");
  const auto trees = ensemble.symmetric_depth > 0 ? symmetric_trees : branching_trees;
  append_operator(model, first, count, ensemble.base.size(),
                  trees(ensemble, storage, model.session != nullptr, context));
}

void append(ModelT& model, const Calibration& calibration) {
  if (calibration.method == Calibration::Method::none) return;
  schema::CalibrateT calibrate;
  calibrate.method = calibration.method == Calibration::Method::isotonic ? schema::CalibrationMethod::Isotonic
                                                                         : schema::CalibrationMethod::Sigmoid;
  calibrate.slope = static_cast<float>(calibration.slope);
  calibrate.intercept = static_cast<float>(calibration.intercept);
  calibrate.x = calibration.x;
  calibrate.y = calibration.y;
  schema::OperatorKindUnion kind;
  kind.Set(std::move(calibrate));
  append_operator(model, model.output_offset, model.output_length, model.output_length, std::move(kind));
}

std::uint32_t slices_of(const schema::TreeInputsT& inputs) {
  std::uint32_t slices = 0;
  for (std::size_t axis = 0; axis + 1 < inputs.threshold_begin.size(); ++axis)
    slices += std::max(1u, (inputs.threshold_begin[axis + 1] - inputs.threshold_begin[axis] + 254) / 255);
  return slices;
}

/// Elements that a feature keeps in a session; see the schema.
std::uint32_t state_elements(const schema::FeatureT& feature) {
  const auto inputs = static_cast<std::uint32_t>(feature.inputs.size());
  switch (feature.encoder.type) {
    case schema::Encoder::Lag:
      return inputs * feature.encoder.AsLag()->count;
    case schema::Encoder::Window:
      return inputs * feature.encoder.AsWindow()->length;
    case schema::Encoder::Mean:
      return 2u * feature.output_length;
    case schema::Encoder::Total:
      return feature.output_length;
    case schema::Encoder::Streak:
      return feature.output_length * (feature.encoder.AsStreak()->same ? 2u : 1u);
    case schema::Encoder::Repeats:
      return feature.encoder.AsRepeats()->length;
    default:
      return 0;
  }
}

/// What evaluation needs, as the runtime will compute it for itself.
std::unique_ptr<schema::MemoryPlanT> memory_plan(const ModelT& model) {
  constexpr std::uint32_t session_header = 80, shared_sums = 68;
  std::uint32_t most_slices = 0, trees_bytes = 0;
  for (const auto& op : model.operators) {
    const auto* branching = op->kind.AsBranchingTrees();
    const auto* symmetric = op->kind.AsSymmetricTrees();
    if (branching == nullptr && symmetric == nullptr) continue;
    const std::uint32_t slices = slices_of(branching != nullptr ? *branching->inputs : *symmetric->inputs);
    const auto trees = symmetric == nullptr || symmetric->depth == 0
                           ? 0
                           : static_cast<std::uint32_t>(symmetric->splits.size() / (2u * symmetric->depth));
    most_slices = std::max(most_slices, slices);
    trees_bytes += shared_sums + (slices + 3) / 4 * 4 + trees * 4;
  }
  auto memory = std::make_unique<schema::MemoryPlanT>();
  memory->slots = next_slot(model);
  memory->scratch_bytes = memory->slots * 4;
  if (model.session == nullptr) {
    memory->scratch_bytes += (most_slices + 3) / 4 * 4;
  } else {
    memory->session_bytes = session_header + static_cast<std::uint32_t>(model.columns.size()) * 4;
    for (const auto& feature : model.features) memory->session_bytes += state_elements(*feature) * 4;
    memory->scratch_bytes += trees_bytes + memory->session_bytes;
  }
  return memory;
}

}  // namespace

double reference_score(const TrainedModel& model, std::span<const float> features) {
  struct Score {
    std::span<const float> row;
    double operator()(const LinearModel& linear) const { return linear_score(linear, row); }
    double operator()(const Network& network) const { return network_probability(network, row); }
    double operator()(const TreeEnsemble& ensemble) const { return ensemble_scores(ensemble, row).front(); }
  };
  return std::visit(Score{features}, model.predictor);
}

double reference_probability(const TrainedModel& model, std::span<const float> features) {
  const double score = reference_score(model, features);
  return model.calibration.method == Calibration::Method::none ? score : calibrated(model.calibration, score);
}

std::uint16_t next_slot(const ModelT& model) {
  std::size_t next = model.columns.size();
  if (!model.features.empty())
    next = std::size_t{model.features.back()->output_offset} + model.features.back()->output_length;
  if (!model.operators.empty())
    next = std::size_t{model.operators.back()->output_offset} + model.operators.back()->output_length;
  return static_cast<std::uint16_t>(next);
}

std::uint16_t append_feature(ModelT& model, std::vector<std::uint16_t> inputs, std::size_t length,
                             schema::EncoderUnion encoder, schema::Phase phase) {
  if (next_slot(model) + length > 65000)
    throw Error("the features take more than 65000 numbers: use fewer columns or categories");
  auto feature = std::make_unique<schema::FeatureT>();
  feature->inputs = std::move(inputs);
  feature->output_offset = next_slot(model);
  feature->output_length = static_cast<std::uint16_t>(length);
  feature->encoder = std::move(encoder);
  feature->phase = phase;
  model.features.push_back(std::move(feature));
  return model.features.back()->output_offset;
}

void append_predictor(ModelT& model, const TrainedModel& trained, std::uint16_t first, std::size_t count,
                      LeafStorage leaves, std::size_t context) {
  std::visit([&](const auto& predictor) { append(model, predictor, first, count, leaves, context); },
             trained.predictor);
  append(model, trained.calibration);
}

void add_golden(ModelT& model, const std::vector<float>& rows) {
  model.golden = nullptr;
  const Blob blob(pack(model), "the new blob");
  auto golden = std::make_unique<schema::GoldenT>();
  golden->tolerance = 1e-6f;
  std::vector<float> out(blob.outputs());
  for (std::size_t n = 0; n < rows.size() / blob.columns(); ++n) {
    const auto row = std::span(rows).subspan(n * blob.columns(), blob.columns());
    blob.evaluate(row, out);
    if (!std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); })) continue;
    golden->rows.insert(golden->rows.end(), row.begin(), row.end());
    golden->outputs.insert(golden->outputs.end(), out.begin(), out.end());
  }
  model.golden = std::move(golden);
}

std::vector<unsigned char> pack(ModelT& model) {
  const bool session = model.session != nullptr;
  model.format_major = TONEARM_FORMAT_MAJOR;
  model.format_minor = session ? 1 : 0;
  model.runtime_minimum = session ? 200 : 100;  // plain tables still run on 0.1.0
  if (model.card == nullptr) model.card = std::make_unique<schema::CardT>();
  model.memory = memory_plan(model);

  // Size and checksum are only known when everything else is in place. Any non-zero value makes the
  // builder store the field instead of leaving out a default.
  model.file_bytes = 1;
  model.crc32 = 1;
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  schema::FinishModelBuffer(builder, schema::Model::Pack(builder, &model));
  std::vector<unsigned char> bytes(builder.GetBufferPointer(),
                                   builder.GetBufferPointer() + builder.GetSize());
  auto* table = flatbuffers::GetMutableRoot<flatbuffers::Table>(bytes.data());
  table->SetField<std::uint32_t>(schema::Model::VT_FILE_BYTES, static_cast<std::uint32_t>(bytes.size()), 0);
  table->SetField<std::uint32_t>(schema::Model::VT_CRC32, 0, 1);
  const uLong crc = crc32_z(crc32(0, nullptr, 0), bytes.data(), bytes.size());
  table->SetField<std::uint32_t>(schema::Model::VT_CRC32, static_cast<std::uint32_t>(crc), 0);
  return bytes;
}

}  // namespace tonearm
