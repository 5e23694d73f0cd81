//! A segment for every pixel: pictures of ids, and what each id is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aff_vision::{ImageSize, LabelMap};

use super::json::{Image, Panoptic, SegmentRecord};
use crate::TrainError;
use crate::data::files::{missing, refuse, stem};
use crate::data::{Category, CategoryKind, DataSet, IGNORED, Sample};
use crate::targets::{Crowd, SegmentTarget, Target, TargetSegment};
use crate::tasks::TaskName;

/// A split of a data set with a file of panoptic annotations, for any task.
#[derive(Debug)]
pub(super) struct CocoPanoptic {
    /// Those of the task: for objects the things alone.
    categories: Vec<Category>,
    /// By class of the file that of the task, if it has one.
    class: Vec<Option<u32>>,
    path: PathBuf,
    file: Panoptic,
    task: TaskName,
}

impl CocoPanoptic {
    pub(super) fn read(
        path: &Path,
        photos: &Path,
        pictures: &Path,
        task: TaskName,
    ) -> Result<Self, TrainError> {
        let file = Panoptic::read(path, photos, pictures)?;
        let is_wanted = |category: &Category| {
            !matches!(task, TaskName::Instance | TaskName::Detection) || category.kind == CategoryKind::Thing
        };
        let mut categories = Vec::new();
        let mut class = Vec::new();
        for category in &file.categories {
            class.push(is_wanted(category).then_some(categories.len() as u32));
            categories.extend(is_wanted(category).then(|| category.clone()));
        }
        if categories.is_empty() {
            return Err(refuse(path, "has no category with `isthing` 1; expected one or more for objects"));
        }
        Ok(Self { categories, class, path: path.to_path_buf(), file, task })
    }

    fn segment(&self, class: u32, record: &SegmentRecord) -> Option<TargetSegment> {
        let mut segment = TargetSegment::new(self.class[class as usize]?);
        segment.crowd = if record.iscrowd == 1 { Crowd::Crowd } else { Crowd::Single };
        segment.bbox = record.bbox.map(|bbox| bbox.map(|value| value as f32));
        segment.area = record.area;
        Some(segment)
    }

    fn segments(&self, index: usize) -> Result<SegmentTarget, TrainError> {
        let image = &self.file.images[index];
        let Some((picture, records)) = &self.file.segments[index] else {
            return Err(refuse(&self.path, format!("image {}: has no annotation; expected one", image.id)));
        };
        let mut segments = Vec::new();
        let mut place = BTreeMap::from([(0, IGNORED)]);
        for (class, record) in records {
            let segment = self.segment(*class, record);
            place.insert(record.id, segment.map_or(IGNORED, |_| segments.len() as u16));
            segments.extend(segment);
        }
        if segments.len() >= usize::from(IGNORED) {
            return Err(refuse(
                &self.path,
                format!("image {}: has {} segments; expected fewer", image.id, segments.len()),
            ));
        }
        let pixels = aff_vision::open(picture)?;
        let mut labels = Vec::with_capacity(pixels.as_raw().len() / 3);
        let mut last = (0, IGNORED);
        let mut seen = std::collections::BTreeSet::new();
        for &[red, green, blue] in pixels.as_raw().as_chunks::<3>().0 {
            let id = u32::from_le_bytes([red, green, blue, 0]);
            if id != last.0 {
                let label = place.get(&id).copied().ok_or_else(|| {
                    let name = format!("annotation of image {}", image.id);
                    refuse(picture, format!("has pixels of segment {id}, which is not listed in the {name}"))
                })?;
                last = (id, label);
                seen.insert(id);
            }
            labels.push(last.1);
        }
        if let Some((_, record)) = records.iter().find(|(_, record)| !seen.contains(&record.id)) {
            let problem = format!(
                "has no pixel of segment {}, which the annotation of image {} lists",
                record.id, image.id
            );
            return Err(refuse(picture, problem));
        }
        SegmentTarget::from_map(LabelMap::new(ImageSize::of(&pixels), labels)?, segments)
    }
}

impl DataSet for CocoPanoptic {
    fn categories(&self) -> &[Category] {
        &self.categories
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
        let segments = Target::Segments(self.segments(index)?);
        if self.task == TaskName::Semantic {
            Ok(Target::Semantic(segments.to_label_map()?))
        } else {
            Ok(segments)
        }
    }

    fn num_objects(&self, index: usize) -> Result<usize, TrainError> {
        Ok(self.file.segments[index].as_ref().map_or(0, |(_, records)| records.len()))
    }

    fn missing_files(&self) -> Vec<PathBuf> {
        let pictures = self.file.segments.iter().flatten().map(|(picture, _)| picture);
        missing(self.file.images.iter().map(|image| &image.photo).chain(pictures))
    }
}
