// What drivers and kernels of this backend need of the machine (floor 1, CUDA): memory, the queue, matrix products,
// stable sorting. runtime_cuda.cu has it on a GPU; tests/cpp/cuda_on_host.cpp on the host, where the same drivers and
// kernels run as loops, so that machines without a GPU test them.
//
// All work goes into one queue, so it is done in the order of the calls, and memory may be given back while work that
// uses it is still waiting. Functions throw bad_alloc or runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "cuda/half.h"
#include "cuda/planner.h"

namespace lstm_native::cuda {

// Makes the device the calling thread's for as long as it lives: another library may have chosen another one.
class OnDevice {
public:
    OnDevice();
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
};

void open_device();
void open_blas(const char* path);
LnDeviceInfo device_info();
Offer device_offer();
void set_precision(std::int32_t precision);
std::int32_t precision();  // a LnPrecision
void set_plan(std::int32_t plan);
std::int32_t wanted_plan();  // a LnPlan

void* allocate(std::size_t bytes);
void release(void* memory) noexcept;
void copy(std::int32_t direction, std::size_t bytes, const void* from, void* to);
void zero(std::size_t bytes, void* memory);
void synchronize();
void* queue_handle();
void hand_over(void* stream);
void take_back(void* stream);
void settle();
void* set_mark();
bool passed(void* mark) noexcept;

// Launches and products of this thread between begin_graph() and end_graph() go into a graph and are not run; nothing
// else of this header may be called there. cancel_graph() after an error in between. One at a time in the process.
void begin_graph();
void* end_graph();
void cancel_graph() noexcept;
void launch_graph(void* graph);            // not by two threads at once
void destroy_graph(void* graph) noexcept;  // its work may still be waiting
void* queue_of_thread();                   // the queue, or the graph that this thread makes

// Memory for a while.
template <class T>
class Array {
public:
    Array() = default;
    explicit Array(std::int64_t count)
        : data_(static_cast<T*>(allocate(static_cast<std::size_t>(count) * sizeof(T)))) {}
    ~Array() {
        if (data_ != nullptr) release(data_);
    }
    Array(Array&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    Array& operator=(Array&& other) noexcept {
        T* const mine = data_;
        data_ = other.data_;
        other.data_ = mine;
        return *this;
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    T* get() const { return data_; }

private:
    T* data_ = nullptr;
};

template <class T>
Array<T> copy_of(const T* from, std::int64_t count) {
    if (from == nullptr) return {};
    Array<T> made(count);
    copy(LN_ON_DEVICE, static_cast<std::size_t>(count) * sizeof(T), from, made.get());
    return made;
}

// A row-major matrix whose rows begin `stride` elements after each other.
template <class T>
struct MatrixOf {
    const T* data;
    std::int64_t stride;
    bool transposed = false;
};
using Matrix = MatrixOf<float>;

// c (M, N) = a (M, K) b (K, N) + beta c, + bias (N) for every row unless null; a transposed operand lies the other way
// round. Sums are float32, in one order for a shape: no float atomics. `wanted`, LN_FLOAT32 or LN_TF32.
void product(std::int64_t M, std::int64_t N, std::int64_t K, const Matrix& a, const Matrix& b, float beta, float* c,
             std::int64_t c_stride, const float* bias = nullptr, std::int32_t wanted = precision());
void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<Bfloat16>& a, const MatrixOf<Bfloat16>& b,
             float beta, float* c, std::int64_t c_stride, const float* bias = nullptr);
void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<Float16>& a, const MatrixOf<Float16>& b,
             float beta, float* c, std::int64_t c_stride, const float* bias = nullptr);

// Keys in [0, bound) in ascending order, with the values of theirs; equal ones keep their order.
void sort_by_key(std::int64_t count, std::int64_t bound, const std::int32_t* keys, const std::int32_t* values,
                 std::int32_t* sorted_keys, std::int32_t* sorted_values);

}  // namespace lstm_native::cuda
