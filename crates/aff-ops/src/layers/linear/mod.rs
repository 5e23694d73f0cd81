//! Linear layers.

mod cpu;
mod product;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use super::reference;
use crate::kernel::gradient::gradient;
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::shape;
use cpu::Sizes;

/// `x weight^T + bias` over the last axis.
///
/// The bias is where the matrix product starts from, so that it costs no pass of its own.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 10.0, 0.0], &Device::Cpu)?;
/// assert_eq!(aff_ops::linear(&x, &weight, Some(&bias))?.to_vec2::<f32>()?, [[1.0, 12.0, 3.0]]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// `x [..,I]`, `weight [O,I]`, `bias [O]` -> `[..,O]`
///
/// # Errors
/// If the shapes or types differ from these.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let inputs = x.dim(D::Minus1)?;
    let Some(&outputs) = weight.dims().first() else {
        bail!("{OPERATOR}: `weight` is a scalar; expected [O,{inputs}]")
    };
    shape::expect(OPERATOR, "weight", weight, &[outputs, inputs])?;
    storage::check_types(OPERATOR, &[("x", x), ("weight", weight)])?;
    if let Some(bias) = bias {
        shape::expect(OPERATOR, "bias", bias, &[outputs])?;
        storage::check_types(OPERATOR, &[("x", x), ("bias", bias)])?;
    }
    let sizes = Sizes::new(x.dims(), outputs)?;
    let (wide, weight) = (storage::prepared(x)?, storage::prepared(weight)?);
    let bias = bias.map(storage::prepared).transpose()?;
    let out = match &bias {
        _ if !storage::has_kernel(x, || false) => reference::linear(&wide, &weight, bias.as_ref())?,
        Some(bias) => wide.apply_op3(&weight, bias, Operator { sizes })?,
        None => wide.apply_op2(&weight, Operator { sizes })?,
    };
    out.to_dtype(x.dtype())
}

const OPERATOR: &str = "linear";

/// A product of contiguous tensors of one type.
struct Operator {
    sizes: Sizes,
}

impl Operator {
    fn out_shape(&self, x: &Layout) -> Shape {
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.sizes.outputs;
        }
        Shape::from(dims)
    }
}

impl CustomOp2 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => {
            let (x, weight) = (storage::slice::<T>(x, x_layout)?, storage::slice(weight, weight_layout)?);
            storage::output(cpu::forward(x, weight, None, self.sizes), self.out_shape(x_layout))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let all = [x, weight];
        by_type!(x.dtype(), T => {
            let borrowed = [x, weight, &grad].map(Borrowed::new);
            let [values, weights, grad] = &borrowed;
            let [grad_x, grad_weight] =
                cpu::product_gradients(values.slice::<T>()?, weights.slice()?, grad.slice()?, self.sizes);
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((of(grad_x, x)?, of(grad_weight, weight)?))
        })
    }
}

impl CustomOp3 for Operator {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => {
            let (x, weight) = (storage::slice::<T>(x, x_layout)?, storage::slice(weight, weight_layout)?);
            let bias = storage::slice(bias, bias_layout)?;
            storage::output(cpu::forward(x, weight, Some(bias), self.sizes), self.out_shape(x_layout))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let all = [x, weight, bias];
        by_type!(x.dtype(), T => {
            let borrowed = [x, weight, &grad].map(Borrowed::new);
            let [values, weights, grad] = &borrowed;
            let [grad_x, grad_weight] =
                cpu::product_gradients(values.slice::<T>()?, weights.slice()?, grad.slice()?, self.sizes);
            let grad_bias = cpu::column_sums(grad.slice::<T>()?, self.sizes.outputs);
            drop(borrowed);
            let of = |values, input| gradient(OPERATOR, values, input, &all).map(Some);
            Ok((of(grad_x, x)?, of(grad_weight, weight)?, of(grad_bias, bias)?))
        })
    }
}
