// LSTM, GRU and RNN nodes become recurrent operators that compute what the specification says, which is
// written down here once more, in float64; and what has no counterpart is refused by its name.

#include <algorithm>
#include <functional>

#include "base/random.h"
#include "import_onnx_graphs.h"

namespace tonearm {
namespace {

// --- The specification ----------------------------------------------------------------------------------

struct Network {
  std::string op = "LSTM", direction = "forward";
  std::int64_t width = 3, units = 5, layout = 0, before_reset = 0;
  bool relu = false, biased = true;
  Floats w = {}, r = {}, b = {};

  std::int64_t gates() const { return op == "LSTM" ? 4 : op == "GRU" ? 3 : 1; }
  std::int64_t directions() const { return direction == "bidirectional" ? 2 : 1; }
};

Network network(std::uint64_t seed, Network made) {
  Random random(seed);
  const auto fill = [&](Floats& values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
      values.push_back(static_cast<float>(random.below(2001)) / 1000 - 1);
  };
  fill(made.w, made.directions() * made.gates() * made.units * made.width);
  fill(made.r, made.directions() * made.gates() * made.units * made.units);
  fill(made.b, made.directions() * made.gates() * made.units * 2);
  return made;
}

struct States {
  std::vector<double> all, last;  // Y: steps, directions, units; Y_h: directions, units
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

States run(const Network& net, const std::vector<double>& x, std::size_t steps, std::size_t length) {
  const auto units = static_cast<std::size_t>(net.units), width = static_cast<std::size_t>(net.width),
             gates = static_cast<std::size_t>(net.gates()),
             directions = static_cast<std::size_t>(net.directions());
  States states;
  states.all.assign(steps * directions * units, 0);
  for (std::size_t d = 0; d < directions; ++d) {
    std::vector<double> h(units, 0), c(units, 0);
    for (std::size_t n = 0; n < length; ++n) {
      const std::size_t step = net.direction == "reverse" || d == 1 ? length - 1 - n : n;
      // Of gate g of a unit: the part of the input and that of the state.
      const auto from_input = [&](std::size_t g, std::size_t u) {
        const std::size_t row = (d * gates + g) * units + u;
        double sum = net.biased ? double{net.b[(d * 2 * gates + g) * units + u]} : 0;
        for (std::size_t j = 0; j < width; ++j) sum += double{net.w[row * width + j]} * x[step * width + j];
        return sum;
      };
      const auto from_state = [&](std::size_t g, std::size_t u, const std::vector<double>& of) {
        const std::size_t row = (d * gates + g) * units + u;
        double sum = net.biased ? double{net.b[((d * 2 + 1) * gates + g) * units + u]} : 0;
        for (std::size_t j = 0; j < units; ++j) sum += double{net.r[row * units + j]} * of[j];
        return sum;
      };
      const auto gate = [&](std::size_t g, std::size_t u) { return from_input(g, u) + from_state(g, u, h); };
      std::vector<double> next(units), reset(units);
      for (std::size_t u = 0; u < units && net.op == "GRU"; ++u) reset[u] = sigmoid(gate(1, u)) * h[u];
      for (std::size_t u = 0; u < units; ++u) {
        if (net.op == "LSTM") {  // i, o, f, c
          c[u] = sigmoid(gate(2, u)) * c[u] + sigmoid(gate(0, u)) * std::tanh(gate(3, u));
          next[u] = sigmoid(gate(1, u)) * std::tanh(c[u]);
        } else if (net.op == "GRU") {  // z, r, h
          const double z = sigmoid(gate(0, u));
          const double state =
              net.before_reset != 0 ? sigmoid(gate(1, u)) * from_state(2, u, h) : from_state(2, u, reset);
          next[u] = (1 - z) * std::tanh(from_input(2, u) + state) + z * h[u];
        } else {
          next[u] = net.relu ? std::max(gate(0, u), 0.0) : std::tanh(gate(0, u));
        }
      }
      h = next;
      std::copy(h.begin(), h.end(),
                states.all.begin() + static_cast<std::ptrdiff_t>((step * directions + d) * units));
    }
    states.last.insert(states.last.end(), h.begin(), h.end());
  }
  return states;
}

std::vector<double> run_all(const Network& net, const std::vector<double>& x, std::size_t steps) {
  return run(net, x, steps, steps).all;
}

// --- Graphs ---------------------------------------------------------------------------------------------

/// Adds the node with its weights; `name` precedes theirs.
NodeBuilder add(Graph& graph, const std::string& name, const Network& net, const std::string& x,
                const Texts& outputs, const Texts& states = {}) {
  const std::int64_t rows = net.gates() * net.units;
  graph.constant(name + "W", {net.directions(), rows, net.width}, net.w);
  graph.constant(name + "R", {net.directions(), rows, net.units}, net.r);
  if (net.biased) graph.constant(name + "B", {net.directions(), 2 * rows}, net.b);
  Texts inputs = {x, name + "W", name + "R", net.biased ? name + "B" : ""};
  inputs.insert(inputs.end(), states.begin(), states.end());
  NodeBuilder node = graph.node(net.op, inputs, outputs);
  node.integer("hidden_size", net.units);
  if (net.direction != "forward") node.text("direction", net.direction);
  if (net.layout != 0) node.integer("layout", net.layout);
  if (net.before_reset != 0) node.integer("linear_before_reset", net.before_reset);
  if (net.relu) node.texts("activations", Texts(static_cast<std::size_t>(net.directions()), "Relu"));
  return node;
}

constexpr std::int64_t steps = 4;

/// A graph over "X", [steps, rows, width] or with layout 1 [rows, steps, width], that gives Y or Y_h.
Graph graph_of(const Network& net, const Texts& outputs = {"Y"}, const Texts& states = {}) {
  Graph graph(0);
  graph.input("X", net.layout == 0 ? Ints{steps, 0, net.width} : Ints{0, steps, net.width});
  add(graph, "", net, "X", outputs, states);
  return graph;
}

std::vector<Floats> rows_of(std::size_t count, std::size_t width, std::uint64_t seed = 7) {
  Random random(seed);
  std::vector<Floats> rows(count, Floats(width));
  for (Floats& row : rows)
    for (float& value : row) value = static_cast<float>(random.below(4001)) / 1000 - 2;
  std::fill(rows.front().begin(), rows.front().end(), 0.0f);
  return rows;
}

std::vector<double> wide(const Floats& row) { return {row.begin(), row.end()}; }

using Expected = std::function<std::vector<double>(const std::vector<double>&)>;

void expect_near(float found, double wanted) {
  EXPECT_NEAR(double{found}, wanted, 2e-6 * std::max(1.0, std::abs(wanted)));
}

/// Compares rows of `width` with what a function of the row says.
void expect_values(const Graph& graph, std::size_t width, const Expected& expected) {
  const Blob blob = blob_of(import(graph));
  for (const Floats& row : rows_of(4, width)) {
    const std::vector<double> wanted = expected(wide(row));
    const Floats found = evaluate(blob, {row});
    ASSERT_EQ(found.size(), wanted.size());
    for (std::size_t i = 0; i < found.size(); ++i) expect_near(found[i], wanted[i]);
  }
}

std::vector<const schema::RecurrentT*> recurrent_of(const schema::ModelT& model) {
  std::vector<const schema::RecurrentT*> found;
  for (const auto& op : model.operators)
    if (const auto* recurrent = op->kind.AsRecurrent(); recurrent != nullptr) found.push_back(recurrent);
  return found;
}

std::vector<Network> all_networks() {
  std::vector<Network> made;
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const char* direction : {"forward", "reverse", "bidirectional"})
      for (const std::int64_t layout : {0, 1})
        for (const bool changed : {false, true}) {
          Network net{op, direction};
          net.layout = layout;
          net.before_reset = changed && net.op == "GRU" ? 1 : 0;
          net.relu = changed && net.op == "RNN";
          net.biased = !changed || net.op != "LSTM";
          made.push_back(network(made.size() + 1, net));
        }
  return made;
}

// --- Nodes ----------------------------------------------------------------------------------------------

TEST(ImportOnnxRecurrent, EveryNodeInEveryDirectionAndLayout) {
  for (const Network& net : all_networks()) {
    SCOPED_TRACE(net.op + " " + net.direction + " layout " + std::to_string(net.layout));
    expect_values(graph_of(net), steps * 3,
                  [&](const std::vector<double>& x) { return run_all(net, x, steps); });
    expect_values(graph_of(net, {"", "Y"}), steps * 3,
                  [&](const std::vector<double>& x) { return run(net, x, steps, steps).last; });
  }
}

TEST(ImportOnnxRecurrent, SequenceLengthsAreAColumn) {
  for (const Network& net : all_networks())
    for (const bool last : {false, true}) {
      SCOPED_TRACE(net.op + " " + net.direction);
      Graph graph = graph_of(net, last ? Texts{"", "Y"} : Texts{"Y"}, {"lengths"});
      graph.input("lengths", Ints{0}, TensorProto::INT32);
      const Blob blob = blob_of(import(graph));
      for (Floats row : rows_of(3, steps * 3))
        for (const std::size_t length : {0u, 1u, 3u, 4u}) {
          const States wanted = run(net, wide(row), steps, length);
          Floats with = row;
          with.push_back(static_cast<float>(length));
          const Floats found = evaluate(blob, {with});
          ASSERT_EQ(found.size(), (last ? wanted.last : wanted.all).size());
          for (std::size_t i = 0; i < found.size(); ++i)
            expect_near(found[i], (last ? wanted.last : wanted.all)[i]);
        }
    }
}

TEST(ImportOnnxRecurrent, AConstantLengthIsAllSteps) {
  const Network net = network(1, {});
  Graph full = graph_of(net, {"Y"}, {"lengths"});
  full.whole("lengths", {4});
  expect_values(full, 12, [&](const std::vector<double>& x) { return run_all(net, x, steps); });
  Graph shorter = graph_of(net, {"Y"}, {"lengths"});
  shorter.whole("lengths", {3});
  expect_error(shorter, "LSTM \"the LSTM\": sequence_lens is 3 for all rows, of 4 steps");
}

TEST(ImportOnnxRecurrent, MissingInputsCountAsZero) {
  const Network net = network(2, {});
  const Blob blob = blob_of(import(graph_of(net)));
  Floats row = rows_of(2, 12)[1];
  row[4] = row[11] = 0;
  const Floats zeros = evaluate(blob, {row});
  row[4] = missing;
  row[11] = infinity;
  EXPECT_EQ(evaluate(blob, {row}), zeros);
  EXPECT_NE(import(graph_of(net)).remarks.back().find("missing input of a recurrent layer counts as 0"),
            std::string::npos);
}

// --- As exporters write them ------------------------------------------------------------------------------

TEST(ImportOnnxRecurrent, ColumnsAreNamedByStepAndValue) {
  const auto names = [](const Graph& graph) {
    Texts found;
    for (const ImportedColumn& column : import(graph).columns) found.push_back(column.name);
    return found;
  };
  const Texts expected = {"X[0][0]", "X[0][1]", "X[0][2]", "X[1][0]", "X[1][1]", "X[1][2]",
                          "X[2][0]", "X[2][1]", "X[2][2]", "X[3][0]", "X[3][1]", "X[3][2]"};
  Network net = network(3, {});
  EXPECT_EQ(names(graph_of(net)), expected);
  net.layout = 1;
  EXPECT_EQ(names(graph_of(net)), expected);
}

TEST(ImportOnnxRecurrent, ExportsForOneRowAreRead) {
  const Network net = network(3, {});
  Graph graph(0);
  graph.input("X", Ints{steps, 1, 3});
  add(graph, "", net, "X", {"Y"});
  expect_values(graph, 12, [&](const std::vector<double>& x) { return run_all(net, x, steps); });
}

TEST(ImportOnnxRecurrent, SequencesNeedAFixedLength) {
  Graph graph(0);
  graph.input("X", Ints{0, -1, 3});
  graph.node("Transpose", {"X"}, {"x"}).ints("perm", {1, 0, 2});
  add(graph, "", network(1, {}), "x", {"Y"});
  expect_error(graph,
               "input \"X\" has a dimension 1 of no fixed size, \"time\", beside that of the rows: export it "
               "with a fixed length of its sequences");
  Graph fixed(0);
  fixed.input("X", Ints{0, steps, 3});
  add(fixed, "", network(1, {}), "X", {"Y"});
  expect_error(fixed,
               "X has the shape [1, 4, 3], of which dimension 0 is the rows, and [steps, rows, values]");
}

/// As PyTorch writes it: the states' shape is computed from the input's, all layers' states are one tensor.
TEST(ImportOnnxRecurrent, PyTorchsBidirectionalLayersAreOneOperator) {
  Network first{"GRU", "bidirectional"}, second{"GRU", "bidirectional"};
  first.before_reset = second.before_reset = 1;
  second.width = 10;
  first = network(1, first);
  second = network(2, second);
  Graph graph(0);
  graph.input("X", Ints{0, steps, 3});
  graph.whole("four", {4}).whole("five", {5}).whole("zero", {0}).whole("two", {2}).whole("join", {0, 0, -1});
  graph.node("Shape", {"X"}, {"s"});
  graph.node("Gather", {"s", "zero"}, {"n"}).integer("axis", 0);
  graph.node("Concat", {"four", "n", "five"}, {"all"}).integer("axis", 0);
  graph.node("ConstantOfShape", {"all"}, {"states"});
  graph.node("Slice", {"states", "zero", "two", "zero"}, {"h1"});
  graph.node("Slice", {"states", "two", "four", "zero"}, {"h2"});
  graph.node("Transpose", {"X"}, {"x"}).ints("perm", {1, 0, 2});
  add(graph, "1", first, "x", {"y1", "l1"}, {"", "h1"});
  graph.node("Transpose", {"y1"}, {"t1"}).ints("perm", {0, 2, 1, 3});
  graph.node("Reshape", {"t1", "join"}, {"j1"});
  add(graph, "2", second, "j1", {"y2", "l2"}, {"", "h2"});
  graph.node("Transpose", {"y2"}, {"t2"}).ints("perm", {0, 2, 1, 3});
  graph.node("Reshape", {"t2", "join"}, {"j2"});
  graph.node("Transpose", {"j2"}, {"rows"}).ints("perm", {1, 0, 2});
  graph.whole("last", {-1}).whole("one", {1});
  graph.node("Gather", {"rows", "last"}, {"g"}).integer("axis", 1);
  graph.node("Squeeze", {"g", "one"}, {"Y"});
  expect_values(graph, 12, [&](const std::vector<double>& x) {
    const std::vector<double> all = run_all(second, run_all(first, x, steps), steps);
    return std::vector<double>(all.end() - 10, all.end());
  });
  const schema::ModelT model = model_of(import(graph));
  ASSERT_EQ(recurrent_of(model).size(), 1u);
  EXPECT_EQ(recurrent_of(model)[0]->layers.size(), 4u);
  EXPECT_TRUE(recurrent_of(model)[0]->all_steps);  // the backward state of the last step is none of the last
}

TEST(ImportOnnxRecurrent, OnlyTheLastStatesAreWrittenWhereNoOthersAreRead) {
  const Network net = network(1, {});
  Graph graph = graph_of(net, {"y"});
  graph.whole("from", {-1}).whole("to", {9223372036854775807}).whole("axis", {0}).whole("axes", {0, 1});
  graph.node("Slice", {"y", "from", "to", "axis"}, {"last"});
  graph.node("Squeeze", {"last", "axes"}, {"Y"});
  expect_values(graph, 12, [&](const std::vector<double>& x) { return run(net, x, steps, steps).last; });
  const schema::ModelT model = model_of(import(graph));
  ASSERT_EQ(model.operators.size(), 1u);
  EXPECT_FALSE(recurrent_of(model)[0]->all_steps);
  EXPECT_EQ(model.output_length, 5);
}

/// The backward states of the first step and the forward ones of the second are side by side, and all last.
TEST(ImportOnnxRecurrent, LastStatesOfBothDirectionsKeepTheirOrder) {
  const Network net = network(1, {"LSTM", "bidirectional"});
  Graph graph(0);
  graph.input("X", Ints{2, 0, 3});
  add(graph, "", net, "X", {"y"});
  graph.whole("flat", {0, 0, 20})
      .whole("from", {5})
      .whole("to", {15})
      .whole("axis", {1})
      .whole("rows", {-1, 20});
  graph.node("Transpose", {"y"}, {"t"}).ints("perm", {2, 0, 1, 3});
  graph.node("Reshape", {"t", "rows"}, {"f"});
  graph.node("Slice", {"f", "from", "to", "axis"}, {"Y"});
  expect_values(graph, 6, [&](const std::vector<double>& x) {
    const std::vector<double> all = run_all(net, x, 2);
    return std::vector<double>(all.begin() + 5, all.begin() + 15);
  });
}

/// As tf2onnx writes Keras: casts of shapes, Expand, one slice for each direction, a reversed sequence.
TEST(ImportOnnxRecurrent, StatesOfZerosMayBeMadeInAnyWay) {
  const Network net = network(4, {"LSTM", "bidirectional"});
  const auto expected = [&](const std::vector<double>& x) { return run_all(net, x, steps); };
  const auto with_states = [&](const std::function<void(Graph&)>& make) {
    Graph graph(0);
    graph.input("X", Ints{0, steps, 3});
    graph.whole("zero", {0})
        .whole("one", {1})
        .whole("two", {2})
        .whole("five", {5})
        .constant("nothing", {}, {0});
    graph.node("Transpose", {"X"}, {"x"}).ints("perm", {1, 0, 2});
    graph.node("Shape", {"X"}, {"s"});
    make(graph);
    add(graph, "", net, "x", {"Y"}, {"", "h", "h"});
    expect_values(graph, 12, expected);
  };
  with_states([](Graph& graph) {
    graph.node("Cast", {"s"}, {"c"}).integer("to", TensorProto::INT32);
    graph.node("Slice", {"c", "zero", "one", "zero"}, {"n"});
    graph.node("Concat", {"n", "five"}, {"p"}).integer("axis", 0);
    graph.node("Cast", {"p"}, {"q"}).integer("to", TensorProto::INT64);
    graph.node("Expand", {"nothing", "q"}, {"e"});
    graph.node("Unsqueeze", {"e", "zero"}, {"u"});
    graph.node("Concat", {"u", "u"}, {"h"}).integer("axis", 0);
  });
  with_states([](Graph& graph) {  // expand() of PyTorch, where -1 stands for a size that stays
    graph.node("Slice", {"s", "zero", "one"}, {"n"});
    graph.node("Concat", {"two", "n", "five"}, {"shape"}).integer("axis", 0);
    graph.whole("three", {3}).whole("minus", {-1, -1, -1}).constant("zeros", {2, 1, 5}, Floats(10, 0));
    graph.whole("ones", {1, 1, 1});
    graph.node("Equal", {"shape", "minus"}, {"kept"});
    graph.node("Where", {"kept", "ones", "shape"}, {"full"});
    graph.node("Expand", {"zeros", "full"}, {"h"});
  });
  with_states([](Graph& graph) {
    graph.constant("unit", {1, 1, 1}, {0});
    graph.node("Gather", {"s", "zero"}, {"n"}).integer("axis", 0);
    graph.node("Concat", {"two", "n", "five"}, {"times"}).integer("axis", 0);
    graph.node("Tile", {"unit", "times"}, {"h"});
  });
  with_states([](Graph& graph) {  // as a product that is 0
    graph.constant("a", {2, 1, 3}, Floats(6, 0)).constant("b", {3, 5}, Floats(15, 1));
    graph.node("MatMul", {"a", "b"}, {"h"});
  });
}

TEST(ImportOnnxRecurrent, AReversedSequenceIsABackwardLayer) {
  Network net = network(4, {});
  Graph graph(0);
  graph.input("X", Ints{steps, 0, 3});
  graph.whole("time", {4}).whole("zero", {0}).whole("one", {1}).whole("two", {2});
  graph.node("Shape", {"X"}, {"s"});
  graph.node("Slice", {"s", "one", "two"}, {"n"});
  graph.node("Expand", {"time", "n"}, {"lengths"});
  graph.node("ReverseSequence", {"X", "lengths"}, {"x"}).integer("time_axis", 0).integer("batch_axis", 1);
  add(graph, "", net, "x", {"", "Y"});
  net.direction = "reverse";
  expect_values(graph, 12, [&](const std::vector<double>& x) { return run(net, x, steps, steps).last; });
}

/// y' = factor * y + bias, then a dense layer with tanh for each step, then another recurrent layer.
TEST(ImportOnnxRecurrent, NormalisedAndDenseStepsFollow) {
  const Network first = network(5, {});
  Network second{"GRU"};
  second.width = 2;
  second = network(6, second);
  const Floats factor = {1, .5f, 2, -1, 3}, bias = {0, 1, .5f, 0, -2};
  const Floats weights = {.5f, -.25f, 1, .125f, -1, .75f, .25f, .5f, -.5f, 1};  // 5 x 2
  const auto expected = [&](const std::vector<double>& x) {
    const std::vector<double> y = run_all(first, x, steps);
    std::vector<double> dense;
    for (std::size_t step = 0; step < steps; ++step)
      for (std::size_t o = 0; o < 2; ++o) {
        double sum = .25;
        for (std::size_t u = 0; u < 5; ++u)
          sum += double{weights[u * 2 + o]} * (double{factor[u]} * y[step * 5 + u] + double{bias[u]});
        dense.push_back(std::tanh(sum));
      }
    return run(second, dense, steps, steps).last;
  };
  for (const bool joined : {false, true}) {
    Graph graph(0);
    graph.input("X", Ints{steps, 0, 3});
    graph.whole("one", {1}).whole("rows", {-1, 5}).whole("apart", {-1, 4, 2});
    graph.constant("factor", {5}, factor).constant("bias", {5}, bias);
    graph.constant("weights", {5, 2}, weights).constant("quarter", {2}, {.25f, .25f});
    add(graph, "1", first, "X", {"y"});
    graph.node("Squeeze", {"y", "one"}, {"q"});
    graph.node("Mul", {"q", "factor"}, {"f"});
    graph.node("Add", {"f", "bias"}, {"b"});
    graph.node("Transpose", {"b"}, {"t"}).ints("perm", {1, 0, 2});
    if (joined) graph.node("Reshape", {"t", "rows"}, {"r"});  // every step a row, as Keras's Dense does
    graph.node("MatMul", {joined ? "r" : "t", "weights"}, {"m"});
    graph.node("Add", {"m", "quarter"}, {"p"});
    graph.node("Tanh", {"p"}, {"a"});
    if (joined) graph.node("Reshape", {"a", "apart"}, {"d"});
    graph.node("Transpose", {joined ? "d" : "a"}, {"x2"}).ints("perm", {1, 0, 2});
    add(graph, "2", second, "x2", {"", "Y"});
    expect_values(graph, 12, expected);
  }
}

TEST(ImportOnnxRecurrent, BatchNormalisationFoldsIntoTheNextLayer) {
  const Network first = network(5, {});
  Network second;
  second.width = 5;
  second = network(6, second);
  const Floats scale = {1, 2, .5f, 1, 1}, bias = {0, 1, 0, -1, .5f}, mean = {.1f, 0, -.2f, 0, .3f},
               variance = {1, .25f, .5f, 2, 1};
  Graph graph(0);
  graph.input("X", Ints{steps, 0, 3});
  graph.whole("one", {1});
  graph.constant("s", {5}, scale)
      .constant("b", {5}, bias)
      .constant("m", {5}, mean)
      .constant("v", {5}, variance);
  add(graph, "1", first, "X", {"y"});
  graph.node("Squeeze", {"y", "one"}, {"q"});
  graph.node("Transpose", {"q"}, {"channels"}).ints("perm", {1, 2, 0});
  graph.node("BatchNormalization", {"channels", "s", "b", "m", "v"}, {"n"});
  graph.node("Transpose", {"n"}, {"x2"}).ints("perm", {2, 0, 1});
  add(graph, "2", second, "x2", {"", "Y"});
  expect_values(graph, 12, [&](const std::vector<double>& x) {
    std::vector<double> y = run_all(first, x, steps);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t c = i % 5;
      y[i] = (y[i] - double{mean[c]}) / std::sqrt(double{variance[c]} + 1e-5) * double{scale[c]} +
             double{bias[c]};
    }
    return run(second, y, steps, steps).last;
  });
  const schema::ModelT model = model_of(import(graph));
  EXPECT_EQ(model.operators.size(), 1u);
  EXPECT_EQ(recurrent_of(model)[0]->layers.size(), 2u);
}

/// What differs from step to step is no weight of the next layer.
TEST(ImportOnnxRecurrent, StepsMayBeScaledOneByOne) {
  const Network first = network(5, {});
  Network second;
  second.width = 5;
  second = network(6, second);
  const Floats factor = {1, 2, 3, 4};
  Graph graph(0);
  graph.input("X", Ints{steps, 0, 3});
  graph.whole("one", {1}).constant("factor", {4, 1, 1}, factor);
  add(graph, "1", first, "X", {"y"});
  graph.node("Squeeze", {"y", "one"}, {"q"});
  graph.node("Mul", {"q", "factor"}, {"x2"});
  add(graph, "2", second, "x2", {"", "Y"});
  expect_values(graph, 12, [&](const std::vector<double>& x) {
    std::vector<double> y = run_all(first, x, steps);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] *= double{factor[i / 5]};
    return run(second, y, steps, steps).last;
  });
}

/// Two sequences and a row, a network each, joined: the second system of many papers on skips.
TEST(ImportOnnxRecurrent, BranchesWithInputsOfTheirOwnAreJoined) {
  const Network logs = network(1, {}), tracks = network(2, {"GRU", "bidirectional"});
  Graph graph(0);
  graph.input("logs", Ints{0, steps, 3}).input("tracks", Ints{0, 2, 3}).input("last", 2);
  graph.whole("zero", {0}).whole("flat", {0, -1});
  graph.node("Transpose", {"logs"}, {"a"}).ints("perm", {1, 0, 2});
  graph.node("Transpose", {"tracks"}, {"b"}).ints("perm", {1, 0, 2});
  add(graph, "a", logs, "a", {"", "ah"});
  add(graph, "b", tracks, "b", {"", "bh"});
  graph.node("Squeeze", {"ah", "zero"}, {"as"});
  graph.node("Transpose", {"bh"}, {"bt"}).ints("perm", {1, 0, 2});
  graph.node("Reshape", {"bt", "flat"}, {"bs"});
  graph.node("Concat", {"as", "bs", "last"}, {"joined"}).integer("axis", 1);
  Floats weights(17);
  for (std::size_t i = 0; i < 17; ++i) weights[i] = static_cast<float>(i) / 8 - 1;
  graph.constant("w", {17, 1}, weights);
  graph.node("MatMul", {"joined", "w"}, {"Y"});
  expect_values(graph, 20, [&](const std::vector<double>& x) {
    std::vector<double> joined = run(logs, {x.begin(), x.begin() + 12}, 4, 4).last;
    const std::vector<double> other = run(tracks, {x.begin() + 12, x.begin() + 18}, 2, 2).last;
    joined.insert(joined.end(), other.begin(), other.end());
    joined.insert(joined.end(), x.begin() + 18, x.end());
    double sum = 0;
    for (std::size_t i = 0; i < 17; ++i) sum += double{weights[i]} * joined[i];
    return std::vector<double>{sum};
  });
  EXPECT_EQ(import(graph).columns[12].name, "tracks[0][0]");
  EXPECT_EQ(import(graph).columns[18].name, "last_0");
}

/// A missing column beside values of a layer takes none of these with it.
TEST(ImportOnnxRecurrent, StepsMayMixLayersAndColumns) {
  const Network first = network(1, {});
  Network second;
  second.width = 6;
  second = network(2, second);
  Graph graph(0);
  graph.input("X", Ints{steps, 0, 3}).input("more", Ints{steps, 0, 1});
  graph.whole("one", {1});
  add(graph, "1", first, "X", {"y"});
  graph.node("Squeeze", {"y", "one"}, {"q"});
  graph.node("Concat", {"q", "more"}, {"x2"}).integer("axis", 2);
  add(graph, "2", second, "x2", {"", "Y"});
  const Expected expected = [&](const std::vector<double>& x) {
    const std::vector<double> y = run_all(first, {x.begin(), x.begin() + 12}, steps);
    std::vector<double> both;
    for (std::size_t step = 0; step < steps; ++step) {
      both.insert(both.end(), y.begin() + static_cast<std::ptrdiff_t>(step * 5),
                  y.begin() + static_cast<std::ptrdiff_t>(step * 5 + 5));
      both.push_back(x[12 + step]);
    }
    return run(second, both, steps, steps).last;
  };
  expect_values(graph, 16, expected);
  Floats row = rows_of(2, 16)[1];
  row[13] = 0;
  const Blob blob = blob_of(import(graph));
  const Floats zero = evaluate(blob, {row});
  row[13] = missing;
  EXPECT_EQ(evaluate(blob, {row}), zero);
}

TEST(ImportOnnxRecurrent, LevelsWithOtherLengthsStayApart) {
  const Network first = network(1, {});
  Network second;
  second.width = 5;
  second = network(2, second);
  for (const bool same : {false, true}) {
    Graph graph(0);
    graph.input("X", Ints{steps, 0, 3}).input("lengths", Ints{0}, TensorProto::INT64);
    graph.whole("one", {1});
    add(graph, "1", first, "X", {"y"}, {"lengths"});
    graph.node("Squeeze", {"y", "one"}, {"q"});
    add(graph, "2", second, "q", {"", "Y"}, {same ? "lengths" : ""});
    const schema::ModelT model = model_of(import(graph));
    EXPECT_EQ(recurrent_of(model).size(), same ? 1u : 2u);
    const Blob blob = blob_of(import(graph));
    Floats row = rows_of(2, 12)[1];
    row.push_back(3);
    const std::vector<double> y = run(first, wide(Floats(row.begin(), row.end() - 1)), steps, 3).all;
    const std::vector<double> wanted = run(second, y, steps, same ? 3 : 4).last;
    const Floats found = evaluate(blob, {row});
    for (std::size_t i = 0; i < 5; ++i) expect_near(found[i], wanted[i]);
  }
}

// --- What is refused --------------------------------------------------------------------------------------

/// The error of a sound node after a change.
std::string changed(const Network& net, const std::function<void(NodeBuilder&)>& change,
                    const Texts& states = {}, const std::function<void(Graph&)>& more = {}) {
  Graph graph(0);
  graph.input("X", Ints{steps, 0, 3});
  if (more) more(graph);
  NodeBuilder node = add(graph, "", net, "X", {"Y"}, states);
  if (change) change(node);
  return error_of(graph);
}

void expect_part(const std::string& error, const std::string& part) {
  EXPECT_NE(error.find(part), std::string::npos) << "found: " << error;
}

TEST(ImportOnnxRecurrent, AttributesWithoutCounterpartAreNamed) {
  const Network lstm = network(1, {}), gru = network(1, {"GRU"}), rnn = network(1, {"RNN"});
  ASSERT_EQ(changed(lstm, {}), "");
  expect_part(changed(lstm, [](NodeBuilder& node) { node.number("clip", 3); }),
              "LSTM \"the LSTM\": its clip is 3");
  expect_part(changed(lstm, [](NodeBuilder& node) { node.integer("input_forget", 1); }),
              "input_forget is set");
  expect_part(changed(rnn, [](NodeBuilder& node) { node.floats("activation_alpha", {1}); }),
              "RNN \"the RNN\": it has an activation_alpha");
  expect_part(changed(rnn, [](NodeBuilder& node) { node.floats("activation_beta", {1}); }),
              "activation_beta");
  expect_part(changed(lstm,
                      [](NodeBuilder& node) {
                        node.texts("activations", {"Sigmoid", "Tanh", "Relu"});
                      }),
              "among its activations is Relu");
  expect_part(changed(gru,
                      [](NodeBuilder& node) {
                        node.texts("activations", {"HardSigmoid", "Tanh"});
                      }),
              "GRU \"the GRU\": among its activations is HardSigmoid");
  expect_part(changed(rnn, [](NodeBuilder& node) { node.texts("activations", {"Softsign"}); }),
              "among its activations is Softsign, and only the defaults and Relu are known");
  expect_part(changed(rnn,
                      [](NodeBuilder& node) {
                        node.texts("activations", {"Tanh", "Tanh"});
                      }),
              "it has 2 activations, and 1 are expected");
  expect_part(changed(rnn, [](NodeBuilder& node) { node.text("direction", "sideways"); }),
              "its direction is sideways");
  expect_part(changed(rnn, [](NodeBuilder& node) { node.integer("layout", 2); }), "its layout is 2");
  Graph wrong = graph_of(lstm);
  for (AttributeProto& attribute : *wrong.graph().mutable_node(0)->mutable_attribute()) attribute.set_i(6);
  expect_error(wrong, "its hidden_size is 6");
  // Those that say the default are none.
  EXPECT_EQ(changed(lstm,
                    [](NodeBuilder& node) {
                      node.texts("activations", {"Sigmoid", "Tanh", "tanh"});
                      node.integer("input_forget", 0);
                    }),
            "");
}

TEST(ImportOnnxRecurrent, InputsWithoutCounterpartAreNamed) {
  const Network net = network(1, {});
  expect_part(changed(net, {}, {"", "h"},
                      [](Graph& graph) {
                        graph.constant("h", {1, 1, 5}, Floats(5, .5f));
                      }),
              "initial_h has the value 0.5, and only states of 0 are possible");
  expect_part(changed(net, {}, {"", "", "c"},
                      [](Graph& graph) {
                        graph.constant("c", {1, 1, 5}, Floats(5, 1));
                      }),
              "initial_c has the value 1");
  expect_part(changed(net, {}, {"", "h"},
                      [](Graph& graph) {
                        graph.input("h", Ints{1, 0, 5});
                      }),
              "initial_h comes from the inputs");
  expect_part(changed(net, {}, {"", "", "", "p"},
                      [](Graph& graph) {
                        graph.constant("p", {1, 15}, Floats(15, 0));
                      }),
              "it has peepholes, P");
  expect_part(changed(net, {}, {"two"},
                      [](Graph& graph) {
                        graph.input("two", Ints{0, 2}, TensorProto::INT32);
                      }),
              "sequence_lens has 2 values for each row");
  Network large = net;
  large.r[3] = 2e6f;
  expect_part(changed(large, {}), "it has the weight 2000000, and finite ones of at most 1e6");
  large.r[3] = infinity;
  expect_part(changed(large, {}), "it has the weight inf");
  Network narrow = net;
  narrow.width = 2;
  narrow.w.resize(40);
  expect_part(changed(narrow, {}), "W has the shape [1, 20, 2], and [1, 20, 3] is expected");
  Graph short_bias = graph_of(net);
  for (TensorProto& tensor : *short_bias.graph().mutable_initializer())
    if (tensor.name() == "B") tensor.set_dims(1, 20), tensor.mutable_raw_data()->resize(80);
  expect_error(short_bias, "B has the shape [1, 20], and [1, 40] is expected");
}

TEST(ImportOnnxRecurrent, TheCellStateIsNoOutput) {
  const Network net = network(1, {});
  Graph read = graph_of(net, {"y", "h", "c"});
  read.node("Tanh", {"c"}, {"Y"});
  expect_error(read, "Tanh \"the Tanh\": it reads \"c\", the Y_c of a LSTM, which cannot be had here");
  expect_error(graph_of(net, {"y", "h", "Y"}), "the model's output is \"Y\", the Y_c of a LSTM");
  // Where nobody reads it, it does no harm.
  Graph unread = graph_of(net, {"Y", "h", "c"});
  EXPECT_EQ(error_of(unread), "");
}

TEST(ImportOnnxRecurrent, OtherLayersOfSequencesAreRefused) {
  Graph loop(0);
  loop.input("X", Ints{0, steps, 3});
  loop.node("Loop", {"", "", "X"}, {"Y"});
  expect_error(loop, "it is a loop, as tf2onnx makes of SimpleRNN, Masking and Keras 3's GRU");
  Graph normalised = graph_of(network(1, {}), {"y"});
  normalised.constant("scale", {5}, Floats(5, 1));
  normalised.node("LayerNormalization", {"y", "scale"}, {"Y"});
  expect_error(normalised, "LayerNormalization \"the LayerNormalization\": it divides values that a layer");
  Graph masked = graph_of(network(1, {}), {"", "Y"}, {"lengths"});
  masked.whole("one", {1});
  masked.node("ReduceSum", {"row", "one"}, {"sum"}).integer("keepdims", 0);
  masked.input("row", 3);
  masked.node("Identity", {"sum"}, {"lengths"});
  expect_error(masked, "its sequence_lens are computed by a layer");
}

TEST(ImportOnnxRecurrent, StepsMustNotBecomeRowsForGood) {
  Graph graph = graph_of(network(1, {}), {"y"});
  graph.whole("rows", {-1, 5});
  graph.node("Transpose", {"y"}, {"t"}).ints("perm", {2, 0, 1, 3});
  graph.node("Reshape", {"t", "rows"}, {"Y"});
  expect_error(graph, "the output \"Y\" mixes the rows: it has 4 for each row of the inputs");
  Graph interleaved = graph_of(network(1, {}), {"y"});
  interleaved.whole("rows", {-1, 5});
  interleaved.node("Reshape", {"y", "rows"}, {"Y"});
  expect_error(interleaved, "mixes the rows");
}

TEST(ImportOnnxRecurrent, TooManyStatesAreRefused) {
  Network wide_net;
  wide_net.op = "RNN";
  wide_net.width = 1;
  wide_net.units = 300;
  wide_net = network(1, wide_net);
  for (float& weight : wide_net.r) weight /= 100;  // or the slightest rounding grows from step to step
  Graph graph(0);
  graph.input("X", Ints{300, 0, 1});
  add(graph, "", wide_net, "X", {"Y", "h"});
  expect_error(graph, "the model's output is \"Y\", the Y of a RNN");
  Graph last(0);
  last.input("X", Ints{300, 0, 1});
  add(last, "", wide_net, "X", {"y", "Y"});
  expect_values(last, 300, [&](const std::vector<double>& x) { return run(wide_net, x, 300, 300).last; });
}

TEST(ImportOnnxRecurrent, NoMutatedFileDoesHarm) {
  Network second;
  second.width = 5;
  second = network(2, second);
  Graph graph(0);
  graph.input("X", Ints{steps, 0, 3}).input("lengths", Ints{0}, TensorProto::INT32);
  graph.whole("one", {1}).constant("factor", {5}, Floats(5, 2));
  add(graph, "1", network(1, {}), "X", {"y"}, {"lengths"});
  graph.node("Squeeze", {"y", "one"}, {"q"});
  graph.node("Mul", {"q", "factor"}, {"x2"});
  add(graph, "2", second, "x2", {"", "Y"});
  const std::string sound = graph.bytes();
  ASSERT_EQ(error_of(sound), "");
  Random random(1);
  std::size_t models = 0, errors = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = sound;
    for (std::uint32_t changes = 1 + random.below(3); changes > 0; --changes)
      bytes[random.below(static_cast<std::uint32_t>(bytes.size()))] = static_cast<char>(random.below(256));
    try {
      const Blob blob = blob_of(import(bytes));
      Floats out(blob.outputs());
      blob.evaluate(Floats(blob.columns(), .5f), out);
      ++models;
    } catch (const Error&) {
      ++errors;
    }
  }
  EXPECT_GT(models, 100u);
  EXPECT_GT(errors, 100u);
}

}  // namespace
}  // namespace tonearm
