// Kernels as functions of an index (floor 1, CUDA): for_each runs one for every element, for_each_row one for every
// row with the lanes of a warp. A compiler without CUDA makes loops of them (runtime.h says for what).
//
//     for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { target[i] += other[i]; });
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "cuda/planner.h"

#if defined(__CUDACC__)
#include <cuda_runtime_api.h>
#define LSTM_NATIVE_KERNEL [=] __device__
#else
#define LSTM_NATIVE_KERNEL [=]
#endif

namespace lstm_native::cuda {

#if defined(__CUDACC__)

cudaStream_t queue();
void check_launch();  // runtime_error when the kernel before did not start

// The lanes that share a row: lane l takes the elements l, l + size(), ... Sums have one order.
struct Lanes {
    __device__ std::int64_t first() const { return threadIdx.x % kWarp; }
    __device__ static constexpr std::int64_t size() { return kWarp; }
    template <class T>
    __device__ T sum(T x) const {
        for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFU, x, step);
        return x;
    }
    // NaN if any is.
    __device__ float max(float x) const {
        for (int step = kWarp / 2; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(0xFFFFFFFFU, x, step);
            x = x >= other || x != x ? x : other;
        }
        return x;
    }
    // What any lane wrote before is seen by all.
    __device__ void meet() const { __syncwarp(); }
};

template <class F>
__global__ void __launch_bounds__(kBlock) each_element(std::int64_t count, F function) {
    const std::int64_t step = std::int64_t{gridDim.x} * kBlock;
    for (std::int64_t i = std::int64_t{blockIdx.x} * kBlock + threadIdx.x; i < count; i += step) function(i);
}

template <class F>
__global__ void __launch_bounds__(kBlock) each_row(std::int64_t count, F function) {
    const std::int64_t step = std::int64_t{gridDim.x} * (kBlock / kWarp);
    for (std::int64_t row = std::int64_t{blockIdx.x} * (kBlock / kWarp) + threadIdx.x / kWarp; row < count; row += step)
        function(row, Lanes{});
}

template <class F>
void for_each(std::int64_t count, F function) {
    if (count <= 0) return;
    each_element<<<blocks_for(count, kBlock), kBlock, 0, queue()>>>(count, function);
    check_launch();
}

template <class F>
void for_each_row(std::int64_t count, F function) {
    if (count <= 0) return;
    each_row<<<blocks_for(count, kBlock / kWarp), kBlock, 0, queue()>>>(count, function);
    check_launch();
}

#else

struct Lanes {
    std::int64_t first() const { return 0; }
    static constexpr std::int64_t size() { return 1; }
    template <class T>
    T sum(T x) const {
        return x;
    }
    float max(float x) const { return x; }
    void meet() const {}
};

template <class F>
void for_each(std::int64_t count, F function) {
    for (std::int64_t i = 0; i < count; ++i) function(i);
}

template <class F>
void for_each_row(std::int64_t count, F function) {
    for (std::int64_t row = 0; row < count; ++row) function(row, Lanes{});
}

#endif

}  // namespace lstm_native::cuda
