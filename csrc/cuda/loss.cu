// Losses and their gradients (floor 1, CUDA), with the clipping and normalisation of Keras. A warp has a row.
#include "cuda/entries.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/status.h"

namespace lstm_native::cuda {
namespace {

// Probabilities are held within these (Keras' epsilon, 1e-7).
constexpr float kProbabilityMin = 1e-7F;
constexpr float kProbabilityMax = 1.0F - 1e-7F;

LSTM_NATIVE_HOST_DEVICE inline bool is_clipped(float p) { return p < kProbabilityMin || p > kProbabilityMax; }

// The elementwise losses: value and derivative at prediction p for target y.
struct BinaryFromLogits {
    float smoothing;
    LSTM_NATIVE_HOST_DEVICE float target(float y) const { return y * (1.0F - smoothing) + 0.5F * smoothing; }
    LSTM_NATIVE_HOST_DEVICE float value(float p, float y) const {
        return (p < 0.0F ? 0.0F : p) - p * target(y) + ::log1pf(::expf(-::fabsf(p)));
    }
    LSTM_NATIVE_HOST_DEVICE float derivative(float p, float y) const { return sigmoid(p) - target(y); }
};

struct BinaryFromProbabilities {
    float smoothing;
    LSTM_NATIVE_HOST_DEVICE float target(float y) const { return BinaryFromLogits{smoothing}.target(y); }
    LSTM_NATIVE_HOST_DEVICE float value(float p, float y) const {
        const float t = target(y);
        const float q = clamp(p, kProbabilityMin, kProbabilityMax);
        return -((1.0F - t) * ::logf(1.0F - q) + t * ::logf(q));
    }
    LSTM_NATIVE_HOST_DEVICE float derivative(float p, float y) const {
        return is_clipped(p) ? 0.0F : (p - target(y)) / (p * (1.0F - p));
    }
};

struct SquaredError {
    LSTM_NATIVE_HOST_DEVICE static float value(float p, float y) { return (p - y) * (p - y); }
    LSTM_NATIVE_HOST_DEVICE static float derivative(float p, float y) { return 2.0F * (p - y); }
};

struct AbsoluteError {
    LSTM_NATIVE_HOST_DEVICE static float value(float p, float y) { return ::fabsf(p - y); }
    LSTM_NATIVE_HOST_DEVICE static float derivative(float p, float y) {
        const float d = p - y;
        return d > 0.0F ? 1.0F : d < 0.0F ? -1.0F : d;
    }
};

struct Huber {
    float delta;
    LSTM_NATIVE_HOST_DEVICE float value(float p, float y) const {
        const float e = p - y;
        const float size = ::fabsf(e);
        return size > delta ? delta * (size - 0.5F * delta) : 0.5F * e * e;
    }
    LSTM_NATIVE_HOST_DEVICE float derivative(float p, float y) const { return clamp(p - y, -delta, delta); }
};

// From sinh^2 near zero, where |e| - log 2 + log(1 + e^-2|e|) would lose its digits.
struct LogCosh {
    LSTM_NATIVE_HOST_DEVICE static float value(float p, float y) {
        constexpr float kLog2 = 0.693147181F;
        const float size = ::fabsf(p - y);
        if (size < 0.88F) {
            const float s = ::sinhf(size);
            return 0.5F * ::log1pf(s * s);
        }
        return size - kLog2 + ::log1pf(::expf(-2.0F * size));
    }
    LSTM_NATIVE_HOST_DEVICE static float derivative(float p, float y) { return ::tanhf(p - y); }
};

// Labels and predictions are clipped to [kProbabilityMin, 1].
struct KullbackLeibler {
    LSTM_NATIVE_HOST_DEVICE static float target(float y) { return clamp(y, kProbabilityMin, 1.0F); }
    LSTM_NATIVE_HOST_DEVICE static float value(float p, float y) {
        const float t = target(y);
        return t * ::logf(t / clamp(p, kProbabilityMin, 1.0F));
    }
    LSTM_NATIVE_HOST_DEVICE static float derivative(float p, float y) {
        return p < kProbabilityMin || p > 1.0F ? 0.0F : -target(y) / p;
    }
};

LSTM_NATIVE_HOST_DEVICE inline float weight_of(const LnLossArgs& args, std::int64_t row) {
    return args.row_weights == nullptr ? 1.0F : args.row_weights[row];
}

// A row's loss is the sum over its elements divided by `columns`.
template <class Element>
void elementwise_loss(const LnLossArgs& args, Element element, float columns) {
    for_each_row(
        args.M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const float* const p = args.y_pred + row * args.N;
            const float* const y = static_cast<const float*>(args.y_true) + row * args.N;
            const float factor = weight_of(args, row) / columns;
            float sum = 0.0F;
            for (std::int64_t j = lanes.first(); j < args.N; j += lanes.size()) {
                sum += element.value(p[j], y[j]);
                if (args.d_y_pred != nullptr) args.d_y_pred[row * args.N + j] = element.derivative(p[j], y[j]) * factor;
            }
            sum = lanes.sum(sum);
            if (lanes.first() == 0) args.rows[row] = sum / columns;
        });
}

// The distribution that a row of a categorical loss is held against: of labels (M, N), smoothed, or of one class.
struct Labels {
    const float* y;
    float keep, add;
    LSTM_NATIVE_HOST_DEVICE float at(std::int64_t row, std::int64_t N, std::int64_t j) const {
        return y[row * N + j] * keep + add;
    }
};
struct Class {
    const std::int32_t* label;
    LSTM_NATIVE_HOST_DEVICE float at(std::int64_t row, std::int64_t, std::int64_t j) const {
        return label[row] == j ? 1.0F : 0.0F;
    }
};

// Zero times an infinite logarithm counts nothing: a class that is not the label.
LSTM_NATIVE_HOST_DEVICE inline float weighted(float target, float value) {
    return target == 0.0F && value == value ? 0.0F : target * value;
}

template <class Target>
void from_logits(const LnLossArgs& args, Target target) {
    for_each_row(
        args.M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const std::int64_t N = args.N;
            const float* const p = args.y_pred + row * N;
            float top = -HUGE_VALF;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) top = larger(top, p[j]);
            top = lanes.max(top);
            float exponentials = 0.0F;
            float targets = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                exponentials += ::expf(p[j] - top);
                targets += target.at(row, N, j);
            }
            exponentials = lanes.sum(exponentials);
            targets = lanes.sum(targets);
            const float log_sum = ::logf(exponentials);
            const float ratio = targets / exponentials;
            const float weight = weight_of(args, row);
            float sum = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const float t = target.at(row, N, j);
                sum += weighted(t, log_sum - (p[j] - top));
                if (args.d_y_pred != nullptr) args.d_y_pred[row * N + j] = (::expf(p[j] - top) * ratio - t) * weight;
            }
            sum = lanes.sum(sum);
            if (lanes.first() == 0) args.rows[row] = sum;
        });
}

template <class Target>
void from_probabilities(const LnLossArgs& args, Target target) {
    for_each_row(
        args.M, LSTM_NATIVE_KERNEL(std::int64_t row, Lanes lanes) {
            const std::int64_t N = args.N;
            const float* const p = args.y_pred + row * N;
            float total = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) total += p[j];
            total = lanes.sum(total);
            float inside = 0.0F;  // targets of what clipping leaves alone
            float sum = 0.0F;
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const float q = p[j] / total;
                const float t = target.at(row, N, j);
                inside += is_clipped(q) ? 0.0F : t;
                sum += weighted(t, -::logf(clamp(q, kProbabilityMin, kProbabilityMax)));
            }
            inside = lanes.sum(inside);
            sum = lanes.sum(sum);
            if (lanes.first() == 0) args.rows[row] = sum;
            if (args.d_y_pred == nullptr) return;
            const float weight = weight_of(args, row);
            for (std::int64_t j = lanes.first(); j < N; j += lanes.size()) {
                const float q = p[j] / total;
                const float own = is_clipped(q) ? 0.0F : target.at(row, N, j) / q;
                args.d_y_pred[row * N + j] = (inside - own) / total * weight;
            }
        });
}

template <class Target>
void categorical(const LnLossArgs& args, Target target) {
    if (args.from_logits != 0) {
        from_logits(args, target);
    } else {
        from_probabilities(args, target);
    }
}

void any_loss(const LnLossArgs& args) {
    const float columns = static_cast<float>(args.N);
    switch (args.loss) {
        case LN_BINARY_CROSSENTROPY:
            if (args.from_logits != 0) return elementwise_loss(args, BinaryFromLogits{args.parameter}, columns);
            return elementwise_loss(args, BinaryFromProbabilities{args.parameter}, columns);
        case LN_MEAN_SQUARED_ERROR:
            return elementwise_loss(args, SquaredError{}, columns);
        case LN_MEAN_ABSOLUTE_ERROR:
            return elementwise_loss(args, AbsoluteError{}, columns);
        case LN_HUBER:
            return elementwise_loss(args, Huber{args.parameter}, columns);
        case LN_LOG_COSH:
            return elementwise_loss(args, LogCosh{}, columns);
        case LN_KL_DIVERGENCE:
            return elementwise_loss(args, KullbackLeibler{}, 1.0F);
        case LN_SPARSE_CATEGORICAL_CROSSENTROPY:
            return categorical(args, Class{static_cast<const std::int32_t*>(args.y_true)});
        default:
            return categorical(
                args, Labels{static_cast<const float*>(args.y_true), 1.0F - args.parameter, args.parameter / columns});
    }
}

}  // namespace

LnStatus loss(LnContext* context, const LnLossArgs* args) {
    return guarded(context, [=] { any_loss(*args); });
}

}  // namespace lstm_native::cuda
