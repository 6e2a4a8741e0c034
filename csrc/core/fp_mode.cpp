// Flush-to-zero, by processor family (floor 0).
#include "core/fp_mode.h"

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace lstm_native::core {

#if defined(__x86_64__) || defined(__i386__)

namespace {
constexpr unsigned kFlushToZero = 1u << 15;      // MXCSR.FTZ: subnormal results become zero
constexpr unsigned kDenormalsAreZero = 1u << 6;  // MXCSR.DAZ: subnormal operands count as zero
}  // namespace

FlushSubnormals::FlushSubnormals() noexcept : saved_(_mm_getcsr()) {
    _mm_setcsr(static_cast<unsigned>(saved_) | kFlushToZero | kDenormalsAreZero);
}

FlushSubnormals::~FlushSubnormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }

#elif defined(__aarch64__)

namespace {
constexpr std::uint64_t kFlushToZero = std::uint64_t{1} << 24;  // FPCR.FZ: operands and results
}

FlushSubnormals::FlushSubnormals() noexcept : saved_(0) {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | kFlushToZero));
}

FlushSubnormals::~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

#else

FlushSubnormals::FlushSubnormals() noexcept : saved_(0) {}
FlushSubnormals::~FlushSubnormals() {}

#endif

}  // namespace lstm_native::core
