// Backward over a whole sequence. First the steps in reverse: each turns the kept gates of its chunk into
// their gradients, in place, and sends the state's gradient one step back. Then, over all gate gradients at
// once, the weight gradients: every element is summed by one thread, tiles, chunks and rows in order.
#include <cstring>

#include "core/thread_pool.h"
#include "cpu/kernels/isa.h"
#include "cpu/recurrent.h"
#include "cpu/recurrent_indexed.h"
#include "cpu/recurrent_plan.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

using Chunk = RecurrentPlan::Chunk;

// Sums by row that are added to at a time, in floats: half a megabyte stays in a second-level cache.
constexpr std::int64_t kSumFloats = 131072;

// State gradients of a tile in blocked rows: of h, of c (of r h with GRU), of the masked h (h itself without a mask).
struct StateGradients {
    float* h;
    float* c;
    float* masked;
    float* mask;  // null: none
    std::int64_t stride;
};

class Backward {
public:
    Backward(const RecurrentPack& pack, const LnRecurrentBackward& args, const RecurrentPlan& plan)
        : pack_(pack), args_(args), forward_(*args.forward), plan_(plan), table_(*pack.table) {}

    // Floats of the state gradients of one tile, shared by its members: of h, and of c or of r h; with a recurrent mask
    // of the masked h too, and the mask.
    std::int64_t state_floats() const {
        const std::int64_t states = forward_.recurrent_mask == nullptr ? 2 : 4;
        return states * plan_.unit_blocks * plan_.lanes * plan_.largest_tile();
    }
    // Floats of one member's scratch for the input gradient of a chunk.
    std::int64_t input_floats() const {
        return input_gradients() ? plan_.input_blocks * plan_.lanes * plan_.largest_tile() * plan_.steps : 0;
    }
    // Whether run_tile makes input gradients: those of indexed inputs come from sums, later.
    bool input_gradients() const { return args_.d_inputs != nullptr && forward_.index == nullptr; }

    void run_tile(std::int64_t tile, const Share& share, float* input, float* state) const {
        const Range rows = plan_.tile_rows(tile);
        const std::int64_t m = rows.end - rows.begin;
        const std::int64_t stride = m * plan_.lanes;
        float* const dh = state;
        float* const dc = state + plan_.unit_blocks * stride;
        StateGradients d{dh, dc, dh, nullptr, stride};
        if (forward_.recurrent_mask != nullptr) {
            d.masked = dc + plan_.unit_blocks * stride;
            d.mask = d.masked + plan_.unit_blocks * stride;
            load_state(forward_.recurrent_mask, rows.begin, m, share, d.mask, stride);
        }
        load_state(args_.d_last_h, rows.begin, m, share, dh, stride);
        if (pack_.has_cell_state()) load_state(args_.d_last_c, rows.begin, m, share, dc, stride);
        if (args_.accumulate == 0) {
            zero_state(args_.d_initial_h, rows.begin, m, share);
            zero_state(args_.d_initial_c, rows.begin, m, share);
        }
        for (std::int64_t n = plan_.chunks(); n-- > 0;) {
            const std::int64_t steps = plan_.chunk_steps(n);
            const std::int64_t t = forward_.first + n * plan_.steps;
            const Chunk chunk = chunk_of(tile, n);
            for (std::int64_t s = steps; s-- > 0;) step(chunk, rows.begin, m, s, t + s, share, d);
            if (input_gradients()) input_gradient(chunk, rows.begin, m, t, steps, share, input);
        }
        const bool inside = forward_.start_h != nullptr;
        if (inside) {
            zero_state(args_.d_start_h, rows.begin, m, share);
            zero_state(args_.d_start_c, rows.begin, m, share);
        }
        add_state(inside ? args_.d_start_h : args_.d_initial_h, rows.begin, m, share, dh, stride);
        if (pack_.has_cell_state())
            add_state(inside ? args_.d_start_c : args_.d_initial_c, rows.begin, m, share, dc, stride);
    }

    // Weight gradients of the column pairs [pairs.begin, pairs.end). `input`: scratch for the blocked inputs of a
    // chunk; `ones`: a column of ones, for the bias; `sums`: of the gate gradients by row of indexed inputs, out.
    void weight_gradients(const Range& pairs, float* input, const float* ones, float* sums) const {
        const std::int64_t lanes = plan_.lanes;
        const std::int64_t I = pack_.config.I;
        const std::int64_t stride = pack_.columns.columns();
        bool accumulate = args_.accumulate != 0;
        for (std::int64_t tile = 0; tile < plan_.tiles; ++tile) {
            const Range rows = plan_.tile_rows(tile);
            const std::int64_t m = rows.end - rows.begin;
            for (std::int64_t n = 0; n < plan_.chunks(); ++n) {
                const Chunk chunk = chunk_of(tile, n);
                const std::int64_t count = plan_.chunk_steps(n) * m;
                const std::int64_t t = forward_.first + n * plan_.steps;
                const bool of_inputs = args_.d_kernel != nullptr && sums == nullptr;
                if (of_inputs) block_inputs(pack_, forward_, rows.begin, m, t, plan_.chunk_steps(n), input);
                for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
                    // What the inputs gave to the pair, and what the recurrent product gave.
                    const float* const g = chunk.gates + pack_.input_block(pair) * chunk.gates_stride;
                    const float* const recurrent = chunk.gates + 2 * pair * chunk.gates_stride;
                    const auto add = [&](std::int64_t k, const float* a, std::int64_t a_stride, const float* gradient,
                                         float* out) {
                        weight_gradient(table_, pack_.columns, pair, count, k, a, a_stride, gradient,
                                        chunk.gates_stride, out, stride, accumulate);
                    };
                    if (of_inputs) add(I, input, count * lanes, g, args_.d_kernel);
                    if (args_.d_recurrent_kernel != nullptr) {
                        if (pack_.kind == CellKind::gru_before && pack_.columns.is_candidate(pair)) {
                            add(H(), chunk.apart, chunk.gates_stride, recurrent, args_.d_recurrent_kernel);
                        } else {  // slot s of h is the state before step s
                            add(H(), chunk.masked_h, chunk.state_stride, recurrent, args_.d_recurrent_kernel);
                        }
                    }
                    if (args_.d_bias == nullptr) continue;
                    add(1, ones, 0, g, args_.d_bias);
                    if (pack_.kind == CellKind::gru) add(1, ones, 0, recurrent, args_.d_bias + stride);
                }
                accumulate = true;
            }
        }
        if (sums == nullptr) return;
        sum_by_row(pairs, sums);
        if (args_.d_kernel != nullptr) indexed_kernel_gradient(pack_, plan_, args_, pairs, sums, input);
    }

private:
    std::int64_t H() const { return pack_.config.H; }

    Chunk chunk_of(std::int64_t tile, std::int64_t n) const {
        const Range rows = plan_.tile_rows(tile);
        return plan_.chunk_at(static_cast<float*>(args_.saved) + plan_.saved_offset(tile, n), rows.end - rows.begin,
                              plan_.chunk_steps(n));
    }

    // The member's real units: first, and how many.
    std::int64_t first_unit(const Share& share) const { return share.blocks.begin * plan_.lanes; }
    std::int64_t unit_count(const Share& share) const {
        return std::max<std::int64_t>(0, std::min(share.blocks.end * plan_.lanes, H()) - first_unit(share));
    }

    void load_state(const float* from, std::int64_t row, std::int64_t m, const Share& share, float* to,
                    std::int64_t stride) const {
        std::memset(to + share.blocks.begin * stride, 0,
                    static_cast<std::size_t>((share.blocks.end - share.blocks.begin) * stride) * sizeof(float));
        if (from != nullptr && unit_count(share) > 0)
            table_.block_rows(m, unit_count(share), from + row * H() + first_unit(share), H(),
                              to + share.blocks.begin * stride, stride);
    }

    void zero_state(float* d_state, std::int64_t row, std::int64_t m, const Share& share) const {
        if (d_state == nullptr) return;
        for (std::int64_t r = row; r < row + m; ++r)
            std::fill_n(d_state + r * H() + first_unit(share), unit_count(share), 0.0F);
    }

    // d_state += state, for `m` rows of the member's units.
    void add_state(float* d_state, std::int64_t row, std::int64_t m, const Share& share, const float* state,
                   std::int64_t stride) const {
        if (d_state == nullptr) return;
        for (std::int64_t r = 0; r < m; ++r) {
            float* to = d_state + (row + r) * H();
            for (std::int64_t u = first_unit(share); u < first_unit(share) + unit_count(share); ++u)
                to[u] += state[u / plan_.lanes * stride + r * plan_.lanes + u % plan_.lanes];
        }
    }

    void step(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t s, std::int64_t t, const Share& share,
              const StateGradients& d) const {
        const std::int64_t stride = d.stride;
        const std::int64_t slot = s * m * plan_.lanes;
        CellStepBackward c{};
        c.rows = m;
        c.units = H();
        c.block_begin = share.blocks.begin;
        c.block_end = std::min(share.blocks.end, pack_.unit_blocks());
        c.activation = pack_.config.activation;
        c.recurrent_activation = pack_.config.recurrent_activation;
        c.gates = chunk.gates + slot;
        c.gates_stride = chunk.gates_stride;
        if (pack_.has_apart()) c.apart = chunk.apart + slot;
        c.h_before = chunk.h + slot;
        c.h_masked = chunk.masked_h + slot;
        if (chunk.c != nullptr) c.c_before = chunk.c + slot;
        c.h_before_stride = c.c_before_stride = chunk.state_stride;
        if (args_.d_outputs != nullptr) {
            c.d_out = args_.d_outputs + (row * forward_.T + t) * H();
            c.d_out_stride = forward_.T * H();
        } else if (args_.d_last_output != nullptr && t == forward_.T - 1) {
            c.d_out = args_.d_last_output + row * H();
            c.d_out_stride = H();
        }
        c.dh = d.h;
        c.dc = d.c;
        c.d_masked = d.masked;
        c.d_reset = d.c;
        c.d_stride = stride;
        c.control = forward_.control == nullptr ? nullptr : forward_.control + row * forward_.T + t;
        c.control_stride = forward_.T;
        table_.step_backward[static_cast<int>(pack_.kind)](c);
        share.sync();  // the product reads the gate gradients of all units
        if (d.mask != nullptr) load_state(nullptr, row, m, share, d.masked, stride);  // zero
        Product p{};
        const PackedPairs& w = pack_.recurrent_transposed();
        p.start = Start::c;
        p.rows = m;
        p.k = w.k;
        p.a = c.gates;
        p.a_stride = c.gates_stride;
        p.w = w.data.get();
        p.w_stride = w.stride;
        p.c = d.masked;
        p.c_stride = stride;
        p.pair_begin = share.blocks.begin / 2;
        p.pair_end = std::min(share.blocks.end / 2, w.pairs);
        p.descending = t % 2 != 0;
        if (pack_.kind == CellKind::gru_before) {
            Product reset = p;
            reset.start = Start::zero;
            reset.c = d.c;
            product_of_groups(reset, true);
            table_.gru_before_reset_backward(c);
            share.sync();
            product_of_groups(p, false);
        } else if (t > 0 || args_.d_initial_h != nullptr) {  // at t = 0 nothing else takes it
            table_.product(p);
        }
        if (d.mask != nullptr) add_masked(d, share, m);
        if (c.control != nullptr) cut_resets(c.control, row, m, share, d.h, d.c, stride);
    }

    // dh += what reached the masked h, times the mask, for the member's units.
    void add_masked(const StateGradients& d, const Share& share, std::int64_t m) const {
        apply_mask(pack_, share.blocks, m, d.masked, d.mask, d.masked, d.stride);
        for (std::int64_t b = share.blocks.begin; b < share.blocks.end; ++b)
            table_.elementwise.add(m * plan_.lanes, d.h + b * d.stride, d.masked + b * d.stride);
    }

    // Of the transposed recurrent product, the part that comes from the candidates, or that from the other gates.
    void product_of_groups(Product p, bool candidates) const {
        const std::int64_t first = candidates ? 2 * pack_.columns.gates : 0;
        const float* const a = p.a;
        const float* const w = p.w;
        p.k = 2 * (candidates ? pack_.columns.candidates : pack_.columns.gates) * plan_.lanes;
        for (std::int64_t block = first; block < pack_.columns.count(); block += pack_.columns.group()) {
            p.a = a + block * p.a_stride;
            p.w = w + block * 2 * plan_.lanes * plan_.lanes;
            table_.product(p);
            p.start = Start::c;
        }
    }

    // Where a row was reset before this step, its gradients end: in the initial state.
    void cut_resets(const std::uint8_t* control, std::int64_t row, std::int64_t m, const Share& share, float* dh,
                    float* dc, std::int64_t stride) const {
        for (std::int64_t r = 0; r < m; ++r) {
            if ((control[r * forward_.T] & LN_RESET) == 0) continue;
            float* const dh_row = dh + r * plan_.lanes;
            float* const dc_row = dc + r * plan_.lanes;
            add_state(args_.d_initial_h, row + r, 1, share, dh_row, stride);
            if (pack_.has_cell_state()) add_state(args_.d_initial_c, row + r, 1, share, dc_row, stride);
            for (std::int64_t b = share.blocks.begin; b < share.blocks.end; ++b) {
                std::fill_n(dh_row + b * stride, plan_.lanes, 0.0F);
                std::fill_n(dc_row + b * stride, plan_.lanes, 0.0F);
            }
        }
    }

    // d_inputs of the chunk = gate gradients * kernel^T, for the member's part of the features.
    void input_gradient(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t t, std::int64_t steps,
                        const Share& share, float* input) const {
        const Range pairs = part_of(plan_.input_blocks / 2, share.members, share.member);
        const std::int64_t I = pack_.config.I;
        const std::int64_t column = 2 * pairs.begin * plan_.lanes;
        const std::int64_t columns = std::min(2 * pairs.end * plan_.lanes, I) - column;
        if (columns <= 0) return;
        Product p{};
        p.rows = steps * m;
        p.c = input;
        p.c_stride = p.rows * plan_.lanes;
        p.pair_begin = pairs.begin;
        p.pair_end = pairs.end;
        project_back(pack_, p, chunk.gates, chunk.gates_stride);
        const float* from = input + 2 * pairs.begin * p.c_stride;
        for (std::int64_t s = 0; s < steps; ++s) {
            float* const to = args_.d_inputs + (row * forward_.T + input_time(forward_, t + s)) * I + column;
            table_.unblock_rows(m, columns, from + s * m * plan_.lanes, p.c_stride, to, forward_.T * I);
        }
    }

    // Sums of the gate gradients of the pairs, by the row of indexed inputs that the step read. So many pairs at a time
    // that their sums stay in the cache.
    void sum_by_row(const Range& pairs, float* sums) const {
        const std::int64_t stride = forward_.R * plan_.lanes;
        for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair)
            std::fill_n(sums + pack_.input_block(pair) * stride, 2 * stride, 0.0F);
        const std::int64_t at_once = std::max<std::int64_t>(1, kSumFloats / (2 * stride));
        for (Range part{pairs.begin, 0}; part.begin < pairs.end; part.begin = part.end) {
            part.end = std::min(part.begin + at_once, pairs.end);
            for (std::int64_t tile = 0; tile < plan_.tiles; ++tile)
                for (std::int64_t n = 0; n < plan_.chunks(); ++n) sum_chunk_by_row(tile, n, part, sums);
        }
    }

    void sum_chunk_by_row(std::int64_t tile, std::int64_t n, const Range& pairs, float* sums) const {
        const Range rows = plan_.tile_rows(tile);
        const Chunk chunk = chunk_of(tile, n);
        std::int32_t numbers[RecurrentPlan::kChunkRows];  // of the chunk's rows, in their order
        SumByRow sum{};
        for (std::int64_t s = 0; s < plan_.chunk_steps(n); ++s) {
            const std::int64_t t = input_time(forward_, forward_.first + n * plan_.steps + s);
            for (std::int64_t row = rows.begin; row < rows.end; ++row)
                numbers[sum.rows++] = forward_.index[row * forward_.T + t];
        }
        sum.blocks = 2;
        sum.in_stride = chunk.gates_stride;
        sum.index = numbers;
        sum.sums_stride = forward_.R * plan_.lanes;
        for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair) {
            sum.in = chunk.gates + pack_.input_block(pair) * sum.in_stride;
            sum.sums = sums + pack_.input_block(pair) * sum.sums_stride;
            table_.sum_by_row(sum);
        }
    }

    const RecurrentPack& pack_;
    const LnRecurrentBackward& args_;
    const LnRecurrentForward& forward_;
    const RecurrentPlan& plan_;
    const KernelTable& table_;
};

}  // namespace

LnStatus recurrent_backward(LnContext* context, const void* opaque, const LnRecurrentBackward* args) {
    return guarded(context, [&] {
        const RecurrentPack& pack = *static_cast<const RecurrentPack*>(opaque);
        const LnRecurrentForward& forward = *args->forward;
        const RecurrentPlan plan(pack, forward.B, forward.steps, forward.recurrent_mask != nullptr);
        const Backward backward(pack, *args, plan);
        const int want = recurrent_threads(*context, plan, pack);
        const std::int64_t input = backward.input_floats();
        const std::int64_t state = backward.state_floats();
        {
            const core::Block<float> memory =
                core::allocate_array<float>(static_cast<std::size_t>(want * (input + state)));
            float* const states = memory.get() + want * input;
            // Made here rather than by the first member: it may fail.
            pack.recurrent_transposed();
            if (backward.input_gradients()) pack.kernel_transposed();
            run_tiles(plan, pack, want, [&](std::int64_t tile, const Share& share) {
                backward.run_tile(tile, share, memory.get() + share.rank * input, states + share.group * state);
            });
        }
        const double work = static_cast<double>(plan.B * plan.T) * static_cast<double>(pack.columns.columns()) *
                            static_cast<double>(pack.config.I + pack.config.H);
        const int threads = threads_for(*context, work);
        const bool indexed = forward.index != nullptr;
        const std::int64_t pairs = pack.columns.pairs();
        // A few tasks a thread, so that one that is held up does not hold up all.
        const std::int64_t tasks = threads == 1 ? 1 : std::min<std::int64_t>(pairs, 4 * threads);
        const std::int64_t rows = plan.largest_tile() * plan.steps * plan.lanes;
        const std::int64_t blocked = plan.input_blocks * (indexed ? kIndexedRows * plan.lanes : rows);
        const core::Block<float> memory =
            core::allocate_array<float>(static_cast<std::size_t>(rows + threads * blocked));
        float* const ones = memory.get();
        float* const inputs = ones + rows;
        // A block of its own: forward gave one of the same size back, that of the projected rows.
        core::Block<float> sum_memory;
        if (indexed) sum_memory = core::allocate_array<float>(static_cast<std::size_t>(indexed_floats(plan, forward)));
        float* const sums = sum_memory.get();
        std::fill_n(ones, rows, 1.0F);
        core::parallel_tasks(tasks, threads, [&](std::int64_t task, int rank) {
            backward.weight_gradients(part_of(pairs, tasks, task), inputs + rank * blocked, ones, sums);
        });
        if (indexed && args->d_inputs != nullptr) indexed_input_gradient(pack, plan, *args, threads, sums);
    });
}

}  // namespace lstm_native::cpu
