//! A segmenter on a labelled split, through the pipeline that users run.

use aff_model::config::SegmentationTask;
use autofocusformer::{Segmenter, Segments};

use crate::TrainError;
use crate::data::DataSet;
use crate::metrics::{ConfusionMatrix, SemanticReport};

/// Segments every image of a data set at its own size and compares; `observe` is told the number of each image that is done.
///
/// # Errors
/// If an image cannot be read, the network fails, or the segmenter's classes are not the data set's.
pub fn evaluate(
    segmenter: &Segmenter,
    data_set: &dyn DataSet,
    mut observe: impl FnMut(usize),
) -> Result<SemanticReport, TrainError> {
    let classes = data_set.classes();
    if segmenter.labels() != classes {
        let found = format!("{} classes, {:?} ...", segmenter.labels().len(), segmenter.labels().first());
        let expected = format!("those of the data set: {}", classes.join(", "));
        return Err(TrainError::value("id2label", found, expected));
    }
    let mut segmenter = segmenter.clone();
    segmenter.options_mut().task = SegmentationTask::Semantic;
    let mut counts = ConfusionMatrix::new(classes.len());
    for index in 0..data_set.len() {
        let sample = data_set.load(index)?;
        if let Segments::Semantic(map) = segmenter.segment(&sample.image)?.result() {
            counts.add(sample.labels.labels(), map.labels());
        }
        observe(index);
    }
    Ok(counts.report(&classes, data_set.len()))
}
