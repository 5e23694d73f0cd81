//! Classes of images: top-1 and top-5.

use autofocusformer::Classifier;

use super::{ClassMap, Evaluation, Evaluator, LabelledImage};
use crate::TrainError;
use crate::data::ResultFiles;
use crate::metrics::TopK;

pub(super) struct ClassificationEvaluator {
    classifier: Classifier,
    classes: ClassMap,
    counts: TopK,
}

impl ClassificationEvaluator {
    pub(super) fn new(classifier: Classifier, classes: ClassMap) -> Self {
        Self { classifier, classes, counts: TopK::default() }
    }
}

impl Evaluator for ClassificationEvaluator {
    fn add(&mut self, image: &LabelledImage<'_>, _: Option<&mut ResultFiles>) -> Result<(), TrainError> {
        let mut scores = vec![0.0; self.classes.names().len()];
        for found in self.classifier.classify(&image.sample.image, usize::MAX)? {
            if let Some(class) = self.classes.of(found.label_id) {
                scores[class as usize] = found.score;
            }
        }
        self.counts.add(&scores, image.sample.target.class()?.most_probable() as usize);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Evaluation {
        Evaluation::Classification(self.counts.report())
    }
}
