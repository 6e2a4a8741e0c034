// The two directions of a bidirectional layer become one (floor 1, CPU). Signatures as in backend.h.
#pragma once

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus merge_forward(LnContext* context, const LnMergeArgs* args, float* outputs);
LnStatus merge_backward(LnContext* context, const LnMergeArgs* args, const float* d_outputs, float* d_forward,
                        float* d_backward);

}  // namespace lstm_native::cpu
