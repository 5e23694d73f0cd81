//! `aff info`: what a model is and costs.

use std::path::PathBuf;

use anyhow::Result;
use autofocusformer::models::complexity::InputSize;
use autofocusformer::{BuiltInModel, TensorOptions};
use clap::builder::RangedU64ValueParser;

use crate::model_args::load;
use crate::terminal::print;

/// Print what a model is: architecture, parameters, operations at a size, classes
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Folder of the model, name of one in this program or on the Hugging Face hub, or random:NAME for a published one with random
    /// weights [default: the first model in this program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The same, as the other commands take it
    #[arg(long = "model", value_name = "MODEL", conflicts_with = "model")]
    named: Option<PathBuf>,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, default_value = "main")]
    revision: String,
    /// Height and width of the input that operations are counted for
    #[arg(long, default_value_t = 512, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    size: usize,
}

impl Info {
    /// Prints the table.
    ///
    /// # Errors
    /// If the model cannot be loaded, or nobody reads the table.
    pub fn run(&self) -> Result<()> {
        let name = self.model.as_deref().or(self.named.as_deref());
        let model = load(name, &self.revision, &TensorOptions::default())?;
        let config = model.config();
        let backbone = &config.backbone_config;
        let kind = config.architecture();
        print(format_args!("model          {}", model.path().display()))?;
        print(format_args!("kind           {kind}, {} classes", config.num_classes()))?;
        print(format_args!("parameters     {}", model.num_parameters()?))?;
        print(format_args!("widths         {:?}", backbone.embed_dims))?;
        print(format_args!("depths         {:?}", backbone.depths))?;
        print(format_args!("heads          {:?}", backbone.num_heads))?;
        print(format_args!(
            "clusters       {}, neighbourhoods {:?}",
            backbone.cluster_size, backbone.neighborhood_sizes
        ))?;
        print(format_args!(
            "downsampling   to {}, importance weight {}",
            backbone.downsample_rate, backbone.alpha
        ))?;
        if let Some(segmentation) = &config.segmentation_config {
            print(format_args!(
                "task           {:?}, {} queries",
                segmentation.task,
                config.num_queries.unwrap_or(0)
            ))?;
        }
        let report = model.network().complexity(InputSize { height: self.size, width: self.size });
        print(format_args!("operations     at {0} x {0}, in 10^9 multiply-adds", self.size))?;
        for (name, macs) in &report.parts {
            print(format_args!(
                "  {:<24} {:8.2} (published count {:8.2})",
                name,
                giga(macs.executed),
                giga(macs.published)
            ))?;
        }
        print(format_args!(
            "  {:<24} {:8.2} (published count {:8.2})",
            "all",
            giga(report.total().executed),
            giga(report.total().published)
        ))?;
        let named = model.path().to_str().and_then(BuiltInModel::named);
        let licence = match named {
            Some(model) => model.licence(),
            None => "see README.md in the model's folder",
        };
        print(format_args!("licence        of the weights: {licence}"))?;
        Ok(())
    }
}

fn giga(macs: u64) -> f64 {
    macs as f64 / 1e9
}
