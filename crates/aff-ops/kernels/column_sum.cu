// Sums of columns, in one order of adding: gradients of biases and of all parameters.
#include "device.cuh"

struct ColumnParts { float at[8][33]; };
// One block sums 32 columns of the rows from 512 blockIdx.y: `sums [gridDim.y, columns]`.
KERNEL(256, column_sum, const float* values, float* sums, int rows, int columns) {
    SHARED(ColumnParts, parts);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
    const int last = min(rows, int(blockIdx.y + 1) * 512);
    float sum = 0.0f;
    for (int row = blockIdx.y * 512 + warp; row < last; row += 8)
        sum += column < columns ? values[size_t(row) * columns + column] : 0.0f;
    parts.at[warp][lane] = sum;
    __syncthreads();
    // Warp w finishes columns 4w to 4w + 3: eight lanes hold the eight parts of a column.
    float part = parts.at[lane % 8][warp * 4 + lane / 8];
    for (int bits = 4; bits > 0; bits /= 2) part += __shfl_xor_sync(ALL, part, bits);
    const int mine = blockIdx.x * WARP + warp * 4 + lane / 8;
    if (lane % 8 == 0 && mine < columns) sums[size_t(blockIdx.y) * columns + mine] = part;
}
