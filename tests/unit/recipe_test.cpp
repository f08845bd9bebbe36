#include "data/recipe.h"

#include <gtest/gtest.h>

#include <string>

#include "base/files.h"
#include "folder.h"

namespace tonearm {
namespace {

class RecipeTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    write_file(folder_.path() / name, text);
    return folder_.path() / name;
  }
  Folder folder_;
};

TEST_F(RecipeTest, ReadsValuesAndFallsBackToDefaults) {
  const Recipe recipe(
      write("a.toml", "name = \"x\"\n[train]\ntrees = 7\nrate = 0.5\non = true\nhidden = [1, 2.5]\n"), {});
  EXPECT_EQ(recipe.root().text("name"), "x");
  const auto train = recipe.root().section("train");
  EXPECT_EQ(train.count("trees", 1, 1, 10), 7u);
  EXPECT_EQ(train.count("leaves", 31, 1, 100), 31u);
  EXPECT_DOUBLE_EQ(train.number("rate", 0.1, 0, 1), 0.5);
  EXPECT_TRUE(train.flag("on", false));
  EXPECT_EQ(train.numbers("hidden"), (std::vector<double>{1, 2.5}));
  EXPECT_FALSE(recipe.root().section("absent").has("key"));
  recipe.require_all_known();
}

TEST_F(RecipeTest, AnUnknownKeyIsNamedWithItsPlaceAndTheNearestKnownOne) {
  const Recipe recipe(write("a.toml", "[train]\ntress = 7\n"), {});
  (void)recipe.root().section("train").count("trees", 1, 1, 10);
  const std::string error = error_of([&] { recipe.require_all_known(); });
  EXPECT_TRUE(contains(error, "a.toml:2:9")) << error;
  EXPECT_TRUE(contains(error, "train.tress")) << error;
  EXPECT_TRUE(contains(error, "did you mean 'trees'")) << error;
}

TEST_F(RecipeTest, AnUnknownKeyInsideAListOfTablesIsFound) {
  const Recipe recipe(write("a.toml", "[[features]]\nencode = \"scale\"\nmethode = \"standard\"\n"), {});
  for (const auto& section : recipe.root().sections("features"))
    (void)section.text("encode"), (void)section.text("method", "");
  EXPECT_TRUE(contains(error_of([&] { recipe.require_all_known(); }), "features.methode"));
}

TEST_F(RecipeTest, WrongTypesAndRangesAreNamedWithTheirPlace) {
  const Recipe recipe(write("a.toml", "a = \"text\"\nb = 3\nc = 2.5\nd = [1, \"x\"]\n"), {});
  const auto root = recipe.root();
  EXPECT_TRUE(
      contains(error_of([&] { (void)root.number("a", 0.0, 0, 1); }), "a.toml:1:5: a must be a number"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.number("b", 0.0, 0, 1); }), "it must be from 0 to 1"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.count("c", 0, 0, 9); }), "whole number"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.numbers("d"); }), "a.toml:4:9"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.text("b"); }), "must be a text"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.text("missing"); }), "missing is missing"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.section("a"); }), "must be a table"));
  EXPECT_TRUE(contains(error_of([&] { (void)root.choice("a", "", {"x", "y"}); }), "one of: x, y"));
}

TEST_F(RecipeTest, BrokenTomlIsNamedWithItsPlace) {
  const auto file = write("a.toml", "a = 1\nb = = 2\n");
  EXPECT_TRUE(contains(error_of([&] { Recipe(file, {}); }), "a.toml:2:"));
}

// Each part is a table within another, which are walked by recursion.
TEST_F(RecipeTest, KeysOfManyPartsAreRefusedBeforeTheyAreTables) {
  const auto keys = [](std::size_t parts) {
    std::string key = "a";
    for (std::size_t i = 1; i < parts; ++i) key += i % 2 == 0 ? ".a" : " . \"a\"";
    return key;
  };
  EXPECT_EQ(Recipe(write("a.toml", keys(16) + " = 1.5\n"), {}).root().keys().size(), 1u);
  for (const std::string& text :
       {"\n" + keys(17) + " = 1", "\n[" + keys(500000) + "]", "\n[[" + keys(17) + "]]",
        "\nb = {" + keys(17) + " = 1}", "\nb = {c = 1, " + keys(17) + " = 1}"})
    EXPECT_TRUE(contains(error_of([&] { Recipe(write("a.toml", text), {}); }),
                         "a.toml:2: a key has more than 16 parts"));
  EXPECT_TRUE(contains(error_of([&] {
                         Recipe(write("a.toml", ""), {"", {keys(500000) + "=1"}});
                       }),
                       "more than 16 parts"));
  // Dots in texts and comments are none of a key's.
  const std::string dots(100, '.');
  for (const std::string& text :
       {"a = \"" + dots + "\\\"" + dots + "\"", "a = '" + dots + "\\'",
        "a = \"\"\"" + dots + "\"\n" + dots + "\"\"\"\"", "a = \'\'\'" + dots + "'\n" + dots + "\'\'\'",
        "# " + dots + "\na = 1", "a = [1.5, 2.5] # \"\nb = \"" + dots + "\""})
    EXPECT_NO_THROW(Recipe(write("a.toml", text), {})) << text;
}

TEST_F(RecipeTest, ExtendsMergesTablesAndReplacesLists) {
  write("base.toml", "x = 1\n[t]\na = 1\nb = [1, 2]\n[variants.old]\nx = 9\n");
  const Recipe recipe(write("a.toml", "extends = \"base.toml\"\n[t]\nb = [3]\nc = 4\n"), {});
  const auto t = recipe.root().section("t");
  EXPECT_EQ(t.number("a", {}, 0, 9), 1);
  EXPECT_EQ(t.numbers("b"), std::vector<double>{3});
  EXPECT_EQ(t.number("c", {}, 0, 9), 4);
  EXPECT_TRUE(recipe.variants().empty()) << "variants of the base are its own";
}

TEST_F(RecipeTest, AMessageAboutAnInheritedKeyNamesTheFileThatHoldsIt) {
  write("base.toml", "\nx = \"text\"\n");
  const Recipe recipe(write("a.toml", "extends = \"base.toml\"\n"), {});
  EXPECT_TRUE(contains(error_of([&] { (void)recipe.root().number("x", 0.0, 0, 1); }), "base.toml:2:5"));
}

TEST_F(RecipeTest, CirclesOfExtendsAreRefused) {
  write("b.toml", "extends = \"a.toml\"\n");
  const auto file = write("a.toml", "extends = \"b.toml\"\n");
  EXPECT_TRUE(contains(error_of([&] { Recipe(file, {}); }), "circle"));
}

TEST_F(RecipeTest, VariantsAndOverridesApplyInThatOrder) {
  const auto file =
      write("a.toml", "x = 1\n[t]\ny = 1\n[variants.big]\nx = 2\nt.y = 2\n[variants.also]\nx = 5\n");
  EXPECT_EQ(Recipe(file, {}).root().number("x", {}, 0, 9), 1);
  const Recipe big(file, {"big", {"t.y=3", "word=bare"}});
  EXPECT_EQ(big.root().number("x", {}, 0, 9), 2);
  EXPECT_EQ(big.root().section("t").number("y", {}, 0, 9), 3);
  EXPECT_EQ(big.root().text("word"), "bare");
  EXPECT_EQ(big.variants(), (std::vector<std::string>{"big", "also"}));
  EXPECT_TRUE(contains(error_of([&] { Recipe(file, {"bog", {}}); }), "there are: big, also"));
  EXPECT_TRUE(contains(error_of([&] { Recipe(file, {"", {"nonsense"}}); }), "KEY=VALUE"));
}

TEST_F(RecipeTest, TheMergedTextReadsBackAsTheSameRecipe) {
  const auto file = write(
      "a.toml",
      "x = 1\n[t]\nrate = 0.09\nlist = [\"a\", \"b\"]\n[[f]]\nk = 1\n[[f]]\nk = 2\n[variants.v]\nx = 2\n");
  const Recipe recipe(file, {"v", {}});
  const std::string text = recipe.merged_text();
  const Recipe again = Recipe::from_text(text, "card");
  EXPECT_EQ(again.merged_text(), text);
  EXPECT_EQ(again.root().number("x", {}, 0, 9), 2);
  EXPECT_EQ(again.root().section("t").number("rate", {}, 0, 1), 0.09);
  EXPECT_EQ(again.root().sections("f").size(), 2u);
  EXPECT_EQ(text.find("variants"), std::string::npos);
}

}  // namespace
}  // namespace tonearm
