// What is made of positions alone: the sine embedding and the weights of Shepard's interpolation.
#include "device.cuh"

struct Largest { uint32_t x[8], y[8]; };
// `largest [B,2]`: the largest x and y of each image. A block has one image.
KERNEL(256, largest_positions, const uint32_t* place, uint32_t* largest, int tokens) {
    SHARED(Largest, shared);
    uint32_t x = 0, y = 0;
    for (int i = threadIdx.x; i < tokens; i += blockDim.x) {
        const uint32_t at = place[size_t(blockIdx.x) * tokens + i];
        x = max(x, at & 0xffffu);
        y = max(y, at >> 16);
    }
    for (int bits = 1; bits < WARP; bits *= 2) {
        x = max(x, __shfl_xor_sync(ALL, x, bits));
        y = max(y, __shfl_xor_sync(ALL, y, bits));
    }
    if (threadIdx.x % WARP == 0) {
        shared.x[threadIdx.x / WARP] = x;
        shared.y[threadIdx.x / WARP] = y;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < 8; ++w) {
        x = max(x, shared.x[w]);
        y = max(y, shared.y[w]);
    }
    largest[2 * blockIdx.x] = x;
    largest[2 * blockIdx.x + 1] = y;
}
// `out [B,N,4F]`: sines and cosines of x, then of y, each scaled by its largest, times F frequencies.
KERNEL(256, sine_embedding, const uint32_t* place, const uint32_t* largest, const float* frequencies, float* out, int rows,
       int tokens, int count) {
    const size_t at = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= size_t(rows) * 4 * count) return;
    const size_t row = at / (4 * count);
    const int feature = int(at % (4 * count)), axis = feature / (2 * count), i = feature % count;
    const uint32_t position = axis ? place[row] >> 16 : place[row] & 0xffffu;
    const float scale = 6.2831853071795865f / (float(largest[2 * (row / tokens) + axis]) + 1e-6f);
    const float angle = float(position) * scale * frequencies[i];
    out[at] = feature / count % 2 ? cosf(angle) : sinf(angle);
}
// `weights [B,Q,k]`: 1 / ((d^2)^power + floor), of sum 1. Points are packed, queries are (x, y). A thread has one query.
KERNEL(128, shepard_weights, const uint32_t* place, const float* queries, const uint32_t* nearest, float* weights, int rows,
       int per_image, int tokens, int k, float power) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const uint32_t* image = place + size_t(row / per_image) * tokens;
    float total = 0.0f;
    for (int i = 0; i < k; ++i) {
        const uint32_t point = image[nearest[size_t(row) * k + i]];
        const float dx = float(point & 0xffffu) - queries[2 * row], dy = float(point >> 16) - queries[2 * row + 1];
        const float weight = 1.0f / (powf(dx * dx + dy * dy, power) + 1e-11f);
        weights[size_t(row) * k + i] = weight;
        total += weight;
    }
    for (int i = 0; i < k; ++i) weights[size_t(row) * k + i] /= total;
}
