// Counts the requests for memory of a process: a library for LD_PRELOAD whose functions stand before those of
// the C library. `operator new` comes through malloc. Built and loaded by limits.py.
#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

namespace {

std::atomic<unsigned long long> requests{0};

template <class F>
F next(const char* name) {
    return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

void count() { requests.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

extern "C" {

unsigned long long allocations_so_far() { return requests.load(); }

// glibc's own names: dlsym itself may ask for memory before it has found anything.
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
    count();
    return __libc_malloc(bytes);
}

void* calloc(std::size_t number, std::size_t bytes) {
    count();
    return __libc_calloc(number, bytes);
}

void* realloc(void* memory, std::size_t bytes) {
    count();
    return __libc_realloc(memory, bytes);
}

void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
    count();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
    count();
    void* const made = __libc_memalign(alignment, bytes);
    if (made == nullptr) return ENOMEM;
    *memory = made;
    return 0;
}

void* mmap(void* address, std::size_t bytes, int protection, int flags, int file, long offset) {
    using Mmap = void* (*)(void*, std::size_t, int, int, int, long);
    static const Mmap real = next<Mmap>("mmap");
    count();
    return real(address, bytes, protection, flags, file, offset);
}

}  // extern "C"
