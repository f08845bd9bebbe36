#pragma once

#include <cstdint>
#include <string>

#include "data/recipe.h"
#include "data/sessions.h"

namespace tonearm {

/// Which sessions are trained on, and which are held out.
///
/// [splits.NAME] rule = "group": a share `held_out` of the logs, by a hash of their names and the seed
///               rule = "time": the sessions of the last share `held_out` of all plays, by their start times
///               rule = "date": the sessions from the date `from` (yyyymmdd) on
class SessionSplit {
 public:
  enum class Part { training, validation, held_out };

  SessionSplit(const Recipe::Section& recipe, const LogSource& source, std::uint32_t seed);

  /// The part of the session that begins with this play.
  Part part(const Log& log, const Play& first) const;
  const std::string& rule() const { return rule_; }

 private:
  enum class Rule { group, time, date } kind_ = Rule::group;
  double held_out_ = 0, validation_ = 0;
  std::uint32_t seed_ = 0;
  std::int64_t held_out_from_ = 0, validation_from_ = 0;  // times or dates
  std::string rule_;
};

/// The identity of a session: the same wherever it stands.
std::uint64_t session_identity(const Log& log, const Play& first, std::uint32_t number);

}  // namespace tonearm
