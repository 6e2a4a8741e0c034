// Sums in two stages (floor 1, CUDA): parts, then the sum of the parts, each in one order, so that two runs agree bit
// for bit. In double precision, for there may be many terms.
#pragma once

#include <algorithm>
#include <vector>

#include "core/size.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {

// sums (N) = the sum over the M rows of term(row, column), added to what is there if `accumulate`.
template <class Term>
void column_sums(std::int64_t M, std::int64_t N, Term term, bool accumulate, float* sums) {
    const std::int64_t parts = parts_of_rows(M, N);
    const std::int64_t each = core::ceil_div(M, parts);
    const Array<double> memory(parts * N);
    double* const partial = memory.get();
    for_each(
        parts * N, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t column = i % N;
            const std::int64_t begin = i / N * each;
            const std::int64_t end = begin + each < M ? begin + each : M;
            double sum = 0.0;
            for (std::int64_t row = begin; row < end; ++row) sum += static_cast<double>(term(row, column));
            partial[i] = sum;
        });
    for_each(
        N, LSTM_NATIVE_KERNEL(std::int64_t column) {
            double sum = accumulate ? static_cast<double>(sums[column]) : 0.0;
            for (std::int64_t part = 0; part < parts; ++part) sum += partial[part * N + column];
            sums[column] = static_cast<float>(sum);
        });
}

// Sums of term(i) for i in [0, count), by parts.
inline std::int64_t parts_of_total(std::int64_t count) {
    constexpr std::int64_t kEach = 8192;
    return std::clamp<std::int64_t>(core::ceil_div(count, kEach), 1, 4096);
}
template <class Term>
void sum_parts(std::int64_t count, Term term, double* partial) {
    const std::int64_t parts = parts_of_total(count);
    const std::int64_t each = core::ceil_div(count, parts);
    for_each_row(
        parts, LSTM_NATIVE_KERNEL(std::int64_t part, Lanes lanes) {
            const std::int64_t end = (part + 1) * each < count ? (part + 1) * each : count;
            double sum = 0.0;
            for (std::int64_t i = part * each + lanes.first(); i < end; i += lanes.size()) sum += term(i);
            sum = lanes.sum(sum);
            if (lanes.first() == 0) partial[part] = sum;
        });
}

// On the host, with one copy: totals[i] = the sum of the parts that sum_parts_of(i, partial) writes for counts[i].
template <class F>
void totals(const std::vector<std::int64_t>& counts, F sum_parts_of, double* totals) {
    if (counts.empty()) return;
    std::int64_t all = 0;
    for (const std::int64_t count : counts) all += parts_of_total(count);
    const Array<double> memory(all);
    double* partial = memory.get();
    for (std::size_t i = 0; i < counts.size(); ++i) {
        sum_parts_of(i, partial);
        partial += parts_of_total(counts[i]);
    }
    std::vector<double> here(static_cast<std::size_t>(all));
    copy(LN_TO_HOST, here.size() * sizeof(double), memory.get(), here.data());
    const double* part = here.data();
    for (std::size_t i = 0; i < counts.size(); ++i) {
        double sum = 0.0;
        for (std::int64_t left = parts_of_total(counts[i]); left > 0; --left) sum += *part++;
        totals[i] = sum;
    }
}

// sums (V, D) = for each id the sum of its rows, in an order that M and the ids fix: rows (M, D) begin `stride`
// elements after each other, ids (M) are in [0, V).
void sums_by_id(std::int64_t M, std::int64_t D, std::int64_t V, const std::int32_t* ids, const float* rows,
                std::int64_t stride, float* sums);

}  // namespace lstm_native::cuda
