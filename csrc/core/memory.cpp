// Aligned blocks in size classes, with freed blocks kept for the next call (floor 0).
//
// A block is [header | payload | kAlignment readable bytes]. Payload sizes step four times an octave, so a
// block is at most a quarter larger than asked for. All kept blocks stand in one list by age and in a list of
// their class; when a new one would exceed kCacheLimit, the oldest go, so sizes that are no longer used
// cannot fill the cache.
#include "core/memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "core/fork.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lstm_native::core {
namespace {

constexpr std::size_t kUnit = kAlignment;
constexpr int kUncached = -1;
constexpr int kClasses = 80;  // the last one: 128 MiB
constexpr std::size_t kLargestUnits = std::size_t{1} << 21;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugePageFrom = std::size_t{4} << 20;  // smaller blocks would waste much of a huge page

struct Header {
    Header* newer;  // by age, over all classes
    Header* older;
    Header* class_next;  // within the class, the newest first
    Header* class_previous;
    std::size_t payload;
    std::int32_t size_class;
};
static_assert(sizeof(Header) <= kAlignment, "the header must leave the payload aligned");

struct Cache {
    std::mutex mutex;
    Header* newest = nullptr;
    Header* oldest = nullptr;
    Header* first[kClasses] = {};
    std::size_t bytes = 0;
};

// A block that is larger than asked for, or that is handed out again, would hide its misuse from the address sanitizer.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LSTM_NATIVE_EXACT_BLOCKS
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(LSTM_NATIVE_EXACT_BLOCKS)
constexpr bool kExact = true;
#else
constexpr bool kExact = false;
#endif

// Never destroyed: tensors may be released while the process ends.
Cache& cache() {
    static Cache* const instance = [] {
        Cache* const made = new Cache;
        hold_over_fork(made->mutex);  // and the lists of a forked child are whole
        return made;
    }();
    return *instance;
}

// Class of a payload of `units` * kUnit bytes, units >= 1: 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ... units.
int class_of(std::size_t units) {
    if (units > kLargestUnits) return kUncached;
    if (units <= 4) return static_cast<int>(units) - 1;
    const std::size_t last = units - 1;
    const int exponent = 63 - __builtin_clzll(last);
    return 4 * (exponent - 1) + static_cast<int>((last >> (exponent - 2)) & 3);
}

std::size_t units_of(int size_class) {
    if (size_class < 4) return static_cast<std::size_t>(size_class) + 1;
    const int shift = size_class / 4 - 1;
    return static_cast<std::size_t>(5 + size_class % 4) << shift;
}

void* payload_of(Header* header) { return reinterpret_cast<char*>(header) + kAlignment; }
Header* header_of(void* memory) { return reinterpret_cast<Header*>(static_cast<char*>(memory) - kAlignment); }

void unlink(Cache& cache, Header* block) {
    (block->newer != nullptr ? block->newer->older : cache.newest) = block->older;
    (block->older != nullptr ? block->older->newer : cache.oldest) = block->newer;
    (block->class_previous != nullptr ? block->class_previous->class_next : cache.first[block->size_class]) =
        block->class_next;
    if (block->class_next != nullptr) block->class_next->class_previous = block->class_previous;
    cache.bytes -= block->payload;
}

void link(Cache& cache, Header* block) {
    block->newer = nullptr;
    block->older = cache.newest;
    (cache.newest != nullptr ? cache.newest->newer : cache.oldest) = block;
    cache.newest = block;
    Header*& first = cache.first[block->size_class];
    block->class_previous = nullptr;
    block->class_next = first;
    if (first != nullptr) first->class_previous = block;
    first = block;
    cache.bytes += block->payload;
}

// Takes blocks out, the oldest first, until at most `limit` bytes are kept; returns them as a list by class_next, to be
// freed outside the lock.
Header* shrink(Cache& cache, std::size_t limit) {
    Header* removed = nullptr;
    while (cache.bytes > limit) {
        Header* const block = cache.oldest;
        unlink(cache, block);
        block->class_next = removed;
        removed = block;
    }
    return removed;
}

void free_list(Header* block) {
    while (block != nullptr) {
        Header* const next = block->class_next;
        std::free(block);
        block = next;
    }
}

// `used`: bytes that are going to be used for now.
void* from_system(std::size_t bytes, std::size_t used) {
    void* memory = nullptr;
    const bool huge = bytes >= kHugePageFrom;
    if (posix_memalign(&memory, huge ? kHugePage : kAlignment, bytes) != 0) return nullptr;
#if defined(__linux__)
    // Whole ones, so that nothing is taken behind the end. Advice: a refusal costs speed only.
    if (huge) madvise(memory, used / kHugePage * kHugePage, MADV_HUGEPAGE);
#else
    static_cast<void>(used);
#endif
    return memory;
}

}  // namespace

void* allocate(std::size_t bytes) {
    if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
    const std::size_t units = bytes == 0 ? 1 : (bytes + kUnit - 1) / kUnit;
    const int size_class = kExact ? kUncached : class_of(units);
    Header* header = nullptr;
    if (size_class != kUncached) {
        Cache& kept = cache();
        const std::lock_guard<std::mutex> lock(kept.mutex);
        header = kept.first[size_class];
        if (header != nullptr) unlink(kept, header);
    }
    if (header == nullptr) {
        const std::size_t payload = kExact ? bytes : (size_class == kUncached ? units : units_of(size_class)) * kUnit;
        const std::size_t total = kAlignment + payload + kAlignment;
        const std::size_t used = kAlignment + bytes;
        void* memory = from_system(total, used);
        if (memory == nullptr) {
            drop_cache();
            memory = from_system(total, used);
        }
        if (memory == nullptr) throw std::bad_alloc();
        header = static_cast<Header*>(memory);
        header->payload = payload;
        header->size_class = size_class;
    }
    if (kExact) std::memset(payload_of(header), 0xFF, bytes);  // NaN: who reads before he writes does not stay hidden
    return payload_of(header);
}

void release(void* memory) noexcept {
    if (memory == nullptr) return;
    Header* const header = header_of(memory);
    if (header->size_class == kUncached || header->payload > kCacheLimit) {
        std::free(header);
        return;
    }
    Header* removed = nullptr;
    {
        Cache& kept = cache();
        const std::lock_guard<std::mutex> lock(kept.mutex);
        removed = shrink(kept, kCacheLimit - header->payload);
        link(kept, header);
    }
    free_list(removed);
}

void drop_cache() noexcept {
    Header* removed = nullptr;
    {
        Cache& kept = cache();
        const std::lock_guard<std::mutex> lock(kept.mutex);
        removed = shrink(kept, 0);
    }
    free_list(removed);
}

}  // namespace lstm_native::core
