// Steps of the LSTM with options (general_cells.h) for the drivers of recurrent layers (floor 1, CUDA): its kernels and
// the products with the projection.
#pragma once

#include "cuda/general_cells.h"
#include "cuda/operands.h"
#include "cuda/recurrent_parts.h"
#include "cuda/reduce.h"

namespace lstm_native::cuda {

inline LstmOptions lstm_options(const Pack& pack) {
    const std::int64_t H = pack.config.H;
    const bool coupled = pack.general.config.coupled != 0;
    const float* const peepholes = pack.general.peepholes.get();
    LstmOptions options{};
    options.coupled = coupled;
    options.projects = pack.projects();
    if (peepholes == nullptr) return options;
    options.peepholes[0] = peepholes;
    if (!coupled) options.peepholes[1] = peepholes + H;
    options.peepholes[2] = peepholes + (coupled ? 1 : 2) * H;
    return options;
}

template <class T>
class GeneralForward {
public:
    GeneralForward(const Pack& pack, std::int64_t batch)
        : pack_(pack),
          B_(batch),
          projected_(array_if<float>(pack.projects(), batch * pack.P)),
          cell_operand_(array_if<T>(pack.projects() && !kIsFloat<T>, batch * pack.config.H)) {}

    // A step after its product; `cell` as in LstmOptions, `h_operand` as in HandOn.
    void step(const StepForward& s, float* cell, T* h_operand) const {
        const AnyActivations act = general_activations(pack_);
        const std::int64_t H = pack_.config.H;
        const std::int64_t P = pack_.P;
        LstmOptions options = lstm_options(pack_);
        options.cell = cell;
        const GeneralLstmForward gates{s, act, options};
        if (!options.projects) return for_each(B_ * H, HandOn<GeneralLstmForward, T>{gates, h_operand});
        for_each(B_ * H, HandOn<GeneralLstmForward, T>{gates, cell_operand_.get()});
        const MatrixOf<T> taken{either(cell, cell_operand_.get()), H};
        product(B_, P, H, taken, {pack_.general.projection.get<T>(), P}, 0.0F, projected_.get(), P);
        StepForward of_h = s;
        of_h.H = P;
        for_each(B_ * P, HandOn<ProjectionForward, T>{{of_h, projected_.get()}, h_operand});
    }

private:
    const Pack& pack_;
    std::int64_t B_;
    Array<float> projected_;
    Array<T> cell_operand_;
};

template <class T>
class GeneralBackward {
public:
    GeneralBackward(const Pack& pack, std::int64_t batch, std::int64_t steps)
        : pack_(pack),
          B_(batch),
          d_projected_(array_if<float>(pack.projects(), steps * batch * pack.P)),
          d_projected_operand_(array_if<T>(pack.projects() && !kIsFloat<T>, steps * batch * pack.P)),
          d_cell_(array_if<float>(pack.projects(), batch * pack.config.H)) {
        const std::int64_t sums = pack.general.peepholes.get() == nullptr ? 0 : batch * 3 * pack.config.H;
        if (sums == 0) return;
        peephole_sums_ = Array<float>(sums);
        zero(static_cast<std::size_t>(sums) * sizeof(float), peephole_sums_.get());
    }

    // Step `step` of the call up to its product with the recurrent kernel; `operand` as in HandOnGates.
    void step(const StepBackward& s, std::int64_t step, T* operand) const {
        const std::int64_t H = pack_.config.H;
        const std::int64_t P = pack_.P;
        LstmOptions options = lstm_options(pack_);
        options.d_cell = d_cell_.get();
        options.peephole_gradients = peephole_sums_.get();
        if (options.projects) {
            StepBackward of_h = s;
            of_h.H = of_h.columns = P;
            of_h.gates = d_projected_.get() + step * B_ * P;
            T* const rounded_to = at(d_projected_operand_.get(), step * B_ * P);
            for_each(B_ * P, HandOnGates<ProjectionBackward, T>{{of_h}, rounded_to});
            const MatrixOf<T> projection{pack_.general.projection.get<T>(), P, true};
            product(B_, H, P, {either(of_h.gates, rounded_to), P}, projection, 0.0F, d_cell_.get(), H);
        }
        const GeneralLstmBackward gates{s, general_activations(pack_), options};
        for_each(B_ * H, HandOnGates<GeneralLstmBackward, T>{gates, operand});
    }

    // The gradients of what only these cells have, after all steps. Each may be null.
    void weight_gradients(const States& states, bool accumulate, float* d_peepholes, float* d_projection) const {
        const std::int64_t H = pack_.config.H;
        const std::int64_t P = pack_.P;
        if (d_peepholes != nullptr) {
            const bool coupled = pack_.general.config.coupled != 0;
            const float* const sums = peephole_sums_.get();
            column_sums(
                B_, (coupled ? 2 : 3) * H,
                LSTM_NATIVE_KERNEL(std::int64_t b, std::int64_t j)->float {
                    return sums[b * 3 * H + (coupled && j >= H ? j + H : j)];
                },
                accumulate, d_peepholes);
        }
        if (d_projection == nullptr) return;
        const std::int64_t rows = states.gate_steps * B_;
        Array<T> memory;
        MatrixOf<T> cell = operand(rows, H, states.cell, H, memory);
        cell.transposed = true;
        product(H, P, rows, cell, {either(d_projected_.get(), d_projected_operand_.get()), P}, accumulate ? 1.0F : 0.0F,
                d_projection, P);
    }

private:
    const Pack& pack_;
    std::int64_t B_;
    Array<float> d_projected_;  // gradients of the products with the projection
    Array<T> d_projected_operand_;
    Array<float> d_cell_, peephole_sums_;
};

}  // namespace lstm_native::cuda
