#pragma once

// ONNX graphs for tests, and what becomes of them.

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "emit/emit.h"
#include "evaluate/blob.h"
#include "import/import.h"

namespace tonearm {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;
using Floats = std::vector<float>;
using Ints = std::vector<std::int64_t>;
using Texts = std::vector<std::string>;

inline constexpr float missing = std::numeric_limits<float>::quiet_NaN();
inline constexpr float infinity = std::numeric_limits<float>::infinity();

// --- Graphs ---------------------------------------------------------------------------------------------

inline AttributeProto& add_attribute(NodeProto& node, const std::string& name,
                                     AttributeProto::AttributeType type) {
  AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(type);
  return attribute;
}

struct NodeBuilder {
  NodeProto& node;

  NodeBuilder& ints(const std::string& name, const Ints& values) {
    AttributeProto& attribute = add_attribute(node, name, AttributeProto::INTS);
    attribute.mutable_ints()->Add(values.begin(), values.end());
    return *this;
  }
  NodeBuilder& floats(const std::string& name, const Floats& values) {
    AttributeProto& attribute = add_attribute(node, name, AttributeProto::FLOATS);
    attribute.mutable_floats()->Add(values.begin(), values.end());
    return *this;
  }
  NodeBuilder& texts(const std::string& name, const Texts& values) {
    AttributeProto& attribute = add_attribute(node, name, AttributeProto::STRINGS);
    for (const std::string& value : values) attribute.add_strings(value);
    return *this;
  }
  NodeBuilder& integer(const std::string& name, std::int64_t value) {
    add_attribute(node, name, AttributeProto::INT).set_i(value);
    return *this;
  }
  NodeBuilder& number(const std::string& name, float value) {
    add_attribute(node, name, AttributeProto::FLOAT).set_f(value);
    return *this;
  }
  NodeBuilder& text(const std::string& name, const std::string& value) {
    add_attribute(node, name, AttributeProto::STRING).set_s(value);
    return *this;
  }
  NodeBuilder& doubles(const std::string& name, const std::vector<double>& values) {
    TensorProto& tensor = *add_attribute(node, name, AttributeProto::TENSOR).mutable_t();
    tensor.set_data_type(TensorProto::DOUBLE);
    tensor.add_dims(static_cast<std::int64_t>(values.size()));
    tensor.mutable_double_data()->Add(values.begin(), values.end());
    return *this;
  }
};

/// A graph from "X", of `columns` floats, to "Y".
class Graph {
 public:
  explicit Graph(std::int64_t columns = 1) {
    model_.set_ir_version(8);
    add_opset("", 17);
    add_opset("ai.onnx.ml", 3);
    if (columns > 0) input("X", columns);
    output("Y", TensorProto::FLOAT);
  }

  Graph& input(const std::string& name, std::int64_t columns, int type = TensorProto::FLOAT) {
    return input(name, Ints{0, columns}, type);
  }
  /// The dimension of the rows is 0, one of another unknown size -1.
  Graph& input(const std::string& name, const Ints& shape, int type = TensorProto::FLOAT) {
    auto& tensor = *add_value(*graph().add_input(), name, type);
    for (const std::int64_t size : shape) {
      auto& dimension = *tensor.mutable_shape()->add_dim();
      if (size > 0)
        dimension.set_dim_value(size);
      else
        dimension.set_dim_param(size == 0 ? "N" : "time");
    }
    return *this;
  }
  Graph& output(const std::string& name, int type) {
    add_value(*graph().add_output(), name, type);
    return *this;
  }
  Graph& constant(const std::string& name, const Ints& shape, const Floats& values) {
    TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(TensorProto::FLOAT);
    tensor.mutable_dims()->Add(shape.begin(), shape.end());
    tensor.set_raw_data(values.data(), values.size() * sizeof(float));
    return *this;
  }
  Graph& whole(const std::string& name, const Ints& values) {
    TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(TensorProto::INT64);
    tensor.add_dims(static_cast<std::int64_t>(values.size()));
    tensor.mutable_int64_data()->Add(values.begin(), values.end());
    return *this;
  }
  NodeBuilder node(const std::string& op, const Texts& inputs, const Texts& outputs,
                   const std::string& domain = "") {
    NodeProto& node = *graph().add_node();
    node.set_op_type(op);
    node.set_domain(domain);
    node.set_name("the " + op);
    for (const std::string& name : inputs) node.add_input(name);
    for (const std::string& name : outputs) node.add_output(name);
    return {node};
  }
  NodeBuilder ml(const std::string& op, const Texts& inputs, const Texts& outputs) {
    return node(op, inputs, outputs, "ai.onnx.ml");
  }
  GraphProto& graph() { return *model_.mutable_graph(); }
  ModelProto& model() { return model_; }
  std::string bytes() const { return model_.SerializeAsString(); }

 private:
  void add_opset(const std::string& domain, std::int64_t version) {
    auto& opset = *model_.add_opset_import();
    opset.set_domain(domain);
    opset.set_version(version);
  }
  static onnx::TypeProto::Tensor* add_value(onnx::ValueInfoProto& value, const std::string& name, int type) {
    value.set_name(name);
    value.mutable_type()->mutable_tensor_type()->set_elem_type(type);
    return value.mutable_type()->mutable_tensor_type();
  }

  ModelProto model_;
};

inline ImportedModel import(const std::string& bytes) { return import_onnx(bytes, "m.onnx"); }
inline ImportedModel import(const Graph& graph) { return import(graph.bytes()); }

inline schema::ModelT model_of(const ImportedModel& imported) {
  schema::ModelT model;
  for (const ImportedColumn& column : imported.columns) {
    auto made = std::make_unique<schema::ColumnT>();
    made->name = column.name;
    made->type = column.vocabulary.empty() ? schema::ColumnType::Number : schema::ColumnType::Category;
    made->vocabulary = column.vocabulary;
    model.columns.push_back(std::move(made));
    model.missing_fill.push_back(missing);
  }
  if (const auto* program = std::get_if<ImportedProgram>(&imported.predictor)) {
    program->append(model, 0);
  } else {
    const auto& trees = std::get<ImportedTrees>(imported.predictor);
    append_trees(model, trees.ensemble, 0, imported.columns.size(), LeafStorage::exact);
    append_link(model, trees.link, trees.slope);
  }
  return model;
}

inline Blob blob_of(const ImportedModel& imported) {
  schema::ModelT model = model_of(imported);
  return Blob(pack(model), "the test's blob");
}

/// The outputs of all rows, one after the other.
inline Floats evaluate(const Blob& blob, const std::vector<Floats>& rows) {
  Floats all, out(blob.outputs());
  for (const Floats& row : rows) {
    blob.evaluate(row, out);
    all.insert(all.end(), out.begin(), out.end());
  }
  return all;
}
inline Floats evaluate(const Graph& graph, const std::vector<Floats>& rows) {
  return evaluate(blob_of(import(graph)), rows);
}

inline void expect_outputs(const Graph& graph, const std::vector<Floats>& rows, const Floats& expected) {
  const Floats found = evaluate(graph, rows);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(found[i])) << "output " << i << " is " << found[i];
    else
      EXPECT_NEAR(found[i], expected[i], 1e-6f * std::max(1.0f, std::abs(expected[i]))) << "output " << i;
  }
}

inline std::string error_of(const std::string& bytes) {
  try {
    (void)blob_of(import(bytes));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
inline std::string error_of(const Graph& graph) { return error_of(graph.bytes()); }

inline void expect_error(const Graph& graph, const std::string& part) {
  const std::string error = error_of(graph);
  EXPECT_NE(error.find(part), std::string::npos) << "found: " << error;
}

inline float logistic(float x) { return 1 / (1 + std::exp(-x)); }

}  // namespace tonearm
