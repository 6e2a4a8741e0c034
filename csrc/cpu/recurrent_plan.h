// How a sequence is cut up (floor 1, CPU): the batch into tiles of rows, the time into chunks of steps, the
// units over the threads of a tile. Tiles and chunks follow from shapes and instruction set alone, never
// from the number of threads: the order of every sum hangs on them.
//
// A tile runs all its steps on its own; within it, a chunk's input projection is one product and its gates
// stay in the cache until the steps have used them.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "cpu/recurrent_pack.h"

namespace lstm_native::cpu {

// What the memory of a tile holds: all its steps, for the way back, or as few as the way forward needs.
enum class Kept { all, few };

class RecurrentPlan {
public:
    static constexpr std::int64_t kChunkRows = 96;  // steps times rows of a tile, at most

    // T: the steps of the call; `masked`: there is a recurrent_mask.
    RecurrentPlan(const RecurrentPack& pack, std::int64_t B, std::int64_t T, bool masked);

    const RecurrentPack& pack;
    std::int64_t B, T;
    bool masked;
    std::int64_t lanes;
    std::int64_t unit_blocks;  // column blocks of h and c, rounded up to whole pairs
    std::int64_t gate_blocks;  // column blocks of the gates
    std::int64_t input_blocks;
    std::int64_t tiles;
    std::int64_t steps;  // of a chunk; the last chunk may have fewer

    Range tile_rows(std::int64_t tile) const { return part_of(B, tiles, tile); }
    std::int64_t largest_tile() const { return core::ceil_div(B, tiles); }
    // Multiply-adds of so many rows of the batch.
    double work(std::int64_t rows) const;
    std::int64_t chunks() const { return core::ceil_div(T, steps); }
    // Empty for the one behind the last.
    Range chunk_steps(std::int64_t chunk) const {
        return {std::min(chunk * steps, T), std::min((chunk + 1) * steps, T)};
    }

    // Floats of a TileMemory of so many rows.
    std::int64_t tile_floats(std::int64_t rows, Kept kept) const;
    // Of scratch: the blocked inputs of a chunk, and one blocked state of a tile.
    std::int64_t input_floats() const { return largest_tile() * steps * input_blocks * lanes; }
    std::int64_t state_floats() const { return largest_tile() * unit_blocks * lanes; }

    // Column blocks of a state: h, c where there is one, masked h where there is one.
    std::int64_t state_blocks() const { return (1 + (pack.has_cell_state() ? 1 : 0) + (masked ? 1 : 0)) * unit_blocks; }
    // Unused slots of a chunk's states: column blocks a power of two apart would meet in the same places of a cache.
    std::int64_t padding() const { return steps * largest_tile() % 32 == 0 ? 1 : 0; }
};

// Gates and states of one tile, in blocked rows. Where all are kept, each chunk has its gates and then the states that
// its steps start from; behind the last chunk comes the state that it leaves. Where few are kept, the chunks take turns
// in the same gates, and the states in two slots.
class TileMemory {
public:
    // `memory`: with Kept::all that of all tiles, which lie one after the other.
    TileMemory(const RecurrentPlan& plan, std::int64_t tile, Kept kept, float* memory);

    struct Gates {
        float* data;   // (S * rows, gates): row s * rows + r is step s of the chunk, row r of the tile
        float* apart;  // (S * rows, H) with GRU; at the end of data
        std::int64_t stride;
    };
    Gates chunk_gates(std::int64_t chunk) const;
    // Those of step t, which belongs to the chunk.
    Gates step_gates(std::int64_t chunk, std::int64_t t) const;

    struct State {
        float* h;         // (rows, H)
        float* c;         // null without a cell state
        float* masked_h;  // what the recurrent product takes: h, or h times the recurrent mask
        std::int64_t stride;
    };
    // What step t starts from; t = T: what the last one leaves. With Kept::all the states of a chunk's steps follow
    // each other as the rows of its gates do.
    State state(std::int64_t t) const;

private:
    const RecurrentPlan& plan_;
    Kept kept_;
    std::int64_t slot_;  // floats of a step in a column block
    float* memory_;
};

// One member's share of a tile. With at least as many tiles as members, each member claims whole tiles; otherwise a
// group of members shares the units of one tile, step by step.
struct Share {
    std::int64_t rank;   // of the member in the team: its own scratch memory
    std::int64_t group;  // scratch memory that the members of a tile share
    std::int64_t member, members;
    Range blocks;            // of the units, whole pairs
    core::Barrier* barrier;  // null for a single member

    void sync() const {
        if (members > 1) barrier->wait(static_cast<int>(members));
    }
};

// Some calls that do not depend on each other.
struct Plans {
    const RecurrentPlan* first;
    std::int64_t count;

    const RecurrentPlan& operator[](std::int64_t call) const { return first[call]; }
    const RecurrentPlan* begin() const { return first; }
    const RecurrentPlan* end() const { return first + count; }

    // The largest of what `floats` says of each: scratch that the calls share.
    template <class F>
    std::int64_t largest(const F& floats) const {
        std::int64_t found = 0;
        for (std::int64_t call = 0; call < count; ++call) found = std::max<std::int64_t>(found, floats(call));
        return found;
    }
};

// Whether the calls are done sooner when their tiles are spread over the threads together.
bool sooner_together(const LnContext& context, const Plans& plans);

// Calls body(plans, call) with all the calls where they are done sooner together, else with one after the other;
// plan_of(call) is the plan of one.
template <class Call, class PlanOf, class F>
void run_plans(const LnContext& context, std::int64_t calls, const Call* call, const PlanOf& plan_of, const F& body) {
    if (calls == 1) {
        const RecurrentPlan plan = plan_of(*call);
        return body(Plans{&plan, 1}, call);
    }
    std::vector<RecurrentPlan> plans;
    plans.reserve(static_cast<std::size_t>(calls));
    for (std::int64_t n = 0; n < calls; ++n) plans.push_back(plan_of(call[n]));
    if (sooner_together(context, {plans.data(), calls})) return body(Plans{plans.data(), calls}, call);
    for (std::int64_t n = 0; n < calls; ++n) body(Plans{plans.data() + n, 1}, call + n);
}

// Members that pay for these calls.
int recurrent_threads(const LnContext& context, const Plans& plans);

// Runs body(call, tile, share) for every tile of every call; `want` from recurrent_threads. `group` and `rank` are
// below `want`.
using TileBody = void (*)(const void* argument, std::int64_t call, std::int64_t tile, const Share& share);
void run_tiles(const Plans& plans, int want, TileBody body, const void* argument);

template <class F>
void run_tiles(const Plans& plans, int want, const F& body) {
    run_tiles(
        plans, want,
        [](const void* f, std::int64_t call, std::int64_t tile, const Share& share) {
            (*static_cast<const F*>(f))(call, tile, share);
        },
        &body);
}

}  // namespace lstm_native::cpu
