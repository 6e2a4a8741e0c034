#include "core/device.h"

#include <atomic>
#include <cstring>
#include <stdexcept>

#include "core/memory.h"

namespace lstm_native::core {
namespace {

std::atomic<const DeviceMemory*> cuda_memory{nullptr};

const DeviceMemory& memory_of_cuda() {
    const DeviceMemory* const memory = cuda_memory.load(std::memory_order_acquire);
    if (memory == nullptr) throw std::runtime_error("the device 'cuda' has not been opened");
    return *memory;
}

}  // namespace

const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

void set_memory_of_cuda(const DeviceMemory* memory) noexcept { cuda_memory.store(memory, std::memory_order_release); }

void* allocate_on(Device device, std::size_t bytes) {
    return device == Device::cpu ? allocate(bytes) : memory_of_cuda().allocate(bytes);
}

void release_on(Device device, void* memory) noexcept {
    if (device == Device::cpu) return release(memory);
    if (const DeviceMemory* const cuda = cuda_memory.load(std::memory_order_acquire)) cuda->release(memory);
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
    if (bytes == 0) return;
    if (to_device == Device::cpu && from_device == Device::cpu) {
        std::memmove(to, from, bytes);
    } else {
        memory_of_cuda().copy(to, to_device, from, from_device, bytes);
    }
}

void zero_bytes(void* memory, Device device, std::size_t bytes) {
    if (bytes == 0) return;
    if (device == Device::cpu) {
        std::memset(memory, 0, bytes);
    } else {
        memory_of_cuda().zero(memory, bytes);
    }
}

}  // namespace lstm_native::core
