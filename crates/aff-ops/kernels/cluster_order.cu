// The order of tokens that clusters are cut from: by the rank of their cell on the curve, then by the ratio of their squared distances
// to the anchors before and after it, then in raster order; bit for bit that of `aff_geometry::cluster`.
//
// `rank_of_cell [rows, cols]` and `around [cells, 4]`, the cells before and after each on the curve, are tables made once for a
// canvas and a number of cells. One block orders an image: it counts the tokens of each cell, and ranks a token among those of its cell.
#include "device.cuh"

struct Grid { int tokens, width, height, cols, rows; };
__device__ __forceinline__ double squared(double x, double y, double cell_x, double cell_y, Grid g) {
    // As the CPU does, operation by operation: no contraction to fused multiply-add.
    const double nx = __dsub_rn(__dmul_rn(g.cols, __dadd_rn(__dmul_rn(2.0, x), 1.0)), __dmul_rn(__dadd_rn(__dmul_rn(2.0, cell_x), 1.0), g.width));
    const double ny = __dsub_rn(__dmul_rn(g.rows, __dadd_rn(__dmul_rn(2.0, y), 1.0)), __dmul_rn(__dadd_rn(__dmul_rn(2.0, cell_y), 1.0), g.height));
    const double dx = __ddiv_rn(nx, 2.0 * g.cols), dy = __ddiv_rn(ny, 2.0 * g.rows);
    return __dadd_rn(__dmul_rn(dx, dx), __dmul_rn(dy, dy));
}

struct Scan { uint32_t at[32]; };
KERNEL(1024, cluster_order,
    const uint32_t* places, const uint32_t* rank_of_cell, const double* around, uint32_t* starts, uint32_t* cursors, uint32_t* ranks,
    double* keys, uint32_t* bucket, uint32_t* order, Grid g) {
    const int image = blockIdx.x, thread = threadIdx.x, threads = blockDim.x, cells = g.cols * g.rows;
    places += size_t(image) * g.tokens; ranks += size_t(image) * g.tokens; keys += size_t(image) * g.tokens;
    bucket += size_t(image) * g.tokens; order += size_t(image) * g.tokens;
    starts += size_t(image) * (cells + 1); cursors += size_t(image) * cells;
    for (int c = thread; c < cells; c += threads) cursors[c] = 0;
    __syncthreads();
    for (int i = thread; i < g.tokens; i += threads) {
        const int x = places[i] & 0xffffu, y = places[i] >> 16;
        const uint32_t rank = rank_of_cell[(y * g.rows / g.height) * g.cols + x * g.cols / g.width];
        const double* a = around + size_t(rank) * 4;
        ranks[i] = rank;
        keys[i] = __ddiv_rn(squared(x, y, a[0], a[1], g), __dadd_rn(squared(x, y, a[2], a[3], g), 1e-5));
        atomicAdd(&cursors[rank], 1u);
    }
    __syncthreads();
    // Exclusive scan of the counts, a run of cells a thread.
    SHARED(Scan, scan);
    const int each = (cells + threads - 1) / threads, first = min(thread * each, cells), last = min(first + each, cells);
    uint32_t sum = 0;
    for (int c = first; c < last; ++c) sum += cursors[c];
    uint32_t upto = sum;
    for (int d = 1; d < 32; d *= 2) {
        const uint32_t left = __shfl_up_sync(ALL, upto, d);
        if (thread % 32 >= d) upto += left;
    }
    if (thread % 32 == 31) scan.at[thread / 32] = upto;
    __syncthreads();
    uint32_t before = upto - sum;
    for (int w = 0; w < thread / 32; ++w) before += scan.at[w];
    for (int c = first; c < last; ++c) { const uint32_t n = cursors[c]; starts[c] = before; cursors[c] = before; before += n; }
    if (thread == threads - 1) starts[cells] = g.tokens;
    __syncthreads();
    for (int i = thread; i < g.tokens; i += threads) bucket[atomicAdd(&cursors[ranks[i]], 1u)] = i;
    __syncthreads();
    for (int i = thread; i < g.tokens; i += threads) {
        const uint32_t rank = ranks[i];
        uint32_t place = starts[rank];
        for (uint32_t b = starts[rank]; b < starts[rank + 1]; ++b) {
            const uint32_t other = bucket[b];
            // Places are y << 16 | x, which orders by raster.
            place += keys[other] < keys[i] || (keys[other] == keys[i] && places[other] < places[i]);
        }
        order[place] = i;
    }
}
