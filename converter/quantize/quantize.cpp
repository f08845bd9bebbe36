#include "quantize/quantize.h"

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "emit/networks.h"

namespace tonearm {
namespace {

using schema::ModelT;
using schema::OperatorT;
using schema::WeightFormat;
using To = OperatorPlan::To;

// ------------------------------------------------------------------------------------ what may be missing

bool any_missing(const std::vector<bool>& missing, std::size_t first, std::size_t count) {
  const auto begin = missing.begin() + static_cast<std::ptrdiff_t>(first);
  const auto end = begin + static_cast<std::ptrdiff_t>(count);
  return std::find(begin, end, true) != end;
}

class MissingSlots {
 public:
  explicit MissingSlots(const ModelT& model) {
    for (const float fill : model.missing_fill) missing_.push_back(!std::isfinite(fill));
    for (const auto& feature : model.features) add(*feature);
    for (const auto& op : model.operators) add(*op);
  }
  std::vector<bool> take() { return std::move(missing_); }

 private:
  bool any(std::size_t first, std::size_t count) const { return any_missing(missing_, first, count); }
  bool any_of(const std::vector<std::uint16_t>& slots) const {
    return std::any_of(slots.begin(), slots.end(), [&](std::uint16_t slot) { return missing_[slot]; });
  }

  void add(const schema::FeatureT& feature) {
    const std::size_t count = feature.output_length, inputs = feature.inputs.size();
    for (std::size_t i = 0; i < count; ++i) {
      bool missing = false;
      switch (feature.encoder.type) {
        case schema::Encoder::Identity:
        case schema::Encoder::Scale:
        case schema::Encoder::Bucket:
          missing = missing_[feature.inputs[i]];
          break;
        case schema::Encoder::Difference:
          missing = missing_[feature.inputs[i]] || missing_[feature.inputs[count + i]];
          break;
        case schema::Encoder::Ordinal:  // what is no category of the vocabulary has been replaced
          missing = missing_[feature.inputs[0]] && !std::isfinite(feature.encoder.AsOrdinal()->unknown);
          break;
        case schema::Encoder::Lag:
          missing = !std::isfinite(feature.encoder.AsLag()->empty) || missing_[feature.inputs[i % inputs]];
          break;
        case schema::Encoder::Mean:
          missing = !(feature.encoder.AsMean()->prior_weight > 0);
          break;
        case schema::Encoder::Fact: {
          const schema::SessionFact fact = feature.encoder.AsFact()->fact;
          missing = fact == schema::SessionFact::Gap || fact == schema::SessionFact::Elapsed;
          break;
        }
        case schema::Encoder::Repeats:
          missing = i == 2;  // how long ago
          break;
        case schema::Encoder::OneHot:
        case schema::Encoder::Total:
        case schema::Encoder::Streak:
          break;
        case schema::Encoder::Window:
          missing = true;  // of no track yet
          break;
        case schema::Encoder::Projection:
        case schema::Encoder::Distance:
        case schema::Encoder::Normalize:
        case schema::Encoder::NONE:
          missing = any_of(feature.inputs);
          break;
      }
      missing_.push_back(missing);
    }
  }

  void add(const OperatorT& op) {
    const auto* quantized = op.kind.AsQuantizedAffine();
    const bool dense =
        op.kind.AsAffine() != nullptr || (quantized != nullptr && quantized->format != WeightFormat::Int8);
    const bool all = dense && any(op.input_offset, op.input_length);
    for (std::size_t i = 0; i < op.output_length; ++i)
      missing_.push_back(all || (op.kind.AsCalibrate() != nullptr && missing_[op.input_offset + i]));
  }

  std::vector<bool> missing_;
};

// ------------------------------------------------------------------------------------------------ leaves

std::size_t leaf_bytes(schema::LeafFormat format) {
  return format == schema::LeafFormat::Float32 ? 4 : format == schema::LeafFormat::Palette8 ? 1 : 2;
}

/// Calls body with the table of an ensemble of any kind and the number of its trees; true if it is one.
template <typename Op, typename Body>
bool with_trees(Op& op, const Body& body) {
  const auto by_leaves = [](const auto& trees) {  // of those that have 2^depth leaves each
    return trees.leaves.size() / leaf_bytes(trees.leaf_format) >> trees.depth;
  };
  auto* branching = op.kind.AsBranchingTrees();
  auto* symmetric = op.kind.AsSymmetricTrees();
  auto* blocks = op.kind.AsBlockTrees();
  if (branching != nullptr)
    body(*branching, branching->depth > 0 ? by_leaves(*branching) : branching->tree_nodes.size() - 1);
  else if (symmetric != nullptr)
    body(*symmetric, by_leaves(*symmetric));
  else if (blocks != nullptr)
    body(*blocks, std::size_t{blocks->trees} * blocks->base.size());
  else
    return false;
  return true;
}

template <typename T>
std::vector<T> numbers_of(const std::vector<std::uint8_t>& bytes) {
  std::vector<T> numbers(bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(T));
  return numbers;
}

template <typename TreesT>
std::vector<float> leaves_of(const TreesT& trees) {
  std::vector<float> leaves;
  switch (trees.leaf_format) {
    case schema::LeafFormat::Float32:
      return numbers_of<float>(trees.leaves);
    case schema::LeafFormat::Palette8:
      for (const std::uint8_t code : trees.leaves) leaves.push_back(trees.palette[code]);
      return leaves;
    case schema::LeafFormat::Palette16:
      for (const std::uint16_t code : numbers_of<std::uint16_t>(trees.leaves))
        leaves.push_back(trees.palette[code]);
      return leaves;
    case schema::LeafFormat::Int16:
      break;
  }
  throw Error("an ensemble's leaves are int16 already");
}

template <typename TreesT>
OperatorPlan plan_leaves(const TreesT& trees, std::size_t count) {
  constexpr std::size_t most_trees = 65536;  // whose sum of codes fits 32 bits
  if (trees.leaf_format == schema::LeafFormat::Int16) return {To::as_it_is, "its leaves are int16 already"};
  if (count > most_trees) return {To::as_it_is, "it has more than 65536 trees"};
  const std::size_t palette = trees.palette.size() * sizeof(float);
  if (leaves_of(trees).size() * sizeof(std::int16_t) >= trees.leaves.size() + palette)
    return {To::as_it_is, "its leaves take no more than two bytes each"};
  return {To::int16_leaves, ""};
}

template <typename TreesT>
void quantize_leaves(TreesT& trees) {
  const std::vector<float> leaves = leaves_of(trees);
  double largest = 0;
  for (const float leaf : leaves) largest = std::max(largest, std::abs(static_cast<double>(leaf)));
  const double step = largest > 0 ? largest / 32767 : 1;
  trees.leaves.resize(leaves.size() * sizeof(std::int16_t));
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const auto code = static_cast<std::int16_t>(std::lround(leaves[i] / step));
    std::memcpy(trees.leaves.data() + i * sizeof code, &code, sizeof code);
  }
  trees.palette.clear();
  trees.leaf_format = schema::LeafFormat::Int16;
  trees.scale = static_cast<float>(static_cast<double>(trees.scale) * step);
}

// ----------------------------------------------------------------------------------------------- matrices

constexpr double largest_code = 127, largest_half = 65504;

/// Rows of numbers as rows of codes, each times its scale.
struct Codes {
  Eigen::MatrixXi codes;
  Eigen::VectorXd scales;  // 0 for a row of zeros
};
Codes codes_of(const Eigen::MatrixXd& rows) {
  Codes made{Eigen::MatrixXi::Zero(rows.rows(), rows.cols()), Eigen::VectorXd::Zero(rows.rows())};
  for (Eigen::Index r = 0; r < rows.rows(); ++r) {
    made.scales[r] = rows.row(r).cwiseAbs().maxCoeff() / largest_code;
    if (made.scales[r] > 0)
      for (Eigen::Index c = 0; c < rows.cols(); ++c)
        made.codes(r, c) = static_cast<int>(std::lround(rows(r, c) / made.scales[r]));
  }
  return made;
}

/// What an input is multiplied with to become a code: 127 by its range. An input that was always 0 gets the
/// range 1, so that it still counts when it is something else for once; what is tiny stays a normal number.
float factor_of(float range) {
  constexpr float smallest = 1e-30f;
  return static_cast<float>(largest_code) / (range == 0 ? 1 : std::max(range, smallest));
}

std::string operator_text(const ModelT& model, std::size_t index) {
  return "operator " + std::to_string(index) + " (" +
         schema::EnumNameOperatorKind(model.operators[index]->kind.type) + ")";
}

std::vector<float> factors_of(const ModelT& model, std::size_t index, const InputRanges& ranges,
                              std::size_t inputs) {
  if (index >= ranges.size() || ranges[index].size() != inputs)
    throw Error(operator_text(model, index) + " has " + std::to_string(inputs) +
                " inputs, but their ranges are not known: int8 needs data; give --rows or --data, or use "
                "--weights float16");
  std::vector<float> factors;
  for (const float range : ranges[index]) {
    if (!std::isfinite(range) || range < 0)
      throw Error(operator_text(model, index) + ": the range of input " + std::to_string(factors.size()) +
                  " is " + std::to_string(range) +
                  "; it must be a finite number: check the data that it was measured on");
    factors.push_back(factor_of(range));
  }
  return factors;
}

Eigen::MatrixXd folded(const Eigen::MatrixXf& rows, const std::vector<float>& factors) {
  Eigen::MatrixXd made = rows.cast<double>();
  for (Eigen::Index c = 0; c < made.cols(); ++c) made.col(c) /= factors[static_cast<std::size_t>(c)];
  return made;
}

Eigen::MatrixXf matrix_of(const schema::AffineT& affine, const OperatorT& op) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const RowMajor>(affine.weights.data(), op.output_length, op.input_length);
}

OperatorPlan plan_affine(const ModelT& model, const OperatorT& op, const QuantizeOptions& options) {
  const schema::AffineT& affine = *op.kind.AsAffine();
  OperatorPlan plan{options.weights == WeightFormat::Int8 ? To::int8 : To::float16, ""};
  if (plan.to == To::int8 && !options.missing_as_zero &&
      any_missing(missing_slots(model), op.input_offset, op.input_length))
    plan = {To::float16, "an input may be missing, which codes cannot say"};
  if (plan.to == To::float16)
    for (const float weight : affine.weights)
      if (std::abs(weight) > static_cast<float>(largest_half))
        return {To::as_it_is, "a weight is beyond float16's 65504"};
  const std::size_t rows = (op.output_length + 15u) / 16u * 16u, columns = (op.input_length + 3u) / 4u * 4u;
  const std::size_t now = affine.weights.size() * sizeof(float),
                    then = plan.to == To::int8
                               ? rows * columns +
                                     (std::size_t{op.input_length} + op.output_length) * sizeof(float)
                               : rows * op.input_length * 2;
  // Its rows are filled up to sixteen.
  if (then >= now)
    return {To::as_it_is, "its " + std::to_string(now) + " bytes would become " + std::to_string(then)};
  return plan;
}

schema::QuantizedAffineT quantize_affine(const OperatorT& op, To to, const std::vector<float>& factors) {
  const schema::AffineT& affine = *op.kind.AsAffine();
  schema::QuantizedAffineT quantized;
  quantized.bias = affine.bias;
  quantized.activation = affine.activation;
  if (to == To::float16) {
    quantized.format = WeightFormat::Float16;
    quantized.weights = pack_matrix(matrix_of(affine, op), 1, WeightFormat::Float16);
    return quantized;
  }
  const Codes made = codes_of(folded(matrix_of(affine, op), factors));
  quantized.format = WeightFormat::Int8;
  quantized.weights = pack_codes(made.codes, 1);
  quantized.input_factors = factors;
  for (const double scale : made.scales) quantized.scales.push_back(static_cast<float>(scale));
  return quantized;
}

// ------------------------------------------------------------------------------------------------ sequences

/// Recurrent layers as they are trained.
std::vector<RecurrentLayer> layers_of(const OperatorT& op) {
  const schema::RecurrentT& recurrent = *op.kind.AsRecurrent();
  const std::vector<unsigned> inputs = layer_inputs(recurrent, step_width(op, recurrent));
  std::vector<RecurrentLayer> layers;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    layers.push_back(unpack_layer(*recurrent.layers[i], inputs[i], recurrent.format));
  return layers;
}

OperatorPlan plan_recurrent(const OperatorT& op, WeightFormat weights) {
  const schema::RecurrentT& recurrent = *op.kind.AsRecurrent();
  if (recurrent.format != WeightFormat::Float32)
    return {To::as_it_is, std::string("its weights are ") +
                              (recurrent.format == WeightFormat::Int8 ? "int8" : "float16") + " already"};
  OperatorPlan plan{weights == WeightFormat::Int8 ? To::int8 : To::float16, ""};
  if (plan.to == To::int8)
    for (const auto& layer : recurrent.layers)
      if (layer->cell == schema::Cell::RnnRelu)
        plan = {To::float16, "states of relu cells have no bound, which codes need"};
  if (plan.to == To::float16)
    for (const RecurrentLayer& layer : layers_of(op))
      if (layer.input.cwiseAbs().maxCoeff() > largest_half ||
          layer.recurrent.cwiseAbs().maxCoeff() > largest_half)
        return {To::as_it_is, "a weight is beyond float16's 65504"};
  return plan;
}

/// Whole numbers by which sums of codes become 1 / 2048ths: sum * multiplier >> shift.
struct Multipliers {
  Eigen::VectorXi values;
  std::uint8_t shift = 1;
};

/// As exact as they can be: the shift is the largest with which every multiplier fits. Throws Error where an
/// argument of a gate could come near to 32 bits.
Multipliers multipliers_of(const Codes& made, const std::string& name) {
  constexpr int largest_shift = 46;
  constexpr std::int64_t bound = 1 << 29;
  const Eigen::VectorXd factors = made.scales * 2048;
  const double largest = factors.maxCoeff();
  Multipliers multipliers;
  int shift = largest_shift;
  while (shift > 1 && std::ldexp(largest, shift) > 2147483647.0 - 1) --shift;
  multipliers.shift = static_cast<std::uint8_t>(shift);
  multipliers.values.resize(factors.size());
  for (Eigen::Index r = 0; r < factors.size(); ++r) {
    const double sum = made.codes.row(r).cwiseAbs().sum() * largest_code;
    if (!(sum * factors[r] < static_cast<double>(bound) * 0.999))
      throw Error(name +
                  ": an argument of a gate may be as large as 262144, too large for int8: use --weights "
                  "float16, or train with weight decay");
    multipliers.values[r] = static_cast<int>(std::llround(std::ldexp(factors[r], shift)));
  }
  return multipliers;
}

/// In 1 / 2048ths. Gates saturate at 16; what is beyond 2^29 counts as that.
Eigen::VectorXi bias_codes(const Eigen::VectorXf& bias) {
  constexpr double largest = (1 << 29) - 1;
  Eigen::VectorXi codes(bias.size());
  for (Eigen::Index r = 0; r < bias.size(); ++r)
    codes[r] =
        static_cast<int>(std::lround(std::clamp(static_cast<double>(bias[r]) * 2048, -largest, largest)));
  return codes;
}

std::unique_ptr<schema::RecurrentLayerT> quantize_layer(const schema::RecurrentLayerT& packed,
                                                        const RecurrentLayer& layer,
                                                        const std::vector<float>& factors,
                                                        const std::string& name) {
  auto made = std::make_unique<schema::RecurrentLayerT>();
  made->level = packed.level;
  made->backward = packed.backward;
  made->cell = packed.cell;
  made->units = packed.units;
  const auto units = static_cast<Eigen::Index>(layer.units());
  const auto gates = static_cast<unsigned>(layer.input.rows() / units);
  const Codes input = codes_of(folded(layer.input, factors));
  const Codes recurrent = codes_of(layer.recurrent.cast<double>() / largest_code);
  const Multipliers of_input = multipliers_of(input, name), of_recurrent = multipliers_of(recurrent, name);
  made->input_weights = pack_codes(input.codes, gates);
  if (packed.cell == schema::Cell::GruResetBefore) {
    made->recurrent_weights = pack_codes(recurrent.codes.topRows(2 * units), 2);
    const std::vector<std::uint8_t> of_n = pack_codes(recurrent.codes.bottomRows(units), 1);
    made->recurrent_weights.insert(made->recurrent_weights.end(), of_n.begin(), of_n.end());
  } else {
    made->recurrent_weights = pack_codes(recurrent.codes, gates);
  }
  made->bias_codes = pack_rows(bias_codes(layer.bias), gates);
  if (packed.cell == schema::Cell::Gru)
    made->recurrent_bias_codes = pack_rows(bias_codes(layer.recurrent_bias), 1);
  made->input_multipliers = pack_rows(of_input.values, gates);
  made->recurrent_multipliers = pack_rows(of_recurrent.values, gates);
  made->input_shift = of_input.shift;
  made->recurrent_shift = of_recurrent.shift;
  return made;
}

/// The factors of a step's inputs; what stands before a session's first step is among the inputs.
std::vector<float> step_factors(const ModelT& model, std::size_t index, const InputRanges& ranges) {
  const OperatorT& op = *model.operators[index];
  const schema::RecurrentT& recurrent = *op.kind.AsRecurrent();
  std::vector<float> factors = recurrent.input_factors.empty()
                                   ? factors_of(model, index, ranges, step_width(op, recurrent))
                                   : recurrent.input_factors;
  if (recurrent.padded && recurrent.padding != 0)
    for (float& factor : factors) factor = std::min(factor, factor_of(std::abs(recurrent.padding)));
  return factors;
}

void quantize_recurrent(schema::RecurrentT& recurrent, const OperatorT& op, To to,
                        const std::vector<float>& factors, const std::string& name) {
  const std::vector<RecurrentLayer> layers = layers_of(op);
  recurrent.format = to == To::int8 ? WeightFormat::Int8 : WeightFormat::Float16;
  if (to == To::int8) recurrent.input_factors = factors;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    schema::RecurrentLayerT& packed = *recurrent.layers[i];
    if (to == To::float16) {
      const auto units = static_cast<unsigned>(layers[i].units());
      const auto gates = static_cast<unsigned>(layers[i].input.rows()) / units;
      packed.input_weights = pack_matrix(layers[i].input, gates, WeightFormat::Float16);
      packed.recurrent_weights =
          pack_recurrent_matrix(layers[i].recurrent, packed.cell, units, WeightFormat::Float16);
    } else {
      const auto inputs = static_cast<std::size_t>(layers[i].input.cols());
      const std::vector<float> of_states(inputs, static_cast<float>(largest_code));
      recurrent.layers[i] = quantize_layer(packed, layers[i], packed.level == 0 ? factors : of_states,
                                           name + ", layer " + std::to_string(i));
    }
  }
}

}  // namespace

std::vector<bool> missing_slots(const ModelT& model) { return MissingSlots(model).take(); }

OperatorPlan plan_operator(const ModelT& model, std::size_t index, const QuantizeOptions& options) {
  const OperatorT& op = *model.operators.at(index);
  OperatorPlan plan;
  if (with_trees(op, [&](const auto& trees, std::size_t count) {
        if (options.leaves) plan = plan_leaves(trees, count);
      }))
    return plan;
  if (const auto* affine = op.kind.AsQuantizedAffine())
    plan.why = std::string("its weights are ") + (affine->format == WeightFormat::Int8 ? "int8" : "float16") +
               " already";
  if (options.weights == WeightFormat::Float32) return plan;
  if (op.kind.AsAffine() != nullptr) return plan_affine(model, op, options);
  if (op.kind.AsRecurrent() != nullptr) return plan_recurrent(op, options.weights);
  return plan;
}

bool needs_ranges(const ModelT& model, std::size_t index, const QuantizeOptions& options) {
  if (plan_operator(model, index, options).to != To::int8) return false;
  const auto* recurrent = model.operators[index]->kind.AsRecurrent();
  return recurrent == nullptr || recurrent->input_factors.empty();
}

double leaf_rounding(const OperatorT& op) {
  double most = 0;
  with_trees(op, [&](const auto& trees, std::size_t count) {
    const double per_output = static_cast<double>(count) / op.output_length;
    if (trees.leaf_format == schema::LeafFormat::Int16)
      most = std::abs(static_cast<double>(trees.scale)) / 2 * per_output;
  });
  return most;
}

ModelT quantize(const ModelT& model, const QuantizeOptions& options, const InputRanges& ranges) {
  ModelT quantized = model;
  bool changed = false;
  std::string why;
  for (std::size_t i = 0; i < model.operators.size(); ++i) {
    const OperatorT& op = *model.operators[i];
    const OperatorPlan plan = plan_operator(model, i, options);
    if (plan.to == To::as_it_is) {
      if (!plan.why.empty()) why += (why.empty() ? ": " : "; ") + operator_text(model, i) + ": " + plan.why;
      continue;
    }
    changed = true;
    schema::OperatorKindUnion& kind = quantized.operators[i]->kind;
    if (plan.to == To::int16_leaves) {
      with_trees(*quantized.operators[i], [](auto& trees, std::size_t) { quantize_leaves(trees); });
    } else if (op.kind.AsAffine() != nullptr) {
      kind.Set(quantize_affine(
          op, plan.to,
          plan.to == To::int8 ? factors_of(model, i, ranges, op.input_length) : std::vector<float>()));
    } else {
      quantize_recurrent(*kind.AsRecurrent(), op, plan.to,
                         plan.to == To::int8 ? step_factors(model, i, ranges) : std::vector<float>(),
                         operator_text(model, i));
    }
  }
  if (!changed) throw Error("there is nothing to quantize" + why);
  return quantized;
}

}  // namespace tonearm
