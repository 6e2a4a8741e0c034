#include "cpu/recurrent_pack.h"

#include <memory>

#include "cpu/kernels/isa.h"
#include "cpu/recurrent.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

CellKind kind_of(std::int32_t cell) {
    switch (cell) {
        case LN_CELL_SIMPLE_RNN:
            return CellKind::simple_rnn;
        case LN_CELL_GRU:
            return CellKind::gru;
        case LN_CELL_GRU_BEFORE:
            return CellKind::gru_before;
        default:
            return CellKind::lstm;
    }
}

ColumnBlocks columns_of(CellKind kind, std::int64_t units, std::int64_t lanes, bool in_rows) {
    switch (kind) {
        case CellKind::lstm:
            return {4, units, lanes, 0, in_rows};
        case CellKind::simple_rnn:
            return {1, units, lanes, 0, in_rows};
        default:
            return {2, units, lanes, 1, in_rows};
    }
}

// The bias of the product h R joins that of the inputs, but for the candidate, where the reset gate stands between.
void pack_recurrent_bias(RecurrentPack& pack, const float* bias) {
    pack.recurrent_bias = pack_bias(pack.columns, bias == nullptr ? nullptr : bias + pack.columns.columns());
    const std::int64_t width = 2 * pack.table->lanes;
    for (std::int64_t pair = 0; pair < pack.columns.pairs(); ++pair) {
        if (pack.columns.is_candidate(pair)) continue;
        for (std::int64_t i = pair * width; i < (pair + 1) * width; ++i)
            pack.bias.get()[i] += pack.recurrent_bias.get()[i];
    }
}

}  // namespace

LnStatus recurrent_prepare(LnContext* context, const LnRecurrentConfig* config, const float* kernel,
                           const float* recurrent_kernel, const float* bias, void** pack) {
    const LnMatrix matrices[] = {{LN_STORED_FLOAT32, kernel, nullptr}, {LN_STORED_FLOAT32, recurrent_kernel, nullptr}};
    return recurrent_prepare_stored(context, config, &matrices[0], &matrices[1], bias, pack);
}

LnStatus recurrent_prepare_stored(LnContext* context, const LnRecurrentConfig* config, const LnMatrix* kernel,
                                  const LnMatrix* recurrent_kernel, const float* bias, void** pack) {
    return guarded(context, [&] {
        auto made = std::make_unique<RecurrentPack>();
        made->table = &kernels();
        made->config = *config;
        made->kind = kind_of(config->cell);
        made->columns = columns_of(made->kind, config->H, made->table->lanes, config->layout == LN_ROWS);
        made->kernel = pack_matrix(*context, *made->table, made->columns, config->I, *kernel);
        made->recurrent = pack_matrix(*context, *made->table, made->columns, config->H, *recurrent_kernel);
        made->bias = pack_bias(made->columns, bias);
        if (made->kind == CellKind::gru) pack_recurrent_bias(*made, bias);
        *pack = made.release();
    });
}

void recurrent_release(void* pack) { delete static_cast<RecurrentPack*>(pack); }

const PackedPairs& RecurrentPack::kernel_transposed() const {
    std::call_once(kernel_once_, [this] { kernel_transposed_ = transpose_pairs(*table, columns, kernel); });
    return kernel_transposed_;
}

const PackedPairs& RecurrentPack::recurrent_transposed() const {
    std::call_once(recurrent_once_, [this] { recurrent_transposed_ = transpose_pairs(*table, columns, recurrent); });
    return recurrent_transposed_;
}

void project_inputs(const RecurrentPack& pack, Product p, const Range& pairs, float* gates, std::int64_t stride) {
    p.start = Start::bias;
    p.bias = pack.bias.get();
    p.w = pack.kernel.weights();
    p.c = gates;
    p.c_stride = stride;
    p.pair_begin = pairs.begin;
    p.pair_end = pairs.end;
    if (pack.kind != CellKind::gru) return pack.table->product(p);
    // One pair of each group at a time. The candidate's goes to its own place; in its usual one the recurrent product
    // starts from the bias.
    const std::int64_t group = pack.columns.group() / 2;
    p.pair_begin = pairs.begin / group;
    p.pair_end = pairs.end / group;
    p.start_pair_blocks = 2 * group;
    for (std::int64_t pair = 0; pair < group; ++pair) {
        const bool candidate = pack.columns.is_candidate(pair);
        p.bias = pack.bias.get() + 2 * pair * pack.table->lanes;
        p.w = pack.kernel.weights().from_pair(pair).every(group);
        p.c = gates + pack.input_block(pair) * stride;
        p.c_pair_blocks = candidate ? 2 : 2 * group;
        pack.table->product(p);
        if (!candidate) continue;
        p.k = 0;
        p.bias = pack.recurrent_bias.get() + 2 * pair * pack.table->lanes;
        p.c = gates + 2 * pair * stride;
        p.c_pair_blocks = 2 * group;
        pack.table->product(p);
    }
}

void project_back(const RecurrentPack& pack, Product p, const float* gates, std::int64_t stride) {
    const PackedPairs& w = pack.kernel_transposed();
    p.start = Start::zero;
    p.k = w.k;
    p.a = gates;
    p.a_stride = stride;
    p.w = w.weights();
    if (pack.kind != CellKind::gru) return pack.table->product(p);
    const std::int64_t group = pack.columns.group() / 2;
    const std::int64_t block_floats = 2 * pack.table->lanes * pack.table->lanes;  // of w, for a block of the gates
    for (std::int64_t pair = 0; pair < pack.columns.pairs(); pair += group) {
        const std::int64_t candidate = pair + group - 1;
        for (const Range& part : {Range{pair, candidate}, Range{candidate, candidate + 1}}) {
            p.k = 2 * (part.end - part.begin) * pack.table->lanes;
            p.a = gates + pack.input_block(part.begin) * stride;
            p.w.elements = w.elements<float>() + 2 * part.begin * block_floats;
            pack.table->product(p);
            p.start = Start::c;
        }
    }
}

}  // namespace lstm_native::cpu
