// Masks of dropout (floor 2).
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace lstm_native::ops {

// A mask of `shape` on `device`: 0 with probability `rate`, else 1 / (1 - rate), the same bits on every device. Its
// numbers fill `drawn`, which broadcasts to `shape`.
core::Tensor dropout_mask(const core::Shape& shape, const core::Shape& drawn, double rate, std::uint64_t seed,
                          std::uint64_t offset, core::Device device);

}  // namespace lstm_native::ops
