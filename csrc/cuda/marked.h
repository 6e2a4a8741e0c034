// Numbers that come with the step that they are of, in one word that is written and read at once (floor 1, CUDA): who
// reads one waits until it has the mark of its step, and needs no other barrier. A place is written again two steps
// later, so marks may repeat after more than that.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/grid.h"
#include "cuda/half.h"

namespace lstm_native::cuda {

// A kind of word says which number and which mark are in one. Marks of steps are not 0, which is what memory is cleared
// to, and not kForGood, which is that of all steps.
template <class TheWord, class TheNumber, int kBits>
struct MarkedWord {
    using Word = TheWord;
    using Number = TheNumber;
    static constexpr int kAtOnce = 16 / static_cast<int>(sizeof(Word));  // that are read together
    static constexpr std::uint32_t kForGood = 0xFFFFFFFFU >> (32 - kBits);

    LSTM_NATIVE_DEVICE static std::uint32_t mark_of(int step) {
        return (static_cast<std::uint32_t>(step) & (kForGood >> 1)) + 1;
    }
};

// A float in the lower half, its mark in the upper one.
struct MarkedFloat : MarkedWord<std::uint64_t, float, 32> {
    LSTM_NATIVE_DEVICE static Word with_mark(float x, std::uint32_t mark) {
        return std::uint64_t{mark} << 32 | bits_of(x);
    }
    LSTM_NATIVE_DEVICE static std::uint32_t mark(Word word) { return static_cast<std::uint32_t>(word >> 32); }
    LSTM_NATIVE_DEVICE static float number(Word word) { return float_of(static_cast<std::uint32_t>(word)); }
};

// Of a float with 11 bits of precision, where the others were. What they say of a NaN is lost.
struct MarkedTf32 : MarkedWord<std::uint32_t, float, 13> {
    LSTM_NATIVE_DEVICE static Word with_mark(float x, std::uint32_t mark) {
        const std::uint32_t bits = x != x ? 0x7FC00000U : bits_of(x);
        return (bits & ~kForGood) | mark;
    }
    LSTM_NATIVE_DEVICE static std::uint32_t mark(Word word) { return word & kForGood; }
    LSTM_NATIVE_DEVICE static float number(Word word) { return float_of(word & ~kForGood); }
};

// T: Bfloat16 or Float16, in the upper half.
template <class T>
struct Marked16 : MarkedWord<std::uint32_t, T, 16> {
    LSTM_NATIVE_DEVICE static std::uint32_t with_mark(T x, std::uint32_t mark) {
        return std::uint32_t{x.bits} << 16 | mark;
    }
    LSTM_NATIVE_DEVICE static std::uint32_t mark(std::uint32_t word) { return word & 0xFFFFU; }
    LSTM_NATIVE_DEVICE static T number(std::uint32_t word) { return T{static_cast<std::uint16_t>(word >> 16)}; }
};

// Words that are read together, each at once.
template <class Marked>
struct MarkedWords {
    typename Marked::Word of[Marked::kAtOnce];

    // Of this step, or for good.
    LSTM_NATIVE_DEVICE bool have(std::uint32_t wanted) const {
        bool all = true;
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < Marked::kAtOnce; ++i) {
            const std::uint32_t mark = Marked::mark(of[i]);
            all = all && (mark == wanted || mark == Marked::kForGood);
        }
        return all;
    }
    // Their numbers, in one access.
    LSTM_NATIVE_DEVICE void put(typename Marked::Number* to) const {
        struct alignas(Marked::kAtOnce * sizeof(typename Marked::Number)) Numbers {
            typename Marked::Number of[Marked::kAtOnce];
        } numbers;
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < Marked::kAtOnce; ++i) numbers.of[i] = Marked::number(of[i]);
#if LSTM_NATIVE_SIMT
        *reinterpret_cast<Numbers*>(to) = numbers;
#else
        std::memcpy(to, numbers.of, sizeof numbers);
#endif
    }
};

// Addresses are generic: the words lie in global memory, or in shared memory of a block of the same cluster. Accesses
// are relaxed, for a word is all that they hand over; of the device's scope, which has that of a cluster in it.
//
// No block writes to a place that another has still to read. Before it hands on numbers of step n + 2 it has read some
// of step n + 1 from every block of its group, and each of these wrote them after a barrier of its threads behind all
// their reads of step n. What was read by then had the mark that was waited for, so no order of accesses makes one miss
// it.
#if defined(__CUDACC__)
__device__ inline void store_word(std::uint64_t* to, std::uint64_t word) {
    asm volatile("st.relaxed.gpu.u64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}
__device__ inline void store_word(std::uint32_t* to, std::uint32_t word) {
    asm volatile("st.relaxed.gpu.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}
__device__ inline void store_words(std::uint64_t* to, std::uint64_t first, std::uint64_t second) {
    asm volatile("st.relaxed.gpu.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second) : "memory");
}
__device__ inline void load_words(const std::uint64_t* from, std::uint64_t (&words)[2]) {
    asm volatile("ld.relaxed.gpu.v2.u64 {%0, %1}, [%2];" : "=l"(words[0]), "=l"(words[1]) : "l"(from) : "memory");
}
__device__ inline void load_words(const std::uint32_t* from, std::uint32_t (&words)[4]) {
    asm volatile("ld.relaxed.gpu.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "l"(from)
                 : "memory");
}
#elif !LSTM_NATIVE_SIMT
template <class Word>
void store_word(Word* to, Word word) {
    *to = word;
}
inline void store_words(std::uint64_t* to, std::uint64_t first, std::uint64_t second) {
    to[0] = first;
    to[1] = second;
}
template <class Word, int kCount>
void load_words(const Word* from, Word (&words)[kCount]) {
    std::memcpy(words, from, sizeof words);
}
#endif

// Reads `count` times words at from(i), i < count <= kMost, until all of them have the mark, or false when it gave up.
template <class Marked, int kMost, class From>
LSTM_NATIVE_DEVICE bool wait_for_words(const GridBlock& block, std::uint32_t mark, int count, const From& from,
                                       MarkedWords<Marked> (&words)[kMost]) {
    Patience patience = block.patience();
    LSTM_NATIVE_UNROLL()
    for (int i = 0; i < kMost; ++i)
        if (i < count) load_words(from(i), words[i].of);
    for (;;) {
        bool all = true;
        LSTM_NATIVE_UNROLL()
        for (int i = 0; i < kMost; ++i) {
            if (i >= count || words[i].have(mark)) continue;
            all = false;
            load_words(from(i), words[i].of);
        }
        if (all) return true;
        if (!patience.lasts()) return false;
    }
}

}  // namespace lstm_native::cuda
