#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tonearm {

/// A TOML file that says how to make a model: data, columns, features, split, trainer, blob.
///
/// `extends = "other.toml"` starts from another recipe in the same folder. `[variants.NAME]` holds
/// settings that replace the recipe's own when that variant is chosen; tables merge key by key, arrays
/// and values are replaced. Overrides ("train.trees=50") come last. Every key that is never read is an
/// error that names its place and the nearest known key.
class Recipe {
 public:
  struct Choice {
    std::string variant;                 // "" for the recipe as it stands
    std::vector<std::string> overrides;  // "path.to.key=value", the value in TOML
  };

  /// Throws Error with file, line and column for anything that is not TOML.
  Recipe(const std::filesystem::path& file, const Choice& choice);
  /// A recipe from its text, as it stands in a card. `name` stands in messages.
  static Recipe from_text(const std::string& text, const std::string& name);
  ~Recipe();
  Recipe(Recipe&&) noexcept;

  /// One table of the recipe. Getters throw Error, naming file, line and column, for a wrong type or a
  /// value out of range; without a default they also throw for a missing key.
  class Section {
   public:
    bool has(const std::string& key) const;
    std::string text(const std::string& key) const;
    std::string text(const std::string& key, const std::string& otherwise) const;
    /// One of `allowed`; an unknown word is answered with the list.
    std::string choice(const std::string& key, const std::string& otherwise,
                       const std::vector<std::string>& allowed) const;
    double number(const std::string& key, std::optional<double> otherwise, double low, double high) const;
    unsigned count(const std::string& key, std::optional<unsigned> otherwise, unsigned low,
                   unsigned high) const;
    bool flag(const std::string& key, bool otherwise) const;
    std::vector<std::string> texts(const std::string& key) const;  // empty if missing
    std::vector<double> numbers(const std::string& key) const;     // empty if missing
    std::vector<float> floats(const std::string& key) const;       // the same, within the range of float32
    std::vector<unsigned> counts(const std::string& key, unsigned low,
                                 unsigned high) const;            // empty if missing
    Section section(const std::string& key) const;                // empty if missing
    std::vector<Section> sections(const std::string& key) const;  // of an array of tables
    std::vector<std::string> keys() const;
    /// An Error that points at a key of this table.
    [[noreturn]] void fail(const std::string& key, const std::string& sentence) const;

   private:
    friend class Recipe;
    struct State;
    std::shared_ptr<const State> state_;
  };

  Section root() const;
  /// Names of the variants the file offers, in the order of the file.
  const std::vector<std::string>& variants() const { return variants_; }
  /// Throws Error for a key that nothing has read.
  void require_all_known() const;
  /// The whole recipe as TOML, merged, without variants: what is stored in the card.
  std::string merged_text() const;

 private:
  struct Document;
  explicit Recipe(std::unique_ptr<Document> document);
  std::unique_ptr<Document> document_;
  std::vector<std::string> variants_;
};

}  // namespace tonearm
