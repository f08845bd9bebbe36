// XGBoost's models as save_model() writes them: JSON, or UBJSON, which holds the same document in binary.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "base/error.h"
#include "import/import.h"

namespace tonearm {
namespace {

using nlohmann::json;

constexpr std::size_t deepest_nesting = 64;
constexpr std::int64_t most_columns = 65535;
constexpr std::int64_t most_trees = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t category_limit = 1 << 24;  // XGBoost's: floats count no further

/// What a tree says about its training. Nothing here needs it, and it is more than a third of a file.
constexpr std::string_view statistics[] = {"base_weights", "loss_changes", "parents", "sum_hessian"};

template <typename T>
std::optional<T> parse(std::string_view text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

float to_float(double value) {
  constexpr float largest = std::numeric_limits<float>::max(),
                  infinity = std::numeric_limits<float>::infinity();
  if (std::abs(value) > static_cast<double>(largest)) return value > 0 ? infinity : -infinity;
  return static_cast<float>(value);
}

/// XGBoost writes parameters as texts ("num_class": "3") and has written flags as true and false.
std::optional<std::int64_t> to_integer(const json& value) {
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_number_unsigned() && !std::in_range<std::int64_t>(value.get<std::uint64_t>()))
    return std::nullopt;
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_string()) return parse<std::int64_t>(value.get_ref<const std::string&>());
  return std::nullopt;
}

/// A value as a message shows it.
std::string shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 40) text.replace(40, std::string::npos, "...");
  return text;
}

/// Builds the document, and sees to it that neither nesting nor announced sizes cost more than the file has
/// bytes: UBJSON can announce 10^18 elements that take no bytes.
class DocumentBuilder : public nlohmann::json_sax<json> {
 public:
  DocumentBuilder(const std::string& path, std::size_t bytes) : path_(path), events_left_(bytes + 1) {}

  json take() { return std::move(document_); }

  bool null() override { return add(nullptr), true; }
  bool boolean(bool value) override { return add(value), true; }
  bool number_integer(number_integer_t value) override { return add(value), true; }
  bool number_unsigned(number_unsigned_t value) override { return add(value), true; }
  bool number_float(number_float_t value, const string_t& text) override {
    // XGBoost reads decimals as floats; by way of a double they would be rounded twice.
    const std::optional<float> exact = parse<float>(text);
    return add(static_cast<double>(exact ? *exact : to_float(value))), true;
  }
  bool string(string_t& value) override { return add(std::move(value)), true; }
  bool binary(binary_t&) override { refuse("is binary data: no XGBoost model has any"); }
  bool start_object(std::size_t) override { return open(json::object()), true; }
  bool start_array(std::size_t) override { return open(json::array()), true; }
  bool end_object() override { return open_.pop_back(), true; }
  bool end_array() override { return open_.pop_back(), true; }
  bool key(string_t& name) override {
    count();
    Open& object = open_.back();
    object.key = std::move(name);
    if (object.value && object.value->contains(object.key)) refuse("is there twice: once is allowed");
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..."
    std::string reason = error.what();
    reason = reason.substr(std::min(reason.size(), reason.find("] ") + 2));
    json shown_reason = reason;  // may quote bytes of the file
    reason = shown_reason.dump(-1, ' ', true, json::error_handler_t::replace);
    refuse("is cut off or damaged (" + reason.substr(1, reason.size() - 2) +
           "): save the model again with save_model()");
  }

 private:
  struct Open {
    json* value;  // null where it is not kept
    std::string key;
  };

  [[noreturn]] void refuse(const std::string& what) const {
    std::string place;
    for (const Open& open : open_) {
      if (open.value && open.value->is_array()) {
        place += '[' + std::to_string(open.value->size()) + ']';
      } else if (!open.key.empty()) {
        place += (place.empty() ? "" : ".") + open.key;
      }
    }
    throw Error(path_ + ": " + (place.empty() ? "the document" : place) + ' ' + what);
  }

  void count() {
    if (events_left_-- == 0) refuse("announces more elements than the file has bytes");
  }

  /// Where the value came to lie; null where it is not kept.
  json* add(json value) {
    count();
    if (open_.empty()) return &(document_ = std::move(value));
    json* parent = open_.back().value;
    if (!parent) return nullptr;
    if (parent->is_array()) {
      parent->push_back(std::move(value));
      return &parent->back();
    }
    const std::string& key = open_.back().key;
    if (std::ranges::find(statistics, key) != std::end(statistics)) return nullptr;
    return &((*parent)[key] = std::move(value));
  }

  void open(json value) {
    // Before the parser goes any deeper: it is recursive.
    if (open_.size() == deepest_nesting)
      refuse("is nested more than " + std::to_string(deepest_nesting) + " levels deep: no XGBoost model is");
    json* place = add(std::move(value));
    open_.push_back({place, {}});
  }

  const std::string& path_;
  std::size_t events_left_;
  json document_;
  std::vector<Open> open_;
};

/// XGBoost writes NaN and infinities bare, which JSON does not know: as strings they are read as numbers.
std::string with_quoted_specials(std::string_view text) {
  std::string quoted;
  quoted.reserve(text.size() + text.size() / 8);
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    if (in_string && text[i] == '\\') {
      quoted += text.substr(i, 2);
      i += 2;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    std::size_t length = 0;
    if (!in_string)
      for (const std::string_view special : {"NaN", "Infinity", "-Infinity"})
        if (text.substr(i).starts_with(special)) length = special.size();
    if (length > 0) {
      (quoted += '"').append(text.substr(i, length)) += '"';
      i += length;
    } else {
      quoted += text[i++];
    }
  }
  return quoted;
}

constexpr std::string_view spaces = " \t\r\n";

bool is_json(std::string_view bytes) {
  const std::size_t open = bytes.find_first_not_of(spaces);
  if (open == std::string_view::npos || bytes[open] != '{') return false;
  const std::size_t next = bytes.find_first_not_of(spaces, open + 1);
  return next == std::string_view::npos || bytes[next] == '"' || bytes[next] == '}';
}

json read_document(std::string_view bytes, const std::string& path) {
  DocumentBuilder builder(path, bytes.size());
  if (!is_json(bytes)) {
    json::sax_parse(bytes.begin(), bytes.end(), &builder, json::input_format_t::ubjson);
  } else if (bytes.find("NaN") != bytes.npos || bytes.find("Infinity") != bytes.npos) {
    const std::string quoted = with_quoted_specials(bytes);
    json::sax_parse(quoted.begin(), quoted.end(), &builder);
  } else {
    json::sax_parse(bytes.begin(), bytes.end(), &builder);
  }
  return builder.take();
}

/// A value of the document with its name, e.g. "learner.gradient_booster.model.trees[3]".
class Place {
 public:
  Place(const json& value, const std::string& path, std::string name)
      : value_(&value), path_(&path), name_(std::move(name)) {}

  [[noreturn]] void refuse(const std::string& what) const { throw Error(*path_ + ": " + name_ + ' ' + what); }

  const json& value() const { return *value_; }
  bool has(const std::string& key) const { return value_->is_object() && value_->contains(key); }

  Place operator[](const std::string& key) const {
    const Place member(*value_, *path_, name_.empty() ? key : name_ + '.' + key);
    if (!has(key)) member.refuse("is missing: save the model again with save_model()");
    return {(*value_)[key], *path_, member.name_};
  }
  /// Of a list.
  Place operator[](std::size_t index) const {
    return {(*value_)[index], *path_, name_ + '[' + std::to_string(index) + ']'};
  }
  std::size_t size() const {
    if (!value_->is_array()) refuse("is " + shown(*value_) + ": expected a list");
    return value_->size();
  }

  std::string text() const {
    if (!value_->is_string()) refuse("is " + shown(*value_) + ": expected a text");
    return value_->get<std::string>();
  }

  std::int64_t integer(std::int64_t lowest, std::int64_t highest) const {
    const std::optional<std::int64_t> found = to_integer(*value_);
    if (!found || *found < lowest || *found > highest)
      refuse("is " + shown(*value_) + ": expected an integer from " + std::to_string(lowest) + " to " +
             std::to_string(highest));
    return *found;
  }

  /// NaN and infinities are numbers, too.
  float number() const {
    std::optional<float> found;
    if (value_->is_number()) found = to_float(value_->get<double>());
    if (value_->is_string()) found = parse<float>(value_->get_ref<const std::string&>());
    if (!found) refuse("is " + shown(*value_) + ": expected a number");
    return *found;
  }

  template <typename T>
  std::vector<T> integers(std::int64_t lowest, std::int64_t highest) const {
    std::vector<T> result;
    result.reserve(size());
    for (std::size_t i = 0; i < size(); ++i) {
      // An element's name is made only where a message needs it.
      const std::optional<std::int64_t> found = to_integer((*value_)[i]);
      const bool fits = found && *found >= lowest && *found <= highest;
      result.push_back(static_cast<T>(fits ? *found : (*this)[i].integer(lowest, highest)));
    }
    return result;
  }

  std::vector<float> numbers() const {
    std::vector<float> result;
    result.reserve(size());
    for (std::size_t i = 0; i < size(); ++i)
      result.push_back((*value_)[i].is_number_float() ? to_float((*value_)[i].get<double>())
                                                      : (*this)[i].number());
    return result;
  }

 private:
  const json* value_;
  const std::string* path_;
  std::string name_;
};

/// Of XGBoost, which wrote the file. Only what it did with the numbers counts, not what later ones do.
using Version = std::pair<std::int64_t, std::int64_t>;

struct Objective {
  std::string_view name;
  Link link;
  bool base_is_probability;
};

constexpr Objective objectives[] = {
    {"binary:logistic", Link::sigmoid, true},
    {"binary:logitraw", Link::identity, false},
    {"multi:softmax", Link::softmax, false},
    {"multi:softprob", Link::softmax, false},
    {"rank:map", Link::identity, false},
    {"rank:ndcg", Link::identity, false},
    {"rank:pairwise", Link::identity, false},
    {"reg:absoluteerror", Link::identity, false},
    {"reg:linear", Link::identity, false},
    {"reg:logistic", Link::sigmoid, true},
    {"reg:pseudohubererror", Link::identity, false},
    {"reg:quantileerror", Link::identity, false},
    {"reg:squarederror", Link::identity, false},
    {"reg:squaredlogerror", Link::identity, false},
};

const Objective& read_objective(const Place& place) {
  const std::string name = place.text();
  const auto found = std::ranges::find(objectives, name, &Objective::name);
  if (found != std::end(objectives)) return *found;
  if (name == "binary:hinge")
    place.refuse(
        "is binary:hinge, whose 0 or 1 can turn with the rounding of a sum: train with binary:logistic or "
        "binary:logitraw");
  std::string known;
  for (const Objective& objective : objectives)
    known.append(known.empty() ? "" : ", ").append(objective.name);
  place.refuse("is " + shown(name) + ", whose predictions cannot be computed here: train with one of " +
               known);
}

/// One base score, or one for each output ("[5E-1,2E-1]", since 3.1), as scores.
std::vector<double> read_base(const Place& place, std::size_t outputs, const Objective& objective,
                              const Version& version) {
  const json& value = place.value();
  const bool is_probability =
      objective.base_is_probability || (objective.name == "binary:logitraw" && version < Version(1, 3));
  std::vector<float> scores;
  if (value.is_string() && value.get_ref<const std::string&>().starts_with('[')) {
    std::string_view rest = value.get_ref<const std::string&>();
    if (!rest.ends_with(']')) place.refuse("is " + shown(value) + ": expected a list that ends with ]");
    rest = rest.substr(1, rest.size() - 2);
    for (bool more = true; more;) {
      const std::size_t comma = rest.find(',');
      more = comma != rest.npos;
      const std::optional<float> score = parse<float>(rest.substr(0, comma));
      if (!score) place.refuse("is " + shown(value) + ": expected numbers between the commas");
      scores.push_back(*score);
      if (more) rest.remove_prefix(comma + 1);
    }
  } else {
    scores.push_back(place.number());
  }
  if (scores.size() != 1 && scores.size() != outputs)
    place.refuse("holds " + std::to_string(scores.size()) + " numbers for " + std::to_string(outputs) +
                 " outputs: expected one, or one for each");
  std::vector<double> base;
  for (const float score : scores) {
    if (!std::isfinite(score)) place.refuse("is " + shown(value) + ": expected a finite number");
    if (is_probability && (score <= 0 || score >= 1))
      place.refuse("is " + shown(value) + ": expected a probability between 0 and 1, as " +
                   std::string(objective.name) + " has it");
    // In float, as XGBoost computes it.
    const float odds = 1 / score - 1;
    const double logit = -std::log(static_cast<double>(odds));
    base.push_back(is_probability ? static_cast<double>(to_float(logit)) : static_cast<double>(score));
  }
  base.resize(outputs, base.front());
  return base;
}

/// Names, and the categories of those columns that were texts in the training data.
std::vector<ImportedColumn> read_columns(const Place& learner, const Place& model, std::size_t count,
                                         std::vector<std::string>& remarks) {
  std::vector<ImportedColumn> columns(count);
  for (std::size_t i = 0; i < count; ++i) columns[i].name = 'f' + std::to_string(i);
  if (learner.has("feature_names") && learner["feature_names"].size() > 0) {
    const Place names = learner["feature_names"];
    if (names.size() != count)
      names.refuse("holds " + std::to_string(names.size()) + " names for " + std::to_string(count) +
                   " features: expected as many");
    std::set<std::string> taken;
    for (std::size_t i = 0; i < count; ++i) {
      columns[i].name = names[i].text();
      if (!taken.insert(columns[i].name).second)
        names[i].refuse("is " + shown(columns[i].name) + " as an earlier one is: rename one of the columns");
    }
  }

  if (!model.has("cats")) return columns;
  const Place lists = model["cats"]["enc"];
  if (lists.size() == 0) return columns;
  if (lists.size() != count)
    lists.refuse("holds " + std::to_string(lists.size()) + " lists for " + std::to_string(count) +
                 " features: expected as many");
  for (std::size_t i = 0; i < count; ++i) {
    const Place list = lists[i], values = list["values"];
    if (!list.has("offsets")) {
      if (values.size() > 0)
        remarks.push_back(
            "The column \"" + columns[i].name +
            "\" takes the place of a category in the training data's list of numbers, from 0 on, "
            "and not that number.");
      continue;
    }
    const auto bytes = values.integers<unsigned char>(-128, 255);
    const auto offsets = list["offsets"].integers<std::size_t>(0, static_cast<std::int64_t>(bytes.size()));
    for (std::size_t k = 1; k < offsets.size(); ++k) {
      if (offsets[k] < offsets[k - 1])
        list["offsets"][k].refuse("is below the one before: expected them to rise");
      columns[i].vocabulary.emplace_back(bytes.begin() + static_cast<std::ptrdiff_t>(offsets[k - 1]),
                                         bytes.begin() + static_cast<std::ptrdiff_t>(offsets[k]));
    }
    const std::set<std::string_view> distinct(columns[i].vocabulary.begin(), columns[i].vocabulary.end());
    if (distinct.size() != columns[i].vocabulary.size())
      list.refuse("names a category twice: expected each once");
  }
  return columns;
}

/// Category splits, and how many bytes they may still take: a node of a few bytes can name category 2^24 - 1.
struct CategorySplits {
  std::vector<CategorySplit> splits;
  std::size_t bytes_left;
};

/// Where node i's categories are in `categories`; empty for nodes that ask for a number.
std::vector<std::pair<std::size_t, std::size_t>> category_segments(const Place& tree, std::size_t nodes,
                                                                   std::size_t categories) {
  std::vector<std::pair<std::size_t, std::size_t>> segments(nodes);
  if (!tree.has("categories_nodes")) return segments;
  const auto highest = static_cast<std::int64_t>(categories);
  const auto asked = tree["categories_nodes"].integers<std::size_t>(0, static_cast<std::int64_t>(nodes) - 1);
  const auto begins = tree["categories_segments"].integers<std::size_t>(0, highest);
  const auto sizes = tree["categories_sizes"].integers<std::size_t>(1, highest);
  if (begins.size() != asked.size() || sizes.size() != asked.size())
    tree["categories_sizes"].refuse("and categories_segments hold " + std::to_string(sizes.size()) + " and " +
                                    std::to_string(begins.size()) + " numbers for " +
                                    std::to_string(asked.size()) + " categories_nodes: expected as many");
  for (std::size_t k = 0; k < asked.size(); ++k) {
    if (sizes[k] > categories - begins[k])
      tree["categories_sizes"][k].refuse("reaches beyond the end of the " + std::to_string(categories) +
                                         " categories");
    if (segments[asked[k]].second > 0) tree["categories_nodes"][k].refuse("is there twice: once is allowed");
    segments[asked[k]] = {begins[k], sizes[k]};
  }
  return segments;
}

/// Breadth first, so that children come after their parent. Nodes that pruning has left are not reached.
Tree read_tree(const Place& place, std::size_t features, float weight, const Version& version,
               CategorySplits& category_splits) {
  const Place parameters = place["tree_param"];
  if (parameters.has("size_leaf_vector") && parameters["size_leaf_vector"].integer(0, most_trees) > 1)
    parameters["size_leaf_vector"].refuse(
        "is above 1: trees whose leaves hold a value for each target cannot be imported; train with "
        "multi_strategy = one_output_per_tree");

  const auto left = place["left_children"].integers<std::int32_t>(-1, most_trees);
  const std::size_t nodes = left.size();
  const auto as_many = [&](const char* name, auto values) {
    if (values.size() != nodes)
      place[name].refuse("holds " + std::to_string(values.size()) + " values for " + std::to_string(nodes) +
                         " nodes: expected as many");
    return values;
  };
  const auto right =
      as_many("right_children", place["right_children"].integers<std::int32_t>(-1, most_trees));
  const auto feature = as_many("split_indices", place["split_indices"].integers<std::int32_t>(0, most_trees));
  const auto condition = as_many("split_conditions", place["split_conditions"].numbers());
  const auto default_left = as_many("default_left", place["default_left"].integers<char>(0, 1));
  std::vector<char> by_category(nodes, 0);
  if (place.has("split_type")) by_category = as_many("split_type", place["split_type"].integers<char>(0, 1));
  std::vector<std::int32_t> categories;
  if (place.has("categories")) categories = place["categories"].integers<std::int32_t>(0, category_limit - 1);
  const auto segments = category_segments(place, nodes, categories.size());
  if (nodes == 0) place["left_children"].refuse("is empty: a tree has one node at least");
  parameters["num_nodes"].integer(static_cast<std::int64_t>(nodes), static_cast<std::int64_t>(nodes));

  Tree tree;
  std::vector<std::size_t> reached = {0};
  std::vector<bool> is_reached(nodes, false);
  is_reached[0] = true;
  const auto reach = [&](const char* side, const std::vector<std::int32_t>& children, std::size_t parent) {
    if (children[parent] < 0 || static_cast<std::size_t>(children[parent]) >= nodes)
      place[side][parent].refuse("is " + std::to_string(children[parent]) + ": expected one of the " +
                                 std::to_string(nodes) + " nodes");
    const auto child = static_cast<std::size_t>(children[parent]);
    if (is_reached[child])
      place[side][parent].refuse("is " + std::to_string(child) +
                                 ", which is reached on another way already: expected a tree");
    is_reached[child] = true;
    reached.push_back(child);
    return static_cast<std::int32_t>(reached.size() - 1);
  };

  for (std::size_t k = 0; k < reached.size(); ++k) {
    const std::size_t i = reached[k];
    TreeNode node;
    if (left[i] == -1 && right[i] == -1) {
      if (!std::isfinite(condition[i]))
        place["split_conditions"][i].refuse("is the value of a leaf: expected a finite number");
      node.value = static_cast<double>(condition[i]) * static_cast<double>(weight);
      tree.nodes.push_back(node);
      continue;
    }
    node.feature = feature[i];
    if (static_cast<std::size_t>(feature[i]) >= features)
      place["split_indices"][i].refuse("is " + std::to_string(feature[i]) + ": expected one of the " +
                                       std::to_string(features) + " features");
    node.missing_left = default_left[i] != 0;
    node.left = reach("left_children", left, i);
    node.right = reach("right_children", right, i);
    if (by_category[i] != 0) {
      const auto [begin, size] = segments[i];
      if (size == 0)
        place["categories_nodes"].refuse("lacks node " + std::to_string(i) + ", which asks for categories");
      const std::span<const std::int32_t> chosen(categories.data() + begin, size);
      const auto count = static_cast<std::size_t>(*std::ranges::max_element(chosen)) + 1;
      if (count / 8 > category_splits.bytes_left)
        place["categories"].refuse("are numbered up to " + std::to_string(count - 1) +
                                   " with large gaps, in many nodes: number them from 0 on without gaps");
      category_splits.bytes_left -= count / 8;
      CategorySplit split;
      split.right.assign(count, false);
      for (const std::int32_t category : chosen) split.right[static_cast<std::size_t>(category)] = true;
      split.missing_right = !node.missing_left;
      if (version == Version(1, 6)) {
        // It sent the default way what its sets, which are of whole words, have no bit for: the others, left.
        split.right.resize((count + 31) / 32 * 32, false);
        split.other_right = split.between_right = split.missing_right;
      }
      node.category_split = static_cast<std::int32_t>(category_splits.splits.size());
      category_splits.splits.push_back(std::move(split));
    } else {
      // XGBoost asks x < t of floats.
      constexpr float infinity = std::numeric_limits<float>::infinity();
      if (std::isnan(condition[i])) place["split_conditions"][i].refuse("is NaN: expected a threshold");
      node.threshold = condition[i] == -infinity ? std::numeric_limits<float>::quiet_NaN()
                                                 : std::nextafter(condition[i], -infinity);
    }
    tree.nodes.push_back(node);
  }
  return tree;
}

/// How many trees the trainer's own predict() uses. XGBClassifier and its like stop at the best iteration,
/// and leave their mark in the file; a Booster does not stop.
std::size_t used_trees(const Place& learner, const Place& model, std::size_t trees, std::size_t outputs,
                       std::vector<std::string>& remarks) {
  if (!learner.has("attributes") || !learner["attributes"].has("best_iteration")) return trees;
  const Place attributes = learner["attributes"], best = attributes["best_iteration"];
  const auto iterations = static_cast<std::size_t>(best.integer(0, most_trees)) + 1;
  const Place parameters = model["gbtree_model_param"];
  std::size_t used = 0;
  if (model.has("iteration_indptr")) {  // since 2.0
    const Place ends = model["iteration_indptr"];
    if (iterations >= ends.size())
      best.refuse("is beyond the last iteration, " + std::to_string(ends.size()) +
                  " are in iteration_indptr");
    used = static_cast<std::size_t>(ends[iterations].integer(1, static_cast<std::int64_t>(trees)));
  } else if (parameters.has("num_parallel_tree")) {
    used = iterations * outputs *
           static_cast<std::size_t>(parameters["num_parallel_tree"].integer(1, most_trees));
  } else if (attributes.has("best_ntree_limit")) {
    used = outputs * static_cast<std::size_t>(attributes["best_ntree_limit"].integer(1, most_trees));
  } else {
    used = iterations * outputs;
  }
  if (used > trees)
    best.refuse("asks for " + std::to_string(used) + " trees, of which the file holds " +
                std::to_string(trees));
  if (used == trees) return trees;
  const bool stops = attributes.has("scikit_learn");
  remarks.push_back(
      "Early stopping found iteration " + std::to_string(iterations - 1) + " to be the best: " +
      (stops ? "as in predict() of XGBoost's scikit-learn interface, which saved the model, the " +
                   std::to_string(trees - used) + " trees after it are left out."
             : "as in Booster.predict(), the " + std::to_string(trees - used) +
                   " trees after it are used nevertheless; save booster[:" + std::to_string(iterations) +
                   "] to leave them out."));
  return stops ? used : trees;
}

/// The binary format up to 3.0: a struct of 136 bytes, then the objective's name after its length.
bool is_old_binary(std::string_view bytes) {
  if (bytes.starts_with("binf") || bytes.starts_with("bs64")) return true;
  constexpr std::size_t at = 136;
  if (bytes.size() < at + 8 + 4) return false;
  const auto length = static_cast<unsigned char>(bytes[at]);
  const std::string_view name = bytes.substr(at + 8, length);
  return bytes.substr(at + 1, 7) == std::string_view("\0\0\0\0\0\0\0", 7) && name.size() == length &&
         (name.starts_with("binary:") || name.starts_with("reg:") || name.starts_with("multi:") ||
          name.starts_with("rank:") || name.starts_with("count:") || name.starts_with("survival:"));
}

bool is_text_dump(std::string_view bytes) { return bytes.starts_with("booster["); }

bool is_json_dump(std::string_view bytes) {
  const std::size_t start = bytes.find_first_not_of(spaces);
  return start != bytes.npos && bytes[start] == '[' && bytes.substr(0, 200).find("\"nodeid\"") != bytes.npos;
}

}  // namespace

bool is_xgboost(std::string_view bytes) {
  if (is_text_dump(bytes) || is_json_dump(bytes) || is_old_binary(bytes)) return true;
  if (!is_json(bytes) && !bytes.starts_with('{')) return false;
  return bytes.find("gradient_booster") != bytes.npos || bytes.substr(0, 32).find("learner") != bytes.npos;
}

ImportedModel import_xgboost(std::string_view bytes, const std::string& path) {
  if (is_text_dump(bytes) || is_json_dump(bytes))
    throw Error(path +
                ": is a dump of XGBoost's trees, which lacks the base score: save the model with "
                "save_model('model.json') instead");
  if (is_old_binary(bytes))
    throw Error(path +
                ": is in XGBoost's old binary format: load it with XGBoost 3.0 or earlier and save it with "
                "save_model('model.json')");
  const json document = read_document(bytes, path);
  const Place root(document, path, "");
  if (root.has("Model") && root.has("Config"))
    throw Error(path +
                ": is the memory of a booster, as pickle keeps it: save the model with "
                "save_model('model.json')");
  const Place learner = root["learner"];
  const auto versions = root["version"].integers<std::int64_t>(0, most_trees);
  if (versions.size() != 3)
    root["version"].refuse("holds " + std::to_string(versions.size()) + " numbers: expected three");
  const Version version(versions[0], versions[1]);
  if (version.first < 1 || version.first > 3)
    root["version"].refuse("starts with " + std::to_string(version.first) +
                           ", of which nothing is known here: save the model with XGBoost 1, 2 or 3");

  const Place booster = learner["gradient_booster"];
  const std::string kind = booster["name"].text();
  if (kind == "gblinear")
    booster["name"].refuse("is gblinear, a linear model: only trees (gbtree, dart) can be imported");
  if (kind != "gbtree" && kind != "dart")
    booster["name"].refuse("is " + shown(kind) + ": expected gbtree or dart");
  const Place gbtree = kind == "dart" ? booster["gbtree"] : booster;
  if (!gbtree.has("model") && (gbtree.has("gbtree_train_param") || booster.has("gbtree_train_param")))
    throw Error(path +
                ": is the configuration of a booster without its trees: save the model with "
                "save_model('model.json')");
  const Place model = gbtree["model"];
  const Objective& objective = read_objective(learner["objective"]["name"]);
  const Place parameters = learner["learner_model_param"];
  const auto features = static_cast<std::size_t>(parameters["num_feature"].integer(1, most_columns));
  std::int64_t most_outputs = std::max<std::int64_t>(1, parameters["num_class"].integer(0, most_columns));
  if (parameters.has("num_target"))
    most_outputs = std::max(most_outputs, parameters["num_target"].integer(0, most_columns));
  const auto outputs = static_cast<std::size_t>(most_outputs);

  ImportedModel imported;
  imported.format = "XGBoost " + std::to_string(versions[0]) + '.' + std::to_string(versions[1]) + '.' +
                    std::to_string(versions[2]) + (is_json(bytes) ? " JSON" : " UBJSON");
  imported.task = std::string(objective.name) + ", " + kind;
  imported.columns = read_columns(learner, model, features, imported.remarks);
  if (objective.name == "multi:softmax")
    imported.remarks.push_back(
        "multi:softmax predicts the most probable class: here, as of multi:softprob, the probabilities of "
        "all "
        "classes are given.");

  const Place trees = model["trees"];
  const auto outputs_of_trees = model["tree_info"].integers<std::size_t>(0, most_outputs - 1);
  if (outputs_of_trees.size() != trees.size())
    model["tree_info"].refuse("holds " + std::to_string(outputs_of_trees.size()) + " numbers for " +
                              std::to_string(trees.size()) + " trees: expected as many");
  const auto count = static_cast<std::int64_t>(trees.size());
  model["gbtree_model_param"]["num_trees"].integer(count, count);
  if (trees.size() == 0) trees.refuse("is empty: train one tree at least");
  std::vector<float> weights(trees.size(), 1.0f);
  if (kind == "dart") {
    weights = booster["weight_drop"].numbers();
    if (weights.size() != trees.size())
      booster["weight_drop"].refuse("holds " + std::to_string(weights.size()) + " numbers for " +
                                    std::to_string(trees.size()) + " trees: expected as many");
    for (std::size_t t = 0; t < weights.size(); ++t)
      if (!std::isfinite(weights[t])) booster["weight_drop"][t].refuse("is not finite: expected a weight");
  }
  const std::size_t used = used_trees(learner, model, trees.size(), outputs, imported.remarks);

  std::vector<std::size_t> trees_of(outputs, 0);
  for (std::size_t t = 0; t < used; ++t) ++trees_of[outputs_of_trees[t]];
  for (std::size_t k = 0; k < outputs; ++k)
    if (trees_of[k] != used / outputs || used % outputs != 0)
      model["tree_info"].refuse("gives output " + std::to_string(k) + ' ' + std::to_string(trees_of[k]) +
                                " of " + std::to_string(used) + " trees for " + std::to_string(outputs) +
                                " outputs: expected as many for each");

  ImportedTrees result;
  result.link = objective.link;
  TreeEnsemble& ensemble = result.ensemble;
  ensemble.base = read_base(parameters["base_score"], outputs, objective, version);
  // Room for a model with few nodes and high numbers, and for what honest sets take beside their lists.
  CategorySplits category_splits{{}, (std::size_t{16} << 20) + 16 * bytes.size()};
  ensemble.trees.resize(used);
  std::vector<std::size_t> next(outputs);
  for (std::size_t k = 0; k < outputs; ++k) next[k] = k * (used / outputs);
  for (std::size_t t = 0; t < used; ++t)
    ensemble.trees[next[outputs_of_trees[t]]++] =
        read_tree(trees[t], features, weights[t], version, category_splits);
  ensemble.category_splits = std::move(category_splits.splits);
  imported.predictor = std::move(result);
  return imported;
}

}  // namespace tonearm
