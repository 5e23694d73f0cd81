//! How far what was computed is from what was expected.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};

/// What is compared, and how far it may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    References,
    Hidden,
    Logits,
    Boxes,
    Choice,
    Gradients,
    Overlaps,
    Costs,
    Matching,
    Losses,
    LossGradients,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::References => "references",
            Self::Hidden => "hidden",
            Self::Logits => "logits",
            Self::Boxes => "boxes",
            Self::Choice => "chosen tokens",
            Self::Gradients | Self::LossGradients => "gradients",
            Self::Overlaps => "overlaps",
            Self::Costs => "costs",
            Self::Matching => "matching",
            Self::Losses => "losses",
        }
    }

    fn limit(self) -> f64 {
        match self {
            Self::Memory | Self::References | Self::Hidden | Self::Logits | Self::Boxes => 1e-4,
            Self::Gradients => 1e-3,
            Self::Overlaps | Self::Costs | Self::Losses | Self::LossGradients => 1e-5,
            Self::Choice | Self::Matching => 0.0,
        }
    }
}

/// The largest deviation of a kind.
#[derive(Debug)]
struct Largest {
    group: &'static str,
    kind: Kind,
    deviation: f64,
    /// The tensor that has it.
    name: String,
    compared: usize,
}

/// The largest deviation of every kind in every group.
#[derive(Debug, Default)]
pub(super) struct Deviations(Vec<Largest>);

/// Takes the deviations of one group.
pub(super) struct Group<'a> {
    all: &'a mut Deviations,
    name: &'static str,
}

impl Deviations {
    pub(super) fn of(&mut self, name: &'static str) -> Group<'_> {
        Group { all: self, name }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|largest| {
            let Largest { group, kind, deviation, name, compared } = largest;
            let limit = kind.limit();
            format!("{group:<11} {:<14} {deviation:9.2e} of {limit:.0e} allowed, {compared} compared, most in {name}", kind.name())
        })
    }

    /// What is farther off than it may be.
    pub(super) fn exceeded(&self) -> Vec<String> {
        // Not a number is too far as well.
        let is_within = |largest: &&Largest| largest.deviation <= largest.kind.limit();
        let names = self.0.iter().filter(|largest| !is_within(largest));
        names.map(|largest| format!("{} ({})", largest.kind.name(), largest.group)).collect()
    }
}

impl Group<'_> {
    pub(super) fn add(&mut self, kind: Kind, name: &str, deviation: f64) {
        let (group, largest) = (self.name, &mut self.all.0);
        let known = largest.iter_mut().find(|known| (known.group, known.kind) == (group, kind));
        match known {
            None => largest.push(Largest { group, kind, deviation, name: name.to_owned(), compared: 1 }),
            Some(known) => {
                known.compared += 1;
                if deviation.is_nan() || deviation > known.deviation {
                    (known.deviation, known.name) = (deviation, name.to_owned());
                }
            }
        }
    }

    /// The greatest difference, relative to the greatest magnitude where that is above 1.
    pub(super) fn values(&mut self, kind: Kind, name: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
        let (found, expected) = pair(name, found, expected)?;
        let largest = |values: &[f64]| values.iter().fold(0.0, |most: f64, value| maximum(most, value.abs()));
        let differences: Vec<f64> =
            found.iter().zip(&expected).map(|(found, expected)| found - expected).collect();
        self.add(kind, name, largest(&differences) / largest(&expected).max(1.0));
        Ok(())
    }

    /// The norm of the difference, relative to the norm; by itself where nothing is expected.
    pub(super) fn gradient(
        &mut self,
        kind: Kind,
        name: &str,
        found: &Tensor,
        expected: &Tensor,
    ) -> Result<()> {
        let (found, expected) = pair(name, found, expected)?;
        let difference: f64 =
            found.iter().zip(&expected).map(|(found, expected)| (found - expected).powi(2)).sum();
        let norm = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
        self.add(kind, name, difference.sqrt() / if norm > 0.0 { norm } else { 1.0 });
        Ok(())
    }

    /// Whether two lists are the same: 0 or 1.
    pub(super) fn same<T: PartialEq>(&mut self, kind: Kind, name: &str, found: &T, expected: &T) {
        self.add(kind, name, if found == expected { 0.0 } else { 1.0 });
    }
}

/// The greater one, or what is not a number.
fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn pair(name: &str, found: &Tensor, expected: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
    let (own, golden) = (found.dims(), expected.dims());
    ensure!(own == golden, "{name}: computed as {own:?}, stored as {golden:?}");
    let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    Ok((values(found).context("the computed values")?, values(expected).context("the stored values")?))
}
