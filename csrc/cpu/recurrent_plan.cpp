#include "cpu/recurrent_plan.h"

#include <atomic>
#include <vector>

#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {
// Gates of a chunk, in floats: a quarter of a megabyte leaves room for the weights in a second-level cache.
constexpr std::int64_t kChunkFloats = 65536;
// Multiply-adds of a step above which a hand-over between threads (0.15 to 1 us) pays.
constexpr double kSharedStepWork = 65536;
}  // namespace

const PackedPairs& RecurrentPack::kernel_transposed() const {
    std::call_once(kernel_once_, [this] { kernel_transposed_ = transpose_pairs(*table, columns, kernel); });
    return kernel_transposed_;
}

const PackedPairs& RecurrentPack::recurrent_transposed() const {
    std::call_once(recurrent_once_, [this] { recurrent_transposed_ = transpose_pairs(*table, columns, recurrent); });
    return recurrent_transposed_;
}

RecurrentPlan::RecurrentPlan(const RecurrentPack& pack, std::int64_t batch, std::int64_t time, bool masked)
    : B(batch),
      T(time),
      lanes(pack.table->lanes),
      apart_block_(pack.apart_block()),
      has_cell_state_(pack.has_cell_state()),
      masked_(masked),
      states_(1 + (has_cell_state_ ? 1 : 0) + (masked ? 1 : 0)) {
    unit_blocks = core::round_up(core::ceil_div(pack.config.H, lanes), 2);
    gate_blocks = core::round_up(pack.columns.count(), 2) + (pack.has_apart() ? unit_blocks : 0);
    input_blocks = core::round_up(core::ceil_div(pack.config.I, lanes), 2);
    // Nearly equal tiles that one micro-kernel takes whole; an even number of them, for two threads.
    tiles = core::ceil_div(B, pack.table->tile_rows);
    if (tiles > 1) tiles = std::min(core::round_up(tiles, 2), B);
    const std::int64_t rows =
        std::max<std::int64_t>({kChunkFloats / (gate_blocks * lanes), 2 * pack.table->tile_rows, largest_tile()});
    steps = std::max<std::int64_t>(1, std::min(std::min(rows, kChunkRows) / largest_tile(), T));
    row_floats_ = core::checked_mul(T, gate_blocks * lanes) +
                  core::checked_mul(core::checked_mul(states_, T + chunks()), unit_blocks * lanes);
}

std::int64_t RecurrentPlan::chunk_floats(std::int64_t rows, std::int64_t chunk_steps) const {
    return rows * lanes * (chunk_steps * gate_blocks + states_ * (chunk_steps + 1) * unit_blocks);
}

RecurrentPlan::Chunk RecurrentPlan::chunk_at(float* memory, std::int64_t rows, std::int64_t chunk_steps) const {
    Chunk chunk{};
    chunk.gates_stride = chunk_steps * rows * lanes;
    chunk.state_stride = (chunk_steps + 1) * rows * lanes;
    chunk.gates = memory;
    chunk.apart = chunk.gates + apart_block_ * chunk.gates_stride;
    chunk.h = chunk.gates + gate_blocks * chunk.gates_stride;
    const std::int64_t state = unit_blocks * chunk.state_stride;
    chunk.c = has_cell_state_ ? chunk.h + state : nullptr;
    chunk.masked_h = masked_ ? chunk.h + (states_ - 1) * state : chunk.h;
    return chunk;
}

std::int64_t RecurrentPlan::saved_offset(std::int64_t tile, std::int64_t chunk) const {
    const Range rows = tile < tiles ? tile_rows(tile) : Range{B, B};
    return core::checked_mul(rows.begin, row_floats_) +
           (chunk == 0 ? 0 : chunk * chunk_floats(rows.end - rows.begin, steps));
}

void block_inputs(const RecurrentPack& pack, const LnRecurrentForward& args, std::int64_t row, std::int64_t m,
                  std::int64_t t, std::int64_t steps, float* blocked) {
    const KernelTable& table = *pack.table;
    const std::int64_t I = pack.config.I;
    const std::int64_t block_stride = steps * m * table.lanes;
    const std::int64_t step = args.go_backwards != 0 ? -I : I;
    const float* first = args.inputs + (row * args.T + input_time(args, t)) * I;
    if (m == 1) {
        table.block_rows(steps, I, first, step, blocked, block_stride);
    } else {
        for (std::int64_t s = 0; s < steps; ++s)
            table.block_rows(m, I, first + s * step, args.T * I, blocked + s * m * table.lanes, block_stride);
    }
}

void apply_mask(const RecurrentPack& pack, const Range& blocks, std::int64_t rows, const float* from, const float* mask,
                float* to, std::int64_t stride) {
    const std::int64_t count = rows * pack.table->lanes;
    for (std::int64_t b = blocks.begin; b < blocks.end; ++b)
        pack.table->elementwise.multiply(count, from + b * stride, mask + b * count, to + b * stride);
}

void project_inputs(const RecurrentPack& pack, Product p, const Range& pairs, float* gates, std::int64_t stride) {
    p.start = Start::bias;
    p.bias = pack.bias.get();
    p.w = pack.kernel.data.get();
    p.w_stride = pack.kernel.stride;
    p.c = gates;
    p.c_stride = stride;
    p.pair_begin = pairs.begin;
    p.pair_end = pairs.end;
    if (pack.kind != CellKind::gru) return pack.table->product(p);
    // The candidate's pair goes to its own place; in its usual one the recurrent product starts from the bias.
    const std::int64_t group = pack.columns.group() / 2;
    for (std::int64_t pair = pairs.begin; pair < pairs.end; pair += group) {
        const std::int64_t candidate = pair + group - 1;
        p.pair_begin = pair;
        p.pair_end = candidate;
        pack.table->product(p);
        Product c = p;
        c.pair_begin = 0;
        c.pair_end = 1;
        c.bias = p.bias + 2 * candidate * pack.table->lanes;
        c.w = p.w + candidate * p.w_stride;
        c.c = gates + pack.input_block(candidate) * stride;
        pack.table->product(c);
        c.k = 0;
        c.bias = pack.recurrent_bias.get() + 2 * candidate * pack.table->lanes;
        c.c = gates + 2 * candidate * stride;
        pack.table->product(c);
    }
}

void project_back(const RecurrentPack& pack, Product p, const float* gates, std::int64_t stride) {
    const PackedPairs& w = pack.kernel_transposed();
    p.start = Start::zero;
    p.k = w.k;
    p.a = gates;
    p.a_stride = stride;
    p.w = w.data.get();
    p.w_stride = w.stride;
    if (pack.kind != CellKind::gru) return pack.table->product(p);
    const std::int64_t group = pack.columns.group() / 2;
    const std::int64_t block_floats = 2 * pack.table->lanes * pack.table->lanes;  // of w, for a block of the gates
    for (std::int64_t pair = 0; pair < pack.columns.pairs(); pair += group) {
        const std::int64_t candidate = pair + group - 1;
        for (const Range& part : {Range{pair, candidate}, Range{candidate, candidate + 1}}) {
            p.k = 2 * (part.end - part.begin) * pack.table->lanes;
            p.a = gates + pack.input_block(part.begin) * stride;
            p.w = w.data.get() + 2 * part.begin * block_floats;
            pack.table->product(p);
            p.start = Start::c;
        }
    }
}

namespace {

struct Grouping {
    std::int64_t groups, members;  // groups * members <= team
};

Grouping group_team(const RecurrentPlan& plan, const RecurrentPack& pack, int team) {
    const double step_work = static_cast<double>(plan.largest_tile()) * static_cast<double>(pack.config.H) *
                             static_cast<double>(pack.columns.columns());
    if (plan.tiles >= team || step_work < kSharedStepWork) return {std::min<std::int64_t>(team, plan.tiles), 1};
    return {plan.tiles, std::min<std::int64_t>(team / plan.tiles, plan.unit_blocks / 2)};
}

}  // namespace

int recurrent_threads(const LnContext& context, const RecurrentPlan& plan, const RecurrentPack& pack) {
    const double inner = static_cast<double>(pack.config.I + pack.config.H);
    const double work =
        static_cast<double>(plan.B) * static_cast<double>(plan.T) * inner * static_cast<double>(pack.columns.columns());
    std::int64_t threads = plan.T == 1 ? threads_for_repeated(context, work) : threads_for(context, work);
    // No more threads than tiles: each runs on its own, without a barrier a step.
    if (core::Barrier::lately_stalled()) threads = std::min(threads, plan.tiles);
    const Grouping grouping = group_team(plan, pack, static_cast<int>(threads));
    return static_cast<int>(grouping.groups * grouping.members);
}

void run_tiles(const RecurrentPlan& plan, const RecurrentPack& pack, int want, TileBody body, const void* argument) {
    std::atomic<std::int64_t> next{0};
    std::vector<core::Barrier> barriers(want > 1 ? static_cast<std::size_t>(want) : 0);
    auto member = [&](int rank, int team) {
        const Grouping grouping = group_team(plan, pack, team);
        Share share{};
        share.rank = rank;
        share.members = grouping.members;
        share.member = rank % share.members;
        share.group = rank / share.members;
        if (share.group >= grouping.groups) return;
        const Range pairs = part_of(plan.unit_blocks / 2, share.members, share.member);
        share.blocks = {2 * pairs.begin, 2 * pairs.end};
        if (share.members > 1) {
            share.barrier = &barriers[static_cast<std::size_t>(share.group)];
            body(argument, share.group, share);
        } else {
            for (std::int64_t tile; (tile = next.fetch_add(1)) < plan.tiles;) body(argument, tile, share);
        }
    };
    if (group_team(plan, pack, want).members > 1) {
        core::run_team(want, member);
    } else {
        core::run_open_team(want, member);
    }
}

}  // namespace lstm_native::cpu
