// All steps of a recurrent call in one launch, where there is a way (floor 1, CUDA).
#pragma once

#include "cuda/planner.h"
#include "cuda/steps.h"

namespace lstm_native::cuda {

// Runs the steps as the plan has it; false, with nothing done, where the device cannot after all: then later plans have
// no grids. `recurrent_kernel` is of the operands' type, that of `all` float32.
bool run_in_one_launch(const RecurrentPlan& plan, const StepsForward& all, const void* recurrent_kernel);
bool run_in_one_launch(const RecurrentPlan& plan, const StepsBackward& all, const void* recurrent_kernel);

}  // namespace lstm_native::cuda
