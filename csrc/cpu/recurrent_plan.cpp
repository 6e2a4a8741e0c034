#include "cpu/recurrent_plan.h"

#include <atomic>
#include <vector>

#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {
// Gates of a chunk, in floats: a quarter of a megabyte leaves room for the weights in a second-level cache.
constexpr std::int64_t kChunkFloats = 65536;
// Multiply-adds of a step above which a hand-over between threads (0.15 to 1 us) pays.
constexpr double kSharedStepWork = 65536;
}  // namespace

const PackedPairs& RecurrentPack::kernel_transposed() const {
    std::call_once(kernel_once_, [this] { kernel_transposed_ = transpose_pairs(*table, columns, kernel); });
    return kernel_transposed_;
}

const PackedPairs& RecurrentPack::recurrent_transposed() const {
    std::call_once(recurrent_once_, [this] { recurrent_transposed_ = transpose_pairs(*table, columns, recurrent); });
    return recurrent_transposed_;
}

RecurrentPlan::RecurrentPlan(const RecurrentPack& pack, std::int64_t batch, std::int64_t time)
    : B(batch), T(time), lanes(pack.table->lanes) {
    unit_blocks = core::round_up(core::ceil_div(pack.config.H, lanes), 2);
    gate_blocks = core::round_up(pack.columns.count(), 2);
    input_blocks = core::round_up(core::ceil_div(pack.config.I, lanes), 2);
    // Nearly equal tiles that one micro-kernel takes whole; an even number of them, for two threads.
    tiles = core::ceil_div(B, pack.table->tile_rows);
    if (tiles > 1) tiles = std::min(core::round_up(tiles, 2), B);
    const std::int64_t rows =
        std::max<std::int64_t>({kChunkFloats / (gate_blocks * lanes), 2 * pack.table->tile_rows, largest_tile()});
    steps = std::max<std::int64_t>(1, std::min(std::min(rows, kChunkRows) / largest_tile(), T));
    row_floats_ = core::checked_mul(T, gate_blocks * lanes) +
                  core::checked_mul(core::checked_mul(2, T + chunks()), unit_blocks * lanes);
}

std::int64_t RecurrentPlan::chunk_floats(std::int64_t rows, std::int64_t chunk_steps) const {
    return rows * lanes * (chunk_steps * gate_blocks + 2 * (chunk_steps + 1) * unit_blocks);
}

RecurrentPlan::Chunk RecurrentPlan::chunk_at(float* memory, std::int64_t rows, std::int64_t chunk_steps) const {
    Chunk chunk{};
    chunk.gates_stride = chunk_steps * rows * lanes;
    chunk.state_stride = (chunk_steps + 1) * rows * lanes;
    chunk.gates = memory;
    chunk.h = chunk.gates + gate_blocks * chunk.gates_stride;
    chunk.c = chunk.h + unit_blocks * chunk.state_stride;
    return chunk;
}

std::int64_t RecurrentPlan::saved_offset(std::int64_t tile, std::int64_t chunk) const {
    const Range rows = tile < tiles ? tile_rows(tile) : Range{B, B};
    return core::checked_mul(rows.begin, row_floats_) +
           (chunk == 0 ? 0 : chunk * chunk_floats(rows.end - rows.begin, steps));
}

void block_inputs(const RecurrentPack& pack, const LnRecurrentForward& args, std::int64_t row, std::int64_t m,
                  std::int64_t t, std::int64_t steps, float* blocked) {
    const KernelTable& table = *pack.table;
    const std::int64_t I = pack.config.I;
    const std::int64_t block_stride = steps * m * table.lanes;
    const std::int64_t step = args.go_backwards != 0 ? -I : I;
    const float* first = args.inputs + (row * args.T + input_time(args, t)) * I;
    if (m == 1) {
        table.block_rows(steps, I, first, step, blocked, block_stride);
    } else {
        for (std::int64_t s = 0; s < steps; ++s)
            table.block_rows(m, I, first + s * step, args.T * I, blocked + s * m * table.lanes, block_stride);
    }
}

namespace {

struct Grouping {
    std::int64_t groups, members;  // groups * members <= team
};

Grouping group_team(const RecurrentPlan& plan, const RecurrentPack& pack, int team) {
    const double step_work = static_cast<double>(plan.largest_tile()) * static_cast<double>(pack.config.H) *
                             static_cast<double>(pack.columns.columns());
    if (plan.tiles >= team || step_work < kSharedStepWork) return {std::min<std::int64_t>(team, plan.tiles), 1};
    return {plan.tiles, std::min<std::int64_t>(team / plan.tiles, plan.unit_blocks / 2)};
}

}  // namespace

int recurrent_threads(const LnContext& context, const RecurrentPlan& plan, const RecurrentPack& pack) {
    const double inner = static_cast<double>(pack.config.I + pack.config.H);
    const double work =
        static_cast<double>(plan.B) * static_cast<double>(plan.T) * inner * static_cast<double>(pack.columns.columns());
    std::int64_t threads = threads_for(context, work);
    // No more threads than tiles, each on its own, where barriers would cost more than they bring.
    const bool few_steps = work < kParallelWork && plan.T > 1;
    if (few_steps || core::Barrier::lately_stalled()) threads = std::min(threads, plan.tiles);
    const Grouping grouping = group_team(plan, pack, static_cast<int>(threads));
    return static_cast<int>(grouping.groups * grouping.members);
}

void run_tiles(const RecurrentPlan& plan, const RecurrentPack& pack, int want, TileBody body, const void* argument) {
    std::atomic<std::int64_t> next{0};
    std::vector<core::Barrier> barriers(want > 1 ? static_cast<std::size_t>(want) : 0);
    auto member = [&](int rank, int team) {
        const Grouping grouping = group_team(plan, pack, team);
        Share share{};
        share.rank = rank;
        share.members = grouping.members;
        share.member = rank % share.members;
        share.group = rank / share.members;
        if (share.group >= grouping.groups) return;
        const Range pairs = part_of(plan.unit_blocks / 2, share.members, share.member);
        share.blocks = {2 * pairs.begin, 2 * pairs.end};
        if (share.members > 1) {
            share.barrier = &barriers[static_cast<std::size_t>(share.group)];
            body(argument, share.group, share);
        } else {
            for (std::int64_t tile; (tile = next.fetch_add(1)) < plan.tiles;) body(argument, tile, share);
        }
    };
    if (group_team(plan, pack, want).members > 1) {
        core::run_team(want, member);
    } else {
        core::run_open_team(want, member);
    }
}

}  // namespace lstm_native::cpu
