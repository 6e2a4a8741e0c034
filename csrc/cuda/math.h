// Scalar mathematics of the kernels (floor 1, CUDA), for the device and the host. float32 with the accurate library
// functions; NaN passes through.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/activation.h"
#include "core/activation_math.h"
#include "core/host_device.h"

namespace lstm_native::cuda {

LSTM_NATIVE_HOST_DEVICE inline float sigmoid(float x) { return 1.0F / (1.0F + ::expf(-x)); }
LSTM_NATIVE_HOST_DEVICE inline float larger(float a, float b) { return a >= b || a != a ? a : b; }  // NaN if either is
LSTM_NATIVE_HOST_DEVICE inline float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

// The rare activations, computed in double precision by the formulas of the CPU: CASE(name) for each.
// clang-format off
#define LSTM_NATIVE_RARE_ACTIVATIONS(CASE) \
    CASE(hard_sigmoid) CASE(softsign) CASE(leaky_relu) CASE(relu6) CASE(elu) CASE(celu) CASE(selu) \
    CASE(softplus) CASE(squareplus) CASE(soft_shrink) CASE(sparse_plus) CASE(silu) CASE(gelu) CASE(tanh_shrink) \
    CASE(sparse_sigmoid) CASE(exponential) CASE(hard_silu) CASE(hard_tanh) CASE(hard_shrink) CASE(mish) CASE(log_sigmoid)
// clang-format on

// An elementwise activation.
LSTM_NATIVE_HOST_DEVICE inline float activate(core::Activation activation, float x) {
    using core::Activation;
    const double wide = static_cast<double>(x);
    switch (activation) {
        case Activation::linear:
            return x;
        case Activation::tanh:
            return ::tanhf(x);
        case Activation::sigmoid:
            return sigmoid(x);
        case Activation::relu:
            return x < 0.0F ? 0.0F : x;
#define LSTM_NATIVE_CASE(name) \
    case Activation::name:     \
        return static_cast<float>(core::activation::value<Activation::name>(wide));
            LSTM_NATIVE_RARE_ACTIVATIONS(LSTM_NATIVE_CASE)
#undef LSTM_NATIVE_CASE
        default:
            return x;
    }
}

LSTM_NATIVE_HOST_DEVICE inline float activation_slope(core::Activation activation, float x) {
    using core::Activation;
    const double wide = static_cast<double>(x);
    switch (activation) {
        case Activation::relu:
            return x > 0.0F ? 1.0F : 0.0F;
#define LSTM_NATIVE_CASE(name) \
    case Activation::name:     \
        return static_cast<float>(core::activation::derivative<Activation::name>(wide));
            LSTM_NATIVE_CASE(tanh)
            LSTM_NATIVE_CASE(sigmoid)
            LSTM_NATIVE_RARE_ACTIVATIONS(LSTM_NATIVE_CASE)
#undef LSTM_NATIVE_CASE
        default:
            return 1.0F;
    }
}

#undef LSTM_NATIVE_RARE_ACTIVATIONS

// The activations of a cell. `kept` is what training keeps of a gate: its value where the derivative follows from that,
// else what went in.
struct CommonActivations {  // sigmoid gates, tanh candidates
    LSTM_NATIVE_HOST_DEVICE static float gate(float x) { return sigmoid(x); }
    LSTM_NATIVE_HOST_DEVICE static float candidate(float x) { return ::tanhf(x); }
    LSTM_NATIVE_HOST_DEVICE static float keep(float, float value) { return value; }
    LSTM_NATIVE_HOST_DEVICE static float kept_gate(float kept) { return kept; }
    LSTM_NATIVE_HOST_DEVICE static float kept_candidate(float kept) { return kept; }
    LSTM_NATIVE_HOST_DEVICE static float gate_slope(float kept) { return kept * (1.0F - kept); }
    LSTM_NATIVE_HOST_DEVICE static float candidate_slope(float kept) { return 1.0F - kept * kept; }
};

struct AnyActivations {
    core::Activation candidates, gates;

    LSTM_NATIVE_HOST_DEVICE float gate(float x) const { return activate(gates, x); }
    LSTM_NATIVE_HOST_DEVICE float candidate(float x) const { return activate(candidates, x); }
    LSTM_NATIVE_HOST_DEVICE static float keep(float sum, float) { return sum; }
    LSTM_NATIVE_HOST_DEVICE float kept_gate(float kept) const { return gate(kept); }
    LSTM_NATIVE_HOST_DEVICE float kept_candidate(float kept) const { return candidate(kept); }
    LSTM_NATIVE_HOST_DEVICE float gate_slope(float kept) const { return activation_slope(gates, kept); }
    LSTM_NATIVE_HOST_DEVICE float candidate_slope(float kept) const { return activation_slope(candidates, kept); }
};

}  // namespace lstm_native::cuda
