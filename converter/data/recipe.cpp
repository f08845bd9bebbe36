#include "data/recipe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include "base/error.h"
#include "base/files.h"

namespace tonearm {
namespace {

/// Throws Error where a key has more parts ("a.b.c") than any setting, each of which is a table within
/// another: toml++ limits how deep brackets and braces go, not this, and walks tables by recursion. Reads as
/// much of TOML as that takes; what is wrong otherwise is toml++'s to say.
void check_depth(const std::string& text, const std::string& name) {
  constexpr std::size_t most_parts = 16;
  std::size_t parts = 1, line = 1;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"' || c == '\'') {
      // Of three quotes: up to the next three. A text on one line may hold a quote behind a backslash.
      const std::string three(3, c);
      const bool is_long = text.compare(at, 3, three) == 0;
      for (at += is_long ? 3 : 1; at < text.size(); ++at) {
        line += text[at] == '\n';
        if (c == '"' && text[at] == '\\') {
          ++at;
          line += at < text.size() && text[at] == '\n';
        } else if (is_long ? text.compare(at, 3, three) == 0 : text[at] == c || text[at] == '\n') {
          break;
        }
      }
      if (is_long) at += 2;
      // A text of three quotes may end with one or two more.
      while (is_long && at + 1 < text.size() && text[at + 1] == c) ++at;
    } else if (c == '#') {
      while (at + 1 < text.size() && text[at + 1] != '\n') ++at;
    } else if (c == '.') {
      if (++parts > most_parts)
        throw Error(name + ":" + std::to_string(line) + ": a key has more than " +
                    std::to_string(most_parts) + " parts between dots; no setting has so many");
    } else if (c == '\n' || c == '=' || c == ',' || c == '{' || c == '[') {
      parts = 1;
      line += c == '\n';
    }
  }
}

toml::table parse(const std::string& text, const std::string& name) {
  check_depth(text, name);
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    const auto& at = error.source().begin;
    throw Error(name + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) +
                ": this is not TOML: " + std::string(error.description()));
  }
}

/// Lays `over` upon `base`: tables key by key, everything else whole. Nodes are moved, because a moved
/// node keeps its place in the file for messages and a copied one does not.
void merge(toml::table& base, toml::table&& over) {
  for (auto&& entry : over) {
    const toml::key& key = entry.first;
    toml::node& node = entry.second;
    toml::node* existing = base.get(key.str());
    if (existing != nullptr && existing->is_table() && node.is_table()) {
      merge(*existing->as_table(), std::move(*node.as_table()));
    } else {
      std::move(node).visit(
          [&](auto&& value) { base.insert_or_assign(key, std::forward<decltype(value)>(value)); });
    }
  }
}

toml::table load(const std::filesystem::path& file, int depth) {
  const auto bytes = read_file(file);
  toml::table table = parse(std::string(bytes.begin(), bytes.end()), file.filename().string());
  const auto* extends = table.get("extends");
  if (extends == nullptr) return table;
  if (!extends->is_string() || depth > 8)
    throw Error(file.string() + ": extends must name another recipe of the same folder, and not in a circle");
  toml::table base = load(file.parent_path() / extends->as_string()->get(), depth + 1);
  table.erase("extends");
  base.erase("variants");  // variants belong to the recipe that is asked for
  merge(base, std::move(table));
  return base;
}

}  // namespace

struct Recipe::Document {
  toml::table table;
  std::string name;
  /// Keys that have been asked for, by the table that holds them.
  std::map<const toml::table*, std::set<std::string>> known;
};

struct Recipe::Section::State {
  Document* document;
  const toml::table* table;   // may be null: an absent table
  std::string path;           // "" for the root, else "train."
  toml::source_region place;  // where an absent table would be looked for

  const toml::node* find(const std::string& key) const {
    if (table == nullptr) return nullptr;
    document->known[table].insert(key);
    return table->get(key);
  }

  [[noreturn]] void fail(const std::string& key, const toml::node* node, const std::string& sentence) const {
    std::string at = document->name;
    if (node != nullptr && node->source().begin.line > 0) {
      const auto& source = node->source();
      at = (source.path ? *source.path : document->name) + ":" + std::to_string(source.begin.line) + ":" +
           std::to_string(source.begin.column);
    }
    throw Error(at + ": " + path + key + " " + sentence);
  }

  const toml::node& require(const std::string& key, const char* what) const {
    const toml::node* node = find(key);
    if (node == nullptr) fail(key, table, std::string("is missing: it must be ") + what);
    return *node;
  }
};

Recipe::Recipe(const std::filesystem::path& file, const Choice& choice)
    : document_(std::make_unique<Document>()) {
  document_->name = file.filename().string();
  document_->table = load(file, 0);
  toml::table variants;
  if (auto* node = document_->table.get("variants")) {
    if (!node->is_table()) throw Error(file.string() + ": variants must be tables, like [variants.small]");
    variants = std::move(*node->as_table());
    document_->table.erase("variants");
  }
  std::map<std::uint32_t, std::string> by_line;  // toml++ sorts keys; people read from the top
  for (auto&& [key, node] : variants) by_line[node.source().begin.line] = std::string(key.str());
  for (auto& [line, name] : by_line) variants_.push_back(name);
  if (!choice.variant.empty()) {
    toml::node* node = variants.get(choice.variant);
    if (node == nullptr || !node->is_table()) {
      std::string list;
      for (const std::string& name : variants_) list += (list.empty() ? "" : ", ") + name;
      throw Error(file.string() + ": there is no variant '" + choice.variant + "'; " +
                  (list.empty() ? "this recipe has none" : "there are: " + list));
    }
    merge(document_->table, std::move(*node->as_table()));
  }
  for (const std::string& override_text : choice.overrides) {
    const std::size_t equals = override_text.find('=');
    if (equals == std::string::npos)
      throw Error("--set " + override_text + ": expected KEY=VALUE, for example --set train.trees=50");
    check_depth(override_text, "--set " + override_text.substr(0, 60));
    toml::table over;
    try {
      over = toml::parse(override_text, "--set " + override_text);
    } catch (const toml::parse_error&) {
      // A bare word is meant as a text.
      over = parse(override_text.substr(0, equals) + " = \"" + override_text.substr(equals + 1) + "\"",
                   "--set " + override_text);
    }
    merge(document_->table, std::move(over));
  }
}

Recipe::Recipe(std::unique_ptr<Document> document) : document_(std::move(document)) {}

Recipe Recipe::from_text(const std::string& text, const std::string& name) {
  auto document = std::make_unique<Document>();
  document->name = name;
  document->table = parse(text, name);
  return Recipe(std::move(document));
}

Recipe::~Recipe() = default;
Recipe::Recipe(Recipe&&) noexcept = default;

Recipe::Section Recipe::root() const {
  Section section;
  section.state_ = std::make_shared<const Section::State>(
      Section::State{document_.get(), &document_->table, "", document_->table.source()});
  return section;
}

void Recipe::require_all_known() const {
  const auto check = [&](const auto& self, const toml::table& table, const std::string& path) -> void {
    const auto& known = document_->known[&table];
    for (auto&& [key, node] : table) {
      const std::string name(key.str());
      if (!known.contains(name)) {
        const std::string meant = nearest(name, {known.begin(), known.end()});
        std::string list;
        for (const std::string& word : known) list += (list.empty() ? "" : ", ") + word;
        Section::State{document_.get(), &table, path, {}}.fail(
            name, &node,
            "is not a setting that is used here; " +
                (meant.empty() ? "there are: " + list : "did you mean '" + meant + "'?"));
      }
      if (const auto* inner = node.as_table()) self(self, *inner, path + name + ".");
      if (const auto* array = node.as_array())
        for (const auto& element : *array)
          if (const auto* inner = element.as_table()) self(self, *inner, path + name + ".");
    }
  };
  check(check, document_->table, "");
}

std::string Recipe::merged_text() const {
  // Strings always in double quotes: toml++ would put one that holds a quote between single ones, even
  // if it holds those, too, and could not read it again.
  constexpr auto flags = toml::toml_formatter::default_flags & ~toml::format_flags::allow_literal_strings &
                         ~toml::format_flags::allow_multi_line_strings;
  std::ostringstream out;
  out << toml::toml_formatter(document_->table, flags);
  return out.str();
}

bool Recipe::Section::has(const std::string& key) const { return state_->find(key) != nullptr; }

std::string Recipe::Section::text(const std::string& key) const {
  const toml::node& node = state_->require(key, "a text");
  if (!node.is_string()) state_->fail(key, &node, "must be a text in quotes");
  return node.as_string()->get();
}

std::string Recipe::Section::text(const std::string& key, const std::string& otherwise) const {
  return has(key) ? text(key) : otherwise;
}

std::string Recipe::Section::choice(const std::string& key, const std::string& otherwise,
                                    const std::vector<std::string>& allowed) const {
  std::string word = text(key, otherwise);
  if (std::find(allowed.begin(), allowed.end(), word) != allowed.end()) return word;
  std::string list;
  for (const std::string& one : allowed) list += (list.empty() ? "" : ", ") + one;
  fail(key, (has(key) ? "is '" + word + "'" : "is missing") + "; it must be one of: " + list);
}

double Recipe::Section::number(const std::string& key, std::optional<double> otherwise, double low,
                               double high) const {
  const toml::node* node = state_->find(key);
  if (node == nullptr && otherwise) return *otherwise;
  if (node == nullptr) state_->require(key, "a number");
  const auto value = node->value<double>();
  if (!node->is_number() || !value) state_->fail(key, node, "must be a number");
  if (!(*value >= low && *value <= high)) {
    std::ostringstream range;
    range << "is " << *value << "; it must be from " << low << " to " << high;
    state_->fail(key, node, range.str());
  }
  return *value;
}

unsigned Recipe::Section::count(const std::string& key, std::optional<unsigned> otherwise, unsigned low,
                                unsigned high) const {
  const double value = number(key, otherwise ? std::optional<double>(*otherwise) : std::nullopt, low, high);
  if (value != std::floor(value)) fail(key, "must be a whole number");
  return static_cast<unsigned>(value);
}

std::vector<unsigned> Recipe::Section::counts(const std::string& key, unsigned low, unsigned high) const {
  std::vector<unsigned> counts;
  for (const double value : numbers(key)) {
    if (!(value >= low && value <= high && value == std::floor(value)))
      fail(key, "must hold whole numbers from " + std::to_string(low) + " to " + std::to_string(high));
    counts.push_back(static_cast<unsigned>(value));
  }
  return counts;
}

bool Recipe::Section::flag(const std::string& key, bool otherwise) const {
  const toml::node* node = state_->find(key);
  if (node == nullptr) return otherwise;
  if (!node->is_boolean()) state_->fail(key, node, "must be true or false");
  return node->as_boolean()->get();
}

std::vector<std::string> Recipe::Section::texts(const std::string& key) const {
  std::vector<std::string> result;
  const toml::node* node = state_->find(key);
  if (node == nullptr) return result;
  if (!node->is_array()) state_->fail(key, node, "must be a list of texts, like [\"a\", \"b\"]");
  for (const auto& element : *node->as_array()) {
    if (!element.is_string()) state_->fail(key, &element, "must hold texts only");
    result.push_back(element.as_string()->get());
  }
  return result;
}

std::vector<double> Recipe::Section::numbers(const std::string& key) const {
  std::vector<double> result;
  const toml::node* node = state_->find(key);
  if (node == nullptr) return result;
  if (!node->is_array()) state_->fail(key, node, "must be a list of numbers, like [1, 2.5]");
  for (const auto& element : *node->as_array()) {
    const auto value = element.value<double>();
    if (!element.is_number() || !value || !std::isfinite(*value))
      state_->fail(key, &element, "must hold finite numbers only");
    result.push_back(*value);
  }
  return result;
}

std::vector<float> Recipe::Section::floats(const std::string& key) const {
  std::vector<float> result;
  for (const double value : numbers(key)) {
    if (std::abs(value) > std::numeric_limits<float>::max())
      fail(key, "must hold numbers within the range of float32");
    result.push_back(static_cast<float>(value));
  }
  return result;
}

Recipe::Section Recipe::Section::section(const std::string& key) const {
  const toml::node* node = state_->find(key);
  if (node != nullptr && !node->is_table()) state_->fail(key, node, "must be a table, like [" + key + "]");
  Section inner;
  inner.state_ =
      std::make_shared<const State>(State{state_->document, node == nullptr ? nullptr : node->as_table(),
                                          state_->path + key + ".", state_->place});
  return inner;
}

std::vector<Recipe::Section> Recipe::Section::sections(const std::string& key) const {
  std::vector<Section> result;
  const toml::node* node = state_->find(key);
  if (node == nullptr) return result;
  if (!node->is_array()) state_->fail(key, node, "must be tables, each headed [[" + key + "]]");
  for (const auto& element : *node->as_array()) {
    if (!element.is_table()) state_->fail(key, &element, "must hold tables only");
    Section inner;
    inner.state_ = std::make_shared<const State>(
        State{state_->document, element.as_table(), state_->path + key + ".", element.source()});
    result.push_back(inner);
  }
  return result;
}

std::vector<std::string> Recipe::Section::keys() const {
  std::vector<std::string> result;
  if (state_->table != nullptr)
    for (auto&& [key, node] : *state_->table) result.emplace_back(key.str());
  return result;
}

void Recipe::Section::fail(const std::string& key, const std::string& sentence) const {
  state_->fail(key, state_->find(key), sentence);
}

}  // namespace tonearm
