// The micro-kernels as plain function pointers: one table for each instruction set that this build has.
// isa.cpp picks one at first use.
//
// Blocked rows, the layout of every activation inside the CPU backend: a matrix of R rows and C columns is
// cut into column blocks of L = lanes floats, each block holding its rows one after the other:
//     element (r, c) is at [(c / L) * block_stride + r * L + c % L]
// so a row of a block is one vector, products broadcast from one moving pointer, and what one product
// writes, the next one reads. Padding columns are zero.
#pragma once

#include <cstdint>

#include "cpu/kernels/elementwise_kernels.h"

namespace lstm_native::cpu {

constexpr std::int64_t element_bytes(LnStorage storage) {
    return storage == LN_STORED_FLOAT32 ? 4 : storage == LN_STORED_BFLOAT16 ? 2 : 1;
}

// Rows of a blocked matrix by number: row r stands for row index[r * index_stride] of `data`.
struct IndexedRows {
    const float* data;
    std::int64_t stride;  // floats between column blocks
    const std::int32_t* index;
    std::int64_t index_stride;
};

// Packed weights, pairs of column blocks: [pair][k][2][L]. In 16 bits the lanes of the two blocks alternate,
// [pair][k][L][2], so that a shift and a mask make floats of them.
struct Weights {
    const void* elements;
    std::int64_t stride;  // elements between pairs: >= k * 2 * L
    LnStorage storage;
    const float* scales;  // [pair][2][L], with LN_STORED_INT8
    std::int64_t scale_stride;

    // Those from a pair on, and of every so many pairs alone.
    Weights from_pair(std::int64_t pair) const {
        Weights w = *this;
        w.elements = static_cast<const char*>(elements) + pair * stride * element_bytes(storage);
        if (scales != nullptr) w.scales = scales + pair * scale_stride;
        return w;
    }
    Weights every(std::int64_t pairs) const {
        return {elements, pairs * stride, storage, scales, pairs * scale_stride};
    }
};

// c = start + a * w for `rows` rows and the column pairs [pair_begin, pair_end): in every element one chain of
// multiply-adds, k ascending, whatever the tile. In 8 bits the chain begins at zero, and its scale and start come last.
//   a  blocked rows (rows, k);  w  packed pairs [pair][k][2][L];  c  blocked rows.
enum class Start { c, bias, rows, zero };  // what the chain starts from: c itself, the bias of the column, given rows
struct Product {
    Start start;
    const float* bias;       // [pair][2][L], with Start::bias
    IndexedRows start_rows;  // with Start::rows
    std::int64_t rows, k;
    const float* a;
    std::int64_t a_stride;  // floats between column blocks of a
    Weights w;
    float* c;
    std::int64_t c_stride;
    std::int64_t pair_begin, pair_end;
    bool descending;  // walk the pairs backwards: the cache still holds the last ones of the step before
    // Column blocks from one pair to the next, of c and of what the chain starts from: more than 2 where a product
    // takes one pair of each group (cpu/pack.h).
    std::int64_t c_pair_blocks = 2, start_pair_blocks = 2;
};

// One time step of a cell for one tile of rows and the unit blocks [block_begin, block_end): adds h * R to the
// gate pre-activations and turns them into the new state.
//   gates  blocked rows, column blocks in the order of cpu/pack.h: pre-activations in, unless those are rows of
//          `projected`; training: what backward needs out (activated gates, or pre-activations when `general`)
struct CellStep {
    std::int64_t rows, units;  // rows of the tile, true number of units
    std::int64_t block_begin, block_end;
    bool descending;
    bool training;
    std::int32_t activation, recurrent_activation;  // numbers of core/activation.h
    Weights w;                                      // of the recurrent kernel
    float* gates;
    std::int64_t gates_stride;
    float* apart;              // GRU: one more block for each unit block, gates_stride apart (gru-inl.h)
    std::int64_t apart_block;  // its column block in the gates and in `projected`
    IndexedRows projected;     // data null: not used
    const float* h_masked;     // what the product takes: h_in or another array of its layout
    const float* h_in;         // blocked rows (rows, units)
    float* h_out;
    std::int64_t h_in_stride, h_out_stride;
    const float* c_in;  // LSTM; blocked rows; may be c_out
    float* c_out;
    std::int64_t c_in_stride, c_out_stride;
    const std::uint8_t* control;  // one byte a row at control[r * control_stride], or null
    std::int64_t control_stride;
    float* out;  // row r's output at out[r * out_stride], row-major units; or null
    std::int64_t out_stride;
};

// One time step backward for one tile: gate gradients from the state gradients.
//   gates  in: what the forward step left; out: gradients of the pre-activations (zero where not updated)
//   dh     in: gradient that reaches h of this step; out: what passes straight to h of the step before
//          (all of it where the row was not updated, else zero: the product with R^T adds the rest)
//   dc     in and out: gradient of c, likewise
// c after the step is computed anew: a reset may have overwritten it. Gradients through a reset are the driver's.
struct CellStepBackward {
    std::int64_t rows, units;
    std::int64_t block_begin, block_end;
    std::int32_t activation, recurrent_activation;
    float* gates;
    std::int64_t gates_stride;
    float* apart;           // GRU, as in CellStep
    const float* h_before;  // blocked rows: the state that the step started from
    const float* h_masked;  // as in CellStep
    const float* c_before;  // LSTM
    std::int64_t h_before_stride, c_before_stride;
    const float* d_out;  // row r at d_out[r * d_out_stride], row-major units; or null. Added to dh where emitted.
    std::int64_t d_out_stride;
    float* dh;             // blocked rows
    float* dc;             // LSTM
    float* d_masked;       // gradient of h_masked; dh where that is h
    const float* d_reset;  // GRU with the reset gate before the product: gradient of r h
    std::int64_t d_stride;
    const std::uint8_t* control;
    std::int64_t control_stride;
};

// Weight gradient: out[i, j] += sum over rows r (in a fixed order) of a[r, i] * g[r, j]
//   a  blocked rows (rows, m);  g  one pair of column blocks of blocked rows
//   out  row-major with `out_stride`; columns of block 0 go to out + column0, those of block 1 to out + column1;
//   `valid0`, `valid1` columns of each are real (0: the block is absent; its g must still be readable)
struct Outer {
    std::int64_t rows, m;
    const float* a;
    std::int64_t a_stride;
    const float* g0;
    const float* g1;
    float* out;
    std::int64_t out_stride;
    std::int64_t column0, column1;
    std::int64_t valid0, valid1;
    bool accumulate;    // false: written, not added
    const float* next;  // where the pair of the next call lies, which is fetched meanwhile; null: not known
};

// sums[index[r]] += in[r] for `rows` rows, in order, of `blocks` column blocks.
struct SumByRow {
    std::int64_t rows, blocks;
    const float* in;  // blocked rows
    std::int64_t in_stride;
    const std::int32_t* index;
    float* sums;  // blocked rows
    std::int64_t sums_stride;
    const float* next;  // where the first block of the next call lies, as in Outer
};

enum class CellKind { lstm, simple_rnn, gru, gru_before };
constexpr int kCellKinds = 4;

// One time step of a cell of LnGeneralConfig for one tile of rows, after the products: all units.
//   gates[0]  blocked rows: pre-activations of all gates, or of the GRU's z and r
//   gates[1]  GRU: of the candidate; with the reset gate after the product, without that product
//   apart     GRU: the product h R_h + b, or r h where the reset gate comes before it
// Forward leaves what backward needs: pre-activations as they go into the clip. Rows that are not updated are the
// driver's.
struct GeneralStep {
    const LnGeneralConfig* config;
    const float* peepholes;  // [3][unit blocks][L]: i, f, o; or null
    std::int64_t rows;
    float* gates[2];
    float* apart;
    std::int64_t gates_stride;
    const float* h_before;  // blocked rows: the state that the step started from
    const float* h_masked;  // what the recurrent product took
    const float* c_before;
    std::int64_t state_stride;
    float* output;  // o a(c), before a projection; else the new h
    std::int64_t output_stride;
    float* c_after;  // stride: state_stride
};

// The way back: gates become gradients of the pre-activations, apart its gradient (zero where not updated).
//   d_output  in: gradient of `output`; out: what passes straight to h before the step (the products add the rest).
//             As dc, left alone where the row was not updated.
struct GeneralStepBackward : GeneralStep {
    float* d_output;
    float* dc;
    const float* d_reset;  // GRU with the reset gate before the product: gradient of r h
    float* d_masked;       // and of h_masked, added to
    float* d_peepholes;    // as peepholes, added to
    std::int64_t d_stride;
    const std::uint8_t* control;
    std::int64_t control_stride;
};

struct GeneralKernels {
    void (*step)(const GeneralStep&);
    void (*step_backward)(const GeneralStepBackward&);
    // GRU with the reset gate before the product: r h into `apart`; and what follows from its gradient.
    void (*reset)(const GeneralStep&);
    void (*reset_backward)(const GeneralStepBackward&);
};

struct KernelTable {
    const char* name;
    std::int64_t lanes;      // L
    std::int64_t tile_rows;  // rows that one micro-kernel takes at most
    void (*product)(const Product&);
    void (*step[kCellKinds])(const CellStep&);
    void (*step_backward[kCellKinds])(const CellStepBackward&);
    // GRU with the reset gate before the product: r h, which must be complete before `step`; and what follows from the
    // gradient of r h.
    void (*gru_before_reset)(const CellStep&);
    void (*gru_before_reset_backward)(const CellStepBackward&);
    void (*outer)(const Outer&);
    void (*sum_by_row)(const SumByRow&);
    // Row-major to blocked rows and back: `rows` rows of `columns` floats, `stride` floats apart.
    void (*block_rows)(std::int64_t rows, std::int64_t columns, const float* in, std::int64_t in_stride, float* out,
                       std::int64_t out_block_stride);
    void (*unblock_rows)(std::int64_t rows, std::int64_t columns, const float* in, std::int64_t in_block_stride,
                         float* out, std::int64_t out_stride);
    // The transpose of L x L floats; rows of `in` from `rows` on count as zeros.
    void (*transpose_tile)(std::int64_t rows, const float* in, std::int64_t in_stride, float* out,
                           std::int64_t out_stride);
    ElementwiseKernels elementwise;
    GeneralKernels general;
};

const KernelTable* kernels_generic();
const KernelTable* kernels_avx2();
const KernelTable* kernels_avx512();

}  // namespace lstm_native::cpu
