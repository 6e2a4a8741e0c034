// The outputs of the two directions of a bidirectional layer as one tensor (floor 2).
#pragma once

#include <cstdint>
#include <string>

#include "backend/backend.h"
#include "core/tensor.h"

namespace lstm_native::ops {

// invalid_argument unless `name` is concat, sum, ave or mul.
LnMerge merge_from_name(const std::string& name);

// forward and backward (B, T, units), or (B, units): step t of the result joins step t of `forward` with step T-1-t of
// `backward`. Their units may differ for concat only; `forward` may be undefined then, which leaves `backward` with its
// steps in the opposite order. invalid_argument where they do not fit.
core::Tensor merge_forward(LnMerge mode, const core::Tensor& forward, const core::Tensor& backward);

struct MergeGradients {
    core::Tensor d_forward, d_backward;  // the former undefined where `forward_units` is 0
};
// From the gradient of the result, whose forward part had `forward_units`. `forward` and `backward` as in the call of
// merge_forward for mul, else undefined.
MergeGradients merge_backward(LnMerge mode, const core::Tensor& d_outputs, std::int64_t forward_units,
                              const core::Tensor& forward, const core::Tensor& backward);

}  // namespace lstm_native::ops
