#include "ops/stream.h"

#include <cstring>
#include <limits>
#include <utility>

#include "core/error.h"

namespace lstm_native::ops {

using core::check;
using core::DType;
using core::Shape;
using core::Tensor;

// Takes the stream for one call.
class Stream::Busy {
public:
    explicit Busy(Stream& stream) : stream_(stream) {
        if (stream.busy_.exchange(true, std::memory_order_acquire))
            throw std::runtime_error(stream.label_ +
                                     ": another thread is in a call of this stream; give each thread one of its own");
    }
    ~Busy() { stream_.busy_.store(false, std::memory_order_release); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

private:
    Stream& stream_;
};

Stream::Stream(std::string label, std::int64_t rows, std::int64_t features, core::Device device)
    : label_(std::move(label)), rows_(rows), features_(features), device_(device), widths_{features}, slots_(1) {
    check(rows > 0, label_, ": batch_size is ", rows, ", expected at least 1");
    check(features >= 0, label_, ": a step has ", features, " features, expected at least 0");
    if (device != core::Device::cpu) inputs_ = Tensor::empty({rows, features}, DType::float32, device);
}

std::size_t Stream::known(std::int64_t slot) const {
    check(slot >= 0 && slot < static_cast<std::int64_t>(slots_.size()), label_, ": there is no slot ", slot);
    return static_cast<std::size_t>(slot);
}

void Stream::read(std::int64_t slot) {
    const Busy busy(*this);
    at_ = known(slot);
}

void Stream::add(std::unique_ptr<StreamLayer> layer) {
    const Busy busy(*this);
    const std::int64_t width = layer->connect(rows_, widths_[at_], device_);
    layers_.push_back({std::move(layer), at_});
    work_ += layers_.back().layer->work();
    widths_.push_back(width);
    slots_.emplace_back();
    at_ = slots_.size() - 1;
}

void Stream::add_join(const std::string& label, StreamJoin mode, const std::vector<std::int64_t>& slots) {
    check(slots.size() > 1, label, ": joins ", slots.size(), " values, expected at least 2");
    read(slots[0]);
    for (std::size_t i = 1; i < slots.size(); ++i) {
        const std::size_t other = known(slots[i]);
        add(stream_join(label, mode, slots_, other, widths_[other]));
    }
}

void Stream::add_embedding(std::string label, std::shared_ptr<Variable> table, bool mask_zero) {
    check(layers_.empty() && features_ == 0, label, ": works in a stream as its first layer only");
    const Tensor& values = table->tensor();
    table->matrix((label + ": table").c_str(), 0);  // which checks it
    check(values.rank() == 2 && values.shape()[0] <= std::numeric_limits<std::int32_t>::max(), label,
          ": table has shape ", values.shape(), ", expected (input_dim, output_dim)");
    Tensor ids = Tensor::zeros({rows_}, DType::int32);
    add(stream_embedding(table, mask_zero));
    table_ = std::move(table);
    ids_ = std::move(ids);
    embedding_label_ = std::move(label);
}

void Stream::check_arrays(const ArrayView& x, const ArrayView& y) const {
    const bool ids = takes_ids();
    check(ids ? x.dtype == DType::int32 || x.dtype == DType::int64 : x.dtype == DType::float32, label_, ": x_t is ",
          core::name_of(x.dtype), ", expected ", ids ? "int32 or int64" : "float32");
    const int rank = ids ? 1 : 2;
    const bool whole = x.shape.rank() == rank && x.shape[0] == rows_ && (ids || x.shape[1] == features_);
    const bool row = rows_ == 1 && x.shape.rank() == rank - 1 && (ids || x.shape[0] == features_);
    if (!whole && !row) {
        const Shape expected = ids ? Shape{rows_} : Shape{rows_, features_};
        if (rows_ != 1) core::fail(label_, ": x_t has shape ", x.shape, ", expected ", expected);
        core::fail(label_, ": x_t has shape ", x.shape, ", expected ", expected, " or ",
                   ids ? Shape{} : Shape{features_});
    }
    if (y.dtype != DType::float32 || y.shape.rank() != 2 || y.shape[0] != rows_ || y.shape[1] != width())
        core::fail(label_, ": out is ", core::name_of(y.dtype), " of shape ", y.shape, ", expected float32 ",
                   Shape{rows_, width()});
}

template <class Id>
void Stream::take_ids(const Id* ids) {
    const std::int64_t V = table_->tensor().shape()[0];
    for (std::int64_t r = 0; r < rows_; ++r) {
        if (ids[r] < 0 || ids[r] >= V)
            core::fail(embedding_label_, ": x_t", rows_ == 1 ? "" : core::message("[", r, "]"), " is ", ids[r],
                       ", expected an index in [0, ", V, ") (input_dim)");
        ids_.data<std::int32_t>()[r] = static_cast<std::int32_t>(ids[r]);
    }
}

void Stream::step(const ArrayView& x, const ArrayView& y) {
    check_arrays(x, y);
    const Busy busy(*this);
    StreamStep& now = slots_[0];
    if (!takes_ids()) {
        now.values = static_cast<const float*>(x.data);
        if (inputs_.defined()) {
            core::copy_bytes(inputs_.raw(), device_, x.data, core::Device::cpu, inputs_.bytes());
            now.values = inputs_.data<float>();
        }
    } else {
        now.ids = ids_.data<std::int32_t>();
        if (x.dtype == DType::int32) {
            take_ids(static_cast<const std::int32_t*>(x.data));
        } else {
            take_ids(static_cast<const std::int64_t*>(x.data));
        }
    }
    const std::size_t output_bytes = static_cast<std::size_t>(rows_ * width()) * sizeof(float);
    for (const Use& use : layers_) use.layer->prepare();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        slots_[i + 1] = slots_[layers_[i].from];
        layers_[i].layer->run(slots_[i + 1]);
    }
    const float* const outputs = slots_[at_].values;
    if (inputs_.defined()) core::copy_bytes(y.data, core::Device::cpu, outputs, device_, output_bytes);
    for (const Use& use : layers_) use.layer->finish();
    if (!inputs_.defined()) std::memmove(y.data, outputs, output_bytes);
}

std::vector<StreamState*> Stream::states() {
    std::vector<StreamState*> states;
    for (const Use& use : layers_) {
        if (StreamState* const state = use.layer->state()) states.push_back(state);
    }
    return states;
}

void Stream::reset() {
    const Busy busy(*this);
    for (StreamState* const state : states()) {
        core::zero_bytes(state->h.raw(), device_, state->h.bytes());
        core::zero_bytes(state->c.raw(), device_, state->c.bytes());
    }
}

void Stream::reset(const std::vector<std::int64_t>& rows) {
    const Busy busy(*this);
    for (const std::int64_t row : rows)
        check(row >= 0 && row < rows_, label_, ": reset got row ", row, ", expected rows in [0, ", rows_, ")");
    for (StreamState* const state : states()) {
        for (const Tensor* const values : {&state->h, &state->c}) {
            if (!values->defined()) continue;
            const std::int64_t columns = values->shape()[1];
            for (const std::int64_t row : rows)
                core::zero_bytes(values->data<float>() + row * columns, device_,
                                 static_cast<std::size_t>(columns) * sizeof(float));
        }
    }
}

std::vector<StreamState> Stream::state() {
    const Busy busy(*this);
    std::vector<StreamState> copies;
    for (const StreamState* const state : states())
        copies.push_back({state->h.copy(), state->c.defined() ? state->c.copy() : core::Tensor()});
    return copies;
}

void Stream::set_state(const std::vector<StreamState>& given) {
    const Busy busy(*this);
    const std::vector<StreamState*> states = this->states();
    check(given.size() == states.size(), label_, ": state has ", given.size(), " items, expected ", states.size(),
          ", the states of each recurrent layer");
    for (std::size_t i = 0; i < given.size(); ++i) {
        const Shape& expected = states[i]->h.shape();
        const auto fits = [&](const Tensor& x) { return x.dtype() == DType::float32 && x.shape() == expected; };
        const bool has_c = states[i]->c.defined();
        check(given[i].c.defined() == has_c, label_, ": state[", i, "] has ", given[i].c.defined() ? 2 : 1,
              " arrays, expected ", has_c ? "(h, c)" : "(h,)");
        check(fits(given[i].h) && (!has_c || fits(given[i].c)), label_, ": state[", i, "] has h of shape ",
              given[i].h.shape(), has_c ? core::message(" and c of shape ", given[i].c.shape()) : "", ", expected ",
              expected);
    }
    for (std::size_t i = 0; i < given.size(); ++i) {
        const auto copy = [this](const Tensor& to, const Tensor& from) {
            core::copy_bytes(to.raw(), device_, from.raw(), from.device(), to.bytes());
        };
        copy(states[i]->h, given[i].h);
        if (states[i]->c.defined()) copy(states[i]->c, given[i].c);
    }
}

}  // namespace lstm_native::ops
