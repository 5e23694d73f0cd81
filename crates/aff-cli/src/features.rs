//! `aff features`: the raw outputs of the network.

use std::path::PathBuf;

use anyhow::Result;
use autofocusformer::weights::write_tensor_file;

use crate::model_args::{ModelArgs, check_output};
use crate::sources::PixelLimit;
use crate::terminal::log;

/// Write the raw outputs of the network as a safetensors file
///
/// A classifier gives `logits` and `stage1` to `stage4`; a segmenter `pred_logits`, `pred_masks` (at the stride-4 canvas) and `res2` to
/// `res5`; a detector `pred_logits`, `pred_boxes` (x and y of the centre, width, height, in fractions of the input) and `res2` to `res5`.
/// Tokens are `.feat [B,N,C]` and `.pos [B,N,2]` as (x, y), in raster order.
#[derive(Debug, clap::Args)]
pub struct Features {
    /// An image, or a safetensors file whose `pixel_values [B,3,H,W]` is used as it is
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    #[command(flatten)]
    limit: PixelLimit,
    #[command(flatten)]
    model: ModelArgs,
    /// The safetensors file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl Features {
    /// Runs the network and writes the file.
    ///
    /// # Errors
    /// If the model or the source cannot be read, or the file not be written; if it is the source or a file of the model.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        check_output(&self.output, &self.source, &model)?;
        let features =
            model.features(&model.read_pixel_values_within(&self.source, &self.limit.limits())?)?;
        write_tensor_file(&self.output, &features)?;
        log(format_args!("{}: {} tensors", self.output.display(), features.len()));
        Ok(())
    }
}
