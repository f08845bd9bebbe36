#include "data/synth_sessions.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/random.h"
#include "data/facts.h"

namespace tonearm {
namespace {

using namespace mssd;

// --- Tracks ------------------------------------------------------------------------------------------
// A track is a number, its rank: the lower, the more popular. All else is computed from it, so that no
// catalogue is kept in memory.

constexpr std::size_t full_catalogue = 3706388;  // tracks of the dataset
// A part of them is in reach of so many sessions: in the dataset, 50,704 tracks are played in 10,000 sessions
// and all of them in 130 million, hence the exponent. The number for 10,000 is higher, for not all are
// played.
constexpr double tracks_of_mini = 78000, tracks_exponent = .45;
constexpr std::uint32_t genres = 16;
constexpr std::size_t factors = 5;

struct AudioFeature {
  const char* name;
  /// At the levels below, of all tracks: the first eighteen from the published histograms of 3.7 M tracks,
  /// the acoustic vector from the quartiles, mean and deviation over mini's rows.
  std::array<double, 13> quantiles;
  /// How the normal score moves, and narrows, with the logarithm of the popularity: fitted to the mean and
  /// the deviation over mini's rows. (The mean over mini's tracks, not used in the fit, then agrees as well.)
  double shift, narrowing;
  /// Principal factors of the published correlation matrix.
  std::array<double, factors> loadings;
  /// On what makes a track be skipped: the published correlation with skip_2, over that of `appeal`.
  double appeal;
};

constexpr std::array<AudioFeature, audio_features> audio = {{
    {"duration",
     {30, 54.91, 102.2, 152, 176.7, 202.5, 217.9, 234.5, 267.2, 304.5, 406, 606.8, 1800},
     -0.018,
     0.055,
     {0.17, -0.04, 0.00, -0.01, 0.01},
     0.35},
    {"release_year",
     {1950, 1965.45, 1985.86, 2000.38, 2006.25, 2011.17, 2013.28, 2014.87, 2016.52, 2017.36, 2018.25, 2018.85,
      2019},
     0.161,
     -0.055,
     {-0.40, -0.20, 0.45, -0.04, -0.14},
     -0.14},
    {"us_popularity_estimate",
     {90, 90.1, 90.5, 91.5, 92.5, 94, 95, 96, 97.5, 98.5, 99.5, 99.9, 100},
     0.757,
     -0.088,
     {-0.13, -0.05, 0.12, -0.01, -0.02},
     -0.08},
    {"acousticness",
     {0, 1e-05, 0.0005, 0.0072, 0.02727, 0.1159, 0.2206, 0.3682, 0.6528, 0.8306, 0.9666, 0.9937, 1},
     -0.042,
     0.065,
     {0.27, 0.58, 0.08, 0.02, -0.26},
     -0.33},
    {"beat_strength",
     {0, 0.1234, 0.1878, 0.2707, 0.3316, 0.4105, 0.4593, 0.5076, 0.5852, 0.6494, 0.7511, 0.8486, 1},
     0.082,
     0.019,
     {-0.87, 0.22, -0.23, 0.17, 0.09},
     0.01},
    {"bounciness",
     {0, 0.09662, 0.1603, 0.2503, 0.3207, 0.4177, 0.4796, 0.5406, 0.6339, 0.7037, 0.8026, 0.8867, 0.99},
     0.083,
     0.020,
     {-0.90, 0.29, -0.19, 0.06, 0.07},
     0.11},
    {"danceability",
     {0, 0.1148, 0.2151, 0.3499, 0.4326, 0.5216, 0.5728, 0.6222, 0.6976, 0.754, 0.832, 0.9054, 1},
     0.105,
     0.012,
     {-0.86, 0.05, -0.20, 0.25, 0.03},
     0.08},
    {"dyn_range_mean",
     {0, 3.45, 4.204, 5.12, 5.822, 6.832, 7.52, 8.242, 9.477, 10.56, 12.57, 15.65, 52.61},
     0.079,
     0.044,
     {-0.85, 0.29, -0.14, 0.01, 0.12},
     0.13},
    {"energy",
     {0, 0.01678, 0.1028, 0.2815, 0.4098, 0.5463, 0.626, 0.6983, 0.8073, 0.8798, 0.955, 0.9891, 1},
     0.011,
     0.075,
     {0.06, -0.75, -0.39, -0.42, 0.03},
     0.11},
    {"flatness",
     {0, 0.8365, 0.902, 0.9466, 0.9688, 0.9907, 1.002, 1.013, 1.029, 1.042, 1.059, 1.074, 1.17},
     0.043,
     0.030,
     {-0.38, 0.31, 0.36, 0.43, -0.22},
     -0.03},
    {"instrumentalness",
     {0, 0, 0, 1e-07, 2.5e-07, 2e-05, 0.0002, 0.004, 0.3133, 0.8058, 0.9188, 0.9629, 1},
     -0.297,
     -0.042,
     {0.22, 0.16, 0.04, 0.12, 0.24},
     -0.22},
    {"liveness",
     {0, 0.03775, 0.05971, 0.08214, 0.0964, 0.1139, 0.1298, 0.1618, 0.27, 0.3552, 0.6851, 0.9492, 1},
     -0.005,
     0.030,
     {0.10, -0.03, -0.08, -0.26, 0.13},
     0.07},
    {"loudness",
     {-60, -30.23, -21.38, -14.57, -11.75, -9.289, -8.114, -7.132, -5.772, -4.788, -3.338, -2.004, 6},
     0.074,
     0.055,
     {-0.17, -0.68, -0.18, -0.21, -0.24},
     0.10},
    {"mechanism",
     {0, 0.09148, 0.1323, 0.1983, 0.2693, 0.3928, 0.4855, 0.5809, 0.7173, 0.8091, 0.9203, 0.9847, 1},
     0.059,
     0.056,
     {-0.53, -0.44, -0.21, 0.46, 0.14},
     -0.11},
    {"organism",
     {0, 0.01907, 0.07896, 0.1738, 0.2532, 0.3748, 0.4549, 0.5285, 0.6481, 0.7707, 0.8912, 0.9345, 0.98},
     -0.068,
     0.057,
     {0.53, 0.64, 0.22, -0.32, -0.28},
     -0.10},
    {"speechiness",
     {0, 0.02061, 0.0243, 0.0318, 0.03652, 0.0446, 0.05105, 0.06216, 0.102, 0.184, 0.3648, 0.888, 0.97},
     0.089,
     0.068,
     {-0.37, 0.21, 0.12, -0.56, 0.26},
     0.35},
    {"tempo",
     {0, 64.38, 76.12, 87.57, 96.15, 110.2, 119.6, 126.6, 139.4, 151.9, 175.2, 195.6, 250},
     0.014,
     0.005,
     {-0.04, -0.17, -0.03, -0.02, 0.08},
     0.09},
    {"valence",
     {0, 0.03071, 0.05655, 0.1599, 0.2519, 0.3827, 0.4735, 0.5615, 0.705, 0.8118, 0.9319, 0.9701, 1},
     -0.011,
     0.041,
     {-0.08, -0.09, -0.65, -0.08, -0.16},
     -0.02},
    {"acoustic_vector_0",
     {-1.123, -1.057, -0.9787, -0.8982, -0.8416, -0.7576, -0.6587, -0.4266, -0.2031, -0.04619, 0.1833, 0.4104,
      0.9322},
     0.000,
     0.000,
     {0.77, 0.00, -0.19, 0.32, 0.09},
     -0.47},
    {"acoustic_vector_1",
     {-1.084, -0.4938, -0.1186, 0.125, 0.2259, 0.2971, 0.3117, 0.3322, 0.3748, 0.415, 0.4872, 0.5729, 0.8128},
     0.000,
     0.000,
     {-0.37, -0.66, 0.32, -0.16, -0.23},
     0.20},
    {"acoustic_vector_2",
     {-0.7522, -0.4825, -0.1238, 0.09266, 0.1749, 0.2269, 0.2354, 0.2581, 0.2982, 0.3334, 0.3937, 0.4622,
      0.6053},
     0.000,
     0.000,
     {-0.53, -0.08, 0.02, 0.03, -0.66},
     0.20},
    {"acoustic_vector_3",
     {-0.8091, -0.7648, -0.5138, -0.296, -0.1705, -0.03108, 0.04405, 0.06521, 0.1344, 0.2148, 0.3828, 0.6103,
      1.075},
     0.000,
     0.000,
     {-0.51, 0.51, -0.30, -0.27, -0.23},
     0.25},
    {"acoustic_vector_4",
     {-1.03, -0.5852, -0.4674, -0.3764, -0.3306, -0.2883, -0.2734, -0.2063, -0.01901, 0.183, 0.5822, 0.8958,
      0.8958},
     0.000,
     0.000,
     {0.52, 0.12, -0.59, 0.09, -0.08},
     -0.28},
    {"acoustic_vector_5",
     {-0.9425, -0.2332, -0.1461, -0.0719, -0.03006, 0.01507, 0.03774, 0.08849, 0.1395, 0.1757, 0.2293, 0.2828,
      0.3803},
     0.000,
     0.000,
     {0.33, -0.57, 0.23, 0.37, -0.15},
     -0.30},
    {"acoustic_vector_6",
     {-0.7364, -0.6187, -0.5723, -0.524, -0.4898, -0.4385, -0.3761, -0.3308, -0.1807, -0.004888, 0.3638,
      0.8656, 0.9668},
     0.000,
     0.000,
     {0.19, 0.03, -0.35, 0.05, -0.46},
     -0.31},
    {"acoustic_vector_7",
     {-0.9756, -0.9204, -0.4872, -0.1707, -0.02075, 0.1062, 0.1438, 0.1539, 0.1944, 0.2465, 0.364, 0.534,
      1.152},
     0.000,
     0.000,
     {-0.46, -0.21, 0.30, -0.17, 0.10},
     0.19},
}};
/// Normal scores of the levels 0, .01, .05, .15, .25, .4, .5, .6, .75, .85, .95, .99, 1.
constexpr std::array<double, 13> levels = {-4,    -2.3263, -1.6449, -1.0364, -.6745, -.2533, 0,
                                           .2533, .6745,   1.0364,  1.6449,  2.3263, 4};
/// Logits by which a track of one deviation more appeal is skipped more often.
constexpr double appeal_effect = .25;

/// Nearly normal: the sum of four uniform numbers.
double appeal(std::uint64_t catalogue, std::uint64_t track) {
  const std::uint64_t bits = mix64(catalogue + 0x9e3779b97f4a7c15u * (track + 1));
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits >> 16 * i & 0xffff);
  return (sum / 65536 - 2) * 1.7320508;
}

/// The play of a track of rank r has a probability proportional to (r + offset)^-exponent.
struct Popularity {
  double exponent, offset;
};

/// Of so many tracks: such that in as many plays as mini has, as many different tracks are played, and the
/// most played one has its share. (Tracks that are heard again after "back" are not new plays.)
Popularity fit_popularity(double tracks) {
  constexpr double plays = .93 * mini::rows, hottest = 1427.0 / mini::rows;
  tracks = std::max(tracks, tracks_of_mini);  // fewer could not be as many different ones
  std::vector<double> edges;
  for (double rank = 1; rank < tracks; rank = std::max(rank + 1, rank * 1.08)) edges.push_back(rank);
  edges.push_back(tracks + 1);
  double share = 0;  // of the most played track
  const auto different = [&](double exponent, double offset) {
    const auto integral = [&](double rank) { return std::pow(rank + offset, 1 - exponent) / (1 - exponent); };
    const double first = integral(edges.front()), all = integral(edges.back()) - first;
    share = (integral(2) - first) / all;
    double sum = 0, before = first;
    for (std::size_t i = 1; i < edges.size(); ++i) {
      const double after = integral(edges[i]), width = edges[i] - edges[i - 1];
      sum += width * (1 - std::exp(-plays * (after - before) / all / width));
      before = after;
    }
    return sum;
  };
  double exponent = 0, low_offset = 0, high_offset = 64;
  for (int i = 0; i < 24; ++i) {
    const double offset = (low_offset + high_offset) / 2;
    double low = .3, high = 1.6001;  // the middles never meet 1, where the integral is a logarithm
    for (int k = 0; k < 30; ++k) {
      exponent = (low + high) / 2;
      (different(exponent, offset) > mini::tracks ? low : high) = exponent;
    }
    (share > hottest ? low_offset : high_offset) = offset;
  }
  return {exponent, low_offset};
}

class Catalogue {
 public:
  Catalogue(std::uint64_t seed, std::size_t sessions)
      : seed_(mix64(seed)),
        size_(std::clamp(
            static_cast<std::size_t>(
                tracks_of_mini * std::pow(static_cast<double>(sessions) / mini::sessions, tracks_exponent)),
            std::size_t{genres}, full_catalogue)) {
    size_ = size_ / genres * genres;
    popularity_ = fit_popularity(static_cast<double>(size_));
    low_ = std::pow(1 + popularity_.offset, 1 - popularity_.exponent);
    high_ = std::pow(static_cast<double>(size_) + 1 + popularity_.offset, 1 - popularity_.exponent);
    Random random(seed_, 1);
    // Means of the genres: .36 of a factor's variance, the rest is within them.
    for (std::size_t k = 0; k < factors; ++k) {
      double sum = 0, squares = 0;
      for (auto& genre : genre_) sum += genre[k] = random.normal();
      for (auto& genre : genre_) squares += (genre[k] -= sum / genres) * genre[k];
      for (auto& genre : genre_) genre[k] *= .6 / std::sqrt(squares / genres);
    }
  }

  std::uint64_t seed() const { return seed_; }
  std::size_t size() const { return size_; }

  /// A track for a listener who prefers `genre`; every sixteen ranks hold one track of each.
  std::uint64_t draw(Random& random, std::uint32_t genre) const {
    const double x = low_ + random.uniform() * (high_ - low_);
    auto rank = static_cast<std::uint64_t>(
        std::max(0.0, std::pow(x, 1 / (1 - popularity_.exponent)) - 1 - popularity_.offset));
    rank = std::min<std::uint64_t>(rank, size_ - 1);
    if (rank < genres || random.uniform() < .4) return rank;  // what everyone hears, and what only some do
    return rank / genres * genres + (genre + rank / genres) % genres;
  }

  /// The features in the order of `audio`, then key, mode and time signature.
  struct Track {
    std::array<double, audio_features> audio;
    int key, mode, time_signature;
  };
  Track track(std::uint64_t rank) const {
    Random random(seed_, 2 + rank);
    std::array<double, factors> factor;
    const auto& genre = genre_[(rank + genres - rank / genres % genres) % genres];
    for (std::size_t k = 0; k < factors; ++k) factor[k] = genre[k] + .8 * random.normal();
    const double liked = appeal(seed_, rank);
    const double fame = std::log(static_cast<double>(full_catalogue) / (static_cast<double>(rank) + 1)) - 1;
    Track track;
    for (std::size_t f = 0; f < audio_features; ++f) {
      const AudioFeature& feature = audio[f];
      double score = feature.appeal * liked, rest = 1 - feature.appeal * feature.appeal;
      for (std::size_t k = 0; k < factors; ++k) {
        score += feature.loadings[k] * factor[k];
        rest -= feature.loadings[k] * feature.loadings[k];
      }
      score += std::sqrt(std::max(rest, 0.0)) * random.normal();
      score = std::clamp(score * std::exp(-feature.narrowing * fame) + feature.shift * fame, -3.999, 3.999);
      const auto above =
          static_cast<std::size_t>(std::upper_bound(levels.begin(), levels.end(), score) - levels.begin());
      const double part = (score - levels[above - 1]) / (levels[above] - levels[above - 1]);
      track.audio[f] =
          feature.quantiles[above - 1] + part * (feature.quantiles[above] - feature.quantiles[above - 1]);
    }
    // Published histograms of 3.7 M tracks.
    constexpr std::array<double, 12> keys = {438070, 345976, 394127, 118509, 281898, 308690,
                                             222667, 450332, 227319, 389052, 254687, 275061};
    constexpr std::array<double, 6> beats = {3312, 45164, 0, 393780, 3186542, 77590};
    track.key = static_cast<int>(pick(keys, random));
    track.mode = random.uniform() < .6139;
    track.time_signature = static_cast<int>(pick(beats, random));
    return track;
  }

  template <std::size_t n>
  static std::size_t pick(const std::array<double, n>& weights, Random& random) {
    double sum = 0;
    for (const double weight : weights) sum += weight;
    double left = random.uniform() * sum;
    std::size_t i = 0;
    while (i + 1 < n && left >= weights[i]) left -= weights[i++];
    while (weights[i] == 0 && i > 0) --i;  // rounding at the very end
    return i;
  }

 private:
  std::uint64_t seed_;
  std::size_t size_;
  Popularity popularity_;
  double low_, high_;
  std::array<std::array<double, factors>, genres> genre_;
};

// --- Listeners ---------------------------------------------------------------------------------------
// What happens on a row depends on how the track before it ended:
//   reason_end of the row before -> reason_start -> pause -> skip (given both, and the listener's mood) ->
//   reason_end (given all three).
// The tables of each arrow come from the published counts; corrections found by simulating keep every
// published margin where it is in spite of moods, contexts and chance.

// What distinguishes listeners and sessions, each a normal deviate. The deviations were fitted together, by
// random search, to what follows each four labels of mini, to the labels' autocorrelation and to the numbers
// of distinct values per session: the figures that are printed as those groups by `tonearm explore`.

/// Mood, in logits of a skip: a level for the session, and a drift (an autoregressive process).
constexpr double mood_level = .47, mood_drift = 1.09, mood_persistence = .92;
/// In a mood to skip, tracks that are not skipped are heard to their end less often: logarithm of odds per
/// logit.
constexpr double mood_ends = .10;
/// Some listeners take turns between skipping and listening, others do the same again: logits.
constexpr double alternation_habit = .40;
/// Some pause, go back, choose track after track, choose from another context: logarithms of odds.
constexpr double pause_habit = 1.2, back_habit = 1.18, click_habit = 1.12, switch_habit = 1.1;
/// Logits of premium per row more: longer sessions are more often premium, by the published correlation.
constexpr double premium_length = .057;
/// The share of context switches that keep the type of context.
constexpr double switch_within = .32;

/// P(reason_start | reason_end of the row before), before correction: the published "equal in 90 %", and
/// "the main exception is endplay to clickrow". Columns as in start_names.
constexpr std::array<std::array<double, starts>, ends> follow_guess = {{
    {.001, .985, .004, 0, .006, .0001, .0001, .003, .0005},
    {.001, .001, .990, 0, .004, .0001, .0001, .003, .0005},
    {.030, .004, .900, .0007, .030, .004, .002, .030, .0005},
    {.0005, .002, .004, .0001, .990, .0001, .0001, .002, .0005},
    {.500, .010, .250, .001, .120, .020, .001, .100, .001},
    {.020, .020, .250, .001, .080, .010, .400, .200, .001},
    {.002, .004, .012, .0001, .020, .0002, .0003, .960, .0005},
}};

constexpr double of(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double logit(double p) { return std::log(p / (1 - p)); }
double logit(double ones, double all) { return logit((ones + .5) / (all + 1)); }

using Joint = std::array<std::array<std::array<std::array<double, ends>, 2>, pauses>, starts>;

/// The joint table of reason_start, pause, skip_2 and reason_end that has the six published tables of pairs
/// as its margins: iterative proportional fitting of a start value, here in place.
void fit_margins(Joint& joint) {
  const auto each = [&](auto&& visit) {
    for (std::size_t s = 0; s < starts; ++s)
      for (std::size_t p = 0; p < pauses; ++p)
        for (std::size_t k = 0; k < 2; ++k)
          for (std::size_t e = 0; e < ends; ++e) visit(s, p, k, e, joint[s][p][k][e]);
  };
  const auto fit = [&](std::size_t cells, auto&& index, auto&& target) {
    std::array<double, 64> sum = {}, factor = {};
    each([&](auto s, auto p, auto k, auto e, double& x) { sum[index(s, p, k, e)] += x; });
    for (std::size_t i = 0; i < cells; ++i)
      factor[i] = sum[i] > 0 ? std::max(static_cast<double>(target(i)), .01) / sum[i] : 0;
    each([&](auto s, auto p, auto k, auto e, double& x) { x *= factor[index(s, p, k, e)]; });
  };
  std::array<std::int64_t, starts> start = {};
  std::array<std::int64_t, pauses> pause = {};
  std::array<std::int64_t, ends> end = {};
  for (std::size_t s = 0; s < starts; ++s)
    for (std::size_t p = 0; p < pauses; ++p) {
      start[s] += mini::start_pause[s][p];
      pause[p] += mini::start_pause[s][p];
    }
  for (std::size_t e = 0; e < ends; ++e)
    for (std::size_t p = 0; p < pauses; ++p) end[e] += mini::end_pause[e][p];
  const auto split = [](std::int64_t skips, std::int64_t all, std::size_t k) {
    return k ? skips : all - skips;
  };
  for (int round = 0; round < 60; ++round) {
    fit(
        starts * pauses, [](auto s, auto p, auto, auto) { return s * pauses + p; },
        [](auto i) { return mini::start_pause[i / pauses][i % pauses]; });
    fit(
        starts * ends, [](auto s, auto, auto, auto e) { return s * ends + e; },
        [](auto i) { return mini::start_end[i / ends][i % ends]; });
    fit(
        ends * pauses, [](auto, auto p, auto, auto e) { return e * pauses + p; },
        [](auto i) { return mini::end_pause[i / pauses][i % pauses]; });
    fit(
        starts * 2, [](auto s, auto, auto k, auto) { return s * 2 + k; },
        [&](auto i) { return split(mini::start_skip[i / 2], start[i / 2], i % 2); });
    fit(
        pauses * 2, [](auto, auto p, auto k, auto) { return p * 2 + k; },
        [&](auto i) { return split(mini::pause_skip[i / 2], pause[i / 2], i % 2); });
    fit(
        ends * 2, [](auto, auto, auto k, auto e) { return e * 2 + k; },
        [&](auto i) { return split(mini::end_skip[i / 2], end[i / 2], i % 2); });
  }
}

Joint published_joint() {
  Joint joint;
  for (auto& start : joint)
    for (auto& pause : start)
      for (auto& skip : pause) skip.fill(1);
  fit_margins(joint);
  // Without interactions so far. The random rows bring them, cell by cell, with as much weight as they have
  // rows beside `prior` rows of the table without.
  constexpr double prior = 12;
  for (const mini::Sampled& cell : mini::sampled) {
    auto& table = joint[cell.start][cell.pause];
    double completed = table[0][end_trackdone], abandoned = 0, skipped = 0;
    for (std::size_t e = 0; e < ends; ++e) {
      if (e != end_trackdone) abandoned += table[0][e];
      skipped += table[1][e];
    }
    const double all = completed + abandoned + skipped;
    const double seen = cell.completed + cell.abandoned + cell.skipped;
    const auto factor = [&](double guess, double sampled) {
      return guess > 0 ? (sampled + prior * guess / all) / (seen + prior) / (guess / all) : 0;
    };
    const double done = factor(completed, cell.completed), left = factor(abandoned, cell.abandoned),
                 skip = factor(skipped, cell.skipped);
    for (std::size_t e = 0; e < ends; ++e) {
      table[0][e] *= e == end_trackdone ? done : left;
      table[1][e] *= skip;
    }
  }
  fit_margins(joint);
  return joint;
}

class Listeners {
 public:
  explicit Listeners(Threads& threads);

  /// One session, of `length` rows returned.
  std::size_t draw(Random& random, const Catalogue& catalogue, std::array<Row, longest_session>& rows) const;

 private:
  void correct(const SessionCounts& counts, double gain);
  void normalize();

  Joint target_ = published_joint();
  std::array<std::array<double, pauses>, starts> skip_ = {};  // logits, given start and pause
  std::array<double, longest_session + 1> skip_at_ = {};
  std::array<double, contexts> skip_context_ = {};
  std::array<double, 2> skip_shuffle_ = {}, skip_premium_ = {}, skip_switch_ = {};
  std::array<double, 24> skip_hour_ = {};
  double skip_length_ = 0;                                           // per row more
  Joint end_ = {};                                                   // weights of reason_end
  std::array<std::array<double, ends>, contexts> end_context_ = {};  // logarithms of factors
  std::array<std::array<double, ends>, 2> end_shuffle_ = {}, end_premium_ = {};
  /// The product of the three, by premium, context and shuffle.
  std::array<std::array<std::array<std::array<double, ends>, 2>, contexts>, 2> end_session_ = {};
  std::array<double, starts> start_factor_ = {};
  std::array<std::array<double, starts>, ends> follow_ = {};
  std::array<double, starts> first_start_ = {};
  std::array<std::array<double, pauses>, starts> pause_ = {};
  std::array<std::array<double, pauses>, contexts> pause_context_ = {};
  std::array<double, starts> switch_ = {};       // logits of context_switch
  std::array<double, contexts> switch_to_ = {};  // weights of the context after it
  std::array<double, contexts> context_ = {};    // weights of the context of the first row
  std::array<double, contexts> premium_ = {};    // logits
  std::array<double, contexts> shuffle_ = {};    // logits
  double shuffle_premium_ = 0;
  std::array<double, 24> hour_ = {};
};

std::size_t Listeners::draw(Random& random, const Catalogue& catalogue,
                            std::array<Row, longest_session>& rows) const {
  // Who listens, how long, when, to what.
  std::size_t length = longest_session;
  for (auto left = static_cast<std::int64_t>(random.below(mini::sessions)); length > shortest_session;
       --length)
    if ((left -= mini::sessions_of_length[length]) < 0) break;
  auto context = Catalogue::pick(context_, random);
  const double longer = static_cast<double>(length) - 17.65;  // than the mean over rows
  const bool premium = random.uniform() < logistic(premium_[context] + premium_length * longer);
  const auto draw_shuffle = [&] {
    return context != radio &&
           random.uniform() < logistic(shuffle_[context] + (premium ? 1 : -4) * shuffle_premium_);
  };
  bool shuffle = draw_shuffle();
  const auto genre = random.below(genres);
  const double level = mood_level * random.normal() + skip_length_ * longer + skip_premium_[premium];
  double drift = mood_drift * random.normal();
  const double drift_step = mood_drift * std::sqrt(1 - mood_persistence * mood_persistence);
  const double back = std::exp(back_habit * random.normal()), click = std::exp(click_habit * random.normal());
  const double switching = switch_habit * random.normal();
  const double alternating = alternation_habit * random.normal();
  const double pausing = std::exp(pause_habit * random.normal());
  double seconds = 3600 * (static_cast<double>(Catalogue::pick(hour_, random)) + random.uniform());
  // Days counted back from the dataset's last, 2018-07-15: its published shares, and a tail back to May.
  const double day = random.uniform();
  const int last_date = day < .7126 ? 0 : day < .9914 ? -1 : -2 - static_cast<int>(random.below(70));

  std::size_t end = 0;
  int midnights = 0;
  for (std::size_t i = 0; i < length; ++i) {
    Row& row = rows[i];
    row.position = static_cast<int>(i) + 1;
    row.length = static_cast<int>(length);
    const std::size_t start = Catalogue::pick(i == 0 ? first_start_ : follow_[end], random);
    std::size_t pause = first;
    row.context_switch = false;
    if (i > 0) {
      row.context_switch = random.uniform() < logistic(switch_[start] + switching);
      if (row.context_switch) {
        // To another playlist or album, or to another type of context.
        if (random.uniform() >= switch_within) {
          context = Catalogue::pick(switch_to_, random);
          shuffle = draw_shuffle();
        }
      }
      std::array<double, pauses> weights = pause_[start];
      for (std::size_t p = 0; p < pauses; ++p) weights[p] *= pause_context_[context][p];
      weights[brief] *= pausing;
      pause = Catalogue::pick(weights, random);
    }
    // Back goes to the track before, or to the beginning of the same.
    if (start == start_backbtn && i > 0)
      row.track = rows[i >= 2 && random.uniform() < .5 ? i - 2 : i - 1].track;
    else
      row.track = catalogue.draw(random, genre);
    const double clock = seconds / 3600;
    const auto hour = static_cast<std::size_t>(clock) % 24;

    double skip_logit = skip_[start][pause] + skip_context_[context] + skip_shuffle_[shuffle] +
                        skip_hour_[hour] + level + drift +
                        appeal_effect * appeal(catalogue.seed(), row.track);
    if (i > 0) skip_logit += skip_at_[i + 1] + (rows[i - 1].skip_2 ? -alternating : alternating);
    if (start == start_clickrow && i > 0) skip_logit += skip_switch_[row.context_switch];
    row.skip_2 = random.uniform() < logistic(skip_logit);
    drift = mood_persistence * drift + drift_step * random.normal();

    std::array<double, ends> weights = end_[start][pause][row.skip_2];
    for (std::size_t e = 0; e < ends; ++e) weights[e] *= end_session_[premium][context][shuffle][e];
    if (!row.skip_2) weights[end_trackdone] *= std::exp(-mood_ends * (level + drift));
    weights[end_backbtn] *= back;
    weights[end_endplay] *= click;
    end = Catalogue::pick(weights, random);

    // The other levels are told apart by the reason: of the rows that skip_2 leaves, those that end by
    // trackdone are not_skipped or neither, all others are skip_3 or neither.
    constexpr std::int64_t done = 57701 - 199, left = mini::rows - mini::skip_2 - done;
    const double level_draw = random.uniform();
    row.skip_1 = row.skip_2 && level_draw < of(mini::skip_1, mini::skip_2);
    row.skip_3 = row.skip_2 || (end != end_trackdone && level_draw < of(mini::skip_3 - mini::skip_2, left));
    row.not_skipped = !row.skip_2 && end == end_trackdone && level_draw < of(mini::not_skipped, done);

    row.no_pause = pause == none;
    row.short_pause = pause == brief;
    row.long_pause = pause == brief || pause == extended;
    row.context = static_cast<int>(context);
    row.start = static_cast<int>(start);
    row.end = static_cast<int>(end);
    row.shuffle = shuffle;
    row.premium = premium;
    row.hour = static_cast<int>(hour);
    row.date = midnights;
    // Shares of rows with seeks by reason, from their published correlations; the tail from mean and maximum.
    const auto seeks = [&](double share) {
      if (random.uniform() >= share) return 0;
      int n = 1;
      const double more = random.uniform() < .02 ? .8 : .22;
      while (n < 150 && random.uniform() < more) ++n;
      return n;
    };
    row.seeks_forward = seeks(start == start_appload                    ? .60
                              : start == start_remote                   ? .50
                              : start == start_clickrow                 ? .055
                              : start == start_trackdone                ? .010
                              : end == end_endplay || end == end_logout ? .040
                                                                        : .022);
    row.seeks_back = seeks(end == end_backbtn         ? .195
                           : start == start_appload   ? .150
                           : end == end_fwdbtn        ? .005
                           : start == start_trackdone ? .034
                           : start == start_clickrow  ? .040
                                                      : .020);

    seconds += row.skip_1 ? 5 : row.skip_2 ? 20 : end == end_trackdone ? 210 : 100;
    if (pause == brief || pause == extended) seconds += 60;
    if (seconds >= 86400) {
      seconds -= 86400;
      ++midnights;
    }
  }
  for (std::size_t i = 0; i < length; ++i) rows[i].date += last_date - midnights;
  return length;
}

Listeners::Listeners(Threads& threads) {
  for (std::size_t s = 0; s < starts; ++s) {
    first_start_[s] = static_cast<double>(mini::start_pause[s][first]);
    start_factor_[s] = 1;
    double later = 0;
    for (std::size_t p = 0; p < pauses; ++p) {
      pause_[s][p] = p == first ? 0 : static_cast<double>(mini::start_pause[s][p]) + .01;
      if (p != first) later += static_cast<double>(mini::start_pause[s][p]);
      double skips = 0, all = 0;
      for (std::size_t e = 0; e < ends; ++e) {
        skips += target_[s][p][1][e];
        all += target_[s][p][0][e] + target_[s][p][1][e];
      }
      skip_[s][p] = std::clamp(logit(skips, all), -5.0, 5.0);
    }
    switch_[s] = std::clamp(logit(static_cast<double>(mini::start_switch[s]), later), -9.0, 3.0);
  }
  end_ = target_;
  for (std::size_t c = 0; c < contexts; ++c) {
    double rows = 0;
    for (std::size_t p = 0; p < pauses; ++p) rows += static_cast<double>(mini::context_pause[c][p]);
    context_[c] = static_cast<double>(mini::context_pause[c][first]);
    switch_to_[c] = static_cast<double>(mini::context_switch[c]);
    premium_[c] = logit(static_cast<double>(mini::context_premium[c]), rows);
    shuffle_[c] = logit(static_cast<double>(mini::context_shuffle[c]), rows);
    pause_context_[c].fill(1);
  }
  for (std::size_t h = 0; h < 24; ++h) hour_[h] = static_cast<double>(mini::at_hour[h]);
  normalize();

  // Simulate and correct: four rounds of full corrections, then ever smaller ones, whose sampling errors
  // average out. The seed is fixed: the tables are the same for every call.
  constexpr std::size_t rounds = 16, blocks = 8, block_sessions = 1000;
  const Catalogue catalogue(0, mini::sessions);
  for (std::size_t round = 0; round < rounds; ++round) {
    std::array<SessionCounts, blocks> counts;
    threads.run(blocks, [&](std::size_t block) {
      std::array<Row, longest_session> rows;
      for (std::size_t i = 0; i < block_sessions; ++i) {
        Random random(round, block * block_sessions + i);
        const std::size_t length = draw(random, catalogue, rows);
        counts[block].add(std::span(rows).first(length));
      }
    });
    for (std::size_t block = 1; block < blocks; ++block) counts[0].add(counts[block]);
    correct(counts[0], round < 4 ? 1 : 1 / (static_cast<double>(round) - 2));
    normalize();
  }
}

/// Puts together what draw() needs once per row.
void Listeners::normalize() {
  for (std::size_t e = 0; e < ends; ++e)
    for (std::size_t s = 0; s < starts; ++s) follow_[e][s] = follow_guess[e][s] * start_factor_[s];
  for (std::size_t p = 0; p < 2; ++p)
    for (std::size_t c = 0; c < contexts; ++c)
      for (std::size_t h = 0; h < 2; ++h)
        for (std::size_t e = 0; e < ends; ++e)
          end_session_[p][c][h][e] = std::exp(end_context_[c][e] + end_shuffle_[h][e] + end_premium_[p][e]);
}

/// Moves every correction towards the published margin. Corrections of what is not in the tables of pairs
/// are centred (their mean over rows is zero): they must not correct the same error twice.
void Listeners::correct(const SessionCounts& counts, double gain) {
  const auto real = [](std::int64_t count) { return static_cast<double>(count); };
  const double scale = real(counts.rows) / real(mini::rows);
  const auto step = [&](double wanted_ones, double wanted_all, double ones, double all) {
    return gain * std::clamp(logit(wanted_ones * scale, wanted_all * scale) - logit(ones, all), -1.0, 1.0);
  };
  const auto log_step = [&](double wanted, double seen) {
    return gain * std::clamp(std::log((wanted * scale + 2) / (seen + 2)), -1.0, 1.0);
  };
  const auto centre = [](auto& values, auto&& weight) {
    double sum = 0, weights = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      sum += weight(i) * values[i];
      weights += weight(i);
    }
    for (double& value : values) value -= sum / weights;
  };

  // reason_start, pause -> skip -> reason_end
  for (std::size_t s = 0; s < starts; ++s) {
    double later = 0, wanted_later = 0;
    for (std::size_t p = 0; p < pauses; ++p) {
      double wanted[2] = {}, seen[2] = {};
      for (std::size_t k = 0; k < 2; ++k)
        for (std::size_t e = 0; e < ends; ++e) {
          wanted[k] += target_[s][p][k][e];
          seen[k] += real(counts.play[s][p][k][e]);
        }
      if (wanted[0] + wanted[1] >= 30)
        skip_[s][p] += step(wanted[1], wanted[0] + wanted[1], seen[1], seen[0] + seen[1]);
      if (p != first) {
        if (wanted[0] + wanted[1] >= 30)
          pause_[s][p] *= std::exp(log_step(wanted[0] + wanted[1], seen[0] + seen[1]));
        later += seen[0] + seen[1];
        wanted_later += real(mini::start_pause[s][p]);
      }
    }
    start_factor_[s] *= std::exp(log_step(wanted_later, later));
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t e = 0; e < ends; ++e) {
        double wanted = 0, seen = 0;
        for (std::size_t p = 0; p < pauses; ++p) {
          wanted += target_[s][p][k][e];
          seen += real(counts.play[s][p][k][e]);
        }
        if (wanted >= 30)
          for (std::size_t p = 0; p < pauses; ++p) end_[s][p][k][e] *= std::exp(log_step(wanted, seen));
      }
    if (mini::start_switch[s] > 0)
      switch_[s] += step(real(mini::start_switch[s]), wanted_later, real(counts.start_switch[s][1]), later);
  }

  // Corrections of the skip
  for (std::size_t i = 2; i <= longest_session; ++i) {
    const double all = real(counts.position_skip[i][0] + counts.position_skip[i][1]);
    skip_at_[i] += gain * (logit(mini::skip_rate_at[i]) - logit(real(counts.position_skip[i][1]), all));
  }
  skip_at_[0] = skip_at_[1] = 0;
  centre(skip_at_, [&](std::size_t i) {
    return i < 2 ? 0 : real(counts.position_skip[i][0] + counts.position_skip[i][1]);
  });
  const auto context_rows = [](std::size_t c) {
    std::int64_t rows = 0;
    for (const std::int64_t n : mini::context_pause[c]) rows += n;
    return static_cast<double>(rows);
  };
  for (std::size_t c = 0; c < contexts; ++c)
    skip_context_[c] += step(real(mini::context_skip[c]), context_rows(c), real(counts.context_skip[c][1]),
                             real(counts.context_skip[c][0] + counts.context_skip[c][1]));
  centre(skip_context_, context_rows);
  for (std::size_t h = 0; h < 24; ++h) {
    const double rows = real(mini::at_hour[h]), all = real(counts.hour_skip[h][0] + counts.hour_skip[h][1]);
    skip_hour_[h] += step(mini::skip_rate_at_hour[h] * rows, rows, real(counts.hour_skip[h][1]), all);
    hour_[h] *= std::exp(log_step(rows, all));
  }
  centre(skip_hour_, [&](std::size_t h) { return real(mini::at_hour[h]); });
  const auto two = [&](std::array<double, 2>& values, std::int64_t ones, std::int64_t ones_skip,
                       const Counts2<2, 2>& seen) {
    for (std::size_t k = 0; k < 2; ++k) {
      const double rows = real(k ? ones : mini::rows - ones),
                   skips = real(k ? ones_skip : mini::skip_2 - ones_skip);
      values[k] += step(skips, rows, real(seen[k][1]), real(seen[k][0] + seen[k][1]));
    }
    centre(values, [&](std::size_t k) { return real(k ? ones : mini::rows - ones); });
  };
  two(skip_shuffle_, mini::shuffle, mini::shuffle_skip, counts.shuffle_skip);
  two(skip_premium_, mini::premium, mini::premium_skip, counts.premium_skip);
  // Nearly all context switches are clicks, so that it is clicks that are told apart.
  skip_switch_[1] += step(real(mini::switched_skip), real(mini::switched), real(counts.switch_skip[1][1]),
                          real(counts.switch_skip[1][0] + counts.switch_skip[1][1]));
  centre(skip_switch_, [&](std::size_t k) {
    return real(counts.clicked_switch_skip[k][0] + counts.clicked_switch_skip[k][1]);
  });
  double rows = 0, x = 0, xx = 0, y = 0, xy = 0;
  for (std::size_t l = shortest_session; l <= longest_session; ++l) {
    const double n = real(counts.length_skip[l][0] + counts.length_skip[l][1]),
                 skips = real(counts.length_skip[l][1]);
    const auto length = static_cast<double>(l);
    rows += n, x += n * length, xx += n * length * length, y += skips, xy += length * skips;
  }
  const double deviation = std::sqrt(xx / rows - x / rows * x / rows);
  const double slope = (xy / rows - x / rows * y / rows) / (deviation * deviation);
  // The correlation, as a slope; a logit moves a rate by about a fifth.
  skip_length_ += gain * (mini::length_skip_correlation * .5 / deviation - slope) / .25;

  // Corrections of reason_end
  std::array<double, ends> wanted_end = {};
  for (std::size_t e = 0; e < ends; ++e)
    for (const std::int64_t n : mini::end_pause[e]) wanted_end[e] += real(n);
  for (std::size_t e = 0; e < ends; ++e) {
    if (wanted_end[e] < 500) continue;
    double mean = 0;
    for (std::size_t c = 0; c < contexts; ++c) {
      end_context_[c][e] += log_step(real(mini::context_end[c][e]), real(counts.context_end[c][e]));
      mean += end_context_[c][e] * real(mini::context_end[c][e]) / wanted_end[e];
    }
    for (std::size_t c = 0; c < contexts; ++c) end_context_[c][e] -= mean;
    const auto pair = [&](auto& values, const Counts<ends>& ones, const auto& seen) {
      const double part = real(ones[e]) / wanted_end[e];
      values[0][e] += log_step(wanted_end[e] - real(ones[e]), real(seen[0][e]));
      values[1][e] += log_step(real(ones[e]), real(seen[1][e]));
      const double centre_at = (1 - part) * values[0][e] + part * values[1][e];
      values[0][e] -= centre_at;
      values[1][e] -= centre_at;
    };
    pair(end_shuffle_, mini::shuffle_end, counts.shuffle_end);
    pair(end_premium_, mini::premium_end, counts.premium_end);
  }

  // Context, premium, shuffle, pauses
  double premium_shuffle[2][2] = {};
  for (std::size_t c = 0; c < contexts; ++c) {
    double all = 0, premium = 0, shuffle = 0;
    for (std::size_t p = 0; p < 2; ++p)
      for (std::size_t h = 0; h < 2; ++h) {
        const double n = real(counts.context_premium_shuffle[c][p][h]);
        all += n;
        if (p == 1) premium += n;
        if (h == 1) shuffle += n;
        premium_shuffle[p][h] += n;
      }
    context_[c] *= std::exp(log_step(context_rows(c), all));
    switch_to_[c] *= std::exp(log_step(real(mini::context_switch[c]), real(counts.context_switch[c][1])));
    premium_[c] += step(real(mini::context_premium[c]), context_rows(c), premium, all);
    if (c != radio) shuffle_[c] += step(real(mini::context_shuffle[c]), context_rows(c), shuffle, all);
    for (std::size_t p = none; p < pauses; ++p)
      pause_context_[c][p] *=
          std::exp(log_step(real(mini::context_pause[c][p]), real(counts.context_pause[c][p])));
  }
  // The premium's share of the effect is centred by construction: 1 and -4, for .81 and .19 of the rows.
  shuffle_premium_ += step(real(mini::shuffle_premium), real(mini::premium), premium_shuffle[1][1],
                           premium_shuffle[1][0] + premium_shuffle[1][1]);
  for (std::size_t p = none; p < pauses; ++p) {
    double all = 0, mean = 0;
    for (std::size_t c = 0; c < contexts; ++c) {
      all += real(mini::context_pause[c][p]);
      mean += real(mini::context_pause[c][p]) * std::log(pause_context_[c][p]);
    }
    for (std::size_t c = 0; c < contexts; ++c) pause_context_[c][p] *= std::exp(-mean / all);
  }
}

// --- Files -------------------------------------------------------------------------------------------

/// A file, compressed or not, that appears under its name when it is complete.
class OutputFile {
 public:
  OutputFile(const std::filesystem::path& path, bool gzip) : file_(path), gzip_(gzip) {
    // Level 1: three times as fast as the default, for files that are a tenth larger.
    if (gzip_ && deflateInit2(&stream_, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc();
  }
  ~OutputFile() {
    if (gzip_) deflateEnd(&stream_);
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view text) {
    bytes_ += text.size();
    if (gzip_)
      pack(text, Z_NO_FLUSH);
    else
      file_.write(text);
  }

  void finish() {
    if (gzip_) pack({}, Z_FINISH);
    file_.finish();
  }

  std::uint64_t bytes() const { return bytes_; }

 private:
  void pack(std::string_view text, int flush) {
    std::array<unsigned char, 1 << 16> packed;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream_.avail_in = static_cast<uInt>(text.size());
    do {
      stream_.next_out = packed.data();
      stream_.avail_out = static_cast<uInt>(packed.size());
      deflate(&stream_, flush);
      file_.write(std::span<const unsigned char>(packed.data(), packed.size() - stream_.avail_out));
    } while (stream_.avail_out == 0);
  }

  FileWriter file_;
  bool gzip_;
  z_stream stream_ = {};
  std::uint64_t bytes_ = 0;
};

/// Collects text and hands it to the file in pieces.
class Text {
 public:
  explicit Text(OutputFile& file) : file_(file) { buffer_.resize(1 << 18); }
  void flush() {
    file_.write({buffer_.data(), used_});
    used_ = 0;
  }
  /// Makes room for a record.
  void begin_record() {
    if (used_ + 4096 > buffer_.size()) flush();
  }
  Text& operator<<(std::string_view text) {
    std::memcpy(buffer_.data() + used_, text.data(), text.size());
    used_ += text.size();
    return *this;
  }
  Text& operator<<(int value) {
    used_ = static_cast<std::size_t>(std::to_chars(here(), here() + 16, value).ptr - buffer_.data());
    return *this;
  }
  /// With leading zeros.
  void padded(std::uint64_t value, std::size_t digits) {
    for (std::size_t i = digits; i-- > 0; value /= 10) here()[i] = static_cast<char>('0' + value % 10);
    used_ += digits;
  }
  void decimal(double value, int places) {
    used_ = static_cast<std::size_t>(
        std::to_chars(here(), here() + 64, value, std::chars_format::fixed, places).ptr - buffer_.data());
  }

 private:
  char* here() { return buffer_.data() + used_; }
  OutputFile& file_;
  std::vector<char> buffer_;
  std::size_t used_ = 0;
};

std::string_view truth(bool value) { return value ? "true" : "false"; }
std::string_view flag(bool value) { return value ? ",1" : ",0"; }

void write_track_id(Text& text, std::uint64_t track) {
  text << "t_synthetic_";
  text.padded(track, 7);
}

void write_row(Text& text, std::uint64_t session, const Row& row) {
  text.begin_record();
  text << "synthetic_";
  text.padded(session, 9);
  text << "," << row.position << "," << row.length << ",";
  write_track_id(text, row.track);
  text << "," << truth(row.skip_1) << "," << truth(row.skip_2) << "," << truth(row.skip_3) << ","
       << truth(row.not_skipped) << flag(row.context_switch) << flag(row.no_pause) << flag(row.short_pause)
       << flag(row.long_pause) << "," << row.seeks_forward << "," << row.seeks_back << ","
       << truth(row.shuffle) << "," << row.hour << ",2018-";
  // Days before 2018-07-15.
  int month = 7, day = 15 + row.date;
  while (day < 1) day += --month == 6 ? 30 : 31;
  text.padded(static_cast<std::uint64_t>(month), 2);
  text << "-";
  text.padded(static_cast<std::uint64_t>(day), 2);
  text << "," << truth(row.premium) << "," << context_names[static_cast<std::size_t>(row.context)] << ","
       << start_names[static_cast<std::size_t>(row.start)] << ","
       << end_names[static_cast<std::size_t>(row.end)] << "\n";
}

constexpr std::string_view log_header =
    "session_id,session_position,session_length,track_id_clean,skip_1,skip_2,skip_3,not_skipped,context_"
    "switch,"
    "no_pause_before_play,short_pause_before_play,long_pause_before_play,hist_user_behavior_n_seekfwd,"
    "hist_user_behavior_n_seekback,hist_user_behavior_is_shuffle,hour_of_day,date,premium,context_type,"
    "hist_user_behavior_reason_start,hist_user_behavior_reason_end\n";
constexpr std::string_view track_header =
    "track_id,duration,release_year,us_popularity_estimate,acousticness,beat_strength,bounciness,"
    "danceability,"
    "dyn_range_mean,energy,flatness,instrumentalness,key,liveness,loudness,mechanism,mode,organism,"
    "speechiness,"
    "tempo,time_signature,valence,acoustic_vector_0,acoustic_vector_1,acoustic_vector_2,acoustic_vector_3,"
    "acoustic_vector_4,acoustic_vector_5,acoustic_vector_6,acoustic_vector_7\n";

void write_track(Text& text, const Catalogue& catalogue, std::uint64_t rank) {
  const Catalogue::Track track = catalogue.track(rank);
  text.begin_record();
  write_track_id(text, rank);
  for (std::size_t f = 0; f < audio_features; ++f) {
    const std::string_view name = audio[f].name;
    if (name == "liveness") text << "," << track.key;
    if (name == "organism") text << (track.mode ? ",major" : ",minor");
    if (name == "valence") text << "," << track.time_signature;
    text << ",";
    if (name == "release_year")
      text << static_cast<int>(std::floor(track.audio[f] + .5));
    else
      text.decimal(track.audio[f], 6);
  }
  text << "\n";
}

constexpr std::size_t tracks_in_file = 250000;

std::string file_name(const char* kind, std::size_t number, bool gzip) {
  std::string digits = std::to_string(number);
  digits.insert(0, digits.size() < 5 ? 5 - digits.size() : 0, '0');
  return std::string(kind) + "_synthetic_" + digits + (gzip ? ".csv.gz" : ".csv");
}

/// Makes the folder ready, or finds that the same call has worked here before.
void prepare_folder(const SynthSessions& wanted) {
  const auto& folder = wanted.folder;
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) throw Error("cannot create the folder " + folder.string() + ": " + failure.message());
  const nlohmann::ordered_json parameters = {{"what", "generated sessions; no row is real"},
                                             {"generator", 1},
                                             {"count", wanted.count},
                                             {"seed", wanted.seed},
                                             {"shard", wanted.shard},
                                             {"gzip", wanted.gzip}};
  const std::string text = parameters.dump(1) + "\n";
  const auto marker = folder / "synthetic.json";
  if (std::filesystem::exists(marker)) {
    const auto bytes = read_file(marker);
    if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) != text)
      throw Error(
          "the folder " + folder.string() +
          " holds sessions that were generated with other parameters (see its synthetic.json): delete "
          "it or choose another");
    return;
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("log_") || name.starts_with("tf_"))
      throw Error("the folder " + folder.string() + " holds " + name +
                  ", which would be mixed with generated sessions: choose another");
  }
  write_file(marker, text);
}

}  // namespace

SynthSessionsResult synth_sessions(const SynthSessions& wanted, Threads& threads) {
  if (wanted.count == 0) throw Error("cannot make 0 sessions; at least 1 is needed");
  if (wanted.count > 999999999) throw Error("cannot make more than 999,999,999 sessions");
  if (wanted.shard == 0) throw Error("a shard of 0 sessions holds nothing; at least 1 is needed");
  prepare_folder(wanted);

  const Listeners listeners(threads);
  const Catalogue catalogue(wanted.seed, wanted.count);
  const std::size_t logs = (wanted.count + wanted.shard - 1) / wanted.shard;
  const std::size_t track_files = (catalogue.size() + tracks_in_file - 1) / tracks_in_file;
  SynthSessionsResult result{.tracks = catalogue.size(), .files = logs + track_files};

  // Progress in the work of a session; a track is about a third of it.
  const auto work = [&](std::size_t sessions, std::size_t tracks) { return sessions + tracks / 3; };
  Progress progress("writing", work(wanted.count, catalogue.size()));
  std::mutex mutex;
  std::size_t done = 0;
  const auto report = [&](std::size_t more) {
    const std::lock_guard lock(mutex);
    progress.update(done += more);
  };
  const auto write = [&](const std::string& name, std::string_view header, std::size_t begin, std::size_t end,
                         bool sessions, auto&& record) {
    const auto path = wanted.folder / name;
    if (std::filesystem::exists(path)) {
      report(sessions ? work(end - begin, 0) : work(0, end - begin));
      const std::lock_guard lock(mutex);
      ++result.kept;
      return;
    }
    OutputFile file(path, wanted.gzip);
    Text text(file);
    text << header;
    constexpr std::size_t step = 500;
    for (std::size_t i = begin; i < end; ++i) {
      record(text, i);
      if ((i - begin) % step == step - 1) {
        if (interrupted()) throw Interrupted();
        report(sessions ? work(step, 0) : work(0, step));
      }
    }
    text.flush();
    file.finish();
    const std::lock_guard lock(mutex);
    result.bytes += file.bytes();
  };
  threads.run(logs + track_files, [&](std::size_t block) {
    if (interrupted()) throw Interrupted();
    if (block < track_files) {
      const std::size_t begin = block * tracks_in_file;
      write(file_name("tf", block, wanted.gzip), track_header, begin,
            std::min(catalogue.size(), begin + tracks_in_file), false,
            [&](Text& text, std::size_t rank) { write_track(text, catalogue, rank); });
      return;
    }
    const std::size_t shard = block - track_files, begin = shard * wanted.shard;
    write(file_name("log", shard, wanted.gzip), log_header, begin,
          std::min(wanted.count, begin + wanted.shard), true, [&](Text& text, std::size_t session) {
            std::array<Row, longest_session> rows;
            Random random(wanted.seed, session);
            const std::size_t length = listeners.draw(random, catalogue, rows);
            for (std::size_t i = 0; i < length; ++i) write_row(text, session, rows[i]);
          });
  });
  return result;
}

}  // namespace tonearm
