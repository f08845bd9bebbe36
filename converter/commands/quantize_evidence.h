#pragma once

// What the quantize command measures on: the ranges of inputs, and what quantization changes.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/parallel.h"
#include "evaluate/metrics.h"
#include "quantize/quantize.h"

namespace tonearm {

/// How far outputs moved.
struct Changes {
  std::size_t count = 0, appeared = 0;  // appeared: were missing and are numbers now
  double largest = 0, sum = 0;

  void add(float before, float after);
  double mean() const { return count > 0 ? sum / static_cast<double>(count) : 0; }
};

/// The model before and after, on the same questions.
struct Comparison {
  std::string over;  // "64 rows", in words
  Changes changes;
  /// Over sessions, by how many of their tracks had ended: 0, 1, 2-3, 4-7 and so on.
  std::map<unsigned, Changes> by_ended;
  /// Where outcomes are known.
  std::optional<Metrics> before, after;
  bool same_data = false;  // the held-out rows or sessions that the card names

  void add(float before_output, float after_output, std::uint32_t ended);
};

/// Data to measure on: the ranges of inputs, and what changed.
struct Evidence {
  std::string ranges_from;
  MeasureOutputs measure;
  std::function<Comparison(schema::ModelT& before, schema::ModelT& after)> compare;
};

/// Rows of a CSV file, or the data that the recipe in the card reads: of what was trained on for the ranges,
/// of what was held out for the comparison. Where neither is named (""): the model's golden rows or events.
/// `name` is the blob's, for messages.
Evidence find_evidence(const schema::ModelT& model, const std::string& name, const std::string& rows,
                       const std::string& data, Threads& threads);

}  // namespace tonearm
