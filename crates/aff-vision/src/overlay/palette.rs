//! Colours of classes: those that a data set's community knows, or ones that are far apart for every eye; shades of them for objects.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::color_space::{Oklab, VISIONS, from_oklab, oklab};

/// Colours before they repeat; enough for every class of ADE20K, Cityscapes and COCO.
const COLORS: usize = 256;

/// Steps a channel of the colours that are chosen from.
const STEPS: u8 = 16;

/// Of classes that are the sky, and of no others.
const SKY: [u8; 3] = [119, 170, 221];

/// Lightness of the shades of a colour: so that they stand out from shadow and from the boundary lines.
const SHADE_LIGHTNESS: std::ops::Range<f32> = 0.32..0.92;

static FAR_APART: LazyLock<Vec<[u8; 3]>> = LazyLock::new(farthest_colors);

/// The colour of a class of no known data set, in RGB.
///
/// Each class's colour is, of all muted ones, the one farthest from those of all lower classes in the perceptually uniform colour space
/// [OKLab](https://bottosson.github.io/posts/oklab/), as seen by people with normal vision and by those who lack one of the three kinds of
/// cones, whichever sees the least difference. So it does not depend on how many classes there are. Colours repeat after 256 classes.
///
/// ```
/// assert_ne!(aff_vision::class_color(0), aff_vision::class_color(1));
/// assert_eq!(aff_vision::class_color(3), aff_vision::class_color(3 + 256));
/// ```
#[must_use]
pub fn class_color(label_id: u32) -> [u8; 3] {
    FAR_APART[label_id as usize % COLORS]
}

/// The colours of the classes of a model.
///
/// ```
/// use aff_vision::{CITYSCAPES_COLORS, Palette, class_color};
///
/// let known = Palette::new(&CITYSCAPES_COLORS[..]);
/// assert_eq!(known.color(0), [128, 64, 128]);
/// let own = Palette::of_labels(&["grass".to_owned(), "sky".to_owned()]);
/// assert_eq!(own.color(0), class_color(0));
/// assert_eq!(own.color(1), [119, 170, 221]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Palette {
    colors: Cow<'static, [[u8; 3]]>,
}

impl Palette {
    /// Colours by class; classes beyond them have those of [`class_color`].
    pub fn new(colors: impl Into<Cow<'static, [[u8; 3]]>>) -> Self {
        Self { colors: colors.into() }
    }

    /// Colours of classes of no known data set: those of [`class_color`], but for the sky, which is blue.
    #[must_use]
    pub fn of_labels(labels: &[String]) -> Self {
        let color = |(class, label): (u32, &String)| {
            if label.trim().eq_ignore_ascii_case("sky") { SKY } else { class_color(class) }
        };
        Self::new((0..).zip(labels).map(color).collect::<Vec<_>>())
    }

    /// The colour of a class.
    #[must_use]
    pub fn color(&self, label_id: u32) -> [u8; 3] {
        let known = usize::try_from(label_id).ok().and_then(|class| self.colors.get(class));
        known.copied().unwrap_or_else(|| class_color(label_id))
    }

    /// The colour of an object: the hue of its class, lighter or darker. `number` counts the objects of the class in the picture from 0, which
    /// has the colour of the class itself; those that follow one another differ most.
    ///
    /// ```
    /// use aff_vision::Palette;
    ///
    /// let palette = Palette::default();
    /// assert_eq!(palette.shade(2, 0), palette.color(2));
    /// assert_ne!(palette.shade(2, 1), palette.shade(2, 2));
    /// ```
    #[must_use]
    pub fn shade(&self, label_id: u32, number: u32) -> [u8; 3] {
        /// Multiples of it, less whole ones, are spread evenly however many there are.
        const GOLDEN_RATIO: f32 = 0.618_034;
        let color = self.color(label_id);
        if number == 0 {
            return color;
        }
        let Oklab { lightness, a, b } = oklab(color);
        let span = SHADE_LIGHTNESS.end - SHADE_LIGHTNESS.start;
        // Numbers beyond thousands would lose their fractions.
        let steps = (number % 1024) as f32 * GOLDEN_RATIO;
        let place = ((lightness - SHADE_LIGHTNESS.start) / span + steps).rem_euclid(1.0);
        from_oklab(Oklab { lightness: SHADE_LIGHTNESS.start + span * place, a, b })
    }
}

/// Farthest-first traversal of the candidates, from the sky's colour on, which is none of them.
fn farthest_colors() -> Vec<[u8; 3]> {
    struct Candidate {
        color: [u8; 3],
        seen: [Oklab; VISIONS.len()],
        /// To the nearest colour that was chosen, squared.
        distance: f32,
    }
    let level = |step: u8| step * (u8::MAX / (STEPS - 1));
    let mut candidates = Vec::new();
    for r in 0..STEPS {
        for g in 0..STEPS {
            for b in 0..STEPS {
                let color = [level(r), level(g), level(b)];
                let seen = VISIONS.map(|vision| vision.see(color));
                let [plain, ..] = &seen;
                // Nearly black or white can be mistaken for shadow, cloud or the boundary lines; what is too bright hides the photo.
                if (0.4..0.92).contains(&plain.lightness) && plain.chroma() < 0.17 {
                    candidates.push(Candidate { color, seen, distance: f32::INFINITY });
                }
            }
        }
    }
    let (mut chosen, mut last) = (Vec::with_capacity(COLORS), SKY);
    while chosen.len() < COLORS {
        let seen = VISIONS.map(|vision| vision.see(last));
        let mut farthest = 0;
        for at in 0..candidates.len() {
            let candidate = &mut candidates[at];
            for (a, b) in candidate.seen.iter().zip(&seen) {
                candidate.distance = candidate.distance.min(a.squared_distance(b));
            }
            if candidates[at].distance > candidates[farthest].distance {
                farthest = at;
            }
        }
        last = candidates[farthest].color;
        chosen.push(last);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{ADE20K_COLORS, CITYSCAPES_COLORS, COCO_COLORS};

    #[test]
    fn colors_are_distinct_and_the_first_ones_far_apart_for_every_eye() {
        // 0.02 is about the least difference that an eye sees side by side.
        for (first, least) in [(8, 0.12), (12, 0.08), (20, 0.06), (150, 0.019)] {
            for vision in VISIONS {
                for a in 0..first {
                    for other in (0..a).map(class_color).chain([SKY]) {
                        let distance = vision.see(class_color(a)).squared_distance(&vision.see(other)).sqrt();
                        assert!(distance > least, "class {a} is {distance} from {other:?}");
                    }
                }
            }
        }
        let all: BTreeSet<_> = (0..COLORS as u32).map(class_color).collect();
        assert_eq!(all.len(), COLORS);
    }

    #[test]
    fn the_sky_is_blue_whatever_its_number() {
        for before in [0, 1, 4, 200] {
            let mut labels: Vec<String> = (0..before).map(|class| format!("class {class}")).collect();
            labels.push("Sky".to_owned());
            let [r, g, b] = Palette::of_labels(&labels).color(before);
            assert!(r < g && g < b, "{r} {g} {b}");
        }
        assert_eq!(CITYSCAPES_COLORS[10], [70, 130, 180]);
        assert_eq!(ADE20K_COLORS[2], [6, 230, 230]);
    }

    /// Colours of data sets may be alike: ADE20K has the same grey for roads and skyscrapers.
    #[test]
    fn colors_of_data_sets_are_complete() {
        let different = |colors: &[[u8; 3]]| colors.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(different(&CITYSCAPES_COLORS), 19);
        assert_eq!(different(&COCO_COLORS), 80);
        assert_eq!(different(&ADE20K_COLORS), 149);
    }

    #[test]
    fn shades_keep_the_hue_and_differ() {
        let palette = Palette::new(&COCO_COLORS[..]);
        for class in [0, 2, 15, 79] {
            let hue = |color| {
                let Oklab { a, b, .. } = oklab(color);
                b.atan2(a)
            };
            let shades: Vec<[u8; 3]> = (0..12).map(|number| palette.shade(class, number)).collect();
            for (at, &shade) in shades.iter().enumerate() {
                let turn = (hue(shade) - hue(shades[0]) + 3.0 * std::f32::consts::PI)
                    .rem_euclid(2.0 * std::f32::consts::PI)
                    - std::f32::consts::PI;
                // Eight bits a channel say the hue of pale colours roughly.
                assert!(turn.abs() < 0.12, "class {class}, object {at}: {shade:?} is turned by {turn}");
                for &other in &shades[..at] {
                    let difference = oklab(shade).squared_distance(&oklab(other)).sqrt();
                    assert!(difference > 0.02, "class {class}, object {at}: {shade:?} is like {other:?}");
                }
            }
        }
    }
}
