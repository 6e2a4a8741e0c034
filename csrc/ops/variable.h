// Variable: weight storage that counts its writes, in float32 or, for inference, in fewer bits; PackCache: what was
// made from variables, kept until one of them changes (floor 2).
//
// A writer writes first and raises the version after; who derives something from a variable reads the version
// first and the values after. So a derived form may be made once too often, but is never stale. Writing a variable
// while another thread computes with it gives that thread a mixture of old and new values, nothing worse.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/quantization.h"
#include "core/tensor.h"

namespace lstm_native::ops {

class Variable {
public:
    // Storage of its own with a copy of `value`.
    explicit Variable(const core::Tensor& value);
    // On the memory of `value`, which nobody writes for as long as the variable lives.
    static std::shared_ptr<Variable> around(const core::Tensor& value);
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

    // The storage itself, of quantized values the codes. Who writes through it calls mark_written afterwards.
    const core::Tensor& tensor() const { return tensor_; }
    std::uint64_t version() const noexcept { return version_.load(std::memory_order_acquire); }
    void mark_written() noexcept { version_.fetch_add(1, std::memory_order_release); }

    bool is_quantized() const {
        return tensor_.dtype() == core::DType::bfloat16 || tensor_.dtype() == core::DType::int8;
    }
    const core::Tensor& scales() const { return scales_; }  // of int8
    int scale_axis() const { return scale_axis_; }
    // The numbers: the storage, or what its codes stand for.
    core::Tensor values() const;
    std::size_t bytes() const { return tensor_.bytes() + (scales_.defined() ? scales_.bytes() : 0); }
    // As the backend takes a matrix. invalid_argument, which begins with `label`, unless its elements are float32 or
    // quantized with scales along the axis.
    LnMatrix matrix(const char* label, int axis) const;

    // Copies `value` in, from whatever device; invalid_argument when shape or dtype differ.
    void assign(const core::Tensor& value);
    // Moves all of them, or none when memory runs out or the device fails. Nobody computes with them meanwhile.
    static void move(const std::vector<Variable*>& variables, core::Device device);

    // A variable with the axis of its scales (core/quantization.h) and what messages call it.
    struct ToQuantize {
        Variable* variable;
        int axis;
        std::string label;
    };
    // Quantizes the values of all of them, or of none when one cannot be. Nobody computes with them meanwhile.
    static void quantize(const std::vector<ToQuantize>& variables, core::DType dtype);

private:
    Variable() = default;

    core::Tensor tensor_, scales_;
    int scale_axis_ = 1;
    std::atomic<std::uint64_t> version_{0};
};

// invalid_argument unless `variable` (null is fine) holds float32, not quantized; `name` as in "LSTM: bias".
void check_float32(const char* name, const std::shared_ptr<Variable>& variable);

// One opaque pack of the given variables. Thread-safe; a reader's shared_ptr keeps its pack alive while others
// make a new one.
class PackCache {
public:
    // Null pointers are left out.
    explicit PackCache(std::initializer_list<std::shared_ptr<const Variable>> variables);

    // The pack of the current versions under `epoch` (the backend's pack_epoch()). Where there is none, `void* build()`
    // makes it; `release` frees it when the last holder lets go. What build throws goes to the caller; the next call
    // builds again. Threads that ask for a missing pack at once may each build it; the last one stays.
    template <class Build>
    std::shared_ptr<const void> get(std::uint64_t epoch, void (*release)(void*), Build&& build) {
        const std::uint64_t versions = version_sum();
        std::shared_ptr<void> pack = find(versions, epoch);
        if (pack == nullptr) {
            pack = std::shared_ptr<void>(build(), release);
            keep(pack, versions, epoch);
        }
        return pack;
    }

private:
    // Versions only grow, so equal sums mean equal versions.
    std::uint64_t version_sum() const noexcept;

    // The kept pack if it is this one; else null, and a kept one is let go: less memory while the new one is made.
    std::shared_ptr<void> find(std::uint64_t versions, std::uint64_t epoch);
    void keep(std::shared_ptr<void> pack, std::uint64_t versions, std::uint64_t epoch);

    std::vector<std::shared_ptr<const Variable>> variables_;
    // Under one lock of all caches, which a fork waits for: no child inherits it locked. So nothing is built, and no
    // memory is taken or given back, under it.
    std::shared_ptr<void> pack_;
    std::uint64_t versions_ = 0;
    std::uint64_t epoch_ = 0;
};

}  // namespace lstm_native::ops
