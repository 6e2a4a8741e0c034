// The functions of cuBLASLt that csrc/cuda/blas.cpp calls, on memory of the host, written after NVIDIA's documentation
// (https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api): columns lie one after the other, D = op(A) op(B) +
// beta C + bias. What the documentation does not allow, or blas.cpp should not ask for, is refused. A stream is null,
// or a graph (cuda_on_host.cpp) that keeps the product for later.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "cuda/half.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

using lstm_native::cuda::Bfloat16;
using lstm_native::cuda::bits_of;
using lstm_native::cuda::Float16;
using lstm_native::cuda::float_of;

enum Status : int { kSuccess = 0, kInvalid = 7, kNotSupported = 15 };
enum DataType : int { kFloat32 = 0, kFloat16 = 2, kBfloat16 = 14 };
enum Compute : int { kCompute32 = 68, kComputeTf32 = 77 };
enum ProductAttribute : int { kTransposeA = 3, kTransposeB = 4, kEpilogue = 7, kBiasPointer = 8 };
enum PreferenceAttribute : int { kWorkspace = 1, kReductions = 3, kAlignmentA = 5, kAlignmentD = 8 };

struct Product {
    int compute = 0;
    std::int32_t transpose_a = 0, transpose_b = 0;
    std::uint32_t epilogue = 1;
    const float* bias = nullptr;
};

struct Layout {
    int type = 0;
    std::int64_t rows = 0, columns = 0, stride = 0;
};

struct Preference {
    std::uint64_t workspace = 0;
    std::uint32_t reductions = 7;
    std::uint32_t alignments[4] = {256, 256, 256, 256};
};

// What an algorithm was chosen for; lies in the 64 bytes of cublasLtMatmulAlgo_t.
struct Algorithm {
    std::uint64_t chosen;
    std::uint32_t alignments[4];
    std::uint64_t workspace;
};
constexpr std::uint64_t kChosen = 0x686F7374;

struct Heuristic {
    alignas(8) char algorithm[64];
    std::size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

template <class T>
int assign(T& to, const void* value, std::size_t size) {
    if (size != sizeof to) return kInvalid;
    std::memcpy(&to, value, sizeof to);
    return kSuccess;
}

bool fit(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    const std::int64_t m = p.transpose_a != 0 ? a.columns : a.rows;
    const std::int64_t k = p.transpose_a != 0 ? a.rows : a.columns;
    const std::int64_t inner = p.transpose_b != 0 ? b.columns : b.rows;
    const std::int64_t n = p.transpose_b != 0 ? b.rows : b.columns;
    for (const Layout& layout : {a, b, c, d})
        if (layout.rows <= 0 || layout.columns <= 0 || layout.stride < layout.rows) return false;
    return inner == k && a.type == b.type && c.type == kFloat32 && d.type == kFloat32 && c.rows == m && d.rows == m &&
           c.columns == n && d.columns == n && (p.compute == kCompute32 || a.type == kFloat32);
}

// To the 11 bits of TF32, half away from zero.
float tf32(float x) { return std::isfinite(x) ? float_of((bits_of(x) + 0x1000U) & ~0x1FFFU) : x; }

template <class T, class Value>
void multiply(const Product& p, const void* a_data, const Layout& a, const void* b_data, const Layout& b, float beta,
              float* d_data, const Layout& d, const Value& value) {
    const auto* const left = static_cast<const T*>(a_data);
    const auto* const right = static_cast<const T*>(b_data);
    const std::int64_t depth = p.transpose_a != 0 ? a.rows : a.columns;
    std::vector<float> sums(static_cast<std::size_t>(d.rows));
    for (std::int64_t j = 0; j < d.columns; ++j) {
        float* const column = d_data + j * d.stride;
        for (std::int64_t i = 0; i < d.rows; ++i)
            sums[static_cast<std::size_t>(i)] =
                (beta == 0.0F ? 0.0F : beta * column[i]) + (p.epilogue == 4 ? p.bias[i] : 0.0F);
        for (std::int64_t k = 0; k < depth; ++k) {
            const float factor = value(p.transpose_b != 0 ? right[j + k * b.stride] : right[k + j * b.stride]);
            for (std::int64_t i = 0; i < d.rows; ++i)
                sums[static_cast<std::size_t>(i)] +=
                    factor * value(p.transpose_a != 0 ? left[k + i * a.stride] : left[i + k * a.stride]);
        }
        for (std::int64_t i = 0; i < d.rows; ++i) column[i] = sums[static_cast<std::size_t>(i)];
    }
}

bool is_aligned(const void* address, std::uint32_t bytes) {
    return bytes != 0 && reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

}  // namespace

EXPORTED int cublasLtCreate(void** handle) {
    *handle = new char;
    return kSuccess;
}

EXPORTED const char* cublasLtGetStatusString(int status) {
    return status == kSuccess ? "success" : status == kInvalid ? "invalid value" : "not supported";
}

EXPORTED int cublasLtMatmulDescCreate(void** made, int compute, int scale_type) {
    if ((compute != kCompute32 && compute != kComputeTf32) || scale_type != kFloat32) return kNotSupported;
    auto* const product = new Product;
    product->compute = compute;
    *made = product;
    return kSuccess;
}

EXPORTED int cublasLtMatmulDescSetAttribute(void* product, int attribute, const void* value, std::size_t size) {
    auto& p = *static_cast<Product*>(product);
    switch (attribute) {
        case kTransposeA:
            return assign(p.transpose_a, value, size);
        case kTransposeB:
            return assign(p.transpose_b, value, size);
        case kEpilogue:
            return assign(p.epilogue, value, size);
        case kBiasPointer:
            return assign(p.bias, value, size);
        default:
            return kInvalid;
    }
}

EXPORTED int cublasLtMatmulDescDestroy(void* product) {
    delete static_cast<Product*>(product);
    return kSuccess;
}

EXPORTED int cublasLtMatrixLayoutCreate(void** made, int type, std::uint64_t rows, std::uint64_t columns,
                                        std::int64_t stride) {
    if (type != kFloat32 && type != kFloat16 && type != kBfloat16) return kNotSupported;
    *made = new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), stride};
    return kSuccess;
}

EXPORTED int cublasLtMatrixLayoutDestroy(void* layout) {
    delete static_cast<Layout*>(layout);
    return kSuccess;
}

EXPORTED int cublasLtMatmulPreferenceCreate(void** made) {
    *made = new Preference;
    return kSuccess;
}

EXPORTED int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value,
                                                  std::size_t size) {
    auto& p = *static_cast<Preference*>(preference);
    if (attribute == kWorkspace) return assign(p.workspace, value, size);
    if (attribute == kReductions) return assign(p.reductions, value, size);
    if (attribute < kAlignmentA || attribute > kAlignmentD) return kInvalid;
    return assign(p.alignments[attribute - kAlignmentA], value, size);
}

EXPORTED int cublasLtMatmulPreferenceDestroy(void* preference) {
    delete static_cast<Preference*>(preference);
    return kSuccess;
}

EXPORTED int cublasLtMatmulAlgoGetHeuristic(void*, const void* product, const void* a, const void* b, const void* c,
                                            const void* d, const void* preference, int wanted, void* results,
                                            int* count) {
    constexpr std::uint32_t kInPlace = 1;  // sums in no fixed order
    const auto& p = *static_cast<const Preference*>(preference);
    *count = 0;
    if (wanted < 1 || (p.reductions & kInPlace) != 0 ||
        !fit(*static_cast<const Product*>(product), *static_cast<const Layout*>(a), *static_cast<const Layout*>(b),
             *static_cast<const Layout*>(c), *static_cast<const Layout*>(d)))
        return kInvalid;
    Algorithm algorithm{kChosen, {}, p.workspace};
    std::memcpy(algorithm.alignments, p.alignments, sizeof p.alignments);
    Heuristic heuristic{};
    std::memcpy(heuristic.algorithm, &algorithm, sizeof algorithm);
    heuristic.workspace = p.workspace;
    std::memcpy(results, &heuristic, sizeof heuristic);
    *count = 1;
    return kSuccess;
}

EXPORTED int cublasLtMatmul(void* handle, const void* product, const float* alpha, const void* a_data, const void* a,
                            const void* b_data, const void* b, const float* beta, const void* c_data, const void* c,
                            void* d_data, const void* d, const void* algorithm, const void* workspace,
                            std::size_t workspace_bytes, void* stream) {
    // By value, as the device gets them.
    const auto p = *static_cast<const Product*>(product);
    const auto left = *static_cast<const Layout*>(a);
    const auto right = *static_cast<const Layout*>(b);
    const auto result = *static_cast<const Layout*>(d);
    const float scale = *beta;
    Algorithm chosen{};
    std::memcpy(&chosen, algorithm, sizeof chosen);
    const void* const arrays[] = {a_data, b_data, c_data, d_data};
    for (int i = 0; i < 4; ++i)
        if (!is_aligned(arrays[i], chosen.alignments[i])) return kInvalid;
    if (handle == nullptr || chosen.chosen != kChosen || *alpha != 1.0F || c_data != d_data || workspace == nullptr ||
        workspace_bytes < chosen.workspace || !fit(p, left, right, *static_cast<const Layout*>(c), result))
        return kInvalid;
    if ((p.epilogue != 1 && p.epilogue != 4) || (p.epilogue == 4 && p.bias == nullptr)) return kNotSupported;
    const auto run = [=](auto zero, const auto& value) {
        const std::function<void()> work = [=] {
            multiply<decltype(zero)>(p, a_data, left, b_data, right, scale, static_cast<float*>(d_data), result, value);
        };
        if (stream == nullptr) return work();
        static_cast<std::vector<std::function<void()>>*>(stream)->push_back(work);
    };
    if (left.type == kBfloat16) {
        run(Bfloat16{}, [](Bfloat16 x) { return x.value(); });
    } else if (left.type == kFloat16) {
        run(Float16{}, [](Float16 x) { return x.value(); });
    } else if (p.compute == kComputeTf32) {
        run(float{}, tf32);
    } else {
        run(float{}, [](float x) { return x; });
    }
    return kSuccess;
}
