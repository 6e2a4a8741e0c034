/* The backend table (floor 1): ONE struct of function pointers, an entry per sequence-level operation.
 *
 * Plain C: no exception and no C++ type crosses it, so that a backend may live in a library of its own.
 * Callers (floor 2, csrc/ops) have checked every argument: shapes agree, indices are in range, pointers are
 * valid and not aliased unless said. Arrays are contiguous, row-major, float32 unless said.
 *
 * Shapes by letter: B batch, T time, I input features, H units, G gates, V vocabulary, D embedding
 * width, M rows, K inner size, N columns.
 */
#ifndef LSTM_NATIVE_BACKEND_H
#define LSTM_NATIVE_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LN_BACKEND_VERSION 5

/* A backend in a library of its own exports `const LnBackend* LN_BACKEND_ENTRY(void)`, which touches no device. */
#define LN_BACKEND_ENTRY "lstm_native_backend"

/* Every entry that can fail returns one of these; on failure `context->message` says why. */
typedef enum LnStatus { LN_OK = 0, LN_OUT_OF_MEMORY = 1, LN_RUNTIME_ERROR = 2 } LnStatus;

/* One call's surroundings. */
typedef struct LnContext {
    void* stream;        /* the device's queue; NULL on the CPU */
    int32_t num_threads; /* threads the call may use, the caller included */
    char message[256];   /* written on failure */
} LnContext;

/* Control byte of one (batch row, time step), in processed order. */
enum {
    LN_UPDATE = 1, /* the step is computed; without it h and c are carried over */
    LN_RESET = 2,  /* h and c become initial_h, initial_c (or zero) before the step */
    LN_EMIT = 4    /* the output of the step is h; without it, zero */
};

/* cell and activations are numbers of core/activation.h */
typedef enum LnCell {
    LN_CELL_LSTM = 0,       /* gates i, f, c, o; G = 4 */
    LN_CELL_SIMPLE_RNN = 1, /* G = 1 */
    LN_CELL_GRU = 2,        /* gates z, r, h; G = 3; the reset gate after the recurrent product, bias (2, G*H): of the
                               inputs and of that product */
    LN_CELL_GRU_BEFORE = 3  /* the reset gate before the product */
} LnCell;

/* How weights and their gradients lie. */
typedef enum LnLayout {
    LN_COLUMNS = 0, /* kernel (I, G*H), recurrent_kernel (H, G*H), bias (G*H) or NULL */
    LN_ROWS = 1 /* PyTorch's: kernel (G*H, I), recurrent_kernel (G*H, H), and the gates of a GRU in the order r, z, h */
} LnLayout;

typedef struct LnRecurrentConfig {
    int32_t cell;
    int32_t layout;
    int32_t activation;           /* candidate and cell output */
    int32_t recurrent_activation; /* gates */
    int64_t I, H;
} LnRecurrentConfig;

/* How the elements of a matrix of weights are stored. */
typedef enum LnStorage {
    LN_STORED_FLOAT32 = 0,
    LN_STORED_BFLOAT16 = 1, /* the upper halves of float32 */
    LN_STORED_INT8 = 2      /* multiples of the scale of their column, in an embedding of their row */
} LnStorage;

typedef struct LnMatrix {
    int32_t storage;
    const void* elements;
    const float* scales; /* with LN_STORED_INT8, else NULL */
} LnMatrix;

/* Of an array with axes for batch and time: floats from one row of the batch to the next, and from one time step to the
 * next. The last axis is contiguous. */
typedef struct LnStrides {
    int64_t row, step;
} LnStrides;

/* A call runs the steps [first, first + steps) of a sequence of T, in processed order; arrays with an axis T are those
 * of the whole sequence. */
typedef struct LnRecurrentForward {
    int64_t B, T;
    int64_t first, steps;
    const float* inputs; /* (B, T, I), with the strides `input`; with `index` (R, I) */
    LnStrides input;
    const int32_t* index;   /* (B, T) in [0, R), or NULL: the row of inputs that stands at a step. Each row is projected
                               once, and its gradient summed before the products; R <= B * T. */
    int64_t R;              /* with `index` */
    const uint8_t* control; /* (B, T) or NULL: every step LN_UPDATE | LN_EMIT */
    const float* initial_h; /* (B, H) or NULL: zero */
    const float* initial_c; /* (B, H) or NULL: zero */
    const float* start_h;   /* (B, H) or NULL: initial_h. The state before step `first` */
    const float* start_c;   /* (B, H) or NULL: initial_c */
    const float* recurrent_mask; /* (B, H) or NULL: at every step the recurrent product takes h * recurrent_mask */
    int32_t odd_call;     /* 1 in every second call of a stream: it walks over the weights the other way round, so that
                             caches still hold those which it begins with */
    int32_t go_backwards; /* step s reads inputs (or index)[:, T-1-s]; everything else is in processed order */
    float* outputs;   /* (B, T, H), with the strides `output`, out, or NULL; step s of row b is at b * row + s * step */
    LnStrides output; /* `step` may be below zero */
    float* last_output; /* (B, H), out, or NULL: the output of step T-1; only where outputs is NULL */
    float* last_h;      /* (B, H), out, or NULL: the state after the last step of the call */
    float* last_c;      /* (B, H), out, or NULL */
    void* saved;        /* NULL for inference, else recurrent_saved_bytes bytes for the backward call */
} LnRecurrentForward;

/* Gradients that come in may be NULL (zero); those that go out may be NULL (not wanted). Written, not added, unless
 * said. */
typedef struct LnRecurrentBackward {
    const LnRecurrentForward* forward; /* the arguments of the forward call; inputs, control, saved are read */
    void* saved;                       /* overwritten: good for one backward call */
    const float* d_outputs;            /* (B, T, H), with the strides `output` */
    const float* d_last_output;        /* (B, H); only where d_outputs is NULL */
    const float* d_last_h;             /* (B, H) */
    const float* d_last_c;             /* (B, H) */
    int32_t accumulate;                /* d_kernel to d_initial_c are added to what is there */
    float* d_inputs;                   /* the shape and strides of inputs; without `index` the steps of the call are
                                          written */
    float* d_kernel;                   /* of the weights, in their layout */
    float* d_recurrent_kernel;
    float* d_bias;
    float* d_initial_h; /* (B, H): through resets, and at `first` where start_h is NULL */
    float* d_initial_c; /* (B, H) */
    float* d_start_h;   /* (B, H): of start_h; NULL where that is NULL */
    float* d_start_c;   /* (B, H) */
} LnRecurrentBackward;

/* One of several calls that run together, the directions of a bidirectional layer for instance. */
typedef struct LnRecurrentForwardCall {
    const void* pack;
    const LnRecurrentForward* args;
} LnRecurrentForwardCall;

typedef struct LnRecurrentBackwardCall {
    const void* pack;
    const LnRecurrentBackward* args;
} LnRecurrentBackwardCall;

/* An elementwise function with its parameters: a number of core/activation.h, or of core/parametric.h. */
typedef struct LnFunction {
    int32_t kind;
    float alpha, beta; /* of those of core/parametric.h */
} LnFunction;

/* Cells with what other libraries' models ask for beyond LnRecurrentConfig, on a path of their own. States h and
 * outputs have P columns, c has H; P = H without a projection. Gates as in LnCell, of the LSTM without f where
 * `coupled`. */
typedef struct LnGeneralConfig {
    int32_t cell;
    int32_t layout;  /* LN_ROWS only of an LSTM, without `coupled` */
    int32_t coupled; /* LSTM: f = 1 - i; gates i, c, o, G = 3 */
    int64_t I, H, P;
    float clip; /* what goes into gates and candidate is held within [-clip, clip]; infinity: it is not */
    LnFunction recurrent_activation; /* gates */
    LnFunction activation;           /* candidate */
    LnFunction output_activation;    /* LSTM: of c, in the output */
} LnGeneralConfig;

typedef struct LnGeneralWeights {
    const float* kernel;           /* (I, G*H), or the other layout, as all matrices here */
    const float* recurrent_kernel; /* (P, G*H) */
    const float* bias;             /* as LnRecurrentConfig's, or NULL */
    const float* peepholes;        /* LSTM: (3*H) of i, f, o, or (2*H) of i, o where coupled; NULL: none. i and f see c
                                      before the step, o sees c after it */
    const float* projection;       /* LSTM: (H, P), h = (o a(c)) projection; NULL: none */
} LnGeneralWeights;

typedef enum LnLoss {
    LN_BINARY_CROSSENTROPY = 0,
    LN_CATEGORICAL_CROSSENTROPY = 1,
    LN_SPARSE_CATEGORICAL_CROSSENTROPY = 2,
    LN_MEAN_SQUARED_ERROR = 3,
    LN_MEAN_ABSOLUTE_ERROR = 4,
    LN_HUBER = 5,
    LN_LOG_COSH = 6,
    LN_KL_DIVERGENCE = 7
} LnLoss;

typedef struct LnLossArgs {
    int32_t loss;
    int32_t from_logits;
    float parameter;          /* label smoothing of the cross-entropies, delta of Huber */
    int64_t M, N;             /* rows, columns of the prediction */
    const void* y_true;       /* (M, N) float32; sparse: (M) int32, in [0, N) */
    const float* y_pred;      /* (M, N) */
    const float* row_weights; /* (M) or NULL: ones; scales the gradient, not `rows` */
    float* rows;              /* (M), out: mean loss over the N columns (sum for the categorical ones and
                                 the Kullback-Leibler divergence) */
    float* d_y_pred;          /* (M, N), out, or NULL */
} LnLossArgs;

/* One entry an array of the model; all arrays of an entry have `count` elements. */
typedef struct LnAdamArray {
    float* variable;
    const float* gradient;
    float* m;
    float* v;
    float* v_hat; /* NULL unless amsgrad */
    float decay;  /* variable -= variable * decay before the step; 0: none */
    int64_t count;
} LnAdamArray;

typedef struct LnSgdArray {
    float* variable;
    const float* gradient;
    float* velocity; /* NULL: no momentum */
    float decay;
    int64_t count;
} LnSgdArray;

typedef struct LnNormArray {
    const float* x;
    int64_t count;
} LnNormArray;

typedef struct LnPenaltyArray {
    const float* x;
    double l1, l2;
    float* gradient; /* out, or NULL */
    int64_t count;
} LnPenaltyArray;

/* How the outputs of the two directions of a bidirectional layer become one. */
typedef enum LnMerge { LN_MERGE_CONCAT = 0, LN_MERGE_SUM = 1, LN_MERGE_AVE = 2, LN_MERGE_MUL = 3 } LnMerge;

/* Step t of the outputs, (B, T, U + V) for LN_MERGE_CONCAT and else (B, T, U), is made of forward[:, t] and
 * backward[:, T-1-t]: the latter has its steps in the opposite order. */
typedef struct LnMergeArgs {
    int32_t mode;
    int64_t B, T, U, V;    /* U = V except for LN_MERGE_CONCAT, where either may be 0 */
    const float* forward;  /* (B, T, U); the gradient reads both for LN_MERGE_MUL only */
    const float* backward; /* (B, T, V) */
} LnMergeArgs;

/* Each row of x (M, N): (x - its mean) / sqrt(its variance + epsilon), times gamma, plus beta. */
typedef struct LnLayerNormArgs {
    int64_t M, N;
    float epsilon;
    int32_t rms_scaling; /* the mean is not subtracted; the variance is the same */
    const float* x;      /* (M, N) */
    const float* gamma;  /* (N) or NULL: ones */
    const float* beta;   /* (N) or NULL: zeros */
} LnLayerNormArgs;

/* scores (B, Q, S): sum over D of scale * tanh(query[:, q] + key[:, s]) */
typedef struct LnAdditiveScoresArgs {
    int64_t B, Q, S, D;
    const float* query; /* (B, Q, D) */
    const float* key;   /* (B, S, D) */
    const float* scale; /* (D) or NULL: ones */
} LnAdditiveScoresArgs;

typedef struct LnRmspropArray {
    float* variable;
    const float* gradient;
    float* velocity;
    float* momentum; /* NULL: no momentum */
    float* average;  /* NULL unless centered */
    float decay;
    int64_t count;
} LnRmspropArray;

/* Element (i_0, i_1, ...) of a mask, the last axis first, is made of number sum_k i_k strides[k] of the stream (seed,
 * offset) of core/random.h, of which `numbers` are used. strides[k] is 0, or the product of the extents of the axes
 * before it whose strides are not. */
enum { LN_DROPOUT_AXES = 8 };
typedef struct LnDropoutArgs {
    double rate;
    uint64_t seed, offset;
    int32_t rank;
    int64_t extents[LN_DROPOUT_AXES], strides[LN_DROPOUT_AXES];
    int64_t numbers;
    float* mask; /* the product of the extents */
} LnDropoutArgs;

typedef enum LnCopy { LN_TO_DEVICE = 0, LN_TO_HOST = 1, LN_ON_DEVICE = 2 } LnCopy;

/* What products of float32 matrices may round their elements to: 11 bits of LN_TF32, 8 of LN_BFLOAT16, or LN_FLOAT16,
 * of 11 bits and a small range, for inference only. Their sums, states, weights and everything else stay float32. Packs
 * hold weights so rounded, and calls with a pack do as it does. */
typedef enum LnPrecision { LN_FLOAT32 = 0, LN_TF32 = 1, LN_BFLOAT16 = 2, LN_FLOAT16 = 3 } LnPrecision;

/* How recurrent calls run their steps: as the backend finds best, step by step, or in one launch in one of two ways
 * where the shape allows it; from 8 on in the second way with blocks of so many units. Results agree but for rounding.
 */
typedef enum LnPlan {
    LN_PLAN_AUTO = 0,
    LN_PLAN_STEPS = 1,
    LN_PLAN_BLOCKS = 2,
    LN_PLAN_GRID = 3,
    LN_PLAN_LAUNCHES = 4, /* step by step, each by launches of its own */
    LN_PLAN_GRAPHS = 5,   /* step by step, as a graph where launches come again */
    /* Added to LN_PLAN_GRID, or to a number of units: how the blocks of a grid wait for each other. */
    LN_PLAN_MEETING = 256,
    LN_PLAN_MARKED = 512,
    LN_PLAN_CLUSTER = 768
} LnPlan;

typedef struct LnDeviceInfo {
    char name[128];       /* "NVIDIA H100 80GB HBM3" */
    int32_t major, minor; /* compute capability */
    uint64_t free_bytes, total_bytes;
} LnDeviceInfo;

/* A device with memory of its own. Its work is done in the order of the calls, whatever thread they come from; calls
 * may return before it is done, but host memory that a call read or wrote is the caller's again. */
typedef struct LnDevice {
    uint32_t struct_size; /* sizeof(LnDevice) */
    /* First, and once: what fails says in one sentence what is missing and what to do. `blas`: path of the library of
     * matrix products. */
    LnStatus (*open)(LnContext*);
    LnStatus (*open_blas)(LnContext*, const char* blas);
    LnStatus (*info)(LnContext*, LnDeviceInfo*);
    void (*set_precision)(int32_t precision);                      /* of the calls from now on */
    void (*set_plan)(int32_t plan);                                /* likewise */
    LnStatus (*allocate)(LnContext*, size_t bytes, void** memory); /* aligned to 256; 0 bytes are fine */
    void (*release)(void* memory);
    LnStatus (*copy)(LnContext*, int32_t direction, size_t bytes, const void* from, void* to);
    LnStatus (*zero)(LnContext*, size_t bytes, void* memory);
    LnStatus (*synchronize)(LnContext*); /* returns when all work is done */
    /* For arrays that other libraries share. The queue of all work, a cudaStream_t; work that `stream` is given from
     * now on begins when what is in the queue is done; the other way round; returns when the work of all libraries is
     * done. */
    void* (*queue)(void);
    LnStatus (*hand_over)(LnContext*, void* stream);
    LnStatus (*take_back)(LnContext*, void* stream);
    LnStatus (*settle)(LnContext*);
    /* A mark behind what is in the queue; whether that is done, 1 or 0, and with 1 the mark is no more. */
    LnStatus (*set_mark)(LnContext*, void** mark);
    int32_t (*passed)(void* mark);
    /* What calls of `steps` steps on B rows would do, one or 2 at a time, in one sentence each for forward and
     * backward; cut to `size`. */
    LnStatus (*explain)(LnContext*, const LnRecurrentConfig*, int64_t B, int64_t steps, int32_t calls, char* text,
                        size_t size);
} LnDevice;

typedef struct LnBackend {
    uint32_t version;       /* LN_BACKEND_VERSION */
    uint32_t struct_size;   /* sizeof(LnBackend) */
    const char* name;       /* "cpu" */
    const LnDevice* device; /* NULL: arrays lie in the memory of the host */

    /* A number that changes when packs made before can no longer be used (another instruction set, another precision).
     */
    uint64_t (*pack_epoch)(void);

    /* Packs the weights for forward and backward; `*pack` is opaque, immutable, shared by threads. */
    LnStatus (*recurrent_prepare)(LnContext*, const LnRecurrentConfig*, const float* kernel,
                                  const float* recurrent_kernel, const float* bias, void** pack);
    void (*recurrent_release)(void* pack);
    /* Bytes of `saved` for one training call of `steps` steps; `masked`: with a recurrent_mask. */
    size_t (*recurrent_saved_bytes)(const void* pack, int64_t B, int64_t steps, int32_t masked);
    /* Some calls, in any order or at the same time: none reads what another writes, and they write different elements,
     * of the same arrays maybe. Results are those of one after the other: on the CPU bit for bit, on a GPU but for
     * rounding, as the plan may be another one. */
    LnStatus (*recurrent_forward)(LnContext*, int64_t calls, const LnRecurrentForwardCall*);
    /* One time step (T = 1) of inference in `workspace`, recurrent_step_bytes bytes aligned to a cache line: the same
     * bits as recurrent_forward. A batch of few rows asks for no memory. */
    size_t (*recurrent_step_bytes)(const void* pack, int64_t B);
    LnStatus (*recurrent_step)(LnContext*, const void* pack, const LnRecurrentForward*, void* workspace);
    LnStatus (*recurrent_backward)(LnContext*, int64_t calls, const LnRecurrentBackwardCall*);

    /* Dense: y (M, N) = x (M, K) kernel (K, N) + bias (N). */
    LnStatus (*dense_prepare)(LnContext*, int64_t K, int64_t N, const float* kernel, const float* bias, void** pack);
    void (*dense_release)(void* pack);
    LnStatus (*dense_forward)(LnContext*, const void* pack, int64_t M, const float* x, float* y);
    /* d_x (M, K), d_kernel (K, N), d_bias (N); each may be NULL. */
    LnStatus (*dense_backward)(LnContext*, const void* pack, int64_t M, const float* x, const float* d_y, float* d_x,
                               float* d_kernel, float* d_bias);

    /* rows (M, D) = table[ids]; ids (M) in [0, V). */
    LnStatus (*embedding_forward)(LnContext*, int64_t M, int64_t D, const float* table, const int32_t* ids,
                                  float* rows);
    /* d_table (V, D) = sums of the rows of d_rows (M, D) by id, in a fixed order. */
    LnStatus (*embedding_backward)(LnContext*, int64_t M, int64_t D, int64_t V, const int32_t* ids, const float* d_rows,
                                   float* d_table);

    /* Elementwise over M*N, or along the N columns of each row (softmax, ...). y may be x. */
    LnStatus (*activation_forward)(LnContext*, int32_t activation, int64_t M, int64_t N, const float* x, float* y);
    /* d_x may be d_y. */
    LnStatus (*activation_backward)(LnContext*, int32_t activation, int64_t M, int64_t N, const float* x,
                                    const float* y, const float* d_y, float* d_x);

    LnStatus (*loss)(LnContext*, const LnLossArgs*);

    /* The betas in double precision: 1 - beta_2 keeps few digits in float. */
    LnStatus (*adam_step)(LnContext*, int64_t arrays, const LnAdamArray*, double alpha, double beta_1, double beta_2,
                          double epsilon);
    LnStatus (*sgd_step)(LnContext*, int64_t arrays, const LnSgdArray*, float learning_rate, float momentum,
                         int32_t nesterov);
    LnStatus (*rmsprop_step)(LnContext*, int64_t arrays, const LnRmspropArray*, float learning_rate, double rho,
                             float momentum, float epsilon);

    /* target += other; target *= factor; target = min(max(target, low), high); result = a * b (count each). */
    LnStatus (*add)(LnContext*, int64_t count, float* target, const float* other);
    LnStatus (*scale)(LnContext*, int64_t count, float* target, float factor);
    LnStatus (*clip)(LnContext*, int64_t count, float* target, float low, float high);
    LnStatus (*multiply)(LnContext*, int64_t count, const float* a, const float* b, float* result);
    /* results[i] = sum of squares of array i, in double precision and a fixed order. */
    LnStatus (*squared_norms)(LnContext*, int64_t arrays, const LnNormArray*, double* results);
    /* results[i] = l1 * sum |x| + l2 * sum x^2 of array i, in double precision and a fixed order. */
    LnStatus (*penalties)(LnContext*, int64_t arrays, const LnPenaltyArray*, double* results);

    LnStatus (*merge_forward)(LnContext*, const LnMergeArgs*, float* outputs);
    /* d_forward (B, T, U), d_backward (B, T, V) with its steps in the opposite order */
    LnStatus (*merge_backward)(LnContext*, const LnMergeArgs*, const float* d_outputs, float* d_forward,
                               float* d_backward);

    /* y (M, N); mean and inverse (1 / sqrt of variance + epsilon), each (M), for backward: both or neither NULL. */
    LnStatus (*layer_norm_forward)(LnContext*, const LnLayerNormArgs*, float* y, float* mean, float* inverse);
    /* d_x (M, N), d_gamma (N), d_beta (N); each may be NULL. beta is not read. */
    LnStatus (*layer_norm_backward)(LnContext*, const LnLayerNormArgs*, const float* mean, const float* inverse,
                                    const float* d_y, float* d_x, float* d_gamma, float* d_beta);

    LnStatus (*additive_scores_forward)(LnContext*, const LnAdditiveScoresArgs*, float* scores);
    /* d_query (B, Q, D), d_key (B, S, D), d_scale (D) or NULL */
    LnStatus (*additive_scores_backward)(LnContext*, const LnAdditiveScoresArgs*, const float* d_scores, float* d_query,
                                         float* d_key, float* d_scale);

    /* What recurrent_* do, for LnGeneralConfig; h, outputs, recurrent_mask and their gradients have P columns. No
     * `index`. */
    LnStatus (*general_prepare)(LnContext*, const LnGeneralConfig*, const LnGeneralWeights*, void** pack);
    void (*general_release)(void* pack);
    size_t (*general_saved_bytes)(const void* pack, int64_t B, int64_t steps, int32_t masked);
    LnStatus (*general_forward)(LnContext*, const void* pack, const LnRecurrentForward*);
    size_t (*general_step_bytes)(const void* pack, int64_t B);
    LnStatus (*general_step)(LnContext*, const void* pack, const LnRecurrentForward*, void* workspace);
    /* d_peepholes, d_projection: the shapes of the weights, or NULL; `accumulate` holds for them too. */
    LnStatus (*general_backward)(LnContext*, const void* pack, const LnRecurrentBackward*, float* d_peepholes,
                                 float* d_projection);

    /* 0 with probability `rate`, else 1 / (1 - rate). */
    LnStatus (*dropout_mask)(LnContext*, const LnDropoutArgs*);

    /* Weights that are stored in fewer bits, for inference: the same as above, but a call with such a pack has no
     * `saved`, and there is no backward. Layout LN_COLUMNS. NULL where the backend has no such weights. */
    LnStatus (*recurrent_prepare_stored)(LnContext*, const LnRecurrentConfig*, const LnMatrix* kernel,
                                         const LnMatrix* recurrent_kernel, const float* bias, void** pack);
    LnStatus (*dense_prepare_stored)(LnContext*, int64_t K, int64_t N, const LnMatrix* kernel, const float* bias,
                                     void** pack);
    LnStatus (*embedding_forward_stored)(LnContext*, int64_t M, int64_t D, const LnMatrix* table, const int32_t* ids,
                                         float* rows);
} LnBackend;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* LSTM_NATIVE_BACKEND_H */
