#include "ops/recurrent.h"

#include <algorithm>

#include "core/activation.h"
#include "core/error.h"
#include "core/size.h"
#include "ops/context.h"

namespace lstm_native::ops {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

namespace {

struct Cell {
    const char* name;
    const char* label;
    LnCell cell;
    std::int64_t gates;
};
constexpr Cell kCells[] = {{"lstm", "LSTM", LN_CELL_LSTM, 4},
                           {"simple_rnn", "SimpleRNN", LN_CELL_SIMPLE_RNN, 1},
                           {"gru", "GRU", LN_CELL_GRU, 3},
                           {"gru_before", "GRU", LN_CELL_GRU_BEFORE, 3}};

const Cell& find_cell(const std::string& name) {
    for (const Cell& cell : kCells)
        if (name == cell.name) return cell;
    core::fail("RecurrentWeights: cell '", name,
               "' is not known; expected 'lstm', 'simple_rnn', 'gru' or 'gru_before'");
}

std::int32_t activation_number(const char* label, const char* argument, const std::string& name) {
    core::Activation activation{};
    check(core::find_activation(name.c_str(), &activation), label, ": ", argument, " '", name, "' is not known");
    check(core::is_elementwise(activation), label, ": ", argument, " '", name,
          "' mixes the units of a step; expected an elementwise activation");
    return static_cast<std::int32_t>(activation);
}

void check_optional(const char* label, const char* argument, const Tensor& x, const Shape& shape, DType dtype) {
    check(!x.defined() || (x.shape() == shape && x.dtype() == dtype), label, ": ", argument, " has shape ", x.shape(),
          " and dtype ", core::name_of(x.dtype()), ", expected ", shape, " and ", core::name_of(dtype));
}

const float* floats(const Tensor& x) { return x.data<float>(); }

// The shape (B, T, I) that the steps see.
Shape step_shape(const RecurrentWeights& weights, const Tensor& inputs, const Tensor& index) {
    const std::int64_t I = weights.inputs();
    if (!index.defined()) {
        check(inputs.rank() == 3 && inputs.shape()[2] == I, weights.label(), ": input has shape ", inputs.shape(),
              ", expected (batch, time, ", I, ")");
        return inputs.shape();
    }
    check(inputs.rank() == 2 && inputs.shape()[1] == I, weights.label(), ": indexed rows have shape ", inputs.shape(),
          ", expected (rows, ", I, ")");
    check(index.rank() == 2 && index.dtype() == DType::int32, weights.label(), ": index has shape ", index.shape(),
          " and dtype ", core::name_of(index.dtype()), ", expected (batch, time) and int32");
    const std::int64_t R = inputs.shape()[0];
    for (std::int64_t i = 0; i < index.count(); ++i) {
        const std::int32_t row = index.data<std::int32_t>()[i];
        check(row >= 0 && row < R, weights.label(), ": index holds ", row, ", expected row numbers in [0, ", R, ")");
    }
    return {index.shape()[0], index.shape()[1], I};
}

// The steps [n * segment_steps, ...) of a sequence that is run in segments.
LnRecurrentForward segment_of(const RecurrentSaved& saved, std::int64_t n) {
    LnRecurrentForward segment = saved.forward;
    segment.first = n * saved.segment_steps;
    segment.steps = std::min(saved.segment_steps, segment.T - segment.first);
    if (n > 0) {
        const std::int64_t state = (n - 1) * saved.segment_h.shape()[1] * saved.segment_h.shape()[2];
        segment.start_h = floats(saved.segment_h) + state;
        if (saved.segment_c.defined()) segment.start_c = floats(saved.segment_c) + state;
    }
    return segment;
}

std::int64_t segments_of(const RecurrentSaved& saved) { return core::ceil_div(saved.forward.T, saved.segment_steps); }

// A training call that keeps the states between segments only.
void forward_in_segments(const LnBackend& backend, RecurrentSaved& saved, const RecurrentWeights& weights) {
    const std::int64_t H = weights.units();
    const std::int64_t segments = segments_of(saved);
    const std::int64_t B = saved.forward.B;
    saved.segment_h = Tensor::empty({segments - 1, B, H}, DType::float32, saved.inputs.device());
    if (weights.has_cell_state())
        saved.segment_c = Tensor::empty({segments - 1, B, H}, DType::float32, saved.inputs.device());
    for (std::int64_t n = 0; n < segments; ++n) {
        LnRecurrentForward segment = segment_of(saved, n);
        if (n + 1 < segments) {
            segment.last_h = saved.segment_h.data<float>() + n * B * H;
            if (weights.has_cell_state()) segment.last_c = saved.segment_c.data<float>() + n * B * H;
        }
        call(backend.recurrent_forward, saved.pack.get(), static_cast<const LnRecurrentForward*>(&segment));
    }
}

// From the last segment to the first: forward once more, now keeping all, and backward. The gradients of a segment's
// start go to the end of the one before.
void backward_in_segments(const LnBackend& backend, const RecurrentSaved& saved, const LnRecurrentBackward& whole,
                          std::int64_t H) {
    const core::Device device = saved.inputs.device();
    const std::int64_t B = saved.forward.B;
    const std::size_t bytes =
        backend.recurrent_saved_bytes(saved.pack.get(), B, saved.segment_steps, saved.recurrent_mask.defined() ? 1 : 0);
    const Tensor memory = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device);
    Tensor d_h[2], d_c[2];
    for (int side = 0; side < 2; ++side) {
        d_h[side] = Tensor::empty({B, H}, DType::float32, device);
        d_c[side] = Tensor::empty({B, H}, DType::float32, device);
    }
    const std::int64_t last = segments_of(saved) - 1;
    for (std::int64_t n = last; n >= 0; --n) {
        LnRecurrentForward segment = segment_of(saved, n);
        segment.outputs = segment.last_output = segment.last_h = segment.last_c = nullptr;
        segment.saved = memory.raw();
        call(backend.recurrent_forward, saved.pack.get(), static_cast<const LnRecurrentForward*>(&segment));
        LnRecurrentBackward backward = whole;
        backward.forward = &segment;
        backward.saved = memory.raw();
        if (n < last) {
            backward.d_last_h = floats(d_h[(n + 1) % 2]);
            backward.d_last_c = floats(d_c[(n + 1) % 2]);
            backward.accumulate = 1;
        }
        if (n > 0) {
            backward.d_start_h = d_h[n % 2].data<float>();
            backward.d_start_c = d_c[n % 2].data<float>();
        }
        call(backend.recurrent_backward, saved.pack.get(), static_cast<const LnRecurrentBackward*>(&backward));
    }
}

// One control byte a step, in processed order (backend.h); undefined when every step is plain.
Tensor control_bytes(std::int64_t B, std::int64_t T, const Tensor& mask, const Tensor& reset,
                     const RecurrentOptions& options) {
    if (!mask.defined() && !reset.defined()) return {};
    const Tensor control = Tensor::empty({B, T}, DType::uint8);
    for (std::int64_t b = 0; b < B; ++b) {
        bool started = false;  // a masked step repeats the last output, and there is none before the first valid one
        for (std::int64_t s = 0; s < T; ++s) {
            const std::int64_t at = b * T + (options.go_backwards ? T - 1 - s : s);
            const bool valid = !mask.defined() || mask.data<std::uint8_t>()[at] != 0;
            const bool is_reset = reset.defined() && reset.data<std::uint8_t>()[at] != 0;
            started = (started && !is_reset) || valid;  // a reset begins another sequence
            const bool emit = options.zero_output_for_mask ? valid : started;
            control.data<std::uint8_t>()[b * T + s] =
                static_cast<std::uint8_t>((valid ? LN_UPDATE : 0) | (is_reset ? LN_RESET : 0) | (emit ? LN_EMIT : 0));
        }
    }
    return control;
}

}  // namespace

RecurrentWeights::RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                                   std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                                   const std::string& activation, const std::string& recurrent_activation)
    : config_{},
      label_(nullptr),
      kernel_(std::move(kernel)),
      recurrent_kernel_(std::move(recurrent_kernel)),
      bias_(std::move(bias)),
      cache_({kernel_, recurrent_kernel_, bias_}) {
    const Cell& found = find_cell(cell);
    label_ = found.label;
    const auto named = [this](const char* weight) { return std::string(label_) + ": " + weight; };
    check_float32(named("kernel").c_str(), kernel_);
    check_float32(named("recurrent_kernel").c_str(), recurrent_kernel_);
    check_float32(named("bias").c_str(), bias_);
    const std::int64_t G = found.gates;
    const Shape& recurrent = recurrent_kernel_->tensor().shape();
    check(recurrent.rank() == 2 && recurrent[1] == G * recurrent[0] && recurrent[0] > 0, label_,
          ": recurrent_kernel has shape ", recurrent, ", expected (units, ", G, " * units)");
    const Shape& input = kernel_->tensor().shape();
    check(input.rank() == 2 && input[1] == recurrent[1], label_, ": kernel has shape ", input, ", expected (features, ",
          G, " * units = ", recurrent[1], ")");
    const Shape biases = found.cell == LN_CELL_GRU ? Shape{2, recurrent[1]} : Shape{recurrent[1]};
    check(bias_ == nullptr || bias_->tensor().shape() == biases, label_, ": bias has shape ",
          bias_ == nullptr ? Shape{} : bias_->tensor().shape(), ", expected ", biases);
    config_ = {found.cell, activation_number(label_, "activation", activation),
               activation_number(label_, "recurrent_activation", recurrent_activation), input[0], recurrent[0]};
}

std::shared_ptr<const void> RecurrentWeights::pack() {
    const LnBackend& backend = backend_of(device());
    return cache_.get(backend.pack_epoch(), backend.recurrent_release, [&] {
        void* made = nullptr;
        call(backend.recurrent_prepare, static_cast<const LnRecurrentConfig*>(&config_), floats(kernel_->tensor()),
             floats(recurrent_kernel_->tensor()), bias_ == nullptr ? nullptr : floats(bias_->tensor()), &made);
        return made;
    });
}

RecurrentResult recurrent_forward(RecurrentWeights& weights, const Tensor& inputs, const Tensor& index,
                                  const Tensor& mask, const Tensor& reset, const Tensor& initial_h,
                                  const Tensor& initial_c, const Tensor& recurrent_mask,
                                  const RecurrentOptions& options) {
    const Shape steps = step_shape(weights, inputs, index);
    check(inputs.dtype() == DType::float32, weights.label(), ": input has dtype ", core::name_of(inputs.dtype()),
          ", expected float32");
    const std::int64_t B = steps[0];
    const std::int64_t T = steps[1];
    const std::int64_t H = weights.units();
    check(T > 0, weights.label(), ": input has shape ", steps, ", expected at least one time step");
    check(options.checkpoint_steps >= 0, weights.label(), ": checkpoint_steps is ", options.checkpoint_steps,
          ", expected at least 0");
    check(options.checkpoint_steps == 0 || !index.defined(), weights.label(), ": checkpoint_steps with indexed inputs");
    check_optional(weights.label(), "mask", mask, {B, T}, DType::boolean);
    check_optional(weights.label(), "reset", reset, {B, T}, DType::boolean);
    check_optional(weights.label(), "initial_state h", initial_h, {B, H}, DType::float32);
    check_optional(weights.label(), "initial_state c", initial_c, {B, H}, DType::float32);
    check_optional(weights.label(), "recurrent_mask", recurrent_mask, {B, H}, DType::float32);

    check(!initial_c.defined() || weights.has_cell_state(), weights.label(),
          ": initial_state has a c, which this cell has not");

    const core::Device device = weights.device();
    RecurrentResult result;
    result.output = Tensor::empty(options.return_sequences ? Shape{B, T, H} : Shape{B, H}, DType::float32, device);
    result.h = Tensor::empty({B, H}, DType::float32, device);
    if (weights.has_cell_state()) result.c = Tensor::empty({B, H}, DType::float32, device);
    const Tensor control = control_bytes(B, T, mask, reset, options);

    LnRecurrentForward forward{};
    forward.B = B;
    forward.T = forward.steps = T;
    forward.inputs = floats(inputs);
    forward.index = index.data<std::int32_t>();
    forward.R = index.defined() ? inputs.shape()[0] : 0;
    forward.control = control.data<std::uint8_t>();
    forward.initial_h = floats(initial_h);
    forward.initial_c = floats(initial_c);
    forward.recurrent_mask = floats(recurrent_mask);
    forward.go_backwards = options.go_backwards ? 1 : 0;
    (options.return_sequences ? forward.outputs : forward.last_output) = result.output.data<float>();
    forward.last_h = result.h.data<float>();
    forward.last_c = result.c.data<float>();

    const LnBackend& backend = backend_of(device);
    const std::shared_ptr<const void> pack = B > 0 ? weights.pack() : nullptr;
    if (options.training) {
        result.saved = std::make_shared<RecurrentSaved>();
        RecurrentSaved& saved = *result.saved;
        saved.return_sequences = options.return_sequences;
        saved.inputs = inputs;
        saved.index = index;
        saved.control = control;
        saved.initial_h = initial_h;
        saved.initial_c = initial_c;
        saved.recurrent_mask = recurrent_mask;
        saved.pack = pack;
        saved.segment_steps = options.checkpoint_steps > 0 ? std::min(options.checkpoint_steps, T) : T;
        const bool in_segments = saved.segment_steps < T;
        if (B > 0 && !in_segments) {
            const std::size_t bytes = backend.recurrent_saved_bytes(pack.get(), B, T, recurrent_mask.defined() ? 1 : 0);
            saved.memory = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device);
            forward.saved = saved.memory.raw();
        }
        saved.forward = forward;
        if (B > 0 && in_segments) {
            forward_in_segments(backend, saved, weights);
            return result;
        }
    }
    if (B > 0) call(backend.recurrent_forward, pack.get(), static_cast<const LnRecurrentForward*>(&forward));
    return result;
}

RecurrentGradients recurrent_backward(RecurrentWeights& weights, RecurrentSaved& saved, const Tensor& d_output,
                                      const Tensor& d_h, const Tensor& d_c, bool need_d_inputs, bool need_d_initial) {
    const std::int64_t B = saved.forward.B;
    const std::int64_t T = saved.forward.T;
    const std::int64_t H = weights.units();
    check_optional(weights.label(), "gradient of the output", d_output,
                   saved.return_sequences ? Shape{B, T, H} : Shape{B, H}, DType::float32);
    check_optional(weights.label(), "gradient of h", d_h, {B, H}, DType::float32);
    check_optional(weights.label(), "gradient of c", d_c, {B, H}, DType::float32);
    if (saved.used.exchange(true))
        throw std::runtime_error(
            core::message(weights.label(), ": backward was already called for this forward pass; run forward again"));

    const core::Device device = weights.device();
    const auto make = B == 0 ? &Tensor::zeros : &Tensor::empty;
    RecurrentGradients gradients;
    if (need_d_inputs) gradients.d_inputs = make(saved.inputs.shape(), DType::float32, device);
    gradients.d_kernel = make({weights.inputs(), weights.gate_columns()}, DType::float32, device);
    gradients.d_recurrent_kernel = make({H, weights.gate_columns()}, DType::float32, device);
    if (weights.bias() != nullptr) gradients.d_bias = make(weights.bias()->tensor().shape(), DType::float32, device);
    if (need_d_initial) {
        gradients.d_initial_h = make({B, H}, DType::float32, device);
        if (weights.has_cell_state()) gradients.d_initial_c = make({B, H}, DType::float32, device);
    }
    if (B == 0) return gradients;

    LnRecurrentBackward backward{};
    backward.forward = &saved.forward;
    backward.saved = saved.memory.raw();
    (saved.return_sequences ? backward.d_outputs : backward.d_last_output) = floats(d_output);
    backward.d_last_h = floats(d_h);
    backward.d_last_c = floats(d_c);
    backward.d_inputs = gradients.d_inputs.data<float>();
    backward.d_kernel = gradients.d_kernel.data<float>();
    backward.d_recurrent_kernel = gradients.d_recurrent_kernel.data<float>();
    backward.d_bias = gradients.d_bias.data<float>();
    backward.d_initial_h = gradients.d_initial_h.data<float>();
    backward.d_initial_c = gradients.d_initial_c.data<float>();
    const LnBackend& backend = backend_of(device);
    if (saved.segment_steps < T) {
        backward_in_segments(backend, saved, backward, H);
        return gradients;
    }
    call(backend.recurrent_backward, saved.pack.get(), static_cast<const LnRecurrentBackward*>(&backward));
    saved.memory = {};
    return gradients;
}

}  // namespace lstm_native::ops
