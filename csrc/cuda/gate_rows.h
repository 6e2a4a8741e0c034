// Weights whose gates lie in rows (floor 1, CUDA): the drivers know columns only, so LN_ROWS is turned around on the
// way in and, with the gradients, on the way out.
#pragma once

#include "cuda/recurrent_parts.h"

namespace lstm_native::cuda {

// Where column j of ours stands among the rows, and the other way round: r comes before z there.
struct GateOrder {
    std::int64_t H = 0;
    bool swaps = false;

    LSTM_NATIVE_HOST_DEVICE std::int64_t operator()(std::int64_t j) const {
        return !swaps || j >= 2 * H ? j : j < H ? j + H : j - H;
    }
};

// Rows of the bias: of the inputs, and with the reset gate after it, of the recurrent product.
inline std::int64_t biases_of(const LnRecurrentConfig& config) { return config.cell == LN_CELL_GRU ? 2 : 1; }

inline GateOrder gate_order(const LnRecurrentConfig& config) { return {config.H, gates_of(config.cell) == 3}; }

// (K, N) from (N, K).
inline Array<float> columns_of_rows(const GateOrder& order, std::int64_t K, std::int64_t N, const float* rows) {
    Array<float> made(K * N);
    float* const to = made.get();
    const GateOrder row_of = order;
    for_each(
        K * N, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t k = i / N;
            to[i] = rows[row_of(i - k * N) * K + k];
        });
    return made;
}

// (count, N) with the columns in our order.
inline Array<float> ordered_bias(const GateOrder& order, std::int64_t count, std::int64_t N, const float* bias) {
    if (bias == nullptr) return {};
    Array<float> made(count * N);
    float* const to = made.get();
    const GateOrder place_of = order;
    for_each(
        count * N, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / N;
            to[i] = bias[row * N + place_of(i - row * N)];
        });
    return made;
}

// The weights of a layer with gates in columns: the caller's, or turned.
struct GatesInColumns {
    const float *kernel, *recurrent, *bias;

    GatesInColumns(const LnRecurrentConfig& config, std::int64_t P, std::int64_t N, const float* given_kernel,
                   const float* given_recurrent, const float* given_bias)
        : kernel(given_kernel), recurrent(given_recurrent), bias(given_bias) {
        if (config.layout != LN_ROWS) return;
        const GateOrder order = gate_order(config);
        memory_[0] = columns_of_rows(order, config.I, N, given_kernel);
        memory_[1] = columns_of_rows(order, P, N, given_recurrent);
        memory_[2] = ordered_bias(order, biases_of(config), N, given_bias);
        kernel = memory_[0].get();
        recurrent = memory_[1].get();
        bias = memory_[2].get();
    }

private:
    Array<float> memory_[3];
};

// A gradient in columns, written or added to the caller's rows.
inline void gradient_to_rows(const GateOrder& order, std::int64_t K, std::int64_t N, const float* columns,
                             bool accumulate, float* rows) {
    const GateOrder column_of = order;
    for_each(
        K * N, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / K;
            const float d = columns[(i - row * K) * N + column_of(row)];
            rows[i] = accumulate ? rows[i] + d : d;
        });
}

// run(b, d_projection), with gradients of the weights in columns, wherever the caller has them.
template <class F>
void with_gates_in_columns(const Pack& pack, const LnRecurrentBackward& b, float* d_projection, F run) {
    if (pack.config.layout != LN_ROWS) return run(b, d_projection);
    const GateOrder order = gate_order(pack.config);
    const std::int64_t H = pack.config.H;
    const std::int64_t N = pack.weight_columns();
    const std::int64_t biases = biases_of(pack.config);
    const bool accumulate = b.accumulate != 0;
    LnRecurrentBackward columns = b;
    float* projection = d_projection;
    Array<float> memory[4];
    const auto take = [&](Array<float>& array, std::int64_t count, float*& gradient) {
        if (gradient == nullptr) return;
        array = Array<float>(count);
        gradient = array.get();
        if (accumulate) zero(static_cast<std::size_t>(count) * sizeof(float), gradient);
    };
    take(memory[0], pack.config.I * N, columns.d_kernel);
    take(memory[1], pack.P * N, columns.d_recurrent_kernel);
    take(memory[2], biases * N, columns.d_bias);
    take(memory[3], H * pack.P, projection);
    run(columns, projection);
    const auto give = [&](const GateOrder& gates, std::int64_t k, std::int64_t n, const float* from, float* to) {
        if (to != nullptr) gradient_to_rows(gates, k, n, from, accumulate, to);
    };
    give(order, pack.config.I, N, columns.d_kernel, b.d_kernel);
    give(order, pack.P, N, columns.d_recurrent_kernel, b.d_recurrent_kernel);
    for (std::int64_t row = 0; b.d_bias != nullptr && row < biases; ++row)
        give(order, 1, N, columns.d_bias + row * N, b.d_bias + row * N);
    give(GateOrder{}, H, pack.P, projection, d_projection);
}

}  // namespace lstm_native::cuda
