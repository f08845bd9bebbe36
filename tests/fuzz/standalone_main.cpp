// Runs a fuzz target on the files that are named, without libFuzzer: where only the program itself may be
// instrumented.

#include <cstdint>
#include <cstdio>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** paths) {
  if (count < 2) {
    std::fputs("no files are named\n", stderr);
    return 2;
  }
  for (int i = 1; i < count; ++i) {
    std::FILE* const file = std::fopen(paths[i], "rb");
    if (file == nullptr) {
      std::perror(paths[i]);
      return 1;
    }
    std::vector<std::uint8_t> bytes(1 << 20);
    bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
    std::fclose(file);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%d files\n", count - 1);
  return 0;
}
