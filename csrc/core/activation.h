// The activations by name (floor 0) and their scalar mathematics. Kernels have vector forms of the common
// ones; the rest run through these functions, element by element.
#pragma once

#include <cstdint>

namespace lstm_native::core {

// Values are part of the backend's C interface: append only.
enum class Activation : std::int32_t {
    linear,
    tanh,
    sigmoid,
    hard_sigmoid,
    relu,
    softsign,  // vector forms in the kernels
    leaky_relu,
    relu6,
    elu,
    celu,
    selu,
    softplus,
    squareplus,
    soft_shrink,
    sparse_plus,
    silu,
    gelu,
    tanh_shrink,
    sparse_sigmoid,
    exponential,
    hard_silu,
    hard_tanh,
    hard_shrink,
    mish,
    log_sigmoid,
    softmax,
    log_softmax,
    sparsemax,  // over the last axis
    count
};

// Name as Keras spells it ("swish", "hard_swish" and None's "linear" included); false when unknown.
bool find_activation(const char* name, Activation* out);
const char* name_of(Activation activation);
// False for those that mix the elements of a row.
bool is_elementwise(Activation activation);

// Elementwise ones: value and derivative at x, with Keras' default parameters.
using ScalarFunction = float (*)(float);
struct ScalarActivation {
    ScalarFunction value;
    ScalarFunction derivative;
};
ScalarActivation scalar_activation(Activation activation);

}  // namespace lstm_native::core
