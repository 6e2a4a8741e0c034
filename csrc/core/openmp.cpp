#include "core/openmp.h"

#include <unistd.h>

#include "core/fp_mode.h"
#include "core/library.h"

namespace lstm_native::core {
namespace {

// GNU's binary interface, which LLVM's and Intel's runtimes have, too.
struct Runtime {
    void (*parallel)(void (*body)(void*), void* argument, unsigned threads, unsigned flags) = nullptr;
    int (*rank)() = nullptr;
    int (*team)() = nullptr;
    pid_t process = 0;
};
Runtime runtime;

struct Call {
    TeamBody body;
    void* argument;
};

void enter(void* call) {
    const FlushSubnormals flush;
    const Call& c = *static_cast<const Call*>(call);
    c.body(c.argument, runtime.rank(), runtime.team());
}

template <class F>
bool find(void* library, const char* name, F*& function) {
    function = reinterpret_cast<F*>(find_function(library, name));
    return function != nullptr;
}

}  // namespace

bool open_openmp(const std::string& library) {
    std::string reason;
    void* const opened = open_library(library, &reason);
    Runtime found;
    if (opened == nullptr || !find(opened, "GOMP_parallel", found.parallel) ||
        !find(opened, "omp_get_thread_num", found.rank) || !find(opened, "omp_get_num_threads", found.team))
        return false;
    found.process = getpid();
    runtime = found;
    return true;
}

bool run_openmp_team(int want, TeamBody body, void* argument) noexcept {
    if (runtime.parallel == nullptr || runtime.process != getpid()) return false;
    Call call{body, argument};
    runtime.parallel(&enter, &call, static_cast<unsigned>(want), 0);
    return true;
}

}  // namespace lstm_native::core
