#pragma once

// What each node of an ONNX graph does to constants and to rows.

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "import/onnx_graph.h"
#include "import/onnx_program.h"

namespace tonearm::onnx_import {

/// A tensor with one batch dimension, of which one row is followed. `shape` has 1 in its place, or more where
/// another dimension has been joined to it: a Dense layer over a sequence takes each step for a row.
struct Row {
  Shape shape;
  std::size_t batch = 0;
  std::vector<Scalar> elements;
  onnx::TensorProto::DataType type = onnx::TensorProto::FLOAT;
  /// Probabilities or scores of classes, by a classifier or a ZipMap.
  bool of_classes = false;

  bool is_joined() const { return shape[batch] != 1; }
};

/// Nothing (an optional input that is left out), a constant, or a row.
using Value = std::variant<std::monostate, std::shared_ptr<const Tensor>, std::shared_ptr<const Row>>;

/// The outputs of a node; those that nobody can use (labels, masks) are left out. Throws Unsupported.
/// `opset` is that of the node's domain, 0 where the file does not say. Constants with more than `budget`
/// elements are not made.
std::vector<Value> evaluate_node(const onnx::NodeProto& node, const std::vector<Value>& inputs,
                                 std::int64_t opset, Program& program, std::size_t budget);

/// Throws Unsupported where evaluate_node() does not know the operator at all, whatever its inputs.
void require_known(const onnx::NodeProto& node);

}  // namespace tonearm::onnx_import
