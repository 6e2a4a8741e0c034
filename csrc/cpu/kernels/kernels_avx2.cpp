// The kernels for AVX2 with FMA.
#include "cpu/kernels/vec_avx2.h"

#define LSTM_NATIVE_ISA_NAMESPACE avx2
#include "cpu/kernels/kernels-inl.h"

namespace lstm_native::cpu {
const KernelTable* kernels_avx2() { return &avx2::kTable; }
}  // namespace lstm_native::cpu
