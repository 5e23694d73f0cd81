//! `aff classify`: the most probable classes of photos.

use anyhow::Result;
use autofocusformer::{Classification, Classifier};
use clap::builder::RangedU64ValueParser;
use serde_json::json;

use crate::PhotosSkipped;
use crate::error_text::error_text;
use crate::model_args::ModelArgs;
use crate::sources::{Source, SourceArgs};
use crate::terminal::{note, print};

/// Name the most probable classes of photos
#[derive(Debug, clap::Args)]
pub struct Classify {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Classes a photo
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    top: usize,
    /// Print a JSON object for each photo on a line: its source and its classes, best first
    #[arg(long)]
    json: bool,
}

impl Classify {
    /// Classifies every photo and prints the result.
    ///
    /// # Errors
    /// If the model cannot be loaded, or the only photo fails. Of several photos those that fail are reported and skipped; that some did is
    /// the error at the end.
    pub fn run(&self) -> Result<()> {
        let sources = self.sources.expand(note)?;
        let classifier = Classifier::try_from(self.model.load()?)?;
        let mut skipped = 0;
        for source in &sources {
            let found = source
                .open(&self.sources.limits())
                .and_then(|photo| Ok(classifier.classify(&photo, self.top)?));
            match found {
                Ok(found) => self.print(source, &found)?,
                Err(error) if sources.len() > 1 => {
                    skipped += 1;
                    let error = error_text(&error);
                    note(format_args!("skipped: {error}"));
                    if self.json {
                        print(json!({"source": source.path.to_string_lossy(), "error": error}))?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if skipped > 0 {
            return Err(PhotosSkipped { skipped, photos: sources.len() }.into());
        }
        Ok(())
    }

    fn print(&self, source: &Source, found: &[Classification]) -> Result<()> {
        if self.json {
            return print(json!({"source": source.path.to_string_lossy(), "classes": found}));
        }
        print(source.shown())?;
        for class in found {
            print(format_args!("  {:5.1}%  {}", 100.0 * class.score, class.label))?;
        }
        Ok(())
    }
}
