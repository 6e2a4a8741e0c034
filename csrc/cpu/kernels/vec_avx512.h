// Vector operations of AVX-512 (F, VL, BW, DQ): 16 floats. Include only in kernels_avx512.cpp.
#pragma once

// GCC 12 takes the undefined operand of its own unmasked intrinsics for a mistake (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>

namespace lstm_native::cpu::avx512 {

struct Vec {
    static constexpr int kLanes = 16;
    static constexpr int kRegisters = 32;

    __m512 v;

    static Vec zero() { return {_mm512_setzero_ps()}; }
    static Vec set(float x) { return {_mm512_set1_ps(x)}; }
    static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
    // For a value that several instructions use: GCC would fold the load into each of two or three.
    static Vec load_once(const float* p) {
        Vec r = load(p);
        asm("" : "+v"(r.v));
        return r;
    }
    // Weights of 16 bits (kernel_table.h): the floats of the even and of the odd ones.
    static void widen(const std::uint16_t* p, Vec& even, Vec& odd) {
        const __m512i both = _mm512_loadu_si512(p);
        even.v = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        odd.v = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
    }
    static Vec widen(const std::int8_t* p) {
        return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
    }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    // The first n lanes (0 <= n <= kLanes); the others are zero / left alone.
    static Vec load_first(const float* p, std::int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
    void store_first(float* p, std::int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }

    friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
    friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
    friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
    friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
    // a * b + c, rounded once.
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    // -(a * b) + c, rounded once.
    static Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
    // The second operand where either is NaN, as the processor does.
    static Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
    static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
    static Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
    static Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
    static Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
    // sign of `sign`, magnitude of `a`.
    static Vec copy_sign(Vec a, Vec sign) {
        return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_set1_epi32(0x7fffffff), _mm512_castps_si512(a.v),
                                                              _mm512_castps_si512(sign.v), 0xCA))};
    }
    // a * 2^n for an integral n in [-126, 127]; the result must be normal or zero.
    static Vec scale2(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
    // x < y ? a : b, lane by lane (b where either is NaN).
    static Vec where_less(Vec x, Vec y, Vec a, Vec b) {
        return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), b.v, a.v)};
    }
    // The sum of the lanes, in one fixed order.
    float sum() const {
        alignas(64) float lane[16];
        store(lane);
        for (int width = 8; width > 0; width /= 2)
            for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
        return lane[0];
    }

    // rows[i] lane j becomes rows[j] lane i.
    static void transpose(Vec (&rows)[kLanes]) {
        // Within groups of four rows q: lane group l of part[4 q + c] holds column 4 l + c.
        __m512 part[kLanes];
        for (int q = 0; q < kLanes; q += 4) {
            const __m512 a = _mm512_unpacklo_ps(rows[q].v, rows[q + 1].v);
            const __m512 b = _mm512_unpackhi_ps(rows[q].v, rows[q + 1].v);
            const __m512 c = _mm512_unpacklo_ps(rows[q + 2].v, rows[q + 3].v);
            const __m512 d = _mm512_unpackhi_ps(rows[q + 2].v, rows[q + 3].v);
            part[q] = pairs_low(a, c);
            part[q + 1] = pairs_high(a, c);
            part[q + 2] = pairs_low(b, d);
            part[q + 3] = pairs_high(b, d);
        }
        for (int c = 0; c < 4; ++c) {
            const __m512 even0 = _mm512_shuffle_f32x4(part[c], part[4 + c], 0x88);
            const __m512 even1 = _mm512_shuffle_f32x4(part[8 + c], part[12 + c], 0x88);
            const __m512 odd0 = _mm512_shuffle_f32x4(part[c], part[4 + c], 0xDD);
            const __m512 odd1 = _mm512_shuffle_f32x4(part[8 + c], part[12 + c], 0xDD);
            rows[c].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
            rows[4 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
            rows[8 + c].v = _mm512_shuffle_f32x4(even0, even1, 0xDD);
            rows[12 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0xDD);
        }
    }

private:
    static __m512 pairs_low(__m512 a, __m512 b) {
        return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    }
    static __m512 pairs_high(__m512 a, __m512 b) {
        return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    }
    static __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }
};

}  // namespace lstm_native::cpu::avx512
