//! Deformable gather: equal to its twin, to finite differences, to itself on any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use aff_geometry::Canvas;
use aff_ops::deformable_gather::reference;
use aff_ops::{CanvasLookup, DeformableGather, Positions, deformable_gather};
use candle_core::{DType, Device, Result, Tensor, Var};
use common::{assert_finite_differences, assert_same, clustered, on_threads, vars};
use proptest::prelude::*;

struct Levels {
    lookups: Vec<CanvasLookup>,
    batch: usize,
    /// Sides of the canvas.
    sides: [u32; 2],
}

impl Levels {
    fn new(batch: usize, sides: [u32; 2], counts: &[usize]) -> Self {
        let all = (sides[0] * sides[1]) as usize;
        let lookup = |&count: &usize| {
            CanvasLookup::new(&clustered(batch, count.clamp(1, all), sides, 4, 1).positions, 4).unwrap()
        };
        Self { lookups: counts.iter().map(lookup).collect(), batch, sides }
    }

    /// Inputs; the first three are raw, see [`Self::named`].
    fn inputs(
        &self,
        queries: usize,
        heads: usize,
        width: usize,
        points: usize,
        seed: u64,
        dtype: DType,
    ) -> Vec<(&'static str, Var)> {
        let tokens = self.lookups.iter().map(CanvasLookup::tokens).sum();
        let levels = self.lookups.len();
        let shapes = [
            ("value", vec![self.batch, tokens, heads * width]),
            ("locations", vec![self.batch, queries, heads, levels, points, 2]),
            ("weights", vec![self.batch, queries, heads, levels, points]),
            ("power", vec![1]),
        ];
        vars(&shapes, seed, dtype)
    }

    /// Locations between -1 and 1 become points of the canvas and a little beyond, the power becomes about 2.
    fn with<R>(&self, inputs: &[Tensor], run: impl Fn(&DeformableGather<'_>) -> Result<R>) -> Result<R> {
        let half: Vec<f64> = self.sides.iter().map(|&side| f64::from(side) * 0.5).collect();
        let half = Tensor::new(half, inputs[1].device())?.to_dtype(inputs[1].dtype())?;
        let locations = inputs[1].affine(1.1, 0.97)?.broadcast_mul(&half)?;
        run(&DeformableGather {
            value: &inputs[0],
            locations: &locations,
            weights: &inputs[2],
            power: &inputs[3].affine(0.3, 2.0)?,
        })
    }

    fn fast(&self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        |inputs| self.with(inputs, |named| deformable_gather(named, &self.lookups))
    }

    fn slow(&self) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        |inputs| self.with(inputs, |named| reference::deformable_gather(named, &self.lookups))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_the_twin(
        batch in 1..3_usize, width in 1..12_u32, height in 1..12_u32, counts in prop::collection::vec(1..60_usize, 1..4),
        queries in 1..20_usize, heads in 1..4_usize, channels in 1..40_usize, points in 1..5_usize, seed: u64,
    ) {
        let levels = Levels::new(batch, [width, height], &counts);
        let inputs = levels.inputs(queries, heads, channels, points, seed, DType::F64);
        // Where a location nearly meets a token, one of the inverse distances is huge.
        assert_same(&inputs, levels.fast(), levels.slow(), 1e-6);
        // Gradients of locations close to a token differ in f32, so that only the outputs are compared.
        let inputs: Vec<Tensor> = inputs.iter().map(|(_, var)| var.to_dtype(DType::F32).unwrap()).collect();
        common::assert_close("out", &levels.fast()(&inputs).unwrap(), &levels.slow()(&inputs).unwrap(), 2e-4);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let levels = Levels::new(2, [9, 7], &[3, 20, 63]);
    assert_finite_differences(&levels.inputs(5, 2, 3, 2, 1, DType::F64), levels.fast());
}

#[test]
fn threads_change_nothing() {
    let levels = Levels::new(2, [20, 16], &[20, 80, 320]);
    let vars = levels.inputs(100, 4, 16, 4, 1, DType::F32);
    let tensors: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
    let runs = on_threads(|| {
        let out = levels.fast()(&tensors).unwrap();
        let gradients = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let all = vars.iter().map(|(_, var)| gradients.get(var).unwrap());
        std::iter::once(&out)
            .chain(all)
            .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
            .collect::<Vec<Vec<f32>>>()
    });
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));
}

/// The kernel rounds a location on the host, the twin where the tensor is.
#[test]
fn locations_between_cells_round_half_to_even_and_stay_on_the_canvas() {
    let lookup = CanvasLookup::new(&Positions::full_grid(2, Canvas::new(7, 5).unwrap()), 1).unwrap();
    let steps = |from: i32, to: i32| (from..to).map(|step| f64::from(step) * 0.25);
    let locations: Vec<f64> = steps(-12, 40).flat_map(|y| steps(-12, 44).flat_map(move |x| [x, y])).collect();
    let queries = locations.len() / 2;
    let both = [locations.clone(), locations.clone()].concat();
    let cpu = &Device::Cpu;
    for dtype in [DType::F32, DType::F64] {
        let tokens: Vec<f64> = (0..70).map(f64::from).collect();
        let inputs = DeformableGather {
            value: &Tensor::from_vec(tokens, (2, 35, 1), cpu).unwrap().to_dtype(dtype).unwrap(),
            locations: &Tensor::from_slice(&both, (2, queries, 1, 1, 1, 2), cpu)
                .unwrap()
                .to_dtype(dtype)
                .unwrap(),
            weights: &Tensor::ones((2, queries, 1, 1, 1), dtype, cpu).unwrap(),
            power: &Tensor::ones(1, dtype, cpu).unwrap(),
        };
        let levels = [lookup.clone()];
        for run in [deformable_gather, reference::deformable_gather] {
            let out = run(&inputs, &levels).unwrap().to_dtype(DType::F64).unwrap();
            let out = out.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (at, out) in out.into_iter().enumerate() {
                let (x, y) = (both[2 * at], both[2 * at + 1]);
                let cell = |c: f64, size: f64| c.round_ties_even().clamp(0.0, size - 1.0);
                let image = (at / queries) as f64 * 35.0;
                let expected = image + cell(y, 5.0) * 7.0 + cell(x, 7.0);
                assert!((out - expected).abs() < 1e-4, "{x}, {y}: {out}, expected {expected}");
            }
        }
    }
}

#[test]
fn the_twin_makes_nan_of_locations_that_are_nowhere() {
    let levels = Levels::new(1, [4, 4], &[8]);
    let inputs = levels.inputs(2, 1, 3, 1, 1, DType::F32);
    let mut inputs: Vec<Tensor> = inputs.iter().map(|(_, var)| var.as_tensor().detach()).collect();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        inputs[1] = (inputs[1].zeros_like().unwrap() + bad).unwrap();
        let out = levels.slow()(&inputs).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(out.iter().all(|value| value.is_nan()), "{bad}: {out:?}");
    }
}

#[test]
fn locations_that_are_nowhere_are_refused() {
    let levels = Levels::new(1, [4, 4], &[8]);
    let inputs = levels.inputs(2, 1, 3, 1, 1, DType::F32);
    let mut inputs: Vec<Tensor> = inputs.iter().map(|(_, var)| var.as_tensor().detach()).collect();
    for bad in [f64::NAN, f64::INFINITY] {
        inputs[1] = (inputs[1].zeros_like().unwrap() + bad).unwrap();
        let error = levels.fast()(&inputs).unwrap_err().to_string();
        assert!(error.contains("`locations` has NaN or infinite"), "{error}");
    }
}
