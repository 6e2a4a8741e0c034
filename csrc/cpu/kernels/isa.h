// Which kernel table runs (see kernel_table.h): what the processor offers (CPUID), what the operating
// system saves (XGETBV), what LSTM_NATIVE_ISA forces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/kernels/kernel_table.h"

namespace lstm_native::cpu {

// The table in use. The first call chooses; std::invalid_argument when LSTM_NATIVE_ISA cannot be met.
const KernelTable& kernels();
// Changes with every change of table.
std::uint64_t kernels_epoch();

}  // namespace lstm_native::cpu
