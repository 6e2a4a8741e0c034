// Products of small matrices by one warp, whose left one stays where it is for many products: in registers, and what
// these do not hold in shared memory (floor 1, CUDA). On the host a loop over lanes does what the instructions do.
//
// The left matrix is cut into tiles of 32 columns x 16 k. Lane l, with group l / 4 and quarter l % 4, holds the columns
// 4 group + c, c < 4, at k = 4 quarter + i, i < 4. That is what an FMA loop needs whose lanes have four columns and a
// quarter of k; and it is what mma.sync takes as its A (gates as M, rows of the batch as N), for the order of k within
// a product is free, if it is the same in A and in B. So one load of four neighbours of a row of the right matrix feeds
// both, and they share everything but the inner loop:
//
//     sums(row, column) += over k of left(column, k) right(row, k)
//
// An Arithmetic says how (tile_arithmetic.h).
#pragma once

#include "cuda/grid.h"
#include "cuda/planner.h"
#include "cuda/tile_arithmetic.h"

namespace lstm_native::cuda {

// What one warp multiplies: outputs of 32 columns each, every one a sum over `depth` tiles of k; its tiles follow each
// other, output by output.
struct TileWalk {
    int outputs, depth;
    LSTM_NATIVE_DEVICE int tiles() const { return outputs * depth; }
};

// The words of a warp's tiles. Register arrays want indices that the compiler knows: the first kTiles are in registers,
// the others in a RestTiles.
template <class Arithmetic>
struct HeldTiles {
    static constexpr int kTiles = kHeldWords / Arithmetic::kWords;
    typename Arithmetic::Word words[kHeldWords];
};

template <class Word, int kWords>
struct TileWords {
    Word of[kWords];
};

// Four words that lie together, in one access.
template <class Word>
LSTM_NATIVE_DEVICE void load_four(const Word* from, Word* to) {
#if LSTM_NATIVE_SIMT
    const uint4 x = *reinterpret_cast<const uint4*>(from);
    std::memcpy(to, &x, sizeof x);
#else
    std::memcpy(to, from, 4 * sizeof(Word));
#endif
}

// `shared_tiles` in shared memory, those behind them in global memory: [tile][word / 4][lane][word % 4]. A lane reads
// what it wrote itself.
template <class Word>
struct RestTiles {
    Word* shared;
    int shared_tiles;
    Word* streamed;
};

// element(output, depth, column, k) of every tile of a warp, into registers and `rest`.
template <class Arithmetic, class Held, class F>
LSTM_NATIVE_DEVICE void load_tiles(const Warp& warp, Held& held, const RestTiles<typename Arithmetic::Word>& rest,
                                   const TileWalk& walk, const F& element) {
    constexpr int kWords = Arithmetic::kWords;
    constexpr int kTiles = HeldTiles<Arithmetic>::kTiles;
    const auto tile_at = [&](int tile, int lane) {
        LaneTile<typename Arithmetic::Weight> made;
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < 4; ++i) {
            LSTM_NATIVE_UNROLL()
            for (int c = 0; c < 4; ++c)
                made.of[i][c] = tile < walk.tiles() ? element(tile / walk.depth, tile % walk.depth,
                                                              4 * group_of(lane) + c, 4 * quarter_of(lane) + i)
                                                    : typename Arithmetic::Weight{};
        }
        return made;
    };
    warp.each_lane([&](int lane) {
        LSTM_NATIVE_UNROLL()
        for (int tile = 0; tile < kTiles; ++tile)
            Arithmetic::pack(tile_at(tile, lane), held(warp.number * kWarp + lane).words + tile * kWords);
        for (int tile = kTiles; tile < walk.tiles(); ++tile) {
            typename Arithmetic::Word words[kWords];
            Arithmetic::pack(tile_at(tile, lane), words);
            const int behind = tile - kTiles - rest.shared_tiles;
            auto* const to = (behind < 0 ? rest.shared + (tile - kTiles) * kWords * kWarp
                                         : rest.streamed + behind * kWords * kWarp) +
                             lane * 4;
            LSTM_NATIVE_UNROLL()
            for (int word = 0; word < kWords; ++word) to[word / 4 * kWarp * 4 + word % 4] = words[word];
        }
    });
}

// The products of kRows rows with the tiles of a warp.
template <class Arithmetic, int kRows, bool kSeveral, class Held, class Places>
struct RowProducts {
    using Word = typename Arithmetic::Word;
    using Operand = typename Arithmetic::Operand;
    using Sums = typename Arithmetic::template Sums<kRows>;
    static constexpr int kWords = Arithmetic::kWords;
    static constexpr int kTiles = HeldTiles<Arithmetic>::kTiles;
    using Words = PerLane<TileWords<Word, kWords>>;

    const Warp& warp;
    Held& held;
    const RestTiles<Word>& rest;
    const TileWalk& walk;
    const Operand* right;
    int stride, rows;
    const Places& places;
    int first_row;
    PerLane<typename Places::Address> to;
    PerLane<Sums> sums;

    LSTM_NATIVE_DEVICE void begin() {
        find(0);
        clear();
    }

    LSTM_NATIVE_DEVICE void all() {
        if constexpr (kSeveral) {
            all_of_several();
        } else {
            all_of_one();
        }
    }

private:
    // One output of any depth.
    LSTM_NATIVE_DEVICE void all_of_one() {
        if (walk.depth >= kTiles) {  // without branches, so that a tile's loads run beside another one's products
            LSTM_NATIVE_UNROLL()
            for (int tile = 0; tile < kTiles; ++tile) add_held(tile, tile);
        } else {
            LSTM_NATIVE_UNROLL()
            for (int tile = 0; tile < kTiles; ++tile)
                if (tile < walk.depth) add_held(tile, tile);
        }
        each_rest([&](Words& words, int tile) { add(words, tile); });
        store(0);
    }

    // Several outputs, whose depth is a power of two up to 16.
    LSTM_NATIVE_DEVICE void all_of_several() {
        switch (walk.depth) {
            case 2:
                held_of_several<2>();
                break;
            case 4:
                held_of_several<4>();
                break;
            case 8:
                held_of_several<8>();
                break;
            default:
                held_of_several<16>();
        }
        const int last = walk.depth - 1;
        int output = kTiles / walk.depth;
        each_rest([&](Words& words, int tile) {
            add(words, tile & last);
            if ((tile & last) == last) store(output++);
        });
    }

    LSTM_NATIVE_DEVICE void clear() {
        warp.each_lane([&](int lane) { sums(lane) = Sums{}; });
    }
    LSTM_NATIVE_DEVICE void find(int output) {
        warp.each_lane([&](int lane) { to(lane) = places.address(group_of(lane), output, first_row); });
    }
    LSTM_NATIVE_DEVICE void store(int output) {
        if (Places::kApart && output > 0) find(output);
        Arithmetic::template store<kRows>(warp, sums, rows, places, to,
                                          Places::kApart ? 0 : output * places.per_output);
        clear();
    }

    template <int kDepth>
    LSTM_NATIVE_DEVICE void held_of_several() {
        constexpr int kWhole = kDepth < kTiles ? kDepth : kTiles;
        LSTM_NATIVE_UNROLL()
        for (int output = 0; output < kTiles / kWhole; ++output) {
            if (output >= walk.outputs) break;
            LSTM_NATIVE_UNROLL()
            for (int depth = 0; depth < kWhole; ++depth) add_held(output * kWhole + depth, depth);
            if (kWhole == kDepth) store(output);
        }
    }
    // Tile `tile` of the registers: a number that the compiler knows.
    LSTM_NATIVE_DEVICE void add_held(int tile, int depth) {
        Arithmetic::template multiply<kRows>(
            warp, sums, [&](int lane) { return held(warp.number * kWarp + lane).words + tile * kWords; },
            right + depth * kTileDepth, stride);
    }

    LSTM_NATIVE_DEVICE void add(Words& words, int depth) {
        Arithmetic::template multiply<kRows>(
            warp, sums, [&](int lane) -> const Word* { return words(lane).of; }, right + depth * kTileDepth, stride);
    }
    // function(words, tile) for the tiles that registers do not hold.
    template <class F>
    LSTM_NATIVE_DEVICE void each_rest(const F& function) {
        const int all = walk.tiles() - kTiles;
        if (all <= 0) return;
        const int near = all < rest.shared_tiles ? all : rest.shared_tiles;
        each_of(rest.shared, near, kTiles, function);
        each_of(rest.streamed, all - near, kTiles + near, function);
    }
    // Of `count` tiles that lie together, the first of which is number `first`.
    template <class F>
    LSTM_NATIVE_DEVICE void each_of(const Word* from, int count, int first, const F& function) {
        LSTM_NATIVE_UNROLL(Places::kApart ? 1 : 2)  // two need more registers than there are where places are apart
        for (int tile = 0; tile < count; ++tile) {
            Words words;
            warp.each_lane([&](int lane) {
                LSTM_NATIVE_UNROLL()
                for (int i = 0; i < kWords / 4; ++i)
                    load_four(from + ((tile * (kWords / 4) + i) * kWarp + lane) * 4, words(lane).of + 4 * i);
            });
            function(words, first + tile);
        }
    }
};

// Of all rows. With kSeveral the depth of the outputs is a power of two up to 16; else there is one, of any depth.
template <class Arithmetic, bool kSeveral, class Held, class Places>
LSTM_NATIVE_DEVICE void multiply(const Warp& warp, Held& held, const RestTiles<typename Arithmetic::Word>& rest,
                                 const TileWalk& walk, const typename Arithmetic::Operand* right, int stride, int rows,
                                 const Places& places) {
    const auto some = [&](auto some_rows, int row) {
        RowProducts<Arithmetic, decltype(some_rows)::value, kSeveral, Held, Places> products{
            warp, held, rest, walk, right + row * stride, stride, rows - row, places, row, {}, {}};
        products.begin();
        products.all();
    };
    constexpr int kMany = Arithmetic::kManyRows;
    constexpr int kFew = Arithmetic::kFewRows;
    int row = 0;
    for (; rows - row > kFew * (kMany / kFew - 1); row += kMany) some(std::integral_constant<int, kMany>{}, row);
    for (; row < rows; row += kFew) some(std::integral_constant<int, kFew>{}, row);
}

}  // namespace lstm_native::cuda
