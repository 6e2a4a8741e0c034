// The declarations below are those of cuBLASLt's documentation,
// https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api, which keeps them within a major version. The numbers are
// those of its enumerations.
#include "cuda/blas.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "core/error.h"
#include "core/library.h"

namespace lstm_native::cuda {
namespace {

using Status = int;  // 0: success
using Opaque = void*;

struct Algorithm {
    std::uint64_t data[8];
};
struct Heuristic {
    Algorithm algorithm;
    std::size_t workspace_bytes;
    Status state;
    float waves;
    int reserved[4];
};
static_assert(sizeof(Heuristic) == 96, "cublasLtMatmulHeuristicResult_t");

constexpr int kFloat32 = 0, kFloat16 = 2, kBfloat16 = 14;  // CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF
constexpr int kComputeFloat32 = 68, kComputeTf32 = 77;     // CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
constexpr int kTransposeA = 3, kTransposeB = 4, kEpilogue = 7, kBiasPointer = 8;  // of a product
constexpr int kWorkspaceBytes = 1, kReductionSchemes = 3, kFirstAlignment = 5;    // of a preference; A, B, C, D
constexpr std::int32_t kNoTranspose = 0, kTranspose = 1;
constexpr std::int32_t kPlainEpilogue = 1, kBiasEpilogue = 4;
// None, in the type of the computation, of the output. Not in place: its order is not fixed.
constexpr std::uint32_t kFixedOrderReductions = 2 | 4;

constexpr std::size_t kMostPlans = 4096;

// The largest power of two up to 256 that divides an address.
std::uint32_t alignment_of(const void* address) {
    const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256U;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
}

template <class T>
MatrixOf<void> elements(const MatrixOf<T>& matrix) {
    return {matrix.data, matrix.stride, matrix.transposed};
}

}  // namespace

struct Blas::Functions {
    Status (*create)(Opaque*);
    Status (*matmul)(Opaque, Opaque, const void*, const void*, Opaque, const void*, Opaque, const void*, const void*,
                     Opaque, void*, Opaque, const Algorithm*, void*, std::size_t, void*);
    Status (*heuristic)(Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, Opaque, int, Heuristic*, int*);
    Status (*operation_create)(Opaque*, int, int);
    Status (*operation_set)(Opaque, int, const void*, std::size_t);
    Status (*operation_destroy)(Opaque);
    Status (*layout_create)(Opaque*, int, std::uint64_t, std::uint64_t, std::int64_t);
    Status (*layout_destroy)(Opaque);
    Status (*preference_create)(Opaque*);
    Status (*preference_set)(Opaque, int, const void*, std::size_t);
    Status (*preference_destroy)(Opaque);
    const char* (*status_string)(Status);

    void check(Status status, const char* what) const {
        if (status != 0) throw std::runtime_error(core::message("cuBLASLt: ", what, ": ", status_string(status)));
    }
};

struct Blas::Plans {
    struct Plan {
        Opaque operation = nullptr, a = nullptr, b = nullptr, c = nullptr;
        Algorithm algorithm{};
    };
    using Key = std::array<std::int64_t, 8>;

    std::mutex mutex;
    std::map<Key, Plan> plans;

    static void destroy(const Functions& f, const Plan& plan) {
        for (Opaque layout : {plan.a, plan.b, plan.c})
            if (layout != nullptr) f.layout_destroy(layout);
        if (plan.operation != nullptr) f.operation_destroy(plan.operation);
    }
};

Blas::Blas(const char* path, void* workspace, std::size_t workspace_bytes)
    : functions_(new Functions{}), plans_(new Plans), workspace_(workspace), workspace_bytes_(workspace_bytes) {
    std::string reason;
    void* const library = core::open_library(path, &reason);
    if (library == nullptr)
        throw std::runtime_error(core::message("the library ", path, " (cuBLAS) cannot be opened (", reason,
                                               "); run `pip install lstm-native[cuda]`"));
    const auto find = [&](auto& function, const char* name) {
        void* const address = core::find_function(library, name);
        if (address == nullptr) throw std::runtime_error(core::message(path, " has no function ", name));
        function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
    };
    Functions& f = *functions_;
    find(f.create, "cublasLtCreate");
    find(f.matmul, "cublasLtMatmul");
    find(f.heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(f.operation_create, "cublasLtMatmulDescCreate");
    find(f.operation_set, "cublasLtMatmulDescSetAttribute");
    find(f.operation_destroy, "cublasLtMatmulDescDestroy");
    find(f.layout_create, "cublasLtMatrixLayoutCreate");
    find(f.layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(f.preference_create, "cublasLtMatmulPreferenceCreate");
    find(f.preference_set, "cublasLtMatmulPreferenceSetAttribute");
    find(f.preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(f.status_string, "cublasLtGetStatusString");
    f.check(f.create(&handle_), "start");
}

// cuBLAS takes columns for rows: what it is given is the transpose of all, c^T = b^T a^T.
void Blas::product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<void>& a, const MatrixOf<void>& b,
                   float beta, float* c, std::int64_t c_stride, const float* bias, std::int32_t precision) {
    if (M == 0 || N == 0) return;
    const Functions& f = *functions_;
    const std::uint32_t alignments[4] = {alignment_of(b.data), alignment_of(a.data), alignment_of(c), alignment_of(c)};
    const std::int64_t flags = (a.transposed ? 1 : 0) | (b.transposed ? 2 : 0) | (bias != nullptr ? 4 : 0) |
                               (beta != 0.0F ? 8 : 0) | std::int64_t{precision} << 4;
    const std::int64_t aligned = alignments[0] | std::int64_t{alignments[1]} << 16 | std::int64_t{alignments[2]} << 32;
    const Plans::Key key = {M, N, K, a.stride, b.stride, c_stride, flags, aligned};

    const std::lock_guard<std::mutex> lock(plans_->mutex);
    auto found = plans_->plans.find(key);
    if (found == plans_->plans.end()) {
        if (plans_->plans.size() >= kMostPlans) {
            for (const auto& entry : plans_->plans) Plans::destroy(f, entry.second);
            plans_->plans.clear();
        }
        Plans::Plan plan;
        Opaque preference = nullptr;
        try {
            const int compute = precision == LN_TF32 ? kComputeTf32 : kComputeFloat32;
            const int elements = precision == LN_BFLOAT16 ? kBfloat16 : precision == LN_FLOAT16 ? kFloat16 : kFloat32;
            f.check(f.operation_create(&plan.operation, compute, kFloat32), "product");
            const auto set = [&](int attribute, const auto& value) {
                f.check(f.operation_set(plan.operation, attribute, &value, sizeof value), "attribute");
            };
            set(kTransposeA, b.transposed ? kTranspose : kNoTranspose);
            set(kTransposeB, a.transposed ? kTranspose : kNoTranspose);
            set(kEpilogue, bias != nullptr ? kBiasEpilogue : kPlainEpilogue);
            if (bias != nullptr) set(kBiasPointer, bias);
            const auto layout = [&](Opaque* made, int type, std::int64_t rows, std::int64_t columns,
                                    std::int64_t stride) {
                f.check(f.layout_create(made, type, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), stride),
                        "layout");
            };
            layout(&plan.a, elements, b.transposed ? K : N, b.transposed ? N : K, b.stride);
            layout(&plan.b, elements, a.transposed ? M : K, a.transposed ? K : M, a.stride);
            layout(&plan.c, kFloat32, N, M, c_stride);
            f.check(f.preference_create(&preference), "preference");
            const auto prefer = [&](int attribute, const auto& value) {
                f.check(f.preference_set(preference, attribute, &value, sizeof value), "preference");
            };
            prefer(kWorkspaceBytes, workspace_bytes_);
            prefer(kReductionSchemes, kFixedOrderReductions);
            for (int i = 0; i < 4; ++i) prefer(kFirstAlignment + i, alignments[i]);
            Heuristic best{};
            int results = 0;
            f.check(
                f.heuristic(handle_, plan.operation, plan.a, plan.b, plan.c, plan.c, preference, 1, &best, &results),
                "choice of an algorithm");
            if (results == 0)
                throw std::runtime_error(core::message("cuBLASLt: no algorithm for a product ", M, " x ", K, " x ", N));
            f.check(best.state, "choice of an algorithm");
            plan.algorithm = best.algorithm;
            f.preference_destroy(preference);
        } catch (...) {
            if (preference != nullptr) f.preference_destroy(preference);
            Plans::destroy(f, plan);
            throw;
        }
        found = plans_->plans.emplace(key, plan).first;
    }
    const Plans::Plan& plan = found->second;
    if (bias != nullptr) f.check(f.operation_set(plan.operation, kBiasPointer, &bias, sizeof bias), "bias");
    const float alpha = 1.0F;
    f.check(f.matmul(handle_, plan.operation, &alpha, b.data, plan.a, a.data, plan.b, &beta, c, plan.c, c, plan.c,
                     &plan.algorithm, workspace_, workspace_bytes_, queue_of_thread()),
            "product");
}

void product(std::int64_t M, std::int64_t N, std::int64_t K, const Matrix& a, const Matrix& b, float beta, float* c,
             std::int64_t c_stride, const float* bias, std::int32_t wanted) {
    blas().product(M, N, K, elements(a), elements(b), beta, c, c_stride, bias,
                   wanted == LN_TF32 ? LN_TF32 : LN_FLOAT32);
}

void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<Bfloat16>& a, const MatrixOf<Bfloat16>& b,
             float beta, float* c, std::int64_t c_stride, const float* bias) {
    blas().product(M, N, K, elements(a), elements(b), beta, c, c_stride, bias, LN_BFLOAT16);
}

void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<Float16>& a, const MatrixOf<Float16>& b,
             float beta, float* c, std::int64_t c_stride, const float* bias) {
    blas().product(M, N, K, elements(a), elements(b), beta, c, c_stride, bias, LN_FLOAT16);
}

}  // namespace lstm_native::cuda
