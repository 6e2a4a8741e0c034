#include "ops/normalization.h"

#include <utility>

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::check;
using core::DType;
using core::Tensor;

const float* values_of(const Variable* variable) {
    return variable == nullptr ? nullptr : variable->tensor().data<const float>();
}

void check_columns(const Variable* variable, const char* name, std::int64_t columns) {
    check(variable == nullptr || variable->tensor().count() == columns, "LayerNormalization: ", name, " has ",
          variable == nullptr ? 0 : variable->tensor().count(), " elements, the input ", columns, " to normalize");
}

LnLayerNormArgs arguments(const LayerNormWeights& weights, std::int64_t rows, std::int64_t columns, const float* x) {
    check_columns(weights.gamma(), "gamma", columns);
    check_columns(weights.beta(), "beta", columns);
    LnLayerNormArgs args{};
    args.M = rows;
    args.N = columns;
    args.epsilon = weights.epsilon();
    args.rms_scaling = weights.rms_scaling() ? 1 : 0;
    args.x = x;
    args.gamma = values_of(weights.gamma());
    args.beta = values_of(weights.beta());
    return args;
}

// Where the weights lie; without any, where x does.
core::Device device_for(const LayerNormWeights& weights, const Tensor& x) {
    for (const Variable* variable : {weights.gamma(), weights.beta()})
        if (variable != nullptr) return variable->tensor().device();
    return x.device();
}

std::int64_t check_input(const Tensor& x, std::int64_t columns) {
    check(x.dtype() == DType::float32 && columns > 0 && x.count() % columns == 0, "LayerNormalization: input is ",
          core::name_of(x.dtype()), " ", x.shape(), ", expected float32 rows of ", columns, " elements");
    return x.count() / columns;
}

class LayerNorm : public StreamLayer {
public:
    explicit LayerNorm(std::shared_ptr<LayerNormWeights> weights) : weights_(std::move(weights)) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        arguments(*weights_, rows, width, nullptr);
        outputs_ = Tensor::empty({rows, width}, DType::float32, device);
        return width;
    }

    void run(StreamStep& step) override {
        check_place("LayerNormalization", device_for(*weights_, outputs_), outputs_.device());
        const LnLayerNormArgs args = arguments(*weights_, outputs_.shape()[0], outputs_.shape()[1], step.values);
        float* const none = nullptr;
        call(backend_of(outputs_.device()).layer_norm_forward, &args, outputs_.data<float>(), none, none);
        step.values = outputs_.data<float>();
    }

private:
    std::shared_ptr<LayerNormWeights> weights_;
    Tensor outputs_;
};

}  // namespace

LayerNormWeights::LayerNormWeights(std::shared_ptr<Variable> gamma, std::shared_ptr<Variable> beta, float epsilon,
                                   bool rms_scaling)
    : gamma_(std::move(gamma)), beta_(std::move(beta)), epsilon_(epsilon), rms_scaling_(rms_scaling) {
    check_float32("LayerNormalization: gamma", gamma_);
    check_float32("LayerNormalization: beta", beta_);
}

LayerNormResult layer_norm_forward(const LayerNormWeights& weights, const Tensor& x, std::int64_t columns,
                                   bool training) {
    const std::int64_t rows = check_input(x, columns);
    const core::Device device = device_for(weights, x);
    const Tensor there = x.to(device);
    const LnLayerNormArgs args = arguments(weights, rows, columns, there.data<const float>());
    LayerNormResult result;
    result.y = Tensor::empty(x.shape(), DType::float32, device);
    if (training) {
        result.mean = Tensor::empty({rows}, DType::float32, device);
        result.inverse = Tensor::empty({rows}, DType::float32, device);
    }
    call(backend_of(device).layer_norm_forward, &args, result.y.data<float>(), result.mean.data<float>(),
         result.inverse.data<float>());
    return result;
}

LayerNormGradients layer_norm_backward(const LayerNormWeights& weights, const Tensor& x, std::int64_t columns,
                                       const Tensor& mean, const Tensor& inverse, const Tensor& d_y, bool need_d_x) {
    const std::int64_t rows = check_input(x, columns);
    const core::Device device = device_for(weights, x);
    const Tensor there[] = {x.to(device), mean.to(device), inverse.to(device), d_y.to(device)};
    const LnLayerNormArgs args = arguments(weights, rows, columns, there[0].data<const float>());
    const auto is_rows = [&](const Tensor& t) { return t.dtype() == DType::float32 && t.count() == rows; };
    check(is_rows(mean) && is_rows(inverse), "LayerNormalization: mean and inverse have shapes ", mean.shape(), " and ",
          inverse.shape(), ", expected (", rows, ",)");
    check(d_y.dtype() == DType::float32 && d_y.shape() == x.shape(), "LayerNormalization: output gradient is ",
          core::name_of(d_y.dtype()), " ", d_y.shape(), ", expected float32 ", x.shape());
    LayerNormGradients gradients;
    if (need_d_x) gradients.d_x = Tensor::empty(x.shape(), DType::float32, device);
    if (weights.gamma() != nullptr) gradients.d_gamma = Tensor::empty({columns}, DType::float32, device);
    if (weights.beta() != nullptr) gradients.d_beta = Tensor::empty({columns}, DType::float32, device);
    call(backend_of(device).layer_norm_backward, &args, there[1].data<const float>(), there[2].data<const float>(),
         there[3].data<const float>(), gradients.d_x.data<float>(), gradients.d_gamma.data<float>(),
         gradients.d_beta.data<float>());
    return gradients;
}

std::unique_ptr<StreamLayer> stream_layer_norm(std::shared_ptr<LayerNormWeights> weights) {
    return std::make_unique<LayerNorm>(std::move(weights));
}

}  // namespace lstm_native::ops
