#include "data/synth_hits.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"

namespace tonearm {
namespace {

/// What changed over the decades: typical values, read off plots of the real table's marginals.
struct Decade {
  const char* name;
  int year;
  double energy;        // of the latent energy: higher is louder, less acoustic
  double loudness;      // dB, of a track of typical energy
  double acoustic;      // of the latent acousticness
  double minutes;       // median duration
  double speech;        // share of tracks with rap or much speech
  double instrumental;  // share of tracks without singing
};

constexpr Decade decades[] = {
    {"60s", 1960, -.45, -11.6, .75, 2.75, .03, .19}, {"70s", 1970, -.05, -11.3, -.05, 3.55, .04, .20},
    {"80s", 1980, .35, -10.6, -.90, 4.00, .05, .18}, {"90s", 1990, .35, -9.6, -.90, 4.05, .09, .19},
    {"00s", 2000, .95, -6.6, -1.70, 3.95, .13, .18}, {"10s", 2010, .80, -6.7, -1.75, 3.70, .15, .19},
};

struct Style {
  double energy, mood, fame;
};

struct Song {
  std::size_t number = 0, artist = 0;
  double danceability = 0, energy = 0, loudness = 0, speechiness = 0, acousticness = 0, instrumentalness = 0;
  double liveness = 0, valence = 0, tempo = 0, milliseconds = 0, chorus_hit = 0;
  int key = 0, mode = 0, time_signature = 4, sections = 0;
  double score = 0;
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double bump(double x) { return std::exp(-x * x / 2); }

/// An artist's tracks resemble each other, and some artists are better known: that is what a split by
/// artist takes away.
Style draw_style(std::uint64_t seed, std::size_t artist) {
  Random random(seed, 1000 + artist);
  return {.6 * random.normal(), .5 * random.normal(), random.normal()};
}

Song draw_song(const Decade& decade, const Style& style, Random& random) {
  Song song;
  const double energy = decade.energy + style.energy + .9 * random.normal();
  const double mood = style.mood + .95 * random.normal();
  song.energy = logistic(1.15 * energy);
  song.loudness =
      std::min(2.0, decade.loudness + 3.6 * std::min(energy - decade.energy, .9) + 1.6 * random.normal());
  song.acousticness =
      .996 * logistic(decade.acoustic - 2.1 * (energy - decade.energy) + 1.2 * random.normal());
  song.valence = .99 * logistic(.2 + 1.15 * mood);
  song.danceability = .98 * logistic(.1 + .45 * mood + .65 * random.normal());
  song.instrumentalness = random.uniform() < decade.instrumental
                              ? .999 * logistic(1.7 + 1.1 * random.normal())
                          : random.uniform() < .35 ? 0
                                                   : std::pow(10, -1.5 - 4.5 * random.uniform());
  song.speechiness = random.uniform() < decade.speech ? .1 + .8 * std::pow(random.uniform(), 4)
                                                      : .024 + std::exp(-3.9 + .7 * random.normal());
  song.liveness = std::min(.99, .02 + std::exp(-1.95 + .65 * random.normal()));
  song.tempo = std::clamp(119 * std::exp(.24 * random.normal()), 36.0, 216.0);
  const double longer = random.uniform() < .12 ? .75 : .22;  // medleys, suites and interludes
  song.milliseconds = std::clamp(60000 * decade.minutes * std::exp(longer * random.normal()), 15000.0, 4.2e6);
  song.sections = std::max(1, static_cast<int>(song.milliseconds / 22500 + 1.2 * random.normal() + .5));
  song.chorus_hit = random.uniform() < .004 ? 0 : 14 + std::exp(3.1 + .6 * random.normal());
  constexpr int keys[] = {0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 6, 7, 7, 7, 8, 9, 9, 9, 10, 10, 11, 11};
  song.key = keys[random.below(std::size(keys))];
  song.mode = random.uniform() < .69;
  const double beat = random.uniform();
  song.time_signature = beat < .885 ? 4 : beat < .975 ? 3 : beat < .99 ? 5 : 1;

  // Straight lines first, then what only a curved boundary can see: hits are neither short nor long,
  // neither quiet nor harsh; what is danced to has a dancing tempo; fast music may be sad, slow may not.
  const double dance = (song.danceability - .52) / .17, valence = (song.valence - .54) / .24;
  const double length = std::log(song.milliseconds / (60000 * decade.minutes)) / .2;
  const double lift = energy - decade.energy;
  song.score = .42 * dance + .16 * valence - 1.7 * song.instrumentalness - .6 * song.acousticness +
               .1 * song.mode + 1.6 * bump(length) + 1.35 * bump((lift - .35) / .75) +
               .55 * dance * (bump((song.tempo - 120) / 18) - .45) -
               .4 * valence * (song.tempo < 100 ? -1 : .5) + .25 * style.fame;
  return song;
}

void append(std::string& text, const char* format, ...) __attribute__((format(printf, 2, 3)));
void append(std::string& text, const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

std::string to_csv(const std::vector<Song>& songs, const std::vector<bool>& hit, const Decade& decade) {
  std::string text =
      "track,artist,uri,danceability,energy,key,loudness,mode,speechiness,acousticness,instrumentalness,"
      "liveness,valence,tempo,duration_ms,time_signature,chorus_hit,sections,target,decade\n";
  for (std::size_t i = 0; i < songs.size(); ++i) {
    const Song& song = songs[i];
    const bool live = song.number % 50 == 49;  // a title that needs quoting
    append(text, live ? "\"Synthetic Track %06zu, \"\"Live\"\"\"," : "Synthetic Track %06zu,", song.number);
    append(text, "Synthetic Artist %05zu,tonearm:synthetic:%s:%06zu,", song.artist, decade.name, song.number);
    append(text, "%.3g,%.3g,%d,%.3f,%d,%.3g,%.3g,%.3g,", song.danceability, song.energy, song.key,
           song.loudness, song.mode, song.speechiness, song.acousticness, song.instrumentalness);
    append(text, "%.3g,%.3g,%.3f,%.0f,%d,%.5f,%d,%d,%d\n", song.liveness, song.valence, song.tempo,
           song.milliseconds, song.time_signature, song.chorus_hit, song.sections, static_cast<int>(hit[i]),
           decade.year);
  }
  return text;
}

}  // namespace

void synth_hits(std::size_t rows, std::uint64_t seed, const std::filesystem::path& folder) {
  if (rows < 12)
    throw Error("cannot make " + std::to_string(rows) + " rows; at least 12 are needed, two per decade");
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) throw Error("cannot create the folder " + folder.string() + ": " + failure.message());

  std::size_t songs_so_far = 0, artists_so_far = 0;
  for (std::size_t d = 0; d < std::size(decades); ++d) {
    const Decade& decade = decades[d];
    // Whole pairs of a hit and another; an odd row out goes to the first decade.
    const std::size_t pairs = rows / 2 / std::size(decades) + (d < rows / 2 % std::size(decades) ? 1 : 0);
    const std::size_t count = 2 * pairs + (d == 0 ? rows % 2 : 0);
    const std::size_t artists = count * 3 / 10 + 1;
    Random random(seed, d);
    std::vector<Song> songs;
    while (songs.size() < count) {
      if (!songs.empty() && random.below(80) == 0) {  // the same URI once more
        Song again = songs[random.below(static_cast<std::uint32_t>(songs.size()))];
        again.score += .15 * random.normal();
        songs.push_back(again);
        continue;
      }
      // Rank 0 has most tracks: on the real table, too, the share of an artist falls by a power law.
      const double rank = static_cast<double>(artists) * std::pow(random.uniform(), 1.8);
      const std::size_t artist = artists_so_far + static_cast<std::size_t>(rank);
      Song song = draw_song(decade, draw_style(seed, artist), random);
      song.number = songs_so_far + songs.size();
      song.artist = artist;
      song.score += .65 * random.normal();
      songs.push_back(song);
    }
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return songs[a].score > songs[b].score; });
    std::vector<bool> hit(count);
    for (std::size_t i = 0; i < count / 2; ++i) hit[order[i]] = true;

    write_file(folder / (std::string("synthetic-dataset-of-") + decade.name + ".csv"),
               to_csv(songs, hit, decade));
    songs_so_far += count;
    artists_so_far += artists;
  }
}

}  // namespace tonearm
