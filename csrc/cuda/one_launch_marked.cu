// Grids whose blocks wait for marked numbers, forward (floor 1, CUDA).
#include "cuda/one_launch_parts.h"

namespace lstm_native::cuda {

bool run_marked_grids(const RecurrentPlan& plan, const LaunchedCall<StepsForward>* calls) {
    return run_grids<true>(plan, calls);
}

}  // namespace lstm_native::cuda
