// The centres of clusters and the clusters nearest to each token, bit for bit those of `aff_geometry`: distances in f32, ties to the lower
// cluster. Tokens are in the order of their clusters.
//
// Centres lie in a grid of buckets, and a token looks at rings of buckets around its own until no other can hold a nearer centre.
#include "device.cuh"

// `side` buckets of `size` pixels along x and y.
struct ClusterGrid { int tokens, cluster_size, clusters, side; float size; };
constexpr int MOST_NEAREST = 8;

__device__ __forceinline__ int bucket_of(float coordinate, ClusterGrid g) {
    return min(int(coordinate / g.size), g.side - 1);
}

struct BucketScan { uint32_t at[32]; };
// `centers [B,K,2]`, where the centres of each bucket start, `starts [B, side^2 + 1]`, and their clusters, `members [B,K]`. `cursors` is room
// for `[B, side^2]`. A block has one image.
KERNEL(1024, cluster_centers, const uint32_t* place, float* centers, uint32_t* starts, uint32_t* cursors, uint32_t* members,
       ClusterGrid g) {
    SHARED(BucketScan, scan);
    const int image = blockIdx.x, thread = threadIdx.x, threads = blockDim.x, buckets = g.side * g.side;
    place += size_t(image) * g.tokens;
    centers += size_t(image) * g.clusters * 2;
    members += size_t(image) * g.clusters;
    starts += size_t(image) * (buckets + 1);
    cursors += size_t(image) * buckets;
    for (int b = thread; b < buckets; b += threads) cursors[b] = 0;
    __syncthreads();
    for (int k = thread; k < g.clusters; k += threads) {
        const int first = k * g.cluster_size, last = min(first + g.cluster_size, g.tokens);
        double x = 0.0, y = 0.0; // sums of integers, exact
        for (int i = first; i < last; ++i) {
            x += double(place[i] & 0xffffu);
            y += double(place[i] >> 16);
        }
        centers[2 * k] = float(__ddiv_rn(x, double(last - first)));
        centers[2 * k + 1] = float(__ddiv_rn(y, double(last - first)));
        atomicAdd(&cursors[bucket_of(centers[2 * k + 1], g) * g.side + bucket_of(centers[2 * k], g)], 1u);
    }
    __syncthreads();
    // Exclusive scan of the counts, a run of buckets a thread.
    const int each = (buckets + threads - 1) / threads, first = min(thread * each, buckets), last = min(first + each, buckets);
    uint32_t sum = 0;
    for (int b = first; b < last; ++b) sum += cursors[b];
    uint32_t upto = sum;
    for (int d = 1; d < WARP; d *= 2) {
        const uint32_t left = __shfl_up_sync(ALL, upto, d);
        if (thread % WARP >= d) upto += left;
    }
    if (thread % WARP == WARP - 1) scan.at[thread / WARP] = upto;
    __syncthreads();
    uint32_t before = upto - sum;
    for (int w = 0; w < thread / WARP; ++w) before += scan.at[w];
    for (int b = first; b < last; ++b) {
        const uint32_t count = cursors[b];
        starts[b] = before;
        cursors[b] = before;
        before += count;
    }
    if (thread == threads - 1) starts[buckets] = g.clusters;
    __syncthreads();
    // Their order within a bucket does not matter: of equally near clusters the lower is taken.
    for (int k = thread; k < g.clusters; k += threads) {
        const int bucket = bucket_of(centers[2 * k + 1], g) * g.side + bucket_of(centers[2 * k], g);
        members[atomicAdd(&cursors[bucket], 1u)] = k;
    }
}

// The nearest so far, nearest first; kept in registers.
struct Nearest {
    float distance[MOST_NEAREST];
    uint32_t cluster[MOST_NEAREST];
    __device__ __forceinline__ Nearest() {
#pragma unroll
        for (int i = 0; i < MOST_NEAREST; ++i) {
            distance[i] = INFINITY;
            cluster[i] = EMPTY;
        }
    }
    __device__ __forceinline__ void insert(float d, uint32_t k) {
#pragma unroll
        for (int i = 0; i < MOST_NEAREST; ++i) {
            const bool nearer = d < distance[i] || (d == distance[i] && k < cluster[i]);
            const float other = distance[i];
            const uint32_t pushed = cluster[i];
            distance[i] = nearer ? d : other;
            cluster[i] = nearer ? k : pushed;
            d = nearer ? other : d;
            k = nearer ? pushed : k;
        }
    }
    __device__ __forceinline__ float of(int index) const {
        float d = 0.0f;
#pragma unroll
        for (int i = 0; i < MOST_NEAREST; ++i) d = i == index ? distance[i] : d;
        return d;
    }
};
// `nearest [B,N,r]`, nearest first, for r of at most 8 and at most the number of clusters. A thread has one token.
KERNEL(128, nearest_clusters, const uint32_t* place, const float* centers, const uint32_t* starts, const uint32_t* members,
       uint32_t* nearest, int rows, int r, ClusterGrid g) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const int image = row / g.tokens;
    centers += size_t(image) * g.clusters * 2;
    members += size_t(image) * g.clusters;
    starts += size_t(image) * (g.side * g.side + 1);
    const float x = float(place[row] & 0xffffu), y = float(place[row] >> 16);
    const int column = bucket_of(x, g), line = bucket_of(y, g);
    Nearest best;
    for (int ring = 0; ring < g.side; ++ring) {
        for (int v = max(line - ring, 0); v <= min(line + ring, g.side - 1); ++v) {
            const bool whole = v == line - ring || v == line + ring;
            for (int u = column - ring; u <= column + ring; u += whole || ring == 0 ? 1 : 2 * ring) {
                if (u < 0 || u >= g.side) continue;
                const int bucket = v * g.side + u;
                for (uint32_t i = starts[bucket]; i < starts[bucket + 1]; ++i) {
                    const uint32_t k = members[i];
                    // As the CPU does, operation by operation.
                    const float dx = __fsub_rn(centers[2 * k], x), dy = __fsub_rn(centers[2 * k + 1], y);
                    best.insert(__fadd_rn(__fmul_rn(dx, dx), __fmul_rn(dy, dy)), k);
                }
            }
        }
        // No centre of the rings to come is nearer than this; less a little for what rounding does to buckets.
        float gap = INFINITY;
        if (column + ring + 1 < g.side) gap = fminf(gap, (column + ring + 1) * g.size - x);
        if (column - ring > 0) gap = fminf(gap, x - (column - ring) * g.size);
        if (line + ring + 1 < g.side) gap = fminf(gap, (line + ring + 1) * g.size - y);
        if (line - ring > 0) gap = fminf(gap, y - (line - ring) * g.size);
        gap -= 0.05f;
        if (gap > 0.0f && best.of(r - 1) < gap * gap) break;
    }
#pragma unroll
    for (int i = 0; i < MOST_NEAREST; ++i)
        if (i < r) nearest[size_t(row) * r + i] = best.cluster[i];
}
