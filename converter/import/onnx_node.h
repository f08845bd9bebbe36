#pragma once

// One node of a graph, as onnx_nodes.cpp and onnx_shapes.cpp evaluate it.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "import/onnx_nodes.h"

namespace tonearm::onnx_import {

using TensorPtr = std::shared_ptr<const Tensor>;
using RowPtr = std::shared_ptr<const Row>;

// --- Moving elements ----------------------------------------------------------------------------------

/// Where each element of a new array comes from.
struct Move {
  Shape shape;
  std::vector<std::size_t> from;
};

/// Row-major strides.
std::vector<std::size_t> strides_of(const Shape& shape);

/// An axis of so many dimensions, counted from the first; throws Unsupported beyond them.
std::size_t checked_axis(std::int64_t axis, std::size_t rank);

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

/// Where the elements of two arrays go that are broadcast to one shape.
struct Broadcast {
  Shape shape;
  std::vector<std::size_t> left, right;
};

Broadcast broadcast(const Shape& left, const Shape& right, std::size_t budget);

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
    if (values.type == onnx::TensorProto::STRING)
      throw Unsupported("it computes with strings, which only label and one-hot encoders can read");
    return values;
  }
  /// A row whose values lie in one dimension after the batch.
  const Row& matrix(std::size_t i) const {
    const Row& values = row_of_numbers(i);
    if (values.batch != 0 || values.shape.size() > 2 || values.is_joined())
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
  /// Of zeros for a state, mostly: a number of rows counts as 1.
  Shape dimensions(std::size_t i) const;
  Value expand();
  Value tile();
  Value equal();
  Value where();
  Value reverse_sequence();

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
  Value constant_matmul();
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

}  // namespace tonearm::onnx_import
