// Losses and their gradients over rows (floor 1), with the clipping and normalisation of Keras. The sums along a
// row have one fixed order; NaN passes through.
#pragma once

#include <cstdint>

#include "cpu/kernels/elementwise_kernels.h"
#include "cpu/kernels/math-inl.h"
#include "cpu/kernels/rows-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

// Probabilities are held within [kProbabilityMin, kProbabilityMax] (Keras' epsilon, 1e-7).
constexpr float kProbabilityMin = 1e-7F;
constexpr float kProbabilityMax = 1.0F - 1e-7F;

inline float log_scalar(float x) { return __builtin_logf(x); }

inline float clip_probability(float p) {
    p = p < kProbabilityMin ? kProbabilityMin : p;
    return p > kProbabilityMax ? kProbabilityMax : p;
}

// `inside` where clipping leaves p alone, else zero, the derivative of what was clipped; NaN counts as inside.
inline Vec unless_clipped(Vec p, Vec inside) {
    return Vec::where_less(p, Vec::set(kProbabilityMin), Vec::zero(),
                           Vec::where_less(Vec::set(kProbabilityMax), p, Vec::zero(), inside));
}

// The elementwise losses: value and derivative at prediction p for target y.
struct BinaryFromLogits {
    float smoothing;
    Vec target(Vec y) const { return Vec::fma(y, Vec::set(1.0F - smoothing), Vec::set(0.5F * smoothing)); }
    Vec value(Vec p, Vec y) const {
        const Vec tail = log1p_unit(exp_nonpositive(Vec::zero() - Vec::abs(p)));
        return Vec::fnma(p, target(y), Vec::max(Vec::zero(), p)) + tail;
    }
    Vec derivative(Vec p, Vec y) const { return sigmoid(p) - target(y); }
};

struct BinaryFromProbabilities {
    float smoothing;
    Vec target(Vec y) const { return BinaryFromLogits{smoothing}.target(y); }
    Vec value(Vec p, Vec y) const {
        const Vec one = Vec::set(1.0F);
        const Vec t = target(y);
        const Vec q = clamp(p, kProbabilityMin, kProbabilityMax);
        const Vec sum = Vec::fma(one - t, map_lanes(one - q, log_scalar), t * map_lanes(q, log_scalar));
        return Vec::zero() - sum;
    }
    Vec derivative(Vec p, Vec y) const { return unless_clipped(p, (p - target(y)) / (p * (Vec::set(1.0F) - p))); }
};

struct SquaredError {
    Vec value(Vec p, Vec y) const { return (p - y) * (p - y); }
    Vec derivative(Vec p, Vec y) const { return Vec::set(2.0F) * (p - y); }
};

struct AbsoluteError {
    Vec value(Vec p, Vec y) const { return Vec::abs(p - y); }
    Vec derivative(Vec p, Vec y) const {
        const Vec d = p - y;
        return Vec::where_less(Vec::zero(), d, Vec::set(1.0F), Vec::where_less(d, Vec::zero(), Vec::set(-1.0F), d));
    }
};

struct Huber {
    float delta;
    Vec value(Vec p, Vec y) const {
        const Vec e = p - y;
        const Vec size = Vec::abs(e);
        const Vec d = Vec::set(delta);
        const Vec linear = d * (size - Vec::set(0.5F * delta));
        return Vec::where_less(d, size, linear, Vec::set(0.5F) * e * e);
    }
    Vec derivative(Vec p, Vec y) const { return clamp(p - y, -delta, delta); }
};

// From sinh^2 near zero, where |e| - log 2 + log(1 + e^-2|e|) would lose its digits.
struct LogCosh {
    Vec value(Vec p, Vec y) const {
        const Vec one = Vec::set(1.0F);
        const Vec size = Vec::abs(p - y);
        const Vec t = tanh(size);
        const Vec near = Vec::set(0.5F) * log1p_unit(t * t / ((one - t) * (one + t)));
        const Vec far = size - Vec::set(kLog2) + log1p_unit(exp_nonpositive(Vec::set(-2.0F) * size));
        return Vec::where_less(size, Vec::set(kAsinhOfOne), near, far);
    }
    Vec derivative(Vec p, Vec y) const { return tanh(p - y); }

private:
    static constexpr float kLog2 = 0.693147181F;
    static constexpr float kAsinhOfOne = 0.88137F;  // rounded down: log1p_unit takes sinh^2 up to 1
};

// Labels and predictions are clipped to [kProbabilityMin, 1].
struct KullbackLeibler {
    Vec target(Vec y) const { return clamp(y, kProbabilityMin, 1.0F); }
    Vec value(Vec p, Vec y) const {
        const Vec t = target(y);
        return t * map_lanes(t / clamp(p, kProbabilityMin, 1.0F), log_scalar);
    }
    Vec derivative(Vec p, Vec y) const {
        const Vec slope = Vec::zero() - target(y) / p;
        return Vec::where_less(p, Vec::set(kProbabilityMin), Vec::zero(),
                               Vec::where_less(Vec::set(1.0F), p, Vec::zero(), slope));
    }
};

inline float row_weight(const LnLossArgs& args, std::int64_t r) {
    return args.row_weights == nullptr ? 1.0F : args.row_weights[r];
}

// A row's loss is the sum over its elements divided by `columns`.
template <class Element>
inline void elementwise_loss(const LnLossArgs& args, std::int64_t begin, std::int64_t end, Element element,
                             float columns) {
    const float* const targets = static_cast<const float*>(args.y_true);
    if (args.N == 1) {  // rows of one element fill the lanes together
        for_each_vector(end - begin, [&](std::int64_t i, std::int64_t n) {
            const std::int64_t at = begin + i;
            const Vec p = load_part(args.y_pred + at, n);
            const Vec y = load_part(targets + at, n);
            store_part(args.rows + at, n, element.value(p, y));
            if (args.d_y_pred == nullptr) return;
            Vec slope = element.derivative(p, y);
            if (args.row_weights != nullptr) slope = slope * load_part(args.row_weights + at, n);
            store_part(args.d_y_pred + at, n, slope);
        });
        return;
    }
    for (std::int64_t r = begin; r < end; ++r) {
        const float* const p = args.y_pred + r * args.N;
        const float* const y = targets + r * args.N;
        float* const d = args.d_y_pred == nullptr ? nullptr : args.d_y_pred + r * args.N;
        const Vec factor = Vec::set(row_weight(args, r) / columns);
        args.rows[r] = sum_row(args.N,
                               [=](std::int64_t i, std::int64_t n) {
                                   const Vec prediction = load_part(p + i, n);
                                   const Vec target = load_part(y + i, n);
                                   if (d != nullptr)
                                       store_part(d + i, n, element.derivative(prediction, target) * factor);
                                   return element.value(prediction, target);
                               }) /
                       columns;
    }
}

// One row against the distribution y; `keep` and `add` smooth it: y * keep + add. d is null or gets the gradient.
inline float categorical_row(const LnLossArgs& args, const float* p, const float* y, Vec keep, Vec add, float weight,
                             float* d) {
    const std::int64_t N = args.N;
    const auto target = [=](std::int64_t i, std::int64_t n) { return Vec::fma(load_part(y + i, n), keep, add); };
    const Vec w = Vec::set(weight);
    if (args.from_logits != 0) {
        const Vec top = Vec::set(row_max(N, p));
        const float sum = sum_exp(N, p, top, d);
        const Vec log_sum = Vec::set(__builtin_logf(sum));
        if (d != nullptr) {
            const Vec ratio = Vec::set(sum_row(N, target) / sum);
            for_each_vector(N, [=](std::int64_t i, std::int64_t n) {
                store_part(d + i, n, (load_part(d + i, n) * ratio - target(i, n)) * w);
            });
        }
        return sum_row(
            N, [=](std::int64_t i, std::int64_t n) { return target(i, n) * (log_sum - (load_part(p + i, n) - top)); });
    }
    const Vec sum = Vec::set(sum_row(N, [=](std::int64_t i, std::int64_t n) { return load_part(p + i, n); }));
    if (d != nullptr) {
        const Vec dot = Vec::set(sum_row(N, [=](std::int64_t i, std::int64_t n) {
            return unless_clipped(load_part(p + i, n) / sum, target(i, n));
        }));
        for_each_vector(N, [=](std::int64_t i, std::int64_t n) {
            const Vec q = load_part(p + i, n) / sum;
            store_part(d + i, n, (dot - unless_clipped(q, target(i, n) / q)) / sum * w);
        });
    }
    return -sum_row(N, [=](std::int64_t i, std::int64_t n) {
        const Vec q = clamp(load_part(p + i, n) / sum, kProbabilityMin, kProbabilityMax);
        return target(i, n) * map_lanes(q, log_scalar);
    });
}

// One row against the class `label`.
inline float sparse_row(const LnLossArgs& args, const float* p, std::int64_t label, float weight, float* d) {
    const std::int64_t N = args.N;
    if (args.from_logits != 0) {
        const float top = row_max(N, p);
        const float sum = sum_exp(N, p, Vec::set(top), d);
        if (d != nullptr) {
            const float own = d[label] / sum;
            const Vec total = Vec::set(sum);
            const Vec w = Vec::set(weight);
            for_each_vector(
                N, [=](std::int64_t i, std::int64_t n) { store_part(d + i, n, load_part(d + i, n) / total * w); });
            d[label] = (own - 1.0F) * weight;
        }
        return __builtin_logf(sum) - (p[label] - top);
    }
    const float sum = sum_row(N, [=](std::int64_t i, std::int64_t n) { return load_part(p + i, n); });
    const float q = p[label] / sum;
    if (d != nullptr) {
        const bool clipped = q < kProbabilityMin || q > kProbabilityMax;
        const float others = clipped ? 0.0F : weight / sum;
        for_each_vector(N, [=](std::int64_t i, std::int64_t n) { store_part(d + i, n, Vec::set(others)); });
        if (!clipped) d[label] = (1.0F - 1.0F / q) * others;
    }
    return -__builtin_logf(clip_probability(q));
}

inline void loss(const LnLossArgs& args, std::int64_t begin, std::int64_t end) {
    const float columns = static_cast<float>(args.N);
    switch (args.loss) {
        case LN_BINARY_CROSSENTROPY:
            if (args.from_logits != 0)
                return elementwise_loss(args, begin, end, BinaryFromLogits{args.parameter}, columns);
            return elementwise_loss(args, begin, end, BinaryFromProbabilities{args.parameter}, columns);
        case LN_MEAN_SQUARED_ERROR:
            return elementwise_loss(args, begin, end, SquaredError{}, columns);
        case LN_MEAN_ABSOLUTE_ERROR:
            return elementwise_loss(args, begin, end, AbsoluteError{}, columns);
        case LN_HUBER:
            return elementwise_loss(args, begin, end, Huber{args.parameter}, columns);
        case LN_LOG_COSH:
            return elementwise_loss(args, begin, end, LogCosh{}, columns);
        case LN_KL_DIVERGENCE:
            return elementwise_loss(args, begin, end, KullbackLeibler{}, 1.0F);
        default:
            break;
    }
    const Vec keep = Vec::set(1.0F - args.parameter);
    const Vec add = Vec::set(args.parameter / columns);
    for (std::int64_t r = begin; r < end; ++r) {
        const float* const p = args.y_pred + r * args.N;
        float* const d = args.d_y_pred == nullptr ? nullptr : args.d_y_pred + r * args.N;
        const float weight = row_weight(args, r);
        args.rows[r] =
            args.loss == LN_SPARSE_CATEGORICAL_CROSSENTROPY
                ? sparse_row(args, p, static_cast<const std::int32_t*>(args.y_true)[r], weight, d)
                : categorical_row(args, p, static_cast<const float*>(args.y_true) + r * args.N, keep, add, weight, d);
    }
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
