// Stress of the drivers behind the backend table, for plain runs and under the sanitizers: several threads call at
// once, and every call gives the bits that one thread gives alone. Exit status 0 when all is right.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "core/fp_mode.h"
#include "core/thread_pool.h"
#include "cpu/backend_cpu.h"
#include "jobs.h"
#include "layer_jobs.h"
#include "recurrent_jobs.h"

namespace core = lstm_native::core;
namespace cpu = lstm_native::cpu;

namespace {

using namespace jobs;

// Shapes for each way of cutting up the work; small ones stay on their caller's thread beside them.
std::vector<Job> all_jobs() {
    std::vector<Job> jobs;
    add_recurrent(jobs, "one row, shared units", {1, 26, 64, 160, kPlain});
    add_recurrent(jobs, "three rows, shared units", {3, 12, 40, 130, kControl});
    add_recurrent(jobs, "many tiles", {70, 6, 20, 48, kFromZero});
    add_recurrent(jobs, "many tiles, masked", {50, 8, 33, 40, kControl | kBackwards});
    add_recurrent(jobs, "time first, gates in rows", {50, 8, 33, 40, kControl | kTimeFirst | kInRows});
    add_recurrent(jobs, "other activations", {40, 7, 16, 56, kControl | kOtherActivations});
    add_recurrent(jobs, "indexed", {60, 6, 30, 48, kIndexed});
    add_recurrent(jobs, "indexed, shared units", {2, 16, 40, 130, kIndexed | kControl | kBackwards});
    add_recurrent(jobs, "small", {3, 5, 7, 9, kControl});
    add_together(jobs, "one row", {1, 26, 64, 160, kPlain}, {1, 26, 64, 160, kBackwards});
    add_together(jobs, "many tiles", {50, 8, 33, 40, kControl}, {50, 8, 33, 40, kControl | kBackwards});
    add_together(jobs, "a large and a small one", {3, 12, 40, 130, kIndexed}, {40, 6, 20, 48, kInRows});
    add_dense(jobs, "dense", 210, 100, 130);
    add_dense(jobs, "wide dense", 3, 300, 2500);
    add_dense(jobs, "small dense", 5, 7, 3);
    add_embedding(jobs, "embedding", 70000, 60, 18000);
    add_embedding(jobs, "small embedding", 50, 6, 20);
    add_optimizers(jobs);
    add_elementwise(jobs, 300, 500);
    add_layers(jobs);
    return jobs;
}

std::atomic<int> wrong{0};

void run_one(const Job& job, const Results& expected, int threads) {
    Results got(threads);
    job.run(got);
    if (got.equals(expected)) return;
    std::fprintf(stderr, "%s, %d threads: not what one thread computes\n", job.name.c_str(), threads);
    ++wrong;
}

constexpr int kCallers = 4;

// All jobs, on another number of threads each time. With `together`, callers begin each job at the same time; without,
// each is at another job.
void run_all(const std::vector<Job>& jobs, const std::vector<Results>& expected, int caller, core::Barrier* together) {
    const core::FlushSubnormals flush;
    const int threads[] = {2, 3, 1, 4, 7};
    for (int i = 0; i < static_cast<int>(jobs.size()); ++i) {
        const std::size_t job = static_cast<std::size_t>(together == nullptr ? i + caller * 11 : i) % jobs.size();
        if (together != nullptr) together->wait(kCallers);
        run_one(jobs[job], expected[job], threads[(i + caller) % 5]);
    }
}

void stress() {
    const core::FlushSubnormals flush;
    std::vector<Results> expected;
    for (const Job& job : all_jobs()) {  // with packs of their own: the callers below find theirs untouched
        expected.emplace_back(1);
        job.run(expected.back());
        if (!expected.back().defined()) {
            std::fprintf(stderr, "%s: NaN\n", job.name.c_str());
            ++wrong;
        }
    }
    for (const bool patient : {false, true}) {
        core::set_patient(patient);  // teams are complete, so that members wait for each other in every barrier
        const std::vector<Job> jobs = all_jobs();
        core::Barrier barrier;
        std::vector<std::thread> callers;
        for (int i = 0; i < kCallers; ++i)
            callers.emplace_back([&, i] { run_all(jobs, expected, i, patient ? nullptr : &barrier); });
        for (std::thread& caller : callers) caller.join();
        if (patient) run_all(jobs, expected, 0, nullptr);  // alone: nobody else holds the pool
        const pid_t child = fork();
        if (child == 0) {
            wrong = 0;
            run_all(jobs, expected, 1, nullptr);
            _exit(wrong.load() == 0 ? 0 : 1);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) ++wrong;
    }
    core::set_patient(false);
}

}  // namespace

int main() {
    for (const std::string& isa : cpu::available_isas()) {
        cpu::set_isa(isa);
        stress();
    }
    if (core::pool_threads() == 0) ++wrong;  // nothing was shared: nothing was tested
    std::printf("%d wrong\n", wrong.load());
    return wrong.load() == 0 ? 0 : 1;
}
