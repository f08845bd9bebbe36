// Whatever the bytes, a blob is refused, or opened and then evaluated, without a checksum to save it. What is
// asked for is written, within bounds, and the same by every kernel.

#include <tonearm/tonearm.h>
#include <tonearm_schema/model_generated.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <vector>

namespace {

constexpr float numbers[] = {std::numeric_limits<float>::quiet_NaN(),
                             0,
                             -0.0f,
                             1,
                             -2.5f,
                             1e-36f,
                             std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::max()};
/// A NaN that nothing computes: what has these bits was not written.
constexpr std::uint32_t unwritten = 0x7fa5a5a5;
/// Larger sessions are legal, but slow to fuzz.
constexpr std::uint32_t session_limit = 1 << 18;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// Exactly as many bytes as were asked for, so that AddressSanitizer sees the one behind; and nothing in
/// them, so that MemorySanitizer sees what is read before it is written.
struct Bytes {
  explicit Bytes(std::size_t size) : size(size), bytes(new unsigned char[size]) {}
  std::size_t size;
  std::unique_ptr<unsigned char[]> bytes;
};

/// The answers of a model, in order.
class Answers {
 public:
  explicit Answers(const tonearm_info& info) : outputs_(info.outputs) {}

  /// Room for `count` more.
  float* next(std::size_t count) {
    values_.resize(values_.size() + count * outputs_, std::bit_cast<float>(unwritten));
    return values_.data() + values_.size() - count * outputs_;
  }
  /// After a call: what it should have written, or should not.
  void check(const float* from, tonearm_status status) const {
    for (const float* at = from; at != values_.data() + values_.size(); ++at)
      if ((std::bit_cast<std::uint32_t>(*at) == unwritten) == (status == TONEARM_OK))
        fail(status == TONEARM_OK ? "an output is not written"
                                  : "an output is written by a call that failed");
  }
  bool operator==(const Answers& other) const {
    return std::equal(values_.begin(), values_.end(), other.values_.begin(), other.values_.end(),
                      [](float a, float b) {
                        return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) ||
                               (std::isnan(a) && std::isnan(b));
                      });
  }

 private:
  std::size_t outputs_;
  std::vector<float> values_;
};

Answers evaluate_rows(const tonearm_model& model, const tonearm_info& info, Bytes& scratch) {
  std::vector<float> row(info.columns);
  Answers answers(info);
  for (std::size_t first = 0; first < std::size(numbers); ++first) {
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = numbers[(first + i) % std::size(numbers)];
    float* const out = answers.next(1);
    answers.check(out,
                  tonearm_evaluate(&model, row.data(), info.columns, scratch.bytes.get(), scratch.size, out));
  }
  return answers;
}

Answers play(const tonearm_model& model, const tonearm_info& info, Bytes& scratch) {
  Answers answers(info);
  Bytes memory(info.session_bytes), image(info.session_bytes);
  tonearm_session* session = nullptr;
  if (tonearm_session_init(&model, memory.bytes.get(), memory.size, &session) != TONEARM_OK)
    fail("no session can be made");
  std::vector<tonearm_event> events;
  const auto new_event = [&](tonearm_event_kind kind) -> tonearm_event& {
    tonearm_event& event = events.emplace_back();
    event.struct_size = sizeof event;
    event.kind = kind;
    tonearm_track_init(&event.track, sizeof event.track);
    tonearm_start_init(&event.start, sizeof event.start);
    tonearm_now_init(&event.now, sizeof event.now);
    tonearm_end_init(&event.end, sizeof event.end);
    return event;
  };
  const auto ask = [&](std::uint32_t kind, const std::vector<tonearm_track>& queue, const tonearm_now& now) {
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.kind = kind;
    request.candidates = queue.data();
    request.candidate_count = static_cast<std::uint32_t>(queue.size());
    request.now = &now;
    float* const out = answers.next(kind == TONEARM_PLAYING ? 1 : queue.size());
    answers.check(out, tonearm_predict(&model, session, &request, scratch.bytes.get(), scratch.size, out));
  };
  for (int tracks = 0; tracks < 4; ++tracks) {
    tonearm_event& started = new_event(TONEARM_EVENT_START);
    started.track.track_id = static_cast<std::uint64_t>(7 + tracks % 2);
    started.track.artist_id = 3;
    started.track.duration = numbers[tracks];
    started.track.extra = numbers;
    started.track.extra_count = std::size(numbers);
    started.now.time = 1530000000 + 1000 * tracks;
    started.now.extra = numbers;
    started.now.extra_count = static_cast<std::uint32_t>(tracks);
    const tonearm_event now = started;
    ask(TONEARM_QUEUE, std::vector<tonearm_track>(3, now.track), now.now);
    if (tonearm_track_start(&model, session, &now.track, &now.start, &now.now, scratch.bytes.get(),
                            scratch.size) != TONEARM_OK)
      fail("a track cannot start");
    ask(TONEARM_PLAYING, {}, now.now);
    ask(TONEARM_QUEUE, std::vector<tonearm_track>(2, now.track), now.now);
    tonearm_event& ended = new_event(TONEARM_EVENT_END);
    ended.end.ms_played = 9000 * numbers[tracks + 1];
    ended.end.reason = TONEARM_REASON_FWDBTN;
    if (tonearm_track_end(&model, session, &ended.end, scratch.bytes.get(), scratch.size) != TONEARM_OK)
      fail("a track cannot end");
  }
  ask(TONEARM_ALTERNATIVES, std::vector<tonearm_track>(2, events[0].track), events[0].now);

  // The same events give the same session; an image of it is loaded as it was.
  Bytes replayed(info.session_bytes), loaded(info.session_bytes);
  tonearm_session* other = nullptr;
  if (tonearm_session_init(&model, replayed.bytes.get(), replayed.size, &other) != TONEARM_OK ||
      tonearm_session_replay(&model, other, events.data(), events.size(), scratch.bytes.get(),
                             scratch.size) != TONEARM_OK)
    fail("the events cannot be replayed");
  if (!std::equal(memory.bytes.get(), memory.bytes.get() + memory.size, replayed.bytes.get()))
    fail("replayed events make another session");
  if (tonearm_session_save(&model, session, image.bytes.get(), image.size) != TONEARM_OK ||
      tonearm_session_load(&model, loaded.bytes.get(), loaded.size, image.bytes.get(), image.size, &other) !=
          TONEARM_OK)
    fail("a session cannot be saved and loaded");
  if (!std::equal(memory.bytes.get(), memory.bytes.get() + memory.size, loaded.bytes.get()))
    fail("a session is another after it was saved and loaded");
  return answers;
}

Answers answers_of(const tonearm_model& model) {
  tonearm_info info = {};
  info.struct_size = sizeof info;
  if (tonearm_model_info(&model, &info) != TONEARM_OK) fail("there is no information about an open model");
  Bytes scratch(tonearm_scratch_size(&model));
  float difference = 0;
  (void)tonearm_model_self_test(&model, scratch.bytes.get(), scratch.size, &difference);
  return info.session_bytes > 0 ? play(model, info, scratch) : evaluate_rows(model, info, scratch);
}

/// Whether every kernel gives the same bits: those of networks of floats may add up in another order.
bool is_alike(const std::uint8_t* blob) {
  using namespace tonearm::schema;
  for (const Operator* op : *GetModel(blob)->operators()) {
    const Recurrent* const recurrent = op->kind_as_Recurrent();
    if (recurrent != nullptr && recurrent->format() != WeightFormat::Int8) return false;
    const QuantizedAffine* const affine = op->kind_as_QuantizedAffine();
    if (affine != nullptr && affine->format() != WeightFormat::Int8) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::unique_ptr<std::uint8_t[]> blob(new std::uint8_t[size]);
  std::copy(data, data + size, blob.get());
  std::unique_ptr<Answers> first;
  for (const std::uint32_t cpu : {std::uint32_t{TONEARM_CPU_SCALAR}, std::uint32_t{TONEARM_CPU_SSSE3},
                                  std::uint32_t{TONEARM_CPU_AVX2}, 0u}) {
    const tonearm_open_options options = {sizeof options, 1, cpu, session_limit};
    tonearm_model model;
    if (tonearm_model_open(&model, blob.get(), size, &options, nullptr) != TONEARM_OK) return 0;
    if (tonearm_scratch_size(&model) > std::size_t{1} << 22) return 0;  // legal, but slow
    const Answers answers = answers_of(model);
    if (first == nullptr)
      first = std::make_unique<Answers>(answers);
    else if (is_alike(blob.get()) && !(answers == *first))
      fail("vectors compute something else than the scalar kernels");
  }
  return 0;
}
