//! Linear layers that belong to a network: weights laid out once, and what follows the product done with it.

mod cpu;
mod packed;

use std::sync::{Arc, OnceLock};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};

use super::{gelu, linear};
use crate::kernel::simd::Real;
use crate::kernel::storage::{self, Borrowed, by_type};
use crate::shape;
use packed::Packed;

/// What is applied to each number that a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// The exact GELU, as [`gelu`].
    Gelu,
}

/// What follows a linear layer: `residual + scale * activation(x weight^T + bias)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Applied first.
    pub activation: Activation,
    /// A factor for each output, `[O]`.
    pub scale: Option<&'a Tensor>,
    /// Added last, in the shape of the output.
    pub residual: Option<&'a Tensor>,
}

/// A linear layer with its parameters, for many products with the same weights.
///
/// Weights that are constants, neither variables nor computed from any, are laid out for the processor on first use and then read in
/// that layout; what follows the product costs no pass of its own. With variables among its tensors the layer is the
/// composition of differentiable operators, and reads its weights anew: an update cannot be missed.
///
/// ```
/// use aff_ops::{Activation, Epilogue, PreparedLinear};
/// use candle_core::{Device, Tensor};
///
/// let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, -10.0, 0.0], &Device::Cpu)?;
/// let layer = PreparedLinear::new(weight, Some(bias))?;
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let y = layer.forward(&x, Epilogue { activation: Activation::Relu, ..Epilogue::default() })?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, 0.0, 3.0]]);
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct PreparedLinear {
    /// `[O,I]`
    weight: Tensor,
    /// `[O]`
    bias: Option<Tensor>,
    /// Of constants alone.
    packed: Arc<OnceLock<PackedAs>>,
}

/// Constant weights in the type that they are computed in.
#[derive(Debug)]
enum PackedAs {
    F32(Packed<f32>),
    F64(Packed<f64>),
}

impl PreparedLinear {
    /// Joins `weight [O,I]` and `bias [O]`.
    ///
    /// # Errors
    /// If the shapes or types differ from these.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let &[outputs, inputs] = weight.dims() else {
            bail!("{OPERATOR}: `weight` has shape {:?}; expected two axes [O,I]", weight.dims())
        };
        shape::count(OPERATOR, &[outputs.saturating_add(packed::STRIP), inputs])?;
        storage::check_types(OPERATOR, &[("weight", &weight)])?;
        if let Some(bias) = &bias {
            shape::expect(OPERATOR, "bias", bias, &[outputs])?;
            storage::check_types(OPERATOR, &[("weight", &weight), ("bias", bias)])?;
        }
        Ok(Self { weight, bias, packed: Arc::default() })
    }

    /// `[O,I]`
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[O]`
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// `residual + scale * activation(x weight^T + bias)` over the last axis.
    ///
    /// # Shapes
    /// `x [..,I]` -> `[..,O]`
    ///
    /// # Errors
    /// If the shapes or types do not fit.
    pub fn forward(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let out_dims = self.check(x, epilogue)?;
        let tensors = [Some(x), Some(&self.weight), self.bias.as_ref(), epilogue.scale, epilogue.residual];
        let constant = tensors.iter().flatten().all(|tensor| !tensor.track_op());
        let wide = matches!(x.dtype(), DType::F32 | DType::F64);
        if !constant || !wide || !storage::has_kernel(x, || false) {
            return self.composed(x, epilogue);
        }
        let contiguous = |tensor: Option<&Tensor>| tensor.map(Tensor::contiguous).transpose();
        let operator = Operator {
            packed: self.packed()?,
            activation: epilogue.activation,
            scale: contiguous(epilogue.scale)?,
            residual: contiguous(epilogue.residual)?,
            out_shape: out_dims.into(),
        };
        x.contiguous()?.apply_op1_no_bwd(&operator)
    }

    /// Refuses what does not fit; the dimensions of the output.
    fn check(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Vec<usize>> {
        let (outputs, inputs) = self.weight.dims2()?;
        if x.dim(D::Minus1)? != inputs {
            bail!("{OPERATOR}: `x` has shape {:?}; expected [..,{inputs}]", x.dims())
        }
        storage::check_types(OPERATOR, &[("weight", &self.weight), ("x", x)])?;
        let mut dims = x.dims().to_vec();
        shape::count(OPERATOR, &dims)?;
        dims.pop();
        dims.push(outputs);
        shape::count(OPERATOR, &dims)?;
        let expected =
            [("scale", epilogue.scale, &dims[dims.len() - 1..]), ("residual", epilogue.residual, &dims)];
        for (name, tensor, dims) in expected {
            let Some(tensor) = tensor else { continue };
            shape::expect(OPERATOR, name, tensor, dims)?;
            storage::check_types(OPERATOR, &[("x", x), (name, tensor)])?;
        }
        Ok(dims)
    }

    /// As differentiable operators, one after another.
    fn composed(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let out = linear(x, &self.weight, self.bias.as_ref())?;
        let out = match epilogue.activation {
            Activation::Identity => out,
            Activation::Relu => out.relu()?,
            Activation::Gelu => gelu(&out)?,
        };
        let out = match epilogue.scale {
            Some(scale) => out.broadcast_mul(scale)?,
            None => out,
        };
        match epilogue.residual {
            Some(residual) => residual + out,
            None => Ok(out),
        }
    }

    fn packed(&self) -> Result<&PackedAs> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let (weight, bias) =
            (self.weight.contiguous()?, self.bias.as_ref().map(Tensor::contiguous).transpose()?);
        let packed = match weight.dtype() {
            DType::F64 => PackedAs::F64(pack(&weight, bias.as_ref())?),
            _ => PackedAs::F32(pack(&weight, bias.as_ref())?),
        };
        Ok(self.packed.get_or_init(|| packed))
    }
}

const OPERATOR: &str = "prepared linear";

fn pack<T: Real>(weight: &Tensor, bias: Option<&Tensor>) -> Result<Packed<T>> {
    let (outputs, inputs) = weight.dims2()?;
    let (weight, bias) = (Borrowed::new(weight), bias.map(Borrowed::new));
    let bias = bias.as_ref().map(Borrowed::slice::<T>).transpose()?;
    Ok(Packed::new(weight.slice()?, bias, outputs, inputs))
}

/// A product of constants: it has no backward pass, and is given no variables.
struct Operator<'a> {
    packed: &'a PackedAs,
    activation: Activation,
    scale: Option<Tensor>,
    residual: Option<Tensor>,
    out_shape: Shape,
}

/// The types that weights are packed in.
trait Packable: Real {
    fn of_packed(packed: &PackedAs) -> Option<&Packed<Self>>;
}

impl Packable for f32 {
    fn of_packed(packed: &PackedAs) -> Option<&Packed<Self>> {
        if let PackedAs::F32(packed) = packed { Some(packed) } else { None }
    }
}

impl Packable for f64 {
    fn of_packed(packed: &PackedAs) -> Option<&Packed<Self>> {
        if let PackedAs::F64(packed) = packed { Some(packed) } else { None }
    }
}

impl CustomOp1 for Operator<'_> {
    fn name(&self) -> &'static str {
        OPERATOR
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), T => {
            let Some(weights) = T::of_packed(self.packed) else { bail!("{OPERATOR}: weights of another type") };
            let [scale, residual] = [&self.scale, &self.residual].map(|tensor| tensor.as_ref().map(Borrowed::new));
            let epilogue = cpu::Epilogue {
                activation: self.activation,
                scale: scale.as_ref().map(Borrowed::slice::<T>).transpose()?,
                residual: residual.as_ref().map(Borrowed::slice::<T>).transpose()?,
            };
            let out = cpu::forward(storage::slice::<T>(x, layout)?, weights, epilogue, self.out_shape.elem_count());
            storage::output(out, self.out_shape.clone())
        })
    }
}
