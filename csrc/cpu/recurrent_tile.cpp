#include "cpu/recurrent_tile.h"

#include <cstring>

namespace lstm_native::cpu {

Range active_steps(const LnRecurrentForward& args, const Range& rows) {
    if (args.control == nullptr) return {0, args.steps};
    const auto is_idle = [](std::uint8_t control) { return (control & (LN_UPDATE | LN_RESET)) == 0; };
    Range active{args.steps, 0};
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        const std::uint8_t* const control = args.control + row * args.T + args.first;
        std::int64_t t = 0;
        while (t < active.begin && is_idle(control[t])) ++t;
        active.begin = t;
        for (t = args.steps; t > active.end && is_idle(control[t - 1]);) --t;
        active.end = t;
    }
    return active.end == 0 ? Range{0, 0} : active;
}

void block_inputs(const RecurrentPlan& plan, const LnRecurrentForward& args, const Range& rows, const Range& steps,
                  float* blocked) {
    const KernelTable& table = *plan.pack.table;
    const std::int64_t I = plan.pack.config.I;
    const std::int64_t m = rows.end - rows.begin;
    const std::int64_t count = steps.end - steps.begin;
    const std::int64_t block_stride = count * m * plan.lanes;
    const std::int64_t step = args.go_backwards != 0 ? -args.input.step : args.input.step;
    const float* first = args.inputs + input_place(args, rows.begin, steps.begin);
    if (m == 1) {
        table.block_rows(count, I, first, step, blocked, block_stride);
    } else {
        for (std::int64_t s = 0; s < count; ++s)
            table.block_rows(m, I, first + s * step, args.input.row, blocked + s * m * plan.lanes, block_stride);
    }
}

RecurrentTile::RecurrentTile(const RecurrentPlan& plan, const LnRecurrentForward& args, std::int64_t tile,
                             const Share& share, Kept kept, float* memory)
    : plan_(plan),
      pack_(plan.pack),
      table_(*plan.pack.table),
      call_(args),
      share_(share),
      rows_(plan.tile_rows(tile)),
      active_(active_steps(args, rows_)),
      memory_(plan, tile, kept, memory) {}

std::int64_t RecurrentTile::unit_count() const {
    return std::max<std::int64_t>(0, std::min(share_.blocks.end * plan_.lanes, H()) - first_unit());
}

void RecurrentTile::load_state(const float* state, std::int64_t row, std::int64_t rows, float* to,
                               std::int64_t stride) const {
    const Range& blocks = share_.blocks;
    if (state == nullptr || unit_count() < (blocks.end - blocks.begin) * plan_.lanes) {
        for (std::int64_t b = blocks.begin; b < blocks.end; ++b)
            std::memset(to + b * stride, 0, static_cast<std::size_t>(rows * plan_.lanes) * sizeof(float));
    }
    if (state != nullptr && unit_count() > 0)
        table_.block_rows(rows, unit_count(), state + row * H() + first_unit(), H(), to + blocks.begin * stride,
                          stride);
}

void RecurrentTile::apply_mask(const float* from, const float* mask, float* to, std::int64_t stride) const {
    const std::int64_t count = rows() * plan_.lanes;
    for (std::int64_t b = share_.blocks.begin; b < share_.blocks.end; ++b)
        table_.elementwise.multiply(count, from + b * stride, mask + b * count, to + b * stride);
}

}  // namespace lstm_native::cpu
