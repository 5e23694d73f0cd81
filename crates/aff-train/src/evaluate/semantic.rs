//! Classes of pixels: mean IoU.

use aff_model::config::SegmentationTask;
use aff_vision::LabelMap;
use autofocusformer::{Segmentation, Segmenter, Segments};

use super::{ClassMap, Evaluation, Evaluator, LabelledImage, other_task};
use crate::TrainError;
use crate::data::{DataSet, ResultFiles};
use crate::metrics::ConfusionMatrix;

pub(super) struct SemanticEvaluator {
    segmenter: Segmenter,
    classes: ClassMap,
    counts: ConfusionMatrix,
    images: usize,
}

impl SemanticEvaluator {
    pub(super) fn new(mut segmenter: Segmenter, classes: ClassMap, data: &dyn DataSet) -> Self {
        segmenter.options_mut().task = SegmentationTask::Semantic;
        Self { segmenter, classes, counts: ConfusionMatrix::new(data.categories().len()), images: 0 }
    }

    /// The map in the classes of the data.
    fn renamed(&self, map: &LabelMap) -> Result<LabelMap, TrainError> {
        let class =
            |&label: &u16| self.classes.of(u32::from(label)).map_or(Segmentation::VOID, |class| class as u16);
        Ok(LabelMap::new(map.size(), map.labels().iter().map(class).collect())?)
    }
}

impl Evaluator for SemanticEvaluator {
    fn add(
        &mut self,
        image: &LabelledImage<'_>,
        results: Option<&mut ResultFiles>,
    ) -> Result<(), TrainError> {
        let segmentation = self.segmenter.segment(&image.sample.image)?;
        let Segments::Semantic(map) = segmentation.result() else { return Err(other_task()) };
        let map = self.renamed(map)?;
        self.counts.add(image.sample.target.to_label_map()?.labels(), map.labels());
        self.images += 1;
        match results {
            Some(results) => results.add_semantic(image.data, image.index, &map),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> Evaluation {
        Evaluation::Semantic(self.counts.report(self.classes.names(), self.images))
    }
}
