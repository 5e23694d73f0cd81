//! Colours of classes: far apart, and always the same for the same class.

use std::sync::LazyLock;

/// Colours before they repeat; enough for every class of ADE20K, Cityscapes and COCO.
const COLORS: usize = 256;

/// Steps a channel of the colours that are chosen from.
const STEPS: u16 = 12;

static PALETTE: LazyLock<Vec<[u8; 3]>> = LazyLock::new(farthest_colors);

/// The colour of a class, in RGB.
///
/// Each class's colour is, of all candidates, the one farthest from those of all lower classes in the perceptually
/// uniform colour space [OKLab](https://bottosson.github.io/posts/oklab/), so that it never depends on how many classes
/// there are. Colours repeat after 256 classes.
///
/// ```
/// assert_ne!(aff_vision::class_color(0), aff_vision::class_color(1));
/// assert_eq!(aff_vision::class_color(3), aff_vision::class_color(3 + 256));
/// ```
#[must_use]
pub fn class_color(label_id: u32) -> [u8; 3] {
    PALETTE[label_id as usize % COLORS]
}

/// Farthest-first traversal of the candidates, from a clear red on.
fn farthest_colors() -> Vec<[u8; 3]> {
    let level = |step: u16| (step * 255 / (STEPS - 1)) as u8;
    let mut candidates = Vec::new();
    for r in 0..STEPS {
        for g in 0..STEPS {
            for b in 0..STEPS {
                let color = [level(r), level(g), level(b)];
                let lab = oklab(color);
                // Nearly black or white can be mistaken for shadow, sky or the boundary lines.
                if (0.4..0.93).contains(&lab[0]) {
                    candidates.push((color, lab, f32::INFINITY));
                }
            }
        }
    }
    let mut chosen = vec![[230, 50, 50]];
    while chosen.len() < COLORS {
        let last = oklab(chosen[chosen.len() - 1]);
        let mut farthest = 0;
        for at in 0..candidates.len() {
            let (_, lab, distance) = &mut candidates[at];
            let squared: f32 = lab.iter().zip(&last).map(|(a, b)| (a - b) * (a - b)).sum();
            *distance = distance.min(squared);
            if candidates[at].2 > candidates[farthest].2 {
                farthest = at;
            }
        }
        chosen.push(candidates[farthest].0);
    }
    chosen
}

fn oklab(color: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = color.map(|value| {
        let value = f32::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_distinct_and_the_first_ones_far_apart() {
        let distance = |a: u32, b: u32| {
            let (a, b) = (oklab(class_color(a)), oklab(class_color(b)));
            a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
        };
        for a in 0..COLORS as u32 {
            for b in 0..a {
                // 0.02 is about the least difference that an eye sees side by side.
                let least = if a < 20 { 0.14 } else { 0.02 };
                assert!(distance(a, b) > least, "classes {a} and {b} are {} apart", distance(a, b));
            }
        }
    }
}
