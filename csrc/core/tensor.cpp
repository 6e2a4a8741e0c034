// Shape and Tensor (floor 0).
#include "core/tensor.h"

#include <ostream>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "core/size.h"

namespace lstm_native::core {

Shape::Shape(std::initializer_list<std::int64_t> extents) : Shape(extents.begin(), static_cast<int>(extents.size())) {}

Shape::Shape(const std::int64_t* extents, int rank) : rank_(rank) {
    if (rank < 0 || rank > kMaxRank) fail("an array has ", rank, " axes, expected at most ", kMaxRank);
    for (int axis = 0; axis < rank; ++axis) {
        if (extents[axis] < 0) fail("axis ", axis, " of a shape is ", extents[axis], ", expected 0 or more");
        extents_[static_cast<std::size_t>(axis)] = extents[axis];
    }
}

std::int64_t Shape::count() const {
    // An extent of zero makes the product zero, however large the others are.
    for (int axis = 0; axis < rank_; ++axis) {
        if ((*this)[axis] == 0) return 0;
    }
    std::int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product = checked_mul(product, (*this)[axis]);
    return product;
}

Shape Shape::with_last(std::int64_t extent) const {
    if (rank_ == 0) fail("a shape without axes has no last axis");
    Shape result = *this;
    if (extent < 0) fail("axis ", rank_ - 1, " of a shape is ", extent, ", expected 0 or more");
    result.extents_[static_cast<std::size_t>(rank_ - 1)] = extent;
    return result;
}

Shape Shape::without_last() const {
    if (rank_ == 0) fail("a shape without axes has no last axis");
    return Shape(extents_.data(), rank_ - 1);
}

bool Shape::operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int axis = 0; axis < rank_; ++axis) {
        if ((*this)[axis] != other[axis]) return false;
    }
    return true;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.text(); }

std::string Shape::text() const {
    std::string result = "(";
    for (int axis = 0; axis < rank_; ++axis) {
        if (axis != 0) result += ", ";
        result += std::to_string((*this)[axis]);
    }
    result += rank_ == 1 ? ",)" : ")";
    return result;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
    Tensor result;
    result.shape_ = shape;
    result.count_ = shape.count();
    result.dtype_ = dtype;
    result.device_ = device;
    const auto bytes = checked_mul(result.count_, static_cast<std::int64_t>(size_of(dtype)));
    result.data_ = allocate_on(device, static_cast<std::size_t>(bytes));
    result.owner_ = std::shared_ptr<void>(result.data_, [device](void* memory) { release_on(device, memory); });
    return result;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
    Tensor result = empty(shape, dtype, device);
    zero_bytes(result.data_, device, result.bytes());
    return result;
}

Tensor Tensor::wrap(void* data, const Shape& shape, DType dtype, Device device, std::shared_ptr<void> owner) {
    Tensor result;
    result.owner_ = std::move(owner);
    result.data_ = data;
    result.shape_ = shape;
    result.count_ = shape.count();
    result.dtype_ = dtype;
    result.device_ = device;
    result.wrapped_ = true;
    return result;
}

Tensor Tensor::copy() const {
    Tensor result = empty(shape_, dtype_, device_);
    copy_bytes(result.data_, device_, data_, device_, bytes());
    return result;
}

Tensor Tensor::to(Device device) const {
    if (device == device_ || !defined()) return *this;
    Tensor result = empty(shape_, dtype_, device);
    copy_bytes(result.data_, device, data_, device_, bytes());
    return result;
}

Tensor Tensor::reshape(const Shape& shape) const {
    const std::int64_t count = shape.count();
    if (count != count_) {
        fail("reshape: an array of shape ", shape_.text(), " has ", count_, " elements, the new shape ", shape.text(),
             " has ", count);
    }
    Tensor result = *this;
    result.shape_ = shape;
    return result;
}

}  // namespace lstm_native::core
