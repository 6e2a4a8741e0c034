// Dense: y = x kernel + bias over any number of rows (floor 1, CPU). Signatures as in backend.h.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus dense_prepare(LnContext* context, std::int64_t K, std::int64_t N, const float* kernel, const float* bias,
                       void** pack);
LnStatus dense_prepare_stored(LnContext* context, std::int64_t K, std::int64_t N, const LnMatrix* kernel,
                              const float* bias, void** pack);
void dense_release(void* pack);
LnStatus dense_forward(LnContext* context, const void* pack, std::int64_t M, const float* x, float* y);
LnStatus dense_backward(LnContext* context, const void* pack, std::int64_t M, const float* x, const float* d_y,
                        float* d_x, float* d_kernel, float* d_bias);

}  // namespace lstm_native::cpu
