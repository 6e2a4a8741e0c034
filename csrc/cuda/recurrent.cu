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
#include "cuda/graphs.h"
#include "cuda/one_launch.h"
#include "cuda/recurrent_parts.h"
#include "cuda/status.h"
#include "cuda/stepwise.h"
#include "cuda/weight_gradients.h"

namespace lstm_native::cuda {
namespace {

// `type`: of the operands of products. `steps`: of the whole sequence, so that parts of it run alike. `calls`: as many
// that are alike.
RecurrentPlan plan_of(const LnRecurrentConfig& config, std::int32_t type, bool plain, std::int64_t B,
                      std::int64_t steps, bool backward, int calls) {
    const std::int32_t products = type == LN_FLOAT32 && precision() == LN_TF32 ? std::int32_t{LN_TF32} : type;
    const RecurrentShape shape{B, config.H, steps, static_cast<int>(gates_of(config.cell)), backward, products, calls};
    return plan_recurrent(plain ? kind_of(config) : CellKind::other, shape, device_offer(), wanted_plan());
}
RecurrentPlan plan_of(const Pack& pack, const LnRecurrentForward& f, bool backward, int calls) {
    return plan_of(pack.config, pack.type, pack.general.plain, f.B, f.T, backward, calls);
}

// Of a call whose steps run one by one.
std::int64_t graph_of(const RecurrentPlan& plan, std::int32_t cell, bool projects, std::int64_t steps) {
    return steps_of_graph(steps, launches_of_step(cell, projects, plan.shape.backward),
                          step_by_step_microseconds(plan.shape, device_offer()), wanted_plan());
}
std::int64_t graph_of(const RecurrentPlan& plan, const Pack& pack, std::int64_t steps) {
    return graph_of(plan, pack.config.cell, pack.projects(), steps);
}

const Pack& pack_of(const void* pack) { return *static_cast<const Pack*>(pack); }

// A forward call up to how its steps run.
template <class T>
class ForwardCall {
public:
    StepwiseForward<T> call;  // the next steps, after prepare()

    ForwardCall(const Pack& pack, const LnRecurrentForward& f)
        : pack_(pack),
          f_(f),
          columns_(checked_columns(pack, f)),
          // Inference works in one step's states, and in the gates of as many steps as are projected at once.
          chunk_(training()  ? f.steps
                 : indexed() ? 1
                             : steps_per_projection(f.steps, f.B, columns_)),
          states_(training() ? states_of_training(pack, f.B, f.steps, f.recurrent_mask != nullptr)
                             : States(pack, f.B, chunk_, 1, f.recurrent_mask != nullptr)),
          memory_(pack, f.B) {
        const std::int64_t B = f.B;
        const std::int64_t H = pack.config.H;
        const std::int64_t P = pack.P;
        const std::int64_t I = pack.config.I;
        const std::int64_t weight_columns = pack.weight_columns();
        if (!training()) own_ = Array<float>(states_.floats);
        states_.lie_in(training() ? static_cast<float*>(f.saved) : own_.get());
        if (indexed()) {
            projected_ = Array<float>(f.R * weight_columns);
            product(f.R, weight_columns, I, operand(f.R, I, f.inputs, I, rows_), kernel(), 0.0F, projected_.get(),
                    weight_columns);
        }
        begin_states(f, P, H, states_, memory_.h.get());

        call = stepwise_forward<T>(pack, memory_);
        const std::int64_t state_steps = training() ? 1 : 0;  // from a step's state to that of the next
        const std::int64_t gate_steps = indexed() && !training() ? 0 : 1;
        StepsForward& all = call.all;
        StepForward& s = all.first;
        s.H = H;
        s.columns = columns_;
        s.x = indexed() ? projected_.get() : states_.gates;
        s.x_stride = indexed() ? weight_columns : columns_;
        s.products = weight_columns;
        s.bias = pack.bias.get();
        s.T = f.T;
        s.recurrent_mask = f.recurrent_mask;
        s.initial_h = f.initial_h;
        s.initial_c = f.initial_c;
        s.gates = states_.gates;
        s.h_in = states_.h;
        s.h_out = states_.h + state_steps * B * P;
        s.c_in = states_.c;
        s.c_out = at(states_.c, state_steps * B * H);
        s.masked = states_.masked == nullptr ? s.h_in : states_.masked;
        s.masked_out = at(states_.masked, state_steps * B * P);
        s.training = training() ? 1 : 0;
        s.output_stride = f.outputs != nullptr ? f.output.row : P;
        all.B = B;
        all.x_step = indexed() ? 0 : B * columns_;
        all.gate_step = gate_steps * B * columns_;
        all.h_step = state_steps * B * P;
        all.c_step = state_steps * B * H;
        all.output_step = f.output.step;
        all.index_step = f.go_backwards != 0 ? -1 : 1;
        all.recurrent_kernel = pack.plain_recurrent_kernel();
        call.kept_cell = states_.cell;
        call.cell_step = gate_steps * B * H;
    }

    // False when all steps are done. Else `call` has the next, and what their inputs give is computed.
    bool prepare() {
        step_ += call.all.steps;
        if (step_ >= f_.steps) return false;
        StepsForward& all = call.all;
        StepForward& s = all.first;
        const std::int64_t time = f_.first + step_;
        all.steps = indexed() ? f_.steps : std::min(chunk_, f_.steps - step_);
        const bool last = step_ + all.steps == f_.steps;
        if (!indexed()) {
            const std::int64_t I = pack_.config.I;
            const T* const inputs = inputs_of(f_, I, time, all.steps, rows_);
            product(all.steps * f_.B, pack_.weight_columns(), I, {inputs, I}, kernel(), 0.0F, states_.gates, columns_);
        }
        s.index = at(f_.index, input_step(time, f_.T, f_.go_backwards != 0));
        s.control = at(f_.control, time);
        s.output = at(f_.outputs, time * f_.output.step);
        all.goes_on = !last;
        all.last_h = last ? f_.last_h : nullptr;
        all.last_c = last ? f_.last_c : nullptr;
        all.last_output = time + all.steps == f_.T && f_.outputs == nullptr ? f_.last_output : nullptr;
        return true;
    }

    LaunchedCall<StepsForward> launched() const { return {&call.all, pack_.recurrent.get<T>()}; }

private:
    const Pack& pack_;
    const LnRecurrentForward& f_;
    std::int64_t columns_, chunk_;
    std::int64_t step_ = 0;
    States states_;
    ForwardMemory<T> memory_;
    Array<float> own_, projected_;
    Array<T> rows_;

    static std::int64_t checked_columns(const Pack& pack, const LnRecurrentForward& f) {
        const std::int64_t width = std::max(pack.config.H, pack.P);
        if (core::checked_mul(f.B, width) > UINT32_MAX)
            throw std::runtime_error(
                core::message("batch ", f.B, " times units ", width, " is more than a state may have, 2^32"));
        return pack.columns();
    }
    bool training() const { return f_.saved != nullptr; }
    bool indexed() const { return f_.index != nullptr; }
    MatrixOf<T> kernel() const { return {pack_.kernel.get<T>(), pack_.weight_columns()}; }
};

template <class T>
void run_forward(const Pack& pack, const LnRecurrentForward& f) {
    ForwardCall<T> steps(pack, f);
    const RecurrentPlan plan = plan_of(pack, f, false, 1);
    while (steps.prepare()) {
        const LaunchedCall<StepsForward> launched = steps.launched();
        if (!plan.one_launch()) {
            run_stepwise(steps.call, graph_of(plan, pack, steps.call.all.steps));
        } else if (!run_in_one_launch(plan, &launched)) {
            return run_forward<T>(pack, f);  // all of it, in another way
        }
    }
}

// Two calls that are alike, in the launches of `plan`.
template <class T>
void run_two_forward(const RecurrentPlan& plan, const LnRecurrentForwardCall* calls) {
    ForwardCall<T> first(pack_of(calls[0].pack), *calls[0].args);
    ForwardCall<T> second(pack_of(calls[1].pack), *calls[1].args);
    while (first.prepare() && second.prepare()) {
        const LaunchedCall<StepsForward> launched[2] = {first.launched(), second.launched()};
        if (run_in_one_launch(plan, launched)) continue;
        run_forward<T>(pack_of(calls[0].pack), *calls[0].args);
        return run_forward<T>(pack_of(calls[1].pack), *calls[1].args);
    }
}

// A backward call up to how its steps run.
template <class T>
class BackwardCall {
public:
    StepwiseBackward<T> call;

    BackwardCall(const Pack& pack, const LnRecurrentBackward& b)
        : pack_(pack),
          b_(b),
          states_(states_of_training(pack, b.forward->B, b.forward->steps, b.forward->recurrent_mask != nullptr)),
          memory_(pack, b.forward->B, b.forward->steps) {
        const LnRecurrentForward& f = *b.forward;
        const std::int64_t B = f.B;
        const std::int64_t H = pack.config.H;
        const std::int64_t P = pack.P;
        const std::int64_t columns = pack.columns();
        states_.lie_in(static_cast<float*>(b.saved));
        if (b.accumulate == 0) {
            const auto bytes = static_cast<std::size_t>(B) * sizeof(float);
            if (b.d_initial_h != nullptr) zero(bytes * static_cast<std::size_t>(P), b.d_initial_h);
            if (b.d_initial_c != nullptr) zero(bytes * static_cast<std::size_t>(H), b.d_initial_c);
        }

        call = stepwise_backward<T>(pack, memory_);
        StepsBackward& all = call.all;
        StepBackward& s = all.first;
        s.H = H;
        s.columns = columns;
        s.control = at(f.control, f.first);
        s.T = f.T;
        s.gates = states_.gates;
        s.h_in = states_.h;
        s.c_in = states_.c;
        s.masked = states_.masked == nullptr ? states_.h : states_.masked;
        s.recurrent_mask = f.recurrent_mask;
        s.direct = memory_.direct.get();
        s.through = memory_.through.get();
        s.dc = memory_.dc.get();
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
    }

    LaunchedCall<StepsBackward> launched() const { return {&call.all, pack_.recurrent.get<T>()}; }

    // What follows from the gradients of the gates. `rounded`: the steps have left them as operands, too.
    void finish(bool rounded, float* d_peepholes, float* d_projection) {
        const LnRecurrentForward& f = *b_.forward;
        const StepBackward& s = call.all.first;
        const std::int64_t columns = pack_.columns();
        if (!rounded) operand(f.steps * f.B, columns, states_.gates, columns, memory_.gates);
        end_gradient(f, pack_.P, s.direct, s.through, f.start_h != nullptr, b_.d_start_h, b_.d_initial_h);
        if (pack_.has_c())
            end_gradient(f, pack_.config.H, s.dc, nullptr, f.start_c != nullptr, b_.d_start_c, b_.d_initial_c);
        weight_gradients(pack_, b_, states_, either(states_.gates, memory_.gates.get()));
        general_weight_gradients(pack_, f.B, states_, memory_, b_.accumulate != 0, d_peepholes, d_projection);
    }

private:
    const Pack& pack_;
    const LnRecurrentBackward& b_;
    States states_;
    BackwardMemory<T> memory_;
};

template <class T>
void run_backward(const Pack& pack, const LnRecurrentBackward& b, float* d_peepholes, float* d_projection) {
    BackwardCall<T> steps(pack, b);
    const RecurrentPlan plan = plan_of(pack, *b.forward, true, 1);
    const LaunchedCall<StepsBackward> launched = steps.launched();
    if (!plan.one_launch()) {
        run_stepwise(steps.call, graph_of(plan, pack, b.forward->steps));
    } else if (!run_in_one_launch(plan, &launched)) {
        return run_backward<T>(pack, b, d_peepholes, d_projection);
    }
    steps.finish(!plan.one_launch(), d_peepholes, d_projection);
}

template <class T>
void run_two_backward(const RecurrentPlan& plan, const Pack& pack, const LnRecurrentBackward& b, const Pack& other_pack,
                      const LnRecurrentBackward& other) {
    BackwardCall<T> first(pack, b);
    BackwardCall<T> second(other_pack, other);
    const LaunchedCall<StepsBackward> launched[2] = {first.launched(), second.launched()};
    if (!run_in_one_launch(plan, launched)) {
        run_backward<T>(pack, b, nullptr, nullptr);
        return run_backward<T>(other_pack, other, nullptr, nullptr);
    }
    first.finish(false, nullptr, nullptr);
    second.finish(false, nullptr, nullptr);
}

void forward(const Pack& pack, const LnRecurrentForward& f) {
    if (f.saved != nullptr) check_trainable(pack.type);
    with_operands(pack.type, [&](auto zero) { run_forward<decltype(zero)>(pack, f); });
}

void backward(const Pack& pack, const LnRecurrentBackward& b, float* d_peepholes, float* d_projection) {
    check_trainable(pack.type);
    with_gates_in_columns(pack, b, d_projection, [&](const LnRecurrentBackward& in_columns, float* d_projected) {
        if (pack.type == LN_BFLOAT16) return run_backward<Bfloat16>(pack, in_columns, d_peepholes, d_projected);
        run_backward<float>(pack, in_columns, d_peepholes, d_projected);
    });
}

// A plan for both of two calls; none where they cannot share launches, as their steps are not of the same number and
// size, or where one after the other is faster.
RecurrentPlan plan_of_two(const Pack& a, const LnRecurrentForward& f, const Pack& b, const LnRecurrentForward& g,
                          bool is_backward) {
    const bool alike = a.general.plain && b.general.plain && a.config.cell == b.config.cell &&
                       a.config.activation == b.config.activation &&
                       a.config.recurrent_activation == b.config.recurrent_activation && a.config.H == b.config.H &&
                       a.type == b.type && f.B == g.B && f.T == g.T && f.first == g.first && f.steps == g.steps &&
                       (f.saved == nullptr) == (g.saved == nullptr) && (f.index == nullptr) == (g.index == nullptr);
    return alike ? plan_of(a, f, is_backward, 2) : RecurrentPlan{};
}

// The first two calls in the same launches; false, with nothing done, where they are better apart.
bool run_two(const LnRecurrentForwardCall* calls) {
    const Pack& pack = pack_of(calls[0].pack);
    const RecurrentPlan plan = plan_of_two(pack, *calls[0].args, pack_of(calls[1].pack), *calls[1].args, false);
    if (!plan.one_launch()) return false;
    if (calls[0].args->saved != nullptr) check_trainable(pack.type);
    with_operands(pack.type, [&](auto zero) { run_two_forward<decltype(zero)>(plan, calls); });
    return true;
}

bool run_two(const LnRecurrentBackwardCall* calls) {
    const Pack& pack = pack_of(calls[0].pack);
    const Pack& other = pack_of(calls[1].pack);
    const RecurrentPlan plan = plan_of_two(pack, *calls[0].args->forward, other, *calls[1].args->forward, true);
    if (!plan.one_launch()) return false;
    check_trainable(pack.type);
    with_gates_in_columns(pack, *calls[0].args, nullptr, [&](const LnRecurrentBackward& a, float*) {
        with_gates_in_columns(other, *calls[1].args, nullptr, [&](const LnRecurrentBackward& b, float*) {
            if (pack.type == LN_BFLOAT16) return run_two_backward<Bfloat16>(plan, pack, a, other, b);
            run_two_backward<float>(plan, pack, a, other, b);
        });
    });
    return true;
}

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
    return guarded(context, [=] {
        for (int64_t n = 0; n < calls; ++n) {
            if (n + 1 < calls && run_two(call + n)) {
                ++n;
            } else {
                forward(pack_of(call[n].pack), *call[n].args);
            }
        }
    });
}

size_t recurrent_step_bytes(const void*, int64_t) { return 0; }

LnStatus recurrent_step(LnContext* context, const void* pack, const LnRecurrentForward* args, void*) {
    return general_forward(context, pack, args);
}

LnStatus recurrent_backward(LnContext* context, int64_t calls, const LnRecurrentBackwardCall* call) {
    return guarded(context, [=] {
        for (int64_t n = 0; n < calls; ++n) {
            if (n + 1 < calls && run_two(call + n)) {
                ++n;
            } else {
                backward(pack_of(call[n].pack), *call[n].args, nullptr, nullptr);
            }
        }
    });
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
    return guarded(context, [=] { forward(pack_of(pack), *args); });
}

LnStatus general_backward(LnContext* context, const void* pack, const LnRecurrentBackward* args, float* d_peepholes,
                          float* d_projection) {
    return guarded(context, [=] { backward(pack_of(pack), *args, d_peepholes, d_projection); });
}

LnStatus recurrent_explain(LnContext* context, const LnRecurrentConfig* config, int64_t B, int64_t steps, int32_t calls,
                           char* text, size_t size) {
    return guarded(context, [=] {
        const Offer offer = device_offer();
        std::string all;
        for (const bool backward : {false, true}) {
            const auto plan_for = [&](int number) {
                return plan_of(*config, operand_type(), true, B, steps, backward, number);
            };
            RecurrentPlan plan = plan_for(calls);
            if (backward) all += "; ";
            if (calls > 1 && !plan.one_launch()) {
                plan = plan_for(1);
                all += "one call after the other, ";
            }
            all += describe(plan, offer);
            if (plan.one_launch() || graph_of(plan, config->cell, false, steps) == 0) continue;
            all += ", as a CUDA graph where a call comes again with the same addresses";
        }
        const GraphCounts graphs = graph_counts();
        if (graphs.made > 0)
            all += core::message("; graphs so far: ", graphs.made, " made, ", graphs.kept, " kept, ", graphs.launched,
                                 " times launched");
        std::snprintf(text, size, "%s", all.c_str());
    });
}

}  // namespace lstm_native::cuda
