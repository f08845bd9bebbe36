#include "import/onnx_graph.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace tonearm::onnx_import {
namespace {

using onnx::AttributeProto;
using onnx::TensorProto;

double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const double fraction = bits & 1023;
  double value = exponent == 31  ? fraction == 0 ? std::numeric_limits<double>::infinity()
                                                 : std::numeric_limits<double>::quiet_NaN()
                  : exponent == 0 ? std::ldexp(fraction, -24)
                                 : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 != 0 ? -value : value;
}

double bfloat_value(std::uint16_t bits) {
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}

/// Little-endian values of type T, as doubles.
template <typename T, typename Convert>
void read_raw(const std::string& raw, std::size_t count, std::vector<double>& numbers, Convert convert) {
  if (raw.size() != count * sizeof(T))
    throw Unsupported("a tensor has " + std::to_string(raw.size()) + " bytes of data, and its shape needs " +
                      std::to_string(count * sizeof(T)));
  numbers.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, raw.data() + i * sizeof(T), sizeof(T));
    numbers.push_back(convert(value));
  }
}

template <typename Values, typename Convert>
void read_values(const Values& values, std::size_t count, std::vector<double>& numbers, Convert convert) {
  if (static_cast<std::size_t>(values.size()) != count)
    throw Unsupported("a tensor has " + std::to_string(values.size()) + " values, and its shape needs " +
                      std::to_string(count));
  numbers.reserve(count);
  for (const auto value : values) numbers.push_back(convert(value));
}

template <typename T, typename Values>
void read_numbers(const TensorProto& proto, const Values& values, std::size_t count, Tensor& tensor) {
  const auto plain = [](auto value) { return static_cast<double>(value); };
  if (proto.has_raw_data())
    read_raw<T>(proto.raw_data(), count, tensor.numbers, plain);
  else
    read_values(values, count, tensor.numbers, plain);
}

template <typename Convert>
void read_short_floats(const TensorProto& proto, std::size_t count, Tensor& tensor, Convert convert) {
  if (proto.has_raw_data())
    read_raw<std::uint16_t>(proto.raw_data(), count, tensor.numbers, convert);
  else
    read_values(proto.int32_data(), count, tensor.numbers,
                [&](std::int32_t bits) { return convert(static_cast<std::uint16_t>(bits)); });
}

}  // namespace

std::string shown(std::string_view name) {
  constexpr std::size_t longest = 80;
  std::string text(name.substr(0, longest));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) >= 127) c = '?';
  return name.size() > longest ? text + "..." : text;
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t dimension : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
  return text + "]";
}

std::size_t elements_of(const Shape& shape) {
  std::uint64_t product = 1;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) throw Unsupported("the shape " + shape_text(shape) + " has a negative dimension");
    if (dimension > 0 && product > (std::uint64_t{1} << 40) / static_cast<std::uint64_t>(dimension))
      throw Unsupported("the shape " + shape_text(shape) + " is too large");
    product *= static_cast<std::uint64_t>(dimension);
  }
  return product;
}

bool Tensor::is_whole() const {
  switch (type) {
    case TensorProto::INT8:
    case TensorProto::INT16:
    case TensorProto::INT32:
    case TensorProto::INT64:
    case TensorProto::UINT8:
    case TensorProto::UINT16:
    case TensorProto::UINT32:
    case TensorProto::UINT64:
    case TensorProto::BOOL:
      return true;
    default:
      return false;
  }
}

Tensor read_tensor(const TensorProto& proto) {
  if (proto.data_location() == TensorProto::EXTERNAL || proto.external_data_size() > 0)
    throw Unsupported("the data of tensor \"" + shown(proto.name()) +
                      "\" are in another file: save the model with its weights inside");
  if (proto.has_segment()) throw Unsupported("the tensor \"" + shown(proto.name()) + "\" is in segments");
  Tensor tensor;
  tensor.type = static_cast<TensorProto::DataType>(proto.data_type());
  tensor.shape.assign(proto.dims().begin(), proto.dims().end());
  const std::size_t count = elements_of(tensor.shape);
  switch (tensor.type) {
    case TensorProto::FLOAT:
      read_numbers<float>(proto, proto.float_data(), count, tensor);
      break;
    case TensorProto::DOUBLE:
      read_numbers<double>(proto, proto.double_data(), count, tensor);
      break;
    case TensorProto::INT8:
      read_numbers<std::int8_t>(proto, proto.int32_data(), count, tensor);
      break;
    case TensorProto::INT16:
      read_numbers<std::int16_t>(proto, proto.int32_data(), count, tensor);
      break;
    case TensorProto::INT32:
      read_numbers<std::int32_t>(proto, proto.int32_data(), count, tensor);
      break;
    case TensorProto::INT64:
      read_numbers<std::int64_t>(proto, proto.int64_data(), count, tensor);
      break;
    case TensorProto::BOOL:
    case TensorProto::UINT8:
      read_numbers<std::uint8_t>(proto, proto.int32_data(), count, tensor);
      break;
    case TensorProto::UINT16:
      read_numbers<std::uint16_t>(proto, proto.int32_data(), count, tensor);
      break;
    case TensorProto::UINT32:
      read_numbers<std::uint32_t>(proto, proto.uint64_data(), count, tensor);
      break;
    case TensorProto::UINT64:
      read_numbers<std::uint64_t>(proto, proto.uint64_data(), count, tensor);
      break;
    case TensorProto::FLOAT16:
      read_short_floats(proto, count, tensor, half_value);
      break;
    case TensorProto::BFLOAT16:
      read_short_floats(proto, count, tensor, bfloat_value);
      break;
    case TensorProto::STRING:
      if (static_cast<std::size_t>(proto.string_data_size()) != count)
        throw Unsupported("a tensor has " + std::to_string(proto.string_data_size()) +
                          " strings, and its shape needs " + std::to_string(count));
      tensor.strings.assign(proto.string_data().begin(), proto.string_data().end());
      break;
    default:
      throw Unsupported("the tensor \"" + shown(proto.name()) + "\" has the data type " +
                        std::to_string(proto.data_type()) + ", which is not supported");
  }
  return tensor;
}

double rounded_to(TensorProto::DataType type, double value) {
  Tensor tensor;
  tensor.type = type;
  if (type == TensorProto::BOOL) return value != 0 ? 1 : 0;
  if (tensor.is_whole()) return std::trunc(value);
  return type == TensorProto::DOUBLE ? value : static_cast<double>(static_cast<float>(value));
}

std::int64_t whole(double value) {
  if (std::isnan(value)) return 0;
  if (value >= 0x1p63) return std::numeric_limits<std::int64_t>::max();
  if (value < -0x1p63) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(value);
}

const AttributeProto* Attributes::find(std::string_view name) const {
  for (const AttributeProto& attribute : node_.attribute())
    if (attribute.name() == name) return &attribute;
  return nullptr;
}

const AttributeProto* Attributes::find(std::string_view name, AttributeProto::AttributeType type) const {
  const AttributeProto* attribute = find(name);
  if (attribute == nullptr) return nullptr;
  if (!attribute->ref_attr_name().empty())
    throw Unsupported(std::string(name) + " is an argument of a function");
  if (attribute->type() != type)
    throw Unsupported(std::string(name) + " is not of type " + AttributeProto::AttributeType_Name(type));
  return attribute;
}

std::int64_t Attributes::integer(std::string_view name, std::int64_t otherwise) const {
  const AttributeProto* attribute = find(name, AttributeProto::INT);
  return attribute == nullptr ? otherwise : attribute->i();
}

double Attributes::number(std::string_view name, double otherwise) const {
  const AttributeProto* attribute = find(name, AttributeProto::FLOAT);
  return attribute == nullptr ? otherwise : static_cast<double>(attribute->f());
}

std::string Attributes::text(std::string_view name, std::string_view otherwise) const {
  const AttributeProto* attribute = find(name, AttributeProto::STRING);
  return attribute == nullptr ? std::string(otherwise) : attribute->s();
}

std::vector<std::int64_t> Attributes::integers(std::string_view name) const {
  const AttributeProto* attribute = find(name, AttributeProto::INTS);
  if (attribute == nullptr) return {};
  return {attribute->ints().begin(), attribute->ints().end()};
}

std::vector<double> Attributes::numbers(std::string_view name) const {
  const AttributeProto* attribute = find(name, AttributeProto::FLOATS);
  if (attribute == nullptr) return {};
  return {attribute->floats().begin(), attribute->floats().end()};
}

std::vector<std::string> Attributes::texts(std::string_view name) const {
  const AttributeProto* attribute = find(name, AttributeProto::STRINGS);
  if (attribute == nullptr) return {};
  return {attribute->strings().begin(), attribute->strings().end()};
}

std::vector<double> Attributes::numbers_or_tensor(std::string_view name) const {
  const std::string as_tensor = std::string(name) + "_as_tensor";
  if (find(as_tensor) == nullptr) return numbers(name);
  return tensor(as_tensor).numbers;
}

Tensor Attributes::tensor(std::string_view name) const {
  const AttributeProto* attribute = find(name, AttributeProto::TENSOR);
  if (attribute == nullptr) throw Unsupported(std::string(name) + " is missing");
  return read_tensor(attribute->t());
}

}  // namespace tonearm::onnx_import
