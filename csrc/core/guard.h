// Exceptions stop at a backend's table: they become a status and a message (floor 0).
#pragma once

#include <cstddef>
#include <cstdio>
#include <exception>
#include <new>

namespace lstm_native::core {

// Runs `body`; gives 0, or 1 (out of memory) or 2 (anything else) with what was thrown in `message`. The numbers are
// those of LnStatus.
template <class F>
int guarded(char* message, std::size_t size, F&& body) {
    try {
        body();
        return 0;
    } catch (const std::bad_alloc&) {
        std::snprintf(message, size, "out of memory");
        return 1;
    } catch (const std::exception& error) {
        std::snprintf(message, size, "%s", error.what());
        return 2;
    }
}

}  // namespace lstm_native::core
