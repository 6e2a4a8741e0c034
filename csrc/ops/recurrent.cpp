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

// Where a call writes: from a column on in an output of so many, which the first of the calls makes.
struct Place {
    std::int64_t column, columns;
    bool joined;
    core::Tensor output;
};

// A call that was checked, with its outputs.
struct Prepared {
    RecurrentWeights* weights;
    RecurrentArrays arrays;
    std::shared_ptr<const void> pack;  // null: the batch has no rows
    LnRecurrentForward args{};
    RecurrentResult result;

    bool in_segments() const { return result.saved != nullptr && result.saved->segment_steps < args.T; }
    bool is_plain() const { return pack != nullptr && !weights->is_general() && !in_segments(); }
};

Prepared prepare(const RecurrentCall& call, const Place& place) {
    RecurrentWeights& weights = call.weights;
    const RecurrentOptions& options = call.options;
    const Shape steps = step_shape(weights, call.inputs, call.index, options.time_first);
    const core::Device device = weights.device();
    Prepared made;
    made.weights = &weights;
    RecurrentArrays& arrays = made.arrays;
    arrays.inputs = call.inputs.to(device);
    arrays.index = call.index.to(device);
    arrays.initial_h = call.initial_h.to(device);
    arrays.initial_c = call.initial_c.to(device);
    arrays.recurrent_mask = call.recurrent_mask.to(device);
    check(arrays.inputs.dtype() == DType::float32, weights.label(), ": input has dtype ",
          core::name_of(arrays.inputs.dtype()), ", expected float32");
    const std::int64_t B = steps[0];
    const std::int64_t T = steps[1];
    const std::int64_t H = weights.units();
    const std::int64_t P = weights.outputs();
    check(T > 0, weights.label(), ": input has shape ", steps, ", expected at least one time step");
    check(options.checkpoint_steps >= 0, weights.label(), ": checkpoint_steps is ", options.checkpoint_steps,
          ", expected at least 0");
    check(options.checkpoint_steps == 0 || !call.index.defined(), weights.label(),
          ": checkpoint_steps with indexed inputs");
    check(!options.training || !weights.is_quantized(), weights.label(),
          ": training with quantized weights, expected float32");
    check(!weights.is_general() || !call.index.defined(), weights.label(), ": indexed inputs with general weights");
    check_optional(weights.label(), "mask", call.mask, {B, T}, DType::boolean);
    check_optional(weights.label(), "reset", call.reset, {B, T}, DType::boolean);
    check_optional(weights.label(), "initial_state h", call.initial_h, {B, P}, DType::float32);
    check_optional(weights.label(), "initial_state c", call.initial_c, {B, H}, DType::float32);
    check_optional(weights.label(), "recurrent_mask", call.recurrent_mask, {B, P}, DType::float32);
    check(!call.initial_c.defined() || weights.has_cell_state(), weights.label(),
          ": initial_state has a c, which this cell has not");
    check(options.return_sequences || (!options.time_first && !place.joined), weights.label(),
          ": time_first and joined are for outputs of all steps");

    const Shape output_shape =
        options.return_sequences ? sequence_shape(B, T, place.columns, options.time_first) : Shape{B, P};
    check_optional(weights.label(), "joined output", place.output, output_shape, DType::float32);
    check(!place.output.defined() || place.output.device() == device, weights.label(),
          ": joined output lies on the device ", core::name_of(place.output.device()), ", expected ",
          core::name_of(device));
    RecurrentResult& result = made.result;
    result.output = place.output.defined() ? place.output : Tensor::empty(output_shape, DType::float32, device);
    result.h = Tensor::empty({B, P}, DType::float32, device);
    if (weights.has_cell_state()) result.c = Tensor::empty({B, H}, DType::float32, device);
    arrays.control = control_bytes(B, T, call.mask, call.reset, options).to(device);

    LnRecurrentForward& forward = made.args;
    forward.B = B;
    forward.T = forward.steps = T;
    forward.inputs = floats(arrays.inputs);
    forward.input = strides_of(B, T, weights.inputs(), options.time_first);
    forward.index = arrays.index.data<std::int32_t>();
    forward.R = arrays.index.defined() ? arrays.inputs.shape()[0] : 0;
    forward.control = arrays.control.data<std::uint8_t>();
    forward.initial_h = floats(arrays.initial_h);
    forward.initial_c = floats(arrays.initial_c);
    forward.recurrent_mask = floats(arrays.recurrent_mask);
    forward.go_backwards = options.go_backwards ? 1 : 0;
    forward.output = strides_of(B, T, place.columns, options.time_first);
    std::int64_t output_begin = place.column;
    if (place.joined && options.go_backwards) {
        output_begin += (T - 1) * forward.output.step;
        forward.output.step = -forward.output.step;
    }
    (options.return_sequences ? forward.outputs : forward.last_output) = result.output.data<float>() + output_begin;
    forward.last_h = result.h.data<float>();
    forward.last_c = result.c.data<float>();

    if (B > 0) made.pack = weights.pack();
    if (!options.training) return made;
    result.saved = std::make_shared<RecurrentSaved>();
    RecurrentSaved& saved = *result.saved;
    static_cast<RecurrentArrays&>(saved) = std::move(arrays);
    saved.return_sequences = options.return_sequences;
    saved.output_shape = output_shape;
    saved.output_begin = output_begin;
    saved.pack = made.pack;
    saved.segment_steps = options.checkpoint_steps > 0 ? std::min(options.checkpoint_steps, T) : T;
    if (B > 0 && saved.segment_steps == T) {
        const std::size_t bytes = weights.saved_bytes(made.pack.get(), B, T, call.recurrent_mask.defined());
        saved.memory = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device);
        forward.saved = saved.memory.raw();
    }
    saved.forward = forward;
    return made;
}

// Whether one call of the backend takes them all.
template <class Call>
bool go_together(const std::vector<Call>& calls) {
    return !calls.empty() && std::all_of(calls.begin(), calls.end(), [&](const Call& call) {
        return call.is_plain() && call.weights->device() == calls.front().weights->device();
    });
}

void run(const Prepared& call) {
    if (call.pack == nullptr) return;
    if (call.in_segments()) return forward_in_segments(*call.result.saved, *call.weights);
    call.weights->forward(call.pack.get(), call.args);
}

void run(const std::vector<Prepared>& calls) {
    if (!go_together(calls)) {
        for (const Prepared& call : calls) run(call);
        return;
    }
    std::vector<LnRecurrentForwardCall> all;
    for (const Prepared& call : calls) all.push_back({call.pack.get(), &call.args});
    RecurrentWeights::forward(calls.front().weights->device(), all);
}

void check_back(const RecurrentBackCall& call) {
    const RecurrentWeights& weights = call.weights;
    const RecurrentSaved& saved = call.saved;
    const std::int64_t B = saved.forward.B;
    check_optional(weights.label(), "gradient of the output", call.d_output, saved.output_shape, DType::float32);
    check_optional(weights.label(), "gradient of h", call.d_h, {B, weights.outputs()}, DType::float32);
    check_optional(weights.label(), "gradient of c", call.d_c, {B, weights.units()}, DType::float32);
    if (weights.device() != saved.inputs.device())
        throw std::runtime_error(core::message(weights.label(), ": the weights have moved to ",
                                               core::name_of(weights.device()),
                                               " since this forward pass; run forward again"));
}

// Marks what was saved as used, of all calls or of none.
void use_saved(const RecurrentBackCall* calls, std::size_t count) {
    for (std::size_t n = 0; n < count; ++n) {
        if (!calls[n].saved.used.exchange(true)) continue;
        while (n-- > 0) calls[n].saved.used = false;
        throw std::runtime_error(core::message(
            calls->weights.label(), ": backward was already called for this forward pass; run forward again"));
    }
}

// A call of backward, with its gradients.
struct PreparedBack {
    RecurrentWeights* weights;
    RecurrentSaved* saved;
    Tensor upstream[3];
    LnRecurrentBackward args{};
    RecurrentGradients gradients;

    bool in_segments() const { return saved->segment_steps < saved->forward.T; }
    bool is_plain() const { return saved->pack != nullptr && !weights->is_general() && !in_segments(); }
};

PreparedBack prepare_back(const RecurrentBackCall& call) {
    const RecurrentWeights& weights = call.weights;
    RecurrentSaved& saved = call.saved;
    const std::int64_t B = saved.forward.B;
    const core::Device device = weights.device();
    PreparedBack made;
    made.weights = &call.weights;
    made.saved = &saved;
    const Tensor* const given[] = {&call.d_output, &call.d_h, &call.d_c};
    for (int i = 0; i < 3; ++i) made.upstream[i] = given[i]->to(device);

    const auto make = B == 0 ? &Tensor::zeros : &Tensor::empty;
    RecurrentGradients& gradients = made.gradients;
    if (call.need_d_inputs) gradients.d_inputs = make(saved.inputs.shape(), DType::float32, device);
    const auto like = [&](const std::shared_ptr<Variable>& variable) {
        return variable == nullptr ? Tensor() : make(variable->tensor().shape(), DType::float32, device);
    };
    gradients.d_kernel = like(weights.kernel());
    gradients.d_recurrent_kernel = like(weights.recurrent_kernel());
    gradients.d_bias = like(weights.bias());
    gradients.d_peepholes = like(weights.peepholes());
    gradients.d_projection = like(weights.projection());
    if (call.need_d_initial) {
        gradients.d_initial_h = make({B, weights.outputs()}, DType::float32, device);
        if (weights.has_cell_state()) gradients.d_initial_c = make({B, weights.units()}, DType::float32, device);
    }

    LnRecurrentBackward& backward = made.args;
    backward.forward = &saved.forward;
    backward.saved = saved.memory.raw();
    if (call.d_output.defined())
        (saved.return_sequences ? backward.d_outputs : backward.d_last_output) =
            floats(made.upstream[0]) + saved.output_begin;
    backward.d_last_h = floats(made.upstream[1]);
    backward.d_last_c = floats(made.upstream[2]);
    backward.d_inputs = gradients.d_inputs.data<float>();
    backward.d_kernel = gradients.d_kernel.data<float>();
    backward.d_recurrent_kernel = gradients.d_recurrent_kernel.data<float>();
    backward.d_bias = gradients.d_bias.data<float>();
    backward.d_initial_h = gradients.d_initial_h.data<float>();
    backward.d_initial_c = gradients.d_initial_c.data<float>();
    return made;
}

void run(const PreparedBack& call) {
    RecurrentSaved& saved = *call.saved;
    if (saved.pack == nullptr) return;
    if (call.in_segments()) return backward_in_segments(*call.weights, saved, call.args, call.gradients);
    call.weights->backward(saved.pack.get(), call.args, call.gradients.d_peepholes.data<float>(),
                           call.gradients.d_projection.data<float>());
}

void run(const std::vector<PreparedBack>& calls) {
    if (!go_together(calls)) {
        for (const PreparedBack& call : calls) run(call);
        return;
    }
    std::vector<LnRecurrentBackwardCall> all;
    for (const PreparedBack& call : calls) all.push_back({call.saved->pack.get(), &call.args});
    RecurrentWeights::backward(calls.front().weights->device(), all);
}

}  // namespace

RecurrentResult recurrent_forward(const RecurrentCall& call) {
    Prepared prepared = prepare(call, {0, call.weights.outputs(), false, {}});
    run(prepared);
    return std::move(prepared.result);
}

std::vector<RecurrentResult> recurrent_forward(const std::vector<RecurrentCall>& calls, bool joined) {
    std::int64_t columns = 0;
    for (const RecurrentCall& call : calls) columns += call.weights.outputs();
    Place place{0, columns, joined, {}};
    std::vector<Prepared> prepared;
    prepared.reserve(calls.size());
    for (const RecurrentCall& call : calls) {
        if (!joined) place.columns = call.weights.outputs();
        prepared.push_back(prepare(call, place));
        if (!joined) continue;
        place.output = prepared.back().result.output;
        place.column += call.weights.outputs();
    }
    run(prepared);
    std::vector<RecurrentResult> results;
    results.reserve(calls.size());
    for (Prepared& call : prepared) results.push_back(std::move(call.result));
    return results;
}

RecurrentGradients recurrent_backward(const RecurrentBackCall& call) {
    check_back(call);
    use_saved(&call, 1);
    PreparedBack prepared = prepare_back(call);
    run(prepared);
    call.saved.memory = {};
    return std::move(prepared.gradients);
}

std::vector<RecurrentGradients> recurrent_backward(const std::vector<RecurrentBackCall>& calls) {
    for (const RecurrentBackCall& call : calls) check_back(call);
    use_saved(calls.data(), calls.size());
    std::vector<PreparedBack> prepared;
    prepared.reserve(calls.size());
    for (const RecurrentBackCall& call : calls) prepared.push_back(prepare_back(call));
    run(prepared);
    std::vector<RecurrentGradients> gradients;
    gradients.reserve(calls.size());
    for (PreparedBack& call : prepared) {
        call.saved->memory = {};
        gradients.push_back(std::move(call.gradients));
    }
    return gradients;
}

}  // namespace lstm_native::ops
