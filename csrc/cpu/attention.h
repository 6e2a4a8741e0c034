// Scores of additive attention (floor 1, CPU). Signatures as in backend.h.
#pragma once

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus additive_scores_forward(LnContext* context, const LnAdditiveScoresArgs* args, float* scores);
LnStatus additive_scores_backward(LnContext* context, const LnAdditiveScoresArgs* args, const float* d_scores,
                                  float* d_query, float* d_key, float* d_scale);

}  // namespace lstm_native::cpu
