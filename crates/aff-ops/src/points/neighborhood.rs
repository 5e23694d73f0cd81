//! Neighbours of either kind.

use super::{ClusterNeighborhood, NeighborLists, Slots};

/// Who sees whom, for operators that take clusters and lists alike.
#[derive(Debug, Clone)]
pub enum Neighborhood {
    /// The members of the nearest clusters, or all keys.
    Clusters(ClusterNeighborhood),
    /// Listed neighbours.
    Lists(NeighborLists),
}

impl From<ClusterNeighborhood> for Neighborhood {
    fn from(clusters: ClusterNeighborhood) -> Self {
        Self::Clusters(clusters)
    }
}

impl From<NeighborLists> for Neighborhood {
    fn from(lists: NeighborLists) -> Self {
        Self::Lists(lists)
    }
}

impl Slots for Neighborhood {
    fn batch(&self) -> usize {
        match self {
            Self::Clusters(clusters) => clusters.batch(),
            Self::Lists(lists) => lists.batch(),
        }
    }

    fn queries(&self) -> usize {
        match self {
            Self::Clusters(clusters) => clusters.queries(),
            Self::Lists(lists) => lists.queries(),
        }
    }

    fn keys(&self) -> usize {
        match self {
            Self::Clusters(clusters) => clusters.keys(),
            Self::Lists(lists) => lists.keys(),
        }
    }

    fn slots(&self) -> usize {
        match self {
            Self::Clusters(clusters) => clusters.slots(),
            Self::Lists(lists) => lists.slots(),
        }
    }

    #[inline]
    fn keys_of(&self, row: usize, keys: &mut Vec<u32>) {
        match self {
            Self::Clusters(clusters) => clusters.keys_of(row, keys),
            Self::Lists(lists) => lists.keys_of(row, keys),
        }
    }
}
