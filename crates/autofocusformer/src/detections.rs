//! Objects that were found in a photo.

use std::path::Path;

use aff_vision::{CaptionedBox, DetectedBox, ImageSize, RgbImage};
use serde::Serialize;

use crate::Error;

/// The objects that were found in a photo, in pixels of the photo.
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    size: ImageSize,
    objects: Vec<Detection>,
}

/// An object that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Detection {
    /// Its class.
    pub label_id: u32,
    /// Name of the class.
    pub label: String,
    /// How sure the network is, 0 to 1.
    pub score: f32,
    /// Left, top, width, height in pixels of the photo.
    pub bbox: [f32; 4],
}

/// An entry of COCO's results of boxes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CocoDetection {
    /// Number of the image where its name is one, else its name.
    pub image_id: serde_json::Value,
    /// The class, as the model counts: from 0.
    pub category_id: u32,
    /// Name of the class; COCO's tools pass over it.
    pub category_name: String,
    /// Left, top, width, height in pixels of the photo.
    pub bbox: [f32; 4],
    /// Score.
    pub score: f32,
}

impl Detections {
    pub(crate) fn new(size: ImageSize, found: &[DetectedBox], labels: &[String]) -> Self {
        let object = |found: &DetectedBox| Detection {
            label_id: found.label_id,
            label: labels.get(found.label_id as usize).cloned().unwrap_or_default(),
            score: found.score,
            bbox: found.bbox,
        };
        Self { size, objects: found.iter().map(object).collect() }
    }

    /// Height and width of the photo.
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The objects, best first.
    pub fn objects(&self) -> &[Detection] {
        &self.objects
    }

    /// The photo with the boxes, their classes and scores over it.
    ///
    /// # Errors
    /// [`Error::Vision`] if the photo is of another size than the one that was looked at.
    pub fn overlay(&self, photo: &RgbImage) -> Result<RgbImage, Error> {
        let found = ImageSize::of(photo);
        if found != self.size {
            let what = "the photo's size";
            return Err(aff_vision::VisionError::Size { what, found, expected: self.size }.into());
        }
        let captioned = |object: &Detection| CaptionedBox {
            label_id: object.label_id,
            caption: format!("{} {:.0}%", object.label, 100.0 * object.score),
            bbox: object.bbox,
        };
        let boxes: Vec<_> = self.objects.iter().map(captioned).collect();
        Ok(aff_vision::draw_boxes(photo, &boxes)?)
    }

    /// COCO's entries for an image of a name, such as `000000000139` or `photo`.
    pub fn to_coco(&self, image: &str) -> Vec<CocoDetection> {
        let image_id = image.parse::<u64>().map_or_else(|_| image.into(), serde_json::Value::from);
        let entry = |object: &Detection| CocoDetection {
            image_id: image_id.clone(),
            category_id: object.label_id,
            category_name: object.label.clone(),
            bbox: object.bbox,
            score: object.score,
        };
        self.objects.iter().map(entry).collect()
    }

    /// Writes the entries of [`to_coco`](Self::to_coco) as a JSON array.
    ///
    /// # Errors
    /// [`Error::Vision`] if the file cannot be written.
    pub fn write_coco(&self, path: impl AsRef<Path>, image: &str) -> Result<(), Error> {
        Ok(aff_vision::write_json(path, &self.to_coco(image))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_as_coco_has_them() {
        let found = DetectedBox { label_id: 1, score: 0.5, query: 0, bbox: [1.0, 2.0, 3.5, 4.0] };
        let labels = ["cat", "dog"].map(str::to_owned);
        let detections = Detections::new(ImageSize::new(9, 9), &[found], &labels);
        let json = serde_json::to_string(&detections.to_coco("000139")).unwrap();
        let rest = r#""category_id":1,"category_name":"dog","bbox":[1.0,2.0,3.5,4.0],"score":0.5}]"#;
        assert_eq!(json, format!(r#"[{{"image_id":139,{rest}"#));
        let json = serde_json::to_string(&detections.to_coco("a photo")).unwrap();
        assert_eq!(json, format!(r#"[{{"image_id":"a photo",{rest}"#));
        assert!(detections.overlay(&RgbImage::new(8, 9)).is_err());
    }
}
