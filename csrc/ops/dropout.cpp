#include "ops/dropout.h"

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

using core::check;
using core::Shape;
using core::Tensor;

Tensor dropout_mask(const Shape& shape, const Shape& drawn, double rate, std::uint64_t seed, std::uint64_t offset,
                    core::Device device) {
    check(rate >= 0.0 && rate < 1.0, "dropout_mask: rate is ", rate, ", expected 0 <= rate < 1");
    bool fits = shape.rank() == drawn.rank();
    for (int axis = 0; fits && axis < shape.rank(); ++axis) fits = drawn[axis] == shape[axis] || drawn[axis] == 1;
    check(fits, "dropout_mask: numbers of shape ", drawn, " do not broadcast to ", shape);
    const Tensor mask = Tensor::empty(shape, core::DType::float32, device);
    if (mask.count() == 0) return mask;

    LnDropoutArgs args{};
    args.rate = rate;
    args.seed = seed;
    args.offset = offset;
    args.mask = mask.data<float>();
    // From the last axis to the first; neighbours that are walked over in the same manner become one.
    std::int64_t numbers = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        if (shape[axis] == 1) continue;
        const std::int64_t stride = drawn[axis] == 1 ? 0 : numbers;
        numbers *= drawn[axis];
        if (args.rank > 0 && (stride == 0) == (args.strides[args.rank - 1] == 0)) {
            args.extents[args.rank - 1] *= shape[axis];
        } else {
            args.extents[args.rank] = shape[axis];
            args.strides[args.rank++] = stride;
        }
    }
    args.numbers = numbers;
    call(backend_of(device).dropout_mask, static_cast<const LnDropoutArgs*>(&args));
    return mask;
}

}  // namespace lstm_native::ops
