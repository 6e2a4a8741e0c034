// Elementwise functions with parameters (floor 0), as ONNX has them for recurrent cells. Kernels compute them.
#pragma once

#include <cstdint>

namespace lstm_native::core {

// Values are part of the backend's C interface: append only. They begin where core/activation.h will not get to.
enum class Parametric : std::int32_t {
    affine = 1024,     // alpha x + beta
    leaky_relu,        // x, or alpha x for x < 0
    thresholded_relu,  // x, or 0 up to alpha
    scaled_tanh,       // alpha tanh(beta x)
    hard_sigmoid,      // alpha x + beta within [0, 1]
    elu,               // x, or alpha (e^x - 1) for x < 0
};

// False when the name is unknown.
bool find_parametric(const char* name, Parametric* out);

}  // namespace lstm_native::core
