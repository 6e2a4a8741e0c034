#include "ops/stream_layers.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "ops/context.h"
#include "ops/embedding.h"

namespace lstm_native::ops {

namespace {

using core::DType;
using core::Tensor;

Tensor float_rows(std::int64_t rows, std::int64_t width, core::Device device) {
    return Tensor::empty({rows, width}, DType::float32, device);
}

double product_work(std::int64_t rows, std::int64_t inner, std::int64_t columns) {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns);
}

class Embedding : public StreamLayer {
public:
    Embedding(std::shared_ptr<Variable> table, bool mask_zero) : table_(std::move(table)), mask_zero_(mask_zero) {}

    std::int64_t connect(std::int64_t rows, std::int64_t, core::Device device) override {
        rows_ = rows;
        const std::int64_t width = table_->tensor().shape()[1];
        vectors_ = float_rows(rows, width, device);
        if (device != core::Device::cpu) ids_ = Tensor::empty({rows}, DType::int32, device);
        if (mask_zero_) valid_ = Tensor::empty({rows}, DType::uint8);
        return width;
    }

    void run(StreamStep& step) override {
        check_place("Embedding", table_->tensor().device(), vectors_.device());
        const std::int32_t* ids = step.ids;
        if (ids_.defined()) {
            core::copy_bytes(ids_.raw(), ids_.device(), ids, core::Device::cpu, ids_.bytes());
            ids = ids_.data<std::int32_t>();
        }
        gather_rows(*table_, rows_, ids, vectors_.data<float>());
        step.values = vectors_.data<float>();
        step.valid = nullptr;
        if (!mask_zero_) return;
        std::uint8_t* const valid = valid_.data<std::uint8_t>();
        for (std::int64_t r = 0; r < rows_; ++r) valid[r] = step.ids[r] != 0 ? 1 : 0;
        step.valid = valid;
    }

private:
    std::shared_ptr<Variable> table_;
    bool mask_zero_;
    std::int64_t rows_ = 0;
    Tensor vectors_, valid_;
    Tensor ids_;  // on the device, where that is not the host
};

class Masking : public StreamLayer {
public:
    explicit Masking(float value) : value_(value) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        rows_ = rows;
        width_ = width;
        values_ = float_rows(rows, width, device);
        if (device != core::Device::cpu) given_ = float_rows(rows, width, core::Device::cpu);
        valid_ = Tensor::empty({rows}, DType::uint8);
        return width;
    }

    void run(StreamStep& step) override {
        const core::Device device = values_.device();
        const float* from = step.values;
        float* to = values_.data<float>();
        if (given_.defined()) {  // values are looked at on the host
            core::copy_bytes(given_.raw(), core::Device::cpu, from, device, given_.bytes());
            from = to = given_.data<float>();
        }
        std::uint8_t* const valid = valid_.data<std::uint8_t>();
        for (std::int64_t r = 0; r < rows_; ++r, from += width_, to += width_) {
            valid[r] = std::all_of(from, from + width_, [this](float x) { return x == value_; }) ? 0 : 1;
            if (valid[r] == 0) {
                std::fill_n(to, width_, 0.0F);
            } else if (to != from) {
                std::copy_n(from, width_, to);
            }
        }
        if (given_.defined()) core::copy_bytes(values_.raw(), device, given_.raw(), core::Device::cpu, given_.bytes());
        step.values = values_.data<float>();
        step.valid = valid;
    }

private:
    float value_;
    std::int64_t rows_ = 0, width_ = 0;
    Tensor values_, valid_;
    Tensor given_;  // on the host, where that is not the device
};

class Recurrent : public StreamLayer {
public:
    Recurrent(std::shared_ptr<RecurrentWeights> weights, bool zero_output_for_mask)
        : weights_(std::move(weights)), zero_output_for_mask_(zero_output_for_mask) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        core::check(width == weights_->inputs(), weights_->label(), ": a step has ", width, " features, expected ",
                    weights_->inputs());
        rows_ = rows;
        for (StreamState& state : states_) {
            state.h = Tensor::zeros({rows, weights_->outputs()}, DType::float32, device);
            if (weights_->has_cell_state()) state.c = Tensor::zeros({rows, weights_->units()}, DType::float32, device);
        }
        outputs_ = float_rows(rows, weights_->outputs(), device);
        control_ = Tensor::empty({rows}, DType::uint8);
        prepare();
        pack_.reset();
        return weights_->outputs();
    }

    double work() const override {
        return product_work(rows_, weights_->inputs() + weights_->units(), weights_->gate_columns());
    }

    void prepare() override {
        check_place(weights_->label(), weights_->device(), outputs_.device());
        pack_ = weights_->pack();
        if (!sized_for_.owner_before(pack_) && !pack_.owner_before(sized_for_)) return;
        const std::size_t bytes = weights_->step_bytes(pack_.get(), rows_);
        if (!workspace_.defined() || workspace_.bytes() < bytes)
            workspace_ = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::uint8, outputs_.device());
        sized_for_ = pack_;
    }

    void run(StreamStep& step) override {
        LnRecurrentForward forward{};
        forward.B = rows_;
        forward.T = forward.steps = 1;
        forward.odd_call = now_;
        forward.inputs = step.values;
        forward.input.row = weights_->inputs();
        forward.initial_h = states_[now_].h.data<float>();
        forward.initial_c = states_[now_].c.data<float>();
        forward.last_h = states_[1 - now_].h.data<float>();
        forward.last_c = states_[1 - now_].c.data<float>();
        step.values = forward.last_h;
        Tensor control_there;
        if (step.valid != nullptr) {
            // Before the first step that counts h is zero: so are the outputs.
            std::uint8_t* const control = control_.data<std::uint8_t>();
            const int skipped = zero_output_for_mask_ ? 0 : LN_EMIT;
            for (std::int64_t r = 0; r < rows_; ++r)
                control[r] = static_cast<std::uint8_t>(step.valid[r] != 0 ? LN_UPDATE | LN_EMIT : skipped);
            control_there = control_.to(outputs_.device());
            forward.control = control_there.data<std::uint8_t>();
            forward.last_output = outputs_.data<float>();
            step.values = forward.last_output;
        }
        weights_->step(pack_.get(), forward, workspace_.raw());
    }

    void finish() noexcept override {
        now_ = 1 - now_;
        pack_.reset();
    }

    StreamState* state() override { return &states_[now_]; }

private:
    std::shared_ptr<RecurrentWeights> weights_;
    bool zero_output_for_mask_;
    std::int64_t rows_ = 0;
    StreamState states_[2];
    int now_ = 0;  // the other one is written by a step
    Tensor outputs_, control_, workspace_;
    // Held during a step only: between steps another layout of the weights may take its place.
    std::shared_ptr<const void> pack_;
    std::weak_ptr<const void> sized_for_;  // the pack that the workspace was made for
};

class Dense : public StreamLayer {
public:
    explicit Dense(std::shared_ptr<DenseWeights> weights) : weights_(std::move(weights)) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        core::check(width == weights_->inputs(), "Dense: a step has ", width, " features, expected ",
                    weights_->inputs());
        outputs_ = float_rows(rows, weights_->units(), device);
        return weights_->units();
    }

    double work() const override { return product_work(outputs_.shape()[0], weights_->inputs(), weights_->units()); }

    void prepare() override {
        check_place("Dense", weights_->device(), outputs_.device());
        pack_ = weights_->pack();
    }

    void run(StreamStep& step) override {
        call(backend_of(weights_->device()).dense_forward, static_cast<const void*>(pack_.get()), outputs_.shape()[0],
             step.values, outputs_.data<float>());
        step.values = outputs_.data<float>();
    }

    void finish() noexcept override { pack_.reset(); }

private:
    std::shared_ptr<DenseWeights> weights_;
    Tensor outputs_;
    std::shared_ptr<const void> pack_;
};

class ActivationLayer : public StreamLayer {
public:
    explicit ActivationLayer(core::Activation activation) : activation_(activation) {}

    std::int64_t connect(std::int64_t rows, std::int64_t width, core::Device device) override {
        outputs_ = float_rows(rows, width, device);
        return width;
    }

    void run(StreamStep& step) override {
        call(backend_of(outputs_.device()).activation_forward, static_cast<std::int32_t>(activation_),
             outputs_.shape()[0], outputs_.shape()[1], step.values, outputs_.data<float>());
        step.values = outputs_.data<float>();
    }

private:
    core::Activation activation_;
    Tensor outputs_;
};

class EndMask : public StreamLayer {
public:
    std::int64_t connect(std::int64_t, std::int64_t width, core::Device) override { return width; }
    void run(StreamStep& step) override { step.valid = nullptr; }
};

}  // namespace

void check_place(const char* label, core::Device weights, core::Device stream) {
    if (weights != stream)
        throw std::runtime_error(core::message(label, ": the model has moved to ", core::name_of(weights),
                                               " since this stream was made; make another with model.stream()"));
}

std::unique_ptr<StreamLayer> stream_embedding(std::shared_ptr<Variable> table, bool mask_zero) {
    return std::make_unique<Embedding>(std::move(table), mask_zero);
}

std::unique_ptr<StreamLayer> stream_masking(float value) { return std::make_unique<Masking>(value); }

std::unique_ptr<StreamLayer> stream_end_mask() { return std::make_unique<EndMask>(); }

std::unique_ptr<StreamLayer> stream_recurrent(std::shared_ptr<RecurrentWeights> weights, bool zero_output_for_mask) {
    return std::make_unique<Recurrent>(std::move(weights), zero_output_for_mask);
}

std::unique_ptr<StreamLayer> stream_dense(std::shared_ptr<DenseWeights> weights) {
    return std::make_unique<Dense>(std::move(weights));
}

std::unique_ptr<StreamLayer> stream_activation(core::Activation activation) {
    return std::make_unique<ActivationLayer>(activation);
}

}  // namespace lstm_native::ops
