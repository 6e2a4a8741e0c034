// Which kernel runs which plan forward (floor 1, CUDA).
#include "cuda/one_launch_parts.h"

namespace lstm_native::cuda {
namespace {

template <int kCalls>
bool run(const RecurrentPlan& plan, const LaunchedCall<StepsForward>* calls) {
    if (plan.blocks.rows > 0) {
        run_lstm_steps<LstmSequence, kCalls>(plan.blocks, calls);
        return true;
    }
    return with_grid<false>(plan, [&](auto cell, auto arithmetic) {
        return run_grid<GridForward<decltype(cell), decltype(arithmetic)>, kCalls>(plan, calls);
    });
}

}  // namespace

bool run_in_one_launch(const RecurrentPlan& plan, const LaunchedCall<StepsForward>* calls) {
    return plan.shape.calls == 2 ? run<2>(plan, calls) : run<1>(plan, calls);
}

}  // namespace lstm_native::cuda
