// Stress of the drivers behind the backend table, for plain runs and under the sanitizers: several threads call at
// once, and every call gives the bits that one thread gives alone. Exit status 0 when all is right.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/activation.h"
#include "core/fp_mode.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "cpu/backend_cpu.h"

namespace core = lstm_native::core;
namespace cpu = lstm_native::cpu;

namespace {

using Floats = std::vector<float>;  // exact in size: the address sanitizer sees the first float beyond
using Pack = std::shared_ptr<void>;

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// Numbers in [-scale, scale) that depend on `seed` alone.
Floats numbers(std::int64_t count, std::uint32_t seed, float scale = 1.0F) {
    Floats result(size(count));
    std::uint32_t state = seed * 2654435761U + 12345U;
    for (float& x : result) {
        state = state * 1664525U + 1013904223U;
        x = scale * (static_cast<float>(state >> 8) * 0x1p-23F - 1.0F);
    }
    return result;
}

std::vector<std::int32_t> below(std::int64_t count, std::int32_t bound, std::uint32_t seed) {
    std::vector<std::int32_t> result(size(count));
    std::uint32_t state = seed;
    for (std::int32_t& x : result) {
        state = state * 1664525U + 1013904223U;
        x = static_cast<std::int32_t>((state >> 8) % static_cast<std::uint32_t>(bound));
    }
    return result;
}

// One call's results, in the order of the calls that made them.
class Results {
public:
    explicit Results(int threads) : threads_(threads) {}

    float* floats(std::int64_t count) {
        arrays_.emplace_back(size(count), -77.0F);
        return arrays_.back().data();
    }
    float* copy(const Floats& values) {
        arrays_.push_back(values);
        return arrays_.back().data();
    }
    template <class... Parameters, class... Arguments>
    void call(LnStatus (*entry)(LnContext*, Parameters...), Arguments... arguments) {
        LnContext context{};
        context.num_threads = threads_;
        if (entry(&context, arguments...) == LN_OK) return;
        std::fprintf(stderr, "a call failed: %s\n", context.message);
        failed_ = true;
    }
    // No NaN: where fresh memory is NaN, nothing was read before it was written.
    bool defined() const {
        for (const Floats& array : arrays_)
            for (const float x : array)
                if (x != x) return false;
        return !failed_;
    }
    bool equals(const Results& other) const {
        if (failed_ || arrays_.size() != other.arrays_.size()) return false;
        for (std::size_t i = 0; i < arrays_.size(); ++i) {
            const Floats& a = arrays_[i];
            const Floats& b = other.arrays_[i];
            if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0) return false;
        }
        return true;
    }

private:
    int threads_;
    bool failed_ = false;
    std::vector<Floats> arrays_;
};

// What several threads do at the same time, each with results of its own; inputs and packs are shared.
struct Job {
    std::string name;
    std::function<void(Results&)> run;
};

const LnBackend& backend() { return *cpu::backend(); }

enum Option : unsigned {
    kPlain = 0,
    kControl = 1,
    kBackwards = 2,
    kOtherActivations = 4,
    kIndexed = 8,
    kFromZero = 16
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
        f.index = index.empty() ? nullptr : index.data();
        f.R = index.empty() ? 0 : shape.input_rows();
        f.control = control.empty() ? nullptr : control.data();
        f.initial_h = shape.has(kFromZero) ? nullptr : h.data();
        f.initial_c = shape.has(kFromZero) ? nullptr : c.data();
        f.go_backwards = shape.has(kBackwards) ? 1 : 0;
        return f;
    }

    float* state(Results& results) const { return results.floats(shape.B * shape.H); }

    void infer(const Pack& pack, Results& results) const {
        LnRecurrentForward f = arguments();
        f.outputs = results.floats(shape.B * shape.T * shape.H);
        f.last_h = state(results);
        f.last_c = state(results);
        results.call(backend().recurrent_forward, pack.get(), static_cast<const LnRecurrentForward*>(&f));
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
            saved.push_back(
                core::allocate_array<char>(backend().recurrent_saved_bytes(pack.get(), shape.B, f.steps, 0)));
            f.saved = saved.back().get();
            results.call(backend().recurrent_forward, pack.get(), static_cast<const LnRecurrentForward*>(&f));
            forward.push_back(f);
        }
        LnRecurrentBackward b{};
        b.d_outputs = d_outputs.data();
        b.d_last_h = d_h.data();
        b.d_inputs = results.floats(static_cast<std::int64_t>(inputs.size()));
        b.d_kernel = results.floats(shape.I * 4 * shape.H);
        b.d_recurrent_kernel = results.floats(shape.H * 4 * shape.H);
        b.d_bias = results.floats(4 * shape.H);
        b.d_initial_h = state(results);
        b.d_initial_c = state(results);
        for (std::size_t segment = forward.size(); segment-- > 0; b.accumulate = 1) {
            b.forward = &forward[segment];
            b.saved = saved[segment].get();
            b.d_start_h = segment == 0 ? nullptr : state(results);
            b.d_start_c = segment == 0 ? nullptr : state(results);
            results.call(backend().recurrent_backward, pack.get(), static_cast<const LnRecurrentBackward*>(&b));
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

void add_recurrent(std::vector<Job>& jobs, const std::string& name, const Sequences& shape) {
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

void add_dense(std::vector<Job>& jobs, const std::string& name, std::int64_t M, std::int64_t K, std::int64_t N) {
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

void add_embedding(std::vector<Job>& jobs, const std::string& name, std::int64_t M, std::int64_t D, std::int32_t V) {
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
void add_optimizers(std::vector<Job>& jobs) {
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

void add_elementwise(std::vector<Job>& jobs, std::int64_t M, std::int64_t N) {
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
                        r.call(backend().squared_norm, M * N, x->data(), &norm);
                        float* const halves = r.floats(2);
                        halves[0] = static_cast<float>(norm);
                        halves[1] = static_cast<float>(norm - static_cast<double>(halves[0]));
                    }});
}

// What stands around a recurrent layer: normalization, attention, the merge of two directions.
void add_layers(std::vector<Job>& jobs) {
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

// Shapes for each way of cutting up the work; small ones stay on their caller's thread beside them.
std::vector<Job> all_jobs() {
    std::vector<Job> jobs;
    add_recurrent(jobs, "one row, shared units", {1, 26, 64, 160, kPlain});
    add_recurrent(jobs, "three rows, shared units", {3, 12, 40, 130, kControl});
    add_recurrent(jobs, "many tiles", {70, 6, 20, 48, kFromZero});
    add_recurrent(jobs, "many tiles, masked", {50, 8, 33, 40, kControl | kBackwards});
    add_recurrent(jobs, "other activations", {40, 7, 16, 56, kControl | kOtherActivations});
    add_recurrent(jobs, "indexed", {60, 6, 30, 48, kIndexed});
    add_recurrent(jobs, "indexed, shared units", {2, 16, 40, 130, kIndexed | kControl | kBackwards});
    add_recurrent(jobs, "small", {3, 5, 7, 9, kControl});
    add_dense(jobs, "dense", 210, 100, 130);
    add_dense(jobs, "wide dense", 3, 300, 2500);
    add_dense(jobs, "small dense", 5, 7, 3);
    add_embedding(jobs, "embedding", 70000, 60, 18000);
    add_embedding(jobs, "small embedding", 50, 6, 20);
    add_optimizers(jobs);
    add_elementwise(jobs, 300, 500);
    add_layers(jobs);
    return jobs;
}

std::atomic<int> wrong{0};

void run_one(const Job& job, const Results& expected, int threads) {
    Results got(threads);
    job.run(got);
    if (got.equals(expected)) return;
    std::fprintf(stderr, "%s, %d threads: not what one thread computes\n", job.name.c_str(), threads);
    ++wrong;
}

constexpr int kCallers = 4;

// All jobs, on another number of threads each time. With `together`, callers begin each job at the same time; without,
// each is at another job.
void run_all(const std::vector<Job>& jobs, const std::vector<Results>& expected, int caller, core::Barrier* together) {
    const core::FlushSubnormals flush;
    const int threads[] = {2, 3, 1, 4, 7};
    for (int i = 0; i < static_cast<int>(jobs.size()); ++i) {
        const std::size_t job = static_cast<std::size_t>(together == nullptr ? i + caller * 11 : i) % jobs.size();
        if (together != nullptr) together->wait(kCallers);
        run_one(jobs[job], expected[job], threads[(i + caller) % 5]);
    }
}

void stress() {
    const core::FlushSubnormals flush;
    std::vector<Results> expected;
    for (const Job& job : all_jobs()) {  // with packs of their own: the callers below find theirs untouched
        expected.emplace_back(1);
        job.run(expected.back());
        if (!expected.back().defined()) {
            std::fprintf(stderr, "%s: NaN\n", job.name.c_str());
            ++wrong;
        }
    }
    for (const bool patient : {false, true}) {
        core::set_patient(patient);  // teams are complete, so that members wait for each other in every barrier
        const std::vector<Job> jobs = all_jobs();
        core::Barrier barrier;
        std::vector<std::thread> callers;
        for (int i = 0; i < kCallers; ++i)
            callers.emplace_back([&, i] { run_all(jobs, expected, i, patient ? nullptr : &barrier); });
        for (std::thread& caller : callers) caller.join();
        if (patient) run_all(jobs, expected, 0, nullptr);  // alone: nobody else holds the pool
        const pid_t child = fork();
        if (child == 0) {
            wrong = 0;
            run_all(jobs, expected, 1, nullptr);
            _exit(wrong.load() == 0 ? 0 : 1);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) ++wrong;
    }
    core::set_patient(false);
}

}  // namespace

int main() {
    for (const std::string& isa : cpu::available_isas()) {
        cpu::set_isa(isa);
        stress();
    }
    if (core::pool_threads() == 0) ++wrong;  // nothing was shared: nothing was tested
    std::printf("%d wrong\n", wrong.load());
    return wrong.load() == 0 ? 0 : 1;
}
