#include "core/quantization.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"

namespace lstm_native::core {

namespace {

constexpr float kMostSteps = 127.0F;  // of either sign, so that a code has a negative

std::uint32_t bits_of(float x) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

std::uint16_t to_bfloat16(float x) {
    const std::uint32_t bits = bits_of(x);
    if (std::isnan(x)) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);  // stays one without its lower half
    return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

// With 16 bits of its own a scale times a code of 7 bits is exact. Zero where it would be subnormal.
float scale_of(float largest) {
    const std::uint32_t exact = bits_of(largest / kMostSteps);
    std::uint32_t bits = (exact + 0xffU) & ~0xffU;
    float scale = 0.0F;
    std::memcpy(&scale, &bits, sizeof scale);
    if (std::isinf(scale * kMostSteps)) {  // the next one below: of the largest number there is, 127 times it is finite
        bits = exact & ~0xffU;
        std::memcpy(&scale, &bits, sizeof scale);
    }
    return scale < std::numeric_limits<float>::min() ? 0.0F : scale;
}

// Where the scale of row r and column c stands: r * row + c * column.
struct ScaleStrides {
    std::int64_t row, column;
    explicit ScaleStrides(int axis) : row(axis == 0 ? 1 : 0), column(axis == 0 ? 0 : 1) {}
};

template <class F>
void each_element(const Shape& shape, int axis, const F& body) {
    const ScaleStrides strides(axis);
    std::int64_t i = 0;
    for (std::int64_t r = 0; r < shape[0]; ++r)
        for (std::int64_t c = 0; c < shape[1]; ++c, ++i) body(i, r * strides.row + c * strides.column);
}

}  // namespace

Quantized quantize(const char* label, const Tensor& matrix, DType dtype, int axis) {
    check(dtype == DType::bfloat16 || dtype == DType::int8, label, ": cannot be quantized to ", name_of(dtype),
          ", expected bfloat16 or int8");
    check(matrix.dtype() == DType::float32 && matrix.rank() == 2 && matrix.device() == Device::cpu, label,
          ": cannot be quantized as it is ", name_of(matrix.dtype()), " ", matrix.shape(), " on the device ",
          name_of(matrix.device()), ", expected a float32 matrix on the CPU");
    check(axis == 0 || axis == 1, label, ": the axis of its scales is ", axis, ", expected 0 or 1");
    const Shape& shape = matrix.shape();
    const float* const x = matrix.data<const float>();
    Quantized made;
    made.axis = axis;
    made.codes = Tensor::empty(shape, dtype);
    if (dtype == DType::bfloat16) {
        std::transform(x, x + matrix.count(), made.codes.data<std::uint16_t>(), to_bfloat16);
        return made;
    }
    made.scales = Tensor::zeros({shape[axis]}, DType::float32);
    float* const scales = made.scales.data<float>();
    each_element(shape, axis, [&](std::int64_t i, std::int64_t at) {
        check(std::isfinite(x[i]), label, ": cannot be quantized to int8 as it holds ", x[i]);
        scales[at] = std::max(scales[at], std::fabs(x[i]));
    });
    std::transform(scales, scales + made.scales.count(), scales, scale_of);
    std::int8_t* const codes = made.codes.data<std::int8_t>();
    each_element(shape, axis, [&](std::int64_t i, std::int64_t at) {
        codes[i] = static_cast<std::int8_t>(scales[at] == 0.0F ? 0.0F : std::nearbyint(x[i] / scales[at]));
    });
    return made;
}

Tensor dequantize(const Quantized& quantized) {
    const Tensor& codes = quantized.codes;
    Tensor values = Tensor::empty(codes.shape(), DType::float32);
    float* const x = values.data<float>();
    if (codes.dtype() == DType::bfloat16) {
        const std::uint16_t* const from = codes.data<const std::uint16_t>();
        std::transform(from, from + codes.count(), x, from_bfloat16);
    } else {
        const std::int8_t* const from = codes.data<const std::int8_t>();
        const float* const scales = quantized.scales.data<const float>();
        each_element(codes.shape(), quantized.axis,
                     [&](std::int64_t i, std::int64_t at) { x[i] = static_cast<float>(from[i]) * scales[at]; });
    }
    return values;
}

}  // namespace lstm_native::core
