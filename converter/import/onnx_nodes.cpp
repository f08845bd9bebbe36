#include "import/onnx_nodes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

namespace tonearm::onnx_import {
namespace {

using onnx::TensorProto;
using TensorPtr = std::shared_ptr<const Tensor>;
using RowPtr = std::shared_ptr<const Row>;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

// --- Moving elements ----------------------------------------------------------------------------------

/// Where each element of a new array comes from.
struct Move {
  Shape shape;
  std::vector<std::size_t> from;
};

/// Row-major strides.
std::vector<std::size_t> strides_of(const Shape& shape) {
  std::vector<std::size_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * static_cast<std::size_t>(shape[i]);
  return strides;
}

/// Calls visit(position) for every position of `shape` in row-major order.
template <typename Visit>
void for_each_position(const Shape& shape, const Visit& visit) {
  Shape position(shape.size(), 0);
  for (std::size_t left = elements_of(shape); left > 0; --left) {
    visit(position);
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (++position[i] < shape[i]) break;
      position[i] = 0;
    }
  }
}

/// The elements of `from` at the position that `source` gives for each position of `shape`.
template <typename Source>
Move moved(const Shape& from, Shape shape, std::size_t budget, const Source& source) {
  const std::size_t count = elements_of(shape);
  if (count > budget) throw Unsupported("it would make " + std::to_string(count) + " values");
  const std::vector<std::size_t> strides = strides_of(from);
  Move move{shape, {}};
  move.from.reserve(count);
  Shape at(from.size());
  for_each_position(shape, [&](const Shape& position) {
    source(position, at);
    std::size_t index = 0;
    for (std::size_t i = 0; i < at.size(); ++i) index += strides[i] * static_cast<std::size_t>(at[i]);
    move.from.push_back(index);
  });
  return move;
}

std::size_t checked_axis(std::int64_t axis, std::size_t rank) {
  const auto dimensions = static_cast<std::int64_t>(rank);
  if (axis < -dimensions || axis >= dimensions)
    throw Unsupported("axis " + std::to_string(axis) + " is beyond the " + std::to_string(rank) +
                      " dimensions of its input");
  return static_cast<std::size_t>(axis < 0 ? axis + dimensions : axis);
}

/// The elements of `of` that are at `indices` of `axis`; the axis becomes `index_shape`.
Move gathered(const Shape& of, std::size_t axis, const std::vector<std::int64_t>& indices,
              const Shape& index_shape, std::size_t budget) {
  Shape shape(of.begin(), of.begin() + static_cast<std::ptrdiff_t>(axis));
  shape.insert(shape.end(), index_shape.begin(), index_shape.end());
  shape.insert(shape.end(), of.begin() + static_cast<std::ptrdiff_t>(axis) + 1, of.end());
  const std::vector<std::size_t> index_strides = strides_of(index_shape);
  return moved(of, shape, budget, [&](const Shape& position, Shape& at) {
    std::size_t index = 0;
    for (std::size_t i = 0; i < axis; ++i) at[i] = position[i];
    for (std::size_t i = 0; i < index_shape.size(); ++i)
      index += index_strides[i] * static_cast<std::size_t>(position[axis + i]);
    at[axis] = indices[index];
    for (std::size_t i = axis + 1; i < of.size(); ++i) at[i] = position[i + index_shape.size() - 1];
  });
}

// --- One node -------------------------------------------------------------------------------------------

class Node {
 public:
  Node(const onnx::NodeProto& node, const std::vector<Value>& inputs, std::int64_t opset, Program& program,
       std::size_t budget)
      : node_(node),
        attributes_(node),
        inputs_(inputs),
        opset_(opset == 0 ? 1000 : opset),
        program_(program),
        budget_(budget) {}

  std::vector<Value> evaluate();

 private:
  bool has(std::size_t i) const { return i < inputs_.size() && inputs_[i].index() != 0; }
  const Value& input(std::size_t i) const {
    if (!has(i)) throw Unsupported("input " + std::to_string(i) + " is missing");
    return inputs_[i];
  }
  bool is_constant(std::size_t i) const { return has(i) && std::holds_alternative<TensorPtr>(inputs_[i]); }
  const Tensor& constant(std::size_t i) const {
    if (!std::holds_alternative<TensorPtr>(input(i)))
      throw Unsupported("input " + std::to_string(i) + " is not a constant");
    return *std::get<TensorPtr>(inputs_[i]);
  }
  /// A constant to compute with.
  const Tensor& numbers(std::size_t i) const {
    const Tensor& tensor = constant(i);
    if (tensor.is_text()) throw Unsupported("input " + std::to_string(i) + " is of strings");
    if (tensor.holds_batch) throw Unsupported("it computes from the number of rows");
    return tensor;
  }
  const Row& row(std::size_t i) const {
    if (!std::holds_alternative<RowPtr>(input(i)))
      throw Unsupported("input " + std::to_string(i) + " is a constant, where a row of values is expected");
    return *std::get<RowPtr>(inputs_[i]);
  }
  const Row& row_of_numbers(std::size_t i) const {
    const Row& values = row(i);
    if (values.type == TensorProto::STRING)
      throw Unsupported("it computes with strings, which only label and one-hot encoders can read");
    return values;
  }
  /// A row whose values lie in one dimension after the batch.
  const Row& matrix(std::size_t i) const {
    const Row& values = row_of_numbers(i);
    if (values.batch != 0 || values.shape.size() > 2)
      throw Unsupported("its input has the shape " + shape_text(values.shape) +
                        " (1 for the rows), and [rows, values] is expected");
    return values;
  }
  static Value made(Tensor tensor) { return std::make_shared<const Tensor>(std::move(tensor)); }
  static Value made(Row values) { return std::make_shared<const Row>(std::move(values)); }
  static Value matrix_of(std::vector<Scalar> elements, bool of_classes = false) {
    Row values;
    values.shape = {1, static_cast<std::int64_t>(elements.size())};
    values.elements = std::move(elements);
    values.of_classes = of_classes;
    return made(std::move(values));
  }
  const Shape& shape_of(std::size_t i) const {
    return std::holds_alternative<TensorPtr>(input(i)) ? constant(i).shape : row(i).shape;
  }
  void not_the_batch(std::size_t i, std::size_t axis) const {
    if (!is_constant(i) && row(i).batch == axis)
      throw Unsupported("it takes rows apart or puts them together");
  }
  /// Where the attribute was moved to an input in later opsets.
  std::vector<std::int64_t> integers(std::string_view name, std::size_t i) const {
    if (attributes_.find(name) != nullptr) return attributes_.integers(name);
    if (!has(i)) return {};
    std::vector<std::int64_t> values;
    for (const double value : numbers(i).numbers) values.push_back(whole(value));
    return values;
  }

  /// Input i with its elements moved; the batch of a row goes to `batch`.
  Value apply(std::size_t i, const Move& move, std::size_t batch) const;
  Value with_shape(std::size_t i, Shape shape, std::size_t batch) const;

  Value reshape();
  Value flatten();
  Value squeeze();
  Value unsqueeze();
  Value transpose();
  Value concat(std::size_t axis);
  Value gather();
  Value extract();
  Value slice();
  std::vector<Value> split();
  Value shape();
  Value cast();
  Value constant_of_shape();

  /// Adds, subtracts, ...: name is the operator's.
  Value arithmetic(const std::string& name, const Value& left, const Value& right);
  Value constant_arithmetic(const std::string& name, const Tensor& left, const Tensor& right);
  Value unary(const std::string& name);
  Value activation(schema::Activation activation);
  Value softmax();
  Value clip(double low, double high, const Row& values);
  Value leaky(std::vector<double> slopes);
  Value gemm();
  Value matmul();
  Value normalization();
  Value reduce(bool mean);

  Value scaler();
  Value normalizer();
  Value imputer();
  Value binarizer();
  Value label_encoder();
  Value one_hot_encoder();
  Value linear_regressor();
  std::vector<Value> linear_classifier();
  Value svm_regressor();
  std::vector<Value> svm_classifier();
  Value tree_regressor();
  std::vector<Value> tree_classifier();
  Value tree_ensemble();

  Scalar complement(Scalar x) { return program_.scale(x, 1, -1, true); }
  std::vector<Scalar> post_transformed(std::vector<Scalar> scores, const std::string& transform);
  std::vector<Scalar> tree_scores(const Row& values, ParsedTrees trees, const std::string& transform);
  std::size_t classes() const;
  /// Row-major weights, one row for each output: as the operators that hold their own have them.
  std::vector<Scalar> linear(const Row& values, std::vector<double> weights, std::vector<double> bias);
  void set_base(ParsedTrees& trees, const std::vector<double>& base) const;

  const onnx::NodeProto& node_;
  Attributes attributes_;
  const std::vector<Value>& inputs_;
  std::int64_t opset_;
  Program& program_;
  std::size_t budget_;
};

// --- Shapes ---------------------------------------------------------------------------------------------

Value Node::apply(std::size_t i, const Move& move, std::size_t batch) const {
  if (is_constant(i)) {
    const Tensor& of = constant(i);
    Tensor tensor;
    tensor.type = of.type;
    tensor.holds_batch = of.holds_batch;
    tensor.shape = move.shape;
    for (const std::size_t from : move.from)
      if (of.is_text())
        tensor.strings.push_back(of.strings[from]);
      else
        tensor.numbers.push_back(of.numbers[from]);
    return made(std::move(tensor));
  }
  const Row& of = row(i);
  Row values;
  values.type = of.type;
  values.of_classes = of.of_classes;
  values.shape = move.shape;
  values.batch = batch;
  for (const std::size_t from : move.from) values.elements.push_back(of.elements[from]);
  return made(std::move(values));
}

Value Node::with_shape(std::size_t i, Shape shape, std::size_t batch) const {
  if (is_constant(i)) {
    Tensor tensor = constant(i);
    tensor.shape = std::move(shape);
    return made(std::move(tensor));
  }
  Row values = row(i);
  for (std::size_t axis = 0; axis < batch; ++axis)
    if (shape[axis] != 1) throw Unsupported("it mixes the rows");
  values.shape = std::move(shape);
  values.batch = batch;
  return made(std::move(values));
}

Value Node::reshape() {
  const Shape& from = shape_of(0);
  Shape wanted;
  bool rows_named = false;  // a -1 that stands for the rows, because it came from a Shape
  std::size_t batch = 0;
  if (opset_ >= 5 || has(1)) {
    const Tensor& tensor = constant(1);
    if (tensor.is_text()) throw Unsupported("its shape is of strings");
    for (const double value : tensor.numbers) {
      if (tensor.holds_batch && value == -1) {
        rows_named = true;
        batch = wanted.size();
      }
      wanted.push_back(whole(value));
    }
  } else {
    wanted = attributes_.integers("shape");
  }
  if (wanted.size() > 16) throw Unsupported("its shape has " + std::to_string(wanted.size()) + " dimensions");
  const bool copies_zero = attributes_.integer("allowzero", 0) == 0;
  const bool of_row = !is_constant(0);
  std::size_t inferred = wanted.size();
  std::int64_t known = 1;
  bool rows_copied = false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == 0 && copies_zero) {
      if (i >= from.size()) throw Unsupported("its shape copies a dimension that is not there");
      if (of_row && row(0).batch == i) {
        rows_copied = true;
        batch = i;
      }
      wanted[i] = from[i];
    }
    if (wanted[i] == -1) {
      if (inferred < wanted.size() && !(rows_named && batch == inferred))
        throw Unsupported("its shape has two -1");
      inferred = i;
    } else {
      if (wanted[i] < 0 || wanted[i] > (std::int64_t{1} << 32) || known * wanted[i] > (std::int64_t{1} << 40))
        throw Unsupported("its shape is " + shape_text(wanted));
      known *= wanted[i];
    }
  }
  const auto size = static_cast<std::int64_t>(elements_of(from));
  if (of_row) {
    if (rows_named) {
      wanted[batch] = 1;
      if (inferred == batch) inferred = wanted.size();
    } else if (!rows_copied && inferred < wanted.size() && known == size) {
      batch = inferred;  // -1 rows of all that there is
    } else if (!rows_copied && !(inferred == wanted.size() && !wanted.empty() && wanted[0] == 1)) {
      throw Unsupported("its shape " + shape_text(wanted) + " mixes the rows of " + std::to_string(size) +
                        " values");
    }
  }
  if (inferred < wanted.size()) {
    if (known == 0 || size % known != 0)
      throw Unsupported("its shape " + shape_text(wanted) + " does not fit " + std::to_string(size) +
                        " values");
    wanted[inferred] = size / known;
  }
  if (static_cast<std::int64_t>(elements_of(wanted)) != size)
    throw Unsupported("its shape " + shape_text(wanted) + " does not fit " + std::to_string(size) +
                      " values");
  return with_shape(0, std::move(wanted), batch);
}

Value Node::flatten() {
  const Shape& from = shape_of(0);
  std::int64_t axis = attributes_.integer("axis", 1);
  if (axis < 0) axis += static_cast<std::int64_t>(from.size());
  if (axis < 0 || axis > static_cast<std::int64_t>(from.size()))
    throw Unsupported("its axis is beyond its input");
  std::int64_t before = 1, after = 1;
  for (std::size_t i = 0; i < from.size(); ++i)
    (static_cast<std::int64_t>(i) < axis ? before : after) *= from[i];
  std::size_t batch = 0;
  if (!is_constant(0)) {
    if (before != 1) throw Unsupported("it mixes the rows");
    batch = static_cast<std::int64_t>(row(0).batch) < axis ? 0 : 1;
    if (batch == 1 && after != 1) throw Unsupported("it mixes the rows");
  }
  return with_shape(0, {before, after}, batch);
}

Value Node::squeeze() {
  const Shape& from = shape_of(0);
  const bool all = attributes_.find("axes") == nullptr && !has(1);
  std::vector<std::uint8_t> removed(from.size(), 0);
  for (const std::int64_t axis : integers("axes", 1)) removed[checked_axis(axis, from.size())] = 1;
  Shape shape;
  std::size_t batch = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const bool is_batch = !is_constant(0) && row(0).batch == i;
    if (is_batch) {
      if (removed[i] != 0) throw Unsupported("it takes the rows apart");
      batch = shape.size();
    } else if (removed[i] != 0 || (all && from[i] == 1)) {
      if (from[i] != 1) throw Unsupported("it drops a dimension of " + std::to_string(from[i]));
      continue;
    }
    shape.push_back(from[i]);
  }
  return with_shape(0, std::move(shape), batch);
}

Value Node::unsqueeze() {
  const Shape& from = shape_of(0);
  const auto axes = integers("axes", 1);
  const std::size_t rank = from.size() + axes.size();
  if (rank > 16) throw Unsupported("it makes " + std::to_string(rank) + " dimensions");
  std::vector<std::uint8_t> added(rank, 0);
  for (const std::int64_t axis : axes)
    if (added[checked_axis(axis, rank)]++ != 0) throw Unsupported("it adds a dimension twice");
  Shape shape;
  std::size_t batch = 0, next = 0;
  for (std::size_t i = 0; i < rank; ++i) {
    if (added[i] == 0 && !is_constant(0) && row(0).batch == next) batch = i;
    shape.push_back(added[i] != 0 ? 1 : from[next++]);
  }
  return with_shape(0, std::move(shape), batch);
}

Value Node::transpose() {
  const Shape& from = shape_of(0);
  std::vector<std::int64_t> order = attributes_.integers("perm");
  if (attributes_.find("perm") == nullptr)
    for (std::size_t i = from.size(); i-- > 0;) order.push_back(static_cast<std::int64_t>(i));
  if (order.size() != from.size()) throw Unsupported("perm has not one number for each dimension");
  std::vector<std::uint8_t> seen(from.size(), 0);
  Shape shape;
  std::size_t batch = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t axis = checked_axis(order[i], from.size());
    if (seen[axis]++ != 0) throw Unsupported("perm names a dimension twice");
    if (!is_constant(0) && row(0).batch == axis) batch = i;
    shape.push_back(from[axis]);
  }
  const Move move = moved(from, shape, budget_, [&](const Shape& position, Shape& at) {
    for (std::size_t i = 0; i < order.size(); ++i) at[checked_axis(order[i], from.size())] = position[i];
  });
  return apply(0, move, batch);
}

Value Node::concat(std::size_t axis) {
  if (inputs_.empty()) throw Unsupported("it has no inputs");
  const bool of_rows = !is_constant(0);
  Shape shape = shape_of(0);
  if (axis >= shape.size()) throw Unsupported("its axis is beyond its inputs");
  not_the_batch(0, axis);
  shape[axis] = 0;
  std::size_t blocks = 1;
  for (std::size_t i = 0; i < axis; ++i) blocks *= static_cast<std::size_t>(shape[i]);
  Tensor tensor;
  Row values;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (is_constant(i) == of_rows) throw Unsupported("it puts constants beside the values of a row");
    Shape rest = shape_of(i);
    if (rest.size() != shape.size()) throw Unsupported("its inputs have different dimensions");
    shape[axis] += rest[axis];
    rest[axis] = shape[axis];
    if (rest != shape || (of_rows && row(i).batch != row(0).batch))
      throw Unsupported("its inputs have different dimensions");
    if (of_rows) {
      if ((row(i).type == TensorProto::STRING) != (row(0).type == TensorProto::STRING))
        throw Unsupported("it puts strings beside numbers");
      values.of_classes = values.of_classes || row(i).of_classes;
    } else {
      if (constant(i).is_text() != constant(0).is_text()) throw Unsupported("it puts strings beside numbers");
      tensor.holds_batch = tensor.holds_batch || constant(i).holds_batch;
    }
  }
  if (elements_of(shape) > budget_) throw Unsupported("it would make too many values");
  for (std::size_t block = 0; block < blocks; ++block)
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::size_t size = elements_of(shape_of(i)) / blocks;
      for (std::size_t j = block * size; j < (block + 1) * size; ++j)
        if (of_rows)
          values.elements.push_back(row(i).elements[j]);
        else if (constant(i).is_text())
          tensor.strings.push_back(constant(i).strings[j]);
        else
          tensor.numbers.push_back(constant(i).numbers[j]);
    }
  if (of_rows) {
    values.shape = shape;
    values.batch = row(0).batch;
    values.type = row(0).type;
    return made(std::move(values));
  }
  tensor.shape = shape;
  tensor.type = constant(0).type;
  return made(std::move(tensor));
}

Value Node::gather() {
  const Shape& from = shape_of(0);
  const std::size_t axis = checked_axis(attributes_.integer("axis", 0), from.size());
  not_the_batch(0, axis);
  const Tensor& wanted = numbers(1);
  std::vector<std::int64_t> indices;
  for (const double value : wanted.numbers) {
    const std::int64_t index = whole(value);
    indices.push_back(static_cast<std::int64_t>(index < 0 ? index + from[axis] : index));
    if (indices.back() < 0 || indices.back() >= from[axis])
      throw Unsupported("it takes value " + std::to_string(index) + " of " + std::to_string(from[axis]));
  }
  const Move move = gathered(from, axis, indices, wanted.shape, budget_);
  std::size_t batch = 0;
  if (!is_constant(0)) {
    batch = row(0).batch;
    if (batch > axis) batch = batch + wanted.shape.size() - 1;
  }
  return apply(0, move, batch);
}

Value Node::extract() {
  const Shape& from = shape_of(0);
  if (from.empty()) throw Unsupported("its input has no dimension");
  if (!is_constant(0)) (void)row(0);
  not_the_batch(0, from.size() - 1);
  const Tensor& wanted = numbers(1);
  std::vector<std::int64_t> indices;
  for (const double value : wanted.numbers) {
    indices.push_back(whole(value));
    if (indices.back() < 0 || indices.back() >= from.back())
      throw Unsupported("it takes value " + std::to_string(indices.back()) + " of " +
                        std::to_string(from.back()));
  }
  const Move move =
      gathered(from, from.size() - 1, indices, {static_cast<std::int64_t>(indices.size())}, budget_);
  return apply(0, move, is_constant(0) ? 0 : row(0).batch);
}

Value Node::slice() {
  const Shape& from = shape_of(0);
  const auto starts = integers("starts", 1), ends = integers("ends", 2);
  auto axes = integers("axes", 3);
  auto steps = opset_ >= 10 ? integers("steps", 4) : std::vector<std::int64_t>();
  if (axes.empty())
    for (std::size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    throw Unsupported("starts, ends, axes and steps have different lengths");
  Shape first(from.size(), 0), step(from.size(), 1), shape = from;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t axis = checked_axis(axes[i], from.size());
    const std::int64_t size = from[axis];
    if (!is_constant(0) && row(0).batch == axis) {
      if (starts[i] != 0 || ends[i] < (std::int64_t{1} << 31) - 1 || steps[i] != 1)
        throw Unsupported("it takes some of the rows");
      continue;
    }
    if (steps[i] == 0) throw Unsupported("its step is 0");
    const bool up = steps[i] > 0;
    const auto bound = [&](std::int64_t value) {
      if (value < 0) value = value < -size ? -1 : value + size;
      return std::clamp<std::int64_t>(value, up ? 0 : -1, up ? size : size - 1);
    };
    const std::int64_t begin = starts[i] < -size ? (up ? 0 : -1) : bound(starts[i]);
    const std::int64_t end = ends[i] < -size ? (up ? 0 : -1) : bound(ends[i]);
    const std::int64_t distance = up ? end - begin : begin - end;
    const std::int64_t width = up ? steps[i]
                               : steps[i] == std::numeric_limits<std::int64_t>::min()
                                   ? std::numeric_limits<std::int64_t>::max()
                                   : -steps[i];
    first[axis] = begin;
    step[axis] = steps[i];
    shape[axis] = distance <= 0 ? 0 : 1 + (distance - 1) / width;
  }
  const Move move = moved(from, shape, budget_, [&](const Shape& position, Shape& at) {
    for (std::size_t i = 0; i < from.size(); ++i)
      at[i] = first[i] + (position[i] == 0 ? 0 : position[i] * step[i]);
  });
  return apply(0, move, is_constant(0) ? 0 : row(0).batch);
}

std::vector<Value> Node::split() {
  const Shape& from = shape_of(0);
  const std::size_t axis = checked_axis(attributes_.integer("axis", 0), from.size());
  not_the_batch(0, axis);
  auto sizes = integers("split", 1);
  const auto outputs = static_cast<std::int64_t>(node_.output_size());
  if (sizes.empty()) {
    const std::int64_t each = (from[axis] + outputs - 1) / outputs;
    for (std::int64_t i = 0; i < outputs; ++i)
      sizes.push_back(std::clamp<std::int64_t>(from[axis] - i * each, 0, each));
  }
  if (static_cast<std::int64_t>(sizes.size()) != outputs)
    throw Unsupported("split has not one size for each output");
  std::vector<Value> values;
  std::int64_t first = 0;
  for (const std::int64_t size : sizes) {
    if (size < 0 || size > from[axis] - first) throw Unsupported("split is beyond its input");
    std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
    std::iota(indices.begin(), indices.end(), first);
    values.push_back(
        apply(0, gathered(from, axis, indices, {size}, budget_), is_constant(0) ? 0 : row(0).batch));
    first += size;
  }
  if (first != from[axis]) throw Unsupported("split leaves out values");
  return values;
}

Value Node::shape() {
  Shape shape = shape_of(0);
  Tensor tensor;
  tensor.type = TensorProto::INT64;
  if (!is_constant(0)) {
    shape[row(0).batch] = -1;
    tensor.holds_batch = true;
  }
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto bound = [&](std::int64_t value) {
    return std::clamp<std::int64_t>(value < 0 ? value + rank : value, 0, rank);
  };
  const std::int64_t start = bound(attributes_.integer("start", 0)),
                     end = bound(attributes_.integer("end", rank));
  for (std::int64_t i = start; i < end; ++i)
    tensor.numbers.push_back(static_cast<double>(shape[static_cast<std::size_t>(i)]));
  tensor.shape = {static_cast<std::int64_t>(tensor.numbers.size())};
  return made(std::move(tensor));
}

Value Node::constant_of_shape() {
  Tensor tensor;
  double value = 0;
  if (attributes_.find("value") != nullptr) {
    const Tensor of = attributes_.tensor("value");
    if (of.numbers.size() != 1) throw Unsupported("its value is not one number");
    tensor.type = of.type;
    value = of.numbers[0];
  }
  for (const double dimension : numbers(0).numbers) tensor.shape.push_back(whole(dimension));
  const std::size_t count = elements_of(tensor.shape);
  if (count > budget_) throw Unsupported("it would make " + std::to_string(count) + " values");
  tensor.numbers.assign(count, value);
  return made(std::move(tensor));
}

Value Node::cast() {
  const auto to = static_cast<TensorProto::DataType>(attributes_.integer("to", 0));
  Tensor target;
  target.type = to;
  const bool to_float = to == TensorProto::FLOAT || to == TensorProto::DOUBLE;
  if (is_constant(0)) {
    Tensor tensor = constant(0);
    if (tensor.is_text() || !(to_float || target.is_whole()))
      throw Unsupported("it casts from or to strings");
    tensor.type = to;
    if (!tensor.holds_batch)
      for (double& number : tensor.numbers) number = rounded_to(to, number);
    return made(std::move(tensor));
  }
  Row values = row(0);
  if (values.type == TensorProto::STRING || to == TensorProto::STRING)
    throw Unsupported("it casts from or to strings");
  Tensor source;
  source.type = values.type;
  const bool is_whole = (source.is_whole() && to != TensorProto::BOOL) ||
                        std::all_of(values.elements.begin(), values.elements.end(),
                                    [&](Scalar element) { return program_.is_whole(element); });
  if (!to_float && !(target.is_whole() && is_whole && to != TensorProto::BOOL))
    throw Unsupported("it casts numbers with a fraction to " + (TensorProto::DataType_IsValid(to)
                                                                    ? TensorProto::DataType_Name(to)
                                                                    : std::string("?")));
  values.type = to;
  return made(std::move(values));
}

// --- Arithmetic -----------------------------------------------------------------------------------------

struct Broadcast {
  Shape shape;
  std::vector<std::size_t> left, right;
};

Broadcast broadcast(const Shape& left, const Shape& right, std::size_t budget) {
  Broadcast result;
  const std::size_t rank = std::max(left.size(), right.size());
  const auto dimension = [&](const Shape& shape, std::size_t i) {
    return i + shape.size() < rank ? 1 : shape[i + shape.size() - rank];
  };
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t a = dimension(left, i), b = dimension(right, i);
    if (a != b && a != 1 && b != 1)
      throw Unsupported("its inputs have the shapes " + shape_text(left) + " and " + shape_text(right));
    result.shape.push_back(a == 1 ? b : a);
  }
  const auto sources = [&](const Shape& of) {
    return moved(of, result.shape, budget,
                 [&](const Shape& position, Shape& at) {
                   for (std::size_t i = 0; i < of.size(); ++i)
                     at[i] = of[i] == 1 ? 0 : position[i + rank - of.size()];
                 })
        .from;
  };
  result.left = sources(left);
  result.right = sources(right);
  return result;
}

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
    if (a.shape.size() - a.batch != b.shape.size() - b.batch)
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
  if (both.shape[values.batch] != 1) throw Unsupported("its constant has values for several rows");
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

Value Node::matmul() {
  if (is_constant(0)) throw Unsupported("it multiplies a constant by the rows");
  const Row& values = row_of_numbers(0);
  const Tensor& by = numbers(1);
  const std::size_t width = values.elements.size();
  if (by.shape.empty() || by.shape.size() > 2 || values.batch == values.shape.size() - 1 ||
      static_cast<std::size_t>(values.shape.back()) != width ||
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
  result.elements = linear(values, std::move(weights), std::vector<double>(outputs, 0.0));
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
  for (std::size_t i = 0; i < values.elements.size(); ++i) {
    const std::size_t c = i / (values.elements.size() / channels);
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
    if (op == "ZipMap") {
      Row values = row_of_numbers(0);
      values.of_classes = true;
      return {made(std::move(values))};
    }
    throw Unsupported("there is no such operator here");
  }
  if (!node_.domain().empty() && node_.domain() != "ai.onnx")
    throw Unsupported("its domain is \"" + shown(node_.domain()) + "\"");

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
  if (op == "ReduceSum") return {reduce(false)};
  if (op == "ReduceMean") return {reduce(true)};
  throw Unsupported("there is no such operator here");
}

}  // namespace

std::vector<Value> evaluate_node(const onnx::NodeProto& node, const std::vector<Value>& inputs,
                                 std::int64_t opset, Program& program, std::size_t budget) {
  return Node(node, inputs, opset, program, budget).evaluate();
}

bool is_known_operator(const onnx::NodeProto& node) {
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
                                                 "Exp",
                                                 "Flatten",
                                                 "Gather",
                                                 "Gemm",
                                                 "HardSigmoid",
                                                 "Identity",
                                                 "LeakyRelu",
                                                 "Log",
                                                 "MatMul",
                                                 "Mul",
                                                 "Neg",
                                                 "PRelu",
                                                 "Pow",
                                                 "Reciprocal",
                                                 "ReduceMean",
                                                 "ReduceSum",
                                                 "Relu",
                                                 "Reshape",
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
                                                 "Transpose",
                                                 "Unsqueeze"};
  if (node.domain() == "ai.onnx.ml")
    return std::find(std::begin(of_ml), std::end(of_ml), node.op_type()) != std::end(of_ml);
  return (node.domain().empty() || node.domain() == "ai.onnx") &&
         std::find(std::begin(of_core), std::end(of_core), node.op_type()) != std::end(of_core);
}

}  // namespace tonearm::onnx_import
