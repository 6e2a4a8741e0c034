// Counter-based random numbers (floor 0): Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). Number i of stream (seed, offset) is a function of these
// three alone, so the same bits come for every thread count, instruction set and machine.
#pragma once

#include <cstdint>

namespace lstm_native::core {

// The four 32-bit words of block `block` of the stream (seed, offset).
void philox(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, std::uint32_t out[4]);

// `n` numbers each. Uniform in [low, high); normal by inversion of the distribution function in double
// precision, with no library function whose last bit differs between machines; truncated normal within
// two standard deviations (as Keras' TruncatedNormal).
void fill_uniform(float* out, std::int64_t n, double low, double high, std::uint64_t seed, std::uint64_t offset);
void fill_normal(float* out, std::int64_t n, double mean, double stddev, std::uint64_t seed, std::uint64_t offset);
void fill_truncated_normal(float* out, std::int64_t n, double mean, double stddev, std::uint64_t seed,
                           std::uint64_t offset);
// 0 with probability `rate` (0 <= rate < 1), else 1 / (1 - rate).
void fill_dropout_mask(float* out, std::int64_t n, double rate, std::uint64_t seed, std::uint64_t offset);
// `vectors` orthonormal vectors of `length` >= vectors numbers, one after the other, uniformly distributed (Haar):
// normal ones made orthogonal by Gram and Schmidt's process (modified form, double precision). In place of a LAPACK:
// its threads cost seconds on a busy machine and its last bits differ between machines.
void fill_orthonormal(float* out, std::int64_t vectors, std::int64_t length, std::uint64_t seed, std::uint64_t offset);
// A permutation of 0 ... n-1 (Fisher and Yates).
void fill_permutation(std::int64_t* out, std::int64_t n, std::uint64_t seed, std::uint64_t offset);

}  // namespace lstm_native::core
