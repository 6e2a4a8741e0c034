// A model step by step in Python (floor 3). The call itself must cost little beside a small layer: plain arrays are
// looked into where they lie, everything else goes through a Python function.
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "core/activation.h"
#include "core/error.h"
#include "ops/normalization.h"
#include "ops/stream.h"

namespace lstm_native::bindings {
namespace {

using core::DType;
using core::Tensor;
using ops::ArrayView;

// The array's memory as it is; false where it is no array that native code can read in place (and write, on demand).
bool view_array(const py::handle& x, bool writable, ArrayView* view) {
    const py::detail::npy_api& numpy = py::detail::npy_api::get();
    if (!numpy.PyArray_Check_(x.ptr())) return false;
    const auto* const array = py::detail::array_proxy(x.ptr());
    const auto* const descr = py::detail::array_descriptor_proxy(array->descr);
    int needed = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if (writable) needed |= py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    if ((array->flags & needed) != needed || array->nd > core::kMaxRank) return false;
    if (!find_dtype(descr->type_num, &view->dtype) || (descr->byteorder != '=' && descr->byteorder != '|'))
        return false;
    std::int64_t extents[core::kMaxRank] = {};
    for (int axis = 0; axis < array->nd; ++axis) extents[axis] = array->dimensions[axis];
    view->shape = core::Shape(extents, array->nd);
    view->data = array->data;
    return true;
}

// A Python int as an id; false where it is none or too large.
bool view_id(const py::handle& x, std::int64_t* id) {
    if (!PyLong_CheckExact(x.ptr())) return false;
    int overflow = 0;
    *id = PyLong_AsLongLongAndOverflow(x.ptr(), &overflow);
    return overflow == 0;
}

ArrayView view_tensor(const Tensor& tensor) { return {tensor.raw(), tensor.shape(), tensor.dtype()}; }

py::object new_rows(std::int64_t rows, std::int64_t width) {
    const py::detail::npy_api& numpy = py::detail::npy_api::get();
    const Py_intptr_t extents[] = {rows, width};
    PyObject* const array =
        numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, numpy.PyArray_DescrFromType_(numpy_type(DType::float32)), 2,
                                    extents, nullptr, nullptr, 0, nullptr);
    if (array == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(array);
}

// `convert` makes a tensor of the right dtype of any other argument, or raises.
class Stream {
public:
    Stream(const std::string& label, std::int64_t rows, std::int64_t features, py::function convert,
           std::string_view device)
        : stream_(label, rows, features, device_from_name(device)), label_(label), convert_(std::move(convert)) {}

    ops::Stream& native() { return stream_; }

    py::object step(const py::object& x, py::object out) {
        ArrayView from;
        ArrayView to;
        std::int64_t id = 0;
        Tensor converted;
        if (stream_.takes_ids() && view_id(x, &id)) {
            from = {&id, core::Shape{}, DType::int64};
        } else if (!view_array(x, false, &from) || !fits(from.dtype)) {
            converted = convert_(x).cast<Tensor>().to(core::Device::cpu);
            from = view_tensor(converted);
        }
        if (out.is_none()) out = new_rows(stream_.rows(), stream_.width());
        if (!view_array(out, true, &to)) refuse(out);
        run(stream_.work(), [&] { stream_.step(from, to); });
        return out;
    }

private:
    bool fits(DType dtype) const {
        return stream_.takes_ids() ? dtype == DType::int32 || dtype == DType::int64 : dtype == DType::float32;
    }

    [[noreturn]] void refuse(const py::object& out) const {
        const std::string expected = core::message(", expected a writable C-contiguous float32 array of shape ",
                                                   core::Shape{stream_.rows(), stream_.width()});
        if (!py::isinstance<py::array>(out))
            throw py::type_error(core::message(label_, ": out is a ", Py_TYPE(out.ptr())->tp_name, expected));
        core::fail(label_, ": out has dtype ", std::string(py::str(out.attr("dtype"))), ", shape ",
                   std::string(py::str(out.attr("shape"))), " or a layout that cannot be written in place", expected);
    }

    ops::Stream stream_;
    std::string label_;
    py::function convert_;
};

using States = std::vector<std::vector<Tensor>>;  // (h) or (h, c) of each recurrent layer

States state_of(Stream& self) {
    States states;
    for (ops::StreamState& state : self.native().state()) {
        states.push_back({std::move(state.h)});
        if (state.c.defined()) states.back().push_back(std::move(state.c));
    }
    return states;
}

void set_state(Stream& self, const States& given) {
    std::vector<ops::StreamState> states;
    for (const std::vector<Tensor>& tensors : given) {
        if (tensors.empty() || tensors.size() > 2)
            core::fail("state of a recurrent layer: ", tensors.size(), " arrays, expected 1 or 2");
        states.push_back({tensors[0], tensors.size() == 2 ? tensors[1] : Tensor()});
    }
    self.native().set_state(states);
}

}  // namespace

void bind_stream(py::module_& module) {
    const py::arg present = py::arg().none(false);  // a smart pointer takes None as null otherwise
    py::class_<Stream>(module, "Stream")
        .def(py::init<const std::string&, std::int64_t, std::int64_t, py::function, std::string_view>(), py::arg(),
             py::arg(), py::arg(), py::arg(), py::arg("device") = "cpu")
        .def(
            "add_embedding",
            [](Stream& self, const std::string& label, std::shared_ptr<ops::Variable> table, bool mask_zero) {
                self.native().add_embedding(label, std::move(table), mask_zero);
            },
            py::arg(), present, py::arg())
        .def("add_masking", [](Stream& self, float value) { self.native().add(ops::stream_masking(value)); })
        .def(
            "add_recurrent",
            [](Stream& self, std::shared_ptr<ops::RecurrentWeights> weights, bool zero_output_for_mask) {
                self.native().add(ops::stream_recurrent(std::move(weights), zero_output_for_mask));
            },
            present, py::arg())
        .def(
            "add_dense",
            [](Stream& self, std::shared_ptr<ops::DenseWeights> weights) {
                self.native().add(ops::stream_dense(std::move(weights)));
            },
            present)
        .def("add_activation",
             [](Stream& self, const char* name) {
                 self.native().add(ops::stream_activation(activation_from_name(name)));
             })
        .def(
            "add_layer_norm",
            [](Stream& self, std::shared_ptr<ops::LayerNormWeights> weights) {
                self.native().add(ops::stream_layer_norm(std::move(weights)));
            },
            present)
        .def("end_mask", [](Stream& self) { self.native().add(ops::stream_end_mask()); })
        .def("add_rescaling",
             [](Stream& self, const Tensor& scale, const OptionalTensor& offset) {
                 self.native().add(ops::stream_rescaling(scale, offset.get()));
             })
        .def("add_batch_norm",
             [](Stream& self, std::shared_ptr<ops::Variable> mean, std::shared_ptr<ops::Variable> variance,
                std::shared_ptr<ops::Variable> gamma, std::shared_ptr<ops::Variable> beta, double epsilon) {
                 if (mean == nullptr || variance == nullptr)
                     throw std::invalid_argument("Stream: mean and variance of add_batch_norm must not be None");
                 self.native().add(ops::stream_batch_norm(
                     {std::move(mean), std::move(variance), std::move(gamma), std::move(beta), epsilon}));
             })
        .def("add_join",
             [](Stream& self, const std::string& label, const std::string& mode,
                const std::vector<std::int64_t>& slots) {
                 self.native().add_join(label, ops::stream_join_from_name(mode), slots);
             })
        .def("read", [](Stream& self, std::int64_t slot) { self.native().read(slot); })
        .def_property_readonly("slot", [](Stream& self) { return self.native().slot(); })
        .def_property_readonly("rows", [](Stream& self) { return self.native().rows(); })
        .def_property_readonly("width", [](Stream& self) { return self.native().width(); })
        .def("step", &Stream::step)
        .def("reset", [](Stream& self) { self.native().reset(); })
        .def("reset", [](Stream& self, const std::vector<std::int64_t>& rows) { self.native().reset(rows); })
        .def("state", &state_of)
        .def("set_state", &set_state);
}

}  // namespace lstm_native::bindings
