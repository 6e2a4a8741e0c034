// Drivers of the recurrent cells of LnGeneralConfig over a whole sequence (floor 1, CPU). Signatures as in backend.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus general_prepare(LnContext* context, const LnGeneralConfig* config, const LnGeneralWeights* weights,
                         void** pack);
void general_release(void* pack);
std::size_t general_saved_bytes(const void* pack, std::int64_t B, std::int64_t steps, std::int32_t masked);
LnStatus general_forward(LnContext* context, const void* pack, const LnRecurrentForward* args);
std::size_t general_step_bytes(const void* pack, std::int64_t B);
LnStatus general_step(LnContext* context, const void* pack, const LnRecurrentForward* args, void* workspace);
LnStatus general_backward(LnContext* context, const void* pack, const LnRecurrentBackward* args, float* d_peepholes,
                          float* d_projection);

}  // namespace lstm_native::cpu
