#include "ops/activation.h"

#include <cstdint>

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::Activation;
using core::DType;
using core::Tensor;

void check_array(Activation activation, const char* argument, const Tensor& x) {
    core::check(x.defined() && x.dtype() == DType::float32, "activation '", core::name_of(activation), "': ", argument,
                " is ", x.defined() ? core::name_of(x.dtype()) : "missing", ", expected float32");
}

void check_input(Activation activation, const Tensor& x) {
    check_array(activation, "x", x);
    core::check(core::is_elementwise(activation) || x.rank() > 0, "activation '", core::name_of(activation),
                "': x has shape (), expected at least one axis");
}

std::int64_t columns_of(const Tensor& x) { return x.rank() == 0 ? 1 : x.shape().back(); }
std::int64_t rows_of(const Tensor& x) { return x.count() == 0 ? 0 : x.count() / columns_of(x); }

}  // namespace

Tensor activation_forward(Activation activation, const Tensor& x) {
    check_input(activation, x);
    Tensor y = Tensor::empty(x.shape(), DType::float32, x.device());
    call(backend_of(x.device()).activation_forward, static_cast<std::int32_t>(activation), rows_of(x), columns_of(x),
         x.data<const float>(), y.data<float>());
    return y;
}

Tensor activation_backward(Activation activation, const Tensor& x, const Tensor& y, const Tensor& d_y) {
    check_input(activation, x);
    check_array(activation, "y", y);
    check_array(activation, "d_y", d_y);
    core::check(y.shape() == x.shape() && d_y.shape() == x.shape(), "activation '", core::name_of(activation),
                "': y has shape ", y.shape(), " and d_y ", d_y.shape(), ", expected that of x, ", x.shape());
    const core::Device device = device_of({&x, &y, &d_y});
    const Tensor there[] = {x.to(device), y.to(device), d_y.to(device)};
    Tensor d_x = Tensor::empty(x.shape(), DType::float32, device);
    call(backend_of(device).activation_backward, static_cast<std::int32_t>(activation), rows_of(x), columns_of(x),
         there[0].data<const float>(), there[1].data<const float>(), there[2].data<const float>(), d_x.data<float>());
    return d_x;
}

}  // namespace lstm_native::ops
