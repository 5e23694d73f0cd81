//! Sums of columns.

use candle_core::Result;

use super::{Gpu, Launch, int};

/// Rows that one block sums.
const CHUNK: usize = 512;

/// `sum_r values[r][c]` of `values [rows, columns]`, in an order that depends on the sizes alone.
pub(crate) fn column_sums<G: Gpu>(
    gpu: &G,
    values: &G::Memory,
    mut rows: usize,
    columns: usize,
) -> Result<G::Memory> {
    if rows == 0 {
        return gpu.zeroed_floats(columns);
    }
    let mut sums = None;
    loop {
        let chunks = rows.div_ceil(CHUNK);
        let mut next = gpu.floats(chunks * columns)?;
        Launch::new("column_sum", [columns.div_ceil(32), chunks], 256)?
            .read(sums.as_ref().unwrap_or(values))
            .write(&mut next)
            .value([int(rows)?])
            .value([int(columns)?])
            .on(gpu)?;
        if chunks == 1 {
            return Ok(next);
        }
        sums = Some(next);
        rows = chunks;
    }
}
