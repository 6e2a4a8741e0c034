// Stress of the thread pool, for plain runs and under the thread sanitizer: every task once, barriers that hold,
// several callers at once, forked children, threads that leave a processor. Exit status 0 when all is right.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "core/processors.h"
#include "core/thread_pool.h"

namespace core = lstm_native::core;

namespace {

std::atomic<int> wrong{0};

void claim_tasks(int want) {
    for (const int tasks : {1, 50, 64}) {
        std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
        const auto run = [&](std::int64_t task) { runs[static_cast<std::size_t>(task)].fetch_add(1); };
        core::parallel_tasks(tasks, want, run);
        core::parallel_home_tasks(tasks, want, run);
        for (const std::atomic<int>& count : runs)
            if (count.load() != 2) ++wrong;
    }
}

// Every member sees what all others wrote before the barrier. Plain ints: the barrier alone orders them.
void meet_at_barriers(int want) {
    core::Barrier barrier;
    std::vector<int> step(static_cast<std::size_t>(want), -1);
    auto member = [&](int rank, int team) {
        for (int s = 0; s < 20; ++s) {
            step[static_cast<std::size_t>(rank)] = s;
            barrier.wait(team);
            for (int other = 0; other < team; ++other)
                if (step[static_cast<std::size_t>(other)] != s) ++wrong;
            barrier.wait(team);
        }
    };
    core::run_team(want, member);
}

void work(int rounds) {
    for (int round = 0; round < rounds; ++round) {
        claim_tasks(1 + round % 7);
        meet_at_barriers(1 + round % 7);
        if (round % 50 == 0) usleep(200);  // the workers fall asleep
    }
}

#if defined(__linux__)
bool same_mask(const cpu_set_t& expected) {
    cpu_set_t mask;
    return sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_EQUAL(&mask, &expected) != 0;
}

// Free: the thread may be anywhere afterwards, with its old mask. Bound to one processor: it stays.
void leave_processors() {
    cpu_set_t usual;
    if (sched_getaffinity(0, sizeof usual, &usual) != 0) return;  // more processors than this set holds
    for (int i = 0; i < 100; ++i) {
        core::leave_processor(core::current_processor());
        if (!same_mask(usual)) ++wrong;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    const int here = core::current_processor();
    CPU_SET(static_cast<unsigned>(here), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) return;
    core::leave_processor(here);
    if (!same_mask(one) || core::current_processor() != here) ++wrong;
}
#else
void leave_processors() {}
#endif

}  // namespace

int main() {
    work(500);
    std::thread(leave_processors).join();
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) callers.emplace_back([] { work(100); });
    for (std::thread& caller : callers) caller.join();
    for (int i = 0; i < 20; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            work(20);
            _exit(wrong.load() == 0 ? 0 : 1);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) ++wrong;
    }
    std::printf("%d wrong\n", wrong.load());
    return wrong.load() == 0 ? 0 : 1;
}
