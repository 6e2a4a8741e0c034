// What the files of one_launch.h share (floor 1, CUDA): one for each direction, and for each way that the blocks of a
// grid wait for each other, so that they compile side by side.
#pragma once

#include <type_traits>

#include "cuda/grid_backward.h"
#include "cuda/grid_forward.h"
#include "cuda/lstm_sequence.h"
#include "cuda/one_launch.h"

namespace lstm_native::cuda {

// All steps in blocks that own a slice of the batch each, with the plan's number of calls.
template <template <int> class Kernel, class Steps>
bool run_blocks(const RecurrentPlan& plan, const LaunchedCall<Steps>* calls) {
    if (plan.shape.calls == 2) {
        run_lstm_steps<Kernel, 2>(plan.blocks, calls);
    } else {
        run_lstm_steps<Kernel, 1>(plan.blocks, calls);
    }
    return true;
}

// function(Cell{}, Arithmetic{}) of a plan with a grid.
template <bool kBackward, class F>
bool with_grid(const RecurrentPlan& plan, F function) {
    const auto with_arithmetic = [&](auto cell) {
        switch (plan.grid.arithmetic) {
            case LN_FLOAT32:
                return function(cell, Float32{});
            case LN_TF32:
                return function(cell, Tf32{});
            case LN_FLOAT16:
                if constexpr (kBackward) {
                    return false;  // not reached: it is for inference
                } else {
                    return function(cell, Rounded16<Float16>{});
                }
            default:
                return function(cell, Rounded16<Bfloat16>{});
        }
    };
    switch (plan.cell) {
        case CellKind::lstm:
            return with_arithmetic(GridLstm{});
        case CellKind::gru:
            return with_arithmetic(GridGru{});
        case CellKind::simple_rnn:
            return with_arithmetic(GridSimpleRnn<CommonActivations>{});
        default:
            return with_arithmetic(GridSimpleRnn<ReluActivations>{});
    }
}

// GridForward or GridBackward of the plan's calls.
template <class Function, int kCalls, class Steps>
bool run_grid(const RecurrentPlan& plan, const LaunchedCall<Steps>* calls) {
    using Arithmetic = typename Function::Arithmetic;
    const GridPlan& grid = plan.grid;
    const std::int64_t streamed =
        std::int64_t{grid.groups} * grid.members * kGridWarps * kWarp * grid.streamed_tiles * Arithmetic::kWords;
    const std::int64_t handed = grid.handed_bytes(plan.shape.B, plan.shape.backward);
    const Array<unsigned char> all_handed(kCalls * handed);
    if (grid.exchange == Exchange::marked) zero(static_cast<std::size_t>(kCalls * handed), all_handed.get());
    Array<typename Arithmetic::Word> all_streamed;
    if (streamed > 0) all_streamed = Array<typename Arithmetic::Word>(kCalls * streamed);
    GridCalls<Function, kCalls> functions{};
    for (int n = 0; n < kCalls; ++n)
        functions.of[n] = {*calls[n].all,
                           grid,
                           plan.shape.gates * plan.shape.H,
                           static_cast<const typename Arithmetic::Weight*>(calls[n].recurrent_kernel),
                           all_streamed.get() + n * streamed,
                           all_handed.get() + n * handed};
    const GridShape shape{grid.members, grid.groups, grid.shared_bytes, grid.exchange == Exchange::cluster};
    return for_each_step_in_grid<Function, kCalls>(shape, static_cast<int>(calls[0].all->steps), functions);
}

template <bool kMarks, class Steps>
bool run_grids(const RecurrentPlan& plan, const LaunchedCall<Steps>* calls) {
    constexpr bool kBackward = std::is_same_v<Steps, StepsBackward>;
    return with_grid<kBackward>(plan, [&](auto cell, auto arithmetic) {
        using Cell = decltype(cell);
        using Arithmetic = decltype(arithmetic);
        using Function = std::conditional_t<kBackward, GridBackward<Cell, Arithmetic, kMarks>,
                                            GridForward<Cell, Arithmetic, kMarks>>;
        return plan.shape.calls == 2 ? run_grid<Function, 2>(plan, calls) : run_grid<Function, 1>(plan, calls);
    });
}

// run_grids<true>, each in a file of its own.
bool run_marked_grids(const RecurrentPlan& plan, const LaunchedCall<StepsForward>* calls);
bool run_marked_grids(const RecurrentPlan& plan, const LaunchedCall<StepsBackward>* calls);

}  // namespace lstm_native::cuda
