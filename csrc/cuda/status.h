// An entry of the table: what is thrown becomes a status and a message (floor 1, CUDA).
#pragma once

#include <utility>

#include "backend/backend.h"
#include "core/guard.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {

template <class F>
LnStatus guarded(LnContext* context, F&& body) {
    const OnDevice there;
    return static_cast<LnStatus>(core::guarded(context->message, sizeof context->message, std::forward<F>(body)));
}

}  // namespace lstm_native::cuda
