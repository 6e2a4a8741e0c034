#include "cpu/pack.h"

#include <cstring>
#include <type_traits>

#include "cpu/ranges.h"

namespace lstm_native::cpu {

namespace {
PackedPairs empty_pairs(LnStorage storage, std::int64_t pairs, std::int64_t k, std::int64_t lanes) {
    PackedPairs packed;
    packed.storage = storage;
    packed.pairs = pairs;
    packed.k = k;
    packed.stride = core::checked_mul(core::checked_mul(2, lanes), k);
    const std::int64_t elements = core::checked_mul(pairs, packed.stride);
    packed.memory =
        core::allocate_array<char>(static_cast<std::size_t>(core::checked_mul(elements, element_bytes(storage))));
    return packed;
}

std::size_t float_bytes(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(float); }

// Rows that are copied at a time: few enough to stay in the caches while all blocks take their part.
constexpr std::int64_t kRowsAtOnce = 32;

template <int kLanes>
void copy_rows(std::int64_t rows, const float* from, std::int64_t from_stride, float* to) {
    for (std::int64_t row = 0; row < rows; ++row, from += from_stride, to += 2 * kLanes)
        std::memcpy(to, from, kLanes * sizeof(float));
}

// The rows [row, row + rows) of column block `block` of the packed weights, from columns of the canonical ones.
void pack_columns(const ColumnBlocks& columns, std::int64_t block, std::int64_t row, std::int64_t rows,
                  const float* weights, float* to) {
    const std::int64_t lanes = columns.lanes;
    const std::int64_t valid = columns.valid(block);
    const std::int64_t stride = columns.columns();
    const float* from = weights + row * stride + (valid > 0 ? columns.source(block) : 0);
    to += row * 2 * lanes;
    if (valid == lanes && lanes == 16) return copy_rows<16>(rows, from, stride, to);
    if (valid == lanes && lanes == 8) return copy_rows<8>(rows, from, stride, to);
    for (; rows > 0; --rows, to += 2 * lanes, from += stride) {
        std::memset(to, 0, float_bytes(lanes));
        std::memcpy(to, from, float_bytes(valid));
    }
}

// The same from rows, a tile of lanes x lanes at a time.
void pack_rows(const KernelTable& table, const ColumnBlocks& columns, std::int64_t block, std::int64_t k,
               const float* weights, float* to) {
    const std::int64_t lanes = columns.lanes;
    const std::int64_t valid = columns.valid(block);
    const float* const from = valid > 0 ? weights + columns.source(block) * k : weights;
    std::int64_t row = 0;
    for (; row + lanes <= k; row += lanes) table.transpose_tile(valid, from + row, k, to + row * 2 * lanes, 2 * lanes);
    for (; row < k; ++row)
        for (std::int64_t lane = 0; lane < lanes; ++lane)
            to[row * 2 * lanes + lane] = lane < valid ? from[lane * k + row] : 0.0F;
}

// All rows of a column block from columns of weights in fewer bits. They are packed once, not at every step of
// training.
template <class T>
void pack_stored(const ColumnBlocks& columns, std::int64_t block, std::int64_t k, const T* weights, T* pair) {
    const std::int64_t lanes = columns.lanes;
    const std::int64_t valid = columns.valid(block);
    const bool alternating = sizeof(T) == 2;
    const std::int64_t step = alternating ? 2 : 1;
    const T* from = weights + (valid > 0 ? columns.source(block) : 0);
    T* to = pair + block % 2 * (alternating ? 1 : lanes);
    for (std::int64_t row = 0; row < k; ++row, from += columns.columns(), to += 2 * lanes)
        for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane * step] = lane < valid ? from[lane] : T{0};
}

// weight_gradient into rows: the gates' gradients and what the weights were multiplied with change places.
void weight_gradient_in_rows(const KernelTable& table, const ColumnBlocks& columns, std::int64_t pair, std::int64_t m,
                             const float* a, std::int64_t a_stride, const float* g, std::int64_t g_stride, float* out,
                             Outer o) {
    const std::int64_t lanes = columns.lanes;
    o.out_stride = m;
    for (std::int64_t side = 0; side < 2; ++side) {
        const std::int64_t block = 2 * pair + side;
        o.m = columns.valid(block);
        if (o.m == 0) return;  // padding
        o.a = g + side * g_stride;
        o.a_stride = 0;  // one block
        o.out = out + columns.source(block) * m;
        for (std::int64_t column = 0; column < m; column += 2 * lanes) {
            o.valid0 = std::min(lanes, m - column);
            o.valid1 = std::max<std::int64_t>(0, std::min(lanes, m - column - lanes));
            o.g0 = a + column / lanes * a_stride;
            o.g1 = o.valid1 > 0 ? o.g0 + a_stride : o.g0;
            o.column0 = column;
            o.column1 = column + lanes;
            table.outer(o);
            o.next = nullptr;  // fetched once
        }
    }
}
}  // namespace

PackedPairs pack_pairs(const LnContext& context, const KernelTable& table, const ColumnBlocks& columns, std::int64_t k,
                       const float* weights) {
    PackedPairs packed = empty_pairs(LN_STORED_FLOAT32, columns.pairs(), k, columns.lanes);
    rows_of(context, packed.pairs, packed.stride, kSimple, [&](std::int64_t begin, std::int64_t end) {
        const auto each_block = [&](auto pack_block) {
            for (std::int64_t block = 2 * begin; block < 2 * end; ++block)
                pack_block(block, packed.elements<float>() + block / 2 * packed.stride + block % 2 * columns.lanes);
        };
        if (columns.in_rows)
            return each_block([&](std::int64_t block, float* to) { pack_rows(table, columns, block, k, weights, to); });
        for (std::int64_t row = 0; row < k; row += kRowsAtOnce)
            each_block([&](std::int64_t block, float* to) {
                pack_columns(columns, block, row, std::min(kRowsAtOnce, k - row), weights, to);
            });
    });
    return packed;
}

PackedPairs pack_matrix(const LnContext& context, const KernelTable& table, const ColumnBlocks& columns, std::int64_t k,
                        const LnMatrix& weights) {
    const auto storage = static_cast<LnStorage>(weights.storage);
    if (storage == LN_STORED_FLOAT32)
        return pack_pairs(context, table, columns, k, static_cast<const float*>(weights.elements));
    PackedPairs packed = empty_pairs(storage, columns.pairs(), k, columns.lanes);
    if (storage == LN_STORED_INT8) packed.scales = pack_bias(columns, weights.scales);
    const auto pack = [&](auto* to) {
        using T = std::remove_pointer_t<decltype(to)>;
        rows_of(context, packed.pairs, packed.stride, kSimple, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t block = 2 * begin; block < 2 * end; ++block)
                pack_stored(columns, block, k, static_cast<const T*>(weights.elements), to + block / 2 * packed.stride);
        });
    };
    storage == LN_STORED_BFLOAT16 ? pack(packed.elements<std::uint16_t>()) : pack(packed.elements<std::int8_t>());
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
    PackedPairs out = empty_pairs(LN_STORED_FLOAT32, core::ceil_div(k_blocks, 2), columns.count() * lanes, lanes);
    // One tile of lanes x lanes at a time: rows of the source (a k) become lanes of the result.
    for (std::int64_t kb = 0; kb < 2 * out.pairs; ++kb) {
        const std::int64_t valid = std::max<std::int64_t>(0, std::min(lanes, packed.k - kb * lanes));
        for (std::int64_t block = 0; block < columns.count(); ++block) {
            const float* from =
                packed.elements<float>() + block / 2 * packed.stride + kb * lanes * 2 * lanes + block % 2 * lanes;
            float* to = out.elements<float>() + kb / 2 * out.stride + block * lanes * 2 * lanes + kb % 2 * lanes;
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
    o.accumulate = accumulate;
    if (columns.in_rows && m > 1)  // a single row of `out` is the same in both layouts
        return weight_gradient_in_rows(table, columns, pair, m, a, a_stride, g, g_stride, out, o);
    o.m = m;
    o.a = a;
    o.a_stride = a_stride;
    o.out = out;
    o.out_stride = out_stride;
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
