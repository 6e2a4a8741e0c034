// Scores of additive attention (floor 2).
#pragma once

#include "core/tensor.h"

namespace lstm_native::ops {

// query (B, Q, D), key (B, S, D), scale (D) or undefined for ones: scores (B, Q, S), the sums over D of
// scale * tanh(query + key). invalid_argument where they do not fit.
core::Tensor additive_scores_forward(const core::Tensor& query, const core::Tensor& key, const core::Tensor& scale);

struct AdditiveScoresGradients {
    core::Tensor d_query, d_key;
    core::Tensor d_scale;  // undefined without scale
};
AdditiveScoresGradients additive_scores_backward(const core::Tensor& query, const core::Tensor& key,
                                                 const core::Tensor& scale, const core::Tensor& d_scores);

}  // namespace lstm_native::ops
