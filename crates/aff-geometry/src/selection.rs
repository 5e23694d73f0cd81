//! Adaptive downsampling: which tokens go on to the next stage.

use crate::coordinate::check_count;
use crate::grid_prior::is_reserved;
use crate::{Canvas, Coordinate, GeometryError, GridPrior, grid_prior, raster};

/// How to select.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectionOptions {
    /// Stride of the stage: 2, 4, 8 for the first, second, third. Decides which tokens are reserved ([`is_reserved`]) and
    /// the rule of the grid prior ([`GridPrior::for_stride`]).
    pub stride: u32,
    /// Fraction of the tokens to keep.
    pub rate: f64,
    /// Weight of the scores against the grid prior.
    pub alpha: f64,
}

/// Why a token was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeepReason {
    /// It is reserved.
    Reserved,
    /// It was among the highest, and it lies on the coarser grid.
    GridPrior,
    /// It was among the highest by its score alone.
    Score,
}

/// Tokens to keep, made by [`select`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The tokens kept, in raster order of their positions.
    pub kept: Vec<u32>,
    /// Why each of them was kept.
    pub reasons: Vec<KeepReason>,
    /// Whether each token, kept or not, lies on the coarser grid.
    pub grid_prior: Vec<bool>,
}

/// Chooses the tokens that go on to the next stage.
///
/// Reserved tokens are always kept. The others compete by `g + alpha * score` in `f32`, with the grid prior `g` of 0 or 1, ties in
/// raster order. In total `floor(tokens * rate)` are kept, or as many as are reserved if that is more. Expected cost
/// O(tokens) for tokens of even density in raster order.
///
/// # Errors
/// [`GeometryError::ScoreCount`], [`GeometryError::ScoreNotFinite`], [`GeometryError::InvalidStride`],
/// [`GeometryError::InvalidRate`], [`GeometryError::InvalidAlpha`], [`GeometryError::NotFinite`],
/// [`GeometryError::OutsideCanvas`], [`GeometryError::DuplicatePosition`], [`GeometryError::TooManyPoints`].
///
/// ```
/// use aff_geometry::{Canvas, KeepReason, SelectionOptions, select};
///
/// let pos: Vec<[i32; 2]> = (0..16).map(|i| [i % 4, i / 4]).collect();
/// let mut scores = [0.0; 16];
/// scores[6] = 0.5;
/// let options = SelectionOptions { stride: 2, rate: 0.25, alpha: 4.0 };
/// let selection = select(&pos, Canvas::new(4, 4)?, &scores, &options)?;
/// assert_eq!(selection.kept, [0, 2, 6, 8]);
/// assert_eq!(selection.reasons[0], KeepReason::Reserved);
/// assert_eq!(selection.reasons[1], KeepReason::GridPrior);
/// assert_eq!(selection.reasons[2], KeepReason::Score);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn select<T: Coordinate>(
    pos: &[[T; 2]],
    canvas: Canvas,
    scores: &[f32],
    options: &SelectionOptions,
) -> Result<Selection, GeometryError> {
    check_count(pos.len())?;
    check_options(options)?;
    check_scores(scores, pos.len())?;
    canvas.check(pos)?;
    let raster: Vec<u32> = raster::order(pos).unwrap_or_else(|| (0..pos.len() as u32).collect());
    raster::refuse_duplicates(pos, &raster)?;

    let grid_prior = grid_prior(pos, GridPrior::for_stride(options.stride))?;
    let alpha = options.alpha as f32;
    // Indices in raster order rather than tokens, so that ties go to the lower number.
    let mut keep = vec![false; pos.len()];
    let mut rivals = Vec::new();
    let mut reserved = 0;
    for (index, &token) in raster.iter().enumerate() {
        let token = token as usize;
        if is_reserved(pos[token], options.stride) {
            keep[index] = true;
            reserved += 1;
        } else {
            let prior = if grid_prior[token] { 1.0 } else { 0.0 };
            rivals.push((prior + alpha * scores[token], index as u32));
        }
    }
    // Truncation of the product in double precision, as the reference rounds.
    let total = ((pos.len() as f64 * options.rate) as usize).clamp(reserved, pos.len());
    let wanted = total - reserved;
    if 0 < wanted && wanted < rivals.len() {
        rivals.select_nth_unstable_by(wanted - 1, |a, b| {
            b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(&b.1))
        });
    }
    for &(_, index) in &rivals[..wanted] {
        keep[index as usize] = true;
    }
    let kept: Vec<u32> = raster.iter().zip(keep).filter(|(_, keep)| *keep).map(|(&token, _)| token).collect();
    let reason = |&token: &u32| {
        if is_reserved(pos[token as usize], options.stride) {
            KeepReason::Reserved
        } else if grid_prior[token as usize] {
            KeepReason::GridPrior
        } else {
            KeepReason::Score
        }
    };
    let reasons = kept.iter().map(reason).collect();
    Ok(Selection { kept, reasons, grid_prior })
}

/// Keeps the tokens on the coarser grid, and no others: plain downsampling, to compare with.
///
/// They are the reserved tokens and those that the grid prior names; tokens on a full grid leave every second one of every second
/// row. Expected cost as of [`select`].
///
/// # Errors
/// [`GeometryError::InvalidStride`], [`GeometryError::NotFinite`], [`GeometryError::OutsideCanvas`],
/// [`GeometryError::DuplicatePosition`], [`GeometryError::TooManyPoints`].
///
/// ```
/// use aff_geometry::{Canvas, select_grid};
///
/// let pos: Vec<[i32; 2]> = (0..15).map(|i| [i % 5, i / 5]).collect();
/// let selection = select_grid(&pos, Canvas::new(5, 3)?, 2)?;
/// assert_eq!(selection.kept, [0, 2, 4, 10, 12, 14]);
/// # Ok::<(), aff_geometry::GeometryError>(())
/// ```
pub fn select_grid<T: Coordinate>(
    pos: &[[T; 2]],
    canvas: Canvas,
    stride: u32,
) -> Result<Selection, GeometryError> {
    check_count(pos.len())?;
    check_options(&SelectionOptions { stride, rate: 1.0, alpha: 0.0 })?;
    canvas.check(pos)?;
    let raster: Vec<u32> = raster::order(pos).unwrap_or_else(|| (0..pos.len() as u32).collect());
    raster::refuse_duplicates(pos, &raster)?;
    let grid_prior = grid_prior(pos, GridPrior::for_stride(stride))?;
    let reason = |&token: &u32| {
        if is_reserved(pos[token as usize], stride) {
            Some(KeepReason::Reserved)
        } else {
            grid_prior[token as usize].then_some(KeepReason::GridPrior)
        }
    };
    let (kept, reasons) = raster.iter().filter_map(|token| Some((*token, reason(token)?))).unzip();
    Ok(Selection { kept, reasons, grid_prior })
}

fn check_options(options: &SelectionOptions) -> Result<(), GeometryError> {
    if options.stride == 0 || options.stride > u32::MAX / 2 {
        return Err(GeometryError::InvalidStride { found: options.stride });
    }
    if !(0.0..=1.0).contains(&options.rate) {
        return Err(GeometryError::InvalidRate { found: options.rate });
    }
    if !options.alpha.is_finite() {
        return Err(GeometryError::InvalidAlpha { found: options.alpha });
    }
    Ok(())
}

fn check_scores(scores: &[f32], num_tokens: usize) -> Result<(), GeometryError> {
    if scores.len() != num_tokens {
        return Err(GeometryError::ScoreCount { expected: num_tokens, found: scores.len() });
    }
    match scores.iter().position(|score| !score.is_finite()) {
        Some(index) => Err(GeometryError::ScoreNotFinite { index, score: scores[index] }),
        None => Ok(()),
    }
}
