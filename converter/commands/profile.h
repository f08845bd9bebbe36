#pragma once

#include <profiling.h>

#include <memory>
#include <string>
#include <vector>

namespace tonearm {

struct FreeProfile {
  void operator()(profile* found) const {
    profile_free(found);
    delete found;
  }
};
/// What tonearm-profile found; see runtime/profile/README.md.
using Profile = std::unique_ptr<profile, FreeProfile>;

/// Reads the JSON of tonearm-profile; `name` stands in messages. Throws Error with the place of what is
/// wrong.
Profile read_profile(const std::string& json, const std::string& name);

/// The same JSON as tonearm-profile writes, and its table for people.
std::string json_of(const profile& found);
std::string text_of(const profile& found);

/// A page that explains and draws one profile or, side by side, several: complete in itself, without scripts,
/// in light and dark.
std::string page_of(const std::vector<Profile>& profiles);

}  // namespace tonearm
