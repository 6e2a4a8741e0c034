#include "cpu/recurrent_plan.h"

#include <atomic>
#include <vector>

#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {
// Gates of a chunk, in floats: a quarter of a megabyte leaves room for the weights in a second-level cache.
constexpr std::int64_t kChunkFloats = 196608;
// Multiply-adds of a step above which a hand-over between threads (0.15 to 1 us) pays.
constexpr double kSharedStepWork = 65536;
}  // namespace

RecurrentPlan::RecurrentPlan(const RecurrentPack& weights, std::int64_t batch, std::int64_t time, bool with_mask)
    : pack(weights), B(batch), T(time), masked(with_mask), lanes(weights.table->lanes) {
    unit_blocks = core::round_up(core::ceil_div(pack.config.H, lanes), 2);
    gate_blocks = core::round_up(pack.columns.count(), 2) + (pack.has_apart() ? unit_blocks : 0);
    input_blocks = core::round_up(core::ceil_div(pack.config.I, lanes), 2);
    // Nearly equal tiles that one micro-kernel takes whole; an even number of them, for two threads.
    tiles = core::ceil_div(B, pack.table->tile_rows);
    if (tiles > 1) tiles = std::min(core::round_up(tiles, 2), B);
    const std::int64_t rows =
        std::max<std::int64_t>({kChunkFloats / (gate_blocks * lanes), 2 * pack.table->tile_rows, largest_tile()});
    steps = std::max<std::int64_t>(1, std::min(std::min(rows, kChunkRows) / largest_tile(), T));
}

std::int64_t RecurrentPlan::tile_floats(std::int64_t rows, Kept kept) const {
    const bool all = kept == Kept::all;
    const std::int64_t gates = core::checked_mul(all ? T : steps, gate_blocks * lanes);
    const std::int64_t states = core::checked_mul(all ? T + chunks() * padding() + 1 : 2, state_blocks() * lanes);
    return core::checked_mul(rows, gates + states);
}

TileMemory::TileMemory(const RecurrentPlan& plan, std::int64_t tile, Kept kept, float* memory)
    : plan_(plan), kept_(kept) {
    const Range rows = plan.tile_rows(tile);
    slot_ = (rows.end - rows.begin) * plan.lanes;
    memory_ = memory + (kept == Kept::all ? plan.tile_floats(rows.begin, kept) : 0);
}

TileMemory::Gates TileMemory::chunk_gates(std::int64_t chunk) const {
    const Range steps = plan_.chunk_steps(chunk);
    Gates gates{};
    gates.stride = (steps.end - steps.begin) * slot_;
    gates.data = memory_;
    if (kept_ == Kept::all) {
        const std::int64_t states = (steps.begin + chunk * plan_.padding()) * plan_.state_blocks();
        gates.data += (steps.begin * plan_.gate_blocks + states) * slot_;
    }
    gates.apart = gates.data + plan_.pack.apart_block() * gates.stride;
    return gates;
}

TileMemory::Gates TileMemory::step_gates(std::int64_t chunk, std::int64_t t) const {
    const std::int64_t place = (t - plan_.chunk_steps(chunk).begin) * slot_;
    Gates gates = chunk_gates(chunk);
    gates.data += place;
    gates.apart += place;
    return gates;
}

TileMemory::State TileMemory::state(std::int64_t t) const {
    State state{};
    if (kept_ == Kept::all) {
        const std::int64_t chunk = t == plan_.T ? plan_.chunks() : t / plan_.steps;
        const Range steps = plan_.chunk_steps(chunk);
        const Gates gates = chunk_gates(chunk);
        const bool behind = chunk == plan_.chunks();
        state.stride = behind ? slot_ : gates.stride + plan_.padding() * slot_;
        state.h = gates.data + plan_.gate_blocks * gates.stride + (t - steps.begin) * slot_;
    } else {
        state.stride = 2 * slot_;
        state.h = memory_ + plan_.steps * plan_.gate_blocks * slot_ + t % 2 * slot_;
    }
    if (plan_.pack.has_cell_state()) state.c = state.h + plan_.unit_blocks * state.stride;
    const std::int64_t last = plan_.state_blocks() - plan_.unit_blocks;
    state.masked_h = plan_.masked ? state.h + last * state.stride : state.h;
    return state;
}

namespace {

struct Grouping {
    std::int64_t groups, members;  // groups * members <= team
};

Grouping group_team(const RecurrentPlan& plan, int team) {
    const RecurrentPack& pack = plan.pack;
    const double step_work = static_cast<double>(plan.largest_tile()) * static_cast<double>(pack.config.H) *
                             static_cast<double>(pack.columns.columns());
    if (plan.tiles >= team || step_work < kSharedStepWork) return {std::min<std::int64_t>(team, plan.tiles), 1};
    return {plan.tiles, std::min<std::int64_t>(team / plan.tiles, plan.unit_blocks / 2)};
}

}  // namespace

int recurrent_threads(const LnContext& context, const RecurrentPlan& plan) {
    const RecurrentPack& pack = plan.pack;
    const double inner = static_cast<double>(pack.config.I + pack.config.H);
    const double work =
        static_cast<double>(plan.B) * static_cast<double>(plan.T) * inner * static_cast<double>(pack.columns.columns());
    std::int64_t threads = plan.T == 1 ? threads_for_repeated(context, work) : threads_for(context, work);
    // No more threads than tiles: each runs on its own, without a barrier a step.
    if (core::Barrier::lately_stalled()) threads = std::min(threads, plan.tiles);
    const Grouping grouping = group_team(plan, static_cast<int>(threads));
    return static_cast<int>(grouping.groups * grouping.members);
}

void run_tiles(const RecurrentPlan& plan, int want, TileBody body, const void* argument) {
    std::atomic<std::int64_t> next{0};
    std::vector<core::Barrier> barriers(want > 1 ? static_cast<std::size_t>(want) : 0);
    auto member = [&](int rank, int team) {
        const Grouping grouping = group_team(plan, team);
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
    if (group_team(plan, want).members > 1) {
        core::run_team(want, member);
    } else {
        core::run_open_team(want, member);
    }
}

}  // namespace lstm_native::cpu
