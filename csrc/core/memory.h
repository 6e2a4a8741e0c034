// Aligned memory with a small bounded cache of freed blocks (floor 0): a training step asks for the same
// sizes again and again, and fresh pages from the system cost more than the arithmetic of small models.
#pragma once

#include <cstddef>
#include <memory>

namespace lstm_native::core {

inline constexpr std::size_t kAlignment = 64;                       // one AVX-512 vector, one cache line
inline constexpr std::size_t kCacheLimit = std::size_t{256} << 20;  // bytes of freed blocks kept at most

// `bytes` of uninitialised memory, aligned to kAlignment, plus kAlignment readable bytes behind it.
// Never null (also for 0 bytes); throws std::bad_alloc. Thread-safe.
void* allocate(std::size_t bytes);
void release(void* memory) noexcept;

// Gives every kept block back to the system.
void drop_cache() noexcept;

// Owner of one block.
struct Releaser {
    void operator()(void* memory) const noexcept { release(memory); }
};
template <class T>
using Block = std::unique_ptr<T[], Releaser>;

template <class T>
Block<T> allocate_array(std::size_t count) {
    return Block<T>(static_cast<T*>(allocate(count * sizeof(T))));
}

}  // namespace lstm_native::core
