//! Cluster attention on a GPU: the lists that its kernels walk, and their launches. `kernels/attention.cu` tells how they work.

use std::collections::BTreeMap;

use candle_core::{Result, Shape, bail};

use super::{Operator, PADDING_LOGIT, PaddingSlots, Sizes};
use crate::kernel::gpu::{Gpu, GpuOperator, Input, Launch, THREADS, WARPS, column_sums, int};
use crate::points::KeyRuns;
use crate::{ClusterNeighborhood, Positions};

/// Queries of a tile, and keys of a block at most.
const TILE: usize = 8;
/// Marks the entries of padding slots.
const PADDING: u32 = 1 << 16;

/// Kernels for one head width.
struct Kernels {
    forward: &'static str,
    query_gradients: &'static str,
    key_gradients: &'static str,
}

/// The kernels for heads of this width, if there are any.
fn kernels(width: usize) -> Option<Kernels> {
    let [forward, query_gradients, key_gradients] = match width {
        16 => ["attention_16", "attention_query_gradients_16", "attention_key_gradients_16"],
        32 => ["attention_32", "attention_query_gradients_32", "attention_key_gradients_32"],
        64 => ["attention_64", "attention_query_gradients_64", "attention_key_gradients_64"],
        _ => return None,
    };
    Some(Kernels { forward, query_gradients, key_gradients })
}

/// Whether the kernels cover an attention.
pub(super) fn covers(sizes: Sizes, positions: &Positions) -> bool {
    kernels(sizes.channels / sizes.heads).is_some() && positions.fits_gpu()
}

/// Which blocks of keys a tile of queries sees, and which tiles see a block.
struct Lists {
    /// `[B*tiles + 1]`, then pairs.
    tile_starts: Vec<u32>,
    tile_entries: Vec<u32>,
    /// `[B*blocks + 1]`, then pairs.
    block_starts: Vec<u32>,
    block_entries: Vec<u32>,
    /// First key and number of keys of each block.
    blocks: Vec<u32>,
}

/// What is added to the logit of the padding slots, which count as one: see the blocks of the CPU.
fn padding_logit(neighborhood: &ClusterNeighborhood, padding: PaddingSlots) -> Option<f64> {
    match (padding, neighborhood.missing_slots()) {
        (PaddingSlots::LeftOut, _) | (_, 0) => None,
        (PaddingSlots::FirstToken, missing) => Some(PADDING_LOGIT + (missing as f64).ln()),
    }
}

impl Lists {
    fn new(neighborhood: &ClusterNeighborhood, with_padding: bool) -> Self {
        let (keys, queries) = (neighborhood.keys(), neighborhood.queries());
        let runs = neighborhood.key_runs();
        let cluster_size = match runs {
            KeyRuns::All => keys,
            KeyRuns::Clusters { cluster_size, .. } => cluster_size.min(keys),
        };
        let clusters = keys.div_ceil(cluster_size.max(1));
        // Blocks of a cluster lie one after another; those without a key are left out.
        let mut first_block = vec![0];
        let mut blocks: Vec<[u32; 2]> = Vec::new();
        for cluster in 0..clusters {
            let end = ((cluster + 1) * cluster_size).min(keys);
            for start in (cluster * cluster_size..end).step_by(TILE) {
                blocks.push([start as u32, TILE.min(end - start) as u32]);
            }
            first_block.push(blocks.len());
        }
        if with_padding {
            blocks.push([0, 1]);
        }
        let last = blocks.len().saturating_sub(1);
        let sees = |row: usize| -> Vec<usize> {
            match runs {
                KeyRuns::All => (0..blocks.len()).collect(),
                KeyRuns::Clusters { per_query, nearest, .. } => {
                    let nearest = &nearest[row * per_query..(row + 1) * per_query];
                    let of =
                        |&cluster: &u32| first_block[cluster as usize]..first_block[cluster as usize + 1];
                    let mut seen: Vec<usize> = nearest.iter().flat_map(of).collect();
                    if with_padding && nearest.contains(&(clusters as u32 - 1)) {
                        seen.push(last);
                    }
                    seen
                }
            }
        };
        let mut lists = Self {
            tile_starts: vec![0],
            tile_entries: Vec::new(),
            block_starts: vec![0],
            block_entries: Vec::new(),
            blocks: blocks.concat(),
        };
        for image in 0..neighborhood.batch() {
            let mut tiles_of = vec![Vec::new(); blocks.len()];
            for first in (0..queries).step_by(TILE) {
                let mut seen = BTreeMap::<usize, u32>::new();
                for query in first..(first + TILE).min(queries) {
                    for block in sees(image * queries + query) {
                        *seen.entry(block).or_default() |= 1 << (query - first);
                    }
                }
                for (block, bits) in seen {
                    let [start, count] = blocks[block];
                    let mark = if with_padding && block == last { PADDING } else { 0 };
                    lists.tile_entries.extend([start, bits | count << 8 | mark]);
                    tiles_of[block].extend([first as u32, bits]);
                }
                lists.tile_starts.push(lists.tile_entries.len() as u32 / 2);
            }
            for tiles in tiles_of {
                lists.block_entries.extend(tiles);
                lists.block_starts.push(lists.block_entries.len() as u32 / 2);
            }
        }
        lists
    }
}

/// [`Lists`] on a device.
struct GpuLists<M> {
    tile_starts: M,
    tile_entries: M,
    block_starts: M,
    block_entries: M,
    blocks: M,
    block_count: usize,
}

impl<M> GpuLists<M> {
    fn of<G: Gpu<Memory = M>>(
        gpu: &G,
        neighborhood: &ClusterNeighborhood,
        with_padding: bool,
    ) -> Result<Self> {
        let upload = || {
            let lists = Lists::new(neighborhood, with_padding);
            int(lists.tile_entries.len())?;
            let count = lists.blocks.len() / 2;
            let all = [
                lists.tile_starts,
                lists.tile_entries,
                lists.block_starts,
                lists.block_entries,
                lists.blocks,
            ];
            let shared: Vec<G::Shared> =
                all.iter().map(|words| gpu.share(gpu.upload(words)?)).collect::<Result<_>>()?;
            Ok((shared, count))
        };
        let what = if with_padding { "attention with padding" } else { "attention" };
        let (shared, block_count) = neighborhood.kept.once(gpu.id(), what, upload)?;
        let memory = |i: usize| gpu.shared(&shared[i]);
        Ok(Self {
            tile_starts: memory(0),
            tile_entries: memory(1),
            block_starts: memory(2),
            block_entries: memory(3),
            blocks: memory(4),
            block_count,
        })
    }
}

impl Operator {
    /// The fields of `AttentionSizes`.
    fn fields<M>(&self, lists: &GpuLists<M>) -> Result<[u32; 5]> {
        let Sizes { tokens, heads, .. } = self.sizes;
        let logit = padding_logit(&self.neighborhood, self.padding).unwrap_or(0.0) * std::f64::consts::LOG2_E;
        Ok([
            int(tokens)?,
            int(heads)?,
            int(tokens.div_ceil(TILE))?,
            int(lists.block_count)?,
            (logit as f32).to_bits(),
        ])
    }

    fn kernels(&self) -> Result<Kernels> {
        let width = self.sizes.channels / self.sizes.heads;
        match kernels(width) {
            Some(kernels) => Ok(kernels),
            None => bail!("cluster_attention: no kernel for heads of {width} channels"),
        }
    }

    /// The output, and the logarithm of the sum of each softmax, `[B,N,H]`.
    fn attend<G: Gpu>(
        &self,
        gpu: &G,
        [query, key_value, parameters]: &[Input<'_, G::Memory>; 3],
        lists: &GpuLists<G::Memory>,
    ) -> Result<(G::Memory, G::Memory)> {
        let Sizes { batch, tokens, channels, heads } = self.sizes;
        let mut out = gpu.floats(batch * tokens * channels)?;
        let mut log_sum = gpu.floats(batch * tokens * heads)?;
        let warps = tokens.div_ceil(TILE) * heads;
        Launch::new(self.kernels()?.forward, [warps.div_ceil(WARPS), batch], THREADS)?
            .read(query.memory)
            .read(key_value.memory)
            .read(parameters.memory)
            .read(&self.positions.on_gpu(gpu)?)
            .read(&lists.tile_starts)
            .read(&lists.tile_entries)
            .write(&mut out)
            .write(&mut log_sum)
            .value(self.fields(lists)?)
            .on(gpu)?;
        Ok((out, log_sum))
    }

    fn lists<G: Gpu>(&self, gpu: &G) -> Result<GpuLists<G::Memory>> {
        let with_padding = padding_logit(&self.neighborhood, self.padding).is_some();
        GpuLists::of(gpu, &self.neighborhood, with_padding)
    }
}

impl GpuOperator<3> for Operator {
    const NAME: &'static str = super::OPERATOR;

    fn forward<G: Gpu>(&self, gpu: &G, inputs: [Input<'_, G::Memory>; 3]) -> Result<(G::Memory, Shape)> {
        let (out, log_sum) = self.attend(gpu, &inputs, &self.lists(gpu)?)?;
        self.log_sum.once(gpu.id(), "logarithms of sums", || gpu.share(log_sum))?;
        Ok((out, inputs[0].shape.clone()))
    }

    fn backward<G: Gpu>(
        &self,
        gpu: &G,
        inputs: [Input<'_, G::Memory>; 3],
        out: &G::Memory,
        grad: &G::Memory,
    ) -> Result<[G::Memory; 3]> {
        let Sizes { batch, tokens, channels, heads } = self.sizes;
        let lists = self.lists(gpu)?;
        let log_sum = self
            .log_sum
            .once(gpu.id(), "logarithms of sums", || gpu.share(self.attend(gpu, &inputs, &lists)?.1))?;
        let log_sum = gpu.shared(&log_sum);
        let [query, key_value, parameters] = inputs.map(|input| input.memory);
        let place = self.positions.on_gpu(gpu)?;
        let kernels = self.kernels()?;
        let tiles = tokens.div_ceil(TILE);
        let columns = 6 * heads + 2 * channels;

        let mut grad_query = gpu.floats(batch * tokens * channels)?;
        let mut delta = gpu.floats(batch * tokens * heads)?;
        let mut parts = gpu.floats(batch * tiles * columns)?;
        Launch::new(kernels.query_gradients, [(tiles * heads).div_ceil(WARPS), batch], THREADS)?
            .read(query)
            .read(key_value)
            .read(parameters)
            .read(&place)
            .read(&lists.tile_starts)
            .read(&lists.tile_entries)
            .read(out)
            .read(&log_sum)
            .read(grad)
            .write(&mut grad_query)
            .write(&mut delta)
            .write(&mut parts)
            .value(self.fields(&lists)?)
            .on(gpu)?;

        let padding = usize::from(padding_logit(&self.neighborhood, self.padding).is_some());
        let warps = (lists.block_count - padding) * heads;
        let mut grad_key_value = gpu.floats(2 * batch * tokens * channels)?;
        Launch::new(kernels.key_gradients, [warps.div_ceil(WARPS), batch], THREADS)?
            .read(query)
            .read(key_value)
            .read(parameters)
            .read(&place)
            .read(&lists.block_starts)
            .read(&lists.block_entries)
            .read(&lists.blocks)
            .read(&log_sum)
            .read(&delta)
            .read(grad)
            .write(&mut grad_key_value)
            .value(self.fields(&lists)?)
            .value([int(padding)?])
            .on(gpu)?;
        Ok([grad_query, grad_key_value, column_sums(gpu, &parts, batch * tiles, columns)?])
    }
}
