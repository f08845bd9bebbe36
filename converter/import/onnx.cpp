#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "import/import.h"
#include "import/onnx_graph.h"
#include "import/onnx_nodes.h"
#include "import/onnx_program.h"
#include "import/onnx_recurrent.h"

namespace tonearm {
namespace onnx_import {
namespace {

using onnx::TensorProto;

/// protobuf speaks to stderr of what it cannot parse; the Error says it.
class Silence {
 public:
  Silence() : before_(google::protobuf::SetLogHandler(nullptr)) {}
  ~Silence() { google::protobuf::SetLogHandler(before_); }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  google::protobuf::LogHandler* before_;
};

onnx::ModelProto parse(std::string_view bytes, const std::string& path) {
  const Silence silence;
  onnx::ModelProto model;
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error(path + ": is larger than 2 GB, which no ONNX file can be");
  // Depth is limited to 100 by protobuf, and no length may go beyond the bytes.
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    throw Error(path +
                ": is neither LightGBM's text, XGBoost's JSON or UBJSON, nor ONNX, or is damaged: export it "
                "again");
  if (!model.has_graph() || model.graph().output_size() == 0)
    throw Error(path +
                ": is neither LightGBM's text, XGBoost's JSON or UBJSON, nor an ONNX model with a graph that "
                "has outputs");
  return model;
}

bool is_number(int type) {
  return type == TensorProto::FLOAT || type == TensorProto::DOUBLE || type == TensorProto::FLOAT16 ||
         type == TensorProto::BFLOAT16;
}

bool is_label(const onnx::ValueInfoProto& output) {
  return output.type().has_tensor_type() &&
         output.type().tensor_type().elem_type() != TensorProto::UNDEFINED &&
         !is_number(output.type().tensor_type().elem_type());
}

/// Of an input's dimensions, that of the rows: the only one without a size, or else the first; of sequences
/// that were exported for a single row, [steps, 1, values] too.
std::size_t batch_dimension(const onnx::TensorShapeProto& shape) {
  const auto is_fixed = [](const auto& dimension) { return dimension.has_dim_value(); };
  const auto& dimensions = shape.dim();
  if (dimensions.size() < 3) return 0;
  const auto open = std::find_if_not(dimensions.begin(), dimensions.end(), is_fixed);
  if (open == dimensions.end())
    return dimensions[0].dim_value() != 1 && dimensions[1].dim_value() == 1 ? 1 : 0;
  if (!std::all_of(open + 1, dimensions.end(), is_fixed)) return 0;
  return static_cast<std::size_t>(open - dimensions.begin());
}

/// What a graph computes for one row.
class Interpreter {
 public:
  Interpreter(const onnx::ModelProto& model, std::size_t bytes, const std::string& path)
      : model_(model), path_(path), budget_(2 * bytes + (std::size_t{1} << 20)), program_(budget_) {}

  ImportedModel import();

 private:
  std::int64_t opset(const std::string& domain) const;
  std::string format() const;
  const onnx::ValueInfoProto& chosen_output();
  std::string label_source(const std::string& label) const;
  void index_names();
  /// The nodes that `output` needs, each after those that it reads from.
  std::vector<const onnx::NodeProto*> order(const std::string& output) const;
  void evaluate(const onnx::NodeProto& node);
  /// The value of a name; null if something that could not be imported gives it.
  const Value* find(const std::string& name);
  Value read_input(const onnx::ValueInfoProto& input);
  void add_class_names(std::size_t classes, ImportedModel& model) const;

  const onnx::ModelProto& model_;
  const std::string& path_;
  std::size_t budget_;
  Program program_;
  std::unordered_map<std::string, const onnx::NodeProto*> makers_;
  std::unordered_map<std::string, const TensorProto*> constants_;
  std::unordered_map<std::string, const onnx::ValueInfoProto*> inputs_;
  std::unordered_map<std::string, Value> values_;
  std::unordered_map<std::string, std::string> left_out_;  // outputs of recurrent layers, and what they are
  std::vector<const onnx::NodeProto*> needed_;
  std::vector<std::string> problems_, remarks_;
};

std::int64_t Interpreter::opset(const std::string& domain) const {
  for (const auto& import : model_.opset_import())
    if (import.domain() == domain || (domain.empty() && import.domain() == "ai.onnx"))
      return import.version();
  return 0;
}

std::string Interpreter::format() const {
  std::string text = "ONNX, opset " + std::to_string(opset(""));
  if (opset("ai.onnx.ml") != 0) text += " and ai.onnx.ml " + std::to_string(opset("ai.onnx.ml"));
  if (!model_.producer_name().empty())
    text += ", by " + shown(model_.producer_name()) +
            (model_.producer_version().empty() ? "" : " " + shown(model_.producer_version()));
  return text;
}

/// Where labels come from by ArgMax, what it looks at: a model of labels alone still has scores.
std::string Interpreter::label_source(const std::string& label) const {
  std::string name = label;
  for (int steps = 0; steps < 16; ++steps) {
    const auto maker = makers_.find(name);
    if (maker == makers_.end() || maker->second->input_size() == 0) break;
    const std::string& op = maker->second->op_type();
    if (op == "ArgMax") return maker->second->input(0);
    // The labels themselves are picked by a constant array's elements.
    name = maker->second->input(op == "ArrayFeatureExtractor" && maker->second->input_size() > 1 ? 1 : 0);
  }
  return {};
}

const onnx::ValueInfoProto& Interpreter::chosen_output() {
  const auto& outputs = model_.graph().output();
  std::vector<const onnx::ValueInfoProto*> scores, named;
  for (const auto& output : outputs) {
    if (is_label(output)) continue;
    scores.push_back(&output);
    if (output.name().find("prob") != std::string::npos) named.push_back(&output);
  }
  if (scores.empty()) return outputs[0];
  const onnx::ValueInfoProto& chosen = named.size() == 1 ? *named[0] : *scores[0];
  for (const auto* output : scores)
    if (output != &chosen)
      remarks_.push_back("the output \"" + shown(output->name()) + "\" was left out: \"" +
                         shown(chosen.name()) + "\" was taken");
  return chosen;
}

void Interpreter::index_names() {
  const onnx::GraphProto& graph = model_.graph();
  if (graph.sparse_initializer_size() > 0)
    throw Error(path_ + ": has sparse constants, which are not supported");
  for (const TensorProto& tensor : graph.initializer()) constants_.emplace(tensor.name(), &tensor);
  for (const auto& input : graph.input())
    if (!constants_.contains(input.name())) inputs_.emplace(input.name(), &input);
  for (const onnx::NodeProto& node : graph.node())
    for (const std::string& output : node.output())
      if (!output.empty() && !makers_.emplace(output, &node).second)
        throw Error(path_ + ": two nodes make \"" + shown(output) + "\"");
}

std::vector<const onnx::NodeProto*> Interpreter::order(const std::string& output) const {
  enum State { open = 1, done = 2 };
  std::unordered_map<const onnx::NodeProto*, State> states;
  std::vector<const onnx::NodeProto*> nodes;
  struct Step {
    const onnx::NodeProto* node;
    int next_input;
  };
  std::vector<Step> steps;
  const auto enter = [&](const std::string& name) {
    const auto maker = makers_.find(name);
    if (maker == makers_.end()) return;
    const auto [place, added] = states.emplace(maker->second, open);
    if (added) return steps.push_back({maker->second, 0});
    if (place->second == open)
      throw Error(path_ + ": the graph goes round in a circle at \"" + shown(name) + "\"");
  };
  enter(output);
  while (!steps.empty()) {
    Step& step = steps.back();
    if (step.next_input < step.node->input_size()) {
      enter(step.node->input(step.next_input++));
      continue;
    }
    states[step.node] = done;
    nodes.push_back(step.node);
    steps.pop_back();
  }
  return nodes;
}

Value Interpreter::read_input(const onnx::ValueInfoProto& input) {
  const std::string place = path_ + ": input \"" + shown(input.name()) + "\"";
  if (!input.type().has_tensor_type()) throw Error(place + " is no tensor");
  const auto& tensor = input.type().tensor_type();
  Row row;
  row.type = static_cast<TensorProto::DataType>(tensor.elem_type());
  Tensor type;
  type.type = row.type;
  if (row.type != TensorProto::FLOAT && row.type != TensorProto::DOUBLE && row.type != TensorProto::STRING &&
      !type.is_whole())
    throw Error(place + " has the data type " + std::to_string(tensor.elem_type()) +
                ", and floats, doubles, integers and strings can be read");
  if (!tensor.has_shape() || tensor.shape().dim_size() == 0 || tensor.shape().dim_size() > 8)
    throw Error(place + " does not say its shape: export it with [rows, columns]");
  row.batch = batch_dimension(tensor.shape());
  std::int64_t count = 1;
  for (int i = 0; i < tensor.shape().dim_size(); ++i) {
    if (i == static_cast<int>(row.batch)) {
      row.shape.push_back(1);
      continue;
    }
    const auto& dimension = tensor.shape().dim(i);
    if (!dimension.has_dim_value() && tensor.shape().dim_size() > 2)
      throw Error(place + " has a dimension " + std::to_string(i) + " of no fixed size" +
                  (dimension.has_dim_param() ? ", \"" + shown(dimension.dim_param()) + "\"" : std::string()) +
                  ", beside that of the rows: export it with a fixed length of its sequences");
    if (!dimension.has_dim_value() || dimension.dim_value() < 1 || dimension.dim_value() > 65000 / count)
      throw Error(place + " has " +
                  (dimension.has_dim_value() ? std::to_string(dimension.dim_value()) + " values"
                                             : std::string("an unknown number of values")) +
                  " in dimension " + std::to_string(i) + ": export it with 1 to 65000 columns");
    row.shape.push_back(dimension.dim_value());
    count *= dimension.dim_value();
  }
  // A long name is written many times.
  const std::size_t cost = static_cast<std::size_t>(count) * (1 + input.name().size() / 16);
  if (cost > budget_) throw Error(place + " has too many columns");
  budget_ -= cost;
  const std::string prefix = inputs_.size() == 1 ? "f" : input.name() + "_";
  for (std::int64_t i = 0; i < count; ++i) {
    std::string name = count == 1 ? input.name() : prefix + std::to_string(i);
    if (count > 1 && row.shape.size() > 2) {
      name.clear();
      std::int64_t rest = i;
      for (std::size_t axis = row.shape.size(); axis-- > 0; rest /= row.shape[axis])
        if (axis != row.batch) name.insert(0, "[" + std::to_string(rest % row.shape[axis]) + "]");
      name.insert(0, input.name());
    }
    row.elements.push_back(program_.column(std::move(name)));
  }
  return std::make_shared<const Row>(std::move(row));
}

const Value* Interpreter::find(const std::string& name) {
  if (const auto known = values_.find(name); known != values_.end()) return &known->second;
  const auto constant = constants_.find(name);
  if (constant == constants_.end() || makers_.contains(name)) return nullptr;
  Value value = std::make_shared<const Tensor>(read_tensor(*constant->second));
  return &values_.emplace(name, std::move(value)).first->second;
}

void Interpreter::evaluate(const onnx::NodeProto& node) {
  try {
    std::vector<Value> inputs;
    bool known = true;
    for (const std::string& name : node.input()) {
      if (name.empty()) {
        inputs.emplace_back();
        continue;
      }
      if (!inputs_.contains(name) && !constants_.contains(name) && !makers_.contains(name))
        throw Unsupported("it reads \"" + shown(name) + "\", which nothing makes");
      if (const auto left_out = left_out_.find(name); left_out != left_out_.end())
        throw Unsupported("it reads " + left_out->second);
      const Value* value = find(name);
      known = known && value != nullptr && value->index() != 0;
      if (known) inputs.push_back(*value);
    }
    if (!known) {
      // Its inputs could not be made; that it could not be made either way is worth saying.
      return require_known(node);
    }
    std::vector<Value> made = evaluate_node(node, inputs, opset(node.domain()), program_, budget_);
    for (int i = 0; i < node.output_size() && i < static_cast<int>(made.size()); ++i) {
      Value& value = made[static_cast<std::size_t>(i)];
      std::size_t size = 0;
      if (const auto* tensor = std::get_if<std::shared_ptr<const Tensor>>(&value)) size = (*tensor)->size();
      if (const auto* row = std::get_if<std::shared_ptr<const Row>>(&value)) size = (*row)->elements.size();
      if (size > budget_) throw Unsupported("the model would grow far beyond its file");
      budget_ -= size;
      if (value.index() != 0) values_.emplace(node.output(i), std::move(value));
    }
    for (int i = 0; i < node.output_size() && is_recurrent(node); ++i)
      if (!node.output(i).empty() && !values_.contains(node.output(i)))
        left_out_.emplace(node.output(i), "\"" + shown(node.output(i)) + "\", the " +
                                              recurrent_output_name(static_cast<std::size_t>(i)) + " of a " +
                                              node.op_type() + ", which cannot be had here");
  } catch (const Unsupported& unsupported) {
    const std::string name = node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name();
    problems_.push_back(shown(node.op_type()) + " \"" + shown(name) + "\": " + unsupported.what());
  }
}

void Interpreter::add_class_names(std::size_t classes, ImportedModel& model) const {
  for (auto node = needed_.rbegin(); node != needed_.rend(); ++node)
    for (const auto& attribute : (*node)->attribute()) {
      if (attribute.name().rfind("classlabels", 0) != 0) continue;
      std::vector<std::string> names;
      for (const std::string& name : attribute.strings()) names.push_back(shown(name));
      for (const std::int64_t name : attribute.ints()) names.push_back(std::to_string(name));
      if (names.size() != classes || classes > 100) continue;
      std::string text = "the classes are, in this order: ";
      for (std::size_t i = 0; i < names.size(); ++i) text += (i > 0 ? ", " : "") + names[i];
      model.remarks.push_back(std::move(text));
      return;
    }
}

ImportedModel Interpreter::import() {
  index_names();
  const onnx::ValueInfoProto& chosen = chosen_output();
  std::string output = chosen.name();
  if (is_label(chosen)) {
    output = label_source(output);
    if (output.empty())
      throw Error(path_ + ": has no output of numbers, only \"" + shown(chosen.name()) +
                  "\": export it with its probabilities or scores");
    remarks_.push_back("the scores that the label \"" + shown(chosen.name()) + "\" is chosen by were taken");
  }

  needed_ = order(output);
  // Columns in the order of the inputs; those that nothing reads are left out.
  std::set<std::string> read = {output};
  for (const onnx::NodeProto* node : needed_) read.insert(node->input().begin(), node->input().end());
  for (const auto& input : model_.graph().input()) {
    if (!inputs_.contains(input.name()) || values_.contains(input.name())) continue;
    if (read.contains(input.name()))
      values_.emplace(input.name(), read_input(input));
    else
      remarks_.push_back("the input \"" + shown(input.name()) + "\" was left out: nothing reads it");
  }
  for (const onnx::NodeProto* node : needed_) evaluate(*node);

  ImportedModel model;
  model.format = format();
  model.remarks = std::move(remarks_);
  if (const auto left_out = left_out_.find(output); left_out != left_out_.end())
    problems_.push_back("the model's output is " + left_out->second);
  if (problems_.empty()) {
    const auto value = values_.find(output);
    const auto* found =
        value == values_.end() ? nullptr : std::get_if<std::shared_ptr<const Row>>(&value->second);
    if (found == nullptr)
      throw Error(path_ + ": the output \"" + shown(output) + "\" does not depend on the inputs");
    const Row& row = **found;
    if (row.elements.empty() || row.type == TensorProto::STRING)
      throw Error(path_ + ": the output \"" + shown(output) + "\" has no numbers");
    if (row.is_joined())
      throw Error(path_ + ": the output \"" + shown(output) + "\" mixes the rows: it has " +
                  std::to_string(row.shape[row.batch]) + " for each row of the inputs");
    const bool has_labels =
        std::any_of(model_.graph().output().begin(), model_.graph().output().end(), is_label);
    std::vector<Scalar> outputs = row.elements;
    if (row.of_classes || has_labels) add_class_names(outputs.size(), model);
    if (outputs.size() == 2 && (row.of_classes || has_labels)) {
      outputs = {outputs[1]};
      model.task = shown(output) + ": the second of two classes";
    } else if (row.of_classes) {
      model.task = shown(output) + ": " + std::to_string(outputs.size()) + " classes";
    } else {
      model.task = shown(output);
    }
    try {
      program_.finish(outputs, model);
    } catch (const Unsupported& unsupported) {
      problems_.push_back("output \"" + shown(output) + "\": " + unsupported.what());
    }
  }
  if (!problems_.empty()) {
    std::string text = path_ + ": cannot be imported because of " + std::to_string(problems_.size()) +
                       (problems_.size() == 1 ? " node: " : " nodes: ");
    for (std::size_t i = 0; i < problems_.size(); ++i) text += (i > 0 ? "; " : "") + problems_[i];
    throw Error(text);
  }
  return model;
}

}  // namespace
}  // namespace onnx_import

ImportedModel import_onnx(std::string_view bytes, const std::string& path) {
  const onnx::ModelProto model = onnx_import::parse(bytes, path);
  return onnx_import::Interpreter(model, bytes.size(), path).import();
}

}  // namespace tonearm
