// Error text and checks (floor 0). Only standard exceptions are thrown: invalid_argument (the caller's
// mistake), out_of_range is not used, overflow_error (sizes), runtime_error (the machine), bad_alloc.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace lstm_native::core {

// Joins the parts with operator<<.
template <class... Parts>
std::string message(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    throw std::invalid_argument(message(parts...));
}

// Throws std::invalid_argument with the joined parts unless `condition` holds.
template <class... Parts>
void check(bool condition, const Parts&... parts) {
    if (!condition) fail(parts...);
}

}  // namespace lstm_native::core
