// All steps of a recurrent call in one launch, where there is a way (floor 1, CUDA).
#pragma once

#include "cuda/planner.h"
#include "cuda/steps.h"

namespace lstm_native::cuda {

template <class Steps>
struct LaunchedCall {
    const Steps* all;
    const void* recurrent_kernel;  // of the operands' type; that of `all` is float32
};

// Runs the steps of the plan's calls as it has it; false, with nothing done, where the device cannot after all: then
// later plans have no grids.
bool run_in_one_launch(const RecurrentPlan& plan, const LaunchedCall<StepsForward>* calls);
bool run_in_one_launch(const RecurrentPlan& plan, const LaunchedCall<StepsBackward>* calls);

}  // namespace lstm_native::cuda
