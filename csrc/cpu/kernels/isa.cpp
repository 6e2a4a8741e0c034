#include "cpu/kernels/isa.h"

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "core/error.h"
#include "cpu/backend_cpu.h"

#if defined(LSTM_NATIVE_HAVE_X86_KERNELS)
#include <cpuid.h>
#endif

namespace lstm_native::cpu {

namespace {

constexpr const char* kVariable = "LSTM_NATIVE_ISA";

#if defined(LSTM_NATIVE_HAVE_X86_KERNELS)
constexpr bool has(unsigned word, int bit) { return (word >> bit & 1U) != 0; }

// XCR0: which registers the operating system saves when it switches threads.
unsigned saved_registers() {
    unsigned low = 0;
    unsigned high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

struct Processor {
    bool avx2 = false;
    bool avx512 = false;

    // Bits as in Intel's Software Developer's Manual, volume 2A, CPUID.
    Processor() {
        unsigned a = 0, b = 0, c = 0, d = 0;
        if (__get_cpuid(1, &a, &b, &c, &d) == 0) return;
        const bool fma = has(c, 12), osxsave = has(c, 27), avx = has(c, 28);
        if (!osxsave || !avx || !fma) return;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return;
        constexpr unsigned kYmm = 0x06;  // SSE, AVX
        constexpr unsigned kZmm = 0xE6;  // and the mask registers and both halves of the 512-bit ones
        const unsigned saved = saved_registers();
        avx2 = has(b, 5) && (saved & kYmm) == kYmm;
        const bool f = has(b, 16), dq = has(b, 17), bw = has(b, 30), vl = has(b, 31);
        avx512 = avx2 && f && dq && bw && vl && (saved & kZmm) == kZmm;
    }
};
#endif

// The tables of this build that this machine can run, the best last.
std::vector<const KernelTable*> find_tables() {
    std::vector<const KernelTable*> tables{kernels_generic()};
#if defined(LSTM_NATIVE_HAVE_X86_KERNELS)
    const Processor processor;
    if (processor.avx2) tables.push_back(kernels_avx2());
    if (processor.avx512) tables.push_back(kernels_avx512());
#endif
    return tables;
}

const std::vector<const KernelTable*>& tables() {
    static const std::vector<const KernelTable*> found = find_tables();
    return found;
}

const KernelTable* find_table(const std::string& name, const char* where) {
    std::string known;
    for (const KernelTable* table : tables()) {
        if (name == table->name) return table;
        known += known.empty() ? "" : ", ";
        known += table->name;
    }
    core::fail(where, ": this machine and build have no instruction set '", name, "', expected one of: ", known);
}

std::atomic<const KernelTable*> chosen{nullptr};
std::atomic<std::uint64_t> epoch{1};
std::mutex choice;

}  // namespace

const KernelTable& kernels() {
    if (const KernelTable* table = chosen.load(std::memory_order_acquire)) return *table;
    const std::lock_guard<std::mutex> lock(choice);
    if (chosen.load(std::memory_order_acquire) == nullptr) {
        const char* const forced = std::getenv(kVariable);
        const bool free = forced == nullptr || *forced == '\0';
        chosen.store(free ? tables().back() : find_table(forced, kVariable), std::memory_order_release);
    }
    return *chosen.load(std::memory_order_acquire);
}

std::uint64_t kernels_epoch() { return epoch.load(std::memory_order_acquire); }

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const KernelTable* table : tables()) names.emplace_back(table->name);
    return names;
}

std::string isa() { return kernels().name; }

void set_isa(const std::string& name) {
    const KernelTable* const table = find_table(name, "set_isa");
    const std::lock_guard<std::mutex> lock(choice);
    if (chosen.exchange(table, std::memory_order_acq_rel) != table) epoch.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace lstm_native::cpu
