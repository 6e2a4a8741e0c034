// Embedding, activations, losses and optimizer steps (floor 1, CPU): how the work of elementwise kernels is cut
// into ranges and spread over threads. Signatures as in backend.h.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace lstm_native::cpu {

LnStatus embedding_forward(LnContext* context, std::int64_t M, std::int64_t D, const float* table,
                           const std::int32_t* ids, float* rows);
LnStatus embedding_forward_stored(LnContext* context, std::int64_t M, std::int64_t D, const LnMatrix* table,
                                  const std::int32_t* ids, float* rows);
LnStatus embedding_backward(LnContext* context, std::int64_t M, std::int64_t D, std::int64_t V, const std::int32_t* ids,
                            const float* d_rows, float* d_table);
LnStatus activation_forward(LnContext* context, std::int32_t activation, std::int64_t M, std::int64_t N, const float* x,
                            float* y);
LnStatus activation_backward(LnContext* context, std::int32_t activation, std::int64_t M, std::int64_t N,
                             const float* x, const float* y, const float* d_y, float* d_x);
LnStatus loss(LnContext* context, const LnLossArgs* args);
LnStatus adam_step(LnContext* context, std::int64_t arrays, const LnAdamArray* array, double alpha, double beta_1,
                   double beta_2, double epsilon);
LnStatus sgd_step(LnContext* context, std::int64_t arrays, const LnSgdArray* array, float learning_rate, float momentum,
                  std::int32_t nesterov);
LnStatus rmsprop_step(LnContext* context, std::int64_t arrays, const LnRmspropArray* array, float learning_rate,
                      double rho, float momentum, float epsilon);
LnStatus add(LnContext* context, std::int64_t count, float* target, const float* other);
LnStatus scale(LnContext* context, std::int64_t count, float* target, float factor);
LnStatus clip(LnContext* context, std::int64_t count, float* target, float low, float high);
LnStatus multiply(LnContext* context, std::int64_t count, const float* a, const float* b, float* result);
LnStatus squared_norms(LnContext* context, std::int64_t arrays, const LnNormArray* array, double* results);
LnStatus penalties(LnContext* context, std::int64_t arrays, const LnPenaltyArray* array, double* results);
LnStatus dropout_mask(LnContext* context, const LnDropoutArgs* args);

}  // namespace lstm_native::cpu
