// The weights of one recurrent layer (floor 2): their checks, their packed form, and the backend's entries that run
// them.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/tensor.h"
#include "ops/variable.h"

namespace lstm_native::ops {

// An activation by name: of core/activation.h, or with parameters of core/parametric.h.
struct NamedFunction {
    std::string name;
    bool parametric = false;
    float alpha = 0.0F, beta = 0.0F;
};

// What a cell has beyond LnRecurrentConfig: see LnGeneralConfig.
struct GeneralOptions {
    NamedFunction activation, recurrent_activation, output_activation;
    std::shared_ptr<Variable> peepholes;   // LSTM, or null: (3 H) of i, f, o, (2 H) of i, o where coupled
    std::shared_ptr<Variable> projection;  // LSTM, or null: (H, P)
    bool coupled = false;                  // LSTM: no columns of f, G = 3
    bool in_rows = false;                  // LN_ROWS: the shapes of all matrices the other way round
    float clip = std::numeric_limits<float>::infinity();
};

// The cell of such a name, as below; invalid_argument where there is none.
LnCell cell_of(const std::string& name);

// The variables of one layer with their packed form, kept until one of them changes.
class RecurrentWeights {
public:
    // kernel (I, G H), recurrent_kernel (H, G H), both may be quantized, bias (G H) or null, for the cells "lstm" (G =
    // 4), "simple_rnn" (1), "gru" (3, bias (2, 3 H): the reset gate comes after the recurrent product) and "gru_before"
    // (3: it comes before).
    RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                     std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                     const std::string& activation, const std::string& recurrent_activation);
    // Any of these cells with options; recurrent_kernel (P, G H).
    RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                     std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                     const GeneralOptions& options);
    // PyTorch's, on its memory as it is now: who writes there makes others. weight_ih (G H, I), weight_hh (G H, P),
    // bias (G H), of a GRU (2, 3 H), and projection (P, H), of an LSTM; tensors that are not defined stand for None.
    // Cells "lstm" and "gru" with PyTorch's activations.
    static std::shared_ptr<RecurrentWeights> in_rows(const std::string& cell, const core::Tensor& weight_ih,
                                                     const core::Tensor& weight_hh, const core::Tensor& bias,
                                                     const core::Tensor& projection);

    std::int64_t inputs() const { return config_.I; }
    std::int64_t units() const { return config_.H; }
    std::int64_t outputs() const { return config_.P; }  // columns of h
    std::int64_t gate_columns() const { return in_columns(*kernel_)[1]; }
    const std::shared_ptr<Variable>& kernel() const { return kernel_; }
    const std::shared_ptr<Variable>& recurrent_kernel() const { return recurrent_kernel_; }
    const std::shared_ptr<Variable>& bias() const { return bias_; }
    const std::shared_ptr<Variable>& peepholes() const { return peepholes_; }
    const std::shared_ptr<Variable>& projection() const { return projection_; }
    const char* label() const { return label_; }  // for messages: "LSTM"
    bool has_cell_state() const { return config_.cell == LN_CELL_LSTM; }
    bool is_general() const { return is_general_; }
    bool is_quantized() const { return kernel_->is_quantized() || recurrent_kernel_->is_quantized(); }
    core::Device device() const { return kernel_->tensor().device(); }
    std::shared_ptr<const void> pack();

    // The backend's entries for these weights; `pack` came from pack().
    std::size_t saved_bytes(const void* pack, std::int64_t B, std::int64_t steps, bool masked) const;
    std::size_t step_bytes(const void* pack, std::int64_t B) const;
    void forward(const void* pack, const LnRecurrentForward& args) const;
    // Some calls together, of weights that are not general, on one device.
    static void forward(core::Device device, const std::vector<LnRecurrentForwardCall>& calls);
    static void backward(core::Device device, const std::vector<LnRecurrentBackwardCall>& calls);
    void step(const void* pack, const LnRecurrentForward& args, void* workspace) const;
    // d_peepholes, d_projection: null where the weights have none.
    void backward(const void* pack, const LnRecurrentBackward& args, float* d_peepholes, float* d_projection) const;

private:
    RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                     std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                     const GeneralOptions& options, bool is_general);
    void check_shapes(std::int64_t gates) const;
    LnMatrix matrix_of(const Variable& variable, const char* name) const;
    // The shape of a matrix with gates in columns.
    core::Shape in_columns(const Variable& matrix) const;
    const LnBackend& backend() const;  // runtime_error where it has no entries for these weights

    bool is_general_;
    const char* label_;
    std::shared_ptr<Variable> kernel_, recurrent_kernel_, bias_, peepholes_, projection_;
    bool is_in_rows_;
    LnGeneralConfig config_{};
    PackCache cache_;
};

}  // namespace lstm_native::ops
