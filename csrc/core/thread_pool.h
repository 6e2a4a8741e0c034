// One small thread pool (floor 0). No thread exists before the first parallel call; the caller takes part;
// workers spin for some tens of microseconds, then sleep; a forked child starts with no workers and makes
// its own; nested and concurrent calls run serially on their caller, so every caller gets its answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace lstm_native::core {

// Threads a call may use, the caller included. Default: LSTM_NATIVE_NUM_THREADS, else the processors that
// affinity and the cgroup's quota allow. invalid_argument unless 1 <= n <= kMaxThreads.
inline constexpr int kMaxThreads = 256;
int num_threads();
void set_num_threads(int n);

// From now on calls of this thread use at most n threads, those of another library where openmp.h has opened it; with 0
// they use the pool again. The number before.
int borrow_threads(int n) noexcept;

// Worker threads that exist now.
int pool_threads() noexcept;

// Makes calls wait for the whole team, however late its members are, and share steps at any rate: for tests of what a
// team of n threads computes on a machine with fewer processors.
void set_patient(bool patient) noexcept;

// The body of a parallel call: runs as member `rank` of `team`. Must not throw.
using TeamBody = void (*)(void* argument, int rank, int team);

// Runs `body` once on each of up to `want` threads, all at the same time, so that members may wait for each
// other in a Barrier. The team that came together may be smaller than `want` (down to 1: `body(arg, 0, 1)`
// on the caller). Returns when all are done. Flush-to-zero is set within (see fp_mode.h).
void run_team(int want, TeamBody body, void* argument);

template <class F>
void run_team(int want, F& body) {
    run_team(want, [](void* argument, int rank, int team) { (*static_cast<F*>(argument))(rank, team); }, &body);
}

// As run_team, for bodies that claim their work piece by piece: the caller begins at once, and others join as long as
// it has not finished. Members that run at the same time have different ranks below `want`; `team` bounds the ranks,
// fewer may come, and one may come twice. A body ends when nothing is left to claim.
void run_open_team(int want, TeamBody body, void* argument);

template <class F>
void run_open_team(int want, F& body) {
    run_open_team(want, [](void* argument, int rank, int team) { (*static_cast<F*>(argument))(rank, team); }, &body);
}

// Calls body(index), or body(index, rank), for 0 <= index < tasks, each once, claimed dynamically by up to `want`
// threads; ranks are those of run_open_team. body must not throw.
template <class F>
void parallel_tasks(std::int64_t tasks, int want, F&& body) {
    if (tasks < static_cast<std::int64_t>(want)) want = static_cast<int>(tasks);
    std::atomic<std::int64_t> next{0};
    auto member = [&](int rank, int) {
        for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
            if constexpr (std::is_invocable_v<F&, std::int64_t, int>) {
                body(i, rank);
            } else {
                body(i);
            }
        }
    };
    run_open_team(want, member);
}

// As parallel_tasks, for at most 64 tasks that read memory of their own: each thread begins with its share, the same in
// every call, whose memory its caches still hold, and goes on with what others have not come to.
template <class F>
void parallel_home_tasks(std::int64_t tasks, int want, F&& body) {
    if (tasks < static_cast<std::int64_t>(want)) want = static_cast<int>(tasks);
    std::atomic<std::uint64_t> claimed{0};
    auto member = [&](int rank, int) {
        const std::int64_t first = tasks * rank / want;
        for (std::int64_t n = 0; n < tasks; ++n) {
            const std::int64_t i = first + n < tasks ? first + n : first + n - tasks;
            const std::uint64_t bit = std::uint64_t{1} << i;
            if ((claimed.load(std::memory_order_relaxed) & bit) != 0) continue;
            if ((claimed.fetch_or(bit, std::memory_order_relaxed) & bit) == 0) body(i);
        }
    };
    run_open_team(want, member);
}

// Whether the call before this one was so lately that the workers are still awake, and nobody has lost a processor
// meanwhile: then even work of some microseconds is worth sharing. Each call of this function counts.
bool calls_are_dense() noexcept;

// A barrier for the members of one team. Spins for a bounded time, then yields, so that a member that
// lost its processor is not fought for it.
class Barrier {
public:
    // Returns when `team` members have called it; every one passes the same number.
    void wait(int team) noexcept;

    // True for a while after a wait that was long because a member lost its processor: the machine is busy, and who can
    // do without barriers should. The while is in proportion to the wait, so that trying again costs little.
    static bool lately_stalled() noexcept;

private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> phase_{0};
};

}  // namespace lstm_native::core
