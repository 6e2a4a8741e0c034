#include "cpu/backend_cpu.h"

#include "cpu/attention.h"
#include "cpu/dense.h"
#include "cpu/elementwise.h"
#include "cpu/general_recurrent.h"
#include "cpu/kernels/isa.h"
#include "cpu/merge.h"
#include "cpu/normalization.h"
#include "cpu/recurrent.h"

namespace lstm_native::cpu {

namespace {

constexpr LnBackend kBackend = {
    LN_BACKEND_VERSION,
    sizeof(LnBackend),
    "cpu",
    nullptr,
    kernels_epoch,
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
    general_release,
    general_saved_bytes,
    general_forward,
    general_step_bytes,
    general_step,
    general_backward,
    dropout_mask,
    recurrent_prepare_stored,
    dense_prepare_stored,
    embedding_forward_stored,
};

}  // namespace

const LnBackend* backend() {
    kernels();  // an LSTM_NATIVE_ISA that cannot be met is the caller's mistake: it is reported here, as an exception
    return &kBackend;
}

}  // namespace lstm_native::cpu
