#include "core/fork.h"

#include <pthread.h>

#include <atomic>
#include <new>

namespace lstm_native::core {
namespace {

constexpr int kMost = 8;  // each is one line of this library's source
std::mutex* held[kMost] = {};
int count = 0;
std::mutex registration;
std::atomic<int> generation{0};

void lock_all() {
    registration.lock();
    for (int i = 0; i < count; ++i) held[i]->lock();
}

void unlock_all() {
    for (int i = count; i-- > 0;) held[i]->unlock();
    registration.unlock();
}

void unlock_in_child() {
    generation.fetch_add(1, std::memory_order_relaxed);
    unlock_all();
}

}  // namespace

void hold_over_fork(std::mutex& mutex) {
    const std::lock_guard<std::mutex> lock(registration);
    if (count == kMost || (count == 0 && pthread_atfork(lock_all, unlock_all, unlock_in_child) != 0))
        throw std::bad_alloc();
    held[count++] = &mutex;
}

void run_in_child(void (*function)()) {
    if (pthread_atfork(nullptr, nullptr, function) != 0) throw std::bad_alloc();
}

int forks() noexcept { return generation.load(std::memory_order_relaxed); }

}  // namespace lstm_native::core
