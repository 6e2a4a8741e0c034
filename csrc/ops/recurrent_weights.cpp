#include "ops/recurrent_weights.h"

#include <cmath>

#include "core/activation.h"
#include "core/error.h"
#include "core/parametric.h"
#include "ops/context.h"

namespace lstm_native::ops {

using core::check;
using core::Shape;

namespace {

struct Cell {
    const char* name;
    const char* label;
    LnCell cell;
    std::int64_t gates;
};
constexpr Cell kCells[] = {{"lstm", "LSTM", LN_CELL_LSTM, 4},
                           {"simple_rnn", "SimpleRNN", LN_CELL_SIMPLE_RNN, 1},
                           {"gru", "GRU", LN_CELL_GRU, 3},
                           {"gru_before", "GRU", LN_CELL_GRU_BEFORE, 3}};

const Cell& find_cell(const std::string& name) {
    for (const Cell& cell : kCells)
        if (name == cell.name) return cell;
    core::fail("RecurrentWeights: cell '", name,
               "' is not known; expected 'lstm', 'simple_rnn', 'gru' or 'gru_before'");
}

LnFunction function_of(const char* label, const char* argument, const NamedFunction& f) {
    if (f.parametric) {
        core::Parametric kind{};
        check(core::find_parametric(f.name.c_str(), &kind), label, ": ", argument, " '", f.name,
              "' with parameters is not known");
        return {static_cast<std::int32_t>(kind), f.alpha, f.beta};
    }
    core::Activation activation{};
    check(core::find_activation(f.name.c_str(), &activation), label, ": ", argument, " '", f.name, "' is not known");
    check(core::is_elementwise(activation), label, ": ", argument, " '", f.name,
          "' mixes the units of a step; expected an elementwise activation");
    return {static_cast<std::int32_t>(activation), 0.0F, 0.0F};
}

GeneralOptions plain(const std::string& activation, const std::string& recurrent_activation) {
    GeneralOptions options;
    options.activation.name = options.output_activation.name = activation;
    options.recurrent_activation.name = recurrent_activation;
    return options;
}

}  // namespace

LnCell cell_of(const std::string& name) { return find_cell(name).cell; }

RecurrentWeights::RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                                   std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                                   const std::string& activation, const std::string& recurrent_activation)
    : RecurrentWeights(cell, std::move(kernel), std::move(recurrent_kernel), std::move(bias),
                       plain(activation, recurrent_activation), false) {}

RecurrentWeights::RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                                   std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                                   const GeneralOptions& options)
    : RecurrentWeights(cell, std::move(kernel), std::move(recurrent_kernel), std::move(bias), options, true) {}

RecurrentWeights::RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                                   std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                                   const GeneralOptions& options, bool is_general)
    : is_general_(is_general),
      label_(find_cell(cell).label),
      kernel_(std::move(kernel)),
      recurrent_kernel_(std::move(recurrent_kernel)),
      bias_(std::move(bias)),
      peepholes_(options.peepholes),
      projection_(options.projection),
      is_in_rows_(options.in_rows),
      cache_({kernel_, recurrent_kernel_, bias_, peepholes_, projection_}) {
    const Cell& found = find_cell(cell);
    config_.cell = found.cell;
    config_.layout = options.in_rows ? LN_ROWS : LN_COLUMNS;
    config_.coupled = options.coupled ? 1 : 0;
    config_.clip = options.clip;
    check(found.cell == LN_CELL_LSTM || (peepholes_ == nullptr && projection_ == nullptr && !options.coupled), label_,
          ": peepholes, a projection and coupled gates are those of the LSTM");
    check(options.clip > 0.0F, label_, ": clip is ", options.clip, ", expected a number above 0");
    check_shapes(options.coupled ? 3 : found.gates);
    config_.I = in_columns(*kernel_)[0];
    config_.P = in_columns(*recurrent_kernel_)[0];
    config_.H = projection_ == nullptr ? config_.P : in_columns(*projection_)[0];
    config_.activation = function_of(label_, "activation", options.activation);
    config_.recurrent_activation = function_of(label_, "recurrent_activation", options.recurrent_activation);
    config_.output_activation = function_of(label_, "output_activation", options.output_activation);
}

std::shared_ptr<RecurrentWeights> RecurrentWeights::in_rows(const std::string& cell, const core::Tensor& weight_ih,
                                                            const core::Tensor& weight_hh, const core::Tensor& bias,
                                                            const core::Tensor& projection) {
    const auto variable = [](const core::Tensor& tensor) {
        return tensor.defined() ? Variable::around(tensor) : std::shared_ptr<Variable>();
    };
    GeneralOptions options = plain("tanh", "sigmoid");
    options.in_rows = true;
    options.projection = variable(projection);
    return std::shared_ptr<RecurrentWeights>(new RecurrentWeights(cell, variable(weight_ih), variable(weight_hh),
                                                                  variable(bias), options, projection.defined()));
}

LnMatrix RecurrentWeights::matrix_of(const Variable& variable, const char* name) const {
    return variable.matrix((std::string(label_) + ": " + name).c_str(), 1);
}

Shape RecurrentWeights::in_columns(const Variable& matrix) const {
    const Shape& shape = matrix.tensor().shape();
    return is_in_rows_ && shape.rank() == 2 ? Shape{shape[1], shape[0]} : shape;
}

void RecurrentWeights::check_shapes(std::int64_t gates) const {
    const auto named = [this](const char* weight) { return std::string(label_) + ": " + weight; };
    if (is_general_ || is_in_rows_) {
        check_float32(named("kernel").c_str(), kernel_);
        check_float32(named("recurrent_kernel").c_str(), recurrent_kernel_);
    } else {
        matrix_of(*kernel_, "kernel");
        matrix_of(*recurrent_kernel_, "recurrent_kernel");
    }
    check_float32(named("bias").c_str(), bias_);
    check_float32(named("peepholes").c_str(), peepholes_);
    check_float32(named("projection").c_str(), projection_);
    const Shape recurrent = in_columns(*recurrent_kernel_);
    std::int64_t units = recurrent.rank() == 2 ? recurrent[0] : 0;
    if (projection_ != nullptr) {
        const Shape projection = in_columns(*projection_);
        check(projection.rank() == 2 && projection[0] > 0 && projection[1] > 0 && projection[1] == units, label_,
              ": projection has shape ", projection, " and recurrent_kernel ", recurrent,
              ", expected (units, projection_units) and (projection_units, ", gates, " * units)");
        units = projection[0];
    }
    check(units > 0 && recurrent[1] == gates * units, label_, ": recurrent_kernel has shape ", recurrent,
          ", expected (", projection_ == nullptr ? "units" : "projection_units", ", ", gates, " * units)");
    const Shape input = in_columns(*kernel_);
    check(input.rank() == 2 && input[1] == recurrent[1], label_, ": kernel has shape ", input, ", expected (features, ",
          gates, " * units = ", recurrent[1], ")");
    const auto check_rows = [&](const char* argument, const std::shared_ptr<Variable>& variable, const Shape& shape) {
        check(variable == nullptr || variable->tensor().shape() == shape, label_, ": ", argument, " has shape ",
              variable == nullptr ? Shape{} : variable->tensor().shape(), ", expected ", shape);
    };
    check_rows("bias", bias_, config_.cell == LN_CELL_GRU ? Shape{2, recurrent[1]} : Shape{recurrent[1]});
    check_rows("peepholes", peepholes_, {(gates - 1) * units});
}

const LnBackend& RecurrentWeights::backend() const {
    const LnBackend& backend = backend_of(device());
    if (is_general_ && backend.general_prepare == nullptr)
        throw std::runtime_error(core::message(label_,
                                               ": peepholes, clip, coupled gates, a projection and activations ",
                                               "with parameters do not run on the device '", backend.name, "'"));
    return backend;
}

std::shared_ptr<const void> RecurrentWeights::pack() {
    const LnBackend& backend = this->backend();
    return cache_.get(
        backend.pack_epoch(), is_general_ ? backend.general_release : backend.recurrent_release, [&]() -> void* {
            const auto floats = [this](const std::shared_ptr<Variable>& variable) -> const float* {
                check_float32(label_, variable);  // it may have been quantized since
                return variable == nullptr ? nullptr : variable->tensor().data<float>();
            };
            void* made = nullptr;
            if (is_general_) {
                const LnGeneralWeights weights = {floats(kernel_), floats(recurrent_kernel_), floats(bias_),
                                                  floats(peepholes_), floats(projection_)};
                call(backend.general_prepare, static_cast<const LnGeneralConfig*>(&config_), &weights, &made);
            } else {
                const LnRecurrentConfig config = {
                    config_.cell, config_.layout, config_.activation.kind, config_.recurrent_activation.kind,
                    config_.I,    config_.H};
                if (!is_quantized()) {
                    call(backend.recurrent_prepare, &config, floats(kernel_), floats(recurrent_kernel_), floats(bias_),
                         &made);
                } else {
                    const LnMatrix kernel = matrix_of(*kernel_, "kernel");
                    const LnMatrix recurrent = matrix_of(*recurrent_kernel_, "recurrent_kernel");
                    call(backend.recurrent_prepare_stored, &config, &kernel, &recurrent, floats(bias_), &made);
                }
            }
            return made;
        });
}

std::size_t RecurrentWeights::saved_bytes(const void* pack, std::int64_t B, std::int64_t steps, bool masked) const {
    const LnBackend& backend = this->backend();
    return (is_general_ ? backend.general_saved_bytes : backend.recurrent_saved_bytes)(pack, B, steps, masked ? 1 : 0);
}

std::size_t RecurrentWeights::step_bytes(const void* pack, std::int64_t B) const {
    const LnBackend& backend = this->backend();
    return (is_general_ ? backend.general_step_bytes : backend.recurrent_step_bytes)(pack, B);
}

void RecurrentWeights::forward(const void* pack, const LnRecurrentForward& args) const {
    const LnBackend& backend = this->backend();
    if (is_general_) return call(backend.general_forward, pack, &args);
    const LnRecurrentForwardCall one = {pack, &args};
    call(backend.recurrent_forward, 1, &one);
}

void RecurrentWeights::forward(core::Device device, const std::vector<LnRecurrentForwardCall>& calls) {
    call(backend_of(device).recurrent_forward, static_cast<std::int64_t>(calls.size()), calls.data());
}

void RecurrentWeights::backward(core::Device device, const std::vector<LnRecurrentBackwardCall>& calls) {
    call(backend_of(device).recurrent_backward, static_cast<std::int64_t>(calls.size()), calls.data());
}

void RecurrentWeights::step(const void* pack, const LnRecurrentForward& args, void* workspace) const {
    const LnBackend& backend = this->backend();
    call(is_general_ ? backend.general_step : backend.recurrent_step, pack, &args, workspace);
}

void RecurrentWeights::backward(const void* pack, const LnRecurrentBackward& args, float* d_peepholes,
                                float* d_projection) const {
    const LnBackend& backend = this->backend();
    if (is_general_) return call(backend.general_backward, pack, &args, d_peepholes, d_projection);
    const LnRecurrentBackwardCall one = {pack, &args};
    call(backend.recurrent_backward, 1, &one);
}

}  // namespace lstm_native::ops
