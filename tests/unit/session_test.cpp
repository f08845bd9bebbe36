// Sessions through the C API: what every encoder computes, against a reference written from the schema's
// comments; what each kind of question sees; where sessions end on the device; images; and that no wrong call
// and no value of anything does harm.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <thread>

#include "base/crc32.h"
#include "base/random.h"
#include "conformance/models.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "kernels.h"

namespace tonearm {
namespace {

using schema::Field;
using schema::Phase;
using schema::Source;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

// --- Models and calls --------------------------------------------------------------------------------

/// A session model in the making. Columns are added in the order of their sources.
struct Draft {
  schema::ModelT model;

  Draft() {
    model.card = std::make_unique<schema::CardT>();
    model.card->name = "the test's model";
    model.session = std::make_unique<schema::SessionRuleT>();
    model.label = std::make_unique<schema::LabelRuleT>();
  }

  std::uint16_t column(const std::string& name, Source source, Field field = Field::Extra,
                       std::size_t categories = 0, float fill = missing) {
    auto column = std::make_unique<schema::ColumnT>();
    column->name = name;
    column->source = source;
    if (categories > 0) column->type = schema::ColumnType::Category;
    for (std::size_t i = 0; i < categories; ++i) column->vocabulary.push_back(std::to_string(i));
    model.columns.push_back(std::move(column));
    model.fields.push_back(field);
    model.missing_fill.push_back(fill);
    return static_cast<std::uint16_t>(model.columns.size() - 1);
  }

  template <typename Encoder>
  std::uint16_t feature(Phase phase, std::vector<std::uint16_t> inputs, std::size_t outputs,
                        Encoder encoder) {
    schema::EncoderUnion kind;
    kind.Set(std::move(encoder));
    return append_feature(model, std::move(inputs), outputs, std::move(kind), phase);
  }

  std::uint16_t fact(schema::SessionFact which, Phase phase = Phase::Candidate) {
    schema::FactT fact;
    fact.fact = which;
    return feature(phase, {}, 1, fact);
  }

  /// The features behind those of the history part become the output.
  std::unique_ptr<Blob> features() {
    std::size_t first = model.columns.size();
    for (const auto& feature : model.features)
      if (feature->phase == Phase::History) first += feature->output_length;
    model.output_offset = static_cast<std::uint16_t>(first);
    model.output_length = static_cast<std::uint16_t>(next_slot(model) - first);
    return packed();
  }
  std::unique_ptr<Blob> packed() { return std::make_unique<Blob>(pack(model), "the test's blob"); }
};

template <typename Struct>
Struct unknown() {
  Struct told;
  if constexpr (std::is_same_v<Struct, tonearm_track>) tonearm_track_init(&told, sizeof told);
  if constexpr (std::is_same_v<Struct, tonearm_now>) tonearm_now_init(&told, sizeof told);
  if constexpr (std::is_same_v<Struct, tonearm_start>) tonearm_start_init(&told, sizeof told);
  if constexpr (std::is_same_v<Struct, tonearm_end>) tonearm_end_init(&told, sizeof told);
  if constexpr (std::is_same_v<Struct, tonearm_request>) tonearm_request_init(&told, sizeof told);
  return told;
}

tonearm_now at(std::int64_t time) {
  auto now = unknown<tonearm_now>();
  now.time = time;
  return now;
}

tonearm_track track_of(std::uint64_t id, std::uint64_t artist = 0) {
  auto track = unknown<tonearm_track>();
  track.track_id = id;
  track.artist_id = artist;
  return track;
}

tonearm_end ended_at(std::int64_t time, std::uint32_t skip = TONEARM_SKIP_UNKNOWN) {
  auto end = unknown<tonearm_end>();
  end.time = time;
  end.skip = skip;
  return end;
}

/// A session in memory of exactly the right size, so that a sanitizer sees the byte behind.
struct Player {
  const tonearm_model* model;
  std::vector<std::uint32_t> memory, scratch;
  tonearm_session* session = nullptr;
  std::uint32_t outputs;

  explicit Player(const Blob& blob) : Player(blob.model(), blob.outputs()) {}
  Player(const tonearm_model& opened, std::size_t output_count)
      : model(&opened),
        memory(tonearm_session_size(model) / 4),
        scratch(tonearm_scratch_size(model) / 4),
        outputs(static_cast<std::uint32_t>(output_count)) {
    EXPECT_EQ(tonearm_session_init(model, memory.data(), memory.size() * 4, &session), TONEARM_OK);
  }
  Player(const Player&) = delete;

  std::size_t scratch_bytes() const { return scratch.size() * 4; }

  void start(const tonearm_track* track, const tonearm_start* start, const tonearm_now* now) {
    dirty();
    ASSERT_EQ(tonearm_track_start(model, session, track, start, now, scratch.data(), scratch_bytes()),
              TONEARM_OK);
  }
  void start(std::uint64_t id, std::int64_t time = TONEARM_UNKNOWN_TIME) {
    const tonearm_track track = track_of(id);
    const tonearm_now now = at(time);
    start(&track, nullptr, &now);
  }
  void end(const tonearm_end* end) {
    dirty();
    ASSERT_EQ(tonearm_track_end(model, session, end, scratch.data(), scratch_bytes()), TONEARM_OK);
  }
  void end(const tonearm_end& told) { end(&told); }

  /// Answers of all candidates, one after the other. The session stays as it was.
  std::vector<float> ask(const tonearm_request& request) {
    const std::vector<std::uint32_t> before = memory;
    std::vector<float> out(outputs * (request.kind == TONEARM_PLAYING ? 1 : request.candidate_count));
    out.reserve(1);  // not NULL
    dirty();
    EXPECT_EQ(tonearm_predict(model, session, &request, scratch.data(), scratch_bytes(), out.data()),
              TONEARM_OK);
    EXPECT_TRUE(before == memory) << "a prediction changed the session";
    return out;
  }
  std::vector<float> playing(const tonearm_now* now = nullptr) {
    auto request = unknown<tonearm_request>();
    request.kind = TONEARM_PLAYING;
    request.now = now;
    return ask(request);
  }
  std::vector<float> queue(const std::vector<tonearm_track>& tracks, const tonearm_now* now = nullptr) {
    auto request = unknown<tonearm_request>();
    request.kind = TONEARM_QUEUE;
    request.candidates = tracks.data();
    request.candidate_count = static_cast<std::uint32_t>(tracks.size());
    request.now = now;
    return ask(request);
  }
  std::vector<float> alternatives(const std::vector<tonearm_track>& tracks, std::uint32_t place,
                                  const tonearm_now* now = nullptr) {
    auto request = unknown<tonearm_request>();
    request.kind = TONEARM_ALTERNATIVES;
    request.place = place;
    request.candidates = tracks.data();
    request.candidate_count = static_cast<std::uint32_t>(tracks.size());
    request.now = now;
    return ask(request);
  }
  tonearm_session_info info() const {
    tonearm_session_info info{};
    info.struct_size = sizeof info;
    EXPECT_EQ(tonearm_session_describe(model, session, &info), TONEARM_OK);
    return info;
  }

  /// The contents of the scratch are arbitrary.
  void dirty() { std::fill(scratch.begin(), scratch.end(), 0x7fc0dead); }
};

bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}
bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || same_bits(a + 0.0f, b + 0.0f); }

void expect_same(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_PRED2(same, found[i], expected[i]) << "number " << i << ": " << found[i] << " " << expected[i];
}

// --- The reference -----------------------------------------------------------------------------------

/// One track as the reference remembers it: all columns and history features, and its ids.
struct Ended {
  std::vector<float> slots;
  std::uint64_t track_id = 0, artist_id = 0;
};

/// The rules of a session, from the comments of the schema and the header, over a list of everything that
/// ever happened. Nothing is updated step by step; sums are float64.
class Reference {
 public:
  explicit Reference(const schema::ModelT& model) : model_(model) {}

  std::optional<std::vector<float>> playing;  // columns, after the policy
  std::uint64_t track_id = 0, artist_id = 0;
  std::int64_t began = TONEARM_UNKNOWN_TIME, last_end = TONEARM_UNKNOWN_TIME,
               track_began = TONEARM_UNKNOWN_TIME;

  std::size_t ended() const { return all_.size() - first_; }

  bool new_session_at(std::int64_t now) const {
    if (ended() == 0) return false;
    const schema::SessionRuleT& rule = *model_.session;
    if (rule.cap != 0 && ended() >= rule.cap) return true;
    return rule.idle_gap != 0 && now != TONEARM_UNKNOWN_TIME && last_end != TONEARM_UNKNOWN_TIME &&
           now - last_end > static_cast<std::int64_t>(rule.idle_gap);
  }
  void reset() {
    first_ = all_.size();
    began = TONEARM_UNKNOWN_TIME;
    playing.reset();
  }
  void end(const std::vector<float>& row, std::int64_t time) {
    Ended track{row, track_id, artist_id};
    for (const auto& feature : model_.features)
      if (feature->phase == Phase::History) stateless(*feature, track.slots);
    all_.push_back(std::move(track));
    playing.reset();
    last_end = time;
  }
  void start(std::vector<float> row, std::uint64_t track, std::uint64_t artist, std::int64_t time) {
    if (new_session_at(time)) reset();
    if (ended() == 0 || began == TONEARM_UNKNOWN_TIME) began = time;
    playing = std::move(row);
    track_id = track, artist_id = artist;
    track_began = time;
  }

  /// The outputs of the features behind the history part; `row` is what is known of the candidate.
  std::vector<float> features(std::vector<float> row, std::uint64_t track, std::uint64_t artist,
                              std::uint32_t horizon, bool of_playing, std::int64_t now) const {
    const bool fresh = !playing && new_session_at(now);
    const std::size_t columns = row.size();
    for (const auto& feature : model_.features) {
      if (feature->phase == Phase::History) {
        row.resize(row.size() + feature->output_length, missing);
        continue;
      }
      const std::size_t from = fresh ? all_.size() : first_;
      switch (feature->encoder.type) {
        case schema::Encoder::Fact:
          row.push_back(fact(feature->encoder.AsFact()->fact, horizon, of_playing, now, fresh));
          break;
        case schema::Encoder::Identity:
        case schema::Encoder::Difference:
        case schema::Encoder::Distance:
          stateless(*feature, row);
          break;
        default:
          aggregate(*feature, from, track, artist, row);
      }
    }
    std::size_t first = columns;
    for (const auto& feature : model_.features)
      if (feature->phase == Phase::History) first += feature->output_length;
    return {row.begin() + static_cast<std::ptrdiff_t>(first), row.end()};
  }

 private:
  static void stateless(const schema::FeatureT& feature, std::vector<float>& slots) {
    const auto in = [&](std::size_t i) { return slots[feature.inputs[i]]; };
    const std::size_t n = feature.inputs.size() / 2;
    if (feature.encoder.type == schema::Encoder::Identity) {
      for (const std::uint16_t input : feature.inputs) slots.push_back(slots[input]);
    } else if (feature.encoder.type == schema::Encoder::Difference) {
      std::vector<float> out;
      for (std::size_t i = 0; i < n; ++i) out.push_back(in(i)-in(n + i));
      slots.insert(slots.end(), out.begin(), out.end());
    } else {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += (double{in(i)} - in(n + i)) * (double{in(i)} - in(n + i));
      slots.push_back(static_cast<float>(sum / static_cast<double>(n)));
    }
  }

  float fact(schema::SessionFact which, std::uint32_t horizon, bool of_playing, std::int64_t now,
             bool fresh) const {
    const auto between = [](std::int64_t from, std::int64_t to) {
      if (from == TONEARM_UNKNOWN_TIME || to == TONEARM_UNKNOWN_TIME) return missing;
      return static_cast<float>(std::clamp<std::int64_t>(to - from, 0, INT32_MAX));
    };
    switch (which) {
      case schema::SessionFact::Horizon:
        return static_cast<float>(horizon);
      case schema::SessionFact::Position:
        return static_cast<float>((fresh ? 0 : ended()) + horizon);
      case schema::SessionFact::Gap:
        return playing ? between(last_end, track_began) : missing;
      case schema::SessionFact::Elapsed:
        return fresh ? missing : between(began, now);
      case schema::SessionFact::Playing:
        return of_playing ? 1.0f : 0.0f;
    }
    return missing;
  }

  /// `from` is the first ended track of the session that the question is about.
  void aggregate(const schema::FeatureT& feature, std::size_t from, std::uint64_t track, std::uint64_t artist,
                 std::vector<float>& slots) const {
    const schema::EncoderUnion& kind = feature.encoder;
    const bool carries = kind.AsLag()      ? kind.AsLag()->carries
                         : kind.AsMean()   ? kind.AsMean()->carries
                         : kind.AsWindow() ? kind.AsWindow()->carries
                         : kind.AsTotal()  ? kind.AsTotal()->carries
                         : kind.AsStreak() ? kind.AsStreak()->carries
                                           : kind.AsRepeats()->carries;
    if (carries) from = 0;
    const std::size_t count = all_.size() - from;
    // Of the track that ended `ago` tracks before the latest.
    const auto value = [&](std::size_t input, std::size_t ago) {
      return all_[all_.size() - 1 - ago].slots[feature.inputs[input]];
    };
    if (const auto* lag = kind.AsLag()) {
      for (std::size_t ago = 0; ago < lag->count; ++ago)
        for (std::size_t i = 0; i < feature.inputs.size(); ++i)
          slots.push_back(ago < count ? value(i, ago) : lag->empty);
    } else if (const auto* mean = kind.AsMean()) {
      for (std::size_t i = 0; i < feature.output_length; ++i) {
        double sum = double{mean->prior_weight} * mean->prior, weights = mean->prior_weight;
        for (std::size_t ago = 0; ago < count; ++ago) {
          const double weight = std::pow(double{mean->keep}, static_cast<double>(ago)) *
                                (mean->weighted ? value(feature.output_length, ago) : 1.0f);
          if (!std::isfinite(value(i, ago)) || !std::isfinite(weight)) continue;
          sum += weight * value(i, ago);
          weights += weight;
        }
        slots.push_back(weights == 0 ? missing : static_cast<float>(sum / weights));
      }
    } else if (const auto* window = kind.AsWindow()) {
      for (std::size_t i = 0; i < feature.inputs.size(); ++i) {
        double sum = 0, known = 0;
        for (std::size_t ago = 0; ago < std::min<std::size_t>(count, window->length); ++ago)
          if (!std::isnan(value(i, ago))) sum += value(i, ago), ++known;
        slots.push_back(known == 0 ? missing : static_cast<float>(sum / known));
      }
    } else if (kind.AsTotal() != nullptr) {
      for (std::size_t i = 0; i < feature.inputs.size(); ++i) {
        double sum = 0;
        for (std::size_t ago = 0; ago < count; ++ago)
          if (std::isfinite(value(i, ago))) sum += value(i, ago);
        slots.push_back(static_cast<float>(sum));
      }
    } else if (const auto* streak = kind.AsStreak()) {
      for (std::size_t i = 0; i < feature.inputs.size(); ++i) {
        std::size_t length = 0;
        const auto goes_on = [&](float found) {
          return !std::isnan(found) && (streak->same ? found == value(i, 0) : found != 0);
        };
        while (length < count && goes_on(value(i, length))) ++length;
        slots.push_back(static_cast<float>(length));
      }
    } else {
      const auto* repeats = kind.AsRepeats();
      const bool of_artist = repeats->of == schema::Identifier::Artist;
      const std::uint64_t id = of_artist ? artist : track;
      float seen = 0, skipped = 0, last = missing;
      for (std::size_t ago = 0; id != 0 && ago < std::min<std::size_t>(count, repeats->length); ++ago) {
        const Ended& ended = all_[all_.size() - 1 - ago];
        if ((of_artist ? ended.artist_id : ended.track_id) != id) continue;
        ++seen;
        if (!std::isnan(value(0, ago)) && value(0, ago) != 0) ++skipped;
        if (std::isnan(last)) last = static_cast<float>(ago + 1);
      }
      slots.insert(slots.end(), {seen, skipped, last});
    }
  }

  const schema::ModelT& model_;
  std::vector<Ended> all_;
  std::size_t first_ = 0;  // of this session
};

/// The columns of the differential test: all through `extra`, so that the reference needs no names.
struct Plain {
  std::uint16_t loud, mood, hour, place, why, far, skipped;
};

Plain plain_columns(Draft& draft, Random& random) {
  const auto fill = [&](float value) { return random.below(3) == 0 ? value : missing; };
  Plain c{};
  c.loud = draft.column("loud", Source::Track, Field::Extra, 0, fill(-7));
  c.mood = draft.column("mood", Source::Track, Field::Extra, 4, fill(2));
  c.hour = draft.column("hour", Source::Now, Field::Extra, 0, fill(12));
  c.place = draft.column("place", Source::Now, Field::Extra, 3, missing);
  c.why = draft.column("why", Source::Start, Field::Extra, 5, fill(0));
  c.far = draft.column("far", Source::End, Field::Extra, 0, fill(0.5f));
  c.skipped = draft.column("skipped", Source::End, Field::Extra, 0, missing);
  return c;
}

/// Random features of every kind over the columns.
void random_features(Draft& draft, const Plain& c, Random& random) {
  const auto flag = [&] { return random.below(2) == 0; };
  const std::uint16_t change = draft.feature(Phase::History, {c.far, c.loud}, 1, schema::DifferenceT{});
  const std::vector<std::uint16_t> history = {c.loud, c.mood, c.hour,    c.place,
                                              c.why,  c.far,  c.skipped, change};
  const auto some = [&](std::size_t count) {
    std::vector<std::uint16_t> inputs;
    for (std::size_t i = 0; i < count; ++i) inputs.push_back(history[random.below(8)]);
    return inputs;
  };
  std::vector<std::uint16_t> context = {c.hour, c.place, c.why};
  for (const Phase phase : {Phase::Context, Phase::Candidate})
    for (int n = 0; n < 6; ++n) {
      const std::size_t inputs = 1 + random.below(3);
      const auto length = static_cast<std::uint16_t>(1 + random.below(5));
      std::uint16_t first = 0;
      switch (n) {
        case 0: {
          schema::LagT lag;
          lag.count = length, lag.carries = flag(), lag.empty = flag() ? missing : -3;
          first = draft.feature(phase, some(inputs), inputs * length, lag);
          break;
        }
        case 1: {
          schema::MeanT mean;
          constexpr float keeps[] = {1, 0.5f, 0.9f, 0};
          mean.keep = keeps[random.below(4)], mean.carries = flag(), mean.weighted = flag();
          mean.prior = 3, mean.prior_weight = flag() ? 2.0f : 0.0f;
          std::vector<std::uint16_t> slots = some(inputs);
          if (mean.weighted) slots.push_back(c.skipped);
          first = draft.feature(phase, slots, inputs, mean);
          break;
        }
        case 2: {
          schema::WindowT window;
          window.length = length, window.carries = flag();
          first = draft.feature(phase, some(inputs), inputs, window);
          break;
        }
        case 3: {
          schema::TotalT total;
          total.carries = flag();
          first = draft.feature(phase, some(inputs), inputs, total);
          break;
        }
        case 4: {
          schema::StreakT streak;
          streak.carries = flag(), streak.same = flag();
          first = draft.feature(phase, some(inputs), inputs, streak);
          break;
        }
        default:
          first = draft.feature(phase, context, context.size(), schema::IdentityT{});
      }
      context.push_back(first);
    }
  using schema::SessionFact;
  for (const SessionFact fact : {SessionFact::Horizon, SessionFact::Position, SessionFact::Gap,
                                 SessionFact::Elapsed, SessionFact::Playing})
    draft.fact(fact);
  for (const auto of : {schema::Identifier::Track, schema::Identifier::Artist}) {
    schema::RepeatsT repeats;
    repeats.of = of, repeats.carries = flag(),
    repeats.length = static_cast<std::uint16_t>(1 + random.below(9));
    draft.feature(Phase::Candidate, {c.skipped}, 3, repeats);
  }
  draft.feature(Phase::Candidate, {c.loud, c.mood, context[4], c.hour}, 2, schema::DifferenceT{});
  draft.feature(Phase::Candidate, {c.loud, c.hour, context[4], c.hour}, 1, schema::DistanceT{});
}

/// As close as float32 sums in another order may come.
bool close(float found, float expected) {
  if (std::isnan(found) || std::isnan(expected)) return std::isnan(found) && std::isnan(expected);
  if (std::isinf(found) || std::isinf(expected)) return found == expected;
  return std::abs(found - expected) <= 1e-4f + 1e-5f * std::abs(expected);
}

TEST(Differential, EveryEncoderGivesWhatTheSchemaSays) {
  Random random(21);
  std::size_t answers = 0, known = 0, sessions = 0;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Draft draft;
    draft.model.session->idle_gap = random.below(3) == 0 ? 0 : 600;
    draft.model.session->cap = random.below(2) == 0 ? 0 : 1 + random.below(12);
    const Plain c = plain_columns(draft, random);
    random_features(draft, c, random);
    const std::unique_ptr<Blob> blob = draft.features();
    Player player(*blob);
    Reference reference(draft.model);
    const bool harsh = round % 4 == 3;  // with infinities
    std::int64_t clock = 1500000000;

    const std::size_t sizes[] = {2, 2, 1, 2};
    const auto numbers = [&](std::size_t source) {
      std::vector<float> values;
      for (std::size_t i = 0; i < sizes[source]; ++i) {
        const std::uint32_t kind = random.below(10);
        values.push_back(kind == 0            ? missing
                         : kind == 1 && harsh ? (random.below(2) == 0 ? infinity : -infinity)
                         : kind < 5           ? static_cast<float>(random.below(3))
                         : kind == 5          ? -0.0f
                                              : static_cast<float>(random.uniform() * 8 - 2));
      }
      if (source == 3) values[1] = random.below(5) == 0 ? missing : static_cast<float>(random.below(2));
      return values;
    };
    // Columns of a source as the policy leaves them.
    const auto place = [&](std::vector<float>& row, std::size_t first, const std::vector<float>& told) {
      for (std::size_t i = 0; i < told.size(); ++i) {
        float value = told[i];
        const std::size_t categories = draft.model.columns[first + i]->vocabulary.size();
        if (categories > 0 &&
            !(value >= 0 && value < static_cast<float>(categories) && value == std::floor(value)))
          value = missing;
        row[first + i] = std::isnan(value) ? draft.model.missing_fill[first + i] : value;
      }
    };
    const auto point = [](auto& told, const std::vector<float>& extra) {
      told.extra = extra.data();
      told.extra_count = static_cast<std::uint32_t>(extra.size());
    };
    const auto tick = [&] {
      clock += random.below(6) == 0 ? 599 + random.below(4) : random.below(100);
      if (random.below(15) == 0) clock -= 2000;
      return random.below(10) == 0 ? TONEARM_UNKNOWN_TIME : clock;
    };

    for (int step = 0; step < 120; ++step) {
      const std::uint32_t what = random.below(10);
      std::vector<float> row(7, missing);
      if (what < 3 || (what < 6 && !reference.playing)) {
        const std::vector<float> extras[] = {numbers(0), numbers(1), numbers(2)};
        tonearm_track track = track_of(random.below(4), random.below(3));
        auto start = unknown<tonearm_start>();
        tonearm_now now = at(tick());
        point(track, extras[0]), point(now, extras[1]), point(start, extras[2]);
        const bool silent = random.below(12) == 0;  // nothing is told at all
        if (reference.playing) {                    // ends with everything unknown but the time
          std::vector<float> over = *reference.playing;
          place(over, 5, {missing, missing});
          reference.end(over, silent ? TONEARM_UNKNOWN_TIME : now.time);
        }
        place(row, 0, silent ? std::vector<float>(2, missing) : extras[0]);
        place(row, 2, silent ? std::vector<float>(2, missing) : extras[1]);
        place(row, 4, silent ? std::vector<float>(1, missing) : extras[2]);
        place(row, 5, {missing, missing});
        if (silent) {
          reference.start(row, 0, 0, TONEARM_UNKNOWN_TIME);
          player.start(nullptr, nullptr, nullptr);
        } else {
          sessions += reference.new_session_at(now.time);
          reference.start(row, track.track_id, track.artist_id, now.time);
          player.start(&track, &start, &now);
        }
      } else if (what < 6) {
        const std::vector<float> extra = numbers(3);
        tonearm_end end = ended_at(tick());
        end.ms_played = random.below(3) == 0 ? missing : static_cast<float>(random.below(300000));
        point(end, extra);
        row = *reference.playing;
        place(row, 5, extra);
        std::int64_t time = end.time;
        if (time == TONEARM_UNKNOWN_TIME) {
          time = reference.track_began;
          if (time != TONEARM_UNKNOWN_TIME && !std::isnan(end.ms_played))
            time += static_cast<std::int64_t>(end.ms_played / 1000.0f);
        }
        reference.end(row, time);
        player.end(end);
      } else if (what == 6 && random.below(6) == 0) {
        reference.reset();
        ASSERT_EQ(tonearm_session_reset(player.model, player.session), TONEARM_OK);
      }
      ASSERT_EQ(player.info().ended, reference.ended());
      ASSERT_EQ(player.info().playing, reference.playing ? 1u : 0u);

      // A question of each kind that can be asked now.
      const std::vector<float> extra = numbers(1);
      tonearm_now now = at(tick());
      point(now, extra);
      std::vector<float> found, expected;
      std::vector<std::vector<float>> told = {numbers(0), numbers(0), numbers(0)};
      std::vector<tonearm_track> tracks;
      for (const auto& values : told) {
        tracks.push_back(track_of(random.below(4), random.below(3)));
        point(tracks.back(), values);
      }
      const bool of_playing = reference.playing && random.below(2) == 0;
      if (of_playing) {
        const bool renewed = random.below(2) == 0;
        row = *reference.playing;
        if (renewed) place(row, 2, extra);
        found = player.playing(renewed ? &now : nullptr);
        expected = reference.features(row, reference.track_id, reference.artist_id, 1, true,
                                      renewed ? now.time : reference.track_began);
      } else {
        const bool alternatives = random.below(2) == 0;
        const std::uint32_t first = reference.playing ? 2 : 1, far = random.below(5);
        row = reference.playing ? *reference.playing : std::vector<float>(7, missing);
        if (!reference.playing) place(row, 4, {missing});
        place(row, 2, extra);
        found = alternatives ? player.alternatives(tracks, far, &now) : player.queue(tracks, &now);
        for (std::uint32_t i = 0; i < tracks.size(); ++i) {
          place(row, 0, told[i]);
          const std::vector<float> one =
              reference.features(row, tracks[i].track_id, tracks[i].artist_id,
                                 first + (alternatives ? far : i), false, now.time);
          expected.insert(expected.end(), one.begin(), one.end());
        }
      }
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t i = 0; i < found.size(); ++i) {
        ASSERT_PRED2(close, found[i], expected[i]) << "step " << step << ", output " << i % player.outputs;
        ++answers;
        known += !std::isnan(found[i]);
      }
    }
  }
  EXPECT_GT(answers, 300000u);
  EXPECT_GT(known, answers / 2);
  EXPECT_GT(sessions, 100u);
}

// --- What candidates share ---------------------------------------------------------------------------

/// What trees are like: how many different leaves, and how they are stored.
struct Leaves {
  std::uint32_t different;
  bool rough;  // any number; else multiples of 1/1024, so that float32 sums are exact in any order
  LeafStorage storage;
  schema::LeafFormat format;
};

/// Random trees over the features: every third, or all of them, ask of the first `context` alone. Of the
/// others some ask for sets of categories; zeros may be missing.
TreeEnsemble random_trees(int symmetric_depth, std::size_t count, std::size_t features, std::size_t context,
                          bool all_of_context, const Leaves& leaves, Random& random) {
  TreeEnsemble ensemble;
  ensemble.symmetric_depth = symmetric_depth;
  ensemble.base = {0.25};
  for (int i = 0; i < 4; ++i) {
    CategorySplit split;
    for (int c = 0; c < 3; ++c) split.right.push_back(random.below(2) == 0);
    split.missing_right = random.below(2) == 0;
    ensemble.category_splits.push_back(split);
  }
  for (std::size_t t = 0; t < count; ++t) {
    Tree tree;
    const auto reach = static_cast<std::uint32_t>(t % 3 == 0 || all_of_context ? context : features);
    const std::size_t tests = (std::size_t{1} << (symmetric_depth > 0 ? symmetric_depth : 1 + t % 5)) - 1;
    for (std::size_t n = 0; n < 2 * tests + 1; ++n) {
      TreeNode node;
      if (n < tests) {
        const std::size_t first_of_level = std::bit_floor(n + 1) - 1;
        if (symmetric_depth > 0 && first_of_level < n) {
          node = tree.nodes[first_of_level];
        } else {
          node.feature = static_cast<std::int32_t>(random.below(reach));
          node.threshold = static_cast<float>(random.below(400)) / 100 - 2;
          node.missing_left = random.below(2) == 0;
          node.zero_is_missing = random.below(4) == 0;
          if (node.feature == static_cast<std::int32_t>(context) + 1)
            node.category_split = static_cast<std::int32_t>(random.below(4));
        }
        node.left = static_cast<std::int32_t>(2 * n + 1);
        node.right = node.left + 1;
      } else {
        node.value = (static_cast<double>(random.below(leaves.different)) - leaves.different / 2.0) / 1024;
        if (leaves.rough) node.value = static_cast<float>(random.uniform() - 0.5);
      }
      tree.nodes.push_back(node);
    }
    ensemble.trees.push_back(std::move(tree));
  }
  return ensemble;
}

/// What there is to know of an ensemble of any kind.
struct Packed {
  bool blocks;
  std::uint32_t context_trees, context_axes;
  schema::LeafFormat leaf_format;
};

Packed packed_as(const schema::OperatorT& op) {
  const std::uint32_t context_axes = tree_inputs(op)->context_axes;
  if (const auto* trees = op.kind.AsBlockTrees())
    return {true, trees->context_trees, context_axes, trees->leaf_format};
  if (const auto* trees = op.kind.AsSymmetricTrees())
    return {false, trees->context_trees, context_axes, trees->leaf_format};
  const auto* trees = op.kind.AsBranchingTrees();
  return {false, trees->context_trees, context_axes, trees->leaf_format};
}

/// 50 candidates and a context, of so many numbers each.
struct Asked {
  std::vector<std::vector<float>> told;
  tonearm_now now;
  std::vector<tonearm_track> tracks;

  Asked(Random& random, std::uint32_t width) : now(at(100)), tracks(50, unknown<tonearm_track>()) {
    for (int i = 0; i < 51; ++i) {
      std::vector<float>& values = told.emplace_back();
      for (std::uint32_t k = 0; k < width; ++k)
        values.push_back(random.below(5) == 0   ? missing
                         : random.below(9) == 0 ? (random.below(2) == 0 ? infinity : -infinity)
                         : random.below(5) == 0 ? static_cast<float>(random.below(5)) - 1
                                                : static_cast<float>(random.below(410)) / 100 - 2.05f);
    }
    now.extra = told[50].data(), now.extra_count = width;
    for (std::size_t i = 0; i < 50; ++i) tracks[i].extra = told[i].data(), tracks[i].extra_count = width;
  }
  Asked(const Asked&) = delete;
};

TEST(SharedContext, AQueueGivesTheBitsOfSingleRequestsAndOfTreesThatShareNothing) {
  Random random(31);
  std::set<schema::LeafFormat> block_formats;
  struct Case {
    int depth;
    std::size_t count;
    bool all_of_context;
    std::uint32_t width = 3;  // columns of the candidate, and of the context
  };
  for (const Case& c : {Case{0, 150, false},
                        {1, 150, false},
                        {4, 150, false},
                        {5, 150, false},
                        {6, 150, false},
                        {0, 37, true},
                        {3, 70, true},
                        {0, 150, false, 20},
                        {4, 150, false, 20}})
    for (const Leaves& leaves : {Leaves{1, true, LeafStorage::exact, schema::LeafFormat::Float32},
                                 Leaves{100000, false, LeafStorage::exact, schema::LeafFormat::Float32},
                                 Leaves{20, false, LeafStorage::exact, schema::LeafFormat::Palette8},
                                 Leaves{290, false, LeafStorage::exact, schema::LeafFormat::Palette16},
                                 Leaves{1, true, LeafStorage::int16, schema::LeafFormat::Int16}})
      for (const auto& [name, layout] : tree_layouts) {
        SCOPED_TRACE("depth " + std::to_string(c.depth) + ", format " +
                     std::to_string(static_cast<int>(leaves.format)) + ", " + std::to_string(c.count) +
                     " trees, layout " + name);
        Draft draft;
        std::vector<std::uint16_t> of_track(c.width), of_now(c.width);
        for (std::uint32_t k = 0; k < c.width; ++k)
          of_track[k] = draft.column("track" + std::to_string(k), Source::Track);
        for (std::uint32_t k = 0; k < c.width; ++k)
          of_now[k] = draft.column("now" + std::to_string(k), Source::Now);
        const std::uint16_t first = draft.feature(Phase::Context, of_now, c.width, schema::IdentityT{});
        draft.feature(Phase::Candidate, of_track, c.width, schema::IdentityT{});
        draft.fact(schema::SessionFact::Horizon);
        const std::size_t features = 2 * std::size_t{c.width} + 1;
        TrainedModel trained;
        trained.predictor =
            random_trees(c.depth, c.count, features, c.width, c.all_of_context, leaves, random);
        std::vector<std::unique_ptr<Blob>> blobs;
        for (const std::size_t context : {std::size_t{c.width}, std::size_t{0}}) {
          schema::ModelT model(draft.model);
          append_predictor(model, trained, first, features, {leaves.storage, layout}, context);
          const Packed packed = packed_as(*model.operators.back());
          EXPECT_EQ(packed.blocks, layout == TreeLayout::automatic);
          // Few or padded leaves may be smaller in another format.
          if (packed.blocks) {
            block_formats.insert(packed.leaf_format);
          } else if (layout == TreeLayout::walk && c.count == 150 && c.depth != 1) {
            EXPECT_EQ(packed.leaf_format, leaves.format);
          }
          EXPECT_EQ(packed.context_axes > 0, context > 0);
          if (context == 0) {
            EXPECT_EQ(packed.context_trees, 0u);
          } else {
            EXPECT_GE(packed.context_trees, c.all_of_context ? c.count : 48u);
          }
          blobs.push_back(std::make_unique<Blob>(pack(model), "the test's blob"));
        }
        const std::vector<tonearm_model> sharing = opened_with_every_kernel(blobs[0]->bytes()),
                                         unsharing = opened_with_every_kernel(blobs[1]->bytes());
        for (int round = 0; round < 4; ++round) {
          const Asked asked(random, c.width);
          std::vector<float> reference;
          for (std::size_t k = 0; k < sharing.size(); ++k) {
            SCOPED_TRACE("CPU bit " + std::to_string(all_cpus()[k]));
            Player shares(sharing[k], 1), alone(unsharing[k], 1);
            const std::vector<float> queue = shares.queue(asked.tracks, &asked.now);
            if (k == 0) reference = queue;
            EXPECT_EQ(std::memcmp(queue.data(), reference.data(), queue.size() * 4), 0);
            std::vector<float> singles;
            for (std::uint32_t i = 0; i < 50; ++i)
              singles.push_back(shares.alternatives({asked.tracks[i]}, i, &asked.now)[0]);
            expect_same(queue, singles);
            const std::vector<float> unshared = alone.queue(asked.tracks, &asked.now);
            if (leaves.rough && leaves.storage == LeafStorage::exact) {
              for (std::size_t i = 0; i < 50; ++i) EXPECT_NEAR(queue[i], unshared[i], 1e-4f);
            } else {
              expect_same(queue, unshared);
            }
            EXPECT_EQ(*std::min_element(queue.begin(), queue.end()) ==
                          *std::max_element(queue.begin(), queue.end()),
                      c.all_of_context);
          }
        }
      }
  EXPECT_EQ(block_formats.size(), 4u);
}

// Trees without questions ask of nothing, and can be summed before candidates only where there is a context.
TEST(SharedContext, LoneLeavesAnswerInEveryLayout) {
  for (const auto& [name, layout] : tree_layouts)
    for (const bool context : {false, true}) {
      SCOPED_TRACE("layout " + name + (context ? ", with a context" : ""));
      Draft draft;
      const std::uint16_t now = draft.column("now", Source::Now);
      const std::uint16_t first = draft.feature(Phase::Context, {now}, 1, schema::IdentityT{});
      draft.fact(schema::SessionFact::Horizon);
      TreeEnsemble ensemble;
      ensemble.base = {0};
      for (int t = 0; t < 20; ++t) {
        Tree& tree = ensemble.trees.emplace_back();
        tree.nodes.emplace_back();
        tree.nodes[0].value = 1 << t;
      }
      schema::ModelT model(draft.model);
      append_predictor(model, {std::move(ensemble), {}}, first, 2, {LeafStorage::exact, layout},
                       context ? 1 : 0);
      const Blob blob(pack(model), "the test's blob");
      Player player(blob.model(), 1);
      EXPECT_EQ(player.queue({unknown<tonearm_track>()}), std::vector<float>{(1 << 20) - 1});
    }
}

// Trees of several outputs share nothing, and still answer.
TEST(SharedContext, SeveralOutputsAnswerAsTheirTreesDo) {
  Random random(32);
  const Leaves leaves = {2000, false, LeafStorage::exact, schema::LeafFormat::Float32};
  for (const int depth : {0, 4}) {
    Draft draft;
    for (const char* name : {"a", "b", "c"}) draft.column(name, Source::Track);
    for (const char* name : {"d", "e", "f"}) draft.column(name, Source::Now);
    const std::uint16_t first = draft.feature(Phase::Context, {3, 4, 5}, 3, schema::IdentityT{});
    draft.feature(Phase::Candidate, {0, 1, 2}, 3, schema::IdentityT{});
    draft.fact(schema::SessionFact::Horizon);
    TreeEnsemble ensemble = random_trees(depth, 75, 7, 3, false, leaves, random);
    ensemble.base = {0.25, -1, 0.5};
    append_trees(draft.model, ensemble, first, 7, LeafStorage::exact, 3);
    EXPECT_TRUE(packed_as(*draft.model.operators.back()).blocks);
    const std::unique_ptr<Blob> blob = draft.packed();
    const Asked asked(random, 3);
    for (const tonearm_model& model : opened_with_every_kernel(blob->bytes())) {
      Player player(model, 3);
      const std::vector<float> queue = player.queue(asked.tracks, &asked.now);
      for (std::size_t i = 0; i < 50; ++i) {
        std::vector<float> row = asked.told[50];
        row.insert(row.end(), asked.told[i].begin(), asked.told[i].end());
        row.push_back(static_cast<float>(i + 1));
        const std::vector<double> expected = ensemble_scores(ensemble, row);
        for (std::size_t k = 0; k < 3; ++k) EXPECT_EQ(static_cast<double>(queue[3 * i + k]), expected[k]);
      }
    }
  }
}

// --- Kinds of questions ------------------------------------------------------------------------------

/// One column of each source, each by itself in the output, then horizon, position and playing.
struct Visible {
  std::unique_ptr<Blob> blob;
  enum : std::size_t { shuffle, reason, tempo, horizon, position, playing, end, count };

  explicit Visible(bool leaky = false) {
    Draft draft;
    draft.model.card->leaky = leaky;
    const std::uint16_t track = draft.column("tempo", Source::Track, Field::Tempo);
    const std::uint16_t now = draft.column("shuffle", Source::Now, Field::IsShuffle);
    const std::uint16_t start = draft.column("reason", Source::Start, Field::ReasonStart, 15);
    const std::uint16_t seeks = draft.column("seeks", Source::End, Field::SeekForward, 0, -1);
    draft.feature(Phase::Context, {now, start}, 2, schema::IdentityT{});
    draft.feature(Phase::Candidate, {track}, 1, schema::IdentityT{});
    draft.fact(schema::SessionFact::Horizon);
    draft.fact(schema::SessionFact::Position);
    draft.fact(schema::SessionFact::Playing);
    if (leaky) draft.feature(Phase::Candidate, {seeks}, 1, schema::IdentityT{});
    blob = draft.features();
  }
};

tonearm_track with_tempo(float tempo) {
  auto track = unknown<tonearm_track>();
  track.tempo = tempo;
  return track;
}

tonearm_now with_shuffle(float shuffle) {
  auto now = unknown<tonearm_now>();
  now.is_shuffle = shuffle;
  return now;
}

TEST(Requests, EachKindSeesWhatIsKnown) {
  const Visible visible;
  Player player(*visible.blob);
  const tonearm_now one = with_shuffle(1), zero = with_shuffle(0);
  const tonearm_track slow = with_tempo(60), fast = with_tempo(180);
  auto start = unknown<tonearm_start>();
  start.reason = TONEARM_REASON_CLICKROW;

  // Between tracks, the first of the queue has horizon 1.
  expect_same(player.queue({slow, fast}, &one), {1, missing, 60, 1, 1, 0, 1, missing, 180, 2, 2, 0});
  expect_same(player.alternatives({slow, fast}, 4, nullptr),
              {missing, missing, 60, 5, 5, 0, missing, missing, 180, 5, 5, 0});
  EXPECT_TRUE(player.queue({}).empty());

  player.start(&slow, &start, &zero);
  expect_same(player.playing(), {0, 3, 60, 1, 1, 1});
  expect_same(player.playing(&one), {1, 3, 60, 1, 1, 1});
  // While a track plays it has 2. How the playing track started is known; whether the next is, is not asked.
  expect_same(player.queue({fast, slow}, &one), {1, 3, 180, 2, 2, 0, 1, 3, 60, 3, 3, 0});
  expect_same(player.queue({fast}), {missing, 3, 180, 2, 2, 0});
  expect_same(player.alternatives({fast}, 0), {missing, 3, 180, 2, 2, 0});
  expect_same(player.alternatives({fast}, 1000000), {missing, 3, 180, 1000002, 1000002, 0});

  player.end(nullptr);
  expect_same(player.queue({fast}), {missing, missing, 180, 1, 2, 0});
}

TEST(Requests, OnlyLeakyModelsReadOutcomes) {
  auto outcome = unknown<tonearm_end>();
  outcome.n_seekfwd = 5;
  const tonearm_track track = with_tempo(100);
  for (const bool leaky : {false, true}) {
    SCOPED_TRACE(leaky);
    const Visible visible(leaky);
    Player player(*visible.blob);
    auto request = unknown<tonearm_request>();
    request.kind = TONEARM_QUEUE;
    request.candidates = &track;
    request.candidate_count = 1;
    const std::vector<float> without = player.ask(request);
    request.outcomes = &outcome;
    const std::vector<float> with = player.ask(request);
    if (leaky) {
      EXPECT_EQ(without[Visible::end], -1);  // what the policy fills in
      EXPECT_EQ(with[Visible::end], 5);
      player.start(&track, nullptr, nullptr);
      request.kind = TONEARM_PLAYING;
      EXPECT_EQ(player.ask(request)[Visible::end], 5);
      request.outcomes = nullptr;
      EXPECT_EQ(player.ask(request)[Visible::end], -1);
    } else {
      expect_same(with, without);
    }
  }
}

TEST(Requests, ATracksOwnEndChangesNothingOfIt) {
  Draft draft;
  const std::uint16_t seeks = draft.column("seeks", Source::End, Field::SeekForward);
  const std::uint16_t skipped = draft.column("skipped", Source::End, Field::Skipped);
  draft.feature(Phase::Context, {seeks, skipped}, 2, schema::LagT{});
  draft.feature(Phase::Candidate, {skipped}, 3, schema::RepeatsT{});
  const std::unique_ptr<Blob> blob = draft.features();
  std::vector<std::vector<float>> before, after;
  for (const std::uint32_t skip :
       {TONEARM_SKIP_UNKNOWN, TONEARM_SKIP_NOT_SKIPPED, TONEARM_SKIP_VERY_BRIEFLY}) {
    Player player(*blob);
    player.start(1);
    player.end(ended_at(TONEARM_UNKNOWN_TIME, TONEARM_SKIP_BRIEFLY));
    player.start(1);
    before.push_back(player.playing());
    tonearm_end end = ended_at(TONEARM_UNKNOWN_TIME, skip);
    end.n_seekfwd = static_cast<float>(skip);
    player.end(end);
    after.push_back(player.queue({track_of(1)}));
  }
  expect_same(before[1], before[0]);
  expect_same(before[2], before[0]);
  EXPECT_NE(after[1], after[2]);
}

// Whatever the hash makes of an id: a known track was never heard before it was heard.
TEST(Requests, NoKnownIdIsTakenForAnUnknownOne) {
  Draft draft;
  const std::uint16_t skipped = draft.column("skipped", Source::End, Field::Skipped);
  schema::RepeatsT repeats;
  repeats.length = 4;
  draft.feature(Phase::Candidate, {skipped}, 3, repeats);
  const std::unique_ptr<Blob> blob = draft.features();
  std::uint32_t inverse = 1;  // of the hash's factor
  for (int i = 0; i < 5; ++i) inverse *= 2 - 0x9e3779b1u * inverse;
  ASSERT_EQ(inverse * 0x9e3779b1u, 1u);
  for (const std::uint64_t id :
       {std::uint64_t{1}, std::uint64_t{0x100000001}, ~std::uint64_t{0}, std::uint64_t{0u - inverse},
        std::uint64_t{0u - 2 * inverse}, std::uint64_t{inverse}, std::uint64_t{4u * inverse}}) {
    SCOPED_TRACE(id);
    Player player(*blob);
    player.start(0);
    player.end(nullptr);
    expect_same(player.queue({track_of(id)}), {0, 0, missing});
    player.start(id);
    player.end(nullptr);
    expect_same(player.queue({track_of(id)}), {1, 0, 1});
    expect_same(player.queue({track_of(0)}), {0, 0, missing});
  }
}

// --- Where sessions end ------------------------------------------------------------------------------

/// Lag (of this session), total (carried), gap, elapsed, position.
std::unique_ptr<Blob> watching(std::uint32_t idle_gap, std::uint32_t cap) {
  Draft draft;
  draft.model.session->idle_gap = idle_gap;
  draft.model.session->cap = cap;
  const std::uint16_t skipped = draft.column("skipped", Source::End, Field::Skipped);
  schema::LagT lag;
  lag.empty = -1;
  draft.feature(Phase::Context, {skipped}, 1, lag);
  schema::TotalT total;
  total.carries = true;
  draft.feature(Phase::Context, {skipped}, 1, total);
  draft.fact(schema::SessionFact::Gap);
  draft.fact(schema::SessionFact::Elapsed);
  draft.fact(schema::SessionFact::Position);
  return draft.features();
}

TEST(SessionRule, AnIdleGapIsExceededByOneSecond) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  for (const std::int64_t gap : {0, 1, 1200, 1201, 100000, -5}) {
    SCOPED_TRACE(gap);
    const bool fresh = gap > 1200;
    Player player(*blob);
    player.start(1, 1000);
    player.end(ended_at(1100, TONEARM_SKIP_BRIEFLY));
    const tonearm_now now = at(1100 + gap);
    // Between tracks, the answer is that of the session in which the track would play.
    expect_same(player.queue({track_of(2)}, &now),
                {fresh ? -1.0f : 1.0f, 1, missing, fresh ? missing : static_cast<float>(100 + gap),
                 fresh ? 1.0f : 2.0f});
    EXPECT_EQ(player.info().ended, 1u);
    player.start(2, 1100 + gap);
    EXPECT_EQ(player.info().ended, fresh ? 0u : 1u);
    expect_same(player.playing(),
                {fresh ? -1.0f : 1.0f, 1, static_cast<float>(std::max<std::int64_t>(gap, 0)),
                 fresh ? 0.0f : static_cast<float>(100 + gap), fresh ? 1.0f : 2.0f});
  }
}

TEST(SessionRule, UnknownTimesAndNoRuleNeverEndASession) {
  const std::unique_ptr<Blob> ruled = watching(1200, 0), free = watching(0, 0);
  struct Case {
    const Blob& blob;
    std::int64_t end, start;
  };
  for (const Case& c : {Case{*ruled, 1100, TONEARM_UNKNOWN_TIME}, Case{*free, 1100, 1000000000},
                        Case{*ruled, INT64_MAX, INT64_MIN + 1}, Case{*ruled, 1100, -1000000}}) {
    Player player(c.blob);
    player.start(1, 1000);
    player.end(ended_at(c.end, TONEARM_SKIP_BRIEFLY));
    player.start(2, c.start);
    EXPECT_EQ(player.info().ended, 1u);
  }
  // The widest of all gaps.
  Player player(*ruled);
  player.start(1, INT64_MIN + 1);
  player.end(ended_at(INT64_MIN + 1));
  player.start(2, INT64_MAX);
  EXPECT_EQ(player.info().ended, 0u);
}

TEST(SessionRule, ACapEndsASessionWhateverTheTime) {
  const std::unique_ptr<Blob> blob = watching(0, 3);
  Player player(*blob);
  for (std::uint32_t n = 0; n < 10; ++n) {
    EXPECT_EQ(player.queue({track_of(1)})[4], static_cast<float>(n % 3 + 1));
    player.start(n);
    EXPECT_EQ(player.info().ended, n % 3);
    EXPECT_EQ(player.playing()[4], static_cast<float>(n % 3 + 1));
    player.end(ended_at(TONEARM_UNKNOWN_TIME, TONEARM_SKIP_BRIEFLY));
    EXPECT_EQ(player.info().ended, n % 3 + 1);
    EXPECT_EQ(player.queue({track_of(1)})[1], static_cast<float>(n + 1));
  }
}

TEST(SessionRule, ACrossfadeIsAnEndOfWhichOnlyTheTimeIsKnown) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  Player crossfaded(*blob), ended(*blob);
  for (Player* player : {&crossfaded, &ended}) player->start(1, 1000);
  ended.end(ended_at(1090));
  for (Player* player : {&crossfaded, &ended}) player->start(2, 1090);
  EXPECT_TRUE(crossfaded.memory == ended.memory);
  EXPECT_EQ(crossfaded.info().ended, 1u);
  expect_same(crossfaded.playing(), {missing, 0, 0, 90, 2});
}

TEST(SessionRule, AnEndOfNothingIsToldSo) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  Player player(*blob);
  const std::vector<std::uint32_t> empty = player.memory;
  const auto end_nothing = [&] {
    return tonearm_track_end(player.model, player.session, nullptr, player.scratch.data(),
                             player.scratch_bytes());
  };
  EXPECT_EQ(end_nothing(), TONEARM_NOTHING_PLAYING);
  EXPECT_TRUE(player.memory == empty);
  player.start(7, 1000);
  ASSERT_EQ(tonearm_session_reset(player.model, player.session), TONEARM_OK);
  EXPECT_EQ(end_nothing(), TONEARM_NOTHING_PLAYING);
  EXPECT_EQ(player.info().track_id, 7u);
  EXPECT_EQ(player.info().playing, 0u);
}

// A struct of which nothing is known and no struct at all are the same.
TEST(SessionRule, NullIsAStructOfUnknowns) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  Player null(*blob), empty(*blob);
  const auto track = unknown<tonearm_track>();
  const auto start = unknown<tonearm_start>();
  const auto now = unknown<tonearm_now>();
  const auto end = unknown<tonearm_end>();
  null.start(nullptr, nullptr, nullptr), empty.start(&track, &start, &now);
  EXPECT_TRUE(null.memory == empty.memory);
  null.start(1, 1000), empty.start(1, 1000);
  null.end(nullptr), empty.end(end);
  EXPECT_TRUE(null.memory == empty.memory);
}

TEST(Replay, IsTheSameAsTheCallsOneByOne) {
  const std::unique_ptr<Blob> blob = watching(1200, 5);
  Random random(41);
  std::vector<tonearm_event> events;
  std::int64_t time = 1000;
  for (int n = 0; n < 60; ++n) {
    tonearm_event event{};
    event.struct_size = sizeof event;
    event.kind = 1 + random.below(2);
    if (n == 0) event.kind = TONEARM_EVENT_END;  // the log began in the middle
    if (n == 40) event.kind = TONEARM_EVENT_RESET;
    time += random.below(1500);
    event.track = track_of(random.below(3));
    event.start = unknown<tonearm_start>();
    event.now = at(time);
    event.end = ended_at(time, random.below(6));
    events.push_back(event);
  }
  Player once(*blob), replayed(*blob);
  for (const tonearm_event& event : events)
    if (event.kind == TONEARM_EVENT_START)
      once.start(&event.track, &event.start, &event.now);
    else if (event.kind == TONEARM_EVENT_RESET)
      tonearm_session_reset(once.model, once.session);
    else
      tonearm_track_end(once.model, once.session, &event.end, once.scratch.data(), once.scratch_bytes());
  replayed.start(9, 5);  // what was there before is gone
  const auto replay_all = [&](std::size_t count) {
    return tonearm_session_replay(replayed.model, replayed.session, events.data(), count,
                                  replayed.scratch.data(), replayed.scratch_bytes());
  };
  EXPECT_EQ(replay_all(events.size()), TONEARM_OK);
  EXPECT_TRUE(once.memory == replayed.memory);
  EXPECT_EQ(tonearm_session_replay(replayed.model, replayed.session, nullptr, 0, replayed.scratch.data(),
                                   replayed.scratch_bytes()),
            TONEARM_OK);
  EXPECT_TRUE(replayed.memory == Player(*blob).memory);
  events[20].kind = 4;
  EXPECT_EQ(replay_all(events.size()), TONEARM_OUT_OF_RANGE);
  const std::vector<std::uint32_t> stopped = replayed.memory;
  EXPECT_EQ(replay_all(20), TONEARM_OK);
  EXPECT_TRUE(stopped == replayed.memory);
  events[20].kind = TONEARM_EVENT_END;
  events[20].struct_size += 8;
  EXPECT_EQ(replay_all(events.size()), TONEARM_BAD_STRUCT_SIZE);
}

// --- Images ------------------------------------------------------------------------------------------

using Bytes = std::vector<unsigned char>;

Bytes image_of(const Player& player) {
  Bytes image(player.memory.size() * 4);
  EXPECT_EQ(tonearm_session_save(player.model, player.session, image.data(), image.size()), TONEARM_OK);
  return image;
}

/// A session in the middle of listening.
void listen(Player& player) {
  for (std::uint32_t n = 0; n < 4; ++n) {
    player.start(n, 1000 + 100 * n);
    if (n < 3) player.end(ended_at(1090 + 100 * n, 1 + n));
  }
}

TEST(Image, ACopyGoesOnAsTheSessionDoes) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  const Blob same_bytes(Bytes(blob->bytes().begin(), blob->bytes().end()), "another copy of the blob");
  Player original(*blob), copied(*blob), loaded(same_bytes);
  listen(original);
  std::memcpy(copied.memory.data(), original.memory.data(), original.memory.size() * 4);
  Bytes image = image_of(original);
  image.insert(image.begin(), 1, 0);  // needs no alignment
  loaded.session = nullptr;
  ASSERT_EQ(tonearm_session_load(loaded.model, loaded.memory.data(), loaded.memory.size() * 4,
                                 image.data() + 1, image.size() - 1, &loaded.session),
            TONEARM_OK);
  EXPECT_EQ(static_cast<void*>(loaded.session), static_cast<void*>(loaded.memory.data()));
  for (Player* player : {&copied, &loaded}) {
    EXPECT_TRUE(player->memory == original.memory);
    expect_same(player->playing(), original.playing());
  }
  for (Player* player : {&original, &copied, &loaded}) player->end(ended_at(1400, TONEARM_SKIP_BRIEFLY));
  EXPECT_TRUE(copied.memory == original.memory);
  EXPECT_TRUE(loaded.memory == original.memory);
}

TEST(Image, EveryChangedBitAndEveryLengthIsRefused) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  Player player(*blob);
  listen(player);
  const Bytes image = image_of(player);
  const std::vector<std::uint32_t> before = player.memory;
  tonearm_session* session = nullptr;
  const auto load = [&](const Bytes& bytes) {
    // Alone in a block of the heap, so that a sanitizer sees the byte behind.
    const std::unique_ptr<unsigned char[]> block(new unsigned char[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), block.get());
    return tonearm_session_load(player.model, player.memory.data(), player.memory.size() * 4, block.get(),
                                bytes.size(), &session);
  };
  for (std::size_t bit = 0; bit < 8 * image.size(); ++bit) {
    Bytes bytes = image;
    bytes[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
    // The first 16 bytes say whose session it is.
    ASSERT_EQ(load(bytes), bit < 128 ? TONEARM_WRONG_SESSION : TONEARM_SESSION_CORRUPT) << bit;
  }
  for (std::size_t size = 0; size < image.size(); ++size)
    ASSERT_EQ(load(Bytes(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(size))),
              TONEARM_SESSION_CORRUPT)
        << size;
  Bytes longer = image;
  longer.push_back(0);
  EXPECT_EQ(load(longer), TONEARM_SESSION_CORRUPT);
  EXPECT_EQ(load(Bytes(image.size(), 0)), TONEARM_WRONG_SESSION);
  EXPECT_TRUE(player.memory == before);
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(load(image), TONEARM_OK);
}

TEST(Image, BelongsToItsModel) {
  const std::unique_ptr<Blob> one = watching(1200, 0), other = watching(1201, 0);
  Player player(*one), stranger(*other);
  ASSERT_EQ(player.memory.size(), stranger.memory.size());
  const Bytes image = image_of(player);
  const std::vector<std::uint32_t> before = stranger.memory;
  EXPECT_EQ(tonearm_session_load(stranger.model, stranger.memory.data(), stranger.memory.size() * 4,
                                 image.data(), image.size(), &stranger.session),
            TONEARM_WRONG_SESSION);
  EXPECT_TRUE(stranger.memory == before);
  float out[8];
  auto request = unknown<tonearm_request>();
  request.kind = TONEARM_QUEUE;
  EXPECT_EQ(tonearm_predict(stranger.model, player.session, &request, stranger.scratch.data(),
                            stranger.scratch_bytes(), out),
            TONEARM_WRONG_SESSION);
}

void seal_image(Bytes& image) {
  constexpr std::size_t crc_at = 16;
  std::memset(&image[crc_at], 0, 4);
  const std::uint32_t crc = crc32(image);
  std::memcpy(&image[crc_at], &crc, 4);
}

// A forger can compute a checksum: whatever such an image holds, calls are safe and end.
TEST(Image, ArbitraryBytesDoNoHarm) {
  Random random(51);
  std::size_t loaded = 0;
  for (const SampleModel& sample : session_sample_models()) {
    const Blob blob(golden_blob(sample), sample.name);
    Player player(blob);
    const Bytes empty = image_of(player);
    std::vector<float> out(blob.outputs());
    for (int n = 0; n < 150; ++n) {
      Bytes image = empty;
      for (std::size_t i = 20; i < image.size(); ++i)
        if (n % 2 == 0 || random.below(8) == 0) image[i] = static_cast<unsigned char>(random.next());
      const std::uint32_t playing = random.below(n % 5 == 0 ? 3 : 2), reserved = 0;
      std::memcpy(&image[20], &playing, 4);
      std::memcpy(&image[36], &reserved, 4);
      seal_image(image);
      const tonearm_status status =
          tonearm_session_load(player.model, player.memory.data(), player.memory.size() * 4, image.data(),
                               image.size(), &player.session);
      ASSERT_EQ(status, playing > 1 ? TONEARM_SESSION_CORRUPT : TONEARM_OK);
      if (status != TONEARM_OK) continue;
      ++loaded;
      EXPECT_TRUE(image_of(player) == image);
      for (std::size_t e = 0; e < 6; ++e) {
        const SampleEvent& event =
            sample.events[random.below(static_cast<std::uint32_t>(sample.events.size()))];
        bool answered = false;
        const tonearm_status told = perform(blob.model(), player.session, event, player.scratch.data(),
                                            player.scratch_bytes(), out.data(), answered);
        EXPECT_TRUE(told == TONEARM_OK || told == TONEARM_NOTHING_PLAYING || told == TONEARM_OUT_OF_RANGE)
            << told;
        if (!answered || told != TONEARM_OK || blob.outputs() != 1) continue;
        EXPECT_GE(out[0], 0.0f);  // trees always give a number
        EXPECT_LE(out[0], 1.0f);
      }
      player.queue({track_of(1), track_of(2)});
    }
  }
  EXPECT_GT(loaded, 400u);
}

// --- Wrong calls -------------------------------------------------------------------------------------

/// Every call of a session, each right but for what a case changes.
struct Call {
  const tonearm_model* model;
  tonearm_session* session;
  void* scratch;
  std::size_t scratch_size;
  tonearm_track track = track_of(1);
  tonearm_start start = unknown<tonearm_start>();
  tonearm_now now = unknown<tonearm_now>();
  tonearm_end end = unknown<tonearm_end>();
  tonearm_request request = unknown<tonearm_request>();
  std::vector<tonearm_track> candidates = {track_of(1), track_of(2)};
  float out[16] = {};

  explicit Call(Player& player)
      : model(player.model),
        session(player.session),
        scratch(player.scratch.data()),
        scratch_size(player.scratch_bytes()) {
    request.kind = TONEARM_QUEUE;
    request.candidates = candidates.data();
    request.candidate_count = 2;
    request.now = &now;
  }
  tonearm_status do_start() {
    return tonearm_track_start(model, session, &track, &start, &now, scratch, scratch_size);
  }
  tonearm_status do_end() { return tonearm_track_end(model, session, &end, scratch, scratch_size); }
  tonearm_status do_predict() {
    return tonearm_predict(model, session, &request, scratch, scratch_size, out);
  }
  tonearm_status do_replay() {
    return tonearm_session_replay(model, session, nullptr, 0, scratch, scratch_size);
  }
};

template <typename T>
T* shifted(T* pointer, std::size_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(pointer) + bytes);
}

TEST(Arguments, EveryWrongOneIsNamedAndNothingIsWritten) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  const Blob plain(golden_blob(sample_model("symmetric-int16")), "a plain table");
  const tonearm_model closed{};
  Player player(*blob);
  player.start(1, 1000);
  std::vector<std::uint32_t> noise(player.memory.size(), 0x12345678);
  const std::vector<std::uint32_t> before = player.memory;
  constexpr float untouched = 77;

  const auto refused = [&](tonearm_status expected, auto change,
                           std::initializer_list<tonearm_status (Call::*)()> calls, int line) {
    for (const auto call : calls) {
      Call wrong(player);
      std::fill(std::begin(wrong.out), std::end(wrong.out), untouched);
      change(wrong);
      EXPECT_EQ((wrong.*call)(), expected) << "line " << line;
      EXPECT_TRUE(player.memory == before) << "line " << line;
      EXPECT_EQ(std::count(std::begin(wrong.out), std::end(wrong.out), untouched), 16) << "line " << line;
    }
  };
  const auto all = {&Call::do_start, &Call::do_end, &Call::do_predict, &Call::do_replay};
  const auto predict = {&Call::do_predict};
  const auto start = {&Call::do_start};
  refused(
      TONEARM_NULL_ARGUMENT, [](Call& c) { c.model = nullptr; }, all, __LINE__);
  refused(
      TONEARM_NULL_ARGUMENT, [](Call& c) { c.session = nullptr; }, all, __LINE__);
  refused(
      TONEARM_NULL_ARGUMENT, [](Call& c) { c.scratch = nullptr; }, all, __LINE__);
  refused(
      TONEARM_NOT_OPEN, [&](Call& c) { c.model = &closed; }, all, __LINE__);
  refused(
      TONEARM_NOT_A_SESSION_MODEL, [&](Call& c) { c.model = &plain.model(); }, all, __LINE__);
  refused(
      TONEARM_WRONG_SESSION, [&](Call& c) { c.session = reinterpret_cast<tonearm_session*>(noise.data()); },
      all, __LINE__);
  refused(
      TONEARM_SCRATCH_TOO_SMALL, [](Call& c) { --c.scratch_size; }, all, __LINE__);
  refused(
      TONEARM_SCRATCH_TOO_SMALL, [](Call& c) { c.scratch_size = 0; }, all, __LINE__);
  for (std::size_t by = 1; by < 4; ++by) {
    refused(
        TONEARM_MISALIGNED, [&](Call& c) { c.session = shifted(c.session, by); }, all, __LINE__);
    refused(
        TONEARM_MISALIGNED, [&](Call& c) { c.scratch = shifted(static_cast<char*>(c.scratch), by); }, all,
        __LINE__);
  }
  // Structs: not set, a byte too small, a count of numbers that are not there.
  const auto structs = [&](auto member, auto calls) {
    refused(
        TONEARM_BAD_STRUCT_SIZE, [&](Call& c) { (c.*member).struct_size = 0; }, calls, __LINE__);
    refused(
        TONEARM_BAD_STRUCT_SIZE, [&](Call& c) { --(c.*member).struct_size; }, calls, __LINE__);
    refused(
        TONEARM_NULL_ARGUMENT, [&](Call& c) { (c.*member).extra_count = 1; }, calls, __LINE__);
  };
  structs(&Call::track, start);
  structs(&Call::start, start);
  structs(&Call::now, std::initializer_list<tonearm_status (Call::*)()>{&Call::do_start, &Call::do_predict});
  structs(&Call::end, std::initializer_list<tonearm_status (Call::*)()>{&Call::do_end});

  refused(
      TONEARM_BAD_STRUCT_SIZE, [](Call& c) { c.request.struct_size = 0; }, predict, __LINE__);
  refused(
      TONEARM_BAD_STRUCT_SIZE, [](Call& c) { --c.request.struct_size; }, predict, __LINE__);
  for (const std::uint32_t kind : {0u, 4u, UINT32_MAX})
    refused(
        TONEARM_OUT_OF_RANGE, [&](Call& c) { c.request.kind = kind; }, predict, __LINE__);
  refused(
      TONEARM_NULL_ARGUMENT, [](Call& c) { c.request.candidates = nullptr; }, predict, __LINE__);
  refused(
      TONEARM_OUT_OF_RANGE, [](Call& c) { c.request.candidate_count = 1000001; }, predict, __LINE__);
  refused(
      TONEARM_OUT_OF_RANGE, [](Call& c) { c.request.kind = TONEARM_ALTERNATIVES, c.request.place = 1000001; },
      predict, __LINE__);
  for (const std::size_t which : {0u, 1u}) {
    refused(
        TONEARM_BAD_STRUCT_SIZE, [&](Call& c) { c.candidates[which].struct_size = 0; }, predict, __LINE__);
    refused(
        TONEARM_BAD_STRUCT_SIZE, [&](Call& c) { --c.candidates[which].struct_size; }, predict, __LINE__);
    refused(
        TONEARM_NULL_ARGUMENT, [&](Call& c) { c.candidates[which].extra_count = 2; }, predict, __LINE__);
  }
  refused(
      TONEARM_BAD_STRUCT_SIZE, [](Call& c) { c.candidates[1].struct_size += 8; }, predict, __LINE__);

  // What is not read may be anything.
  Call right(player);
  right.request.candidate_count = 0;
  right.request.candidates = nullptr;
  EXPECT_EQ(right.do_predict(), TONEARM_OK);
  right.request.kind = TONEARM_PLAYING;
  right.request.candidate_count = UINT32_MAX;
  right.request.place = UINT32_MAX;
  EXPECT_EQ(right.do_predict(), TONEARM_OK);
  Player silent(*blob);
  Call nothing(silent);
  nothing.request.kind = TONEARM_PLAYING;
  EXPECT_EQ(nothing.do_predict(), TONEARM_NOTHING_PLAYING);
  EXPECT_EQ(nothing.do_end(), TONEARM_NOTHING_PLAYING);
  for (tonearm_request* request : {static_cast<tonearm_request*>(nullptr), &nothing.request})
    EXPECT_EQ(tonearm_predict(nothing.model, nothing.session, request, nothing.scratch, nothing.scratch_size,
                              request == nullptr ? nothing.out : nullptr),
              TONEARM_NULL_ARGUMENT);
}

TEST(Arguments, OfTheCallsThatOnlyTouchTheSession) {
  const std::unique_ptr<Blob> blob = watching(1200, 0);
  const Blob plain(golden_blob(sample_model("symmetric-int16")), "a plain table");
  const tonearm_model closed{};
  Player player(*blob);
  const std::size_t size = player.memory.size() * 4;
  Bytes image(size);
  tonearm_session_info info{};
  info.struct_size = sizeof info;
  float row[1];
  const tonearm_model* model = &blob->model();
  tonearm_session* session = player.session;
  void* memory = player.memory.data();
  tonearm_session* made = nullptr;
  const std::vector<std::uint32_t> before = player.memory;

  EXPECT_EQ(tonearm_session_size(nullptr), 0u);
  EXPECT_EQ(tonearm_session_size(&closed), 0u);
  EXPECT_EQ(tonearm_session_size(&plain.model()), 0u);
  for (const auto& [bad, status] :
       {std::pair{static_cast<const tonearm_model*>(nullptr), TONEARM_NULL_ARGUMENT},
        std::pair{&closed, TONEARM_NOT_OPEN}, std::pair{&plain.model(), TONEARM_NOT_A_SESSION_MODEL}}) {
    EXPECT_EQ(tonearm_session_init(bad, memory, size, &made), status);
    EXPECT_EQ(tonearm_session_reset(bad, session), status);
    EXPECT_EQ(tonearm_session_save(bad, session, image.data(), size), status);
    EXPECT_EQ(tonearm_session_load(bad, memory, size, image.data(), size, &made), status);
    EXPECT_EQ(tonearm_session_describe(bad, session, &info), status);
    EXPECT_EQ(tonearm_session_row(bad, nullptr, nullptr, nullptr, nullptr, row, 1), status);
  }
  EXPECT_EQ(tonearm_session_init(model, nullptr, size, &made), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_init(model, memory, size, nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_init(model, memory, size - 1, &made), TONEARM_SESSION_TOO_SMALL);
  EXPECT_EQ(tonearm_session_reset(model, nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_save(model, session, nullptr, size), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_save(model, nullptr, image.data(), size), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_save(model, session, image.data(), size - 1), TONEARM_SESSION_TOO_SMALL);
  EXPECT_TRUE(std::all_of(image.begin(), image.end(), [](unsigned char byte) { return byte == 0; }));
  EXPECT_EQ(tonearm_session_load(model, nullptr, size, image.data(), size, &made), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_load(model, memory, size, nullptr, size, &made), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_load(model, memory, size, image.data(), size, nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_load(model, memory, size - 1, image.data(), size, &made),
            TONEARM_SESSION_TOO_SMALL);
  EXPECT_EQ(tonearm_session_describe(model, session, nullptr), TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_describe(model, nullptr, &info), TONEARM_NULL_ARGUMENT);
  info.struct_size = sizeof info - 1;
  EXPECT_EQ(tonearm_session_describe(model, session, &info), TONEARM_BAD_STRUCT_SIZE);
  EXPECT_EQ(tonearm_session_row(model, nullptr, nullptr, nullptr, nullptr, nullptr, 1),
            TONEARM_NULL_ARGUMENT);
  EXPECT_EQ(tonearm_session_row(model, nullptr, nullptr, nullptr, nullptr, row, 2), TONEARM_WRONG_COLUMNS);
  tonearm_end end = unknown<tonearm_end>();
  end.struct_size = 0;
  EXPECT_EQ(tonearm_session_row(model, nullptr, nullptr, nullptr, &end, row, 1), TONEARM_BAD_STRUCT_SIZE);
  for (std::size_t by = 1; by < 4; ++by) {
    EXPECT_EQ(tonearm_session_init(model, shifted(static_cast<char*>(memory), by), size, &made),
              TONEARM_MISALIGNED);
    EXPECT_EQ(
        tonearm_session_load(model, shifted(static_cast<char*>(memory), by), size, image.data(), size, &made),
        TONEARM_MISALIGNED);
    EXPECT_EQ(tonearm_session_reset(model, shifted(session, by)), TONEARM_MISALIGNED);
    EXPECT_EQ(tonearm_session_save(model, shifted(session, by), image.data(), size), TONEARM_MISALIGNED);
    info.struct_size = sizeof info;
    EXPECT_EQ(tonearm_session_describe(model, shifted(session, by), &info), TONEARM_MISALIGNED);
  }
  EXPECT_TRUE(player.memory == before);
  EXPECT_EQ(made, nullptr);
  std::vector<float> table_row(1);
  EXPECT_EQ(tonearm_evaluate(model, table_row.data(), 1, player.scratch.data(), player.scratch_bytes(), row),
            TONEARM_NOT_A_TABLE_MODEL);
}

// --- Structs of another version ----------------------------------------------------------------------

template <typename Struct>
struct Longer {
  Struct told;
  std::uint64_t later[3];
};

TEST(Growth, LongerStructsAreReadInTheirOwnStride) {
  const Visible visible(true);
  Player player(*visible.blob);
  const auto grown = [](auto& longer, auto told) {
    std::memset(&longer, 0xab, sizeof longer);
    longer.told = told;
    longer.told.struct_size = sizeof longer;
  };
  Longer<tonearm_track> tracks[3];
  Longer<tonearm_end> ends[3];
  for (int i = 0; i < 3; ++i) {
    grown(tracks[i], with_tempo(static_cast<float>(60 + i)));
    auto end = unknown<tonearm_end>();
    end.n_seekfwd = static_cast<float>(i);
    grown(ends[i], end);
  }
  Longer<tonearm_now> now;
  grown(now, with_shuffle(1));
  Longer<tonearm_request> request;
  grown(request, unknown<tonearm_request>());
  request.told.kind = TONEARM_QUEUE;
  request.told.candidates = &tracks[0].told;
  request.told.candidate_count = 3;
  request.told.outcomes = &ends[0].told;
  request.told.now = &now.told;
  const std::vector<float> found = player.ask(request.told);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(found[i * Visible::count + Visible::tempo], 60 + static_cast<float>(i));
    EXPECT_EQ(found[i * Visible::count + Visible::end], static_cast<float>(i));
    EXPECT_EQ(found[i * Visible::count + Visible::shuffle], 1);
  }
  Longer<tonearm_session_info> info;
  std::memset(&info, 0xab, sizeof info);
  info.told.struct_size = sizeof info;
  EXPECT_EQ(tonearm_session_describe(player.model, player.session, &info.told), TONEARM_OK);
  EXPECT_EQ(info.told.struct_size, sizeof info);
  EXPECT_EQ(info.later[0], 0xababababababababu);

  // An initializer of this version leaves what it does not know at zero.
  Longer<tonearm_end> made;
  std::memset(&made, 0xab, sizeof made);
  tonearm_end_init(&made.told, sizeof made);
  EXPECT_EQ(made.told.struct_size, sizeof made);
  EXPECT_EQ(made.later[2], 0u);
}

TEST(Growth, ExtraColumnsAreFoundByName) {
  Draft draft;
  draft.column("genre", Source::Track, Field::Extra, 3);
  draft.column("tempo", Source::Track, Field::Tempo);
  draft.column("taste", Source::Track);
  draft.column("weather", Source::Now);
  draft.column("volume", Source::Start);
  draft.column("dance", Source::End);
  draft.feature(Phase::Candidate, {0, 1, 2, 3, 4}, 5, schema::IdentityT{});
  const std::unique_ptr<Blob> blob = draft.features();
  const auto place = [&](const char* name) {
    std::uint32_t index = 0;
    EXPECT_EQ(tonearm_model_column(&blob->model(), name, &index), TONEARM_OK);
    tonearm_column column{};
    column.struct_size = sizeof column;
    EXPECT_EQ(tonearm_model_column_at(&blob->model(), index, &column), TONEARM_OK);
    return column.extra;
  };
  EXPECT_EQ(place("genre"), 0u);
  EXPECT_EQ(place("tempo"), UINT32_MAX);
  EXPECT_EQ(place("taste"), 1u);
  for (const char* name : {"weather", "volume", "dance"}) EXPECT_EQ(place(name), 0u);

  std::vector<float> numbers(2);
  numbers[place("genre")] = 2;
  numbers[place("taste")] = 0.5f;
  const float weather = 7, volume = 8, dance = 9;
  tonearm_track track = with_tempo(90);
  track.extra = numbers.data();
  tonearm_now now = unknown<tonearm_now>();
  tonearm_start start = unknown<tonearm_start>();
  tonearm_end end = unknown<tonearm_end>();
  now.extra = &weather, start.extra = &volume, end.extra = &dance;
  now.extra_count = start.extra_count = end.extra_count = 1;
  std::vector<float> row(6);
  for (const std::uint32_t count : {0u, 1u, 2u}) {  // those beyond are unknown
    track.extra_count = count;
    ASSERT_EQ(tonearm_session_row(&blob->model(), &track, &now, &start, &end, row.data(), 6), TONEARM_OK);
    expect_same(row, {count > 0 ? 2 : missing, 90, count > 1 ? 0.5f : missing, 7, 8, 9});
  }
  ASSERT_EQ(tonearm_session_row(&blob->model(), nullptr, nullptr, nullptr, nullptr, row.data(), 6),
            TONEARM_OK);
  expect_same(row, std::vector<float>(6, missing));
}

// --- Calendar and labels -----------------------------------------------------------------------------

TEST(Calendar, HourWeekdayAndYear) {
  Draft draft;
  draft.column("hour", Source::Now, Field::HourOfDay);
  draft.column("weekday", Source::Now, Field::Weekday);
  draft.column("year", Source::Now, Field::Year);
  draft.column("skipped", Source::End, Field::Skipped);
  draft.feature(Phase::Context, {0, 1, 2}, 3, schema::IdentityT{});
  const std::unique_ptr<Blob> blob = draft.features();
  struct Case {
    std::int64_t time;
    std::int32_t offset;
    std::uint32_t date;
    float hour_of_day, hour, weekday, year;
  };
  constexpr std::int32_t no_offset = TONEARM_UNKNOWN_OFFSET;
  constexpr std::int64_t no_time = TONEARM_UNKNOWN_TIME;
  const auto day = [](int year, int days_before, int days) {
    return static_cast<float>(year) + static_cast<float>(days_before) / static_cast<float>(days);
  };
  const Case cases[] = {
      // The epoch was a Thursday.
      {0, 0, 0, missing, 0, 3, 1970},
      {-1, 0, 0, missing, 23, 2, day(1969, 364, 365)},
      {86399, 0, 0, missing, 23, 3, 1970},
      {86400, 0, 0, missing, 0, 4, day(1970, 1, 365)},
      {0, 3600, 0, missing, 1, 3, 1970},
      {0, -3600, 0, missing, 23, 2, day(1969, 364, 365)},
      // Leap days and the days after; 1900 and 2100 have none.
      {951782400, 0, 0, missing, 0, 1, day(2000, 59, 366)},         // 2000-02-29
      {951868800, 0, 0, missing, 0, 2, day(2000, 60, 366)},         // 2000-03-01
      {978220800, 0, 0, missing, 0, 6, day(2000, 365, 366)},        // 2000-12-31
      {1078012800, 0, 0, missing, 0, 6, day(2004, 59, 366)},        // 2004-02-29
      {4107542400, 0, 0, missing, 0, 0, day(2100, 59, 365)},        // 2100-03-01
      {-2203891200, 0, 0, missing, 0, 3, day(1900, 59, 365)},       // 1900-03-01
      {1531612800, 0, 0, missing, 0, 6, day(2018, 195, 365)},       // 2018-07-15
      {1530532800, 19800, 0, missing, 17, 0, day(2018, 182, 365)},  // 2018-07-02 12:00 UTC, in India
      // The middle of 2018.
      {no_time, 0, 20180702, missing, missing, 0, day(2018, 182, 365)},
      // A date that is given goes before the time; so does an hour.
      {0, 0, 20180715, missing, 0, 6, day(2018, 195, 365)},
      {0, 0, 20000229, 13, 13, 1, day(2000, 59, 366)},
      {no_time, no_offset, 20181231, 23, 23, 0, day(2018, 364, 365)},
      // Unknown: no time, no offset, or so far away that it is a mistake.
      {no_time, 0, 0, missing, missing, missing, missing},
      {0, no_offset, 0, missing, missing, missing, missing},
      {INT64_MAX, 0, 0, missing, missing, missing, missing},
      {INT64_MIN + 1, INT32_MAX, 0, missing, missing, missing, missing},
      {(std::int64_t{1} << 40) + 1, 0, 0, missing, missing, missing, missing},
      // Dates that are none.
      {0, 0, 1, missing, 0, missing, missing},
      {0, 0, 20181301, missing, 0, missing, missing},
      {0, 0, 20180015, missing, 0, missing, missing},
      {0, 0, 20180700, missing, 0, missing, missing},
      {0, 0, 20180732, missing, 0, missing, missing},
      {0, 0, 100000101, missing, 0, missing, missing},
      {0, 0, UINT32_MAX, missing, 0, missing, missing},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE("time " + std::to_string(c.time) + ", date " + std::to_string(c.date));
    tonearm_now now = at(c.time);
    now.utc_offset = c.offset;
    now.date = c.date;
    now.hour_of_day = c.hour_of_day;
    std::vector<float> row(4);
    ASSERT_EQ(tonearm_session_row(&blob->model(), nullptr, &now, nullptr, nullptr, row.data(), 4),
              TONEARM_OK);
    expect_same(row, {c.hour, c.weekday, c.year, missing});
  }
}

TEST(Label, TheRuleIsThatOfTheSchema) {
  struct Rule {
    std::uint32_t reasons, below_ms;
    float below_share;
  };
  constexpr std::uint32_t forward = 1u << TONEARM_REASON_FWDBTN;
  const auto expected_of = [](const Rule& rule, std::uint8_t level, const tonearm_end& end, float duration) {
    if (end.skip >= 1 && end.skip <= 5) return end.skip >= level ? 1.0f : 0.0f;
    bool unknown = rule.reasons == 0 && rule.below_ms == 0 && rule.below_share <= 0;
    const auto condition = [&](bool asked, bool known, bool holds) {
      if (asked && known && !holds) return false;
      if (asked && !known) unknown = true;
      return true;
    };
    const bool reason = condition(rule.reasons != 0, end.reason != 0 && end.reason < 32,
                                  end.reason < 32 && (rule.reasons >> end.reason & 1) != 0);
    const bool ms = condition(rule.below_ms != 0, !std::isnan(end.ms_played),
                              end.ms_played < static_cast<float>(rule.below_ms));
    const bool share = condition(rule.below_share > 0, !std::isnan(end.ms_played) && duration > 0,
                                 end.ms_played / 1000 < rule.below_share * duration);
    if (!reason || !ms || !share) return 0.0f;  // one that fails is enough, whatever else is unknown
    return unknown ? missing : 1.0f;
  };
  std::size_t skips = 0, plays = 0, unknowns = 0;
  for (const Rule& rule :
       {Rule{0, 0, 0}, Rule{forward, 0, 0}, Rule{0, 30000, 0}, Rule{0, 0, 0.5f}, Rule{forward, 30000, 0},
        Rule{forward, 0, 0.5f}, Rule{0, 30000, 0.5f}, Rule{forward | 1u << 31, 30000, 0.5f}, Rule{0, 0, -1}})
    for (std::uint8_t level = 2; level <= 5; ++level) {
      Draft draft;
      draft.model.label->level = level;
      draft.model.label->reasons = rule.reasons;
      draft.model.label->below_ms = rule.below_ms;
      draft.model.label->below_share = rule.below_share;
      draft.column("duration", Source::Track, Field::Duration);
      for (const Field field : {Field::Skipped, Field::Completed, Field::NotSkipped, Field::Skip1,
                                Field::Skip2, Field::Skip3, Field::PlayedShare})
        draft.column(schema::EnumNameField(field), Source::End, field);
      draft.feature(Phase::Candidate, {0}, 1, schema::IdentityT{});
      const std::unique_ptr<Blob> blob = draft.features();
      for (const std::uint32_t skip : {0u, 1u, 2u, 3u, 4u, 5u, 6u, UINT32_MAX})
        for (const std::uint32_t reason : {0u, 1u, 2u, 31u, 32u, UINT32_MAX})
          for (const float ms : {missing, -1.0f, 0.0f, 29999.0f, 30000.0f, 1e9f, infinity})
            for (const float duration : {missing, 0.0f, 20.0f, 60.0f, infinity}) {
              auto track = unknown<tonearm_track>();
              track.duration = duration;
              auto end = unknown<tonearm_end>();
              end.skip = skip, end.reason = reason, end.ms_played = ms;
              const float skipped = expected_of(rule, level, end, duration);
              // A level that follows from the rule is that of the label.
              const float known_level = skip >= 1 && skip <= 5 ? static_cast<float>(skip)
                                        : std::isnan(skipped)  ? missing
                                        : skipped == 0         ? 1
                                                               : static_cast<float>(level);
              const auto at_least = [&](float least) {
                return std::isnan(known_level) ? missing : known_level >= least ? 1.0f : 0.0f;
              };
              std::vector<float> row(8);
              ASSERT_EQ(tonearm_session_row(&blob->model(), &track, nullptr, nullptr, &end, row.data(), 8),
                        TONEARM_OK);
              expect_same(row, {duration, skipped, std::isnan(skipped) ? missing : 1 - skipped,
                                std::isnan(known_level) ? missing
                                : known_level == 1      ? 1.0f
                                                        : 0.0f,
                                at_least(5), at_least(4), at_least(3),
                                duration > 0 ? ms / 1000 / duration : missing});
              skips += skipped == 1, plays += skipped == 0, unknowns += std::isnan(skipped);
              // The session comes to the same.
              if (skip != 0 || level != 4) continue;
              Player player(*blob);
              player.start(&track, nullptr, nullptr);
              player.end(end);
              EXPECT_PRED2(same, player.info().skipped, skipped);
            }
    }
  EXPECT_GT(skips, 1000u);
  EXPECT_GT(plays, 1000u);
  EXPECT_GT(unknowns, 1000u);
}

// --- Golden events, threads --------------------------------------------------------------------------

TEST(SelfTest, NoticesOneWrongAnswerOrEvent) {
  const SampleModel sample = sample_model("session-branching");
  const Bytes bytes = golden_blob(sample);
  const auto tested = [&](auto change, float* largest) {
    const std::unique_ptr<schema::ModelT> model(schema::GetModel(bytes.data())->UnPack());
    change(*model->golden);
    const Blob blob(pack(*model), "the test's blob");
    std::vector<std::uint32_t> scratch(blob.info().scratch_bytes / 4);
    return tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * 4, largest);
  };
  float largest = 1;
  EXPECT_EQ(tested([](schema::GoldenT&) {}, &largest), TONEARM_OK);
  EXPECT_LE(largest, 1e-6f);
  EXPECT_EQ(tested([](schema::GoldenT& golden) { golden.outputs.back() += 0.25f; }, &largest),
            TONEARM_SELF_TEST_FAILED);
  EXPECT_NEAR(largest, 0.25f, 1e-5f);
  EXPECT_EQ(
      tested(
          [](schema::GoldenT& golden) { golden.events.clear(), golden.rows.clear(), golden.outputs.clear(); },
          nullptr),
      TONEARM_NO_GOLDEN);
}

// A question between tracks beyond the gap is answered as of a new session, but begins none.
TEST(SelfTest, QuestionsBeginNoSession) {
  Draft draft;
  draft.model.session->idle_gap = 100;
  const std::uint16_t skipped = draft.column("skipped", Source::End, Field::Skipped);
  draft.feature(Phase::Context, {skipped}, 1, schema::TotalT{});
  draft.model.output_offset = 1;
  draft.model.output_length = 1;
  auto golden = std::make_unique<schema::GoldenT>();
  const auto event = [&](schema::GoldenEventKind kind, std::uint32_t time, float skip,
                         std::uint8_t horizon = 0) {
    golden->events.push_back(std::make_unique<schema::GoldenEventT>());
    golden->events.back()->kind = kind;
    golden->events.back()->time = time;
    golden->events.back()->horizon = horizon;
    golden->rows.push_back(skip);
  };
  event(schema::GoldenEventKind::Start, 1000, missing);
  event(schema::GoldenEventKind::End, 1000, 1);
  event(schema::GoldenEventKind::Predict, 5000, missing, 1);  // a new session's
  event(schema::GoldenEventKind::Predict, 1050, missing, 1);  // this one's
  golden->outputs = {0, 1};
  draft.model.golden = std::move(golden);
  const std::unique_ptr<Blob> blob = draft.packed();
  Player player(*blob);
  EXPECT_EQ(tonearm_model_self_test(player.model, player.scratch.data(), player.scratch_bytes(), nullptr),
            TONEARM_OK);
}

// What an operator reads may reach from the columns into the features, with no history part between.
TEST(Open, SpansMayCrossWhatIsEmpty) {
  Draft draft;
  draft.column("hour", Source::Now, Field::HourOfDay);
  draft.column("reason", Source::Start, Field::ReasonStart, 15);
  draft.feature(Phase::Context, {0}, 1, schema::IdentityT{});
  schema::AffineT affine;
  affine.weights = {1, 1, 1};
  affine.bias = {0};
  schema::OperatorKindUnion kind;
  kind.Set(std::move(affine));
  append_sample_operator(draft.model, 0, 3, 1, std::move(kind)).phase = Phase::Context;
  EXPECT_NO_THROW(draft.packed());
}

TEST(Threads, ManyAskOneSessionAndManySessionsShareAModel) {
  const SampleModel sample = sample_model("session-symmetric");
  const Blob blob(golden_blob(sample), sample.name);
  const std::vector<float> expected = replay(blob.model(), sample.events);
  Player shared(blob);
  shared.start(3, 1000);
  const std::vector<tonearm_track> tracks = {track_of(1), track_of(2), track_of(3)};
  const std::vector<float> answers = shared.queue(tracks);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int n = 0; n < 20; ++n) {
        if (replay(blob.model(), sample.events) != expected) ++wrong;
        std::vector<std::uint32_t> scratch(shared.scratch.size());
        auto request = unknown<tonearm_request>();
        request.kind = TONEARM_QUEUE;
        request.candidates = tracks.data();
        request.candidate_count = 3;
        std::vector<float> out(3);
        const auto ask = tonearm_predict(shared.model, shared.session, &request, scratch.data(),
                                         scratch.size() * 4, out.data());
        Bytes image(shared.memory.size() * 4);
        const auto save = tonearm_session_save(shared.model, shared.session, image.data(), image.size());
        if (ask != TONEARM_OK || save != TONEARM_OK || out != answers) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace tonearm
