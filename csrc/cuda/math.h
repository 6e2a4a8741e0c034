// Scalar mathematics of the kernels (floor 1, CUDA), for the device and the host. float32 with the accurate library
// functions; NaN passes through.
#pragma once

#include <cmath>
#include <cstdint>

#include "backend/backend.h"
#include "core/activation.h"
#include "core/activation_math.h"
#include "core/host_device.h"
#include "core/parametric.h"

namespace lstm_native::cuda {

// 1 / x for x in [1, 2]. A division asks for infinite and subnormal numbers first: a branch that keeps the gates of a
// cell, which are independent, from running beside each other.
LSTM_NATIVE_HOST_DEVICE inline float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
    float guess = 0.0F;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(guess) : "f"(x));
    return ::fmaf(guess, ::fmaf(-x, guess, 1.0F), guess);
#else
    return 1.0F / x;
#endif
}
LSTM_NATIVE_HOST_DEVICE inline float sigmoid(float x) {
    const float power = ::expf(-::fabsf(x));
    const float positive = reciprocal(1.0F + power);
    return x < 0.0F ? power * positive : positive;
}
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

// The functions of backend.h that are none of core/activation.h.
LSTM_NATIVE_HOST_DEVICE inline float parametric(const LnFunction& f, float x) {
    switch (static_cast<core::Parametric>(f.kind)) {
        case core::Parametric::affine:
            return f.alpha * x + f.beta;
        case core::Parametric::leaky_relu:
            return x < 0.0F ? f.alpha * x : x;
        case core::Parametric::thresholded_relu:
            return x <= f.alpha ? 0.0F : x;
        case core::Parametric::scaled_tanh:
            return f.alpha * ::tanhf(f.beta * x);
        case core::Parametric::hard_sigmoid:
            return clamp(f.alpha * x + f.beta, 0.0F, 1.0F);
        case core::Parametric::elu:
            return x < 0.0F ? f.alpha * ::expm1f(x) : x;
    }
    return x;
}

// At a kink that of the flat side.
LSTM_NATIVE_HOST_DEVICE inline float parametric_slope(const LnFunction& f, float x) {
    switch (static_cast<core::Parametric>(f.kind)) {
        case core::Parametric::affine:
            return f.alpha;
        case core::Parametric::leaky_relu:
            return x > 0.0F ? 1.0F : f.alpha;
        case core::Parametric::thresholded_relu:
            return x > f.alpha ? 1.0F : 0.0F;
        case core::Parametric::scaled_tanh: {
            const float y = ::tanhf(f.beta * x);
            return f.alpha * f.beta * (1.0F - y * y);
        }
        case core::Parametric::hard_sigmoid: {
            const float y = f.alpha * x + f.beta;
            return y > 0.0F && y < 1.0F ? f.alpha : 0.0F;
        }
        case core::Parametric::elu:
            return x < 0.0F ? f.alpha * ::expf(x) : 1.0F;
    }
    return 1.0F;
}

// f of x held within [-bound, bound]. Called, not pasted: a kernel with six copies of all activations needs more
// registers than there are.
LSTM_NATIVE_HOST_DEVICE LSTM_NATIVE_NOINLINE inline float value_of(LnFunction f, float bound, float x) {
    x = clamp(x, -bound, bound);
    if (f.kind >= static_cast<std::int32_t>(core::Parametric::affine)) return parametric(f, x);
    return activate(static_cast<core::Activation>(f.kind), x);
}

LSTM_NATIVE_HOST_DEVICE LSTM_NATIVE_NOINLINE inline float slope_of(LnFunction f, float bound, float x) {
    if (bound < HUGE_VALF && !(::fabsf(x) < bound)) return 0.0F;  // nothing is out of infinite bounds
    if (f.kind >= static_cast<std::int32_t>(core::Parametric::affine)) return parametric_slope(f, x);
    return activation_slope(static_cast<core::Activation>(f.kind), x);
}

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

struct ReluActivations {  // of a cell without gates; it keeps what AnyActivations keeps
    LSTM_NATIVE_HOST_DEVICE static float candidate(float x) { return x < 0.0F ? 0.0F : x; }
    LSTM_NATIVE_HOST_DEVICE static float keep(float sum, float) { return sum; }
    LSTM_NATIVE_HOST_DEVICE static float candidate_slope(float kept) { return kept > 0.0F ? 1.0F : 0.0F; }
};

struct AnyActivations {
    LnFunction gates, candidates, outputs;
    float clip;  // bound of what goes into gates and candidates

    LSTM_NATIVE_HOST_DEVICE float gate(float x) const { return value_of(gates, clip, x); }
    LSTM_NATIVE_HOST_DEVICE float candidate(float x) const { return value_of(candidates, clip, x); }
    LSTM_NATIVE_HOST_DEVICE float output(float c) const { return value_of(outputs, HUGE_VALF, c); }
    LSTM_NATIVE_HOST_DEVICE static float keep(float sum, float) { return sum; }
    LSTM_NATIVE_HOST_DEVICE float kept_gate(float kept) const { return gate(kept); }
    LSTM_NATIVE_HOST_DEVICE float kept_candidate(float kept) const { return candidate(kept); }
    LSTM_NATIVE_HOST_DEVICE float gate_slope(float kept) const { return slope_of(gates, clip, kept); }
    LSTM_NATIVE_HOST_DEVICE float candidate_slope(float kept) const { return slope_of(candidates, clip, kept); }
    LSTM_NATIVE_HOST_DEVICE float output_slope(float c) const { return slope_of(outputs, HUGE_VALF, c); }
};

}  // namespace lstm_native::cuda
