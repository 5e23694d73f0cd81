//! The model card of a converted checkpoint.

use std::path::Path;

use aff_model::config::ModelConfig;

use crate::Checkpoint;

pub(super) fn model_card(source: &Path, checkpoint: &Checkpoint, config: &ModelConfig) -> String {
    let file =
        source.file_name().map_or_else(|| "unknown".into(), |name| name.to_string_lossy().into_owned());
    let task = config.architecture();
    let pipeline = task.pipeline_tag();
    let backbone = &config.backbone_config;
    format!(
        "---\nlicense: other\npipeline_tag: {pipeline}\ntags: [autofocusformer]\n---\n\n\
         # AutoFocusFormer, {task}\n\n\
         Converted from `{file}` (SHA-256 `{sha256}`), a checkpoint of the published implementation of AutoFocusFormer \
         (CVPR 2023, arXiv 2304.12406). Tensor names and values are those of the checkpoint, as 32-bit floats.\n\n\
         * widths {dims:?}, depths {depths:?}, heads {heads:?}\n\
         * clusters of {m}, neighbourhoods of {nbhd:?}, downsampling to {rate}\n\
         * {classes} classes\n\n\
         ## Licence\n\n\
         The weights are under the licence of the checkpoint that they were converted from; conversion changes nothing \
         about it. Published weights are under the terms of the AutoFocusFormer release: read them before use.\n",
        sha256 = checkpoint.sha256,
        dims = backbone.embed_dims,
        depths = backbone.depths,
        heads = backbone.num_heads,
        m = backbone.cluster_size,
        nbhd = backbone.neighborhood_sizes,
        rate = backbone.downsample_rate,
        classes = config.num_classes(),
    )
}
