//! `aff info`: what a model is and costs.

use std::path::PathBuf;

use anyhow::Result;
use autofocusformer::models::complexity::{InputSize, complexity};
use autofocusformer::models::config::Architecture;
use autofocusformer::{Device, Place};

use crate::model_args::load;

/// Print what a model is: architecture, parameters, operations at a size, classes
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Folder of the model, its name on the Hugging Face hub, or random:NAME for a published one with random weights
    /// [default: the model in this program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, default_value = "main")]
    revision: String,
    /// Height and width of the input that operations are counted for
    #[arg(long, default_value_t = 512)]
    size: usize,
}

impl Info {
    /// Prints the table.
    ///
    /// # Errors
    /// If the model cannot be loaded.
    pub fn run(&self) -> Result<()> {
        let model = load(self.model.as_deref(), &self.revision, &Place::from(&Device::Cpu))?;
        let config = model.config();
        let backbone = &config.backbone_config;
        let kind = match config.architecture() {
            Architecture::ImageClassification => "image classification",
            Architecture::UniversalSegmentation => "segmentation",
        };
        println!("model          {}", model.path().display());
        println!("kind           {kind}, {} classes", config.num_classes());
        println!("parameters     {}", model.num_parameters()?);
        println!("widths         {:?}", backbone.embed_dims);
        println!("depths         {:?}", backbone.depths);
        println!("heads          {:?}", backbone.num_heads);
        println!(
            "clusters       {}, neighbourhoods {:?}",
            backbone.cluster_size, backbone.neighborhood_sizes
        );
        println!("downsampling   to {}, importance weight {}", backbone.downsample_rate, backbone.alpha);
        if let Some(segmentation) = &config.segmentation_config {
            println!("task           {:?}, {} queries", segmentation.task, config.num_queries.unwrap_or(0));
        }
        let report = complexity(config, InputSize { height: self.size, width: self.size });
        println!("operations     at {0} x {0}, in 10^9 multiply-adds", self.size);
        for (name, macs) in &report.parts {
            println!(
                "  {:<24} {:8.2} (published count {:8.2})",
                name,
                giga(macs.executed),
                giga(macs.published)
            );
        }
        println!(
            "  {:<24} {:8.2} (published count {:8.2})",
            "all",
            giga(report.total().executed),
            giga(report.total().published)
        );
        let licence = match &self.model {
            None => "CC BY-NC 4.0, as CamVid: research and personal use, no commercial use",
            Some(_) => "see README.md in the model's folder",
        };
        println!("licence        of the weights: {licence}");
        Ok(())
    }
}

fn giga(macs: u64) -> f64 {
    macs as f64 / 1e9
}
