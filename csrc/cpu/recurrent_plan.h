// How a sequence is cut up (floor 1, CPU): the batch into tiles of rows, the time into chunks of steps, the
// units over the threads of a tile. Tiles and chunks follow from shapes and instruction set alone, never
// from the number of threads: the order of every sum hangs on them.
//
// A tile runs all its steps on its own; within it, a chunk's input projection is one product and its gates
// stay in the cache until the steps have used them.
#pragma once

#include <cstdint>
#include <mutex>

#include "backend/backend.h"
#include "core/thread_pool.h"
#include "cpu/pack.h"

namespace lstm_native::cpu {

struct RecurrentPack {
    const KernelTable* table = nullptr;
    LnRecurrentConfig config{};
    CellKind kind{};
    ColumnBlocks columns{};  // of kernel and recurrent kernel, and of the gates
    PackedPairs kernel, recurrent;
    core::Block<float> bias;            // [pair][2][lanes]
    core::Block<float> recurrent_bias;  // GRU: of the product h R, in the candidate's pairs

    // Unit blocks that a step works on: the real ones, with GRU whole groups of column blocks.
    std::int64_t unit_blocks() const {
        const std::int64_t real = core::ceil_div(config.H, columns.lanes);
        return has_apart() ? core::round_up(real, 2) : real;
    }
    bool has_cell_state() const { return kind == CellKind::lstm; }
    // GRU: the gates have a block more for each unit block, behind the others (gru-inl.h).
    bool has_apart() const { return columns.candidates != 0; }
    std::int64_t apart_block() const { return columns.count(); }
    // Of the gates, the block with what the inputs give to a pair of columns, and with its gradient; the next block
    // belongs to it too. That of the recurrent product is 2 * pair.
    std::int64_t input_block(std::int64_t pair) const {
        return kind == CellKind::gru && columns.is_candidate(pair) ? apart_block() + 2 * (2 * pair / columns.group())
                                                                   : 2 * pair;
    }
    // The pairs of the unit blocks [blocks.begin, blocks.end), both even.
    Range pairs_of(const Range& blocks) const {
        return {blocks.begin * columns.group() / 4, std::min(blocks.end * columns.group() / 4, columns.pairs())};
    }

    const PackedPairs& kernel_transposed() const;
    const PackedPairs& recurrent_transposed() const;

private:
    mutable std::once_flag kernel_once_, recurrent_once_;
    mutable PackedPairs kernel_transposed_, recurrent_transposed_;
};

class RecurrentPlan {
public:
    static constexpr std::int64_t kChunkRows = 96;  // steps times rows of a tile, at most

    // T: the steps of the call; `masked`: there is a recurrent_mask.
    RecurrentPlan(const RecurrentPack& pack, std::int64_t B, std::int64_t T, bool masked);

    std::int64_t B, T;
    std::int64_t lanes;
    std::int64_t unit_blocks;  // column blocks of h and c, rounded up to whole pairs
    std::int64_t gate_blocks;  // column blocks of the gates
    std::int64_t input_blocks;
    std::int64_t tiles;
    std::int64_t steps;  // of a chunk; the last chunk may have fewer

    Range tile_rows(std::int64_t tile) const { return part_of(B, tiles, tile); }
    std::int64_t largest_tile() const { return core::ceil_div(B, tiles); }
    std::int64_t chunks() const { return core::ceil_div(T, steps); }
    std::int64_t chunk_steps(std::int64_t chunk) const { return std::min(steps, T - chunk * steps); }

    // One chunk of one tile, in blocked rows; row s * rows + r is step s of the chunk, row r of the tile.
    // h and c have one step more: slot s is the state that step s starts from.
    struct Chunk {
        float* gates;     // (S * rows, G * H)
        float* apart;     // (S * rows, H) with GRU; at the end of the gates
        float* h;         // ((S + 1) * rows, H)
        float* c;         // null without a cell state
        float* masked_h;  // what the recurrent product takes: h, or h times the recurrent mask
        std::int64_t gates_stride, state_stride;
    };
    std::int64_t chunk_floats(std::int64_t rows, std::int64_t chunk_steps) const;
    Chunk chunk_at(float* memory, std::int64_t rows, std::int64_t chunk_steps) const;
    // Where chunk `chunk` of tile `tile` lies in the saved memory, in floats.
    std::int64_t saved_offset(std::int64_t tile, std::int64_t chunk) const;
    std::int64_t saved_floats() const { return saved_offset(tiles, 0); }

private:
    std::int64_t apart_block_;
    bool has_cell_state_, masked_;
    std::int64_t states_;          // h, c where there is one, masked h where there is one
    std::int64_t row_floats_ = 0;  // saved floats of one row, all steps
};

// What the inputs give to the gates: bias + a * kernel for the pairs of columns; `p` has rows, k, a.
void project_inputs(const RecurrentPack& pack, Product p, const Range& pairs, float* gates, std::int64_t stride);

// Back from the gates' gradients to the inputs: `p` has rows, c and the pairs of the inputs' columns.
void project_back(const RecurrentPack& pack, Product p, const float* gates, std::int64_t stride);

// to[block] = from[block] * mask[block] for the unit blocks; floats between blocks: `stride`, those of the mask
// rows * lanes.
void apply_mask(const RecurrentPack& pack, const Range& blocks, std::int64_t rows, const float* from, const float* mask,
                float* to, std::int64_t stride);

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

// Of the steps of a call, `t` is the number in processed order from the sequence's begin on.
// Where step t stands on the time axis of the inputs.
inline std::int64_t input_time(const LnRecurrentForward& args, std::int64_t t) {
    return args.go_backwards != 0 ? args.T - 1 - t : t;
}
// The inputs of `steps` steps from step t on, for the tile's rows [row, row + m), as blocked rows (steps * m, I).
void block_inputs(const RecurrentPack& pack, const LnRecurrentForward& args, std::int64_t row, std::int64_t m,
                  std::int64_t t, std::int64_t steps, float* blocked);

// Members that pay for this call.
int recurrent_threads(const LnContext& context, const RecurrentPlan& plan, const RecurrentPack& pack);

// Runs body(tile, share) for every tile; `want` from recurrent_threads. `group` and `rank` are below `want`.
using TileBody = void (*)(const void* argument, std::int64_t tile, const Share& share);
void run_tiles(const RecurrentPlan& plan, const RecurrentPack& pack, int want, TileBody body, const void* argument);

template <class F>
void run_tiles(const RecurrentPlan& plan, const RecurrentPack& pack, int want, const F& body) {
    run_tiles(
        plan, pack, want,
        [](const void* f, std::int64_t tile, const Share& share) { (*static_cast<const F*>(f))(tile, share); }, &body);
}

}  // namespace lstm_native::cpu
