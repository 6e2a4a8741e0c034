// Grids whose blocks wait for marked numbers, backward (floor 1, CUDA).
#include "cuda/one_launch_parts.h"

namespace lstm_native::cuda {

bool run_marked_grids(const RecurrentPlan& plan, const LaunchedCall<StepsBackward>* calls) {
    return run_grids<true>(plan, calls);
}

}  // namespace lstm_native::cuda
