// What every operation needs around a backend call (floor 2): the device's table, arrays on it, the call's context,
// the status turned into an exception.
//
// An operation runs where its variables lie, and without variables on a device other than the CPU if any of its arrays
// lies there. The other arrays are copied to it: no caller needs to know which device it is on.
#pragma once

#include <initializer_list>
#include <new>
#include <stdexcept>

#include "backend/backend.h"
#include "core/fp_mode.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "cpu/backend_cpu.h"
#include "ops/cuda.h"

namespace lstm_native::ops {

// The table of the device's backend; runtime_error where there is none.
inline const LnBackend& backend_of(core::Device device) {
    return device == core::Device::cpu ? *cpu::backend() : cuda_backend();
}

inline core::Device device_of(std::initializer_list<const core::Tensor*> arrays) {
    for (const core::Tensor* array : arrays)
        if (array->defined() && array->device() != core::Device::cpu) return array->device();
    return core::Device::cpu;
}

// Context of one call; invalid_argument when LSTM_NATIVE_NUM_THREADS cannot be understood.
inline LnContext make_context() {
    LnContext context;
    context.stream = nullptr;
    context.num_threads = core::num_threads();
    context.message[0] = '\0';
    return context;
}

inline void check_status(LnStatus status, const LnContext& context) {
    if (status == LN_OK) return;
    if (status == LN_OUT_OF_MEMORY) throw std::bad_alloc();
    throw std::runtime_error(context.message);
}

// entry(&context, arguments...) with subnormals flushed; bad_alloc or runtime_error when it fails.
//     call(backend.scale, count, target, factor);
template <class... Parameters, class... Arguments>
void call(LnStatus (*entry)(LnContext*, Parameters...), Arguments... arguments) {
    LnContext context = make_context();
    const core::FlushSubnormals flush;
    check_status(entry(&context, arguments...), context);
}

}  // namespace lstm_native::ops
