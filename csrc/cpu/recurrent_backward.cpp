// Backward over a whole sequence. First the steps in reverse: each turns the kept gates of its chunk into
// their gradients, in place, and sends the state's gradient one step back. Then, over all gate gradients at
// once, the weight gradients (recurrent_weight_gradients.h).
#include "cpu/recurrent.h"
#include "cpu/recurrent_tile.h"
#include "cpu/recurrent_weight_gradients.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

// Whether the steps make input gradients: those of indexed inputs come from sums, later.
bool steps_make_d_inputs(const LnRecurrentBackward& args) {
    return args.d_inputs != nullptr && args.forward->index == nullptr;
}

class BackwardTile : RecurrentTile {
public:
    // `states`: scratch of states_floats(), shared by the members of the tile.
    BackwardTile(const RecurrentPlan& plan, const LnRecurrentBackward& args, std::int64_t tile, const Share& share,
                 float* states)
        : RecurrentTile(plan, *args.forward, tile, share, Kept::all, static_cast<float*>(args.saved)),
          args_(args),
          stride_(rows() * plan.lanes) {
        const std::int64_t state = plan.unit_blocks * stride_;
        dh_ = states;
        dc_ = dh_ + state;
        d_masked_ = plan.masked ? dc_ + state : dh_;
        mask_ = plan.masked ? d_masked_ + state : nullptr;
    }

    static std::int64_t states_floats(const RecurrentPlan& plan) { return (plan.masked ? 4 : 2) * plan.state_floats(); }

    // All steps. `input`: scratch for the input gradients of a chunk, of this member.
    void run(float* input) const {
        if (mask_ != nullptr) load_state(call_.recurrent_mask, rows_.begin, rows(), mask_, stride_);
        load_state(args_.d_last_h, rows_.begin, rows(), dh_, stride_);
        if (pack_.has_cell_state()) load_state(args_.d_last_c, rows_.begin, rows(), dc_, stride_);
        if (args_.accumulate == 0) {
            zero_state(args_.d_initial_h);
            zero_state(args_.d_initial_c);
        }
        idle({active_.end, plan_.T});
        for (std::int64_t n = plan_.chunks(); n-- > 0;) {
            const Range steps = active_part(plan_, n, active_);
            if (steps.begin == steps.end) continue;
            for (std::int64_t t = steps.end; t-- > steps.begin;) step(n, t);
            if (steps_make_d_inputs(args_)) input_gradient(n, steps, input);
        }
        idle({0, active_.begin});
        const bool inside = call_.start_h != nullptr;
        if (inside) {
            zero_state(args_.d_start_h);
            zero_state(args_.d_start_c);
        }
        add_state(inside ? args_.d_start_h : args_.d_initial_h, rows_, dh_);
        if (pack_.has_cell_state()) add_state(inside ? args_.d_start_c : args_.d_initial_c, rows_, dc_);
    }

private:
    void zero_state(float* d_state) const {
        if (d_state == nullptr) return;
        for (std::int64_t row = rows_.begin; row < rows_.end; ++row)
            std::fill_n(d_state + row * H() + first_unit(), unit_count(), 0.0F);
    }

    // d_state += state, for some rows of the batch and the member's units.
    void add_state(float* d_state, const Range& rows, const float* state) const {
        if (d_state == nullptr) return;
        for (std::int64_t row = rows.begin; row < rows.end; ++row) {
            float* const to = d_state + row * H();
            const float* const from = state + (row - rows.begin) * plan_.lanes;
            for (std::int64_t u = first_unit(); u < first_unit() + unit_count(); ++u)
                to[u] += from[u / plan_.lanes * stride_ + u % plan_.lanes];
        }
    }

    // Steps at which the state stands still: their outputs' gradients are the state's, their inputs have none.
    void idle(const Range& steps) const {
        for (std::int64_t t = steps.end; t-- > steps.begin;) {
            const std::int64_t s = sequence_step(call_, t);
            std::int64_t stride = 0;
            const float* const d_out = d_outputs_at(s, &stride);
            for (std::int64_t r = 0; d_out != nullptr && r < rows(); ++r) {
                if ((call_.control[(rows_.begin + r) * call_.T + s] & LN_EMIT) == 0) continue;
                float* const dh = dh_ + r * plan_.lanes;
                const float* const from = d_out + r * stride;
                for (std::int64_t u = first_unit(); u < first_unit() + unit_count(); ++u)
                    dh[u / plan_.lanes * stride_ + u % plan_.lanes] += from[u];
            }
            const Range columns = input_columns();
            if (!steps_make_d_inputs(args_) || columns.begin == columns.end) continue;
            for (std::int64_t row = rows_.begin; row < rows_.end; ++row) {
                float* const d_input = args_.d_inputs + input_place(call_, row, t);
                std::fill(d_input + columns.begin, d_input + columns.end, 0.0F);
            }
        }
    }

    // The gradients of the outputs of step s of the sequence, for the tile's first row; null: none.
    const float* d_outputs_at(std::int64_t s, std::int64_t* row_stride) const {
        if (args_.d_outputs != nullptr) {
            *row_stride = call_.output.row;
            return args_.d_outputs + rows_.begin * call_.output.row + s * call_.output.step;
        }
        *row_stride = H();
        return args_.d_last_output != nullptr && s == call_.T - 1 ? args_.d_last_output + rows_.begin * H() : nullptr;
    }

    void step(std::int64_t chunk, std::int64_t t) const {
        const std::int64_t s = sequence_step(call_, t);
        const CellStepBackward c = cell_step(chunk, t, s);
        table_.step_backward[static_cast<int>(pack_.kind)](c);
        share_.sync();  // the product reads the gate gradients of all units
        if (mask_ != nullptr) load_state(nullptr, rows_.begin, rows(), d_masked_, stride_);  // zero
        const Product p = product_back(c, s);
        if (pack_.kind == CellKind::gru_before) {
            Product reset = p;
            reset.start = Start::zero;
            reset.c = dc_;
            product_of_groups(reset, true);
            table_.gru_before_reset_backward(c);
            share_.sync();
            product_of_groups(p, false);
        } else if (s > 0 || args_.d_initial_h != nullptr) {  // at s = 0 nothing else takes it
            table_.product(p);
        }
        if (mask_ != nullptr) add_masked();
        if (c.control != nullptr) cut_resets(c.control);
    }

    // Step t of the call, `s` of the sequence.
    CellStepBackward cell_step(std::int64_t chunk, std::int64_t t, std::int64_t s) const {
        const TileMemory::Gates gates = memory_.step_gates(chunk, t);
        const TileMemory::State before = memory_.state(t);
        CellStepBackward c{};
        c.rows = rows();
        c.units = H();
        c.block_begin = share_.blocks.begin;
        c.block_end = std::min(share_.blocks.end, pack_.unit_blocks());
        c.activation = pack_.config.activation;
        c.recurrent_activation = pack_.config.recurrent_activation;
        c.gates = gates.data;
        c.gates_stride = gates.stride;
        if (pack_.has_apart()) c.apart = gates.apart;
        c.h_before = before.h;
        c.h_masked = before.masked_h;
        c.c_before = before.c;
        c.h_before_stride = c.c_before_stride = before.stride;
        c.d_out = d_outputs_at(s, &c.d_out_stride);
        c.dh = dh_;
        c.dc = dc_;
        c.d_masked = d_masked_;
        c.d_reset = dc_;
        c.d_stride = stride_;
        c.control = call_.control == nullptr ? nullptr : call_.control + rows_.begin * call_.T + s;
        c.control_stride = call_.T;
        return c;
    }

    // d_masked += gate gradients * recurrent kernel^T, for the member's units.
    Product product_back(const CellStepBackward& c, std::int64_t s) const {
        const PackedPairs& w = pack_.recurrent_transposed();
        Product p{};
        p.start = Start::c;
        p.rows = rows();
        p.k = w.k;
        p.a = c.gates;
        p.a_stride = c.gates_stride;
        p.w = w.weights();
        p.c = d_masked_;
        p.c_stride = stride_;
        p.pair_begin = share_.blocks.begin / 2;
        p.pair_end = std::min(share_.blocks.end / 2, w.pairs);
        p.descending = s % 2 != 0;
        return p;
    }

    // Of that product, the part that comes from the candidates, or that from the other gates.
    void product_of_groups(Product p, bool candidates) const {
        const std::int64_t first = candidates ? 2 * pack_.columns.gates : 0;
        const float* const a = p.a;
        const float* const w = static_cast<const float*>(p.w.elements);
        p.k = 2 * (candidates ? pack_.columns.candidates : pack_.columns.gates) * plan_.lanes;
        for (std::int64_t block = first; block < pack_.columns.count(); block += pack_.columns.group()) {
            p.a = a + block * p.a_stride;
            p.w.elements = w + block * 2 * plan_.lanes * plan_.lanes;
            table_.product(p);
            p.start = Start::c;
        }
    }

    // dh += what reached the masked h, times the mask, for the member's units.
    void add_masked() const {
        apply_mask(d_masked_, mask_, d_masked_, stride_);
        for (std::int64_t b = share_.blocks.begin; b < share_.blocks.end; ++b)
            table_.elementwise.add(stride_, dh_ + b * stride_, d_masked_ + b * stride_);
    }

    // Where a row was reset before this step, its gradients end: in the initial state.
    void cut_resets(const std::uint8_t* control) const {
        for (std::int64_t r = 0; r < rows(); ++r) {
            if ((control[r * call_.T] & LN_RESET) == 0) continue;
            const Range row{rows_.begin + r, rows_.begin + r + 1};
            float* const dh = dh_ + r * plan_.lanes;
            float* const dc = dc_ + r * plan_.lanes;
            add_state(args_.d_initial_h, row, dh);
            if (pack_.has_cell_state()) add_state(args_.d_initial_c, row, dc);
            for (std::int64_t b = share_.blocks.begin; b < share_.blocks.end; ++b) {
                std::fill_n(dh + b * stride_, plan_.lanes, 0.0F);
                std::fill_n(dc + b * stride_, plan_.lanes, 0.0F);
            }
        }
    }

    // The member's part of the features: pairs of column blocks, and the columns in them.
    Range input_pairs() const { return part_of(plan_.input_blocks / 2, share_.members, share_.member); }
    Range input_columns() const {
        const Range pairs = input_pairs();
        const std::int64_t I = pack_.config.I;
        return {std::min(2 * pairs.begin * plan_.lanes, I), std::min(2 * pairs.end * plan_.lanes, I)};
    }

    // d_inputs of some steps of a chunk = gate gradients * kernel^T, for the member's part of the features.
    void input_gradient(std::int64_t chunk, const Range& steps, float* input) const {
        const Range pairs = input_pairs();
        const Range columns = input_columns();
        if (columns.begin == columns.end) return;
        const TileMemory::Gates gates = memory_.step_gates(chunk, steps.begin);
        Product p{};
        p.rows = (steps.end - steps.begin) * rows();
        p.c = input;
        p.c_stride = p.rows * plan_.lanes;
        p.pair_begin = pairs.begin;
        p.pair_end = pairs.end;
        project_back(pack_, p, gates.data, gates.stride);
        const float* from = input + 2 * pairs.begin * p.c_stride;
        for (std::int64_t t = steps.begin; t < steps.end; ++t, from += stride_) {
            float* const to = args_.d_inputs + input_place(call_, rows_.begin, t) + columns.begin;
            table_.unblock_rows(rows(), columns.end - columns.begin, from, p.c_stride, to, call_.input.row);
        }
    }

    const LnRecurrentBackward& args_;
    // Gradients of the state in blocked rows: of h, of c (of r h with GRU), of the masked h (h itself without a mask).
    float* dh_;
    float* dc_;
    float* d_masked_;
    float* mask_;  // null: none
    std::int64_t stride_;
};

void run_back(const LnContext& context, const Plans& plans, const LnRecurrentBackwardCall* call) {
    const auto args = [call](std::int64_t n) -> const LnRecurrentBackward& { return *call[n].args; };
    const int want = recurrent_threads(context, plans);
    // Made here rather than by the first member: it may fail.
    for (std::int64_t n = 0; n < plans.count; ++n) {
        plans[n].pack.recurrent_transposed();
        if (args(n).d_inputs != nullptr) plans[n].pack.kernel_transposed();
    }
    {
        const std::int64_t input =
            plans.largest([&](std::int64_t n) { return steps_make_d_inputs(args(n)) ? plans[n].input_floats() : 0; });
        const std::int64_t states =
            plans.largest([&](std::int64_t n) { return BackwardTile::states_floats(plans[n]); });
        const core::Block<float> scratch =
            core::allocate_array<float>(static_cast<std::size_t>(want * (input + states)));
        float* const of_groups = scratch.get() + want * input;
        run_tiles(plans, want, [&](std::int64_t n, std::int64_t tile, const Share& share) {
            BackwardTile(plans[n], args(n), tile, share, of_groups + share.group * states)
                .run(scratch.get() + share.rank * input);
        });
    }
    weight_gradients(context, plans, call);
}

}  // namespace

LnStatus recurrent_backward(LnContext* context, std::int64_t calls, const LnRecurrentBackwardCall* call) {
    return guarded(context, [&] {
        const auto plan_of = [](const LnRecurrentBackwardCall& one) {
            const LnRecurrentForward& forward = *one.args->forward;
            return RecurrentPlan(*static_cast<const RecurrentPack*>(one.pack), forward.B, forward.steps,
                                 forward.recurrent_mask != nullptr);
        };
        run_plans(*context, calls, call, plan_of, [&](const Plans& some, const LnRecurrentBackwardCall* of_them) {
            run_back(*context, some, of_them);
        });
    });
}

}  // namespace lstm_native::cpu
