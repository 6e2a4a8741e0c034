// Embedding: rows of a table by index (floor 2).
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// invalid_argument names the first of ids, int32 (...), outside [0, input_dim).
void check_ids(const core::Tensor& ids, std::int64_t input_dim);

// rows (count, D) = table[ids], all on the table's device; the table (V, D) may be quantized. Checks nothing but the
// table.
void gather_rows(const Variable& table, std::int64_t count, const std::int32_t* ids, float* rows);

// table (V, D), maybe quantized, ids int32 (...) -> rows (..., D). invalid_argument names the first id outside [0, V).
core::Tensor embedding_forward(const Variable& table, const core::Tensor& ids);

// The distinct ids among `ids`, in the order of their first appearance, and which of them stands at each place.
struct DistinctIds {
    core::Tensor ids;    // int32 (R)
    core::Tensor index;  // int32, the shape of ids, in [0, R)
};
// Undefined tensors where more than half of them are distinct: nothing is to be gained then.
DistinctIds distinct_ids(const core::Tensor& ids, std::int64_t input_dim);

// Gradient of the table (input_dim, D) from ids (...) and d_y (..., D). The rows of one id are summed in the order
// of ids.
core::Tensor embedding_backward(const core::Tensor& ids, const core::Tensor& d_y, std::int64_t input_dim);

}  // namespace lstm_native::ops
