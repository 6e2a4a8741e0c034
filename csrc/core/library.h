// Shared libraries that are opened while the process runs (floor 0).
#pragma once

#include <string>

namespace lstm_native::core {

// Handle of the library at `path`, which stays open for ever; null, and why in `reason`, where it cannot be opened.
void* open_library(const std::string& path, std::string* reason);
// Address of a function; null where the library has none of this name.
void* find_function(void* library, const char* name);

}  // namespace lstm_native::core
