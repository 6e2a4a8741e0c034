// Where arrays lie, and memory there (floor 0). The memory of a device other than the CPU comes from its backend,
// which announces it here; until then there is none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lstm_native::core {

enum class Device : std::int32_t { cpu = 0, cuda = 1 };

const char* name_of(Device device);

// What a backend says of its memory. Functions throw bad_alloc or runtime_error, `release` nothing.
struct DeviceMemory {
    void* (*allocate)(std::size_t bytes);
    void (*release)(void* memory) noexcept;
    // Between the host and the device, or on the device.
    void (*copy)(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes);
    void (*zero)(void* memory, std::size_t bytes);
};
// `memory` lives for ever.
void set_memory_of_cuda(const DeviceMemory* memory) noexcept;

// bad_alloc; runtime_error where the device has no memory, or fails.
void* allocate_on(Device device, std::size_t bytes);
void release_on(Device device, void* memory) noexcept;
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes);
void zero_bytes(void* memory, Device device, std::size_t bytes);

}  // namespace lstm_native::core
