// Jobs of what stands around the recurrent layers: dense, embedding, optimizers, elementwise work, attention.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/activation.h"
#include "jobs.h"

namespace jobs {

namespace core = lstm_native::core;

inline void add_dense(std::vector<Job>& jobs, const std::string& name, std::int64_t M, std::int64_t K, std::int64_t N) {
    const auto kernel = std::make_shared<const Floats>(numbers(K * N, 10, 0.1F));
    const auto bias = std::make_shared<const Floats>(numbers(N, 11));
    const auto x = std::make_shared<const Floats>(numbers(M * K, 12));
    const auto d_y = std::make_shared<const Floats>(numbers(M * N, 13));
    const auto prepare = [=](Results& r) {
        void* made = nullptr;
        r.call(backend().dense_prepare, K, N, kernel->data(), bias->data(), &made);
        return Pack(made, backend().dense_release);
    };
    const auto work = [=](const Pack& pack, Results& r) {
        r.call(backend().dense_forward, pack.get(), M, x->data(), r.floats(M * N));
        float* const d_x = r.floats(M * K);
        float* const d_kernel = r.floats(K * N);
        r.call(backend().dense_backward, pack.get(), M, x->data(), d_y->data(), d_x, d_kernel, r.floats(N));
    };
    Results none(1);
    const Pack shared = prepare(none);
    jobs.push_back({name, [=](Results& r) { work(shared, r); }});
    jobs.push_back({name + ", own weights", [=](Results& r) { work(prepare(r), r); }});
}

inline void add_embedding(std::vector<Job>& jobs, const std::string& name, std::int64_t M, std::int64_t D,
                          std::int32_t V) {
    const auto table = std::make_shared<const Floats>(numbers(V * D, 14));
    const auto d_rows = std::make_shared<const Floats>(numbers(M * D, 15));
    const auto ids = std::make_shared<const std::vector<std::int32_t>>(below(M, V, 16));
    jobs.push_back({name, [=](Results& r) {
                        r.call(backend().embedding_forward, M, D, table->data(), ids->data(), r.floats(M * D));
                        r.call(backend().embedding_backward, M, D, std::int64_t{V}, ids->data(), d_rows->data(),
                               r.floats(V * D));
                    }});
}

// Arrays of several sizes, small ones between large ones, as a model's variables are.
inline void add_optimizers(std::vector<Job>& jobs) {
    struct Data {
        std::vector<Floats> values, gradients, slots;
    };
    auto data = std::make_shared<Data>();
    std::uint32_t seed = 20;
    for (const std::int64_t count : {150000, 7, 40001, 1, 30000}) {
        data->values.push_back(numbers(count, ++seed));
        data->gradients.push_back(numbers(count, ++seed));
        data->slots.emplace_back(size(count), 0.25F);
    }
    jobs.push_back({"Adam", [=](Results& r) {
                        std::vector<LnAdamArray> arrays;
                        for (std::size_t i = 0; i < data->values.size(); ++i) {
                            LnAdamArray a{};
                            a.variable = r.copy(data->values[i]);
                            a.gradient = data->gradients[i].data();
                            a.m = r.copy(data->slots[i]);
                            a.v = r.copy(data->slots[i]);
                            a.v_hat = i % 2 == 0 ? r.copy(data->slots[i]) : nullptr;
                            a.count = static_cast<std::int64_t>(data->values[i].size());
                            arrays.push_back(a);
                        }
                        r.call(backend().adam_step, static_cast<std::int64_t>(arrays.size()),
                               static_cast<const LnAdamArray*>(arrays.data()), 1e-3, 0.9, 0.999, 1e-7);
                    }});
    jobs.push_back({"SGD", [=](Results& r) {
                        std::vector<LnSgdArray> arrays;
                        for (std::size_t i = 0; i < data->values.size(); ++i) {
                            LnSgdArray a{};
                            a.variable = r.copy(data->values[i]);
                            a.gradient = data->gradients[i].data();
                            a.velocity = i % 2 == 0 ? r.copy(data->slots[i]) : nullptr;
                            a.count = static_cast<std::int64_t>(data->values[i].size());
                            arrays.push_back(a);
                        }
                        r.call(backend().sgd_step, static_cast<std::int64_t>(arrays.size()),
                               static_cast<const LnSgdArray*>(arrays.data()), 0.1F, 0.9F, 1);
                    }});
}

inline void add_elementwise(std::vector<Job>& jobs, std::int64_t M, std::int64_t N) {
    const auto x = std::make_shared<const Floats>(numbers(M * N, 30, 4.0F));
    const auto d_y = std::make_shared<const Floats>(numbers(M * N, 31));
    for (const core::Activation kind : {core::Activation::sigmoid, core::Activation::softmax}) {
        const auto number = static_cast<std::int32_t>(kind);
        jobs.push_back({core::name_of(kind), [=](Results& r) {
                            float* const y = r.floats(M * N);
                            r.call(backend().activation_forward, number, M, N, x->data(), y);
                            r.call(backend().activation_backward, number, M, N, x->data(), y, d_y->data(),
                                   r.floats(M * N));
                        }});
    }
    jobs.push_back({"loss and norm", [=](Results& r) {
                        LnLossArgs args{};
                        args.loss = LN_MEAN_SQUARED_ERROR;
                        args.M = M;
                        args.N = N;
                        args.y_true = d_y->data();
                        args.y_pred = x->data();
                        args.rows = r.floats(M);
                        args.d_y_pred = r.floats(M * N);
                        r.call(backend().loss, static_cast<const LnLossArgs*>(&args));
                        double norm = 0.0;
                        const LnNormArray array{x->data(), M * N};
                        r.call(backend().squared_norms, std::int64_t{1}, &array, &norm);
                        float* const halves = r.floats(2);
                        halves[0] = static_cast<float>(norm);
                        halves[1] = static_cast<float>(norm - static_cast<double>(halves[0]));
                    }});
}

// What stands around a recurrent layer: normalization, attention, the merge of two directions.
inline void add_layers(std::vector<Job>& jobs) {
    constexpr std::int64_t M = 600, N = 130;  // also 20 batch rows of 30 steps
    const auto x = std::make_shared<const Floats>(numbers(M * N, 40));
    const auto other = std::make_shared<const Floats>(numbers(M * N, 41));
    const auto d_y = std::make_shared<const Floats>(numbers(M * N, 42));
    const auto gamma = std::make_shared<const Floats>(numbers(N, 43));
    jobs.push_back({"layer normalization", [=](Results& r) {
                        LnLayerNormArgs args{};
                        args.M = M;
                        args.N = N;
                        args.epsilon = 1e-3F;
                        args.x = x->data();
                        args.gamma = gamma->data();
                        args.beta = gamma->data();
                        const LnLayerNormArgs* const a = &args;
                        float* const mean = r.floats(M);
                        float* const inverse = r.floats(M);
                        r.call(backend().layer_norm_forward, a, r.floats(M * N), mean, inverse);
                        float* const d_x = r.floats(M * N);
                        float* const d_gamma = r.floats(N);
                        r.call(backend().layer_norm_backward, a, mean, inverse, d_y->data(), d_x, d_gamma, r.floats(N));
                    }});
    jobs.push_back({"additive attention", [=](Results& r) {
                        LnAdditiveScoresArgs args{};
                        args.B = 20;
                        args.Q = args.S = 30;
                        args.D = 13;
                        args.query = x->data();
                        args.key = other->data();
                        args.scale = gamma->data();
                        const LnAdditiveScoresArgs* const a = &args;
                        r.call(backend().additive_scores_forward, a, r.floats(args.B * args.Q * args.S));
                        float* const d_query = r.floats(args.B * args.Q * args.D);
                        float* const d_key = r.floats(args.B * args.S * args.D);
                        r.call(backend().additive_scores_backward, a, d_y->data(), d_query, d_key, r.floats(args.D));
                    }});
    jobs.push_back({"merge", [=](Results& r) {
                        LnMergeArgs args{};
                        args.mode = LN_MERGE_MUL;
                        args.B = 20;
                        args.T = 30;
                        args.U = args.V = N;
                        args.forward = x->data();
                        args.backward = other->data();
                        const LnMergeArgs* const a = &args;
                        r.call(backend().merge_forward, a, r.floats(M * N));
                        float* const d_forward = r.floats(M * N);
                        r.call(backend().merge_backward, a, d_y->data(), d_forward, r.floats(M * N));
                    }});
}

}  // namespace jobs
