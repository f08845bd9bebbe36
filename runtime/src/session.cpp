// Listening sessions: a few hundred bytes that the caller owns, changed by events and read by predictions.

#include <stddef.h>
#include <string.h>

#include "columns.h"
#include "crc32.h"
#include "evaluate.h"
#include "numbers.h"
#include "recurrent.h"

namespace tonearm::runtime {
namespace {

constexpr uint32_t session_magic = 0x53524154;  // "TARS"
constexpr uint32_t session_layout = 1;

/// Begins every session. Read and written as a whole, by memcpy: a session is aligned to 4 bytes only.
struct Header {
  uint32_t magic, layout, model_id, bytes;
  uint32_t crc;      // of an image; 0 in a session
  uint32_t playing;  // 0 or 1
  uint32_t ended;    // tracks in this session
  float skipped;     // whether the last one was
  float duration;    // of the playing track
  uint32_t reserved;
  int64_t began;                 // the first track of this session
  int64_t last_end;              // the last track that ended, also of an earlier session
  int64_t track_began;           // the playing track
  uint64_t track_id, artist_id;  // of the playing track, or of the last one
};
static_assert(sizeof(Header) == session_header_bytes);

Header read_header(const void* session) {
  Header header;
  memcpy(&header, session, sizeof header);
  return header;
}

void write_header(void* session, const Header& header) { memcpy(session, &header, sizeof header); }

/// The columns of the playing track, with their policies applied.
float* row_of(void* session) {
  return reinterpret_cast<float*>(static_cast<uint8_t*>(session) + sizeof(Header));
}
const float* row_of(const void* session) {
  return reinterpret_cast<const float*>(static_cast<const uint8_t*>(session) + sizeof(Header));
}

bool is_true(float value) { return !is_nan(value) && ordered(float_bits(value)) != 0; }

// ------------------------------------------------------------------------------------- aggregates

/// What a ring of ids keeps of one: 30 bits of its hash, and 2 bits of whether it was skipped. 0 is unknown.
uint32_t hashed(uint64_t id) {
  const uint32_t hash = static_cast<uint32_t>(id ^ id >> 32) * 0x9e3779b1u >> 2;
  return id == 0 ? 0 : hash == 0 ? 1 : hash;
}

/// What every element of an empty aggregate is.
float empty_state(const FeatureView& feature) {
  return feature.kind == EncoderKind::lag      ? feature.unknown
         : feature.kind == EncoderKind::window ? missing
                                               : 0.0f;
}

/// Takes in a track that has ended, whose values are in the slots.
void update_aggregate(const FeatureView& feature, const Header& header, const float* slots, float* state) {
  const uint16_t* in = feature.inputs;
  const uint32_t count = feature.input_count;
  switch (feature.kind) {
    case EncoderKind::lag:
    case EncoderKind::window:
      memmove(state + count, state, static_cast<size_t>(count) * (feature.length - 1) * sizeof(float));
      for (uint32_t i = 0; i < count; ++i) state[i] = stored(slots[in[i]]);
      break;
    case EncoderKind::mean: {
      const uint32_t outputs = feature.output_count;
      const float weight = feature.weighted ? slots[in[outputs]] : 1.0f;
      float* sums = state;
      float* weights = state + outputs;
      for (uint32_t i = 0; i < outputs; ++i) {
        const float value = slots[in[i]];
        const bool known = is_finite(value) && is_finite(weight);
        sums[i] = stored(sums[i] * feature.keep + (known ? weight * value : 0.0f));
        weights[i] = stored(weights[i] * feature.keep + (known ? weight : 0.0f));
      }
      break;
    }
    case EncoderKind::total:
      for (uint32_t i = 0; i < count; ++i)
        state[i] = stored(state[i] + (is_finite(slots[in[i]]) ? slots[in[i]] : 0.0f));
      break;
    case EncoderKind::streak:
      for (uint32_t i = 0; i < count; ++i) {
        const float value = slots[in[i]];
        if (!feature.same) {
          state[i] = is_true(value) ? state[i] + 1 : 0;
        } else {
          float& before = state[count + i];
          const bool goes_on = !is_nan(value) && !is_nan(before) && state[i] > 0 &&
                               ordered(float_bits(value)) == ordered(float_bits(before));
          state[i] = is_nan(value) ? 0 : goes_on ? state[i] + 1 : 1;
          before = stored(value);
        }
      }
      break;
    case EncoderKind::repeats: {
      const uint32_t id = hashed(feature.of_artist ? header.artist_id : header.track_id);
      const uint32_t entry = id << 2 | (is_nan(slots[in[0]]) ? 0u : is_true(slots[in[0]]) ? 2u : 1u);
      memmove(state + 1, state, static_cast<size_t>(feature.length - 1) * sizeof(float));
      memcpy(state, &entry, sizeof entry);
      break;
    }
    default:
      break;
  }
}

/// The outputs of an aggregate; a state of NULL is an empty one.
void read_aggregate(const FeatureView& feature, const float* state, uint64_t track_id, uint64_t artist_id,
                    float* slots) {
  float* out = slots + feature.output;
  const uint32_t count = feature.output_count;
  const float empty = empty_state(feature);
  const auto at = [&](uint32_t i) { return state == nullptr ? empty : state[i]; };
  switch (feature.kind) {
    case EncoderKind::lag:
    case EncoderKind::total:
    case EncoderKind::streak:
      for (uint32_t i = 0; i < count; ++i) out[i] = at(i);
      break;
    case EncoderKind::mean:
      for (uint32_t i = 0; i < count; ++i) {
        const float weight = at(count + i) + feature.prior_weight;
        const float sum = at(i) + feature.prior_weight * feature.prior;
        out[i] = is_true(weight) ? sum / weight : missing;
      }
      break;
    case EncoderKind::window:
      for (uint32_t i = 0; i < count; ++i) {
        float sum = 0, known = 0;
        for (uint32_t n = 0; n < feature.length; ++n) {
          const float value = at(n * count + i);
          if (is_nan(value)) continue;
          sum += value;
          known += 1;
        }
        out[i] = known > 0 ? sum / known : missing;
      }
      break;
    case EncoderKind::repeats: {
      const uint32_t id = hashed(feature.of_artist ? artist_id : track_id);
      uint32_t seen = 0, skipped = 0, last = 0;
      for (uint32_t n = id == 0 || state == nullptr ? 0 : feature.length; n > 0; --n) {
        uint32_t entry;
        memcpy(&entry, state + n - 1, sizeof entry);
        if (entry >> 2 != id) continue;
        ++seen;
        skipped += (entry & 3) == 2 ? 1 : 0;
        last = n;
      }
      out[0] = static_cast<float>(seen);
      out[1] = static_cast<float>(skipped);
      out[2] = last == 0 ? missing : static_cast<float>(last);
      break;
    }
    default:
      break;
  }
}

/// What recurrent operators keep, the last of a session.
uint32_t* recurrent_state(const Plan& plan, void* session) {
  return static_cast<uint32_t*>(session) + plan.session_bytes / 4 - plan.recurrent_elements;
}
const uint32_t* recurrent_state(const Plan& plan, const void* session) {
  return static_cast<const uint32_t*>(session) + plan.session_bytes / 4 - plan.recurrent_elements;
}

/// A network over the session, without what else a view of an operator holds: there may be little stack.
struct SessionNetwork {
  uint32_t input, output, output_count, shared_bytes;
  RecurrentView view;
};

/// Whether operator `index` is one.
TONEARM_OWN_FRAME bool session_network(const tonearm_model& model, uint32_t index, SessionNetwork& network) {
  const OperatorView op = operator_at(model, index);
  if (!with_recurrent || op.type != OperatorType::recurrent || !op.recurrent.session) return false;
  network = {op.input, op.output, op.output_count, shared_bytes(op), op.recurrent};
  return true;
}
uint32_t recurrent_elements([[maybe_unused]] const RecurrentView& view) {
  if constexpr (!with_recurrent)
    return 0;
  else
    return static_cast<uint32_t>(state_elements(recurrent_size(view), view.format, view.steps, view.width));
}

/// Empties the aggregates: all of them, or those that do not outlive a session; and what networks remember.
void reset_aggregates(const tonearm_model& model, const Plan& plan, void* session, bool all) {
  float* state = row_of(session) + plan.columns;
  for (uint32_t i = plan.first_context_feature; i < plan.features; ++i) {
    const FeatureView feature = feature_at(model, i);
    const uint32_t size = state_size(feature);
    if (all || !feature.carries)
      for (uint32_t n = 0; n < size; ++n) state[n] = empty_state(feature);
    state += size;
  }
  memset(recurrent_state(plan, session), 0, plan.recurrent_elements * sizeof(float));
}

// ----------------------------------------------------------------------------------------- events

void make_empty(const tonearm_model& model, const Plan& plan, void* session) {
  Header header = {};
  header.magic = session_magic;
  header.layout = session_layout;
  header.model_id = plan.model_id;
  header.bytes = plan.session_bytes;
  header.skipped = header.duration = missing;
  header.began = header.last_end = header.track_began = TONEARM_UNKNOWN_TIME;
  write_header(session, header);
  for (uint32_t i = 0; i < plan.columns; ++i) row_of(session)[i] = missing;
  reset_aggregates(model, plan, session, true);
}

void begin_session(const tonearm_model& model, const Plan& plan, void* session) {
  Header header = read_header(session);
  header.playing = 0;
  header.ended = 0;
  header.skipped = missing;
  header.began = TONEARM_UNKNOWN_TIME;
  write_header(session, header);
  reset_aggregates(model, plan, session, false);
}

/// Seconds from one time to another, at least 0; NaN if either is unknown.
float seconds_between(int64_t from, int64_t to) {
  if (from == TONEARM_UNKNOWN_TIME || to == TONEARM_UNKNOWN_TIME) return missing;
  if (to <= from) return 0;
  const uint64_t seconds = static_cast<uint64_t>(to) - static_cast<uint64_t>(from);
  return static_cast<float>(seconds > INT32_MAX ? INT32_MAX : static_cast<int32_t>(seconds));
}

/// Whether a track that starts at `now` begins a new session.
bool begins_session(const RulesView& rules, const Header& header, int64_t now) {
  if (header.ended == 0) return false;
  if (rules.cap != 0 && header.ended >= rules.cap) return true;
  if (rules.idle_gap == 0 || now == TONEARM_UNKNOWN_TIME || header.last_end == TONEARM_UNKNOWN_TIME ||
      now <= header.last_end)
    return false;
  return static_cast<uint64_t>(now) - static_cast<uint64_t>(header.last_end) > rules.idle_gap;
}

/// Takes a step of every network that reads the session.
TONEARM_OWN_FRAME void take_steps(const tonearm_model& model, const Plan& plan, void* session, float* slots) {
  uint32_t* memory = recurrent_state(plan, session);
  uint8_t* work = reinterpret_cast<uint8_t*>(slots + plan.slots);
  for (uint32_t i = 0; i < plan.first_candidate_operator; ++i) {
    SessionNetwork network;
    if (!session_network(model, i, network)) continue;
    if constexpr (with_recurrent) take_step(network.view, slots + network.input, memory, work);
    memory += recurrent_elements(network.view);
  }
}

/// What has ended is in the slots: the aggregates take it in.
TONEARM_OWN_FRAME void update_aggregates(const tonearm_model& model, const Plan& plan, void* session,
                                         const Header& header, float* slots) {
  for (uint32_t i = 0; i < plan.first_context_feature; ++i) run_feature(feature_at(model, i), slots);
  float* state = row_of(session) + plan.columns;
  for (uint32_t i = plan.first_context_feature; i < plan.features; ++i) {
    const FeatureView feature = feature_at(model, i);
    if (!is_aggregate(feature.kind)) continue;
    update_aggregate(feature, header, slots, state);
    state += state_size(feature);
  }
}

/// The history part: the row in the session, its end columns filled in, is what has ended.
void end_track(const tonearm_model& model, const Plan& plan, void* session, Header& header, int64_t time,
               float* slots) {
  memcpy(slots, row_of(session), plan.columns * sizeof(float));
  update_aggregates(model, plan, session, header, slots);
  if (with_recurrent && plan.recurrent_elements > 0) take_steps(model, plan, session, slots);
  header.playing = 0;
  if (header.ended < UINT32_MAX) ++header.ended;
  header.last_end = time;
}

/// What is told of a track that starts, but for its row, which the caller fills in afterwards.
struct Started {
  int64_t time;
  uint64_t track_id, artist_id;
  float duration;
};

/// Ends a track that still plays when another one starts.
TONEARM_OWN_FRAME void end_playing(const tonearm_model& model, const Plan& plan, void* session, int64_t time,
                                   float* scratch) {
  Header header = read_header(session);
  if (header.playing == 0) return;
  read_end(model, plan, nullptr, {TONEARM_SKIP_UNKNOWN, missing}, missing, row_of(session));
  apply_policy(model, plan, plan.first_end, plan.columns, row_of(session), row_of(session));
  header.skipped = missing;
  end_track(model, plan, session, header, time, scratch);
  write_header(session, header);
}

TONEARM_OWN_FRAME void begin_playing(const tonearm_model& model, const Plan& plan, void* session,
                                     const Started& started) {
  Header header = read_header(session);
  if (begins_session(rules_of(model), header, started.time)) begin_session(model, plan, session);
  header = read_header(session);
  if (header.ended == 0 || header.began == TONEARM_UNKNOWN_TIME) header.began = started.time;
  header.playing = 1;
  header.track_began = started.time;
  header.track_id = started.track_id;
  header.artist_id = started.artist_id;
  header.duration = started.duration;
  write_header(session, header);
}

/// The scratch is used for the end of a track that still plays.
void start_track(const tonearm_model& model, const Plan& plan, void* session, const Started& started,
                 float* scratch) {
  end_playing(model, plan, session, started.time, scratch);
  begin_playing(model, plan, session, started);
}

int64_t later(int64_t time, float ms) {
  // Within a day or so, so that the sum is exact and cannot overflow.
  if (time == TONEARM_UNKNOWN_TIME || !(ms >= 0 && ms < 1e9f) || time > INT64_MAX - 1000000) return time;
  return time + static_cast<int32_t>(ms / 1000.0f);
}

// ------------------------------------------------------------------------------------ predictions

/// Views of the candidate part that are looked up once for all candidates: as many as there is stack for.
template <typename View, uint32_t most>
struct Kept {
  View views[most];
  void keep(uint32_t place, const View& view) {
    if (place < most) views[place] = view;
  }
  const View* at(uint32_t place) const { return place < most ? &views[place] : nullptr; }
};
template <typename View>
struct Kept<View, 0> {
  void keep(uint32_t, const View&) {}
  const View* at(uint32_t) const { return nullptr; }
};

/// A call's question about one candidate after another. Lays out the scratch: slots, then what each ensemble
/// shares and each network works in. (What is left of it is for a self-test's own session.)
class Prediction {
 public:
  Prediction(const tonearm_model& model, const void* session, void* scratch)
      : model_(model),
        plan_(plan_of(model)),
        session_(session),
        header_(read_header(session)),
        slots_(static_cast<float*>(scratch)),
        candidate_shared_(static_cast<uint8_t*>(scratch) + static_cast<size_t>(plan_.slots) * sizeof(float)) {
  }

  float* slots() { return slots_; }
  const Header& header() const { return header_; }

  /// The context part. The columns of Now and Start are in the slots.
  TONEARM_OWN_FRAME void context(bool of_playing, int64_t now) {
    of_playing_ = of_playing;
    now_ = now;
    begins_ = header_.playing == 0 && begins_session(rules_of(model_), header_, now);
    if (begins_) {
      header_.ended = 0;
      header_.began = TONEARM_UNKNOWN_TIME;
    }
    candidate_state_ = row_of(session_) + plan_.columns;
    run_features(plan_.first_context_feature, plan_.first_candidate_feature, candidate_state_);
    for (uint32_t i = 0; i < most_features && plan_.first_candidate_feature + i < plan_.features; ++i)
      features_.keep(i, feature_at(model_, plan_.first_candidate_feature + i));
    uint8_t* shared = candidate_shared_;
    const uint32_t* memory = recurrent_state(plan_, session_);
    for (uint32_t i = 0; i < plan_.operators; ++i) {
      if (i >= plan_.first_candidate_operator || plan_.recurrent_elements == 0 || !read(i, shared, memory))
        run_in_context(i, shared);
      if (i + 1 == plan_.first_candidate_operator) candidate_shared_ = shared;
    }
  }

  /// The candidate part. The columns of Track are in the slots.
  TONEARM_OWN_FRAME const float* candidate(uint64_t track_id, uint64_t artist_id, uint32_t horizon) {
    track_id_ = track_id;
    artist_id_ = artist_id;
    horizon_ = horizon;
    const float* state = candidate_state_;
    run_features(plan_.first_candidate_feature, plan_.features, state);
    uint8_t* shared = candidate_shared_;
    const auto run_one = [&](const OperatorView& op) {
      run_shared_operator(op, slots_, shared);
      shared += shared_bytes(op);
    };
    for (uint32_t i = plan_.first_candidate_operator; i < plan_.operators; ++i) {
      if (const OperatorView* op = operators_.at(i - plan_.first_candidate_operator))
        run_one(*op);
      else
        run_one(operator_at(model_, i));
    }
    return slots_ + plan_.output;
  }

 private:
  /// The outputs of operator i, if it is a network over the session.
  TONEARM_OWN_FRAME bool read(uint32_t i, uint8_t*& shared, const uint32_t*& memory) {
    SessionNetwork network;
    if (!session_network(model_, i, network)) return false;
    if constexpr (with_recurrent) {
      read_outputs(network.view, network.output_count, begins_ ? nullptr : memory, slots_ + network.output,
                   shared);
      memory += recurrent_elements(network.view);
      shared += network.shared_bytes;
    }
    return true;
  }

  TONEARM_OWN_FRAME void run_in_context(uint32_t i, uint8_t*& shared) {
    const OperatorView op = operator_at(model_, i);
    if (i < plan_.first_candidate_operator) {
      run_operator(op, slots_, shared);
    } else {
      share_operator(op, slots_, shared);
      operators_.keep(i - plan_.first_candidate_operator, op);
    }
    shared += shared_bytes(op);
  }

  TONEARM_OWN_FRAME void run_features(uint32_t first, uint32_t last, const float*& state) {
    for (uint32_t i = first; i < last; ++i) {
      const bool of_candidate = i >= plan_.first_candidate_feature;
      const FeatureView* kept = of_candidate ? features_.at(i - plan_.first_candidate_feature) : nullptr;
      if (kept != nullptr)
        run(*kept, state);
      else
        run(feature_at(model_, i), state);
    }
  }

  void run(const FeatureView& feature, const float*& state) {
    if (feature.kind == EncoderKind::fact)
      slots_[feature.output] = fact(feature.fact);
    else if (is_aggregate(feature.kind))
      read_aggregate(feature, begins_ && !feature.carries ? nullptr : state, track_id_, artist_id_, slots_);
    else
      run_feature(feature, slots_);
    state += state_size(feature);
  }

  float fact(FactKind kind) const {
    switch (kind) {
      case FactKind::horizon:
        return static_cast<float>(horizon_);
      case FactKind::position:
        return static_cast<float>(header_.ended) + static_cast<float>(horizon_);
      case FactKind::gap:
        return header_.playing != 0 ? seconds_between(header_.last_end, header_.track_began) : missing;
      case FactKind::elapsed:
        return seconds_between(header_.began, now_);
      case FactKind::playing:
        break;
    }
    return of_playing_ ? 1.0f : 0.0f;
  }

#ifdef TONEARM_SMALL
  static constexpr uint32_t most_operators = 0, most_features = 0;
#else
  static constexpr uint32_t most_operators = 2, most_features = 4;  // an ensemble and its link
#endif

  const tonearm_model& model_;
  const Plan& plan_;
  const void* session_;
  Header header_;
  float* slots_;
  bool of_playing_ = false;
  bool begins_ = false;  // the next track begins a new session
  int64_t now_ = TONEARM_UNKNOWN_TIME;
  uint64_t track_id_ = 0, artist_id_ = 0;
  uint32_t horizon_ = 1;
  const float* candidate_state_ = nullptr;
  uint8_t* candidate_shared_;
  Kept<OperatorView, most_operators> operators_;
  Kept<FeatureView, most_features> features_;
};

tonearm_status check_model(const tonearm_model* model) {
  if (model == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  return plan_of(*model).has_session() ? TONEARM_OK : TONEARM_NOT_A_SESSION_MODEL;
}

bool is_session_of(const Plan& plan, const Header& header) {
  return header.magic == session_magic && header.layout == session_layout &&
         header.model_id == plan.model_id && header.bytes == plan.session_bytes;
}

tonearm_status check_session(const tonearm_model* model, const void* session) {
  if (model == nullptr || session == nullptr) return TONEARM_NULL_ARGUMENT;
  if (const tonearm_status status = check_model(model); status != TONEARM_OK) return status;
  if (reinterpret_cast<uintptr_t>(session) % alignof(float) != 0) return TONEARM_MISALIGNED;
  return is_session_of(plan_of(*model), read_header(session)) ? TONEARM_OK : TONEARM_WRONG_SESSION;
}

tonearm_status check_call(const tonearm_model* model, const void* session, const void* scratch, size_t size) {
  if (scratch == nullptr) return TONEARM_NULL_ARGUMENT;
  const tonearm_status status = check_session(model, session);
  return status != TONEARM_OK ? status : check_scratch(plan_of(*model), scratch, size);
}

/// The struct at `at` within an event of `size` bytes, and `at` moved behind it; null where it does not fit.
template <typename Struct>
const Struct* next_struct(const uint8_t* event, size_t& at, size_t size) {
  if (size - at < sizeof(Struct)) return nullptr;
  const auto* found = reinterpret_cast<const Struct*>(event + at);
  const size_t bytes = found->struct_size;
  if (bytes < sizeof(Struct) || bytes % alignof(Struct) != 0 || bytes > size - at) return nullptr;
  at += bytes;
  return found;
}

/// The candidates of a request and, for leaky models, their outcomes: structs `stride` bytes apart.
struct Candidates {
  uint32_t count;
  const uint8_t* tracks;  // null where it is about the playing track
  size_t stride;
  const uint8_t* ends;  // null where there are none
  size_t end_stride;

  const tonearm_track* track(uint32_t i) const {
    return reinterpret_cast<const tonearm_track*>(tracks + i * stride);
  }
  const tonearm_end* end(uint32_t i) const {
    return reinterpret_cast<const tonearm_end*>(ends == nullptr ? nullptr : ends + i * end_stride);
  }
};

/// Checks a request before anything is written.
TONEARM_OWN_FRAME tonearm_status read_request(const Plan& plan, bool playing, const tonearm_request* request,
                                              Candidates& candidates) {
  constexpr uint32_t most = 1000000;
  if (request->struct_size < sizeof *request) return TONEARM_BAD_STRUCT_SIZE;
  if (request->kind < TONEARM_PLAYING || request->kind > TONEARM_ALTERNATIVES) return TONEARM_OUT_OF_RANGE;
  tonearm_status status = check_struct(request->now);
  if (status != TONEARM_OK) return status;
  candidates = {1, nullptr, 0, nullptr, 0};
  if (request->kind == TONEARM_PLAYING) {
    if (!playing) return TONEARM_NOTHING_PLAYING;
  } else {
    candidates.count = request->candidate_count;
    if (candidates.count > most || (request->kind == TONEARM_ALTERNATIVES && request->place > most))
      return TONEARM_OUT_OF_RANGE;
    if (candidates.count == 0) return TONEARM_OK;
    if (request->candidates == nullptr) return TONEARM_NULL_ARGUMENT;
    candidates.tracks = reinterpret_cast<const uint8_t*>(request->candidates);
    candidates.stride = request->candidates->struct_size;
  }
  if (plan.leaky != 0 && request->outcomes != nullptr) {
    candidates.ends = reinterpret_cast<const uint8_t*>(request->outcomes);
    candidates.end_stride = request->outcomes->struct_size;
  }
  for (uint32_t i = 0; i < candidates.count && status == TONEARM_OK; ++i) {
    if (candidates.tracks != nullptr) {
      if (candidates.track(i)->struct_size != candidates.stride) return TONEARM_BAD_STRUCT_SIZE;
      status = check_struct(candidates.track(i));
    }
    if (status == TONEARM_OK && candidates.ends != nullptr) {
      if (candidates.end(i)->struct_size != candidates.end_stride) return TONEARM_BAD_STRUCT_SIZE;
      status = check_struct(candidates.end(i));
    }
  }
  return status;
}

/// Fills the slots of Now and Start for a request; the time that it is about.
TONEARM_OWN_FRAME int64_t fill_context(const tonearm_model& model, const Plan& plan, const Header& header,
                                       const float* row, const tonearm_request* request, float* slots) {
  const bool of_playing = request->kind == TONEARM_PLAYING;
  if (header.playing != 0) {
    memcpy(slots, row, plan.columns * sizeof(float));
  } else {
    read_start(model, plan, nullptr, slots);
    apply_policy(model, plan, plan.first_start, plan.first_end, slots, slots);
  }
  if (!of_playing || request->now != nullptr) {
    read_now(model, plan, request->now, slots);
    apply_policy(model, plan, plan.first_now, plan.first_start, slots, slots);
  }
  return request->now != nullptr ? request->now->time
         : of_playing            ? header.track_began
                                 : TONEARM_UNKNOWN_TIME;
}

/// Fills the slots of Track (and End) for a candidate, the playing track if `track` is NULL.
TONEARM_OWN_FRAME void fill_candidate(const tonearm_model& model, const Plan& plan,
                                      const tonearm_track* track, const tonearm_end* end, float duration,
                                      float* slots) {
  if (track != nullptr) {
    read_track(model, plan, track, slots);
    apply_policy(model, plan, 0, plan.first_now, slots, slots);
  }
  if (plan.leaky != 0) {
    read_end(model, plan, end, outcome_of(rules_of(model), end, duration), duration, slots);
    apply_policy(model, plan, plan.first_end, plan.columns, slots, slots);
  }
}

uint32_t image_crc(const uint8_t* image, uint32_t bytes) {
  static constexpr uint8_t zeros[4] = {};
  constexpr size_t at = offsetof(Header, crc);
  uint32_t crc = crc32(0, image, at);
  crc = crc32(crc, zeros, sizeof zeros);
  return crc32(crc, image + at + 4, bytes - at - 4);
}

TONEARM_OWN_FRAME void end_golden(const tonearm_model& model, const Plan& plan, void* session,
                                  const float* row, int64_t time, float* slots) {
  Header header = read_header(session);
  if (header.playing == 0) return;
  for (uint32_t i = plan.first_end; i < plan.columns; ++i) row_of(session)[i] = row[i];
  apply_policy(model, plan, plan.first_end, plan.columns, row_of(session), row_of(session));
  end_track(model, plan, session, header, time, slots);
  write_header(session, header);
}

TONEARM_OWN_FRAME const float* predict_golden(const tonearm_model& model, const Plan& plan, void* session,
                                              const float* row, int64_t time, const GoldenEventView& event,
                                              void* scratch) {
  const bool of_playing = event.horizon == 0;
  Prediction prediction(model, session, scratch);
  float* slots = prediction.slots();
  for (uint32_t i = 0; i < plan.columns; ++i) slots[i] = row[i];
  apply_policy(model, plan, 0, plan.columns, slots, slots);
  prediction.context(of_playing, time);
  return prediction.candidate(event.track_id, event.artist_id, of_playing ? 1 : event.horizon);
}

}  // namespace

float replay_golden(const tonearm_model& model, const Plan& plan, void* scratch) {
  const GoldenView golden = golden_of(model);
  float* slots = static_cast<float*>(scratch);
  void* session = static_cast<uint8_t*>(scratch) + plan.scratch_bytes - plan.session_bytes;
  make_empty(model, plan, session);
  float largest = 0;
  const float* expected = golden.outputs;
  for (uint32_t n = 0; n < golden.events; ++n) {
    const GoldenEventView event = golden_event_at(model, n);
    const float* row = golden.rows + static_cast<size_t>(n) * plan.columns;
    const int64_t time = event.time == 0 ? TONEARM_UNKNOWN_TIME : event.time;
    if (event.kind == GoldenKind::start) {
      start_track(model, plan, session, {time, event.track_id, event.artist_id, missing}, slots);
      memcpy(row_of(session), row, plan.columns * sizeof(float));
      apply_policy(model, plan, 0, plan.columns, row_of(session), row_of(session));
    } else if (event.kind == GoldenKind::end) {
      end_golden(model, plan, session, row, time, slots);
    } else {
      const float* out = predict_golden(model, plan, session, row, time, event, scratch);
      for (uint32_t i = 0; i < plan.output_count; ++i)
        largest = larger_difference(largest, out[i], *expected++);
    }
  }
  return largest;
}

}  // namespace tonearm::runtime

extern "C" {

using namespace tonearm::runtime;

size_t tonearm_session_size(const tonearm_model* model) noexcept {
  return model == nullptr ? 0 : plan_of(*model).session_bytes;
}

tonearm_status tonearm_session_init(const tonearm_model* model, void* memory, size_t size,
                                    tonearm_session** session) noexcept {
  if (model == nullptr || memory == nullptr || session == nullptr) return TONEARM_NULL_ARGUMENT;
  if (const tonearm_status status = check_model(model); status != TONEARM_OK) return status;
  if (reinterpret_cast<uintptr_t>(memory) % alignof(float) != 0) return TONEARM_MISALIGNED;
  const Plan& plan = plan_of(*model);
  if (size < plan.session_bytes) return TONEARM_SESSION_TOO_SMALL;
  make_empty(*model, plan, memory);
  *session = static_cast<tonearm_session*>(memory);
  return TONEARM_OK;
}

tonearm_status tonearm_session_reset(const tonearm_model* model, tonearm_session* session) noexcept {
  const tonearm_status status = check_session(model, session);
  if (status == TONEARM_OK) begin_session(*model, plan_of(*model), session);
  return status;
}

tonearm_status tonearm_session_save(const tonearm_model* model, const tonearm_session* session, void* image,
                                    size_t size) noexcept {
  if (image == nullptr) return TONEARM_NULL_ARGUMENT;
  if (const tonearm_status status = check_session(model, session); status != TONEARM_OK) return status;
  const uint32_t bytes = plan_of(*model).session_bytes;
  if (size < bytes) return TONEARM_SESSION_TOO_SMALL;
  memcpy(image, session, bytes);
  const uint32_t crc = image_crc(static_cast<const uint8_t*>(image), bytes);
  memcpy(static_cast<uint8_t*>(image) + offsetof(Header, crc), &crc, sizeof crc);
  return TONEARM_OK;
}

tonearm_status tonearm_session_load(const tonearm_model* model, void* memory, size_t size, const void* image,
                                    size_t image_size, tonearm_session** session) noexcept {
  if (model == nullptr || memory == nullptr || image == nullptr || session == nullptr)
    return TONEARM_NULL_ARGUMENT;
  if (const tonearm_status status = check_model(model); status != TONEARM_OK) return status;
  if (reinterpret_cast<uintptr_t>(memory) % alignof(float) != 0) return TONEARM_MISALIGNED;
  const Plan& plan = plan_of(*model);
  if (size < plan.session_bytes) return TONEARM_SESSION_TOO_SMALL;
  if (image_size < sizeof(uint32_t)) return TONEARM_SESSION_CORRUPT;
  uint32_t magic;
  memcpy(&magic, image, sizeof magic);
  if (magic != session_magic) return TONEARM_WRONG_SESSION;
  if (image_size < sizeof(Header)) return TONEARM_SESSION_CORRUPT;
  Header header = read_header(image);
  if (!is_session_of(plan, header)) return TONEARM_WRONG_SESSION;
  // Nothing in a session is an index. One flag could be out of range; a count of steps beyond the ring is
  // limited when it is read.
  if (image_size != plan.session_bytes || header.playing > 1 || header.reserved != 0 ||
      header.crc != image_crc(static_cast<const uint8_t*>(image), plan.session_bytes))
    return TONEARM_SESSION_CORRUPT;
  memcpy(memory, image, plan.session_bytes);
  header.crc = 0;
  write_header(memory, header);
  *session = static_cast<tonearm_session*>(memory);
  return TONEARM_OK;
}

tonearm_status tonearm_track_start(const tonearm_model* model, tonearm_session* session,
                                   const tonearm_track* track, const tonearm_start* start,
                                   const tonearm_now* now, void* scratch, size_t scratch_size) noexcept {
  tonearm_status status = check_call(model, session, scratch, scratch_size);
  if (status == TONEARM_OK) status = check_struct(track);
  if (status == TONEARM_OK) status = check_struct(start);
  if (status == TONEARM_OK) status = check_struct(now);
  if (status != TONEARM_OK) return status;
  const Plan& plan = plan_of(*model);
  Started started = {TONEARM_UNKNOWN_TIME, 0, 0, missing};
  if (now != nullptr) started.time = now->time;
  if (track != nullptr) {
    started.track_id = track->track_id;
    started.artist_id = track->artist_id;
    started.duration = stored(track->duration);
  }
  start_track(*model, plan, session, started, static_cast<float*>(scratch));
  float* row = row_of(session);
  read_track(*model, plan, track, row);
  read_now(*model, plan, now, row);
  read_start(*model, plan, start, row);
  read_end(*model, plan, nullptr, {TONEARM_SKIP_UNKNOWN, missing}, missing, row);
  apply_policy(*model, plan, 0, plan.columns, row, row);
  return TONEARM_OK;
}

tonearm_status tonearm_track_end(const tonearm_model* model, tonearm_session* session, const tonearm_end* end,
                                 void* scratch, size_t scratch_size) noexcept {
  tonearm_status status = check_call(model, session, scratch, scratch_size);
  if (status == TONEARM_OK) status = check_struct(end);
  if (status != TONEARM_OK) return status;
  const Plan& plan = plan_of(*model);
  Header header = read_header(session);
  if (header.playing == 0) return TONEARM_NOTHING_PLAYING;
  const Outcome outcome = outcome_of(rules_of(*model), end, header.duration);
  float* row = row_of(session);
  read_end(*model, plan, end, outcome, header.duration, row);
  apply_policy(*model, plan, plan.first_end, plan.columns, row, row);
  const int64_t time = end != nullptr && end->time != TONEARM_UNKNOWN_TIME
                           ? end->time
                           : later(header.track_began, end == nullptr ? missing : end->ms_played);
  header.skipped = outcome.skipped;
  end_track(*model, plan, session, header, time, static_cast<float*>(scratch));
  write_header(session, header);
  return TONEARM_OK;
}

tonearm_status tonearm_predict(const tonearm_model* model, const tonearm_session* session,
                               const tonearm_request* request, void* scratch, size_t scratch_size,
                               float* out) noexcept {
  if (request == nullptr || out == nullptr) return TONEARM_NULL_ARGUMENT;
  tonearm_status status = check_call(model, session, scratch, scratch_size);
  if (status != TONEARM_OK) return status;
  const Plan& plan = plan_of(*model);
  Prediction prediction(*model, session, scratch);
  const Header& header = prediction.header();
  Candidates candidates;
  status = read_request(plan, header.playing != 0, request, candidates);
  if (status != TONEARM_OK) return status;

  float* slots = prediction.slots();
  const int64_t now = fill_context(*model, plan, header, row_of(session), request, slots);
  const bool of_playing = request->kind == TONEARM_PLAYING;
  prediction.context(of_playing, now);
  for (uint32_t i = 0; i < candidates.count; ++i, out += plan.output_count) {
    const tonearm_track* track = of_playing ? nullptr : candidates.track(i);
    fill_candidate(*model, plan, track, candidates.end(i), of_playing ? header.duration : track->duration,
                   slots);
    const uint32_t place = request->kind == TONEARM_QUEUE ? i : request->place;
    const float* answer =
        of_playing ? prediction.candidate(header.track_id, header.artist_id, 1)
                   : prediction.candidate(track->track_id, track->artist_id, 1 + header.playing + place);
    memcpy(out, answer, plan.output_count * sizeof(float));
  }
  return TONEARM_OK;
}

tonearm_status tonearm_session_replay(const tonearm_model* model, tonearm_session* session,
                                      const tonearm_event* events, size_t count, void* scratch,
                                      size_t scratch_size) noexcept {
  tonearm_status status = check_call(model, session, scratch, scratch_size);
  if (status != TONEARM_OK) return status;
  if (events == nullptr && count > 0) return TONEARM_NULL_ARGUMENT;
  make_empty(*model, plan_of(*model), session);
  const size_t stride = count > 0 ? events->struct_size : 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(events);
  for (size_t i = 0; i < count && status == TONEARM_OK; ++i, bytes += stride) {
    const auto* event = reinterpret_cast<const tonearm_event*>(bytes);
    if (event->struct_size < sizeof *event || event->struct_size != stride ||
        stride % alignof(tonearm_event) != 0)
      return TONEARM_BAD_STRUCT_SIZE;
    // The structs of an event follow on each other in the sizes that its writer knew.
    size_t at = offsetof(tonearm_event, track);
    const auto* track = next_struct<tonearm_track>(bytes, at, stride);
    const auto* start = next_struct<tonearm_start>(bytes, at, stride);
    const auto* now = next_struct<tonearm_now>(bytes, at, stride);
    const auto* end = next_struct<tonearm_end>(bytes, at, stride);
    if (track == nullptr || start == nullptr || now == nullptr || end == nullptr)
      return TONEARM_BAD_STRUCT_SIZE;
    if (event->kind == TONEARM_EVENT_START) {
      status = tonearm_track_start(model, session, track, start, now, scratch, scratch_size);
    } else if (event->kind == TONEARM_EVENT_END) {
      status = tonearm_track_end(model, session, end, scratch, scratch_size);
      if (status == TONEARM_NOTHING_PLAYING) status = TONEARM_OK;  // the log began in the middle
    } else if (event->kind == TONEARM_EVENT_RESET) {
      status = tonearm_session_reset(model, session);
    } else {
      status = TONEARM_OUT_OF_RANGE;
    }
  }
  return status;
}

tonearm_status tonearm_session_describe(const tonearm_model* model, const tonearm_session* session,
                                        tonearm_session_info* info) noexcept {
  if (info == nullptr) return TONEARM_NULL_ARGUMENT;
  if (const tonearm_status status = check_session(model, session); status != TONEARM_OK) return status;
  if (info->struct_size < sizeof *info) return TONEARM_BAD_STRUCT_SIZE;
  const Header header = read_header(session);
  info->playing = header.playing;
  info->ended = header.ended;
  info->skipped = header.skipped;
  info->track_id = header.track_id;
  return TONEARM_OK;
}

}  // extern "C"
