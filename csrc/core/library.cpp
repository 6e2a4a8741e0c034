#include "core/library.h"

#include <dlfcn.h>

namespace lstm_native::core {

void* open_library(const std::string& path, std::string* reason) {
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const why = dlerror();
        *reason = why == nullptr ? "unknown reason" : why;
    }
    return library;
}

void* find_function(void* library, const char* name) { return dlsym(library, name); }

}  // namespace lstm_native::core
