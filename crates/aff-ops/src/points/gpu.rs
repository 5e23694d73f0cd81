//! Geometry as kernels read it, uploaded once.

use candle_core::{Result, bail};

use super::{EMPTY, Positions, Slots};
use crate::kernel::gpu::{Gpu, Kept, int};

/// Coordinates are packed in pairs of 16 bits.
const SIDE: u32 = 1 << 16;

impl Positions {
    /// Whether kernels can read the positions: the sides of their canvas are at most 65536.
    pub(crate) fn fits_gpu(&self) -> bool {
        self.canvas().width().max(self.canvas().height()) <= SIDE
    }

    /// `[B,N]`: x | y << 16.
    pub(crate) fn packed(&self) -> Result<Vec<u32>> {
        if !self.fits_gpu() {
            bail!("positions on a GPU: the canvas is {:?}; expected sides of at most {SIDE}", self.canvas())
        }
        Ok(self.as_slice().iter().map(|&[x, y]| x as u32 | (y as u32) << 16).collect())
    }

    /// [`Self::packed`], uploaded once.
    pub(crate) fn on_gpu<G: Gpu>(&self, gpu: &G) -> Result<G::Memory> {
        let upload = || gpu.share(gpu.upload(&self.packed()?)?);
        Ok(gpu.shared(&self.kept.once(gpu.id(), "positions", upload)?))
    }
}

/// The neighbours of every query, and for every key the slots that hold it.
pub(crate) struct GpuSlots<M> {
    /// `[B,Q,M]`, [`EMPTY`] for slots without a key.
    pub(crate) keys: M,
    /// Where the slots of each key start, `[B*N + 1]`.
    pub(crate) starts: M,
    /// Slots by key, each key's in their order.
    pub(crate) slots: M,
}

impl<M> GpuSlots<M> {
    /// Those of a neighbourhood, uploaded once.
    pub(crate) fn of<G: Gpu<Memory = M>>(gpu: &G, neighborhood: &impl Slots, kept: &Kept) -> Result<Self> {
        let upload = || {
            let keys = neighborhood.all_keys_of();
            int(keys.len())?;
            let per_image = neighborhood.queries() * neighborhood.slots();
            let row = |(slot, key): (usize, &u32)| {
                (*key != EMPTY).then_some(slot / per_image * neighborhood.keys() + *key as usize)
            };
            let rows: Vec<Option<usize>> = keys.iter().enumerate().map(row).collect();
            let (starts, slots) = inverse(&rows, neighborhood.batch() * neighborhood.keys());
            let share = |words: &[u32]| gpu.share(gpu.upload(words)?);
            Ok([share(&keys)?, share(&starts)?, share(&slots)?])
        };
        let [keys, starts, slots] = kept.once(gpu.id(), "slots", upload)?;
        Ok(Self { keys: gpu.shared(&keys), starts: gpu.shared(&starts), slots: gpu.shared(&slots) })
    }
}

/// For each of `count` rows, who has it: where a row's start, and all of them, row by row, in their order.
pub(crate) fn inverse(rows: &[Option<usize>], count: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0_u32; count + 1];
    for &row in rows.iter().flatten() {
        starts[row + 1] += 1;
    }
    for row in 0..count {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut members = vec![0; starts[count] as usize];
    for (member, row) in rows.iter().enumerate() {
        if let Some(row) = *row {
            members[next[row] as usize] = member as u32;
            next[row] += 1;
        }
    }
    (starts, members)
}
