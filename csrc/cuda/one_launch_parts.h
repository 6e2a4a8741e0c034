// What both directions of one_launch.h share (floor 1, CUDA). A file for each, so that they compile side by side.
#pragma once

#include "cuda/grid_sequence.h"
#include "cuda/lstm_sequence.h"
#include "cuda/one_launch.h"

namespace lstm_native::cuda {

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
    return for_each_step_in_grid<Function, kCalls>({grid.members, grid.groups, grid.shared_bytes, grid.exchange},
                                                   calls[0].all->steps, functions);
}

}  // namespace lstm_native::cuda
