// Deformable gather: values at learnt locations of one level after another, forward and backward, for heads of at most 64 channels.
//
// A warp has one query and head. Eight samples are looked at together: lane 4 s + t has the token t of the at most four that are
// nearest to the cell of sample s.
#include "device.cuh"

struct DeformableSizes { int queries, tokens, channels, heads, levels, points; };
// A level: which it is, its canvas, how many tokens a cell has (at most four), its tokens in an image, and the first among those of all
// levels.
struct Level { int index, width, height, k, tokens, first_token; };

// One of the tokens of a sample.
struct Slot {
    uint32_t token; // among those of all levels, EMPTY if there is none
    int sample;     // of the query, head and level
    float dx, dy, squared, logarithm, raised, inverse, total, share, weight;
};
constexpr float DISTANCE_FLOOR = 1e-11f, LEAST_SQUARED_DISTANCE = 1e-20f;

// The samples of a query, head and level, `[points,3]`; `row` is the index in [B,Q,H].
__device__ __forceinline__ size_t samples_of(size_t row, Level level, DeformableSizes sizes) {
    return (row * sizes.levels + level.index) * sizes.points * 3;
}
// Eight samples from `first` are looked at.
__device__ __forceinline__ Slot look(
    const float* samples, const uint32_t* place, const uint32_t* nearest, float power, size_t row, int first, Level level,
    DeformableSizes sizes) {
    const int lane = threadIdx.x % WARP, t = lane % 4;
    Slot slot;
    slot.sample = first + lane / 4;
    slot.token = EMPTY;
    slot.dx = slot.dy = slot.squared = slot.logarithm = slot.raised = slot.inverse = slot.weight = 0.0f;
    if (slot.sample < sizes.points) {
        const float* sample = samples + samples_of(row, level, sizes) + slot.sample * 3;
        const float x = sample[0], y = sample[1];
        slot.weight = sample[2];
        if (t < level.k) {
            const size_t image = row / (size_t(sizes.queries) * sizes.heads);
            const int column = int(fminf(fmaxf(rintf(x), 0.0f), float(level.width - 1)));
            const int line = int(fminf(fmaxf(rintf(y), 0.0f), float(level.height - 1)));
            const size_t cell = (image * level.height + line) * level.width + column;
            const uint32_t token = nearest[cell * level.k + t];
            const uint32_t at = place[image * level.tokens + token];
            slot.token = level.first_token + token;
            slot.dx = x - float(at & 0xffffu);
            slot.dy = y - float(at >> 16);
            slot.squared = slot.dx * slot.dx + slot.dy * slot.dy;
            // Keeps what is no number, which fmaxf would not.
            slot.logarithm = logf(slot.squared < LEAST_SQUARED_DISTANCE ? LEAST_SQUARED_DISTANCE : slot.squared);
            slot.raised = expf(power * slot.logarithm);
            slot.inverse = 1.0f / (slot.raised + DISTANCE_FLOOR);
        }
    }
    slot.total = quad_sum(slot.inverse);
    slot.share = slot.token == EMPTY ? 0.0f : slot.inverse / slot.total;
    return slot;
}

// `out [B,Q,C]`
KERNEL(128, deformable_gather, const float* value, const float* samples, const float* power, const uint32_t* place,
       const uint32_t* nearest, float* out, int rows, Level level, DeformableSizes sizes) {
    const int lane = threadIdx.x % WARP;
    const size_t row = size_t(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= size_t(rows)) return;
    const int width = sizes.channels / sizes.heads, head = int(row % sizes.heads);
    const size_t image = row / (size_t(sizes.queries) * sizes.heads);
    const float* values = value + image * sizes.tokens * sizes.channels + head * width;
    float* to = out + row * width;
    // To what the levels before have added.
    float low = level.index > 0 && lane < width ? to[lane] : 0.0f;
    float high = level.index > 0 && lane + WARP < width ? to[lane + WARP] : 0.0f;
    for (int first = 0; first < sizes.points; first += 8) {
        const Slot slot = look(samples, place, nearest, power[0], row, first, level, sizes);
        const float mine = slot.share * slot.weight;
        for (int j = 0; j < WARP; ++j) {
            const uint32_t token = __shfl_sync(ALL, slot.token, j);
            const float factor = __shfl_sync(ALL, mine, j);
            if (token == EMPTY) continue;
            const float* from = values + size_t(token) * sizes.channels;
            if (lane < width) low += factor * from[lane];
            if (lane + WARP < width) high += factor * from[lane + WARP];
        }
    }
    if (lane < width) to[lane] = low;
    if (lane + WARP < width) to[lane + WARP] = high;
}

// Gradients of locations and weights, `[B,Q,H,L,P,3]`, and each query's and head's part of that of the power. With shares s = u / sum u,
// u = 1 / (e + floor), e = (d^2)^power: see the backward pass of the CPU.
KERNEL(128, deformable_sample_gradients, const float* value, const float* samples, const float* power, const uint32_t* place,
       const uint32_t* nearest, const float* grad, float* grad_samples, float* parts, int rows, Level level,
       DeformableSizes sizes) {
    const int lane = threadIdx.x % WARP;
    const size_t row = size_t(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= size_t(rows)) return;
    const int width = sizes.channels / sizes.heads, head = int(row % sizes.heads);
    const size_t image = row / (size_t(sizes.queries) * sizes.heads);
    const float* values = value + image * sizes.tokens * sizes.channels + head * width;
    const float low = lane < width ? grad[row * width + lane] : 0.0f;
    const float high = lane + WARP < width ? grad[row * width + lane + WARP] : 0.0f;
    float of_power = level.index > 0 ? parts[row] : 0.0f;
    for (int first = 0; first < sizes.points; first += 8) {
        const Slot slot = look(samples, place, nearest, power[0], row, first, level, sizes);
        float product = 0.0f;
        for (int j = 0; j < WARP; ++j) {
            const uint32_t token = __shfl_sync(ALL, slot.token, j);
            if (token == EMPTY) continue; // the same for the whole warp
            const float* from = values + size_t(token) * sizes.channels;
            float part = lane < width ? low * from[lane] : 0.0f;
            if (lane + WARP < width) part += high * from[lane + WARP];
            part = warp_sum(part);
            if (lane == j) product = part;
        }
        const float mean = quad_sum(slot.share * product);
        const float slope = slot.token == EMPTY
            ? 0.0f
            : -slot.inverse * slot.inverse * slot.raised * (slot.weight * (product - mean) / slot.total);
        of_power += warp_sum(slope * slot.logarithm);
        const float along = slot.squared > LEAST_SQUARED_DISTANCE ? 2.0f * slope * power[0] / slot.squared : 0.0f;
        const float of_x = quad_sum(along * slot.dx), of_y = quad_sum(along * slot.dy);
        if (lane % 4 == 0 && slot.sample < sizes.points) {
            float* to = grad_samples + samples_of(row, level, sizes) + slot.sample * 3;
            to[0] = of_x;
            to[1] = of_y;
            to[2] = mean;
        }
    }
    if (lane == 0) parts[row] = of_power;
}

// Gradients of the values. Which samples read a token is not known beforehand, so that many warps add to one number. They add integers of 64
// bits, whose sum does not depend on the order: multiples of 2^-shift, where no sum of an image can overflow.
struct Bounds { float weight[8], grad[8]; };
// `shifts [B]`; NOT_FINITE if a weight or a gradient of the image is not finite, ALL_ZERO if nothing is to be added. A block has one
// image; `grad_count` and `sample_count` are numbers of an image. `broken [B]` is made zero.
constexpr uint32_t NOT_FINITE = 0x40000000u, ALL_ZERO = 0x40000001u;
KERNEL(256, deformable_shifts, const float* samples, const float* grad, uint32_t* shifts, uint32_t* broken, int grad_count,
       int sample_count, int samples_of_head) {
    SHARED(Bounds, shared);
    float weight = 0.0f, most = 0.0f;
    // What is no number counts as infinite.
    for (int i = threadIdx.x; i < sample_count; i += blockDim.x) {
        const float w = fabsf(samples[(size_t(blockIdx.x) * sample_count + i) * 3 + 2]);
        weight = w >= 0.0f ? fmaxf(weight, w) : INFINITY;
    }
    for (int i = threadIdx.x; i < grad_count; i += blockDim.x) {
        const float g = fabsf(grad[size_t(blockIdx.x) * grad_count + i]);
        most = g >= 0.0f ? fmaxf(most, g) : INFINITY;
    }
    weight = warp_max(weight);
    most = warp_max(most);
    if (threadIdx.x % WARP == 0) {
        shared.weight[threadIdx.x / WARP] = weight;
        shared.grad[threadIdx.x / WARP] = most;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < 8; ++w) {
        weight = fmaxf(weight, shared.weight[w]);
        most = fmaxf(most, shared.grad[w]);
    }
    int of_weight, of_grad, count = 0;
    frexpf(weight, &of_weight); // weight < 2^of_weight
    frexpf(most, &of_grad);
    while (samples_of_head >> count) ++count; // fewer than 2^count samples read a token, each at most once
    const bool finite = weight < INFINITY && most < INFINITY;
    const bool zero = weight == 0.0f || most == 0.0f;
    broken[blockIdx.x] = 0;
    shifts[blockIdx.x] = !finite ? NOT_FINITE : zero ? ALL_ZERO : uint32_t(61 - of_weight - of_grad - count);
}
// `broken` is set where a share is no number, because a location is none.
KERNEL(128, deformable_value_gradients, const float* samples, const float* power, const uint32_t* place, const uint32_t* nearest,
       const float* grad, const uint32_t* shifts, uint32_t* broken, unsigned long long* sums, int rows, Level level,
       DeformableSizes sizes) {
    const int lane = threadIdx.x % WARP;
    const size_t row = size_t(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= size_t(rows)) return;
    const int width = sizes.channels / sizes.heads, head = int(row % sizes.heads);
    const size_t image = row / (size_t(sizes.queries) * sizes.heads);
    if (shifts[image] == NOT_FINITE || shifts[image] == ALL_ZERO) return;
    const int shift = int(shifts[image]);
    const float low = lane < width ? grad[row * width + lane] : 0.0f;
    const float high = lane + WARP < width ? grad[row * width + lane + WARP] : 0.0f;
    unsigned long long* to = sums + image * sizes.tokens * sizes.channels + head * width;
    for (int first = 0; first < sizes.points; first += 8) {
        const Slot slot = look(samples, place, nearest, power[0], row, first, level, sizes);
        const float mine = slot.share * slot.weight;
        const bool is_number = mine == mine;
        if (!is_number) broken[image] = 1; // whoever writes it writes the same
        for (int j = 0; j < WARP; ++j) {
            const uint32_t token = __shfl_sync(ALL, slot.token, j);
            const float factor = __shfl_sync(ALL, is_number ? mine : 0.0f, j);
            if (token == EMPTY) continue;
            unsigned long long* at = to + size_t(token) * sizes.channels;
            if (lane < width) atomicAdd(at + lane, (unsigned long long)(llrintf(ldexpf(factor * low, shift))));
            if (lane + WARP < width) atomicAdd(at + lane + WARP, (unsigned long long)(llrintf(ldexpf(factor * high, shift))));
        }
    }
}
// `values [B,N,C]`, `each` of them an image.
KERNEL(256, deformable_values, const unsigned long long* sums, const uint32_t* shifts, const uint32_t* broken, float* values,
       int count, int each) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const uint32_t shift = shifts[i / each];
    const float sum = float((long long)(sums[i]));
    values[i] = shift == NOT_FINITE || broken[i / each] ? NAN : shift == ALL_ZERO ? 0.0f : ldexpf(sum, -int(shift));
}
