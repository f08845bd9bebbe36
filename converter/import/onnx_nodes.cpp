#include "import/onnx_nodes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "import/onnx_node.h"
#include "import/onnx_recurrent.h"

namespace tonearm::onnx_import {

using onnx::TensorProto;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

// --- Arithmetic -----------------------------------------------------------------------------------------

Value Node::constant_arithmetic(const std::string& name, const Tensor& left, const Tensor& right) {
  const Broadcast both = broadcast(left.shape, right.shape, budget_);
  Tensor tensor;
  tensor.type = left.type;
  tensor.shape = both.shape;
  for (std::size_t i = 0; i < both.left.size(); ++i) {
    const double a = left.numbers[both.left[i]], b = right.numbers[both.right[i]];
    if (name == "Div" && left.is_whole() && b == 0) throw Unsupported("it divides by 0");
    const double value = name == "Add"   ? a + b
                         : name == "Sub" ? a - b
                         : name == "Mul" ? a * b
                         : name == "Div" ? a / b
                                         : std::pow(a, b);
    tensor.numbers.push_back(rounded_to(tensor.type, value));
  }
  return made(std::move(tensor));
}

Value Node::arithmetic(const std::string& name, const Value& left, const Value& right) {
  const auto* left_tensor = std::get_if<TensorPtr>(&left);
  const auto* right_tensor = std::get_if<TensorPtr>(&right);
  for (const auto* tensor : {left_tensor, right_tensor})
    if (tensor != nullptr && ((*tensor)->is_text() || (*tensor)->holds_batch))
      throw Unsupported("it computes with strings or with the number of rows");
  if (left_tensor != nullptr && right_tensor != nullptr)
    return constant_arithmetic(name, **left_tensor, **right_tensor);
  if (name == "Pow") throw Unsupported("it raises a row's values to a power");
  if (left_tensor == nullptr && right_tensor == nullptr) {
    const Row &a = *std::get<RowPtr>(left), &b = *std::get<RowPtr>(right);
    if (a.type == TensorProto::STRING || b.type == TensorProto::STRING)
      throw Unsupported("it computes with strings");
    if (name != "Add" && name != "Sub")
      throw Unsupported("it multiplies or divides a row's values by each other");
    if (a.shape.size() - a.batch != b.shape.size() - b.batch || a.shape[a.batch] != b.shape[b.batch])
      throw Unsupported("its inputs have different dimensions");
    const Broadcast both = broadcast(a.shape, b.shape, budget_);
    // One layer of sums.
    std::vector<Scalar> inputs = a.elements;
    inputs.insert(inputs.end(), b.elements.begin(), b.elements.end());
    const std::size_t outputs = both.left.size();
    if (outputs * inputs.size() > budget_) throw Unsupported("it adds too many values for a layer");
    std::vector<double> weights(outputs * inputs.size(), 0.0);
    for (std::size_t i = 0; i < outputs; ++i) {
      weights[i * inputs.size() + both.left[i]] += 1;
      weights[i * inputs.size() + a.elements.size() + both.right[i]] += name == "Add" ? 1 : -1;
    }
    Row values;
    values.shape = both.shape;
    values.batch = std::max(a.shape.size(), b.shape.size()) - (a.shape.size() - a.batch);
    values.type = a.type;
    values.elements = program_.affine(inputs, std::move(weights), std::vector<double>(outputs, 0.0),
                                      schema::Activation::None);
    return made(std::move(values));
  }
  const bool row_first = right_tensor != nullptr;
  const Row& of = *std::get<RowPtr>(row_first ? left : right);
  const Tensor& by = row_first ? **right_tensor : **left_tensor;
  if (of.type == TensorProto::STRING) throw Unsupported("it computes with strings");
  const Broadcast both =
      row_first ? broadcast(of.shape, by.shape, budget_) : broadcast(by.shape, of.shape, budget_);
  const std::vector<std::size_t>&from_row = row_first ? both.left : both.right,
        &from_tensor = row_first ? both.right : both.left;
  Row values;
  values.shape = both.shape;
  values.batch = of.batch + both.shape.size() - of.shape.size();
  values.type = of.type;
  if (const std::size_t behind = both.shape.size() - values.batch;
      by.shape.size() >= behind && by.shape[by.shape.size() - behind] != 1)
    throw Unsupported("its constant has values for several rows");
  // ONNX Runtime computes these operations in the values' own type.
  const bool exact = of.type == TensorProto::FLOAT;
  for (std::size_t i = 0; i < from_row.size(); ++i) {
    const Scalar x = of.elements[from_row[i]];
    const double c = by.numbers[from_tensor[i]];
    if (!std::isfinite(static_cast<float>(c)))
      throw Unsupported("its constant has the value " + number_text(c));
    int exponent = 0;
    if (name == "Add") {
      values.elements.push_back(program_.scale(x, -c, 1, exact));
    } else if (name == "Sub") {
      values.elements.push_back(row_first ? program_.scale(x, c, 1, exact) : program_.scale(x, c, -1, exact));
    } else if (name == "Mul") {
      values.elements.push_back(program_.scale(x, 0, c, exact));
    } else {
      if (!row_first) throw Unsupported("it divides a constant by a row's values");
      if (c == 0 || !std::isfinite(static_cast<float>(1 / c)))
        throw Unsupported("it divides by " + number_text(c));
      // Dividing is multiplying where the factor is a power of two.
      values.elements.push_back(
          program_.scale(x, 0, 1 / c, exact && std::abs(std::frexp(c, &exponent)) == 0.5));
    }
  }
  return made(std::move(values));
}

Value Node::unary(const std::string& name) {
  if (is_constant(0)) {
    Tensor tensor = numbers(0);
    for (double& x : tensor.numbers)
      x = rounded_to(tensor.type, name == "Neg"          ? -x
                                  : name == "Sqrt"       ? std::sqrt(x)
                                  : name == "Reciprocal" ? 1 / x
                                  : name == "Exp"        ? std::exp(x)
                                  : name == "Log"        ? std::log(x)
                                                         : std::abs(x));
    return made(std::move(tensor));
  }
  if (name != "Neg") throw Unsupported("only of constants can it be computed");
  Row values = row_of_numbers(0);
  for (Scalar& x : values.elements) x = program_.scale(x, 0, -1, values.type == TensorProto::FLOAT);
  return made(std::move(values));
}

Value Node::activation(schema::Activation activation) {
  Row values = row_of_numbers(0);
  if (values.elements.empty()) throw Unsupported("its input is empty");
  values.elements = program_.activate(values.elements, activation);
  return made(std::move(values));
}

Value Node::softmax() {
  Row values = row_of_numbers(0);
  const std::size_t axis =
      checked_axis(attributes_.integer("axis", opset_ < 13 ? 1 : -1), values.shape.size());
  if (values.batch == axis || values.elements.empty()) throw Unsupported("it is over the rows");
  const auto along = static_cast<std::size_t>(opset_ < 13 ? static_cast<std::int64_t>(values.elements.size())
                                                          : values.shape[axis]);
  if (along != values.elements.size() || values.batch > axis)
    throw Unsupported("it is over one of several dimensions");
  values.elements = program_.activate(values.elements, schema::Activation::Softmax);
  values.of_classes = true;
  return made(std::move(values));
}

/// low + relu(x - low), and then high - relu(high - that): no large numbers cancel.
Value Node::clip(double low, double high, const Row& of) {
  if (of.elements.empty()) throw Unsupported("its input is empty");
  if (std::isnan(low) || std::isnan(high) || low > high)
    throw Unsupported("it clips to [" + number_text(low) + ", " + number_text(high) + "]");
  Row values = of;
  const auto lowest = static_cast<double>(std::numeric_limits<float>::lowest());
  if (low > lowest) {
    for (Scalar& x : values.elements) x = program_.scale(x, low, 1, false);
    values.elements = program_.activate(values.elements, schema::Activation::Relu);
    for (Scalar& x : values.elements) x = program_.scale(x, -low, 1, false);
  }
  if (high < -lowest) {
    for (Scalar& x : values.elements) x = program_.scale(x, high, -1, false);
    values.elements = program_.activate(values.elements, schema::Activation::Relu);
    for (Scalar& x : values.elements) x = program_.scale(x, high, -1, false);
  }
  return made(std::move(values));
}

/// slope * x for x < 0: slope * x + (1 - slope) * relu(x).
Value Node::leaky(std::vector<double> slopes) {
  Row values = row_of_numbers(0);
  const std::size_t count = values.elements.size();
  if (slopes.size() == 1) slopes.assign(count, slopes[0]);
  if (slopes.size() != count || count == 0) throw Unsupported("it has not one slope for each value");
  if (count * count * 2 > budget_) throw Unsupported("it has too many values for a layer");
  std::vector<Scalar> inputs = values.elements;
  const std::vector<Scalar> positive = program_.activate(values.elements, schema::Activation::Relu);
  inputs.insert(inputs.end(), positive.begin(), positive.end());
  std::vector<double> weights(count * count * 2, 0.0);
  for (std::size_t i = 0; i < count; ++i) {
    weights[i * count * 2 + i] = slopes[i];
    weights[i * count * 2 + count + i] = 1 - slopes[i];
  }
  values.elements =
      program_.affine(inputs, std::move(weights), std::vector<double>(count, 0.0), schema::Activation::None);
  return made(std::move(values));
}

std::vector<Scalar> Node::linear(const Row& values, std::vector<double> weights, std::vector<double> bias) {
  const std::size_t width = values.elements.size(), outputs = bias.size();
  if (width == 0 || outputs == 0 || weights.size() != width * outputs)
    throw Unsupported("it has " + std::to_string(weights.size()) + " weights for " + std::to_string(width) +
                      " values and " + std::to_string(outputs) + " outputs");
  for (const auto* numbers : {&weights, &bias})
    for (const double number : *numbers)
      if (!std::isfinite(static_cast<float>(number)))
        throw Unsupported("it has a weight " + number_text(number));
  return program_.affine(values.elements, std::move(weights), std::move(bias), schema::Activation::None);
}

Value Node::gemm() {
  const Row& values = matrix(0);
  if (attributes_.integer("transA", 0) != 0) throw Unsupported("it transposes the rows");
  const Tensor& by = numbers(1);
  const std::size_t width = values.elements.size();
  if (by.shape.size() != 2) throw Unsupported("its weights are not a matrix");
  const bool transposed = attributes_.integer("transB", 0) != 0;
  const auto outputs = static_cast<std::size_t>(by.shape[transposed ? 0 : 1]);
  if (static_cast<std::size_t>(by.shape[transposed ? 1 : 0]) != width)
    throw Unsupported("its weights have the shape " + shape_text(by.shape) + ", and its input has " +
                      std::to_string(width) + " values");
  const double alpha = attributes_.number("alpha", 1), beta = attributes_.number("beta", 1);
  std::vector<double> weights(by.numbers.size()), bias(outputs, 0.0);
  for (std::size_t i = 0; i < outputs; ++i)
    for (std::size_t j = 0; j < width; ++j)
      weights[i * width + j] = alpha * by.numbers[transposed ? i * width + j : j * outputs + i];
  if (has(2)) {
    const Tensor& add = numbers(2);
    const bool one = add.numbers.size() == 1;
    if ((!one && add.numbers.size() != outputs) ||
        (!one && add.shape.back() != static_cast<std::int64_t>(outputs)))
      throw Unsupported("its bias has the shape " + shape_text(add.shape) + " for " +
                        std::to_string(outputs) + " outputs");
    for (std::size_t i = 0; i < outputs; ++i) bias[i] = beta * add.numbers[one ? 0 : i];
  }
  return matrix_of(linear(values, std::move(weights), std::move(bias)));
}

/// Of what exporters leave of a first step, whose state is 0.
Value Node::constant_matmul() {
  const Tensor &left = numbers(0), &right = numbers(1);
  if (left.shape.empty() || right.shape.size() != 2 || left.shape.back() != right.shape[0])
    throw Unsupported("its constants have the shapes " + shape_text(left.shape) + " and " +
                      shape_text(right.shape));
  const auto width = static_cast<std::size_t>(right.shape[0]),
             outputs = static_cast<std::size_t>(right.shape[1]);
  Tensor tensor;
  tensor.type = left.type;
  tensor.shape = left.shape;
  tensor.shape.back() = right.shape[1];
  const std::size_t count = elements_of(tensor.shape);
  if (count > budget_ || count * width > 64 * budget_)
    throw Unsupported("it would make " + std::to_string(count) + " values");
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < width; ++j)
      sum += left.numbers[i / outputs * width + j] * right.numbers[j * outputs + i % outputs];
    tensor.numbers.push_back(rounded_to(tensor.type, sum));
  }
  return made(std::move(tensor));
}

/// Of a row's matrix, every one of its rows by itself.
Value Node::matmul() {
  if (is_constant(0) && is_constant(1)) return constant_matmul();
  if (is_constant(0)) throw Unsupported("it multiplies a constant by the rows");
  const Row& values = row_of_numbers(0);
  const Tensor& by = numbers(1);
  const auto width = static_cast<std::size_t>(values.shape.back());
  if (by.shape.empty() || by.shape.size() > 2 || values.batch == values.shape.size() - 1 || width == 0 ||
      static_cast<std::size_t>(by.shape[0]) != width)
    throw Unsupported("its weights have the shape " + shape_text(by.shape) + ", and its input " +
                      shape_text(values.shape) + " (1 for the rows)");
  const std::size_t outputs = by.shape.size() == 2 ? static_cast<std::size_t>(by.shape[1]) : 1;
  std::vector<double> weights(by.numbers.size());
  for (std::size_t i = 0; i < outputs; ++i)
    for (std::size_t j = 0; j < width; ++j) weights[i * width + j] = by.numbers[j * outputs + i];
  Row result;
  result.type = values.type;
  result.batch = values.batch;
  result.shape = values.shape;
  result.shape.pop_back();
  if (by.shape.size() == 2) result.shape.push_back(by.shape[1]);
  Row part;
  for (std::size_t i = 0; i < values.elements.size(); i += width) {
    const auto begin = values.elements.begin() + static_cast<std::ptrdiff_t>(i);
    part.elements.assign(begin, begin + static_cast<std::ptrdiff_t>(width));
    const std::vector<Scalar> made_of = linear(part, weights, std::vector<double>(outputs, 0.0));
    result.elements.insert(result.elements.end(), made_of.begin(), made_of.end());
  }
  return made(std::move(result));
}

Value Node::normalization() {
  Row values = row_of_numbers(0);
  if (attributes_.integer("training_mode", 0) != 0) throw Unsupported("it is in training mode");
  const Tensor &scale = numbers(1), &bias = numbers(2), &mean = numbers(3), &variance = numbers(4);
  const double epsilon = attributes_.number("epsilon", static_cast<double>(1e-5f));
  if (values.batch != 0 || values.shape.size() < 2) throw Unsupported("its input is not [rows, channels]");
  const auto channels = static_cast<std::size_t>(values.shape[1]);
  for (const Tensor* tensor : {&scale, &bias, &mean, &variance})
    if (tensor->numbers.size() != channels)
      throw Unsupported("it has " + std::to_string(tensor->numbers.size()) + " numbers for " +
                        std::to_string(channels) + " channels");
  const std::size_t of_channel = values.elements.size() / (static_cast<std::size_t>(values.shape[0]) *
                                                           std::max<std::size_t>(channels, 1));
  for (std::size_t i = 0; i < values.elements.size(); ++i) {
    const std::size_t c = i / of_channel % channels;
    const double factor = scale.numbers[c] / std::sqrt(variance.numbers[c] + epsilon);
    if (!std::isfinite(static_cast<float>(factor)) || !std::isfinite(static_cast<float>(mean.numbers[c])) ||
        !std::isfinite(static_cast<float>(bias.numbers[c])))
      throw Unsupported("its numbers for channel " + std::to_string(c) + " are not finite");
    values.elements[i] = program_.scale(program_.scale(values.elements[i], mean.numbers[c], factor, false),
                                        -bias.numbers[c], 1, false);
  }
  return made(std::move(values));
}

Value Node::reduce(bool mean) {
  const Row& values = row_of_numbers(0);
  const std::size_t rank = values.shape.size();
  const auto axes = integers("axes", 1);
  std::vector<std::uint8_t> reduced(rank, 0);
  for (const std::int64_t axis : axes) {
    not_the_batch(0, checked_axis(axis, rank));
    reduced[checked_axis(axis, rank)] = 1;
  }
  if (axes.empty()) throw Unsupported("it is over the rows");
  Shape kept = values.shape;
  for (std::size_t i = 0; i < rank; ++i)
    if (reduced[i] != 0) kept[i] = 1;
  const std::size_t count = values.elements.size(), outputs = elements_of(kept);
  if (count == 0 || outputs * count > budget_) throw Unsupported("it has no values, or too many for a layer");
  const double weight = mean ? static_cast<double>(outputs) / static_cast<double>(count) : 1;
  std::vector<double> weights(outputs * count, 0.0);
  const std::vector<std::size_t> strides = strides_of(kept);
  std::size_t from = 0;
  for_each_position(values.shape, [&](const Shape& position) {
    std::size_t to = 0;
    for (std::size_t i = 0; i < rank; ++i)
      if (reduced[i] == 0) to += strides[i] * static_cast<std::size_t>(position[i]);
    weights[to * count + from++] = weight;
  });
  Row result;
  result.type = values.type;
  result.of_classes = values.of_classes;
  const bool keep = attributes_.integer("keepdims", 1) != 0;
  for (std::size_t i = 0; i < rank; ++i) {
    if (i == values.batch) result.batch = result.shape.size();
    if (keep || reduced[i] == 0) result.shape.push_back(kept[i]);
  }
  result.elements = linear(values, std::move(weights), std::vector<double>(outputs, 0.0));
  return made(std::move(result));
}

// --- ai.onnx.ml: features -------------------------------------------------------------------------------

Value Node::scaler() {
  Row values = matrix(0);
  const auto offset = attributes_.numbers("offset"), scale = attributes_.numbers("scale");
  const std::size_t count = values.elements.size();
  for (const auto* numbers : {&offset, &scale}) {
    if (numbers->size() != 1 && numbers->size() != count)
      throw Unsupported("it has " + std::to_string(numbers->size()) + " numbers for " +
                        std::to_string(count) + " values");
    for (const double number : *numbers)
      if (!std::isfinite(number)) throw Unsupported("it has the number " + number_text(number));
  }
  // ONNX Runtime computes in float32, but of doubles in double.
  const bool exact = values.type != TensorProto::DOUBLE;
  for (std::size_t i = 0; i < count; ++i)
    values.elements[i] = program_.scale(values.elements[i], offset[offset.size() == 1 ? 0 : i],
                                        scale[scale.size() == 1 ? 0 : i], exact);
  values.type = TensorProto::FLOAT;
  return made(std::move(values));
}

Value Node::normalizer() {
  Row values = matrix(0);
  if (values.elements.empty()) throw Unsupported("its input is empty");
  const std::string norm = attributes_.text("norm", "MAX");
  if (norm != "L1" && norm != "L2" && norm != "MAX")
    throw Unsupported("its norm is " + shown(norm) + ", and L1, L2 and MAX are known");
  // Probabilities add up to 1 already.
  if (norm == "L1" && program_.is_distribution(values.elements)) return input(0);
  values.elements = program_.normalize(values.elements, norm == "L1"   ? schema::Norm::L1
                                                        : norm == "L2" ? schema::Norm::L2
                                                                       : schema::Norm::Max);
  values.type = TensorProto::FLOAT;
  return made(std::move(values));
}

Value Node::imputer() {
  Row values = matrix(0);
  if (values.type != TensorProto::FLOAT && values.type != TensorProto::DOUBLE)
    throw Unsupported("it imputes integers");
  const auto fills = attributes_.numbers("imputed_value_floats");
  const double replaced = attributes_.number("replaced_value_float", 0);
  if (!std::isnan(replaced))
    throw Unsupported("it replaces the number " + number_text(replaced) + ", and only missing values can be");
  if (fills.size() != 1 && fills.size() != values.elements.size())
    throw Unsupported("it has " + std::to_string(fills.size()) + " values for " +
                      std::to_string(values.elements.size()) + " columns");
  for (std::size_t i = 0; i < values.elements.size(); ++i) {
    const double fill = fills[fills.size() == 1 ? 0 : i];
    if (std::isnan(fill)) continue;
    if (!std::isfinite(fill)) throw Unsupported("it imputes " + number_text(fill));
    values.elements[i] = program_.impute(values.elements[i], static_cast<float>(fill));
  }
  return made(std::move(values));
}

Value Node::binarizer() {
  Row values = matrix(0);
  const auto threshold = static_cast<float>(attributes_.number("threshold", 0));
  // x > threshold; a missing value is not.
  const float low = std::nextafter(threshold, infinity);
  if (!std::isfinite(threshold) || !std::isfinite(low))
    throw Unsupported("its threshold is " + number_text(static_cast<double>(threshold)));
  for (Scalar& x : values.elements) x = program_.lookup(x, {{low, infinity, 1}}, 0, 0);
  return made(std::move(values));
}

namespace {

/// The float32 that are exactly `value`.
Interval only(double value, float result) {
  const auto low = static_cast<float>(value);
  if (static_cast<double>(low) != value || low == std::numeric_limits<float>::max())
    throw Unsupported("it looks up " + number_text(value) + ", which is no float32 or the last one");
  return {low == 0 ? 0.0f : low, std::nextafter(low, infinity), result};
}

/// The float32 whose whole part, truncated toward 0, is `value`.
Interval truncated(double value, float result) {
  if (std::abs(value) > 0x1p24)
    throw Unsupported("it looks up " + number_text(value) + ", which is no float32");
  const auto whole_part = static_cast<float>(value);
  return {whole_part <= 0 ? std::nextafter(whole_part - 1, infinity) : whole_part,
          whole_part < 0 ? std::nextafter(whole_part, infinity) : whole_part + 1, result};
}

}  // namespace

Value Node::label_encoder() {
  Row values = row(0);
  // The keys and values, in the attributes of three opsets.
  Tensor keys, results;
  double other = 0;
  const auto use = [&](Tensor& tensor, TensorProto::DataType type, std::vector<double> numbers,
                       std::vector<std::string> strings) {
    tensor.type = type;
    tensor.numbers = std::move(numbers);
    tensor.strings = std::move(strings);
  };
  const auto as_doubles = [](const std::vector<std::int64_t>& integers) {
    return std::vector<double>(integers.begin(), integers.end());
  };
  if (attributes_.find("classes_strings") != nullptr) {
    if (values.type != TensorProto::STRING) throw Unsupported("it makes strings of numbers");
    const auto classes = attributes_.texts("classes_strings");
    std::vector<double> numbers(classes.size());
    std::iota(numbers.begin(), numbers.end(), 0.0);
    use(keys, TensorProto::STRING, {}, classes);
    use(results, TensorProto::INT64, std::move(numbers), {});
    other = static_cast<double>(attributes_.integer("default_int64", -1));
  } else {
    if (attributes_.find("keys_tensor") != nullptr)
      keys = attributes_.tensor("keys_tensor");
    else if (attributes_.find("keys_strings") != nullptr)
      use(keys, TensorProto::STRING, {}, attributes_.texts("keys_strings"));
    else if (attributes_.find("keys_int64s") != nullptr)
      use(keys, TensorProto::INT64, as_doubles(attributes_.integers("keys_int64s")), {});
    else
      use(keys, TensorProto::FLOAT, attributes_.numbers("keys_floats"), {});
    if (attributes_.find("values_tensor") != nullptr) {
      results = attributes_.tensor("values_tensor");
      other = results.is_whole() ? -1 : 0;
      if (attributes_.find("default_tensor") != nullptr) {
        const Tensor otherwise = attributes_.tensor("default_tensor");
        if (otherwise.numbers.size() != 1) throw Unsupported("default_tensor is not one number");
        other = otherwise.numbers[0];
      }
    } else if (attributes_.find("values_int64s") != nullptr) {
      use(results, TensorProto::INT64, as_doubles(attributes_.integers("values_int64s")), {});
      other = static_cast<double>(attributes_.integer("default_int64", -1));
    } else if (attributes_.find("values_floats") != nullptr) {
      use(results, TensorProto::FLOAT, attributes_.numbers("values_floats"), {});
      other = attributes_.number("default_float", 0);
    } else {
      throw Unsupported("it makes strings");
    }
  }
  if (results.is_text()) throw Unsupported("it makes strings");
  if (keys.is_text() != (values.type == TensorProto::STRING))
    throw Unsupported("its keys are not of its input's type");
  if (keys.size() != results.size() || keys.size() == 0)
    throw Unsupported("it has " + std::to_string(keys.size()) + " keys and " +
                      std::to_string(results.size()) + " values");
  if (keys.size() * values.elements.size() > budget_) throw Unsupported("it has too many keys");
  for (const double number : results.numbers)
    if (!std::isfinite(static_cast<float>(number))) throw Unsupported("it makes " + number_text(number));
  if (std::isinf(static_cast<float>(other))) throw Unsupported("it makes " + number_text(other));
  const auto otherwise = static_cast<float>(other);
  for (Scalar& x : values.elements) {
    if (keys.is_text()) {
      const std::vector<std::size_t> categories = program_.categories(x, keys.strings);
      std::vector<float> table(*std::max_element(categories.begin(), categories.end()) + 1, otherwise);
      if (table.size() > 65535) throw Unsupported("it has too many keys");
      if (std::isnan(otherwise) && keys.size() != table.size())
        throw Unsupported("its default is NaN, and others read further categories");
      // Of several values for one key, the first counts.
      for (std::size_t i = categories.size(); i-- > 0;)
        table[categories[i]] = static_cast<float>(results.numbers[i]);
      x = program_.ordinal(x, std::move(table), otherwise);
      continue;
    }
    std::vector<Interval> intervals;
    float missing = otherwise;
    for (std::size_t i = 0; i < keys.numbers.size(); ++i)
      if (std::isnan(keys.numbers[i]))
        missing = static_cast<float>(results.numbers[i]);
      else
        intervals.push_back(only(keys.numbers[i], static_cast<float>(results.numbers[i])));
    if (std::isnan(otherwise)) throw Unsupported("its default is NaN");
    x = program_.lookup(x, std::move(intervals), otherwise, missing);
  }
  values.type = results.type;
  return made(std::move(values));
}

Value Node::one_hot_encoder() {
  const Row& of = row(0);
  if (of.batch != 0) throw Unsupported("its input is not [rows, columns]");
  const bool text = of.type == TensorProto::STRING;
  const auto names = attributes_.texts("cats_strings");
  const auto integers = attributes_.integers("cats_int64s");
  const std::size_t count = text ? names.size() : integers.size();
  if (count == 0) throw Unsupported("it has no categories of its input's type");
  if (count * of.elements.size() > std::min<std::size_t>(budget_, 65535))
    throw Unsupported("it has " + std::to_string(count) + " categories for " +
                      std::to_string(of.elements.size()) + " columns");
  Tensor type;
  type.type = of.type;
  Row values;
  values.shape = of.shape;
  values.shape.push_back(static_cast<std::int64_t>(count));
  for (const Scalar x : of.elements) {
    std::vector<float> table;
    Scalar index = x;
    if (text) {
      const std::vector<std::size_t> categories = program_.categories(x, names);
      table.assign(*std::max_element(categories.begin(), categories.end()) + 1, -1.0f);
      for (std::size_t i = count; i-- > 0;) table[categories[i]] = static_cast<float>(i);
      bool same = table.size() == count;
      for (std::size_t i = 0; i < count; ++i) same = same && categories[i] == i;
      if (!same) index = program_.ordinal(x, std::move(table), -1.0f);
    } else {
      bool same = type.is_whole();
      std::vector<Interval> intervals;
      for (std::size_t i = 0; i < count; ++i) {
        same = same && integers[i] == static_cast<std::int64_t>(i);
        const auto value = static_cast<double>(integers[i]);
        // ONNX Runtime truncates floats.
        intervals.push_back(type.is_whole() ? only(value, static_cast<float>(i))
                                            : truncated(value, static_cast<float>(i)));
      }
      if (!same) index = program_.lookup(x, std::move(intervals), -1.0f, -1.0f);
    }
    const std::vector<Scalar> hot = program_.one_hot(index, count);
    values.elements.insert(values.elements.end(), hot.begin(), hot.end());
  }
  return made(std::move(values));
}

// --- ai.onnx.ml: predictors -----------------------------------------------------------------------------

std::vector<Scalar> Node::post_transformed(std::vector<Scalar> scores, const std::string& transform) {
  if (transform == "NONE") return scores;
  if (transform == "LOGISTIC") return program_.activate(scores, schema::Activation::Sigmoid);
  if (transform == "SOFTMAX") return program_.activate(scores, schema::Activation::Softmax);
  throw Unsupported("its post_transform is " + shown(transform) + ", for which there is no operator");
}

std::size_t Node::classes() const {
  std::size_t largest = 0;
  for (const char* name : {"classlabels_ints", "classlabels_int64s", "classlabels_strings"})
    if (const auto* labels = attributes_.find(name))
      largest = std::max({largest, static_cast<std::size_t>(labels->ints_size()),
                          static_cast<std::size_t>(labels->strings_size())});
  if (largest < 2) throw Unsupported("it has " + std::to_string(largest) + " classes");
  return largest;
}

Value Node::linear_regressor() {
  const Row& values = matrix(0);
  const std::int64_t targets = attributes_.integer("targets", 1);
  if (targets < 1 || targets > 65000) throw Unsupported("it has " + std::to_string(targets) + " outputs");
  auto bias = attributes_.numbers("intercepts");
  if (bias.empty()) bias.assign(static_cast<std::size_t>(targets), 0.0);
  if (bias.size() != static_cast<std::size_t>(targets))
    throw Unsupported("it has " + std::to_string(bias.size()) + " intercepts for " + std::to_string(targets) +
                      " outputs");
  return matrix_of(post_transformed(linear(values, attributes_.numbers("coefficients"), std::move(bias)),
                                    attributes_.text("post_transform", "NONE")));
}

std::vector<Value> Node::linear_classifier() {
  const Row& values = matrix(0);
  const std::size_t count = classes();
  const auto weights = attributes_.numbers("coefficients");
  auto bias = attributes_.numbers("intercepts");
  if (bias.empty() && !values.elements.empty())
    bias.assign(std::min<std::size_t>(count, weights.size() / values.elements.size()), 0.0);
  const std::string transform = attributes_.text("post_transform", "NONE");
  const std::size_t width = values.elements.size();
  if (bias.size() == 1 && count == 2) {
    const auto scores = linear(values, weights, bias);
    // With a single score, ONNX Runtime applies no softmax.
    const auto positive = post_transformed(scores, transform == "SOFTMAX" ? "NONE" : transform);
    return {{}, matrix_of({complement(positive[0]), positive[0]}, true)};
  }
  if (bias.size() != count)
    throw Unsupported("it has " + std::to_string(bias.size()) + " intercepts for " + std::to_string(count) +
                      " classes");
  if (count == 2 && transform == "LOGISTIC" && weights.size() == 2 * width) {
    // As scikit-learn has it: one class is the other's opposite.
    bool opposite = bias[0] == -bias[1];
    for (std::size_t j = 0; j < width; ++j) opposite = opposite && weights[j] == -weights[width + j];
    if (opposite) {
      const auto positive = program_.activate(
          linear(values, {weights.begin() + static_cast<std::ptrdiff_t>(width), weights.end()}, {bias[1]}),
          schema::Activation::Sigmoid);
      return {{}, matrix_of({complement(positive[0]), positive[0]}, true)};
    }
  }
  return {{}, matrix_of(post_transformed(linear(values, weights, bias), transform), true)};
}

namespace {

/// The support vectors of a linear kernel, added up; or the coefficients as they are.
std::vector<double> linear_coefficients(const Attributes& attributes, std::size_t width) {
  auto coefficients = attributes.numbers("coefficients");
  const auto vectors = attributes.numbers("support_vectors");
  if (attributes.text("kernel_type", "LINEAR") != "LINEAR")
    throw Unsupported("its kernel is " + shown(attributes.text("kernel_type", "LINEAR")) +
                      ", and only LINEAR is a weighted sum of the columns");
  if (vectors.empty()) return coefficients;
  if (width == 0 || vectors.size() != coefficients.size() * width)
    throw Unsupported("it has " + std::to_string(vectors.size()) + " numbers in its support vectors, " +
                      std::to_string(coefficients.size()) + " coefficients and " + std::to_string(width) +
                      " columns");
  std::vector<double> weights(width, 0.0);
  for (std::size_t i = 0; i < vectors.size(); ++i) weights[i % width] += coefficients[i / width] * vectors[i];
  return weights;
}

}  // namespace

Value Node::svm_regressor() {
  const Row& values = matrix(0);
  if (attributes_.integer("one_class", 0) != 0)
    throw Unsupported("it is a one-class machine, which gives signs");
  const auto rho = attributes_.numbers("rho");
  if (rho.size() != 1)
    throw Unsupported("rho has " + std::to_string(rho.size()) + " values, and 1 is expected");
  return matrix_of(
      post_transformed(linear(values, linear_coefficients(attributes_, values.elements.size()), rho),
                       attributes_.text("post_transform", "NONE")));
}

std::vector<Value> Node::svm_classifier() {
  const Row& values = matrix(0);
  const std::size_t count = classes();
  const auto rho = attributes_.numbers("rho");
  const auto slope = attributes_.numbers("prob_a"), intercept = attributes_.numbers("prob_b");
  const std::string transform = attributes_.text("post_transform", "NONE");
  if (attributes_.find("support_vectors") == nullptr)
    throw Unsupported("it has no support vectors: export the linear model as a LinearClassifier");
  if (count != 2) throw Unsupported("it votes between " + std::to_string(count) + " classes");
  if (rho.size() != 1)
    throw Unsupported("rho has " + std::to_string(rho.size()) + " values, and 1 is expected");
  if (transform != "NONE") throw Unsupported("its post_transform is " + shown(transform));
  const auto score = linear(values, linear_coefficients(attributes_, values.elements.size()), rho);
  if (slope.empty()) {
    program_.remark(
        "the score is positive for the second class, as the trainer has it; ONNX Runtime gives it the "
        "other sign");
    return {{}, matrix_of({score[0], program_.scale(score[0], 0, -1, false)}, true)};
  }
  if (slope.size() != 1 || intercept.size() != 1)
    throw Unsupported("prob_a and prob_b are not one number each");
  // Platt scaling: the first class has 1 / (1 + exp(a * score + b)).
  program_.remark("the probability is Platt's; libsvm and ONNX Runtime approximate it, by up to 0.005");
  const Scalar positive = program_.activate(
      {program_.scale(program_.scale(score[0], 0, slope[0], false), -intercept[0], 1, false)},
      schema::Activation::Sigmoid)[0];
  return {{}, matrix_of({complement(positive), positive}, true)};
}

void Node::set_base(ParsedTrees& trees, const std::vector<double>& base) const {
  if (base.size() != trees.targets())
    throw Unsupported("it has " + std::to_string(base.size()) + " base_values for " +
                      std::to_string(trees.targets()) + " outputs");
  for (std::size_t k = 0; k < base.size(); ++k) {
    if (!std::isfinite(static_cast<float>(base[k])))
      throw Unsupported("its base value is " + number_text(base[k]));
    trees.base[k] = base[k];
  }
}

/// The regressors' scores. The specification asks for a post_transform of a single one too, but ONNX Runtime
/// leaves it out: nobody can know which of them the exporter had in mind.
std::vector<Scalar> Node::tree_scores(const Row& values, ParsedTrees trees, const std::string& transform) {
  if (trees.targets() == 1 && transform != "NONE")
    throw Unsupported("its post_transform is " + shown(transform) +
                      " of a single output, which ONNX Runtime does not apply: export it with NONE");
  return post_transformed(program_.trees(values.elements, std::move(trees)), transform);
}

Value Node::tree_regressor() {
  const Row& values = matrix(0);
  const std::int64_t targets = attributes_.integer("n_targets", 1);
  ParsedTrees trees =
      read_trees(attributes_, "target", static_cast<std::size_t>(std::max<std::int64_t>(targets, 0)));
  if (const auto base = attributes_.numbers_or_tensor("base_values"); !base.empty()) set_base(trees, base);
  return matrix_of(tree_scores(values, std::move(trees), attributes_.text("post_transform", "NONE")));
}

std::vector<Value> Node::tree_classifier() {
  const Row& values = matrix(0);
  const std::size_t count = classes();
  ParsedTrees trees = read_trees(attributes_, "class", count);
  const auto base = attributes_.numbers_or_tensor("base_values");
  const std::string transform = attributes_.text("post_transform", "NONE");
  if (count > 2) {
    if (!base.empty()) set_base(trees, base);
    return {{},
            matrix_of(post_transformed(program_.trees(values.elements, std::move(trees)), transform), true)};
  }

  // With two classes, ONNX Runtime goes by which classes have weights at all.
  const auto ids = attributes_.integers("class_ids");
  const auto weights = attributes_.numbers_or_tensor("class_weights");
  const bool all_positive =
      std::none_of(weights.begin(), weights.end(), [](double weight) { return weight < 0; });
  const bool first = std::find(ids.begin(), ids.end(), 0) != ids.end();
  const bool second = std::find(ids.begin(), ids.end(), 1) != ids.end();
  for (const std::uint32_t k : {0u, 1u})
    if ((k == 0 ? first : second) && !trees.always_scores(k))
      throw Unsupported("some rows get no weight for class " + std::to_string(k) +
                        ", and what two classes mean then is not defined");
  if (base.size() == 2 || (base.size() == 1 && second))
    throw Unsupported("its base_values are for two classes, and runtimes disagree about what that means");
  if (base.size() == 1)
    trees.base[0] = base[0];
  else if (!base.empty())
    set_base(trees, base);
  const std::vector<Scalar> scores = program_.trees(values.elements, std::move(trees));
  if (second) return {{}, matrix_of(post_transformed(scores, transform), true)};
  // The only weights are those of the positive class, whatever their id says.
  const Scalar score = scores[0];
  if (transform == "LOGISTIC") {
    const Scalar positive = program_.activate({score}, schema::Activation::Sigmoid)[0];
    return {{}, matrix_of({complement(positive), positive}, true)};
  }
  if (transform != "NONE")
    throw Unsupported("its post_transform is " + shown(transform) + " of a single score");
  return {{},
          matrix_of({all_positive ? complement(score) : program_.scale(score, 0, -1, false), score}, true)};
}

Value Node::tree_ensemble() {
  const Row& values = matrix(0);
  ParsedTrees trees = read_tree_ensemble(attributes_);
  constexpr const char* transforms[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const std::int64_t transform = attributes_.integer("post_transform", 0);
  if (transform < 0 || transform > 4) throw Unsupported("its post_transform is " + std::to_string(transform));
  return matrix_of(tree_scores(values, std::move(trees), transforms[transform]));
}

// --- All of them ----------------------------------------------------------------------------------------

std::vector<Value> Node::evaluate() {
  require_known(node_);
  const std::string& op = node_.op_type();
  if (node_.domain() == "ai.onnx.ml") {
    if (op == "TreeEnsembleRegressor") return {tree_regressor()};
    if (op == "TreeEnsembleClassifier") return tree_classifier();
    if (op == "TreeEnsemble") return {tree_ensemble()};
    if (op == "LinearRegressor") return {linear_regressor()};
    if (op == "LinearClassifier") return linear_classifier();
    if (op == "SVMRegressor") return {svm_regressor()};
    if (op == "SVMClassifier") return svm_classifier();
    if (op == "Scaler") return {scaler()};
    if (op == "Normalizer") return {normalizer()};
    if (op == "Imputer") return {imputer()};
    if (op == "Binarizer") return {binarizer()};
    if (op == "LabelEncoder") return {label_encoder()};
    if (op == "OneHotEncoder") return {one_hot_encoder()};
    if (op == "ArrayFeatureExtractor") return {extract()};
    if (op == "FeatureVectorizer") {
      for (std::size_t i = 0; i < inputs_.size(); ++i) (void)matrix(i);
      return {concat(1)};
    }
    Row values = row_of_numbers(0);  // of a ZipMap
    values.of_classes = true;
    return {made(std::move(values))};
  }
  if (op == "Identity" || op == "Dropout") return {input(0)};
  if (op == "Constant") {
    if (attributes_.find("value") != nullptr) return {made(attributes_.tensor("value"))};
    Tensor tensor;
    if (attributes_.find("value_float") != nullptr) {
      tensor.numbers = {attributes_.number("value_float", 0)};
    } else if (attributes_.find("value_int") != nullptr) {
      tensor.type = TensorProto::INT64;
      tensor.numbers = {static_cast<double>(attributes_.integer("value_int", 0))};
    } else if (attributes_.find("value_floats") != nullptr) {
      tensor.numbers = attributes_.numbers("value_floats");
      tensor.shape = {static_cast<std::int64_t>(tensor.numbers.size())};
    } else if (attributes_.find("value_ints") != nullptr) {
      const auto integers = attributes_.integers("value_ints");
      tensor.type = TensorProto::INT64;
      tensor.numbers.assign(integers.begin(), integers.end());
      tensor.shape = {static_cast<std::int64_t>(tensor.numbers.size())};
    } else {
      throw Unsupported("it is sparse or of strings");
    }
    return {made(std::move(tensor))};
  }
  if (op == "ConstantOfShape") return {constant_of_shape()};
  if (op == "Shape") return {shape()};
  if (op == "Expand") return {expand()};
  if (op == "Tile") return {tile()};
  if (op == "Equal") return {equal()};
  if (op == "Where") return {where()};
  if (op == "ReverseSequence") return {reverse_sequence()};
  if (is_recurrent(node_)) return evaluate_recurrent(node_, inputs_, program_);
  if (op == "Cast") return {cast()};
  if (op == "Reshape") return {reshape()};
  if (op == "Flatten") return {flatten()};
  if (op == "Squeeze") return {squeeze()};
  if (op == "Unsqueeze") return {unsqueeze()};
  if (op == "Transpose") return {transpose()};
  if (op == "Concat")
    return {concat(checked_axis(attributes_.integer("axis", opset_ < 4 ? 1 : 0), shape_of(0).size()))};
  if (op == "Gather") return {gather()};
  if (op == "Slice") return {slice()};
  if (op == "Split") return split();
  if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div" || op == "Pow") {
    if (attributes_.find("broadcast") != nullptr && attributes_.find("axis") != nullptr)
      throw Unsupported("it broadcasts along an axis of its own, as before opset 7");
    return {arithmetic(op, input(0), input(1))};
  }
  if (op == "Sum") {
    Value sum = input(0);
    for (std::size_t i = 1; i < inputs_.size(); ++i) sum = arithmetic("Add", sum, input(i));
    return {sum};
  }
  if (op == "Neg" || op == "Sqrt" || op == "Reciprocal" || op == "Exp" || op == "Log" || op == "Abs")
    return {unary(op)};
  if (op == "Relu") return {activation(schema::Activation::Relu)};
  if (op == "Sigmoid") return {activation(schema::Activation::Sigmoid)};
  if (op == "Tanh") return {activation(schema::Activation::Tanh)};
  if (op == "Softmax") return {softmax()};
  if (op == "LeakyRelu") return {leaky({attributes_.number("alpha", static_cast<double>(0.01f))})};
  if (op == "PRelu") return {leaky(numbers(1).numbers)};
  if (op == "HardSigmoid") {
    Row values = row_of_numbers(0);
    const double alpha = attributes_.number("alpha", static_cast<double>(0.2f));
    const double beta = attributes_.number("beta", 0.5);
    for (Scalar& x : values.elements) x = program_.scale(program_.scale(x, 0, alpha, false), -beta, 1, false);
    return {clip(0, 1, values)};
  }
  if (op == "Clip") {
    const auto bound = [&](std::size_t i, const char* name, double otherwise) {
      if (!has(i)) return attributes_.number(name, otherwise);
      if (numbers(i).numbers.size() != 1) throw Unsupported("its bounds are not one number each");
      return numbers(i).numbers[0];
    };
    const auto most = static_cast<double>(std::numeric_limits<float>::max());
    return {clip(bound(1, "min", -most), bound(2, "max", most), row_of_numbers(0))};
  }
  if (op == "Gemm") return {gemm()};
  if (op == "MatMul") return {matmul()};
  if (op == "BatchNormalization") return {normalization()};
  return {reduce(op == "ReduceMean")};  // or ReduceSum
}

std::vector<Value> evaluate_node(const onnx::NodeProto& node, const std::vector<Value>& inputs,
                                 std::int64_t opset, Program& program, std::size_t budget) {
  return Node(node, inputs, opset, program, budget).evaluate();
}

void require_known(const onnx::NodeProto& node) {
  static constexpr std::string_view of_ml[] = {"ArrayFeatureExtractor", "Binarizer",
                                               "FeatureVectorizer",     "Imputer",
                                               "LabelEncoder",          "LinearClassifier",
                                               "LinearRegressor",       "Normalizer",
                                               "OneHotEncoder",         "SVMClassifier",
                                               "SVMRegressor",          "Scaler",
                                               "TreeEnsemble",          "TreeEnsembleClassifier",
                                               "TreeEnsembleRegressor", "ZipMap"};
  static constexpr std::string_view of_core[] = {"Abs",
                                                 "Add",
                                                 "BatchNormalization",
                                                 "Cast",
                                                 "Clip",
                                                 "Concat",
                                                 "Constant",
                                                 "ConstantOfShape",
                                                 "Div",
                                                 "Dropout",
                                                 "Equal",
                                                 "Exp",
                                                 "Expand",
                                                 "Flatten",
                                                 "GRU",
                                                 "Gather",
                                                 "Gemm",
                                                 "HardSigmoid",
                                                 "Identity",
                                                 "LSTM",
                                                 "LeakyRelu",
                                                 "Log",
                                                 "MatMul",
                                                 "Mul",
                                                 "Neg",
                                                 "PRelu",
                                                 "Pow",
                                                 "RNN",
                                                 "Reciprocal",
                                                 "ReduceMean",
                                                 "ReduceSum",
                                                 "Relu",
                                                 "Reshape",
                                                 "ReverseSequence",
                                                 "Shape",
                                                 "Sigmoid",
                                                 "Slice",
                                                 "Softmax",
                                                 "Split",
                                                 "Sqrt",
                                                 "Squeeze",
                                                 "Sub",
                                                 "Sum",
                                                 "Tanh",
                                                 "Tile",
                                                 "Transpose",
                                                 "Unsqueeze",
                                                 "Where"};
  if (!node.domain().empty() && node.domain() != "ai.onnx" && node.domain() != "ai.onnx.ml")
    throw Unsupported("its domain is \"" + shown(node.domain()) + "\"");
  const std::string& op = node.op_type();
  const bool known = node.domain() == "ai.onnx.ml"
                         ? std::find(std::begin(of_ml), std::end(of_ml), op) != std::end(of_ml)
                         : std::find(std::begin(of_core), std::end(of_core), op) != std::end(of_core);
  if (known) return;
  if (op == "Loop" || op == "Scan")
    throw Unsupported(
        "it is a loop, as tf2onnx makes of SimpleRNN, Masking and Keras 3's GRU: of recurrent layers, LSTM, "
        "GRU "
        "and RNN nodes can be imported, which it makes of LSTM, and of GRU in Keras 2");
  if (op == "LayerNormalization" || op == "GroupNormalization" || op == "InstanceNormalization")
    throw Unsupported(
        "it divides values that a layer computes by their own deviation: train with BatchNormalization");
  throw Unsupported("there is no such operator here");
}

}  // namespace tonearm::onnx_import
