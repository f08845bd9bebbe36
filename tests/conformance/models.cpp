#include "conformance/models.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "base/random.h"
#include "emit/emit.h"
#include "emit/networks.h"
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

/// `count` complete trees of each output. Some nodes lead to the right always, some never.
schema::BranchingTreesT complete_trees(unsigned depth, LeafFormat leaf_format, std::size_t outputs,
                                       std::size_t count, std::uint64_t seed) {
  Random random(seed);
  const std::vector<Axis> axes = sample_axes();
  const std::vector<std::uint32_t> sizes = slice_sizes(axes);
  schema::BranchingTreesT trees;
  trees.inputs = tree_inputs(axes);
  trees.node_format = NodeFormat::Complete;
  trees.depth = static_cast<std::uint8_t>(depth);
  for (std::size_t node = 0; node < count * outputs * ((1u << depth) - 1); ++node) {
    const auto slice = random.below(static_cast<std::uint32_t>(sizes.size()));
    trees.nodes.push_back(static_cast<std::uint8_t>(slice));
    trees.nodes.push_back(static_cast<std::uint8_t>(random.below(std::min(sizes[slice] + 2, 256u))));
  }
  fill_leaves(trees, leaf_format, count * outputs << depth, random);
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

// --- Session models ----------------------------------------------------------------------------------

using schema::Field;
using schema::Phase;
using schema::Source;

std::uint16_t add_column(schema::ModelT& model, const std::string& name, Source source, Field field,
                         std::size_t categories = 0) {
  auto column = std::make_unique<schema::ColumnT>();
  column->name = name;
  column->source = source;
  column->type = categories > 0 ? schema::ColumnType::Category : schema::ColumnType::Number;
  for (std::size_t i = 0; i < categories; ++i) column->vocabulary.push_back(name + std::to_string(i));
  model.columns.push_back(std::move(column));
  model.fields.push_back(field);
  model.missing_fill.push_back(missing);
  return static_cast<std::uint16_t>(model.columns.size() - 1);
}

schema::ModelT empty_session_model(const std::string& name) {
  schema::ModelT model = empty_model(name);
  model.columns.clear();
  model.missing_fill.clear();
  model.card->task = "skip";
  model.session = std::make_unique<schema::SessionRuleT>();
  model.session->idle_gap = 1200;
  model.session->cap = 8;
  model.label = std::make_unique<schema::LabelRuleT>();
  model.label->reasons = 1u << TONEARM_REASON_FWDBTN | 1u << TONEARM_REASON_ENDPLAY;
  model.label->below_ms = 30000;
  model.label->below_share = 0.5f;
  return model;
}

template <typename Encoder>
std::uint16_t add_feature(schema::ModelT& model, Phase phase, std::vector<std::uint16_t> inputs,
                          std::size_t length, Encoder encoder) {
  return append_feature(model, std::move(inputs), length, as<schema::EncoderUnion>(std::move(encoder)),
                        phase);
}

/// All features that a prediction can see become the output.
void show_features(schema::ModelT& model) {
  std::size_t first = model.columns.size();
  for (const auto& feature : model.features)
    if (feature->phase == Phase::History) first += feature->output_length;
  model.output_offset = static_cast<std::uint16_t>(first);
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - first);
}

/// Listening as it may be: gaps of all kinds, times and much else unknown, tracks that overlap.
std::vector<SampleEvent> sample_events(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  const auto number = [&](double low, double high) {
    const std::uint32_t kind = random.below(12);
    const auto value = static_cast<float>(low + (high - low) * random.uniform());
    return kind == 0 ? missing : kind == 1 ? std::round(value) : value;
  };
  std::vector<SampleEvent> events;
  std::int64_t time = 1530000000;
  bool playing = false;
  for (std::size_t n = 0; n < count; ++n) {
    SampleEvent event{};
    tonearm_event& told = event.told;
    told.struct_size = sizeof told;
    tonearm_track_init(&told.track, sizeof told.track);
    tonearm_start_init(&told.start, sizeof told.start);
    tonearm_now_init(&told.now, sizeof told.now);
    tonearm_end_init(&told.end, sizeof told.end);
    const std::uint32_t kind = random.below(20);
    event.kind = kind < 10    ? schema::GoldenEventKind::Predict
                 : kind == 10 ? schema::GoldenEventKind::Start  // whatever plays: a crossfade
                 : playing    ? schema::GoldenEventKind::End
                              : schema::GoldenEventKind::Start;
    time += random.below(8) == 0 ? 3000 : random.below(200);
    told.track.track_id = random.below(4);
    told.track.artist_id = random.below(3);
    told.track.duration = number(60, 400);
    told.track.release_year = number(1960, 2020);
    told.track.popularity = number(80, 100);
    for (float* value = &told.track.acousticness; value < &told.track.valence; ++value) *value = number(0, 1);
    told.track.valence = number(0, 1);
    for (float& value : told.track.acoustic_vector) value = number(-1, 1);
    told.now.time = random.below(12) == 0 ? TONEARM_UNKNOWN_TIME : time;
    told.now.utc_offset =
        random.below(6) == 0 ? TONEARM_UNKNOWN_OFFSET : static_cast<std::int32_t>(random.below(12)) * 3600;
    told.now.date = random.below(3) == 0 ? 20180715 + random.below(15) : 0;
    told.now.hour_of_day = random.below(3) == 0 ? static_cast<float>(random.below(24)) : missing;
    told.now.is_shuffle = number(0, 1);
    told.now.premium = static_cast<float>(random.below(2));
    told.now.context_type = random.below(8);
    told.start.reason = random.below(17);
    told.start.pause = random.below(5);
    told.start.context_switch = static_cast<float>(random.below(2));
    told.end.reason = random.below(17);
    told.end.skip = random.below(2) == 0 ? 0 : random.below(7);
    told.end.ms_played = number(0, 200000);
    told.end.n_seekfwd = static_cast<float>(random.below(3));
    told.end.n_seekback = number(0, 2);
    told.end.time = random.below(5) == 0 ? TONEARM_UNKNOWN_TIME : time;
    for (std::vector<float>& extra : event.extra)
      for (int i = 0; i < 3; ++i) extra.push_back(number(0, 4));
    if (event.kind == schema::GoldenEventKind::Predict)
      event.horizon = playing ? random.below(4) == 0 ? 2 + random.below(3) : 0 : 1 + random.below(3);
    if (event.kind == schema::GoldenEventKind::Start) playing = true;
    if (event.kind == schema::GoldenEventKind::End) playing = false;
    events.push_back(std::move(event));
  }
  return events;
}

/// Every field of the API's structs.
SampleModel field_sample() {
  SampleModel sample{"session-fields", empty_session_model("session-fields"), {}, 0, sample_events(60, 11)};
  schema::ModelT& model = sample.model;
  const auto category_size = [](Field field) {
    return field == Field::ContextType                                ? 6u
           : field == Field::Pause                                    ? 3u
           : field == Field::ReasonStart || field == Field::ReasonEnd ? 15u
                                                                      : 0u;
  };
  const std::pair<Source, Field> last_of[] = {{Source::Track, Field::AcousticVector7},
                                              {Source::Now, Field::ContextType},
                                              {Source::Start, Field::Pause},
                                              {Source::End, Field::Completed}};
  std::vector<std::uint16_t> ends, known;
  std::uint8_t field = 1;
  for (const auto& [source, last] : last_of) {
    const std::string name = schema::EnumNameSource(source);
    std::vector<std::uint16_t>& columns = source == Source::End ? ends : known;
    columns.push_back(add_column(model, name + ".extra0", source, Field::Extra));
    for (; field <= static_cast<std::uint8_t>(last); ++field) {
      const auto kind = static_cast<Field>(field);
      columns.push_back(add_column(model, schema::EnumNameField(kind), source, kind, category_size(kind)));
    }
    columns.push_back(add_column(model, name + ".extra1", source, Field::Extra, 3));
  }
  // Visible, and a number that golden vectors can hold.
  model.missing_fill.assign(model.columns.size(), -1.0f);
  schema::LagT lag;
  lag.empty = -2;
  lag.carries = true;
  add_feature(model, Phase::Context, ends, ends.size(), lag);
  add_feature(model, Phase::Candidate, known, known.size(), schema::IdentityT{});
  show_features(model);
  return sample;
}

/// The columns of the samples below.
struct SessionColumns {
  std::uint16_t energy, mood, shuffle, hour, reason, seeks, skipped;
};

SessionColumns add_session_columns(schema::ModelT& model) {
  SessionColumns columns{};
  columns.energy = add_column(model, "energy", Source::Track, Field::Energy);
  columns.mood = add_column(model, "mood", Source::Track, Field::Extra, 3);
  columns.shuffle = add_column(model, "shuffle", Source::Now, Field::IsShuffle);
  columns.hour = add_column(model, "hour", Source::Now, Field::HourOfDay);
  columns.reason = add_column(model, "reason_start", Source::Start, Field::ReasonStart, 15);
  columns.seeks = add_column(model, "n_seekback", Source::End, Field::SeekBack);
  columns.skipped = add_column(model, "skipped", Source::End, Field::Skipped);
  return columns;
}

/// Every encoder that needs a session, with and without each of its options.
SampleModel session_encoder_sample() {
  SampleModel sample{
      "session-encoders", empty_session_model("session-encoders"), {}, 0, sample_events(80, 12)};
  schema::ModelT& model = sample.model;
  const SessionColumns c = add_session_columns(model);
  // So that answers are mostly numbers, as golden vectors must be.
  model.missing_fill[c.energy] = 0.5f;
  model.missing_fill[c.shuffle] = 0;
  const std::uint16_t change =
      add_feature(model, Phase::History, {c.seeks, c.energy}, 1, schema::DifferenceT{});
  const std::uint16_t moods = add_feature(model, Phase::History, {c.mood}, 3, schema::OneHotT{});
  schema::LagT lag;
  lag.count = 2;
  lag.empty = -1;
  add_feature(model, Phase::Context, {c.skipped, change}, 4, lag);
  lag.count = 1;
  lag.carries = true;
  add_feature(model, Phase::Context, {c.energy}, 1, lag);
  schema::MeanT mean;
  mean.keep = 0.75f;
  mean.prior = 0.25f;
  mean.prior_weight = 2;
  const std::uint16_t means = add_feature(model, Phase::Context, {c.energy, c.seeks}, 2, mean);
  mean.weighted = true;
  mean.carries = true;
  add_feature(model, Phase::Context, {c.energy, c.skipped}, 1, mean);
  mean.prior_weight = 0;
  add_feature(model, Phase::Context, {c.shuffle, c.energy}, 1, mean);
  schema::WindowT window;
  window.length = 3;
  add_feature(model, Phase::Context, {c.skipped, change}, 2, window);
  window.carries = true;
  add_feature(model, Phase::Context, {c.energy}, 1, window);
  schema::TotalT total;
  const auto second = static_cast<std::uint16_t>(moods + 1);
  add_feature(model, Phase::Context, {moods, second, c.skipped}, 3, total);
  total.carries = true;
  add_feature(model, Phase::Context, {c.skipped}, 1, total);
  schema::StreakT streak;
  add_feature(model, Phase::Context, {c.skipped, second}, 2, streak);
  streak.carries = true;
  add_feature(model, Phase::Context, {c.seeks}, 1, streak);
  streak.same = true;
  add_feature(model, Phase::Context, {c.skipped, c.reason}, 2, streak);
  for (const auto fact :
       {schema::SessionFact::Gap, schema::SessionFact::Elapsed, schema::SessionFact::Playing}) {
    schema::FactT known;
    known.fact = fact;
    add_feature(model, Phase::Context, {}, 1, known);
  }
  for (const auto fact : {schema::SessionFact::Horizon, schema::SessionFact::Position}) {
    schema::FactT known;
    known.fact = fact;
    add_feature(model, Phase::Candidate, {}, 1, known);
  }
  const auto next = static_cast<std::uint16_t>(means + 1);
  add_feature(model, Phase::Candidate, {c.energy, means}, 1, schema::DifferenceT{});
  add_feature(model, Phase::Candidate, {c.energy, c.shuffle, means, next}, 1, schema::DistanceT{});
  schema::RepeatsT repeats;
  repeats.length = 5;
  add_feature(model, Phase::Candidate, {c.skipped}, 3, repeats);
  repeats.of = schema::Identifier::Artist;
  repeats.carries = true;
  repeats.length = 12;
  add_feature(model, Phase::Candidate, {c.skipped}, 3, repeats);
  show_features(model);
  return sample;
}

/// Trees that ask of the context alone, of candidates alone, and of both.
SampleModel session_tree_sample(const std::string& name, int symmetric_depth, TreeStorage storage,
                                std::uint64_t seed) {
  SampleModel sample{name, empty_session_model(name), {}, 0, sample_events(60, seed)};
  schema::ModelT& model = sample.model;
  const SessionColumns c = add_session_columns(model);
  schema::MeanT mean;
  mean.keep = 0.5f;
  mean.prior_weight = 1;
  const std::uint16_t first = add_feature(model, Phase::Context, {c.skipped, c.energy}, 2, mean);
  add_feature(model, Phase::Context, {c.shuffle, c.reason}, 2, schema::IdentityT{});
  add_feature(model, Phase::Candidate, {c.energy, c.mood}, 2, schema::IdentityT{});
  add_feature(model, Phase::Candidate, {}, 1, schema::FactT{});
  constexpr std::uint32_t context = 4, features = 7;

  Random random(seed);
  TrainedModel trained;
  TreeEnsemble ensemble;
  ensemble.base = {-0.125};
  ensemble.symmetric_depth = symmetric_depth;
  for (std::size_t t = 0; t < 37; ++t) {
    Tree tree;
    const std::uint32_t reach = t % 2 == 0 ? context : features;
    const std::size_t tests = symmetric_depth > 0 ? (std::size_t{1} << symmetric_depth) - 1 : 1 + t % 6;
    for (std::size_t n = 0; n < 2 * tests + 1; ++n) {
      TreeNode node;
      const bool top_of_level = (n & (n + 1)) == 0;
      if (n < tests) {
        node.feature = static_cast<std::int32_t>(random.below(reach));
        node.threshold = static_cast<float>(random.below(16)) / 8;
        node.missing_left = random.below(2) == 0;
        node.left = static_cast<std::int32_t>(2 * n + 1);
        node.right = node.left + 1;
        if (symmetric_depth > 0 && !top_of_level) {
          const TreeNode& same = tree.nodes[std::bit_floor(n + 1) - 1];
          node.feature = same.feature;
          node.threshold = same.threshold;
          node.missing_left = same.missing_left;
        }
      } else {
        node.value = static_cast<float>(random.uniform() - 0.5);
      }
      tree.nodes.push_back(node);
    }
    ensemble.trees.push_back(std::move(tree));
  }
  trained.predictor = std::move(ensemble);
  trained.calibration.method = Calibration::Method::sigmoid;
  trained.calibration.slope = 0.5;
  append_predictor(model, trained, first, features, storage, context);
  return sample;
}

// --- What trees gained in format 1.2 -----------------------------------------------------------------

/// A category axis: a row of bytes for each category, then for other numbers, missing values, and those
/// between -1 and 0.
struct CategoryAxis {
  std::uint16_t slot;
  std::uint32_t categories, sets;
};

/// Those of the other samples, zeros that are missing, missing values that are zeros, and an axis with one
/// level of pivots where `tempo` has two.
std::vector<Axis> block_axes() {
  std::vector<Axis> axes = sample_axes();
  axes[4].thresholds = evenly(-3, 0.25f, 40);
  axes.push_back({loudness, MissingDirection::ZeroLeft, {-7.5f, -1e-35f, 0.0f, 1e-35f}});
  axes.push_back({tempo, MissingDirection::ZeroRight, {-2e-35f, 3.25f}});
  axes.push_back({year, MissingDirection::AsZero, {-0.5f, 0.0f, 1.5f}});
  return axes;
}

const std::vector<CategoryAxis> block_category_axes = {{key, 4, 3}, {year, 6, 2}};

std::vector<float> block_edges() {
  std::vector<float> edges = sample_edges();
  edges.insert(edges.end(), {-1.0f, -0.5f, 0.5f, 1.5f, 5.0f, 6.0f, 1e-35f, -1e-35f, 16777216.0f});
  return edges;
}

/// The last of every 16 thresholds, of every 256, and so on: the highest level first.
std::vector<std::int32_t> pivots_of(const std::vector<std::int32_t>& thresholds) {
  std::vector<std::int32_t> pivots;
  std::size_t span = 16;
  for (std::size_t n = (thresholds.size() + 15) / 16; n > 1; n = (n + 15) / 16, span *= 16) {
    std::vector<std::int32_t> level((n + 15) / 16 * 16, std::numeric_limits<std::int32_t>::max());
    for (std::size_t p = 0; p + 1 < n; ++p) level[p] = thresholds[(p + 1) * span - 1];
    pivots.insert(pivots.begin(), level.begin(), level.end());
  }
  return pivots;
}

void add_pivots(schema::TreeInputsT& inputs) {
  for (std::size_t axis = 0; axis < inputs.slots.size(); ++axis) {
    inputs.pivot_begin.push_back(static_cast<std::uint32_t>(inputs.pivots.size()));
    const auto first = inputs.thresholds.begin();
    const std::vector<std::int32_t> pivots =
        pivots_of({first + inputs.threshold_begin[axis], first + inputs.threshold_begin[axis + 1]});
    inputs.pivots.insert(inputs.pivots.end(), pivots.begin(), pivots.end());
  }
  inputs.pivot_begin.push_back(static_cast<std::uint32_t>(inputs.pivots.size()));
  inputs.thresholds.insert(inputs.thresholds.end(), 15, std::numeric_limits<std::int32_t>::max());
}

/// Inputs, and how many thresholds each slice has; a set of categories has none, because its bin is 0.
struct BlockInputs {
  std::unique_ptr<schema::TreeInputsT> inputs;
  std::vector<std::uint32_t> sizes;
};

BlockInputs block_inputs(const std::vector<Axis>& axes, const std::vector<CategoryAxis>& categories,
                         Random& random) {
  BlockInputs made{tree_inputs(axes), slice_sizes(axes)};
  add_pivots(*made.inputs);
  for (const CategoryAxis& axis : categories) {
    made.inputs->category_slots.push_back(axis.slot);
    made.inputs->category_counts.push_back(axis.categories);
    made.inputs->category_slices.push_back(static_cast<std::uint16_t>(axis.sets));
    for (std::uint32_t byte = 0; byte < (axis.categories + 3) * axis.sets; ++byte)
      made.inputs->category_rows.push_back(static_cast<std::uint8_t>(random.below(2)));
    made.sizes.insert(made.sizes.end(), axis.sets, 0);
  }
  made.inputs->slices = static_cast<std::uint16_t>(made.sizes.size());
  return made;
}

/// Writes random trees side by side.
class BlockWriter {
 public:
  BlockWriter(schema::BlockTreesT& trees, const std::vector<std::uint32_t>& sizes, Random& random)
      : trees_(trees), sizes_(sizes), random_(random) {}

  /// A run of `count` trees that ask of the first `slices` slices; of branching ones with at most
  /// `most_tests` tests. Of symmetric ones the first `context_levels` levels, or in every other tree one
  /// less, ask of the first `context` slices, and the others of those behind.
  void run(std::size_t count, std::uint32_t most_tests, std::uint32_t slices, std::uint32_t context = 0,
           unsigned context_levels = 0) {
    for (std::size_t first = 0; first < count; first += 64) {
      const std::size_t width = std::min<std::size_t>(64, count - first);
      if (trees_.depth > 0)
        symmetric_block(width, slices, context, context_levels);
      else
        branching_block(width, most_tests, slices);
    }
  }

  std::size_t leaves = 0;

 private:
  struct Node {
    std::uint8_t slice = 0, bin = 255, first_leaf = 0, left_leaves = 0;
  };

  Node question(std::uint32_t first, std::uint32_t last) {
    const std::uint32_t slice = first + random_.below(last - first);
    return {static_cast<std::uint8_t>(slice), static_cast<std::uint8_t>(random_.below(sizes_[slice] + 1))};
  }

  void grow(std::vector<Node>& nodes, std::uint32_t tests, std::uint32_t first_leaf, std::uint32_t slices) {
    if (tests == 0) return;
    const std::uint32_t left_tests = random_.below(tests);
    Node node = question(0, slices);
    node.first_leaf = static_cast<std::uint8_t>(first_leaf);
    node.left_leaves = static_cast<std::uint8_t>(left_tests + 1);
    nodes.push_back(node);
    grow(nodes, left_tests, first_leaf, slices);
    grow(nodes, tests - 1 - left_tests, first_leaf + left_tests + 1, slices);
  }

  void branching_block(std::size_t width, std::uint32_t most_tests, std::uint32_t slices) {
    std::vector<std::vector<Node>> block(width);
    std::size_t most = 0;
    for (std::size_t tree = 0; tree < width; ++tree) {
      if (tree % 5 != 2) grow(block[tree], 1 + random_.below(most_tests), 0, slices);
      most = std::max(most, block[tree].size());
    }
    trees_.block_nodes.push_back(static_cast<std::uint8_t>(most));
    for (auto& nodes : block) trees_.nodes.push_back(static_cast<std::uint8_t>(nodes.size()));
    for (auto& nodes : block) nodes.resize(most);
    for (std::size_t n = 0; n < most; ++n)
      for (std::uint8_t Node::*byte : {&Node::slice, &Node::bin, &Node::first_leaf, &Node::left_leaves})
        for (const auto& nodes : block) trees_.nodes.push_back(nodes[n].*byte);
    leaves += width * (most + 1);
  }

  void symmetric_block(std::size_t width, std::uint32_t slices, std::uint32_t context,
                       unsigned context_levels) {
    for (unsigned level = 0; level < trees_.depth; ++level) {
      std::vector<Node> questions(width);
      for (std::size_t tree = 0; tree < width; ++tree) {
        const bool of_context = level + tree % 2 < context_levels || context == slices;
        questions[tree] = of_context ? question(0, context) : question(context, slices);
      }
      for (const Node& node : questions) trees_.nodes.push_back(node.slice);
      for (const Node& node : questions) trees_.nodes.push_back(node.bin);
    }
    leaves += width << trees_.depth;
  }

  schema::BlockTreesT& trees_;
  const std::vector<std::uint32_t>& sizes_;
  Random& random_;
};

/// Leaves of so many trees that, if they were larger, their sums would differ by more than the tolerance of
/// golden vectors in other rounding modes.
void fill_block_leaves(schema::BlockTreesT& trees, LeafFormat format, std::size_t count, Random& random) {
  trees.nodes.insert(trees.nodes.end(), 48, 0);  // behind the last block
  fill_leaves(trees, format, count, random);
  trees.scale /= 8;
}

/// `count` trees of each output; depth 0: branching.
schema::BlockTreesT block_trees(unsigned depth, LeafFormat format, std::size_t outputs, std::uint32_t count,
                                std::uint64_t seed) {
  Random random(seed);
  BlockInputs made = block_inputs(block_axes(), block_category_axes, random);
  schema::BlockTreesT trees;
  trees.inputs = std::move(made.inputs);
  trees.depth = static_cast<std::uint8_t>(depth);
  trees.trees = count;
  BlockWriter writer(trees, made.sizes, random);
  for (std::size_t k = 0; k < outputs; ++k) {
    writer.run(count, 8, static_cast<std::uint32_t>(made.sizes.size()));
    trees.base.push_back(0.125f * static_cast<float>(k) - 0.25f);
  }
  fill_block_leaves(trees, format, writer.leaves, random);
  return trees;
}

/// Category axes, zeros that are missing and, where `pivots` says so, pivots, for trees that are walked. The
/// set of categories takes the place of the last axis, which has no thresholds: its tests have bin 0 as well.
template <typename TreesT>
TreesT with_new_inputs(TreesT trees, bool pivots, std::uint64_t seed) {
  Random random(seed);
  std::vector<Axis> axes = sample_axes();
  axes[0].direction = MissingDirection::ZeroLeft;
  axes[1].direction = MissingDirection::ZeroRight;
  axes.pop_back();
  trees.inputs = block_inputs(axes, {{year, 6, 1}}, random).inputs;
  if (!pivots) {
    trees.inputs->pivots.clear(), trees.inputs->pivot_begin.clear();
    trees.inputs->thresholds.resize(trees.inputs->threshold_begin.back());
  }
  return trees;
}

template <typename TreesT>
SampleModel block_sample(const std::string& name, TreesT trees) {
  SampleModel sample = tree_sample(name, std::move(trees));
  sample.rows = awkward_rows(24, block_edges(), 21);
  return sample;
}

/// Each norm of the same columns, and of one alone.
SampleModel normalize_sample() {
  SampleModel sample{"normalize", empty_model("normalize"), {}, 1e-6f};
  schema::ModelT& model = sample.model;
  for (const schema::Norm norm : {schema::Norm::L1, schema::Norm::L2, schema::Norm::Max}) {
    schema::NormalizeT normalize;
    normalize.norm = norm;
    append_feature(model, {loudness, tempo, year}, 3, as<schema::EncoderUnion>(normalize));
    append_feature(model, {tempo}, 1, as<schema::EncoderUnion>(normalize));
  }
  model.output_offset = column_count;
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - column_count);
  // Nothing whose square overflows or underflows: what is flushed to 0 depends on the processor's mode.
  Random random(22);
  const float values[] = {missing, infinity, -infinity, 0.0f, -0.0f, 7e18f, -1, 2, 3, 1e-15f, -1e-15f};
  for (int cell = 0; cell < 30 * column_count; ++cell)
    sample.rows.push_back(cell % column_count == key ? 1
                          : random.below(2) == 0     ? values[random.below(11)]
                                                     : static_cast<float>(random.uniform() * 40 - 20));
  sample.rows.insert(sample.rows.end(), {0, -0.0f, 1, 0, -3, -2, 1, -1});
  return sample;
}

/// Trees side by side of which a call shares some, and of the others some levels.
SampleModel session_block_sample(const std::string& name, unsigned depth, LeafFormat format,
                                 std::uint64_t seed) {
  SampleModel sample{name, empty_session_model(name), {}, 0, sample_events(60, seed)};
  schema::ModelT& model = sample.model;
  const SessionColumns c = add_session_columns(model);
  schema::MeanT mean;
  mean.keep = 0.5f;
  mean.prior_weight = 1;
  const std::uint16_t first = add_feature(model, Phase::Context, {c.skipped, c.energy}, 2, mean);
  add_feature(model, Phase::Context, {c.shuffle, c.reason}, 2, schema::IdentityT{});
  add_feature(model, Phase::Candidate, {c.energy, c.mood}, 2, schema::IdentityT{});
  add_feature(model, Phase::Candidate, {}, 1, schema::FactT{});

  Random random(seed);
  const std::vector<Axis> axes = {{0, MissingDirection::Left, evenly(0, 0.125f, 12)},
                                  {1, MissingDirection::Right, evenly(0.1f, 0.03125f, 24)},
                                  {2, MissingDirection::ZeroRight, {0, 0.5f}},
                                  {3, MissingDirection::Left, evenly(0, 2, 7)},
                                  {4, MissingDirection::Right, evenly(0.125f, 0.03125f, 24)},
                                  {4, MissingDirection::ZeroLeft, {0.25f, 0.5f}},
                                  {6, MissingDirection::Left, {1, 2, 3}}};
  BlockInputs made = block_inputs(axes, {{5, 3, 2}}, random);
  constexpr std::uint32_t context = 4;
  const auto slices = static_cast<std::uint32_t>(made.sizes.size());
  made.inputs->context_axes = context;
  made.inputs->context_slices = context;
  schema::BlockTreesT trees;
  trees.inputs = std::move(made.inputs);
  trees.depth = static_cast<std::uint8_t>(depth);
  trees.trees = 96;
  trees.context_trees = 16;
  trees.base = {-0.125f};
  BlockWriter writer(trees, made.sizes, random);
  writer.run(16, 5, context, context, depth);
  writer.run(80, 5, slices, context, depth / 2);
  fill_block_leaves(trees, format, writer.leaves, random);
  append_sample_operator(model, first, 7, 1, as<schema::OperatorKindUnion>(std::move(trees)));
  schema::CalibrateT sigmoid;
  sigmoid.slope = 4;
  append_sample_operator(model, model.output_offset, 1, 1, as<schema::OperatorKindUnion>(std::move(sigmoid)));
  return sample;
}

// --- Networks, which format 1.3 added ----------------------------------------------------------------

using schema::Cell;
using schema::WeightFormat;

/// What a sample's network reads: columns scaled to small numbers. Also of the awkward rows, most of which
/// are limited.
std::uint16_t scaled_columns(schema::ModelT& model) {
  schema::ScaleT scale;
  scale.center = {0, 1, 1, -2};
  scale.factor = {0.125f, 0.0625f, 0.5f, 0.25f};
  return append_feature(model, {loudness, tempo, key, year}, 4, as<schema::EncoderUnion>(std::move(scale)));
}

SampleModel recurrent_sample(const std::string& name, const SampleLayers& layers, bool all_steps,
                             bool lengths, std::uint64_t seed) {
  Random random(seed);
  SampleModel sample{name, empty_model(name), awkward_rows(24, {-10, 0, 2.5f, 1e-40f}, seed)};
  if (layers.format != WeightFormat::Int8) sample.tolerance = 1e-6f;
  const std::uint16_t first = scaled_columns(sample.model);
  // States of relu, unlike all others, are as large as what comes in.
  if (layers.cell == Cell::RnnRelu)
    for (float& cell : sample.rows) cell = std::clamp(cell, -20.0f, 20.0f);
  // The number of steps is made of the year, (year + 2) / 4.
  if (lengths)
    for (std::size_t at = year; at < sample.rows.size(); at += column_count) {
      constexpr float years[] = {6, 2, 10, 4, -2, 30, missing, infinity, -8, 9};
      sample.rows[at] = years[random.below(10)];
    }
  schema::RecurrentT recurrent = sample_recurrent(layers, random);
  recurrent.steps = static_cast<std::uint16_t>((lengths ? 3 : 4) / layers.inputs);
  recurrent.all_steps = all_steps;
  recurrent.lengths = lengths;
  append_recurrent(sample.model, std::move(recurrent), first, 4, Phase::Candidate);
  return sample;
}

/// Two layers of codes or halves, with the last activation given.
SampleModel quantized_sample(const std::string& name, WeightFormat format, schema::Activation activation,
                             std::uint64_t seed) {
  Random random(seed);
  SampleModel sample{name, empty_model(name), awkward_rows(24, {-10, 0, 2.5f, 1e-40f}, seed)};
  if (format != WeightFormat::Int8) sample.tolerance = 1e-6f;
  schema::ModelT& model = sample.model;
  model.missing_fill = {-8, 1, 2, 1};
  // Nothing that makes halves infinite.
  if (format != WeightFormat::Int8)
    for (float& cell : sample.rows) cell = std::clamp(cell, -20.0f, 20.0f);
  const std::uint16_t first = scaled_columns(model);
  schema::QuantizedAffineT below = sample_quantized(format, 4, 18, random);
  below.activation = schema::Activation::Tanh;
  append_sample_operator(model, first, 4, 18, as<schema::OperatorKindUnion>(std::move(below)));
  schema::QuantizedAffineT above = sample_quantized(format, 18, 3, random);
  above.activation = activation;
  append_sample_operator(model, model.output_offset, 18, 3, as<schema::OperatorKindUnion>(std::move(above)));
  return sample;
}

/// What a session model's networks read of an ended track: the values of several features, one after the
/// other.
std::uint16_t add_steps(schema::ModelT& model, const SessionColumns& c) {
  const std::uint16_t moods = add_feature(model, Phase::History, {c.mood}, 3, schema::OneHotT{});
  const auto second = static_cast<std::uint16_t>(moods + 1), third = static_cast<std::uint16_t>(moods + 2);
  return add_feature(model, Phase::History, {c.energy, c.skipped, c.seeks, moods, second, third}, 6,
                     schema::IdentityT{});
}

/// Networks over the session: what they have made of the ended tracks is joined with a candidate in a dense
/// layer. The states are outputs too.
SampleModel session_network_sample(const std::string& name, WeightFormat format,
                                   const std::vector<schema::RecurrentT>& networks, std::uint64_t seed) {
  Random random(seed);
  SampleModel sample{name, empty_session_model(name), {}, 0, sample_events(60, seed)};
  if (format != WeightFormat::Int8) sample.tolerance = 1e-6f;
  schema::ModelT& model = sample.model;
  const SessionColumns c = add_session_columns(model);
  model.missing_fill[c.energy] = 0.5f;
  const std::uint16_t steps = add_steps(model, c);
  add_feature(model, Phase::Context, {c.skipped}, 1, schema::TotalT{});
  add_feature(model, Phase::Candidate, {c.energy}, 1, schema::IdentityT{});
  add_feature(model, Phase::Candidate, {}, 1, schema::FactT{});
  const auto first = static_cast<std::uint16_t>(next_slot(model) - 3);
  for (const schema::RecurrentT& network : networks) {
    schema::RecurrentT recurrent = network;
    recurrent.sequence = schema::Sequence::Session;
    append_recurrent(model, std::move(recurrent), steps, network.input_factors.size(), Phase::Context);
  }
  const auto joined = static_cast<std::size_t>(next_slot(model) - first);
  const std::uint16_t states = model.operators.front()->output_offset;
  if (format == WeightFormat::Float32) {
    schema::AffineT affine;
    for (std::size_t i = 0; i < 2 * joined; ++i)
      affine.weights.push_back(static_cast<float>(random.uniform() - 0.5));
    affine.bias = {0.25f, -0.25f};
    affine.activation = schema::Activation::Sigmoid;
    append_sample_operator(model, first, joined, 2, as<schema::OperatorKindUnion>(std::move(affine)));
  } else {
    schema::QuantizedAffineT affine = sample_quantized(format, static_cast<unsigned>(joined), 2, random);
    affine.activation = schema::Activation::Sigmoid;
    append_sample_operator(model, first, joined, 2, as<schema::OperatorKindUnion>(std::move(affine)));
  }
  model.output_offset = states;
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - states);
  return sample;
}

/// Calls visit(value) for each number of an event, in the order in which they are stored.
template <typename Event, typename Visit>
void each_number(Event& event, const Visit& visit) {
  auto& [size, kind, track, start, now, end] = event.told;
  visit(event.kind), visit(event.horizon);
  visit(track.track_id), visit(track.artist_id);
  for (std::size_t i = 0; i < 29; ++i) visit((&track.duration)[i]);
  visit(start.reason), visit(start.pause), visit(start.context_switch);
  visit(now.context_type), visit(now.time), visit(now.utc_offset), visit(now.date), visit(now.hour_of_day);
  visit(now.is_shuffle), visit(now.premium);
  visit(end.reason), visit(end.skip), visit(end.n_seekfwd), visit(end.n_seekback), visit(end.ms_played);
  visit(end.time);
  for (auto& extra : event.extra)
    for (auto& value : extra) visit(value);
}

template <typename Number>
std::uint64_t bits_of_number(Number value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

/// What is told, with `extra` pointers that lead to the event's own numbers.
tonearm_event pointing_to_extra(const SampleEvent& event) {
  tonearm_event result = event.told;
  const auto point = [](auto& told, const std::vector<float>& extra) {
    told.extra = extra.data();
    told.extra_count = static_cast<std::uint32_t>(extra.size());
  };
  point(result.track, event.extra[0]);
  point(result.now, event.extra[1]);
  point(result.start, event.extra[2]);
  point(result.end, event.extra[3]);
  return result;
}

/// Opened with the plain kernels: others may add up the floats of networks in another order, and golden files
/// are the same wherever they are made.
Blob plain_blob(std::vector<unsigned char> bytes, const std::string& name) {
  return {std::move(bytes), name, TONEARM_CPU_SCALAR};
}

/// Stores those events of a sample whose answers are numbers, for devices to replay.
void add_golden_events(schema::ModelT& model, const SampleModel& sample) {
  const Blob blob = plain_blob(pack(model), sample.name);
  const tonearm_model& opened = blob.model();
  auto golden = std::make_unique<schema::GoldenT>();
  golden->tolerance = 1e-6f;
  std::vector<std::uint32_t> memory(tonearm_session_size(&opened) / 4),
      scratch(tonearm_scratch_size(&opened) / 4);
  tonearm_session* session = nullptr;
  tonearm_session_init(&opened, memory.data(), memory.size() * 4, &session);
  std::vector<float> row(blob.columns()), out(blob.outputs());
  SampleEvent playing{};
  bool plays = false;
  for (const SampleEvent& event : sample.events) {
    if (golden->rows.size() + row.size() > 1000) break;
    bool answered = false;
    if (perform(opened, session, event, scratch.data(), scratch.size() * 4, out.data(), answered) !=
        TONEARM_OK)
      continue;
    if (answered && !std::all_of(out.begin(), out.end(), [](float v) { return std::isfinite(v); })) continue;
    const bool is_start = event.kind == schema::GoldenEventKind::Start;
    const bool is_end = event.kind == schema::GoldenEventKind::End;
    if (is_start) playing = event, plays = true;
    // Of whom the track is, and what is known of its start: the playing one's, also for later ones.
    SampleEvent told = answered && event.horizon > 0 ? event : playing;
    told.told.start = playing.told.start;
    told.extra[2] = playing.extra[2];
    if (answered) told.told.now = event.told.now, told.extra[1] = event.extra[1];
    told.told.end = event.told.end;
    told.extra[3] = event.extra[3];
    const tonearm_event all = pointing_to_extra(told);
    if (tonearm_session_row(&opened, &all.track, &all.now, plays ? &all.start : nullptr,
                            is_end ? &all.end : nullptr, row.data(),
                            static_cast<std::uint32_t>(row.size())) != TONEARM_OK)
      throw std::logic_error("a row of " + sample.name);
    if (is_end) plays = false;
    golden->events.push_back(std::make_unique<schema::GoldenEventT>());
    schema::GoldenEventT& stored = *golden->events.back();
    stored.kind = event.kind;
    std::int64_t time = is_end ? event.told.end.time : event.told.now.time;
    if (is_end && time == TONEARM_UNKNOWN_TIME && playing.told.now.time != TONEARM_UNKNOWN_TIME)
      time = playing.told.now.time +
             (std::isnan(event.told.end.ms_played) ? 0 : static_cast<int>(event.told.end.ms_played / 1000));
    stored.time = time == TONEARM_UNKNOWN_TIME ? 0 : static_cast<std::uint32_t>(time);
    stored.track_id = static_cast<std::uint32_t>(told.told.track.track_id);
    stored.artist_id = static_cast<std::uint32_t>(told.told.track.artist_id);
    stored.horizon = static_cast<std::uint8_t>(event.horizon);
    golden->rows.insert(golden->rows.end(), row.begin(), row.end());
    if (answered) golden->outputs.insert(golden->outputs.end(), out.begin(), out.end());
  }
  model.golden = std::move(golden);
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

namespace {

unsigned gates_of(schema::Cell cell) {
  return cell == Cell::Lstm ? 4 : cell == Cell::Rnn || cell == Cell::RnnRelu ? 1 : 3;
}

Eigen::MatrixXf random_numbers(Eigen::Index rows, Eigen::Index columns, double largest, Random& random) {
  return Eigen::MatrixXf::NullaryExpr(
      rows, columns, [&] { return static_cast<float>((2 * random.uniform() - 1) * largest); });
}

Eigen::MatrixXi random_codes(Eigen::Index rows, Eigen::Index columns, std::uint32_t largest, Random& random) {
  return Eigen::MatrixXi::NullaryExpr(rows, columns, [&] {
    return static_cast<int>(random.below(2 * largest + 1)) - static_cast<int>(largest);
  });
}

std::unique_ptr<schema::RecurrentLayerT> sample_layer(const SampleLayers& kind, unsigned level, bool backward,
                                                      unsigned inputs, Random& random) {
  const unsigned gates = gates_of(kind.cell), rows = gates * kind.units;
  auto layer = std::make_unique<schema::RecurrentLayerT>();
  layer->level = static_cast<std::uint8_t>(level);
  layer->backward = backward;
  layer->cell = kind.cell;
  layer->units = static_cast<std::uint16_t>(kind.units);
  if (kind.format != WeightFormat::Int8) {
    // States forget what they were, so that roundings do not grow from step to step.
    const double from_input = std::min(1.0, 1.5 / std::sqrt(inputs));
    const double from_state = std::min(0.75, 1 / std::sqrt(kind.units));
    layer->input_weights = pack_matrix(random_numbers(rows, inputs, from_input, random), gates, kind.format);
    layer->recurrent_weights = pack_recurrent_matrix(random_numbers(rows, kind.units, from_state, random),
                                                     kind.cell, kind.units, kind.format);
    layer->bias = pack_rows(Eigen::VectorXf(random_numbers(rows, 1, 0.5, random)), gates);
    if (kind.cell == Cell::Gru)
      layer->recurrent_bias = pack_rows(Eigen::VectorXf(random_numbers(kind.units, 1, 0.5, random)), 1);
    return layer;
  }
  layer->input_weights = pack_codes(random_codes(rows, inputs, 127, random), gates);
  const Eigen::MatrixXi recurrent = random_codes(rows, kind.units, 127, random);
  if (kind.cell == Cell::GruResetBefore) {
    layer->recurrent_weights = pack_codes(recurrent.topRows(2 * kind.units), 2);
    const std::vector<std::uint8_t> of_n = pack_codes(recurrent.bottomRows(kind.units), 1);
    layer->recurrent_weights.insert(layer->recurrent_weights.end(), of_n.begin(), of_n.end());
  } else {
    layer->recurrent_weights = pack_codes(recurrent, gates);
  }
  // A weight of 127 and an input of 127 make about 1.
  const auto multipliers = [&](std::uint8_t shift) {
    Eigen::VectorXi numbers(rows);
    for (int& number : numbers)
      number = static_cast<int>((0.0635 + 0.127 * random.uniform()) * static_cast<double>(1 << shift));
    return pack_rows(numbers, gates);
  };
  layer->input_shift = static_cast<std::uint8_t>(15 + random.below(8));
  layer->recurrent_shift = static_cast<std::uint8_t>(15 + random.below(8));
  layer->input_multipliers = multipliers(layer->input_shift);
  layer->recurrent_multipliers = multipliers(layer->recurrent_shift);
  layer->bias_codes = pack_rows(Eigen::VectorXi(random_codes(rows, 1, 2048, random)), gates);
  if (kind.cell == Cell::Gru)
    layer->recurrent_bias_codes = pack_rows(Eigen::VectorXi(random_codes(kind.units, 1, 2048, random)), 1);
  return layer;
}

}  // namespace

schema::RecurrentT sample_recurrent(const SampleLayers& layers, Random& random) {
  schema::RecurrentT recurrent;
  recurrent.format = layers.format;
  unsigned inputs = layers.inputs;
  for (unsigned level = 0; level < layers.levels; ++level) {
    if (layers.forward) recurrent.layers.push_back(sample_layer(layers, level, false, inputs, random));
    if (layers.backward) recurrent.layers.push_back(sample_layer(layers, level, true, inputs, random));
    inputs = layers.units * (layers.forward && layers.backward ? 2 : 1);
  }
  for (unsigned i = 0; i < layers.inputs; ++i)
    recurrent.input_factors.push_back(static_cast<float>(30 + 100 * random.uniform()));
  return recurrent;
}

schema::QuantizedAffineT sample_quantized(WeightFormat format, unsigned inputs, unsigned outputs,
                                          Random& random) {
  schema::QuantizedAffineT affine;
  affine.format = format;
  for (unsigned k = 0; k < outputs; ++k) affine.bias.push_back(static_cast<float>(random.uniform() - 0.5));
  if (format != WeightFormat::Int8) {
    affine.weights = pack_matrix(random_numbers(outputs, inputs, 1, random), 1, format);
    return affine;
  }
  affine.weights = pack_codes(random_codes(outputs, inputs, 127, random), 1);
  for (unsigned i = 0; i < inputs; ++i)
    affine.input_factors.push_back(static_cast<float>(30 + 100 * random.uniform()));
  for (unsigned k = 0; k < outputs; ++k)
    affine.scales.push_back(static_cast<float>((0.5 + random.uniform()) / (127 * 127)));
  return affine;
}

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

namespace {

std::vector<SampleModel> samples_of_1_0() {
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

std::vector<SampleModel> samples_of_1_1() {
  std::vector<SampleModel> samples;
  samples.push_back(field_sample());
  samples.push_back(session_encoder_sample());
  samples.push_back(session_tree_sample("session-branching", 0, {LeafStorage::exact, TreeLayout::walk}, 13));
  samples.push_back(session_tree_sample("session-symmetric", 3, {LeafStorage::int16, TreeLayout::walk}, 14));
  return samples;
}

std::vector<SampleModel> samples_of_1_2() {
  std::vector<SampleModel> samples;
  const auto add_blocks = [&](const char* name, unsigned depth, LeafFormat format, std::size_t outputs,
                              std::uint32_t count, std::uint64_t seed) {
    samples.push_back(block_sample(name, block_trees(depth, format, outputs, count, seed)));
  };
  add_blocks("blocks-branching-float32", 0, LeafFormat::Float32, 1, 80, 31);
  add_blocks("blocks-branching-int16", 0, LeafFormat::Int16, 1, 16, 32);
  add_blocks("blocks-branching-palette8", 0, LeafFormat::Palette8, 3, 32, 33);
  add_blocks("blocks-branching-palette16", 0, LeafFormat::Palette16, 2, 48, 34);
  add_blocks("blocks-symmetric-float32", 3, LeafFormat::Float32, 1, 80, 35);
  add_blocks("blocks-symmetric-int16", 6, LeafFormat::Int16, 1, 16, 36);
  add_blocks("blocks-symmetric-palette8", 8, LeafFormat::Palette8, 1, 16, 37);
  add_blocks("blocks-symmetric-palette16", 4, LeafFormat::Palette16, 2, 48, 38);
  samples.push_back(block_sample(
      "categories-branching",
      with_new_inputs(branching_trees(NodeFormat::Node4, LeafFormat::Palette8, 2, 39), true, 40)));
  samples.push_back(block_sample(
      "categories-symmetric", with_new_inputs(symmetric_trees(4, LeafFormat::Palette8, 1, 41), false, 42)));
  samples.push_back(normalize_sample());
  samples.push_back(session_block_sample("session-blocks-branching", 0, LeafFormat::Float32, 43));
  samples.push_back(session_block_sample("session-blocks-symmetric", 4, LeafFormat::Int16, 44));
  return samples;
}

std::vector<SampleModel> samples_of_1_3() {
  constexpr auto f32 = WeightFormat::Float32, f16 = WeightFormat::Float16, i8 = WeightFormat::Int8;
  std::vector<SampleModel> samples;
  std::uint64_t seed = 50;
  const auto add = [&](const char* name, const SampleLayers& layers, bool all_steps = false,
                       bool lengths = false) {
    samples.push_back(recurrent_sample(name, layers, all_steps, lengths, seed++));
  };
  add("recurrent-rnn-float32", {Cell::Rnn, f32, 2, 5}, true);
  add("recurrent-rnn-relu-float16", {Cell::RnnRelu, f16, 1, 3}, false, true);
  add("recurrent-lstm-float32", {Cell::Lstm, f32, 2, 3, 2, true, true});
  add("recurrent-gru-float16", {Cell::Gru, f16, 1, 17}, true, true);
  add("recurrent-gru-before-float32", {Cell::GruResetBefore, f32, 4, 4, 1, false, true});
  add("recurrent-rnn-int8", {Cell::Rnn, i8, 2, 5, 1, false, true}, true);
  add("recurrent-lstm-int8", {Cell::Lstm, i8, 1, 5, 2, true, true}, false, true);
  add("recurrent-gru-int8", {Cell::Gru, i8, 2, 18});
  add("recurrent-gru-before-int8", {Cell::GruResetBefore, i8, 1, 6, 1, true, true}, true, true);
  samples.push_back(quantized_sample("quantized-float16", f16, schema::Activation::Softmax, seed++));
  samples.push_back(quantized_sample("quantized-int8", i8, schema::Activation::None, seed++));

  const auto add_session = [&](const char* name, WeightFormat format, std::vector<SampleLayers> layers,
                               std::vector<std::uint16_t> steps, bool padded) {
    Random random(seed);
    std::vector<schema::RecurrentT> networks;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      networks.push_back(sample_recurrent(layers[i], random));
      networks.back().steps = steps[i];
      networks.back().padded = padded && steps[i] > 0;
      if (networks.back().padded) networks.back().padding = 0.75f;
    }
    samples.push_back(session_network_sample(name, format, networks, seed++));
  };
  add_session("session-recurrent-float32", f32, {{Cell::Lstm, f32, 6, 3, 2}, {Cell::Rnn, f32, 3, 2}}, {0, 3},
              false);
  add_session("session-recurrent-float16", f16, {{Cell::Gru, f16, 6, 4, 1, true, true}}, {3}, true);
  add_session("session-recurrent-int8", i8, {{Cell::Gru, i8, 6, 5, 2}, {Cell::GruResetBefore, i8, 5, 3}},
              {0, 0}, false);
  add_session("session-ring-int8", i8, {{Cell::Lstm, i8, 6, 5, 1, true, true}, {Cell::Lstm, i8, 2, 3}},
              {4, 0}, false);
  add_session("session-padded-int8", i8, {{Cell::Lstm, i8, 5, 3, 1, true, true}}, {5}, true);
  return samples;
}

std::vector<SampleModel> samples_of_1_4() {
  std::vector<SampleModel> samples;
  samples.push_back(tree_sample("complete-float32", complete_trees(4, LeafFormat::Float32, 2, 11, 71)));
  samples.push_back(tree_sample("complete-int16", complete_trees(8, LeafFormat::Int16, 1, 3, 72)));
  samples.push_back(block_sample(
      "complete-palette8", with_new_inputs(complete_trees(1, LeafFormat::Palette8, 3, 17, 73), false, 74)));
  samples.push_back(
      session_tree_sample("session-complete", 0, {LeafStorage::exact, TreeLayout::complete}, 75));
  return samples;
}

}  // namespace

std::vector<SampleModel> samples_of_format(std::uint32_t minor) {
  return minor == 0   ? samples_of_1_0()
         : minor == 1 ? samples_of_1_1()
         : minor == 2 ? samples_of_1_2()
         : minor == 3 ? samples_of_1_3()
                      : samples_of_1_4();
}

namespace {

std::vector<SampleModel> samples_with(bool session) {
  std::vector<SampleModel> samples;
  for (std::uint32_t minor = 0; minor <= TONEARM_FORMAT_MINOR; ++minor)
    for (SampleModel& sample : samples_of_format(minor))
      if ((sample.model.session != nullptr) == session) samples.push_back(std::move(sample));
  return samples;
}

}  // namespace

std::vector<SampleModel> sample_models() { return samples_with(false); }
std::vector<SampleModel> session_sample_models() { return samples_with(true); }

SampleModel sample_model(std::string_view name) {
  for (std::uint32_t minor = 0; minor <= TONEARM_FORMAT_MINOR; ++minor)
    for (SampleModel& sample : samples_of_format(minor))
      if (sample.name == name) return std::move(sample);
  throw std::invalid_argument("no sample model is called " + std::string(name));
}

std::vector<unsigned char> golden_blob(const SampleModel& sample) {
  constexpr std::size_t golden_count = 6;
  schema::ModelT model = sample.model;
  if (model.session != nullptr) {
    add_golden_events(model, sample);
    return pack(model);
  }
  const std::size_t values = std::min(sample.rows.size(), golden_count * model.columns.size());
  add_golden(model, {sample.rows.begin(), sample.rows.begin() + static_cast<std::ptrdiff_t>(values)});
  return pack(model);
}

std::string golden_rows(const SampleModel& sample) {
  const Blob blob = plain_blob(golden_blob(sample), sample.name);
  std::vector<float> out(blob.outputs());
  std::string text = sample.tolerance == 0 ? "exact\n" : "within 1e-6\n";
  for (std::size_t n = 0; n < sample.rows.size(); n += blob.columns()) {
    const auto row = std::span(sample.rows).subspan(n, blob.columns());
    blob.evaluate(row, out);
    text += bits_of(row).substr(1) + " :" + bits_of(out) + '\n';
  }
  return text;
}

std::string golden_events(const SampleModel& sample) {
  const Blob blob = plain_blob(golden_blob(sample), sample.name);
  const std::vector<float> answers = replay(blob.model(), sample.events);
  std::string text = sample.tolerance == 0 ? "" : "within 1e-6\n";
  std::size_t asked = 0;
  for (const SampleEvent& event : sample.events) {
    text += text_of(event);
    if (event.kind == schema::GoldenEventKind::Predict)
      text += " :" + bits_of(std::span(answers).subspan(blob.outputs() * asked++, blob.outputs()));
    text += '\n';
  }
  return text;
}

tonearm_status perform(const tonearm_model& model, tonearm_session* session, const SampleEvent& event,
                       void* scratch, std::size_t scratch_size, float* out, bool& answered) {
  const tonearm_event told = pointing_to_extra(event);
  answered = event.kind == schema::GoldenEventKind::Predict;
  if (event.kind == schema::GoldenEventKind::Start)
    return tonearm_track_start(&model, session, &told.track, &told.start, &told.now, scratch, scratch_size);
  if (event.kind == schema::GoldenEventKind::End)
    return tonearm_track_end(&model, session, &told.end, scratch, scratch_size);
  tonearm_session_info info{};
  info.struct_size = sizeof info;
  const tonearm_status status = tonearm_session_describe(&model, session, &info);
  if (status != TONEARM_OK) return status;
  tonearm_request request;
  tonearm_request_init(&request, sizeof request);
  request.kind = event.horizon == 0 ? TONEARM_PLAYING : TONEARM_ALTERNATIVES;
  request.candidate_count = 1;
  request.place = event.horizon - 1 - info.playing;
  request.candidates = &told.track;
  request.now = &told.now;
  return tonearm_predict(&model, session, &request, scratch, scratch_size, out);
}

std::vector<float> replay(const tonearm_model& model, std::span<const SampleEvent> events) {
  tonearm_info info{};
  info.struct_size = sizeof info;
  tonearm_model_info(&model, &info);
  std::vector<std::uint32_t> memory(tonearm_session_size(&model) / 4), scratch(info.scratch_bytes / 4);
  tonearm_session* session = nullptr;
  tonearm_session_init(&model, memory.data(), memory.size() * 4, &session);
  std::vector<float> answers, out(info.outputs);
  for (const SampleEvent& event : events) {
    bool answered = false;
    const tonearm_status status =
        perform(model, session, event, scratch.data(), scratch.size() * 4, out.data(), answered);
    if (status != TONEARM_OK)
      throw std::runtime_error(std::string("a sample event: ") + tonearm_status_text(status));
    if (answered) answers.insert(answers.end(), out.begin(), out.end());
  }
  return answers;
}

std::string text_of(const SampleEvent& event) {
  std::string text;
  each_number(event, [&](const auto& value) {
    char digits[24];
    std::snprintf(digits, sizeof digits, text.empty() ? "%llx" : " %llx",
                  static_cast<unsigned long long>(bits_of_number(value)));
    text += digits;
  });
  return text;
}

SampleEvent event_of(const std::string& line) {
  SampleEvent event{};
  tonearm_event& told = event.told;
  told.struct_size = sizeof told;
  tonearm_track_init(&told.track, sizeof told.track);
  tonearm_start_init(&told.start, sizeof told.start);
  tonearm_now_init(&told.now, sizeof told.now);
  tonearm_end_init(&told.end, sizeof told.end);
  for (std::vector<float>& extra : event.extra) extra.resize(3);
  std::istringstream numbers(line);
  each_number(event, [&](auto& value) {
    std::uint64_t bits = 0;
    if (!(numbers >> std::hex >> bits)) throw std::invalid_argument("an event has too few numbers: " + line);
    std::memcpy(&value, &bits, sizeof value);
  });
  return event;
}

}  // namespace tonearm
