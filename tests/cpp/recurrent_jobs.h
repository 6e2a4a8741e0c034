// Jobs of recurrent layers: inference, training at once and in segments, streams; packs shared and of their own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/activation.h"
#include "core/memory.h"
#include "jobs.h"

namespace jobs {

namespace core = lstm_native::core;

enum Option : unsigned {
    kPlain = 0,
    kControl = 1,
    kBackwards = 2,
    kOtherActivations = 4,
    kIndexed = 8,
    kFromZero = 16,
    kTimeFirst = 32,
    kInRows = 64
};

struct Sequences {
    std::int64_t B, T, I, H;
    unsigned options;

    bool has(Option option) const { return (options & option) != 0; }
    std::int64_t input_rows() const { return has(kIndexed) ? (B * T + 2) / 3 : B * T; }
};

struct Recurrent {
    explicit Recurrent(const Sequences& s)
        : shape(s),
          kernel(numbers(s.I * 4 * s.H, 1, 0.2F)),
          recurrent(numbers(s.H * 4 * s.H, 2, 0.15F)),
          bias(numbers(4 * s.H, 3)),
          inputs(numbers(s.input_rows() * s.I, 4)),
          h(numbers(s.B * s.H, 5)),
          c(numbers(s.B * s.H, 6)),
          d_outputs(numbers(s.B * s.T * s.H, 7)),
          d_h(numbers(s.B * s.H, 8)) {
        if (s.has(kIndexed)) index = below(s.B * s.T, static_cast<std::int32_t>(s.input_rows()), 10);
        if (!s.has(kControl)) return;
        for (const std::int32_t x : below(s.B * s.T, 10, 9))
            control.push_back(
                static_cast<std::uint8_t>((x < 7 ? LN_UPDATE | LN_EMIT : 0) | (x % 5 == 1 ? LN_RESET : 0)));
    }

    Pack prepare(Results& results) const {
        LnRecurrentConfig config{};
        config.cell = LN_CELL_LSTM;
        config.layout = shape.has(kInRows) ? LN_ROWS : LN_COLUMNS;
        const auto number = [](core::Activation a) { return static_cast<std::int32_t>(a); };
        config.activation = number(shape.has(kOtherActivations) ? core::Activation::softsign : core::Activation::tanh);
        config.recurrent_activation =
            number(shape.has(kOtherActivations) ? core::Activation::hard_sigmoid : core::Activation::sigmoid);
        config.I = shape.I;
        config.H = shape.H;
        void* made = nullptr;
        results.call(backend().recurrent_prepare, &config, kernel.data(), recurrent.data(), bias.data(), &made);
        return {made, backend().recurrent_release};
    }

    LnRecurrentForward arguments() const {
        LnRecurrentForward f{};
        f.B = shape.B;
        f.T = shape.T;
        f.steps = shape.T;
        f.inputs = inputs.data();
        f.input = strides(shape.I);
        f.output = strides(shape.H);
        f.index = index.empty() ? nullptr : index.data();
        f.R = index.empty() ? 0 : shape.input_rows();
        f.control = control.empty() ? nullptr : control.data();
        f.initial_h = shape.has(kFromZero) ? nullptr : h.data();
        f.initial_c = shape.has(kFromZero) ? nullptr : c.data();
        f.go_backwards = shape.has(kBackwards) ? 1 : 0;
        return f;
    }

    LnStrides strides(std::int64_t columns) const {
        return shape.has(kTimeFirst) ? LnStrides{columns, shape.B * columns} : LnStrides{shape.T * columns, columns};
    }

    float* state(Results& results) const { return results.floats(shape.B * shape.H); }

    static void run(const Pack& pack, const LnRecurrentForward& f, Results& results) {
        const LnRecurrentForwardCall one = {pack.get(), &f};
        results.call(backend().recurrent_forward, 1, &one);
    }

    void infer(const Pack& pack, Results& results) const {
        LnRecurrentForward f = arguments();
        f.outputs = results.floats(shape.B * shape.T * shape.H);
        f.last_h = state(results);
        f.last_c = state(results);
        run(pack, f, results);
    }

    core::Block<char> memory(const Pack& pack, std::int64_t steps) const {
        return core::allocate_array<char>(backend().recurrent_saved_bytes(pack.get(), shape.B, steps, 0));
    }

    // Arguments of backward, but for what forward says.
    LnRecurrentBackward gradients(Results& results) const {
        LnRecurrentBackward b{};
        b.d_outputs = d_outputs.data();
        b.d_last_h = d_h.data();
        b.d_inputs = results.floats(static_cast<std::int64_t>(inputs.size()));
        b.d_kernel = results.floats(shape.I * 4 * shape.H);
        b.d_recurrent_kernel = results.floats(shape.H * 4 * shape.H);
        b.d_bias = results.floats(4 * shape.H);
        b.d_initial_h = state(results);
        b.d_initial_c = state(results);
        return b;
    }

    // Forward and backward, in calls of T / `segments` steps that hand the state on.
    void train(const Pack& pack, Results& results, std::int64_t segments) const {
        std::vector<LnRecurrentForward> forward;
        std::vector<core::Block<char>> saved;
        float* const outputs = results.floats(shape.B * shape.T * shape.H);
        for (std::int64_t segment = 0; segment < segments; ++segment) {
            LnRecurrentForward f = arguments();
            f.first = shape.T * segment / segments;
            f.steps = shape.T * (segment + 1) / segments - f.first;
            f.start_h = segment == 0 ? nullptr : forward.back().last_h;
            f.start_c = segment == 0 ? nullptr : forward.back().last_c;
            f.outputs = outputs;
            f.last_h = state(results);
            f.last_c = state(results);
            saved.push_back(memory(pack, f.steps));
            f.saved = saved.back().get();
            run(pack, f, results);
            forward.push_back(f);
        }
        LnRecurrentBackward b = gradients(results);
        for (std::size_t segment = forward.size(); segment-- > 0; b.accumulate = 1) {
            b.forward = &forward[segment];
            b.saved = saved[segment].get();
            b.d_start_h = segment == 0 ? nullptr : state(results);
            b.d_start_c = segment == 0 ? nullptr : state(results);
            const LnRecurrentBackwardCall one = {pack.get(), &b};
            results.call(backend().recurrent_backward, 1, &one);
            b.d_last_h = b.d_start_h;
            b.d_last_c = b.d_start_c;
        }
    }

    // A stream: single steps from state to state, in one workspace.
    void stream(const Pack& pack, Results& results) const {
        const core::Block<char> workspace =
            core::allocate_array<char>(backend().recurrent_step_bytes(pack.get(), shape.B));
        Floats h_now = h, c_now = c, x(size(shape.B * shape.I));
        for (std::int64_t t = 0; t < std::min<std::int64_t>(shape.T, 8); ++t) {
            for (std::int64_t b = 0; b < shape.B; ++b)
                std::memcpy(&x[size(b * shape.I)], &inputs[size((b * shape.T + t) * shape.I)],
                            size(shape.I) * sizeof(float));
            LnRecurrentForward f{};
            f.B = shape.B;
            f.T = 1;
            f.steps = 1;
            f.inputs = x.data();
            f.input = {shape.I, shape.I};
            f.initial_h = h_now.data();
            f.initial_c = c_now.data();
            f.odd_call = static_cast<std::int32_t>(t % 2);
            f.last_h = state(results);
            f.last_c = state(results);
            results.call(backend().recurrent_step, pack.get(), static_cast<const LnRecurrentForward*>(&f),
                         static_cast<void*>(workspace.get()));
            h_now.assign(f.last_h, f.last_h + shape.B * shape.H);
            c_now.assign(f.last_c, f.last_c + shape.B * shape.H);
        }
    }

    Sequences shape;
    Floats kernel, recurrent, bias, inputs, h, c, d_outputs, d_h;
    std::vector<std::int32_t> index;
    std::vector<std::uint8_t> control;
};

inline void add_recurrent(std::vector<Job>& jobs, const std::string& name, const Sequences& shape) {
    const auto data = std::make_shared<const Recurrent>(shape);
    Results none(1);
    const Pack shared = data->prepare(none);  // what the first backward call adds to it is raced for
    jobs.push_back({name + ", inference", [=](Results& r) { data->infer(shared, r); }});
    jobs.push_back({name + ", training", [=](Results& r) { data->train(shared, r, 1); }});
    jobs.push_back({name + ", own weights", [=](Results& r) {
                        const Pack own = data->prepare(r);
                        data->infer(own, r);
                        data->train(own, r, 1);
                    }});
    if (shape.has(kIndexed)) return;  // what indexes do not go with
    jobs.push_back({name + ", segments", [=](Results& r) { data->train(shared, r, 2); }});
    jobs.push_back({name + ", stream", [=](Results& r) { data->stream(shared, r); }});
}

// Forward and backward of two layers, both in one call of the backend.
inline void train_together(const Recurrent* const (&layers)[2], const Pack (&packs)[2], Results& results) {
    LnRecurrentForward f[2];
    LnRecurrentBackward b[2];
    core::Block<char> saved[2];
    for (int n = 0; n < 2; ++n) {
        const Recurrent& layer = *layers[n];
        saved[n] = layer.memory(packs[n], layer.shape.T);
        f[n] = layer.arguments();
        f[n].outputs = results.floats(layer.shape.B * layer.shape.T * layer.shape.H);
        f[n].last_h = layer.state(results);
        f[n].last_c = layer.state(results);
        f[n].saved = saved[n].get();
        b[n] = layer.gradients(results);
        b[n].forward = &f[n];
        b[n].saved = saved[n].get();
    }
    const LnRecurrentForwardCall forward[] = {{packs[0].get(), &f[0]}, {packs[1].get(), &f[1]}};
    const LnRecurrentBackwardCall backward[] = {{packs[0].get(), &b[0]}, {packs[1].get(), &b[1]}};
    results.call(backend().recurrent_forward, 2, +forward);
    results.call(backend().recurrent_backward, 2, +backward);
}

inline void add_together(std::vector<Job>& jobs, const std::string& name, const Sequences& one,
                         const Sequences& other) {
    const auto first = std::make_shared<const Recurrent>(one);
    const auto second = std::make_shared<const Recurrent>(other);
    Results none(1);
    struct Packs {
        Pack packs[2];
    };
    const auto shared = std::make_shared<const Packs>(Packs{{first->prepare(none), second->prepare(none)}});
    jobs.push_back(
        {name + ", together", [=](Results& r) { train_together({first.get(), second.get()}, shared->packs, r); }});
}

}  // namespace jobs
