#pragma once

// ONNX's LSTM, GRU and RNN.

#include <vector>

#include "import/onnx_nodes.h"

namespace tonearm::onnx_import {

bool is_recurrent(const onnx::NodeProto& node);

/// Y and Y_h; Y is left out where it would have more numbers than a model can. The last cell state, Y_c, is
/// never made. Throws Unsupported, naming the attribute or input.
std::vector<Value> evaluate_recurrent(const onnx::NodeProto& node, const std::vector<Value>& inputs,
                                      Program& program);

/// What the specification calls output `i`.
std::string recurrent_output_name(std::size_t i);

}  // namespace tonearm::onnx_import
