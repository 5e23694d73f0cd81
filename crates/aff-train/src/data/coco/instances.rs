//! Objects with a mask each, or with a box.

use std::path::{Path, PathBuf};

use aff_vision::{CocoRle, ImageSize, Rle};
use serde::Deserialize;

use super::json::{Image, Instances, ObjectRecord};
use crate::TrainError;
use crate::data::files::{missing, refuse, stem};
use crate::data::{Category, DataSet, Sample};
use crate::targets::{BoxTarget, Crowd, SegmentTarget, Target, TargetBox, TargetSegment};
use crate::tasks::TaskName;

/// A split of a data set with a file of instances.
#[derive(Debug)]
pub(super) struct CocoInstances {
    path: PathBuf,
    file: Instances,
    task: TaskName,
}

impl CocoInstances {
    pub(super) fn read(path: &Path, photos: &Path, task: TaskName) -> Result<Self, TrainError> {
        Ok(Self { path: path.to_path_buf(), file: Instances::read(path, photos)?, task })
    }

    /// Boxes as the file has them, which need no masks; of an object without a box that of its mask.
    fn boxes(&self, index: usize) -> Result<BoxTarget, TrainError> {
        let size = self.file.images[index].size;
        let mut boxes = Vec::with_capacity(self.file.objects[index].len());
        for (class, object) in &self.file.objects[index] {
            let wrong = |problem| refuse(&self.path, format!("annotation {}: {problem}", object.id));
            let bbox = match (object.bbox, &object.segmentation) {
                (Some(bbox), _) => bbox,
                (None, Some(_)) => mask(object, size).map_err(wrong)?.bbox().map(f64::from),
                (None, None) => {
                    return Err(wrong("has neither `bbox` nor `segmentation`; expected one".to_owned()));
                }
            };
            let mut target = TargetBox::new(*class, bbox);
            target.crowd = crowd(object);
            target.area = object.area.unwrap_or(target.area);
            if let Some(defect) = target.defect(size) {
                return Err(wrong(defect));
            }
            boxes.push(target);
        }
        BoxTarget::new(size, boxes)
    }
}

impl DataSet for CocoInstances {
    fn categories(&self) -> &[Category] {
        &self.file.categories
    }

    fn len(&self) -> usize {
        self.file.images.len()
    }

    fn name(&self, index: usize) -> String {
        stem(&self.file.images[index].photo)
    }

    fn image_id(&self, index: usize) -> u64 {
        self.file.images[index].id
    }

    fn load(&self, index: usize) -> Result<Sample, TrainError> {
        let Image { photo, .. } = &self.file.images[index];
        Sample::new(aff_vision::open(photo)?, self.load_target(index)?, photo)
    }

    fn load_target(&self, index: usize) -> Result<Target, TrainError> {
        if self.task == TaskName::Detection {
            return Ok(self.boxes(index)?.into());
        }
        let size = self.file.images[index].size;
        let (mut segments, mut masks) = (Vec::new(), Vec::new());
        for (class, object) in &self.file.objects[index] {
            let wrong = |problem| refuse(&self.path, format!("annotation {}: {problem}", object.id));
            masks.push(mask(object, size).map_err(wrong)?);
            segments.push(segment(*class, object));
        }
        Ok(Target::Segments(SegmentTarget::from_masks(size, segments, masks)?))
    }

    fn num_objects(&self, index: usize) -> Result<usize, TrainError> {
        Ok(self.file.objects[index].len())
    }

    fn missing_files(&self) -> Vec<PathBuf> {
        missing(self.file.images.iter().map(|image| &image.photo))
    }
}

fn segment(class: u32, object: &ObjectRecord) -> TargetSegment {
    let mut segment = TargetSegment::new(class);
    segment.crowd = crowd(object);
    segment.bbox = object.bbox.map(|bbox| bbox.map(|value| value as f32));
    segment.area = object.area;
    segment
}

fn crowd(object: &ObjectRecord) -> Crowd {
    if object.iscrowd == 1 { Crowd::Crowd } else { Crowd::Single }
}

/// The forms in which a mask is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Segmentation {
    Polygons(Vec<Vec<f64>>),
    Compressed(CocoRle),
    Plain { size: [u32; 2], counts: Vec<u32> },
}

/// The mask of an object.
fn mask(object: &ObjectRecord, size: ImageSize) -> Result<Rle, String> {
    let text = object
        .segmentation
        .as_ref()
        .ok_or("has no `segmentation`; expected polygons or run lengths (boxes alone serve detection)")?;
    let segmentation = serde_json::from_str(text.get()).map_err(|_| {
        let start: String = text.get().chars().take(40).collect();
        format!(
            "its segmentation is {start}...; expected polygons [[x, y, ...]] or run lengths {{size, counts}}"
        )
    })?;
    let mask = match segmentation {
        Segmentation::Polygons(polygons) if polygons.is_empty() => {
            return Err("has no polygon; expected one or more".to_owned());
        }
        Segmentation::Polygons(polygons) => Rle::from_polygons(size, &polygons),
        Segmentation::Compressed(coded) => Rle::try_from(&coded),
        Segmentation::Plain { size: [height, width], counts } => {
            Rle::from_counts(ImageSize::new(height, width), &counts)
        }
    };
    let mask = mask.map_err(|error| error.to_string())?;
    if mask.size() == size {
        Ok(mask)
    } else {
        Err(format!("its mask is {}; its image is {size}", mask.size()))
    }
}
