#include "cuda/planner.h"

#include <algorithm>

#include "core/error.h"
#include "core/size.h"

namespace lstm_native::cuda {

unsigned blocks_for(std::int64_t count, int each) {
    return static_cast<unsigned>(std::clamp<std::int64_t>(core::ceil_div(count, each), 1, kMostBlocks));
}

std::int64_t steps_per_projection(std::int64_t steps, std::int64_t batch, std::int64_t columns) {
    const std::int64_t bytes = core::checked_mul(core::checked_mul(batch, columns), std::int64_t{sizeof(float)});
    return std::clamp<std::int64_t>(kProjectionBytes / std::max<std::int64_t>(bytes, 1), 1, steps);
}

std::int64_t parts_of_rows(std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kThreads = std::int64_t{1} << 16;  // a few hundred for each of some hundred processors
    constexpr std::int64_t kFewestRows = 16;                  // below, the partial sums cost more than they save
    const std::int64_t wanted = kThreads / std::max<std::int64_t>(columns, 1);
    return std::clamp<std::int64_t>(std::min(wanted, rows / kFewestRows), 1, 1024);
}

LstmPlan plan_lstm(std::int64_t B, std::int64_t H, bool backward, const Offer& offer) {
    // Rows that a processor has to run one beside or after another. A row costs a step about 0.5 us, a step of its own
    // about 5 us: estimates, for nothing was measured yet.
    constexpr std::int64_t kMostRows = 8;
    if (H > kMostUnits || offer.processors <= 0) return {};
    const std::int64_t share = core::ceil_div(B, offer.processors);
    if (share > kMostRows) return {};
    for (const int rows : {4, 2, 1}) {
        if (rows > share) continue;
        const std::int64_t rest = std::max<std::int64_t>(H - held_of(rows), 0) * 4 * H;
        // Of a row: h and sums of the gates; or gradients of the gates, partial sums, and of three states.
        const std::int64_t row = backward ? 4 * kMostUnits + 7 * H : kMostUnits + 4 * H;
        const auto floats = static_cast<std::size_t>(rest + rows * row);
        if (floats * sizeof(float) <= offer.shared_bytes)
            return {rows, static_cast<int>(core::round_up(4 * H, kWarp)), floats};
    }
    return {};
}

std::string unusable(const Machine& machine) {
    const auto version = [](int v) { return core::message(v / 1000, ".", v % 1000 / 10); };
    if (machine.driver == 0)
        return core::message("no NVIDIA driver was found; install one that supports CUDA ", version(machine.needed));
    if (machine.driver < machine.needed)
        return core::message("the NVIDIA driver supports CUDA ", version(machine.driver), ", expected at least ",
                             version(machine.needed), "; update the driver");
    if (machine.devices == 0)
        return "the NVIDIA driver shows no GPU; check that there is one and that CUDA_VISIBLE_DEVICES does not hide it";
    if (machine.major < 8)
        return core::message("the GPU ", machine.name, " has compute capability ", machine.major, ".", machine.minor,
                             ", expected at least 8.0 (Ampere); use another GPU or to('cpu')");
    return {};
}

}  // namespace lstm_native::cuda
