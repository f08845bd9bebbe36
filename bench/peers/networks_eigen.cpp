// The networks of networks.py as one would write them with Eigen: matrices whose products go into memory that
// is there already, gates as whole arrays. Compiled with -DW4, -DW5s, ... into a shared object each;
// networks.c calls it.

#include <Eigen/Dense>
#include <cstdio>
#include <vector>

namespace {

using Eigen::MatrixXf;
using Eigen::VectorXf;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The numbers of a weights file, one array after the other; matrices are row-major in it.
class Weights {
 public:
  explicit Weights(const char* path) : file_(std::fopen(path, "rb")) {}
  ~Weights() {
    if (file_ != nullptr) std::fclose(file_);
  }
  MatrixXf matrix(int rows, int columns) {
    RowMajor values = RowMajor::Zero(rows, columns);
    if (file_ != nullptr &&
        std::fread(values.data(), sizeof(float), values.size(), file_) == size_t(values.size()))
      ++read_;
    ++asked_;
    return values;
  }
  VectorXf vector(int count) { return matrix(count, 1); }
  bool complete() const { return read_ == asked_; }

 private:
  std::FILE* file_;
  int read_ = 0, asked_ = 0;
};

/// Rows i, f, g, o. Inputs and state lie behind each other, so that one product does both.
template <int inputs, int units>
struct LstmStep {
  MatrixXf weights;
  VectorXf bias, input_and_state = VectorXf::Zero(inputs + units), sums = VectorXf::Zero(4 * units),
                 c = VectorXf::Zero(units);

  explicit LstmStep(Weights& from) : weights(4 * units, inputs + units) {
    weights.leftCols(inputs) = from.matrix(4 * units, inputs);
    weights.rightCols(units) = from.matrix(4 * units, units);
    bias = from.vector(4 * units);
  }
  void run(const float* row, float* output) {
    input_and_state.template head<inputs>() = Eigen::Map<const VectorXf>(row, inputs);
    sums.noalias() = weights * input_and_state;
    sums += bias;
    auto i = sums.template segment<units>(0).array(), f = sums.template segment<units>(units).array();
    auto g = sums.template segment<units>(2 * units).array(),
         o = sums.template segment<units>(3 * units).array();
    c.array() = f.logistic() * c.array() + i.logistic() * g.tanh();
    auto h = input_and_state.template tail<units>().array();
    h = o.logistic() * c.array().tanh();
    Eigen::Map<VectorXf>(output, units) = input_and_state.template tail<units>();
  }
};

/// One direction over a sequence whose vectors are columns. The products with all inputs are one.
template <int inputs, int units, int steps>
struct LstmSequence {
  MatrixXf input, recurrent, products = MatrixXf::Zero(4 * units, steps);
  VectorXf bias, sums = VectorXf::Zero(4 * units), h = VectorXf::Zero(units), c = VectorXf::Zero(units);

  explicit LstmSequence(Weights& from)
      : input(from.matrix(4 * units, inputs)),
        recurrent(from.matrix(4 * units, units)),
        bias(from.vector(4 * units)) {}
  /// Writes each step's state into its column of `states`, from row `first` on.
  void run(const MatrixXf& sequence, bool backward, MatrixXf& states, int first) {
    products.noalias() = input * sequence;
    products.colwise() += bias;
    h.setZero();
    c.setZero();
    for (int n = 0; n < steps; ++n) {
      const int step = backward ? steps - 1 - n : n;
      sums = products.col(step);
      sums.noalias() += recurrent * h;
      auto i = sums.template segment<units>(0).array(), f = sums.template segment<units>(units).array();
      auto g = sums.template segment<units>(2 * units).array(),
           o = sums.template segment<units>(3 * units).array();
      c.array() = f.logistic() * c.array() + i.logistic() * g.tanh();
      h.array() = o.logistic() * c.array().tanh();
      states.col(step).template segment<units>(first) = h;
    }
  }
};

#if defined(W4)
struct Network {
  static constexpr int units = 116, steps = 13;
  LstmSequence<1, units, steps> forward, backward;
  LstmSequence<2 * units, units, steps> forward_above, backward_above;
  VectorXf dense;
  float bias;
  MatrixXf sequence = MatrixXf::Zero(1, steps), states = MatrixXf::Zero(2 * units, steps), above = states;
  VectorXf last = VectorXf::Zero(2 * units);

  explicit Network(Weights& from)
      : forward(from),
        backward(from),
        forward_above(from),
        backward_above(from),
        dense(from.vector(2 * units)),
        bias(from.vector(1)(0)) {}
  void run(const float* row, float* output) {
    sequence.row(0) = Eigen::Map<const Eigen::RowVectorXf>(row, steps);
    forward.run(sequence, false, states, 0);
    backward.run(sequence, true, states, units);
    forward_above.run(states, false, above, 0);
    backward_above.run(states, true, above, units);
    last << above.col(steps - 1).head<units>(), above.col(0).tail<units>();
    output[0] = 1 / (1 + std::exp(-(dense.dot(last) + bias)));
  }
};
#elif defined(W5s)
using Network = LstmStep<70, 64>;
#elif defined(W6)
template <int inputs, int outputs>
struct Dense {
  Eigen::Matrix<float, outputs, inputs> weights;
  Eigen::Matrix<float, outputs, 1> bias, sums;

  explicit Dense(Weights& from) : weights(from.matrix(outputs, inputs)), bias(from.vector(outputs)) {}
  template <typename Input>
  const auto& run(const Input& input) {
    sums.noalias() = weights * input;
    sums += bias;
    return sums;
  }
  template <typename Input>
  const auto& run_relu(const Input& input) {
    run(input);
    sums = sums.cwiseMax(0.0f);
    return sums;
  }
};
struct Network {
  Dense<15, 14> first;
  Dense<14, 120> second;
  Dense<120, 80> third;
  Dense<80, 2> last;

  explicit Network(Weights& from) : first(from), second(from), third(from), last(from) {}
  void run(const float* row, float* output) {
    const Eigen::Map<const Eigen::Matrix<float, 15, 1> > input(row);
    const auto& scores = last.run(third.run_relu(second.run_relu(first.run_relu(input))));
    const Eigen::Array2f powers = (scores.array() - scores.maxCoeff()).exp();
    Eigen::Map<Eigen::Array2f>(output, 2) = powers / powers.sum();
  }
};
#elif defined(W7)
struct Network {
  Eigen::Matrix<float, 70, 1> weights;
  float bias;

  explicit Network(Weights& from) : weights(from.vector(70)), bias(from.vector(1)(0)) {}
  void run(const float* row, float* output) {
    output[0] =
        1 / (1 + std::exp(-(weights.dot(Eigen::Map<const Eigen::Matrix<float, 70, 1> >(row)) + bias)));
  }
};
#elif defined(encoder)
/// Rows r, z, n.
struct Network {
  static constexpr int inputs = 40, units = 32;
  MatrixXf input, recurrent;
  VectorXf bias, recurrent_bias, x = VectorXf::Zero(inputs), of_input = VectorXf::Zero(3 * units),
                                 of_state = VectorXf::Zero(3 * units), h = VectorXf::Zero(units);

  explicit Network(Weights& from)
      : input(from.matrix(3 * units, inputs)),
        recurrent(from.matrix(3 * units, units)),
        bias(from.vector(3 * units)),
        recurrent_bias(from.vector(units)) {}
  void run(const float* row, float* output) {
    x = Eigen::Map<const VectorXf>(row, inputs);
    of_input = bias;
    of_input.noalias() += input * x;
    of_state.setZero();
    of_state.tail<units>() = recurrent_bias;
    of_state.noalias() += recurrent * h;
    const auto gate = [this](int g) {
      return (of_input.segment<units>(g * units) + of_state.segment<units>(g * units)).array();
    };
    const Eigen::Array<float, units, 1> r = gate(0).logistic(), z = gate(1).logistic();
    const Eigen::Array<float, units, 1> n =
        (of_input.tail<units>().array() + r * of_state.tail<units>().array()).tanh();
    h.array() = (1 - z) * n + z * h.array();
    Eigen::Map<VectorXf>(output, units) = h;
  }
};
#endif

}  // namespace

extern "C" void* open_network(const char* path) {
  Weights weights(path);
  auto* network = new Network(weights);
  return weights.complete() ? network : nullptr;
}

extern "C" void run_network(void* network, const float* row, float* output) {
  static_cast<Network*>(network)->run(row, output);
}
