// All micro-kernels for the vector type `Vec` of namespace LSTM_NATIVE_ISA_NAMESPACE. Included once by each
// kernels_<isa>.cpp. Everything has internal linkage: a function compiled for one instruction set must never be
// the copy that the linker keeps for another.
#include "cpu/kernels/elementwise-inl.h"
#include "cpu/kernels/general-inl.h"
#include "cpu/kernels/gru-inl.h"
#include "cpu/kernels/kernel_table.h"
#include "cpu/kernels/lstm-inl.h"
#include "cpu/kernels/product-inl.h"
#include "cpu/kernels/simple_rnn-inl.h"

namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE {
namespace {

#define LSTM_NATIVE_STRING2(x) #x
#define LSTM_NATIVE_STRING(x) LSTM_NATIVE_STRING2(x)

constexpr KernelTable kTable = {
    LSTM_NATIVE_STRING(LSTM_NATIVE_ISA_NAMESPACE),
    Vec::kLanes,
    kTileRows,
    product,
    {step<LstmCell>, step<SimpleRnnCell>, step<GruCell>, gru_before_step},
    {step_backward<LstmCell>, step_backward<SimpleRnnCell>, step_backward<GruCell>, step_backward<GruBeforeCell>},
    gru_before_reset,
    gru_before_reset_backward,
    outer,
    sum_by_row,
    block_rows,
    unblock_rows,
    transpose_tile,
    kElementwise,
    kGeneral,
};

}  // namespace
}  // namespace lstm_native::cpu::LSTM_NATIVE_ISA_NAMESPACE
