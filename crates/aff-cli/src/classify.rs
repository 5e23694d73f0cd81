//! `aff classify`: the most probable classes of photos.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use autofocusformer::{Classifier, vision};

use crate::model_args::ModelArgs;

/// Name the most probable classes of photos
#[derive(Debug, clap::Args)]
pub struct Classify {
    /// Photos (JPEG, PNG, WebP, BMP or TIFF)
    #[arg(required = true, value_name = "PHOTO")]
    sources: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Classes a photo
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Print JSON, an array of classes for each photo on a line
    #[arg(long)]
    json: bool,
}

impl Classify {
    /// Classifies every photo and prints the result.
    ///
    /// # Errors
    /// If the model cannot be loaded or a photo not be read.
    pub fn run(&self) -> Result<()> {
        ensure!(self.top > 0, "--top is 0; expected 1 or more");
        let classifier = Classifier::try_from(self.model.load()?)?;
        for source in &self.sources {
            let found = classifier.classify(&vision::open(source)?, self.top)?;
            if self.json {
                println!("{}", serde_json::to_string(&found)?);
                continue;
            }
            println!("{}", source.display());
            for class in found {
                println!("  {:5.1}%  {}", 100.0 * class.score, class.label);
            }
        }
        Ok(())
    }
}
