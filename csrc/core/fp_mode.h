// Floating-point mode of native calls (floor 0): decaying cell states become subnormal, and subnormal
// arithmetic is tens of times slower. Flushing them is confined to a scope; the caller's mode comes back.
#pragma once

#include <cstdint>

namespace lstm_native::core {

class FlushSubnormals {
public:
    FlushSubnormals() noexcept;
    ~FlushSubnormals();
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

private:
    std::uint64_t saved_;
};

}  // namespace lstm_native::core
