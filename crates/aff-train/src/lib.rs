//! Training and evaluation of AutoFocusFormer.
//!
//! A [`Recipe`] says what is trained on what; a [`Trainer`] runs it and resumes it. Underneath, each usable alone: data sets and
//! their [loading](data::Loader), [targets], [losses], [tasks], the [optimiser](optim) and the
//! [metrics](ConfusionMatrix).
//!
//! Runs are deterministic: a seed gives the same losses with any number of threads, and a run that was killed at any moment goes
//! on to the losses of one that was not.

#![forbid(unsafe_code)]

pub mod augment;
mod checkpoint;
mod curves;
pub mod data;
mod error;
mod evaluate;
mod log;
pub mod losses;
mod metrics;
pub mod optim;
mod parameters;
mod random;
mod recipe;
mod suggest;
pub mod targets;
pub mod tasks;
mod trainer;

pub use checkpoint::Best;
pub use curves::draw_curves;
pub use error::TrainError;
pub use evaluate::{Evaluation, EvaluationOptions, evaluate};
pub use metrics::{
    ApClassReport, AveragePrecision, CITYSCAPES_INSTANCE_IDS, CityscapesAp, CityscapesTruth, ClassReport,
    ClassificationReport, ConfusionMatrix, FoundObject, InstanceReport, MetricError, ObjectAccuracy,
    PanopticClassReport, PanopticQuality, PanopticReport, PanopticTruth, PixelBox, RegionKind,
    SemanticReport, Shape, TopK, TrueObject, TrueSegment,
};
pub use parameters::Parameters;
pub use recipe::{DataRecipe, ModelRecipe, Recipe, RunOptions};
pub use suggest::{ModelChoice, Suggestion, Wish, suggest};
pub use trainer::{Observer, StepReport, Trainer, TrainerBuilder, ValidationReport};

/// The README, whose example is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
