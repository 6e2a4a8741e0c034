#include "cuda/planner.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "core/error.h"
#include "core/size.h"

namespace lstm_native::cuda {

unsigned blocks_for(std::int64_t count, int each) {
    return static_cast<unsigned>(std::clamp<std::int64_t>(core::ceil_div(count, each), 1, kMostBlocks));
}

std::int64_t steps_per_projection(std::int64_t steps, std::int64_t batch, std::int64_t columns) {
    const std::int64_t bytes = core::checked_mul(core::checked_mul(batch, columns), std::int64_t{sizeof(float)});
    return std::clamp<std::int64_t>(kProjectionBytes / std::max<std::int64_t>(bytes, 1), 1, steps);
}

std::int64_t parts_of_rows(std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kThreads = std::int64_t{1} << 16;  // a few hundred for each of some hundred processors
    constexpr std::int64_t kFewestRows = 16;                  // below, the partial sums cost more than they save
    const std::int64_t wanted = kThreads / std::max<std::int64_t>(columns, 1);
    return std::clamp<std::int64_t>(std::min(wanted, rows / kFewestRows), 1, 1024);
}

LstmPlan plan_lstm(std::int64_t B, std::int64_t H, bool backward, const Offer& offer) {
    // Rows that a processor has to run one beside or after another. A row costs a step about 0.5 us, step by step a
    // step takes about 5 us: estimates, for nothing was measured yet.
    constexpr std::int64_t kMostRows = 8;
    if (H > kMostUnits || offer.processors <= 0) return {};
    const std::int64_t share = core::ceil_div(B, offer.processors);
    if (share > kMostRows) return {};
    for (const int rows : {4, 2, 1}) {
        if (rows > share) continue;
        const std::int64_t rest = std::max<std::int64_t>(H - held_of(rows), 0) * 4 * H;
        // Of a row: h and sums of the gates; or gradients of the gates, partial sums, and of three states.
        const std::int64_t row = backward ? 4 * kMostUnits + 7 * H : kMostUnits + 4 * H;
        const auto floats = static_cast<std::size_t>(rest + rows * row);
        if (floats * sizeof(float) <= offer.shared_bytes)
            return {rows, static_cast<int>(core::round_up(4 * H, kWarp)), floats,
                    0.55 + 0.5 * static_cast<double>(share)};
    }
    return {};
}

ArithmeticCosts costs_of(std::int32_t precision) {
    switch (precision) {
        case LN_FLOAT32:
            return {4, 8, 16, 85.0, 85.0};
        case LN_TF32:
            return {4, 4, 16, 340.0, 680.0};
        default:
            return {2, 4, 8, 680.0, 1360.0};
    }
}

std::int64_t GridPlan::handed_bytes(std::int64_t B, bool backward) const {
    const ArithmeticCosts costs = costs_of(arithmetic);
    const bool marks = exchange == Exchange::marked;
    if (exchange == Exchange::cluster) return 0;
    if (!backward) return 2 * B * stride * (marks ? costs.marked_bytes : costs.operand_bytes);
    return std::int64_t{2} * groups * receivers * rows * members * units * (marks ? 8 : 4);
}

namespace {

// Estimates for an H100, of which nothing was measured; benchmarks/gpu.py prints what is.
constexpr double kClock = 1.7e3;  // in a microsecond
constexpr double kLaunch = 2.5;   // us from one small kernel to the next
constexpr double kStart = 25.0;   // us to start a grid and to load its weights
// From the last store of a step to h in shared memory: 1300 clocks until the counters of others are seen, 300 to clear
// the stores before, 400 for the load.
constexpr double kMeet = 1.2;
constexpr double kMeetAlone = 0.4;  // a block that is the only one: of these only the load
// With marks: 300 clocks to the second level of cache, 700 for the load that finds it there.
constexpr double kMarks = 0.6;
constexpr double kMarksOfCluster = 0.25;      // 250 clocks to another processor, then shared memory
constexpr double kInVain = 1.5;               // loads that come too early
constexpr double kRemotePerProcessor = 16.0;  // bytes in a clock, from others of the cluster
constexpr double kRemoteStore = 8.0;          // clocks
constexpr double kCell = 0.3;                 // us of 256 cells: 290 instructions each, two warps to a scheduler
constexpr double kPass = 0.15;                // us of the barriers of a pass
constexpr double kL2PerProcessor = 48.0;      // bytes in a clock
constexpr double kStreamPerProcessor = 20.0;
constexpr double kL2 = 4.5e6;      // bytes in a us, all processors
constexpr double kL2Bytes = 40e6;  // that stay in it from step to step
constexpr double kMemory = 2.5e6;
constexpr double kSharedPerClock = 100.0;  // bytes

// Elements from row to row, a whole number of tiles, so that the eight rows that tensor cores read together lie in
// different banks of shared memory: 64 bytes more than a multiple of 128 for four bytes each, 32 for two.
int stride_of(std::int64_t depth, int bytes) {
    const std::int64_t period = 128 / bytes;
    std::int64_t stride = core::round_up(depth, 16);
    while (stride % period != 16) stride += 16;
    return static_cast<int>(stride);
}

// Rows that tiles.h may read where there are so many.
int whole_rows(int rows) { return rows <= 8 ? 8 : static_cast<int>(core::round_up(rows, 16)); }

struct Layout {
    std::size_t bytes = 0;
    std::size_t take(std::int64_t wanted) {
        const std::size_t begin = bytes;
        bytes += static_cast<std::size_t>(core::round_up(wanted, std::int64_t{128}));
        return begin;
    }
};

// From the cells of a step to what the next one's products take of them; `owned`: cells of a thread, `blocks`: of all.
double exchange_microseconds(const GridPlan& plan, const RecurrentShape& shape, const ArithmeticCosts& costs,
                             double owned, double blocks) {
    // What a block reads of the others; backward it writes as much.
    const bool marks = plan.exchange != Exchange::meeting;
    const double each =
        shape.backward ? (marks ? 16.0 : 8.0) : static_cast<double>(marks ? costs.marked_bytes : costs.operand_bytes);
    const double handed = static_cast<double>(plan.rows * shape.H) * each;
    if (plan.exchange == Exchange::cluster) {
        // Forward a number goes to all members, one store after the other.
        const double stores = shape.backward ? 0.0 : owned * plan.members * kRemoteStore;
        return kMarksOfCluster + (handed / kRemotePerProcessor + stores) / kClock;
    }
    if (plan.members == 1) return kMeetAlone;
    const double through_l2 = std::max(handed / kL2PerProcessor / kClock, handed * blocks / kL2);
    return marks ? kMarks + kInVain * through_l2 : kMeet + through_l2;
}

// Fills in what follows from units, groups and pass. False where it does not fit.
bool lay_out(GridPlan& plan, const RecurrentShape& shape, const Offer& offer) {
    const std::int64_t rows = plan.rows;
    const std::int64_t units = plan.units;
    const std::int64_t columns = plan.columns();
    // Tensor cores multiply eight rows at least: FMA is as fast for two of them, and does not round.
    plan.arithmetic = shape.precision == LN_TF32 && rows <= 2 ? std::int32_t{LN_FLOAT32} : shape.precision;
    const ArithmeticCosts costs = costs_of(plan.arithmetic);
    const int held = kHeldWords / costs.words;
    std::int64_t tiles = 0;
    Layout layout;
    if (shape.backward) {
        plan.stride = stride_of(columns, costs.operand_bytes);
        plan.depth = static_cast<int>(columns / 16);
        plan.outputs = static_cast<int>(core::ceil_div(shape.H, 32));
        plan.receivers = std::max(plan.members, (plan.outputs * 32 + plan.units - 1) / plan.units);
        if (shape.calls * plan.handed_bytes(shape.B, true) > kHandedBytes) return false;
        tiles = core::ceil_div(plan.outputs, 8) * plan.depth;
        plan.shares_shift = 0;
        while (2 * plan.shares() * rows <= 8 && 2 * plan.shares() <= plan.members) ++plan.shares_shift;
        layout.take(std::int64_t{whole_rows(plan.rows)} * plan.stride * costs.operand_bytes);
        plan.sums_at = layout.bytes;
        plan.given_at = layout.take(2 * rows * (plan.sums + 2) * units * 4);
        plan.state_at = layout.take((plan.shares() + 2) * rows * units * 4);
        if (plan.exchange == Exchange::cluster) {
            if (plan.receivers != plan.members) return false;  // else there were blocks that nobody is
            plan.words_at = layout.take(2 * rows * plan.members * units * 8);
        }
    } else {
        plan.stride = stride_of(shape.H, costs.operand_bytes);
        plan.depth = static_cast<int>(core::ceil_div(core::ceil_div(shape.H, 16), plan.slices()));
        tiles = plan.depth;
        plan.passes = static_cast<int>(core::ceil_div(plan.rows, plan.pass));
        layout.take(std::int64_t{plan.passes > 1 ? 2 : 1} * plan.pass * plan.stride * costs.operand_bytes);
        plan.sums_at = layout.take(std::int64_t{plan.slices()} * plan.pass * (columns + 4) * 4);
        plan.given_at = layout.take(2 * rows * columns * 4);
        plan.state_at = layout.take((2 * rows + plan.sums) * units * 4);  // and the bias
        if (plan.exchange != Exchange::meeting && plan.passes > 1) return false;
        if (plan.exchange == Exchange::cluster)
            plan.words_at = layout.take(2 * rows * plan.stride * costs.marked_bytes);
    }
    if (layout.bytes > offer.shared_bytes) return false;
    const std::int64_t tile_bytes = std::int64_t{costs.words} * 256 * 4;  // of all warps
    const std::int64_t rest = std::max<std::int64_t>(tiles - held, 0);
    const auto room = static_cast<std::int64_t>(offer.shared_bytes - layout.bytes) / tile_bytes;
    plan.shared_tiles = static_cast<int>(std::min(rest, room));
    plan.streamed_tiles = static_cast<int>(rest - plan.shared_tiles);
    plan.rest_at = layout.take(plan.shared_tiles * tile_bytes);
    plan.shared_bytes = layout.bytes;

    const std::int64_t computed = plan.arithmetic == LN_FLOAT32 ? rows : core::round_up(rows, std::int64_t{8});
    const double products = static_cast<double>(tiles * 8 * 512 * computed) / costs.per_clock;
    // Weights that registers do not hold come once for the rows that are multiplied together.
    const auto times = static_cast<double>(core::ceil_div(rows, plan.arithmetic == LN_FLOAT32 ? 4 : 16));
    const double weights = static_cast<double>(plan.shared_tiles * tile_bytes) * times;
    const double streamed = static_cast<double>(plan.streamed_tiles * tile_bytes);
    const double blocks = static_cast<double>(plan.members) * plan.groups * shape.calls;
    const double all_streamed = streamed * blocks;
    const double stream = times * std::max(streamed / kStreamPerProcessor / kClock,
                                           all_streamed / (all_streamed < kL2Bytes ? kL2 : kMemory));
    const auto owned = static_cast<double>(core::ceil_div(rows * units, std::int64_t{256}));  // cells of a thread
    const double exchange = exchange_microseconds(plan, shape, costs, owned, blocks);
    const double cells = kCell * owned + kPass * static_cast<double>(std::max(plan.passes, 1));
    plan.microseconds = exchange + cells + (products + weights / kSharedPerClock) / kClock + stream;
    return true;
}

}  // namespace

double step_by_step_microseconds(const RecurrentShape& shape, const Offer& offer) {
    const double elements = static_cast<double>(shape.B * shape.H);
    const double weights = elements / static_cast<double>(shape.B) * static_cast<double>(shape.gates * shape.H);
    const ArithmeticCosts costs = costs_of(shape.precision);
    const double compute = weights * static_cast<double>(core::round_up(shape.B, std::int64_t{16})) /
                           (costs.blas_per_clock * std::max(offer.processors, 1) * kClock);
    // Weights that the second level of cache holds between steps come from there.
    const double bytes = weights * costs.operand_bytes;
    const double load = bytes / (bytes < kL2Bytes ? kL2 : kMemory);
    const double cells = elements * 40.0 / kMemory;
    return std::max(kLaunch, std::max(compute, load)) + std::max(kLaunch, cells);
}

GridPlan plan_grid(const RecurrentShape& shape, const Offer& offer, std::int32_t wanted) {
    const int only_units = wanted % LN_PLAN_MEETING == LN_PLAN_GRID ? 0 : wanted % LN_PLAN_MEETING;
    const int sums = shape.gates == 1 ? 1 : 4;
    GridPlan best;
    const auto consider = [&](Exchange exchange, int shift, std::int64_t groups_together) {
        const int units = 1 << shift;
        const std::int64_t groups = std::min(groups_together / shape.calls, shape.B);
        if (groups <= 0) return;
        const std::int64_t rows = core::ceil_div(shape.B, groups);
        if (rows > 512) return;
        for (const int pass : {64, 32, 16, 8}) {
            GridPlan plan;
            plan.units = units;
            plan.shift = shift;
            plan.sums = sums;
            plan.exchange = exchange;
            plan.members = static_cast<int>(core::ceil_div(shape.H, units));
            plan.rows = static_cast<int>(rows);
            plan.groups = static_cast<int>(core::ceil_div(shape.B, rows));
            plan.pass = shape.backward ? whole_rows(plan.rows) : pass;
            if (pass > std::max(8, whole_rows(plan.rows)) || !lay_out(plan, shape, offer)) continue;
            if (best.units == 0 || plan.microseconds < best.microseconds) best = plan;
        }
    };
    for (const int shift : {3, 4, 5, 6, 7}) {
        const int units = 1 << shift;
        if (sums * units < 32 || sums * units > 256) continue;  // tiles have 32 columns, eight warps as many each
        if (only_units > 0 && units != only_units) continue;
        const std::int64_t members = core::ceil_div(shape.H, units);
        for (const Exchange exchange : {Exchange::meeting, Exchange::marked, Exchange::cluster}) {
            const std::int32_t way = wanted - wanted % LN_PLAN_MEETING;
            if (way != 0 && way != LN_PLAN_MEETING * (static_cast<int>(exchange) + 1)) continue;
            if (exchange != Exchange::cluster) {
                consider(exchange, shift, offer.together / members);
            } else if (members <= kMostOfCluster) {
                consider(exchange, shift, offer.clusters[static_cast<std::size_t>(members)]);
            }
        }
    }
    return best;
}

namespace {

// The best that a call would do otherwise, microseconds of all its steps, estimated: step by step, and of several calls
// each by itself.
double alone(CellKind cell, const RecurrentShape& shape, const Offer& offer) {
    const auto steps = static_cast<double>(shape.steps);
    const double stepwise = steps * step_by_step_microseconds(shape, offer);
    if (shape.calls == 1) return stepwise;
    RecurrentShape single = shape;
    single.calls = 1;
    const RecurrentPlan plan = plan_recurrent(cell, single, offer, LN_PLAN_AUTO);
    if (plan.blocks.rows > 0) return kStart + steps * plan.blocks.microseconds;
    return plan.grid.units > 0 ? kStart + steps * plan.grid.microseconds : stepwise;
}

}  // namespace

RecurrentPlan plan_recurrent(CellKind cell, const RecurrentShape& shape, const Offer& offer, std::int32_t wanted) {
    RecurrentPlan plan;
    plan.cell = cell;
    plan.shape = shape;
    const auto steps = static_cast<double>(shape.steps);
    if (cell == CellKind::other || wanted == LN_PLAN_STEPS) return plan;
    if (cell == CellKind::lstm && wanted <= LN_PLAN_BLOCKS)
        plan.blocks = plan_lstm(shape.B * shape.calls, shape.H, shape.backward, offer);
    if (wanted == LN_PLAN_BLOCKS) return plan;
    const GridPlan grid = plan_grid(shape, offer, wanted == LN_PLAN_AUTO ? std::int32_t{LN_PLAN_GRID} : wanted);
    if (grid.units == 0) return plan;
    if (plan.blocks.rows > 0) {
        if (plan.blocks.microseconds <= grid.microseconds) return plan;
    } else if (wanted == LN_PLAN_AUTO &&
               kStart + steps * grid.microseconds >= shape.calls * alone(cell, shape, offer)) {
        return plan;
    }
    plan.blocks = {};
    plan.grid = grid;
    return plan;
}

namespace {

const char* waiting(Exchange exchange) {
    switch (exchange) {
        case Exchange::meeting:
            return "which wait for each other after every step";
        case Exchange::marked:
            return "which wait for each other's numbers";
        default:
            return "clusters that write into each other's shared memory";
    }
}

}  // namespace

std::string describe(const RecurrentPlan& plan, const Offer& offer) {
    const RecurrentShape& shape = plan.shape;
    const std::string direction =
        core::message(shape.backward ? "backward" : "forward", shape.calls == 2 ? " of two calls together" : "");
    std::ostringstream text;
    text << std::fixed << std::setprecision(1) << direction << ": ";
    if (plan.blocks.rows > 0) {
        text << "all steps in one launch of " << shape.calls * core::ceil_div(shape.B, plan.blocks.rows)
             << " blocks, each with the whole recurrent kernel and " << plan.blocks.rows << " of the batch's rows";
    } else if (plan.grid.units > 0) {
        text << "all steps in one launch of " << shape.calls * plan.grid.groups << " x " << plan.grid.members
             << " blocks, each with " << plan.grid.units << " units and " << plan.grid.rows << " of the batch's rows, "
             << waiting(plan.grid.exchange) << " (" << plan.grid.shared_bytes / 1024 << " KB of shared memory; about "
             << plan.grid.microseconds << " us a step by estimate, " << step_by_step_microseconds(shape, offer)
             << " step by step)";
    } else {
        text << "step by step, a product and a kernel each (about " << step_by_step_microseconds(shape, offer)
             << " us a step by estimate)";
    }
    return text.str();
}

std::string unusable(const Machine& machine) {
    const auto version = [](int v) { return core::message(v / 1000, ".", v % 1000 / 10); };
    if (machine.driver == 0)
        return core::message("no NVIDIA driver was found; install one that supports CUDA ", version(machine.needed));
    if (machine.driver < machine.needed)
        return core::message("the NVIDIA driver supports CUDA ", version(machine.driver), ", expected at least ",
                             version(machine.needed), "; update the driver");
    if (machine.devices == 0)
        return "the NVIDIA driver shows no GPU; check that there is one and that CUDA_VISIBLE_DEVICES does not hide it";
    if (machine.major < 8)
        return core::message("the GPU ", machine.name, " has compute capability ", machine.major, ".", machine.minor,
                             ", expected at least 8.0 (Ampere); use another GPU or to('cpu')");
    return {};
}

}  // namespace lstm_native::cuda
