// The fully connected cell of Elman 1990: h' = a(z). Included by kernels-inl.h.
#pragma once

#include "cpu/kernels/cell-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

struct SimpleRnnCell {
    static constexpr int kGates = 1, kCandidates = 0;

    template <class Gates>
    static void forward(const CellStep& s, const Gates& act, std::int64_t block) {
        float* z = s.gates + block * s.gates_stride;
        const float* h_in = s.h_in + block * s.h_in_stride;
        float* h_out = s.h_out + block * s.h_out_stride;
        for (std::int64_t r = 0; r < s.rows; ++r, z += kL, h_in += kL, h_out += kL) {
            const unsigned control = control_of(s, r);
            Vec h = Vec::load(h_in);
            if (is_updated(control)) {
                h = act.candidate(Vec::load(z));
                if (Gates::kKeepValues && s.training) h.store(z);
            }
            h.store(h_out);
            emit(s, block, r, control, h);
        }
    }

    template <class Gates>
    static void backward(const CellStepBackward& s, const Gates& act, std::int64_t block) {
        float* z = s.gates + block * s.gates_stride;
        float* dh = s.dh + block * s.d_stride;
        const std::int64_t valid = valid_units(s, block);
        for (std::int64_t r = 0; r < s.rows; ++r, z += kL, dh += kL) {
            const unsigned control = control_of(s, r);
            const Vec d_h = output_gradient(s, block, r, control);
            if (is_updated(control)) {
                store_padded(d_h * act.candidate_derivative(Vec::load(z)), z, valid);
                Vec::zero().store(dh);
            } else {
                Vec::zero().store(z);
                d_h.store(dh);
            }
        }
    }
};

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
