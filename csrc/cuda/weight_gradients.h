// Gradients of the weights of a recurrent call and of its inputs, when all its steps have gone back (floor 1, CUDA):
// one product each over all steps.
#pragma once

#include "cuda/operands.h"
#include "cuda/recurrent_parts.h"
#include "cuda/reduce.h"
#include "cuda/stepwise.h"

namespace lstm_native::cuda {

inline void bias_gradient(const Pack& pack, std::int64_t rows, const float* gates, bool accumulate, float* d_bias) {
    const std::int64_t H = pack.config.H;
    const std::int64_t columns = pack.columns();
    const std::int64_t N = pack.weight_columns();
    column_sums(
        rows, N, LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float { return gates[row * columns + j]; },
        accumulate, d_bias);
    if (pack.config.cell != LN_CELL_GRU) return;
    column_sums(
        rows, N,
        LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float {
            return gates[row * columns + (j < 2 * H ? j : j + H)];
        },
        accumulate, d_bias + N);
}

// `gates`: the gradients of the gates as operands, laid out as they are.
template <class T>
void weight_gradients(const Pack& pack, const LnRecurrentBackward& b, const States& states, const T* gates) {
    const LnRecurrentForward& f = *b.forward;
    const std::int64_t H = pack.config.H;
    const std::int64_t P = pack.P;
    const std::int64_t I = pack.config.I;
    const std::int64_t N = pack.weight_columns();
    const std::int64_t columns = pack.columns();
    const std::int64_t rows = f.steps * f.B;
    const float beta = b.accumulate != 0 ? 1.0F : 0.0F;
    const MatrixOf<T> d_gates{gates, columns};

    if (b.d_recurrent_kernel != nullptr) {
        Array<T> memory;
        MatrixOf<T> h = operand(rows, P, states.masked == nullptr ? states.h : states.masked, P, memory);
        h.transposed = true;
        float* const d_R = b.d_recurrent_kernel;
        if (!pack.is_gru()) {
            product(P, N, rows, h, d_gates, beta, d_R, N);
        } else {
            product(H, 2 * H, rows, h, d_gates, beta, d_R, N);
            if (pack.config.cell == LN_CELL_GRU) {
                product(H, H, rows, h, {gates + 3 * H, columns}, beta, d_R + 2 * H, N);
            } else {
                product(H, H, rows, {gates + 3 * H, columns, true}, {gates + 2 * H, columns}, beta, d_R + 2 * H, N);
            }
        }
    }
    if (b.d_bias != nullptr) bias_gradient(pack, rows, states.gates, b.accumulate != 0, b.d_bias);

    const MatrixOf<T> kernel{pack.kernel.get<T>(), N, true};
    if (f.index != nullptr) {
        const Array<std::int32_t> numbers(rows);
        row_numbers(f, numbers.get());
        const Array<float> d_projected(f.R * N);
        sums_by_id(rows, N, f.R, numbers.get(), states.gates, columns, d_projected.get());
        Array<T> memory;
        const MatrixOf<T> d_rows = operand(f.R, N, d_projected.get(), N, memory);
        if (b.d_kernel != nullptr) {
            Array<T> table_memory;
            MatrixOf<T> table = operand(f.R, I, f.inputs, I, table_memory);
            table.transposed = true;
            product(I, N, f.R, table, d_rows, beta, b.d_kernel, N);
        }
        if (b.d_inputs != nullptr) product(f.R, I, N, d_rows, kernel, 0.0F, b.d_inputs, I);
        return;
    }
    if (b.d_kernel != nullptr) {
        Array<T> memory;
        const T* const inputs = inputs_of(f, I, f.first, f.steps, memory);
        product(I, N, rows, {inputs, I, true}, d_gates, beta, b.d_kernel, N);
    }
    if (b.d_inputs != nullptr && lie_step_by_step(f, I)) {
        product(rows, I, N, d_gates, kernel, 0.0F, b.d_inputs + f.first * f.B * I, I);
    } else if (b.d_inputs != nullptr) {
        const Array<float> d_rows(rows * I);
        product(rows, I, N, d_gates, kernel, 0.0F, d_rows.get(), I);
        scatter_inputs(f, I, d_rows.get(), b.d_inputs);
    }
}

// What only the general LSTM has. Each may be null.
template <class T>
void general_weight_gradients(const Pack& pack, std::int64_t B, const States& states, const BackwardMemory<T>& steps,
                              bool accumulate, float* d_peepholes, float* d_projection) {
    const std::int64_t H = pack.config.H;
    const std::int64_t P = pack.P;
    if (d_peepholes != nullptr) {
        const bool coupled = pack.general.config.coupled != 0;
        const float* const sums = steps.peephole_sums.get();
        column_sums(
            B, (coupled ? 2 : 3) * H,
            LSTM_NATIVE_KERNEL(std::int64_t b, std::int64_t j)->float {
                return sums[b * 3 * H + (coupled && j >= H ? j + H : j)];
            },
            accumulate, d_peepholes);
    }
    if (d_projection == nullptr) return;
    const std::int64_t rows = states.gate_steps * B;
    Array<T> memory;
    MatrixOf<T> cell = operand(rows, H, states.cell, H, memory);
    cell.transposed = true;
    product(H, P, rows, cell, {either(steps.d_projected.get(), steps.d_projected_operand.get()), P},
            accumulate ? 1.0F : 0.0F, d_projection, P);
}

}  // namespace lstm_native::cuda
