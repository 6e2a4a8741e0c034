// The LSTM cell, one time step forward and backward for a tile of rows (see kernel_table.h). Included by kernels-inl.h.
//
//   i = s(z_i)  f = s(z_f)  g = a(z_c)  o = s(z_o)    c' = f c + i g    h = o a(c')
// after Hochreiter and Schmidhuber 1997 with the forget gate of Gers, Schmidhuber and Cummins 2000.
// With s = sigmoid and a = tanh (`fast`) the activated gates are kept for backward, since both derivatives
// follow from the values; otherwise the pre-activations are kept.
#pragma once

#include <cstdint>

#include "core/activation.h"
#include "cpu/kernels/kernel_table.h"
#include "cpu/kernels/math-inl.h"
#include "cpu/kernels/product-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

// What the cell needs of its two activations: value, and derivative from what was kept.
struct FastGates {
    static constexpr bool kKeepValues = true;
    static Vec gate(Vec z) { return sigmoid(z); }
    static Vec candidate(Vec z) { return tanh(z); }
};
struct GeneralGates {
    static constexpr bool kKeepValues = false;
    core::Activation activation, recurrent;
    Vec gate(Vec z) const { return activate(recurrent, z); }
    Vec candidate(Vec z) const { return activate(activation, z); }
};

template <class Gates>
inline void lstm_cell(const CellStep& s, const Gates& act, std::int64_t block) {
    const std::int64_t stride = s.gates_stride;
    float* z = s.gates + 4 * block * stride;
    const float* h_in = s.h_in + block * s.h_in_stride;
    const float* c_in = s.c_in + block * s.c_in_stride;
    float* h_out = s.h_out + block * s.h_out_stride;
    float* c_out = s.c_out + block * s.c_out_stride;
    float* out = s.out == nullptr ? nullptr : s.out + block * kL;
    const std::int64_t valid = s.units - block * kL < kL ? s.units - block * kL : kL;
    for (std::int64_t r = 0; r < s.rows; ++r, z += kL, h_in += kL, c_in += kL, h_out += kL, c_out += kL) {
        const unsigned control = s.control == nullptr ? 5U : s.control[r * s.control_stride];  // LN_UPDATE | LN_EMIT
        Vec h;
        if ((control & 1U) != 0U) {
            const Vec i = act.gate(Vec::load(z));
            const Vec f = act.gate(Vec::load(z + stride));
            const Vec g = act.candidate(Vec::load(z + 2 * stride));
            const Vec o = act.gate(Vec::load(z + 3 * stride));
            const Vec c = Vec::fma(f, Vec::load(c_in), i * g);
            h = o * act.candidate(c);
            c.store(c_out);
            if (Gates::kKeepValues && s.training) {
                i.store(z);
                f.store(z + stride);
                g.store(z + 2 * stride);
                o.store(z + 3 * stride);
            }
        } else {
            h = Vec::load(h_in);
            Vec::load(c_in).store(c_out);
        }
        h.store(h_out);
        if (out != nullptr) {
            store_valid((control & 4U) != 0U ? h : Vec::zero(), out + r * s.out_stride, valid);
        }
    }
}

template <class Gates>
inline void lstm_blocks(const CellStep& s, const Gates& act) {
    Product p{};
    p.start = s.projected.data == nullptr ? Start::c : Start::rows;
    p.start_rows = s.projected;
    p.rows = s.rows;
    p.k = s.units;
    p.a = s.h_in;
    p.a_stride = s.h_in_stride;
    p.w = s.w;
    p.w_stride = s.w_stride;
    p.c = s.gates;
    p.c_stride = s.gates_stride;
    // As many unit blocks (two pairs each) as one micro-kernel call takes side by side.
    const std::int64_t step = s.rows <= kTileRows && kTiles[s.rows - 1].pairs > 2 ? kTiles[s.rows - 1].pairs / 2 : 1;
    const std::int64_t groups = (s.block_end - s.block_begin + step - 1) / step;
    for (std::int64_t n = 0; n < groups; ++n) {
        const std::int64_t group = s.descending ? groups - 1 - n : n;
        const std::int64_t begin = s.block_begin + group * step;
        const std::int64_t end = begin + step < s.block_end ? begin + step : s.block_end;
        p.pair_begin = 2 * begin;
        p.pair_end = 2 * end;
        product(p);
        for (std::int64_t block = begin; block < end; ++block) lstm_cell(s, act, block);
    }
}

inline bool is_fast(std::int32_t activation, std::int32_t recurrent_activation) {
    return activation == static_cast<std::int32_t>(core::Activation::tanh) &&
           recurrent_activation == static_cast<std::int32_t>(core::Activation::sigmoid);
}

void lstm_step(const CellStep& s) {
    if (is_fast(s.activation, s.recurrent_activation)) {
        lstm_blocks(s, FastGates{});
    } else {
        lstm_blocks(s, GeneralGates{static_cast<core::Activation>(s.activation),
                                    static_cast<core::Activation>(s.recurrent_activation)});
    }
}

// Values and derivatives of the four gates and the cell output, from what the forward step kept.
struct LstmValues {
    Vec i, f, g, o, d_i, d_f, d_g, d_o;
};
inline LstmValues gate_values(const FastGates&, const float* z, std::int64_t stride) {
    const Vec one = Vec::set(1.0F);
    LstmValues v;
    v.i = Vec::load(z);
    v.f = Vec::load(z + stride);
    v.g = Vec::load(z + 2 * stride);
    v.o = Vec::load(z + 3 * stride);
    v.d_i = v.i * (one - v.i);
    v.d_f = v.f * (one - v.f);
    v.d_g = Vec::fnma(v.g, v.g, one);
    v.d_o = v.o * (one - v.o);
    return v;
}
inline LstmValues gate_values(const GeneralGates& act, const float* z, std::int64_t stride) {
    const Vec zi = Vec::load(z);
    const Vec zf = Vec::load(z + stride);
    const Vec zg = Vec::load(z + 2 * stride);
    const Vec zo = Vec::load(z + 3 * stride);
    return {act.gate(zi),
            act.gate(zf),
            act.candidate(zg),
            act.gate(zo),
            activation_derivative(act.recurrent, zi),
            activation_derivative(act.recurrent, zf),
            activation_derivative(act.activation, zg),
            activation_derivative(act.recurrent, zo)};
}
inline Vec output_derivative(const FastGates&, Vec, Vec value) { return Vec::fnma(value, value, Vec::set(1.0F)); }
inline Vec output_derivative(const GeneralGates& act, Vec c, Vec) { return activation_derivative(act.activation, c); }

template <class Gates>
inline void lstm_cell_backward(const CellStepBackward& s, const Gates& act, std::int64_t block) {
    const std::int64_t stride = s.gates_stride;
    float* z = s.gates + 4 * block * stride;
    const float* c_before = s.c_before + block * s.c_before_stride;
    float* dh = s.dh + block * s.d_stride;
    float* dc = s.dc + block * s.d_stride;
    const float* d_out = s.d_out == nullptr ? nullptr : s.d_out + block * kL;
    const std::int64_t valid = s.units - block * kL < kL ? s.units - block * kL : kL;
    for (std::int64_t r = 0; r < s.rows; ++r, z += kL, c_before += kL, dh += kL, dc += kL) {
        const unsigned control = s.control == nullptr ? 5U : s.control[r * s.control_stride];  // LN_UPDATE | LN_EMIT
        Vec d_h = Vec::load(dh);
        if (d_out != nullptr && (control & 4U) != 0U) d_h = d_h + load_valid(d_out + r * s.d_out_stride, valid);
        if ((control & 1U) == 0U) {
            d_h.store(dh);
            for (int gate = 0; gate < 4; ++gate) Vec::zero().store(z + gate * stride);
            continue;
        }
        const LstmValues v = gate_values(act, z, stride);
        const Vec before = Vec::load(c_before);
        const Vec c = Vec::fma(v.f, before, v.i * v.g);
        const Vec squashed = act.candidate(c);
        const Vec d_c = Vec::fma(d_h * v.o, output_derivative(act, c, squashed), Vec::load(dc));
        Vec d_z[4] = {d_c * v.g * v.d_i, d_c * before * v.d_f, d_c * v.i * v.d_g, d_h * squashed * v.d_o};
        if (valid < kL) {  // padding must stay zero: with unusual activations it might hold infinities
            for (int gate = 0; gate < 4; ++gate) {
                Vec::zero().store(z + gate * stride);
                d_z[gate].store_first(z + gate * stride, valid);
            }
        } else {
            for (int gate = 0; gate < 4; ++gate) d_z[gate].store(z + gate * stride);
        }
        (d_c * v.f).store(dc);
        Vec::zero().store(dh);
    }
}

void lstm_step_backward(const CellStepBackward& s) {
    if (is_fast(s.activation, s.recurrent_activation)) {
        for (std::int64_t block = s.block_begin; block < s.block_end; ++block)
            lstm_cell_backward(s, FastGates{}, block);
    } else {
        const GeneralGates act{static_cast<core::Activation>(s.activation),
                               static_cast<core::Activation>(s.recurrent_activation)};
        for (std::int64_t block = s.block_begin; block < s.block_end; ++block) lstm_cell_backward(s, act, block);
    }
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
