// The generator of random.h itself (floor 0), for the host and the device.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace lstm_native::core {

// The words of kBlocks blocks from `block` on, in order; several at once, so that a compiler can use vectors.
template <int kBlocks>
LSTM_NATIVE_HOST_DEVICE inline void philox_blocks(std::uint64_t seed, std::uint64_t offset, std::uint64_t block,
                                                  std::uint32_t* out) {
    // Multipliers and key increments of the paper, table 2 and section 3.
    constexpr std::uint32_t kMultiplier0 = 0xD2511F53u;
    constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57u;
    constexpr std::uint32_t kWeyl0 = 0x9E3779B9u;
    constexpr std::uint32_t kWeyl1 = 0xBB67AE85u;
    constexpr int kRounds = 10;

    std::uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
    for (int j = 0; j < kBlocks; ++j) {
        const std::uint64_t counter = block + static_cast<std::uint64_t>(j);
        c0[j] = static_cast<std::uint32_t>(counter);
        c1[j] = static_cast<std::uint32_t>(counter >> 32);
        c2[j] = static_cast<std::uint32_t>(offset);
        c3[j] = static_cast<std::uint32_t>(offset >> 32);
    }
    auto key0 = static_cast<std::uint32_t>(seed);
    auto key1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < kRounds; ++round) {
        for (int j = 0; j < kBlocks; ++j) {
            const std::uint64_t product0 = std::uint64_t{kMultiplier0} * c0[j];
            const std::uint64_t product1 = std::uint64_t{kMultiplier1} * c2[j];
            c0[j] = static_cast<std::uint32_t>(product1 >> 32) ^ c1[j] ^ key0;
            c2[j] = static_cast<std::uint32_t>(product0 >> 32) ^ c3[j] ^ key1;
            c1[j] = static_cast<std::uint32_t>(product1);
            c3[j] = static_cast<std::uint32_t>(product0);
        }
        key0 += kWeyl0;
        key1 += kWeyl1;
    }
    for (int j = 0; j < kBlocks; ++j) {
        out[4 * j] = c0[j];
        out[4 * j + 1] = c1[j];
        out[4 * j + 2] = c2[j];
        out[4 * j + 3] = c3[j];
    }
}

// What a word is to a mask of dropout: 0 with probability `rate` (0 <= rate < 1), else 1 / (1 - rate).
struct DropoutRule {
    std::uint32_t dropped;  // words below it
    float kept;

    explicit DropoutRule(double rate)
        : dropped(static_cast<std::uint32_t>(rate * 0x1p32)), kept(static_cast<float>(1.0 / (1.0 - rate))) {}
    LSTM_NATIVE_HOST_DEVICE float operator()(std::uint32_t word) const { return word < dropped ? 0.0F : kept; }
};

}  // namespace lstm_native::core
