// How many processors this process may use (floor 0).
#pragma once

namespace lstm_native::core {

// Processors in the affinity mask, no more than the cgroup's CPU quota (rounded down: a team that is larger than
// its quota is stopped in the middle of its barriers). At least 1.
int usable_processors();

// The processor that the calling thread runs on; -1 where the system does not tell.
int current_processor() noexcept;

// Moves the calling thread off `processor` where its mask allows another one; the mask is the same afterwards.
void leave_processor(int processor) noexcept;

}  // namespace lstm_native::core
