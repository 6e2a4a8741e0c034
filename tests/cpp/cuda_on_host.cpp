// The machine of csrc/cuda/runtime.h without a GPU: memory of the host, and cublaslt_on_host.cpp (its path is
// CUBLASLT_ON_HOST) in place of cuBLASLt. With it the drivers and kernels of the CUDA backend, compiled as plain C++,
// make a backend that the tests can run everywhere. Memory of "the device" is poisoned, so that what reads before it
// writes does not stay hidden.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <vector>

#include "cuda/blas.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {
namespace {

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
    static Blas* const opened = new Blas(CUBLASLT_ON_HOST, nullptr, allocate(kWorkspace), kWorkspace);
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

// Few processors, so that small batches are cut in every way.
Offer device_offer() { return {2, 227 * 1024, 24}; }

void set_precision(std::int32_t wanted) { wanted_precision = wanted; }
std::int32_t precision() { return wanted_precision.load(); }
void set_plan(std::int32_t wanted) { plan = wanted; }
std::int32_t wanted_plan() { return plan.load(); }

void* allocate(std::size_t bytes) {
    const std::size_t whole = (bytes / 256 + 1) * 256;
    if (whole > std::size_t{1} << 40) throw std::bad_alloc();
    void* const memory = std::aligned_alloc(256, whole);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0xFF, whole);  // NaN
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }

void copy(std::int32_t direction, std::size_t bytes, const void* from, void* to) {
    copies[direction] += 1;
    copied_bytes[direction] += static_cast<std::int64_t>(bytes);
    std::memcpy(to, from, bytes);
}
void zero(std::size_t bytes, void* memory) { std::memset(memory, 0, bytes); }
void synchronize() {}
void* queue_handle() { return nullptr; }
void hand_over(void*) {}
void settle() {}

void sort_by_key(std::int64_t count, std::int64_t, const std::int32_t* keys, const std::int32_t* values,
                 std::int32_t* sorted_keys, std::int32_t* sorted_values) {
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
