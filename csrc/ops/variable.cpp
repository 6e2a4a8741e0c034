// Variable and PackCache (floor 2).
#include "ops/variable.h"

#include <cstddef>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "core/fork.h"

namespace lstm_native::ops {

Variable::Variable(const core::Tensor& value) : tensor_(value.copy()) {}

std::shared_ptr<Variable> Variable::around(const core::Tensor& value) {
    std::shared_ptr<Variable> made(new Variable);
    made->tensor_ = value;
    return made;
}

void Variable::assign(const core::Tensor& value) {
    core::check(value.shape() == tensor_.shape(), "Variable.assign: value has shape ", value.shape(), ", expected ",
                tensor_.shape());
    core::check(value.dtype() == tensor_.dtype(), "Variable.assign: value has dtype ", core::name_of(value.dtype()),
                ", expected ", core::name_of(tensor_.dtype()));
    core::copy_bytes(tensor_.raw(), tensor_.device(), value.raw(), value.device(), value.bytes());
    mark_written();
}

core::Tensor Variable::values() const {
    return is_quantized() ? core::dequantize({tensor_, scales_, scale_axis_}) : tensor_;
}

LnMatrix Variable::matrix(const char* label, int axis) const {
    const core::DType dtype = tensor_.dtype();
    core::check(dtype == core::DType::float32 || is_quantized(), label, " has dtype ", core::name_of(dtype),
                ", expected float32");
    if (dtype == core::DType::float32) return {LN_STORED_FLOAT32, tensor_.raw(), nullptr};
    if (dtype == core::DType::bfloat16) return {LN_STORED_BFLOAT16, tensor_.raw(), nullptr};
    core::check(scale_axis_ == axis, label, " has its scales along axis ", scale_axis_, ", expected ", axis);
    return {LN_STORED_INT8, tensor_.raw(), scales_.data<const float>()};
}

void Variable::quantize(const std::vector<ToQuantize>& variables, core::DType dtype) {
    std::vector<core::Quantized> made;
    made.reserve(variables.size());
    for (const ToQuantize& one : variables)
        made.push_back(core::quantize(one.label.c_str(), one.variable->tensor_, dtype, one.axis));
    for (std::size_t i = 0; i < variables.size(); ++i) {
        Variable& variable = *variables[i].variable;
        variable.tensor_ = std::move(made[i].codes);
        variable.scales_ = std::move(made[i].scales);
        variable.scale_axis_ = made[i].axis;
        variable.mark_written();
    }
}

void Variable::move(const std::vector<Variable*>& variables, core::Device device) {
    std::vector<core::Tensor> moved;
    moved.reserve(variables.size());
    for (const Variable* variable : variables) {
        core::check(!variable->is_quantized() || device == core::Device::cpu,
                    "move_variables: a variable is quantized to ", core::name_of(variable->tensor_.dtype()),
                    ", which the device '", core::name_of(device), "' has not");
        moved.push_back(variable->tensor_.to(device));
    }
    for (std::size_t i = 0; i < variables.size(); ++i) {
        if (variables[i]->tensor_.device() == device) continue;
        variables[i]->tensor_ = std::move(moved[i]);
        variables[i]->mark_written();
    }
}

void check_float32(const char* name, const std::shared_ptr<Variable>& variable) {
    core::check(variable == nullptr || variable->tensor().dtype() == core::DType::float32, name, " has dtype ",
                variable == nullptr ? "" : core::name_of(variable->tensor().dtype()), ", expected float32");
}

PackCache::PackCache(std::initializer_list<std::shared_ptr<const Variable>> variables) {
    for (const auto& variable : variables) {
        if (variable != nullptr) variables_.push_back(variable);
    }
}

namespace {
std::mutex& packs_mutex() {
    static std::mutex* const mutex = [] {
        static std::mutex made;
        core::hold_over_fork(made);
        return &made;
    }();
    return *mutex;
}
}  // namespace

std::shared_ptr<void> PackCache::find(std::uint64_t versions, std::uint64_t epoch) {
    std::shared_ptr<void> stale;  // freed after the lock
    const std::lock_guard<std::mutex> lock(packs_mutex());
    if (versions == versions_ && epoch == epoch_) return pack_;
    stale.swap(pack_);
    return nullptr;
}

void PackCache::keep(std::shared_ptr<void> pack, std::uint64_t versions, std::uint64_t epoch) {
    const std::lock_guard<std::mutex> lock(packs_mutex());
    pack_.swap(pack);
    versions_ = versions;
    epoch_ = epoch;
}

std::uint64_t PackCache::version_sum() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& variable : variables_) sum += variable->version();
    return sum;
}

}  // namespace lstm_native::ops
