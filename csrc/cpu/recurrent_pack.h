// The weights of a recurrent layer as its kernels read them, and the products of whole blocked rows with its kernel
// (floor 1, CPU).
#pragma once

#include <cstdint>
#include <mutex>

#include "backend/backend.h"
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

// What the inputs give to the gates: bias + a * kernel for the pairs of columns; `p` has rows, k, a.
void project_inputs(const RecurrentPack& pack, Product p, const Range& pairs, float* gates, std::int64_t stride);

// Back from the gates' gradients to the inputs: `p` has rows, c and the pairs of the inputs' columns.
void project_back(const RecurrentPack& pack, Product p, const float* gates, std::int64_t stride);

}  // namespace lstm_native::cpu
