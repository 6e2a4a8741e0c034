// Mathematical functions on `Vec` (floor 1): exp, sigmoid, tanh, log1p and the activations of the cell.
// Coefficients are our own minimax fits (relative error, iteratively reweighted least squares in float64).
//
// Largest errors measured over every fifth float32 input whose result is normal, in ULP against float64:
//              exp   sigmoid   tanh   log1p_unit
//   with fma   0.9   2.5       2.6    2.0
//   generic    1.2   2.5       2.6    2.0
// Subnormal results may be flushed to zero. NaN comes out where NaN goes in.
#pragma once

#include <cstdint>

#include "core/activation.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

// Splits x into n ln 2 + r, |r| <= ln(2) / 2, and returns e^r; x within [-104, 89.1]. The upper part of ln 2 has 9
// bits, so its product with n is exact also where multiply-adds round twice.
inline Vec exp_reduced(Vec x, Vec* n) {
    *n = Vec::round(x * Vec::set(1.44269504F));
    Vec r = Vec::fnma(*n, Vec::set(0.693359375F), x);
    r = Vec::fnma(*n, Vec::set(-2.12194440e-4F), r);
    Vec p = Vec::fma(r, Vec::set(1.38145400e-3F), Vec::set(8.36874525e-3F));
    p = Vec::fma(p, r, Vec::set(4.16683908e-2F));
    p = Vec::fma(p, r, Vec::set(0.166665204F));
    p = Vec::fma(p, r, Vec::set(0.499999934F));
    p = Vec::fma(p, r, Vec::set(1.0F));
    return Vec::fma(p, r, Vec::set(1.0F));
}

// x within [lo, hi]; NaN stays NaN (min and max return their second operand then).
inline Vec clamp(Vec x, float lo, float hi) { return Vec::min(Vec::set(hi), Vec::max(Vec::set(lo), x)); }

// e^x: infinity above 88.72, 0 for results below the smallest normal number.
inline Vec exp(Vec x) {
    Vec n;
    const Vec p = exp_reduced(clamp(x, -104.0F, 89.0F), &n);
    // In two halves: 2^128 and 2^-150 are no floats.
    const Vec half = Vec::round(n * Vec::set(0.5F));
    const Vec y = Vec::scale2(Vec::scale2(p, half), n - half);
    return Vec::where_less(x, Vec::set(-87.3365402F), Vec::zero(), y);
}

// e^x for x <= 0: one scaling less.
inline Vec exp_nonpositive(Vec x) {
    Vec n;
    const Vec p = exp_reduced(Vec::max(Vec::set(-87.3365402F), x), &n);
    return Vec::where_less(x, Vec::set(-87.3365402F), Vec::zero(), Vec::scale2(p, n));
}

// 1 / (1 + e^-x): relatively accurate for negative x too, down to the smallest normal result (x = -87.3), exactly 0
// from there on when subnormals are flushed, and for x < -89 in any case. e^-x need not be accurate where the 1
// swallows it.
inline Vec sigmoid(Vec x) {
    Vec n;
    const Vec p = exp_reduced(clamp(Vec::zero() - x, -60.0F, 89.0F), &n);
    // n reaches 128, whose scale is infinity (or p * 2^128): 1 / that is 0 or subnormal.
    return Vec::set(1.0F) / (Vec::set(1.0F) + Vec::scale2(p, n));
}

// From u = (e^2|x| - 1) / 2, relatively accurate near 0: u / (u + 1). Odd, |result| <= 1, and exactly +-1 from
// |x| = 9.02 on. A rational function takes about as many operations, with the bounds at 1, and errs more.
inline Vec tanh(Vec x) {
    // |x| = n ln(2) / 2 + r. From 10.4 on, u + 1 is u.
    const Vec a = Vec::min(Vec::set(10.4F), Vec::abs(x));
    const Vec n = Vec::round(a * Vec::set(2.88539008F));
    Vec r = Vec::fnma(n, Vec::set(0.3466796875F), a);
    r = Vec::fnma(n, Vec::set(-1.06097220e-4F), r);
    Vec p = Vec::fma(r, Vec::set(4.44240525e-2F), Vec::set(0.133864756F));
    p = Vec::fma(p, r, Vec::set(0.333337606F));
    p = Vec::fma(p, r, Vec::set(0.666661737F));
    p = Vec::fma(p, r, Vec::set(0.999999963F));
    p = Vec::fma(p, r * r, r);  // (e^2r - 1) / 2
    const Vec power = Vec::scale2(Vec::set(1.0F), n);
    const Vec u = Vec::fma(power, p, Vec::fma(power, Vec::set(0.5F), Vec::set(-0.5F)));
    return Vec::copy_sign(u / (u + Vec::set(1.0F)), x);
}

// log(1 + u) for 0 <= u <= 1, as 2 artanh(u / (2 + u)).
inline Vec log1p_unit(Vec u) {
    const Vec s = u / (u + Vec::set(2.0F));
    const Vec z = s * s;
    Vec p = Vec::fma(z, Vec::set(0.140127882F), Vec::set(0.139996318F));
    p = Vec::fma(p, z, Vec::set(0.200108339F));
    p = Vec::fma(p, z, Vec::set(0.333332071F));
    const Vec twice = s + s;
    return Vec::fma(p * z, twice, twice);
}

// Lane by lane through a scalar function.
inline Vec map_lanes(Vec x, core::ScalarFunction f) {
    float lane[Vec::kLanes];
    x.store(lane);
    for (float& element : lane) element = f(element);
    return Vec::load(lane);
}

// Value of an elementwise activation.
inline Vec activate(core::Activation kind, Vec x) {
    switch (kind) {
        case core::Activation::linear:
            return x;
        case core::Activation::tanh:
            return tanh(x);
        case core::Activation::sigmoid:
            return sigmoid(x);
        case core::Activation::hard_sigmoid:
            return clamp(Vec::fma(x, Vec::set(1.0F / 6), Vec::set(0.5F)), 0.0F, 1.0F);
        case core::Activation::relu:
            return Vec::max(Vec::zero(), x);
        case core::Activation::softsign:
            return x / (Vec::set(1.0F) + Vec::abs(x));
        default:
            return map_lanes(x, core::scalar_activation(kind).value);
    }
}

// Its derivative at the input x; at a kink that of the flat side.
inline Vec activation_derivative(core::Activation kind, Vec x) {
    const Vec one = Vec::set(1.0F);
    switch (kind) {
        case core::Activation::linear:
            return one;
        case core::Activation::tanh: {
            const Vec y = tanh(x);
            return Vec::fnma(y, y, one);
        }
        case core::Activation::sigmoid: {
            const Vec y = sigmoid(x);
            return y * (one - y);
        }
        case core::Activation::hard_sigmoid:
            return Vec::where_less(Vec::abs(x), Vec::set(3.0F), Vec::set(1.0F / 6), Vec::zero());
        case core::Activation::relu:
            return Vec::where_less(Vec::zero(), x, one, Vec::zero());
        case core::Activation::softsign: {
            const Vec y = one / (one + Vec::abs(x));
            return y * y;
        }
        default:
            return map_lanes(x, core::scalar_activation(kind).derivative);
    }
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
