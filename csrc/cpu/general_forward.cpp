// Forward of the general cells over a whole sequence. Training keeps every chunk in the caller's memory; inference
// walks through one chunk again and again.
#include "cpu/general_plan.h"
#include "cpu/general_recurrent.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

using Chunk = GeneralPlan::Chunk;

class Forward {
public:
    Forward(const GeneralPack& pack, const LnRecurrentForward& args, const GeneralPlan& plan)
        : pack_(pack), args_(args), plan_(plan), table_(*pack.table) {}

    // Floats of one thread: the blocked inputs of a chunk, the recurrent mask of a tile, the chunk of inference.
    std::int64_t scratch_floats() const {
        return input_floats() + mask_floats() +
               (args_.saved == nullptr ? plan_.chunk_floats(plan_.largest_tile(), plan_.steps) : 0);
    }

    void run_tile(std::int64_t tile, float* scratch) const {
        const Range rows = plan_.tile_rows(tile);
        const std::int64_t m = rows.end - rows.begin;
        float* const input = scratch;
        const float* mask = nullptr;
        if (args_.recurrent_mask != nullptr) {
            load_rows(table_, args_.recurrent_mask, P(), rows.begin, m, plan_.state_blocks, scratch + input_floats(),
                      m * plan_.lanes);
            mask = scratch + input_floats();
        }
        const Range active = active_chunks(plan_, args_, rows);
        Chunk before{};
        std::int64_t before_steps = 0;
        for (std::int64_t n = active.begin / plan_.steps; n < plan_.chunks(); ++n) {
            const std::int64_t steps = plan_.active_steps(n, active);
            if (steps == 0 && before.h != nullptr) break;  // the state is loaded even if no step runs
            const bool training = args_.saved != nullptr;
            float* const memory = training ? static_cast<float*>(args_.saved) + plan_.saved_offset(tile, n)
                                           : scratch + input_floats() + mask_floats();
            // Inference uses one layout throughout, so that the state moves from the last slot to the first in place.
            const Chunk chunk = plan_.chunk_at(memory, m, training ? plan_.chunk_steps(n) : plan_.steps);
            begin_chunk(chunk, before, before_steps, rows.begin, m);
            if (before.h == nullptr) emit_idle(chunk, {0, active.begin}, rows.begin, m, 0);
            const std::int64_t t = args_.first + n * plan_.steps;
            block_general_inputs(pack_, args_, rows.begin, m, t, steps, input);
            for (int i = 0; i < pack_.parts; ++i)
                product_of(pack_, Start::bias, pack_.part[i].bias.get(), steps * m, I(), input, steps * m * plan_.lanes,
                           pack_.part[i].kernel, chunk.gates[i], chunk.gates_stride);
            for (std::int64_t s = 0; s < steps; ++s) step(chunk, rows.begin, m, s, t + s, mask);
            before = chunk;
            before_steps = steps;
        }
        emit_idle(before, {active.end, plan_.T}, rows.begin, m, before_steps * m * plan_.lanes);
        write_state(args_.last_h, P(), before.h, before, before_steps, rows.begin, m);
        if (before.c != nullptr) write_state(args_.last_c, H(), before.c, before, before_steps, rows.begin, m);
    }

private:
    std::int64_t I() const { return pack_.config.I; }
    std::int64_t H() const { return pack_.config.H; }
    std::int64_t P() const { return pack_.config.P; }
    std::int64_t input_floats() const { return plan_.input_blocks * plan_.lanes * plan_.largest_tile() * plan_.steps; }
    std::int64_t mask_floats() const {
        return args_.recurrent_mask == nullptr ? 0 : plan_.state_blocks * plan_.lanes * plan_.largest_tile();
    }

    // Slot 0 of the chunk: the state after the chunk before, or the one that the call starts from.
    void begin_chunk(const Chunk& chunk, const Chunk& before, std::int64_t before_steps, std::int64_t row,
                     std::int64_t m) const {
        if (before.h == nullptr) {
            const bool inside = args_.start_h != nullptr;
            load_rows(table_, inside ? args_.start_h : args_.initial_h, P(), row, m, plan_.state_blocks, chunk.h,
                      chunk.state_stride);
            if (chunk.c != nullptr)
                load_rows(table_, inside ? args_.start_c : args_.initial_c, H(), row, m, plan_.unit_blocks, chunk.c,
                          chunk.state_stride);
            return;
        }
        const std::int64_t floats = m * plan_.lanes;
        const auto move = [&](std::int64_t blocks, const float* from, float* to) {
            for (std::int64_t b = 0; b < blocks; ++b)
                std::copy_n(from + b * before.state_stride + before_steps * floats, floats,
                            to + b * chunk.state_stride);
        };
        move(plan_.state_blocks, before.h, chunk.h);
        if (chunk.c != nullptr) move(plan_.unit_blocks, before.c, chunk.c);
    }

    const std::uint8_t* control_at(std::int64_t row, std::int64_t t) const {
        return args_.control == nullptr ? nullptr : args_.control + row * args_.T + t;
    }

    // Step s of the chunk, step t of the sequence: from slot s to slot s + 1.
    void step(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t s, std::int64_t t,
              const float* mask) const {
        const std::int64_t slot = s * m * plan_.lanes;
        const std::uint8_t* const control = control_at(row, t);
        if (control != nullptr) reset_rows(chunk, control, row, m, slot);
        const std::int64_t floats = m * plan_.lanes;
        if (mask != nullptr)
            for (std::int64_t b = 0; b < plan_.state_blocks; ++b)
                table_.elementwise.multiply(floats, chunk.h + b * chunk.state_stride + slot, mask + b * floats,
                                            chunk.masked_h + b * chunk.state_stride + slot);
        const auto recurrent_product = [&](Start start, const float* a, std::int64_t a_stride, int part, float* to) {
            product_of(pack_, start, pack_.recurrent_bias.get(), m, P(), a + slot, a_stride, pack_.part[part].recurrent,
                       to + slot, chunk.gates_stride);
        };
        recurrent_product(Start::c, chunk.masked_h, chunk.state_stride, 0, chunk.gates[0]);
        GeneralStep g{};
        g.config = &pack_.config;
        g.peepholes = pack_.peepholes.get();
        g.rows = m;
        g.gates_stride = chunk.gates_stride;
        for (int i = 0; i < pack_.parts; ++i) g.gates[i] = chunk.gates[i] + slot;
        g.h_before = chunk.h + slot;
        g.h_masked = chunk.masked_h + slot;
        g.state_stride = chunk.state_stride;
        g.output = pack_.has_projection() ? chunk.cell + slot : chunk.h + slot + floats;
        g.output_stride = pack_.has_projection() ? chunk.gates_stride : chunk.state_stride;
        if (chunk.c != nullptr) {
            g.c_before = chunk.c + slot;
            g.c_after = chunk.c + slot + floats;
        }
        if (pack_.has_apart()) {
            g.apart = chunk.apart + slot;
            if (pack_.reset_after()) {
                recurrent_product(Start::bias, chunk.masked_h, chunk.state_stride, 1, chunk.apart);
            } else {
                table_.general.reset(g);
                recurrent_product(Start::c, chunk.apart, chunk.gates_stride, 1, chunk.gates[1]);
            }
        }
        table_.general.step(g);
        if (pack_.has_projection())
            product_of(pack_, Start::zero, nullptr, m, H(), g.output, g.output_stride, pack_.projection,
                       chunk.h + slot + floats, chunk.state_stride);
        if (control != nullptr) carry_rows(chunk, control, m, slot);
        emit(chunk, control, row, m, slot + floats, t);
    }

    void reset_rows(const Chunk& chunk, const std::uint8_t* control, std::int64_t row, std::int64_t m,
                    std::int64_t slot) const {
        for (std::int64_t r = 0; r < m; ++r) {
            if ((control[r * args_.T] & LN_RESET) == 0) continue;
            const std::int64_t at = slot + r * plan_.lanes;
            load_rows(table_, args_.initial_h, P(), row + r, 1, plan_.state_blocks, chunk.h + at, chunk.state_stride);
            if (chunk.c != nullptr)
                load_rows(table_, args_.initial_c, H(), row + r, 1, plan_.unit_blocks, chunk.c + at,
                          chunk.state_stride);
        }
    }

    // Rows that the step leaves out keep their state; and what the weight gradients multiply with their zero gradients
    // must be finite.
    void carry_rows(const Chunk& chunk, const std::uint8_t* control, std::int64_t m, std::int64_t slot) const {
        for (std::int64_t r = 0; r < m; ++r) {
            if ((control[r * args_.T] & LN_UPDATE) != 0) continue;
            const std::int64_t from = slot + r * plan_.lanes;
            const std::int64_t to = from + m * plan_.lanes;
            copy_row(plan_.lanes, plan_.state_blocks, chunk.h + from, chunk.h + to, chunk.state_stride);
            if (chunk.c != nullptr)
                copy_row(plan_.lanes, plan_.unit_blocks, chunk.c + from, chunk.c + to, chunk.state_stride);
            if (pack_.has_projection()) zero_row(plan_.lanes, plan_.unit_blocks, chunk.cell + from, chunk.gates_stride);
            if (pack_.has_apart()) zero_row(plan_.lanes, plan_.unit_blocks, chunk.apart + from, chunk.gates_stride);
        }
    }

    void emit(const Chunk& chunk, const std::uint8_t* control, std::int64_t row, std::int64_t m, std::int64_t slot,
              std::int64_t t) const {
        const bool sequences = args_.outputs != nullptr;
        if (!sequences && (args_.last_output == nullptr || t != args_.T - 1)) return;
        const std::int64_t stride = sequences ? args_.output.row : P();
        float* const out =
            sequences ? args_.outputs + row * stride + t * args_.output.step : args_.last_output + row * stride;
        table_.unblock_rows(m, P(), chunk.h + slot, chunk.state_stride, out, stride);
        if (control == nullptr) return;
        for (std::int64_t r = 0; r < m; ++r)
            if ((control[r * args_.T] & LN_EMIT) == 0) std::fill_n(out + r * stride, P(), 0.0F);
    }

    // Outputs of steps of the call at which the state stands still.
    void emit_idle(const Chunk& chunk, const Range& steps, std::int64_t row, std::int64_t m, std::int64_t slot) const {
        for (std::int64_t t = args_.first + steps.begin; t < args_.first + steps.end; ++t)
            emit(chunk, control_at(row, t), row, m, slot, t);
    }

    void write_state(float* to, std::int64_t columns, const float* state, const Chunk& chunk, std::int64_t steps,
                     std::int64_t row, std::int64_t m) const {
        if (to != nullptr)
            table_.unblock_rows(m, columns, state + steps * m * plan_.lanes, chunk.state_stride, to + row * columns,
                                columns);
    }

    const GeneralPack& pack_;
    const LnRecurrentForward& args_;
    const GeneralPlan& plan_;
    const KernelTable& table_;
};

GeneralPlan plan_of(const GeneralPack& pack, const LnRecurrentForward& args) {
    return {pack, args.B, args.steps, args.recurrent_mask != nullptr, args.saved != nullptr};
}

}  // namespace

LnStatus general_forward(LnContext* context, const void* opaque, const LnRecurrentForward* args) {
    return guarded(context, [&] {
        const GeneralPack& pack = *static_cast<const GeneralPack*>(opaque);
        const GeneralPlan plan = plan_of(pack, *args);
        const Forward forward(pack, *args, plan);
        const int want =
            static_cast<int>(std::min<std::int64_t>(general_threads(*context, pack, args->B, args->steps), plan.tiles));
        const std::int64_t floats = forward.scratch_floats();
        const core::Block<float> memory = core::allocate_array<float>(static_cast<std::size_t>(want * floats));
        core::parallel_tasks(plan.tiles, want, [&](std::int64_t tile, int rank) {
            forward.run_tile(tile, memory.get() + rank * floats);
        });
    });
}

std::size_t general_step_bytes(const void* opaque, std::int64_t B) {
    const GeneralPack& pack = *static_cast<const GeneralPack*>(opaque);
    LnRecurrentForward args{};
    args.B = B;
    args.T = args.steps = 1;
    const GeneralPlan plan = plan_of(pack, args);
    return static_cast<std::size_t>(plan.tiles * Forward(pack, args, plan).scratch_floats()) * sizeof(float);
}

LnStatus general_step(LnContext* context, const void* opaque, const LnRecurrentForward* args, void* workspace) {
    return guarded(context, [&] {
        const GeneralPack& pack = *static_cast<const GeneralPack*>(opaque);
        const GeneralPlan plan = plan_of(pack, *args);
        const Forward forward(pack, *args, plan);
        const std::int64_t floats = forward.scratch_floats();
        core::parallel_tasks(plan.tiles, general_threads(*context, pack, args->B, 1), [&](std::int64_t tile) {
            forward.run_tile(tile, static_cast<float*>(workspace) + tile * floats);
        });
    });
}

}  // namespace lstm_native::cpu
