// What kernels are written in: CUDA, or C++ with emulate.h where there is no GPU.
//
// KERNEL(threads, name, parameters...) { ... } is a kernel for blocks of so many threads; SHARED(type, name) is memory of its block.
// All threads of a warp reach every shuffle.
#pragma once
#ifdef __CUDACC__
#include <cstdint>
#define AFF_KERNEL(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads, 1) name(__VA_ARGS__)
#define KERNEL(threads, name, ...) AFF_KERNEL(threads, name, __VA_ARGS__)
#define SHARED(type, name) __shared__ type name
#define CHECK_ALIGNMENT(at, type)
#else
#include "emulate.h"
#endif

constexpr unsigned ALL = 0xffffffffu;
constexpr int WARP = 32;
// A slot without a key.
constexpr uint32_t EMPTY = 0xffffffffu;

// Several numbers at once, which must be aligned to their size; the emulator sees to that.
template <class T> __device__ __forceinline__ T load(const void* at) {
    CHECK_ALIGNMENT(at, T);
    return *static_cast<const T*>(at);
}
template <class T> __device__ __forceinline__ void store(void* at, T value) {
    CHECK_ALIGNMENT(at, T);
    *static_cast<T*>(at) = value;
}

// Over the four lanes that share a query or a key, and over a warp: the same sum in every lane.
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(ALL, x, 1);
    x += __shfl_xor_sync(ALL, x, 2);
    return x;
}
__device__ __forceinline__ float warp_sum(float x) {
    x = quad_sum(x);
    x += __shfl_xor_sync(ALL, x, 4);
    x += __shfl_xor_sync(ALL, x, 8);
    x += __shfl_xor_sync(ALL, x, 16);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
    for (int bits = 1; bits < WARP; bits *= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, bits));
    return x;
}

// Offsets of positions, packed as x | y << 16, and the five features phi of a relative position (section 4 of the method).
__device__ __forceinline__ float2 offset(uint32_t to, uint32_t from) {
    float2 o;
    o.x = float(int(to & 0xffffu) - int(from & 0xffffu));
    o.y = float(int(to >> 16) - int(from >> 16));
    return o;
}
struct Features { float at[5]; };
__device__ __forceinline__ Features features(float2 o) {
    const float squared = o.x * o.x + o.y * o.y;
    const float inverse = squared > 0.0f ? rsqrtf(squared) : 0.0f;
    Features phi;
    phi.at[0] = o.x;
    phi.at[1] = o.y;
    phi.at[2] = squared * inverse;
    phi.at[3] = o.y * inverse;
    phi.at[4] = o.x * inverse;
    return phi;
}

// (1 + erf(x / sqrt 2)) / 2, the exact GELU and its derivative.
__device__ __forceinline__ float share_below(float x) { return 0.5f + 0.5f * erff(x * 0.70710678118654752f); }
__device__ __forceinline__ float gelu_of(float x) { return x * share_below(x); }
__device__ __forceinline__ float gelu_slope(float x) {
    return share_below(x) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}
