#pragma once

// What an ONNX graph computes for one row, number by number. A Scalar is one such number: a column or what is
// made of earlier Scalars. Elementwise steps stay symbolic until it is known who reads them, so that scaling
// folds into the layer after it, and what nobody reads is never written.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "import/import.h"
#include "import/onnx_trees.h"
#include "train/recurrent.h"

namespace tonearm::onnx_import {

/// An index of Program's definitions; what a Scalar is made of has lower ones.
using Scalar = std::uint32_t;

/// [low, high) -> value. Infinity as `high` is included.
struct Interval {
  float low = 0, high = 0, value = 0;
};

class Program {
 public:
  /// `budget`: how many weights, tree nodes and other numbers may be made, in all.
  explicit Program(std::size_t budget) : budget_(budget) {}

  Scalar column(std::string name);
  /// The number of each category of a column of strings; new ones are added to its vocabulary.
  std::vector<std::size_t> categories(Scalar column, const std::vector<std::string>& names);

  /// (x - center) * factor. `exact`: ONNX Runtime rounds these two operations, and no other, to float32.
  Scalar scale(Scalar x, double center, double factor, bool exact);
  /// x, or `fill` where x is missing.
  Scalar impute(Scalar x, float fill);
  /// The value of the interval that x is in, `other` outside of all, `missing` for NaN. Throws
  /// Unsupported where two intervals overlap or reach infinity.
  Scalar lookup(Scalar x, std::vector<Interval> intervals, float other, float missing);
  /// table[c] for category c; `other` for the rest and NaN.
  Scalar ordinal(Scalar x, std::vector<float> table, float other);
  /// `count` Scalars, of which the c-th is 1 for category c.
  std::vector<Scalar> one_hot(Scalar x, std::size_t count);
  /// Each of x divided by the norm of them all, or x where that is 0.
  std::vector<Scalar> normalize(const std::vector<Scalar>& x, schema::Norm norm);

  /// activation(weights * x + bias): `weights` are row-major, one row for each of the biases.
  std::vector<Scalar> affine(const std::vector<Scalar>& x, std::vector<double> weights,
                             std::vector<double> bias, schema::Activation activation);
  /// activation(x), folded into the layer that makes x where there is one.
  std::vector<Scalar> activate(const std::vector<Scalar>& x, schema::Activation activation);
  /// The scores of an ensemble over `x`, one for each target.
  std::vector<Scalar> trees(const std::vector<Scalar>& x, ParsedTrees parsed);
  /// The states of one level of recurrent layers over x, which are `steps` steps of values, one after the
  /// other: after each step, one after the other, or the last ones. `length` is how many of them there are.
  /// A level over all states of another becomes one operator with it.
  std::vector<Scalar> recurrent(const std::vector<Scalar>& x, std::size_t steps,
                                std::vector<RecurrentLayer> layers, std::optional<Scalar> length,
                                bool all_steps);
  /// Of what a recurrent layer reads or makes.
  static constexpr std::size_t most_values = 65000;

  /// Whether every value is a whole number.
  bool is_whole(Scalar x) const;
  /// Whether x is all the outputs of a softmax, or {1 - p, p} for a p of a sigmoid.
  bool is_distribution(const std::vector<Scalar>& x) const;

  /// What a reader should know and no field says.
  void remark(std::string sentence);

  /// Makes `outputs` the model's output: `model` gets its columns, predictor and remarks.
  void finish(const std::vector<Scalar>& outputs, ImportedModel& model);

 private:
  enum class Kind : std::uint8_t {
    column,
    scale,
    impute,
    bucket,
    ordinal,
    one_hot,
    normalize,
    affine,
    sigmoid,
    trees,
    recurrent
  };
  struct Definition {
    Kind kind = Kind::column;
    bool exact = true;
    Scalar input = 0;
    /// column: its number; bucket, ordinal, one_hot, normalize and layers: of its group.
    std::uint32_t group = 0;
    /// Which output of its group.
    std::uint32_t output = 0;
    double center = 0, factor = 1;  // of scale; the fill of impute is `center`
    /// x = slope * base + offset, where base is not a scale.
    Scalar base = 0;
    double slope = 1, offset = 0;
  };
  struct Ordinal {
    std::vector<float> values;
    float other = 0;
  };
  /// What has several inputs and outputs: a layer, or a normalize, which is a feature in the blob.
  struct Layer {
    Kind kind = Kind::affine;  // or sigmoid, trees, recurrent or normalize
    std::vector<Scalar> inputs;
    schema::Norm norm = schema::Norm::L1;  // of a normalize
    std::vector<double> weights, bias;     // of an affine
    schema::Activation activation = schema::Activation::None;
    /// Of trees: each node asks whether inputs[feature] <= threshold, a float, and `if_true` is left.
    std::shared_ptr<const ParsedTrees> trees;
    /// Of trees: what a missing input counts as; NaN where it stays missing.
    std::vector<float> fills;
    /// Of a recurrent: its levels, from the lowest. With `lengths`, the last input is the number of steps.
    std::vector<std::shared_ptr<const std::vector<RecurrentLayer>>> levels;
    std::size_t steps = 0;
    bool all_steps = false, lengths = false;
    std::vector<Scalar> outputs;
  };
  /// slope * base + offset, where base is no scale and, if an impute, one of a column.
  struct Linear {
    Scalar base;
    double slope, offset;
  };

  class Emission;

  Scalar define(Definition definition);
  void spend(std::size_t numbers);
  bool is_computed(Scalar x) const;  // by a layer, from which no feature can read
  std::vector<Scalar> define_layer(Layer layer, std::size_t outputs);
  static bool is_layer(Kind kind);
  static bool is_last_state(const Layer& layer, std::size_t output);
  Linear linear(Scalar x);
  void sort_inputs(Layer& layer) const;
  Scalar bucket(Scalar x, std::vector<float> edges);
  /// x as it is where nothing is imputed, and what imputation makes of a missing value (NaN: nothing).
  std::pair<Scalar, float> without_impute(Scalar x);
  std::vector<std::uint8_t> needed(const std::vector<Scalar>& outputs) const;
  std::map<Scalar, float> column_fills(const std::vector<std::uint8_t>& needed) const;
  std::optional<ImportedTrees> as_ensemble(const std::vector<Scalar>& outputs) const;
  TreeEnsemble ensemble_of(const Layer& layer, const std::vector<std::uint32_t>& targets,
                           const std::vector<std::int32_t>& features) const;

  std::size_t budget_;
  std::vector<std::string> remarks_;
  std::vector<Definition> definitions_;
  std::vector<ImportedColumn> columns_;
  std::vector<std::map<std::string, std::size_t, std::less<>>> vocabularies_;
  std::vector<std::vector<float>> buckets_;
  std::map<std::pair<Scalar, std::vector<float>>, Scalar> bucket_of_;
  std::vector<Ordinal> ordinals_;
  std::vector<std::size_t> one_hots_;  // how many outputs
  std::vector<Layer> layers_;
};

}  // namespace tonearm::onnx_import
