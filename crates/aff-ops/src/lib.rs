//! Differentiable operators on irregular 2-D tokens, for [Candle](candle_core) tensors.
//!
//! Off-grid networks have no pixel neighbours to convolve over: their tokens sit wherever the content is. The operators
//! here work on such tokens, given who neighbours whom.
//!
//! | operator | from -> to |
//! |---|---|
//! | [`cluster_attention`](fn@cluster_attention) | `[B,N,C]` -> `[B,N,C]`: attention to the tokens of the nearest clusters |
//! | [`neighborhood_merge`](fn@neighborhood_merge) | `[B,N,C]` -> `[B,Q,W*C]`: PointConv, neighbours summed with learnt weights |
//! | [`weighted_gather`](fn@weighted_gather) | `[B,N,C]` -> `[B,Q,C]`: neighbours summed with given weights |
//! | [`ShepardInterpolation`] | `[B,N,C]` -> `[B,Q,C]`: inverse distance interpolation |
//! | [`deformable_gather`](fn@deformable_gather) | `[B,N,C]` -> `[B,Q,C]`: values at learnt locations of several levels |
//! | [`soft_assignment`](fn@soft_assignment) | `[B,N,C]`, `[B,N',C]` -> `[B,N,k]`: how much fine tokens belong to coarse ones |
//! | [`linear`], [`layer_norm`], [`softmax_last_dim`], [`gelu`] | like Candle's, faster, and trainable |
//! | [`PreparedLinear`] | a linear layer whose constant weights are laid out once, with what follows it |
//!
//! # Conventions
//! * B batch, N tokens (keys), Q queries, M neighbour slots of a query, H heads, D head width, C = H*D channels,
//!   K clusters, W weight channels, L levels, P points.
//! * Positions are `(x, y)` on the canvas of the network's first stage (a quarter of the image), and stay on it through
//!   all stages. They are data, not tensors: gradients do not flow into them.
//! * Who a query sees is either a [`ClusterNeighborhood`], runs of keys that lie together, or [`NeighborLists`]. It is built
//!   once for a stage and borrowed by all its blocks; a [`Neighborhood`] is one or the other.
//! * Every operator is differentiable in all its tensors. Wrong shapes are errors that name the tensor, what was
//!   expected and what was found.
//!
//! # How they are computed
//! Each operator is a Candle custom operator with a forward and a backward pass of its own, on the CPU and, with the feature `cuda`,
//! on NVIDIA GPUs (those kernels are tested in an emulation; they have not run on a GPU yet: see `docs/cuda.md`). None gathers `[B,Q,M,C]`;
//! threads divide the queries, and vector instructions are chosen when the program runs ([`instruction_set`]). Results do not
//! depend on the number of threads or on batch mates. Types are f32 and f64; f16 and bf16 are computed in f32. Beside each operator
//! stands its twin, a composition of Candle operators in a module named `reference`: easy to read, and the yardstick of the tests.
//! [`soft_assignment`](fn@soft_assignment) and [`sine_position_embedding`] are compositions only.
//!
//! # Invariants
//! * **Nothing moves between devices by itself.** A kernel borrows the values of its tensors from the storage that they are in, in the
//!   forward and in the backward pass, and its results are moved into storage: nothing is copied out and back. On a device that an operator has
//!   no kernel for, it runs as its twin, on that device. Only geometry, which lives on the host, is brought to where the tensors are, once:
//!   it stays there as long as the geometry does.
//! * **No gradient is cut in silence.** Gradients of gradients are an error that names the operator. (By default Candle itself forgets
//!   what gradients were computed from between one operator and the next; its `CANDLE_GRAD_DO_NOT_DETACH` changes that.)
//! * **Sizes are checked before they are trusted.** A product of sizes that does not fit into memory's addresses is an error.

#[cfg(test)]
extern crate self as aff_ops;

pub mod cluster_attention;
pub mod deformable_gather;
mod kernel;
pub mod layers;
pub mod neighborhood_merge;
mod points;
mod shape;
mod shepard;
mod sine_embedding;
pub mod soft_assignment;
pub mod weighted_gather;

#[cfg(all(test, unix))]
mod emulation;

pub use cluster_attention::{AttentionGeometry, ClusterAttention, PaddingSlots, cluster_attention};
pub use deformable_gather::{DeformableGather, deformable_gather};
pub use kernel::simd::instruction_set;
pub use layers::{Activation, Epilogue, PreparedLinear, gelu, layer_norm, linear, softmax_last_dim};
pub use neighborhood_merge::{MergeGeometry, NeighborhoodMerge, neighborhood_merge};
pub use points::{CanvasLookup, ClusterNeighborhood, NeighborLists, Neighborhood, Offset, Positions};
pub use shepard::ShepardInterpolation;
pub use sine_embedding::sine_position_embedding;
pub use soft_assignment::{AssignmentGeometry, SoftAssignment, soft_assignment};
pub use weighted_gather::weighted_gather;

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
