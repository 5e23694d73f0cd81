//! AutoFocusFormer: backbone, classifier, pixel decoder and the Mask2Former head.
//!
//! The network segments images off the grid. It starts with a token on every fourth pixel; after each stage it keeps the
//! share of tokens where the content is and merges their neighbours into them. Nothing after the first stage needs a
//! grid: blocks attend to the nearest clusters of tokens, decoders sample values at learnt locations.
//!
//! | module | from -> to |
//! |---|---|
//! | [`backbone`] | `pixel_values [B,3,H,W]` -> [`Tokens`] of four stages |
//! | [`classifier`] | the last stage -> `[B,classes]` |
//! | [`pixel_decoder`] | the four stages -> three levels of width `hidden_dim`, and mask features |
//! | [`mask2former`] | those -> a class and a mask for each object query |
//! | [`hcformer`] | masks on the last stage's tokens, decoded to the first's |
//! | [`segmenter`] | backbone and either head in one |
//! | [`config`] | `config.json`, from which all of them are built |
//!
//! Parameter names are those of the published checkpoints, so that loading one needs no renaming. Section numbers in the
//! documentation are those of the method's description: 1 patch embedding, 2 clustering, 3 neighbourhoods, 4 attention,
//! 5 downsampling, 6 outputs, 7 pixel decoder, 8 decoder.

#![forbid(unsafe_code)]

pub mod backbone;
pub mod classifier;
pub mod complexity;
pub mod config;
pub mod data_sets;
pub mod hcformer;
mod layers;
pub mod mask2former;
mod phase;
pub mod pixel_decoder;
pub mod presets;
pub mod segmenter;
mod tokens;

pub use phase::Phase;
pub use tokens::Tokens;
