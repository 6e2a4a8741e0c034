// A tile of rows as one member of a team sees it: what the ways forward and back share (floor 1, CPU).
#pragma once

#include <cstdint>

#include "cpu/recurrent_plan.h"

namespace lstm_native::cpu {

// `t` counts the steps of a call in processed order. Where step t of the call stands on the sequence's axis T, in
// processed order; and on the time axis of the inputs.
inline std::int64_t sequence_step(const LnRecurrentForward& args, std::int64_t t) { return args.first + t; }
inline std::int64_t input_time(const LnRecurrentForward& args, std::int64_t t) {
    return args.go_backwards != 0 ? args.T - 1 - (args.first + t) : args.first + t;
}
// Where the inputs of a row of the batch begin at step t of the call.
inline std::int64_t input_place(const LnRecurrentForward& args, std::int64_t row, std::int64_t t) {
    return row * args.input.row + input_time(args, t) * args.input.step;
}

// The steps of the call at which any of the rows is updated or reset. Around them the state stands still: padding at
// the ends of sequences costs next to nothing where all rows of a tile have it.
Range active_steps(const LnRecurrentForward& args, const Range& rows);

// The active steps of a chunk, maybe none.
inline Range active_part(const RecurrentPlan& plan, std::int64_t chunk, const Range& active) {
    const Range steps = plan.chunk_steps(chunk);
    const std::int64_t begin = std::max(steps.begin, active.begin);
    return {begin, std::max(begin, std::min(steps.end, active.end))};
}

// The inputs of the steps for the rows of a tile, as blocked rows (steps * rows, I).
void block_inputs(const RecurrentPlan& plan, const LnRecurrentForward& args, const Range& rows, const Range& steps,
                  float* blocked);

class RecurrentTile {
protected:
    // `memory` as that of TileMemory.
    RecurrentTile(const RecurrentPlan& plan, const LnRecurrentForward& args, std::int64_t tile, const Share& share,
                  Kept kept, float* memory);

    std::int64_t rows() const { return rows_.end - rows_.begin; }
    std::int64_t H() const { return pack_.config.H; }
    // The member's real units: first, and how many.
    std::int64_t first_unit() const { return share_.blocks.begin * plan_.lanes; }
    std::int64_t unit_count() const;

    // For the member's units. State (B, H) of `rows` rows of the batch from `row` on into blocked rows; null: zero.
    void load_state(const float* state, std::int64_t row, std::int64_t rows, float* to, std::int64_t stride) const;
    // to = from * mask; floats between column blocks: `stride`, those of the mask rows * lanes.
    void apply_mask(const float* from, const float* mask, float* to, std::int64_t stride) const;

    const RecurrentPlan& plan_;
    const RecurrentPack& pack_;
    const KernelTable& table_;
    const LnRecurrentForward& call_;
    Share share_;
    Range rows_;    // of the batch
    Range active_;  // steps of the call
    TileMemory memory_;
};

}  // namespace lstm_native::cpu
