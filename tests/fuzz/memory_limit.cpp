#include "memory_limit.h"

#include <sanitizer/allocator_interface.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

std::int64_t used = 0, limit = INT64_MAX;  // bytes

// AddressSanitizer calls these for every allocation.
void allocated(const volatile void*, std::size_t size) {
  used += static_cast<std::int64_t>(size);
  if (used <= limit) return;
  std::fprintf(stderr, "fuzz: takes %lld bytes of memory, more than %lld\n", static_cast<long long>(used),
               static_cast<long long>(limit));
  std::abort();
}

void released(const volatile void* memory) {
  used -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(memory));
}

}  // namespace

MemoryLimit::MemoryLimit(std::size_t bytes) {
  static const int installed = __sanitizer_install_malloc_and_free_hooks(allocated, released);
  if (installed == 0) std::abort();
  used = 0;
  limit = static_cast<std::int64_t>(bytes);
}

MemoryLimit::~MemoryLimit() { limit = INT64_MAX; }
