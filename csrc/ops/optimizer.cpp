#include "ops/optimizer.h"

#include <cstddef>
#include <cstdint>

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::DType;
using core::Tensor;

void check_float(const char* function, const char* argument, const Tensor& x) {
    core::check(x.defined() && x.dtype() == DType::float32, function, ": ", argument, " is ",
                x.defined() ? core::name_of(x.dtype()) : "missing", ", expected float32");
}

void check_length(const char* function, const char* argument, std::size_t seen, std::size_t expected) {
    core::check(seen == expected, function, ": ", argument, " has ", seen, " entries, expected ", expected,
                ", one for every variable");
}

void check_like(const char* function, const char* argument, std::size_t i, const Tensor& x, const Tensor& variable) {
    core::check(
        x.defined() && x.dtype() == DType::float32 && x.shape() == variable.shape() && x.device() == variable.device(),
        function, ": ", argument, "[", i, "] is ", x.defined() ? core::name_of(x.dtype()) : "missing", " ", x.shape(),
        ", expected float32 ", variable.shape(), " as the variable, on its device");
}

void check_slots(const char* function, const char* argument, const std::vector<Variable*>& variables,
                 const std::vector<Variable*>& slots) {
    check_length(function, argument, slots.size(), variables.size());
    for (std::size_t i = 0; i < slots.size(); ++i) {
        core::check(slots[i] != nullptr, function, ": ", argument, "[", i, "] is missing");
        check_like(function, argument, i, slots[i]->tensor(), variables[i]->tensor());
    }
}

// Checks variables, gradients and decays of either rule; gives the gradients on the device of the variables.
std::vector<Tensor> check_step(const char* function, const std::vector<Variable*>& variables,
                               std::vector<Tensor> gradients, const std::vector<double>& decays) {
    check_length(function, "gradients", gradients.size(), variables.size());
    for (std::size_t i = 0; i < variables.size(); ++i) {
        core::check(variables[i] != nullptr, function, ": variables[", i, "] is missing");
        const Tensor& variable = variables[i]->tensor();
        check_float(function, "variable", variable);
        core::check(variable.device() == variables[0]->tensor().device(), function,
                    ": the variables are on different devices");
        gradients[i] = gradients[i].to(variable.device());
        check_like(function, "gradients", i, gradients[i], variable);
    }
    if (!decays.empty()) check_length(function, "decays", decays.size(), variables.size());
    return gradients;
}

float* floats(const std::vector<Variable*>& variables, std::size_t i) {
    return variables.empty() ? nullptr : variables[i]->tensor().data<float>();
}

float decay_of(const std::vector<double>& decays, std::size_t i) {
    return decays.empty() ? 0.0F : static_cast<float>(decays[i]);
}

void mark_written(const std::vector<Variable*>& variables) {
    for (Variable* variable : variables) variable->mark_written();
}

void check_pair(const char* function, const char* first, const Tensor& a, const char* second, const Tensor& b) {
    check_float(function, first, a);
    check_float(function, second, b);
    core::check(a.shape() == b.shape(), function, ": ", second, " has shape ", b.shape(), ", expected ", a.shape(),
                " as ", first);
}

}  // namespace

void adam_step(const std::vector<Variable*>& variables, const std::vector<Tensor>& given,
               const std::vector<Variable*>& m, const std::vector<Variable*>& v, const std::vector<Variable*>& v_hat,
               double alpha, double beta_1, double beta_2, double epsilon, const std::vector<double>& decays) {
    constexpr const char* kFunction = "adam_step";
    const std::vector<Tensor> gradients = check_step(kFunction, variables, given, decays);
    check_slots(kFunction, "m", variables, m);
    check_slots(kFunction, "v", variables, v);
    if (!v_hat.empty()) check_slots(kFunction, "v_hat", variables, v_hat);
    if (variables.empty()) return;
    std::vector<LnAdamArray> arrays(variables.size());
    for (std::size_t i = 0; i < variables.size(); ++i) {
        arrays[i] = {floats(variables, i), gradients[i].data<const float>(),
                     floats(m, i),         floats(v, i),
                     floats(v_hat, i),     decay_of(decays, i),
                     gradients[i].count()};
    }
    call(backend_of(variables[0]->tensor().device()).adam_step, static_cast<std::int64_t>(arrays.size()), arrays.data(),
         alpha, beta_1, beta_2, epsilon);
    mark_written(variables);
    mark_written(m);
    mark_written(v);
    mark_written(v_hat);
}

void sgd_step(const std::vector<Variable*>& variables, const std::vector<Tensor>& given,
              const std::vector<Variable*>& velocities, double learning_rate, double momentum, bool nesterov,
              const std::vector<double>& decays) {
    constexpr const char* kFunction = "sgd_step";
    const std::vector<Tensor> gradients = check_step(kFunction, variables, given, decays);
    if (!velocities.empty()) check_slots(kFunction, "velocities", variables, velocities);
    if (variables.empty()) return;
    std::vector<LnSgdArray> arrays(variables.size());
    for (std::size_t i = 0; i < variables.size(); ++i) {
        arrays[i] = {floats(variables, i), gradients[i].data<const float>(), floats(velocities, i), decay_of(decays, i),
                     gradients[i].count()};
    }
    call(backend_of(variables[0]->tensor().device()).sgd_step, static_cast<std::int64_t>(arrays.size()), arrays.data(),
         static_cast<float>(learning_rate), static_cast<float>(momentum), std::int32_t{nesterov});
    mark_written(variables);
    mark_written(velocities);
}

void rmsprop_step(const std::vector<Variable*>& variables, const std::vector<Tensor>& given,
                  const std::vector<Variable*>& velocities, const std::vector<Variable*>& momentums,
                  const std::vector<Variable*>& averages, double learning_rate, double rho, double momentum,
                  double epsilon, const std::vector<double>& decays) {
    constexpr const char* kFunction = "rmsprop_step";
    const std::vector<Tensor> gradients = check_step(kFunction, variables, given, decays);
    check_slots(kFunction, "velocities", variables, velocities);
    if (!momentums.empty()) check_slots(kFunction, "momentums", variables, momentums);
    if (!averages.empty()) check_slots(kFunction, "averages", variables, averages);
    if (variables.empty()) return;
    std::vector<LnRmspropArray> arrays(variables.size());
    for (std::size_t i = 0; i < variables.size(); ++i) {
        arrays[i] = {floats(variables, i),  gradients[i].data<const float>(),
                     floats(velocities, i), floats(momentums, i),
                     floats(averages, i),   decay_of(decays, i),
                     gradients[i].count()};
    }
    call(backend_of(variables[0]->tensor().device()).rmsprop_step, static_cast<std::int64_t>(arrays.size()),
         arrays.data(), static_cast<float>(learning_rate), rho, static_cast<float>(momentum),
         static_cast<float>(epsilon));
    mark_written(variables);
    mark_written(velocities);
    mark_written(momentums);
    mark_written(averages);
}

void add_(const Tensor& target, const Tensor& other) {
    check_pair("add_", "target", target, "other", other);
    const Tensor there = other.to(target.device());
    call(backend_of(target.device()).add, target.count(), target.data<float>(), there.data<const float>());
}

void scale_(const Tensor& target, double factor) {
    check_float("scale_", "target", target);
    call(backend_of(target.device()).scale, target.count(), target.data<float>(), static_cast<float>(factor));
}

void clip_(const Tensor& target, double low, double high) {
    check_float("clip_", "target", target);
    core::check(low <= high, "clip_: low is ", low, " and high is ", high, ", expected low <= high");
    call(backend_of(target.device()).clip, target.count(), target.data<float>(), static_cast<float>(low),
         static_cast<float>(high));
}

Tensor multiply(const Tensor& a, const Tensor& b) {
    check_pair("multiply", "a", a, "b", b);
    const core::Device device = device_of({&a, &b});
    const Tensor there[] = {a.to(device), b.to(device)};
    Tensor result = Tensor::empty(a.shape(), DType::float32, device);
    call(backend_of(device).multiply, a.count(), there[0].data<const float>(), there[1].data<const float>(),
         result.data<float>());
    return result;
}

std::vector<double> squared_norms(const std::vector<Tensor>& arrays) {
    std::vector<double> results(arrays.size());
    if (arrays.empty()) return results;
    std::vector<LnNormArray> given;
    for (const Tensor& x : arrays) {
        check_float("squared_norms", "an array", x);
        core::check(x.device() == arrays[0].device(), "squared_norms: the arrays are on different devices");
        given.push_back({x.data<const float>(), x.count()});
    }
    call(backend_of(arrays[0].device()).squared_norms, static_cast<std::int64_t>(given.size()), given.data(),
         results.data());
    return results;
}

std::vector<Tensor> accumulate(const std::vector<Variable*>& sums, const std::vector<Tensor>& given,
                               std::int64_t steps) {
    const std::vector<Tensor> gradients = check_step("accumulate", sums, given, {});
    std::vector<Tensor> means;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const Tensor& sum = sums[i]->tensor();
        add_(sum, gradients[i]);
        if (steps > 0) {
            means.push_back(sum.copy());
            scale_(means.back(), 1.0 / static_cast<double>(steps));
            core::zero_bytes(sum.raw(), sum.device(), sum.bytes());
        }
    }
    mark_written(sums);
    return means;
}

void average(const std::vector<Variable*>& averages, const std::vector<Variable*>& variables, float momentum) {
    check_slots("average", "averages", variables, averages);
    for (std::size_t i = 0; i < averages.size(); ++i) {
        const Tensor share = variables[i]->tensor().copy();
        scale_(share, 1.0F - momentum);
        scale_(averages[i]->tensor(), momentum);
        add_(averages[i]->tensor(), share);
    }
    mark_written(averages);
}

std::vector<Penalty> penalties(const std::vector<Tensor>& arrays, const std::vector<double>& l1,
                               const std::vector<double>& l2, bool need_gradients) {
    core::check(l1.size() == arrays.size() && l2.size() == arrays.size(), "penalties: ", l1.size(), " l1 and ",
                l2.size(), " l2 for ", arrays.size(), " arrays");
    std::vector<Penalty> results(arrays.size());
    if (arrays.empty()) return results;
    std::vector<LnPenaltyArray> given;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const Tensor& x = arrays[i];
        check_float("penalty", "x", x);
        core::check(x.device() == arrays[0].device(), "penalties: the arrays are on different devices");
        if (need_gradients) results[i].gradient = Tensor::empty(x.shape(), DType::float32, x.device());
        given.push_back({x.data<const float>(), l1[i], l2[i], results[i].gradient.data<float>(), x.count()});
    }
    std::vector<double> values(arrays.size());
    call(backend_of(arrays[0].device()).penalties, static_cast<std::int64_t>(given.size()), given.data(),
         values.data());
    for (std::size_t i = 0; i < values.size(); ++i) results[i].value = values[i];
    return results;
}

}  // namespace lstm_native::ops
