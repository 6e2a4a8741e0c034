#include "cpu/recurrent_weight_gradients.h"

#include <vector>

#include "core/thread_pool.h"
#include "cpu/recurrent_indexed.h"
#include "cpu/recurrent_tile.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

// Chunks that are worked on together, pair by pair, so that what a pair sums up stays in the caches: their states and
// inputs in floats, half a megabyte of a second-level cache, and how many there are at most.
constexpr std::int64_t kGroupFloats = 131072;
constexpr std::int64_t kMostChunks = 32;

std::int64_t chunks_of_group(const RecurrentPlan& plan, bool of_inputs) {
    const std::int64_t row = (plan.unit_blocks + (of_inputs ? plan.input_blocks : 0)) * plan.lanes;
    const std::int64_t wanted = kGroupFloats / (plan.steps * plan.largest_tile() * row);
    return std::clamp<std::int64_t>(wanted, 1, std::min(kMostChunks, plan.chunks()));
}

class WeightGradients {
public:
    WeightGradients(const RecurrentPlan& plan, const LnRecurrentBackward& args)
        : plan_(plan), pack_(plan.pack), args_(args), of_inputs_(args.d_kernel != nullptr && !indexed()) {}

    // Floats of scratch for add_up.
    std::int64_t input_floats() const { return of_inputs_ ? chunks_of_group(plan_, true) * plan_.input_floats() : 0; }

    // Of the column pairs, over all tiles and chunks. `input`: scratch; `ones`: a column of ones, for the bias.
    void add_up(const Range& pairs, float* input, const float* ones) const {
        bool accumulate = args_.accumulate != 0;
        const std::int64_t at_once = chunks_of_group(plan_, of_inputs_);
        Part parts[kMostChunks];
        for (std::int64_t tile = 0; tile < plan_.tiles; ++tile) {
            const Range rows = plan_.tile_rows(tile);
            const Range active = active_steps(*args_.forward, rows);
            for (std::int64_t first = 0; first < plan_.chunks(); first += at_once) {
                std::int64_t count = 0;
                for (std::int64_t chunk = first; chunk < std::min(first + at_once, plan_.chunks()); ++chunk) {
                    const Range steps = active_part(plan_, chunk, active);
                    if (steps.begin == steps.end) continue;
                    parts[count++] =
                        part_of_chunk(tile, chunk, rows, steps, input + (chunk - first) * plan_.input_floats());
                }
                if (count == 0) continue;
                add_parts(parts, count, pairs, ones, accumulate);
                accumulate = true;
            }
        }
        if (accumulate) return;
        parts[0] = part_of_chunk(0, 0, {0, 0}, {0, 0}, input);
        add_parts(parts, 1, pairs, ones, false);  // zero
    }

private:
    // Some steps of a chunk.
    struct Part {
        TileMemory::Gates gates;
        TileMemory::State state;
        std::int64_t rows;
        const float* input;  // blocked rows
    };

    bool indexed() const { return args_.forward->index != nullptr; }

    Part part_of_chunk(std::int64_t tile, std::int64_t chunk, const Range& rows, const Range& steps,
                       float* input) const {
        const TileMemory memory(plan_, tile, Kept::all, static_cast<float*>(args_.saved));
        if (of_inputs_) block_inputs(plan_, *args_.forward, rows, steps, input);
        return {memory.step_gates(chunk, steps.begin), memory.state(steps.begin),
                (steps.end - steps.begin) * (rows.end - rows.begin), input};
    }

    void add_parts(const Part* parts, std::int64_t count, const Range& pairs, const float* ones,
                   bool accumulate) const {
        for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair)
            for (std::int64_t n = 0; n < count; ++n) {
                const bool last = n + 1 == count;
                const TileMemory::Gates& next = parts[last ? 0 : n + 1].gates;
                add_part(parts[n], pair, ones, accumulate || n > 0,
                         next.data + 2 * (pair + (last ? 1 : 0)) * next.stride);
            }
    }

    void add_part(const Part& part, std::int64_t pair, const float* ones, bool accumulate, const float* next) const {
        const TileMemory::Gates& gates = part.gates;
        // What the inputs gave to the pair, and what the recurrent product gave.
        const float* const g = gates.data + pack_.input_block(pair) * gates.stride;
        const float* const recurrent = gates.data + 2 * pair * gates.stride;
        const auto add = [&](std::int64_t k, const float* a, std::int64_t a_stride, const float* gradient, float* out,
                             const float* fetched = nullptr) {
            weight_gradient(*pack_.table, pack_.columns, pair, part.rows, k, a, a_stride, gradient, gates.stride, out,
                            pack_.columns.columns(), accumulate, fetched);
        };
        if (of_inputs_) add(pack_.config.I, part.input, part.rows * plan_.lanes, g, args_.d_kernel);
        if (args_.d_recurrent_kernel != nullptr) {
            const bool of_reset = pack_.kind == CellKind::gru_before && pack_.columns.is_candidate(pair);
            add(pack_.config.H, of_reset ? gates.apart : part.state.masked_h,
                of_reset ? gates.stride : part.state.stride, recurrent, args_.d_recurrent_kernel, next);
        }
        if (args_.d_bias == nullptr) return;
        add(1, ones, 0, g, args_.d_bias);
        if (pack_.kind == CellKind::gru) add(1, ones, 0, recurrent, args_.d_bias + pack_.columns.columns());
    }

    const RecurrentPlan& plan_;
    const RecurrentPack& pack_;
    const LnRecurrentBackward& args_;
    const bool of_inputs_;
};

// One call's part of the work.
struct CallGradients {
    CallGradients(const RecurrentPlan& of_plan, const LnRecurrentBackward& of_args)
        : plan(of_plan), args(of_args), gradients(of_plan, of_args) {
        if (!indexed()) return;
        // A block of its own for the sums: forward gave one of the same size back, that of the projected rows.
        sums = core::allocate_array<float>(static_cast<std::size_t>(indexed_floats(plan, *args.forward)));
    }

    bool indexed() const { return args.forward->index != nullptr; }
    // Floats of scratch for `run`.
    std::int64_t input_floats() const {
        return indexed() ? kIndexedRows * plan.input_blocks * plan.lanes : gradients.input_floats();
    }
    // For some pairs of columns.
    void run(const Range& pairs, float* input, const float* ones) const {
        gradients.add_up(pairs, input, ones);
        if (!indexed()) return;
        sum_by_row(plan, args, pairs, sums.get());
        if (args.d_kernel != nullptr) indexed_kernel_gradient(plan, args, pairs, sums.get(), input);
    }

    const RecurrentPlan& plan;
    const LnRecurrentBackward& args;
    WeightGradients gradients;
    core::Block<float> sums;
};

}  // namespace

void weight_gradients(const LnContext& context, const Plans& plans, const LnRecurrentBackwardCall* call) {
    double work = 0.0;
    std::vector<CallGradients> of_calls;
    of_calls.reserve(static_cast<std::size_t>(plans.count));
    for (std::int64_t n = 0; n < plans.count; ++n) {
        work += plans[n].work(plans[n].B);
        of_calls.emplace_back(plans[n], *call[n].args);
    }
    const auto of = [&](std::int64_t n) -> const CallGradients& { return of_calls[static_cast<std::size_t>(n)]; };
    const int threads = threads_for(context, work);
    // A few tasks a thread, so that one that is held up does not hold up all.
    const std::int64_t wanted = threads == 1 ? 1 : core::ceil_div(4 * threads, plans.count);
    const auto tasks_of = [&](std::int64_t n) { return std::min(plans[n].pack.columns.pairs(), wanted); };
    std::int64_t tasks = 0;
    for (std::int64_t n = 0; n < plans.count; ++n) tasks += tasks_of(n);

    const std::int64_t input = plans.largest([&](std::int64_t n) { return of(n).input_floats(); });
    const std::int64_t rows =
        plans.largest([&](std::int64_t n) { return plans[n].largest_tile() * plans[n].steps * plans[n].lanes; });
    const core::Block<float> scratch = core::allocate_array<float>(static_cast<std::size_t>(rows + threads * input));
    float* const ones = scratch.get();
    std::fill_n(ones, rows, 1.0F);

    core::parallel_tasks(tasks, threads, [&](std::int64_t task, int rank) {
        std::int64_t n = 0;
        while (task >= tasks_of(n)) task -= tasks_of(n++);
        of(n).run(part_of(plans[n].pack.columns.pairs(), tasks_of(n), task), ones + rows + rank * input, ones);
    });
    for (const CallGradients& one : of_calls)
        if (one.indexed() && one.args.d_inputs != nullptr)
            indexed_input_gradient(one.plan, one.args, threads, one.sums.get());
}

}  // namespace lstm_native::cpu
