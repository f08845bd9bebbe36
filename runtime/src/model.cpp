// Opens blobs and answers questions about them. The one source file that includes FlatBuffers.

#include <stddef.h>
#include <tonearm/tonearm.h>

#include <type_traits>

#include "columns.h"
#include "cpu.h"
#include "crc32.h"
#include "numbers.h"
#include "program.h"
#include "recurrent.h"
#include "structure.h"

// The verifier and the checks below leave nothing to assert, and assert() would pull in stdio.
#define FLATBUFFERS_ASSERT(condition) ((void)(condition))
#include <tonearm_schema/model_generated.h>

namespace tonearm::runtime {
namespace {

namespace fb = tonearm::schema;
template <typename T>
using Vector = flatbuffers::Vector<T>;

constexpr uint32_t no_index = UINT32_MAX;
#ifdef TONEARM_SMALL
/// Small builds leave the texts of diagnostics out: the line says which check it was.
struct Text {
  constexpr Text(const char*) {}
  constexpr operator const char*() const { return ""; }
};
#else
using Text = const char*;
#endif
constexpr uint32_t max_slots = 65535;
constexpr uint32_t max_symmetric_depth = 16;
constexpr uint64_t max_session_elements = 1u << 18;
constexpr uint64_t max_scratch_bytes = 1u << 28;

template <typename T>
uint32_t size_of(const Vector<T>* vector) {
  return vector == nullptr ? 0 : vector->size();
}

/// So that the public struct needs no types of ours.
void store_plan(tonearm_model& model, const Plan& plan) { memcpy(model.private_state, &plan, sizeof plan); }

const fb::Model& root_of(const tonearm_model& model) {
  return *static_cast<const fb::Model*>(model.private_root);
}

template <typename T>
const T* data_of(const Vector<T>* vector) {
  return vector == nullptr ? nullptr : vector->data();
}

RecurrentLayerView layer_view(const fb::RecurrentLayer& layer) {
  RecurrentLayerView view;
  view.level = layer.level();
  view.backward = layer.backward();
  view.cell = static_cast<CellKind>(layer.cell());
  view.units = layer.units();
  view.input_weights = layer.input_weights()->Data();
  view.recurrent_weights = layer.recurrent_weights()->Data();
  view.bias = data_of(layer.bias());
  view.recurrent_bias = data_of(layer.recurrent_bias());
  view.bias_codes = data_of(layer.bias_codes());
  view.recurrent_bias_codes = data_of(layer.recurrent_bias_codes());
  view.input_multipliers = data_of(layer.input_multipliers());
  view.recurrent_multipliers = data_of(layer.recurrent_multipliers());
  view.input_shift = layer.input_shift();
  view.recurrent_shift = layer.recurrent_shift();
  return view;
}

/// What the tables of all kinds of trees have, from their inputs to how many belong to the context.
struct Ensemble {
  const fb::TreeInputs& inputs;
  fb::LeafFormat leaf_format;
  const Vector<uint8_t>& leaves;
  const Vector<float>* palette;
  float scale;
  const Vector<float>& base;
  uint32_t context_trees;
};

/// They are the last fields of each table, in the same order; `first` is the place of the leaf format.
Ensemble ensemble_at(const void* trees, flatbuffers::voffset_t first) {
  const auto& table = *static_cast<const flatbuffers::Table*>(trees);
  return {*table.GetPointer<const fb::TreeInputs*>(4),
          static_cast<fb::LeafFormat>(table.GetField<uint8_t>(first, 0)),
          *table.GetPointer<const Vector<uint8_t>*>(first + 2u),
          table.GetPointer<const Vector<float>*>(first + 4u),
          table.GetField<float>(first + 6u, 1.0f),
          *table.GetPointer<const Vector<float>*>(first + 8u),
          table.GetField<uint32_t>(first + 10u, 0)};
}
template <typename Trees>
Ensemble ensemble_of(const Trees& trees) {
  constexpr flatbuffers::voffset_t first = Trees::VT_LEAF_FORMAT;
  static_assert(Trees::VT_INPUTS == 4 && Trees::VT_LEAVES == first + 2 && Trees::VT_PALETTE == first + 4 &&
                Trees::VT_SCALE == first + 6 && Trees::VT_BASE == first + 8 &&
                Trees::VT_CONTEXT_TREES == first + 10);
  return ensemble_at(&trees, first);
}

/// Checks the meaning of a blob whose structure has been verified. The first rule that does not hold is
/// recorded, and everything after it is skipped.
class Checker {
 public:
  Checker(const uint8_t* blob, tonearm_diagnostic& diagnostic) : blob_(blob), diagnostic_(diagnostic) {}

  bool model(const fb::Model& model, Plan& plan) {
    const uint32_t columns = model.columns()->size();
    frontier_ = columns;
    columns_ = columns;
    unread_weights_ = model.file_bytes();
    for (uint32_t& end : end_) end = columns;
    session_ = model.session() != nullptr;
    leaky_ = model.card()->leaky();
    plan.leaky = leaky_ ? 1 : 0;
    plan.columns = columns;
    plan.features = model.features()->size();
    plan.operators = model.operators()->size();
    if (!limit("columns", "at least one, and at most 65535 slots in all", columns - 1, max_slots) ||
        !equal("missing_fill", "one value per column", model.missing_fill()->size(), columns))
      return false;
    for (index_ = 0; index_ < columns; ++index_)
      if (!column(*model.columns()->Get(index_), model.missing_fill()->Get(index_), plan)) return false;
    index_ = no_index;
    if (!session_) {
      if (!equal("fields", "none in a model without session", size_of(model.fields()), 0)) return false;
    } else if constexpr (with_sessions) {
      if (!session(model, plan)) return false;
    } else {
      return fail(TONEARM_LEFT_OUT, "session", "none, in a build without sessions", no_index, 1, 0);
    }
    for (index_ = 0; index_ < plan.features; ++index_)
      if (!feature(*model.features()->Get(index_))) return false;
    for (index_ = 0; index_ < plan.operators; ++index_)
      if (!op(*model.operators()->Get(index_))) return false;
    index_ = no_index;
    plan.output = model.output_offset();
    plan.output_count = model.output_length();
    plan.slots = frontier_;
    if (session_) {
      plan.first_context_feature = first_feature_[1];
      plan.first_candidate_feature = first_feature_[2];
      plan.first_candidate_operator = first_operator_[2];
      const uint64_t elements = state_elements_ + recurrent_elements_;
      if (!limit("features", "a session of at most 1 MB", elements, max_session_elements)) return false;
      plan.session_bytes = static_cast<uint32_t>((session_header_bytes + (uint64_t{columns} + elements) * 4));
      plan.recurrent_elements = static_cast<uint32_t>(recurrent_elements_);
      const uint64_t scratch = uint64_t{frontier_} * 4 + work_bytes_ + plan.session_bytes;
      if (!limit("operators", "a scratch below 256 MB", scratch, max_scratch_bytes)) return false;
      plan.scratch_bytes = static_cast<uint32_t>(scratch);
    } else {
      const uint64_t scratch = uint64_t{frontier_} * 4 + (most_work_ + 3) / 4 * 4;
      if (!limit("operators", "a scratch below 256 MB", scratch, max_scratch_bytes)) return false;
      plan.scratch_bytes = static_cast<uint32_t>(scratch);
    }
    const fb::MemoryPlan& memory = *model.memory();
    return limit("output", "at least one slot", plan.output_count - 1u, max_slots) &&
           at_most("output", "ends within the slots", plan.output + plan.output_count, frontier_) &&
           equal("memory.slots", "as many as the program uses", memory.slots(), frontier_) &&
           equal("memory.scratch_bytes", "as many as the program uses", memory.scratch_bytes(),
                 plan.scratch_bytes) &&
           equal("memory.session_bytes", "as many as the program uses", memory.session_bytes(),
                 plan.session_bytes) &&
           (!session_ || readable("output", plan.output, plan.output_count, PhaseKind::candidate)) &&
           golden(model.golden(), plan);
  }

 private:
  /// What slots hold, in their order, after the columns.
  enum SlotKind : uint32_t {
    history_features,
    context_features,
    candidate_features,
    context_operators,
    candidate_operators,
    slot_kinds
  };

  bool fail(tonearm_status status, Text part, Text rule, uint32_t element, uint64_t found, uint64_t compared,
            uint32_t line = __builtin_LINE()) {
    diagnostic_.status = status;
    diagnostic_.part = part;
    diagnostic_.rule = rule;
    diagnostic_.index = index_;
    diagnostic_.element = element;
    diagnostic_.found = found;
    diagnostic_.limit = compared;
    diagnostic_.line = line;
    return false;
  }
  bool fail_short(Text part, Text rule, uint32_t found, uint32_t compared, uint32_t line) {
    return fail(TONEARM_INVALID, part, rule, no_index, found, compared, line);
  }

  // Most numbers are short, and calls are what this class is made of.
  bool is_equal(Text part, Text rule, uint32_t found, uint32_t expected, uint32_t line) {
    return found == expected || fail_short(part, rule, found, expected, line);
  }
  bool is_equal(Text part, Text rule, uint64_t found, uint64_t expected, uint32_t line) {
    return found == expected || fail(TONEARM_INVALID, part, rule, no_index, found, expected, line);
  }
  bool is_at_most(Text part, Text rule, uint32_t found, uint32_t bound, uint32_t line) {
    return found <= bound || fail_short(part, rule, found, bound, line);
  }
  bool is_at_most(Text part, Text rule, uint64_t found, uint64_t bound, uint32_t line) {
    return found <= bound || fail(TONEARM_INVALID, part, rule, no_index, found, bound, line);
  }
  bool is_below(Text part, Text rule, uint32_t found, uint32_t bound, uint32_t line) {
    return found < bound || fail_short(part, rule, found, bound, line);
  }
  bool is_below(Text part, Text rule, uint64_t found, uint64_t bound, uint32_t line) {
    return found < bound || fail(TONEARM_INVALID, part, rule, no_index, found, bound, line);
  }
  template <typename A, typename B>
  using Number = std::conditional_t<sizeof(A) <= 4 && sizeof(B) <= 4, uint32_t, uint64_t>;

  template <typename A, typename B>
  bool equal(Text part, Text rule, A found, B expected, uint32_t line = __builtin_LINE()) {
    using N = Number<A, B>;
    return is_equal(part, rule, static_cast<N>(found), static_cast<N>(expected), line);
  }
  template <typename A, typename B>
  bool limit(Text part, Text rule, A found, B bound, uint32_t line = __builtin_LINE()) {
    using N = Number<A, B>;
    return is_below(part, rule, static_cast<N>(found), static_cast<N>(bound), line);
  }
  template <typename A, typename B>
  bool at_most(Text part, Text rule, A found, B bound, uint32_t line = __builtin_LINE()) {
    using N = Number<A, B>;
    return is_at_most(part, rule, static_cast<N>(found), static_cast<N>(bound), line);
  }

  template <typename T>
  bool aligned(Text part, const Vector<T>* vector, uint32_t line = __builtin_LINE()) {
    return is_aligned(part, size_of(vector) == 0 ? blob_ : vector->Data(), line);
  }
  bool is_aligned(Text part, const uint8_t* bytes, uint32_t line) {
    return is_equal(part, "starts at a multiple of 16 in the file", static_cast<uint32_t>(bytes - blob_) % 16,
                    0u, line);
  }

  bool finite(Text part, const Vector<float>* vector, uint32_t line = __builtin_LINE()) {
    for (uint32_t i = 0; i < size_of(vector); ++i)
      if (!is_finite(vector->Get(i)))
        return fail(TONEARM_INVALID, part, "every value is finite", i, float_bits(vector->Get(i)), 0x7f800000,
                    line);
    return true;
  }
  bool finite_number(Text part, float value, uint32_t line = __builtin_LINE()) {
    return is_finite(value) || fail_short(part, "finite", float_bits(value), 0x7f800000, line);
  }
  bool finite_or_nan(Text part, float value, uint32_t line = __builtin_LINE()) {
    return is_nan(value) || is_finite(value) ||
           fail_short(part, "finite or NaN", float_bits(value), 0x7f800000, line);
  }

  /// Of finite values; compared as integers, so that flushed denormals do not change the answer.
  bool ascending(Text part, const Vector<float>* vector, uint32_t line = __builtin_LINE()) {
    for (uint32_t i = 1; i < size_of(vector); ++i)
      if (ordered(float_bits(vector->Get(i - 1))) >= ordered(float_bits(vector->Get(i))))
        return fail(TONEARM_INVALID, part, "values ascend", i, float_bits(vector->Get(i)),
                    float_bits(vector->Get(i - 1)), line);
    return true;
  }

  bool column(const fb::Column& column, float fill, Plan& plan) {
    const uint32_t categories = size_of(column.vocabulary());
    const bool category = column.type() == fb::ColumnType::Category;
    if (category) plan.category_end = index_ + 1;
    return known("column.source", static_cast<uint32_t>(column.source()),
                 static_cast<uint32_t>(fb::Source::MAX)) &&
           known("column.type", static_cast<uint32_t>(column.type()),
                 static_cast<uint32_t>(fb::ColumnType::MAX)) &&
           (category ? limit("column.vocabulary", "at least one category, at most 65535", categories - 1u,
                             max_slots)
                     : equal("column.vocabulary", "none for a number", categories, 0)) &&
           finite_or_nan("missing_fill", fill);
  }

  /// The columns of a session model, in the order of their sources, and what of the API's structs they read.
  TONEARM_OWN_FRAME bool session(const fb::Model& model, Plan& plan) {
    const uint32_t columns = plan.columns;
    if (!equal("fields", "one per column", size_of(model.fields()), columns)) return false;
    uint32_t previous = static_cast<uint32_t>(fb::Source::Track);
    for (index_ = 0; index_ < columns; ++index_) {
      const fb::Column& column = *model.columns()->Get(index_);
      const auto source = static_cast<uint32_t>(column.source());
      const auto field = static_cast<uint32_t>(model.fields()->Get(index_));
      const bool category = column.type() == fb::ColumnType::Category;
      if (source < previous)
        return fail(TONEARM_INVALID, "column.source", "Track, Now, Start, End, in this order", no_index,
                    source, previous);
      previous = source;
      if (!known("fields", field, static_cast<uint32_t>(fb::Field::MAX)) ||
          (field != 0 &&
           !(equal("fields", "a field of the column's source", source_of_field(field), source) &&
             equal("fields", "a category where the field is one", category, is_category_field(field)))))
        return false;
    }
    index_ = no_index;
    const auto first_of = [&](fb::Source source) {
      uint32_t first = 0;
      while (first < columns && model.columns()->Get(first)->source() < source) ++first;
      return first;
    };
    plan.first_now = first_of(fb::Source::Now);
    plan.first_start = first_of(fb::Source::Start);
    plan.first_end = first_of(fb::Source::End);
    first_now_ = plan.first_now;
    first_end_ = plan.first_end;
    if (model.label() == nullptr)
      return fail(TONEARM_INVALID, "label", "is present in a session model", no_index, 0, 1);
    const uint32_t level = model.label()->level();
    return limit("label.level", "from 2 to 5", level - 2u, 4) &&
           finite_number("label.below_share", model.label()->below_share());
  }

  /// Whether the slots [offset, offset + length) hold something in a part of a session's program. Slots of
  /// one kind lie together, because features and operators come in the order of their phases.
  bool readable(Text part, uint32_t offset, uint32_t length, PhaseKind phase) {
    if (!at_most(part, "inputs are slots that have been written before", offset + length, frontier_))
      return false;
    const auto overlaps = [&](uint32_t first, uint32_t last) {
      return first < last && offset < last && offset + length > first;
    };
    const bool reads_history = overlaps(columns_, end_[history_features]);
    const bool reads_context = overlaps(end_[history_features], end_[context_features]) ||
                               overlaps(end_[candidate_features], end_[context_operators]);
    const bool reads_candidate = overlaps(end_[context_features], end_[candidate_features]) ||
                                 overlaps(end_[context_operators], frontier_);
    const bool reads_track = overlaps(0, first_now_), reads_end = overlaps(first_end_, columns_);
    const bool known = phase == PhaseKind::history ? !reads_context && !reads_candidate
                       : phase == PhaseKind::context
                           ? !reads_history && !reads_candidate && !reads_track && !reads_end
                           : !reads_history && (!reads_end || leaky_);
    return known || fail(TONEARM_INVALID, part, "inputs are known in the phase", no_index, offset,
                         static_cast<uint32_t>(phase));
  }

  /// In a session model: features and operators come in the order of their phases, first[p] is the first of
  /// phase p or later, and what they write belongs to `kind`.
  bool in_phase(Text part, uint32_t phase, uint32_t (&first)[3]) {
    for (uint32_t later = phase + 1; later < 3; ++later) {
      if (first[later] != index_)
        return fail(TONEARM_INVALID, part, "phases come in their order", no_index, phase, later);
      first[later] = index_ + 1;
    }
    return true;
  }
  void written(SlotKind kind) {
    for (uint32_t later = kind; later < slot_kinds; ++later) end_[later] = frontier_;
  }

  /// An enumerator that this library does not know was added after it was built.
  bool known(Text part, uint32_t found, uint32_t newest, uint32_t line = __builtin_LINE()) {
    return found <= newest ||
           fail(TONEARM_RUNTIME_TOO_OLD, part, "a kind this library knows", no_index, found, newest, line);
  }

  /// The slots of an output follow on those before; see the schema.
  bool output(Text part, uint32_t offset, uint32_t length) {
    if (!equal(part, "the output begins at the first free slot", offset, frontier_) ||
        !limit(part, "the output has at least one slot", length - 1u, max_slots) ||
        !at_most(part, "at most 65535 slots in all", offset + length, max_slots))
      return false;
    frontier_ += length;
    return true;
  }

  TONEARM_OWN_FRAME bool feature(const fb::Feature& feature) {
    const Vector<uint16_t>& inputs = *feature.inputs();
    const uint32_t in = inputs.size(), out = feature.output_length();
    if (!known("feature.phase", static_cast<uint32_t>(feature.phase()),
               static_cast<uint32_t>(fb::Phase::MAX)) ||
        !known("feature.encoder", static_cast<uint32_t>(feature.encoder_type()),
               static_cast<uint32_t>(fb::Encoder::MAX)))
      return false;
    // So that no product with the outputs overflows.
    if (!at_most("feature.inputs", "at most 65535", in, max_slots)) return false;
    const auto phase = static_cast<PhaseKind>(feature.phase());
    const bool aggregate =
        feature.encoder_type() >= fb::Encoder::Lag && feature.encoder_type() <= fb::Encoder::Repeats;
    for (uint32_t j = 0; j < in; ++j) {
      if (inputs.Get(j) >= frontier_)
        return fail(TONEARM_INVALID, "feature.inputs", "a slot that has been written before", j,
                    inputs.Get(j), frontier_);
      if (session_ && !readable("feature.inputs", inputs.Get(j), 1, aggregate ? PhaseKind::history : phase))
        return false;
    }
    if (!output("feature", feature.output_offset(), out)) return false;
    if (session_) {
      if (!in_phase("feature.phase", static_cast<uint32_t>(phase), first_feature_)) return false;
      written(static_cast<SlotKind>(phase));
    }
    switch (feature.encoder_type()) {
      case fb::Encoder::Identity:
        return equal("feature.inputs", "one input per output", in, out);
      case fb::Encoder::Scale: {
        const fb::Scale& scale = *feature.encoder_as_Scale();
        return equal("feature.inputs", "one input per output", in, out) &&
               equal("scale.center", "one per output", scale.center()->size(), out) &&
               equal("scale.factor", "one per output", scale.factor()->size(), out) &&
               finite("scale.center", scale.center()) && finite("scale.factor", scale.factor());
      }
      case fb::Encoder::OneHot: {
        const uint32_t extra = feature.encoder_as_OneHot()->unknown_slot() ? 1 : 0;
        return equal("feature.inputs", "one input", in, 1) &&
               limit("feature", "a slot for at least one category", extra, out);
      }
      case fb::Encoder::Ordinal: {
        const fb::Ordinal& ordinal = *feature.encoder_as_Ordinal();
        return equal("feature.inputs", "one input", in, 1) && equal("feature", "one output", out, 1) &&
               limit("ordinal.values", "at least one, at most 65535", ordinal.values()->size() - 1u,
                     max_slots) &&
               finite("ordinal.values", ordinal.values()) &&
               finite_or_nan("ordinal.unknown", ordinal.unknown());
      }
      case fb::Encoder::Bucket: {
        const fb::Bucket& bucket = *feature.encoder_as_Bucket();
        return equal("feature.inputs", "one input per output", in, out) &&
               limit("bucket.edges", "at least one, at most 65535", bucket.edges()->size() - 1u, max_slots) &&
               finite("bucket.edges", bucket.edges()) && ascending("bucket.edges", bucket.edges());
      }
      case fb::Encoder::Projection: {
        const fb::Projection& projection = *feature.encoder_as_Projection();
        return limit("feature.inputs", "at least one input", in - 1u, max_slots) &&
               equal("projection.mean", "one per input", projection.mean()->size(), in) &&
               equal("projection.components", "inputs * outputs", projection.components()->size(),
                     in * out) &&
               aligned("projection.mean", projection.mean()) &&
               aligned("projection.components", projection.components()) &&
               finite("projection.mean", projection.mean()) &&
               finite("projection.components", projection.components());
      }
      case fb::Encoder::Difference:
        return equal("feature.inputs", "two inputs per output", in, out * 2);
      case fb::Encoder::Distance:
        return equal("feature", "one output", out, 1) &&
               limit("feature.inputs", "at least two", in - 2u, max_slots) &&
               equal("feature.inputs", "as many of one side as of the other", in % 2, 0);
      case fb::Encoder::Normalize:
        return limit("feature.inputs", "at least one input", in - 1u, max_slots) &&
               equal("feature.inputs", "one input per output", in, out) &&
               known("normalize.norm", static_cast<uint32_t>(feature.encoder_as_Normalize()->norm()),
                     static_cast<uint32_t>(fb::Norm::MAX));
      case fb::Encoder::NONE:
        return fail(TONEARM_INVALID, "feature.encoder", "is present", no_index, 0, 1);
      default:
        break;
    }
    if (!session_)
      return fail(TONEARM_INVALID, "feature.encoder", "one that needs no session", no_index, 1, 0);
    if constexpr (with_sessions) return session_feature(feature, phase);
    return fail(TONEARM_LEFT_OUT, "feature.encoder", "none that needs a session", no_index, 1, 0);
  }

  TONEARM_OWN_FRAME bool session_feature(const fb::Feature& feature, PhaseKind phase) {
    const uint32_t in = feature.inputs()->size(), out = feature.output_length();
    switch (feature.encoder_type()) {
      case fb::Encoder::Fact: {
        const auto fact = static_cast<uint32_t>(feature.encoder_as_Fact()->fact());
        const bool of_candidate = fact <= static_cast<uint32_t>(fb::SessionFact::Position);
        return equal("feature.inputs", "none", in, 0) && equal("feature", "one output", out, 1) &&
               known("fact.fact", fact, static_cast<uint32_t>(fb::SessionFact::MAX)) &&
               (of_candidate
                    ? equal("feature.phase", "candidate", static_cast<uint32_t>(phase), 2)
                    : limit("feature.phase", "context or candidate", static_cast<uint32_t>(phase) - 1u, 2));
      }
      case fb::Encoder::Lag: {
        const fb::Lag& lag = *feature.encoder_as_Lag();
        return aggregate_state(phase, in * lag.count()) &&
               limit("lag.count", "at least one", lag.count() - 1u, max_slots) &&
               equal("feature", "inputs * count outputs", out, in * lag.count()) &&
               finite_or_nan("lag.empty", lag.empty());
      }
      case fb::Encoder::Mean: {
        const fb::Mean& mean = *feature.encoder_as_Mean();
        return aggregate_state(phase, out * 2) &&
               equal("feature.inputs", "one per output, and the weight", in,
                     out + (mean.weighted() ? 1 : 0)) &&
               finite_number("mean.keep", mean.keep()) && finite_number("mean.prior", mean.prior()) &&
               finite_number("mean.prior_weight", mean.prior_weight());
      }
      case fb::Encoder::Window: {
        const uint32_t length = feature.encoder_as_Window()->length();
        return aggregate_state(phase, in * length) &&
               limit("window.length", "at least one", length - 1u, max_slots) &&
               equal("feature.inputs", "one input per output", in, out);
      }
      case fb::Encoder::Total:
        return aggregate_state(phase, out) && equal("feature.inputs", "one input per output", in, out);
      case fb::Encoder::Streak:
        return aggregate_state(phase, out * (feature.encoder_as_Streak()->same() ? 2 : 1)) &&
               equal("feature.inputs", "one input per output", in, out);
      case fb::Encoder::Repeats: {
        const fb::Repeats& repeats = *feature.encoder_as_Repeats();
        return aggregate_state(phase, repeats.length()) &&
               equal("feature.phase", "candidate", static_cast<uint32_t>(phase), 2) &&
               known("repeats.of", static_cast<uint32_t>(repeats.of()),
                     static_cast<uint32_t>(fb::Identifier::MAX)) &&
               limit("repeats.length", "at least one", repeats.length() - 1u, max_slots) &&
               equal("feature.inputs", "one input", in, 1) && equal("feature", "three outputs", out, 3);
      }
      default:
        return fail(TONEARM_INVALID, "feature.encoder", "is present", no_index, 0, 1);
    }
  }

  bool aggregate_state(PhaseKind phase, uint32_t elements) {
    state_elements_ += elements;
    return limit("feature.phase", "context or candidate", static_cast<uint32_t>(phase) - 1u, 2);
  }

  bool op(const fb::Operator& op) {
    const uint32_t in = op.input_length(), out = op.output_length();
    if (!known("operator.phase", static_cast<uint32_t>(op.phase()), static_cast<uint32_t>(fb::Phase::MAX)) ||
        !known("operator.kind", static_cast<uint32_t>(op.kind_type()),
               static_cast<uint32_t>(fb::OperatorKind::MAX)) ||
        (op.kind_type() == fb::OperatorKind::Recurrent &&
         !known("recurrent.sequence", static_cast<uint32_t>(op.kind_as_Recurrent()->sequence()),
                static_cast<uint32_t>(fb::Sequence::MAX))) ||
        !limit("operator", "at least one input", in - 1u, max_slots) ||
        !at_most("operator", "inputs are slots that have been written before", op.input_offset() + in,
                 frontier_) ||
        (session_ &&
         (!limit("operator.phase", "context or candidate", static_cast<uint32_t>(op.phase()) - 1u, 2) ||
          !readable("operator", op.input_offset(), in,
                    over_session(op) ? PhaseKind::history : static_cast<PhaseKind>(op.phase())))) ||
        !output("operator", op.output_offset(), out))
      return false;
    if (session_) {
      if (!in_phase("operator.phase", static_cast<uint32_t>(op.phase()), first_operator_)) return false;
      written(op.phase() == fb::Phase::Context ? context_operators : candidate_operators);
      input_ = op.input_offset();
    }
    if (!is_built(op.kind_type()))
      return fail(TONEARM_LEFT_OUT, "operator.kind", "one that this build of the library has", no_index,
                  static_cast<uint32_t>(op.kind_type()), 0);
    switch (op.kind_type()) {
      case fb::OperatorKind::Affine:
        if constexpr (with_affine) {
          const fb::Affine& affine = *op.kind_as_Affine();
          return known("affine.activation", static_cast<uint32_t>(affine.activation()),
                       static_cast<uint32_t>(fb::Activation::MAX)) &&
                 equal("affine.weights", "inputs * outputs", affine.weights()->size(), in * out) &&
                 own_bytes("affine.weights", uint64_t{4} * in * out) &&
                 equal("affine.bias", "one per output", affine.bias()->size(), out) &&
                 aligned("affine.weights", affine.weights()) && aligned("affine.bias", affine.bias()) &&
                 finite("affine.weights", affine.weights()) && finite("affine.bias", affine.bias());
        }
        break;
      case fb::OperatorKind::BranchingTrees:
        if constexpr (with_trees) return branching(*op.kind_as_BranchingTrees(), in, out);
        break;
      case fb::OperatorKind::SymmetricTrees:
        if constexpr (with_trees) return symmetric(*op.kind_as_SymmetricTrees(), in, out);
        break;
      case fb::OperatorKind::Calibrate: {
        const fb::Calibrate& calibrate = *op.kind_as_Calibrate();
        const uint32_t points = size_of(calibrate.x());
        if (!equal("calibrate", "one output per input", out, in) ||
            !known("calibrate.method", static_cast<uint32_t>(calibrate.method()),
                   static_cast<uint32_t>(fb::CalibrationMethod::MAX)))
          return false;
        if (calibrate.method() == fb::CalibrationMethod::Sigmoid)
          return is_finite(calibrate.slope()) && is_finite(calibrate.intercept())
                     ? true
                     : fail(TONEARM_INVALID, "calibrate.slope", "slope and intercept are finite", no_index,
                            float_bits(calibrate.slope()), 0x7f800000);
        return limit("calibrate.x", "at least one point, at most 65535", points - 1u, max_slots) &&
               equal("calibrate.y", "one per point", size_of(calibrate.y()), points) &&
               finite("calibrate.x", calibrate.x()) && finite("calibrate.y", calibrate.y()) &&
               ascending("calibrate.x", calibrate.x()) && spaced(calibrate);
      }
      case fb::OperatorKind::BlockTrees:
        if constexpr (with_trees) return blocks(*op.kind_as_BlockTrees(), in, out);
        break;
      case fb::OperatorKind::QuantizedAffine:
        if constexpr (with_affine) return quantized_affine(*op.kind_as_QuantizedAffine(), in, out);
        break;
      case fb::OperatorKind::Recurrent:
        if constexpr (with_recurrent) return recurrent(*op.kind_as_Recurrent(), op);
        break;
      case fb::OperatorKind::NONE:
        break;
    }
    return fail(TONEARM_INVALID, "operator.kind", "is present", no_index, 0, 1);
  }

  static bool is_built(fb::OperatorKind kind) {
    switch (kind) {
      case fb::OperatorKind::BranchingTrees:
      case fb::OperatorKind::SymmetricTrees:
      case fb::OperatorKind::BlockTrees:
        return with_trees;
      case fb::OperatorKind::Affine:
      case fb::OperatorKind::QuantizedAffine:
        return with_affine;
      case fb::OperatorKind::Recurrent:
        return with_recurrent;
      default:
        return true;
    }
  }

  static bool over_session(const fb::Operator& op) {
    return op.kind_type() == fb::OperatorKind::Recurrent &&
           op.kind_as_Recurrent()->sequence() == fb::Sequence::Session;
  }

  /// Of an operator that needs so many bytes beside the slots.
  void needs_work(uint64_t bytes) {
    bytes = (bytes + 3) / 4 * 4;
    most_work_ = bytes > most_work_ ? bytes : most_work_;
    work_bytes_ += bytes;
  }

  /// The input codes' factors: normal numbers, so that nothing is flushed, and what is, would have code 0.
  bool factors(Text part, const Vector<float>* factors) {
    for (uint32_t j = 0; j < size_of(factors); ++j) {
      const uint32_t bits = float_bits(factors->Get(j));
      if (bits < 0x00800000u || bits > 0x7149f2cau)
        return fail(TONEARM_INVALID, part, "a positive normal number up to 1e30", j, bits, 0x7149f2ca);
    }
    return true;
  }

  /// No two matrices, and no two arrays of trees, share bytes: else a small file could ask for hours of
  /// checking and evaluation.
  bool own_bytes(Text part, uint64_t bytes) {
    if (!at_most(part, "no bytes of another array", bytes, unread_weights_)) return false;
    unread_weights_ -= bytes;
    return true;
  }

  /// The weights of a matrix: all there, finite, and 0 where columns are filled up.
  bool matrix(Text part, const Vector<uint8_t>& weights, WeightKind format, uint32_t gates, uint32_t panels,
              uint32_t columns) {
    return aligned(part, &weights) &&
           equal(part, "the bytes of all panels", weights.size(),
                 matrix_bytes(format, gates, panels, columns)) &&
           own_bytes(part, weights.size()) &&
           matrix_values(part, weights.Data(), weights.size(), format, gates, columns);
  }

  bool matrix_values(Text part, const uint8_t* weights, uint32_t bytes, WeightKind format, uint32_t gates,
                     uint32_t columns) {
    const uint32_t tile = gates * panel_units, fours = (columns + 3) / 4;
    if (format == WeightKind::int8) {
      for (uint32_t b = 0; b < bytes; ++b)
        if (weights[b] == 0) return fail(TONEARM_INVALID, part, "codes from -127 to 127, plus 128", b, 0, 1);
      const uint32_t four = 4 * tile, panel = four * fours;  // the last of each panel's fours
      for (uint32_t last = panel - four; columns % 4 != 0 && last < bytes; last += panel)
        for (uint32_t b = last; b < last + four; ++b)
          if (b % 4 >= columns % 4 && weights[b] != 128)
            return fail(TONEARM_INVALID, part, "128 behind the last column", b, weights[b], 128);
      return true;
    }
    const uint32_t width = format == WeightKind::float16 ? 2 : 4;
    for (uint32_t b = 0; b < bytes; b += width) {
      uint32_t bits = 0;
      memcpy(&bits, weights + b, width);
      const bool in_range =
          width == 2 ? (bits & 0x7c00) != 0x7c00 : (bits & 0x7fffffff) <= 0x49742400;  // the bits of 1e6
      if (!in_range)
        return fail(TONEARM_INVALID, part, "finite, and at most 1e6", b / width, bits, 0x49742400);
    }
    return true;
  }

  bool weight_format(Text part, fb::WeightFormat format) {
    return known(part, static_cast<uint32_t>(format), static_cast<uint32_t>(fb::WeightFormat::MAX));
  }

  TONEARM_OWN_FRAME bool quantized_affine(const fb::QuantizedAffine& affine, uint32_t in, uint32_t out) {
    if (!weight_format("quantized.format", affine.format()) ||
        !limit("quantized.format", "Float16 or Int8", static_cast<uint32_t>(affine.format()) - 1u, 2))
      return false;
    const auto format = static_cast<WeightKind>(affine.format());
    const bool codes = format == WeightKind::int8;
    needs_work(quantized_work_bytes(format, in, out));
    return known("quantized.activation", static_cast<uint32_t>(affine.activation()),
                 static_cast<uint32_t>(fb::Activation::MAX)) &&
           matrix("quantized.weights", *affine.weights(), format, 1, panels_of(out), in) &&
           equal("quantized.bias", "one per output", affine.bias()->size(), out) &&
           equal("quantized.input_factors", "one per input of codes", size_of(affine.input_factors()),
                 codes ? in : 0) &&
           equal("quantized.scales", "one per output of codes", size_of(affine.scales()), codes ? out : 0) &&
           aligned("quantized.bias", affine.bias()) &&
           aligned("quantized.input_factors", affine.input_factors()) &&
           aligned("quantized.scales", affine.scales()) && finite("quantized.bias", affine.bias()) &&
           finite("quantized.scales", affine.scales()) &&
           factors("quantized.input_factors", affine.input_factors());
  }

  TONEARM_OWN_FRAME bool recurrent(const fb::Recurrent& recurrent, const fb::Operator& op) {
    const uint32_t in = op.input_length(), steps = recurrent.steps(), layers = recurrent.layers()->size();
    const bool session = recurrent.sequence() == fb::Sequence::Session;
    if (!weight_format("recurrent.format", recurrent.format()) ||
        !limit("recurrent.layers", "from 1 to 16", layers - 1u, 16))
      return false;
    if (session) {
      if (!of_session_sequence(recurrent, op)) return false;
    } else if (!limit("recurrent.steps", "at least one", steps - 1u, max_slots) ||
               !equal("recurrent.padded", "only over a session", recurrent.padded(), false) ||
               !equal("operator", "as many inputs in each step", (in - (recurrent.lengths() ? 1 : 0)) % steps,
                      0)) {
      return false;
    }
    const auto format = static_cast<WeightKind>(recurrent.format());
    const uint32_t width = session ? in : (in - (recurrent.lengths() ? 1 : 0)) / steps;
    const bool codes = format == WeightKind::int8;
    if (!limit("operator", "a step has at least one input", width - 1u, max_slots) ||
        ((codes || size_of(recurrent.input_factors()) > 0) &&
         !equal("recurrent.input_factors", "one per input of a step", size_of(recurrent.input_factors()),
                width)) ||
        !aligned("recurrent.input_factors", recurrent.input_factors()) ||
        !factors("recurrent.input_factors", recurrent.input_factors()) ||
        !(is_finite(recurrent.padding()) || fail(TONEARM_INVALID, "recurrent.padding", "finite", no_index,
                                                 float_bits(recurrent.padding()), 0x7f800000)))
      return false;
    RecurrentSize size;
    uint32_t below = width;
    bool backward = false;
    for (uint32_t n = 0; n < layers; ++n) {
      const fb::RecurrentLayer& layer = *recurrent.layers()->Get(n);
      const bool next = layer.level() == size.levels;
      if (next) below = n == 0 ? width : size.width;
      // A level's backward layer follows on its forward one.
      if (!(next || (layer.level() + 1u == size.levels && layer.backward() && !backward)))
        return fail(TONEARM_INVALID, "recurrent.layers",
                    "by level, the forward layer before the backward one", n, layer.level(), size.levels);
      backward = layer.backward();
      if (steps == 0 && backward)
        return fail(TONEARM_INVALID, "recurrent.steps", "above 0 where a layer is backward", n, 0, 1);
      if (!recurrent_layer_values(layer, format, below)) return false;
      size.add(layer_view(layer), format, below);
    }
    const uint64_t outputs = uint64_t{size.width} * (recurrent.all_steps() ? steps : 1);
    needs_work(recurrent_work_bytes(size, steps));
    if (session) recurrent_elements_ += state_elements(size, format, steps, width);
    return equal("operator", "as many outputs as the highest level has", op.output_length(), outputs);
  }

  bool of_session_sequence(const fb::Recurrent& recurrent, const fb::Operator& op) {
    return (session_ ||
            fail(TONEARM_INVALID, "recurrent.sequence", "Row, in a model without session", no_index, 1, 0)) &&
           equal("operator.phase", "context, of what reads the session", static_cast<uint32_t>(op.phase()),
                 static_cast<uint32_t>(fb::Phase::Context)) &&
           equal("recurrent.all_steps", "only over a row", recurrent.all_steps(), false) &&
           equal("recurrent.lengths", "only over a row", recurrent.lengths(), false) &&
           (!recurrent.padded() || limit("recurrent.steps", "at least one where they are padded",
                                         recurrent.steps() - 1u, max_slots));
  }

  TONEARM_OWN_FRAME bool recurrent_layer_values(const fb::RecurrentLayer& layer, WeightKind format,
                                                uint32_t inputs) {
    if (!known("recurrent.cell", static_cast<uint32_t>(layer.cell()), static_cast<uint32_t>(fb::Cell::MAX)) ||
        !limit("recurrent.units", "from 1 to 4096", layer.units() - 1u, 4096))
      return false;
    const auto cell = static_cast<CellKind>(layer.cell());
    const uint32_t gates = gates_of(cell), panels = panels_of(layer.units()),
                   rows = gates * panels * panel_units;
    const uint32_t gated = cell == CellKind::gru ? panels * panel_units : 0;
    const bool codes = format == WeightKind::int8;
    if (!matrix("recurrent.input_weights", *layer.input_weights(), format, gates, panels, inputs))
      return false;
    if (cell == CellKind::gru_reset_before) {
      Text part = "recurrent.recurrent_weights";
      const uint64_t first = matrix_bytes(format, 2, panels, layer.units());
      const uint64_t second = matrix_bytes(format, 1, panels, layer.units());
      if (!aligned(part, layer.recurrent_weights()) ||
          !equal(part, "the bytes of all panels", layer.recurrent_weights()->size(), first + second) ||
          !own_bytes(part, first + second) ||
          !matrix_values(part, layer.recurrent_weights()->Data(), static_cast<uint32_t>(first), format, 2,
                         layer.units()) ||
          !matrix_values(part, layer.recurrent_weights()->Data() + first, static_cast<uint32_t>(second),
                         format, 1, layer.units()))
        return false;
    } else if (!matrix("recurrent.recurrent_weights", *layer.recurrent_weights(), format, gates, panels,
                       layer.units())) {
      return false;
    }
    if (codes && cell == CellKind::rnn_relu)
      return fail(TONEARM_INVALID, "recurrent.cell", "one whose states are at most 1, of codes", no_index, 1,
                  0);
    const auto has = [&](Text part, const auto* vector, uint32_t count) {
      return equal(part, "one for each row, of this format", size_of(vector), count) && aligned(part, vector);
    };
    return has("recurrent.bias", layer.bias(), codes ? 0 : rows) &&
           has("recurrent.recurrent_bias", layer.recurrent_bias(), codes ? 0 : gated) &&
           has("recurrent.bias_codes", layer.bias_codes(), codes ? rows : 0) &&
           has("recurrent.recurrent_bias_codes", layer.recurrent_bias_codes(), codes ? gated : 0) &&
           has("recurrent.input_multipliers", layer.input_multipliers(), codes ? rows : 0) &&
           has("recurrent.recurrent_multipliers", layer.recurrent_multipliers(), codes ? rows : 0) &&
           bias_values("recurrent.bias", layer.bias()) &&
           bias_values("recurrent.recurrent_bias", layer.recurrent_bias()) &&
           (!codes || code_values(layer, gates, panels, inputs));
  }

  bool bias_values(Text part, const Vector<float>* bias) {
    for (uint32_t n = 0; n < size_of(bias); ++n)
      if ((float_bits(bias->Get(n)) & 0x7fffffff) > 0x49742400)
        return fail(TONEARM_INVALID, part, "finite, and at most 1e6", n, float_bits(bias->Get(n)),
                    0x49742400);
    return true;
  }

  /// The argument of a gate never overflows: its three parts stay below 2^29.
  bool code_values(const fb::RecurrentLayer& layer, uint32_t gates, uint32_t panels, uint32_t inputs) {
    constexpr int32_t bound = 1 << 29;
    const auto small = [&](Text part, const Vector<int32_t>* codes) {
      for (uint32_t n = 0; n < size_of(codes); ++n)
        if (codes->Get(n) >= bound || codes->Get(n) <= -bound)
          return fail(TONEARM_INVALID, part, "below 2^29", n, static_cast<uint32_t>(codes->Get(n)), bound);
      return true;
    };
    if (!limit("recurrent.input_shift", "from 1 to 46", layer.input_shift() - 1u, 46) ||
        !limit("recurrent.recurrent_shift", "from 1 to 46", layer.recurrent_shift() - 1u, 46) ||
        !small("recurrent.bias_codes", layer.bias_codes()) ||
        !small("recurrent.recurrent_bias_codes", layer.recurrent_bias_codes()))
      return false;
    const auto row_of = [&](uint32_t matrix_gates, uint32_t first_gate, uint32_t r) {
      const uint32_t tile = matrix_gates * panel_units;
      return (r / tile * gates + first_gate) * panel_units + r % tile;
    };
    const auto bounded = [&](Text part, const uint8_t* weights, uint32_t matrix_gates, uint32_t first_gate,
                             uint32_t columns, const Vector<int32_t>& multipliers, uint32_t shift) {
      const uint32_t tile = matrix_gates * panel_units, fours = (columns + 3) / 4;
      for (uint32_t r = 0; r < tile * panels; ++r) {
        const uint8_t* row = weights + (size_t{r / tile} * fours * tile + r % tile) * 4;
        uint64_t sum = 0;
        for (uint32_t q = 0; q < fours; ++q, row += size_t{4} * tile)
          for (uint32_t b = 0; b < 4; ++b) sum += row[b] < 128 ? 128u - row[b] : row[b] - 128u;
        const uint32_t place = row_of(matrix_gates, first_gate, r);
        const int64_t multiplier = multipliers.Get(place);
        const uint64_t largest =
            sum * 127 * static_cast<uint64_t>(multiplier < 0 ? -multiplier : multiplier) >> shift;
        if (largest >= bound)
          return fail(TONEARM_INVALID, part, "no gate's argument overflows", place, largest, bound);
      }
      return true;
    };
    const Vector<int32_t>& recurrent = *layer.recurrent_multipliers();
    const uint8_t* weights = layer.recurrent_weights()->Data();
    const uint32_t shift = layer.recurrent_shift();
    Text part = "recurrent.recurrent_multipliers";
    const bool reset_before = layer.cell() == fb::Cell::GruResetBefore;
    return bounded("recurrent.input_multipliers", layer.input_weights()->Data(), gates, 0, inputs,
                   *layer.input_multipliers(), layer.input_shift()) &&
           bounded(part, weights, reset_before ? 2 : gates, 0, layer.units(), recurrent, shift) &&
           (!reset_before || bounded(part, weights + matrix_bytes(WeightKind::int8, 2, panels, layer.units()),
                                     1, 2, layer.units(), recurrent, shift));
  }

  /// Interpolation divides by the distance of two points: it must neither overflow nor be flushed to 0.
  bool spaced(const fb::Calibrate& calibrate) {
    for (uint32_t p = 1; p < calibrate.x()->size(); ++p) {
      const float width = calibrate.x()->Get(p) - calibrate.x()->Get(p - 1);
      const float height = calibrate.y()->Get(p) - calibrate.y()->Get(p - 1);
      if (!is_finite(width) || float_bits(width) < 0x00800000u || !is_finite(height))
        return fail(TONEARM_INVALID, "calibrate.x", "neighbours are a normal distance apart", p,
                    float_bits(width), 0x00800000);
    }
    return true;
  }

  /// Checks the axes of an ensemble and counts its slices.
  TONEARM_OWN_FRAME bool tree_inputs(const fb::TreeInputs& inputs, uint32_t in, uint32_t& slices) {
    const uint32_t axes = inputs.slots()->size();
    const Vector<uint32_t>& begin = *inputs.threshold_begin();
    const Vector<int32_t>& thresholds = *inputs.thresholds();
    if (!limit("trees.inputs.slots", "at least one axis, at most 65535", axes - 1u, max_slots) ||
        !equal("trees.inputs.missing", "one per axis", inputs.missing()->size(), axes) ||
        !equal("trees.inputs.threshold_begin", "one per axis, and the total", begin.size(), axes + 1) ||
        !equal("trees.inputs.threshold_begin", "the first is 0", begin.Get(0), 0) ||
        !equal("trees.inputs.threshold_begin", "the last is the number of thresholds",
               uint64_t{begin.Get(axes)} + (inputs.pivot_begin() == nullptr ? 0 : 15), thresholds.size()) ||
        !aligned("trees.inputs.threshold_begin", &begin) ||
        !aligned("trees.inputs.thresholds", &thresholds) ||
        !own_bytes("trees.inputs.thresholds", uint64_t{4} * thresholds.size()))
      return false;
    slices = 0;
    for (uint32_t axis = 0; axis < axes; ++axis) {
      const auto direction = static_cast<uint32_t>(inputs.missing()->Get(axis));
      if (inputs.slots()->Get(axis) >= in)
        return fail(TONEARM_INVALID, "trees.inputs.slots", "an input of the operator", axis,
                    inputs.slots()->Get(axis), in);
      if (!known("trees.inputs.missing", direction, static_cast<uint32_t>(fb::MissingDirection::MAX)))
        return false;
      if (begin.Get(axis) > begin.Get(axis + 1) || begin.Get(axis + 1) > thresholds.size())
        return fail(TONEARM_INVALID, "trees.inputs.threshold_begin", "axes follow on each other", axis,
                    begin.Get(axis), begin.Get(axis + 1));
      slices += slices_of(begin.Get(axis + 1) - begin.Get(axis));
      for (uint32_t t = begin.Get(axis); t < begin.Get(axis + 1); ++t) {
        // The bounds are one below minus infinity, and plus infinity: no NaN in disguise. -1 would be -0,
        // which is written as 0.
        if (thresholds.Get(t) < -2139095042 || thresholds.Get(t) > 2139095040 || thresholds.Get(t) == -1)
          return fail(TONEARM_INVALID, "trees.inputs.thresholds", "the ordered bits of a number", t,
                      static_cast<uint32_t>(thresholds.Get(t)), 2139095040);
        if (t > begin.Get(axis) && thresholds.Get(t - 1) >= thresholds.Get(t))
          return fail(TONEARM_INVALID, "trees.inputs.thresholds", "thresholds of an axis ascend", t,
                      static_cast<uint32_t>(thresholds.Get(t)), static_cast<uint32_t>(thresholds.Get(t - 1)));
      }
    }
    if (!categories(inputs, in, slices) || !pivots(inputs)) return false;
    most_work_ = slices > most_work_ ? slices : most_work_;
    if (!limit("trees.inputs", "at most 65535 slices", slices, 65536)) return false;
    return session_ ? context_axes(inputs, slices)
                    : equal("trees.inputs.context_axes", "none in a model without session",
                            inputs.context_axes(), 0);
  }

  /// Counts the slices of category axes.
  bool categories(const fb::TreeInputs& inputs, uint32_t in, uint32_t& slices) {
    const uint32_t axes = size_of(inputs.category_slots());
    if (!equal("trees.inputs.category_counts", "one per category axis", size_of(inputs.category_counts()),
               axes) ||
        !equal("trees.inputs.category_slices", "one per category axis", size_of(inputs.category_slices()),
               axes))
      return false;
    uint64_t bytes = 0, all = slices;
    for (uint32_t axis = 0; axis < axes; ++axis) {
      if (inputs.category_slots()->Get(axis) >= in)
        return fail(TONEARM_INVALID, "trees.inputs.category_slots", "an input of the operator", axis,
                    inputs.category_slots()->Get(axis), in);
      // So that every category is exact in float32.
      if (inputs.category_counts()->Get(axis) > 1u << 24)
        return fail(TONEARM_INVALID, "trees.inputs.category_counts", "at most 2^24", axis,
                    inputs.category_counts()->Get(axis), 1u << 24);
      all += inputs.category_slices()->Get(axis);
      bytes += (uint64_t{inputs.category_counts()->Get(axis)} + 3) * inputs.category_slices()->Get(axis);
    }
    if (!limit("trees.inputs", "at most 65535 slices", all, 65536) ||
        !equal("trees.inputs.category_rows", "a row for each category and three more, of each axis",
               size_of(inputs.category_rows()), bytes))
      return false;
    slices = static_cast<uint32_t>(all);
    return true;
  }

  /// Every pivot follows from the thresholds.
  bool pivots(const fb::TreeInputs& inputs) {
    const Vector<uint32_t>* pivot_begin = inputs.pivot_begin();
    if (pivot_begin == nullptr)
      return equal("trees.inputs.pivots", "none without pivot_begin", size_of(inputs.pivots()), 0);
    const uint32_t axes = inputs.slots()->size();
    const Vector<uint32_t>& begin = *inputs.threshold_begin();
    if (!equal("trees.inputs.pivot_begin", "one per axis, and the total", pivot_begin->size(), axes + 1) ||
        !equal("trees.inputs.pivot_begin", "the first is 0", pivot_begin->Get(0), 0) ||
        !equal("trees.inputs.pivot_begin", "the last is the number of pivots", pivot_begin->Get(axes),
               size_of(inputs.pivots())) ||
        !aligned("trees.inputs.pivot_begin", pivot_begin) || !aligned("trees.inputs.pivots", inputs.pivots()))
      return false;
    for (uint32_t axis = 0; axis < axes; ++axis) {
      const uint32_t count = begin.Get(axis + 1) - begin.Get(axis);
      uint64_t entries = 0;  // of all levels
      for (uint32_t n = (count + 15) / 16; n > 1; n = (n + 15) / 16) entries += (n + 15) / 16 * 16;
      // Only now is it certain that the pivots of the axis lie within their array.
      if (uint64_t{pivot_begin->Get(axis)} + entries != pivot_begin->Get(axis + 1))
        return fail(TONEARM_INVALID, "trees.inputs.pivot_begin", "as many pivots as the axis needs", axis,
                    uint64_t{pivot_begin->Get(axis + 1)}, pivot_begin->Get(axis) + entries);
      // From the lowest level, whose pivots stand for 16 thresholds each, upwards: its place is at the end.
      uint32_t at = pivot_begin->Get(axis + 1), span = 16;
      for (uint32_t n = (count + 15) / 16; n > 1; n = (n + 15) / 16, span *= 16) {
        const uint32_t room = (n + 15) / 16 * 16;
        at -= room;
        for (uint32_t p = 0; p < room; ++p) {
          const int32_t expected =
              p + 1 < n ? inputs.thresholds()->Get(begin.Get(axis) + (p + 1) * span - 1) : INT32_MAX;
          if (inputs.pivots()->Get(at + p) != expected)
            return fail(TONEARM_INVALID, "trees.inputs.pivots", "the last of every 16 thresholds", at + p,
                        static_cast<uint32_t>(inputs.pivots()->Get(at + p)), static_cast<uint32_t>(expected));
        }
      }
    }
    return true;
  }

  /// Those axes whose inputs are known before any candidate.
  bool context_axes(const fb::TreeInputs& inputs, uint32_t slices) {
    const uint32_t axes = inputs.context_axes();
    uint32_t context_slices = 0;
    if (!at_most("trees.inputs.context_axes", "as many as there are", axes, inputs.slots()->size()) ||
        !equal("trees.inputs.slices", "as many as the axes have", inputs.slices(), slices))
      return false;
    for (uint32_t axis = 0; axis < axes; ++axis) {
      if (!readable("trees.inputs.context_axes", input_ + inputs.slots()->Get(axis), 1, PhaseKind::context))
        return false;
      context_slices +=
          slices_of(inputs.threshold_begin()->Get(axis + 1) - inputs.threshold_begin()->Get(axis));
    }
    return equal("trees.inputs.context_slices", "as many as the context axes have", inputs.context_slices(),
                 context_slices);
  }

  /// How many trees are summed once per call; that they test context slices only is checked with their nodes.
  bool context_trees(const Ensemble& trees, uint64_t count, uint32_t out) {
    const uint32_t shared = trees.context_trees;
    if (shared == 0) return true;
    return at_most("trees.context_trees", "as many as there are", shared, count) &&
           equal("trees.context_trees", "a multiple of 16, or all", shared == count ? 0 : shared % 16, 0) &&
           equal("trees.context_trees", "only where there is one output", out, 1) &&
           limit("trees.context_trees", "only in a session model", session_ ? 0 : 1, 1);
  }

  /// Checks leaves, palette, base and scale: the part that both kinds of ensemble share.
  bool leaves(const Ensemble& trees, uint64_t tree_count, uint64_t leaf_count, uint32_t out) {
    if (!known("trees.leaf_format", static_cast<uint32_t>(trees.leaf_format),
               static_cast<uint32_t>(fb::LeafFormat::MAX)))
      return false;
    const bool wide =
        trees.leaf_format == fb::LeafFormat::Palette16 || trees.leaf_format == fb::LeafFormat::Int16;
    const uint64_t bytes = trees.leaf_format == fb::LeafFormat::Float32 ? 4 : wide ? 2 : 1;
    const Vector<uint8_t>& codes = trees.leaves;
    if (!equal("trees.leaves", "the bytes of all leaves", codes.size(), leaf_count * bytes) ||
        !equal("trees", "as many trees for each output", tree_count % out, 0) ||
        !equal("trees.base", "one per output", trees.base.size(), out) ||
        !finite("trees.base", &trees.base) || !aligned("trees.leaves", &codes) ||
        !own_bytes("trees.leaves", codes.size()) || !aligned("trees.palette", trees.palette) ||
        !finite("trees.palette", trees.palette))
      return false;
    if (!is_finite(trees.scale))
      return fail(TONEARM_INVALID, "trees.scale", "finite", no_index, float_bits(trees.scale), 0x7f800000);
    const uint32_t palette = size_of(trees.palette);
    switch (trees.leaf_format) {
      case fb::LeafFormat::Float32:
        for (uint32_t leaf = 0; leaf < leaf_count; ++leaf) {
          uint32_t bits;
          memcpy(&bits, codes.Data() + static_cast<size_t>(leaf) * 4, 4);
          if (!is_finite(bits_float(bits)))
            return fail(TONEARM_INVALID, "trees.leaves", "every leaf is finite", leaf, bits, 0x7f800000);
        }
        return true;
      case fb::LeafFormat::Int16:
        // So that the sum of codes fits an int32.
        return limit("trees", "at most 65536 trees with int16 leaves", tree_count, 65537);
      case fb::LeafFormat::Palette8:
      case fb::LeafFormat::Palette16:
        break;
    }
    for (uint32_t leaf = 0; leaf < leaf_count; ++leaf) {
      const uint8_t* code = codes.Data() + static_cast<size_t>(leaf) * bytes;
      const uint32_t entry = wide ? code[0] | static_cast<uint32_t>(code[1]) << 8 : code[0];
      if (entry >= palette)
        return fail(TONEARM_INVALID, "trees.leaves", "an entry of the palette", leaf, entry, palette);
    }
    return true;
  }

  /// Every child is a leaf of the same tree, or a node of the same tree that comes later.
  bool nodes(const fb::BranchingTrees& trees, uint32_t node_bytes, uint32_t child_bytes, uint32_t slices) {
    const uint32_t top_bit = 8 * child_bytes - 1;
    const uint8_t* node = trees.nodes()->Data();
    const uint32_t slice_bytes = node_bytes >= 8 ? 2 : 1;
    const uint32_t child_offset = node_bytes - 2 * child_bytes;
    const Vector<uint32_t>& begin = *trees.tree_nodes();
    const Vector<uint32_t>& leaf_begin = *trees.tree_leaves();
    for (uint32_t tree = 0; tree + 1 < begin.size(); ++tree) {
      const uint32_t count = begin.Get(tree + 1) - begin.Get(tree);
      const uint32_t leaf_count = leaf_begin.Get(tree + 1) - leaf_begin.Get(tree);
      for (uint32_t n = 0; n < count; ++n, node += node_bytes) {
        const uint32_t slice = slice_bytes == 2 ? node[0] | static_cast<uint32_t>(node[1]) << 8 : node[0];
        if (slice >= slices)
          return fail(TONEARM_INVALID, "trees.nodes", "tests a slice that exists", begin.Get(tree) + n, slice,
                      slices);
        if (tree < trees.context_trees() && slice >= trees.inputs()->context_slices())
          return fail(TONEARM_INVALID, "trees.context_trees", "test slices of context axes only",
                      begin.Get(tree) + n, slice, trees.inputs()->context_slices());
        for (uint32_t side = 0; side < 2; ++side) {
          uint32_t child = 0;
          memcpy(&child, node + child_offset + side * child_bytes, child_bytes);
          const uint32_t number = child & ((1u << top_bit) - 1);
          const bool leaf = (child >> top_bit & 1) != 0;
          if (leaf && number >= leaf_count)
            return fail(TONEARM_INVALID, "trees.nodes", "a leaf of the same tree", begin.Get(tree) + n,
                        number, leaf_count);
          if (!leaf && number == 0)
            return fail(TONEARM_INVALID, "trees.nodes", "a child comes after its parent", begin.Get(tree) + n,
                        number, 1);
          if (!leaf && number >= count - n)
            return fail(TONEARM_INVALID, "trees.nodes", "a child in the same tree", begin.Get(tree) + n,
                        number, count - n);
        }
      }
    }
    return true;
  }

  TONEARM_OWN_FRAME bool branching(const fb::BranchingTrees& trees, uint32_t in, uint32_t out) {
    static constexpr uint8_t bytes_of[] = {4, 6, 8, 12};
    const Vector<uint32_t>& begin = *trees.tree_nodes();
    const Vector<uint32_t>& leaf_begin = *trees.tree_leaves();
    uint32_t slices = 0;
    if (!tree_inputs(*trees.inputs(), in, slices) ||
        !known("trees.node_format", static_cast<uint32_t>(trees.node_format()),
               static_cast<uint32_t>(fb::NodeFormat::MAX)))
      return false;
    if (trees.node_format() == fb::NodeFormat::Complete) return complete(trees, slices, out);
    const uint32_t node_bytes = bytes_of[static_cast<uint32_t>(trees.node_format())];
    if (!limit("trees.tree_nodes", "at least one tree", begin.size() - 2u, UINT32_MAX - 1) ||
        !equal("trees.tree_leaves", "as many as tree_nodes", leaf_begin.size(), begin.size()) ||
        !equal("trees.tree_nodes", "the first is 0", begin.Get(0), 0) ||
        !equal("trees.tree_leaves", "the first is 0", leaf_begin.Get(0), 0) ||
        !equal("trees.depth", "none but of complete trees", trees.depth(), 0) ||
        !aligned("trees.nodes", trees.nodes()) || !own_bytes("trees.nodes", trees.nodes()->size()) ||
        !aligned("trees.tree_nodes", &begin) || !aligned("trees.tree_leaves", &leaf_begin))
      return false;
    const uint32_t count = begin.size() - 1;
    for (uint32_t tree = 0; tree < count; ++tree)
      if (begin.Get(tree) >= begin.Get(tree + 1) || leaf_begin.Get(tree) >= leaf_begin.Get(tree + 1))
        return fail(TONEARM_INVALID, "trees.tree_nodes", "every tree has nodes and leaves", tree,
                    begin.Get(tree), begin.Get(tree + 1));
    if (!equal("trees.nodes", "the bytes of all nodes", trees.nodes()->size(),
               uint64_t{begin.Get(count)} * node_bytes) ||
        !leaves(ensemble_of(trees), count, leaf_begin.Get(count), out) ||
        !context_trees(ensemble_of(trees), count, out))
      return false;
    work_bytes_ += tree_scratch_bytes(slices, 0);
    return nodes(trees, node_bytes, node_bytes == 4 ? 1 : node_bytes == 12 ? 4 : 2, slices);
  }

  TONEARM_OWN_FRAME bool complete(const fb::BranchingTrees& trees, uint32_t slices, uint32_t out) {
    const Vector<uint8_t>& nodes = *trees.nodes();
    const uint32_t depth = trees.depth(), bytes = 2 * ((1u << (depth & 15)) - 1);
    if (!limit("trees.depth", "from 1 to 8", depth - 1u, 8) ||
        !equal("trees.tree_nodes", "none of complete trees", trees.tree_nodes()->size(), 0) ||
        !equal("trees.tree_leaves", "none of complete trees", trees.tree_leaves()->size(), 0) ||
        !limit("trees.nodes", "at least one tree", nodes.size() - 1u, UINT32_MAX - 1) ||
        !equal("trees.nodes", "two bytes a node, whole trees", nodes.size() % bytes, 0) ||
        !aligned("trees.nodes", &nodes) || !own_bytes("trees.nodes", nodes.size()))
      return false;
    const uint32_t count = nodes.size() / bytes;
    for (uint32_t n = 0; n < nodes.size(); n += 2)
      if (!tests_slice(nodes.Get(n),
                       n / bytes < trees.context_trees() ? trees.inputs()->context_slices() : slices, slices))
        return false;
    work_bytes_ += tree_scratch_bytes(slices, 0);
    return leaves(ensemble_of(trees), count, uint64_t{count} << depth, out) &&
           context_trees(ensemble_of(trees), count, out);
  }

  TONEARM_OWN_FRAME bool symmetric(const fb::SymmetricTrees& trees, uint32_t in, uint32_t out) {
    uint32_t slices = 0;
    const uint32_t depth = trees.depth();
    const Vector<uint8_t>& splits = *trees.splits();
    if (!tree_inputs(*trees.inputs(), in, slices) ||
        !limit("trees.depth", "from 1 to 16", depth - 1u, max_symmetric_depth) ||
        !limit("trees.splits", "at least one tree", splits.size() - 1u, UINT32_MAX - 1) ||
        !equal("trees.splits", "two bytes a level, whole trees", splits.size() % (2 * depth), 0) ||
        !aligned("trees.splits", &splits) || !own_bytes("trees.splits", splits.size()))
      return false;
    for (uint32_t s = 0; s < splits.size(); s += 2)
      if (splits.Get(s) >= slices)
        return fail(TONEARM_INVALID, "trees.splits", "tests a slice that exists", s, splits.Get(s), slices);
    const uint32_t count = splits.size() / (2 * depth);
    for (uint32_t tree = 0; session_ && tree < count; ++tree)
      for (uint32_t level = 0; level < depth; ++level) {
        const uint32_t place = 2 * (tree * depth + level);
        const bool of_candidate = splits.Get(place) >= trees.inputs()->context_slices();
        if (of_candidate && tree < trees.context_trees())
          return fail(TONEARM_INVALID, "trees.context_trees", "test slices of context axes only", place,
                      splits.Get(place), trees.inputs()->context_slices());
        if (!of_candidate && level > 0 && splits.Get(place - 2) >= trees.inputs()->context_slices())
          return fail(TONEARM_INVALID, "trees.splits", "levels of context axes come first", place,
                      splits.Get(place), trees.inputs()->context_slices());
      }
    work_bytes_ += tree_scratch_bytes(slices, count);
    return leaves(ensemble_of(trees), count, uint64_t{count} << depth, out) &&
           context_trees(ensemble_of(trees), count, out);
  }

  TONEARM_OWN_FRAME bool blocks(const fb::BlockTrees& trees, uint32_t in, uint32_t out) {
    uint32_t slices = 0;
    const uint32_t depth = trees.depth(), count = trees.trees(), shared = trees.context_trees();
    const Vector<uint8_t>& nodes = *trees.nodes();
    if (!tree_inputs(*trees.inputs(), in, slices) ||
        !equal("trees.inputs.slices", "as many as the axes have", trees.inputs()->slices(), slices) ||
        !at_most("trees.inputs", "at most 256 slices", slices, 256) ||
        !at_most("trees.depth", "at most 8", depth, 8) || !aligned("trees.nodes", &nodes) ||
        !own_bytes("trees.nodes", nodes.size()) ||
        !limit("trees.trees", "from 16 to 2^20", count - 1u, 1u << 20) ||
        !equal("trees.trees", "a multiple of 16", count % 16, 0) ||
        !equal("trees.context_trees", "a multiple of 16", shared % 16, 0) ||
        !context_trees(ensemble_of(trees), count, out))
      return false;
    most_work_ = padded_slices(slices) > most_work_ ? padded_slices(slices) : most_work_;
    work_bytes_ += block_scratch_bytes(slices, depth > 0 ? count : 0);

    // Runs: the trees of each output, or the context trees and the others.
    const uint32_t runs = shared > 0 ? 2 : out;
    uint64_t block_count = 0;
    for (uint32_t run = 0; run < runs; ++run) block_count += blocks_of(run_trees(trees, run));
    if (!equal("trees.block_nodes", "one per block of branching trees", size_of(trees.block_nodes()),
               depth > 0 ? 0 : block_count))
      return false;
    uint64_t at = 0, leaf_count = 0;
    uint32_t block = 0;
    for (uint32_t run = 0; run < runs; ++run) {
      // Context trees test slices of context axes only.
      const uint32_t known = shared > 0 && run == 0 ? trees.inputs()->context_slices() : slices;
      for (uint32_t left = run_trees(trees, run); left > 0;) {
        const uint32_t width = left < 64 ? left : 64;
        const uint32_t size = depth > 0 ? 2 * depth : 1 + 4u * trees.block_nodes()->Get(block++);
        if (!at_most("trees.nodes", "the bytes of all blocks", at + uint64_t{width} * size, nodes.size()))
          return false;
        const uint8_t* bytes = nodes.Data() + at;
        if (depth > 0 ? !symmetric_block(*trees.inputs(), bytes, width, depth, known, slices)
                      : !branching_block(bytes, width, (size - 1) / 4, known, slices))
          return false;
        at += uint64_t{width} * size;
        leaf_count += uint64_t{width} * (depth > 0 ? 1u << depth : (size - 1) / 4 + 1);
        left -= width;
      }
    }
    constexpr uint32_t padding = 48;
    return equal("trees.nodes", "the bytes of all blocks, and 48 more", nodes.size(), at + padding) &&
           leaves(ensemble_of(trees), uint64_t{count} * out, leaf_count, out);
  }

  static uint32_t run_trees(const fb::BlockTrees& trees, uint32_t run) {
    const uint32_t shared = trees.context_trees();
    return shared == 0 ? trees.trees() : run == 0 ? shared : trees.trees() - shared;
  }

  bool tests_slice(uint32_t slice, uint32_t known, uint32_t slices) {
    return limit("trees.nodes", "tests a slice that exists", slice, slices) &&
           limit("trees.context_trees", "test slices of context axes only", slice, known);
  }

  bool symmetric_block(const fb::TreeInputs& inputs, const uint8_t* rows, uint32_t width, uint32_t depth,
                       uint32_t known, uint32_t slices) {
    for (uint32_t level = 0; level < depth; ++level, rows += 2 * width)
      for (uint32_t tree = 0; tree < width; ++tree) {
        if (!tests_slice(rows[tree], known, slices)) return false;
        if (session_ && level > 0 && rows[tree] < inputs.context_slices() &&
            rows[static_cast<int64_t>(tree) - 2 * static_cast<int64_t>(width)] >= inputs.context_slices())
          return fail(TONEARM_INVALID, "trees.nodes", "levels of context axes come first", tree, rows[tree],
                      inputs.context_slices());
      }
    return true;
  }

  /// Every tree is in preorder with its leaves numbered from the left, and what is behind it never moves.
  TONEARM_OWN_FRAME bool branching_block(const uint8_t* bytes, uint32_t width, uint32_t nodes, uint32_t known,
                                         uint32_t slices) {
    for (uint32_t tree = 0; tree < width; ++tree) {
      const uint32_t count = bytes[tree];
      if (!at_most("trees.nodes", "no tree has more nodes than its block", count, nodes)) return false;
      const uint8_t* row = bytes + width + tree;
      const uint32_t next = 4 * width;
      uint8_t waiting[128];  // subtrees on the right that come later: their leaves less one, of two or more
      uint32_t waits = 0, under = count;  // the leaves under the node at hand, less one
      if (nodes > 0 && count > 0 && !numbered(row[2 * width], 0)) return false;
      for (uint32_t node = 0; node < nodes; ++node, row += next) {
        const uint32_t left = row[3 * width], right = under + 1 - left, leaf = row[2 * width];
        if (!tests_slice(row[0], known, slices)) return false;
        if (node >= count) {
          if (!equal("trees.nodes", "missing nodes never go right", row[width], 255) ||
              !equal("trees.nodes", "missing nodes have no leaves", left, 0))
            return false;
          continue;
        }
        if (!limit("trees.nodes", "a leaf on both sides of a node", left - 1u, under) ||
            (left > 1 && !numbered(row[next + 2 * width], leaf)) ||
            (right > 1 && !numbered(row[left * next + 2 * width], leaf + left)))
          return false;
        // The subtrees follow, that on the left first: as many nodes as leaves, less one.
        if (left > 1) {
          if (right > 1) waiting[waits++] = static_cast<uint8_t>(right - 1);
          under = left - 1;
        } else if (right > 1) {
          under = right - 1;
        } else if (waits > 0) {
          under = waiting[--waits];
        }
      }
    }
    return true;
  }

  bool numbered(uint32_t found, uint32_t expected) {
    return equal("trees.nodes", "nodes in preorder, leaves numbered from the left", found, expected);
  }

  TONEARM_OWN_FRAME bool golden(const fb::Golden* golden, Plan& plan) {
    plan.golden_rows = 0;
    if (golden == nullptr) return true;
    uint32_t rows = golden->rows()->size() / plan.columns;
    if (!equal("golden.events", "one per row of a session model, none in others", size_of(golden->events()),
               session_ ? rows : 0))
      return false;
    if (session_) {
      rows = 0;
      for (index_ = 0; index_ < size_of(golden->events()); ++index_) {
        const auto kind = static_cast<uint32_t>(golden->events()->Get(index_)->kind());
        if (!known("golden.events", kind, static_cast<uint32_t>(fb::GoldenEventKind::MAX))) return false;
        rows += kind == static_cast<uint32_t>(fb::GoldenEventKind::Predict) ? 1 : 0;
      }
      index_ = no_index;
    }
    if (!equal("golden.rows", "whole rows", golden->rows()->size() % plan.columns, 0) ||
        !equal("golden.outputs", "one row of outputs per row", golden->outputs()->size(),
               uint64_t{rows} * plan.output_count) ||
        !aligned("golden.rows", golden->rows()) || !aligned("golden.outputs", golden->outputs()) ||
        !finite("golden.outputs", golden->outputs()))
      return false;
    plan.golden_rows = rows;
    return (is_finite(golden->tolerance()) && golden->tolerance() >= 0) ||
           fail(TONEARM_INVALID, "golden.tolerance", "finite and not negative", no_index,
                float_bits(golden->tolerance()), 0x7f800000);
  }

  const uint8_t* blob_;
  tonearm_diagnostic& diagnostic_;
  uint32_t index_ = no_index;    // of the column, feature or operator at hand
  uint32_t frontier_ = 0;        // the first slot not yet written
  uint64_t unread_weights_ = 0;  // bytes of the file that no matrix has yet
  uint64_t most_work_ = 0;       // bytes that an operator needs beside the slots, at most
  // Of a session model:
  bool session_ = false, leaky_ = false;
  uint32_t columns_ = 0, first_now_ = 0, first_end_ = 0;
  uint32_t end_[slot_kinds] = {};                            // the slots of each kind end here
  uint32_t first_feature_[3] = {}, first_operator_[3] = {};  // of each phase
  uint32_t input_ = 0;                                       // the first slot of the operator at hand
  uint64_t state_elements_ = 0, recurrent_elements_ = 0, work_bytes_ = 0;
};

tonearm_status report(tonearm_diagnostic& diagnostic, tonearm_status status, Text part, Text rule,
                      uint64_t found, uint64_t limit, uint32_t line = __builtin_LINE()) {
  diagnostic.status = status;
  diagnostic.part = part;
  diagnostic.rule = rule;
  diagnostic.found = found;
  diagnostic.limit = limit;
  diagnostic.line = line;
  return status;
}

/// The best of the kernels that this CPU runs and the caller allows.
uint32_t chosen_cpu(uint32_t allowed) {
  if (allowed == TONEARM_CPU_SCALAR) return allowed;  // without asking
  const uint32_t found = detected_cpus() & (allowed == 0 ? UINT32_MAX : allowed);
  for (const uint32_t best : {TONEARM_CPU_AVX512, TONEARM_CPU_AVX2, TONEARM_CPU_SSSE3, TONEARM_CPU_NEON_DOT,
                              TONEARM_CPU_NEON, TONEARM_CPU_WASM, TONEARM_CPU_DSP})
    if ((found & best) != 0) return best;
  return TONEARM_CPU_SCALAR;
}

tonearm_status open(tonearm_model& model, const uint8_t* blob, size_t size, bool skip_crc, uint32_t cpu,
                    uint32_t session_limit, tonearm_diagnostic& diagnostic) {
  if constexpr (!FLATBUFFERS_LITTLEENDIAN)
    return report(diagnostic, TONEARM_BIG_ENDIAN, "cpu", "is little-endian, as blobs are", 1, 0);
  if (reinterpret_cast<uintptr_t>(blob) % 4 != 0)
    return report(diagnostic, TONEARM_MISALIGNED, "blob", "its address is a multiple of 4",
                  reinterpret_cast<uintptr_t>(blob) % 4, 0);
  constexpr size_t smallest = 16;
  if (size < smallest || size > INT32_MAX)
    return report(diagnostic, TONEARM_NOT_A_MODEL, "blob", "from 16 bytes to 2 GB", size, smallest);
  if (!fb::ModelBufferHasIdentifier(blob))
    return report(diagnostic, TONEARM_NOT_A_MODEL, "blob", "bytes 4 to 7 are TARM", blob[4], 'T');

  // Just the versions and the size: the rest of a blob from the future may have any structure.
  if (!has_head(blob, static_cast<uint32_t>(size)))
    return report(diagnostic, TONEARM_MALFORMED, "model", "its first table lies within the file", size, size);
  const fb::Model* root = fb::GetModel(blob);
  if (root->format_major() > TONEARM_FORMAT_MAJOR)
    return report(diagnostic, TONEARM_RUNTIME_TOO_OLD, "format_major", "a format this library knows",
                  root->format_major(), TONEARM_FORMAT_MAJOR);
  if (root->format_major() < TONEARM_FORMAT_MAJOR)
    return report(diagnostic, TONEARM_BLOB_TOO_OLD, "format_major", "a format this library still reads",
                  root->format_major(), TONEARM_FORMAT_MAJOR);
  if (root->runtime_minimum() > TONEARM_VERSION)
    return report(diagnostic, TONEARM_RUNTIME_TOO_OLD, "runtime_minimum", "not above this library's version",
                  root->runtime_minimum(), TONEARM_VERSION);
  if (root->file_bytes() != size)
    return report(diagnostic, TONEARM_TRUNCATED, "file_bytes", "as many bytes as given", size,
                  root->file_bytes());

  if (!has_structure(blob, static_cast<uint32_t>(size)))
    return report(diagnostic, TONEARM_MALFORMED, "model", "every offset leads to what it should", size, size);

  Plan plan{};
  if (!Checker(blob, diagnostic).model(*root, plan)) return diagnostic.status;

  if (!skip_crc) {
    const auto* field = reinterpret_cast<const flatbuffers::Table*>(root)->GetAddressOf(fb::Model::VT_CRC32);
    if (field == nullptr) return report(diagnostic, TONEARM_CORRUPT, "crc32", "is present", 0, 1);
    static constexpr uint8_t zeros[4] = {};
    uint32_t crc = crc32(0, blob, static_cast<size_t>(field - blob));
    crc = crc32(crc, zeros, sizeof zeros);
    crc = crc32(crc, field + 4, size - static_cast<size_t>(field + 4 - blob));
    if (crc != root->crc32())
      return report(diagnostic, TONEARM_CORRUPT, "crc32", "the checksum of the bytes", root->crc32(), crc);
  }
  if (session_limit != 0 && plan.session_bytes > session_limit)
    return report(diagnostic, TONEARM_SESSION_TOO_SMALL, "memory.session_bytes",
                  "at most options.session_limit", plan.session_bytes, session_limit);
  plan.model_id = root->crc32();
  plan.cpu = chosen_cpu(cpu);
  model.private_blob = blob;
  model.private_root = root;
  store_plan(model, plan);
  return TONEARM_OK;
}

const char* text(const flatbuffers::String* string) { return string == nullptr ? "" : string->c_str(); }

bool same_text(const flatbuffers::String& a, const char* b) {
  const size_t length = strlen(b);
  return a.size() == length && memcmp(a.Data(), b, length) == 0;
}

/// Copies as much of `filled` as the caller's struct has room for.
template <typename Struct>
void hand_out(Struct* target, const Struct& filled) {
  const uint32_t room = target->struct_size;
  memcpy(target, &filled, room < sizeof filled ? room : sizeof filled);
  target->struct_size = room;
}

/// Fills every field that both kinds of ensemble and blocks share.
[[maybe_unused]] void view_trees(const Ensemble& trees, uint32_t cpu, TreesView& view) {
  const fb::TreeInputs& inputs = trees.inputs;
  view.slots = inputs.slots()->data();
  view.missing = inputs.missing()->Data();
  view.threshold_begin = inputs.threshold_begin()->data();
  view.thresholds = inputs.thresholds()->data();
  view.axes = inputs.slots()->size();
  view.pivot_begin = data_of(inputs.pivot_begin());
  view.pivots = data_of(inputs.pivots());
  view.category_axes = size_of(inputs.category_slots());
  if (view.category_axes > 0) {
    view.category_slots = inputs.category_slots()->data();
    view.category_counts = inputs.category_counts()->data();
    view.category_slices = inputs.category_slices()->data();
    view.category_rows = inputs.category_rows() == nullptr ? nullptr : inputs.category_rows()->Data();
  }
  view.cpu = cpu;
  view.leaves = trees.leaves.Data();
  view.palette = data_of(trees.palette);
  view.base = trees.base.data();
  view.scale = trees.scale;
  view.leaf_kind = static_cast<LeafKind>(trees.leaf_format);
  view.context_axes = inputs.context_axes();
  view.context_slices = inputs.context_slices();
  view.slices = inputs.slices();
  view.context_trees = trees.context_trees;
}

uint32_t cpu_of(const tonearm_model& model) { return plan_of(model).cpu; }

/// What only session models have.
[[maybe_unused]] void view_session_feature(const fb::Feature& feature, FeatureView& view) {
  switch (feature.encoder_type()) {
    case fb::Encoder::Fact:
      view.kind = EncoderKind::fact;
      view.fact = static_cast<FactKind>(feature.encoder_as_Fact()->fact());
      break;
    case fb::Encoder::Lag:
      view.kind = EncoderKind::lag;
      view.length = feature.encoder_as_Lag()->count();
      view.unknown = feature.encoder_as_Lag()->empty();
      view.carries = feature.encoder_as_Lag()->carries();
      break;
    case fb::Encoder::Mean: {
      const fb::Mean& mean = *feature.encoder_as_Mean();
      view.kind = EncoderKind::mean;
      view.keep = mean.keep();
      view.weighted = mean.weighted();
      view.prior = mean.prior();
      view.prior_weight = mean.prior_weight();
      view.carries = mean.carries();
      break;
    }
    case fb::Encoder::Window:
      view.kind = EncoderKind::window;
      view.length = feature.encoder_as_Window()->length();
      view.carries = feature.encoder_as_Window()->carries();
      break;
    case fb::Encoder::Total:
      view.kind = EncoderKind::total;
      view.carries = feature.encoder_as_Total()->carries();
      break;
    case fb::Encoder::Streak:
      view.kind = EncoderKind::streak;
      view.same = feature.encoder_as_Streak()->same();
      view.carries = feature.encoder_as_Streak()->carries();
      break;
    case fb::Encoder::Repeats:
      view.kind = EncoderKind::repeats;
      view.of_artist = feature.encoder_as_Repeats()->of() == fb::Identifier::Artist;
      view.length = feature.encoder_as_Repeats()->length();
      view.carries = feature.encoder_as_Repeats()->carries();
      break;
    default:
      break;
  }
}

}  // namespace

const float* missing_fill(const tonearm_model& model) { return root_of(model).missing_fill()->data(); }

uint32_t category_count(const tonearm_model& model, uint32_t column) {
  return size_of(root_of(model).columns()->Get(column)->vocabulary());
}

FeatureView feature_at(const tonearm_model& model, uint32_t index) {
  const fb::Feature& feature = *root_of(model).features()->Get(index);
  FeatureView view{};
  view.phase = static_cast<PhaseKind>(feature.phase());
  view.inputs = feature.inputs()->data();
  view.input_count = feature.inputs()->size();
  view.output = feature.output_offset();
  view.output_count = feature.output_length();
  switch (feature.encoder_type()) {
    case fb::Encoder::NONE:
    case fb::Encoder::Identity:
      view.kind = EncoderKind::identity;
      break;
    case fb::Encoder::Scale:
      view.kind = EncoderKind::scale;
      view.first = feature.encoder_as_Scale()->center()->data();
      view.second = feature.encoder_as_Scale()->factor()->data();
      break;
    case fb::Encoder::OneHot:
      view.kind = EncoderKind::one_hot;
      view.unknown_slot = feature.encoder_as_OneHot()->unknown_slot();
      break;
    case fb::Encoder::Ordinal:
      view.kind = EncoderKind::ordinal;
      view.first = feature.encoder_as_Ordinal()->values()->data();
      view.first_count = feature.encoder_as_Ordinal()->values()->size();
      view.unknown = feature.encoder_as_Ordinal()->unknown();
      break;
    case fb::Encoder::Bucket:
      view.kind = EncoderKind::bucket;
      view.first = feature.encoder_as_Bucket()->edges()->data();
      view.first_count = feature.encoder_as_Bucket()->edges()->size();
      break;
    case fb::Encoder::Projection:
      view.kind = EncoderKind::projection;
      view.first = feature.encoder_as_Projection()->mean()->data();
      view.second = feature.encoder_as_Projection()->components()->data();
      break;
    case fb::Encoder::Difference:
      view.kind = EncoderKind::difference;
      break;
    case fb::Encoder::Distance:
      view.kind = EncoderKind::distance;
      break;
    case fb::Encoder::Normalize:
      view.kind = EncoderKind::normalize;
      view.norm = static_cast<NormKind>(feature.encoder_as_Normalize()->norm());
      break;
    default:
      if constexpr (with_sessions) view_session_feature(feature, view);
      break;
  }
  return view;
}

OperatorView operator_at(const tonearm_model& model, uint32_t index) {
  const fb::Operator& op = *root_of(model).operators()->Get(index);
  OperatorView view;  // of its union, only what the kind of operator has is filled
  view.phase = static_cast<PhaseKind>(op.phase());
  view.input = op.input_offset();
  view.input_count = op.input_length();
  view.output = op.output_offset();
  view.output_count = op.output_length();
  switch (op.kind_type()) {
    case fb::OperatorKind::BlockTrees:
      if constexpr (with_trees) {
        const fb::BlockTrees& trees = *op.kind_as_BlockTrees();
        view.type = OperatorType::block_trees;
        view_trees(ensemble_of(trees), cpu_of(model), view.trees);
        view.trees.depth = trees.depth();
        view.trees.trees = trees.trees();
        view.trees.nodes = trees.nodes()->Data();
        view.trees.block_nodes = trees.block_nodes() == nullptr ? nullptr : trees.block_nodes()->Data();
      }
      break;
    case fb::OperatorKind::QuantizedAffine:
      if constexpr (with_affine) {
        const fb::QuantizedAffine& affine = *op.kind_as_QuantizedAffine();
        view.type = OperatorType::quantized_affine;
        view.quantized = {static_cast<WeightKind>(affine.format()),
                          static_cast<ActivationKind>(affine.activation()),
                          cpu_of(model),
                          affine.weights()->Data(),
                          affine.bias()->data(),
                          data_of(affine.input_factors()),
                          data_of(affine.scales())};
      }
      break;
    case fb::OperatorKind::Recurrent:
      if constexpr (with_recurrent) {
        const fb::Recurrent& recurrent = *op.kind_as_Recurrent();
        const uint32_t steps = recurrent.steps();
        view.type = OperatorType::recurrent;
        view.recurrent.session = recurrent.sequence() == fb::Sequence::Session;
        view.recurrent.padded = recurrent.padded();
        view.recurrent.all_steps = recurrent.all_steps();
        view.recurrent.lengths = recurrent.lengths();
        view.recurrent.format = static_cast<WeightKind>(recurrent.format());
        view.recurrent.steps = steps;
        view.recurrent.padding = recurrent.padding();
        view.recurrent.width = view.recurrent.session
                                   ? view.input_count
                                   : (view.input_count - (recurrent.lengths() ? 1 : 0)) / steps;
        view.recurrent.layers = recurrent.layers()->size();
        view.recurrent.cpu = cpu_of(model);
        view.recurrent.input_factors = data_of(recurrent.input_factors());
        view.recurrent.table = &recurrent;
      }
      break;
    case fb::OperatorKind::NONE:
    case fb::OperatorKind::Affine:
      if constexpr (with_affine) {
        const fb::Affine& affine = *op.kind_as_Affine();
        view.type = OperatorType::affine;
        view.affine = {affine.weights()->data(), affine.bias()->data(),
                       static_cast<ActivationKind>(affine.activation()), cpu_of(model)};
      }
      break;
    case fb::OperatorKind::BranchingTrees:
      if constexpr (with_trees) {
        const fb::BranchingTrees& trees = *op.kind_as_BranchingTrees();
        view.type = OperatorType::branching_trees;
        view_trees(ensemble_of(trees), cpu_of(model), view.trees);
        view.trees.depth = trees.depth();
        view.trees.trees = trees.node_format() == fb::NodeFormat::Complete
                               ? trees.nodes()->size() / (2 * ((1u << trees.depth()) - 1))
                               : trees.tree_nodes()->size() - 1;
        view.trees.nodes = trees.nodes()->Data();
        view.trees.tree_nodes = trees.tree_nodes()->data();
        view.trees.tree_leaves = trees.tree_leaves()->data();
        view.trees.node_kind = static_cast<NodeKind>(trees.node_format());
      }
      break;
    case fb::OperatorKind::SymmetricTrees:
      if constexpr (with_trees) {
        const fb::SymmetricTrees& trees = *op.kind_as_SymmetricTrees();
        view.type = OperatorType::symmetric_trees;
        view_trees(ensemble_of(trees), cpu_of(model), view.trees);
        view.trees.depth = trees.depth();
        view.trees.trees = trees.splits()->size() / (2u * trees.depth());
        view.trees.nodes = trees.splits()->Data();
      }
      break;
    case fb::OperatorKind::Calibrate: {
      const fb::Calibrate& calibrate = *op.kind_as_Calibrate();
      view.type = OperatorType::calibrate;
      view.calibrate = {calibrate.method() == fb::CalibrationMethod::Isotonic,
                        calibrate.slope(),
                        calibrate.intercept(),
                        calibrate.x() == nullptr ? nullptr : calibrate.x()->data(),
                        calibrate.y() == nullptr ? nullptr : calibrate.y()->data(),
                        size_of(calibrate.x())};
      break;
    }
  }
  return view;
}

RecurrentLayerView recurrent_layer(const RecurrentView& view, uint32_t index) {
  return layer_view(*static_cast<const fb::Recurrent*>(view.table)->layers()->Get(index));
}

GoldenView golden_of(const tonearm_model& model) {
  const fb::Golden& golden = *root_of(model).golden();
  return {golden.rows()->data(), golden.outputs()->data(), golden.tolerance(), size_of(golden.events())};
}

GoldenEventView golden_event_at(const tonearm_model& model, uint32_t index) {
  const fb::GoldenEvent& event = *root_of(model).golden()->events()->Get(index);
  return {static_cast<GoldenKind>(event.kind()), event.time(), event.track_id(), event.artist_id(),
          event.horizon()};
}

RulesView rules_of(const tonearm_model& model) {
  const fb::SessionRule& session = *root_of(model).session();
  const fb::LabelRule& label = *root_of(model).label();
  return {session.idle_gap(), session.cap(),    label.level(),
          label.reasons(),    label.below_ms(), label.below_share()};
}

const uint8_t* fields_of(const tonearm_model& model) {
  return reinterpret_cast<const uint8_t*>(root_of(model).fields()->Data());
}

}  // namespace tonearm::runtime

extern "C" {

using namespace tonearm::runtime;

tonearm_status tonearm_model_open(tonearm_model* model, const void* blob, size_t size,
                                  const tonearm_open_options* options,
                                  tonearm_diagnostic* diagnostic) noexcept {
  if (model != nullptr) *model = tonearm_model{};
  if (diagnostic != nullptr && diagnostic->struct_size < offsetof(tonearm_diagnostic, line))
    return TONEARM_BAD_STRUCT_SIZE;
  tonearm_diagnostic found;  // filled field by field: a whole initial value with pointers would be data
  found.struct_size = sizeof found;
  found.index = found.element = no_index;
  found.reserved = 0;
  report(found, TONEARM_OK, "", "", 0, 0, 0);
  if (model == nullptr || blob == nullptr)
    report(found, TONEARM_NULL_ARGUMENT, model == nullptr ? "model" : "blob", "is not NULL", 0, 1);
  else if (options != nullptr && options->struct_size < offsetof(tonearm_open_options, cpu))
    report(found, TONEARM_BAD_STRUCT_SIZE, "options", "struct_size is set", options->struct_size,
           sizeof *options);
  else
    open(*model, static_cast<const uint8_t*>(blob), size, options != nullptr && options->skip_crc != 0,
         options != nullptr && options->struct_size >= offsetof(tonearm_open_options, session_limit)
             ? options->cpu
             : 0,
         options != nullptr && options->struct_size >= sizeof *options ? options->session_limit : 0, found);
  if (diagnostic != nullptr) hand_out(diagnostic, found);
  return found.status;
}

tonearm_status tonearm_model_info(const tonearm_model* model, tonearm_info* info) noexcept {
  if (model == nullptr || info == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  if (info->struct_size < offsetof(tonearm_info, cpu)) return TONEARM_BAD_STRUCT_SIZE;
  const Plan& plan = plan_of(*model);
  const fb::Model& root = root_of(*model);
  const fb::Card& card = *root.card();
  tonearm_info filled{};
  filled.model_id = root.crc32();
  filled.name = text(card.name());
  filled.version = text(card.version());
  filled.task = text(card.task());
  filled.label = text(card.label());
  filled.columns = plan.columns;
  filled.outputs = plan.output_count;
  filled.scratch_bytes = plan.scratch_bytes;
  filled.session_bytes = root.memory()->session_bytes();
  filled.blob_bytes = root.file_bytes();
  filled.golden_rows = plan.golden_rows;
  filled.format_major = root.format_major();
  filled.format_minor = root.format_minor();
  filled.synthetic = card.synthetic();
  filled.leaky = card.leaky();
  filled.cpu = plan.cpu;
  hand_out(info, filled);
  return TONEARM_OK;
}

tonearm_status tonearm_model_column_at(const tonearm_model* model, uint32_t index,
                                       tonearm_column* column) noexcept {
  if (model == nullptr || column == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  if (column->struct_size < offsetof(tonearm_column, extra)) return TONEARM_BAD_STRUCT_SIZE;
  if (index >= plan_of(*model).columns) return TONEARM_OUT_OF_RANGE;
  const fb::Model& root = root_of(*model);
  const fb::Column& found = *root.columns()->Get(index);
  uint32_t extra = no_index;
  if (root.session() != nullptr && root.fields()->Get(index) == fb::Field::Extra) {
    extra = 0;  // as many of the same source come before it
    for (uint32_t i = 0; i < index; ++i)
      extra +=
          root.fields()->Get(i) == fb::Field::Extra && root.columns()->Get(i)->source() == found.source();
  }
  hand_out(column, {0, index, text(found.name()), static_cast<tonearm_source>(found.source()),
                    size_of(found.vocabulary()), extra});
  return TONEARM_OK;
}

tonearm_status tonearm_model_column(const tonearm_model* model, const char* name, uint32_t* index) noexcept {
  if (model == nullptr || name == nullptr || index == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  const auto& columns = *root_of(*model).columns();
  for (uint32_t i = 0; i < columns.size(); ++i)
    if (same_text(*columns.Get(i)->name(), name)) {
      *index = i;
      return TONEARM_OK;
    }
  return TONEARM_NOT_FOUND;
}

tonearm_status tonearm_model_category(const tonearm_model* model, uint32_t column, const char* text,
                                      float* value) noexcept {
  if (model == nullptr || text == nullptr || value == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  if (column >= plan_of(*model).columns) return TONEARM_OUT_OF_RANGE;
  const auto* vocabulary = root_of(*model).columns()->Get(column)->vocabulary();
  for (uint32_t i = 0; i < size_of(vocabulary); ++i)
    if (same_text(*vocabulary->Get(i), text)) {
      *value = static_cast<float>(i);
      return TONEARM_OK;
    }
  return TONEARM_NOT_FOUND;
}

const char* tonearm_model_category_text(const tonearm_model* model, uint32_t column,
                                        uint32_t category) noexcept {
  if (model == nullptr || column >= plan_of(*model).columns || category >= category_count(*model, column))
    return nullptr;
  return text(root_of(*model).columns()->Get(column)->vocabulary()->Get(category));
}

}  // extern "C"
