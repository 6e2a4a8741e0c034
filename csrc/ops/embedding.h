// Embedding: rows of a table by index (floor 2).
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// table (V, D), ids int32 (...) -> rows (..., D). invalid_argument names the first id outside [0, V).
core::Tensor embedding_forward(const Variable& table, const core::Tensor& ids);

// Gradient of the table (input_dim, D) from ids (...) and d_y (..., D). The rows of one id are summed in the order
// of ids.
core::Tensor embedding_backward(const core::Tensor& ids, const core::Tensor& d_y, std::int64_t input_dim);

}  // namespace lstm_native::ops
