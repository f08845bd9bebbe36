// Whatever the bytes: opening a blob refuses them with a reason, or evaluating it is safe. Build it with
// sanitizers to see what "safe" means; without, the guards around every buffer are looked at.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "base/crc32.h"
#include "base/random.h"
#include "conformance/models.h"
#include "emit/emit.h"
#include "kernels.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

using Bytes = std::vector<unsigned char>;

/// One in so many of the changes to blobs is tried: under an emulator all of them would take minutes.
#ifdef TONEARM_EMULATED
constexpr std::size_t one_in = 11;
#else
constexpr std::size_t one_in = 1;
#endif

const flatbuffers::Table& root_of(const Bytes& bytes) {
  return *flatbuffers::GetRoot<flatbuffers::Table>(bytes.data());
}

/// Makes size and checksum those of the bytes as they are; `crc_at` is the checksum's place.
void seal(Bytes& bytes, std::size_t size_at, std::size_t crc_at) {
  const auto size = static_cast<std::uint32_t>(bytes.size());
  if (size_at + 4 <= bytes.size()) std::memcpy(&bytes[size_at], &size, 4);
  if (crc_at + 4 > bytes.size()) return;
  std::memset(&bytes[crc_at], 0, 4);
  const std::uint32_t crc = crc32(bytes);
  std::memcpy(&bytes[crc_at], &crc, 4);
}

std::size_t place_of(const Bytes& bytes, flatbuffers::voffset_t field) {
  return static_cast<std::size_t>(root_of(bytes).GetAddressOf(field) - bytes.data());
}

void seal(Bytes& bytes) {
  seal(bytes, place_of(bytes, schema::Model::VT_FILE_BYTES), place_of(bytes, schema::Model::VT_CRC32));
}

/// The same blob with something changed that pack() would set right again.
template <typename Change>
Bytes repacked(const Bytes& bytes, const Change& change) {
  const std::unique_ptr<schema::ModelT> model(schema::GetModel(bytes.data())->UnPack());
  change(*model);
  flatbuffers::FlatBufferBuilder builder;
  schema::FinishModelBuffer(builder, schema::Model::Pack(builder, model.get()));
  Bytes result(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  seal(result);
  return result;
}

tonearm_diagnostic open(tonearm_model& model, const unsigned char* blob, std::size_t size,
                        bool skip_crc = false, std::uint32_t cpu = 0) {
  tonearm_diagnostic diagnostic{};
  diagnostic.struct_size = sizeof diagnostic;
  const tonearm_open_options options = {sizeof options, skip_crc ? 1u : 0u, cpu, 0};
  const tonearm_status status = tonearm_model_open(&model, blob, size, &options, &diagnostic);
  EXPECT_EQ(status, diagnostic.status);
  return diagnostic;
}

tonearm_diagnostic open(const Bytes& bytes, bool skip_crc = false) {
  tonearm_model model;
  return open(model, bytes.data(), bytes.size(), skip_crc);
}

/// A few events and questions, with everything told that there is, in a session of exactly the right size.
void exercise_session(const tonearm_model& model, const tonearm_info& info, Random& random) {
  static const std::vector<SampleEvent> events = [] {
    std::vector<SampleEvent> some = sample_model("session-fields").events;
    some.resize(12);
    return some;
  }();
  ASSERT_LE(info.session_bytes, 400000u);
  ASSERT_LE(info.scratch_bytes, 800000u);
  const std::unique_ptr<unsigned char[]> memory(new unsigned char[info.session_bytes]);
  const std::unique_ptr<unsigned char[]> scratch(new unsigned char[info.scratch_bytes]);
  std::vector<float> out(info.outputs);
  tonearm_session* session = nullptr;
  ASSERT_EQ(tonearm_session_init(&model, memory.get(), info.session_bytes, &session), TONEARM_OK);
  const std::size_t first = random.below(6);
  for (std::size_t e = first; e < first + 4; ++e) {
    bool answered = false;
    perform(model, session, events[e], scratch.get(), info.scratch_bytes, out.data(), answered);
  }
}

/// Calls everything that an open model can be asked, with rows of all kinds.
void exercise(const tonearm_model& model, Random& random) {
  tonearm_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(tonearm_model_info(&model, &info), TONEARM_OK);
  ASSERT_GE(info.columns, 1u);
  ASSERT_GE(info.outputs, 1u);
  std::uint32_t index = 0;
  float value = 0;
  tonearm_model_column(&model, "no such column", &index);
  for (std::uint32_t i = 0; i < info.columns; ++i) {
    tonearm_column column{};
    column.struct_size = sizeof column;
    ASSERT_EQ(tonearm_model_column_at(&model, i, &column), TONEARM_OK);
    tonearm_model_category(&model, i, "no such category", &value);
    if (column.categories > 0) {
      ASSERT_NE(tonearm_model_category_text(&model, i, column.categories - 1), nullptr);
    }
  }
  // Exactly as large as asked for: a sanitizer sees the byte behind.
  const std::size_t size = tonearm_scratch_size(&model);
  ASSERT_LE(size, 800000u);
  constexpr std::size_t guard = 16;
  const std::unique_ptr<unsigned char[]> scratch(new unsigned char[size + guard]);
  std::fill_n(scratch.get() + size, guard, std::uint8_t{0xa5});
  std::vector<float> row(info.columns), out(info.outputs);
  const float kinds[] = {missing, infinity, -infinity, 0, 1, 3, 3e38f, -1e-40f};
  if (info.session_bytes > 0) {
    exercise_session(model, info, random);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
  for (int n = 0; info.session_bytes == 0 && n < 6; ++n) {
    for (float& cell : row)
      cell = n == 0 ? missing : n == 1 ? infinity : n == 2 ? -infinity : kinds[random.below(8)];
    ASSERT_EQ(tonearm_evaluate(&model, row.data(), info.columns, scratch.get(), size, out.data()),
              TONEARM_OK);
  }
  tonearm_model_self_test(&model, scratch.get(), size, &value);
  for (std::size_t i = 0; i < guard; ++i) ASSERT_EQ(scratch[size + i], 0xa5);
}

/// The bytes alone in a block of the heap: either refused with a reason, or safe, whatever the kernels.
/// Returns whether they opened.
bool attack(const Bytes& bytes, bool skip_crc, Random& random) {
  const std::unique_ptr<unsigned char[]> blob(new unsigned char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), blob.get());
  tonearm_model model;
  static const std::vector<std::uint32_t> cpus = all_cpus();
  const std::uint32_t cpu = cpus[random.below(static_cast<std::uint32_t>(cpus.size()))];
  const tonearm_diagnostic diagnostic = open(model, blob.get(), bytes.size(), skip_crc, cpu);
  if (diagnostic.status == TONEARM_OK) {
    exercise(model, random);
    return true;
  }
  EXPECT_GE(diagnostic.status, 20);
  EXPECT_LE(diagnostic.status, 31);
  EXPECT_STRNE(diagnostic.part, "");
  EXPECT_STRNE(diagnostic.rule, "");
  EXPECT_EQ(tonearm_scratch_size(&model), 0u);
  return false;
}

std::vector<SampleModel> all_samples() {
  std::vector<SampleModel> samples = sample_models();
  for (SampleModel& sample : session_sample_models()) samples.push_back(std::move(sample));
  return samples;
}

// --- Random damage -----------------------------------------------------------------------------------

TEST(Damage, TruncatedAnywhere) {
  Random random(1);
  for (const SampleModel& sample : all_samples()) {
    SCOPED_TRACE(sample.name);
    const Bytes whole = golden_blob(sample);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_FALSE(attack(cut, false, random)) << size << " bytes";
      EXPECT_FALSE(attack(cut, true, random)) << size << " bytes";
      // As a forger would: with the size and the checksum that belong to what is left.
      seal(cut, place_of(whole, schema::Model::VT_FILE_BYTES), place_of(whole, schema::Model::VT_CRC32));
      attack(cut, false, random);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Damage, TooLong) {
  Random random(2);
  for (const SampleModel& sample : all_samples())
    for (const std::size_t extra : {1u, 4u, 16u, 100000u}) {
      Bytes longer = golden_blob(sample);
      longer.resize(longer.size() + extra);
      EXPECT_EQ(open(longer).status, TONEARM_TRUNCATED);
      EXPECT_EQ(open(longer, true).status, TONEARM_TRUNCATED);
    }
}

TEST(Damage, EveryBitFlipped) {
  Random random(3);
  std::size_t opened = 0, refused = 0;
  for (const SampleModel& sample : all_samples()) {
    SCOPED_TRACE(sample.name);
    // Of the session models the smallest, which has every encoder of theirs, for time.
    if (sample.model.session != nullptr && sample.name != "session-encoders") continue;
    Bytes bytes = golden_blob(sample);
    if (schema::GetModel(bytes.data())->format_minor() >= 2) continue;  // below
    for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += one_in) {
      bytes[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
      // The checksum finds every one of them; without it, what opens is safe.
      tonearm_model model;
      ASSERT_NE(open(model, bytes.data(), bytes.size()).status, TONEARM_OK) << "bit " << bit;
      ++(attack(bytes, true, random) ? opened : refused);
      if (HasFailure()) return;
      bytes[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
    }
  }
  EXPECT_GT(opened, 10000u / one_in);
  EXPECT_GT(refused, 10000u / one_in);
}

// As a forger would: with the checksum that belongs to the changed bytes.
TEST(Damage, BytesOfNewerFormatsChanged) {
  Random random(6);
  std::size_t opened = 0, refused = 0;
  for (const SampleModel& sample : all_samples()) {
    SCOPED_TRACE(sample.name);
    const Bytes whole = golden_blob(sample);
    const std::uint32_t minor = schema::GetModel(whole.data())->format_minor();
    if (minor < 2) continue;  // above
    const std::size_t stride = one_in * (minor == TONEARM_FORMAT_MINOR ? 1 : 3);
    const std::size_t crc_at = place_of(whole, schema::Model::VT_CRC32);
    Bytes bytes = whole;
    for (std::size_t at = 0; at < whole.size(); at += stride) {
      const int old = whole[at];
      const int values[] = {0, 255, old + 1, old - 1, old ^ 1 << random.below(8)};
      bytes[at] = static_cast<unsigned char>(values[random.below(5)]);
      if (bytes[at] == old) continue;
      seal(bytes, whole.size(), crc_at);
      ++(attack(bytes, false, random) ? opened : refused);
      if (HasFailure()) return;
      bytes[at] = whole[at];
    }
  }
  EXPECT_GT(opened, 10000u / one_in);
  EXPECT_GT(refused, 10000u / one_in);
}

TEST(Damage, SeveralNumbersChanged) {
  Random random(4);
  std::size_t opened = 0, refused = 0;
  for (const SampleModel& sample : all_samples()) {
    SCOPED_TRACE(sample.name);
    const Bytes whole = golden_blob(sample);
    for (std::size_t n = 0; n < 4000 / one_in; ++n) {
      Bytes bytes = whole;
      for (std::uint32_t changes = 1 + random.below(4); changes > 0; --changes) {
        const std::size_t width = std::size_t{1} << random.below(3);
        // Half of the changes hit the tables rather than the bulk, which most of the bytes are.
        const std::size_t reach =
            random.below(2) == 0 ? whole.size() : std::min<std::size_t>(whole.size(), 600);
        const std::size_t at = random.below(static_cast<std::uint32_t>(reach / width)) * width;
        std::uint32_t value = 0;
        switch (random.below(5)) {
          case 0:
            value = static_cast<std::uint32_t>(random.next());
            break;
          case 1:
            value = random.below(300);
            break;
          case 2: {
            constexpr std::uint32_t edges[] = {0,      1,          0x7f,       0xff,      0x7fff,
                                               0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
            value = edges[random.below(9)];
            break;
          }
          case 3:  // nearly what it was
            std::memcpy(&value, &bytes[at], width);
            value += random.below(9) - 4;
            break;
          case 4:  // something else of the same file
            std::memcpy(&value, &whole[random.below(static_cast<std::uint32_t>(whole.size() - 4)) & ~3u],
                        width);
            break;
        }
        std::memcpy(&bytes[at], &value, width);
      }
      seal(bytes, place_of(whole, schema::Model::VT_FILE_BYTES), place_of(whole, schema::Model::VT_CRC32));
      ++(attack(bytes, true, random) ? opened : refused);
      attack(bytes, false, random);
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(opened, 1000u);
  EXPECT_GT(refused, 1000u);
}

TEST(Damage, NoiseIsNoModel) {
  Random random(5);
  for (int n = 0; n < 2000; ++n) {
    Bytes bytes(16 + random.below(400));
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random.next());
    EXPECT_EQ(open(bytes, true).status, TONEARM_NOT_A_MODEL);
    std::memcpy(&bytes[4], "TARM", 4);
    attack(bytes, true, random);
  }
}

// --- Checksum, versions, alignment -------------------------------------------------------------------

TEST(Open, TheChecksumIsSkippedOnlyWhenAsked) {
  Bytes bytes = golden_blob(sample_model("symmetric-int16"));
  const std::size_t at = place_of(bytes, schema::Model::VT_CRC32);
  EXPECT_EQ(open(bytes).status, TONEARM_OK);
  bytes[at] ^= 1;
  EXPECT_EQ(open(bytes).status, TONEARM_CORRUPT);
  EXPECT_STREQ(open(bytes).part, "crc32");
  EXPECT_EQ(open(bytes, true).status, TONEARM_OK);
  seal(bytes);
  EXPECT_EQ(open(bytes).status, TONEARM_OK);
}

TEST(Open, SaysWhichSideIsTooOld) {
  struct Case {
    flatbuffers::voffset_t field;
    std::uint32_t value;
    std::size_t bytes;
    tonearm_status status;
    const char* part;
  };
  const Bytes whole = golden_blob(sample_model("network"));
  for (const Case& c :
       {Case{schema::Model::VT_FORMAT_MAJOR, TONEARM_FORMAT_MAJOR + 1, 2, TONEARM_RUNTIME_TOO_OLD,
             "format_major"},
        Case{schema::Model::VT_FORMAT_MAJOR, 65535, 2, TONEARM_RUNTIME_TOO_OLD, "format_major"},
        Case{schema::Model::VT_FORMAT_MAJOR, TONEARM_FORMAT_MAJOR - 1, 2, TONEARM_BLOB_TOO_OLD,
             "format_major"},
        Case{schema::Model::VT_RUNTIME_MINIMUM, TONEARM_VERSION + 1, 4, TONEARM_RUNTIME_TOO_OLD,
             "runtime_minimum"},
        Case{schema::Model::VT_RUNTIME_MINIMUM, TONEARM_VERSION, 4, TONEARM_OK, ""},
        Case{schema::Model::VT_RUNTIME_MINIMUM, 0, 4, TONEARM_OK, ""}}) {
    Bytes bytes = whole;
    std::memcpy(&bytes[place_of(whole, c.field)], &c.value, c.bytes);
    seal(bytes);
    const tonearm_diagnostic diagnostic = open(bytes);
    EXPECT_EQ(diagnostic.status, c.status) << c.value;
    EXPECT_STREQ(diagnostic.part, c.part);
    if (c.status == TONEARM_OK) continue;
    // A blob from another time is told so whatever else it holds.
    Bytes other(bytes.begin(), bytes.end() - 64);
    EXPECT_EQ(open(other).status, c.status);
  }
}

TEST(Open, ASessionThatDoesNotFitIsRefusedWithTheBytesNeeded) {
  const auto opened = [](const char* sample, std::uint32_t limit, std::uint32_t options_size) {
    const Bytes bytes = golden_blob(sample_model(sample));
    const tonearm_open_options options = {options_size, 0, 0, limit};
    tonearm_diagnostic diagnostic{};
    diagnostic.struct_size = sizeof diagnostic;
    tonearm_model model;
    const tonearm_status status =
        tonearm_model_open(&model, bytes.data(), bytes.size(), &options, &diagnostic);
    EXPECT_EQ(status, diagnostic.status);
    EXPECT_EQ(tonearm_session_size(&model) > 0, status == TONEARM_OK && model.private_root != nullptr &&
                                                    schema::GetModel(bytes.data())->session() != nullptr);
    return diagnostic;
  };
  constexpr auto now = static_cast<std::uint32_t>(sizeof(tonearm_open_options));
  for (const char* sample : {"session-ring-int8", "session-recurrent-float32", "session-encoders"}) {
    const Bytes bytes = golden_blob(sample_model(sample));
    const std::uint32_t needed = schema::GetModel(bytes.data())->memory()->session_bytes();
    for (const std::uint32_t limit : {0u, needed, needed + 1, UINT32_MAX})
      EXPECT_EQ(opened(sample, limit, now).status, TONEARM_OK) << limit;
    for (const std::uint32_t limit : {1u, needed - 1}) {
      const tonearm_diagnostic diagnostic = opened(sample, limit, now);
      EXPECT_EQ(diagnostic.status, TONEARM_SESSION_TOO_SMALL);
      EXPECT_STREQ(diagnostic.part, "memory.session_bytes");
      EXPECT_EQ(diagnostic.found, needed);
      EXPECT_EQ(diagnostic.limit, limit);
    }
    // Options as version 0.3 has them end before the member.
    for (std::uint32_t size = 8; size < now; ++size)
      EXPECT_EQ(opened(sample, 1, size).status, TONEARM_OK) << size;
  }
  EXPECT_EQ(opened("recurrent-gru-int8", 1, now).status, TONEARM_OK);  // has no sessions
}

// What a newer minor format adds, an older runtime may ignore.
TEST(Open, NewerMinorFormatsOpen) {
  const Bytes bytes = repacked(golden_blob(sample_model("network")),
                               [](schema::ModelT& model) { model.format_minor = TONEARM_FORMAT_MINOR + 7; });
  EXPECT_EQ(open(bytes).status, TONEARM_OK);
}

TEST(Open, RefusesAnotherIdentifier) {
  for (const char* other : {"TARN", "tarm", "TFL3"}) {
    Bytes bytes = golden_blob(sample_model("network"));
    std::memcpy(&bytes[4], other, 4);
    EXPECT_EQ(open(bytes, true).status, TONEARM_NOT_A_MODEL);
  }
}

// Each bulk array in turn is moved to the end of the file, 4 past a multiple of 16.
/// Tables of FlatBuffers may be shared, so that a small file could hold the same large matrix a thousand
/// times.
TEST(Open, RefusesMatricesThatShareBytes) {
  SampleModel sample = sample_model("quantized-float16");
  schema::ModelT& model = sample.model;
  Random random(7);
  const std::uint16_t first = model.operators.front()->input_offset;
  model.operators.clear();
  constexpr unsigned outputs = 1024, copies = 3;
  for (unsigned i = 0; i < copies; ++i) {
    schema::OperatorKindUnion kind;
    kind.Set(sample_quantized(schema::WeightFormat::Float16, 4, i == 0 ? outputs : 1, random));
    append_sample_operator(model, first, 4, outputs, std::move(kind));
  }
  Bytes bytes = pack(model);
  // The kinds of the later operators become that of the first.
  const schema::Model* shared = schema::GetModel(bytes.data());
  const auto kind_at = [&](unsigned i) {
    const auto* op = reinterpret_cast<const flatbuffers::Table*>(shared->operators()->Get(i));
    return const_cast<std::uint8_t*>(op->GetAddressOf(schema::Operator::VT_KIND));
  };
  const auto* target = static_cast<const std::uint8_t*>(shared->operators()->Get(0)->kind());
  for (unsigned i = 1; i < copies; ++i) {
    ASSERT_GT(target, kind_at(i));
    flatbuffers::WriteScalar(kind_at(i), static_cast<flatbuffers::uoffset_t>(target - kind_at(i)));
  }
  ASSERT_EQ(shared->operators()->Get(2)->kind(), shared->operators()->Get(0)->kind());
  tonearm_open_options options{};
  options.struct_size = sizeof options;
  options.skip_crc = 1;
  tonearm_diagnostic diagnostic{};
  diagnostic.struct_size = sizeof diagnostic;
  tonearm_model opened;
  EXPECT_EQ(tonearm_model_open(&opened, bytes.data(), bytes.size(), &options, &diagnostic), TONEARM_INVALID);
  EXPECT_STREQ(diagnostic.part, "quantized.weights");
  EXPECT_STREQ(diagnostic.rule, "no bytes of another array");
}

TEST(Open, RefusesBulkArraysThatAreNotAligned) {
  const auto kind = [](const schema::Model& model) { return model.operators()->Get(0)->kind(); };
  const auto encoder = [](const schema::Model& model) { return model.features()->Get(1)->encoder(); };
  const auto branching_inputs = [](const schema::Model& model) -> const void* {
    return model.operators()->Get(0)->kind_as_BranchingTrees()->inputs();
  };
  const auto block_inputs = [](const schema::Model& model) -> const void* {
    return model.operators()->Get(0)->kind_as_BlockTrees()->inputs();
  };
  const auto layer = [](const schema::Model& model) -> const void* {
    return model.operators()->Get(0)->kind_as_Recurrent()->layers()->Get(0);
  };
  const auto golden = [](const schema::Model& model) -> const void* { return model.golden(); };
  using schema::BranchingTrees, schema::SymmetricTrees, schema::BlockTrees;
  using schema::QuantizedAffine, schema::Recurrent, schema::RecurrentLayer;
  struct Case {
    const char* sample;
    const char* part;
    std::function<const void*(const schema::Model&)> table;
    flatbuffers::voffset_t field;
    std::size_t element_bytes;
  };
  for (const Case& c :
       {Case{"network", "projection.mean", encoder, schema::Projection::VT_MEAN, 4},
        Case{"network", "projection.components", encoder, schema::Projection::VT_COMPONENTS, 4},
        Case{"network", "affine.weights", kind, schema::Affine::VT_WEIGHTS, 4},
        Case{"network", "affine.bias", kind, schema::Affine::VT_BIAS, 4},
        Case{"network", "golden.rows", golden, schema::Golden::VT_ROWS, 4},
        Case{"network", "golden.outputs", golden, schema::Golden::VT_OUTPUTS, 4},
        Case{"branching-node8-palette8", "trees.inputs.threshold_begin", branching_inputs,
             schema::TreeInputs::VT_THRESHOLD_BEGIN, 4},
        Case{"branching-node8-palette8", "trees.inputs.thresholds", branching_inputs,
             schema::TreeInputs::VT_THRESHOLDS, 4},
        Case{"branching-node8-palette8", "trees.nodes", kind, BranchingTrees::VT_NODES, 1},
        Case{"branching-node8-palette8", "trees.tree_nodes", kind, BranchingTrees::VT_TREE_NODES, 4},
        Case{"branching-node8-palette8", "trees.tree_leaves", kind, BranchingTrees::VT_TREE_LEAVES, 4},
        Case{"branching-node8-palette8", "trees.leaves", kind, BranchingTrees::VT_LEAVES, 1},
        Case{"branching-node8-palette8", "trees.palette", kind, BranchingTrees::VT_PALETTE, 4},
        Case{"complete-palette8", "trees.nodes", kind, BranchingTrees::VT_NODES, 1},
        Case{"complete-palette8", "trees.leaves", kind, BranchingTrees::VT_LEAVES, 1},
        Case{"symmetric-int16", "trees.splits", kind, SymmetricTrees::VT_SPLITS, 1},
        Case{"symmetric-int16", "trees.leaves", kind, SymmetricTrees::VT_LEAVES, 1},
        Case{"symmetric-palette8", "trees.palette", kind, SymmetricTrees::VT_PALETTE, 4},
        Case{"blocks-branching-palette8", "trees.nodes", kind, BlockTrees::VT_NODES, 1},
        Case{"blocks-branching-palette8", "trees.leaves", kind, BlockTrees::VT_LEAVES, 1},
        Case{"blocks-branching-palette8", "trees.palette", kind, BlockTrees::VT_PALETTE, 4},
        Case{"blocks-branching-palette8", "trees.inputs.pivot_begin", block_inputs,
             schema::TreeInputs::VT_PIVOT_BEGIN, 4},
        Case{"blocks-branching-palette8", "trees.inputs.pivots", block_inputs, schema::TreeInputs::VT_PIVOTS,
             4},
        Case{"quantized-int8", "quantized.weights", kind, QuantizedAffine::VT_WEIGHTS, 1},
        Case{"quantized-int8", "quantized.bias", kind, QuantizedAffine::VT_BIAS, 4},
        Case{"quantized-int8", "quantized.input_factors", kind, QuantizedAffine::VT_INPUT_FACTORS, 4},
        Case{"quantized-int8", "quantized.scales", kind, QuantizedAffine::VT_SCALES, 4},
        Case{"recurrent-gru-float16", "recurrent.input_factors", kind, Recurrent::VT_INPUT_FACTORS, 4},
        Case{"recurrent-gru-float16", "recurrent.input_weights", layer, RecurrentLayer::VT_INPUT_WEIGHTS, 1},
        Case{"recurrent-gru-float16", "recurrent.recurrent_weights", layer,
             RecurrentLayer::VT_RECURRENT_WEIGHTS, 1},
        Case{"recurrent-gru-before-int8", "recurrent.recurrent_weights", layer,
             RecurrentLayer::VT_RECURRENT_WEIGHTS, 1},
        Case{"recurrent-gru-float16", "recurrent.bias", layer, RecurrentLayer::VT_BIAS, 4},
        Case{"recurrent-gru-float16", "recurrent.recurrent_bias", layer, RecurrentLayer::VT_RECURRENT_BIAS,
             4},
        Case{"recurrent-gru-int8", "recurrent.bias_codes", layer, RecurrentLayer::VT_BIAS_CODES, 4},
        Case{"recurrent-gru-int8", "recurrent.recurrent_bias_codes", layer,
             RecurrentLayer::VT_RECURRENT_BIAS_CODES, 4},
        Case{"recurrent-gru-int8", "recurrent.input_multipliers", layer, RecurrentLayer::VT_INPUT_MULTIPLIERS,
             4},
        Case{"recurrent-gru-int8", "recurrent.recurrent_multipliers", layer,
             RecurrentLayer::VT_RECURRENT_MULTIPLIERS, 4}}) {
    for (const std::size_t misplaced : {0u, 4u, 8u, 12u}) {
      Bytes bytes = golden_blob(sample_model(c.sample));
      const auto* table = static_cast<const flatbuffers::Table*>(c.table(*schema::GetModel(bytes.data())));
      const auto field = static_cast<std::size_t>(table->GetAddressOf(c.field) - bytes.data());
      const std::size_t vector = field + flatbuffers::ReadScalar<std::uint32_t>(&bytes[field]);
      const std::size_t length = 4 + c.element_bytes * flatbuffers::ReadScalar<std::uint32_t>(&bytes[vector]);
      bytes.resize((bytes.size() + 15) / 16 * 16 + 12 + misplaced);  // the length lies before the elements
      const auto offset = static_cast<std::uint32_t>(bytes.size() - field);
      bytes.resize(bytes.size() + length);
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(vector), length,
                  bytes.end() - static_cast<std::ptrdiff_t>(length));
      std::memcpy(&bytes[field], &offset, 4);
      seal(bytes);
      const tonearm_diagnostic diagnostic = open(bytes);
      EXPECT_EQ(diagnostic.status, misplaced == 0 ? TONEARM_OK : TONEARM_INVALID) << c.part;
      EXPECT_STREQ(diagnostic.part, misplaced == 0 ? "" : c.part);
      EXPECT_EQ(diagnostic.found, misplaced) << c.part;
    }
  }
}

// --- Every rule of meaning, broken alone --------------------------------------------------------------

using schema::ModelT;

struct Rule {
  const char* sample;
  const char* part;
  std::function<void(ModelT&)> break_it;
  tonearm_status status = TONEARM_INVALID;
};

schema::FeatureT& feature(ModelT& model, std::size_t i) { return *model.features[i]; }
schema::OperatorT& op(ModelT& model, std::size_t i = 0) { return *model.operators[i]; }
schema::BranchingTreesT& branching(ModelT& model) { return *op(model).kind.AsBranchingTrees(); }
schema::SymmetricTreesT& symmetric(ModelT& model) { return *op(model).kind.AsSymmetricTrees(); }
schema::TreeInputsT& axes(ModelT& model) { return *branching(model).inputs; }
schema::BlockTreesT& blocks(ModelT& model) { return *op(model).kind.AsBlockTrees(); }
schema::TreeInputsT& block_axes(ModelT& model) { return *blocks(model).inputs; }
schema::AffineT& affine(ModelT& model) { return *op(model).kind.AsAffine(); }
schema::CalibrateT& calibrate(ModelT& model) { return *op(model, 1).kind.AsCalibrate(); }
schema::QuantizedAffineT& quantized(ModelT& model, std::size_t i = 0) {
  return *op(model, i).kind.AsQuantizedAffine();
}
schema::RecurrentT& recurrent(ModelT& model, std::size_t i = 0) { return *op(model, i).kind.AsRecurrent(); }
schema::RecurrentLayerT& layer(ModelT& model, std::size_t l = 0) { return *recurrent(model).layers[l]; }

template <typename Enum>
constexpr Enum unheard_of = static_cast<Enum>(200);

void put_float(std::vector<std::uint8_t>& bytes, std::size_t index, float value) {
  std::memcpy(&bytes[4 * index], &value, 4);
}

/// Repeats the first axis until there are so many; none has thresholds.
void many_axes(ModelT& model, std::size_t count) {
  schema::TreeInputsT& inputs = axes(model);
  inputs.slots.assign(count, 0);
  inputs.missing.assign(count, schema::MissingDirection::Left);
  inputs.threshold_begin.assign(count + 1, 0);
  inputs.thresholds.clear();
}

/// The last feature, and what follows it, as if it wrote so many slots.
void resize_last(ModelT& model, std::uint16_t length) {
  model.features.back()->output_length = length;
  for (const auto& later : model.operators) ++later->output_offset;
  ++op(model).input_length, ++op(model, 1).input_offset, ++model.output_offset;
}

/// Byte i (slice, bin, first leaf, left leaves) of a node in the first block, 64 trees wide, of branching
/// trees.
std::uint8_t& block_byte(ModelT& model, std::size_t tree, std::size_t node, std::size_t i) {
  return blocks(model).nodes[64 + (4 * node + i) * 64 + tree];
}

/// A tree of the first block of which the second node is the left child of the first.
std::size_t tree_with_left_child(ModelT& model) {
  for (std::size_t tree = 0; tree < 64; ++tree)
    if (blocks(model).nodes[tree] > 1 && block_byte(model, tree, 0, 3) > 1) return tree;
  ADD_FAILURE() << "no tree has a left child";
  return 0;
}

/// The pivots of `tempo`, the third axis: 16 of a higher level, then 32 of a lower.
std::int32_t& pivot(ModelT& model, std::size_t i) {
  return block_axes(model).pivots[block_axes(model).pivot_begin[2] + i];
}

/// As unsort_levels, of the block behind 16 context trees, which is 64 wide.
void unsort_block_levels(schema::BlockTreesT& trees) {
  std::uint8_t* rows = trees.nodes.data() + std::size_t{16} * 2 * trees.depth;
  for (unsigned level = 1; level < trees.depth; ++level)
    for (std::size_t tree = 0; tree < 64; ++tree) {
      std::uint8_t* before = rows + (level - 1) * 128 + tree;
      if (before[0] >= trees.inputs->context_slices || before[128] < trees.inputs->context_slices) continue;
      std::swap(before[0], before[128]);
      return;
    }
  FAIL() << "no tree asks of the context and of a candidate";
}

/// In some tree, a level of a candidate's axis comes before one of a context axis.
void unsort_levels(schema::SymmetricTreesT& trees) {
  for (std::size_t at = 0; at < trees.splits.size(); at += std::size_t{2} * trees.depth)
    for (unsigned level = 1; level < trees.depth; ++level) {
      const std::size_t place = at + std::size_t{2} * level;
      if (trees.splits[place - 2] >= trees.inputs->context_slices ||
          trees.splits[place] < trees.inputs->context_slices)
        continue;
      std::swap(trees.splits[place - 2], trees.splits[place]);
      std::swap(trees.splits[place - 1], trees.splits[place + 1]);
      return;
    }
  FAIL() << "no tree asks of the context and of a candidate";
}

void put_half(std::vector<std::uint8_t>& bytes, std::size_t index, std::uint16_t half) {
  std::memcpy(&bytes[2 * index], &half, 2);
}

/// The operator's network becomes a random one, of `steps` steps of the session.
void replace_network(ModelT& model, const SampleLayers& layers, std::uint16_t steps) {
  Random random(1);
  schema::RecurrentT other = sample_recurrent(layers, random);
  other.sequence = schema::Sequence::Session;
  other.steps = steps;
  op(model).input_length = static_cast<std::uint16_t>(layers.inputs);
  op(model).kind.Set(std::move(other));
}

// The features of "encoders": 0 identity, 1 scale, 2 and 3 one-hot, 4 and 5 ordinal, 6 bucket; those of
// "network": 0 scale, 1 projection. Node4 of "branching-node4-float32": slice, bin, left, right.
const Rule rules[] = {
    {"encoders", "columns", [](ModelT& m) { m.columns.clear(), m.missing_fill.clear(); }},
    {"encoders", "columns",
     [](ModelT& m) {
       while (m.columns.size() < 65536) m.columns.push_back(std::make_unique<schema::ColumnT>(*m.columns[0]));
       m.missing_fill.resize(65536);
     }},
    {"encoders", "missing_fill", [](ModelT& m) { m.missing_fill.pop_back(); }},
    {"encoders", "missing_fill", [](ModelT& m) { m.missing_fill.push_back(0); }},
    {"encoders", "missing_fill", [](ModelT& m) { m.missing_fill[1] = infinity; }},
    {"encoders", "column.source", [](ModelT& m) { m.columns[0]->source = unheard_of<schema::Source>; },
     TONEARM_RUNTIME_TOO_OLD},
    {"encoders", "column.type", [](ModelT& m) { m.columns[0]->type = unheard_of<schema::ColumnType>; },
     TONEARM_RUNTIME_TOO_OLD},
    {"encoders", "column.vocabulary", [](ModelT& m) { m.columns[2]->vocabulary.clear(); }},
    {"encoders", "column.vocabulary", [](ModelT& m) { m.columns[0]->vocabulary = {"x"}; }},
    {"encoders", "column.vocabulary", [](ModelT& m) { m.columns[2]->vocabulary.resize(65536, "x"); }},

    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 0).inputs[1] = 4; }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 6).inputs[2] = feature(m, 6).output_offset; }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 6).inputs[0] = 65535; }},
    {"encoders", "feature.phase", [](ModelT& m) { feature(m, 0).phase = unheard_of<schema::Phase>; },
     TONEARM_RUNTIME_TOO_OLD},
    {"encoders", "feature", [](ModelT& m) { feature(m, 0).output_offset += 1; }},
    {"encoders", "feature", [](ModelT& m) { feature(m, 1).output_offset -= 1; }},
    {"encoders", "feature", [](ModelT& m) { feature(m, 0).output_length = 0; }},
    {"encoders", "feature", [](ModelT& m) { feature(m, 6).output_length = 65535; }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 0).inputs.pop_back(); }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 1).inputs.push_back(0); }},
    {"encoders", "scale.center", [](ModelT& m) { feature(m, 1).encoder.AsScale()->center.pop_back(); }},
    {"encoders", "scale.factor", [](ModelT& m) { feature(m, 1).encoder.AsScale()->factor.push_back(1); }},
    {"encoders", "scale.center", [](ModelT& m) { feature(m, 1).encoder.AsScale()->center[0] = missing; }},
    {"encoders", "scale.factor", [](ModelT& m) { feature(m, 1).encoder.AsScale()->factor[1] = -infinity; }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 2).inputs.push_back(0); }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 3).inputs.clear(); }},
    {"network", "feature",
     [](ModelT& m) {
       schema::OneHotT one_hot;
       one_hot.unknown_slot = true;  // and no other
       feature(m, 0).inputs.resize(1);
       feature(m, 0).output_length = 1;
       feature(m, 0).encoder.Set(schema::OneHotT{one_hot});
     }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 4).inputs.push_back(0); }},
    {"encoders", "feature", [](ModelT& m) { feature(m, 4).output_length = 2, ++feature(m, 5).output_offset, ++feature(m, 6).output_offset; }},
    {"encoders", "ordinal.values", [](ModelT& m) { feature(m, 4).encoder.AsOrdinal()->values.clear(); }},
    {"encoders", "ordinal.values", [](ModelT& m) { feature(m, 4).encoder.AsOrdinal()->values[3] = missing; }},
    {"encoders", "ordinal.values", [](ModelT& m) { feature(m, 4).encoder.AsOrdinal()->values.resize(65536); }},
    {"encoders", "ordinal.unknown", [](ModelT& m) { feature(m, 5).encoder.AsOrdinal()->unknown = infinity; }},
    {"encoders", "feature.inputs", [](ModelT& m) { feature(m, 6).inputs.pop_back(); }},
    {"encoders", "bucket.edges", [](ModelT& m) { feature(m, 6).encoder.AsBucket()->edges.clear(); }},
    {"encoders", "bucket.edges", [](ModelT& m) { feature(m, 6).encoder.AsBucket()->edges[0] = -infinity; }},
    {"encoders", "bucket.edges", [](ModelT& m) { feature(m, 6).encoder.AsBucket()->edges[2] = 0; }},
    {"encoders", "bucket.edges", [](ModelT& m) { feature(m, 6).encoder.AsBucket()->edges[2] = -1; }},
    {"encoders", "bucket.edges", [](ModelT& m) { feature(m, 6).encoder.AsBucket()->edges[1] = missing; }},
    {"network", "feature.inputs", [](ModelT& m) { feature(m, 1).inputs.clear(); }},
    {"network", "projection.mean", [](ModelT& m) { feature(m, 1).encoder.AsProjection()->mean.pop_back(); }},
    {"network", "projection.components",
     [](ModelT& m) { feature(m, 1).encoder.AsProjection()->components.pop_back(); }},
    {"network", "projection.mean", [](ModelT& m) { feature(m, 1).encoder.AsProjection()->mean[0] = missing; }},
    {"network", "projection.components",
     [](ModelT& m) { feature(m, 1).encoder.AsProjection()->components[7] = infinity; }},

    {"network", "operator.phase", [](ModelT& m) { op(m).phase = unheard_of<schema::Phase>; },
     TONEARM_RUNTIME_TOO_OLD},
    {"network", "operator", [](ModelT& m) { op(m).input_length = 0; }},
    {"network", "operator", [](ModelT& m) { op(m).input_offset += 1; }},
    {"network", "operator", [](ModelT& m) { op(m).input_offset = 65535; }},
    {"network", "operator", [](ModelT& m) { op(m).output_offset -= 1; }},
    {"network", "operator", [](ModelT& m) { op(m).output_length = 0; }},
    {"network", "operator", [](ModelT& m) { op(m, 4).output_length = 65500; }},
    {"network", "affine.activation", [](ModelT& m) { affine(m).activation = unheard_of<schema::Activation>; },
     TONEARM_RUNTIME_TOO_OLD},
    {"network", "affine.weights", [](ModelT& m) { affine(m).weights.pop_back(); }},
    {"network", "affine.weights", [](ModelT& m) { affine(m).weights.push_back(0); }},
    {"network", "affine.bias", [](ModelT& m) { affine(m).bias.pop_back(); }},
    {"network", "affine.weights", [](ModelT& m) { affine(m).weights[5] = missing; }},
    {"network", "affine.bias", [](ModelT& m) { affine(m).bias[2] = infinity; }},

    {"branching-node4-float32", "trees.inputs.slots",
     [](ModelT& m) { axes(m) = {}, axes(m).threshold_begin = {0}; }},
    {"branching-node4-float32", "trees.inputs.slots", [](ModelT& m) { many_axes(m, 65536); }},
    {"branching-node4-float32", "trees.inputs.slots", [](ModelT& m) { axes(m).slots[1] = 4; }},
    {"branching-node4-float32", "trees.inputs.missing", [](ModelT& m) { axes(m).missing.pop_back(); }},
    {"branching-node4-float32", "trees.inputs.missing",
     [](ModelT& m) { axes(m).missing[2] = unheard_of<schema::MissingDirection>; }, TONEARM_RUNTIME_TOO_OLD},
    {"branching-node4-float32", "trees.inputs.threshold_begin", [](ModelT& m) { axes(m).threshold_begin.pop_back(); }},
    {"branching-node4-float32", "trees.inputs.threshold_begin", [](ModelT& m) { axes(m).threshold_begin.push_back(axes(m).threshold_begin.back()); }},
    {"branching-node4-float32", "trees.inputs.threshold_begin", [](ModelT& m) { axes(m).threshold_begin[0] = 1; }},
    {"branching-node4-float32", "trees.inputs.threshold_begin", [](ModelT& m) { axes(m).thresholds.push_back(0); }},
    {"branching-node4-float32", "trees.inputs.threshold_begin",
     [](ModelT& m) { axes(m).threshold_begin[2] = axes(m).threshold_begin[1] - 1; }},
    // Falls back later, but leads far behind the thresholds first.
    {"branching-node4-float32", "trees.inputs.threshold_begin",
     [](ModelT& m) { axes(m).threshold_begin[1] = 1u << 28; }},
    {"branching-node4-float32", "trees.inputs.threshold_begin",
     [](ModelT& m) { axes(m).threshold_begin[3] = UINT32_MAX; }},
    {"branching-node4-float32", "trees.inputs.thresholds", [](ModelT& m) { axes(m).thresholds[0] = INT32_MIN; }},
    {"branching-node4-float32", "trees.inputs.thresholds", [](ModelT& m) { axes(m).thresholds[6] = INT32_MAX; }},
    {"branching-node4-float32", "trees.inputs.thresholds", [](ModelT& m) { axes(m).thresholds[0] = -1; }},
    {"branching-node4-float32", "trees.inputs.thresholds",
     [](ModelT& m) { axes(m).thresholds[4] = axes(m).thresholds[3]; }},
    {"branching-node4-float32", "trees.inputs",
     [](ModelT& m) {
       many_axes(m, 65535);
       axes(m).threshold_begin.back() = 256;
       for (int t = 0; t < 256; ++t) axes(m).thresholds.push_back(t);
     }},

    {"branching-node4-float32", "trees.node_format",
     [](ModelT& m) { branching(m).node_format = unheard_of<schema::NodeFormat>; }, TONEARM_RUNTIME_TOO_OLD},
    {"branching-node4-float32", "trees.tree_nodes", [](ModelT& m) { branching(m).tree_nodes.clear(); }},
    {"branching-node4-float32", "trees.tree_nodes", [](ModelT& m) { branching(m).tree_nodes.resize(1); }},
    {"branching-node4-float32", "trees.tree_leaves", [](ModelT& m) { branching(m).tree_leaves.pop_back(); }},
    {"branching-node4-float32", "trees.tree_nodes", [](ModelT& m) { branching(m).tree_nodes[0] = 1; }},
    {"branching-node4-float32", "trees.tree_nodes",
     [](ModelT& m) {
       for (std::uint32_t& first : branching(m).tree_nodes) ++first;
       branching(m).nodes.insert(branching(m).nodes.begin(), {0, 255, 0x80, 0x80});
     }},
    {"branching-node4-float32", "trees.tree_leaves", [](ModelT& m) { branching(m).tree_leaves[0] = 1; }},
    {"branching-node4-float32", "trees.tree_nodes",
     [](ModelT& m) { branching(m).tree_nodes[2] = branching(m).tree_nodes[1]; }},
    {"branching-node4-float32", "trees.tree_nodes", [](ModelT& m) { branching(m).tree_nodes[2] = UINT32_MAX; }},
    {"branching-node4-float32", "trees.tree_nodes",
     [](ModelT& m) { branching(m).tree_leaves[2] = branching(m).tree_leaves[3]; }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes.pop_back(); }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes.resize(branching(m).nodes.size() + 4); }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).tree_nodes.back() += 1; }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes[0] = 6; }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes[2] = 0x81; }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes[3] = 0; }},
    {"branching-node4-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes[3] = 1; }},
    {"branching-node6-int16", "trees.nodes", [](ModelT& m) { branching(m).nodes[3] = 0x7f; }},
    {"branching-node8-palette8", "trees.nodes", [](ModelT& m) { branching(m).nodes[1] = 1; }},
    {"branching-node12-palette16", "trees.nodes", [](ModelT& m) { branching(m).nodes[7] = 0x7f; }},
    {"branching-node12-palette16", "trees.nodes", [](ModelT& m) { branching(m).nodes[11] = 0xff; }},

    {"branching-node4-float32", "trees.leaf_format",
     [](ModelT& m) { branching(m).leaf_format = unheard_of<schema::LeafFormat>; }, TONEARM_RUNTIME_TOO_OLD},
    {"branching-node4-float32", "trees.leaves", [](ModelT& m) { branching(m).leaves.pop_back(); }},
    {"branching-node4-float32", "trees.leaves", [](ModelT& m) { branching(m).tree_leaves.back() += 1; }},
    {"branching-node4-float32", "trees.leaves", [](ModelT& m) { put_float(branching(m).leaves, 3, missing); }},
    {"branching-node4-float32", "trees.leaves", [](ModelT& m) { put_float(branching(m).leaves, 4, infinity); }},
    {"branching-node8-palette8", "trees.leaves", [](ModelT& m) { branching(m).leaves[4] = 7; }},
    {"branching-node8-palette8", "trees.leaves", [](ModelT& m) { branching(m).palette.clear(); }},
    {"branching-node12-palette16", "trees.leaves", [](ModelT& m) { branching(m).leaves[5] = 2; }},
    {"branching-node8-palette8", "trees.palette", [](ModelT& m) { branching(m).palette[3] = missing; }},
    {"branching-node4-float32", "trees", [](ModelT& m) { op(m).output_length = 3; }},
    {"branching-node4-float32", "trees.base", [](ModelT& m) { branching(m).base.pop_back(); }},
    {"branching-node4-float32", "trees.base", [](ModelT& m) { branching(m).base[1] = infinity; }},
    {"branching-node4-float32", "trees.scale", [](ModelT& m) { branching(m).scale = missing; }},
    {"branching-node6-int16", "trees",
     [](ModelT& m) {
       schema::BranchingTreesT& trees = branching(m);
       trees.node_format = schema::NodeFormat::Node4;
       trees.tree_nodes = trees.tree_leaves = {0};
       trees.nodes.clear();
       for (std::uint32_t tree = 1; tree <= 65537; ++tree) {
         trees.tree_nodes.push_back(tree);
         trees.tree_leaves.push_back(tree);
         trees.nodes.insert(trees.nodes.end(), {0, 255, 0x80, 0x80});
       }
       trees.leaves.assign(131074, 0);
     }},

    {"symmetric-int16", "trees.inputs.slots", [](ModelT& m) { symmetric(m).inputs->slots[0] = 9; }},
    {"symmetric-int16", "trees.depth", [](ModelT& m) { symmetric(m).depth = 0; }},
    {"symmetric-int16", "trees.depth", [](ModelT& m) { symmetric(m).depth = 17; }},
    {"symmetric-int16", "trees.splits", [](ModelT& m) { symmetric(m).splits.clear(); }},
    {"symmetric-int16", "trees.splits", [](ModelT& m) { symmetric(m).splits.pop_back(); }},
    {"symmetric-int16", "trees.splits", [](ModelT& m) { symmetric(m).splits.resize(102); }},
    {"symmetric-int16", "trees.splits", [](ModelT& m) { symmetric(m).splits[10] = 6; }},
    {"symmetric-int16", "trees.leaves", [](ModelT& m) { symmetric(m).leaves.pop_back(); }},
    {"symmetric-int16", "trees.leaves", [](ModelT& m) { symmetric(m).splits.resize(96); }},
    {"symmetric-palette8", "trees.leaves", [](ModelT& m) { symmetric(m).leaves.back() = 7; }},
    {"symmetric-palette16", "trees.leaves", [](ModelT& m) { symmetric(m).leaves.back() = 2; }},
    {"symmetric-float32", "trees.leaves", [](ModelT& m) { put_float(symmetric(m).leaves, 25, -infinity); }},
    {"symmetric-palette8", "trees", [](ModelT& m) { op(m).output_length = 3; }},

    {"calibrate-isotonic", "calibrate", [](ModelT& m) { op(m, 1).output_length = 1; }},
    {"calibrate-isotonic", "calibrate.method",
     [](ModelT& m) { calibrate(m).method = unheard_of<schema::CalibrationMethod>; }, TONEARM_RUNTIME_TOO_OLD},
    {"calibrate-sigmoid", "calibrate.slope", [](ModelT& m) { calibrate(m).slope = infinity; }},
    {"calibrate-sigmoid", "calibrate.slope", [](ModelT& m) { calibrate(m).intercept = missing; }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).x.clear(), calibrate(m).y.clear(); }},
    {"calibrate-isotonic", "calibrate.y", [](ModelT& m) { calibrate(m).y.pop_back(); }},
    {"calibrate-isotonic", "calibrate.y", [](ModelT& m) { calibrate(m).y.clear(); }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).x[0] = -infinity; }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).x = {missing}, calibrate(m).y = {0}; }},
    {"calibrate-isotonic", "calibrate.y", [](ModelT& m) { calibrate(m).y[0] = missing; }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).x[1] = calibrate(m).x[0]; }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { std::swap(calibrate(m).x[1], calibrate(m).x[2]); }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).x = {-3e38f, 0, 1, 2, 3e38f}, calibrate(m).x[1] = 3e38f, calibrate(m).x.resize(2), calibrate(m).y.resize(2); }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).x[3] = 1e-40f; }},
    {"calibrate-isotonic", "calibrate.x", [](ModelT& m) { calibrate(m).y[0] = -3e38f, calibrate(m).y[1] = 3e38f; }},

    {"network", "output", [](ModelT& m) { m.output_length = 0; }},
    {"network", "output", [](ModelT& m) { m.output_length += 1; }},
    {"network", "output", [](ModelT& m) { m.output_offset = 65535, m.output_length = 65535; }},
    {"network", "golden.rows", [](ModelT& m) { m.golden->rows.pop_back(); }},
    {"network", "golden.outputs", [](ModelT& m) { m.golden->outputs.pop_back(); }},
    {"network", "golden.outputs", [](ModelT& m) { m.golden->rows.clear(); }},
    {"network", "golden.outputs", [](ModelT& m) { m.golden->outputs[0] = missing; }},
    {"network", "golden.tolerance", [](ModelT& m) { m.golden->tolerance = infinity; }},
    {"network", "golden.tolerance", [](ModelT& m) { m.golden->tolerance = -1e-6f; }},

    // Session models. Columns of "session-encoders": 0 energy, 1 mood (Track), 2 shuffle, 3 hour (Now),
    // 4 reason_start (Start), 5 n_seekback, 6 skipped (End). Features: 0 and 1 of the history part; 2, 3 lag;
    // 4 to 6 mean; 7, 8 window; 9, 10 total; 11 to 13 streak; 14 to 18 fact, of which 17 and 18 are the
    // candidate's as is all that follows; 19 difference; 20 distance; 21, 22 repeats.
    {"session-encoders", "fields", [](ModelT& m) { m.fields.pop_back(); }},
    {"session-encoders", "fields", [](ModelT& m) { m.fields[0] = unheard_of<schema::Field>; }, TONEARM_RUNTIME_TOO_OLD},
    {"session-encoders", "fields", [](ModelT& m) { m.fields[0] = schema::Field::Premium; }},
    {"session-encoders", "fields", [](ModelT& m) { m.fields[2] = schema::Field::ReasonStart; }},
    {"session-encoders", "fields", [](ModelT& m) { m.fields[1] = schema::Field::Tempo; }},
    {"session-encoders", "fields", [](ModelT& m) { m.fields[3] = schema::Field::ContextType; }},
    {"encoders", "fields", [](ModelT& m) { m.fields.push_back(schema::Field::Extra); }},
    {"session-encoders", "column.source", [](ModelT& m) { m.columns[0]->source = schema::Source::Row; }},
    {"session-encoders", "column.source", [](ModelT& m) { m.columns[3]->source = schema::Source::Track; }},
    {"session-encoders", "label", [](ModelT& m) { m.label = nullptr; }},
    {"session-encoders", "label.level", [](ModelT& m) { m.label->level = 1; }},
    {"session-encoders", "label.level", [](ModelT& m) { m.label->level = 6; }},
    {"session-encoders", "label.below_share", [](ModelT& m) { m.label->below_share = missing; }},
    {"session-encoders", "label.below_share", [](ModelT& m) { m.label->below_share = infinity; }},
    // What a phase may read.
    {"session-encoders", "feature.phase", [](ModelT& m) { feature(m, 3).phase = schema::Phase::Candidate; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 4).inputs[0] = feature(m, 3).output_offset; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 22).inputs[0] = feature(m, 19).output_offset; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 19).inputs[0] = 6; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 19).inputs[0] = feature(m, 0).output_offset; }},
    {"session-branching", "feature.inputs", [](ModelT& m) { feature(m, 1).inputs[0] = 0; }},
    {"session-branching", "feature.inputs", [](ModelT& m) { feature(m, 1).inputs[0] = 5; }},
    {"session-branching", "operator", [](ModelT& m) { op(m).input_offset -= 3; }},
    {"session-branching", "operator.phase", [](ModelT& m) { op(m).phase = schema::Phase::History; }},
    {"session-branching", "operator", [](ModelT& m) { op(m).phase = schema::Phase::Context; }},
    {"session-branching", "operator.phase", [](ModelT& m) { op(m, 1).phase = schema::Phase::History; }},
    {"session-branching", "operator", [](ModelT& m) { op(m, 1).phase = schema::Phase::Context; }},
    {"session-encoders", "output", [](ModelT& m) { m.output_offset = 6, m.output_length = 1; }},
    {"session-encoders", "output", [](ModelT& m) { m.output_offset = feature(m, 0).output_offset; }},
    // The encoders.
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 19).inputs.push_back(0); }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 20).inputs.pop_back(); }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 20).inputs.clear(); }},
    {"session-branching", "feature", [](ModelT& m) { resize_last(m, 2), feature(m, 3).inputs = {0, 1}, feature(m, 3).encoder.Set(schema::DistanceT{}); }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 18).inputs = {0}; }},
    {"session-encoders", "fact.fact", [](ModelT& m) { feature(m, 18).encoder.AsFact()->fact = unheard_of<schema::SessionFact>; }, TONEARM_RUNTIME_TOO_OLD},
    {"session-encoders", "feature.phase", [](ModelT& m) { feature(m, 14).encoder.AsFact()->fact = schema::SessionFact::Horizon; }},
    {"session-encoders", "feature.phase", [](ModelT& m) { feature(m, 14).encoder.AsFact()->fact = schema::SessionFact::Position; }},
    {"session-branching", "feature", [](ModelT& m) { resize_last(m, 2); }},
    {"encoders", "feature.encoder", [](ModelT& m) { feature(m, 0).encoder.Set(schema::TotalT{}); }},
    {"encoders", "feature.encoder", [](ModelT& m) { feature(m, 6).inputs.clear(), feature(m, 6).output_length = 1, feature(m, 6).encoder.Set(schema::FactT{}), m.output_length = 1; }},
    {"session-encoders", "feature.phase", [](ModelT& m) { feature(m, 0).inputs = {0}, feature(m, 0).encoder.Set(schema::TotalT{}); }},
    {"session-encoders", "lag.count", [](ModelT& m) { feature(m, 2).encoder.AsLag()->count = 0; }},
    {"session-encoders", "feature", [](ModelT& m) { feature(m, 2).encoder.AsLag()->count = 3; }},
    {"session-encoders", "lag.empty", [](ModelT& m) { feature(m, 2).encoder.AsLag()->empty = infinity; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 4).encoder.AsMean()->weighted = true; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 5).encoder.AsMean()->weighted = false; }},
    {"session-encoders", "mean.keep", [](ModelT& m) { feature(m, 4).encoder.AsMean()->keep = missing; }},
    {"session-encoders", "mean.prior", [](ModelT& m) { feature(m, 4).encoder.AsMean()->prior = infinity; }},
    {"session-encoders", "mean.prior_weight", [](ModelT& m) { feature(m, 4).encoder.AsMean()->prior_weight = -infinity; }},
    {"session-encoders", "window.length", [](ModelT& m) { feature(m, 7).encoder.AsWindow()->length = 0; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 7).inputs.pop_back(); }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 9).inputs.push_back(0); }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 11).inputs.pop_back(); }},
    {"session-encoders", "repeats.of", [](ModelT& m) { feature(m, 21).encoder.AsRepeats()->of = unheard_of<schema::Identifier>; }, TONEARM_RUNTIME_TOO_OLD},
    {"session-encoders", "repeats.length", [](ModelT& m) { feature(m, 21).encoder.AsRepeats()->length = 0; }},
    {"session-encoders", "feature.inputs", [](ModelT& m) { feature(m, 21).inputs.push_back(0); }},
    {"session-encoders", "features",
     [](ModelT& m) {
       for (const std::size_t i : {std::size_t{7}, std::size_t{8}}) feature(m, i).encoder.AsWindow()->length = 65535;
       feature(m, 21).encoder.AsRepeats()->length = 65535;
       feature(m, 22).encoder.AsRepeats()->length = 65535;
     }},
    // What candidates share.
    {"session-branching", "trees.inputs.context_axes", [](ModelT& m) { axes(m).context_axes = 255; }},
    {"session-branching", "trees.inputs.context_axes",
     [](ModelT& m) { axes(m).context_axes = static_cast<std::uint16_t>(axes(m).slots.size()); }},
    {"session-branching", "trees.inputs.context_slices", [](ModelT& m) { ++axes(m).context_slices; }},
    {"session-branching", "trees.inputs.slices", [](ModelT& m) { ++axes(m).slices; }},
    {"branching-node4-float32", "trees.inputs.context_axes", [](ModelT& m) { axes(m).context_axes = 1; }},
    {"session-branching", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 1000; }},
    {"session-branching", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 15; }},
    {"session-branching", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 32; }},
    {"branching-node6-int16", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 11; }},
    {"branching-node4-float32", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 16; }},
    {"session-symmetric", "trees.context_trees", [](ModelT& m) { symmetric(m).context_trees = 32; }},
    {"session-symmetric", "trees.context_trees", [](ModelT& m) { symmetric(m).context_trees = 1000; }},
    {"session-symmetric", "trees.context_trees", [](ModelT& m) { symmetric(m).context_trees = 8; }},
    {"session-symmetric", "trees.splits", [](ModelT& m) { unsort_levels(symmetric(m)); }},
    // Pivots and sets of categories. Axes: 0 and 1 loudness, 2 tempo with 300 thresholds, 3 key, 4 year with 40,
    // 5 loudness, 6 tempo; category axes: 0 key with 4 categories and 3 sets, 1 year with 6 and 2.
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { block_axes(m).pivot_begin.clear(), block_axes(m).thresholds.resize(block_axes(m).threshold_begin.back()); }},
    {"blocks-branching-float32", "trees.inputs.threshold_begin", [](ModelT& m) { block_axes(m).pivot_begin.clear(); }},
    {"blocks-branching-float32", "trees.inputs.threshold_begin", [](ModelT& m) { block_axes(m).thresholds.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.threshold_begin", [](ModelT& m) { block_axes(m).thresholds.push_back(INT32_MAX); }},
    {"blocks-branching-float32", "trees.inputs.threshold_begin", [](ModelT& m) { block_axes(m).threshold_begin.back() = UINT32_MAX - 14; }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin.push_back(block_axes(m).pivot_begin.back()); }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin[0] = 16; }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { ++block_axes(m).pivot_begin.back(); }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivots.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivots.clear(); }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin[3] -= 16; }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin[3] += 16; }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin[1] = UINT32_MAX; }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin", [](ModelT& m) { block_axes(m).pivot_begin[3] = UINT32_MAX - 47; }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { ++pivot(m, 0); }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { --pivot(m, 1); }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { pivot(m, 15) = 0; }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { --pivot(m, 16); }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { ++pivot(m, 16 + 17); }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { pivot(m, 16 + 18) = pivot(m, 16 + 17); }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { --pivot(m, 16 + 31); }},
    {"blocks-branching-float32", "trees.inputs.pivots", [](ModelT& m) { ++pivot(m, 48); }},
    {"blocks-branching-float32", "trees.inputs.category_counts", [](ModelT& m) { block_axes(m).category_counts.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.category_counts", [](ModelT& m) { block_axes(m).category_slots.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.category_counts", [](ModelT& m) { block_axes(m).category_slots.clear(); }},
    {"blocks-branching-float32", "trees.inputs.category_slices", [](ModelT& m) { block_axes(m).category_slices.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.category_slices", [](ModelT& m) { block_axes(m).category_slices.push_back(0); }},
    {"blocks-branching-float32", "trees.inputs.category_slots", [](ModelT& m) { block_axes(m).category_slots[1] = 4; }},
    {"blocks-branching-float32", "trees.inputs.category_counts", [](ModelT& m) { block_axes(m).category_counts[1] = (1u << 24) + 1; }},
    {"blocks-branching-float32", "trees.inputs.category_counts", [](ModelT& m) { block_axes(m).category_counts[0] = UINT32_MAX; }},
    {"blocks-branching-float32", "trees.inputs.category_rows", [](ModelT& m) { block_axes(m).category_counts[0] = 1u << 24; }},
    {"blocks-branching-float32", "trees.inputs.category_rows", [](ModelT& m) { block_axes(m).category_rows.pop_back(); }},
    {"blocks-branching-float32", "trees.inputs.category_rows", [](ModelT& m) { block_axes(m).category_rows.clear(); }},
    {"blocks-branching-float32", "trees.inputs.category_rows", [](ModelT& m) { block_axes(m).category_rows.push_back(0); }},
    {"blocks-branching-float32", "trees.inputs", [](ModelT& m) { block_axes(m).category_slices[0] = 65535; }},
    {"blocks-branching-float32", "trees.inputs.missing", [](ModelT& m) { block_axes(m).missing[2] = unheard_of<schema::MissingDirection>; }, TONEARM_RUNTIME_TOO_OLD},
    {"categories-branching", "trees.inputs.pivots", [](ModelT& m) { axes(m).pivots.back() = 0; }},
    {"categories-branching", "trees.nodes", [](ModelT& m) { axes(m).category_slices[0] = 0, axes(m).category_rows.clear(); }},
    {"categories-symmetric", "trees.splits", [](ModelT& m) { symmetric(m).inputs->category_slices[0] = 0, symmetric(m).inputs->category_rows.clear(); }},
    // Trees side by side. Tree 2 is a lone leaf: all of its nodes are missing.
    {"blocks-branching-float32", "trees.inputs.slices", [](ModelT& m) { ++block_axes(m).slices; }},
    {"blocks-branching-float32", "trees.inputs.slices", [](ModelT& m) { block_axes(m).slices = 0; }},
    {"blocks-branching-float32", "trees.inputs",
     [](ModelT& m) {
       schema::TreeInputsT& inputs = block_axes(m);
       inputs.slices = static_cast<std::uint16_t>(inputs.slices + 250);
       inputs.category_slices[0] = static_cast<std::uint16_t>(inputs.category_slices[0] + 250);
       inputs.category_rows.resize(inputs.category_rows.size() + std::size_t{7} * 250);
     }},
    {"blocks-symmetric-int16", "trees.depth", [](ModelT& m) { blocks(m).depth = 9; }},
    {"blocks-symmetric-int16", "trees.block_nodes", [](ModelT& m) { blocks(m).depth = 0; }},
    {"blocks-symmetric-int16", "trees.nodes", [](ModelT& m) { blocks(m).depth = 5; }},
    {"blocks-symmetric-int16", "trees.nodes", [](ModelT& m) { blocks(m).depth = 7; }},
    {"blocks-branching-float32", "trees.trees", [](ModelT& m) { blocks(m).trees = 0; }},
    {"blocks-branching-float32", "trees.trees", [](ModelT& m) { blocks(m).trees = 79; }},
    {"blocks-branching-float32", "trees.trees", [](ModelT& m) { blocks(m).trees = (1u << 20) + 16; }},
    {"blocks-branching-float32", "trees.trees", [](ModelT& m) { blocks(m).trees = UINT32_MAX - 15; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).trees = 96; }},
    {"blocks-branching-float32", "trees.block_nodes", [](ModelT& m) { blocks(m).trees = 64; }},
    {"blocks-branching-float32", "trees.block_nodes", [](ModelT& m) { blocks(m).trees = 1u << 20; }},
    {"blocks-branching-float32", "trees.block_nodes", [](ModelT& m) { blocks(m).block_nodes.pop_back(); }},
    {"blocks-branching-float32", "trees.block_nodes", [](ModelT& m) { blocks(m).block_nodes.clear(); }},
    {"blocks-branching-float32", "trees.block_nodes", [](ModelT& m) { blocks(m).block_nodes.push_back(0); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes.pop_back(); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes.push_back(0); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).block_nodes[1] = 255; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes[0] = static_cast<std::uint8_t>(blocks(m).block_nodes[0] + 1); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes[0] = 255; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 0, 0, 0) = static_cast<std::uint8_t>(block_axes(m).slices); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 0, 0, 2) = 1; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 0, 0, 3) = 0; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 0, 0, 3) = static_cast<std::uint8_t>(blocks(m).nodes[0] + 1); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 0, 0, 3) = 255; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { ++block_byte(m, tree_with_left_child(m), 1, 2); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, tree_with_left_child(m), 1, 3) = block_byte(m, tree_with_left_child(m), 0, 3); }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 2, 0, 1) = 254; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 2, 3, 3) = 1; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { block_byte(m, 2, 1, 0) = 200; }},
    {"blocks-branching-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes[2] = 1; }},
    {"blocks-symmetric-float32", "trees.nodes", [](ModelT& m) { blocks(m).trees = 64; }},
    {"blocks-symmetric-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes[0] = static_cast<std::uint8_t>(block_axes(m).slices); }},
    {"blocks-symmetric-float32", "trees.nodes", [](ModelT& m) { blocks(m).nodes[64 * 6 + 15] = 255; }},
    {"blocks-symmetric-int16", "trees.block_nodes", [](ModelT& m) { blocks(m).block_nodes.push_back(0); }},
    {"blocks-symmetric-int16", "trees.nodes", [](ModelT& m) { blocks(m).nodes.push_back(0); }},
    {"blocks-branching-float32", "trees.leaf_format", [](ModelT& m) { blocks(m).leaf_format = unheard_of<schema::LeafFormat>; }, TONEARM_RUNTIME_TOO_OLD},
    {"blocks-branching-float32", "trees.leaves", [](ModelT& m) { blocks(m).leaves.pop_back(); }},
    {"blocks-branching-float32", "trees.leaves", [](ModelT& m) { blocks(m).leaves.push_back(0); }},
    {"blocks-symmetric-int16", "trees.leaves", [](ModelT& m) { blocks(m).leaves.pop_back(); }},
    {"blocks-branching-float32", "trees.leaves", [](ModelT& m) { put_float(blocks(m).leaves, 600, missing); }},
    {"blocks-branching-palette8", "trees.leaves", [](ModelT& m) { blocks(m).leaves.back() = 7; }},
    {"blocks-branching-palette8", "trees.leaves", [](ModelT& m) { blocks(m).palette.clear(); }},
    {"blocks-symmetric-palette16", "trees.leaves", [](ModelT& m) { blocks(m).leaves.back() = 2; }},
    {"blocks-symmetric-palette16", "trees.palette", [](ModelT& m) { blocks(m).palette[9] = infinity; }},
    {"blocks-branching-float32", "trees.base", [](ModelT& m) { blocks(m).base.push_back(0); }},
    {"blocks-branching-float32", "trees.base", [](ModelT& m) { blocks(m).base[0] = missing; }},
    {"blocks-branching-float32", "trees.scale", [](ModelT& m) { blocks(m).scale = infinity; }},
    {"blocks-branching-palette8", "trees.block_nodes", [](ModelT& m) { op(m).output_length = 2; }},
    {"blocks-branching-int16", "trees.nodes",
     [](ModelT& m) {
       blocks(m).block_nodes = {0};
       blocks(m).nodes.assign(16 + 48, 0);
       blocks(m).nodes[3] = 1;
       blocks(m).leaves.assign(32, 0);
     }},
    {"blocks-branching-float32", "trees.inputs.pivot_begin",
     [](ModelT& m) {
       for (std::uint32_t& first : block_axes(m).pivot_begin) first += 16;
       block_axes(m).pivots.insert(block_axes(m).pivots.begin(), 16, INT32_MAX);
     }},
    {"blocks-branching-int16", "trees",
     [](ModelT& m) {
       blocks(m).trees = 65552;
       blocks(m).block_nodes.assign(1025, 0);
       blocks(m).nodes.assign(65552 + 48, 0);
       blocks(m).leaves.assign(2 * 65552, 0);
     }},
    {"blocks-branching-float32", "trees.context_trees", [](ModelT& m) { blocks(m).context_trees = 16; }},
    {"blocks-branching-palette8", "trees.context_trees", [](ModelT& m) { blocks(m).context_trees = 16; }},
    {"blocks-branching-float32", "trees.inputs.context_axes", [](ModelT& m) { block_axes(m).context_axes = 1; }},
    {"session-blocks-branching", "trees.inputs.context_axes", [](ModelT& m) { ++block_axes(m).context_axes; }},
    {"session-blocks-branching", "trees.inputs.context_axes", [](ModelT& m) { block_axes(m).context_axes = 255; }},
    {"session-blocks-branching", "trees.inputs.context_slices", [](ModelT& m) { ++block_axes(m).context_slices; }},
    {"session-blocks-branching", "trees.inputs.context_slices", [](ModelT& m) { --block_axes(m).context_axes; }},
    {"session-blocks-branching", "trees.context_trees", [](ModelT& m) { blocks(m).context_trees = 8; }},
    {"session-blocks-branching", "trees.context_trees", [](ModelT& m) { blocks(m).context_trees = 112; }},
    {"session-blocks-branching", "trees.context_trees", [](ModelT& m) { blocks(m).context_trees = UINT32_MAX - 15; }},
    {"session-blocks-branching", "trees.context_trees", [](ModelT& m) { blocks(m).nodes[16] = 4; }},
    {"session-blocks-branching", "trees.nodes", [](ModelT& m) { blocks(m).nodes[16] = 255; }},
    {"session-blocks-symmetric", "trees.context_trees", [](ModelT& m) { blocks(m).nodes[0] = 4; }},
    {"session-blocks-symmetric", "trees.nodes", [](ModelT& m) { unsort_block_levels(blocks(m)); }},
    // Complete trees: 22 of depth 4, 3 of depth 8, 51 of depth 1; of the session model's 37 the first 16 ask of the
    // context alone.
    {"branching-node4-float32", "trees.depth", [](ModelT& m) { branching(m).depth = 1; }},
    {"branching-node4-float32", "trees.depth", [](ModelT& m) { branching(m).node_format = schema::NodeFormat::Complete; }},
    {"complete-float32", "trees.tree_nodes", [](ModelT& m) { branching(m).node_format = schema::NodeFormat::Node4; }},
    {"complete-float32", "trees.inputs.slots", [](ModelT& m) { axes(m).slots[1] = 4; }},
    {"complete-float32", "trees.depth", [](ModelT& m) { branching(m).depth = 0; }},
    {"complete-float32", "trees.depth", [](ModelT& m) { branching(m).depth = 9; }},
    {"complete-float32", "trees.depth", [](ModelT& m) { branching(m).depth = 16; }},
    {"complete-float32", "trees.depth", [](ModelT& m) { branching(m).depth = 255; }},
    {"complete-float32", "trees.nodes", [](ModelT& m) { branching(m).depth = 5; }},
    {"complete-float32", "trees.leaves", [](ModelT& m) { branching(m).depth = 2; }},
    {"complete-float32", "trees.tree_nodes", [](ModelT& m) { branching(m).tree_nodes.push_back(0); }},
    {"complete-float32", "trees.tree_leaves", [](ModelT& m) { branching(m).tree_leaves.push_back(0); }},
    {"complete-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes.clear(); }},
    {"complete-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes.pop_back(); }},
    {"complete-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes.insert(branching(m).nodes.end(), {0, 1}); }},
    {"complete-float32", "trees.nodes", [](ModelT& m) { branching(m).nodes[0] = 6; }},
    {"complete-float32", "trees.nodes", [](ModelT& m) { *(branching(m).nodes.end() - 2) = 255; }},
    {"complete-float32", "trees.leaves", [](ModelT& m) { branching(m).nodes.resize(21 * 30); }},
    {"complete-float32", "trees", [](ModelT& m) { branching(m).nodes.resize(21 * 30), branching(m).leaves.resize(21 * 64); }},
    {"complete-float32", "trees.leaves", [](ModelT& m) { branching(m).leaves.pop_back(); }},
    {"complete-float32", "trees.leaves", [](ModelT& m) { put_float(branching(m).leaves, 350, missing); }},
    {"complete-palette8", "trees.leaves", [](ModelT& m) { branching(m).leaves.back() = 7; }},
    {"complete-float32", "trees.base", [](ModelT& m) { branching(m).base.pop_back(); }},
    {"complete-float32", "trees.leaf_format", [](ModelT& m) { branching(m).leaf_format = unheard_of<schema::LeafFormat>; }, TONEARM_RUNTIME_TOO_OLD},
    {"complete-int16", "trees",
     [](ModelT& m) {
       branching(m).depth = 1;
       branching(m).nodes.assign(2 * 65537, 0);
       branching(m).leaves.assign(2 * 2 * 65537, 0);
     }},
    {"complete-int16", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 3; }},
    {"session-complete", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 15; }},
    {"session-complete", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = 32; }},
    {"session-complete", "trees.context_trees", [](ModelT& m) { branching(m).context_trees = UINT32_MAX; }},
    {"session-complete", "trees.context_trees", [](ModelT& m) { branching(m).nodes[0] = 8; }},
    {"session-complete", "trees.context_trees", [](ModelT& m) { branching(m).nodes[16 * 14 - 2] = 13; }},
    {"session-complete", "trees.nodes", [](ModelT& m) { branching(m).nodes[0] = 14; }},
    // Norms.
    {"normalize", "feature.inputs", [](ModelT& m) { feature(m, 0).inputs.clear(); }},
    {"normalize", "feature.inputs", [](ModelT& m) { feature(m, 0).inputs.pop_back(); }},
    {"normalize", "feature.inputs", [](ModelT& m) { feature(m, 1).inputs.push_back(0); }},
    {"normalize", "normalize.norm", [](ModelT& m) { feature(m, 0).encoder.AsNormalize()->norm = unheard_of<schema::Norm>; }, TONEARM_RUNTIME_TOO_OLD},
    // Layers of codes and halves. "quantized-int8": 4 inputs, 18 outputs, then 3.
    {"quantized-int8", "quantized.format", [](ModelT& m) { quantized(m).format = unheard_of<schema::WeightFormat>; }, TONEARM_RUNTIME_TOO_OLD},
    {"quantized-int8", "quantized.format", [](ModelT& m) { quantized(m).format = schema::WeightFormat::Float32; }},
    {"quantized-int8", "quantized.activation", [](ModelT& m) { quantized(m).activation = unheard_of<schema::Activation>; }, TONEARM_RUNTIME_TOO_OLD},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m).weights.pop_back(); }},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m).weights.push_back(128); }},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m).weights.clear(); }},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m).weights[5] = 0; }},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m, 1).weights[64 * 4 + 2] = 129; }},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m, 1).weights[64 * 4 + 63] = 127; }},
    {"quantized-int8", "quantized.weights", [](ModelT& m) { quantized(m).format = schema::WeightFormat::Float16; }},
    {"quantized-float16", "quantized.weights", [](ModelT& m) { quantized(m).format = schema::WeightFormat::Int8; }},
    {"quantized-float16", "quantized.weights", [](ModelT& m) { put_half(quantized(m).weights, 3, 0x7c00); }},
    {"quantized-float16", "quantized.weights", [](ModelT& m) { put_half(quantized(m).weights, 4, 0xfe01); }},
    {"quantized-int8", "quantized.bias", [](ModelT& m) { quantized(m).bias.pop_back(); }},
    {"quantized-int8", "quantized.bias", [](ModelT& m) { quantized(m).bias.push_back(0); }},
    {"quantized-int8", "quantized.bias", [](ModelT& m) { quantized(m).bias[17] = missing; }},
    {"quantized-float16", "quantized.bias", [](ModelT& m) { quantized(m).bias[0] = infinity; }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors.pop_back(); }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors.clear(); }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors.push_back(1); }},
    {"quantized-float16", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors.assign(4, 1); }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors[1] = 0; }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors[1] = -1; }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors[1] = 1e-40f; }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors[2] = std::nextafterf(1e30f, infinity); }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors[3] = infinity; }},
    {"quantized-int8", "quantized.input_factors", [](ModelT& m) { quantized(m).input_factors[0] = missing; }},
    {"quantized-int8", "quantized.scales", [](ModelT& m) { quantized(m).scales.pop_back(); }},
    {"quantized-int8", "quantized.scales", [](ModelT& m) { quantized(m).scales.clear(); }},
    {"quantized-float16", "quantized.scales", [](ModelT& m) { quantized(m).scales.assign(18, 1); }},
    {"quantized-int8", "quantized.scales", [](ModelT& m) { quantized(m).scales[2] = missing; }},
    {"quantized-int8", "quantized.scales", [](ModelT& m) { quantized(m).scales[3] = -infinity; }},
    // Recurrent layers. "recurrent-lstm-float32": 2 steps of 2 inputs, 2 levels, both ways, 3 units; "recurrent-gru-int8":
    // 2 steps of 2 inputs, 18 units; "recurrent-gru-before-int8": up to 3 steps of one, both ways, 6 units.
    {"recurrent-gru-int8", "recurrent.sequence", [](ModelT& m) { recurrent(m).sequence = unheard_of<schema::Sequence>; }, TONEARM_RUNTIME_TOO_OLD},
    {"session-recurrent-int8", "recurrent.sequence", [](ModelT& m) { recurrent(m).sequence = unheard_of<schema::Sequence>; }, TONEARM_RUNTIME_TOO_OLD},
    {"recurrent-gru-int8", "recurrent.format", [](ModelT& m) { recurrent(m).format = unheard_of<schema::WeightFormat>; }, TONEARM_RUNTIME_TOO_OLD},
    {"recurrent-gru-int8", "recurrent.layers", [](ModelT& m) { recurrent(m).layers.clear(); }},
    {"recurrent-lstm-float32", "recurrent.layers",
     [](ModelT& m) {
       recurrent(m).layers.resize(1);
       while (recurrent(m).layers.size() < 17) {
         recurrent(m).layers.push_back(std::make_unique<schema::RecurrentLayerT>(layer(m)));
         ++recurrent(m).layers.back()->level;
       }
     }},
    {"recurrent-lstm-float32", "recurrent.layers", [](ModelT& m) { std::swap(recurrent(m).layers[0], recurrent(m).layers[1]); }},
    {"recurrent-lstm-float32", "recurrent.layers", [](ModelT& m) { layer(m, 0).level = 1; }},
    {"recurrent-lstm-float32", "recurrent.layers", [](ModelT& m) { layer(m, 2).level = 2; }},
    {"recurrent-lstm-float32", "recurrent.layers", [](ModelT& m) { layer(m, 2).level = 0; }},
    {"recurrent-lstm-float32", "recurrent.layers", [](ModelT& m) { layer(m, 0).backward = true; }},
    {"recurrent-lstm-float32", "recurrent.layers", [](ModelT& m) { layer(m, 1).backward = false; }},
    {"recurrent-lstm-float32", "recurrent.input_weights", [](ModelT& m) { recurrent(m).layers.erase(recurrent(m).layers.begin() + 1); }},
    {"recurrent-gru-int8", "recurrent.cell", [](ModelT& m) { layer(m).cell = unheard_of<schema::Cell>; }, TONEARM_RUNTIME_TOO_OLD},
    {"recurrent-rnn-int8", "recurrent.cell", [](ModelT& m) { layer(m).cell = schema::Cell::RnnRelu; }},
    {"recurrent-gru-int8", "recurrent.units", [](ModelT& m) { layer(m).units = 0; }},
    {"recurrent-gru-int8", "recurrent.units", [](ModelT& m) { layer(m).units = 4097; }},
    {"recurrent-gru-int8", "recurrent.input_weights", [](ModelT& m) { layer(m).cell = schema::Cell::Lstm; }},
    {"recurrent-gru-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).units = 32; }},
    {"recurrent-gru-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).cell = schema::Cell::GruResetBefore; }},
    {"recurrent-gru-int8", "recurrent.input_weights", [](ModelT& m) { layer(m).input_weights.pop_back(); }},
    {"recurrent-gru-int8", "recurrent.input_weights", [](ModelT& m) { layer(m).input_weights.push_back(128); }},
    {"recurrent-gru-int8", "recurrent.input_weights", [](ModelT& m) { layer(m).input_weights[4] = 0; }},
    {"recurrent-gru-int8", "recurrent.input_weights", [](ModelT& m) { layer(m).input_weights[2] = 129; }},
    {"recurrent-gru-int8", "recurrent.input_weights", [](ModelT& m) { layer(m).input_weights.back() = 127; }},
    {"recurrent-gru-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights.pop_back(); }},
    {"recurrent-gru-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights[0] = 0; }},
    {"recurrent-gru-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights[4 * 3 * 16 * 4 + 2] = 129; }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights.pop_back(); }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights.resize(256); }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights[255] = 0; }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights[256] = 0; }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights[(2 * 16) * 4 + 2] = 129; }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_weights", [](ModelT& m) { layer(m).recurrent_weights[256 + 16 * 4 + 3] = 129; }},
    {"recurrent-lstm-float32", "recurrent.input_weights", [](ModelT& m) { put_float(layer(m).input_weights, 1, missing); }},
    {"recurrent-lstm-float32", "recurrent.input_weights", [](ModelT& m) { put_float(layer(m, 3).input_weights, 0, std::nextafterf(1e6f, infinity)); }},
    {"recurrent-lstm-float32", "recurrent.recurrent_weights", [](ModelT& m) { put_float(layer(m, 1).recurrent_weights, 2, -infinity); }},
    {"recurrent-gru-before-float32", "recurrent.recurrent_weights", [](ModelT& m) { put_float(layer(m).recurrent_weights, 3 * 16 * 4 - 1, -1.5e6f); }},
    {"recurrent-gru-float16", "recurrent.recurrent_weights", [](ModelT& m) { put_half(layer(m).recurrent_weights, 9, 0xfc00); }},
    {"recurrent-gru-float16", "recurrent.bias", [](ModelT& m) { layer(m).bias.pop_back(); }},
    {"recurrent-gru-float16", "recurrent.bias", [](ModelT& m) { layer(m).bias.push_back(0); }},
    {"recurrent-gru-float16", "recurrent.bias", [](ModelT& m) { layer(m).bias.clear(); }},
    {"recurrent-gru-float16", "recurrent.bias", [](ModelT& m) { layer(m).bias[5] = missing; }},
    {"recurrent-gru-float16", "recurrent.bias", [](ModelT& m) { layer(m).bias[6] = -2e6f; }},
    {"recurrent-gru-float16", "recurrent.recurrent_bias", [](ModelT& m) { layer(m).recurrent_bias.pop_back(); }},
    {"recurrent-gru-float16", "recurrent.recurrent_bias", [](ModelT& m) { layer(m).recurrent_bias.clear(); }},
    {"recurrent-gru-float16", "recurrent.recurrent_bias", [](ModelT& m) { layer(m).recurrent_bias[16] = infinity; }},
    {"recurrent-lstm-float32", "recurrent.recurrent_bias", [](ModelT& m) { layer(m).recurrent_bias.resize(16); }},
    {"recurrent-gru-float16", "recurrent.bias_codes", [](ModelT& m) { layer(m).bias_codes.resize(96); }},
    {"recurrent-gru-float16", "recurrent.recurrent_bias_codes", [](ModelT& m) { layer(m).recurrent_bias_codes.resize(32); }},
    {"recurrent-gru-float16", "recurrent.input_multipliers", [](ModelT& m) { layer(m).input_multipliers.resize(96); }},
    {"recurrent-gru-float16", "recurrent.recurrent_multipliers", [](ModelT& m) { layer(m).recurrent_multipliers.resize(96); }},
    {"recurrent-gru-int8", "recurrent.bias", [](ModelT& m) { layer(m).bias.resize(96); }},
    {"recurrent-gru-int8", "recurrent.recurrent_bias", [](ModelT& m) { layer(m).recurrent_bias.resize(32); }},
    {"recurrent-gru-int8", "recurrent.bias_codes", [](ModelT& m) { layer(m).bias_codes.pop_back(); }},
    {"recurrent-gru-int8", "recurrent.recurrent_bias_codes", [](ModelT& m) { layer(m).recurrent_bias_codes.pop_back(); }},
    {"recurrent-gru-int8", "recurrent.input_multipliers", [](ModelT& m) { layer(m).input_multipliers.pop_back(); }},
    {"recurrent-gru-int8", "recurrent.recurrent_multipliers", [](ModelT& m) { layer(m).recurrent_multipliers.push_back(0); }},
    {"recurrent-gru-int8", "recurrent.input_shift", [](ModelT& m) { layer(m).input_shift = 0; }},
    {"recurrent-gru-int8", "recurrent.input_shift", [](ModelT& m) { layer(m).input_shift = 47; }},
    {"recurrent-gru-int8", "recurrent.recurrent_shift", [](ModelT& m) { layer(m).recurrent_shift = 0; }},
    {"recurrent-gru-int8", "recurrent.recurrent_shift", [](ModelT& m) { layer(m).recurrent_shift = 255; }},
    {"recurrent-gru-int8", "recurrent.bias_codes", [](ModelT& m) { layer(m).bias_codes[0] = 1 << 29; }},
    {"recurrent-gru-int8", "recurrent.bias_codes", [](ModelT& m) { layer(m).bias_codes.back() = INT32_MIN; }},
    {"recurrent-gru-int8", "recurrent.recurrent_bias_codes", [](ModelT& m) { layer(m).recurrent_bias_codes[1] = -(1 << 29); }},
    {"recurrent-gru-int8", "recurrent.input_multipliers", [](ModelT& m) { layer(m).input_shift = 1, layer(m).input_multipliers[40] = INT32_MIN; }},
    {"recurrent-gru-int8", "recurrent.recurrent_multipliers", [](ModelT& m) { layer(m).recurrent_shift = 5, layer(m).recurrent_multipliers[3] = INT32_MAX; }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_multipliers", [](ModelT& m) { layer(m).recurrent_shift = 5, layer(m).recurrent_multipliers[16] = INT32_MAX; }},
    {"recurrent-gru-before-int8", "recurrent.recurrent_multipliers", [](ModelT& m) { layer(m).recurrent_shift = 5, layer(m).recurrent_multipliers[32] = INT32_MAX; }},
    // 127 times this is 2^30 and a little: half of it is 2^29.
    {"recurrent-gru-int8", "recurrent.input_multipliers",
     [](ModelT& m) {
       std::fill(layer(m).input_weights.begin(), layer(m).input_weights.end(), std::uint8_t{128});
       layer(m).input_weights[1] = 127;
       layer(m).input_shift = 1;
       layer(m).input_multipliers[0] = 8454661;
     }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors.pop_back(); }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors.clear(); }},
    {"recurrent-lstm-float32", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors.push_back(1); }},
    {"recurrent-lstm-float32", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors[0] = 0; }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors[1] = -3; }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors[1] = 1e-39f; }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors[0] = infinity; }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).input_factors[0] = missing; }},
    {"recurrent-gru-int8", "recurrent.input_factors", [](ModelT& m) { recurrent(m).steps = 4; }},
    // Sequences.
    {"recurrent-gru-int8", "recurrent.steps", [](ModelT& m) { recurrent(m).steps = 0; }},
    {"recurrent-gru-int8", "recurrent.padded", [](ModelT& m) { recurrent(m).padded = true; }},
    {"recurrent-gru-int8", "recurrent.padding", [](ModelT& m) { recurrent(m).padding = missing; }},
    {"session-padded-int8", "recurrent.padding", [](ModelT& m) { recurrent(m).padding = -infinity; }},
    {"recurrent-gru-int8", "operator", [](ModelT& m) { recurrent(m).steps = 3; }},
    {"recurrent-gru-int8", "operator", [](ModelT& m) { recurrent(m).lengths = true; }},
    {"recurrent-gru-before-int8", "operator", [](ModelT& m) { recurrent(m).lengths = false; }},
    {"recurrent-gru-before-int8", "operator", [](ModelT& m) { op(m).input_length = 1; }},
    {"recurrent-gru-int8", "operator", [](ModelT& m) { recurrent(m).all_steps = true; }},
    {"recurrent-gru-before-int8", "operator", [](ModelT& m) { recurrent(m).all_steps = false; }},
    {"recurrent-gru-int8", "operator", [](ModelT& m) { ++op(m).output_length; }},
    {"recurrent-gru-int8", "operator", [](ModelT& m) { --op(m).output_length; }},
    {"recurrent-gru-int8", "recurrent.sequence", [](ModelT& m) { recurrent(m).sequence = schema::Sequence::Session; }},
    {"session-recurrent-int8", "operator", [](ModelT& m) { recurrent(m).sequence = schema::Sequence::Row; }},
    {"session-recurrent-int8", "operator", [](ModelT& m) { op(m).input_offset += 1; }},
    {"session-recurrent-int8", "operator", [](ModelT& m) { op(m, 1).input_offset = op(m).output_offset; }},
    {"session-recurrent-int8", "operator.phase", [](ModelT& m) { op(m, 1).phase = schema::Phase::Candidate; }},
    {"session-recurrent-int8", "operator.phase", [](ModelT& m) { op(m, 1).phase = schema::Phase::History; }},
    {"session-recurrent-int8", "operator.phase", [](ModelT& m) { op(m).phase = schema::Phase::Candidate; }},
    {"session-ring-int8", "recurrent.all_steps", [](ModelT& m) { recurrent(m).all_steps = true; }},
    {"session-ring-int8", "recurrent.lengths", [](ModelT& m) { recurrent(m).lengths = true; }},
    {"session-ring-int8", "recurrent.steps", [](ModelT& m) { recurrent(m).steps = 0; }},
    {"session-padded-int8", "recurrent.steps", [](ModelT& m) { recurrent(m).steps = 0; }},
    {"session-recurrent-int8", "recurrent.steps", [](ModelT& m) { recurrent(m).padded = true; }},
    {"session-recurrent-int8", "recurrent.steps", [](ModelT& m) { layer(m, 1).backward = true; }},
    {"session-recurrent-float32", "features", [](ModelT& m) { recurrent(m).steps = 65535; }},
    {"session-ring-int8", "operator", [](ModelT& m) { replace_network(m, {schema::Cell::Lstm, schema::WeightFormat::Int8, 1, 256}, 65535); }},
    {"session-ring-int8", "operators",
     [](ModelT& m) {
       replace_network(m, {schema::Cell::Lstm, schema::WeightFormat::Int8, 1, 256}, 65535);
       const auto more = static_cast<std::uint16_t>(256 - op(m).output_length);
       op(m).output_length = 256;
       for (std::size_t i = 1; i < m.operators.size(); ++i) op(m, i).output_offset += more;
     }},
    // Golden events.
    {"session-branching", "golden.events", [](ModelT& m) { m.golden->events.pop_back(); }},
    {"session-branching", "golden.events", [](ModelT& m) { m.golden->events.clear(); }},
    {"session-branching", "golden.events", [](ModelT& m) { m.golden->events[0]->kind = unheard_of<schema::GoldenEventKind>; }, TONEARM_RUNTIME_TOO_OLD},
    {"session-branching", "golden.rows", [](ModelT& m) { m.golden->rows.push_back(0); }},
    {"session-branching", "golden.outputs", [](ModelT& m) { m.golden->outputs.push_back(0); }},
    {"session-branching", "golden.outputs", [](ModelT& m) { m.golden->outputs[0] = infinity; }},
    {"network", "golden.events", [](ModelT& m) { m.golden->events.push_back(std::make_unique<schema::GoldenEventT>()); }},
};

TEST(Meaning, EveryRuleIsChecked) {
  for (const Rule& rule : rules) {
    SampleModel sample = sample_model(rule.sample);
    if (sample.model.session != nullptr) {
      const Bytes golden = golden_blob(sample);
      schema::GetModel(golden.data())->UnPackTo(&(sample.model = ModelT{}));
    } else {
      add_golden(sample.model, std::vector<float>(4, 1.0f));
    }
    Bytes bytes = pack(sample.model);
    ASSERT_EQ(open(bytes).status, TONEARM_OK);
    rule.break_it(sample.model);
    bytes = pack(sample.model);
    const tonearm_diagnostic diagnostic = open(bytes);
    const std::string where = "line of the rule on " + std::string(rule.part) + ", number " +
                              std::to_string(&rule - rules) + ": " + diagnostic.part + ": " + diagnostic.rule;
    EXPECT_EQ(diagnostic.status, rule.status) << where;
    EXPECT_STREQ(diagnostic.part, rule.part) << where;
  }
}

TEST(Meaning, TheMemoryPlanIsThatOfTheProgram) {
  struct Case {
    std::uint32_t schema::MemoryPlanT::*field;
    const char* part;
  };
  const Bytes whole = golden_blob(sample_model("symmetric-int16"));
  EXPECT_EQ(open(repacked(whole, [](ModelT&) {})).status, TONEARM_OK);
  for (const Case& c : {Case{&schema::MemoryPlanT::slots, "memory.slots"},
                        Case{&schema::MemoryPlanT::scratch_bytes, "memory.scratch_bytes"},
                        Case{&schema::MemoryPlanT::session_bytes, "memory.session_bytes"}})
    for (const std::uint32_t change : {1u, UINT32_MAX, 0x80000000u}) {
      const Bytes bytes = repacked(whole, [&](ModelT& model) { (*model.memory).*c.field += change; });
      EXPECT_EQ(open(bytes).status, TONEARM_INVALID);
      EXPECT_STREQ(open(bytes).part, c.part);
    }
}

/// Sets the byte that tells which member of a union follows.
template <typename Table>
void set_kind(Bytes& bytes, const Table& table, flatbuffers::voffset_t field, std::uint8_t kind) {
  const auto& plain = reinterpret_cast<const flatbuffers::Table&>(table);
  bytes[static_cast<std::size_t>(plain.GetAddressOf(field) - bytes.data())] = kind;
  seal(bytes);
}

TEST(Meaning, KindsThatThisLibraryDoesNotKnowAskForANewerOne) {
  {  // whatever it reads: its phase may have other rules
    Bytes bytes = golden_blob(sample_model("session-encoders"));
    const auto& features = *schema::GetModel(bytes.data())->features();
    set_kind(bytes, *features.Get(features.size() - 4), schema::Feature::VT_ENCODER_TYPE, 77);
    EXPECT_EQ(open(bytes).status, TONEARM_RUNTIME_TOO_OLD);
    EXPECT_STREQ(open(bytes).part, "feature.encoder");
  }
  for (const std::uint8_t kind : std::initializer_list<std::uint8_t>{0, 77}) {
    const tonearm_status expected = kind == 0 ? TONEARM_INVALID : TONEARM_RUNTIME_TOO_OLD;
    Bytes bytes = golden_blob(sample_model("network"));
    set_kind(bytes, *schema::GetModel(bytes.data())->operators()->Get(0), schema::Operator::VT_KIND_TYPE,
             kind);
    EXPECT_EQ(open(bytes).status, expected);
    EXPECT_STREQ(open(bytes).part, "operator.kind");
    bytes = golden_blob(sample_model("network"));
    set_kind(bytes, *schema::GetModel(bytes.data())->features()->Get(0), schema::Feature::VT_ENCODER_TYPE,
             kind);
    EXPECT_EQ(open(bytes).status, expected);
    EXPECT_STREQ(open(bytes).part, "feature.encoder");
  }
}

}  // namespace
}  // namespace tonearm
