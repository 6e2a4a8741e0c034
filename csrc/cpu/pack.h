// Weight layouts: which columns a column block holds, packed pairs, their transpose (floor 1, CPU).
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/backend.h"
#include "core/memory.h"
#include "core/size.h"
#include "cpu/kernels/kernel_table.h"

namespace lstm_native::cpu {

// The columns of a weight matrix (K, G * H) in column blocks of `lanes`: a block holds the units [b * lanes, (b + 1) *
// lanes) of one gate, and the gates of a unit lie side by side. Blocks come in groups, of two unit blocks each: first
// `gates` gates of the one, then those of the other, then for each of `candidates` further gates both unit blocks, so
// that a pair of blocks never mixes the two kinds.
//     LSTM {4, 0}: i0 f0 c0 o0 i1 f1 c1 o1    GRU {2, 1}: z0 r0 z1 r1 h0 h1    simple RNN, Dense {1, 0}: h0 h1
struct ColumnBlocks {
    std::int64_t gates, units, lanes;
    std::int64_t candidates = 0;
    bool in_rows = false;  // LN_ROWS: the canonical matrix is (G * H, K)

    std::int64_t group() const { return 2 * (gates + candidates); }
    std::int64_t count() const {
        const std::int64_t unit_blocks = core::ceil_div(units, lanes);
        return candidates == 0 ? gates * unit_blocks : group() * core::ceil_div(unit_blocks, 2);
    }
    std::int64_t pairs() const { return core::ceil_div(count(), 2); }
    std::int64_t columns() const { return (gates + candidates) * units; }
    // First column (or row) of the block in the canonical matrix, and how many of its lanes are real (0 past the end).
    std::int64_t source(std::int64_t block) const { return gate(block) * units + unit_block(block) * lanes; }
    std::int64_t valid(std::int64_t block) const {
        return block < count() ? std::max<std::int64_t>(0, std::min(lanes, units - unit_block(block) * lanes)) : 0;
    }
    bool is_candidate(std::int64_t pair) const { return 2 * pair % group() >= 2 * gates; }

private:
    std::int64_t gate(std::int64_t block) const {
        const std::int64_t place = block % group();
        if (place >= 2 * gates) return gates + (place - 2 * gates) / 2;
        return in_rows && candidates != 0 ? 1 - place % gates : place % gates;  // r before z
    }
    std::int64_t unit_block(std::int64_t block) const {
        const std::int64_t place = block % group();
        return 2 * (block / group()) + (place < 2 * gates ? place / gates : place % 2);
    }
};

// What Weights says, padding zero.
struct PackedPairs {
    core::Block<char> memory;
    core::Block<float> scales;
    LnStorage storage = LN_STORED_FLOAT32;
    std::int64_t pairs = 0, k = 0, stride = 0;  // stride: elements between pairs

    template <class T>
    T* elements() const {
        return reinterpret_cast<T*>(memory.get());
    }
    Weights weights() const { return {memory.get(), stride, storage, scales.get(), k == 0 ? 0 : stride / k}; }
};

// From the canonical weights (k, columns.columns()), row-major, or the other way round.
PackedPairs pack_pairs(const LnContext& context, const KernelTable& table, const ColumnBlocks& columns, std::int64_t k,
                       const float* weights);
// The same from weights in any storage; float32 alone may lie the other way round.
PackedPairs pack_matrix(const LnContext& context, const KernelTable& table, const ColumnBlocks& columns, std::int64_t k,
                        const LnMatrix& weights);
// [pair][2][lanes] from a bias (columns.columns()), or zeros from null.
core::Block<float> pack_bias(const ColumnBlocks& columns, const float* bias);
// The transpose of packed weights, for products that go back: pairs over the K side, inner dimension
// columns.count() * lanes in block order.
PackedPairs transpose_pairs(const KernelTable& table, const ColumnBlocks& columns, const PackedPairs& packed);

// out (m rows, `out_stride` floats apart; (columns, m) where these are in rows), at the columns' canonical places: sums
// over `rows` of a[r, i] * g[r, column], for one pair of column blocks, which lies at g. a and g are blocked rows.
// `next`: see Outer.
void weight_gradient(const KernelTable& table, const ColumnBlocks& columns, std::int64_t pair, std::int64_t rows,
                     std::int64_t m, const float* a, std::int64_t a_stride, const float* g, std::int64_t g_stride,
                     float* out, std::int64_t out_stride, bool accumulate, const float* next = nullptr);

// A range of `count` items cut into `parts`: item range of part `index`.
struct Range {
    std::int64_t begin, end;
};
inline Range part_of(std::int64_t count, std::int64_t parts, std::int64_t index) {
    return {count * index / parts, count * (index + 1) / parts};
}

}  // namespace lstm_native::cpu
