#pragma once

// Reading an ONNX graph: attributes, constant tensors and their shapes. Whatever a file announces, nothing
// is made that is much larger than the file.

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tonearm::onnx_import {

/// Why a node cannot be imported. All of a graph's are listed in one Error.
class Unsupported : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A name out of a file, fit for a message: shortened, without control characters.
std::string shown(std::string_view name);

/// A number in a message, without superfluous zeros.
std::string number_text(double value);

/// An array: a constant's, or a row's, whose batch dimension counts as 1.
using Shape = std::vector<std::int64_t>;
std::string shape_text(const Shape& shape);
/// The product; throws Unsupported for negative dimensions and for more than 2^40 elements.
std::size_t elements_of(const Shape& shape);

struct Tensor {
  onnx::TensorProto::DataType type = onnx::TensorProto::FLOAT;
  Shape shape;
  std::vector<double> numbers;
  std::vector<std::string> strings;
  /// A shape that has `rows` in place of the number of rows, from which nothing may be computed.
  bool holds_batch = false;
  static constexpr double rows = -0x1p40;
  bool is_rows(double value) const { return holds_batch && value == rows; }

  bool is_text() const { return type == onnx::TensorProto::STRING; }
  bool is_whole() const;
  std::size_t size() const { return is_text() ? strings.size() : numbers.size(); }
};

/// Throws Unsupported where the data are elsewhere, of another length than announced, or of a type that no
/// number of ours can hold.
Tensor read_tensor(const onnx::TensorProto& proto);

/// As the type stores it: float32 for FLOAT, whole for integers.
double rounded_to(onnx::TensorProto::DataType type, double value);

/// A whole number from a constant; numbers beyond int64, as in "to the end", become its limits.
std::int64_t whole(double value);

/// A node's attributes. Each reader throws Unsupported where the attribute has another type.
class Attributes {
 public:
  explicit Attributes(const onnx::NodeProto& node) : node_(node) {}

  const onnx::AttributeProto* find(std::string_view name) const;
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const;
  double number(std::string_view name, double otherwise) const;
  std::string text(std::string_view name, std::string_view otherwise) const;
  std::vector<std::int64_t> integers(std::string_view name) const;
  std::vector<double> numbers(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;
  /// `name` as floats, or `name`_as_tensor.
  std::vector<double> numbers_or_tensor(std::string_view name) const;
  Tensor tensor(std::string_view name) const;

 private:
  const onnx::AttributeProto* find(std::string_view name, onnx::AttributeProto::AttributeType type) const;

  const onnx::NodeProto& node_;
};

}  // namespace tonearm::onnx_import
