#include "cpu/merge.h"

#include <cstdint>
#include <cstring>

#include "cpu/ranges.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

void copy(float* to, const float* from, std::int64_t count) {
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

// body(row, opposite) for every row (b, t) of the forward direction, with the row of the backward one for that time.
template <class F>
void opposite_rows(const LnContext& context, const LnMergeArgs& args, F body) {
    const std::int64_t T = args.T;
    rows_of(context, args.B * T, args.U + args.V, kSimple, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t b = row / T;
            body(row, b * T + (T - 1 - (row - b * T)));
        }
    });
}

}  // namespace

LnStatus merge_forward(LnContext* context, const LnMergeArgs* args, float* outputs) {
    return guarded(context, [&] {
        const LnMergeArgs a = *args;
        const std::int64_t U = a.U;
        switch (a.mode) {
            case LN_MERGE_CONCAT:
                opposite_rows(*context, a, [=](std::int64_t row, std::int64_t opposite) {
                    float* const to = outputs + row * (U + a.V);
                    copy(to, a.forward + row * U, U);
                    copy(to + U, a.backward + opposite * a.V, a.V);
                });
                break;
            case LN_MERGE_MUL:
                opposite_rows(*context, a, [=](std::int64_t row, std::int64_t opposite) {
                    for (std::int64_t j = 0; j < U; ++j)
                        outputs[row * U + j] = a.forward[row * U + j] * a.backward[opposite * U + j];
                });
                break;
            default: {
                const float factor = a.mode == LN_MERGE_AVE ? 0.5F : 1.0F;
                opposite_rows(*context, a, [=](std::int64_t row, std::int64_t opposite) {
                    for (std::int64_t j = 0; j < U; ++j)
                        outputs[row * U + j] = factor * (a.forward[row * U + j] + a.backward[opposite * U + j]);
                });
            }
        }
    });
}

LnStatus merge_backward(LnContext* context, const LnMergeArgs* args, const float* d_outputs, float* d_forward,
                        float* d_backward) {
    return guarded(context, [&] {
        const LnMergeArgs a = *args;
        const std::int64_t U = a.U;
        switch (a.mode) {
            case LN_MERGE_CONCAT:
                opposite_rows(*context, a, [=](std::int64_t row, std::int64_t opposite) {
                    const float* const from = d_outputs + row * (U + a.V);
                    copy(d_forward + row * U, from, U);
                    copy(d_backward + opposite * a.V, from + U, a.V);
                });
                break;
            case LN_MERGE_MUL:
                opposite_rows(*context, a, [=](std::int64_t row, std::int64_t opposite) {
                    for (std::int64_t j = 0; j < U; ++j) {
                        const float d = d_outputs[row * U + j];
                        d_forward[row * U + j] = d * a.backward[opposite * U + j];
                        d_backward[opposite * U + j] = d * a.forward[row * U + j];
                    }
                });
                break;
            default: {
                const float factor = a.mode == LN_MERGE_AVE ? 0.5F : 1.0F;
                opposite_rows(*context, a, [=](std::int64_t row, std::int64_t opposite) {
                    for (std::int64_t j = 0; j < U; ++j) {
                        const float d = factor * d_outputs[row * U + j];
                        d_forward[row * U + j] = d;
                        d_backward[opposite * U + j] = d;
                    }
                });
            }
        }
    });
}

}  // namespace lstm_native::cpu
