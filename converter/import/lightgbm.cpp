// LightGBM's text format, versions 2 to 4: a header of key=value lines, the trees as such lines too, and
// behind them importances, the trainer's parameters and the categories of pandas columns.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>

#include "base/error.h"
#include "import/import.h"

namespace tonearm {
namespace {

/// The first of `words`, which loses it and the spaces around it; empty at the end.
std::string_view take_word(std::string_view& words) {
  words.remove_prefix(std::min(words.find_first_not_of(' '), words.size()));
  const std::string_view word = words.substr(0, words.find(' '));
  words.remove_prefix(word.size());
  return word;
}

std::size_t word_count(std::string_view words) {
  std::size_t count = 0;
  while (!take_word(words).empty()) ++count;
  return count;
}

template <typename T>
bool parse(std::string_view word, T& value) {
  const char* const end = word.data() + word.size();
  const auto [rest, status] = std::from_chars(word.data(), end, value);
  return status == std::errc() && rest == end;
}

/// Other bytes' names could neither be shown nor written as JSON.
bool is_utf8_text(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 127; }))
    return false;
  try {
    return !nlohmann::json(text).dump().empty();
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

/// A piece of the file for a message, whatever it holds.
std::string excerpt(std::string_view text) {
  constexpr std::size_t most = 40;
  std::string shown;
  for (const char c : text.substr(0, most)) shown += c >= ' ' && c < 127 ? c : '?';
  return "'" + shown + (text.size() > most ? "...'" : "'");
}

/// The file's lines, one after the other.
class Lines {
 public:
  Lines(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  /// The next line; false at the end of the file.
  bool next() {
    if (rest_.empty()) return false;
    const std::size_t length = std::min(rest_.find('\n'), rest_.size());
    text_ = rest_.substr(0, length);
    if (text_.ends_with('\r')) text_.remove_suffix(1);
    rest_.remove_prefix(std::min(length + 1, rest_.size()));
    ++number_;
    return true;
  }
  /// The next line that is not empty.
  bool next_filled() {
    while (next())
      if (!text_.empty()) return true;
    return false;
  }

  std::string_view text() const { return text_; }
  std::size_t number() const { return number_; }
  const std::string& path() const { return path_; }

  [[noreturn]] void refuse(const std::string& what) const { refuse(number_, what); }
  [[noreturn]] void refuse(std::size_t line, const std::string& what) const {
    throw Error(path_ + ", line " + std::to_string(line) + ": " + what);
  }

 private:
  std::string_view rest_, text_;
  const std::string& path_;
  std::size_t number_ = 0;
};

/// The key=value lines of the header or of a tree, as far as the keys are needed.
class Section {
 public:
  Section(const Lines& lines, std::string name, std::span<const std::string_view> keys)
      : lines_(lines), name_(std::move(name)), line_(lines.number()) {
    for (const std::string_view key : keys) entries_.push_back({key, {}, 0});
  }

  void add_line() {
    const std::string_view text = lines_.text();
    const std::size_t equals = text.find('=');
    if (equals == text.npos)
      lines_.refuse("expected key=value in " + name_ + ", found " + excerpt(text) + "; " + export_again);
    for (Entry& entry : entries_) {
      if (entry.key != text.substr(0, equals)) continue;
      if (entry.line != 0)
        refuse(entry.key, "is there a second time, after line " + std::to_string(entry.line),
               lines_.number());
      entry.value = text.substr(equals + 1);
      entry.line = lines_.number();
    }
  }

  bool has(std::string_view key) const { return find(key).line != 0; }

  /// Throws Error if the key is not there.
  std::string_view text(std::string_view key) const {
    const Entry& entry = find(key);
    if (entry.line == 0) refuse(key, "is missing; " + std::string(export_again));
    return entry.value;
  }

  std::int32_t integer(std::string_view key, std::int32_t least) const {
    std::string_view words = text(key);
    const std::string_view word = take_word(words);
    std::int32_t value = 0;
    if (!parse(word, value) || value < least || word_count(words) != 0)
      refuse(key,
             "is " + excerpt(text(key)) + "; expected one integer, " + std::to_string(least) + " or more");
    return value;
  }

  /// Throws Error unless there are `count` values, `why`, before memory is taken for them.
  template <typename T>
  std::vector<T> list(std::string_view key, std::size_t count, const std::string& why) const {
    std::string_view words = text(key);
    const std::size_t found = word_count(words);
    if (found != count)
      refuse(key, "has " + std::to_string(found) + " values; expected " + std::to_string(count) + ", " + why +
                      "; " + export_again);
    std::vector<T> values(count);
    for (T& value : values) {
      const std::string_view word = take_word(words);
      if constexpr (std::is_same_v<T, std::string_view>)
        value = word;
      else if (!parse(word, value))
        refuse(key, "holds " + excerpt(word) + "; expected " + kind_of<T>());
    }
    return values;
  }

  /// The line of the key, or of the section's first where the key is missing.
  [[noreturn]] void refuse(std::string_view key, const std::string& what, std::size_t line = 0) const {
    if (line == 0) line = has(key) ? find(key).line : line_;
    lines_.refuse(line, std::string(key) + " of " + name_ + " " + what);
  }
  [[noreturn]] void refuse(const std::string& what) const { lines_.refuse(line_, name_ + " " + what); }

  static constexpr const char* export_again =
      "was the file cut off or edited? Save the model again with Booster.save_model()";

 private:
  struct Entry {
    std::string_view key, value;
    std::size_t line;  // 0 while it has not been seen
  };

  const Entry& find(std::string_view key) const {
    return *std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  }

  template <typename T>
  static std::string kind_of() {
    if constexpr (std::is_floating_point_v<T>) return "a number in the range of float64";
    return "an integer from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
           std::to_string(std::numeric_limits<T>::max());
  }

  const Lines& lines_;
  std::string name_;
  std::size_t line_;
  std::vector<Entry> entries_;
};

constexpr std::string_view header_keys[] = {"version",         "num_class", "num_tree_per_iteration",
                                            "max_feature_idx", "objective", "feature_names",
                                            "feature_infos",   "tree_sizes"};
constexpr std::string_view tree_keys[] = {"num_leaves",     "num_cat",       "split_feature", "threshold",
                                          "decision_type",  "left_child",    "right_child",   "leaf_value",
                                          "cat_boundaries", "cat_threshold", "is_linear"};

/// x <= the result, for every float32 x, where LightGBM finds x <= threshold.
float float_threshold(double threshold) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float largest = std::numeric_limits<float>::max();
  // Of a row, LightGBM passes on only numbers beyond 1e-35f to either side; all between are 0 to every split.
  constexpr float zero = 1e-35f;
  if (std::abs(threshold) <= static_cast<double>(zero))
    return threshold >= 0 ? zero : std::nextafter(-zero, -infinity);
  if (threshold > static_cast<double>(largest)) return std::isinf(threshold) ? infinity : largest;
  if (threshold < -static_cast<double>(largest)) return -infinity;
  const float nearest = static_cast<float>(threshold);
  return static_cast<double>(nearest) > threshold ? std::nextafter(nearest, -infinity) : nearest;
}

/// Appends the tree's sets of categories, which its nodes number from 0.
void append_category_splits(const Section& section, std::vector<CategorySplit>& splits) {
  const auto count = static_cast<std::size_t>(section.integer("num_cat", 0));
  if (count == 0) return;
  const auto ends = section.list<std::size_t>("cat_boundaries", count + 1, "one more than num_cat");
  const auto words = section.list<std::uint32_t>("cat_threshold", ends.back(), "the last of cat_boundaries");
  if (ends.front() != 0 || std::adjacent_find(ends.begin(), ends.end(), std::greater_equal()) != ends.end())
    section.refuse("cat_boundaries", "do not rise from 0");
  for (std::size_t i = 0; i < count; ++i) {
    // NaN, negative numbers, those that no int32 holds and categories that training did not see: right.
    CategorySplit& split = splits.emplace_back();
    split.other_right = split.missing_right = true;
    for (std::size_t word = ends[i]; word < ends[i + 1]; ++word)
      for (unsigned bit = 0; bit < 32; ++bit) split.right.push_back((words[word] >> bit & 1) == 0);
    while (!split.right.empty() && split.right.back()) split.right.pop_back();
    split.between_right = split.right.empty() || split.right[0];
  }
}

/// The tree with its root first and every child after its parent. Its sets of categories are appended to
/// `splits`.
Tree read_tree(const Section& section, std::size_t features, std::vector<CategorySplit>& splits) {
  const auto leaves = static_cast<std::size_t>(section.integer("num_leaves", 1));
  if (section.has("is_linear") && section.integer("is_linear", 0) != 0)
    section.refuse(
        "has linear models in its leaves (is_linear=1), which a Tonearm model cannot hold; train with "
        "linear_tree=false");
  const auto values = section.list<double>("leaf_value", leaves, "as num_leaves says");
  for (const double value : values)
    if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max())))
      section.refuse("leaf_value", "holds a value that is no finite number of float32's range");
  Tree tree;
  if (leaves == 1) {
    tree.nodes.push_back({.value = values[0]});
    return tree;
  }

  const std::size_t inner = leaves - 1;
  const std::string one_less = "one less than num_leaves";
  const auto axes = section.list<std::int32_t>("split_feature", inner, one_less);
  const auto thresholds = section.list<double>("threshold", inner, one_less);
  const auto lefts = section.list<std::int32_t>("left_child", inner, one_less);
  const auto rights = section.list<std::int32_t>("right_child", inner, one_less);
  const auto types = section.list<std::int32_t>("decision_type", inner, one_less);
  const std::size_t first_split = splits.size();
  append_category_splits(section, splits);

  const auto make_split = [&](std::size_t i) {
    TreeNode node;
    node.feature = axes[i];
    if (node.feature < 0 || static_cast<std::size_t>(node.feature) >= features)
      section.refuse("split_feature", "holds " + std::to_string(node.feature) + "; expected 0 to " +
                                          std::to_string(features - 1) + ", as max_feature_idx says");
    if (types[i] < 0 || types[i] > 11)
      section.refuse("decision_type", "holds " + std::to_string(types[i]) + "; expected 0 to 11");
    const bool categorical = (types[i] & 1) != 0, default_left = (types[i] & 2) != 0;
    const int missing = types[i] >> 2;  // 0: nothing is missing, NaN is 0; 1: 0 and NaN are; 2: NaN is
    if (categorical) {
      const double number = thresholds[i];
      if (!(number >= 0 && number < static_cast<double>(splits.size() - first_split)) ||
          number != std::floor(number))
        section.refuse("threshold",
                       "of a categorical split is no number of a set of categories, of which "
                       "num_cat announces " +
                           std::to_string(splits.size() - first_split));
      node.category_split = static_cast<std::int32_t>(first_split + static_cast<std::size_t>(number));
      return node;
    }
    if (std::isnan(thresholds[i])) section.refuse("threshold", "holds NaN; expected a number");
    node.threshold = float_threshold(thresholds[i]);
    node.missing_left = missing == 0 ? 0 <= thresholds[i] : default_left;
    node.zero_is_missing = missing == 1;
    return node;
  };

  tree.nodes.reserve(inner + leaves);
  std::vector<bool> seen_split(inner), seen_leaf(leaves);
  struct Child {
    std::int32_t number;  // of a split, or ~ of a leaf
    std::int32_t parent;
    bool left;
  };
  std::vector<Child> open = {{0, -1, false}};
  while (!open.empty()) {
    const Child child = open.back();
    open.pop_back();
    const bool leaf = child.number < 0;
    const auto number = static_cast<std::size_t>(leaf ? ~child.number : child.number);
    const char* const key = child.left ? "left_child" : "right_child";
    std::vector<bool>& seen = leaf ? seen_leaf : seen_split;
    if (number >= seen.size())
      section.refuse(key, "holds " + std::to_string(child.number) + "; expected " +
                              std::to_string(-static_cast<std::int64_t>(leaves)) + " to " +
                              std::to_string(inner - 1));
    if (seen[number])
      section.refuse(key, "holds " + std::to_string(child.number) +
                              ", which is a child elsewhere too, or the root: not a tree");
    seen[number] = true;
    const auto index = static_cast<std::int32_t>(tree.nodes.size());
    if (child.parent >= 0) {
      TreeNode& parent = tree.nodes[static_cast<std::size_t>(child.parent)];
      (child.left ? parent.left : parent.right) = index;
    }
    if (leaf) {
      tree.nodes.push_back({.value = values[number]});
    } else {
      tree.nodes.push_back(make_split(number));
      open.push_back({rights[number], index, false});
      open.push_back({lefts[number], index, true});
    }
  }
  // Each split that was reached has two children, each reached once: either all were, or some of both kinds
  // were not.
  if (tree.nodes.size() != inner + leaves)
    section.refuse("has nodes that are no children of others; " + std::string(Section::export_again));
  return tree;
}

/// What predict() makes of the scores.
void read_objective(const Section& header, std::size_t outputs, ImportedTrees& trees, ImportedModel& model) {
  std::string_view words = header.has("objective") ? header.text("objective") : std::string_view();
  if (!is_utf8_text(words)) header.refuse("objective", "is no UTF-8 text");
  model.task = words.empty() ? "none" : std::string(words);
  const std::string_view name = take_word(words);
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  std::optional<double> sigmoid, classes;
  bool square = false;
  while (true) {
    const std::string_view word = take_word(words);
    if (word.empty()) break;
    const auto parameter = [&](std::string_view key, std::optional<double>& value) {
      double number = 0;
      if (!word.starts_with(key)) return false;
      if (!parse(word.substr(key.size()), number) || !(number > 0) || std::isinf(number))
        header.refuse("objective", "has " + excerpt(word) + "; expected a finite number above 0");
      value = number;
      return true;
    };
    if (parameter("sigmoid:", sigmoid) || parameter("num_class:", classes)) continue;
    if (word == "sqrt")
      square = true;
    else if (word.find(':') == word.npos)
      header.refuse("objective", "has " + excerpt(word) + ", which is not known");
  }

  const auto transformed = [&](const char* into) {
    header.refuse("objective", "is " + excerpt(model.task) + ": its predict() turns a score into " + into +
                                   ", which a Tonearm model cannot; train with another objective");
  };
  if (is_one_of({"poisson", "gamma", "tweedie"})) transformed("exp(score)");
  if (is_one_of({"cross_entropy_lambda", "xentlambda"})) transformed("log(1 + exp(score))");
  if (square) transformed("sign(score) * score^2");

  const bool several = is_one_of({"multiclass", "multiclassova"});
  const bool identity = is_one_of({"regression", "regression_l1", "huber", "fair", "quantile", "mape"});
  const bool ranking = is_one_of({"lambdarank", "rank_xendcg"});
  const bool free = is_one_of({"", "none", "custom"});
  if (several) {
    if (header.integer("num_class", 1) < 2 || !header.has("num_class") ||
        classes != static_cast<double>(header.integer("num_class", 1)) ||
        outputs != static_cast<std::size_t>(*classes))
      header.refuse("objective", "is " + excerpt(model.task) +
                                     "; expected two classes or more, and the same "
                                     "number in num_class and num_tree_per_iteration");
  } else if (!free && outputs != 1) {
    header.refuse("num_tree_per_iteration",
                  "is " + std::to_string(outputs) + "; expected 1 for objective " + excerpt(model.task));
  }
  if (is_one_of({"binary", "multiclassova"}) && !sigmoid)
    header.refuse("objective", "is " + excerpt(model.task) + "; expected sigmoid:K in it");

  if (name == "multiclass") {
    trees.link = Link::softmax;
  } else if (is_one_of({"binary", "multiclassova"})) {
    trees.link = Link::sigmoid;
    trees.slope = *sigmoid;
  } else if (is_one_of({"cross_entropy", "xentropy"})) {
    trees.link = Link::sigmoid;
  } else if (free) {
    model.remarks.push_back("The file names no objective of LightGBM's own; the output is the trees' score.");
  } else if (ranking) {
    model.remarks.push_back("The output is a score to rank by, not a probability.");
  } else if (!identity) {
    header.refuse("objective", "is " + excerpt(name) + ", which is not known");
  }
}

/// The first releases of LightGBM 2 stored probabilities in the leaves of a forest and the later ones scores,
/// under the same version.
bool may_hold_probabilities(std::span<const Tree> trees) {
  return std::all_of(trees.begin(), trees.end(), [](const Tree& tree) {
    return std::all_of(tree.nodes.begin(), tree.nodes.end(), [](const TreeNode& node) {
      return node.feature >= 0 || (node.value >= 0 && node.value <= 1);
    });
  });
}

/// Reads a list of lists of numbers, texts and truth values, without recursion and without a value tree.
class VocabularyReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<std::vector<std::string>> lists;

  bool null() override { return depth_ == 0; }  // no pandas columns at all
  bool boolean(bool value) override { return add(value ? "True" : "False"); }
  bool number_integer(number_integer_t value) override { return add(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return add(text); }
  bool string(string_t& text) override { return add(std::move(text)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return false; }
  bool key(string_t&) override { return false; }
  bool end_object() override { return false; }
  bool start_array(std::size_t) override {
    if (++depth_ == 2) lists.emplace_back();
    return depth_ <= 2;
  }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  bool add(std::string text) {
    if (depth_ == 2) lists.back().push_back(std::move(text));
    return depth_ == 2;
  }

  int depth_ = 0;
};

/// From `feature_infos`: "[least:greatest]" of a number, "none" of a column that is constant, and the
/// categories as in "-1:0:2" of a column that is split by category.
bool is_categorical(std::string_view info) { return info != "none" && !info.starts_with('['); }

bool has_categories_below(std::string_view info, std::size_t end) {
  while (!info.empty()) {
    const std::string_view word = info.substr(0, info.find(':'));
    std::int64_t category = 0;
    if (!parse(word, category) || category < -1 || category >= static_cast<std::int64_t>(end)) return false;
    info.remove_prefix(std::min(word.size() + 1, info.size()));
  }
  return true;
}

/// Gives each categorical column its vocabulary. The file does not say whose they are: pandas columns that
/// were constant, or told to be numbers, have one too, and columns of integers that were told to be
/// categorical have none.
void assign_vocabularies(std::vector<std::vector<std::string>> vocabularies,
                         const std::vector<std::string_view>& infos, ImportedModel& model) {
  if (vocabularies.empty()) return;
  std::vector<std::size_t> categorical;
  for (std::size_t i = 0; i < infos.size(); ++i)
    if (is_categorical(infos[i])) categorical.push_back(i);
  bool fit = categorical.size() == vocabularies.size();
  for (std::size_t i = 0; fit && i < categorical.size(); ++i) {
    const std::vector<std::string>& words = vocabularies[i];
    fit = has_categories_below(infos[categorical[i]], words.size()) &&
          std::set<std::string_view>(words.begin(), words.end()).size() == words.size();
  }
  if (!fit) {
    model.remarks.push_back(
        "The file has the categories of " + std::to_string(vocabularies.size()) +
        " pandas columns and does not say of which; all columns are numbers, and those of "
        "type category take the number that pandas gives a category (cat.codes).");
    return;
  }
  std::string names;
  constexpr std::size_t most = 8;
  for (std::size_t i = 0; i < categorical.size(); ++i) {
    ImportedColumn& column = model.columns[categorical[i]];
    column.vocabulary = std::move(vocabularies[i]);
    if (i < most) names += (i > 0 ? ", " : "") + column.name;
  }
  if (categorical.size() > most) names += " and " + std::to_string(categorical.size() - most) + " more";
  model.remarks.push_back(
      "The file does not say whose the categories of its pandas columns are; they were given to the columns "
      "that it splits by category, in their order: " +
      names + ".");
}

/// What follows the trees: vocabularies if there are any.
std::vector<std::vector<std::string>> read_tail(Lines& lines) {
  constexpr std::string_view pandas = "pandas_categorical:";
  std::optional<VocabularyReader> reader;
  const bool marks_ends = lines.text() == "end of trees";  // of trees and of parameters; first files had none
  bool in_parameters = false;
  do {
    const std::string_view text = lines.text();
    if (text == "tree") lines.refuse("a second model begins; expected a file of one model");
    if (text == "parameters:") in_parameters = true;
    if (text == "end of parameters") in_parameters = false;
    if (text.empty() || in_parameters) continue;
    if (!text.starts_with(pandas)) {
      if (pandas.starts_with(text)) lines.refuse("the file ends within " + excerpt(pandas));
      continue;
    }
    if (reader) lines.refuse("pandas_categorical is there a second time; expected a file of one model");
    const std::string_view json = text.substr(pandas.size());
    if (!nlohmann::json::sax_parse(json, &reader.emplace()))
      lines.refuse("pandas_categorical is " + excerpt(json) + "; expected null or a JSON list of lists of " +
                   "categories; " + Section::export_again);
  } while (lines.next());
  if (in_parameters && marks_ends)
    lines.refuse("the file ends among the parameters; " + std::string(Section::export_again));
  return reader ? std::move(reader->lists) : std::vector<std::vector<std::string>>();
}

void read_columns(const Section& header, std::size_t features, ImportedModel& model) {
  const std::string why = "one more than max_feature_idx";
  std::set<std::string_view> seen;
  for (const std::string_view name : header.list<std::string_view>("feature_names", features, why)) {
    if (!is_utf8_text(name)) header.refuse("feature_names", "holds " + excerpt(name) + ", no UTF-8 text");
    if (!seen.insert(name).second) header.refuse("feature_names", "holds " + excerpt(name) + " twice");
    model.columns.push_back({std::string(name), {}});
  }
}

}  // namespace

bool is_lightgbm(std::string_view bytes) {
  const std::string_view first = bytes.substr(0, bytes.find('\n'));
  return first == "tree" || first == "tree\r";
}

ImportedModel import_lightgbm(std::string_view bytes, const std::string& path) {
  Lines lines(bytes, path);
  if (!lines.next() || lines.text() != "tree")
    throw Error(path + " does not begin with the line 'tree': not a model in LightGBM's text format");

  Section header(lines, "the header", header_keys);
  bool average = false;
  while (lines.next() && !lines.text().starts_with("Tree=") && lines.text() != "end of trees")
    if (lines.text() == "average_output")
      average = true;
    else if (!lines.text().empty())
      header.add_line();

  const std::string_view version = header.text("version");
  if (version != "v2" && version != "v3" && version != "v4")
    header.refuse("version", "is " + excerpt(version) +
                                 "; expected v2, v3 or v4: load the model with LightGBM 4 " +
                                 "and save it again");
  ImportedModel model;
  model.format = "LightGBM text " + std::string(version);
  const auto features = static_cast<std::size_t>(header.integer("max_feature_idx", 0)) + 1;
  const auto infos =
      header.list<std::string_view>("feature_infos", features, "one more than max_feature_idx");
  read_columns(header, features, model);

  ImportedTrees result;
  std::vector<Tree> trees;  // iteration by iteration, as in the file
  while (lines.text().starts_with("Tree=")) {
    std::size_t number = 0;
    if (!parse(lines.text().substr(5), number) || number != trees.size())
      lines.refuse("found " + excerpt(lines.text()) + ", expected Tree=" + std::to_string(trees.size()) +
                   "; " + Section::export_again);
    Section section(lines, std::string(lines.text()), tree_keys);
    while (lines.next() && !lines.text().empty()) {
      if (lines.text().starts_with("Tree="))
        lines.refuse("found " + excerpt(lines.text()) + " within Tree=" + std::to_string(number) +
                     ", expected an empty line before; " + Section::export_again);
      section.add_line();
    }
    trees.push_back(read_tree(section, features, result.ensemble.category_splits));
    if (!lines.next_filled()) break;
  }
  const std::string_view behind = lines.text();
  if (behind != "end of trees" && behind != "feature importances:" && behind != "feature_importances:")
    lines.refuse("found " + excerpt(behind) + " where the trees end, expected Tree=" +
                 std::to_string(trees.size()) + " or 'end of trees'; " + Section::export_again);
  if (header.has("tree_sizes") && word_count(header.text("tree_sizes")) != trees.size())
    header.refuse("tree_sizes", "announces " + std::to_string(word_count(header.text("tree_sizes"))) +
                                    " trees, and there are " + std::to_string(trees.size()) + "; " +
                                    Section::export_again);

  const auto outputs = static_cast<std::size_t>(
      header.integer(header.has("num_tree_per_iteration") ? "num_tree_per_iteration" : "num_class", 1));
  if (trees.empty() || trees.size() % outputs != 0)
    header.refuse("num_tree_per_iteration", "is " + std::to_string(outputs) + ", and there are " +
                                                std::to_string(trees.size()) +
                                                " trees; expected a multiple, above 0");
  read_objective(header, outputs, result, model);
  if (average && version == "v2" && result.link != Link::identity && may_hold_probabilities(trees))
    header.refuse(
        "version",
        "is v2, and the model a random forest whose leaves are all from 0 to 1: LightGBM 2.2.0 and before "
        "stored probabilities there, 2.2.3 stores scores, and the file does not say which these are; train "
        "it again with a newer LightGBM");
  const std::size_t iterations = trees.size() / outputs;
  result.ensemble.base.assign(outputs, 0.0);
  if (average) result.ensemble.scale = 1 / static_cast<double>(iterations);
  result.ensemble.trees.reserve(trees.size());
  for (std::size_t output = 0; output < outputs; ++output)
    for (std::size_t i = 0; i < iterations; ++i)
      result.ensemble.trees.push_back(std::move(trees[i * outputs + output]));
  assign_vocabularies(read_tail(lines), infos, model);
  model.predictor = std::move(result);
  return model;
}

}  // namespace tonearm
