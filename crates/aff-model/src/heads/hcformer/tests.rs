//! The head against `fixtures/hcformer-nano`: PyTorch in float64, written from the formulas (see its `generate.py`).

use aff_geometry::Canvas;
use candle_core::{DType, Device, Tensor, Var};

use super::HcFormerHead;
use crate::backbone::{Downsampled, StageOutput};
use crate::config::HcFormerConfig;
use crate::golden::{Golden, builder};
use crate::heads::{Auxiliary, HeadSizes};
use crate::network::Features;
use crate::tokens::{TokenLayout, Tokens};

const DIMS: [usize; 4] = [8, 12, 16, 20];

fn config() -> HcFormerConfig {
    HcFormerConfig {
        hidden_dim: 16,
        mask_feature_size: 12,
        num_attention_heads: 4,
        encoder_layers: 1,
        encoder_feedforward_dim: 24,
        decoder_layers: 2,
        decoder_feedforward_dim: 20,
        assignment_dim: 10,
        assignment_neighbors: 9,
    }
}

/// The tokens of the golden file, with the variables of their features by name.
fn features(golden: &Golden) -> (Features, Vec<(String, Var)>) {
    let canvas = Canvas::new(10, 8).unwrap();
    let mut vars = Vec::new();
    let mut var = |name: String| {
        let var = golden.var(&name);
        let tensor = var.as_tensor().clone();
        vars.push((name, var));
        tensor
    };
    let stages = [0, 1, 2, 3].map(|stage| {
        let positions = |kind| golden.positions(&format!("{kind}{stage}.pos"), canvas);
        let layout = TokenLayout::in_cluster_order(positions("stage"));
        let tokens = Tokens::new(var(format!("stage{stage}.feat")), layout).unwrap();
        let downsampled = (stage < 3).then(|| Downsampled {
            tokens: Tokens::new(
                var(format!("down{stage}.feat")),
                TokenLayout::raster(positions("down")).unwrap(),
            )
            .unwrap(),
            scores: Tensor::zeros((2, tokens.count()), DType::F32, &Device::Cpu).unwrap(),
            selections: Vec::new(),
        });
        StageOutput { tokens, downsampled }
    });
    let normed = |stage: usize| stages[stage].tokens.clone();
    let res5 = normed(3).with_feat(var("res5.feat".to_owned())).unwrap();
    let levels = Some([normed(0), normed(1), normed(2), res5]);
    (Features { stages, levels }, vars)
}

#[test]
fn predictions_and_gradients_are_those_of_an_independent_calculation() {
    let golden = Golden::read("hcformer-nano/expected.safetensors");
    let parameters = golden.vars("parameter.");
    let sizes = HeadSizes { embed_dims: &DIMS, queries: 5, classes: 3 };
    let head = HcFormerHead::new(&config(), sizes, &builder(&parameters)).unwrap();
    let (features, inputs) = features(&golden);

    let output = head.predict(&features, Auxiliary::Keep).unwrap();
    assert_eq!(output.auxiliary.len(), 2);
    let mut loss = output.regularization.unwrap();
    golden.assert_close("regularization", &loss, 1e-6);
    for (layer, prediction) in output.auxiliary.iter().chain([&output.prediction]).enumerate() {
        for (kind, tensor) in [("logits", &prediction.class_logits), ("masks", &prediction.mask_logits)] {
            let name = format!("pred_{kind}{layer}");
            golden.assert_close(&name, tensor, 1e-5);
            let product = (tensor * golden.get(&format!("grad_{name}"))).unwrap();
            loss = (loss + product.sum_all().unwrap()).unwrap();
        }
    }
    let gradients = loss.backward().unwrap();
    let mut compared = 0;
    for (name, var) in parameters.iter().chain(&inputs) {
        // The features of the last stage before its norm are read by nothing.
        let Some(gradient) = gradients.get(var) else {
            assert_eq!(name, "stage3.feat");
            continue;
        };
        // The bias of the keys shifts all logits of a query alike: its gradient is zero up to rounding.
        let tolerance = if name.ends_with("in_proj_bias") { 1e-3 } else { 1e-4 };
        golden.assert_gradient(name, gradient, tolerance);
        compared += 1;
    }
    assert_eq!(compared, golden.names("grad.").len());
}
