#include "cpu/recurrent_plan.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {
// Gates of a chunk, in floats: a quarter of a megabyte leaves room for the weights in a second-level cache.
constexpr std::int64_t kChunkFloats = 196608;
// Multiply-adds of a step above which a hand-over between threads (0.15 to 1 us) pays.
constexpr double kSharedStepWork = 65536;
// Bytes of a recurrent kernel, or of a member's part of it, that stay in a second-level cache of a megabyte.
constexpr std::int64_t kCachedBytes = 786432;
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

double RecurrentPlan::work(std::int64_t rows) const {
    return static_cast<double>(rows) * static_cast<double>(T) * static_cast<double>(pack.config.I + pack.config.H) *
           static_cast<double>(pack.columns.columns());
}

namespace {

struct Grouping {
    std::int64_t groups, members;  // groups * members <= team
};

Grouping group_team(const Plans& plans, std::int64_t team) {
    std::int64_t tiles = 0;
    std::int64_t pairs = plans[0].unit_blocks / 2;
    bool shared = true;
    for (const RecurrentPlan& plan : plans) {
        tiles += plan.tiles;
        pairs = std::min(pairs, plan.unit_blocks / 2);
        const double step_work = static_cast<double>(plan.largest_tile()) * static_cast<double>(plan.pack.config.H) *
                                 static_cast<double>(plan.pack.columns.columns());
        shared = shared && step_work >= kSharedStepWork;
    }
    if (tiles >= team || !shared) return {std::min<std::int64_t>(team, tiles), 1};
    return {tiles, std::min<std::int64_t>(team / tiles, pairs)};
}

std::int64_t tiles_of(const Plans& plans) {
    std::int64_t tiles = 0;
    for (const RecurrentPlan& plan : plans) tiles += plan.tiles;
    return tiles;
}

double work_of(const Plans& plans) {
    double work = 0.0;
    for (const RecurrentPlan& plan : plans) work += plan.work(plan.B);
    return work;
}

// No more threads than tiles after a stall: each runs on its own, without a barrier a step.
std::int64_t unless_stalled(const Plans& plans, std::int64_t threads) {
    return core::Barrier::lately_stalled() ? std::min(threads, tiles_of(plans)) : threads;
}

// How the steps of some calls are run.
struct Run {
    Run(const LnContext& context, const Plans& plans)
        : grouping(group_team(plans, unless_stalled(plans, threads_for(context, work_of(plans))))) {
        double tile = 0.0;
        for (const RecurrentPlan& plan : plans) {
            tile = std::max(tile, plan.work(plan.largest_tile()));
            kernel = std::max(
                kernel, plan.pack.config.H * plan.pack.columns.columns() * element_bytes(plan.pack.recurrent.storage));
        }
        time = tile * static_cast<double>(core::ceil_div(tiles_of(plans), grouping.groups)) /
               static_cast<double>(grouping.members);
        kernel /= grouping.members;
    }

    Grouping grouping;
    double time = 0.0;        // in multiply-adds of one thread
    std::int64_t kernel = 0;  // bytes of a recurrent kernel that a member walks over at every step, at most
};

}  // namespace

bool sooner_together(const LnContext& context, const Plans& plans) {
    const Run together(context, plans);
    double apart = 0.0;
    for (const RecurrentPlan& plan : plans) {
        const Run alone(context, {&plan, 1});
        apart += alone.time;
        if (together.kernel > kCachedBytes && alone.grouping.members > together.grouping.members) return false;
    }
    return together.time <= 1.1 * apart;  // barriers count too
}

int recurrent_threads(const LnContext& context, const Plans& plans) {
    const double work = work_of(plans);
    const bool is_step = std::all_of(plans.begin(), plans.end(), [](const RecurrentPlan& plan) { return plan.T == 1; });
    const int threads = is_step ? threads_for_repeated(context, work) : threads_for(context, work);
    const Grouping grouping = group_team(plans, unless_stalled(plans, threads));
    return static_cast<int>(grouping.groups * grouping.members);
}

void run_tiles(const Plans& plans, int want, TileBody body, const void* argument) {
    std::atomic<std::int64_t> of_one{0};
    std::vector<std::atomic<std::int64_t>> of_each(plans.count > 1 ? static_cast<std::size_t>(plans.count) : 0);
    std::atomic<std::int64_t>* const next = plans.count > 1 ? of_each.data() : &of_one;
    std::vector<core::Barrier> barriers(want > 1 ? static_cast<std::size_t>(want) : 0);
    auto member = [&](int rank, int team) {
        const Grouping grouping = group_team(plans, team);
        Share share{};
        share.rank = rank;
        share.members = grouping.members;
        share.member = rank % share.members;
        share.group = rank / share.members;
        if (share.group >= grouping.groups) return;
        const auto take_units = [&](const RecurrentPlan& plan) {
            const Range pairs = part_of(plan.unit_blocks / 2, share.members, share.member);
            share.blocks = {2 * pairs.begin, 2 * pairs.end};
        };
        if (share.members > 1) {
            std::int64_t call = 0;
            std::int64_t tile = share.group;
            while (tile >= plans[call].tiles) tile -= plans[call++].tiles;
            take_units(plans[call]);
            share.barrier = &barriers[static_cast<std::size_t>(share.group)];
            body(argument, call, tile, share);
            return;
        }
        // Each begins with another call, whose weights its caches then hold.
        for (std::int64_t n = 0; n < plans.count; ++n) {
            const std::int64_t call = (rank * plans.count / team + n) % plans.count;
            take_units(plans[call]);
            for (std::int64_t tile; (tile = next[call].fetch_add(1)) < plans[call].tiles;)
                body(argument, call, tile, share);
        }
    };
    if (group_team(plans, want).members > 1) {
        core::run_team(want, member);
    } else {
        core::run_open_team(want, member);
    }
}

}  // namespace lstm_native::cpu
