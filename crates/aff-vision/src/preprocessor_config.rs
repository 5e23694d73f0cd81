//! How an image becomes the network's input, as `preprocessor_config.json` says it.

use serde::{Deserialize, Serialize};

use crate::VisionError;

/// Mean of the ImageNet channels in RGB, of values in 0..1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of the ImageNet channels in RGB, of values in 0..1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// `preprocessor_config.json` in the manner of Hugging Face image processors; unknown fields are refused.
///
/// The steps run in the order of the fields: resize, crop, rescale, normalise, pad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "the file format has these switches")]
pub struct PreprocessorConfig {
    /// Name of the processor; kept for other readers of the file, not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_processor_type: Option<String>,
    /// Whether to resize.
    pub do_resize: bool,
    /// Target of the resize; the aspect ratio is kept.
    pub size: ResizeTarget,
    /// Filter of the resize.
    pub resample: Resample,
    /// Whether to cut the centre out (classifiers).
    #[serde(default)]
    pub do_center_crop: bool,
    /// Size of that crop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<CropSize>,
    /// Whether to multiply the 8-bit values with `rescale_factor`.
    pub do_rescale: bool,
    /// 1/255 in every published model.
    pub rescale_factor: f64,
    /// Whether to subtract `image_mean` and divide by `image_std`.
    pub do_normalize: bool,
    /// Mean of each channel (R, G, B).
    pub image_mean: [f32; 3],
    /// Standard deviation of each channel (R, G, B).
    pub image_std: [f32; 3],
    /// Whether to pad right and bottom with zeros, after normalisation.
    #[serde(default)]
    pub do_pad: bool,
    /// Height and width are padded to multiples of it.
    #[serde(default = "one")]
    pub size_divisor: u32,
}

fn one() -> u32 {
    1
}

impl PreprocessorConfig {
    /// Bilinear resize to `size`, the statistics of ImageNet, padding to multiples of 32: how the published segmenters see images.
    ///
    /// ```
    /// use aff_vision::{PreprocessorConfig, ResizeTarget};
    ///
    /// let size = ResizeTarget { shortest_edge: 480, longest_edge: Some(640) };
    /// let config = PreprocessorConfig { size_divisor: 8, ..PreprocessorConfig::imagenet(size) };
    /// assert!(config.validate().is_ok());
    /// ```
    pub fn imagenet(size: ResizeTarget) -> Self {
        Self {
            image_processor_type: None,
            do_resize: true,
            size,
            resample: Resample::Bilinear,
            do_center_crop: false,
            crop_size: None,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: IMAGENET_MEAN,
            image_std: IMAGENET_STD,
            do_pad: true,
            size_divisor: 32,
        }
    }

    /// Checks every field; [`apply`](Self::apply) does so by itself.
    ///
    /// # Errors
    /// The first field with a value that cannot work, and what would.
    ///
    /// ```
    /// # let json = r#"{"do_resize": true, "size": {"shortest_edge": 0}, "resample": 2, "do_rescale": true,
    /// #     "rescale_factor": 0.004, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    /// let config: aff_vision::PreprocessorConfig = serde_json::from_str(json).unwrap();
    /// let error = config.validate().unwrap_err().to_string();
    /// assert_eq!(error, "`size.shortest_edge` is 0; expected 1 or more pixels");
    /// ```
    pub fn validate(&self) -> Result<(), VisionError> {
        let refuse =
            |name, found: &dyn ToString, expected: &str| Err(VisionError::option(name, found, expected));
        if self.do_resize && self.size.shortest_edge == 0 {
            return refuse("size.shortest_edge", &0, "1 or more pixels");
        }
        if self.do_resize && self.size.longest_edge == Some(0) {
            return refuse("size.longest_edge", &0, "1 or more pixels");
        }
        match self.crop_size.filter(|_| self.do_center_crop) {
            None if self.do_center_crop => {
                return refuse("crop_size", &"missing", "a height and width, since `do_center_crop` is true");
            }
            Some(CropSize { height, width })
                if !(1..=65_536).contains(&height.min(width)) || height.max(width) > 65_536 =>
            {
                return refuse("crop_size", &format!("{width} x {height}"), "1 to 65536 pixels each way");
            }
            _ => {}
        }
        if self.do_rescale && !self.rescale_factor.is_finite() {
            return refuse("rescale_factor", &self.rescale_factor, "a finite number");
        }
        if self.do_normalize && !self.image_mean.iter().all(|mean| mean.is_finite()) {
            return refuse("image_mean", &format!("{:?}", self.image_mean), "three finite numbers");
        }
        if self.do_normalize && !self.image_std.iter().all(|&std| std.is_finite() && std > 0.0) {
            return refuse("image_std", &format!("{:?}", self.image_std), "three positive numbers");
        }
        if self.do_pad && self.size_divisor == 0 {
            return refuse("size_divisor", &0, "1 or more pixels");
        }
        Ok(())
    }
}

/// Edge lengths in pixels that a resize aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeTarget {
    /// Length that the shorter edge gets ...
    pub shortest_edge: u32,
    /// ... unless the longer one would exceed this: then that one gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_edge: Option<u32>,
}

/// Height and width of a centre crop in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// Resampling filter; written as the number that Pillow gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Resample {
    /// Pillow's 2.
    Bilinear,
    /// Pillow's 3.
    Bicubic,
}

impl From<Resample> for u8 {
    fn from(resample: Resample) -> u8 {
        match resample {
            Resample::Bilinear => 2,
            Resample::Bicubic => 3,
        }
    }
}

impl TryFrom<u8> for Resample {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            2 => Ok(Self::Bilinear),
            3 => Ok(Self::Bicubic),
            other => Err(format!("`resample` is {other}; expected 2 (bilinear) or 3 (bicubic)")),
        }
    }
}
