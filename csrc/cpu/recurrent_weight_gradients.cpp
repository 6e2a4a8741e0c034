#include "cpu/recurrent_weight_gradients.h"

#include "core/thread_pool.h"
#include "cpu/recurrent_indexed.h"
#include "cpu/recurrent_tile.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

class WeightGradients {
public:
    WeightGradients(const RecurrentPlan& plan, const LnRecurrentBackward& args)
        : plan_(plan), pack_(plan.pack), args_(args) {}

    // Of the column pairs, over all tiles and chunks. `input`: scratch for the blocked inputs of a chunk; `ones`: a
    // column of ones, for the bias.
    void add_up(const Range& pairs, float* input, const float* ones) const {
        bool accumulate = args_.accumulate != 0;
        for (std::int64_t tile = 0; tile < plan_.tiles; ++tile) {
            const Range active = active_steps(*args_.forward, plan_.tile_rows(tile));
            for (std::int64_t chunk = 0; chunk < plan_.chunks(); ++chunk) {
                const Range steps = active_part(plan_, chunk, active);
                if (steps.begin == steps.end) continue;
                add_chunk(tile, chunk, steps, pairs, input, ones, accumulate);
                accumulate = true;
            }
        }
        if (!accumulate) add_chunk(0, 0, {0, 0}, pairs, input, ones, false);  // zero
    }

private:
    // Of some steps of the chunk.
    void add_chunk(std::int64_t tile, std::int64_t chunk, const Range& steps, const Range& pairs, float* input,
                   const float* ones, bool accumulate) const {
        const Range rows = plan_.tile_rows(tile);
        const TileMemory memory(plan_, tile, Kept::all, static_cast<float*>(args_.saved));
        const TileMemory::Gates gates = memory.step_gates(chunk, steps.begin);
        const TileMemory::State state = memory.state(steps.begin);
        const std::int64_t count = (steps.end - steps.begin) * (rows.end - rows.begin);
        const bool of_inputs = args_.d_kernel != nullptr && args_.forward->index == nullptr;
        if (of_inputs) block_inputs(plan_, *args_.forward, rows, steps, input);
        for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
            // What the inputs gave to the pair, and what the recurrent product gave.
            const float* const g = gates.data + pack_.input_block(pair) * gates.stride;
            const float* const recurrent = gates.data + 2 * pair * gates.stride;
            const auto add = [&](std::int64_t k, const float* a, std::int64_t a_stride, const float* gradient,
                                 float* out) {
                weight_gradient(*pack_.table, pack_.columns, pair, count, k, a, a_stride, gradient, gates.stride, out,
                                pack_.columns.columns(), accumulate);
            };
            if (of_inputs) add(pack_.config.I, input, count * plan_.lanes, g, args_.d_kernel);
            if (args_.d_recurrent_kernel != nullptr) {
                const bool of_reset = pack_.kind == CellKind::gru_before && pack_.columns.is_candidate(pair);
                add(pack_.config.H, of_reset ? gates.apart : state.masked_h, of_reset ? gates.stride : state.stride,
                    recurrent, args_.d_recurrent_kernel);
            }
            if (args_.d_bias == nullptr) continue;
            add(1, ones, 0, g, args_.d_bias);
            if (pack_.kind == CellKind::gru) add(1, ones, 0, recurrent, args_.d_bias + pack_.columns.columns());
        }
    }

    const RecurrentPlan& plan_;
    const RecurrentPack& pack_;
    const LnRecurrentBackward& args_;
};

}  // namespace

void weight_gradients(const LnContext& context, const RecurrentPlan& plan, const LnRecurrentBackward& args) {
    const RecurrentPack& pack = plan.pack;
    const double work = static_cast<double>(plan.B * plan.T) * static_cast<double>(pack.columns.columns()) *
                        static_cast<double>(pack.config.I + pack.config.H);
    const int threads = threads_for(context, work);
    const std::int64_t pairs = pack.columns.pairs();
    // A few tasks a thread, so that one that is held up does not hold up all.
    const std::int64_t tasks = threads == 1 ? 1 : std::min<std::int64_t>(pairs, 4 * threads);

    // A block of its own for the sums: forward gave one of the same size back, that of the projected rows.
    const bool indexed = args.forward->index != nullptr;
    core::Block<float> sums;
    if (indexed) sums = core::allocate_array<float>(static_cast<std::size_t>(indexed_floats(plan, *args.forward)));
    const std::int64_t rows = plan.largest_tile() * plan.steps * plan.lanes;
    const std::int64_t input = indexed ? kIndexedRows * plan.input_blocks * plan.lanes : plan.input_floats();
    const core::Block<float> scratch = core::allocate_array<float>(static_cast<std::size_t>(rows + threads * input));
    float* const ones = scratch.get();
    std::fill_n(ones, rows, 1.0F);

    const WeightGradients gradients(plan, args);
    core::parallel_tasks(tasks, threads, [&](std::int64_t task, int rank) {
        const Range part = part_of(pairs, tasks, task);
        float* const inputs = ones + rows + rank * input;
        gradients.add_up(part, inputs, ones);
        if (!indexed) return;
        sum_by_row(plan, args, part, sums.get());
        if (args.d_kernel != nullptr) indexed_kernel_gradient(plan, args, part, sums.get(), inputs);
    });
    if (indexed && args.d_inputs != nullptr) indexed_input_gradient(plan, args, threads, sums.get());
}

}  // namespace lstm_native::cpu
