// Arrays of Python as tensors (floor 3).
#pragma once

#include <memory>
#include <string_view>

#include <pybind11/numpy.h>

#include "bindings/bindings.h"

namespace lstm_native::bindings {

core::DType dtype_from_name(std::string_view name);   // invalid_argument: unknown
int numpy_type(core::DType dtype);                    // NumPy's type number
bool find_dtype(int numpy_type, core::DType* dtype);  // false where we have no such type

// Keeps a Python object alive for as long as C++ needs it; may be let go by any thread.
std::shared_ptr<void> hold(py::object object);

// A NumPy array on the tensor's memory, which lives as long as the array; on a copy where that is no memory of the
// host.
py::array view_as_numpy(const core::Tensor& tensor, const py::handle& owner);
// A NumPy array of its own.
py::array copy_as_numpy(const core::Tensor& tensor);

// `x` (Tensor, ndarray, DLPack object on the CPU, anything NumPy makes an array of) as a tensor of `dtype`; shares
// memory where dtype and layout allow and the memory may be written. TypeError: no numbers. ValueError: a number that
// `dtype` cannot hold (fractions and out-of-range values for integers).
core::Tensor tensor_from_python(const py::handle& x, core::DType dtype);

// The same elements as another dtype, with the checks above.
core::Tensor convert(const core::Tensor& source, core::DType dtype);

// DLPack. Import throws BufferError for what this library cannot hold; the tensor is undefined when the array has
// strides or a dtype that needs conversion (NumPy's turn). `consumer_stream`: that of the array API, of a tensor on
// CUDA.
py::capsule to_dlpack(const core::Tensor& tensor, bool versioned, bool copied, std::int64_t consumer_stream);
core::Tensor from_dlpack(const py::handle& x);

}  // namespace lstm_native::bindings
