//! The files that data sets' own tools read: COCO instances and panoptic, and label maps with the data set's numbers.

use std::path::Path;

use image::DynamicImage;
use serde::{Deserialize, Serialize};

use crate::{CocoRle, ImageSize, InstanceMask, LabelMap, PanopticMap, SegmentInfo, VisionError};

/// An entry of COCO's instance results: the JSON file is an array of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CocoInstance {
    /// Number of the image in the data set.
    pub image_id: u64,
    /// Number of the category in the data set, which is not that of the class in the network.
    pub category_id: u32,
    /// `[x, y, width, height]`
    pub bbox: [u32; 4],
    /// Score.
    pub score: f32,
    /// Exact mask.
    pub segmentation: CocoRle,
}

/// COCO's entries for the objects of an image. `category_ids` has the data set's number of each class.
///
/// # Errors
/// If a class has no category.
///
/// ```
/// use aff_vision::{ImageSize, InstanceMask, Rle, coco_instances};
///
/// let mask = Rle::from_bitmap(ImageSize::new(1, 2), &[false, true])?;
/// let found = [InstanceMask { label_id: 0, score: 0.5, query: 3, mask }];
/// let json = serde_json::to_string(&coco_instances(42, &found, &[18])?).unwrap();
/// assert_eq!(
///     json,
///     r#"[{"image_id":42,"category_id":18,"bbox":[1,0,1,1],"score":0.5,"segmentation":{"size":[1,2],"counts":"11"}}]"#
/// );
/// # Ok::<(), aff_vision::VisionError>(())
/// ```
pub fn coco_instances(
    image_id: u64,
    found: &[InstanceMask],
    category_ids: &[u32],
) -> Result<Vec<CocoInstance>, VisionError> {
    let entry = |object: &InstanceMask| {
        Ok(CocoInstance {
            image_id,
            category_id: category(category_ids, object.label_id)?,
            bbox: object.mask.bbox(),
            score: object.score,
            segmentation: CocoRle::from(&object.mask),
        })
    };
    found.iter().map(entry).collect()
}

/// An entry of COCO's panoptic annotations; its picture is that of [`PanopticMap::write_png`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoPanoptic {
    /// Number of the image in the data set.
    pub image_id: u64,
    /// Name of the picture with the ids.
    pub file_name: String,
    /// What each id is.
    pub segments_info: Vec<CocoSegment>,
}

/// A segment of COCO's panoptic annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoSegment {
    /// Its id in the picture.
    pub id: u32,
    /// Number of the category in the data set.
    pub category_id: u32,
    /// Number of pixels.
    pub area: u64,
    /// `[x, y, width, height]`
    pub bbox: [u32; 4],
    /// 0; predictions are no crowds.
    pub iscrowd: u8,
}

impl PanopticMap {
    /// COCO's entry for the segments of an image. `category_ids` has the data set's number of each class.
    ///
    /// # Errors
    /// If a class has no category.
    pub fn to_coco(
        &self,
        image_id: u64,
        file_name: &str,
        category_ids: &[u32],
    ) -> Result<CocoPanoptic, VisionError> {
        let boxes = self.boxes();
        let segment = |segment: &SegmentInfo| {
            Ok(CocoSegment {
                id: segment.id,
                category_id: category(category_ids, segment.label_id)?,
                area: segment.area,
                bbox: boxes.get(&segment.id).copied().unwrap_or_default(),
                iscrowd: 0,
            })
        };
        let segments_info = self.segments().iter().map(segment).collect::<Result<_, VisionError>>()?;
        Ok(CocoPanoptic { image_id, file_name: file_name.to_owned(), segments_info })
    }

    /// `[x, y, width, height]` of each id.
    fn boxes(&self) -> std::collections::BTreeMap<u32, [u32; 4]> {
        let mut corners: std::collections::BTreeMap<u32, [u32; 4]> = std::collections::BTreeMap::new();
        let mut at = 0;
        for run in self.ids().chunk_by(|a, b| a == b) {
            // A run of equal ids may go on over the ends of rows.
            for (x, y) in
                (at..at + run.len()).map(|at| (at % self.size().columns(), at / self.size().columns()))
            {
                let (x, y) = (x as u32, y as u32);
                let corner = corners.entry(run[0]).or_insert([x, y, x, y]);
                *corner = [corner[0].min(x), corner[1].min(y), corner[2].max(x), corner[3].max(y)];
            }
            at += run.len();
        }
        let size = |[left, top, right, bottom]: [u32; 4]| [left, top, right - left + 1, bottom - top + 1];
        corners.into_iter().map(|(id, corner)| (id, size(corner))).collect()
    }
}

fn category(category_ids: &[u32], label_id: u32) -> Result<u32, VisionError> {
    category_ids.get(label_id as usize).copied().ok_or_else(|| {
        VisionError::option(
            "label_id",
            &label_id,
            format!("a class below {}, the number of categories", category_ids.len()),
        )
    })
}

/// Cityscapes' `labelIds` of the 19 classes that networks are trained on, from road to bicycle.
pub const CITYSCAPES_LABEL_IDS: [u16; 19] =
    [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33];

impl LabelMap {
    /// The same map with other numbers: class `c` becomes `numbers[c]`. With [`CITYSCAPES_LABEL_IDS`] it is what Cityscapes' tools read,
    /// with `1..=150` what those of ADE20K do, whose 0 is "other".
    ///
    /// # Errors
    /// If a class has no number.
    ///
    /// ```
    /// use aff_vision::{CITYSCAPES_LABEL_IDS, ImageSize, LabelMap};
    ///
    /// let map = LabelMap::new(ImageSize::new(1, 2), vec![0, 18])?;
    /// assert_eq!(map.renumbered(&CITYSCAPES_LABEL_IDS)?.labels(), [7, 33]);
    /// # Ok::<(), aff_vision::VisionError>(())
    /// ```
    pub fn renumbered(&self, numbers: &[u16]) -> Result<Self, VisionError> {
        let number = |&class: &u16| {
            numbers.get(usize::from(class)).copied().ok_or_else(|| {
                VisionError::option(
                    "label",
                    &class,
                    format!("a class below {}, which have numbers", numbers.len()),
                )
            })
        };
        Ok(Self::from_labels(self.size(), self.labels().iter().map(number).collect::<Result<_, _>>()?))
    }

    /// Reads a grey PNG of 8 or 16 bits, such as [`write_png`](Self::write_png) makes.
    ///
    /// # Errors
    /// A file that cannot be read, is not an image, or is not grey.
    pub fn read_png(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let image = image::open(path).map_err(|error| VisionError::Read {
            path: path.to_owned(),
            reason: error.to_string(),
            source: None,
        })?;
        let size = ImageSize::new(image.height(), image.width());
        let labels = match image {
            DynamicImage::ImageLuma8(image) => image.into_raw().into_iter().map(u16::from).collect(),
            DynamicImage::ImageLuma16(image) => image.into_raw(),
            other => {
                return Err(VisionError::Unsupported {
                    origin: format!("{path:?}"),
                    what: format!("a label map of type {:?}", other.color()),
                    remedy: "give it as a grey PNG, a class a pixel".to_owned(),
                });
            }
        };
        Ok(Self::from_labels(size, labels))
    }
}
