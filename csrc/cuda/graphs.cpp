#include "cuda/graphs.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/size.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {
namespace {

// Of the host for a launch, on a machine with an H100: a kernel's takes about 3 us, one through cuBLASLt 5. Estimates.
constexpr double kHostMicroseconds = 4.0;

struct Call {
    void* graph = nullptr;
    std::int64_t launches = 0;
    std::uint64_t used = 0;  // when it came last
    bool refused = false;    // it could not be made
};

class Graphs {
public:
    void run(std::string key, std::int64_t launches, const std::function<void()>& launch) {
        if (!ran_as_graph(std::move(key), launches, launch)) launch();
    }

    GraphCounts counts() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return counts_;
    }

private:
    std::mutex mutex_;
    std::unordered_map<std::string, Call> calls_;
    std::uint64_t now_ = 0;
    std::int64_t launches_kept_ = 0;
    GraphCounts counts_;

    bool ran_as_graph(std::string key, std::int64_t launches, const std::function<void()>& launch) {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++now_;
        const auto found = calls_.find(key);
        if (found == calls_.end()) {
            if (calls_.size() >= kMostCallsKnown) forget_oldest();
            calls_.emplace(std::move(key), Call{nullptr, launches, now_, false});
            return false;
        }
        Call& call = found->second;
        const std::uint64_t before = call.used;
        call.used = now_;
        if (call.refused) return false;
        try {
            if (call.graph == nullptr) {
                if (!make_room(launches, before)) return false;
                make(call, launch);
            }
            launch_graph(call.graph);
        } catch (...) {
            // Nothing has run. What is wrong with the launches themselves comes again when they run one by one.
            drop(call);
            call.refused = true;
            return false;
        }
        ++counts_.launched;
        return true;
    }

    void make(Call& call, const std::function<void()>& launch) {
        try {
            begin_graph();
            launch();
            call.graph = end_graph();
        } catch (...) {
            cancel_graph();
            throw;
        }
        launches_kept_ += call.launches;
        ++counts_.made;
        ++counts_.kept;
    }

    void drop(Call& call) {
        if (call.graph == nullptr) return;
        destroy_graph(call.graph);
        call.graph = nullptr;
        launches_kept_ -= call.launches;
        --counts_.kept;
    }

    // For a call that came last at `before`. Graphs that were used since are worth as much, and stay: else calls that
    // come in turns, more than there is room for, would all be made again and again.
    bool make_room(std::int64_t launches, std::uint64_t before) {
        while (launches_kept_ + launches > kMostLaunchesKept) {
            Call* oldest = nullptr;
            for (auto& entry : calls_)
                if (entry.second.graph != nullptr && (oldest == nullptr || entry.second.used < oldest->used))
                    oldest = &entry.second;
            if (oldest == nullptr || oldest->used > before) return false;
            drop(*oldest);
        }
        return true;
    }

    void forget_oldest() {
        const auto oldest = std::min_element(
            calls_.begin(), calls_.end(), [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
        drop(oldest->second);
        calls_.erase(oldest);
    }
};

// Lives as long as the process, as the device does.
Graphs& graphs() {
    static Graphs* const made = new Graphs;
    return *made;
}

}  // namespace

std::int64_t steps_of_graph(std::int64_t steps, std::int64_t launches, double microseconds, std::int32_t wanted) {
    const bool pays = microseconds < static_cast<double>(launches) * kHostMicroseconds;
    if (wanted == LN_PLAN_LAUNCHES || (wanted != LN_PLAN_GRAPHS && !pays)) return 0;
    if (steps * launches < kFewestLaunches) return 0;
    const std::int64_t parts = core::ceil_div(steps, std::max<std::int64_t>(kMostLaunches / launches, 1));
    return core::ceil_div(steps, parts);
}

void run_as_graph(const void* key, std::size_t bytes, std::int64_t launches, const std::function<void()>& launch) {
    graphs().run(std::string(static_cast<const char*>(key), bytes), launches, launch);
}

GraphCounts graph_counts() { return graphs().counts(); }

}  // namespace lstm_native::cuda
