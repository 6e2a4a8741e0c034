// Activation functions as operations of their own (floor 2).
#pragma once

#include "core/activation.h"
#include "core/tensor.h"

namespace lstm_native::ops {

// y of x's shape; softmax, log_softmax and sparsemax work along the last axis. invalid_argument unless x is float32
// (and, for those three, has an axis).
core::Tensor activation_forward(core::Activation activation, const core::Tensor& x);

// Gradient of x from the input, the output and the output's gradient, all of one shape.
core::Tensor activation_backward(core::Activation activation, const core::Tensor& x, const core::Tensor& y,
                                 const core::Tensor& d_y);

}  // namespace lstm_native::ops
