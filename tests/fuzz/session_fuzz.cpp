// Whatever a player tells a session: calls are refused and change nothing, or are done; the same events make
// the same session, by every kernel; an image is loaded as it was saved; and whatever an image holds, it is
// refused, or a session that does no harm.

#include <tonearm/tonearm.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// The session models among the golden blobs, opened by plain kernels and by the best.
struct Model {
  std::vector<std::uint32_t> blob;
  tonearm_model plain, best;
  tonearm_info info;
  bool alike;  // both give the same bits
};

const std::vector<Model>& models() {
  static const std::vector<Model> all = [] {
    namespace fs = std::filesystem;
    std::vector<fs::path> paths;
    for (const fs::directory_entry& entry :
         fs::recursive_directory_iterator(TONEARM_SOURCE_DIR "/tests/conformance"))
      if (entry.path().extension() == ".tarm" && entry.path().filename().string().starts_with("session-"))
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    std::vector<Model> found;
    for (const fs::path& path : paths) {
      std::ifstream file(path, std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      Model model = {};
      model.blob.resize((bytes.size() + 3) / 4);
      std::memcpy(model.blob.data(), bytes.data(), bytes.size());
      const tonearm_open_options scalar = {sizeof scalar, 0, TONEARM_CPU_SCALAR, 0};
      if (tonearm_model_open(&model.plain, model.blob.data(), bytes.size(), &scalar, nullptr) != TONEARM_OK ||
          tonearm_model_open(&model.best, model.blob.data(), bytes.size(), nullptr, nullptr) != TONEARM_OK)
        fail("a golden blob does not open");
      model.info.struct_size = sizeof model.info;
      tonearm_model_info(&model.plain, &model.info);
      model.alike = path.filename().string().find("float") == std::string::npos;
      found.push_back(std::move(model));
    }
    if (found.size() < 10) fail("the golden blobs are missing");
    return found;
  }();
  return all;
}

/// The input, as numbers; zeros behind its end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  bool empty() const { return at_ == end_; }
  std::uint8_t byte() { return at_ == end_ ? std::uint8_t{0} : *at_++; }
  template <typename T>
  T whole() {
    T value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i) value = static_cast<T>(value << 4 << 4 | byte());
    return value;
  }
  float real() {
    constexpr float infinity = std::numeric_limits<float>::infinity(),
                    huge = std::numeric_limits<float>::max();
    static constexpr float numbers[] = {std::numeric_limits<float>::quiet_NaN(),
                                        0,
                                        1,
                                        -1,
                                        infinity,
                                        -infinity,
                                        huge,
                                        -huge,
                                        1e-45f,
                                        -0.0f,
                                        0.5f,
                                        2018,
                                        120,
                                        30000};
    const std::uint8_t choice = byte();
    if (choice < std::size(numbers)) return numbers[choice];
    return choice < 200 ? static_cast<float>(choice) : std::bit_cast<float>(whole<std::uint32_t>());
  }
  std::uint32_t enumerator() {
    const std::uint8_t value = byte();
    return value < 250 ? value % 20u : whole<std::uint32_t>();
  }
  std::uint64_t id() {
    const std::uint8_t value = byte();
    return value < 250 ? value % 6u : whole<std::uint64_t>();
  }
  std::int64_t time() {
    const std::uint8_t value = byte();
    if (value == 0) return TONEARM_UNKNOWN_TIME;
    if (value > 250) return static_cast<std::int64_t>(whole<std::uint64_t>());
    return clock_ += std::int64_t{value} * value;
  }
  std::uint32_t below(std::uint32_t end) { return byte() % end; }

 private:
  const std::uint8_t *at_, *end_;
  std::int64_t clock_ = 1530000000;
};

constexpr std::size_t most_extra = 6;

/// One event or question, and what its `extra` pointers lead to.
struct Told {
  tonearm_event event;
  std::uint8_t given;  // bits: track, start, now, end; what is not given is NULL
  std::array<std::array<float, most_extra>, 4> extra;

  const tonearm_track* track() const { return given & 1 ? &event.track : nullptr; }
  const tonearm_start* start() const { return given & 2 ? &event.start : nullptr; }
  const tonearm_now* now() const { return given & 4 ? &event.now : nullptr; }
  const tonearm_end* end() const { return given & 8 ? &event.end : nullptr; }
};

/// Some of the members, in whatever order the bytes say; the others stay unknown.
std::unique_ptr<Told> told_by(Input& input, tonearm_event_kind kind) {
  auto told = std::make_unique<Told>();
  tonearm_event& event = told->event;
  event.struct_size = sizeof event;
  event.kind = kind;
  tonearm_track_init(&event.track, sizeof event.track);
  tonearm_start_init(&event.start, sizeof event.start);
  tonearm_now_init(&event.now, sizeof event.now);
  tonearm_end_init(&event.end, sizeof event.end);
  told->given = static_cast<std::uint8_t>(input.below(8) == 0 ? input.byte() : 15);
  event.track.track_id = input.id();
  event.track.artist_id = input.id();
  event.now.time = input.time();
  event.start.reason = input.enumerator();
  event.end.reason = input.enumerator();
  event.end.ms_played = input.real();
  event.track.duration = input.real();
  for (std::uint32_t more = input.below(12); more > 0; --more) {
    const std::uint32_t member = input.below(20);
    float* const first = &event.track.duration;  // the numbers of a track follow on each other
    switch (member) {
      case 0:
        event.now.context_type = input.enumerator();
        break;
      case 1:
        event.now.utc_offset = static_cast<std::int32_t>(input.whole<std::uint32_t>());
        break;
      case 2:
        event.now.date = input.byte() < 200 ? 20180700 + input.byte() : input.whole<std::uint32_t>();
        break;
      case 3:
        event.now.hour_of_day = input.real();
        break;
      case 4:
        event.now.is_shuffle = input.real();
        break;
      case 5:
        event.now.premium = input.real();
        break;
      case 6:
        event.start.pause = input.enumerator();
        break;
      case 7:
        event.start.context_switch = input.real();
        break;
      case 8:
        event.end.skip = input.enumerator();
        break;
      case 9:
        event.end.n_seekfwd = input.real();
        break;
      case 10:
        event.end.n_seekback = input.real();
        break;
      case 11:
        event.end.time = input.time();
        break;
      case 12:
      case 13:
      case 14:
      case 15: {
        auto& extra = told->extra[member - 12];
        for (float& value : extra) value = input.real();
        const std::uint32_t count = input.below(most_extra + 1);
        if (member == 12) event.track.extra = extra.data(), event.track.extra_count = count;
        if (member == 13) event.start.extra = extra.data(), event.start.extra_count = count;
        if (member == 14) event.now.extra = extra.data(), event.now.extra_count = count;
        if (member == 15) event.end.extra = extra.data(), event.end.extra_count = count;
        break;
      }
      default:
        constexpr std::size_t numbers =
            (offsetof(tonearm_track, extra) - offsetof(tonearm_track, duration)) / 4;
        first[input.byte() % numbers] = input.real();
    }
  }
  return told;
}

using Bytes = std::vector<std::uint8_t>;

/// A session of one model in memory of exactly its size, and all that is asked of it.
class Session {
 public:
  Session(const tonearm_model& model, const tonearm_info& info)
      : model_(model),
        info_(info),
        memory_(new std::uint8_t[info.session_bytes]),
        scratch_(new std::uint8_t[info.scratch_bytes]) {
    if (tonearm_session_init(&model_, memory_.get(), info_.session_bytes, &session_) != TONEARM_OK)
      fail("no session can be made");
  }

  tonearm_status tell(const Told& told) {
    if (told.event.kind == TONEARM_EVENT_RESET) return tonearm_session_reset(&model_, session_);
    if (told.event.kind == TONEARM_EVENT_START)
      return tonearm_track_start(&model_, session_, told.track(), told.start(), told.now(), scratch_.get(),
                                 info_.scratch_bytes);
    return tonearm_track_end(&model_, session_, told.end(), scratch_.get(), info_.scratch_bytes);
  }

  /// The answers, or what the call says instead.
  tonearm_status ask(const tonearm_request& request, std::vector<float>& out) {
    constexpr std::uint32_t unwritten = 0x7fa5a5a5;
    out.assign(info_.outputs * std::size_t{request.kind == TONEARM_PLAYING ? 1 : request.candidate_count},
               std::bit_cast<float>(unwritten));
    out.shrink_to_fit();
    float none;
    const tonearm_status status = tonearm_predict(&model_, session_, &request, scratch_.get(),
                                                  info_.scratch_bytes, out.empty() ? &none : out.data());
    for (const float value : out)
      if ((std::bit_cast<std::uint32_t>(value) == unwritten) == (status == TONEARM_OK))
        fail("an answer is not written, or one is though the call failed");
    return status;
  }

  tonearm_status replay(const std::vector<tonearm_event>& events) {
    return tonearm_session_replay(&model_, session_, events.data(), events.size(), scratch_.get(),
                                  info_.scratch_bytes);
  }

  Bytes image() const {
    Bytes image(info_.session_bytes);
    if (tonearm_session_save(&model_, session_, image.data(), image.size()) != TONEARM_OK)
      fail("a session cannot be saved");
    return image;
  }
  tonearm_status load(const Bytes& image) {
    return tonearm_session_load(&model_, memory_.get(), info_.session_bytes, image.data(), image.size(),
                                &session_);
  }

  /// Calls with one thing wrong, which must be refused and change nothing.
  void misuse(Input& input, const Told& told) {
    const Bytes before = image();
    tonearm_track track = told.event.track;
    tonearm_now now = told.event.now;
    std::uint8_t* const scratch = scratch_.get();
    const std::size_t size = info_.scratch_bytes;
    tonearm_status status = TONEARM_OK;
    switch (input.below(7)) {
      case 0:
        track.struct_size = input.below(255) % sizeof track;
        status = tonearm_track_start(&model_, session_, &track, nullptr, nullptr, scratch, size);
        break;
      case 1:
        now.extra = nullptr;
        now.extra_count = 1 + input.byte();
        status = tonearm_track_start(&model_, session_, nullptr, nullptr, &now, scratch, size);
        break;
      case 2:
        status = tonearm_track_end(&model_, session_, nullptr, scratch, size - 1 - input.byte() % size);
        break;
      case 3:
        status = tonearm_track_end(&model_, nullptr, nullptr, scratch, size);
        break;
      case 4: {
        tonearm_request request;
        tonearm_request_init(&request, sizeof request);
        request.kind = 4 + input.byte();
        float out = 0;
        status = tonearm_predict(&model_, session_, &request, scratch, size, &out);
        break;
      }
      case 5: {
        const Model& other = models()[input.byte() % models().size()];
        if (other.info.model_id == info_.model_id) return;
        status = tonearm_session_reset(&other.best, session_);
        break;
      }
      default:
        tonearm_event event = told.event;
        event.kind = 4 + input.byte();
        event.struct_size = static_cast<std::uint32_t>(sizeof event - input.byte() % sizeof event);
        Session other(model_, info_);
        status = other.replay({event});
    }
    if (status == TONEARM_OK) fail("a wrong call is not refused");
    if (image() != before) fail("a call that was refused changed the session");
  }

 private:
  const tonearm_model& model_;
  const tonearm_info& info_;
  std::unique_ptr<std::uint8_t[]> memory_, scratch_;
  tonearm_session* session_ = nullptr;
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y) ||
           (std::isnan(x) && std::isnan(y));
  });
}

/// The checksum is the fifth number of an image, and counts as 0 within it.
void seal(Bytes& image) {
  if (image.size() < 20) return;
  std::memset(&image[16], 0, 4);
  const auto crc = static_cast<std::uint32_t>(crc32_z(0, image.data(), image.size()));
  std::memcpy(&image[16], &crc, 4);
}

class Player {
 public:
  explicit Player(Input& input) : input_(input), model_(models()[input.byte() % models().size()]) {}

  void play() {
    for (int calls = 0; calls < 200 && !input_.empty(); ++calls) {
      switch (input_.below(12)) {
        case 0:
        case 1:
        case 2:
          happen(TONEARM_EVENT_START);
          break;
        case 3:
        case 4:
        case 5:
          happen(TONEARM_EVENT_END);
          break;
        case 6:
          happen(TONEARM_EVENT_RESET);
          break;
        case 7:
        case 8:
          ask();
          break;
        case 9:
          session_.misuse(input_, *told_by(input_, TONEARM_EVENT_START));
          break;
        case 10:
          save_and_load();
          break;
        default:
          load_damaged();
      }
    }
    rebuild();
  }

 private:
  void happen(tonearm_event_kind kind) {
    told_.push_back(told_by(input_, kind));
    if (kind != TONEARM_EVENT_RESET && input_.below(16) != 0) told_.back()->given = 15;
    const tonearm_status status = session_.tell(*told_.back()), other = plain_.tell(*told_.back());
    if (status != other) fail("kernels differ in what they refuse");
    if (status != TONEARM_OK) {
      told_.pop_back();
      if (kind != TONEARM_EVENT_END || status != TONEARM_NOTHING_PLAYING) fail("an event is refused");
    }
  }

  void ask() {
    const Bytes before = session_.image();
    const auto asked = told_by(input_, TONEARM_EVENT_START);
    std::vector<tonearm_track> candidates(input_.below(5), asked->event.track);
    for (tonearm_track& candidate : candidates) candidate.track_id = input_.id();
    std::vector<tonearm_end> outcomes(std::max<std::size_t>(candidates.size(), 1), asked->event.end);
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.kind = 1 + input_.below(3);
    request.candidates = candidates.data();
    request.candidate_count = static_cast<std::uint32_t>(candidates.size());
    request.place = input_.below(4) == 0 ? input_.whole<std::uint32_t>() : input_.byte();
    request.now = asked->now();
    request.outcomes = input_.below(4) == 0 ? outcomes.data() : nullptr;
    std::vector<float> out, again;
    const tonearm_status status = session_.ask(request, out);
    if (plain_.ask(request, again) != status) fail("kernels differ in what they refuse");
    if (model_.alike && !same(out, again)) fail("vectors compute something else than the scalar kernels");
    session_.ask(request, again);
    if (!same(out, again)) fail("the same question has two answers");
    if (status != TONEARM_OK && status != TONEARM_NOTHING_PLAYING && status != TONEARM_OUT_OF_RANGE)
      fail("a question is refused");
    if (session_.image() != before) fail("a prediction changed the session");
  }

  void save_and_load() {
    const Bytes image = session_.image();
    Session other(model_.best, model_.info);
    if (other.load(image) != TONEARM_OK || other.image() != image)
      fail("an image is loaded as something else");
    if (session_.load(image) != TONEARM_OK) fail("a session cannot be loaded where it was");
  }

  /// With its checksum repaired or not. A session of its own, that may then be told anything.
  void load_damaged() {
    Bytes image = session_.image();
    for (std::uint32_t changes = 1 + input_.below(8); changes > 0; --changes)
      image[input_.whole<std::uint16_t>() % image.size()] = input_.byte();
    if (input_.below(8) == 0) image.resize(image.size() / 2 + input_.byte());
    const bool sealed = input_.below(4) != 0;
    if (sealed) seal(image);
    Session other(model_.best, model_.info);
    const Bytes before = other.image();
    if (other.load(image) != TONEARM_OK) {
      if (other.image() != before) fail("an image that was refused changed the session");
      return;
    }
    if (!sealed && image != session_.image()) fail("a damaged image is loaded");
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.kind = TONEARM_QUEUE;
    std::vector<float> out;
    for (int n = 0; n < 3; ++n) {
      const auto told = told_by(input_, n % 2 == 0 ? TONEARM_EVENT_END : TONEARM_EVENT_START);
      (void)other.tell(*told);
      request.candidates = &told->event.track;
      request.candidate_count = 1;
      request.now = &told->event.now;
      if (other.ask(request, out) != TONEARM_OK) fail("a loaded session cannot be asked");
    }
  }

  /// At the end, from the events. A replay takes all structs of an event as given.
  void rebuild() {
    const bool all_given = std::all_of(told_.begin(), told_.end(), [](const auto& told) {
      return told->event.kind == TONEARM_EVENT_RESET || told->given == 15;
    });
    if (model_.alike && session_.image() != plain_.image())
      fail("kernels make another session of the same events");
    if (!all_given) return;
    std::vector<tonearm_event> events;
    for (const auto& told : told_) events.push_back(told->event);
    Session other(model_.best, model_.info);
    if (other.replay(events) != TONEARM_OK || other.image() != session_.image())
      fail("replayed events make another session");
  }

  Input& input_;
  const Model& model_;
  Session session_{model_.best, model_.info}, plain_{model_.plain, model_.info};
  std::vector<std::unique_ptr<Told>> told_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  Player(input).play();
  return 0;
}
