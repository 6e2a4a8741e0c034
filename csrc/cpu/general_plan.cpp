#include "cpu/general_plan.h"

#include <cmath>
#include <cstring>
#include <memory>

#include "cpu/general_recurrent.h"
#include "cpu/kernels/isa.h"
#include "cpu/recurrent_tile.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

constexpr std::int64_t kChunkRows = 96;  // steps times rows of a tile, at most: a chunk's gates stay in the cache

std::int64_t paired_blocks(std::int64_t columns, std::int64_t lanes) {
    return core::round_up(core::ceil_div(columns, lanes), 2);
}

// Columns [begin, begin + count) of a row-major matrix with `columns` columns.
core::Block<float> slice(const float* from, std::int64_t rows, std::int64_t columns, std::int64_t begin,
                         std::int64_t count) {
    core::Block<float> to = core::allocate_array<float>(static_cast<std::size_t>(core::checked_mul(rows, count)));
    for (std::int64_t row = 0; row < rows; ++row)
        std::memcpy(to.get() + row * count, from + row * columns + begin,
                    static_cast<std::size_t>(count) * sizeof(float));
    return to;
}

void make_part(const LnContext& context, const GeneralPack& pack, const LnGeneralWeights& weights, std::int64_t columns,
               GeneralPart& part) {
    const std::int64_t count = part.columns.columns();
    const auto packed = [&](const float* from, std::int64_t k) {
        if (count == columns) return pack_pairs(context, *pack.table, part.columns, k, from);
        return pack_pairs(context, *pack.table, part.columns, k, slice(from, k, columns, part.column0, count).get());
    };
    part.kernel = packed(weights.kernel, pack.config.I);
    part.recurrent = packed(weights.recurrent_kernel, pack.config.P);
    if (weights.bias == nullptr) {
        part.bias = pack_bias(part.columns, nullptr);
        return;
    }
    core::Block<float> bias = slice(weights.bias, 1, columns, part.column0, count);
    // The two biases of z and r are one.
    if (pack.reset_after() && part.column0 == 0)
        for (std::int64_t i = 0; i < count; ++i) bias[static_cast<std::size_t>(i)] += weights.bias[columns + i];
    part.bias = pack_bias(part.columns, bias.get());
}

core::Block<float> pack_peepholes(const GeneralPack& pack, const float* peepholes) {
    const std::int64_t H = pack.config.H;
    const std::int64_t padded = pack.peephole_floats() / 3;
    core::Block<float> packed = core::allocate_array<float>(static_cast<std::size_t>(3 * padded));
    std::memset(packed.get(), 0, static_cast<std::size_t>(3 * padded) * sizeof(float));
    for (std::int64_t gate = 0; gate < 3; ++gate) {
        if (gate == 1 && pack.config.coupled != 0) continue;
        std::memcpy(packed.get() + gate * padded, peepholes, static_cast<std::size_t>(H) * sizeof(float));
        peepholes += H;
    }
    return packed;
}

}  // namespace

const GeneralPack::Transposed& GeneralPack::transposed() const {
    std::call_once(once_, [this] {
        for (int i = 0; i < parts; ++i) {
            transposed_.kernel[i] = transpose_pairs(*table, part[i].columns, part[i].kernel);
            transposed_.recurrent[i] = transpose_pairs(*table, part[i].columns, part[i].recurrent);
        }
        if (has_projection()) transposed_.projection = transpose_pairs(*table, {1, config.P, table->lanes}, projection);
    });
    return transposed_;
}

GeneralPlan::GeneralPlan(const GeneralPack& pack, std::int64_t batch, std::int64_t time, bool masked, bool training)
    : B(batch),
      T(time),
      lanes(pack.table->lanes),
      tiles(core::ceil_div(batch, pack.table->tile_rows)),
      steps(std::min(time, std::max<std::int64_t>(1, kChunkRows / core::ceil_div(batch, tiles)))),
      input_blocks(paired_blocks(pack.config.I, lanes)),
      unit_blocks(paired_blocks(pack.config.H, lanes)),
      state_blocks(paired_blocks(pack.config.P, lanes)),
      gate_blocks_{2 * pack.part[0].columns.pairs(), pack.parts == 2 ? 2 * pack.part[1].columns.pairs() : 0},
      has_apart_(pack.has_apart()),
      has_projection_(pack.has_projection()),
      has_cell_state_(pack.has_cell_state()),
      masked_(masked),
      training_(training) {}

std::int64_t GeneralPlan::step_blocks() const {
    std::int64_t blocks = gate_blocks_[0] + gate_blocks_[1];
    if (has_apart_) blocks += gate_blocks_[1];
    if (has_projection_) blocks += unit_blocks + (training_ ? state_blocks : 0);
    return blocks;
}

std::int64_t GeneralPlan::slot_blocks() const {
    return state_blocks * (masked_ ? 2 : 1) + (has_cell_state_ ? unit_blocks : 0);
}

GeneralPlan::Chunk GeneralPlan::chunk_at(float* memory, std::int64_t rows, std::int64_t chunk_steps) const {
    Chunk chunk{};
    chunk.gates_stride = chunk_steps * rows * lanes;
    chunk.state_stride = (chunk_steps + 1) * rows * lanes;
    const auto take = [&memory](std::int64_t blocks, std::int64_t stride) {
        float* const at = memory;
        memory += blocks * stride;
        return at;
    };
    for (int i = 0; i < 2; ++i) chunk.gates[i] = take(gate_blocks_[i], chunk.gates_stride);
    if (has_apart_) chunk.apart = take(gate_blocks_[1], chunk.gates_stride);
    if (has_projection_) chunk.cell = take(unit_blocks, chunk.gates_stride);
    if (has_projection_ && training_) chunk.d_h = take(state_blocks, chunk.gates_stride);
    chunk.h = take(state_blocks, chunk.state_stride);
    if (has_cell_state_) chunk.c = take(unit_blocks, chunk.state_stride);
    chunk.masked_h = masked_ ? take(state_blocks, chunk.state_stride) : chunk.h;
    return chunk;
}

std::int64_t GeneralPlan::saved_offset(std::int64_t tile, std::int64_t chunk) const {
    const Range rows = tile < tiles ? tile_rows(tile) : Range{B, B};
    const std::int64_t before = rows.begin * (T * step_blocks() + (T + chunks()) * slot_blocks());
    const std::int64_t inside = (rows.end - rows.begin) * chunk * (steps * step_blocks() + (steps + 1) * slot_blocks());
    return lanes * (before + inside);
}

Range active_chunks(const GeneralPlan& plan, const LnRecurrentForward& args, const Range& rows) {
    const Range active = active_steps(args, rows);
    return {active.begin - active.begin % plan.steps, active.end};
}

void block_general_inputs(const GeneralPack& pack, const LnRecurrentForward& args, std::int64_t row, std::int64_t m,
                          std::int64_t t, std::int64_t steps, float* blocked) {
    const KernelTable& table = *pack.table;
    for (std::int64_t s = 0; s < steps; ++s)
        table.block_rows(m, pack.config.I, args.inputs + general_input_place(args, row, t + s), args.input.row,
                         blocked + s * m * table.lanes, steps * m * table.lanes);
}

void load_rows(const KernelTable& table, const float* state, std::int64_t columns, std::int64_t row, std::int64_t m,
               std::int64_t blocks, float* to, std::int64_t stride) {
    for (std::int64_t b = state == nullptr ? 0 : core::ceil_div(columns, table.lanes); b < blocks; ++b)
        std::fill_n(to + b * stride, m * table.lanes, 0.0F);
    if (state != nullptr) table.block_rows(m, columns, state + row * columns, columns, to, stride);
}

void copy_row(std::int64_t lanes, std::int64_t blocks, const float* from, float* to, std::int64_t stride) {
    for (std::int64_t b = 0; b < blocks; ++b) std::copy_n(from + b * stride, lanes, to + b * stride);
}

void zero_row(std::int64_t lanes, std::int64_t blocks, float* to, std::int64_t stride) {
    for (std::int64_t b = 0; b < blocks; ++b) std::fill_n(to + b * stride, lanes, 0.0F);
}

void product_of(const GeneralPack& pack, Start start, const float* bias, std::int64_t rows, std::int64_t k,
                const float* a, std::int64_t a_stride, const PackedPairs& w, float* c, std::int64_t c_stride) {
    Product p{};
    p.start = start;
    p.bias = bias;
    p.rows = rows;
    p.k = k;
    p.a = a;
    p.a_stride = a_stride;
    p.w = w.weights();
    p.c = c;
    p.c_stride = c_stride;
    p.pair_end = w.pairs;
    pack.table->product(p);
}

int general_threads(const LnContext& context, const GeneralPack& pack, std::int64_t B, std::int64_t steps) {
    const double work = static_cast<double>(B) * static_cast<double>(steps) * pack.step_work();
    return steps == 1 ? threads_for_repeated(context, work) : threads_for(context, work);
}

LnStatus general_prepare(LnContext* context, const LnGeneralConfig* config, const LnGeneralWeights* weights,
                         void** pack) {
    return guarded(context, [&] {
        auto made = std::make_unique<GeneralPack>();
        made->table = &kernels();
        made->config = *config;
        const std::int64_t H = config->H;
        const std::int64_t lanes = made->table->lanes;
        const bool is_gru = config->cell == LN_CELL_GRU || config->cell == LN_CELL_GRU_BEFORE;
        const std::int64_t gates = is_gru ? 2 : config->cell == LN_CELL_SIMPLE_RNN ? 1 : config->coupled != 0 ? 3 : 4;
        made->parts = is_gru ? 2 : 1;
        const bool in_rows = config->layout == LN_ROWS;
        made->part[0].columns = {gates, H, lanes, 0, in_rows};
        if (is_gru) {
            made->part[1].columns = {1, H, lanes};
            made->part[1].column0 = 2 * H;
        }
        for (int i = 0; i < made->parts; ++i) make_part(*context, *made, *weights, made->columns(), made->part[i]);
        if (made->reset_after())
            made->recurrent_bias =
                pack_bias(made->part[1].columns, weights->bias == nullptr ? nullptr : weights->bias + 3 * H + 2 * H);
        if (weights->peepholes != nullptr) made->peepholes = pack_peepholes(*made, weights->peepholes);
        if (weights->projection != nullptr)
            made->projection =
                pack_pairs(*context, *made->table, {1, config->P, lanes, 0, in_rows}, H, weights->projection);
        *pack = made.release();
    });
}

void general_release(void* pack) { delete static_cast<GeneralPack*>(pack); }

std::size_t general_saved_bytes(const void* opaque, std::int64_t B, std::int64_t steps, std::int32_t masked) {
    const GeneralPlan plan(*static_cast<const GeneralPack*>(opaque), B, steps, masked != 0, true);
    return static_cast<std::size_t>(plan.saved_floats()) * sizeof(float);
}

}  // namespace lstm_native::cpu
