// Blobs are little-endian and are read where they lie: a big-endian CPU refuses them, whatever they hold.

#include <gtest/gtest.h>
#include <tonearm/tonearm.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace tonearm {
namespace {

namespace fs = std::filesystem;

TEST(BigEndian, EveryBlobIsRefusedByName) {
  std::size_t blobs = 0;
  for (const auto& entry : fs::recursive_directory_iterator(TONEARM_SOURCE_DIR "/tests/conformance")) {
    if (entry.path().extension() != ".tarm") continue;
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<std::uint32_t> blob(bytes.size() / 4 + 1);
    std::memcpy(blob.data(), bytes.data(), bytes.size());
    tonearm_model model{};
    tonearm_diagnostic diagnostic{};
    diagnostic.struct_size = sizeof diagnostic;
    ASSERT_EQ(tonearm_model_open(&model, blob.data(), bytes.size(), nullptr, &diagnostic),
              TONEARM_BIG_ENDIAN);
    EXPECT_EQ(diagnostic.status, TONEARM_BIG_ENDIAN);
    ++blobs;
  }
  EXPECT_GT(blobs, 10u);
}

TEST(BigEndian, NothingIsReadOfWhatIsNoBlob) {
  const std::vector<std::uint32_t> noise(100, 0xFFFFFFFFu);
  tonearm_model model{};
  EXPECT_EQ(tonearm_model_open(&model, noise.data(), 400, nullptr, nullptr), TONEARM_BIG_ENDIAN);
}

}  // namespace
}  // namespace tonearm
