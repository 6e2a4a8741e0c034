#include "ops/recurrent.h"

#include <algorithm>

#include "core/error.h"
#include "core/size.h"

namespace lstm_native::ops {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

namespace {

void check_optional(const char* label, const char* argument, const Tensor& x, const Shape& shape, DType dtype) {
    check(!x.defined() || (x.shape() == shape && x.dtype() == dtype), label, ": ", argument, " has shape ", x.shape(),
          " and dtype ", core::name_of(x.dtype()), ", expected ", shape, " and ", core::name_of(dtype));
}

const float* floats(const Tensor& x) { return x.data<float>(); }

// (B, T, columns), or (T, B, columns).
Shape sequence_shape(std::int64_t B, std::int64_t T, std::int64_t columns, bool time_first) {
    return time_first ? Shape{T, B, columns} : Shape{B, T, columns};
}

LnStrides strides_of(std::int64_t B, std::int64_t T, std::int64_t columns, bool time_first) {
    return time_first ? LnStrides{columns, B * columns} : LnStrides{T * columns, columns};
}

// The shape (B, T, I) that the steps see.
Shape step_shape(const RecurrentWeights& weights, const Tensor& inputs, const Tensor& index, bool time_first) {
    const std::int64_t I = weights.inputs();
    if (!index.defined()) {
        const Shape& shape = inputs.shape();
        check(inputs.rank() == 3 && shape[2] == I, weights.label(), ": input has shape ", shape,
              time_first ? ", expected (time, batch, " : ", expected (batch, time, ", I, ")");
        return time_first ? Shape{shape[1], shape[0], I} : shape;
    }
    check(!time_first, weights.label(), ": indexed inputs with time_first");
    check(inputs.rank() == 2 && inputs.shape()[1] == I, weights.label(), ": indexed rows have shape ", inputs.shape(),
          ", expected (rows, ", I, ")");
    check(index.rank() == 2 && index.dtype() == DType::int32, weights.label(), ": index has shape ", index.shape(),
          " and dtype ", core::name_of(index.dtype()), ", expected (batch, time) and int32");
    const std::int64_t R = inputs.shape()[0];
    const Tensor numbers = index.to(core::Device::cpu);
    for (std::int64_t i = 0; i < numbers.count(); ++i) {
        const std::int32_t row = numbers.data<std::int32_t>()[i];
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
        const auto start = [n](const Tensor& states) {
            return floats(states) + (n - 1) * states.shape()[1] * states.shape()[2];
        };
        segment.start_h = start(saved.segment_h);
        if (saved.segment_c.defined()) segment.start_c = start(saved.segment_c);
    }
    return segment;
}

std::int64_t segments_of(const RecurrentSaved& saved) { return core::ceil_div(saved.forward.T, saved.segment_steps); }

// A training call that keeps the states between segments only.
void forward_in_segments(RecurrentSaved& saved, const RecurrentWeights& weights) {
    const std::int64_t P = weights.outputs();
    const std::int64_t H = weights.units();
    const std::int64_t segments = segments_of(saved);
    const std::int64_t B = saved.forward.B;
    saved.segment_h = Tensor::empty({segments - 1, B, P}, DType::float32, saved.inputs.device());
    if (weights.has_cell_state())
        saved.segment_c = Tensor::empty({segments - 1, B, H}, DType::float32, saved.inputs.device());
    for (std::int64_t n = 0; n < segments; ++n) {
        LnRecurrentForward segment = segment_of(saved, n);
        if (n + 1 < segments) {
            segment.last_h = saved.segment_h.data<float>() + n * B * P;
            if (weights.has_cell_state()) segment.last_c = saved.segment_c.data<float>() + n * B * H;
        }
        weights.forward(saved.pack.get(), segment);
    }
}

// From the last segment to the first: forward once more, now keeping all, and backward. The gradients of a segment's
// start go to the end of the one before.
void backward_in_segments(const RecurrentWeights& weights, const RecurrentSaved& saved,
                          const LnRecurrentBackward& whole, const RecurrentGradients& gradients) {
    const core::Device device = saved.inputs.device();
    const std::int64_t B = saved.forward.B;
    const std::size_t bytes =
        weights.saved_bytes(saved.pack.get(), B, saved.segment_steps, saved.recurrent_mask.defined());
    const Tensor memory = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device);
    Tensor d_h[2], d_c[2];
    for (int side = 0; side < 2; ++side) {
        d_h[side] = Tensor::empty({B, weights.outputs()}, DType::float32, device);
        d_c[side] = Tensor::empty({B, weights.units()}, DType::float32, device);
    }
    const std::int64_t last = segments_of(saved) - 1;
    for (std::int64_t n = last; n >= 0; --n) {
        LnRecurrentForward segment = segment_of(saved, n);
        segment.outputs = segment.last_output = segment.last_h = segment.last_c = nullptr;
        segment.saved = memory.raw();
        weights.forward(saved.pack.get(), segment);
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
        weights.backward(saved.pack.get(), backward, gradients.d_peepholes.data<float>(),
                         gradients.d_projection.data<float>());
    }
}

// One control byte a step, in processed order (backend.h); undefined when every step is plain.
Tensor control_bytes(std::int64_t B, std::int64_t T, const Tensor& given_mask, const Tensor& given_reset,
                     const RecurrentOptions& options) {
    const Tensor mask = given_mask.to(core::Device::cpu);
    const Tensor reset = given_reset.to(core::Device::cpu);
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

RecurrentResult recurrent_forward(RecurrentWeights& weights, const Tensor& given_inputs, const Tensor& given_index,
                                  const Tensor& mask, const Tensor& reset, const Tensor& given_h, const Tensor& given_c,
                                  const Tensor& given_recurrent_mask, const Tensor& given_output,
                                  const RecurrentOptions& options) {
    const Shape steps = step_shape(weights, given_inputs, given_index, options.time_first);
    const core::Device device = weights.device();
    const Tensor inputs = given_inputs.to(device);
    const Tensor index = given_index.to(device);
    const Tensor initial_h = given_h.to(device);
    const Tensor initial_c = given_c.to(device);
    const Tensor recurrent_mask = given_recurrent_mask.to(device);
    check(inputs.dtype() == DType::float32, weights.label(), ": input has dtype ", core::name_of(inputs.dtype()),
          ", expected float32");
    const std::int64_t B = steps[0];
    const std::int64_t T = steps[1];
    const std::int64_t H = weights.units();
    const std::int64_t P = weights.outputs();
    check(T > 0, weights.label(), ": input has shape ", steps, ", expected at least one time step");
    check(options.checkpoint_steps >= 0, weights.label(), ": checkpoint_steps is ", options.checkpoint_steps,
          ", expected at least 0");
    check(options.checkpoint_steps == 0 || !index.defined(), weights.label(), ": checkpoint_steps with indexed inputs");
    check(!weights.is_general() || !index.defined(), weights.label(), ": indexed inputs with general weights");
    check_optional(weights.label(), "mask", mask, {B, T}, DType::boolean);
    check_optional(weights.label(), "reset", reset, {B, T}, DType::boolean);
    check_optional(weights.label(), "initial_state h", initial_h, {B, P}, DType::float32);
    check_optional(weights.label(), "initial_state c", initial_c, {B, H}, DType::float32);
    check_optional(weights.label(), "recurrent_mask", recurrent_mask, {B, P}, DType::float32);

    check(!initial_c.defined() || weights.has_cell_state(), weights.label(),
          ": initial_state has a c, which this cell has not");

    check(options.return_sequences || (!options.time_first && !options.bidirectional), weights.label(),
          ": time_first and bidirectional are for outputs of all steps");
    const std::int64_t columns = options.bidirectional ? 2 * P : P;
    const Shape output_shape =
        options.return_sequences ? sequence_shape(B, T, columns, options.time_first) : Shape{B, P};
    check_optional(weights.label(), "output", given_output, output_shape, DType::float32);
    check(!given_output.defined() || given_output.device() == device, weights.label(), ": output lies on the device ",
          core::name_of(given_output.device()), ", expected ", core::name_of(device));

    RecurrentResult result;
    result.output = given_output.defined() ? given_output : Tensor::empty(output_shape, DType::float32, device);
    result.h = Tensor::empty({B, P}, DType::float32, device);
    if (weights.has_cell_state()) result.c = Tensor::empty({B, H}, DType::float32, device);
    const Tensor control = control_bytes(B, T, mask, reset, options).to(device);

    LnRecurrentForward forward{};
    forward.B = B;
    forward.T = forward.steps = T;
    forward.inputs = floats(inputs);
    forward.input = strides_of(B, T, weights.inputs(), options.time_first);
    forward.index = index.data<std::int32_t>();
    forward.R = index.defined() ? inputs.shape()[0] : 0;
    forward.control = control.data<std::uint8_t>();
    forward.initial_h = floats(initial_h);
    forward.initial_c = floats(initial_c);
    forward.recurrent_mask = floats(recurrent_mask);
    forward.go_backwards = options.go_backwards ? 1 : 0;
    forward.output = strides_of(B, T, columns, options.time_first);
    std::int64_t output_begin = 0;
    if (options.bidirectional && options.go_backwards) {
        output_begin = P + (T - 1) * forward.output.step;
        forward.output.step = -forward.output.step;
    }
    (options.return_sequences ? forward.outputs : forward.last_output) = result.output.data<float>() + output_begin;
    forward.last_h = result.h.data<float>();
    forward.last_c = result.c.data<float>();

    const std::shared_ptr<const void> pack = B > 0 ? weights.pack() : nullptr;
    if (options.training) {
        result.saved = std::make_shared<RecurrentSaved>();
        RecurrentSaved& saved = *result.saved;
        saved.return_sequences = options.return_sequences;
        saved.output_shape = output_shape;
        saved.output_begin = output_begin;
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
            const std::size_t bytes = weights.saved_bytes(pack.get(), B, T, recurrent_mask.defined());
            saved.memory = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device);
            forward.saved = saved.memory.raw();
        }
        saved.forward = forward;
        if (B > 0 && in_segments) {
            forward_in_segments(saved, weights);
            return result;
        }
    }
    if (B > 0) weights.forward(pack.get(), forward);
    return result;
}

RecurrentGradients recurrent_backward(RecurrentWeights& weights, RecurrentSaved& saved, const Tensor& d_output,
                                      const Tensor& d_h, const Tensor& d_c, bool need_d_inputs, bool need_d_initial) {
    const std::int64_t B = saved.forward.B;
    const std::int64_t T = saved.forward.T;
    const std::int64_t H = weights.units();
    const std::int64_t P = weights.outputs();
    check_optional(weights.label(), "gradient of the output", d_output, saved.output_shape, DType::float32);
    check_optional(weights.label(), "gradient of h", d_h, {B, P}, DType::float32);
    check_optional(weights.label(), "gradient of c", d_c, {B, H}, DType::float32);
    const core::Device device = saved.inputs.device();
    if (weights.device() != device)
        throw std::runtime_error(core::message(weights.label(), ": the weights have moved to ",
                                               core::name_of(weights.device()),
                                               " since this forward pass; run forward again"));
    if (saved.used.exchange(true))
        throw std::runtime_error(
            core::message(weights.label(), ": backward was already called for this forward pass; run forward again"));

    const Tensor there[] = {d_output.to(device), d_h.to(device), d_c.to(device)};
    const auto make = B == 0 ? &Tensor::zeros : &Tensor::empty;
    RecurrentGradients gradients;
    if (need_d_inputs) gradients.d_inputs = make(saved.inputs.shape(), DType::float32, device);
    const auto like = [&](const std::shared_ptr<Variable>& variable) {
        return variable == nullptr ? Tensor() : make(variable->tensor().shape(), DType::float32, device);
    };
    gradients.d_kernel = like(weights.kernel());
    gradients.d_recurrent_kernel = like(weights.recurrent_kernel());
    gradients.d_bias = like(weights.bias());
    gradients.d_peepholes = like(weights.peepholes());
    gradients.d_projection = like(weights.projection());
    if (need_d_initial) {
        gradients.d_initial_h = make({B, P}, DType::float32, device);
        if (weights.has_cell_state()) gradients.d_initial_c = make({B, H}, DType::float32, device);
    }
    if (B == 0) return gradients;

    LnRecurrentBackward backward{};
    backward.forward = &saved.forward;
    backward.saved = saved.memory.raw();
    if (there[0].defined())
        (saved.return_sequences ? backward.d_outputs : backward.d_last_output) = floats(there[0]) + saved.output_begin;
    backward.d_last_h = floats(there[1]);
    backward.d_last_c = floats(there[2]);
    backward.d_inputs = gradients.d_inputs.data<float>();
    backward.d_kernel = gradients.d_kernel.data<float>();
    backward.d_recurrent_kernel = gradients.d_recurrent_kernel.data<float>();
    backward.d_bias = gradients.d_bias.data<float>();
    backward.d_initial_h = gradients.d_initial_h.data<float>();
    backward.d_initial_c = gradients.d_initial_c.data<float>();
    if (saved.segment_steps < T) {
        backward_in_segments(weights, saved, backward, gradients);
        return gradients;
    }
    weights.backward(saved.pack.get(), backward, gradients.d_peepholes.data<float>(),
                     gradients.d_projection.data<float>());
    saved.memory = {};
    return gradients;
}

}  // namespace lstm_native::ops
