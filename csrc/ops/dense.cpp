#include "ops/dense.h"

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

namespace {
constexpr const char* kKernel = "Dense: kernel";
}

DenseWeights::DenseWeights(std::shared_ptr<Variable> kernel, std::shared_ptr<Variable> bias)
    : kernel_(std::move(kernel)), bias_(std::move(bias)), cache_({kernel_, bias_}) {
    kernel_->matrix(kKernel, 1);  // which checks it
    check_float32("Dense: bias", bias_);
    const Shape& shape = kernel_->tensor().shape();
    check(shape.rank() >= 2, "Dense: kernel has shape ", shape, ", expected (inputs, units)");
    check(bias_ == nullptr || bias_->tensor().shape() == Shape{units()}, "Dense: bias has shape ",
          bias_ == nullptr ? std::string() : bias_->tensor().shape().text(), ", expected (", units(), ",)");
}

std::shared_ptr<const void> DenseWeights::pack() {
    const LnBackend& backend = backend_of(device());
    return cache_.get(backend.pack_epoch(), backend.dense_release, [&] {
        void* made = nullptr;
        const float* const bias = bias_ == nullptr ? nullptr : bias_->tensor().data<const float>();
        if (!is_quantized()) {
            call(backend.dense_prepare, inputs(), units(), kernel_->tensor().data<const float>(), bias, &made);
        } else {
            const LnMatrix kernel = kernel_->matrix(kKernel, 1);
            call(backend.dense_prepare_stored, inputs(), units(), &kernel, bias, &made);
        }
        return made;
    });
}

namespace {
void check_input(const DenseWeights& weights, const Tensor& x) {
    check(x.dtype() == DType::float32, "Dense: input has dtype ", core::name_of(x.dtype()), ", expected float32");
    check(x.rank() >= 2 && x.shape().back() == weights.inputs(), "Dense: input has shape ", x.shape(),
          ", expected (batch, ..., ", weights.inputs(), ")");
}
}  // namespace

Tensor dense_forward(DenseWeights& weights, const Tensor& x) {
    check_input(weights, x);
    const core::Device device = weights.device();
    const Tensor y = Tensor::empty(x.shape().with_last(weights.units()), DType::float32, device);
    const std::int64_t rows = x.shape().without_last().count();
    if (y.count() == 0) return y;
    const std::shared_ptr<const void> pack = weights.pack();
    const Tensor there = x.to(device);
    call(backend_of(device).dense_forward, pack.get(), rows, there.data<const float>(), y.data<float>());
    return y;
}

DenseGradients dense_backward(DenseWeights& weights, const Tensor& x, const Tensor& d_y, bool need_d_x) {
    check_input(weights, x);
    check(!weights.is_quantized(), "Dense: training with a quantized kernel, expected float32");
    check(d_y.dtype() == DType::float32 && d_y.shape() == x.shape().with_last(weights.units()),
          "Dense: output gradient is ", core::name_of(d_y.dtype()), " ", d_y.shape(), ", expected float32 ",
          x.shape().with_last(weights.units()));
    const std::int64_t rows = x.shape().without_last().count();
    DenseGradients gradients;
    const auto make = rows == 0 ? &Tensor::zeros : &Tensor::empty;
    const core::Device device = weights.device();
    if (need_d_x) gradients.d_x = make(x.shape(), DType::float32, device);
    gradients.d_kernel = make(weights.kernel_shape(), DType::float32, device);
    if (weights.has_bias()) gradients.d_bias = make({weights.units()}, DType::float32, device);
    if (rows == 0) return gradients;
    const std::shared_ptr<const void> pack = weights.pack();
    const Tensor there[] = {x.to(device), d_y.to(device)};
    call(backend_of(device).dense_backward, pack.get(), rows, there[0].data<const float>(),
         there[1].data<const float>(), gradients.d_x.data<float>(), gradients.d_kernel.data<float>(),
         gradients.d_bias.data<float>());
    return gradients;
}

}  // namespace lstm_native::ops
