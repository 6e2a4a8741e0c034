// Element types (floor 0).
#pragma once

#include <cstddef>
#include <cstdint>

namespace lstm_native::core {

// bfloat16, the upper half of a float32, and int8 are those of quantized weights alone; no array has them.
enum class DType : std::int32_t {
    float32 = 0,
    float64 = 1,
    int32 = 2,
    int64 = 3,
    uint8 = 4,
    boolean = 5,
    bfloat16 = 6,
    int8 = 7
};

constexpr std::size_t size_of(DType dtype) {
    switch (dtype) {
        case DType::float32:
        case DType::int32:
            return 4;
        case DType::float64:
        case DType::int64:
            return 8;
        case DType::bfloat16:
            return 2;
        case DType::uint8:
        case DType::boolean:
        case DType::int8:
            return 1;
    }
    return 0;
}

constexpr const char* name_of(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return "float32";
        case DType::float64:
            return "float64";
        case DType::int32:
            return "int32";
        case DType::int64:
            return "int64";
        case DType::uint8:
            return "uint8";
        case DType::boolean:
            return "bool";
        case DType::bfloat16:
            return "bfloat16";
        case DType::int8:
            return "int8";
    }
    return "";
}

}  // namespace lstm_native::core
