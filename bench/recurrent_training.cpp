// Trains a recurrent network on made-up sessions; prints its loss and its time, epoch by epoch, as JSON, and
// writes what another trainer needs to repeat it: data, order and initial weights. See
// peers/recurrent_training.py.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "train/passes.h"
#include "train/recurrent.h"

namespace {

using namespace tonearm;

constexpr std::uint64_t seed = 1;
constexpr std::uint32_t steps_per_session = 20;

/// A question before each step. The label follows a noisy rule of the two steps before.
SessionData streams(std::uint32_t sessions, std::size_t features) {
  SessionData data{.step_features = features};
  Random random(seed, 1);
  for (std::uint32_t s = 0; s < sessions; ++s) {
    data.step_begin.push_back(s * steps_per_session);
    data.question_begin.push_back(s * steps_per_session);
    for (std::uint32_t t = 0; t < steps_per_session; ++t) {
      const std::size_t at = data.steps.size();
      double score = random.normal() - 0.5;
      for (std::size_t i = 0; i < 8 && t > 1; ++i)
        score += double{data.steps[at - features + i]} * double{data.steps[at - 2 * features + i]};
      data.ended.push_back(t);
      data.targets.push_back(score > 0 ? 1.0F : 0.0F);
      for (std::size_t i = 0; i < features; ++i) data.steps.push_back(static_cast<float>(random.normal()));
    }
  }
  data.step_begin.push_back(sessions * steps_per_session);
  data.question_begin.push_back(sessions * steps_per_session);
  return data;
}

/// Rows of `columns` numbers, one to a session without steps.
SessionData rows(std::uint32_t count, std::size_t columns) {
  SessionData data{.row_features = columns};
  Random random(seed, 1);
  data.step_begin.assign(count + 1, 0);
  for (std::uint32_t row = 0; row < count; ++row) {
    data.question_begin.push_back(row);
    double score = random.normal();
    for (std::size_t i = 0; i < columns; ++i) {
      data.rows.push_back(static_cast<float>(random.normal()));
      if (i > 0) score += double{data.rows.back()} * double{data.rows[data.rows.size() - 2]};
    }
    data.ended.push_back(0);
    data.targets.push_back(score > 0 ? 1.0F : 0.0F);
  }
  data.question_begin.push_back(count);
  return data;
}

void write(std::ofstream& file, const std::vector<float>& values) {
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(float)));
}

/// Row-major.
template <class Matrix>
void write_matrix(std::ofstream& file, const Matrix& matrix) {
  std::vector<float> values;
  for (Eigen::Index i = 0; i < matrix.rows(); ++i)
    for (Eigen::Index j = 0; j < matrix.cols(); ++j) values.push_back(matrix(i, j));
  write(file, values);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr,
                 "usage: recurrent_training lstm|gru|two-bi-lstm FILE EPOCHS THREADS\n"
                 "       FILE gets the data, the order of each epoch and the initial weights\n");
    return 2;
  }
  try {
    const std::string name = argv[1];
    const auto number = [&](int i) { return static_cast<unsigned>(std::strtoul(argv[i], nullptr, 10)); };
    SessionData data;
    BranchOptions branch;
    RecurrentOptions options{.hidden = {32}, .rate = 0.002, .weight_decay = 0.01, .clip = 1};
    const auto inputs = [&](std::size_t count) {
      for (std::uint32_t i = 0; i < count; ++i) branch.inputs.push_back(i);
    };
    if (name == "lstm") {
      data = streams(10000, 70);
      inputs(70);
      branch.levels = {{Cell::lstm, 64, Direction::forward}};
    } else if (name == "gru") {
      data = streams(10000, 40);
      inputs(40);
      branch.levels = {{Cell::gru, 32, Direction::forward}};
    } else if (name == "two-bi-lstm") {
      data = rows(8000, 13);
      inputs(13);
      branch.source = BranchOptions::Source::row_steps;
      branch.count = 13;
      branch.levels = {{Cell::lstm, 116, Direction::both}, {Cell::lstm, 116, Direction::both}};
      options.hidden = {};
      options.batch = 1000;
    } else {
      throw Error("the network " + name + " is none of lstm, gru, two-bi-lstm");
    }
    options.branches = {branch};
    options.epochs = 0;
    Threads threads(number(4));
    const Training training{.threads = threads, .seed = seed, .label = "training"};
    const RecurrentNetwork start = train_recurrent(data, {}, options, training);

    options.epochs = number(3);
    std::ofstream file(argv[2], std::ios::binary);
    write(file, data.steps);
    write(file, data.rows);
    write(file, data.targets);
    for (unsigned epoch = 1; epoch <= options.epochs; ++epoch) {
      Random random(seed, epoch);
      const std::vector<std::uint32_t> order = shuffled(data.sessions(), random);
      file.write(reinterpret_cast<const char*>(order.data()),
                 static_cast<std::streamsize>(order.size() * sizeof(std::uint32_t)));
    }
    for (const RecurrentLayer& layer : start.branches[0].layers) {
      write_matrix(file, layer.input);
      write_matrix(file, layer.recurrent);
      write_matrix(file, layer.bias);
      write_matrix(file, layer.recurrent_bias);
    }
    for (const NetworkLayer& layer : start.head) {
      write_matrix(file, layer.weights);
      write_matrix(file, layer.bias);
    }
    if (!file.flush()) throw Error(std::string(argv[2]) + " cannot be written");

    nlohmann::json epochs = nlohmann::json::array();
    auto last = std::chrono::steady_clock::now();
    std::clock_t used = std::clock();
    options.watch = [&](unsigned, double loss, double) {
      const auto now = std::chrono::steady_clock::now();
      const std::clock_t clock = std::clock();
      epochs.push_back({{"loss", loss},
                        {"seconds", std::chrono::duration<double>(now - last).count()},
                        {"processor", static_cast<double>(clock - used) / CLOCKS_PER_SEC}});
      last = now;
      used = clock;
    };
    train_recurrent(data, {}, options, training);
    std::printf("%s\n", nlohmann::json{{"sessions", data.sessions()},
                                       {"step_features", data.step_features},
                                       {"row_features", data.row_features},
                                       {"batch", options.batch},
                                       {"rate", options.rate},
                                       {"weight_decay", options.weight_decay},
                                       {"clip", options.clip},
                                       {"epochs", epochs}}
                            .dump()
                            .c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "recurrent_training: %s\n", error.what());
    return 1;
  }
}
