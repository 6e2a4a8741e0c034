// Philox4x32-10 and the distributions made from it (floor 0).
//
// Number i of a distribution comes from word i % 4 of block i / 4. The mathematics uses + - * / and sqrt of IEEE
// doubles only, none of it contracted, so every machine gives the same bits.
#include "core/random.h"

#include <cmath>
#include <cstring>

#include "core/fp_mode.h"
#include "core/philox.h"
#include "core/thread_pool.h"

namespace lstm_native::core {
namespace {

constexpr int kGroup = 8;  // blocks made together, so that the compiler can use vectors
constexpr std::int64_t kGroupWords = 4 * kGroup;
constexpr std::int64_t kTaskWords = 512 * kGroupWords;  // numbers of one parallel task, tens of microseconds

void philox_group(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, std::uint32_t out[kGroupWords]) {
    philox_blocks<kGroup>(seed, offset, block, out);
}

// out[i] = transform(word i) for 0 <= i < n, over the threads when n is large.
template <class Transform>
void fill(float* out, std::int64_t n, std::uint64_t seed, std::uint64_t offset, const Transform& transform) {
    const auto task = [&](std::int64_t index) {
        const std::int64_t end = n < (index + 1) * kTaskWords ? n : (index + 1) * kTaskWords;
        for (std::int64_t begin = index * kTaskWords; begin < end; begin += kGroupWords) {
            std::uint32_t words[kGroupWords];
            philox_group(seed, offset, static_cast<std::uint64_t>(begin / 4), words);
            if (end - begin >= kGroupWords) {
                for (std::int64_t j = 0; j < kGroupWords; ++j) out[begin + j] = transform(words[j]);
            } else {
                for (std::int64_t j = 0; j < end - begin; ++j) out[begin + j] = transform(words[j]);
            }
        }
    };
    const FlushSubnormals flush;  // as within the pool, so that short and long fills agree
    const std::int64_t tasks = (n + kTaskWords - 1) / kTaskWords;
    if (tasks <= 1) {
        if (tasks == 1) task(0);
        return;
    }
    parallel_tasks(tasks, num_threads(), task);
}

// Natural logarithm of a normal double, relative error below 1e-14 for x < 0.1: x = 2^e m with m near 1, and
// log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172, by its series.
double logarithm(double x) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    // sqrt(1/2) <= m < sqrt(2): subtract the bits of sqrt(1/2) before reading the exponent.
    constexpr std::uint64_t kRootHalf = 0x3FE6A09E667F3BCDu;
    constexpr double kLog2 = 0.693147180559945309417;
    const std::int64_t exponent = static_cast<std::int64_t>(bits - kRootHalf) >> 52;
    bits -= static_cast<std::uint64_t>(exponent) << 52;
    double m = 0.0;
    std::memcpy(&m, &bits, sizeof m);
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double sum = 1.0 / 19.0;
    for (int k = 17; k >= 1; k -= 2) sum = sum * z + 1.0 / k;
    return static_cast<double>(exponent) * kLog2 + 2.0 * s * sum;
}

double polynomial(const double (&coefficients)[8], double x) {
    double value = coefficients[7];
    for (int k = 6; k >= 0; --k) value = value * x + coefficients[k];
    return value;
}

// Quantile of the standard normal distribution: M. J. Wichura, "Algorithm AS 241: the percentage points of the
// normal distribution", Applied Statistics 37 (1988), function PPND16, relative error about 1e-16. Its third
// branch is for probabilities below exp(-25) = 1.4e-11, smaller than any that 32 bits give.
double normal_quantile(double p) {
    static constexpr double kA[8] = {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                                     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                                     3.3430575583588128105e4, 2.5090809287301226727e3};
    static constexpr double kB[8] = {1.0,
                                     4.2313330701600911252e1,
                                     6.8718700749205790830e2,
                                     5.3941960214247511077e3,
                                     2.1213794301586595867e4,
                                     3.9307895800092710610e4,
                                     2.8729085735721942674e4,
                                     5.2264952788528545610e3};
    static constexpr double kC[8] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                     3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                     2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static constexpr double kD[8] = {1.0,
                                     2.05319162663775882187e0,
                                     1.67638483018380384940e0,
                                     6.89767334985100004550e-1,
                                     1.48103976427480074590e-1,
                                     1.51986665636164571966e-2,
                                     5.47593808499534494600e-4,
                                     1.05075007164441684324e-9};
    const double q = p - 0.5;
    if (q >= -0.425 && q <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * polynomial(kA, r) / polynomial(kB, r);
    }
    const double r = std::sqrt(-logarithm(q < 0.0 ? p : 1.0 - p)) - 1.6;
    const double x = polynomial(kC, r) / polynomial(kD, r);
    return q < 0.0 ? -x : x;
}

// Centre of the word's interval in (0, 1): never 0 or 1, and symmetric about 1/2.
double open_unit(std::uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

}  // namespace

void philox(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, std::uint32_t out[4]) {
    philox_blocks<1>(seed, offset, block, out);
}

void fill_uniform(float* out, std::int64_t n, double low, double high, std::uint64_t seed, std::uint64_t offset) {
    // Rounding to float32 may reach `high`; the largest value below it is then meant.
    const float high_value = static_cast<float>(high);
    const float below = std::nextafter(high_value, static_cast<float>(low));
    const double width = high - low;
    fill(out, n, seed, offset, [=](std::uint32_t word) {
        const float value = static_cast<float>(low + width * (static_cast<double>(word >> 8) * 0x1p-24));
        return value < high_value ? value : below;
    });
}

void fill_normal(float* out, std::int64_t n, double mean, double stddev, std::uint64_t seed, std::uint64_t offset) {
    fill(out, n, seed, offset,
         [=](std::uint32_t word) { return static_cast<float>(mean + stddev * normal_quantile(open_unit(word))); });
}

void fill_truncated_normal(float* out, std::int64_t n, double mean, double stddev, std::uint64_t seed,
                           std::uint64_t offset) {
    constexpr double kLow = 0.0227501319481792072;  // distribution function at -2
    constexpr double kWidth = 1.0 - 2.0 * kLow;
    fill(out, n, seed, offset, [=](std::uint32_t word) {
        return static_cast<float>(mean + stddev * normal_quantile(kLow + kWidth * open_unit(word)));
    });
}

void fill_dropout_mask(float* out, std::int64_t n, double rate, std::uint64_t seed, std::uint64_t offset) {
    fill(out, n, seed, offset, DropoutRule(rate));
}

void fill_permutation(std::int64_t* out, std::int64_t n, std::uint64_t seed, std::uint64_t offset) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = i;
    std::uint32_t words[kGroupWords];
    std::uint64_t block = 0;
    std::int64_t used = kGroupWords;
    const auto next = [&] {
        if (used == kGroupWords) {
            philox_group(seed, offset, block, words);
            block += kGroup;
            used = 0;
        }
        const std::uint64_t value = words[used] | std::uint64_t{words[used + 1]} << 32;
        used += 2;
        return value;
    };
    for (std::int64_t i = n - 1; i > 0; --i) {
        // Unbiased integer in [0, bound): D. Lemire, "Fast random integer generation in an interval", 2019.
        __extension__ using Wide = unsigned __int128;
        const std::uint64_t bound = static_cast<std::uint64_t>(i) + 1;
        Wide product = static_cast<Wide>(next()) * bound;
        const std::uint64_t reject = (0 - bound) % bound;
        while (static_cast<std::uint64_t>(product) < reject) product = static_cast<Wide>(next()) * bound;
        const auto j = static_cast<std::int64_t>(static_cast<std::uint64_t>(product >> 64));
        const std::int64_t swapped = out[i];
        out[i] = out[j];
        out[j] = swapped;
    }
}

}  // namespace lstm_native::core
