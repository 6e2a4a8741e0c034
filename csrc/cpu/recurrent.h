// Drivers of a recurrent layer over a whole sequence (floor 1, CPU). Signatures as in backend.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus recurrent_prepare(LnContext* context, const LnRecurrentConfig* config, const float* kernel,
                           const float* recurrent_kernel, const float* bias, void** pack);
LnStatus recurrent_prepare_stored(LnContext* context, const LnRecurrentConfig* config, const LnMatrix* kernel,
                                  const LnMatrix* recurrent_kernel, const float* bias, void** pack);
void recurrent_release(void* pack);
std::size_t recurrent_saved_bytes(const void* pack, std::int64_t B, std::int64_t steps, std::int32_t masked);
LnStatus recurrent_forward(LnContext* context, std::int64_t calls, const LnRecurrentForwardCall* call);
std::size_t recurrent_step_bytes(const void* pack, std::int64_t B);
LnStatus recurrent_step(LnContext* context, const void* pack, const LnRecurrentForward* args, void* workspace);
LnStatus recurrent_backward(LnContext* context, std::int64_t calls, const LnRecurrentBackwardCall* call);

}  // namespace lstm_native::cpu
