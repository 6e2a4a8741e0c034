// The cells of LnGeneralConfig, one time step forward and backward for a tile of rows, after the products (see
// GeneralStep in kernel_table.h). Included by kernels-inl.h.
//
//   LSTM  i = s(z_i + p_i c)  f = s(z_f + p_f c), or 1 - i  g = a(z_c)  c' = f c + i g  o = s(z_o + p_o c')  m = o
//   b(c') GRU, simple RNN as in gru-inl.h and simple_rnn-inl.h
// where s and a clip what goes into them. Peepholes after Gers and Schmidhuber 2000; the coupled gate after Greff et
// al. 2017.
#pragma once

#include <initializer_list>

#include "core/parametric.h"
#include "cpu/kernels/cell-inl.h"
#include "cpu/kernels/gru-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

constexpr float kLargest = 3.40282347e38F;  // of the finite floats

// f(z) of z held within [-bound, bound].
class Function {
public:
    Function(const LnFunction& f, float bound) : f_(f), bound_(bound) {}

    Vec value(Vec z) const {
        const Vec x = clamp(z, -bound_, bound_);
        const Vec alpha = Vec::set(f_.alpha);
        const Vec beta = Vec::set(f_.beta);
        if (!is_parametric()) return activate(static_cast<core::Activation>(f_.kind), x);
        switch (static_cast<core::Parametric>(f_.kind)) {
            case core::Parametric::affine:
                return Vec::fma(alpha, x, beta);
            case core::Parametric::leaky_relu:
                return Vec::where_less(x, Vec::zero(), alpha * x, x);
            case core::Parametric::thresholded_relu:
                return Vec::where_less(alpha, x, x, Vec::zero());
            case core::Parametric::scaled_tanh:
                return alpha * tanh(beta * x);
            case core::Parametric::hard_sigmoid:
                return clamp(Vec::fma(alpha, x, beta), 0.0F, 1.0F);
            case core::Parametric::elu:
                return Vec::where_less(x, Vec::zero(), alpha * activate(core::Activation::elu, x), x);
        }
        return x;
    }

    // At z, where the value is known; at a kink that of the flat side.
    Vec derivative(Vec z, Vec) const {
        // Nothing is out of infinite bounds, infinity included.
        if (bound_ > kLargest) return inner_derivative(z);
        return Vec::where_less(Vec::abs(z), Vec::set(bound_), inner_derivative(z), Vec::zero());
    }

private:
    bool is_parametric() const { return f_.kind >= static_cast<std::int32_t>(core::Parametric::affine); }

    Vec inner_derivative(Vec x) const {
        const Vec one = Vec::set(1.0F);
        const Vec alpha = Vec::set(f_.alpha);
        const Vec beta = Vec::set(f_.beta);
        if (!is_parametric()) return activation_derivative(static_cast<core::Activation>(f_.kind), x);
        switch (static_cast<core::Parametric>(f_.kind)) {
            case core::Parametric::affine:
                return alpha;
            case core::Parametric::leaky_relu:
                return Vec::where_less(Vec::zero(), x, one, alpha);
            case core::Parametric::thresholded_relu:
                return Vec::where_less(alpha, x, one, Vec::zero());
            case core::Parametric::scaled_tanh: {
                const Vec y = tanh(beta * x);
                return alpha * beta * Vec::fnma(y, y, one);
            }
            case core::Parametric::hard_sigmoid: {
                const Vec y = Vec::fma(alpha, x, beta);
                return Vec::where_less(Vec::zero(), y, Vec::where_less(y, one, alpha, Vec::zero()), Vec::zero());
            }
            case core::Parametric::elu:
                return Vec::where_less(x, Vec::zero(), alpha * activation_derivative(core::Activation::elu, x), one);
        }
        return one;
    }

    LnFunction f_;
    float bound_;
};

struct Functions {
    Function gate, candidate, output;

    explicit Functions(const LnGeneralConfig& c)
        : gate(c.recurrent_activation, c.clip),
          candidate(c.activation, c.clip),
          output(c.output_activation, __builtin_inff()) {}
};

// As Function, of an activation that is known where the code is compiled: the same bits, without looking it up for
// every vector, and derivatives from values.
template <core::Activation kKind>
class KnownFunction {
public:
    explicit KnownFunction(float bound) : bound_(bound) {}

    Vec value(Vec z) const { return activate(kKind, clamp(z, -bound_, bound_)); }

    Vec derivative(Vec z, Vec value) const {
        const Vec one = Vec::set(1.0F);
        const Vec inner = kKind == core::Activation::tanh ? Vec::fnma(value, value, one) : value * (one - value);
        return bound_ > kLargest ? inner : Vec::where_less(Vec::abs(z), Vec::set(bound_), inner, Vec::zero());
    }

private:
    static_assert(kKind == core::Activation::tanh || kKind == core::Activation::sigmoid);
    float bound_;
};

struct UsualFunctions {
    KnownFunction<core::Activation::sigmoid> gate;
    KnownFunction<core::Activation::tanh> candidate, output;

    explicit UsualFunctions(const LnGeneralConfig& c) : gate(c.clip), candidate(c.clip), output(__builtin_inff()) {}
};

// body(functions) with those of the configuration.
template <class F>
inline void with_functions(const LnGeneralConfig& c, const F& body) {
    const bool has_output = c.cell == LN_CELL_LSTM;
    if (is_fast(c.activation.kind, c.recurrent_activation.kind) &&
        (!has_output || is_fast(c.output_activation.kind, c.recurrent_activation.kind))) {
        body(UsualFunctions(c));
    } else {
        body(Functions(c));
    }
}

inline std::int64_t general_unit_blocks(const GeneralStep& s) { return (s.config->H + kL - 1) / kL; }

inline std::int64_t general_valid(const GeneralStep& s, std::int64_t block) {
    const std::int64_t left = s.config->H - block * kL;
    return left < kL ? left : kL;
}

// Of the LSTM, for one unit block: where its gates lie, and its peepholes.
struct LstmBlocks {
    bool coupled;
    float* z[4];      // i, f, c, o; f null where coupled
    Vec peephole[3];  // i, f, o

    LstmBlocks(const GeneralStep& s, std::int64_t block) : coupled(s.config->coupled != 0) {
        float* at = s.gates[0] + (coupled ? 3 : 4) * block * s.gates_stride;
        for (int gate = 0; gate < 4; ++gate) {
            z[gate] = gate == 1 && coupled ? nullptr : at;
            if (z[gate] != nullptr) at += s.gates_stride;
        }
        for (int p = 0; p < 3; ++p)
            peephole[p] = s.peepholes == nullptr ? Vec::zero()
                                                 : Vec::load(s.peepholes + (p * general_unit_blocks(s) + block) * kL);
    }
};

template <class Act>
void general_lstm(const GeneralStep& s, const Act& act) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        const LstmBlocks at(s, block);
        const float* const c_before = s.c_before + block * s.state_stride;
        float* const c_after = s.c_after + block * s.state_stride;
        float* const output = s.output + block * s.output_stride;
        for (std::int64_t place = 0; place < s.rows * kL; place += kL) {
            // The sum with what the peephole sees, kept for the way back.
            const auto gate_input = [&](int gate, int peephole, Vec c) {
                const Vec z = Vec::load(at.z[gate] + place);
                if (s.peepholes == nullptr) return z;
                const Vec sum = Vec::fma(at.peephole[peephole], c, z);
                sum.store(at.z[gate] + place);
                return sum;
            };
            const Vec before = Vec::load(c_before + place);
            const Vec i = act.gate.value(gate_input(0, 0, before));
            const Vec f = at.coupled ? Vec::set(1.0F) - i : act.gate.value(gate_input(1, 1, before));
            const Vec g = act.candidate.value(Vec::load(at.z[2] + place));
            const Vec c = Vec::fma(f, before, i * g);
            const Vec o = act.gate.value(gate_input(3, 2, c));
            c.store(c_after + place);
            (o * act.output.value(c)).store(output + place);
        }
    }
}

template <class Act>
void general_lstm_backward(const GeneralStepBackward& s, const Act& act) {
    const Vec one = Vec::set(1.0F);
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        const LstmBlocks at(s, block);
        const float* const c_before = s.c_before + block * s.state_stride;
        float* const d_output = s.d_output + block * s.d_stride;
        float* const dc = s.dc + block * s.d_stride;
        const std::int64_t valid = general_valid(s, block);
        Vec sums[3] = {Vec::zero(), Vec::zero(), Vec::zero()};
        for (std::int64_t r = 0; r < s.rows; ++r) {
            const std::int64_t place = r * kL;
            if (!is_updated(control_of(s, r))) {
                for (float* z : at.z)
                    if (z != nullptr) Vec::zero().store(z + place);
                continue;
            }
            const Vec z_i = Vec::load(at.z[0] + place);
            const Vec z_f = at.coupled ? z_i : Vec::load(at.z[1] + place);
            const Vec z_g = Vec::load(at.z[2] + place);
            const Vec z_o = Vec::load(at.z[3] + place);
            const Vec before = Vec::load(c_before + place);
            const Vec i = act.gate.value(z_i);
            const Vec f = at.coupled ? one - i : act.gate.value(z_f);
            const Vec g = act.candidate.value(z_g);
            const Vec o = act.gate.value(z_o);
            const Vec c = Vec::fma(f, before, i * g);  // as forward; the stored one may have been reset since
            const Vec d = Vec::load(d_output + place);
            const Vec squashed = act.output.value(c);
            const Vec d_o = d * squashed * act.gate.derivative(z_o, o);
            Vec d_c = Vec::fma(d * o, act.output.derivative(c, squashed), Vec::load(dc + place));
            if (s.peepholes != nullptr) d_c = Vec::fma(d_o, at.peephole[2], d_c);
            const Vec d_i = d_c * (at.coupled ? g - before : g) * act.gate.derivative(z_i, i);
            const Vec d_g = d_c * i * act.candidate.derivative(z_g, g);
            Vec d_before = d_c * f;
            if (!at.coupled) {
                const Vec d_f = d_c * before * act.gate.derivative(z_f, f);
                store_padded(d_f, at.z[1] + place, valid);
                if (s.peepholes != nullptr) d_before = Vec::fma(d_f, at.peephole[1], d_before);
                sums[1] = Vec::fma(d_f, before, sums[1]);
            }
            if (s.peepholes != nullptr) d_before = Vec::fma(d_i, at.peephole[0], d_before);
            sums[0] = Vec::fma(d_i, before, sums[0]);
            sums[2] = Vec::fma(d_o, c, sums[2]);
            store_padded(d_i, at.z[0] + place, valid);
            store_padded(d_g, at.z[2] + place, valid);
            store_padded(d_o, at.z[3] + place, valid);
            store_padded(d_before, dc + place, valid);
            Vec::zero().store(d_output + place);
        }
        if (s.peepholes == nullptr) continue;
        for (int p = 0; p < 3; ++p) {
            float* const sum = s.d_peepholes + (p * general_unit_blocks(s) + block) * kL;
            (Vec::load(sum) + sums[p]).store(sum);
        }
    }
}

template <class Act>
void general_simple_rnn(const GeneralStep& s, const Act& act) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block)
        for (std::int64_t place = 0; place < s.rows * kL; place += kL)
            act.candidate.value(Vec::load(s.gates[0] + block * s.gates_stride + place))
                .store(s.output + block * s.output_stride + place);
}

template <class Act>
void general_simple_rnn_backward(const GeneralStepBackward& s, const Act& act) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        for (std::int64_t r = 0; r < s.rows; ++r) {
            float* const z = s.gates[0] + block * s.gates_stride + r * kL;
            float* const d_output = s.d_output + block * s.d_stride + r * kL;
            if (!is_updated(control_of(s, r))) {
                Vec::zero().store(z);
                continue;
            }
            const Vec sum = Vec::load(z);
            const Vec slope = act.candidate.derivative(sum, act.candidate.value(sum));
            store_padded(Vec::load(d_output) * slope, z, general_valid(s, block));
            Vec::zero().store(d_output);
        }
    }
}

// Of the GRU, the reset gate being after the product where `after`.
template <class Act>
void general_gru(const GeneralStep& s, const Act& act, bool after) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        const float* const z = s.gates[0] + 2 * block * s.gates_stride;
        const float* const r = z + s.gates_stride;
        float* const candidate = s.gates[1] + block * s.gates_stride;
        const float* const apart = s.apart + block * s.gates_stride;
        const float* const h = s.h_before + block * s.state_stride;
        float* const output = s.output + block * s.output_stride;
        for (std::int64_t place = 0; place < s.rows * kL; place += kL) {
            Vec sum = Vec::load(candidate + place);
            if (after) {
                sum = Vec::fma(act.gate.value(Vec::load(r + place)), Vec::load(apart + place), sum);
                sum.store(candidate + place);
            }
            gru_mix(act.gate.value(Vec::load(z + place)), Vec::load(h + place), act.candidate.value(sum))
                .store(output + place);
        }
    }
}

template <class Act>
void general_gru_backward(const GeneralStepBackward& s, const Act& act, bool after) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        float* const z = s.gates[0] + 2 * block * s.gates_stride;
        float* const r = z + s.gates_stride;
        float* const candidate = s.gates[1] + block * s.gates_stride;
        float* const apart = s.apart + block * s.gates_stride;
        const float* const h = s.h_before + block * s.state_stride;
        float* const d_output = s.d_output + block * s.d_stride;
        const std::int64_t valid = general_valid(s, block);
        for (std::int64_t row = 0; row < s.rows; ++row) {
            const std::int64_t place = row * kL;
            if (!is_updated(control_of(s, row))) {
                for (float* gradient : {z, candidate}) Vec::zero().store(gradient + place);
                if (after)
                    for (float* gradient : {r, apart}) Vec::zero().store(gradient + place);
                continue;
            }
            const Vec z_z = Vec::load(z + place);
            const Vec sum = Vec::load(candidate + place);
            const Vec update = act.gate.value(z_z);
            const Vec d = Vec::load(d_output + place);
            const Vec g = act.candidate.value(sum);
            const Vec d_sum = d * (Vec::set(1.0F) - update) * act.candidate.derivative(sum, g);
            store_padded(d * (Vec::load(h + place) - g) * act.gate.derivative(z_z, update), z + place, valid);
            store_padded(d_sum, candidate + place, valid);
            store_padded(d * update, d_output + place, valid);
            if (!after) continue;
            const Vec z_r = Vec::load(r + place);
            const Vec reset = act.gate.value(z_r);
            store_padded(d_sum * Vec::load(apart + place) * act.gate.derivative(z_r, reset), r + place, valid);
            store_padded(d_sum * reset, apart + place, valid);
        }
    }
}

template <class Act>
void reset_gate(const GeneralStep& s, const Act& act) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        const float* const r = s.gates[0] + (2 * block + 1) * s.gates_stride;
        float* const apart = s.apart + block * s.gates_stride;
        const float* const h = s.h_masked + block * s.state_stride;
        for (std::int64_t place = 0; place < s.rows * kL; place += kL)
            (act.gate.value(Vec::load(r + place)) * Vec::load(h + place)).store(apart + place);
    }
}

template <class Act>
void reset_gate_backward(const GeneralStepBackward& s, const Act& act) {
    for (std::int64_t block = 0; block < general_unit_blocks(s); ++block) {
        float* const r = s.gates[0] + (2 * block + 1) * s.gates_stride;
        const float* const d_reset = s.d_reset + block * s.d_stride;
        const float* const h = s.h_masked + block * s.state_stride;
        float* const d_masked = s.d_masked + block * s.d_stride;
        const std::int64_t valid = general_valid(s, block);
        for (std::int64_t row = 0; row < s.rows; ++row) {
            const std::int64_t place = row * kL;
            if (!is_updated(control_of(s, row))) {
                Vec::zero().store(r + place);
                continue;
            }
            const Vec z_r = Vec::load(r + place);
            const Vec d = Vec::load(d_reset + place);
            const Vec reset = act.gate.value(z_r);
            store_padded(d * Vec::load(h + place) * act.gate.derivative(z_r, reset), r + place, valid);
            store_padded(Vec::fma(d, reset, Vec::load(d_masked + place)), d_masked + place, valid);
        }
    }
}

void general_step(const GeneralStep& s) {
    with_functions(*s.config, [&](const auto& act) {
        switch (s.config->cell) {
            case LN_CELL_LSTM:
                return general_lstm(s, act);
            case LN_CELL_SIMPLE_RNN:
                return general_simple_rnn(s, act);
            default:
                return general_gru(s, act, s.config->cell == LN_CELL_GRU);
        }
    });
}

void general_step_backward(const GeneralStepBackward& s) {
    with_functions(*s.config, [&](const auto& act) {
        switch (s.config->cell) {
            case LN_CELL_LSTM:
                return general_lstm_backward(s, act);
            case LN_CELL_SIMPLE_RNN:
                return general_simple_rnn_backward(s, act);
            default:
                return general_gru_backward(s, act, s.config->cell == LN_CELL_GRU);
        }
    });
}

void general_reset(const GeneralStep& s) {
    with_functions(*s.config, [&](const auto& act) { reset_gate(s, act); });
}

void general_reset_backward(const GeneralStepBackward& s) {
    with_functions(*s.config, [&](const auto& act) { reset_gate_backward(s, act); });
}

constexpr GeneralKernels kGeneral = {general_step, general_step_backward, general_reset, general_reset_backward};

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
