// Locks that a fork must not tear (floor 0).
#pragma once

#include <mutex>

namespace lstm_native::core {

// From now on every fork waits for `mutex`, and parent and child go on with it unlocked: no child inherits it locked by
// a thread that it does not have. The mutex lives for ever and nothing else is locked under it. std::bad_alloc when the
// system refuses.
void hold_over_fork(std::mutex& mutex);

// Forks between this process and the one that first called hold_over_fork: a value that has changed since tells a
// child.
int forks() noexcept;

// From now on a child begins with `function` after every fork. std::bad_alloc when the system refuses.
void run_in_child(void (*function)());

}  // namespace lstm_native::core
