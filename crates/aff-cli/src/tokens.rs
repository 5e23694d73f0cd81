//! `aff tokens`: a picture of where the network looks.

use std::path::PathBuf;

use anyhow::Result;
use autofocusformer::vision::{self, ImageSize, OverlayOptions, Regions, RgbImage};
use autofocusformer::{Segmenter, StageTokens};

use crate::arguments::png_path;
use crate::model_args::{ModelArgs, check_output};
use crate::sources::PixelLimit;
use crate::terminal::log;

/// Draw the tokens of each stage on the photo, and the segmentation beside them
///
/// From left to right the four stages; dots are the tokens that the stage works on, coloured by their importance from blue to red
/// (white in the last stage, where nothing is chosen). A segmenter adds its overlay.
#[derive(Debug, clap::Args)]
pub struct Tokens {
    /// A photo (JPEG, PNG, WebP, BMP or TIFF)
    #[arg(value_name = "PHOTO")]
    source: PathBuf,
    #[command(flatten)]
    limit: PixelLimit,
    #[command(flatten)]
    model: ModelArgs,
    /// The picture to write (PNG)
    #[arg(long, short, value_name = "FILE", value_parser = png_path)]
    output: PathBuf,
    /// Draw the clusters as coloured cells instead of dots
    #[arg(long)]
    clusters: bool,
}

impl Tokens {
    /// Runs the network and writes the picture.
    ///
    /// # Errors
    /// If the model or the photo cannot be read, or the picture not be written; if it is the photo or a file of the model.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        check_output(&self.output, &self.source, &model)?;
        let photo = vision::open_within(&self.source, &self.limit.limits())?;
        let stages = model.tokens(&photo)?;
        let mut panels = stages.iter().map(|stage| self.panel(&photo, stage)).collect::<Result<Vec<_>>>()?;
        if model.config().segmentation_config.is_some() {
            panels.push(Segmenter::try_from(model)?.segment(&photo)?.overlay(&photo)?);
        }
        vision::write_png(&self.output, &side_by_side(&panels))?;
        let counts: Vec<String> = stages.iter().map(|stage| stage.points.len().to_string()).collect();
        log(format_args!("{}: {} tokens", self.output.display(), counts.join(", ")));
        Ok(())
    }

    fn panel(&self, photo: &RgbImage, stage: &StageTokens) -> Result<RgbImage> {
        if self.clusters {
            let cells = stage.cells(ImageSize::of(photo))?;
            let options = OverlayOptions { captions: false, legend: false, ..OverlayOptions::default() };
            return Ok(vision::overlay(photo, &Regions::of_labels(&cells, &[]), &options)?);
        }
        let mut panel = photo.clone();
        // Half the distance that tokens would have if they were spread evenly, but no more than a dot needs.
        let share = f64::from(photo.width()) * f64::from(photo.height()) / stage.points.len().max(1) as f64;
        let radius =
            (share.sqrt() * 0.3).clamp(0.7, f64::from(photo.width().max(photo.height())) / 150.0 + 0.7);
        vision::draw_dots(&mut panel, &stage.points, stage.scores.as_deref(), radius as f32)?;
        Ok(panel)
    }
}

/// Pictures of one size in a row, with a gap between.
fn side_by_side(panels: &[RgbImage]) -> RgbImage {
    const GAP: u32 = 8;
    let (width, height) = panels.first().map_or((1, 1), RgbImage::dimensions);
    let count = panels.len() as u32;
    let mut picture = RgbImage::from_pixel(count * (width + GAP) - GAP, height, vision::Rgb([255; 3]));
    for (left, panel) in (0..).step_by((width + GAP) as usize).zip(panels) {
        for (x, y, pixel) in panel.enumerate_pixels() {
            picture.put_pixel(left + x, y, *pixel);
        }
    }
    picture
}
