#include "data/session_split.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/random.h"

namespace tonearm {

SessionSplit::SessionSplit(const Recipe::Section& recipe, const LogSource& source, std::uint32_t seed)
    : seed_(seed) {
  validation_ = recipe.section("validation").number("held_out", 0.0, 0, 0.9);
  const Recipe::Section splits = recipe.section("splits");
  const std::vector<std::string> names = splits.keys();
  if (names.empty())
    recipe.fail("splits", "is missing: a table like [splits.sessions] must say what is held out");
  const std::string chosen = recipe.choice("split", names.front(), names);
  for (const std::string& name : names) {
    const Recipe::Section section = splits.section(name);
    const std::string rule = section.choice("rule", "group", {"group", "time", "date"});
    const double share = rule == "date" ? 0 : section.number("held_out", 0.25, 0.001, 0.999);
    const auto from =
        rule == "date" ? static_cast<std::int64_t>(section.number("from", std::nullopt, 19000101, 99991231))
                       : 0;
    if (name != chosen) continue;
    kind_ = rule == "group" ? Rule::group : rule == "time" ? Rule::time : Rule::date;
    held_out_ = share;
    held_out_from_ = validation_from_ = from;
  }
  char text[160];
  if (kind_ == Rule::group) {
    std::snprintf(text, sizeof text, "%.4g %% of the sessions by a hash of their names, seed %u",
                  held_out_ * 100, seed);
  } else if (kind_ == Rule::date) {
    std::snprintf(text, sizeof text, "the sessions from %lld on", static_cast<long long>(held_out_from_));
    if (validation_ > 0)
      recipe.section("validation").fail("held_out", "cannot be combined with a split by date");
  } else {
    std::vector<std::int64_t> times;  // eight bytes a play
    for (std::size_t shard = 0; shard < source.shards(); ++shard)
      source.read(shard, [&](const Log& log) {
        for (const Play& play : log.plays) times.push_back(play.now.time);
      });
    if (times.empty() || *std::min_element(times.begin(), times.end()) == TONEARM_UNKNOWN_TIME)
      recipe.fail("split", "is by time, but the data do not say when every track started");
    std::sort(times.begin(), times.end());
    const auto at = [&](double share) {
      return times[std::min(times.size() - 1,
                            static_cast<std::size_t>(share * static_cast<double>(times.size())))];
    };
    held_out_from_ = at(1 - held_out_);
    validation_from_ = at((1 - held_out_) * (1 - validation_));
    std::snprintf(text, sizeof text, "the sessions that began in the last %.4g %% of all plays",
                  held_out_ * 100);
  }
  rule_ = text;
}

SessionSplit::Part SessionSplit::part(const Log& log, const Play& first) const {
  if (kind_ == Rule::group) {
    const auto share = [&](std::uint64_t salt) {
      return static_cast<double>(mix64(log.identity ^ mix64(seed_ * 2 + salt)) >> 11) * 0x1p-53;
    };
    if (share(0) < held_out_) return Part::held_out;
    return share(1) < validation_ ? Part::validation : Part::training;
  }
  const std::int64_t when = kind_ == Rule::time ? first.now.time : std::int64_t{first.now.date};
  if (when >= held_out_from_) return Part::held_out;
  return when >= validation_from_ ? Part::validation : Part::training;
}

std::uint64_t session_identity(const Log& log, const Play& first, std::uint32_t number) {
  return mix64(log.identity ^
               mix64(first.track.track_id ^ mix64(static_cast<std::uint64_t>(first.now.time) + number)));
}

}  // namespace tonearm
