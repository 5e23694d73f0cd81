// Every kernel, in one module.
#include "attention.cu"
#include "cluster_order.cu"
#include "column_sum.cu"
#include "deformable.cu"
#include "embedding.cu"
#include "layers.cu"
#include "merge.cu"
#include "neighbors.cu"
