// Native calls that run without the interpreter lock, and who waits for them (floor 3). The counts are read and written
// under that lock alone.
#include <chrono>
#include <thread>

#include "bindings/bindings.h"
#include "core/fork.h"

namespace lstm_native::bindings {

namespace {

int calls = 0;
int waiting = 0;

void let_others_run() {
    const py::gil_scoped_release release;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
}

struct Waiting {
    Waiting() { ++waiting; }
    ~Waiting() { --waiting; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
};

}  // namespace

void count_calls_over_forks() {
    // A child has none of the threads that made them.
    core::run_in_child([] { calls = waiting = 0; });
}

CallWithoutLock::CallWithoutLock() {
    while (waiting > 0) let_others_run();  // else those who wait might do so for ever
    ++calls;
}

CallWithoutLock::~CallWithoutLock() { --calls; }

void wait_for_calls() {
    const Waiting guard;
    while (calls > 0) {
        let_others_run();
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
}

}  // namespace lstm_native::bindings
