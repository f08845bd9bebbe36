#pragma once

// Networks in the blob: how matrices are laid out, and recurrent and quantized layers as operators. See
// WeightFormat and Recurrent in the schema.

#include <tonearm_schema/model_generated.h>

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "train/recurrent.h"

namespace tonearm {

/// The rows of a matrix by gate (gates * units x columns) as the blob stores them, `format` Float32 or
/// Float16 (rounded to the nearest). Throws Error where a weight is not finite or above 1e6 (Float16: above
/// 65504).
std::vector<std::uint8_t> pack_matrix(const Eigen::MatrixXf& rows, unsigned gates,
                                      schema::WeightFormat format);
/// Codes (-127 to 127, gates * units x columns) as the blob stores them.
std::vector<std::uint8_t> pack_codes(const Eigen::MatrixXi& rows, unsigned gates);
/// The same for a number of each row; rows that fill a panel up get 0.
std::vector<float> pack_rows(const Eigen::VectorXf& rows, unsigned gates);
std::vector<std::int32_t> pack_rows(const Eigen::VectorXi& rows, unsigned gates);
/// The opposite: the numbers of a Float32 or Float16 matrix, and those of the rows.
Eigen::MatrixXf unpack_matrix(const std::vector<std::uint8_t>& bytes, unsigned gates, unsigned units,
                              unsigned columns, schema::WeightFormat format);
Eigen::VectorXf unpack_rows(const std::vector<float>& rows, unsigned gates, unsigned units);

/// The nearest IEEE 754 half, ties to even, and back.
std::uint16_t to_half(float value);
float from_half(std::uint16_t half);

/// Of a layer's recurrent matrix: gru_reset_before has that of r and z and that of n apart.
std::vector<std::uint8_t> pack_recurrent_matrix(const Eigen::MatrixXf& rows, schema::Cell cell,
                                                unsigned units, schema::WeightFormat format);
Eigen::MatrixXf unpack_recurrent_matrix(const std::vector<std::uint8_t>& bytes, schema::Cell cell,
                                        unsigned units, schema::WeightFormat format);

/// A layer of float32 as it is trained or imported.
std::unique_ptr<schema::RecurrentLayerT> pack_layer(const RecurrentLayer& layer, unsigned level);
/// And back, of Float32 and Float16 layers. `inputs`: of a step.
RecurrentLayer unpack_layer(const schema::RecurrentLayerT& layer, unsigned inputs,
                            schema::WeightFormat format);

/// Appends an operator that reads the slots [first, first + count), and makes what it writes the model's
/// output. Returns the first slot that it writes. Throws Error where it does not fit the format. `recurrent`
/// has its layers.
std::uint16_t append_recurrent(schema::ModelT& model, schema::RecurrentT recurrent, std::uint16_t first,
                               std::size_t count, schema::Phase phase);

/// The inputs of a step; the outputs of the highest level; how many inputs each layer has, in their order.
unsigned step_width(const schema::OperatorT& op, const schema::RecurrentT& recurrent);
unsigned recurrent_width(const schema::RecurrentT& recurrent);
std::vector<unsigned> layer_inputs(const schema::RecurrentT& recurrent, unsigned step_width);

/// Multiplications of one run: of the steps of a row or a ring, or of the one that an event adds.
std::size_t recurrent_products(const schema::OperatorT& op, const schema::RecurrentT& recurrent);

/// Bytes that an operator takes beside the slots, and elements of 4 bytes in a session; see
/// runtime/src/program.h.
std::uint32_t network_work_bytes(const schema::OperatorT& op);
std::uint32_t network_session_elements(const schema::OperatorT& op);

}  // namespace tonearm
