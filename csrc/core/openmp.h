// Teams of the threads of an OpenMP runtime that another library has brought into the process (floor 0). After each
// parallel region these spin for milliseconds; what else wants a processor meanwhile has to share it with them.
#pragma once

#include <string>

#include "core/thread_pool.h"

namespace lstm_native::core {

// Looks for a runtime in `library` and the libraries that it needs; false where there is none. To be called before
// other threads use it.
bool open_openmp(const std::string& library);

// As run_team; false, and nothing was run, where no runtime is open. It does not survive a fork: a child has none.
bool run_openmp_team(int want, TeamBody body, void* argument) noexcept;

}  // namespace lstm_native::core
