// Writes networks that bench/peers/networks.py measures as blobs, from raw float32 weights: a recurrent layer
// over a session, which no other format can say, and the same over a row of one step.
//
//     bench_networks NAME WEIGHTS OUT.tarm
//
// WEIGHTS has the input weights, the recurrent weights (row-major, rows by gate: lstm i, f, g, o; gru r, z,
// n), the biases, of a gru the recurrent biases of n; and then, for each input, its largest magnitude.

#include "emit/networks.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "emit/emit.h"
#include "quantize/quantize.h"

namespace tonearm {
namespace {

/// One layer, forward. Over a row: one step.
struct NetworkShape {
  const char* name;
  schema::Sequence sequence;
  Cell cell;
  unsigned inputs, units;
};
constexpr NetworkShape shapes[] = {
    {"lstm-session", schema::Sequence::Session, Cell::lstm, 70, 64},
    {"lstm-step", schema::Sequence::Row, Cell::lstm, 70, 64},
    {"gru-session", schema::Sequence::Session, Cell::gru, 40, 32},
    {"gru-step", schema::Sequence::Row, Cell::gru, 40, 32},
};

/// The numbers of a weights file, one array after the other.
class Weights {
 public:
  explicit Weights(const std::filesystem::path& path) : path_(path), bytes_(read_file(path)) {}

  std::vector<float> take(std::size_t count) {
    if ((bytes_.size() - place_) / sizeof(float) < count)
      throw Error(path_.string() + ": has " + std::to_string(bytes_.size()) +
                  " bytes, fewer than the network's weights; was it written for another one?");
    std::vector<float> values(count);
    std::memcpy(values.data(), bytes_.data() + place_, count * sizeof(float));
    place_ += count * sizeof(float);
    return values;
  }
  Eigen::MatrixXf matrix(unsigned rows, unsigned columns) {
    const std::vector<float> values = take(static_cast<std::size_t>(rows) * columns);
    return Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        values.data(), rows, columns);
  }
  Eigen::VectorXf vector(unsigned count) { return matrix(count, 1); }
  void end() const {
    if (place_ != bytes_.size())
      throw Error(path_.string() + ": has " + std::to_string(bytes_.size()) +
                  " bytes, more than the network's weights; was it written for another one?");
  }

 private:
  std::filesystem::path path_;
  std::vector<unsigned char> bytes_;
  std::size_t place_ = 0;
};

schema::RecurrentT read_recurrent(const NetworkShape& shape, Weights& weights) {
  const unsigned rows = (shape.cell == Cell::lstm ? 4 : 3) * shape.units;
  RecurrentLayer layer;
  layer.cell = shape.cell;
  layer.input = weights.matrix(rows, shape.inputs);
  layer.recurrent = weights.matrix(rows, shape.units);
  layer.bias = weights.vector(rows);
  if (shape.cell == Cell::gru) layer.recurrent_bias = weights.vector(shape.units);
  schema::RecurrentT recurrent;
  recurrent.sequence = shape.sequence;
  recurrent.steps = shape.sequence == schema::Sequence::Row ? 1 : 0;
  recurrent.layers.push_back(pack_layer(layer, 0));
  return recurrent;
}

/// A model of number columns, which of a session are told with a track's end.
schema::ModelT columns_only(const NetworkShape& shape) {
  schema::ModelT model;
  model.card = std::make_unique<schema::CardT>();
  model.card->name = shape.name;
  const bool session = shape.sequence == schema::Sequence::Session;
  for (unsigned i = 0; i < shape.inputs; ++i) {
    auto column = std::make_unique<schema::ColumnT>();
    column->name = "x" + std::to_string(i);
    column->source = session ? schema::Source::End : schema::Source::Row;
    model.columns.push_back(std::move(column));
    model.missing_fill.push_back(0);
    if (session) model.fields.push_back(schema::Field::Extra);
  }
  if (session) {
    model.session = std::make_unique<schema::SessionRuleT>();
    model.label = std::make_unique<schema::LabelRuleT>();
  }
  return model;
}

/// A track that starts, ends and is followed by a question, so that `tonearm quantize` has something to
/// compare on.
void add_golden_session(schema::ModelT& model, const std::vector<float>& end) {
  model.golden = std::make_unique<schema::GoldenT>();
  model.golden->tolerance = 1e-5F;
  const std::vector<float> unknown(end.size(), std::numeric_limits<float>::quiet_NaN());
  for (const auto kind :
       {schema::GoldenEventKind::Start, schema::GoldenEventKind::End, schema::GoldenEventKind::Predict}) {
    auto event = std::make_unique<schema::GoldenEventT>();
    event->kind = kind;
    event->horizon = 1;
    model.golden->events.push_back(std::move(event));
    const std::vector<float>& row = kind == schema::GoldenEventKind::End ? end : unknown;
    model.golden->rows.insert(model.golden->rows.end(), row.begin(), row.end());
  }
  refresh_golden(model);
}

std::vector<unsigned char> blob_of(const NetworkShape& shape, Weights weights) {
  const bool session = shape.sequence == schema::Sequence::Session;
  schema::ModelT model = columns_only(shape);
  schema::RecurrentT recurrent = read_recurrent(shape, weights);
  std::vector<float> example = weights.take(shape.inputs);  // the largest magnitudes
  weights.end();
  for (const float magnitude : example) recurrent.input_factors.push_back(127 / magnitude);

  std::uint16_t first = 0;
  if (session) {
    std::vector<std::uint16_t> columns(shape.inputs);
    std::iota(columns.begin(), columns.end(), std::uint16_t{0});
    schema::EncoderUnion identity;
    identity.Set(schema::IdentityT{});
    first = append_feature(model, columns, columns.size(), std::move(identity), schema::Phase::History);
  }
  append_recurrent(model, std::move(recurrent), first, shape.inputs,
                   session ? schema::Phase::Context : schema::Phase::Candidate);
  for (unsigned i = 0; i < shape.inputs; ++i) example[i] *= i % 2 == 0 ? 0.5F : -0.5F;
  if (session)
    add_golden_session(model, example);
  else
    add_golden(model, example);
  return pack(model);
}

const NetworkShape& shape_of(const std::string& name) {
  std::string names;
  for (const NetworkShape& shape : shapes) {
    if (shape.name == name) return shape;
    names += std::string(names.empty() ? "" : ", ") + shape.name;
  }
  throw Error("there is no network " + name + "; they are " + names);
}

}  // namespace
}  // namespace tonearm

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fputs("usage: bench_networks NAME WEIGHTS OUT.tarm\n", stderr);
    return 2;
  }
  tonearm::write_file(argv[3], tonearm::blob_of(tonearm::shape_of(argv[1]), tonearm::Weights(argv[2])));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_networks: %s\n", error.what());
  return 1;
}
