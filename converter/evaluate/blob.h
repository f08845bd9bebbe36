#pragma once

#include <tonearm/tonearm.h>

#include <span>
#include <string>
#include <vector>

#include "base/parallel.h"

namespace tonearm {

/// A blob opened through the C API: the only way in which the converter evaluates anything, so that
/// what is measured is what ships. Copies of `model` must not outlive it.
class Blob {
 public:
  /// Takes the bytes; `name` stands in messages. `cpu` as in tonearm_open_options: what is written into a
  /// blob is computed with TONEARM_CPU_SCALAR, so that it is the same on every machine. Throws Error with the
  /// runtime's diagnostic.
  Blob(std::vector<unsigned char> bytes, const std::string& name, std::uint32_t cpu = 0);
  Blob(const Blob&) = delete;
  Blob& operator=(const Blob&) = delete;

  const tonearm_model& model() const { return model_; }
  const tonearm_info& info() const { return info_; }
  std::size_t columns() const { return info_.columns; }
  std::size_t outputs() const { return info_.outputs; }
  std::span<const unsigned char> bytes() const { return bytes_; }

  /// Bytes of scratch for one thread's calls, in 4-byte elements.
  std::size_t scratch_elements() const { return scratch_.size(); }
  /// One row of `columns()` floats to `outputs()` floats. Not thread-safe.
  void evaluate(std::span<const float> row, std::span<float> out) const;
  /// Many rows, row-major, shared out over the threads.
  std::vector<float> evaluate_rows(std::span<const float> rows, Threads& threads) const;

 private:
  std::vector<unsigned char> bytes_;
  tonearm_model model_{};
  tonearm_info info_{};
  mutable std::vector<float> scratch_;
};

}  // namespace tonearm
