// What the forward and the backward driver of recurrent layers share (floor 1, CUDA): the packed weights, what is kept
// of the steps, inputs and states on their way between the caller's layout and the one of a call.
//
// Within a call everything lies step by step, (steps, B, ...) in processed order, so that a step is a contiguous
// matrix and all steps are one.
#pragma once

#include <cmath>

#include "core/size.h"
#include "cuda/cells.h"
#include "cuda/launch.h"
#include "cuda/operands.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {

inline bool has_common_activations(const LnRecurrentConfig& config) {
    return static_cast<core::Activation>(config.activation) == core::Activation::tanh &&
           (static_cast<core::Activation>(config.recurrent_activation) == core::Activation::sigmoid ||
            config.cell == LN_CELL_SIMPLE_RNN);
}

inline CellKind kind_of(const LnRecurrentConfig& config) {
    if (config.cell == LN_CELL_SIMPLE_RNN && static_cast<core::Activation>(config.activation) == core::Activation::relu)
        return CellKind::simple_rnn_relu;
    if (!has_common_activations(config)) return CellKind::other;
    switch (config.cell) {
        case LN_CELL_LSTM:
            return CellKind::lstm;
        case LN_CELL_GRU:
            return CellKind::gru;
        case LN_CELL_SIMPLE_RNN:
            return CellKind::simple_rnn;
        default:
            return CellKind::other;
    }
}

// What a LnGeneralConfig has beyond that; `plain` where that is nothing.
struct GeneralOptions {
    bool plain = true;
    LnGeneralConfig config{};
    Array<float> peepholes;  // null: none
    Weights projection;      // null: none
};

struct Pack {
    LnRecurrentConfig config;
    std::int64_t P;      // columns of h
    std::int64_t gates;  // of the weights
    std::int32_t type;   // of the operands of products, a LnPrecision
    Weights kernel, recurrent;
    Array<float> bias;
    // float32 for the plans of planner.h, which have no other; null where there is none for these weights.
    Weights plain_recurrent;
    GeneralOptions general;

    std::int64_t weight_columns() const { return gates * config.H; }
    std::int64_t columns() const { return (is_gru() ? 4 : gates) * config.H; }  // that are kept of a step
    bool is_gru() const { return config.cell == LN_CELL_GRU || config.cell == LN_CELL_GRU_BEFORE; }
    bool has_c() const { return config.cell == LN_CELL_LSTM; }
    bool projects() const { return general.projection.get<char>() != nullptr; }
    // Other activations would need the registers that hold weights.
    bool may_have_plan() const {
        return general.plain && has_c() && has_common_activations(config) && config.H <= kMostUnits;
    }
    const float* plain_recurrent_kernel() const {
        if (!may_have_plan()) return nullptr;
        return (type == LN_FLOAT32 ? recurrent : plain_recurrent).get<float>();
    }
};

inline std::int64_t gates_of(std::int32_t cell) {
    return cell == LN_CELL_LSTM ? 4 : cell == LN_CELL_SIMPLE_RNN ? 1 : 3;
}

// What training keeps, and inference of a few steps: gates of `gate_steps` steps, states of `state_steps`.
struct States {
    float *gates = nullptr, *h = nullptr, *c = nullptr, *masked = nullptr;
    float* cell = nullptr;  // what a projection takes
    std::int64_t gate_steps, state_steps;
    std::int64_t floats = 0;

    States(const Pack& pack, std::int64_t B, std::int64_t gate_steps_kept, std::int64_t state_steps_kept, bool has_mask)
        : gate_steps(gate_steps_kept), state_steps(state_steps_kept) {
        const std::int64_t rows = core::checked_mul(state_steps, core::checked_mul(B, pack.P));
        const std::int64_t units = core::checked_mul(B, pack.config.H);
        place[0] = take(core::checked_mul(gate_steps, core::checked_mul(B, pack.columns())));
        place[1] = take(rows);
        place[2] = take(pack.has_c() ? core::checked_mul(state_steps, units) : 0);
        place[3] = take(has_mask ? rows : 0);
        place[4] = take(pack.projects() ? core::checked_mul(gate_steps, units) : 0);
        has_c = pack.has_c();
        projects = pack.projects();
        masks = has_mask;
    }

    void lie_in(float* memory) {
        gates = memory + place[0];
        h = memory + place[1];
        c = has_c ? memory + place[2] : nullptr;
        masked = masks ? memory + place[3] : nullptr;
        cell = projects ? memory + place[4] : nullptr;
    }

private:
    std::int64_t place[5];
    bool has_c = false, masks = false, projects = false;

    std::int64_t take(std::int64_t count) {
        const std::int64_t begin = floats;
        floats += core::round_up(count, 64);
        return begin;
    }
};

inline States states_of_training(const Pack& pack, std::int64_t B, std::int64_t steps, bool has_mask) {
    return States(pack, B, steps, steps + 1, has_mask);
}

inline AnyActivations activations_of(const Pack& pack) {
    const LnGeneralConfig& c = pack.general.config;
    if (!pack.general.plain) return {c.recurrent_activation, c.activation, c.output_activation, c.clip};
    const LnFunction candidates{pack.config.activation, 0.0F, 0.0F};
    return {{pack.config.recurrent_activation, 0.0F, 0.0F}, candidates, candidates, HUGE_VALF};
}

// An array of `count` where it is needed.
template <class T>
Array<T> array_if(bool needed, std::int64_t count) {
    return needed ? Array<T>(count) : Array<T>();
}

template <class T>
T* at(T* array, std::int64_t offset) {
    return array == nullptr ? nullptr : array + offset;
}

// Where step s of the sequence is in the arrays of the inputs.
LSTM_NATIVE_HOST_DEVICE inline std::int64_t input_step(std::int64_t s, std::int64_t T, bool go_backwards) {
    return go_backwards ? T - 1 - s : s;
}

// Whether the inputs lie as (steps, B, I) in processed order.
inline bool lie_step_by_step(const LnRecurrentForward& f, std::int64_t I) {
    return (f.B == 1 || f.input.row == I) && (f.T == 1 || (f.input.step == f.B * I && f.go_backwards == 0));
}

// The inputs of the steps [begin, begin + steps) as operands (steps, B, I): where they lie, or copied to `memory`.
template <class Operand>
const Operand* inputs_of(const LnRecurrentForward& f, std::int64_t I, std::int64_t begin, std::int64_t steps,
                         Array<Operand>& memory) {
    if (lie_step_by_step(f, I)) return operand(steps * f.B, I, f.inputs + begin * f.B * I, I, memory).data;
    if (memory.get() == nullptr) memory = Array<Operand>(steps * f.B * I);
    Operand* const rows = memory.get();
    const float* const inputs = f.inputs;
    const std::int64_t B = f.B;
    const std::int64_t T = f.T;
    const LnStrides strides = f.input;
    const bool back = f.go_backwards != 0;
    for_each(
        steps * B * I, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / I;
            const std::int64_t s = row / B;
            rows[i] = rounded<Operand>(
                inputs[(row - s * B) * strides.row + input_step(begin + s, T, back) * strides.step + (i - row * I)]);
        });
    return rows;
}

// The other way: gradients of the inputs of the call's steps.
inline void scatter_inputs(const LnRecurrentForward& f, std::int64_t I, const float* rows, float* d_inputs) {
    const std::int64_t B = f.B;
    const std::int64_t T = f.T;
    const std::int64_t first = f.first;
    const LnStrides strides = f.input;
    const bool back = f.go_backwards != 0;
    for_each(
        f.steps * B * I, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / I;
            const std::int64_t s = row / B;
            d_inputs[(row - s * B) * strides.row + input_step(first + s, T, back) * strides.step + (i - row * I)] =
                rows[i];
        });
}

// Numbers of the rows that the steps of the call read, (steps, B).
inline void row_numbers(const LnRecurrentForward& f, std::int32_t* numbers) {
    const std::int32_t* const index = f.index;
    const std::int64_t B = f.B;
    const std::int64_t T = f.T;
    const std::int64_t first = f.first;
    const bool back = f.go_backwards != 0;
    for_each(
        f.steps * B, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t s = i / B;
            numbers[i] = index[(i - s * B) * T + input_step(first + s, T, back)];
        });
}

// The state that the first step starts from; `operand`: what its product takes, where that is not float.
template <class Operand>
void begin_states(const LnRecurrentForward& f, std::int64_t P, std::int64_t H, const States& states, Operand* operand) {
    const float* const start_h = f.start_h != nullptr ? f.start_h : f.initial_h;
    const float* const start_c = f.start_c != nullptr ? f.start_c : f.initial_c;
    const std::uint8_t* const control = at(f.control, f.first);
    const float* const initial_h = f.initial_h;
    const float* const initial_c = f.initial_c;
    const float* const mask = f.recurrent_mask;
    const std::int64_t T = f.T;
    const std::int64_t B = f.B;
    float* const h = states.h;
    float* const c = states.c;
    float* const masked = states.masked;
    for_each(
        B * (P > H ? P : H), LSTM_NATIVE_KERNEL(std::int64_t i) {
            if (i < B * P) {
                const bool reset = control != nullptr && (control[i / P * T] & LN_RESET) != 0;
                h[i] = or_zero(reset ? initial_h : start_h, i);
                const float taken = mask == nullptr ? h[i] : h[i] * mask[i];
                if (masked != nullptr) masked[i] = taken;
                hand_on(operand, i, taken);
            }
            if (c != nullptr && i < B * H) {
                const bool reset = control != nullptr && (control[i / H * T] & LN_RESET) != 0;
                c[i] = or_zero(reset ? initial_c : start_c, i);
            }
        });
}

// What reaches one state before the first step: given to the start of the call, or to the initial state.
inline void end_gradient(const LnRecurrentForward& f, std::int64_t H, const float* gradient, const float* through,
                         bool started, float* d_start, float* d_initial) {
    const std::uint8_t* const control = at(f.control, f.first);
    const float* const mask = f.recurrent_mask;
    const std::int64_t T = f.T;
    for_each(
        f.B * H, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const bool reset = control != nullptr && (control[i / H * T] & LN_RESET) != 0;
            float d = gradient[i];
            if (through != nullptr) d += through[i] * (mask == nullptr ? 1.0F : mask[i]);
            if (d_start != nullptr) d_start[i] = reset ? 0.0F : d;
            if (d_initial != nullptr && (reset || !started)) d_initial[i] += d;
        });
}

}  // namespace lstm_native::cuda
