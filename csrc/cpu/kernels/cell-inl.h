// What all cells share: their activations, the walk over units in a time step, what a row's control byte asks for.
// Included by the cells' files.
//
// A cell is a struct with
//   kGates, kCandidates             the layout of its column blocks (cpu/pack.h)
//   forward(s, act, block)          one unit block of a CellStep after the recurrent product
//   backward(s, act, block)         one unit block of a CellStepBackward
#pragma once

#include <cstdint>

#include "core/activation.h"
#include "cpu/kernels/kernel_table.h"
#include "cpu/kernels/math-inl.h"
#include "cpu/kernels/product-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

// What a cell needs of its two activations: value, and derivative from what was kept. With sigmoid and tanh values are
// kept, since both derivatives follow from them; otherwise pre-activations.
struct FastGates {
    static constexpr bool kKeepValues = true;
    static Vec gate(Vec z) { return sigmoid(z); }
    static Vec candidate(Vec z) { return tanh(z); }
    static Vec kept_gate(Vec value) { return value; }
    static Vec kept_candidate(Vec value) { return value; }
    static Vec gate_derivative(Vec value) { return value * (Vec::set(1.0F) - value); }
    static Vec candidate_derivative(Vec value) { return Vec::fnma(value, value, Vec::set(1.0F)); }
};
struct GeneralGates {
    static constexpr bool kKeepValues = false;
    core::Activation activation, recurrent;
    Vec gate(Vec z) const { return activate(recurrent, z); }
    Vec candidate(Vec z) const { return activate(activation, z); }
    Vec kept_gate(Vec z) const { return gate(z); }
    Vec kept_candidate(Vec z) const { return candidate(z); }
    Vec gate_derivative(Vec z) const { return activation_derivative(recurrent, z); }
    Vec candidate_derivative(Vec z) const { return activation_derivative(activation, z); }
};

template <class Step>
inline unsigned control_of(const Step& s, std::int64_t row) {
    return s.control == nullptr ? 5U : s.control[row * s.control_stride];  // LN_UPDATE | LN_EMIT
}
constexpr bool is_updated(unsigned control) { return (control & 1U) != 0U; }
constexpr bool is_emitted(unsigned control) { return (control & 4U) != 0U; }

// Real units of a unit block; 0 where it only fills up a group.
template <class Step>
inline std::int64_t valid_units(const Step& s, std::int64_t block) {
    const std::int64_t left = s.units - block * kL;
    return left < 0 ? 0 : left < kL ? left : kL;
}

// The output of a row: h, or zero where the step emits nothing.
inline void emit(const CellStep& s, std::int64_t block, std::int64_t row, unsigned control, Vec h) {
    if (s.out == nullptr) return;
    store_valid(is_emitted(control) ? h : Vec::zero(), s.out + block * kL + row * s.out_stride, valid_units(s, block));
}

// The gradient that reaches h of a row.
inline Vec output_gradient(const CellStepBackward& s, std::int64_t block, std::int64_t row, unsigned control) {
    const Vec d_h = Vec::load(s.dh + block * s.d_stride + row * kL);
    if (s.d_out == nullptr || !is_emitted(control)) return d_h;
    const float* const d_out = s.d_out + block * kL + row * s.d_out_stride;
    __builtin_prefetch(d_out - s.units);  // where the step before most likely lies: it comes from far away
    return d_h + load_valid(d_out, valid_units(s, block));
}

// Padding must stay zero: with unusual activations it might hold infinities.
inline void store_padded(Vec v, float* p, std::int64_t valid) {
    if (valid < kL) {
        Vec::zero().store(p);
        v.store_first(p, valid);
    } else {
        v.store(p);
    }
}

// Unit blocks that one pass of products and cells takes where each two of them have `Pairs` pairs of column blocks: as
// many as the micro-kernel takes side by side.
template <int Pairs>
inline std::int64_t blocks_at_once(std::int64_t rows) {
    const int pairs = rows <= kTileRows ? pairs_at_once(static_cast<int>(rows)) : 1;
    if (pairs > Pairs) return 2 * (pairs / Pairs);
    return Pairs % pairs == 0 ? 2 : 2 * pairs;
}

// Pairs of column blocks before unit block `block`, or up to it where it is an end.
template <class Cell>
constexpr std::int64_t pairs_before(std::int64_t block) {
    if (Cell::kCandidates == 0) return (Cell::kGates * block + 1) / 2;
    return (Cell::kGates + Cell::kCandidates) * ((block + 1) / 2);
}

// The recurrent product into the gates, from `a` in blocked rows.
inline Product recurrent_product(const CellStep& s, const float* a, std::int64_t a_stride) {
    Product p{};
    p.start = s.projected.data == nullptr ? Start::c : Start::rows;
    p.start_rows = s.projected;
    p.rows = s.rows;
    p.k = s.units;
    p.a = a;
    p.a_stride = a_stride;
    p.w = s.w;
    p.c = s.gates;
    p.c_stride = s.gates_stride;
    return p;
}

// body(begin, end) for the unit blocks of the step, `step` at a time, in the step's direction.
template <class F>
inline void each_part(const CellStep& s, std::int64_t step, const F& body) {
    const std::int64_t parts = (s.block_end - s.block_begin + step - 1) / step;
    for (std::int64_t n = 0; n < parts; ++n) {
        const std::int64_t begin = s.block_begin + (s.descending ? parts - 1 - n : n) * step;
        body(begin, begin + step < s.block_end ? begin + step : s.block_end);
    }
}

template <class Cell, class Gates>
inline void cell_step(const CellStep& s, const Gates& act) {
    Product p = recurrent_product(s, s.h_masked, s.h_in_stride);
    each_part(s, blocks_at_once<Cell::kGates + Cell::kCandidates>(s.rows), [&](std::int64_t begin, std::int64_t end) {
        p.pair_begin = pairs_before<Cell>(begin);
        p.pair_end = pairs_before<Cell>(end);
        product(p);
        for (std::int64_t block = begin; block < end; ++block) Cell::forward(s, act, block);
    });
}

inline bool is_fast(std::int32_t activation, std::int32_t recurrent_activation) {
    return activation == static_cast<std::int32_t>(core::Activation::tanh) &&
           recurrent_activation == static_cast<std::int32_t>(core::Activation::sigmoid);
}

// body(gates) with the activations of the step.
template <class Step, class F>
inline void with_activations(const Step& s, const F& body) {
    if (is_fast(s.activation, s.recurrent_activation)) {
        body(FastGates{});
    } else {
        body(GeneralGates{static_cast<core::Activation>(s.activation),
                          static_cast<core::Activation>(s.recurrent_activation)});
    }
}

template <class Cell>
void step(const CellStep& s) {
    with_activations(s, [&](const auto& act) { cell_step<Cell>(s, act); });
}

template <class Cell>
void step_backward(const CellStepBackward& s) {
    with_activations(s, [&](const auto& act) {
        for (std::int64_t block = s.block_begin; block < s.block_end; ++block) Cell::backward(s, act, block);
    });
}

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
