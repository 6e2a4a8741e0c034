// Vector operations in plain C++ for any processor: 4 floats. The multiply-adds round twice: without a
// hardware instruction, std::fma is a library call. Include only in kernels_generic.cpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace lstm_native::cpu::generic {

struct Vec {
    static constexpr int kLanes = 4;
    static constexpr int kRegisters = 16;

    typedef float Native __attribute__((vector_size(16)));  // GCC's and Clang's portable vectors
    typedef std::int32_t Mask __attribute__((vector_size(16)));

    Native v;

    static Vec zero() { return {Native{}}; }
    static Vec set(float x) { return {Native{x, x, x, x}}; }
    static Vec load(const float* p) {
        Vec r;
        std::memcpy(&r.v, p, sizeof r.v);
        return r;
    }
    static Vec load_once(const float* p) { return load(p); }  // vec_avx2.h says what for
    // Weights of 16 bits (kernel_table.h): the floats of the even and of the odd ones.
    static void widen(const std::uint16_t* p, Vec& even, Vec& odd) {
        Mask low, high;
        for (int i = 0; i < kLanes; ++i) {
            low[i] = static_cast<std::int32_t>(std::uint32_t{p[2 * i]} << 16);
            high[i] = static_cast<std::int32_t>(std::uint32_t{p[2 * i + 1]} << 16);
        }
        even.v = reinterpret_cast<Native>(low);
        odd.v = reinterpret_cast<Native>(high);
    }
    static Vec widen(const std::int8_t* p) {
        Vec r;
        for (int i = 0; i < kLanes; ++i) r.v[i] = static_cast<float>(p[i]);
        return r;
    }
    void store(float* p) const { std::memcpy(p, &v, sizeof v); }
    // The first n lanes (0 <= n <= kLanes); the others are zero / left alone.
    static Vec load_first(const float* p, std::int64_t n) {
        Vec r = zero();
        for (int i = 0; i < kLanes; ++i)
            if (i < n) r.v[i] = p[i];
        return r;
    }
    void store_first(float* p, std::int64_t n) const {
        for (int i = 0; i < kLanes; ++i)
            if (i < n) p[i] = v[i];
    }

    friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
    friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
    friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
    friend Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
    static Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
    static Vec fnma(Vec a, Vec b, Vec c) { return {c.v - a.v * b.v}; }
    // The second operand where either is NaN, as x86 processors do.
    static Vec min(Vec a, Vec b) { return select(a.v < b.v, a, b); }
    static Vec max(Vec a, Vec b) { return select(a.v > b.v, a, b); }
    static Vec sqrt(Vec a) {
        for (int i = 0; i < kLanes; ++i) a.v[i] = std::sqrt(a.v[i]);
        return a;
    }
    static Vec abs(Vec a) { return {reinterpret_cast<Native>(reinterpret_cast<Mask>(a.v) & 0x7fffffff)}; }
    // To the nearest integer for |a| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction.
    static Vec round(Vec a) {
        const Vec shift = set(12582912.0F);
        return (a + shift) - shift;
    }
    static Vec copy_sign(Vec a, Vec sign) {
        return {reinterpret_cast<Native>((reinterpret_cast<Mask>(a.v) & 0x7fffffff) |
                                         (reinterpret_cast<Mask>(sign.v) & ~0x7fffffff))};
    }
    // a * 2^n for an integral n in [-126, 127]; the result must be normal or zero.
    static Vec scale2(Vec a, Vec n) {
        const Mask exponent = (__builtin_convertvector(n.v, Mask) + 127) << 23;
        return {a.v * reinterpret_cast<Native>(exponent)};
    }
    // x < y ? a : b, lane by lane (b where either is NaN).
    static Vec where_less(Vec x, Vec y, Vec a, Vec b) { return select(x.v < y.v, a, b); }
    // The sum of the lanes, in one fixed order.
    float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }

    // rows[i] lane j becomes rows[j] lane i.
    static void transpose(Vec (&rows)[kLanes]) {
        for (int i = 0; i < kLanes; ++i) {
            for (int j = i + 1; j < kLanes; ++j) {
                const float element = rows[i].v[j];
                rows[i].v[j] = rows[j].v[i];
                rows[j].v[i] = element;
            }
        }
    }

private:
    static Vec select(Mask m, Vec a, Vec b) {
        return {reinterpret_cast<Native>((m & reinterpret_cast<Mask>(a.v)) | (~m & reinterpret_cast<Mask>(b.v)))};
    }
};

}  // namespace lstm_native::cpu::generic
