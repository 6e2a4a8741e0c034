// The native module: a table of contents (floor 3).
#include "bindings/bindings.h"

PYBIND11_MODULE(_core, module) {
    namespace bindings = lstm_native::bindings;
    module.doc() = "Native core of lstm_native. Private: the public face is the package around it.";

    bindings::count_calls_over_forks();
    bindings::bind_tensor(module);        // Tensor, as_tensor, Variable
    bindings::bind_layers(module);        // recurrent layers, dense, embedding, activations
    bindings::bind_extra_layers(module);  // merging of directions, normalization, attention
    bindings::bind_stream(module);        // a model step by step
    bindings::bind_training(module);      // losses, optimizers, elementwise arithmetic, random numbers
    bindings::bind_machine(module);       // instruction sets, threads, build
}
