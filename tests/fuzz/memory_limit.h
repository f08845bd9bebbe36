#pragma once

#include <cstddef>

/// While it lives, the program may allocate so many bytes more than it had: else it ends, and libFuzzer keeps
/// the input. One at a time.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::size_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;
};
