// What is written of a profile: the JSON says what its description says and reads back, damaged JSON is
// refused with its place, and the page is well-formed, complete in itself, and has every operator on it.

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "commands/profile.h"
#include "conformance/models.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

using nlohmann::json;

/// The profile of a sample model, measured here; the same for all tests of it.
const profile& profile_of(const std::string& name) {
  static std::map<std::string, Profile> made;
  Profile& found = made[name];
  if (found) return *found;
  const Blob blob(golden_blob(sample_model(name)), name);
  workload feed{};
  if (blob.info().session_bytes > 0)
    workload_made_up(&feed);
  else
    std::snprintf(feed.source, sizeof feed.source, "the model's own rows");
  const profile_settings settings = {30, 3, 5, 1 << 16, "a \"device\" <of> tests & more"};
  found.reset(new profile());
  const char* wrong = profile_measure(&blob.model(), blob.bytes().data(), &feed, &settings, found.get());
  EXPECT_EQ(wrong, nullptr) << wrong;
  return *found;
}

const std::vector<std::string>& samples() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const SampleModel& sample : sample_models()) all.push_back(sample.name);
    return all;
  }();
  return names;
}

TEST(ProfileJson, SaysWhatItsDescriptionSays) {
  for (const std::string& name : samples()) {
    SCOPED_TRACE(name);
    const profile& found = profile_of(name);
    const json document = json::parse(json_of(found));
    EXPECT_EQ(document["tonearm_profile"], 1);
    EXPECT_EQ(document["library"], std::to_string(TONEARM_VERSION_MAJOR) + "." +
                                       std::to_string(TONEARM_VERSION_MINOR) + "." +
                                       std::to_string(TONEARM_VERSION_PATCH));
    EXPECT_EQ(document["device"]["name"], "a \"device\" <of> tests & more");
    EXPECT_EQ(document["clock"]["unit"], "ns");
    EXPECT_EQ(document["evicted_bytes"], 1 << 16);
    const SampleModel sample = sample_model(name);
    EXPECT_EQ(document["model"]["columns"], sample.model.columns.size());
    std::set<int> operators;
    for (const json& part : document["parts"]) {
      for (const char* times : {"warm", "cold"}) {
        const json& of = part[times];
        ASSERT_TRUE(of.is_object()) << part;
        EXPECT_EQ(of["count"], std::string(times) == "warm" ? 30 : 3);
        EXPECT_EQ(of["quantiles"].size(), 21u);
        EXPECT_LE(of["minimum"], of["median"]);
        EXPECT_LE(of["median"], of["p90"]);
        EXPECT_LE(of["p90"], of["p99"]);
        EXPECT_LE(of["p99"], of["maximum"]);
        EXPECT_EQ(of["quantiles"][0], of["minimum"]);
        EXPECT_EQ(of["quantiles"][20], of["maximum"]);
      }
      if (part["kind"] == "operator") operators.insert(part["operator"].get<int>());
      EXPECT_EQ(part.contains("call"), part["kind"] == "call");
    }
    EXPECT_EQ(operators.size(), sample.model.operators.size());
    ASSERT_GE(document["stack"].size(), 2u);
    for (const json& call : document["stack"]) {
      EXPECT_GT(call["bytes"], 0) << call;
      EXPECT_LT(call["bytes"], 64 << 10) << call;
    }
  }
}

TEST(ProfileJson, ReadsBackToTheSame) {
  for (const std::string& name : samples()) {
    const std::string text = json_of(profile_of(name));
    EXPECT_EQ(json_of(*read_profile(text, "a.json")), text) << name;
  }
}

TEST(ProfileJson, NamesThatAreNoTextAreMadeText) {
  profile odd = profile_of(samples().front());
  std::snprintf(odd.device.name, sizeof odd.device.name, "a\xff\x01\"\\b\xc3\xa9\xe2\x82");
  const json document = json::parse(json_of(odd));
  EXPECT_EQ(document["device"]["name"], "a?\x01\"\\b\xc3\xa9??");
  EXPECT_EQ(std::string(read_profile(json_of(odd), "a.json")->device.name), "a?\x01\"\\b\xc3\xa9??");
}

std::string error_of(const std::string& text) {
  try {
    read_profile(text, "a.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ProfileJson, WhatIsWrongIsSaidWithItsPlace) {
  const json good = json::parse(json_of(profile_of("session-recurrent-int8")));
  const auto changed = [&](const char* place, const json& value) {
    json bad = good;
    bad[json::json_pointer(place)] = value;
    return error_of(bad.dump());
  };
  EXPECT_EQ(changed("/parts/3/warm/median", -1),
            "a.json: parts[3].warm.median: -1 should be a whole number from 0 to 18446744073709551615");
  EXPECT_EQ(changed("/parts/3/kind", "thing"),
            "a.json: parts[3].kind: \"thing\" should be \"call\", \"features\" or \"operator\"");
  EXPECT_EQ(changed("/parts/1/phase", "future"),
            "a.json: parts[1].phase: \"future\" should be \"history\", \"context\", \"candidate\" or null");
  EXPECT_EQ(changed("/parts/0/cold/quantiles/4", 0),
            "a.json: parts[0].cold.quantiles[4]: 0 should be no less than the one before");
  EXPECT_EQ(changed("/workload/queue", 0),
            "a.json: workload.queue: 0 should be at least 1, for a queue was measured");
  EXPECT_EQ(changed("/model/blob_bytes", 1e10),
            "a.json: model.blob_bytes: 10000000000.0 should be a whole number from 0 to 4294967295");
  EXPECT_EQ(changed("/clock", json::array({1, 2})), "a.json: clock: a list of 2 should be an object");
  EXPECT_EQ(changed("/device/name", std::string(500, 'x')).substr(0, 22), "a.json: device.name: \"");
  EXPECT_EQ(
      changed("/tonearm_profile", 2),
      "a.json: its tonearm_profile is 2, but this program reads 1; use the tonearm of the same version as "
      "tonearm-profile");
  EXPECT_EQ(error_of("{}"), "a.json: there is no field 'tonearm_profile'; is it JSON of tonearm-profile?");
  EXPECT_EQ(error_of("{\n\"tonearm_profile\": 1,\n oops"),
            "a.json, line 3: this is no JSON; give what 'tonearm-profile --json FILE' wrote");
  EXPECT_EQ(error_of(""), "a.json, line 1: this is no JSON; give what 'tonearm-profile --json FILE' wrote");
}

TEST(ProfileJson, NoDamageDoesHarm) {
  const json good = json::parse(json_of(profile_of("session-recurrent-int8")));
  const json flat = good.flatten();
  std::size_t refused = 0;
  for (const auto& [place, value] : flat.items()) {
    // One of the many quantiles stands for all.
    if (place.find("/quantiles/") != std::string::npos && !place.ends_with("/7")) continue;
    const json::json_pointer at(place);
    for (const json& other :
         {json(), json(-1), json(1e300), json("x"), json::array(), json::object(), json(true)}) {
      json bad = good;
      bad[at] = other;
      const std::string error = error_of(bad.dump());
      if (error.empty()) continue;
      ++refused;
      EXPECT_EQ(error.rfind("a.json: ", 0), 0u) << error;
    }
    json without = good;
    json& parent = without[at.parent_pointer()];
    if (parent.is_object()) {
      parent.erase(at.back());
      EXPECT_NE(error_of(without.dump()), "") << place;
    }
  }
  EXPECT_GT(refused, 500u);
  const std::string deep(200000, '[');
  EXPECT_NE(error_of(deep), "");
  EXPECT_EQ(error_of("{\"tonearm_profile\": " + deep + std::string(200000, ']') + "}"),
            "a.json: tonearm_profile: a list of 1 should be a whole number from 0 to 4294967295");
  const std::string text = good.dump(2);
  for (std::size_t size = 0; size < text.size(); size += 97) EXPECT_NE(error_of(text.substr(0, size)), "");
}

/// The texts of a page in their order; fails where a tag is not closed, or something is not as XML must be.
std::vector<std::string> texts_of(const std::string& page) {
  std::vector<std::string> open, texts;
  const auto entities_are_known = [](const std::string& text) {
    for (std::size_t at = text.find('&'); at != std::string::npos; at = text.find('&', at + 1)) {
      const std::string name = text.substr(at, text.find(';', at) - at + 1);
      EXPECT_TRUE(name == "&amp;" || name == "&lt;" || name == "&gt;" || name == "&quot;" ||
                  name == "&#8211;" || name == "&#173;")
          << name;
    }
  };
  std::size_t at = page.find("<html");
  EXPECT_EQ(page.substr(0, at), "<!DOCTYPE html>\n");
  while (at < page.size()) {
    const std::size_t tag = page.find('<', at);
    const std::string text = page.substr(at, tag - at);
    entities_are_known(text);
    if (text.find_first_not_of(" \n") != std::string::npos) texts.push_back(text);
    if (tag == std::string::npos) break;
    const std::size_t end = page.find('>', tag);
    if (end == std::string::npos) {
      ADD_FAILURE() << "a tag without an end";
      break;
    }
    const std::string inside = page.substr(tag + 1, end - tag - 1);
    EXPECT_EQ(inside.find('<'), std::string::npos) << inside;
    EXPECT_EQ(std::count(inside.begin(), inside.end(), '"') % 2, 0) << inside;
    const std::string name = inside.substr(0, inside.find_first_of(" \n"));
    if (inside.front() == '/') {
      EXPECT_FALSE(open.empty());
      if (!open.empty()) {
        EXPECT_EQ(inside.substr(1), open.back());
        open.pop_back();
      }
    } else if (inside.back() != '/') {
      open.push_back(name);
    }
    at = end + 1;
  }
  EXPECT_TRUE(open.empty()) << open.back() << " is not closed";
  return texts;
}

bool has(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

std::vector<Profile> read_again(const std::vector<std::string>& names) {
  std::vector<Profile> profiles;
  for (const std::string& name : names) profiles.push_back(read_profile(json_of(profile_of(name)), name));
  return profiles;
}

TEST(ProfilePage, IsWellFormedAndHasEveryOperator) {
  for (const std::string& name : samples()) {
    SCOPED_TRACE(name);
    const std::string page = page_of(read_again({name}));
    const std::vector<std::string> texts = texts_of(page);
    const profile& found = profile_of(name);
    for (std::size_t i = 0; i < found.part_count; ++i) {
      const profile_part& part = found.parts[i];
      const std::string label = part.kind == TONEARM_PROFILE_OPERATOR
                                    ? "#" + std::to_string(part.index) + " " + part.name
                                : part.kind == TONEARM_PROFILE_QUEUE ? std::string(part.name) + " of 5"
                                                                     : part.name;
      EXPECT_TRUE(has(texts, label)) << label;
    }
    for (std::size_t i = 0; i < found.stack_count; ++i)
      EXPECT_TRUE(has(texts, std::string("stack: ") + found.stack[i].call));
    for (std::size_t i = 0; i < found.remark_count; ++i)
      EXPECT_NE(page.find("<li>" + std::string(found.not_measured[i].what)), std::string::npos);
    EXPECT_NE(page.find("a &quot;device&quot; &lt;of&gt; tests &amp; more"), std::string::npos);
  }
}

TEST(ProfilePage, NeedsNothingFromElsewhere) {
  const std::string page = page_of(read_again({"session-recurrent-int8"}));
  for (const char* no : {"<script", "src=", "href=", "url(", "@import", "<link", "<iframe", "javascript"})
    EXPECT_EQ(page.find(no), std::string::npos) << no;
  // Names of languages, and no addresses.
  for (std::size_t at = page.find("http"); at != std::string::npos; at = page.find("http", at + 1))
    EXPECT_EQ(page.substr(at, 18), "http://www.w3.org/");
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
}

TEST(ProfilePage, ShowsSeveralSideBySide) {
  const std::vector<std::string> names = {"session-recurrent-int8", samples().front()};
  const std::string page = page_of(read_again(names));
  const std::vector<std::string> texts = texts_of(page);
  EXPECT_TRUE(has(texts, "Side by side"));
  for (const std::string& name : names) EXPECT_NE(page.find("<h2>" + name), std::string::npos);
}

TEST(ProfilePage, WhatWasNotMeasuredIsNoZero) {
  Profile none = read_profile(json_of(profile_of("session-recurrent-int8")), "a");
  for (std::size_t i = 0; i < none->part_count; ++i) none->parts[i].cold = {};
  none->evicted_bytes = 0;
  none->stack_count = 0;
  std::vector<Profile> profiles;
  profiles.push_back(std::move(none));
  const std::string page = page_of(profiles);
  texts_of(page);
  EXPECT_EQ(page.find("median of 0"), std::string::npos);
  EXPECT_NE(page.find("<td>&#8211;</td>"), std::string::npos);
}

TEST(ProfileText, HasEveryPart) {
  const profile& found = profile_of("session-recurrent-int8");
  const std::string text = text_of(found);
  for (std::size_t i = 0; i < found.part_count; ++i)
    EXPECT_NE(text.find(found.parts[i].name), std::string::npos) << found.parts[i].name;
  for (std::size_t i = 0; i < found.remark_count; ++i)
    EXPECT_NE(text.find(found.not_measured[i].why), std::string::npos);
}

}  // namespace
}  // namespace tonearm
