//! Neighbours slot by slot: what neighbourhoods of every kind have in common.

use candle_core::{Device, Result, Tensor, bail};

/// Stands for a slot without a key. Neighbourhoods have fewer keys than this.
pub(crate) const EMPTY: u32 = u32::MAX;

/// M slots for each of Q queries of B images, each with one of N keys or empty.
pub(crate) trait Slots {
    fn batch(&self) -> usize;
    fn queries(&self) -> usize;
    fn keys(&self) -> usize;
    fn slots(&self) -> usize;

    /// Fills `keys` with the keys of all slots of a query, [`EMPTY`] for empty ones; `row` counts queries over all images.
    fn keys_of(&self, row: usize, keys: &mut Vec<u32>);

    /// The keys of all slots, `[B*Q*M]`.
    fn all_keys_of(&self) -> Vec<u32> {
        let mut all = Vec::new();
        let mut keys = Vec::new();
        for row in 0..self.batch() * self.queries() {
            self.keys_of(row, &mut keys);
            all.extend_from_slice(&keys);
        }
        all
    }

    /// The rows of `feat [B,N,C]` that the slots hold: `[B,Q,M,C]`. Empty slots hold key 0 of their image.
    fn gather(&self, feat: &Tensor) -> Result<Tensor> {
        let (batch, keys, channels) = feat.dims3()?;
        if batch.checked_mul(keys).is_none_or(|rows| rows > EMPTY as usize) {
            bail!("neighborhood: {batch} images of {keys} keys; expected fewer than 2^32 rows")
        }
        let per_image = (self.queries() * self.slots()).max(1);
        let row =
            |(slot, key): (usize, u32)| (slot / per_image * keys) as u32 + if key == EMPTY { 0 } else { key };
        let rows: Vec<u32> = self.all_keys_of().into_iter().enumerate().map(row).collect();
        let flat = feat.contiguous()?.reshape((batch * keys, channels))?;
        flat.index_select(&Tensor::new(rows, feat.device())?, 0)?.reshape((
            batch,
            self.queries(),
            self.slots(),
            channels,
        ))
    }

    /// `occupied` for slots with a key, `empty` for those without: `[B,Q,M]`.
    fn mark(&self, occupied: f32, empty: f32, device: &Device) -> Result<Tensor> {
        let mark = |key| if key == EMPTY { empty } else { occupied };
        let marks: Vec<f32> = self.all_keys_of().into_iter().map(mark).collect();
        Tensor::from_vec(marks, (self.batch(), self.queries(), self.slots()), device)
    }
}
