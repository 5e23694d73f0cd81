// The weights of a merge, w = score * GELU(LayerNorm(Linear(phi))), for W = 4 weight channels, and their gradients.
#include "device.cuh"

constexpr int W = 4;
constexpr float MERGE_EPS = 1e-5f;
// Numbers of the weight network: linear weight [W,5], linear bias [W], norm weight [W], norm bias [W].
constexpr int NET = 8 * W;

// `sign` is 1 for relative positions from the query to its neighbour, -1 the other way round.
struct MergeSizes { int queries, keys, slots; float sign; };

struct Normal { float at[W], scale; };
__device__ __forceinline__ Features merge_features(
    const uint32_t* query_place, const uint32_t* key_place, size_t row, uint32_t key, MergeSizes sizes) {
    const size_t image = row / sizes.queries;
    const uint32_t own = query_place[row];
    float2 o = offset(key == EMPTY ? own : key_place[image * sizes.keys + key], own);
    o.x *= sizes.sign;
    o.y *= sizes.sign;
    return features(o);
}
// The linear layer, normalised but not yet scaled.
__device__ __forceinline__ Normal merge_normal(const float* net, const Features& phi) {
    Normal n;
    float mean = 0.0f, variance = 0.0f;
    for (int w = 0; w < W; ++w) {
        n.at[w] = net[5 * W + w];
        for (int f = 0; f < 5; ++f) n.at[w] += net[5 * w + f] * phi.at[f];
        mean += n.at[w] / W;
    }
    for (int w = 0; w < W; ++w) {
        n.at[w] -= mean;
        variance += n.at[w] * n.at[w] / W;
    }
    n.scale = 1.0f / sqrtf(variance + MERGE_EPS);
    for (int w = 0; w < W; ++w) n.at[w] *= n.scale;
    return n;
}

// `weights [B,Q,M,W]`, zero for empty slots: a thread has one slot.
KERNEL(128, merge_weights, const float* score, const float* net, const uint32_t* query_place, const uint32_t* key_place,
       const uint32_t* keys, float* weights, int rows, MergeSizes sizes) {
    const size_t slot = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (slot >= size_t(rows) * sizes.slots) return;
    const size_t row = slot / sizes.slots;
    const uint32_t key = keys[slot];
    const Normal n = merge_normal(net, merge_features(query_place, key_place, row, key, sizes));
    const float factor = key == EMPTY ? 0.0f : score[row / sizes.queries * sizes.keys + key];
    for (int w = 0; w < W; ++w) {
        const float plain = gelu_of(n.at[w] * net[6 * W + w] + net[7 * W + w]);
        weights[slot * W + w] = key == EMPTY ? 0.0f : plain * factor;
    }
}

// From the gradients `[B,Q,M,W]` of the weights to those of the scores, slot by slot, and each block's part of the network's,
// `parts [blocks, 8W]`. A block has 1024 slots.
struct NetParts { float at[4][NET]; };
KERNEL(128, merge_weight_gradients, const float* score, const float* net, const uint32_t* query_place, const uint32_t* key_place,
       const uint32_t* keys, const float* grad_weights, float* slot_scores, float* parts, int rows, MergeSizes sizes) {
    SHARED(NetParts, shared);
    float of_net[NET] = {};
    const size_t slots = size_t(rows) * sizes.slots;
    for (int i = 0; i < 8; ++i) {
        const size_t slot = size_t(blockIdx.x) * 1024 + i * 128 + threadIdx.x;
        if (slot >= slots) break;
        const size_t row = slot / sizes.slots;
        const uint32_t key = keys[slot];
        if (key == EMPTY) {
            slot_scores[slot] = 0.0f;
            continue;
        }
        const Features phi = merge_features(query_place, key_place, row, key, sizes);
        const Normal n = merge_normal(net, phi);
        const float factor = score[row / sizes.queries * sizes.keys + key];
        float of_score = 0.0f, of_normal[W], mean = 0.0f, mean_product = 0.0f;
        for (int w = 0; w < W; ++w) {
            const float scaled = n.at[w] * net[6 * W + w] + net[7 * W + w], grad = grad_weights[slot * W + w];
            of_score += gelu_of(scaled) * grad;
            const float slope = gelu_slope(scaled) * grad * factor;
            of_net[6 * W + w] += slope * n.at[w];
            of_net[7 * W + w] += slope;
            of_normal[w] = slope * net[6 * W + w];
            mean += of_normal[w] / W;
            mean_product += of_normal[w] * n.at[w] / W;
        }
        slot_scores[slot] = of_score;
        for (int w = 0; w < W; ++w) {
            const float grad = n.scale * (of_normal[w] - mean - n.at[w] * mean_product);
            for (int f = 0; f < 5; ++f) of_net[5 * w + f] += grad * phi.at[f];
            of_net[5 * W + w] += grad;
        }
    }
    for (int i = 0; i < NET; ++i) {
        const float sum = warp_sum(of_net[i]);
        if (threadIdx.x % WARP == 0) shared.at[threadIdx.x / WARP][i] = sum;
    }
    __syncthreads();
    const int i = threadIdx.x;
    if (i < NET)
        parts[size_t(blockIdx.x) * NET + i] = shared.at[0][i] + shared.at[1][i] + shared.at[2][i] + shared.at[3][i];
}
