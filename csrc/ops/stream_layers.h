// The layers of a stream (floor 2): each runs one time step and owns the state and the buffers that it needs, so that
// a step asks for no memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/activation.h"
#include "core/tensor.h"
#include "ops/dense.h"
#include "ops/recurrent.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// What goes from layer to layer within one step.
struct StreamStep {
    const std::int32_t* ids = nullptr;    // (rows) on the host, in front of an embedding
    const float* values = nullptr;        // (rows, width) on the stream's device
    const std::uint8_t* valid = nullptr;  // (rows) on the host, 0 where the step does not count; null: it counts in
                                          // every row
};

// State of a recurrent layer: h and c, each (rows, units); c undefined where the cell has none.
struct StreamState {
    core::Tensor h, c;
};

class StreamLayer {
public:
    StreamLayer() = default;
    StreamLayer(const StreamLayer&) = delete;
    StreamLayer& operator=(const StreamLayer&) = delete;
    virtual ~StreamLayer() = default;

    // Makes the buffers for inputs (rows, width) on `device` and returns the width of the outputs; invalid_argument
    // when the width does not fit.
    virtual std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) = 0;
    // Operations of a step, roughly.
    virtual double work() const { return 0.0; }

    // A step is prepare for all layers, run for all layers, then finish for all layers. Whatever may fail leaves the
    // state as it was: the new one takes effect with finish.
    virtual void prepare() {}
    virtual void run(StreamStep& step) = 0;
    virtual void finish() noexcept {}

    // Null for layers without a state. Only between steps.
    virtual StreamState* state() { return nullptr; }
};

// runtime_error where weights have moved away from a stream's device since it was made.
void check_place(const char* label, core::Device weights, core::Device stream);

// Rows of `table` (V, D). With `mask_zero`, a step with id 0 does not count.
std::unique_ptr<StreamLayer> stream_embedding(std::shared_ptr<Variable> table, bool mask_zero);
// A step does not count where every feature equals `value`; its features become zero.
std::unique_ptr<StreamLayer> stream_masking(float value);
// A step that does not count keeps the state and repeats the output, or gives zeros with `zero_output_for_mask`.
std::unique_ptr<StreamLayer> stream_recurrent(std::shared_ptr<RecurrentWeights> weights, bool zero_output_for_mask);
std::unique_ptr<StreamLayer> stream_dense(std::shared_ptr<DenseWeights> weights);
std::unique_ptr<StreamLayer> stream_activation(core::Activation activation);
// Lets every step count from here on.
std::unique_ptr<StreamLayer> stream_end_mask();
// Values times `scale` plus `offset`, numbers on the host: float32 () or (width); `offset` may be undefined.
std::unique_ptr<StreamLayer> stream_rescaling(core::Tensor scale, core::Tensor offset);
// Of inference: the moving mean and variance of each feature; gamma and beta may be null.
struct BatchNormWeights {
    std::shared_ptr<Variable> mean, variance, gamma, beta;
    double epsilon = 0.0;
};
std::unique_ptr<StreamLayer> stream_batch_norm(BatchNormWeights weights);

enum class StreamJoin { concat, sum, ave, mul, sub, max, min };
StreamJoin stream_join_from_name(const std::string& name);  // invalid_argument for others
// What it reads, joined with what `steps[other]` holds by then, of `width` columns; a step counts that does in either.
// Messages call it `label`.
std::unique_ptr<StreamLayer> stream_join(std::string label, StreamJoin mode, const std::vector<StreamStep>& steps,
                                         std::size_t other, std::int64_t width);

}  // namespace lstm_native::ops
