// Sizes that cannot overflow silently (floor 0).
#pragma once

#include <cstdint>
#include <stdexcept>

namespace lstm_native::core {

// a * b of two non-negative sizes; std::overflow_error when it does not fit 63 bits.
inline std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result)) throw std::overflow_error("size overflows 64 bits");
    return result;
}

inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

}  // namespace lstm_native::core
