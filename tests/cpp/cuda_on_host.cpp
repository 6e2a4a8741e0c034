// The machine of csrc/cuda/runtime.h without a GPU: memory and products of the host. With it the drivers and kernels of
// the CUDA backend, compiled as plain C++, make a backend that the tests can run everywhere. Memory of "the device" is
// poisoned, so that what reads before it writes does not stay hidden.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cuda/runtime.h"

namespace lstm_native::cuda {
namespace {

std::atomic<std::int32_t> wanted_precision{LN_FLOAT32};
std::atomic<std::int64_t> copies[3], copied_bytes[3];  // by direction
std::atomic<std::int32_t> plan{LN_PLAN_AUTO};

}  // namespace

OnDevice::OnDevice() = default;
OnDevice::~OnDevice() = default;

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

namespace {

template <class T>
float wide(T x) {
    if constexpr (std::is_same_v<T, float>) {
        return x;
    } else {
        return x.value();
    }
}

// To the 11 bits of TF32, half away from zero.
float tf32(float x) { return std::isfinite(x) ? float_of((bits_of(x) + 0x1000U) & ~0x1FFFU) : x; }

template <class T, class Value>
void multiply(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<T>& a, const MatrixOf<T>& b, float beta,
              float* c, std::int64_t c_stride, const float* bias, const Value& value) {
    std::vector<float> row(static_cast<std::size_t>(N));
    for (std::int64_t m = 0; m < M; ++m) {
        float* const to = c + m * c_stride;
        for (std::int64_t n = 0; n < N; ++n)
            row[static_cast<std::size_t>(n)] =
                (beta == 0.0F ? 0.0F : beta * to[n]) + (bias == nullptr ? 0.0F : bias[n]);
        for (std::int64_t k = 0; k < K; ++k) {
            const float left = value(a.transposed ? a.data[k * a.stride + m] : a.data[m * a.stride + k]);
            for (std::int64_t n = 0; n < N; ++n)
                row[static_cast<std::size_t>(n)] +=
                    left * value(b.transposed ? b.data[n * b.stride + k] : b.data[k * b.stride + n]);
        }
        std::copy(row.begin(), row.end(), to);
    }
}

}  // namespace

void product(std::int64_t M, std::int64_t N, std::int64_t K, const Matrix& a, const Matrix& b, float beta, float* c,
             std::int64_t c_stride, const float* bias, std::int32_t wanted) {
    if (wanted == LN_TF32) {
        multiply(M, N, K, a, b, beta, c, c_stride, bias, tf32);
    } else {
        multiply(M, N, K, a, b, beta, c, c_stride, bias, wide<float>);
    }
}

void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<Bfloat16>& a, const MatrixOf<Bfloat16>& b,
             float beta, float* c, std::int64_t c_stride, const float* bias) {
    multiply(M, N, K, a, b, beta, c, c_stride, bias, wide<Bfloat16>);
}

void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<Float16>& a, const MatrixOf<Float16>& b,
             float beta, float* c, std::int64_t c_stride, const float* bias) {
    multiply(M, N, K, a, b, beta, c, c_stride, bias, wide<Float16>);
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

// What was copied so far, a LnCopy's direction.
extern "C" __attribute__((visibility("default"))) void cuda_on_host_copies(std::int32_t direction, std::int64_t* copies,
                                                                           std::int64_t* bytes) {
    *copies = lstm_native::cuda::copies[direction];
    *bytes = lstm_native::cuda::copied_bytes[direction];
}
