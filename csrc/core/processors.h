// How many processors this process may use (floor 0).
#pragma once

namespace lstm_native::core {

// Processors in the affinity mask, no more than the cgroup's CPU quota (rounded down: a team that is larger than
// its quota is stopped in the middle of its barriers). At least 1.
int usable_processors();

}  // namespace lstm_native::core
