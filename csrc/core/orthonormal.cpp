// Random orthonormal vectors (floor 0); see random.h.
#include <cmath>
#include <vector>

#include "core/random.h"
#include "core/size.h"

namespace lstm_native::core {
namespace {

constexpr std::int64_t kLanes = 8;  // partial sums of a dot product: one fixed order that compilers can vectorise

double dot(const double* a, const double* b, std::int64_t n) {
    double sum[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane) sum[lane] += a[i + lane] * b[i + lane];
    for (; i < n; ++i) sum[i % kLanes] += a[i] * b[i];
    double total = 0.0;
    for (const double part : sum) total += part;
    return total;
}

}  // namespace

void fill_orthonormal(float* out, std::int64_t vectors, std::int64_t length, std::uint64_t seed, std::uint64_t offset) {
    const std::int64_t count = checked_mul(vectors, length);
    fill_normal(out, count, 0.0, 1.0, seed, offset);
    // From the system and back to it: a kept block would serve nobody once the weights are made. A vector each: malloc
    // answers the return of a large block with keeping later ones of that size.
    std::vector<std::vector<double>> q;
    for (std::int64_t i = 0; i < vectors; ++i) q.emplace_back(out + i * length, out + (i + 1) * length);
    for (std::int64_t i = 0; i < vectors; ++i) {
        double* const done = q[static_cast<std::size_t>(i)].data();
        const double scale = 1.0 / std::sqrt(dot(done, done, length));
        for (std::int64_t k = 0; k < length; ++k) {
            done[k] *= scale;
            out[i * length + k] = static_cast<float>(done[k]);
        }
        // Its part is taken out of all vectors that follow.
        for (std::int64_t j = i + 1; j < vectors; ++j) {
            double* const other = q[static_cast<std::size_t>(j)].data();
            const double part = dot(done, other, length);
            for (std::int64_t k = 0; k < length; ++k) other[k] -= part * done[k];
        }
    }
}

}  // namespace lstm_native::core
