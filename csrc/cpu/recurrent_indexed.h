// Indexed inputs of a recurrent layer: the steps of a batch read rows of a small matrix, as behind an embedding (floor
// 1, CPU). Each row is projected once, and steps start from the projected rows; backward sums the gate gradients of the
// steps that read a row, and sends the sums through the kernel.
#pragma once

#include <cstdint>

#include "cpu/recurrent_tile.h"

namespace lstm_native::cpu {

constexpr std::int64_t kIndexedRows = 96;  // are worked on at a time

// Floats of a matrix (R, gates) in blocked rows: the projected rows, or the sums of their gradients.
std::int64_t indexed_floats(const RecurrentPlan& plan, const LnRecurrentForward& args);

// The projected rows, computed by up to `threads` threads.
void project_rows(const RecurrentPlan& plan, const LnRecurrentForward& args, int threads, float* projected);

// The row that each of the tile's rows [row, ...) reads at step t, in a matrix of R blocked rows at `data`.
IndexedRows rows_of_step(const RecurrentPlan& plan, const LnRecurrentForward& args, std::int64_t row, std::int64_t t,
                         const float* data);

// sums = the gate gradients of the column pairs, summed over the steps that read a row.
void sum_by_row(const RecurrentPlan& plan, const LnRecurrentBackward& args, const Range& pairs, float* sums);

// d_kernel of the column pairs from the sums; `input`: scratch of kIndexedRows rows of inputs.
void indexed_kernel_gradient(const RecurrentPlan& plan, const LnRecurrentBackward& args, const Range& pairs,
                             const float* sums, float* input);

// d_inputs (R, I) from the sums of all pairs, by up to `threads` threads.
void indexed_input_gradient(const RecurrentPlan& plan, const LnRecurrentBackward& args, int threads, const float* sums);

}  // namespace lstm_native::cpu
