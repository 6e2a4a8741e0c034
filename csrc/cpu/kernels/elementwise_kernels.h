// The elementwise micro-kernels as plain function pointers (floor 1), a part of KernelTable. Each works on one
// range on the calling thread; elementwise.cpp cuts the work into ranges.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace lstm_native::cpu {

// Constants of one Adam step over `count` elements; see LnAdamArray.
struct AdamRange {
    float* variable;
    const float* gradient;
    float* m;
    float* v;
    float* v_hat;  // null unless amsgrad
    std::int64_t count;
    float alpha, one_minus_beta_1, one_minus_beta_2, epsilon, decay;
};

struct SgdRange {
    float* variable;
    const float* gradient;
    float* velocity;  // null: no momentum
    std::int64_t count;
    float learning_rate, momentum, decay;
    bool nesterov;
};

struct RmspropRange {
    float* variable;
    const float* gradient;
    float* velocity;
    float* momentum;  // null: none
    float* average;   // null unless centered
    std::int64_t count;
    float learning_rate, one_minus_rho, momentum_factor, epsilon, decay;
};

// Rows of d_rows (M, D) added to the rows of table (V, D) that `ids` names, in row order; only those whose id has
// the lowest bits `part`, as `part_mask` selects.
struct ScatterAdd {
    std::int64_t M, D;
    std::int32_t part_mask, part;
    const std::int32_t* ids;
    const float* d_rows;
    float* table;
};

struct ElementwiseKernels {
    // `kind` is a number of core/activation.h. y may be x; d_x may be d_y.
    void (*activation)(std::int32_t kind, std::int64_t count, const float* x, float* y);
    void (*activation_gradient)(std::int32_t kind, std::int64_t count, const float* x, const float* y, const float* d_y,
                                float* d_x);
    // softmax or log_softmax of M rows of N columns.
    void (*softmax)(bool log, std::int64_t M, std::int64_t N, const float* x, float* y);
    void (*softmax_gradient)(bool log, std::int64_t M, std::int64_t N, const float* y, const float* d_y, float* d_x);
    // Rows [begin, end) of a loss and of its gradient.
    void (*loss)(const LnLossArgs& args, std::int64_t begin, std::int64_t end);
    void (*scatter_add)(const ScatterAdd& args);
    void (*adam)(const AdamRange& range);
    void (*sgd)(const SgdRange& range);
    void (*rmsprop)(const RmspropRange& range);
    void (*add)(std::int64_t count, float* target, const float* other);
    void (*scale)(std::int64_t count, float* target, float factor);
    void (*clip)(std::int64_t count, float* target, float low, float high);
    void (*multiply)(std::int64_t count, const float* a, const float* b, float* result);
    // Gradient of l1 * sum |x| + l2 * sum x^2.
    void (*penalty_gradient)(std::int64_t count, const float* x, float l1, float l2, float* gradient);
};

}  // namespace lstm_native::cpu
