//! Sine position embedding (section 7 of the method).

use std::f64::consts::TAU;

use aff_geometry::Coordinate;
use candle_core::{Result, Tensor, bail};

use crate::shape;

const TEMPERATURE: f64 = 10_000.0;
/// Keeps the scale finite for a level whose positions are all 0.
const EPS: f64 = 1e-6;

/// Sine embedding of positions, each image scaled by its own largest x and y.
///
/// With n = `channels` / 2 features for each of x and y and `t_i = 10000^(2 floor(i/2) / n)`, the scaled position
/// `2 pi x / (max x + 1e-6)` is divided by each `t_i`; sines of the even features come first, then cosines of the odd
/// ones; all of x before all of y.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let pos = [[0i32, 0], [0, 1]];
/// let like = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
/// let embedding = aff_ops::sine_position_embedding(&[&pos], 4, &like)?;
/// assert_eq!(embedding.dims(), [1, 2, 4]);
/// assert_eq!(embedding.get(0)?.get(0)?.to_vec1::<f32>()?, [0., 1., 0., 1.]);
/// # candle_core::Result::Ok(())
/// ```
///
/// # Shapes
/// One slice of N positions for each of B images -> `[B,N,channels]`, of the type and device of `like`
///
/// # Errors
/// If `channels` is not a multiple of 4, or the images differ in their number of positions.
pub fn sine_position_embedding<T: Coordinate>(
    images: &[&[[T; 2]]],
    channels: usize,
    like: &Tensor,
) -> Result<Tensor> {
    let tokens = images.first().map_or(0, |image| image.len());
    if !channels.is_multiple_of(4) || images.iter().any(|image| image.len() != tokens) {
        bail!(
            "sine_position_embedding: {channels} channels for {} images; expected a multiple of 4 and images of \
             equally many tokens",
            images.len()
        )
    }
    let features = channels / 2;
    let frequencies: Vec<f64> =
        (0..features / 2).map(|i| TEMPERATURE.powf(-2.0 * i as f64 / features as f64)).collect();
    let mut out = Vec::with_capacity(images.len() * tokens * channels);
    for image in images {
        let max = |axis: usize| image.iter().map(|p| p[axis].to_f64()).fold(0.0, f64::max);
        let scale = [TAU / (max(0) + EPS), TAU / (max(1) + EPS)];
        for position in *image {
            for axis in 0..2 {
                let scaled = position[axis].to_f64() * scale[axis];
                out.extend(frequencies.iter().map(|frequency| (scaled * frequency).sin()));
                out.extend(frequencies.iter().map(|frequency| (scaled * frequency).cos()));
            }
        }
    }
    shape::like(out, (images.len(), tokens, channels), like)
}
