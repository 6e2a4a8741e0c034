// The kernels for any processor.
#include "cpu/kernels/vec_generic.h"

#define LSTM_NATIVE_ISA_NAMESPACE generic
#include "cpu/kernels/kernels-inl.h"

namespace lstm_native::cpu {
const KernelTable* kernels_generic() { return &generic::kTable; }
}  // namespace lstm_native::cpu
