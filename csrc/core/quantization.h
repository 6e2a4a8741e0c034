// Matrices of weights in 16 or 8 bits (floor 0). What they stand for are float32 numbers, exactly: to quantize those
// again gives the same codes.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/tensor.h"

namespace lstm_native::core {

struct Quantized {
    Tensor codes;   // DType::bfloat16 or DType::int8
    Tensor scales;  // int8: float32 (rows) with axis 0, (columns) with axis 1
    int axis = 1;
};

inline float from_bfloat16(std::uint16_t code) {
    const std::uint32_t bits = std::uint32_t{code} << 16;
    float x = 0.0F;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// float32 (rows, columns) on the host, to the nearest, of two to the even one. int8: multiples of a scale for each row
// (axis 0) or column (1), the largest magnitude there / 127, rounded up to 16 bits. invalid_argument, which begins with
// `label`, for another matrix, and with int8 for numbers that are not finite.
Quantized quantize(const char* label, const Tensor& matrix, DType dtype, int axis);
Tensor dequantize(const Quantized& quantized);

}  // namespace lstm_native::core
