// Activations of whole arrays and of rows (floor 1, CUDA).
#include "cuda/entries.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/status.h"

namespace lstm_native::cuda {
namespace {

using core::Activation;

void elementwise(Activation activation, std::int64_t count, const float* x, float* y) {
    for_each(count, LSTM_NATIVE_KERNEL(std::int64_t i) { y[i] = activate(activation, x[i]); });
}

void elementwise_gradient(Activation activation, std::int64_t count, const float* x, const float* y, const float* d_y,
                          float* d_x) {
    for_each(
        count, LSTM_NATIVE_KERNEL(std::int64_t i) {
            const float slope = activation == Activation::tanh      ? 1.0F - y[i] * y[i]
                                : activation == Activation::sigmoid ? y[i] * (1.0F - y[i])
                                                                    : activation_slope(activation, x[i]);
            d_x[i] = slope * d_y[i];
        });
}

// The largest of a row, NaN if any is.
template <class L>
LSTM_NATIVE_HOST_DEVICE float top_of(std::int64_t N, const float* x, L lanes) {
    float top = -HUGE_VALF;
    for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) top = larger(top, x[j]);
    return lanes.max(top);
}

void softmax(bool log, std::int64_t M, std::int64_t N, const float* all_x, float* all_y) {
    for_each_row(
        M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const float* const x = all_x + row * N;
            float* const y = all_y + row * N;
            const float top = top_of(N, x, lanes);
            float sum = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) sum += ::expf(x[j] - top);
            sum = lanes.sum(sum);
            const float log_sum = ::logf(sum);
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size())
                y[j] = log ? (x[j] - top) - log_sum : ::expf(x[j] - top) / sum;
        });
}

void softmax_gradient(bool log, std::int64_t M, std::int64_t N, const float* all_y, const float* all_d_y,
                      float* all_d_x) {
    for_each_row(
        M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const float* const y = all_y + row * N;
            const float* const d_y = all_d_y + row * N;
            float* const d_x = all_d_x + row * N;
            float sum = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) sum += log ? d_y[j] : y[j] * d_y[j];
            sum = lanes.sum(sum);
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size())
                d_x[j] = log ? d_y[j] - ::expf(y[j]) * sum : y[j] * (d_y[j] - sum);
        });
}

// Projection onto the simplex (Martins and Astudillo 2016): max(x - t, 0) with t such that the sum is one. t is found
// by dropping what lies below it until nothing does (Michelot 1986). Relative to the largest element, beside which the
// 1 could vanish; there t is at least -1.
void sparsemax(std::int64_t M, std::int64_t N, const float* all_x, float* all_y) {
    for_each_row(
        M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const float* const x = all_x + row * N;
            float* const y = all_y + row * N;
            const float top = top_of(N, x, lanes);
            double threshold = -1.0;
            std::int64_t kept = N + 1;
            while (top < HUGE_VALF) {  // NaN has no order, infinity no projection
                double sum = 0.0;
                std::int64_t count = 0;
                for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                    const double element = static_cast<double>(x[j]) - static_cast<double>(top);
                    if (element > threshold) {
                        sum += element;
                        ++count;
                    }
                }
                sum = lanes.sum(sum);
                count = lanes.sum(count);
                if (count == kept || count == 0) break;
                kept = count;
                threshold = (sum - 1.0) / static_cast<double>(count);
            }
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const double above = static_cast<double>(x[j]) - static_cast<double>(top) - threshold;
                y[j] = top < HUGE_VALF ? static_cast<float>(above > 0.0 ? above : 0.0) : NAN;
            }
        });
}

void sparsemax_gradient(std::int64_t M, std::int64_t N, const float* all_y, const float* all_d_y, float* all_d_x) {
    for_each_row(
        M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const float* const y = all_y + row * N;
            const float* const d_y = all_d_y + row * N;
            float* const d_x = all_d_x + row * N;
            double sum = 0.0;
            std::int64_t support = 0;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                if (y[j] > 0.0F) {
                    sum += static_cast<double>(d_y[j]);
                    ++support;
                }
            }
            sum = lanes.sum(sum);
            support = lanes.sum(support);
            const double mean = support == 0 ? 0.0 : sum / static_cast<double>(support);
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size())
                d_x[j] = y[j] > 0.0F ? static_cast<float>(static_cast<double>(d_y[j]) - mean) : y[j] * 0.0F;
        });
}

}  // namespace

LnStatus activation_forward(LnContext* context, int32_t activation, int64_t M, int64_t N, const float* x, float* y) {
    return guarded(context, [=] {
        const auto kind = static_cast<Activation>(activation);
        if (core::is_elementwise(kind)) return elementwise(kind, M * N, x, y);
        if (kind == Activation::sparsemax) return sparsemax(M, N, x, y);
        softmax(kind == Activation::log_softmax, M, N, x, y);
    });
}

LnStatus activation_backward(LnContext* context, int32_t activation, int64_t M, int64_t N, const float* x,
                             const float* y, const float* d_y, float* d_x) {
    return guarded(context, [=] {
        const auto kind = static_cast<Activation>(activation);
        if (core::is_elementwise(kind)) return elementwise_gradient(kind, M * N, x, y, d_y, d_x);
        if (kind == Activation::sparsemax) return sparsemax_gradient(M, N, y, d_y, d_x);
        softmax_gradient(kind == Activation::log_softmax, M, N, y, d_y, d_x);
    });
}

}  // namespace lstm_native::cuda
