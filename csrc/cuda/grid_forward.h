// All steps of a cell forward in one launch, by blocks that wait for each other (floor 1, CUDA; GridPlan in planner.h
// says who owns what, grid.h and marked.h how they wait, tiles.h how a warp multiplies). With kMarks numbers come with
// a mark.
#pragma once

#include "cuda/grid_parts.h"
#include "cuda/marked.h"

namespace lstm_native::cuda {

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
            const State next = Cell::step(s, e, control, input, product.of, {my_h, 0.0F, my_c}, [&](float masked) {
                hand_on(block, part, step + 1, row, static_cast<int>(e.j), Arithmetic::operand(masked));
            });
            my_h = next.h;
            my_c = next.c;
        });
    }
};

}  // namespace lstm_native::cuda
