//! Segments of every pixel: panoptic quality.

use aff_model::config::SegmentationTask;
use aff_vision::{LabelMap, PanopticMap, SegmentInfo};
use autofocusformer::{Segmenter, Segments};

use super::{ClassMap, Evaluation, Evaluator, LabelledImage, other_task};
use crate::TrainError;
use crate::data::{CategoryKind, DataSet, IGNORED, ResultFiles};
use crate::metrics::{PanopticQuality, PanopticTruth, RegionKind, TrueSegment};

pub(super) struct PanopticEvaluator {
    segmenter: Segmenter,
    classes: ClassMap,
    quality: PanopticQuality,
}

impl PanopticEvaluator {
    pub(super) fn new(mut segmenter: Segmenter, classes: ClassMap, data: &dyn DataSet) -> Self {
        segmenter.options_mut().task = SegmentationTask::Panoptic;
        let is_thing = data.categories().iter().map(|category| category.kind == CategoryKind::Thing);
        Self { segmenter, classes, quality: PanopticQuality::new(is_thing.collect()) }
    }

    /// The map in the classes of the data.
    fn renamed(&self, map: &PanopticMap) -> Result<PanopticMap, TrainError> {
        let known: Vec<u32> = map
            .segments()
            .iter()
            .map(|segment| segment.label_id)
            .filter(|&class| self.classes.of(class).is_some())
            .collect();
        let map = map.of_classes(&known);
        let renamed = |segment: &SegmentInfo| {
            Some(SegmentInfo { label_id: self.classes.of(segment.label_id)?, ..*segment })
        };
        let segments = map.segments().iter().filter_map(renamed).collect();
        Ok(PanopticMap::new(map.size(), map.ids().to_vec(), segments)?)
    }
}

impl Evaluator for PanopticEvaluator {
    fn add(
        &mut self,
        image: &LabelledImage<'_>,
        results: Option<&mut ResultFiles>,
    ) -> Result<(), TrainError> {
        let target = image.sample.target.to_segments()?;
        let ids = segment_ids(target.map().ok_or_else(|| TrainError::Target {
            problem: "has masks that may overlap; expected one segment at most for each pixel".to_owned(),
        })?);
        let segments = target.segments().iter().enumerate().map(|(index, segment)| TrueSegment {
            id: index as u32 + 1,
            class: segment.class as usize,
            area: target.area(index) as u64,
            kind: RegionKind::from(segment.crowd),
        });
        let segments: Vec<_> = segments.collect();
        let segmentation = self.segmenter.segment(&image.sample.image)?;
        let Segments::Panoptic(found) = segmentation.result() else { return Err(other_task()) };
        let found = self.renamed(found)?;
        self.quality.add(PanopticTruth { ids: &ids, segments: &segments }, &found)?;
        match results {
            Some(results) => results.add_panoptic(image.data, image.index, &found),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> Evaluation {
        Evaluation::Panoptic(self.quality.report(self.classes.names()))
    }
}

/// Numbers from 1; 0 where there is no segment.
fn segment_ids(map: &LabelMap) -> Vec<u32> {
    map.labels().iter().map(|&label| if label == IGNORED { 0 } else { u32::from(label) + 1 }).collect()
}
