// Which kernel runs which plan backward, and grids that meet (floor 1, CUDA).
#include "cuda/one_launch_parts.h"

namespace lstm_native::cuda {

bool run_in_one_launch(const RecurrentPlan& plan, const LaunchedCall<StepsBackward>* calls) {
    if (plan.blocks.rows > 0) return run_blocks<LstmSequenceBackward>(plan, calls);
    return plan.grid.exchange == Exchange::meeting ? run_grids<false>(plan, calls) : run_marked_grids(plan, calls);
}

}  // namespace lstm_native::cuda
