#include "mutation.h"

#include <cstring>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t longest);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t longest,
                                               unsigned seed) {
  std::minstd_rand random(seed);
  if (below(random, 4) != 0) {
    const std::string made = mutated_model({reinterpret_cast<const char*>(data), size}, longest, random);
    if (!made.empty() && made.size() <= longest) {
      std::memcpy(data, made.data(), made.size());
      return made.size();
    }
  }
  return LLVMFuzzerMutate(data, size, longest);
}
