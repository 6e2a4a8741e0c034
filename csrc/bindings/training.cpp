// Losses, optimizers, arithmetic on gradients and random numbers in Python (floor 3).
#include <cmath>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "core/error.h"
#include "core/random.h"
#include "ops/dropout.h"
#include "ops/loss.h"
#include "ops/optimizer.h"

namespace lstm_native::bindings {
namespace {

using core::Tensor;
using ops::Variable;

// Costs in operations an element, for the choice whether other Python threads may run meanwhile (see run()).
constexpr double kLossCost = 10.0;
constexpr double kStepCost = 5.0;
constexpr double kRandomCost = 20.0;

py::tuple loss(const std::string& name, const Tensor& y_true, const Tensor& y_pred, OptionalTensor row_weights,
               bool from_logits, double parameter, bool need_gradient) {
    ops::LossResult result = run(kLossCost * static_cast<double>(y_pred.count()), [&] {
        return ops::loss(name, y_true, y_pred, row_weights.tensor, from_logits, parameter, need_gradient);
    });
    return py::make_tuple(std::move(result.rows), or_none(std::move(result.d_y_pred)));
}

// The items of a Python sequence for the length of one call. The tuple keeps them alive, whatever other
// threads do to the sequence meanwhile.
class Items {
public:
    Items(const py::object& sequence, const char* name) : name_(name) {
        if (!sequence.is_none()) items_ = py::tuple(sequence);
    }

    std::vector<Variable*> variables() const {
        std::vector<Variable*> result;
        result.reserve(items_.size());
        for (const py::handle item : items_) {
            if (!py::isinstance<Variable>(item)) refuse(item, "Variable");
            result.push_back(item.cast<Variable*>());
        }
        return result;
    }

    std::vector<Tensor> tensors() const {
        std::vector<Tensor> result;
        result.reserve(items_.size());
        for (const py::handle item : items_) {
            if (!py::isinstance<Tensor>(item)) refuse(item, "Tensor");
            result.push_back(*item.cast<const Tensor*>());
        }
        return result;
    }

    std::vector<double> numbers() const {
        std::vector<double> result;
        result.reserve(items_.size());
        for (const py::handle item : items_) {
            result.push_back(PyFloat_AsDouble(item.ptr()));
            if (result.back() == -1.0 && PyErr_Occurred() != nullptr) throw py::error_already_set();
        }
        return result;
    }

private:
    [[noreturn]] void refuse(const py::handle& item, const char* expected) const {
        throw py::type_error(
            core::message(name_, " holds an object of type ", Py_TYPE(item.ptr())->tp_name, ", expected ", expected));
    }

    const char* name_;
    py::tuple items_;
};

double step_work(const std::vector<Variable*>& variables) {
    double count = 0.0;
    for (const Variable* variable : variables) count += static_cast<double>(variable->tensor().count());
    return kStepCost * count;
}

void adam_step(const py::object& variables, const py::object& gradients, const py::object& m, const py::object& v,
               const py::object& v_hat, double alpha, double beta_1, double beta_2, double epsilon,
               const py::object& decays) {
    const Items variable_items(variables, "adam_step: variables"), gradient_items(gradients, "adam_step: gradients"),
        m_items(m, "adam_step: m"), v_items(v, "adam_step: v"), v_hat_items(v_hat, "adam_step: v_hat"),
        decay_items(decays, "adam_step: decays");
    const std::vector<Variable*> targets = variable_items.variables();
    const std::vector<Tensor> gradient_tensors = gradient_items.tensors();
    const std::vector<Variable*> first = m_items.variables();
    const std::vector<Variable*> second = v_items.variables();
    const std::vector<Variable*> largest = v_hat_items.variables();
    const std::vector<double> decay_numbers = decay_items.numbers();
    run(step_work(targets), [&] {
        ops::adam_step(targets, gradient_tensors, first, second, largest, alpha, beta_1, beta_2, epsilon,
                       decay_numbers);
    });
}

void sgd_step(const py::object& variables, const py::object& gradients, const py::object& velocities,
              double learning_rate, double momentum, bool nesterov, const py::object& decays) {
    const Items variable_items(variables, "sgd_step: variables"), gradient_items(gradients, "sgd_step: gradients"),
        velocity_items(velocities, "sgd_step: velocities"), decay_items(decays, "sgd_step: decays");
    const std::vector<Variable*> targets = variable_items.variables();
    const std::vector<Tensor> gradient_tensors = gradient_items.tensors();
    const std::vector<Variable*> velocity_variables = velocity_items.variables();
    const std::vector<double> decay_numbers = decay_items.numbers();
    run(step_work(targets), [&] {
        ops::sgd_step(targets, gradient_tensors, velocity_variables, learning_rate, momentum, nesterov, decay_numbers);
    });
}

void rmsprop_step(const py::object& variables, const py::object& gradients, const py::object& velocities,
                  const py::object& momentums, const py::object& averages, double learning_rate, double rho,
                  double momentum, double epsilon, const py::object& decays) {
    const Items variable_items(variables, "rmsprop_step: variables"),
        gradient_items(gradients, "rmsprop_step: gradients"), velocity_items(velocities, "rmsprop_step: velocities"),
        momentum_items(momentums, "rmsprop_step: momentums"), average_items(averages, "rmsprop_step: averages"),
        decay_items(decays, "rmsprop_step: decays");
    const std::vector<Variable*> targets = variable_items.variables();
    const std::vector<Tensor> gradient_tensors = gradient_items.tensors();
    const std::vector<Variable*> squares = velocity_items.variables();
    const std::vector<Variable*> speeds = momentum_items.variables();
    const std::vector<Variable*> means = average_items.variables();
    const std::vector<double> decay_numbers = decay_items.numbers();
    run(step_work(targets), [&] {
        ops::rmsprop_step(targets, gradient_tensors, squares, speeds, means, learning_rate, rho, momentum, epsilon,
                          decay_numbers);
    });
}

double element_work(const Tensor& tensor) { return static_cast<double>(tensor.count()); }

py::list squared_norms(const py::object& arrays) {
    const std::vector<Tensor> tensors = Items(arrays, "squared_norms: arrays").tensors();
    double work = 0.0;
    for (const Tensor& tensor : tensors) work += element_work(tensor);
    const std::vector<double> norms = run(work, [&] { return ops::squared_norms(tensors); });
    py::list result;
    for (const double norm : norms) result.append(norm);
    return result;
}

py::list accumulate(const py::object& sums, const py::object& gradients, std::int64_t steps) {
    const std::vector<Variable*> targets = Items(sums, "accumulate_: sums").variables();
    const std::vector<Tensor> tensors = Items(gradients, "accumulate_: gradients").tensors();
    std::vector<Tensor> means = run(step_work(targets), [&] { return ops::accumulate(targets, tensors, steps); });
    py::list result;
    for (Tensor& mean : means) result.append(py::cast(std::move(mean)));
    return result;
}

void average(const py::object& averages, const py::object& variables, float momentum) {
    const std::vector<Variable*> targets = Items(averages, "average_: averages").variables();
    const std::vector<Variable*> sources = Items(variables, "average_: variables").variables();
    run(step_work(targets), [&] { ops::average(targets, sources, momentum); });
}

py::list penalties(const std::vector<Tensor>& arrays, const std::vector<double>& l1, const std::vector<double>& l2,
                   bool need_gradients) {
    double work = 0.0;
    for (const Tensor& tensor : arrays) work += kStepCost * element_work(tensor);
    std::vector<ops::Penalty> found = run(work, [&] { return ops::penalties(arrays, l1, l2, need_gradients); });
    py::list result;
    for (ops::Penalty& penalty : found)
        result.append(py::make_tuple(penalty.value, or_none(std::move(penalty.gradient))));
    return result;
}

py::object penalty(const Tensor& x, double l1, double l2, bool need_gradient) {
    return penalties({x}, {l1}, {l2}, need_gradient)[0];
}

py::list penalties_of_variables(const py::object& variables, const py::object& l1, const py::object& l2,
                                bool need_gradients) {
    std::vector<Tensor> tensors;
    for (const Variable* variable : Items(variables, "penalties: variables").variables())
        tensors.push_back(variable->values());
    return penalties(tensors, Items(l1, "penalties: l1").numbers(), Items(l2, "penalties: l2").numbers(),
                     need_gradients);
}

// --- random numbers ---

template <class Fill>
Tensor random_tensor(const py::object& shape, core::DType dtype, const Fill& fill) {
    Tensor result = Tensor::empty(shape_from_python(shape), dtype);
    run(kRandomCost * element_work(result), [&] { fill(result); });
    return result;
}

void check_spread(const char* function, double mean, double stddev) {
    if (!std::isfinite(mean)) core::fail(function, ": mean is ", mean, ", expected a finite number");
    if (!std::isfinite(stddev) || stddev < 0.0) core::fail(function, ": stddev is ", stddev, ", expected 0 or more");
}

Tensor random_uniform(const py::object& shape, double low, double high, std::uint64_t seed, std::uint64_t offset) {
    if (!std::isfinite(low) || !std::isfinite(high) || low > high) {
        core::fail("random_uniform: low is ", low, ", high is ", high, ", expected finite numbers, low <= high");
    }
    return random_tensor(shape, core::DType::float32, [=](const Tensor& out) {
        core::fill_uniform(out.data<float>(), out.count(), low, high, seed, offset);
    });
}

Tensor random_orthonormal(const py::object& shape, std::uint64_t seed, std::uint64_t offset) {
    return random_tensor(shape, core::DType::float32, [=](const Tensor& out) {
        if (out.rank() != 2 || out.shape()[0] > out.shape()[1])
            core::fail("random_orthonormal: shape is ", out.shape().text(), ", expected (vectors, length >= vectors)");
        core::fill_orthonormal(out.data<float>(), out.shape()[0], out.shape()[1], seed, offset);
    });
}

Tensor random_normal(const py::object& shape, double mean, double stddev, std::uint64_t seed, std::uint64_t offset) {
    check_spread("random_normal", mean, stddev);
    return random_tensor(shape, core::DType::float32, [=](const Tensor& out) {
        core::fill_normal(out.data<float>(), out.count(), mean, stddev, seed, offset);
    });
}

Tensor random_truncated_normal(const py::object& shape, double mean, double stddev, std::uint64_t seed,
                               std::uint64_t offset) {
    check_spread("random_truncated_normal", mean, stddev);
    return random_tensor(shape, core::DType::float32, [=](const Tensor& out) {
        core::fill_truncated_normal(out.data<float>(), out.count(), mean, stddev, seed, offset);
    });
}

Tensor random_permutation(std::int64_t n, std::uint64_t seed, std::uint64_t offset) {
    if (n < 0) core::fail("random_permutation: n is ", n, ", expected 0 or more");
    return random_tensor(py::make_tuple(n), core::DType::int64,
                         [=](const Tensor& out) { core::fill_permutation(out.data<std::int64_t>(), n, seed, offset); });
}

Tensor dropout_mask(const py::object& shape, double rate, std::uint64_t seed, std::uint64_t offset,
                    const py::object& drawn, const std::string& device) {
    const core::Shape whole = shape_from_python(shape);
    const core::Shape numbers = drawn.is_none() ? whole : shape_from_python(drawn);
    const core::Device place = device_from_name(device);
    return run(kRandomCost * static_cast<double>(numbers.count()),
               [&] { return ops::dropout_mask(whole, numbers, rate, seed, offset, place); });
}

}  // namespace

void bind_training(py::module_& module) {
    module.def("loss", &loss)
        .def("adam_step", &adam_step)
        .def("sgd_step", &sgd_step)
        .def("rmsprop_step", &rmsprop_step);

    module
        .def("add_", [](const Tensor& target,
                        const Tensor& other) { run(element_work(target), [&] { ops::add_(target, other); }); })
        .def("scale_", [](const Tensor& target,
                          double factor) { run(element_work(target), [&] { ops::scale_(target, factor); }); })
        .def("clip_", [](const Tensor& target, double low,
                         double high) { run(element_work(target), [&] { ops::clip_(target, low, high); }); })
        .def("multiply",
             [](const Tensor& a, const Tensor& b) { return run(element_work(a), [&] { return ops::multiply(a, b); }); })
        .def("squared_norms", &squared_norms)
        .def("accumulate_", &accumulate)
        .def("average_", &average)
        .def("penalty", &penalty)
        .def("penalties", &penalties_of_variables);

    module.def("random_uniform", &random_uniform)
        .def("random_normal", &random_normal)
        .def("random_orthonormal", &random_orthonormal)
        .def("random_truncated_normal", &random_truncated_normal)
        .def("random_permutation", &random_permutation)
        .def("dropout_mask", &dropout_mask, py::arg("shape"), py::arg("rate"), py::arg("seed"), py::arg("offset"),
             py::arg("drawn") = py::none(), py::arg("device") = "cpu");
}

}  // namespace lstm_native::bindings
