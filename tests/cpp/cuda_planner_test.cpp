// How the CUDA backend cuts work into launches, and what it says of machines that it cannot use: without a GPU.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>

#include "cuda/planner.h"
#include "cuda/tiles.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    ++failures;
}

using lstm_native::cuda::Offer;

// With clusters of so many blocks as fit so many processors.
Offer with_clusters(Offer offer, int processors) {
    for (int blocks = 1; blocks <= lstm_native::cuda::kMostOfCluster; ++blocks)
        offer.clusters[static_cast<std::size_t>(blocks)] = processors / blocks;
    return offer;
}
const Offer h100{132, 227 * 1024, 132, {}};
const Offer h100_with_clusters = with_clusters(h100, 128);

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
    const Offer rtx4090{128, 99 * 1024, 128, {}};
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
                expect(plan.microseconds > 0, "an estimate");
            }
        }
    }
}

void test_grid() {
    using lstm_native::cuda::Exchange;
    using lstm_native::cuda::GridPlan;
    using lstm_native::cuda::kHandedBytes;
    using lstm_native::cuda::plan_grid;
    using lstm_native::cuda::RecurrentShape;
    const Offer devices[] = {
        h100, {108, 163 * 1024, 108, {}}, with_clusters({128, 99 * 1024, 128, {}}, 96), h100_with_clusters};
    const std::int32_t ways[] = {LN_PLAN_GRID, LN_PLAN_GRID + LN_PLAN_MEETING, LN_PLAN_GRID + LN_PLAN_MARKED,
                                 LN_PLAN_GRID + LN_PLAN_CLUSTER};
    for (const Offer& offer : devices) {
        for (const std::int32_t precision : {LN_FLOAT32, LN_TF32, LN_BFLOAT16}) {
            for (const std::int64_t H : {1, 8, 100, 129, 256, 500, 512, 1000, 1024, 1025, 2048, 100000}) {
                for (const std::int64_t B : {1, 3, 17, 64, 256, 4096}) {
                    for (int i = 0; i < 24; ++i) {
                        const bool back = i % 2 == 0;
                        const int gates = i / 2 % 3 == 2 ? 1 : 4 - i / 2 % 3;
                        const std::int32_t way = ways[i / 6];
                        const GridPlan plan = plan_grid({B, H, 512, gates, back, precision}, offer, way);
                        if (plan.units == 0) continue;
                        expect(plan.units == 1 << plan.shift && plan.columns() % 32 == 0 && plan.columns() <= 256,
                               "a block has whole tiles");
                        expect(plan.shared_bytes <= offer.shared_bytes, "a grid fits shared memory");
                        const bool in_clusters = plan.exchange == Exchange::cluster;
                        expect(in_clusters ? plan.members <= 16 &&
                                                 plan.groups <= offer.clusters[static_cast<std::size_t>(plan.members)]
                                           : plan.members * plan.groups <= offer.together,
                               "its blocks run together");
                        expect(way == LN_PLAN_GRID || way / LN_PLAN_MEETING - 1 == static_cast<int>(plan.exchange),
                               "they wait as one asks");
                        expect(plan.exchange == Exchange::meeting || back || plan.passes == 1, "for whole slices");
                        expect(!in_clusters || !back || plan.receivers == plan.members, "that somebody reads");
                        expect(std::int64_t{plan.members} * plan.units >= H &&
                                   std::int64_t{plan.members - 1} * plan.units < H,
                               "they own all units");
                        expect(
                            std::int64_t{plan.groups} * plan.rows >= B && std::int64_t{plan.groups - 1} * plan.rows < B,
                            "and all rows, none is idle");
                        expect(plan.stride % 16 == 0 && (back || (plan.stride >= H && plan.passes >= 1)), "rows");
                        expect(plan.microseconds > 0, "an estimate");
                        expect(!back || plan.handed_bytes(B, true) <= kHandedBytes, "sums that stay in the cache");
                    }
                }
            }
        }
    }
    expect(plan_grid({1, 1024, 512, 4, false, LN_FLOAT32}, h100).members == 128, "the weights of 1024 units fit");
    expect(plan_grid({1, 1024, 512, 4, false, LN_FLOAT32}, h100).streamed_tiles == 0, "on the processors");
    expect(plan_grid({1, 2048, 512, 4, false, LN_FLOAT32}, h100).streamed_tiles > 0, "those of 2048 do not in floats");
    expect(plan_grid({1, 2048, 512, 4, false, LN_BFLOAT16}, h100).streamed_tiles == 0, "but in two bytes each");
    expect(plan_grid({16, 256, 512, 4, false, LN_FLOAT32}, h100, 64).units == 64, "units that are asked for");
    expect(plan_grid({64, 1024, 512, 4, true, LN_BFLOAT16}, h100, 8).units == 0, "128 blocks have much to hand on");
    expect(plan_grid({64, 1024, 512, 4, true, LN_BFLOAT16}, h100).units > 8, "fewer of them less");
    expect(plan_grid({4096, 1024, 512, 4, true, LN_BFLOAT16}, h100).units == 0, "with many rows all too much");
    expect(plan_grid({16, 256, 512, 4, false, LN_FLOAT32}, {132, 227 * 1024, 0, {}}).units == 0, "none may wait");
    const auto exchange = [&](std::int64_t B, std::int64_t H, bool back, std::int32_t precision) {
        return plan_grid({B, H, 512, 4, back, precision}, h100_with_clusters).exchange;
    };
    for (const bool back : {false, true}) {
        expect(exchange(1, 256, back, LN_FLOAT32) == Exchange::cluster, "small layers in clusters");
        expect(exchange(16, 512, back, LN_BFLOAT16) == Exchange::cluster, "middle ones, too");
        expect(exchange(1, 1024, back, LN_FLOAT32) == Exchange::marked, "those that clusters cannot hold with marks");
    }
    expect(exchange(64, 1024, false, LN_BFLOAT16) == Exchange::meeting, "many rows have much to hand on");
}

// How often a bank of shared memory is asked for different words by lanes that are served together, at most: as many
// lanes as have 128 bytes. 1 is without conflicts.
template <class Address>
int turns(int bytes, const Address& address) {
    int most = 0;
    const int together = 128 / bytes < 32 ? 128 / bytes : 32;
    for (int first = 0; first < 32; first += together) {
        std::set<std::int64_t> words[32];
        for (int lane = first; lane < first + together; ++lane)
            for (std::int64_t at = address(lane); at < address(lane) + bytes; at += 4)
                words[at / 4 % 32].insert(at / 4);
        for (const auto& bank : words) most = std::max(most, static_cast<int>(bank.size()));
    }
    return most;
}

void test_banks() {
    using lstm_native::cuda::costs_of;
    using lstm_native::cuda::GridPlan;
    using lstm_native::cuda::group_of;
    using lstm_native::cuda::plan_grid;
    using lstm_native::cuda::quarter_of;
    for (const std::int32_t precision : {LN_TF32, LN_BFLOAT16}) {
        const std::int64_t bytes = costs_of(precision).operand_bytes;
        for (const std::int64_t H : {8, 100, 129, 256, 500, 512, 1000, 1024, 2048}) {
            for (const int units : {8, 16, 32, 64, 128}) {
                for (int i = 0; i < 4; ++i) {
                    const bool back = i % 2 == 0;
                    const GridPlan plan = plan_grid({16, H, 512, i < 2 ? 4 : 1, back, precision}, h100, units);
                    if (plan.units == 0) continue;
                    const int columns = plan.columns() + 4;
                    expect(turns(static_cast<int>(4 * bytes),
                                 [&](int lane) {
                                     return (group_of(lane) * plan.stride + 4 * quarter_of(lane)) * bytes;
                                 }) == 1,
                           "tensor cores read rows from different banks");
                    if (back) continue;
                    const auto sum_written = [&](int lane) {
                        return std::int64_t{2 * quarter_of(lane) * columns + 4 * group_of(lane)} * 4;
                    };
                    const auto sum_read = [&](int lane) {
                        const int unit = lane & (plan.units - 1);
                        return std::int64_t{(lane >> plan.shift) * columns + plan.sums * unit} * 4;
                    };
                    expect(turns(16, sum_written) == 1, "sums are written to different banks");
                    expect(turns(4 * plan.sums, sum_read) == 1, "and read from them");
                }
            }
        }
    }
}

void test_recurrent() {
    using lstm_native::cuda::CellKind;
    using lstm_native::cuda::describe;
    using lstm_native::cuda::plan_recurrent;
    using lstm_native::cuda::RecurrentPlan;
    const auto plan = [&](CellKind cell, std::int64_t B, std::int64_t H, std::int64_t steps, std::int32_t wanted) {
        const int gates = cell == CellKind::lstm ? 4 : cell == CellKind::simple_rnn ? 1 : 3;
        return plan_recurrent(cell, {B, H, steps, gates, false, LN_FLOAT32}, h100, wanted);
    };
    expect(plan(CellKind::lstm, 16, 128, 512, LN_PLAN_AUTO).blocks.rows > 0, "small layers in blocks of their own");
    expect(plan(CellKind::lstm, 16, 128, 512, LN_PLAN_GRID).grid.units > 0, "or as one asks");
    expect(plan(CellKind::lstm, 1, 512, 512, LN_PLAN_AUTO).grid.units > 0, "middle ones in a grid");
    expect(plan(CellKind::gru, 1, 64, 512, LN_PLAN_AUTO).grid.units > 0, "a GRU in a grid");
    expect(!plan(CellKind::lstm, 1, 512, 1, LN_PLAN_AUTO).one_launch(), "a few steps do not pay for its start");
    expect(!plan(CellKind::lstm, 256, 1024, 512, LN_PLAN_AUTO).one_launch(), "large batches step by step");
    expect(!plan(CellKind::lstm, 1, 512, 512, LN_PLAN_STEPS).one_launch(), "as one asks");
    expect(plan(CellKind::simple_rnn, 1, 512, 512, LN_PLAN_AUTO).grid.units >= 32, "a SimpleRNN, too");
    expect(!plan(CellKind::simple_rnn, 1, 512, 512, 16).one_launch(), "which has no blocks with so few units");
    expect(!plan(CellKind::other, 1, 512, 512, LN_PLAN_GRID).one_launch(), "no other cells");
    expect(has(describe(plan(CellKind::lstm, 16, 128, 512, LN_PLAN_AUTO), h100),
               "forward: all steps in one launch of 16 blocks, each with the whole recurrent kernel and 1 of"),
           "blocks");
    expect(has(describe(plan(CellKind::lstm, 1, 1024, 512, LN_PLAN_AUTO), h100),
               "forward: all steps in one launch of 1 x 128 blocks, each with 8 units and 1 of"),
           "grid");
    expect(has(describe(plan(CellKind::lstm, 256, 2048, 512, LN_PLAN_AUTO), h100), "forward: step by step"), "steps");
}

void test_two_calls() {
    using lstm_native::cuda::CellKind;
    using lstm_native::cuda::describe;
    using lstm_native::cuda::GridPlan;
    using lstm_native::cuda::kHandedBytes;
    using lstm_native::cuda::plan_grid;
    using lstm_native::cuda::plan_recurrent;
    using lstm_native::cuda::RecurrentPlan;
    for (const std::int64_t H : {1, 100, 256, 512, 1000, 1024, 2048}) {
        for (const std::int64_t B : {1, 16, 64, 256}) {
            for (const bool back : {false, true}) {
                const GridPlan plan = plan_grid({B, H, 512, 4, back, LN_TF32, 2}, h100);
                if (plan.units == 0) continue;
                expect(2 * plan.members * plan.groups <= h100.together, "blocks of both run together");
                expect(std::int64_t{plan.groups} * plan.rows >= B && std::int64_t{plan.members} * plan.units >= H,
                       "each has all rows and units");
                expect(!back || 2 * plan.handed_bytes(B, true) <= kHandedBytes, "sums of both stay in the cache");
            }
        }
    }
    const auto plan = [&](CellKind cell, std::int64_t B, std::int64_t H, bool back = false,
                          std::int32_t wanted = LN_PLAN_AUTO, std::int32_t precision = LN_FLOAT32) {
        return plan_recurrent(cell, {B, H, 512, cell == CellKind::lstm ? 4 : 3, back, precision, 2}, h100, wanted);
    };
    for (const bool back : {false, true}) {
        expect(plan(CellKind::lstm, 16, 128, back).blocks.rows == 1, "small ones have blocks beside each other");
        expect(plan(CellKind::lstm, 132, 128, back).blocks.rows == 2, "or more rows a block");
        expect(plan(CellKind::gru, 1, 256, back).grid.units > 0, "a part of the processors is enough");
    }
    expect(!plan(CellKind::lstm, 600, 128).one_launch(), "both are too many, but each fits blocks");
    expect(plan_recurrent(CellKind::lstm, {600, 128, 512, 4, false, LN_FLOAT32}, h100, LN_PLAN_AUTO).one_launch(), "");
    expect(!plan(CellKind::lstm, 1, 2048).one_launch(), "one after the other where a call has weights for all");
    expect(!plan(CellKind::lstm, 16, 128, false, LN_PLAN_STEPS).one_launch(), "as one asks");
    expect(plan(CellKind::lstm, 16, 128, false, LN_PLAN_GRID).grid.units > 0, "as one asks");
    expect(has(describe(plan(CellKind::lstm, 16, 128), h100),
               "forward of two calls together: all steps in one launch of 32 blocks, each with the whole"),
           "said");
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
    test_grid();
    test_banks();
    test_recurrent();
    test_two_calls();
    test_unusable();
    return failures == 0 ? 0 : 1;
}
