// How the CUDA backend cuts work into launches, and what it says of machines that it cannot use: without a GPU.
#include <cstdint>
#include <cstdio>
#include <string>

#include "cuda/planner.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    ++failures;
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

void test_blocks() {
    using lstm_native::cuda::blocks_for;
    expect(blocks_for(0, 256) == 1, "an empty launch has a block");
    expect(blocks_for(256, 256) == 1 && blocks_for(257, 256) == 2, "blocks cover all elements");
    expect(blocks_for(std::int64_t{1} << 40, 256) == lstm_native::cuda::kMostBlocks, "large launches are bounded");
}

void test_projection() {
    using lstm_native::cuda::kProjectionBytes;
    using lstm_native::cuda::steps_per_projection;
    expect(steps_per_projection(512, 16, 4096) == 512, "a small sequence is projected at once");
    const std::int64_t steps = steps_per_projection(512, 256, 8192);
    expect(steps >= 1 && steps < 512 && steps * 256 * 8192 * 4 <= kProjectionBytes, "a large one in parts that fit");
    expect(steps_per_projection(4, std::int64_t{1} << 20, 8192) == 1, "at least a step at a time");
}

void test_parts() {
    using lstm_native::cuda::parts_of_rows;
    for (const std::int64_t rows : {1, 15, 16, 1000, 1 << 20}) {
        for (const std::int64_t columns : {1, 100, 8192}) {
            const std::int64_t parts = parts_of_rows(rows, columns);
            expect(parts >= 1 && parts <= rows && parts <= 1024, "parts have rows");
            expect(parts == 1 || parts * columns <= 1 << 16, "partial sums stay small");
        }
    }
}

void test_lstm() {
    using lstm_native::cuda::LstmPlan;
    using lstm_native::cuda::plan_lstm;
    const lstm_native::cuda::Offer h100{132, 227 * 1024};
    const lstm_native::cuda::Offer rtx4090{128, 99 * 1024};
    for (const bool back : {false, true}) {
        expect(plan_lstm(1, 128, back, h100).rows == 1 && plan_lstm(132, 128, back, h100).rows == 1,
               "a row for each processor");
        expect(plan_lstm(133, 128, back, h100).rows == 2 && plan_lstm(1056, 128, back, h100).rows == 4,
               "then more rows a block");
        expect(plan_lstm(1057, 128, back, h100).rows == 0, "large batches step by step");
        expect(plan_lstm(16, 129, back, h100).rows == 0, "as many units as threads can hold");
        expect(plan_lstm(16, 128, back, rtx4090).rows == 0 && plan_lstm(16, 96, back, rtx4090).rows == 1,
               "what fits shared memory");
        for (std::int64_t H = 1; H <= lstm_native::cuda::kMostUnits; ++H) {
            for (const std::int64_t B : {1, 200, 1000}) {
                const LstmPlan plan = plan_lstm(B, H, back, h100);
                expect(plan.rows > 0 && plan.threads >= 4 * H && plan.threads <= 512 && plan.threads % 32 == 0,
                       "a thread for each column");
                expect(plan.shared_floats * 4 <= h100.shared_bytes, "within shared memory");
            }
        }
    }
}

void test_unusable() {
    using lstm_native::cuda::Machine;
    using lstm_native::cuda::unusable;
    Machine machine;
    expect(has(unusable(machine), "no NVIDIA driver was found"), "no driver");
    machine.driver = 12040;
    expect(has(unusable(machine), "supports CUDA 12.4, expected at least 13.0; update the driver"), "old driver");
    machine.driver = 13010;
    expect(has(unusable(machine), "shows no GPU"), "no device");
    machine.devices = 1;
    machine.name = "Tesla T4";
    machine.major = 7;
    machine.minor = 5;
    expect(has(unusable(machine), "Tesla T4 has compute capability 7.5, expected at least 8.0"), "old device");
    machine.major = 9;
    machine.minor = 0;
    expect(unusable(machine).empty(), "an H100 will do");
}

}  // namespace

int main() {
    test_blocks();
    test_projection();
    test_parts();
    test_lstm();
    test_unusable();
    return failures == 0 ? 0 : 1;
}
