//! Basic layers, fast and trainable.
//!
//! Candle's fused `layer_norm` and `softmax_last_dim` have no backward and cut the gradient without a word; its GELU runs on one
//! thread, number by number. These have a backward, run on all threads and on the instruction set of the processor.

mod cuda;
mod gelu;
mod layer_norm;
mod linear;
mod prepared_linear;
pub mod reference;
mod softmax;

pub use gelu::gelu;
pub(crate) use gelu::{gelu_lanes, gelu_slope_lanes};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use prepared_linear::{Activation, Epilogue, PreparedLinear};
pub use softmax::softmax_last_dim;
