// How work is cut into launches (floor 1, CUDA): plain functions of shapes and of what the device offers, tested
// without one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lstm_native::cuda {

inline constexpr int kWarp = 32;
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
struct Offer {
    int processors = 0;
    std::size_t shared_bytes = 0;  // of a block, at most
};

// How the steps of an LSTM run, forward or backward. In a block of its own, a slice of the batch runs all its steps in
// one launch: each thread owns a part of the recurrent kernel, of H elements: a column, or for backward a gate's part
// of a row. It has held_of(rows) of them in registers and the others in shared memory, where the states are, too. That
// is the limit of H.
struct LstmPlan {
    int rows = 0;  // of the batch, a block; 0: step by step, a product and a kernel each
    int threads = 0;
    std::size_t shared_floats = 0;
};
constexpr int held_of(int rows) { return rows < 4 ? 64 : 48; }  // sums of more rows need registers, too
inline constexpr int kMostUnits = 128;                          // of the plan with blocks: 4 H threads
LstmPlan plan_lstm(std::int64_t B, std::int64_t H, bool backward, const Offer& offer);

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
