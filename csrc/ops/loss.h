// Losses and their gradients, row by row (floor 2).
#pragma once

#include <string>

#include "core/tensor.h"

namespace lstm_native::ops {

struct LossResult {
    core::Tensor rows;      // (...): the loss of every row
    core::Tensor d_y_pred;  // (..., N), or undefined
};

// y_pred (..., N) float32; y_true the same shape float32, or (...) int32 for "sparse_categorical_crossentropy".
// `row_weights`, null or (...) float32, scales the gradient, not `rows`. Probabilities are clipped to
// [1e-7, 1 - 1e-7]; the categorical losses divide them by their row's sum before. "kl_divergence" clips labels and
// predictions to [1e-7, 1]. `parameter` is the label smoothing of the binary and categorical cross-entropy, the
// delta of "huber", and 0 for the others.
// invalid_argument: unknown name, shapes or types that do not fit, a class outside [0, N), no column, a smoothing
// outside [0, 1], a delta that is not positive, a parameter for a loss that has none.
LossResult loss(const std::string& name, const core::Tensor& y_true, const core::Tensor& y_pred,
                const core::Tensor* row_weights, bool from_logits, double parameter, bool need_gradient);

}  // namespace lstm_native::ops
