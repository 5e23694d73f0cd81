//! The perceptually uniform colour space OKLab (Ottosson, 2020), and what is left of colours for people who lack a kind of cones (Machado,
//! Oliveira and Fernandes, 2009, severity 1).

type Matrix = [[f32; 3]; 3];

/// A colour as people see differences: equal distances look about equally different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Oklab {
    /// From 0, black, to 1, white.
    pub(super) lightness: f32,
    /// Green to red.
    pub(super) a: f32,
    /// Blue to yellow.
    pub(super) b: f32,
}

impl Oklab {
    /// How colourful it is; 0 is grey.
    pub(super) fn chroma(&self) -> f32 {
        self.a.hypot(self.b)
    }

    pub(super) fn squared_distance(&self, other: &Self) -> f32 {
        let differences = [self.lightness - other.lightness, self.a - other.a, self.b - other.b];
        differences.iter().map(|difference| difference * difference).sum()
    }
}

/// What kind of eyes sees a colour, as a matrix of linear RGB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vision(Matrix);

/// All three kinds of cones; without those for medium, long and short waves.
pub(super) const VISIONS: [Vision; 4] = [
    Vision([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    Vision([
        [0.367_322, 0.860_646, -0.227_968],
        [0.280_085, 0.672_501, 0.047_413],
        [-0.011_82, 0.042_94, 0.968_881],
    ]),
    Vision([
        [0.152_286, 1.052_583, -0.204_868],
        [0.114_503, 0.786_281, 0.099_216],
        [-0.003_882, -0.048_116, 1.051_998],
    ]),
    Vision([
        [1.255_528, -0.076_749, -0.178_779],
        [-0.078_411, 0.930_809, 0.147_602],
        [0.004_733, 0.691_367, 0.303_9],
    ]),
];

impl Vision {
    pub(super) fn see(self, color: [u8; 3]) -> Oklab {
        linear_to_oklab(apply(&self.0, color.map(to_linear)).map(|value| value.clamp(0.0, 1.0)))
    }
}

pub(super) fn oklab(color: [u8; 3]) -> Oklab {
    linear_to_oklab(color.map(to_linear))
}

/// The colour that a screen can show with this lightness and hue, as colourful as it can be up to the chroma that is asked for.
pub(super) fn from_oklab(color: Oklab) -> [u8; 3] {
    const TO_CONES: Matrix = [
        [1.0, 0.396_337_78, 0.215_803_76],
        [1.0, -0.105_561_346, -0.063_854_17],
        [1.0, -0.089_484_18, -1.291_485_5],
    ];
    const FROM_CONES: Matrix = [
        [4.076_741_7, -3.307_711_6, 0.230_969_94],
        [-1.268_438, 2.609_757_4, -0.341_319_38],
        [-0.004_196_086_3, -0.703_418_6, 1.707_614_7],
    ];
    let linear = |share: f32| {
        let cones = apply(&TO_CONES, [color.lightness, color.a * share, color.b * share]);
        apply(&FROM_CONES, cones.map(|value| value * value * value))
    };
    let is_shown = |rgb: &[f32; 3]| rgb.iter().all(|value| (-1e-3..=1.001).contains(value));
    // Halving: grey can always be shown.
    let (mut share, mut step) = (1.0, 0.5);
    if !is_shown(&linear(share)) {
        share = 0.0;
        while step > 1e-3 {
            if is_shown(&linear(share + step)) {
                share += step;
            }
            step /= 2.0;
        }
    }
    linear(share).map(from_linear)
}

fn linear_to_oklab(rgb: [f32; 3]) -> Oklab {
    const TO_CONES: Matrix = [
        [0.412_221_46, 0.536_332_55, 0.051_445_995],
        [0.211_903_5, 0.680_699_5, 0.107_396_96],
        [0.088_302_46, 0.281_718_85, 0.629_978_7],
    ];
    const FROM_CONES: Matrix = [
        [0.210_454_26, 0.793_617_8, -0.004_072_047],
        [1.977_998_5, -2.428_592_2, 0.450_593_7],
        [0.025_904_037, 0.782_771_77, -0.808_675_77],
    ];
    let [lightness, a, b] = apply(&FROM_CONES, apply(&TO_CONES, rgb).map(f32::cbrt));
    Oklab { lightness, a, b }
}

fn to_linear(value: u8) -> f32 {
    let value = f32::from(value) / 255.0;
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

fn from_linear(value: f32) -> u8 {
    let value = value.clamp(0.0, 1.0);
    let encoded = if value <= 0.003_130_8 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
    (255.0 * encoded).round() as u8
}

fn apply(matrix: &Matrix, vector: [f32; 3]) -> [f32; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(weight, value)| weight * value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_come_back_from_oklab() {
        for color in [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 142], [250, 170, 30], [128, 64, 128]] {
            let back = from_oklab(oklab(color));
            for (a, b) in color.into_iter().zip(back) {
                assert!(a.abs_diff(b) <= 1, "{color:?} became {back:?}");
            }
        }
    }

    #[test]
    fn known_values() {
        // Of the article that defines OKLab.
        let red = oklab([255, 0, 0]);
        for (found, expected) in [(red.lightness, 0.628), (red.a, 0.225), (red.b, 0.126)] {
            assert!((found - expected).abs() < 1e-3, "{red:?}");
        }
        // Red and green of one lightness: far apart, but not without the cones for medium waves.
        let distance =
            |vision: Vision| vision.see([204, 80, 60]).squared_distance(&vision.see([130, 130, 40])).sqrt();
        assert!(distance(VISIONS[0]) > 2.5 * distance(VISIONS[1]));
    }
}
