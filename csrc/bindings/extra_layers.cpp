// The layers around the recurrent ones in Python (floor 3): merging of directions, normalization, attention.
#include <memory>
#include <string>

#include "bindings/bindings.h"
#include "ops/attention.h"
#include "ops/merge.h"
#include "ops/normalization.h"

namespace lstm_native::bindings {
namespace {

using core::Tensor;
using ops::LayerNormWeights;

// Costs in operations an element, for the choice whether other Python threads may run meanwhile (see run()).
constexpr double kMergeCost = 2.0;
constexpr double kNormCost = 6.0;
constexpr double kTanhCost = 16.0;

double count_of(const Tensor& x) { return static_cast<double>(x.count()); }

Tensor merge_forward(const std::string& mode, OptionalTensor forward, const Tensor& backward) {
    const LnMerge merge = ops::merge_from_name(mode);
    return run(kMergeCost * count_of(backward), [&] { return ops::merge_forward(merge, forward.get(), backward); });
}

py::tuple merge_backward(const std::string& mode, const Tensor& d_outputs, std::int64_t forward_units,
                         OptionalTensor forward, OptionalTensor backward) {
    const LnMerge merge = ops::merge_from_name(mode);
    ops::MergeGradients result = run(kMergeCost * count_of(d_outputs), [&] {
        return ops::merge_backward(merge, d_outputs, forward_units, forward.get(), backward.get());
    });
    return py::make_tuple(or_none(std::move(result.d_forward)), std::move(result.d_backward));
}

py::tuple layer_norm_forward(const LayerNormWeights& weights, const Tensor& x, std::int64_t columns, bool training) {
    ops::LayerNormResult result =
        run(kNormCost * count_of(x), [&] { return ops::layer_norm_forward(weights, x, columns, training); });
    return py::make_tuple(std::move(result.y), or_none(std::move(result.mean)), or_none(std::move(result.inverse)));
}

py::tuple layer_norm_backward(const LayerNormWeights& weights, const Tensor& x, std::int64_t columns,
                              const Tensor& mean, const Tensor& inverse, const Tensor& d_y, bool need_d_x) {
    ops::LayerNormGradients result = run(kNormCost * count_of(x), [&] {
        return ops::layer_norm_backward(weights, x, columns, mean, inverse, d_y, need_d_x);
    });
    return py::make_tuple(or_none(std::move(result.d_x)), or_none(std::move(result.d_gamma)),
                          or_none(std::move(result.d_beta)));
}

double scores_work(const Tensor& query, const Tensor& key) {
    return key.rank() == 3 ? kTanhCost * count_of(query) * static_cast<double>(key.shape()[1]) : 0.0;
}

Tensor additive_scores_forward(const Tensor& query, const Tensor& key, OptionalTensor scale) {
    return run(scores_work(query, key), [&] { return ops::additive_scores_forward(query, key, scale.get()); });
}

py::tuple additive_scores_backward(const Tensor& query, const Tensor& key, OptionalTensor scale,
                                   const Tensor& d_scores) {
    ops::AdditiveScoresGradients result =
        run(scores_work(query, key), [&] { return ops::additive_scores_backward(query, key, scale.get(), d_scores); });
    return py::make_tuple(std::move(result.d_query), std::move(result.d_key), or_none(std::move(result.d_scale)));
}

}  // namespace

void bind_extra_layers(py::module_& module) {
    using VariablePointer = std::shared_ptr<ops::Variable>;
    module.def("merge_forward", &merge_forward).def("merge_backward", &merge_backward);

    py::class_<LayerNormWeights, std::shared_ptr<LayerNormWeights>>(module, "LayerNormWeights")
        .def(py::init<VariablePointer, VariablePointer, float, bool>());
    module.def("layer_norm_forward", &layer_norm_forward).def("layer_norm_backward", &layer_norm_backward);

    module.def("additive_scores_forward", &additive_scores_forward)
        .def("additive_scores_backward", &additive_scores_backward);
}

}  // namespace lstm_native::bindings
