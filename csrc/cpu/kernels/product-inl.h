// Products over blocked rows and packed pairs (see kernel_table.h). Included by kernels-inl.h.
#pragma once

#include <cstdint>

#include "cpu/kernels/kernel_table.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

constexpr int kL = Vec::kLanes;
constexpr int kTileRows = Vec::kRegisters >= 32 ? 12 : 6;  // 12 x 2 or 6 x 2 accumulators, two weights, one broadcast

// Pairs that a tile of `rows` rows takes side by side, at most: enough independent chains to hide the latency of the
// multiply-add, few enough to stay in registers.
constexpr int kMostPairs = 4;
constexpr int pairs_at_once(int rows) {
    if (Vec::kRegisters >= 32) return rows <= 2 ? 4 : rows <= 4 ? 3 : rows <= 6 ? 2 : 1;
    return rows <= 1 ? 4 : rows <= 3 ? 2 : 1;
}

// The weights of a pair of column blocks for one k.
template <bool kUsedOnce>
inline void load_pair(const float* w, Vec& first, Vec& second) {
    first = kUsedOnce ? Vec::load(w) : Vec::load_once(w);
    second = kUsedOnce ? Vec::load(w + kL) : Vec::load_once(w + kL);
}
template <bool kUsedOnce>
inline void load_pair(const std::uint16_t* w, Vec& first, Vec& second) {
    Vec::widen(w, first, second);
}
template <bool kUsedOnce>
inline void load_pair(const std::int8_t* w, Vec& first, Vec& second) {
    first = Vec::widen(w);
    second = Vec::widen(w + kL);
}

// Where a tile begins: a, c, index at its first row; w, scales, c, start (bias or start_rows) at its first pair.
struct Corner {
    const float* a;
    const void* w;
    const float* scales;
    float* c;
    const float* start;
    const std::int32_t* index;
};

// take(r, j, what the chain of row r and column block j starts from) for the whole tile.
template <int Rows, int Pairs, class F>
inline __attribute__((always_inline)) void each_start(const Product& p, const Corner& at, const F& take) {
    // Column block j of the tile, of c and of the start.
    const auto c_block = [&](int j) { return (j / 2 * p.c_pair_blocks + j % 2) * p.c_stride; };
    const auto start_block = [&](int j) { return j / 2 * p.start_pair_blocks + j % 2; };
    if (p.start == Start::c) {
#pragma GCC unroll 8
        for (int j = 0; j < 2 * Pairs; ++j)
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r) take(r, j, Vec::load(at.c + c_block(j) + r * kL));
    } else if (p.start == Start::rows) {
        // In training c comes from far, and so do the rows that the next tile starts from.
#pragma GCC unroll 8
        for (int j = 0; j < 2 * Pairs; ++j)
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r) __builtin_prefetch(at.c + c_block(j) + r * kL, 1);
        const std::int64_t ahead = (p.descending ? -Pairs : Pairs) * p.start_pair_blocks * p.start_rows.stride;
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const float* const from =
                at.start + static_cast<std::int64_t>(at.index[r * p.start_rows.index_stride]) * kL;
#pragma GCC unroll 8
            for (int j = 0; j < 2 * Pairs; ++j) {
                take(r, j, Vec::load(from + start_block(j) * p.start_rows.stride));
                __builtin_prefetch(from + start_block(j) * p.start_rows.stride + ahead);
            }
        }
    } else {
#pragma GCC unroll 8
        for (int j = 0; j < 2 * Pairs; ++j) {
            const Vec first = p.start == Start::bias ? Vec::load(at.start + start_block(j) * kL) : Vec::zero();
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r) take(r, j, first);
        }
    }
}

// Rows x Pairs tile with weights of the type W.
template <class W, int Rows, int Pairs>
void tile(const Product& p, const Corner& at) {
    constexpr bool kScaled = sizeof(W) == 1;
    Vec sum[Rows][2 * Pairs];
    if constexpr (kScaled) {
#pragma GCC unroll 8
        for (int j = 0; j < 2 * Pairs; ++j)
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r) sum[r][j] = Vec::zero();
    } else {
        each_start<Rows, Pairs>(p, at, [&](int r, int j, Vec start) { sum[r][j] = start; });
    }
    const float* a = at.a;
    float* const c = at.c;
    const W* w = static_cast<const W*>(at.w);
    for (std::int64_t k0 = 0; k0 < p.k; k0 += kL, a += p.a_stride) {
        const float* broadcast = a;
        const std::int64_t here = p.k - k0 < kL ? p.k - k0 : kL;
        for (const float* const end = broadcast + here; broadcast != end; ++broadcast, w += 2 * kL) {
            Vec weight[2 * Pairs];
#pragma GCC unroll 4
            for (int pair = 0; pair < Pairs; ++pair)
                load_pair<Rows == 1>(w + pair * p.w.stride, weight[2 * pair], weight[2 * pair + 1]);
#pragma GCC unroll 16
            for (int r = 0; r < Rows; ++r) {
                const Vec x = Vec::set(broadcast[r * kL]);
#pragma GCC unroll 8
                for (int j = 0; j < 2 * Pairs; ++j) sum[r][j] = Vec::fma(x, weight[j], sum[r][j]);
            }
        }
    }
    if constexpr (kScaled)
        each_start<Rows, Pairs>(p, at, [&](int r, int j, Vec start) {
            sum[r][j] = Vec::fma(sum[r][j], Vec::load(at.scales + j / 2 * p.w.scale_stride + j % 2 * kL), start);
        });
#pragma GCC unroll 8
    for (int j = 0; j < 2 * Pairs; ++j)
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) sum[r][j].store(c + (j / 2 * p.c_pair_blocks + j % 2) * p.c_stride + r * kL);
}

using TileFunction = void (*)(const Product&, const Corner&);

// For each number of rows: tiles of 1, 2, ... pairs_at_once pairs.
struct TileFunctions {
    TileFunction of_pairs[kMostPairs];
};
template <class W, int Rows, int Pairs>
constexpr TileFunction tile_function() {
    if constexpr (Pairs <= pairs_at_once(Rows)) return tile<W, Rows, Pairs>;
    return nullptr;
}
template <class W, int Rows>
constexpr TileFunctions tile_functions() {
    return {{tile<W, Rows, 1>, tile_function<W, Rows, 2>(), tile_function<W, Rows, 3>(), tile_function<W, Rows, 4>()}};
}
template <class W>
constexpr TileFunctions kTiles[] = {
    tile_functions<W, 1>(),  tile_functions<W, 2>(),  tile_functions<W, 3>(),
    tile_functions<W, 4>(),  tile_functions<W, 5>(),  tile_functions<W, 6>(),
#if defined(__AVX512F__)
    tile_functions<W, 7>(),  tile_functions<W, 8>(),  tile_functions<W, 9>(),
    tile_functions<W, 10>(), tile_functions<W, 11>(), tile_functions<W, 12>(),
#endif
};
static_assert(sizeof(kTiles<float>) / sizeof(kTiles<float>[0]) == kTileRows, "one entry for each number of rows");

// `count` pairs from `pair` on, for all rows in so many groups of nearly equal size. Weights of the type W.
template <class W>
void product_pairs(const Product& p, std::int64_t groups, std::int64_t pair, std::int64_t count) {
    // Of one group nothing is divided: a division takes as long as a few rows of weights.
    const std::int64_t size = groups == 1 ? p.rows : p.rows / groups;
    const std::int64_t larger = p.rows - groups * size;  // so many groups have one row more
    Corner at{p.a,     static_cast<const W*>(p.w.elements) + pair * p.w.stride,
              nullptr, p.c + pair * p.c_pair_blocks * p.c_stride,
              nullptr, nullptr};
    if constexpr (sizeof(W) == 1) at.scales = p.w.scales + pair * p.w.scale_stride;
    std::int64_t index_stride = 0;
    if (p.start == Start::bias) {
        at.start = p.bias + pair * p.start_pair_blocks * kL;
    } else if (p.start == Start::rows) {
        at.start = p.start_rows.data + pair * p.start_pair_blocks * p.start_rows.stride;
        at.index = p.start_rows.index;
        index_stride = p.start_rows.index_stride;
    }
    for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t rows = size + (g < larger ? 1 : 0);
        kTiles<W>[rows - 1].of_pairs[count - 1](p, at);
        at.a += rows * kL;
        at.c += rows * kL;
        at.index += rows * index_stride;
    }
}

template <class W>
void product_of(const Product& p) {
    const std::int64_t groups = (p.rows + kTileRows - 1) / kTileRows;
    // Row groups differ by one row; take side by side what the larger allows.
    const std::int64_t larger = groups == 1 ? p.rows : (p.rows + groups - 1) / groups;
    const std::int64_t many = pairs_at_once(static_cast<int>(larger));
    const std::int64_t pairs = p.pair_end - p.pair_begin;
    const std::int64_t rest = many == 4 ? pairs & 3 : pairs % many;
    const std::int64_t whole_end = p.pair_end - rest;
    if (!p.descending) {
        for (std::int64_t pair = p.pair_begin; pair < whole_end; pair += many) product_pairs<W>(p, groups, pair, many);
        if (rest > 0) product_pairs<W>(p, groups, whole_end, rest);
    } else {
        if (rest > 0) product_pairs<W>(p, groups, whole_end, rest);
        for (std::int64_t pair = whole_end; pair > p.pair_begin; pair -= many)
            product_pairs<W>(p, groups, pair - many, many);
    }
}

void product(const Product& p) {
    if (p.rows == 0) return;
    switch (p.w.storage) {
        case LN_STORED_FLOAT32:
            return product_of<float>(p);
        case LN_STORED_BFLOAT16:
            return product_of<std::uint16_t>(p);
        default:
            return product_of<std::int8_t>(p);
    }
}

// Columns of `a` that one outer_columns takes; divides kL, so that they lie in one column block.
constexpr int kOuterColumns = kL < 8 ? kL : Vec::kRegisters >= 32 ? 8 : 4;

inline Vec load_valid(const float* p, std::int64_t valid) {
    return valid == kL ? Vec::load(p) : Vec::load_first(p, valid);
}
inline void store_valid(Vec v, float* p, std::int64_t valid) {
    if (valid == kL) {
        v.store(p);
    } else {
        v.store_first(p, valid);
    }
}

// Rows are summed on their own before they join what is there: the error grows with the rows of one call and with the
// number of calls, not with their product.
inline void finish_outer(Vec sum, float* out, std::int64_t valid, bool accumulate) {
    store_valid(accumulate ? load_valid(out, valid) + sum : sum, out, valid);
}

// The rows [i, i + real) of out, real <= Columns; `a` points at column i of row 0. Few columns are summed in several
// chains, row r in chain r % kChains.
template <int Columns>
inline void outer_columns(const Outer& o, std::int64_t i, std::int64_t real, const float* a) {
    constexpr int kChains = kOuterColumns / Columns;
    Vec sum[kChains][Columns][2];
#pragma GCC unroll 8
    for (int n = 0; n < kChains; ++n)
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) sum[n][c][0] = sum[n][c][1] = Vec::zero();
    const float* g0 = o.g0;
    const float* g1 = o.g1;
    const auto add_row = [&](Vec(&chain)[Columns][2]) {
        const Vec v0 = Vec::load(g0);
        const Vec v1 = Vec::load(g1);
#pragma GCC unroll 8
        for (int c = 0; c < Columns; ++c) {
            const Vec x = Vec::set(a[c]);
            chain[c][0] = Vec::fma(x, v0, chain[c][0]);
            chain[c][1] = Vec::fma(x, v1, chain[c][1]);
        }
        a += kL;
        g0 += kL;
        g1 += kL;
    };
    std::int64_t row = 0;
    for (; row + kChains <= o.rows; row += kChains)
#pragma GCC unroll 8
        for (int n = 0; n < kChains; ++n) add_row(sum[n]);
#pragma GCC unroll 8
    for (int n = 0; n + 1 < kChains; ++n)
        if (row + n < o.rows) add_row(sum[n]);
    float* const out = o.out + i * o.out_stride;
#pragma GCC unroll 8
    for (int c = 0; c < Columns; ++c) {
        if (c >= real) continue;
#pragma GCC unroll 8
        for (int n = 1; n < kChains; ++n)
            for (int side = 0; side < 2; ++side) sum[0][c][side] = sum[0][c][side] + sum[n][c][side];
        float* const row_out = out + c * o.out_stride;
        finish_outer(sum[0][c][0], row_out + o.column0, o.valid0, o.accumulate);
        if (o.valid1 > 0) finish_outer(sum[0][c][1], row_out + o.column1, o.valid1, o.accumulate);
    }
}

void outer(const Outer& o) {
    // The next pair is fetched in equal parts.
    const std::int64_t groups = (o.m + kOuterColumns - 1) / kOuterColumns;
    const std::int64_t part = o.next == nullptr ? 0 : (2 * o.rows + groups - 1) / groups;
    const float* next = o.next;
    for (std::int64_t i = 0; i < o.m; i += kOuterColumns) {
        for (const float* const end = next + part * kL; next != end; next += kL) __builtin_prefetch(next);
        const float* const a = o.a + (i / kL) * o.a_stride + i % kL;
        const std::int64_t real = o.m - i < kOuterColumns ? o.m - i : kOuterColumns;
        if (real == 1) {
            outer_columns<1>(o, i, real, a);
        } else if (real == 2) {
            outer_columns<2>(o, i, real, a);
        } else {
            outer_columns<kOuterColumns>(o, i, real, a);
        }
    }
}

void sum_by_row(const SumByRow& s) {
    for (std::int64_t b = 0; b < s.blocks; ++b) {
        const float* in = s.in + b * s.in_stride;
        const float* next = b + 1 < s.blocks ? in + s.in_stride : s.next != nullptr ? s.next : in;
        float* const sums = s.sums + b * s.sums_stride;
        for (std::int64_t r = 0; r < s.rows; ++r, in += kL, next += kL) {
            __builtin_prefetch(next);
            float* const sum = sums + static_cast<std::int64_t>(s.index[r]) * kL;
            (Vec::load(sum) + Vec::load(in)).store(sum);
        }
    }
}

void block_rows(std::int64_t rows, std::int64_t columns, const float* in, std::int64_t in_stride, float* out,
                std::int64_t out_block_stride) {
    for (std::int64_t r = 0; r < rows; ++r, in += in_stride, out += kL) {
        float* to = out;
        std::int64_t column = 0;
        for (; column + kL <= columns; column += kL, to += out_block_stride) Vec::load(in + column).store(to);
        if (column < columns) Vec::load_first(in + column, columns - column).store(to);
    }
}

void unblock_rows(std::int64_t rows, std::int64_t columns, const float* in, std::int64_t in_block_stride, float* out,
                  std::int64_t out_stride) {
    for (std::int64_t r = 0; r < rows; ++r, in += kL, out += out_stride) {
        const float* from = in;
        std::int64_t column = 0;
        for (; column + kL <= columns; column += kL, from += in_block_stride) Vec::load(from).store(out + column);
        if (column < columns) Vec::load(from).store_first(out + column, columns - column);
    }
}

void transpose_tile(std::int64_t rows, const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride) {
    Vec tile[kL];
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) tile[i] = i < rows ? Vec::load(in + i * in_stride) : Vec::zero();
    Vec::transpose(tile);
#pragma GCC unroll 16
    for (int i = 0; i < kL; ++i) tile[i].store(out + i * out_stride);
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
