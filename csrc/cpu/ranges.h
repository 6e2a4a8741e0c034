// How the work of simple loops is cut into ranges and spread over threads, and how they sum (floor 1, CPU).
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/backend.h"
#include "core/size.h"
#include "core/thread_pool.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

// Elements of one task: enough to pay for claiming it, few enough to stay in the first-level caches.
inline constexpr std::int64_t kChunk = 8192;

// Multiply-adds an element costs about, to decide whether threads pay.
inline constexpr double kSimple = 2;           // bound by memory
inline constexpr double kTranscendental = 16;  // exp and its like on vectors

// body(begin, end) over ranges of 0 ... count. Ranges are whole chunks, so vectors fall the same way for every
// number of threads.
template <class F>
void in_chunks(const LnContext& context, std::int64_t count, std::int64_t chunk, double work, F body) {
    const int want = threads_for(context, work);
    if (want == 1 || count <= chunk) {
        if (count > 0) body(std::int64_t{0}, count);
        return;
    }
    core::parallel_tasks(core::ceil_div(count, chunk), want,
                         [&](std::int64_t task) { body(task * chunk, std::min(count, (task + 1) * chunk)); });
}

template <class F>
void elements(const LnContext& context, std::int64_t count, double cost, F body) {
    in_chunks(context, count, kChunk, cost * static_cast<double>(count), body);
}

// Ranges of M rows of N elements.
template <class F>
void rows_of(const LnContext& context, std::int64_t M, std::int64_t N, double cost, F body) {
    const std::int64_t chunk = std::max<std::int64_t>(1, kChunk / std::max<std::int64_t>(N, 1));
    in_chunks(context, M, chunk, cost * static_cast<double>(M) * static_cast<double>(N), body);
}

// Sums that run beside each other: they fill the vectors of any processor, and keep the rounding errors small.
inline constexpr std::int64_t kLanes = 16;

// Sum of term(j) over the columns, in an order that depends on N alone.
template <class F>
float sum_of(std::int64_t N, F term) {
    float lanes[kLanes] = {};
    std::int64_t j = 0;
    for (; j + kLanes <= N; j += kLanes)
        for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] += term(j + l);
    for (std::int64_t l = 0; j < N; ++j, ++l) lanes[l] += term(j);
    for (std::int64_t width = kLanes / 2; width > 0; width /= 2)
        for (std::int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
    return lanes[0];
}

}  // namespace lstm_native::cpu
