// Times the calls of the API and the parts of a model's program, by the caller's clock. Nothing here computes
// anything of a model: whole calls are those of the API, and parts are the evaluator's own functions.

#include <string.h>
#include <tonearm/profile.h>

#include "columns.h"
#include "evaluate.h"
#include "program.h"
#include "recurrent.h"

namespace tonearm::runtime {
namespace {

// ------------------------------------------------------------------------------------------ bytes

uint32_t leaf_bytes(LeafKind kind) {
  switch (kind) {
    case LeafKind::float32:
      return 4;
    case LeafKind::int16:
      return 2;
    case LeafKind::palette8:
      return 1 + 4;
    case LeafKind::palette16:
      return 2 + 4;
  }
  return 0;
}

/// Of axes [first, last): what finding the rank of a value among its thresholds reads.
uint64_t axes_bytes(const TreesView& trees, uint32_t first, uint32_t last) {
  uint64_t bytes = 0;
  for (uint32_t axis = first; axis < last; ++axis) {
    const uint32_t count = trees.threshold_begin[axis + 1] - trees.threshold_begin[axis];
    bytes += 2 + 1 + 4;  // slot, missing, threshold_begin
    if (trees.pivot_begin != nullptr) {
      bytes += 4;
      for (uint32_t left = count; left > 0; left = left > 16 ? (left + 15) / 16 : 0) bytes += 64;
    } else {
      for (uint32_t left = count; left > 0; left /= 2) bytes += 4;
    }
  }
  return bytes;
}

uint64_t categories_bytes(const TreesView& trees) {
  uint64_t bytes = 0;
  for (uint32_t axis = 0; axis < trees.category_axes; ++axis)
    bytes += 2 + 4 + 2 + trees.category_slices[axis];
  return bytes;
}

/// A child of node `at` within its tree: how far behind it, or 0 for a leaf.
uint32_t way_to_child(const TreesView& trees, const uint8_t* node, uint32_t side) {
  uint16_t half;
  uint32_t child;
  switch (trees.node_kind) {
    case NodeKind::node4:
      return node[2 + side] < 0x80 ? node[2 + side] : 0;
    case NodeKind::node6:
    case NodeKind::node8:
      memcpy(&half, node + (trees.node_kind == NodeKind::node6 ? 2 : 4) + 2 * side, sizeof half);
      return half < 0x8000 ? half : 0;
    case NodeKind::node12:
      memcpy(&child, node + 4 + 4 * side, sizeof child);
      return child < 0x80000000u ? child : 0;
    case NodeKind::complete:
      break;
  }
  return 0;
}

/// Nodes on the longest way through each of the trees [first, last), in all. `room` is for 16-bit numbers,
/// one for each node of a tree; a tree with more of them counts with all its nodes.
uint64_t longest_ways(const TreesView& trees, uint32_t node_bytes, uint32_t first, uint32_t last,
                      uint8_t* room, size_t room_bytes) {
  uint64_t nodes = 0;
  for (uint32_t tree = first; tree < last; ++tree) {
    const uint32_t count = trees.tree_nodes[tree + 1] - trees.tree_nodes[tree];
    const uint8_t* node = trees.nodes + static_cast<size_t>(trees.tree_nodes[tree]) * node_bytes;
    if (count > room_bytes / 2 || count > UINT16_MAX) {
      nodes += count;
      continue;
    }
    // Children come after their parents, so one pass finds how far each node can be from the root.
    memset(room, 0, size_t{2} * count);
    uint16_t longest = 0;
    for (uint32_t n = 0; n < count; ++n, node += node_bytes) {
      uint16_t here;
      memcpy(&here, room + size_t{2} * n, 2);
      ++here;
      longest = here > longest ? here : longest;
      for (uint32_t side = 0; side < 2; ++side) {
        const uint32_t way = way_to_child(trees, node, side);
        if (way == 0) continue;
        uint8_t* place = room + size_t{2} * (n + way);
        uint16_t there;
        memcpy(&there, place, 2);
        if (here > there) memcpy(place, &here, 2);
      }
    }
    nodes += longest;
  }
  return nodes;
}

/// What the trees [first, last) of all outputs read, from binned inputs on.
uint64_t trees_bytes(const OperatorView& op, uint32_t first, uint32_t last, uint8_t* room,
                     size_t room_bytes) {
  const TreesView& trees = op.trees;
  const uint64_t leaves = uint64_t{last - first} * leaf_bytes(trees.leaf_kind);
  if (op.type == OperatorType::branching_trees && trees.node_kind != NodeKind::complete) {
    static constexpr uint8_t bytes_of[] = {4, 6, 8, 12};
    const uint32_t node_bytes = bytes_of[static_cast<uint32_t>(trees.node_kind)];
    return leaves + longest_ways(trees, node_bytes, first, last, room, room_bytes) * node_bytes +
           uint64_t{8} * (last - first);  // tree_nodes, tree_leaves
  }
  if (trees.depth > 0) return leaves + uint64_t{2} * trees.depth * (last - first);
  // Blocks of 64 trees, the last of a run smaller; block_nodes goes on from one run to the next.
  uint64_t bytes = leaves;
  for (uint32_t block = 0, tree = 0; tree < trees.trees * op.output_count; ++block) {
    const uint32_t in_run = tree % trees.trees;
    const uint32_t end = in_run < trees.context_trees ? trees.context_trees : trees.trees;
    const uint32_t size = end - in_run < 64 ? end - in_run : 64;
    if (tree >= first && tree < last) bytes += 1 + uint64_t{size} * (1 + 4u * trees.block_nodes[block]);
    tree += size;
  }
  return bytes;
}

uint64_t recurrent_bytes([[maybe_unused]] const OperatorView& op) {
  if constexpr (with_recurrent) {
    const RecurrentView& view = op.recurrent;
    const bool codes = view.format == WeightKind::int8;
    uint64_t bytes = codes ? uint64_t{4} * view.width : 0;  // input_factors
    uint32_t inputs = view.width, width = 0, level = 0;
    for (uint32_t i = 0; i < view.layers; ++i) {
      const RecurrentLayerView layer = recurrent_layer(view, i);
      if (layer.level != level) {
        inputs = width;
        width = 0;
        level = layer.level;
      }
      const uint32_t gates = gates_of(layer.cell), panels = panels_of(layer.units);
      const uint64_t rows = uint64_t{4} * gates * panels * panel_units;
      bytes += matrix_bytes(view.format, gates, panels, inputs) +
               matrix_bytes(view.format, gates, panels, layer.units) + rows * (codes ? 3 : 1);
      if (layer.cell == CellKind::gru) bytes += uint64_t{4} * panels * panel_units;  // the recurrent bias
      width += layer.units;
    }
    return bytes;
  }
  return 0;
}

uint64_t operator_bytes(const OperatorView& op, uint32_t phase, uint8_t* room, size_t room_bytes) {
  const uint64_t in = op.input_count, out = op.output_count;
  switch (op.type) {
    case OperatorType::affine:
      return 4 * (in + 1) * out;
    case OperatorType::quantized_affine:
      if constexpr (with_affine) {
        const uint64_t factors = op.quantized.format == WeightKind::int8 ? 4 * (in + out) : 0;
        return matrix_bytes(op.quantized.format, 1, panels_of(op.output_count), op.input_count) + 4 * out +
               factors;
      }
      return 0;
    case OperatorType::recurrent:
      return recurrent_bytes(op);
    case OperatorType::calibrate: {
      if (!op.calibrate.isotonic) return 8;
      uint64_t bytes = 4 + 2 * 8;  // the first point, and the two to both sides
      for (uint32_t left = op.calibrate.points; left > 1; left -= left / 2) bytes += 4;
      return bytes * out;
    }
    case OperatorType::branching_trees:
    case OperatorType::symmetric_trees:
    case OperatorType::block_trees:
      break;
  }
  const TreesView& trees = op.trees;
  const bool blocks = op.type == OperatorType::block_trees;
  const uint32_t count = blocks ? trees.trees * op.output_count : trees.trees;
  const bool split = trees.context_axes > 0;
  const uint32_t shared = split ? trees.context_trees : 0;
  if (split && phase == TONEARM_PHASE_CONTEXT) {
    // Of symmetric trees, the levels that ask the context are read now as well.
    const bool symmetric = op.type != OperatorType::branching_trees && trees.depth > 0;
    const uint64_t levels = symmetric ? uint64_t{2} * trees.depth * (count - shared) : 0;
    return axes_bytes(trees, 0, trees.context_axes) + trees_bytes(op, 0, shared, room, room_bytes) + levels;
  }
  return axes_bytes(trees, split ? trees.context_axes : 0, trees.axes) + categories_bytes(trees) +
         trees_bytes(op, shared, count, room, room_bytes) + 4 * out;
}

uint32_t feature_bytes(const FeatureView& feature) {
  const uint32_t inputs = 2 * feature.input_count;
  switch (feature.kind) {
    case EncoderKind::scale:
      return inputs + 8 * feature.output_count;
    case EncoderKind::ordinal:
      return inputs + 4;
    case EncoderKind::bucket:
      return inputs + 4 * feature.first_count;
    case EncoderKind::projection:
      return inputs + 4 * feature.input_count * (feature.output_count + 1);
    default:
      return inputs;
  }
}

// ------------------------------------------------------------------------------------------ parts

struct Part {
  uint32_t kind, phase, index;  // kind 0: nothing, to find out what the clock costs
};

bool is_encoder(const FeatureView& feature) {
  return !is_aggregate(feature.kind) && feature.kind != EncoderKind::fact;
}
bool is_over_session(const OperatorView& op) {
  return with_recurrent && op.type == OperatorType::recurrent && op.recurrent.session;
}
/// Whether candidates share a part of an operator: trees that ask the context.
bool has_shared_part(const OperatorView& op) {
  const bool trees = op.type == OperatorType::branching_trees || op.type == OperatorType::symmetric_trees ||
                     op.type == OperatorType::block_trees;
  return trees && op.output_count == 1 && op.trees.context_axes > 0;
}

struct Range {
  uint32_t first, last;
};
Range features_of(const Plan& plan, uint32_t phase) {
  switch (phase) {
    case TONEARM_PHASE_HISTORY:
      return {0, plan.first_context_feature};
    case TONEARM_PHASE_CONTEXT:
      return {plan.first_context_feature, plan.first_candidate_feature};
    case TONEARM_PHASE_CANDIDATE:
      return {plan.first_candidate_feature, plan.features};
    default:
      return {0, plan.features};
  }
}

/// visit(part) for all parts of a model, in their order, as long as it returns true.
template <typename Visit>
void for_each_part(const tonearm_model& model, const Plan& plan, const Visit& visit) {
  if (!plan.has_session()) {
    if (!visit(Part{TONEARM_PROFILE_EVALUATE, TONEARM_PHASE_NONE, 0}) ||
        !visit(Part{TONEARM_PROFILE_FEATURES, TONEARM_PHASE_NONE, 0}))
      return;
    for (uint32_t i = 0; i < plan.operators; ++i)
      if (!visit(Part{TONEARM_PROFILE_OPERATOR, TONEARM_PHASE_NONE, i})) return;
    return;
  }
  static constexpr Part calls[] = {{TONEARM_PROFILE_START, TONEARM_PHASE_NONE, 0},
                                   {TONEARM_PROFILE_END, TONEARM_PHASE_HISTORY, 0},
                                   {TONEARM_PROFILE_CONTEXT, TONEARM_PHASE_CONTEXT, 0},
                                   {TONEARM_PROFILE_PLAYING, TONEARM_PHASE_NONE, 0},
                                   {TONEARM_PROFILE_QUEUE, TONEARM_PHASE_NONE, 0}};
  for (const Part& call : calls)
    if (!visit(call)) return;
  for (uint32_t phase = TONEARM_PHASE_HISTORY; phase <= TONEARM_PHASE_CANDIDATE; ++phase) {
    const Range range = features_of(plan, phase);
    bool encodes = false;
    for (uint32_t i = range.first; i < range.last && !encodes; ++i)
      encodes = is_encoder(feature_at(model, i));
    if (encodes && !visit(Part{TONEARM_PROFILE_FEATURES, phase, 0})) return;
    for (uint32_t i = 0; i < plan.operators; ++i) {
      const OperatorView op = operator_at(model, i);
      const bool candidate = i >= plan.first_candidate_operator;
      const bool runs = phase == TONEARM_PHASE_HISTORY   ? is_over_session(op)
                        : phase == TONEARM_PHASE_CONTEXT ? !candidate || has_shared_part(op)
                                                         : candidate;
      if (runs && !visit(Part{TONEARM_PROFILE_OPERATOR, phase, i})) return;
    }
  }
}

const char* name_of(const tonearm_model& model, const Part& part) {
  switch (part.kind) {
    case TONEARM_PROFILE_EVALUATE:
      return "evaluate a row";
    case TONEARM_PROFILE_START:
      return "a track starts";
    case TONEARM_PROFILE_END:
      return "a track ends";
    case TONEARM_PROFILE_CONTEXT:
      return "predict, no track";
    case TONEARM_PROFILE_PLAYING:
      return "predict, playing track";
    case TONEARM_PROFILE_QUEUE:
      return "predict, queue";
    case TONEARM_PROFILE_FEATURES:
      return part.phase == TONEARM_PHASE_NONE ? "columns and features" : "encoders";
    default:
      break;
  }
  const OperatorView op = operator_at(model, part.index);
  const bool shared = part.phase == TONEARM_PHASE_CONTEXT && has_shared_part(op);
  switch (op.type) {
    case OperatorType::affine:
      return "dense layer, float32";
    case OperatorType::quantized_affine:
      return op.quantized.format == WeightKind::int8      ? "dense layer, int8"
             : op.quantized.format == WeightKind::float16 ? "dense layer, float16"
                                                          : "dense layer, float32";
    case OperatorType::branching_trees:
      return shared ? "branching trees, shared part" : "branching trees";
    case OperatorType::symmetric_trees:
      return shared ? "symmetric trees, shared part" : "symmetric trees";
    case OperatorType::block_trees:
      return shared ? "trees in blocks, shared part" : "trees in blocks";
    case OperatorType::calibrate:
      return "calibration";
    case OperatorType::recurrent:
      break;
  }
  if (is_over_session(op) && part.phase == TONEARM_PHASE_CONTEXT) return "recurrent network, its outputs";
  return op.recurrent.format == WeightKind::int8      ? "recurrent network, int8"
         : op.recurrent.format == WeightKind::float16 ? "recurrent network, float16"
                                                      : "recurrent network, float32";
}

uint32_t touched_bytes(const tonearm_model& model, const Plan& plan, const Part& part, uint64_t* samples,
                       uint32_t sample_count) {
  uint64_t bytes = 0;
  if (part.kind == TONEARM_PROFILE_FEATURES) {
    const Range range = features_of(plan, part.phase);
    for (uint32_t i = range.first; i < range.last; ++i)
      if (const FeatureView feature = feature_at(model, i); is_encoder(feature))
        bytes += feature_bytes(feature);
    if (part.phase == TONEARM_PHASE_NONE) bytes += uint64_t{4} * plan.columns;  // missing_fill
  } else if (part.kind == TONEARM_PROFILE_OPERATOR) {
    const OperatorView op = operator_at(model, part.index);
    const bool read = is_over_session(op) && part.phase == TONEARM_PHASE_CONTEXT && !op.recurrent.padded;
    if (!read)
      bytes = operator_bytes(op, part.phase, reinterpret_cast<uint8_t*>(samples),
                             size_t{sample_count} * sizeof *samples);
  }
  return bytes > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(bytes);
}

// ------------------------------------------------------------------------------------------ times

/// In place and without recursion.
void heap_sort(uint64_t* values, uint32_t count) {
  const auto sink = [&](uint32_t at, uint32_t end) {
    const uint64_t value = values[at];
    for (uint32_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
      if (child + 1 < end && values[child + 1] > values[child]) ++child;
      if (values[child] <= value) break;
      values[at] = values[child];
      at = child;
    }
    values[at] = value;
  };
  for (uint32_t i = count / 2; i > 0; --i) sink(i - 1, count);
  for (uint32_t end = count; end > 1; --end) {
    const uint64_t largest = values[0];
    values[0] = values[end - 1];
    values[end - 1] = largest;
    sink(0, end - 1);
  }
}

/// The smallest value that at least `percent` of 100 do not exceed.
uint64_t quantile(const uint64_t* sorted, uint32_t count, uint32_t percent) {
  const uint32_t rank = count / 100 * percent + (count % 100 * percent + 99) / 100;
  return sorted[rank == 0 ? 0 : rank - 1];
}

tonearm_profile_times summary_of(const uint64_t* sorted, uint32_t count) {
  tonearm_profile_times times = {};
  if (count == 0) return times;
  times.count = count;
  for (uint32_t i = 0; i < count; ++i) times.total += sorted[i];
  times.minimum = sorted[0];
  times.median = quantile(sorted, count, 50);
  times.p90 = quantile(sorted, count, 90);
  times.p99 = quantile(sorted, count, 99);
  times.maximum = sorted[count - 1];
  return times;
}

// --------------------------------------------------------------------------------------- workload

/// The structs of one event, found by the sizes that its writer knew.
struct EventParts {
  uint32_t kind;
  const tonearm_track* track;
  const tonearm_start* start;
  const tonearm_now* now;
  const tonearm_end* end;
};

template <typename Struct>
bool next_struct(const uint8_t* event, size_t& at, size_t size, const Struct*& found) {
  if (size - at < sizeof(Struct)) return false;
  found = reinterpret_cast<const Struct*>(event + at);
  const size_t bytes = found->struct_size;
  if (bytes < sizeof(Struct) || bytes % alignof(Struct) != 0 || bytes > size - at) return false;
  at += bytes;
  return true;
}

constexpr size_t rounded(size_t bytes) { return (bytes + 15) / 16 * 16; }

class Profiler {
 public:
  Profiler(const tonearm_model& model, const tonearm_profile_request& request, void* memory)
      : model_(model), plan_(plan_of(model)), request_(request) {
    auto* bytes = static_cast<uint8_t*>(memory);
    session_memory_ = bytes;
    before_ = bytes + rounded(plan_.session_bytes);
    scratch_ = before_ + rounded(plan_.session_bytes);
    out_ = reinterpret_cast<float*>(scratch_ + rounded(plan_.scratch_bytes));
    if (!plan_.has_session()) {
      rows_ = request.rows;
      row_count_ = request.row_count;
      if (rows_ == nullptr && plan_.golden_rows > 0) {
        rows_ = golden_of(model).rows;
        row_count_ = plan_.golden_rows;
      }
    }
  }

  const Plan& plan() const { return plan_; }
  bool has_rows() const { return rows_ != nullptr; }

  /// Replays all events once: whether they are accepted, and what there is to be timed.
  tonearm_status survey() {
    make_empty();
    for (size_t i = 0; i < request_.event_count; ++i) {
      EventParts event;
      if (!event_at(i, event)) return TONEARM_BAD_STRUCT_SIZE;
      starts_ += event.kind == TONEARM_EVENT_START ? 1 : 0;
      ends_ += event.kind == TONEARM_EVENT_END && playing_ ? 1 : 0;
      if (const tonearm_status status = perform(event); status != TONEARM_OK) return status;
    }
    next_ = request_.event_count;  // so that the next pass begins with an empty session
    return starts_ == 0 ? TONEARM_NOTHING_PLAYING : TONEARM_OK;
  }

  tonearm_status measure(const Part& part, uint32_t runs, bool cold, uint64_t cost, uint32_t& count) {
    count = 0;
    if (!measurable(part)) return TONEARM_OK;
    const uint64_t mask = request_.clock_mask == 0 ? UINT64_MAX : request_.clock_mask;
    const uint32_t before = cold ? 0 : runs / 8 + 1;
    for (uint32_t i = 0; i < before + runs; ++i) {
      status_ = prepare(part);
      if (status_ != TONEARM_OK) return status_;
      if (cold) {
        request_.evict(request_.context);
        request_.now(request_.context);  // the clock itself is not to be cold
      }
      const uint64_t begin = request_.now(request_.context);
      run(part);
      const uint64_t time = (request_.now(request_.context) - begin) & mask;
      if (status_ != TONEARM_OK) return status_;
      if (i >= before) request_.samples[count++] = time > cost ? time - cost : 0;
    }
    heap_sort(request_.samples, count);
    return TONEARM_OK;
  }

  /// What an empty part takes, by the median; and the smallest step of the clock.
  void measure_clock(uint64_t& cost, uint64_t& step) {
    uint32_t count;
    measure({}, request_.sample_count, false, 0, count);
    cost = quantile(request_.samples, count, 50);
    const uint64_t mask = request_.clock_mask == 0 ? UINT64_MAX : request_.clock_mask;
    step = 0;
    uint64_t last = request_.now(request_.context);
    for (uint32_t i = 0, seen = 0; i < 100000 && seen < 100; ++i) {
      const uint64_t now = request_.now(request_.context), difference = (now - last) & mask;
      last = now;
      if (difference == 0) continue;
      step = step == 0 || difference < step ? difference : step;
      ++seen;
    }
  }

 private:
  size_t queue_tracks() const {
    return request_.tracks == nullptr || request_.queue == 0 ? 0 : request_.track_count;
  }

  bool measurable(const Part& part) const {
    const bool ended = part.kind == TONEARM_PROFILE_END || part.phase == TONEARM_PHASE_HISTORY;
    return (!ended || ends_ > 0) && (part.kind != TONEARM_PROFILE_QUEUE || queue_tracks() > 0);
  }

  // ---- the session

  void make_empty() {
    if constexpr (with_sessions)
      tonearm_session_init(&model_, session_memory_, plan_.session_bytes, &session_);
    playing_ = false;
    next_ = 0;
  }

  bool event_at(size_t index, EventParts& event) const {
    const size_t stride = request_.events->struct_size;
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(request_.events) + index * stride;
    const auto* raw = reinterpret_cast<const tonearm_event*>(bytes);
    if (stride < sizeof *raw || stride % alignof(tonearm_event) != 0 || raw->struct_size != stride)
      return false;
    event.kind = raw->kind;
    size_t at = offsetof(tonearm_event, track);
    return next_struct(bytes, at, stride, event.track) && next_struct(bytes, at, stride, event.start) &&
           next_struct(bytes, at, stride, event.now) && next_struct(bytes, at, stride, event.end);
  }

  tonearm_status perform(const EventParts& event) {
    if constexpr (with_sessions) {
      const bool was_playing = playing_;
      playing_ = event.kind == TONEARM_EVENT_START;
      switch (event.kind) {
        case TONEARM_EVENT_START:
          return tonearm_track_start(&model_, session_, event.track, event.start, event.now, scratch_,
                                     plan_.scratch_bytes);
        case TONEARM_EVENT_END:
          if (!was_playing) return TONEARM_OK;  // the log began in the middle
          return tonearm_track_end(&model_, session_, event.end, scratch_, plan_.scratch_bytes);
        case TONEARM_EVENT_RESET:
          return tonearm_session_reset(&model_, session_);
        default:
          break;
      }
    }
    return TONEARM_OUT_OF_RANGE;
  }

  /// Goes on through the events until the next one is of that kind and would do something.
  tonearm_status go_to(uint32_t kind) {
    for (;;) {
      if (session_ == nullptr || next_ == request_.event_count) make_empty();
      event_at(next_++, event_);
      if (event_.kind == kind && (kind == TONEARM_EVENT_START || playing_)) return TONEARM_OK;
      if (const tonearm_status status = perform(event_); status != TONEARM_OK) return status;
    }
  }

  tonearm_status ask(tonearm_request_kind kind, uint32_t candidates, size_t first) {
    tonearm_request question = {};
    question.struct_size = sizeof question;
    question.kind = kind;
    question.candidate_count = candidates;
    if (candidates > 0)
      question.candidates = reinterpret_cast<const tonearm_track*>(
          reinterpret_cast<const uint8_t*>(request_.tracks) + first * request_.tracks->struct_size);
    if constexpr (with_sessions)
      return tonearm_predict(&model_, session_, &question, scratch_, plan_.scratch_bytes, out_);
    return TONEARM_OK;
  }

  // ---- one part

  /// Leaves the session, and for parts of calls the scratch, as `run` is to find them.
  tonearm_status prepare(const Part& part) {
    if (part.kind == 0) return TONEARM_OK;
    if (part.kind == TONEARM_PROFILE_OPERATOR) look_up(part.index);
    if (!plan_.has_session()) {
      row_ = rows_ + turn_++ % row_count_ * plan_.columns;
      return part.kind == TONEARM_PROFILE_EVALUATE ? TONEARM_OK : evaluate();
    }
    if (part.kind == TONEARM_PROFILE_START) return go_to(TONEARM_EVENT_START);
    if (part.phase == TONEARM_PHASE_HISTORY) {
      tonearm_status status = go_to(TONEARM_EVENT_END);
      if (status != TONEARM_OK || part.kind == TONEARM_PROFILE_END) return status;
      memcpy(before_, session_memory_, plan_.session_bytes);
      return perform(event_);
    }
    tonearm_status status = go_to(TONEARM_EVENT_START);
    if (status == TONEARM_OK) status = perform(event_);
    if (part.kind == TONEARM_PROFILE_QUEUE) first_ = turn_++ * 7 % (queue_tracks() - request_.queue + 1);
    const bool call = part.kind < TONEARM_PROFILE_FEATURES;
    return status == TONEARM_OK && !call ? ask(TONEARM_PLAYING, 0, 0) : status;
  }

  /// Finds where an operator's part of the scratch is, and of the session.
  void look_up(uint32_t index) {
    shared_ = scratch_ + static_cast<size_t>(plan_.slots) * sizeof(float);
    size_t elements = plan_.session_bytes / 4 - plan_.recurrent_elements;
    if constexpr (with_sessions)
      for (uint32_t i = 0; plan_.has_session() && i < index; ++i) {
        const OperatorView op = operator_at(model_, i);
        shared_ += shared_bytes(op);
        if constexpr (with_recurrent)
          if (is_over_session(op))
            elements += static_cast<size_t>(state_elements(recurrent_size(op.recurrent), op.recurrent.format,
                                                           op.recurrent.steps, op.recurrent.width));
      }
    state_ = elements * 4;
    op_ = operator_at(model_, index);
  }

  tonearm_status evaluate() {
    return tonearm_evaluate(&model_, row_, plan_.columns, scratch_, plan_.scratch_bytes, out_);
  }

  void run(const Part& part) {
    switch (part.kind) {
      case TONEARM_PROFILE_EVALUATE:
        status_ = evaluate();
        break;
      case TONEARM_PROFILE_START:
      case TONEARM_PROFILE_END:
        status_ = perform(event_);
        break;
      case TONEARM_PROFILE_CONTEXT:
        status_ = ask(TONEARM_QUEUE, 0, 0);
        break;
      case TONEARM_PROFILE_PLAYING:
        status_ = ask(TONEARM_PLAYING, 0, 0);
        break;
      case TONEARM_PROFILE_QUEUE:
        status_ = ask(TONEARM_QUEUE, request_.queue, first_);
        break;
      case TONEARM_PROFILE_FEATURES:
        run_features(part.phase);
        break;
      case TONEARM_PROFILE_OPERATOR:
        run_part_of_operator(part);
        break;
      default:
        break;
    }
  }

  void run_features(uint32_t phase) {
    float* slots = reinterpret_cast<float*>(scratch_);
    if (phase == TONEARM_PHASE_NONE) apply_policy(model_, plan_, 0, plan_.columns, row_, slots);
    const Range range = features_of(plan_, phase);
    for (uint32_t i = range.first; i < range.last; ++i)
      if (const FeatureView feature = feature_at(model_, i); is_encoder(feature)) run_feature(feature, slots);
  }

  void run_part_of_operator(const Part& part) {
    float* slots = reinterpret_cast<float*>(scratch_);
    // A call looks its operators up once; those of candidates are not looked up for each.
    if (part.phase != TONEARM_PHASE_CANDIDATE) op_ = operator_at(model_, part.index);
    if constexpr (with_sessions && with_recurrent)
      if (is_over_session(op_)) {
        // What works in the history phase begins where the slots end.
        if (part.phase == TONEARM_PHASE_HISTORY)
          take_step(op_.recurrent, slots + op_.input, reinterpret_cast<uint32_t*>(before_ + state_),
                    scratch_ + static_cast<size_t>(plan_.slots) * sizeof(float));
        else
          read_outputs(op_.recurrent, op_.output_count,
                       reinterpret_cast<const uint32_t*>(session_memory_ + state_), slots + op_.output,
                       shared_);
        return;
      }
    if constexpr (with_sessions) {
      if (part.phase == TONEARM_PHASE_CONTEXT && part.index >= plan_.first_candidate_operator)
        return share_operator(op_, slots, shared_);
      if (part.phase == TONEARM_PHASE_CANDIDATE) return run_shared_operator(op_, slots, shared_);
    }
    run_operator(op_, slots, shared_);
  }

  const tonearm_model& model_;
  const Plan plan_;
  const tonearm_profile_request& request_;
  uint8_t* session_memory_;
  uint8_t* before_;  // the session before a track has ended
  uint8_t* scratch_;
  float* out_;
  tonearm_status status_ = TONEARM_OK;

  const float* rows_ = nullptr;
  size_t row_count_ = 0;
  const float* row_ = nullptr;
  size_t turn_ = 0;

  tonearm_session* session_ = nullptr;
  bool playing_ = false;
  size_t next_ = 0;  // event
  EventParts event_ = {};
  size_t starts_ = 0, ends_ = 0;
  size_t first_ = 0;  // track of a queue

  OperatorView op_;
  uint8_t* shared_ = nullptr;
  size_t state_ = 0;  // bytes into a session
};

constexpr uint32_t most_candidates = 1000;

tonearm_status check(const tonearm_model* model, const tonearm_profile_request* request, const void* memory,
                     size_t memory_size, const tonearm_profile_result* result) {
  if (model == nullptr || request == nullptr || memory == nullptr || result == nullptr)
    return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  if (request->struct_size < sizeof *request || result->struct_size < sizeof *result)
    return TONEARM_BAD_STRUCT_SIZE;
  if (request->now == nullptr || request->samples == nullptr || result->parts == nullptr)
    return TONEARM_NULL_ARGUMENT;
  if (result->part_count < tonearm_profile_part_count(model)) return TONEARM_OUT_OF_RANGE;
  const size_t stride = result->parts->struct_size;
  if (stride < sizeof *result->parts || stride % alignof(tonearm_profile_part) != 0)
    return TONEARM_BAD_STRUCT_SIZE;
  const uint32_t most_runs =
      request->warm_runs > request->cold_runs ? request->warm_runs : request->cold_runs;
  if (request->warm_runs == 0 || request->sample_count < most_runs || request->queue > most_candidates)
    return TONEARM_OUT_OF_RANGE;
  if (reinterpret_cast<uintptr_t>(memory) % alignof(float) != 0) return TONEARM_MISALIGNED;
  if (memory_size < tonearm_profile_size(model, request->queue)) return TONEARM_SCRATCH_TOO_SMALL;
  if (plan_of(*model).has_session()) {
    if (request->events == nullptr) return TONEARM_NULL_ARGUMENT;
    if (request->tracks != nullptr && request->queue > request->track_count) return TONEARM_OUT_OF_RANGE;
  } else if (request->rows != nullptr && request->row_count == 0) {
    return TONEARM_OUT_OF_RANGE;
  }
  return TONEARM_OK;
}

}  // namespace
}  // namespace tonearm::runtime

extern "C" {

using namespace tonearm::runtime;

uint32_t tonearm_profile_part_count(const tonearm_model* model) noexcept {
  if (model == nullptr || !is_open(*model)) return 0;
  uint32_t count = 0;
  for_each_part(*model, plan_of(*model), [&](const Part&) {
    ++count;
    return true;
  });
  return count;
}

size_t tonearm_profile_size(const tonearm_model* model, uint32_t queue) noexcept {
  if (model == nullptr || !is_open(*model)) return 0;
  const Plan& plan = plan_of(*model);
  return TONEARM_PROFILE_BYTES(size_t{plan.session_bytes}, size_t{plan.scratch_bytes},
                               size_t{plan.output_count}, size_t{queue});
}

tonearm_status tonearm_profile(const tonearm_model* model, const tonearm_profile_request* request,
                               void* memory, size_t memory_size, tonearm_profile_result* result) noexcept {
  tonearm_status status = check(model, request, memory, memory_size, result);
  if (status != TONEARM_OK) return status;
  Profiler profiler(*model, *request, memory);
  const Plan& plan = profiler.plan();
  result->part_count = 0;
  if (plan.has_session()) {
    if ((status = profiler.survey()) != TONEARM_OK) return status;
  } else if (!profiler.has_rows()) {
    return TONEARM_NO_GOLDEN;
  }
  profiler.measure_clock(result->clock_cost, result->clock_step);

  const size_t stride = result->parts->struct_size;
  for_each_part(*model, plan, [&](const Part& part) {
    tonearm_profile_part found = {};
    found.struct_size = static_cast<uint32_t>(stride);
    found.kind = part.kind;
    found.phase = part.phase;
    found.index = part.index;
    found.name = name_of(*model, part);
    found.touched_bytes = touched_bytes(*model, plan, part, request->samples, request->sample_count);
    const auto measure = [&](bool cold, tonearm_profile_times& times) {
      uint32_t count;
      status = profiler.measure(part, cold ? request->cold_runs : request->warm_runs, cold,
                                result->clock_cost, count);
      if (status != TONEARM_OK) return;
      times = summary_of(request->samples, count);
      if (request->measured != nullptr && count > 0)
        request->measured(request->context, &found, cold ? 1 : 0, request->samples, count);
    };
    measure(false, found.warm);
    if (status == TONEARM_OK && request->evict != nullptr) measure(true, found.cold);
    if (status != TONEARM_OK) return false;
    memcpy(reinterpret_cast<uint8_t*>(result->parts) + result->part_count * stride, &found, sizeof found);
    ++result->part_count;
    return true;
  });
  if (status != TONEARM_OK) result->part_count = 0;
  return status;
}

}  // extern "C"
