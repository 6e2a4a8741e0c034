// Recurrent layers over whole sequences (floor 1, CUDA): the inputs of all steps are projected with one product; then
// each step is a product with the recurrent kernel and a kernel that finishes the cell. Backward walks the steps back
// and makes the gradients of the weights with one product each.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "core/error.h"
#include "cuda/entries.h"
#include "cuda/gate_rows.h"
#include "cuda/general_steps.h"
#include "cuda/launch.h"
#include "cuda/one_launch.h"
#include "cuda/recurrent_parts.h"
#include "cuda/reduce.h"
#include "cuda/status.h"

namespace lstm_native::cuda {
namespace {

// `type`: of the operands of products. `steps`: of the whole sequence, so that parts of it run alike.
RecurrentPlan plan_of(const LnRecurrentConfig& config, std::int32_t type, bool common, std::int64_t B,
                      std::int64_t steps, bool backward) {
    const std::int32_t products = type == LN_FLOAT32 && precision() == LN_TF32 ? std::int32_t{LN_TF32} : type;
    const RecurrentShape shape{B, config.H, steps, static_cast<int>(gates_of(config.cell)), backward, products};
    return plan_recurrent(config.cell, common && has_common_activations(config), shape, device_offer(), wanted_plan());
}
RecurrentPlan plan_of(const Pack& pack, std::int64_t B, std::int64_t steps, bool backward) {
    return plan_of(pack.config, pack.type, pack.general.plain, B, steps, backward);
}

// r h of a step of GRU_BEFORE.
template <class T>
MatrixOf<T> reset_operand(const StepForward& s, const Array<T>& memory) {
    if constexpr (kIsFloat<T>) {
        return {s.gates + 3 * s.H, s.columns};
    } else {
        return {memory.get(), s.H};
    }
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
    const bool before = pack.config.cell == LN_CELL_GRU_BEFORE;
    const T* const R = pack.recurrent.get<T>();
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
    const Array<float> recurrent(B * weight_columns);
    // What the product of a step takes where that is not float, and with GRU_BEFORE that of the candidate.
    const Array<T> h_memory = array_if<T>(!kIsFloat<T>, B * P);
    begin_states(f, P, H, states, h_memory.get());
    const Array<T> reset_memory = array_if<T>(before && !kIsFloat<T>, B * H);
    const GeneralForward<T> general(pack, B);

    StepForward s{};
    s.H = H;
    s.columns = columns;
    s.recurrent = recurrent.get();
    s.bias = pack.bias.get();
    s.T = f.T;
    s.recurrent_mask = f.recurrent_mask;
    s.initial_h = f.initial_h;
    s.initial_c = f.initial_c;
    s.training = training ? 1 : 0;
    s.output_stride = f.outputs != nullptr ? f.output.row : P;
    const RecurrentPlan plan = plan_of(pack, B, f.T, false);
    std::int64_t count = 1;  // steps of a launch
    for (std::int64_t step = 0; step < f.steps; step += count) {
        const std::int64_t time = f.first + step;
        if (plan.one_launch()) count = indexed ? f.steps : std::min(chunk, f.steps - step);
        const bool last = step + count == f.steps;
        if (!indexed && step % chunk == 0) {
            const std::int64_t steps = std::min(chunk, f.steps - step);
            const T* const inputs = inputs_of(f, I, time, steps, rows);
            product(steps * B, weight_columns, I, {inputs, I}, kernel, 0.0F, states.gates, columns);
        }
        s.gates = states.gates + step % chunk * B * columns;
        s.x = indexed ? projected.get() : s.gates;
        s.x_stride = indexed ? weight_columns : columns;
        s.index = at(f.index, input_step(time, f.T, f.go_backwards != 0));
        s.control = at(f.control, time);
        s.next = last ? nullptr : at(f.control, time + count);
        const std::int64_t in = training ? step : 0;
        const std::int64_t out = training ? step + 1 : 0;
        s.h_in = states.h + in * B * P;
        s.h_out = states.h + out * B * P;
        s.c_in = at(states.c, in * B * H);
        s.c_out = at(states.c, out * B * H);
        s.masked = states.masked == nullptr ? s.h_in : states.masked + in * B * P;
        s.masked_out = at(states.masked, out * B * P);
        float* const last_output = time + count == f.T && f.outputs == nullptr ? f.last_output : nullptr;
        s.output = f.outputs != nullptr ? f.outputs + time * f.output.step : last_output;
        s.last_h = last ? f.last_h : nullptr;
        s.last_c = last ? f.last_c : nullptr;

        s.products = before ? 2 * H : weight_columns;
        if (plan.one_launch()) {
            StepsForward all{};
            all.first = s;
            all.first.output = at(f.outputs, time * f.output.step);
            all.B = B;
            all.steps = count;
            all.x_step = indexed ? 0 : B * columns;
            all.gate_step = indexed && !training ? 0 : B * columns;
            all.state_step = training ? B * H : 0;
            all.output_step = f.output.step;
            all.index_step = f.go_backwards != 0 ? -1 : 1;
            all.recurrent_kernel = pack.plain_recurrent_kernel();
            all.goes_on = !last;
            all.last_h = s.last_h;
            all.last_c = s.last_c;
            all.last_output = last_output;
            if (!run_in_one_launch(plan, all, R)) return run_forward<T>(pack, f);  // all of it, in another way
            continue;
        }
        const MatrixOf<T> h{either(s.masked, h_memory.get()), P};
        product(B, s.products, P, h, {R, weight_columns}, 0.0F, recurrent.get(), s.products);
        with_activations(pack, [&](auto act) {
            using Act = decltype(act);
            switch (pack.config.cell) {
                case LN_CELL_LSTM:
                    if (!pack.general.plain)
                        return general.step(s, at(states.cell, step % chunk * B * H), h_memory.get());
                    return for_each(B * H, HandOn<LstmForward<Act>, T>{{s, act}, h_memory.get()});
                case LN_CELL_SIMPLE_RNN:
                    return for_each(B * H, HandOn<SimpleRnnForward<Act>, T>{{s, act}, h_memory.get()});
                case LN_CELL_GRU:
                    return for_each(B * H, HandOn<GruForward<Act>, T>{{s, act}, h_memory.get()});
                default:
                    for_each(B * H, HandOn<GruBeforeReset<Act>, T>{{s, act}, reset_memory.get()});
                    product(B, H, H, reset_operand(s, reset_memory), {R + 2 * H, weight_columns}, 0.0F, recurrent.get(),
                            H);
                    s.products = H;
                    return for_each(B * H, HandOn<GruBeforeForward<Act>, T>{{s, act}, h_memory.get()});
            }
        });
    }
}

void bias_gradient(const Pack& pack, std::int64_t rows, const float* gates, bool accumulate, float* d_bias) {
    const std::int64_t H = pack.config.H;
    const std::int64_t columns = pack.columns();
    const std::int64_t N = pack.weight_columns();
    column_sums(
        rows, N, LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float { return gates[row * columns + j]; },
        accumulate, d_bias);
    if (pack.config.cell != LN_CELL_GRU) return;
    column_sums(
        rows, N,
        LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float {
            return gates[row * columns + (j < 2 * H ? j : j + H)];
        },
        accumulate, d_bias + N);
}

// `gates`: the gradients of the gates as operands, laid out as they are.
template <class T>
void weight_gradients(const Pack& pack, const LnRecurrentBackward& b, const States& states, const T* gates) {
    const LnRecurrentForward& f = *b.forward;
    const std::int64_t H = pack.config.H;
    const std::int64_t P = pack.P;
    const std::int64_t I = pack.config.I;
    const std::int64_t N = pack.weight_columns();
    const std::int64_t columns = pack.columns();
    const std::int64_t rows = f.steps * f.B;
    const float beta = b.accumulate != 0 ? 1.0F : 0.0F;
    const MatrixOf<T> d_gates{gates, columns};

    if (b.d_recurrent_kernel != nullptr) {
        Array<T> memory;
        MatrixOf<T> h = operand(rows, P, states.masked == nullptr ? states.h : states.masked, P, memory);
        h.transposed = true;
        float* const d_R = b.d_recurrent_kernel;
        if (!pack.is_gru()) {
            product(P, N, rows, h, d_gates, beta, d_R, N);
        } else {
            product(H, 2 * H, rows, h, d_gates, beta, d_R, N);
            if (pack.config.cell == LN_CELL_GRU) {
                product(H, H, rows, h, {gates + 3 * H, columns}, beta, d_R + 2 * H, N);
            } else {
                product(H, H, rows, {gates + 3 * H, columns, true}, {gates + 2 * H, columns}, beta, d_R + 2 * H, N);
            }
        }
    }
    if (b.d_bias != nullptr) bias_gradient(pack, rows, states.gates, b.accumulate != 0, b.d_bias);

    const MatrixOf<T> kernel{pack.kernel.get<T>(), N, true};
    if (f.index != nullptr) {
        const Array<std::int32_t> numbers(rows);
        row_numbers(f, numbers.get());
        const Array<float> d_projected(f.R * N);
        sums_by_id(rows, N, f.R, numbers.get(), states.gates, columns, d_projected.get());
        Array<T> memory;
        const MatrixOf<T> d_rows = operand(f.R, N, d_projected.get(), N, memory);
        if (b.d_kernel != nullptr) {
            Array<T> table_memory;
            MatrixOf<T> table = operand(f.R, I, f.inputs, I, table_memory);
            table.transposed = true;
            product(I, N, f.R, table, d_rows, beta, b.d_kernel, N);
        }
        if (b.d_inputs != nullptr) product(f.R, I, N, d_rows, kernel, 0.0F, b.d_inputs, I);
        return;
    }
    if (b.d_kernel != nullptr) {
        Array<T> memory;
        const T* const inputs = inputs_of(f, I, f.first, f.steps, memory);
        product(I, N, rows, {inputs, I, true}, d_gates, beta, b.d_kernel, N);
    }
    if (b.d_inputs != nullptr && lie_step_by_step(f, I)) {
        product(rows, I, N, d_gates, kernel, 0.0F, b.d_inputs + f.first * f.B * I, I);
    } else if (b.d_inputs != nullptr) {
        const Array<float> d_rows(rows * I);
        product(rows, I, N, d_gates, kernel, 0.0F, d_rows.get(), I);
        scatter_inputs(f, I, d_rows.get(), b.d_inputs);
    }
}

template <class T>
void run_backward(const Pack& pack, const LnRecurrentBackward& b, float* d_peepholes, float* d_projection) {
    const LnRecurrentForward& f = *b.forward;
    const std::int64_t B = f.B;
    const std::int64_t H = pack.config.H;
    const std::int64_t P = pack.P;
    const std::int64_t columns = pack.columns();
    const std::int64_t weight_columns = pack.weight_columns();
    States states = states_of_training(pack, B, f.steps, f.recurrent_mask != nullptr);
    states.lie_in(static_cast<float*>(b.saved));
    const MatrixOf<T> R{pack.recurrent.get<T>(), weight_columns, true};
    const MatrixOf<T> R_candidate{R.data + 2 * H, weight_columns, true};

    const Array<float> direct(B * P);
    const Array<float> through(B * P);
    const Array<float> dc = array_if<float>(pack.has_c(), B * H);
    // Gradients of the gates as operands, where these are not what lies there.
    Array<T> gates_memory = array_if<T>(!kIsFloat<T>, f.steps * B * columns);
    const Array<float> d_reset = array_if<float>(pack.config.cell == LN_CELL_GRU_BEFORE, B * H);
    const GeneralBackward<T> general(pack, B, f.steps);
    if (b.accumulate == 0) {
        const auto bytes = static_cast<std::size_t>(B) * sizeof(float);
        if (b.d_initial_h != nullptr) zero(bytes * static_cast<std::size_t>(P), b.d_initial_h);
        if (b.d_initial_c != nullptr) zero(bytes * static_cast<std::size_t>(H), b.d_initial_c);
    }

    StepBackward s{};
    s.H = H;
    s.columns = columns;
    s.T = f.T;
    s.recurrent_mask = f.recurrent_mask;
    s.direct = direct.get();
    s.through = through.get();
    s.dc = dc.get();
    s.d_reset = d_reset.get();
    s.d_last_h = b.d_last_h;
    s.d_last_c = b.d_last_c;
    s.d_output_stride = b.d_outputs != nullptr ? f.output.row : P;
    s.d_initial_h = b.d_initial_h;
    s.d_initial_c = b.d_initial_c;
    const RecurrentPlan plan = plan_of(pack, B, f.T, true);
    if (plan.one_launch()) {
        StepsBackward all{};
        all.first = s;
        all.first.control = at(f.control, f.first);
        all.first.gates = states.gates;
        all.first.h_in = states.h;
        all.first.c_in = states.c;
        all.first.d_output = at(b.d_outputs, f.first * f.output.step);
        all.B = B;
        all.steps = f.steps;
        all.gate_step = B * columns;
        all.state_step = B * H;
        all.output_step = f.output.step;
        all.d_last_output = b.d_outputs == nullptr && f.first + f.steps == f.T ? b.d_last_output : nullptr;
        all.recurrent_kernel = pack.plain_recurrent_kernel();
        if (!run_in_one_launch(plan, all, pack.recurrent.get<T>()))
            return run_backward<T>(pack, b, d_peepholes, d_projection);
        operand(f.steps * B, columns, states.gates, columns, gates_memory);
    }
    for (std::int64_t step = plan.one_launch() ? -1 : f.steps - 1; step >= 0; --step) {
        const std::int64_t time = f.first + step;
        s.last = step + 1 == f.steps ? 1 : 0;
        s.control = at(f.control, time);
        s.next = s.last != 0 ? nullptr : at(f.control, time + 1);
        s.gates = states.gates + step * B * columns;
        s.h_in = states.h + step * B * P;
        s.c_in = at(states.c, step * B * H);
        s.masked = states.masked == nullptr ? s.h_in : states.masked + step * B * P;
        s.d_output = b.d_outputs != nullptr ? b.d_outputs + time * f.output.step
                     : time + 1 == f.T      ? b.d_last_output
                                            : nullptr;
        with_activations(pack, [&](auto act) {
            using Act = decltype(act);
            T* const given = at(gates_memory.get(), step * B * columns);
            const MatrixOf<T> gates{either(s.gates, given), columns};
            const MatrixOf<T> candidate{gates.data + 2 * H, columns};
            const MatrixOf<T> candidate_product{gates.data + 3 * H, columns};
            switch (pack.config.cell) {
                case LN_CELL_LSTM:
                    if (pack.general.plain) {
                        for_each(B * H, HandOnGates<LstmBackward<Act>, T>{{s, act}, given});
                    } else {
                        general.step(s, step, given);
                    }
                    return product(B, P, weight_columns, gates, R, 0.0F, s.through, P);
                case LN_CELL_SIMPLE_RNN:
                    for_each(B * H, HandOnGates<SimpleRnnBackward<Act>, T>{{s, act}, given});
                    return product(B, H, weight_columns, gates, R, 0.0F, s.through, H);
                case LN_CELL_GRU:
                    for_each(B * H, HandOnGates<GruBackward<Act>, T>{{s, act}, given});
                    product(B, H, 2 * H, gates, R, 0.0F, s.through, H);
                    return product(B, H, H, candidate_product, R_candidate, 1.0F, s.through, H);
                default:
                    for_each(B * H, HandOnGates<GruBeforeBackward<Act>, T>{{s, act}, given});
                    product(B, H, H, candidate, R_candidate, 0.0F, d_reset.get(), H);
                    for_each(B * H, HandOnGates<GruBeforeResetBackward<Act>, T>{{s, act}, given});
                    return product(B, H, 2 * H, gates, R, 1.0F, s.through, H);
            }
        });
    }
    end_gradient(f, P, s.direct, s.through, f.start_h != nullptr, b.d_start_h, b.d_initial_h);
    if (pack.has_c()) end_gradient(f, H, s.dc, nullptr, f.start_c != nullptr, b.d_start_c, b.d_initial_c);
    weight_gradients(pack, b, states, either(states.gates, gates_memory.get()));
    general.weight_gradients(states, b.accumulate != 0, d_peepholes, d_projection);
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
