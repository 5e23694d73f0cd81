//! Points of a picture, and what maps are there: bilinear in between, zero outside, as detectron2's `point_sample`.

use aff_vision::ImageSize;
use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A point of a picture: 0 to 1 from the left and from the top.
pub(super) type Point = [f32; 2];

/// Points drawn evenly over the picture.
pub(super) fn random_points(count: usize, rng: &mut ChaCha8Rng) -> Vec<Point> {
    (0..count).map(|_| [rng.random(), rng.random()]).collect()
}

/// Height and width of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapSize {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl MapSize {
    pub(super) fn of(size: ImageSize) -> Self {
        Self { height: size.height as usize, width: size.width as usize }
    }
}

/// Where a map is read for a point: four places and their weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stencil {
    pub(crate) places: [u32; 4],
    pub(crate) weights: [f32; 4],
}

impl Stencil {
    /// For a map whose first value lies half a step from the edge. Places outside have weight 0.
    pub(super) fn at([x, y]: Point, size: MapSize) -> Self {
        let along = |position: f32, length: usize| {
            let position = position * length as f32 - 0.5;
            let before = position.floor();
            let share = position - before;
            let inside = |place: f32, weight: f32| {
                if place < 0.0 || place >= length as f32 { (0, 0.0) } else { (place as u32, weight) }
            };
            [inside(before, 1.0 - share), inside(before + 1.0, share)]
        };
        let (columns, rows) = (along(x, size.width), along(y, size.height));
        let corner = |index: usize| {
            let ((row, vertical), (column, horizontal)) = (rows[index / 2], columns[index % 2]);
            (row * size.width as u32 + column, vertical * horizontal)
        };
        let corners = [corner(0), corner(1), corner(2), corner(3)];
        Self { places: corners.map(|(place, _)| place), weights: corners.map(|(_, weight)| weight) }
    }

    /// The value of a map.
    pub(super) fn read(&self, map: &[f32]) -> f32 {
        let value = |index: usize| self.weights[index] * map[self.places[index] as usize];
        value(0) + value(1) + value(2) + value(3)
    }
}

/// Points of several maps of one size, the same number for each, as tensors.
pub(super) struct PointTable {
    /// u32 `[M,4P]`: the first places of all points, then their second ones, and so on.
    places: Tensor,
    /// `[M,4P]`
    weights: Tensor,
    points: usize,
}

impl PointTable {
    pub(super) fn new(points: &[Vec<Point>], size: MapSize, device: &Device) -> Result<Self> {
        let count = points.first().map_or(0, Vec::len);
        let mut places = Vec::with_capacity(points.len() * 4 * count);
        let mut weights = Vec::with_capacity(points.len() * 4 * count);
        for map in points {
            let stencils: Vec<Stencil> = map.iter().map(|&point| Stencil::at(point, size)).collect();
            for corner in 0..4 {
                places.extend(stencils.iter().map(|stencil| stencil.places[corner]));
                weights.extend(stencils.iter().map(|stencil| stencil.weights[corner]));
            }
        }
        let shape = (points.len(), 4 * count);
        Ok(Self {
            places: Tensor::from_vec(places, shape, device)?,
            weights: Tensor::from_vec(weights, shape, device)?,
            points: count,
        })
    }

    /// The values of `maps [M,h*w]` at the points of each: `[M,P]`.
    pub(super) fn read(&self, maps: &Tensor) -> Result<Tensor> {
        let corners = (maps.gather(&self.places, 1)? * &self.weights)?;
        corners.reshape((maps.dim(0)?, 4, self.points))?.sum(1)
    }

    /// The values of all `maps [K,h*w]` at the points of the only map of this table: `[K,P]`.
    pub(super) fn read_all(&self, maps: &Tensor) -> Result<Tensor> {
        let corners = maps.index_select(&self.places.get(0)?, 1)?.broadcast_mul(&self.weights)?;
        corners.reshape((maps.dim(0)?, 4, self.points))?.sum(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    const SIZE: MapSize = MapSize { height: 2, width: 4 };

    #[test]
    fn values_are_bilinear_between_centers_and_fade_to_zero_at_the_edge() {
        let map = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        let at = |x: f32, y: f32| Stencil::at([x / 4.0, y / 2.0], SIZE).read(&map);
        assert_eq!(at(0.5, 0.5), 0.0);
        assert_eq!(at(2.5, 1.5), 12.0);
        assert_eq!(at(2.0, 1.0), 6.5);
        // Half of the weight of a point on the edge lies outside.
        assert_eq!(at(4.0, 1.5), 6.5);
        assert_eq!(at(4.0, 2.0), 3.25);
    }

    #[test]
    fn tables_read_what_stencils_read() {
        let mut rng = generator(1, Purpose::Points, 0);
        let points = vec![random_points(5, &mut rng), random_points(5, &mut rng)];
        let maps: Vec<f32> = (0..16).map(|place| (place as f32).sin()).collect();
        let tensor = Tensor::from_slice(&maps, (2, 8), &Device::Cpu).unwrap();
        let each = PointTable::new(&points, SIZE, &Device::Cpu).unwrap().read(&tensor).unwrap();
        let all = PointTable::new(&points[..1], SIZE, &Device::Cpu).unwrap().read_all(&tensor).unwrap();
        let (each, all) = (each.to_vec2::<f32>().unwrap(), all.to_vec2::<f32>().unwrap());
        for (index, map) in maps.chunks_exact(8).enumerate() {
            for place in 0..5 {
                assert!(
                    (each[index][place] - Stencil::at(points[index][place], SIZE).read(map)).abs() < 1e-6
                );
                assert!((all[index][place] - Stencil::at(points[0][place], SIZE).read(map)).abs() < 1e-6);
            }
        }
    }
}
