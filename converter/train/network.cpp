#include "train/network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/random.h"
#include "train/checks.h"
#include "train/passes.h"

namespace tonearm {
namespace {

/// Rows that go through the network together, few enough for their activations to stay in the cache.
constexpr std::size_t panel_rows = 64;
/// A batch is cut into blocks of whole panels: of this many rows, or more if that made too many blocks.
constexpr std::size_t block_rows = 256, most_blocks = 32;
/// Parameters that one task of an update takes.
constexpr std::size_t update_floats = 16384;

/// Where a network's parameters are in one flat array: the weights of all layers (inputs x outputs,
/// padded to inputs x stride), then all biases (stride each). Padding is zero and stays zero: it gets no
/// gradient.
struct Shape {
  struct Layer {
    std::size_t inputs, outputs;
    std::size_t input_stride, stride;
    std::size_t weights, bias;  // offsets in the flat array
    std::size_t transposed;     // offset among the transposed weights, outputs x input_stride
    NetworkActivation activation;
  };
  std::vector<Layer> layers;
  std::size_t weights = 0, parameters = 0, transposed = 0;

  void append(std::size_t inputs, std::size_t outputs, NetworkActivation activation) {
    layers.push_back({inputs, outputs, padded(inputs), padded(outputs), weights, 0, transposed, activation});
    weights += inputs * padded(outputs);
    transposed += outputs * padded(inputs);
    parameters = weights;
    for (Layer& layer : layers) {
      layer.bias = parameters;
      parameters += layer.stride;
    }
  }
};

/// What one block of rows needs on its way through the network and back.
struct Work {
  Work(const Shape& shape, bool backward, bool dropout)
      : targets(panel_rows), gradient(backward ? shape.parameters : 0) {
    values.emplace_back(panel_rows * shape.layers.front().input_stride);
    for (const Shape::Layer& layer : shape.layers) {
      values.emplace_back(panel_rows * layer.stride);
      deltas.emplace_back(panel_rows * layer.stride);
      if (!dropout) continue;
      slopes.emplace_back(panel_rows * layer.stride);
      mask.resize(std::max(mask.size(), slopes.back().size()));
    }
  }

  std::vector<Floats> values;  // the inputs, then each layer's outputs: panel_rows x stride
  std::vector<Floats> deltas;  // the loss's derivatives by each layer's sums
  std::vector<Floats> slopes;  // with dropout: the mask times the activation's derivative
  std::vector<float> targets;
  Floats mask;
  Floats gradient;
  double loss = 0;
};

/// A network's parameters together with the transposed weights that the way back multiplies with.
class Passes {
 public:
  Passes(const Shape& shape, const Floats& parameters)
      : shape_(shape), parameters_(parameters), transposed_(shape.transposed) {
    refresh();
  }

  /// To be called when the parameters have changed.
  void refresh() {
    for (const Shape::Layer& layer : shape_.layers)
      for (std::size_t o = 0; o < layer.outputs; ++o)
        for (std::size_t i = 0; i < layer.inputs; ++i)
          transposed_[layer.transposed + o * layer.input_stride + i] =
              parameters_[layer.weights + i * layer.stride + o];
  }

  /// Sets work.loss to the sum of the rows' losses and, if work has room for it, work.gradient to `scale`
  /// times the gradient of that sum.
  void run(const Dataset& data, std::span<const std::uint32_t> rows, float scale, Dropout* dropout,
           Work& work) const {
    work.loss = 0;
    std::fill(work.gradient.begin(), work.gradient.end(), 0.0F);
    for (std::size_t first = 0; first < rows.size(); first += panel_rows) {
      const auto panel = rows.subspan(first, std::min(panel_rows, rows.size() - first));
      forward(data, panel, dropout, work);
      const Shape::Layer& last = shape_.layers.back();
      work.loss += dense_.cross_entropy(panel.size(), last.outputs, last.stride, work.values.back().data(),
                                        work.targets.data(), scale, work.deltas.back().data());
      if (!work.gradient.empty()) backward(panel.size(), dropout != nullptr, work);
    }
  }

 private:
  void forward(const Dataset& data, std::span<const std::uint32_t> panel, Dropout* dropout,
               Work& work) const {
    const std::size_t rows = panel.size();
    for (std::size_t i = 0; i < rows; ++i) {
      const auto row = data.row(panel[i]);
      std::copy(row.begin(), row.end(), work.values[0].data() + i * shape_.layers.front().input_stride);
      work.targets[i] = data.target[panel[i]];
    }
    for (std::size_t l = 0; l < shape_.layers.size(); ++l) {
      const Shape::Layer& layer = shape_.layers[l];
      float* const out = work.values[l + 1].data();
      dense_.multiply({.m = rows,
                       .n = layer.stride,
                       .k = layer.inputs,
                       .a = work.values[l].data(),
                       .a_row = layer.input_stride,
                       .a_column = 1,
                       .b = parameters_.data() + layer.weights,
                       .b_row = layer.stride,
                       .start = parameters_.data() + layer.bias,
                       .start_row = 0,
                       .c = out,
                       .c_row = layer.stride});
      const std::size_t count = rows * layer.stride;
      dense_.activate(layer.activation, count, out);
      if (!dropout || l + 1 == shape_.layers.size()) continue;
      float* const slope = work.slopes[l].data();
      dropout->draw(count, work.mask.data());
      std::copy_n(work.mask.data(), count, slope);
      dense_.differentiate(layer.activation, count, out, slope);
      dense_.scale(count, work.mask.data(), out);
    }
  }

  void backward(std::size_t rows, bool dropout, Work& work) const {
    static constexpr float one = 1;
    for (std::size_t l = shape_.layers.size(); l-- > 0;) {
      const Shape::Layer& layer = shape_.layers[l];
      const float* const delta = work.deltas[l].data();
      float* const weights = work.gradient.data() + layer.weights;
      float* const bias = work.gradient.data() + layer.bias;
      dense_.multiply({.m = layer.inputs,
                       .n = layer.stride,
                       .k = rows,
                       .a = work.values[l].data(),
                       .a_row = 1,
                       .a_column = layer.input_stride,
                       .b = delta,
                       .b_row = layer.stride,
                       .start = weights,
                       .start_row = layer.stride,
                       .c = weights,
                       .c_row = layer.stride});
      dense_.multiply({.m = 1,
                       .n = layer.stride,
                       .k = rows,
                       .a = &one,
                       .a_row = 0,
                       .a_column = 0,
                       .b = delta,
                       .b_row = layer.stride,
                       .start = bias,
                       .start_row = 0,
                       .c = bias,
                       .c_row = 0});
      if (l == 0) return;
      float* const below = work.deltas[l - 1].data();
      dense_.multiply({.m = rows,
                       .n = layer.input_stride,
                       .k = layer.outputs,
                       .a = delta,
                       .a_row = layer.stride,
                       .a_column = 1,
                       .b = transposed_.data() + layer.transposed,
                       .b_row = layer.input_stride,
                       .start = nullptr,
                       .start_row = 0,
                       .c = below,
                       .c_row = layer.input_stride});
      const std::size_t count = rows * layer.input_stride;
      if (dropout)
        dense_.scale(count, work.slopes[l - 1].data(), below);
      else
        dense_.differentiate(shape_.layers[l - 1].activation, count, work.values[l].data(), below);
    }
  }

  const Shape& shape_;
  const Floats& parameters_;
  Floats transposed_;
  const Dense& dense_ = dense();
};

Network to_network(const Shape& shape, const Floats& parameters) {
  Network network;
  for (const Shape::Layer& from : shape.layers) {
    const auto inputs = static_cast<Eigen::Index>(from.inputs),
               outputs = static_cast<Eigen::Index>(from.outputs);
    const Eigen::OuterStride<> stride(static_cast<Eigen::Index>(from.stride));
    network.layers.push_back({Eigen::Map<const Eigen::MatrixXf, 0, Eigen::OuterStride<>>(
                                  parameters.data() + from.weights, outputs, inputs, stride),
                              Eigen::Map<const Eigen::VectorXf>(parameters.data() + from.bias, outputs),
                              from.activation});
  }
  return network;
}

/// All that training carries from one epoch to the next.
struct State {
  std::size_t epoch = 0, best_epoch = 0;
  double best_loss = std::numeric_limits<double>::infinity();
  Floats parameters, best, mean, variance;  // mean and variance: Adam's moments

  nlohmann::json to_json() const {
    return {{"epoch", epoch},         {"best_epoch", best_epoch},
            {"best_loss", best_loss}, {"parameters", parameters},
            {"best", best},           {"mean", mean},
            {"variance", variance}};
  }
  explicit State(const nlohmann::json& json)
      : epoch(json.at("epoch")),
        best_epoch(json.at("best_epoch")),
        best_loss(json.at("best_loss")),
        parameters(json.at("parameters")),
        best(json.at("best")),
        mean(json.at("mean")),
        variance(json.at("variance")) {}

  State(const Shape& shape, std::uint64_t seed)
      : parameters(shape.parameters), mean(shape.parameters), variance(shape.parameters) {
    Random random(seed, 0);
    for (const Shape::Layer& layer : shape.layers) {
      const double limit = std::sqrt(6.0 / static_cast<double>(layer.inputs + layer.outputs));
      for (std::size_t i = 0; i < layer.inputs; ++i)
        for (std::size_t o = 0; o < layer.outputs; ++o)
          parameters[layer.weights + i * layer.stride + o] =
              static_cast<float>(limit * (2 * random.uniform() - 1));
    }
    best = parameters;
  }
};

class Trainer {
 public:
  Trainer(const Shape& shape, const Dataset& data, const Dataset& validation, const NetworkOptions& options,
          const Training& training)
      : shape_(shape),
        data_(data),
        validation_(validation),
        options_(options),
        training_(training),
        state_(initial()),
        passes_(shape, state_.parameters) {
    for (std::size_t i = 0; i < most_blocks; ++i) {
      if (i * block_rows < options.batch) works_.emplace_back(shape, true, options.dropout > 0);
      if (options.patience > 0 && i * block_rows < validation.rows) checks_.emplace_back(shape, false, false);
    }
    everything_.resize(validation.rows);
    std::iota(everything_.begin(), everything_.end(), 0U);
  }

  Network train() {
    Progress progress(training_.label, options_.epochs);
    while (state_.epoch < options_.epochs && !exhausted()) {
      const double loss = train_epoch();
      require_finite_loss(loss);
      std::string note = "log loss " + std::to_string(loss);
      if (options_.patience > 0) {
        const double held_out =
            run_blocks(validation_, everything_, 0, checks_) / static_cast<double>(validation_.rows);
        require_finite_loss(held_out);
        if (held_out < state_.best_loss) {
          state_.best_loss = held_out;
          state_.best_epoch = state_.epoch;
          state_.best = state_.parameters;
        }
        note += ", held out " + std::to_string(held_out);
      }
      progress.update(state_.epoch, note);
    }
    return to_network(shape_, options_.patience > 0 ? state_.best : state_.parameters);
  }

 private:
  State initial() const {
    const auto saved = training_.checkpoint.load(training_.stage);
    return saved ? State(*saved) : State(shape_, training_.seed);
  }

  bool exhausted() const {
    return options_.patience > 0 && state_.epoch - state_.best_epoch >= options_.patience;
  }

  void require_finite_loss(double loss) const {
    if (std::isfinite(loss)) return;
    throw Error("network: the loss is no longer finite in epoch " + std::to_string(state_.epoch) +
                "; lower the learning rate (it is " + nlohmann::json(options_.rate).dump() +
                ") or scale the features");
  }

  /// The mean loss while training.
  double train_epoch() {
    const State start = state_;
    ++state_.epoch;
    // Stream 0 initialises the weights, stream e shuffles epoch e (from 1), and stream e * 2^32 + b drops out
    // units in its block b.
    Random random(training_.seed, state_.epoch);
    const auto order = shuffled(data_.rows, random);
    const std::size_t batches = (data_.rows + options_.batch - 1) / options_.batch;
    double loss = 0;
    for (std::size_t batch = 0; batch < batches; ++batch) {
      if (interrupted()) {
        training_.checkpoint.save(training_.stage, start.to_json());
        throw Interrupted();
      }
      const std::size_t first = batch * options_.batch;
      const auto rows =
          std::span(order).subspan(first, std::min<std::size_t>(options_.batch, data_.rows - first));
      loss += run_blocks(data_, rows, state_.epoch << 32 | batch * most_blocks, works_);
      update(rows.size(), (state_.epoch - 1) * batches + batch + 1);
    }
    return loss / static_cast<double>(data_.rows);
  }

  /// The sum of the rows' losses; each block leaves its share of the mean's gradient in its work.
  double run_blocks(const Dataset& data, std::span<const std::uint32_t> rows, std::uint64_t stream,
                    std::vector<Work>& works) {
    const std::size_t length = block_length(rows.size());
    const std::size_t blocks = (rows.size() + length - 1) / length;
    training_.threads.run(blocks, [&](std::size_t block) {
      const auto part = rows.subspan(block * length, std::min(length, rows.size() - block * length));
      Dropout dropout{Random(training_.seed, stream + block), options_.dropout};
      const bool drop = options_.dropout > 0 && !works[block].gradient.empty();
      passes_.run(data, part, 1.0F / static_cast<float>(rows.size()), drop ? &dropout : nullptr,
                  works[block]);
    });
    return std::accumulate(works.begin(), works.begin() + static_cast<std::ptrdiff_t>(blocks), 0.0,
                           [](double sum, const Work& work) { return sum + work.loss; });
  }

  static std::size_t block_length(std::size_t rows) {
    const std::size_t panels = (rows + panel_rows - 1) / panel_rows;
    return std::max(block_rows, (panels + most_blocks - 1) / most_blocks * panel_rows);
  }

  /// One step of Adam on the sum of the blocks' gradients.
  void update(std::size_t rows, std::size_t step) {
    const std::size_t length = block_length(rows);
    const std::size_t blocks = (rows + length - 1) / length;
    constexpr double beta1 = 0.9, beta2 = 0.999;
    Dense::Adam adam{.rate = static_cast<float>(options_.rate),
                     .beta1 = static_cast<float>(beta1),
                     .beta2 = static_cast<float>(beta2),
                     .epsilon = 1e-8F,
                     .decay = static_cast<float>(options_.weight_decay),
                     .mean_scale = static_cast<float>(1 / (1 - std::pow(beta1, step))),
                     .variance_scale = static_cast<float>(1 / (1 - std::pow(beta2, step)))};
    Dense::Adam without_decay = adam;
    without_decay.decay = 0;
    const Dense& kernels = dense();
    const auto update_range = [&](std::size_t first, std::size_t end, const Dense::Adam& how) {
      float* const gradient = works_[0].gradient.data() + first;
      for (std::size_t block = 1; block < blocks; ++block)
        kernels.add(end - first, works_[block].gradient.data() + first, gradient);
      kernels.adam(how, end - first, gradient, state_.parameters.data() + first, state_.mean.data() + first,
                   state_.variance.data() + first);
    };
    training_.threads.run((shape_.weights + update_floats - 1) / update_floats, [&](std::size_t part) {
      const std::size_t first = part * update_floats;
      update_range(first, std::min(first + update_floats, shape_.weights), adam);
    });
    update_range(shape_.weights, shape_.parameters, without_decay);
    passes_.refresh();
  }

  const Shape& shape_;
  const Dataset& data_;
  const Dataset& validation_;
  const NetworkOptions& options_;
  const Training& training_;
  State state_;
  Passes passes_;
  std::vector<Work> works_, checks_;  // of the training blocks, and of the validation blocks
  std::vector<std::uint32_t> everything_;
};

void require_valid(const NetworkOptions& options, const Dataset& validation) {
  const auto refuse = [](const std::string& what) { throw Error("network: " + what); };
  if (std::count(options.hidden.begin(), options.hidden.end(), 0U) > 0)
    refuse("a hidden layer has no units; give every layer at least one");
  if (options.activation == NetworkActivation::softmax)
    refuse("softmax cannot be the activation of hidden layers; use relu, sigmoid or tanh");
  if (options.batch == 0) refuse("the batch is 0 rows; it must be at least 1");
  if (!(options.rate > 0)) refuse("the learning rate must be above 0");
  if (!(options.weight_decay >= 0)) refuse("the weight decay must be 0 or more");
  if (!(options.dropout >= 0 && options.dropout <= 0.99)) refuse("the dropout must be between 0 and .99");
  if (options.patience > 0 && validation.rows == 0)
    refuse("patience needs validation rows; hold some out, or set patience to 0");
}

}  // namespace

Network train_network(const Dataset& data, const Dataset& validation, const NetworkOptions& options,
                      const Training& training) {
  require_valid(options, validation);
  require_both_classes(data.target, "network");
  require_finite(data, "network");
  require_finite(validation, "network");
  Shape shape;
  std::size_t inputs = data.features;
  for (unsigned units : options.hidden) {
    shape.append(inputs, units, options.activation);
    inputs = units;
  }
  shape.append(inputs, 2, NetworkActivation::softmax);
  return Trainer(shape, data, validation, options, training).train();
}

double network_loss(const Network& network, const Dataset& data, Eigen::VectorXf* gradient) {
  Shape shape;
  for (const NetworkLayer& layer : network.layers)
    shape.append(static_cast<std::size_t>(layer.weights.cols()),
                 static_cast<std::size_t>(layer.weights.rows()), layer.activation);
  Floats parameters(shape.parameters);
  for (std::size_t l = 0; l < shape.layers.size(); ++l) {
    const NetworkLayer& from = network.layers[l];
    const Shape::Layer& to = shape.layers[l];
    for (Eigen::Index i = 0; i < from.weights.cols(); ++i)
      std::copy_n(from.weights.col(i).data(), to.outputs,
                  parameters.data() + to.weights + static_cast<std::size_t>(i) * to.stride);
    std::copy_n(from.bias.data(), to.outputs, parameters.data() + to.bias);
  }
  std::vector<std::uint32_t> rows(data.rows);
  std::iota(rows.begin(), rows.end(), 0U);
  Work work(shape, gradient != nullptr, false);
  Passes(shape, parameters).run(data, rows, 1.0F / static_cast<float>(data.rows), nullptr, work);
  if (gradient) {
    std::vector<float> flat;
    for (const NetworkLayer& layer : to_network(shape, work.gradient).layers) {
      flat.insert(flat.end(), layer.weights.data(), layer.weights.data() + layer.weights.size());
      flat.insert(flat.end(), layer.bias.data(), layer.bias.data() + layer.bias.size());
    }
    *gradient = Eigen::Map<Eigen::VectorXf>(flat.data(), static_cast<Eigen::Index>(flat.size()));
  }
  return work.loss / static_cast<double>(data.rows);
}

}  // namespace tonearm
