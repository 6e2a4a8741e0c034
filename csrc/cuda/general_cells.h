// The LSTM of LnGeneralConfig, one time step forward and backward for one batch row and unit (floor 1, CUDA):
// peepholes, coupled gates, a projection, an activation of its own for the output. The equations stand in
// cpu/kernels/general-inl.h. Steps are those of cells.h; the other cells need no more than its activations.
#pragma once

#include <cstdint>

#include "cuda/cells.h"

namespace lstm_native::cuda {

// With a projection, states h have P columns and c has H; the step of the gates leaves h to a step after the product.
struct LstmOptions {
    bool coupled;  // f = 1 - i; no block of f
    bool projects;
    const float* peepholes[3];  // (H) of i, f, o; null where there is none
    float* cell;                // forward, with a projection: (B, H), what it takes
    const float* d_cell;        // backward, with a projection: its gradient
    float* peephole_gradients;  // backward: (B, 3 H) of i, f, o, added to; or null

    // The block of gate g of i, f, c, o.
    LSTM_NATIVE_HOST_DEVICE int block(int g) const { return coupled && g > 0 ? g - 1 : g; }
};

struct GeneralLstmForward {
    StepForward s;
    AnyActivations act;
    LstmOptions options;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float before = s.c_in[at];
        float c = before;
        float h = 0.0F;  // before the projection
        if ((control & LN_UPDATE) != 0) {
            const float i = act.gate(sum(e, 0, 0, before));
            const float f = options.coupled ? 1.0F - i : act.gate(sum(e, 1, 1, before));
            const float g = act.candidate(sum(e, 2, -1, 0.0F));
            c = f * before + i * g;
            h = act.gate(sum(e, 3, 2, c)) * act.output(c);
        }
        if (!options.projects) {
            if ((control & LN_UPDATE) == 0) h = s.h_in[at];
            return finish_with_c(s, e, control, h, c).masked;
        }
        finish_c(s, e, c);
        return options.cell[at] = h;
    }

private:
    // What goes into gate g, with what its peephole sees; kept for the way back.
    LSTM_NATIVE_HOST_DEVICE float sum(const Element& e, int g, int peephole, float c) const {
        const int block = options.block(g);
        float z = input_of(s, e, block) + product_of(s, e, block);
        if (peephole >= 0 && options.peepholes[peephole] != nullptr) z += options.peepholes[peephole][e.j] * c;
        if (s.training != 0) s.gates[e.gate + block * s.H] = z;
        return z;
    }
};

// h of `projected` (B, P), the product with the projection; s.H is P.
struct ProjectionForward {
    StepForward s;
    const float* projected;
    LSTM_NATIVE_HOST_DEVICE float operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        return finish(s, e, control, (control & LN_UPDATE) != 0 ? projected[at] : s.h_in[at]).masked;
    }
};

// The gradient of the product with the projection, at s.gates (B, P); s.H is P.
struct ProjectionBackward {
    StepBackward s;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float d_h = h_gradient(s, e, control);
        const bool updated = (control & LN_UPDATE) != 0;
        s.gates[at] = updated ? d_h : 0.0F;
        s.direct[at] = updated ? 0.0F : d_h;
    }
};

struct GeneralLstmBackward {
    StepBackward s;
    AnyActivations act;
    LstmOptions options;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        const Element e(s, at);
        const unsigned control = control_of(s.control, e.b * s.T);
        const float d = options.projects ? options.d_cell[at] : h_gradient(s, e, control);
        float d_c = c_gradient(s, e, s.last != 0 ? 0.0F : s.dc[at]);
        const bool updated = (control & LN_UPDATE) != 0;
        if (!options.projects) s.direct[at] = updated ? 0.0F : d;
        if (!updated) {
            for (std::int64_t gate = e.gate; gate < (e.b + 1) * s.columns; gate += s.H) s.gates[gate] = 0.0F;
            s.dc[at] = d_c;
            return;
        }
        float* z[4];
        for (int g = 0; g < 4; ++g) z[g] = s.gates + e.gate + options.block(g) * s.H;
        const float z_i = *z[0];
        const float z_f = *z[1];  // of i where coupled
        const float z_g = *z[2];
        const float z_o = *z[3];
        const float before = s.c_in[at];
        const float i = act.gate(z_i);
        const float f = options.coupled ? 1.0F - i : act.gate(z_f);
        const float g = act.candidate(z_g);
        const float o = act.gate(z_o);
        const float c = f * before + i * g;  // as forward; the stored one may have been reset since
        const float d_o = d * act.output(c) * act.gate_slope(z_o);
        d_c += d * o * act.output_slope(c) + d_o * peephole(2, e);
        const float d_i = d_c * (options.coupled ? g - before : g) * act.gate_slope(z_i);
        const float d_f = options.coupled ? 0.0F : d_c * before * act.gate_slope(z_f);
        if (!options.coupled) *z[1] = d_f;
        *z[0] = d_i;
        *z[2] = d_c * i * act.candidate_slope(z_g);
        *z[3] = d_o;
        s.dc[at] = d_c * f + d_i * peephole(0, e) + d_f * peephole(1, e);
        if (options.peephole_gradients == nullptr) return;
        float* const sums = options.peephole_gradients + e.b * 3 * s.H + e.j;
        sums[0] += d_i * before;
        sums[s.H] += d_f * before;
        sums[2 * s.H] += d_o * c;
    }

private:
    LSTM_NATIVE_HOST_DEVICE float peephole(int p, const Element& e) const {
        return options.peepholes[p] == nullptr ? 0.0F : options.peepholes[p][e.j];
    }
};

}  // namespace lstm_native::cuda
