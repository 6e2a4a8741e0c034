// CUDA's threads on threads of the host, so that the kernels of csrc/cuda run as on a GPU where there is none: a thread
// for each thread of a block, barriers of blocks and warps, exchanges between the lanes of a warp, memory that blocks
// share, copies that arrive only when they are waited for. Under a sanitizer, a missing barrier is a data race, an
// index out of bounds a bad access, a misaligned access of 16 bytes undefined behaviour. Compile with
// -DLSTM_NATIVE_SIMT=1 -include simt.h.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define LSTM_NATIVE_SHARED_MEMORY float4* const shared_memory = simt::block().shared()

#if defined(__SANITIZE_THREAD__)
// What the lanes of a warp exchange orders nothing else: the sanitizer must not take it for a barrier.
extern "C" void AnnotateIgnoreSyncBegin(const char* file, int line);
extern "C" void AnnotateIgnoreSyncEnd(const char* file, int line);
#define SIMT_EXCHANGE_BEGINS AnnotateIgnoreSyncBegin(__FILE__, __LINE__)
#define SIMT_EXCHANGE_ENDS AnnotateIgnoreSyncEnd(__FILE__, __LINE__)
#else
#define SIMT_EXCHANGE_BEGINS static_cast<void>(0)
#define SIMT_EXCHANGE_ENDS static_cast<void>(0)
#endif

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    std::uint32_t x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace simt {

constexpr int kLanes = 32;

struct Index {
    unsigned x;
};

class Barrier {
public:
    explicit Barrier(int threads) { pthread_barrier_init(&barrier_, nullptr, static_cast<unsigned>(threads)); }
    ~Barrier() { pthread_barrier_destroy(&barrier_); }
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;
    void wait() { pthread_barrier_wait(&barrier_); }

private:
    pthread_barrier_t barrier_;
};

struct Warp {
    Barrier barrier{kLanes};
    alignas(16) std::uint32_t words[kLanes][8];  // what the lanes exchange
};

class Block {
public:
    std::deque<Block>* running = nullptr;  // it and those that run at the same time
    unsigned cluster_begin = 0;            // its cluster, of these
    Barrier* cluster = nullptr;

    Block(unsigned number, int threads, std::size_t shared_bytes)
        : number_(number), barrier_(threads), warps_(static_cast<std::size_t>((threads + kLanes - 1) / kLanes)) {
        // Its very size, so that a sanitizer sees what lies beyond; NaN until it is written.
        const std::size_t bytes = (shared_bytes + 15) / 16 * 16;
        shared_.reset(static_cast<float4*>(std::aligned_alloc(16, bytes == 0 ? 16 : bytes)));
        std::memset(static_cast<void*>(shared_.get()), 0xFF, bytes);
    }

    unsigned number() const { return number_; }
    float4* shared() const { return shared_.get(); }
    void sync() { barrier_.wait(); }
    bool sync_and(bool value) {
        if (!value) __atomic_store_n(&all_, false, __ATOMIC_RELAXED);
        sync();
        const bool all = __atomic_load_n(&all_, __ATOMIC_RELAXED);
        sync();
        __atomic_store_n(&all_, true, __ATOMIC_RELAXED);
        sync();
        return all;
    }
    Warp& warp(unsigned thread) { return warps_[thread / kLanes]; }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    unsigned number_;
    Barrier barrier_;
    std::deque<Warp> warps_;
    std::unique_ptr<float4, Free> shared_;
    bool all_ = true;
};

// A copy that has begun.
struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
};

struct Thread {
    Block* block = nullptr;
    Index thread{}, block_index{}, block_size{}, grid_size{};
    std::deque<std::vector<Copy>> batches{1};  // the last one is open
};
inline thread_local Thread here;

inline Block& block() { return *here.block; }
inline Warp& warp() { return here.block->warp(here.thread.x); }
inline unsigned lane() { return here.thread.x % kLanes; }

// What every lane gives, for all of them: read(of), where of(lane) is a pointer to its words.
template <int kWords, class Read>
void exchange(const std::uint32_t (&mine)[kWords], const Read& read) {
    static_assert(kWords <= 8, "words of a lane");
    SIMT_EXCHANGE_BEGINS;
    Warp& all = warp();
    for (int i = 0; i < kWords; ++i) __atomic_store_n(&all.words[lane()][i], mine[i], __ATOMIC_RELAXED);
    all.barrier.wait();
    std::uint32_t copies[kLanes][kWords];
    for (int from = 0; from < kLanes; ++from)
        for (int i = 0; i < kWords; ++i) copies[from][i] = __atomic_load_n(&all.words[from][i], __ATOMIC_RELAXED);
    all.barrier.wait();
    SIMT_EXCHANGE_ENDS;
    read([&](int from) -> const std::uint32_t* { return copies[from]; });
}

// Threads of the host that live from launch to launch. One launch at a time, as in a stream.
class Team {
public:
    // job(i) for i in [0, count), each on a thread of its own, all at the same time.
    void run(std::size_t count, const std::function<void(std::size_t)>& job) {
        const std::lock_guard<std::mutex> lock(mutex_);
        job_ = &job;
        for (std::size_t i = workers_.size(); i < count; ++i) {
            workers_.emplace_back();
            std::thread(&Team::work, this, &workers_.back(), i).detach();
        }
        for (std::size_t i = 0; i < count; ++i) sem_post(&workers_[i].begin);
        for (std::size_t i = 0; i < count; ++i) sem_wait(&workers_[i].end);
    }

private:
    struct Worker {
        Worker() {
            sem_init(&begin, 0, 0);
            sem_init(&end, 0, 0);
        }
        sem_t begin, end;
    };
    void work(Worker* mine, std::size_t number) {
        for (;;) {
            sem_wait(&mine->begin);
            (*job_)(number);
            sem_post(&mine->end);
        }
    }

    std::mutex mutex_;
    std::deque<Worker> workers_;
    const std::function<void(std::size_t)>* job_ = nullptr;
};
inline Team& team() {
    static Team* const lives_for_ever = new Team;
    return *lives_for_ever;
}

// Runs the blocks [begin, end) of a launch at the same time, in clusters of so many.
template <class F>
void run_blocks(unsigned begin, unsigned end, unsigned blocks, unsigned cluster, int threads, std::size_t shared_bytes,
                const F& kernel) {
    std::deque<Block> running;
    std::deque<Barrier> clusters;
    for (unsigned number = begin; number < end; ++number) {
        const unsigned i = number - begin;
        if (i % cluster == 0) clusters.emplace_back(threads * static_cast<int>(cluster));
        running.emplace_back(number, threads, shared_bytes);
        running.back().running = &running;
        running.back().cluster_begin = i - i % cluster;
        running.back().cluster = &clusters.back();
    }
    const auto each = static_cast<std::size_t>(threads);
    team().run(running.size() * each, [&](std::size_t i) {
        here.block = &running[i / each];
        here.thread = {static_cast<unsigned>(i % each)};
        here.block_index = {here.block->number()};
        here.block_size = {static_cast<unsigned>(threads)};
        here.grid_size = {blocks};
        here.batches = std::deque<std::vector<Copy>>(1);
        kernel();
    });
}

}  // namespace simt

#define threadIdx (simt::here.thread)
#define blockIdx (simt::here.block_index)
#define blockDim (simt::here.block_size)
#define gridDim (simt::here.grid_size)

inline void __syncthreads() { simt::block().sync(); }
inline int __syncthreads_and(int value) { return simt::block().sync_and(value != 0) ? 1 : 0; }
inline void __syncwarp() { simt::warp().barrier.wait(); }
inline void __threadfence_system() {}

template <class T>
T __shfl_xor_sync(std::uint32_t mask, T value, int bits) {
    static_assert(sizeof(T) % 4 == 0, "whole words");
    if (mask != 0xFFFFFFFFU) std::abort();
    constexpr int kWords = sizeof(T) / 4;
    std::uint32_t mine[kWords];
    std::memcpy(mine, &value, sizeof value);
    T other{};
    simt::exchange(
        mine, [&](const auto& of) { std::memcpy(&other, of(static_cast<int>(simt::lane()) ^ bits), sizeof other); });
    return other;
}

template <class T>
T __ldcg(const T* from) {
    return *from;
}

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes) {
    if ((bytes != 4 && bytes != 8 && bytes != 16) || reinterpret_cast<std::uintptr_t>(to) % bytes != 0 ||
        reinterpret_cast<std::uintptr_t>(from) % bytes != 0)
        std::abort();
    simt::here.batches.back().push_back({to, from, bytes});
}
inline void __pipeline_commit() { simt::here.batches.emplace_back(); }
// Until all batches but the last `prior` of those that were ended have arrived.
inline void __pipeline_wait_prior(std::size_t prior) {
    auto& batches = simt::here.batches;
    for (; batches.size() > prior + 1; batches.pop_front())
        for (const simt::Copy& copy : batches.front()) {
            // As one access, of floats: what the sanitizers see.
            for (std::size_t i = 0; i < copy.bytes / 4; ++i)
                static_cast<float*>(copy.to)[i] = static_cast<const float*>(copy.from)[i];
        }
}

namespace lstm_native::cuda {

// Launches, as launch.h has them for a GPU. Two blocks at a time: enough to see what they do to each other.
void enqueue(std::function<void()> launch);

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), unsigned blocks, int threads, std::size_t shared_bytes,
           const Arguments&... arguments) {
    enqueue([=] {
        for (unsigned begin = 0; begin < blocks; begin += 2)
            simt::run_blocks(begin, begin + 1 < blocks ? begin + 2 : blocks, blocks, 1, threads, shared_bytes,
                             [&] { kernel(arguments...); });
    });
}

template <class... Parameters, class... Arguments>
bool start_together(void (*kernel)(Parameters...), int blocks, int cluster, int threads, std::size_t shared_bytes,
                    const Arguments&... arguments) {
    const auto count = static_cast<unsigned>(blocks);
    const auto of_cluster = static_cast<unsigned>(cluster > 0 ? cluster : 1);
    simt::run_blocks(0, count, count, of_cluster, threads, shared_bytes, [&] { kernel(arguments...); });
    return true;
}

// A clock that stands still: blocks wait as long as it takes.
inline std::uint64_t nanoseconds() { return 0; }

inline std::uint32_t load_acquire(const std::uint32_t* from) {
    sched_yield();
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}
inline void store_release(std::uint32_t* to, std::uint32_t value) { __atomic_store_n(to, value, __ATOMIC_RELEASE); }

template <class Word>
void store_word(Word* to, Word word) {
    __atomic_store_n(to, word, __ATOMIC_RELAXED);
}
inline void store_words(std::uint64_t* to, std::uint64_t first, std::uint64_t second) {
    if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0) std::abort();
    store_word(to, first);
    store_word(to + 1, second);
}
template <class Word, std::size_t kCount>
void load_words(const Word* from, Word (&words)[kCount]) {
    if (reinterpret_cast<std::uintptr_t>(from) % sizeof words != 0) std::abort();
    sched_yield();
    for (std::size_t i = 0; i < kCount; ++i) words[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
}

template <class T>
T* in_cluster(T* mine, int member) {
    const simt::Block& block = simt::block();
    const auto number = block.cluster_begin + static_cast<unsigned>(member);
    const auto bytes = reinterpret_cast<char*>(mine) - reinterpret_cast<char*>(block.shared());
    return reinterpret_cast<T*>(reinterpret_cast<char*>((*block.running)[number].shared()) + bytes);
}
inline void meet_cluster() { simt::block().cluster->wait(); }

}  // namespace lstm_native::cuda
