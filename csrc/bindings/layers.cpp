// Recurrent layers, dense, embedding and activations in Python (floor 3).
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "bindings/bindings.h"
#include "core/activation.h"
#include "core/error.h"
#include "ops/activation.h"
#include "ops/dense.h"
#include "ops/embedding.h"
#include "ops/recurrent.h"

namespace lstm_native::bindings {
namespace {

using core::Tensor;
using ops::Variable;

// Costs in operations an element, for the choice whether other Python threads may run meanwhile (see run()).
constexpr double kActivationCost = 10.0;
constexpr double kGatherCost = 1.0;

// Operations of the products of `steps` time steps of one batch row.
double recurrent_work(const ops::RecurrentWeights& weights, double steps) {
    return 2.0 * steps * static_cast<double>(weights.inputs() + weights.units()) *
           static_cast<double>(weights.gate_columns());
}

double recurrent_work(const ops::RecurrentCall& call) {
    // Any shape may come here; wrong ones are the operation's to refuse.
    const core::Shape& shape = (call.index.defined() ? call.index : call.inputs).shape();
    return recurrent_work(call.weights, shape.rank() >= 2 ? static_cast<double>(shape[0] * shape[1]) : 0.0);
}

double recurrent_work(const ops::RecurrentBackCall& call) {
    const LnRecurrentForward& forward = call.saved.forward;
    return 2.0 * recurrent_work(call.weights, static_cast<double>(forward.B) * static_cast<double>(forward.T));
}

template <class Call>
double recurrent_work(const std::vector<Call>& calls) {
    double work = 0.0;
    for (const Call& call : calls) work += recurrent_work(call);
    return work;
}

ops::RecurrentCall forward_call(ops::RecurrentWeights& weights, const Tensor& inputs, OptionalTensor mask,
                                OptionalTensor reset, OptionalTensor initial_h, OptionalTensor initial_c,
                                bool return_sequences, bool go_backwards, bool zero_output_for_mask, bool training,
                                OptionalTensor index, std::int64_t checkpoint_steps, OptionalTensor recurrent_mask,
                                bool time_first) {
    ops::RecurrentOptions options;
    options.return_sequences = return_sequences;
    options.go_backwards = go_backwards;
    options.zero_output_for_mask = zero_output_for_mask;
    options.training = training;
    options.time_first = time_first;
    options.checkpoint_steps = checkpoint_steps;
    return {weights,         inputs,          index.get(),          mask.get(), reset.get(),
            initial_h.get(), initial_c.get(), recurrent_mask.get(), options};
}

ops::RecurrentBackCall backward_call(ops::RecurrentWeights& weights, ops::RecurrentSaved& saved,
                                     OptionalTensor d_output, OptionalTensor d_h, OptionalTensor d_c,
                                     bool need_d_inputs, bool need_d_initial) {
    return {weights, saved, d_output.get(), d_h.get(), d_c.get(), need_d_inputs, need_d_initial};
}

py::tuple to_python(ops::RecurrentResult&& result) {
    return py::make_tuple(std::move(result.output), std::move(result.h), or_none(std::move(result.c)),
                          std::move(result.saved));
}

py::tuple to_python(ops::RecurrentGradients&& result) {
    return py::make_tuple(or_none(std::move(result.d_inputs)), or_none(std::move(result.d_kernel)),
                          or_none(std::move(result.d_recurrent_kernel)), or_none(std::move(result.d_bias)),
                          or_none(std::move(result.d_initial_h)), or_none(std::move(result.d_initial_c)),
                          or_none(std::move(result.d_peepholes)), or_none(std::move(result.d_projection)));
}

template <class Result>
py::list to_python(std::vector<Result>&& results) {
    py::list list;
    for (Result& result : results) list.append(to_python(std::move(result)));
    return list;
}

py::tuple recurrent_forward(const ops::RecurrentCall& call) {
    return to_python(run(recurrent_work(call), [&] { return ops::recurrent_forward(call); }));
}

ops::RecurrentGradients run_backward(const ops::RecurrentBackCall& call) {
    return run(recurrent_work(call), [&] { return ops::recurrent_backward(call); });
}

py::tuple recurrent_backward(const ops::RecurrentBackCall& call) {
    ops::RecurrentGradients result = run_backward(call);
    return py::make_tuple(or_none(std::move(result.d_inputs)), or_none(std::move(result.d_kernel)),
                          or_none(std::move(result.d_recurrent_kernel)), or_none(std::move(result.d_bias)),
                          or_none(std::move(result.d_initial_h)), or_none(std::move(result.d_initial_c)));
}

py::tuple general_backward(const ops::RecurrentBackCall& call) { return to_python(run_backward(call)); }

// A function of the arguments that make a call.
template <class Result, class Call, class... Arguments>
auto of_arguments(Result (*function)(const Call&), Call (*make)(Arguments...)) {
    return [=](Arguments... arguments) { return function(make(arguments...)); };
}

template <class Call, class... Arguments, std::size_t... I>
Call call_of(const py::tuple& arguments, Call (*make)(Arguments...), std::index_sequence<I...>) {
    return make(arguments[I].template cast<Arguments>()...);
}

// The calls that are made of the arguments in each tuple.
template <class Call, class... Arguments>
std::vector<Call> calls_of(const std::vector<py::tuple>& given, Call (*make)(Arguments...)) {
    std::vector<Call> calls;
    calls.reserve(given.size());
    for (const py::tuple& arguments : given) {
        core::check(arguments.size() == sizeof...(Arguments), "recurrent calls: one has ", arguments.size(),
                    " arguments, expected ", sizeof...(Arguments));
        calls.push_back(call_of(arguments, make, std::index_sequence_for<Arguments...>{}));
    }
    return calls;
}

py::list recurrent_forward_together(const std::vector<py::tuple>& given, bool joined) {
    const std::vector<ops::RecurrentCall> calls = calls_of(given, &forward_call);
    return to_python(run(recurrent_work(calls), [&] { return ops::recurrent_forward(calls, joined); }));
}

py::list recurrent_backward_together(const std::vector<py::tuple>& given) {
    const std::vector<ops::RecurrentBackCall> calls = calls_of(given, &backward_call);
    return to_python(run(recurrent_work(calls), [&] { return ops::recurrent_backward(calls); }));
}

// A name, or (name, alpha, beta).
ops::NamedFunction named_function(const py::object& f) {
    if (py::isinstance<py::str>(f)) return {f.cast<std::string>()};
    const auto [name, alpha, beta] = f.cast<std::tuple<std::string, float, float>>();
    return {name, true, alpha, beta};
}

using VariablePointer = std::shared_ptr<Variable>;

std::shared_ptr<ops::RecurrentWeights> general_weights(
    const std::string& cell, VariablePointer kernel, VariablePointer recurrent_kernel, VariablePointer bias,
    const py::object& activation, const py::object& recurrent_activation, const py::object& output_activation,
    VariablePointer peepholes, VariablePointer projection, bool coupled, std::optional<float> clip) {
    ops::GeneralOptions options;
    options.activation = named_function(activation);
    options.recurrent_activation = named_function(recurrent_activation);
    options.output_activation = named_function(output_activation);
    options.peepholes = std::move(peepholes);
    options.projection = std::move(projection);
    options.coupled = coupled;
    if (clip.has_value()) options.clip = *clip;
    return std::make_shared<ops::RecurrentWeights>(cell, std::move(kernel), std::move(recurrent_kernel),
                                                   std::move(bias), options);
}

std::shared_ptr<ops::RecurrentWeights> weights_in_rows(const std::string& cell, const Tensor& weight_ih,
                                                       const Tensor& weight_hh, OptionalTensor bias,
                                                       OptionalTensor projection) {
    return ops::RecurrentWeights::in_rows(cell, weight_ih, weight_hh, bias.get(), projection.get());
}

double dense_work(const ops::DenseWeights& weights, const Tensor& x) {
    return 2.0 * static_cast<double>(x.count()) * static_cast<double>(weights.units());
}

Tensor dense_forward(ops::DenseWeights& weights, const Tensor& x) {
    return run(dense_work(weights, x), [&] { return ops::dense_forward(weights, x); });
}

py::tuple dense_backward(ops::DenseWeights& weights, const Tensor& x, const Tensor& d_y, bool need_d_x) {
    ops::DenseGradients result =
        run(2.0 * dense_work(weights, x), [&] { return ops::dense_backward(weights, x, d_y, need_d_x); });
    return py::make_tuple(or_none(std::move(result.d_x)), or_none(std::move(result.d_kernel)),
                          or_none(std::move(result.d_bias)));
}

Tensor embedding_forward(const Variable& table, const Tensor& ids) {
    const double width = table.tensor().rank() == 2 ? static_cast<double>(table.tensor().shape()[1]) : 1.0;
    return run(kGatherCost * width * static_cast<double>(ids.count()),
               [&] { return ops::embedding_forward(table, ids); });
}

py::object embedding_distinct(const Variable& table, const Tensor& ids) {
    const ops::DistinctIds distinct =
        ops::distinct_ids(ids, table.tensor().rank() == 2 ? table.tensor().shape()[0] : 0);
    if (!distinct.ids.defined()) return py::none();
    return py::make_tuple(ops::embedding_forward(table, distinct.ids), distinct.ids, distinct.index);
}

Tensor embedding_backward(const Tensor& ids, const Tensor& d_y, std::int64_t input_dim) {
    return run(kGatherCost * static_cast<double>(d_y.count()),
               [&] { return ops::embedding_backward(ids, d_y, input_dim); });
}

py::list activation_names() {
    py::list names;
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(core::Activation::count); ++i) {
        names.append(core::name_of(static_cast<core::Activation>(i)));
    }
    return names;
}

Tensor activation_forward(const char* name, const Tensor& x) {
    const core::Activation activation = activation_from_name(name);
    return run(kActivationCost * static_cast<double>(x.count()),
               [&] { return ops::activation_forward(activation, x); });
}

Tensor activation_backward(const char* name, const Tensor& x, const Tensor& y, const Tensor& d_y) {
    const core::Activation activation = activation_from_name(name);
    return run(kActivationCost * static_cast<double>(x.count()),
               [&] { return ops::activation_backward(activation, x, y, d_y); });
}

}  // namespace

core::Activation activation_from_name(const char* name) {
    core::Activation activation{};
    if (!core::find_activation(name, &activation)) core::fail("unknown activation '", name, "'");
    return activation;
}

void bind_layers(py::module_& module) {
    const py::arg present = py::arg().none(false);  // a smart pointer takes None as null otherwise

    py::class_<ops::RecurrentWeights, std::shared_ptr<ops::RecurrentWeights>>(module, "RecurrentWeights")
        .def(py::init<const std::string&, VariablePointer, VariablePointer, VariablePointer, const std::string&,
                      const std::string&>(),
             py::arg(), present, present, py::arg(), py::arg(), py::arg())
        .def_static("general", &general_weights, py::arg(), present, present, py::arg(), py::arg(), py::arg(),
                    py::arg(), py::kw_only(), py::arg("peepholes") = py::none(), py::arg("projection") = py::none(),
                    py::arg("coupled") = false, py::arg("clip") = py::none())
        .def_static("in_rows", &weights_in_rows);
    py::class_<ops::RecurrentSaved, std::shared_ptr<ops::RecurrentSaved>>(module, "RecurrentSaved");
    const py::arg any;
    module
        .def("recurrent_forward", of_arguments(&recurrent_forward, &forward_call), any, any, any, any, any, any, any,
             any, any, any, py::arg("index") = py::none(), py::arg("checkpoint_steps") = 0,
             py::arg("recurrent_mask") = py::none(), py::arg("time_first") = false)
        .def("recurrent_forward_together", &recurrent_forward_together)
        .def("recurrent_backward", of_arguments(&recurrent_backward, &backward_call))
        .def("recurrent_backward_together", &recurrent_backward_together)
        .def("general_backward", of_arguments(&general_backward, &backward_call));

    py::class_<ops::DenseWeights, std::shared_ptr<ops::DenseWeights>>(module, "DenseWeights")
        .def(py::init<VariablePointer, VariablePointer>(), present, py::arg());
    module.def("dense_forward", &dense_forward).def("dense_backward", &dense_backward);

    module.def("embedding_check", &ops::check_ids)
        .def("embedding_forward", &embedding_forward)
        .def("embedding_distinct", &embedding_distinct)
        .def("embedding_backward", &embedding_backward);

    module.def("activation_names", &activation_names)
        .def("activation_is_elementwise",
             [](const char* name) { return core::is_elementwise(activation_from_name(name)); })
        .def("activation_forward", &activation_forward)
        .def("activation_backward", &activation_backward);
}

}  // namespace lstm_native::bindings
