// What moves the elements of constants and rows, and what computes with shapes.

#include <algorithm>
#include <limits>
#include <numeric>

#include "import/onnx_node.h"

namespace tonearm::onnx_import {

using onnx::TensorProto;

/// Row-major strides.
std::vector<std::size_t> strides_of(const Shape& shape) {
  std::vector<std::size_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * static_cast<std::size_t>(shape[i]);
  return strides;
}

std::size_t checked_axis(std::int64_t axis, std::size_t rank) {
  const auto dimensions = static_cast<std::int64_t>(rank);
  if (axis < -dimensions || axis >= dimensions)
    throw Unsupported("axis " + std::to_string(axis) + " is beyond the " + std::to_string(rank) +
                      " dimensions of its input");
  return static_cast<std::size_t>(axis < 0 ? axis + dimensions : axis);
}

namespace {

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

/// How many elements there are before dimension `axis`.
std::size_t before(const Shape& shape, std::size_t axis) {
  return elements_of(Shape(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis)));
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

}  // namespace

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

Value Node::apply(std::size_t i, const Move& move, std::size_t batch) const {
  if (is_constant(i)) {
    const Tensor& of = constant(i);
    Tensor tensor;
    tensor.type = of.type;
    tensor.shape = move.shape;
    for (const std::size_t from : move.from) {
      if (of.is_text())
        tensor.strings.push_back(of.strings[from]);
      else
        tensor.numbers.push_back(of.numbers[from]);
      tensor.holds_batch = tensor.holds_batch || (!of.is_text() && of.is_rows(of.numbers[from]));
    }
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
  if (before(values.shape, values.batch) != before(shape, batch)) throw Unsupported("it mixes the rows");
  values.shape = std::move(shape);
  values.batch = batch;
  return made(std::move(values));
}

Value Node::reshape() {
  const Shape& from = shape_of(0);
  Shape wanted;
  const bool of_row = !is_constant(0);
  bool rows_known = false;  // which dimension the rows become
  std::size_t batch = 0;
  if (opset_ >= 5 || has(1)) {
    const Tensor& tensor = constant(1);
    if (tensor.is_text()) throw Unsupported("its shape is of strings");
    for (const double value : tensor.numbers) {
      if (tensor.is_rows(value)) {
        rows_known = true;
        batch = wanted.size();
      }
      wanted.push_back(tensor.is_rows(value) ? 1 : whole(value));
    }
  } else {
    wanted = attributes_.integers("shape");
  }
  if (wanted.size() > 16) throw Unsupported("its shape has " + std::to_string(wanted.size()) + " dimensions");
  const bool copies_zero = attributes_.integer("allowzero", 0) == 0;
  std::size_t inferred = wanted.size();
  std::int64_t known = 1;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == 0 && copies_zero) {
      if (i >= from.size()) throw Unsupported("its shape copies a dimension that is not there");
      if (of_row && row(0).batch == i) {
        rows_known = true;
        batch = i;
      }
      wanted[i] = from[i];
    }
    if (wanted[i] == -1) {
      if (inferred < wanted.size()) throw Unsupported("its shape has two -1");
      inferred = i;
    } else {
      if (wanted[i] < 0 || (wanted[i] > 0 && known > (std::int64_t{1} << 40) / wanted[i]))
        throw Unsupported("its shape is " + shape_text(wanted));
      known *= wanted[i];
    }
  }
  const auto size = static_cast<std::int64_t>(elements_of(from));
  if (of_row && !rows_known) {
    if (inferred < wanted.size() && known == size) {
      batch = inferred;  // -1 rows of all that there is
    } else if (inferred == wanted.size()) {
      // Exported for one row, which is where as much is before it as there was.
      while (batch < wanted.size() &&
             (wanted[batch] != 1 || before(wanted, batch) != before(from, row(0).batch)))
        ++batch;
    }
    // With a first -1, the rows are what is left over: others may join them.
    if (batch == wanted.size() || (inferred < wanted.size() && batch != inferred))
      throw Unsupported("its shape " + shape_text(wanted) + " mixes the rows of " + std::to_string(size) +
                        " values");
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
  const Shape& shape = shape_of(0);
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto bound = [&](std::int64_t value) {
    return static_cast<std::size_t>(std::clamp<std::int64_t>(value < 0 ? value + rank : value, 0, rank));
  };
  Tensor tensor;
  tensor.type = TensorProto::INT64;
  const std::size_t end = bound(attributes_.integer("end", rank));
  for (std::size_t i = bound(attributes_.integer("start", 0)); i < end; ++i) {
    const bool is_batch = !is_constant(0) && row(0).batch == i;
    if (is_batch && row(0).is_joined()) throw Unsupported("it counts rows that are joined with other values");
    tensor.holds_batch = tensor.holds_batch || is_batch;
    tensor.numbers.push_back(is_batch ? Tensor::rows : static_cast<double>(shape[i]));
  }
  tensor.shape = {static_cast<std::int64_t>(tensor.numbers.size())};
  return made(std::move(tensor));
}

Shape Node::dimensions(std::size_t i) const {
  const Tensor& tensor = constant(i);
  if (tensor.is_text() || tensor.size() > 16) throw Unsupported("its shape is not one of numbers");
  Shape shape;
  for (const double value : tensor.numbers) shape.push_back(tensor.is_rows(value) ? 1 : whole(value));
  return shape;
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
  tensor.shape = dimensions(0);
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

/// The steps from the last to the first, where all of them are there.
Value Node::reverse_sequence() {
  const Row& values = row(0);
  const std::size_t rank = values.shape.size();
  const std::size_t time = checked_axis(attributes_.integer("time_axis", 0), rank);
  const std::size_t batch = checked_axis(attributes_.integer("batch_axis", 1), rank);
  if (batch != values.batch || time == batch) throw Unsupported("it reverses the rows");
  for (const double length : numbers(1).numbers)
    if (length != static_cast<double>(values.shape[time]))
      throw Unsupported("it reverses " + number_text(length) + " of " + std::to_string(values.shape[time]) +
                        " steps");
  std::vector<std::int64_t> indices(static_cast<std::size_t>(values.shape[time]));
  std::iota(indices.rbegin(), indices.rend(), 0);
  return apply(0, gathered(values.shape, time, indices, {values.shape[time]}, budget_), values.batch);
}

Value Node::expand() {
  const Shape& from = shape_of(0);
  const Broadcast both = broadcast(from, dimensions(1), budget_);
  const std::size_t added = both.shape.size() - from.size();
  const std::size_t batch = is_constant(0) ? 0 : row(0).batch + added;
  if (!is_constant(0) && both.shape[batch] != from[batch - added]) throw Unsupported("it repeats the rows");
  return apply(0, {both.shape, both.left}, batch);
}

Value Node::tile() {
  const Shape &from = shape_of(0), repeats = dimensions(1);
  if (repeats.size() != from.size()) throw Unsupported("it has not one number for each dimension");
  Shape shape = from;
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (repeats[i] < 0 || repeats[i] > (std::int64_t{1} << 32)) throw Unsupported("it repeats by no count");
    if (!is_constant(0) && row(0).batch == i && repeats[i] != 1) throw Unsupported("it repeats the rows");
    shape[i] *= repeats[i];
  }
  const Move move = moved(from, shape, budget_, [&](const Shape& position, Shape& at) {
    for (std::size_t i = 0; i < from.size(); ++i) at[i] = position[i] % from[i];
  });
  return apply(0, move, is_constant(0) ? 0 : row(0).batch);
}

/// Of constants. The number of rows, whatever it is, is above 0.
Value Node::equal() {
  const Tensor &left = constant(0), &right = constant(1);
  if (left.is_text() || right.is_text()) throw Unsupported("it compares strings");
  const Broadcast both = broadcast(left.shape, right.shape, budget_);
  Tensor tensor;
  tensor.type = TensorProto::BOOL;
  tensor.shape = both.shape;
  for (std::size_t i = 0; i < both.left.size(); ++i) {
    const double a = left.numbers[both.left[i]], b = right.numbers[both.right[i]];
    const bool of_rows = left.is_rows(a) != right.is_rows(b);
    if (of_rows && (left.is_rows(a) ? b : a) > 0) throw Unsupported("it computes from the number of rows");
    tensor.numbers.push_back(!of_rows && a == b ? 1 : 0);
  }
  return made(std::move(tensor));
}

/// Of constants.
Value Node::where() {
  const Tensor &condition = numbers(0), &left = constant(1), &right = constant(2);
  if (left.is_text() || right.is_text()) throw Unsupported("it chooses among strings");
  const Broadcast sides = broadcast(left.shape, right.shape, budget_);
  const Broadcast both = broadcast(condition.shape, sides.shape, budget_);
  Tensor tensor;
  tensor.type = left.type;
  tensor.shape = both.shape;
  for (std::size_t i = 0; i < both.left.size(); ++i) {
    const bool first = condition.numbers[both.left[i]] != 0;
    const Tensor& of = first ? left : right;
    tensor.numbers.push_back(of.numbers[(first ? sides.left : sides.right)[both.right[i]]]);
    tensor.holds_batch = tensor.holds_batch || of.is_rows(tensor.numbers.back());
  }
  return made(std::move(tensor));
}

}  // namespace tonearm::onnx_import
