#include "import/onnx_program.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "emit/networks.h"

namespace tonearm::onnx_import {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// The largest float32 <= value; NaN for NaN.
float floor_float(double value) {
  const auto nearest = static_cast<float>(value);
  return static_cast<double>(nearest) > value ? std::nextafter(nearest, -infinity) : nearest;
}

/// The largest float32 < value; NaN where there is none.
float below(double value) {
  const float floor = floor_float(value);
  if (static_cast<double>(floor) < value) return floor;
  return floor == -infinity ? nan : std::nextafter(floor, -infinity);
}

/// `trees` with the score of `first` minus that of `second` as their only one.
ParsedTrees difference(ParsedTrees trees, std::uint32_t first, std::uint32_t second) {
  std::vector<ParsedTrees::Weight> weights;
  for (ParsedNode& node : trees.nodes) {
    if (node.branch != Branch::leaf) continue;
    const auto begin = static_cast<std::uint32_t>(weights.size());
    for (std::uint32_t i = node.begin; i < node.end; ++i) {
      const auto [target, value] = trees.weights[i];
      if (target != first && target != second) continue;
      if (weights.size() == begin) weights.push_back({0, 0});
      weights.back().value += target == first ? value : -value;
    }
    node.begin = begin;
    node.end = static_cast<std::uint32_t>(weights.size());
  }
  trees.weights = std::move(weights);
  trees.base = {trees.base[first] - trees.base[second]};
  return trees;
}

bool contiguous(const std::vector<std::uint16_t>& slots) {
  for (std::size_t i = 1; i < slots.size(); ++i)
    if (slots[i] != slots[0] + i) return false;
  return true;
}

}  // namespace

void Program::spend(std::size_t numbers) {
  if (numbers > budget_)
    throw Unsupported("the model would grow far beyond its file (" + std::to_string(numbers) +
                      " more numbers)");
  budget_ -= numbers;
}

Scalar Program::define(Definition definition) {
  spend(1);
  const auto scalar = static_cast<Scalar>(definitions_.size());
  if (definition.kind != Kind::scale) definition.base = scalar;
  definitions_.push_back(definition);
  return scalar;
}

Scalar Program::column(std::string name) {
  Definition definition;
  definition.group = static_cast<std::uint32_t>(columns_.size());
  columns_.push_back({std::move(name), {}});
  vocabularies_.emplace_back();
  return define(definition);
}

std::vector<std::size_t> Program::categories(Scalar column, const std::vector<std::string>& names) {
  const std::uint32_t number = definitions_[column].group;
  auto& known = vocabularies_[number];
  std::vector<std::size_t> indices;
  for (const std::string& name : names) {
    const auto [place, added] = known.emplace(name, known.size());
    if (added) columns_[number].vocabulary.push_back(name);
    indices.push_back(place->second);
  }
  return indices;
}

bool Program::is_computed(Scalar x) const {
  const Definition& base = definitions_[definitions_[x].base];
  return base.kind == Kind::impute ? is_computed(base.input) : is_layer(base.kind);
}

bool Program::is_layer(Kind kind) {
  return kind == Kind::affine || kind == Kind::sigmoid || kind == Kind::trees || kind == Kind::recurrent;
}

void Program::remark(std::string sentence) {
  if (std::find(remarks_.begin(), remarks_.end(), sentence) == remarks_.end())
    remarks_.push_back(std::move(sentence));
}

Scalar Program::scale(Scalar x, double center, double factor, bool exact) {
  const Definition of = definitions_[x];
  if (center == 0 && factor == 1) return x;
  Definition made;
  made.kind = Kind::scale;
  made.exact = of.exact && exact;
  made.input = x;
  made.center = center;
  made.factor = factor;
  made.base = of.base;
  made.slope = of.slope * factor;
  made.offset = (of.offset - center) * factor;
  // (x - a) * 1 and then (y - 0) * f is one step, with the same roundings.
  if (of.kind == Kind::scale && of.factor == 1 && center == 0) {
    made.input = of.input;
    made.center = of.center;
  }
  return define(made);
}

Scalar Program::impute(Scalar x, float fill) {
  Definition made;
  made.kind = Kind::impute;
  made.exact = definitions_[x].exact;
  made.input = x;
  made.center = static_cast<double>(fill);
  return define(made);
}

Scalar Program::bucket(Scalar x, std::vector<float> edges) {
  if (is_computed(x)) throw Unsupported("it looks up a value that a layer computes");
  const auto [place, added] = bucket_of_.emplace(std::pair(x, edges), 0);
  if (!added) return place->second;
  spend(edges.size());
  Definition made;
  made.kind = Kind::bucket;
  made.exact = definitions_[x].exact;
  made.input = x;
  made.group = static_cast<std::uint32_t>(buckets_.size());
  buckets_.push_back(std::move(edges));
  return place->second = define(made);
}

Scalar Program::ordinal(Scalar x, std::vector<float> table, float other) {
  if (is_computed(x)) throw Unsupported("it looks up a value that a layer computes");
  spend(table.size());
  Definition made;
  made.kind = Kind::ordinal;
  made.exact = definitions_[x].exact;
  made.input = x;
  made.group = static_cast<std::uint32_t>(ordinals_.size());
  ordinals_.push_back({std::move(table), other});
  return define(made);
}

Scalar Program::lookup(Scalar x, std::vector<Interval> intervals, float other, float missing) {
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.low < b.low; });
  std::vector<float> edges, table = {other};
  for (const Interval& interval : intervals) {
    if (!std::isfinite(interval.low) || !(interval.low < interval.high))
      throw Unsupported("it looks up " + number_text(static_cast<double>(interval.low)) +
                        ", at the end of what a float32 can hold");
    if (!edges.empty() && interval.low < edges.back())
      throw Unsupported("it looks up two values that are one float32, " +
                        number_text(static_cast<double>(interval.low)));
    if (!edges.empty() && interval.low == edges.back()) {
      table.back() = interval.value;
    } else {
      edges.push_back(interval.low);
      table.push_back(interval.value);
    }
    if (interval.high == infinity) break;  // the last one: another would overlap
    edges.push_back(interval.high);
    table.push_back(other);
  }
  if (edges.empty()) throw Unsupported("it looks up nothing");
  return ordinal(bucket(x, std::move(edges)), std::move(table), missing);
}

std::vector<Scalar> Program::one_hot(Scalar x, std::size_t count) {
  if (is_computed(x)) throw Unsupported("it looks up a value that a layer computes");
  Definition made;
  made.kind = Kind::one_hot;
  made.exact = definitions_[x].exact;
  made.input = x;
  made.group = static_cast<std::uint32_t>(one_hots_.size());
  one_hots_.push_back(count);
  std::vector<Scalar> outputs;
  for (; made.output < count; ++made.output) outputs.push_back(define(made));
  return outputs;
}

std::vector<Scalar> Program::normalize(const std::vector<Scalar>& x, schema::Norm norm) {
  if (std::any_of(x.begin(), x.end(), [&](Scalar scalar) { return is_computed(scalar); }))
    throw Unsupported(
        "it divides values that a layer computes by their norm, and only columns and what features make of "
        "them can be");
  spend(x.size());
  Layer layer;
  layer.kind = Kind::normalize;
  layer.inputs = x;
  layer.norm = norm;
  return define_layer(std::move(layer), x.size());
}

bool Program::is_whole(Scalar x) const {
  const Definition& definition = definitions_[x];
  if (definition.kind == Kind::one_hot || definition.kind == Kind::bucket) return true;
  if (definition.kind != Kind::ordinal) return false;
  const Ordinal& ordinal = ordinals_[definition.group];
  return std::trunc(ordinal.other) == ordinal.other &&
         std::all_of(ordinal.values.begin(), ordinal.values.end(),
                     [](float value) { return std::trunc(value) == value; });
}

std::vector<Scalar> Program::define_layer(Layer layer, std::size_t outputs) {
  Definition made;
  made.kind = layer.kind;
  made.exact = false;
  made.group = static_cast<std::uint32_t>(layers_.size());
  for (; made.output < outputs; ++made.output) layer.outputs.push_back(define(made));
  layers_.push_back(std::move(layer));
  return layers_.back().outputs;
}

Program::Linear Program::linear(Scalar x) {
  Linear found{definitions_[x].base, definitions_[x].slope, definitions_[x].offset};
  const Definition& base = definitions_[found.base];
  if (base.kind != Kind::impute) return found;
  const Definition& inner = definitions_[base.input];
  if (definitions_[inner.base].kind == Kind::impute) {  // nothing is missing there any more
    const Linear within = linear(base.input);
    return {within.base, found.slope * within.slope, found.slope * within.offset + found.offset};
  }
  if (definitions_[inner.base].kind != Kind::column)
    throw Unsupported("it reads imputed values that are not columns");
  if (inner.slope == 1 && inner.offset == 0) return found;
  const double fill = (base.center - inner.offset) / inner.slope;
  if (!std::isfinite(static_cast<float>(fill)))
    throw Unsupported("it reads imputed values that were scaled by 0 before");
  const Linear whole{inner.base, found.slope * inner.slope, found.slope * inner.offset + found.offset};
  return {impute(whole.base, static_cast<float>(fill)), whole.slope, whole.offset};
}

std::vector<Scalar> Program::affine(const std::vector<Scalar>& x, std::vector<double> weights,
                                    std::vector<double> bias, schema::Activation activation) {
  Layer layer;
  layer.activation = activation;
  const std::size_t outputs = bias.size();
  spend(weights.size());
  for (std::size_t j = 0; j < x.size(); ++j) {
    const Linear element = linear(x[j]);
    layer.inputs.push_back(element.base);
    if (element.slope == 1 && element.offset == 0) continue;
    for (std::size_t i = 0; i < outputs; ++i) {
      double& weight = weights[i * x.size() + j];
      bias[i] += weight * element.offset;
      weight *= element.slope;
    }
  }
  layer.weights = std::move(weights);
  layer.bias = std::move(bias);
  sort_inputs(layer);
  return define_layer(std::move(layer), outputs);
}

/// In the order in which they will be written, each once: so they are side by side wherever they can be.
void Program::sort_inputs(Layer& layer) const {
  const std::size_t width = layer.inputs.size();
  std::vector<std::pair<bool, Scalar>> sorted;
  for (const Scalar input : layer.inputs) sorted.emplace_back(is_computed(input), input);
  const std::vector<std::pair<bool, Scalar>> before = sorted;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  if (sorted == before) return;
  std::vector<double> weights(layer.bias.size() * sorted.size(), 0.0);
  for (std::size_t j = 0; j < width; ++j) {
    const auto to =
        static_cast<std::size_t>(std::lower_bound(sorted.begin(), sorted.end(), before[j]) - sorted.begin());
    for (std::size_t i = 0; i < layer.bias.size(); ++i)
      weights[i * sorted.size() + to] += layer.weights[i * width + j];
  }
  layer.weights = std::move(weights);
  layer.inputs.clear();
  for (const auto& [computed, input] : sorted) layer.inputs.push_back(input);
}

std::vector<Scalar> Program::activate(const std::vector<Scalar>& x, schema::Activation activation) {
  // Outputs of one layer that has no activation yet: its weights, scaled.
  const auto layer_of = [&](Scalar scalar) -> const Layer* {
    const Definition& base = definitions_[definitions_[scalar].base];
    if (base.kind != Kind::affine || layers_[base.group].activation != schema::Activation::None)
      return nullptr;
    return &layers_[base.group];
  };
  const Layer* before = layer_of(x.front());
  if (before != nullptr && std::all_of(x.begin(), x.end(), [&](Scalar s) { return layer_of(s) == before; })) {
    Layer layer;
    layer.inputs = before->inputs;
    layer.activation = activation;
    const std::size_t width = layer.inputs.size();
    spend(width * x.size());
    for (const Scalar scalar : x) {
      const Definition& definition = definitions_[scalar];
      const std::size_t row = definitions_[definition.base].output;
      for (std::size_t j = 0; j < width; ++j)
        layer.weights.push_back(before->weights[row * width + j] * definition.slope);
      layer.bias.push_back(before->bias[row] * definition.slope + definition.offset);
    }
    return define_layer(std::move(layer), x.size());
  }
  const bool plain = std::all_of(
      x.begin(), x.end(), [&](Scalar s) { return definitions_[s].base == s && layer_of(s) == nullptr; });
  if (plain && activation == schema::Activation::Sigmoid) {
    Layer layer;
    layer.kind = Kind::sigmoid;
    for (const Scalar scalar : x) layer.inputs.push_back(linear(scalar).base);
    return define_layer(std::move(layer), x.size());
  }
  // By parts where values do not meet: those of one layer each, and no matrix of many.
  constexpr std::size_t longest = 256;
  if (activation != schema::Activation::Softmax && activation != schema::Activation::None) {
    std::vector<Scalar> made;
    for (std::size_t i = 0, end; i < x.size(); i = end) {
      for (end = i + 1; end < x.size() && layer_of(x[end]) == layer_of(x[i]); ++end)
        if (layer_of(x[i]) == nullptr && end - i == longest) break;
      if (end - i == x.size()) break;
      const std::vector<Scalar> part =
          activate({x.begin() + static_cast<std::ptrdiff_t>(i), x.begin() + static_cast<std::ptrdiff_t>(end)},
                   activation);
      made.insert(made.end(), part.begin(), part.end());
    }
    if (!made.empty()) return made;
  }
  if (x.size() > 65535) throw Unsupported("it has " + std::to_string(x.size()) + " values");
  spend(x.size() * x.size());
  std::vector<double> diagonal(x.size() * x.size(), 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) diagonal[i * x.size() + i] = 1;
  return affine(x, std::move(diagonal), std::vector<double>(x.size(), 0.0), activation);
}

bool Program::is_distribution(const std::vector<Scalar>& x) const {
  if (x.size() == 2) {
    const Definition &first = definitions_[x[0]], &second = definitions_[x[1]];
    const Definition& base = definitions_[first.base];
    if (first.base == second.base && first.slope == -second.slope && first.offset + second.offset == 1)
      return base.kind == Kind::sigmoid ||
             (base.kind == Kind::affine && layers_[base.group].activation == schema::Activation::Sigmoid);
  }
  const Definition& first = definitions_[x.front()];
  return first.kind == Kind::affine && layers_[first.group].activation == schema::Activation::Softmax &&
         layers_[first.group].outputs == x;
}

std::pair<Scalar, float> Program::without_impute(Scalar x) {
  // From x down to the innermost impute: only that one ever sees a missing value.
  std::vector<Scalar> chain;
  std::size_t kept = 0;  // how many steps are above the innermost impute
  bool imputes = false;
  for (Scalar at = x;; at = definitions_[at].input) {
    const Kind kind = definitions_[at].kind;
    if (kind == Kind::impute) {
      imputes = true;
      kept = chain.size();
    }
    if (kind == Kind::column || kind == Kind::one_hot || kind == Kind::normalize || is_layer(kind)) break;
    chain.push_back(at);
  }
  if (!imputes) return {x, nan};
  const Definition innermost = definitions_[chain[kept]];
  Scalar made = innermost.input;
  auto value = static_cast<float>(innermost.center);
  for (std::size_t i = kept; i-- > 0;) {
    const Definition step = definitions_[chain[i]];
    switch (step.kind) {
      case Kind::scale:
        made = scale(made, step.center, step.factor, step.exact);
        value = (value - static_cast<float>(step.center)) * static_cast<float>(step.factor);
        break;
      case Kind::bucket: {
        const std::vector<float> edges = buckets_[step.group];
        made = bucket(made, edges);
        value = static_cast<float>(
            std::count_if(edges.begin(), edges.end(), [&](float edge) { return edge <= value; }));
        break;
      }
      case Kind::ordinal: {
        const Ordinal table = ordinals_[step.group];
        const bool known =
            value >= 0 && value < static_cast<float>(table.values.size()) && std::trunc(value) == value;
        value = known ? table.values[static_cast<std::size_t>(value)] : table.other;
        made = ordinal(made, table.values, nan);
        break;
      }
      default:
        break;
    }
  }
  return {made, value};
}

std::vector<Scalar> Program::trees(const std::vector<Scalar>& x, ParsedTrees parsed) {
  if (parsed.largest_feature() >= static_cast<std::int32_t>(x.size()))
    throw Unsupported("a node asks for feature " + std::to_string(parsed.largest_feature()) +
                      ", and its input has " + std::to_string(x.size()));
  Layer layer;
  layer.kind = Kind::trees;
  constexpr std::int32_t unknown = -1;
  std::vector<std::int32_t> input_of(x.size(), unknown);
  const auto add_input = [&](Scalar scalar, float fill) {
    layer.inputs.push_back(scalar);
    layer.fills.push_back(fill);
    return static_cast<std::int32_t>(layer.inputs.size()) - 1;
  };
  std::map<std::pair<std::int32_t, std::vector<float>>, std::int32_t> member_inputs;
  for (ParsedNode& node : parsed.nodes) {
    if (node.branch == Branch::leaf) continue;
    std::int32_t& input = input_of[static_cast<std::size_t>(node.feature)];
    if (input == unknown) {
      Scalar read = x[static_cast<std::size_t>(node.feature)];
      if (is_computed(read) && definitions_[read].kind == Kind::scale)
        read = activate({read}, schema::Activation::None).front();
      const auto [stripped, fill] = without_impute(read);
      input = add_input(stripped, fill);
    }
    const float fill = layer.fills[static_cast<std::size_t>(input)];
    const bool missing_true = is_true(parsed, node, static_cast<double>(fill));
    node.feature = input;
    bool swap = false;
    float threshold = nan;  // nothing but a missing value goes left
    switch (node.branch) {
      case Branch::leaf:
        break;
      case Branch::leq:
        threshold = floor_float(node.threshold);
        break;
      case Branch::lt:
        threshold = below(node.threshold);
        break;
      case Branch::gte:
        swap = true;
        threshold = std::isnan(node.threshold) ? infinity : below(node.threshold);
        break;
      case Branch::gt:
        swap = true;
        threshold = std::isnan(node.threshold) ? infinity : floor_float(node.threshold);
        break;
      case Branch::eq:
      case Branch::neq:
      case Branch::member: {
        std::vector<float> members;
        const auto add = [&](double value) {
          const auto member = static_cast<float>(value);
          if (static_cast<double>(member) == value) members.push_back(member == 0 ? 0.0f : member);
        };
        if (node.branch == Branch::member)
          for (std::uint32_t i = node.begin; i < node.end; ++i) add(parsed.members[i]);
        else
          add(node.threshold);
        std::sort(members.begin(), members.end());
        members.erase(std::unique(members.begin(), members.end()), members.end());
        swap = node.branch == Branch::neq;
        if (members.empty()) break;
        if (members.size() == 1 && std::isinf(members[0])) {
          threshold = members[0] < 0 ? members[0] : std::numeric_limits<float>::max();
          swap ^= members[0] > 0;
          break;
        }
        // Whether the input is a member, as 0 or 1 in an input of its own.
        const auto [place, added] = member_inputs.emplace(std::pair(input, members), 0);
        if (added) {
          std::vector<Interval> intervals;
          if (std::isinf(members.front()) || members.back() >= std::numeric_limits<float>::max())
            throw Unsupported("a node compares with " + number_text(static_cast<double>(members.back())) +
                              " for equality, at the end of what a float32 can hold");
          for (const float member : members)
            intervals.push_back({member, std::nextafter(member, infinity), 1});
          const Scalar read = layer.inputs[static_cast<std::size_t>(input)];
          place->second = add_input(lookup(read, std::move(intervals), 0, nan), fill);
        }
        node.feature = place->second;
        threshold = 0.5f;
        swap = !swap;
        break;
      }
    }
    node.branch = Branch::leq;
    node.threshold = static_cast<double>(threshold);
    node.missing_true = missing_true != swap;
    if (swap) std::swap(node.if_true, node.if_false);
  }
  const std::size_t targets = parsed.targets();
  layer.trees = std::make_shared<const ParsedTrees>(std::move(parsed));
  return define_layer(std::move(layer), targets);
}

// --- Recurrent layers ----------------------------------------------------------------------------------

namespace {

std::size_t width_of(const std::vector<RecurrentLayer>& level) {
  std::size_t width = 0;
  for (const RecurrentLayer& layer : level) width += layer.units();
  return width;
}

/// The layer of slope * x + offset instead of x.
void fold(RecurrentLayer& layer, const Eigen::VectorXd& slope, const Eigen::VectorXd& offset) {
  const Eigen::MatrixXd weights = layer.input.cast<double>();
  layer.bias = (layer.bias.cast<double>() + weights * offset).cast<float>();
  layer.input = (weights * slope.asDiagonal()).cast<float>();
}

/// Throws Unsupported where the format cannot hold a weight; returns how many there are.
std::size_t checked_weights(const RecurrentLayer& layer) {
  constexpr float largest = 1e6f;
  std::size_t count = 0;
  const auto check = [&](const auto& weights) {
    for (const float weight : weights.reshaped())
      if (!(std::abs(weight) <= largest))
        throw Unsupported("it has the weight " + number_text(static_cast<double>(weight)) +
                          ", and finite ones of at most 1e6 in magnitude are possible");
    count += static_cast<std::size_t>(weights.size());
  };
  check(layer.input);
  check(layer.recurrent);
  check(layer.bias);
  check(layer.recurrent_bias);
  return count;
}

}  // namespace

std::vector<Scalar> Program::recurrent(const std::vector<Scalar>& x, std::size_t steps,
                                       std::vector<RecurrentLayer> layers, std::optional<Scalar> length,
                                       bool all_steps) {
  const std::size_t width = x.size() / steps, outputs = width_of(layers) * (all_steps ? steps : 1);
  if (x.size() > most_values || outputs > most_values)
    throw Unsupported("it reads " + std::to_string(x.size()) + " values and makes " +
                      std::to_string(outputs) + ", and 65000 are possible: use fewer steps or units");
  if (length && is_computed(*length)) throw Unsupported("its sequence_lens are computed by a layer");
  Layer made;
  made.kind = Kind::recurrent;
  made.steps = steps;
  made.all_steps = all_steps;
  made.lengths = length.has_value();

  // What scales a layer's outputs goes into the weights, where it is the same in every step.
  Eigen::VectorXd slope(static_cast<Eigen::Index>(width)), offset(static_cast<Eigen::Index>(width));
  bool scaled = false, alike = true;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Linear element = is_computed(x[i]) ? linear(x[i]) : Linear{x[i], 1, 0};
    const auto j = static_cast<Eigen::Index>(i % width);
    if (i < width) {
      slope(j) = element.slope;
      offset(j) = element.offset;
    }
    scaled = scaled || element.slope != 1 || element.offset != 0;
    alike = alike && element.slope == slope(j) && element.offset == offset(j);
    made.inputs.push_back(element.base);
  }
  if (!alike) {
    std::vector<Scalar> plain;
    for (std::size_t i = 0; i < x.size(); i += width) {
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(i);
      const std::vector<Scalar> step =
          activate({begin, begin + static_cast<std::ptrdiff_t>(width)}, schema::Activation::None);
      plain.insert(plain.end(), step.begin(), step.end());
    }
    return recurrent(plain, steps, std::move(layers), length, all_steps);
  }
  for (RecurrentLayer& layer : layers) {
    if (scaled) fold(layer, slope, offset);
    spend(checked_weights(layer));
  }

  // All states of one other operator: another level of it. The format has up to 16 layers.
  if (const Definition& first = definitions_[made.inputs.front()]; first.kind == Kind::recurrent) {
    const Layer& below = layers_[first.group];
    std::size_t count = layers.size();
    for (const auto& level : below.levels) count += level->size();
    const std::optional<Scalar> same = below.lengths ? std::optional(below.inputs.back()) : std::nullopt;
    if (below.all_steps && below.steps == steps && below.outputs == made.inputs && same == length &&
        count <= 16) {
      made.levels = below.levels;
      made.inputs = below.inputs;
      if (below.lengths) made.inputs.pop_back();
    }
  }
  made.levels.push_back(std::make_shared<const std::vector<RecurrentLayer>>(std::move(layers)));
  if (length) made.inputs.push_back(*length);
  return define_layer(std::move(made), outputs);
}

/// Whether, of all states, output `output` is also among the last ones.
bool Program::is_last_state(const Layer& layer, std::size_t output) {
  const std::vector<RecurrentLayer>& highest = *layer.levels.back();
  const std::size_t width = width_of(highest), step = output / width;
  const bool backward = highest.front().backward || output % width >= highest.front().units();
  return !layer.lengths && step == (backward ? 0 : layer.steps - 1);
}

// --- What is needed -----------------------------------------------------------------------------------

std::vector<std::uint8_t> Program::needed(const std::vector<Scalar>& outputs) const {
  std::vector<std::uint8_t> needed(definitions_.size(), 0);
  std::vector<std::uint8_t> seen(layers_.size(), 0);
  for (const Scalar output : outputs) needed[output] = 1;
  for (Scalar scalar = static_cast<Scalar>(definitions_.size()); scalar-- > 0;) {
    if (needed[scalar] == 0) continue;
    const Definition& definition = definitions_[scalar];
    switch (definition.kind) {
      case Kind::column:
        break;
      case Kind::scale:
      case Kind::impute:
      case Kind::bucket:
      case Kind::ordinal:
      case Kind::one_hot:
        needed[definition.input] = 1;
        break;
      case Kind::normalize:
      case Kind::affine:
      case Kind::sigmoid:
      case Kind::trees:
      case Kind::recurrent:
        if (seen[definition.group]++ == 0)
          for (const Scalar input : layers_[definition.group].inputs) needed[input] = 1;
        seen[definition.group] = 1;
        break;
    }
  }
  return needed;
}

/// What replaces a missing value of a column, where something but trees reads it so. Trees send it their own
/// way, which must then be the way of the replacement.
std::map<Scalar, float> Program::column_fills(const std::vector<std::uint8_t>& needed) const {
  std::map<Scalar, float> fills;
  for (Scalar scalar = 0; scalar < definitions_.size(); ++scalar) {
    if (needed[scalar] == 0 || definitions_[scalar].kind != Kind::impute) continue;
    const Definition& impute = definitions_[scalar];
    if (definitions_[impute.input].kind != Kind::column)
      throw Unsupported("values that are not columns are imputed for something that is no tree");
    const auto [place, added] = fills.emplace(impute.input, static_cast<float>(impute.center));
    if (!added && place->second != static_cast<float>(impute.center))
      throw Unsupported("the column \"" + shown(columns_[definitions_[impute.input].group].name) +
                        "\" is imputed with two different values");
  }
  // Nothing else may see the column as it was.
  const auto require_fill = [&](Scalar scalar, float fill) {
    if (const auto found = fills.find(scalar); found != fills.end() && found->second != fill)
      throw Unsupported("the column \"" + shown(columns_[definitions_[scalar].group].name) +
                        "\" is imputed in one place and read as it is in another");
  };
  std::vector<std::uint8_t> seen(layers_.size(), 0);
  for (Scalar scalar = 0; scalar < definitions_.size(); ++scalar) {
    const Definition& definition = definitions_[scalar];
    if (needed[scalar] == 0) continue;
    switch (definition.kind) {
      case Kind::scale:
      case Kind::bucket:
      case Kind::ordinal:
      case Kind::one_hot:
        require_fill(definition.input, nan);
        break;
      case Kind::normalize:
      case Kind::affine:
      case Kind::sigmoid:
      case Kind::trees:
      case Kind::recurrent: {
        if (std::exchange(seen[definition.group], 1) != 0) break;
        const Layer& layer = layers_[definition.group];
        for (std::size_t i = 0; i < layer.inputs.size(); ++i)
          require_fill(layer.inputs[i], layer.kind == Kind::trees ? layer.fills[i] : nan);
        break;
      }
      case Kind::column:
      case Kind::impute:
        break;
    }
  }
  return fills;
}

TreeEnsemble Program::ensemble_of(const Layer& layer, const std::vector<std::uint32_t>& targets,
                                  const std::vector<std::int32_t>& features) const {
  const ParsedTrees& parsed = *layer.trees;
  TreeEnsemble ensemble;
  ensemble.scale = parsed.scale;
  ensemble.base.clear();
  std::size_t budget = 4096 + 8 * (parsed.nodes.size() + parsed.weights.size());
  std::vector<std::vector<Tree>> of_target;
  std::size_t most = 1;
  for (const std::uint32_t target : targets) {
    ensemble.base.push_back(parsed.base[target]);
    std::vector<Tree>& trees = of_target.emplace_back();
    for (std::size_t t = 0; t < parsed.trees(); ++t) {
      const auto nodes = std::span(parsed.nodes)
                             .subspan(parsed.tree_begin[t], parsed.tree_begin[t + 1] - parsed.tree_begin[t]);
      const auto weight_of = [&](const ParsedNode& leaf) -> const ParsedTrees::Weight* {
        const auto end = parsed.weights.begin() + leaf.end;
        const auto found = std::lower_bound(
            parsed.weights.begin() + leaf.begin, end, target,
            [](const ParsedTrees::Weight& weight, std::uint32_t k) { return weight.target < k; });
        return found != end && found->target == target ? &*found : nullptr;
      };
      // Where nothing below weighs for this target, a leaf will do.
      std::vector<std::uint8_t> weighs(nodes.size());
      for (std::size_t n = nodes.size(); n-- > 0;)
        weighs[n] = nodes[n].branch == Branch::leaf
                        ? weight_of(nodes[n]) != nullptr
                        : weighs[nodes[n].if_true] != 0 || weighs[nodes[n].if_false] != 0;
      if (weighs[0] == 0) continue;
      Tree& tree = trees.emplace_back();
      std::vector<std::pair<std::uint32_t, std::int32_t>> open = {{0, -1}};  // in file, parent in tree
      while (!open.empty()) {
        const auto [n, parent] = open.back();
        open.pop_back();
        if (budget-- == 0)
          throw Error(
              "an ONNX tree ensemble gives its leaves so few weights that a tree for each output "
              "would be far larger than the file: export fewer outputs");
        const auto number = static_cast<std::int32_t>(tree.nodes.size());
        if (parent >= 0) {
          TreeNode& above = tree.nodes[static_cast<std::size_t>(parent)];
          (above.left < 0 ? above.left : above.right) = number;  // left children come first
        }
        TreeNode& made = tree.nodes.emplace_back();
        if (nodes[n].branch == Branch::leaf || weighs[n] == 0) {
          if (weighs[n] != 0) made.value = weight_of(nodes[n])->value;
          continue;
        }
        made.feature = features[static_cast<std::size_t>(nodes[n].feature)];
        made.threshold = static_cast<float>(nodes[n].threshold);
        made.missing_left = nodes[n].missing_true;
        open.push_back({nodes[n].if_false, number});
        open.push_back({nodes[n].if_true, number});
      }
    }
    most = std::max(most, trees.size());
  }
  Tree nothing;
  nothing.nodes.emplace_back();
  if (most * targets.size() > budget + parsed.trees() * targets.size())
    throw Error("an ONNX tree ensemble announces far more outputs than it has weights for");
  for (std::vector<Tree>& trees : of_target) {
    trees.resize(most, nothing);
    std::move(trees.begin(), trees.end(), std::back_inserter(ensemble.trees));
  }
  return ensemble;
}

// --- The program as it is written ----------------------------------------------------------------------

/// Writes what is needed into a model: all features first, since none can read from a layer.
class Program::Emission {
 public:
  Emission(const Program& program, const std::vector<Scalar>& outputs, schema::ModelT& model,
           std::uint16_t first)
      : program_(program),
        model_(model),
        first_(first),
        needed_(program.needed(outputs)),
        slots_(program.definitions_.size(), 0) {}

  void run(const std::vector<Scalar>& outputs) {
    emit_features();
    std::vector<std::uint8_t> wanted(program_.layers_.size(), 0);
    for (Scalar scalar = 0; scalar < needed_.size(); ++scalar)
      if (needed_[scalar] != 0 && is_layer_output(scalar)) wanted[program_.definitions_[scalar].group] = 1;
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (wanted[i] != 0) plan_identity(program_.layers_[i]);
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (wanted[i] != 0) emit_layer(program_.layers_[i]);
    std::vector<std::uint16_t> slots = slots_of(outputs);
    model_.output_offset = contiguous(slots) ? slots.front()  // always of a layer
                                             : append(slots, slots.size(), schema::IdentityT());
    model_.output_length = static_cast<std::uint16_t>(outputs.size());
  }

 private:
  bool is_layer_output(Scalar scalar) const { return is_layer(program_.definitions_[scalar].kind); }

  std::vector<std::uint16_t> slots_of(const std::vector<Scalar>& scalars) const {
    std::vector<std::uint16_t> slots;
    for (const Scalar scalar : scalars) slots.push_back(slots_[scalar]);
    return slots;
  }

  template <typename EncoderT>
  std::uint16_t append(std::vector<std::uint16_t> inputs, std::size_t length, EncoderT encoder) {
    schema::EncoderUnion kind;
    kind.Set(std::move(encoder));
    return append_feature(model_, std::move(inputs), length, std::move(kind));
  }

  /// One Scale for neighbours that do not read each other.
  void flush_scales() {
    if (scales_.empty()) return;
    schema::ScaleT scale;
    std::vector<std::uint16_t> inputs;
    for (const Scalar scalar : scales_) {
      const Definition& definition = program_.definitions_[scalar];
      inputs.push_back(slots_[definition.input]);
      scale.center.push_back(static_cast<float>(definition.center));
      scale.factor.push_back(static_cast<float>(definition.factor));
    }
    const std::uint16_t slot = append(std::move(inputs), scales_.size(), std::move(scale));
    for (std::size_t i = 0; i < scales_.size(); ++i)
      slots_[scales_[i]] = static_cast<std::uint16_t>(slot + i);
    scales_.clear();
  }

  void emit_features() {
    for (const auto& [column, fill] : program_.column_fills(needed_)) {
      const std::size_t number = std::size_t{first_} + program_.definitions_[column].group;
      if (model_.session != nullptr || number >= model_.missing_fill.size())
        throw Error("the ONNX model replaces missing values of \"" +
                    shown(program_.columns_[program_.definitions_[column].group].name) + "\" with " +
                    number_text(static_cast<double>(fill)) +
                    ", and a session's features keep them: export it without its imputer, and give the "
                    "columns that the feature reads a value in the spec's [missing]");
      model_.missing_fill[number] = fill;
    }
    std::map<std::uint32_t, std::uint16_t> one_hots, normalized;
    for (Scalar scalar = 0; scalar < needed_.size(); ++scalar) {
      if (needed_[scalar] == 0 || is_layer_output(scalar)) continue;
      const Definition& definition = program_.definitions_[scalar];
      if (definition.kind == Kind::scale) {
        if (!scales_.empty() && definition.input >= scales_.front() &&
            program_.definitions_[definition.input].kind == Kind::scale)
          flush_scales();
        scales_.push_back(scalar);
        continue;
      }
      if (definition.kind == Kind::column) {
        slots_[scalar] = static_cast<std::uint16_t>(first_ + definition.group);
        continue;
      }
      flush_scales();
      const std::uint16_t input = slots_[definition.input];
      if (definition.kind == Kind::impute) {
        slots_[scalar] = input;
      } else if (definition.kind == Kind::bucket) {
        schema::BucketT bucket;
        bucket.edges = program_.buckets_[definition.group];
        slots_[scalar] = append({input}, 1, std::move(bucket));
      } else if (definition.kind == Kind::ordinal) {
        schema::OrdinalT ordinal;
        ordinal.values = program_.ordinals_[definition.group].values;
        ordinal.unknown = program_.ordinals_[definition.group].other;
        slots_[scalar] = append({input}, 1, std::move(ordinal));
      } else if (definition.kind == Kind::normalize) {
        auto [place, added] = normalized.emplace(definition.group, 0);
        if (added) {
          const Layer& layer = program_.layers_[definition.group];
          schema::NormalizeT normalize;
          normalize.norm = layer.norm;
          place->second = append(slots_of(layer.inputs), layer.inputs.size(), std::move(normalize));
        }
        slots_[scalar] = static_cast<std::uint16_t>(place->second + definition.output);
      } else {
        auto [place, added] = one_hots.emplace(definition.group, 0);
        if (added) place->second = append({input}, program_.one_hots_[definition.group], schema::OneHotT());
        slots_[scalar] = static_cast<std::uint16_t>(place->second + definition.output);
      }
    }
    flush_scales();
  }

  /// Features that an affine reads from scattered slots are copied side by side.
  void plan_identity(const Layer& layer) {
    if (layer.kind == Kind::trees) return;
    if (std::any_of(layer.inputs.begin(), layer.inputs.end(), [&](Scalar s) { return is_layer_output(s); }))
      return;
    std::vector<std::uint16_t> slots = slots_of(layer.inputs);
    if (contiguous(slots) || identities_.contains(slots)) return;
    const std::uint16_t slot = append(slots, slots.size(), schema::IdentityT());
    identities_.emplace(std::move(slots), slot);
  }

  /// The first of slots that hold the inputs side by side.
  std::uint16_t gather(const Layer& layer) {
    const std::vector<Scalar>& inputs = layer.inputs;
    const std::vector<std::uint16_t> slots = slots_of(inputs);
    if (contiguous(slots)) return slots.front();
    if (const auto found = identities_.find(slots); found != identities_.end()) return found->second;
    // Of layers: copied by layers. Short runs, because a missing value spreads within one; where the others
    // are not lost by that, only values that one layer makes are in a run.
    constexpr std::size_t longest = 16;
    const auto may_follow = [&](Scalar scalar, Scalar before) {
      if (layer.kind != Kind::recurrent) return true;
      return is_layer_output(scalar) && is_layer_output(before) &&
             program_.definitions_[scalar].group == program_.definitions_[before].group;
    };
    const std::uint16_t first = next_slot(model_);
    for (std::size_t i = 0; i < slots.size();) {
      std::size_t run = 1;
      while (run < longest && i + run < slots.size() && slots[i + run] == slots[i] + run &&
             may_follow(inputs[i + run], inputs[i]))
        ++run;
      std::vector<float> same(run * run, 0.0f);
      for (std::size_t j = 0; j < run; ++j) same[j * run + j] = 1;
      append_affine(model_, slots[i], run, std::move(same), std::vector<float>(run, 0.0f),
                    schema::Activation::None);
      i += run;
    }
    return first;
  }

  void emit_layer(const Layer& layer) {
    if (layer.kind == Kind::trees) return emit_trees(layer);
    const std::uint16_t from = gather(layer);
    if (layer.kind == Kind::recurrent) return emit_recurrent(layer, from);
    if (layer.kind == Kind::sigmoid) {
      model_.output_offset = from;
      model_.output_length = static_cast<std::uint16_t>(layer.inputs.size());
      append_link(model_, Link::sigmoid);
    } else {
      append_affine(model_, from, layer.inputs.size(), {layer.weights.begin(), layer.weights.end()},
                    {layer.bias.begin(), layer.bias.end()}, layer.activation);
    }
    for (std::size_t i = 0; i < layer.outputs.size(); ++i)
      slots_[layer.outputs[i]] = static_cast<std::uint16_t>(model_.output_offset + i);
  }

  /// Where nobody reads other than the last states, those of all steps are not written.
  void emit_recurrent(const Layer& layer, std::uint16_t from) {
    schema::RecurrentT recurrent;
    recurrent.sequence = schema::Sequence::Row;
    recurrent.steps = static_cast<std::uint16_t>(layer.steps);
    recurrent.lengths = layer.lengths;
    for (std::size_t i = 0; i < layer.outputs.size() && layer.all_steps; ++i)
      recurrent.all_steps =
          recurrent.all_steps || (needed_[layer.outputs[i]] != 0 && !is_last_state(layer, i));
    for (std::size_t level = 0; level < layer.levels.size(); ++level)
      for (const RecurrentLayer& part : *layer.levels[level])
        recurrent.layers.push_back(pack_layer(part, static_cast<unsigned>(level)));
    const bool last = !recurrent.all_steps;
    const std::uint16_t slot =
        append_recurrent(model_, std::move(recurrent), from, layer.inputs.size(), schema::Phase::Candidate);
    const std::size_t width = width_of(*layer.levels.back());
    for (std::size_t i = 0; i < layer.outputs.size(); ++i)
      slots_[layer.outputs[i]] = static_cast<std::uint16_t>(slot + (last ? i % width : i));
  }

  void emit_trees(const Layer& layer) {
    std::vector<std::uint16_t> slots = slots_of(layer.inputs);
    if (slots.empty()) slots = {first_};  // every tree is a lone leaf
    const auto [low, high] = std::minmax_element(slots.begin(), slots.end());
    std::vector<std::int32_t> features;
    for (const std::uint16_t slot : slots) features.push_back(slot - *low);
    std::vector<std::uint32_t> targets;
    for (std::uint32_t k = 0; k < layer.outputs.size(); ++k)
      if (needed_[layer.outputs[k]] != 0) targets.push_back(k);
    append_trees(model_, program_.ensemble_of(layer, targets, features), *low,
                 static_cast<std::size_t>(*high - *low) + 1, LeafStorage::exact);
    for (std::size_t i = 0; i < targets.size(); ++i)
      slots_[layer.outputs[targets[i]]] = static_cast<std::uint16_t>(model_.output_offset + i);
  }

  const Program& program_;
  schema::ModelT& model_;
  std::uint16_t first_;
  std::vector<std::uint8_t> needed_;
  std::vector<std::uint16_t> slots_;
  std::vector<Scalar> scales_;
  std::map<std::vector<std::uint16_t>, std::uint16_t> identities_;
};

std::optional<ImportedTrees> Program::as_ensemble(const std::vector<Scalar>& outputs) const {
  ImportedTrees made;
  const Definition& last = definitions_[outputs.front()];
  std::vector<Scalar> scores = outputs;
  bool one_of_two = false;
  if (last.kind == Kind::sigmoid) {
    made.link = Link::sigmoid;
    for (Scalar& score : scores) {
      if (definitions_[score].kind != Kind::sigmoid || definitions_[score].group != last.group) return {};
      score = layers_[last.group].inputs[definitions_[score].output];
    }
  } else if (last.kind == Kind::affine && layers_[last.group].activation == schema::Activation::Softmax) {
    const Layer& layer = layers_[last.group];
    const std::size_t width = layer.inputs.size();
    one_of_two = outputs.size() == 1 && layer.outputs.size() == 2;
    if ((outputs != layer.outputs && !one_of_two) || width != layer.outputs.size()) return {};
    for (std::size_t i = 0; i < layer.weights.size(); ++i)
      if (layer.weights[i] != (i / width == i % width ? 1 : 0)) return {};
    if (std::any_of(layer.bias.begin(), layer.bias.end(), [](double bias) { return bias != 0; })) return {};
    made.link = one_of_two ? Link::sigmoid : Link::softmax;
    scores = layer.inputs;
    if (one_of_two && last.output == 0) std::swap(scores[0], scores[1]);
  }
  const Definition& score = definitions_[scores.front()];
  const Definition& base = definitions_[score.base];
  if (base.kind != Kind::trees) return {};
  std::vector<std::uint32_t> targets;
  for (const Scalar scalar : scores) {
    const Definition& of = definitions_[scalar];
    if (definitions_[of.base].kind != Kind::trees || definitions_[of.base].group != base.group ||
        of.slope != score.slope)
      return {};
    targets.push_back(definitions_[of.base].output);
  }
  Layer layer = layers_[base.group];
  std::vector<std::int32_t> features;
  for (const Scalar input : layer.inputs) {
    if (definitions_[input].kind != Kind::column) return {};
    features.push_back(static_cast<std::int32_t>(definitions_[input].group));
  }
  if (one_of_two) {  // exp(b) / (exp(a) + exp(b)) is the sigmoid of b - a
    layer.trees = std::make_shared<const ParsedTrees>(difference(*layer.trees, targets[1], targets[0]));
    targets = {0};
    scores = {scores[1]};
  }
  made.ensemble = ensemble_of(layer, targets, features);
  made.ensemble.scale *= score.slope;
  for (std::size_t k = 0; k < scores.size(); ++k)
    made.ensemble.base[k] = made.ensemble.base[k] * score.slope + definitions_[scores[k]].offset;
  return made;
}

void Program::finish(const std::vector<Scalar>& outputs, ImportedModel& model) {
  model.columns = columns_;
  model.remarks.insert(model.remarks.end(), remarks_.begin(), remarks_.end());
  if (auto trees = as_ensemble(outputs)) {
    model.predictor = std::move(*trees);
    return;
  }
  // An output is what features write, or one layer, side by side.
  const auto written = [&] {
    if (std::none_of(outputs.begin(), outputs.end(), [&](Scalar s) { return is_computed(s); })) return true;
    const Definition& first = definitions_[outputs.front()];
    if (!is_layer(first.kind)) return false;
    if (const Layer& layer = layers_[first.group]; layer.kind == Kind::recurrent) {
      // Where these are the last states, each direction's are side by side, and no others.
      const std::size_t width = width_of(*layer.levels.back());
      const std::size_t last = first.output + outputs.size() - 1;
      if (outputs.size() != layer.outputs.size() && first.output / width != last / width) return false;
    }
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] != outputs.front() + i || definitions_[outputs[i]].group != first.group ||
          definitions_[outputs[i]].kind != first.kind)
        return false;
    return true;
  }();
  std::vector<Scalar> last = written ? outputs : activate(outputs, schema::Activation::None);
  const std::vector<std::uint8_t> wanted = needed(last);
  (void)column_fills(wanted);  // complains now of what cannot be

  ImportedProgram program;
  program.score_bound = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::uint8_t> seen(layers_.size(), 0);
  const Layer* only = nullptr;
  std::size_t layers = 0;
  bool inexact = false;
  for (Scalar scalar = 0; scalar < wanted.size(); ++scalar) {
    const Definition& definition = definitions_[scalar];
    if (wanted[scalar] == 0 || !is_layer(definition.kind) || definition.kind == Kind::sigmoid) continue;
    if (seen[definition.group]++ > 0) {
      seen[definition.group] = 1;
      continue;
    }
    ++layers;
    const Layer& layer = layers_[definition.group];
    if (layer.kind != Kind::trees) continue;
    only = &layer;
    inexact = inexact || std::any_of(layer.inputs.begin(), layer.inputs.end(),
                                     [&](Scalar input) { return !definitions_[input].exact; });
  }
  if (inexact)
    model.remarks.push_back(
        "trees read values that are computed first, and not in the trainer's own operations: a row within "
        "their "
        "rounding of a threshold can be decided differently");
  if (only != nullptr && layers == 1 && !inexact) {
    std::vector<std::uint32_t> targets;
    for (std::uint32_t k = 0; k < only->outputs.size(); ++k)
      if (wanted[only->outputs[k]] != 0) targets.push_back(k);
    const std::vector<std::int32_t> features(only->inputs.size(), 0);
    program.score_bound = score_rounding(ensemble_of(*only, targets, features), LeafStorage::exact);
  }
  const auto shared = std::make_shared<const Program>(std::move(*this));
  program.append = [shared, last = std::move(last)](schema::ModelT& made, std::uint16_t first) {
    Emission(*shared, last, made, first).run(last);
  };
  model.predictor = std::move(program);
}

}  // namespace tonearm::onnx_import
