// Forward over a whole sequence. Training keeps every step in the caller's memory; inference goes round in little
// memory for each group of threads.
#include "cpu/kernels/isa.h"
#include "cpu/recurrent.h"
#include "cpu/recurrent_indexed.h"
#include "cpu/recurrent_tile.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

class ForwardTile : RecurrentTile {
public:
    // `scratch`: memory of the tile for inference; in training it is that of the call.
    ForwardTile(const RecurrentPlan& plan, const LnRecurrentForward& args, std::int64_t tile, const Share& share,
                float* scratch)
        : RecurrentTile(plan, args, tile, share, args.saved != nullptr ? Kept::all : Kept::few,
                        args.saved != nullptr ? static_cast<float*>(args.saved) : scratch) {}

    // All steps. `projected`: the rows of indexed inputs, or null. Scratch: `input` for the inputs of a chunk, of this
    // member; `mask` for the recurrent mask, of all members of the tile.
    void run(const float* projected, float* input, float* mask) {
        projected_ = projected;
        if (plan_.masked) {
            load_state(call_.recurrent_mask, rows_.begin, rows(), mask, rows() * plan_.lanes);
            mask_ = mask;
        }
        load_start(active_.begin);
        mask_h(active_.begin);
        share_.sync();
        emit_idle({0, active_.begin}, active_.begin);
        for (std::int64_t n = 0; n < plan_.chunks(); ++n) {
            const Range steps = active_part(plan_, n, active_);
            if (steps.begin == steps.end) continue;
            if (projected_ == nullptr) {
                block_inputs(plan_, call_, rows_, steps, input);
                project(n, steps, input);
            }
            for (std::int64_t t = steps.begin; t < steps.end; ++t) {
                if (reset_rows(t)) {
                    mask_h(t);
                    share_.sync();  // all read the whole h
                }
                step(n, t);
                mask_h(t + 1);
                share_.sync();
            }
        }
        write_state(active_.end);
        emit_idle({active_.end, plan_.T}, active_.end);
    }

    // The one step of a call of one step; this member has all units. Up to `threads` threads take them piece by piece:
    // nobody waits for another but at the end.
    void run_step(int threads, float* input) {
        load_start(0);
        reset_rows(0);
        block_inputs(plan_, call_, rows_, {0, 1}, input);
        const auto run_part = [input](const ForwardTile& part) {
            part.project(0, {0, 1}, input);
            part.step(0, 0);
            part.write_state(1);
        };
        if (threads == 1 || pack_.kind == CellKind::gru_before) return run_part(*this);
        const std::int64_t pairs = plan_.unit_blocks / 2;
        const std::int64_t pieces = std::min<std::int64_t>({pairs, 4 * threads, 64});
        core::parallel_home_tasks(pieces, threads, [&](std::int64_t piece) {
            const Range of_piece = part_of(pairs, pieces, piece);
            ForwardTile part = *this;
            part.share_.blocks = {2 * of_piece.begin, 2 * of_piece.end};
            run_part(part);
        });
    }

private:
    // Steps walk over the weights to and fro.
    bool is_odd(std::int64_t step) const { return (step + call_.odd_call) % 2 != 0; }

    // The state that the call starts from, as that before step t.
    void load_start(std::int64_t t) const {
        const bool inside = call_.start_h != nullptr;
        const TileMemory::State start = memory_.state(t);
        load_state(inside ? call_.start_h : call_.initial_h, rows_.begin, rows(), start.h, start.stride);
        if (start.c != nullptr)
            load_state(inside ? call_.start_c : call_.initial_c, rows_.begin, rows(), start.c, start.stride);
    }

    // What the recurrent product of step t takes, from h.
    void mask_h(std::int64_t t) const {
        if (mask_ == nullptr) return;
        const TileMemory::State state = memory_.state(t);
        apply_mask(state.h, mask_, state.masked_h, state.stride);
    }

    // Puts the initial state into the rows that are reset before step t; true when there was one.
    bool reset_rows(std::int64_t t) const {
        if (call_.control == nullptr) return false;
        const std::uint8_t* const control = call_.control + sequence_step(call_, t);
        const TileMemory::State state = memory_.state(t);
        bool any = false;
        for (std::int64_t row = rows_.begin; row < rows_.end; ++row) {
            if ((control[row * call_.T] & LN_RESET) == 0) continue;
            any = true;
            const std::int64_t place = (row - rows_.begin) * plan_.lanes;
            load_state(call_.initial_h, row, 1, state.h + place, state.stride);
            if (state.c != nullptr) load_state(call_.initial_c, row, 1, state.c + place, state.stride);
        }
        return any;
    }

    // Gates of some steps of a chunk = bias + inputs * kernel, for the member's units.
    void project(std::int64_t chunk, const Range& steps, const float* input) const {
        const TileMemory::Gates gates = memory_.step_gates(chunk, steps.begin);
        Product p{};
        p.rows = (steps.end - steps.begin) * rows();
        p.k = pack_.config.I;
        p.a = input;
        p.a_stride = p.rows * plan_.lanes;
        p.descending = is_odd(0);
        project_inputs(pack_, p, pack_.pairs_of(share_.blocks), gates.data, gates.stride);
    }

    void step(std::int64_t chunk, std::int64_t t) const {
        const TileMemory::Gates gates = memory_.step_gates(chunk, t);
        const TileMemory::State in = memory_.state(t);
        const TileMemory::State out = memory_.state(t + 1);
        const std::int64_t s = sequence_step(call_, t);
        CellStep c{};
        c.rows = rows();
        c.units = H();
        c.block_begin = share_.blocks.begin;
        c.block_end = std::min(share_.blocks.end, pack_.unit_blocks());
        c.descending = is_odd(s);
        c.training = call_.saved != nullptr;
        c.activation = pack_.config.activation;
        c.recurrent_activation = pack_.config.recurrent_activation;
        c.w = pack_.recurrent.weights();
        c.gates = gates.data;
        c.gates_stride = gates.stride;
        if (projected_ != nullptr) c.projected = rows_of_step(plan_, call_, rows_.begin, t, projected_);
        if (pack_.has_apart()) c.apart = gates.apart;
        c.apart_block = pack_.apart_block();
        c.h_in = in.h;
        c.h_masked = in.masked_h;
        c.c_in = in.c;
        c.h_out = out.h;
        c.c_out = out.c;
        c.h_in_stride = c.c_in_stride = in.stride;
        c.h_out_stride = c.c_out_stride = out.stride;
        c.control = call_.control == nullptr ? nullptr : call_.control + rows_.begin * call_.T + s;
        c.control_stride = call_.T;
        c.out = outputs_at(s, &c.out_stride);
        if (pack_.kind == CellKind::gru_before) {
            table_.gru_before_reset(c);
            share_.sync();  // the second product reads r h of all units
        }
        table_.step[static_cast<int>(pack_.kind)](c);
    }

    // Where the outputs of step s of the sequence go, for the tile's first row; null: nowhere.
    float* outputs_at(std::int64_t s, std::int64_t* row_stride) const {
        if (call_.outputs != nullptr) {
            *row_stride = call_.output.row;
            return call_.outputs + rows_.begin * call_.output.row + s * call_.output.step;
        }
        *row_stride = H();
        return call_.last_output != nullptr && s == call_.T - 1 ? call_.last_output + rows_.begin * H() : nullptr;
    }

    // Outputs of steps at which the state stands still, as it is before step t.
    void emit_idle(const Range& steps, std::int64_t t) const {
        const TileMemory::State state = memory_.state(t);
        const float* const h = state.h + share_.blocks.begin * state.stride;
        for (std::int64_t idle = steps.begin; idle < steps.end; ++idle) {
            const std::int64_t s = sequence_step(call_, idle);
            std::int64_t stride = 0;
            float* const out = outputs_at(s, &stride);
            if (out == nullptr || unit_count() == 0) continue;
            for (std::int64_t r = 0; r < rows(); ++r) {
                float* const to = out + r * stride + first_unit();
                if ((call_.control[(rows_.begin + r) * call_.T + s] & LN_EMIT) != 0) {
                    table_.unblock_rows(1, unit_count(), h + r * plan_.lanes, state.stride, to, H());
                } else {
                    std::fill_n(to, unit_count(), 0.0F);
                }
            }
        }
    }

    // The state before step t, for the caller.
    void write_state(std::int64_t t) const {
        const TileMemory::State state = memory_.state(t);
        unblock_state(state.h, state.stride, call_.last_h);
        if (state.c != nullptr) unblock_state(state.c, state.stride, call_.last_c);
    }

    void unblock_state(const float* from, std::int64_t stride, float* to) const {
        if (to == nullptr || unit_count() == 0) return;
        table_.unblock_rows(rows(), unit_count(), from + share_.blocks.begin * stride, stride,
                            to + rows_.begin * H() + first_unit(), H());
    }

    const float* projected_ = nullptr;
    const float* mask_ = nullptr;  // null: none
};

void run_sequences(const Plans& plans, const LnRecurrentForwardCall* call, int want) {
    const auto args = [call](std::int64_t n) -> const LnRecurrentForward& { return *call[n].args; };
    std::vector<core::Block<float>> projected;  // of those with indexed inputs
    for (std::int64_t n = 0; n < plans.count; ++n) {
        if (args(n).index == nullptr) continue;
        projected.resize(static_cast<std::size_t>(plans.count));
        core::Block<float>& rows = projected[static_cast<std::size_t>(n)];
        rows = core::allocate_array<float>(static_cast<std::size_t>(indexed_floats(plans[n], args(n))));
        project_rows(plans[n], args(n), want, rows.get());
    }
    const std::int64_t input =
        plans.largest([&](std::int64_t n) { return args(n).index != nullptr ? 0 : plans[n].input_floats(); });
    const std::int64_t tile_memory = plans.largest([&](std::int64_t n) {
        return args(n).saved != nullptr ? 0 : plans[n].tile_floats(plans[n].largest_tile(), Kept::few);
    });
    const std::int64_t mask =
        plans.largest([&](std::int64_t n) { return plans[n].masked ? plans[n].state_floats() : 0; });
    const core::Block<float> scratch =
        core::allocate_array<float>(static_cast<std::size_t>(want * (input + tile_memory + mask)));
    float* const inputs = scratch.get();
    float* const memories = inputs + want * input;
    float* const masks = memories + want * tile_memory;
    run_tiles(plans, want, [&](std::int64_t n, std::int64_t tile, const Share& share) {
        const float* const rows = projected.empty() ? nullptr : projected[static_cast<std::size_t>(n)].get();
        ForwardTile(plans[n], args(n), tile, share, memories + share.group * tile_memory)
            .run(rows, inputs + share.rank * input, masks + share.group * mask);
    });
}

}  // namespace

std::size_t recurrent_saved_bytes(const void* pack, std::int64_t B, std::int64_t steps, std::int32_t masked) {
    const RecurrentPlan plan(*static_cast<const RecurrentPack*>(pack), B, steps, masked != 0);
    return static_cast<std::size_t>(core::checked_mul(plan.tile_floats(B, Kept::all), sizeof(float)));
}

LnStatus recurrent_forward(LnContext* context, std::int64_t calls, const LnRecurrentForwardCall* call) {
    return guarded(context, [&] {
        const auto plan_of = [](const LnRecurrentForwardCall& one) {
            return RecurrentPlan(*static_cast<const RecurrentPack*>(one.pack), one.args->B, one.args->steps,
                                 one.args->recurrent_mask != nullptr);
        };
        run_plans(*context, calls, call, plan_of, [&](const Plans& some, const LnRecurrentForwardCall* of_them) {
            run_sequences(some, of_them, recurrent_threads(*context, some));
        });
    });
}

std::size_t recurrent_step_bytes(const void* pack, std::int64_t B) {
    const RecurrentPlan plan(*static_cast<const RecurrentPack*>(pack), B, 1, false);
    const std::int64_t floats = plan.input_floats() + plan.tile_floats(plan.largest_tile(), Kept::few);
    return static_cast<std::size_t>(core::checked_mul(floats, sizeof(float)));
}

LnStatus recurrent_step(LnContext* context, const void* pack, const LnRecurrentForward* args, void* workspace) {
    return guarded(context, [&] {
        const RecurrentPlan plan(*static_cast<const RecurrentPack*>(pack), args->B, 1, false);
        const Plans one{&plan, 1};
        const LnRecurrentForwardCall call = {pack, args};
        const int threads = recurrent_threads(*context, one);
        if (threads > 1 && plan.tiles > 1) return run_sequences(one, &call, threads);
        float* const input = static_cast<float*>(workspace);
        Share all_units{};
        all_units.members = 1;
        all_units.blocks = {0, plan.unit_blocks};
        for (std::int64_t tile = 0; tile < plan.tiles; ++tile)
            ForwardTile(plan, *args, tile, all_units, input + plan.input_floats()).run_step(threads, input);
    });
}

}  // namespace lstm_native::cpu
