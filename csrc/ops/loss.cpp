#include "ops/loss.h"

#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "ops/context.h"

namespace lstm_native::ops {

namespace {

using core::DType;
using core::Tensor;

enum class Parameter { none, label_smoothing, delta };

struct Name {
    const char* name;
    LnLoss loss;
    Parameter parameter;
};
constexpr Name kNames[] = {
    {"binary_crossentropy", LN_BINARY_CROSSENTROPY, Parameter::label_smoothing},
    {"categorical_crossentropy", LN_CATEGORICAL_CROSSENTROPY, Parameter::label_smoothing},
    {"sparse_categorical_crossentropy", LN_SPARSE_CATEGORICAL_CROSSENTROPY, Parameter::none},
    {"mean_squared_error", LN_MEAN_SQUARED_ERROR, Parameter::none},
    {"mean_absolute_error", LN_MEAN_ABSOLUTE_ERROR, Parameter::none},
    {"huber", LN_HUBER, Parameter::delta},
    {"log_cosh", LN_LOG_COSH, Parameter::none},
    {"kl_divergence", LN_KL_DIVERGENCE, Parameter::none},
};

const Name& find(const std::string& name) {
    std::string known;
    for (const Name& entry : kNames) {
        if (name == entry.name) return entry;
        known += known.empty() ? "" : ", ";
        known += entry.name;
    }
    core::fail("loss: unknown name '", name, "', expected one of: ", known);
}

void check_dtype(const std::string& name, const char* argument, const Tensor& x, DType expected) {
    core::check(x.defined() && x.dtype() == expected, name, ": ", argument, " is ",
                x.defined() ? core::name_of(x.dtype()) : "missing", ", expected ", core::name_of(expected));
}

void check_parameter(const Name& loss, double value) {
    switch (loss.parameter) {
        case Parameter::none:
            return core::check(value == 0.0, loss.name, ": parameter is ", value, ", expected 0: this loss has none");
        case Parameter::label_smoothing:
            return core::check(value >= 0.0 && value <= 1.0, loss.name, ": label_smoothing is ", value,
                               ", expected 0 to 1");
        case Parameter::delta:
            return core::check(value > 0.0 && std::isfinite(value), loss.name, ": delta is ", value,
                               ", expected a positive number");
    }
}

void check_labels(const std::string& name, const Tensor& given, std::int64_t N) {
    const Tensor labels = given.to(core::Device::cpu);
    const std::int32_t* const label = labels.data<const std::int32_t>();
    for (std::int64_t i = 0; i < labels.count(); ++i) {
        core::check(label[i] >= 0 && label[i] < N, name, ": y_true holds class ", label[i], " in row ", i,
                    ", expected classes in [0, ", N, ") as y_pred has ", N, " columns");
    }
}

}  // namespace

LossResult loss(const std::string& name, const Tensor& y_true, const Tensor& y_pred, const Tensor* row_weights,
                bool from_logits, double parameter, bool need_gradient) {
    const Name& entry = find(name);
    const bool sparse = entry.loss == LN_SPARSE_CATEGORICAL_CROSSENTROPY;
    check_dtype(name, "y_pred", y_pred, DType::float32);
    check_dtype(name, "y_true", y_true, sparse ? DType::int32 : DType::float32);
    core::check(y_pred.rank() > 0 && y_pred.shape().back() > 0, name, ": y_pred has shape ", y_pred.shape(),
                ", expected (..., columns) with at least one column");
    const core::Shape row_shape = y_pred.shape().without_last();
    const core::Shape& expected = sparse ? row_shape : y_pred.shape();
    core::check(y_true.shape() == expected, name, ": y_true has shape ", y_true.shape(), ", expected ", expected,
                " as y_pred has shape ", y_pred.shape());
    check_parameter(entry, parameter);
    const std::int64_t N = y_pred.shape().back();
    if (row_weights != nullptr) {
        check_dtype(name, "row_weights", *row_weights, DType::float32);
        core::check(row_weights->count() == y_pred.count() / N, name, ": row_weights have shape ", row_weights->shape(),
                    ", expected one number a row, ", row_shape);
    }
    if (sparse) check_labels(name, y_true, N);

    const core::Device device = y_pred.device();
    const Tensor labels = y_true.to(device);
    const Tensor weights = row_weights == nullptr ? Tensor() : row_weights->to(device);
    LossResult result;
    result.rows = Tensor::empty(row_shape, DType::float32, device);
    if (need_gradient) result.d_y_pred = Tensor::empty(y_pred.shape(), DType::float32, device);
    LnLossArgs args{};
    args.loss = entry.loss;
    args.from_logits = from_logits ? 1 : 0;
    args.parameter = static_cast<float>(parameter);
    args.M = y_pred.count() / N;
    args.N = N;
    args.y_true = labels.raw();
    args.y_pred = y_pred.data<const float>();
    args.row_weights = weights.data<const float>();
    args.rows = result.rows.data<float>();
    args.d_y_pred = need_gradient ? result.d_y_pred.data<float>() : nullptr;
    call(backend_of(device).loss, &args);
    return result;
}

}  // namespace lstm_native::ops
