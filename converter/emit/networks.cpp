#include "emit/networks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"
#include "emit/emit.h"

namespace tonearm {
namespace {

constexpr unsigned lanes = 16;

unsigned panels_of(unsigned units) { return (units + lanes - 1) / lanes; }
unsigned up_to(unsigned count, unsigned multiple) { return (count + multiple - 1) / multiple * multiple; }

/// The place of a gate's unit among the rows in the order of tiles.
std::size_t place_of(unsigned gates, unsigned gate, unsigned unit) {
  return (static_cast<std::size_t>(unit / lanes) * gates + gate) * lanes + unit % lanes;
}

/// Calls set(row, column, element) for every number of a matrix; `element` counts numbers in the blob's
/// order.
template <typename Set>
void for_each_weight(unsigned gates, unsigned units, unsigned columns, const Set& set) {
  const std::size_t tile = static_cast<std::size_t>(gates) * lanes;
  for (unsigned gate = 0; gate < gates; ++gate)
    for (unsigned unit = 0; unit < units; ++unit) {
      const std::size_t place = place_of(gates, gate, unit), panel = place / tile, row = place % tile;
      for (unsigned column = 0; column < columns; ++column)
        set(gate * units + unit, column, (panel * columns + column) * tile + row);
    }
}

unsigned gates_of(schema::Cell cell) {
  return cell == schema::Cell::Lstm ? 4 : cell == schema::Cell::Rnn || cell == schema::Cell::RnnRelu ? 1 : 3;
}

template <typename Vector, typename Number>
std::vector<Number> packed_rows(const Vector& rows, unsigned gates) {
  const auto units = static_cast<unsigned>(rows.size()) / gates;
  std::vector<Number> packed(static_cast<std::size_t>(panels_of(units)) * gates * lanes);
  for (unsigned gate = 0; gate < gates; ++gate)
    for (unsigned unit = 0; unit < units; ++unit)
      packed[place_of(gates, gate, unit)] = rows(gate * units + unit);
  return packed;
}

}  // namespace

std::uint16_t to_half(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const std::uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x477fefff) throw Error("a weight is beyond 65504 and does not fit float16: use float32");
  if (magnitude < 0x38800000) {  // below the smallest normal half: a multiple of 2^-24
    const double multiple = std::nearbyint(std::abs(static_cast<double>(value)) * 16777216.0);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(multiple));
  }
  const std::uint32_t rounded = magnitude + 0x0fff + (magnitude >> 13 & 1);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

float from_half(std::uint16_t half) {
  const int exponent = half >> 10 & 31, digits = half & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(digits, -24) : std::ldexp(1024 + digits, exponent - 25);
  return static_cast<float>((half & 0x8000) != 0 ? -magnitude : magnitude);
}

std::vector<std::uint8_t> pack_matrix(const Eigen::MatrixXf& rows, unsigned gates,
                                      schema::WeightFormat format) {
  const auto units = static_cast<unsigned>(rows.rows()) / gates, columns = static_cast<unsigned>(rows.cols());
  const std::size_t bytes = format == schema::WeightFormat::Float16 ? 2 : 4;
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(panels_of(units)) * gates * lanes * columns *
                                   bytes);
  for_each_weight(gates, units, columns, [&](unsigned row, unsigned column, std::size_t element) {
    const float weight = rows(row, column);
    if (!(std::abs(weight) <= 1e6f))
      throw Error(
          "a weight of a recurrent or quantized layer is " + std::to_string(weight) +
          "; it must be finite and at most 1e6 in magnitude: train with gradient clipping or weight decay");
    if (bytes == 2) {
      const std::uint16_t half = to_half(weight);
      std::memcpy(packed.data() + element * bytes, &half, bytes);
    } else {
      std::memcpy(packed.data() + element * bytes, &weight, bytes);
    }
  });
  return packed;
}

std::vector<std::uint8_t> pack_codes(const Eigen::MatrixXi& rows, unsigned gates) {
  const auto units = static_cast<unsigned>(rows.rows()) / gates, columns = static_cast<unsigned>(rows.cols());
  const unsigned fours = (columns + 3) / 4;
  const std::size_t tile = static_cast<std::size_t>(gates) * lanes;
  std::vector<std::uint8_t> packed(panels_of(units) * tile * fours * 4, 128);
  for_each_weight(gates, units, fours, [&](unsigned row, unsigned four, std::size_t element) {
    for (unsigned c = 0; c < 4 && 4 * four + c < columns; ++c)
      packed[element * 4 + c] = static_cast<std::uint8_t>(rows(row, 4 * four + c) + 128);
  });
  return packed;
}

std::vector<float> pack_rows(const Eigen::VectorXf& rows, unsigned gates) {
  return packed_rows<Eigen::VectorXf, float>(rows, gates);
}
std::vector<std::int32_t> pack_rows(const Eigen::VectorXi& rows, unsigned gates) {
  return packed_rows<Eigen::VectorXi, std::int32_t>(rows, gates);
}

Eigen::MatrixXf unpack_matrix(const std::vector<std::uint8_t>& bytes, unsigned gates, unsigned units,
                              unsigned columns, schema::WeightFormat format) {
  Eigen::MatrixXf rows(gates * units, columns);
  for_each_weight(gates, units, columns, [&](unsigned row, unsigned column, std::size_t element) {
    if (format == schema::WeightFormat::Float16) {
      std::uint16_t half;
      std::memcpy(&half, bytes.data() + element * 2, 2);
      rows(row, column) = from_half(half);
    } else {
      std::memcpy(&rows(row, column), bytes.data() + element * 4, 4);
    }
  });
  return rows;
}

Eigen::VectorXf unpack_rows(const std::vector<float>& packed, unsigned gates, unsigned units) {
  Eigen::VectorXf rows(gates * units);
  for (unsigned gate = 0; gate < gates; ++gate)
    for (unsigned unit = 0; unit < units; ++unit)
      rows(gate * units + unit) = packed[place_of(gates, gate, unit)];
  return rows;
}

std::vector<std::uint8_t> pack_recurrent_matrix(const Eigen::MatrixXf& rows, schema::Cell cell,
                                                unsigned units, schema::WeightFormat format) {
  if (cell != schema::Cell::GruResetBefore) return pack_matrix(rows, gates_of(cell), format);
  std::vector<std::uint8_t> both = pack_matrix(rows.topRows(2 * units), 2, format);
  const std::vector<std::uint8_t> of_n = pack_matrix(rows.bottomRows(units), 1, format);
  both.insert(both.end(), of_n.begin(), of_n.end());
  return both;
}

Eigen::MatrixXf unpack_recurrent_matrix(const std::vector<std::uint8_t>& bytes, schema::Cell cell,
                                        unsigned units, schema::WeightFormat format) {
  if (cell != schema::Cell::GruResetBefore) return unpack_matrix(bytes, gates_of(cell), units, units, format);
  const auto of_n = bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 3 * 2);
  Eigen::MatrixXf rows(3 * units, units);
  rows << unpack_matrix({bytes.begin(), of_n}, 2, units, units, format),
      unpack_matrix({of_n, bytes.end()}, 1, units, units, format);
  return rows;
}

std::unique_ptr<schema::RecurrentLayerT> pack_layer(const RecurrentLayer& layer, unsigned level) {
  constexpr auto format = schema::WeightFormat::Float32;
  auto packed = std::make_unique<schema::RecurrentLayerT>();
  packed->level = static_cast<std::uint8_t>(level);
  packed->backward = layer.backward;
  packed->cell = static_cast<schema::Cell>(layer.cell);
  packed->units = static_cast<std::uint16_t>(layer.units());
  const auto units = static_cast<unsigned>(layer.units());
  packed->input_weights = pack_matrix(layer.input, gates_of(packed->cell), format);
  packed->recurrent_weights = pack_recurrent_matrix(layer.recurrent, packed->cell, units, format);
  packed->bias = pack_rows(layer.bias, gates_of(packed->cell));
  if (layer.cell == Cell::gru) packed->recurrent_bias = pack_rows(layer.recurrent_bias, 1);
  return packed;
}

RecurrentLayer unpack_layer(const schema::RecurrentLayerT& layer, unsigned inputs,
                            schema::WeightFormat format) {
  RecurrentLayer unpacked;
  unpacked.cell = static_cast<Cell>(layer.cell);
  unpacked.backward = layer.backward;
  const unsigned of_cell = gates_of(layer.cell);
  unpacked.input = unpack_matrix(layer.input_weights, of_cell, layer.units, inputs, format);
  unpacked.recurrent = unpack_recurrent_matrix(layer.recurrent_weights, layer.cell, layer.units, format);
  unpacked.bias = unpack_rows(layer.bias, of_cell, layer.units);
  if (layer.cell == schema::Cell::Gru)
    unpacked.recurrent_bias = unpack_rows(layer.recurrent_bias, 1, layer.units);
  return unpacked;
}

unsigned recurrent_width(const schema::RecurrentT& recurrent) {
  unsigned width = 0;
  for (const auto& layer : recurrent.layers)
    if (layer->level == recurrent.layers.back()->level) width += layer->units;
  return width;
}

std::vector<unsigned> layer_inputs(const schema::RecurrentT& recurrent, unsigned step_width) {
  std::vector<unsigned> inputs;
  for (const auto& layer : recurrent.layers) {
    unsigned below = layer->level == 0 ? step_width : 0;
    for (const auto& other : recurrent.layers)
      if (other->level + 1 == layer->level) below += other->units;
    inputs.push_back(below);
  }
  return inputs;
}

std::uint16_t append_recurrent(schema::ModelT& model, schema::RecurrentT recurrent, std::uint16_t first,
                               std::size_t count, schema::Phase phase) {
  const std::size_t outputs =
      static_cast<std::size_t>(recurrent_width(recurrent)) * (recurrent.all_steps ? recurrent.steps : 1);
  if (next_slot(model) + outputs > 65000)
    throw Error("a recurrent layer's outputs take the model beyond 65000 numbers: use fewer units or steps");
  auto op = std::make_unique<schema::OperatorT>();
  op->phase = phase;
  op->input_offset = first;
  op->input_length = static_cast<std::uint16_t>(count);
  op->output_offset = next_slot(model);
  op->output_length = static_cast<std::uint16_t>(outputs);
  op->kind.Set(std::move(recurrent));
  model.output_offset = op->output_offset;
  model.output_length = op->output_length;
  model.operators.push_back(std::move(op));
  return model.output_offset;
}

unsigned step_width(const schema::OperatorT& op, const schema::RecurrentT& recurrent) {
  return recurrent.sequence == schema::Sequence::Session
             ? op.input_length
             : (op.input_length - (recurrent.lengths ? 1u : 0u)) / std::max<unsigned>(1, recurrent.steps);
}

std::size_t recurrent_products(const schema::OperatorT& op, const schema::RecurrentT& recurrent) {
  std::size_t products = 0;
  const std::vector<unsigned> inputs = layer_inputs(recurrent, step_width(op, recurrent));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const schema::RecurrentLayerT& layer = *recurrent.layers[i];
    products += std::size_t{gates_of(layer.cell)} * layer.units * (inputs[i] + layer.units);
  }
  return products * std::max<std::size_t>(1, recurrent.steps);
}

std::uint32_t network_work_bytes(const schema::OperatorT& op) {
  if (const auto* affine = op.kind.AsQuantizedAffine(); affine != nullptr)
    return (affine->format == schema::WeightFormat::Int8 ? up_to(op.input_length, 4) : 0) +
           panels_of(op.output_length) * lanes * 4;
  const auto* recurrent = op.kind.AsRecurrent();
  if (recurrent == nullptr || recurrent->layers.empty()) return 0;
  unsigned widest = 0, units = 0, rows = 0;
  const std::vector<unsigned> inputs = layer_inputs(*recurrent, step_width(op, *recurrent));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const schema::RecurrentLayerT& layer = *recurrent->layers[i];
    const unsigned padded = panels_of(layer.units) * lanes;
    unsigned level = 0;
    for (const auto& other : recurrent->layers) level += other->level == layer.level ? other->units : 0u;
    widest = std::max({widest, inputs[i], level});
    units = std::max(units, padded);
    rows = std::max(rows, padded * gates_of(layer.cell));
  }
  const unsigned steps = std::max<unsigned>(1, recurrent->steps);
  return 4 * (steps * (2 * up_to(widest, 4) + rows) + rows + 3 * units);
}

std::uint32_t network_session_elements(const schema::OperatorT& op) {
  const auto* recurrent = op.kind.AsRecurrent();
  if (recurrent == nullptr || recurrent->sequence != schema::Sequence::Session) return 0;
  const bool codes = recurrent->format == schema::WeightFormat::Int8;
  if (recurrent->steps > 0)
    return 1 + recurrent->steps * (codes ? up_to(op.input_length, 4) / 4 : op.input_length) +
           recurrent_width(*recurrent);
  std::uint32_t elements = 0;
  for (const auto& layer : recurrent->layers)
    elements +=
        (layer->cell == schema::Cell::Lstm ? 2u : 1u) * (codes ? up_to(layer->units, 2) / 2 : layer->units);
  return elements;
}

}  // namespace tonearm
