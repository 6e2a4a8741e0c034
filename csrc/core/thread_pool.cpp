// The thread pool (floor 0). See the header for what it promises.
//
// One word, the gate, forms a team: the caller opens it with the size it wants; workers join by compare and
// exchange; the gate closes when the team is full or when the caller's patience ends, and the number of those
// who have joined is the team. Only then does anybody run. So a worker that the system is slow to schedule
// costs a bounded wait and never a hang in a barrier. Where no member waits for another, the gate is eager: all run as
// they come, and it closes when the caller has found nothing left to do.
#include "core/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/fp_mode.h"
#include "core/openmp.h"
#include "core/processors.h"

namespace lstm_native::core {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// Longer than the gaps between the calls of one training step, shorter than anybody would notice as load.
constexpr microseconds kWorkerSpin{50};
// A sleeping thread needs 50 us or so to run again. Patience shrinks while the machine is too busy to run our
// workers, so that small calls do not wait in vain.
constexpr microseconds kMostPatience{100};
constexpr microseconds kLeastPatience{5};
// A sleeping worker is always late for the least patience: without a try now and then, once impatient is for ever.
constexpr unsigned kMissesBeforeRetry = 16;
constexpr int kPausesPerLook = 32;       // a few microseconds between looks at the clock
constexpr int kSpinsBeforeYield = 2000;  // tens of microseconds
constexpr std::size_t kStackBytes = std::size_t{1} << 20;
constexpr unsigned kCallsBeforeRetry = 1024;  // after the system refused a thread

void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// A wait in a barrier beyond this means that a member has lost its processor.
constexpr microseconds kStall{100};
constexpr int kStallRespite = 20;  // barriers are avoided for so many times the length of the stall
constexpr microseconds kMostRespite{20000};
std::atomic<Clock::rep> stalled_until{0};

std::atomic<bool> patient_calls{false};

// Waits for another running thread: spins, then gives the processor away between looks.
template <class Condition>
void wait_until(const Condition& condition) noexcept {
    for (int spins = 0; !condition(); ++spins) {
        if (spins < kSpinsBeforeYield) {
            pause();
        } else {
            sched_yield();
        }
    }
}

// Waits for a member of a team; a wait that is longer than both kStall and `usual` means that it has lost its
// processor.
template <class Condition>
void wait_for_member(const Condition& condition, Clock::duration usual) noexcept {
    for (int spins = 0; spins < kSpinsBeforeYield; ++spins) {
        if (condition()) return;
        pause();
    }
    const Clock::time_point start = Clock::now();
    while (!condition()) sched_yield();
    const Clock::time_point end = Clock::now();
    if (end - start <= std::max<Clock::duration>(kStall, usual)) return;
    const Clock::duration respite = std::min<Clock::duration>(kStallRespite * (end - start), kMostRespite);
    stalled_until.store((end + respite).time_since_epoch().count());
}

// --- the gate's word: [open:1][eager:1][wanted:14][joined:16], the caller counted in both ---

constexpr std::uint32_t kOpen = 1u << 31;
constexpr std::uint32_t kEager =
    1u << 30;  // who joins runs at once; the team is complete when the caller closes the gate
constexpr std::uint32_t opened(int want) { return kOpen | static_cast<std::uint32_t>(want) << 16 | 1u; }
constexpr int wanted(std::uint32_t gate) { return static_cast<int>((gate >> 16) & 0x3FFFu); }
constexpr int joined(std::uint32_t gate) { return static_cast<int>(gate & 0xFFFFu); }
constexpr bool is_open(std::uint32_t gate) { return (gate & kOpen) != 0; }
constexpr bool is_eager(std::uint32_t gate) { return (gate & kEager) != 0; }

class Pool;

struct Worker {
    Worker(Pool* owner, int number) : pool(owner), id(number) {}

    Pool* const pool;
    const int id;  // takes part where more than id + 1 threads are wanted
    std::atomic<bool> asleep{false};
    std::mutex mutex;
    std::condition_variable wake_up;
};

class Pool {
public:
    // False when somebody else is using the pool (a nested call included): nothing was run.
    bool try_run(int want, TeamBody body, void* argument, bool eager);
    int workers() const noexcept { return workers_.load(std::memory_order_relaxed); }

private:
    static void* enter(void* worker);
    void work(Worker& worker);
    // Joins an open team that worker `id` belongs to, runs, and returns true; else false.
    bool try_join(int id);
    // Whether a call is running that wants worker `id`.
    bool is_missed(int id) const;
    void sleep(Worker& worker);
    void wake(int count);
    void start_workers(int count);
    void open(int want, bool eager);
    int close();
    int gather();

    // Moves a worker that has come to stand on the caller's processor: neither could run while the other does.
    void part_from_caller() noexcept;

    alignas(64) std::atomic<std::uint32_t> gate_{0};
    std::atomic<int> caller_processor_{-1};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<bool> busy_{false};
    std::atomic<int> workers_{0};
    // For the caller that holds busy_; its team reads body_ and argument_.
    TeamBody body_ = nullptr;
    void* argument_ = nullptr;
    microseconds patience_{kMostPatience};
    unsigned refused_calls_ = 0;
    unsigned misses_ = 0;  // calls in a row that somebody was too late for
    std::unique_ptr<Worker> worker_[kMaxThreads - 1];
};

void* Pool::enter(void* worker) {
    static_cast<Worker*>(worker)->pool->work(*static_cast<Worker*>(worker));
    return nullptr;
}

void Pool::part_from_caller() noexcept {
    const int processor = caller_processor_.load(std::memory_order_relaxed);
    if (processor >= 0 && busy_.load(std::memory_order_relaxed) && current_processor() == processor)
        leave_processor(processor);
}

void Pool::work(Worker& worker) {
    const FlushSubnormals flush;
    for (;;) {
        part_from_caller();
        // The clock starts anew only with calls that want this worker: those beyond the wanted number go to sleep
        // although calls go on.
        Clock::time_point end = Clock::now() + kWorkerSpin;
        do {
            for (int i = 0; i < kPausesPerLook; ++i) {
                if (try_join(worker.id)) {
                    end = Clock::now() + kWorkerSpin;
                    i = 0;
                }
                pause();
            }
            // Too late for a call that is running: the next one should find this worker awake.
            if (is_missed(worker.id)) end = Clock::now() + kWorkerSpin;
        } while (Clock::now() < end);
        sleep(worker);
    }
}

bool Pool::is_missed(int id) const {
    return busy_.load(std::memory_order_relaxed) && id + 1 < wanted(gate_.load(std::memory_order_relaxed));
}

bool Pool::try_join(int id) {
    std::uint32_t gate = gate_.load(std::memory_order_relaxed);
    do {
        if (!is_open(gate) || id + 1 >= wanted(gate)) return false;
        const std::uint32_t next = gate + 1;
        const bool full = joined(next) == wanted(next);
        if (gate_.compare_exchange_weak(gate, full ? next & ~kOpen : next, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
            gate = next;
            break;
        }
    } while (true);
    if (is_eager(gate)) {
        body_(argument_, id + 1, wanted(gate));
        done_.fetch_add(1, std::memory_order_release);
        return true;
    }
    const int order = joined(gate) - 1;
    wait_until([&] { return !is_open(gate_.load(std::memory_order_acquire)); });
    // Closed now, and it stays so until this member is done.
    const std::uint32_t closed = gate_.load(std::memory_order_relaxed);
    const int team = joined(closed);
    // In a full team, exactly the workers 0 ... team-2 are here: the same rank in every call finds its part of the
    // weights in its own cache.
    const int rank = team == wanted(closed) ? id + 1 : order;
    body_(argument_, rank, team);
    done_.fetch_add(1, std::memory_order_release);
    return true;
}

void Pool::sleep(Worker& worker) {
    std::unique_lock<std::mutex> lock(worker.mutex);
    // With wake(): either this sees the open gate or the caller sees the sleeper.
    worker.asleep.store(true, std::memory_order_seq_cst);
    const std::uint32_t gate = gate_.load(std::memory_order_seq_cst);
    if (!is_open(gate) || worker.id + 1 >= wanted(gate)) worker.wake_up.wait(lock);
    worker.asleep.store(false, std::memory_order_relaxed);
}

void Pool::wake(int count) {
    for (int id = 0; id < count; ++id) {
        Worker& worker = *worker_[id];
        if (!worker.asleep.load(std::memory_order_seq_cst)) continue;
        {
            const std::lock_guard<std::mutex> lock(worker.mutex);
        }
        worker.wake_up.notify_one();
    }
}

void Pool::start_workers(int count) {
    int existing = workers_.load(std::memory_order_relaxed);
    if (existing >= count) return;
    if (refused_calls_ != 0) {
        --refused_calls_;
        return;
    }
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    // Signals are for the application's threads.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (existing < count) {
        std::unique_ptr<Worker>& worker = worker_[existing];
        worker.reset(new (std::nothrow) Worker(this, existing));
        pthread_t thread;
        if (worker == nullptr || pthread_create(&thread, &attributes, &Pool::enter, worker.get()) != 0) {
            refused_calls_ = kCallsBeforeRetry;
            break;
        }
        workers_.store(++existing, std::memory_order_relaxed);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
}

void Pool::open(int want, bool eager) {
    caller_processor_.store(current_processor(), std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    gate_.store(opened(want) | (eager ? kEager : 0), std::memory_order_seq_cst);
    wake(want - 1);
}

// Closes the gate; the number of those who have joined, the caller included.
int Pool::close() { return joined(gate_.fetch_and(~kOpen, std::memory_order_acq_rel)); }

// Waits until the team is full or patience ends; closes the gate and returns the size of the team.
int Pool::gather() {
    const bool patient = patient_calls.load(std::memory_order_relaxed);
    const Clock::time_point end = Clock::now() + patience_;
    do {
        for (int i = 0; i < kPausesPerLook; ++i) {
            if (!is_open(gate_.load(std::memory_order_acquire))) {
                patience_ = std::min(kMostPatience, 2 * patience_);
                misses_ = 0;
                return close();
            }
            pause();
        }
        if (patient) sched_yield();
    } while (patient || Clock::now() < end);
    patience_ = ++misses_ % kMissesBeforeRetry == 0 ? kMostPatience : std::max(kLeastPatience, patience_ / 2);
    return close();
}

bool Pool::try_run(int want, TeamBody body, void* argument, bool eager) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    start_workers(want - 1);
    want = std::min(want, 1 + workers());
    if (want == 1) {
        body(argument, 0, 1);
    } else {
        body_ = body;
        argument_ = argument;
        open(want, eager);
        const int formed = eager ? want : gather();
        const Clock::time_point start = Clock::now();
        body(argument, 0, formed);
        const int team = close();
        const auto all_done = [&] { return done_.load(std::memory_order_acquire) == team - 1; };
        // The others' tasks are about as long as the caller's.
        if (!all_done()) wait_for_member(all_done, 2 * (Clock::now() - start));
    }
    busy_.store(false, std::memory_order_release);
    return true;
}

// Never destroyed: its workers are asleep in it when the process ends. A forked child has none of the
// workers, so it forgets the pool and makes another at its first parallel call.
std::atomic<Pool*> current_pool{nullptr};

Pool* pool() noexcept {
    Pool* existing = current_pool.load(std::memory_order_acquire);
    if (existing != nullptr) return existing;
    static const int registered =
        pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr, std::memory_order_release); });
    if (registered != 0) return nullptr;  // no pool at all rather than one that hangs a child
    Pool* const made = new (std::nothrow) Pool;
    if (made == nullptr || current_pool.compare_exchange_strong(existing, made, std::memory_order_acq_rel)) return made;
    delete made;
    return existing;
}

int default_threads() {
    const char* const text = std::getenv("LSTM_NATIVE_NUM_THREADS");
    if (text == nullptr || *text == '\0') return std::min(usable_processors(), kMaxThreads);
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > kMaxThreads) {
        fail("LSTM_NATIVE_NUM_THREADS is '", text, "', expected an integer from 1 to ", kMaxThreads);
    }
    return static_cast<int>(value);
}

std::atomic<int> chosen_threads{0};  // 0: not chosen yet
thread_local int borrowed = 0;

int threads_of_process() {
    int threads = chosen_threads.load(std::memory_order_relaxed);
    if (threads != 0) return threads;
    const int found = default_threads();
    return chosen_threads.compare_exchange_strong(threads, found) ? found : threads;
}

}  // namespace

int num_threads() { return borrowed == 0 ? threads_of_process() : std::min(borrowed, threads_of_process()); }

int borrow_threads(int n) noexcept { return std::exchange(borrowed, n); }

void set_num_threads(int n) {
    if (n < 1 || n > kMaxThreads) fail("set_num_threads: n is ", n, ", expected 1 to ", kMaxThreads);
    chosen_threads.store(n, std::memory_order_relaxed);
}

void set_patient(bool patient) noexcept { patient_calls.store(patient); }

int pool_threads() noexcept {
    const Pool* const existing = current_pool.load(std::memory_order_acquire);
    return existing == nullptr ? 0 : existing->workers();
}

namespace {
void run(int want, TeamBody body, void* argument, bool eager) {
    const FlushSubnormals flush;
    if (want > 1) {
        if (borrowed > 0 && run_openmp_team(want, body, argument)) return;
        Pool* const workers = pool();
        if (workers != nullptr && workers->try_run(std::min(want, kMaxThreads), body, argument, eager)) return;
    }
    body(argument, 0, 1);
}
}  // namespace

void run_team(int want, TeamBody body, void* argument) { run(want, body, argument, false); }

void run_open_team(int want, TeamBody body, void* argument) {
    run(want, body, argument, !patient_calls.load(std::memory_order_relaxed));
}

void Barrier::wait(int team) noexcept {
    if (team == 1) return;
    const unsigned phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == team) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        return;
    }
    wait_for_member([&] { return phase_.load(std::memory_order_acquire) != phase; }, Clock::duration::zero());
}

bool calls_are_dense() noexcept {
    static std::atomic<Clock::rep> latest{0};
    if (patient_calls.load(std::memory_order_relaxed)) return true;
    const Clock::rep now = Clock::now().time_since_epoch().count();
    const Clock::rep before = latest.exchange(now, std::memory_order_relaxed);
    return Clock::duration(now - before) < kWorkerSpin && stalled_until.load(std::memory_order_relaxed) < now;
}

bool Barrier::lately_stalled() noexcept {
    if (patient_calls.load(std::memory_order_relaxed)) return false;
    const Clock::rep until = stalled_until.load(std::memory_order_relaxed);
    return until != 0 && Clock::now().time_since_epoch().count() < until;
}

}  // namespace lstm_native::core
