#include "ops/recurrent.h"

#include "core/activation.h"
#include "core/error.h"
#include "core/size.h"
#include "ops/context.h"

namespace lstm_native::ops {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

namespace {

std::int32_t activation_number(const char* argument, const std::string& name) {
    core::Activation activation{};
    check(core::find_activation(name.c_str(), &activation), "LSTM: ", argument, " '", name, "' is not known");
    check(core::is_elementwise(activation), "LSTM: ", argument, " '", name,
          "' mixes the units of a step; expected an elementwise activation");
    return static_cast<std::int32_t>(activation);
}

void check_optional(const char* argument, const Tensor& x, const Shape& shape, DType dtype) {
    check(!x.defined() || (x.shape() == shape && x.dtype() == dtype), "LSTM: ", argument, " has shape ", x.shape(),
          " and dtype ", core::name_of(x.dtype()), ", expected ", shape, " and ", core::name_of(dtype));
}

const float* floats(const Tensor& x) { return x.data<float>(); }

// One control byte a step, in processed order (backend.h); undefined when every step is plain.
Tensor control_bytes(std::int64_t B, std::int64_t T, const Tensor& mask, const Tensor& reset,
                     const RecurrentOptions& options) {
    if (!mask.defined() && !reset.defined()) return {};
    const Tensor control = Tensor::empty({B, T}, DType::uint8);
    for (std::int64_t b = 0; b < B; ++b) {
        bool started = false;  // a masked step repeats the last output, and there is none before the first valid one
        for (std::int64_t s = 0; s < T; ++s) {
            const std::int64_t at = b * T + (options.go_backwards ? T - 1 - s : s);
            const bool valid = !mask.defined() || mask.data<std::uint8_t>()[at] != 0;
            const bool is_reset = reset.defined() && reset.data<std::uint8_t>()[at] != 0;
            started = (started && !is_reset) || valid;  // a reset begins another sequence
            const bool emit = options.zero_output_for_mask ? valid : started;
            control.data<std::uint8_t>()[b * T + s] =
                static_cast<std::uint8_t>((valid ? LN_UPDATE : 0) | (is_reset ? LN_RESET : 0) | (emit ? LN_EMIT : 0));
        }
    }
    return control;
}

}  // namespace

RecurrentWeights::RecurrentWeights(const std::string& cell, std::shared_ptr<Variable> kernel,
                                   std::shared_ptr<Variable> recurrent_kernel, std::shared_ptr<Variable> bias,
                                   const std::string& activation, const std::string& recurrent_activation)
    : config_{},
      kernel_(std::move(kernel)),
      recurrent_kernel_(std::move(recurrent_kernel)),
      bias_(std::move(bias)),
      cache_({kernel_, recurrent_kernel_, bias_}) {
    check(cell == "lstm", "RecurrentWeights: cell '", cell, "' is not known; expected 'lstm'");
    check_float32("LSTM: kernel", kernel_);
    check_float32("LSTM: recurrent_kernel", recurrent_kernel_);
    check_float32("LSTM: bias", bias_);
    const Shape& recurrent = recurrent_kernel_->tensor().shape();
    check(recurrent.rank() == 2 && recurrent[0] > 0 && recurrent[1] == core::checked_mul(4, recurrent[0]),
          "LSTM: recurrent_kernel has shape ", recurrent, ", expected (units, 4 * units)");
    const Shape& input = kernel_->tensor().shape();
    check(input.rank() == 2 && input[1] == recurrent[1], "LSTM: kernel has shape ", input,
          ", expected (features, 4 * units = ", recurrent[1], ")");
    check(bias_ == nullptr || bias_->tensor().shape() == Shape{recurrent[1]}, "LSTM: bias has shape ",
          bias_ == nullptr ? std::string() : bias_->tensor().shape().text(), ", expected (4 * units = ", recurrent[1],
          ",)");
    config_ = {LN_CELL_LSTM, activation_number("activation", activation),
               activation_number("recurrent_activation", recurrent_activation), input[0], recurrent[0]};
}

std::shared_ptr<const void> RecurrentWeights::pack() {
    const LnBackend& backend = backend_of(device());
    return cache_.get(backend.pack_epoch(), backend.recurrent_release, [&] {
        void* made = nullptr;
        call(backend.recurrent_prepare, static_cast<const LnRecurrentConfig*>(&config_), floats(kernel_->tensor()),
             floats(recurrent_kernel_->tensor()), bias_ == nullptr ? nullptr : floats(bias_->tensor()), &made);
        return made;
    });
}

RecurrentResult recurrent_forward(RecurrentWeights& weights, const Tensor& inputs, const Tensor& mask,
                                  const Tensor& reset, const Tensor& initial_h, const Tensor& initial_c,
                                  const RecurrentOptions& options) {
    check(inputs.rank() == 3 && inputs.shape()[2] == weights.inputs(), "LSTM: input has shape ", inputs.shape(),
          ", expected (batch, time, ", weights.inputs(), ")");
    check(inputs.dtype() == DType::float32, "LSTM: input has dtype ", core::name_of(inputs.dtype()),
          ", expected float32");
    const std::int64_t B = inputs.shape()[0];
    const std::int64_t T = inputs.shape()[1];
    const std::int64_t H = weights.units();
    check(T > 0, "LSTM: input has shape ", inputs.shape(), ", expected at least one time step");
    check_optional("mask", mask, {B, T}, DType::boolean);
    check_optional("reset", reset, {B, T}, DType::boolean);
    check_optional("initial_state h", initial_h, {B, H}, DType::float32);
    check_optional("initial_state c", initial_c, {B, H}, DType::float32);

    const core::Device device = weights.device();
    RecurrentResult result;
    result.output = Tensor::empty(options.return_sequences ? Shape{B, T, H} : Shape{B, H}, DType::float32, device);
    result.h = Tensor::empty({B, H}, DType::float32, device);
    result.c = Tensor::empty({B, H}, DType::float32, device);
    const Tensor control = control_bytes(B, T, mask, reset, options);

    LnRecurrentForward forward{};
    forward.B = B;
    forward.T = T;
    forward.inputs = floats(inputs);
    forward.control = control.data<std::uint8_t>();
    forward.initial_h = floats(initial_h);
    forward.initial_c = floats(initial_c);
    forward.go_backwards = options.go_backwards ? 1 : 0;
    (options.return_sequences ? forward.outputs : forward.last_output) = result.output.data<float>();
    forward.last_h = result.h.data<float>();
    forward.last_c = result.c.data<float>();

    const LnBackend& backend = backend_of(device);
    const std::shared_ptr<const void> pack = B > 0 ? weights.pack() : nullptr;
    if (options.training) {
        result.saved = std::make_shared<RecurrentSaved>();
        RecurrentSaved& saved = *result.saved;
        if (B > 0) {
            const std::size_t bytes = backend.recurrent_saved_bytes(pack.get(), B, T);
            saved.memory = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device);
            forward.saved = saved.memory.raw();
        }
        saved.forward = forward;
        saved.return_sequences = options.return_sequences;
        saved.inputs = inputs;
        saved.control = control;
        saved.initial_h = initial_h;
        saved.initial_c = initial_c;
        saved.pack = pack;
    }
    if (B > 0) call(backend.recurrent_forward, pack.get(), static_cast<const LnRecurrentForward*>(&forward));
    return result;
}

RecurrentGradients recurrent_backward(RecurrentWeights& weights, RecurrentSaved& saved, const Tensor& d_output,
                                      const Tensor& d_h, const Tensor& d_c, bool need_d_inputs, bool need_d_initial) {
    const std::int64_t B = saved.forward.B;
    const std::int64_t T = saved.forward.T;
    const std::int64_t H = weights.units();
    check_optional("gradient of the output", d_output, saved.return_sequences ? Shape{B, T, H} : Shape{B, H},
                   DType::float32);
    check_optional("gradient of h", d_h, {B, H}, DType::float32);
    check_optional("gradient of c", d_c, {B, H}, DType::float32);
    if (saved.used.exchange(true))
        throw std::runtime_error("LSTM: backward was already called for this forward pass; run forward again");

    const core::Device device = weights.device();
    const auto make = B == 0 ? &Tensor::zeros : &Tensor::empty;
    RecurrentGradients gradients;
    if (need_d_inputs) gradients.d_inputs = make(saved.inputs.shape(), DType::float32, device);
    gradients.d_kernel = make({weights.inputs(), weights.gate_columns()}, DType::float32, device);
    gradients.d_recurrent_kernel = make({H, weights.gate_columns()}, DType::float32, device);
    if (weights.has_bias()) gradients.d_bias = make({weights.gate_columns()}, DType::float32, device);
    if (need_d_initial) {
        gradients.d_initial_h = make({B, H}, DType::float32, device);
        gradients.d_initial_c = make({B, H}, DType::float32, device);
    }
    if (B == 0) return gradients;

    LnRecurrentBackward backward{};
    backward.forward = &saved.forward;
    backward.saved = saved.memory.raw();
    (saved.return_sequences ? backward.d_outputs : backward.d_last_output) = floats(d_output);
    backward.d_last_h = floats(d_h);
    backward.d_last_c = floats(d_c);
    backward.d_inputs = gradients.d_inputs.data<float>();
    backward.d_kernel = gradients.d_kernel.data<float>();
    backward.d_recurrent_kernel = gradients.d_recurrent_kernel.data<float>();
    backward.d_bias = gradients.d_bias.data<float>();
    backward.d_initial_h = gradients.d_initial_h.data<float>();
    backward.d_initial_c = gradients.d_initial_c.data<float>();
    call(backend_of(device).recurrent_backward, saved.pack.get(), static_cast<const LnRecurrentBackward*>(&backward));
    saved.memory = {};
    return gradients;
}

}  // namespace lstm_native::ops
