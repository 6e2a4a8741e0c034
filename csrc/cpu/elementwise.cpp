#include "cpu/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "core/activation.h"
#include "core/memory.h"
#include "core/quantization.h"
#include "core/random.h"
#include "core/size.h"
#include "core/thread_pool.h"
#include "cpu/kernels/isa.h"
#include "cpu/ranges.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

constexpr double kScalar = 100;  // a scalar function an element, in multiply-adds

double cost_of(core::Activation activation) {
    if (!core::is_elementwise(activation)) return kTranscendental;
    if (activation > core::Activation::softsign) return kScalar;
    return activation == core::Activation::tanh || activation == core::Activation::sigmoid ? kTranscendental : kSimple;
}

// The part of a mask of dropout that axes up to `axis` make of the numbers from `drawn` on; `mask` moves behind it.
void spread(const LnDropoutArgs& args, int axis, const float* drawn, float*& mask) {
    if (axis < 0) {
        *mask++ = *drawn;
        return;
    }
    const std::int64_t extent = args.extents[axis];
    const std::int64_t stride = args.strides[axis];
    if (axis == 0) {
        mask = stride == 1 ? std::copy_n(drawn, extent, mask) : std::fill_n(mask, extent, *drawn);
        return;
    }
    for (std::int64_t i = 0; i < extent; ++i) spread(args, axis - 1, drawn + i * stride, mask);
}

// Projection of a row onto the simplex (Martins and Astudillo 2016): max(x - t, 0) with t such that the sum is one.
void sparsemax_row(std::int64_t N, const float* x, float* y, float* sorted) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    if (!std::all_of(x, x + N, [](float v) { return v < kInfinity; })) {  // NaN has no order, infinity no projection
        std::fill(y, y + N, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    std::copy(x, x + N, sorted);
    std::sort(sorted, sorted + N, std::greater<float>());
    // Relative to the largest: the 1 would vanish beside a large element.
    const double top = static_cast<double>(sorted[0]);
    double sum = 0.0;
    double threshold = 0.0;
    for (std::int64_t k = 0; k < N; ++k) {
        const double element = static_cast<double>(sorted[k]) - top;
        sum += element;
        const double count = static_cast<double>(k + 1);
        if (1.0 + count * element <= sum) break;
        threshold = (sum - 1.0) / count;
    }
    for (std::int64_t j = 0; j < N; ++j)
        y[j] = static_cast<float>(std::max(static_cast<double>(x[j]) - top - threshold, 0.0));
}

void sparsemax_row_gradient(std::int64_t N, const float* y, const float* d_y, float* d_x) {
    double sum = 0.0;
    std::int64_t support = 0;
    for (std::int64_t j = 0; j < N; ++j) {
        if (y[j] > 0.0F) {
            sum += static_cast<double>(d_y[j]);
            ++support;
        }
    }
    const double mean = support == 0 ? 0.0 : sum / static_cast<double>(support);
    for (std::int64_t j = 0; j < N; ++j)
        d_x[j] = y[j] > 0.0F ? static_cast<float>(static_cast<double>(d_y[j]) - mean) : y[j] * 0.0F;  // NaN stays
}

// Calls body(array, begin, count) for chunks of all arrays of a model, spread over threads as one range.
template <class Array, class F>
void each_array(const LnContext& context, std::int64_t arrays, const Array* array, F body) {
    double work = 0.0;
    for (std::int64_t a = 0; a < arrays; ++a) work += 10.0 * static_cast<double>(array[a].count);
    const int want = threads_for(context, work);
    if (want == 1) {
        for (std::int64_t a = 0; a < arrays; ++a) body(array[a], std::int64_t{0}, array[a].count);
        return;
    }
    std::vector<std::int64_t> first_task(static_cast<std::size_t>(arrays) + 1, 0);
    for (std::int64_t a = 0; a < arrays; ++a) {
        const std::size_t at = static_cast<std::size_t>(a);
        first_task[at + 1] = first_task[at] + core::ceil_div(array[a].count, kChunk);
    }
    core::parallel_tasks(first_task.back(), want, [&](std::int64_t task) {
        const auto after = std::upper_bound(first_task.begin(), first_task.end(), task);
        const std::int64_t a = after - first_task.begin() - 1;
        const std::int64_t begin = (task - *(after - 1)) * kChunk;
        body(array[a], begin, std::min(kChunk, array[a].count - begin));
    });
}

template <class T>
T* at(T* p, std::int64_t offset) {
    return p == nullptr ? nullptr : p + offset;
}

// The sum of term(element); eight sums that run beside each other hide the latency of one.
template <class Term>
double sum_of(const float* x, std::int64_t count, Term term) {
    double sum[8] = {};
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (std::int64_t j = 0; j < 8; ++j) sum[j] += term(static_cast<double>(x[i + j]));
    for (std::int64_t j = 0; i < count; ++i, ++j) sum[j] += term(static_cast<double>(x[i]));
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// A sum for every chunk, then the sum of these in order: the same bits for every number of threads.
template <class Term>
double chunked_sum(const LnContext& context, const float* x, std::int64_t count, Term term) {
    std::vector<double> sums(static_cast<std::size_t>(core::ceil_div(count, kChunk)), 0.0);
    in_chunks(context, static_cast<std::int64_t>(sums.size()), 1, kSimple * static_cast<double>(count),
              [&](std::int64_t begin, std::int64_t end) {
                  for (std::int64_t chunk = begin; chunk < end; ++chunk) {
                      const std::int64_t first = chunk * kChunk;
                      sums[static_cast<std::size_t>(chunk)] = sum_of(x + first, std::min(kChunk, count - first), term);
                  }
              });
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
}

double sum_of_squares(const LnContext& context, const float* x, std::int64_t count) {
    return chunked_sum(context, x, count, [](double v) { return v * v; });
}

}  // namespace

LnStatus embedding_forward(LnContext* context, std::int64_t M, std::int64_t D, const float* table,
                           const std::int32_t* ids, float* rows) {
    return guarded(context, [&] {
        rows_of(*context, M, D, kSimple, [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r)
                std::memcpy(rows + r * D, table + std::int64_t{ids[r]} * D,
                            static_cast<std::size_t>(D) * sizeof(float));
        });
    });
}

LnStatus embedding_forward_stored(LnContext* context, std::int64_t M, std::int64_t D, const LnMatrix* table,
                                  const std::int32_t* ids, float* rows) {
    if (table->storage == LN_STORED_FLOAT32)
        return embedding_forward(context, M, D, static_cast<const float*>(table->elements), ids, rows);
    return guarded(context, [&] {
        rows_of(*context, M, D, kSimple, [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                float* const to = rows + r * D;
                if (table->storage == LN_STORED_BFLOAT16) {
                    const auto* const from = static_cast<const std::uint16_t*>(table->elements) + ids[r] * D;
                    std::transform(from, from + D, to, core::from_bfloat16);
                } else {
                    const auto* const from = static_cast<const std::int8_t*>(table->elements) + ids[r] * D;
                    const float scale = table->scales[ids[r]];
                    std::transform(from, from + D, to,
                                   [=](std::int8_t code) { return static_cast<float>(code) * scale; });
                }
            }
        });
    });
}

LnStatus embedding_backward(LnContext* context, std::int64_t M, std::int64_t D, std::int64_t V, const std::int32_t* ids,
                            const float* d_rows, float* d_table) {
    return guarded(context, [&] {
        const auto scatter = kernels().elementwise.scatter_add;
        // Little is gained by threads: memory is the bound, and every task passes over all ids.
        const double work = 0.25 * kSimple * static_cast<double>(D) * static_cast<double>(M);
        elements(*context, V * D, kSimple, [=](std::int64_t begin, std::int64_t end) {
            std::memset(d_table + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
        });
        // A task owns every 2^n-th row of the table and passes over all ids: so every sum is made by one thread, in
        // row order, and frequent ids (small ones, often) spread over the tasks.
        const int want = threads_for(*context, work);
        std::int32_t parts = 1;
        while (parts < want) parts *= 2;
        core::parallel_tasks(parts, want, [=](std::int64_t part) {
            scatter({M, D, parts - 1, static_cast<std::int32_t>(part), ids, d_rows, d_table});
        });
    });
}

LnStatus activation_forward(LnContext* context, std::int32_t activation, std::int64_t M, std::int64_t N, const float* x,
                            float* y) {
    return guarded(context, [&] {
        const auto kind = static_cast<core::Activation>(activation);
        const ElementwiseKernels& kernel = kernels().elementwise;
        if (core::is_elementwise(kind)) {
            elements(*context, M * N, cost_of(kind), [=](std::int64_t begin, std::int64_t end) {
                kernel.activation(activation, end - begin, x + begin, y + begin);
            });
        } else if (kind == core::Activation::sparsemax) {
            const core::Block<float> sorted = core::allocate_array<float>(static_cast<std::size_t>(N));
            for (std::int64_t r = 0; r < M; ++r) sparsemax_row(N, x + r * N, y + r * N, sorted.get());
        } else if (N > 0) {
            const bool log = kind == core::Activation::log_softmax;
            rows_of(*context, M, N, cost_of(kind), [=](std::int64_t begin, std::int64_t end) {
                kernel.softmax(log, end - begin, N, x + begin * N, y + begin * N);
            });
        }
    });
}

LnStatus activation_backward(LnContext* context, std::int32_t activation, std::int64_t M, std::int64_t N,
                             const float* x, const float* y, const float* d_y, float* d_x) {
    return guarded(context, [&] {
        const auto kind = static_cast<core::Activation>(activation);
        const ElementwiseKernels& kernel = kernels().elementwise;
        if (core::is_elementwise(kind)) {
            elements(*context, M * N, cost_of(kind), [=](std::int64_t begin, std::int64_t end) {
                kernel.activation_gradient(activation, end - begin, x + begin, y + begin, d_y + begin, d_x + begin);
            });
        } else if (kind == core::Activation::sparsemax) {
            for (std::int64_t r = 0; r < M; ++r) sparsemax_row_gradient(N, y + r * N, d_y + r * N, d_x + r * N);
        } else if (N > 0) {
            const bool log = kind == core::Activation::log_softmax;
            rows_of(*context, M, N, cost_of(kind), [=](std::int64_t begin, std::int64_t end) {
                kernel.softmax_gradient(log, end - begin, N, y + begin * N, d_y + begin * N, d_x + begin * N);
            });
        }
    });
}

LnStatus loss(LnContext* context, const LnLossArgs* args) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.loss;
        rows_of(*context, args->M, args->N, kTranscendental,
                [=](std::int64_t begin, std::int64_t end) { kernel(*args, begin, end); });
    });
}

LnStatus adam_step(LnContext* context, std::int64_t arrays, const LnAdamArray* array, double alpha, double beta_1,
                   double beta_2, double epsilon) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.adam;
        AdamRange base{};
        base.alpha = static_cast<float>(alpha);
        base.one_minus_beta_1 = static_cast<float>(1.0 - beta_1);
        base.one_minus_beta_2 = static_cast<float>(1.0 - beta_2);
        base.epsilon = static_cast<float>(epsilon);
        each_array(*context, arrays, array, [&](const LnAdamArray& a, std::int64_t begin, std::int64_t count) {
            AdamRange range = base;
            range.variable = a.variable + begin;
            range.gradient = a.gradient + begin;
            range.m = a.m + begin;
            range.v = a.v + begin;
            range.v_hat = at(a.v_hat, begin);
            range.decay = a.decay;
            range.count = count;
            kernel(range);
        });
    });
}

LnStatus sgd_step(LnContext* context, std::int64_t arrays, const LnSgdArray* array, float learning_rate, float momentum,
                  std::int32_t nesterov) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.sgd;
        each_array(*context, arrays, array, [&](const LnSgdArray& a, std::int64_t begin, std::int64_t count) {
            SgdRange range{};
            range.variable = a.variable + begin;
            range.gradient = a.gradient + begin;
            range.velocity = at(a.velocity, begin);
            range.count = count;
            range.learning_rate = learning_rate;
            range.momentum = momentum;
            range.decay = a.decay;
            range.nesterov = nesterov != 0;
            kernel(range);
        });
    });
}

LnStatus rmsprop_step(LnContext* context, std::int64_t arrays, const LnRmspropArray* array, float learning_rate,
                      double rho, float momentum, float epsilon) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.rmsprop;
        each_array(*context, arrays, array, [&](const LnRmspropArray& a, std::int64_t begin, std::int64_t count) {
            RmspropRange range{};
            range.variable = a.variable + begin;
            range.gradient = a.gradient + begin;
            range.velocity = a.velocity + begin;
            range.momentum = at(a.momentum, begin);
            range.average = at(a.average, begin);
            range.count = count;
            range.learning_rate = learning_rate;
            range.one_minus_rho = static_cast<float>(1.0 - rho);
            range.momentum_factor = momentum;
            range.epsilon = epsilon;
            range.decay = a.decay;
            kernel(range);
        });
    });
}

LnStatus add(LnContext* context, std::int64_t count, float* target, const float* other) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.add;
        elements(*context, count, kSimple,
                 [=](std::int64_t begin, std::int64_t end) { kernel(end - begin, target + begin, other + begin); });
    });
}

LnStatus scale(LnContext* context, std::int64_t count, float* target, float factor) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.scale;
        elements(*context, count, kSimple,
                 [=](std::int64_t begin, std::int64_t end) { kernel(end - begin, target + begin, factor); });
    });
}

LnStatus clip(LnContext* context, std::int64_t count, float* target, float low, float high) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.clip;
        elements(*context, count, kSimple,
                 [=](std::int64_t begin, std::int64_t end) { kernel(end - begin, target + begin, low, high); });
    });
}

LnStatus multiply(LnContext* context, std::int64_t count, const float* a, const float* b, float* result) {
    return guarded(context, [&] {
        const auto kernel = kernels().elementwise.multiply;
        elements(*context, count, kSimple, [=](std::int64_t begin, std::int64_t end) {
            kernel(end - begin, a + begin, b + begin, result + begin);
        });
    });
}

LnStatus squared_norms(LnContext* context, std::int64_t arrays, const LnNormArray* array, double* results) {
    return guarded(context, [&] {
        for (std::int64_t i = 0; i < arrays; ++i) results[i] = sum_of_squares(*context, array[i].x, array[i].count);
    });
}

LnStatus penalties(LnContext* context, std::int64_t arrays, const LnPenaltyArray* array, double* results) {
    return guarded(context, [&] {
        for (std::int64_t n = 0; n < arrays; ++n) {
            const LnPenaltyArray& a = array[n];
            double total = 0.0;
            if (a.l1 != 0.0) total += a.l1 * chunked_sum(*context, a.x, a.count, [](double v) { return std::abs(v); });
            if (a.l2 != 0.0) total += a.l2 * sum_of_squares(*context, a.x, a.count);
            results[n] = total;
            if (a.gradient == nullptr) continue;
            const auto kernel = kernels().elementwise.penalty_gradient;
            elements(*context, a.count, kSimple, [=](std::int64_t begin, std::int64_t end) {
                kernel(end - begin, a.x + begin, static_cast<float>(a.l1), static_cast<float>(a.l2),
                       a.gradient + begin);
            });
        }
    });
}

LnStatus dropout_mask(LnContext* context, const LnDropoutArgs* args) {
    return guarded(context, [=] {
        std::int64_t count = 1;
        for (int axis = 0; axis < args->rank; ++axis) count *= args->extents[axis];
        if (args->numbers == count)
            return core::fill_dropout_mask(args->mask, count, args->rate, args->seed, args->offset);
        const core::Block<float> drawn = core::allocate_array<float>(static_cast<std::size_t>(args->numbers));
        core::fill_dropout_mask(drawn.get(), args->numbers, args->rate, args->seed, args->offset);
        float* mask = args->mask;
        spread(*args, args->rank - 1, drawn.get(), mask);
    });
}

}  // namespace lstm_native::cpu
