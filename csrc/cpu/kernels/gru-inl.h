// The GRU cell, one time step forward and backward for a tile of rows (see kernel_table.h). Included by kernels-inl.h.
//
//   z = s(z_z)  r = s(z_r)  g = a(x_h + r (h R_h + b))    h' = z h + (1 - z) g
// where the reset gate comes after the recurrent product (`GruCell`: Keras' reset_after, cuDNN), or
//   g = a(x_h + (r h) R_h)
// where it comes before (`GruBeforeCell`: Cho et al. 2014), in two phases: the second product waits for all of r h.
#pragma once

#include "cpu/kernels/cell-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

// Where the blocks of a unit block lie in the gates: z0 r0 z1 r1 h0 h1 for each two.
struct GruBlocks {
    std::int64_t z, r, h;

    explicit GruBlocks(std::int64_t block)
        : z(6 * (block / 2) + 2 * (block % 2)), r(z + 1), h(6 * (block / 2) + 4 + block % 2) {}
};

// h' = g + z (h - g), and what follows from its gradient.
inline Vec gru_mix(Vec z, Vec h, Vec g) { return Vec::fma(z, h - g, g); }

struct GruCell {
    static constexpr int kGates = 2, kCandidates = 1;

    // `apart` holds x_h; the candidate's block of the gates h R_h + b. Training keeps z, r, h R_h + b, and the
    // candidate in the place of x_h.
    template <class Gates>
    static void forward(const CellStep& s, const Gates& act, std::int64_t block) {
        const GruBlocks at(block);
        float* z = s.gates + at.z * s.gates_stride;
        float* r = s.gates + at.r * s.gates_stride;
        const float* recurrent = s.gates + at.h * s.gates_stride;
        float* apart = s.apart + block * s.gates_stride;
        const float* h_in = s.h_in + block * s.h_in_stride;
        float* h_out = s.h_out + block * s.h_out_stride;
        const IndexedRows& rows = s.projected;
        const float* const projected =
            rows.data == nullptr ? nullptr : rows.data + (s.apart_block + block) * rows.stride;
        for (std::int64_t row = 0; row < s.rows;
             ++row, z += kL, r += kL, recurrent += kL, apart += kL, h_in += kL, h_out += kL) {
            const unsigned control = control_of(s, row);
            Vec h = Vec::load(h_in);
            if (is_updated(control)) {
                const Vec x = projected == nullptr ? Vec::load(apart)
                                                   : Vec::load(projected + rows.index[row * rows.index_stride] * kL);
                const Vec update = act.gate(Vec::load(z));
                const Vec reset = act.gate(Vec::load(r));
                const Vec sum = Vec::fma(reset, Vec::load(recurrent), x);
                const Vec g = act.candidate(sum);
                h = gru_mix(update, h, g);
                if (s.training) {
                    (Gates::kKeepValues ? g : sum).store(apart);
                    if (Gates::kKeepValues) {
                        update.store(z);
                        reset.store(r);
                    }
                }
            }
            h.store(h_out);
            emit(s, block, row, control, h);
        }
    }

    template <class Gates>
    static void backward(const CellStepBackward& s, const Gates& act, std::int64_t block) {
        const GruBlocks at(block);
        float* z = s.gates + at.z * s.gates_stride;
        float* r = s.gates + at.r * s.gates_stride;
        float* recurrent = s.gates + at.h * s.gates_stride;
        float* apart = s.apart + block * s.gates_stride;
        const float* h_before = s.h_before + block * s.h_before_stride;
        float* dh = s.dh + block * s.d_stride;
        const std::int64_t valid = valid_units(s, block);
        // What training kept lies far away: the next block is asked for meanwhile.
        const GruBlocks next(block + 1);
        const std::int64_t gate_ahead = (next.z - at.z) * s.gates_stride;
        const std::int64_t candidate_ahead = (next.h - at.h) * s.gates_stride;
        for (std::int64_t row = 0; row < s.rows;
             ++row, z += kL, r += kL, recurrent += kL, apart += kL, h_before += kL, dh += kL) {
            const unsigned control = control_of(s, row);
            __builtin_prefetch(z + gate_ahead);
            __builtin_prefetch(r + gate_ahead);
            __builtin_prefetch(recurrent + candidate_ahead);
            __builtin_prefetch(apart + s.gates_stride);
            __builtin_prefetch(h_before + s.h_before_stride);
            const Vec d_h = output_gradient(s, block, row, control);
            if (!is_updated(control)) {
                d_h.store(dh);
                float* const gradients[4] = {z, r, recurrent, apart};
                for (float* const gradient : gradients) Vec::zero().store(gradient);
                continue;
            }
            const Vec kept_z = Vec::load(z);
            const Vec kept_r = Vec::load(r);
            const Vec kept_g = Vec::load(apart);
            const Vec update = act.kept_gate(kept_z);
            const Vec reset = act.kept_gate(kept_r);
            const Vec d_sum = d_h * (Vec::set(1.0F) - update) * act.candidate_derivative(kept_g);
            store_padded(d_h * (Vec::load(h_before) - act.kept_candidate(kept_g)) * act.gate_derivative(kept_z), z,
                         valid);
            store_padded(d_sum * Vec::load(recurrent) * act.gate_derivative(kept_r), r, valid);
            store_padded(d_sum * reset, recurrent, valid);
            store_padded(d_sum, apart, valid);
            store_padded(d_h * update, dh, valid);
        }
    }
};

// `apart` holds r h, which the second phase multiplies with R_h; training keeps it, and z, r and the candidate.
struct GruBeforeCell {
    static constexpr int kGates = 2, kCandidates = 1;

    template <class Gates>
    static void reset(const CellStep& s, const Gates& act, std::int64_t block) {
        float* r = s.gates + GruBlocks(block).r * s.gates_stride;
        float* apart = s.apart + block * s.gates_stride;
        const float* h = s.h_masked + block * s.h_in_stride;
        for (std::int64_t row = 0; row < s.rows; ++row, r += kL, apart += kL, h += kL) {
            if (!is_updated(control_of(s, row))) {
                Vec::zero().store(apart);
                continue;
            }
            const Vec reset = act.gate(Vec::load(r));
            store_padded(reset * Vec::load(h), apart, valid_units(s, block));
            if (Gates::kKeepValues && s.training) reset.store(r);
        }
    }

    template <class Gates>
    static void forward(const CellStep& s, const Gates& act, std::int64_t block) {
        const GruBlocks at(block);
        float* z = s.gates + at.z * s.gates_stride;
        float* candidate = s.gates + at.h * s.gates_stride;
        const float* h_in = s.h_in + block * s.h_in_stride;
        float* h_out = s.h_out + block * s.h_out_stride;
        for (std::int64_t row = 0; row < s.rows; ++row, z += kL, candidate += kL, h_in += kL, h_out += kL) {
            const unsigned control = control_of(s, row);
            Vec h = Vec::load(h_in);
            if (is_updated(control)) {
                const Vec update = act.gate(Vec::load(z));
                const Vec g = act.candidate(Vec::load(candidate));
                h = gru_mix(update, h, g);
                if (Gates::kKeepValues && s.training) {
                    update.store(z);
                    g.store(candidate);
                }
            }
            h.store(h_out);
            emit(s, block, row, control, h);
        }
    }

    // Gradients of z and of the candidate. The reset gate's follows in reset_backward.
    template <class Gates>
    static void backward(const CellStepBackward& s, const Gates& act, std::int64_t block) {
        const GruBlocks at(block);
        float* z = s.gates + at.z * s.gates_stride;
        float* candidate = s.gates + at.h * s.gates_stride;
        const float* h_before = s.h_before + block * s.h_before_stride;
        float* dh = s.dh + block * s.d_stride;
        const std::int64_t valid = valid_units(s, block);
        for (std::int64_t row = 0; row < s.rows; ++row, z += kL, candidate += kL, h_before += kL, dh += kL) {
            const unsigned control = control_of(s, row);
            const Vec d_h = output_gradient(s, block, row, control);
            if (!is_updated(control)) {
                d_h.store(dh);
                Vec::zero().store(z);
                Vec::zero().store(candidate);
                continue;
            }
            const Vec kept_z = Vec::load(z);
            const Vec kept_g = Vec::load(candidate);
            const Vec update = act.kept_gate(kept_z);
            store_padded(d_h * (Vec::load(h_before) - act.kept_candidate(kept_g)) * act.gate_derivative(kept_z), z,
                         valid);
            store_padded(d_h * (Vec::set(1.0F) - update) * act.candidate_derivative(kept_g), candidate, valid);
            store_padded(d_h * update, dh, valid);
        }
    }

    // From the gradient of r h (s.d_reset): that of the reset gate, and what passes to the masked h.
    template <class Gates>
    static void reset_backward(const CellStepBackward& s, const Gates& act, std::int64_t block) {
        float* r = s.gates + GruBlocks(block).r * s.gates_stride;
        const float* d_reset = s.d_reset + block * s.d_stride;
        const float* h = s.h_masked + block * s.h_before_stride;
        float* d_masked = s.d_masked + block * s.d_stride;
        const std::int64_t valid = valid_units(s, block);
        for (std::int64_t row = 0; row < s.rows; ++row, r += kL, d_reset += kL, h += kL, d_masked += kL) {
            if (!is_updated(control_of(s, row))) {
                Vec::zero().store(r);
                continue;
            }
            const Vec kept = Vec::load(r);
            const Vec d = Vec::load(d_reset);
            store_padded(d * Vec::load(h) * act.gate_derivative(kept), r, valid);
            store_padded(Vec::fma(d, act.kept_gate(kept), Vec::load(d_masked)), d_masked, valid);
        }
    }
};

// The candidates' part of a product over all pairs; its pairs count the groups of column blocks.
inline Product of_candidates(Product p) {
    constexpr std::int64_t kPairs = 3;  // of a group, the candidate's last
    p.w = p.w.from_pair(kPairs - 1).every(kPairs);
    p.c += 2 * (kPairs - 1) * p.c_stride;
    if (p.start == Start::rows) p.start_rows.data += 2 * (kPairs - 1) * p.start_rows.stride;
    p.c_pair_blocks = p.start_pair_blocks = 2 * kPairs;
    return p;
}

void gru_before_reset(const CellStep& s) {
    with_activations(s, [&](const auto& act) {
        Product p = recurrent_product(s, s.h_masked, s.h_in_stride);
        each_part(s, 2, [&](std::int64_t begin, std::int64_t end) {
            p.pair_begin = pairs_before<GruBeforeCell>(begin);
            p.pair_end = p.pair_begin + 2;
            product(p);
            for (std::int64_t block = begin; block < end; ++block) GruBeforeCell::reset(s, act, block);
        });
    });
}

void gru_before_step(const CellStep& s) {
    with_activations(s, [&](const auto& act) {
        Product p = of_candidates(recurrent_product(s, s.apart, s.gates_stride));
        each_part(s, blocks_at_once<1>(s.rows), [&](std::int64_t begin, std::int64_t end) {
            p.pair_begin = begin / 2;
            p.pair_end = end / 2;
            product(p);
            for (std::int64_t block = begin; block < end; ++block) GruBeforeCell::forward(s, act, block);
        });
    });
}

void gru_before_reset_backward(const CellStepBackward& s) {
    with_activations(s, [&](const auto& act) {
        for (std::int64_t block = s.block_begin; block < s.block_end; ++block)
            GruBeforeCell::reset_backward(s, act, block);
    });
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
