// Launches that come again, kept as CUDA graphs (floor 1, CUDA): the second time that launches with the same arguments
// come they are made into a graph, from the third time on that is launched.
//
// A graph holds the addresses that its launches were given, and these are part of what is compared: it runs only where
// the plain launches would be given the same, so that memory which was given back in between is somebody's again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace lstm_native::cuda {

// Of one graph: below, a graph takes as long to start as the launches; above, too long to make.
inline constexpr std::int64_t kFewestLaunches = 8;
inline constexpr std::int64_t kMostLaunches = 4096;
// Of the graphs that are kept, all together: about 1 KB of memory each, an estimate.
inline constexpr std::int64_t kMostLaunchesKept = 65536;
// Calls of which is known that they were there.
inline constexpr std::size_t kMostCallsKnown = 256;

// How many of `steps` steps a graph has, each with so many launches, or 0: no graphs. They pay where the device is done
// with a step (`microseconds`, estimated) before the host has launched the next one. `wanted`: a LnPlan.
std::int64_t steps_of_graph(std::int64_t steps, std::int64_t launches, double microseconds, std::int32_t wanted);

// Runs `launch`, or a graph of what it launched before with the same key, `bytes` of everything that its launches
// depend on. So many launches; they may ask for no memory.
void run_as_graph(const void* key, std::size_t bytes, std::int64_t launches, const std::function<void()>& launch);

// Graphs so far.
struct GraphCounts {
    std::int64_t made = 0, launched = 0, kept = 0;
};
GraphCounts graph_counts();

}  // namespace lstm_native::cuda
