// Changes values of an XGBoost document, and writes it as JSON or as UBJSON.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "mutation.h"

namespace {

using nlohmann::json;

/// The document of a JSON text that is not nested too deeply to be written again; else null. UBJSON is only
/// written: reading it takes as much memory as it announces.
json parsed(std::string_view bytes) {
  int depth = 0, deepest = 0;
  for (const char c : bytes) {
    depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    deepest = std::max(deepest, depth);
  }
  if (deepest > 100) return nullptr;
  json document = json::parse(bytes, nullptr, false);
  return document.is_discarded() ? nullptr : document;
}

/// Every list and object with members, outside in.
std::vector<json*> containers_of(json& document) {
  std::vector<json*> found = {&document};
  for (std::size_t i = 0; i < found.size(); ++i)
    for (json& member : *found[i])
      if (member.is_structured() && !member.empty()) found.push_back(&member);
  return found;
}

json& member_of(json& container, std::minstd_rand& random) {
  auto member = container.begin();
  std::advance(member, static_cast<std::ptrdiff_t>(below(random, container.size())));
  return *member;
}

void change(json& document, std::minstd_rand& random) {
  const std::vector<json*> containers = containers_of(document);
  json& container = *containers[below(random, containers.size())];
  if (!container.is_structured() || container.empty()) return;
  json& member = member_of(container, random);
  json& other_container = *containers[below(random, containers.size())];
  switch (below(random, 10)) {
    case 0:
      if (container.is_array())
        container.erase(below(random, container.size()));
      else
        container.erase(
            std::next(container.begin(), static_cast<std::ptrdiff_t>(below(random, container.size()))));
      break;
    case 1:
      if (container.is_array()) container.push_back(json(member));
      break;
    case 2: {
      json other = member_of(other_container, random);
      member = std::move(other);
      break;
    }
    case 3:
      if (member.is_array()) member.push_back(json::parse(edge_number(random)));
      break;
    case 4:
      member = json::array();
      break;
    default:
      if (member.is_string())
        member = edge_number(random);
      else if (member.is_array() && !member.empty())
        member_of(member, random) = json::parse(edge_number(random));
      else if (!member.is_object())
        member = json::parse(edge_number(random));
  }
}

}  // namespace

std::string mutated_model(std::string_view bytes, std::size_t longest, std::minstd_rand& random) {
  json document = parsed(bytes);
  if (!document.is_structured() || document.empty()) return {};
  for (std::size_t changes = 1 + below(random, 3); changes > 0; --changes)
    if (document.is_structured() && !document.empty()) change(document, random);
  std::string text = document.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= longest && below(random, 2) == 0) return text;
  const bool sized = below(random, 2) == 0;
  std::string binary;
  json::to_ubjson(document, nlohmann::detail::output_adapter<char>(binary), sized,
                  sized && below(random, 2) == 0);
  return binary;
}
