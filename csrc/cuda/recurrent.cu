// Recurrent layers over whole sequences (floor 1, CUDA): the inputs of all steps are projected with one product; then
// the steps run one by one (stepwise.h) or in one launch (one_launch.h). Backward walks the steps back and makes the
// gradients of the weights with one product each.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "core/error.h"
#include "cuda/entries.h"
#include "cuda/gate_rows.h"
#include "cuda/one_launch.h"
#include "cuda/recurrent_parts.h"
#include "cuda/status.h"
#include "cuda/stepwise.h"
#include "cuda/weight_gradients.h"

namespace lstm_native::cuda {
namespace {

// `type`: of the operands of products. `steps`: of the whole sequence, so that parts of it run alike.
RecurrentPlan plan_of(const LnRecurrentConfig& config, std::int32_t type, bool plain, std::int64_t B,
                      std::int64_t steps, bool backward) {
    const std::int32_t products = type == LN_FLOAT32 && precision() == LN_TF32 ? std::int32_t{LN_TF32} : type;
    const RecurrentShape shape{B, config.H, steps, static_cast<int>(gates_of(config.cell)), backward, products};
    return plan_recurrent(plain ? kind_of(config) : CellKind::other, shape, device_offer(), wanted_plan());
}
RecurrentPlan plan_of(const Pack& pack, std::int64_t B, std::int64_t steps, bool backward) {
    return plan_of(pack.config, pack.type, pack.general.plain, B, steps, backward);
}

template <class T>
void run_forward(const Pack& pack, const LnRecurrentForward& f) {
    const std::int64_t B = f.B;
    const std::int64_t H = pack.config.H;
    const std::int64_t P = pack.P;
    const std::int64_t I = pack.config.I;
    const std::int64_t columns = pack.columns();
    const std::int64_t weight_columns = pack.weight_columns();
    const bool training = f.saved != nullptr;
    const bool indexed = f.index != nullptr;
    if (core::checked_mul(B, std::max(H, P)) > UINT32_MAX)
        throw std::runtime_error(
            core::message("batch ", B, " times units ", H, " is more than a state may have, 2^32"));

    // Inference works in one step's states, and in the gates of as many steps as are projected at once.
    const std::int64_t chunk = training ? f.steps : indexed ? 1 : steps_per_projection(f.steps, B, columns);
    States states = training ? states_of_training(pack, B, f.steps, f.recurrent_mask != nullptr)
                             : States(pack, B, chunk, 1, f.recurrent_mask != nullptr);
    Array<float> own;
    if (!training) own = Array<float>(states.floats);
    states.lie_in(training ? static_cast<float*>(f.saved) : own.get());

    const MatrixOf<T> kernel{pack.kernel.get<T>(), weight_columns};
    Array<T> rows;
    Array<float> projected;
    if (indexed) {
        projected = Array<float>(f.R * weight_columns);
        product(f.R, weight_columns, I, operand(f.R, I, f.inputs, I, rows), kernel, 0.0F, projected.get(),
                weight_columns);
    }
    const ForwardMemory<T> memory(pack, B);
    begin_states(f, P, H, states, memory.h.get());

    auto call = stepwise_forward<T>(pack, memory);
    const std::int64_t state_steps = training ? 1 : 0;  // from a step's state to that of the next
    const std::int64_t gate_steps = indexed && !training ? 0 : 1;
    StepsForward& all = call.all;
    StepForward& s = all.first;
    s.H = H;
    s.columns = columns;
    s.x = indexed ? projected.get() : states.gates;
    s.x_stride = indexed ? weight_columns : columns;
    s.products = weight_columns;
    s.bias = pack.bias.get();
    s.T = f.T;
    s.recurrent_mask = f.recurrent_mask;
    s.initial_h = f.initial_h;
    s.initial_c = f.initial_c;
    s.gates = states.gates;
    s.h_in = states.h;
    s.h_out = states.h + state_steps * B * P;
    s.c_in = states.c;
    s.c_out = at(states.c, state_steps * B * H);
    s.masked = states.masked == nullptr ? s.h_in : states.masked;
    s.masked_out = at(states.masked, state_steps * B * P);
    s.training = training ? 1 : 0;
    s.output_stride = f.outputs != nullptr ? f.output.row : P;
    all.B = B;
    all.x_step = indexed ? 0 : B * columns;
    all.gate_step = gate_steps * B * columns;
    all.h_step = state_steps * B * P;
    all.c_step = state_steps * B * H;
    all.output_step = f.output.step;
    all.index_step = f.go_backwards != 0 ? -1 : 1;
    all.recurrent_kernel = pack.plain_recurrent_kernel();
    call.kept_cell = states.cell;
    call.cell_step = gate_steps * B * H;

    const RecurrentPlan plan = plan_of(pack, B, f.T, false);
    for (std::int64_t step = 0; step < f.steps; step += all.steps) {
        const std::int64_t time = f.first + step;
        all.steps = indexed ? f.steps : std::min(chunk, f.steps - step);
        const bool last = step + all.steps == f.steps;
        if (!indexed) {
            const T* const inputs = inputs_of(f, I, time, all.steps, rows);
            product(all.steps * B, weight_columns, I, {inputs, I}, kernel, 0.0F, states.gates, columns);
        }
        s.index = at(f.index, input_step(time, f.T, f.go_backwards != 0));
        s.control = at(f.control, time);
        s.output = at(f.outputs, time * f.output.step);
        all.goes_on = !last;
        all.last_h = last ? f.last_h : nullptr;
        all.last_c = last ? f.last_c : nullptr;
        all.last_output = time + all.steps == f.T && f.outputs == nullptr ? f.last_output : nullptr;
        if (!plan.one_launch()) {
            run_stepwise(call);
        } else if (!run_in_one_launch(plan, all, pack.recurrent.get<T>())) {
            return run_forward<T>(pack, f);  // all of it, in another way
        }
    }
}

template <class T>
void run_backward(const Pack& pack, const LnRecurrentBackward& b, float* d_peepholes, float* d_projection) {
    const LnRecurrentForward& f = *b.forward;
    const std::int64_t B = f.B;
    const std::int64_t H = pack.config.H;
    const std::int64_t P = pack.P;
    const std::int64_t columns = pack.columns();
    States states = states_of_training(pack, B, f.steps, f.recurrent_mask != nullptr);
    states.lie_in(static_cast<float*>(b.saved));
    BackwardMemory<T> memory(pack, B, f.steps);
    if (b.accumulate == 0) {
        const auto bytes = static_cast<std::size_t>(B) * sizeof(float);
        if (b.d_initial_h != nullptr) zero(bytes * static_cast<std::size_t>(P), b.d_initial_h);
        if (b.d_initial_c != nullptr) zero(bytes * static_cast<std::size_t>(H), b.d_initial_c);
    }

    auto call = stepwise_backward<T>(pack, memory);
    StepsBackward& all = call.all;
    StepBackward& s = all.first;
    s.H = H;
    s.columns = columns;
    s.control = at(f.control, f.first);
    s.T = f.T;
    s.gates = states.gates;
    s.h_in = states.h;
    s.c_in = states.c;
    s.masked = states.masked == nullptr ? states.h : states.masked;
    s.recurrent_mask = f.recurrent_mask;
    s.direct = memory.direct.get();
    s.through = memory.through.get();
    s.dc = memory.dc.get();
    s.d_last_h = b.d_last_h;
    s.d_last_c = b.d_last_c;
    s.d_output = at(b.d_outputs, f.first * f.output.step);
    s.d_output_stride = b.d_outputs != nullptr ? f.output.row : P;
    s.d_initial_h = b.d_initial_h;
    s.d_initial_c = b.d_initial_c;
    all.B = B;
    all.steps = f.steps;
    all.gate_step = B * columns;
    all.h_step = B * P;
    all.c_step = B * H;
    all.output_step = f.output.step;
    all.d_last_output = b.d_outputs == nullptr && f.first + f.steps == f.T ? b.d_last_output : nullptr;
    all.recurrent_kernel = pack.plain_recurrent_kernel();
    const RecurrentPlan plan = plan_of(pack, B, f.T, true);
    if (!plan.one_launch()) {
        run_stepwise(call);
    } else if (run_in_one_launch(plan, all, pack.recurrent.get<T>())) {
        operand(f.steps * B, columns, states.gates, columns, memory.gates);
    } else {
        return run_backward<T>(pack, b, d_peepholes, d_projection);
    }
    end_gradient(f, P, s.direct, s.through, f.start_h != nullptr, b.d_start_h, b.d_initial_h);
    if (pack.has_c()) end_gradient(f, H, s.dc, nullptr, f.start_c != nullptr, b.d_start_c, b.d_initial_c);
    weight_gradients(pack, b, states, either(states.gates, memory.gates.get()));
    general_weight_gradients(pack, B, states, memory, b.accumulate != 0, d_peepholes, d_projection);
}

const Pack& pack_of(const void* pack) { return *static_cast<const Pack*>(pack); }

std::unique_ptr<Pack> make_pack(const LnRecurrentConfig& config, std::int64_t P, std::int64_t gates,
                                const GatesInColumns& weights) {
    const std::int64_t N = gates * config.H;
    auto pack = std::make_unique<Pack>();
    pack->config = config;
    pack->P = P;
    pack->gates = gates;
    pack->type = operand_type();
    pack->kernel = Weights(config.I * N, weights.kernel, pack->type);
    pack->recurrent = Weights(P * N, weights.recurrent, pack->type);
    pack->bias = copy_of(weights.bias, biases_of(config) * N);
    return pack;
}

}  // namespace

LnStatus recurrent_prepare(LnContext* context, const LnRecurrentConfig* config, const float* kernel,
                           const float* recurrent_kernel, const float* bias, void** pack) {
    return guarded(context, [=] {
        const std::int64_t gates = gates_of(config->cell);
        const GatesInColumns weights(*config, config->H, gates * config->H, kernel, recurrent_kernel, bias);
        auto made = make_pack(*config, config->H, gates, weights);
        if (made->type != LN_FLOAT32 && made->may_have_plan())
            made->plain_recurrent = Weights(config->H * made->weight_columns(), weights.recurrent, LN_FLOAT32);
        *pack = made.release();
    });
}

void recurrent_release(void* pack) { delete static_cast<Pack*>(pack); }

size_t recurrent_saved_bytes(const void* pack, int64_t B, int64_t steps, int32_t masked) {
    return static_cast<size_t>(states_of_training(pack_of(pack), B, steps, masked != 0).floats) * sizeof(float);
}

LnStatus recurrent_forward(LnContext* context, int64_t calls, const LnRecurrentForwardCall* call) {
    LnStatus status = LN_OK;
    for (int64_t n = 0; n < calls && status == LN_OK; ++n)
        status = general_forward(context, call[n].pack, call[n].args);
    return status;
}

size_t recurrent_step_bytes(const void*, int64_t) { return 0; }

LnStatus recurrent_step(LnContext* context, const void* pack, const LnRecurrentForward* args, void*) {
    return general_forward(context, pack, args);
}

LnStatus recurrent_backward(LnContext* context, int64_t calls, const LnRecurrentBackwardCall* call) {
    LnStatus status = LN_OK;
    for (int64_t n = 0; n < calls && status == LN_OK; ++n)
        status = general_backward(context, call[n].pack, call[n].args, nullptr, nullptr);
    return status;
}

// The general cells go the same ways.
LnStatus general_prepare(LnContext* context, const LnGeneralConfig* config, const LnGeneralWeights* weights,
                         void** pack) {
    return guarded(context, [=] {
        const LnRecurrentConfig common{
            config->cell, config->layout, config->activation.kind, config->recurrent_activation.kind,
            config->I,    config->H};
        const std::int64_t gates = config->coupled != 0 ? 3 : gates_of(config->cell);
        const GatesInColumns matrices(common, config->P, gates * config->H, weights->kernel, weights->recurrent_kernel,
                                      weights->bias);
        auto made = make_pack(common, config->P, gates, matrices);
        made->general.plain = false;
        made->general.config = *config;
        made->general.peepholes = copy_of(weights->peepholes, (gates - 1) * config->H);
        if (weights->projection != nullptr) {
            Array<float> turned;
            const float* projection = weights->projection;
            if (config->layout == LN_ROWS) {
                turned = columns_of_rows(GateOrder{}, config->H, config->P, projection);
                projection = turned.get();
            }
            made->general.projection = Weights(config->H * config->P, projection, made->type);
        }
        *pack = made.release();
    });
}

LnStatus general_forward(LnContext* context, const void* pack, const LnRecurrentForward* args) {
    return guarded(context, [=] {
        const Pack& weights = pack_of(pack);
        if (args->saved != nullptr) check_trainable(weights.type);
        with_operands(weights.type, [&](auto zero) { run_forward<decltype(zero)>(weights, *args); });
    });
}

LnStatus general_backward(LnContext* context, const void* pack, const LnRecurrentBackward* args, float* d_peepholes,
                          float* d_projection) {
    return guarded(context, [=] {
        const Pack& weights = pack_of(pack);
        check_trainable(weights.type);
        with_gates_in_columns(weights, *args, d_projection, [&](const LnRecurrentBackward& b, float* d_projected) {
            if (weights.type == LN_BFLOAT16) return run_backward<Bfloat16>(weights, b, d_peepholes, d_projected);
            run_backward<float>(weights, b, d_peepholes, d_projected);
        });
    });
}

LnStatus recurrent_explain(LnContext* context, const LnRecurrentConfig* config, int64_t B, int64_t steps, char* text,
                           size_t size) {
    return guarded(context, [=] {
        const Offer offer = device_offer();
        std::string all;
        for (const bool backward : {false, true})
            all += (backward ? "; " : "") + describe(plan_of(*config, operand_type(), true, B, steps, backward), offer);
        std::snprintf(text, size, "%s", all.c_str());
    });
}

}  // namespace lstm_native::cuda
