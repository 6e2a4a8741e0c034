// DLPack out and in (floor 3).
#include "bindings/dlpack.h"

#include <memory>
#include <string>

#include "bindings/convert.h"
#include "core/error.h"
#include "ops/cuda.h"

namespace lstm_native::bindings {
namespace {

using core::DType;
using core::Tensor;
using dlpack::Managed;
using dlpack::ManagedVersioned;

constexpr std::int64_t kLegacyStream = 1;  // of the array API and of CUDA: cudaStreamLegacy

// Name of a capsule by the kind of its structure; a consumer renames what it has taken.
template <class M>
inline constexpr const char* kName = "dltensor";
template <>
inline constexpr const char* kName<ManagedVersioned> = "dltensor_versioned";
template <class M>
inline constexpr const char* kUsedName = "used_dltensor";
template <>
inline constexpr const char* kUsedName<ManagedVersioned> = "used_dltensor_versioned";

dlpack::DataType type_of(DType dtype) {
    const auto bits = static_cast<std::uint8_t>(8 * core::size_of(dtype));
    switch (dtype) {
        case DType::float32:
        case DType::float64:
            return {dlpack::kFloat, bits, 1};
        case DType::int32:
        case DType::int64:
            return {dlpack::kInt, bits, 1};
        case DType::uint8:
            return {dlpack::kUint, bits, 1};
        case DType::boolean:
            return {dlpack::kBool, bits, 1};
        case DType::bfloat16:
        case DType::int8:
            break;  // of no array
    }
    return {dlpack::kFloat, bits, 1};
}

bool find_dtype(const dlpack::DataType& type, DType* dtype) {
    for (const DType known :
         {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8, DType::boolean}) {
        const dlpack::DataType expected = type_of(known);
        if (type.code == expected.code && type.bits == expected.bits && type.lanes == 1) {
            *dtype = known;
            return true;
        }
    }
    return false;
}

// What an exported array needs for as long as the consumer has it.
template <class M>
struct Export {
    M managed{};
    Tensor tensor;
    std::int64_t stream = 0;
    std::int64_t shape[core::kMaxRank] = {};
    std::int64_t strides[core::kMaxRank] = {};
};

template <class M>
py::capsule make_capsule(const Tensor& tensor, bool copied, std::int64_t consumer_stream) {
    auto exported = std::make_unique<Export<M>>();
    exported->tensor = tensor;
    exported->stream = consumer_stream;
    std::int64_t stride = 1;
    for (int axis = tensor.rank() - 1; axis >= 0; --axis) {
        exported->shape[axis] = tensor.shape()[axis];
        exported->strides[axis] = stride;
        stride *= tensor.shape()[axis];
    }
    M& managed = exported->managed;
    managed.context = exported.get();
    managed.deleter = [](M* self) {
        auto* const held = static_cast<Export<M>*>(self->context);
        // Work that the consumer gave to its stream may still use the memory. The legacy default stream is always
        // there; another one may be no more, and the one of "the thread" is another thread's here: all of the device
        // is waited for.
        if (held->tensor.device() != core::Device::cpu) {
            if (held->stream == kLegacyStream) {
                ops::cuda_take_back(reinterpret_cast<void*>(static_cast<std::uintptr_t>(kLegacyStream)));
            } else {
                ops::cuda_settle();
            }
        }
        delete held;
    };
    const std::int32_t device = tensor.device() == core::Device::cpu ? dlpack::kCpu : dlpack::kCuda;
    managed.array = {
        tensor.raw(), {device, 0}, tensor.rank(), type_of(tensor.dtype()), exported->shape, exported->strides, 0};
    if constexpr (std::is_same_v<M, ManagedVersioned>) {
        managed.major = dlpack::kMajor;
        managed.minor = dlpack::kMinor;
        managed.flags = copied ? dlpack::kIsCopied : 0;
    } else {
        static_cast<void>(copied);
    }
    py::capsule capsule(&managed, kName<M>, [](PyObject* self) {
        if (PyCapsule_IsValid(self, kName<M>) == 0) return;  // taken: the consumer deletes
        auto* const left = static_cast<M*>(PyCapsule_GetPointer(self, kName<M>));
        left->deleter(left);
    });
    static_cast<void>(exported.release());  // the capsule's now
    return capsule;
}

bool is_row_major(const dlpack::Array& array) {
    if (array.strides == nullptr) return true;
    std::int64_t expected = 1;
    for (int axis = array.rank - 1; axis >= 0; --axis) {
        if (array.shape[axis] == 0) return true;
        if (array.shape[axis] != 1 && array.strides[axis] != expected) return false;
        expected *= array.shape[axis];
    }
    return true;
}

template <class M>
Tensor take(const py::object& capsule, core::Device device) {
    auto* const managed = static_cast<M*>(PyCapsule_GetPointer(capsule.ptr(), kName<M>));
    if (managed == nullptr) throw py::error_already_set();
    if constexpr (std::is_same_v<M, ManagedVersioned>) {
        if (managed->major != dlpack::kMajor) {
            throw py::buffer_error(
                core::message("the array comes as DLPack ", managed->major, ", expected ", dlpack::kMajor));
        }
        if ((managed->flags & dlpack::kReadOnly) != 0) return Tensor();
    }
    const dlpack::Array& array = managed->array;
    const dlpack::DataType& type = array.dtype;
    if (type.lanes != 1 ||
        (type.code > dlpack::kFloat && type.code != dlpack::kComplex && type.code != dlpack::kBool)) {
        throw py::type_error(core::message("an array has the DLPack dtype (code ", +type.code, ", bits ", +type.bits,
                                           ", lanes ", type.lanes,
                                           "), expected one that NumPy has; convert it to float32"));
    }
    DType dtype{};
    if (!find_dtype(type, &dtype) || !is_row_major(array)) return Tensor();
    const core::Shape shape(array.shape, array.rank);
    const std::size_t bytes = static_cast<std::size_t>(shape.count()) * core::size_of(dtype);
    auto* const data = static_cast<char*>(array.data) + array.byte_offset;
    if (reinterpret_cast<std::uintptr_t>(data) % core::size_of(dtype) != 0) return Tensor();
    if (PyCapsule_SetName(capsule.ptr(), kUsedName<M>) != 0) throw py::error_already_set();
    std::shared_ptr<void> owner(managed, [bytes](void* held) {
        auto* const done = static_cast<M*>(held);
        if (done->deleter == nullptr) return;
        const auto give_back = [done] {
            if (Py_IsInitialized() == 0) return;
            // The producer's deleter may touch Python objects without taking the lock itself.
            const py::gil_scoped_acquire acquire;
            done->deleter(done);
        };
        // Work of ours that uses the memory may still wait, and what stream the producer will use it on is not known.
        if (done->array.device.type == dlpack::kCuda) return ops::cuda_release(bytes, give_back);
        give_back();
    });
    return Tensor::wrap(data, shape, dtype, device, std::move(owner));
}

}  // namespace

py::capsule to_dlpack(const Tensor& tensor, bool versioned, bool copied, std::int64_t consumer_stream) {
    ops::cuda_release_done();
    return versioned ? make_capsule<ManagedVersioned>(tensor, copied, consumer_stream)
                     : make_capsule<Managed>(tensor, copied, consumer_stream);
}

Tensor from_dlpack(const py::handle& x) {
    const py::tuple device = x.attr("__dlpack_device__")();
    const int type = device[0].cast<int>();
    const bool on_cuda = type == dlpack::kCuda && device[1].cast<int>() == 0 && ops::cuda_is_open();
    if (type != dlpack::kCpu && type != dlpack::kCudaHost && !on_cuda) {
        core::fail("an array lies on the DLPack device (", type, ", ", device[1].cast<int>(),
                   "), expected one in the memory of the CPU, or of the GPU (2, 0) once a model is on 'cuda'");
    }
    ops::cuda_release_done();
    py::dict options;
    if (on_cuda) {
        // The producer makes its data ready for work on this stream. A stream is no null pointer, on the host it is.
        const auto queue = reinterpret_cast<std::uintptr_t>(ops::cuda_queue());
        if (queue != 0) options["stream"] = queue;
    }
    py::object capsule;
    try {
        capsule =
            x.attr("__dlpack__")(**options, py::arg("max_version") = py::make_tuple(dlpack::kMajor, dlpack::kMinor));
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_TypeError)) throw;
        capsule = x.attr("__dlpack__")(**options);  // a producer from before version 1.0
    }
    const core::Device place = on_cuda ? core::Device::cuda : core::Device::cpu;
    if (PyCapsule_IsValid(capsule.ptr(), kName<ManagedVersioned>) != 0) return take<ManagedVersioned>(capsule, place);
    return take<Managed>(capsule, place);
}

}  // namespace lstm_native::bindings
