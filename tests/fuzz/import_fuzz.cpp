// Whatever the bytes, an importer gives a model that the converter can write and the runtime evaluate, the
// same with every kernel and in every layout, or throws an Error.

#include <tonearm/tonearm.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <vector>

#include "base/error.h"
#include "import/import.h"
#include "memory_limit.h"

namespace {

using namespace tonearm;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// Rows of all the same number each, and two of different ones. Of a column with a vocabulary, NaN or the
/// number of a category.
std::vector<float> rows_of(const std::vector<ImportedColumn>& columns) {
  constexpr float infinity = std::numeric_limits<float>::infinity(), huge = std::numeric_limits<float>::max(),
                  nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float numbers[] = {nan, 0, -0.0f, 1, -0.5f, 2.5f, 1e-36f, infinity, -infinity, huge};
  constexpr std::size_t count = std::size(numbers);
  std::vector<float> rows;
  for (std::size_t n = 0; n < count + 2; ++n)
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const float number = numbers[n < count ? n : n == count ? i % count : i * 3 % count];
      const std::size_t categories = columns[i].vocabulary.size();
      const bool is_category = number >= 0 && number < static_cast<float>(categories);
      rows.push_back(categories == 0 ? number : is_category ? std::trunc(number) : nan);
    }
  return rows;
}

std::vector<float> evaluated(const std::vector<unsigned char>& blob, const std::vector<float>& rows,
                             std::uint32_t cpu) {
  tonearm_open_options options = {sizeof options, 0, cpu, 0};
  tonearm_diagnostic diagnostic = {};
  diagnostic.struct_size = sizeof diagnostic;
  tonearm_model model;
  if (tonearm_model_open(&model, blob.data(), blob.size(), &options, &diagnostic) != TONEARM_OK) {
    char text[400];
    tonearm_diagnostic_text(&diagnostic, text, sizeof text);
    fail(text);
  }
  tonearm_info info = {};
  info.struct_size = sizeof info;
  tonearm_model_info(&model, &info);
  std::vector<std::uint32_t> scratch(tonearm_scratch_size(&model) / 4 + 1);
  float difference = 0;
  const tonearm_status tested =
      tonearm_model_self_test(&model, scratch.data(), scratch.size() * 4, &difference);
  if (tested != TONEARM_OK && tested != TONEARM_NO_GOLDEN) fail("the self-test fails");
  std::vector<float> out(rows.size() / info.columns * info.outputs);
  for (std::size_t n = 0; n < rows.size() / info.columns; ++n)
    if (tonearm_evaluate(&model, rows.data() + n * info.columns, info.columns, scratch.data(),
                         scratch.size() * 4, out.data() + n * info.outputs) != TONEARM_OK)
      fail("a row cannot be evaluated");
  return out;
}

/// Whether every kernel gives the same bits: those of float32 networks may add up in another order.
bool is_alike(const schema::ModelT& model) {
  return std::none_of(model.operators.begin(), model.operators.end(),
                      [](const auto& op) { return op->kind.AsRecurrent() != nullptr; });
}

/// Scores are the ensemble's, but for the rounding that the card admits.
void check_scores(const ImportedTrees& trees, LeafStorage leaves, const std::vector<float>& rows,
                  std::size_t columns, const std::vector<float>& found) {
  const double bound = score_rounding(trees.ensemble, leaves);
  const auto linked = [&](double score) {
    return trees.link == Link::identity ? score : 1 / (1 + std::exp(-trees.slope * score));
  };
  constexpr double of_sigmoid = 1e-6;
  const double slack = trees.link == Link::identity ? 0 : of_sigmoid;
  for (std::size_t n = 0; n < rows.size() / columns; ++n) {
    const std::vector<double> scores = ensemble_scores(trees.ensemble, {rows.data() + n * columns, columns});
    for (std::size_t k = 0; k < scores.size(); ++k) {
      if (!(std::abs(scores[k]) + bound < double{std::numeric_limits<float>::max()})) continue;
      const double score = double{found[n * scores.size() + k]};
      if (score >= linked(scores[k] - bound) - slack && score <= linked(scores[k] + bound) + slack) continue;
      std::fprintf(stderr, "row %zu, output %zu: %.9g, expected that of %.9g, give or take %.3g\n", n, k,
                   score, scores[k], bound);
      fail("a score is not the ensemble's");
    }
  }
}

void import_and_evaluate(std::string_view bytes) {
  const ImportedModel imported = TONEARM_IMPORT(bytes, "file");
  if (imported.columns.empty()) return;  // `tonearm import` refuses it
  const std::vector<float> rows = rows_of(imported.columns);
  // One of the ways to store it: which, any change of the input may change.
  const LeafStorage leaves = bytes.size() % 2 == 0 ? LeafStorage::exact : LeafStorage::int16;
  constexpr TreeLayout layouts[] = {TreeLayout::automatic, TreeLayout::walk, TreeLayout::complete};
  const TreeLayout layout = layouts[bytes.size() / 2 % std::size(layouts)];
  schema::ModelT model = table_model(imported, {}, {leaves, layout});
  add_golden(model, rows);
  const std::vector<unsigned char> blob = pack(model);
  const std::vector<float> fastest = evaluated(blob, rows, 0);
  const std::vector<float> scalar = evaluated(blob, rows, TONEARM_CPU_SCALAR);
  for (std::size_t i = 0; i < fastest.size() && is_alike(model); ++i)
    if (std::bit_cast<std::uint32_t>(fastest[i]) != std::bit_cast<std::uint32_t>(scalar[i]) &&
        !(std::isnan(fastest[i]) && std::isnan(scalar[i])))
      fail("vectors compute something else than the scalar kernels");
  const auto* trees = std::get_if<ImportedTrees>(&imported.predictor);
  if (trees != nullptr && trees->link != Link::softmax)
    check_scores(*trees, leaves, rows, imported.columns.size(), fastest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryLimit limit((std::size_t{64} << 20) + 64 * size);
  try {
    import_and_evaluate({reinterpret_cast<const char*>(data), size});
  } catch (const Error&) {
    // The sentence that bad input gets.
  }
  return 0;
}
