// Exceptions stop at the backend table: they become a status and a message (floor 1, CPU).
#pragma once

#include "backend/backend.h"
#include "core/guard.h"
#include "core/thread_pool.h"

namespace lstm_native::cpu {

template <class F>
LnStatus guarded(LnContext* context, F&& body) {
    return static_cast<LnStatus>(core::guarded(context->message, sizeof context->message, body));
}

// Multiply-adds below which a call stays on its caller's thread: waking a sleeping worker costs about as much; and
// where the workers are awake. The latter take some 10 us: a step of 3 us gained nothing where the processors were far
// apart, and now and then waited milliseconds for a worker that had lost its own.
inline constexpr double kParallelWork = 2e6;
inline constexpr double kDenseParallelWork = 3e5;

inline int threads_for(const LnContext& context, double multiply_adds) {
    return multiply_adds < kParallelWork ? 1 : context.num_threads;
}

// For calls that come again and again with the same weights, as the steps of a stream: each thread finds its part of
// them in its own cache. Where the data are new at each call, what moves between the caches costs more than is gained.
inline int threads_for_repeated(const LnContext& context, double multiply_adds) {
    if (context.num_threads == 1 || multiply_adds < kDenseParallelWork) return 1;
    return multiply_adds >= kParallelWork || core::calls_are_dense() ? context.num_threads : 1;
}

}  // namespace lstm_native::cpu
