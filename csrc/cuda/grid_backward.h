// All steps of a cell backward in one launch, by blocks that wait for each other (floor 1, CUDA; GridPlan in planner.h
// says who owns what, grid.h and marked.h how they wait, tiles.h how a warp multiplies). With kMarks numbers come with
// a mark.
#pragma once

#include "cuda/grid_parts.h"
#include "cuda/marked.h"

namespace lstm_native::cuda {

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
        const float* const direct = gradients_at(block);
        const StepBackward& s = all.first;
        part.each(block, 0, part.rows, [&](int row, int j) {
            const Element e(s, part.begin + row, part.first + j);
            const int at = (row << part.shift) + j;
            s.through[e.state] = gathered(block, at);
            s.direct[e.state] = direct[at];
            if (s.dc != nullptr) s.dc[e.state] = direct[plan.rows * part.U + at];
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

    // In shared memory: what shares of warps gathered, (shares, rows, units), and behind it the gradients of h and c
    // that pass by the product.
    LSTM_NATIVE_DEVICE float* gradients_at(const GridBlock& block) const {
        return shared_at<float>(block, plan.state_at) + (plan.rows << (plan.shares_shift + plan.shift));
    }
    LSTM_NATIVE_DEVICE float gathered(const GridBlock& block, int at) const {
        const float* const shares = shared_at<float>(block, plan.state_at) + at;
        float sum = *shares;
        LSTM_NATIVE_UNROLL()
        for (int share = 1; share < kGridWarps; ++share) {
            if (share >= plan.shares()) break;
            sum += shares[(share * plan.rows) << plan.shift];
        }
        return sum;
    }

    // Sums what all blocks gave to the units of this one; false when it gave up waiting. A warp has a row and a share
    // of the members, and reads four units of several of them in a lane each.
    LSTM_NATIVE_DEVICE bool gather(const GridBlock& block, const GridPart& part, int step) const {
        float* const to = shared_at<float>(block, plan.state_at);
        // All of these are powers of two, and shifts take a clock where divisions take thirty.
        const int quads = part.U / 4;
        const int quads_shift = part.shift - 2;
        const int at_once_shift = kWarpShift - quads_shift;
        const int apart_shift = plan.shares_shift + at_once_shift;
        bool all_there = true;
        block.each_warp([&](const Warp& warp) {
            for (int job = warp.number; job < part.rows << plan.shares_shift; job += kGridWarps) {
                const int share = job & (plan.shares() - 1);
                const int row = job >> plan.shares_shift;
                PerLane<Quad> sums;
                warp.each_lane([&](int lane) {
                    const int unit = (lane & (quads - 1)) * 4;
                    const int at = ((row * plan.members) << part.shift) + unit;
                    const int member = (share << at_once_shift) + (lane >> quads_shift);
                    sums(lane) = {{0.0F, 0.0F, 0.0F, 0.0F}};
                    if (unit >= part.units) return;  // nobody gives to what lies behind H
                    if constexpr (kMarks) {
                        const Marked::Word* const from = plan.exchange == Exchange::cluster
                                                             ? words_of_cluster(block, step)
                                                             : handed_to<Marked::Word>(block, step, block.member());
                        all_there =
                            sum_words(block, Marked::mark_of(step), from + at, member, apart_shift, sums(lane)) &&
                            all_there;
                    } else {
                        sum_floats(handed_to<float>(block, step, block.member()) + at, member, apart_shift, sums(lane));
                    }
                });
                warp.sum_over(sums, quads);
                warp.each_lane([&](int lane) {
                    if (lane < quads) store_quad(to + ((share * plan.rows + row) << part.shift) + lane * 4, sums(lane));
                });
            }
        });
        return all_there;
    }
    // Of members so far apart, a power of two, from `member` on.
    LSTM_NATIVE_DEVICE void sum_floats(const float* from, int member, int apart_shift, Quad& sum) const {
        LSTM_NATIVE_UNROLL(8)
        for (; member < plan.members; member += 1 << apart_shift) add(sum, load_fresh(from + (member << plan.shift)));
    }
    LSTM_NATIVE_DEVICE bool sum_words(const GridBlock& block, std::uint32_t mark, const Marked::Word* from, int member,
                                      int apart_shift, Quad& sum) const {
        constexpr int kMost = 4;  // members at once, two times words each
        for (; member < plan.members; member += kMost << apart_shift) {
            const int rest = ((plan.members - member - 1) >> apart_shift) + 1;
            MarkedWords<Marked> words[2 * kMost];
            const auto at = [&](int i) { return from + ((member + (i / 2 << apart_shift)) << plan.shift) + i % 2 * 2; };
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
        float* const direct = gradients_at(block);
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
            const float d_h =
                h_gradient(s, e, control, last ? 0.0F : direct[at], last ? 0.0F : gathered(block, at), d_output);
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
