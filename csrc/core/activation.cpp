#include "core/activation.h"

#include <cstring>

#include "core/activation_math.h"

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

template <Activation A>
constexpr ScalarActivation scalar() {
    return {[](float x) { return static_cast<float>(activation::value<A>(static_cast<double>(x))); },
            [](float x) { return static_cast<float>(activation::derivative<A>(static_cast<double>(x))); }};
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
