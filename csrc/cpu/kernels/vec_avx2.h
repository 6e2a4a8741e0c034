// Vector operations of AVX2 with FMA: 8 floats. Include only in kernels_avx2.cpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace lstm_native::cpu::avx2 {

struct Vec {
    static constexpr int kLanes = 8;
    static constexpr int kRegisters = 16;

    __m256 v;

    static Vec zero() { return {_mm256_setzero_ps()}; }
    static Vec set(float x) { return {_mm256_set1_ps(x)}; }
    static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
    // For a value that several instructions use: GCC would fold the load into each of two or three.
    static Vec load_once(const float* p) {
        Vec r = load(p);
        asm("" : "+x"(r.v));
        return r;
    }
    // Weights of 16 bits (kernel_table.h): the floats of the even and of the odd ones.
    static void widen(const std::uint16_t* p, Vec& even, Vec& odd) {
        const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        even.v = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
        odd.v = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xffff0000U))));
    }
    static Vec widen(const std::int8_t* p) {
        return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
    }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    // The first n lanes (0 <= n <= kLanes); the others are zero / left alone.
    static Vec load_first(const float* p, std::int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
    void store_first(float* p, std::int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }

    friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
    // a * b + c, rounded once.
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
    // -(a * b) + c, rounded once.
    static Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
    // The second operand where either is NaN, as the processor does.
    static Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
    static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
    static Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
    static Vec abs(Vec a) { return {_mm256_andnot_ps(sign_bit(), a.v)}; }
    static Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
    // sign of `sign`, magnitude of `a`.
    static Vec copy_sign(Vec a, Vec sign) {
        return {_mm256_or_ps(_mm256_andnot_ps(sign_bit(), a.v), _mm256_and_ps(sign_bit(), sign.v))};
    }
    // a * 2^n for an integral n in [-126, 127]; the result must be normal or zero.
    static Vec scale2(Vec a, Vec n) {
        const __m256i exponent =
            _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
        return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(exponent))};
    }
    // x < y ? a : b, lane by lane (b where either is NaN).
    static Vec where_less(Vec x, Vec y, Vec a, Vec b) {
        return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, y.v, _CMP_LT_OQ))};
    }
    // The sum of the lanes, in one fixed order.
    float sum() const {
        alignas(32) float lane[8];
        store(lane);
        for (int width = 4; width > 0; width /= 2)
            for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
        return lane[0];
    }

    // rows[i] lane j becomes rows[j] lane i.
    static void transpose(Vec (&rows)[kLanes]) {
        // Within groups of four rows q: lane group l of part[4 q + c] holds column 4 l + c.
        __m256 part[kLanes];
        for (int q = 0; q < kLanes; q += 4) {
            const __m256 a = _mm256_unpacklo_ps(rows[q].v, rows[q + 1].v);
            const __m256 b = _mm256_unpackhi_ps(rows[q].v, rows[q + 1].v);
            const __m256 c = _mm256_unpacklo_ps(rows[q + 2].v, rows[q + 3].v);
            const __m256 d = _mm256_unpackhi_ps(rows[q + 2].v, rows[q + 3].v);
            part[q] = pairs_low(a, c);
            part[q + 1] = pairs_high(a, c);
            part[q + 2] = pairs_low(b, d);
            part[q + 3] = pairs_high(b, d);
        }
        for (int c = 0; c < 4; ++c) {
            rows[c].v = _mm256_permute2f128_ps(part[c], part[4 + c], 0x20);
            rows[4 + c].v = _mm256_permute2f128_ps(part[c], part[4 + c], 0x31);
        }
    }

private:
    static __m256 pairs_low(__m256 a, __m256 b) {
        return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
    }
    static __m256 pairs_high(__m256 a, __m256 b) {
        return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
    }
    static __m256 sign_bit() { return _mm256_set1_ps(-0.0F); }
    static __m256i first(std::int64_t n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
};

}  // namespace lstm_native::cpu::avx2
