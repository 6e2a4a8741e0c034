// Dense layer (floor 2): checks, outputs, the backend's call.
#pragma once

#include <memory>

#include "core/tensor.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// kernel (K, N), maybe quantized, and bias (N) or null, with their packed form. A kernel of more axes, as that of a
// convolution, counts as one whose K is all but the last.
class DenseWeights {
public:
    DenseWeights(std::shared_ptr<Variable> kernel, std::shared_ptr<Variable> bias);

    const core::Shape& kernel_shape() const { return kernel_->tensor().shape(); }
    std::int64_t inputs() const { return kernel_shape().without_last().count(); }
    std::int64_t units() const { return kernel_shape().back(); }
    bool has_bias() const { return bias_ != nullptr; }
    bool is_quantized() const { return kernel_->is_quantized(); }
    core::Device device() const { return kernel_->tensor().device(); }
    std::shared_ptr<const void> pack();

private:
    std::shared_ptr<Variable> kernel_, bias_;
    PackCache cache_;
};

struct DenseGradients {
    core::Tensor d_x, d_kernel, d_bias;  // d_x undefined where not asked for, d_bias without a bias
};

// x (..., K) -> (..., N).
core::Tensor dense_forward(DenseWeights& weights, const core::Tensor& x);
DenseGradients dense_backward(DenseWeights& weights, const core::Tensor& x, const core::Tensor& d_y, bool need_d_x);

}  // namespace lstm_native::ops
