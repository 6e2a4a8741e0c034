// What the forward and the backward driver of the general cells share (floor 1, CPU): the packed weights, the cut of
// batch and time, the layout of a chunk.
//
// As in recurrent_plan.h a tile of rows runs all its steps on its own, in chunks of steps, cut from shapes and
// instruction set alone. It is simpler: threads take whole tiles only, and a step is products and then one kernel for
// all units of the cell.
#pragma once

#include <cstdint>
#include <mutex>

#include "backend/backend.h"
#include "cpu/pack.h"

namespace lstm_native::cpu {

// Gates whose recurrent products take the same h: all of them, or with the GRU z and r, then the candidate.
struct GeneralPart {
    ColumnBlocks columns{};
    std::int64_t column0 = 0;  // of the canonical weights, where its columns begin
    PackedPairs kernel, recurrent;
    core::Block<float> bias;
};

struct GeneralPack {
    const KernelTable* table = nullptr;
    LnGeneralConfig config{};
    int parts = 1;
    GeneralPart part[2];
    core::Block<float> recurrent_bias;  // GRU with the reset gate after the product: of h R_h
    core::Block<float> peepholes;       // [3][unit blocks][lanes], or null
    PackedPairs projection;             // no pairs: none

    bool has_projection() const { return projection.pairs > 0; }
    bool has_cell_state() const { return config.cell == LN_CELL_LSTM; }
    bool has_apart() const { return parts == 2; }
    bool reset_after() const { return config.cell == LN_CELL_GRU; }
    std::int64_t columns() const { return part[0].columns.columns() + (parts == 2 ? part[1].columns.columns() : 0); }
    std::int64_t peephole_floats() const { return 3 * core::round_up(config.H, table->lanes); }
    double step_work() const {  // multiply-adds of one row and step
        return static_cast<double>(columns()) * static_cast<double>(config.I + config.P) +
               (has_projection() ? static_cast<double>(config.H) * static_cast<double>(config.P) : 0.0);
    }

    // Transposes for the way back, made at the first call.
    struct Transposed {
        PackedPairs kernel[2], recurrent[2], projection;
    };
    const Transposed& transposed() const;

private:
    mutable std::once_flag once_;
    mutable Transposed transposed_;
};

class GeneralPlan {
public:
    GeneralPlan(const GeneralPack& pack, std::int64_t B, std::int64_t T, bool masked, bool training);

    std::int64_t B, T;
    std::int64_t lanes, tiles;
    std::int64_t steps;  // of a chunk; the last chunk may have fewer
    // Column blocks that hold I, H and P columns, in whole pairs.
    std::int64_t input_blocks, unit_blocks, state_blocks;

    Range tile_rows(std::int64_t tile) const { return part_of(B, tiles, tile); }
    std::int64_t largest_tile() const { return core::ceil_div(B, tiles); }
    std::int64_t chunks() const { return core::ceil_div(T, steps); }
    std::int64_t chunk_steps(std::int64_t chunk) const { return std::min(steps, T - chunk * steps); }
    // How many of them a tile runs, the first ones of the chunk; `active` from active_chunks().
    std::int64_t active_steps(std::int64_t chunk, const Range& active) const {
        if (chunk * steps < active.begin) return 0;
        return std::clamp<std::int64_t>(active.end - chunk * steps, 0, chunk_steps(chunk));
    }

    // One chunk of one tile in blocked rows; row s * rows + r is step s of the chunk, row r of the tile. h, c and
    // masked_h have one step more: slot s is the state that step s starts from.
    struct Chunk {
        float* gates[2];
        float* apart;  // GRU, as in GeneralStep
        float* cell;   // with a projection: what it takes
        float* d_h;    // with a projection, in training: the gradient of what it gives
        float* h;
        float* c;         // null without a cell state
        float* masked_h;  // what the recurrent product takes: h, or h times the recurrent mask
        std::int64_t gates_stride, state_stride;
    };
    Chunk chunk_at(float* memory, std::int64_t rows, std::int64_t chunk_steps) const;
    std::int64_t chunk_floats(std::int64_t rows, std::int64_t chunk_steps) const {
        return rows * lanes * (chunk_steps * step_blocks() + (chunk_steps + 1) * slot_blocks());
    }
    // Where chunk `chunk` of tile `tile` lies in the saved memory, in floats.
    std::int64_t saved_offset(std::int64_t tile, std::int64_t chunk) const;
    std::int64_t saved_floats() const { return saved_offset(tiles, 0); }

private:
    std::int64_t step_blocks() const;  // column blocks with a row a step,
    std::int64_t slot_blocks() const;  // and of states
    std::int64_t gate_blocks_[2];
    bool has_apart_, has_projection_, has_cell_state_, masked_, training_;
};

// The steps of the call that a tile runs: from the first chunk in which a row is updated or reset, whole, so that its
// rows keep their places in the sums of the weight gradients, to the last such step. Around them the state stands
// still.
Range active_chunks(const GeneralPlan& plan, const LnRecurrentForward& args, const Range& rows);

// The inputs of `steps` steps from step t on, for the tile's rows [row, row + m), as blocked rows (steps * m, I).
void block_general_inputs(const GeneralPack& pack, const LnRecurrentForward& args, std::int64_t row, std::int64_t m,
                          std::int64_t t, std::int64_t steps, float* blocked);

// Rows [row, row + m) of a state (B, columns), or zeros for null, as blocked rows. `to` has `blocks` column blocks.
void load_rows(const KernelTable& table, const float* state, std::int64_t columns, std::int64_t row, std::int64_t m,
               std::int64_t blocks, float* to, std::int64_t stride);

// One row of `blocks` column blocks, from a row or zero.
void copy_row(std::int64_t lanes, std::int64_t blocks, const float* from, float* to, std::int64_t stride);
void zero_row(std::int64_t lanes, std::int64_t blocks, float* to, std::int64_t stride);

// c = (c, or start) + a * w for all pairs of w.
void product_of(const GeneralPack& pack, Start start, const float* bias, std::int64_t rows, std::int64_t k,
                const float* a, std::int64_t a_stride, const PackedPairs& w, float* c, std::int64_t c_stride);

// Where the inputs of a row of the batch begin at step t of the sequence, in processed order.
inline std::int64_t general_input_place(const LnRecurrentForward& args, std::int64_t row, std::int64_t t) {
    return row * args.input.row + (args.go_backwards != 0 ? args.T - 1 - t : t) * args.input.step;
}

int general_threads(const LnContext& context, const GeneralPack& pack, std::int64_t B, std::int64_t steps);

}  // namespace lstm_native::cpu
