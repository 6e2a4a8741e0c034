// The formulas of the elementwise activations and their derivatives (floor 0), with Keras' default parameters: for the
// CPU and, where a CUDA compiler reads them, for its device.
#pragma once

#include <cmath>

#include "core/activation.h"
#include "core/host_device.h"

namespace lstm_native::core::activation {

inline constexpr double kLeakySlope = 0.2;
// Klambauer and others, "Self-normalizing neural networks", 2017.
inline constexpr double kSeluScale = 1.0507009873554804934193349852946;
inline constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
inline constexpr double kShrink = 0.5;
inline constexpr double kSquareplusB = 4.0;
inline constexpr double kSqrtHalf = 0.70710678118654752440;
inline constexpr double kInverseSqrtTwoPi = 0.39894228040143267794;

LSTM_NATIVE_HOST_DEVICE inline double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }
LSTM_NATIVE_HOST_DEVICE inline double softplus(double x) {
    return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
}
// (x + sqrt(x^2 + b)) / 2 without the cancellation for negative x.
LSTM_NATIVE_HOST_DEVICE inline double squareplus(double x) {
    const double root = std::sqrt(x * x + kSquareplusB);
    return x < 0.0 ? 0.5 * kSquareplusB / (root - x) : 0.5 * (x + root);
}
LSTM_NATIVE_HOST_DEVICE inline double relu6(double x) { return x < 0.0 ? 0.0 : x > 6.0 ? 6.0 : x; }
LSTM_NATIVE_HOST_DEVICE inline double normal_distribution(double x) { return 0.5 * std::erfc(-x * kSqrtHalf); }
LSTM_NATIVE_HOST_DEVICE inline double normal_density(double x) { return kInverseSqrtTwoPi * std::exp(-0.5 * x * x); }
// x * f where f decays faster than x grows: 0 and not NaN at minus infinity.
LSTM_NATIVE_HOST_DEVICE inline double times(double x, double f) { return f == 0.0 && !std::isnan(x) ? 0.0 : x * f; }

// One activation in double precision, so that the result is the rounded true value in nearly all cases.
template <Activation A>
LSTM_NATIVE_HOST_DEVICE double value(double x);
template <Activation A>
LSTM_NATIVE_HOST_DEVICE double derivative(double x);

#define LSTM_NATIVE_ACTIVATION(name, f, df)                                                         \
    template <>                                                                                     \
    LSTM_NATIVE_HOST_DEVICE inline double value<Activation::name>(double x) {                       \
        return f;                                                                                   \
    }                                                                                               \
    template <>                                                                                     \
    LSTM_NATIVE_HOST_DEVICE inline double derivative<Activation::name>([[maybe_unused]] double x) { \
        return df;                                                                                  \
    }

LSTM_NATIVE_ACTIVATION(linear, x, 1.0)
LSTM_NATIVE_ACTIVATION(tanh, std::tanh(x), 1.0 / (std::cosh(x) * std::cosh(x)))
LSTM_NATIVE_ACTIVATION(sigmoid, logistic(x), logistic(x) * logistic(-x))
LSTM_NATIVE_ACTIVATION(hard_sigmoid, relu6(x + 3.0) / 6.0, std::fabs(x) < 3.0 ? 1.0 / 6.0 : 0.0)
LSTM_NATIVE_ACTIVATION(relu, x < 0.0 ? 0.0 : x, x > 0.0 ? 1.0 : 0.0)
LSTM_NATIVE_ACTIVATION(softsign, x / (1.0 + std::fabs(x)), 1.0 / ((1.0 + std::fabs(x)) * (1.0 + std::fabs(x))))
LSTM_NATIVE_ACTIVATION(leaky_relu, x < 0.0 ? kLeakySlope * x : x, x > 0.0 ? 1.0 : kLeakySlope)
LSTM_NATIVE_ACTIVATION(relu6, relu6(x), x > 0.0 && x < 6.0 ? 1.0 : 0.0)
LSTM_NATIVE_ACTIVATION(elu, x < 0.0 ? std::expm1(x) : x, x < 0.0 ? std::exp(x) : 1.0)
LSTM_NATIVE_ACTIVATION(celu, x < 0.0 ? std::expm1(x) : x, x < 0.0 ? std::exp(x) : 1.0)
LSTM_NATIVE_ACTIVATION(selu, kSeluScale*(x < 0.0 ? kSeluAlpha * std::expm1(x) : x),
                       kSeluScale*(x < 0.0 ? kSeluAlpha * std::exp(x) : 1.0))
LSTM_NATIVE_ACTIVATION(softplus, softplus(x), logistic(x))
LSTM_NATIVE_ACTIVATION(squareplus, squareplus(x),
                       x > 0.0 ? 0.5 + 0.5 / std::sqrt(1.0 + kSquareplusB / (x * x))
                               : squareplus(x) / std::sqrt(x * x + kSquareplusB))
LSTM_NATIVE_ACTIVATION(soft_shrink,
                       x > kShrink    ? x - kShrink
                       : x < -kShrink ? x + kShrink
                                      : 0.0 * x,
                       std::fabs(x) > kShrink ? 1.0 : 0.0)
LSTM_NATIVE_ACTIVATION(sparse_plus,
                       x <= -1.0 ? 0.0
                       : x < 1.0 ? 0.25 * (x + 1.0) * (x + 1.0)
                                 : x,
                       x <= -1.0 ? 0.0
                       : x < 1.0 ? 0.5 * (x + 1.0)
                                 : 1.0)
LSTM_NATIVE_ACTIVATION(silu, times(x, logistic(x)), logistic(x) + times(x, logistic(x) * logistic(-x)))
LSTM_NATIVE_ACTIVATION(gelu, times(x, normal_distribution(x)), normal_distribution(x) + times(x, normal_density(x)))
LSTM_NATIVE_ACTIVATION(tanh_shrink, x - std::tanh(x), std::tanh(x) * std::tanh(x))
LSTM_NATIVE_ACTIVATION(sparse_sigmoid,
                       x <= -1.0  ? 0.0
                       : x >= 1.0 ? 1.0
                                  : 0.5 * (x + 1.0),
                       std::fabs(x) < 1.0 ? 0.5 : 0.0)
LSTM_NATIVE_ACTIVATION(exponential, std::exp(x), std::exp(x))
LSTM_NATIVE_ACTIVATION(hard_silu, times(x, relu6(x + 3.0) / 6.0),
                       x <= -3.0  ? 0.0
                       : x >= 3.0 ? 1.0
                                  : (2.0 * x + 3.0) / 6.0)
LSTM_NATIVE_ACTIVATION(hard_tanh, x < -1.0 ? -1.0 : x > 1.0 ? 1.0 : x, std::fabs(x) < 1.0 ? 1.0 : 0.0)
LSTM_NATIVE_ACTIVATION(hard_shrink, std::fabs(x) <= kShrink ? 0.0 : x, std::fabs(x) > kShrink ? 1.0 : 0.0)
LSTM_NATIVE_ACTIVATION(mish, times(x, std::tanh(softplus(x))), [x] {
    const double t = std::tanh(softplus(x));
    return t + times(x, (1.0 - t * t) * logistic(x));
}())
LSTM_NATIVE_ACTIVATION(log_sigmoid, -softplus(-x), logistic(-x))

#undef LSTM_NATIVE_ACTIVATION

}  // namespace lstm_native::core::activation
