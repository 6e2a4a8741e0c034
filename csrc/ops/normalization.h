// Normalization of the last axes (floor 2).
#pragma once

#include <cstdint>
#include <memory>

#include "core/tensor.h"
#include "ops/stream_layers.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// What a layer normalizes with. gamma and beta, of one shape, may be null: ones and zeros.
class LayerNormWeights {
public:
    // invalid_argument where they are not float32 of one shape.
    LayerNormWeights(std::shared_ptr<Variable> gamma, std::shared_ptr<Variable> beta, float epsilon, bool rms_scaling);

    const Variable* gamma() const { return gamma_.get(); }
    const Variable* beta() const { return beta_.get(); }
    float epsilon() const { return epsilon_; }
    bool rms_scaling() const { return rms_scaling_; }

private:
    std::shared_ptr<Variable> gamma_, beta_;
    float epsilon_;
    bool rms_scaling_;
};

struct LayerNormResult {
    core::Tensor y;              // the shape of x
    core::Tensor mean, inverse;  // (rows), for the gradient; undefined unless asked for
};
// x as rows of `columns` elements, the last axes together. invalid_argument where x or the weights do not fit.
LayerNormResult layer_norm_forward(const LayerNormWeights& weights, const core::Tensor& x, std::int64_t columns,
                                   bool training);

struct LayerNormGradients {
    core::Tensor d_x;              // undefined unless asked for
    core::Tensor d_gamma, d_beta;  // (columns); undefined where there is no such weight
};
LayerNormGradients layer_norm_backward(const LayerNormWeights& weights, const core::Tensor& x, std::int64_t columns,
                                       const core::Tensor& mean, const core::Tensor& inverse, const core::Tensor& d_y,
                                       bool need_d_x);

// The rows of a step, normalized.
std::unique_ptr<StreamLayer> stream_layer_norm(std::shared_ptr<LayerNormWeights> weights);

}  // namespace lstm_native::ops
