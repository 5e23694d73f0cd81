//! Affine maps of pictures.

use aff_vision::{IMAGENET_MEAN, Rgb, RgbImage};

/// `x' = a x + b y + c` and `y' = d x + e y + f`: where a pixel's centre is taken from, relative to the middle of the picture.
pub(super) struct Affine {
    pub(super) x: [f32; 3],
    pub(super) y: [f32; 3],
}

impl Affine {
    pub(super) const IDENTITY: Self = Self { x: [1.0, 0.0, 0.0], y: [0.0, 1.0, 0.0] };

    /// The picture under the map, bilinear in between; what comes from outside has the mean colour.
    pub(super) fn apply(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = image.dimensions();
        let middle = [width as f32 / 2.0 - 0.5, height as f32 / 2.0 - 0.5];
        let mean = IMAGENET_MEAN.map(|mean| mean * 255.0);
        let at = |x: i64, y: i64| match (u32::try_from(x), u32::try_from(y)) {
            (Ok(x), Ok(y)) if x < width && y < height => image.get_pixel(x, y).0.map(f32::from),
            _ => mean,
        };
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 - middle[0], y as f32 - middle[1]);
            let from = |row: [f32; 3], middle: f32| row[0] * x + row[1] * y + row[2] + middle;
            let (x, y) = (from(self.x, middle[0]), from(self.y, middle[1]));
            let (left, top) = (x.floor(), y.floor());
            let (right_share, lower_share) = (x - left, y - top);
            let (left, top) = (left as i64, top as i64);
            let corners = [at(left, top), at(left + 1, top), at(left, top + 1), at(left + 1, top + 1)];
            Rgb(std::array::from_fn(|channel| {
                let between = |a: usize| {
                    corners[a][channel] + right_share * (corners[a + 1][channel] - corners[a][channel])
                };
                (between(0) + lower_share * (between(2) - between(0))).round().clamp(0.0, 255.0) as u8
            }))
        })
    }
}
