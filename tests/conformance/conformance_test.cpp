// Old blobs still open, and still mean the same: every golden blob of every format that was ever released.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <set>
#include <sstream>

#include "base/files.h"
#include "conformance/models.h"
#include "emit/emit.h"
#include "evaluate/blob.h"

namespace tonearm {
namespace {

namespace fs = std::filesystem;

const fs::path folder = fs::path(TONEARM_SOURCE_DIR) / "tests" / "conformance";

std::string text_in(const fs::path& path) {
  const std::vector<unsigned char> bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

std::vector<fs::path> golden_blobs(const fs::path& where) {
  std::set<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(where))
    if (entry.path().extension() == ".tarm") found.insert(entry.path());
  return {found.begin(), found.end()};
}

fs::path folder_of(std::uint32_t minor) { return folder / ("format-1." + std::to_string(minor)); }

/// The golden blobs beside which lies a file of the given kind: .rows for tables, .events for session models.
std::vector<fs::path> golden_blobs_with(const char* extension) {
  std::vector<fs::path> found;
  for (const fs::path& path : golden_blobs(folder))
    if (fs::exists(fs::path(path).replace_extension(extension))) found.push_back(path);
  return found;
}

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

TEST(Conformance, EveryGoldenBlobPassesItsOwnTest) {
  const std::vector<fs::path> paths = golden_blobs(folder);
  ASSERT_GE(paths.size(), 49u);
  for (const fs::path& path : paths) {
    SCOPED_TRACE(path.filename());
    const Blob blob(read_file(path), path.string());
    EXPECT_GE(blob.info().golden_rows, 1u);
    std::vector<std::uint32_t> scratch(tonearm_scratch_size(&blob.model()) / 4);
    float largest = -1;
    EXPECT_EQ(tonearm_model_self_test(&blob.model(), scratch.data(), scratch.size() * 4, &largest),
              TONEARM_OK)
        << largest;
  }
}

TEST(Conformance, EveryGoldenTableGivesItsStoredOutputs) {
  const std::vector<fs::path> paths = golden_blobs_with(".rows");
  ASSERT_GE(paths.size(), 37u);
  for (const fs::path& path : paths) {
    SCOPED_TRACE(path.filename());
    const Blob blob(read_file(path), path.string());
    EXPECT_EQ(blob.info().session_bytes, 0u);
    std::istringstream rows(text_in(fs::path(path).replace_extension(".rows")));
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

TEST(Conformance, EveryGoldenSessionGivesItsStoredAnswers) {
  const std::vector<fs::path> paths = golden_blobs_with(".events");
  ASSERT_GE(paths.size(), 12u);
  EXPECT_EQ(paths.size() + golden_blobs_with(".rows").size(), golden_blobs(folder).size());
  for (const fs::path& path : paths) {
    SCOPED_TRACE(path.filename());
    const Blob blob(read_file(path), path.string());
    std::istringstream lines(text_in(fs::path(path).replace_extension(".events")));
    std::vector<SampleEvent> events;
    std::vector<float> expected;
    bool exact = true;
    for (std::string line; std::getline(lines, line);) {
      if (events.empty() && line == "within 1e-6") {
        exact = false;
        continue;
      }
      events.push_back(event_of(line));
      EXPECT_EQ(text_of(events.back()), line.substr(0, line.find(" :")));
      if (events.back().kind != schema::GoldenEventKind::Predict) continue;
      std::istringstream numbers(line.substr(line.find(':') + 1));
      const std::vector<float> outputs = read_bits(numbers, blob.outputs());
      expected.insert(expected.end(), outputs.begin(), outputs.end());
    }
    EXPECT_GE(events.size(), 50u);
    const std::vector<float> found = replay(blob.model(), events);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t k = 0; k < found.size(); ++k)
      EXPECT_PRED3(agrees, found[k], expected[k], exact)
          << "prediction " << k / blob.outputs() << ", output " << k % blob.outputs();
  }
}

TEST(Conformance, TheConverterStillWritesTheSameBytes) {
  // Another version of FlatBuffers may lay the same tables out differently.
  if (FLATBUFFERS_VERSION_MAJOR != 2) GTEST_SKIP() << "the golden blobs were packed by FlatBuffers 2.0";
  for (std::uint32_t minor = 0; minor <= TONEARM_FORMAT_MINOR; ++minor) {
    std::set<std::string> names;
    for (const SampleModel& sample : samples_of_format(minor)) {
      SCOPED_TRACE(sample.name);
      names.insert(sample.name);
      EXPECT_TRUE(golden_blob(sample) == read_file(folder_of(minor) / (sample.name + ".tarm")));
    }
    EXPECT_EQ(names.size(), golden_blobs(folder_of(minor)).size());
  }
}

// A blob asks for no newer library than what is in it needs.
TEST(Conformance, OnlyWhatIsNewInAFormatNeedsIt) {
  constexpr std::uint32_t library_of[] = {100, 200, 300, 400, 500};
  ASSERT_EQ(std::size(library_of), TONEARM_FORMAT_MINOR + 1u);
  for (std::uint32_t minor = 0; minor <= TONEARM_FORMAT_MINOR; ++minor)
    for (const fs::path& path : golden_blobs(folder_of(minor))) {
      SCOPED_TRACE(path.filename());
      const std::vector<unsigned char> bytes = read_file(path);
      const schema::Model& model = *schema::GetModel(bytes.data());
      EXPECT_EQ(model.format_major(), 1);
      EXPECT_EQ(model.format_minor(), minor);
      EXPECT_EQ(model.runtime_minimum(), library_of[minor]);
    }
}

TEST(Conformance, GoldenBlobsStaySmallEnoughForMicrocontrollers) {
  for (std::uint32_t minor = 0; minor <= TONEARM_FORMAT_MINOR; ++minor) {
    std::uintmax_t total = 0;
    for (const fs::path& path : golden_blobs(folder_of(minor))) {
      EXPECT_LT(fs::file_size(path), 13u * 1024) << path;
      total += fs::file_size(path);
    }
    EXPECT_LT(total, 100u * 1024);
  }
}

TEST(Conformance, SamplesCoverEveryKindOfTheSchema) {
  std::set<schema::Encoder> encoders;
  std::set<schema::OperatorKind> operators;
  std::set<schema::Activation> activations;
  std::set<schema::NodeFormat> node_formats;
  std::set<schema::LeafFormat> branching_leaves, symmetric_leaves, branching_block_leaves,
      symmetric_block_leaves;
  std::set<schema::MissingDirection> directions;
  std::set<schema::Norm> norms;
  std::set<schema::Sequence> sequences;
  std::set<std::pair<schema::Cell, bool>> cells;  // of codes or not
  std::set<schema::WeightFormat> recurrent_formats, quantized_formats;
  std::set<schema::OperatorKind> with_categories, with_zeros, with_pivots, with_context;
  std::set<schema::CalibrationMethod> methods;
  std::set<schema::Field> fields;
  std::set<schema::Source> sources;
  std::set<schema::SessionFact> facts;
  std::set<schema::Identifier> identifiers;
  std::set<schema::Phase> phases;
  std::vector<SampleModel> samples = sample_models();
  std::ranges::move(session_sample_models(), std::back_inserter(samples));
  for (const SampleModel& sample : samples) {
    fields.insert(sample.model.fields.begin(), sample.model.fields.end());
    for (const auto& column : sample.model.columns) sources.insert(column->source);
    for (const auto& feature : sample.model.features) {
      phases.insert(feature->phase);
      if (const auto* fact = feature->encoder.AsFact()) facts.insert(fact->fact);
      if (const auto* repeats = feature->encoder.AsRepeats()) identifiers.insert(repeats->of);
      if (const auto* normalize = feature->encoder.AsNormalize()) norms.insert(normalize->norm);
    }
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
      if (const auto* trees = op->kind.AsBlockTrees())
        (trees->depth > 0 ? symmetric_block_leaves : branching_block_leaves).insert(trees->leaf_format);
      if (const auto* affine = op->kind.AsQuantizedAffine()) quantized_formats.insert(affine->format);
      if (const auto* recurrent = op->kind.AsRecurrent()) {
        sequences.insert(recurrent->sequence);
        recurrent_formats.insert(recurrent->format);
        for (const auto& layer : recurrent->layers)
          cells.emplace(layer->cell, recurrent->format == schema::WeightFormat::Int8);
      }
      if (const schema::TreeInputsT* inputs = tree_inputs(*op)) {
        const schema::OperatorKind kind = op->kind.type;
        directions.insert(inputs->missing.begin(), inputs->missing.end());
        if (!inputs->category_slots.empty()) with_categories.insert(kind);
        if (!inputs->pivots.empty()) with_pivots.insert(kind);
        if (inputs->context_axes > 0) with_context.insert(kind);
        if (std::ranges::any_of(inputs->missing,
                                [](auto to) { return to > schema::MissingDirection::Right; }))
          with_zeros.insert(kind);
      }
    }
  }
  const auto all = [](auto newest, std::size_t first) {
    return static_cast<std::size_t>(newest) + 1 - first;
  };
  EXPECT_EQ(encoders.size(), all(schema::Encoder::MAX, 1));
  EXPECT_EQ(fields.size(), all(schema::Field::MAX, 0));
  EXPECT_EQ(sources.size(), all(schema::Source::MAX, 0));
  EXPECT_EQ(facts.size(), all(schema::SessionFact::MAX, 0));
  EXPECT_EQ(identifiers.size(), all(schema::Identifier::MAX, 0));
  EXPECT_EQ(phases.size(), all(schema::Phase::MAX, 0));
  EXPECT_EQ(operators.size(), all(schema::OperatorKind::MAX, 1));
  EXPECT_EQ(activations.size(), all(schema::Activation::MAX, 0));
  EXPECT_EQ(node_formats.size(), all(schema::NodeFormat::MAX, 0));
  EXPECT_EQ(branching_leaves.size(), all(schema::LeafFormat::MAX, 0));
  EXPECT_EQ(symmetric_leaves.size(), all(schema::LeafFormat::MAX, 0));
  EXPECT_EQ(methods.size(), all(schema::CalibrationMethod::MAX, 0));
  EXPECT_EQ(branching_block_leaves.size(), all(schema::LeafFormat::MAX, 0));
  EXPECT_EQ(symmetric_block_leaves.size(), all(schema::LeafFormat::MAX, 0));
  EXPECT_EQ(directions.size(), all(schema::MissingDirection::MAX, 0));
  EXPECT_EQ(norms.size(), all(schema::Norm::MAX, 0));
  EXPECT_EQ(sequences.size(), all(schema::Sequence::MAX, 0));
  EXPECT_EQ(cells.size(), 2 * all(schema::Cell::MAX, 0) - 1);  // no codes of relu's states
  EXPECT_EQ(recurrent_formats.size(), all(schema::WeightFormat::MAX, 0));
  EXPECT_EQ(quantized_formats.size(), all(schema::WeightFormat::MAX, 1));
  for (const auto& kinds : {with_categories, with_zeros, with_context})
    EXPECT_EQ(kinds.size(), 3u);  // branching, symmetric, blocks
  EXPECT_EQ(with_pivots.size(), 2u);
}

}  // namespace
}  // namespace tonearm
