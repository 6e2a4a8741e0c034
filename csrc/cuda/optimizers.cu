// Steps of the optimizers (floor 1, CUDA): one launch for the arrays of a whole model, as far as they fit its
// arguments.
#include <algorithm>

#include "cuda/entries.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/status.h"

namespace lstm_native::cuda {
namespace {

constexpr int kMostArrays = 24;  // arguments of a kernel have 4 KiB

template <class A>
struct Arrays {
    A array[kMostArrays];
    std::int64_t first[kMostArrays + 1];  // element of the launch that an array begins with
    int count;
};

// rule(array, i) for every element i of every array.
template <class A, class Rule>
void each_array(std::int64_t count, const A* arrays, Rule rule) {
    for (std::int64_t begin = 0; begin < count; begin += kMostArrays) {
        Arrays<A> some{};
        some.count = static_cast<int>(std::min<std::int64_t>(kMostArrays, count - begin));
        for (int a = 0; a < some.count; ++a) {
            some.array[a] = arrays[begin + a];
            some.first[a + 1] = some.first[a] + some.array[a].count;
        }
        for_each(
            some.first[some.count], LSTM_NATIVE_KERNEL(std::int64_t i) {
                int a = 0;
                while (i >= some.first[a + 1]) ++a;
                rule(some.array[a], i - some.first[a]);
            });
    }
}

struct Adam {
    float alpha, rise_1, rise_2, epsilon;
    LSTM_NATIVE_HOST_DEVICE void operator()(const LnAdamArray& a, std::int64_t i) const {
        const float g = a.gradient[i];
        const float m = a.m[i] + (g - a.m[i]) * rise_1;
        float v = a.v[i] + (g * g - a.v[i]) * rise_2;
        a.m[i] = m;
        a.v[i] = v;
        if (a.v_hat != nullptr) a.v_hat[i] = v = larger(a.v_hat[i], v);
        const float w = a.variable[i] - a.variable[i] * a.decay;
        a.variable[i] = w - m * alpha / (::sqrtf(v) + epsilon);
    }
};

struct Sgd {
    float rate, momentum;
    bool nesterov;
    LSTM_NATIVE_HOST_DEVICE void operator()(const LnSgdArray& a, std::int64_t i) const {
        const float step = a.gradient[i] * rate;
        const float w = a.variable[i] - a.variable[i] * a.decay;
        if (a.velocity == nullptr) {
            a.variable[i] = w - step;
            return;
        }
        const float velocity = momentum * a.velocity[i] - step;
        a.velocity[i] = velocity;
        a.variable[i] = w + (nesterov ? momentum * velocity - step : velocity);
    }
};

struct Rmsprop {
    float rate, rise, momentum, epsilon;
    LSTM_NATIVE_HOST_DEVICE void operator()(const LnRmspropArray& a, std::int64_t i) const {
        const float g = a.gradient[i];
        float v = a.velocity[i] + (g * g - a.velocity[i]) * rise;
        a.velocity[i] = v;
        if (a.average != nullptr) {
            const float average = a.average[i] + (g - a.average[i]) * rise;
            a.average[i] = average;
            v = v - average * average;
            v = v < 0.0F ? 0.0F : v;  // a variance that rounding makes negative is 0
        }
        const float w = a.variable[i] - a.variable[i] * a.decay;
        float step = rate * g / ::sqrtf(v + epsilon);
        if (a.momentum != nullptr) a.momentum[i] = step = momentum * a.momentum[i] + step;
        a.variable[i] = w - step;
    }
};

}  // namespace

LnStatus adam_step(LnContext* context, int64_t arrays, const LnAdamArray* array, double alpha, double beta_1,
                   double beta_2, double epsilon) {
    return guarded(context, [=] {
        each_array(arrays, array,
                   Adam{static_cast<float>(alpha), static_cast<float>(1.0 - beta_1), static_cast<float>(1.0 - beta_2),
                        static_cast<float>(epsilon)});
    });
}

LnStatus sgd_step(LnContext* context, int64_t arrays, const LnSgdArray* array, float learning_rate, float momentum,
                  int32_t nesterov) {
    return guarded(context, [=] { each_array(arrays, array, Sgd{learning_rate, momentum, nesterov != 0}); });
}

LnStatus rmsprop_step(LnContext* context, int64_t arrays, const LnRmspropArray* array, float learning_rate, double rho,
                      float momentum, float epsilon) {
    return guarded(context, [=] {
        each_array(arrays, array, Rmsprop{learning_rate, static_cast<float>(1.0 - rho), momentum, epsilon});
    });
}

}  // namespace lstm_native::cuda
