//! Outputs and gradients of a variant.

use std::collections::BTreeMap;
use std::path::Path;

use aff_model::config::DeformableDetrConfig;
use aff_model::heads::HeadSizes;
use aff_model::heads::deformable_detr::DeformableDetrHead;
use aff_model::{TokenLayout, Tokens};
use anyhow::{Context, Result, ensure};
use autofocusformer::candle_nn::VarBuilder;
use autofocusformer::geometry::Canvas;
use autofocusformer::ops::Positions;
use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;

use super::File;
use super::deviations::{Group, Kind};

/// A config file.
#[derive(Debug, Deserialize)]
struct Config {
    hidden_dim: usize,
    nheads: usize,
    points: usize,
    encoder_layers: usize,
    encoder_ffn: usize,
    decoder_layers: usize,
    decoder_ffn: usize,
    num_queries: usize,
    num_classes: usize,
    in_channels: BTreeMap<String, usize>,
    box_refine: bool,
    two_stage: bool,
    canvas: CanvasSize,
}

#[derive(Debug, Deserialize)]
struct CanvasSize {
    width: u32,
    height: u32,
}

impl Config {
    fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{}: cannot read it", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}: not such a file", path.display()))
    }

    fn head(&self) -> DeformableDetrConfig {
        let mut head = DeformableDetrConfig::default();
        (head.hidden_dim, head.num_attention_heads, head.num_sampling_points) =
            (self.hidden_dim, self.nheads, self.points);
        (head.encoder_layers, head.encoder_feedforward_dim) = (self.encoder_layers, self.encoder_ffn);
        (head.decoder_layers, head.decoder_feedforward_dim) = (self.decoder_layers, self.decoder_ffn);
        (head.with_box_refine, head.two_stage) = (self.box_refine, self.two_stage);
        head
    }
}

/// What gradients are taken of, by name.
type Variables = Vec<(String, Var)>;

/// Compares a variant, whose files end in `suffix`.
pub(super) fn compare(folder: &Path, suffix: &str, deviations: &mut Group<'_>) -> Result<()> {
    let config = Config::read(&folder.join(format!("config{suffix}.json")))?;
    let model = File::read(&folder.join(format!("model{suffix}.safetensors")))?;
    let golden = File::read(&folder.join(format!("expected{suffix}.safetensors")))?;
    let mut vars = Variables::new();
    for (name, tensor) in &model.tensors {
        vars.push((name.clone(), Var::from_tensor(tensor)?));
    }
    vars.sort_by(|a, b| a.0.cmp(&b.0));
    let head = head(&config, &vars)?;
    let [res5, res4, res3] = [5, 4, 3].map(|level| tokens(&config, &golden, level, &mut vars));
    let trace = head.trace([&res5?, &res4?, &res3?])?;

    for (level, memory) in trace.memory.iter().enumerate() {
        let name = format!("memory{level}");
        deviations.values(Kind::Memory, &name, memory, golden.get(&name)?)?;
    }
    deviations.values(Kind::References, "reference", &trace.reference, golden.get("reference")?)?;
    for (layer, hidden) in trace.hidden.iter().enumerate() {
        let name = format!("hidden{layer}");
        deviations.values(Kind::Hidden, &name, hidden, golden.get(&name)?)?;
    }
    if let Some(proposals) = &trace.proposals {
        let chosen: Vec<i32> = proposals.chosen.iter().flatten().map(|&token| token as i32).collect();
        deviations.same(Kind::Choice, "topk", &chosen, &golden.integers("topk")?);
    }
    let layers =
        trace.predictions.iter().enumerate().map(|(layer, prediction)| (layer.to_string(), prediction));
    let proposals = trace.proposals.iter().map(|proposals| ("_enc".to_owned(), &proposals.prediction));
    let mut sum: Option<Tensor> = None;
    for (layer, prediction) in layers.chain(proposals) {
        for (kind, what, tensor) in
            [(Kind::Logits, "logits", &prediction.class_logits), (Kind::Boxes, "boxes", &prediction.boxes)]
        {
            let name = format!("pred_{what}{layer}");
            deviations.values(kind, &name, tensor, golden.get(&name)?)?;
            let product = (tensor * golden.get(&format!("grad_{name}"))?)?.sum_all()?;
            sum = Some(match sum {
                Some(sum) => (sum + product)?,
                None => product,
            });
        }
    }
    let gradients = sum.context("the head has no layers")?.backward()?;
    for (name, var) in &vars {
        let found = gradients.get(var).cloned().map_or_else(|| var.zeros_like(), Ok)?;
        deviations.gradient(Kind::Gradients, name, &found, golden.get(&format!("grad.{name}"))?)?;
    }
    let stored = golden.tensors.keys().filter(|name| name.starts_with("grad.")).count();
    ensure!(
        stored == vars.len(),
        "{stored} gradients are stored; the head has {} parameters and inputs",
        vars.len()
    );
    Ok(())
}

fn head(config: &Config, vars: &Variables) -> Result<DeformableDetrHead> {
    let width = |level: &str| {
        config.in_channels.get(level).copied().with_context(|| format!("in_channels has no `{level}`"))
    };
    // The head does not look at res2.
    let embed_dims = [1, width("res3")?, width("res4")?, width("res5")?];
    let sizes =
        HeadSizes { embed_dims: &embed_dims, queries: config.num_queries, classes: config.num_classes };
    let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Ok(DeformableDetrHead::new(&config.head(), sizes, &vb)?)
}

/// The tokens of a level, whose features become a variable.
fn tokens(config: &Config, golden: &File, level: usize, vars: &mut Variables) -> Result<Tokens> {
    let (name, positions) = (format!("res{level}.feat"), format!("res{level}.pos"));
    let feat = Var::from_tensor(golden.get(&name)?)?;
    let canvas = Canvas::new(config.canvas.width, config.canvas.height)?;
    let xy = golden.integers(&positions)?.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    let layout = TokenLayout::raster(Positions::new(xy, feat.dims()[0], canvas)?)?;
    let tokens = Tokens::new(feat.as_tensor().clone(), layout)?;
    vars.push((name, feat));
    Ok(tokens)
}
