// The machine of runtime.h on a GPU (floor 1, CUDA): device 0 of those that CUDA_VISIBLE_DEVICES shows, one stream, a
// pool of memory that is asked and given back in the stream's order.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdio>
#include <cub/device/device_radix_sort.cuh>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>

#include "core/error.h"
#include "cuda/blas.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/planner.h"
#include "cuda/runtime.h"

namespace lstm_native::cuda {
namespace {

constexpr int kDevice = 0;
constexpr std::size_t kBlasWorkspace = std::size_t{32} << 20;  // what NVIDIA recommends for Hopper

// Made once; lives as long as the process.
cudaStream_t stream = nullptr;
cudaMemPool_t pool = nullptr;
Blas* blas_of_device = nullptr;
LnDeviceInfo info{};
Offer offer;
std::atomic<std::int32_t> wanted_precision{LN_FLOAT32};
std::atomic<bool> can_wait{true};     // blocks for each other: until it has failed
std::atomic<bool> can_cluster{true};  // they can run in clusters: the same
std::atomic<std::int32_t> plan{LN_PLAN_AUTO};
thread_local cudaStream_t of_graph = nullptr;  // while this thread makes a graph: takes its launches
std::uint32_t* given_up = nullptr;             // of grid.h, in memory of the host that the device writes to

void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());  // forgets it where it can be forgotten
    if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
    throw std::runtime_error(core::message("CUDA: ", what, ": ", cudaGetErrorString(error)));
}

// What `second` is given from now on begins when what `first` was given is done.
void put_in_order(cudaStream_t first, cudaStream_t second) {
    cudaEvent_t done = nullptr;
    check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "event");
    cudaError_t error = cudaEventRecord(done, first);
    if (error == cudaSuccess) error = cudaStreamWaitEvent(second, done, 0);
    static_cast<void>(cudaEventDestroy(done));  // the driver keeps it until it is over
    check(error, "order of two streams");
}

Machine find_machine(cudaDeviceProp& properties) {
    Machine machine;
    check(cudaDriverGetVersion(&machine.driver), "version of the driver");
    if (machine.driver < machine.needed) return machine;
    const cudaError_t counted = cudaGetDeviceCount(&machine.devices);
    if (counted == cudaErrorNoDevice) {
        machine.devices = 0;
        static_cast<void>(cudaGetLastError());
    } else {
        check(counted, "number of devices");
    }
    if (machine.devices == 0) return machine;
    check(cudaGetDeviceProperties(&properties, kDevice), "properties of the device");
    machine.name = properties.name;
    machine.major = properties.major;
    machine.minor = properties.minor;
    return machine;
}

}  // namespace

cudaStream_t queue() { return of_graph != nullptr ? of_graph : stream; }

void check_launch() { check(cudaGetLastError(), "start of a kernel"); }

// All that a block may have, never less: a kernel is shared by threads that launch it for other shapes.
void allow_shared(const void* kernel) {
    check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(offer.shared_bytes)),
        "shared memory of a kernel");
}

namespace {

void allow_all_clusters(const void* kernel) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "clusters of a kernel");
}

cudaLaunchConfig_t launch_of(int blocks, int threads, std::size_t shared_bytes) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return config;
}

cudaLaunchAttribute clusters_of(int blocks) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(blocks);
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
    return attribute;
}

__global__ void __launch_bounds__(kGridThreads) in_clusters() {}

// How many clusters of each size can run together, a block a processor. Code for older GPUs, which the driver compiles
// for this one, has none.
void find_clusters(int major) {
    const auto* const kernel = reinterpret_cast<const void*>(in_clusters);
    offer.clusters[1] = offer.processors;
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), "code of a kernel");
    if (major < 9 || attributes.ptxVersion < 90) return;
    allow_shared(kernel);
    allow_all_clusters(kernel);
    for (int blocks = 2; blocks <= kMostOfCluster; ++blocks) {
        cudaLaunchConfig_t config = launch_of(blocks, kGridThreads, offer.shared_bytes);
        cudaLaunchAttribute attribute = clusters_of(blocks);
        config.attrs = &attribute;
        config.numAttrs = 1;
        int clusters = 0;
        if (cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) != cudaSuccess)
            static_cast<void>(cudaGetLastError());  // clusters of this size are none
        else
            offer.clusters[static_cast<std::size_t>(blocks)] = clusters;
    }
}

bool launch_in_clusters(const void* kernel, int blocks, int cluster, int threads, std::size_t shared_bytes,
                        void** arguments) {
    if (cluster > 1) allow_all_clusters(kernel);
    cudaLaunchConfig_t config = launch_of(blocks, threads, shared_bytes);
    cudaLaunchAttribute attribute = clusters_of(cluster);
    config.attrs = &attribute;
    config.numAttrs = cluster > 1 ? 1 : 0;
    if (cudaLaunchKernelExC(&config, kernel, arguments) == cudaSuccess) return true;
    static_cast<void>(cudaGetLastError());  // one that lasts comes again with the next launch
    can_cluster = false;
    return false;
}

}  // namespace

bool launch_together(const void* kernel, int blocks, int cluster, int threads, std::size_t shared_bytes,
                     void** arguments) {
    if (cluster > 0) return launch_in_clusters(kernel, blocks, cluster, threads, shared_bytes, arguments);
    int each = 0;
    cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, shared_bytes);
    if (error == cudaSuccess && each * offer.processors >= blocks)
        error = cudaLaunchCooperativeKernel(kernel, dim3(static_cast<unsigned>(blocks)),
                                            dim3(static_cast<unsigned>(threads)), arguments, shared_bytes, stream);
    else if (error == cudaSuccess)
        error = cudaErrorCooperativeLaunchTooLarge;
    if (error == cudaSuccess) return true;
    static_cast<void>(cudaGetLastError());
    if (error != cudaErrorCooperativeLaunchTooLarge && error != cudaErrorLaunchOutOfResources)
        check(error, "start of a kernel whose blocks wait for each other");
    can_wait = false;
    return false;
}

// The host's address is the device's, too: memory has one space of addresses.
std::uint32_t* give_up_flag() { return given_up; }

// Without a driver there is none to choose; open_device() says so.
OnDevice::OnDevice() {
    if (cudaGetDevice(&before_) != cudaSuccess) {
        before_ = kDevice;
        static_cast<void>(cudaGetLastError());
    }
    if (before_ != kDevice) static_cast<void>(cudaSetDevice(kDevice));
}
OnDevice::~OnDevice() {
    if (before_ != kDevice) static_cast<void>(cudaSetDevice(before_));
}

void open_device() {
    if (stream != nullptr) return;
    cudaDeviceProp properties{};
    const std::string reason = unusable(find_machine(properties));
    if (!reason.empty()) throw std::runtime_error(reason);
    check(cudaSetDevice(kDevice), "choice of the device");
    cudaMemPoolProps wanted{};
    wanted.allocType = cudaMemAllocationTypePinned;
    wanted.location.type = cudaMemLocationTypeDevice;
    wanted.location.id = kDevice;
    check(cudaMemPoolCreate(&pool, &wanted), "pool of memory");
    std::uint64_t keep_all = UINT64_MAX;  // fresh memory from the driver costs more than small models compute
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all), "pool of memory");
    std::snprintf(info.name, sizeof info.name, "%.127s", properties.name);
    int cooperative = 0;
    check(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, kDevice), "properties of the device");
    offer = {properties.multiProcessorCount,
             properties.sharedMemPerBlockOptin,
             cooperative != 0 ? properties.multiProcessorCount : 0,
             {}};
    find_clusters(properties.major);
    void* flag = nullptr;
    check(cudaHostAlloc(&flag, sizeof *given_up, cudaHostAllocMapped), "memory of the host");
    given_up = static_cast<std::uint32_t*>(flag);
    *given_up = 0;
    info.major = properties.major;
    info.minor = properties.minor;
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "stream");
    stream = made;
}

void open_blas(const char* path) {
    if (blas_of_device != nullptr) return;
    void* const workspace = allocate(kBlasWorkspace);
    try {
        blas_of_device = new Blas(path, workspace, kBlasWorkspace);
    } catch (...) {
        release(workspace);
        throw;
    }
}

Blas& blas() { return *blas_of_device; }

LnDeviceInfo device_info() {
    LnDeviceInfo now = info;
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check(cudaMemGetInfo(&free_bytes, &total_bytes), "memory of the device");
    now.free_bytes = free_bytes;
    now.total_bytes = total_bytes;
    return now;
}

Offer device_offer() {
    Offer now = offer;
    if (!can_wait) now.together = 0;
    if (!can_wait || !can_cluster) now.clusters = {};
    return now;
}

void set_precision(std::int32_t wanted) { wanted_precision = wanted; }
std::int32_t precision() { return wanted_precision.load(); }
void set_plan(std::int32_t wanted) { plan = wanted; }
std::int32_t wanted_plan() { return plan.load(); }

void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    const std::size_t wanted = bytes == 0 ? 1 : bytes;
    if (cudaMallocFromPoolAsync(&memory, wanted, pool, stream) == cudaSuccess) return memory;
    static_cast<void>(cudaGetLastError());
    synchronize();
    check(cudaMemPoolTrimTo(pool, 0), "pool of memory");
    check(cudaMallocFromPoolAsync(&memory, wanted, pool, stream), "memory");
    return memory;
}

void release(void* memory) noexcept { static_cast<void>(cudaFreeAsync(memory, stream)); }

void copy(std::int32_t direction, std::size_t bytes, const void* from, void* to) {
    if (bytes == 0) return;
    const cudaMemcpyKind kind = direction == LN_TO_DEVICE ? cudaMemcpyHostToDevice
                                : direction == LN_TO_HOST ? cudaMemcpyDeviceToHost
                                                          : cudaMemcpyDeviceToDevice;
    check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copy");
    if (direction == LN_TO_HOST) return synchronize();
    if (direction == LN_ON_DEVICE) return;
    // Pageable memory has been read when the call returns, pinned memory perhaps not.
    cudaPointerAttributes source{};
    check(cudaPointerGetAttributes(&source, from), "kind of memory");
    if (source.type != cudaMemoryTypeUnregistered) synchronize();
}

void zero(std::size_t bytes, void* memory) { check(cudaMemsetAsync(memory, 0, bytes, stream), "zeros"); }

void synchronize() {
    check(cudaStreamSynchronize(stream), "work of the device");
    volatile std::uint32_t* const flag = given_up;
    if (*flag == 0) return;
    *flag = 0;
    can_wait = false;
    throw std::runtime_error(
        "CUDA: the blocks of a kernel waited for each other in vain, its results are wrong; from now on recurrent "
        "layers run step by step");
}

void* queue_handle() { return stream; }
void* queue_of_thread() { return queue(); }

void hand_over(void* other) { put_in_order(stream, static_cast<cudaStream_t>(other)); }
void take_back(void* other) { put_in_order(static_cast<cudaStream_t>(other), stream); }

void settle() { check(cudaDeviceSynchronize(), "work of the device"); }

void* set_mark() {
    cudaEvent_t mark = nullptr;
    check(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming), "event");
    const cudaError_t error = cudaEventRecord(mark, stream);
    if (error != cudaSuccess) static_cast<void>(cudaEventDestroy(mark));
    check(error, "event");
    return mark;
}

// After an error of the device nothing runs any more.
bool passed(void* mark) noexcept {
    auto* const event = static_cast<cudaEvent_t>(mark);
    const cudaError_t error = cudaEventQuery(event);
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
    if (error == cudaErrorNotReady) return false;
    static_cast<void>(cudaEventDestroy(event));
    return true;
}

// A stream for each graph, so that other threads go on with the one that all use. Relaxed: no other work is meant, so
// none is forbidden.
void begin_graph() {
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "stream of a graph");
    of_graph = made;
    check(cudaStreamBeginCapture(made, cudaStreamCaptureModeRelaxed), "begin of a graph");
}

void* end_graph() {
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(of_graph, &graph), "end of a graph");
    cudaGraphExec_t ready = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    check(error, "making a graph ready");
    static_cast<void>(cudaStreamDestroy(of_graph));
    of_graph = nullptr;
    return ready;
}

void cancel_graph() noexcept {
    if (of_graph == nullptr) return;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaGraph_t graph = nullptr;
    if (cudaStreamIsCapturing(of_graph, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone)
        static_cast<void>(cudaStreamEndCapture(of_graph, &graph));
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
    static_cast<void>(cudaStreamDestroy(of_graph));
    of_graph = nullptr;
    static_cast<void>(cudaGetLastError());
}

void launch_graph(void* graph) {
    check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream), "start of a graph");
}

// The driver keeps one that runs until it is over.
void destroy_graph(void* graph) noexcept {
    static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

void sort_by_key(std::int64_t count, std::int64_t bound, const std::int32_t* keys, const std::int32_t* values,
                 std::int32_t* sorted_keys, std::int32_t* sorted_values) {
    int bits = 1;
    while (bits < 31 && (std::int64_t{1} << bits) < bound) ++bits;
    std::size_t bytes = 0;
    const auto sort = [&](void* scratch) {
        check(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values, count, 0, bits,
                                              stream),
              "sorting");
    };
    sort(nullptr);
    const Array<char> scratch(static_cast<std::int64_t>(bytes));
    sort(scratch.get());
}

}  // namespace lstm_native::cuda
