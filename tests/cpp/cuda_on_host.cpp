// The machine of csrc/cuda/runtime.h without a GPU: memory of the host, and cublaslt_on_host.cpp (its path is
// CUBLASLT_ON_HOST) in place of cuBLASLt. With it the drivers and kernels of the CUDA backend, compiled as plain C++,
// make a backend that the tests can run everywhere. Memory of "the device" is poisoned, so that what reads before it
// writes, or after it was given back, does not stay hidden.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda/blas.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {
namespace {

// A graph is the launches with the arguments that they had.
using Graph = std::vector<std::function<void()>>;
thread_local Graph* of_thread = nullptr;
std::atomic<std::int64_t> graphs_alive{0};
std::atomic<std::int64_t> launches_until_error{-1};  // of a graph that is being made

std::atomic<bool> busy{false};  // the queue, as marks see it; work is done at once
std::atomic<std::int64_t> taken_back{0};

// Memory that was given back is taken again by whatever is nearly as large, the lowest address first: so the same
// addresses come again, in calls of other shapes, too.
std::mutex memory_mutex;
std::unordered_map<std::size_t, std::set<void*>> given_back;  // by size, a power of two
std::unordered_map<void*, std::size_t> sizes;                 // of what is taken

void check_no_graph(const char* what) {
    if (of_thread != nullptr) throw std::logic_error(std::string("a graph cannot have this: ") + what);
}

std::atomic<std::int32_t> wanted_precision{LN_FLOAT32};
std::atomic<std::int64_t> copies[3], copied_bytes[3];  // by direction
std::atomic<std::int32_t> plan{LN_PLAN_AUTO};
Blas* blas_of_device = nullptr;

}  // namespace

OnDevice::OnDevice() = default;
OnDevice::~OnDevice() = default;

void open_device() {}

// Whatever cuBLASLt was found: it would take these addresses for those of a GPU.
void open_blas(const char*) {
    constexpr std::size_t kWorkspace = 256;
    static Blas* const opened = new Blas(CUBLASLT_ON_HOST, allocate(kWorkspace), kWorkspace);
    blas_of_device = opened;
}

Blas& blas() { return *blas_of_device; }

LnDeviceInfo device_info() {
    LnDeviceInfo info{};
    std::strncpy(info.name, "host", sizeof info.name - 1);
    info.major = 9;
    info.free_bytes = info.total_bytes = std::uint64_t{1} << 30;
    return info;
}

// Few processors, so that small batches are cut in every way; and where every thread of a block is one of the host, few
// blocks that run together.
Offer device_offer() {
    Offer offer{2, 227 * 1024, LSTM_NATIVE_SIMT != 0 ? 4 : 24, {}};
    for (int blocks = 1; blocks <= kMostOfCluster; ++blocks)
        offer.clusters[static_cast<std::size_t>(blocks)] = offer.together / blocks;
    return offer;
}

#if LSTM_NATIVE_SIMT
std::uint32_t* give_up_flag() {
    static std::uint32_t flag = 0;
    return &flag;
}
#endif

void set_precision(std::int32_t wanted) { wanted_precision = wanted; }
std::int32_t precision() { return wanted_precision.load(); }
void set_plan(std::int32_t wanted) { plan = wanted; }
std::int32_t wanted_plan() { return plan.load(); }

void* allocate(std::size_t bytes) {
    check_no_graph("memory");
    std::size_t whole = 256;
    while (whole <= bytes && whole < std::size_t{1} << 40) whole *= 2;
    if (whole <= bytes) throw std::bad_alloc();
#if defined(__SANITIZE_ADDRESS__)
    // Of its very size, and never the same again: the sanitizer sees what lies beyond, and what was given back.
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes) != 0) throw std::bad_alloc();
    std::memset(memory, 0xFF, bytes);
    return memory;
#else
    const std::lock_guard<std::mutex> lock(memory_mutex);
    std::set<void*>& free = given_back[whole];
    void* memory = nullptr;
    if (!free.empty()) {
        memory = *free.begin();
        free.erase(free.begin());
    } else if ((memory = std::aligned_alloc(256, whole)) == nullptr) {
        throw std::bad_alloc();
    }
    std::memset(memory, 0xFF, whole);  // NaN
    sizes[memory] = whole;
    return memory;
#endif
}

void release(void* memory) noexcept {
    check_no_graph("memory given back");  // ends the process
#if defined(__SANITIZE_ADDRESS__)
    std::free(memory);
#else
    const std::lock_guard<std::mutex> lock(memory_mutex);
    const auto found = sizes.find(memory);
    std::memset(memory, 0xFF, found->second);
    given_back[found->second].insert(memory);
    sizes.erase(found);
#endif
}

void copy(std::int32_t direction, std::size_t bytes, const void* from, void* to) {
    check_no_graph("a copy");
    copies[direction] += 1;
    copied_bytes[direction] += static_cast<std::int64_t>(bytes);
    std::memcpy(to, from, bytes);
}
void zero(std::size_t bytes, void* memory) {
    check_no_graph("zeros");
    std::memset(memory, 0, bytes);
}
void synchronize() {
    check_no_graph("a wait");
    busy = false;
}
void* queue_handle() { return nullptr; }
void* queue_of_thread() { return of_thread; }
void hand_over(void*) {}
void take_back(void*) { taken_back += 1; }
void settle() { busy = false; }
void* set_mark() { return nullptr; }
bool passed(void*) noexcept { return !busy; }

void enqueue(std::function<void()> launch) {
    if (of_thread == nullptr) return launch();
    if (launches_until_error >= 0 && launches_until_error-- == 0) throw std::runtime_error("a launch has failed");
    of_thread->push_back(std::move(launch));
}

void begin_graph() { of_thread = new Graph; }
void* end_graph() {
    graphs_alive += 1;
    return std::exchange(of_thread, nullptr);
}
void cancel_graph() noexcept { delete std::exchange(of_thread, nullptr); }
void launch_graph(void* graph) {
    if (launches_until_error == -2) throw std::runtime_error("a graph has failed");
    for (const auto& launch : *static_cast<Graph*>(graph)) launch();
}
void destroy_graph(void* graph) noexcept {
    graphs_alive -= 1;
    delete static_cast<Graph*>(graph);
}

void sort_by_key(std::int64_t count, std::int64_t, const std::int32_t* keys, const std::int32_t* values,
                 std::int32_t* sorted_keys, std::int32_t* sorted_values) {
    check_no_graph("sorting");
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [=](std::int64_t a, std::int64_t b) { return keys[a] < keys[b]; });
    for (std::size_t i = 0; i < order.size(); ++i) {
        sorted_keys[i] = keys[order[i]];
        sorted_values[i] = values[order[i]];
    }
}

}  // namespace lstm_native::cuda

// What was copied so far, a LnCopy's direction.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_copies(std::int32_t direction, std::int64_t* copies,
                                                                           std::int64_t* bytes) {
    *copies = lstm_native::cuda::copies[direction];
    *bytes = lstm_native::cuda::copied_bytes[direction];
}

// Graphs that were made and not destroyed.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_graphs_alive(std::int64_t* count) {
    *count = lstm_native::cuda::graphs_alive;
}

// Launch number `after` from now on of those that a graph is made of fails; -1: none; -2: starts of graphs fail.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_fail(std::int64_t after) {
    lstm_native::cuda::launches_until_error = after;
}

// Marks are not passed until something waits for the queue.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_is_busy() { lstm_native::cuda::busy = true; }
extern "C" __attribute__((visibility("default"))) void cuda_on_host_is_idle() { lstm_native::cuda::busy = false; }
extern "C" __attribute__((visibility("default"))) std::int64_t cuda_on_host_taken_back() {
    return lstm_native::cuda::taken_back;
}
