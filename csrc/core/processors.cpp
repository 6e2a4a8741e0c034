// Affinity and cgroup quota (floor 0). What cannot be read does not limit.
#include "core/processors.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace lstm_native::core {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

int affinity_processors() {
#if defined(__linux__)
    // 65536 processors: the kernel refuses a mask that is smaller than its own.
    constexpr int kSets = 65536 / CPU_SETSIZE;
    cpu_set_t sets[kSets];
    if (sched_getaffinity(0, sizeof sets, sets) == 0) return std::max(1, CPU_COUNT_S(sizeof sets, sets));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

#if defined(__linux__)

// Quota / period of one group, version 2: "max 100000" or "150000 100000" in one file.
double quota_v2(const std::string& directory) {
    std::ifstream file(directory + "/cpu.max");
    std::string quota;
    double period = 0.0;
    if (!(file >> quota >> period) || quota == "max" || period <= 0.0) return kUnlimited;
    double value = 0.0;
    return std::istringstream(quota) >> value && value > 0.0 ? value / period : kUnlimited;
}

// Version 1: two files, quota -1 without a limit.
double quota_v1(const std::string& directory) {
    std::ifstream quota_file(directory + "/cpu.cfs_quota_us");
    std::ifstream period_file(directory + "/cpu.cfs_period_us");
    double quota = 0.0;
    double period = 0.0;
    if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0.0 || period <= 0.0) return kUnlimited;
    return quota / period;
}

// The smallest quota of `path` below `mount` and of all groups above it.
template <class Quota>
double smallest_quota(const std::string& mount, std::string path, Quota quota) {
    double result = kUnlimited;
    for (;;) {
        result = std::min(result, quota(mount + path));
        const auto slash = path.rfind('/');
        if (slash == std::string::npos) return result;
        path.erase(slash);
    }
}

double cgroup_quota() {
    // Lines "id:controllers:path"; version 2 has no controllers. In a container the path may be one of the
    // host that does not exist here; the walk up then ends at the mount, which is the container's own group.
    double result = kUnlimited;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const auto first = line.find(':');
        const auto second = line.find(':', first == std::string::npos ? first : first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const std::string path = line.substr(second + 1);
        if (controllers == ",,") {
            result = std::min(result, smallest_quota("/sys/fs/cgroup", path, quota_v2));
        } else if (controllers.find(",cpu,") != std::string::npos) {
            result = std::min(result, smallest_quota("/sys/fs/cgroup/cpu", path, quota_v1));
        }
    }
    return result;
}

#else

double cgroup_quota() { return kUnlimited; }

#endif

}  // namespace

int usable_processors() {
    const int processors = affinity_processors();
    const double quota = cgroup_quota();
    return quota < processors ? std::max(1, static_cast<int>(quota)) : processors;
}

#if defined(__linux__)

int current_processor() noexcept { return sched_getcpu(); }

void leave_processor(int processor) noexcept {
    constexpr int kSets = 8;  // 8192 processors
    cpu_set_t all[kSets];
    if (sched_getaffinity(0, sizeof all, all) != 0) return;
    cpu_set_t others[kSets];
    std::copy_n(all, kSets, others);
    CPU_CLR_S(static_cast<std::size_t>(processor), sizeof others, others);
    if (CPU_COUNT_S(sizeof others, others) == 0) return;
    if (sched_setaffinity(0, sizeof others, others) == 0) sched_setaffinity(0, sizeof all, all);
}

#else

int current_processor() noexcept { return -1; }
void leave_processor(int) noexcept {}

#endif

}  // namespace lstm_native::core
