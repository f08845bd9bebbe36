// Recurrent and quantized layers through the C API, against an evaluation written from the words of the
// schema alone: in float64, and of codes in whole numbers; and what a session remembers of them, and forgets.

#include <gtest/gtest.h>
#include <pthread.h>
#include <tonearm/tonearm.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "base/random.h"
#include "conformance/models.h"
#include "emit/emit.h"
#include "emit/networks.h"
#include "evaluate/blob.h"
#include "kernels.h"
#include "networks_reference.h"

namespace tonearm {
namespace {

using schema::Cell;
using schema::Phase;
using schema::WeightFormat;

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

using Vector = std::vector<float>;

using reference::code_of;
using reference::logistic;
using reference::outputs_of;
using reference::row_outputs;

TEST(Codes, SigmoidAndTanhAreClose) {
  using reference::sigmoid_of, reference::tanh_of;
  for (int z = -32768; z <= 32767; ++z) {
    EXPECT_NEAR(sigmoid_of(z) / 32768.0, logistic(z / 2048.0), 1.5e-4) << z;
    EXPECT_NEAR(tanh_of(z) / 32768.0, std::tanh(z / 2048.0), 3e-4) << z;
    EXPECT_GE(sigmoid_of(z), sigmoid_of(std::max(z - 1, -32768)) - 1) << z;
  }
}

/// Of a session in which these tracks have ended.
std::vector<double> session_outputs(const schema::RecurrentT& recurrent, std::vector<Vector> tracks,
                                    std::size_t width) {
  for (Vector& track : tracks) track.resize(width);
  const std::size_t steps = recurrent.steps;
  if (steps > 0 && tracks.size() > steps) tracks.erase(tracks.begin(), tracks.end() - recurrent.steps);
  if (recurrent.padded)
    tracks.insert(tracks.begin(), steps - tracks.size(), Vector(width, recurrent.padding));
  return outputs_of(recurrent, tracks);
}

// --- Models and sessions -----------------------------------------------------------------------------

/// Float sums may be added in any order, and what a unit keeps is rounded anew with each of `steps`.
void expect_close(std::span<const float> found, const std::vector<double>& expected, WeightFormat format,
                  std::size_t steps = 8) {
  ASSERT_EQ(found.size(), expected.size());
  const double tolerance = format == WeightFormat::Int8 ? 0 : 1e-7 * static_cast<double>(2 + steps);
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(static_cast<double>(found[i]), expected[i], tolerance * std::max(1.0, std::abs(expected[i])))
        << "number " << i;
}

bool same_bits(const Vector& a, const Vector& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

schema::ModelT empty_model() {
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.card->name = "the test's model";
  return model;
}

void add_columns(schema::ModelT& model, const std::string& prefix, std::size_t count, schema::Source source) {
  for (std::size_t i = 0; i < count; ++i) {
    model.columns.push_back(std::make_unique<schema::ColumnT>());
    model.columns.back()->name = prefix + std::to_string(i);
    model.columns.back()->source = source;
    if (source != schema::Source::Row) model.fields.push_back(schema::Field::Extra);
    model.missing_fill.push_back(missing);
  }
}

/// Outputs the states of all of these, which all read the first of `width` numbers of an ended track.
schema::ModelT session_model(const std::vector<schema::RecurrentT>& networks, std::size_t width) {
  schema::ModelT model = empty_model();
  model.session = std::make_unique<schema::SessionRuleT>();
  model.session->idle_gap = 1200;
  model.label = std::make_unique<schema::LabelRuleT>();
  add_columns(model, "track", 1, schema::Source::Track);
  add_columns(model, "end", width, schema::Source::End);
  for (const schema::RecurrentT& network : networks) {
    schema::RecurrentT recurrent = network;
    recurrent.sequence = schema::Sequence::Session;
    append_recurrent(model, std::move(recurrent), 1, network.input_factors.size(), Phase::Context);
  }
  model.output_offset = static_cast<std::uint16_t>(1 + width);
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - model.output_offset);
  return model;
}

std::vector<unsigned char> session_blob(const std::vector<schema::RecurrentT>& networks, std::size_t width) {
  schema::ModelT model = session_model(networks, width);
  return pack(model);
}

/// A session in memory of exactly the right size, and a scratch whose contents are arbitrary.
struct Player {
  const tonearm_model* model;
  std::vector<std::uint32_t> memory, scratch;
  std::size_t outputs;
  std::uint32_t dirt = 0x7fc0dead;
  tonearm_session* session = nullptr;
  std::int64_t time = 1530000000;

  explicit Player(const tonearm_model& opened)
      : model(&opened), memory(tonearm_session_size(model) / 4), scratch(tonearm_scratch_size(model) / 4) {
    tonearm_info info{};
    info.struct_size = sizeof info;
    EXPECT_EQ(tonearm_model_info(model, &info), TONEARM_OK);
    outputs = info.outputs;
    std::fill(memory.begin(), memory.end(), 0xdeadbeef);
    EXPECT_EQ(tonearm_session_init(model, memory.data(), memory.size() * 4, &session), TONEARM_OK);
  }
  Player(const Player&) = delete;

  std::size_t scratch_bytes() const { return scratch.size() * 4; }
  void dirty() { std::fill(scratch.begin(), scratch.end(), dirt); }

  void start(std::int64_t after = 10) {
    tonearm_now now;
    tonearm_now_init(&now, sizeof now);
    now.time = time += after;
    dirty();
    ASSERT_EQ(tonearm_track_start(model, session, nullptr, nullptr, &now, scratch.data(), scratch_bytes()),
              TONEARM_OK);
  }
  void end(const Vector& told) {
    tonearm_end end;
    tonearm_end_init(&end, sizeof end);
    end.time = time += 180;
    end.extra = told.data();
    end.extra_count = static_cast<std::uint32_t>(told.size());
    dirty();
    ASSERT_EQ(tonearm_track_end(model, session, &end, scratch.data(), scratch_bytes()), TONEARM_OK);
  }
  void track(const Vector& told) { start(), end(told); }

  /// The answers for `count` tracks in the queue, so many seconds after the last event. The session stays as
  /// it was.
  Vector ask(std::size_t count = 1, std::int64_t after = 1) {
    const std::vector<std::uint32_t> before = memory;
    tonearm_now now;
    tonearm_now_init(&now, sizeof now);
    now.time = time + after;
    std::vector<tonearm_track> candidates(count);
    for (std::size_t i = 0; i < count; ++i) {
      tonearm_track_init(&candidates[i], sizeof candidates[i]);
      candidates[i].track_id = i + 1;
    }
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.kind = TONEARM_QUEUE;
    request.candidates = candidates.data();
    request.candidate_count = static_cast<std::uint32_t>(count);
    request.now = &now;
    Vector out(count * outputs, -77.0f);
    dirty();
    EXPECT_EQ(tonearm_predict(model, session, &request, scratch.data(), scratch_bytes(), out.data()),
              TONEARM_OK);
    EXPECT_TRUE(before == memory) << "a prediction changed the session";
    return out;
  }
};

/// Mostly ordinary numbers.
Vector random_step(std::size_t width, Random& random, bool wild = true) {
  const float kinds[] = {missing, infinity, -infinity, 0, -0.0f, 1e30f, -1e30f, 1e-40f};
  Vector step;
  for (std::size_t i = 0; i < width; ++i)
    step.push_back(wild && random.below(8) == 0 ? kinds[random.below(std::size(kinds))]
                                                : static_cast<float>(random.uniform() * 4 - 2));
  return step;
}

std::vector<Vector> random_tracks(std::size_t count, std::size_t width, Random& random, bool wild = true) {
  std::vector<Vector> tracks;
  for (std::size_t n = 0; n < count; ++n) tracks.push_back(random_step(width, random, wild));
  return tracks;
}

struct Kind {
  Cell cell;
  WeightFormat format;
};
/// Every cell of every format that there is.
std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  for (const WeightFormat format : {WeightFormat::Float32, WeightFormat::Float16, WeightFormat::Int8})
    for (const Cell cell : {Cell::Rnn, Cell::RnnRelu, Cell::Lstm, Cell::Gru, Cell::GruResetBefore})
      if (cell != Cell::RnnRelu || format != WeightFormat::Int8) kinds.push_back({cell, format});
  return kinds;
}
std::string name_of(const Kind& kind) {
  return std::string(schema::EnumNameCell(kind.cell)) + " " + schema::EnumNameWeightFormat(kind.format);
}
bool wild(const Kind& kind) { return kind.cell != Cell::RnnRelu; }  // its states are as large as its inputs

// --- What is computed --------------------------------------------------------------------------------

struct Shape {
  unsigned inputs, units, levels;
};
constexpr Shape shapes[] = {{1, 1, 1}, {3, 5, 2}, {7, 16, 1}, {4, 17, 2}, {9, 33, 1}};

TEST(OverSessions, StreamedRingAndPaddedGiveWhatTheSchemaSays) {
  Random random(1);
  for (const Kind& kind : all_kinds())
    for (const Shape& shape : shapes)
      for (const int direction : {0, 1, 2}) {
        const SampleLayers layers = {kind.cell,    kind.format,    shape.inputs,  shape.units,
                                     shape.levels, direction != 1, direction != 0};
        std::vector<schema::RecurrentT> networks;
        for (const auto steps : std::initializer_list<std::uint16_t>{0, 1, 4, 12})
          for (const bool padded : {false, true}) {
            if (steps == 0 && (padded || direction != 0)) continue;
            networks.push_back(sample_recurrent(layers, random));
            networks.back().steps = steps;
            networks.back().padded = padded;
            if (padded) networks.back().padding = kind.format == WeightFormat::Int8 ? 9.0f : 0.75f;
          }
        for (const schema::RecurrentT& network : networks) {
          SCOPED_TRACE(name_of(kind) + ", direction " + std::to_string(direction) + ", " +
                       std::to_string(shape.units) + " units, " + std::to_string(network.steps) + " steps" +
                       (network.padded ? ", padded" : ""));
          const std::vector<unsigned char> blob = session_blob({network}, shape.inputs);
          const std::vector<Vector> tracks = random_tracks(6, shape.inputs, random, wild(kind));
          const std::size_t most = std::max<std::size_t>(8, network.padded ? network.steps : 0);
          std::vector<std::vector<double>> expected;
          for (std::size_t n = 0; n <= tracks.size(); ++n)
            expected.push_back(session_outputs(
                network, {tracks.begin(), tracks.begin() + static_cast<std::ptrdiff_t>(n)}, shape.inputs));
          for (const tonearm_model& model : opened_with_every_kernel(blob)) {
            Player player(model);
            expect_close(player.ask(), expected[0], kind.format, most);
            for (std::size_t n = 0; n < tracks.size(); ++n) {
              player.track(tracks[n]);
              expect_close(player.ask(), expected[n + 1], kind.format, most);
            }
          }
          if (HasFailure()) return;
        }
      }
}

/// A table of the steps' numbers, with the number of steps behind where there is one.
std::vector<unsigned char> row_blob(const schema::RecurrentT& network) {
  schema::ModelT model = empty_model();
  const std::size_t columns = network.input_factors.size() * network.steps + (network.lengths ? 1 : 0);
  add_columns(model, "step", columns, schema::Source::Row);
  append_recurrent(model, network, 0, columns, Phase::Candidate);
  return pack(model);
}

Vector evaluated(const tonearm_model& model, const Vector& row, std::size_t outputs, std::uint32_t dirt) {
  std::vector<std::uint32_t> scratch(tonearm_scratch_size(&model) / 4, dirt);
  Vector out(outputs, -77.0f);
  EXPECT_EQ(tonearm_evaluate(&model, row.data(), static_cast<std::uint32_t>(row.size()), scratch.data(),
                             scratch.size() * 4, out.data()),
            TONEARM_OK);
  return out;
}

TEST(OverRows, LastAndAllStepsAndLengthsGiveWhatTheSchemaSays) {
  Random random(2);
  for (const Kind& kind : all_kinds())
    for (const Shape& shape : shapes)
      for (const int direction : {0, 1, 2})
        for (const bool all_steps : {false, true})
          for (const bool lengths : {false, true}) {
            SCOPED_TRACE(name_of(kind) + ", direction " + std::to_string(direction) + ", " +
                         std::to_string(shape.units) + " units" + (all_steps ? ", all steps" : "") +
                         (lengths ? ", lengths" : ""));
            schema::RecurrentT network = sample_recurrent({kind.cell, kind.format, shape.inputs, shape.units,
                                                           shape.levels, direction != 1, direction != 0},
                                                          random);
            constexpr std::size_t most = 5;
            network.steps = most;
            network.all_steps = all_steps;
            network.lengths = lengths;
            const std::vector<unsigned char> blob = row_blob(network);
            const std::vector<tonearm_model> models = opened_with_every_kernel(blob);
            // A number of steps and what it means.
            std::vector<std::pair<float, std::size_t>> counts = {{0, most}};
            if (lengths)
              counts = {{0, 0},     {1, 1},        {3, 3},  {3.75f, 3}, {5, 5},       {6, 5},
                        {1e30f, 5}, {infinity, 5}, {-1, 0}, {0.5f, 0},  {missing, 0}, {-infinity, 0}};
            for (const auto& [told, count] : counts) {
              const std::vector<Vector> steps = random_tracks(most, shape.inputs, random, wild(kind));
              Vector row;
              for (const Vector& step : steps) row.insert(row.end(), step.begin(), step.end());
              if (lengths) row.push_back(told);
              const std::vector<double> expected = row_outputs(network, row);
              if (!all_steps) {
                const auto last = steps.begin() + static_cast<std::ptrdiff_t>(count);
                EXPECT_EQ(expected, outputs_of(network, {steps.begin(), last}));
              }
              for (const tonearm_model& model : models) {
                const Vector found = evaluated(model, row, expected.size(), 0x7fc0dead);
                expect_close(found, expected, kind.format);
                EXPECT_TRUE(same_bits(found, evaluated(model, row, expected.size(), 0xffffffff)));
                EXPECT_TRUE(same_bits(found, evaluated(model, row, expected.size(), 0x41424344)));
              }
              if (HasFailure()) return;
            }
          }
}

// In a session model, one over the columns of a row lies in the context or in the candidate part.
TEST(OverRows, InASessionModelTheyReadWhatTheirPartKnows) {
  Random random(3);
  for (const WeightFormat format : {WeightFormat::Float32, WeightFormat::Int8}) {
    schema::ModelT model = empty_model();
    model.session = std::make_unique<schema::SessionRuleT>();
    model.label = std::make_unique<schema::LabelRuleT>();
    add_columns(model, "track", 4, schema::Source::Track);
    add_columns(model, "now", 6, schema::Source::Now);
    std::vector<schema::RecurrentT> networks;
    for (const auto steps : std::initializer_list<std::uint16_t>{3, 2}) {
      networks.push_back(sample_recurrent({Cell::Gru, format, 2, 5, 1, true, true}, random));
      networks.back().steps = steps;
    }
    append_recurrent(model, networks[0], 4, 6, Phase::Context);
    append_recurrent(model, networks[1], 0, 4, Phase::Candidate);
    model.output_offset = 10;
    model.output_length = 20;
    const std::vector<unsigned char> blob = pack(model);
    for (const tonearm_model& opened : opened_with_every_kernel(blob)) {
      Player player(opened);
      const std::vector<Vector> now_steps = random_tracks(3, 2, random);
      std::vector<std::vector<Vector>> track_steps;
      Vector now_extra;
      for (const Vector& step : now_steps) now_extra.insert(now_extra.end(), step.begin(), step.end());
      std::vector<Vector> track_extra(3);
      std::vector<tonearm_track> tracks(3);
      for (std::size_t i = 0; i < 3; ++i) {
        track_steps.push_back(random_tracks(2, 2, random));
        for (const Vector& step : track_steps[i])
          track_extra[i].insert(track_extra[i].end(), step.begin(), step.end());
        tonearm_track_init(&tracks[i], sizeof tracks[i]);
        tracks[i].extra = track_extra[i].data(), tracks[i].extra_count = 4;
      }
      tonearm_now now;
      tonearm_now_init(&now, sizeof now);
      now.extra = now_extra.data(), now.extra_count = 6;
      tonearm_request request;
      tonearm_request_init(&request, sizeof request);
      request.kind = TONEARM_QUEUE;
      request.candidates = tracks.data(), request.candidate_count = 3;
      request.now = &now;
      Vector out(60);
      player.dirty();
      ASSERT_EQ(tonearm_predict(&opened, player.session, &request, player.scratch.data(),
                                player.scratch_bytes(), out.data()),
                TONEARM_OK);
      for (std::size_t i = 0; i < 3; ++i) {
        expect_close(std::span(out).subspan(20 * i, 10), outputs_of(networks[0], now_steps), format);
        expect_close(std::span(out).subspan(20 * i + 10, 10), outputs_of(networks[1], track_steps[i]),
                     format);
      }
    }
  }
}

TEST(OverSessions, AStreamIsARingOfSufficientLength) {
  Random random(4);
  for (const Kind& kind : all_kinds())
    for (const unsigned levels : {1u, 2u}) {
      SCOPED_TRACE(name_of(kind));
      schema::RecurrentT streamed = sample_recurrent({kind.cell, kind.format, 4, 18, levels}, random);
      schema::RecurrentT ring = streamed;
      ring.steps = 40;
      const std::vector<unsigned char> blob = session_blob({streamed, ring}, 4);
      for (const tonearm_model& model : opened_with_every_kernel(blob)) {
        Player player(model);
        for (const Vector& track : random_tracks(30, 4, random, wild(kind))) {
          player.track(track);
          const Vector found = player.ask();
          const std::vector<double> expected(found.begin(), found.begin() + 18);
          expect_close(std::span(found).subspan(18), expected, kind.format, 30);
        }
      }
    }
}

// What is older than the ring leaves no trace at all.
TEST(OverSessions, MoreEventsThanTheRingDropTheOldest) {
  Random random(5);
  for (const Kind& kind : all_kinds())
    for (const auto steps : std::initializer_list<std::uint16_t>{1, 3, 20})
      for (const bool padded : {false, true}) {
        SCOPED_TRACE(name_of(kind) + ", " + std::to_string(steps) + " steps");
        schema::RecurrentT network = sample_recurrent({kind.cell, kind.format, 5, 6, 1, true, true}, random);
        network.steps = steps;
        network.padded = padded;
        const std::vector<unsigned char> blob = session_blob({network}, 5);
        for (const tonearm_model& model : opened_with_every_kernel(blob)) {
          const std::vector<Vector> tracks = random_tracks(steps + 3u, 5, random, wild(kind));
          Player longer(model), shorter(model);
          for (const Vector& track : tracks) longer.track(track);
          for (std::size_t n = tracks.size() - steps; n < tracks.size(); ++n) shorter.track(tracks[n]);
          EXPECT_TRUE(same_bits(longer.ask(), shorter.ask()));
        }
      }
}

TEST(OverSessions, LongOnesDriftInNoWay) {
  Random random(6);
  for (const Cell cell : {Cell::Rnn, Cell::Lstm, Cell::Gru, Cell::GruResetBefore})
    for (const WeightFormat format : {WeightFormat::Float32, WeightFormat::Int8}) {
      SCOPED_TRACE(name_of({cell, format}));
      schema::RecurrentT network = sample_recurrent({cell, format, 3, 5}, random);
      const std::vector<unsigned char> blob = session_blob({network}, 3);
      const tonearm_model model = opened_with(blob, TONEARM_CPU_SCALAR);
      Player player(model);
      std::vector<Vector> tracks;
      for (int n = 0; n < 300; ++n) {
        tracks.push_back(random_step(3, random));
        player.track(tracks.back());
      }
      expect_close(player.ask(), session_outputs(network, tracks, 3), format);
    }
}

// --- What is remembered, and forgotten ---------------------------------------------------------------

/// Of one kind each: streamed, over a ring, padded; of floats and of codes.
std::vector<schema::RecurrentT> mixed_networks(Random& random) {
  std::vector<schema::RecurrentT> networks;
  networks.push_back(sample_recurrent({Cell::Lstm, WeightFormat::Float32, 5, 7, 2}, random));
  networks.push_back(sample_recurrent({Cell::Gru, WeightFormat::Int8, 3, 5, 2}, random));
  networks.push_back(sample_recurrent({Cell::Lstm, WeightFormat::Int8, 2, 3}, random));
  networks.push_back(sample_recurrent({Cell::Gru, WeightFormat::Float16, 4, 6, 1, true, true}, random));
  networks.back().steps = 3;
  networks.push_back(sample_recurrent({Cell::Lstm, WeightFormat::Int8, 5, 4, 2, true, true}, random));
  networks.back().steps = 4;
  networks.back().padded = true;
  networks.back().padding = 0.5f;
  networks.push_back(sample_recurrent({Cell::Rnn, WeightFormat::Float32, 1, 2, 1, false, true}, random));
  networks.back().steps = 5;
  networks.back().padded = true;
  networks.back().padding = -1;
  return networks;
}

/// A model of all of them for the tests below.
struct Mixed {
  Random random{7};
  std::vector<schema::RecurrentT> networks = mixed_networks(random);
  std::vector<unsigned char> blob = session_blob(networks, 5);
  std::vector<tonearm_model> models = opened_with_every_kernel(blob);

  void expect_outputs(const Vector& found, const std::vector<Vector>& ended) const {
    std::size_t first = 0;
    for (const schema::RecurrentT& network : networks) {
      const std::vector<double> expected = session_outputs(network, ended, network.input_factors.size());
      ASSERT_LE(first + expected.size(), found.size());
      expect_close(std::span(found).subspan(first, expected.size()), expected, network.format);
      first += expected.size();
    }
    EXPECT_EQ(first, found.size());
  }
};

TEST(Memory, SeveralOperatorsKeepTheirStatesApart) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models) {
    Player player(model);
    std::vector<Vector> ended;
    mixed.expect_outputs(player.ask(), ended);
    for (const Vector& track : random_tracks(9, 5, mixed.random)) {
      player.track(track);
      ended.push_back(track);
      mixed.expect_outputs(player.ask(), ended);
    }
  }
}

TEST(Memory, IsAsLargeAsTheSchemaSays) {
  Mixed mixed;
  // Streamed: h (and c) of each level. Rings: a count, the steps, the outputs. Codes: four of a step, two of
  // h.
  const std::size_t elements =
      2 * (7 + 7) + (3 + 3) + 2 * 2 + (1 + 3 * 4 + 12) + (1 + 4 * 2 + 8) + (1 + 5 + 2);
  EXPECT_EQ(tonearm_session_size(&mixed.models[0]), 80 + 4 * (6 + elements));
  // An encoder of 32 units: two bytes of state for each.
  const std::vector<unsigned char> small =
      session_blob({sample_recurrent({Cell::Gru, WeightFormat::Int8, 70, 32}, mixed.random)}, 70);
  const tonearm_model model = opened_with(small, 0);
  EXPECT_EQ(tonearm_session_size(&model), 80u + 4 * 71 + 2 * 32);
  EXPECT_LE(tonearm_session_size(&model), 512u);
}

TEST(Memory, ANewSessionForgets) {
  Mixed mixed;
  schema::ModelT capped = session_model(mixed.networks, 5);
  capped.session->cap = 4;
  const std::vector<unsigned char> capped_blob = pack(capped);
  const std::vector<tonearm_model> capped_models = opened_with_every_kernel(capped_blob);
  for (std::size_t kernel = 0; kernel < mixed.models.size(); ++kernel)
    for (const char* reason : {"idle", "cap", "reset", "init"}) {
      SCOPED_TRACE(reason);
      const bool by_cap = std::strcmp(reason, "cap") == 0, by_idle = std::strcmp(reason, "idle") == 0;
      Player used((by_cap ? capped_models : mixed.models)[kernel]), fresh(*used.model);
      for (const Vector& track : random_tracks(4, 5, mixed.random)) used.track(track);
      EXPECT_EQ(same_bits(used.ask(), fresh.ask()), by_cap);  // with the next track a new session begins
      if (by_idle) {
        EXPECT_TRUE(same_bits(used.ask(1, 1201), fresh.ask()));
      }
      if (std::strcmp(reason, "reset") == 0) {
        ASSERT_EQ(tonearm_session_reset(used.model, used.session), TONEARM_OK);
        EXPECT_TRUE(same_bits(used.ask(), fresh.ask()));
      }
      if (std::strcmp(reason, "init") == 0) {
        ASSERT_EQ(tonearm_session_init(used.model, used.memory.data(), used.memory.size() * 4, &used.session),
                  TONEARM_OK);
        EXPECT_TRUE(same_bits(used.ask(), fresh.ask()));
      }
      mixed.expect_outputs(fresh.ask(), {});
      std::vector<Vector> ended;
      used.start(by_idle ? 1201 : 10), fresh.start();
      for (const Vector& track : random_tracks(3, 5, mixed.random)) {
        ended.push_back(track);
        if (ended.size() > 1) used.start(), fresh.start();
        used.end(track), fresh.end(track);
        EXPECT_TRUE(same_bits(used.ask(), fresh.ask()));
        mixed.expect_outputs(used.ask(), ended);
      }
    }
}

TEST(Memory, OneSecondLessThanTheGapForgetsNothing) {
  Mixed mixed;
  Player player(mixed.models[0]);
  const std::vector<Vector> tracks = random_tracks(3, 5, mixed.random);
  player.track(tracks[0]), player.track(tracks[1]);
  mixed.expect_outputs(player.ask(1, 1200), {tracks[0], tracks[1]});
  player.start(1200), player.end(tracks[2]);
  mixed.expect_outputs(player.ask(), tracks);
}

TEST(Memory, ACrossfadeTakesInAStepOfWhichNothingIsKnown) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models) {
    Player player(model);
    const Vector told = random_step(5, mixed.random, false);
    player.track(told);
    player.start(), player.start();
    mixed.expect_outputs(player.ask(), {told, Vector(5, missing)});
    player.end(told);
    mixed.expect_outputs(player.ask(), {told, Vector(5, missing), told});
  }
}

// While a track plays, nothing of it is remembered.
TEST(Memory, AStartAndQuestionsChangeNothing) {
  Mixed mixed;
  Player player(mixed.models[0]);
  for (const Vector& track : random_tracks(3, 5, mixed.random)) player.track(track);
  const Vector before = player.ask();
  player.start();
  EXPECT_TRUE(same_bits(player.ask(), before));
  tonearm_request request;
  tonearm_request_init(&request, sizeof request);
  request.kind = TONEARM_PLAYING;
  Vector playing(player.outputs);
  player.dirty();
  ASSERT_EQ(tonearm_predict(player.model, player.session, &request, player.scratch.data(),
                            player.scratch_bytes(), playing.data()),
            TONEARM_OK);
  EXPECT_TRUE(same_bits(playing, before));
}

TEST(Memory, AQueueSharesTheState) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models) {
    Player player(model);
    for (const Vector& track : random_tracks(6, 5, mixed.random)) player.track(track);
    const Vector one = player.ask(), many = player.ask(25);
    for (std::size_t i = 0; i < 25; ++i)
      EXPECT_EQ(std::memcmp(many.data() + i * one.size(), one.data(), one.size() * 4), 0) << i;
  }
}

TEST(Memory, WhatIsNotFiniteCountsAsZeroAndTheRestIsLimited) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models) {
    const Vector told = random_step(5, mixed.random, false);
    const auto after = [&](float value) {
      Player player(model);
      player.track(told);
      player.track(Vector(5, value));
      player.track(told);
      return player.ask();
    };
    for (const float value : {missing, infinity, -infinity, -0.0f, -missing})
      EXPECT_TRUE(same_bits(after(value), after(0))) << value;
    for (const float value : {1000001.0f, 1e30f, std::numeric_limits<float>::max()}) {
      EXPECT_TRUE(same_bits(after(value), after(1e6f))) << value;
      EXPECT_TRUE(same_bits(after(-value), after(-1e6f))) << value;
    }
    EXPECT_FALSE(same_bits(after(1e6f), after(-1e6f)));
    EXPECT_FALSE(same_bits(after(1), after(0)));
  }
}

TEST(Memory, NoInputMakesAStateThatIsNoNumber) {
  Random random(8);
  for (const Kind& kind : all_kinds()) {
    SCOPED_TRACE(name_of(kind));
    const std::vector<unsigned char> blob =
        session_blob({sample_recurrent({kind.cell, kind.format, 4, 19, 2}, random)}, 4);
    for (const tonearm_model& model : opened_with_every_kernel(blob)) {
      Player player(model);
      for (int n = 0; n < 40; ++n) {
        player.track(Vector(4, n % 3 == 0 ? 3e38f : n % 3 == 1 ? -3e38f : 1e6f));
        for (const float value : player.ask()) EXPECT_LE(std::abs(value), 1e6f);
      }
    }
  }
}

TEST(Memory, ACopyAndAnImageGoOnToTheSameBits) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models)
    for (std::size_t before = 0; before < 7; ++before) {
      Player original(model), copied(model), loaded(model);
      const std::vector<Vector> tracks = random_tracks(10, 5, mixed.random);
      for (std::size_t n = 0; n < before; ++n) original.track(tracks[n]);
      copied.time = loaded.time = original.time;
      std::memcpy(copied.memory.data(), original.memory.data(), original.memory.size() * 4);
      std::vector<unsigned char> image(original.memory.size() * 4);
      ASSERT_EQ(tonearm_session_save(&model, original.session, image.data(), image.size()), TONEARM_OK);
      ASSERT_EQ(tonearm_session_load(&model, loaded.memory.data(), loaded.memory.size() * 4, image.data(),
                                     image.size(), &loaded.session),
                TONEARM_OK);
      for (std::size_t n = before; n < tracks.size(); ++n) {
        for (Player* player : {&original, &copied, &loaded}) player->track(tracks[n]);
        EXPECT_TRUE(same_bits(original.ask(), copied.ask()));
        EXPECT_TRUE(same_bits(original.ask(), loaded.ask()));
      }
      EXPECT_TRUE(original.memory == copied.memory);
      EXPECT_TRUE(original.memory == loaded.memory);
    }
}

// No byte of a state is left to chance: the same events make the same image, whatever was in the memory and
// in the scratch before.
TEST(Memory, ReplayingGivesTheSameBytesWhateverWasThereBefore) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models) {
    std::vector<Vector> tracks = random_tracks(9, 5, mixed.random);
    std::vector<tonearm_event> events;
    Player live(model), replayed(model), other(model);
    std::int64_t time = live.time;
    for (const Vector& track : tracks) {
      tonearm_event event{};
      event.struct_size = sizeof event;
      tonearm_track_init(&event.track, sizeof event.track);
      tonearm_start_init(&event.start, sizeof event.start);
      tonearm_now_init(&event.now, sizeof event.now);
      tonearm_end_init(&event.end, sizeof event.end);
      event.kind = TONEARM_EVENT_START;
      event.now.time = time += 10;
      events.push_back(event);
      event.kind = TONEARM_EVENT_END;
      event.end.time = time += 180;
      event.end.extra = track.data(), event.end.extra_count = 5;
      events.push_back(event);
    }
    for (const Vector& track : tracks) live.track(track);
    other.dirt = 0xffffffff;
    for (const Vector& track : tracks) other.track(track);
    replayed.track(tracks[2]);
    replayed.dirt = 0x3f3f3f3f;
    replayed.dirty();
    ASSERT_EQ(tonearm_session_replay(&model, replayed.session, events.data(), events.size(),
                                     replayed.scratch.data(), replayed.scratch_bytes()),
              TONEARM_OK);
    EXPECT_TRUE(live.memory == replayed.memory);
    EXPECT_TRUE(live.memory == other.memory);
    EXPECT_TRUE(same_bits(live.ask(), other.ask()));
    replayed.time = live.time;
    EXPECT_TRUE(same_bits(live.ask(), replayed.ask()));
  }
}

// A session's bytes may be anything that has the right header: no number among them is trusted.
TEST(Memory, ArbitraryStatesDoNoHarm) {
  Mixed mixed;
  for (const tonearm_model& model : mixed.models)
    for (int n = 0; n < 300; ++n) {
      Player player(model);
      player.track(random_step(5, mixed.random));
      for (std::size_t i = 20; i < player.memory.size(); ++i)
        if (mixed.random.below(3) != 0)
          player.memory[i] = mixed.random.below(2) == 0 ? static_cast<std::uint32_t>(mixed.random.next())
                                                        : mixed.random.below(8) - 4;
      player.ask(2);
      player.track(random_step(5, mixed.random));
      player.ask(2);
      if (HasFailure()) return;
    }
}

TEST(Memory, LiesBehindTheAggregatesAndBesideTrees) {
  Random random(9);
  const std::vector<schema::RecurrentT> networks = mixed_networks(random);
  schema::ModelT model = session_model({}, 5);
  const auto total_of = [&](bool carries) {
    schema::TotalT total;
    total.carries = carries;
    schema::EncoderUnion encoder;
    encoder.Set(std::move(total));
    return append_feature(model, {1, 2, 3, 4, 5}, 5, std::move(encoder), Phase::Context);
  };
  const std::uint16_t first = total_of(false);
  total_of(true);
  schema::LagT lag;
  lag.count = 3;
  lag.empty = -1;
  schema::EncoderUnion encoder;
  encoder.Set(std::move(lag));
  const std::uint16_t lags = append_feature(model, {1, 2}, 6, std::move(encoder), Phase::Context);
  const std::uint16_t outputs = next_slot(model);
  for (const schema::RecurrentT& network : networks) {
    schema::RecurrentT recurrent = network;
    recurrent.sequence = schema::Sequence::Session;
    append_recurrent(model, std::move(recurrent), 1, network.input_factors.size(), Phase::Context);
  }
  const std::uint16_t behind = next_slot(model);
  // Trees that ask of the states, too.
  TrainedModel trained;
  TreeEnsemble ensemble;
  ensemble.base = {0};
  for (int t = 0; t < 40; ++t) {
    Tree tree;
    tree.nodes.resize(3);
    tree.nodes[0].feature = static_cast<std::int32_t>(random.below(behind - first));
    tree.nodes[0].threshold = static_cast<float>(random.uniform() - 0.5);
    tree.nodes[0].left = 1, tree.nodes[0].right = 2;
    tree.nodes[1].value = t;
    tree.nodes[2].value = -1.5 * t;
    ensemble.trees.push_back(std::move(tree));
  }
  trained.predictor = ensemble;
  append_predictor(model, trained, first, behind - first, LeafStorage::exact, behind - first);
  model.output_offset = first;
  model.output_length = static_cast<std::uint16_t>(next_slot(model) - first);
  const std::vector<unsigned char> blob = pack(model);
  for (const tonearm_model& opened : opened_with_every_kernel(blob)) {
    Player player(opened);
    std::vector<Vector> ended, all;
    for (int n = 0; n < 12; ++n) {
      const bool begins = n == 7;
      player.start(begins ? 1500 : 10);
      if (begins) ended.clear();
      ended.push_back(random_step(5, random, false));
      all.push_back(ended.back());
      player.end(ended.back());
      const Vector found = player.ask();
      for (std::size_t i = 0; i < 5; ++i) {
        float sum = 0, carried = 0;
        for (const Vector& track : ended) sum += track[i];
        for (const Vector& track : all) carried += track[i];
        EXPECT_EQ(found[i], sum);
        EXPECT_EQ(found[5 + i], carried);
      }
      for (std::size_t back = 0; back < 3; ++back)
        for (std::size_t i = 0; i < 2; ++i)
          EXPECT_EQ(found[lags - first + 2 * back + i],
                    back < ended.size() ? ended[ended.size() - 1 - back][i] : -1.0f);
      std::size_t at = outputs - first;
      for (const schema::RecurrentT& network : networks) {
        const std::vector<double> expected = session_outputs(network, ended, network.input_factors.size());
        expect_close(std::span(found).subspan(at, expected.size()), expected, network.format);
        at += expected.size();
      }
      double score = 0;
      for (const Tree& tree : ensemble.trees) {
        const TreeNode& test = tree.nodes[0];
        const bool left = found[static_cast<std::size_t>(test.feature)] <= test.threshold;
        score += tree.nodes[left ? 1 : 2].value;
      }
      EXPECT_EQ(static_cast<double>(found.at(at)), score);
    }
  }
}

// --- Layers of codes and halves ----------------------------------------------------------------------

std::vector<unsigned char> quantized_blob(const schema::QuantizedAffineT& affine, std::size_t inputs) {
  schema::ModelT model = empty_model();
  add_columns(model, "input", inputs, schema::Source::Row);
  schema::OperatorKindUnion kind;
  const std::size_t outputs = affine.bias.size();
  kind.Set(schema::QuantizedAffineT(affine));
  append_sample_operator(model, 0, inputs, outputs, std::move(kind));
  return pack(model);
}

TEST(Quantized, GivesWhatTheSchemaSays) {
  Random random(10);
  for (const WeightFormat format : {WeightFormat::Float16, WeightFormat::Int8})
    for (const auto& [inputs, outputs] :
         {std::pair{1u, 1u}, {3u, 2u}, {4u, 16u}, {13u, 17u}, {70u, 33u}, {260u, 5u}})
      for (const schema::Activation activation :
           {schema::Activation::None, schema::Activation::Relu, schema::Activation::Sigmoid,
            schema::Activation::Tanh, schema::Activation::Softmax}) {
        SCOPED_TRACE(std::to_string(inputs) + " inputs, " + std::to_string(outputs) + " outputs");
        schema::QuantizedAffineT affine = sample_quantized(format, inputs, outputs, random);
        affine.activation = activation;
        const std::vector<unsigned char> blob = quantized_blob(affine, inputs);
        const bool codes = format == WeightFormat::Int8;
        for (const tonearm_model& model : opened_with_every_kernel(blob)) {
          const Vector row = random_step(inputs, random, codes);
          std::vector<double> expected = reference::affine_outputs(affine, row);
          double total = 0;
          for (const double x : expected) total += std::exp(x);
          for (double& x : expected)
            x = activation == schema::Activation::Relu      ? std::max(x, 0.0)
                : activation == schema::Activation::Sigmoid ? logistic(x)
                : activation == schema::Activation::Tanh    ? std::tanh(x)
                : activation == schema::Activation::Softmax ? std::exp(x) / total
                                                            : x;
          const Vector found = evaluated(model, row, outputs, 0x7fc0dead);
          for (unsigned k = 0; k < outputs; ++k)
            EXPECT_NEAR(static_cast<double>(found[k]), expected[k],
                        4e-6 * std::max(1.0, std::abs(expected[k])));
          EXPECT_TRUE(same_bits(found, evaluated(model, row, outputs, 0xffffffff)));
        }
      }
}

/// One code each: output k is the code of input k.
std::vector<unsigned char> codes_blob(const Vector& factors) {
  schema::QuantizedAffineT affine;
  affine.format = WeightFormat::Int8;
  const auto count = static_cast<Eigen::Index>(factors.size());
  affine.weights = pack_codes(Eigen::MatrixXi::Identity(count, count), 1);
  affine.bias.assign(factors.size(), 0);
  affine.scales.assign(factors.size(), 1);
  affine.input_factors = factors;
  return quantized_blob(affine, factors.size());
}

TEST(Quantized, CodesAreRoundedTheSameInEveryFloatingPointMode) {
  constexpr std::size_t width = 64;
  Random random(11);
  for (int n = 0; n < 400; ++n) {
    Vector factors, row;
    const auto any_bits = [&] { return std::bit_cast<float>(static_cast<std::uint32_t>(random.next())); };
    for (std::size_t i = 0; i < width; ++i) {
      float factor = 1, x = 0;
      switch (n % 4) {
        case 0:  // halves, and one unit beside them
          factor = std::ldexp(1.0f, static_cast<int>(random.below(40)) - 20);
          x = (static_cast<float>(random.below(262)) - 130.5f) / factor;
          if (random.below(3) == 0) x = std::nextafterf(x, infinity);
          if (random.below(3) == 0) x = std::nextafterf(x, -infinity);
          break;
        case 1:  // anything at all
          do factor = std::abs(any_bits());
          while (!std::isnormal(factor) || factor > 1e30f);
          x = any_bits();
          break;
        case 2:  // near the whole numbers and halves of an odd factor
          factor = static_cast<float>(0.001 + 200 * random.uniform());
          x = static_cast<float>((random.below(520) - 260.0) / 2 / static_cast<double>(factor));
          break;
        case 3: {  // denormals, extremes and what is no number
          const float kinds[] = {1e-45f,    -1e-45f, 1.1e-38f, 0,       -0.0f,    infinity,
                                 -infinity, missing, -missing, 3.4e38f, -3.4e38f, 1.17549435e-38f};
          x = kinds[random.below(std::size(kinds))];
          const float factor_kinds[] = {1.17549435e-38f, 1e30f, 1, 8.5e29f, 1e20f};
          factor = factor_kinds[random.below(std::size(factor_kinds))];
          break;
        }
      }
      factors.push_back(factor);
      row.push_back(x);
    }
    const std::vector<unsigned char> blob = codes_blob(factors);
    for (const tonearm_model& model : opened_with_every_kernel(blob))
      for (const int rounding : roundings)
        for (const bool flush : {false, true}) {
          Vector found;
          {
            const FloatMode mode(rounding, flush);
            found = evaluated(model, row, width, 0x7fc0dead);
          }
          for (std::size_t i = 0; i < width; ++i)
            ASSERT_EQ(found[i], static_cast<float>(code_of(row[i], factors[i])))
                << row[i] << " * " << factors[i] << ", rounding " << rounding;
        }
  }
}

TEST(Codes, AreTheSameInEveryFloatingPointMode) {
  Random random(12);
  for (const Cell cell : {Cell::Rnn, Cell::Lstm, Cell::Gru, Cell::GruResetBefore}) {
    SCOPED_TRACE(schema::EnumNameCell(cell));
    std::vector<schema::RecurrentT> networks;
    networks.push_back(sample_recurrent({cell, WeightFormat::Int8, 6, 21, 2}, random));
    networks.push_back(sample_recurrent({cell, WeightFormat::Int8, 6, 21, 2, true, true}, random));
    networks.back().steps = 5;
    networks.back().padded = true;
    networks.back().padding = 9;
    const std::vector<unsigned char> blob = session_blob(networks, 6);
    const std::vector<Vector> tracks = random_tracks(8, 6, random);
    std::vector<Vector> expected;
    for (const tonearm_model& model : opened_with_every_kernel(blob))
      for (const int rounding : roundings)
        for (const bool flush : {false, true}) {
          std::vector<Vector> found;
          {
            const FloatMode mode(rounding, flush);
            Player player(model);
            for (const Vector& track : tracks) {
              player.track(track);
              found.push_back(player.ask());
            }
          }
          if (expected.empty()) expected = found;
          ASSERT_EQ(found.size(), expected.size());
          for (std::size_t n = 0; n < found.size(); ++n) EXPECT_TRUE(same_bits(found[n], expected[n]));
        }
  }
}

/// The most that a blob may hold: weights and multipliers at which arguments only just do not overflow.
TEST(Codes, NothingOverflowsAtTheBoundsThatOpenChecks) {
  Random random(13);
  for (const Cell cell : {Cell::Rnn, Cell::Lstm, Cell::Gru, Cell::GruResetBefore})
    for (const int sign : {1, -1}) {
      SCOPED_TRACE(schema::EnumNameCell(cell));
      constexpr unsigned inputs = 300, units = 20;
      schema::RecurrentT network = sample_recurrent({cell, WeightFormat::Int8, inputs, units}, random);
      schema::RecurrentLayerT& layer = *network.layers[0];
      const unsigned gates = reference::gates_of(cell);
      const Eigen::MatrixXi most = Eigen::MatrixXi::Constant(gates * units, inputs, 127 * sign);
      layer.input_weights = pack_codes(most, gates);
      // sums of at most 300 * 127 * 127, and 1 << 29 is out of bounds
      layer.input_shift = 1;
      const int multiplier =
          static_cast<int>(((std::int64_t{1} << 29) - 1) * 2 / (std::int64_t{inputs} * 127 * 127));
      std::fill(layer.input_multipliers.begin(), layer.input_multipliers.end(), multiplier);
      for (std::int32_t& code : layer.bias_codes) code = sign * ((1 << 29) - 1);
      for (std::int32_t& code : layer.recurrent_bias_codes) code = sign * ((1 << 29) - 1);
      const std::vector<unsigned char> blob = session_blob({network}, inputs);
      for (const tonearm_model& model : opened_with_every_kernel(blob)) {
        Player player(model);
        std::vector<Vector> ended;
        for (int n = 0; n < 6; ++n) {
          ended.push_back(Vector(inputs, n % 2 == 0 ? 1e6f : -1e6f));
          player.track(ended.back());
          expect_close(player.ask(), session_outputs(network, ended, inputs), WeightFormat::Int8);
        }
      }
    }
}

// --- Memory of a call --------------------------------------------------------------------------------

/// Runs something on a stack of its own; returns how many bytes of it were touched.
std::size_t stack_of(const std::function<void()>& work) {
  constexpr std::size_t size = 1 << 20;
  constexpr unsigned char paint = 0xa7;
  const std::unique_ptr<unsigned char[]> memory(new unsigned char[size + 4096]);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
  unsigned char* stack = memory.get() + (4096 - address % 4096) % 4096;
  std::fill_n(stack, size, paint);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  EXPECT_EQ(pthread_attr_setstack(&attributes, stack, size), 0);
  pthread_t thread{};
  const auto run = [](void* what) -> void* {
    (*static_cast<const std::function<void()>*>(what))();
    return nullptr;
  };
  std::function<void()> copied = work;
  EXPECT_EQ(pthread_create(&thread, &attributes, run, &copied), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return size -
         static_cast<std::size_t>(
             std::find_if(stack, stack + size, [](unsigned char byte) { return byte != paint; }) - stack);
}

TEST(Stack, DoesNotGrowWithTheNetwork) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::size_t most = 64 << 10;
#else
  constexpr std::size_t most = 4 << 10;
#endif
  Random random(14);
  const std::size_t empty = stack_of([] {});
  for (const WeightFormat format : {WeightFormat::Float32, WeightFormat::Float16, WeightFormat::Int8}) {
    schema::RecurrentT network = sample_recurrent({Cell::Lstm, format, 60, 200, 2, true, true}, random);
    network.steps = 20;
    const std::vector<unsigned char> blob = session_blob({network}, 60);
    for (const tonearm_model& model : opened_with_every_kernel(blob)) {
      Player player(model);
      player.track(random_step(60, random));
      player.start();
      tonearm_end end;
      tonearm_end_init(&end, sizeof end);
      const std::size_t used = stack_of([&] {
        tonearm_track_end(player.model, player.session, &end, player.scratch.data(), player.scratch_bytes());
      });
      EXPECT_LT(used, empty + most) << "of " << empty << " anyway";
    }
  }
}

}  // namespace
}  // namespace tonearm
