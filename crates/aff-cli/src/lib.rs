//! The commands of `aff`, each with its arguments and what it does.
//!
//! Thin by design: arguments in, a pipeline call, files out. A library besides the command so that `cargo xtask` offers
//! the same conversion.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command talks to its user")]

pub mod bench;
pub mod convert;
pub mod features;
pub mod predict;
