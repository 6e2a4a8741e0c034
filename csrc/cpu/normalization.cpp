#include "cpu/normalization.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/ranges.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

constexpr double kRowCost = 6;  // a few passes over a row that is in the cache

}  // namespace

LnStatus layer_norm_forward(LnContext* context, const LnLayerNormArgs* args, float* y, float* mean, float* inverse) {
    return guarded(context, [&] {
        const LnLayerNormArgs a = *args;
        const std::int64_t N = a.N;
        const float share = 1.0F / static_cast<float>(std::max<std::int64_t>(N, 1));
        rows_of(*context, a.M, N, kRowCost, [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) {
                const float* const x = a.x + row * N;
                float* const to = y + row * N;
                const float m = share * sum_of(N, [=](std::int64_t j) { return x[j]; });
                const float variance = share * sum_of(N, [=](std::int64_t j) { return (x[j] - m) * (x[j] - m); });
                const float inv = 1.0F / std::sqrt(variance + a.epsilon);
                const float origin = a.rms_scaling != 0 ? 0.0F : m;
                for (std::int64_t j = 0; j < N; ++j) to[j] = (x[j] - origin) * inv;
                if (a.gamma != nullptr)
                    for (std::int64_t j = 0; j < N; ++j) to[j] *= a.gamma[j];
                if (a.beta != nullptr)
                    for (std::int64_t j = 0; j < N; ++j) to[j] += a.beta[j];
                if (mean != nullptr) {
                    mean[row] = m;
                    inverse[row] = inv;
                }
            }
        });
    });
}

LnStatus layer_norm_backward(LnContext* context, const LnLayerNormArgs* args, const float* mean, const float* inverse,
                             const float* d_y, float* d_x, float* d_gamma, float* d_beta) {
    return guarded(context, [&] {
        const LnLayerNormArgs a = *args;
        const std::int64_t N = a.N;
        const bool centred = a.rms_scaling == 0;
        if (d_x != nullptr) {
            const float share = 1.0F / static_cast<float>(std::max<std::int64_t>(N, 1));
            rows_of(*context, a.M, N, kRowCost, [=](std::int64_t begin, std::int64_t end) {
                for (std::int64_t row = begin; row < end; ++row) {
                    const float* const x = a.x + row * N;
                    const float* const d = d_y + row * N;
                    float* const to = d_x + row * N;
                    const float m = mean[row];
                    const float inv = inverse[row];
                    const float origin = centred ? m : 0.0F;
                    // Of the normalized row; kept where the gradient of x goes.
                    for (std::int64_t j = 0; j < N; ++j) to[j] = a.gamma == nullptr ? d[j] : d[j] * a.gamma[j];
                    // Through the mean, and through the variance.
                    const float through_mean =
                        centred ? share * sum_of(N, [=](std::int64_t j) { return to[j]; }) : 0.0F;
                    const float through_variance =
                        share * inv * inv * sum_of(N, [=](std::int64_t j) { return to[j] * (x[j] - origin); });
                    for (std::int64_t j = 0; j < N; ++j)
                        to[j] = inv * (to[j] - through_mean - (x[j] - m) * through_variance);
                }
            });
        }
        if (d_gamma == nullptr && d_beta == nullptr) return;
        // A task owns columns and passes over all rows, so every sum is made by one thread in row order; in double
        // precision, for there may be many rows.
        constexpr std::int64_t kColumns = 64;
        const double work = kSimple * static_cast<double>(a.M) * static_cast<double>(N);
        in_chunks(*context, core::ceil_div(N, kColumns), 1, work, [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t block = begin; block < end; ++block) {
                const std::int64_t first = block * kColumns;
                const std::int64_t columns = std::min(kColumns, N - first);
                double gammas[kColumns] = {};
                double betas[kColumns] = {};
                for (std::int64_t row = 0; row < a.M; ++row) {
                    const float* const x = a.x + row * N + first;
                    const float* const d = d_y + row * N + first;
                    const float origin = centred ? mean[row] : 0.0F;
                    const float inv = inverse[row];
                    for (std::int64_t j = 0; j < columns; ++j) {
                        gammas[j] += static_cast<double>(d[j] * ((x[j] - origin) * inv));
                        betas[j] += static_cast<double>(d[j]);
                    }
                }
                for (std::int64_t j = 0; j < columns; ++j) {
                    if (d_gamma != nullptr) d_gamma[first + j] = static_cast<float>(gammas[j]);
                    if (d_beta != nullptr) d_beta[first + j] = static_cast<float>(betas[j]);
                }
            }
        });
    });
}

}  // namespace lstm_native::cpu
