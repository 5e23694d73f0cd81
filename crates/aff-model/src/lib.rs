//! AutoFocusFormer: backbone, classifier, pixel decoder and segmentation heads.

#![forbid(unsafe_code)]

pub mod config;
