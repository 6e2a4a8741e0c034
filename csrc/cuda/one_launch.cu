// Which kernel runs which plan (floor 1, CUDA).
#include "cuda/one_launch.h"

#include "cuda/grid_sequence.h"
#include "cuda/lstm_sequence.h"

namespace lstm_native::cuda {
namespace {

// function(Cell{}, Arithmetic{}) of a plan with a grid.
template <bool kBackward, class F>
bool with_grid(const RecurrentPlan& plan, F function) {
    const auto with_arithmetic = [&](auto cell) {
        switch (plan.shape.precision) {
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

// For the tiles that are streamed.
template <class Arithmetic>
Array<typename Arithmetic::Word> streamed_tiles(const GridPlan& grid) {
    if (grid.streamed_tiles == 0) return {};
    return Array<typename Arithmetic::Word>(std::int64_t{grid.groups} * grid.members * kGridWarps * kWarp *
                                            grid.streamed_tiles * Arithmetic::kWords);
}

}  // namespace

bool run_in_one_launch(const RecurrentPlan& plan, const StepsForward& all, const void* recurrent_kernel) {
    if (plan.blocks.rows > 0) {
        run_lstm_steps<LstmSequence>(plan.blocks, all);
        return true;
    }
    const GridPlan& grid = plan.grid;
    return with_grid<false>(plan, [&](auto cell, auto arithmetic) {
        using Arithmetic = decltype(arithmetic);
        using Operand = typename Arithmetic::Operand;
        const Array<Operand> handed(2 * all.B * grid.stride);
        const auto streamed = streamed_tiles<Arithmetic>(grid);
        return for_each_step_in_grid(
            {grid.members, grid.groups, grid.shared_bytes}, all.steps,
            GridForward<decltype(cell), Arithmetic>{all, grid, plan.shape.gates * plan.shape.H,
                                                    static_cast<const typename Arithmetic::Weight*>(recurrent_kernel),
                                                    streamed.get(), handed.get()});
    });
}

bool run_in_one_launch(const RecurrentPlan& plan, const StepsBackward& all, const void* recurrent_kernel) {
    if (plan.blocks.rows > 0) {
        run_lstm_steps<LstmSequenceBackward>(plan.blocks, all);
        return true;
    }
    const GridPlan& grid = plan.grid;
    return with_grid<true>(plan, [&](auto cell, auto arithmetic) {
        using Arithmetic = decltype(arithmetic);
        const Array<float> handed(grid.handed_floats());
        const auto streamed = streamed_tiles<Arithmetic>(grid);
        return for_each_step_in_grid(
            {grid.members, grid.groups, grid.shared_bytes}, all.steps,
            GridBackward<decltype(cell), Arithmetic>{all, grid, plan.shape.gates * plan.shape.H,
                                                     static_cast<const typename Arithmetic::Weight*>(recurrent_kernel),
                                                     streamed.get(), handed.get()});
    });
}

}  // namespace lstm_native::cuda
