// The LSTM cell, one time step forward and backward for a tile of rows (see kernel_table.h). Included by kernels-inl.h.
//
//   i = s(z_i)  f = s(z_f)  g = a(z_c)  o = s(z_o)    c' = f c + i g    h = o a(c')
// after Hochreiter and Schmidhuber 1997 with the forget gate of Gers, Schmidhuber and Cummins 2000.
#pragma once

#include "cpu/kernels/cell-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

struct LstmCell {
    static constexpr int kGates = 4, kCandidates = 0;

    template <class Gates>
    static void forward(const CellStep& s, const Gates& act, std::int64_t block) {
        const std::int64_t stride = s.gates_stride;
        float* z = s.gates + 4 * block * stride;
        const float* h_in = s.h_in + block * s.h_in_stride;
        const float* c_in = s.c_in + block * s.c_in_stride;
        float* h_out = s.h_out + block * s.h_out_stride;
        float* c_out = s.c_out + block * s.c_out_stride;
        for (std::int64_t r = 0; r < s.rows; ++r, z += kL, h_in += kL, c_in += kL, h_out += kL, c_out += kL) {
            const unsigned control = control_of(s, r);
            Vec h;
            if (is_updated(control)) {
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
            emit(s, block, r, control, h);
        }
    }

    template <class Gates>
    static void backward(const CellStepBackward& s, const Gates& act, std::int64_t block) {
        const std::int64_t stride = s.gates_stride;
        float* z = s.gates + 4 * block * stride;
        const float* c_before = s.c_before + block * s.c_before_stride;
        float* dh = s.dh + block * s.d_stride;
        float* dc = s.dc + block * s.d_stride;
        const std::int64_t valid = valid_units(s, block);
        for (std::int64_t r = 0; r < s.rows; ++r, z += kL, c_before += kL, dh += kL, dc += kL) {
            const unsigned control = control_of(s, r);
            for (int gate = 4; gate < 8; ++gate) __builtin_prefetch(z + gate * stride);  // of the next block
            __builtin_prefetch(c_before + s.c_before_stride);
            const Vec d_h = output_gradient(s, block, r, control);
            if (!is_updated(control)) {
                d_h.store(dh);
                for (int gate = 0; gate < 4; ++gate) Vec::zero().store(z + gate * stride);
                continue;
            }
            const Vec kept[4] = {Vec::load(z), Vec::load(z + stride), Vec::load(z + 2 * stride),
                                 Vec::load(z + 3 * stride)};
            const Vec i = act.kept_gate(kept[0]);
            const Vec f = act.kept_gate(kept[1]);
            const Vec g = act.kept_candidate(kept[2]);
            const Vec o = act.kept_gate(kept[3]);
            const Vec before = Vec::load(c_before);
            const Vec c = Vec::fma(f, before, i * g);
            const Vec squashed = act.candidate(c);
            const Vec slope = act.candidate_derivative(Gates::kKeepValues ? squashed : c);
            const Vec d_c = Vec::fma(d_h * o, slope, Vec::load(dc));
            store_padded(d_c * g * act.gate_derivative(kept[0]), z, valid);
            store_padded(d_c * before * act.gate_derivative(kept[1]), z + stride, valid);
            store_padded(d_c * i * act.candidate_derivative(kept[2]), z + 2 * stride, valid);
            store_padded(d_h * squashed * act.gate_derivative(kept[3]), z + 3 * stride, valid);
            (d_c * f).store(dc);
            Vec::zero().store(dh);
        }
    }
};

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
