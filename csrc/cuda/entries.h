// The entries of this backend's table (backend/backend.h says what each does), family by family (floor 1, CUDA).
#pragma once

#include "backend/backend.h"

namespace lstm_native::cuda {

// recurrent.cu
LnStatus recurrent_prepare(LnContext*, const LnRecurrentConfig*, const float* kernel, const float* recurrent_kernel,
                           const float* bias, void** pack);
void recurrent_release(void* pack);
size_t recurrent_saved_bytes(const void* pack, int64_t B, int64_t steps, int32_t masked);
LnStatus recurrent_forward(LnContext*, int64_t calls, const LnRecurrentForwardCall*);
size_t recurrent_step_bytes(const void* pack, int64_t B);
LnStatus recurrent_step(LnContext*, const void* pack, const LnRecurrentForward*, void* workspace);
LnStatus recurrent_backward(LnContext*, int64_t calls, const LnRecurrentBackwardCall*);
LnStatus general_prepare(LnContext*, const LnGeneralConfig*, const LnGeneralWeights*, void** pack);
LnStatus general_forward(LnContext*, const void* pack, const LnRecurrentForward*);
LnStatus general_backward(LnContext*, const void* pack, const LnRecurrentBackward*, float* d_peepholes,
                          float* d_projection);
LnStatus recurrent_explain(LnContext*, const LnRecurrentConfig*, int64_t B, int64_t steps, int32_t calls, char* text,
                           size_t size);

// layers.cu
LnStatus dense_prepare(LnContext*, int64_t K, int64_t N, const float* kernel, const float* bias, void** pack);
void dense_release(void* pack);
LnStatus dense_forward(LnContext*, const void* pack, int64_t M, const float* x, float* y);
LnStatus dense_backward(LnContext*, const void* pack, int64_t M, const float* x, const float* d_y, float* d_x,
                        float* d_kernel, float* d_bias);
LnStatus embedding_forward(LnContext*, int64_t M, int64_t D, const float* table, const int32_t* ids, float* rows);
LnStatus embedding_backward(LnContext*, int64_t M, int64_t D, int64_t V, const int32_t* ids, const float* d_rows,
                            float* d_table);
LnStatus layer_norm_forward(LnContext*, const LnLayerNormArgs*, float* y, float* mean, float* inverse);
LnStatus layer_norm_backward(LnContext*, const LnLayerNormArgs*, const float* mean, const float* inverse,
                             const float* d_y, float* d_x, float* d_gamma, float* d_beta);
LnStatus additive_scores_forward(LnContext*, const LnAdditiveScoresArgs*, float* scores);
LnStatus additive_scores_backward(LnContext*, const LnAdditiveScoresArgs*, const float* d_scores, float* d_query,
                                  float* d_key, float* d_scale);

// activations.cu
LnStatus activation_forward(LnContext*, int32_t activation, int64_t M, int64_t N, const float* x, float* y);
LnStatus activation_backward(LnContext*, int32_t activation, int64_t M, int64_t N, const float* x, const float* y,
                             const float* d_y, float* d_x);

// loss.cu
LnStatus loss(LnContext*, const LnLossArgs*);

// optimizers.cu
LnStatus adam_step(LnContext*, int64_t arrays, const LnAdamArray*, double alpha, double beta_1, double beta_2,
                   double epsilon);
LnStatus sgd_step(LnContext*, int64_t arrays, const LnSgdArray*, float learning_rate, float momentum, int32_t nesterov);
LnStatus rmsprop_step(LnContext*, int64_t arrays, const LnRmspropArray*, float learning_rate, double rho,
                      float momentum, float epsilon);

// arithmetic.cu
LnStatus add(LnContext*, int64_t count, float* target, const float* other);
LnStatus scale(LnContext*, int64_t count, float* target, float factor);
LnStatus clip(LnContext*, int64_t count, float* target, float low, float high);
LnStatus multiply(LnContext*, int64_t count, const float* a, const float* b, float* result);
LnStatus squared_norms(LnContext*, int64_t arrays, const LnNormArray*, double* results);
LnStatus penalties(LnContext*, int64_t arrays, const LnPenaltyArray*, double* results);
LnStatus dropout_mask(LnContext*, const LnDropoutArgs*);
LnStatus merge_forward(LnContext*, const LnMergeArgs*, float* outputs);
LnStatus merge_backward(LnContext*, const LnMergeArgs*, const float* d_outputs, float* d_forward, float* d_backward);

}  // namespace lstm_native::cuda
