#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/parallel.h"

namespace tonearm {

/// Feature vectors as the runtime computed them, and their labels. Row-major, rows x features; NaN is
/// missing (only trees accept it). target is 0 or 1.
struct Dataset {
  std::size_t rows = 0;
  std::size_t features = 0;
  std::vector<float> values;
  std::vector<float> target;

  std::span<const float> row(std::size_t index) const { return {values.data() + index * features, features}; }
};

/// What every trainer is given beside its data and options.
struct Training {
  Threads& threads;
  std::uint64_t seed = 1;
  /// Shown to the user while training, e.g. "forest, seed 1".
  std::string label;
  /// Names the trainer's part of the checkpoint.
  std::string stage = "final";
  Checkpoint checkpoint = {};
};

// Every trainer: same data, options and seed give the same model, bit for bit, for any number of
// threads. Each polls interrupted(); when set, it saves its state to the checkpoint and throws
// Interrupted; on the next run with a resuming checkpoint it ends bit-identical to an uninterrupted one.

}  // namespace tonearm
