// Old blobs still open, and still mean the same: every golden blob of every format that was ever released.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>

#include "base/files.h"
#include "conformance/models.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

const fs::path folder = fs::path(TONEARM_SOURCE_DIR) / "tests" / "conformance";

std::string text_of(const fs::path& path) {
  const std::vector<unsigned char> bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

std::vector<fs::path> golden_blobs(const fs::path& where) {
  std::set<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(where))
    if (entry.path().extension() == ".tarm") found.insert(entry.path());
  return {found.begin(), found.end()};
}

const fs::path current_format =
    folder / ("format-" + std::to_string(TONEARM_FORMAT_MAJOR) + "." + std::to_string(TONEARM_FORMAT_MINOR));

/// `count` floats of a line of a .rows file.
std::vector<float> read_bits(std::istream& line, std::size_t count) {
  std::vector<float> values;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_TRUE(line >> std::hex >> bits);
    values.push_back(std::bit_cast<float>(bits));
  }
  return values;
}

/// Which bits a NaN has is the processor's business.
bool agrees(float found, float expected, bool exact) {
  if (std::isnan(expected) || std::isnan(found)) return std::isnan(expected) && std::isnan(found);
  return std::bit_cast<std::uint32_t>(found) == std::bit_cast<std::uint32_t>(expected) ||
         (!exact && std::abs(found - expected) <= 1e-6f);
}

TEST(Conformance, EveryGoldenBlobOpensAndGivesItsStoredOutputs) {
  const std::vector<fs::path> paths = golden_blobs(folder);
  ASSERT_GE(paths.size(), 12u);
  for (const fs::path& path : paths) {
    SCOPED_TRACE(path.filename());
    const Blob blob(read_file(path), path.string());
    std::vector<std::uint32_t> scratch(tonearm_scratch_size(&blob.model()) / 4);
    EXPECT_EQ(tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * 4, nullptr),
              TONEARM_OK);

    std::istringstream rows(text_of(fs::path(path).replace_extension(".rows")));
    std::string line;
    ASSERT_TRUE(std::getline(rows, line));
    const bool exact = line == "exact";
    ASSERT_TRUE(exact || line == "within 1e-6") << line;
    std::size_t count = 0;
    for (; std::getline(rows, line); ++count) {
      std::istringstream numbers(line);
      const std::vector<float> row = read_bits(numbers, blob.columns());
      char colon = 0;
      ASSERT_TRUE(numbers >> colon && colon == ':') << line;
      const std::vector<float> expected = read_bits(numbers, blob.outputs());
      std::vector<float> found(blob.outputs());
      blob.evaluate(row, found);
      for (std::size_t k = 0; k < found.size(); ++k)
        EXPECT_PRED3(agrees, found[k], expected[k], exact) << "row " << count << ", output " << k;
    }
    EXPECT_GE(count, 12u);
  }
}

TEST(Conformance, TheConverterStillWritesTheSameBytes) {
  // Another version of FlatBuffers may lay the same tables out differently.
  if (FLATBUFFERS_VERSION_MAJOR != 2) GTEST_SKIP() << "the golden blobs were packed by FlatBuffers 2.0";
  std::set<std::string> names;
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    names.insert(sample.name);
    EXPECT_TRUE(golden_blob(sample) == read_file(current_format / (sample.name + ".tarm")));
  }
  EXPECT_EQ(names.size(), golden_blobs(current_format).size());
}

TEST(Conformance, GoldenBlobsStaySmallEnoughForMicrocontrollers) {
  std::uintmax_t total = 0;
  for (const fs::path& path : golden_blobs(current_format)) {
    EXPECT_LT(fs::file_size(path), 8u * 1024) << path;
    total += fs::file_size(path);
  }
  EXPECT_LT(total, 60u * 1024);
}

TEST(Conformance, SamplesCoverEveryKindOfTheSchema) {
  std::set<schema::Encoder> encoders;
  std::set<schema::OperatorKind> operators;
  std::set<schema::Activation> activations;
  std::set<schema::NodeFormat> node_formats;
  std::set<schema::LeafFormat> branching_leaves, symmetric_leaves;
  std::set<schema::CalibrationMethod> methods;
  for (const SampleModel& sample : sample_models()) {
    for (const auto& feature : sample.model.features) encoders.insert(feature->encoder.type);
    for (const auto& op : sample.model.operators) {
      operators.insert(op->kind.type);
      if (const auto* affine = op->kind.AsAffine()) activations.insert(affine->activation);
      if (const auto* trees = op->kind.AsBranchingTrees()) {
        node_formats.insert(trees->node_format);
        branching_leaves.insert(trees->leaf_format);
      }
      if (const auto* trees = op->kind.AsSymmetricTrees()) symmetric_leaves.insert(trees->leaf_format);
      if (const auto* calibrate = op->kind.AsCalibrate()) methods.insert(calibrate->method);
    }
  }
  const auto all = [](auto newest, std::size_t first) {
    return static_cast<std::size_t>(newest) + 1 - first;
  };
  EXPECT_EQ(encoders.size(), all(schema::Encoder::MAX, 1));
  EXPECT_EQ(operators.size(), all(schema::OperatorKind::MAX, 1));
  EXPECT_EQ(activations.size(), all(schema::Activation::MAX, 0));
  EXPECT_EQ(node_formats.size(), all(schema::NodeFormat::MAX, 0));
  EXPECT_EQ(branching_leaves.size(), all(schema::LeafFormat::MAX, 0));
  EXPECT_EQ(symmetric_leaves.size(), all(schema::LeafFormat::MAX, 0));
  EXPECT_EQ(methods.size(), all(schema::CalibrationMethod::MAX, 0));
}

}  // namespace
}  // namespace tonearm
