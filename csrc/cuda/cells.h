// One time step of each cell, forward and backward, for one batch row and unit (floor 1, CUDA). The equations stand in
// cpu/kernels/{lstm,gru,simple_rnn}-inl.h's comments and in the papers named there. Gates of a step lie in rows of
// `columns` = blocks of H: one for every gate, and for the GRU a fourth. Forward they give what a product takes.
#pragma once

#include <cstdint>
#include <type_traits>

#include "backend/backend.h"
#include "core/host_device.h"
#include "cuda/math.h"

namespace lstm_native::cuda {

// A step forward. Where rows end: b H + j is a state's element, b columns + j one of the gates.
struct StepForward {
    std::int64_t H, columns;
    const float* x;             // kernel times inputs: row b, or row index[b * T] of another matrix. Null where
                                // `recurrent` has the sum of that, the bias and the product
    std::int64_t x_stride;      // elements between rows
    const std::int32_t* index;  // or null
    const float* recurrent;     // (B, products): masked h times the recurrent kernel
    std::int64_t products;
    const float* bias;            // or null
    const std::uint8_t* control;  // of row b: control[b * T]; or null
    const std::uint8_t* next;     // of the step after; null where there is none
    std::int64_t T;
    const float *h_in, *c_in;  // the state that the step starts from
    float *h_out, *c_out;      // the one that the step after starts from: after its reset
    float* masked_out;         // h_out times the recurrent mask; null where there is none
    const float* masked;       // h_in times the mask, or h_in
    const float *recurrent_mask, *initial_h, *initial_c;
    float* gates;  // written in training; scratch of the GRU, which may be where x is
    int training;
    float* output;  // row b at output + b * output_stride; or null
    std::int64_t output_stride;
    float *last_h, *last_c;  // the state after the step, or null
};

// A step backward: gates become their gradients.
struct StepBackward {
    std::int64_t H, columns;
    const std::uint8_t *control, *next;
    std::int64_t T;
    float* gates;
    const float *h_in, *c_in, *masked, *recurrent_mask;
    // The gradient of h after the step is direct + mask * through, as the step after left it; at the last step of the
    // call d_last_h. This step leaves `direct`; a product makes `through` of the gradients of its gates.
    int last;
    float *direct, *through, *dc;
    const float* d_reset;  // of GRU_BEFORE's second phase: gradient of r h
    const float *d_last_h, *d_last_c;
    const float* d_output;  // row b at d_output + b * d_output_stride; or null
    std::int64_t d_output_stride;
    float *d_initial_h, *d_initial_c;  // added to; or null
};

// Element i of a state, which has fewer than 2^32: the drivers see to that. A division of 64 bits is a call.
struct Element {
    std::int64_t b, j, state, gate;  // gate: of block 0
    template <class Step>
    LSTM_NATIVE_HOST_DEVICE Element(const Step& s, std::int64_t i)
        : Element(s, static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(s.H),
                  static_cast<std::uint32_t>(i) % static_cast<std::uint32_t>(s.H)) {}
    template <class Step>
    LSTM_NATIVE_HOST_DEVICE Element(const Step& s, std::int64_t row, std::int64_t unit)
        : b(row), j(unit), state(row * s.H + unit), gate(row * s.columns + unit) {}
};

LSTM_NATIVE_HOST_DEVICE inline unsigned control_of(const std::uint8_t* control, std::int64_t at) {
    return control == nullptr ? unsigned{LN_UPDATE | LN_EMIT} : unsigned{control[at]};
}
LSTM_NATIVE_HOST_DEVICE inline float or_zero(const float* values, std::int64_t at) {
    return values == nullptr ? 0.0F : values[at];
}

// What the inputs and the bias give to block `block` of the gates.
LSTM_NATIVE_HOST_DEVICE inline float input_of(const StepForward& s, const Element& e, int block) {
    if (s.x == nullptr) return 0.0F;
    const std::int64_t row = s.index == nullptr ? e.b : std::int64_t{s.index[e.b * s.T]};
    return s.x[row * s.x_stride + block * s.H + e.j] + or_zero(s.bias, block * s.H + e.j);
}
LSTM_NATIVE_HOST_DEVICE inline float product_of(const StepForward& s, const Element& e, int block) {
    return s.recurrent[e.b * s.products + block * s.H + e.j];
}

// What the next step starts from: after its reset. `masked` is what its product takes.
struct State {
    float h, masked, c;
};

// What is called with what the next product takes, before anything is written: others may wait for it.
struct Nothing {
    LSTM_NATIVE_HOST_DEVICE void operator()(float) const {}
};
// What is written after it waits in registers; where nobody is called there may be none to spare.
template <class Then>
inline constexpr bool kIsCalled = !std::is_same_v<Then, Nothing>;

// Hands the state after a step on.
template <class Then = Nothing>
LSTM_NATIVE_HOST_DEVICE State finish(const StepForward& s, const Element& e, unsigned control, float h,
                                     const Then& then = {}) {
    const bool reset = s.next != nullptr && (s.next[e.b * s.T] & LN_RESET) != 0;
    const float next = reset ? or_zero(s.initial_h, e.state) : h;
    const auto write = [&] {
        if (s.output != nullptr) s.output[e.b * s.output_stride + e.j] = (control & LN_EMIT) != 0 ? h : 0.0F;
        if (s.last_h != nullptr) s.last_h[e.state] = h;
        s.h_out[e.state] = next;
    };
    if (!kIsCalled<Then>) write();
    float masked = next;
    if (s.recurrent_mask != nullptr) {
        masked *= s.recurrent_mask[e.state];
        if (s.masked_out != nullptr) s.masked_out[e.state] = masked;
    }
    then(masked);
    if (kIsCalled<Then>) write();
    return {next, masked, 0.0F};
}
LSTM_NATIVE_HOST_DEVICE inline float finish_c(const StepForward& s, const Element& e, float c) {
    if (s.last_c != nullptr) s.last_c[e.state] = c;
    const bool reset = s.next != nullptr && (s.next[e.b * s.T] & LN_RESET) != 0;
    return s.c_out[e.state] = reset ? or_zero(s.initial_c, e.state) : c;
}
template <class Then = Nothing>
LSTM_NATIVE_HOST_DEVICE State finish_with_c(const StepForward& s, const Element& e, unsigned control, float h, float c,
                                            const Then& then = {}) {
    State next = finish(s, e, control, h, then);
    next.c = finish_c(s, e, c);
    return next;
}

// The gradient of h after a step, and of c; where the step after was reset, it went to the initial state.
LSTM_NATIVE_HOST_DEVICE inline float after_reset(const StepBackward& s, const Element& e, float d, float* d_initial) {
    if (s.next == nullptr || (s.next[e.b * s.T] & LN_RESET) == 0) return d;
    if (d_initial != nullptr) d_initial[e.state] += d;
    return 0.0F;
}
LSTM_NATIVE_HOST_DEVICE inline float h_gradient(const StepBackward& s, const Element& e, unsigned control, float direct,
                                                float through, float d_output) {
    float d;
    if (s.last != 0) {
        d = or_zero(s.d_last_h, e.state);
    } else {
        const float mask = s.recurrent_mask == nullptr ? 1.0F : s.recurrent_mask[e.state];
        d = after_reset(s, e, direct + mask * through, s.d_initial_h);
    }
    return (control & LN_EMIT) != 0 ? d + d_output : d;
}
LSTM_NATIVE_HOST_DEVICE inline float c_gradient(const StepBackward& s, const Element& e, float dc) {
    return s.last != 0 ? or_zero(s.d_last_c, e.state) : after_reset(s, e, dc, s.d_initial_c);
}
LSTM_NATIVE_HOST_DEVICE inline float d_output_of(const StepBackward& s, const Element& e) {
    return s.d_output == nullptr ? 0.0F : s.d_output[e.b * s.d_output_stride + e.j];
}
LSTM_NATIVE_HOST_DEVICE inline float h_gradient(const StepBackward& s, const Element& e, unsigned control) {
    const bool last = s.last != 0;  // of the call: nothing was left
    return h_gradient(s, e, control, last ? 0.0F : s.direct[e.state], last ? 0.0F : s.through[e.state],
                      d_output_of(s, e));
}

// Gradients of the blocks of gates of an element, and what it leaves to the step before.
struct Gates {
    float gate[4];
    float direct, dc;
};

// i, f, c, o
template <class Act>
struct LstmForward {
    StepForward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        if ((control & LN_UPDATE) == 0) return carry(e, control, {s.h_in[at], 0.0F, s.c_in[at]}).masked;
        float sums[4];
        for (int g = 0; g < 4; ++g) sums[g] = input_of(s, e, g) + product_of(s, e, g);
        return update(e, control, sums, {0.0F, 0.0F, s.c_in[at]}).masked;
    }
    // A step that is not computed.
    template <class Then = Nothing>
    LSTM_NATIVE_HOST_DEVICE State carry(const Element& e, unsigned control, const State& before,
                                        const Then& then = {}) const {
        return finish_with_c(s, e, control, before.h, before.c, then);
    }
    // One that is; `sums` is what goes into the gates, of `before` c is read.
    template <class Then = Nothing>
    LSTM_NATIVE_HOST_DEVICE State update(const Element& e, unsigned control, const float* sums, const State& before,
                                         const Then& then = {}) const {
        const float i = act.gate(sums[0]);
        const float f = act.gate(sums[1]);
        const float g = act.candidate(sums[2]);
        const float o = act.gate(sums[3]);
        const float c = f * before.c + i * g;
        const float h = o * act.candidate(c);
        const auto keep_gates = [&] {
            if (s.training == 0) return;
            float* const kept = s.gates + e.gate;
            kept[0] = act.keep(sums[0], i);
            kept[s.H] = act.keep(sums[1], f);
            kept[2 * s.H] = act.keep(sums[2], g);
            kept[3 * s.H] = act.keep(sums[3], o);
        };
        if (!kIsCalled<Then>) keep_gates();
        const State next = finish_with_c(s, e, control, h, c, then);
        if (kIsCalled<Then>) keep_gates();
        return next;
    }
};

template <class Act>
struct LstmBackward {
    StepBackward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE Gates operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float d_h = h_gradient(s, e, control);
        const float d_c = c_gradient(s, e, s.last != 0 ? 0.0F : s.dc[at]);
        float* const kept = s.gates + e.gate;
        Gates d = {{}, d_h, d_c};
        if ((control & LN_UPDATE) != 0) {
            const float keep[4] = {kept[0], kept[s.H], kept[2 * s.H], kept[3 * s.H]};
            d = update(keep, s.c_in[at], d_h, d_c);
        }
        for (int g = 0; g < 4; ++g) kept[g * s.H] = d.gate[g];
        s.direct[at] = d.direct;
        s.dc[at] = d.dc;
        return d;
    }
    // A step that was computed, of what was kept and of c before it.
    LSTM_NATIVE_HOST_DEVICE Gates update(const float* keep, float before, float d_h, float d_c) const {
        const float i = act.kept_gate(keep[0]);
        const float f = act.kept_gate(keep[1]);
        const float g = act.kept_candidate(keep[2]);
        const float o = act.kept_gate(keep[3]);
        const float c = f * before + i * g;
        const float squashed = act.candidate(c);
        d_c += d_h * o * act.candidate_slope(act.keep(c, squashed));
        return {{d_c * g * act.gate_slope(keep[0]), d_c * before * act.gate_slope(keep[1]),
                 d_c * i * act.candidate_slope(keep[2]), d_h * squashed * act.gate_slope(keep[3])},
                0.0F,
                d_c * f};
    }
};

template <class Act>
struct SimpleRnnForward {
    StepForward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        if ((control & LN_UPDATE) == 0) return finish(s, e, control, s.h_in[at]).masked;
        return update(e, control, input_of(s, e, 0) + product_of(s, e, 0)).masked;
    }
    // A step that is computed.
    template <class Then = Nothing>
    LSTM_NATIVE_HOST_DEVICE State update(const Element& e, unsigned control, float sum, const Then& then = {}) const {
        const float h = act.candidate(sum);
        const State next = finish(s, e, control, h, then);
        if (s.training != 0) s.gates[e.gate] = act.keep(sum, h);
        return next;
    }
};

template <class Act>
struct SimpleRnnBackward {
    StepBackward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float d_h = h_gradient(s, e, control);
        float& kept = s.gates[e.gate];
        Gates d = {{}, d_h, 0.0F};
        if ((control & LN_UPDATE) != 0) d = update(kept, d_h);
        kept = d.gate[0];
        s.direct[at] = d.direct;
    }
    // A step that was computed, of what was kept.
    LSTM_NATIVE_HOST_DEVICE Gates update(float keep, float d_h) const {
        return {{d_h * act.candidate_slope(keep)}, 0.0F, 0.0F};
    }
};

// z, r, h, and in the fourth block h R_h + its bias. The bias has two rows: of the inputs, of the product.
template <class Act>
struct GruForward {
    StepForward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        if ((control & LN_UPDATE) == 0) return finish(s, e, control, s.h_in[at]).masked;
        float input[3];
        float product[3];
        for (int g = 0; g < 3; ++g) {
            input[g] = input_of(s, e, g);
            product[g] = product_of(s, e, g);
        }
        return update(e, control, input, product, s.h_in[at]).masked;
    }
    // A step that is computed: what inputs and their bias, and what the recurrent kernel gives to each gate.
    template <class Then = Nothing>
    LSTM_NATIVE_HOST_DEVICE State update(const Element& e, unsigned control, const float* input, const float* recurrent,
                                         float h, const Then& then = {}) const {
        float product[3];
        for (int g = 0; g < 3; ++g) product[g] = recurrent[g] + or_zero(s.bias, (3 + g) * s.H + e.j);
        const float z_sum = input[0] + product[0];
        const float r_sum = input[1] + product[1];
        const float z = act.gate(z_sum);
        const float r = act.gate(r_sum);
        const float sum = input[2] + r * product[2];
        const float g = act.candidate(sum);
        const State next = finish(s, e, control, g + z * (h - g), then);
        if (s.training != 0) {
            float* const kept = s.gates + e.gate;
            kept[0] = act.keep(z_sum, z);
            kept[s.H] = act.keep(r_sum, r);
            kept[2 * s.H] = act.keep(sum, g);
            kept[3 * s.H] = product[2];
        }
        return next;
    }
};

// Gradients of the three inputs in the first blocks, of the candidate's product in the fourth.
template <class Act>
struct GruBackward {
    StepBackward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float d_h = h_gradient(s, e, control);
        float* const kept = s.gates + e.gate;
        Gates d = {{}, d_h, 0.0F};
        if ((control & LN_UPDATE) != 0) {
            const float keep[4] = {kept[0], kept[s.H], kept[2 * s.H], kept[3 * s.H]};
            d = update(keep, s.h_in[at], d_h);
        }
        for (int g = 0; g < 4; ++g) kept[g * s.H] = d.gate[g];
        s.direct[at] = d.direct;
    }
    // A step that was computed, of what was kept and of h before it.
    LSTM_NATIVE_HOST_DEVICE Gates update(const float* keep, float before, float d_h) const {
        const float z = act.kept_gate(keep[0]);
        const float d_sum = d_h * (1.0F - z) * act.candidate_slope(keep[2]);
        return {{d_h * (before - act.kept_candidate(keep[2])) * act.gate_slope(keep[0]),
                 d_sum * keep[3] * act.gate_slope(keep[1]), d_sum, d_sum * act.kept_gate(keep[1])},
                d_h * z,
                0.0F};
    }
};

// The reset gate before the product, first phase: z and r are kept in the first blocks, r h goes to the fourth.
template <class Act>
struct GruBeforeReset {
    StepForward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        float* const kept = s.gates + e.gate;
        if ((control_of(s.control, e.b * s.T) & LN_UPDATE) == 0) return kept[3 * s.H] = 0.0F;
        const float z_sum = input_of(s, e, 0) + product_of(s, e, 0);
        const float r_sum = input_of(s, e, 1) + product_of(s, e, 1);
        const float r = act.gate(r_sum);
        kept[0] = act.keep(z_sum, act.gate(z_sum));
        kept[s.H] = act.keep(r_sum, r);
        return kept[3 * s.H] = r * s.masked[at];
    }
};

// Second phase: `recurrent` holds r h R_h alone.
template <class Act>
struct GruBeforeForward {
    StepForward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        float h = s.h_in[at];
        if ((control & LN_UPDATE) != 0) {
            float* const kept = s.gates + e.gate;
            const float z = act.kept_gate(kept[0]);
            const float sum = input_of(s, e, 2) + product_of(s, e, 0);
            const float g = act.candidate(sum);
            h = g + z * (h - g);
            kept[2 * s.H] = act.keep(sum, g);
        }
        return finish(s, e, control, h).masked;
    }
};

// Gradients of z and of the candidate; the fourth block stays.
template <class Act>
struct GruBeforeBackward {
    StepBackward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float d_h = h_gradient(s, e, control);
        float* const kept = s.gates + e.gate;
        if ((control & LN_UPDATE) == 0) {
            kept[0] = kept[2 * s.H] = 0.0F;
            s.direct[at] = d_h;
            return;
        }
        const float z = act.kept_gate(kept[0]);
        const float kept_g = kept[2 * s.H];
        kept[0] = d_h * (s.h_in[at] - act.kept_candidate(kept_g)) * act.gate_slope(kept[0]);
        kept[2 * s.H] = d_h * (1.0F - z) * act.candidate_slope(kept_g);
        s.direct[at] = d_h * z;
    }
};

// From the gradient of r h: that of r, and what passes to the masked h.
template <class Act>
struct GruBeforeResetBackward {
    StepBackward s;
    Act act;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        const Element e(s, at);
        float& kept = s.gates[e.gate + s.H];
        if ((control_of(s.control, e.b * s.T) & LN_UPDATE) == 0) {
            kept = s.through[at] = 0.0F;
            return;
        }
        s.through[at] = s.d_reset[at] * act.kept_gate(kept);
        kept = s.d_reset[at] * s.masked[at] * act.gate_slope(kept);
    }
};

}  // namespace lstm_native::cuda
