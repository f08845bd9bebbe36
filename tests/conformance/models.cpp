#include "conformance/models.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>

#include "base/random.h"
#include "emit/emit.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

using schema::LeafFormat;
using schema::MissingDirection;
using schema::NodeFormat;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// The columns of every sample: three numbers and a category of four.
enum : std::uint16_t { loudness, tempo, key, year, column_count };

schema::ModelT empty_model(const std::string& name) {
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.card->name = name;
  model.card->version = "1";
  model.card->task = "hit";
  model.card->label = "none: made by hand";
  model.card->data = "none";
  model.card->producer = "make_golden";
  model.card->licence = "Apache-2.0";
  model.card->synthetic = true;
  for (const char* column : {"loudness", "tempo", "key", "year"}) {
    model.columns.push_back(std::make_unique<schema::ColumnT>());
    model.columns.back()->name = column;
  }
  model.columns[key]->type = schema::ColumnType::Category;
  model.columns[key]->vocabulary = {"C", "D", "E", "F"};
  model.missing_fill.assign(column_count, missing);
  return model;
}

/// Rows of the values that are most likely to go wrong, and of ordinary ones.
std::vector<float> awkward_rows(std::size_t count, const std::vector<float>& edges, std::uint64_t seed) {
  std::vector<float> values = {missing, infinity, -infinity, 0.0f, -0.0f, 1e-40f, -1e-40f, 3.4e38f, -3.4e38f};
  for (const float edge : edges)
    values.insert(values.end(), {edge, std::nextafterf(edge, infinity), std::nextafterf(edge, -infinity)});
  const std::vector<float> categories = {0, 1, 2, 3, -0.0f, 4, -1, 0.5f, 1e-40f, 1e9f, missing};
  Random random(seed);
  std::vector<float> rows;
  for (std::size_t n = 0; n < count; ++n)
    for (std::size_t column = 0; column < column_count; ++column) {
      const std::vector<float>& pool = column == key ? categories : values;
      const bool ordinary = column != key && random.below(3) == 0;
      rows.push_back(ordinary ? static_cast<float>(random.uniform() * 40 - 20)
                              : pool[random.below(static_cast<std::uint32_t>(pool.size()))]);
    }
  return rows;
}

/// An axis of an ensemble: its thresholds ascend.
struct Axis {
  std::uint16_t slot;
  MissingDirection direction;
  std::vector<float> thresholds;
};

std::vector<float> evenly(float first, float step, std::size_t count) {
  std::vector<float> thresholds;
  for (std::size_t i = 0; i < count; ++i) thresholds.push_back(first + step * static_cast<float>(i));
  return thresholds;
}

/// Every kind of axis: either direction for missing values, edges at zero and among the denormals, one
/// without thresholds, and one that takes two slices.
std::vector<Axis> sample_axes() {
  return {{loudness, MissingDirection::Left, {-infinity, -7.5f, -1e-40f, 0.0f, 1e-40f, 3.25f, 3.4e38f}},
          {loudness, MissingDirection::Right, {-7.5f, 0.0f, 12.0f}},
          {tempo, MissingDirection::Right, evenly(-10, 0.0625f, 300)},
          {key, MissingDirection::Left, {0.0f, 1.0f, 2.0f}},
          {year, MissingDirection::Left, {}}};
}

std::vector<float> sample_edges() {
  std::vector<float> edges;
  for (const Axis& axis : sample_axes())
    for (std::size_t i = 0; i < axis.thresholds.size(); i += axis.thresholds.size() / 7 + 1)
      edges.push_back(axis.thresholds[i]);
  return edges;
}

std::unique_ptr<schema::TreeInputsT> tree_inputs(const std::vector<Axis>& axes) {
  auto inputs = std::make_unique<schema::TreeInputsT>();
  inputs->threshold_begin = {0};
  for (const Axis& axis : axes) {
    inputs->slots.push_back(axis.slot);
    inputs->missing.push_back(axis.direction);
    for (const float threshold : axis.thresholds) {
      const auto bits = std::bit_cast<std::int32_t>(threshold);
      inputs->thresholds.push_back(bits < 0 ? bits ^ 0x7fffffff : bits);
    }
    inputs->threshold_begin.push_back(static_cast<std::uint32_t>(inputs->thresholds.size()));
  }
  return inputs;
}

/// How many thresholds each slice has.
std::vector<std::uint32_t> slice_sizes(const std::vector<Axis>& axes) {
  std::vector<std::uint32_t> sizes;
  for (const Axis& axis : axes)
    for (std::size_t first = 0; first == 0 || first < axis.thresholds.size(); first += 255)
      sizes.push_back(static_cast<std::uint32_t>(std::min<std::size_t>(255, axis.thresholds.size() - first)));
  return sizes;
}

template <typename T>
void put(std::vector<std::uint8_t>& bytes, T value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// `count` leaves in the given format, of either kind of ensemble.
template <typename TreesT>
void fill_leaves(TreesT& trees, LeafFormat format, std::size_t count, Random& random) {
  trees.leaf_format = format;
  const std::uint32_t palette = format == LeafFormat::Palette16 ? 300 : 7;
  if (format == LeafFormat::Palette8 || format == LeafFormat::Palette16)
    for (std::uint32_t i = 0; i < palette; ++i)
      trees.palette.push_back(static_cast<float>(random.uniform() - 0.5));
  for (std::size_t leaf = 0; leaf < count; ++leaf) switch (format) {
      case LeafFormat::Float32:
        put(trees.leaves, static_cast<float>(random.uniform() - 0.5));
        break;
      case LeafFormat::Int16:
        put(trees.leaves, static_cast<std::int16_t>(random.below(65536) - 32768));
        break;
      case LeafFormat::Palette8:
        put(trees.leaves, static_cast<std::uint8_t>(random.below(palette)));
        break;
      case LeafFormat::Palette16:
        put(trees.leaves, static_cast<std::uint16_t>(random.below(palette)));
        break;
    }
  trees.scale = format == LeafFormat::Int16 ? 1.0f / 65536 : 0.75f;
}

/// Writes one random tree in preorder.
class TreeWriter {
 public:
  TreeWriter(schema::BranchingTreesT& trees, const std::vector<std::uint32_t>& sizes, Random& random)
      : trees_(trees), sizes_(sizes), random_(random), first_(trees.nodes.size()) {}

  /// Writes a subtree with so many tests; returns its number in the tree, a leaf's with the flag.
  std::uint32_t write(std::uint32_t tests) {
    if (tests == 0) return leaf_flag() | leaves++;
    const std::uint32_t number = nodes++;
    const auto slice = random_.below(static_cast<std::uint32_t>(sizes_.size()));
    reserve(slice, static_cast<std::uint8_t>(random_.below(sizes_[slice] + 1)));
    const std::uint32_t left_tests = random_.below(tests);
    const std::uint32_t left = write(left_tests);
    const std::uint32_t right = write(tests - 1 - left_tests);
    // Nodes are counted from their parent, leaves from the start of the tree.
    const auto reference = [&](std::uint32_t child) { return child < leaf_flag() ? child - number : child; };
    set_children(number, reference(left), reference(right));
    return number;
  }

  /// A tree without tests still has a node, both ways of which lead to its leaf.
  void write_lone_leaf() {
    nodes = leaves = 1;
    reserve(0, 255);
    set_children(0, leaf_flag(), leaf_flag());
  }

  std::uint32_t nodes = 0, leaves = 0;

 private:
  std::uint32_t index_bytes() const {
    return trees_.node_format == NodeFormat::Node4 ? 1 : trees_.node_format == NodeFormat::Node12 ? 4 : 2;
  }
  std::uint32_t slice_bytes() const { return trees_.node_format < NodeFormat::Node8 ? 1 : 2; }
  std::uint32_t node_bytes() const { return 2 * slice_bytes() + 2 * index_bytes(); }
  std::uint32_t leaf_flag() const { return 1u << (8 * index_bytes() - 1); }

  void reserve(std::uint32_t slice, std::uint8_t bin) {
    const std::size_t at = trees_.nodes.size();
    trees_.nodes.resize(at + node_bytes());
    std::memcpy(&trees_.nodes[at], &slice, slice_bytes());
    trees_.nodes[at + slice_bytes()] = bin;
  }
  void set_children(std::uint32_t number, std::uint32_t left, std::uint32_t right) {
    const std::size_t end = first_ + std::size_t{number + 1} * node_bytes();
    std::uint8_t* children = &trees_.nodes[end - std::size_t{2} * index_bytes()];
    std::memcpy(children, &left, index_bytes());
    std::memcpy(children + index_bytes(), &right, index_bytes());
  }

  schema::BranchingTreesT& trees_;
  const std::vector<std::uint32_t>& sizes_;
  Random& random_;
  std::size_t first_;
};

schema::BranchingTreesT branching_trees(NodeFormat node_format, LeafFormat leaf_format, std::size_t outputs,
                                        std::uint64_t seed) {
  Random random(seed);
  const std::vector<Axis> axes = sample_axes();
  const std::vector<std::uint32_t> sizes = slice_sizes(axes);
  schema::BranchingTreesT trees;
  trees.inputs = tree_inputs(axes);
  trees.node_format = node_format;
  trees.tree_nodes = trees.tree_leaves = {0};
  for (std::size_t tree = 0; tree < 11 * outputs; ++tree) {
    TreeWriter writer(trees, sizes, random);
    if (tree % 5 == 0)
      writer.write_lone_leaf();
    else
      writer.write(1 + random.below(12));
    trees.tree_nodes.push_back(trees.tree_nodes.back() + writer.nodes);
    trees.tree_leaves.push_back(trees.tree_leaves.back() + writer.leaves);
  }
  fill_leaves(trees, leaf_format, trees.tree_leaves.back(), random);
  for (std::size_t k = 0; k < outputs; ++k) trees.base.push_back(0.125f * static_cast<float>(k) - 0.25f);
  return trees;
}

schema::SymmetricTreesT symmetric_trees(unsigned depth, LeafFormat leaf_format, std::size_t outputs,
                                        std::uint64_t seed) {
  Random random(seed);
  const std::vector<Axis> axes = sample_axes();
  const std::vector<std::uint32_t> sizes = slice_sizes(axes);
  schema::SymmetricTreesT trees;
  trees.inputs = tree_inputs(axes);
  trees.depth = static_cast<std::uint8_t>(depth);
  const std::size_t count = 13 * outputs;
  for (std::size_t level = 0; level < count * depth; ++level) {
    const auto slice = random.below(static_cast<std::uint32_t>(sizes.size()));
    trees.splits.push_back(static_cast<std::uint8_t>(slice));
    trees.splits.push_back(static_cast<std::uint8_t>(random.below(sizes[slice] + 1)));
  }
  fill_leaves(trees, leaf_format, count << depth, random);
  for (std::size_t k = 0; k < outputs; ++k) trees.base.push_back(0.125f * static_cast<float>(k) - 0.25f);
  return trees;
}

template <typename Union, typename Kind>
Union as(Kind kind) {
  Union result;
  result.Set(std::move(kind));
  return result;
}

template <typename TreesT>
SampleModel tree_sample(const std::string& name, TreesT trees) {
  SampleModel sample{name, empty_model(name), awkward_rows(24, sample_edges(), 1)};
  const std::size_t outputs = trees.base.size();
  append_sample_operator(sample.model, 0, column_count, outputs,
                         as<schema::OperatorKindUnion>(std::move(trees)));
  return sample;
}

SampleModel calibrated_sample(const std::string& name, schema::CalibrateT calibrate) {
  SampleModel sample = tree_sample(name, symmetric_trees(3, LeafFormat::Int16, 2, 7));
  append_sample_operator(sample.model, sample.model.output_offset, 2, 2,
                         as<schema::OperatorKindUnion>(std::move(calibrate)));
  return sample;
}

/// Nothing but features, as in the blobs with which the converter computes its training data.
SampleModel encoder_sample() {
  SampleModel sample{"encoders", empty_model("encoders"), awkward_rows(24, {-10, 0, 2.5f, 1e-40f}, 2)};
  schema::ModelT& model = sample.model;
  model.missing_fill[tempo] = 120;
  const auto append = [&](std::vector<std::uint16_t> inputs, std::size_t length, auto encoder) {
    return append_feature(model, std::move(inputs), length, as<schema::EncoderUnion>(std::move(encoder)));
  };
  append({year, loudness}, 2, schema::IdentityT{});
  schema::ScaleT scale;
  scale.center = {-10, 100};
  scale.factor = {0.25f, -0.0078125f};
  append({loudness, tempo}, 2, std::move(scale));
  schema::OneHotT with_unknown;
  with_unknown.unknown_slot = true;
  append({key}, 5, with_unknown);
  append({key}, 4, schema::OneHotT{});
  schema::OrdinalT ordinal;
  ordinal.values = {0.5f, -1, 7, 1e-40f};
  const std::uint16_t mapped = append({key}, 1, std::move(ordinal));
  schema::OrdinalT with_value;
  with_value.values = {1, 2, 3, 4};
  with_value.unknown = -1;
  append({key}, 1, std::move(with_value));
  schema::BucketT bucket;
  bucket.edges = {-10, 0, 1e-40f, 2.5f};
  append({loudness, tempo, mapped}, 3, std::move(bucket));
  model.output_offset = column_count;
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - column_count);
  return sample;
}

/// Scaling, principal components, and a layer with each activation.
SampleModel network_sample() {
  SampleModel sample{"network", empty_model("network"), {}, 1e-6f};
  schema::ModelT& model = sample.model;
  model.missing_fill = {-8, 120, 2, 1990};
  Random random(3);
  const auto weights = [&](std::size_t count) {
    std::vector<float> values;
    for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(random.uniform() * 2 - 1));
    return values;
  };
  schema::ScaleT scale;
  scale.center = {-8, 120, 1990};
  scale.factor = {0.1f, 0.03f, 0.05f};
  std::uint16_t first =
      append_feature(model, {loudness, tempo, year}, 3, as<schema::EncoderUnion>(std::move(scale)));
  schema::ProjectionT projection;
  projection.mean = weights(3);
  projection.components = weights(54);
  first = append_feature(
      model, {first, static_cast<std::uint16_t>(first + 1), static_cast<std::uint16_t>(first + 2)}, 18,
      as<schema::EncoderUnion>(std::move(projection)));
  std::size_t count = 18;
  for (const auto& [activation, outputs] : {std::pair{schema::Activation::None, 17},
                                            {schema::Activation::Relu, 16},
                                            {schema::Activation::Tanh, 5},
                                            {schema::Activation::Sigmoid, 4},
                                            {schema::Activation::Softmax, 3}}) {
    schema::AffineT affine;
    affine.weights = weights(count * static_cast<std::size_t>(outputs));
    affine.bias = weights(static_cast<std::size_t>(outputs));
    affine.activation = activation;
    append_sample_operator(model, first, count, static_cast<std::size_t>(outputs),
                           as<schema::OperatorKindUnion>(std::move(affine)));
    first = model.output_offset;
    count = model.output_length;
  }
  for (int n = 0; n < 12; ++n)
    for (const float scale_of : {10.0f, 40.0f, 2.0f, 30.0f})
      sample.rows.push_back(random.below(5) == 0
                                ? missing
                                : model.missing_fill[sample.rows.size() % column_count] +
                                      scale_of * static_cast<float>(random.uniform() * 2 - 1));
  sample.rows.insert(sample.rows.end(), {infinity, 100, 0, 2000, -infinity, 0, 1, -1e30f});
  return sample;
}

std::string bits_of(std::span<const float> values) {
  std::string text;
  for (const float value : values) {
    char digits[16];
    std::snprintf(digits, sizeof digits, " %08x", std::bit_cast<std::uint32_t>(value));
    text += digits;
  }
  return text;
}

}  // namespace

schema::OperatorT& append_sample_operator(schema::ModelT& model, std::uint16_t first, std::size_t count,
                                          std::size_t outputs, schema::OperatorKindUnion kind) {
  auto op = std::make_unique<schema::OperatorT>();
  op->input_offset = first;
  op->input_length = static_cast<std::uint16_t>(count);
  op->output_offset = model.output_offset = next_slot(model);
  op->output_length = model.output_length = static_cast<std::uint16_t>(outputs);
  op->kind = std::move(kind);
  model.operators.push_back(std::move(op));
  return *model.operators.back();
}

std::vector<SampleModel> sample_models() {
  std::vector<SampleModel> samples;
  samples.push_back(
      tree_sample("branching-node4-float32", branching_trees(NodeFormat::Node4, LeafFormat::Float32, 2, 1)));
  samples.push_back(
      tree_sample("branching-node6-int16", branching_trees(NodeFormat::Node6, LeafFormat::Int16, 1, 2)));
  samples.push_back(tree_sample("branching-node8-palette8",
                                branching_trees(NodeFormat::Node8, LeafFormat::Palette8, 1, 3)));
  samples.push_back(tree_sample("branching-node12-palette16",
                                branching_trees(NodeFormat::Node12, LeafFormat::Palette16, 3, 4)));
  samples.push_back(tree_sample("symmetric-float32", symmetric_trees(1, LeafFormat::Float32, 1, 5)));
  samples.push_back(tree_sample("symmetric-int16", symmetric_trees(4, LeafFormat::Int16, 1, 6)));
  samples.push_back(tree_sample("symmetric-palette8", symmetric_trees(5, LeafFormat::Palette8, 2, 7)));
  samples.push_back(tree_sample("symmetric-palette16", symmetric_trees(2, LeafFormat::Palette16, 1, 8)));
  schema::CalibrateT sigmoid;
  sigmoid.slope = 1.75f;
  sigmoid.intercept = -0.5f;
  samples.push_back(calibrated_sample("calibrate-sigmoid", std::move(sigmoid)));
  schema::CalibrateT isotonic;
  isotonic.method = schema::CalibrationMethod::Isotonic;
  isotonic.x = {-2, -0.5f, 0, 0.25f, 3};
  isotonic.y = {0.05f, 0.2f, 0.2f, 0.75f, 0.9f};
  samples.push_back(calibrated_sample("calibrate-isotonic", std::move(isotonic)));
  samples.push_back(encoder_sample());
  samples.push_back(network_sample());
  return samples;
}

SampleModel sample_model(std::string_view name) {
  for (SampleModel& sample : sample_models())
    if (sample.name == name) return sample;
  throw std::invalid_argument("no sample model is called " + std::string(name));
}

std::vector<unsigned char> golden_blob(const SampleModel& sample) {
  constexpr std::size_t golden_count = 6;
  schema::ModelT model = sample.model;
  const std::size_t values = std::min(sample.rows.size(), golden_count * model.columns.size());
  add_golden(model, {sample.rows.begin(), sample.rows.begin() + static_cast<std::ptrdiff_t>(values)});
  return pack(model);
}

std::string golden_rows(const SampleModel& sample) {
  const Blob blob(golden_blob(sample), sample.name);
  std::string text = sample.tolerance == 0 ? "exact\n" : "within 1e-6\n";
  std::vector<float> out(blob.outputs());
  for (std::size_t n = 0; n < sample.rows.size(); n += blob.columns()) {
    const auto row = std::span(sample.rows).subspan(n, blob.columns());
    blob.evaluate(row, out);
    text += bits_of(row).substr(1) + " :" + bits_of(out) + '\n';
  }
  return text;
}

}  // namespace tonearm
