#include "cpu/pack.h"

#include <cstring>

namespace lstm_native::cpu {

namespace {
PackedPairs empty_pairs(std::int64_t pairs, std::int64_t k, std::int64_t lanes) {
    PackedPairs packed;
    packed.pairs = pairs;
    packed.k = k;
    packed.stride = core::checked_mul(core::checked_mul(2, lanes), k);
    packed.data = core::allocate_array<float>(static_cast<std::size_t>(core::checked_mul(pairs, packed.stride)));
    return packed;
}

std::size_t float_bytes(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(float); }
}  // namespace

PackedPairs pack_pairs(const ColumnBlocks& columns, std::int64_t k, const float* weights) {
    const std::int64_t lanes = columns.lanes;
    PackedPairs packed = empty_pairs(columns.pairs(), k, lanes);
    for (std::int64_t block = 0; block < 2 * packed.pairs; ++block) {
        float* to = packed.data.get() + block / 2 * packed.stride + block % 2 * lanes;
        const std::int64_t valid = columns.valid(block);
        const float* from = valid > 0 ? weights + columns.source(block) : weights;
        for (std::int64_t row = 0; row < k; ++row, to += 2 * lanes, from += columns.columns()) {
            if (valid == lanes) {
                std::memcpy(to, from, float_bytes(lanes));
            } else {
                std::memset(to, 0, float_bytes(lanes));
                std::memcpy(to, from, float_bytes(valid));
            }
        }
    }
    return packed;
}

core::Block<float> pack_bias(const ColumnBlocks& columns, const float* bias) {
    const std::int64_t lanes = columns.lanes;
    const std::int64_t count = 2 * columns.pairs() * lanes;
    core::Block<float> packed = core::allocate_array<float>(static_cast<std::size_t>(count));
    std::memset(packed.get(), 0, float_bytes(count));
    if (bias == nullptr) return packed;
    for (std::int64_t block = 0; block < columns.count(); ++block)
        if (columns.valid(block) > 0)
            std::memcpy(packed.get() + block * lanes, bias + columns.source(block), float_bytes(columns.valid(block)));
    return packed;
}

PackedPairs transpose_pairs(const KernelTable& table, const ColumnBlocks& columns, const PackedPairs& packed) {
    const std::int64_t lanes = columns.lanes;
    const std::int64_t k_blocks = core::ceil_div(packed.k, lanes);
    PackedPairs out = empty_pairs(core::ceil_div(k_blocks, 2), columns.count() * lanes, lanes);
    // One tile of lanes x lanes at a time: rows of the source (a k) become lanes of the result.
    for (std::int64_t kb = 0; kb < 2 * out.pairs; ++kb) {
        const std::int64_t valid = std::max<std::int64_t>(0, std::min(lanes, packed.k - kb * lanes));
        for (std::int64_t block = 0; block < columns.count(); ++block) {
            const float* from =
                packed.data.get() + block / 2 * packed.stride + kb * lanes * 2 * lanes + block % 2 * lanes;
            float* to = out.data.get() + kb / 2 * out.stride + block * lanes * 2 * lanes + kb % 2 * lanes;
            table.transpose_tile(valid, from, 2 * lanes, to, 2 * lanes);
        }
    }
    return out;
}

void weight_gradient(const KernelTable& table, const ColumnBlocks& columns, std::int64_t pair, std::int64_t rows,
                     std::int64_t m, const float* a, std::int64_t a_stride, const float* g, std::int64_t g_stride,
                     float* out, std::int64_t out_stride, bool accumulate, const float* next) {
    Outer o{};
    o.next = next;
    o.rows = rows;
    o.m = m;
    o.a = a;
    o.a_stride = a_stride;
    o.out = out;
    o.out_stride = out_stride;
    o.accumulate = accumulate;
    o.valid0 = columns.valid(2 * pair);
    o.valid1 = columns.valid(2 * pair + 1);
    if (o.valid0 == 0) return;  // padding, and so is the second block
    o.g0 = g;
    o.g1 = o.valid1 > 0 ? g + g_stride : g;
    o.column0 = columns.source(2 * pair);
    o.column1 = o.valid1 > 0 ? columns.source(2 * pair + 1) : 0;
    table.outer(o);
}

}  // namespace lstm_native::cpu
