#include "ops/merge.h"

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

LnMergeArgs check_directions(LnMerge mode, const Tensor& forward, const Tensor& backward) {
    const Shape& shape = backward.shape();
    check(backward.dtype() == DType::float32 && (shape.rank() == 2 || shape.rank() == 3),
          "Bidirectional: the backward outputs are ", core::name_of(backward.dtype()), " ", shape,
          ", expected float32 (batch, time, units) or (batch, units)");
    LnMergeArgs args{};
    args.mode = mode;
    args.B = shape[0];
    args.T = shape.rank() == 3 ? shape[1] : 1;
    args.V = shape.back();
    args.backward = backward.data<const float>();
    if (forward.defined()) {
        args.U = forward.rank() == 0 ? 0 : forward.shape().back();
        args.forward = forward.data<const float>();
        check(forward.dtype() == DType::float32 && forward.rank() == shape.rank() &&
                  forward.shape() == shape.with_last(args.U),
              "Bidirectional: the forward outputs are ", core::name_of(forward.dtype()), " ", forward.shape(),
              ", the backward ones ", shape);
    }
    check(mode == LN_MERGE_CONCAT || args.U == args.V, "Bidirectional: the directions have ", args.U, " and ", args.V,
          " units, which only merge_mode 'concat' can join");
    return args;
}

Shape merged_shape(const LnMergeArgs& args, const Shape& backward) {
    return backward.with_last(args.mode == LN_MERGE_CONCAT ? args.U + args.V : args.U);
}

}  // namespace

LnMerge merge_from_name(const std::string& name) {
    if (name == "concat") return LN_MERGE_CONCAT;
    if (name == "sum") return LN_MERGE_SUM;
    if (name == "ave") return LN_MERGE_AVE;
    if (name == "mul") return LN_MERGE_MUL;
    core::fail("Bidirectional: merge_mode is '", name, "', expected 'concat', 'sum', 'ave' or 'mul'");
}

Tensor merge_forward(LnMerge mode, const Tensor& forward, const Tensor& backward) {
    const core::Device device = device_of({&forward, &backward});
    const Tensor there[] = {forward.to(device), backward.to(device)};
    const LnMergeArgs args = check_directions(mode, there[0], there[1]);
    Tensor outputs = Tensor::empty(merged_shape(args, backward.shape()), DType::float32, device);
    call(backend_of(device).merge_forward, &args, outputs.data<float>());
    return outputs;
}

MergeGradients merge_backward(LnMerge mode, const Tensor& d_outputs, std::int64_t forward_units, const Tensor& forward,
                              const Tensor& backward) {
    const Shape& shape = d_outputs.shape();
    const bool concat = mode == LN_MERGE_CONCAT;
    check(d_outputs.dtype() == DType::float32 && (shape.rank() == 2 || shape.rank() == 3) && forward_units >= 0 &&
              (concat ? forward_units <= shape.back() : forward_units == shape.back()),
          "Bidirectional: output gradient is ", core::name_of(d_outputs.dtype()), " ", shape,
          ", expected float32 (batch, time, units) or (batch, units) with ", forward_units, " forward units");
    const core::Device device = device_of({&d_outputs, &forward, &backward});
    const Tensor there[] = {d_outputs.to(device), forward.to(device), backward.to(device)};
    LnMergeArgs args{};
    if (mode == LN_MERGE_MUL) {
        args = check_directions(mode, there[1], there[2]);
        check(forward.shape() == shape, "Bidirectional: output gradient has shape ", shape, ", the outputs ",
              forward.shape());
    } else {
        args.mode = mode;
        args.B = shape[0];
        args.T = shape.rank() == 3 ? shape[1] : 1;
        args.U = forward_units;
        args.V = concat ? shape.back() - forward_units : forward_units;
    }
    MergeGradients gradients;
    if (args.U > 0) gradients.d_forward = Tensor::empty(shape.with_last(args.U), DType::float32, device);
    gradients.d_backward = Tensor::empty(shape.with_last(args.V), DType::float32, device);
    call(backend_of(device).merge_backward, &args, there[0].data<const float>(), gradients.d_forward.data<float>(),
         gradients.d_backward.data<float>());
    return gradients;
}

}  // namespace lstm_native::ops
