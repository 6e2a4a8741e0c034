// The steps of a call one by one (floor 1, CUDA): a product with the recurrent kernel and a kernel that finishes the
// cell, each some launches.
//
// What is launched follows from StepwiseForward and StepwiseBackward alone, plain data: equal bytes, equal launches.
// Whatever a launch of a step takes by value has to stand there.
#pragma once

#include <cstring>
#include <type_traits>

#include "cuda/general_cells.h"
#include "cuda/operands.h"
#include "cuda/recurrent_parts.h"
#include "cuda/steps.h"

namespace lstm_native::cuda {

// What both ways have of the cell.
template <class T>
struct StepwiseCell {
    std::int32_t cell;       // a LnCell
    std::int32_t type;       // of operands, a LnPrecision
    std::int32_t precision;  // of products of floats, a LnPrecision
    std::int32_t general;    // a LSTM of general_cells.h
    std::int32_t common;     // tanh and sigmoid; else `activations`
    std::int32_t backward;
    AnyActivations activations;
    std::int64_t P, weight_columns;
    const T* recurrent_kernel;
    const T* projection;  // (H, P); null: none
    LstmOptions options;  // of the general LSTM, but for `cell`, which moves from step to step
};

template <class T>
struct StepwiseForward {
    StepwiseCell<T> cell;
    StepsForward all;
    float* recurrent;  // (B, columns): products with the recurrent kernel
    // What products take where T is not float: h (B, P); of GRU_BEFORE r h (B, H); with a projection (B, H).
    T *h, *reset, *cell_operand;
    float *projected, *kept_cell;  // with a projection: (B, P); (B, H), `cell_step` apart from step to step
    std::int64_t cell_step;
};

template <class T>
struct StepwiseBackward {
    StepwiseCell<T> cell;
    StepsBackward all;
    T* gates;                // where T is not float, gradients of the gates as operands: (steps, B, columns)
    float* d_reset;          // (B, H) of GRU_BEFORE
    float* d_projected;      // with a projection: (steps, B, P), gradients of its products
    T* d_projected_operand;  // the same as operands
    float* d_cell;           // (B, H)
};

// All steps of call.all. Of `steps_of_graph` steps each (graphs.h) a graph is made where they come again; 0: none.
template <class T>
void run_stepwise(const StepwiseForward<T>& call, std::int64_t steps_of_graph);
template <class T>
void run_stepwise(const StepwiseBackward<T>& call, std::int64_t steps_of_graph);

// Of a step: products and kernels.
std::int64_t launches_of_step(std::int32_t cell, bool projects, bool backward);

// What the steps of a call need for themselves.
template <class T>
struct ForwardMemory {
    Array<float> recurrent, projected;
    Array<T> h, reset, cell_operand;

    ForwardMemory(const Pack& pack, std::int64_t B)
        : recurrent(B * pack.weight_columns()),
          projected(array_if<float>(pack.projects(), B * pack.P)),
          h(array_if<T>(!kIsFloat<T>, B * pack.P)),
          reset(array_if<T>(pack.config.cell == LN_CELL_GRU_BEFORE && !kIsFloat<T>, B * pack.config.H)),
          cell_operand(array_if<T>(pack.projects() && !kIsFloat<T>, B * pack.config.H)) {}
};

template <class T>
struct BackwardMemory {
    Array<float> direct, through, dc, d_reset, d_projected, d_cell;
    Array<float> peephole_sums;  // (B, 3 H) of i, f, o; zero before the first step
    Array<T> gates, d_projected_operand;

    BackwardMemory(const Pack& pack, std::int64_t B, std::int64_t steps)
        : direct(B * pack.P),
          through(B * pack.P),
          dc(array_if<float>(pack.has_c(), B * pack.config.H)),
          d_reset(array_if<float>(pack.config.cell == LN_CELL_GRU_BEFORE, B * pack.config.H)),
          d_projected(array_if<float>(pack.projects(), steps * B * pack.P)),
          d_cell(array_if<float>(pack.projects(), B * pack.config.H)),
          peephole_sums(array_if<float>(pack.general.peepholes.get() != nullptr, B * 3 * pack.config.H)),
          gates(array_if<T>(!kIsFloat<T>, steps * B * pack.columns())),
          d_projected_operand(array_if<T>(pack.projects() && !kIsFloat<T>, steps * B * pack.P)) {
        const auto sums = static_cast<std::size_t>(B * 3 * pack.config.H);
        if (peephole_sums.get() != nullptr) zero(sums * sizeof(float), peephole_sums.get());
    }
};

// Every byte, those between members too, so that structures that are filled alike have the same bytes.
template <class Call>
Call cleared() {
    static_assert(std::is_trivially_copyable_v<Call>);
    Call call;
    std::memset(static_cast<void*>(&call), 0, sizeof call);
    return call;
}

template <class T>
void fill_cell(const Pack& pack, StepwiseCell<T>& cell) {
    const std::int64_t H = pack.config.H;
    cell.cell = pack.config.cell;
    cell.type = pack.type;
    cell.precision = precision();
    cell.general = pack.general.plain || !pack.has_c() ? 0 : 1;
    cell.common = pack.general.plain && has_common_activations(pack.config) ? 1 : 0;
    cell.activations = activations_of(pack);
    cell.P = pack.P;
    cell.weight_columns = pack.weight_columns();
    cell.recurrent_kernel = pack.recurrent.get<T>();
    cell.projection = pack.general.projection.get<T>();
    const bool coupled = pack.general.config.coupled != 0;
    cell.options.coupled = coupled;
    cell.options.projects = pack.projects();
    const float* const peepholes = pack.general.peepholes.get();
    if (peepholes == nullptr) return;
    cell.options.peepholes[0] = peepholes;
    if (!coupled) cell.options.peepholes[1] = peepholes + H;
    cell.options.peepholes[2] = peepholes + (coupled ? 1 : 2) * H;
}

template <class T>
StepwiseForward<T> stepwise_forward(const Pack& pack, const ForwardMemory<T>& memory) {
    auto call = cleared<StepwiseForward<T>>();
    fill_cell(pack, call.cell);
    call.recurrent = memory.recurrent.get();
    call.h = memory.h.get();
    call.reset = memory.reset.get();
    call.cell_operand = memory.cell_operand.get();
    call.projected = memory.projected.get();
    return call;
}

template <class T>
StepwiseBackward<T> stepwise_backward(const Pack& pack, const BackwardMemory<T>& memory) {
    auto call = cleared<StepwiseBackward<T>>();
    fill_cell(pack, call.cell);
    call.cell.backward = 1;
    call.cell.options.d_cell = memory.d_cell.get();
    call.cell.options.peephole_gradients = memory.peephole_sums.get();
    call.gates = memory.gates.get();
    call.d_reset = memory.d_reset.get();
    call.d_projected = memory.d_projected.get();
    call.d_projected_operand = memory.d_projected_operand.get();
    call.d_cell = memory.d_cell.get();
    return call;
}

}  // namespace lstm_native::cuda
