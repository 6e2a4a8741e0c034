#include "ops/attention.h"

#include "backend/backend.h"
#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

LnAdditiveScoresArgs check_arguments(const Tensor& query, const Tensor& key, const Tensor& scale) {
    const bool fit = query.dtype() == DType::float32 && key.dtype() == DType::float32 && query.rank() == 3 &&
                     key.rank() == 3 && query.shape()[0] == key.shape()[0] && query.shape()[2] == key.shape()[2];
    check(fit, "attention: query is ", core::name_of(query.dtype()), " ", query.shape(), " and key ",
          core::name_of(key.dtype()), " ", key.shape(),
          ", expected float32 (batch, queries, dim) and (batch, keys, dim)");
    LnAdditiveScoresArgs args{};
    args.B = query.shape()[0];
    args.Q = query.shape()[1];
    args.S = key.shape()[1];
    args.D = query.shape()[2];
    args.query = query.data<const float>();
    args.key = key.data<const float>();
    args.scale = scale.data<const float>();
    check(!scale.defined() || (scale.dtype() == DType::float32 && scale.shape() == Shape{args.D}),
          "attention: scale is ", core::name_of(scale.dtype()), " ", scale.shape(), ", expected float32 (", args.D,
          ",)");
    return args;
}

}  // namespace

Tensor additive_scores_forward(const Tensor& query, const Tensor& key, const Tensor& scale) {
    const core::Device device = device_of({&query, &key, &scale});
    const Tensor there[] = {query.to(device), key.to(device), scale.to(device)};
    const LnAdditiveScoresArgs args = check_arguments(there[0], there[1], there[2]);
    Tensor scores = Tensor::empty({args.B, args.Q, args.S}, DType::float32, device);
    call(backend_of(device).additive_scores_forward, &args, scores.data<float>());
    return scores;
}

AdditiveScoresGradients additive_scores_backward(const Tensor& query, const Tensor& key, const Tensor& scale,
                                                 const Tensor& d_scores) {
    const core::Device device = device_of({&query, &key, &scale, &d_scores});
    const Tensor there[] = {query.to(device), key.to(device), scale.to(device), d_scores.to(device)};
    const LnAdditiveScoresArgs args = check_arguments(there[0], there[1], there[2]);
    const Shape expected{args.B, args.Q, args.S};
    check(d_scores.dtype() == DType::float32 && d_scores.shape() == expected, "attention: gradient of the scores is ",
          core::name_of(d_scores.dtype()), " ", d_scores.shape(), ", expected float32 ", expected);
    AdditiveScoresGradients gradients;
    gradients.d_query = Tensor::empty(query.shape(), DType::float32, device);
    gradients.d_key = Tensor::empty(key.shape(), DType::float32, device);
    if (scale.defined()) gradients.d_scale = Tensor::empty(scale.shape(), DType::float32, device);
    call(backend_of(device).additive_scores_backward, &args, there[3].data<const float>(),
         gradients.d_query.data<float>(), gradients.d_key.data<float>(), gradients.d_scale.data<float>());
    return gradients;
}

}  // namespace lstm_native::ops
