// The table of the CUDA backend, and the function that the library exports (floor 1, CUDA).
#include "cuda/entries.h"
#include "cuda/operands.h"
#include "cuda/runtime.h"
#include "cuda/status.h"

namespace lstm_native::cuda {
namespace {

constexpr LnDevice kDevice = {
    sizeof(LnDevice),
    [](LnContext* context) { return guarded(context, [] { open_device(); }); },
    [](LnContext* context, const char* path) { return guarded(context, [=] { open_blas(path); }); },
    [](LnContext* context, LnDeviceInfo* found) { return guarded(context, [=] { *found = device_info(); }); },
    set_precision,
    set_plan,
    [](LnContext* context, size_t bytes, void** memory) {
        return guarded(context, [=] { *memory = allocate(bytes); });
    },
    [](void* memory) { release(memory); },
    [](LnContext* context, int32_t direction, size_t bytes, const void* from, void* to) {
        return guarded(context, [=] { copy(direction, bytes, from, to); });
    },
    [](LnContext* context, size_t bytes, void* memory) { return guarded(context, [=] { zero(bytes, memory); }); },
    [](LnContext* context) { return guarded(context, [] { synchronize(); }); },
    queue_handle,
    [](LnContext* context, void* stream) { return guarded(context, [=] { hand_over(stream); }); },
    [](LnContext* context, void* stream) { return guarded(context, [=] { take_back(stream); }); },
    [](LnContext* context) { return guarded(context, [] { settle(); }); },
    [](LnContext* context, void** mark) { return guarded(context, [=] { *mark = set_mark(); }); },
    [](void* mark) -> int32_t { return passed(mark) ? 1 : 0; },
    recurrent_explain,
};

uint64_t pack_epoch() { return static_cast<uint64_t>(operand_type()); }

constexpr LnBackend kBackend = {
    LN_BACKEND_VERSION,
    sizeof(LnBackend),
    "cuda",
    &kDevice,
    pack_epoch,
    recurrent_prepare,
    recurrent_release,
    recurrent_saved_bytes,
    recurrent_forward,
    recurrent_step_bytes,
    recurrent_step,
    recurrent_backward,
    dense_prepare,
    dense_release,
    dense_forward,
    dense_backward,
    embedding_forward,
    embedding_backward,
    activation_forward,
    activation_backward,
    loss,
    adam_step,
    sgd_step,
    rmsprop_step,
    add,
    scale,
    clip,
    multiply,
    squared_norms,
    penalties,
    merge_forward,
    merge_backward,
    layer_norm_forward,
    layer_norm_backward,
    additive_scores_forward,
    additive_scores_backward,
    general_prepare,
    recurrent_release,
    recurrent_saved_bytes,
    general_forward,
    recurrent_step_bytes,
    recurrent_step,
    general_backward,
    dropout_mask,
    nullptr,  // weights stored in fewer bits: set_precision is what there is for them here
    nullptr,
    nullptr,
};

}  // namespace
}  // namespace lstm_native::cuda

extern "C" __attribute__((visibility("default"))) const LnBackend* lstm_native_backend(void) {
    return &lstm_native::cuda::kBackend;
}
