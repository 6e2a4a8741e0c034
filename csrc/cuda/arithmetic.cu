// Elementwise arithmetic, masks of dropout, norms and penalties, merging of directions (floor 1, CUDA).
#include <algorithm>
#include <vector>

#include "core/philox.h"
#include "cuda/entries.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/reduce.h"
#include "cuda/status.h"

namespace lstm_native::cuda {

LnStatus add(LnContext* context, int64_t count, float* target, const float* other) {
    return guarded(context, [=] { for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { target[i] += other[i]; }); });
}

LnStatus scale(LnContext* context, int64_t count, float* target, float factor) {
    return guarded(context, [=] { for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { target[i] *= factor; }); });
}

LnStatus clip(LnContext* context, int64_t count, float* target, float low, float high) {
    return guarded(context, [=] {
        for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { target[i] = clamp(target[i], low, high); });
    });
}

LnStatus multiply(LnContext* context, int64_t count, const float* a, const float* b, float* result) {
    return guarded(context, [=] { for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { result[i] = a[i] * b[i]; }); });
}

namespace {

void sum_squares(int64_t count, const float* x, double* partial) {
    sum_parts(
        count,
        LSTM_NATIVE_KERNEL(std::int64_t i)->double { return static_cast<double>(x[i]) * static_cast<double>(x[i]); },
        partial);
}

void sum_sizes(int64_t count, const float* x, double* partial) {
    sum_parts(count, LSTM_NATIVE_KERNEL(std::int64_t i)->double { return ::fabs(static_cast<double>(x[i])); }, partial);
}

void penalty_gradient(int64_t count, const float* x, float l1, float l2, float* gradient) {
    for_each(
        count, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const float sign = x[i] > 0.0F ? 1.0F : x[i] < 0.0F ? -1.0F : x[i];  // 0 and NaN stay
            gradient[i] = l1 * sign + 2.0F * l2 * x[i];
        });
}

// The element of `opposite` order: row (b, t) of (B, T) becomes (b, T - 1 - t).
LSTM_NATIVE_HOST_DEVICE inline std::int64_t opposite(std::int64_t row, std::int64_t T) {
    const std::int64_t b = row / T;
    return b * T + (T - 1 - (row - b * T));
}

void merge(const LnMergeArgs& a, float* outputs) {
    const std::int64_t width = a.mode == LN_MERGE_CONCAT ? a.U + a.V : a.U;
    const float factor = a.mode == LN_MERGE_AVE ? 0.5F : 1.0F;
    for_each(
        a.B * a.T * width, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / width;
            const std::int64_t j = i - row * width;
            const std::int64_t other = opposite(row, a.T);
            if (a.mode == LN_MERGE_CONCAT) {
                outputs[i] = j < a.U ? a.forward[row * a.U + j] : a.backward[other * a.V + j - a.U];
            } else {
                const float first = a.forward[row * a.U + j];
                const float second = a.backward[other * a.V + j];
                outputs[i] = a.mode == LN_MERGE_MUL ? first * second : factor * (first + second);
            }
        });
}

void merge_gradient(const LnMergeArgs& a, const float* d_outputs, float* d_forward, float* d_backward) {
    const std::int64_t width = a.mode == LN_MERGE_CONCAT ? a.U + a.V : a.U;
    const float factor = a.mode == LN_MERGE_AVE ? 0.5F : 1.0F;
    for_each(
        a.B * a.T * width, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / width;
            const std::int64_t j = i - row * width;
            const std::int64_t other = opposite(row, a.T);
            const float d = d_outputs[i];
            if (a.mode == LN_MERGE_CONCAT) {
                if (j < a.U) {
                    d_forward[row * a.U + j] = d;
                } else {
                    d_backward[other * a.V + j - a.U] = d;
                }
                return;
            }
            const bool product = a.mode == LN_MERGE_MUL;
            d_forward[row * a.U + j] = product ? d * a.backward[other * a.V + j] : factor * d;
            d_backward[other * a.V + j] = product ? d * a.forward[row * a.U + j] : factor * d;
        });
}

void draw_dropout(const LnDropoutArgs& a) {
    const core::DropoutRule rule(a.rate);
    std::int64_t count = 1;
    for (int axis = 0; axis < a.rank; ++axis) count *= a.extents[axis];
    for_each(
        count, LSTM_NATIVE_KERNEL(std::int64_t i) {
            std::int64_t number = 0;
            std::int64_t rest = i;
            for (int axis = 0; axis < a.rank; ++axis) {
                const std::int64_t before = rest;
                rest /= a.extents[axis];
                number += (before - rest * a.extents[axis]) * a.strides[axis];
            }
            std::uint32_t words[4];
            core::philox_blocks<1>(a.seed, a.offset, static_cast<std::uint64_t>(number) / 4, words);
            a.mask[i] = rule(words[number % 4]);
        });
}

}  // namespace

LnStatus dropout_mask(LnContext* context, const LnDropoutArgs* args) {
    return guarded(context, [=] { draw_dropout(*args); });
}

LnStatus squared_norms(LnContext* context, int64_t arrays, const LnNormArray* array, double* results) {
    return guarded(context, [=] {
        std::vector<std::int64_t> counts;
        for (std::int64_t i = 0; i < arrays; ++i) counts.push_back(array[i].count);
        totals(
            counts, [=](std::size_t i, double* partial) { sum_squares(array[i].count, array[i].x, partial); }, results);
    });
}

LnStatus penalties(LnContext* context, int64_t arrays, const LnPenaltyArray* array, double* results) {
    return guarded(context, [=] {
        std::vector<std::int64_t> counts, owners;  // of each sum
        std::vector<bool> of_squares;
        for (std::int64_t n = 0; n < arrays; ++n) {
            const LnPenaltyArray& a = array[n];
            for (const bool squares : {false, true}) {
                if ((squares ? a.l2 : a.l1) == 0.0) continue;
                counts.push_back(a.count);
                owners.push_back(n);
                of_squares.push_back(squares);
            }
            if (a.gradient != nullptr)
                penalty_gradient(a.count, a.x, static_cast<float>(a.l1), static_cast<float>(a.l2), a.gradient);
        }
        std::vector<double> sums(counts.size());
        totals(
            counts,
            [&](std::size_t i, double* partial) {
                (of_squares[i] ? sum_squares : sum_sizes)(counts[i], array[owners[i]].x, partial);
            },
            sums.data());
        std::fill_n(results, arrays, 0.0);
        for (std::size_t i = 0; i < sums.size(); ++i) {
            const LnPenaltyArray& a = array[owners[i]];
            results[owners[i]] += (of_squares[i] ? a.l2 : a.l1) * sums[i];
        }
    });
}

LnStatus merge_forward(LnContext* context, const LnMergeArgs* args, float* outputs) {
    return guarded(context, [=] { merge(*args, outputs); });
}

LnStatus merge_backward(LnContext* context, const LnMergeArgs* args, const float* d_outputs, float* d_forward,
                        float* d_backward) {
    return guarded(context, [=] { merge_gradient(*args, d_outputs, d_forward, d_backward); });
}

}  // namespace lstm_native::cuda
