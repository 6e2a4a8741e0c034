// What the files of the bindings share (floor 3): their registration functions, and conversions of arguments and results.
#pragma once

#include <pybind11/pybind11.h>

#include <type_traits>
#include <utility>

#include "core/tensor.h"

namespace lstm_native::bindings {

namespace py = pybind11;

// One call each from module.cpp, in an order in which types come before their users.
void bind_tensor(py::module_& module);
void bind_layers(py::module_& module);
void bind_training(py::module_& module);
void bind_machine(py::module_& module);

core::Shape shape_from_python(const py::handle& extents);
py::tuple shape_to_python(const core::Shape& shape);

// None is the undefined tensor, in both directions.
inline const core::Tensor& optional(const core::Tensor* tensor) {
    static const core::Tensor none;
    return tensor == nullptr ? none : *tensor;
}
inline py::object optional(core::Tensor&& tensor) {
    if (!tensor.defined()) return py::none();
    return py::cast(std::move(tensor));
}

// Operations, roughly floating-point ones, from which on other Python threads may run meanwhile. Below, letting the
// interpreter lock go and taking it again costs more than it can give.
inline constexpr double kReleaseWork = 2e5;

template <class F>
std::invoke_result_t<F> run(double work, F&& function) {
    if (work < kReleaseWork) return function();
    const py::gil_scoped_release release;
    return function();
}

}  // namespace lstm_native::bindings
