// How threads of a kernel wait for other blocks (floor 1, CUDA), each for a bounded time: at meetings of a group, or of
// a cluster, or for what they poll themselves.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "cuda/launch.h"

namespace lstm_native::cuda {

inline constexpr int kGridThreads = 256;  // of a block that waits for others

#if LSTM_NATIVE_SIMT

std::uint32_t* give_up_flag();  // Meeting::to_host; synchronize() throws once it is set

// Where the blocks of a launch meet: each has a counter of the rounds that it has finished.
struct Meeting {
    std::uint32_t* finished;  // [blocks]
    std::uint32_t* given_up;  // a block has waited too long: all leave
    std::uint32_t* to_host;   // the same, where the host sees it
};

// Between two steps blocks are microseconds apart; so long only a fault keeps one away.
inline constexpr std::uint64_t kLongestWait = 10'000'000'000;  // ns

#if defined(__CUDACC__)
__device__ inline std::uint64_t nanoseconds() {
    std::uint64_t now = 0;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
__device__ inline std::uint32_t load_acquire(const std::uint32_t* from) {
    std::uint32_t value = 0;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}
__device__ inline void store_release(std::uint32_t* to, std::uint32_t value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
// Older GPUs have no clusters, so none is launched there.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
template <class T>
__device__ T* in_cluster(T* mine, int member) {
    T* other = nullptr;
    asm("mapa.u64 %0, %1, %2;" : "=l"(other) : "l"(mine), "r"(member));
    return other;
}
// Not .aligned: lanes of a warp may come one after the other.
__device__ inline void meet_cluster() {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
#else
template <class T>
__device__ T* in_cluster(T* mine, int) {
    return mine;
}
__device__ inline void meet_cluster() {}
#endif
#endif

// Of a thread that waits for another block, for so long.
struct Patience {
    const Meeting& meeting;
    std::uint64_t begin = 0;
    std::uint32_t tries = 0;

    // After a try that failed: false when it has waited too long, or another one has.
    __device__ bool lasts() {
        if (++tries % 256 != 0) return true;
        if (*static_cast<volatile std::uint32_t*>(meeting.given_up) != 0) return false;
        const std::uint64_t now = nanoseconds();
        if (begin == 0) begin = now;
        if (now - begin <= kLongestWait) return true;
        *static_cast<volatile std::uint32_t*>(meeting.given_up) = 1;
        *static_cast<volatile std::uint32_t*>(meeting.to_host) = 1;
        __threadfence_system();
        return false;
    }
};

// Waits until a counter has reached `round`; false when it gave up.
__device__ inline bool wait_for(const Meeting& meeting, const std::uint32_t* counter, std::uint32_t round) {
    Patience patience{meeting};
    while (load_acquire(counter) < round)
        if (!patience.lasts()) return false;
    return true;
}

// The blocks of a group, from `first` on, meet. Order of memory: what this block's threads wrote comes before
// __syncthreads, that before the release of its counter by thread 0 (which waits until it is seen, MEMBAR, and is
// cumulative); a thread of another block that acquires the new count comes after it, and all threads of that block
// after the last __syncthreads. Copies that these begin then come after that, too: those of cp.async are ordinary
// accesses (the generic proxy, so no fence.proxy), only done later; and of 16 bytes they read the second level of
// cache, as load_fresh does (LDGSTS.BYPASS). The acquire empties this processor's own cache besides (CCTL.IVALL).
//
// All threads leave together, with the same answer; a block that gives up marks it, and others that wait look for the
// mark every 256 tries. So a launch ends some time after kLongestWait, whoever is missing.
__device__ inline bool meet_group(const Meeting& meeting, int first, int members, std::uint32_t round) {
    __syncthreads();
    if (members == 1) return true;
    if (threadIdx.x == 0) store_release(meeting.finished + blockIdx.x, round);
    bool all = true;
    for (int i = static_cast<int>(threadIdx.x); i < members; i += kGridThreads)
        all = all && wait_for(meeting, meeting.finished + first + i, round);
    return __syncthreads_and(all ? 1 : 0) != 0;
}

#else

// Blocks of a step run after all of the step before, so what they wait for is there.
struct Patience {
    static bool lasts() { throw std::logic_error("a block waits for what no other writes"); }
};

#endif

}  // namespace lstm_native::cuda
