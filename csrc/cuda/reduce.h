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

// The sum of term(i) for i in [0, count), on the host.
template <class Term>
double total(std::int64_t count, Term term) {
    constexpr std::int64_t kEach = 8192;
    const std::int64_t parts = std::clamp<std::int64_t>(core::ceil_div(count, kEach), 1, 4096);
    const std::int64_t each = core::ceil_div(count, parts);
    const Array<double> memory(parts);
    double* const partial = memory.get();
    for_each_row(
        parts, LSTM_NATIVE_KERNEL(std::int64_t part, Lanes lanes) {
            const std::int64_t end = (part + 1) * each < count ? (part + 1) * each : count;
            double sum = 0.0;
            for (std::int64_t i = part * each + lanes.first(); i < end; i += lanes.size()) sum += term(i);
            sum = lanes.sum(sum);
            if (lanes.first() == 0) partial[part] = sum;
        });
    std::vector<double> parts_here(static_cast<std::size_t>(parts));
    copy(LN_TO_HOST, parts_here.size() * sizeof(double), partial, parts_here.data());
    double sum = 0.0;
    for (const double part : parts_here) sum += part;
    return sum;
}

// sums (V, D) = for each id the sum of its rows, in an order that M and the ids fix: rows (M, D) begin `stride`
// elements after each other, ids (M) are in [0, V).
void sums_by_id(std::int64_t M, std::int64_t D, std::int64_t V, const std::int32_t* ids, const float* rows,
                std::int64_t stride, float* sums);

}  // namespace lstm_native::cuda
