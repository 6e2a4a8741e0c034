// Operands of products (floor 1, CUDA): float32 arrays as they are, or rounded to 16 bits where the precision says so.
// Sums, states and everything between products stay float32.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "cuda/half.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {

template <class T>
inline constexpr bool kIsFloat = std::is_same_v<T, float>;

// Writes x where products take their operands from, unless they take the float itself from where it lies.
template <class T>
LSTM_NATIVE_HOST_DEVICE void hand_on([[maybe_unused]] T* operand, [[maybe_unused]] std::int64_t at,
                                     [[maybe_unused]] float x) {
    if constexpr (!kIsFloat<T>) operand[at] = rounded<T>(x);
}

// How operands lie in memory under the precision of now, a LnPrecision: LN_TF32 rounds within the products.
inline std::int32_t operand_type() {
    const std::int32_t now = precision();
    return now == LN_TF32 ? std::int32_t{LN_FLOAT32} : now;
}

// runtime_error for a type that gradients do not fit into.
inline void check_trainable(std::int32_t type) {
    if (type == LN_FLOAT16)
        throw std::runtime_error(
            "the precision 'float16' is for inference, small gradients are zero in it; to train call "
            "lstm_native.cuda.set_precision('bfloat16')");
}

// function(T{}) with the operand type T.
template <class F>
void with_operands(std::int32_t type, F function) {
    switch (type) {
        case LN_BFLOAT16:
            return function(Bfloat16{});
        case LN_FLOAT16:
            return function(Float16{});
        default:
            return function(0.0F);
    }
}

// to (rows, columns) = from, whose rows begin `stride` elements after each other.
template <class T>
void round_to(std::int64_t rows, std::int64_t columns, const float* from, std::int64_t stride, T* to) {
    for_each(
        rows * columns, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / columns;
            to[i] = rounded<T>(from[row * stride + (i - row * columns)]);
        });
}

// The matrix (rows, columns) at `from` as an operand: where it lies, or rounded in `memory`, which holds it.
template <class T>
MatrixOf<T> operand(std::int64_t rows, std::int64_t columns, const float* from, std::int64_t stride, Array<T>& memory) {
    if constexpr (kIsFloat<T>) {
        return {from, stride};
    } else {
        if (memory.get() == nullptr) memory = Array<T>(rows * columns);
        round_to(rows, columns, from, stride, memory.get());
        return {memory.get(), columns};
    }
}

// Of two forms of an array the one whose elements are T.
template <class T>
const T* either(const float* wide, const T* narrow) {
    if constexpr (kIsFloat<T>) {
        return wide;
    } else {
        return narrow;
    }
}

// Weights as operands of a type, a copy that a pack keeps.
class Weights {
public:
    Weights() = default;
    Weights(std::int64_t count, const float* from, std::int32_t type) {
        with_operands(type, [&](auto zero) {
            using T = decltype(zero);
            memory_ = Array<unsigned char>(count * static_cast<std::int64_t>(sizeof(T)));
            if constexpr (kIsFloat<T>) {
                copy(LN_ON_DEVICE, static_cast<std::size_t>(count) * sizeof(T), from, memory_.get());
            } else {
                round_to(1, count, from, count, static_cast<T*>(address()));
            }
        });
    }

    template <class T>
    const T* get() const {
        return static_cast<const T*>(static_cast<const void*>(memory_.get()));
    }

private:
    Array<unsigned char> memory_;

    void* address() { return memory_.get(); }
};

}  // namespace lstm_native::cuda
