// Tensor: dtype, shape, device and owner of a contiguous row-major array (floor 0).
// A cheap handle: copies share the memory. Nothing here converts or computes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>

#include "core/device.h"
#include "core/dtype.h"

namespace lstm_native::core {

inline constexpr int kMaxRank = 8;

// Up to kMaxRank non-negative extents.
class Shape {
public:
    Shape() = default;
    Shape(std::initializer_list<std::int64_t> extents);
    Shape(const std::int64_t* extents, int rank);  // invalid_argument: rank or an extent out of range

    int rank() const { return rank_; }
    std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
    std::int64_t back() const { return (*this)[rank_ - 1]; }
    const std::int64_t* data() const { return extents_.data(); }
    std::int64_t count() const;  // product of the extents; overflow_error
    Shape with_last(std::int64_t extent) const;
    Shape without_last() const;
    bool operator==(const Shape& other) const;
    bool operator!=(const Shape& other) const { return !(*this == other); }
    std::string text() const;  // "(32, 10)", as Python prints a tuple

private:
    std::array<std::int64_t, kMaxRank> extents_{};
    int rank_ = 0;
};

// Writes text(): messages take shapes as they are, so that a check that holds costs no string.
std::ostream& operator<<(std::ostream& out, const Shape& shape);

class Tensor {
public:
    Tensor() = default;  // no memory; !defined()

    // Uninitialised memory of its own; runtime_error where the device has none.
    static Tensor empty(const Shape& shape, DType dtype, Device device = Device::cpu);
    static Tensor zeros(const Shape& shape, DType dtype, Device device = Device::cpu);
    // Memory of somebody else, kept alive by `owner`.
    static Tensor wrap(void* data, const Shape& shape, DType dtype, Device device, std::shared_ptr<void> owner);

    bool defined() const { return owner_ != nullptr; }
    const Shape& shape() const { return shape_; }
    int rank() const { return shape_.rank(); }
    std::int64_t count() const { return count_; }
    std::size_t bytes() const { return static_cast<std::size_t>(count_) * size_of(dtype_); }
    DType dtype() const { return dtype_; }
    Device device() const { return device_; }
    void* raw() const { return data_; }
    const std::shared_ptr<void>& owner() const { return owner_; }
    bool wrapped() const { return wrapped_; }  // the memory is somebody else's

    // Elements; the caller has checked the dtype.
    template <class T>
    T* data() const {
        return static_cast<T*>(data_);
    }

    Tensor copy() const;
    Tensor to(Device device) const;            // itself where it lies there, else a copy
    Tensor reshape(const Shape& shape) const;  // shares the memory; invalid_argument when counts differ

private:
    std::shared_ptr<void> owner_;
    void* data_ = nullptr;
    Shape shape_;
    std::int64_t count_ = 0;
    DType dtype_ = DType::float32;
    Device device_ = Device::cpu;
    bool wrapped_ = false;
};

}  // namespace lstm_native::core
