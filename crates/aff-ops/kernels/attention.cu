// Cluster attention in f32 for heads of width D = 16, 32 or 64, forward and backward (recomputing).
//
// Keys lie in blocks of at most eight that are neighbours in memory. A tile is a run of eight queries; its entries name every block
// that one of them sees, and which do:
//
//     entry.x = first key of the block
//     entry.y = bits of the queries | keys of the block << 8 | (1 << 16 if they are the padding slots, whose logit is shifted)
//
// A warp has one tile and one head: lane 4 g + t has the query g and the channels 16 v + 4 t + 0..3 of each run v of 16 channels, so that the
// four lanes of a query read 64 bytes together. For the gradients of keys and values a warp has one block and one head, lanes
// likewise with the key g; `block_entries` names the tiles that see a block: x = first query, y = bits of the queries.
//
// Logits are in units of log2; `log_sum` is the logarithm of the softmax's sum, which the backward pass starts from.
#include "device.cuh"

constexpr float LOG2E = 1.4426950408889634f;
constexpr uint32_t PADDING = 1u << 16;

struct AttentionSizes {
    int tokens, heads, tiles, blocks;
    float padding_logit;
};
// Keys of a block, counted within the image.
struct KeyBlock { uint32_t first, count; };

template <int D> struct Scale;
template <> struct Scale<16> { static constexpr float value = 0.25f; };
template <> struct Scale<32> { static constexpr float value = 0.17677669529663687f; };
template <> struct Scale<64> { static constexpr float value = 0.125f; };

// A lane's quarter of a row.
template <int D> struct Quarter {
    float at[D / 4];
    __device__ __forceinline__ Quarter() {
        for (int i = 0; i < D / 4; ++i) at[i] = 0.0f;
    }
    __device__ __forceinline__ Quarter(const float* row, int t) {
#pragma unroll
        for (int v = 0; v < D / 16; ++v) {
            const float4 four = load<float4>(row + 16 * v + 4 * t);
            at[4 * v] = four.x;
            at[4 * v + 1] = four.y;
            at[4 * v + 2] = four.z;
            at[4 * v + 3] = four.w;
        }
    }
    // Of a row that is not aligned to 16 bytes.
    __device__ __forceinline__ static Quarter of_parameter(const float* row, int t) {
        Quarter quarter;
        for (int i = 0; i < D / 4; ++i) quarter.at[i] = row[i / 4 * 16 + t * 4 + i % 4];
        return quarter;
    }
    __device__ __forceinline__ float dot(const Quarter& other) const {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < D / 4; ++i) sum += at[i] * other.at[i];
        return sum;
    }
    __device__ __forceinline__ void add(float factor, const Quarter& other) {
#pragma unroll
        for (int i = 0; i < D / 4; ++i) at[i] += factor * other.at[i];
    }
    __device__ __forceinline__ void scale(float factor) {
#pragma unroll
        for (int i = 0; i < D / 4; ++i) at[i] *= factor;
    }
    __device__ __forceinline__ void store(float* row, int t) const {
#pragma unroll
        for (int v = 0; v < D / 16; ++v) {
            float4 four;
            four.x = at[4 * v];
            four.y = at[4 * v + 1];
            four.z = at[4 * v + 2];
            four.w = at[4 * v + 3];
            ::store(row + 16 * v + 4 * t, four);
        }
    }
};

// Four lanes hold parts of four sums each; lane t gets the whole sum t.
__device__ __forceinline__ float transposed_sum(const float (&part)[4], int t) {
    const bool odd = t & 1, upper = t & 2;
    const float low = (odd ? part[1] : part[0]) + __shfl_xor_sync(ALL, odd ? part[0] : part[1], 1);
    const float high = (odd ? part[3] : part[2]) + __shfl_xor_sync(ALL, odd ? part[2] : part[3], 1);
    return (upper ? high : low) + __shfl_xor_sync(ALL, upper ? low : high, 2);
}

// The parameters, one tensor `[5H + H + C + C]`, of one head.
template <int D> struct Head {
    float weight[5], bias;
    const float *blank_key, *blank_value;
    __device__ __forceinline__ Head(const float* parameters, int heads, int head) {
        for (int i = 0; i < 5; ++i) weight[i] = parameters[5 * head + i] * LOG2E;
        bias = parameters[5 * heads + head] * LOG2E;
        blank_key = parameters + 6 * heads + head * D;
        blank_value = blank_key + heads * D;
    }
    __device__ __forceinline__ float position_logit(const Features& phi) const {
        float sum = bias;
        for (int i = 0; i < 5; ++i) sum += weight[i] * phi.at[i];
        return sum;
    }
};

// Which tile or block, and head, a warp has; and which part of it a lane.
struct Place {
    int image, item, head, g, t;
    __device__ __forceinline__ Place(int heads) {
        const int warp = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
        image = blockIdx.y;
        item = warp / heads;
        head = warp % heads;
        g = lane / 4;
        t = lane % 4;
    }
    __device__ __forceinline__ int quad() const { return 4 * g; }
};

template <int D> __device__ __forceinline__ void attention(
    const float* query, const float* key_value, const float* parameters, const uint32_t* place, const uint32_t* tile_starts,
    const uint2* tile_entries, float* out, float* log_sum, AttentionSizes sizes) {
    const Place at(sizes.heads);
    if (at.item >= sizes.tiles) return; // whole warps
    const int channels = sizes.heads * D, token = at.item * 8 + at.g;
    const size_t image_start = size_t(at.image) * sizes.tokens;
    const size_t row = image_start + min(token, sizes.tokens - 1);
    const Head<D> head(parameters, sizes.heads, at.head);

    Quarter<D> q(query + row * channels + at.head * D, at.t), sum = Quarter<D>::of_parameter(head.blank_value, at.t);
    q.scale(Scale<D>::value * LOG2E);
    float most = quad_sum(q.dot(Quarter<D>::of_parameter(head.blank_key, at.t))), total = 1.0f;
    const uint32_t own = place[row];
    const size_t tile = size_t(at.image) * sizes.tiles + at.item;
    const uint32_t last = tile_starts[tile + 1];
    for (uint32_t e = tile_starts[tile]; e < last; ++e) {
        const uint2 entry = tile_entries[e];
        const int keys = entry.y >> 8 & 0xff;
        const bool sees = entry.y >> at.g & 1;
        const size_t first = image_start + entry.x;
        const float* key = key_value + first * 2 * channels + 2 * at.head * D;
        float logit[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) { // this lane ends up with the key 4 half + t
            float part[4];
#pragma unroll
            for (int j = 0; j < 4; ++j)
                part[j] = q.dot(Quarter<D>(key + size_t(min(4 * half + j, keys - 1)) * 2 * channels, at.t));
            const float product = transposed_sum(part, at.t);
            const int j = 4 * half + at.t;
            const Features phi = features(offset(place[first + min(j, keys - 1)], own));
            const float shift = entry.y & PADDING ? sizes.padding_logit : 0.0f;
            logit[half] = sees && j < keys ? product + head.position_logit(phi) + shift : -INFINITY;
        }
        float top = fmaxf(logit[0], logit[1]);
        top = fmaxf(top, __shfl_xor_sync(ALL, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL, top, 2));
        const float higher = fmaxf(most, top), shrink = exp2f(most - higher);
        most = higher;
        const float weight[2] = {exp2f(logit[0] - most), exp2f(logit[1] - most)};
        total = total * shrink + quad_sum(weight[0] + weight[1]);
        sum.scale(shrink);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float w = __shfl_sync(ALL, weight[half], at.quad() + j);
                sum.add(w, Quarter<D>(key + size_t(min(4 * half + j, keys - 1)) * 2 * channels + D, at.t));
            }
    }
    if (token >= sizes.tokens) return;
    sum.scale(1.0f / total);
    sum.store(out + row * channels + at.head * D, at.t);
    if (at.t == 0) log_sum[row * sizes.heads + at.head] = most + log2f(total);
}

// Gradients by query: of the queries, and each tile's part of those of the parameters, `parts [B, tiles, 5H + H + C + C]`. With weights
// p and ds = p (g . v - g . out): dq = D^-0.5 sum ds k. `delta [B,N,H]` is g . out.
template <int D> __device__ __forceinline__ void attention_query_gradients(
    const float* query, const float* key_value, const float* parameters, const uint32_t* place, const uint32_t* tile_starts,
    const uint2* tile_entries, const float* out, const float* log_sum, const float* grad, float* grad_query, float* delta,
    float* parts, AttentionSizes sizes) {
    const Place at(sizes.heads);
    if (at.item >= sizes.tiles) return;
    const int channels = sizes.heads * D, token = at.item * 8 + at.g;
    const bool real = token < sizes.tokens;
    const size_t image_start = size_t(at.image) * sizes.tokens;
    const size_t row = image_start + (real ? token : sizes.tokens - 1);
    const Head<D> head(parameters, sizes.heads, at.head);

    Quarter<D> q(query + row * channels + at.head * D, at.t), dq;
    q.scale(Scale<D>::value);
    const Quarter<D> g(grad + row * channels + at.head * D, at.t);
    const float whole = quad_sum(g.dot(Quarter<D>(out + row * channels + at.head * D, at.t)));
    const float log_total = log_sum[row * sizes.heads + at.head];
    if (real && at.t == 0) delta[row * sizes.heads + at.head] = whole;

    float* part = parts + (size_t(at.image) * sizes.tiles + at.item) * (6 * sizes.heads + 2 * channels);
    {
        const Quarter<D> key = Quarter<D>::of_parameter(head.blank_key, at.t);
        const Quarter<D> value = Quarter<D>::of_parameter(head.blank_value, at.t);
        const float logit = quad_sum(q.dot(key)) * LOG2E;
        const float weight = real ? exp2f(logit - log_total) : 0.0f;
        const float slope = weight * (quad_sum(g.dot(value)) - whole);
        dq.add(slope, key);
#pragma unroll
        for (int i = 0; i < D / 4; ++i) {
            float of_key = slope * q.at[i], of_value = weight * g.at[i];
            for (int bits = 4; bits < WARP; bits *= 2) { // over the eight queries
                of_key += __shfl_xor_sync(ALL, of_key, bits);
                of_value += __shfl_xor_sync(ALL, of_value, bits);
            }
            const int channel = at.head * D + i / 4 * 16 + at.t * 4 + i % 4;
            if (at.g == 0) {
                part[6 * sizes.heads + channel] = of_key;
                part[6 * sizes.heads + channels + channel] = of_value;
            }
        }
    }
    float of_position[6] = {};
    const uint32_t own = place[row];
    const size_t tile = size_t(at.image) * sizes.tiles + at.item;
    const uint32_t last = tile_starts[tile + 1];
    for (uint32_t e = tile_starts[tile]; e < last; ++e) {
        const uint2 entry = tile_entries[e];
        const int keys = entry.y >> 8 & 0xff;
        const bool sees = entry.y >> at.g & 1;
        const size_t first = image_start + entry.x;
        const float* key = key_value + first * 2 * channels + 2 * at.head * D;
#pragma unroll 1 // both halves at once need more registers than there are
        for (int half = 0; half < 2; ++half) {
            float of_key[4], of_value[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float* k = key + size_t(min(4 * half + j, keys - 1)) * 2 * channels;
                of_key[j] = q.dot(Quarter<D>(k, at.t));
                of_value[j] = g.dot(Quarter<D>(k + D, at.t));
            }
            const float product = transposed_sum(of_key, at.t) * LOG2E, gain = transposed_sum(of_value, at.t);
            const int j = 4 * half + at.t;
            const Features phi = features(offset(place[first + min(j, keys - 1)], own));
            const float shift = entry.y & PADDING ? sizes.padding_logit : 0.0f;
            const float logit = product + head.position_logit(phi) + shift;
            const float slope = sees && j < keys ? exp2f(logit - log_total) * (gain - whole) : 0.0f;
            for (int i = 0; i < 5; ++i) of_position[i] += slope * phi.at[i];
            of_position[5] += slope;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float s = __shfl_sync(ALL, slope, at.quad() + i);
                dq.add(s, Quarter<D>(key + size_t(min(4 * half + i, keys - 1)) * 2 * channels, at.t));
            }
        }
    }
    for (int i = 0; i < 6; ++i) {
        const float sum = warp_sum(of_position[i]);
        if (at.g == 0 && at.t == 0) part[i < 5 ? 5 * at.head + i : 5 * sizes.heads + at.head] = sum;
    }
    if (!real) return;
    dq.scale(Scale<D>::value);
    dq.store(grad_query + row * channels + at.head * D, at.t);
}

// What the queries of a list of tiles add to a key and its value; `shift` is what is added to its logits.
template <int D> __device__ __forceinline__ void key_gradients_of(
    const float* query, const float* grad, const uint32_t* place, const uint2* entries, uint32_t count, const float* log_sum,
    const float* delta, const Head<D>& head, const Quarter<D>& key, const Quarter<D>& value, uint32_t key_place, bool is_key,
    float shift, size_t image_start, const Place& at, AttentionSizes sizes, Quarter<D>& grad_key, Quarter<D>& grad_value) {
    const int channels = sizes.heads * D;
    for (uint32_t e = 0; e < count; ++e) {
        const uint2 entry = entries[e];
        const int queries = min(8, sizes.tokens - int(entry.x));
#pragma unroll 1 // both halves at once need more registers than there are
        for (int half = 0; half < 2; ++half) { // this lane has the query 4 half + t
            float of_key[4], of_value[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const size_t row = image_start + entry.x + min(4 * half + j, queries - 1);
                of_key[j] = key.dot(Quarter<D>(query + row * channels + at.head * D, at.t));
                of_value[j] = value.dot(Quarter<D>(grad + row * channels + at.head * D, at.t));
            }
            const float product = transposed_sum(of_key, at.t) * (Scale<D>::value * LOG2E);
            const float gain = transposed_sum(of_value, at.t);
            const int i = 4 * half + at.t;
            const size_t row = image_start + entry.x + min(i, queries - 1);
            const float logit = product + head.position_logit(features(offset(key_place, place[row]))) + shift;
            const bool sees = is_key && (entry.y >> i & 1);
            const float weight = sees ? exp2f(logit - log_sum[row * sizes.heads + at.head]) : 0.0f;
            const float slope = weight * (gain - delta[row * sizes.heads + at.head]);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const size_t other = image_start + entry.x + min(4 * half + j, queries - 1);
                const float w = __shfl_sync(ALL, weight, at.quad() + j), s = __shfl_sync(ALL, slope, at.quad() + j);
                grad_key.add(s, Quarter<D>(query + other * channels + at.head * D, at.t));
                grad_value.add(w, Quarter<D>(grad + other * channels + at.head * D, at.t));
            }
        }
    }
}

// Gradients by key: dk = D^-0.5 sum ds q, dv = sum p g. The last of the blocks is that of the padding slots if `padding` is 1: what
// they add belongs to key 0, in the first block.
template <int D> __device__ __forceinline__ void attention_key_gradients(
    const float* query, const float* key_value, const float* parameters, const uint32_t* place, const uint32_t* block_starts,
    const uint2* block_entries, const KeyBlock* blocks, const float* log_sum, const float* delta, const float* grad,
    float* grad_key_value, AttentionSizes sizes, int padding) {
    const Place at(sizes.heads);
    if (at.item >= sizes.blocks - padding) return;
    const int channels = sizes.heads * D;
    const size_t image_start = size_t(at.image) * sizes.tokens;
    const KeyBlock block = blocks[at.item];
    const bool real = at.g < int(block.count);
    const size_t row = image_start + block.first + min(at.g, int(block.count) - 1);
    const Head<D> head(parameters, sizes.heads, at.head);
    const size_t own = row * 2 * channels + 2 * at.head * D;
    const Quarter<D> key(key_value + own, at.t), value(key_value + own + D, at.t);
    Quarter<D> grad_key, grad_value;
    const size_t number = size_t(at.image) * sizes.blocks + at.item;
    const uint32_t start = block_starts[number];
    key_gradients_of<D>(
        query, grad, place, block_entries + start, block_starts[number + 1] - start, log_sum, delta, head, key, value, place[row],
        real, 0.0f, image_start, at, sizes, grad_key, grad_value);
    if (padding && at.item == 0) {
        const size_t of_padding = size_t(at.image + 1) * sizes.blocks - 1;
        const uint32_t first = block_starts[of_padding];
        key_gradients_of<D>(
            query, grad, place, block_entries + first, block_starts[of_padding + 1] - first, log_sum, delta, head, key, value,
            place[row], at.g == 0, sizes.padding_logit, image_start, at, sizes, grad_key, grad_value);
    }
    if (!real) return;
    grad_key.scale(Scale<D>::value);
    grad_key.store(grad_key_value + own, at.t);
    grad_value.store(grad_key_value + own + D, at.t);
}

#define ATTENTION(D)                                                                                                            \
    KERNEL(128, attention_##D, const float* query, const float* key_value, const float* parameters, const uint32_t* place,      \
           const uint32_t* tile_starts, const uint2* tile_entries, float* out, float* log_sum, AttentionSizes sizes) {          \
        attention<D>(query, key_value, parameters, place, tile_starts, tile_entries, out, log_sum, sizes);                      \
    }                                                                                                                           \
    KERNEL(128, attention_query_gradients_##D, const float* query, const float* key_value, const float* parameters,             \
           const uint32_t* place, const uint32_t* tile_starts, const uint2* tile_entries, const float* out,                     \
           const float* log_sum, const float* grad, float* grad_query, float* delta, float* parts, AttentionSizes sizes) {      \
        attention_query_gradients<D>(query, key_value, parameters, place, tile_starts, tile_entries, out, log_sum, grad,        \
                                     grad_query, delta, parts, sizes);                                                          \
    }                                                                                                                           \
    KERNEL(128, attention_key_gradients_##D, const float* query, const float* key_value, const float* parameters,               \
           const uint32_t* place, const uint32_t* block_starts, const uint2* block_entries, const KeyBlock* blocks,             \
           const float* log_sum, const float* delta, const float* grad, float* grad_key_value, AttentionSizes sizes,            \
           int padding) {                                                                                                       \
        attention_key_gradients<D>(query, key_value, parameters, place, block_starts, block_entries, blocks, log_sum, delta,    \
                                   grad, grad_key_value, sizes, padding);                                                       \
    }
ATTENTION(16)
ATTENTION(32)
ATTENTION(64)
