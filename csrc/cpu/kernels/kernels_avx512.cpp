// The kernels for AVX-512.
#include "cpu/kernels/vec_avx512.h"

#define LSTM_NATIVE_ISA_NAMESPACE avx512
#include "cpu/kernels/kernels-inl.h"

namespace lstm_native::cpu {
const KernelTable* kernels_avx512() { return &avx512::kTable; }
}  // namespace lstm_native::cpu
