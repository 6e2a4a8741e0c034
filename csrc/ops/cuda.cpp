#include "ops/cuda.h"

#include <atomic>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "core/activation.h"
#include "core/device.h"
#include "core/error.h"
#include "core/fork.h"
#include "core/library.h"
#include "ops/context.h"
#include "ops/recurrent_weights.h"

namespace lstm_native::ops {
namespace {

std::atomic<const LnBackend*> started{nullptr};  // its device is
std::atomic<bool> usable{false};                 // its library of products is open, too
std::atomic<int> forks_at_start{0};

std::mutex& opening() {
    static std::mutex* const mutex = [] {
        static std::mutex made;
        core::hold_over_fork(made);
        return &made;
    }();
    return *mutex;
}

// Lent by another library, with a mark behind the work that uses it.
struct Lent {
    void* mark;
    std::size_t bytes;
    std::function<void()> release;
};
struct AllLent {
    std::mutex mutex;
    std::vector<Lent> arrays;
    std::size_t bytes = 0;
};
AllLent& lent() {
    static AllLent* const all = [] {
        auto* const made = new AllLent;
        core::hold_over_fork(made->mutex);
        return made;
    }();
    return *all;
}

bool in_child() noexcept { return core::forks() != forks_at_start.load(std::memory_order_relaxed); }

void check_process() {
    // CUDA does not live on in a child; any call of the driver there may hang or crash.
    if (in_child())
        throw std::runtime_error(
            "CUDA cannot be used in a forked child of a process that has used it; start the child with the "
            "multiprocessing method 'spawn'");
}

const LnBackend* check_table(const LnBackend* table, const std::string& path) {
    // Of another table nothing else is read: it may have no device.
    const bool is_ours = table->version == LN_BACKEND_VERSION && table->struct_size == sizeof(LnBackend);
    const std::size_t device = is_ours ? table->device->struct_size : 0;
    if (is_ours && device == sizeof(LnDevice)) return table;
    throw std::runtime_error(core::message(path, " has interface ", table->version, " (", table->struct_size, " + ",
                                           device, " bytes), expected ", LN_BACKEND_VERSION, " (", sizeof(LnBackend),
                                           " + ", sizeof(LnDevice),
                                           " bytes): install lstm-native and lstm-native-cuda13 of one release"));
}

void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    call(cuda_backend().device->allocate, bytes, &memory);
    return memory;
}

void release(void* memory) noexcept {
    if (!in_child()) started.load(std::memory_order_acquire)->device->release(memory);
}

void copy(void* to, core::Device to_device, const void* from, core::Device from_device, std::size_t bytes) {
    const std::int32_t direction = to_device == core::Device::cpu     ? LN_TO_HOST
                                   : from_device == core::Device::cpu ? LN_TO_DEVICE
                                                                      : LN_ON_DEVICE;
    call(cuda_backend().device->copy, direction, bytes, from, to);
}

void zero(void* memory, std::size_t bytes) { call(cuda_backend().device->zero, bytes, memory); }

constexpr core::DeviceMemory kMemory = {allocate, release, copy, zero};

}  // namespace

void open_cuda(const std::string& path) {
    const std::lock_guard<std::mutex> lock(opening());
    if (started.load() != nullptr) return check_process();
    std::string reason;
    void* const library = core::open_library(path, &reason);
    if (library == nullptr) throw std::runtime_error(core::message("the CUDA library cannot be opened: ", reason));
    using Entry = const LnBackend* (*)();
    const auto entry = reinterpret_cast<Entry>(core::find_function(library, LN_BACKEND_ENTRY));
    if (entry == nullptr) throw std::runtime_error(core::message(path, " is no CUDA library of lstm_native"));
    const LnBackend* const table = check_table(entry(), path);
    forks_at_start = core::forks();
    call(table->device->open);
    started = table;
}

void open_cuda_blas(const std::string& path) {
    const std::lock_guard<std::mutex> lock(opening());
    if (started.load() == nullptr) throw std::runtime_error("the device 'cuda' has not been opened");
    check_process();
    if (usable.load()) return;
    call(started.load()->device->open_blas, path.c_str());
    core::set_memory_of_cuda(&kMemory);
    usable = true;
}

bool cuda_is_open() { return usable.load(std::memory_order_acquire); }

const LnBackend& cuda_backend() {
    if (!cuda_is_open()) throw std::runtime_error("the device 'cuda' has not been opened");
    check_process();
    return *started.load(std::memory_order_acquire);
}

LnDeviceInfo cuda_info() {
    LnDeviceInfo info{};
    call(cuda_backend().device->info, &info);
    return info;
}

void cuda_set_precision(const std::string& name) {
    static constexpr const char* kNames[] = {"float32", "tf32", "bfloat16", "float16"};  // as LnPrecision
    for (std::int32_t precision = LN_FLOAT32; precision <= LN_FLOAT16; ++precision)
        if (name == kNames[precision]) return cuda_backend().device->set_precision(precision);
    core::fail("set_precision: precision is '", name, "', expected 'float32', 'tf32', 'bfloat16' or 'float16'");
}

void cuda_set_plan(std::int32_t plan) { cuda_backend().device->set_plan(plan); }

std::string cuda_explain(const std::string& cell, std::int64_t units, std::int64_t batch, std::int64_t steps,
                         bool bidirectional) {
    const LnRecurrentConfig config = {cell_of(cell),
                                      LN_COLUMNS,
                                      static_cast<std::int32_t>(core::Activation::tanh),
                                      static_cast<std::int32_t>(core::Activation::sigmoid),
                                      units,
                                      units};
    char text[1024] = {};
    call(cuda_backend().device->explain, &config, batch, steps, bidirectional ? 2 : 1, text, sizeof text);
    return text;
}

void* cuda_queue() { return cuda_backend().device->queue(); }

void cuda_hand_over(void* stream) { call(cuda_backend().device->hand_over, stream); }

void cuda_settle() noexcept {
    LnContext context{};
    if (!in_child() && cuda_is_open()) started.load(std::memory_order_acquire)->device->settle(&context);
}

void cuda_take_back(void* stream) noexcept {
    LnContext context{};
    if (in_child() || !cuda_is_open()) return;
    if (started.load(std::memory_order_acquire)->device->take_back(&context, stream) != LN_OK) cuda_settle();
}

void cuda_release(std::size_t bytes, std::function<void()> release) noexcept {
    if (in_child() || !cuda_is_open()) return release();
    const LnDevice& device = *started.load(std::memory_order_acquire)->device;
    bool many = false;
    try {
        AllLent& all = lent();
        const std::lock_guard<std::mutex> lock(all.mutex);
        all.arrays.reserve(all.arrays.size() + 1);
        LnContext context{};
        void* mark = nullptr;
        if (device.set_mark(&context, &mark) != LN_OK) throw std::runtime_error(context.message);
        all.arrays.push_back({mark, bytes, std::move(release)});
        all.bytes += bytes;
        many = all.bytes > kMostLent;
    } catch (...) {
        cuda_settle();
        return release();
    }
    if (many) cuda_settle();
    cuda_release_done();
}

void cuda_release_done() noexcept {
    if (in_child() || !cuda_is_open()) return;
    const LnDevice& device = *started.load(std::memory_order_acquire)->device;
    AllLent& all = lent();
    for (;;) {
        std::function<void()> release;
        {
            const std::lock_guard<std::mutex> lock(all.mutex);
            if (all.arrays.empty() || device.passed(all.arrays.front().mark) == 0) return;  // the others came later
            release = std::move(all.arrays.front().release);
            all.bytes -= all.arrays.front().bytes;
            all.arrays.erase(all.arrays.begin());
        }
        release();  // may come back here
    }
}

void cuda_synchronize() {
    call(cuda_backend().device->synchronize);
    cuda_release_done();
}

}  // namespace lstm_native::ops
