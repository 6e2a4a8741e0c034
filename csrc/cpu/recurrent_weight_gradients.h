// The second half of a recurrent layer's way back (floor 1, CPU).
#pragma once

#include "backend/backend.h"
#include "cpu/recurrent_plan.h"

namespace lstm_native::cpu {

// d_kernel, d_recurrent_kernel and d_bias, and d_inputs of indexed inputs, from the gate gradients that the steps left.
// Every element is summed by one thread: tiles, chunks and rows in order.
void weight_gradients(const LnContext& context, const Plans& plans, const LnRecurrentBackwardCall* call);

}  // namespace lstm_native::cpu
