// The networks of networks.py in PyTorch, through its C++ interface: the module that torch.jit has made and
// frozen, or the same operators called one by one ("eager"). networks.c calls it. MODEL is "jit FILE", or
// "eager NAME FILE" with the module whose parameters it takes, in their order.

#include <ATen/Parallel.h>
#include <torch/script.h>

#include <cstring>
#include <sstream>

namespace {

using torch::Tensor;

struct Network {
  torch::jit::Module module;
  std::string name;  // empty: the module itself is run
  std::vector<Tensor> weights;
  Tensor input;
  std::vector<Tensor> state;
  std::vector<c10::IValue> arguments;
};

Tensor run_eager(Network& network) {
  const std::vector<Tensor>& w = network.weights;
  const Tensor& x = network.input;
  if (network.name == "W5s") {
    auto [h, c] = torch::lstm_cell(x, network.state, w[0], w[1], w[2], w[3]);
    network.state = {h, c};
    return h;
  }
  if (network.name == "encoder")
    return network.state[0] = torch::gru_cell(x, network.state[0], w[0], w[1], w[2], w[3]);
  if (network.name == "W4") {
    const std::vector<Tensor> of_lstm(w.begin(), w.begin() + 16);
    const Tensor zero = torch::zeros({4, 1, 116});
    const auto [outputs, h, c] = torch::lstm(x, {zero, zero}, of_lstm, true, 2, 0.0, false, true, false);
    const Tensor last = torch::cat({h[2], h[3]}, 1);
    return torch::sigmoid(torch::linear(last, w[16], w[17]));
  }
  if (network.name == "W6") {
    Tensor y = torch::relu(torch::linear(x, w[0], w[1]));
    y = torch::relu(torch::linear(y, w[2], w[3]));
    y = torch::relu(torch::linear(y, w[4], w[5]));
    return torch::softmax(torch::linear(y, w[6], w[7]), 1);
  }
  return torch::sigmoid(torch::linear(x, w[0], w[1]));
}

Tensor run_jit(Network& network) {
  const c10::IValue result = network.module.forward(network.arguments);
  if (network.state.empty()) return result.toTensor();
  if (network.state.size() == 1) {
    network.arguments[1] = result;
    return result.toTensor();
  }
  const auto& states = result.toTuple()->elements();
  network.arguments[1] = states[0];
  network.arguments[2] = states[1];
  return states[0].toTensor();
}

}  // namespace

extern "C" void* open_network(const char* model) try {
  at::set_num_threads(1);
  std::istringstream words(model);
  std::string how, path;
  auto network = std::make_unique<Network>();
  words >> how;
  if (how == "eager") words >> network->name;
  words >> path;
  const c10::InferenceMode guard;
  network->module = torch::jit::load(path);
  network->module.eval();
  for (const auto& parameter : network->module.parameters()) network->weights.push_back(parameter.clone());
  for (const auto& buffer : network->module.named_buffers()) {
    if (buffer.name == "row") network->input = buffer.value.clone();
    if (buffer.name.rfind("state", 0) == 0) network->state.push_back(buffer.value.clone());
  }
  if (how == "jit") network->module = torch::jit::freeze(network->module);
  network->arguments.push_back(network->input);
  for (const Tensor& state : network->state) network->arguments.push_back(state);
  return network.release();
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s: %s\n", model, error.what());
  return nullptr;
}

extern "C" void run_network(void* handle, const float* row, float* output) {
  Network& network = *static_cast<Network*>(handle);
  const c10::InferenceMode guard;
  std::memcpy(network.input.data_ptr(), row, network.input.nbytes());
  const Tensor result = network.name.empty() ? run_jit(network) : run_eager(network);
  std::memcpy(output, result.data_ptr(), result.nbytes());
}
