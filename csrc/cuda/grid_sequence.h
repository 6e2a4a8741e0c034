// All steps of a cell in one launch, by blocks that wait for each other (floor 1, CUDA; GridPlan in planner.h says who
// owns what, CellKind which cells, grid.h how they wait, tiles.h how a warp multiplies).
#pragma once

#include "cuda/cells.h"
#include "cuda/grid.h"
#include "cuda/marked.h"
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

    LSTM_NATIVE_DEVICE static State step(const StepForward& s, const Element& e, unsigned control, float* input,
                                         const float* product, const State& before) {
        const LstmForward<CommonActivations> cell{s, {}};
        if ((control & LN_UPDATE) == 0) return cell.carry(e, control, before);
        for (int g = 0; g < 4; ++g) input[g] += product[g];
        return cell.update(e, control, input, before);
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

    LSTM_NATIVE_DEVICE static State step(const StepForward& s, const Element& e, unsigned control, float* input,
                                         const float* product, const State& before) {
        if ((control & LN_UPDATE) == 0) return finish(s, e, control, before.h);
        return GruForward<CommonActivations>{s, {}}.update(e, control, input, product, before.h);
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

    LSTM_NATIVE_DEVICE static State step(const StepForward& s, const Element& e, unsigned control, float* input,
                                         const float* product, const State& before) {
        if ((control & LN_UPDATE) == 0) return finish(s, e, control, before.h);
        return SimpleRnnForward<Act>{s, {}}.update(e, control, input[0] + product[0]);
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

template <class Cell, class TheArithmetic, bool kMarks>
struct GridForward {
    static constexpr bool kMeets = !kMarks;
    using Arithmetic = TheArithmetic;
    using Operand = typename Arithmetic::Operand;
    using Word = typename Arithmetic::Word;
    using Marked = typename Arithmetic::Marked;
    using MarkedWord = typename Marked::Word;
    using Held = HeldTiles<Arithmetic>;

    StepsForward all;
    GridPlan plan;
    std::int64_t weight_columns;
    const typename Arithmetic::Weight* weights;  // (H, weight_columns)
    Word* streamed;                              // of all blocks; scratch
    // (2, B, stride), operands or words: what the products of a step take of h, by the parity of the step. Of a cluster
    // every block has (2, rows, stride) words in shared memory.
    unsigned char* handed;

    LSTM_NATIVE_DEVICE GridPart part_of(const GridBlock& block) const {
        return GridPart(plan, block, all.B, all.first.H);
    }
    // Warp w has columns 32 (w / slices) to + 32 of the block, and slice w % slices of k.
    LSTM_NATIVE_DEVICE int depth_of_slice(int slice) const {
        const int tiles = (static_cast<int>(all.first.H) + kTileDepth - 1) / kTileDepth - slice * plan.depth;
        return tiles < 0 ? 0 : tiles < plan.depth ? tiles : plan.depth;
    }
    LSTM_NATIVE_DEVICE Operand* operands_at(int step, int row) const {
        return reinterpret_cast<Operand*>(handed) + ((step & 1) * all.B + row) * plan.stride;
    }
    // Of the first of the part's rows.
    LSTM_NATIVE_DEVICE MarkedWord* words_at(const GridBlock& block, const GridPart& part, int step) const {
        return plan.exchange == Exchange::cluster
                   ? shared_at<MarkedWord>(block, plan.words_at) + (step & 1) * plan.rows * plan.stride
                   : reinterpret_cast<MarkedWord*>(handed) + ((step & 1) * all.B + part.begin) * plan.stride;
    }
    // Hands on what the products of a step take of a row (of the part's) and a unit.
    LSTM_NATIVE_DEVICE void hand_on(const GridBlock& block, const GridPart& part, int step, int row, int unit,
                                    Operand x) const {
        if constexpr (kMarks) {
            MarkedWord* const to = words_at(block, part, step) + row * plan.stride + unit;
            const MarkedWord word = Marked::with_mark(x, Marked::mark_of(step));
            if (plan.exchange == Exchange::marked) return store_word(to, word);
            for (int member = 0; member < plan.members; ++member) store_word(block.of_member(to, member), word);
        } else {
            operands_at(step, part.begin + row)[unit] = x;
        }
    }

    // Asks for what the inputs give at a step: [row][gate][unit].
    LSTM_NATIVE_DEVICE void fetch_inputs(const GridBlock& block, const GridPart& part, int step) const {
        const StepForward s = all.at(step);
        float* const to = shared_at<float>(block, plan.given_at) + (step & 1) * plan.rows * Cell::kSums * part.U;
        const int H = static_cast<int>(s.H);
        block.each(part.rows * Cell::kInputs << part.shift, [&](int i) {
            const int j = i & (part.U - 1);
            const int row = (i >> part.shift) / Cell::kInputs;
            const int gate = (i >> part.shift) - row * Cell::kInputs;
            const int b = part.begin + row;
            const std::int64_t from = s.index == nullptr ? b : std::int64_t{s.index[b * s.T]};
            if (j < part.units)
                block.fetch(to + (row * Cell::kSums + gate) * part.U + j,
                            s.x + from * s.x_stride + gate * H + part.first + j);
        });
    }

    // Words that no other block has written, and what lies behind H for good.
    LSTM_NATIVE_DEVICE void prepare(const GridBlock& block) const {
        if (!kMarks || plan.exchange != Exchange::cluster) return;
        auto* const words = shared_at<MarkedWord>(block, plan.words_at);
        block.each(2 * plan.rows * plan.stride, [&](int i) {
            words[i] =
                i % plan.stride < all.first.H ? 0 : Marked::with_mark(Arithmetic::operand(0.0F), Marked::kForGood);
        });
    }

    LSTM_NATIVE_DEVICE void start(const GridBlock& block, PerThread<Held>& held) const {
        const GridPart part = part_of(block);
        const StepForward& s = all.first;
        const int H = static_cast<int>(s.H);
        block.each_warp([&](const Warp& warp) {
            const int slice = warp.number & (plan.slices() - 1);
            const int tile = warp.number >> plan.slices_shift();
            load_tiles<Arithmetic>(warp, held, rest_of(block, warp), {1, depth_of_slice(slice)},
                                   [&](int, int depth, int column, int k) {
                                       const int sum = tile * kTileColumns + column;  // unit, gate
                                       const int from = Cell::block_of_sum(sum % Cell::kSums);
                                       const int j = sum / Cell::kSums;
                                       const int h = (slice * plan.depth + depth) * kTileDepth + k;
                                       return from < 0 || j >= part.units || h >= H
                                                  ? typename Arithmetic::Weight{}
                                                  : weights[h * weight_columns + from * H + part.first + j];
                                   });
        });
        float* const h = shared_at<float>(block, plan.state_at);
        float* const c = h + plan.rows * part.U;
        part.each(block, 0, part.rows, [&](int row, int j) {
            const std::int64_t at = std::int64_t{part.begin + row} * H + part.first + j;
            h[(row << part.shift) + j] = s.h_in[at];
            c[(row << part.shift) + j] = or_zero(s.c_in, at);
        });
        // Here, for the wait of every step empties the processor's own cache.
        float* const bias = c + plan.rows * part.U;
        block.each(Cell::kInputs << part.shift, [&](int i) {
            const int j = i & (part.U - 1);
            bias[i] = j < part.units ? or_zero(s.bias, (i >> part.shift) * H + part.first + j) : 0.0F;
        });
        // The last of the members clears what lies behind H, for good.
        const int width = block.member() + 1 == plan.members ? plan.stride - part.first : part.U;
        block.each(part.rows * width, [&](int i) {
            const int row = i / width;
            const int unit = part.first + i - row * width;
            const Operand x =
                Arithmetic::operand(unit < H ? s.masked[std::int64_t{part.begin + row} * H + unit] : 0.0F);
            if (unit < H) return hand_on(block, part, 0, row, unit, x);
            for (int step = 0; step < 2; ++step) {
                if (!kMarks)
                    operands_at(step, part.begin + row)[unit] = x;
                else if (plan.exchange == Exchange::marked)
                    store_word(words_at(block, part, step) + row * plan.stride + unit,
                               Marked::with_mark(x, Marked::kForGood));
            }
        });
        fetch_inputs(block, part, 0);
        block.close();
    }

    LSTM_NATIVE_DEVICE bool step(const GridBlock& block, PerThread<Held>& held, int step) const {
        const GridPart part = part_of(block);
        // With marks there is one; and the last slice of the batch may need fewer.
        const int passes = kMarks ? 1 : (part.rows + plan.pass - 1) / plan.pass;
        bool there = true;
        if constexpr (kMarks) {
            there = wait_for_rows(block, part, step);
        } else {
            fetch_rows(block, part, step, 0);
            block.close();
        }
        for (int pass = 0; pass < passes; ++pass) {
            const int first = pass * plan.pass;
            const int rows = part.rows - first < plan.pass ? part.rows - first : plan.pass;
            block.arrive_all();
            if (!block.meet_if_all(there)) return false;
            if (pass + 1 < passes) {
                fetch_rows(block, part, step, pass + 1);
            } else if (step + 1 < all.steps) {
                fetch_inputs(block, part, step + 1);
            }
            block.close();
            const Operand* const right = shared_at<Operand>(block, 0) + (pass & 1) * plan.pass * plan.stride;
            float* const sums = shared_at<float>(block, plan.sums_at);
            const int columns = plan.columns() + 4;  // four more: in other banks than the row before
            block.each_warp([&](const Warp& warp) {
                const int slice = warp.number & (plan.slices() - 1);
                float* const to =
                    sums + slice * plan.pass * columns + (warp.number >> plan.slices_shift()) * kTileColumns;
                multiply<Arithmetic, false>(warp, held, rest_of(block, warp), {1, depth_of_slice(slice)},
                                            right + slice * plan.depth * kTileDepth, plan.stride, rows,
                                            places_in_shared([&](int group, int) { return to + 4 * group; }, columns));
            });
            block.meet();
            finish_rows(block, part, step, first, rows, sums, columns);
        }
        return true;
    }

    LSTM_NATIVE_DEVICE void finish(const GridBlock&) const {}

private:
    LSTM_NATIVE_DEVICE RestTiles<Word> rest_of(const GridBlock& block, const Warp& warp) const {
        return rest_tiles<Arithmetic>(plan, block, warp, streamed);
    }

    LSTM_NATIVE_DEVICE void fetch_rows(const GridBlock& block, const GridPart& part, int step, int pass) const {
        const int first = pass * plan.pass;
        const int rows = part.rows - first < plan.pass ? part.rows - first : plan.pass;
        block.fetch_quads(shared_at<Operand>(block, 0) + (pass & 1) * plan.pass * plan.stride,
                          operands_at(step, part.begin + first),
                          rows * plan.stride * static_cast<int>(sizeof(Operand)) / 16);
    }

    // All rows of a step, as soon as their words are there; false when it gave up.
    LSTM_NATIVE_DEVICE bool wait_for_rows(const GridBlock& block, const GridPart& part, int step) const {
        constexpr int kMost = 3;  // more would need more registers than there are
        constexpr int kWords = Marked::kAtOnce;
        const MarkedWord* const from = words_at(block, part, step);
        Operand* const right = shared_at<Operand>(block, 0);
        const int count = part.rows * plan.stride / kWords;
        bool all_there = true;
        block.each(kGridThreads, [&](int thread) {
            for (int first = thread; first < count && all_there; first += kMost * kGridThreads) {
                const int rest = (count - first + kGridThreads - 1) / kGridThreads;
                MarkedWords<Marked> words[kMost];
                all_there = wait_for_words(
                    block, Marked::mark_of(step), rest,
                    [&](int i) { return from + (first + i * kGridThreads) * kWords; }, words);
                LSTM_NATIVE_UNROLL()
                for (int i = 0; i < kMost; ++i)
                    if (i < rest) words[i].put(right + (first + i * kGridThreads) * kWords);
            }
        });
        return all_there;
    }

    LSTM_NATIVE_DEVICE static Quad load_sums(const float* from) {
        if constexpr (Cell::kSums == 4) {
            return load_quad(from);
        } else {
            return {{*from, 0.0F, 0.0F, 0.0F}};
        }
    }

    // The cells of some rows.
    LSTM_NATIVE_DEVICE void finish_rows(const GridBlock& block, const GridPart& part, int step, int first, int rows,
                                        const float* sums, int columns) const {
        const StepForward s = all.at(step);
        const int slices = plan.slices();  // those behind H are zero
        float* const h = shared_at<float>(block, plan.state_at);
        float* const c = h + plan.rows * part.U;
        const float* const bias = c + plan.rows * part.U;
        const float* const given =
            shared_at<float>(block, plan.given_at) + (step & 1) * plan.rows * Cell::kSums * part.U;
        part.each(block, first, rows, [&](int row, int j) {
            const Element e(s, part.begin + row, part.first + j);
            const unsigned control = control_of(s.control, e.b * s.T);
            Quad product = load_sums(sums + (row - first) * columns + Cell::kSums * j);
            LSTM_NATIVE_UNROLL()
            for (int slice = 1; slice < kGridWarps; ++slice) {
                if (slice >= slices) break;
                const Quad more = load_sums(sums + (slice * plan.pass + row - first) * columns + Cell::kSums * j);
                LSTM_NATIVE_UNROLL()
                for (int g = 0; g < Cell::kSums; ++g) product.of[g] += more.of[g];
            }
            float input[Cell::kInputs];
            LSTM_NATIVE_UNROLL()
            for (int g = 0; g < Cell::kInputs; ++g)
                input[g] = given[(row * Cell::kSums + g) * part.U + j] + bias[(g << part.shift) + j];
            float& my_h = h[(row << part.shift) + j];
            float& my_c = c[(row << part.shift) + j];
            const State next = Cell::step(s, e, control, input, product.of, {my_h, 0.0F, my_c});
            my_h = next.h;
            my_c = next.c;
            hand_on(block, part, step + 1, row, static_cast<int>(e.j), Arithmetic::operand(next.masked));
        });
    }
};

template <class Cell, class TheArithmetic, bool kMarks>
struct GridBackward {
    static constexpr bool kMeets = !kMarks;
    using Arithmetic = TheArithmetic;
    using Operand = typename Arithmetic::Operand;
    using Marked = MarkedFloat;
    using Word = typename Arithmetic::Word;
    using Held = HeldTiles<Arithmetic>;
    static constexpr int kKept = Cell::kSums;
    static constexpr int kGiven = kKept + 2;  // and the state before, the output's gradient

    StepsBackward all;
    GridPlan plan;
    std::int64_t weight_columns;
    const typename Arithmetic::Weight* weights;  // (H, weight_columns)
    Word* streamed;                              // of all blocks; scratch
    // (2, groups, receivers, rows, members, units), floats or words: what a block (a member) gives to the units of
    // another (a receiver), by the parity of the step. Of a cluster every receiver has its own in shared memory.
    unsigned char* handed;

    LSTM_NATIVE_DEVICE GridPart part_of(const GridBlock& block) const {
        return GridPart(plan, block, all.B, all.first.H);
    }
    // Warp w has the outputs w, w + kGridWarps, ... of 32 units.
    LSTM_NATIVE_DEVICE TileWalk walk_of(const Warp& warp) const {
        return {(plan.outputs - warp.number + kGridWarps - 1) / kGridWarps, plan.depth};
    }
    LSTM_NATIVE_DEVICE int handed_size() const { return plan.rows * plan.members * plan.units; }
    template <class T>
    LSTM_NATIVE_DEVICE T* handed_to(const GridBlock& block, int parity, int receiver) const {
        const std::int64_t part = ((parity & 1) * plan.groups + block.group()) * plan.receivers + receiver;
        return reinterpret_cast<T*>(handed) + part * handed_size();
    }
    // Of a cluster, in this block.
    LSTM_NATIVE_DEVICE Marked::Word* words_of_cluster(const GridBlock& block, int parity) const {
        return shared_at<Marked::Word>(block, plan.words_at) + (parity & 1) * handed_size();
    }

    // Asks for what the forward pass kept of a step, and for the gradient of its output: [row][which][unit].
    LSTM_NATIVE_DEVICE void fetch_given(const GridBlock& block, const GridPart& part, int step, int parity) const {
        const StepBackward s = all.at(step);
        float* const to = shared_at<float>(block, plan.given_at) + (parity & 1) * plan.rows * kGiven * part.U;
        block.each(part.rows * kGiven << part.shift, [&](int i) {
            const int j = i & (part.U - 1);
            const int row = (i >> part.shift) / kGiven;
            const int which = (i >> part.shift) - row * kGiven;
            const Element e(s, part.begin + row, part.first + j);
            const float* const state = Cell::before(s);
            if (j >= part.units || (which == kKept && state == nullptr) || (which > kKept && s.d_output == nullptr))
                return;
            const float* const from = which < kKept    ? s.gates + e.gate + which * s.H
                                      : which == kKept ? state + e.state
                                                       : s.d_output + e.b * s.d_output_stride + e.j;
            block.fetch(to + (row * kGiven + which) * part.U + j, from);
        });
    }

    LSTM_NATIVE_DEVICE void prepare(const GridBlock& block) const {
        if (!kMarks || plan.exchange != Exchange::cluster) return;
        auto* const words = words_of_cluster(block, 0);
        block.each(2 * handed_size(), [&](int i) { words[i] = 0; });
    }

    LSTM_NATIVE_DEVICE void start(const GridBlock& block, PerThread<Held>& held) const {
        const GridPart part = part_of(block);
        const int H = static_cast<int>(all.first.H);
        block.each_warp([&](const Warp& warp) {
            load_tiles<Arithmetic>(warp, held, rest_of(block, warp), walk_of(warp),
                                   [&](int output, int depth, int column, int k) {
                                       const int h = (warp.number + output * kGridWarps) * kTileColumns + column;
                                       const int local = depth * kTileDepth + k;  // gate, unit
                                       const int from = Cell::block_of_gradient(local >> part.shift);
                                       const int j = local & (part.U - 1);
                                       return from < 0 || h >= H || j >= part.units
                                                  ? typename Arithmetic::Weight{}
                                                  : weights[h * weight_columns + from * H + part.first + j];
                                   });
        });
        Operand* const right = shared_at<Operand>(block, 0);
        block.each(plan.pass * plan.stride, [&](int i) { right[i] = Arithmetic::operand(0.0F); });
        fetch_given(block, part, static_cast<int>(all.steps) - 1, 0);
        block.close();
    }

    LSTM_NATIVE_DEVICE bool step(const GridBlock& block, PerThread<Held>& held, int done) const {
        const GridPart part = part_of(block);
        const int step = static_cast<int>(all.steps) - 1 - done;
        if (step > 0) fetch_given(block, part, step - 1, done + 1);
        block.close();
        const bool there = done == 0 || gather(block, part, done);
        block.arrive_all_but_last();
        if (!block.meet_if_all(there)) return false;
        step_cells(block, part, step, done);
        block.meet();
        block.each_warp([&](const Warp& warp) { give(block, warp, held, part.rows, done + 1); });
        return true;
    }

    LSTM_NATIVE_DEVICE void finish(const GridBlock& block) const {
        const GridPart part = part_of(block);
        if (!block.meet_if_all(gather(block, part, static_cast<int>(all.steps)))) return;
        const float* const through = shared_at<float>(block, plan.state_at);
        const StepBackward& s = all.first;
        part.each(block, 0, part.rows, [&](int row, int j) {
            const Element e(s, part.begin + row, part.first + j);
            const int at = (row << part.shift) + j;
            s.through[e.state] = through[at];
            s.direct[e.state] = through[plan.rows * part.U + at];
            if (s.dc != nullptr) s.dc[e.state] = through[2 * plan.rows * part.U + at];
        });
    }

private:
    LSTM_NATIVE_DEVICE RestTiles<Word> rest_of(const GridBlock& block, const Warp& warp) const {
        return rest_tiles<Arithmetic>(plan, block, warp, streamed);
    }

    // What the gradients of this block's gates give to h of all units, to the blocks that own them. The outputs of a
    // warp are 256 units apart.
    LSTM_NATIVE_DEVICE void give(const GridBlock& block, const Warp& warp, PerThread<Held>& held, int rows,
                                 int step) const {
        if (walk_of(warp).outputs == 0) return;
        constexpr int kApart = kGridWarps * kTileColumns;
        const int per_row = plan.members << plan.shift;
        const auto to = [&](int group, int output) {
            const int unit = warp.number * kTileColumns + 4 * group + output * kApart;
            const int receiver = unit >> plan.shift;
            const int mine = (block.member() << plan.shift) + (unit & (plan.units - 1));
            if constexpr (kMarks) {
                return mine + (plan.exchange == Exchange::cluster
                                   ? block.of_member(words_of_cluster(block, step), receiver)
                                   : handed_to<Marked::Word>(block, step, receiver));
            } else {
                return handed_to<float>(block, step, receiver) + mine;
            }
        };
        const auto places = [&] {
            if constexpr (kMarks) {
                return places_of_words(to, per_row, Marked::mark_of(step));
            } else {
                return places_in_global(to, per_row, kApart * plan.rows * plan.members);
            }
        }();
        multiply<Arithmetic, true>(warp, held, rest_of(block, warp), walk_of(warp), shared_at<Operand>(block, 0),
                                   plan.stride, rows, places);
    }

    // Sums what all blocks gave to the units of this one; false when it gave up waiting. A warp reads four units of
    // several blocks in a lane each.
    LSTM_NATIVE_DEVICE bool gather(const GridBlock& block, const GridPart& part, int step) const {
        float* const through = shared_at<float>(block, plan.state_at);
        const int quads = part.U / 4;
        const int at_once = kWarp / quads;
        bool all_there = true;
        block.each_warp([&](const Warp& warp) {
            for (int row = warp.number; row < part.rows; row += kGridWarps) {
                PerLane<Quad> sums;
                warp.each_lane([&](int lane) {
                    const int unit = lane % quads * 4;
                    const int at = ((row * plan.members) << part.shift) + unit;
                    sums(lane) = {{0.0F, 0.0F, 0.0F, 0.0F}};
                    if (unit >= part.units) return;  // nobody gives to what lies behind H
                    if constexpr (kMarks) {
                        const Marked::Word* const from = plan.exchange == Exchange::cluster
                                                             ? words_of_cluster(block, step)
                                                             : handed_to<Marked::Word>(block, step, block.member());
                        all_there =
                            sum_words(block, Marked::mark_of(step), from + at, lane / quads, at_once, sums(lane)) &&
                            all_there;
                    } else {
                        sum_floats(handed_to<float>(block, step, block.member()) + at, lane / quads, at_once,
                                   sums(lane));
                    }
                });
                warp.sum_over(sums, quads);
                warp.each_lane([&](int lane) {
                    if (lane < quads) store_quad(through + (row << part.shift) + lane * 4, sums(lane));
                });
            }
        });
        return all_there;
    }
    // Of every at_once-th member from `member` on.
    LSTM_NATIVE_DEVICE void sum_floats(const float* from, int member, int at_once, Quad& sum) const {
        LSTM_NATIVE_UNROLL(8)
        for (; member < plan.members; member += at_once) add(sum, load_fresh(from + (member << plan.shift)));
    }
    LSTM_NATIVE_DEVICE bool sum_words(const GridBlock& block, std::uint32_t mark, const Marked::Word* from, int member,
                                      int at_once, Quad& sum) const {
        constexpr int kMost = 4;  // members at once, two times words each
        for (; member < plan.members; member += kMost * at_once) {
            const int rest = (plan.members - member + at_once - 1) / at_once;
            MarkedWords<Marked> words[2 * kMost];
            const auto at = [&](int i) { return from + ((member + i / 2 * at_once) << plan.shift) + i % 2 * 2; };
            if (!wait_for_words(block, mark, 2 * rest, at, words)) return false;
            LSTM_NATIVE_UNROLL()
            for (int i = 0; i < kMost; ++i) {
                if (i >= rest) break;
                const auto& low = words[2 * i].of;
                const auto& high = words[2 * i + 1].of;
                add(sum, {{Marked::number(low[0]), Marked::number(low[1]), Marked::number(high[0]),
                           Marked::number(high[1])}});
            }
        }
        return true;
    }
    LSTM_NATIVE_DEVICE static void add(Quad& sum, const Quad& x) {
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < 4; ++i) sum.of[i] += x.of[i];
    }

    // The cells of a step; their gradients go to the gates' places and to the product: [row][gate][unit].
    LSTM_NATIVE_DEVICE void step_cells(const GridBlock& block, const GridPart& part, int step, int parity) const {
        const StepBackward s = all.at(step);
        float* const through = shared_at<float>(block, plan.state_at);
        float* const direct = through + plan.rows * part.U;
        float* const dc = direct + plan.rows * part.U;
        const float* const given = shared_at<float>(block, plan.given_at) + (parity & 1) * plan.rows * kGiven * part.U;
        Operand* const right = shared_at<Operand>(block, 0);
        part.each(block, 0, part.rows, [&](int row, int j) {
            const Element e(s, part.begin + row, part.first + j);
            const unsigned control = control_of(s.control, e.b * s.T);
            const int at = (row << part.shift) + j;
            const float* const mine = given + row * kGiven * part.U + j;
            const float d_output = s.d_output == nullptr ? 0.0F : mine[(kKept + 1) * part.U];
            const bool last = s.last != 0;
            const float d_h = h_gradient(s, e, control, last ? 0.0F : direct[at], last ? 0.0F : through[at], d_output);
            const float d_c = c_gradient(s, e, last ? 0.0F : dc[at]);
            Gates d = {{0.0F, 0.0F, 0.0F, 0.0F}, d_h, d_c};
            if ((control & LN_UPDATE) != 0) {
                float keep[kKept];
                LSTM_NATIVE_UNROLL()
                for (int g = 0; g < kKept; ++g) keep[g] = mine[g * part.U];
                d = Cell::back(s, keep, mine[kKept * part.U], d_h, d_c);
            }
            direct[at] = d.direct;
            dc[at] = d.dc;
            LSTM_NATIVE_UNROLL()
            for (int g = 0; g < kKept; ++g) {
                s.gates[e.gate + g * s.H] = d.gate[g];
                right[row * plan.stride + (g << part.shift) + j] = Arithmetic::operand(d.gate[g]);
            }
        });
    }
};

}  // namespace lstm_native::cuda
