// One time step of a whole model as one call (floor 2).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/stream_layers.h"

namespace lstm_native::ops {

// A contiguous row-major array that somebody else keeps alive during a call.
struct ArrayView {
    void* data = nullptr;
    core::Shape shape;
    core::DType dtype = core::DType::float32;
};

// `rows` independent sequences side by side. Layers are added in topological order; each reads a slot and fills the
// next one, slot 0 holds what a step is given. Then each `step` runs one time step of all
// rows. A call that fails changes nothing. Several streams of one model may run in several threads; one stream serves
// one thread at a time, and a second one gets a runtime_error.
class Stream {
public:
    // Takes steps of `features` columns, or of one id a row where the first layer is an embedding (`features` 0).
    // Its layers' weights lie on `device`, and so do its states. Messages call it `label`.
    Stream(std::string label, std::int64_t rows, std::int64_t features, core::Device device);

    // The slot that the next layer reads, and that outputs come from: the one filled by the layer added last, until
    // `read` says which.
    std::int64_t slot() const { return static_cast<std::int64_t>(at_); }
    void read(std::int64_t slot);

    void add(std::unique_ptr<StreamLayer> layer);
    // Joins two or more slots, in this order; messages call it `label`.
    void add_join(const std::string& label, StreamJoin mode, const std::vector<std::int64_t>& slots);
    // Only as the first layer; messages call it `label`.
    void add_embedding(std::string label, std::shared_ptr<Variable> table, bool mask_zero);

    std::int64_t rows() const { return rows_; }
    std::int64_t width() const { return widths_[at_]; }  // of the outputs
    bool takes_ids() const { return ids_.defined(); }
    double work() const { return work_; }  // operations of a step, roughly

    // x: float32 (rows, features), or int32 or int64 (rows,); a single row may come without its axis. Writes y, float32
    // (rows, width), which may be x.
    void step(const ArrayView& x, const ArrayView& y);

    // Zero states in all rows, or in those listed.
    void reset();
    void reset(const std::vector<std::int64_t>& rows);

    // Copies of the states of the recurrent layers in order.
    std::vector<StreamState> state();
    void set_state(const std::vector<StreamState>& state);

private:
    class Busy;

    std::size_t known(std::int64_t slot) const;
    void check_arrays(const ArrayView& x, const ArrayView& y) const;
    template <class Id>
    void take_ids(const Id* ids);
    std::vector<StreamState*> states();

    std::string label_, embedding_label_;
    std::int64_t rows_, features_;
    double work_ = 0.0;
    std::shared_ptr<Variable> table_;  // of the embedding
    core::Device device_;
    core::Tensor ids_;
    core::Tensor inputs_;  // on the device, where that is not the host
    struct Use {
        std::unique_ptr<StreamLayer> layer;
        std::size_t from;  // the slot that it reads; layer i fills slot i + 1
    };
    std::vector<Use> layers_;
    std::vector<std::int64_t> widths_;  // of the slots
    std::vector<StreamStep> slots_;     // what they hold during a step
    std::size_t at_ = 0;
    std::atomic<bool> busy_{false};
};

}  // namespace lstm_native::ops
