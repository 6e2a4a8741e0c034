// How a warp multiplies tiles, and where its sums go (floor 1, CUDA; tiles.h says what a tile is).
// An Arithmetic says how: Float32 by FMA, Tf32 by mma.sync.m16n8k8, Rounded16<T> by m16n8k16.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/grid.h"
#include "cuda/half.h"
#include "cuda/marked.h"
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

// Where sums go: the four columns of group g, of an output and a row, to first(g, output), and row * per_row behind it.
// With kApart every output has a place of its own; else they follow each other, per_output behind the one before.
template <class TheFirst>
struct PlacesOf {
    TheFirst first;
    int per_row, per_output;
};

// Floats in shared or global memory. An address is one number that the compiler cannot take apart: else it adds up the
// parts for every store. And four numbers are stored by an instruction that it cannot split: it makes four of them to
// save moves between registers.
template <bool kInShared, class First>
struct FloatPlaces : PlacesOf<First> {
    static constexpr bool kApart = false;
#if defined(__CUDA_ARCH__)
    using Address = std::conditional_t<kInShared, std::uint32_t, std::uint64_t>;
    __device__ Address address(int group, int output, int row) const {
        float* const to = this->first(group, output) + std::int64_t{row} * this->per_row;
        Address made = 0;
        if constexpr (kInShared) {
            made = static_cast<Address>(__cvta_generic_to_shared(to));
            asm volatile("" : "+r"(made));
        } else {
            made = reinterpret_cast<Address>(to);
            asm volatile("" : "+l"(made));
        }
        return made;
    }
    __device__ static void store(Address to, int ahead, float x) {
        to += static_cast<Address>(std::int64_t{ahead} * 4);
        if constexpr (kInShared) {
            asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(x) : "memory");
        } else {
            asm volatile("st.global.f32 [%0], %1;" ::"l"(to), "f"(x) : "memory");
        }
    }
    __device__ static void store(Address to, int ahead, float a, float b, float c, float d) {
        to += static_cast<Address>(std::int64_t{ahead} * 4);
        if constexpr (kInShared) {
            asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(a), "f"(b), "f"(c), "f"(d)
                         : "memory");
        } else {
            asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(a), "f"(b), "f"(c), "f"(d)
                         : "memory");
        }
    }
#else
    using Address = float*;
    LSTM_NATIVE_DEVICE Address address(int group, int output, int row) const {
        return this->first(group, output) + std::int64_t{row} * this->per_row;
    }
    LSTM_NATIVE_DEVICE static void store(Address to, int ahead, float x) { to[ahead] = x; }
    LSTM_NATIVE_DEVICE static void store(Address to, int ahead, float a, float b, float c, float d) {
        store_quad(to + ahead, {{a, b, c, d}});
    }
#endif
};
template <class First>
LSTM_NATIVE_DEVICE FloatPlaces<true, First> places_in_shared(const First& first, int per_row) {
    return {{first, per_row, 0}};
}
template <class First>
LSTM_NATIVE_DEVICE FloatPlaces<false, First> places_in_global(const First& first, int per_row, int per_output) {
    return {{first, per_row, per_output}};
}

// Words with a mark, where other blocks wait for them: outputs may go to different ones of a cluster.
template <class First>
struct WordPlaces : PlacesOf<First> {
    std::uint32_t mark;

    static constexpr bool kApart = true;
    using Word = MarkedFloat::Word;
    using Address = Word*;
    LSTM_NATIVE_DEVICE Address address(int group, int output, int row) const {
        return this->first(group, output) + std::int64_t{row} * this->per_row;
    }
    LSTM_NATIVE_DEVICE void store(Address to, int ahead, float x) const { store_word(to + ahead, word(x)); }
    LSTM_NATIVE_DEVICE void store(Address to, int ahead, float a, float b, float c, float d) const {
        store_words(to + ahead, word(a), word(b));
        store_words(to + ahead + 2, word(c), word(d));
    }

private:
    LSTM_NATIVE_DEVICE Word word(float x) const { return MarkedFloat::with_mark(x, mark); }
};
template <class First>
LSTM_NATIVE_DEVICE WordPlaces<First> places_of_words(const First& first, int per_row, std::uint32_t mark) {
    return {{first, per_row, 0}, mark};
}

// Products that FMA computes: sums of kRows rows and four columns, over this lane's quarter of k.
struct Float32 {
    using Weight = float;   // as it lies in memory
    using Operand = float;  // of the right matrix
    using Marked = MarkedFloat;
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
        // Elements of other tiles are not read ahead, which would take more registers than there are.
        if (kRows > kFewRows) warp.meet();
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

    // The rows go to `ahead` behind to(lane).
    template <int kRows, class Places>
    LSTM_NATIVE_DEVICE static void store(const Warp& warp, PerLane<Sums<kRows>>& sums, int /*rows*/,
                                         const Places& places, PerLane<typename Places::Address>& to, int ahead) {
        LSTM_NATIVE_UNROLL()
        for (int row = 0; row < kRows; ++row) {
            PerLane<float> sum;
            warp.scatter_sum([&](int lane) { return sums(lane).of[row]; }, sum);
            warp.each_lane(
                [&](int lane) { places.store(to(lane), ahead + row * places.per_row + quarter_of(lane), sum(lane)); });
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
#if LSTM_NATIVE_SIMT
        const std::uint32_t mine[6] = {a(0, 0), a(0, 1), a(0, 2), a(0, 3), b(0, 0), b(0, 1)};
        float* const sums = d(0);
        simt::exchange(mine, [&](const auto& words_of) {
            const int lane = static_cast<int>(simt::lane());
            for (int i = 0; i < 4; ++i)
                add(
                    sums[i], lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2,
                    [&](int other, int word) { return words_of(other)[word]; },
                    [&](int other, int word) { return words_of(other)[4 + word]; });
        });
#else
        for (int m = 0; m < 16; ++m)
            for (int n = 0; n < 8; ++n) add(d(m % 8 * 4 + n / 2)[m / 8 * 2 + n % 2], m, n, a, b);
#endif
    }

private:
    template <class A, class B>
    static void add(float& sum, int m, int n, const A& a, const B& b) {
        constexpr int kEach = 4 / static_cast<int>(sizeof(Element));  // elements of a word
        constexpr int kHalf = 4 * kEach;                              // half of K
        for (int k = 0; k < 2 * kHalf; ++k) {
            const int quarter = k % kHalf / kEach;
            const std::uint32_t left = a(m % 8 * 4 + quarter, m / 8 + k / kHalf * 2);
            const std::uint32_t right = b(n * 4 + quarter, k / kHalf);
            sum += element_of(left, k % kEach, Element{}) * element_of(right, k % kEach, Element{});
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

    template <int kRows, class Places>
    LSTM_NATIVE_DEVICE static void store(const Warp& warp, PerLane<Sums<kRows>>& sums, int rows, const Places& places,
                                         PerLane<typename Places::Address>& to, int ahead) {
        warp.each_lane([&](int lane) {
            const int first = 2 * quarter_of(lane);
            LSTM_NATIVE_UNROLL()
            for (int n = 0; n < kRows / 8; ++n) {
                LSTM_NATIVE_UNROLL()
                for (int i = 0; i < 2; ++i) {
                    const float (&of)[2][4] = sums(lane).of[n];
                    const int row = first + n * 8 + i;
                    if (row < rows)
                        places.store(to(lane), ahead + row * places.per_row, of[0][i], of[0][2 + i], of[1][i],
                                     of[1][2 + i]);
                }
            }
        });
    }
};

struct Tf32 : TensorCores<float> {
    using Weight = float;
    using Operand = float;
    using Marked = MarkedTf32;
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
    using Marked = Marked16<T>;
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
#if LSTM_NATIVE_SIMT
        return *reinterpret_cast<const Pair*>(from);
#else
        Pair pair;
        std::memcpy(&pair, from, sizeof pair);
        return pair;
#endif
    }
};

}  // namespace lstm_native::cuda
