#include "cpu/dense.h"

#include <mutex>

#include "core/thread_pool.h"
#include "cpu/kernels/isa.h"
#include "cpu/pack.h"
#include "cpu/status.h"

namespace lstm_native::cpu {

namespace {

// Rows that are taken together: their blocked copy stays in the second-level cache.
constexpr std::int64_t kRows = 96;
// Column pairs of one task at most, so that wide outputs (vocabularies) spread over threads.
constexpr std::int64_t kPairs = 16;

struct DensePack {
    const KernelTable* table = nullptr;
    ColumnBlocks columns{};
    std::int64_t K = 0;
    PackedPairs forward;
    core::Block<float> bias;
    mutable std::once_flag transpose_once;
    mutable PackedPairs transposed;  // made by the first backward call

    const PackedPairs& backward() const {
        std::call_once(transpose_once, [this] { transposed = transpose_pairs(*table, columns, forward); });
        return transposed;
    }
};

// y (M, N) row-major = start + x (M, k) row-major * w, in tasks of (rows, pairs). x has `k` real columns.
void row_major_product(const KernelTable& table, const LnContext& context, const PackedPairs& w,
                       const ColumnBlocks& y_columns, std::int64_t M, std::int64_t x_columns, const float* x, float* y,
                       const float* bias) {
    const std::int64_t lanes = table.lanes;
    const std::int64_t pair_groups = core::ceil_div(w.pairs, kPairs);
    const std::int64_t row_groups = core::ceil_div(M, kRows);
    const std::int64_t x_floats = core::ceil_div(x_columns, lanes) * lanes * kRows;
    const std::int64_t y_floats = 2 * std::min(w.pairs, kPairs) * lanes * kRows;
    const std::size_t scratch = static_cast<std::size_t>(x_floats + y_floats);
    const int want = threads_for(context, static_cast<double>(M) * static_cast<double>(w.k * w.pairs * 2 * lanes));
    core::Block<float> memory = core::allocate_array<float>(scratch * static_cast<std::size_t>(want));
    std::atomic<std::int64_t> next{0};
    auto member = [&](int rank, int) {
        float* const x_blocked = memory.get() + scratch * static_cast<std::size_t>(rank);
        float* const y_blocked = x_blocked + x_floats;
        std::int64_t blocked_group = -1;
        for (std::int64_t task; (task = next.fetch_add(1)) < row_groups * pair_groups;) {
            const std::int64_t row = task / pair_groups * kRows;
            const std::int64_t rows = std::min(kRows, M - row);
            const std::int64_t pair = task % pair_groups * kPairs;
            Product p{};
            if (blocked_group != task / pair_groups) {
                table.block_rows(rows, x_columns, x + row * x_columns, x_columns, x_blocked, rows * lanes);
                blocked_group = task / pair_groups;
            }
            p.start = bias == nullptr ? Start::zero : Start::bias;
            p.rows = rows;
            p.k = x_columns;
            p.a = x_blocked;
            p.a_stride = rows * lanes;
            p.w = w.weights().from_pair(pair);
            p.c = y_blocked;
            p.c_stride = rows * lanes;
            p.bias = bias == nullptr ? nullptr : bias + 2 * pair * lanes;
            p.pair_begin = 0;
            p.pair_end = std::min(kPairs, w.pairs - pair);
            table.product(p);
            const std::int64_t column = 2 * pair * lanes;
            const std::int64_t columns = std::min(2 * p.pair_end * lanes, y_columns.columns() - column);
            table.unblock_rows(rows, columns, y_blocked, rows * lanes, y + row * y_columns.columns() + column,
                               y_columns.columns());
        }
    };
    core::run_open_team(want, member);
}

// d_kernel (K, N) and d_bias (N): each task owns a range of column pairs and sums over all rows in order.
void dense_weight_gradient(const DensePack& pack, const LnContext& context, std::int64_t M, const float* x,
                           const float* d_y, float* d_kernel, float* d_bias) {
    const KernelTable& table = *pack.table;
    const std::int64_t lanes = table.lanes;
    const std::int64_t N = pack.columns.columns();
    const std::int64_t pairs = pack.columns.pairs();
    const int want = threads_for(context, static_cast<double>(M) * static_cast<double>(pack.K * pairs * 2 * lanes));
    const std::int64_t tasks =
        std::max<std::int64_t>(std::min<std::int64_t>(pairs, want), core::ceil_div(pairs, kPairs));
    const std::int64_t x_floats = core::ceil_div(pack.K, lanes) * lanes * kRows;
    const std::int64_t y_floats = 2 * core::ceil_div(pairs, tasks) * lanes * kRows;
    const std::size_t scratch = static_cast<std::size_t>(x_floats + y_floats);
    core::Block<float> memory = core::allocate_array<float>(scratch * static_cast<std::size_t>(want));
    core::Block<float> ones = core::allocate_array<float>(static_cast<std::size_t>(kRows * lanes));
    std::fill_n(ones.get(), kRows * lanes, 1.0F);
    std::atomic<std::int64_t> next{0};
    auto member = [&](int rank, int) {
        float* const x_blocked = memory.get() + scratch * static_cast<std::size_t>(rank);
        float* const y_blocked = x_blocked + x_floats;
        for (std::int64_t task; (task = next.fetch_add(1)) < tasks;) {
            const Range range = part_of(pairs, tasks, task);
            const std::int64_t column = 2 * range.begin * lanes;
            const std::int64_t count = std::min(2 * range.end * lanes, N) - column;
            const ColumnBlocks part{1, count, lanes};
            for (std::int64_t row = 0; row < M; row += kRows) {
                const std::int64_t rows = std::min(kRows, M - row);
                const std::int64_t stride = rows * lanes;
                table.block_rows(rows, count, d_y + row * N + column, N, y_blocked, stride);
                if (d_kernel != nullptr) {
                    table.block_rows(rows, pack.K, x + row * pack.K, pack.K, x_blocked, stride);
                    for (std::int64_t pair = 0; pair < part.pairs(); ++pair)
                        weight_gradient(table, part, pair, rows, pack.K, x_blocked, stride,
                                        y_blocked + 2 * pair * stride, stride, d_kernel + column, N, row > 0);
                }
                if (d_bias == nullptr) continue;
                for (std::int64_t pair = 0; pair < part.pairs(); ++pair)
                    weight_gradient(table, part, pair, rows, 1, ones.get(), stride, y_blocked + 2 * pair * stride,
                                    stride, d_bias + column, N, row > 0);
            }
        }
    };
    core::run_open_team(want, member);
}

}  // namespace

LnStatus dense_prepare(LnContext* context, std::int64_t K, std::int64_t N, const float* kernel, const float* bias,
                       void** pack) {
    const LnMatrix matrix = {LN_STORED_FLOAT32, kernel, nullptr};
    return dense_prepare_stored(context, K, N, &matrix, bias, pack);
}

LnStatus dense_prepare_stored(LnContext* context, std::int64_t K, std::int64_t N, const LnMatrix* kernel,
                              const float* bias, void** pack) {
    return guarded(context, [&] {
        auto made = std::make_unique<DensePack>();
        made->table = &kernels();
        made->columns = {1, N, made->table->lanes};
        made->K = K;
        made->forward = pack_matrix(*context, *made->table, made->columns, K, *kernel);
        if (bias != nullptr) made->bias = pack_bias(made->columns, bias);
        *pack = made.release();
    });
}

void dense_release(void* pack) { delete static_cast<DensePack*>(pack); }

LnStatus dense_forward(LnContext* context, const void* pack, std::int64_t M, const float* x, float* y) {
    return guarded(context, [&] {
        const DensePack& d = *static_cast<const DensePack*>(pack);
        row_major_product(*d.table, *context, d.forward, d.columns, M, d.K, x, y, d.bias.get());
    });
}

LnStatus dense_backward(LnContext* context, const void* pack, std::int64_t M, const float* x, const float* d_y,
                        float* d_x, float* d_kernel, float* d_bias) {
    return guarded(context, [&] {
        const DensePack& d = *static_cast<const DensePack*>(pack);
        if (d_x != nullptr)
            row_major_product(*d.table, *context, d.backward(), {1, d.K, d.table->lanes}, M, d.columns.columns(), d_y,
                              d_x, nullptr);
        if (d_kernel != nullptr || d_bias != nullptr) dense_weight_gradient(d, *context, M, x, d_y, d_kernel, d_bias);
    });
}

}  // namespace lstm_native::cpu
