// Kernels whose blocks run together and wait for each other between steps (floor 1, CUDA): for_each_step_in_grid runs
// prepare and start, then step for every step, then finish, in every block of a grid of `groups` groups of `members`
// blocks; of several calls that are alike each has such a grid, in one launch. A compiler without CUDA makes loops of
// it.
//
// With kMeets the blocks of a group meet before every step and before finish: what one wrote to global memory, all of
// them may read then. Else steps wait for what they read (marked.h), in global memory, or in shared memory of the
// blocks of a cluster: all of these have prepared theirs before one starts, and none ends before all have finished.
//
//     struct F {
//         static constexpr bool kMeets = true;
//         struct Held { ... };                                   // what every thread keeps in registers
//         void prepare(const GridBlock&) const;
//         void start(const GridBlock&, PerThread<Held>&) const;
//         bool step(const GridBlock&, PerThread<Held>&, int step) const;  // false: it gave up waiting
//         void finish(const GridBlock&) const;
//     };
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <type_traits>
#include <vector>

#include "cuda/launch.h"
#include "cuda/planner.h"
#include "cuda/runtime.h"
#include "cuda/waiting.h"

#if defined(__CUDACC__)
#include <cuda_pipeline_primitives.h>
#endif

// Before functions that only kernels call.
#if LSTM_NATIVE_SIMT
#define LSTM_NATIVE_DEVICE __device__
#else
#define LSTM_NATIVE_DEVICE
#endif

namespace lstm_native::cuda {

inline constexpr int kGridWarps = kGridThreads / kWarp;

struct GridShape {  // of a call
    int members = 0, groups = 0;
    std::size_t shared_bytes = 0;
    bool in_clusters = false;  // the groups are clusters
};

template <class F, int kCalls>
struct GridCalls {
    F of[kCalls];
};

// Four values that are read and written at once, aligned to their size.
struct alignas(16) Quad {
    float of[4];
};

#if LSTM_NATIVE_SIMT

// The lanes of a warp that run the same code: each_lane is where they do it, PerLane what each has for itself.
template <class T>
struct PerLane {
    T held;
    __device__ T& operator()(int) { return held; }
};
struct Warp {
    int number;
    template <class F>
    __device__ void each_lane(F function) const {
        function(static_cast<int>(threadIdx.x % kWarp));
    }
    __device__ void meet() const { __syncwarp(); }
    // Element i of every lane becomes the sum over the lanes that differ from it in bits from `from` on, a power of
    // two. In one order.
    __device__ void sum_over(PerLane<Quad>& values, int from) const {
        for (int step = from; step < kWarp; step *= 2) {
            LSTM_NATIVE_UNROLL()
            for (int i = 0; i < 4; ++i) values.held.of[i] += __shfl_xor_sync(0xFFFFFFFFU, values.held.of[i], step);
        }
    }
    // Of values(lane)[0..3], value i goes to the lanes whose number ends in i: the sum over the four lanes that differ
    // in the last two bits. Two exchanges, each of half of what is left.
    template <class F>
    __device__ void scatter_sum(F values, PerLane<float>& sum) const {
        const float* const v = values(0);
        const bool odd = (threadIdx.x & 1U) != 0;
        const bool upper = (threadIdx.x & 2U) != 0;
        const float low = (odd ? v[1] : v[0]) + __shfl_xor_sync(0xFFFFFFFFU, odd ? v[0] : v[1], 1);
        const float high = (odd ? v[3] : v[2]) + __shfl_xor_sync(0xFFFFFFFFU, odd ? v[2] : v[3], 1);
        sum.held = (upper ? high : low) + __shfl_xor_sync(0xFFFFFFFFU, upper ? low : high, 2);
    }
};

__device__ inline Quad load_quad(const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    return {x.x, x.y, x.z, x.w};
}
__device__ inline void store_quad(float* to, const Quad& x) {
    *reinterpret_cast<float4*>(to) = make_float4(x.of[0], x.of[1], x.of[2], x.of[3]);
}
// What another block wrote: past this processor's own cache, which may hold what was there before.
__device__ inline Quad load_fresh(const float* from) {
    const float4 x = __ldcg(reinterpret_cast<const float4*>(from));
    return {x.x, x.y, x.z, x.w};
}

struct GridBlock {
    char* shared;
    int group_number, member_number;  // held: to divide is long
    const Meeting& meeting;
    __device__ int group() const { return group_number; }
    __device__ int member() const { return member_number; }
    __device__ void meet() const { __syncthreads(); }
    __device__ bool meet_if_all(bool holds) const { return __syncthreads_and(holds ? 1 : 0) != 0; }
    __device__ Patience patience() const { return {meeting}; }
    // Of an address in this block's shared memory, the one in that of another block of the cluster.
    template <class T>
    __device__ T* of_member(T* mine, int member) const {
        return in_cluster(mine, member);
    }
    template <class F>
    __device__ void each(int count, F function) const {
        for (int i = static_cast<int>(threadIdx.x); i < count; i += kGridThreads) function(i);
    }
    template <class F>
    __device__ void each_warp(F function) const {
        function(Warp{static_cast<int>(threadIdx.x / kWarp)});
    }

    // Copies to shared memory that run beside what follows: fetch* begin one, close() ends a batch of them, and after
    // arrive_all_but_last() and meet() all batches but the last are there, after arrive_all() that one too. Of 16 bytes
    // they pass the processor's own cache by, so they may read what other blocks wrote before this step.
    __device__ void fetch_quads(void* to, const void* from, int count) const {
        for (int i = static_cast<int>(threadIdx.x); i < count; i += kGridThreads)
            __pipeline_memcpy_async(static_cast<float4*>(to) + i, static_cast<const float4*>(from) + i, 16);
    }
    __device__ static void fetch(float* to, const float* from) { __pipeline_memcpy_async(to, from, 4); }
    __device__ static void close() { __pipeline_commit(); }
    __device__ static void arrive_all_but_last() { __pipeline_wait_prior(1); }
    __device__ static void arrive_all() { __pipeline_wait_prior(0); }
};

template <class F, int kCalls>
__global__ void __launch_bounds__(kGridThreads, 1)
    each_grid_step(const __grid_constant__ GridCalls<F, kCalls> calls, int members, int blocks, int steps,
                   bool in_clusters, const __grid_constant__ Meeting meeting) {
    LSTM_NATIVE_SHARED_MEMORY;
    const int call = kCalls == 1 ? 0 : static_cast<int>(blockIdx.x) / blocks;
    const F& function = calls.of[call];
    const int id = static_cast<int>(blockIdx.x) - call * blocks;  // of its call
    const GridBlock block{reinterpret_cast<char*>(shared_memory), id / members, id % members, meeting};
    PerThread<typename F::Held> held(kGridThreads);
    const int first = static_cast<int>(blockIdx.x) - block.member();
    const auto may_go_on = [&](int round) {
        return !F::kMeets || meet_group(meeting, first, members, static_cast<std::uint32_t>(round));
    };
    // A block alone is no cluster, and older GPUs have none.
    const bool cluster = in_clusters && members > 1;
    function.prepare(block);
    if (cluster)
        meet_cluster();
    else
        __syncthreads();
    function.start(block, held);
    __syncthreads();
    bool all = true;
    for (int step = 0; step < steps && all; ++step) all = may_go_on(step + 1) && function.step(block, held, step);
    if (all && may_go_on(steps + 1)) function.finish(block);
    if (cluster) meet_cluster();
}

#if defined(__CUDACC__)
// Launches a kernel of so many blocks if they can run together, or with `cluster` > 0 in clusters of as many; else
// nothing is done. In runtime_cuda.cu.
bool launch_together(const void* kernel, int blocks, int cluster, int threads, std::size_t shared_bytes,
                     void** arguments);

template <class... Parameters, class... Arguments>
bool start_together(void (*kernel)(Parameters...), int blocks, int cluster, int threads, std::size_t shared_bytes,
                    Arguments... arguments) {
    static_assert((std::is_same_v<std::remove_const_t<Parameters>, Arguments> && ...), "as the kernel takes them");
    allow_shared(reinterpret_cast<const void*>(kernel));
    void* pointers[] = {&arguments...};
    return launch_together(reinterpret_cast<const void*>(kernel), blocks, cluster, threads, shared_bytes, pointers);
}
#endif

// False, and nothing done, where the device cannot run the blocks together.
template <class F, int kCalls>
bool for_each_step_in_grid(const GridShape& shape, int steps, GridCalls<F, kCalls> calls) {
    const int blocks = shape.members * shape.groups;
    const int all = kCalls * blocks;
    const Array<std::uint32_t> counters(all + 1);
    zero(static_cast<std::size_t>(all + 1) * sizeof(std::uint32_t), counters.get());
    const Meeting meeting{counters.get(), counters.get() + all, give_up_flag()};
    return start_together(each_grid_step<F, kCalls>, all, shape.in_clusters ? shape.members : 0, kGridThreads,
                          shape.shared_bytes, calls, shape.members, blocks, steps, shape.in_clusters, meeting);
}

#else

template <class T>
struct PerLane {
    T held[kWarp];
    T& operator()(int lane) { return held[lane]; }
};
struct Warp {
    int number;
    template <class F>
    void each_lane(F function) const {
        for (int lane = 0; lane < kWarp; ++lane) function(lane);
    }
    void meet() const {}
    void sum_over(PerLane<Quad>& values, int from) const {
        for (int step = from; step < kWarp; step *= 2) {
            const PerLane<Quad> before = values;
            for (int lane = 0; lane < kWarp; ++lane)
                for (int i = 0; i < 4; ++i) values.held[lane].of[i] += before.held[lane ^ step].of[i];
        }
    }
    template <class F>
    void scatter_sum(F values, PerLane<float>& sum) const {
        for (int lane = 0; lane < kWarp; ++lane) {
            const int i = lane % 4;
            sum(lane) = (values(lane)[i] + values(lane ^ 1)[i]) + (values(lane ^ 2)[i] + values(lane ^ 3)[i]);
        }
    }
};

inline Quad load_quad(const float* from) {
    Quad x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline void store_quad(float* to, const Quad& x) { std::memcpy(to, &x, sizeof x); }
inline Quad load_fresh(const float* from) { return load_quad(from); }

struct GridBlock {
    char* shared;
    int members;
    int id;
    char* const* shared_of;  // of the members of its group
    int group() const { return id / members; }
    int member() const { return id % members; }
    void meet() const {}
    static bool meet_if_all(bool holds) { return holds; }
    static Patience patience() { return {}; }
    template <class T>
    T* of_member(T* mine, int other) const {
        return reinterpret_cast<T*>(shared_of[other] + (reinterpret_cast<char*>(mine) - shared));
    }
    template <class F>
    void each(int count, F function) const {
        for (int i = 0; i < count; ++i) function(i);
    }
    template <class F>
    void each_warp(F function) const {
        for (int number = 0; number < kGridWarps; ++number) function(Warp{number});
    }
    void fetch_quads(void* to, const void* from, int count) const {
        std::memcpy(to, from, static_cast<std::size_t>(count) * 16);
    }
    static void fetch(float* to, const float* from) { *to = *from; }
    static void close() {}
    static void arrive_all_but_last() {}
    static void arrive_all() {}
};

// Blocks come in another order in every other step: what does not depend on it needs no other barriers.
template <class F, int kCalls>
bool for_each_step_in_grid(const GridShape& shape, int steps, const GridCalls<F, kCalls>& calls) {
    struct State {
        std::vector<Quad> shared;
        PerThread<typename F::Held> held{kGridThreads};
    };
    const int blocks = shape.members * shape.groups;
    const auto all = static_cast<std::size_t>(kCalls * blocks);
    std::deque<State> states(all);
    std::vector<char*> shared(all);
    for (std::size_t i = 0; i < all; ++i) {
        states[i].shared.assign(shape.shared_bytes / sizeof(Quad), Quad{{NAN, NAN, NAN, NAN}});
        shared[i] = reinterpret_cast<char*>(states[i].shared.data());
    }
    const auto each_block = [&](bool back, const auto& run) {
        for (std::size_t i = 0; i < all; ++i) {
            const std::size_t number = back ? all - 1 - i : i;
            const int id = static_cast<int>(number) % blocks;
            const std::size_t first = number - static_cast<std::size_t>(id % shape.members);
            run(calls.of[static_cast<int>(number) / blocks],
                GridBlock{shared[number], shape.members, id, shared.data() + first}, states[number].held);
        }
    };
    using Held = PerThread<typename F::Held>;
    each_block(false, [&](const F& function, const GridBlock& block, Held&) { function.prepare(block); });
    each_block(false, [&](const F& function, const GridBlock& block, Held& held) { function.start(block, held); });
    for (int step = 0; step < steps; ++step)
        each_block(step % 2 == 0,
                   [&](const F& function, const GridBlock& block, Held& held) { function.step(block, held, step); });
    each_block(false, [&](const F& function, const GridBlock& block, Held&) { function.finish(block); });
    return true;
}

#endif

}  // namespace lstm_native::cuda
