// Backward of the general cells: each tile from its last step to its first, then the weight gradients as sums over what
// all tiles have left.
#include <cstring>

#include "cpu/general_plan.h"
#include "cpu/general_recurrent.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

using Chunk = GeneralPlan::Chunk;

class Backward {
public:
    Backward(const GeneralPack& pack, const LnRecurrentBackward& args, const GeneralPlan& plan)
        : pack_(pack),
          transposed_(pack.transposed()),
          args_(args),
          forward_(*args.forward),
          plan_(plan),
          table_(*pack.table) {}

    // Floats of one thread: the input gradients of a chunk; then those of a tile's state, and what else a step needs.
    std::int64_t scratch_floats() const {
        const std::int64_t rows = plan_.largest_tile() * plan_.lanes;
        return rows * (plan_.input_blocks * plan_.steps + 4 * plan_.state_blocks + 2 * plan_.unit_blocks);
    }

    void run_tile(std::int64_t tile, float* scratch, float* d_peepholes) const {
        const Range rows = plan_.tile_rows(tile);
        const std::int64_t m = rows.end - rows.begin;
        Gradients d{};
        d.stride = m * plan_.lanes;
        float* memory = scratch;
        const auto take = [&](std::int64_t blocks) {
            float* const at = memory;
            memory += blocks * d.stride;
            return at;
        };
        float* const input = take(plan_.input_blocks * plan_.steps);
        d.h = take(plan_.state_blocks);
        d.c = take(plan_.unit_blocks);
        d.cell = take(plan_.unit_blocks);
        d.out = take(plan_.state_blocks);
        d.masked = d.h;
        d.peepholes = d_peepholes;
        if (forward_.recurrent_mask != nullptr) {
            d.masked = take(plan_.state_blocks);
            d.mask = take(plan_.state_blocks);
            load_rows(table_, forward_.recurrent_mask, P(), rows.begin, m, plan_.state_blocks, d.mask, d.stride);
        }
        load_rows(table_, args_.d_last_h, P(), rows.begin, m, plan_.state_blocks, d.h, d.stride);
        load_rows(table_, args_.d_last_c, H(), rows.begin, m, plan_.unit_blocks, d.c, d.stride);
        if (args_.accumulate == 0) {
            zero_state(args_.d_initial_h, P(), rows);
            zero_state(args_.d_initial_c, H(), rows);
        }
        const Range active = active_chunks(plan_, forward_, rows);
        idle({active.end, plan_.T}, rows.begin, m, d);
        for (std::int64_t n = plan_.chunks(); n-- > 0;) {
            const std::int64_t steps = plan_.active_steps(n, active);
            if (steps == 0) continue;
            const std::int64_t t = forward_.first + n * plan_.steps;
            const Chunk chunk = chunk_of(tile, n);
            for (std::int64_t s = steps; s-- > 0;) step(chunk, rows.begin, m, s, t + s, d);
            if (args_.d_inputs != nullptr) input_gradient(chunk, rows.begin, m, t, steps, input);
        }
        idle({0, active.begin}, rows.begin, m, d);
        const bool inside = forward_.start_h != nullptr;
        if (inside) {
            zero_state(args_.d_start_h, P(), rows);
            zero_state(args_.d_start_c, H(), rows);
        }
        add_state(inside ? args_.d_start_h : args_.d_initial_h, P(), rows.begin, m, d.h, d.stride);
        add_state(inside ? args_.d_start_c : args_.d_initial_c, H(), rows.begin, m, d.c, d.stride);
    }

    // Pairs of columns whose weight gradients can be had apart from each other: of the parts, and of the projection.
    std::int64_t pairs() const {
        return pack_.part[0].columns.pairs() + (pack_.parts == 2 ? pack_.part[1].columns.pairs() : 0) +
               pack_.projection.pairs;
    }

    // Weight gradients of the pairs [pairs.begin, pairs.end). `input`: scratch for the blocked inputs of a chunk;
    // `ones`: a column of ones, for the bias.
    void weight_gradients(const Range& pairs, float* d_projection, float* input, const float* ones) const {
        bool accumulate = args_.accumulate != 0;
        for (std::int64_t tile = 0; tile < plan_.tiles; ++tile) {
            const Range rows = plan_.tile_rows(tile);
            const std::int64_t m = rows.end - rows.begin;
            const Range active = active_chunks(plan_, forward_, rows);
            for (std::int64_t n = 0; n < plan_.chunks(); ++n) {
                const std::int64_t steps = plan_.active_steps(n, active);
                if (steps == 0) continue;
                if (args_.d_kernel != nullptr)
                    block_general_inputs(pack_, forward_, rows.begin, m, forward_.first + n * plan_.steps, steps,
                                         input);
                for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair)
                    pair_gradients(chunk_of(tile, n), steps * m, pair, d_projection, input, ones, accumulate);
                accumulate = true;
            }
        }
        if (accumulate) return;
        for (std::int64_t pair = pairs.begin; pair < pairs.end; ++pair)
            pair_gradients(chunk_of(0, 0), 0, pair, d_projection, input, ones, false);  // zero
    }

    std::int64_t largest_chunk() const { return plan_.largest_tile() * plan_.steps * plan_.lanes; }

private:
    // Of the tile's state, blocked rows (rows, ...), `stride` floats between blocks.
    struct Gradients {
        float* h;
        float* c;
        float* cell;    // with a projection: of what it takes; GRU with the reset gate before: of r h
        float* out;     // of the outputs of a step
        float* masked;  // of what the recurrent product takes; h without a recurrent mask
        float* mask;
        float* peepholes;
        std::int64_t stride;
    };

    std::int64_t H() const { return pack_.config.H; }
    std::int64_t P() const { return pack_.config.P; }

    Chunk chunk_of(std::int64_t tile, std::int64_t n) const {
        const Range rows = plan_.tile_rows(tile);
        return plan_.chunk_at(static_cast<float*>(args_.saved) + plan_.saved_offset(tile, n), rows.end - rows.begin,
                              plan_.chunk_steps(n));
    }

    static void zero_state(float* d_state, std::int64_t columns, const Range& rows) {
        if (d_state != nullptr) std::fill_n(d_state + rows.begin * columns, (rows.end - rows.begin) * columns, 0.0F);
    }

    // d_state += state, for m rows.
    void add_state(float* d_state, std::int64_t columns, std::int64_t row, std::int64_t m, const float* state,
                   std::int64_t stride) const {
        if (d_state == nullptr) return;
        for (std::int64_t r = 0; r < m; ++r)
            for (std::int64_t u = 0; u < columns; ++u)
                d_state[(row + r) * columns + u] += state[u / plan_.lanes * stride + r * plan_.lanes + u % plan_.lanes];
    }

    // Whether the row's control byte has a bit of `what`; all rows are plain without control bytes.
    bool is(const std::uint8_t* control, std::int64_t row, unsigned what) const {
        return ((control == nullptr ? LN_UPDATE | LN_EMIT : control[row * forward_.T]) & what) != 0;
    }

    const std::uint8_t* control_at(std::int64_t row, std::int64_t t) const {
        return forward_.control == nullptr ? nullptr : forward_.control + row * forward_.T + t;
    }

    // Steps of the call at which the state stands still: their outputs' gradients are the state's, their inputs have
    // none.
    void idle(const Range& steps, std::int64_t row, std::int64_t m, const Gradients& d) const {
        for (std::int64_t t = forward_.first + steps.end; t-- > forward_.first + steps.begin;) {
            add_output_gradient(control_at(row, t), row, m, t, d);
            for (std::int64_t r = row; args_.d_inputs != nullptr && r < row + m; ++r)
                std::fill_n(args_.d_inputs + general_input_place(forward_, r, t), pack_.config.I, 0.0F);
        }
    }

    void step(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t s, std::int64_t t,
              const Gradients& d) const {
        const std::int64_t slot = s * m * plan_.lanes;
        const std::uint8_t* const control = control_at(row, t);
        add_output_gradient(control, row, m, t, d);
        if (pack_.has_projection()) project_back(chunk, control, m, slot, d);
        GeneralStepBackward g{};
        g.config = &pack_.config;
        g.peepholes = pack_.peepholes.get();
        g.rows = m;
        g.gates_stride = chunk.gates_stride;
        for (int i = 0; i < pack_.parts; ++i) g.gates[i] = chunk.gates[i] + slot;
        if (pack_.has_apart()) g.apart = chunk.apart + slot;
        g.h_before = chunk.h + slot;
        g.h_masked = chunk.masked_h + slot;
        if (chunk.c != nullptr) g.c_before = chunk.c + slot;
        g.state_stride = chunk.state_stride;
        g.d_output = pack_.has_projection() ? d.cell : d.h;
        g.dc = d.c;
        g.d_reset = d.cell;
        g.d_masked = d.masked;
        g.d_peepholes = d.peepholes;
        g.d_stride = d.stride;
        g.control = control;
        g.control_stride = forward_.T;
        table_.general.step_backward(g);
        if (d.mask != nullptr) std::fill_n(d.masked, plan_.state_blocks * d.stride, 0.0F);
        const auto recurrent_product = [&](Start start, int part, const float* a, float* to) {
            const PackedPairs& w = transposed_.recurrent[part];
            product_of(pack_, start, nullptr, m, w.k, a, chunk.gates_stride, w, to, d.stride);
        };
        if (pack_.has_apart() && pack_.reset_after()) recurrent_product(Start::c, 1, g.apart, d.masked);
        if (pack_.has_apart() && !pack_.reset_after()) {
            recurrent_product(Start::zero, 1, g.gates[1], d.cell);
            table_.general.reset_backward(g);
        }
        recurrent_product(Start::c, 0, g.gates[0], d.masked);
        if (d.mask != nullptr) {
            const std::int64_t count = plan_.state_blocks * d.stride;
            table_.elementwise.multiply(count, d.masked, d.mask, d.masked);
            table_.elementwise.add(count, d.h, d.masked);
        }
        if (control != nullptr) cut_resets(control, row, m, d);
    }

    void add_output_gradient(const std::uint8_t* control, std::int64_t row, std::int64_t m, std::int64_t t,
                             const Gradients& d) const {
        if (args_.d_outputs != nullptr) {
            const LnStrides& strides = forward_.output;
            table_.block_rows(m, P(), args_.d_outputs + row * strides.row + t * strides.step, strides.row, d.out,
                              d.stride);
        } else if (args_.d_last_output != nullptr && t == forward_.T - 1) {
            table_.block_rows(m, P(), args_.d_last_output + row * P(), P(), d.out, d.stride);
        } else {
            return;
        }
        const std::int64_t blocks = core::ceil_div(P(), plan_.lanes);
        for (std::int64_t r = 0; r < m; ++r)
            if (!is(control, r, LN_EMIT)) zero_row(plan_.lanes, blocks, d.out + r * plan_.lanes, d.stride);
        table_.elementwise.add(blocks * d.stride, d.h, d.out);
    }

    // From the gradient of h, which is kept for the projection's own gradient, to that of what the projection takes.
    void project_back(const Chunk& chunk, const std::uint8_t* control, std::int64_t m, std::int64_t slot,
                      const Gradients& d) const {
        for (std::int64_t b = 0; b < plan_.state_blocks; ++b)
            std::copy_n(d.h + b * d.stride, d.stride, chunk.d_h + b * chunk.gates_stride + slot);
        for (std::int64_t r = 0; r < m; ++r) {
            const std::int64_t at = r * plan_.lanes;
            if (is(control, r, LN_UPDATE)) {
                zero_row(plan_.lanes, plan_.state_blocks, d.h + at, d.stride);
            } else {
                zero_row(plan_.lanes, plan_.state_blocks, chunk.d_h + slot + at, chunk.gates_stride);
            }
        }
        const PackedPairs& w = transposed_.projection;
        product_of(pack_, Start::zero, nullptr, m, w.k, chunk.d_h + slot, chunk.gates_stride, w, d.cell, d.stride);
    }

    // Where a row was reset before this step, its gradients end: in the initial state.
    void cut_resets(const std::uint8_t* control, std::int64_t row, std::int64_t m, const Gradients& d) const {
        for (std::int64_t r = 0; r < m; ++r) {
            if (!is(control, r, LN_RESET)) continue;
            const std::int64_t at = r * plan_.lanes;
            add_state(args_.d_initial_h, P(), row + r, 1, d.h + at, d.stride);
            add_state(args_.d_initial_c, H(), row + r, 1, d.c + at, d.stride);
            zero_row(plan_.lanes, plan_.state_blocks, d.h + at, d.stride);
            zero_row(plan_.lanes, plan_.unit_blocks, d.c + at, d.stride);
        }
    }

    void input_gradient(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t t, std::int64_t steps,
                        float* input) const {
        const std::int64_t I = pack_.config.I;
        const std::int64_t stride = steps * m * plan_.lanes;
        for (int i = 0; i < pack_.parts; ++i) {
            const PackedPairs& w = transposed_.kernel[i];
            product_of(pack_, i == 0 ? Start::zero : Start::c, nullptr, steps * m, w.k, chunk.gates[i],
                       chunk.gates_stride, w, input, stride);
        }
        for (std::int64_t s = 0; s < steps; ++s)
            table_.unblock_rows(m, I, input + s * m * plan_.lanes, stride,
                                args_.d_inputs + general_input_place(forward_, row, t + s), forward_.input.row);
    }

    // What one chunk of `rows` rows gives to the weights of a pair.
    void pair_gradients(const Chunk& chunk, std::int64_t rows, std::int64_t pair, float* d_projection,
                        const float* input, const float* ones, bool accumulate) const {
        int i = 0;
        while (i < pack_.parts && pair >= pack_.part[i].columns.pairs()) pair -= pack_.part[i++].columns.pairs();
        const std::int64_t block = 2 * pair * chunk.gates_stride;
        if (i == pack_.parts) {
            if (d_projection != nullptr)
                weight_gradient(table_, {1, P(), plan_.lanes, 0, pack_.part[0].columns.in_rows}, pair, rows, H(),
                                chunk.cell, chunk.gates_stride, chunk.d_h + block, chunk.gates_stride, d_projection,
                                P(), accumulate);
            return;
        }
        const GeneralPart& part = pack_.part[i];
        const std::int64_t columns = pack_.columns();
        const auto add = [&](std::int64_t k, const float* a, std::int64_t a_stride, const float* gradients,
                             float* out) {
            if (out != nullptr)
                weight_gradient(table_, part.columns, pair, rows, k, a, a_stride, gradients + block, chunk.gates_stride,
                                out + part.column0, columns, accumulate);
        };
        add(pack_.config.I, input, rows * plan_.lanes, chunk.gates[i], args_.d_kernel);
        add(1, ones, 0, chunk.gates[i], args_.d_bias);
        const float* const recurrent = i == 1 && pack_.reset_after() ? chunk.apart : chunk.gates[i];
        if (i == 1 && !pack_.reset_after()) {
            add(H(), chunk.apart, chunk.gates_stride, recurrent, args_.d_recurrent_kernel);
        } else {  // slot s of h is the state before step s
            add(P(), chunk.masked_h, chunk.state_stride, recurrent, args_.d_recurrent_kernel);
        }
        if (pack_.reset_after() && args_.d_bias != nullptr) add(1, ones, 0, recurrent, args_.d_bias + columns);
    }

    const GeneralPack& pack_;
    const GeneralPack::Transposed& transposed_;
    const LnRecurrentBackward& args_;
    const LnRecurrentForward& forward_;
    const GeneralPlan& plan_;
    const KernelTable& table_;
};

// The sums of all tiles, in their order.
void write_peepholes(const GeneralPack& pack, const float* sums, std::int64_t tiles, bool accumulate, float* out) {
    const std::int64_t floats = pack.peephole_floats();
    for (std::int64_t gate = 0; gate < 3; ++gate) {
        if (gate == 1 && pack.config.coupled != 0) continue;
        for (std::int64_t u = 0; u < pack.config.H; ++u, ++out) {
            float sum = accumulate ? *out : 0.0F;
            for (std::int64_t tile = 0; tile < tiles; ++tile) sum += sums[tile * floats + gate * (floats / 3) + u];
            *out = sum;
        }
    }
}

}  // namespace

LnStatus general_backward(LnContext* context, const void* opaque, const LnRecurrentBackward* args, float* d_peepholes,
                          float* d_projection) {
    return guarded(context, [&] {
        const GeneralPack& pack = *static_cast<const GeneralPack*>(opaque);
        const LnRecurrentForward& forward = *args->forward;
        const GeneralPlan plan(pack, forward.B, forward.steps, forward.recurrent_mask != nullptr, true);
        const Backward backward(pack, *args, plan);
        const int threads = general_threads(*context, pack, forward.B, forward.steps);
        {
            const int want = static_cast<int>(std::min<std::int64_t>(threads, plan.tiles));
            const std::int64_t floats = backward.scratch_floats();
            const std::int64_t peepholes = pack.peepholes == nullptr ? 0 : pack.peephole_floats();
            const core::Block<float> memory =
                core::allocate_array<float>(static_cast<std::size_t>(want * floats + plan.tiles * peepholes));
            float* const sums = memory.get() + want * floats;
            std::fill_n(sums, plan.tiles * peepholes, 0.0F);
            core::parallel_tasks(plan.tiles, want, [&](std::int64_t tile, int rank) {
                backward.run_tile(tile, memory.get() + rank * floats, sums + tile * peepholes);
            });
            if (d_peepholes != nullptr) write_peepholes(pack, sums, plan.tiles, args->accumulate != 0, d_peepholes);
        }
        const std::int64_t pairs = backward.pairs();
        // A few tasks a thread, so that one that is held up does not hold up all.
        const std::int64_t tasks = threads == 1 ? 1 : std::min<std::int64_t>(pairs, 4 * threads);
        const std::int64_t rows = backward.largest_chunk();
        const std::int64_t blocked = plan.input_blocks * rows;
        const core::Block<float> memory =
            core::allocate_array<float>(static_cast<std::size_t>(rows + threads * blocked));
        std::fill_n(memory.get(), rows, 1.0F);
        core::parallel_tasks(tasks, threads, [&](std::int64_t task, int rank) {
            backward.weight_gradients(part_of(pairs, tasks, task), d_projection, memory.get() + rows + rank * blocked,
                                      memory.get());
        });
    });
}

}  // namespace lstm_native::cpu
