// What every operation needs around a backend call (floor 2): the device's table, the call's context, the
// status turned into an exception.
#pragma once

#include <new>
#include <stdexcept>

#include "backend/backend.h"
#include "core/fp_mode.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "cpu/backend_cpu.h"

namespace lstm_native::ops {

// The table of the device's backend; runtime_error where this build has none.
inline const LnBackend& backend_of(core::Device device) {
    if (device != core::Device::cpu) throw std::runtime_error("this build has no backend for the device 'cuda'");
    return *cpu::backend();
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
