#include "base/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace tonearm {
namespace {

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield");
#endif
}

constexpr std::size_t no_block = std::numeric_limits<std::size_t>::max();
constexpr std::uint64_t remaining_mask = 0xffffffffu;
constexpr std::uint64_t one_generation = remaining_mask + 1;

}  // namespace

// Growing a tree calls run() thousands of times with bodies of some 50 µs, so a thread that runs out of
// work spins for about as long before it sleeps, and nobody waits for a worker that claimed nothing.
struct Threads::State {
  unsigned count = 1;
  int spins = 0;
  std::vector<std::thread> workers;

  // High half: the number of the run; low half: its blocks not claimed yet. A claim is one
  // compare-and-swap of both, so a worker that dozed off over a run cannot claim from the next one by
  // mistake. `body` and `blocks` are read only after a claim, when the run cannot end before its block.
  std::atomic<std::uint64_t> ticket = 0;
  const std::function<void(std::size_t)>* body = nullptr;
  std::size_t blocks = 0;
  std::atomic<std::size_t> unfinished = 0;

  std::mutex mutex;
  std::condition_variable work_came, all_done;
  unsigned sleeping = 0;  // workers waiting for work_came; guarded by mutex
  std::atomic<bool> stopping = false;

  std::atomic<std::size_t> failed_block = no_block;
  std::exception_ptr failure;  // of failed_block; guarded by mutex

  bool work_left() const { return (ticket.load(std::memory_order_acquire) & remaining_mask) != 0; }
  bool finished() const { return unfinished.load(std::memory_order_acquire) == 0; }

  /// Spins until `ready`, for a short while; true if it became so.
  template <typename Ready>
  bool spin(Ready ready) const {
    for (int i = 0; i < spins; ++i) {
      if (ready()) return true;
      relax();
    }
    return ready();
  }

  /// Claims and runs blocks, in ascending order, until none is left.
  void work() {
    std::uint64_t claim = ticket.load(std::memory_order_acquire);
    while ((claim & remaining_mask) != 0) {
      if (!ticket.compare_exchange_weak(claim, claim - 1, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
        continue;
      run_block(blocks - static_cast<std::size_t>(claim & remaining_mask));
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard lock(mutex);
        all_done.notify_one();
      }
      claim = ticket.load(std::memory_order_acquire);
    }
  }

  /// Blocks are claimed in ascending order, so everything before a failing block runs to its end: the
  /// failure that is kept, the lowest, is the same for any number of threads.
  void run_block(std::size_t block) {
    if (block > failed_block.load(std::memory_order_relaxed)) return;
    try {
      (*body)(block);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (block < failed_block.load(std::memory_order_relaxed)) {
        failed_block.store(block, std::memory_order_relaxed);
        failure = std::current_exception();
      }
    }
  }

  void serve() {
    while (!stopping.load(std::memory_order_relaxed)) {
      work();
      const auto called = [this] { return work_left() || stopping.load(std::memory_order_relaxed); };
      if (spin(called)) continue;
      std::unique_lock lock(mutex);
      ++sleeping;
      work_came.wait(lock, called);
      --sleeping;
    }
  }
};

Threads::Threads(unsigned count) : state_(std::make_unique<State>()) {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  state_->count = count == 0 ? cores : count;
  state_->spins = state_->count <= cores ? 2000 : 0;  // spinning would take the core from a working thread
  try {
    for (unsigned i = 1; i < state_->count; ++i)
      state_->workers.emplace_back([state = state_.get()] { state->serve(); });
  } catch (const std::system_error&) {  // the system allows no more: fewer give the same results
    state_->count = static_cast<unsigned>(state_->workers.size()) + 1;
  }
}

Threads::~Threads() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping.store(true, std::memory_order_relaxed);
  }
  state_->work_came.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

unsigned Threads::count() const { return state_->count; }

void Threads::run(std::size_t blocks, const std::function<void(std::size_t)>& body) {
  State& state = *state_;
  if (state.count == 1 || blocks <= 1) {
    for (std::size_t block = 0; block < blocks; ++block) body(block);
    return;
  }
  if (blocks > remaining_mask) throw std::length_error("Threads::run: more than 2^32 - 1 blocks");
  state.body = &body;
  state.blocks = blocks;
  state.unfinished.store(blocks, std::memory_order_relaxed);
  state.failed_block.store(no_block, std::memory_order_relaxed);
  const std::uint64_t generation = state.ticket.load(std::memory_order_relaxed) & ~remaining_mask;
  state.ticket.store((generation + one_generation) | blocks, std::memory_order_release);
  bool wake;
  {
    // Taking the lock after the store means that a worker is either counted here or sees the ticket.
    const std::lock_guard lock(state.mutex);
    wake = state.sleeping > 0;
  }
  if (wake) state.work_came.notify_all();
  state.work();
  if (!state.spin([&state] { return state.finished(); })) {
    std::unique_lock lock(state.mutex);
    state.all_done.wait(lock, [&state] { return state.finished(); });
  }
  if (state.failure) std::rethrow_exception(std::exchange(state.failure, nullptr));
}

}  // namespace tonearm
