// Mistakes that the emulator must find.
#include "device.cuh"

// A kernel of the library without its barriers.
#pragma push_macro("__syncthreads")
#undef __syncthreads
#define __syncthreads() ((void)0)
namespace without_barrier {
#define column_sum fault_missing_barrier
#include "column_sum.cu"
#undef column_sum
} // namespace without_barrier
#pragma pop_macro("__syncthreads")

// Half of the warp leaves before a shuffle.
KERNEL(32, fault_divergence, float* x) {
    if (threadIdx.x % 32 >= 16) return;
    x[threadIdx.x] += __shfl_xor_sync(ALL, x[threadIdx.x], 1);
}
// Half of the warp shuffles elsewhere.
KERNEL(32, fault_two_shuffles, float* x) {
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(ALL, 1.0f, 1);
    else x[threadIdx.x] = __shfl_xor_sync(ALL, 2.0f, 1);
}
// Half of the block waits at a barrier of its own.
KERNEL(64, fault_two_barriers, float* x) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
    x[threadIdx.x] = 0.0f;
}
KERNEL(32, fault_reads_past_the_end, const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }
KERNEL(32, fault_writes_past_the_end, float* y) { y[threadIdx.x + 1] = 0.0f; }
KERNEL(32, fault_writes_before_the_start, float* y) { y[int(threadIdx.x) - 1] = 0.0f; }
KERNEL(32, fault_writes_an_input, const float* x, float* y) {
    const_cast<float*>(x)[threadIdx.x] = 1.0f;
    y[threadIdx.x] = 0.0f;
}
KERNEL(32, fault_misaligned, const float* x, float* y) { y[threadIdx.x] = load<float4>(x + threadIdx.x).x; }
struct FaultShared { float at[32]; };
KERNEL(32, fault_reads_unwritten_shared_memory, float* y) {
    SHARED(FaultShared, shared);
    y[threadIdx.x] = shared.at[threadIdx.x];
}
