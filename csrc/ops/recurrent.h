// Recurrent layer over a whole sequence (floor 2): checks, the control bytes from mask and reset, outputs, the
// backend's call.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/tensor.h"
#include "ops/recurrent_weights.h"

namespace lstm_native::ops {

// What a call reads, on its device.
struct RecurrentArrays {
    core::Tensor inputs, index, control, initial_h, initial_c, recurrent_mask;
};

// What backward needs of one forward call. Holds its inputs and the weights' pack of that moment.
class RecurrentSaved : public RecurrentArrays {
public:
    LnRecurrentForward forward{};  // of the whole sequence
    bool return_sequences = false;
    core::Shape output_shape;
    std::int64_t output_begin = 0;      // of the first step of row 0 in the outputs
    core::Tensor memory;                // of one segment; made by backward where there are several
    std::int64_t segment_steps = 0;     // of each segment but the last
    core::Tensor segment_h, segment_c;  // (segments - 1, B, H): the states that the segments after the first start from
    std::shared_ptr<const void> pack;
    std::atomic<bool> used{false};
};

struct RecurrentOptions {
    bool return_sequences = false;
    bool go_backwards = false;
    bool zero_output_for_mask = false;
    bool training = false;
    bool time_first = false;  // inputs and outputs are (T, B, ...)
    // In training, keeps the state of every so many steps only; backward computes the steps between anew (Chen et al.
    // 2016). 0: everything is kept.
    std::int64_t checkpoint_steps = 0;
};

struct RecurrentResult {
    core::Tensor output;                    // (B, T, P) or (B, P), P = H without a projection; see the options
    core::Tensor h, c;                      // (B, P), (B, H); c undefined where the cell has none
    std::shared_ptr<RecurrentSaved> saved;  // null unless training
};

struct RecurrentGradients {
    core::Tensor d_inputs, d_kernel, d_recurrent_kernel, d_bias, d_initial_h,
        d_initial_c;                         // undefined where not asked for
    core::Tensor d_peepholes, d_projection;  // undefined without such weights
};

// inputs (B, T, I), T >= 1, or rows (R, I) with `index`, int32 (B, T) in [0, R): the row that stands at a step (not for
// general weights); mask, reset bool (B, T); all in input order. Initial states (B, P), (B, H). recurrent_mask (B, P):
// the recurrent product takes h times it at every step (recurrent dropout, Gal and Ghahramani 2016). Tensors that are
// not defined stand for None.
struct RecurrentCall {
    RecurrentWeights& weights;
    const core::Tensor &inputs, &index, &mask, &reset, &initial_h, &initial_c, &recurrent_mask;
    RecurrentOptions options;
};

RecurrentResult recurrent_forward(const RecurrentCall& call);

// Some calls at once, the directions of a bidirectional layer for instance; all are checked before one of them runs.
// With `joined` they write one output of all steps, their columns side by side, those of a call that goes backwards in
// input order. Results are those of one call after the other, on the CPU bit for bit.
std::vector<RecurrentResult> recurrent_forward(const std::vector<RecurrentCall>& calls, bool joined);

// d_output has the shape of the output, d_inputs that of the inputs. `saved` is good for one call.
struct RecurrentBackCall {
    RecurrentWeights& weights;
    RecurrentSaved& saved;
    const core::Tensor &d_output, &d_h, &d_c;
    bool need_d_inputs, need_d_initial;
};

RecurrentGradients recurrent_backward(const RecurrentBackCall& call);

std::vector<RecurrentGradients> recurrent_backward(const std::vector<RecurrentBackCall>& calls);

}  // namespace lstm_native::ops
