// What both directions of a grid share (floor 1, CUDA): the cells, which part of a call a block owns, and where its
// weights are.
#pragma once

#include "cuda/cells.h"
#include "cuda/grid.h"
#include "cuda/planner.h"
#include "cuda/steps.h"
#include "cuda/tiles.h"

namespace lstm_native::cuda {

// What a kind of cell says of itself: kSums is GridPlan::sums, and the blocks of gates that are kept; kInputs blocks
// come from the inputs. Blocks of the recurrent kernel: which of them makes sum c of a unit, and which takes gradient
// c; -1 where none does. before(): the state that its gradients need, or null.
struct GridLstm {
    static constexpr int kSums = 4;
    static constexpr int kInputs = 4;
    LSTM_NATIVE_DEVICE static int block_of_sum(int c) { return c; }
    LSTM_NATIVE_DEVICE static int block_of_gradient(int c) { return c; }

    template <class Then>
    LSTM_NATIVE_DEVICE static State step(const StepForward& s, const Element& e, unsigned control, float* input,
                                         const float* product, const State& before, const Then& then) {
        const LstmForward<CommonActivations> cell{s, {}};
        if ((control & LN_UPDATE) == 0) return cell.carry(e, control, before, then);
        for (int g = 0; g < 4; ++g) input[g] += product[g];
        return cell.update(e, control, input, before, then);
    }
    LSTM_NATIVE_DEVICE static const float* before(const StepBackward& s) { return s.c_in; }
    LSTM_NATIVE_DEVICE static Gates back(const StepBackward& s, const float* keep, float before, float d_h, float d_c) {
        return LstmBackward<CommonActivations>{s, {}}.update(keep, before, d_h, d_c);
    }
};

struct GridGru {
    static constexpr int kSums = 4;
    static constexpr int kInputs = 3;
    LSTM_NATIVE_DEVICE static int block_of_sum(int c) { return c < 3 ? c : -1; }
    LSTM_NATIVE_DEVICE static int block_of_gradient(int c) { return c < 2 ? c : c == 3 ? 2 : -1; }

    template <class Then>
    LSTM_NATIVE_DEVICE static State step(const StepForward& s, const Element& e, unsigned control, float* input,
                                         const float* product, const State& before, const Then& then) {
        if ((control & LN_UPDATE) == 0) return finish(s, e, control, before.h, then);
        return GruForward<CommonActivations>{s, {}}.update(e, control, input, product, before.h, then);
    }
    LSTM_NATIVE_DEVICE static const float* before(const StepBackward& s) { return s.h_in; }
    LSTM_NATIVE_DEVICE static Gates back(const StepBackward& s, const float* keep, float before, float d_h, float) {
        return GruBackward<CommonActivations>{s, {}}.update(keep, before, d_h);
    }
};

template <class Act>
struct GridSimpleRnn {
    static constexpr int kSums = 1;
    static constexpr int kInputs = 1;
    LSTM_NATIVE_DEVICE static int block_of_sum(int c) { return c; }
    LSTM_NATIVE_DEVICE static int block_of_gradient(int c) { return c; }

    template <class Then>
    LSTM_NATIVE_DEVICE static State step(const StepForward& s, const Element& e, unsigned control, float* input,
                                         const float* product, const State& before, const Then& then) {
        if ((control & LN_UPDATE) == 0) return finish(s, e, control, before.h, then);
        return SimpleRnnForward<Act>{s, {}}.update(e, control, input[0] + product[0], then);
    }
    LSTM_NATIVE_DEVICE static const float* before(const StepBackward&) { return nullptr; }
    LSTM_NATIVE_DEVICE static Gates back(const StepBackward& s, const float* keep, float, float d_h, float) {
        return SimpleRnnBackward<Act>{s, {}}.update(keep[0], d_h);
    }
};

// The part of a call that a block owns.
struct GridPart {
    int U, shift;
    int begin, rows;  // of the batch
    int first;        // unit
    int units;        // below U where H ends

    LSTM_NATIVE_DEVICE GridPart(const GridPlan& plan, const GridBlock& block, std::int64_t B, std::int64_t H)
        : U(plan.units), shift(plan.shift) {
        begin = block.group() * plan.rows;
        rows = static_cast<int>(B) - begin < plan.rows ? static_cast<int>(B) - begin : plan.rows;
        first = block.member() * U;
        units = static_cast<int>(H) - first < U ? static_cast<int>(H) - first : U;
    }
    // function(row, unit) of the part for `count` rows from `row` on, each by one thread, always the same.
    template <class F>
    LSTM_NATIVE_DEVICE void each(const GridBlock& block, int row, int count, F function) const {
        block.each(count << shift, [&](int i) {
            const int j = i & (U - 1);
            if (j < units) function(row + (i >> shift), j);
        });
    }
};

template <class T>
LSTM_NATIVE_DEVICE T* shared_at(const GridBlock& block, std::size_t bytes) {
    return reinterpret_cast<T*>(block.shared + bytes);
}

// Where the tiles of a warp are that registers do not hold. `streamed`: those of all warps of all blocks.
template <class Arithmetic>
LSTM_NATIVE_DEVICE RestTiles<typename Arithmetic::Word> rest_tiles(const GridPlan& plan, const GridBlock& block,
                                                                   const Warp& warp,
                                                                   typename Arithmetic::Word* streamed) {
    using Word = typename Arithmetic::Word;
    constexpr int kTile = Arithmetic::kWords * kWarp;
    const std::int64_t number =
        (std::int64_t{block.group()} * plan.members + block.member()) * kGridWarps + warp.number;
    return {shared_at<Word>(block, plan.rest_at) + warp.number * plan.shared_tiles * kTile, plan.shared_tiles,
            streamed + number * plan.streamed_tiles * kTile};
}

}  // namespace lstm_native::cuda
