#include "import/onnx_recurrent.h"

#include <algorithm>
#include <cctype>
#include <optional>

namespace tonearm::onnx_import {
namespace {

using onnx::TensorProto;

/// What an operator's weights and activations are like. `gates`: for each of our gates, the place of its rows
/// among ONNX's: i, o, f, c of an LSTM and z, r, h of a GRU.
struct Operator {
  Cell cell;
  std::vector<std::size_t> gates;
  std::vector<std::string> activations;
};

Operator operator_of(const std::string& type) {
  if (type == "LSTM") return {Cell::lstm, {0, 2, 3, 1}, {"sigmoid", "tanh", "tanh"}};
  if (type == "GRU") return {Cell::gru, {1, 0, 2}, {"sigmoid", "tanh"}};
  return {Cell::rnn, {0}, {"tanh"}};
}

const Tensor& constant(const std::vector<Value>& inputs, std::size_t i, const char* name) {
  const auto* tensor = i < inputs.size() ? std::get_if<std::shared_ptr<const Tensor>>(&inputs[i]) : nullptr;
  if (tensor == nullptr) throw Unsupported(std::string(name) + " is not a constant");
  if ((*tensor)->is_text() || (*tensor)->holds_batch)
    throw Unsupported(std::string(name) + " is not an array of numbers");
  return **tensor;
}

bool is_given(const std::vector<Value>& inputs, std::size_t i) {
  return i < inputs.size() && inputs[i].index() != 0;
}

void require_shape(const Tensor& tensor, const char* name, const Shape& expected) {
  if (tensor.shape != expected)
    throw Unsupported(std::string(name) + " has the shape " + shape_text(tensor.shape) + ", and " +
                      shape_text(expected) + " is expected");
}

/// Attributes that change what is computed, and have no counterpart here.
void refuse_attributes(const Attributes& attributes) {
  if (attributes.find("clip") != nullptr)
    throw Unsupported("its clip is " + number_text(attributes.number("clip", 0)) +
                      ", and gates cannot be clipped: export it without");
  if (attributes.integer("input_forget", 0) != 0)
    throw Unsupported("its input_forget is set, and gates cannot be coupled");
  for (const char* name : {"activation_alpha", "activation_beta"})
    if (!attributes.numbers(name).empty())
      throw Unsupported("it has an " + std::string(name) + ", and only the default activations are known");
}

/// The cell of each direction.
std::vector<Cell> cells_of(const Attributes& attributes, const Operator& op, std::size_t directions) {
  Cell cell = op.cell;
  if (cell == Cell::gru && attributes.integer("linear_before_reset", 0) == 0) cell = Cell::gru_reset_before;
  std::vector<Cell> cells(directions, cell);
  std::vector<std::string> activations = attributes.texts("activations");
  if (activations.empty()) return cells;
  const std::size_t count = op.activations.size();
  if (activations.size() != count * directions)
    throw Unsupported("it has " + std::to_string(activations.size()) + " activations, and " +
                      std::to_string(count * directions) + " are expected");
  for (std::size_t i = 0; i < activations.size(); ++i) {
    std::string name = activations[i];
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
    if (name == op.activations[i % count]) continue;
    if (cell != Cell::rnn || name != "relu")
      throw Unsupported("among its activations is " + shown(activations[i]) + ", and only the defaults" +
                        (cell == Cell::rnn ? " and Relu" : "") + " are known");
    cells[i / count] = Cell::rnn_relu;
  }
  return cells;
}

RecurrentLayer layer_of(const Operator& op, Cell cell, std::size_t direction, const Tensor& from_input,
                        const Tensor& from_state, const Tensor* bias) {
  const std::size_t gates = op.gates.size(), units = static_cast<std::size_t>(from_state.shape[2]),
                    width = static_cast<std::size_t>(from_input.shape[2]);
  const auto size = [](std::size_t count) { return static_cast<Eigen::Index>(count); };
  RecurrentLayer layer;
  layer.cell = cell;
  layer.input.resize(size(gates * units), size(width));
  layer.recurrent.resize(size(gates * units), size(units));
  layer.bias = Eigen::VectorXf::Zero(size(gates * units));
  if (cell == Cell::gru) layer.recurrent_bias = Eigen::VectorXf::Zero(size(units));
  for (std::size_t gate = 0; gate < gates; ++gate)
    for (std::size_t unit = 0; unit < units; ++unit) {
      const std::size_t row = gate * units + unit, from = op.gates[gate] * units + unit;
      const std::size_t source = direction * gates * units + from;
      for (std::size_t j = 0; j < width; ++j)
        layer.input(size(row), size(j)) = static_cast<float>(from_input.numbers[source * width + j]);
      for (std::size_t j = 0; j < units; ++j)
        layer.recurrent(size(row), size(j)) = static_cast<float>(from_state.numbers[source * units + j]);
      if (bias == nullptr) continue;
      // The biases of the input's products, and then those of the state's.
      const double* biases = bias->numbers.data() + direction * 2 * gates * units + from;
      const double of_input = biases[0], of_state = biases[gates * units];
      const bool apart = cell == Cell::gru && gate == 2;
      layer.bias(size(row)) = static_cast<float>(apart ? of_input : of_input + of_state);
      if (apart) layer.recurrent_bias(size(unit)) = static_cast<float>(of_state);
    }
  return layer;
}

/// States begin at 0 here, whatever computes the zeros.
void require_zero(const std::vector<Value>& inputs, std::size_t i, const char* name) {
  if (!is_given(inputs, i)) return;
  if (!std::holds_alternative<std::shared_ptr<const Tensor>>(inputs[i]))
    throw Unsupported(std::string(name) +
                      " comes from the inputs, and only states of 0 are possible: export it without them");
  const Tensor& state = constant(inputs, i, name);
  for (const double value : state.numbers)
    if (value != 0)
      throw Unsupported(std::string(name) + " has the value " + number_text(value) +
                        ", and only states of 0 are possible");
}

/// The number of steps, where a row says it; a constant says that all of them are there.
std::optional<Scalar> length_of(const std::vector<Value>& inputs, std::size_t i, std::size_t steps) {
  if (!is_given(inputs, i)) return {};
  if (const auto* row = std::get_if<std::shared_ptr<const Row>>(&inputs[i])) {
    if ((*row)->elements.size() != 1 || (*row)->type == TensorProto::STRING)
      throw Unsupported("sequence_lens has " + std::to_string((*row)->elements.size()) +
                        " values for each row, and one number is expected");
    return (*row)->elements.front();
  }
  for (const double length : constant(inputs, i, "sequence_lens").numbers)
    if (length != static_cast<double>(steps))
      throw Unsupported("sequence_lens is " + number_text(length) + " for all rows, of " +
                        std::to_string(steps) + " steps: export it with as many steps as it reads");
  return {};
}

}  // namespace

bool is_recurrent(const onnx::NodeProto& node) {
  return (node.domain().empty() || node.domain() == "ai.onnx") &&
         (node.op_type() == "LSTM" || node.op_type() == "GRU" || node.op_type() == "RNN");
}

std::string recurrent_output_name(std::size_t i) { return i == 0 ? "Y" : i == 1 ? "Y_h" : "Y_c"; }

std::vector<Value> evaluate_recurrent(const onnx::NodeProto& node, const std::vector<Value>& inputs,
                                      Program& program) {
  const Attributes attributes(node);
  const Operator op = operator_of(node.op_type());
  refuse_attributes(attributes);
  const std::string direction = attributes.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    throw Unsupported("its direction is " + shown(direction) +
                      ", and forward, reverse and bidirectional are known");
  const std::size_t directions = direction == "bidirectional" ? 2 : 1;
  const std::int64_t layout = attributes.integer("layout", 0);
  if (layout != 0 && layout != 1)
    throw Unsupported("its layout is " + std::to_string(layout) + ", and 0 and 1 are known");
  const std::vector<Cell> cells = cells_of(attributes, op, directions);

  const auto* sequence = inputs.empty() ? nullptr : std::get_if<std::shared_ptr<const Row>>(&inputs[0]);
  if (sequence == nullptr) throw Unsupported("X does not depend on the inputs");
  const Row& x = **sequence;
  if (x.shape.size() != 3 || x.batch != (layout == 0 ? 1u : 0u) || x.is_joined() ||
      x.type == TensorProto::STRING || x.elements.empty())
    throw Unsupported("X has the shape " + shape_text(x.shape) + ", of which dimension " +
                      std::to_string(x.batch) + " is the rows, and " +
                      (layout == 0 ? "[steps, rows, values]" : "[rows, steps, values]") + " is expected");
  const auto steps = static_cast<std::size_t>(x.shape[layout == 0 ? 0 : 1]);

  const Tensor &from_input = constant(inputs, 1, "W"), &from_state = constant(inputs, 2, "R");
  const auto count = static_cast<std::int64_t>(directions);
  const auto gates = static_cast<std::int64_t>(op.gates.size());
  const std::int64_t units = from_state.shape.size() == 3 ? from_state.shape[2] : 0;
  if (units < 1 || units > 4096 || attributes.integer("hidden_size", units) != units)
    throw Unsupported("R has the shape " + shape_text(from_state.shape) + ", and its hidden_size is " +
                      std::to_string(attributes.integer("hidden_size", units)) +
                      ", where 1 to 4096 are possible");
  require_shape(from_input, "W", {count, gates * units, x.shape[2]});
  require_shape(from_state, "R", {count, gates * units, units});
  const Tensor* bias = is_given(inputs, 3) ? &constant(inputs, 3, "B") : nullptr;
  if (bias != nullptr) require_shape(*bias, "B", {count, 2 * gates * units});
  require_zero(inputs, 5, "initial_h");
  require_zero(inputs, 6, "initial_c");
  if (is_given(inputs, 7)) throw Unsupported("it has peepholes, P, which cells here have not");
  const std::optional<Scalar> length = length_of(inputs, 4, steps);

  std::vector<RecurrentLayer> layers;
  for (std::size_t i = 0; i < directions; ++i) {
    layers.push_back(layer_of(op, cells[i], i, from_input, from_state, bias));
    layers.back().backward = direction == "reverse" || i == 1;
  }
  program.remark(
      "a missing input of a recurrent layer counts as 0, and inputs are limited to 1e6 in magnitude; ONNX "
      "Runtime takes them as they are");

  const auto has_output = [&](int i) { return node.output_size() > i && !node.output(i).empty(); };
  std::vector<Value> outputs(2);
  Row states;
  states.type = x.type;
  const std::size_t all = steps * directions * static_cast<std::size_t>(units);
  if (has_output(0) && all <= Program::most_values) {
    states.shape = layout == 0 ? Shape{x.shape[0], count, 1, units} : Shape{1, x.shape[1], count, units};
    states.batch = layout == 0 ? 2 : 0;
    states.elements = program.recurrent(x.elements, steps, layers, length, true);
    outputs[0] = std::make_shared<const Row>(states);
  }
  if (has_output(1)) {
    states.shape = layout == 0 ? Shape{count, 1, units} : Shape{1, count, units};
    states.batch = layout == 0 ? 1 : 0;
    states.elements = program.recurrent(x.elements, steps, std::move(layers), length, false);
    outputs[1] = std::make_shared<const Row>(std::move(states));
  }
  return outputs;
}

}  // namespace tonearm::onnx_import
