//! AutoFocusFormer: backbone, and heads for classes, masks and boxes.
//!
//! The network segments images off the grid. It starts with a token on every fourth pixel; after each stage it keeps the
//! share of tokens where the content is and merges their neighbours into them. Nothing after the first stage needs a
//! grid: blocks attend to the nearest clusters of tokens, decoders sample values at learnt locations.
//!
//! | module | from -> to |
//! |---|---|
//! | [`config`] | `config.json`, from which any network is built |
//! | [`Network`] | `pixel_values [B,3,H,W]` -> [`Output`]: backbone and head |
//! | [`backbone`] | `pixel_values` -> [`Tokens`] of four stages |
//! | [`heads::classifier`] | the last stage -> a class of the image |
//! | [`heads::mask2former`] | the four stages -> three levels and mask features -> a class and a mask for each object query |
//! | [`heads::hcformer`] | the same from masks on the last stage's tokens, decoded to the first's |
//! | [`heads::deformable_detr`] | three of the stages -> a class and a box for each object query |
//! | [`transformer`] | what the heads share |
//! | [`boxes`] | functions of boxes |
//! | [`complexity`] | what a network costs |
//!
//! Parameter names are those of the published checkpoints, so that loading one needs no renaming. Section numbers in the
//! documentation are those of the method's description: 1 patch embedding, 2 clustering, 3 neighbourhoods, 4 attention,
//! 5 downsampling, 6 outputs, 7 pixel decoder, 8 Mask2Former's decoder, 10 training, 11 HCFormer, 13 Deformable DETR.

#![forbid(unsafe_code)]

pub mod backbone;
pub mod boxes;
pub mod complexity;
pub mod config;
pub mod data_sets;
#[cfg(test)]
mod golden;
pub mod heads;
mod layers;
mod macs;
mod network;
mod phase;
pub mod presets;
mod tokens;
pub mod transformer;

pub use heads::{Auxiliary, BoxOutput, BoxPrediction, Head, MaskOutput, MaskPrediction, Output};
pub use network::{Features, Network, expected_tensors, is_learnt};
pub use phase::Phase;
pub use tokens::{TokenLayout, TokenOrder, Tokens};

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
