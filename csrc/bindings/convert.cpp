// Arrays of Python as tensors (floor 3). See the header.
#include "bindings/convert.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "core/error.h"

namespace lstm_native::bindings {
namespace {

using core::DType;
using core::Tensor;

constexpr DType kDTypes[] = {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8, DType::boolean};

// Elements from which on a conversion lets other Python threads run.
constexpr double kConversionWork = 1.0;

// NumPy's type numbers (NPY_TYPES); part of its stable binary interface.
enum NumpyType {
    kNumpyBool = 0,
    kNumpyUint8 = 2,
    kNumpyInt32 = 5,
    kNumpyLong = 7,
    kNumpyUlong = 8,
    kNumpyLongLong = 9,
    kNumpyUlongLong = 10,
    kNumpyFloat32 = 11,
    kNumpyFloat64 = 12,
    kNumpyFirstUserType = 256
};
static_assert(sizeof(long) == 8, "type numbers below take long to have 64 bits");

py::module_ numpy() { return py::module_::import("numpy"); }

// --- element by element ---

template <class To, class From>
bool fits(From value) {
    if constexpr (std::is_same_v<To, bool> || std::is_floating_point_v<To>) {
        return true;
    } else if constexpr (std::is_floating_point_v<From>) {
        // Powers of two on both sides are exact in every floating-point type; NaN fails.
        constexpr From kBelow = static_cast<From>(std::numeric_limits<To>::min());
        const From above = std::ldexp(static_cast<From>(1), std::numeric_limits<To>::digits);
        return value >= kBelow && value < above && value == std::floor(value);
    } else {
        const auto wide = static_cast<std::int64_t>(value);
        return wide >= static_cast<std::int64_t>(std::numeric_limits<To>::min()) &&
               wide <= static_cast<std::int64_t>(std::numeric_limits<To>::max());
    }
}

template <class From, class To>
void convert_elements(const Tensor& source, const Tensor& target) {
    const From* const in = source.data<From>();
    To* const out = target.data<To>();
    const std::int64_t count = source.count();
    for (std::int64_t i = 0; i < count; ++i) {
        if (!fits<To>(in[i])) {
            core::fail("found ", +in[i], " at element ", i, " of an array of shape ", source.shape().text(),
                       ", expected ", std::is_floating_point_v<From> ? "whole numbers" : "numbers", " that ",
                       core::name_of(target.dtype()), " can hold");
        }
        if constexpr (std::is_same_v<To, bool>) {
            out[i] = in[i] != From{0};
        } else {
            out[i] = static_cast<To>(in[i]);
        }
    }
}

template <class From>
void convert_from(const Tensor& source, const Tensor& target) {
    switch (target.dtype()) {
        case DType::float32:
            return convert_elements<From, float>(source, target);
        case DType::float64:
            return convert_elements<From, double>(source, target);
        case DType::int32:
            return convert_elements<From, std::int32_t>(source, target);
        case DType::int64:
            return convert_elements<From, std::int64_t>(source, target);
        case DType::uint8:
            return convert_elements<From, std::uint8_t>(source, target);
        case DType::boolean:
            return convert_elements<From, bool>(source, target);
        case DType::bfloat16:
        case DType::int8:
            break;  // of no array
    }
}

// --- NumPy arrays ---

// The array's memory as it is; undefined where NumPy must rearrange or convert it first.
Tensor wrap_array(const py::array& array) {
    constexpr int kNeeded = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_ |
                            py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    if ((array.flags() & kNeeded) != kNeeded) return Tensor();
    const py::dtype type = array.dtype();
    DType dtype{};
    if (!find_dtype(type.num(), &dtype)) return Tensor();
    const char order = type.byteorder();
    if (order != '=' && order != '|') return Tensor();
    if (array.ndim() > core::kMaxRank) {
        core::fail("an array has ", array.ndim(), " axes, expected at most ", core::kMaxRank);
    }
    std::int64_t extents[core::kMaxRank] = {};
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) extents[axis] = array.shape(axis);
    const core::Shape shape(extents, static_cast<int>(array.ndim()));
    return Tensor::wrap(const_cast<void*>(array.data()), shape, dtype, core::Device::cpu, hold(array));
}

// The dtype that NumPy shall convert to before our own conversion; TypeError when these are no numbers.
const char* nearest_dtype(const py::array& array, DType target) {
    const py::dtype type = array.dtype();
    DType dtype{};
    if (find_dtype(type.num(), &dtype)) return core::name_of(dtype);
    const bool to_float = target == DType::float32 || target == DType::float64;
    switch (type.kind()) {
        case 'i':
        case 'u':
            // Only uint64 has values that int64 has not; as floats they keep what a float can hold.
            if (type.num() != kNumpyUlong && type.num() != kNumpyUlongLong) return "int64";
            return to_float ? "float64" : nullptr;
        case 'f':
            return type.itemsize() < 4 ? "float32" : "float64";
        default:
            break;
    }
    if (type.num() >= kNumpyFirstUserType) return "float32";  // bfloat16 and its like
    throw py::type_error(core::message("expected an array of numbers, got dtype ", std::string(py::str(type))));
}

Tensor tensor_from_array(py::array array, DType dtype) {
    Tensor tensor = wrap_array(array);
    if (!tensor.defined()) {
        const char* const nearest = nearest_dtype(array, dtype);
        if (nearest == nullptr) {  // uint64 to an integer
            const py::object limit = numpy().attr("iinfo")("int64").attr("max");
            if (array.size() != 0 && array.attr("max")().attr("__gt__")(limit).cast<bool>()) {
                core::fail("found ", std::string(py::str(array.attr("max")())),
                           " in an array of dtype uint64, expected numbers that ", core::name_of(dtype), " can hold");
            }
        }
        // A copy also of read-only memory: a tensor may be written.
        array = array.attr("astype")(nearest == nullptr ? "int64" : nearest, py::arg("order") = "C");
        tensor = wrap_array(array);
        if (!tensor.defined()) throw std::runtime_error("NumPy returned an array of an unexpected layout");
    }
    return convert(tensor, dtype);
}

}  // namespace

bool find_dtype(int type, DType* dtype) {
    switch (type) {
        case kNumpyFloat32:
            *dtype = DType::float32;
            return true;
        case kNumpyFloat64:
            *dtype = DType::float64;
            return true;
        case kNumpyInt32:
            *dtype = DType::int32;
            return true;
        case kNumpyLong:
        case kNumpyLongLong:
            *dtype = DType::int64;
            return true;
        case kNumpyUint8:
            *dtype = DType::uint8;
            return true;
        case kNumpyBool:
            *dtype = DType::boolean;
            return true;
        default:
            return false;
    }
}

core::DType dtype_from_name(std::string_view name) {
    for (const DType dtype : kDTypes) {
        if (name == core::name_of(dtype)) return dtype;
    }
    core::fail("dtype is '", name, "', expected 'float32', 'float64', 'int32', 'int64', 'uint8' or 'bool'");
}

int numpy_type(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return kNumpyFloat32;
        case DType::float64:
            return kNumpyFloat64;
        case DType::int32:
            return kNumpyInt32;
        case DType::int64:
            return kNumpyLong;
        case DType::uint8:
            return kNumpyUint8;
        case DType::boolean:
            return kNumpyBool;
        case DType::bfloat16:
        case DType::int8:
            break;  // of no array
    }
    return kNumpyFloat32;
}

std::shared_ptr<void> hold(py::object object) {
    return std::shared_ptr<void>(object.release().ptr(), [](void* held) {
        // When the interpreter has gone, so has everything it owned.
        if (Py_IsInitialized() == 0) return;
        if (PyGILState_Check() != 0) {
            Py_DECREF(static_cast<PyObject*>(held));
        } else {
            const py::gil_scoped_acquire acquire;
            Py_DECREF(static_cast<PyObject*>(held));
        }
    });
}

py::array view_as_numpy(const Tensor& tensor, const py::handle& owner) {
    if (tensor.device() != core::Device::cpu) {
        Tensor host = run(kReleaseWork, [&] { return tensor.to(core::Device::cpu); });  // waits for the device
        const py::object held = py::cast(host);
        return view_as_numpy(host, held);
    }
    py::array::ShapeContainer extents(tensor.shape().data(), tensor.shape().data() + tensor.rank());
    return py::array(py::dtype(numpy_type(tensor.dtype())), std::move(extents), tensor.raw(), owner);
}

py::array copy_as_numpy(const Tensor& tensor) { return view_as_numpy(tensor, py::handle()); }

Tensor convert(const Tensor& given, DType dtype) {
    if (given.dtype() == dtype) return given;
    const Tensor source = given.to(core::Device::cpu);
    Tensor target = Tensor::empty(source.shape(), dtype);
    run(kConversionWork * static_cast<double>(source.count()), [&] {
        switch (source.dtype()) {
            case DType::float32:
                return convert_from<float>(source, target);
            case DType::float64:
                return convert_from<double>(source, target);
            case DType::int32:
                return convert_from<std::int32_t>(source, target);
            case DType::int64:
                return convert_from<std::int64_t>(source, target);
            case DType::uint8:
                return convert_from<std::uint8_t>(source, target);
            case DType::boolean:
                return convert_from<bool>(source, target);
            case DType::bfloat16:
            case DType::int8:
                break;  // of no array
        }
    });
    return target;
}

Tensor tensor_from_python(const py::handle& x, DType dtype) {
    if (py::isinstance<py::array>(x)) return tensor_from_array(py::reinterpret_borrow<py::array>(x), dtype);
    if (py::isinstance<Tensor>(x)) return convert(*x.cast<const Tensor*>(), dtype);
    if (py::hasattr(x, "__dlpack__") && py::hasattr(x, "__dlpack_device__")) {
        const Tensor tensor = from_dlpack(x);
        if (tensor.defined()) return convert(tensor, dtype);
        return tensor_from_array(numpy().attr("from_dlpack")(x), dtype);
    }
    return tensor_from_array(numpy().attr("asarray")(x), dtype);
}

}  // namespace lstm_native::bindings
