// All steps of an LSTM in one launch, for up to kMostUnits units (floor 1, CUDA; planner.h says how a block works).
#pragma once

#include "cuda/cells.h"
#include "cuda/launch.h"
#include "cuda/planner.h"

namespace lstm_native::cuda {

// Some steps of a call, one after the other: the arguments of the first, and how far those of the next lie away.
struct LstmSteps {
    StepForward first;
    std::int64_t B, steps;
    std::int64_t x_step, gate_step, state_step, output_step, index_step;
    const float* recurrent_kernel;  // (H, 4 H)
    // The last step of these: whether the call goes on after it, and what only the last step of the call writes.
    bool goes_on;
    float *last_h, *last_c, *last_output;

    LSTM_NATIVE_HOST_DEVICE StepForward at(std::int64_t step) const {
        StepForward s = first;
        const bool last = step + 1 == steps;
        s.x += step * x_step;
        if (s.index != nullptr) s.index += step * index_step;
        if (s.control != nullptr) s.control += step;
        s.next = s.control == nullptr || (last && !goes_on) ? nullptr : s.control + 1;
        s.gates += step * gate_step;
        s.h_in += step * state_step;
        s.h_out += step * state_step;
        s.c_in += step * state_step;
        s.c_out += step * state_step;
        if (s.masked_out != nullptr) s.masked_out += step * state_step;
        if (s.output != nullptr) s.output += step * output_step;
        if (last && last_output != nullptr) s.output = last_output;
        s.last_h = last ? last_h : nullptr;
        s.last_c = last ? last_c : nullptr;
        return s;
    }
};

// kRows rows of the batch a block.
template <int kRows, class Act>
struct LstmSequence {
    LstmSteps all;
    Act act;

    static constexpr int kHeld = held_of(kRows);
    struct Held {
        float weight[kHeld];
        float bias;
    };

    template <class B>
    LSTM_NATIVE_HOST_DEVICE void operator()(const B& block) const {
        const StepForward& first = all.first;
        const int H = static_cast<int>(first.H);
        const int columns = 4 * H;
        const std::int64_t begin = block.number() * kRows;
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
                LSTM_NATIVE_UNROLL(8)
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
                const LstmForward<Act> cell{s, act};
                h[row * kMostUnits + j] = cell((begin + row) * H + j);
            });
            block.meet();
        }
    }
};

template <class Act>
void run_lstm_steps(const LstmPlan& plan, const LstmSteps& all, Act act) {
    const std::int64_t blocks = (all.B + plan.rows - 1) / plan.rows;
    switch (plan.rows) {
        case 1:
            return for_each_block(blocks, plan.threads, plan.shared_floats, LstmSequence<1, Act>{all, act});
        case 2:
            return for_each_block(blocks, plan.threads, plan.shared_floats, LstmSequence<2, Act>{all, act});
        default:
            return for_each_block(blocks, plan.threads, plan.shared_floats, LstmSequence<4, Act>{all, act});
    }
}

}  // namespace lstm_native::cuda
