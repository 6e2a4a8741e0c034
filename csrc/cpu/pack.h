// Weight layouts: which columns a column block holds, packed pairs, their transpose (floor 1, CPU).
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/memory.h"
#include "core/size.h"
#include "cpu/kernels/kernel_table.h"

namespace lstm_native::cpu {

// The columns of a weight matrix (K, G * H) in column blocks of `lanes`: block G * b + g holds the units
// [b * lanes, (b + 1) * lanes) of gate g, so that the gates of a unit lie side by side. Dense: G = 1.
struct ColumnBlocks {
    std::int64_t gates, units, lanes;

    std::int64_t count() const { return gates * core::ceil_div(units, lanes); }
    std::int64_t pairs() const { return core::ceil_div(count(), 2); }
    std::int64_t columns() const { return gates * units; }
    // First column of the block in the canonical matrix, and how many of its lanes are real (0 past the end).
    std::int64_t source(std::int64_t block) const { return block % gates * units + block / gates * lanes; }
    std::int64_t valid(std::int64_t block) const {
        return block < count() ? std::min(lanes, units - block / gates * lanes) : 0;
    }
};

// [pair][k][2][lanes], padding zero.
struct PackedPairs {
    core::Block<float> data;
    std::int64_t pairs = 0, k = 0, stride = 0;  // stride: floats between pairs
};

// From the canonical weights (k, columns.columns()), row-major.
PackedPairs pack_pairs(const ColumnBlocks& columns, std::int64_t k, const float* weights);
// [pair][2][lanes] from a bias (columns.columns()), or zeros from null.
core::Block<float> pack_bias(const ColumnBlocks& columns, const float* bias);
// The transpose of packed weights, for products that go back: pairs over the K side, inner dimension
// columns.count() * lanes in block order.
PackedPairs transpose_pairs(const KernelTable& table, const ColumnBlocks& columns, const PackedPairs& packed);

// out (m rows, `out_stride` floats apart), at the columns' canonical places: sums over `rows` of a[r, i] * g[r,
// column], for the pairs [pair_begin, pair_end) of column blocks. a and g are blocked rows; rows ascending.
void weight_gradient(const KernelTable& table, const ColumnBlocks& columns, std::int64_t pair_begin,
                     std::int64_t pair_end, std::int64_t rows, std::int64_t m, const float* a, std::int64_t a_stride,
                     const float* g, std::int64_t g_stride, float* out, std::int64_t out_stride, bool accumulate);

// A range of `count` items cut into `parts`: item range of part `index`.
struct Range {
    std::int64_t begin, end;
};
inline Range part_of(std::int64_t count, std::int64_t parts, std::int64_t index) {
    return {count * index / parts, count * (index + 1) / parts};
}

}  // namespace lstm_native::cpu
