// All steps of an LSTM with tanh and sigmoid in one launch, for up to kMostUnits units (floor 1, CUDA; planner.h says
// how a block works).
#pragma once

#include "cuda/cells.h"
#include "cuda/launch.h"
#include "cuda/one_launch.h"
#include "cuda/planner.h"
#include "cuda/steps.h"

namespace lstm_native::cuda {

// kRows rows of the batch a block.
template <int kRows>
struct LstmSequence {
    StepsForward all;

    static constexpr int kHeld = held_of(kRows);
    struct Held {
        float weight[kHeld];
        float bias;
    };

    // Block `number` of the call.
    template <class B>
    LSTM_NATIVE_HOST_DEVICE void run(const B& block, std::int64_t number) const {
        const StepForward& first = all.first;
        const int H = static_cast<int>(first.H);
        const int columns = 4 * H;
        const std::int64_t begin = number * kRows;
        const int rows = static_cast<int>(all.B - begin < kRows ? all.B - begin : kRows);
        // Shared: h of the rows, zero behind H; the sums of the gates; the rows of the kernel that are not held.
        float* const h = block.shared;
        float* const sums = h + kRows * kMostUnits;
        float* const rest = sums + kRows * columns;
        const float* const R = all.recurrent_kernel;

        PerThread<Held> held(columns);
        block.each(columns, [&](int n) {
            Held& mine = held(n);
            LSTM_NATIVE_UNROLL()
            for (int k = 0; k < kHeld; ++k) mine.weight[k] = k < H ? R[k * columns + n] : 0.0F;
            mine.bias = or_zero(first.bias, n);
            for (int k = kHeld; k < H; ++k) rest[(k - kHeld) * columns + n] = R[k * columns + n];
        });
        block.each(kRows * kMostUnits, [&](int i) {
            const int row = i / kMostUnits;
            const int j = i % kMostUnits;
            h[i] = row < rows && j < H ? first.masked[(begin + row) * H + j] : 0.0F;
        });
        block.meet();

        for (std::int64_t step = 0; step < all.steps; ++step) {
            StepForward s = all.at(step);
            block.each(columns, [&](int n) {
                float x[kRows];  // asked for first: it comes from far
                LSTM_NATIVE_UNROLL()
                for (int r = 0; r < kRows; ++r) {
                    const std::int64_t b = begin + r;
                    const std::int64_t from = s.index == nullptr || r >= rows ? b : std::int64_t{s.index[b * s.T]};
                    x[r] = r < rows ? s.x[from * s.x_stride + n] : 0.0F;
                }
                const Held& mine = held(n);
                float sum[kRows] = {};
                LSTM_NATIVE_UNROLL()
                for (int k = 0; k < kHeld; ++k) {
                    LSTM_NATIVE_UNROLL()
                    for (int r = 0; r < kRows; ++r) sum[r] += mine.weight[k] * h[r * kMostUnits + k];
                }
                LSTM_NATIVE_UNROLL(kRows == 4 ? 4 : 8)  // of four rows eight need more registers than there are
                for (int k = kHeld; k < H; ++k) {
                    const float weight = rest[(k - kHeld) * columns + n];
                    LSTM_NATIVE_UNROLL()
                    for (int r = 0; r < kRows; ++r) sum[r] += weight * h[r * kMostUnits + k];
                }
                LSTM_NATIVE_UNROLL()
                for (int r = 0; r < kRows; ++r)
                    if (r < rows) sums[r * columns + n] = sum[r] + (x[r] + mine.bias);
            });
            block.meet();
            s.x = nullptr;
            s.bias = nullptr;
            s.recurrent = sums - begin * columns;  // row b of the batch is row b - begin of the block
            block.each(rows * H, [&](int i) {
                const int row = i / H;
                const int j = i - row * H;
                const LstmForward<CommonActivations> cell{s, {}};
                h[row * kMostUnits + j] = cell((begin + row) * H + j);
            });
            block.meet();
        }
    }
};

// As LstmSequence. Thread q H + j sums what the gradients of gate q give to h_j; the four sums come together where the
// step before reads them.
template <int kRows>
struct LstmSequenceBackward {
    StepsBackward all;

    static constexpr int kHeld = held_of(kRows);
    static constexpr int kWidth = 4 * kMostUnits;
    struct Held {
        float weight[kHeld];
    };

    // Block `number` of the call.
    template <class B>
    LSTM_NATIVE_HOST_DEVICE void run(const B& block, std::int64_t number) const {
        const int H = static_cast<int>(all.first.H);
        const int columns = 4 * H;
        const std::int64_t begin = number * kRows;
        const int rows = static_cast<int>(all.B - begin < kRows ? all.B - begin : kRows);
        // Shared: gradients of the gates, each block of H at a fixed place with zeros behind it; partial sums;
        // gradients of the states; the part of the kernel that is not held.
        float* const d_gates = block.shared;
        float* const partial = d_gates + kRows * kWidth;
        float* const direct = partial + kRows * columns;
        float* const through = direct + kRows * H;
        float* const dc = through + kRows * H;
        float* const rest = dc + kRows * H;
        const float* const R = all.recurrent_kernel;

        PerThread<Held> held(columns);
        block.each(columns, [&](int n) {
            const float* const row = R + n % H * columns + n / H * H;
            Held& mine = held(n);
            LSTM_NATIVE_UNROLL()
            for (int k = 0; k < kHeld; ++k) mine.weight[k] = k < H ? row[k] : 0.0F;
            for (int k = kHeld; k < H; ++k) rest[(k - kHeld) * columns + n] = row[k];
        });
        block.each(kRows * kWidth, [&](int i) { d_gates[i] = 0.0F; });
        block.meet();

        const auto sum_of_gates = [&](int row, int j) {
            const float* const sums = partial + row * columns + j;
            return (sums[0] + sums[H]) + (sums[2 * H] + sums[3 * H]);
        };
        for (std::int64_t step = all.steps - 1; step >= 0; --step) {
            StepBackward s = all.at(step);
            // Row b of the batch is row b - begin of the block.
            s.direct = direct - begin * H;
            s.through = through - begin * H;
            s.dc = dc - begin * H;
            block.each(rows * H, [&](int i) {
                const int row = i / H;
                const int j = i - row * H;
                if (s.last == 0) through[i] = sum_of_gates(row, j);
                const LstmBackward<CommonActivations> cell{s, {}};
                const Gates d = cell(begin * H + i);
                for (int gate = 0; gate < 4; ++gate) d_gates[row * kWidth + gate * kMostUnits + j] = d.gate[gate];
            });
            block.meet();
            block.each(columns, [&](int n) {
                const Held& mine = held(n);
                const float* const d = d_gates + n / H * kMostUnits;
                float sum[kRows] = {};
                LSTM_NATIVE_UNROLL()
                for (int k = 0; k < kHeld; ++k) {
                    LSTM_NATIVE_UNROLL()
                    for (int r = 0; r < kRows; ++r) sum[r] += mine.weight[k] * d[r * kWidth + k];
                }
                LSTM_NATIVE_UNROLL(8)
                for (int k = kHeld; k < H; ++k) {
                    const float weight = rest[(k - kHeld) * columns + n];
                    LSTM_NATIVE_UNROLL()
                    for (int r = 0; r < kRows; ++r) sum[r] += weight * d[r * kWidth + k];
                }
                LSTM_NATIVE_UNROLL()
                for (int r = 0; r < kRows; ++r) partial[r * columns + n] = sum[r];
            });
            block.meet();
        }
        block.each(rows * H, [&](int i) {
            const int row = i / H;
            all.first.through[begin * H + i] = sum_of_gates(row, i - row * H);
            all.first.direct[begin * H + i] = direct[i];
            all.first.dc[begin * H + i] = dc[i];
        });
    }
};

// The blocks of calls that are alike, in one launch.
template <class Sequence, int kCalls>
struct SequencesOfCalls {
    Sequence of[kCalls];
    std::int64_t blocks;  // of a call

    template <class B>
    LSTM_NATIVE_HOST_DEVICE void operator()(const B& block) const {
        const std::int64_t number = block.number();
        const int call = kCalls == 2 && number >= blocks ? 1 : 0;
        of[call].run(block, number - call * blocks);
    }
};

template <class Sequence, int kCalls, class Steps>
void run_sequences(const LstmPlan& plan, const LaunchedCall<Steps>* calls) {
    SequencesOfCalls<Sequence, kCalls> all{};
    all.blocks = (calls[0].all->B + plan.rows - 1) / plan.rows;
    for (int n = 0; n < kCalls; ++n) all.of[n] = {*calls[n].all};
    for_each_block(kCalls * all.blocks, plan.threads, plan.shared_floats, all);
}

template <template <int> class Sequence, int kCalls, class Steps>
void run_lstm_steps(const LstmPlan& plan, const LaunchedCall<Steps>* calls) {
    switch (plan.rows) {
        case 1:
            return run_sequences<Sequence<1>, kCalls>(plan, calls);
        case 2:
            return run_sequences<Sequence<2>, kCalls>(plan, calls);
        default:
            return run_sequences<Sequence<4>, kCalls>(plan, calls);
    }
}

}  // namespace lstm_native::cuda
