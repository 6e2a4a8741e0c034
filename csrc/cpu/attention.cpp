// The sums tanh(query + key) of all pairs are never in memory at once: those of one query are made, used and
// overwritten by those of the next; backward makes them again.
#include "cpu/attention.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/activation.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "cpu/kernels/isa.h"
#include "cpu/ranges.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

constexpr auto kTanh = static_cast<std::int32_t>(core::Activation::tanh);

// sums (S, D) = tanh(query (D) + keys (S, D))
void tanh_sums(std::int64_t S, std::int64_t D, const float* query, const float* keys, float* sums) {
    for (std::int64_t s = 0; s < S; ++s)
        for (std::int64_t d = 0; d < D; ++d) sums[s * D + d] = query[d] + keys[s * D + d];
    kernels().elementwise.activation(kTanh, S * D, sums, sums);
}

// Calls body(batch row, sums (S, D), own memory (D)) for every batch row.
template <class F>
void each_batch_row(const LnContext& context, const LnAdditiveScoresArgs& a, F body) {
    if (a.B == 0) return;
    const double work = kTranscendental * static_cast<double>(a.B) * static_cast<double>(a.Q) *
                        static_cast<double>(a.S) * static_cast<double>(a.D);
    const int want = threads_for(context, work);
    const std::int64_t each = (a.S + 1) * a.D;
    const core::Block<float> memory = core::allocate_array<float>(static_cast<std::size_t>(want * each));
    core::parallel_tasks(a.B, want, [&](std::int64_t b, int rank) {
        float* const own = memory.get() + rank * each;
        body(b, own, own + a.S * a.D);
    });
}

}  // namespace

LnStatus additive_scores_forward(LnContext* context, const LnAdditiveScoresArgs* args, float* scores) {
    return guarded(context, [&] {
        const LnAdditiveScoresArgs a = *args;
        each_batch_row(*context, a, [&](std::int64_t b, float* sums, float*) {
            for (std::int64_t q = 0; q < a.Q; ++q) {
                tanh_sums(a.S, a.D, a.query + (b * a.Q + q) * a.D, a.key + b * a.S * a.D, sums);
                float* const to = scores + (b * a.Q + q) * a.S;
                for (std::int64_t s = 0; s < a.S; ++s) {
                    const float* const t = sums + s * a.D;
                    to[s] = a.scale == nullptr ? sum_of(a.D, [=](std::int64_t d) { return t[d]; })
                                               : sum_of(a.D, [=](std::int64_t d) { return a.scale[d] * t[d]; });
                }
            }
        });
    });
}

LnStatus additive_scores_backward(LnContext* context, const LnAdditiveScoresArgs* args, const float* d_scores,
                                  float* d_query, float* d_key, float* d_scale) {
    return guarded(context, [&] {
        const LnAdditiveScoresArgs a = *args;
        const std::size_t keys = static_cast<std::size_t>(a.B * a.S * a.D);
        if (keys > 0) std::memset(d_key, 0, keys * sizeof(float));
        // The sums of each batch row, then their sum in order: the same bits for every number of threads.
        const core::Block<double> scales = core::allocate_array<double>(static_cast<std::size_t>(a.B * a.D));
        std::fill_n(scales.get(), a.B * a.D, 0.0);
        each_batch_row(*context, a, [&](std::int64_t b, float* sums, float* d_row) {
            double* const scale_sums = scales.get() + b * a.D;
            for (std::int64_t q = 0; q < a.Q; ++q) {
                tanh_sums(a.S, a.D, a.query + (b * a.Q + q) * a.D, a.key + b * a.S * a.D, sums);
                std::fill_n(d_row, a.D, 0.0F);
                for (std::int64_t s = 0; s < a.S; ++s) {
                    const float d_score = d_scores[(b * a.Q + q) * a.S + s];
                    const float* const t = sums + s * a.D;
                    float* const to = d_key + (b * a.S + s) * a.D;
                    for (std::int64_t d = 0; d < a.D; ++d) {
                        const float d_t = a.scale == nullptr ? d_score : d_score * a.scale[d];
                        const float d_sum = d_t * (1.0F - t[d] * t[d]);
                        d_row[d] += d_sum;
                        to[d] += d_sum;
                        scale_sums[d] += static_cast<double>(d_score * t[d]);
                    }
                }
                std::copy_n(d_row, a.D, d_query + (b * a.Q + q) * a.D);
            }
        });
        if (d_scale == nullptr) return;
        for (std::int64_t d = 0; d < a.D; ++d) {
            double sum = 0.0;
            for (std::int64_t b = 0; b < a.B; ++b) sum += scales[static_cast<std::size_t>(b * a.D + d)];
            d_scale[d] = static_cast<float>(sum);
        }
    });
}

}  // namespace lstm_native::cpu
