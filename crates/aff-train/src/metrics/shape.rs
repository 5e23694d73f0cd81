//! Objects as masks and as boxes, as far as their overlap goes.

use aff_vision::{ImageSize, Rle};

use super::MetricError;
use crate::targets::Crowd;

/// What an object covers. Implemented for masks ([`Rle`]) and boxes ([`PixelBox`]).
pub trait Shape {
    /// Pixels that it covers.
    fn area(&self) -> f64;

    /// The smallest box around it.
    fn bounds(&self) -> PixelBox;

    /// Pixels that both cover; 0 if they belong to pictures of different sizes.
    fn intersection(&self, other: &Self) -> f64;

    /// Size of the picture that it belongs to, if it knows.
    fn picture(&self) -> Option<ImageSize> {
        None
    }

    /// What makes it no shape at all, if anything.
    fn defect(&self) -> Option<String> {
        None
    }
}

/// A box in pixels of its picture; `left` and `top` are its first corner, and pixel 0 reaches from 0 to 1.
///
/// ```
/// use aff_train::{PixelBox, Shape};
///
/// let own = PixelBox { left: 0.0, top: 0.0, width: 4.0, height: 2.0 };
/// let other = PixelBox { left: 2.0, top: 1.0, width: 4.0, height: 2.0 };
/// assert_eq!((own.area(), own.intersection(&other)), (8.0, 2.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelBox {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Extent to the right.
    pub width: f64,
    /// Extent downwards.
    pub height: f64,
}

impl Shape for PixelBox {
    fn area(&self) -> f64 {
        self.width * self.height
    }

    fn bounds(&self) -> PixelBox {
        *self
    }

    fn intersection(&self, other: &Self) -> f64 {
        let right = (self.left + self.width).min(other.left + other.width);
        let bottom = (self.top + self.height).min(other.top + other.height);
        let (width, height) = (right - self.left.max(other.left), bottom - self.top.max(other.top));
        if width <= 0.0 || height <= 0.0 { 0.0 } else { width * height }
    }

    fn defect(&self) -> Option<String> {
        let Self { left, top, width, height } = *self;
        let is_box = [left, top, width, height].iter().all(|value| value.is_finite());
        (!is_box || width < 0.0 || height < 0.0).then(|| {
            format!(
                "its box is [{left}, {top}, {width}, {height}]; expected finite numbers, width and height from 0"
            )
        })
    }
}

impl Shape for Rle {
    fn area(&self) -> f64 {
        Rle::area(self) as f64
    }

    fn bounds(&self) -> PixelBox {
        let [left, top, width, height] = self.bbox().map(f64::from);
        PixelBox { left, top, width, height }
    }

    fn intersection(&self, other: &Self) -> f64 {
        self.intersection_area(other).map_or(0.0, |area| area as f64)
    }

    fn picture(&self) -> Option<ImageSize> {
        Some(self.size())
    }
}

/// Whether a region of the truth is one object, or a crowd of them that nobody told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionKind {
    /// One object, to be found once.
    Object,
    /// A crowd: what is found in it is neither right nor wrong.
    Crowd,
}

impl From<Crowd> for RegionKind {
    fn from(crowd: Crowd) -> Self {
        match crowd {
            Crowd::Single => Self::Object,
            Crowd::Crowd => Self::Crowd,
        }
    }
}

/// A region of the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct TrueObject<S> {
    /// Its class.
    pub class: usize,
    /// What it covers.
    pub shape: S,
    /// Its area in pixels as the data set states it, by which it is small, medium or large.
    pub area: f64,
    /// One object or a crowd.
    pub kind: RegionKind,
}

impl<S: Shape> TrueObject<S> {
    /// One object, with the area of its shape.
    pub fn new(class: usize, shape: S) -> Self {
        Self { class, area: shape.area(), shape, kind: RegionKind::Object }
    }
}

/// An object that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundObject<S> {
    /// Its class.
    pub class: usize,
    /// What it covers.
    pub shape: S,
    /// How sure the finder is; only the order of the scores matters.
    pub score: f64,
}

/// Refuses objects that no metric can judge, by their place in the lists.
pub(super) fn check_objects<S: Shape>(
    truths: &[TrueObject<S>],
    found: &[FoundObject<S>],
    classes: usize,
) -> Result<(), MetricError> {
    let picture = truths
        .iter()
        .map(|truth| &truth.shape)
        .chain(found.iter().map(|object| &object.shape))
        .next()
        .and_then(Shape::picture);
    let check = |class: usize, shape: &S| {
        if class >= classes {
            return Some(format!("its class is {class}; expected one below {classes}"));
        }
        let other = shape.picture().filter(|&size| Some(size) != picture);
        let of_other = other.zip(picture).map(|(size, expected)| {
            format!("its picture is {size}; expected {expected}, as of the first object")
        });
        of_other.or_else(|| shape.defect())
    };
    for (index, truth) in truths.iter().enumerate() {
        let is_area = truth.area.is_finite() && truth.area >= 0.0;
        let bad_area = || (!is_area).then(|| format!("its area is {}; expected a number from 0", truth.area));
        if let Some(problem) = check(truth.class, &truth.shape).or_else(bad_area) {
            return Err(MetricError::Object { list: "truth", index, problem });
        }
    }
    for (index, object) in found.iter().enumerate() {
        let bad_score = || object.score.is_nan().then(|| "its score is not a number".to_owned());
        if let Some(problem) = check(object.class, &object.shape).or_else(bad_score) {
            return Err(MetricError::Object { list: "prediction", index, problem });
        }
    }
    Ok(())
}

/// Intersection of every found object (row) with every true one (column).
pub(super) fn intersections<S: Shape>(found: &[&FoundObject<S>], truths: &[&TrueObject<S>]) -> Vec<Vec<f64>> {
    let true_bounds: Vec<PixelBox> = truths.iter().map(|truth| truth.shape.bounds()).collect();
    let row = |object: &&FoundObject<S>| {
        let bounds = object.shape.bounds();
        let area = |(truth, true_bounds): (&&TrueObject<S>, &PixelBox)| {
            if bounds.intersection(true_bounds) == 0.0 {
                0.0
            } else {
                object.shape.intersection(&truth.shape)
            }
        };
        truths.iter().zip(&true_bounds).map(area).collect()
    };
    found.iter().map(row).collect()
}
