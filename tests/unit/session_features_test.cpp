// From logs to numbers: the features of a session recipe, the questions of a replay, what is made of the
// answers.

#include "features/session_features.h"

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/random.h"
#include "commands/session_experiment.h"
#include "data/adapter.h"
#include "emit/emit.h"
#include "evaluate/session_metrics.h"
#include "features/replay.h"
#include "folder.h"

namespace tonearm {
namespace {

// ------------------------------------------------------------------------------------------- logs

const std::vector<LogColumn>& columns() {
  static const std::vector<LogColumn> all =
      columns_with({{"session_length", schema::Source::End, schema::Field::Extra, {}, /*never_known=*/true}});
  return all;
}

Play play_of(std::uint64_t track, std::int64_t time = TONEARM_UNKNOWN_TIME) {
  Play play;
  tonearm_track_init(&play.track, sizeof play.track);
  tonearm_now_init(&play.now, sizeof play.now);
  tonearm_start_init(&play.start, sizeof play.start);
  tonearm_end_init(&play.end, sizeof play.end);
  play.track.track_id = track;
  play.now.time = play.end.time = time;
  return play;
}

Log log_of(std::vector<Play> plays, std::uint64_t identity = 1) {
  Log log;
  log.identity = identity;
  log.plays = std::move(plays);
  return log;
}

/// A log in which everything that a player can report is known and varies.
Log varied_log(std::uint64_t seed, std::size_t plays) {
  Random random(seed, 1);
  const auto below = [&](std::uint32_t limit) { return static_cast<std::uint32_t>(random.next() % limit); };
  const auto number = [&] { return static_cast<float>(below(1000)) / 100; };
  Log log;
  log.identity = seed;
  for (std::size_t i = 0; i < plays; ++i) {
    Play play = play_of(1 + below(6), 1'000'000 + static_cast<std::int64_t>(i) * 200);
    play.track.artist_id = 1 + below(3);
    for (float* value = &play.track.duration; value <= &play.track.valence; ++value) *value = number();
    for (float& value : play.track.acoustic_vector) value = number();
    play.now.utc_offset = 3600;
    play.now.context_type = 1 + below(6);
    play.now.is_shuffle = static_cast<float>(below(2));
    play.now.premium = static_cast<float>(below(2));
    play.start.reason = 1 + below(15);
    play.start.pause = 1 + below(3);
    play.start.context_switch = static_cast<float>(below(2));
    play.end.reason = 1 + below(15);
    play.end.skip = 1 + below(5);
    play.end.n_seekfwd = static_cast<float>(below(5));
    play.end.n_seekback = static_cast<float>(below(5));
    play.end.ms_played = number() * 1000;
    play.end.time = play.now.time + 150;
    log.plays.push_back(play);
  }
  return log;
}

/// A log of plays whose outcomes these are: '1' skipped, '0' not, '?' unknown. A '|' is an hour's pause.
Log outcomes_log(const std::string& outcomes, std::uint64_t identity = 1) {
  std::vector<Play> plays;
  std::int64_t time = 1'000'000;
  for (const char c : outcomes) {
    if (c == '|') {
      time += 3600;
      continue;
    }
    Play play = play_of(100 + plays.size(), time);
    play.end.skip = c == '1'   ? TONEARM_SKIP_BRIEFLY
                    : c == '0' ? TONEARM_SKIP_NOT_SKIPPED
                               : TONEARM_SKIP_UNKNOWN;
    play.end.time = time + 60;
    time += 60;
    plays.push_back(play);
  }
  return log_of(std::move(plays), identity);
}

// ---------------------------------------------------------------------------------------- recipes

/// What an encoder is fitted to, where a test does not ask: 0, 1, 2, ... with deviations 1.
Moments made_up_moments(schema::ModelT& model) {
  const Blob blob(pack(model), "fitted");
  Moments moments;
  const std::size_t width = blob.outputs();
  moments.rows = 100;
  for (std::size_t i = 0; i < width; ++i) moments.mean.push_back(static_cast<double>(i));
  moments.deviation.assign(width, 1);
  moments.low.assign(width, 0);
  moments.high.assign(width, 1);
  moments.covariance.assign(width * width, 0);
  for (std::size_t i = 0; i < width; ++i) moments.covariance[i * width + i] = static_cast<double>(width - i);
  return moments;
}

SessionProgram program_of(const std::string& text) {
  const Recipe recipe = Recipe::from_text(text, "recipe.toml");
  SessionProgram program(recipe.root(), columns(), made_up_moments);
  recipe.require_all_known();
  return program;
}

/// The feature program alone: its outputs are the features.
Blob features_blob(const SessionProgram& program) {
  schema::ModelT model = program.gathered();
  return Blob(pack(model), "the features");
}

/// A feature of its own for each line of a recipe's [[features]], keys separated by ';'.
std::string features(const std::vector<std::string>& each) {
  std::string text;
  for (const std::string& one : each) {
    text += "[[features]]\n";
    for (std::size_t at = 0; at <= one.size();) {
      const std::size_t end = std::min(one.find(';', at), one.size());
      text += one.substr(at, end - at) + "\n";
      at = end + 1;
    }
  }
  return text;
}

/// Some of everything, so that what holds of it holds of all encoders.
const std::string rich =
    "[session]\nidle_gap = 1800\ncap = 15\n" +
    features({"encode='fact';facts=['horizon','position','gap','elapsed','playing']",
              "columns=['hour_of_day','is_shuffle','premium','context_switch','duration','energy']",
              "encode='one-hot';columns=['reason_start','context_type'];unknown=true",
              "encode='ordinal';columns=['pause']",
              "encode='scale';columns=['tempo','loudness']",
              "encode='bucket';columns=['popularity'];edges=[2,5,8]",
              "encode='pca';columns=['acoustic_vector_0','acoustic_vector_1','acoustic_vector_2'];count=2",
              "encode='difference';columns=['year'];minus=['release_year']",
              "name='how';encode='ordinal';columns=['reason_end']",
              "encode='lag';input='how';count=3",
              "encode='lag';columns=['skip_1','skip_2','skip_3','not_skipped','ms_played'];carries=true",
              "encode='mean';columns=['skipped','n_seekfwd'];keep=0.7",
              "encode='window';columns=['skipped'];length=4",
              "encode='total';columns=['n_seekback','completed']",
              "encode='streak';columns=['skipped']",
              "encode='streak';input='how';same=true",
              "encode='repeats';of='track'",
              "encode='repeats';of='artist';length=5;carries=true",
              "name='sound';encode='mean';columns=['energy','valence'];weight='skipped'",
              "encode='distance';columns=['energy','valence'];to='sound'"});

// ------------------------------------------------------------------------------------------ leaks

/// Reads a column in some way.
std::string reading(const std::string& name, const std::string& way) {
  const std::string list = "columns=['" + name + "']";
  if (way == "columns") return features({list});
  if (way == "category") return features({"encode='ordinal';" + list});
  if (way == "one-hot") return features({"encode='one-hot';" + list});
  if (way == "minus") return features({"encode='difference';columns=['year'];minus=['" + name + "']"});
  if (way == "input") return features({"name='a';" + list, "encode='scale';method='fixed';input='a'"});
  if (way == "inputs")
    return features(
        {"name='a';" + list, "name='b';columns=['year']", "encode='scale';method='fixed';inputs=['b','a']"});
  if (way == "both")  // an aggregate may read it, a predictor not
    return features(
        {"name='a';" + list, "encode='lag';input='a'", "encode='scale';method='fixed';input='a'"});
  if (way == "distance")
    return features({"name='m';encode='mean';columns=['energy']", "encode='distance';" + list + ";to='m'"});
  if (way == "to") return features({"name='m';" + list, "encode='distance';columns=['energy'];to='m'"});
  if (way == "pca") return features({"encode='pca';columns=['year','" + name + "'];count=1"});
  if (way == "weight") return features({"encode='mean';columns=['energy'];weight='" + name + "'"});
  if (way == "lag by input") return features({"name='a';" + list, "encode='lag';input='a'"});
  if (way == "lag by inputs")
    return features({"name='a';" + list, "name='b';columns=['year']", "encode='lag';inputs=['a','b']"});
  return features({"encode='" + way + "';" + list + (way == "window" ? ";length=3" : "")});
}

const std::vector<std::string> of_predicted = {"columns", "minus",    "input", "inputs",
                                               "both",    "distance", "to",    "pca"};
const std::vector<std::string> of_ended = {"lag",    "mean",   "window",       "total",
                                           "streak", "weight", "lag by input", "lag by inputs"};

TEST(Leaks, OfThePredictedTrackAreRefusedWithPlaceColumnAndRule) {
  std::size_t end_columns = 0;
  for (const LogColumn& column : columns()) {
    if (column.source != schema::Source::End || column.never_known) continue;
    ++end_columns;
    const auto ways =
        column.vocabulary.empty() ? of_predicted : std::vector<std::string>{"category", "one-hot"};
    for (const std::string& way : ways) {
      const std::string sentence = error_of([&] { program_of(reading(column.name, way)); });
      EXPECT_TRUE(sentence.starts_with("recipe.toml:")) << sentence;
      EXPECT_TRUE(contains(sentence, "'" + column.name +
                                         "', which is a leak: of the predicted track it is "
                                         "known only after that track has ended"))
          << way;
      EXPECT_TRUE(contains(sentence, "allow_leakage = true")) << way;
    }
    if (!column.vocabulary.empty()) continue;
    for (const std::string& way : of_ended)
      EXPECT_FALSE(program_of(reading(column.name, way)).leaky()) << column.name << " by " << way;
  }
  EXPECT_EQ(end_columns, 11u);
}

TEST(Leaks, TheSentencePointsAtTheLine) {
  EXPECT_TRUE(error_of([] {
                program_of(
                    "name = 'x'\n[[features]]\ncolumns = ['energy']\n[[features]]\nencode = 'identity'\n"
                    "columns = ['skip_2']\n");
              }).starts_with("recipe.toml:6:"));
}

TEST(Leaks, WhatNoPlayerEverKnowsIsRefusedOfEndedTracksToo) {
  for (const auto* ways : {&of_predicted, &of_ended})
    for (const std::string& way : *ways) {
      const std::string sentence = error_of([&] { program_of(reading("session_length", way)); });
      EXPECT_TRUE(sentence.starts_with("recipe.toml:")) << sentence;
      EXPECT_TRUE(contains(sentence, "'session_length', which is a leak: a player never knows it")) << way;
    }
}

TEST(Leaks, GoOnWhereAllowedAndAreStamped) {
  const auto check = [](const std::string& name, const std::string& way) {
    const SessionProgram program = program_of("allow_leakage = true\n" + reading(name, way));
    EXPECT_TRUE(program.leaky()) << name << " by " << way;
    EXPECT_TRUE(program.scattered().card->leaky);
    EXPECT_EQ(features_blob(program).info().leaky, 1) << name << " by " << way;
  };
  for (const std::string& way : of_predicted) check("skip_2", way), check("session_length", way);
  for (const std::string& way : of_ended) check("session_length", way);
  EXPECT_FALSE(program_of("allow_leakage = true\n" + reading("skip_2", "lag")).leaky())
      << "allowed, but it has none";
}

/// Which answers to questions a log gives: of the play, the moment (how many had ended) and whether it
/// played.
using Answers = std::map<std::array<std::uint32_t, 4>, std::vector<float>>;
Answers answers(const Blob& blob, const Log& log) {
  Replayed replayed;
  Replay(blob, columns(), {}).run(log, replayed);
  Answers result;
  for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
    const Example& e = replayed.examples[i];
    const auto* row = replayed.outputs.data() + i * blob.outputs();
    result[{e.play, e.session, e.ended, e.playing}] = {row, row + blob.outputs()};
  }
  return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(Leaks, NoQuestionIsAnsweredDifferentlyIfWhatComesAfterItIsDifferent) {
  const Blob blob = features_blob(program_of(rich));
  std::size_t compared = 0, changed = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const Log log = varied_log(seed, 12);  // one session
    const Log other = varied_log(seed + 100, 12);
    const Answers before = answers(blob, log);
    for (std::size_t from = 0; from < log.plays.size(); ++from) {
      Log altered = log;
      for (std::size_t i = from; i < altered.plays.size(); ++i) {
        const std::int64_t time = altered.plays[i].now.time;
        altered.plays[i].end = other.plays[i].end;
        if (i == from) continue;
        altered.plays[i].start = other.plays[i].start;
        altered.plays[i].now = other.plays[i].now;
        altered.plays[i].now.time = time + 7;
      }
      const Answers after = answers(blob, altered);
      ASSERT_EQ(before.size(), after.size());
      for (const auto& [question, answer] : before) {
        const bool asked_before_the_change = question[2] <= from;
        const bool same = same_bits(answer, after.at(question));
        if (asked_before_the_change) {
          ++compared;
          EXPECT_TRUE(same) << "play " << question[0] << " asked when " << question[2]
                            << " had ended, changed from the end of " << from;
        } else if (!same) {
          ++changed;
        }
      }
    }
  }
  EXPECT_GT(compared, 1000u);
  EXPECT_GT(changed, 1000u) << "features do not depend on the past: the test shows nothing";
}

TEST(Leaks, AModelThatReadsTheEndIsShownTheEnd) {
  const Blob blob = features_blob(program_of("allow_leakage = true\n" + reading("skip_2", "columns")));
  for (const auto& [question, answer] : answers(blob, outcomes_log("0110100")))
    EXPECT_EQ(answer, std::vector<float>{"0110100"[question[0]] == '1' ? 1.0f : 0.0f}) << question[0];
}

// ----------------------------------------------------------------------------------------- phases

/// The phases of the features, in the order of the program: H, C, c(andidate).
std::string phases(const std::string& text) {
  std::string result;
  for (const auto& feature : program_of(text).scattered().features)
    result += feature->phase == schema::Phase::History   ? 'H'
              : feature->phase == schema::Phase::Context ? 'C'
                                                         : 'c';
  return result;
}

TEST(Phases, FollowFromWhatAFeatureReads) {
  const std::pair<const char*, const char*> cases[] = {
      {"columns=['is_shuffle']", "C"},
      {"encode='ordinal';columns=['reason_start']", "C"},
      {"columns=['energy']", "c"},
      {"columns=['is_shuffle','energy']", "c"},  // one feature, so as late as the latest of what it reads
      {"encode='fact';facts=['gap','elapsed','playing']", "CCC"},
      {"encode='fact';facts=['horizon','position']", "cc"},
      {"encode='difference';columns=['year'];minus=['release_year']", "c"},
      {"encode='difference';columns=['year'];minus=['hour_of_day']", "C"},
      {"encode='lag';columns=['energy'];count=3", "C"},
      {"encode='mean';columns=['skipped'];keep=0.5", "C"},
      {"encode='window';columns=['skipped'];length=3", "C"},
      {"encode='total';columns=['skipped']", "C"},
      {"encode='streak';columns=['skipped']", "C"},
      {"encode='repeats';of='track'", "c"},
  };
  for (const auto& [feature, expected] : cases) {
    EXPECT_EQ(phases(features({feature})), expected) << feature;
    (void)features_blob(program_of(features({feature})));  // the runtime agrees
  }
  // What an aggregate reads is computed when a track has ended.
  EXPECT_EQ(phases(features({"name='a';encode='ordinal';columns=['reason_end']", "encode='lag';input='a'"})),
            "HC");
  // The same feature twice, of the ended and of the predicted track.
  EXPECT_EQ(phases(features({"name='a';encode='ordinal';columns=['reason_start']", "encode='lag';input='a'",
                             "encode='scale';method='fixed';input='a'"})),
            "HCCC");
  EXPECT_EQ(phases(features({"encode='distance';columns=['energy'];to='m'",
                             "name='m';encode='mean';columns=['energy'];weight='skipped'"})),
            "Cc");
  EXPECT_EQ(phases(features({"encode='difference';input='m';minus=['energy']",
                             "name='m';encode='mean';columns=['energy']"})),
            "Cc");
  const std::string all = phases(rich);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](char a, char b) {
    return std::string("HCc").find(a) < std::string("HCc").find(b);
  })) << all;
}

TEST(Phases, TheContextPartComesFirstAndEveryFeatureHasANameAndASlot) {
  const SessionProgram program = program_of(rich);
  EXPECT_EQ(program.slots().size(), program.names().size());
  EXPECT_EQ(std::set(program.slots().begin(), program.slots().end()).size(), program.slots().size());
  EXPECT_TRUE(std::is_partitioned(program.slots().begin(), program.slots().end(),
                                  [&](std::uint16_t slot) { return slot < program.context_end(); }));
  for (const std::uint16_t slot : program.slots()) {
    EXPECT_GE(slot, program.first_slot());
    EXPECT_LT(slot, program.end_slot());
  }
  EXPECT_EQ(features_blob(program).outputs(), program.names().size());
  EXPECT_EQ(program.names().size(), std::set(program.names().begin(), program.names().end()).size());
}

// -------------------------------------------------------------------------------------- bad recipes

TEST(Recipes, AreRefusedWithOneSentenceThatNamesThePlace) {
  const std::string good = features({"columns=['energy']"});
  const std::pair<std::string, std::string> cases[] = {
      {"name = 'x'\n", "features is missing"},
      {features({"colums=['energy']"}), "columns or input must name what the feature reads"},
      {features({"columns=['energy'];kep=3"}), "kep"},
      {features({"columns=['enrgy']"}), "'enrgy', which these data do not have; did you mean 'energy'?"},
      {features({"encode='mean';columns=['energy'];weight='skiped'"}), "did you mean 'skipped'?"},
      {features({"encode='difference';columns=['year'];minus=['relase_year']"}), "'release_year'?"},
      {features({"encode='lagg';columns=['energy']"}), "lag"},
      {features({"columns='energy'"}), "columns"},
      {features({"name='a';columns=['energy']", "name='a';columns=['tempo']"}), "as that of another feature"},
      {features({"name='how';columns=['energy']", "encode='lag';input='hwo'"}), "did you mean 'how'?"},
      {features({"name='a';columns=['energy']", "encode='lag';inputs=['a','b']"}),
       "no feature has that name"},
      {features({"encode='distance';columns=['energy'];to='nobody'"}), "no feature has that name"},
      {features({"encode='distance';columns=['energy']"}), "to"},
      {features({"name='a';encode='scale';method='fixed';input='a'", "columns=['tempo']"}),
       "back to the feature"},
      {features({"name='a';encode='scale';method='fixed';input='b'",
                 "name='b';encode='scale';method='fixed';input='a'", "columns=['tempo']"}),
       "leads back to the feature itself"},
      {features({"name='a';encode='scale';method='fixed';input='b'",
                 "name='b';encode='scale';method='fixed';input='a'"}),
       "leads back to the feature itself"},
      {features({"name='a';columns=['energy']", "encode='lag';input='a';columns=['tempo']"}),
       "cannot both be given"},
      {features({"name='a';columns=['energy']", "encode='lag';inputs=['a'];input='a'"}),
       "cannot both be given"},
      {features({"encode='difference';columns=['year','tempo'];minus=['release_year']"}),
       "must name as many columns as there are inputs"},
      {features({"encode='difference';columns=['year']"}), "must name as many columns as there are inputs"},
      {features({"name='m';encode='mean';columns=['energy','tempo']",
                 "encode='distance';columns=['energy'];to='m'"}),
       "must name a feature of as many numbers as there are inputs"},
      {features({"encode='one-hot';columns=['energy']"}), "a number, not a category"},
      {features({"encode='ordinal';columns=['pause'];values=[1,2]"}),
       "one number for each of the 3 categories"},
      {features({"encode='ordinal';columns=['pause'];values=[1,2,1e300]"}), "range of float32"},
      {features({"encode='bucket';columns=['energy']"}), "edges"},
      {features({"encode='bucket';columns=['energy'];edges=[1,1]"}), "must ascend"},
      {features({"encode='fact'"}), "must name at least one fact"},
      {features({"encode='fact';facts=['time']"}), "there are horizon, position, gap, elapsed and playing"},
      {features({"encode='lag';columns=['energy'];count=0"}), "count"},
      {features({"encode='lag';columns=['energy'];count=2000"}), "count"},
      {features({"encode='mean';columns=['energy'];keep=1.5"}), "keep"},
      {features({"encode='mean';columns=['energy'];keep=0.5;half_life=2"}), "cannot both be given"},
      {features({"encode='mean';columns=['energy'];half_life=0"}), "half_life"},
      {features({"encode='mean';columns=['energy'];prior_weight=-1"}), "prior_weight"},
      {features({"encode='window';columns=['energy']"}), "length"},
      {features({"encode='window';columns=['energy'];length=0"}), "length"},
      {features({"encode='streak';columns=['energy'];same='yes'"}), "same"},
      {features({"encode='repeats';of='album'"}), "of"},
      {features({"encode='repeats';length=0"}), "length"},
      {features({"encode='lag';columns=['energy'];carries=1"}), "carries"},
      {features({"encode='pca';columns=['energy','tempo'];count=3"}), "3"},
      {features({"encode='scale';columns=['energy'];method='log'"}), "method"},
      {features({"name='m';encode='mean';columns=['energy']", "encode='lag';input='m'"}),
       "another aggregate cannot read"},
      {features({"name='f';encode='fact';facts=['gap']", "encode='lag';input='f'"}),
       "another aggregate cannot read"},
      {features({"name='m';encode='mean';columns=['energy']",
                 "name='d';encode='distance';columns=['energy'];to='m'", "encode='lag';input='d'"}),
       "another aggregate cannot read"},
      {"[session]\nidle_gap = -1\n" + good, "idle_gap"},
      {"[session]\ncap = 1.5\n" + good, "cap"},
      {"[session]\ngap = 5\n" + good, "gap"},
      {"[skip]\nlevel = 'skip_4'\n" + good, "level"},
      {"[skip]\nreasons = ['fwdbutton']\n" + good, "did you mean 'fwdbtn'?"},
      {"[skip]\nbelow_share = -0.5\n" + good, "below_share"},
      {"[skip]\nbelow_ms = 'a'\n" + good, "below_ms"},
      {"[missing]\nenergy = 'none'\n" + good, "energy"},
      {"[missing]\nenrgy = 0\n" + good, "enrgy"},
      {"allow_leakage = 'yes'\n" + good, "allow_leakage"},
  };
  for (const auto& [text, said] : cases) {
    const std::string sentence = error_of([&, &recipe_text = text] { program_of(recipe_text); });
    EXPECT_TRUE(contains(sentence, said)) << text;
    EXPECT_TRUE(sentence.starts_with("recipe.toml")) << sentence << "\n" << text;
    EXPECT_EQ(sentence.find('\n'), sentence.npos) << sentence;
  }
}

TEST(Recipes, AllTrackColumnsThatAreReadAreAskedOfTheData) {
  const auto read = [](const std::string& text) {
    const std::vector<std::string> names = columns_read(Recipe::from_text(text, "recipe.toml").root());
    return std::set<std::string>(names.begin(), names.end());
  };
  EXPECT_EQ(
      read(features({"columns=['energy']", "encode='difference';columns=['year'];minus=['release_year']"})),
      (std::set<std::string>{"energy", "year", "release_year"}));
  EXPECT_EQ(read(features({"encode='mean';columns=['skipped'];weight='valence'"})),
            (std::set<std::string>{"skipped", "valence"}));
  EXPECT_EQ(read("[skip]\nbelow_share = 0.3\n" + features({"columns=['energy']"})),
            (std::set<std::string>{"energy", "duration"}));
}

TEST(Recipes, AMissingValueIsFilledAsTheRecipeSays) {
  const Blob blob =
      features_blob(program_of("[missing]\nenergy = 7\n" + features({"columns=['energy','tempo']"})));
  for (const auto& [question, answer] : answers(blob, outcomes_log("01"))) {
    EXPECT_EQ(answer[0], 7.0f);
    EXPECT_TRUE(std::isnan(answer[1]));
  }
}

// ---------------------------------------------------------------------------------------- questions

const std::string session_rule = "[session]\nidle_gap = 600\n";
const std::string facts = session_rule + features({"encode='fact';facts=['horizon','position','playing']"});

Replayed replay(const std::string& recipe, const Log& log, const Questions& questions) {
  const Blob blob = features_blob(program_of(recipe));
  Replayed replayed;
  Replay(blob, columns(), questions).run(log, replayed);
  EXPECT_EQ(replayed.outputs.size(), replayed.examples.size() * blob.outputs());
  return replayed;
}

/// "U3" upcoming, "P3" playing, "Q3@2" of the queue, "C3@2" of the challenge, play 3 at horizon 2; plays from
/// 0.
std::vector<std::string> asked(const Replayed& replayed) {
  std::vector<std::string> list;
  for (const Example& e : replayed.examples) {
    std::string text = (e.challenge      ? "C"
                        : e.playing      ? "P"
                        : e.horizon == 1 ? "U"
                                         : "Q") +
                       std::to_string(e.play);
    if (e.challenge || e.horizon > 1) text += "@" + std::to_string(e.horizon);
    list.push_back(text);
  }
  return list;
}
using List = std::vector<std::string>;

Questions questions(bool upcoming, bool started, unsigned horizons, bool thin = false,
                    bool challenge = false) {
  return {upcoming, started, horizons, thin, challenge};
}

TEST(Questions, AreAskedAtTheMomentsAndHorizonsThatTheRecipeNames) {
  const Log log = outcomes_log("0101");
  EXPECT_EQ(asked(replay(facts, log, questions(true, false, 1))), (List{"U0", "U1", "U2", "U3"}));
  EXPECT_EQ(asked(replay(facts, log, questions(false, true, 1))), (List{"P0", "P1", "P2", "P3"}));
  EXPECT_EQ(asked(replay(facts, log, questions(true, true, 3))),
            (List{"U0", "P0", "Q1@2", "Q2@3", "U1", "P1", "Q2@2", "Q3@3", "U2", "P2", "Q3@2", "U3", "P3"}));
  EXPECT_EQ(asked(replay(facts, log, questions(false, false, 2))), (List{"Q1@2", "Q2@2", "Q3@2"}));
}

TEST(Questions, AreWhatTheRuntimeIsAsked) {
  const Replayed replayed = replay(facts, varied_log(3, 14), questions(true, true, 5));
  for (std::size_t i = 0; i < replayed.examples.size(); ++i) {
    const Example& e = replayed.examples[i];
    const auto fact = [&](std::size_t f) { return replayed.outputs[3 * i + f]; };
    // The context part comes first, so `playing` does.
    EXPECT_EQ(fact(0), e.playing ? 1.0f : 0.0f);
    EXPECT_EQ(fact(1), static_cast<float>(e.horizon));
    EXPECT_EQ(fact(2), static_cast<float>(e.position));
    EXPECT_EQ(e.position, e.play + 1);
    EXPECT_EQ(e.ended + e.horizon, e.position);
  }
}

TEST(Questions, ThinnedAskOfEveryNthTrackAtHorizonN) {
  const Log log = outcomes_log("010101010101|01010101");
  const Replayed all = replay(facts, log, questions(true, true, 4)),
                 thin = replay(facts, log, questions(true, true, 4, true));
  List kept;
  for (const Example& e : all.examples)
    if ((e.position - 1) % e.horizon == 0) kept.push_back(asked({{e}, {}, {}, {}})[0]);
  EXPECT_EQ(asked(thin), kept);
  EXPECT_LT(thin.examples.size(), all.examples.size());
}

TEST(Questions, OfTheChallengeAreTheSecondHalfAskedFromTheFirst) {
  EXPECT_EQ(asked(replay(facts, outcomes_log("0101010101"), questions(false, false, 1, false, true))),
            (List{"C5@1", "C6@2", "C7@3", "C8@4", "C9@5"}));
  EXPECT_EQ(asked(replay(facts, outcomes_log("01010101010"), questions(false, false, 1, true, true))),
            (List{"C5@1", "C6@2", "C7@3", "C8@4", "C9@5", "C10@6"}))
      << "an odd session, and thinning is for training";
  EXPECT_EQ(asked(replay(facts, outcomes_log("010101010"), questions(false, false, 1, false, true))), List{})
      << "too short";
  EXPECT_EQ(asked(replay(facts, outcomes_log("0|0101010101"), questions(false, false, 1, false, true))),
            (List{"C6@1", "C7@2", "C8@3", "C9@4", "C10@5"}));
}

TEST(Questions, StayWithinASession) {
  const Replayed replayed = replay(facts, outcomes_log("010|01|0"), questions(true, true, 5));
  EXPECT_EQ(replayed.session, (std::vector<std::uint32_t>{0, 0, 0, 1, 1, 2}));
  for (const Example& e : replayed.examples) {
    const std::uint32_t first = e.session == 0 ? 0 : e.session == 1 ? 3 : 5;
    EXPECT_EQ(e.position, e.play - first + 1);
    EXPECT_LE(e.horizon, e.position);
    EXPECT_EQ(replayed.session[e.play + 1 - e.horizon], e.session) << "asked from another session";
  }
  const Replayed capped =
      replay("[session]\ncap = 4\n" + features({"columns=['energy']"}), outcomes_log("0101010101"), {});
  EXPECT_EQ(capped.session, (std::vector<std::uint32_t>{0, 0, 0, 0, 1, 1, 1, 1, 2, 2}));
}

TEST(Questions, AreNotAskedOfUnknownOutcomes) {
  const Replayed replayed = replay(facts, outcomes_log("0?1?"), questions(true, true, 2));
  EXPECT_EQ(asked(replayed), (List{"U0", "P0", "Q2@2", "U2", "P2"}));
  EXPECT_TRUE(std::isnan(replayed.skipped[1]) && std::isnan(replayed.skipped[3]));
  EXPECT_TRUE(replay(facts, outcomes_log("????"), {}).examples.empty());
  EXPECT_TRUE(replay(facts, Log(), {}).examples.empty());
}

TEST(Questions, TargetsAreWhatTheLabelRuleSays) {
  const std::pair<const char*, std::uint32_t> levels[] = {{"skip_1", TONEARM_SKIP_VERY_BRIEFLY},
                                                          {"skip_2", TONEARM_SKIP_BRIEFLY},
                                                          {"skip_3", TONEARM_SKIP_MOSTLY},
                                                          {"not not_skipped", TONEARM_SKIP_NEAR_END}};
  const Log log = varied_log(9, 15);
  for (const auto& [level, least] : levels) {
    const Replayed replayed =
        replay("[skip]\nlevel = '" + std::string(level) + "'\n" + features({"columns=['energy']"}), log, {});
    ASSERT_FALSE(replayed.examples.empty());
    for (const Example& e : replayed.examples)
      EXPECT_EQ(e.target, log.plays[e.play].end.skip >= least ? 1.0f : 0.0f) << level << " " << e.play;
  }
  // Where the log gives no level: all conditions that the rule names.
  Log unlevelled = log;
  for (Play& play : unlevelled.plays) play.end.skip = TONEARM_SKIP_UNKNOWN;
  const Replayed ruled = replay(
      "[skip]\nreasons = ['fwdbtn', 'backbtn', 'clickrow', 'appload', 'playbtn', 'remote']\n"
      "below_ms = 5000\n" +
          features({"columns=['energy']"}),
      unlevelled, {});
  ASSERT_FALSE(ruled.examples.empty());
  std::size_t skipped = 0;
  for (const Example& e : ruled.examples) {
    const tonearm_end& end = log.plays[e.play].end;
    const bool skip =
        end.reason >= TONEARM_REASON_FWDBTN && end.reason <= TONEARM_REASON_REMOTE && end.ms_played < 5000;
    EXPECT_EQ(e.target, skip ? 1.0f : 0.0f);
    skipped += skip;
  }
  EXPECT_GT(skipped, 0u);
}

TEST(Questions, OutlineFindsTheSameSessionsAndOutcomes) {
  const Blob blob = features_blob(program_of(rich));
  Replay once(blob, columns(), {});
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const Log log = varied_log(seed, 40);
    Replayed outlined, run;
    once.outline(log, outlined);
    once.run(log, run);
    EXPECT_EQ(outlined.session, run.session);
    EXPECT_TRUE(same_bits(outlined.skipped, run.skipped));
    EXPECT_TRUE(outlined.examples.empty());
    EXPECT_EQ(run.session.back(), 2u) << "forty tracks, at most fifteen in a session";
    // A replay leaves nothing behind in the object.
    Replayed again;
    Replay(blob, columns(), {}).run(log, again);
    EXPECT_TRUE(same_bits(run.outputs, again.outputs));
  }
}

// --------------------------------------------------------------------------------------- batches

/// Logs in memory, so many to a shard.
class LogsInMemory : public LogSource {
 public:
  explicit LogsInMemory(std::vector<std::vector<Log>> shards) : shards_(std::move(shards)) {}
  const std::vector<LogColumn>& columns() const override { return tonearm::columns(); }
  std::size_t shards() const override { return shards_.size(); }
  std::string shard_name(std::size_t shard) const override { return std::to_string(shard); }
  void read(std::size_t shard, const std::function<void(const Log&)>& sink) const override {
    for (const Log& log : shards_[shard]) {
      if (log.plays.empty()) throw Error("a log without plays");
      sink(log);
    }
  }
  std::vector<LogRemark> remarks() const override { return {}; }
  bool synthetic() const override { return false; }

 private:
  std::vector<std::vector<Log>> shards_;
};

TEST(Batches, HoldAllLogsInOrder) {
  std::vector<std::vector<Log>> shards(3);
  for (std::uint64_t i = 0; i < 3000; ++i) shards[i / 1000].push_back(varied_log(i, 12));
  std::uint64_t next = 0, batches = 0;
  for_each_batch(LogsInMemory(shards), "test", [&](const std::vector<Log>& logs) {
    ++batches;
    for (const Log& log : logs) {
      EXPECT_EQ(log.identity, next++);
      EXPECT_EQ(log.plays.size(), 12u);
    }
  });
  EXPECT_EQ(next, 3000u);
  EXPECT_GT(batches, 1u);
}

TEST(Batches, EndWithTheErrorOfTheReaderOrOfTheCaller) {
  std::vector<std::vector<Log>> shards(2);
  for (std::uint64_t i = 0; i < 6000; ++i) shards[0].push_back(varied_log(i, 12));
  const LogsInMemory good(shards);
  EXPECT_EQ(error_of([&] {
              for_each_batch(good, "test", [](const std::vector<Log>&) { throw Error("of the caller"); });
            }),
            "of the caller");
  shards[1].emplace_back();
  EXPECT_EQ(error_of([&] { for_each_batch(LogsInMemory(shards), "test", [](const std::vector<Log>&) {}); }),
            "a log without plays");
}

TEST(Batches, ACopyOfALogPointsIntoItself) {
  Log log = varied_log(1, 3);
  log.extra = {1, 2, 3};
  for (std::size_t i = 0; i < 3; ++i) {
    log.plays[i].end.extra = log.extra.data() + i;
    log.plays[i].end.extra_count = 1;
  }
  const Log copy = copy_of(log);
  log.extra.assign(3, -1);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(copy.plays[i].end.extra, copy.extra.data() + i);
    EXPECT_EQ(*copy.plays[i].end.extra, static_cast<float>(i + 1));
    EXPECT_EQ(copy.plays[i].track.extra, nullptr);
  }
}

// ----------------------------------------------------------------------------------------- splits

SessionSplit split_of(const std::string& text, const LogSource& source, std::uint32_t seed = 1) {
  return {Recipe::from_text(text, "recipe.toml").root(), source, seed};
}

TEST(Splits, ByGroupKeepALogTogetherAndHoldOutTheShare) {
  const LogsInMemory none(std::vector<std::vector<Log>>{});
  const std::string text = "[splits.a]\nrule='group'\nheld_out=0.3\n[validation]\nheld_out=0.2\n";
  const SessionSplit split = split_of(text, none), other = split_of(text, none, 2);
  std::array<double, 3> count{};
  std::size_t differ = 0;
  for (std::uint64_t id = 0; id < 20000; ++id) {
    const Log log = log_of({play_of(1, 5), play_of(2, 50'000'000)}, id);
    const auto part = split.part(log, log.plays[0]);
    ASSERT_EQ(part, split.part(log, log.plays[1]));
    ++count[static_cast<std::size_t>(part)];
    differ += part != other.part(log, log.plays[0]);
  }
  EXPECT_NEAR(count[2] / 20000, 0.3, 0.015);
  EXPECT_NEAR(count[1] / (count[0] + count[1]), 0.2, 0.015);
  EXPECT_GT(differ, 5000u) << "another seed, another split";
}

TEST(Splits, ByTimeHoldOutTheLastPlaysAndByDateThoseFromADayOn) {
  std::vector<Play> plays;
  for (int i = 0; i < 100; ++i) {
    plays.push_back(play_of(1, 1000 + i));
    plays.back().now.date = static_cast<std::uint32_t>(20180701 + i % 31);
  }
  const Log log = log_of(plays);
  const LogsInMemory source({{log}});
  using Part = SessionSplit::Part;
  const SessionSplit time =
      split_of("[splits.a]\nrule='time'\nheld_out=0.3\n[validation]\nheld_out=0.1\n", source);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(time.part(log, log.plays[static_cast<std::size_t>(i)]), i >= 70   ? Part::held_out
                                                                      : i >= 63 ? Part::validation
                                                                                : Part::training)
        << i;
  const SessionSplit date = split_of("[splits.a]\nrule='date'\nfrom=20180715\n", source);
  for (const Play& play : log.plays)
    EXPECT_EQ(date.part(log, play), play.now.date >= 20180715 ? Part::held_out : Part::training);
}

TEST(Splits, ThatTheDataCannotServeAreRefused) {
  const LogsInMemory untimed({{log_of({play_of(1)})}});
  EXPECT_TRUE(contains(error_of([&] { split_of("[splits.a]\nrule='time'\n", untimed); }),
                       "the data do not say when every track started"));
  EXPECT_TRUE(contains(error_of([&] { split_of("name='x'\n", untimed); }), "splits is missing"));
  EXPECT_TRUE(
      contains(error_of([&] { split_of("split='b'\n[splits.a]\nrule='group'\n", untimed); }), "split"));
  EXPECT_TRUE(contains(error_of([&] { split_of("[splits.a]\nrule='date'\n", untimed); }), "from"));
  EXPECT_TRUE(
      contains(error_of([&] { split_of("[splits.a]\nrule='group'\nheld_out=1.5\n", untimed); }), "held_out"));
}

// ---------------------------------------------------------------------------------------- metrics

TEST(StreamedMetrics, AgreeWithMetricsOfAllRowsAtOnce) {
  Random random(7, 7);
  std::vector<double> probability;
  std::vector<float> target;
  StreamedMetrics streamed;
  SessionWeights weights;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    double p = static_cast<double>(random.next() >> 11) * 0x1p-53;
    if (i % 5 == 0) p = std::round(p * 10) / 10;  // ties, and 0, .5 and 1 themselves
    const float label = static_cast<double>(random.next() >> 11) * 0x1p-53 < 0.2 + 0.6 * p ? 1.0f : 0.0f;
    probability.push_back(p);
    target.push_back(label);
    weights.draw(i / 10);
    streamed.add(p, label, weights);
  }
  const Metrics here = streamed.metrics(), there = measure(probability, target);
  EXPECT_EQ(here.rows, there.rows);
  EXPECT_DOUBLE_EQ(here.base_rate, there.base_rate);
  EXPECT_DOUBLE_EQ(here.accuracy, there.accuracy);
  EXPECT_NEAR(here.auc, there.auc, 1e-4);
  EXPECT_NEAR(here.log_loss, there.log_loss, 1e-9);
  EXPECT_NEAR(here.calibration_error, there.calibration_error, 1e-9);
}

TEST(StreamedMetrics, OfNothingAndOfOneClassAreNaN) {
  StreamedMetrics streamed;
  EXPECT_EQ(streamed.metrics().rows, 0u);
  EXPECT_TRUE(std::isnan(streamed.metrics().auc) && std::isnan(streamed.metrics().accuracy));
  EXPECT_TRUE(std::isnan(interval_of(streamed.replicates(Figure::auc)).low));
  SessionWeights weights;
  for (std::uint64_t i = 0; i < 100; ++i) weights.draw(i), streamed.add(0.9, 1, weights);
  EXPECT_TRUE(std::isnan(streamed.metrics().auc));
  EXPECT_EQ(streamed.metrics().accuracy, 1);
  EXPECT_TRUE(std::isnan(interval_of(streamed.replicates(Figure::auc)).low));
}

TEST(StreamedMetrics, IntervalsCoverTheTruthAsOftenAsTheySay) {
  // Sessions share their mood, so that rows within one are far from independent: accuracy .7 in truth.
  Random random(11, 11);
  const auto uniform = [&] { return static_cast<double>(random.next() >> 11) * 0x1p-53; };
  int covered = 0;
  constexpr int repetitions = 150;
  for (int r = 0; r < repetitions; ++r) {
    StreamedMetrics streamed;
    SessionWeights weights;
    for (int s = 0; s < 60; ++s) {
      weights.draw(random.next());
      const double right = uniform() < 0.5 ? 0.5 : 0.9;
      for (int row = 0; row < 10; ++row) streamed.add(0.8, uniform() < right ? 1.0f : 0.0f, weights);
    }
    const Interval interval = interval_of(streamed.replicates(Figure::accuracy));
    covered += interval.low <= 0.7 && 0.7 <= interval.high;
  }
  EXPECT_GE(covered, repetitions * 0.89);
  EXPECT_LT(covered, repetitions) << "too wide";
}

TEST(SessionWeights, AreDrawnFromTheSessionsIdentity) {
  SessionWeights a, b;
  a.draw(42);
  b.draw(43);
  const std::vector<float> first(a.of_session().begin(), a.of_session().end());
  EXPECT_FALSE(std::equal(first.begin(), first.end(), b.of_session().begin()));
  b.draw(42);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), b.of_session().begin()));
  double sum = 0, squares = 0;
  for (std::uint64_t id = 0; id < 500; ++id) {
    a.draw(id);
    for (const float weight : a.of_session()) {
      sum += static_cast<double>(weight);
      squares += static_cast<double>(weight * weight);
    }
  }
  const double mean = sum / 1e5;
  EXPECT_NEAR(mean, 1, 0.02);  // Poisson(1)
  EXPECT_NEAR(squares / 1e5 - mean * mean, 1, 0.03);
}

TEST(Baselines, AreWhatTheirTablesSay) {
  Log log = outcomes_log("1011");
  log.plays[3].end.reason = TONEARM_REASON_FWDBTN;
  log.plays[2].end.reason = TONEARM_REASON_TRACKDONE;
  const float skipped[] = {1, 0, 1, 1};
  tonearm_start start;
  tonearm_start_init(&start, sizeof start);
  start.reason = TONEARM_REASON_TRACKDONE;
  const auto after = [&](std::size_t ended, bool started) {
    return Situation{std::span(log.plays).first(ended), std::span(skipped).first(ended),
                     started ? &start : nullptr};
  };
  const auto logistic = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto logit = [](double p) { return std::log(p / (1 - p)); };

  EXPECT_EQ(baseline_probability(Baseline::majority, after(3, true), 0.4), 0.4);
  EXPECT_EQ(baseline_probability(Baseline::repeat_last, after(0, true), 0.4), 0.4);
  EXPECT_EQ(baseline_probability(Baseline::repeat_last, after(1, true), 0.4), 0.753);
  EXPECT_EQ(baseline_probability(Baseline::repeat_last, after(2, true), 0.4), 0.282);
  // Nothing known of the start: the evidence of the previous outcome alone.
  EXPECT_NEAR(baseline_probability(Baseline::table_rule, after(1, false), 0.4), 0.753, 1e-12);
  EXPECT_NEAR(baseline_probability(Baseline::table_rule, after(0, true), 0.4), 0.165, 1e-12);
  EXPECT_NEAR(baseline_probability(Baseline::table_rule, after(2, true), 0.4),
              logistic(logit(0.165) + logit(0.282) - logit(0.517)), 1e-12);
  EXPECT_EQ(baseline_probability(Baseline::decayed_sum, after(0, true), 0.4), 0.4);
  // 1, 0, 1, 1 with weights .343, .49, .7, 1; the last ended by the forward button.
  EXPECT_NEAR(baseline_probability(Baseline::decayed_sum, after(4, true), 0.4),
              (0.811 + (0.343 + 0.7 + 1) / (0.343 + 0.49 + 0.7 + 1)) / 2, 1e-12);
  // An unknown outcome counts for nothing but ages the others.
  const float unknown[] = {1, 0, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_NEAR(
      baseline_probability(Baseline::decayed_sum, {std::span(log.plays).first(3), unknown, nullptr}, 0.4),
      (0.004 + 0.49 / (0.49 + 0.7)) / 2, 1e-12);
  EXPECT_EQ(
      baseline_probability(Baseline::repeat_last, {std::span(log.plays).first(3), unknown, nullptr}, 0.4),
      0.4);
}

/// A report of logs whose every question was answered with these probabilities, by play.
nlohmann::ordered_json report_of(const Log& log, const std::vector<float>& by_play,
                                 const Questions& asked_questions) {
  Replayed replayed = replay(facts, log, asked_questions);
  replayed.outputs.clear();
  for (const Example& e : replayed.examples) replayed.outputs.push_back(by_play[e.play]);
  SessionReport report(0.5);
  report.add(log, replayed, [](std::uint32_t) { return true; });
  report.finish();
  EXPECT_TRUE(contains(report.text(), "mean average accuracy"));
  return report.json();
}

TEST(SessionReport, ComputesTheChallengesMeanAverageAccuracy) {
  // Second half 1 0 1 1 0; answered right, wrong, right, right, wrong. Average accuracy: the sum over right
  // answers of the share of right ones up to there, over five: (1/1 + 2/3 + 3/4) / 5.
  const Log log = outcomes_log("0000010110");
  const auto json =
      report_of(log, {0, 0, 0, 0, 0, 0.9f, 0.9f, 0.9f, 0.9f, 0.9f}, questions(true, false, 1, false, true));
  const auto& challenge = json["challenge"]["model"];
  EXPECT_EQ(challenge["sessions"], 1);
  EXPECT_EQ(challenge["first_prediction_accuracy"], 1.0);
  EXPECT_NEAR(challenge["mean_average_accuracy"].get<double>(), (1 + 2.0 / 3 + 3.0 / 4) / 5, 1e-12);
  // Repeat the last: five times "not skipped", as the fifth track; right at 2 and 5.
  EXPECT_EQ(json["challenge"]["repeat-last"]["first_prediction_accuracy"], 0.0);
  EXPECT_NEAR(json["challenge"]["repeat-last"]["mean_average_accuracy"].get<double>(),
              (1.0 / 2 + 2.0 / 5) / 5, 1e-12);
}

TEST(SessionReport, CountsSessionsAndTellsThemApart) {
  const Log log = outcomes_log("0101010101|1010101010");
  const auto whole = report_of(log, std::vector<float>(20, 0.25f), questions(true, true, 2, false, true));
  EXPECT_EQ(whole["sessions"], 2);
  EXPECT_EQ(whole["plays"], 20);
  EXPECT_EQ(whole["challenge"]["model"]["sessions"], 2);
  for (const auto& entry : whole["questions"]) {
    const std::string moment = entry["moment"];
    EXPECT_EQ(entry["rows"], moment == "queue" || entry["after_first"] == true ? 18 : 20) << entry;
  }
  // The digest is of the sessions, not of their order, and knows a session by its listener and its time.
  const auto digest_of = [&](const std::vector<Log>& logs) {
    SessionReport report(0.5);
    for (const Log& one : logs) {
      Replayed replayed = replay(facts, one, questions(true, false, 1));
      replayed.outputs.assign(replayed.examples.size(), 0.5f);
      report.add(one, replayed, [](std::uint32_t) { return true; });
    }
    report.finish();
    return report.digest();
  };
  const Log a = outcomes_log("01", 1), b = outcomes_log("01", 2);
  EXPECT_EQ(digest_of({a, b}), digest_of({b, a}));
  EXPECT_NE(digest_of({a, b}), digest_of({a, a}));
  EXPECT_NE(digest_of({a}), digest_of({a, b}));
  EXPECT_TRUE(contains(error_of([&] { digest_of({}); }), "holds out no session whose outcomes are known"));
}

}  // namespace
}  // namespace tonearm
