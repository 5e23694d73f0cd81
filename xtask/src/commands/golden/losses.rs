//! Overlaps, matching and losses.

use std::collections::BTreeSet;

use aff_model::boxes::overlap;
use aff_model::{BoxOutput, BoxPrediction};
use aff_train::losses::{BoxCriterion, ImageBoxes, LossOptions};
use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor, Var};

use super::File;
use super::deviations::{Group, Kind};

/// What the first of two stages proposes goes by this instead of a layer's number.
const PROPOSALS: &str = "_enc";

/// Compares every case of the file.
pub(super) fn compare(golden: &File, deviations: &mut Group<'_>) -> Result<()> {
    compare_overlaps(golden, deviations)?;
    let cases: BTreeSet<&str> = golden
        .tensors
        .keys()
        .filter_map(|name| Some(name.split_once(".pred_logits")?.0))
        .filter(|case| !case.ends_with(".grad"))
        .collect();
    ensure!(!cases.is_empty(), "{}: has no case", golden.path.display());
    cases.into_iter().try_for_each(|case| Case::read(golden, case)?.compare(deviations))
}

fn compare_overlaps(golden: &File, deviations: &mut Group<'_>) -> Result<()> {
    let (a, b) = (boxes(golden.get("pairs.a")?)?, boxes(golden.get("pairs.b")?)?);
    let found: Vec<_> = a.into_iter().zip(b).map(|(a, b)| overlap(a, b)).collect();
    for (name, values) in [
        ("pairs.iou", found.iter().map(|found| found.iou).collect::<Vec<f64>>()),
        ("pairs.giou", found.iter().map(|found| found.generalized_iou).collect()),
    ] {
        deviations.values(Kind::Overlaps, name, &Tensor::new(values, &Device::Cpu)?, golden.get(name)?)?;
    }
    Ok(())
}

/// Rows of four numbers; an empty tensor has none.
fn boxes(tensor: &Tensor) -> Result<Vec<[f64; 4]>> {
    let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(values.chunks_exact(4).map(|sides| [sides[0], sides[1], sides[2], sides[3]]).collect())
}

/// A batch with its predictions and targets.
struct Case<'a> {
    golden: &'a File,
    name: &'a str,
    /// Logits and boxes of each layer, and of the proposals at the end if there are any.
    layers: Vec<(String, [Var; 2])>,
    targets: Vec<ImageBoxes>,
}

impl<'a> Case<'a> {
    fn read(golden: &'a File, name: &'a str) -> Result<Self> {
        let has = |layer: &String| golden.tensors.contains_key(&format!("{name}.pred_logits{layer}"));
        let numbers = (0..).map(|layer: usize| layer.to_string()).take_while(has);
        let names: Vec<String> = numbers.chain(Some(PROPOSALS.to_owned()).filter(has)).collect();
        let mut layers = Vec::new();
        for layer in names {
            let var = |what: &str| {
                let tensor = golden.get(&format!("{name}.pred_{what}{layer}"))?;
                anyhow::Ok(Var::from_tensor(tensor)?)
            };
            let vars = [var("logits")?, var("boxes")?];
            layers.push((layer, vars));
        }
        ensure!(layers.first().is_some_and(|(layer, _)| layer != PROPOSALS), "{name}: has no decoder layer");
        let target = |image: usize| {
            let classes = golden.integers(&format!("{name}.labels.{image}"))?;
            let classes = classes.into_iter().map(u32::try_from).collect::<Result<_, _>>()?;
            anyhow::Ok(ImageBoxes::new(classes, boxes(golden.get(&format!("{name}.boxes.{image}"))?)?)?)
        };
        let targets = (0..layers[0].1[0].dims()[0]).map(target).collect::<Result<_>>()?;
        Ok(Self { golden, name, layers, targets })
    }

    fn compare(&self, deviations: &mut Group<'_>) -> Result<()> {
        let criterion = BoxCriterion::new(LossOptions::default());
        let normalizer = self.targets.iter().map(|image| image.boxes().len()).sum::<usize>().max(1) as f64;
        for (layer, vars) in &self.layers {
            let targets = self.targets_of(layer)?;
            self.compare_costs(&criterion, (layer, vars), &targets, deviations)?;
            let found = criterion.layer(&prediction(vars), &targets, normalizer)?;
            for (what, loss) in [("ce", &found.class), ("bbox", &found.l1), ("giou", &found.giou)] {
                let name = format!("{}.loss_{what}{layer}", self.name);
                deviations.values(Kind::Losses, &name, &loss.reshape(1)?, self.golden.get(&name)?)?;
            }
            for (image, matches) in found.matches.iter().enumerate() {
                let name = format!("{}.match{layer}.{image}", self.name);
                let pairs = self.golden.integers(&name)?;
                let expected: BTreeSet<_> =
                    pairs.chunks_exact(2).map(|pair| (pair[0] as usize, pair[1] as usize)).collect();
                let found = matches.iter().map(|matched| (matched.query, matched.target)).collect();
                deviations.same(Kind::Matching, &name, &found, &expected);
            }
        }
        self.compare_total(&criterion, normalizer, deviations)
    }

    /// Every object is of class 0 for the proposals.
    fn targets_of(&self, layer: &str) -> Result<Vec<ImageBoxes>> {
        if layer != PROPOSALS {
            return Ok(self.targets.clone());
        }
        let of_one_class =
            |image: &ImageBoxes| Ok(ImageBoxes::new(vec![0; image.classes().len()], image.boxes().to_vec())?);
        self.targets.iter().map(of_one_class).collect()
    }

    fn compare_costs(
        &self,
        criterion: &BoxCriterion,
        (layer, vars): (&str, &[Var; 2]),
        targets: &[ImageBoxes],
        deviations: &mut Group<'_>,
    ) -> Result<()> {
        let queries = vars[0].dims()[1];
        for (image, costs) in criterion.costs(&prediction(vars), targets)?.into_iter().enumerate() {
            let name = format!("{}.cost{layer}.{image}", self.name);
            let costs = Tensor::from_vec(costs, (targets[image].boxes().len(), queries), &Device::Cpu)?;
            deviations.values(Kind::Costs, &name, &costs.t()?, self.golden.get(&name)?)?;
        }
        Ok(())
    }

    fn compare_total(
        &self,
        criterion: &BoxCriterion,
        normalizer: f64,
        deviations: &mut Group<'_>,
    ) -> Result<()> {
        let of = |is_wanted: fn(&str) -> bool| {
            self.layers.iter().filter(move |(layer, _)| is_wanted(layer)).map(|(_, vars)| prediction(vars))
        };
        let output =
            BoxOutput::new(of(|layer| layer != PROPOSALS).collect(), of(|layer| layer == PROPOSALS).next())?;
        let total = criterion.losses(&output, &self.targets, normalizer)?.total()?;
        let name = format!("{}.loss", self.name);
        deviations.values(Kind::Losses, &name, &total.reshape(1)?, self.golden.get(&name)?)?;
        let gradients = total.backward()?;
        for (layer, vars) in &self.layers {
            for (what, var) in ["logits", "boxes"].into_iter().zip(vars) {
                let name = format!("{}.grad.pred_{what}{layer}", self.name);
                let found = gradients.get(var).cloned().map_or_else(|| var.zeros_like(), Ok)?;
                deviations.values(Kind::LossGradients, &name, &found, self.golden.get(&name)?)?;
            }
        }
        Ok(())
    }
}

fn prediction([logits, boxes]: &[Var; 2]) -> BoxPrediction {
    BoxPrediction { class_logits: logits.as_tensor().clone(), boxes: boxes.as_tensor().clone() }
}
