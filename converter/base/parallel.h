#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace tonearm {

/// A fixed set of worker threads that share out numbered blocks of work.
///
/// Which thread runs which block is not specified, so a result may depend on the block's number only.
/// Callers cut work into blocks by the size of the data, never by the number of threads, and combine
/// partial results in block order (or in integers): the same seed then gives the same model for any
/// number of threads.
class Threads {
 public:
  /// `count` threads in all, the calling one included; 0 means one per core. Fewer if the system allows
  /// no more.
  explicit Threads(unsigned count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  unsigned count() const;

  /// Calls body(block) for every block in [0, blocks) and returns when all are done. The first
  /// exception thrown by a body is rethrown here. Not reentrant.
  void run(std::size_t blocks, const std::function<void(std::size_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tonearm
