// The machine of csrc/cuda/runtime.h without a GPU: memory and products of the host. With it the drivers and kernels of
// the CUDA backend, compiled as plain C++, make a backend that the tests can run everywhere. Memory of "the device" is
// poisoned, so that what reads before it writes does not stay hidden.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <vector>

#include "cuda/runtime.h"

namespace lstm_native::cuda {

void open_device() {}
void open_blas(const char*) {}

LnDeviceInfo device_info() {
    LnDeviceInfo info{};
    std::strncpy(info.name, "host", sizeof info.name - 1);
    info.major = 9;
    info.free_bytes = info.total_bytes = std::uint64_t{1} << 30;
    return info;
}

// Few processors, so that small batches are cut in every way.
const Offer& device_offer() {
    static const Offer offer{2, 227 * 1024};
    return offer;
}

void set_precision(std::int32_t) {}

void* allocate(std::size_t bytes) {
    const std::size_t whole = (bytes / 256 + 1) * 256;
    if (whole > std::size_t{1} << 40) throw std::bad_alloc();
    void* const memory = std::aligned_alloc(256, whole);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0xFF, whole);  // NaN
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }

void copy(std::int32_t, std::size_t bytes, const void* from, void* to) { std::memcpy(to, from, bytes); }
void zero(std::size_t bytes, void* memory) { std::memset(memory, 0, bytes); }
void synchronize() {}
void* queue_handle() { return nullptr; }
void hand_over(void*) {}
void settle() {}

void product(std::int64_t M, std::int64_t N, std::int64_t K, const Matrix& a, const Matrix& b, float beta, float* c,
             std::int64_t c_stride, const float* bias) {
    std::vector<float> row(static_cast<std::size_t>(N));
    for (std::int64_t m = 0; m < M; ++m) {
        float* const to = c + m * c_stride;
        for (std::int64_t n = 0; n < N; ++n)
            row[static_cast<std::size_t>(n)] =
                (beta == 0.0F ? 0.0F : beta * to[n]) + (bias == nullptr ? 0.0F : bias[n]);
        for (std::int64_t k = 0; k < K; ++k) {
            const float left = a.transposed ? a.data[k * a.stride + m] : a.data[m * a.stride + k];
            for (std::int64_t n = 0; n < N; ++n)
                row[static_cast<std::size_t>(n)] +=
                    left * (b.transposed ? b.data[n * b.stride + k] : b.data[k * b.stride + n]);
        }
        std::copy(row.begin(), row.end(), to);
    }
}

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
