// The 16-bit types that operands of products may have (floor 1, CUDA): what they hold of a float32, rounded to nearest,
// ties to even. Infinity stays, NaN stays NaN, what is too large becomes infinity.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace lstm_native::cuda {

LSTM_NATIVE_HOST_DEVICE inline std::uint32_t bits_of(float x) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
LSTM_NATIVE_HOST_DEVICE inline float float_of(std::uint32_t bits) {
    float x = 0.0F;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The layout of __nv_bfloat16: the upper half of a float32.
struct Bfloat16 {
    std::uint16_t bits;

    LSTM_NATIVE_HOST_DEVICE static Bfloat16 of(float x) {
        const std::uint32_t wide = bits_of(x);
        const std::uint32_t half = 0x7FFFU + (wide >> 16 & 1U);
        return {static_cast<std::uint16_t>(x != x ? wide >> 16 | 0x40U : (wide + half) >> 16)};
    }
    LSTM_NATIVE_HOST_DEVICE float value() const { return float_of(std::uint32_t{bits} << 16); }
};

// The layout of __half: IEEE 754's binary16, 5 bits of exponent.
struct Float16 {
    std::uint16_t bits;

    LSTM_NATIVE_HOST_DEVICE static Float16 of(float x) {
        constexpr std::uint32_t kInfinity = 0x7F800000U;
        constexpr std::uint32_t kOverflow = 0x477FF000U;        // 65520, halfway behind the largest number
        constexpr std::uint32_t kSmallestNormal = 0x38800000U;  // 2^-14
        const std::uint32_t wide = bits_of(x);
        const std::uint32_t sign = wide >> 16 & 0x8000U;
        const std::uint32_t size = wide & 0x7FFFFFFFU;
        if (size > kInfinity) return {static_cast<std::uint16_t>(sign | 0x7E00U)};
        if (size >= kOverflow) return {static_cast<std::uint16_t>(sign | 0x7C00U)};
        // 1/2 has 2^-24, the unit of the subnormal numbers, in its last place: the addition rounds to it.
        if (size < kSmallestNormal)
            return {static_cast<std::uint16_t>(sign | (bits_of(float_of(size) + 0.5F) - bits_of(0.5F)))};
        const std::uint32_t rounded = size + 0xFFFU + (size >> 13 & 1U);
        return {static_cast<std::uint16_t>(sign | (rounded - 0x38000000U) >> 13)};  // the exponent's bias, 127 to 15
    }
    LSTM_NATIVE_HOST_DEVICE float value() const {
        const std::uint32_t sign = std::uint32_t{bits} << 16 & 0x80000000U;
        const std::uint32_t size = bits & 0x7FFFU;
        if (size >= 0x7C00U) return float_of(sign | 0x7F800000U | size << 13);
        if (size < 0x0400U) {
            const float small = static_cast<float>(size) * 0x1p-24F;
            return sign != 0 ? -small : small;
        }
        return float_of(sign | ((size << 13) + 0x38000000U));
    }
};

// What the operand type T holds of x.
template <class T>
LSTM_NATIVE_HOST_DEVICE inline T rounded(float x) {
    return T::of(x);
}
template <>
LSTM_NATIVE_HOST_DEVICE inline float rounded<float>(float x) {
    return x;
}

}  // namespace lstm_native::cuda
