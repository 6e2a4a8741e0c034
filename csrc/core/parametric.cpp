#include "core/parametric.h"

#include <cstring>

namespace lstm_native::core {

bool find_parametric(const char* name, Parametric* out) {
    static constexpr const char* kNames[] = {"affine",      "leaky_relu",   "thresholded_relu",
                                             "scaled_tanh", "hard_sigmoid", "elu"};
    std::int32_t number = static_cast<std::int32_t>(Parametric::affine);
    for (const char* known : kNames) {
        if (std::strcmp(name, known) == 0) {
            *out = static_cast<Parametric>(number);
            return true;
        }
        ++number;
    }
    return false;
}

}  // namespace lstm_native::core
