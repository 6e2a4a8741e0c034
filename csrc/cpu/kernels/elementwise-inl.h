// Elementwise micro-kernels (floor 1): activations and rows of softmax, sums of embedding gradients, optimizer
// steps. The losses are in loss-inl.h. Written on `Vec`; tails take the same operations as whole vectors.
#pragma once

#include <cstdint>

#include "cpu/kernels/elementwise_kernels.h"
#include "cpu/kernels/loss-inl.h"
#include "cpu/kernels/math-inl.h"
#include "cpu/kernels/rows-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

inline void activation(std::int32_t kind, std::int64_t count, const float* x, float* y) {
    const auto activation = static_cast<core::Activation>(kind);
    for_each_vector(count, [=](std::int64_t i, std::int64_t n) {
        store_part(y + i, n, activate(activation, load_part(x + i, n)));
    });
}

inline void activation_gradient(std::int32_t kind, std::int64_t count, const float* x, const float* y, const float* d_y,
                                float* d_x) {
    const auto activation = static_cast<core::Activation>(kind);
    const Vec one = Vec::set(1.0F);
    for_each_vector(count, [=](std::int64_t i, std::int64_t n) {
        Vec slope;
        if (activation == core::Activation::tanh) {
            const Vec value = load_part(y + i, n);
            slope = Vec::fnma(value, value, one);
        } else if (activation == core::Activation::sigmoid) {
            const Vec value = load_part(y + i, n);
            slope = value * (one - value);
        } else {
            slope = activation_derivative(activation, load_part(x + i, n));
        }
        store_part(d_x + i, n, slope * load_part(d_y + i, n));
    });
}

inline void softmax(bool log, std::int64_t M, std::int64_t N, const float* x, float* y) {
    for (std::int64_t r = 0; r < M; ++r, x += N, y += N) {
        const Vec top = Vec::set(row_max(N, x));
        if (log) {  // top first: beside a large one the logarithm would vanish
            const Vec log_sum = Vec::set(__builtin_logf(sum_exp(N, x, top, nullptr)));
            for_each_vector(N, [=](std::int64_t i, std::int64_t n) {
                store_part(y + i, n, (load_part(x + i, n) - top) - log_sum);
            });
        } else {
            const Vec sum = Vec::set(sum_exp(N, x, top, y));
            for_each_vector(N,
                            [=](std::int64_t i, std::int64_t n) { store_part(y + i, n, load_part(y + i, n) / sum); });
        }
    }
}

inline void softmax_gradient(bool log, std::int64_t M, std::int64_t N, const float* y, const float* d_y, float* d_x) {
    for (std::int64_t r = 0; r < M; ++r, y += N, d_y += N, d_x += N) {
        if (log) {
            const Vec sum = Vec::set(sum_row(N, [=](std::int64_t i, std::int64_t n) { return load_part(d_y + i, n); }));
            for_each_vector(N, [=](std::int64_t i, std::int64_t n) {
                const Vec probability = exp_nonpositive(load_part(y + i, n));
                store_part(d_x + i, n, Vec::fnma(probability, sum, load_part(d_y + i, n)));
            });
        } else {
            const Vec dot = Vec::set(sum_row(
                N, [=](std::int64_t i, std::int64_t n) { return load_part(y + i, n) * load_part(d_y + i, n); }));
            for_each_vector(N, [=](std::int64_t i, std::int64_t n) {
                store_part(d_x + i, n, load_part(y + i, n) * (load_part(d_y + i, n) - dot));
            });
        }
    }
}

inline void add(std::int64_t count, float* target, const float* other) {
    for_each_vector(count, [=](std::int64_t i, std::int64_t n) {
        store_part(target + i, n, load_part(target + i, n) + load_part(other + i, n));
    });
}

inline void scatter_add(const ScatterAdd& args) {
    for (std::int64_t r = 0; r < args.M; ++r) {
        const std::int32_t id = args.ids[r];
        if ((id & args.part_mask) == args.part) add(args.D, args.table + id * args.D, args.d_rows + r * args.D);
    }
}

inline void adam(const AdamRange& range) {
    const Vec rise_1 = Vec::set(range.one_minus_beta_1);
    const Vec rise_2 = Vec::set(range.one_minus_beta_2);
    const Vec alpha = Vec::set(range.alpha);
    const Vec epsilon = Vec::set(range.epsilon);
    const Vec decay = Vec::set(range.decay);
    for_each_vector(range.count, [=, &range](std::int64_t i, std::int64_t n) {
        const Vec g = load_part(range.gradient + i, n);
        Vec m = load_part(range.m + i, n);
        Vec v = load_part(range.v + i, n);
        Vec w = load_part(range.variable + i, n);
        m = Vec::fma(g - m, rise_1, m);
        v = Vec::fma(Vec::fma(g, g, Vec::zero() - v), rise_2, v);
        store_part(range.m + i, n, m);
        store_part(range.v + i, n, v);
        if (range.v_hat != nullptr) {
            v = Vec::max(load_part(range.v_hat + i, n), v);
            store_part(range.v_hat + i, n, v);
        }
        w = Vec::fnma(w, decay, w);
        store_part(range.variable + i, n, w - m * alpha / (Vec::sqrt(v) + epsilon));
    });
}

inline void sgd(const SgdRange& range) {
    const Vec rate = Vec::set(range.learning_rate);
    const Vec momentum = Vec::set(range.momentum);
    const Vec decay = Vec::set(range.decay);
    for_each_vector(range.count, [=, &range](std::int64_t i, std::int64_t n) {
        const Vec g = load_part(range.gradient + i, n);
        Vec w = load_part(range.variable + i, n);
        w = Vec::fnma(w, decay, w);
        if (range.velocity == nullptr) {
            w = Vec::fnma(g, rate, w);
        } else {
            const Vec velocity = Vec::fnma(g, rate, momentum * load_part(range.velocity + i, n));
            store_part(range.velocity + i, n, velocity);
            w = w + (range.nesterov ? Vec::fnma(g, rate, momentum * velocity) : velocity);
        }
        store_part(range.variable + i, n, w);
    });
}

inline void rmsprop(const RmspropRange& range) {
    const Vec rate = Vec::set(range.learning_rate);
    const Vec rise = Vec::set(range.one_minus_rho);
    const Vec momentum = Vec::set(range.momentum_factor);
    const Vec epsilon = Vec::set(range.epsilon);
    const Vec decay = Vec::set(range.decay);
    for_each_vector(range.count, [=, &range](std::int64_t i, std::int64_t n) {
        const Vec g = load_part(range.gradient + i, n);
        Vec w = load_part(range.variable + i, n);
        Vec v = load_part(range.velocity + i, n);
        v = Vec::fma(Vec::fma(g, g, Vec::zero() - v), rise, v);
        store_part(range.velocity + i, n, v);
        if (range.average != nullptr) {
            Vec average = load_part(range.average + i, n);
            average = Vec::fma(g - average, rise, average);
            store_part(range.average + i, n, average);
            v = Vec::max(Vec::zero(), Vec::fnma(average, average, v));  // a variance that rounding makes negative is 0
        }
        w = Vec::fnma(w, decay, w);
        Vec step = rate * g / Vec::sqrt(v + epsilon);
        if (range.momentum != nullptr) {
            step = Vec::fma(momentum, load_part(range.momentum + i, n), step);
            store_part(range.momentum + i, n, step);
        }
        store_part(range.variable + i, n, w - step);
    });
}

inline void penalty_gradient(std::int64_t count, const float* x, float l1, float l2, float* gradient) {
    const Vec first = Vec::set(l1);
    const Vec slope = Vec::set(2.0F * l2);
    for_each_vector(count, [=](std::int64_t i, std::int64_t n) {
        const Vec value = load_part(x + i, n);
        const Vec negative = Vec::where_less(value, Vec::zero(), Vec::set(-1.0F), value);  // 0 and NaN stay
        const Vec sign = Vec::where_less(Vec::zero(), value, Vec::set(1.0F), negative);
        store_part(gradient + i, n, Vec::fma(first, sign, slope * value));
    });
}

inline void scale(std::int64_t count, float* target, float factor) {
    const Vec f = Vec::set(factor);
    for_each_vector(count,
                    [=](std::int64_t i, std::int64_t n) { store_part(target + i, n, load_part(target + i, n) * f); });
}

inline void clip(std::int64_t count, float* target, float low, float high) {
    for_each_vector(count, [=](std::int64_t i, std::int64_t n) {
        store_part(target + i, n, clamp(load_part(target + i, n), low, high));
    });
}

inline void multiply(std::int64_t count, const float* a, const float* b, float* result) {
    for_each_vector(count, [=](std::int64_t i, std::int64_t n) {
        store_part(result + i, n, load_part(a + i, n) * load_part(b + i, n));
    });
}

constexpr ElementwiseKernels kElementwise = {
    activation, activation_gradient, softmax, softmax_gradient, loss, scatter_add, adam, sgd, rmsprop, add, scale, clip,
    multiply,   penalty_gradient,
};

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
