// What the files of the bindings share (floor 3): their registration functions, and conversions of arguments and
// results.
#pragma once

#include <pybind11/pybind11.h>

#include <string_view>
#include <type_traits>
#include <utility>

#include "core/activation.h"
#include "core/tensor.h"

namespace lstm_native::bindings {

namespace py = pybind11;

// One call each from module.cpp, in an order in which types come before their users.
void bind_tensor(py::module_& module);
void bind_layers(py::module_& module);
void bind_extra_layers(py::module_& module);
void bind_stream(py::module_& module);
void bind_training(py::module_& module);
void bind_machine(py::module_& module);

core::Activation activation_from_name(const char* name);  // invalid_argument: unknown
core::Device device_from_name(std::string_view name);     // invalid_argument: unknown
core::Shape shape_from_python(const py::handle& extents);
py::tuple shape_to_python(const core::Shape& shape);

// An argument that is a Tensor or None, the undefined tensor. pybind11's own pointers take None too, but look for
// foreign types first, at the price of a Python exception for every None.
struct OptionalTensor {
    const core::Tensor* tensor = nullptr;

    const core::Tensor& get() const {
        static const core::Tensor none;
        return tensor == nullptr ? none : *tensor;
    }
};

// The undefined tensor is None.
inline py::object or_none(core::Tensor&& tensor) {
    if (!tensor.defined()) return py::none();
    return py::cast(std::move(tensor));
}

// Operations, roughly floating-point ones, from which on other Python threads may run meanwhile. Below, letting the
// interpreter lock go and taking it again costs more than it can give.
inline constexpr double kReleaseWork = 2e5;

// Counts a call for wait_for_calls for as long as it lives. Made and destroyed under the interpreter lock.
class CallWithoutLock {
public:
    CallWithoutLock();
    ~CallWithoutLock();
    CallWithoutLock(const CallWithoutLock&) = delete;
    CallWithoutLock& operator=(const CallWithoutLock&) = delete;
};

// Returns when no thread computes: until the caller gives the interpreter lock away none will, so that storage may be
// exchanged. error_already_set for a signal.
void wait_for_calls();

// Once, before the first call.
void count_calls_over_forks();

template <class F>
std::invoke_result_t<F> run(double work, F&& function) {
    if (work < kReleaseWork) return function();
    const CallWithoutLock call;
    const py::gil_scoped_release release;
    return function();
}

}  // namespace lstm_native::bindings

namespace pybind11::detail {

template <>
struct type_caster<lstm_native::bindings::OptionalTensor> {
    PYBIND11_TYPE_CASTER(lstm_native::bindings::OptionalTensor, const_name("Tensor | None"));

    bool load(handle source, bool convert) {
        if (source.is_none()) return true;
        make_caster<lstm_native::core::Tensor> tensor;
        if (!tensor.load(source, convert)) return false;
        value.tensor = cast_op<lstm_native::core::Tensor*>(tensor);
        return true;
    }
};

}  // namespace pybind11::detail
