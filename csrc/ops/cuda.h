// The CUDA backend (floor 2): a library of its own, opened on request, and what it says of its device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "backend/backend.h"

namespace lstm_native::ops {

// Opens the library at `path`, checks that it fits this one, and starts its device. runtime_error says what is missing,
// and nothing has changed. May be called again.
void open_cuda(const std::string& path);
// Gives the opened device its library of matrix products; then it can be used. May be called again.
void open_cuda_blas(const std::string& path);

bool cuda_is_open();

// runtime_error: the device is not open, or this process was forked from the one that opened it.
const LnBackend& cuda_backend();
LnDeviceInfo cuda_info();
// For arrays that other libraries share: see LnDevice.
void* cuda_queue();
void cuda_hand_over(void* stream);
void cuda_settle() noexcept;
// The queue waits for what `stream` was given.
void cuda_take_back(void* stream) noexcept;
// Calls `release` of memory that another library lent when the work that uses it is done: now, or in a later one of
// these calls or cuda_release_done(). Does not wait unless more than kMostLent bytes are to be released.
inline constexpr std::size_t kMostLent = std::size_t{256} << 20;
void cuda_release(std::size_t bytes, std::function<void()> release) noexcept;
void cuda_release_done() noexcept;
// "float32", "tf32", "bfloat16" or "float16" (LnPrecision); invalid_argument for another.
void cuda_set_precision(const std::string& name);
void cuda_set_plan(std::int32_t plan);  // a LnPlan
// How calls of a layer with tanh and sigmoid run their steps, in sentences; `bidirectional`: two at a time.
std::string cuda_explain(const std::string& cell, std::int64_t units, std::int64_t batch, std::int64_t steps,
                         bool bidirectional);
void cuda_synchronize();  // returns when all work is done

}  // namespace lstm_native::ops
