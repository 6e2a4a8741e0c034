#include "cpu/recurrent_indexed.h"

#include "core/thread_pool.h"

namespace lstm_native::cpu {

namespace {

// Sums that are added to at a time, in floats: an eighth of a megabyte stays in a second-level cache while the
// gradients go through it.
constexpr std::int64_t kSumFloats = 32768;

// Calls body(first row, rows, scratch) for groups of the R rows; `row_floats` of scratch for each row of a group.
template <class F>
void for_row_groups(std::int64_t R, std::int64_t row_floats, int threads, const F& body) {
    const std::int64_t groups = core::ceil_div(R, kIndexedRows);
    const int want = static_cast<int>(std::min<std::int64_t>(groups, threads));
    const std::int64_t scratch = kIndexedRows * row_floats;
    const core::Block<float> memory =
        core::allocate_array<float>(static_cast<std::size_t>(core::checked_mul(want, scratch)));
    core::parallel_tasks(groups, want, [&](std::int64_t group, int rank) {
        const Range rows = part_of(R, groups, group);
        body(rows.begin, rows.end - rows.begin, memory.get() + rank * scratch);
    });
}

// Of some steps of the chunk.
void sum_chunk_by_row(const RecurrentPlan& plan, const LnRecurrentBackward& args, std::int64_t tile, std::int64_t chunk,
                      const Range& steps, const Range& pairs, float* sums) {
    const LnRecurrentForward& forward = *args.forward;
    const Range rows = plan.tile_rows(tile);
    const TileMemory memory(plan, tile, Kept::all, static_cast<float*>(args.saved));
    const TileMemory::Gates gates = memory.step_gates(chunk, steps.begin);
    const TileMemory::Gates following = memory.chunk_gates(std::min(chunk + 1, plan.chunks() - 1));
    std::int32_t numbers[RecurrentPlan::kChunkRows];  // of the chunk's rows, in their order
    SumByRow sum{};
    for (std::int64_t t = steps.begin; t < steps.end; ++t)
        for (std::int64_t row = rows.begin; row < rows.end; ++row)
            numbers[sum.rows++] = forward.index[row * forward.T + input_time(forward, t)];
    sum.blocks = 2;
    sum.in_stride = gates.stride;
    sum.index = numbers;
    sum.sums_stride = forward.R * plan.lanes;
    for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
        sum.in = gates.data + plan.pack.input_block(pair) * sum.in_stride;
        sum.next = pair + 1 < pairs.end ? gates.data + plan.pack.input_block(pair + 1) * gates.stride
                                        : following.data + plan.pack.input_block(pairs.begin) * following.stride;
        sum.sums = sums + plan.pack.input_block(pair) * sum.sums_stride;
        plan.pack.table->sum_by_row(sum);
    }
}

}  // namespace

std::int64_t indexed_floats(const RecurrentPlan& plan, const LnRecurrentForward& args) {
    return core::checked_mul(args.R, plan.gate_blocks * plan.lanes);
}

void project_rows(const RecurrentPlan& plan, const LnRecurrentForward& args, int threads, float* projected) {
    const RecurrentPack& pack = plan.pack;
    const std::int64_t I = pack.config.I;
    for_row_groups(
        args.R, plan.input_blocks * plan.lanes, threads, [&](std::int64_t row, std::int64_t rows, float* input) {
            pack.table->block_rows(rows, I, args.inputs + row * I, I, input, rows * plan.lanes);
            Product p{};
            p.rows = rows;
            p.k = I;
            p.a = input;
            p.a_stride = rows * plan.lanes;
            project_inputs(pack, p, {0, pack.columns.pairs()}, projected + row * plan.lanes, args.R * plan.lanes);
        });
}

IndexedRows rows_of_step(const RecurrentPlan& plan, const LnRecurrentForward& args, std::int64_t row, std::int64_t t,
                         const float* data) {
    return {data, args.R * plan.lanes, args.index + row * args.T + input_time(args, t), args.T};
}

void sum_by_row(const RecurrentPlan& plan, const LnRecurrentBackward& args, const Range& pairs, float* sums) {
    const std::int64_t stride = args.forward->R * plan.lanes;
    for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair)
        std::fill_n(sums + plan.pack.input_block(pair) * stride, 2 * stride, 0.0F);
    const std::int64_t at_once = std::max<std::int64_t>(1, kSumFloats / (2 * stride));
    for (Range part{pairs.begin, 0}; part.begin < pairs.end; part.begin = part.end) {
        part.end = std::min(part.begin + at_once, pairs.end);
        for (std::int64_t tile = 0; tile < plan.tiles; ++tile) {
            const Range active = active_steps(*args.forward, plan.tile_rows(tile));
            for (std::int64_t chunk = 0; chunk < plan.chunks(); ++chunk)
                sum_chunk_by_row(plan, args, tile, chunk, active_part(plan, chunk, active), part, sums);
        }
    }
}

void indexed_kernel_gradient(const RecurrentPlan& plan, const LnRecurrentBackward& args, const Range& pairs,
                             const float* sums, float* input) {
    const RecurrentPack& pack = plan.pack;
    const LnRecurrentForward& forward = *args.forward;
    const std::int64_t I = pack.config.I;
    const std::int64_t groups = core::ceil_div(forward.R, kIndexedRows);
    for (std::int64_t group = 0; group < groups; ++group) {
        const Range part = part_of(forward.R, groups, group);
        const std::int64_t rows = part.end - part.begin;
        pack.table->block_rows(rows, I, forward.inputs + part.begin * I, I, input, rows * plan.lanes);
        const std::int64_t stride = forward.R * plan.lanes;
        for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair)
            weight_gradient(*pack.table, pack.columns, pair, rows, I, input, rows * plan.lanes,
                            sums + part.begin * plan.lanes + pack.input_block(pair) * stride, stride, args.d_kernel,
                            pack.columns.columns(), args.accumulate != 0 || group > 0);
    }
}

void indexed_input_gradient(const RecurrentPlan& plan, const LnRecurrentBackward& args, int threads,
                            const float* sums) {
    const RecurrentPack& pack = plan.pack;
    const std::int64_t R = args.forward->R;
    const std::int64_t I = pack.config.I;
    for_row_groups(R, plan.input_blocks * plan.lanes, threads,
                   [&](std::int64_t row, std::int64_t rows, float* gradient) {
                       Product p{};
                       p.rows = rows;
                       p.c = gradient;
                       p.c_stride = rows * plan.lanes;
                       p.pair_end = plan.input_blocks / 2;
                       project_back(pack, p, sums + row * plan.lanes, R * plan.lanes);
                       pack.table->unblock_rows(rows, I, gradient, p.c_stride, args.d_inputs + row * I, I);
                   });
}

}  // namespace lstm_native::cpu
