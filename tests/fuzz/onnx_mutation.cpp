// Changes fields of an ONNX model, whatever message they are in, by protobuf's reflection.

#include <onnx/onnx_pb.h>

#include <cstdlib>
#include <vector>

#include "mutation.h"

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

/// The message and all messages within it, outside in.
std::vector<Message*> messages_of(Message& root) {
  std::vector<Message*> found = {&root};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Reflection& reflection = *found[i]->GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(*found[i], &fields);
    for (const FieldDescriptor* field : fields) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
      if (!field->is_repeated()) {
        found.push_back(reflection.MutableMessage(found[i], field));
        continue;
      }
      for (int k = 0; k < reflection.FieldSize(*found[i], field); ++k)
        found.push_back(reflection.MutableRepeatedMessage(found[i], field, k));
    }
  }
  return found;
}

std::int64_t whole(std::minstd_rand& random) {
  return std::strtoll(edge_number(random).c_str(), nullptr, 10);
}
double number(std::minstd_rand& random) { return std::strtod(edge_number(random).c_str(), nullptr); }

/// A name that means something: of the model, or to importers.
std::string name_of(const Message& model, std::minstd_rand& random) {
  static constexpr const char* known[] = {"",
                                          "ai.onnx.ml",
                                          "prob",
                                          "Abs",
                                          "Add",
                                          "ArgMax",
                                          "ArrayFeatureExtractor",
                                          "BatchNormalization",
                                          "Binarizer",
                                          "Cast",
                                          "Clip",
                                          "Concat",
                                          "Constant",
                                          "ConstantOfShape",
                                          "Div",
                                          "Dropout",
                                          "Equal",
                                          "Exp",
                                          "Expand",
                                          "FeatureVectorizer",
                                          "Flatten",
                                          "Gather",
                                          "Gemm",
                                          "GRU",
                                          "HardSigmoid",
                                          "Identity",
                                          "Imputer",
                                          "LabelEncoder",
                                          "LeakyRelu",
                                          "LinearClassifier",
                                          "LinearRegressor",
                                          "Log",
                                          "Loop",
                                          "LSTM",
                                          "MatMul",
                                          "Mul",
                                          "Neg",
                                          "Normalizer",
                                          "OneHotEncoder",
                                          "PRelu",
                                          "Pow",
                                          "Reciprocal",
                                          "ReduceMean",
                                          "ReduceSum",
                                          "Relu",
                                          "Reshape",
                                          "ReverseSequence",
                                          "RNN",
                                          "Scaler",
                                          "Shape",
                                          "Sigmoid",
                                          "Slice",
                                          "Softmax",
                                          "Split",
                                          "Sqrt",
                                          "Squeeze",
                                          "Sub",
                                          "Sum",
                                          "SVMClassifier",
                                          "SVMRegressor",
                                          "Tanh",
                                          "Tile",
                                          "Transpose",
                                          "TreeEnsemble",
                                          "TreeEnsembleClassifier",
                                          "TreeEnsembleRegressor",
                                          "Unsqueeze",
                                          "Where",
                                          "ZipMap",
                                          "axis",
                                          "axes",
                                          "alpha",
                                          "keepdims",
                                          "activations",
                                          "clip",
                                          "direction",
                                          "hidden_size",
                                          "input_forget",
                                          "layout",
                                          "linear_before_reset",
                                          "time_axis",
                                          "batch_axis",
                                          "forward",
                                          "reverse",
                                          "bidirectional",
                                          "post_transform",
                                          "NONE",
                                          "SOFTMAX",
                                          "LOGISTIC",
                                          "SOFTMAX_ZERO",
                                          "PROBIT",
                                          "MAX",
                                          "L1",
                                          "L2",
                                          "AVERAGE",
                                          "MIN",
                                          "SUM",
                                          "RBF",
                                          "POLY",
                                          "BRANCH_LEQ",
                                          "BRANCH_LT",
                                          "BRANCH_GTE",
                                          "BRANCH_GT",
                                          "BRANCH_EQ",
                                          "BRANCH_NEQ",
                                          "LEAF",
                                          "BRANCH_MEMBER"};
  const auto& graph = static_cast<const onnx::ModelProto&>(model).graph();
  std::vector<std::string> names;
  for (const auto& node : graph.node()) {
    names.insert(names.end(), node.input().begin(), node.input().end());
    names.insert(names.end(), node.output().begin(), node.output().end());
    for (const auto& attribute : node.attribute()) names.push_back(attribute.name());
  }
  for (const auto& tensor : graph.initializer()) names.push_back(tensor.name());
  const std::size_t chosen = below(random, std::size(known) + 2 * names.size());
  return chosen < std::size(known) ? known[chosen] : names[(chosen - std::size(known)) / 2];
}

void set_one(const Message& model, Message& message, const FieldDescriptor* field, std::minstd_rand& random) {
  const Reflection& reflection = *message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.SetInt32(&message, field, static_cast<std::int32_t>(whole(random)));
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.SetInt64(&message, field, whole(random));
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.SetUInt64(&message, field, static_cast<std::uint64_t>(whole(random)));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.SetFloat(&message, field, std::strtof(edge_number(random).c_str(), nullptr));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.SetDouble(&message, field, number(random));
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.SetEnumValue(&message, field, static_cast<int>(below(random, 18)));
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.SetString(&message, field, name_of(model, random));
    default:
      return;
  }
}

void set_element(const Message& model, Message& message, const FieldDescriptor* field, int at,
                 std::minstd_rand& random) {
  const Reflection& reflection = *message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.SetRepeatedInt32(&message, field, at, static_cast<std::int32_t>(whole(random)));
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.SetRepeatedInt64(&message, field, at, whole(random));
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.SetRepeatedUInt64(&message, field, at, static_cast<std::uint64_t>(whole(random)));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.SetRepeatedFloat(&message, field, at,
                                         std::strtof(edge_number(random).c_str(), nullptr));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.SetRepeatedDouble(&message, field, at, number(random));
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.SetRepeatedString(&message, field, at, name_of(model, random));
    default:
      return;
  }
}

/// One more element at the end, as the one at `at` is.
void repeat_element(Message& message, const FieldDescriptor* field, int at) {
  const Reflection& reflection = *message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.AddInt64(&message, field, reflection.GetRepeatedInt64(message, field, at));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.AddFloat(&message, field, reflection.GetRepeatedFloat(message, field, at));
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.AddString(&message, field, reflection.GetRepeatedString(message, field, at));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      Message* added = reflection.AddMessage(&message, field);
      return added->CopyFrom(reflection.GetRepeatedMessage(message, field, at));
    }
    default:
      return;
  }
}

void change(Message& model, std::minstd_rand& random) {
  const std::vector<Message*> messages = messages_of(model);
  Message& message = *messages[below(random, messages.size())];
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  if (fields.empty()) return;
  const FieldDescriptor* field = fields[below(random, fields.size())];
  const std::size_t how = below(random, 12);
  if (!field->is_repeated()) {
    if (how == 0) return reflection.ClearField(&message, field);
    return set_one(model, message, field, random);
  }
  const int size = reflection.FieldSize(message, field);
  const int at = static_cast<int>(below(random, static_cast<std::size_t>(size)));
  if (how == 0) return reflection.RemoveLast(&message, field);
  if (how == 1) return repeat_element(message, field, at);
  if (how <= 3) {
    const int other = static_cast<int>(below(random, static_cast<std::size_t>(size)));
    return reflection.SwapElements(&message, field, at, other);
  }
  set_element(model, message, field, at, random);
}

}  // namespace

std::string mutated_model(std::string_view bytes, std::size_t, std::minstd_rand& random) {
  google::protobuf::SetLogHandler(nullptr);
  onnx::ModelProto model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !model.has_graph()) return {};
  for (std::size_t changes = 1 + below(random, 3); changes > 0; --changes) change(model, random);
  return model.SerializePartialAsString();
}
