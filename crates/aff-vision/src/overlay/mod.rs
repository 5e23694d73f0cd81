//! Pictures for people: the photo with its regions in colour.

mod boxes;
mod color_space;
mod known_colors;
mod palette;
mod regions;
mod text;

use image::{Rgb, RgbImage};
use rayon::prelude::*;

use crate::{ImageSize, VisionError};
pub use boxes::{CaptionedBox, draw_boxes};
pub use known_colors::{ADE20K_COLORS, CITYSCAPES_COLORS, COCO_COLORS};
pub use palette::{Palette, class_color};
pub use regions::{Region, Regions};
pub use text::FONT;
use text::Pen;

/// How an overlay looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverlayOptions {
    /// How much of the colour covers the photo, 0 to 1.
    pub alpha: f32,
    /// Whether regions are parted by lines.
    pub boundaries: bool,
    /// Whether regions that have room for it bear their caption.
    pub captions: bool,
    /// Whether a corner lists the classes and their colours, largest first, as many as fit.
    pub legend: bool,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self { alpha: 0.5, boundaries: true, captions: true, legend: true }
    }
}

/// Pictures with a shorter edge than this get no captions: they would cover it.
const LEAST_EDGE_FOR_TEXT: u32 = 160;
/// Pictures with a shorter edge than this get no legend either: it could not be read.
const LEAST_EDGE_FOR_LEGEND: u32 = 72;
/// A part of the picture: `[left, top, right, bottom]`.
type Area = [i64; 4];
const NOWHERE: Area = [0; 4];
const DARK: [u8; 3] = [20, 20, 20];
const LIGHT: [u8; 3] = [255, 255, 255];

/// Draws regions over the photo they belong to, at its size.
///
/// # Errors
/// Another size of the regions than of the photo, or an `alpha` that is not within 0 to 1.
///
/// ```
/// use aff_vision::{ImageSize, LabelMap, OverlayOptions, Regions, overlay};
///
/// # fn main() -> Result<(), aff_vision::VisionError> {
/// let photo = image::RgbImage::new(4, 2);
/// let map = LabelMap::new(ImageSize::new(2, 4), vec![0, 0, 1, 1, 0, 0, 1, 1])?;
/// let regions = Regions::of_labels(&map, &["road".to_owned(), "sky".to_owned()]);
/// let picture = overlay(&photo, &regions, &OverlayOptions { alpha: 1.0, ..OverlayOptions::default() })?;
/// assert_eq!(picture.get_pixel(0, 0).0, aff_vision::class_color(0));
/// assert_eq!(picture.get_pixel(3, 1).0, [119, 170, 221], "the sky is blue");
/// # Ok(())
/// # }
/// ```
pub fn overlay(
    photo: &RgbImage,
    regions: &Regions,
    options: &OverlayOptions,
) -> Result<RgbImage, VisionError> {
    let size = ImageSize::of(photo);
    if regions.size() != size {
        return Err(VisionError::Size { what: "the regions' size", found: regions.size(), expected: size });
    }
    if !(0.0..=1.0).contains(&options.alpha) {
        return Err(VisionError::option("alpha", &options.alpha, "0 to 1"));
    }
    let mut picture = photo.clone();
    if size.is_empty() {
        return Ok(picture);
    }
    paint(&mut picture, regions, options);
    let edge = size.height.min(size.width);
    if edge >= LEAST_EDGE_FOR_LEGEND {
        let pen = Pen::new(text_height(edge))?;
        let legend = if options.legend { draw_legend(&mut picture, regions, &pen) } else { NOWHERE };
        if options.captions && edge >= LEAST_EDGE_FOR_TEXT {
            draw_captions(&mut picture, regions, &pen, legend);
        }
    }
    Ok(picture)
}

/// Height of a line of text on a picture whose shorter edge is so long, in pixels: a thirtieth of it, but legible, and on small pictures
/// not too large for a few lines.
fn text_height(edge: u32) -> f32 {
    let edge = edge as f32;
    (edge / 30.0).max((edge / 9.0).min(13.0))
}

/// Mixes `share` of a colour into a pixel.
fn blend(pixel: &mut [u8; 3], color: [u8; 3], share: f32) {
    for (value, color) in pixel.iter_mut().zip(color) {
        let mixed = f32::from(*value) * (1.0 - share) + f32::from(color) * share;
        *value = mixed.round() as u8;
    }
}

/// Colours and boundaries.
fn paint(picture: &mut RgbImage, regions: &Regions, options: &OverlayOptions) {
    let (width, rows) = (regions.size().columns(), regions.size().rows());
    let color = |region: &Region| regions.palette().shade(region.label_id, region.shade);
    let colors: Vec<[u8; 3]> = regions.regions().iter().map(color).collect();
    let index = regions.index();
    // Lines as thick as a photo of this size can bear.
    let reach = 1 + regions.size().height.min(regions.size().width) as usize / 1000;
    let is_boundary = |x: usize, y: usize| {
        let own = index[y * width + x];
        (1..=reach).any(|step| {
            (x + step < width && index[y * width + x + step] != own)
                || (y + step < rows && index[(y + step) * width + x] != own)
        })
    };
    picture.par_chunks_exact_mut(3 * width).enumerate().for_each(|(y, row)| {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            if let Some(&color) = (index[y * width + x] as usize).checked_sub(1).and_then(|at| colors.get(at))
            {
                blend(pixel, color, options.alpha);
            }
            if options.boundaries && is_boundary(x, y) {
                blend(pixel, LIGHT, 0.8 * options.alpha.min(0.9));
            }
        }
    });
}

/// Captions at the deepest place of each region that is large enough for one, large regions first; none over another
/// or over what is `taken` already.
fn draw_captions(picture: &mut RgbImage, regions: &Regions, pen: &Pen, taken: Area) {
    let mut places: Vec<_> = regions.regions().iter().zip(regions.innermost()).collect();
    places.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let mut taken = vec![taken];
    for (region, (place, depth)) in places {
        let line = pen.line(&region.caption);
        let (width, height) = (i64::from(line.width), i64::from(line.height));
        if depth < 0.75 * height as f32 {
            continue;
        }
        let margin = 3;
        let frame = ImageSize::of(picture);
        let within = |center: u32, length: i64, frame: u32| {
            (i64::from(center) - length / 2).clamp(0, (i64::from(frame) - length).max(0))
        };
        let left = within(place[0], width + 2 * margin, frame.width);
        let top = within(place[1], height, frame.height);
        let area: Area = [left, top, left + width + 2 * margin, top + height];
        let overlaps = |other: &Area| {
            area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3]
        };
        if taken.iter().any(overlaps) {
            continue;
        }
        taken.push(area);
        fill(picture, area, DARK, 0.6);
        pen.draw(picture, &line, [left + margin, top], LIGHT);
    }
}

/// The classes at the top left, largest first, each once. Returns where it is.
fn draw_legend(picture: &mut RgbImage, regions: &Regions, pen: &Pen) -> Area {
    let mut classes: Vec<(u32, &str, u64)> = Vec::new();
    for (region, area) in regions.regions().iter().zip(regions.areas()) {
        match classes.iter_mut().find(|(label_id, ..)| *label_id == region.label_id) {
            Some(class) => class.2 += area,
            None => classes.push((region.label_id, &region.label, area)),
        }
    }
    classes.retain(|class| class.2 > 0);
    classes.sort_by_key(|class| std::cmp::Reverse(class.2));
    let lines: Vec<_> =
        classes.iter().map(|class| (regions.palette().color(class.0), pen.line(class.1))).collect();
    let Some(height) = lines.first().map(|(_, line)| i64::from(line.height)) else { return NOWHERE };
    // A quarter of the picture at most.
    let frame = ImageSize::of(picture);
    let room = usize::try_from(i64::from(frame.height) / 2 / height).unwrap_or(0);
    let lines = &lines[..lines.len().min(room)];
    let margin = height / 4;
    let text_width = lines.iter().map(|(_, line)| i64::from(line.width)).max().unwrap_or(0);
    let width = (height + text_width + 3 * margin).min(i64::from(frame.width) / 2);
    let area = [0, 0, width, height * lines.len() as i64 + 2 * margin];
    fill(picture, area, DARK, 0.6);
    for (at, (color, line)) in (0..).zip(lines) {
        let top = margin + at * height;
        fill(picture, [margin, top + height / 8, margin + height * 3 / 4, top + height * 7 / 8], *color, 1.0);
        pen.draw(picture, line, [margin + height, top], LIGHT);
    }
    area
}

/// Covers an area, as far as it lies in the picture.
fn fill(picture: &mut RgbImage, [left, top, right, bottom]: Area, color: [u8; 3], share: f32) {
    let range = |from: i64, to: i64, length: u32| {
        let clamp = |at: i64| at.clamp(0, i64::from(length)) as u32;
        clamp(from)..clamp(to)
    };
    for y in range(top, bottom, picture.height()) {
        for x in range(left, right, picture.width()) {
            let Rgb(pixel) = picture.get_pixel_mut(x, y);
            blend(pixel, color, share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LabelMap;

    fn halves(width: u32, height: u32) -> Regions {
        let labels = (0..height).flat_map(|_| (0..width).map(|x| u16::from(x >= width / 2))).collect();
        let map = LabelMap::new(ImageSize::new(height, width), labels).unwrap();
        Regions::of_labels(&map, &["left".to_owned(), "right".to_owned()])
    }

    #[test]
    fn without_any_option_the_photo_is_only_tinted() {
        let photo = RgbImage::from_pixel(300, 200, Rgb([100, 100, 100]));
        let plain = OverlayOptions { alpha: 0.5, boundaries: false, captions: false, legend: false };
        let picture = overlay(&photo, &halves(300, 200), &plain).unwrap();
        for (x, _, pixel) in picture.enumerate_pixels() {
            let mut expected = [100; 3];
            blend(&mut expected, class_color(u32::from(x >= 150)), 0.5);
            assert_eq!(pixel.0, expected);
        }
    }

    #[test]
    fn captions_boundary_and_legend_are_drawn() {
        let photo = RgbImage::from_pixel(300, 200, Rgb([100, 100, 100]));
        let base = OverlayOptions { alpha: 0.5, boundaries: false, captions: false, legend: false };
        let plain = overlay(&photo, &halves(300, 200), &base).unwrap();
        let changed = |options: OverlayOptions| {
            let picture = overlay(&photo, &halves(300, 200), &options).unwrap();
            let places = picture.enumerate_pixels().filter(|&(x, y, pixel)| pixel != plain.get_pixel(x, y));
            places.map(|(x, y, _)| [x, y]).collect::<Vec<_>>()
        };
        let boundary = changed(OverlayOptions { boundaries: true, ..base });
        assert_eq!(boundary, (0..200).map(|y| [149, y]).collect::<Vec<_>>());
        let legend = changed(OverlayOptions { legend: true, ..base });
        assert!(legend.contains(&[0, 0]) && legend.iter().all(|&[x, y]| x < 150 && y < 100));
        let captions = changed(OverlayOptions { captions: true, ..base });
        assert!(captions.iter().any(|&[x, _]| x < 150) && captions.iter().any(|&[x, _]| x >= 150));
    }

    #[test]
    fn small_pictures_have_a_key_and_no_captions() {
        let drawn = |edge: u32, options: OverlayOptions| {
            let photo = RgbImage::from_pixel(edge, edge, Rgb([100, 100, 100]));
            let bare = OverlayOptions { captions: false, legend: false, ..options };
            let [picture, bare] =
                [options, bare].map(|options| overlay(&photo, &halves(edge, edge), &options).unwrap());
            picture.enumerate_pixels().filter(|&(x, y, pixel)| pixel != bare.get_pixel(x, y)).count()
        };
        let captions = OverlayOptions { legend: false, ..OverlayOptions::default() };
        for edge in [72, 96, 159] {
            let key = drawn(edge, OverlayOptions::default());
            assert!(key > 100 && key < (edge * edge / 4) as usize, "{edge}: {key} pixels");
            assert_eq!(drawn(edge, captions), 0);
        }
        assert_eq!(drawn(71, OverlayOptions::default()), 0);
        assert!(drawn(160, captions) > 0);
        for (edge, height) in [(72, 8.0), (117, 13.0), (200, 13.0), (390, 13.0), (3000, 100.0)] {
            assert_eq!(text_height(edge), height, "{edge}");
        }
    }

    #[test]
    fn a_palette_colours_regions_and_key() {
        let photo = RgbImage::from_pixel(300, 200, Rgb([100, 100, 100]));
        let regions = halves(300, 200).with_palette(Palette::new(vec![[10, 20, 30], [200, 210, 220]]));
        let options =
            OverlayOptions { alpha: 1.0, boundaries: false, captions: false, ..OverlayOptions::default() };
        let picture = overlay(&photo, &regions, &options).unwrap();
        assert_eq!(picture.get_pixel(299, 199).0, [200, 210, 220]);
        assert_eq!(picture.get_pixel(0, 199).0, [10, 20, 30]);
        let in_key = |color| (0..40).any(|y| (0..60).any(|x| picture.get_pixel(x, y).0 == color));
        assert!(in_key([200, 210, 220]), "the class on the right is in the key at the left");
    }

    #[test]
    fn any_size_works() {
        for [width, height] in [[1, 1], [2, 1], [1, 900], [900, 1], [161, 160], [160, 1700]] {
            let photo = RgbImage::new(width, height);
            let picture = overlay(&photo, &halves(width, height), &OverlayOptions::default()).unwrap();
            assert_eq!(picture.dimensions(), (width, height));
        }
        let error = overlay(&RgbImage::new(3, 3), &halves(4, 3), &OverlayOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("the regions' size is 4 x 3"), "{error}");
    }
}
