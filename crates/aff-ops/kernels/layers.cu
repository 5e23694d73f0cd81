// Layer norm, softmax and the exact GELU over rows: a warp has one row.
#include "device.cuh"

struct Moments { float mean, scale; };
__device__ __forceinline__ Moments moments_of(const float* row, int channels, float eps) {
    const int lane = threadIdx.x % WARP;
    float sum = 0.0f, squares = 0.0f;
    for (int c = lane; c < channels; c += WARP) sum += row[c];
    Moments m;
    m.mean = warp_sum(sum) / channels;
    for (int c = lane; c < channels; c += WARP) squares += (row[c] - m.mean) * (row[c] - m.mean);
    m.scale = 1.0f / sqrtf(warp_sum(squares) / channels + eps);
    return m;
}
KERNEL(128, layer_norm, const float* x, const float* weight, const float* bias, float* out, int rows, int channels, float eps) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const size_t start = size_t(row) * channels;
    const Moments m = moments_of(x + start, channels, eps);
    for (int c = lane; c < channels; c += WARP) out[start + c] = (x[start + c] - m.mean) * m.scale * weight[c] + bias[c];
}
// With n = (x - mean) scale and g = grad weight: grad_x = scale (g - mean(g) - n mean(g n)). `moments [rows,2]` is for the parameters.
KERNEL(128, layer_norm_gradients, const float* x, const float* weight, const float* grad, float* grad_x, float* moments, int rows,
       int channels, float eps) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const size_t start = size_t(row) * channels;
    const Moments m = moments_of(x + start, channels, eps);
    float of_g = 0.0f, of_product = 0.0f;
    for (int c = lane; c < channels; c += WARP) {
        const float g = grad[start + c] * weight[c];
        of_g += g;
        of_product += g * (x[start + c] - m.mean) * m.scale;
    }
    const float mean = warp_sum(of_g) / channels, mean_product = warp_sum(of_product) / channels;
    for (int c = lane; c < channels; c += WARP) {
        const float normal = (x[start + c] - m.mean) * m.scale;
        grad_x[start + c] = m.scale * (grad[start + c] * weight[c] - mean - normal * mean_product);
    }
    if (lane == 0) {
        moments[2 * row] = m.mean;
        moments[2 * row + 1] = m.scale;
    }
}
// Parts of the gradients of weight and bias, `[chunks, C]` each: a thread has one channel of 64 rows.
KERNEL(128, layer_norm_parameter_gradients, const float* x, const float* grad, const float* moments, float* weight_parts,
       float* bias_parts, int rows, int channels) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x, last = min(rows, int(blockIdx.y + 1) * 64);
    if (c >= channels) return;
    float of_weight = 0.0f, of_bias = 0.0f;
    for (int row = blockIdx.y * 64; row < last; ++row) {
        const float g = grad[size_t(row) * channels + c];
        of_weight += g * (x[size_t(row) * channels + c] - moments[2 * row]) * moments[2 * row + 1];
        of_bias += g;
    }
    weight_parts[size_t(blockIdx.y) * channels + c] = of_weight;
    bias_parts[size_t(blockIdx.y) * channels + c] = of_bias;
}

KERNEL(128, softmax, const float* x, float* out, int rows, int width) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const size_t start = size_t(row) * width;
    float most = -INFINITY, total = 0.0f;
    for (int c = lane; c < width; c += WARP) most = fmaxf(most, x[start + c]);
    most = warp_max(most);
    for (int c = lane; c < width; c += WARP) total += expf(x[start + c] - most);
    const float inverse = 1.0f / warp_sum(total);
    for (int c = lane; c < width; c += WARP) out[start + c] = expf(x[start + c] - most) * inverse;
}
KERNEL(128, softmax_gradients, const float* out, const float* grad, float* grad_x, int rows, int width) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const size_t start = size_t(row) * width;
    float sum = 0.0f;
    for (int c = lane; c < width; c += WARP) sum += out[start + c] * grad[start + c];
    const float product = warp_sum(sum);
    for (int c = lane; c < width; c += WARP) grad_x[start + c] = out[start + c] * (grad[start + c] - product);
}

KERNEL(256, gelu, const float* x, float* out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = gelu_of(x[i]);
}
KERNEL(256, gelu_gradients, const float* x, const float* grad, float* grad_x, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) grad_x[i] = grad[i] * gelu_slope(x[i]);
}
