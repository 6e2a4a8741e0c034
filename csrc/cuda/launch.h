// Kernels as functions of an index (floor 1, CUDA): for_each runs one for every element, for_each_row one for every
// row with the lanes of a warp, for_each_block one for every block with its threads and shared memory. A compiler
// without CUDA makes loops of them (runtime.h says for what).
//
//     for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { target[i] += other[i]; });
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/host_device.h"
#include "cuda/planner.h"

#if defined(__CUDACC__)
#include <cuda_runtime_api.h>
#define LSTM_NATIVE_KERNEL [=] __device__
#define LSTM_NATIVE_SHARED_MEMORY extern __shared__ float4 shared_memory[]
#else
#define LSTM_NATIVE_KERNEL [=]
#endif

// Before a loop of a kernel: unrolled, so that arrays stay in registers; or so many times.
#if defined(__CUDA_ARCH__)
#define LSTM_NATIVE_PRAGMA(text) _Pragma(#text)
#define LSTM_NATIVE_UNROLL(times) LSTM_NATIVE_PRAGMA(unroll times)
#else
#define LSTM_NATIVE_UNROLL(times)
#endif

namespace lstm_native::cuda {

#if LSTM_NATIVE_SIMT

#if defined(__CUDACC__)
cudaStream_t queue();
void check_launch();                    // runtime_error when the kernel before did not start
void allow_shared(const void* kernel);  // as much as the device has for a block

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), unsigned blocks, int threads, std::size_t shared_bytes,
           const Arguments&... arguments) {
    if (shared_bytes > 0) allow_shared(reinterpret_cast<const void*>(kernel));
    kernel<<<blocks, static_cast<unsigned>(threads), shared_bytes, queue()>>>(arguments...);
    check_launch();
}
#endif

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
    start(each_element<F>, blocks_for(count, kBlock), kBlock, 0, count, function);
}

template <class F>
void for_each_row(std::int64_t count, F function) {
    if (count <= 0) return;
    start(each_row<F>, blocks_for(count, kBlock / kWarp), kBlock, 0, count, function);
}

// The threads of a block. What one writes to shared memory, others may read after the next meet().
struct Block {
    float* shared;
    __device__ std::int64_t number() const { return blockIdx.x; }
    __device__ void meet() const { __syncthreads(); }
    // function(i) for i in [0, count), each by one thread.
    template <class F>
    __device__ void each(int count, F function) const {
        for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) function(i);
    }
};

// What every thread holds for itself, in registers; number i's where each() runs no more items than threads.
template <class T>
struct PerThread {
    T held;
    __device__ explicit PerThread(int) {}
    __device__ T& operator()(int) { return held; }
};

inline constexpr int kMostThreads = 512;  // of for_each_block

template <class F>
__global__ void __launch_bounds__(kMostThreads) each_block(F function) {
    LSTM_NATIVE_SHARED_MEMORY;
    function(Block{reinterpret_cast<float*>(shared_memory)});
}

template <class F>
void for_each_block(std::int64_t blocks, int threads, std::size_t shared_floats, F function) {
    if (blocks <= 0) return;
    start(each_block<F>, static_cast<unsigned>(blocks), threads, shared_floats * sizeof(float), function);
}

#else

// Runs a launch, or keeps it for the graph that this thread makes.
void enqueue(std::function<void()> launch);

struct Block {
    float* shared;
    std::int64_t id;
    std::int64_t number() const { return id; }
    void meet() const {}
    template <class F>
    void each(int count, F function) const {
        for (int i = 0; i < count; ++i) function(i);
    }
};

template <class T>
struct PerThread {
    std::vector<T> held;
    explicit PerThread(int threads) : held(static_cast<std::size_t>(threads)) {}
    T& operator()(int i) { return held[static_cast<std::size_t>(i)]; }
};

template <class F>
void for_each_block(std::int64_t blocks, int, std::size_t shared_floats, F function) {
    enqueue([=] {
        for (std::int64_t id = 0; id < blocks; ++id) {
            std::vector<float> shared(shared_floats, NAN);
            function(Block{shared.data(), id});
        }
    });
}

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
    enqueue([=] {
        for (std::int64_t i = 0; i < count; ++i) function(i);
    });
}

template <class F>
void for_each_row(std::int64_t count, F function) {
    enqueue([=] {
        for (std::int64_t row = 0; row < count; ++row) function(row, Lanes{});
    });
}

#endif

}  // namespace lstm_native::cuda
