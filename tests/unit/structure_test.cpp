// The runtime's own check of a blob's structure against the one that flatc makes of the schema: one that
// forgot a field, or that it is required, would accept what the other refuses.

#include "structure.h"

#include <gtest/gtest.h>
#include <tonearm_schema/model_generated.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace tonearm {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// 4-byte aligned, as every allocation is.
std::vector<Bytes> golden_blobs() {
  std::vector<Bytes> blobs;
  const std::filesystem::path folder = std::filesystem::path(TONEARM_SOURCE_DIR) / "tests/conformance";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".tarm") {
      std::ifstream file(entry.path(), std::ios::binary);
      blobs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  return blobs;
}

bool ours(const Bytes& blob) {
  return runtime::has_structure(blob.data(), static_cast<std::uint32_t>(blob.size()));
}
bool generated(const Bytes& blob) {
  flatbuffers::Verifier verifier(blob.data(), blob.size());
  return schema::VerifyModelBuffer(verifier);
}

TEST(Structure, OfEveryGoldenBlobIsAccepted) {
  const std::vector<Bytes> blobs = golden_blobs();
  ASSERT_GT(blobs.size(), 40u);
  for (const Bytes& blob : blobs) {
    EXPECT_TRUE(runtime::has_head(blob.data(), static_cast<std::uint32_t>(blob.size())));
    EXPECT_TRUE(ours(blob));
  }
}

TEST(Structure, AnswersAsTheGeneratedVerifierWhateverByteIsChanged) {
  std::size_t refused = 0, stricter = 0, changes = 0;
  for (Bytes& blob : golden_blobs())
    for (std::size_t at = 0; at < blob.size(); ++at) {
      if (at >= 4 && at < 8) continue;  // the identifier, which is read before
      const std::uint8_t before = blob[at];
      for (const int value : {0, 0xff, before ^ 1, before + 4}) {
        blob[at] = static_cast<std::uint8_t>(value);
        const bool accepted = ours(blob), expected = generated(blob);
        ASSERT_TRUE(!accepted || expected) << "accepted, byte " << at << " as " << value;
        ++changes;
        refused += !accepted;
        stricter += !accepted && expected;
      }
      blob[at] = before;
    }
  EXPECT_GT(refused, changes / 50);
  // Offsets within vectors that lead to themselves or backwards.
  EXPECT_LT(stricter, refused / 20);
}

TEST(Structure, NoTruncatedBlobIsReadBeyondItsEnd) {
  for (const Bytes& blob : golden_blobs())
    for (std::size_t size = 8; size < blob.size(); size += 1 + blob.size() / 512) {
      const Bytes cut(blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_TRUE(!ours(cut) || generated(cut)) << size;
      runtime::has_head(cut.data(), static_cast<std::uint32_t>(size));
    }
}

TEST(Structure, ABlobOfSharedTablesIsGivenUp) {
  // Features that are all the same table: a small file that would take a long time, if there were no limit.
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.memory = std::make_unique<schema::MemoryPlanT>();
  model.features.resize(1500000);
  for (auto& feature : model.features) {
    feature = std::make_unique<schema::FeatureT>();
    feature->encoder.Set(schema::IdentityT());
  }
  flatbuffers::FlatBufferBuilder builder;
  schema::FinishModelBuffer(builder, schema::Model::Pack(builder, &model));
  const Bytes blob(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  EXPECT_FALSE(ours(blob));
}

TEST(Structure, ABlobOfASharedVocabularyIsGivenUp) {
  // Columns that are all one table, with a vocabulary as long as the file allows.
  constexpr std::uint32_t count = 20000;
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString("name");
  const auto vocabulary =
      builder.CreateVector(std::vector<flatbuffers::Offset<flatbuffers::String>>(count, name));
  const auto column =
      schema::CreateColumn(builder, name, schema::Source::Row, schema::ColumnType::Category, vocabulary);
  const auto columns = builder.CreateVector(std::vector<flatbuffers::Offset<schema::Column>>(count, column));
  const auto card = schema::CreateCard(builder, name);
  const auto fill = builder.CreateVector(std::vector<float>(1));
  const auto features = builder.CreateVector(std::vector<flatbuffers::Offset<schema::Feature>>());
  const auto operators = builder.CreateVector(std::vector<flatbuffers::Offset<schema::Operator>>());
  const auto memory = schema::CreateMemoryPlan(builder);
  schema::ModelBuilder model(builder);
  model.add_card(card);
  model.add_columns(columns);
  model.add_missing_fill(fill);
  model.add_features(features);
  model.add_operators(operators);
  model.add_memory(memory);
  schema::FinishModelBuffer(builder, model.Finish());
  const Bytes blob(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  EXPECT_FALSE(ours(blob));
}

}  // namespace
}  // namespace tonearm
