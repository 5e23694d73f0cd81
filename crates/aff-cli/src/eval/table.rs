//! Figures as a table.

use std::fmt::Display;

use aff_train::{Evaluation, InstanceReport, PanopticReport, SemanticReport};
use anyhow::Result;

use crate::terminal::print;

/// Prints what was found: classes first, what decides last.
pub(super) fn print_table(found: &Evaluation) -> Result<()> {
    match found {
        Evaluation::Semantic(report) => semantic(report),
        Evaluation::Instance(report) | Evaluation::Detection(report) => instance(report),
        Evaluation::Panoptic(report) => panoptic(report),
        Evaluation::Classification(report) => {
            figures(&[("top-1", Some(report.top1)), ("top-5", Some(report.top5))])
        }
        // Of a task that this table does not know.
        other => {
            let metrics = other.validation().metrics;
            let named: Vec<_> = metrics.iter().map(|(name, &value)| (name.as_str(), Some(value))).collect();
            figures(&named)
        }
    }
}

fn semantic(report: &SemanticReport) -> Result<()> {
    row("class", ["IoU %", "pixels"])?;
    for class in &report.classes {
        row(&class.name, [percent(class.iou), class.pixels.to_string()])?;
    }
    figures(&[
        ("mean IoU", Some(report.mean_iou)),
        ("pixel accuracy", Some(report.pixel_accuracy)),
        ("mean accuracy", Some(report.mean_accuracy)),
    ])
}

fn instance(report: &InstanceReport) -> Result<()> {
    row("class", ["AP %", "AP 50 %", "objects"])?;
    for class in &report.classes {
        row(&class.name, [percent(class.ap), percent(class.ap_50), class.objects.to_string()])?;
    }
    for (overlap, accuracy) in &report.accuracy_at_iou {
        row(format_args!("TP/(TP+FP+FN) at {overlap}"), [percent(Some(*accuracy))])?;
    }
    figures(&[
        ("AP small", report.ap_small),
        ("AP medium", report.ap_medium),
        ("AP large", report.ap_large),
        ("AP 75", report.ap_75),
        ("AP 50", report.ap_50),
        ("AP", report.ap),
    ])
}

fn panoptic(report: &PanopticReport) -> Result<()> {
    row("class", ["PQ %", "SQ %", "RQ %"])?;
    for class in &report.classes {
        row(&class.name, [class.pq, class.sq, class.rq].map(percent))?;
    }
    figures(&[
        ("SQ", report.sq),
        ("RQ", report.rq),
        ("PQ of things", report.pq_things),
        ("PQ of stuff", report.pq_stuff),
        ("PQ", report.pq),
    ])
}

fn figures(figures: &[(&str, Option<f64>)]) -> Result<()> {
    figures.iter().try_for_each(|(name, value)| row(name, [percent(*value)]))
}

fn row<const N: usize>(name: impl Display, cells: [impl Display; N]) -> Result<()> {
    let cells: String = cells.into_iter().map(|cell| format!(" {:>10}", cell.to_string())).collect();
    print(format_args!("{:<24}{cells}", name.to_string()))
}

/// A share in percent; `-` where there was nothing to measure.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2}", 100.0 * share))
}
