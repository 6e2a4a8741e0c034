#include "core/activation.h"

#include <cmath>
#include <cstring>

namespace lstm_native::core {

namespace {

struct Name {
    const char* name;
    Activation activation;
};

// The first name of each is the one that name_of gives back.
constexpr Name kNames[] = {
    {"linear", Activation::linear},
    {"tanh", Activation::tanh},
    {"sigmoid", Activation::sigmoid},
    {"hard_sigmoid", Activation::hard_sigmoid},
    {"relu", Activation::relu},
    {"softsign", Activation::softsign},
    {"leaky_relu", Activation::leaky_relu},
    {"relu6", Activation::relu6},
    {"elu", Activation::elu},
    {"celu", Activation::celu},
    {"selu", Activation::selu},
    {"softplus", Activation::softplus},
    {"squareplus", Activation::squareplus},
    {"soft_shrink", Activation::soft_shrink},
    {"sparse_plus", Activation::sparse_plus},
    {"silu", Activation::silu},
    {"swish", Activation::silu},
    {"gelu", Activation::gelu},
    {"tanh_shrink", Activation::tanh_shrink},
    {"sparse_sigmoid", Activation::sparse_sigmoid},
    {"exponential", Activation::exponential},
    {"hard_silu", Activation::hard_silu},
    {"hard_swish", Activation::hard_silu},
    {"hard_tanh", Activation::hard_tanh},
    {"hard_shrink", Activation::hard_shrink},
    {"mish", Activation::mish},
    {"log_sigmoid", Activation::log_sigmoid},
    {"softmax", Activation::softmax},
    {"log_softmax", Activation::log_softmax},
    {"sparsemax", Activation::sparsemax},
};

constexpr double kLeakySlope = 0.2;
// Klambauer and others, "Self-normalizing neural networks", 2017.
constexpr double kSeluScale = 1.0507009873554804934193349852946;
constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
constexpr double kShrink = 0.5;
constexpr double kSquareplusB = 4.0;
constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kInverseSqrtTwoPi = 0.39894228040143267794;

double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double softplus(double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
// (x + sqrt(x^2 + b)) / 2 without the cancellation for negative x.
double squareplus(double x) {
    const double root = std::sqrt(x * x + kSquareplusB);
    return x < 0.0 ? 0.5 * kSquareplusB / (root - x) : 0.5 * (x + root);
}
double relu6(double x) { return x < 0.0 ? 0.0 : x > 6.0 ? 6.0 : x; }
double normal_distribution(double x) { return 0.5 * std::erfc(-x * kSqrtHalf); }
double normal_density(double x) { return kInverseSqrtTwoPi * std::exp(-0.5 * x * x); }
// x * f where f decays faster than x grows: 0 and not NaN at minus infinity.
double times(double x, double f) { return f == 0.0 && !std::isnan(x) ? 0.0 : x * f; }

// One activation in double precision, so that the result is the rounded true value in nearly all cases.
template <Activation A>
double value(double x);
template <Activation A>
double derivative(double x);

#define LSTM_NATIVE_ACTIVATION(name, f, df)                          \
    template <>                                                      \
    double value<Activation::name>(double x) {                       \
        return f;                                                    \
    }                                                                \
    template <>                                                      \
    double derivative<Activation::name>([[maybe_unused]] double x) { \
        return df;                                                   \
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

template <Activation A>
constexpr ScalarActivation scalar() {
    return {[](float x) { return static_cast<float>(value<A>(static_cast<double>(x))); },
            [](float x) { return static_cast<float>(derivative<A>(static_cast<double>(x))); }};
}

}  // namespace

bool find_activation(const char* name, Activation* out) {
    for (const Name& entry : kNames) {
        if (std::strcmp(name, entry.name) == 0) {
            *out = entry.activation;
            return true;
        }
    }
    return false;
}

const char* name_of(Activation activation) {
    for (const Name& entry : kNames)
        if (entry.activation == activation) return entry.name;
    return "";
}

bool is_elementwise(Activation activation) { return activation < Activation::softmax; }

ScalarActivation scalar_activation(Activation activation) {
    switch (activation) {
        case Activation::linear:
            return scalar<Activation::linear>();
        case Activation::tanh:
            return scalar<Activation::tanh>();
        case Activation::sigmoid:
            return scalar<Activation::sigmoid>();
        case Activation::hard_sigmoid:
            return scalar<Activation::hard_sigmoid>();
        case Activation::relu:
            return scalar<Activation::relu>();
        case Activation::softsign:
            return scalar<Activation::softsign>();
        case Activation::leaky_relu:
            return scalar<Activation::leaky_relu>();
        case Activation::relu6:
            return scalar<Activation::relu6>();
        case Activation::elu:
            return scalar<Activation::elu>();
        case Activation::celu:
            return scalar<Activation::celu>();
        case Activation::selu:
            return scalar<Activation::selu>();
        case Activation::softplus:
            return scalar<Activation::softplus>();
        case Activation::squareplus:
            return scalar<Activation::squareplus>();
        case Activation::soft_shrink:
            return scalar<Activation::soft_shrink>();
        case Activation::sparse_plus:
            return scalar<Activation::sparse_plus>();
        case Activation::silu:
            return scalar<Activation::silu>();
        case Activation::gelu:
            return scalar<Activation::gelu>();
        case Activation::tanh_shrink:
            return scalar<Activation::tanh_shrink>();
        case Activation::sparse_sigmoid:
            return scalar<Activation::sparse_sigmoid>();
        case Activation::exponential:
            return scalar<Activation::exponential>();
        case Activation::hard_silu:
            return scalar<Activation::hard_silu>();
        case Activation::hard_tanh:
            return scalar<Activation::hard_tanh>();
        case Activation::hard_shrink:
            return scalar<Activation::hard_shrink>();
        case Activation::mish:
            return scalar<Activation::mish>();
        case Activation::log_sigmoid:
            return scalar<Activation::log_sigmoid>();
        case Activation::softmax:
        case Activation::log_softmax:
        case Activation::sparsemax:
        case Activation::count:
            break;
    }
    return {nullptr, nullptr};
}

}  // namespace lstm_native::core
