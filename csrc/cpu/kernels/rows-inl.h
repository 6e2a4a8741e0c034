// Loops over ranges and rows of floats for any length, shared by the elementwise kernels (floor 1).
#pragma once

#include <cstdint>

#include "cpu/kernels/math-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

// f(i, n) for the vectors of a range: elements i to i + n, n being kLanes but for the last.
template <class F>
inline void for_each_vector(std::int64_t count, F f) {
    std::int64_t i = 0;
    for (; i + Vec::kLanes <= count; i += Vec::kLanes) f(i, std::int64_t{Vec::kLanes});
    if (i < count) f(i, count - i);
}

inline Vec load_part(const float* p, std::int64_t n) { return n == Vec::kLanes ? Vec::load(p) : Vec::load_first(p, n); }

inline void store_part(float* p, std::int64_t n, Vec v) {
    if (n == Vec::kLanes) {
        v.store(p);
    } else {
        v.store_first(p, n);
    }
}

// The lanes from n on become zero.
inline Vec keep_first(Vec v, std::int64_t n) {
    if (n == Vec::kLanes) return v;
    float lane[Vec::kLanes];
    v.store(lane);
    return Vec::load_first(lane, n);
}

// Sum of f(i, n) over the vectors of a row, in an order that depends on the length alone.
template <class F>
inline float sum_row(std::int64_t count, F f) {
    Vec sum = Vec::zero();
    for_each_vector(count, [&](std::int64_t i, std::int64_t n) { sum = sum + keep_first(f(i, n), n); });
    return sum.sum();
}

// Largest element of a row of at least one. Where some are NaN, any of the row's elements.
inline float row_max(std::int64_t count, const float* x) {
    float top = x[0];
    if (count < Vec::kLanes) {
        for (std::int64_t i = 1; i < count; ++i) top = x[i] > top ? x[i] : top;
        return top;
    }
    Vec tops = Vec::load(x + count - Vec::kLanes);
    for (std::int64_t i = 0; i + Vec::kLanes <= count; i += Vec::kLanes) tops = Vec::max(Vec::load(x + i), tops);
    float lane[Vec::kLanes];
    tops.store(lane);
    for (const float element : lane) top = element > top ? element : top;
    return top;
}

// Sum of e^(x - top) over a row; the terms go to `terms` where that is not null.
inline float sum_exp(std::int64_t count, const float* x, Vec top, float* terms) {
    return sum_row(count, [=](std::int64_t i, std::int64_t n) {
        const Vec e = exp_nonpositive(load_part(x + i, n) - top);
        if (terms != nullptr) store_part(terms + i, n, e);
        return e;
    });
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
