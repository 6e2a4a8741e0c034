// Which launches become graphs and which graphs are kept (csrc/cuda/graphs.h), with a machine that counts: no GPU.
#include "cuda/graphs.h"

#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "cuda/runtime.h"

namespace lstm_native::cuda {

namespace {
bool making = false;
int alive = 0, canceled = 0;
bool begin_fails = false, end_fails = false, launch_fails = false;
}  // namespace

void begin_graph() {
    if (begin_fails) throw std::runtime_error("begin");
    making = true;
}
void* end_graph() {
    if (end_fails) throw std::runtime_error("end");
    making = false;
    ++alive;
    return new int(0);
}
void cancel_graph() noexcept {
    making = false;
    ++canceled;
}
void launch_graph(void*) {
    if (launch_fails) throw std::runtime_error("launch");
}
void destroy_graph(void* graph) noexcept {
    --alive;
    delete static_cast<int*>(graph);
}

}  // namespace lstm_native::cuda

namespace {

using namespace lstm_native::cuda;

int failures = 0;

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    ++failures;
}

// What became of a call.
enum class Way { launches, made, graph };
Way run(std::int64_t number, std::int64_t launches = 16) {
    int here = 0;
    int kept = 0;
    run_as_graph(&number, sizeof number, launches, [&] { making ? ++kept : ++here; });
    expect(here + kept <= 2 && here <= 1 && kept <= 1, "launches come once");
    return here == 1 ? Way::launches : kept == 1 ? Way::made : Way::graph;
}

std::int64_t next_number = 0;  // of a call that has not been

void test_steps_of_graph() {
    expect(steps_of_graph(512, 2, 5.0, LN_PLAN_AUTO) == 512, "the host is late");
    expect(steps_of_graph(512, 2, 9.0, LN_PLAN_AUTO) == 0, "the device is late");
    expect(steps_of_graph(512, 4, 9.0, LN_PLAN_STEPS) == 512, "four launches take longer");
    expect(steps_of_graph(512, 2, 9.0, LN_PLAN_GRAPHS) == 512, "wanted");
    expect(steps_of_graph(512, 2, 5.0, LN_PLAN_LAUNCHES) == 0, "not wanted");
    expect(steps_of_graph(3, 2, 5.0, LN_PLAN_GRAPHS) == 0 && steps_of_graph(4, 2, 5.0, LN_PLAN_GRAPHS) == 4, "fewest");
    expect(steps_of_graph(2048, 2, 5.0, LN_PLAN_AUTO) == 2048, "one graph");
    expect(steps_of_graph(2049, 2, 5.0, LN_PLAN_AUTO) == 1025, "two parts, nearly alike");
    expect(steps_of_graph(100000, 3, 5.0, LN_PLAN_AUTO) * 3 <= kMostLaunches, "most");
}

void test_second_time() {
    const std::int64_t call = next_number++;
    expect(run(call) == Way::launches && run(call) == Way::made && run(call) == Way::graph && run(call) == Way::graph,
           "launches, made, graph");
    expect(run(next_number++) == Way::launches && run(call) == Way::graph, "another call");
    const GraphCounts counts = graph_counts();
    expect(counts.made == 1 && counts.kept == 1 && counts.launched == 4 && alive == 1, "counts");
}

void test_errors() {
    for (bool* const fails : {&begin_fails, &end_fails, &launch_fails}) {
        const std::int64_t call = next_number++;
        const int before = alive;
        run(call);
        *fails = true;
        expect(run(call) == Way::launches || fails != &begin_fails, "falls back");
        *fails = false;
        expect(!making && alive == before, "nothing is left of it");
        expect(run(call) == Way::launches && run(call) == Way::launches, "not tried again");
        const std::int64_t other = next_number++;
        run(other);
        expect(run(other) == Way::made && run(other) == Way::graph, "others are as before");
    }
    const std::int64_t call = next_number++;
    run(call);
    launch_fails = true;
    run(call);
    launch_fails = false;
    expect(canceled == 2, "what was begun was canceled");

    // What is wrong with the launches themselves is the caller's to see.
    const std::int64_t broken = next_number++;
    const auto launch = [] { throw std::runtime_error("launch"); };
    int seen = 0;
    for (int i = 0; i < 3; ++i) {
        try {
            run_as_graph(&broken, sizeof broken, 16, launch);
        } catch (const std::runtime_error&) {
            ++seen;
        }
    }
    expect(seen == 3 && !making, "errors of launches");
}

// Calls that come in turns, more than there is room for: some graphs stay, none is made twice.
void test_no_thrashing() {
    const std::int64_t first = next_number;
    const std::int64_t calls = 2 * kMostLaunchesKept / kMostLaunches;
    next_number += calls;
    const std::int64_t made_before = graph_counts().made;
    for (int round = 0; round < 10; ++round)
        for (std::int64_t n = 0; n < calls; ++n) run(first + n, kMostLaunches);
    const std::int64_t made = graph_counts().made - made_before;
    expect(made > calls / 4 && made < calls, "as many as there is room for, once");
    expect(graph_counts().kept == alive, "kept");

    // Others that come alone for a while take their place.
    const std::int64_t late = next_number;
    next_number += 3;
    for (int round = 0; round < 3; ++round)
        for (std::int64_t n = 0; n < 3; ++n) run(late + n, kMostLaunches);
    expect(run(late, kMostLaunches) == Way::graph, "a place for the latest");
}

void test_calls_are_forgotten() {
    const std::int64_t kept_before = graph_counts().kept;
    expect(kept_before > 0, "there are graphs");
    const std::int64_t call = next_number++;
    run(call);
    for (std::size_t n = 0; n < kMostCallsKnown; ++n) run(next_number++);
    expect(run(call) == Way::launches, "it is as new");
    expect(graph_counts().kept == 0 && alive == 0, "graphs of calls that are forgotten are destroyed");
    expect(run(call) == Way::made, "and comes again");
}

}  // namespace

int main() {
    test_steps_of_graph();
    test_second_time();
    test_errors();
    test_no_thrashing();
    test_calls_are_forgotten();
    return failures == 0 ? 0 : 1;
}
