// cuBLASLt, found when the process runs (floor 1, CUDA): its functions are looked up by name, so that nothing of it is
// linked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/runtime.h"

namespace lstm_native::cuda {

// Products on the queue, with scratch memory of `workspace_bytes`. Thread-safe.
class Blas {
public:
    // runtime_error where the library or one of its functions is not found, or it does not start.
    Blas(const char* path, void* workspace, std::size_t workspace_bytes);
    Blas(const Blas&) = delete;
    Blas& operator=(const Blas&) = delete;

    // As product() in runtime.h, of matrices whose elements are those of `precision`, a LnPrecision.
    void product(std::int64_t M, std::int64_t N, std::int64_t K, const MatrixOf<void>& a, const MatrixOf<void>& b,
                 float beta, float* c, std::int64_t c_stride, const float* bias, std::int32_t precision);

private:
    struct Functions;
    struct Plans;
    // Live for ever, as the device does.
    Functions* functions_;
    Plans* plans_;
    void *handle_ = nullptr, *workspace_;
    std::size_t workspace_bytes_;
};

// That of open_blas().
Blas& blas();

}  // namespace lstm_native::cuda
