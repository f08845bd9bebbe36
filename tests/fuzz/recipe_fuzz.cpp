// Whatever the bytes, a recipe is refused with an Error, or read; what is stored of it in a card reads back
// as itself; and the features of a session recipe make a program that the runtime opens.

#include <tonearm/tonearm.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "data/adapter.h"
#include "data/recipe.h"
#include "emit/emit.h"
#include "features/session_features.h"
#include "input_file.h"
#include "memory_limit.h"

namespace {

using namespace tonearm;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// Values of which some are alike: a center, a factor and components can be made of them.
Moments fitted(const schema::ModelT& model) {
  const std::size_t width = model.output_length;
  if (width > 200) throw Error("legal, but slow to fuzz");
  Moments moments;
  moments.rows = 100;
  moments.mean.assign(width, 0.5);
  moments.deviation.assign(width, 0.25);
  moments.low.assign(width, 0);
  moments.high.assign(width, 1);
  moments.covariance.assign(width * width, 0);
  for (std::size_t i = 0; i < width; ++i)
    moments.covariance[i * width + i] = 1 + 1 / (1.0 + static_cast<double>(i));
  return moments;
}

void check_program(const Recipe& recipe) {
  const SessionProgram program(recipe.root(), columns_with({}), fitted);
  schema::ModelT model = program.gathered();
  (void)program.scattered();
  const std::vector<unsigned char> blob = pack(model);
  tonearm_diagnostic diagnostic = {};
  diagnostic.struct_size = sizeof diagnostic;
  tonearm_model opened;
  if (tonearm_model_open(&opened, blob.data(), blob.size(), nullptr, &diagnostic) == TONEARM_OK) return;
  char text[400];
  tonearm_diagnostic_text(&diagnostic, text, sizeof text);
  fail(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const InputFile file("recipe.toml");
  const std::filesystem::path& path = file.holding(data, size);
  const MemoryLimit limit((std::size_t{256} << 20) + 64 * size);
  try {
    const Recipe recipe(path, {});
    for (const std::string& variant : recipe.variants()) {
      try {
        (void)Recipe(path, {variant, {}}).merged_text();
      } catch (const Error&) {
        // What is called a variant may be none.
      }
    }
    const std::string text = recipe.merged_text();
    try {
      if (Recipe::from_text(text, "card").merged_text() != text)
        fail("a card's recipe reads back as another");
    } catch (const Error& error) {
      fail(error.what());
    }
    check_program(recipe);
    recipe.require_all_known();
  } catch (const Error&) {
    // The sentence that bad input gets.
  }
  return 0;
}
