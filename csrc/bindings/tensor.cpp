// Tensor, as_tensor and Variable in Python (floor 3).
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "bindings/dlpack.h"
#include "core/error.h"
#include "core/size.h"
#include "core/thread_pool.h"
#include "ops/cuda.h"
#include "ops/variable.h"

namespace lstm_native::bindings {
namespace {

using core::Tensor;
using ops::Variable;

// Properties that Tensor and Variable have in common.
template <class Class, class TensorOf>
void bind_properties(Class& type, TensorOf tensor_of) {
    using Self = typename Class::type;
    type.def_property_readonly("shape", [=](const Self& self) { return shape_to_python(tensor_of(self).shape()); })
        .def_property_readonly("ndim", [=](const Self& self) { return tensor_of(self).rank(); })
        .def_property_readonly("size", [=](const Self& self) { return tensor_of(self).count(); })
        .def_property_readonly("dtype", [=](const Self& self) { return core::name_of(tensor_of(self).dtype()); })
        .def_property_readonly("device", [=](const Self& self) { return core::name_of(tensor_of(self).device()); });
}

py::buffer_info buffer_of(const Tensor& tensor) {
    if (tensor.device() != core::Device::cpu)
        throw py::buffer_error("Tensor: lies on the device 'cuda', which has no buffer; take .numpy()");
    std::vector<py::ssize_t> shape(tensor.shape().data(), tensor.shape().data() + tensor.rank());
    const char* format = "";
    switch (tensor.dtype()) {
        case core::DType::float32:
            format = "f";
            break;
        case core::DType::float64:
            format = "d";
            break;
        case core::DType::int32:
            format = "i";
            break;
        case core::DType::int64:
            format = "l";
            break;
        case core::DType::uint8:
            format = "B";
            break;
        case core::DType::boolean:
            format = "?";
            break;
        case core::DType::bfloat16:
        case core::DType::int8:
            throw py::buffer_error("Tensor: quantized weights have no buffer");
    }
    const auto item = static_cast<py::ssize_t>(core::size_of(tensor.dtype()));
    auto strides = py::detail::c_strides(shape, item);
    return py::buffer_info(tensor.raw(), item, format, tensor.rank(), std::move(shape), std::move(strides));
}

// Shape, dtype and every byte.
bool same_bits(const Tensor& a, const Tensor& b) {
    if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
    constexpr std::int64_t kTask = 1 << 18;  // bytes; a call with a few of them is worth a thread
    return run(static_cast<double>(a.count()), [&] {
        const Tensor x = a.to(core::Device::cpu);
        const Tensor y = b.to(core::Device::cpu);
        const auto bytes = static_cast<std::int64_t>(x.bytes());
        std::atomic<bool> same{true};
        core::parallel_tasks(core::ceil_div(bytes, kTask), bytes < 8 * kTask ? 1 : core::num_threads(),
                             [&](std::int64_t task) {
                                 const std::int64_t begin = task * kTask;
                                 const auto count = static_cast<std::size_t>(std::min(kTask, bytes - begin));
                                 if (same.load(std::memory_order_relaxed) &&
                                     std::memcmp(x.data<char>() + begin, y.data<char>() + begin, count) != 0)
                                     same.store(false, std::memory_order_relaxed);
                             });
        return same.load();
    });
}

py::object as_numpy(const py::object& self, const py::object& dtype, const py::object& copy) {
    py::object array = view_as_numpy(*self.cast<const Tensor*>(), self);
    const bool never_copy = !copy.is_none() && !copy.cast<bool>();
    const bool always_copy = !copy.is_none() && copy.cast<bool>();
    if (!dtype.is_none() && !array.attr("dtype").cast<py::object>().equal(py::dtype::from_args(dtype))) {
        core::check(!never_copy, "Tensor.__array__: another dtype needs a copy, and copy is False");
        return array.attr("astype")(dtype);
    }
    return always_copy ? array.attr("copy")() : array;
}

py::capsule dlpack_of(const Tensor& self, const py::object& stream, const py::object& max_version,
                      const py::object& dl_device, const py::object& copy) {
    const bool on_cuda = self.device() != core::Device::cpu;
    if (!on_cuda && !stream.is_none())
        throw py::buffer_error("Tensor.__dlpack__: stream is given, expected None for the CPU");
    const int own = on_cuda ? dlpack::kCuda : dlpack::kCpu;
    if (!dl_device.is_none() && !dl_device.equal(py::make_tuple(own, 0))) {
        throw py::buffer_error(core::message("Tensor.__dlpack__: dl_device is another device, expected ",
                                             on_cuda ? "CUDA's, " : "the CPU, ", "(", own, ", 0)"));
    }
    std::int64_t wanted = -1;
    if (on_cuda) {
        // As the array API has it: None is the legacy default stream, 1 too, 2 the one of the thread; -1 wants no
        // order.
        wanted = stream.is_none() ? 1 : stream.cast<std::int64_t>();
        if (wanted != -1) ops::cuda_hand_over(reinterpret_cast<void*>(static_cast<std::uintptr_t>(wanted)));
    }
    const bool versioned =
        !max_version.is_none() && max_version.cast<py::tuple>()[0].cast<int>() >= static_cast<int>(dlpack::kMajor);
    const bool copied = !copy.is_none() && copy.cast<bool>();
    return to_dlpack(copied ? self.copy() : self, versioned, copied, wanted);
}

}  // namespace

core::Device device_from_name(std::string_view name) {
    for (const core::Device device : {core::Device::cpu, core::Device::cuda})
        if (name == core::name_of(device)) return device;
    core::fail("device is '", name, "', expected 'cpu' or 'cuda'");
}

core::Shape shape_from_python(const py::handle& extents) {
    const auto sequence =
        py::reinterpret_steal<py::object>(PySequence_Fast(extents.ptr(), "expected a sequence of integers as shape"));
    if (!sequence) throw py::error_already_set();
    const py::ssize_t rank = PySequence_Fast_GET_SIZE(sequence.ptr());
    if (rank > core::kMaxRank) core::fail("a shape has ", rank, " axes, expected at most ", core::kMaxRank);
    std::int64_t values[core::kMaxRank] = {};
    for (py::ssize_t axis = 0; axis < rank; ++axis) {
        PyObject* const item = PySequence_Fast_GET_ITEM(sequence.ptr(), axis);
        const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(item));
        if (!index) throw py::error_already_set();
        values[axis] = PyLong_AsLongLong(index.ptr());
        if (values[axis] == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    }
    return core::Shape(values, static_cast<int>(rank));
}

py::tuple shape_to_python(const core::Shape& shape) {
    py::tuple result(static_cast<std::size_t>(shape.rank()));
    for (int axis = 0; axis < shape.rank(); ++axis) {
        result[static_cast<std::size_t>(axis)] = py::int_(shape[axis]);
    }
    return result;
}

void bind_tensor(py::module_& module) {
    py::class_<Tensor> tensor(module, "Tensor", py::buffer_protocol());
    bind_properties(tensor, [](const Tensor& self) -> const Tensor& { return self; });
    tensor.def_buffer([](const Tensor& self) { return buffer_of(self); })
        .def("numpy", [](const py::object& self) { return view_as_numpy(*self.cast<const Tensor*>(), self); })
        .def("copy", &Tensor::copy)
        .def("own",
             [](const py::object& self) -> py::object {
                 const Tensor& tensor = *self.cast<const Tensor*>();
                 return tensor.wrapped() || tensor.owner().use_count() > 1 ? py::cast(tensor.copy()) : self;
             })
        .def(
            "to",
            [](const py::object& self, std::string_view device) -> py::object {
                const core::Device wanted = device_from_name(device);
                const Tensor& tensor = *self.cast<const Tensor*>();
                return tensor.device() == wanted ? self : py::cast(tensor.to(wanted));
            },
            py::arg("device"))
        .def(
            "reshape",
            [](const Tensor& self, const py::object& shape) { return self.reshape(shape_from_python(shape)); },
            py::arg("shape"))
        .def("__len__",
             [](const Tensor& self) {
                 if (self.rank() == 0) throw py::type_error("len() of a Tensor without axes");
                 return self.shape()[0];
             })
        .def("__repr__",
             [](const Tensor& self) {
                 return core::message("Tensor(shape=", self.shape().text(), ", dtype=", core::name_of(self.dtype()),
                                      ")");
             })
        .def("__array__", &as_numpy, py::arg("dtype") = py::none(), py::arg("copy") = py::none())
        .def("__dlpack__", &dlpack_of, py::kw_only(), py::arg("stream") = py::none(),
             py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
        .def("__dlpack_device__", [](const Tensor& self) {
            return py::make_tuple(self.device() == core::Device::cpu ? dlpack::kCpu : dlpack::kCuda, 0);
        });

    module.def("same_bits", &same_bits);
    module.def(
        "as_tensor",
        [](const py::object& x, std::string_view dtype) -> py::object {
            const core::DType wanted = dtype_from_name(dtype);
            // The same object where nothing is to be done.
            if (py::isinstance<Tensor>(x) && x.cast<const Tensor*>()->dtype() == wanted) return x;
            return py::cast(tensor_from_python(x, wanted));
        },
        py::arg("x"), py::arg("dtype"));

    module.def("from_dlpack", [](const py::object& x) { return or_none(from_dlpack(x)); }, py::arg("x"));

    py::class_<Variable, std::shared_ptr<Variable>> variable(module, "Variable");
    bind_properties(variable, [](const Variable& self) -> const Tensor& { return self.tensor(); });
    module.def(
        "move_variables",
        [](const py::iterable& variables, std::string_view device) {
            const py::tuple held(variables);
            std::vector<Variable*> moved;
            for (const py::handle item : held) moved.push_back(item.cast<Variable*>());
            wait_for_calls();
            Variable::move(moved, device_from_name(device));
        },
        py::arg("variables"), py::arg("device"));

    module.def(
        "quantize_variables",
        [](const py::iterable& variables, std::string_view dtype, bool is_new) {
            std::vector<Variable::ToQuantize> given;
            for (const py::handle item : variables) {
                const auto [variable, axis, label] = item.cast<std::tuple<Variable*, int, std::string>>();
                core::check(variable != nullptr, "quantize_variables: a variable is None");
                given.push_back({variable, axis, label});
            }
            const bool in_bfloat16 = dtype == core::name_of(core::DType::bfloat16);
            core::check(in_bfloat16 || dtype == core::name_of(core::DType::int8), "quantize_variables: dtype is '",
                        dtype, "', expected 'bfloat16' or 'int8'");
            if (!is_new) wait_for_calls();
            Variable::quantize(given, in_bfloat16 ? core::DType::bfloat16 : core::DType::int8);
        },
        py::arg("variables"), py::arg("dtype"), py::arg("is_new") = false);

    variable.def(py::init<const Tensor&>(), py::arg("value"))
        .def_property_readonly("version", &Variable::version)
        .def_property_readonly("is_quantized", &Variable::is_quantized)
        .def_property_readonly("nbytes", &Variable::bytes)
        .def_property_readonly("scales",
                               [](const Variable& self) -> py::object {
                                   if (!self.scales().defined()) return py::none();
                                   const std::int64_t count = self.scales().count();
                                   const bool by_row = self.scale_axis() == 0;
                                   const core::Shape shape = {by_row ? count : 1, by_row ? 1 : count};
                                   return copy_as_numpy(self.scales().reshape(shape));
                               })
        .def_property_readonly("scale_axis", &Variable::scale_axis)
        .def("numpy", [](const Variable& self) { return copy_as_numpy(self.values()); })
        .def("assign", &Variable::assign, py::arg("value"))
        .def("__repr__", [](const Variable& self) {
            return core::message("Variable(shape=", self.tensor().shape().text(),
                                 ", dtype=", core::name_of(self.tensor().dtype()), ")");
        });
}

}  // namespace lstm_native::bindings
