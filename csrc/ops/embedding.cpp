#include "ops/embedding.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/size.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::DType;
using core::Shape;
using core::Tensor;

// "(1, 4)": the index of element `flat`.
std::string index_text(const Shape& shape, std::int64_t flat) {
    std::int64_t index[core::kMaxRank] = {};
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        index[axis] = flat % shape[axis];
        flat /= shape[axis];
    }
    return Shape(index, shape.rank()).text();
}

Shape with_width(const Shape& shape, std::int64_t D) {
    core::check(shape.rank() < core::kMaxRank, "Embedding: input has ", shape.rank(), " axes, expected at most ",
                core::kMaxRank - 1);
    std::int64_t extents[core::kMaxRank] = {};
    for (int axis = 0; axis < shape.rank(); ++axis) extents[axis] = shape[axis];
    extents[shape.rank()] = D;
    return Shape(extents, shape.rank() + 1);
}

}  // namespace

void check_ids(const Tensor& given, std::int64_t V) {
    const Tensor ids = given.to(core::Device::cpu);
    core::check(ids.defined() && ids.dtype() == DType::int32, "Embedding: ids are ",
                ids.defined() ? core::name_of(ids.dtype()) : "missing", ", expected int32");
    core::check(V <= std::numeric_limits<std::int32_t>::max(), "Embedding: input_dim is ", V,
                ", expected less than 2^31");
    const std::int32_t* const id = ids.data<const std::int32_t>();
    const std::int64_t count = ids.count();
    const auto bound = static_cast<std::uint32_t>(V);
    // Without an exit inside, so that the loop runs on vectors; negative ids are large unsigned numbers.
    std::uint32_t outside = 0;
    for (std::int64_t i = 0; i < count; ++i)
        outside |= static_cast<std::uint32_t>(static_cast<std::uint32_t>(id[i]) >= bound);
    if (outside == 0) return;
    for (std::int64_t i = 0; i < count; ++i) {
        core::check(id[i] >= 0 && id[i] < V, "Embedding: input holds ", id[i], " at index ", index_text(ids.shape(), i),
                    ", expected integers in [0, ", V, ") as input_dim is ", V);
    }
}

void gather_rows(const Variable& table, std::int64_t count, const std::int32_t* ids, float* rows) {
    const LnBackend& backend = backend_of(table.tensor().device());
    const std::int64_t D = table.tensor().shape()[1];
    const LnMatrix matrix = table.matrix("Embedding: table", 0);
    if (table.is_quantized()) return call(backend.embedding_forward_stored, count, D, &matrix, ids, rows);
    call(backend.embedding_forward, count, D, table.tensor().data<const float>(), ids, rows);
}

Tensor embedding_forward(const Variable& table, const Tensor& ids) {
    const Tensor& values = table.tensor();
    core::check(values.rank() == 2, "Embedding: table has shape ", values.shape(),
                ", expected (input_dim, output_dim)");
    check_ids(ids, values.shape()[0]);
    const std::int64_t D = values.shape()[1];
    const Tensor there = ids.to(values.device());
    Tensor rows = Tensor::empty(with_width(ids.shape(), D), DType::float32, values.device());
    gather_rows(table, ids.count(), there.data<const std::int32_t>(), rows.data<float>());
    return rows;
}

DistinctIds distinct_ids(const Tensor& given, std::int64_t input_dim) {
    const Tensor ids = given.to(core::Device::cpu);
    check_ids(ids, input_dim);
    const std::int64_t count = ids.count();
    const std::int64_t most = count / 2;
    if (most == 0) return {};
    // Open addressing, less than half full: slots hold numbers of distinct ids.
    int bits = 2;
    while ((std::int64_t{1} << bits) < 2 * std::min(most, input_dim) + 2) ++bits;
    const std::size_t mask = (std::size_t{1} << bits) - 1;
    std::vector<std::int32_t> slots(mask + 1, -1);
    std::vector<std::int32_t> distinct;
    distinct.reserve(static_cast<std::size_t>(std::min(most, input_dim)));
    DistinctIds result;
    result.index = Tensor::empty(ids.shape(), DType::int32);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t id = ids.data<const std::int32_t>()[i];
        std::size_t slot = (static_cast<std::uint32_t>(id) * 2654435769U >> (32 - bits)) & mask;
        while (slots[slot] >= 0 && distinct[static_cast<std::size_t>(slots[slot])] != id) slot = (slot + 1) & mask;
        if (slots[slot] < 0) {
            if (static_cast<std::int64_t>(distinct.size()) == most) return {};
            slots[slot] = static_cast<std::int32_t>(distinct.size());
            distinct.push_back(id);
        }
        result.index.data<std::int32_t>()[i] = slots[slot];
    }
    result.ids = Tensor::empty({static_cast<std::int64_t>(distinct.size())}, DType::int32);
    std::copy(distinct.begin(), distinct.end(), result.ids.data<std::int32_t>());
    return result;
}

Tensor embedding_backward(const Tensor& ids, const Tensor& d_y, std::int64_t input_dim) {
    core::check(input_dim >= 0, "Embedding: input_dim is ", input_dim, ", expected at least 0");
    check_ids(ids, input_dim);
    core::check(d_y.defined() && d_y.dtype() == DType::float32, "Embedding: d_y is ",
                d_y.defined() ? core::name_of(d_y.dtype()) : "missing", ", expected float32");
    core::check(d_y.rank() == ids.rank() + 1 && d_y.shape().without_last() == ids.shape(), "Embedding: d_y has shape ",
                d_y.shape(), ", expected that of ids, ", ids.shape(), ", and one axis more");
    const core::Device device = device_of({&ids, &d_y});
    const std::int64_t D = d_y.shape().back();
    Tensor d_table = Tensor::empty(Shape{input_dim, D}, DType::float32, device);
    if (d_table.count() == 0) return d_table;
    const Tensor ids_there = ids.to(device);
    const Tensor d_y_there = d_y.to(device);
    call(backend_of(device).embedding_backward, ids.count(), D, input_dim, ids_there.data<const std::int32_t>(),
         d_y_there.data<const float>(), d_table.data<float>());
    return d_table;
}

}  // namespace lstm_native::ops
