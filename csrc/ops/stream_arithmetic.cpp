// Layers of a stream that compute element by element, each with the bits that `predict` has: what layers in Python
// leave to NumPy is computed on the host, where subnormals are kept.
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/error.h"
#include "ops/context.h"
#include "ops/stream_layers.h"

namespace lstm_native::ops {

namespace {

using core::DType;
using core::Tensor;

// Rows (rows, width) of a stream and, where the stream is on another device, a place for them on the host.
class Rows {
public:
    void make(std::int64_t rows, std::int64_t width, core::Device device) {
        there_ = Tensor::empty({rows, width}, DType::float32, device);
        if (device != core::Device::cpu) host_ = Tensor::empty({rows, width}, DType::float32);
    }

    const Tensor& there() const { return there_; }
    float* on_host() const { return (host_.defined() ? host_ : there_).data<float>(); }

    void take(const float* from) {  // from the stream's device
        core::copy_bytes(there_.raw(), there_.device(), from, there_.device(), there_.bytes());
    }
    void to_host() {
        if (host_.defined())
            core::copy_bytes(host_.raw(), core::Device::cpu, there_.raw(), there_.device(), host_.bytes());
    }
    void from_host() {
        if (host_.defined())
            core::copy_bytes(there_.raw(), there_.device(), host_.raw(), core::Device::cpu, host_.bytes());
    }

private:
    Tensor there_, host_;
};

class Rescaling : public StreamLayer {
public:
    Rescaling(Tensor scale, Tensor offset) : scale_(std::move(scale)), offset_(std::move(offset)) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        check_numbers("scale", scale_, width);
        if (offset_.defined()) check_numbers("offset", offset_, width);
        values_.make(rows, width, device);
        return width;
    }

    void run(StreamStep& step) override {
        const Tensor& values = values_.there();
        values_.take(step.values);
        step.values = values.data<const float>();
        const bool by_number = scale_.rank() == 0;
        if (by_number)
            call(backend_of(values.device()).scale, values.count(), values.data<float>(), *scale_.data<const float>());
        if (by_number && !offset_.defined()) return;
        values_.to_host();
        const std::int64_t rows = values.shape()[0];
        const std::int64_t width = values.shape()[1];
        float* row = values_.on_host();
        for (std::int64_t r = 0; r < rows; ++r, row += width) {
            if (!by_number) apply(scale_, row, width, [](float x, float number) { return x * number; });
            if (offset_.defined()) apply(offset_, row, width, [](float x, float number) { return x + number; });
        }
        values_.from_host();
    }

private:
    static void check_numbers(const char* what, const Tensor& numbers, std::int64_t width) {
        core::check(numbers.dtype() == DType::float32 && numbers.device() == core::Device::cpu && numbers.rank() <= 1 &&
                        (numbers.count() == 1 || numbers.count() == width),
                    "Rescaling: ", what, " is ", core::name_of(numbers.dtype()), " ", numbers.shape(),
                    ", expected float32 () or (", width, ",)");
    }

    template <class F>
    static void apply(const Tensor& numbers, float* row, std::int64_t width, F function) {
        const float* const number = numbers.data<const float>();
        const std::int64_t stride = numbers.count() == width ? 1 : 0;
        for (std::int64_t j = 0; j < width; ++j) row[j] = function(row[j], number[j * stride]);
    }

    Tensor scale_, offset_;
    Rows values_;
};

// (x - mean) * scale + beta, where scale is gamma / sqrt(variance + epsilon) in double precision, rounded.
class BatchNorm : public StreamLayer {
public:
    explicit BatchNorm(BatchNormWeights weights) : weights_(std::move(weights)) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        for (const auto& [name, variable] : named()) {
            check_float32(name, variable);
            core::check(variable == nullptr || variable->tensor().shape() == core::Shape{width}, name,
                        " does not fit a step of ", width, " features");
        }
        values_.make(rows, width, device);
        numbers_.resize(static_cast<std::size_t>(width));
        versions_ = 0;
        return width;
    }

    void prepare() override {
        check_place("BatchNormalization", weights_.mean->tensor().device(), values_.there().device());
        std::uint64_t versions = 1;  // which only grow: equal sums mean equal versions
        for (const auto& [name, variable] : named()) versions += variable == nullptr ? 0 : variable->version();
        if (versions == versions_) return;
        const Tensor mean = weights_.mean->tensor().to(core::Device::cpu);
        const Tensor variance = weights_.variance->tensor().to(core::Device::cpu);
        const Tensor gamma = on_host(weights_.gamma);
        const Tensor beta = on_host(weights_.beta);
        for (std::size_t j = 0; j < numbers_.size(); ++j) {
            const double spread = std::sqrt(double{variance.data<const float>()[j]} + weights_.epsilon);
            numbers_[j].mean = mean.data<const float>()[j];
            numbers_[j].scale =
                static_cast<float>((gamma.defined() ? double{gamma.data<const float>()[j]} : 1.0) / spread);
            numbers_[j].beta = beta.defined() ? beta.data<const float>()[j] : 0.0F;
        }
        versions_ = versions;
    }

    void run(StreamStep& step) override {
        values_.take(step.values);
        step.values = values_.there().data<const float>();
        values_.to_host();
        float* value = values_.on_host();
        for (std::int64_t r = 0; r < values_.there().shape()[0]; ++r)
            for (const Numbers& of : numbers_) {
                *value = (*value - of.mean) * of.scale + of.beta;
                ++value;
            }
        values_.from_host();
    }

private:
    struct Numbers {
        float mean, scale, beta;
    };

    std::array<std::pair<const char*, std::shared_ptr<Variable>>, 4> named() const {
        return {{{"BatchNormalization: moving_mean", weights_.mean},
                 {"BatchNormalization: moving_variance", weights_.variance},
                 {"BatchNormalization: gamma", weights_.gamma},
                 {"BatchNormalization: beta", weights_.beta}}};
    }
    static Tensor on_host(const std::shared_ptr<Variable>& variable) {
        return variable == nullptr ? Tensor() : variable->tensor().to(core::Device::cpu);
    }

    BatchNormWeights weights_;
    std::vector<Numbers> numbers_;  // of each feature
    std::uint64_t versions_ = 0;    // of the variables that they were made of
    Rows values_;
};

class Join : public StreamLayer {
public:
    Join(std::string label, StreamJoin mode, const std::vector<StreamStep>& steps, std::size_t other,
         std::int64_t width)
        : label_(std::move(label)), mode_(mode), steps_(steps), other_(other), width_(width) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        const bool concat = mode_ == StreamJoin::concat;
        core::check(concat || width == width_, label_, ": joins ", width, " and ", width_,
                    " features, which cannot run step by step");
        outputs_.make(rows, concat ? width + width_ : width, device);
        if (is_choice()) others_.make(rows, width, device);
        valid_ = Tensor::empty({rows}, DType::uint8);
        return outputs_.there().shape()[1];
    }

    void run(StreamStep& step) override {
        const StreamStep& other = steps_[other_];
        if (is_choice()) {
            choose(step.values, other.values);
        } else if (mode_ == StreamJoin::sub) {
            subtract(step.values, other.values);
        } else {
            merge(step.values, other.values);
        }
        step.values = outputs_.there().data<float>();
        if (step.valid == nullptr || other.valid == nullptr) {
            step.valid = nullptr;
            return;
        }
        std::uint8_t* const valid = valid_.data<std::uint8_t>();
        for (std::int64_t r = 0; r < valid_.count(); ++r) valid[r] = step.valid[r] | other.valid[r];
        step.valid = valid;
    }

private:
    bool is_choice() const { return mode_ == StreamJoin::max || mode_ == StreamJoin::min; }

    void merge(const float* a, const float* b) {
        const Tensor& outputs = outputs_.there();
        LnMergeArgs args{};
        args.mode = mode_ == StreamJoin::concat ? LN_MERGE_CONCAT
                    : mode_ == StreamJoin::mul  ? LN_MERGE_MUL
                    : mode_ == StreamJoin::ave  ? LN_MERGE_AVE
                                                : LN_MERGE_SUM;
        args.B = outputs.shape()[0];
        args.T = 1;
        args.U = outputs.shape()[1] - (mode_ == StreamJoin::concat ? width_ : 0);
        args.V = width_;
        args.forward = a;
        args.backward = b;
        call(backend_of(outputs.device()).merge_forward, static_cast<const LnMergeArgs*>(&args), outputs.data<float>());
    }

    void subtract(const float* a, const float* b) {
        const Tensor& outputs = outputs_.there();
        const LnBackend& backend = backend_of(outputs.device());
        outputs_.take(b);
        call(backend.scale, outputs.count(), outputs.data<float>(), -1.0F);
        call(backend.add, outputs.count(), outputs.data<float>(), a);
    }

    void choose(const float* a, const float* b) {
        outputs_.take(a);
        outputs_.to_host();
        others_.take(b);
        others_.to_host();
        const bool largest = mode_ == StreamJoin::max;
        float* const best = outputs_.on_host();
        const float* const x = others_.on_host();
        for (std::int64_t i = 0; i < outputs_.there().count(); ++i) {
            const bool better = largest ? x[i] > best[i] : x[i] < best[i];
            if (better || x[i] != x[i]) best[i] = x[i];  // NaN stays
        }
        outputs_.from_host();
    }

    std::string label_;
    StreamJoin mode_;
    const std::vector<StreamStep>& steps_;
    std::size_t other_;
    std::int64_t width_;  // of the other
    Rows outputs_, others_;
    Tensor valid_;
};

}  // namespace

StreamJoin stream_join_from_name(const std::string& name) {
    static constexpr std::pair<const char*, StreamJoin> kModes[] = {
        {"concat", StreamJoin::concat}, {"sum", StreamJoin::sum}, {"ave", StreamJoin::ave}, {"mul", StreamJoin::mul},
        {"sub", StreamJoin::sub},       {"max", StreamJoin::max}, {"min", StreamJoin::min}};
    for (const auto& [known, mode] : kModes)
        if (name == known) return mode;
    core::fail("Stream: mode is '", name, "', expected 'concat', 'sum', 'ave', 'mul', 'sub', 'max' or 'min'");
}

std::unique_ptr<StreamLayer> stream_rescaling(core::Tensor scale, core::Tensor offset) {
    return std::make_unique<Rescaling>(std::move(scale), std::move(offset));
}

std::unique_ptr<StreamLayer> stream_batch_norm(BatchNormWeights weights) {
    return std::make_unique<BatchNorm>(std::move(weights));
}

std::unique_ptr<StreamLayer> stream_join(std::string label, StreamJoin mode, const std::vector<StreamStep>& steps,
                                         std::size_t other, std::int64_t width) {
    return std::make_unique<Join>(std::move(label), mode, steps, other, width);
}

}  // namespace lstm_native::ops
