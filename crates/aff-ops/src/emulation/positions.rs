//! Kernels that no operator launches yet, since it makes its tensor on the host: the sine embedding, Shepard's weights, rows by index.

use candle_core::{Device, Tensor};

use super::SEEDS;
use super::common::{assert_close, clustered, random};
use crate::kernel::gpu::emulated::{Emulated, download, upload};
use crate::kernel::gpu::{Gpu, Launch, int};
use crate::points::GpuSlots;
use crate::{NeighborLists, Positions, ShepardInterpolation, sine_position_embedding};

fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn slices(positions: &Positions) -> Vec<&[[i32; 2]]> {
    positions.images().collect()
}

#[test]
fn sine_embeddings() {
    for (tokens, channels, seed) in [(53, 32, 1), (300, 8, 2), (1, 4, 3)] {
        let positions = clustered(2, tokens, [23, 19], 8, 2).positions;
        let gpu = Emulated { seed };
        let (batch, count) = (positions.batch(), channels / 4);
        let place = positions.on_gpu(&gpu).unwrap();
        let mut largest = gpu.words(2 * batch).unwrap();
        let launch = Launch::new("largest_positions", [batch, 1], 256).unwrap();
        launch.read(&place).write(&mut largest).value([tokens as u32]).on(&gpu).unwrap();
        let frequency = |i: usize| 10_000_f32.powf(-2.0 * i as f32 / (channels / 2) as f32);
        let frequencies = upload(&gpu, &(0..count).map(frequency).collect::<Vec<f32>>()).unwrap();
        let numbers = batch * tokens * channels;
        let mut out = gpu.floats(numbers).unwrap();
        Launch::new("sine_embedding", [numbers.div_ceil(256), 1], 256)
            .unwrap()
            .read(&place)
            .read(&largest)
            .read(&frequencies)
            .write(&mut out)
            .value([int(batch * tokens).unwrap()])
            .value([tokens as u32])
            .value([count as u32])
            .on(&gpu)
            .unwrap();
        let like = Tensor::zeros(1, candle_core::DType::F64, &Device::Cpu).unwrap();
        let expected = sine_position_embedding(&slices(&positions), channels, &like).unwrap();
        assert_close("embedding", &tensor(download(&out), expected.dims()), &expected, 2e-6);
    }
}

#[test]
fn shepard_weights() {
    let points = clustered(2, 37, [11, 9], 8, 2).positions;
    let queries = Positions::full_grid(2, points.canvas());
    let like = Tensor::zeros(1, candle_core::DType::F64, &Device::Cpu).unwrap();
    for (k, power, seed) in [(4, 3.0, 1), (1, 1.0, 2), (9, 0.5, 3)] {
        let shepard =
            ShepardInterpolation::new(&slices(&points), &slices(&queries), k, power, &like).unwrap();
        let neighbors = shepard.neighbors();
        let gpu = Emulated { seed };
        let slots = GpuSlots::of(&gpu, neighbors, &neighbors.kept).unwrap();
        let at: Vec<f32> = queries.as_slice().iter().flatten().map(|&c| c as f32).collect();
        let rows = 2 * queries.tokens();
        let mut weights = gpu.floats(rows * k).unwrap();
        Launch::new("shepard_weights", [rows.div_ceil(128), 1], 128)
            .unwrap()
            .read(&points.on_gpu(&gpu).unwrap())
            .read(&upload(&gpu, &at).unwrap())
            .read(&slots.keys)
            .write(&mut weights)
            .value([int(rows).unwrap()])
            .value([queries.tokens() as u32])
            .value([37])
            .value([k as u32])
            .value([(power as f32).to_bits()])
            .on(&gpu)
            .unwrap();
        // Interpolation of one number a point makes the CPU's weights visible.
        let weights = tensor(download(&weights), &[2, queries.tokens(), k]);
        let feat = random(&[2, 37, 3], 5, candle_core::DType::F64);
        let expected = shepard.interpolate(&feat).unwrap();
        let wide = weights.to_dtype(candle_core::DType::F64).unwrap();
        let found = crate::weighted_gather(&feat, &wide, neighbors).unwrap();
        assert_close("interpolation", &found, &expected, 1e-5);
    }
}

#[test]
fn rows_by_index_and_back() {
    let (batch, keys, queries, channels) = (2, 19, 23, 45);
    let indices: Vec<u32> = (0..batch * queries).map(|i| ((i * i + 5 * i) % 17) as u32).collect();
    let neighbors = NeighborLists::from_indices(batch, keys, 1, indices.clone()).unwrap();
    let x = random(&[batch, keys, channels], 5, candle_core::DType::F32);
    let rows: Vec<u32> =
        indices.iter().enumerate().map(|(i, &index)| (i / queries * keys) as u32 + index).collect();
    let rows = Tensor::new(rows, &Device::Cpu).unwrap();
    let expected = x.flatten(0, 1).unwrap().index_select(&rows, 0).unwrap();
    let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    for seed in SEEDS {
        let gpu = Emulated { seed };
        let slots = GpuSlots::of(&gpu, &neighbors, &neighbors.kept).unwrap();
        let mut out = gpu.floats(batch * queries * channels).unwrap();
        Launch::new("gather_rows", [(batch * queries).div_ceil(4), 1], 128)
            .unwrap()
            .read(&upload(&gpu, &values).unwrap())
            .read(&slots.keys)
            .write(&mut out)
            .value([(batch * queries) as u32])
            .value([queries as u32, keys as u32, 1, channels as u32])
            .on(&gpu)
            .unwrap();
        let found = tensor(download(&out), &[batch * queries, channels]);
        assert_close("rows", &found, &expected, 0.0);

        let mut back = gpu.floats(batch * keys * channels).unwrap();
        Launch::new("slot_rows", [(batch * keys).div_ceil(4), 1], 128)
            .unwrap()
            .read(&out)
            .read(&slots.starts)
            .read(&slots.slots)
            .write(&mut back)
            .value([(batch * keys) as u32])
            .value([channels as u32])
            .on(&gpu)
            .unwrap();
        let zeros = Tensor::zeros((batch * keys, channels), candle_core::DType::F32, &Device::Cpu).unwrap();
        let expected = zeros.index_add(&rows, &found, 0).unwrap();
        assert_close("gradient", &tensor(download(&back), &[batch * keys, channels]), &expected, 1e-6);
    }
}
