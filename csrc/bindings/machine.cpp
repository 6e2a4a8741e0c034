// Instruction sets, threads and the build, in Python (floor 3).
#include <pybind11/stl.h>

#include <string>

#include "bindings/bindings.h"
#include "core/openmp.h"
#include "core/thread_pool.h"
#include "cpu/backend_cpu.h"
#include "ops/cuda.h"

#ifndef LSTM_NATIVE_VERSION
#define LSTM_NATIVE_VERSION "unknown"
#endif

namespace lstm_native::bindings {
namespace {

#define LSTM_NATIVE_TEXT_OF(x) #x
#define LSTM_NATIVE_TEXT(x) LSTM_NATIVE_TEXT_OF(x)

const char* compiler() {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

const char* architecture() {
#if defined(__x86_64__)
    return "x86_64";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "unknown";
#endif
}

py::dict build_info() {
    py::dict info;
    info["version"] = LSTM_NATIVE_VERSION;
    info["compiler"] = compiler();
    info["architecture"] = architecture();
    info["pybind11"] = LSTM_NATIVE_TEXT(PYBIND11_VERSION_MAJOR) "." LSTM_NATIVE_TEXT(PYBIND11_VERSION_MINOR);
    return info;
}

}  // namespace

void bind_machine(py::module_& module) {
    module.def("isa", &cpu::isa)
        .def("available_isas", &cpu::available_isas)
        .def("set_isa", &cpu::set_isa)
        .def("get_num_threads", &core::num_threads)
        .def("set_num_threads", &core::set_num_threads)
        .def("open_openmp", &core::open_openmp)
        .def("borrow_threads", &core::borrow_threads)
        .def("pool_threads", &core::pool_threads)
        .def("set_patient", &core::set_patient)
        .def("build_info", &build_info);

    module.def("open_cuda", &ops::open_cuda)
        .def("open_cuda_blas", &ops::open_cuda_blas)
        .def("cuda_is_open", &ops::cuda_is_open)
        .def("cuda_set_precision", &ops::cuda_set_precision)
        .def("cuda_set_plan", &ops::cuda_set_plan)
        .def("cuda_explain", &ops::cuda_explain, py::arg(), py::arg(), py::arg(), py::arg(),
             py::arg("bidirectional") = false)
        .def("cuda_synchronize", &ops::cuda_synchronize, py::call_guard<py::gil_scoped_release>())
        .def("cuda_info", [] {
            const LnDeviceInfo info = ops::cuda_info();
            return py::make_tuple(info.name, py::make_tuple(info.major, info.minor), info.free_bytes, info.total_bytes);
        });
}

}  // namespace lstm_native::bindings
