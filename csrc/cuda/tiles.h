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
// An Arithmetic says how: Float32 by FMA, Tf32 by mma.sync.m16n8k8, Rounded16<T> by m16n8k16.
#pragma once

#include <cstdint>

#include "cuda/grid.h"
#include "cuda/half.h"
#include "cuda/planner.h"

namespace lstm_native::cuda {

inline constexpr int kTileColumns = 32;
inline constexpr int kTileDepth = 16;

LSTM_NATIVE_DEVICE constexpr int group_of(int lane) { return lane / 4; }
LSTM_NATIVE_DEVICE constexpr int quarter_of(int lane) { return lane % 4; }

// The elements of a tile that a lane holds: [i][c].
template <class Weight>
struct LaneTile {
    Weight of[4][4];
};

// Products that FMA computes: sums of kRows rows and four columns, over this lane's quarter of k.
struct Float32 {
    using Weight = float;   // as it lies in memory
    using Operand = float;  // of the right matrix
    using Word = float;
    static constexpr int kWords = 16;  // of a tile, a lane
    static constexpr int kManyRows = 4;
    static constexpr int kFewRows = 1;

    template <int kRows>
    struct Sums {
        float of[kRows][4];
    };

    LSTM_NATIVE_DEVICE static Operand operand(float x) { return x; }
    LSTM_NATIVE_DEVICE static void pack(const LaneTile<Weight>& tile, Word* words) {
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < 4; ++i) {
            LSTM_NATIVE_UNROLL()
            for (int c = 0; c < 4; ++c) words[i * 4 + c] = tile.of[i][c];
        }
    }

    // words(lane): those of the tile; `right` points at its first k in the first row.
    template <int kRows, class Words>
    LSTM_NATIVE_DEVICE static void multiply(const Warp& warp, PerLane<Sums<kRows>>& sums, const Words& words,
                                            const Operand* right, int stride) {
        warp.each_lane([&](int lane) {
            const Word* const w = words(lane);
            Sums<kRows>& mine = sums(lane);
            LSTM_NATIVE_UNROLL()
            for (int row = 0; row < kRows; ++row) {
                const Quad x = load_quad(right + row * stride + 4 * quarter_of(lane));
                LSTM_NATIVE_UNROLL()
                for (int i = 0; i < 4; ++i) {
                    LSTM_NATIVE_UNROLL()
                    for (int c = 0; c < 4; ++c) mine.of[row][c] += w[i * 4 + c] * x.of[i];
                }
            }
        });
    }

    // place(row, group): where the four columns of a group go.
    template <int kRows, class Place>
    LSTM_NATIVE_DEVICE static void store(const Warp& warp, PerLane<Sums<kRows>>& sums, int /*rows*/,
                                         const Place& place) {
        LSTM_NATIVE_UNROLL()
        for (int row = 0; row < kRows; ++row) {
            PerLane<float> sum;
            warp.scatter_sum([&](int lane) { return sums(lane).of[row]; }, sum);
            warp.each_lane([&](int lane) {
                float* const to = place(row, group_of(lane));
                if (to != nullptr) to[quarter_of(lane)] = sum(lane);
            });
        }
    }
};

// mma.sync of the PTX manual, D = A B + D with A (16, K), B (K, 8), D (16, 8): four words of A, two of B, four of D a
// lane. `wide` (K = 8): a word is one TF32 element; else (K = 16) two of 16 bits, the first in the lower half.
template <class Element>
struct Mma;

#if defined(__CUDACC__)

#define LSTM_NATIVE_MMA(shape_and_types)                                                                    \
    template <class D, class A, class B>                                                                    \
    __device__ static void run(const D& d, const A& a, const B& b) {                                        \
        float* const sums = d(0);                                                                           \
        asm volatile("mma.sync.aligned." shape_and_types                                                    \
                     " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                     \
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                           \
                     : "r"(a(0, 0)), "r"(a(0, 1)), "r"(a(0, 2)), "r"(a(0, 3)), "r"(b(0, 0)), "r"(b(0, 1))); \
    }

template <>
struct Mma<float> {
    LSTM_NATIVE_MMA("m16n8k8.row.col.f32.tf32.tf32.f32")
};
template <>
struct Mma<Bfloat16> {
    LSTM_NATIVE_MMA("m16n8k16.row.col.f32.bf16.bf16.f32")
};
template <>
struct Mma<Float16> {
    LSTM_NATIVE_MMA("m16n8k16.row.col.f32.f16.f16.f32")
};
#undef LSTM_NATIVE_MMA

#else

inline float element_of(std::uint32_t word, int, float) { return float_of(word); }
template <class T>
float element_of(std::uint32_t word, int half, T) {
    return T{static_cast<std::uint16_t>(word >> (16 * half))}.value();
}

// d(lane), a(lane, word), b(lane, word): where the words of the lanes are, as the manual lays matrices out.
template <class Element>
struct Mma {
    template <class D, class A, class B>
    static void run(const D& d, const A& a, const B& b) {
        constexpr int kEach = 4 / static_cast<int>(sizeof(Element));  // elements of a word
        constexpr int kHalf = 4 * kEach;                              // half of K
        for (int m = 0; m < 16; ++m) {
            for (int n = 0; n < 8; ++n) {
                float& sum = d(m % 8 * 4 + n / 2)[m / 8 * 2 + n % 2];
                for (int k = 0; k < 2 * kHalf; ++k) {
                    const int quarter = k % kHalf / kEach;
                    const std::uint32_t left = a(m % 8 * 4 + quarter, m / 8 + k / kHalf * 2);
                    const std::uint32_t right = b(n * 4 + quarter, k / kHalf);
                    sum += element_of(left, k % kEach, Element{}) * element_of(right, k % kEach, Element{});
                }
            }
        }
    }
};

#endif

// Products of the tensor cores. Row m of A is column m % 8 of eight groups, c = m / 8 or with the second product
// c = 2 + m / 8; so a lane's sums are four columns of its group, for two rows of the batch.
template <class Element>
struct TensorCores {
    static constexpr int kManyRows = 16;
    static constexpr int kFewRows = 8;

    template <int kRows>
    struct Sums {
        float of[kRows / 8][2][4];
    };

    template <int kRows, class Place>
    LSTM_NATIVE_DEVICE static void store(const Warp& warp, PerLane<Sums<kRows>>& sums, int rows, const Place& place) {
        warp.each_lane([&](int lane) {
            LSTM_NATIVE_UNROLL()
            for (int n = 0; n < kRows / 8; ++n) {
                LSTM_NATIVE_UNROLL()
                for (int i = 0; i < 2; ++i) {
                    const int row = n * 8 + 2 * quarter_of(lane) + i;
                    float* const to = row < rows ? place(row, group_of(lane)) : nullptr;
                    const float (&of)[2][4] = sums(lane).of[n];
                    if (to != nullptr) store_quad(to, {{of[0][i], of[0][2 + i], of[1][i], of[1][2 + i]}});
                }
            }
        });
    }
};

struct Tf32 : TensorCores<float> {
    using Weight = float;
    using Operand = float;
    using Word = std::uint32_t;
    static constexpr int kWords = 16;

    // To 11 bits, half away from zero as cvt.rna.tf32 has it; mma.sync would cut the others off.
    LSTM_NATIVE_DEVICE static Operand operand(float x) {
        const std::uint32_t bits = bits_of(x);
        return (bits & 0x7F800000U) == 0x7F800000U ? x : float_of((bits + 0x1000U) & ~0x1FFFU);
    }
    LSTM_NATIVE_DEVICE static void pack(const LaneTile<Weight>& tile, Word* words) {
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < 4; ++i) {
            LSTM_NATIVE_UNROLL()
            for (int c = 0; c < 4; ++c) words[i * 4 + c] = bits_of(operand(tile.of[i][c]));
        }
    }

    template <int kRows, class Words>
    LSTM_NATIVE_DEVICE static void multiply(const Warp& warp, PerLane<Sums<kRows>>& sums, const Words& words,
                                            const Operand* right, int stride) {
        LSTM_NATIVE_UNROLL()
        for (int n = 0; n < kRows / 8; ++n) {
            PerLane<Quad> x;
            warp.each_lane([&](int lane) {
                x(lane) = load_quad(right + (n * 8 + group_of(lane)) * stride + 4 * quarter_of(lane));
            });
            LSTM_NATIVE_UNROLL()
            for (int half = 0; half < 2; ++half) {  // k = 4 quarter + 2 half, and the one after it
                LSTM_NATIVE_UNROLL()
                for (int m = 0; m < 2; ++m) {
                    Mma<float>::run(
                        [&](int lane) { return sums(lane).of[n][m]; },
                        [&](int lane, int word) { return words(lane)[(2 * half + word / 2) * 4 + 2 * m + word % 2]; },
                        [&](int lane, int word) { return bits_of(x(lane).of[2 * half + word]); });
                }
            }
        }
    }
};

// T: Bfloat16 or Float16. A word is the elements of a column at two neighbouring k.
template <class T>
struct Rounded16 : TensorCores<T> {
    using Weight = T;
    using Operand = T;
    using Word = std::uint32_t;
    static constexpr int kWords = 8;
    template <int kRows>
    using Sums = typename TensorCores<T>::template Sums<kRows>;

    LSTM_NATIVE_DEVICE static Operand operand(float x) { return T::of(x); }
    LSTM_NATIVE_DEVICE static void pack(const LaneTile<Weight>& tile, Word* words) {
        LSTM_NATIVE_UNROLL()
        for (int pair = 0; pair < 2; ++pair) {
            LSTM_NATIVE_UNROLL()
            for (int c = 0; c < 4; ++c)
                words[pair * 4 + c] =
                    std::uint32_t{tile.of[2 * pair][c].bits} | std::uint32_t{tile.of[2 * pair + 1][c].bits} << 16;
        }
    }

    template <int kRows, class Words>
    LSTM_NATIVE_DEVICE static void multiply(const Warp& warp, PerLane<Sums<kRows>>& sums, const Words& words,
                                            const Operand* right, int stride) {
        LSTM_NATIVE_UNROLL()
        for (int n = 0; n < kRows / 8; ++n) {
            PerLane<Pair> x;
            warp.each_lane([&](int lane) {
                x(lane) = load_pair(right + (n * 8 + group_of(lane)) * stride + 4 * quarter_of(lane));
            });
            LSTM_NATIVE_UNROLL()
            for (int m = 0; m < 2; ++m) {
                Mma<T>::run([&](int lane) { return sums(lane).of[n][m]; },
                            [&](int lane, int word) { return words(lane)[word / 2 * 4 + 2 * m + word % 2]; },
                            [&](int lane, int word) { return x(lane).word[word]; });
            }
        }
    }

private:
    struct alignas(8) Pair {
        std::uint32_t word[2];
    };
    LSTM_NATIVE_DEVICE static Pair load_pair(const T* from) {
#if defined(__CUDA_ARCH__)
        return *reinterpret_cast<const Pair*>(from);
#else
        Pair pair;
        std::memcpy(&pair, from, sizeof pair);
        return pair;
#endif
    }
};

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
#if defined(__CUDA_ARCH__)
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

// Of kRows rows of the right matrix, all outputs of a warp. place(output, row, group): where four columns go, or null.
template <class Arithmetic, int kRows, class Held, class Place>
LSTM_NATIVE_DEVICE void multiply_rows(const Warp& warp, Held& held, const RestTiles<typename Arithmetic::Word>& rest,
                                      const TileWalk& walk, const typename Arithmetic::Operand* right, int stride,
                                      int rows, const Place& place) {
    using Word = typename Arithmetic::Word;
    using Sums = typename Arithmetic::template Sums<kRows>;
    constexpr int kWords = Arithmetic::kWords;
    constexpr int kTiles = HeldTiles<Arithmetic>::kTiles;
    PerLane<Sums> sums;
    const auto begin = [&] { warp.each_lane([&](int lane) { sums(lane) = Sums{}; }); };
    int output = 0;
    int depth = 0;
    const auto end_of_tile = [&] {
        if (++depth < walk.depth) return;
        Arithmetic::template store<kRows>(warp, sums, rows,
                                          [&](int row, int group) { return place(output, row, group); });
        begin();
        depth = 0;
        ++output;
    };
    begin();
    LSTM_NATIVE_UNROLL()
    for (int tile = 0; tile < kTiles; ++tile) {
        if (tile < walk.tiles()) {
            Arithmetic::template multiply<kRows>(
                warp, sums, [&](int lane) { return held(warp.number * kWarp + lane).words + tile * kWords; },
                right + depth * kTileDepth, stride);
            end_of_tile();
        }
    }
    const auto multiply_rest = [&](const Word* from) {
        PerLane<TileWords<Word, kWords>> words;
        warp.each_lane([&](int lane) {
            LSTM_NATIVE_UNROLL()
            for (int i = 0; i < kWords / 4; ++i) load_four(from + (i * kWarp + lane) * 4, words(lane).of + 4 * i);
        });
        Arithmetic::template multiply<kRows>(
            warp, sums, [&](int lane) -> const Word* { return words(lane).of; }, right + depth * kTileDepth, stride);
        end_of_tile();
    };
    const int all = walk.tiles() - kTiles;
    const int near = all < rest.shared_tiles ? all : rest.shared_tiles;
    for (int tile = 0; tile < near; ++tile) multiply_rest(rest.shared + tile * kWords * kWarp);
    for (int tile = near; tile < all; ++tile) multiply_rest(rest.streamed + (tile - near) * kWords * kWarp);
}

// Of all rows. place(output, row, group) as above.
template <class Arithmetic, class Held, class Place>
LSTM_NATIVE_DEVICE void multiply(const Warp& warp, Held& held, const RestTiles<typename Arithmetic::Word>& rest,
                                 const TileWalk& walk, const typename Arithmetic::Operand* right, int stride, int rows,
                                 const Place& place) {
    constexpr int kMany = Arithmetic::kManyRows;
    constexpr int kFew = Arithmetic::kFewRows;
    int row = 0;
    const auto at = [&](int output, int r, int group) { return place(output, row + r, group); };
    for (; rows - row > kFew * (kMany / kFew - 1); row += kMany)
        multiply_rows<Arithmetic, kMany>(warp, held, rest, walk, right + row * stride, stride, rows - row, at);
    for (; row < rows; row += kFew)
        multiply_rows<Arithmetic, kFew>(warp, held, rest, walk, right + row * stride, stride, rows - row, at);
}

}  // namespace lstm_native::cuda
