// Forward over a whole sequence. Training keeps every chunk in the caller's memory; inference walks through
// one chunk per group of threads again and again.
#include <cstring>

#include "cpu/kernels/isa.h"
#include "cpu/recurrent.h"
#include "cpu/recurrent_indexed.h"
#include "cpu/recurrent_plan.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

using Chunk = RecurrentPlan::Chunk;

class Forward {
public:
    Forward(const RecurrentPack& pack, const LnRecurrentForward& args, const RecurrentPlan& plan)
        : pack_(pack), args_(args), plan_(plan), table_(*pack.table) {}

    // Floats of scratch for one member: the blocked input of a chunk.
    std::int64_t input_floats() const {
        return args_.index != nullptr ? 0 : plan_.input_blocks * plan_.lanes * plan_.largest_tile() * plan_.steps;
    }

    // Floats of a tile's recurrent mask, shared by its members.
    std::int64_t mask_floats() const {
        return args_.recurrent_mask == nullptr ? 0 : plan_.unit_blocks * plan_.lanes * plan_.largest_tile();
    }

    // All steps of one tile. `chunk_memory`: the chunk shared by the group; not used in training. `mask`: scratch for
    // the recurrent mask. `projected`: of indexed inputs.
    void run_tile(std::int64_t tile, const Share& share, float* input, float* chunk_memory, float* mask,
                  const float* projected) const {
        const Range rows = plan_.tile_rows(tile);
        const std::int64_t m = rows.end - rows.begin;
        if (args_.recurrent_mask == nullptr) {
            mask = nullptr;
        } else {
            load_state(args_.recurrent_mask, rows.begin, m, share, mask, m * plan_.lanes);
        }
        Chunk before{};
        std::int64_t before_steps = 0;
        for (std::int64_t n = 0; n < plan_.chunks(); ++n) {
            const std::int64_t steps = plan_.chunk_steps(n);
            float* memory =
                args_.saved == nullptr ? chunk_memory : static_cast<float*>(args_.saved) + plan_.saved_offset(tile, n);
            // Inference uses one layout throughout, so that the state moves from the last slot to the first in place.
            const Chunk chunk = plan_.chunk_at(memory, m, args_.saved == nullptr ? plan_.steps : steps);
            begin_chunk(chunk, before, before_steps, rows.begin, m, share, mask);
            const std::int64_t t = args_.first + n * plan_.steps;
            if (projected == nullptr) {
                block_inputs(pack_, args_, rows.begin, m, t, steps, input);
                project(chunk, m, steps, share, input);
            }
            for (std::int64_t s = 0; s < steps; ++s) {
                if (reset_rows(chunk, rows.begin, m, s, t + s, share)) {
                    mask_h(chunk, m, s, share, mask);
                    share.sync();  // all read the whole h
                }
                step(chunk, rows.begin, m, s, t + s, share, projected);
                mask_h(chunk, m, s + 1, share, mask);
                share.sync();
            }
            before = chunk;
            before_steps = steps;
        }
        write_states(before, before_steps, rows.begin, m, share);
    }

    // The one step of a call of one step, for one tile. Up to `threads` threads take its units piece by piece: nobody
    // waits for another but at the end.
    void run_step(std::int64_t tile, int threads, float* input, float* chunk_memory) const {
        const Range rows = plan_.tile_rows(tile);
        const std::int64_t m = rows.end - rows.begin;
        const Chunk chunk = plan_.chunk_at(chunk_memory, m, 1);
        Share whole{};
        whole.members = 1;
        whole.blocks = {0, plan_.unit_blocks};
        begin_chunk(chunk, Chunk{}, 0, rows.begin, m, whole, nullptr);
        reset_rows(chunk, rows.begin, m, 0, args_.first, whole);
        block_inputs(pack_, args_, rows.begin, m, args_.first, 1, input);
        const auto run_part = [&](const Share& share) {
            project(chunk, m, 1, share, input);
            step(chunk, rows.begin, m, 0, args_.first, share, nullptr);
            write_states(chunk, 1, rows.begin, m, share);
        };
        if (threads == 1 || pack_.kind == CellKind::gru_before) return run_part(whole);
        const std::int64_t pairs = plan_.unit_blocks / 2;
        const std::int64_t pieces = std::min<std::int64_t>({pairs, 4 * threads, 64});
        core::parallel_home_tasks(pieces, threads, [&](std::int64_t piece) {
            const Range part = part_of(pairs, pieces, piece);
            Share share = whole;
            share.blocks = {2 * part.begin, 2 * part.end};
            run_part(share);
        });
    }

private:
    std::int64_t H() const { return pack_.config.H; }
    // Steps walk over the weights to and fro.
    bool is_odd(std::int64_t t) const { return (t + args_.odd_call) % 2 != 0; }

    // Slot 0 of the chunk: the state after the chunk before, or the one that the call starts from.
    void begin_chunk(const Chunk& chunk, const Chunk& before, std::int64_t before_steps, std::int64_t row,
                     std::int64_t m, const Share& share, const float* mask) const {
        if (before_steps == 0) {
            const bool inside = args_.start_h != nullptr;
            load_state(inside ? args_.start_h : args_.initial_h, row, m, share, chunk.h, chunk.state_stride);
            if (chunk.c != nullptr)
                load_state(inside ? args_.start_c : args_.initial_c, row, m, share, chunk.c, chunk.state_stride);
        } else {
            const std::size_t bytes = static_cast<std::size_t>(m * plan_.lanes) * sizeof(float);
            const std::int64_t slot = before_steps * m * plan_.lanes;
            for (std::int64_t b = share.blocks.begin; b < share.blocks.end; ++b) {
                std::memcpy(chunk.h + b * chunk.state_stride, before.h + b * before.state_stride + slot, bytes);
                if (chunk.c != nullptr)
                    std::memcpy(chunk.c + b * chunk.state_stride, before.c + b * before.state_stride + slot, bytes);
            }
        }
        mask_h(chunk, m, 0, share, mask);
        share.sync();
    }

    // What the recurrent product of step s takes, from h; null: h itself.
    void mask_h(const Chunk& chunk, std::int64_t m, std::int64_t s, const Share& share, const float* mask) const {
        const std::int64_t slot = s * m * plan_.lanes;
        if (mask != nullptr)
            apply_mask(pack_, share.blocks, m, chunk.h + slot, mask, chunk.masked_h + slot, chunk.state_stride);
    }

    // Null: zero.
    void load_state(const float* state, std::int64_t row, std::int64_t m, const Share& share, float* to,
                    std::int64_t stride) const {
        const std::int64_t begin = share.blocks.begin * plan_.lanes;
        const std::int64_t columns = std::min(share.blocks.end * plan_.lanes, H()) - begin;
        if (state == nullptr || columns < (share.blocks.end - share.blocks.begin) * plan_.lanes) {
            for (std::int64_t b = share.blocks.begin; b < share.blocks.end; ++b)
                std::memset(to + b * stride, 0, static_cast<std::size_t>(m * plan_.lanes) * sizeof(float));
        }
        if (state != nullptr && columns > 0)
            table_.block_rows(m, columns, state + row * H() + begin, H(), to + share.blocks.begin * stride, stride);
    }

    // Gates of the chunk = bias + inputs * kernel, for the member's units.
    void project(const Chunk& chunk, std::int64_t m, std::int64_t steps, const Share& share, const float* input) const {
        const std::int64_t rows = steps * m;
        Product p{};
        p.rows = rows;
        p.k = pack_.config.I;
        p.a = input;
        p.a_stride = rows * plan_.lanes;
        p.descending = is_odd(0);
        project_inputs(pack_, p, pack_.pairs_of(share.blocks), chunk.gates, chunk.gates_stride);
    }

    void step(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t s, std::int64_t t, const Share& share,
              const float* projected) const {
        const std::int64_t slot = s * m * plan_.lanes;
        CellStep c{};
        c.rows = m;
        c.units = H();
        c.block_begin = share.blocks.begin;
        c.block_end = std::min(share.blocks.end, pack_.unit_blocks());
        c.descending = is_odd(t);
        c.training = args_.saved != nullptr;
        c.activation = pack_.config.activation;
        c.recurrent_activation = pack_.config.recurrent_activation;
        c.w = pack_.recurrent.data.get();
        c.w_stride = pack_.recurrent.stride;
        c.gates = chunk.gates + slot;
        c.gates_stride = chunk.gates_stride;
        if (projected != nullptr) c.projected = rows_of_step(plan_, args_, row, t, projected);
        if (pack_.has_apart()) c.apart = chunk.apart + slot;
        c.apart_block = pack_.apart_block();
        c.h_in = chunk.h + slot;
        c.h_masked = chunk.masked_h + slot;
        c.h_out = chunk.h + slot + m * plan_.lanes;
        if (chunk.c != nullptr) {
            c.c_in = chunk.c + slot;
            c.c_out = chunk.c + slot + m * plan_.lanes;
        }
        c.h_in_stride = c.h_out_stride = c.c_in_stride = c.c_out_stride = chunk.state_stride;
        c.control = args_.control == nullptr ? nullptr : args_.control + row * args_.T + t;
        c.control_stride = args_.T;
        if (args_.outputs != nullptr) {
            c.out = args_.outputs + (row * args_.T + t) * H();
            c.out_stride = args_.T * H();
        } else if (args_.last_output != nullptr && t == args_.T - 1) {
            c.out = args_.last_output + row * H();
            c.out_stride = H();
        }
        if (pack_.kind == CellKind::gru_before) {
            table_.gru_before_reset(c);
            share.sync();  // the second product reads r h of all units
        }
        table_.step[static_cast<int>(pack_.kind)](c);
    }

    // Puts the initial state into the rows that are reset before this step; true when there was one.
    bool reset_rows(const Chunk& chunk, std::int64_t row, std::int64_t m, std::int64_t s, std::int64_t t,
                    const Share& share) const {
        if (args_.control == nullptr) return false;
        const std::int64_t slot = s * m * plan_.lanes;
        bool any = false;
        for (std::int64_t r = 0; r < m; ++r) {
            if ((args_.control[(row + r) * args_.T + t] & LN_RESET) == 0) continue;
            any = true;
            load_state(args_.initial_h, row + r, 1, share, chunk.h + slot + r * plan_.lanes, chunk.state_stride);
            if (chunk.c != nullptr)
                load_state(args_.initial_c, row + r, 1, share, chunk.c + slot + r * plan_.lanes, chunk.state_stride);
        }
        return any;
    }

    // The state after `steps` steps of the chunk, for the caller.
    void write_states(const Chunk& chunk, std::int64_t steps, std::int64_t row, std::int64_t m,
                      const Share& share) const {
        const std::int64_t slot = steps * m * plan_.lanes;
        write_state(chunk.h + slot, chunk.state_stride, row, m, share, args_.last_h);
        if (chunk.c != nullptr) write_state(chunk.c + slot, chunk.state_stride, row, m, share, args_.last_c);
    }

    void write_state(const float* from, std::int64_t stride, std::int64_t row, std::int64_t m, const Share& share,
                     float* to) const {
        const std::int64_t begin = share.blocks.begin * plan_.lanes;
        const std::int64_t columns = std::min(share.blocks.end * plan_.lanes, H()) - begin;
        if (to == nullptr || columns <= 0) return;
        table_.unblock_rows(m, columns, from + share.blocks.begin * stride, stride, to + row * H() + begin, H());
    }

    const RecurrentPack& pack_;
    const LnRecurrentForward& args_;
    const RecurrentPlan& plan_;
    const KernelTable& table_;
};

}  // namespace

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

ColumnBlocks columns_of(CellKind kind, std::int64_t units, std::int64_t lanes) {
    switch (kind) {
        case CellKind::lstm:
            return {4, units, lanes};
        case CellKind::simple_rnn:
            return {1, units, lanes};
        default:
            return {2, units, lanes, 1};
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
    return guarded(context, [&] {
        auto made = std::make_unique<RecurrentPack>();
        made->table = &kernels();
        made->config = *config;
        made->kind = kind_of(config->cell);
        made->columns = columns_of(made->kind, config->H, made->table->lanes);
        made->kernel = pack_pairs(made->columns, config->I, kernel);
        made->recurrent = pack_pairs(made->columns, config->H, recurrent_kernel);
        made->bias = pack_bias(made->columns, bias);
        if (made->kind == CellKind::gru) pack_recurrent_bias(*made, bias);
        *pack = made.release();
    });
}

void recurrent_release(void* pack) { delete static_cast<RecurrentPack*>(pack); }

std::size_t recurrent_saved_bytes(const void* pack, std::int64_t B, std::int64_t steps, std::int32_t masked) {
    const RecurrentPlan plan(*static_cast<const RecurrentPack*>(pack), B, steps, masked != 0);
    return static_cast<std::size_t>(core::checked_mul(plan.saved_floats(), sizeof(float)));
}

namespace {
void run_sequence(const RecurrentPack& pack, const LnRecurrentForward& args, const RecurrentPlan& plan, int want) {
    const Forward forward(pack, args, plan);
    core::Block<float> projected;
    if (args.index != nullptr) {
        projected = core::allocate_array<float>(static_cast<std::size_t>(indexed_floats(plan, args)));
        project_rows(pack, plan, args, want, projected.get());
    }
    const std::int64_t input = forward.input_floats();
    const std::int64_t chunk = args.saved == nullptr ? plan.chunk_floats(plan.largest_tile(), plan.steps) : 0;
    const std::int64_t mask = forward.mask_floats();
    const core::Block<float> memory =
        core::allocate_array<float>(static_cast<std::size_t>(want * (input + chunk + mask)));
    float* const inputs = memory.get();
    float* const chunks = inputs + want * input;
    float* const masks = chunks + want * chunk;
    run_tiles(plan, pack, want, [&](std::int64_t tile, const Share& share) {
        forward.run_tile(tile, share, inputs + share.rank * input, chunks + share.group * chunk,
                         masks + share.group * mask, projected.get());
    });
}
}  // namespace

LnStatus recurrent_forward(LnContext* context, const void* opaque, const LnRecurrentForward* args) {
    return guarded(context, [&] {
        const RecurrentPack& pack = *static_cast<const RecurrentPack*>(opaque);
        const RecurrentPlan plan(pack, args->B, args->steps, args->recurrent_mask != nullptr);
        run_sequence(pack, *args, plan, recurrent_threads(*context, plan, pack));
    });
}

std::size_t recurrent_step_bytes(const void* opaque, std::int64_t B) {
    const RecurrentPack& pack = *static_cast<const RecurrentPack*>(opaque);
    const RecurrentPlan plan(pack, B, 1, false);
    const LnRecurrentForward args{};
    const std::int64_t floats =
        Forward(pack, args, plan).input_floats() + plan.chunk_floats(plan.largest_tile(), plan.steps);
    return static_cast<std::size_t>(core::checked_mul(floats, sizeof(float)));
}

LnStatus recurrent_step(LnContext* context, const void* opaque, const LnRecurrentForward* args, void* workspace) {
    return guarded(context, [&] {
        const RecurrentPack& pack = *static_cast<const RecurrentPack*>(opaque);
        const RecurrentPlan plan(pack, args->B, 1, false);
        const int threads = recurrent_threads(*context, plan, pack);
        if (threads > 1 && plan.tiles > 1) return run_sequence(pack, *args, plan, threads);
        const Forward forward(pack, *args, plan);
        float* const input = static_cast<float*>(workspace);
        float* const chunk = input + forward.input_floats();
        for (std::int64_t tile = 0; tile < plan.tiles; ++tile) forward.run_step(tile, threads, input, chunk);
    });
}

}  // namespace lstm_native::cpu
