//! Balanced clusters, space-filling curves and neighbourhoods of irregular 2-D points.
#![forbid(unsafe_code)]

mod bucket_grid;
mod canvas;
mod cluster;
mod coordinate;
mod curve;
mod error;
mod grid_prior;
mod k_nearest;
mod nearest_clusters;
mod rank_sort;
mod raster;
mod relative;
mod selection;

pub use canvas::Canvas;
pub use cluster::{ClusterMode, ClusterOptions, Clusters, cluster, cluster_batch};
pub use coordinate::Coordinate;
pub use curve::{CellGrid, Cells, Curve};
pub use error::GeometryError;
pub use grid_prior::{GridPrior, grid_prior, is_reserved};
pub use k_nearest::{Neighbors, PointIndex, k_nearest, nearest_distances};
pub use nearest_clusters::{
    NearestClusters, clusters_per_neighborhood, nearest_clusters, nearest_clusters_batch,
};
pub use relative::relative_features;
pub use selection::{KeepReason, Selection, SelectionOptions, select, select_grid};

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
