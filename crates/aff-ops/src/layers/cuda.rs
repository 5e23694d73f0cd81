//! The basic layers on a GPU: the launches of `kernels/layers.cu`.

use candle_core::{Result, Shape};

use super::{gelu, layer_norm, softmax};
use crate::kernel::gpu::{Gpu, GpuOperator, Input, Launch, THREADS, WARPS, column_sums, int};

/// Numbers of a block of the GELU.
const NUMBERS: u32 = 256;
/// Rows whose parameter gradients a thread adds.
const ROWS: usize = 64;

/// Rows and their width.
fn rows(shape: &Shape) -> (usize, usize) {
    let width = shape.dims().last().copied().unwrap_or(1);
    (shape.elem_count() / width.max(1), width)
}

impl GpuOperator<1> for gelu::Operator {
    const NAME: &'static str = gelu::OPERATOR;

    fn forward<G: Gpu>(&self, gpu: &G, [x]: [Input<'_, G::Memory>; 1]) -> Result<(G::Memory, Shape)> {
        let count = x.shape.elem_count();
        let mut out = gpu.floats(count)?;
        Launch::new("gelu", [count.div_ceil(NUMBERS as usize), 1], NUMBERS)?
            .read(x.memory)
            .write(&mut out)
            .value([int(count)?])
            .on(gpu)?;
        Ok((out, x.shape.clone()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        [x]: [Input<'_, G::Memory>; 1],
        _: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 1]> {
        let count = x.shape.elem_count();
        let mut grad_x = gpu.floats(count)?;
        Launch::new("gelu_gradients", [count.div_ceil(NUMBERS as usize), 1], NUMBERS)?
            .read(x.memory)
            .read(grad)
            .write(&mut grad_x)
            .value([int(count)?])
            .on(gpu)?;
        Ok([grad_x])
    }
}

impl GpuOperator<1> for softmax::Operator {
    const NAME: &'static str = softmax::OPERATOR;

    fn forward<G: Gpu>(&self, gpu: &G, [x]: [Input<'_, G::Memory>; 1]) -> Result<(G::Memory, Shape)> {
        let (rows, width) = rows(x.shape);
        let mut out = gpu.floats(rows * width)?;
        Launch::new("softmax", [rows.div_ceil(WARPS), 1], THREADS)?
            .read(x.memory)
            .write(&mut out)
            .value([int(rows)?])
            .value([int(width)?])
            .on(gpu)?;
        Ok((out, x.shape.clone()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        [x]: [Input<'_, G::Memory>; 1],
        out: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 1]> {
        let (rows, width) = rows(x.shape);
        let mut grad_x = gpu.floats(rows * width)?;
        Launch::new("softmax_gradients", [rows.div_ceil(WARPS), 1], THREADS)?
            .read(out)
            .read(grad)
            .write(&mut grad_x)
            .value([int(rows)?])
            .value([int(width)?])
            .on(gpu)?;
        Ok([grad_x])
    }
}

impl GpuOperator<3> for layer_norm::Operator {
    const NAME: &'static str = layer_norm::OPERATOR;

    fn forward<G: Gpu>(
        &self,
        gpu: &G,
        [x, weight, bias]: [Input<'_, G::Memory>; 3],
    ) -> Result<(G::Memory, Shape)> {
        let (rows, width) = rows(x.shape);
        let mut out = gpu.floats(rows * width)?;
        Launch::new("layer_norm", [rows.div_ceil(WARPS), 1], THREADS)?
            .read(x.memory)
            .read(weight.memory)
            .read(bias.memory)
            .write(&mut out)
            .value([int(rows)?])
            .value([int(width)?])
            .value([(self.eps as f32).to_bits()])
            .on(gpu)?;
        Ok((out, x.shape.clone()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        [x, weight, _]: [Input<'_, G::Memory>; 3],
        _: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 3]> {
        let (rows, width) = rows(x.shape);
        let mut grad_x = gpu.floats(rows * width)?;
        let mut moments = gpu.floats(2 * rows)?;
        Launch::new("layer_norm_gradients", [rows.div_ceil(WARPS), 1], THREADS)?
            .read(x.memory)
            .read(weight.memory)
            .read(grad)
            .write(&mut grad_x)
            .write(&mut moments)
            .value([int(rows)?])
            .value([int(width)?])
            .value([(self.eps as f32).to_bits()])
            .on(gpu)?;
        let chunks = rows.div_ceil(ROWS);
        // Weights and biases apart, so that each is a tensor of its own.
        let mut of_weight = gpu.floats(chunks * width)?;
        let mut of_bias = gpu.floats(chunks * width)?;
        Launch::new("layer_norm_parameter_gradients", [width.div_ceil(THREADS as usize), chunks], THREADS)?
            .read(x.memory)
            .read(grad)
            .read(&moments)
            .write(&mut of_weight)
            .write(&mut of_bias)
            .value([int(rows)?])
            .value([int(width)?])
            .on(gpu)?;
        let sums = |parts: &G::Memory| column_sums(gpu, parts, chunks, width);
        Ok([grad_x, sums(&of_weight)?, sums(&of_bias)?])
    }
}
