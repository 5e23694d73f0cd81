// Weighted sums of neighbours, W of them at once: merging (W = 4) and gathering (W = 1), and their gradients.
//
// `keys [B,Q,M]` holds the neighbours of every query, EMPTY where a slot has none. For the gradient by key, `slots` lists the slots that hold
// each key, in their order, from `starts [B*N + 1]`: sums have one order and no two warps add to the same number.
#include "device.cuh"

struct NeighborSizes { int queries, keys, slots, channels; };

// `sums [B,Q,W,C]`: a warp has one query and 64 channels.
template <int W> __device__ __forceinline__ void neighbor_sums(
    const float* feat, const float* weights, const uint32_t* keys, float* sums, int rows, NeighborSizes sizes) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const int first = blockIdx.y * 64 + lane, second = first + WARP;
    const float* image = feat + size_t(row / sizes.queries) * sizes.keys * sizes.channels;
    float low[W] = {}, high[W] = {};
    for (int start = 0; start < sizes.slots; start += WARP) {
        const int slot = start + lane;
        const bool here = slot < sizes.slots;
        const size_t at = size_t(row) * sizes.slots + (here ? slot : 0);
        const uint32_t mine = here ? keys[at] : EMPTY;
        float weight[W];
        for (int w = 0; w < W; ++w) weight[w] = here ? weights[at * W + w] : 0.0f;
        const int count = min(WARP, sizes.slots - start);
        for (int j = 0; j < count; ++j) {
            const uint32_t key = __shfl_sync(ALL, mine, j);
            const bool full = key != EMPTY;
            const float* from = image + size_t(full ? key : 0) * sizes.channels;
            const float a = full && first < sizes.channels ? from[first] : 0.0f;
            const float b = full && second < sizes.channels ? from[second] : 0.0f;
#pragma unroll
            for (int w = 0; w < W; ++w) {
                const float factor = __shfl_sync(ALL, weight[w], j);
                if (full) {
                    low[w] += factor * a;
                    high[w] += factor * b;
                }
            }
        }
    }
    for (int w = 0; w < W; ++w) {
        float* to = sums + (size_t(row) * W + w) * sizes.channels;
        if (first < sizes.channels) to[first] = low[w];
        if (second < sizes.channels) to[second] = high[w];
    }
}

// Gradients of the weights, `[B,Q,M,W]`: a warp has one query.
template <int W> __device__ __forceinline__ void neighbor_weight_gradients(
    const float* feat, const uint32_t* keys, const float* grad, float* grad_weights, int rows, NeighborSizes sizes) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const float* image = feat + size_t(row / sizes.queries) * sizes.keys * sizes.channels;
    for (int slot = 0; slot < sizes.slots; ++slot) {
        const size_t at = size_t(row) * sizes.slots + slot;
        const uint32_t key = keys[at];
        const float* from = image + size_t(key == EMPTY ? 0 : key) * sizes.channels;
        float sum[W] = {};
        for (int c = lane; c < sizes.channels && key != EMPTY; c += WARP)
            for (int w = 0; w < W; ++w) sum[w] += from[c] * grad[(size_t(row) * W + w) * sizes.channels + c];
        for (int w = 0; w < W; ++w) {
            const float whole = warp_sum(sum[w]);
            if (lane == 0) grad_weights[at * W + w] = whole;
        }
    }
}

// Gradients of the features, `[B,N,C]`: a warp has one key and 64 channels.
template <int W> __device__ __forceinline__ void neighbor_feat_gradients(
    const float* weights, const float* grad, const uint32_t* starts, const uint32_t* slots, float* grad_feat, int rows,
    NeighborSizes sizes) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const int first = blockIdx.y * 64 + lane, second = first + WARP;
    float low = 0.0f, high = 0.0f;
    const uint32_t last = starts[row + 1];
    for (uint32_t e = starts[row]; e < last; ++e) {
        const size_t slot = slots[e], query = slot / sizes.slots;
        for (int w = 0; w < W; ++w) {
            const float factor = weights[slot * W + w];
            const float* from = grad + (query * W + w) * sizes.channels;
            if (first < sizes.channels) low += factor * from[first];
            if (second < sizes.channels) high += factor * from[second];
        }
    }
    float* to = grad_feat + size_t(row) * sizes.channels;
    if (first < sizes.channels) to[first] = low;
    if (second < sizes.channels) to[second] = high;
}

#define NEIGHBORS(W)                                                                                                           \
    KERNEL(128, neighbor_sums_##W, const float* feat, const float* weights, const uint32_t* keys, float* sums, int rows,       \
           NeighborSizes sizes) {                                                                                              \
        neighbor_sums<W>(feat, weights, keys, sums, rows, sizes);                                                              \
    }                                                                                                                          \
    KERNEL(128, neighbor_weight_gradients_##W, const float* feat, const uint32_t* keys, const float* grad,                     \
           float* grad_weights, int rows, NeighborSizes sizes) {                                                               \
        neighbor_weight_gradients<W>(feat, keys, grad, grad_weights, rows, sizes);                                             \
    }                                                                                                                          \
    KERNEL(128, neighbor_feat_gradients_##W, const float* weights, const float* grad, const uint32_t* starts,                  \
           const uint32_t* slots, float* grad_feat, int rows, NeighborSizes sizes) {                                           \
        neighbor_feat_gradients<W>(weights, grad, starts, slots, grad_feat, rows, sizes);                                      \
    }
NEIGHBORS(1)
NEIGHBORS(4)

// Sums of the values of the slots that hold a key: `sums [B,N]` of `values [B,Q,M]`.
KERNEL(128, slot_sums, const float* values, const uint32_t* starts, const uint32_t* slots, float* sums, int rows) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float sum = 0.0f;
    for (uint32_t e = starts[row]; e < starts[row + 1]; ++e) sum += values[slots[e]];
    sums[row] = sum;
}
// Rows of every image in another order, or some of them: `out [B,Q,C]` of `x [B,N,C]` and `indices [B,Q]`. The gradient is `slot_rows`.
KERNEL(128, gather_rows, const float* x, const uint32_t* indices, float* out, int rows, NeighborSizes sizes) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const float* from = x + (size_t(row / sizes.queries) * sizes.keys + indices[row]) * sizes.channels;
    for (int c = lane; c < sizes.channels; c += WARP) out[size_t(row) * sizes.channels + c] = from[c];
}
// The sum of the rows of `grad [B,Q,C]` that were taken from each row: `[B,N,C]`.
KERNEL(128, slot_rows, const float* grad, const uint32_t* starts, const uint32_t* slots, float* out, int rows, int channels) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    for (int c = lane; c < channels; c += WARP) {
        float sum = 0.0f;
        for (uint32_t e = starts[row]; e < starts[row + 1]; ++e) sum += grad[size_t(slots[e]) * channels + c];
        out[size_t(row) * channels + c] = sum;
    }
}
