// Dense, embedding, layer normalization, additive attention scores (floor 1, CUDA).
#include "cuda/entries.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/operands.h"
#include "cuda/reduce.h"
#include "cuda/status.h"

namespace lstm_native::cuda {
namespace {

struct DensePack {
    std::int64_t K, N;
    std::int32_t type;  // of the operands of products, a LnPrecision
    Weights kernel;
    Array<float> bias;
};

template <class T>
void dense_gradients(const DensePack& d, std::int64_t M, const float* x, const float* d_y, float* d_x,
                     float* d_kernel) {
    Array<T> memory;
    const MatrixOf<T> gradient = operand(M, d.N, d_y, d.N, memory);
    if (d_x != nullptr) product(M, d.K, d.N, gradient, {d.kernel.get<T>(), d.N, true}, 0.0F, d_x, d.K);
    if (d_kernel == nullptr) return;
    Array<T> x_memory;
    MatrixOf<T> rows = operand(M, d.K, x, d.K, x_memory);
    rows.transposed = true;
    product(d.K, d.N, M, rows, gradient, 0.0F, d_kernel, d.N);
}

void gather(std::int64_t M, std::int64_t D, const float* table, const std::int32_t* ids, float* rows) {
    for_each(
        M * D, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / D;
            rows[i] = table[std::int64_t{ids[row]} * D + (i - row * D)];
        });
}

// About the square root: so long is what a thread walks over, in a part and then over the parts.
std::int64_t places_of_a_part(std::int64_t M) {
    std::int64_t length = 32;
    while (length < 4096 && length * length < M) length *= 2;
    return length;
}

void numbers(std::int64_t M, std::int32_t* values) {
    for_each(M, LSTM_NATIVE_KERNEL(std::int64_t i) { values[i] = static_cast<std::int32_t>(i); });
}

// From sorted ids, in which an id is a run. The places are cut into parts: a run that lies in one is summed at once; of
// one that lies in several each part has a sum, and these are added in their order.
void sum_runs(std::int64_t M, std::int64_t D, const std::int32_t* ids, const std::int32_t* order, const float* rows,
              std::int64_t stride, float* sums) {
    const std::int64_t length = places_of_a_part(M);
    const std::int64_t parts = core::ceil_div(M, length);
    const Array<float> memory(parts > 1 ? 2 * parts * D : 0);
    float* const begun = memory.get();         // of each part the sum of the run that goes on behind it,
    float* const ended = begun + (parts * D);  // and of the run that began before it
    for_each(
        M * D, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t begin = i / D;
            const std::int64_t d = i - begin * D;
            const std::int32_t id = ids[begin];
            const std::int64_t part = begin / length;
            const bool goes_on = begin > 0 && ids[begin - 1] == id;
            if (goes_on && begin != part * length) return;
            const std::int64_t end = (part + 1) * length < M ? (part + 1) * length : M;
            float sum = 0.0F;
            std::int64_t at = begin;
            for (; at < end && ids[at] == id; ++at) sum += rows[order[at] * stride + d];
            if (goes_on) {
                ended[part * D + d] = sum;
            } else if (at == end && end < M && ids[end] == id) {
                begun[part * D + d] = sum;
            } else {
                sums[std::int64_t{id} * D + d] = sum;
            }
        });
    for_each((parts - 1) * D, LSTM_NATIVE_KERNEL(std::int64_t i) {
        const std::int64_t part = i / D;
        const std::int64_t d = i - part * D;
        const std::int64_t begin = part * length;
        const std::int32_t id = ids[begin + length - 1];
        const bool before = begin > 0 && ids[begin - 1] == id;
        if (before || ids[begin + length] != id) return;
        float sum = begun[i];
        for (std::int64_t next = part + 1; next < parts && ids[next * length] == id; ++next) sum += ended[next * D + d];
        sums[std::int64_t{id} * D + d] = sum;
    });
}

void normalize(const LnLayerNormArgs& a, float* all_y, float* mean, float* inverse) {
    for_each_row(
        a.M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const std::int64_t N = a.N;
            const float* const x = a.x + row * N;
            const float share = 1.0F / static_cast<float>(N);
            float sum = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) sum += x[j];
            const float m = share * lanes.sum(sum);
            float squares = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) squares += (x[j] - m) * (x[j] - m);
            const float inv = 1.0F / ::sqrtf(share * lanes.sum(squares) + a.epsilon);
            const float origin = a.rms_scaling != 0 ? 0.0F : m;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const float scaled = (x[j] - origin) * inv * (a.gamma == nullptr ? 1.0F : a.gamma[j]);
                all_y[row * N + j] = a.beta == nullptr ? scaled : scaled + a.beta[j];
            }
            if (mean != nullptr && lanes.first() == 0) {
                mean[row] = m;
                inverse[row] = inv;
            }
        });
}

void normalize_gradient(const LnLayerNormArgs& a, const float* mean, const float* inverse, const float* d_y,
                        float* d_x) {
    for_each_row(
        a.M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const std::int64_t N = a.N;
            const float* const x = a.x + row * N;
            const float* const d = d_y + row * N;
            const bool centred = a.rms_scaling == 0;
            const float share = 1.0F / static_cast<float>(N);
            const float m = mean[row];
            const float inv = inverse[row];
            const float origin = centred ? m : 0.0F;
            float sum = 0.0F;
            float product = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const float slope = a.gamma == nullptr ? d[j] : d[j] * a.gamma[j];
                sum += slope;
                product += slope * (x[j] - origin);
            }
            const float through_mean = centred ? share * lanes.sum(sum) : 0.0F;
            const float through_variance = share * inv * inv * lanes.sum(product);
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const float slope = a.gamma == nullptr ? d[j] : d[j] * a.gamma[j];
                d_x[row * N + j] = inv * (slope - through_mean - (x[j] - m) * through_variance);
            }
        });
}

void gamma_gradient(const LnLayerNormArgs& a, const float* mean, const float* inverse, const float* d_y,
                    float* d_gamma) {
    column_sums(
        a.M, a.N,
        LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float {
            const float origin = a.rms_scaling == 0 ? mean[row] : 0.0F;
            return d_y[row * a.N + j] * ((a.x[row * a.N + j] - origin) * inverse[row]);
        },
        false, d_gamma);
}

void beta_gradient(const LnLayerNormArgs& a, const float* d_y, float* d_beta) {
    column_sums(
        a.M, a.N, LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float { return d_y[row * a.N + j]; }, false,
        d_beta);
}

// tanh(query + key) of one batch row, query, key and element.
LSTM_NATIVE_HOST_DEVICE inline float tanh_sum(const LnAdditiveScoresArgs& a, std::int64_t b, std::int64_t q,
                                              std::int64_t s, std::int64_t d) {
    return ::tanhf(a.query[(b * a.Q + q) * a.D + d] + a.key[(b * a.S + s) * a.D + d]);
}

// Gradient of the sum query + key there.
LSTM_NATIVE_HOST_DEVICE inline float sum_gradient(const LnAdditiveScoresArgs& a, const float* d_scores, std::int64_t b,
                                                  std::int64_t q, std::int64_t s, std::int64_t d) {
    const float t = tanh_sum(a, b, q, s, d);
    return d_scores[(b * a.Q + q) * a.S + s] * (a.scale == nullptr ? 1.0F : a.scale[d]) * (1.0F - t * t);
}

void scores_of(const LnAdditiveScoresArgs& a, float* scores) {
    for_each_row(
        a.B * a.Q * a.S, LSTM_NATIVE_KERNEL(std::int64_t i, Lanes lanes) {
            const std::int64_t row = i / a.S;
            float sum = 0.0F;
            for (std::int64_t d = lanes.first(); d < a.D; d += lanes.size())
                sum += tanh_sum(a, row / a.Q, row % a.Q, i % a.S, d) * (a.scale == nullptr ? 1.0F : a.scale[d]);
            sum = lanes.sum(sum);
            if (lanes.first() == 0) scores[i] = sum;
        });
}

void query_gradient(const LnAdditiveScoresArgs& a, const float* d_scores, float* d_query) {
    for_each(
        a.B * a.Q * a.D, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / a.D;
            float sum = 0.0F;
            for (std::int64_t s = 0; s < a.S; ++s) sum += sum_gradient(a, d_scores, row / a.Q, row % a.Q, s, i % a.D);
            d_query[i] = sum;
        });
}

void key_gradient(const LnAdditiveScoresArgs& a, const float* d_scores, float* d_key) {
    for_each(
        a.B * a.S * a.D, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const std::int64_t row = i / a.D;
            float sum = 0.0F;
            for (std::int64_t q = 0; q < a.Q; ++q) sum += sum_gradient(a, d_scores, row / a.S, q, row % a.S, i % a.D);
            d_key[i] = sum;
        });
}

void scale_gradient(const LnAdditiveScoresArgs& a, const float* d_scores, float* d_scale) {
    column_sums(
        a.B * a.Q * a.S, a.D,
        LSTM_NATIVE_KERNEL(std::int64_t i, std::int64_t d)->float {
            const std::int64_t row = i / a.S;
            return d_scores[i] * tanh_sum(a, row / a.Q, row % a.Q, i % a.S, d);
        },
        false, d_scale);
}

void plain_column_sums(std::int64_t M, std::int64_t N, const float* x, float* sums) {
    column_sums(
        M, N, LSTM_NATIVE_KERNEL(std::int64_t row, std::int64_t j)->float { return x[row * N + j]; }, false, sums);
}

}  // namespace

void sums_by_id(std::int64_t M, std::int64_t D, std::int64_t V, const std::int32_t* ids, const float* rows,
                std::int64_t stride, float* sums) {
    zero(static_cast<std::size_t>(V * D) * sizeof(float), sums);
    if (M == 0) return;
    const Array<std::int32_t> memory(3 * M);
    std::int32_t* const order = memory.get();
    std::int32_t* const sorted_ids = order + M;
    std::int32_t* const sorted_order = sorted_ids + M;
    numbers(M, order);
    sort_by_key(M, V, ids, order, sorted_ids, sorted_order);
    sum_runs(M, D, sorted_ids, sorted_order, rows, stride, sums);
}

LnStatus dense_prepare(LnContext* context, int64_t K, int64_t N, const float* kernel, const float* bias, void** pack) {
    return guarded(context, [=] {
        const std::int32_t type = operand_type();
        *pack = new DensePack{K, N, type, Weights(K * N, kernel, type), copy_of(bias, N)};
    });
}

void dense_release(void* pack) { delete static_cast<DensePack*>(pack); }

LnStatus dense_forward(LnContext* context, const void* pack, int64_t M, const float* x, float* y) {
    return guarded(context, [=] {
        const DensePack& d = *static_cast<const DensePack*>(pack);
        with_operands(d.type, [&](auto zero) {
            using T = decltype(zero);
            Array<T> memory;
            product(M, d.N, d.K, operand(M, d.K, x, d.K, memory), {d.kernel.get<T>(), d.N}, 0.0F, y, d.N, d.bias.get());
        });
    });
}

LnStatus dense_backward(LnContext* context, const void* pack, int64_t M, const float* x, const float* d_y, float* d_x,
                        float* d_kernel, float* d_bias) {
    return guarded(context, [=] {
        const DensePack& d = *static_cast<const DensePack*>(pack);
        if (d.type == LN_BFLOAT16) {
            dense_gradients<Bfloat16>(d, M, x, d_y, d_x, d_kernel);
        } else {
            check_trainable(d.type);
            dense_gradients<float>(d, M, x, d_y, d_x, d_kernel);
        }
        if (d_bias != nullptr) plain_column_sums(M, d.N, d_y, d_bias);
    });
}

LnStatus embedding_forward(LnContext* context, int64_t M, int64_t D, const float* table, const int32_t* ids,
                           float* rows) {
    return guarded(context, [=] { gather(M, D, table, ids, rows); });
}

LnStatus embedding_backward(LnContext* context, int64_t M, int64_t D, int64_t V, const int32_t* ids,
                            const float* d_rows, float* d_table) {
    return guarded(context, [=] { sums_by_id(M, D, V, ids, d_rows, D, d_table); });
}

LnStatus layer_norm_forward(LnContext* context, const LnLayerNormArgs* args, float* y, float* mean, float* inverse) {
    return guarded(context, [=] { normalize(*args, y, mean, inverse); });
}

LnStatus layer_norm_backward(LnContext* context, const LnLayerNormArgs* args, const float* mean, const float* inverse,
                             const float* d_y, float* d_x, float* d_gamma, float* d_beta) {
    return guarded(context, [=] {
        if (d_x != nullptr) normalize_gradient(*args, mean, inverse, d_y, d_x);
        if (d_gamma != nullptr) gamma_gradient(*args, mean, inverse, d_y, d_gamma);
        if (d_beta != nullptr) beta_gradient(*args, d_y, d_beta);
    });
}

LnStatus additive_scores_forward(LnContext* context, const LnAdditiveScoresArgs* args, float* scores) {
    return guarded(context, [=] { scores_of(*args, scores); });
}

LnStatus additive_scores_backward(LnContext* context, const LnAdditiveScoresArgs* args, const float* d_scores,
                                  float* d_query, float* d_key, float* d_scale) {
    return guarded(context, [=] {
        query_gradient(*args, d_scores, d_query);
        key_gradient(*args, d_scores, d_key);
        if (d_scale != nullptr) scale_gradient(*args, d_scores, d_scale);
    });
}

}  // namespace lstm_native::cuda
