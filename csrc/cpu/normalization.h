// Normalization of rows (floor 1, CPU). Signatures as in backend.h.
#pragma once

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus layer_norm_forward(LnContext* context, const LnLayerNormArgs* args, float* y, float* mean, float* inverse);
LnStatus layer_norm_backward(LnContext* context, const LnLayerNormArgs* args, const float* mean, const float* inverse,
                             const float* d_y, float* d_x, float* d_gamma, float* d_beta);

}  // namespace lstm_native::cpu
