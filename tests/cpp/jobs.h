// What the stress test runs: jobs that call the backend's entries, and the results that two runs of one must share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/backend_cpu.h"

namespace jobs {

using Floats = std::vector<float>;  // exact in size: the address sanitizer sees the first float beyond
using Pack = std::shared_ptr<void>;

inline std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// Numbers in [-scale, scale) that depend on `seed` alone.
inline Floats numbers(std::int64_t count, std::uint32_t seed, float scale = 1.0F) {
    Floats result(size(count));
    std::uint32_t state = seed * 2654435761U + 12345U;
    for (float& x : result) {
        state = state * 1664525U + 1013904223U;
        x = scale * (static_cast<float>(state >> 8) * 0x1p-23F - 1.0F);
    }
    return result;
}

inline std::vector<std::int32_t> below(std::int64_t count, std::int32_t bound, std::uint32_t seed) {
    std::vector<std::int32_t> result(size(count));
    std::uint32_t state = seed;
    for (std::int32_t& x : result) {
        state = state * 1664525U + 1013904223U;
        x = static_cast<std::int32_t>((state >> 8) % static_cast<std::uint32_t>(bound));
    }
    return result;
}

// One call's results, in the order of the calls that made them.
class Results {
public:
    explicit Results(int threads) : threads_(threads) {}

    float* floats(std::int64_t count) {
        arrays_.emplace_back(size(count), -77.0F);
        return arrays_.back().data();
    }
    float* copy(const Floats& values) {
        arrays_.push_back(values);
        return arrays_.back().data();
    }
    template <class... Parameters, class... Arguments>
    void call(LnStatus (*entry)(LnContext*, Parameters...), Arguments... arguments) {
        LnContext context{};
        context.num_threads = threads_;
        if (entry(&context, arguments...) == LN_OK) return;
        std::fprintf(stderr, "a call failed: %s\n", context.message);
        failed_ = true;
    }
    // No NaN: where fresh memory is NaN, nothing was read before it was written.
    bool defined() const {
        for (const Floats& array : arrays_)
            for (const float x : array)
                if (x != x) return false;
        return !failed_;
    }
    bool equals(const Results& other) const {
        if (failed_ || arrays_.size() != other.arrays_.size()) return false;
        for (std::size_t i = 0; i < arrays_.size(); ++i) {
            const Floats& a = arrays_[i];
            const Floats& b = other.arrays_[i];
            if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0) return false;
        }
        return true;
    }

private:
    int threads_;
    bool failed_ = false;
    std::vector<Floats> arrays_;
};

// What several threads do at the same time, each with results of its own; inputs and packs are shared.
struct Job {
    std::string name;
    std::function<void(Results&)> run;
};

inline const LnBackend& backend() { return *lstm_native::cpu::backend(); }

}  // namespace jobs
