//! What the heads' transformers share.

mod attention;
mod deformable_attention;
mod deformable_encoder;
mod feed_forward;
mod level;
mod mask_canvas;
mod mask_tokens;
mod masked_decoder;

pub(crate) use attention::Attention;
pub(crate) use deformable_attention::{DeformableAttention, DeformableSizes, ReferencePoints, ShepardPower};
pub use deformable_encoder::DeformableEncoder;
pub(crate) use deformable_encoder::{DeformableEncoderSizes, LEVELS, Memory};
pub(crate) use feed_forward::FeedForward;
pub use level::Level;
pub(crate) use mask_canvas::MaskCanvas;
pub(crate) use masked_decoder::MaskedDecoderSizes;
pub use masked_decoder::{MaskedDecoder, TokenPrediction};
