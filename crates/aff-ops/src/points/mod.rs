//! Where tokens are and who neighbours whom: data that operators are given, made once and shared.
//!
//! None of it is a tensor: it lives on the host and takes no gradient. Cloning is cheap.

mod clusters;
mod gpu;
mod lists;
mod lookup;
mod neighborhood;
mod positions;
mod relative;
mod slots;

pub use clusters::ClusterNeighborhood;
pub(crate) use clusters::KeyRuns;
pub(crate) use gpu::GpuSlots;
pub use lists::NeighborLists;
pub use lookup::CanvasLookup;
pub use neighborhood::Neighborhood;
pub use positions::Positions;
pub use relative::Offset;
pub(crate) use relative::{check, feature_lanes, relative_position_features};
pub(crate) use slots::{EMPTY, Slots};
