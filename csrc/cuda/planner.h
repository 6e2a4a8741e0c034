// How work is cut into launches (floor 1, CUDA): plain functions of shapes and of what the device offers, tested
// without one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/backend.h"
#include "core/host_device.h"

namespace lstm_native::cuda {

inline constexpr int kWarpShift = 5;
inline constexpr int kWarp = 1 << kWarpShift;
inline constexpr int kBlock = 256;  // threads of a block
// Blocks of a launch: more than any GPU runs at once; what is left, blocks take in turns.
inline constexpr std::int64_t kMostBlocks = std::int64_t{1} << 16;

// Blocks for `count` items, `each` a block at a time.
unsigned blocks_for(std::int64_t count, int each);

// Steps whose inputs inference projects with one product: their gates fit into kProjectionBytes.
inline constexpr std::int64_t kProjectionBytes = std::int64_t{256} << 20;
std::int64_t steps_per_projection(std::int64_t steps, std::int64_t batch, std::int64_t columns);

// Parts that the rows of a sum by columns are cut into: enough threads for the device, few enough partial sums.
std::int64_t parts_of_rows(std::int64_t rows, std::int64_t columns);

// What a device offers to kernels.
inline constexpr int kMostOfCluster = 16;  // blocks
struct Offer {
    int processors = 0;
    std::size_t shared_bytes = 0;  // of a block, at most
    int together = 0;              // blocks, one a processor, that can run together and wait for each other; or 0
    // Clusters of so many blocks, one a processor, that can run together.
    std::array<int, kMostOfCluster + 1> clusters{};
};

// How the steps of an LSTM run, forward or backward. In a block of its own, a slice of the batch runs all its steps in
// one launch: each thread owns a part of the recurrent kernel, of H elements: a column, or for backward a gate's part
// of a row. It has held_of(rows) of them in registers and the others in shared memory, where the states are, too. That
// is the limit of H.
struct LstmPlan {
    int rows = 0;  // of the batch, a block; 0: step by step, a product and a kernel each
    int threads = 0;
    std::size_t shared_floats = 0;
    double microseconds = 0;  // of a step, estimated
};
constexpr int held_of(int rows) { return rows < 4 ? 64 : 48; }  // sums of more rows need registers, too
inline constexpr int kMostUnits = 128;                          // of the plan with blocks: 4 H threads
// B: of all calls in the launch.
LstmPlan plan_lstm(std::int64_t B, std::int64_t H, bool backward, const Offer& offer);

// Cells that have kernels for all steps in one launch: with tanh and sigmoid, or as the name says. Others go step by
// step, for other activations need the registers that hold weights.
enum class CellKind { other, lstm, gru, simple_rnn, simple_rnn_relu };

// A recurrent call: what decides how its steps run.
struct RecurrentShape {
    std::int64_t B, H, steps;
    int gates;  // of the weights: 4 of an LSTM, 3 of a GRU, 1 of a SimpleRNN
    bool backward;
    std::int32_t precision;  // a LnPrecision
    int calls = 1;           // 2: as many that are alike, in the same launches, with half of the processors each
};

// How products of a precision are computed in tiles.h.
struct ArithmeticCosts {
    int operand_bytes;
    int marked_bytes;  // of an operand that comes with its mark
    int words;         // of a tile, a lane
    // Multiply-adds of a processor in a clock, in tiles.h and in cuBLASLt: two thirds of what an H100's manual promises
    // for FMA, for mma.sync and for wgmma.
    double per_clock, blas_per_clock;
};
ArithmeticCosts costs_of(std::int32_t precision);

inline constexpr int kHeldWords = 128;  // of weights, in a thread's registers: half of them

// How the blocks of a grid wait for each other (waiting.h). `meeting`: numbers lie in global memory, and blocks meet
// after every step, which takes 1.2 us by estimate, but only their bytes move. `marked`: every number comes with a mark
// of its step (marked.h), in global memory: half of that by estimate, twice the bytes. `cluster`: the same, in shared
// memory of the blocks that read it: quickest, for 16 blocks at most.
enum class Exchange { meeting, marked, cluster };

// All steps in one launch of blocks that wait for each other after every step (grid_forward.h, grid_backward.h).
// `members` blocks share a slice of `rows` of the batch, each of them owns `units` units and holds their part of the
// recurrent kernel, in registers, what these do not hold in shared memory, and what that does not in an order of its
// own in global memory.
//
// Forward a block reads h of all units of its rows, and owns all gates of its units: their columns of the kernel.
// Backward it owns the gradients of these gates, and adds what they give to h of all units: every block sums what the
// others made for its own. So both hold the same part of the kernel, and hand on one number for each row and unit.
struct GridPlan {
    int units = 0;  // 8, 16, 32 or 64, of a SimpleRNN 32, 64 or 128; 0: not in this way
    int shift = 0;  // its logarithm
    int sums = 0;   // of products that a unit needs: 4, with a GRU one of them empty, or 1 of a SimpleRNN
    Exchange exchange = Exchange::meeting;
    int members = 0, groups = 0, rows = 0;  // groups: of a call
    int pass = 0;                           // forward: rows whose h is in shared memory at once
    int passes = 0;                         // of a step
    int stride = 0;   // forward: from row to row of what blocks hand on; backward: of the gradients in shared memory
    int depth = 0;    // of the tiles of a warp's output
    int outputs = 0;  // backward: of 32 units, all of them together
    int shares_shift = 0;  // backward: logarithm of shares(), warps that gather the sums of a row, each of some
                           // members, where rows are few
    int receivers = 0;     // of these sums: the members, and where outputs end behind H some that nobody is
    std::int32_t arithmetic = LN_FLOAT32;  // of products, a LnPrecision
    // Where in shared memory: right matrices of products (forward one or two passes); forward sums of the warps and
    // what the inputs give, backward what the forward pass kept; the states and the bias, or what was gathered, and
    // their gradients; weights. With a cluster what others hand on lies at words_at, of two steps.
    std::size_t sums_at = 0, given_at = 0, state_at = 0, rest_at = 0, words_at = 0;
    std::size_t shared_bytes = 0;
    // Tiles of a warp that registers do not hold: so many in shared memory, the others streamed from global memory in
    // every step.
    int shared_tiles = 0, streamed_tiles = 0;
    double microseconds = 0;  // of a step, estimated

    LSTM_NATIVE_HOST_DEVICE int columns() const { return sums * units; }  // of a block's part of the kernel
    // Forward: warps that share an output, each with a slice of k. Its logarithm too, for to divide is long.
    LSTM_NATIVE_HOST_DEVICE int slices() const { return 1 << slices_shift(); }
    LSTM_NATIVE_HOST_DEVICE int shares() const { return 1 << shares_shift; }
    LSTM_NATIVE_HOST_DEVICE int slices_shift() const { return 8 - shift - (sums == 4 ? 2 : 0); }
    // What blocks of a call hand on through global memory, of two steps; backward these are sums of floats.
    std::int64_t handed_bytes(std::int64_t B, bool backward) const;
};
// Where these are more, they do not stay in a cache of 50 MB between two steps, beside the gates that pass by: then all
// of them go through memory in every step, and a product and a kernel for each step are faster.
inline constexpr std::int64_t kHandedBytes = std::int64_t{40} << 20;
// The quickest by estimate, of those that `wanted` allows: LN_PLAN_GRID or a number of units, with or without a way to
// wait. `units` is 0 where nothing fits.
GridPlan plan_grid(const RecurrentShape& shape, const Offer& offer, std::int32_t wanted = LN_PLAN_GRID);

// A product and a kernel for each step: microseconds of a step, estimated.
double step_by_step_microseconds(const RecurrentShape& shape, const Offer& offer);

// How a call runs: in blocks, in a grid, or if it has neither step by step.
struct RecurrentPlan {
    CellKind cell = CellKind::other;
    RecurrentShape shape{};
    LstmPlan blocks;
    GridPlan grid;

    bool one_launch() const { return blocks.rows > 0 || grid.units > 0; }
};
// `wanted`: a LnPlan; with one that does not fit it is step by step. Of two calls without one launch where one after
// the other is faster, each with a plan of its own.
RecurrentPlan plan_recurrent(CellKind cell, const RecurrentShape& shape, const Offer& offer, std::int32_t wanted);
// A plan in one sentence.
std::string describe(const RecurrentPlan& plan, const Offer& offer);

// What was found of driver and device; `reason` of unusable() says in a sentence what is missing, and is empty where
// nothing is. Versions as CUDA writes them: 13000 is 13.0; 0 where there is no driver.
struct Machine {
    int driver = 0;
    int needed = 13000;
    int devices = 0;
    const char* name = "";
    int major = 0, minor = 0;
};
std::string unusable(const Machine& machine);

}  // namespace lstm_native::cuda
