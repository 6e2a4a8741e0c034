#include "cuda/stepwise.h"

#include <algorithm>

#include "cuda/cells.h"
#include "cuda/graphs.h"
#include "cuda/launch.h"

namespace lstm_native::cuda {
namespace {

// A cell forward; what it gives to a product goes to `operand`, too, where operands are not float.
template <class Cell, class T>
struct HandOn {
    Cell cell;
    T* operand;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const { hand_on(operand, at, cell(at)); }
};
// A cell backward, and the gradients of its gates.
template <class Cell, class T>
struct HandOnGates {
    Cell cell;
    T* operand;
    LSTM_NATIVE_HOST_DEVICE void operator()(std::int64_t at) const {
        cell(at);
        if constexpr (!kIsFloat<T>) {
            const Element e(cell.s, at);
            for (std::int64_t gate = e.gate; gate < (e.b + 1) * cell.s.columns; gate += cell.s.H)
                operand[gate] = rounded<T>(cell.s.gates[gate]);
        }
    }
};

template <class T, class F>
void with_activations(const StepwiseCell<T>& cell, F function) {
    if (cell.common != 0) return function(CommonActivations{});
    function(cell.activations);
}

// product() in the precision of the call.
template <class T>
void multiply(const StepwiseCell<T>& cell, std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<T>& a,
              const MatrixOf<T>& b, float beta, float* c, std::int64_t c_stride) {
    if constexpr (kIsFloat<T>) {
        product(M, N, K, a, b, beta, c, c_stride, nullptr, cell.precision);
    } else {
        product(M, N, K, a, b, beta, c, c_stride);
    }
}

// r h of a step of GRU_BEFORE.
template <class T>
MatrixOf<T> reset_operand(const StepForward& s, const T* memory) {
    if constexpr (kIsFloat<T>) {
        return {s.gates + 3 * s.H, s.columns};
    } else {
        return {memory, s.H};
    }
}

// A step of the general LSTM after its product.
template <class T>
void general_step(const StepwiseForward<T>& call, const StepForward& s, std::int64_t step) {
    const StepwiseCell<T>& cell = call.cell;
    const std::int64_t B = call.all.B;
    const std::int64_t H = s.H;
    const std::int64_t P = cell.P;
    LstmOptions options = cell.options;
    options.cell = at(call.kept_cell, step * call.cell_step);
    const GeneralLstmForward gates{s, cell.activations, options};
    if (!options.projects) return for_each(B * H, HandOn<GeneralLstmForward, T>{gates, call.h});
    for_each(B * H, HandOn<GeneralLstmForward, T>{gates, call.cell_operand});
    const MatrixOf<T> taken{either(options.cell, call.cell_operand), H};
    multiply(cell, B, P, H, taken, {cell.projection, P}, 0.0F, call.projected, P);
    StepForward of_h = s;
    of_h.H = P;
    for_each(B * P, HandOn<ProjectionForward, T>{{of_h, call.projected}, call.h});
}

template <class T>
void run_step(const StepwiseForward<T>& call, std::int64_t step) {
    const StepwiseCell<T>& cell = call.cell;
    StepForward s = call.all.at(step);
    const std::int64_t B = call.all.B;
    const std::int64_t H = s.H;
    const T* const R = cell.recurrent_kernel;
    s.recurrent = call.recurrent;
    if (cell.cell == LN_CELL_GRU_BEFORE) s.products = 2 * H;
    const MatrixOf<T> h{either(s.masked, call.h), cell.P};
    multiply(cell, B, s.products, cell.P, h, {R, cell.weight_columns}, 0.0F, call.recurrent, s.products);
    with_activations(cell, [&](auto act) {
        using Act = decltype(act);
        switch (cell.cell) {
            case LN_CELL_LSTM:
                if (cell.general != 0) return general_step(call, s, step);
                return for_each(B * H, HandOn<LstmForward<Act>, T>{{s, act}, call.h});
            case LN_CELL_SIMPLE_RNN:
                return for_each(B * H, HandOn<SimpleRnnForward<Act>, T>{{s, act}, call.h});
            case LN_CELL_GRU:
                return for_each(B * H, HandOn<GruForward<Act>, T>{{s, act}, call.h});
            default:
                for_each(B * H, HandOn<GruBeforeReset<Act>, T>{{s, act}, call.reset});
                multiply(cell, B, H, H, reset_operand(s, call.reset), {R + 2 * H, cell.weight_columns}, 0.0F,
                         call.recurrent, H);
                s.products = H;
                return for_each(B * H, HandOn<GruBeforeForward<Act>, T>{{s, act}, call.h});
        }
    });
}

// A step of the general LSTM up to its product with the recurrent kernel; `operand` as in HandOnGates.
template <class T>
void general_step(const StepwiseBackward<T>& call, const StepBackward& s, std::int64_t step, T* operand) {
    const StepwiseCell<T>& cell = call.cell;
    const std::int64_t B = call.all.B;
    const std::int64_t H = s.H;
    const std::int64_t P = cell.P;
    if (cell.options.projects) {
        StepBackward of_h = s;
        of_h.H = of_h.columns = P;
        of_h.gates = call.d_projected + step * B * P;
        T* const rounded_to = at(call.d_projected_operand, step * B * P);
        for_each(B * P, HandOnGates<ProjectionBackward, T>{{of_h}, rounded_to});
        const MatrixOf<T> projection{cell.projection, P, true};
        multiply(cell, B, H, P, {either(of_h.gates, rounded_to), P}, projection, 0.0F, call.d_cell, H);
    }
    const GeneralLstmBackward gates{s, cell.activations, cell.options};
    for_each(B * H, HandOnGates<GeneralLstmBackward, T>{gates, operand});
}

template <class T>
void run_step(const StepwiseBackward<T>& call, std::int64_t step) {
    const StepwiseCell<T>& cell = call.cell;
    StepBackward s = call.all.at(step);
    const std::int64_t B = call.all.B;
    const std::int64_t H = s.H;
    const std::int64_t columns = s.columns;
    s.d_reset = call.d_reset;
    const MatrixOf<T> R{cell.recurrent_kernel, cell.weight_columns, true};
    const MatrixOf<T> R_candidate{R.data + 2 * H, cell.weight_columns, true};
    T* const given = at(call.gates, step * B * columns);
    const MatrixOf<T> gates{either(s.gates, given), columns};
    const MatrixOf<T> candidate{gates.data + 2 * H, columns};
    const MatrixOf<T> candidate_product{gates.data + 3 * H, columns};
    with_activations(cell, [&](auto act) {
        using Act = decltype(act);
        switch (cell.cell) {
            case LN_CELL_LSTM:
                if (cell.general != 0) {
                    general_step(call, s, step, given);
                } else {
                    for_each(B * H, HandOnGates<LstmBackward<Act>, T>{{s, act}, given});
                }
                return multiply(cell, B, cell.P, cell.weight_columns, gates, R, 0.0F, s.through, cell.P);
            case LN_CELL_SIMPLE_RNN:
                for_each(B * H, HandOnGates<SimpleRnnBackward<Act>, T>{{s, act}, given});
                return multiply(cell, B, H, cell.weight_columns, gates, R, 0.0F, s.through, H);
            case LN_CELL_GRU:
                for_each(B * H, HandOnGates<GruBackward<Act>, T>{{s, act}, given});
                multiply(cell, B, H, 2 * H, gates, R, 0.0F, s.through, H);
                return multiply(cell, B, H, H, candidate_product, R_candidate, 1.0F, s.through, H);
            default:
                for_each(B * H, HandOnGates<GruBeforeBackward<Act>, T>{{s, act}, given});
                multiply(cell, B, H, H, candidate, R_candidate, 0.0F, call.d_reset, H);
                for_each(B * H, HandOnGates<GruBeforeResetBackward<Act>, T>{{s, act}, given});
                return multiply(cell, B, H, 2 * H, gates, R, 1.0F, s.through, H);
        }
    });
}

// The steps [begin, begin + count) of those that are to run: backward, 0 is the last of the call.
template <class Call>
struct Part {
    Call call;
    std::int64_t begin, count;

    void run() const {
        for (std::int64_t i = begin; i < begin + count; ++i)
            run_step(call, call.cell.backward != 0 ? call.all.steps - 1 - i : i);
    }
};

template <class Call>
void run_parts(const Call& call, std::int64_t steps_of_graph) {
    const std::int64_t steps = call.all.steps;
    if (steps_of_graph == 0) return Part<Call>{call, 0, steps}.run();
    const std::int64_t launches = launches_of_step(call.cell.cell, call.cell.options.projects, call.cell.backward != 0);
    for (std::int64_t begin = 0; begin < steps; begin += steps_of_graph) {
        auto part = cleared<Part<Call>>();
        std::memcpy(static_cast<void*>(&part.call), &call, sizeof call);
        part.begin = begin;
        part.count = std::min(steps_of_graph, steps - begin);
        run_as_graph(&part, sizeof part, part.count * launches, [&] { part.run(); });
    }
}

}  // namespace

std::int64_t launches_of_step(std::int32_t cell, bool projects, bool backward) {
    if (cell == LN_CELL_GRU_BEFORE || projects) return 4;
    return cell == LN_CELL_GRU && backward ? 3 : 2;
}

template <class T>
void run_stepwise(const StepwiseForward<T>& call, std::int64_t steps_of_graph) {
    run_parts(call, steps_of_graph);
}

template <class T>
void run_stepwise(const StepwiseBackward<T>& call, std::int64_t steps_of_graph) {
    run_parts(call, steps_of_graph);
}

template void run_stepwise(const StepwiseForward<float>&, std::int64_t);
template void run_stepwise(const StepwiseForward<Bfloat16>&, std::int64_t);
template void run_stepwise(const StepwiseForward<Float16>&, std::int64_t);
template void run_stepwise(const StepwiseBackward<float>&, std::int64_t);
template void run_stepwise(const StepwiseBackward<Bfloat16>&, std::int64_t);

}  // namespace lstm_native::cuda
