// What this machine can do at most, measured: multiply-adds, reads from a cache, the hand-over of a cache line.
// Reads orders from standard input, one a line, and answers each with one number a line:
//   fma THREADS         GFLOP/s in float32, all threads together
//   read BYTES THREADS  GB/s, each thread reading a block of BYTES of its own again and again
//   handover            nanoseconds from a write on one core until another core has seen it, one way
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kFloats = kBytes / 4;
typedef float Vector __attribute__((vector_size(kBytes), aligned(kBytes)));

using Clock = std::chrono::steady_clock;
constexpr double kSeconds = 0.02;  // of one measurement; the best of kRepeats counts
constexpr int kRepeats = 3;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Keeps a value alive without a store.
inline void use(Vector& value) { asm volatile("" : "+x"(value)); }

// Twelve independent sums: enough to fill two pipes of four cycles.
__attribute__((noinline)) double multiply_add_rounds(long rounds) {
    constexpr int kSums = 12;
    Vector sums[kSums] = {};
    Vector a = {}, b = {};
    a += 0.5F;
    b += 0.25F;
    for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (int i = 0; i < kSums; ++i) {
            sums[i] = sums[i] * a + b;
            use(sums[i]);
        }
    }
    return 2.0 * kFloats * kSums * static_cast<double>(rounds);
}

__attribute__((noinline)) double read_rounds(const float* data, std::size_t floats, long rounds) {
    constexpr int kSums = 8;
    constexpr std::size_t kStep = kSums * kFloats;
    const std::size_t steps = floats / kStep;
    Vector sums[kSums] = {};
    for (long round = 0; round < rounds; ++round) {
        for (std::size_t step = 0; step < steps; ++step) {
            // Back and forth: what was read last is still in the nearer cache.
            const float* here = data + (round % 2 ? steps - 1 - step : step) * kStep;
#pragma GCC unroll 8
            for (int j = 0; j < kSums; ++j) sums[j] += *reinterpret_cast<const Vector*>(here + j * kFloats);
        }
        for (Vector& sum : sums) use(sum);
    }
    return 4.0 * static_cast<double>(steps * kStep) * static_cast<double>(rounds);
}

// Work per second of all threads, `work(thread, rounds)` returning the work done.
template <class Work>
double rate(int threads, Work work) {
    long rounds = 1;
    for (;;) {
        const auto start = Clock::now();
        work(0, rounds);
        if (seconds_since(start) > kSeconds / 4) break;
        rounds *= 2;
    }
    rounds *= 4;
    double best = 0;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        std::atomic<int> ready{0};
        std::vector<double> rates(static_cast<std::size_t>(threads));
        auto run = [&](int thread) {
            ++ready;
            while (ready.load() < threads) std::this_thread::yield();
            const auto start = Clock::now();
            const double done = work(thread, rounds);
            rates[static_cast<std::size_t>(thread)] = done / seconds_since(start);
        };
        std::vector<std::thread> team;
        for (int thread = 1; thread < threads; ++thread) team.emplace_back(run, thread);
        run(0);
        for (std::thread& member : team) member.join();
        double sum = 0;
        for (double one : rates) sum += one;
        if (sum > best) best = sum;
    }
    return best / 1e9;
}

double read_rate(std::size_t bytes, int threads) {
    std::vector<float*> blocks;
    for (int thread = 0; thread < threads; ++thread) {
        const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
        blocks.push_back(static_cast<float*>(std::aligned_alloc(4096, rounded)));
        std::memset(blocks.back(), 0, rounded);
    }
    const double result = rate(threads, [&](int thread, long rounds) {
        return read_rounds(blocks[static_cast<std::size_t>(thread)], bytes / 4, rounds);
    });
    for (float* block : blocks) std::free(block);
    return result;
}

// Median over short bursts: a burst that lost its core would spoil a mean.
double hand_over() {
    constexpr int kBursts = 101, kTrips = 200;
    constexpr double kDeadline = 5.0;  // a machine with one core would take for ever
    alignas(128) std::atomic<int> ball{0};
    std::atomic<bool> stop{false};
    std::thread partner([&] {
        while (!stop.load(std::memory_order_relaxed)) {
            int seen = ball.load(std::memory_order_acquire);
            if (seen % 2 == 1) ball.store(seen + 1, std::memory_order_release);
        }
    });
    std::vector<double> bursts;
    const auto begin = Clock::now();
    int value = 0;
    while (static_cast<int>(bursts.size()) < kBursts && seconds_since(begin) < kDeadline) {
        const auto start = Clock::now();
        for (int trip = 0; trip < kTrips; ++trip) {
            ball.store(value + 1, std::memory_order_release);
            value += 2;
            while (ball.load(std::memory_order_acquire) != value) {
            }
        }
        bursts.push_back(seconds_since(start) / (2.0 * kTrips));
    }
    stop = true;
    partner.join();
    std::size_t middle = bursts.size() / 2;
    for (std::size_t i = 0; i <= middle; ++i)
        for (std::size_t j = i + 1; j < bursts.size(); ++j)
            if (bursts[j] < bursts[i]) std::swap(bursts[i], bursts[j]);
    return bursts[middle] * 1e9;
}

}  // namespace

int main() {
    char line[128];
    while (std::fgets(line, sizeof line, stdin)) {
        long bytes = 0;
        int threads = 1;
        if (std::sscanf(line, "fma %d", &threads) == 1) {
            std::printf("%.3f\n", rate(threads, [](int, long rounds) { return multiply_add_rounds(rounds); }));
        } else if (std::sscanf(line, "read %ld %d", &bytes, &threads) == 2) {
            std::printf("%.3f\n", read_rate(static_cast<std::size_t>(bytes), threads));
        } else if (std::strncmp(line, "handover", 8) == 0) {
            std::printf("%.3f\n", hand_over());
        } else {
            return 1;
        }
        std::fflush(stdout);
    }
    return 0;
}
